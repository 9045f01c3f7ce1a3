"""When blocks repeat: what the state at the end of a block says of those that follow.

A state that was there before, but for a shift in time, comes again. A state that every block moves by the same, on each chip
by its own, goes on so until something that was early enough is not: a time on private links is a maximum of sums of the times
before, thus convex in the state, and so are the blocks' ends in their number as long as each adds the same to the state; what
is a straight line over two blocks and again at the last is one in between. With flows the times are sums as long as these start
and end in the same order; that it was the same at both ends and not in between is not ruled out, only never seen in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torussim.timeline import Segment

Array = np.ndarray[Any, Any]
REMEMBERED = 64  # states
ROOM = 512e6  # bytes of states that are remembered, where the latest eight take no more
GLANCE = 1000  # times that are compared before all are
SAME = 1e-12  # of a block: states closer than this are the same
ROUNDING = 8 * 2.0 ** -52  # of a time: how far off what a block adds may be
NOT_YET = 1e300  # a time that is not known, or, negative, one that nothing waits for


@dataclass
class Seen:
    """The state before a block: when that began, times from then on, and counts.

    `some`: every so many of the times, which as a rule already tell a difference.
    """

    begin: float
    later: list[Array]
    counts: list[Array]
    some: Array = field(init=False)

    def __post_init__(self) -> None:
        every = max(1, sum(time.size for time in self.later) // GLANCE)
        self.some = _comparable(np.concatenate([time.ravel()[::every] for time in self.later]))

    @property
    def size(self) -> int:
        """Bytes that it takes."""
        return sum(array.nbytes for array in (*self.later, *self.counts))

    def times(self) -> Iterator[Array]:
        """Yield the times with those that are not known replaced, one by one."""
        return map(_comparable, self.later)


class Repetition:
    """The states before the latest blocks."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    def forget(self) -> None:
        """Begin anew: what was before a leap is not what comes before the next block."""
        self.seen.clear()

    def note(self, begin: float, times: Sequence[Array], counts: Sequence[Array]) -> None:
        """Remember the state before a block."""
        self.seen.append(Seen(begin, [time - begin for time in times], [count.copy() for count in counts]))
        del self.seen[:-max(8, min(REMEMBERED, int(ROOM // max(self.seen[-1].size, 1))))]

    def period(self) -> tuple[int, float]:
        """Return how many blocks ago the state was the same, and how much earlier, (0, 0) if it was not."""
        now = self.seen[-1]
        for period, old in enumerate(reversed(self.seen[:-1]), 1):
            shift = now.begin - old.begin
            near = SAME * shift / period
            if len(now.some) == len(old.some) and (np.abs(now.some - old.some) <= near).all() \
                    and _equal(now.counts, old.counts) and _alike(now.later, old.later) \
                    and all((np.abs(a - b) <= near).all() for a, b in zip(now.times(), old.times())):
                return period, shift
        return 0, 0.0

    def drift(self) -> list[Array] | None:
        """Return what a block adds to each time if the last two added the same."""
        if len(self.seen) < 3:
            return None
        a, b, c = self.seen[-3:]
        if not all(_equal(x.counts, y.counts) and _alike(x.later, y.later) for x, y in ((a, b), (b, c))):
            return None
        shift = c.begin - b.begin
        near = SAME * shift
        if abs(c.begin - 2 * b.begin + a.begin) > near:
            return None
        if any((np.abs(z - 2 * y + x) > near).any() for x, y, z in zip(a.times(), b.times(), c.times())):
            return None
        return [np.where(np.abs(z) < NOT_YET, z - y + shift, 0.0) for y, z in zip(b.times(), c.times())]


def straight(before: Segment, since: Segment, until: Segment, after: Segment, blocks: int) -> bool:
    """Return whether each of `blocks` blocks from `since` to `until` adds what those on both sides of them add."""
    near = SAME * float(np.max(since.end - before.end, initial=0.0)) + blocks * ROUNDING * float(np.max(after.end, initial=0.0))
    return all(bool((np.abs((c - b) / blocks - other) <= near).all())
               for a, b, c, d in zip(*((s.start, s.end) for s in (before, since, until, after))) for other in (b - a, d - c))


def fill(segments: Sequence[Segment], since: Segment, until: Segment) -> None:
    """Give the blocks between two their times, each the same after the one before."""
    for number, segment in enumerate(segments, 1):
        share = number / (len(segments) + 1)
        for times, a, b in ((segment.start, since.start, until.start), (segment.end, since.end, until.end)):
            times[...] = a + share * (b - a)


def _comparable(time: Array) -> Array:
    """Return times with those that are not known replaced by numbers."""
    return np.where(np.isfinite(time), time, np.where(np.isnan(time), NOT_YET, -NOT_YET))


def _alike(times: Sequence[Array], others: Sequence[Array]) -> bool:
    return len(times) == len(others) and all(a.shape == b.shape for a, b in zip(times, others))


def _equal(counts: Sequence[Array], others: Sequence[Array]) -> bool:
    return _alike(counts, others) and all((a == b).all() for a, b in zip(counts, others))
