"""Names: the nearest one, functions of the user's, their arguments, presets."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torussim.errors import NameError_
from torussim.resolve import arguments, function, preset_names, preset_path, unknown
from torussim.spelling import nearest

MODELS = ["palm-8b", "palm-62b", "palm-540b"]
names = st.text(min_size=1, max_size=8)


@given(st.lists(names, min_size=1, unique_by=str.casefold), st.data())
def test_a_name_is_nearest_to_itself_whatever_its_case(candidates: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(candidates))
    assert nearest(name, candidates) == name
    assert nearest(name.casefold(), candidates) == name


def test_the_nearest_name_is_the_likeliest_or_none() -> None:
    assert nearest("palm-54b", MODELS) == "palm-540b"
    assert nearest("PALM-62B", MODELS) == "palm-62b"
    assert nearest("llama", MODELS) is None
    assert nearest("palm", []) is None
    assert nearest("", MODELS) is None
    assert nearest("ring", ["default", "one_ring", "nested"]) == "one_ring"  # a whole word of one name alone
    assert nearest("reduce", ["all_reduce", "reduce_scatter"]) is None


@pytest.mark.parametrize(("given", "name"), [("palm-52b", "palm-62b"), ("tpu-v9", "tpu-v4"), ("int16", "int8"), ("v7x-8", "v4-8"),
                                             ("fp4", "fp8"), ("q", "x"), ("x1", "x"), ("memory.fits", "memory.weights")])
def test_another_number_or_another_word_is_no_misspelling(given: str, name: str) -> None:
    assert nearest(given, [name]) is None


@pytest.mark.parametrize(("given", "name"), [("fnn", "ffn"), ("axis", "axes"), ("tpu-v44", "tpu-v4"), ("bf61", "bf16"),
                                             ("lenght", "length"), ("w_kk", "w_k"), ("TPU-V6", "tpu-v6e"), ("tours", "torus")])
def test_an_edit_for_three_letters_is_a_misspelling(given: str, name: str) -> None:
    assert nearest(given, [name, "something else"]) == name


def test_an_unknown_name_is_told_with_the_nearest_or_with_all() -> None:
    assert unknown("palm-54b", MODELS, "model") == "'palm-54b' is not a model: did you mean 'palm-540b'?"
    assert unknown("gpt", MODELS, "model") == "'gpt' is not a model: one of palm-8b, palm-62b, palm-540b"
    assert unknown("x", iter(["ring"]), "algorithm") == "'x' is not an algorithm: one of ring"
    assert unknown("x", [], "chip") == "'x' is not a chip: there is none"
    many = unknown("?", [f"name{n}" for n in range(13)], "chip")
    assert many.endswith("name10, name11, ...")
    assert unknown("?", [f"name{n}" for n in range(12)], "chip").endswith("name10, name11")


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def refused(name: str, beside: Path | None = None) -> str:
    with pytest.raises(NameError_) as caught:
        function(name, beside)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_function_is_found_beside_by_path_or_by_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "def star(n): return ('beside', n)")
    far = write(tmp_path, "def star(n): return ('far', n)", "deep/er/mine.py")
    assert function("mine:star", tmp_path)(3) == ("beside", 3)
    assert function("mine.py:star", tmp_path)(3) == ("beside", 3)
    assert function("deep/er/mine.py:star", tmp_path)(3) == ("far", 3)
    assert function(f"{far}:star", tmp_path)(3) == ("far", 3)
    assert function("math:hypot", tmp_path) is math.hypot
    assert function("os.path:join")("a", "b") == str(Path("a/b"))
    monkeypatch.chdir(tmp_path)
    assert function("deep/er/mine.py:star")(3) == ("far", 3)


def test_a_module_beside_goes_before_one_that_can_be_imported(tmp_path: Path) -> None:
    write(tmp_path, "import math\ndef sqrt(x): return 'mine'", "statistics.py")
    assert function("statistics:sqrt", tmp_path)(4) == "mine"
    assert function("statistics:mean")([1, 3]) == 2


def test_a_changed_file_counts_at_once(tmp_path: Path) -> None:
    for n in range(5):  # within one second, and of one size: a .pyc file would not notice
        write(tmp_path, f"from helper import number\ndef star(): return {n}, number")
        write(tmp_path, f"number = {n}", "helper.py")
        assert function("mine:star", tmp_path)() == (n, n)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["helper.py", "mine.py"]


def test_two_folders_can_have_modules_of_one_name(tmp_path: Path) -> None:
    for n in (1, 2):
        write(tmp_path, "import helper, kit.part\ndef star(): return helper.n, kit.part.n", f"{n}/mine.py")
        write(tmp_path, f"n = {n}", f"{n}/helper.py")
        write(tmp_path, "", f"{n}/kit/__init__.py")
        write(tmp_path, f"n = {n}", f"{n}/kit/part.py")
    assert [function("mine:star", tmp_path / str(n))() for n in (1, 2, 1)] == [(1, 1), (2, 2), (1, 1)]


def test_loading_leaves_path_and_modules_as_they_were(tmp_path: Path) -> None:
    write(tmp_path, "import helper\ndef star(): pass")
    write(tmp_path, "import this_is_nowhere", "bad.py")
    write(tmp_path, "", "helper.py")
    path, modules = list(sys.path), set(sys.modules)
    function("mine:star", tmp_path)
    refused("bad:star", tmp_path)
    assert sys.path == path
    assert set(sys.modules) == modules


def test_a_module_in_a_folder_on_the_path_is_loaded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "from helper_on_the_path import n\ndef star(): return n")
    write(tmp_path, "n = 5", "helper_on_the_path.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert function("mine:star", tmp_path)() == 5
    assert str(tmp_path) in sys.path
    monkeypatch.delitem(sys.modules, "helper_on_the_path")


def test_a_module_may_hold_dataclasses(tmp_path: Path) -> None:
    write(
        tmp_path,
        "from __future__ import annotations\nfrom dataclasses import dataclass, field\nfrom typing import ClassVar\n"
        "@dataclass(frozen=True)\nclass Star:\n    n: int\n    kind: ClassVar[str] = 'star'\n",
    )
    assert repr(function("mine:Star", tmp_path)(3)) == "Star(n=3)"


@pytest.mark.parametrize("name", ["mine", "mine:", ":star", "", ":", "mine:a b", "mine:a.b"])
def test_a_name_of_another_form_is_refused(name: str) -> None:
    message = f'{name!r} is not of the form "module:function", such as "mine:star" or "path/mine.py:star"'
    assert refused(name) == message


def test_a_module_that_is_not_there_is_refused(tmp_path: Path) -> None:
    there = f"there is no nowhere.py in {tmp_path}, and no module 'nowhere' can be imported"
    assert refused("nowhere:star", tmp_path) == f"'nowhere:star': {there}"
    assert refused("nowhere:star") == "'nowhere:star': no module 'nowhere' can be imported"
    assert refused("os.nowhere:star") == "'os.nowhere:star': no module 'os.nowhere' can be imported"
    assert refused("nowhere.deep:star") == "'nowhere.deep:star': no module 'nowhere' can be imported"
    assert refused("sub/mine.py:star", tmp_path) == f"'sub/mine.py:star': there is no file {tmp_path}/sub/mine.py"
    assert refused("../mine:star", tmp_path) == "'../mine:star': '../mine' is not the name of a module"
    assert refused(".mine:star", tmp_path) == "'.mine:star': '.mine' is not the name of a module"


def test_a_function_that_is_not_there_is_refused_with_the_nearest(tmp_path: Path) -> None:
    write(tmp_path, "def star(): pass\ndef fat_tree(): pass\ndef _hidden(): pass\nn = 3")
    assert refused("mine:fattree", tmp_path) == (
        "'mine:fattree': 'fattree' is not a function of mine: did you mean 'fat_tree'?"
    )
    assert refused("mine:xyz", tmp_path) == "'mine:xyz': 'xyz' is not a function of mine: one of star, fat_tree"
    assert refused("mine:n", tmp_path) == "'mine:n' is not a function: it is 3"
    write(tmp_path, "n = 'x' * 1000")
    assert len(refused("mine:n", tmp_path)) < 120


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("x = 1\n1 / 0", "{file}, line 2: ZeroDivisionError: division by zero"),
        ("def f():\n    raise ValueError('a\\nb')\n\nf()", "{file}, line 2: ValueError: a b"),
        ("x = 1\ndef star(:\n", "{file}, line 2: SyntaxError: invalid syntax"),
        ("import this_is_nowhere", "{file}, line 1: ModuleNotFoundError: No module named 'this_is_nowhere'"),
        ("\nfrom math import sqare", "{file}, line 2: ImportError: cannot import name 'sqare' from 'math'"),
        ("import json\njson.loads('{{')", "{file}, line 2: JSONDecodeError: "),
        ("raise KeyError", "{file}, line 1: KeyError"),
        ("import sys; sys.exit(3)", "{file}, line 1: SystemExit: 3"),
        ("import helper", "{file}, line 1: NameError: name 'oops' is not defined"),
    ],
)
def test_a_module_that_raises_is_refused_with_the_line_in_it(tmp_path: Path, text: str, what: str) -> None:
    write(tmp_path, "oops", "helper.py")
    file = write(tmp_path, text)
    assert refused("mine:star", tmp_path).startswith(f"'mine:star' cannot be loaded: {what.format(file=file)}")


def test_a_module_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_bytes(b"x = '\xff'\n")
    assert refused("mine:star", tmp_path).startswith("'mine:star' cannot be loaded: ")
    (tmp_path / "mine.py").write_bytes(b"x = '\0'\n")
    assert refused("mine:star", tmp_path).startswith("'mine:star' cannot be loaded: ")


def test_an_imported_module_that_raises_is_refused_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    raising = write(tmp_path, "x = 1\n1 / 0", "a_raising_module.py")
    lacking = write(tmp_path, "import this_is_nowhere", "a_lacking_module.py")
    wrong = write(tmp_path, "def star(:", "a_wrong_module.py")
    assert refused("a_raising_module:f") == (
        f"'a_raising_module:f' cannot be loaded: {raising}, line 2: ZeroDivisionError: division by zero"
    )
    assert f"{lacking}, line 1: ModuleNotFoundError: No module named 'this_is_nowhere'" in refused("a_lacking_module:f")
    assert f"{wrong}, line 1: SyntaxError: invalid syntax" in refused("a_wrong_module:f")


def test_what_a_module_raised_is_the_cause(tmp_path: Path) -> None:
    write(tmp_path, "1 / 0")
    with pytest.raises(NameError_, match=re.escape("'mine:star' cannot be loaded: ")) as caught:
        function("mine:star", tmp_path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def star(graph: Any, arms: int, *, length: int = 1) -> None: ...
def only(graph: Any, /, arms: int) -> None: ...
def anything(graph: Any, **rest: Any) -> None: ...
def several(*graphs: Any, arms: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("called", "keywords", "given_first", "reason"),
    [
        (star, {"arms": 3}, 1, None),
        (star, {"graph": 0, "arms": 3, "length": 2}, 0, None),
        (star, {}, 2, None),
        (star, {"arms": 3, "lenght": 2}, 1, "'lenght' is not a parameter of star(): did you mean 'length'?"),
        (star, {"arms": 3, "x": 2}, 1, "'x' is not a parameter of star(): one of arms, length"),
        (star, {}, 1, "star() needs 'arms'"),
        (star, {}, 0, "star() needs 'graph', 'arms'"),
        (star, {"amrs": 3}, 1, "'amrs' is not a parameter of star(): did you mean 'arms'?; star() needs 'arms'"),
        (star, {"graph": 0, "arms": 3}, 1, "star() gets its 'graph' from torussim: leave it out"),
        (star, {}, 3, "star() takes 2 positional arguments, but must take 3"),
        (only, {"arms": 3}, 1, None),
        (only, {"graph": 0, "arms": 3}, 1, "'graph' is not a parameter of only(): one of arms"),
        (only, {"arms": 3}, 0, "only() needs 'graph'"),
        (anything, {"x": 1}, 1, None),
        (anything, {"graph": 1}, 1, "anything() gets its 'graph' from torussim: leave it out"),
        (anything, {}, 0, "anything() needs 'graph'"),
        (several, {"arms": 2}, 5, None),
        (functools.partial(star, arms=3), {"lengt": 1}, 1, "'lengt' is not a parameter of the function(): did you"),
        (dict.fromkeys, {}, 1, None),
        (dict, {"x": 1}, 0, None),  # has no signature to be read
    ],
)
def test_arguments_are_refused_exactly_when_the_call_would_fail(
    called: Callable[..., Any], keywords: dict[str, Any], given_first: int, reason: str | None
) -> None:
    got = arguments(called, keywords, given=given_first)
    assert (got is None) == (reason is None)
    assert got is None or reason is None or got.startswith(reason)
    if got is None:
        called(*[()] * given_first, **keywords)
    else:
        with pytest.raises(TypeError):
            called(*[()] * given_first, **keywords)


@pytest.mark.parametrize("kind", ["chips", "models"])
def test_every_preset_has_a_file(kind: str) -> None:
    assert list(preset_names(kind)) == sorted(preset_names(kind))
    assert preset_names(kind)
    for name in preset_names(kind):
        assert preset_path(kind, name).is_file()
        assert preset_path(kind, name).stem == name


def test_a_preset_that_is_not_there_is_refused() -> None:
    with pytest.raises(NameError_, match=r"^'palm-54b' is not a model: did you mean 'palm-540b'\?$"):
        preset_path("models", "palm-54b")
    with pytest.raises(NameError_, match=r"^'abacus' is not a chip: one of .*tpu-v4"):
        preset_path("chips", "abacus")
    with pytest.raises(NameError_, match=r"^'\.\./chips/tpu-v4' is not a model: "):
        preset_path("models", "../chips/tpu-v4")
