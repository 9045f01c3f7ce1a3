"""Where bandwidths differ, a message has the shares of a maximum flow over its shortest paths; else equal ones, as ever."""

from itertools import pairwise
from random import Random
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle_routes import split

from torussim.chips import chip
from torussim.engine.simulate import simulate
from torussim.program import Collective, Program
from torussim.topology.builders import torus
from torussim.topology.check import read_links
from torussim.topology.flows import Networks, maximum_flow, value
from torussim.topology.grid import grid, with_bandwidth
from torussim.topology.routes import joined
from torussim.topology.routing import routes
from torussim.topology.shortest import connected, shortest

WIDTHS = (1.0, 1.0, 2.0, 3.0, 0.5)


def drawn(seed, widths=WIDTHS):
    """Return a random connected network of chips and switches, or a torus."""
    rng = Random(seed)
    if rng.random() < 0.3:
        shape = rng.choice(((4,), (6,), (3, 3), (4, 4), (2, 4), (3, 2, 3)))
        graph = torus(shape, wrap=rng.random() < 0.6, bandwidth=1.0)
    else:
        chips, switches = rng.randint(2, 6), rng.randint(1, 6)
        names = [*((i,) for i in range(chips)), *(f"s{i}" for i in range(switches))]
        graph = nx.DiGraph(axes={"x": chips})
        graph.add_nodes_from(names[:chips])
        graph.add_nodes_from(names[chips:], chip=False)
        pairs = [(name, names[rng.randrange(i)]) for i, name in enumerate(names) if i]
        pairs += [tuple(rng.sample(names, 2)) for _ in range(rng.randint(0, 2 * len(names)))]
        graph.add_edges_from(end for a, b in pairs for end in ((a, b), (b, a)))
    for u, v in sorted(graph.edges, key=str):
        graph.edges[u, v].update(bandwidth=rng.choice(widths), latency=rng.choice((0.0, 1.0, 2.0)))
    return graph


def all_routes(graph):
    """Return {(source, target): (share of each link, latency)} of all pairs of chips."""
    links = read_links(graph)
    source, target = np.divmod(np.arange(len(links.chips) ** 2), len(links.chips))
    found = routes(links, "shortest", source, target)
    made = {}
    for path, (s, t) in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
        here = slice(found.first[path], found.first[path + 1])
        shares = dict(zip(map(links.edge, found.link[here].tolist()), found.share[here].tolist(), strict=True))
        made[links.chips[s], links.chips[t]] = shares, found.latency[path]
    return made


def shortest_links(graph, source, target):
    """Return the network of the links on shortest paths, with their capacities."""
    from_, to = (nx.single_source_shortest_path_length(g, node) for g, node in ((graph, source), (graph.reverse(), target)))
    made = nx.DiGraph()
    made.add_nodes_from((source, target))
    made.add_edges_from((u, v, {"capacity": data["bandwidth"]}) for u, v, data in graph.edges(data=True)
                        if u in from_ and v in to and from_[u] + 1 + to[v] == from_[target])
    return made


def rate(graph, shares):
    """Return what gets through between two chips alone, bytes/s."""
    return min(graph.edges[link]["bandwidth"] / share for link, share in shares.items())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_as_much_gets_through_as_a_maximum_flow_says_and_it_is_a_flow(seed):
    graph = drawn(seed)
    for (s, t), (shares, latency) in all_routes(graph).items():
        if s == t:
            assert not shares
            continue
        net = dict.fromkeys(graph, 0.0)
        for (u, v), share in shares.items():
            net[u] += share
            net[v] -= share
        assert all(abs(due - ((node == s) - (node == t))) < 1e-11 for node, due in net.items())
        ways = shortest_links(graph, s, t)
        assert set(shares) <= set(ways.edges)
        used = nx.DiGraph((u, v, {"weight": graph.edges[u, v]["latency"]}) for u, v in shares)
        assert latency == pytest.approx(nx.dag_longest_path_length(used))
        if len({graph.edges[link]["bandwidth"] for link in ways.edges}) > 1:
            assert rate(graph, shares) == pytest.approx(nx.maximum_flow_value(ways, s, t), rel=1e-9)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_shares_are_those_of_the_rule_written_out_path_by_path(seed):
    graph = drawn(seed)
    for (s, t), (shares, _) in all_routes(graph).items():
        if s != t:
            expected = {}
            for share, path in split(graph, s, t):
                for link in pairwise(path):
                    expected[link] = expected.get(link, 0.0) + share
            assert shares == pytest.approx({link: share for link, share in expected.items() if share > 1e-12}, abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.sampled_from((1e-3, 1.0, 7e10)))
