"""Charts of measured and computed points: scales, a frame with a grid, curves, markers, and labels without overlaps.

Pixels of a page, y downwards. A marker has a white edge and lies above earlier ones, so that overlapping markers stay distinct.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import ceil, floor, hypot, isfinite, log10

import numpy as np

from torussim.plot.canvas import FAINT, INK, NORMAL, Canvas
from torussim.timeline import Array

GRID_COLOUR = "#E4E4E4"
CIRCLE = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 24, endpoint=False)])
TRIANGLE = 1.2 * np.array([(0.0, -1.0), (0.87, 0.6), (-0.87, 0.6)])
SQUARE = 0.87 * np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
DIAMOND = 1.2 * np.array([(0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)])
AROUND = [(reach * x, reach * y) for reach in (1.0, 1.6, 2.4, 3.4)
          for x, y in ((1, 0), (0.7, -0.7), (0.7, 0.7), (0, -1), (0, 1), (-0.7, -0.7), (-0.7, 0.7), (-1, 0))]

Point = tuple[float, float]
Box = tuple[float, float, float, float]  # x0, x1, y0, y1


@dataclass(frozen=True)
class Scale:
    """A map from values to pixels, logarithmic or linear; `every` is the step between the ticks of a linear scale."""

    low: float
    high: float
    start: float  # pixel of `low`
    end: float
    log: bool = True
    every: float = 0.2

    def __call__(self, value: float) -> float:
        """Return the pixel of a value."""
        low, high, value = (log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return 1, 2 and 5 times each power of ten (only powers if there are many), or the multiples of `every`."""
        if self.log:
            digits = (1, 2, 5) if self.high / self.low < 1e5 else (1,)
            powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            values = [digit * 10.0**power for power in powers for digit in digits]
        else:
            values = [self.every * i for i in range(ceil(self.low / self.every - 1e-9), floor(self.high / self.every + 1e-9) + 1)]
        return [v for v in values if self.low <= v * (1 + 1e-9) and v <= self.high * (1 + 1e-9)]


def round_step(length: float, count: int) -> float:
    """Return 1, 2 or 5 times a power of ten, such that at most `count` of them make up a length above 0.

    >>> round_step(0.034, 8)
    0.005
    """
    assert length > 0 and isfinite(length)
    power = 10.0 ** floor(log10(length / count))
    return next(digit * power for digit in (1, 2, 5, 10) if digit * power * count >= length * (1 - 1e-9))


@dataclass
class Chart:
    """One panel. Items are drawn on the canvas at once, labels only by `place`."""

    canvas: Canvas
    across: Scale
    up: Scale
    top: int = 3  # the next free layer
    taken: list[Box] = field(default_factory=list)  # the places where no label may be
    curves: list[tuple[Point, Point]] = field(default_factory=list)
    labels: list[tuple[Point, str, str]] = field(default_factory=list)

    def pixels(self, point: Point) -> Point:
        """Return the pixel position of a pair of values."""
        return self.across(point[0]), self.up(point[1])

    def grid(self, label: str, write: Callable[[float], str], *, across: Sequence[float] | None = None,
             up: Sequence[float] | None = None) -> None:
        """Draw the grid, write the vertical axis, and its name above its upper end; `across`, `up`: other ticks."""
        left, right = self.across.start, self.across.end
        for tick in self.across.ticks() if across is None else across:
            self.canvas.line(self.across(tick), self.up.start, self.across(tick), self.up.end, GRID_COLOUR, layer=0)
        for tick in self.up.ticks() if up is None else up:
            self.canvas.line(left, self.up(tick), right, self.up(tick), GRID_COLOUR, layer=0)
            self.canvas.text(left - 8, self.up(tick), write(tick), align="right")
        self.canvas.line(left, self.up.start, left, self.up.end, FAINT)
        self.canvas.line(left, self.up.start, right, self.up.start, FAINT)
        self.canvas.text(left + 8, self.up.end - 12, label, bold=True)

    def below(self, label: str, write: Callable[[float], str], ticks: Sequence[float] | None = None) -> None:
        """Write the horizontal axis and its name."""
        for tick in self.across.ticks() if ticks is None else ticks:
            self.canvas.text(self.across(tick), self.up.start + 14, write(tick), align="center")
        self.canvas.text((self.across.start + self.across.end) / 2, self.up.start + 38, label, align="center")

    def curve(self, points: Sequence[Point], colour: str, *, width: float = 1.8, dashes: str = "solid") -> None:
        """Draw straight lines between successive points."""
        places = [self.pixels(point) for point in points]
        for a, b in pairwise(places):
            self.canvas.line(*a, *b, colour, layer=2, width=width, dashes=dashes)
            self.curves.append((a, b))

    def mark(self, point: Point, marker: Array, colour: str, *, name: str, size: float = 7.0, hollow: bool = False) -> None:
        """Draw a marker; a hollow one is white inside."""
        x, y = self.pixels(point)
        self.top = mark(self.canvas, x, y, marker, colour, name=name, size=size, hollow=hollow, layer=self.top)
        self.taken.append((x - size, x + size, y - size, y + size))

    def label(self, point: Point, text: str, colour: str = INK) -> None:
        """Queue a text beside a point for `place`."""
        self.labels.append((self.pixels(point), text, colour))

    def place(self, size: float = NORMAL) -> None:
        """Write the labels in order, each at the nearest place beside its point with the least overlap."""
        for (x, y), text, colour in self.labels:
            wide, high = self.canvas.measure(text, size) / 2, 0.62 * size
            boxes = [_beside(x, y, across, up, wide, high) for across, up in AROUND]
            best = min(range(len(boxes)), key=lambda i: (self._meets(boxes[i]), i))
            self.taken.append(boxes[best])
            x0, x1, y0, y1 = boxes[best]
            self.canvas.text((x0 + x1) / 2, (y0 + y1) / 2, text, size=size, colour=colour, align="center")

    def _meets(self, box: Box) -> int:
        """Return the penalty of a place for a text: outside the panel, on markers and texts, on curves."""
        x0, x1, y0, y1 = box
        out = x0 < self.across.start or x1 > self.across.end or y0 < self.up.end or y1 > self.up.start
        hit = sum(x0 < b and a < x1 and y0 < d and c < y1 for a, b, c, d in self.taken)
        return 100 * out + 10 * hit + sum(_crosses(a, b, box) for a, b in self.curves)


