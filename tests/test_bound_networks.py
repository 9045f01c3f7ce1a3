"""The bound on networks with switches: nothing beats it, and only links that can bring something from a member count."""

from dataclasses import replace
from itertools import permutations
from random import Random

import networkx as nx
import numpy as np
import pytest
from scipy.optimize import linprog

from torussim import cuts, lower_bound
from torussim.chips import chip
from torussim.collectives.lower import ALGORITHMS, fits
from torussim.engine.simulate import simulate
from torussim.lower_bound import bound, limits, operation_seconds
from torussim.program import SYMMETRIC, Collective, Program
from torussim.topology.builders import torus
from torussim.topology.grid import grid

IDEAL = chip("ideal")
SHAPES = ((4,), (6,), (2, 2), (2, 3), (4, 2), (2, 2, 2))


def network(shape, links, switches=(), **attributes):
    """Return a network from (node, node, bandwidth of both directions)."""
    graph = nx.DiGraph(axes=dict(zip("xyz", shape, strict=False)), **attributes)
    graph.add_nodes_from(np.ndindex(*shape))
    graph.add_nodes_from(switches, chip=False)
    for u, v, width in links:
        for ends in ((u, v), (v, u)):
            graph.add_edge(*ends, bandwidth=float(width), latency=0.0)
    return graph


def star(count, width, **attributes):
    return network((count,), [((i,), "s", width) for i in range(count)], ["s"], **attributes)


def nodes(count, size, inside, nic, rails=1):
    """Return nodes with a switch each, and a NIC a chip; `rails`: chip i of all nodes on switch i % rails."""
    links = [((a, i), f"n{a}", inside) for a in range(count) for i in range(size)]
    links += [((a, i), f"r{i % rails}", nic) for a in range(count) for i in range(size)]
    return network((count, size), links, [f"n{a}" for a in range(count)] + [f"r{i}" for i in range(rails)])


def drawn(seed):
    """Return a random connected network with switches, whose links differ, some in both directions."""
    rng = Random(seed)
    shape = rng.choice(SHAPES)
    switches = [f"s{i}" for i in range(rng.randint(0, 5))]
    names = [*np.ndindex(*shape), *switches]
    rng.shuffle(names)
    pairs = [(name, names[rng.randrange(i)]) for i, name in enumerate(names) if i]
    pairs += [tuple(rng.sample(names, 2)) for _ in range(rng.randint(0, 12))]
    graph = network(shape, [(u, v, rng.choice((1.0, 2.0, rng.uniform(0.1, 9)))) for u, v in pairs], switches)
    if rng.random() < 0.4:
        for link in graph.edges.values():
            link["bandwidth"] = rng.choice((1.0, rng.uniform(0.1, 9)))
    return graph


def collectives(seed, net):
    """Return one collective for each algorithm, over some of the axes."""
    rng = Random(seed)
    axes = tuple(rng.sample(net.axes, rng.randint(1, len(net.axes))))
    shift = {a: rng.randint(0, net.length(a) - 1) for a in axes}
    chips = int(np.prod([net.length(a) for a in axes]))
    ends = tuple(rng.sample(range(len(net.chips)), 2)) if len(net.chips) > 1 else ()
    return [Collective("c", kind, () if kind == "send" else axes, 100.0, algorithm, shift=shift if kind == "permute" else {},
                       groups=(ends,) if kind == "send" else ())
            for kind in ALGORITHMS for algorithm in fits(Collective("c", kind, axes, 1.0), chips) if kind != "send" or ends]


def large(monkeypatch):
    """Make every network too large for exact cuts, and for all runs."""
    for module in (cuts, lower_bound):
        monkeypatch.setattr(module, "PLACED", 0)
    monkeypatch.setattr(cuts, "EXACT", 0)


def least(graph, kind, axes, size, **more):
    return operation_seconds(Collective("c", kind, tuple(axes), size, **more), graph, IDEAL)


# Nothing beats it

@pytest.mark.parametrize("seed", range(25))
def test_no_algorithm_beats_the_bound_on_networks_with_switches(seed, monkeypatch):
    net = grid(drawn(seed))
    exact, listed = limits(net), collectives(seed, net)
    large(monkeypatch)
    coarse = limits(net)
    for one in listed:
        takes = simulate(Program((one,)), net, IDEAL).makespan
        assert operation_seconds(one, coarse, IDEAL) <= operation_seconds(one, exact, IDEAL) * (1 + 1e-12)
        assert operation_seconds(one, exact, IDEAL) <= takes * (1 + 1e-9), one
    together = Program(tuple(replace(one, name=f"c{i}", after=())
                             for i, one in enumerate(Random(seed).sample(listed, 3))), layers=2)
    assert bound(together, net, IDEAL) <= simulate(together, net, IDEAL).makespan * (1 + 1e-9)


