"""Routes carry every message whole from its chip to its chip, over shortest ways, in the shares that they promise."""

from itertools import combinations, pairwise, permutations, product

import networkx as nx
import numpy as np
import pytest
from column_networks import all_pairs, as_graph, grid, moved, network
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim.errors import TopologyError, TorusSimError
from torussim.topology import dimension, shortest
from torussim.topology import routes as table
from torussim.topology.dimension import neighbours
from torussim.topology.routing import detours, routes
from torussim.topology.shortest import connected

TWISTED = {(4, 4, 8): {"x": {"z": 4}, "y": {"z": 4}}, (4, 8, 8): {"x": {"y": 4, "z": 4}}}
ODD = [((4, 6), {"x": {"y": 2}}), ((3, 5, 4), {"x": {"z": 3}}), ((3, 3, 5), {"x": {"z": 1}, "y": {"z": 2}}),
       ((3, 20), {"x": {"y": 4}}), ((4, 2), {"x": {"y": 1}}), ((4, 3, 2), {"x": {"y": 1, "z": 1}})]
# Two links between chips of a twisted axis of length 2, which lead to different ones.
TWOS = [((2, n), {"x": {"y": by}}) for n in range(2, 9) for by in range(1, n)]
TWOS += [((5, 2), {"y": {"x": 2}}), ((2, 3, 4), {"x": {"y": 1, "z": 2}}), ((4, 2, 3), {"y": {"z": 1}}),
         ((2, 2, 5), {"x": {"z": 1}, "y": {"z": 2}}), ((2, 4, 2), {"x": {"y": 2}, "z": {"y": 1}}),
         ((3, 2, 4), {"x": {"z": 1}, "y": {"z": 2}})]
SHAPES = [(1,), (2,), (5,), (2, 3), (4, 4), (1, 4), (3, 2, 4), (4, 4, 2)]


def dragonfly():
    """Three groups of two chips on two switches of their own; each group's switches lead to the other groups."""
    switches = [f"{side}{group}" for group in range(3) for side in "ab"]
    wires = [((group, i), f"{side}{group}") for group in range(3) for i in range(2) for side in "ab"]
    wires += [(f"a{g}", f"b{h}") for g, h in permutations(range(3), 2)] + [(f"a{g}", f"b{g}") for g in range(3)]
    return network({"x": 3, "y": 2}, switches, [ends for a, b in wires for ends in ((a, b), (b, a))], 1e-6)


def cases():
    """Return networks with the routings that they can have."""
    for shape in SHAPES:
        for ring in (True, False):
            yield grid(shape, ring=ring), ("dimension_order", "minimal", "shortest")
    yield grid((4, 5), ring=(False, True)), ("dimension_order", "minimal", "shortest")
    for shape, twist in [*ODD, *TWOS, ((4, 4, 8), TWISTED[4, 4, 8])]:
        yield grid(shape, twist=twist), ("minimal", "shortest")
    yield grid((2, 5), twist={"x": {"y": 2}}, dead={((0, 1), 0, 1), ((1, 3), 0, 0), ((1, 4), 0, 1)}), ("minimal", "shortest")
    yield grid((4, 3), ring=(True, False), dead={((1, 1), 0, 0), ((0, 2), 1, 1)}), ("dimension_order", "minimal", "shortest")
    yield grid((4, 6), twist={"x": {"y": 2}}, dead={((3, 1), 0, 0), ((0, 0), 1, 0), ((0, 1), 1, 1)}), ("minimal", "shortest")
    yield dragonfly(), ("shortest",)


def load(links, found):
    return np.bincount(found.link, found.share, len(links.source))


def rows(found):
    for path in range(len(found)):
        here = slice(found.first[path], found.first[path + 1])
        yield dict(zip(found.link[here].tolist(), found.share[here].tolist(), strict=True))


