"""The senders and receivers of a routed collective in each step, and the traffic of the busiest link."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from torussim.collectives.contract import Step
from torussim.topology.grid import Grid, Routing
from torussim.topology.hops import route
from torussim.topology.movement import Movements
from torussim.topology.routes import Routes, joined
from torussim.topology.shape import strides

Array = np.ndarray[Any, Any]


def here_on(grid: Grid, on: Sequence[tuple[str, tuple[int, ...]]]) -> Array | None:
    """Return (chips,) whether a chip is at these positions of axes; None if no axis is given, for all chips."""
    if not on:
        return None
    return np.asarray(np.logical_and.reduce([np.isin(grid.coordinates[grid.axis(axis)], places) for axis, places in on]))


def sent_to(grid: Grid, axes: Sequence[str], step: Step) -> tuple[Array, Array]:
    """Return (messages, chips) the receiver of each message, and the number of its sender's messages that it represents, or 0."""
    to, crowd = _receivers(grid, axes, step)
    here = here_on(grid, step.on)
    return to, crowd if here is None else np.where(here, crowd, 0)


def _receivers(grid: Grid, axes: Sequence[str], step: Step) -> tuple[Array, Array]:
    """Return the same as if all chips sent."""
    if step.to is not None and not axes:  # the step is over all chips of the network
        return step.to[:, grid.own].astype(np.int32), np.where(step.to[:, grid.own] >= 0, 1, 0).astype(np.int32)
    if step.moves is not None:
        return targets(grid, axes, step.moves), images(grid, axes, step.moves)
    lengths, rows = [grid.length(a) for a in axes], [grid.axis(a) for a in axes]
    to = step.targets(lengths)[:, np.ravel_multi_index(tuple(grid.coordinates[rows]), tuple(lengths))]  # (messages, chips)
    shape = tuple(grid.links.axes.values())
    apart = dict(zip(grid.links.axes, strides(shape).tolist()))
    steps = np.array([grid.stride[i] * apart[a.partition("/")[0]] for i, a in zip(rows, axes)])
    there = np.array(np.unravel_index(np.maximum(to, 0), tuple(lengths)))  # (axes, messages, chips)
    moved = grid.own + np.tensordot(steps, there - grid.coordinates[rows][:, None], 1)
    return moved.astype(np.int32), np.where(to >= 0, 1, 0).astype(np.int32)


def parts(grid: Grid, axes: Sequence[str], step: Step) -> Array:
    """Return (messages, chips) the size of each message, as a share of the step's size."""
    assert step.part is not None
    if not axes:
        return np.asarray(step.part[:, grid.own])
    rows = [grid.axis(a) for a in axes]
    position = np.ravel_multi_index(tuple(grid.coordinates[rows]), tuple(grid.length(a) for a in axes))
    return np.asarray(step.part[:, position])


def targets(grid: Grid, axes: Sequence[str], moves: Array) -> Array:
    """Return (messages, chips) the physical chip at each displacement along `axes`, going round the ends."""
    shape = tuple(grid.links.axes.values())
    stride = {name: int(step) for name, step in zip(grid.links.axes, strides(shape))}
    to = np.broadcast_to(grid.own.astype(np.int32), (len(moves), len(grid.own))).copy()
    for column, axis in enumerate(axes):
        i = grid.axis(axis)
        at, step = grid.coordinates[i], grid.stride[i] * stride[axis.partition("/")[0]]
        by = step * ((at + np.arange(grid.shape[i])[:, None]) % grid.shape[i] - at)  # (displacements along the axis, chips)
        to += by.astype(np.int32)[moves[:, column]]
    return to


def images(grid: Grid, axes: Sequence[str], moves: Array) -> Array:
    """Return (messages, chips) the number of mirror images that each displacement represents; 0 if another represents it.

    For a chip that is its own mirror image, two messages are equivalent if they differ only by reversed axes.
    """
    found = np.ones((len(moves), len(grid.own)), np.int32)
    here = {grid.axis(a): column for column, a in enumerate(axes)}
    lengths = np.array([grid.length(a) for a in axes])
    number = [np.ravel_multi_index(tuple(moves.T), tuple(lengths))]
    for turned, _ in grid.mirrors.still:
        to = moves.copy()
        columns = [here[a] for a in turned if a in here]
        to[:, columns] = -moves[:, columns] % lengths[columns]
        number.append(np.ravel_multi_index(tuple(to.T), tuple(lengths)))
    still = np.array([np.ones(len(grid.own), bool), *(chips[grid.own] for _, chips in grid.mirrors.still)])
    kinds, kind = np.unique(still, axis=1, return_inverse=True)
    for k, column in enumerate(kinds.T):
        alike = np.sort([number[i] for i in np.flatnonzero(column)], axis=0)
        many = 1 + np.count_nonzero(np.diff(alike, axis=0), axis=0)
        found[:, kind.reshape(-1) == k] = np.where(alike[0] == number[0], many, 0)[:, None]
    return found


def routing_of(grid: Grid, step: Step) -> Routing:
    """Return the routing of the messages of a step."""
    return "shortest" if step.spread and not callable(grid.routing) else grid.routing


def paces(movements: Movements, axes: Sequence[str], steps: Sequence[Step], bandwidth: Array) -> list[tuple[float, float, float]]:
    """Return the time of the busiest links on an idle network in the steps of a one-byte collective, seconds, and latency, s.

    The first time is that of links that one message uses, the second that of links that several share. Links have these
    bandwidths, (links,) bytes/s, which are equal where the network's are. Steps that are pipelined together, and so are in
    progress at the same time, have one common entry.
    """
    if not steps:  # a group of one chip
        return []
    grid = movements.net
    ways = [sent_to(grid, axes, step) for step in steps]
    sizes = [np.broadcast_to(step.size, to.shape) if step.part is None else step.size * parts(grid, axes, step)
             for step, (to, _) in zip(steps, ways)]
    grid = movements.folded(np.concatenate([np.where(crowd > 0, to, grid.own) for to, crowd in ways]))
    there = [np.flatnonzero(crowd[:, grid.own].ravel() > 0) for _, crowd in ways]
    source = np.concatenate([np.tile(grid.own, len(to))[some] for (to, _), some in zip(ways, there)])
    target = np.concatenate([to[:, grid.own].ravel()[some] for (to, _), some in zip(ways, there)]).astype(np.intp)
    (routing,) = {routing_of(grid, step) for step in steps} or {grid.routing}  # the steps of a collective have one routing
    routes = joined(route(grid, routing, source, target))  # all at once: one search for each chip
    load, flows, late, begin = np.zeros(len(bandwidth)), np.zeros(len(bandwidth)), 0.0, 0
    found = list[tuple[float, float, float]]()
    for number, (step, size, some) in enumerate(zip(steps, sizes, there)):
        end = begin + len(some)
        these = Routes(routes.first[begin:end + 1], routes.link, routes.share, routes.latency[begin:end], routes.number)
        begin = end
        load = load + these.load(size[:, grid.own].ravel()[some], len(bandwidth))
        flows = flows + these.flows(len(bandwidth))
        late += float(these.latency.max(initial=0.0)) * (len(step.moves) if step.turns and step.moves is not None else 1)
        if number + 1 == len(steps) or not steps[number + 1].piped:
            busy, meet = load / bandwidth, flows > 1
            found.append((float(busy.max(initial=0.0, where=~meet)), float(busy.max(initial=0.0, where=meet)), late))
            load, flows, late = np.zeros(len(bandwidth)), np.zeros(len(bandwidth)), 0.0
    return found