def fastest(graph, demands):
    """Return the least time to route all messages, (source, target) -> bytes, over any paths at any rates: a linear programme."""
    edges = list(graph.edges)
    sources = sorted({s for s, _ in demands})
    columns = len(sources) * len(edges) + 1  # the last is the time
    keep, due = np.zeros((len(sources) * len(graph), columns)), []
    number = {node: i for i, node in enumerate(graph)}
    for k, s in enumerate(sources):
        for e, (u, v) in enumerate(edges):
            keep[k * len(graph) + number[u], k * len(edges) + e] += 1
            keep[k * len(graph) + number[v], k * len(edges) + e] -= 1
        for node in graph:
            sent = sum(size for (a, _), size in demands.items() if a == s) if node == s else 0.0
            due.append(sent - demands.get((s, node), 0.0))
    most = np.tile(np.eye(len(edges)), len(sources))
    most = np.hstack([most, -np.array([[graph.edges[e]["bandwidth"]] for e in edges])])
    cost = np.zeros(columns)
    cost[-1] = 1
    return linprog(cost, A_ub=most, b_ub=np.zeros(len(edges)), A_eq=keep, b_eq=due, method="highs").fun


@pytest.mark.parametrize("seed", range(40))
def test_the_bound_is_never_above_the_best_of_all_ways_to_route_the_messages(seed):
    """All groups at once; where there are no switches too."""
    rng = Random(seed)
    graph = drawn(seed)
    net = grid(graph)
    axes = tuple(rng.sample(net.axes, rng.randint(1, len(net.axes))))
    own = [net.axes.index(a) for a in axes]
    group = {c: tuple(x for i, x in enumerate(c) if i not in own) for c in net.chips}
    size = len(net.chips) // len(set(group.values()))
    exchange = {(a, b): 100.0 / size for a, b in permutations(net.chips, 2) if group[a] == group[b]}
    if exchange:
        assert least(graph, "all_to_all", axes, 100.0) <= fastest(graph, exchange) * (1 + 1e-6)
    shift = {a: rng.randint(0, net.length(a) - 1) for a in axes}
    to = {c: tuple((x + shift.get(a, 0)) % n for x, a, n in zip(c, net.axes, net.shape, strict=True)) for c in net.chips}
    passes = {(c, d): 100.0 for c, d in to.items() if c != d}
    if passes:
        assert least(graph, "permute", axes, 100.0, shift=shift) <= fastest(graph, passes) * (1 + 1e-6)


# It is reached

@pytest.mark.parametrize("count", [2, 3, 8, 16])
def test_on_one_switch_the_ring_is_as_fast_as_the_bound(count):
    """2 (K-1)/K D / w for an all-reduce, half of it for a gather or scatter; the direct all-to-all reaches it."""
    graph = star(count, 50e9)
    one = (count - 1) / count * 100e6 / 50e9
    for kind, times in (("all_reduce", 2), ("all_gather", 1), ("reduce_scatter", 1), ("all_to_all", 1)):
        assert least(graph, kind, "x", 100e6) == pytest.approx(times * one, rel=1e-12)
    direct = Collective("c", "all_to_all", ("x",), 100e6, "direct")
    assert simulate(Program((direct,)), graph, IDEAL).makespan == pytest.approx(one, rel=1e-9)


def test_over_unequal_switches_the_direct_all_to_all_reaches_the_bound():
    graph = network((8,), [((i,), f"s{k}", width) for i in range(8) for k, width in enumerate((125e9, 100e9, 100e9, 125e9))],
                    [f"s{k}" for k in range(4)])
    direct = Collective("c", "all_to_all", ("x",), 100e6, "direct")
    assert operation_seconds(direct, graph, IDEAL) == pytest.approx(7 / 8 * 100e6 / 450e9, rel=1e-12)
    assert simulate(Program((direct,)), graph, IDEAL).makespan == pytest.approx(7 / 8 * 100e6 / 450e9, rel=1e-9)


# Only links that can bring something count

@pytest.mark.parametrize("size", [2, 4, 8])
def test_between_nodes_only_nics_count(size):
    """Each chip of a node takes part in another all-reduce, and all of them leave the node over its NICs."""
    assert least(nodes(2, size, 150e9, 10e9), "all_reduce", "x", 1.6e9) == pytest.approx(1.6e9 / 10e9)
    assert least(nodes(4, size, 150e9, 10e9, rails=size), "all_gather", "x", 1.6e9) == pytest.approx(0.75 * 1.6e9 / 10e9)


