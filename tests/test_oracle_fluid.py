"""Shared links in the oracle: cases that can be worked out by hand, and laws of fair rates."""

import math
from collections import defaultdict
from itertools import pairwise, product

import networkx as nx
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle_fluid import fair_rates, run_flows
from oracle_grid import Grid, Lane
from test_oracle import IDEAL, A, Chip, D, W, makespan, near, one, torus

from torussim.program import Collective, Compute, Program

S = D / 4  # a shard among four chips, bytes


class Shared(Chip):
    shared_efficiency = 0.8


def ends(program, graph, chip=IDEAL, **choices):
    """Return when the last operation ends on each chip."""
    return oracle.simulate(program, graph, chip, **choices)["ops"][-1][2]


def cut(graph, u, v, both=True):
    graph.remove_edge(u, v)
    if both:
        graph.remove_edge(v, u)
    return graph


def balanced(graph):
    """Return the route function of equal shares over all shortest paths."""
    def route(source, target):
        paths = list(nx.all_shortest_paths(graph, source, target))
        return [(1 / len(paths), path) for path in paths]
    return route


# Fair rates


def test_flows_on_one_link_share_it_while_both_are_there():
    graph, link = torus(2), ((0,), (1,))
    flows = [(0.0, 100.0, {link: 1.0}), (5.0, 100.0, {link: 1.0})]
    times, fluid = run_flows(graph, IDEAL, flows)
    assert times == [near(5 + 50 / 5), near(15 + 50 / 10)]
    assert fluid.carried[link] == near(200)
    assert run_flows(graph, Shared(), flows)[0] == [near(5 + 50 / 4), near(17.5 + 50 / 10)]
    assert run_flows(graph, Chip(link_efficiency=0.5), flows)[0] == [near(5 + 75 / 2.5), near(35 + 25 / 5)]


def test_rate_that_one_link_holds_down_is_left_to_others_on_the_next():
    rates = fair_rates([{"a": 1.0}, {"a": 1.0, "b": 1.0}, {"b": 1.0}], {"a": 10.0, "b": 20.0})
    assert rates == [near(5), near(5), near(15)]


def test_flow_over_two_routes_has_one_rate_that_loads_each_link_by_its_share():
    rates = fair_rates([{"a": 0.5, "b": 0.5}, {"a": 1.0}], {"a": 9.0, "b": 2.0})
    assert rates == [near(4), near(7)]


LOADS = st.dictionaries(st.sampled_from("abcde"), st.sampled_from([1.0, 0.5, 0.25, 1 / 3]), min_size=1)


@given(st.lists(LOADS, min_size=1, max_size=8), st.lists(st.floats(0.1, 10), min_size=5, max_size=5))
def test_rates_are_max_min_fair(loads, capacities):
    capacity = dict(zip("abcde", capacities, strict=True))
    rates = fair_rates(loads, capacity)
    carried = {link: sum(rate * load.get(link, 0) for rate, load in zip(rates, loads, strict=True)) for link in "abcde"}
    assert all(carried[link] <= capacity[link] * (1 + 1e-9) for link in "abcde")
    for rate, load in zip(rates, loads, strict=True):  # each flow has a full link where no other is faster
        assert any(carried[link] >= capacity[link] * (1 - 1e-9)
                   and all(other <= rate * (1 + 1e-9) for other, on in zip(rates, loads, strict=True) if link in on)
                   for link in load)


# Events


def test_link_that_loses_bandwidth_in_mid_transfer_goes_on_at_the_new_speed():
    graph, link = torus(5, latency=A), ((1,), (2,))
    graph.graph["events"] = ((100.0, {link: W / 2}), (300.0, {link: 2 * W}), (1e6, {link: W}))
    run = oracle.simulate(one("permute", shift={"x": 1}), graph, IDEAL)
    slow = 300 + (D - 100 * W - 200 * W / 2) / (2 * W) + A
    assert run["ops"][0][2] == {(i,): near(slow if i == 2 else D / W + A) for i in range(5)}
    assert run["makespan"] == near(D / W + A)
    assert run["pieces"][link] == [(0, 100, W), (100, 300, W / 2), (300, near(slow - A), 2 * W)]
    assert run["link_bytes"][link] == D


def test_bandwidth_of_an_event_before_the_start_is_the_bandwidth():
    graph = torus(3)
    graph.graph["events"] = ((0.0, dict.fromkeys(graph.edges, W / 4)),)
    assert makespan(one("permute", shift={"x": 1}), graph) == near(4 * D / W)


