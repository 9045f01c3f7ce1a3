"""A network of axes cut into slices: the slices that are shown, and the places of their chips and links.

A panel has a piece of a slice, with the first two axes to the right and up. A link along another axis is a short diagonal arrow
out of its chip. A link that leaves the panel, such as a wraparound, is a short arrow out of the border. Each link is thus drawn
once, at the chip that it leaves.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, cos, pi, prod, radians, sin

import numpy as np

from torussim.plot.network import LinkPicture
from torussim.timeline import Array

LONGEST, SHORTER, MANY = 32, 16, 1024  # chips of an axis in one panel; the second applies above MANY chips
STUB = 21  # pixels, a wraparound's arrow


@dataclass(frozen=True, eq=False)
class Cut:
    """The panels of a network, numbered, and the panels that are shown."""

    links: LinkPicture
    flat: tuple[int, ...]  # the axes to the right and up
    deep: tuple[int, ...]  # the other axes
    sizes: tuple[int, ...]  # of a panel, along flat
    grid: tuple[int, ...]  # panels: along deep, then from top to bottom, then to the right
    panel: Array  # (chips,) the number of each chip's panel
    shown: Array  # panels, ascending
    hidden: int  # panels with odd links that are hidden

    @cached_property
    def slot(self) -> Array:
        """The place of each chip's panel among the shown ones, -1 if it is hidden."""
        place = np.full(prod(self.grid), -1)
        place[self.shown] = np.arange(len(self.shown))
        return np.asarray(place[self.panel])

    def parts(self, panel: int) -> tuple[dict[int, int], list[int]]:
        """Return a panel's coordinate on each deep axis, and its start on each flat axis."""
        at = [int(i) for i in np.unravel_index(panel, self.grid)]
        tiles = [at[-1], self.grid[-2] - 1 - at[-2]][:len(self.flat)]
        return (dict(zip(self.deep, at[:len(self.deep)], strict=True)),
                [tile * size for tile, size in zip(tiles, self.sizes, strict=True)])

    def title(self, panel: int) -> str:
        """Return the title of a panel: "z = 1", and the range of coordinates if slices are cut."""
        names, (deep, starts) = list(self.links.axes), self.parts(panel)
        said = [f"{names[axis]} = {c}" for axis, c in deep.items()]
        for axis, start, size in zip(self.flat, starts, self.sizes, strict=True):
            if size < self.links.lengths[axis]:
                said.append(f"{names[axis]} {start} to {min(start + size, self.links.lengths[axis]) - 1}")
        return ", ".join(said)


def cut(links: LinkPicture) -> Cut:
    """Return the panels of a network: all, or, if they are too many, those with the busiest, dead and slow links.

    Every panel with one of the busiest links is shown, then other panels in the order of their number of odd links.
    """
    lengths = links.lengths
    live = [axis for axis, length in enumerate(lengths) if length > 1]
    flat, deep = tuple(live[:2]), tuple(live[2:])
    # Pieces of a slice are as equal as possible: 36 chips are 18 and 18.
    longest = SHORTER if len(live) > 1 and links.chips > MANY else LONGEST
    tiles = [ceil(lengths[axis] / longest) for axis in flat]
    sizes = tuple(ceil(lengths[axis] / count) for axis, count in zip(flat, tiles, strict=True))
    tiles = [ceil(lengths[axis] / size) for axis, size in zip(flat, sizes, strict=True)]
    across, down = [*tiles, 1, 1][:2]
    grid = (*(lengths[axis] for axis in deep), down, across)
    panel = np.zeros(links.chips, np.intp)
    for axis in deep:
        panel = panel * lengths[axis] + links.at[axis]
    at = [links.at[axis] // size for axis, size in zip(flat, sizes, strict=True)]
    panel = panel * down + (down - 1 - at[1] if len(at) > 1 else 0)
    panel = panel * across + (at[0] if at else 0)

    total, area = prod(grid), prod(sizes)
    most = 16 if area <= 16 else 8
    odd = np.concatenate([links.slow, np.ones(len(links.dead), bool)])
    counts = np.bincount(panel[links.ends.source[odd]], minlength=total)
    shown = np.arange(total)
    if total > most:
        busiest = np.unique(panel[links.ends.source[np.array(links.busiest, np.intp)]])
        order = [p for p in np.argsort(-counts, kind="stable") if counts[p] and p not in busiest]
        shown = np.array(sorted([*busiest, *order[:max(0, most - len(busiest))]]), np.intp)
        shown = shown if len(shown) else np.arange(most)
    hidden = int(np.count_nonzero(counts)) - int(np.count_nonzero(counts[shown]))
    return Cut(links, flat, deep, sizes, grid, panel, shown, hidden)


def directions(cut: Cut) -> Array:
    """Return the direction of each axis' + links in the picture, (axes, 2), pixels, y downwards."""
    found = np.zeros((len(cut.links.lengths), 2))
    for axis, way in zip(cut.flat, ((1, 0), (0, -1)), strict=False):
        found[axis] = way
    each = ceil(len(cut.deep) / 2)  # in the upper right quadrant, then in the upper left one
    for i, axis in enumerate(cut.deep):
        rows = each if i < each else len(cut.deep) - each
        angle = radians(90 * (i // each) + 90 * (i % each + 1) / (rows + 1))
        found[axis] = (cos(angle), -sin(angle))
    return found


@dataclass(frozen=True, eq=False)
class Place:
    """The places of the shown panels: `origins` (panels, 2), the centre of the lower left chip of each; pixels."""

    cut: Cut
    pitch: float
    origins: Array

    @property
    def links(self) -> LinkPicture:
        """The links that are drawn."""
        return self.cut.links

    @property
    def half(self) -> float:
        """Half the side of a chip."""
        return float(np.clip(0.17 * self.pitch, 2.5, 9))

    @cached_property
    def centres(self) -> Array:
        """The chips' centres, (chips, 2); for hidden chips the values have no meaning."""
        cut = self.cut
        within = np.zeros((cut.links.chips, 2))
        for i, (axis, size) in enumerate(zip(cut.flat, cut.sizes, strict=True)):
            within[:, i] = cut.links.at[axis] % size * (1, -1)[i] * self.pitch
        return np.asarray(self.origins[cut.slot] + within)

    def lines(self, which: Array) -> tuple[Array, Array, Array]:
        """Return the starts and ends of links, each (links, 2), and whether each ends at its target chip."""
        cut, ends = self.cut, self.cut.links.ends
        source, target, axis = ends.source[which], ends.target[which], ends.axis[which]
        way = directions(cut)[axis] * np.where(ends.sign[which], -1, 1)[:, None]
        way[axis < 0] = (cos(pi / 9), sin(pi / 9))
        inside = (cut.slot[source] == cut.slot[target]) & ~ends.wraparound[which]
        between = self.centres[target] - self.centres[source]
        length = np.hypot(*between.T)
        inside &= length > 0
        free = inside & (axis < 0)
        way[free] = between[free] / length[free, None]
        flat = np.isin(axis, cut.flat)
        short = np.where(flat, STUB, np.clip(0.3 * self.pitch, 6, 15))
        edge = self.half / np.abs(way).max(axis=1) + 0.5
        start = self.centres[source] + way * edge[:, None]
        end = np.where(inside[:, None], self.centres[target] - way * edge[:, None], start + way * short[:, None])
        return start, end, inside
