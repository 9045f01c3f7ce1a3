"""When an axis of a network that is no torus is a ring, which order makes one, and links that count as several hops."""

import random
from itertools import pairwise, permutations, product
from typing import Any

import networkx as nx
import numpy as np
import pytest

from torussim import run
from torussim.scenario import load
from torussim.topology import fully_connected, gpu_nodes, mesh, rings, switch, torus
from torussim.topology.check import read_links
from torussim.topology.grid import grid
from torussim.topology.named import NETWORKS
from torussim.topology.placing import placed
from torussim.topology.rings import hamiltonian_cycle
from torussim.topology.routing import routes

GATHER = [{"name": "a", "collective": "all_gather", "axes": "x", "bytes": 100e6}]
SMALL = {"switch": {"chips": 6}, "fully_connected": {"chips": 5}, "hypercube": {"dimensions": 3},
         "hyperx": {"shape": [3, 3], "chips": 3}, "fat_tree": {"down": [3, 4]},
         "dragonfly": {"routers": 3, "chips": 3, "global_links": 1}, "gpu_nodes": {"nodes": 3, "gpus": 4},
         "nvl72": {"switches": 2},
         "boardfly": {"groups": 2}, "multislice": {"slices": 3, "shape": [3, 4]}}
DGX1 = [(0, 1, 25), (0, 2, 25), (0, 3, 50), (0, 4, 50), (1, 2, 50), (1, 3, 25), (1, 5, 50), (2, 3, 50), (2, 6, 25), (3, 7, 25),
        (4, 5, 25), (4, 6, 25), (4, 7, 50), (5, 6, 50), (5, 7, 25), (6, 7, 50)]
NETS = """
import networkx as nx

def wired(chips, wires):
    graph = nx.DiGraph()
    graph.add_nodes_from((i,) for i in range(chips))
    for a, b, width in wires:
        graph.add_edge((a,), (b,), bandwidth=width * 1e9, latency=0.0)
        graph.add_edge((b,), (a,), bandwidth=width * 1e9, latency=0.0)
    return graph
"""


def wired(wires, chips=None):
    graph = nx.DiGraph()
    graph.add_nodes_from((i,) for i in range(chips or 1 + max(max(a, b) for a, b, _ in wires)))
    for a, b, width in wires:
        for ends in (((a,), (b,)), ((b,), (a,))):
            graph.add_edge(*ends, bandwidth=width * 1e9, latency=0.0)
    return graph


def both(graph, one, other, bandwidth):
    graph.add_edge(one, other, bandwidth=bandwidth, latency=0.0)
    graph.add_edge(other, one, bandwidth=bandwidth, latency=0.0)


# -- the rule -----------------------------------------------------------------------------------------------------------


def tree(seed):
    """Return chips on a random tree of switches, on which each message has one route, and the lengths of its axes."""
    random_ = random.Random(seed)
    lengths = random_.choice([[3], [5], [2, 3], [4, 2], [3, 3]])
    graph = nx.DiGraph(axes=dict(zip("xy", lengths)))
    switches = random_.randint(1, 4)
    for i in range(switches):
        graph.add_node(f"switch {i}", chip=False)
        if i:
            both(graph, f"switch {i}", f"switch {random_.randrange(i)}", random_.choice([1e9, 2e9, 4e9]))
    for chip in product(*map(range, lengths)):
        both(graph, chip, f"switch {random_.randrange(switches)}", random_.choice([2e9, 2e9, 3e9]))
    return graph


def is_ring(graph, axis):
    """Return whether an axis is a ring by the words of the design, from the only path between each two chips."""
    lengths = list(graph.graph["axes"].values())
    if lengths[axis] <= 2:
        return False
    inner, ends = [], []
    for chip in product(*map(range, lengths)):
        for step in (1, -1):
            to = list(chip)
            to[axis] = (chip[axis] + step) % lengths[axis]
            path = nx.shortest_path(graph, chip, tuple(to))
            found = min(graph.edges[hop]["bandwidth"] for hop in pairwise(path)), len(path) - 1
            (ends if abs(to[axis] - chip[axis]) > 1 else inner).append(found)
    (narrow, _), (_, long) = (min(inner), max(inner, key=lambda one: one[1]))
    return all(width >= narrow and hops <= long for width, hops in ends)


def test_on_random_trees_of_switches_an_axis_is_a_ring_when_the_design_says_so():
    answers: list[bool] = []
    for graph in map(tree, range(150)):
        found = grid(graph).ring
        assert found == tuple(is_ring(graph, axis) for axis in range(len(found)))
        answers += found
    assert answers.count(True) > 20 and answers.count(False) > 20


@pytest.mark.parametrize("name", NETWORKS)
def test_chips_that_can_be_exchanged_answer_for_one_another(name, monkeypatch):
    graph = NETWORKS[name](bandwidth=1e9, **SMALL[name])
    quick = grid(graph).ring
    monkeypatch.setattr(rings, "twins", lambda links: np.arange(len(links.chips)))
    assert grid(graph).ring == quick


