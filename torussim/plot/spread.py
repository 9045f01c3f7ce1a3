"""A network with freely placed nodes, joined by straight links: the common part of trees, groups and circles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from torussim.plot.network import LinkPicture
from torussim.timeline import Array

MOST = 4000  # links; more would fill the picture


@dataclass(frozen=True)
class Box:
    """A box around a group: its corners, and its name with the middle of the name, pixels."""

    x0: float
    y0: float
    x1: float
    y1: float
    name: str
    x: float
    y: float

    def moved(self, x: float, y: float) -> Box:
        """Return the box moved to the right and down."""
        return Box(self.x0 + x, self.y0 + y, self.x1 + x, self.y1 + y, self.name, self.x + x, self.y + y)


@dataclass(frozen=True, eq=False)
class Spread:
    """The places of the nodes of a network, pixels, y downwards from the top left corner of the picture.

    `out` has the direction of each node's name, (nodes, 2); `named` says which nodes have a name, (nodes,).
    """

    links: LinkPicture
    centres: Array  # (nodes, 2)
    half: float  # half the side of a chip
    sizes: Array  # half the side of each node, (nodes,)
    pitch: float  # sets the thickness of links, like the distance between chips in a slice
    width: float
    height: float
    out: Array
    named: Array
    boxes: Sequence[Box] = ()
    turned: bool = False  # the names of chips run upwards

    def moved(self, x: float, y: float) -> Spread:
        """Return the network with its top left corner at (x, y)."""
        return replace(self, centres=self.centres + np.array([x, y]), boxes=[box.moved(x, y) for box in self.boxes])

    def lines(self, which: Array) -> tuple[Array, Array, Array]:
        """Return the starts and ends of links, each (links, 2), and that each ends at its target node."""
        ends = self.links.ends
        start, end = self.centres[ends.source[which]], self.centres[ends.target[which]]
        between = end - start
        way = between / np.maximum(np.hypot(*between.T), 1e-9)[:, None]
        slant = np.maximum(np.abs(way).max(axis=1), 1e-9)
        edges = [way * (self.sizes[node[which]] / slant + 0.5)[:, None] for node in (ends.source, ends.target)]
        return start + edges[0], end - edges[1], np.ones(len(start), bool)


def drawn(links: LinkPicture) -> Array:
    """Return the links to draw, dead ones last: all, or the busiest and those with a mark."""
    live, count = len(links.source), len(links.ends.source)
    if live <= MOST:
        return np.arange(count)
    chosen = set(np.argsort(-links.busy, kind="stable")[:MOST].tolist())
    chosen |= {int(i) for i in links.busiest} | set(np.flatnonzero(links.slow)[:MOST].tolist())
    return np.array([*sorted(chosen), *range(live, count)], np.intp)
