"""Bad input: every mistake at its place, in words that help, all at once; status 2, no traceback, nothing written.

Each file in tests/bad says in its comments what is wrong with it: `# expect LINE:COLUMN CODE: PATH`. The first word of its name
is its kind, one of KINDS. The words of the messages stand once, in tests/messages.txt. Files that cannot hold comments are made
here.
"""

import copy
import importlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from functools import cache

import pytest
from click.testing import CliRunner
from messages import FILES, HERE, RENEW, known, paragraph, paragraphs

from torussim import chips, models
from torussim.cli import cli
from torussim.errors import CODES, ScenarioError
from torussim.scenario import load, network

ROOT = HERE.parent.parent
KINDS = {"type": "a wrong type", "key": "an unknown or missing key", "doubled": "a doubled key", "preset": "a misspelt name",
         "axis": "an axis used twice, or not there", "divide": "a shard that does not divide", "shape": "a billion chips",
         "bandwidth": "0, -1, nan, fast", "link": "a link that is not there", "selector": "a selector that matches nothing",
         "cycle": "a cycle in `after`", "syntax": "broken YAML", "file": "an unreadable file", "config": "an unknown family",
         "function": "a function that raises, or breaks the contract", "limit": "more than can be run",
         "meaning": "values that contradict each other", "window": "a window that no layer has",
         "latent": "latent attention that is none", "pipeline": "stages that do not fit",
         "split": "heads that cannot be split",
         "experts": "experts that do not fit, or their load", "program": "operations on no chip",
         "many": "mistakes in many sections"}
GOOD = """\
name: good
model: {base: palm-8b, layers: 3}
chip: tpu-v4
topology: {shape: [2, 2, 2], wrap: false}
layout: {ffn: ws2d, attention: batch}
workload: {phase: decode, batch: 8, context: 64, tokens: 2}
"""


def expected(file):
    """Return (line, column, code and path) of each mistake that a file says it has."""
    found = re.findall(r"^# expect (\d+):(\d+) (\S+: \S+)$", file.read_text(), re.M)
    return [(int(line), int(column), what) for line, column, what in found]


def mistakes(source, overrides=()):
    with pytest.raises(ScenarioError) as caught:
        load(source, overrides)
    return caught.value.mistakes


@pytest.fixture(autouse=True, scope="module")
def _presets_are_read_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chips, "_preset", cache(chips._preset))
        patch.setattr(models, "_named", cache(models._named))
        patch.setattr(network, "slice_of", cache(network.slice_of))
        yield


@pytest.fixture
def no_simulation(monkeypatch):
    monkeypatch.setattr(importlib.import_module("torussim.answer"), "run", lambda *_, **__: pytest.fail("simulated"))


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def torussim_command(*arguments, cwd=ROOT):
    return subprocess.run([sys.executable, "-m", "torussim", *map(str, arguments)], capture_output=True, text=True, cwd=cwd,
                          env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)


def refused(*arguments):
    """Return the lines on standard error of a command that ends with status 2 and prints nothing else."""
    result = CliRunner().invoke(cli, [str(a) for a in arguments], standalone_mode=False)
    assert result.exit_code == 2 and isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == "" and "Traceback" not in result.stderr
    return result.stderr.splitlines()


# -- the files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=[p.stem for p in FILES])
def test_every_mistake_of_a_file_is_told_at_its_place_and_no_other(file):
    found = mistakes(file)
    assert sorted((m.mark.line, m.mark.column, known(m)) for m in found) == sorted(expected(file)), "\n".join(map(str, found))
    assert {m.mark.file for m in found} == {str(file)} and {m.code for m in found} <= set(CODES)
    assert all(m.text.isprintable() and len(m.text) < 450 for m in found)


@pytest.mark.parametrize("file", FILES, ids=[p.stem for p in FILES])
def test_the_words_of_every_message_are_those_of_the_file_of_examples(file):
    assert paragraph(file, mistakes(file)) == paragraphs()[file.name], f"if the words are better now: {RENEW}"


def test_the_file_of_examples_has_every_file_once_and_no_other():
    assert list(paragraphs()) == [file.name for file in FILES], RENEW