def test_tori_meshes_and_axes_of_two_keep_their_rules():
    assert grid(torus([4, 2, 3], bandwidth=1e9)).ring == (True, False, True)
    assert grid(mesh([4, 3], bandwidth=1e9)).ring == (False, False)
    dead = mesh([3, 3], bandwidth=1e9)
    dead.remove_edges_from([((0, 0), (1, 0)), ((1, 0), (0, 0))])  # its detour has as many hops as the way back round
    assert grid(dead).ring == (False, False)
    assert grid(switch(2, bandwidth=1e9)).ring == (False,)


def test_every_part_of_an_axis_on_a_switch_is_a_ring():
    assert grid(switch(12, bandwidth=1e9), parts={"x": [3, 4]}).ring == (True, True)
    assert grid(switch(12, bandwidth=1e9), parts={"x": [6, 2]}).ring == (False, True)  # the outer part has two chips


def test_a_narrow_or_long_way_back_leaves_a_line():
    wires = [(0, 1, 50), (1, 2, 50), (2, 3, 50), (3, 0, 49), (0, 2, 1)]
    graph = wired(wires)
    graph.graph["axes"] = {"x": 4}
    assert grid(graph).ring == (False,)
    graph.edges[(3,), (0,)]["bandwidth"] = graph.edges[(0,), (3,)]["bandwidth"] = 50e9
    assert grid(graph).ring == (True,)
    graph.remove_edges_from([((3,), (0,)), ((0,), (3,))])
    assert grid(graph).ring == (False,)


def test_a_users_routing_decides_which_axis_is_a_ring():
    graph = switch(4, bandwidth=1e9)
    assert grid(graph).ring == (True,)

    def back_through_all(graph: Any, source: Any, target: Any) -> Any:
        """Return a way that visits a chip between on the way from the last chip to the first."""
        if {source, target} == {(0,), (3,)}:
            return [source, "switch", (1,), "switch", target]
        return [source, "switch", target]

    graph.graph["routing"] = back_through_all
    assert grid(graph).ring == (False,)


# -- orders -------------------------------------------------------------------------------------------------------------


def exists(near):
    return any(all(b in near[a] for a, b in pairwise((0, *order, 0))) for order in permutations(range(1, len(near))))


def test_a_hamiltonian_cycle_is_found_exactly_where_trying_all_orders_finds_one():
    random_ = random.Random(7)
    answers = []
    for _ in range(200):
        n = random_.randint(3, 7)
        near: list[list[int]] = [[] for _ in range(n)]
        for a in range(n):
            for b in range(a):
                if random_.random() < 0.55:
                    near[a].append(b)
                    near[b].append(a)
        found = hamiltonian_cycle(near)
        assert (found is not None) == exists(near)
        if found is not None:
            assert sorted(found) == list(range(n)) and all(b in near[a] for a, b in pairwise([*found, found[0]]))
        answers.append(found is not None)
    assert 40 < sum(answers) < 160


def test_a_hypercube_of_128_chips_has_a_ring_and_the_petersen_graph_has_none():
    cube = [[i ^ (1 << axis) for axis in range(7)] for i in range(128)]
    found = hamiltonian_cycle(cube)
    assert found is not None and sorted(found) == list(range(128))
    petersen = nx.petersen_graph()
    assert hamiltonian_cycle([sorted(petersen[i]) for i in range(10)]) is None


def test_the_chips_of_a_dgx_1_stand_in_the_order_of_a_ring_of_the_widest_links(tmp_path):
    graph = placed(wired(DGX1), [8])
    assert all(graph.edges[(i,), ((i + 1) % 8,)]["bandwidth"] == 50e9 for i in range(8))
    note, = graph.graph["notes"]
    assert note.startswith("axis x has its chips in the order 0 3 2 1 5 6 7 4, a ring of links of 50 GB/s")
    (tmp_path / "nets.py").write_text(NETS)
    file = tmp_path / "dgx.yaml"
    file.write_text(f'chip: ideal\ntopology: {{kind: "nets:wired", chips: 8, wires: {[list(w) for w in DGX1]}, mesh: [8]}}\n'
                    "program:\n  - {name: gather, collective: all_gather, axes: x, bytes: 100 MB}\n")
    result = run(file)
    assert result.makespan_s == pytest.approx(7 / 8 * 100e6 / 100e9) and note in load(file).notes
    assert run(load(file, ["topology.order=[0, 1, 2, 3, 4, 5, 6, 7]"])).makespan_s > 1.9 * result.makespan_s


@pytest.mark.parametrize("seed", range(8))
def test_names_decide_nothing_a_shuffled_ring_is_found_again(seed):
    random_ = random.Random(seed)
    n = random_.randint(4, 12)
    order = random_.sample(range(n), n)
    wide = [(order[i], order[(i + 1) % n], 50) for i in range(n)]
    pairs = {tuple(sorted(ends[:2])) for ends in wide}
    others = [(a, b, 10) for a in range(n) for b in range(a) if (b, a) not in pairs and random_.random() < 0.3]
    graph = placed(wired(wide + others), [n])
    links = read_links(graph)
    assert grid(graph).ring == (True,)
    assert (links.bandwidth[links.slot[0].ravel()] == 50e9).all()