@pytest.mark.parametrize(("links", "names"), list(cases()))
def test_a_message_is_conserved_at_every_node_and_a_link_stands_once_in_a_path(links, names):
    source, target = all_pairs(links)
    for name in names:
        found = routes(links, name, source, target)
        assert len(found) == len(source)
        path = np.repeat(np.arange(len(found)), np.diff(found.first))
        assert len(set(zip(path.tolist(), found.link.tolist(), strict=True))) == len(path)
        assert (found.share > 0).all()
        net = np.zeros((len(found), len(links.nodes)))
        np.add.at(net, (path, links.source[found.link]), found.share)
        np.add.at(net, (path, links.target[found.link]), -found.share)
        due = np.zeros_like(net)
        np.add.at(due, (np.arange(len(found)), source), 1)
        np.add.at(due, (np.arange(len(found)), target), -1)
        assert abs(net - due).max() < 1e-12


@pytest.mark.parametrize(("links", "names"), list(cases()))
def test_minimal_and_shortest_are_as_long_as_the_graph_distance(links, names):
    distance = dict(nx.all_pairs_shortest_path_length(as_graph(links)))
    source, target = all_pairs(links)
    for name in names:
        if name == "shortest" or (name == "minimal" and is_healthy(links)):
            found = routes(links, name, source, target)
            hops = [sum(row.values()) for row in rows(found)]
            expected = [distance[s][t] for s, t in zip(source.tolist(), target.tolist(), strict=True)]
            assert hops == pytest.approx(expected, abs=1e-9)


def is_healthy(links):
    """Return whether no link of a torus or mesh is dead."""
    axes = list(links.axes.values())
    each = [2 * length if ring else 2 * (length - 1) for length, ring in zip(axes, links.ring, strict=True)]
    return len(links.source) == sum(count * len(links.chips) // length for count, length in zip(each, axes, strict=True))


@pytest.mark.parametrize("shape", [(4, 4), (2, 4), (4, 6, 4), (8,), (8, 8, 8)])
def test_dimension_order_loads_every_link_of_an_even_torus_alike(shape):
    links = grid(shape)
    found = load(links, routes(links, "dimension_order", *all_pairs(links)))
    for axis, length in enumerate(shape):
        # N messages of each chip travel k / 4 hops on average along an axis; two links of it leave a chip, one where k = 2
        expected = len(links.chips) * length / (8 if length > 2 else 4)
        assert found[links.axis == axis] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("links", [grid((4, 3)), grid((3, 2, 3), ring=False), grid((4, 4), dead={((0, 0), 0, 0)}),
                                   grid((4, 6), twist={"x": {"y": 2}}), dragonfly()])
def test_shortest_shares_equally_among_all_shortest_paths(links):
    graph = as_graph(links)
    source, target = all_pairs(links)
    for s, t, row in zip(source.tolist(), target.tolist(), rows(routes(links, "shortest", source, target)), strict=True):
        ways = list(nx.all_shortest_paths(graph, s, t))
        expected = {}
        for way in ways:
            for ends in pairwise(way):
                link = graph.edges[ends]["link"]
                expected[link] = expected.get(link, 0) + 1 / len(ways)
        assert row == pytest.approx(expected, rel=1e-12)


def vectors(shape, ring, twist, chip, other):
    """Return all shortest displacements from a chip to another, by trying how often to go round each axis."""
    names, best = "xyz"[:len(shape)], {}
    for turns in product(*[range(-4, 5) if r else [0] for r in ring]):
        step = [b - a for a, b in zip(chip, other, strict=True)]
        for axis, turn in enumerate(turns):
            step[axis] += turn * shape[axis]
            for name, by in twist.get(names[axis], {}).items():
                step[names.index(name)] -= turn * by
        best.setdefault(sum(map(abs, step)), set()).add(tuple(step))
    return sorted(best[min(best)])


@pytest.mark.parametrize(("shape", "ring", "twist"), [
    ((4, 3), True, {}), ((3, 4), False, {}), ((4, 4, 4), (True, False, True), {}), ((4, 8), True, {"x": {"y": 4}}),
    ((4, 4, 8), True, TWISTED[4, 4, 8]), ((2, 4), True, {"x": {"y": 2}}), ((2, 5), True, {"x": {"y": 2}}),
    ((2, 3, 4), True, {"x": {"z": 2}})])
def test_minimal_takes_every_order_of_the_steps_of_every_shortest_displacement_equally_often(shape, ring, twist):
    links = grid(shape, ring=ring, twist=twist)
    pick = np.random.default_rng(1)
    source, target = pick.integers(0, len(links.chips), (2, 12))
    axes = dict(zip("xyz", shape, strict=False))
    for s, t, row in zip(source.tolist(), target.tolist(), rows(routes(links, "minimal", source, target)), strict=True):
        expected = {}
        tied = vectors(shape, links.ring, twist, links.chips[s], links.chips[t])
        for step in tied:
            orders = set(permutations([axis for axis, n in enumerate(step) for _ in range(abs(n))]))
            for order in orders:
                chip = links.chips[s]
                for axis in order:
                    sign = int(step[axis] < 0)
                    link = int(links.slot[axis, sign, links.chips.index(chip)])
                    expected[link] = expected.get(link, 0) + 1 / len(tied) / len(orders)
                    chip = moved(chip, axis, 1 - 2 * sign, axes, links.ring, twist)
        assert row == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("shape", "ratio"), [((4, 4, 8), 128 / (220 / 3)), ((4, 8, 8), 256 / 184)])
