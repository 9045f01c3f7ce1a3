"""What is known of shared links by hand: all-to-alls, broken rings and their detours, changes in mid-run, parts of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import networkx as nx
import numpy as np
import pytest
from plain import plain_core
from random_shared import Scenario, run, scenario
from thinned import thinned

from torussim.chips import chip
from torussim.closed_forms import axes_seconds
from torussim.engine.simulate import simulate
from torussim.program import Collective, Program
from torussim.timeline import Timeline
from torussim.topology.builders import ring, torus
from torussim.topology.grid import grid

IDEAL = chip("ideal")
W = 1e9  # bytes/s, of a link where nothing else is said
D = 1e6  # bytes of a collective
ALL_TO_ALL = {"kind": "all_to_all", "algorithm": "direct"}


def program(axes: Sequence[str], *, layers: int = 1, **what: Any) -> Program:
    """Return a block of one collective, an all-gather unless `what` says otherwise."""
    given = {"kind": "all_gather", "bytes": D} | what
    return Program((Collective("c", axes=tuple(axes), **given),), layers)


def seconds(graph: nx.DiGraph, axes: Sequence[str], **what: Any) -> float:
    return simulate(program(axes, **what), graph, IDEAL).makespan


# All-to-alls


@pytest.mark.parametrize("shape", [(4, 4, 4), (6, 6, 6), (4, 4, 8), (4, 4), (6, 4)], ids=str)
def test_a_direct_all_to_all_on_an_even_torus_takes_what_its_longest_axis_needs(shape: tuple[int, ...]) -> None:
    """D max(k) / (8 w): half of an axis' k / 4 hops go each way."""
    graph = torus(shape, bandwidth=W)
    assert seconds(graph, graph.graph["axes"], **ALL_TO_ALL) == pytest.approx(D * max(shape) / (8 * W), rel=1e-12)


@pytest.mark.parametrize("shape", [(4, 4, 8), pytest.param((4, 8, 8), marks=pytest.mark.slow)], ids=str)
def test_a_twisted_torus_is_faster_by_the_loads_on_the_busiest_links(shape: tuple[int, ...]) -> None:
    """Untwisted: what all shortest paths, each with the same share, put on a link. Twisted: all hops on all links alike."""
    plain, twisted = torus(shape, bandwidth=W), torus(shape, bandwidth=W, twist=True)
    plain.graph["routing"] = "minimal"
    load = max(nx.edge_betweenness_centrality(plain, normalized=False).values())  # pairs of chips
    hops = sum(sum(there.values()) for _, there in nx.all_pairs_shortest_path_length(twisted))
    least = hops / twisted.number_of_edges()
    took = [seconds(graph, "xyz", **ALL_TO_ALL) for graph in (plain, twisted)]
    assert took == pytest.approx([D / len(plain) * load / W, D / len(plain) * least / W], rel=1e-9)
    assert took[0] / took[1] == pytest.approx(load / least, rel=1e-9) and load / least > 1.3


@pytest.mark.parametrize("k", [4, pytest.param(6, marks=pytest.mark.slow)])
def test_shifts_are_slower_than_all_at_once_by_less_than_three(k: int) -> None:
    """They can never be faster: the busiest link has as many bytes to pass."""
    took = seconds(torus((k, k, k), bandwidth=W), "xyz", kind="all_to_all", algorithm="shifts")
    assert 1.5 < took / (D * k / (8 * W)) < 3


@pytest.mark.parametrize("shape, routing", [((4, 4, 4), "dimension_order"), ((4, 4, 4), "minimal"), pytest.param(
    (8, 8, 8), "dimension_order", marks=pytest.mark.slow)], ids=str)
def test_one_link_at_half_bandwidth_makes_a_direct_all_to_all_twice_as_long(shape: tuple[int, ...], routing: str) -> None:
    """Routes do not avoid it, and on a cube every link is busy all the time."""
    graph = torus(shape, bandwidth=W)
    graph.graph["routing"] = routing
    for edge in (((0, 0, 0), (1, 0, 0)), ((1, 0, 0), (0, 0, 0))):
        graph.edges[edge]["bandwidth"] = W / 2
    assert seconds(graph, "xyz", **ALL_TO_ALL) == pytest.approx(2 * D * shape[0] / (8 * W), rel=1e-9)


# A dead link in a ring


def broken(shape: Sequence[int]) -> nx.DiGraph:
    """Return a torus without the link between the first two chips of the first ring along x."""
    graph, zero = torus(shape, bandwidth=W), (0,) * (len(shape) - 1)
    graph.remove_edges_from([((0, *zero), (1, *zero)), ((1, *zero), (0, *zero))])
    return graph


