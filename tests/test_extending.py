"""The examples of docs/extending.md run, are short, and take what arithmetic says; and hints for networks of one's own."""

import re
from pathlib import Path

import pytest

from torussim import run
from torussim.differences import differences
from torussim.errors import ScenarioError
from torussim.scenario import load

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "extending.md").read_text()
CODE, SCENARIOS = (re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S) for language in ("python", "yaml"))
WANTED = (3 / 4 * 100e6 / 50e9, 7 / 8 * 100e6 / 50e9, 15 / 16 * 100e6 / 50e9)  # seconds: all but the own part over a chip's link


@pytest.mark.parametrize("code, scenario, wanted", list(zip(CODE, SCENARIOS, WANTED, strict=True)))
def test_an_example_runs_and_takes_what_its_links_say(tmp_path, code, scenario, wanted):
    """A chip's link brings all but its own part; the routing by targets loads each spine alike."""
    assert len(code.splitlines()) < 20
    (tmp_path / "mine.py").write_text(code)
    (tmp_path / "scenario.yaml").write_text(scenario)
    assert run(tmp_path / "scenario.yaml").makespan_s == pytest.approx(wanted, rel=0.02)


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


NETWORKS = Path(__file__).resolve().parent.parent / "scenarios" / "networks"


@pytest.mark.parametrize("file", sorted(NETWORKS.glob("*.yaml")), ids=lambda file: file.stem)
def test_a_scenario_of_other_networks_is_sound(file):
    made = load(file)
    count = 64 if file.stem.startswith("decode") else 1024
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
