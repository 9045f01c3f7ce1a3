"""The engine against the oracle: every time on every chip, every byte of every link, and the blocks that repetition may skip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from random_scenarios import ALGORITHMS, Scenario, compare, difference, expected, expected_of, run, scenario, smaller

from torussim.chips import chip
from torussim.collectives.lower import lower
from torussim.engine import plan, recurrence, simulate
from torussim.engine.plan import Planner
from torussim.engine.simulate import _Run
from torussim.program import KINDS, LOOPS, Collective, Compute, Program
from torussim.timeline import Timeline
from torussim.topology.builders import torus
from torussim.topology.grid import grid

SEEDS = range(110)
FEW = range(40)  # of them, for what is held to the oracle more than once
IDEAL = chip("ideal")


# Engine and oracle


@pytest.mark.parametrize("seed", SEEDS)
def test_engine_and_oracle_agree_on_every_time_and_byte(seed: int) -> None:
    assert not compare(scenario(seed), expected_of(seed) if seed in FEW else None)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS.stop, SEEDS.stop + 1000))
def test_engine_and_oracle_agree_on_a_thousand_more(seed: int) -> None:
    assert not compare(scenario(seed))


def test_the_scenarios_have_everything_in_them() -> None:
    cases = [scenario(seed) for seed in SEEDS]
    nets = [case.grid for case in cases]
    operations = [o for case in cases for o in case.program.operations()]
    collectives = [o for o in operations if isinstance(o, Collective)]
    loops = Counter((o.loop.kind, next(c.kind for c in collectives if c.name == o.loop.collective))
                    for o in operations if isinstance(o, Compute) and o.loop)
    assert {n for net in nets for n in net.shape} == set(range(1, 9))
    assert {len(net.shape) for net in nets} == {1, 2, 3}
    assert {ring for net in nets for ring, n in zip(net.ring, net.shape, strict=True) if n > 2} == {True, False}
    assert any(net.notes for net in nets), "an axis with some wraparounds missing"
    assert {(o.kind, o.algorithm) for o in collectives} == {(kind, name) for kind in KINDS for name in ALGORITHMS[kind]}
    assert {o.split if isinstance(o.split, str) else "weights" for o in collectives} == {"equal", "auto", "weights"}
    assert any(isinstance(o.split, tuple) and 0.0 in o.split for o in collectives)
    assert {o.direction for o in collectives} == {"both", "one_way"}
    assert set(loops) == {(loop, kind) for loop in LOOPS for kind in ("all_gather", "reduce_scatter")}
    assert any(o.after == () for o in operations) and any(len(o.after or ()) > 1 for o in operations)
    assert {bool(case.program.prologue) for case in cases} == {bool(case.program.epilogue) for case in cases} == {True, False}
    assert {case.program.layers for case in cases} == {1, 2, 3, 6}
    assert {(any(case.start), case.repeat) for case in cases} == {(a, b) for a in (True, False) for b in (True, False)}
    assert any(run(case).blocks_simulated < case.program.layers for case in cases), "a repetition that is found"
    assert any(np.unique(net.bandwidth[net.bandwidth > 0]).size > 2 * len(net.chips) for net in nets), "links that all differ"


@pytest.mark.parametrize("seed", FEW)
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
        assert np.array([m[3:5] for m in got]) == pytest.approx(np.array([m[3:5] for m in want]), rel=0, abs=close)
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

    def broken(self: Planner, phase: Any, hops: list[Any]) -> Any:
        return arrays(self, phase, [replace(hop, halves=np.where(hop.halves % 2 == 1, hop.halves + 1, hop.halves)) for hop in hops])
    monkeypatch.setattr(Planner, "arrays", broken)


def queue_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a collective queue on a link one after the other, not phase by phase."""
    stages = Planner.stages

    def broken(self: Planner, schedule: Any) -> Any:
        made, *others = stages(self, schedule)
        return tuple(sorted(made, key=lambda stage: (stage.part, stage.index))), *others
    monkeypatch.setattr(Planner, "stages", broken)


def transfer_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last step of every phase one chip's message does not leave; its bytes are still counted."""
    stages = Planner.stages

    def broken(self: Planner, schedule: Any) -> Any:
        made, *others = stages(self, schedule)
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
    def broken(self: _Run, seen: list[Any]) -> int:
        now = self.state.copy()
        seen.append(now)
        begin = now.last.min()
        for period, old in enumerate(reversed(seen[:-1]), 1):
            shift = begin - old.last.min()
            if all(np.abs(a - b - shift).max() <= 1e-12 * (begin - seen[-2].last.min())
                   for a, b in ((now.last, old.last), (now.unit, old.unit), (now.links[:-1], old.links[:-1]))):
                return period
        return 0
    monkeypatch.setattr(_Run, "seen_before", broken)


def wrong_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent in - direction arrives at the chip on the + side."""
    neighbours = Planner.neighbours

    def broken(self: Planner, lane: Any, sign: int, ring: bool) -> Any:
        return neighbours(self, lane, sign, ring)[0], neighbours(self, lane, +1, ring)[1]
    monkeypatch.setattr(Planner, "neighbours", broken)


def links_never_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A phase finds every link free: the clamp of the recurrence itself is gone."""
    phase = recurrence.phase

    def broken(stage: Any, base: Any, links: Any, *others: Any) -> Any:
        links[:] = -np.inf
        return phase(stage, base, links, *others)
    monkeypatch.setattr(recurrence, "phase", broken)


def bytes_on_the_opposite_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """All times are right, but what + links carry is told of - links."""
    stages = Planner.stages

    def broken(self: Planner, schedule: Any) -> Any:
        made, sent, busy = stages(self, schedule)
        return made, sent.reshape(-1, 2, self.count)[:, ::-1].reshape(sent.shape), busy
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
    print(mutation.__name__, len(found), list(found.values())[:1])
    if mutation is clamp_left_out:
        assert all("blocks were simulated" in text for text in found.values())
