"""Max-min fair rates: every flow weighs the same, all rates rise together, and a full link freezes the flows on it.

A link's level is the rate at which it would be full if its flows that are not frozen yet rose together. It never falls
while others freeze, so a link with no lower level among the links of its flows is final at once, wherever the rest of
the network stands: a round freezes all such links, and takes as many rounds as such links wait for one another.

To be exact to rounding, the weights are summed afresh each round, the traffic of what froze is subtracted once a round, and
what is left of a link is computed afresh, exactly, where it has become small.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from math import fsum
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
TIE = 1e-13  # levels that differ by less are the same: they differ by rounding
SMALL = 1 / 32  # of what was left: less than that is computed afresh


@dataclass(frozen=True, eq=False)
class Rows:
    """What flows, or classes of flows, put on links; row i has the entries first[i]:first[i + 1], at least one.

    `share`: (entries,) load on the link when the row's rate is 1; `number`: (entries,) flows of the row there, None for 1.
    """

    first: Array
    link: Array
    share: Array
    number: Array | None = None
    row: Array = field(init=False)  # (entries,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "row", np.repeat(np.arange(len(self)), np.diff(self.first)))

    def __len__(self) -> int:
        return len(self.first) - 1

    def keep(self, mask: Array) -> Rows:
        """Return the rows where `mask` (rows,) is true."""
        if mask.all():
            return self
        entry = mask[self.row]
        first = np.concatenate([[0], np.cumsum(np.diff(self.first)[mask])])
        return Rows(first, self.link[entry], self.share[entry], None if self.number is None else self.number[entry])

    def load(self, rate: Array, links: int) -> Array:
        """Return (links,) traffic when row i has rate[i]."""
        return np.bincount(self.link, self.share * rate[self.row], links)

    def count(self, links: int) -> Array:
        """Return (links,) flows on each link."""
        count = np.bincount(self.link, self.number, links)
        return count.astype(np.int64)


def fill(rows: Rows, capacity: Array, given: Array | None = None, free: Array | None = None) -> Array:
    """Return (rows,) max-min fair rates on links that pass `capacity` (links,) in all.

    `free`: (rows,) whose rates are wanted, by default all; `given`: (rows,) the rates of the others, 0 for a row that is not
    under way.
    """
    links = len(capacity)
    rate = np.zeros(len(rows)) if given is None else given.copy()
    rest, at = rows, np.arange(len(rows))  # not frozen; the rows `at` of all
    left, sure = capacity.copy(), capacity.copy()
    if free is not None:
        rate[free] = 0.0
        held = rate > 0
        rest, at = rows.keep(free), np.flatnonzero(free)
        if held.any():
            left -= rows.keep(held).load(rate[held], links)
            refresh(left, sure, capacity, rows, rate, rest)
    while len(rest):
        weight = np.bincount(rest.link, rest.share, links)
        level = np.divide(left, weight, out=np.full(links, np.inf), where=weight > 0)
        ahead = level[rest.link]  # (entries,)
        lowest = np.minimum.reduceat(ahead, rest.first[:-1])  # (rows,)
        waits = np.zeros(links, dtype=bool)  # for a lower level to freeze one of its flows
        waits[rest.link[ahead > (lowest * (1 + TIE))[rest.row]]] = True
        freeze = np.zeros(len(rest), dtype=bool)
        freeze[rest.row[~waits[rest.link]]] = True
        rate[at[freeze]] = lowest[freeze]
        left -= rest.keep(freeze).load(lowest[freeze], links)
        rest, at = rest.keep(~freeze), at[~freeze]
        refresh(left, sure, capacity, rows, rate, rest)
    return rate


def refresh(left: Array, sure: Array, capacity: Array, rows: Rows, rate: Array, rest: Rows) -> None:
    """Compute afresh what is left of links where subtracting has cancelled digits since they were `sure` (links,)."""
    small = left < SMALL * sure
    if not small.any():
        return
    wanted = np.zeros(len(left), dtype=bool)
    wanted[rest.link] = True
    small &= wanted
    if not small.any():
        return
    entry = np.flatnonzero(small[rows.link])
    link = rows.link[entry]
    load = -(rows.share[entry] * rate[rows.row[entry]])  # 0 of those that are not frozen yet
    order = np.argsort(link, kind="stable")
    for begin, end in pairwise(np.flatnonzero(np.diff(link[order], prepend=-1, append=-1))):
        one = link[order[begin]]
        left[one] = sure[one] = fsum([capacity[one], *load[order[begin:end]].tolist()])


def passes(bandwidth: Array, count: Array, efficiency: float) -> Array:
    """Return (links,) bytes/s that links pass: all of their bandwidth to one flow, `efficiency` of it to several.

    Packets that meet wait for one another in ways that a fluid does not know; this is a constant loss for it.
    """
    return bandwidth if efficiency == 1.0 else np.where(count > 1, efficiency * bandwidth, bandwidth)