@settings(max_examples=40, deadline=None)
def test_where_the_bandwidths_on_its_paths_are_alike_a_pair_has_equal_shares_to_the_last_bit(seed, width):
    """Links on no shortest path may differ."""
    alike, rng = drawn(seed, (width,)), Random(seed)
    expected = all_routes(alike)
    pair = rng.choice([pair for pair in expected if pair[0] != pair[1]])
    elsewhere = alike.copy()
    own = shortest_links(alike, *pair)
    for link in elsewhere.edges:
        if link not in own.edges:
            elsewhere.edges[link]["bandwidth"] = rng.uniform(1, 9)
    assert all_routes(elsewhere)[pair] == expected[pair]
    ways = list(nx.all_shortest_paths(alike, *pair))
    for link, share in expected[pair][0].items():
        assert share == pytest.approx(sum(link in pairwise(way) for way in ways) / len(ways))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_a_wider_link_never_lowers_what_gets_through_except_where_it_makes_all_links_alike(seed):
    graph, rng = drawn(seed), Random(seed)
    before = all_routes(graph)
    wider = graph.copy()
    wider.edges[rng.choice(sorted(graph.edges, key=str))]["bandwidth"] *= rng.choice((1.1, 2.0, 10.0))
    for (s, t), (shares, _) in all_routes(wider).items():
        if s != t and len({wider.edges[link]["bandwidth"] for link in shortest_links(wider, s, t).edges}) > 1:
            assert rate(wider, shares) >= rate(graph, before[s, t][0]) * (1 - 1e-9)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_the_order_of_nodes_and_links_decides_nothing(seed):
    graph, rng = drawn(seed), Random(seed)
    other = nx.DiGraph(**graph.graph)
    nodes, edges = list(graph.nodes(data=True)), list(graph.edges(data=True))
    rng.shuffle(nodes)
    rng.shuffle(edges)
    other.add_nodes_from(nodes)
    other.add_edges_from(edges)
    one, two = all_routes(graph), all_routes(other)
    for pair, (shares, latency) in one.items():
        assert two[pair][0] == pytest.approx(shares, abs=1e-12) and two[pair][1] == latency


@pytest.mark.parametrize("over", [2.0, 4.0, 0.25])
def test_on_a_fat_tree_of_any_taper_all_shortest_paths_have_equal_shares_to_the_last_bit(over):
    """Three levels of two: all links of a level are alike, so that an equal split is a maximum flow."""
    def tree(up, top):
        graph = nx.DiGraph(axes={"x": 2, "y": 2, "z": 2})
        for pod, i, j in np.ndindex(2, 2, 2):
            for u, v, width in (((pod, i, j), f"leaf {pod} {i}", 1.0), (f"leaf {pod} {i}", f"middle {pod} {j}", up),
                                (f"middle {pod} {i}", f"top {i} {j}", top)):
                graph.add_edge(u, v, bandwidth=width, latency=1e-6)
                graph.add_edge(v, u, bandwidth=width, latency=1e-6)
        nx.set_node_attributes(graph, {node: isinstance(node, tuple) for node in graph}, "chip")
        return all_routes(graph)
    assert tree(1 / over, 1 / over**2) == tree(1.0, 1.0)


def test_a_bandwidth_that_changes_in_mid_run_or_in_a_what_if_changes_no_route():
    graph = torus((3, 3), bandwidth=1.0)
    graph.edges[(0, 0), (0, 1)]["bandwidth"] = 0.5
    expected = all_routes(graph)
    later = graph.copy()
    later.graph["events"] = ((1.0, {((0, 0), (1, 0)): 9.0}),)
    assert all_routes(later) == expected
    net = grid(graph)
    lifted = with_bandwidth(with_bandwidth(net, net.links.bandwidth * 3), np.arange(1.0, 37.0)).links
    source, target = np.divmod(np.arange(81), 9)
    assert (routes(lifted, "shortest", source, target).share == routes(net.links, "shortest", source, target).share).all()


@given(st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=30, deadline=None)
def test_links_without_limit_before_all_links_change_no_shares(seed, alike):
    """Such a link stands for a hop that is none of the network's; where the others are alike, equal shares stay."""
    graph = drawn(seed, (2.0,) if alike else WIDTHS)
    links = read_links(graph)
    count, nodes = len(links.source), len(links.nodes)
    between = nodes + np.arange(count)
    split_up = SimpleNamespace(
        nodes=(*links.nodes, *between.tolist()), chips=links.chips, latency=np.append(links.latency, np.zeros(count)),
        source=np.append(between, links.source), target=np.append(links.target, between),
        routed=np.append(links.bandwidth, np.full(count, np.inf)))
    source, target = np.divmod(np.arange(len(links.chips) ** 2), len(links.chips))
    whole, parts = (joined(shortest(one, source, target)) for one in (links, split_up))
    real = parts.link < count
    path = [np.repeat(np.arange(len(one)), np.diff(one.first)) for one in (whole, parts)]
    by_link = [dict(zip(zip(of.tolist(), link.tolist(), strict=True), share.tolist(), strict=True)) for of, link, share in (
        (path[0], whole.link, whole.share), (path[1][real], parts.link[real], parts.share[real]))]
    assert by_link[0] == (by_link[1] if alike else pytest.approx(by_link[1], abs=1e-9))
    assert (whole.latency == parts.latency).all()


