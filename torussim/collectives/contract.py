"""A collective as transfers (Schedule); collectives.playback checks that it keeps the contract of the collective.

A schedule is written by position, so it is small for any number of chips. A phase runs one pattern on every line or ring of a
lane at once; a pattern is a list of hops; in a hop each position sends data to the next one. The data of a hop are given in
halves of blocks. It knows nothing of bandwidths and times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
# The data of a hop from a position: (block, half). A block is (origin,) in a gather, (destination,) in a scatter, and
# (origin, destination) in an exchange or a permute, as positions on the lane; halves are 0 and 1.
Chunk = tuple[tuple[int, ...], int]


@dataclass(frozen=True, eq=False)
class Hop:
    """One step of a pattern in one direction: every position sends to its neighbour.

    `sign`: +1 or -1, to the next position or to the previous one. `halves`: (K,) ints, the halves of a block that each position
    sends; 0: none. `after`: the step of a hop of the same direction; the hop passes on the data that arrived at the sender in
    that step. None: it sends data that the sender has when the phase starts. If the next position has no link, the hop is routed
    as the topology says.
    """

    sign: int
    step: int
    after: int | None
    halves: np.ndarray[Any, Any]
    chunks: Callable[[int], list[Chunk]]


@dataclass(frozen=True, eq=False)
class Pattern:
    """The hops of one phase on one ring or line of `length` positions, in the order of each link's queue.

    `role`: "gather", "scatter", "exchange" or "permute". `merged`: the own block is computed together with step 1 of a gather, or
    with the last step of a scatter (the loop kind `latency` on even rings).
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
        """Return the position of a chip on its line of the lane."""
        if self.order is None:
            return coordinate[self.axes[0]]
        return self.order.index(tuple(coordinate[a] for a in self.axes))


@dataclass(frozen=True, eq=False)
class Phase:
    """One pattern on every line of a lane; `block` is the size of a whole block, bytes.

    `flow`: if blocks differ, (K, length) the bytes that each chip of the group, in C order, holds for each position of the lane;
    `block` is then the largest.
    `on`: only the lines at these positions of other axes run it; (): all lines.
    """

    index: int
    part: int
    lane: Lane
    pattern: Pattern
    block: float
    flow: Array | None = None
    on: tuple[tuple[str, tuple[int, ...]], ...] = ()


@dataclass(frozen=True, eq=False)
class Step:
    """Messages that chips send at once, or one after another (`turns`); each message is routed, at any distance.

    `moves`: (messages, axes) the displacement of each message along the axes of the group, the same for every chip. Or `to`:
    (messages, K) the position in the group (C order) that receives each message of a chip, -1: no message. `size`: bytes of a
    message. `blocks(message, position, to)`: the data of a message, as shards, or as origin x K + destination in an exchange.
    `role` says what the receiver does: it keeps the data beside its own ("gather") or adds them to its own ("scatter" and
    "reduce": the sender loses its data; "sum": the sender keeps them; "in_network": the switches add the data of all senders). In
    any other role the data move, and "ready" carries none. `part`: (messages, K) the share of `size` in each message, if messages
    differ. `cut`: the number of blocks of a shard.

    `piped`: a message of the step before is passed on while it arrives. The messages of a chip begin when all messages due to the
    chip have begun to arrive, and none is complete before those are. `spread`: over all shortest paths, whatever the routing of
    the network, unless the routing is user-defined. `on`: only the chips at these positions of axes send.
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
    on: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def targets(self, lengths: Sequence[int]) -> Array:
        """Return (messages, K) the position of the receiver of each message of each chip, -1: no message."""
        if self.to is not None:
            return self.to
        assert self.moves is not None
        at = np.array(list(product(*map(range, lengths))), dtype=int).reshape(-1, len(lengths))  # (K, axes)
        there = (at[None] + self.moves[:, None]) % np.array(lengths)
        return np.asarray(np.ravel_multi_index(tuple(np.moveaxis(there, 2, 0)), tuple(lengths)))


@dataclass(frozen=True, eq=False)
class Schedule:
    """All transfers of one collective on a group: phases in the order of the queues (index, part), or routed steps.

    `twist`: the shift of other axes of the group by a turn round an axis in + direction. On such a ring a position means a
    distance: the chip that many places away can be in another row.
    """

    kind: str
    lengths: dict[str, int]
    bytes: float
    phases: tuple[Phase, ...]
    algorithm: str
    shift: dict[str, int]
    twist: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    root: int = 0  # the position of the root
    matrix: Array | None = None  # of an all-to-all with unequal bytes: (K, K) bytes from chip to chip

    @property
    def chips(self) -> int:
        """The number of chips of a group."""
        return int(np.prod(list(self.lengths.values()), dtype=int))


def chips_of(schedule: Schedule) -> list[tuple[int, ...]]:
    """Return the coordinates of the chips of one group."""
    return list(product(*(range(n) for n in schedule.lengths.values())))
