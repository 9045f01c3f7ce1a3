"""The links of a torus or mesh as arrays, for whatever computes with all chips at once.

Index 0 of the second dimension is the + link that leaves a chip along an axis, index 1 its - link. An axis is a ring or
a line as a whole: where some wraparounds of an axis are missing the others are left out, and `notes` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import networkx as nx  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import numpy.typing as npt

from torussim.errors import TopologyError
from torussim.topology.check import Coordinate, Links, chip_index, coordinates, read_links

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Extremes:
    """Slowest and fastest bandwidth (bytes/s), shortest and longest latency (s) among the links of an axis."""

    slowest: float
    fastest: float
    shortest: float
    longest: float


@dataclass(frozen=True, eq=False)
class Grid:
    """Axes, and the + and - link of each chip along each. Arrays are of shape (axes, 2, chips) and not writable."""

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    ring: tuple[bool, ...]  # else a line; an axis of length 1 or 2 is one
    bandwidth: npt.NDArray[np.float64]  # bytes/s; 0 where there is no link
    latency: npt.NDArray[np.float64]  # s; 0 where there is no link
    receiver: Indices  # chip that the link leads to, going round; also where there is no link
    chips: tuple[Coordinate, ...]  # in C order
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        kinds = ("ring" if ring else "line" for ring in self.ring)
        axes = ", ".join(f"{name}: {kind} of {length}"
                         for name, kind, length in zip(self.axes, kinds, self.shape, strict=True))
        notes = "".join(f"; {note}" for note in self.notes)
        return f"<Grid {axes}; {len(self.chips)} chips, {np.count_nonzero(self.bandwidth)} links{notes}>"

    def axis(self, name: str) -> int:
        """Return the index of an axis. Raise TopologyError if no axis has that name."""
        if name not in self.axes:
            raise TopologyError(f"there is no axis {name!r}; the axes are {', '.join(self.axes)}")
        return self.axes.index(name)

    def length(self, axis: str | int) -> int:
        """Return the number of chips along an axis, given by name or index."""
        return self.shape[self.axis(axis) if isinstance(axis, str) else axis]

    def extremes(self, axis: str) -> Extremes:
        """Return the slowest and fastest of an axis' links. Raise TopologyError if no axis has that name."""
        at = self.axis(axis)
        there = self.bandwidth[at] > 0
        rate, late = self.bandwidth[at][there], self.latency[at][there]
        if not rate.size:
            return Extremes(np.inf, np.inf, 0.0, 0.0)
        return Extremes(float(rate.min()), float(rate.max()), float(late.min()), float(late.max()))

    def index(self, coordinate: Sequence[int]) -> int:
        """Return the index of a chip. Raise TopologyError if it is outside."""
        return chip_index(coordinate, dict(zip(self.axes, self.shape, strict=True)))

    def links(self) -> tuple[Indices, Indices, Indices]:
        """Return the axis, the sign index and the chip index of each link that exists, sorted so."""
        axis, sign, chip = np.nonzero(self.bandwidth)
        return axis, sign, chip

    def edge(self, axis: int, sign: int, chip: int) -> tuple[Coordinate, Coordinate]:
        """Return a link as an edge of the topology. Raise TopologyError if there is none."""
        if not self.bandwidth[axis, sign, chip]:
            raise TopologyError(f"chip {self.chips[chip]} has no {'+-'[sign]} link on axis {self.axes[axis]}")
        return self.chips[chip], self.chips[self.receiver[axis, sign, chip]]


def grid(topology: nx.DiGraph) -> Grid:
    """Return a topology as a grid.

    Raise TopologyError if it breaks the contract of a topology, or if a link inside an axis is missing.
    """
    links = read_links(topology)
    shape = tuple(links.axes.values())
    bandwidth = np.zeros((len(shape), 2, len(links.chips)))
    latency = np.zeros_like(bandwidth)
    bandwidth[links.axis, links.sign, links.source] = links.bandwidth
    latency[links.axis, links.sign, links.source] = links.latency
    receiver = receivers(shape)
    wraparound = wraparounds(shape)

    lengths = np.array(shape)[:, None, None]
    missing = (bandwidth == 0) & (lengths > 1)  # so far with the ends of axes of length 2
    _refuse_gaps(links, missing & ~wraparound, receiver)
    ring, notes = [], []
    for axis, name in enumerate(links.axes):
        gaps = missing[axis] & wraparound[axis]  # (2, chips)
        ring.append(shape[axis] > 2 and not gaps.any())
        if shape[axis] > 2 and 0 < gaps.sum() < wraparound[axis].sum():
            sign, chip = np.argwhere(gaps)[0]
            notes.append(f"axis {name} is taken as a line, without wraparounds: of its {wraparound[axis].sum()} "
                         f"{gaps.sum()} are missing, such as {links.chips[chip]} -> "
                         f"{links.chips[receiver[axis, sign, chip]]}")
            bandwidth[axis][wraparound[axis]] = 0.0
            latency[axis][wraparound[axis]] = 0.0
    for array in (bandwidth, latency, receiver):
        array.flags.writeable = False
    return Grid(tuple(links.axes), shape, tuple(ring), bandwidth, latency, receiver, links.chips, tuple(notes))


def receivers(shape: Sequence[int]) -> Indices:
    """Return the chip after and before each chip on each axis, going round, of shape (axes, 2, chips)."""
    at = coordinates(shape)
    number = np.arange(at.shape[1])
    lengths = np.array(shape)[:, None]
    strides = np.array([prod(shape[axis + 1:]) for axis in range(len(shape))])[:, None]
    after = number + strides * ((at + 1) % lengths - at)
    before = number + strides * ((at - 1) % lengths - at)
    return np.stack([after, before], axis=1)


def wraparounds(shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return where a link would go round the end of its axis, of shape (axes, 2, chips).

    True also for axes of length 1 and 2, which have no such links.
    """
    at = coordinates(shape)
    last = np.array(shape)[:, None] - 1
    return np.stack([at == last, at == 0], axis=1)


def _refuse_gaps(links: Links, gaps: npt.NDArray[np.bool_], receiver: Indices) -> None:
    """Raise TopologyError if any of the links (axes, 2, chips) inside an axis is missing."""
    if gaps.any():
        axis, sign, chip = np.argwhere(gaps)[0]
        raise TopologyError(
            f"axis {list(links.axes)[axis]} has no link {links.chips[chip]} -> "
            f"{links.chips[receiver[axis, sign, chip]]} ({gaps.sum()} such in all): "
            "a missing link inside an axis needs detours, which are not there yet; add it")