def test_inside_a_node_a_nic_counts_that_leads_to_a_member_and_no_other():
    """On one switch for all NICs a message can go out and come back; on rails only by way of the switch of another node."""
    one, rails = (least(nodes(2, 4, 150e9, 10e9, rails), "all_gather", "y", 1e9) for rails in (1, 4))
    assert one == pytest.approx(0.75 * 1e9 / 160e9)
    assert rails == pytest.approx(0.75 * 1e9 / 150e9)


def test_one_nic_a_node_is_no_help_inside_the_node():
    """It leads to other nodes, and nothing comes back but by the same NIC."""
    links = [((a, i), f"n{a}", 150e9) for a in range(2) for i in range(4)]
    links += [((a, 0), "out", 10e9) for a in range(2)]
    graph = network((2, 4), links, ["n0", "n1", "out"])
    assert least(graph, "all_gather", "y", 1e9) == pytest.approx(0.75 * 1e9 / 150e9)
    assert least(graph, "all_gather", "x", 1e9) == pytest.approx(4 * 0.5 * 1e9 / 10e9)


@pytest.mark.parametrize("exact", [True, False])
def test_switches_that_lead_nowhere_count_for_nothing(exact, monkeypatch):
    if not exact:
        large(monkeypatch)
    graph = star(4, 50e9)
    expected = [least(graph, kind, "x", 1e9, shift={"x": 1} if kind == "permute" else {}) for kind in SYMMETRIC]
    for i in range(4):
        graph.add_node(f"own {i}", chip=False)
        graph.add_edge((i,), f"own {i}", bandwidth=1e12, latency=0.0)
        graph.add_edge(f"own {i}", (i,), bandwidth=1e12, latency=0.0)
    found = [least(graph, kind, "x", 1e9, shift={"x": 1} if kind == "permute" else {}) for kind in SYMMETRIC]
    assert found == pytest.approx(expected)


def test_nodes_are_found_where_the_axes_do_not_tell_them():
    """Chips of two nodes in turn along one axis: no run of the axis is a node."""
    links = [((i,), f"n{i % 2}", 150e9) for i in range(8)] + [((i,), "out", 10e9) for i in range(8)]
    graph = network((8,), links, ["n0", "n1", "out"])
    assert least(graph, "all_to_all", "x", 8e9) == pytest.approx(16e9 / 40e9)


def test_a_taper_of_a_fat_tree_is_what_its_cut_says():
    """Two leaves of four chips at 4:1; all-to-all: half of each chip's bytes leave its leaf over one uplink of its width."""
    links = [((a, i), f"l{a}", 50e9) for a in range(2) for i in range(4)] + [(f"l{a}", "top", 50e9) for a in range(2)]
    graph = network((2, 4), links, ["l0", "l1", "top"])
    assert least(graph, "all_to_all", "xy", 100e6) == pytest.approx(4 * 50e6 / 50e9)
    assert least(graph, "all_reduce", "x", 100e6) == pytest.approx(4 * 100e6 / 50e9)


# Switches that sum

def test_where_switches_sum_an_all_reduce_needs_its_vector_into_and_out_of_each_member():
    for kind, plain, sums in (("all_reduce", 3.5e-3, 2e-3), ("all_gather", 1.75e-3, 1.75e-3), ("all_to_all", 1.75e-3, 1.75e-3)):
        assert least(star(8, 50e9), kind, "x", 100e6) == pytest.approx(plain)
        assert least(star(8, 50e9, switches_sum=True), kind, "x", 100e6) == pytest.approx(sums)
    one = star(8, 50e9)
    one.nodes["s"]["sums"] = True
    assert least(one, "all_reduce", "x", 100e6) == pytest.approx(2e-3)
    graph = star(8, 50e9, switches_sum=True)
    graph.edges["s", (3,)]["bandwidth"] = 10e9
    assert least(graph, "all_reduce", "x", 100e6) == pytest.approx(10e-3)
    thin = nodes(2, 4, 150e9, 10e9)
    thin.graph["switches_sum"] = True
    assert least(thin, "all_reduce", "x", 1.6e9) == pytest.approx(0.16), "the cut around a node"


# Tori are as they were

def test_a_torus_has_no_sets_beside_its_runs():
    most = limits(torus((4, 4), bandwidth=1.0))
    assert not most.partitions and most.wires is None
