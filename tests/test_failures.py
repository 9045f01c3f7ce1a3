"""Links that fail in mid-run: by hand, against the oracle, and by what no failure may change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

import alone
import networkx as nx
import numpy as np
import pytest
import random_scenarios as plain
import test_own_algorithms as own
from plain import plain_core
from random_shared import Scenario, compare, dying, run, scenario
from test_shared import assert_the_same, flat
from test_shared_laws import Meter, assert_no_link_exceeds_its_bandwidth
from test_shared_laws import meter as meter
from thinned import thinned

import torussim
from torussim.chips import chip
from torussim.engine import event_core
from torussim.engine.simulate import simulate
from torussim.errors import TorusSimError
from torussim.fronts import Fronts
from torussim.program import Collective, Compute, Program
from torussim.timeline import Timeline
from torussim.topology.builders import ring, torus
from torussim.topology.faults import Changes, faults
from torussim.topology.grid import grid, parts_of
from torussim.topology.links import LinkChange, change_later

IDEAL = chip("ideal")
W = 1e9  # bytes/s, of a link
D = 1e6  # bytes of a collective
SEEDS = range(48)
Edge = tuple[Any, Any]


def failing(graph: nx.DiGraph, time: float, *dead: Edge) -> nx.DiGraph:
    """Return the network in which links fail at a time."""
    changed = graph.copy()
    changed.graph["events"] = (*graph.graph.get("events", ()), (time, dict.fromkeys(dead, 0.0)))
    return changed


def without(graph: nx.DiGraph, *dead: Edge) -> nx.DiGraph:
    left = graph.copy()
    left.remove_edges_from(dead)
    return left


def both(u: Any, v: Any) -> tuple[Edge, Edge]:
    return (u, v), (v, u)


def one(kind: str, axes: Sequence[str] = "x", **what: Any) -> Program:
    return Program((Collective("c", kind, tuple(axes), **({"bytes": D} | what)),))


def carried(timeline: Timeline, graph: nx.DiGraph) -> dict[Edge, float]:
    return dict(zip(graph.edges, timeline.link_bytes.tolist(), strict=True))


# By hand


@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.16, 0.5, 0.99])
@pytest.mark.parametrize("chips", [3, 4, 5, 8])
def test_a_ring_goes_on_at_half_the_rate_from_the_byte_that_it_had_reached(chips: int, share: float, ways: int) -> None:
    """Round the ring the detour meets a transfer on each link of the other direction, which is there all the time.

    Case 23 is the ring of 8 with 64 MB, whose link fails at 100 us, 0.16 of its time.
    """
    graph = ring(chips, bandwidth=W)
    sent = (chips - 1) / chips * D / 2  # on each link, of a healthy ring
    dead = both((0,), (1,))[:ways]
    said = simulate(one("all_gather"), broken := failing(graph, share * sent / W, *dead), IDEAL)
    assert said.makespan == pytest.approx(sent / W * (share + 2 * (1 - share)), rel=1e-9)
    rest = (1 - share) * sent
    wanted = {}
    for u, v in graph.edges:
        backwards = (u[0] - v[0]) % chips == 1  # as the detour of 0 -> 1, which does not pass 1 -> 0
        meets = (backwards or ways == 2) and (u, v) != ((1,), (0,))
        wanted[u, v] = sent - rest if (u, v) in dead else sent + rest * meets
    assert carried(said, broken) == pytest.approx(wanted, rel=1e-9, abs=1e-6)
    assert said.link_seconds == pytest.approx(said.link_bytes / W, abs=1e-12), "also of a link that has failed"


def test_messages_of_an_all_to_all_turn_round_and_share_the_links_there() -> None:
    graph, time, message = ring(3, bandwidth=W), 1e-4, D / 3
    said = simulate(one("all_to_all", algorithm="direct"), broken := failing(graph, time, ((0,), (1,))), IDEAL)
    rest = message - time * W
    assert said.makespan == pytest.approx(time + 2 * rest / W, rel=1e-12)
    wanted = dict.fromkeys(graph.edges, message) | {
        ((0,), (1,)): time * W, ((0,), (2,)): message + rest, ((2,), (1,)): message + rest}
    assert carried(said, broken) == pytest.approx(wanted, rel=1e-12)


def test_the_last_byte_arrives_by_the_latency_of_the_way_that_it_took() -> None:
    graph = ring(4, bandwidth=W, latency=1e-5)
    permute = one("permute", shift={"x": 1})
    for time, late in ((0.5e-3, 3e-5), (1e-3 + 0.5e-5, 1e-5)):  # in mid-message, and when its last byte has left
        finish = dict(zip([(x,) for x in range(4)], simulate(permute, failing(graph, time, ((0,), (1,))), IDEAL).finish.tolist()))
        assert finish[1,] == pytest.approx(1e-3 + late, rel=1e-9), "nobody else is on the links of the other direction"


def test_a_link_to_a_switch_fails_and_its_messages_go_by_the_other_switch() -> None:
    """Half of each message goes by each switch; from the failure on chip 0 has one link out, and chip 1 still two in."""
    graph, time = nx.DiGraph(axes={"x": 4}), 1e-4
    graph.add_nodes_from((x,) for x in range(4))
    for switch in "ab":
        graph.add_node(switch, chip=False)
        for x in range(4):
            for edge in both((x,), switch):
                graph.add_edge(*edge, bandwidth=W, latency=0.0)
    permute = one("permute", algorithm="direct", shift={"x": 1})
    said = simulate(permute, broken := failing(graph, time, ((0,), "a")), IDEAL)
    rest = D - 2 * W * time
    finish = dict(zip(said.chips, said.finish.tolist(), strict=True))
    assert finish == pytest.approx({(x,): time + rest / W if x == 1 else D / W / 2 for x in range(4)}, rel=1e-12)
    wanted = dict.fromkeys(graph.edges, D / 2) | {((0,), "a"): W * time, ("a", (1,)): W * time,
                                                  ((0,), "b"): D - W * time, ("b", (1,)): D - W * time}
    assert carried(said, broken) == pytest.approx(wanted, rel=1e-9)


def test_two_links_fail_one_after_the_other() -> None:
    """A message goes from 0 to 1 at 4 W, for 1 ms, then by 2 at 2 W, for 1 ms, then by 3 and 4; that from 2 to 3 goes by 0."""
    graph = nx.DiGraph(axes={"x": 5})
    graph.add_nodes_from((x,) for x in range(5))
    wires = {(0, 1): 4 * W, (0, 2): 2 * W, (2, 1): 2 * W, (0, 3): W, (3, 4): W, (4, 1): W}
    for (u, v), bandwidth in wires.items():
        graph.add_edge((u,), (v,), bandwidth=bandwidth, latency=0.0)
        graph.add_edge((v,), (u,), bandwidth=bandwidth, latency=0.0)
    message = one("permute", algorithm="direct", shift={"x": 1}, bytes=8 * D)
    graph.graph["routing"] = lambda g, u, v: nx.shortest_path(g, u, v)
    late = (0.0, *[1.0] * 4)  # all others come when it is over
    broken = failing(failing(graph, 1e-3, ((0,), (1,))), 2e-3, ((2,), (1,)))
    said = simulate(message, broken, IDEAL, start=late)
    moved = carried(said, broken)
    assert [moved[(0,), (x,)] for x in (1, 2, 3)] == pytest.approx([4 * D, 2 * D, 2 * D + 8 * D], rel=1e-9)
    assert simulate(message, graph, IDEAL, start=late).makespan <= said.makespan


# Where it is as if the link had never been there, or were there for ever


def over_the_first_axis(graph: nx.DiGraph, u: Any, v: Any) -> list[Any]:
    """Return a routing of a user's: among the shortest paths the one through the least chips."""
    return min(nx.all_shortest_paths(graph, u, v))