def test_every_kind_of_mistake_has_two_files_and_many_files_have_several_mistakes():
    kinds = Counter(p.stem.split("-")[0] for p in FILES)
    assert set(kinds) == set(KINDS) and min(kinds.values()) >= 2
    assert len(FILES) >= 70
    assert sum(len(expected(p)) >= 3 for p in FILES) >= 12
    assert all(len(expected(p)) >= 3 for p in FILES if p.stem.startswith("many-"))


# -- files that cannot say what is wrong with them ----------------------------------------------------------------------


@pytest.mark.parametrize("name, content, place, text", [
    ("palm-decod.yaml", None, "1:1", "cannot be read: no such file or directory: did you mean 'palm-decode.yaml'?"),
    ("far/away.yaml", None, "1:1", "cannot be read: no such file or directory"),
    ("palm-decode.yaml/x", None, "1:1", "cannot be read: not a directory"),
    ("", None, "1:1", "cannot be read: is a directory: name a file in it"),
    ("no\0name.yaml", None, "1:1", "cannot be read: embedded null byte"),
    ("latin.yaml", b"name: caf\xe9\n", "1:1", "cannot be read: not UTF-8, byte 0xe9 in line 1"),
    ("wide.yaml", GOOD.encode("utf-16"), "1:1", "cannot be read: not UTF-8, byte 0xff in line 1"),
    ("binary.yaml", b"name: a\nchip: \x00\x01\n", "2:7", r"'\x00' is not allowed"),
    ("empty.yaml", b"", "1:1", "the file is empty"),
    ("null.yaml", b"null", "1:1", "'null' is not a scenario: write keys such as model, chip, topology, layout, workload"),
    ("text.json", b'"palm"', "1:1", "'palm' is not a scenario: write keys such as model"),
])
def test_a_file_that_is_no_scenario_is_refused_with_the_reason(tmp_path, name, content, place, text):
    (tmp_path / "palm-decode.yaml").write_text(GOOD)
    path = tmp_path / name if name else tmp_path
    if content is not None:
        path.write_bytes(content)
    (found,) = mistakes(path)
    assert str(found).startswith(f"{path}:{place}: {text}")


@pytest.mark.parametrize("module, text", [
    ("def star(:\n", "'mine:star' cannot be loaded: {file}, line 1: SyntaxError: "),
    ("import nowhere_at_all\n", "'mine:star' cannot be loaded: {file}, line 1: ModuleNotFoundError: No module named 'nowhere"),
    ("raise SystemExit(3)\n", "'mine:star' cannot be loaded: {file}, line 1: SystemExit: 3"),
    ("def star():\n    return star()\n", "mine:star: {file}:2: star raised RecursionError: maximum recursion depth exceeded"),
    ("def star():\n    raise SystemExit\n", "mine:star: {file}:2: star raised SystemExit"),
    ("star = print\n", "'mine:star': star is not defined in {file}, but comes from builtins: write a function there"),
])
def test_a_module_that_cannot_be_used_is_named_with_the_line(tmp_path, module, text):
    file = tmp_path / "mine.py"
    file.write_text(module)
    scenario = tmp_path / "s.yaml"
    scenario.write_text(GOOD.replace("{shape: [2, 2, 2], wrap: false}", '{kind: "mine:star"}'))
    (found,) = mistakes(scenario)
    assert str(found).startswith(f"{scenario}:4:18: " + text.format(file=file))


@pytest.mark.parametrize("name, content, text", [
    ("config.json", b"{", "config.json:1:2: no JSON: "),
    ("config.json", b"[]", "config.json is no config.json of a model: it must be an object in braces"),
    ("config.json", b"\xff{}", "config.json cannot be read: "),
    ("config.json", b"[" * 100_000, "config.json cannot be read: "),
    ("config.json", b'{"model_type": ["llama"]}', "config.json: model_type '['llama']' cannot be read; llama"),
    ("folder.json", None, "folder.json cannot be read: is a directory"),
])
def test_a_config_json_that_cannot_be_read_is_named(tmp_path, name, content, text):
    path = tmp_path / name
    path.mkdir() if content is None else path.write_bytes(content)
    scenario = tmp_path / "s.yaml"
    scenario.write_text(GOOD.replace("{base: palm-8b, layers: 3}", name))
    (found,) = mistakes(scenario)
    assert str(found).replace('"', "'").startswith(f"{scenario}:2:8: {tmp_path}/{text}")


