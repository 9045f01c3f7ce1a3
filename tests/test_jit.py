"""The door to numba: where compiled code is kept, what the first run says, and what happens where nothing can be kept."""

from pathlib import Path

import pytest

from torussim.engine import jit

numba = pytest.importorskip("numba")
pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")


def twice(number):
    return 2 * number


def test_the_first_run_says_on_standard_error_that_it_compiles_and_later_ones_say_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(jit, "_folder", lambda given: tmp_path)
    jit.announce()
    said = capsys.readouterr()
    assert not said.out and "compiling" in said.err
    (tmp_path / "kept.nbi").touch()
    jit.announce()
    assert capsys.readouterr().err == ""


def test_where_nothing_can_be_kept_functions_are_compiled_all_the_same(tmp_path, monkeypatch):
    """numba keeps no function whose source is in no file, as none is in a zipped package."""
    monkeypatch.setattr(jit, "_folder", lambda given: tmp_path)
    nowhere = {}
    exec(compile("def thrice(number): return 3 * number", tmp_path / "nowhere.py", "exec"), nowhere)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(nowhere["thrice"])
    assert jit.compiled(nowhere["thrice"])(14) == 42
    assert not list(tmp_path.rglob("*.nbi"))


def test_code_is_kept_where_it_can_be(tmp_path, monkeypatch):
    monkeypatch.setattr(jit, "_folder", lambda given: tmp_path)
    assert jit.compiled(twice)(21) == 42
    assert list(tmp_path.rglob("*.nbi"))


def test_a_change_of_any_compiled_source_leads_to_another_folder(tmp_path, monkeypatch):
    for name in jit.SOURCES:
        (tmp_path / name).write_bytes((jit.HERE / name).read_bytes())
    monkeypatch.setattr(jit, "HERE", tmp_path)
    seen = {jit._folder("here")}
    for name in jit.SOURCES:
        (tmp_path / name).write_text("# changed\n")
        seen.add(jit._folder("here"))
    assert len(seen) == len(jit.SOURCES) + 1
    assert {folder.parent for folder in seen} == {Path("here")}
