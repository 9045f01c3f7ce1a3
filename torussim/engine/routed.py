"""The part of a program that goes through the fluid network: routed messages, and the lanes that share links with them.

A link is shared if a routed message can use it, at any time of the run, or if its bandwidth changes in mid-run. A lane with a
shared link runs transfer by transfer; every other lane runs by the max-plus recurrence. Paths 0 .. hops - 1 of the network are
the hops of the grid, in the order of the engine's link arrays (axis, direction, chip). The routes of direct all-to-alls follow.
Where links fail in mid-run, all routes are found anew on the remaining links (`rerouted`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import Any

import numpy as np

from torussim.engine.plan import Planner
from torussim.engine.ready import Move, Ready, Stage
from torussim.errors import TopologyError
from torussim.messages import parts, routing_of, sent_to
from torussim.program import Collective
from torussim.topology.grid import Grid, Routing
from torussim.topology.hops import gap_routes, route
from torussim.topology.links import remove
from torussim.topology.routes import Routes, joined, pieces, starts

Array = np.ndarray[Any, Any]
SAME = 1e-12  # shares, and parts of latencies, are the same if they differ by less


@dataclass(frozen=True, eq=False)
class Direct:
    """The messages of a step of a collective: message m of chip c takes the path first + m * chips + c."""

    first: int
    receiver: Array  # (messages, chips) int32; -1: no message, or a message that another one stands for
    bytes: float  # of each message, or of the largest
    turns: bool  # each message waits for the one before; else all start at once
    part: Array | None = None  # (messages, chips) the part of these bytes, where messages differ in size
    piped: bool = False  # a message of the step before is passed on while it arrives

    @property
    def sent(self) -> Array:
        """The bytes of each message, (messages x chips,)."""
        return np.asarray(np.where(self.receiver >= 0, self.bytes * (1.0 if self.part is None else self.part), 0.0).ravel())


@dataclass(frozen=True, eq=False)
class Shared:
    """The paths of a program's flows, the lanes that run transfer by transfer, and the steps of routed collectives by name.

    `later`: for each event in which links fail, the paths that change then, and their routes from then on.
    """

    paths: Routes
    fluid: Array  # (axes, chips) whether the lane of a chip along an axis runs transfer by transfer
    alone: Array  # (hops,) whether no other message uses the link of a hop
    direct: Mapping[str, tuple[Direct, ...]]
    later: tuple[tuple[Array, Routes], ...] = ()

    @property
    def rows(self) -> Routes:
        """All routes that a path ever takes: the routes at the start, then the routes of `later`."""
        return joined([self.paths, *(routes for _, routes in self.later)]) if self.later else self.paths


@dataclass(frozen=True, eq=False)
class Messages:
    """The messages of a step, (messages x chips,) each, from which routes are found on any network."""

    source: Array
    target: Array
    crowd: Array
    routing: Routing


def shared(planner: Planner, sections: Sequence[tuple[Ready, ...]]) -> Shared | None:
    """Return the part of a program that goes through the fluid network, None if all its links are private."""
    grid = planner.grid
    every = [ready for section in sections for ready in section]
    gaps, used = np.flatnonzero(planner.gap), np.zeros(planner.rate.size + 1, bool)
    if len(gaps) or grid.links.failures:
        for stage in (stage for ready in every for stage in ready.stages):
            for _, hops, sends in moves_of(planner, stage):
                used[hops[sends]] = True
        gaps = gaps[used[gaps]]
    if not len(gaps) and not any(ready.steps for ready in every) and not grid.links.events:
        return None
    tables: list[Iterable[Routes]] = [[_hop_paths(grid, gaps)]]
    first = planner.rate.size
    direct, messages = dict[str, tuple[Direct, ...]](), list[Messages]()
    for ready in (ready for ready in every if ready.steps):
        assert isinstance(ready.operation, Collective)
        axes, made = [a for a in ready.operation.axes if grid.length(a) > 1], list[Direct]()
        for step in ready.steps:
            to, crowd = sent_to(grid, axes, step)
            source = np.tile(grid.own.astype(np.int32), len(to))
            messages.append(Messages(source, np.where(crowd.ravel() > 0, to.ravel(), source), crowd.ravel(),
                                     routing_of(grid, step)))
            tables.append(_of_messages(grid, messages[-1]))
            receiver = np.where(crowd > 0, grid.orbit.astype(np.int32)[to], -1)
            part = None if step.part is None else parts(grid, axes, step)
            made.append(Direct(first, receiver, step.size, step.turns, part, step.piped and bool(made)))
            first += to.size
        direct[ready.operation.name] = tuple(made)
    paths = joined(chain.from_iterable(tables))
    routed = np.zeros(len(grid.links.source) + 1, bool)  # one more entry, for hops without a link
    routed[paths.take(gaps).link] = True
    for _, entries in pieces(paths.first[planner.rate.size:]):
        routed[paths.link[entries]] = True
    later = tuple(rerouted(grid, paths, np.flatnonzero(used[:-1]), messages))
    for _, routes in later:
        routed[routes.link] = True
    for event in grid.links.events:  # the rate of messages under way changes then
        routed[grid.stands[event.links]] = True
    met = routed[grid.slot.ravel()] | np.isin(np.arange(planner.rate.size), gaps)
    fluid = _fluid_lanes(planner, sections, met)
    return Shared(paths, fluid, ~met, direct, later)


def rerouted(grid: Grid, paths: Routes, used: Array, messages: Sequence[Messages]) -> Iterator[tuple[Array, Routes]]:
    """Yield, for each event in which links fail, the paths that change then and their routes from then on.

    `used`: the hops that send anything. The routes are the routes of a network that never had the links that have failed by then,
    at the bandwidths of the start. Raise TopologyError, with the event, if there are none.
    """
    dead, hops, slot = np.zeros(len(grid.links.source), bool), grid.slot.size, grid.slot.ravel()[used]
    now = paths
    for event in grid.links.failures:
        assert len(grid.own) == len(grid.orbit), "nothing is folded where links fail in mid-run"
        dead[event.dead] = True
        left = grid.links.without(dead)
        graph = remove(grid.graph, grid.links.edges(dead)) if callable(grid.routing) else grid.graph
        net, number = replace(grid, links=left, graph=graph, stands=np.arange(len(left.source))), np.flatnonzero(~dead)
        gone = used[(slot < 0) | dead[slot]]
        first, changed, found = hops, list[Array](), list[Routes]()
        try:
            for part in chain([gap_routes(net, gone)], chain.from_iterable(_of_messages(net, one) for one in messages)):
                path = np.arange(first, first + len(part)) if changed else gone
                first += len(part) if changed else 0
                routes = replace(part, link=number[part.link].astype(np.int32))
                unlike = np.flatnonzero(_unlike(now.take(path), routes, len(dead)))
                changed.append(path[unlike])
                found.append(routes.take(unlike))
        except TopologyError as error:
            raise error.within((), f"after the failure at {event.time:g} s: ") from None
        which, routes = np.concatenate(changed), joined(found)
        place = np.arange(len(paths))
        place[which] = len(paths) + np.arange(len(which))
        now = joined([now, routes]).take(place)
        yield which, routes


def _unlike(before: Routes, after: Routes, links: int) -> Array:
    """Return (paths,) whether routes differ in links, shares or latency by more than rounding errors."""
    def entries(routes: Routes) -> tuple[Array, Array]:
        at = np.repeat(np.arange(len(routes)), np.diff(routes.first)) * links + routes.link
        order = np.argsort(at)
        return at[order], routes.share[order]
    unlike = np.diff(before.first) != np.diff(after.first)
    unlike |= np.abs(before.latency - after.latency) > SAME * after.latency
    same = np.flatnonzero(~unlike)
    (one, part), (other, share) = entries(before.take(same)), entries(after.take(same))
    unlike[same[one[(one != other) | (np.abs(part - share) > SAME)] // links]] = True
    return np.asarray(unlike)


def _of_messages(grid: Grid, messages: Messages) -> Iterator[Routes]:
    return route(grid, messages.routing, messages.source, messages.target, messages.crowd)


def link_bytes(ready: Ready, planner: Planner, through: Shared | None) -> Array:
    """Return (links,) the bytes that one run of an operation puts on the links that stand for all."""
    total = np.zeros(len(planner.grid.links.source))
    if through is None:
        if ready.sent is not None:
            slot = planner.grid.slot.ravel()
            total += np.bincount(slot[slot >= 0], ready.sent[slot >= 0], len(total))
        return total
    if ready.sent is not None:
        total += through.paths.load(ready.sent, len(total))
    for direct in through.direct.get(ready.operation.name, ()):
        total += through.paths.load(direct.sent, len(total), direct.first)
    return total


def fluid_chips(planner: Planner, stage: Stage, fluid: Array) -> Array:
    """Return (chips,) whether the lane of a chip in a stage runs transfer by transfer."""
    return np.asarray(fluid[[planner.grid.axis(a) for a in stage.lane.axes]].any(axis=0))


def moves_of(planner: Planner, stage: Stage) -> list[tuple[Move, Array, Array]]:
    """Return (move, (r, chips) hops, whether a chip sends) for each move of a stage, in the order of the queues."""
    hops = np.arange(planner.rate.size + 1)
    return [(move, hops[move.links].reshape(move.seconds.shape), move.bytes > 0) for move in stage.moves]


def _fluid_lanes(planner: Planner, sections: Sequence[tuple[Ready, ...]], met: Array) -> Array:
    """Return (axes, chips) whether a lane runs transfer by transfer: because it has a shared hop, or to keep its order.

    A stage of a private lane begins when all chips have arrived. That costs no time if no operation ends on any chip before it
    has begun on all chips. A permute can end before that, and so can an operation that does not wait for the previous operation
    on the axis.
    """
    grid = planner.grid
    here: Array = np.asarray(met.reshape(len(grid.axes), 2, planner.count).any(axis=1))
    fluid = np.array([np.isin(planner.lanes((a,)), planner.lanes((a,))[here[i]]) for i, a in enumerate(grid.axes)])
    stages = [stage for section in sections for ready in section for stage in ready.stages]
    for i, axis in enumerate(grid.axes):
        single = any(stage.single and axis in stage.lane.axes for stage in stages)
        fluid[i] |= single or not all(_in_turn(section, axis) for section in sections)
    before = -1
    while before != fluid.sum():  # a ring over several axes runs transfer by transfer on all its chips or on none
        before = fluid.sum()
        for axes in {stage.lane.axes for stage in stages if len(stage.lane.axes) > 1}:
            rows, group = [grid.axis(a) for a in axes], planner.lanes(axes)
            fluid[rows] |= np.isin(group, group[fluid[rows].any(axis=0)])
    return fluid


def _in_turn(section: Sequence[Ready], axis: str) -> bool:
    """Return whether each operation of a section on an axis waits for the one before, and the section's last for the last."""
    waits: list[set[int]] = []
    for i, ready in enumerate(section):
        after = ready.after if ready.after is not None else (i - 1,) if i else ()
        direct = {*after, *([ready.partner] if ready.partner is not None and ready.partner < i else [])}
        waits.append(direct.union(*(waits[j] for j in direct)))
    users = [i for i, ready in enumerate(section) if any(axis in stage.lane.axes for stage in ready.stages)]
    last = len(section) - 1
    return all(a in waits[b] for a, b in pairwise(users)) and (not users or users[-1] == last or users[-1] in waits[last])


def _hop_paths(grid: Grid, gaps: Array) -> Routes:
    """Return a path for every hop: its link, or the routes that stand for it."""
    slot = grid.slot.ravel()
    linked = slot >= 0
    own = Routes(starts(linked), slot[linked], np.ones(np.count_nonzero(linked)), grid.latency.ravel())
    order = np.arange(len(slot))
    order[gaps] = len(slot) + np.arange(len(gaps))
    return joined([own, gap_routes(grid, gaps)]).take(order)