def test_twists_of_tpu_v4_balance_all_links_and_relieve_the_busiest(shape, ratio):
    busiest = []
    for twist in (TWISTED[shape], {}):
        links = grid(shape, twist=twist)
        found = load(links, routes(links, "minimal", *all_pairs(links)))
        busiest.append(found.max())
        if twist:  # all hops over all links: graph distances alone tell the load of every one
            distance = nx.single_source_shortest_path_length(as_graph(links), 0)
            assert found == pytest.approx(sum(distance.values()) / 6, rel=1e-12)
    print(f"{shape}: untwisted {busiest[1]:g}, twisted {busiest[0]:g}, ratio {busiest[1] / busiest[0]:.4f}")
    assert busiest[1] / busiest[0] == pytest.approx(ratio, rel=1e-12)


@pytest.mark.parametrize(("shape", "twist"), [*ODD, ((4, 4, 8), TWISTED[4, 4, 8]), ((3, 5, 7), {"x": {"z": 2}}),
                                              ((5, 5, 9), {"x": {"z": 3}, "y": {"z": 4}})])
def test_no_other_shares_of_tied_displacements_have_a_lower_maximum(shape, twist):
    links = grid(shape, twist=twist)
    origin = np.zeros(len(links.chips), int)
    sent = load(links, routes(links, "minimal", origin, np.arange(len(links.chips))))
    plus, minus = ([sent[(links.axis == a) & (links.sign == sign)].sum() for a in range(len(shape))] for sign in range(2))
    per_link = np.array([p if length > 2 else p + m for p, m, length in zip(plus, minus, shape, strict=True)])
    for axis, length in enumerate(shape):
        assert length <= 2 or plus[axis] == pytest.approx(minus[axis], rel=1e-9)
    tied = [np.abs(vectors(shape, tuple(n > 2 or n == 2 for n in shape), twist, links.chips[0], chip)) for chip in links.chips]
    each = np.where(np.array(shape) > 2, 0.5, 1.0)
    bounds = []  # any weighing of the axes bounds the busiest from below
    for n in range(1, len(shape) + 1):
        for busy in combinations(range(len(shape)), n):
            weight = np.zeros(len(shape))
            weight[list(busy)] = 1 / n
            bounds.append(sum((ways * each @ weight).min() for ways in tied))
    assert per_link.max() == pytest.approx(max(bounds), rel=2e-4)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.booleans(), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_latency_is_that_of_the_slowest_route(shape, ring, seed):
    late = np.random.default_rng(seed)
    links = grid(shape, ring=ring, latency=lambda *_: late.integers(1, 9) * 1e-6)
    source, target = late.integers(0, len(links.chips), (2, 8))
    for name in ("dimension_order", "minimal", "shortest"):
        found = routes(links, name, source, target)
        for row, latency in zip(rows(found), found.latency.tolist(), strict=True):
            graph = nx.DiGraph((links.source[i], links.target[i], {"weight": links.latency[i]}) for i in row)
            assert latency == pytest.approx(nx.dag_longest_path_length(graph) if row else 0, rel=1e-12)