@pytest.mark.parametrize("value, text", [
    ({"chip": object()}, "<dict>:1:1: '<object object at "),
    ({5: 1}, "<dict>:1:1: '5' is not a key: a key must be a text"),
    ({"chip": 10**5000}, "<dict>:1:1: a number of more than 1000 digits: too many"),
    ({"name": "\ud800", "chip": "ideal", "topology": {"shape": [2]}, "program": [{"name": "a"}]}, "<dict>:1:1: name: '\\ud800' "),
])
def test_data_of_python_that_no_file_could_give_is_refused(value, text):
    (found,) = mistakes(value)
    assert str(found).startswith(text)


def test_data_of_python_that_holds_itself_is_refused():
    value = {"chip": "tpu-v4"}
    value["topology"] = value
    (found,) = mistakes(value)
    assert str(found) == "<dict>:1:1: nested deeper than 100 levels"


def test_a_part_that_stands_in_two_places_is_wrong_once_and_in_both(tmp_path):
    layouts = "{prefill: &one {ffn: ws3d, weights: bf17}, decode: *one}"
    file = tmp_path / "s.yaml"
    file.write_text("model: palm-8b\nchip: tpu-v4\ntopology: {shape: [2]}\n"
                    f"layout: {layouts}\nworkload: {{phase: generate, batch: 8, context: 64}}\n")
    assert [str(m.mark)[-4:] for m in mistakes(file)] == ["4:30", "4:45"]
    same = {"ffn": "ws3d", "weights": "bf17"}
    both = {"model": "palm-8b", "chip": "tpu-v4", "topology": {"shape": [2]}, "layout": {"prefill": same, "decode": same},
            "workload": {"phase": "generate", "batch": 8, "context": 64}}
    assert len(mistakes(both)) == 2


def test_a_file_full_of_mistakes_is_told_in_seconds(tmp_path):
    operations = "\n".join(f"  - {{name: a, flops: -{i}, colour: red}}" for i in range(1, 301))
    (tmp_path / "s.yaml").write_text(f"chip: tpu-v4\ntopology: {{shape: [2]}}\nprogram:\n{operations}\n")
    assert len(mistakes(tmp_path / "s.yaml")) == 600 + 299


# -- overrides ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("assignment, column, text", [
    ("topology.bandwidth=fast", 20, "bandwidth: 'fast' is not a bandwidth"),
    ("topology.bandwith=1e9", 1, "'bandwith' is not a key of topology: did you mean 'bandwidth'?"),
    ("workload.phase= decod", 17, "phase: 'decod' is not a phase: did you mean 'decode'?"),
    ("layout.mesh={x: [x, x], y: y}", 21, "mesh: the axis 'x' is used twice"),
    ("topology.links=[{axis: x, scale: 0}]", 34, "scale: '0' is not a number above 0"),
    ("model.layers=", 1, "model: layers: no value is given: write one, or leave the key out"),
    ("topology.shape.3=4", 1, "'3' is not an index of the list 'topology.shape': its indices are 0 to 2"),
    ("name.first=a", 1, "cannot set 'first' in 'name', which is 'good': not a mapping or a list"),
    ("tokens", 1, "'tokens' is not of the form path=value, such as topology.latency=2us"),
    ("workload.batch=[1", 18, "a ',' is missing here, or the bracket"),
])
def test_a_mistake_in_an_override_has_its_place_in_it(good, assignment, column, text):
    (found, *others) = mistakes(good, [assignment])
    assert str(found).startswith(f"--set {assignment}:1:{column}: {text}")
    assert all(other.mark.file == f"--set {assignment}" for other in others)
    assert refused("check", good, "--set", assignment)[0].startswith(f"--set {assignment}:1:{column}: {text}")


def test_mistakes_of_the_file_and_of_all_overrides_are_told_together(good):
    good.write_text(GOOD.replace("tpu-v4", "tpu-v44"))
    found = mistakes(good, ["workload.batch=-1", "topology.latency=slow"])
    assert [m.mark.file for m in found] == ["--set topology.latency=slow", "--set workload.batch=-1", str(good)]


