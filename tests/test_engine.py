"""The engine against the oracle: every time on every chip, every byte of every link, and the blocks that repetition may skip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from random_scenarios import (
    ALGORITHMS,
    Scenario,
    compare,
    difference,
    expected,
    expected_of,
    operations,
    parted,
    renamed,
    run,
    scenario,
)
from thinned import thinned

from torussim.chips import chip
from torussim.closed_forms import axes_seconds
from torussim.critical_path import least_seconds
from torussim.engine import max_plus
from torussim.engine.plan import Planner
from torussim.engine.simulate import _Cohort, simulate
from torussim.engine.steady_state import Snapshot
from torussim.program import LOOPS, SYMMETRIC, Block, Collective, Compute, Program
from torussim.timeline import Timeline
from torussim.topology.builders import torus
from torussim.topology.grid import grid

SEEDS = range(100)
FEW = range(30)  # of them, for what is held to the oracle more than once
IDEAL = chip("ideal")


# Engine and oracle


@pytest.mark.parametrize("seed", thinned(SEEDS, 3))
def test_engine_and_oracle_agree_on_every_time_and_byte(seed: int) -> None:
    assert not compare(scenario(seed), expected_of(seed) if seed in FEW else None)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS.stop, SEEDS.stop + 250))
def test_engine_and_oracle_agree_on_hundreds_more(seed: int) -> None:
    assert not compare(scenario(seed))


def test_the_scenarios_have_everything_in_them() -> None:
    cases = [scenario(seed) for seed in SEEDS]
    nets = [case.grid for case in cases]
    every = [o for case in cases for o in case.program.operations()]
    collectives = [o for o in every if isinstance(o, Collective)]
    loops = set()
    for case in cases:
        kinds = {o.name: o.kind for o in case.program.operations() if isinstance(o, Collective)}
        loops |= {(o.loop.kind, kinds[o.loop.collective]) for o in case.program.operations() if isinstance(o, Compute) and o.loop}
    assert {n for net in nets for n in net.shape} == set(range(1, 9))
    assert {len(net.shape) for net in nets} == {1, 2, 3}
    assert {ring for net in nets for ring, n in zip(net.ring, net.shape, strict=True) if n > 2} == {True, False}
    assert {(o.kind, o.algorithm) for o in collectives} == {(kind, name) for kind in SYMMETRIC for name in ALGORITHMS[kind]}
    assert {o.split if isinstance(o.split, str) else "weights" for o in collectives} == {"equal", "auto", "weights"}
    assert any(isinstance(o.split, tuple) and 0.0 in o.split for o in collectives)
    assert {o.direction for o in collectives} == {"both", "one_way"}
    assert loops == {(loop, kind) for loop in LOOPS for kind in ("all_gather", "reduce_scatter")}
    assert any(o.after == () for o in every) and any(len(o.after or ()) > 1 for o in every)
    assert {bool(case.program.prologue) for case in cases} == {bool(case.program.epilogue) for case in cases} == {True, False}
    assert {case.program.layers for case in cases} == {1, 2, 3, 6}
    assert {len(case.program.more) for case in cases} == {0, 1, 2}
    assert {times for case in cases for block, times in case.program.more if block} == {1, 2, 3, 6}
    assert {(any(case.start), case.repeat) for case in cases} == {(a, b) for a in (True, False) for b in (True, False)}
    assert any(run(case).blocks_simulated < case.program.layers for case in cases), "a repetition that is found"
    assert any(np.unique(net.bandwidth[net.bandwidth > 0]).size > 2 * len(net.chips) for net in nets), "links that all differ"


@pytest.mark.parametrize("seed", thinned(FEW, 3))
def test_every_message_that_is_recorded_is_one_of_the_oracles(seed: int) -> None:
    """Start, end and bytes on the link of every message of all chips, and nothing else."""
    case = replace(scenario(seed), repeat=False)
    net = case.grid
    said, wanted = run(case, record=range(len(net.chips))), expected_of(seed)
    sizes = [len(said.segments[segment].operations) for segment, _ in said.runs]
    first = np.concatenate([[0], np.cumsum(sizes)])  # of each run, counting executed operations

    def order(message: tuple[Any, ...]) -> tuple[Any, ...]:
        return message[0], message[2], message[3]

    got = []
    for s in said.sent:
        operations = [o.name for o in said.segments[said.runs[s.run][0]].operations]
        edge = net.edge(net.axis(s.axis), int(s.sign < 0), s.chip)
        got.append((int(first[s.run]) + operations.index(s.operation), s.operation, edge, s.start, s.end, s.bytes))
    want = [(t.number, t.name, (t.sender, t.receiver), t.start, t.end, t.bytes) for t in wanted["transfers"]]
    got.sort(key=order)
    want.sort(key=order)
    assert [m[:3] for m in got] == [m[:3] for m in want]
    close = 1e-9 * wanted["makespan"]
    if got:
        assert np.abs(np.array([m[3:5] for m in got]) - [m[3:5] for m in want]).max() <= close
        assert np.array([m[5] for m in got]) == pytest.approx(np.array([m[5] for m in want]), rel=1e-12)


# Breaking the engine


def latency_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every latency is one per cent more."""
    made = Planner.__post_init__

    def broken(self: Planner) -> None:
        made(self)
        self.latency = self.latency * 1.01
    monkeypatch.setattr(Planner, "__post_init__", broken)


