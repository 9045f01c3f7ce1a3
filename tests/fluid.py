"""The fluid network for tests: flows with ids, and what links have sent."""

from __future__ import annotations

from typing import Any

import numpy as np

from torussim.engine import max_min
from torussim.topology.routes import Routes

Array = np.ndarray[Any, Any]


class Fluid:
    """The flows that are under way on shared links.

    `bandwidth`: (links,) bytes/s, each above 0; `efficiency`: the part of it that a link passes while several flows use it.
    """

    def __init__(self, routes: Routes, bandwidth: Array, *, efficiency: float = 1.0, slots: int | None = None,
                 model: Any = max_min) -> None:
        self.routes, self.efficiency, self.model = routes, efficiency, model
        self.bandwidth = np.array(bandwidth, dtype=float)
        self.net = self.model.made(routes, self.bandwidth, efficiency, slots)
        self._sizes = np.zeros(len(routes))  # bytes started on each path

    def __repr__(self) -> str:
        under_way = self.net.one["ends"][0] + self.net.one["new"][0]
        return f"<Fluid at {self.now:g} s: {under_way} flows, at most {self.most}, {self.solves} solves>"

    @property
    def now(self) -> float:
        """Return the time."""
        return float(self.net.one["now"][0])

    @property
    def flows(self) -> int:
        """Return how many flows have been started."""
        return int(self.net.one["flows"][0])

    @property
    def solves(self) -> int:
        """Return how many systems of rates have been solved."""
        return int(self.net.one["solves"][0])

    @property
    def most(self) -> int:
        """Return how many flows were under way at once, at most."""
        return int(self.net.one["most"][0])

    def start(self, paths: Array, sizes: Array, time: float) -> Array:
        """Start a flow on each of the paths; return their ids, which ever increase.

        `time` is not before `now` and not after `next()`; the same path may be used by several flows.
        """
        self._go(time)
        paths, sizes = np.asarray(paths, dtype=np.int64), np.asarray(sizes, dtype=np.float64)
        ids, at = np.arange(self.flows, self.flows + len(paths)), 0
        np.add.at(self._sizes, paths, sizes)
        while True:
            at += self.model.start_all(self.net, paths[at:], sizes[at:], self.flows)
            if at == len(paths):
                return ids
            self.net = self.model.grown(self.net)

    def next(self) -> float:
        """Return when the next flow ends, inf if none is under way."""
        return self.model.next_end(self.net)

    def end(self) -> Array:
        """Go on to `next()` and return the ids of the flows that end then, sorted.

        Flows end together if their ends differ by 1e-12 of the time since the earliest of them began.
        """
        count = self.model.advance(self.net)
        assert count > 0, "no flow is under way"
        return np.sort(self.net.flows["run"][self.net.ended[:count]])

    def set_bandwidth(self, links: Array, bandwidth: Array, time: float) -> None:
        """Give links another bandwidth, each above 0, from `time` on: not before `now` and not after `next()`."""
        self._go(time)
        self.model.next_end(self.net)
        self.bandwidth[links] = bandwidth
        for n in np.unique(links).tolist():
            self.model.set_bandwidth(self.net, n, float(self.bandwidth[n]))

    def sent(self) -> Array:
        """Return (links,) bytes that each link has sent so far."""
        paths, _, left = self.model.under_way(self.net)
        passed = self._sizes - np.bincount(paths, left, len(self._sizes))
        carried = self.routes.share * np.repeat(passed, np.diff(self.routes.first))
        total: Array = np.bincount(self.routes.link, carried, len(self.bandwidth))
        return total

    def rates(self) -> tuple[Array, Array]:
        """Return the ids of the flows under way and their rates now, bytes/s; (flows,)."""
        slots = self.model.live(self.net)
        slots = slots[self.net.rate[slots] > 0]
        return self.net.flows["run"][slots], self.net.rate[slots]

    def under_way(self) -> tuple[Array, Array]:
        """Return the paths of the flows under way, sorted, and the bytes that each has still to send; (flows,)."""
        paths, _, left = self.model.under_way(self.net)
        return paths, left

    def _go(self, time: float) -> None:
        """Go on to a time, with what has changed until now settled."""
        assert time >= self.now, "time goes on"
        if time > self.now:
            self.model.next_end(self.net)
            self.model.go(self.net, time)