@pytest.mark.parametrize("name", ["dimension_order", "minimal"])
def test_the_traffic_of_dead_links_goes_in_equal_shares_over_all_shortest_detours(name):
    dead = {((0, 0, 0), 0, 0), ((1, 0, 0), 0, 1), ((2, 3, 1), 1, 0), ((0, 0, 1), 2, 0)}
    healthy, links = grid((4, 4, 4)), grid((4, 4, 4), dead=dead, latency=1.0)
    source, target = all_pairs(links)
    number = {chip: i for i, chip in enumerate(links.chips)}
    there = [(axis, sign, number[chip]) for chip, axis, sign in dead]
    assert {int(links.slot[place]) for place in there} == {-1}
    slots = np.ravel_multi_index(tuple(np.array(there).T), links.slot.shape)
    new = {int(link): int(links.slot[at]) for at, link in np.ndenumerate(healthy.slot)}
    around = {int(healthy.slot[place]): row for place, row in zip(there, rows(detours(links, slots)), strict=True)}
    assert all(len(row) == 15 and set(row.values()) == {0.2} for row in around.values())  # five ways of three hops
    before = routes(healthy, name, source, target)
    after = routes(links, name, source, target)
    changed = 0
    for old, row in zip(rows(before), rows(after), strict=True):
        expected = {}
        for link, share in old.items():
            for other, part in around.get(link, {new[link]: 1.0}).items():
                expected[other] = expected.get(other, 0) + share * part
        assert row == pytest.approx(expected, rel=1e-12)
        changed += any(link in around for link in old)
    assert 0 < changed < len(after)
    neighbour = routes(links, name, np.array([0, 0]), np.array([number[1, 0, 0], number[0, 1, 0]]))
    assert neighbour.latency.tolist() == [3.0, 1.0]


def test_detours_of_several_links_are_those_of_each():
    dead = {((0, 0), 0, 0), ((2, 1), 1, 1), ((3, 3), 0, 0)}
    links = grid((4, 4), dead=dead)
    slots = np.flatnonzero(links.slot.ravel() < 0)
    together = list(rows(detours(links, slots)))
    assert len(together) == 3
    for slot, row in zip(slots.tolist(), together, strict=True):
        assert row == next(rows(detours(links, np.array([slot]))))


@pytest.mark.parametrize(("shape", "twist"), [((4, 4, 8), TWISTED[4, 4, 8]), ((3, 4, 5), {"x": {"y": 1}, "y": {"z": 3}})])
def test_neighbours_of_a_twisted_torus_are_those_of_its_links(shape, twist):
    links = grid(shape, twist=twist)
    assert (neighbours(links) == links.target[links.slot.ravel()]).all()


def test_paths_may_come_in_any_order_and_more_than_once():
    links = grid((4, 3))
    source, target = np.array([5, 0, 5, 11, 2]), np.array([1, 7, 1, 0, 2])
    for name in ("dimension_order", "minimal", "shortest"):
        found = list(rows(routes(links, name, source, target)))
        for s, t, row in zip(source, target, found, strict=True):
            assert row == next(rows(routes(links, name, np.array([s]), np.array([t]))))
        assert len(routes(links, name, source[:0], target[:0])) == 0