def half_shard_sent_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What should be halved between two directions goes whole in both."""
    arrays = Planner.arrays

    def broken(self: Planner, phase: Any, course: Any, hops: list[Any]) -> Any:
        return arrays(self, phase, course, [replace(hop, halves=hop.halves + hop.halves % 2) for hop in hops])
    monkeypatch.setattr(Planner, "arrays", broken)


def queue_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a collective queue on a link one after the other, not phase by phase."""
    stages = Planner.stages

    def broken(self: Planner, *given: Any) -> Any:
        made, *others = stages(self, *given)
        return tuple(sorted(made, key=lambda stage: (stage.part, stage.index))), *others
    monkeypatch.setattr(Planner, "stages", broken)


def transfer_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last step of every phase one chip's message does not leave; its bytes are still counted."""
    stages = Planner.stages

    def broken(self: Planner, *given: Any) -> Any:
        made, *others = stages(self, *given)
        return tuple(replace(stage, moves=(*stage.moves[:-1], without_last(stage.moves[-1]))) for stage in made), *others

    def without_last(move: Any) -> Any:
        late, seconds = move.late.copy(), move.seconds.copy()
        row, sender = np.argwhere(np.isfinite(late))[-1]
        late[row, sender], seconds[row, sender] = -np.inf, 0.0
        return replace(move, late=late, seconds=seconds)
    monkeypatch.setattr(Planner, "stages", broken)


def clamp_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state before a block keeps the old time of a queue that has been idle, instead of its chip's clock.

    No time becomes wrong by that: to skip blocks is allowed whenever the states are equal, clamped or not. But a queue that only
    the prologue used, or one that is free before its chip's clock, lies farther back in every block, so that a state is never
    found again, and all blocks are simulated. `difference` therefore counts blocks too, by the oracle's own times.
    """
    def broken(self: _Cohort) -> Snapshot:
        now = self.state
        return Snapshot(float(now.last.min()), (now.last.copy(), now.unit.copy(), now.links[:-1].copy()), (), ())
    monkeypatch.setattr(_Cohort, "snapshot", broken)


def wrong_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent in - direction arrives at the chip on the + side."""
    neighbours = Planner.neighbours

    def broken(self: Planner, lane: Any, sign: int, ring: bool) -> Any:
        return neighbours(self, lane, sign, ring)[0], neighbours(self, lane, +1, ring)[1]
    monkeypatch.setattr(Planner, "neighbours", broken)


