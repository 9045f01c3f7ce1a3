"""Python first: a scenario of objects, a mapping and a file are the same thing, and results show themselves."""

import builtins
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import networkx as nx
import pytest
from random_files import whole

import torussim as ts
from torussim import plan, run
from torussim.errors import ScenarioError, TorusSimError
from torussim.files import parse
from torussim.scenario import read_document
from torussim.topology.graph_files import of_networkx, packed, unpacked
from torussim.topology.links import LinkChange, change_later, remove

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(file for file in ROOT.glob("scenarios/**/*.yaml") if not file.stem.startswith("equal-"))  # large networks
DECODE = {"phase": "decode", "batch": 64, "context": 512, "tokens": 2}
GATHER = [{"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "64 MB"}]


def palm(**changes):
    """Return a small decode step of PaLM 8B on four chips with one slow link."""
    network = ts.torus((2, 2), bandwidth=45e9, latency=1e-6)
    network.edges[(0, 0), (1, 0)]["bandwidth"] = 10e9
    return ts.Scenario(**{"model": ts.model("palm-8b", layers=4), "chip": "tpu-v4", "topology": network,
                          "layout": {"ffn": "ws2d", "attention": "batch", "mesh": {"x": ["x"], "y": ["y"], "z": []}},
                          "workload": DECODE, "name": "four chips"} | changes)


# -- one thing, however it is given ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_scenario_written_as_yaml_is_the_scenario(file):
    asked = ts.load(file, fitting="plan" not in file.stem)
    document = parse(asked.to_yaml(), str(file))
    assert document.value == {"name": asked.name} | asked.document.value
    if asked.fitted:
        assert read_document(document, asked.beside).resolved == asked.resolved


@pytest.mark.parametrize("seed", range(20))
def test_random_mappings_keyword_arguments_and_their_yaml_give_the_same_times(seed, tmp_path):
    given = whole(seed).document.value
    asked = ts.Scenario(**given)
    (tmp_path / "written.yaml").write_text(asked.to_yaml())
    written = ts.load(tmp_path / "written.yaml")
    assert written.resolved == asked.resolved == ts.load(given).resolved
    assert run(written).makespan_s == run(asked).makespan_s


def test_a_graph_of_python_gives_the_times_of_the_file_that_describes_it(tmp_path):
    links = [{"from": [0, 0], "to": [1, 0], "bandwidth": "10 GB/s", "both_ways": False}]
    same = palm(topology={"shape": [2, 2], "latency": "1 us", "links": links})
    asked = palm()
    assert run(asked).step_s == run(same).step_s > run(palm(topology={"shape": [2, 2], "latency": "1 us"})).step_s
    (tmp_path / "s.yaml").write_text(asked.to_yaml())
    assert run(tmp_path / "s.yaml").step_s == run(asked).step_s
    assert run(ts.load(run(asked).keys["scenario"])).step_s == run(asked).step_s  # its record


def test_objects_become_names_of_presets_or_all_their_fields():
    given = palm(model=ts.model("palm-8b"), chip=ts.chip("tpu-v4")).document.value
    assert (given["model"], given["chip"]) == ("palm-8b", "tpu-v4")
    other = palm(model=ts.model("palm-8b", layers=3), chip=ts.chip("tpu-v4", link_bandwidth="9 GB/s"))
    assert other.document.value["model"]["layers"] and other.document.value["chip"]["link_bandwidth"]
    assert (other.model.layers, other.chip.link_bandwidth) == (3, 9e9)


def star(kind, **attributes):
    graph = kind(**attributes)
    graph.add_node("switch", chip=False)
    for i in range(4):
        graph.add_edge(f"gpu{i}", "switch", bandwidth="50 GB/s", latency=1e-6)
        if graph.is_directed():
            graph.add_edge("switch", f"gpu{i}", bandwidth=50e9, latency="1 us")
    return graph


@pytest.mark.parametrize("kind", [nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph])
def test_graphs_of_all_kinds_are_topologies_with_their_mesh_and_changes(kind):
    topology = {"graph": star(kind), "mesh": [4], "links": [{"from": "switch", "to": [0], "scale": 0.5, "both_ways": False}]}
    asked = ts.Scenario(chip="ideal", topology=topology, program=GATHER)
    assert sorted(asked.topology.edges[edge]["bandwidth"] for edge in asked.topology.edges) == [25e9] + 7 * [50e9]
    assert run(asked).makespan_s > run(ts.Scenario(chip="ideal", topology={"graph": star(kind), "mesh": [4]},
                                                   program=GATHER)).makespan_s


def test_a_record_of_a_graph_keeps_events_failed_links_and_sums():
    graph = ts.torus((4, 3), bandwidth=45e9, latency=1e-6)
    graph = change_later(remove(graph, [((0, 0), (1, 0))]), [(1e-3, LinkChange(axis="x", scale=0.5)),
                                                             (2e-3, LinkChange(from_=(1, 0), to=(2, 0), failed=True))])
    again = unpacked(packed(graph))
    assert again.graph["events"] == graph.graph["events"] and again.graph["failed"] == graph.graph["failed"]
    assert nx.utils.graphs_equal(again, of_networkx(graph)) and of_networkx(graph).graph["events"] == graph.graph["events"]
    assert unpacked(packed(of_networkx(star(nx.DiGraph, switches_sum=True)))).graph["switches_sum"] is True
    early, late = (run(ts.Scenario(chip="ideal", topology=one, program=[{**GATHER[0], "bytes": "1 GB"}])).makespan_s
                   for one in (graph, ts.torus((4, 3), bandwidth=45e9, latency=1e-6)))
    assert early > late


def test_a_graph_keeps_the_name_of_its_routing():
    graph = ts.torus((4, 4), bandwidth=45e9, latency=1e-6)
    graph.graph["routing"] = "minimal"
    assert ts.Scenario(chip="ideal", topology=graph, program=GATHER).net.routing == "minimal"


# -- what it is for: runs, plans, sweeps -----------------------------------------------------------------------------------


def test_every_verb_takes_a_scenario_and_overrides_change_it():
    asked = palm()
    longer = run(asked, overrides=["workload.context=4096"])
    assert longer.step_s > run(asked).step_s and longer.asked.workload.context == 4096
    rows = ts.sweep(asked, {"workload.batch": [64, 128]}, jobs=1)
    assert [row["error"] for row in rows] == [None, None] and rows[0]["step_s"] == run(asked).step_s
    draws = ts.draw_faults(asked, draws=3, slow=[(1, 0.5)], jobs=1, overrides=["workload.tokens=1"])
    assert draws.base_s == pytest.approx(run(asked, overrides=["workload.tokens=1"]).step_s, rel=1e-12)


def test_a_scenario_without_a_layout_is_planned_and_its_best_is_a_file_too(tmp_path):
    asked = palm(layout=None)
    found = plan(asked)
    (tmp_path / "best.yaml").write_text(found.best.to_yaml())
    assert run(tmp_path / "best.yaml").step_s == run(found.best).step_s == found.pick.keys["step_s"]
    assert run(found.best, overrides=["workload.tokens=1"]).step_s > 0


def test_what_does_not_fit_is_refused_when_it_is_run_and_not_before():
    asked = palm(layout=None, topology=ts.torus((7,), bandwidth=45e9, latency=1e-6))
    with pytest.raises(ScenarioError) as caught:
        run(asked)
    assert caught.value.mistakes


@pytest.mark.parametrize("change, path, code", [
    ({"chip": "tpu-v44"}, ("chip",), "unknown-name"), ({"model": object()}, ("model",), "value"),
    ({"topology": nx.DiGraph()}, ("topology", "network"), "missing"),
    ({"topology": star(nx.Graph)}, ("topology", "network"), "missing"),
    ({"topology": nx.path_graph(3)}, ("topology",), "topology"), ({"workload": {1: 2}}, ("workload",), "value"),
    ({"topology": {"graph": ts.torus((2, 2), bandwidth=1e9, latency=0.0), "routing": print}}, ("topology", "routing"), "value")])
def test_a_mistake_of_python_is_told_with_its_path(change, path, code):
    with pytest.raises(ScenarioError) as caught:
        palm(**change)
    assert [(m.path, m.code) for m in caught.value.mistakes] == [(path, code)], caught.value


def test_a_function_as_the_routing_of_a_graph_is_refused_with_what_would_do():
    graph = ts.torus((2, 2), bandwidth=45e9, latency=1e-6)
    graph.graph["routing"] = lambda *_: None
    with pytest.raises(ScenarioError, match="module:function"):
        palm(topology=graph)


# -- results show themselves -----------------------------------------------------------------------------------------------


class Sound(HTMLParser):
    """Every element that is opened is closed, in order; `text`: what is said."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.names = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.names.append(tag)
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


HOSTILE = "</div><script>alert(1)</script> & <b>"


@pytest.mark.parametrize("make", [lambda: run(palm(name=HOSTILE)), lambda: plan(palm(name=HOSTILE)),
                                  lambda: run(palm(name=HOSTILE)).timeline,
                                  lambda: run(ts.Scenario(chip="ideal", topology={"shape": [4]}, program=GATHER, name=HOSTILE))],
                         ids=["result", "plan", "timeline", "program"])
def test_html_is_sound_and_nothing_of_a_name_is_markup(make):
    found = Sound(make()._repr_html_())
    assert found.names and "script" not in found.names and found.names.count("b") <= 1


def test_the_html_of_a_result_has_its_numbers():
    result = run(palm())
    text = " ".join(Sound(result._repr_html_()).text)
    for seconds in (*result.breakdown_s.values(), *(one["step_s"] for key, one in result.estimate.items() if key != "unlooped")):
        assert ts.display.show(seconds, "s") in text


def test_the_pictures_of_a_result_are_those_of_the_command_line(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from torussim.cli import cli
    from torussim.plot import defaults, encode

    monkeypatch.chdir(tmp_path)
    asked = palm()
    (tmp_path / "s.yaml").write_text(asked.to_yaml())
    assert CliRunner().invoke(cli, ["run", "s.yaml"]).exit_code == 0
    result = run(asked)
    with defaults():
        assert (tmp_path / "out/four-chips/timeline.png").read_bytes() == encode(result.plot(), "png")
        assert (tmp_path / "out/four-chips/links.png").read_bytes() == result.links()._repr_png_()
    assert result.plot(chips=[(0, 0)]).axes


def test_a_result_without_its_scenario_or_links_says_what_it_lacks():
    result = run(palm())
    with pytest.raises(TorusSimError, match=r"take one that torussim\.run returned"):
        replace(result, asked=None).plot()
    bare = replace(result, keys={"chips": 4})
    with pytest.raises(AttributeError, match="'links'"):
        bare.links()


def test_tables_of_pandas_have_the_numbers_of_the_result(monkeypatch):
    pytest.importorskip("pandas")
    result = run(palm())
    operations, timeline, links = (result.to_frame(what) for what in ("operations", "timeline", "links"))
    assert operations["name"].tolist() == [one["name"] for one in result.operations]
    assert timeline["end_s"].max() == pytest.approx(result.timeline.finish.max(), rel=1e-12)
    assert links["bytes"].sum() == result.timeline.link_bytes.sum() and len(links) == 8
    assert len(plan(palm(layout=None)).to_frame()) > 5
    with pytest.raises(TorusSimError) as caught:
        result.to_frame("link")
    assert caught.value.code == "unknown-name"


def test_without_pandas_a_table_says_how_to_get_it(monkeypatch):
    there = builtins.__import__

    def lacking(name, *given, **named):
        if name == "pandas":
            raise ImportError(name)
        return there(name, *given, **named)
    result = run(palm())
    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(TorusSimError, match="pip install"):
        result.to_frame()


def test_the_example_of_the_page_on_graph_files_runs_and_its_yaml_is_the_same_scenario(capsys):
    page = (ROOT / "docs" / "graph_files.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    names: dict[str, object] = {}
    exec(block, names)
    written = capsys.readouterr().out.partition("name: scenario")
    document = parse(f"name: scenario{written[2]}", "written.yaml")
    assert document.value["topology"]["kind"] == "graph"
    assert read_document(document, ROOT).resolved == names["asked"].resolved