def test_routes_do_not_depend_on_how_many_paths_are_made_at_a_time(monkeypatch):
    links = [grid((4, 3)), grid((4, 3), ring=(True, False), dead={((1, 1), 0, 0), ((0, 2), 1, 1)}), grid((5,)), grid((4, 4))]
    uneven = grid((4, 4), latency=lambda chip, axis, sign: float(sum(chip) + axis))
    uneven.routed[::5] = 0.5
    links.append(uneven)
    cases = [(one, name, *all_pairs(one)) for one in links for name in ("dimension_order", "minimal", "shortest")]
    before = [list(rows(routes(*case))) for case in cases]
    for module in (dimension, table):
        monkeypatch.setattr(module, "ENTRIES", 7)
    monkeypatch.setattr(shortest, "CELLS", 50)
    assert [list(rows(routes(*case))) for case in cases] == before


def test_a_load_is_the_sum_over_the_paths_that_carry_something():
    links = grid((4, 3))
    found = routes(links, "dimension_order", *all_pairs(links))
    sent, wanted = np.arange(5.0), np.zeros(len(links.source))
    for path, size in enumerate(sent, 2):
        entries = slice(*found.first[path:path + 2])
        wanted[found.link[entries]] += size * found.share[entries]
    assert found.load(sent, len(wanted), 2).tolist() == wanted.tolist()
    assert found.users(len(wanted)).sum() == len(found.link)


def test_a_network_without_links_has_routes_from_a_chip_to_itself():
    links = grid((1, 1))
    for name in ("dimension_order", "minimal", "shortest", lambda graph, source, target: []):
        found = routes(links, name, np.zeros(1, int), np.zeros(1, int))
        assert len(found) == 1 and len(found.link) == 0 and found.latency.tolist() == [0.0]


def y_first(graph, source, target):
    corner = (source[0], target[1])
    return list(dict.fromkeys([source, *line(source, corner), *line(corner, target)]))


def line(chip, other):
    axis = int(chip[1] != other[1])
    step = 1 if other[axis] > chip[axis] else -1
    for c in range(chip[axis], other[axis] + step, step) if chip != other else ():
        yield (chip[0], c) if axis else (c, chip[1])


def test_a_users_function_gives_one_path_or_several():
    links = grid((3, 3), ring=False, latency=1.0)
    graph = object()
    seen = []

    def both(given, source, target):
        seen.append(given)
        other = [chip[::-1] for chip in y_first(None, source[::-1], target[::-1])]
        return [y_first(None, source, target), other]

    source, target = np.array([0, 0, 4]), np.array([8, 2, 4])
    one, two = (list(rows(routes(links, f, source, target, graph=graph))) for f in (y_first, both))
    assert [sorted(row.values()) for row in one] == [[1.0] * 4, [1.0] * 2, []]
    assert [sorted(row.values()) for row in two] == [[0.5] * 8, [1.0] * 2, []]
    assert seen == [graph, graph]
    assert routes(links, both, source, target).latency.tolist() == [4.0, 2.0, 0.0]
    switched = dragonfly()
    found = routes(switched, lambda graph, s, t: [s, "a0", "b1", t], np.array([0]), np.array([2]))
    assert {switched.nodes[n] for n in switched.source[found.link]} == {(0, 0), "a0", "b1"}


@pytest.mark.parametrize(("returned", "message"), [
    ([(0, 0), (1, 1)], r"route from \(0, 0\) to \(1, 1\) returned a path with \(0, 0\) -> \(1, 1\), and there is no such link"),
    ([(0, 0), (0, 1)], r"a path that ends at \(0, 1\), and does not arrive"),
    ([[(0, 0), (1, 0), (1, 1)], [(0, 0), (0, 1)]], r"ends at \(0, 1\)"),
    ([(0, 1), (1, 1)], r"a path that begins at \(0, 1\)"),
    ([(0, 0), (9, 9), (1, 1)], r"a path through \(9, 9\), which is no node"),
    ([(0, 0), [1, 0], (1, 1)], r"a path through \[1, 0\], which is no node"),
    ([(0, 0), (1, 0), (1, 0), (1, 1)], r"\(1, 0\) -> \(1, 0\), and there is no such link"),
    ([], "returned no path"),
    (None, "through None"),
    ("xy", "through 'xy'"),
])
def test_a_users_path_that_is_none_is_an_error_with_the_pair_and_the_link(returned, message):
    def route(graph, source, target):
        return returned
    with pytest.raises(TopologyError, match=message):
        routes(grid((3, 3)), route, np.array([0]), np.array([4]))