def links_never_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase finds every link free: the clamp of the recurrence itself is gone."""
    phase = max_plus.phase

    def broken(stage: Any, base: Any, links: Any, *others: Any) -> Any:
        links[:] = -np.inf
        return phase(stage, base, links, *others)
    monkeypatch.setattr(max_plus, "phase", broken)


def bytes_on_the_opposite_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """All times are right, but what + links carry is told of - links."""
    stages = Planner.stages

    def broken(self: Planner, *given: Any) -> Any:
        made, sent = stages(self, *given)
        return made, sent.reshape(-1, 2, self.count)[:, ::-1].ravel()
    monkeypatch.setattr(Planner, "stages", broken)


MUTATIONS = (latency_longer, half_shard_sent_whole, queue_out_of_order, transfer_dropped, clamp_left_out, wrong_neighbour,
             links_never_busy, bytes_on_the_opposite_link)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_an_engine_that_is_broken_is_not_the_oracle(mutation: Callable[[pytest.MonkeyPatch], None],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {seed: scenario(seed) for seed in FEW}
    assert not any(difference(case, run(case), expected_of(seed)) for seed, case in cases.items())
    mutation(monkeypatch)
    found = {seed: text for seed, case in cases.items() if (text := difference(case, run(case), expected_of(seed)))}
    assert len(found) >= 3
    if mutation is clamp_left_out:
        assert all("blocks were simulated" in text for text in found.values())
    if mutation is bytes_on_the_opposite_link:
        assert all("bytes" in text for text in found.values())


def test_a_difference_is_told_on_the_smallest_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(c for c in map(scenario, FEW) if c.program.layers > 1 and len(c.program.operations()) > 4)
    assert compare(case) == ""
    latency_longer(monkeypatch)
    told = compare(case)
    assert "layers=1" in told and told.count("Collective(name=") == 2 and "Compute(" not in told  # once in the difference


# Repetition


def flat(timeline: Timeline, times: str) -> np.ndarray[Any, Any]:
    """Return the starts or ends of all runs one under the other, (executed operations, chips)."""
    return np.concatenate([getattr(timeline.segments[segment], times) + offset for segment, offset in timeline.runs])


def assert_the_same(repeated: Timeline, whole: Timeline) -> None:
    close = 1e-9 * whole.makespan
    assert [s for s, _ in whole.runs] == list(range(len(whole.runs)))
    for times in ("start", "end"):
        assert np.abs(flat(repeated, times) - flat(whole, times)).max() <= close
    assert repeated.finish == pytest.approx(whole.finish, rel=0, abs=close)
    assert (repeated.link_bytes == whole.link_bytes).all() and (repeated.link_seconds == whole.link_seconds).all()
    assert repeated.blocks == whole.blocks == whole.blocks_simulated


def period(timeline: Timeline) -> int:
    """Return how many blocks the repeated part takes in turn, as the timeline says too; 0 if every block was simulated."""
    blocks = [segment for segment, _ in timeline.runs if timeline.segments[segment].section == "block"]
    found = len(set(blocks[timeline.blocks_simulated:]))
    assert timeline.leapt == 0 and (timeline.period == found or len(blocks) - timeline.blocks_simulated < timeline.period)
    return found


@pytest.mark.parametrize("seed", thinned(range(45), 3))
def test_repeated_blocks_are_what_they_would_have_been(seed: int) -> None:
    for layers in (40, 41):
        case = scenario(seed, layers=layers)
        repeated, whole = run(case, repeat=True), run(case, repeat=False)
        assert_the_same(repeated, whole)
        assert repeated.events < whole.events if repeated.blocks_simulated < layers else repeated.events == whole.events


@pytest.mark.parametrize("seed", range(0, 30, 3))
def test_each_of_several_blocks_repeats_by_itself(seed: int) -> None:
    case = scenario(seed, layers=30)
    other = Block(operations(Random(seed), case.grid, "other", 3), 41)
    first = Block(renamed(case.program.block, "_again"), 20)
    case = replace(case, program=replace(case.program, more=(other, first)))
    repeated, whole = run(case, repeat=True), run(case, repeat=False)
    assert_the_same(repeated, whole)
    assert repeated.blocks == 91 and [of for _, of in repeated.counts()].count(41) == 41
    for section in ("block", "block 2", "block 3"):
        assert sum(repeated.segments[segment].section == section for segment, _ in repeated.runs) == \
            sum(whole.segments[segment].section == section for segment, _ in whole.runs)


def test_all_of_several_blocks_are_left_out_where_they_repeat() -> None:
    found = Counter[bool]()
    for seed in range(0, 30, 3):
        case = scenario(seed, layers=30)
        case = replace(case, program=replace(case.program, more=(Block(renamed(case.program.block, "_again"), 30),)))
        found[run(case, repeat=True).blocks_simulated < 30] += 1
    assert found[True] > 5


@pytest.mark.parametrize("seed", range(1, 30, 3))
def test_a_block_in_two_parts_is_the_block(seed: int) -> None:
    case = scenario(seed, layers=30)
    program = parted(case.program, 1 + seed % 11)
    whole, said = run(case), run(replace(case, program=program))
    assert said.finish == pytest.approx(whole.finish, rel=1e-9) and said.blocks == whole.blocks
    assert said.link_bytes == pytest.approx(whole.link_bytes, rel=1e-12)
    for seconds in axes_seconds, least_seconds:
        parts, one = (seconds(p, case.grid, case.chip) for p in (program, case.program))
        assert parts == pytest.approx(one, rel=1e-9 if seconds is axes_seconds else 0.02)
    assert parts <= whole.makespan * (1 + 1e-9)


def test_most_random_programs_repeat_and_some_with_a_period_above_1() -> None:
    found = Counter(period(run(scenario(seed, layers=40), repeat=True)) for seed in range(60))
    assert found[0] < 10 and sum(count for turns, count in found.items() if turns > 1) > 5


@pytest.mark.parametrize("chips", [2, 3, 5])
@pytest.mark.parametrize("layers", [1, 2, 3, 40, 41, 42, 43])
def test_latencies_that_differ_round_a_ring_come_back_after_a_period_of_its_length(chips: int, layers: int) -> None:
    """Each chip waits for the message of the one before, so that its clock after n blocks is the sum of the last n latencies.

    Worked out by hand: the latencies go round with the clocks, and the state is the same again after as many blocks as chips.
    """
    latencies = [1.0, 3.0, 4.0, 2.0, 7.0][:chips]
    graph = torus((chips,), bandwidth=1e12)
    for i, latency in enumerate(latencies):
        graph.edges[(i,), ((i + 1) % chips,)]["latency"] = latency
    hop = Collective("hop", "permute", ("x",), 1e-9, shift={"x": 1})
    program = Program((hop,), layers, epilogue=(replace(hop, name="last"),))
    repeated, whole = (simulate(program, graph, IDEAL, repeat=repeat) for repeat in (True, False))
    assert_the_same(repeated, whole)
    clock = np.zeros(chips)
    for _ in range(layers + 1):
        clock = np.roll(clock + latencies, 1)
    assert repeated.finish == pytest.approx(clock, rel=1e-9)
    assert (repeated.blocks_simulated, period(repeated)) == ((chips, chips) if layers >= 2 * chips else
                                                             (min(chips, layers), max(0, layers - chips)))


def test_rows_that_drift_apart_never_repeat() -> None:
    graph = torus((3, 2), bandwidth=1e9, latency=1e-6)
    for source, target, link in graph.edges(data=True):
        link["bandwidth"] /= 2 if source[1] == target[1] == 1 else 1
    case = Scenario(Program((Collective("row", "all_gather", ("x",), 1e6),), 9), graph, (0.0,) * 6, IDEAL)
    timeline = run(case)
    assert timeline.blocks_simulated == 9
    assert not difference(case, timeline, expected(case))


def test_a_link_that_only_the_prologue_used_does_not_hide_a_repetition() -> None:
    net = grid(torus((4, 3), bandwidth=1e9, latency=1e-6))
    before, after = (Collective(name, "all_gather", (axis,), 1e6) for name, axis in (("before", "y"), ("again", "x")))
    repeated = simulate(Program((after,), 40, prologue=(before,)), net, IDEAL)
    assert (repeated.blocks_simulated, repeated.blocks) == (1, 40)


def test_a_program_without_a_block_runs_its_prologue_and_epilogue() -> None:
    work = Compute("work", flops=275e12)
    timeline = simulate(Program((), 7, (work,), (replace(work, name="end"),)), torus((2,), bandwidth=1.0), IDEAL)
    assert timeline.makespan == pytest.approx(2.0) and timeline.blocks_simulated == 0
    assert simulate(Program(()), torus((2,), bandwidth=1.0), IDEAL).makespan == 0.0
