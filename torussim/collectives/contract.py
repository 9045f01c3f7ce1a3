"""A collective made into transfers (Schedule); collectives.playback checks that it does what it promises.

A schedule is written by position, so that it is small for any number of chips: a phase runs one pattern on every line
or ring of a lane at once; a pattern is a list of hops; a hop sends something from each position to the next one. What
each hop carries is told in halves of blocks. Knows nothing of bandwidths and times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
# What a hop carries from a position: (block, half). A block is (origin,) in a gather, (destination,) in a scatter, and
# (origin, destination) in an exchange or a permute, as positions on the lane; halves are 0 and 1.
Chunk = tuple[tuple[int, ...], int]


@dataclass(frozen=True, eq=False)
class Hop:
    """One step of a pattern in one direction: every position sends to its neighbour.

    `sign`: +1 or -1, to the next position or the one before. `halves`: (K,) ints, what each position sends, in halves of a
    block; 0 sends nothing. `after`: the step of the hop of the same direction whose arrival at the sender is passed on; None:
    what the sender has when the phase starts. Where the next position has no link, the hop is routed as the topology says.
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
        """Return where a chip stands on its line of the lane."""
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
class Step:
    """Messages that chips send at once, or one after another (`turns`), each routed, whatever the distance.

    `moves`: (messages, axes) how far on along the axes of the group each goes, from every chip; or `to`: (messages, K) the
    position in the group (C order) that each of a chip's messages goes to, -1: no message. `size`: bytes of a message.
    `blocks(message, position, to)` says what it carries: shards, or origin x K + destination in an exchange. `role`: whether
    what comes is kept beside what was there ("gather"), added up ("scatter", "reduce": the sender's is gone, "sum": it stays;
    "in_network": by the switches, of what all sent), or moved on; "ready" brings nothing. `part`: (messages, K) of `size` in
    each message, where they are not alike. `cut`: into how many blocks a shard is.

    `piped`: what comes in the step before is passed on while it comes. A chip's messages begin when all that are due to it have
    begun to arrive, and none is complete before those are. `spread`: over all shortest ways, whatever the network's routing is,
    unless that is a user's.
    """

    role: str
    size: float
    blocks: Callable[[int, int, int], list[int]]
    moves: Array | None = None
    to: Array | None = None
    turns: bool = False
    part: Array | None = None
    cut: int = 1
    piped: bool = False
    spread: bool = False

    def targets(self, lengths: Sequence[int]) -> Array:
        """Return (messages, K) the position that each message of each goes to, -1: there is none."""
        if self.to is not None:
            return self.to
        assert self.moves is not None
        at = np.array(list(product(*map(range, lengths))), dtype=int).reshape(-1, len(lengths))  # (K, axes)
        there = (at[None] + self.moves[:, None]) % np.array(lengths)
        return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(there, 2, 0)), tuple(lengths)))


@dataclass(frozen=True, eq=False)
class Schedule:
    """All transfers of one collective on a group with these axis lengths: phases in queue order (index, part), or routed steps.

    `twist`: by how much going round an axis in + direction shifts other axes of the group. On such a ring a position tells
    what is so many places away, which can be chips of another row.
    """

    kind: str
    lengths: dict[str, int]
    bytes: float
    phases: tuple[Phase, ...]
    algorithm: str
    shift: dict[str, int]
    twist: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    root: int = 0  # its position

    @property
    def chips(self) -> int:
        """The number of chips of a group."""
        return int(np.prod(list(self.lengths.values()), dtype=int))


def chips_of(schedule: Schedule) -> list[tuple[int, ...]]:
    """Return the coordinates of the chips of one group."""
    return list(product(*(range(n) for n in schedule.lengths.values())))