# -- the command line ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=[p.stem for p in FILES])
def test_a_run_of_a_bad_file_tells_its_mistakes_and_leaves_everything_as_it_was(tmp_path, file):
    kept = tmp_path / "out" / "good" / "result.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("kept")
    assert refused("run", file, "-o", tmp_path / "out") == [str(m) for m in mistakes(file)]
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [kept] and kept.read_text() == "kept"


@pytest.mark.parametrize("name", ["many-in-one-a", "syntax-tab", "function-raises", "file-model-missing"])
@pytest.mark.parametrize("command", ["run", "check", "plot"])
def test_the_program_itself_ends_with_status_2_and_no_traceback(tmp_path, command, name):
    file = HERE / f"{name}.yaml"
    done = torussim_command(command, file, *(["-o", tmp_path / "x.png"] if command == "plot" else []), cwd=tmp_path)
    if command == "check" and name == "function-raises":  # it runs no code
        assert (done.returncode, done.stderr) == (0, "") and "was not opened" in done.stdout
    else:
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.splitlines() == [str(m) for m in mistakes(file)]
    assert list(tmp_path.iterdir()) == []


def test_mistakes_of_all_files_are_told_and_no_file_is_run(tmp_path, good, no_simulation):
    first, second = HERE / "many-in-one-a.yaml", HERE / "cycle-of-two.yaml"
    lines = refused("run", first, good, second, tmp_path / "none.yaml", "-o", tmp_path / "out")
    assert lines == [str(m) for file in (first, second, tmp_path / "none.yaml") for m in mistakes(file)]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["file/out", "file", "/proc/nothing"])
def test_a_place_that_cannot_be_written_is_told_before_anything_is_simulated(tmp_path, good, no_simulation, place):
    (tmp_path / "file").write_text("kept")
    (line,) = refused("run", good, "-o", tmp_path / place)
    assert line.startswith(f"{tmp_path / place}") and "cannot be written: " in line and line.endswith("another folder with -o")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_picture_that_cannot_be_written_is_told_before_anything_is_simulated(tmp_path, good, no_simulation):
    (tmp_path / "file").write_text("kept")
    assert "cannot be written: " in refused("plot", good, "-o", tmp_path / "file" / "x.png")[0]
    assert "'x.jpg' is not a picture: end its name in .png, .svg, .pdf" in refused("plot", good, "-o", "x.jpg")[0]


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name != "posix", reason="signals as POSIX has them")
def test_an_interrupt_ends_a_long_run_at_once_with_nothing_half_written(tmp_path, good):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "torussim", "run", str(good), "--set", "workload.tokens=100000", "-o", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    until = time.monotonic() + 30
    while not out.exists() and time.monotonic() < until:  # made just before the simulation starts
        time.sleep(0.05)
    time.sleep(0.5)
    assert process.poll() is None
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    said, complaint = process.communicate(timeout=30)
    assert time.monotonic() - sent < 2
    assert process.returncode == 130 and said == "" and "Traceback" not in complaint
    assert [p for p in out.rglob("*") if not p.is_dir()] == []


# -- whatever is written ------------------------------------------------------------------------------------------------