@dataclass(frozen=True)
class Entry:
    """A line of a legend: a piece of curve, a marker, or both, and their meaning."""

    name: str
    colour: str
    marker: Array | None = None
    dashes: str = ""  # no curve if empty
    hollow: bool = False


def legend(canvas: Canvas, x: float, y: float, entries: Sequence[Entry], width: float) -> float:
    """Write a legend from (x, y) to the right, in as many rows as needed. Return its lower end."""
    at = x
    for entry in entries:
        before = 40 if entry.dashes else 24
        wide = before + canvas.measure(entry.name, NORMAL) + 22
        if at > x and at + wide > x + width:
            at, y = x, y + 22
        if entry.dashes:
            canvas.line(at, y, at + 32, y, entry.colour, layer=2, width=1.8, dashes=entry.dashes)
        if entry.marker is not None:
            mark(canvas, at + before / 2 - 4, y, entry.marker, entry.colour, name=entry.name, size=6, hollow=entry.hollow)
        canvas.text(at + before, y, entry.name)
        at += wide
    return y + 12


def mark(canvas: Canvas, x: float, y: float, marker: Array, colour: str, *, name: str, size: float = 7.0, hollow: bool = False,
         layer: int = 3) -> int:
    """Draw a marker at a place of the page, on two or three layers. Return the next free layer."""
    looks = [(size + 1.5, "#FFFFFF", f"edge of {name}"), (size, colour, name)]
    looks += [(size - 2.2, "#FFFFFF", f"inside of {name}")] if hollow else []
    for number, (radius, shade, what) in enumerate(looks):
        canvas.shape(np.array([[x, y]]) + radius * marker[None], shade, name=what, layer=layer + number)
    return layer + len(looks)


def _beside(x: float, y: float, across: float, up: float, wide: float, high: float) -> Box:
    """Return the box of a text with the given half width and half height, in a direction from a point."""
    far = hypot(across, up)
    middle_x = x + across * 11 + (across / far) * wide
    middle_y = y + up * 11 + (up / far) * high
    return middle_x - wide - 1, middle_x + wide + 1, middle_y - high, middle_y + high


def _crosses(a: Point, b: Point, box: Box) -> bool:
    """Return whether a straight line crosses a box."""
    x0, x1, y0, y1 = box
    since, until = 0.0, 1.0
    for start, end, low, high in ((a[0], b[0], x0, x1), (a[1], b[1], y0, y1)):
        if start == end:
            if not low <= start <= high:
                return False
            continue
        one, other = sorted(((low - start) / (end - start), (high - start) / (end - start)))
        since, until = max(since, one), min(until, other)
    return since <= until