def test_an_order_of_an_axis_makes_all_its_lines_rings():
    """Two layers of chips wired 0-2-1-3 round, and between them one link a pair: axis y is put in order, x is as it was."""
    graph = nx.DiGraph()
    for layer in range(2):
        for a, b in ((0, 2), (2, 1), (1, 3), (3, 0)):
            both(graph, (layer, a), (layer, b), 1e9)
    for i in range(4):
        both(graph, (0, i), (1, i), 1e9)
    made = placed(graph, [2, 4])
    assert grid(made).ring == (False, True) and not any(grid(made).gaps)


def test_where_no_order_is_found_the_report_says_that_neighbours_are_none():
    star = wired([(0, i, 10) for i in range(1, 5)])
    made = grid(placed(star, [5]))
    note, = made.notes
    assert note.startswith("not all neighbours on axis x are neighbours in the network")
    assert not grid(placed(wired([(i, i + 1, 10) for i in range(4)] + [(0, 2, 10)]), [5])).notes


def test_an_order_that_is_given_is_kept_and_a_ring_of_links_is_left_alone():
    assert "notes" not in placed(wired(DGX1), [8], list(range(8))).graph
    ring = placed(wired([(i, (i + 1) % 6, 10) for i in range(6)] + [(0, 3, 50), (1, 4, 50), (2, 5, 50)]), [6])
    assert "notes" not in ring.graph and ring.has_edge((0,), (1,))
    assert "notes" not in placed(nx.relabel_nodes(bare(gpu_nodes(2, bandwidth=1e9)), {}), [16]).graph


def bare(graph):
    del graph.graph["axes"]
    return graph


# -- links of several hops ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_routes_are_shortest_where_links_count_as_several_hops_and_have_the_latency_of_their_links(seed):
    random_ = random.Random(seed)
    n = random_.randint(4, 8)
    graph = fully_connected(n, bandwidth=1e9, latency=1e-6)
    for edge in graph.edges:
        graph.edges[edge]["hops"] = random_.randint(1, 6)
        graph.edges[edge]["latency"] = float(random_.randint(1, 9))
    links = read_links(graph)
    source, target = np.divmod(np.arange(n * n), n)
    found = routes(links, "shortest", source, target)
    for path, (a, b) in enumerate(zip(source.tolist(), target.tolist())):
        ways = list(nx.all_shortest_paths(graph, (a,), (b,), weight="hops")) if a != b else []
        here = slice(found.first[path], found.first[path + 1])
        wanted: dict[tuple[Any, Any], float] = {}
        for way in ways:
            for hop in pairwise(way):
                wanted[hop] = wanted.get(hop, 0.0) + 1 / len(ways)
        got = {links.edge(link): share for link, share in zip(found.link[here].tolist(), found.share[here].tolist())}
        assert got == pytest.approx(wanted)
        late = [sum(graph.edges[hop]["latency"] for hop in pairwise(way)) for way in ways]
        assert found.latency[path] == max(late, default=0.0)


@pytest.mark.parametrize("name", NETWORKS)
def test_routes_of_chips_that_stand_for_one_another_are_their_own(name):
    """All pairs at once, where few are searched, and each source alone, where all are."""
    graph = NETWORKS[name](bandwidth=1e9, latency=1e-6, **SMALL[name])
    for number, edge in enumerate(graph.edges):
        if graph.nodes[edge[0]].get("chip", True) and number % 7 == 0:
            graph.edges[edge].update(bandwidth=2e9, latency=3e-6)  # some chips are like no others
    links = read_links(graph)
    n = len(links.chips)
    source, target = np.divmod(np.arange(n * n), n)
    source, target = np.concatenate([source, source]), np.concatenate([target, target])
    found = routes(links, "shortest", source, target)
    for begin in range(0, 2 * n * n, n - 1):
        some = slice(begin, begin + n - 1)
        alone = routes(links, "shortest", source[some], target[some])
        for path in range(len(alone)):
            here, there = (slice(one.first[at], one.first[at + 1]) for one, at in ((found, begin + path), (alone, path)))
            got, wanted = ({link: float(share) for link, share in zip(one.link[at].tolist(), one.share[at])}
                           for one, at in ((found, here), (alone, there)))
            assert got == pytest.approx(wanted, rel=1e-12)
        assert (found.latency[some] == alone.latency).all()


@pytest.mark.parametrize("hops", [0, 1.5, "two", 1001, True])
def test_hops_that_make_no_sense_are_refused(hops):
    graph = switch(2, bandwidth=1e9)
    graph.edges[(0,), "switch"]["hops"] = hops
    with pytest.raises(Exception, match="with an invalid hops"):
        read_links(graph)