def finish_by_row(timeline: Timeline) -> dict[tuple[int, ...], float]:
    """Return when the last chip of each ring along x is done, by its other coordinates."""
    found: dict[tuple[int, ...], float] = {}
    for place, end in zip(timeline.chips, timeline.finish.tolist(), strict=True):
        found[place[1:]] = max(found.get(place[1:], 0.0), end)
    return found


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4)], ids=str)
def test_a_broken_ring_is_slower_by_what_its_detours_share(shape: tuple[int, ...]) -> None:
    """On rings of 4 a detour has three hops: round the ring, or over one of the 2 (n - 1) rings beside it.

    So each of the m = 2 n - 1 gets 1/m of the message, and shares links with a transfer that is always there: r + r / m = w.
    The broken ring is on its way round too, all of its transfers have the same rate, and so has one transfer in the rings
    beside it. Every other ring does not notice.
    """
    ways = 2 * (len(shape) - 1) + 1
    healthy = 3 / 4 * D / (2 * W)
    slower = healthy * (1 + 1 / ways)
    rows = finish_by_row(simulate(program("x", detour=True), broken(shape), IDEAL))
    beside = [row for row in rows if sorted(min(c, 4 - c) for c in row) == [0] * (len(row) - 1) + [1]]
    assert len(beside) == ways - 1
    wanted = {row: slower if not any(row) or row in beside else healthy for row in rows}
    assert rows == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (5, 4)], ids=str)
def test_healthy_rings_of_other_axes_take_their_healthy_time(shape: tuple[int, ...]) -> None:
    for detour in (True, False):
        timeline = simulate(program("y", detour=detour), broken(shape), IDEAL)
        assert timeline.finish == pytest.approx(3 / 4 * D / (2 * W), rel=1e-12)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (5, 4)], ids=str)
def test_without_detours_a_broken_ring_takes_the_time_of_a_line_and_others_do_not_notice(shape: tuple[int, ...]) -> None:
    rows = finish_by_row(simulate(program("x", detour=False), broken(shape), IDEAL))
    k = shape[0]
    assert rows == pytest.approx({row: (k - 1) / k * D / (W if not any(row) else 2 * W) for row in rows}, rel=1e-12)


# Rates over time


@dataclass
class Meter:
    """What passes on the links of a network, at every time between two events."""

    moments: list[tuple[float, Any, Any, Any]] = field(default_factory=list)  # time, (links,) rate, flows, bandwidth
    bandwidth: Any = None  # (links,) now

    def read(self, network: Any, net: Any) -> None:
        """Note what each link passes from now on; rates are settled."""
        links, slots = len(self.bandwidth), network.live(net)
        rows = net.flows["row"][slots]
        count = net.first[rows + 1] - net.first[rows]
        entry = np.arange(count.sum()) + np.repeat(net.first[rows] - np.cumsum(count) + count, count)
        per_entry = np.repeat(net.rate[slots], count) * net.share[entry]
        self.moments.append((float(net.one["now"][0]), np.bincount(net.link[entry], per_entry, links),
                             np.bincount(net.link[entry], minlength=links), self.bandwidth.copy()))

    def passed(self) -> Any:
        """Return (links,) the bytes that the rates add up to."""
        total = np.zeros(len(self.moments[0][1]))
        for (time, rate, _, _), after in zip(self.moments, self.moments[1:], strict=False):
            total += rate * (after[0] - time)
        assert not self.moments[-1][1].any(), "nothing is under way at the end"
        return total


@pytest.fixture
def meter(monkeypatch: pytest.MonkeyPatch) -> Meter:
    """Return what reads the rates in every run of the test."""
    found, (_, core) = Meter(), plain_core(monkeypatch)
    network = core.network

    def made(routes: Any, bandwidth: Any, *efficiency: float) -> Any:
        found.bandwidth = np.array(bandwidth, dtype=float)
        return network.made(routes, bandwidth, *efficiency)

    def set_bandwidth(net: Any, link: int, bandwidth: float) -> None:
        found.bandwidth[link] = bandwidth
        network.set_bandwidth(net, link, bandwidth)

    def next_end(net: Any) -> float:
        """Until then rates stay as they are, or until something starts or a bandwidth changes."""
        end = float(network.next_end(net))
        found.read(network, net)
        return end

    monkeypatch.setattr(core, "network", SimpleNamespace(
        **vars(network) | {"made": made, "set_bandwidth": set_bandwidth, "next_end": next_end}))
    return found


