"""The command line: what it prints, what it writes, and with which status it ends."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from torussim.cli import cli
from torussim.scenario import load

ROOT = Path(__file__).resolve().parent.parent

SCENARIO = """\
name: A small one
model: {base: palm-8b, layers: 3}
chip: tpu-v4
topology: {shape: [2, 2, 2], wrap: false}
layout: {ffn: ws2d, attention: batch}
workload: {phase: decode, batch: 8, context: 64, tokens: 2}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return path


def invoke(*arguments, code=0):
    result = CliRunner().invoke(cli, [str(a) for a in arguments], standalone_mode=False, catch_exceptions=False)
    assert (result.return_value or result.exit_code) in (code, None)
    return result


def test_run_prints_a_report_and_writes_a_result_and_a_picture(file, tmp_path):
    out = tmp_path / "out"
    said = invoke("run", file, "-o", out).stdout
    assert "A decode step takes" in said.splitlines()[0] and "What to blame" in said and "Memory a chip" in said
    assert "uniform bandwidth" not in said
    assert sorted(p.name for p in (out / "a-small-one").iterdir()) == ["links.png", "result.json", "timeline.png"]
    assert json.loads((out / "a-small-one" / "result.json").read_text())["chips"] == 8
    assert "Where the paper's uniform bandwidth misleads" in invoke("run", file, "-o", out, "--no-pictures", "--verbose").stdout


def test_json_is_the_result_alone_and_no_picture_is_drawn(file, tmp_path):
    said = invoke("run", file, "-o", tmp_path / "out", "--json").stdout
    assert json.loads(said)["chips"] == 8
    assert [p.name for p in (tmp_path / "out" / "a-small-one").iterdir()] == ["result.json"]


def test_no_pictures_means_none(file, tmp_path):
    invoke("run", file, "-o", tmp_path / "out", "--no-pictures")
    assert [p.name for p in (tmp_path / "out" / "a-small-one").iterdir()] == ["result.json"]


def test_a_second_run_replaces_its_own_files(file, tmp_path):
    for tokens in (1, 2):
        invoke("run", file, "-o", tmp_path / "out", "--no-pictures", "--set", f"workload.tokens={tokens}")
    written = json.loads((tmp_path / "out" / "a-small-one" / "result.json").read_text())
    assert written["scenario"]["workload"]["tokens"] == 2


def test_two_scenarios_of_one_name_do_not_write_over_each_other(file, tmp_path):
    invoke("run", file, file, "-o", tmp_path / "out", "--no-pictures")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a-small-one", "a-small-one-2"]


def test_strict_ends_with_1_when_an_expectation_is_missed(file, tmp_path):
    file.write_text(SCENARIO + "expect: {step_s: {value: 1 s, within: 0.1}}\n")
    command = [sys.executable, "-m", "torussim", "run", str(file), "-o", str(tmp_path / "out"), "--no-pictures"]
    assert subprocess.run(command, capture_output=True).returncode == 0
    done = subprocess.run([*command, "--strict"], capture_output=True, text=True)
    assert done.returncode == 1 and "MISSED" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_plot_draws_what_its_name_says(file, tmp_path, kind):
    image = tmp_path / f"picture.{kind}"
    invoke("plot", file, "-o", image, "--chips", "0,0,0 1,1,1")
    assert image.read_bytes()[:5] in {"png": [b"\x89PNG\r"], "svg": [b"<?xml"], "pdf": [b"%PDF-"]}[kind]


def test_check_runs_nothing_and_writes_nothing(file, tmp_path):
    said = invoke("check", file).stdout
    assert "ok" in said and "8 chips" in said
    assert [p.name for p in tmp_path.iterdir()] == ["small.yaml"]


@pytest.mark.parametrize("what, has", [("models", "palm-540b"), ("chips", "tpu-v5e"), ("topologies", "v5e-16"),
                                       ("layouts", "wg_xyz"), ("collectives", "all_gather")])
def test_list_names_what_there_is(what, has):
    assert has in invoke("list", what).stdout
    assert has in invoke("list").stdout


HEAVY = ("numpy", "networkx", "simpy", "matplotlib", "ruamel", "scipy", "numba")
OF_A_RUN = ("torussim.engine", "torussim.analysis", "torussim.timeline", "torussim.answer", "torussim.keys", "torussim.result",
            "torussim.report", "torussim.lower_bound", "torussim.repairs", "torussim.plot")


