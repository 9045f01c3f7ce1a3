"""The door to numba: what `fair.fill` does, compiled, link by link from the lowest level up. An extra: numpy can do it all.

Where numpy must look at all flows in every round, this touches each entry of a flow twice: when it is counted, and when
the flow is frozen. A heap holds the links by the level that they had when last looked at; levels never fall, so the link on top
is the lowest if its level is still that. What is left of a link is a sum of two floats, exact to twice their digits.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

import numpy as np

from torussim.engine.fair import TIE, Rows, fill

Array = np.ndarray[Any, Any]
WORTH = 20_000_000  # entries that numpy looks at, a second or more, before numba is imported: about half a second


class Solver:
    """Gives rates by numpy and, where numba is installed, by compiled code as soon as that is worth the import."""

    def __init__(self) -> None:
        self.work = 0  # entries of the rows solved for, so far
        self.compiled: Callable[..., Array] | None = None
        self.asked = False
        self.rows: Rows | None = None  # those of the last compiled solve; a batch is solved many times
        self.first_user = self.user = np.zeros(0, dtype=np.intp)

    def fill(self, rows: Rows, capacity: Array, given: Array, free: Array) -> Array:
        """Return what `fair.fill` does."""
        self.work += int(np.diff(rows.first) @ free)
        if self.work > WORTH and not self.asked:
            self.asked, self.compiled = True, compiled_rates()
        if self.compiled is None:
            return fill(rows, capacity, given, free)
        if self.rows is not rows:
            by_link = np.argsort(rows.link.astype(np.int32), kind="stable")
            self.rows, self.user = rows, rows.row[by_link]
            self.first_user = np.searchsorted(rows.link[by_link], np.arange(len(capacity) + 1))
        return self.compiled(rows.first, rows.link, rows.share, self.first_user, self.user, capacity, given, free, TIE)


def compiled_rates() -> Callable[..., Array] | None:
    """Return `rates` compiled, None where numba is not installed; its first call ever compiles, for some seconds."""
    try:
        import numba  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return None
    solve: Callable[..., Array] = numba.njit(cache=True)(rates)
    return solve


def rates(first: Array, link: Array, share: Array, first_user: Array, user: Array, capacity: Array, given: Array, free: Array,
          tie: float) -> Array:
    """Return (rows,) rates; the rows of link n are user[first_user[n]:first_user[n + 1]]."""
    links = len(capacity)
    left, left_low = capacity.copy(), np.zeros(links)  # bytes/s not frozen yet: the sum of both
    weight, weight_low = np.zeros(links), np.zeros(links)  # of the rows that are not frozen
    rising = np.zeros(links, dtype=np.int64)  # rows that are not frozen
    rate, frozen = given.copy(), ~free
    for i in range(len(rate)):
        if free[i]:
            rate[i] = 0.0
            for e in range(first[i], first[i + 1]):
                n = link[e]
                total = weight[n] + share[e]
                part = total - weight[n]
                weight_low[n] += (weight[n] - (total - part)) + (share[e] - part)
                weight[n] = total
                rising[n] += 1
        elif rate[i] > 0:
            for e in range(first[i], first[i + 1]):
                n, load = link[e], -share[e] * rate[i]
                total = left[n] + load
                part = total - left[n]
                left_low[n] += (left[n] - (total - part)) + (load - part)
                left[n] = total
    heap = [((left[n] + left_low[n]) / (weight[n] + weight_low[n]), n) for n in range(links) if rising[n] > 0]
    heapify(heap)
    full = np.empty(links, dtype=np.int64)
    while heap:
        lowest, number = np.inf, 0
        while heap and heap[0][0] <= lowest * (1 + tie):
            n = heappop(heap)[1]
            if rising[n] == 0:
                continue
            level = (left[n] + left_low[n]) / (weight[n] + weight_low[n])
            if level <= lowest * (1 + tie) and (not heap or level <= heap[0][0] * (1 + tie)):
                lowest = min(lowest, level)
                full[number] = n
                number += 1
            else:
                heappush(heap, (level, n))
        for n in full[:number]:
            for i in user[first_user[n]:first_user[n + 1]]:
                if frozen[i]:
                    continue
                frozen[i], rate[i] = True, lowest
                for e in range(first[i], first[i + 1]):
                    m, load = link[e], -share[e] * lowest
                    total = left[m] + load
                    part = total - left[m]
                    left_low[m] += (left[m] - (total - part)) + (load - part)
                    left[m] = total
                    total = weight[m] - share[e]
                    part = total - weight[m]
                    weight_low[m] += (weight[m] - (total - part)) + (-share[e] - part)
                    weight[m] = total
                    rising[m] -= 1
    return rate