def assert_no_link_exceeds_its_bandwidth(case: Scenario, meter: Meter) -> None:
    """And all bytes of the links that flows use have passed there, none twice; every other link has no flow."""
    timeline = run(case, repeat=False, fold=False)
    if not meter.moments:
        assert not case.graph.graph.get("events"), "a run on private links"
        return
    for _, rate, flows, bandwidth in meter.moments:
        passes = bandwidth * np.where(flows > 1, case.chip.shared_efficiency, 1.0)
        assert (rate <= passes * (1 + 1e-9)).all()
    passed = meter.passed()
    used = passed > 0
    assert used.any() == (timeline.flows > 0) and passed[used] == pytest.approx(timeline.link_bytes[used], rel=1e-9)


@pytest.mark.parametrize("seed", thinned(range(20), 3))
def test_no_link_exceeds_its_bandwidth_and_every_byte_passes_once(seed: int, meter: Meter) -> None:
    assert_no_link_exceeds_its_bandwidth(scenario(seed), meter)


@pytest.mark.parametrize("seed", [seed for seed in range(60) if scenario(seed).graph.graph.get("events")][:12])
def test_no_byte_is_lost_or_counted_twice_when_bandwidths_change(seed: int, meter: Meter) -> None:
    case = scenario(seed)
    assert_no_link_exceeds_its_bandwidth(case, meter)
    last = meter.moments[-1][0]  # after it nothing is sent through the network
    changes = sum(time <= last for time, _ in case.graph.graph["events"])  # the last moment can be a change
    assert len({tuple(bandwidth) for *_, bandwidth in meter.moments}) == 1 + changes


def test_a_slow_link_that_delays_one_group_lets_nobody_exceed_a_bandwidth(meter: Meter) -> None:
    graph = torus((4, 4), bandwidth=W)
    graph.edges[(0, 1), (1, 1)]["bandwidth"] = W / 8
    gather = Collective("gather", "all_gather", ("x",), D)
    exchange = Collective("exchange", "all_to_all", ("x", "y"), D, "direct")
    case = Scenario(Program((gather, exchange)), graph, (0.0,) * 16, IDEAL)
    began = run(case).segments[0].start[1].reshape(4, 4).max(axis=0)
    assert began[1] > 2 * began[0] == 2 * began[2], "the second group begins later than the others"
    meter.moments.clear()
    assert_no_link_exceeds_its_bandwidth(case, meter)


# Changes of bandwidth in mid-run


def with_event(graph: nx.DiGraph, time: float, scale: float) -> nx.DiGraph:
    """Return the network with every bandwidth multiplied from a time on."""
    changed = graph.copy()
    changed.graph["events"] = ((time, {edge: scale * link["bandwidth"] for edge, link in graph.edges.items()}),)
    return changed


CASES = {"all-gather": ((4, 4), "xy", {}), "all-to-all": ((4, 4), "xy", ALL_TO_ALL),
         "shifts": ((4, 3), "xy", {"kind": "all_to_all", "algorithm": "shifts"}),
         "permute": ((5,), "x", {"kind": "permute", "shift": {"x": 1}})}


@pytest.mark.parametrize("name", CASES)
def test_links_that_halve_at_half_time_make_it_half_as_long_again(name: str) -> None:
    shape, axes, what = CASES[name]
    graph = torus(shape, bandwidth=W)
    alone = seconds(graph, axes, **what)
    assert seconds(with_event(graph, alone / 2, 0.5), axes, **what) == pytest.approx(1.5 * alone, rel=1e-9)
    assert seconds(with_event(graph, alone * 2, 0.5), axes, **what) == pytest.approx(alone, rel=1e-12), "after the end"
    assert seconds(with_event(graph, 0.0, 0.5), axes, **what) == pytest.approx(2 * alone, rel=1e-12), "from the start"


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.5])
def test_a_change_on_a_link_that_nobody_uses_changes_nothing(share: float) -> None:
    graph = torus((3, 3), bandwidth=W, latency=1e-6)
    blocks = program("y", layers=3)
    wanted = simulate(blocks, graph, IDEAL).finish
    graph.graph["events"] = ((share * wanted.max(), {((0, 0), (1, 0)): W / 2}),)
    assert simulate(blocks, graph, IDEAL, repeat=False).finish == pytest.approx(wanted, rel=1e-9)