# Dead links


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
def test_dead_link_in_a_ring_of_four_takes_a_third_of_what_its_three_detours_have(kind):
    # (1,0) - (2,0): three hops over y=1, over y=3, or round the ring itself. Each carries 1 + 1/3 flows.
    graph = cut(torus(4, 4), (1, 0), (2, 0))
    run = oracle.simulate(one(kind, detour=True), graph, IDEAL)
    ended = run["ops"][0][2]
    assert [ended[x, 0] for x in range(4)] == [near(4 / 3 * 1.5 * S / W)] * 4
    assert [ended[x, 2] for x in range(4)] == [near(1.5 * S / W)] * 4
    assert run["makespan"] == near(4 / 3 * 1.5 * S / W)
    assert run["link_bytes"][(1, 1), (2, 1)] == run["link_bytes"][(1, 0), (0, 0)] == near((1 + 1 / 3) * 1.5 * S)
    assert run["link_bytes"][(1, 0), (1, 1)] == near(1 / 3 * 1.5 * S)


def test_parallel_ring_of_a_dead_link_waits_only_where_it_carries_the_detour():
    graph = cut(torus(4, 4), (1, 0), (2, 0))
    ended = ends(one("all_gather", detour=True), graph)
    # Chip 0 hears of chip 2 over 1, 4/3 of a shard's time away, and then half a shard more; chip 1 over its slow link.
    assert [ended[x, 1] for x in range(4)] == [near(t * S / W) for t in (11 / 6, 2, 2, 11 / 6)]


def test_dead_link_in_a_ring_of_five_takes_half_of_what_its_two_detours_have():
    graph = cut(torus(5, 4), (1, 0), (2, 0), both=False)
    run = oracle.simulate(one("all_gather", detour=True), graph, IDEAL)
    assert run["makespan"] == near((1 + 1 / 2) * 2 * D / 5 / W)
    assert run["link_bytes"][(1, 1), (2, 1)] == near((1 + 1 / 2) * 2 * D / 5)
    assert run["link_bytes"][(2, 1), (1, 1)] == near(2 * D / 5)


def test_broken_ring_as_a_line_leaves_other_lanes_unharmed():
    graph = cut(torus(4, 4, latency=A), (1, 0), (2, 0), both=False)
    run = oracle.simulate(one("all_gather", detour=False), graph, IDEAL)
    for (x, y), end in run["ops"][0][2].items():
        if y:
            assert end == near(1.5 * S / W + 2 * A)
        else:  # the line 2, 3, 0, 1: the farther of its two ends
            assert end == near((3 if x in (1, 2) else 2) * (S / W + A))
    assert not run["link_bytes"][(2, 0), (1, 0)]


def test_line_of_a_ring_begins_after_its_first_gap_and_detours_further_ones():
    graph = cut(cut(torus(5, 1), (1, 0), (2, 0)), (3, 0), (4, 0), both=False)
    grid = Grid(graph, None, None, None)
    [lane] = grid.lanes("x", detour=False)
    assert lane == Lane(((2, 0), (3, 0), (4, 0), (0, 0), (1, 0)), ring=False)
    assert grid.lanes("x", detour=True) == (Lane(tuple((x, 0) for x in range(5)), ring=True),)
    assert grid.hop((4, 0), (3, 0)) == [(1.0, [(4, 0), (3, 0)])]
    with pytest.raises(ValueError, match="must be True or False"):
        grid.lanes("x", detour=None)


def test_gap_in_a_line_is_detoured_whatever_is_asked_for():
    graph = cut(torus(2, 2, latency=A), (0, 0), (1, 0), both=False)
    for detour in (True, False, None):
        # The message of (0,0) takes three hops, and shares the link of (0,1) with its own.
        ended = ends(one("permute", shift={"x": 1}, detour=detour), graph)
        assert ended == {(0, 0): near(D / W + A), (0, 1): near(D / W + A), (1, 0): near(2 * D / W + 3 * A),
                         (1, 1): near(2 * D / W + A)}
        assert ends(one("all_gather", detour=detour), graph)[1, 0] == near(D / W + 3 * A)


