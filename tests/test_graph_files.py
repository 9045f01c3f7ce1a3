"""Graph files: what networkx writes is what is read, products of ASTRA-sim are what it says, and mistakes are told."""

import gzip
import json
from itertools import product
from math import prod

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim import load, run
from torussim.errors import FileError, ScenarioError, TopologyError
from torussim.topology.builders import torus
from torussim.topology.check import check_topology
from torussim.topology.graph_files import FORMATS, packed, read_graph, unpacked

GATHER = [{"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "64 MB"}]


def scenario(path, mesh=None, **more):
    topology = {"kind": "file", "path": str(path), **({"mesh": mesh} if mesh else {}), **more}
    return {"name": "a file", "chip": "ideal", "topology": topology, "program": GATHER}


def star(chips=4, kind=nx.Graph):
    graph = kind()
    graph.add_node("switch", chip=False)
    for i in range(chips):
        graph.add_edge(f"gpu{i}", "switch", bandwidth="50 GB/s", latency=1e-6)
        if kind is nx.DiGraph:
            graph.add_edge("switch", f"gpu{i}", bandwidth=50e9, latency="1 us")
    return graph


def write(graph, path, edges="edges"):
    if path.suffix == ".graphml":
        nx.write_graphml(graph, path)
    else:
        path.write_text(json.dumps(nx.node_link_data(graph, edges=edges)))
    return path


def wires(graph):
    """Return the links of a topology as a mapping."""
    return {(u, v): (given["bandwidth"], given["latency"]) for u, v, given in graph.edges(data=True)}


# -- what networkx writes -----------------------------------------------------------------------------------------------


@st.composite
def graphs(draw):
    """Return a graph of chips and switches with numbers on its edges."""
    kind = draw(st.sampled_from([nx.Graph, nx.DiGraph, nx.MultiGraph, nx.MultiDiGraph]))
    nodes = draw(st.lists(st.sampled_from([0, 1, "a", "b 1", "c"]), min_size=2, max_size=5, unique=True))
    graph = kind()
    for node in nodes:
        graph.add_node(node, **({} if draw(st.booleans()) else {"chip": draw(st.booleans())}))
    numbers = st.floats(1, 1e12, allow_nan=False)
    for _ in range(draw(st.integers(1, 8))):
        u, v = draw(st.sampled_from(nodes)), draw(st.sampled_from(nodes))
        if u != v:
            graph.add_edge(u, v, bandwidth=draw(numbers), latency=draw(numbers), **draw(st.sampled_from([{}, {"hops": 3}])))
    return graph


@settings(max_examples=60, deadline=None)
@given(graphs(), st.sampled_from(["edges", "links", "graphml"]))
def test_a_file_of_networkx_has_the_links_and_switches_of_its_graph(tmp_path_factory, graph, how):
    path = write(graph, tmp_path_factory.mktemp("g") / ("net.graphml" if how == "graphml" else "net.json"), edges=how)
    name = str if how == "graphml" else lambda node: node
    wanted = {}
    for u, v, attributes in graph.edges(data=True):
        for ends in {(u, v), (u, v) if graph.is_directed() else (v, u)}:
            old = wanted.get((name(ends[0]), name(ends[1])), (0.0, 0.0))
            wanted[name(ends[0]), name(ends[1])] = old[0] + attributes["bandwidth"], max(old[1], attributes["latency"])
    found = read_graph(path).graph
    assert wires(found).keys() == wanted.keys()
    assert all(wires(found)[ends] == pytest.approx(wanted[ends]) for ends in wanted)
    assert {node for node, chip in found.nodes(data="chip", default=True) if not chip} == {
        name(node) for node, chip in graph.nodes(data="chip", default=True) if not chip}
    long = {name(end) for u, v, attributes in graph.edges(data=True) if "hops" in attributes for end in (u, v)}
    assert long == {end for u, v, attributes in found.edges(data=True) if attributes.get("hops") == 3 for end in (u, v)}
    again = unpacked(json.loads(json.dumps(packed(found))))
    assert list(again.edges(data=True)) == list(found.edges(data=True)) and list(again.nodes) == list(found.nodes)


@pytest.mark.parametrize("kind", [nx.Graph, nx.DiGraph])
@pytest.mark.parametrize("name", ["net.json", "net.graphml"])
def test_a_bandwidth_has_a_unit_or_is_bytes_a_second(tmp_path, kind, name):
    graph = star(kind=kind) if name == "net.json" else star()
    found = read_graph(write(graph, tmp_path / name)).graph
    assert set(wires(found).values()) == {(50e9, 1e-6)} and found.number_of_edges() == 8


def test_a_torus_from_a_file_takes_as_long_as_the_torus(tmp_path):
    write(torus([4, 3], bandwidth=45e9, latency=1e-6), tmp_path / "torus.json")
    plain = {**scenario("x"), "topology": {"kind": "torus", "shape": [4, 3], "bandwidth": 45e9, "latency": 1e-6, "wrap": True}}
    assert run(scenario(tmp_path / "torus.json")).keys["makespan_s"] == run(plain).keys["makespan_s"]


def test_gzip_can_have_packed_a_file(tmp_path):
    plain = write(star(), tmp_path / "net.json")
    (tmp_path / "net.json.gz").write_bytes(gzip.compress(plain.read_bytes()))
    assert wires(read_graph(tmp_path / "net.json.gz").graph) == wires(read_graph(plain).graph)
    assert read_graph(tmp_path / "net.json.gz").sha256 == read_graph(plain).sha256


def test_chips_are_placed_in_the_order_of_their_numbers(tmp_path):
    graph = star(12)
    graph["gpu10"]["switch"]["bandwidth"] = "1 GB/s"
    found = load(scenario(write(graph, tmp_path / "net.json"), [12])).topology
    assert [u for (u, v), (rate, _) in wires(found).items() if rate == 1e9 and v == "switch"] == [(10,)]


# -- the record ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["net.json", "net.graphml", "net.yaml"])
def test_a_record_gives_the_same_result_without_the_file_and_says_if_the_file_changed(tmp_path, name):
    path, mesh = tmp_path / name, None if name == "net.yaml" else [2, 2]
    if name == "net.yaml":
        path.write_text("topology: [Ring, Switch]\nnpus_count: [3, 2]\nbandwidth: [10, 5.5]\nlatency: [1, 20]\n")
    else:
        write(star(), path)
    first = run(scenario(path, mesh))
    recorded = json.loads(json.dumps(first.keys["scenario"]))
    assert recorded["topology"]["sha256"] == read_graph(path).sha256
    path.write_text(path.read_text() + "\n")
    second = run(recorded)
    assert any("changed since" in note for note in second.notes) and not any("changed since" in note for note in first.notes)
    path.unlink()
    third = run(recorded)
    assert third.notes == first.notes
    for other in (second, third):
        assert other.keys["scenario"] == first.keys["scenario"]
        assert {k: v for k, v in other.keys.items() if k != "engine"} == {k: v for k, v in first.keys.items() if k != "engine"}


# -- ASTRA-sim ----------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["Ring", "FullyConnected", "Switch"]), st.integers(1, 5), st.floats(0.5, 500),
                          st.floats(0, 1e4)), min_size=1, max_size=3))
