"""The shapes of links and their marks, as polygons: arrows, cuts of slow links, crosses of dead ones, numbers of the busiest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import cos, pi, sin

import numpy as np

from torussim.plot.canvas import FAINT, INK, Canvas
from torussim.timeline import Array

DEAD = "#C00000"
RADIUS = 8.0  # of a number's disc
NUMBER = 7.5  # points
# Penalties of a number: for covering a chip or a link, up to a maximum, or for not standing beside its link; half pixels.
ON_CHIP, ON_LINK, MANY, FAR = 45.0, 14.0, 3, 12.0
RINGS = tuple(range(20, 200, 6))  # distances of the places that are tried, pixels


@dataclass(frozen=True)
class Pen:
    """The thickness of links, pixels: shaft, width of the head beyond it, length of the head, half the gap between directions."""

    shaft: float
    barb: float
    head: float
    gap: float

    def thinner(self, by: float) -> Pen:
        """Return a pen with this share of the width."""
        return Pen(self.shaft * by, self.barb * by, self.head * max(by, 0.6), self.gap * by)

    @classmethod
    def of(cls, pitch: float) -> Pen:
        """Return the pen for links of about this length."""
        return cls(float(np.clip(0.075 * pitch, 1.7, 3.6)), float(np.clip(0.06 * pitch, 1.6, 3.4)),
                   float(np.clip(0.17 * pitch, 4, 9)), float(np.clip(0.016 * pitch, 0.4, 1)))


def frame(start: Array, end: Array) -> tuple[Array, Array, Array]:
    """Return direction, normal to the right (y downwards) and length of lines; the directions of one link keep to the right."""
    between = end - start
    length = np.hypot(*between.T)
    way = between / np.maximum(length, 1e-9)[:, None]
    return way, np.stack([-way[:, 1], way[:, 0]], axis=1), length


def polygons(start: Array, end: Array, corners: Sequence[tuple[Array | float, Array | float]]) -> Array:
    """Return a polygon for each line, (lines, corners, 2); its corners are given as (along, to the right), pixels."""
    way, right, length = frame(start, end)
    points = [start + way * np.broadcast_to(u, length.shape)[:, None] + right * np.broadcast_to(v, length.shape)[:, None]
              for u, v in corners]
    return np.stack(points, axis=1) if len(start) else np.empty((0, len(corners), 2))


def arrows(start: Array, end: Array, pen: Pen) -> Array:
    """Return half an arrow for each line, to the right of it, so that the left has room for the other direction."""
    length = frame(start, end)[2]
    neck = np.maximum(length - pen.head, 0.35 * length)
    top = pen.gap + pen.shaft
    return polygons(start, end, [(0.0, pen.gap), (length, pen.gap), (neck, top + pen.barb), (neck, top), (0.0, top)])


def slow(canvas: Canvas, start: Array, end: Array, pen: Pen) -> None:
    """Cut the shafts of links into dashes."""
    length = frame(start, end)[2]
    neck = np.maximum(length - pen.head, 0.35 * length)
    wide = np.clip(0.08 * neck, 0.7, 1.2)  # half of a cut
    low, high = pen.gap - 0.5, pen.gap + pen.shaft + 0.5
    count = 1 + (neck >= 8) + (neck >= 12) + np.maximum(0, neck // 12 - 3).astype(int)  # a short arrow has one or two cuts
    for i in range(int(count.max(initial=0))):
        some = count > i
        middle = (neck * (i + 1) / (count + 1))[some]
        a, b = middle - wide[some], middle + wide[some]
        canvas.shape(polygons(start[some], end[some], [(a, low), (b, low), (b, high), (a, high)]), "white", name="slow", layer=3)


def dead(canvas: Canvas, start: Array, end: Array, pen: Pen) -> None:
    """Draw a cross near the start of each dead link, and dots along its line."""
    length = frame(start, end)[2]
    low, high = pen.gap, pen.gap + max(1.4, pen.shaft / 2)
    for at in np.arange(2.0, length.max(initial=0.0), 6.0).tolist():
        some, corners = length > at, [(at - 1, low), (at + 1, low), (at + 1, high), (at - 1, high)]
        canvas.shape(polygons(start[some], end[some], corners), DEAD, name="dead lines", layer=3)
    way, right, _ = frame(start, end)
    arm = float(np.clip(1.3 * pen.shaft, 3, 4.6))
    middle = start + way * np.minimum(0.33 * length, 8)[:, None] + right * (pen.gap + pen.shaft * 0.7)
    for colour, extra, layer in (("white", 1.2, 3), (DEAD, 0.0, 4)):
        wide = arm * 0.3 + extra
        # A cross is one polygon of twelve corners: four diagonal arms.
        tip, quarter = arm + extra, np.array([[0, -1], [1, 0]])
        one = np.array([(wide, wide), (tip, wide), (tip, -wide)])
        around = np.concatenate([one @ np.linalg.matrix_power(quarter, turns) for turns in range(4)])
        turned = around @ np.array([[cos(pi / 4), sin(pi / 4)], [-sin(pi / 4), cos(pi / 4)]])
        canvas.shape(middle[:, None] + turned, colour, name="dead" if colour == DEAD else "dead, back", layer=layer)


def discs(centres: Array, radius: float | Array, corners: int = 24) -> Array:
    """Return circles as polygons, (circles, corners, 2)."""
    angles = np.arange(corners) * 2 * pi / corners
    return np.asarray(np.reshape(centres, (-1, 1, 2)) + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1))


def squares(centres: Array, half: float) -> Array:
    """Return squares as polygons, (squares, 4, 2)."""
    return np.asarray(np.reshape(centres, (-1, 1, 2)) + half * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]))


def number(canvas: Canvas, x: float, y: float, text: str) -> None:
    """Draw a number in a dark disc."""
    canvas.shape(discs(np.array([x, y]), RADIUS + 1), "white", name="number, back", layer=4)
    canvas.shape(discs(np.array([x, y]), RADIUS), INK, name="number", layer=4)
    canvas.text(x, y, text, size=NUMBER, colour="white", bold=True, align="center")


@dataclass
class Numbers:
    """Places for numbers: near their links, off texts, numbers and marked links, and if possible off chips and links."""

    canvas: Canvas
    pen: Pen
    chips: Array  # (chips, 2) centres
    half: float  # of a chip
    lines: tuple[Array, Array]  # (links, 2) the start and the end of each link
    marked: Array  # (links,) bool: dead or slow links, which no number may cover
    taken: Array  # (texts, 4) x0, y0, x1, y1
    placed: list[tuple[float, float]] = field(default_factory=list)

    def costs(self, points: Array) -> Array:
        """Return the penalty of a disc at each point, (points,): half pixels of distance; infinite where it is not allowed."""
        room = RADIUS + 1.5
        x, y = points[:, 0, None], points[:, 1, None]
        x0, y0, x1, y1 = self.taken.reshape(-1, 4).T
        never = ((x0 - room < x) & (x < x1 + room) & (y0 - room < y) & (y < y1 + room)).any(axis=1)
        for a, b in self.placed:
            never |= np.hypot(points[:, 0] - a, points[:, 1] - b) <= 2 * room
        reach = np.array([[room + 10], [-room - 10]])  # nothing is covered beyond this distance
        low, high = (np.sort(np.stack(self.lines), axis=0)[i] for i in (0, 1))
        near = np.flatnonzero(((low < points.max(axis=0) + reach[0]) & (high > points.min(axis=0) + reach[1])).all(axis=1))
        start, end = (ends[near] for ends in self.lines)
        aside = frame(start, end)[1] * (self.pen.gap + self.pen.shaft / 2)
        far = distances(points, start + aside, end + aside) - RADIUS
        marked, wide = self.marked[near], 1 + self.pen.shaft / 2 + self.pen.barb
        never |= (far[:, marked] < wide).any(axis=1)
        on_chips = (np.abs(self.chips - points[:, None]).max(axis=2) < self.half + RADIUS).any(axis=1)
        on_links = np.minimum((far[:, ~marked] < self.pen.shaft / 2).sum(axis=1), MANY)
        return np.where(never, np.inf, ON_CHIP * on_chips + ON_LINK * on_links)

    def add(self, rank: int, start: Array, end: Array) -> bool:
        """Draw the number of a link beside it, otherwise as near as possible with a line to it. Return whether there is room."""
        pen, (way,), (right,), (length,) = self.pen, *frame(start[None], end[None])
        out = pen.gap + pen.shaft + pen.barb + RADIUS + 1.5
        near = [start + way * length * u + right * v for v in (out, out + 4) for u in (0.5, 0.35, 0.65, 0.2, 0.8, 1.0, 0.1, 0.9)]
        if length < 16 and np.abs(way).min() > 0.1:  # a diagonal arrow has the other links of its chip beside it
            near.insert(0, start + way * (length + RADIUS + 2))
        anchor = start + way * length / 2 + right * (pen.gap + pen.shaft / 2)
        circle = np.stack([np.cos(np.arange(16) * pi / 8), np.sin(np.arange(16) * pi / 8)], axis=1)
        least, at = np.inf, anchor
        for points, more in [(np.array(near), 0.5 * np.arange(len(near))), *((anchor + d * circle, FAR) for d in RINGS)]:
            costs = 2 * distances(points, start[None], end[None])[:, 0] + more
            if costs.min() < least:
                costs += self.costs(points)
                if costs.min() < least:
                    least, at = float(costs.min()), points[costs.argmin()]
        if not np.isfinite(least):
            return False
        x, y = at.tolist()
        along = float(np.clip((at - start) @ way, 0.15 * length, 0.85 * length))
        to = start + way * along + right * (pen.gap + pen.shaft / 2)
        if np.hypot(*(at - to)) > RADIUS + 12:
            self.canvas.line(float(to[0]), float(to[1]), x, y, INK, layer=4)
        self.placed.append((x, y))
        number(self.canvas, x, y, str(rank))
        return True


def distances(points: Array, start: Array, end: Array) -> Array:
    """Return the distances of points from line segments, (points, lines)."""
    along = end - start
    offset = points[:, None] - start
    share = np.clip((offset * along).sum(axis=2) / np.maximum((along ** 2).sum(axis=1), 1e-9), 0.0, 1.0)
    return np.asarray(np.hypot(*np.moveaxis(offset - share[..., None] * along, 2, 0)))


def boxes(canvas: Canvas) -> Array:
    """Return the boxes of all texts of a canvas, (texts, 4): x0, y0, x1, y1."""
    found = []
    for text in canvas.texts:
        wide, high = canvas.measure(text["s"], text["fontsize"], text["fontweight"] == "bold"), text["fontsize"] * 1.7
        if text["turned"]:
            found.append((text["x"] - high / 2, text["y"] - wide / 2, text["x"] + high / 2, text["y"] + wide / 2))
            continue
        left = text["x"] - {"left": 0.0, "center": wide / 2, "right": wide}[text["ha"]]
        found.append((left, text["y"] - high / 2, left + wide, text["y"] + high / 2))
    return np.array(found).reshape(-1, 4)


def chips(canvas: Canvas, centres: Array, half: float) -> None:
    """Draw chips."""
    canvas.shape(squares(centres, half), FAINT, name="chips")