MODEL = {"base": "palm-8b", "layers": 3}
SOUND = [
    {"name": "a", "model": "palm-8b", "chip": "tpu-v4",
     "topology": {"kind": "torus", "shape": [2, 2, 2], "wrap": [False, False, False], "bandwidth": "45 GB/s", "latency": "1 us",
                  "links": [{"from": [0, 0, 0], "to": [1, 0, 0], "bandwidth": "1 GB/s"},
                            {"axis": "z", "at": {"y": 1}, "scale": 0.5}]},
     "layout": {"ffn": "ws2d", "attention": "batch", "weights": "int8", "overlap": True,
                "mesh": {"x": ["x"], "y": "y", "z": ["z"]}},
     "workload": {"phase": "decode", "batch": 8, "context": 64, "tokens": 2},
     "expect": {"step_s": {"value": "93 ms", "within": 0.1, "source": "x"}, "mfu": "33 %", "memory.weights": "1 GB"}},
    {"model": MODEL, "chip": {"base": "tpu-v4", "link_bandwidth": "50 GB/s"}, "topology": {"slice": "v4-16"},
     "layout": {"prefill": {"ffn": "wg_xyz"}, "decode": {"ffn": "ws1d", "overlap": "one_way"}},
     "workload": {"phase": "generate", "batch": 8, "context": 64, "tokens": 2, "cached": 3, "chunk": 16},
     "expect": {"prefill_s": 1}},
    {"model": MODEL, "chip": "ideal", "topology": {"shape": [2, 1, 2]},
     "layout": {"ffn": {"residual": ["B L E_xyz", "B L E_x"], "w_in": "E_x F_yz", "hidden": "B L F_xyz", "w_out": "F_yz E_x",
                        "w_q": "E_x H_yz", "w_k": "E_x K", "w_o": {"path": ["H_yz E_x"], "algorithm": "nested", "axes": "xyz"},
                        "q": ["B L H_xyz", "B_yz L H_x"], "kv": "B_yz L K", "out": ["B L E_x {U_yz}", "B L E_xyz"], "loop": "x"}},
     "workload": {"phase": "prefill", "batch": 8, "context": 64, "chunk": 16}},
    {"chip": "tpu-v5e", "topology": {"kind": "mesh", "shape": [4, 2]}, "expect": {"makespan_s": {"value": 1}},
     "program": [{"name": "gather", "collective": "all_gather", "axes": "yx", "bytes": "64 MB", "split": [1, 2]},
                 {"name": "multiply", "flops": 1e12, "hbm_bytes": "100 MB", "after": ["gather"], "dtype": "int8"},
                 {"name": "pass", "collective": "permute", "shift": {"x": 1}, "bytes": 5, "after": []}]},
]
STRANGE = [None, -1, 0, "", [], {}, float("inf"), float("nan"), True, 10**30, 1e-300, 0.5, [[[[[[[[1]]]]]]]], "π∞", "x", [None],
           {"": None}, {"a": {"b": 1}}, "mine:star", "nope:f", ":", "..", "a.json", "all_gather", "B L E_xyz {U_x}", "xyz", "yy",
           [2, 2], [2] * 17, "64 MB", {"x": 1}, {"path": 1}, {"value": 1}, {"base": "tpu-v4"}, "prefill", "v5e-16",
           [{"axis": "x"}]]
RENAMED = ("shape", "after", "program", "slice", "decode")


def places(value, path=()):
    yield path
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*path, key))


def at(value, path):
    for key in path:
        value = value[key]
    return value


def changed(rng, value):
    """Return a value with one to three of its parts replaced, deleted, renamed or swapped."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 3))):
        path = rng.choice(list(places(value))[1:] or [()])
        if not path:
            return value
        parent, key = at(value, path[:-1]), path[-1]
        what = rng.random()
        if what < 0.6:
            parent[key] = copy.deepcopy(rng.choice(STRANGE))
        elif what < 0.75:
            del parent[key]
        elif what < 0.9 and isinstance(parent, dict):
            parent[f"{key}s" if rng.random() < 0.5 else rng.choice(RENAMED)] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(at(value, rng.choice(list(places(value)))))
    return value


def written(value, rng):
    """Return a value as YAML in flow style, now and then with a key doubled."""
    if isinstance(value, dict):
        items = [f"{json.dumps(str(key))}: {written(part, rng)}" for key, part in value.items()]
        return "{" + ", ".join(items + items[:1] * (rng.random() < 0.02)) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(part, rng) for part in value) + "]"
    return {"nan": ".nan", "inf": ".inf"}.get(str(value)) or json.dumps(value)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_changed_in_a_sound_scenario_it_is_loaded_or_refused_with_places(tmp_path, seed):
    rng, file = random.Random(seed), tmp_path / "s.yaml"
    load(SOUND[seed])
    refusals = 0
    for _ in range(80):
        text = written(changed(rng, SOUND[seed]), rng)
        file.write_text(text)
        try:
            scenario = load(file)
        except ScenarioError as error:
            refusals += 1
            assert error.mistakes
            for mistake in error.mistakes:
                assert mistake.mark is not None and mistake.mark.line == 1 and mistake.mark.column <= len(text), text
                assert mistake.text.isprintable(), text
            assert len(set(error.mistakes)) == len(error.mistakes), text
        else:
            assert load(json.loads(json.dumps(scenario.resolved, allow_nan=False))).resolved == scenario.resolved, text
    assert refusals > 40
