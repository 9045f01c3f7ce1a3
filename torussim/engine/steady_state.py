"""When blocks repeat: what the states before the latest blocks say of those that follow.

A *steady state* is a state that each block, or each so many blocks, moves by a constant gain. If the gain is the same for all
times, the state is one that was there before, and comes again. If each chip has a gain of its own, it goes on so until
something that was early enough is not: a time on private links is a maximum of sums of earlier times, thus convex in the state,
and so are the ends of blocks in their number as long as each adds the same. So what is a straight line over two blocks and again
at the last is one in between. With flows the times are such sums as long as flows start and end in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
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


@dataclass(frozen=True, eq=False)
class State:
    """The state before a block, from when that begins: all times that the future depends on, and a digest of all counts."""

    begin: float
    times: Array
    counts: bytes

    @staticmethod
    def of(begin: float, times: Sequence[Array], counts: Sequence[Array]) -> State:
        """Return the state of these times, seconds, and counts."""
        later = np.concatenate([time.ravel() for time in times])
        later -= begin
        np.copyto(later, NOT_YET, where=np.isnan(later))
        np.clip(later, -NOT_YET, NOT_YET, out=later)
        digest = blake2b(digest_size=16)
        for count in counts:
            digest.update(np.ascontiguousarray(count).tobytes())
        return State(begin, later, digest.digest())

    def glance(self) -> Array:
        """Return some of the times, which as a rule already tell a difference."""
        return self.times[::max(1, len(self.times) // GLANCE)]

    def like(self, other: State) -> bool:
        """Return whether the counts are the same."""
        return self.counts == other.counts and len(self.times) == len(other.times)


class SteadyState:
    """Finds steady states among the latest states."""

    def __init__(self) -> None:
        self.seen: list[State] = []

    def forget(self) -> None:
        """Begin anew: a state before a leap says nothing of those after it."""
        self.seen.clear()

    def note(self, state: State) -> None:
        """Remember the state before a block."""
        self.seen.append(state)
        del self.seen[:-max(8, min(REMEMBERED, int(ROOM // max(state.times.nbytes, 1))))]

    def period(self) -> tuple[int, float]:
        """Return how many blocks ago the state was the same, and how much earlier, (0, 0) if it was not."""
        now = self.seen[-1]
        for period, old in enumerate(reversed(self.seen[:-1]), 1):
            if not now.like(old):
                continue
            shift = now.begin - old.begin
            near = SAME * shift / period
            if (np.abs(now.glance() - old.glance()) <= near).all() and (np.abs(now.times - old.times) <= near).all():
                return period, shift
        return 0, 0.0

    def gain(self) -> Array | None:
        """Return what a block adds to each time if the last two added the same, else None."""
        if len(self.seen) < 3:
            return None
        a, b, c = self.seen[-3:]
        shift = c.begin - b.begin
        near = SAME * shift
        if not (a.like(b) and b.like(c)) or abs(c.begin - 2 * b.begin + a.begin) > near:
            return None
        if (np.abs(c.glance() - 2 * b.glance() + a.glance()) > near).any() \
                or (np.abs(c.times - 2 * b.times + a.times) > near).any():
            return None
        return np.where(np.abs(c.times) < NOT_YET, c.times - b.times + shift, 0.0)


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
