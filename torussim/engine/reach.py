"""Lanes of user-defined algorithms whose neighbours have no link: each becomes an axis of its own, and all its hops are routed.

The engine treats such an axis like a part of an axis whose neighbours are several hops apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from torussim.collectives.contract import Lane, Phase
from torussim.collectives.lower import lower
from torussim.program import Collective, Program
from torussim.topology.grid import Grid, Mirrors
from torussim.topology.shape import strides

Array = np.ndarray[Any, Any]
Routed = Mapping[tuple[Lane, bool], str]  # a lane, and whether its pattern runs as a ring -> the axis that stands for it


def reaching(program: Program, net: Grid) -> tuple[Grid, Routed]:
    """Return a grid with one more axis for each lane of a user-defined algorithm that needs routes, and the axes' names."""
    needed: dict[tuple[Lane, bool], None] = {}
    for operation in program.operations():
        if isinstance(operation, Collective) and callable(operation.algorithm):
            phases = lower(operation, net).phases
            needed |= dict.fromkeys((phase.lane, phase.pattern.ring) for phase in phases if not _linked(net, phase))
    names = {key: f"{'+'.join(key[0].axes)} routed {number}" for number, key in enumerate(needed)}
    return (with_lanes(net, [(name, *places(net, lane)) for (lane, _), name in names.items()]) if names else net), names


def with_lanes(net: Grid, lanes: Iterable[tuple[str, int, Array, Array]]) -> Grid:
    """Return a grid with more axes without links: name, length, (chips,) position and (2, chips) physical target of each."""
    found = list(lanes)
    nowhere = np.full((len(found), 2, len(net.own)), -1)
    target = np.array([to for *_, to in found])
    return replace(
        net, axes=(*net.axes, *(name for name, *_ in found)), shape=(*net.shape, *(length for _, length, *_ in found)),
        ring=net.ring + (True,) * len(found), stride=net.stride + (2,) * len(found),  # above 1: neighbours have no link
        slot=np.concatenate([net.slot, nowhere]), bandwidth=np.concatenate([net.bandwidth, 0.0 * nowhere]),
        latency=np.concatenate([net.latency, 0.0 * nowhere]), receiver=np.concatenate([net.receiver, net.orbit[target]]),
        coordinates=np.concatenate([net.coordinates, [at for _, _, at, _ in found]]), target=np.concatenate([net.target, target]),
        mirrors=Mirrors(np.zeros((len(net.axes) + len(found), len(net.orbit)), bool)))


def places(net: Grid, lane: Lane) -> tuple[int, Array, Array]:
    """Return the length of a lane, (chips,) the position of each chip, and (2, chips) the next and the previous physical chip."""
    axes = [net.axis(a) for a in lane.axes]
    order = np.array(lane.order) if lane.order is not None else np.arange(net.shape[axes[0]])[:, None]
    shape = [net.shape[a] for a in axes]
    position = np.empty(int(np.prod(shape)), np.intp)
    position[np.ravel_multi_index(tuple(order.T), shape)] = np.arange(len(order))
    own = net.coordinates[axes]
    at = position[np.ravel_multi_index(tuple(own), shape)]
    step = dict(zip(net.links.axes, strides(tuple(net.links.axes.values()))))
    apart = np.array([net.stride[a] * step[name.partition("/")[0]] for a, name in zip(axes, lane.axes)])
    to = [net.own + apart @ (order[(at + sign) % len(order)].T - own) for sign in (1, -1)]
    return len(order), at, np.array(to)


def _linked(net: Grid, phase: Phase) -> bool:
    """Return whether each hop that sends anything has a link of its own, or had one before it failed."""
    _, at, target = places(net, phase.lane)
    there = (net.bandwidth > 0) | net.around(net.axes).gap
    axes = [net.axis(a) for a in phase.lane.axes]
    for hop in phase.pattern.hops:
        way = int(hop.sign < 0)
        if phase.lane.order is None:
            linked = there[axes[0], way]
        else:
            linked = ((net.target[axes] == target[way]) & there[axes]).any(axis=(0, 1))
        if (~linked & (hop.halves[at] > 0)).any():
            return False
    return True
