"""Operations that are ready to run: arrays over all chips, computed once (`plan`) and used in every repetition.

Rows of a link array are (axis, direction); row 2a is the + link of axis a, row 2a + 1 its - link. The queue order of every
link (program order, phase, part, step, + before -) is the order of `Move`s here, fixed before the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from torussim.collectives.contract import Lane, Pattern, Step
from torussim.program import Compute, Operation
from torussim.timeline import Work

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Move:
    """One step of a phase on all chips: each sends on its link of each of `rows` (r, chips or a slice of rows).

    `links`: index into the flat link arrays; `seconds`: (r, chips) of transmission; `late`: (r, chips) latency, -inf where
    nothing is sent; `sends`: None when every chip does; `receiver`: (r, chips) who gets it; `source`: (r, chips) flat index of
    what comes to each chip from there. Where an axis is turned, what was sent in one direction arrives in the other.
    """

    step: int
    after: int | None
    rows: slice  # of the two directions: + is 0, - is 1
    links: slice | Array
    seconds: Array
    late: Array
    sends: Array | None
    receiver: Array
    source: Array
    bytes: Array
    latest: bool  # whether a chip's last arrival of the phase can be of this move


@dataclass(frozen=True, eq=False)
class Course:
    """A pattern on some lines of a phase's lane: (chips,) the position of each chip, and where it runs (None: everywhere)."""

    pattern: Pattern
    position: Array
    where: Array | None = None

    def here(self, values: Array) -> Array:
        """Return values (K,) by position as values by chip, 0 on chips of other courses."""
        found: Array = values[self.position]
        return found if self.where is None else np.where(self.where, found, 0)


@dataclass(frozen=True, eq=False)
class Stage:
    """One phase of one part, or the lines of it that run the same pattern: its moves in queue order."""

    index: int
    part: int
    lane: Lane
    moves: tuple[Move, ...]
    keep: Mapping[int, int]  # arrival of a step -> number of the move that reads it last
    single: bool  # a chip gets something from one other (permute), or from some (twisted rings), not from all of its lane


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a looped matmul: `key` is the (phase, step) that it waits for or feeds, None for the own shard.

    `seconds`: (chips,), 0 where a chip has no such piece and waits for nothing; `idle`: (chips,) where that is, or None.
    """

    key: tuple[int, int] | None
    seconds: Array
    idle: Array | None = None


@dataclass(frozen=True, eq=False)
class Ready:
    """An operation with its arrays. `after`: indices of earlier operations of its list; None: the one before."""

    operation: Operation
    after: tuple[int, ...] | None
    work: Work
    stages: tuple[Stage, ...] = ()
    pieces: tuple[Piece, ...] = ()
    partner: int | None = None  # index of the other half of a loop
    sent: Array | None = None  # (hops,) bytes
    overhead: float = 0.0  # fixed cost before the first piece of a looped matmul, seconds
    steps: tuple[Step, ...] = ()  # of a collective whose messages are routed

    @cached_property
    def looped(self) -> bool:
        """Whether it is a matmul that runs piece by piece."""
        return isinstance(self.operation, Compute) and self.partner is not None
