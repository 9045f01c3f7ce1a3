"""A collective made into transfers (Schedule), and the check that it does what it promises.

A schedule is written by position, so that it is small for any number of chips: a phase runs one pattern on every line
or ring of a lane at once; a pattern is a list of hops; a hop sends something from each position to the next one. What
each hop carries is told in halves of blocks, and `check` plays it back with counted contributions.
Knows nothing of bandwidths and times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from torussim.errors import ContractError

# What a hop carries from a position: (block, half). A block is (origin,) in a gather, (destination,) in a scatter, and
# (origin, destination) in an exchange or a permute, as positions on the lane; halves are 0 and 1.
Chunk = tuple[tuple[int, ...], int]


@dataclass(frozen=True, eq=False)
class Hop:
    """One step of a pattern in one direction: every position sends to its neighbour.

    `halves`: (K,) ints, what each position sends, in halves of a block; 0 sends nothing. `after`: the step of the hop
    of the same direction whose arrival at the sender is passed on; None: what the sender has when the phase starts.
    """

    sign: int
    step: int
    after: int | None
    halves: np.ndarray[Any, Any]
    chunks: Callable[[int], list[Chunk]]


@dataclass(frozen=True, eq=False)
class Pattern:
    """The hops of one phase on one ring or line of `length` positions, in the order of each link's queue.

    `role`: "gather", "scatter", "exchange" or "permute". `merged`: the own block is worked on with step 1 of a gather,
    or the last step of a scatter (the loop kind `latency` on even rings).
    """

    role: str
    length: int
    ring: bool
    hops: tuple[Hop, ...]
    merged: bool = False


@dataclass(frozen=True)
class Lane:
    """The chips of a phase in a row: along one axis, or over several axes in the order given (`one_ring`)."""

    axes: tuple[str, ...]
    order: tuple[tuple[int, ...], ...] | None = None

    def position(self, coordinate: dict[str, int]) -> int:
        if self.order is None:
            return coordinate[self.axes[0]]
        return self.order.index(tuple(coordinate[a] for a in self.axes))


@dataclass(frozen=True, eq=False)
class Phase:
    """One pattern on every line of a lane; `block` is the size of a whole block, bytes."""

    index: int
    part: int
    lane: Lane
    pattern: Pattern
    block: float


@dataclass(frozen=True, eq=False)
class Schedule:
    """All transfers of one collective on a group with these axis lengths; phases in queue order (index, part)."""

    kind: str
    lengths: dict[str, int]
    bytes: float
    phases: tuple[Phase, ...]
    algorithm: str
    shift: dict[str, int]

    @property
    def chips(self) -> int:
        return int(np.prod(list(self.lengths.values()), dtype=int))


@dataclass(frozen=True)
class Transfer:
    """One message between neighbours, spelled out: `chunks` are (block, half) of the lane."""

    sender: tuple[int, ...]
    receiver: tuple[int, ...]
    phase: Phase
    hop: Hop
    position: int


def transfers(schedule: Schedule, phase: Phase, hop: Hop) -> Iterator[Transfer]:
    """Yield the messages of one hop on every line of the phase's lane; chips are coordinates in `lengths` order."""
    length, names = phase.pattern.length, list(schedule.lengths)
    for chip in product(*(range(n) for n in schedule.lengths.values())):
        here = dict(zip(names, chip))
        i = phase.lane.position(here)
        if not hop.halves[i]:
            continue
        j = (i + hop.sign) % length
        if not phase.pattern.ring and abs(j - i) != 1:
            raise ContractError(f"{schedule.kind}: chip {chip} sends over the end of a line")
        there = phase.lane.order[j] if phase.lane.order else (j,)
        here.update(zip(phase.lane.axes, there))
        yield Transfer(chip, tuple(here.values()), phase, hop, i)


