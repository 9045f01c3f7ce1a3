"""Runs whose messages share links, held to the oracle, to the recurrence and to themselves, and broken on purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import networkx as nx
import numpy as np
import pytest
import random_scenarios as plain
from random_scenarios import parted, renamed
from random_shared import Scenario, compare, drifting, expected, run, scenario
from thinned import thinned

from torussim.analysis import last_block
from torussim.chips import chip
from torussim.engine import event_core, prepared, routed, schedule_table, shared_run, simulate
from torussim.engine.plan import Planner
from torussim.engine.ready import Ready
from torussim.engine.routed import Shared
from torussim.engine.schedule_table import Table
from torussim.engine.shared_run import SharedRun
from torussim.engine.steady_state import Leap
from torussim.program import LOOPS, SYMMETRIC, Block, Collective, Compute, Program
from torussim.timeline import Timeline
from torussim.topology import hops
from torussim.topology.builders import torus

SEEDS = range(60)
BROKEN = (17, 25, 26, 29, 31, 37, 38, 44, 48, 55, 740)  # that between them have what a broken engine gets wrong
NESTED = (*range(20), 120, 201)
LEAPS = (0, 2, 6, 7, 12, 25, 33, 34, 37, 43, 53)  # blocks are left out
UNDER_WAY = (*((seed, True) for seed in (1, 7, 14, 5, 48, 57, 93)), *((seed, False) for seed in (4, 19, 13, 112, 140, 148)),
             (37, None), (76, None))  # seeds, and whether all links are alike
PRIVATE = range(40)  # of random_scenarios
SECTIONS = Sequence[tuple[Ready, ...]]


@cache
def expected_of(seed: int) -> dict[str, Any]:
    return expected(scenario(seed))


def differs(seed: int, case: Scenario) -> str:
    return plain.difference(case, run(case), expected_of(seed), blocks=False)


def flat(timeline: Timeline, times: str) -> np.ndarray[Any, Any]:
    """Return the starts or ends of all runs one under the other, (executed operations, chips)."""
    found = [getattr(timeline.segments[segment], times) + offset for segment, offset in timeline.runs]
    return np.concatenate([*found, np.zeros((0, len(timeline.chips)))])


def assert_the_same(said: Timeline, wanted: Timeline, *, scale: float = 1.0, later: float = 0.0) -> None:
    """Every time is the wanted one times `scale`, and `later`."""
    close = 1e-9 * wanted.makespan * scale
    for times in ("start", "end"):
        assert np.abs(flat(said, times) - scale * flat(wanted, times) - later).max(initial=0.0) <= close
    assert said.finish == pytest.approx(scale * wanted.finish + later, rel=0, abs=close)


def assert_the_same_messages(said: Timeline, wanted: Timeline) -> None:
    """Every message of the runs that were simulated is a wanted one: also its times, from the start of the whole run."""
    told = {sent.run for sent in said.sent}
    messages = [sorted((m.run, m.operation, m.chip, m.axis, m.sign, m.start, m.end) for m in timeline.sent if m.run in told)
                for timeline in (said, wanted)]
    assert len(messages[0]) == len(messages[1])
    for one, other in zip(*messages, strict=True):
        assert one[:5] == other[:5]
        assert one[5:] == pytest.approx(other[5:], abs=1e-9 * wanted.makespan)


# Engine and oracle


@pytest.mark.parametrize("seed", thinned(sorted({*SEEDS, *BROKEN, 140}), 3))
def test_engine_and_oracle_agree_on_every_time_and_byte(seed: int) -> None:
    case = scenario(seed)
    assert not (differs(seed, case) if seed in BROKEN else compare(case))


@pytest.mark.parametrize("seed", NESTED)
def test_a_matmul_waits_for_its_own_shards_of_a_nested_gather(seed: int) -> None:
    """On lines chips pass more on after that; the matmul's end lay in the network's past when it waited for it."""
    assert not compare(scenario(seed, nested=True))


def landings(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list to which each run adds whether it has left out blocks, and was right to."""
    found, land = list[bool](), SharedRun.land

    def landed(self: SharedRun) -> None:
        land(self)
        found.append(bool(self.leaps) and not self.wrong)

    monkeypatch.setattr(SharedRun, "land", landed)
    return found