@pytest.mark.parametrize("routing", ["dimension_order", "minimal", "shortest", over_the_first_axis])
@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_reduce", "all_to_all"])
def test_a_link_that_fails_while_nothing_is_under_way_is_dead_from_there_on(kind: str, routing: Any) -> None:
    graph, dead = torus((4, 3), bandwidth=W, latency=1e-6), both((1, 0), (2, 0))
    graph.graph["routing"] = routing
    work = Compute("work", flops=1e-3 * IDEAL.rate("bf16"))
    for algorithm in ("", "direct") if kind == "all_to_all" else ("",):
        moved = Collective("c", kind, ("x", "y"), D, algorithm, detour=True)
        broken = simulate(Program((moved,)), without(graph, *dead), IDEAL)
        for time in (0.5e-3, 1e-3):
            later = simulate(Program((work, moved)), failing(graph, time, *dead), IDEAL)
            assert later.finish == pytest.approx(1e-3 + broken.finish, rel=1e-9)
            later_bytes = carried(later, graph)
            assert [later_bytes.pop(edge) for edge in dead] == pytest.approx([0.0, 0.0], abs=1e-6)
            assert later_bytes == pytest.approx(carried(broken, without(graph, *dead)), rel=1e-9)


def settled(seed: int) -> Scenario:
    """Return a scenario in which nothing is chosen by estimate, and broken rings take detours; without events."""
    case = scenario(seed)
    program = case.program.replaced(plain.told(case.program, case.grid)[0])
    change = {o.name: replace(o, detour=True, algorithm="" if o.algorithm == "one_ring" else o.algorithm)
              for o in program.operations() if isinstance(o, Collective)}
    graph = case.graph.copy()
    graph.graph.pop("events", None)
    return replace(case, program=program.replaced(change), graph=graph)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_link_that_fails_at_the_start_was_never_there_and_one_after_the_end_always(seed: int) -> None:
    case = settled(seed)
    wanted = run(case)
    for edge in list(case.graph.edges)[::max(1, len(case.graph.edges) // 3)]:
        left = replace(case, graph=without(case.graph, edge))
        if not nx.is_strongly_connected(left.graph):
            continue
        after = run(replace(case, graph=failing(case.graph, 2 * wanted.makespan + 1e-3, edge)))
        assert_the_same(after, wanted)
        assert after.link_bytes == pytest.approx(wanted.link_bytes, rel=1e-12)
        if left.grid.ring == case.grid.ring:
            start, never = run(replace(case, graph=failing(case.graph, 0.0, edge))), run(left)
            assert_the_same(start, never)
            assert carried(start, case.graph) == pytest.approx(carried(never, left.graph) | {edge: 0.0}, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("seed", thinned(range(150), 3))
def test_a_users_algorithm_takes_the_detours_too(seed: int) -> None:
    """Between two chips of an axis of 2 a lane takes the queue of the other direction where it finds the link dead."""
    rng = Random(seed)
    net = own.networks(rng)
    program = own.own_program(rng, net, sound=True)
    program = program.replaced({o.name: replace(o, detour=True) for o in program.operations() if isinstance(o, Collective)})
    edge = rng.choice(list(net.graph.edges))
    left = without(net.graph, edge)
    if 2 in net.shape or not nx.is_strongly_connected(left) or (never := grid(left, parts=parts_of(net))).ring != net.ring:
        return
    start = grid(failing(net.graph, 0.0, edge), parts=parts_of(net))
    assert_the_same(simulate(program, start, plain.REAL), simulate(program, never, plain.REAL))


# The oracle, and both ways to run


@pytest.mark.parametrize("seed", thinned(SEEDS, 3))
def test_engine_and_oracle_agree_on_every_time_and_byte(seed: int) -> None:
    assert not compare(dying(seed))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SEEDS.stop, 240, 20))
def test_engine_and_oracle_agree_on_many_more(first: int) -> None:
    assert not {seed: told for seed in range(first, first + 20) if (told := compare(dying(seed)))}


def test_most_failures_make_a_difference() -> None:
    cases = [(scenario(seed), dying(seed)) for seed in SEEDS]
    broken = [(case, other) for case, other in cases if other.grid.links.failures]
    assert len(broken) > len(cases) / 2
    unlike = [(case, other) for case, other in broken
              if np.abs(run(case).link_bytes - run(other).link_bytes).max() > 1e-3 * run(case).link_bytes.max()]
    assert len(unlike) > len(broken) / 2
    operations = [o for _, other in unlike for o in other.program.operations() if isinstance(o, Collective)]
    assert {"direct", "shifts"} < {o.algorithm for o in operations}
    assert any(len(other.grid.links.failures) > 1 for _, other in unlike)
    assert any(other.program.layers > 1 for _, other in unlike) and any(other.parts for _, other in unlike)


@pytest.mark.parametrize("seed", thinned(range(24), 3))
def test_compiled_runs_are_the_plain_ones_to_the_last_bit(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = dying(seed)
    said = run(case)
    plain_core(monkeypatch)
    wanted = run(case)
    assert (flat(said, "end") == flat(wanted, "end")).all() and (said.link_bytes == wanted.link_bytes).all()
    assert (said.flows, said.events) == (wanted.flows, wanted.events)


@pytest.mark.parametrize("seed", thinned(range(24), 3))
def test_flows_alone_on_their_links_make_nothing_later(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    case = dying(seed)
    case = replace(case, chip=replace(case.chip, shared_efficiency=1.0))
    fair = run(case, repeat=False)
    _, core = plain_core(monkeypatch)
    monkeypatch.setattr(core, "network", alone.NETWORK)
    lonely = run(case, repeat=False)
    assert (flat(lonely, "end") <= flat(fair, "end") + 1e-9 * fair.makespan).all() and lonely.flows == fair.flows


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("seed", range(10))
def test_repeated_blocks_are_what_they_would_have_been(seed: int, alike: bool) -> None:
    case = dying(seed, layers=12, alike=alike)
    repeated, whole = run(case, repeat=True), run(case, repeat=False)
    assert_the_same(repeated, whole)
    assert repeated.link_bytes == pytest.approx(whole.link_bytes, rel=1e-9, abs=1e-6) and whole.blocks_simulated == 12


def test_blocks_repeat_after_the_last_failure() -> None:
    graph, gather = ring(4, bandwidth=W), one("all_gather").block
    block = simulate(Program(gather), graph, IDEAL).makespan
    repeated, whole = (simulate(Program(gather, 60), failing(graph, 5.5 * block, *both((0,), (1,))), IDEAL, repeat=repeat)
                       for repeat in (True, False))
    assert_the_same(repeated, whole)
    assert repeated.blocks_simulated < 12 and whole.makespan == pytest.approx((5.5 + 2 * 54.5) * block, rel=1e-9)


# Nothing is lost or counted twice


def kept(timeline: Timeline, graph: nx.DiGraph) -> dict[str, dict[Any, float]]:
    """Return of each collective the bytes that stay on each node: those that come, less those that go."""
    return {name: {node: sum(size for (_, v), size in zip(graph.edges, sizes.tolist(), strict=True) if v == node)
                   - sum(size for (u, _), size in zip(graph.edges, sizes.tolist(), strict=True) if u == node)
                   for node in graph} for name, sizes in timeline.carried.items()}


@pytest.mark.parametrize("seed", thinned(SEEDS, 2))
def test_as_many_bytes_stay_on_every_chip_as_without_failures(seed: int) -> None:
    """Of each operation; and none is on a link that was dead all the time."""
    case = dying(seed)
    wanted, said = kept(run(scenario(seed)), case.graph), kept(run(case), case.graph)
    assert said.keys() == wanted.keys()
    for name, stays in wanted.items():
        assert said[name] == pytest.approx(stays, rel=1e-9, abs=1e-3)


@pytest.mark.parametrize("seed", thinned(range(20), 3))
def test_no_link_passes_more_than_its_bandwidth_and_rates_add_up_to_the_bytes(seed: int, meter: Meter) -> None:
    case = dying(seed)
    meter.moments.clear()
    assert_no_link_exceeds_its_bandwidth(case, meter)


def all_sent_at_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was under way at a failure has arrived."""
    monkeypatch.setattr(event_core.network, "left", lambda net, slots: np.zeros(len(slots)))


def from_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was under way at a failure begins anew."""
    monkeypatch.setattr(event_core.network, "left", lambda net, slots: np.full(len(slots), D))


def routes_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link passes messages also when it has failed."""
    monkeypatch.setattr(event_core.network, "reroute", lambda net, *given: net)


@pytest.mark.parametrize("mutation", [all_sent_at_failures, from_the_first_byte, routes_kept], ids=lambda m: m.__name__)
def test_an_engine_that_is_broken_is_not_the_oracle(mutation: Callable[[pytest.MonkeyPatch], None],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    assert sum(bool(compare(dying(seed))) for seed in range(12)) >= 3


# Mistakes, and what else reads failures


def test_a_link_fails_once_and_leaves_the_network_whole() -> None:
    graph = ring(4, bandwidth=W)
    first = LinkChange(from_=[0], to=[1], failed=True)
    broken = change_later(graph, [(1e-3, first)])
    assert broken.graph["events"] == ((1e-3, {((0,), (1,)): 0.0, ((1,), (0,)): 0.0}),)
    assert len(grid(broken).links.failures) == 1
    with pytest.raises(TorusSimError, match=r"event 2, .*has already failed"):
        change_later(graph, [(1e-3, first), (2e-3, LinkChange(from_=[1], to=[0], scale=0.5))])
    half = change_later(graph, [(1e-3, first), (2e-3, LinkChange(axis="x", scale=0.5))])
    assert ((0,), (1,)) not in half.graph["events"][1][1], "of a selection the links that are left"
    with pytest.raises(TorusSimError, match=r"after the failure at 0\.002 s the network is cut in two") as error:
        grid(failing(failing(graph, 1e-3, *both((0,), (1,))), 2e-3, *both((2,), (3,))))
    assert error.value.code == "cut-network"
    with pytest.raises(TorusSimError, match=r"at 0\.002 s changes .*, which has failed before"):
        again = failing(graph, 1e-3, ((0,), (1,)))
        grid(failing(again, 2e-3, ((0,), (1,))))


def test_a_users_routing_that_needs_the_link_is_told_so_before_the_run() -> None:
    graph = ring(4, bandwidth=W)
    graph.graph["routing"] = lambda g, u, v: [u, v] if g.has_edge(u, v) or abs(u[0] - v[0]) == 1 else nx.shortest_path(g, u, v)
    shift = one("all_to_all", algorithm="direct")
    with pytest.raises(TorusSimError, match=r"after the failure at 0\.001 s: .*from \(0,\) to \(1,\) .* there is no such link"):
        simulate(shift, failing(graph, 1e-3, ((0,), (1,))), IDEAL)


def test_a_failure_in_mid_run_is_a_fault_of_its_kind() -> None:
    (fault,) = faults(Changes(ring(4, bandwidth=W), (), ((1e-3, LinkChange(from_=[0], to=[1], failed=True)),)))
    assert (fault.kind, fault.bandwidth, fault.built, fault.cables) == ("failing", 0.0, W, (((0,), (1,)),))


def test_there_is_no_least_time_where_messages_may_find_a_faster_way() -> None:
    with pytest.raises(TorusSimError, match="there is no least time"):
        Fronts(grid(failing(ring(4, bandwidth=W), 1e-3, ((0,), (1,)))), IDEAL)


def test_no_plan_is_made_where_links_fail_in_mid_run() -> None:
    asked = {"chip": "tpu-v4", "model": "palm-62b", "topology": {"shape": [2, 2], "events": [
        {"time": "1 ms", "from": [0, 0], "to": [0, 1], "failed": True}]},
        "layout": {"ffn": "ws1d"}, "workload": {"phase": "decode", "batch": 8, "context": 64}}
    with pytest.raises(TorusSimError, match="links fail in mid-run") as error:
        torussim.plan(asked)
    assert error.value.path == ("topology", "events")


def test_passes_after_a_failure_find_the_link_dead() -> None:
    """The first of four decode steps is over when the link fails; the others are as after a failure at the beginning."""
    workload = {"phase": "decode", "batch": 64, "context": 64}

    def seconds(tokens: int, *events: dict[str, Any]) -> float:
        asked = {"chip": "tpu-v4", "model": {"base": "palm-8b", "layers": 4}, "layout": {"ffn": "ws1d", "overlap": False},
                 "topology": {"kind": "ring", "shape": [8], "events": list(events)}, "workload": workload | {"tokens": tokens}}
        return float(torussim.run(asked).latency_s)

    fails = {"time": "1 us", "from": [0], "to": [1], "failed": True}
    later = fails | {"time": seconds(1) * (1 + 1e-9)}
    assert seconds(4, later) - seconds(1) == pytest.approx(seconds(4, fails) - seconds(1, fails), rel=1e-6)
    assert 1.01 * seconds(4) < seconds(4, later) < 0.999 * seconds(4, fails)


@pytest.mark.parametrize("seed", thinned(SEEDS, 3))
def test_engine_and_oracle_agree_where_an_axis_loses_all_its_wraparounds(seed: int) -> None:
    """From then on it is a line for what is routed, though collectives still go round."""
    case = scenario(seed)
    links, makespan = case.grid.links, run(case).makespan
    for axis in range(len(links.axes)):
        dead = links.edges(links.wraparound & (links.axis == axis))
        if dead and nx.is_strongly_connected(without(case.graph, *dead)):
            graph = case.graph.copy()
            graph.graph.pop("events", None)
            assert not compare(replace(case, graph=failing(graph, 0.4 * makespan, *dead)))


def test_a_scenario_with_a_failure_runs_again_as_it_was_recorded() -> None:
    """Case 23: 28 MB a link, of which 4.5 MB have passed; the others take twice as long, beside as many of the detour."""
    asked = {"chip": "ideal", "topology": {"kind": "ring", "shape": [8], "bandwidth": "45 GB/s", "latency": "0 s", "events": [
        {"time": "100 us", "from": [0], "to": [1], "failed": True}]},
        "program": [{"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "64 MB"}]}
    first = torussim.run(asked)
    assert first.makespan_s == pytest.approx(100e-6 + 2 * (28e6 - 4.5e6) / 45e9, rel=1e-9)
    assert torussim.run(first.scenario).makespan_s == first.makespan_s
