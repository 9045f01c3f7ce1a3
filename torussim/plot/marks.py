"""The looks of links and their marks, as polygons: arrows, cuts of slow links, crosses of dead ones, numbers of the busiest."""

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


@dataclass(frozen=True)
class Pen:
    """How thick links are, pixels: shaft, the head's width beyond it, the head's length, half the gap between directions."""

    shaft: float
    barb: float
    head: float
    gap: float

    def thinner(self, by: float) -> Pen:
        """Return a pen whose lines have this share of the width."""
        return Pen(self.shaft * by, self.barb * by, self.head * max(by, 0.6), self.gap * by)

    @classmethod
    def of(cls, pitch: float) -> Pen:
        """Return the pen for links of about this length."""
        return cls(float(np.clip(0.075 * pitch, 1.7, 3.6)), float(np.clip(0.06 * pitch, 1.6, 3.4)),
                   float(np.clip(0.17 * pitch, 4, 9)), float(np.clip(0.016 * pitch, 0.4, 1)))


def frame(start: Array, end: Array) -> tuple[Array, Array, Array]:
    """Return way, the normal to the right of it (y downwards), and length of lines; directions of one link keep right."""
    between = end - start
    length = np.hypot(*between.T)
    way = between / np.maximum(length, 1e-9)[:, None]
    return way, np.stack([-way[:, 1], way[:, 0]], axis=1), length


def polygons(start: Array, end: Array, corners: Sequence[tuple[Array | float, Array | float]]) -> Array:
    """Return a polygon for each line, (lines, corners, 2), its corners given as (along, to the right), pixels."""
    way, right, length = frame(start, end)
    points = [start + way * np.broadcast_to(u, length.shape)[:, None] + right * np.broadcast_to(v, length.shape)[:, None]
              for u, v in corners]
    return np.stack(points, axis=1) if len(start) else np.empty((0, len(corners), 2))


def arrows(start: Array, end: Array, pen: Pen) -> Array:
    """Return half an arrow for each line, to the right of it, so that the other direction has room to its left."""
    length = frame(start, end)[2]
    neck = np.maximum(length - pen.head, 0.35 * length)
    top = pen.gap + pen.shaft
    return polygons(start, end, [(0.0, pen.gap), (length, pen.gap), (neck, top + pen.barb), (neck, top), (0.0, top)])


def slow(canvas: Canvas, start: Array, end: Array, pen: Pen) -> None:
    """Cut the shafts of links, so that they look dashed."""
    length = frame(start, end)[2]
    neck = np.maximum(length - pen.head, 0.35 * length)
    wide = np.clip(0.08 * neck, 0.7, 1.2)  # half of a cut
    low, high = pen.gap - 0.5, pen.gap + pen.shaft + 0.5
    count = 1 + (neck >= 8) + (neck >= 12) + np.maximum(0, neck // 12 - 3).astype(int)  # a short arrow is cut once or twice
    for i in range(int(count.max(initial=0))):
        some = count > i
        middle = (neck * (i + 1) / (count + 1))[some]
        a, b = middle - wide[some], middle + wide[some]
        canvas.shape(polygons(start[some], end[some], [(a, low), (b, low), (b, high), (a, high)]), "white", name="slow", layer=3)


def dead(canvas: Canvas, start: Array, end: Array, pen: Pen) -> None:
    """Draw a cross near the start of each dead link, and dots where it would be."""
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
        # A cross is one polygon of twelve corners: four arms, aslant.
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
    """Places for numbers: near their links, not on a text, a chip or another number."""

    canvas: Canvas
    chips: Array  # (chips, 2) centres
    half: float  # of a chip
    taken: Array  # (texts, 4) x0, y0, x1, y1
    placed: list[tuple[float, float]] = field(default_factory=list)

    def free(self, x: float, y: float, crowded: bool) -> bool:
        """Whether a disc has room at (x, y); `crowded`: also on chips."""
        room = RADIUS + 1.5
        x0, y0, x1, y1 = self.taken.reshape(-1, 4).T
        if ((x0 - room < x) & (x < x1 + room) & (y0 - room < y) & (y < y1 + room)).any():
            return False
        if not crowded and (np.abs(self.chips - (x, y)).max(axis=1) < self.half + RADIUS).any():
            return False
        return all(np.hypot(x - a, y - b) > 2 * room for a, b in self.placed)

    def add(self, rank: int, start: Array, end: Array, pen: Pen) -> None:
        """Draw the number of a link beside it, else as near as there is room, with a line to it."""
        (way,), (right,), (length,) = frame(start[None], end[None])
        anchor = start + way * length / 2 + right * (pen.gap + pen.shaft / 2)
        out = pen.gap + pen.shaft + pen.barb + RADIUS
        near = [start + way * length * u + right * v for v in (out, out + 4) for u in (0.5, 0.35, 0.65, 0.2, 0.8, 1.0)]
        if length < 16 and np.abs(way).min() > 0.1:  # an arrow aslant: the other links of its chip are beside it
            near.insert(0, start + way * (length + RADIUS + 2))
        far = [anchor + d * np.array([cos(a), sin(a)]) for d in range(20, 200, 6) for a in np.arange(16) * pi / 8]
        # Where chips lie close, on one of them and beside the link is better than far away.
        tries = [(False, near), (False, far[:16]), (True, near), (True, far)]
        x, y = next((p for crowded, places in tries for p in places if self.free(p[0], p[1], crowded)), near[0])
        if np.hypot(x - anchor[0], y - anchor[1]) > RADIUS + 12:
            self.canvas.line(float(anchor[0]), float(anchor[1]), float(x), float(y), INK, layer=4)
        self.placed.append((float(x), float(y)))
        number(self.canvas, float(x), float(y), str(rank))


def boxes(canvas: Canvas) -> Array:
    """Return the boxes of all texts of a canvas, (texts, 4): x0, y0, x1, y1."""
    found = []
    for text in canvas.texts:
        wide, high = canvas.measure(text["s"], text["fontsize"], text["fontweight"] == "bold"), text["fontsize"] * 1.7
        left = text["x"] - {"left": 0.0, "center": wide / 2, "right": wide}[text["ha"]]
        found.append((left, text["y"] - high / 2, left + wide, text["y"] + high / 2))
    return np.array(found).reshape(-1, 4)


def chips(canvas: Canvas, centres: Array, half: float) -> None:
    """Draw chips."""
    canvas.shape(squares(centres, half), FAINT, name="chips")
