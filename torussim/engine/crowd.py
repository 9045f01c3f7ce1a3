"""Flows by the thousand, in arrays: the twin of `few`, with the same bounds on what a change can reach.

A row is a flow or, once folded, a class of flows that cannot be told apart. Flows of one size that start together end
fastest first, and the end of the fastest changes no other rate; so such a batch needs a single solve, and folding, which
costs about as much as some, waits until there have been some.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from torussim.engine.compiled import Solver
from torussim.engine.fair import Array, Rows, passes
from torussim.engine.few import SURE, TOGETHER
from torussim.engine.refine import fold_rows, refine
from torussim.topology.routes import Routes

FOLDS = 500  # flows that folding is worth
SOLVES = 4  # of a whole batch, before it is folded: that costs about as much


@dataclass(eq=False)
class Flows:
    """Flows under way, (flows,) each: `left` bytes at the time `since`, bytes/s from then on (0: not yet given), its end."""

    id: Array
    path: Array
    left: Array
    began: Array
    since: Array
    rate: Array
    end: Array

    def pick(self, which: Array) -> Flows:
        """Return some of them."""
        return Flows(*(getattr(self, f.name)[which] for f in fields(self)))

    def plus(self, others: Flows) -> Flows:
        """Return both, these first."""
        return Flows(*(np.concatenate([getattr(self, f.name), getattr(others, f.name)]) for f in fields(self)))


def starting(ids: Array, paths: Array, sizes: Array, now: float) -> Flows:
    """Return flows that start now."""
    same = np.ones(len(ids))
    return Flows(ids, paths, sizes.astype(float), now * same, now * same, 0 * same, np.inf * same)


class Crowd:
    """Flows that are under way on the links of `routes`."""

    def __init__(self, routes: Routes, bandwidth: Array, efficiency: float, flows: Flows, solver: Solver, *,
                 fold: bool) -> None:
        self.routes, self.bandwidth, self.efficiency, self.solver = routes, bandwidth, efficiency, solver
        self.solves = 0
        self.place(flows)
        self.fold_at = solver.work + SOLVES * len(self.rows.link)
        # sizes, as long as the flows are a batch that started at once and may be folded
        self.sizes = flows.left.copy() if fold and len(flows.id) >= FOLDS and not flows.rate.any() else None

    def __len__(self) -> int:
        return int(np.count_nonzero(self.alive if self.row is None else self.alive[self.row]))

    def place(self, flows: Flows) -> None:
        """Put flows on their links, each as a row."""
        self.flows = flows
        self.member = flows  # folded: all flows, of which only `id` and `path` are up to date
        self.row: Array | None = None  # folded: (members,) class of each
        routes = self.routes.take(flows.path)
        self.rows = Rows(routes.first, routes.link, routes.share, routes.number)
        self.link = np.arange(len(self.bandwidth))  # folded: one of each class of links
        self.alive = np.ones(len(flows.id), dtype=bool)
        self.count = self.rows.count(len(self.link))  # flows on each link
        self.bound = np.inf if flows.rate.all() else 0.0  # rates below it do not change
        self.sizes = None

    def under_way(self) -> Flows:
        """Return the flows that are under way, unfolded."""
        if self.row is None:
            return self.flows.pick(self.alive)
        flows = self.flows.pick(self.row)
        flows.id, flows.path = self.member.id, self.member.path
        return flows.pick(self.alive[self.row])

    def start(self, flows: Flows) -> None:
        """Start flows, all with links and a size above 0."""
        bound, both = self.bound, self.under_way().plus(flows)
        self.place(both)
        new = both.rate[self.rows.row] == 0
        self.bound = min(bound, self.lowest(self.rows.link[new]))

    def change(self, links: Array) -> None:
        """Take note that the bandwidth of links has changed."""
        bound = self.bound
        if self.row is not None or self.sizes is not None:
            self.place(self.under_way())
        mine = np.zeros(len(self.link), dtype=bool)
        mine[links] = True
        entry = np.flatnonzero(mine[self.rows.link] & self.alive[self.rows.row])
        if len(entry):
            used = self.rows.link[entry]
            fastest = np.zeros(len(self.link))
            np.maximum.at(fastest, used, self.flows.rate[self.rows.row[entry]])
            bound = min(bound, float(fastest[used].min()), self.lowest(used))
        self.bound = min(bound, self.bound)

    def lowest(self, links: Array) -> float:
        """Return the lowest level that any of these links can have with its flows."""
        weight = self.rows.load(self.alive.astype(float), len(self.link))[links]
        return float((self.efficiency * self.bandwidth[self.link[links]] / weight).min())

    def next(self, now: float) -> float:
        """Return when the next flow ends, inf if none is under way."""
        self.settle(now)
        return float(self.flows.end.min(initial=np.inf))

    def end(self, now: float) -> Array:
        """Take away the flows that end next; return their ids, sorted."""
        flows, first = self.flows, self.next(now)
        latest = first
        ended = flows.end <= first
        while True:
            last, latest = latest, first + TOGETHER * (first - flows.began[ended].min()) + 4 * np.spacing(first)
            if latest <= last:
                break
            ended = flows.end <= latest
        ids = self.member.id[ended if self.row is None else ended[self.row]]
        self.bound = min(self.bound, float(flows.rate[ended].min()))
        self.alive[ended] = False
        flows.end[ended] = np.inf
        if self.efficiency < 1:
            self.leave(np.flatnonzero(ended))
        if self.sizes is None and np.count_nonzero(self.alive) < len(self.alive) // 2:
            self.compress()
        return np.sort(ids)

    def leave(self, rows: Array) -> None:
        """Count the flows of these rows off their links; one that is alone now can have all of a link."""
        amount = np.diff(self.rows.first)[rows]
        entry = np.repeat(self.rows.first[rows] - np.cumsum(amount) + amount, amount) + np.arange(amount.sum())
        number = None if self.rows.number is None else self.rows.number[entry]
        gone = np.bincount(self.rows.link[entry], number, len(self.link)).astype(np.int64)
        self.count -= gone
        alone = (self.count == 1) & (gone > 0)
        if alone.any():
            least = self.flows.rate[self.rows.row[alone[self.rows.link]]]
            alive = self.alive[self.rows.row[alone[self.rows.link]]]
            self.bound = min(self.bound, float(least[alive].min(initial=np.inf)))

    def compress(self) -> None:
        """Drop the rows that have ended."""
        self.rows, self.flows = self.rows.keep(self.alive), self.flows.pick(self.alive)
        if self.row is None:
            self.member = self.flows
        else:
            kept, place = self.alive[self.row], np.cumsum(self.alive) - 1
            self.member, self.row = self.member.pick(kept), place[self.row[kept]]
        self.alive = np.ones(len(self.rows), dtype=bool)

    def settle(self, now: float) -> None:
        """Give every row its rate after what has changed at this time."""
        if self.bound == np.inf:
            return
        which = self.within()
        if which.any():
            if self.sizes is not None and self.solver.work >= self.fold_at:
                self.fold(self.sizes)
                which = self.within()
            self.solve(which, now)
        self.bound = np.inf

    def within(self) -> Array:
        """Return (rows,) whether the bound lets a row's rate change."""
        rate = self.flows.rate
        which: Array = self.alive & ((rate == 0) | (rate >= self.bound * SURE))
        return which

    def solve(self, which: Array, now: float) -> None:
        """Give new rates to some rows; the others keep theirs."""
        flows = self.flows
        self.solves += 1
        capacity = passes(self.bandwidth[self.link], self.count, self.efficiency)
        rate = self.solver.fill(self.rows, capacity, np.where(self.alive, flows.rate, 0.0), which)
        moved = which & (rate != flows.rate)
        sent = flows.rate[moved] * (now - flows.since[moved])
        flows.left[moved] = np.maximum(flows.left[moved] - sent, 0.0)
        flows.since[moved], flows.rate[moved] = now, rate[moved]
        moved &= flows.end > now  # it makes no difference any more to one that ends now
        flows.end[moved] = now + flows.left[moved] / rate[moved]

    def fold(self, sizes: Array) -> None:
        """Let every class of flows be a row, where that makes less than half as many."""
        self.sizes = None
        row, column = refine(self.rows, sizes, self.bandwidth)
        if 2 * (row.max() + 1) > len(row):
            return
        under_way = np.flatnonzero(self.alive)  # two flows of a class can seem to end in two events, by rounding
        classes, place, self.row = np.unique(row[under_way], return_index=True, return_inverse=True)
        self.rows, self.link = fold_rows(self.rows, row, column)
        self.rows = self.rows.keep(np.isin(np.arange(len(self.rows)), classes))
        self.member, self.flows = self.flows.pick(under_way), self.flows.pick(under_way[place])
        self.alive = np.ones(len(classes), dtype=bool)
        self.count = self.rows.count(len(self.link))
