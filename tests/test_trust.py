"""Whose code a scenario may run, and how large its files may be: what opening a stranger's scenario cannot do (docs/trust.md)."""

from __future__ import annotations

import gzip
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from torussim import files
from torussim.cli import cli, main
from torussim.errors import FileError, NameError_, ScenarioError
from torussim.scenario import check, load
from torussim.spelling import nearest
from torussim.trust import Trust, Unopened, function


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


BESIDE, ANY = Trust(), Trust("any")


def found(name: str, beside: Path, trust: Trust = BESIDE) -> Callable[..., Any]:
    return function(name, beside, trust).function.function


def refused(name: str, beside: Path, trust: Trust = BESIDE) -> str:
    with pytest.raises(NameError_) as caught:
        function(name, beside, trust)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_function_is_found_beside_or_in_a_trusted_folder(tmp_path: Path) -> None:
    write(tmp_path, "def star(n): return ('beside', n)")
    write(tmp_path, "def star(n): return ('far', n)\ndef only(): return 1", "deep/mine.py")
    write(tmp_path, "def ring(): return 2", "deep/other.py")
    trust = Trust(folders=(tmp_path / "deep",))
    assert found("mine:star", tmp_path, trust)(3) == found("mine.py:star", tmp_path)(3) == ("beside", 3)
    assert found("other:ring", tmp_path, trust)() == 2
    assert found("mine:star", tmp_path, Trust("never", (tmp_path / "deep",)))(3) == ("far", 3)


def test_with_any_code_a_function_is_found_by_path_or_by_import(tmp_path: Path) -> None:
    far = write(tmp_path, "def star(n): return ('far', n)", "deep/er/mine.py")
    assert found("deep/er/mine.py:star", tmp_path, ANY)(3) == found(f"{far}:star", tmp_path, ANY)(3) == ("far", 3)
    assert found("math:hypot", tmp_path, ANY) is math.hypot
    assert found("os.path:join", tmp_path, ANY)("a", "b") == str(Path("a/b"))


def test_a_module_beside_goes_before_one_that_can_be_imported(tmp_path: Path) -> None:
    write(tmp_path, "import math\ndef sqrt(x): return 'mine'", "statistics.py")
    assert found("statistics:sqrt", tmp_path, ANY)(4) == "mine"
    assert found("statistics:mean", tmp_path / "..", ANY)([1, 3]) == 2


def test_what_was_run_for_a_function_is_told_with_its_sha_256(tmp_path: Path) -> None:
    mine = write(tmp_path, "import json, helper\ndef star(): pass")
    helper = write(tmp_path, "", "helper.py")
    assert function("mine:star", tmp_path).files == {
        "helper.py": sha256(helper.read_bytes()).hexdigest(), "mine.py": sha256(mine.read_bytes()).hexdigest()}


def test_a_changed_file_counts_at_once(tmp_path: Path) -> None:
    for n in range(5):  # within one second, and of one size: a .pyc file would not notice
        write(tmp_path, f"from helper import number\ndef star(): return {n}, number")
        write(tmp_path, f"number = {n}", "helper.py")
        assert found("mine:star", tmp_path)() == (n, n)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["helper.py", "mine.py"]


def test_two_folders_can_have_modules_of_one_name(tmp_path: Path) -> None:
    for n in (1, 2):
        write(tmp_path, "import helper, kit.part\ndef star(): return helper.n, kit.part.n", f"{n}/mine.py")
        write(tmp_path, f"n = {n}", f"{n}/helper.py")
        write(tmp_path, "", f"{n}/kit/__init__.py")
        write(tmp_path, f"n = {n}", f"{n}/kit/part.py")
    assert [found("mine:star", tmp_path / str(n))() for n in (1, 2, 1)] == [(1, 1), (2, 2), (1, 1)]


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
    assert found("mine:star", tmp_path)() == 5
    assert str(tmp_path) in sys.path and "helper_on_the_path" not in sys.modules


def test_a_module_may_hold_dataclasses(tmp_path: Path) -> None:
    write(
        tmp_path,
        "from __future__ import annotations\nfrom dataclasses import dataclass, field\nfrom typing import ClassVar\n"
        "@dataclass(frozen=True)\nclass Star:\n    n: int\n    kind: ClassVar[str] = 'star'\n",
    )
    assert repr(found("mine:Star", tmp_path)(3)) == "Star(n=3)"