@pytest.mark.parametrize("seed", LEAPS)
def test_blocks_that_add_the_same_are_left_out_and_nothing_else_is_different(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chip loses time of its own with each block, until one that had time to spare has none: then it was wrong to leap."""
    found, case = landings(monkeypatch), drifting(seed)
    record = range(len(case.start))
    said, wanted = run(case, record=record), run(case, record=record, repeat=False)
    *wrong, last, whole = found
    assert not any(wrong) and not whole, "one run for each leap that was wrong, and the one without any"
    assert last == (seed != 34) and (not last or said.blocks_simulated < wanted.blocks_simulated == 40)
    assert (said.period, said.leapt) == (0, 40 - said.blocks_simulated)
    assert_the_same(said, wanted)
    assert said.link_bytes == pytest.approx(wanted.link_bytes, rel=1e-12)
    told = {sent.run for sent in said.sent}
    shown = last_block(said)
    assert {1, shown} <= told and said.segments[said.runs[shown][0]].section == "block"
    assert seed == 34 or len(told) < shown, "not of blocks left out"
    assert_the_same_messages(said, wanted)


def test_most_blocks_are_left_out_at_once_and_some_after_leaps_that_were_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    found, runs = landings(monkeypatch), []
    for seed in LEAPS:
        found.clear()
        run(drifting(seed))
        runs.append(len(found))
    assert sum(count == 1 for count in runs) >= 5 and sum(count > 1 for count in runs) >= 3


def test_a_flow_in_the_past_after_a_leap_means_that_the_leap_was_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    case, leap, step = drifting(0), SharedRun.leap, event_core.run
    wanted, leaps, failed = run(case, repeat=False), list[int](), list[bool]()

    def leaping(self: SharedRun, asked: Leap, *given: Any) -> Any:
        times = leap(self, asked, *given)
        leaps.extend([asked.patience // 2] if self.leaps else [])
        return times

    def failing(*given: Any) -> int:
        if leaps and not failed:
            failed.append(True)
            return event_core.PAST
        return step(*given)

    monkeypatch.setattr(SharedRun, "leap", leaping)
    monkeypatch.setattr(event_core, "run", failing)
    assert_the_same(run(case), wanted)
    assert failed and len(leaps) == 2 and leaps[1] >= 2 * leaps[0], "once more, from the block on that is twice as late"
    monkeypatch.setattr(event_core, "run", lambda *given: event_core.PAST)
    with pytest.raises(shared_run.PastError):
        run(case, repeat=False)


def test_each_of_several_blocks_leaps_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    found, leaps = landings(monkeypatch), Counter[int]()
    for seed in LEAPS[:4]:
        case = drifting(seed)
        case = replace(case, program=replace(case.program, more=(Block(renamed(case.program.block, "_again"), 50),)))
        said, wanted = (run(case, repeat=repeat) for repeat in (True, False))
        assert_the_same(said, wanted)
        leaps[said.leapt > 40] += 1
    assert leaps[True] and len(found) > 8, "more than one block alone can leave out, and some leaps that were wrong"


@pytest.mark.parametrize("seed", LEAPS[:2])
def test_a_block_in_two_parts_is_the_block(seed: int) -> None:
    case = drifting(seed)
    both = [run(replace(case, program=one), repeat=repeat) for one in (case.program, parted(case.program, 9))
            for repeat in (True, False)]
    for said in both[1:]:
        assert said.finish == pytest.approx(both[0].finish, rel=1e-9) and said.blocks == both[0].blocks
        assert said.link_bytes == pytest.approx(both[0].link_bytes, rel=1e-12)


@pytest.mark.parametrize("seed", LEAPS)
def test_nothing_leaps_over_a_change_of_bandwidth(seed: int) -> None:
    case = drifting(seed)
    u, v = next(iter(case.graph.edges))
    case.graph.graph["events"] = ((0.7 * run(case).makespan, {(u, v): case.graph.edges[u, v]["bandwidth"] / 3}),)
    assert_the_same(run(case), run(case, repeat=False))


@pytest.mark.slow
@pytest.mark.parametrize("seed", thinned(range(400), 3))
def test_blocks_that_add_the_same_are_left_out_wherever_they_are(seed: int) -> None:
    case = drifting(seed)
    assert_the_same(run(case), run(case, repeat=False))


@pytest.mark.slow
@pytest.mark.parametrize("seed", thinned(range(400), 3))
def test_a_matmul_waits_for_its_own_shards_of_any_nested_gather(seed: int) -> None:
    assert not compare(scenario(seed, nested=True))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SEEDS.stop, SEEDS.stop + 400, 20))
def test_engine_and_oracle_agree_on_hundreds_more(first: int) -> None:
    assert not {seed: told for seed in range(first, first + 20) if (told := compare(scenario(seed)))}


def test_the_scenarios_have_everything_in_them() -> None:
    cases = [scenario(seed) for seed in SEEDS]
    nets = [case.grid for case in cases]
    operations = [o for case in cases for o in case.program.operations()]
    collectives = [o for o in operations if isinstance(o, Collective)]
    broken = [(net, o) for net, case in zip(nets, cases, strict=True) for o in case.program.operations()
              if isinstance(o, Collective) and any(net.ring[net.axis(a)] and net.gap[net.axis(a)].any() for a in o.axes)]
    dead = [net.gap & (np.array(net.stride) == 1)[:, None, None] for net in nets]
    behind = [np.take_along_axis(gap[:, 1], net.receiver[:, 0], axis=1) for gap, net in zip(dead, nets, strict=True)]
    both = [gap[:, 0] & back for gap, back in zip(dead, behind, strict=True)]
    one = [gap[:, 0] ^ back for gap, back in zip(dead, behind, strict=True)]
    assert any(found.any() for found in both) and any(found.any() for found in one), "links dead both ways, and one way"
    assert any(net.links.twist for net in nets) and {net.routing for net in nets} == {"dimension_order", "shortest"}
    assert any(max(net.stride) > 1 for net in nets) and any(case.graph.graph.get("events") for case in cases)
    assert {o.kind for o in collectives} == set(SYMMETRIC) and {"direct", "shifts"} < {o.algorithm for o in collectives}
    assert {o.detour for _, o in broken} == {True, False}, "broken rings that detour, and that run as lines"
    assert {o.loop.kind for o in operations if isinstance(o, Compute) and o.loop} == set(LOOPS)
    assert any(case.chip.shared_efficiency < 1 for case in cases) and any(case.chip.shared_efficiency == 1 for case in cases)
    assert {case.program.layers for case in cases} == {1, 2, 3}
    assert {(any(case.start), case.repeat) for case in cases} == {(a, b) for a in (True, False) for b in (True, False)}


@pytest.mark.parametrize("seed", thinned(SEEDS, 3))
def test_every_message_to_a_neighbour_that_is_recorded_is_one_of_the_oracles(seed: int) -> None:
    """Start, end and bytes of every message of all chips that is not routed from end to end, and nothing else."""
    case, wanted = scenario(seed), expected_of(seed)
    net, close = case.grid, 1e-9 * wanted["makespan"]
    said = run(case, record=range(len(net.chips)), repeat=False)
    first = np.cumsum([0, *(len(said.segments[segment].operations) for segment, _ in said.runs)])  # executed operations
    as_run = case.program.replaced(plain.told(case.program, net)[0])
    routed_whole = {o.name for o in as_run.operations() if isinstance(o, Collective) and o.algorithm in ("direct", "shifts")}
    got = []
    for s in said.sent:
        names = [o.name for o in said.segments[said.runs[s.run][0]].operations]
        edge = net.chips[s.chip], net.chips[net.receiver[net.axis(s.axis), int(s.sign < 0), s.chip]]
        got.append((int(first[s.run]) + names.index(s.operation), s.operation, edge, s.start, s.end, s.bytes))
    want = [(t.number, t.name, (t.sender, t.receiver), t.start, t.end, t.bytes)
            for t in wanted["transfers"] if t.name not in routed_whole]
    got.sort()
    want.sort()
    assert [m[:3] for m in got] == [m[:3] for m in want]
    assert np.array([m[3:5] for m in got]) == pytest.approx(np.array([m[3:5] for m in want]), rel=0, abs=close)
    assert [m[5] for m in got] == pytest.approx([m[5] for m in want], rel=1e-12)


# Transfer by transfer, and the recurrence


def on_private_links(planner: Planner, sections: SECTIONS, *, fluid: bool, alone: bool) -> Shared:
    """Return what `routed.shared` returns, for a program that shares nothing.

    `fluid`: all lanes run transfer by transfer, else only those that must for order's sake; `alone`: each hop sends on its
    own, else every transfer is a flow.
    """
    lanes = routed._fluid_lanes(planner, sections, np.full(planner.rate.size, fluid))
    assert not fluid or lanes.all()
    paths = routed._hop_paths(planner.grid, np.array([], dtype=int))
    return Shared(paths, lanes, np.full(planner.rate.size, alone), {})


@pytest.mark.parametrize("fluid, alone", [(False, True), (True, True), (True, False)],
                         ids=["lane by lane", "transfer by transfer", "all through the network"])
@pytest.mark.parametrize("seed", thinned(PRIVATE, 3))
def test_on_private_links_every_way_gives_the_times_of_the_cohort(seed: int, fluid: bool, alone: bool,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    case = plain.scenario(seed)
    wanted = plain.run(case)
    monkeypatch.setattr(prepared, "shared", lambda *given: on_private_links(*given, fluid=fluid, alone=alone))
    assert_the_same(said := plain.run(case), wanted)
    assert said.link_bytes == pytest.approx(wanted.link_bytes, rel=1e-9)


# Breaking the engine


def changed(monkeypatch: pytest.MonkeyPatch, change: Callable[[Shared], Shared]) -> None:
    """Let the engine have something else in its network."""
    made = prepared.shared

    def broken(*given: Any) -> Shared | None:
        return change(found) if (found := made(*given)) else None
    monkeypatch.setattr(prepared, "shared", broken)


def latency_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent through the network is there at once."""
    changed(monkeypatch, lambda found: replace(found, paths=replace(found.paths, latency=0 * found.paths.latency)))


def tabled(monkeypatch: pytest.MonkeyPatch, change: Callable[[Table], Table]) -> None:
    """Let the event core work on another table."""
    made, user = schedule_table.table, prepared if hasattr(prepared, "table") else schedule_table
    monkeypatch.setattr(user, "table", lambda *given: change(made(*given)))


def first_ready_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer that passes something on lets the next one of its collective go first that waits for none."""
    def swapped(table: Table) -> Table:
        place, transfers = np.arange(len(table.transfers)), table.transfers
        operation, waits = table.stages["operation"][transfers["stage"]], transfers["parent"] >= 0
        for i in range(len(place) - 1):
            same = transfers["hop"][i] == transfers["hop"][i + 1] and operation[i] == operation[i + 1]
            if same and waits[i] and not waits[i + 1]:
                place[i], place[i + 1] = i + 1, i
        transfers = transfers[place]
        for link in ("parent", "child", "sibling"):
            known = transfers[link] >= 0
            transfers[link][known] = place[transfers[link][known]]  # it is its own inverse
        return table._replace(transfers=transfers)
    tabled(monkeypatch, swapped)


def one_detour_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all shortest ways only one is taken."""
    route = hops.route

    def broken(grid: Any, routing: Any, *ends: Any) -> Any:
        return route(grid, nx.shortest_path if routing == "shortest" else routing, *ends)
    monkeypatch.setattr(hops, "route", broken)


def lane_out_of_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that cannot be known to run in turn is left on the recurrence."""
    monkeypatch.setattr(routed, "_in_turn", lambda *given: True)


def shifts_that_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chip starts all of its shifts at once."""
    def changed_kind(table: Table) -> Table:
        directs = table.directs.copy()
        directs["turns"] = 0
        return table._replace(directs=directs)
    tabled(monkeypatch, changed_kind)


def shared_efficiency_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link that several flows use passes all of its bandwidth."""
    made = event_core.network.made
    monkeypatch.setattr(event_core.network, "made", lambda routes, bandwidth, efficiency: made(routes, bandwidth, 1.0))


def event_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """No bandwidth changes in mid-run."""
    monkeypatch.setattr(event_core.network, "set_bandwidth", lambda *given: None)


def line_begins_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken ring that runs as a line begins one chip behind its gap."""
    first = Planner.first_gap

    def broken(self: Planner, axis: int) -> Any:
        begin = first(self, axis)
        return np.where(begin < 0, begin, (begin + 1) % self.grid.shape[axis])
    monkeypatch.setattr(Planner, "first_gap", broken)


MUTATIONS = (latency_left_out, first_ready_goes_first, one_detour_takes_all, lane_out_of_turn, shifts_that_do_not_wait,
             shared_efficiency_ignored, event_ignored, line_begins_elsewhere)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_an_engine_that_is_broken_is_not_the_oracle(mutation: Callable[[pytest.MonkeyPatch], None],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    mutation(monkeypatch)
    assert sum(map(noticed, BROKEN)) >= 2


def noticed(seed: int) -> bool:
    """Return whether a run is not the oracle's, or the engine finds out by itself that it is wrong."""
    try:
        return bool(differs(seed, scenario(seed)))
    except AssertionError:
        return True


# Repetition, order, scale


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_repeated_blocks_are_what_they_would_have_been(seed: int, alike: bool) -> None:
    case = scenario(seed, layers=12, alike=alike)
    repeated, whole = run(case, repeat=True), run(case, repeat=False)
    assert_the_same(repeated, whole)
    assert (repeated.link_bytes == whole.link_bytes).all() and whole.blocks_simulated == 12


def test_many_programs_with_shared_links_repeat() -> None:
    skipped = [12 - run(scenario(seed, layers=12, alike=True), repeat=True).blocks_simulated for seed in range(15)]
    assert sum(left > 0 for left in skipped) >= 5


@pytest.mark.parametrize("seed, alike", UNDER_WAY)
def test_blocks_are_left_out_also_while_flows_are_under_way_from_one_to_the_next(seed: int, alike: bool | None,
                                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """Flows are under way or known to start when the first chip is at the border, and the state is one that was there before."""
    open_flows, skip = list[int](), SharedRun.skip

    def skipping(self: SharedRun, *given: Any) -> Any:
        under_way = len(event_core.network.live(self.net)) + int(self.state.one[0]["starts"])
        before, times = self.skipped, skip(self, *given)
        open_flows.extend([under_way] if self.skipped > before else [])
        return times

    monkeypatch.setattr(SharedRun, "skip", skipping)
    case = scenario(seed, layers=12, alike=alike)
    record = range(len(case.start))
    repeated, whole = run(case, repeat=True, record=record), run(case, repeat=False, record=record)
    assert len(open_flows) == 1 and open_flows[0] > 0 and repeated.period > 0 == repeated.leapt
    assert repeated.blocks_simulated < whole.blocks_simulated == 12
    assert_the_same(repeated, whole)
    assert_the_same_messages(repeated, whole)


@pytest.mark.parametrize("chips", [3, 11, 63])
def test_a_longer_latency_on_a_shared_ring_comes_back_after_a_period_of_its_length(chips: int) -> None:
    """As on private links (test_engine); a routed message before makes the links shared, and 64 states are remembered."""
    graph = torus((chips,), bandwidth=1e12)
    for i in range(chips):
        graph.edges[(i,), ((i + 1) % chips,)]["latency"] = 1.0 + (i == 0) / 1024
    hop = Collective("hop", "permute", ("x",), 1e-9, shift={"x": 1})
    before = Collective("before", "all_to_all", ("x",), 1e-9, "direct")
    program = Program((hop,), 3 * chips + 5, (before,), (replace(hop, name="last"),))
    repeated, whole = (simulate.simulate(program, graph, chip("ideal"), repeat=repeat) for repeat in (True, False))
    assert_the_same(repeated, whole)
    assert (repeated.period, repeated.leapt) == (chips, 0) and (whole.period, whole.leapt) == (0, 0)
    assert repeated.blocks_simulated <= whole.blocks_simulated - chips


@pytest.mark.parametrize("seed", range(10))
def test_two_runs_are_equal_to_the_last_bit(seed: int) -> None:
    one, other = run(scenario(seed)), run(scenario(seed))
    for times in ("start", "end"):
        assert (flat(one, times) == flat(other, times)).all()
    assert (one.finish == other.finish).all() and (one.link_bytes == other.link_bytes).all()
    assert (one.link_seconds == other.link_seconds).all() and one.events == other.events


def quiet(seed: int) -> Scenario:
    """Return the collectives of a scenario on the chip `ideal`, without latency, events and skew."""
    case = scenario(seed)
    graph = case.graph.copy()
    graph.graph.pop("events", None)
    for link in graph.edges.values():
        link["latency"] = 0.0
    lists = []
    for operations, _ in case.program.sections():
        kept = [o for o in operations if isinstance(o, Collective)]
        names = {o.name for o in kept}
        lists.append(tuple(replace(o, after=None if o.after is None else tuple(n for n in o.after if n in names)) for o in kept))
    program = Program(lists[1], case.program.layers, lists[0], lists[2])
    return replace(case, program=program, graph=graph, start=(0.0,) * len(case.start),
                   chip=replace(chip("ideal"), shared_efficiency=case.chip.shared_efficiency))


@pytest.mark.parametrize("seed", thinned(range(20), 3))
def test_a_later_start_makes_everything_later_by_as_much(seed: int) -> None:
    case = scenario(seed)
    case.graph.graph.pop("events", None)
    later = 7 * run(case).makespan
    assert_the_same(run(replace(case, start=tuple(start + later for start in case.start))), run(case), later=later)


@pytest.mark.parametrize("seed", thinned(range(20), 3))
def test_twice_the_bytes_take_twice_the_time_and_twice_the_bandwidth_half(seed: int) -> None:
    case = quiet(seed)
    wanted = run(case)
    twice = {o.name: replace(o, bytes=2 * o.bytes) for o in case.program.operations() if isinstance(o, Collective)}
    assert_the_same(run(replace(case, program=case.program.replaced(twice))), wanted, scale=2.0)
    faster = case.graph.copy()
    for link in faster.edges.values():
        link["bandwidth"] *= 2
    assert_the_same(run(replace(case, graph=faster)), wanted, scale=0.5)