@pytest.mark.parametrize("words, forbidden", [
    (["--help"], (*HEAVY, "torussim.scenario", *OF_A_RUN)),
    (["check", "small.yaml"], ("networkx", "simpy", "matplotlib", "scipy", "numba", *OF_A_RUN)),
    (["run", "small.yaml", "--no-pictures"], ("networkx", "matplotlib", "scipy", "numba", "torussim.plot", "torussim.compare")),
    (["run", "small.yaml", "--json"], ("networkx", "matplotlib", "scipy", "numba", "torussim.plot", "torussim.compare")),
    (["compare", "small.yaml"], ("networkx", "matplotlib", "scipy", "numba", "torussim.plot")),
    (["list", "chips"], ("networkx", "simpy", "matplotlib", "scipy", "numba", *OF_A_RUN)),
])
def test_a_command_imports_nothing_that_it_does_not_use(file, words, forbidden):
    code = f"import sys; from torussim.cli import cli; cli({words}, standalone_mode=False); print(*sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=file.parent).stdout
    imported = set(said.splitlines()[-1].split())
    assert "click" in imported and not imported & set(forbidden)


def test_a_run_without_pictures_leaves_no_older_picture_beside_the_new_result(file, tmp_path):
    invoke("run", file, "-o", tmp_path / "out")
    invoke("run", file, "-o", tmp_path / "out", "--no-pictures")
    assert [p.name for p in (tmp_path / "out" / "a-small-one").iterdir()] == ["result.json"]


@pytest.mark.parametrize("command, taken", [("run", "out/a-small-one/result.json"), ("plot", "picture.png")])
def test_a_folder_where_a_file_should_go_is_told_before_the_run(file, tmp_path, command, taken):
    (tmp_path / taken).mkdir(parents=True)
    target = tmp_path / ("out" if command == "run" else taken)
    words = [sys.executable, "-m", "torussim", command, str(file), "-o", str(target)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2 and "it is a folder; name another place with -o" in done.stderr
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_a_run_over_parts_of_an_axis_draws_its_picture(file, tmp_path):
    cut = ["--set", "topology.shape=[4, 2, 2]", "--set", "layout.mesh={x: [x/2], y: [x/2, y], z: z}"]
    invoke("run", file, "-o", tmp_path / "out", *cut)
    assert sorted(p.name for p in (tmp_path / "out" / "a-small-one").iterdir()) == ["links.png", "result.json", "timeline.png"]
    operations = json.loads((tmp_path / "out" / "a-small-one" / "result.json").read_text())["operations"]
    assert {axis for o in operations for axis in o["axes"]} == {"x/2", "x/2*2", "y", "z"}


def test_a_routing_that_fails_in_the_run_is_one_line_and_status_2(tmp_path):
    (tmp_path / "ways.py").write_text("def lost(graph, source, target):\n"
                                      "    return [source, target] if source == (0,) else [source]\n")
    file = tmp_path / "s.yaml"
    file.write_text('chip: ideal\ntopology: {shape: [3], routing: "ways:lost"}\nprogram: [{name: swap, collective: all_to_all, '
                    "axes: x, bytes: 1 MB, algorithm: direct}]\n")
    assert invoke("check", file).stdout.startswith(f"{file}: ok")
    done = subprocess.run([sys.executable, "-m", "torussim", "run", str(file), "-o", str(tmp_path / "out")], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line == "lost from (1,) to (2,) returned a path that ends at (1,), and does not arrive"


def test_a_field_of_a_preset_can_be_set(file):
    """A name is short for {base: name}."""
    whole = SCENARIO.replace("{base: palm-8b, layers: 3}", "palm-8b")
    file.write_text(whole)
    changed = load(file, ["chip.launch=0", "model.layers=3"])
    file.write_text(whole.replace("palm-8b", "{base: palm-8b, layers: 3}").replace("tpu-v4", "{base: tpu-v4, launch: 0}"))
    assert changed.resolved == load(file).resolved and changed.chip.launch == 0
    done = CliRunner().invoke(cli, ["check", str(file), "--set", "chip=tpu-v44", "--set", "chip.launch=0"], standalone_mode=False)
    assert done.stderr == "--set chip=tpu-v44:1:6: chip: base: 'tpu-v44' is not a chip: did you mean 'tpu-v4'?\n"


@pytest.mark.parametrize("chips, text", [
    ("banana", "'banana' is not a chip: write coordinates with commas between them, such as 0,0,0 1,1,1"),
    ("0,0,0 0,0,x", "'0,0,x' is not a chip: write coordinates with commas between them, such as 0,0,0 1,1,1"),
    ("0,0,", "'0,0,' is not a chip: write"),
    ("0,0,9", "there is no chip [0, 0, 9]; give one coordinate for each axis: x from 0 to 1, "),
    ("0,0", "there is no chip [0, 0]; give one coordinate for each axis"),
    (" ", "names no chip: write coordinates, such as 0,0,0 1,1,1"),
])
def test_chips_that_are_none_are_refused_in_words_of_ours(file, tmp_path, chips, text):
    done = CliRunner().invoke(cli, ["plot", str(file), "-o", str(tmp_path / "x.png"), "--chips", chips], standalone_mode=False)
    assert done.exit_code == 2 and done.stdout == "" and not (tmp_path / "x.png").exists()
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"--chips {chips!r}") and text in line


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
@pytest.mark.parametrize("words", [["list"], ["--help"], ["check", "FILE"], ["run", "FILE", "--no-pictures"],
                                   ["run", "FILE", "--json"]])
@pytest.mark.parametrize("buffered", [True, False])
def test_output_that_cannot_be_written_is_one_line_and_status_2(file, tmp_path, words, buffered):
    words = [str(file) if word == "FILE" else word for word in words]
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, *([] if buffered else ["-u"]), "-m", "torussim", *words], stdout=full,
                              stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60,
                              env={**{k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}, "PYTHONPATH": str(ROOT)})
    assert done.stderr == "standard output: cannot be written: no space left on device\n"
    assert done.returncode == 2


