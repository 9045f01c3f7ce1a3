"""Flows by the handful, in plain Python: for some dozens of flows numpy's calls would cost more than the sums.

A change reaches only flows that are connected with it through shared links, and of those only the ones at or above a
bound that is known beforehand: below it, all rates rise as before and the same links fill up. With more flows ended than
that, the bound is the slowest of those that ended; with new flows or bandwidths, the lowest level that their links can have.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf, ulp
from typing import Any

import numpy as np

from torussim.engine.fair import TIE, Rows, fill
from torussim.engine.numbers import numbers
from torussim.topology.routes import Routes

Array = np.ndarray[Any, Any]
TOGETHER = 1e-12  # of the time since the earliest began: flows that end so close to one another end at once
SURE = 1 - 1e-9  # times a bound: rates below that are below it, however both were rounded
ENTRIES = 150  # with more links to look at than that, numpy is faster


@dataclass(slots=True, eq=False)
class Flow:
    """A flow under way: `left` bytes at the time `since`, bytes/s from then on, and the time of its end."""

    id: int
    path: int
    links: list[int]
    shares: list[float]
    left: float
    began: float
    since: float
    rate: float = 0.0
    end: float = inf
    several: frozenset[int] = frozenset()  # links where it stands for more flows than one


@dataclass
class Few:
    """Flows that are under way on the links of `routes`."""

    routes: Routes
    bandwidth: Array
    efficiency: float
    solves: int = 0
    flows: dict[int, Flow] = field(default_factory=dict)
    on: dict[int, dict[Flow, float]] = field(default_factory=dict)  # link -> its flows, with the share that each puts there
    ends: list[tuple[float, int]] = field(default_factory=list)  # a heap; a flow whose end has moved has old entries, too
    used: dict[int, tuple[list[int], list[float], frozenset[int]]] = field(default_factory=dict)  # by path, what a flow has of it
    new: list[Flow] = field(default_factory=list)
    freed: set[int] = field(default_factory=set)  # links that a flow has left, or that have a new bandwidth
    bound: float = inf  # rates below it do not change

    def __len__(self) -> int:
        return len(self.flows)

    def start(self, flows: Iterable[tuple[int, int, float]], now: float) -> None:
        """Start flows (id, path, size), all with links and a size above 0; rates are given when somebody asks for those."""
        for i, path, size in flows:
            self.new.append(self.add(self.flow(i, path, size, now, now)))

    def __post_init__(self) -> None:
        self.rate = numbers(self.bandwidth)

    def flow(self, i: int, path: int, left: float, began: float, since: float, rate: float = 0.0, end: float = inf) -> Flow:
        """Return a flow on a path."""
        links, shares, several = self.path(path)
        return Flow(i, path, links, shares, left, began, since, rate, end, several)

    def path(self, path: int) -> tuple[list[int], list[float], frozenset[int]]:
        """Return the links of a path, the share that a flow puts on each, and those where it stands for several."""
        found = self.used.get(path)
        if found is None:
            entry = slice(self.routes.first[path], self.routes.first[path + 1])
            link, number = self.routes.link[entry], self.routes.number
            many = frozenset[int]() if number is None else frozenset(link[number[entry] > 1].tolist())
            found = self.used[path] = link.tolist(), self.routes.share[entry].tolist(), many
        return found

    def add(self, flow: Flow) -> Flow:
        """Put a flow on its links."""
        self.flows[flow.id] = flow
        for link, share in zip(flow.links, flow.shares):
            here = self.on.get(link)
            if here is None:
                self.on[link] = {flow: share}
            else:
                here[flow] = share
        return flow

    def passes(self, link: int) -> float:
        """Return what a link passes with its flows, bytes/s."""
        here = self.on[link]
        alone = len(here) == 1 and link not in next(iter(here)).several
        bandwidth: float = self.rate[link]
        return bandwidth if alone else bandwidth * self.efficiency

    def next(self, now: float) -> float:
        """Return when the next flow ends, inf if none is under way."""
        self.settle(now)
        while self.ends:
            end, i = self.ends[0]
            if i in self.flows and self.flows[i].end == end:
                return end
            heappop(self.ends)
        return inf

    def end(self, now: float) -> list[int]:
        """Take away the flows that end next; return their ids."""
        first = self.next(now)
        earliest, ended = inf, []
        while self.ends:
            end, i = self.ends[0]
            if i in self.flows and self.flows[i].end == end:
                flow = self.flows[i]
                if end > first and end > first + TOGETHER * (first - min(earliest, flow.began)) + 4 * ulp(first):
                    break
                earliest = min(earliest, flow.began)
                ended.append(i)
                self.remove(flow)
            heappop(self.ends)
        return sorted(ended)

    def remove(self, flow: Flow) -> None:
        """Take a flow off its links."""
        del self.flows[flow.id]
        for link in flow.links:
            flows = self.on[link]
            del flows[flow]
            if flows:
                self.freed.add(link)
                self.bound = min(self.bound, flow.rate)
                if len(flows) == 1 and self.efficiency < 1:
                    self.bound = min(self.bound, *(g.rate for g in flows))
            else:
                del self.on[link]
                self.freed.discard(link)

    def change(self, links: Iterable[int]) -> None:
        """Take note that the bandwidth of links has changed."""
        for link in links:
            if link in self.on:
                self.freed.add(link)
                self.bound = min(self.bound, max(f.rate for f in self.on[link]), self.lowest(link))

    def alone(self, flow: Flow) -> float | None:
        """Return what a flow's links pass if nobody else is on any of them, None if somebody is."""
        rate = inf
        for link, share in zip(flow.links, flow.shares):
            if len(self.on[link]) > 1:
                return None
            bandwidth = self.rate[link]
            passed = bandwidth * self.efficiency if link in flow.several else bandwidth
            rate = min(rate, passed / share)
        return rate

    def lowest(self, link: int) -> float:
        """Return the lowest level that a link can have with its flows."""
        return self.efficiency * float(self.bandwidth[link]) / sum(self.on[link].values())

    def settle(self, now: float) -> None:
        """Give every flow its rate after what has changed at this time."""
        if not self.new and not self.freed:
            return
        seeds = []
        for flow in self.new:
            rate = self.alone(flow)
            if rate is not None:
                flow.rate, flow.end = rate, now + flow.left / rate
                heappush(self.ends, (flow.end, flow.id))
            else:
                self.bound = min(self.bound, *(self.lowest(link) for link in flow.links))
                seeds.append(flow)
        least = self.bound * SURE
        seeds += [flow for link in self.freed for flow in self.on[link] if flow.rate >= least]
        self.new, self.freed, self.bound = [], set(), inf
        if seeds:
            self.solve(seeds, least, now)
        if len(self.ends) > 4 * len(self.flows) + 64:
            self.ends = [(flow.end, i) for i, flow in self.flows.items()]
            heapify(self.ends)

    def solve(self, seeds: list[Flow], least: float, now: float) -> None:
        """Give new rates to the flows that are connected with the seeds, but for those slower than `least`."""
        found = dict.fromkeys(seeds)
        rest = list(found)
        links: dict[int, float] = {}  # what each passes to the flows found
        entries = 0
        while rest:
            flow = rest.pop()
            entries += len(flow.links)
            for link in flow.links:
                if link in links:
                    continue
                here = self.on[link]
                passed = self.passes(link)
                for other, share in here.items():
                    if other in found:
                        continue
                    if 0 < other.rate < least:
                        passed -= share * other.rate
                    else:
                        found[other] = None
                        rest.append(other)
                links[link] = passed
        self.solves += 1
        flows = sorted(found, key=lambda flow: flow.id)
        rates = levels(flows, links) if entries <= ENTRIES else by_arrays(flows, links)
        for flow, rate in zip(flows, rates):
            self.move(flow, rate, now)

    def move(self, flow: Flow, rate: float, now: float) -> None:
        """Give a flow a new rate; it makes no difference any more to one that ends now."""
        if rate == flow.rate:
            return
        flow.left = max(0.0, flow.left - flow.rate * (now - flow.since))
        flow.since, flow.rate = now, rate
        if flow.end > now:
            flow.end = now + flow.left / rate
            heappush(self.ends, (flow.end, flow.id))


