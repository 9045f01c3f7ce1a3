"""Networks by name: sizes by formula, the contract, routes and scenarios; a new builder joins by being in NETWORKS."""

import inspect
import re
from math import ceil
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import torussim
import torussim.topology
from torussim import run
from torussim.errors import ScenarioError, TopologyError
from torussim.scenario import load, named
from torussim.topology.check import check_topology, read_links
from torussim.topology.grid import grid
from torussim.topology.named import NETWORKS
from torussim.topology.placing import arranged
from torussim.topology.routing import routes

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "networks.md").read_text()
W = 50e9
GATHER = [{"name": "a", "collective": "all_gather", "axes": "x", "bytes": 1e6}]
SIZES = {  # of each network: keywords, chips, switches, cables, links between the chips that are farthest apart
    "switch": [({"chips": 8}, 8, 1, 8, 2), ({"chips": 2, "sums": True}, 2, 1, 2, 2)],
    "fully_connected": [({"chips": 8}, 8, 0, 28, 1), ({"chips": 2}, 2, 0, 1, 1)],
    "hypercube": [({"dimensions": 4}, 16, 0, 32, 4), ({"dimensions": 1}, 2, 0, 1, 1)],
    "hyperx": [({"shape": [3, 4]}, 12, 12, 12 + 4 * 3 + 3 * 6, 4), ({"shape": [3, 2], "chips": 2}, 12, 6, 12 + 2 * 3 + 3, 4)],
    "fat_tree": [({"down": [4, 4]}, 16, 8, 32, 4), ({"down": [4, 4], "oversubscription": 4}, 16, 5, 20, 4),
                 ({"down": [2, 3, 4]}, 24, 12 + 8 + 2 * 3, 24 * 3, 6), ({"chips": 16, "radix": 4, "levels": 3}, 16, 20, 48, 6)],
    "dragonfly": [({"routers": 4, "chips": 2, "global_links": 2}, 72, 36, 72 + 9 * 6 + 36, 5),
                  ({"routers": 2, "chips": 1, "global_links": 1, "groups": 2}, 4, 4, 4 + 2 + 2, 4)],
    "gpu_nodes": [({"nodes": 4}, 32, 4 + 32 + 8 + 4, 32 * 3 + 32, 6), ({"nodes": 3, "gpus": 4, "nics": "node"}, 12, 7, 27, 4),
                  ({"nodes": 4, "gpus": 4, "fabric": "fat_tree", "leaf": 4}, 16, 4 + 16 + 4 + 4, 16 * 4, 6),
                  ({"nodes": 1}, 8, 9, 16, 2)],
    "nvl72": [({}, 72, 18, 72 * 18, 2)],
    "boardfly": [({"groups": 1, "board_links": 4}, 32, 0, 48 + 28 * 4, 2),
                 ({"groups": 36}, 1152, 0, 36 * (8 * 6 + 28) + 36 * 35 // 2, 7),
                 ({"groups": 4, "group_links": 32}, 128, 0, 4 * (48 + 28) + 6 * 32, 4)],
    "multislice": [({"slices": 2, "shape": [4, 4]}, 32, 9, 64 + 32 + 8, 4)],
}
CASES = [(name, *case) for name, cases in SIZES.items() for case in cases]


def built(name, **keywords):
    made = {"bandwidth": W, "latency": 1e-6} if name != "nvl72" else {}
    return NETWORKS[name](**{**made, **keywords})


def chips(graph):
    return [node for node, chip in graph.nodes(data="chip", default=True) if chip]


def bisection(graph, half):
    """Return the bandwidth from the chips for which `half` is true to the others, bytes/s: a maximum flow."""
    flow = nx.DiGraph()
    flow.add_edges_from((a, b, {"capacity": link["bandwidth"]}) for a, b, link in graph.edges(data=True))
    flow.add_edges_from(("from", chip) if half(chip) else (chip, "to") for chip in chips(graph))
    return nx.maximum_flow_value(flow, "from", "to")


def test_every_network_by_name_has_sizes_here():
    assert set(SIZES) == set(NETWORKS)


@pytest.mark.parametrize("name, keywords, count, switches, cables, diameter", CASES)
def test_a_network_has_the_size_that_its_formula_says(name, keywords, count, switches, cables, diameter):
    graph = built(name, **keywords)
    check_topology(graph)
    there = chips(graph)
    assert (len(there), len(graph) - len(there), graph.number_of_edges()) == (count, switches, 2 * cables)
    assert nx.is_strongly_connected(graph)
    distance = dict(nx.all_pairs_shortest_path_length(graph))
    assert max(distance[a][b] for a in there for b in there) == diameter
    assert all(graph.edges[a, b] == graph.edges[b, a] for a, b in graph.edges)
    assert all(graph.nodes[node]["level"] >= 1 for node in graph if node not in set(there))


@pytest.mark.parametrize("name, keywords", [case[:2] for case in CASES if case[2] <= 128])
def test_collectives_run_on_every_network_and_never_beat_the_bound(name, keywords):
    axes = built(name, **keywords).graph["axes"]
    longest = max(axes, key=axes.__getitem__)
    program = [{"name": kind, "collective": kind, "axes": longest, "bytes": "8 MB"}
               for kind in ("all_gather", "reduce_scatter", "all_reduce", "all_to_all")]
    result = run({"chip": "ideal", "topology": {"kind": name, **({} if name == "nvl72" else {"bandwidth": W}), **keywords},
                  "program": program})
    assert result.makespan_s > 0
    for operation in result.keys["operations"]:
        assert operation["end_s"] - operation["start_s"] >= operation["bound_s"] * (1 - 1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_can_be_asked_for_by_its_name_and_its_keys_are_the_parameters_of_its_builder(name):
    assert getattr(torussim, name) is getattr(torussim.topology, name) is NETWORKS[name]
    parameters = inspect.signature(NETWORKS[name]).parameters
    assert set(parameters) <= set(named.form(name)) and all(named.reader(one) for one in parameters)
    row, = re.findall(rf"^\| `{name}` \|.*$", PAGE, re.M)
    assert set(parameters) - {"bandwidth", "latency"} <= set(re.findall(r"`(\w+)`", row))
    made = load({"chip": "ideal", "topology": {"kind": name, **SIZES[name][0][0]}, "program": GATHER})
    again = load(made.resolved)
    defaults = ("as one", "by the rule of")  # of the chip: the record gives them as numbers
    assert again.resolved == made.resolved
    assert again.notes == tuple(note for note in made.notes if not any(words in note for words in defaults))
    assert nx.utils.graphs_equal(again.topology, made.topology)


# -- laws of single networks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("down", [[4, 4], [4, 2, 2]])
def test_the_bisection_of_a_fat_tree_is_what_its_oversubscription_leaves(down, ratio):
    graph = built("fat_tree", down=down, oversubscription=ratio)
    assert bisection(graph, lambda chip: chip[0] < 8) == pytest.approx(8 * W / ratio)
    flow = nx.DiGraph([(a, b, {"capacity": x["bandwidth"]}) for a, b, x in graph.edges(data=True)])
    inside = nx.maximum_flow_value(flow, (0,), (1,))
    assert inside == pytest.approx(W)


def test_other_bisections_are_those_of_the_formulas():
    assert bisection(built("hypercube", dimensions=5), lambda chip: chip[0] == 0) == pytest.approx(16 * W)
    assert bisection(built("fully_connected", chips=8), lambda chip: chip[0] < 4) == pytest.approx(16 * W)
    assert bisection(built("switch", chips=8), lambda chip: chip[0] < 4) == pytest.approx(4 * W)
    assert bisection(built("nvl72"), lambda chip: chip[0] < 36) == pytest.approx(36 * 18 * W)
    assert bisection(built("gpu_nodes", nodes=4, nic_bandwidth=10e9), lambda chip: chip[0] < 2) == pytest.approx(16 * 10e9)
    shared = built("gpu_nodes", nodes=4, nics="node", nic_bandwidth=10e9)
    assert bisection(shared, lambda chip: chip[0] < 2) == pytest.approx(2 * 10e9)
    assert bisection(built("boardfly", groups=4, group_links=2), lambda chip: chip[0] < 2) == pytest.approx(2 * 4 * W)
    slices = built("multislice", slices=2, shape=[4], dcn_bandwidth=3e9)
    assert bisection(slices, lambda chip: chip[0] == 0) == pytest.approx(3e9)


@pytest.mark.parametrize("sizes", [(4, 2, 2, None), (4, 1, 2, 5), (3, 2, 3, None), (2, 2, 2, 3)])
def test_routes_on_a_dragonfly_have_at_most_one_global_link_and_leave_a_group_only_to_go_to_another(sizes):
    routers, per_router, global_links, groups = sizes
    graph = built("dragonfly", routers=routers, chips=per_router, global_links=global_links, groups=groups)
    links = read_links(graph)
    n = len(links.chips)
    source, target = np.divmod(np.arange(n * n), n)
    found = routes(links, "shortest", source, target)
    every = links.edges(np.ones(len(links.source), bool))
    crossing = np.array([graph.nodes[a]["group"] != graph.nodes[b]["group"] for a, b in every])
    crossed = found.load(np.ones(n * n), len(links.source))  # of all messages
    assert crossing.any() and crossed.sum() > 0
    path = np.repeat(np.arange(n * n), np.diff(found.first))
    over = np.bincount(path, found.share * crossing[found.link], n * n)
    other = links.coordinates[0, source] != links.coordinates[0, target]
    assert over == pytest.approx(other.astype(float))
    assert (np.bincount(path, found.share, n * n) <= 5 + 1e-9).all()


def test_every_router_of_a_dragonfly_has_the_links_that_its_radix_says():
    graph = built("dragonfly", routers=8, chips=4, global_links=4)
    assert len(chips(graph)) == 1056
    assert {graph.out_degree(node) for node in graph if isinstance(node, str)} == {4 + 7 + 4}


def test_chips_of_a_boardfly_share_its_links_evenly():
    graph = built("boardfly")
    degree = [graph.out_degree(chip) for chip in chips(graph)]
    assert set(degree) <= {3 + 1 + 1, 3 + 1 + 2, 3 + 2 + 1, 3 + 2 + 2}
    assert sum(degree) == graph.number_of_edges()


def test_messages_inside_a_slice_stay_on_its_torus():
    graph = built("multislice", slices=2, shape=[4, 6], wrap=False)
    links = read_links(graph)
    inside = np.flatnonzero(links.coordinates[0] == 0)
    source, target = (column.ravel() for column in np.meshgrid(inside, inside))
    used = np.unique(routes(links, "shortest", source, target).link)
    assert (links.target[used] < len(links.chips)).all()


def test_a_rail_joins_the_same_gpu_of_all_nodes_by_one_leaf():
    graph = built("gpu_nodes", nodes=4)
    assert nx.shortest_path_length(graph, (0, 3), (2, 3)) == 4 and nx.shortest_path_length(graph, (0, 3), (2, 4)) == 6
    plain = built("gpu_nodes", nodes=8, fabric="fat_tree", leaf=16)
    assert nx.shortest_path_length(plain, (0, 3), (1, 4)) == 4 and nx.shortest_path_length(plain, (0, 3), (2, 3)) == 6


def test_a_leaf_of_gpu_nodes_has_as_much_bandwidth_up_as_down_over_its_oversubscription():
    graph = built("gpu_nodes", nodes=4, fabric="fat_tree", leaf=8, oversubscription=3, nic_bandwidth=9e9)
    up = sum(link["bandwidth"] for _, to, link in graph.out_edges("leaf 0", data=True) if str(to).startswith("spine"))
    assert up == pytest.approx(8 * 9e9 / 3) and graph.out_degree("leaf 0") == 8 + ceil(8 / 3)


# -- what cannot be built -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, keywords, said", [
    ("switch", {"chips": 0}, "chips 0 is not possible; the nearest is 1"),
    ("switch", {"chips": 4, "bandwidth": 0}, "bandwidth 0 is no finite number above 0"),
    ("switch", {"chips": 4, "latency": -1.0}, "latency -1.0 is no finite number 0 or more"),
    ("fully_connected", {"chips": 10**5}, "4,999,950,000 cables"),
    ("hypercube", {"dimensions": 40}, "dimensions 40 is not possible: a network has at most 1,000,000 chips; the nearest is 19"),
    ("hyperx", {"shape": 4}, "shape 4 is no list of whole numbers"),
    ("fat_tree", {"down": [16, 8], "radix": 24}, "radix 24 is not possible: a leaf switch needs 32 ports"),
    ("fat_tree", {"chips": 1000, "radix": 16}, "at most 128 in 2 levels; the nearest is 128, or give levels: 3"),
    ("fat_tree", {"chips": 61, "radix": 16}, "chips 61 do not divide into leaves of at most 8; the nearest is 64"),
    ("fat_tree", {"chips": 4, "radix": 16}, "give kind: switch"),
    ("fat_tree", {"down": [4]}, "has 1 levels"), ("fat_tree", {}, "needs down"),
    ("fat_tree", {"chips": 64, "radix": 8, "levels": 4}, "levels 4 is not possible; the nearest is 3"),
    ("fat_tree", {"down": [4, 4], "chips": 8}, "has 16 chips, but chips is 8"),
    ("fat_tree", {"down": [4, 4], "oversubscription": 0}, "oversubscription 0 is no number above 0"),
    ("fat_tree", {"down": [4, 4], "oversubscription": [1, 2]}, "has 2 values, but 2 levels have 1"),
    ("dragonfly", {"routers": 4, "chips": 2, "global_links": 2, "groups": 12},
     "groups 12 is not possible: 4 routers with 2 global links reach 8 other groups; the nearest is 9"),
    ("gpu_nodes", {"nodes": 2, "gpus": 6}, "gpus 6 is not possible: a node has 4 or 8 GPUs; the nearest is 4"),
    ("gpu_nodes", {"nodes": 2, "fabric": "star"}, "fabric 'star' is not one of rail, fat_tree"),
    ("boardfly", {"groups": 40},
     "groups 40 is not possible: optical switches join at most 36 groups, 1152 chips; the nearest is 36"),
    ("multislice", {"slices": 2, "shape": [3, 3]},
     "host_chips 4 is not possible: 9 chips of a slice have no whole number of such hosts; the nearest is 3"),
])
def test_what_cannot_be_built_is_refused_with_the_nearest_that_can(name, keywords, said):
    with pytest.raises(TopologyError) as caught:
        built(name, **keywords)
    assert said in str(caught.value)


