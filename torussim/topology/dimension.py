"""Tori and meshes as regular things: a chip's neighbours, and dimension-order routes, whatever links are dead.

A *slot* is where a link leaves a chip along an axis, + or -, there or dead: number (axis x 2 + sign) x chips + chip.
Routes over slots are those of the healthy network; what becomes of dead slots is decided in `routing`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from torussim.errors import TopologyError
from torussim.topology.check import Links
from torussim.topology.routes import Array
from torussim.topology.shortest import CELLS


@dataclass(frozen=True, eq=False)
class Steps:
    """Routes over slots: path p has the entries first[p]:first[p + 1], its last hop last; a slot at most once in a path."""

    first: Array  # (paths + 1,)
    slot: Array
    share: Array
    level: Array  # hops from the source of the path to the chip that the slot leaves, the same on all routes


@dataclass(frozen=True, eq=False)
class Lattice:
    """The chips of a torus as points of a grid without end that repeats: a step past the end of a ring comes back.

    `shift[a, b]`: going once round axis a in + direction moves a chip by so much along axis b.
    """

    shape: Array  # (axes,)
    closed: Array  # (axes,) bool: a ring, or of length 1 or 2, where + and - lead to the same chip; else a line
    shift: Array  # (axes, axes)

    @property
    def twisted(self) -> Array:
        """Return which axes, of shape (axes,), shift a chip that goes round them."""
        return np.asarray(self.shift.any(axis=1))

    def canonical(self, points: Array) -> Array:
        """Return the same chips, (axes, points), with coordinates on closed axes from 0 on."""
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

    Raise TopologyError if its twists make it none: if an axis that is shifted is twisted too, or is a line.
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
    """Return by how much going round an axis in + direction moves a chip along another, of shape (axes, axes)."""
    names = list(links.axes)
    found = np.zeros((len(names), len(names)), np.intp)
    for name, by in links.twist.items():
        for other, steps in by.items():
            found[names.index(name), names.index(other)] = steps % links.axes[other]
    return found


def neighbours(links: Links) -> Array:
    """Return the chip that each slot of the healthy network leads to, of shape (slots,)."""
    shape = tuple(links.axes.values())
    found = []
    for axis, shift in enumerate(shifts(links)):
        for step in (1, -1):
            point = links.coordinates.copy()
            point[axis] += step
            point += point[axis] // shape[axis] * shift[:, None]
            found.append(np.ravel_multi_index(tuple(point), shape, mode="wrap"))  # the end of a line leads nowhere
    return np.concatenate(found)


def dimension_order(links: Links, source: Array, target: Array) -> Steps:
    """Return routes axis by axis in the order of the axes, the short way round a ring, half each way if both are equal.

    Raise TopologyError on a twisted torus.
    """
    if shifts(links).any():
        raise TopologyError("routing dimension_order is for tori without a twist, as it knows no short way through one; "
                            "use minimal or shortest")
    shape = np.array(list(links.axes.values()))
    ring = np.array(links.ring) & (shape > 2)
    chips, paths, axes = len(links.chips), len(source), len(shape)
    strides = np.array([shape[axis + 1:].prod() for axis in range(axes)], np.intp)
    start, end = links.coordinates[:, source], links.coordinates[:, target]  # (axes, paths)
    forward = np.where(ring[:, None], (end - start) % shape[:, None], np.maximum(end - start, 0))
    backward = np.where(ring[:, None], (start - end) % shape[:, None], np.maximum(start - end, 0))
    both = ring[:, None] & (forward == backward) & (forward > 0)
    hops = np.stack([np.where(~ring[:, None] | (forward <= backward), forward, 0),
                     np.where(~ring[:, None] | (backward <= forward), backward, 0)], axis=-1)  # (axes, paths, 2)
    before = np.cumsum(hops.max(axis=-1), axis=0) - hops.max(axis=-1)  # hops on the axes before
    corner = source + np.cumsum((end - start) * strides[:, None], axis=0) - (end - start) * strides[:, None]

    legs = hops.transpose(1, 0, 2).reshape(-1).astype(np.int32)  # (paths x axes x 2,)
    first = np.concatenate([[0], np.cumsum(legs.reshape(paths, 2 * axes).sum(axis=1))]).astype(np.intp)
    leg = np.repeat(np.arange(len(legs), dtype=np.int32), legs)
    step = np.arange(len(leg), dtype=np.int32) - (np.cumsum(legs) - legs).astype(np.int32)[leg]
    axis, sign = leg // 2 % axes, leg % 2
    of_leg = leg // 2
    begin = start.T.reshape(-1).astype(np.int32)[of_leg]  # coordinate on the axis where the leg begins
    at = (begin + step * (1 - 2 * sign)) % shape.astype(np.int32)[axis]
    chip = corner.T.reshape(-1).astype(np.int32)[of_leg] + (at - begin) * strides.astype(np.int32)[axis]
    slot = (axis * 2 + sign) * np.intp(chips) + chip
    share = np.where(both, 0.5, 1.0).T.reshape(-1)[of_leg]
    level = before.T.reshape(-1).astype(np.int32)[of_leg] + step
    return Steps(first, slot, share, level)


def longest(links: Links, steps: Steps, latency: Array, target: Array) -> Array:
    """Return the latency of the slowest route of each path, (paths,), where that of each slot is given, (slots,)."""
    hops = np.diff(steps.first)
    found = np.zeros(len(hops))
    of_slot = latency[steps.slot]
    some = hops > 0
    if not len(of_slot):
        return found
    if of_slot.min() == of_slot.max():
        found[some] = (steps.level[steps.first[1:][some] - 1] + 1) * of_slot[0]
        return found
    chips, leads_to = len(links.chips), neighbours(links)
    size = max(CELLS // chips, 1)
    for begin in range(0, len(hops), size):
        end = min(begin + size, len(hops))
        entries = slice(steps.first[begin], steps.first[end])
        path = np.repeat(np.arange(end - begin), hops[begin:end])
        order = np.argsort(steps.level[entries], kind="stable")
        slot = steps.slot[entries][order]
        cell, after = path[order] * chips + slot % chips, path[order] * chips + leads_to[slot]
        delay, level = of_slot[entries][order], steps.level[entries][order]
        reached = np.zeros((end - begin) * chips)
        edges = np.flatnonzero(np.diff(level, prepend=-1, append=-1))
        for one, after_it in pairwise(edges):
            now = slice(one, after_it)
            np.maximum.at(reached, after[now], reached[cell[now]] + delay[now])
        found[begin:end] = reached[np.arange(end - begin) * chips + target[begin:end]]
    return found
