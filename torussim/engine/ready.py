"""Operations that are ready to run: arrays over all chips, computed once (`plan`) and used in every repetition.

Rows of a link array are (axis, direction): row 2a is the + link of axis a, row 2a + 1 its - link. Each link serves its messages
in a fixed order (program order, phase, part, step, + before -): the order of the `Move`s here.
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
    """One step of a phase on all chips: each chip sends on its link of each of `rows` (r, chips or a slice of rows).

    `links`: index into the flat link arrays. `seconds`: (r, chips) of transmission. `late`: (r, chips) latency, -inf where no
    message is sent. `sends`: (r, chips) whether a chip sends, None if all do. `receiver`: (r, chips) the receiving chip.
    `source`: (r, chips) the flat index of the message that each chip receives. If an axis is turned, a message sent in one
    direction arrives in the other.
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
    latest: bool  # whether the last arrival of the phase on a chip can be of this move


@dataclass(frozen=True, eq=False)
class Course:
    """A pattern on some lines of a phase's lane: (chips,) the position of each chip, and where it runs (None: on all chips)."""

    pattern: Pattern
    position: Array
    where: Array | None = None

    def here(self, values: Array) -> Array:
        """Return values (K,) by position as values by chip, 0 on chips of other courses."""
        found: Array = values[self.position]
        return found if self.where is None else np.where(self.where, found, 0)


@dataclass(frozen=True, eq=False)
class Stage:
    """One phase of one part, or its lines that run the same pattern: the moves in the order of the queues."""

    index: int
    part: int
    lane: Lane
    moves: tuple[Move, ...]
    keep: Mapping[int, int]  # step whose arrivals are still needed -> number of the last move that reads them
    single: bool  # a chip receives from one other (permute), from some (twisted rings) or from none of its lane, not from all


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of a looped matmul: `key` is the (phase, step) that it waits for or feeds, None for the own shard.

    `seconds`: (chips,), 0 on chips without such a piece, which wait for nothing. `idle`: (chips,) these chips, None if there are
    none.
    """

    key: tuple[int, int] | None
    seconds: Array
    idle: Array | None = None


@dataclass(frozen=True, eq=False)
class Ready:
    """An operation with its arrays. `after`: indices of earlier operations of its section; None: the operation before."""

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
        """Whether the operation is a matmul that runs piece by piece."""
        return isinstance(self.operation, Compute) and self.partner is not None