def refused(**topology):
    with pytest.raises(ScenarioError) as caught:
        load({"chip": "ideal", "topology": topology, "program": GATHER})
    mistake, = caught.value.mistakes
    return mistake


@pytest.mark.parametrize("topology, path, code, said", [
    ({"kind": "switch"}, ("chips",), "missing", "a switch lacks 'chips': give chips: 8, or shape: [8]"),
    ({"kind": "switch", "shape": [8], "mesh": [2, 4]}, ("mesh",), "clash", "leave one out"),
    ({"kind": "switch", "chips": 9, "shape": [8]}, ("shape",), "topology", "the mesh [8] has 8 chips, but the network has 9"),
    ({"kind": "gpu_nodes", "nodes": 2, "mesh": [3, 5]}, ("mesh",), "topology", "has 15 chips, but the network has 16"),
    ({"kind": "gpu_nodes"}, ("nodes",), "missing", "a gpu_nodes lacks 'nodes'"),
    ({"kind": "gpu_nodes", "nodes": 2, "gpus": 5}, ("gpus",), "topology", "gpus 5 is not possible"),
    ({"kind": "gpu_nodes", "nodes": 2, "gpu": 8}, ("gpu",), "unknown-key", "of a gpu_nodes: did you mean 'gpus'?"),
    ({"kind": "hypercube", "dimensions": 2, "shape": [4]}, ("shape",), "unknown-key", "'shape' is not a key of a hypercube"),
    ({"kind": "switch", "chips": 4, "bandwidth": "50 s"}, ("bandwidth",), "quantity", "is a time, not a bandwidth"),
    ({"kind": "boardfly", "groups": 37}, ("groups",), "topology", "the nearest is 36"),
    ({"kind": "switch", "shape": [4], "order": [0, 1, 1, 2]}, ("order", 2), "duplicate", "the chip [1] twice"),
    ({"kind": "switch", "shape": [4], "order": [0, 1, 2]}, ("order",), "topology", "lacks 1 of 4 chips, such as [3]"),
    ({"kind": "switch", "shape": [4], "order": [0, 1, 2, 9]}, ("order", 3), "unknown-name", "has 9, which is no chip"),
    ({"kind": "switch", "shape": [4], "order": [0, 1, 2, -1]}, ("order", 3), "value", "'-1' is not a whole number"),
])
def test_a_mistake_in_a_network_by_name_is_one_message_at_its_place(topology, path, code, said):
    mistake = refused(**topology)
    assert (mistake.path[1:], mistake.code) == (path, code) and said in mistake.text