class _Part:
    """What the chips hold of one part: counts of contributions, (chips, blocks, 2 halves, contributors)."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.names = list(schedule.lengths)
        self.chips = list(product(*(range(n) for n in schedule.lengths.values())))
        self.visited: set[str] = set()
        n = len(self.chips)
        self.baton = {chip: {chip} for chip in self.chips}
        blocks = n * n if schedule.kind == "all_to_all" else n
        self.held = np.zeros((n, blocks, 2, n), dtype=np.int64)
        for c in range(n):
            if schedule.kind in ("all_gather", "permute"):
                self.held[c, c, :, c] = 1
            elif schedule.kind == "all_to_all":
                self.held[c, c * n:(c + 1) * n, :, c] = 1  # block (origin, destination) is origin * n + destination
            else:
                self.held[c, :, :, c] = 1

    def blocks(self, chip: tuple[int, ...], phase: Phase, tag: tuple[int, ...]) -> list[int]:
        """Return the indices of the group's blocks that a lane's block stands for, as seen from `chip`."""
        lane, n = phase.lane, len(self.chips)
        here = dict(zip(self.names, chip))

        def at(c: tuple[int, ...]) -> int:
            return lane.position(dict(zip(self.names, c)))

        def same(c: tuple[int, ...], axes: set[str]) -> bool:
            return all(dict(zip(self.names, c))[a] == here[a] for a in axes)

        others = set(self.names) - set(lane.axes)
        if phase.pattern.role == "gather":
            return [b for b, c in enumerate(self.chips) if at(c) == tag[0] and same(c, others - self.visited)]
        if phase.pattern.role == "scatter":
            return [b for b, c in enumerate(self.chips) if at(c) == tag[0] and same(c, others & self.visited)]
        origins = [c for c in self.chips if at(c) == tag[0] and same(c, others)]
        if phase.pattern.role == "permute":
            return [self.chips.index(b) for c in origins for b in self.baton[c]]
        start = self.start[self.chips.index(origins[0])].any(axis=(1, 2))
        return [b for b in np.flatnonzero(start) if at(self.chips[b % n]) == tag[1]]

    def run(self, phases: list[Phase]) -> None:
        """Play the phases of this part back, in order."""
        for phase in phases:
            self.start = self.held.copy()
            waiting: list[tuple[int, int, int, np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
            for hop in sorted(phase.pattern.hops, key=lambda h: (h.step, -h.sign)):
                ripe = [w for w in waiting if w[0] == hop.sign and hop.after is not None and w[1] <= hop.after]
                waiting = [w for w in waiting if not any(w is r for r in ripe)]
                for w in ripe:
                    self._arrive(phase, w)
                for transfer in transfers(self.schedule, phase, hop):
                    waiting.append(self._send(transfer))
            for w in waiting:
                self._arrive(phase, w)
            if phase.pattern.role == "permute":
                self._pass_on(phase)
            self.visited |= set(phase.lane.axes)

    def _send(self, t: Transfer) -> tuple[int, int, int, Any, Any]:
        sender, receiver = self.chips.index(t.sender), self.chips.index(t.receiver)
        chunks = t.hop.chunks(t.position)
        if len(chunks) != t.hop.halves[t.position]:
            raise ContractError(f"{self.schedule.kind}: chip {t.sender} sends {t.hop.halves[t.position]} half blocks in "
                                f"step {t.hop.step} but names {len(chunks)}")
        what = np.array([(b, half) for tag, half in chunks for b in self.blocks(t.sender, t.phase, tag)])
        counts = self.held[sender, what[:, 0], what[:, 1]].copy()
        if not counts.any(axis=1).all():
            raise ContractError(f"{self.schedule.kind}: chip {t.sender} sends in phase {t.phase.index}, step {t.hop.step} "
                                f"what it does not have")
        if t.phase.pattern.role != "gather":
            self.held[sender, what[:, 0], what[:, 1]] = 0
        return t.hop.sign, t.hop.step, receiver, what, counts

    def _arrive(self, phase: Phase, message: tuple[int, int, int, Any, Any]) -> None:
        _, step, receiver, what, counts = message
        for (block, half), count in zip(what, counts):
            if phase.pattern.role == "gather" and self.held[receiver, block, half].any():
                raise ContractError(f"{self.schedule.kind}: chip {self.chips[receiver]} gets block {block} twice "
                                    f"(phase {phase.index}, step {step})")
            self.held[receiver, block, half] += count

    def _pass_on(self, phase: Phase) -> None:
        """After a permute each chip holds what came; in a gather (`nested`) it also keeps what it had."""
        n = len(self.chips)
        came = {c: {self.chips[b] for b in range(n) if self.held[i, b].any()} for i, c in enumerate(self.chips)}
        self.baton = came
        if self.schedule.kind == "all_gather":
            twice = (self.held > 0) & (self.start > 0)
            if twice.any():
                chip, block = (int(v) for v in np.argwhere(twice)[0][:2])
                raise ContractError(f"all_gather: chip {self.chips[chip]} gets block {block} twice (phase {phase.index})")
            own = self.kept if hasattr(self, "kept") else self.start
            self.kept = own + self.held
            if (self.kept > 1).any():
                raise ContractError(f"all_gather: a chip gets a block twice (phase {phase.index})")

    def gathered(self) -> Any:
        return self.kept if hasattr(self, "kept") else self.held


def check(schedule: Schedule) -> None:
    """Raise ContractError, naming a witness, unless every shard arrives and each contribution counts exactly once."""
    chips = list(product(*(range(n) for n in schedule.lengths.values())))
    n = len(chips)
    for part in sorted({p.part for p in schedule.phases}):
        state = _Part(schedule)
        phases = sorted((p for p in schedule.phases if p.part == part), key=lambda p: p.index)
        if schedule.kind == "all_reduce":
            half = [p for p in phases if p.pattern.role == "scatter"]
            state.run(half)
            for c in range(n):
                state.held[c, np.arange(n) != c] = 0
            state.visited = set()
            state.run(phases[len(half):])
        else:
            state.run(phases)
        got, want = state.gathered(), np.zeros_like(state.held)
        for c, chip in enumerate(chips):
            if schedule.kind == "all_gather":
                want[c, np.arange(n), :, np.arange(n)] = 1
            elif schedule.kind == "reduce_scatter":
                want[c, c] = 1
                got[c, np.arange(n) != c] = 0
            elif schedule.kind == "all_reduce":
                want[c] = 1
            elif schedule.kind == "all_to_all":
                want[c, np.arange(n) * n + c, :, np.arange(n)] = 1
            else:
                shift = zip(chip, schedule.lengths, schedule.lengths.values())
                origin = chips.index(tuple((i - schedule.shift.get(a, 0)) % k for i, a, k in shift))
                want[c, origin, :, origin] = 1
        wrong = np.argwhere(got != want)
        if wrong.size:
            c, block, half, source = (int(v) for v in wrong[0])
            raise ContractError(f"{schedule.kind} ({schedule.algorithm}): chip {chips[c]} ends with the contribution of "
                                f"chip {chips[source]} to block {block} (half {half}, part {part}) counted "
                                f"{got[c, block, half, source]} times instead of {want[c, block, half, source]}")