def test_lane_with_all_its_wraparounds_dead_is_a_broken_ring_if_it_is_declared_one():
    graph = cut(torus(4, 1), (3, 0), (0, 0))
    assert makespan(one("all_gather", detour=True), graph) == near(3 * S / W)
    # Each way round three links carry a hop and the detour; half of the far shard starts when both have left.
    assert makespan(one("all_gather", detour=True), graph, ring=(True, False)) == near((2 + 1) * S / W)
    ended = ends(one("all_gather", detour=False), graph, ring=(True, False))
    assert ended == {(x, 0): near(t * S / W) for x, t in enumerate((3, 2, 2, 3))}


def test_permute_detours_also_where_collectives_run_as_lines():
    graph = cut(torus(5, 4), (1, 0), (2, 0))
    ended = ends(one("permute", shift={"x": 1}, detour=False), graph)
    assert ended == {(x, y): near(D / W * (1.5 if x == 2 and y != 2 else 1)) for x, y in graph}


def test_one_ring_detours_a_dead_link():
    # Against the ring: three links carry the detour of the dead one besides their own transfers, at half their speed.
    order = ((0, 0), (0, 1), (1, 1), (1, 0))
    graph = cut(torus(2, 2), (1, 0), (0, 0), both=False)
    ring = one("all_gather", "xy", algorithm="one_ring", detour=False)
    assert makespan(ring, graph, ring_orders={("x", "y"): (order, True)}) == near(3 * S / W)
    way = one("all_gather", "xy", algorithm="one_ring", direction="one_way")
    assert makespan(way, graph, ring_orders={("x", "y"): (order, True)}) == near(3 * S / W)


def test_nested_gather_detours_a_dead_link():
    run = oracle.simulate(one("all_gather", algorithm="nested", detour=False), cut(torus(4), (3,), (0,)), IDEAL, ring=(True,))
    # One way only: the dead link's detour goes against all others.
    assert run["makespan"] == near(3 * S / W)
    assert list(run["link_bytes"].values()) == [near(3 * S)] * 6


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_reduce", "all_to_all"])
@pytest.mark.parametrize("detour", [True, False])
def test_contracts_hold_over_broken_lanes(kind, detour):
    # The run itself asserts that every chip has what the collective promises, though lanes differ in where they begin.
    graph = cut(cut(torus(4, 3), (1, 0), (2, 0)), (2, 2), (2, 0), both=False)
    healthy = makespan(one(kind, "xy"), torus(4, 3))
    assert healthy < makespan(one(kind, "xy", detour=detour), graph) < 4 * healthy


# Routed messages


@pytest.mark.parametrize(("lengths", "time"), [((4,), 1 / 2), ((4, 4), 1 / 2), ((6,), 3 / 4), ((4, 6), 3 / 4), ((8,), 1)])
def test_direct_all_to_all_on_an_even_torus_is_bound_by_its_longest_axis(lengths, time):
    assert time == max(lengths) / 8
    graph = torus(*lengths)
    run = oracle.simulate(one("all_to_all", "xyz"[:len(lengths)], algorithm="direct"), graph, IDEAL)
    assert run["makespan"] == near(time * D / W)
    assert run["link_bytes"] == {(u, v): near(D * (lengths[0] if u[0] != v[0] else lengths[-1]) / 8) for u, v in graph.edges}


def test_direct_all_to_all_on_two_chips_an_axis_has_one_link_each_way():
    # Half of what a ring's formula says, D max(k) / (8 w), which counts two links each way.
    for lengths in ((2,), (2, 2), (2, 2, 2)):
        assert makespan(one("all_to_all", "xyz"[:len(lengths)], algorithm="direct"), torus(*lengths)) == near(D / 2 / W)


@pytest.mark.parametrize("lengths", [(4,), (5,), (4, 4), (3, 4), (5, 4)])
def test_each_shift_takes_as_long_as_its_busiest_link(lengths):
    def load(d, k):  # messages on the busiest link of a ring when all send d chips far
        return d / 2 if 2 * d == k else min(d, k - d)
    K, axes = math.prod(lengths), "xyz"[:len(lengths)]
    shifts = sum(max(load(d, k) for d, k in zip(at, lengths, strict=True)) for at in product(*map(range, lengths)))
    time = makespan(one("all_to_all", axes, algorithm="shifts"), torus(*lengths))
    assert time == near(shifts * D / K / W)
    assert time > makespan(one("all_to_all", axes, algorithm="direct"), torus(*lengths))