# -- scenarios ----------------------------------------------------------------------------------------------------------


def test_by_default_a_chip_has_all_its_links_where_the_network_gives_it_one():
    made = load({"chip": "h100", "topology": {"kind": "switch", "shape": [8]}, "program": GATHER})
    assert set(made.net.links.bandwidth) == {450e9} and set(made.net.links.latency) == {made.chip.link_latency}
    assert any("450 GB/s: all 18 links of h100" in note for note in made.notes)


def test_the_report_says_in_which_order_the_chips_are_and_that_bandwidths_of_a_boardfly_are_assumed():
    made = load({"chip": "ideal", "topology": {"kind": "gpu_nodes", "nodes": 2, "mesh": [4, 4]}, "program": GATHER})
    assert "chips on the logical mesh x 4, y 4: node by node" in made.notes
    inside = {made.topology.nodes[chip]["group"] for chip in made.net.chips if chip[0] < 2}
    assert inside == {0}  # node-major
    assert any("assumed" in note for note in built("boardfly", groups=1).graph["notes"])


def test_slices_have_the_wraparounds_of_their_chip_unless_the_file_says_otherwise():
    given = {"chip": "tpu-v4", "topology": {"kind": "multislice", "slices": 2, "shape": [2, 2, 4]}, "program": GATHER}
    made = load(given)
    assert made.net.ring == (False,) * 4 and "wraparounds on no axis (by the rule of tpu-v4)" in made.notes
    assert load(given, ["topology.wrap=true"]).net.ring == (False, False, False, True)


