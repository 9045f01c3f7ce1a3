"""The fluid network: flows that share links, each at its max-min fair rate, which changes as others start and end.

A few flows are kept in plain Python (`few`), a crowd in arrays (`crowd`). Nothing is computed before somebody asks when the
next flow ends, or time goes on: what starts and ends at one instant costs one solve.
"""

from __future__ import annotations

import numpy as np

from torussim.engine.compiled import Solver
from torussim.engine.crowd import Crowd, Flows, starting
from torussim.engine.fair import Array
from torussim.engine.few import Few
from torussim.engine.numbers import numbers
from torussim.topology.routes import Routes

FEW = 128  # flows; below a quarter of that a crowd is few again


class Fluid:
    """The flows that are under way on shared links.

    `bandwidth`: (links,) bytes/s, each above 0; `efficiency`: the part of it that a link passes while several flows use it.
    """

    def __init__(self, routes: Routes, bandwidth: Array, *, efficiency: float = 1.0, fold: bool = True) -> None:
        self.routes, self.efficiency, self.fold = routes, efficiency, fold
        self.bandwidth = np.array(bandwidth, dtype=float)
        self.now = 0.0
        self.most = 0  # flows at once
        self._ids = 0
        self._solves = 0  # of pools that are no more
        self._sizes = np.zeros(len(routes))  # bytes started on each path
        self._sent = numbers(self._sizes)
        self._at_once: list[int] = []  # started now, and ending now: nothing to send, or nowhere
        self._solver = Solver()
        self._pool: Few | Crowd = Few(routes, self.bandwidth, efficiency)
        self._next: float | None = None  # what `next` says, while nothing changes

    def __repr__(self) -> str:
        return f"<Fluid at {self.now:g} s: {len(self._pool)} flows, at most {self.most}, {self.solves} solves>"

    @property
    def flows(self) -> int:
        """Return how many flows have been started."""
        return self._ids

    @property
    def solves(self) -> int:
        """Return how many systems of rates have been solved."""
        return self._solves + self._pool.solves

    def start(self, paths: Array, sizes: Array, time: float) -> Array:
        """Start a flow on each of the paths; return their ids, which ever increase.

        `time` is not before `now` and not after `next()`; the same path may be used by several flows.
        """
        self._go(time)
        self._next = None
        ids = np.arange(self._ids, self._ids + len(paths))
        self._ids += len(paths)
        np.add.at(self._sizes, paths, sizes)
        moves = (self.routes.first[paths + 1] > self.routes.first[paths]) & (sizes > 0)
        if moves.all():
            self._enter(ids, paths, sizes)
        else:
            self._at_once += ids[~moves].tolist()
            if moves.any():
                self._enter(ids[moves], paths[moves], sizes[moves])
        return ids

    def start_few(self, flows: list[tuple[int, float]], time: float) -> int:
        """Start a few flows, each a path and a size, without arrays; return the id of the first, the others follow on it."""
        first, pool = self._ids, self._pool
        if isinstance(pool, Crowd) or len(pool) + len(flows) > FEW:
            self.start(np.array([path for path, _ in flows]), np.array([size for _, size in flows]), time)
            return first
        self._go(time)
        self._next = None
        self._ids += len(flows)
        moving = list[tuple[int, int, float]]()
        for i, (path, size) in enumerate(flows, first):
            self._sent[path] += size
            if size > 0 and pool.path(path)[0]:
                moving.append((i, path, size))
            else:
                self._at_once.append(i)
        pool.start(moving, self.now)
        self.most = max(self.most, len(pool))
        return first

    def next(self) -> float:
        """Return when the next flow ends, inf if none is under way."""
        if self._next is None:
            self._next = self.now if self._at_once else max(self.now, self._pool.next(self.now))
        return self._next

    def end(self) -> Array:
        """Go on to `next()` and return the ids of the flows that end then, sorted.

        Flows end together if their ends differ by 1e-12 of the time since the earliest of them began.
        """
        assert self.next() < np.inf, "no flow is under way"
        time, self._next = self.next(), None
        at_once, self._at_once = self._at_once, []
        if at_once and self._pool.next(self.now) > self.now:
            return np.array(at_once)
        ended = self._pool.end(self.now)
        self.now = time
        return np.sort(np.array([*at_once, *ended], dtype=np.intp)) if at_once else np.asarray(ended, dtype=np.intp)

    def set_bandwidth(self, links: Array, bandwidth: Array, time: float) -> None:
        """Give links another bandwidth, each above 0, from `time` on: not before `now` and not after `next()`."""
        self._go(time)
        self._pool.next(time)
        self._next = None
        self.bandwidth[links] = bandwidth
        self._pool.change(np.asarray(links) if isinstance(self._pool, Crowd) else np.asarray(links).tolist())

    def sent(self) -> Array:
        """Return (links,) bytes that each link has sent so far."""
        passed = self._sizes.copy()
        flows = self._flows()
        left = flows.left - flows.rate * (self.now - flows.since)
        passed -= np.bincount(flows.path, left, len(passed))
        carried = self.routes.share * np.repeat(passed, np.diff(self.routes.first))
        total: Array = np.bincount(self.routes.link, carried, len(self.bandwidth))
        return total

    def rates(self) -> tuple[Array, Array]:
        """Return the ids of the flows under way and their rates now, bytes/s; (flows,)."""
        self._pool.next(self.now)
        flows = self._flows()
        return flows.id, flows.rate

    def under_way(self) -> tuple[Array, Array]:
        """Return the paths of the flows under way, sorted, and the bytes that each has still to send; (flows,)."""
        self._pool.next(self.now)
        flows = self._flows()
        order = np.lexsort((flows.left, flows.path))
        left = flows.left - flows.rate * (self.now - flows.since)
        return flows.path[order], left[order]

    def _go(self, time: float) -> None:
        """Go on to a time, with what has changed until now settled."""
        assert time >= self.now, "time goes on"
        if time > self.now:
            if self._next is None:
                self._pool.next(self.now)
            self.now = time

    def _enter(self, ids: Array, paths: Array, sizes: Array) -> None:
        """Start flows that have something to send; few become a crowd, or a crowd few."""
        total = len(self._pool) + len(ids)
        if isinstance(self._pool, Crowd) and total <= FEW // 4:
            self._become(self._few(self._settled()))
        if isinstance(self._pool, Few):
            if total <= FEW:
                self._pool.start(zip(ids.tolist(), paths.tolist(), sizes.tolist()), self.now)
            else:
                flows = starting(ids, paths, sizes, self.now)
                if len(self._pool):
                    flows = self._settled().plus(flows)
                self._become(Crowd(self.routes, self.bandwidth, self.efficiency, flows, self._solver, fold=self.fold))
        else:
            self._pool.start(starting(ids, paths, sizes, self.now))
        self.most = max(self.most, total)

    def _become(self, pool: Few | Crowd) -> None:
        self._solves += self._pool.solves
        self._pool = pool

    def _settled(self) -> Flows:
        self._pool.next(self.now)
        return self._flows()

    def _flows(self) -> Flows:
        """Return the flows under way."""
        if isinstance(self._pool, Crowd):
            return self._pool.under_way()
        flows = self._pool.flows.values()
        columns = np.array([(f.left, f.began, f.since, f.rate, f.end) for f in flows]).reshape(-1, 5).T
        return Flows(np.array([f.id for f in flows], dtype=np.intp), np.array([f.path for f in flows], dtype=np.intp), *columns)

    def _few(self, flows: Flows) -> Few:
        """Return the same flows as a handful."""
        few = Few(self.routes, self.bandwidth, self.efficiency)
        for flow in zip(*(column.tolist() for column in vars(flows).values())):
            i, path, left, began, since, rate, end = flow
            few.add(few.flow(i, path, left, began, since, rate, end))
            few.ends.append((end, i))
        few.ends.sort()
        return few