def test_a_users_path_over_a_dead_link_is_an_error():
    with pytest.raises(TopologyError, match=r"with \(0, 0\) -> \(1, 0\), and there is no such link"):
        routes(grid((4, 4), dead={((0, 0), 0, 0)}), lambda graph, s, t: [s, t], np.array([0]), np.array([4]))


def test_what_a_users_function_raises_is_an_error_with_its_line():
    def route(graph, source, target):
        raise KeyError("lost")
    with pytest.raises(TorusSimError, match=r"test_routing\.py:\d+: route raised KeyError: 'lost'"):
        routes(grid((3,)), route, np.array([0]), np.array([1]))


@pytest.mark.parametrize(("links", "routing", "message"), [
    (grid((4, 4)), "dimension-order", "'dimension-order' is not a routing: did you mean 'dimension_order'"),
    (grid((4, 6), twist={"x": {"y": 2}}), "dimension_order", "for tori without a twist.* use minimal"),
    (grid((4, 4), twist={"x": {"y": 2}, "y": {"x": 2}}), "minimal", "x shifts y, which is twisted itself.* routing shortest"),
    (grid((4, 4), ring=(True, False), twist={"x": {"y": 2}}), "minimal", "axis x shifts y, which has no wraparounds.* shortest"),
    (dragonfly(), "minimal", r"minimal is for tori and meshes, and \(0, 0\) -> 'a0' joins no neighbours.* use shortest"),
])
def test_a_routing_that_does_not_fit_the_network_is_an_error_that_says_what_does(links, routing, message):
    with pytest.raises(TopologyError, match=message):
        routes(links, routing, np.array([0]), np.array([1]))


def corner_off(one_way):
    leaving = {((0, 0), 0, 0), ((0, 0), 1, 0)}
    return grid((3, 3), ring=False, dead=leaving | (set() if one_way else {((1, 0), 0, 1), ((0, 1), 1, 1)}))


@pytest.mark.parametrize("name", ["dimension_order", "minimal", "shortest"])
def test_chips_that_nothing_connects_are_an_error_that_names_the_parts(name):
    links = corner_off(one_way=False)
    with pytest.raises(TopologyError, match=r"the network is cut in two: \(0, 0\) cannot reach \(0, 1\) and 7 more"):
        routes(links, name, np.array([0]), np.array([8]))
    with pytest.raises(TopologyError, match=r"\(0, 1\) and 7 more chips cannot reach \(0, 0\)"):
        routes(links, name, np.array([8]), np.array([0]))
    assert len(routes(links, name, np.array([8]), np.array([4])).link)  # both in one part


@pytest.mark.parametrize("one_way", [False, True])
def test_a_network_that_is_cut_is_an_error_also_where_one_direction_is_left(one_way):
    connected(grid((3, 3)))
    connected(dragonfly())
    with pytest.raises(TopologyError, match=r"cut in two: \(0, 0\) cannot reach \(0, 1\) and 7 more"):
        connected(corner_off(one_way))
    entering = grid((3, 3), ring=False, dead={((1, 0), 0, 1), ((0, 1), 1, 1)})
    with pytest.raises(TopologyError, match=r"cut in two: \(0, 1\) and 7 more chips cannot reach \(0, 0\)"):
        connected(entering)


def test_detours_of_a_chip_that_is_cut_off_are_an_error():
    with pytest.raises(TopologyError, match=r"\(0, 0\) cannot reach"):
        detours(corner_off(one_way=True), np.zeros(1, int))