def test_four_switches_share_a_message_as_their_bandwidths():
    graph = nx.DiGraph(axes={"x": 2})
    graph.add_nodes_from([(0,), (1,)])
    for name, width in (("a", 125.0), ("b", 100.0), ("c", 100.0), ("d", 125.0)):
        graph.add_node(name, chip=False)
        graph.add_edges_from(((u, v) for c in ((0,), (1,)) for u, v in ((c, name), (name, c))), bandwidth=width, latency=0.0)
    shares, _ = all_routes(graph)[(0,), (1,)]
    assert shares == pytest.approx({link: graph.edges[link]["bandwidth"] / 450 for link in shares}, rel=1e-12)


def test_a_flow_that_went_the_wrong_way_is_taken_back():
    """Three ways at first, of which the one in the middle blocks both others: s-a-d-t, s-a-e-t, s-b-e-t; only s-a has 2."""
    width = {"sa": 2.0, "sb": 1.0, "ad": 2.0, "ae": 1.0, "be": 1.0, "dt": 2.0, "et": 1.0}
    cells = "sabdet"
    one = Networks(np.zeros(7, int), np.array([cells.index(e[0]) for e in width]), np.array([cells.index(e[1]) for e in width]),
                   np.array(list(width.values())), np.array([0]), np.array([5]))
    flow = maximum_flow(one)
    assert value(one, flow) == pytest.approx([3.0])
    expected = {"sa": 2.0, "sb": 1.0, "ad": 2.0, "ae": 0.0, "be": 1.0, "dt": 2.0, "et": 1.0}
    assert dict(zip(width, flow, strict=True)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_many_networks_at_once_have_the_flows_of_each_and_their_values_are_maximal(seed):
    """Any graph: with circles, with no way at all, with arcs that lead nowhere."""
    rng, columns, graphs = Random(seed), [], []
    for number in range(8):
        nodes = rng.randint(2, 8)
        arcs = [tuple(rng.sample(range(nodes), 2)) for _ in range(rng.randint(1, 20))]
        widths = {arc: rng.choice((1.0, 2.0, rng.uniform(0.1, 9))) for arc in dict.fromkeys(arcs)}
        graphs.append((nodes, widths))
        columns += [(number, 10 * number + u, 10 * number + v, width) for (u, v), width in widths.items()]
    owner, tail, head, width = (np.array(column) for column in zip(*columns, strict=True))
    source = 10 * np.arange(8)
    target = source + [nodes - 1 for nodes, _ in graphs]
    together = Networks(owner, tail, head, width, source, target)
    flow = maximum_flow(together)
    for number, (nodes, widths) in enumerate(graphs):
        graph = nx.DiGraph((u, v, {"capacity": w}) for (u, v), w in widths.items())
        graph.add_nodes_from(range(nodes))
        assert value(together, flow)[number] == pytest.approx(nx.maximum_flow_value(graph, 0, nodes - 1), rel=1e-9)
        here = owner == number
        alone = maximum_flow(Networks(owner[here] * 0, tail[here] - 10 * number, head[here] - 10 * number, width[here],
                                      np.array([0]), np.array([nodes - 1])))
        assert flow[here] == pytest.approx(alone, abs=1e-12)
    assert (flow >= 0).all() and (flow <= width).all()


def test_detours_round_a_dead_link_fit_the_bandwidths_too():
    """From (0, 0) to (1, 0) of a 4x4 torus: three links over y, as much as their narrowest, or once round x."""
    graph = torus((4, 4), bandwidth=1.0)
    graph.remove_edges_from([((0, 0), (1, 0)), ((1, 0), (0, 0))])
    graph.edges[(0, 1), (1, 1)]["bandwidth"] = 0.25
    links = read_links(graph)
    connected(links)
    found = routes(links, "dimension_order", np.array([0]), np.array([4]))
    shares = {links.edge(i): share for i, share in zip(found.link.tolist(), found.share.tolist(), strict=True)}
    assert shares[(0, 1), (1, 1)] == pytest.approx(0.25 / 2.25)
    assert shares[(0, 3), (1, 3)] == pytest.approx(1 / 2.25) == shares[(3, 0), (2, 0)]


def test_a_users_routing_also_decides_between_neighbours_that_no_link_joins():
    """Eight chips on two switches: over one of them alone a gather takes twice as long."""
    graph = nx.DiGraph(axes={"x": 8})
    graph.add_nodes_from((i,) for i in range(8))
    for name in ("a", "b"):
        graph.add_node(name, chip=False)
        graph.add_edges_from((ends for i in range(8) for ends in (((i,), name), (name, (i,)))), bandwidth=1e9, latency=0.0)
    gather = Program((Collective("c", "all_gather", ("x",), 8e6),))
    both = simulate(gather, graph, chip("ideal")).makespan
    graph.graph["routing"] = lambda graph, source, target: [source, "a", target]
    assert simulate(gather, graph, chip("ideal")).makespan == pytest.approx(2 * both)
