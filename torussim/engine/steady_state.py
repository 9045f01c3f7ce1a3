"""Detection of repeated blocks: the states before the latest blocks give the times of the blocks that follow.

A *steady state* is a state that each block, or each period of blocks, moves by a constant gain. If the gain is the same for all
times, the state is one that was there before, and it comes back. If each chip has a gain of its own, the gains stay constant
until a dependency that was early enough becomes the latest one. A time on private links is a maximum of sums of earlier times,
thus convex in the state. The ends of blocks are convex in the number of the block, too, while each block adds the same. So if the
times are on a straight line over two blocks and again at the last block, they are on this line in between. With flows, the times
are such sums as long as flows start and end in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torussim.timeline import Segment

Array = np.ndarray[Any, Any]
REMEMBERED = 64  # states
ROOM = 256e6  # bytes of remembered states, unless the latest eight take more
SAME = 1e-12  # times the duration of a block: states that differ by less are the same
ROUNDING = 8 * 2.0 ** -52  # times the time: the rounding error of the gain of a block


@dataclass(frozen=True, eq=False)
class Snapshot:
    """The state before a block that begins at `begin`: all values on which the future depends; times in seconds.

    `blocks`: arrays of the core for the block runs under way, some with fields. They are compared last.
    """

    begin: float
    clocks: tuple[Array, ...]
    counts: tuple[Array, ...]
    blocks: tuple[Array, ...]

    def like(self, other: Snapshot) -> bool:
        """Return whether the counts are the same."""
        return len(self.blocks) == len(other.blocks) and all(
            a.shape == b.shape and bool((a == b).all()) for a, b in zip(self.counts, other.counts, strict=True))

    def times(self) -> Iterator[Array]:
        """Yield all times; first the times that usually show a difference."""
        yield from self.clocks
        yield from (part for block in self.blocks for part in parts(block) if part.dtype.kind == "f")

    def numbers(self) -> Iterator[Array]:
        """Yield all numbers of block runs that are not times."""
        yield from (part for block in self.blocks for part in parts(block) if part.dtype.kind != "f")

    def same_numbers(self, other: Snapshot) -> bool:
        """Return whether all numbers of block runs are the same."""
        return all(bool((a == b).all()) for a, b in zip(self.numbers(), other.numbers(), strict=True))


@dataclass(frozen=True)
class Leap:
    """Runs of a block that were left out: `first` is the index of the first among the runs, and `blocks` their number.

    `patience`: the first run of this block before which the whole run may leap, if it has to be made again.
    """

    section: str
    first: int
    blocks: int
    patience: int


class SteadyState:
    """Finds steady states among the latest states."""

    def __init__(self) -> None:
        self.seen: list[Snapshot] = []

    def forget(self) -> None:
        """Begin anew: a state before a leap gives no information about the states after it."""
        self.seen.clear()

    def note(self, state: Snapshot) -> None:
        """Remember the state before a block."""
        self.seen.append(state)
        size = sum(block.nbytes for block in (*state.clocks, *state.blocks))
        del self.seen[:-max(8, min(REMEMBERED, int(ROOM // max(size, 1))))]

    @np.errstate(invalid="ignore")  # the difference of two infinite times, for which nothing waits
    def period(self) -> tuple[int, float]:
        """Return how many blocks ago the state was the same, and how many seconds earlier; (0, 0) if it was not."""
        now = self.seen[-1]
        for period, old in enumerate(reversed(self.seen[:-1]), 1):
            shift = now.begin - old.begin
            near = SAME * shift / period
            pairs, first, then = zip(now.times(), old.times()), old.clocks[0], now.clocks[0]
            if first.shape == then.shape and _near(then - first - shift, then, first, near) and now.like(old) \
                    and all(_near(a - b - shift, a, b, near) for a, b in pairs) and now.same_numbers(old):
                return period, shift
        return 0, 0.0

    @np.errstate(invalid="ignore")
    def gain(self) -> list[Array] | None:
        """Return the gain of each time, in the order of `Snapshot.times`, if the last two blocks had the same, else None."""
        if len(self.seen) < 3:
            return None
        a, b, c = self.seen[-3:]
        near = SAME * (c.begin - b.begin)
        if abs(c.begin - 2 * b.begin + a.begin) > near or not (a.like(b) and b.like(c)):
            return None
        if not all(_near(z - y - (y - x), z, y, near) and _near(y - x, y, x, np.inf)
                   for x, y, z in zip(a.times(), b.times(), c.times())) or not (a.same_numbers(b) and b.same_numbers(c)):
            return None
        return [np.where(np.isfinite(z), z - y, 0.0) for y, z in zip(b.times(), c.times())]


def parts(block: Array) -> Iterator[Array]:
    """Yield the fields of an array, or the array itself if it has none; views."""
    if block.dtype.names is None:
        yield block
    else:
        yield from (block[name] for name in block.dtype.names)


def _near(difference: Array, a: Array, b: Array, near: float) -> bool:
    """Return whether all differences are small; times that are unknown in both, or equal and infinite, do not differ."""
    small = np.abs(difference) <= near
    return bool(small.all()) or bool((small | (np.isnan(a) & np.isnan(b)) | ((a == b) & np.isinf(a))).all())


def straight(before: Segment, since: Segment, until: Segment, after: Segment, blocks: int) -> bool:
    """Return whether each of `blocks` blocks from `since` to `until` has the gain of the blocks before and after them."""
    near = SAME * float(np.max(since.end - before.end, initial=0.0)) + blocks * ROUNDING * float(np.max(after.end, initial=0.0))
    return all(bool((np.abs((c - b) / blocks - other) <= near).all())
               for a, b, c, d in zip(*((s.start, s.end) for s in (before, since, until, after))) for other in (b - a, d - c))


def fill(segments: Sequence[Segment], since: Segment, until: Segment) -> None:
    """Compute the times of the blocks between two others, with the same gain for each block."""
    for number, segment in enumerate(segments, 1):
        share = number / (len(segments) + 1)
        for times, a, b in ((segment.start, since.start, until.start), (segment.end, since.end, until.end)):
            times[...] = a + share * (b - a)