@pytest.mark.parametrize("name", ["mine", "mine:", ":star", "", ":", "mine:a b", "mine:a.b"])
def test_a_name_of_another_form_is_refused(tmp_path: Path, name: str) -> None:
    assert refused(name, tmp_path) == f'{name!r} is not of the form "module:function", such as "mine:star"'


def test_a_module_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refused("nowhere:star", tmp_path).startswith(f"'nowhere:star': there is no nowhere.py in {tmp_path}: name its folder")
    two = Trust(folders=(tmp_path / "a", tmp_path))
    assert f"there is no nowhere.py in {tmp_path} or {tmp_path / 'a'}: " in refused("nowhere:star", tmp_path, two)
    assert refused("nowhere:star", tmp_path, ANY) == (
        f"'nowhere:star': there is no nowhere.py in {tmp_path}, and no module 'nowhere' can be imported")
    assert "no module 'os.nowhere' can be imported" in refused("os.nowhere:star", tmp_path, ANY)
    assert refused("sub/mine.py:star", tmp_path, ANY) == f"'sub/mine.py:star': there is no file {tmp_path}/sub/mine.py"
    assert refused("../mine:star", tmp_path, ANY) == "'../mine:star': '../mine' is not the name of a module"


def test_code_that_nobody_trusts_is_not_opened(tmp_path: Path) -> None:
    write(tmp_path, "raise SystemExit('it ran')")
    with pytest.raises(Unopened, match="was not opened, as no code is run here: trust it with --code") as caught:
        function("mine:star", tmp_path, Trust("never"))
    assert caught.value.file == tmp_path / "mine.py"


@pytest.mark.parametrize("text", ["from os import system as star", "from os import popen as star",
                                  "from os.path import join as star", "from subprocess import run as star",
                                  "import os\nstar = os.system",
                                  "import functools, os\nstar = functools.partial(os.system, 'true')",
                                  "import functools, os\nstar = functools.partial(os.popen, 'true')", "star = eval",
                                  "import torussim\nstar = torussim.load"])
def test_what_a_file_imports_is_not_the_scenarios_to_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    write(tmp_path, text)
    for folder in (Path("/"), tmp_path):  # code of frozen modules has a file name without a folder
        monkeypatch.chdir(folder)
        assert "star is not defined in" in refused("mine:star", tmp_path)
    assert callable(found("mine:star", tmp_path, ANY))


def test_a_trusted_folder_may_be_named_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "def star(): return 7")
    monkeypatch.chdir(tmp_path)
    assert found("mine:star", Path("/"), Trust(folders=(".",)))() == 7


@pytest.mark.parametrize("text", ["def star(): return 7", "class star:\n    pass", "star = lambda: 7", "from helper import star",
                                  "import functools\n@functools.cache\ndef star(): return 7",
                                  "import functools\ndef inner(n): return n\nstar = functools.partial(inner, 7)",
                                  "class Star:\n    def __call__(self): return 7\nstar = Star()"])
def test_whatever_is_defined_beside_can_be_named(tmp_path: Path, text: str) -> None:
    write(tmp_path, "def star(): return 7", "helper.py")
    write(tmp_path, text)
    assert callable(found("mine:star", tmp_path))


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
    assert refused("a_raising_module:f", tmp_path / "elsewhere", ANY) == (
        f"'a_raising_module:f' cannot be loaded: {raising}, line 2: ZeroDivisionError: division by zero"
    )
    lost = refused("a_lacking_module:f", tmp_path / "elsewhere", ANY)
    assert f"{lacking}, line 1: ModuleNotFoundError: No module named 'this_is_nowhere'" in lost
    assert f"{wrong}, line 1: SyntaxError: invalid syntax" in refused("a_wrong_module:f", tmp_path / "elsewhere", ANY)


def test_what_a_module_raised_is_the_cause(tmp_path: Path) -> None:
    write(tmp_path, "1 / 0")
    with pytest.raises(NameError_, match=re.escape("'mine:star' cannot be loaded: ")) as caught:
        function("mine:star", tmp_path)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# -- whole scenarios: a stranger's file, with ran.txt as what an attack would leave behind -------------------------------

BARE = {"chip": "ideal", "program": [{"name": "a", "collective": "all_gather", "axes": "x", "bytes": "1 MB"}]}
MODEL = {"model": {"base": "palm-8b", "layers": 2}, "chip": "tpu-v4", "topology": {"shape": [4]},
         "workload": {"phase": "decode", "batch": 8, "context": 64}}
RAN = "from pathlib import Path\nPath(__file__).with_name('ran.txt').write_text('ran')\n"
GRAPH = RAN + "from torussim import ring\ndef star(): return ring(4, bandwidth=1e9)\n"