def test_shifts_go_through_the_displacements_in_the_order_of_the_axes():
    sent = oracle.simulate(one("all_to_all", "yx", algorithm="shifts"), torus(3, 2), IDEAL)["transfers"]
    assert [t.receiver for t in sent if t.sender == (1, 1)] == [(2, 1), (0, 1), (1, 0), (2, 0), (0, 0)]


def test_messages_arrive_the_latency_of_their_longest_route_after_they_left():
    run = oracle.simulate(one("all_to_all", algorithm="direct"), torus(4, latency=A), Chip(launch=5.0))
    assert run["makespan"] == near(5 + D / 2 / W + 2 * A)
    assert [t.arrival - t.end for t in run["transfers"]] == [
        near(2 * A if abs(t.receiver[0] - t.sender[0]) == 2 else A) for t in run["transfers"]]


def test_message_over_routes_of_two_lengths_arrives_with_the_longer():
    def route(u, v):
        return [(0.5, [u, v]), (0.5, [u, (3 - u[0] - v[0],), v])]
    run = oracle.simulate(one("all_to_all", algorithm="direct"), torus(3, latency=A), IDEAL, route=route)
    # A link carries half of one message directly, and half of two that pass a chip.
    assert run["ops"][0][2] == {(i,): near(1.5 * D / 3 / W + 2 * A) for i in range(3)}


def test_next_shift_waits_until_the_chips_own_message_has_left():
    graph = torus(3)
    graph.edges[(0,), (1,)]["bandwidth"] = W / 4
    hop = D / 3 / W
    assert ends(one("all_to_all", algorithm="shifts"), graph) == {(0,): near(5 * hop), (1,): near(4 * hop), (2,): near(5 * hop)}


def test_late_chip_sends_alone():
    late = 1e6  # its two neighbours' messages share their links with half of the third, all of one rate
    for graph in (torus(4), torus(4, 2)):
        others = {c: near(late + 1.5 * S / W) for c in graph if any(c[:1])}
        ended = ends(one("all_to_all", algorithm="direct"), graph, start=dict.fromkeys([c for c in graph if not c[0]], late))
        assert {c: end for c, end in ended.items() if c[0]} == others
        assert {end for c, end in ended.items() if not c[0]} == {late}


def test_late_chip_holds_up_every_later_shift():
    late = 1e6
    hop = D / 3 / W  # shift 1 of 0 ends a hop after it came; then both it and chip 1, who heard from it, send the last
    ended = ends(one("all_to_all", algorithm="shifts"), torus(3), start={(0,): late})
    assert ended == {(0,): near(late + 2 * hop), (1,): near(late + hop), (2,): near(late + 2 * hop)}


def test_message_and_neighbour_transfer_share_a_link():
    program = Program((Collective("near", "permute", ("x",), D, shift={"x": 1}),
                       Collective("far", "all_to_all", ("x",), 3 * D, algorithm="direct", after=())))
    run = oracle.simulate(program, torus(3), IDEAL)
    assert run["ops"][0][2] == {(i,): near(2 * D / W) for i in range(3)}
    assert run["ops"][1][2] == {(i,): near(2 * D / W) for i in range(3)}
    # 0.8 of the link for two; the other direction carries one message alone.
    assert oracle.simulate(program, torus(3), Shared())["makespan"] == near(2 * D / (0.8 * W))


def test_link_at_half_bandwidth_doubles_a_direct_all_to_all():
    graph = torus(4, 4)
    graph.edges[(1, 2), (2, 2)]["bandwidth"] = W / 2
    assert makespan(one("all_to_all", "xy", algorithm="direct"), graph) == near(2 * D / 2 / W)


def test_exactly_half_way_goes_half_each_way_on_every_axis():
    routes = Grid(torus(4, 4, 3), None, None, None).message((0, 0, 0), (2, 2, 2))
    assert [share for share, _ in routes] == [1 / 4] * 4
    assert {(path[1], path[3], path[-2]) for _, path in routes} == {
        ((x, 0, 0), (2, y, 0), (2, 2, 0)) for x in (1, 3) for y in (1, 3)}


def test_dead_link_of_a_route_is_replaced_by_its_detours():
    grid = Grid(cut(torus(5, 4), (1, 0), (2, 0), both=False), None, None, None)
    assert grid.message((0, 0), (2, 0)) == [(1 / 2, [(0, 0), (1, 0), (1, y), (2, y), (2, 0)]) for y in (1, 3)]
    assert grid.message((2, 0), (0, 0)) == [(1, [(2, 0), (1, 0), (0, 0)])]