def test_a_product_of_astra_sim_has_a_block_of_each_kind_where_one_coordinate_varies(tmp_path_factory, dimensions):
    path = tmp_path_factory.mktemp("a") / "net.yml"
    keys = ("topology", "npus_count", "bandwidth", "latency")
    path.write_text("\n".join(f"{key}: {json.dumps(list(column))}" for key, column in zip(keys, zip(*dimensions), strict=True)))
    found = read_graph(path)
    assert any("2**30" in said for said in found.said)
    check_topology(found.graph)
    chips = list(product(*(range(length) for _, length, _, _ in dimensions)))
    assert [node for node, chip in found.graph.nodes(data="chip", default=True) if chip] == chips
    links = wires(found.graph)
    for axis, (block, length, rate, delay) in enumerate(dimensions):
        values = (rate * 2**30, pytest.approx(delay * 1e-9))
        for chip in chips:
            others = [(*chip[:axis], at, *chip[axis + 1:]) for at in range(length) if at != chip[axis]]
            near = {chip[axis] - 1, chip[axis] + 1} if length < 3 else {(chip[axis] - 1) % length, (chip[axis] + 1) % length}
            direct = [one for one in others if (chip, one) in links]
            if block == "Switch":
                switches = [v for u, v in links if u == chip and str(v).startswith(f"switch {'xyz'[axis]}")]
                assert not direct and len(switches) == (length > 1)
                assert all(links[chip, one] == links[one, chip] == values for one in switches)
                assert all({u for u, v in links if v == one} == {chip, *others} for one in switches)
            else:
                assert direct == [one for one in others if block == "FullyConnected" or one[axis] in near]
                assert all(links[chip, one] == values for one in direct)
    blocks = {"Ring": lambda n: 2 * n if n > 2 else 2 * (n - 1), "FullyConnected": lambda n: n * (n - 1),
              "Switch": lambda n: 2 * n if n > 1 else 0}
    assert len(links) == sum(len(chips) // length * blocks[block](length) for block, length, _, _ in dimensions)


def test_a_gb_of_astra_sim_is_2_to_the_30_bytes_and_a_latency_is_in_ns(tmp_path):
    (tmp_path / "net.yml").write_text("topology: Ring\nnpus_count: 4\nbandwidth: 50\nlatency: 500\n")
    result = run({**scenario(tmp_path / "net.yml"), "program": [{**GATHER[0], "bytes": 2**30}]})
    assert result.keys["makespan_s"] == pytest.approx(3 / 4 / (2 * 50) + 2 * 500e-9, rel=1e-9)
    assert any("2**30" in note for note in result.notes)


# -- mistakes -----------------------------------------------------------------------------------------------------------


def edge(**attributes):
    return {"source": "a", "target": "b", **attributes}


def net(nodes=({"id": "a"}, {"id": "b"}), edges=(), **more):
    return json.dumps({"directed": False, "multigraph": False, "nodes": list(nodes), "edges": list(edges), **more})


SOUND = edge(bandwidth=1e9, latency=0)
XML = ('<?xml version="1.0"?>{doctype}<graphml><key id="b" for="edge" attr.name="bandwidth" attr.type="double"/>'
       '<graph edgedefault="undirected"><node id="a"/><node id="b"/><edge source="a" target="b">'
       '<data key="b">{value}</data></edge></graph></graphml>')


@pytest.mark.parametrize("name, text, code, words", [
    ("net.json", "<graphml/>", "unreadable", "line 1, column 1: no JSON: Expecting value: it looks like graphml: write format"),
    ("net.graphml", net(), "unreadable", "no XML: not well-formed (invalid token): it looks like node_link"),
    ("net.xml", "<svg/>", "unreadable", "line 1: <svg> is no GraphML"),
    ("net.json", "[1, 2]", "value", "no node-link JSON, which has a list of nodes, and one of edges (or links): it is a list"),
    ("net.json", '{"elements": {}}', "value", "its keys are 'elements'"),
    ("net.json", '{"nodes": [], "edges": [], "links": []}', "value", "it has both edges and links"),
    ("net.json", "[" * 100_000, "unreadable", "cannot be read"),
    ("net.json", net(nodes=[{"name": "a"}]), "missing", 'node 0 has no id: write {"id": 0}'),
    ("net.json", net(nodes=[{"id": "a"}, {"id": "a"}]), "duplicate", "the node 'a' is listed twice"),
    ("net.json", net(nodes=[{"id": float("nan")}]), "value", "nan is not the name of a node"),
    ("net.json", "topology: [Ring]\nnpus_count: [4]", "unreadable", "it looks like astra_sim: write format: astra_sim"),
    ("net.json", net(nodes=[{"id": None}]), "value", "None is not the name of a node"),
    ("net.json", net(edges=[{"source": "a"}]), "missing", "edge 0 has no target"),
    ("net.json", net(edges=[{**SOUND, "target": "c"}]), "topology", "edges lead to 'c', which the file does not list as node"),
    ("net.json", net(edges=[edge(latency=0, capacity=3)]), "topology",
     "1 edge ('a' - 'b') has no bandwidth: give \"50 GB/s\", or a number of bytes/s, or bandwidth under topology for all edges "
     "without one; the attributes of edges here are 'capacity'"),
    ("net.json", net(edges=[edge(bandwidth="50 GB/s")]), "topology", "has no latency: give \"1 us\""),
    ("net.json", net(edges=[edge(bandwidth="fast", latency=0)]), "topology",
     "has a bandwidth of no use: 'fast' is not a bandwidth"),
    ("net.json", net(edges=[edge(bandwidth=0, latency=0)]), "topology", "must be above 0"),
    ("net.json", net(edges=[edge(bandwidth=1, latency=-1)]), "topology", "has a latency of no use"),
    ("net.json", net(edges=[{**SOUND, "hops": 1.5}]), "topology", "has hops 1.5: write a whole number above 0"),
    ("net.json", net(edges=[edge(bandwidth=[1], latency=0)]), "topology", "has a bandwidth of no use"),
    ("net.json", net(edges=[SOUND, {**SOUND, "source": "b", "target": "a"}]), "topology",
     'stand twice: leave one out, or write a multigraph, whose parallel edges are added up, or "directed": true'),
    ("net.json", net(nodes=[{"id": "a", "chip": "no"}, {"id": "b"}], edges=[SOUND]), "topology", "node 'a' has chip 'no'"),
    ("net.graphml", XML.format(doctype='<!DOCTYPE graphml [<!ENTITY e "1e9">]>', value="&e;"), "not-trusted",
     "a document type (<!DOCTYPE) can name entities and other files: leave it out"),
    ("net.graphml", XML.format(doctype='<!DOCTYPE graphml SYSTEM "file:///etc/passwd">', value="1"), "not-trusted", "DOCTYPE"),
    ("net.graphml", XML.format(doctype="", value="fast"), "value", "'fast' is not of the type double of 'bandwidth'"),
    ("net.graphml", XML.format(doctype="", value="1")[:-20], "unreadable", "no XML: unclosed token"),
    ("net.graphml", XML.format(doctype="", value="1").replace("<node id=\"a\"/>", "<hyperedge/>"), "value",
     "<hyperedge> is not read"),
    ("net.graphml", XML.format(doctype="", value="1").replace('key="b"', 'key="c"'), "unknown-name",
     "'c', which no <key> describes"),
    ("net.yml", "topology: [Rign]\nnpus_count: [4]\nbandwidth: [1]\nlatency: [0]", "value", "did you mean 'Ring'?"),
    ("net.yml", "topology: [Ring, Ring]\nnpus_count: [4]\nbandwidth: [0, 1]", "value",
     "latency is missing; npus_count has 1 entries, but topology has 2: give one a dimension; "
     "bandwidth: 0 is not a number of GB/s, above 0"),
    ("net.yml", "topology: [Ring]\nnpus_count: [4.5]\nbandwidth: [true]\nlatency: [.inf]", "value",
     "npus_count: 4.5 is not a whole number"),
    ("net.yml", "topology: [FullyConnected]\nnpus_count: [100000]\nbandwidth: [1]\nlatency: [0]", "value", "links: at most"),
    ("net.yml", "nodes: 4", "value", "no network file of ASTRA-sim, which has the keys topology, npus_count, bandwidth, latency"),
    ("net.yml", "topology: [Ring\n", "syntax", "line 2"),
    ("net.txt", net(), "missing", "does not say what the format is: write format: node_link, graphml or astra_sim"),
])
def test_a_file_that_is_of_no_use_says_why_and_what_would_do(tmp_path, name, text, code, words):
    (tmp_path / name).write_text(text)
    with pytest.raises((FileError, TopologyError)) as caught:
        read_graph(tmp_path / name)
    assert caught.value.code == code and words in str(caught.value)
    with pytest.raises(ScenarioError) as told:
        load(scenario(tmp_path / name, [2]))
    (mistake,) = told.value.mistakes
    assert mistake.code == code and words in mistake.text and mistake.path == ("topology", "path")


def told(topology):
    with pytest.raises(ScenarioError) as caught:
        load({**scenario("x"), "topology": {"kind": "file", **topology}})
    (mistake,) = caught.value.mistakes
    return mistake


@pytest.mark.parametrize("name", ["net.json", "net.graphml"])
def test_the_first_edges_without_a_bandwidth_are_named_and_a_default_under_topology_helps(tmp_path, name):
    graph = nx.Graph((f"n{i}", f"n{i + 1}", {"latency": 0.0}) for i in range(6))
    path = write(graph, tmp_path / name)
    said = "6 edges ('n0' - 'n1', 'n1' - 'n2', 'n2' - 'n3' and 3 more) have no bandwidth"
    assert said in told({"path": str(path), "mesh": [7]}).text
    found = load(scenario(path, [7], bandwidth="2 GB/s")).topology
    assert set(wires(found).values()) == {(2e9, 0.0)}


@pytest.mark.parametrize("names, chips, said", [
    (["hub"], 6, "'hub' seems to be a switch: mark it with chip=False"), (["s0", "s1"], 5, "'s0', 's1' seem to be switches"),
    (["leaf switch 0", "leaf switch 1"], 1, "'leaf switch 0', 'leaf switch 1' seem to be switches")])
@pytest.mark.parametrize("name", ["net.json", "net.graphml"])
def test_switches_that_are_not_marked_are_named_by_their_names_or_their_degree(tmp_path, names, chips, said, name):
    graph = nx.Graph()
    for switch, i in product(names, range(chips)):
        graph.add_edge(f"n{i}", switch, bandwidth=1e9, latency=0.0)
    graph.add_edge("n0", "n99", bandwidth=1e9, latency=0.0)
    mistake = told({"path": str(write(graph, tmp_path / name)), "mesh": [chips + 1]})
    assert said in mistake.text and f"the file has {chips + 1 + len(names)}" in mistake.text
    assert mistake.path == ("topology", "mesh")


def test_a_mesh_that_does_not_fit_says_what_the_file_has(tmp_path):
    path = str(write(star(), tmp_path / "net.json"))
    assert "the mesh [2, 3] has 6 chips, but the file has 4: give lengths" in told({"path": path, "mesh": [2, 3]}).text
    assert "the file gives its 4 chips no axes: write mesh under topology, such as mesh: [4]" in told({"path": path}).text


def test_a_mesh_replaces_the_axes_of_a_file(tmp_path):
    path = write(torus([2, 3], bandwidth=1e9), tmp_path / "torus.json")
    found, whole = load(scenario(path, [6])), load(scenario(path))
    assert found.net.shape == (6,) and whole.net.shape == (2, 3)
    assert nx.is_isomorphic(found.topology, whole.topology)
    assert run(found.resolved).keys["makespan_s"] == run(scenario(path, [6])).keys["makespan_s"]


def test_keys_of_a_graph_file(tmp_path):
    assert told({"mesh": [4]}).code == "missing"
    assert told({"path": "none.json"}).code == "unreadable"
    assert "did you mean 'graphml'?" in told({"path": "net.json", "format": "graphlm"}).text
    with pytest.raises(ScenarioError, match="'shape' is not a key of topology"):
        load({**scenario("net.json"), "topology": {"kind": "file", "path": "net.json", "shape": [4]}})
    assert told({"path": "net.json", "network": {"nodes": 3}, "sha256": "00"}).path == ("topology", "network")


def test_a_file_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    path = write(star(), tmp_path / "net.json")
    monkeypatch.setattr("torussim.files.LIMITS", {"graph": 100})
    with pytest.raises(FileError, match="larger than the 100 B that graph files may have"):
        read_graph(path)
    assert prod(read_graph(path, most=10_000).graph.graph.get("axes", {"x": 1}).values()) == 1


def test_every_format_has_a_suffix_and_can_be_named(tmp_path):
    for name in FORMATS:
        assert told({"path": str(tmp_path / "none"), "format": name}).code == "unreadable"
