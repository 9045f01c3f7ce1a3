"""The examples of docs/extending.md run, are short, and take what arithmetic says; and hints for networks of one's own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from torussim import run
from torussim.chips import chip_mistakes
from torussim.differences import differences
from torussim.errors import ScenarioError
from torussim.scenario import load

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "extending.md").read_text()
PARTS = {part.split("\n")[0].removeprefix("How to add a "): part for part in PAGE.split("\n## ")[1:]}
WANTED = {  # seconds, by arithmetic
    "chip": 1e12 / (500e12 * 0.9) + 1.5e-6 + 2.7e-6 + 1.5 * (25e6 / 95e9) + 2 * 0.5e-6,  # a ring of four: a shard and a half
    "network": 3 / 4 * 100e6 / 50e9,  # all but the own part over a chip's link
    "collective": 7 / 8 * 100e6 / 50e9,
    "routing": 15 / 16 * 100e6 / 50e9,  # the routing by targets loads each spine alike
    "machine parameter": 2 * (1e9 / 275e12 + 1e-6)}


def blocks(part, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PARTS[part], re.M | re.S)


@pytest.fixture
def written(tmp_path):
    """Return a function that writes the scenario of a how-to and its code, and returns the path of the scenario."""
    def write(part):
        for code in blocks(part, "python"):
            assert len(code.splitlines()) < 20
            (tmp_path / "mine.py").write_text(code)
        (scenario,) = blocks(part, "yaml")
        (tmp_path / "scenario.yaml").write_text(scenario)
        return tmp_path / "scenario.yaml"
    return write


def test_there_is_a_how_to_for_each_thing():
    assert list(PARTS) == ["chip", "model", "layout", "layout of a mixture", "network", "collective", "routing",
                           "machine parameter"]


@pytest.mark.parametrize("part", ["chip", "network", "collective", "routing"])
def test_an_example_runs_and_takes_what_its_links_say(written, part):
    assert run(written(part)).makespan_s == pytest.approx(WANTED[part], rel=0.02)


def test_the_chip_of_the_page_has_every_field_that_is_needed(written):
    import ruamel.yaml

    given = ruamel.yaml.YAML(typ="safe", pure=True).load(written("chip").read_text())["chip"]
    assert load(written("chip")).chip.name == "my-chip"
    for key in given.keys() - {"name"}:
        assert [found.code for found in chip_mistakes({k: v for k, v in given.items() if k != key})] == ["missing"], key


def test_the_weights_of_the_model_of_the_page_are_those_of_its_matrices(written):
    layer = 2048 * 128 * (2 * 16 + 2 * 4) + 3 * 2048 * 8192
    assert run(written("model")).keys["memory"]["weights"] == pytest.approx(2 * (24 * layer + 2048 * 32768) / 4, rel=0.01)


def test_the_layout_of_the_page_has_two_all_reduces_a_layer_and_no_other_collective(written):
    operations = [one for one in run(written("layout")).keys["operations"] if one["kind"] != "compute"]
    assert [(one["kind"], one["bytes"]) for one in operations] == 2 * [("all_reduce", 16 * 4096 * 2)]


def test_the_mixture_of_the_page_gathers_dispatches_combines_and_scatters(written):
    """Of 64 tokens, 16 are on the chips of a position of y; each has 8 copies."""
    operations = [one for one in run(written("layout of a mixture")).keys["operations"] if one["kind"] != "compute"]
    tokens = 64 / 4 * 2048 * 2
    assert [(one["kind"], one["axes"], one["bytes"]) for one in operations] == [
        ("all_gather", ["x"], tokens), ("all_to_all", ["y"], 8 * tokens), ("all_to_all", ["y"], 8 * tokens),
        ("reduce_scatter", ["x"], tokens)]


def test_the_change_that_adds_a_machine_parameter_applies_and_charges_it(written, tmp_path):
    scenario = written("machine parameter")
    shutil.copytree(ROOT / "torussim", tmp_path / "torussim", ignore=shutil.ignore_patterns("__pycache__"))
    (change,) = blocks("machine parameter", "diff")
    for name, edits in re.findall(r"^--- (\S+)\n((?:[-+].*\n)+?)(?=---|\Z)", change, re.M):
        file = tmp_path / name
        for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", edits, re.M):
            before, after = (re.sub(r"^[-+]", "", lines, flags=re.M) for lines in (old, new))
            assert file.read_text().count(before) == 1, f"{name} has no longer the line {before!r}"
            file.write_text(file.read_text().replace(before, after))
    done = subprocess.run([sys.executable, "-m", "torussim", "run", scenario, "--json"], cwd=tmp_path, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=True)
    assert json.loads(done.stdout)["makespan_s"] == pytest.approx(WANTED["machine parameter"], rel=1e-9)


def test_a_how_to_has_at_most_six_steps():
    for part in PAGE.split("\n## ")[1:]:
        assert 1 <= len(re.findall(r"^\d\. ", part, re.M)) <= 6


def test_the_builders_of_the_page_can_be_imported():
    from torussim import fat_tree, mesh, torus

    assert len(torus((4, 4), bandwidth=1.0)) == len(mesh((4, 4), bandwidth=1.0)) == 16 < len(fat_tree([4, 4], bandwidth=1.0))


@pytest.mark.parametrize("mark, said", [("", "'switch' seems to be a switch: mark it with chip=False"), (", chip=False", None)])
def test_a_function_that_marks_no_switches_is_told_how(tmp_path, mark, said):
    (tmp_path / "mine.py").write_text(
        f"import networkx as nx\n\ndef star(chips):\n    graph = nx.Graph()\n    graph.add_node('switch'{mark})\n"
        "    for chip in range(chips):\n        graph.add_edge(f'gpu{chip}', 'switch', bandwidth=1e9, latency=0.0)\n"
        "    return nx.DiGraph(graph)\n")
    file = tmp_path / "scenario.yaml"
    file.write_text("chip: ideal\ntopology: {kind: 'mine:star', chips: 4, mesh: [4]}\n"
                    "program:\n  - {name: a, collective: all_gather, axes: x, bytes: 1 MB}\n")
    if said is None:
        assert run(file).makespan_s > 0
        return
    with pytest.raises(ScenarioError) as caught:
        load(file)
    (mistake,) = caught.value.mistakes
    assert said in mistake.text and "has 4 chips, but the network has 5" in mistake.text


NETWORKS = ROOT / "scenarios" / "networks"


@pytest.mark.parametrize("file", sorted(NETWORKS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_scenario_of_other_networks_is_sound(file):
    made = load(file)
    count = 128 if "deepseek" in file.stem else 64 if file.stem.startswith("decode") else 1024
    assert len(made.net.links.chips) == count
    if count == 1024:  # equal bandwidth out of a chip
        links = made.net.links
        assert links.bandwidth[links.source < count].sum() / count == pytest.approx(270e9, rel=1e-3)


@pytest.mark.parametrize("name, wanted", [
    ("torus", 2 * 64e6 / 45e9), ("fat-tree", 1023 / 1024 * 64e6 / 270e9), ("boardfly", 32 * 992 / 1024 * 64e6 / (31 * 47.2e9))])
def test_the_least_times_of_the_shoot_out_are_what_arithmetic_says(name, wanted):
    result = run(NETWORKS / f"equal-{name}-exchange.yaml")
    (exchange,) = result.keys["operations"]
    assert exchange["bound_s"] == pytest.approx(wanted, rel=2e-3)
    issued = 1023 * 0.107e-6  # each chip issues its messages one after another
    assert wanted < result.makespan_s - issued < 1.55 * wanted


def test_a_graph_file_differs_by_its_hash_and_not_by_all_its_links():
    torus, file = (load(NETWORKS / f"decode-{name}.yaml").resolved for name in ("tpu-v4", "graph-file"))
    found = differences([torus, file])
    assert "topology.sha256" in found and not [key for key in found if key.startswith("topology.network")]