def test_an_order_puts_chips_where_it_says():
    graph = arranged(built("gpu_nodes", nodes=2, gpus=4), [2, 4], [[1, 3], [1, 2], [1, 1], [1, 0], 0, 1, 2, 3])
    assert [graph.nodes[chip]["group"] for chip in ((0, 0), (0, 3), (1, 0), (1, 3))] == [1, 1, 0, 0]
    assert graph.has_edge((0, 0), "nic 1 3") and graph.has_edge((1, 3), "nic 0 3")
    assert grid(graph).notes[0].endswith("in the order given")


def seconds(collective, bytes_, axes="x", **topology):
    return run({"chip": "ideal", "topology": topology, "program": [
        {"name": "a", "collective": collective, "axes": axes, "bytes": bytes_}]}).makespan_s


def test_one_switch_of_eight_chips_takes_what_two_lines_of_arithmetic_say():
    switch = {"kind": "switch", "shape": [8], "bandwidth": W}
    assert seconds("all_reduce", 100e6, **switch) == pytest.approx(2 * 7 / 8 * 100e6 / W)
    assert seconds("all_gather", 100e6, **switch) == pytest.approx(7 / 8 * 100e6 / W)


@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_a_ring_on_a_fat_tree_of_full_bisection_is_one_on_private_links_and_else_slower_by_what_the_cut_says(ratio):
    """Of a ring over leaves of 4 one message each way crosses; on the axis between leaves all 4 chips of a leaf send at once."""
    tree = {"kind": "fat_tree", "down": [4, 4], "bandwidth": W, "oversubscription": ratio}
    assert seconds("all_gather", 100e6, **tree) == pytest.approx(15 / 16 * 100e6 / W)
    across = seconds("all_gather", 100e6, **tree, mesh=[4, 4])
    assert across == pytest.approx(3 / 4 * 100e6 / W * ratio)


def test_a_hypercube_is_a_torus_of_twos():
    cube = {"kind": "hypercube", "dimensions": 3, "bandwidth": W}
    torus = {"kind": "torus", "shape": [2, 2, 2], "bandwidth": W}
    for kind in ("all_gather", "all_reduce", "all_to_all"):
        assert seconds(kind, 100e6, "xyz", **cube) == pytest.approx(seconds(kind, 100e6, "xyz", **torus))
