"""The record of a run: start and end of every operation on every chip, and the bytes of every link.

Columns (operations, chips), in seconds from the start of the run; a block that repeats is stored once. Of the engine, analysis,
plots and exports read only this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim.shown import display

if TYPE_CHECKING:
    from torussim.program import Operation

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Segment:
    """One run of a list of operations; `starts`, `ends`: (operations, simulated chips), seconds.

    `stands`: (chips,) the simulated chip that represents each; None: all were simulated.
    """

    section: str  # one of Program.names()
    operations: tuple[Operation, ...]
    starts: Array
    ends: Array
    stands: Array | None = None

    @property
    def is_block(self) -> bool:
        """Whether it is a run of a block, not the prologue's or the epilogue's."""
        return self.section not in ("prologue", "epilogue")

    @property
    def start(self) -> Array:
        """The start of each operation on each chip, (operations, chips), seconds; for many chips computed at each use."""
        return self.starts if self.stands is None else self.starts[:, self.stands]

    @property
    def end(self) -> Array:
        """The end of each operation on each chip, in the same form."""
        return self.ends if self.stands is None else self.ends[:, self.stands]

    def on(self, chip: int) -> Array:
        """Return the start and end of each operation on a chip, (2, operations), seconds."""
        own = chip if self.stands is None else self.stands[chip]
        return np.array([self.starts[:, own], self.ends[:, own]])


@dataclass(frozen=True)
class Work:
    """The cost of an operation on a chip without waits, equal in each run; (chips,) seconds.

    `busy`: of the compute unit, without fixed costs; `fixed`: overheads of a matmul, launch of a collective.
    """

    busy: Array
    fixed: Array


@dataclass(frozen=True)
class Sent:
    """A message during its time on a link: the `sign` link of a chip along an axis; seconds, bytes."""

    operation: str
    chip: int
    axis: str
    sign: int
    start: float
    end: float
    bytes: float
    run: int  # index into Timeline.runs


@dataclass(frozen=True, eq=False)
class Timeline:
    """The complete record of one program's run on one network.

    `runs`: (segment, offset) in order of time; a repeated block is the same segment with another offset. `link_bytes`: (links,)
    in the order of the topology's edges, whole run; `link_seconds`: the time spent transmitting, in the same order.
    """

    chips: tuple[tuple[int, ...], ...]
    axes: tuple[str, ...]
    segments: tuple[Segment, ...]
    runs: tuple[tuple[int, float], ...]
    work: dict[str, Work]
    link_bytes: Array
    link_seconds: Array
    begin: Array
    finish: Array  # (chips,) seconds: the end of the whole program on the chip
    events: int
    blocks: int
    blocks_simulated: int
    program: Any
    sent: tuple[Sent, ...] = field(default=())
    carried: Mapping[str, Array] = field(default_factory=dict)  # by operation: (links,) bytes, whole run
    chips_simulated: int = 0  # the other chips are equivalent to one of them
    flows: int = 0  # messages in the fluid network
    solves: int = 0  # number of times that their rates were computed
    period: int = 0  # block runs after which the state repeats, the most of any block; 0: it does not, or this was not used
    leapt: int = 0  # block runs left out between two simulated ones, because each adds the same

    @property
    def makespan(self) -> float:
        """Seconds from the earliest start to the last end."""
        return float(self.finish.max() - self.begin.min()) if len(self.finish) else 0.0

    @property
    def last_chip(self) -> int:
        """Index of the chip that finishes last (the first of them)."""
        return int(self.finish.argmax())

    def last_of_blocks(self) -> list[Segment]:
        """Return the segment of the last simulated run of each block, in order."""
        return list({s.section: s for s in self.segments if s.is_block}.values())

    def counts(self) -> list[tuple[int, int]]:
        """Return for each run its number among the runs of its section, from 1, and the number of these."""
        sections = [self.segments[segment].section for segment, _ in self.runs]
        often, seen, found = Counter(sections), Counter[str](), list[tuple[int, int]]()
        for section in sections:
            seen[section] += 1
            found.append((seen[section], often[section]))
        return found

    def _repr_html_(self) -> str:
        return str(display("html", self))

    def spans(self, chip: int) -> Iterator[tuple[int, Operation, float, float]]:
        """Yield (run, operation, start, end) of one chip, in program order, seconds."""
        for run, (segment, offset) in enumerate(self.runs):
            s = self.segments[segment]
            for operation, start, end in zip(s.operations, *s.on(chip).tolist()):
                yield run, operation, start + offset, end + offset
