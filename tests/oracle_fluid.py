"""Shared links for the oracle, slow and obvious: max-min fair rates by progressive filling, at every start and every end.

Knows links, their capacities and flows; nothing of collectives, chips and queues.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Mapping
from itertools import pairwise
from typing import Any

import networkx as nx
import simpy

Link = tuple[Any, Any]
Loads = Mapping[Link, float]  # of a flow: its rate times this is what a link carries of it
SAME = 1e-12  # levels that differ by less are one level; what is left of a flow below this share of it is nothing


def fair_rates(loads: list[Loads], capacity: Mapping[Link, float]) -> list[float]:
    """Return the max-min fair rate of every flow: all rise together, and those on a link that is full stay."""
    rates: dict[int, float] = {}
    while len(rates) < len(loads):
        taken: dict[Link, float] = defaultdict(float)
        rising: dict[Link, float] = defaultdict(float)
        for i, load in enumerate(loads):
            for link, share in load.items():
                if i in rates:
                    taken[link] += share * rates[i]
                else:
                    rising[link] += share
        level = {link: (capacity[link] - taken[link]) / share for link, share in rising.items()}
        lowest = min(level.values())
        assert lowest > 0, f"no room on {min(level, key=lambda link: level[link])}"
        full = {link for link, height in level.items() if height <= lowest * (1 + SAME)}
        rates |= {i: lowest for i, load in enumerate(loads) if i not in rates and not full.isdisjoint(load)}
    return [rates[i] for i in range(len(loads))]


class Flow:
    """Bytes under way: `left` of them at time `since`, when its rate last changed."""

    def __init__(self, size: float, loads: Loads, sent: simpy.Event, again: Callable[[], Loads] | None = None) -> None:
        assert loads and all(share > 0 for share in loads.values()), f"a flow that loads {loads}"
        self.size, self.loads, self.sent, self.again = size, loads, sent, again
        self.left, self.rate, self.since = size, 0.0, sent.env.now
        self.rest = size  # bytes that no link has been credited with yet
        self.changes = 0  # of its rate: an end that was foreseen before the last one is void


class Fluid:
    """The network: its active flows, and what every link has carried so far."""

    def __init__(self, env: simpy.Environment, graph: nx.DiGraph, chip: Any,
                 failed: Callable[[list[Link]], None] | None = None) -> None:
        """`failed`: what is told of links that fail, before the flows are asked which way they go then."""
        self.env, self.failed = env, failed
        self.bandwidth: dict[Link, float] = {link: graph.edges[link]["bandwidth"] for link in graph.edges}
        self.efficiency = chip.link_efficiency
        self.shared_efficiency = getattr(chip, "shared_efficiency", 1.0)
        self.flows: dict[Link, dict[Flow, None]] = {link: {} for link in graph.edges}  # active; a dict, so in order
        self.carried: dict[Link, float] = dict.fromkeys(graph.edges, 0.0)
        self.pieces: dict[Link, list[tuple[float, float, float]]] = {link: [] for link in graph.edges}  # (t0, t1, bytes/s)
        self.changed: dict[Link, None] = {}
        last = 0.0
        for time, change in graph.graph.get("events", ()):
            assert last <= time and set(change) <= set(graph.edges), f"event at {time}: {change}"
            last = time
            env.process(self.event(time, change))

    def event(self, time: float, change: Mapping[Link, float]) -> Generator[simpy.Event, Any, None]:
        yield self.env.timeout(time - self.env.now)
        dead = [link for link, bandwidth in change.items() if not bandwidth]
        self.bandwidth |= {link: bandwidth for link, bandwidth in change.items() if bandwidth}
        if dead and self.failed is not None:
            self.failed(dead)
            for flow in list(dict.fromkeys(flow for flows in self.flows.values() for flow in flows)):
                self.move(flow)
        self.touch(change)

    def move(self, flow: Flow) -> None:
        """Let a flow go on with what it has left, by the way that it would take now."""
        assert flow.again is not None
        before, after = flow.loads, flow.again()
        if before == after:
            return
        self.keep(flow)
        for link, share in before.items():
            del self.flows[link][flow]
            self.carried[link] += share * (flow.rest - flow.left)
        flow.loads, flow.rest = after, flow.left
        for link in after:
            self.flows[link][flow] = None
        flow.rate = 0.0
        self.touch([*before, *after])

    def send(self, size: float, loads: Loads, again: Callable[[], Loads] | None = None) -> simpy.Event:
        """Start a flow; return the event of all its bytes being sent. `again`: what it loads where links have failed."""
        flow = Flow(size, loads, self.env.event(), again)
        for link in loads:
            self.flows[link][flow] = None
        self.touch(loads)
        return flow.sent

    def end(self, flow: Flow) -> None:
        self.keep(flow)
        flow.changes += 1
        for link, share in flow.loads.items():
            del self.flows[link][flow]
            self.carried[link] += share * flow.rest
        self.touch(flow.loads)
        flow.sent.succeed()

    def keep(self, flow: Flow) -> None:
        """Account for what has been sent at the rate since its last change."""
        if self.env.now > flow.since and flow.rate > 0:
            for link, share in flow.loads.items():
                self.pieces[link].append((flow.since, self.env.now, share * flow.rate))
        flow.left -= flow.rate * (self.env.now - flow.since)
        flow.since = self.env.now

    def touch(self, links: Iterable[Link]) -> None:
        """Have rates found anew, once, after all that happens now."""
        if not self.changed:
            self.env.process(self.settle())
        self.changed |= dict.fromkeys(links)

    def settle(self) -> Generator[simpy.Event, Any, None]:
        yield self.env.timeout(0)
        flows = self.touching(self.changed)
        self.changed = {}
        rates = fair_rates([flow.loads for flow in flows], {link: self.capacity(link) for f in flows for link in f.loads})
        for flow, rate in zip(flows, rates, strict=True):
            if rate == flow.rate:
                continue
            self.keep(flow)
            flow.rate = rate
            flow.changes += 1
            if flow.left <= SAME * flow.size:
                self.end(flow)
            else:
                self.env.process(self.finish(flow, flow.changes))

    def finish(self, flow: Flow, changes: int) -> Generator[simpy.Event, Any, None]:
        yield self.env.timeout(flow.left / flow.rate)
        if flow.changes == changes:
            self.end(flow)

    def touching(self, links: Iterable[Link]) -> list[Flow]:
        """Return the flows on these links, those on links of theirs, and so on: no other rate can change."""
        found: dict[Flow, None] = {}
        seen: set[Link] = set()
        todo = list(links)
        while todo:
            link = todo.pop()
            if link not in seen:
                seen.add(link)
                new = [flow for flow in self.flows[link] if flow not in found]
                found |= dict.fromkeys(new)
                todo += [other for flow in new for other in flow.loads]
        return list(found)

    def capacity(self, link: Link) -> float:
        whole: float = self.bandwidth[link] * self.efficiency
        shared: float = whole * self.shared_efficiency
        return shared if len(self.flows[link]) > 1 else whole


def run_flows(graph: nx.DiGraph, chip: Any, flows: Iterable[tuple[float, float, Loads]]) -> tuple[list[float], Fluid]:
    """Return when all bytes of each flow (start, size, loads) are sent, and the network as it is then; no queues."""
    env = simpy.Environment()
    fluid = Fluid(env, graph, chip)
    ends: dict[int, float] = {}

    def one(i: int, start: float, size: float, loads: Loads) -> Generator[simpy.Event, Any, None]:
        yield env.timeout(start)
        yield fluid.send(size, loads)
        ends[i] = env.now

    for i, flow in enumerate(flows):
        env.process(one(i, *flow))
    env.run()
    return [ends[i] for i in sorted(ends)], fluid


Route = list[tuple[float, list[Any]]]  # (share, chips from source to target) of every route; shares sum to 1
Router = Callable[[Any, Any], Route]


def loads_of(routes: Route) -> dict[Link, float]:
    """Return the share of a flow that each link carries."""
    loads: dict[Link, float] = defaultdict(float)
    for share, path in routes:
        for link in pairwise(path):
            loads[link] += share
    return dict(loads)


def latency_of(routes: Route, graph: nx.DiGraph) -> float:
    """Return the largest sum of latencies, in seconds."""
    return max(float(sum(graph.edges[link]["latency"] for link in pairwise(path))) for _, path in routes)