def test_blocks_repeat_before_a_change_and_after_it() -> None:
    graph = torus((3, 3), bandwidth=W, latency=1e-6)
    blocks = program("xy", layers=100)
    block = simulate(program("xy"), graph, IDEAL).makespan
    changed = with_event(graph, 40.5 * block, 0.5)
    repeated, whole = (simulate(blocks, changed, IDEAL, repeat=repeat) for repeat in (True, False))
    assert whole.blocks_simulated == len(repeated.runs) == 100 and repeated.blocks_simulated < 12
    for (one, offset), (other, at) in zip(repeated.runs, whole.runs, strict=True):
        for got, wanted in zip((repeated.segments[one].start, repeated.segments[one].end),
                               (whole.segments[other].start, whole.segments[other].end), strict=True):
            assert np.abs(got + offset - wanted - at).max() <= 1e-9 * whole.makespan
    assert whole.makespan > 1.5 * 100 * block


# Parts of an axis


def test_rings_over_parts_of_an_axis_take_what_their_links_must_pass() -> None:
    """Neighbours of x/4*2 are two hops apart, so that each link serves two of its hops; those of x/2 have links of their own."""
    eight, four = grid(ring(8, bandwidth=W), parts={"x": (2, 4)}), grid(ring(4, bandwidth=W), parts={"x": (2, 2)})
    assert seconds(eight, ["x/4*2"]) == pytest.approx(3 / 4 * D / (2 * (W / 2)), rel=1e-12)
    assert seconds(eight, ["x/2"]) == pytest.approx(D / 2 / W, rel=1e-12)
    assert seconds(four, ["x/2*2"]) == pytest.approx(D / 2 / W, rel=1e-12), "half each way, and two messages on each link"


@pytest.mark.parametrize("length, cut", [(4, (2, 2)), (6, (2, 3)), (6, (3, 2)), (8, (2, 4))], ids=str)
def test_an_all_to_all_over_all_parts_is_one_over_the_axis(length: int, cut: tuple[int, int]) -> None:
    graph = torus((length, 3), bandwidth=W, latency=1e-6)
    whole, parts = grid(graph), grid(graph, parts={"x": cut})
    names = [axis for axis in parts.axes if axis != "y"]
    one, other = (simulate(program(axes, **ALL_TO_ALL), net, IDEAL)
                  for net, axes in ((whole, "x"), (parts, names)))
    assert other.finish == pytest.approx(one.finish, rel=1e-12)
    assert other.link_bytes == pytest.approx(one.link_bytes, rel=1e-12)


# Permutes


@pytest.mark.parametrize("ring", [True, False])
@pytest.mark.parametrize("length, shift", [(4, 1), (4, 3), (7, 1), (5, 2), (6, 3), (2, 1), (7, -3)])
def test_a_message_of_a_permute_is_on_all_links_of_its_way_at_once(length: int, shift: int, ring: bool) -> None:
    """So many share the busiest link as go on, or back, whichever are fewer; on a ring that is the way. The estimate says so."""
    net = grid(torus((length,), wrap=ring, bandwidth=1e9, latency=1e-6))
    program = Program((Collective("c", "permute", ("x",), 1e6, shift={"x": shift}),))
    few, many = sorted((shift % length, -shift % length))
    load, hops = (few / 2 if few == many else few, few) if ring and length > 2 else (few, many)
    said = simulate(program, net, chip("ideal")).makespan
    assert said == pytest.approx(load * 1e-3 + hops * 1e-6, rel=1e-9)
    assert axes_seconds(program, net, chip("ideal")) == pytest.approx(said, rel=1e-9)
    whole = Program((Collective("c", "permute", ("x",), 1e6, "dimension_order", shift={"x": shift}),))
    assert simulate(whole, net, chip("ideal")).makespan >= said * (1 - 1e-9), "stored whole on every chip"


def test_a_permute_over_two_axes_is_on_the_links_of_both_at_once() -> None:
    net = grid(torus((4, 5), bandwidth=1e9, latency=1e-6))
    program = Program((Collective("c", "permute", ("x", "y"), 1e6, shift={"x": 1, "y": -1}),))
    assert simulate(program, net, chip("ideal")).makespan == pytest.approx(1e-3 + 2e-6, rel=1e-9)


@pytest.mark.parametrize("length", [3, 4, 7])
def test_a_nested_gather_on_a_line_loses_the_way_back_once_a_step(length: int) -> None:
    gather = Program((Collective("c", "all_gather", ("x",), 1e6 * length, "nested"),))
    line, round_ = (simulate(gather, torus((length,), wrap=wrap, bandwidth=1e9, latency=1e-6), chip("ideal")).makespan
                    for wrap in (False, True))
    assert round_ == pytest.approx((length - 1) * (1e-3 + 1e-6))
    assert round_ < line <= round_ + (length - 1) * (length - 2) * 1e-6 * (1 + 1e-9)