def naming(name: str) -> list[dict[str, Any]]:
    """Return scenarios that name a function in every place that can have one."""
    return [{**BARE, "topology": {"kind": name, "command": "id > ran.txt"}}, {**BARE, "topology": {"kind": name}},
            {**BARE, "topology": {"shape": [4], "routing": name}}, {**MODEL, "layout": {"ffn": name}},
            {**BARE, "topology": {"shape": [4]}, "program": [{**BARE["program"][0], "algorithm": name}]}]


def run(folder: Path, *words: object) -> Any:
    """Run a command in a folder; return what it said and its status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(cli, [str(word) for word in words], standalone_mode=False)
    assert isinstance(result.exception, SystemExit | None | FileError), result.exception
    return result


@pytest.mark.parametrize("name", ["os:system", "subprocess:check_output", "numpy:load", "torussim.cli:main", "builtins:exec",
                                  "mine:os", "mine:os.system", "mine:system", "mine:popen", "../evil:star", "sub/evil.py:star",
                                  "link:star", "{far}/evil.py:star"])
def test_no_scenario_runs_what_does_not_lie_beside_it(tmp_path: Path, name: str) -> None:
    here = tmp_path / "here"
    write(tmp_path, GRAPH, "evil.py")
    write(here, GRAPH, "sub/evil.py")
    write(here, "import os\nfrom os import popen, system\n")
    (here / "link.py").symlink_to(tmp_path / "evil.py")
    for scenario in naming(name.format(far=tmp_path)):
        write(here, json.dumps(scenario), "s.yaml")
        for command in ("run", "compare", "plot", "check"):
            result = run(here, command, "s.yaml")
            said = result.stdout + result.stderr
            assert result.exit_code == 2 or (command == "check" and "was not opened" in said), said
            assert "--allow-code" in said or "is not a function" in said or "module:function" in said
        write(here, json.dumps({"groups": [{"name": "g", "scenario": scenario, "measured": [{"time": 1}]}]}), "m.yaml")
        assert run(here, "validate", "m.yaml").exit_code == 2
    assert [path for path in tmp_path.rglob("*") if path.name in ("ran.txt", "out")] == []


@pytest.mark.parametrize("place", range(5))
def test_check_runs_nothing_and_says_what_it_did_not_open(tmp_path: Path, place: int) -> None:
    write(tmp_path, GRAPH)
    file = write(tmp_path, json.dumps(naming("mine:star")[place]), "s.yaml")
    found = check(file)
    assert found.chips is None and found.unopened == (
        f"'mine:star': {tmp_path / 'mine.py'} was not opened, as no code is run here: trust it with --code {tmp_path}, or "
        "--allow-code",)
    assert run(tmp_path, "check", "s.yaml").exit_code == 0 and not (tmp_path / "ran.txt").exists()
    with pytest.raises(ScenarioError, match="was not opened"):
        load(file, code="never")
    assert not (tmp_path / "ran.txt").exists()


def test_check_says_all_else_that_is_wrong_beside_code_that_it_does_not_open(tmp_path: Path) -> None:
    write(tmp_path, GRAPH)
    file = write(tmp_path, json.dumps({**BARE, "topology": {"kind": "mine:star", "events": 3}, "chip": "tpu-v44"}), "s.yaml")
    with pytest.raises(ScenarioError) as caught:
        check(file)
    assert len(caught.value.mistakes) == 2 and not (tmp_path / "ran.txt").exists()


@pytest.mark.parametrize("option", [["--code", "."], ["--allow-code"]])
def test_check_runs_code_that_the_user_trusts(tmp_path: Path, option: list[str]) -> None:
    write(tmp_path, GRAPH)
    write(tmp_path, json.dumps(naming("mine:star")[1]), "s.yaml")
    result = run(tmp_path, "check", "s.yaml", *option)
    assert (result.exit_code, result.stdout) == (0, "s.yaml: ok (s, 4 chips)\n") and (tmp_path / "ran.txt").exists()


def test_a_result_names_its_code_by_module_and_sha_256_and_runs_again_beside_it(tmp_path: Path) -> None:
    mine = write(tmp_path, GRAPH)
    write(tmp_path, json.dumps({"name": "s", **naming("mine:star")[1]}), "s.yaml")
    assert run(tmp_path, "run", "s.yaml", "--no-pictures").exit_code == 0
    result = tmp_path / "out" / "s" / "result.json"
    record = json.loads(result.read_text())["scenario"]
    assert record["topology"]["kind"] == "mine:star" and record["code"] == {"mine.py": sha256(mine.read_bytes()).hexdigest()}
    assert str(tmp_path) not in json.dumps(record)
    assert "there is no mine.py in" in run(tmp_path, "run", result, "-o", "again").stderr
    again = run(tmp_path, "run", result, "-o", "again", "--code", ".", "--no-pictures")
    assert again.exit_code == 0 and "changed since" not in again.stdout
    assert json.loads((tmp_path / "again" / "s" / "result.json").read_text())["scenario"] == record
    mine.write_text(GRAPH + "# a word more\n")
    changed = run(tmp_path, "run", result, "-o", "again", "--code", ".", "--no-pictures")
    assert changed.exit_code == 0 and "mine.py changed since this scenario was recorded" in changed.stdout
    assert "mine.py changed since" in run(tmp_path, "check", result, "--code", ".").stdout


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "..", "a/../../../b", "~/evil", "C:\\evil"])
def test_no_name_leads_out_of_the_output_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path / "here", json.dumps({**BARE, "name": name, "topology": {"shape": [4]}}), "s.yaml")
    assert run(tmp_path / "here", "run", "s.yaml", "-o", "deep/out").exit_code == 0
    made = {path for path in tmp_path.rglob("*") if path.is_file() and path.name != "s.yaml"}
    assert made and all(path.parent.parent == tmp_path / "here" / "deep" / "out" for path in made)


def test_a_file_cannot_say_where_results_go_or_whom_to_trust(tmp_path: Path) -> None:
    write(tmp_path, GRAPH)
    for extra in ({"out": "/tmp"}, {"o": ".."}, {"code": "any"}, {"allow_code": True}, {"code": {"os.py": 1}}):
        write(tmp_path, json.dumps({**BARE, "topology": {"shape": [4]}, **extra}), "s.yaml")
        assert run(tmp_path, "run", "s.yaml").exit_code == 2


@pytest.mark.parametrize("text, said", [
    ("a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n" for a, b in zip("abcdefgh", "bcdefghi")), "more than 100000 values"),
    ("[" * 5000 + "]" * 5000, "nested deeper than 100 levels"), ("name: " + "9" * 5000, "has 5000 digits"),
    ("{topology: {shape: [1" + "0" * 900 + "]}}", "has more than 10**18 chips"),
    ("{topology: {shape: [1000000000, 1000000000]}}", "chips: at most"),
    ("[" + "[]," * 300_000 + "]", "more than 100000 values"), (f"a: {'a' * 400_000}", "is not a key"),
    ("{topology: {kind: " + "a" * 5000 + ":star}}", "there is no"),
    (f"chip: ideal\ntopology: {{shape: [64, 64], links: [{'{axis: x, scale: 1}, ' * 9000}]}}", "more than can be made"),
    (f"chip: ideal\ntopology: {{shape: [4]}}\nprogram: [{{name: a, flops: 1, after: [{'b' * 400_000}]}}]", "no operation has"),
    ("{topology: {shape: [4], bandwidth: 1e999}}", "bandwidth"), ("name: " + "x" * 2_000_000, "larger than the 1.049 MB"),
])
def test_no_bomb_takes_more_than_a_minute(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text, "s.yaml")
    began = time.process_time()
    result = run(tmp_path, "run", "s.yaml")
    assert result.exit_code == 2 and said in result.stderr and time.process_time() - began < 60


def test_no_more_nodes_are_made_than_a_file_may_have_values(tmp_path: Path) -> None:
    made = 0

    def descend(kind: type) -> type:
        class Counting(kind):  # type: ignore[misc, valid-type]
            def descend_resolver(self, node: Any, index: Any) -> None:
                nonlocal made
                made += 1
                super().descend_resolver(node, index)
        return Counting

    plain = files._plain_loader
    for before in ("", "&a "):  # libyaml, ruamel.yaml
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "_plain_loader", lambda loader, file: descend(plain(loader, file)))
            patch.setattr(files, "MAX_VALUES", 1000)
            with pytest.raises(ScenarioError, match="more than 1000 values"):
                files.parse(before + "[" + "{a: 1}," * 5000 + "]", "f")
    assert 2000 < made < 4000


def test_a_misspelt_name_is_compared_with_few_and_short_names() -> None:
    assert nearest("palm-54b", ["palm-540b"]) == "palm-540b"
    assert nearest("a" * 100_000, ["a" * 99_999]) is None
    names = (f"collective{i}" for i in range(10**6))
    assert nearest("collectives", names) is not None and next(names) == "collective1000"


def test_a_matplotlibrc_in_the_working_folder_counts_for_nothing(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.size: 40\nsavefig.facecolor: red\n")
    write(tmp_path, json.dumps({**BARE, "topology": {"shape": [4]}}), "s.yaml")
    write(tmp_path / "clean", json.dumps({**BARE, "topology": {"shape": [4]}}), "s.yaml")
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parent.parent)}
    for folder in (tmp_path, tmp_path / "clean"):
        subprocess.run([sys.executable, "-m", "torussim", "run", "s.yaml"], cwd=folder, env=environment, check=True,
                       capture_output=True)
    for name in ("timeline.png", "links.png"):
        assert (tmp_path / "out/s" / name).read_bytes() == (tmp_path / "clean/out/s" / name).read_bytes()


def test_a_run_without_memory_ends_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    def exhausted(*given: Any, **keywords: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("torussim.answer.run", exhausted)
    monkeypatch.setattr(sys, "argv", ["torussim", "run", "-o", str(tmp_path),
                                      str(write(tmp_path, json.dumps({**BARE, "topology": {"shape": [4]}}), "s.yaml"))])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and capsys.readouterr().err.startswith("out of memory: ")


@pytest.mark.parametrize("kind", ["zero", "random", "pipe", "folder"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "s.json"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero" if kind == "zero" else "/dev/urandom")
    write(tmp_path, json.dumps({**MODEL, "model": "s.json"}), "model.yaml")
    for words in (["run", "s.json"], ["run", "model.yaml"], ["validate", "s.json"]):
        result = run(tmp_path, *words)
        assert result.exit_code == 2
        reason = "is a directory" if kind == "folder" else "it is a device, a pipe or a socket"
        assert f"cannot be read: {reason}" in result.stderr


def test_a_file_may_be_as_large_as_its_kind_and_the_user_says(tmp_path: Path) -> None:
    file = write(tmp_path, "name: x # " + "x" * files.LIMITS["scenario"], "s.yaml")
    with pytest.raises(FileError, match=r"larger than the 1\.049 MB that scenario files may have: raise that with --max-"):
        files.contents(file, "scenario")
    assert len(files.contents(file, "measurements")) == len(files.contents(file, "scenario", 2**21)) == file.stat().st_size
    write(tmp_path, json.dumps({**BARE, "topology": {"shape": [4]}}) + " " * files.LIMITS["scenario"], "s.yaml")
    assert run(tmp_path, "check", "s.yaml").exit_code == 2
    assert run(tmp_path, "check", "s.yaml", "--max-file-size", "2 MB").exit_code == 0


def test_what_is_packed_is_no_larger_unpacked(tmp_path: Path) -> None:
    packed = tmp_path / "result.json.gz"
    packed.write_bytes(gzip.compress(json.dumps({"scenario": {**BARE, "topology": {"shape": [4]}}}).encode()))
    assert len(load(packed).net.chips) == 4
    packed.write_bytes(gzip.compress(bytes(10**7)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(files.LIMITS, "result", 10**6)
        with pytest.raises(FileError, match="larger than the 1 MB that result files may have"):
            files.contents(packed, "result")
    packed.write_bytes(gzip.compress(b"x" * 1000)[:-20])
    with pytest.raises(FileError, match="cannot be read: "):
        files.contents(packed, "result")


def test_a_graph_that_is_never_done_can_be_interrupted(tmp_path: Path) -> None:
    write(tmp_path, "from pathlib import Path\ndef star():\n    Path(__file__).with_name('begun').touch()\n    while 1: pass\n")
    write(tmp_path, json.dumps(naming("mine:star")[1]), "s.yaml")
    command = [sys.executable, "-m", "torussim", "run", "s.yaml"]
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parent.parent)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    until = time.monotonic() + 60
    while not (tmp_path / "begun").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    said, complaint = process.communicate(timeout=30)
    assert (process.returncode, said) == (130, "") and "Traceback" not in complaint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "mine.py", "s.yaml"]


def test_a_file_of_66_000_values_is_read_in_seconds(tmp_path: Path) -> None:
    operations = "".join(f"  - {{name: o{i}, flops: {i + 1}, hbm_bytes: {i}, dtype: bf16, after: []}}\n" for i in range(11_000))
    file = write(tmp_path, f"chip: ideal\ntopology: {{shape: [4]}}\nprogram:\n{operations}", "s.yaml")
    scenario = load(file)
    assert scenario.program is not None and len(scenario.program.block) == 11_000