def levels(flows: list[Flow], left: dict[int, float]) -> list[float]:
    """Return max-min fair rates of flows on links with `left` bytes/s; changes `left`."""
    rate: dict[Flow, float] = {}
    users: dict[int, dict[Flow, float]] = {link: {} for link in left}  # that are not frozen
    for flow in flows:
        for link, share in zip(flow.links, flow.shares):
            users[link][flow] = share
    while users:
        level = {link: left[link] / sum(here.values()) for link, here in users.items()}
        lowest = min(level.values())
        for link, height in level.items():
            if height <= lowest * (1 + TIE):
                for flow in list(users[link]):
                    rate[flow] = lowest
                    for n, share in zip(flow.links, flow.shares):
                        left[n] -= share * lowest
                        del users[n][flow]
        users = {link: here for link, here in users.items() if here}
    return [rate[flow] for flow in flows]


def by_arrays(flows: list[Flow], left: dict[int, float]) -> list[float]:
    """Return the same, computed by numpy."""
    number = {link: i for i, link in enumerate(left)}
    first = np.cumsum([0, *(len(flow.links) for flow in flows)])
    link = np.array([number[n] for flow in flows for n in flow.links], dtype=np.intp)
    share = np.array([s for flow in flows for s in flow.shares])
    found: list[float] = fill(Rows(first, link, share), np.array(list(left.values()))).tolist()
    return found
