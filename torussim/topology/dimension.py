"""Tori and meshes as regular structures: the neighbours of a chip, and dimension-order routes, without regard to dead links.

A *slot* is the place of a link that leaves a chip along an axis, + or -, whether it exists or is dead. It has the number
(axis x 2 + sign) x chips + chip. Routes over slots are routes of the healthy network; `routing` replaces dead slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from torussim.errors import TopologyError
from torussim.topology.check import Links
from torussim.topology.routes import ENTRIES, Array, spread, starts
from torussim.topology.shortest import CELLS


@dataclass(frozen=True, eq=False)
class Steps:
    """Routes over slots: path p has the entries first[p]:first[p + 1], its last hop last; a path has each slot at most once."""

    first: Array  # (paths + 1,)
    slot: Array  # int32
    share: Array
    level: Array  # int32; the number of hops from the source of the path to the chip that the slot leaves, the same on all routes
    target: Array  # (paths,) chips


@dataclass(frozen=True, eq=False)
class Lattice:
    """The chips of a torus as points of an infinite, repeating grid: a step past the end of a ring comes back.

    `shift[a, b]`: one turn round axis a in + direction moves a chip by this number along axis b.
    """

    shape: Array  # (axes,)
    closed: Array  # (axes,) bool: a ring, or of length 1 or 2, where + and - lead to the same chip; else a line
    shift: Array  # (axes, axes)

    @property
    def twisted(self) -> Array:
        """Return (axes,) whether a turn round an axis shifts a chip."""
        return np.asarray(self.shift.any(axis=1))

    def canonical(self, points: Array) -> Array:
        """Return the same chips, (axes, points), with coordinates from 0 on along closed axes."""
        points = points.copy()
        for axis in np.flatnonzero(self.twisted):
            rounds = points[axis] // self.shape[axis]
            points[axis] -= rounds * self.shape[axis]
            for other in np.flatnonzero(self.shift[axis]):
                points[other] += rounds * self.shift[axis, other]
        for axis in np.flatnonzero(self.closed):
            points[axis] %= self.shape[axis]
        return points

    def number(self, points: Array) -> Array:
        """Return the numbers of chips, (points,), at canonical points."""
        number = points[0].astype(np.intp)
        for axis in range(1, len(self.shape)):
            number = number * self.shape[axis] + points[axis]
        return np.asarray(number)


def lattice(links: Links) -> Lattice:
    """Return a torus or mesh as a lattice.

    Raise TopologyError if its twists do not allow it: if an axis that is shifted is twisted too, or is a line.
    """
    names = list(links.axes)
    shape = np.array(list(links.axes.values()))
    closed = np.array(links.ring) | (shape <= 2)
    found = Lattice(shape, closed, shifts(links))
    for axis, other in np.argwhere(found.shift):
        if found.twisted[other] or not closed[other]:
            why = "is twisted itself" if found.twisted[other] else "has no wraparounds"
            raise TopologyError(f"axis {names[axis]} shifts {names[other]}, which {why}, so minimal routes differ from chip "
                                "to chip; use routing shortest")
    return found


def shifts(links: Links) -> Array:
    """Return (axes, axes) the shift of a chip along the second axis by a turn round the first in + direction."""
    names = list(links.axes)
    found = np.zeros((len(names), len(names)), np.intp)
    for name, by in links.twist.items():
        for other, steps in by.items():
            found[names.index(name), names.index(other)] = steps % links.axes[other]
    return found


def neighbours(links: Links) -> Array:
    """Return (slots,) the chip that each slot of the healthy network leads to."""
    shape = tuple(links.axes.values())
    found = []
    for axis, shift in enumerate(shifts(links)):
        for step in (1, -1):
            point = links.coordinates.copy()
            point[axis] += step
            point += point[axis] // shape[axis] * shift[:, None]
            found.append(np.ravel_multi_index(tuple(point), shape, mode="wrap"))  # the end of a line leads nowhere
    return np.concatenate(found)


def dimension_order(links: Links, source: Array, target: Array) -> Iterator[Steps]:
    """Yield routes along one axis after another, the short way round a ring; half each way if both ways are equal.

    Raise TopologyError on a twisted torus.
    """
    if shifts(links).any():
        raise TopologyError("routing dimension_order is for tori without a twist, because it does not use the links of a twist; "
                            "use minimal or shortest")
    size = max(ENTRIES // sum(links.axes.values()), 1)  # a path has on an axis at most as many entries as the axis has chips
    for begin in range(0, len(source), size):
        yield _in_order(links, source[begin:begin + size], target[begin:begin + size])


def _in_order(links: Links, source: Array, target: Array) -> Steps:
    """Return the routes of some paths. A leg is the part of a route along one axis in one direction."""
    shape = np.array(list(links.axes.values()), np.int32)
    ring = np.array(links.ring) & (shape > 2)
    paths, axes = len(source), len(shape)
    strides = np.array([shape[axis + 1:].prod() for axis in range(axes)], np.int32)
    coordinates = links.coordinates.T.astype(np.int32)
    start = coordinates[source]  # (paths, axes)
    gap = coordinates[target] - start
    forward, backward = (np.where(ring, way % shape, np.maximum(way, 0)) for way in (gap, -gap))
    both = ring & (forward == backward)
    hops = np.stack([np.where(~ring | (forward <= backward), forward, 0),
                     np.where(~ring | (backward <= forward), backward, 0)], axis=-1)  # (paths, axes, 2)
    longer = np.maximum(hops[..., 0], hops[..., 1])
    before = np.cumsum(longer, axis=1, dtype=np.int32) - longer  # hops on the axes before
    past = gap * strides
    foot = source[:, None] + np.cumsum(past, axis=1) - past - start * strides  # the chip at 0 on the axis of the leg

    # Slots from chip 0 of a line, in the order in which a leg passes them: twice round in + direction, and in - direction.
    along = np.arange(2 * shape.max(), dtype=np.int32)
    met = np.stack([along % shape[:, None], (-1 - along) % shape[:, None]], axis=1) * strides[:, None, None]
    slots = (met + np.arange(2 * axes).reshape(axes, 2, 1) * len(links.chips)).astype(np.int32).reshape(-1)
    begins = np.stack([start, shape - 1 - start], axis=-1) + np.arange(2 * axes, dtype=np.int32).reshape(axes, 2) * len(along)

    leg = np.flatnonzero(hops)
    turn, count = leg // 2, hops.reshape(-1)[leg]  # of (paths x axes,)
    ends = np.cumsum(count, dtype=np.int32)
    of_leg = np.repeat(np.arange(len(leg)), count)
    entry = np.arange(len(of_leg), dtype=np.int32)
    slot = slots[(begins.reshape(-1)[leg] - ends + count)[of_leg] + entry] + foot.reshape(-1)[turn].astype(np.int32)[of_leg]
    share = np.where(both, 0.5, 1.0).reshape(-1)[turn][of_leg]
    level = (before.reshape(-1)[turn] - ends + count)[of_leg] + entry
    return Steps(starts(hops.reshape(paths, 2 * axes).sum(axis=1)), slot, share, level, target)


def longest(links: Links, steps: Steps, latency: Array) -> Array:
    """Return the latency of the slowest route of each path, (paths,), given the latency of each slot, (slots,)."""
    found = np.zeros(len(steps.target))
    moves = np.flatnonzero(np.diff(steps.first))
    if not len(moves):
        return found
    of_slot = latency[steps.slot]
    least = np.minimum.reduceat(of_slot, steps.first[moves])
    found[moves] = (steps.level[steps.first[moves + 1] - 1] + 1) * least
    mixed = moves[least < np.maximum.reduceat(of_slot, steps.first[moves])]
    chips, leads_to = len(links.chips), neighbours(links)
    size = max(CELLS // chips, 1)
    for paths in (mixed[begin:begin + size] for begin in range(0, len(mixed), size)):
        entry, path = spread(steps.first, paths)
        order = np.argsort(steps.level[entry], kind="stable")
        entry, path = entry[order], path[order]
        slot, delay, level = steps.slot[entry], of_slot[entry], steps.level[entry]
        cell, after = path * chips + slot % chips, path * chips + leads_to[slot]
        reached = np.zeros(len(paths) * chips)
        edges = np.flatnonzero(np.diff(level, prepend=-1, append=-1))
        for one, after_it in pairwise(edges):
            now = slice(one, after_it)
            np.maximum.at(reached, after[now], reached[cell[now]] + delay[now])
        found[paths] = reached[np.arange(len(paths)) * chips + steps.target[paths]]
    return found