def twisted(lengths, axis, other, shift):
    """Return the torus whose wraparounds of one axis also go `shift` along another."""
    graph = torus(*lengths)
    a, b = "xyz".index(axis), "xyz".index(other)
    for chip in list(graph):
        if chip[a] == lengths[a] - 1:
            first = list(chip)
            first[a] = 0
            cut(graph, chip, tuple(first))
    for chip in list(graph):
        if chip[a] == lengths[a] - 1:
            first = list(chip)
            first[a], first[b] = 0, (chip[b] + shift) % lengths[b]
            for u, v in ((chip, tuple(first)), (tuple(first), chip)):
                graph.add_edge(u, v, bandwidth=W, latency=0.0)
    graph.graph["twist"] = {axis: {other: shift}}
    return graph


def test_twisted_axis_runs_as_lines_and_the_shifted_one_as_rings():
    graph = twisted((4, 4), "x", "y", 2)
    for ring in (None, (True, True)):
        run = oracle.simulate(one("all_gather", "x"), graph, IDEAL, ring=ring)
        assert run["makespan"] == near(3 * S / W)
        assert run["link_bytes"][(3, 0), (0, 2)] == 0
    assert makespan(one("all_gather", "y"), graph) == near(1.5 * S / W)


@pytest.mark.parametrize("graph", [twisted((3, 6), "x", "y", 3), twisted((2, 2, 4), "z", "x", 1), torus(4, 3)])
def test_routed_bytes_are_those_of_the_shortest_paths(graph):
    far = sum(map(sum, (d.values() for _, d in nx.all_pairs_shortest_path_length(graph))))
    for algorithm in ("direct", "shifts"):
        axes = "xyz"[:len(graph.graph["axes"])]
        run = oracle.simulate(one("all_to_all", axes, algorithm=algorithm), graph, IDEAL, route=balanced(graph))
        assert sum(run["link_bytes"].values()) == near(far * D / len(graph))
        busiest = max(run["link_bytes"].values())
        assert run["makespan"] > busiest / W * (1 - 1e-12)


def test_twist_beats_no_twist_where_it_balances_the_loads():
    times = {}
    for name, graph in (("torus", torus(3, 6)), ("twisted", twisted((3, 6), "x", "y", 3))):
        run = oracle.simulate(one("all_to_all", "xy", algorithm="direct"), graph, IDEAL, route=balanced(graph))
        times[name] = run["makespan"]
        assert run["makespan"] == near(max(run["link_bytes"].values()) / W)
    assert times["twisted"] < times["torus"]


# Parts of an axis


PARTS = {"x": [("x/2", 2, 1), ("x/2*2", 2, 2)]}


def test_inner_part_uses_its_own_links_alone():
    run = oracle.simulate(one("all_gather", ["x/2"]), torus(4, latency=A), IDEAL, parts=PARTS)
    assert run["makespan"] == near(D / 2 / W + A)
    used = {((u,), (u ^ 1,)) for u in range(4)}
    assert run["link_bytes"] == {link: near(D / 2) if link in used else 0 for link in run["link_bytes"]}


def test_outer_part_is_routed_over_the_links_between():
    # Round the ring half each way: every link has two flows by halves. On a line the middle link has two whole ones.
    run = oracle.simulate(one("all_gather", ["x/2*2"]), torus(4, latency=A), IDEAL, parts=PARTS)
    assert run["makespan"] == near(D / 2 / W + 2 * A)
    assert list(run["link_bytes"].values()) == [near(D / 2)] * 8
    assert makespan(one("all_gather", ["x/2*2"]), torus(4, wrap=False), parts=PARTS) == near(D / W)


def test_outer_part_longer_than_two_is_a_ring():
    parts = {"x": [("x/2", 2, 1), ("x/3", 3, 2)]}
    grid = Grid(torus(6), None, parts, None)
    assert {name: axis.ring for name, axis in grid.axes.items()} == {"x": True, "x/2": False, "x/3": True}
    assert grid.group((3,), ("x/3",)) == [(1,), (3,), (5,)]
    assert not Grid(torus(6), None, {"x": [("x/3", 3, 1), ("x/2", 2, 3)]}, None).axes["x/3"].ring
    assert [lane.ring for lane in Grid(torus(6, wrap=False), None, parts, None).lanes("x/3", None)] == [False, False]
    # One step both ways round; on each link two transfers, that each end two links away.
    assert makespan(one("all_gather", ["x/3"]), torus(6), parts=parts) == near(D / 3 / (W / 2))


