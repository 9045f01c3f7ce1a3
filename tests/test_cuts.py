"""Cuts where there are switches: exact on small networks, on large ones never narrower than the narrowest."""

from itertools import combinations
from random import Random

import networkx as nx
import numpy as np
import pytest

from torussim import cuts
from torussim.cuts import Wires, neighbourhoods, out_of, out_of_each, out_to_members


def drawn(seed):
    """Return a random network of chips and switches as numbers, and its wires; it need not be connected."""
    rng = Random(seed)
    chips, switches = rng.randint(2, 6), rng.randint(0, 6)
    nodes = range(chips + switches)
    pairs = {tuple(rng.sample(nodes, 2)) for _ in range(rng.randint(1, 4 * len(nodes)))}
    graph = nx.DiGraph((u, v, {"capacity": rng.choice((1.0, 2.0, rng.uniform(0.1, 5)))}) for u, v in sorted(pairs))
    graph.add_nodes_from(nodes)
    return graph, wires(graph, chips)


def wires(graph, chips):
    source, target, width = (np.array(column) for column in zip(*graph.edges(data="capacity"), strict=True))
    return Wires(chips, len(graph), source, target, width)


def narrowest(graph, chips, inside):
    """Return the least bandwidth out of a set of chips to the other chips, by a search of all sides of the switches."""
    switches = [node for node in graph if node >= chips]
    ways = [{*inside, *some} for n in range(len(switches) + 1) for some in combinations(switches, n)]
    return min(sum(c for u, v, c in graph.edges(data="capacity") if u in way and v not in way) for way in ways)


def sets_of(chips):
    return [set(some) for n in range(1, chips) for some in combinations(range(chips), n)]


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_out_of_a_set_of_chips_there_is_the_narrowest_cut_or_another_one(seed, exact, monkeypatch):
    graph, net = drawn(seed)
    if not exact:
        monkeypatch.setattr(cuts, "EXACT", 0)
    chosen = sets_of(net.chips)
    inside = np.array([[float(chip in one) for chip in range(net.chips)] for one in chosen])
    for way, links in ((net, graph), (net.back, graph.reverse())):
        got = out_of(way, np.arange(net.chips), inside)
        least = [narrowest(links, net.chips, one) for one in chosen]
        if exact:
            assert got == pytest.approx(least, rel=1e-9, abs=1e-12)
        assert (got >= np.array(least) * (1 - 1e-9)).all()
        assert (got <= [sum(c for u, _, c in links.edges(data="capacity") if u in one) + 1e-9 for one in chosen]).all()


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("seed", range(60))
def test_out_of_each_block_there_is_a_cut_between_the_narrowest_and_all_its_links(seed, large, monkeypatch):
    graph, net = drawn(seed)
    monkeypatch.setattr(cuts, "PLACED", 0 if large else cuts.PLACED)
    block = np.sort(np.array([Random(seed).randrange(3) for _ in range(net.chips)]))
    block = np.unique(block, return_inverse=True)[1]
    got = out_of_each(net, block)
    for number, rate in enumerate(got):
        own = set(np.flatnonzero(block == number).tolist())
        least = narrowest(graph, net.chips, own)
        every = sum(c for u, v, c in graph.edges(data="capacity") if u in own and v not in own)
        assert rate == pytest.approx(least) or (large and least < rate <= every * (1 + 1e-12))


@pytest.mark.parametrize("seed", range(60))
def test_to_the_other_members_of_its_group_a_chip_has_the_maximum_flow(seed):
    graph, net = drawn(seed)
    group = np.array([Random(seed).randrange(3) for _ in range(net.chips)])
    for chip, rate in enumerate(out_to_members(net, group)):
        members = [c for c in range(net.chips) if c != chip and group[c] == group[chip]]
        whole = graph.copy()
        whole.add_edges_from((c, "end") for c in members)  # no capacity: without limit
        whole.add_node("end")
        assert rate == pytest.approx(nx.maximum_flow_value(whole, chip, "end") if members else np.inf)


def test_members_are_left_out_where_the_network_is_large(monkeypatch):
    monkeypatch.setattr(cuts, "EXACT", 0)
    assert out_to_members(drawn(0)[1], np.zeros(drawn(0)[1].chips, int)) is None


def tree(k, over):
    """Return a three-level fat tree of k**3 chips, tapered above the leaves, and the number of chips."""
    chips, graph = k**3, nx.DiGraph()

    def both(u, v, width):
        graph.add_edge(u, v, capacity=width)
        graph.add_edge(v, u, capacity=width)

    for pod in range(k):
        for one in range(k):
            leaf, middle = chips + pod * k + one, chips + k * k + pod * k + one
            for other in range(k):
                both((pod * k + one) * k + other, leaf, 1.0)
                both(leaf, chips + k * k + pod * k + other, 1 / over)
                both(middle, chips + 2 * k * k + one * k + other, 1 / over)
    return graph, chips


@pytest.mark.parametrize("over", [1.0, 4.0])
@pytest.mark.parametrize("exact", [True, False])
def test_between_pods_and_leaves_of_a_fat_tree_its_uplinks_are_the_cut(over, exact, monkeypatch):
    monkeypatch.setattr(cuts, "EXACT", 1 << 30 if exact else 0)
    k = 4
    graph, chips = tree(k, over)
    net = wires(graph, chips)
    for apart in (k * k, k):  # pods, leaves
        block = np.arange(chips) // apart
        assert out_of_each(net, block) == pytest.approx(apart / over) == out_of_each(net.back, block)
    pods = 1.0 - np.eye(k)
    assert out_of(net, np.arange(chips) // (k * k), pods) == pytest.approx(k * k / over)
    found = [tuple(np.bincount(block)) for block in neighbourhoods(net)]
    assert (k,) * (k * k) in found and (k * k,) * k in found


def test_chips_of_a_node_are_neighbours_by_their_wide_links():
    graph = nx.DiGraph()
    for chip in range(8):
        for switch, width in ((8 + chip // 4, 150.0), (10, 10.0)):
            graph.add_edge(chip, switch, capacity=width)
            graph.add_edge(switch, chip, capacity=width)
    net = wires(graph, 8)
    assert [block.tolist() for block in neighbourhoods(net)] == [[0] * 4 + [1] * 4]
    assert out_of_each(net, np.arange(8) // 4) == pytest.approx(40.0)
