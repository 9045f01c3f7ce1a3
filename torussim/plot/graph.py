"""A network without axes: its chips on a circle, its switches on one within, and straight links."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import pi

import numpy as np

from torussim.plot.network import LinkPicture
from torussim.timeline import Array

MOST = 4000  # links; more are a black disc


@dataclass(frozen=True, eq=False)
class Circle:
    """Where the nodes of a network lie, pixels."""

    links: LinkPicture
    middle: tuple[float, float]
    radius: float

    @property
    def pitch(self) -> float:
        """What gives links their thickness, as the pixels from a chip to the next do in a slice."""
        return min(32.0, 4 * pi * self.radius / max(self.links.chips, 3))

    @property
    def half(self) -> float:
        """Half a node's side."""
        return float(np.clip(0.4 * pi * self.radius / max(self.links.chips, 3), 1.5, 9))

    @cached_property
    def angles(self) -> Array:
        """Where each node lies on its circle, (nodes,), clockwise from the top.

        A switch lies near the mean of its neighbours' directions, those in one direction in the order of their numbers.
        """
        links = self.links
        found = np.arange(links.nodes) * 2 * pi / max(links.chips, 1)
        switches = links.nodes - links.chips
        if switches:
            onto = (links.ends.target >= links.chips) & (links.ends.source < links.chips)
            seen = np.exp(1j * found[links.ends.source[onto]])
            which = links.ends.target[onto] - links.chips
            total = np.bincount(which, seen.real, switches) + 1j * np.bincount(which, seen.imag, switches)
            wish = np.where(np.abs(total) > 1e-6, np.angle(total) % (2 * pi), 0.0).round(6)
            place = np.empty(switches)
            place[np.argsort(wish, kind="stable")] = (np.arange(switches) + 0.5) * 2 * pi / switches
            found[links.chips:] = place
        return found

    @cached_property
    def centres(self) -> Array:
        """The nodes' centres, (nodes, 2)."""
        radius = np.where(np.arange(self.links.nodes) < self.links.chips, 1.0, 0.55) * self.radius
        radius = radius if self.links.nodes > 1 else np.zeros(1)
        return np.stack([self.middle[0] + radius * np.sin(self.angles), self.middle[1] - radius * np.cos(self.angles)], axis=1)

    def lines(self, which: Array) -> tuple[Array, Array, Array]:
        """Return where links start and end, each (links, 2), and that each ends at the node that it leads to."""
        ends = self.links.ends
        start, end = self.centres[ends.source[which]], self.centres[ends.target[which]]
        between = end - start
        way = between / np.maximum(np.hypot(*between.T), 1e-9)[:, None]
        edge = way * (self.half / np.maximum(np.abs(way).max(axis=1), 1e-9) + 0.5)[:, None]
        return start + edge, end - edge, np.ones(len(start), bool)


def drawn(links: LinkPicture) -> Array:
    """Return the links to be drawn, dead ones last: all, or the busiest and those with a mark."""
    live, count = len(links.source), len(links.ends.source)
    if live <= MOST:
        return np.arange(count)
    chosen = set(np.argsort(-links.busy, kind="stable")[:MOST].tolist())
    chosen |= {int(i) for i in links.busiest} | set(np.flatnonzero(links.slow)[:MOST].tolist())
    return np.array([*sorted(chosen), *range(live, count)], np.intp)
