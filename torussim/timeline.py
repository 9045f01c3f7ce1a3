"""What happened: start and end of every operation on every chip, and the bytes of every link.

Columns (operations, chips), in seconds from the start of the run; a block that repeats is stored once. Analysis, plots and
exports read this and nothing else of the engine.
"""

from __future__ import annotations

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
    """One run of a list of operations; `starts`, `ends`: (operations, chips that were simulated), seconds.

    `stands`: (chips,) which of these each is like; None: all were simulated.
    """

    section: str  # "prologue", "block" or "epilogue"
    operations: tuple[Operation, ...]
    starts: Array
    ends: Array
    stands: Array | None = None

    @property
    def start(self) -> Array:
        """When each operation starts on each chip, (operations, chips), seconds; for many chips worked out each time."""
        return self.starts if self.stands is None else self.starts[:, self.stands]

    @property
    def end(self) -> Array:
        """When each operation ends on each chip, likewise."""
        return self.ends if self.stands is None else self.ends[:, self.stands]

    def on(self, chip: int) -> Array:
        """Return when each operation starts and ends on a chip, (2, operations), seconds."""
        own = chip if self.stands is None else self.stands[chip]
        return np.array([self.starts[:, own], self.ends[:, own]])


@dataclass(frozen=True)
class Work:
    """What an operation costs a chip besides waiting, the same each time it is run; (chips,) seconds.

    `busy`: of the compute unit, without fixed costs; `fixed`: overheads of a matmul, launch of a collective.
    """

    busy: Array
    fixed: Array


@dataclass(frozen=True)
class Sent:
    """A message while it occupied a link: the `sign` link of a chip along an axis; seconds, bytes."""

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
    """The whole of one program's run on one network.

    `runs`: (segment, offset) in order of time; a repeated block is the same segment with another offset. `link_bytes`:
    (links,) in the order of the topology's edges, whole run; `link_seconds`: time spent transmitting, likewise.
    """

    chips: tuple[tuple[int, ...], ...]
    axes: tuple[str, ...]
    segments: tuple[Segment, ...]
    runs: tuple[tuple[int, float], ...]
    work: dict[str, Work]
    link_bytes: Array
    link_seconds: Array
    begin: Array
    finish: Array  # (chips,) seconds: everything of the program is done on the chip
    events: int
    blocks: int
    blocks_simulated: int
    program: Any
    sent: tuple[Sent, ...] = field(default=())
    carried: Mapping[str, Array] = field(default_factory=dict)  # by operation: (links,) bytes, whole run
    chips_simulated: int = 0  # the others are like one of them
    flows: int = 0  # messages that went through the fluid network
    solves: int = 0  # how often their rates were found anew
    period: int = 0  # blocks after which the state came back; 0: it did not, or that was not used
    leapt: int = 0  # blocks between two that were run, left out as each adds the same

    @property
    def makespan(self) -> float:
        """Seconds from the earliest start to the last end of anything."""
        return float(self.finish.max() - self.begin.min()) if len(self.finish) else 0.0

    @property
    def last_chip(self) -> int:
        """Index of the chip that finishes last (the first of them)."""
        return int(self.finish.argmax())

    def _repr_html_(self) -> str:
        return str(display("html", self))

    def spans(self, chip: int) -> Iterator[tuple[int, Operation, float, float]]:
        """Yield (run, operation, start, end) of one chip, in program order, seconds."""
        for run, (segment, offset) in enumerate(self.runs):
            s = self.segments[segment]
            for operation, start, end in zip(s.operations, *s.on(chip).tolist()):
                yield run, operation, start + offset, end + offset