def test_transfers_of_an_outer_part_queue_on_their_own():
    # The second waits for the first, on each chip; an inner transfer beside them does not, and shares the links.
    def program(*axes):
        return Program(tuple(Collective(f"{i}", "permute", (a,), D, shift={a: 1}, after=()) for i, a in enumerate(axes)))
    twice = oracle.simulate(program("x/2*2", "x/2*2"), torus(4), IDEAL, parts=PARTS)
    assert [t.end for t in twice["transfers"]] == [near(D / W)] * 4 + [near(2 * D / W)] * 4
    both = oracle.simulate(program("x/2*2", "x/2"), torus(4), IDEAL, parts=PARTS)
    assert [t.end for t in both["transfers"]] == [near(2 * D / W)] * 8


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_reduce", "all_to_all", "permute"])
def test_contracts_hold_over_parts(kind):
    parts = {"x": [("x/3", 3, 1), ("x/2", 2, 3)]}
    shift = {"x/3": 1, "x/2": 1} if kind == "permute" else {}
    program = one(kind, ["x/3", "y", "x/2"], shift=shift)
    assert makespan(program, torus(6, 3), parts=parts) > makespan(one(kind, ["x/3"], shift={"x/3": 1} if shift else {}),
                                                                  torus(6, 3), parts=parts)
    assert makespan(one("all_to_all", ["x/3", "x/2"], algorithm="direct"), torus(6), parts=parts) == near(3 / 4 * D / W)


def test_dead_link_of_an_inner_part_is_detoured():
    graph = cut(torus(4), (0,), (1,), both=False)
    # Round the ring, over 3 -> 2, which has a transfer of its own; no inner part uses the two other links.
    assert makespan(one("permute", ["x/2"], shift={"x/2": 1}), graph, parts=PARTS) == near(2 * D / W)


# All of it together


def test_collective_of_one_chip_is_nothing():
    for kind in ("all_gather", "all_to_all", "permute"):
        assert makespan(one(kind, "y"), torus(4, 1), Chip(launch=9.0)) == 0
    assert makespan(one("all_to_all", "y", algorithm="direct"), torus(4, 1), Chip(launch=9.0)) == 0


def assert_rates_fit(run, graph, capacity):
    """Assert that what flowed is what was carried, and that no link ever carried more than `capacity` bytes/s."""
    for link in graph.edges:
        pieces = run["pieces"][link]
        assert sum((t1 - t0) * rate for t0, t1, rate in pieces) == pytest.approx(run["link_bytes"][link], rel=1e-9)
        times = sorted({t for t0, t1, _ in pieces for t in (t0, t1)})
        rates = defaultdict(float)
        for (a, b), (t0, t1, rate) in product(pairwise(times), pieces):
            rates[a] += rate if t0 <= a and b <= t1 else 0
        assert all(rate <= capacity(link, a) * (1 + 1e-9) for a, rate in rates.items())


@pytest.mark.parametrize("algorithm", ["direct", "shifts", "dimension_wise"])
def test_no_link_carries_more_than_its_bandwidth_when_groups_are_late_and_links_slow_dead_and_changing(algorithm):
    graph = cut(torus(4, 4, latency=A), (1, 0), (2, 0), both=False)
    slow, moment = ((2, 1), (2, 2)), 100.0
    graph.edges[slow]["bandwidth"] = W / 4
    graph.graph["events"] = ((moment, {((0, 0), (0, 1)): W / 3}),)
    program = Program((Compute("work", flops=50.0), Collective("gather", "all_gather", ("y",), D, detour=True),
                       Collective("exchange", "all_to_all", ("x", "y"), D, algorithm=algorithm, detour=True),
                       Collective("beside", "all_reduce", ("x",), D, detour=False, after=("work",))), layers=2)
    run = oracle.simulate(program, graph, Chip(launch=1.0), start={(3, 3): 400.0})

    def capacity(link, time):
        return W / 4 if link == slow else W / 3 if link == ((0, 0), (0, 1)) and time >= moment else W
    assert_rates_fit(run, graph, capacity)
    assert any(rate == near(W / 4) for _, _, rate in run["pieces"][slow])
