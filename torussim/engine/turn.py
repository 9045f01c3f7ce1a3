"""One run of a list of operations on chips that are not all equally far: what is known of each operation on each chip.

Times are known as soon as they follow from what is known, also if they lie ahead of the fluid network's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from torussim.engine.numbers import Numbers, numbers
from torussim.engine.ready import Ready
from torussim.engine.recurrence import Key
from torussim.engine.routed import Shared
from torussim.program import Compute
from torussim.timeline import Segment

Array = np.ndarray[Any, Any]
END, START, ORDER = "end", "start", "order"  # what an operation tells one that waits for it


@dataclass(frozen=True)
class Waits:
    """Who waits for whom in one list, by index; the same each time it is run.

    `tells`: for each operation those that wait for it, and what they take from it (START: a looped matmul from its gather, told
    at its end, or where the matmul is told of each shard at its start; ORDER: only that it is known); `count`: how many each
    waits for; `entering`: those that wait for the list's start, which counts as one; `first`, `last`: the first and last that
    use the compute unit.
    """

    tells: tuple[tuple[tuple[int, str], ...], ...]
    count: tuple[int, ...]
    entering: tuple[int, ...]
    first: int | None
    last: int | None

    @staticmethod
    def of(ready: Sequence[Ready]) -> Waits:
        """Return who waits for whom."""
        tells: list[list[tuple[int, str]]] = [[] for _ in ready]
        count, entering, unit = [0] * len(ready), list[int](), list[int]()
        for i, r in enumerate(ready):
            partner = r.partner if r.partner is not None and r.partner < i else None
            after = r.after if r.after is not None else (i - 1,) if i else ()
            told = dict.fromkeys(sorted(set(after) - {partner}), END)
            if partner is not None:
                told[partner] = START
            if not told:
                entering.append(i)
                count[i] += 1
            if isinstance(r.operation, Compute):
                if unit and unit[-1] not in told:
                    told[unit[-1]] = ORDER
                unit.append(i)
            for j, what in told.items():
                tells[j].append((i, what))
                count[i] += 1
        first, last = (unit[0], unit[-1]) if unit else (None, None)
        return Waits(tuple(map(tuple, tells)), tuple(count), tuple(entering), first, last)


@dataclass(frozen=True, eq=False)
class Rows:
    """The arrays of a turn in the same memory, row by row: by operation, or by operation and stage, then by chip."""

    at: list[Numbers]
    missing: list[Numbers]
    known: list[Numbers]
    start: list[Numbers]
    end: list[Numbers]
    parts: list[Numbers]
    latest: list[Numbers]
    base: list[list[Numbers]]
    arrived: list[list[Numbers]]
    due: list[list[Numbers]]

    @staticmethod
    def of(turn: Turn) -> Rows:
        """Return the rows of a turn."""
        def rows(arrays: Iterable[Array]) -> list[Numbers]:
            return [numbers(array) for array in arrays]

        return Rows(rows(turn.at), rows(turn.missing), rows(turn.known), rows(turn.segment.start), rows(turn.segment.end),
                    rows(turn.parts), rows(turn.latest), *([rows(stages) for stages in nested]
                                                           for nested in (turn.base, turn.arrived, turn.due)))


@dataclass(eq=False)
class Turn:
    """One run of a list; arrays are (chips,), or (operations, chips), seconds, nan where not known yet."""

    number: int  # among all turns that are simulated
    run: int  # index into the timeline's runs
    ready: tuple[Ready, ...]
    waits: Waits
    segment: Segment
    at: Array  # the latest of what each operation has been told
    missing: Array  # (operations, chips) how many have not told yet
    known: Array  # (operations, chips) bool: ended
    base: list[list[Array]]  # by operation and stage: when a chip may send
    arrived: list[list[Array]]  # by operation and stage: the latest arrival in fluid lanes
    due: list[list[Array]]  # arrivals that are still missing there
    parts: list[Array]  # by operation: parts that are not complete
    latest: list[Array]  # by operation: the latest part that is
    done: list[list[Array]]  # by operation and stage: bool, private lanes that have run
    order: list[list[dict[int, int]]]  # by operation and stage: axis -> its place among the stages of that axis
    came: list[Array]  # by operation: the arrival of each transfer
    arrivals: Numbers  # arrived, all rows one after another
    lacks: Numbers  # due, likewise
    causes: Numbers  # base, fed and came, all one after another, and then a time that nobody has to wait for
    fed: dict[int, dict[Key, Array]]  # of looped reduce-scatters: when a piece is ready
    pieces: dict[int, dict[Key, Array]] = field(default_factory=dict)  # of looped all-gathers: when a shard is there
    sent: dict[int, Array] = field(default_factory=dict)  # of all-to-alls in shifts: (messages, chips) when each has left
    got: dict[int, Array] = field(default_factory=dict)  # and when the one due in that shift has arrived
    more: list[tuple[int, Turn, int]] = field(default_factory=list)  # who of later turns waits

    @cached_property
    def rows(self) -> Rows:
        """The same arrays for reading and writing single numbers."""
        return Rows.of(self)

    @staticmethod
    def new(number: int, run: int, section: str, ready: tuple[Ready, ...], waits: Waits, shared: Shared, chips: int) -> Turn:
        """Return a turn of which nothing is known."""
        n = len(ready)
        names = [r.operation.name for r in ready]
        unknown = np.full((2, n, chips), np.nan)
        stages = [1 if r.direct else len(r.stages) for r in ready]
        transfers = [len(shared.transfers[name]) for name in names]
        pieces = {i: [p.key for p in ready[r.partner].pieces if p.key is not None] for i, r in enumerate(ready)
                  if r.partner is not None and r.partner < i and not r.looped}
        fed = sum(map(len, pieces.values()))
        causes = np.append(np.full((sum(stages) + fed) * chips + sum(transfers), np.nan), -np.inf)
        per_chip, came = causes[:(sum(stages) + fed) * chips].reshape(-1, chips), causes[(sum(stages) + fed) * chips:]
        base, of_pieces = per_chip[:sum(stages)], iter(per_chip[sum(stages):])
        per_chip[sum(stages):] = -np.inf
        arrived = np.full((sum(stages), chips), -np.inf)
        due = np.array([row for name, r in zip(names, ready) for row in (
            [np.full(chips, len(shared.direct[name].receiver))] if r.direct else shared.due[name])], int).reshape(-1, chips)
        missing = np.repeat(np.array(waits.count)[:, None], chips, axis=1)
        for name, r in zip(names, ready):
            if name in shared.awaited and r.partner is not None:
                missing[r.partner] += shared.awaited[name]
        parts = [np.full(chips, 1 if r.direct else len({s.part for s in r.stages})) for r in ready]
        return Turn(number, run, ready, waits, Segment(section, tuple(r.operation for r in ready), *unknown),
                    np.full((n, chips), -np.inf), missing, np.zeros((n, chips), bool),
                    cut(base, stages), cut(arrived, stages), cut(due, stages), parts,
                    [np.full(chips, -np.inf) for _ in ready], [[np.zeros(chips, bool) for _ in range(k)] for k in stages],
                    [[{} for _ in range(k)] for k in stages], cut(came, transfers),
                    numbers(arrived), numbers(due), numbers(causes),
                    {i: {key: next(of_pieces) for key in keys} for i, keys in pieces.items()})

    def times(self) -> list[Array]:
        """Return all times that are known."""
        nested = [array for of in (self.base, self.arrived) for stages in of for array in stages]
        times = [self.segment.start, self.segment.end, self.at, *nested, *self.latest]
        for of in (self.fed, self.pieces):
            times += [array for i in sorted(of) for _, array in sorted(of[i].items())]
        times += [self.sent[i] for i in sorted(self.sent)] + [self.got[i] for i in sorted(self.got)]
        return times + self.came

    def waiting(self, i: int) -> Iterator[tuple[Turn, int, bool]]:
        """Yield who waits for the end of an operation: turn, operation, and whether it takes the time."""
        for j, what in self.waits.tells[i]:
            if what != START:
                yield self, j, what == END
        for j, other, k in self.more:
            if j == i:
                yield other, k, False

    def counts(self) -> list[Array]:
        """Return what else is known."""
        nested = [array for of in (self.due, self.done) for stages in of for array in stages]
        return [self.missing, self.known, *self.parts, *nested]

    def let_go(self) -> None:
        """Forget all but what the timeline has, when all of it is known: what happens later does not depend on the rest."""
        self.at = self.missing = np.zeros((0, 0))
        self.base, self.arrived, self.due, self.done, self.order = [], [], [], [], []
        self.parts, self.latest, self.came = [], [], []
        self.arrivals, self.lacks, self.causes = [], [], []
        for of in (self.fed, self.pieces, self.sent, self.got):
            of.clear()
        vars(self).pop("rows", None)

    def leap(self, later: Iterator[Array]) -> None:
        """Make all times later, each by its own."""
        for time in self.times():
            time += next(later)


def cut(rows: Array, lengths: Sequence[int]) -> list[Any]:
    """Return lists of rows, of these lengths, one after another; views. Of a single row they are rows of that."""
    ends = np.cumsum(lengths).tolist()
    found = [rows[end - length:end] for length, end in zip(lengths, ends)]
    return found if rows.ndim == 1 else [list(part) for part in found]