def test_a_result_that_cannot_be_written_is_one_line_and_status_2(file, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(os, "replace", full)
    done = CliRunner().invoke(cli, ["run", str(file), "-o", str(tmp_path / "out"), "--no-pictures"], standalone_mode=False)
    assert done.exit_code == 2
    assert done.stderr == f"{tmp_path / 'out' / 'a-small-one' / 'result.json'}: cannot be written: no space left on device\n"
    assert list((tmp_path / "out" / "a-small-one").iterdir()) == []


STAR = """\
import networkx as nx

def star(chips):
    graph = nx.DiGraph()
    graph.add_node("switch", chip=False)
    for chip in range(chips):
        graph.add_edge(f"chip{chip}", "switch", bandwidth=1e9, latency=0.0)
        graph.add_edge("switch", f"chip{chip}", bandwidth=1e9, latency=0.0)
    return graph
"""


def test_a_switch_is_called_by_its_name_and_a_chip_has_the_links_that_are_there(tmp_path):
    (tmp_path / "net.py").write_text(STAR)
    file = tmp_path / "s.yaml"
    file.write_text('name: star\nchip: tpu-v4\ntopology: {kind: "net:star", chips: 4, mesh: [2, 2], routing: shortest}\n'
                    "program: [{name: g, collective: all_gather, axes: xy, bytes: 64 MB}]\n")
    said = invoke("run", file, "-o", tmp_path / "out", "--no-pictures", "-v").stdout
    assert "the busiest is (0,0)->switch, " in said
    flat = " ".join(said.split())
    assert "g (all-gather of 64 MB over xy) uses the chip's only link at once. " in flat and "model over 6 links." in flat
    assert "  no axis  " in said and "axis none" not in said
    assert "  all 90%" in invoke("compare", file, file).stdout  # and no word of an axis


def test_a_cable_to_a_switch_is_changed_and_told_by_the_name_of_the_switch(tmp_path):
    (tmp_path / "net.py").write_text(STAR)
    file = tmp_path / "s.yaml"
    file.write_text('name: star\nchip: tpu-v4\ntopology:\n  {kind: "net:star", chips: 4, mesh: [2, 2], routing: shortest,'
                    " links: [{from: switch, to: [1, 0], scale: 0.5}]}\n"
                    "program: [{name: g, collective: all_gather, axes: xy, bytes: 64 MB}]\n")
    said = invoke("run", file, "-o", tmp_path / "out", "--no-pictures").stdout
    assert "  slow link switch-(1,0), " in said
    again = invoke("run", tmp_path / "out/star/result.json", "--code", tmp_path, "-o", tmp_path / "again", "--no-pictures")
    assert again.stdout.splitlines()[:-1] == said.splitlines()[:-1]
