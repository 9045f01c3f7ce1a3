"""The fluid network of a run and what is to happen in it: flows that will start, links whose bandwidth will change.

Knows nothing of what its flows are for: whoever starts some says what is called when they have sent their last byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from math import inf
from typing import Any

import numpy as np

from torussim.engine.fluid import Fluid
from torussim.engine.plan import Planner
from torussim.topology.routes import Routes

Array = np.ndarray[Any, Any]
Starts = tuple[Array | list[int], Array | list[float], "Ended"]  # paths, sizes and what is called
Ended = Callable[[Array, float], None]  # the places of flows among those that were started together, and the time
ALONE = np.zeros(1, int)  # the place of a flow that was started alone


class PastError(AssertionError):
    """A flow was to start in the network's past."""


class Network:
    """`offset`: seconds that were skipped, `steps`: instants at which something happened."""

    def __init__(self, planner: Planner, paths: Routes) -> None:
        efficiency = planner.chip.link_efficiency
        self.fluid = Fluid(paths, planner.grid.links.bandwidth * efficiency, efficiency=planner.chip.shared_efficiency)
        self.changes = [(e.time, planner.grid.stands[e.links], e.bandwidth * efficiency) for e in planner.grid.links.events]
        self.offset, self.steps = 0.0, 0
        self._starts: dict[float, list[Starts]] = {}
        self._times: list[float] = []  # of the starts, a heap
        self._single: dict[int, Ended] = {}  # by flow: those that were started alone
        self._first: list[int] = []  # the first flow of each of the others
        self._several: list[Ended] = []

    def later(self, time: float, paths: Array | list[int], sizes: Array | list[float], ended: Ended) -> None:
        """Start flows at a time that is not before now; a few of them are better in lists."""
        if time not in self._starts:
            heappush(self._times, time)
        self._starts.setdefault(time, []).append((paths, sizes, ended))

    def start(self) -> float:
        """Return when flows start next, inf if none is going to."""
        return self._times[0] if self._times else inf

    def change(self) -> float:
        """Return when a bandwidth changes next, inf if none is going to."""
        return self.changes[0][0] - self.offset if self.changes else inf

    def still(self) -> bool:
        """Return whether no flow is under way, nor going to start."""
        return min(self.start(), self.fluid.next()) == inf

    def next(self) -> float:
        """Return when something happens next, as far as is known now."""
        first, start = self.fluid.next(), self._times[0] if self._times else inf
        if start < first:
            first = start
        return min(first, self.change()) if self.changes else first

    def step(self, now: float) -> None:
        """Do what happens at this time, the next at which something does."""
        self.steps += 1
        if self.changes and now == self.change():
            _, links, bandwidth = self.changes.pop(0)
            self.fluid.set_bandwidth(links, bandwidth, max(now, self.fluid.now))
        elif now == self.fluid.next():
            self._end()
        else:
            self._start(heappop(self._times))

    def state(self) -> tuple[list[Array], list[Array]]:
        """Return what the future depends on, as times and as counts; of flows, the bytes that are left come first."""
        waiting = [self._starts[time] for time in sorted(self._times)]
        times = [np.repeat(time, sum(len(paths) for paths, _, _ in self._starts[time])) for time in sorted(self._times)]
        paths, left = self.fluid.under_way()
        return [left, *times], [paths, *(np.concatenate([paths for paths, _, _ in starts]) for starts in waiting)]

    def leap(self, later: Sequence[Array]) -> bool:
        """Make the clock, and each start that is known, later by its own; return whether that can be.

        It cannot if a flow is under way, a bandwidth is going to change, or a start would then be in the past.
        """
        now = self.fluid.now + float(later[0][0])
        times = [time + float(by[0]) for time, by in zip(sorted(self._times), later[1:], strict=True)]
        if self.changes or self.fluid.next() < inf or min(times, default=inf) < now:
            return False
        waiting = [self._starts[time] for time in sorted(self._times)]
        self.fluid.now, self._times, self._starts = now, [], {}
        for time, starts in zip(times, waiting):
            for start in starts:
                self.later(time, *start)
        return True

    def _start(self, time: float) -> None:
        """Start the flows that were to start at this time."""
        waiting = self._starts.pop(time)
        if time < self.fluid.now * (1 - 1e-9):
            raise PastError("no flow starts in the network's past")
        now = max(time, self.fluid.now)
        if all(isinstance(paths, list) for paths, _, _ in waiting):
            first = self.fluid.start_few([(path, size) for paths, sizes, _ in waiting for path, size in zip(paths, sizes)], now)
        else:
            ids = self.fluid.start(np.concatenate([paths for paths, _, _ in waiting]),
                                   np.concatenate([sizes for _, sizes, _ in waiting]), now)
            first = int(ids[0]) if len(ids) else 0
        for paths, _, ended in waiting:
            if len(paths) == 1:
                self._single[first] = ended
            else:
                self._first.append(first)
                self._several.append(ended)
            first += len(paths)

    def _end(self) -> None:
        """Tell of the flows that have just sent their last byte."""
        ids = self.fluid.end()
        now, crowd = self.fluid.now, []
        for flow in ids.tolist():
            ended = self._single.pop(flow, None)
            if ended is not None:
                ended(ALONE, now)
            else:
                crowd.append(flow)
        if crowd:
            flows = np.array(crowd)
            of = np.searchsorted(self._first, flows, side="right") - 1
            for together in np.unique(of).tolist():
                self._several[together](flows[of == together] - self._first[together], now)
