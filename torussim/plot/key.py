"""The key of a picture of links: its faults by name, the scale of colours, the marks, and the table of the busiest links."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from torussim.plot import marks
from torussim.plot.canvas import FAINT, INK, NORMAL, SMALL, Canvas, shades
from torussim.plot.labels import percent, short
from torussim.plot.marks import Pen
from torussim.plot.network import LinkPicture
from torussim.plot.slices import cut, directions
from torussim.timeline import Array
from torussim.units import show

PEN = Pen.of(40)
UNKNOWN = (0.83, 0.83, 0.83, 1.0)  # the colour of a link whose share is unknown
FAULTS = 4  # faults that are named
TOPS = (0.01, 0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 4.0, 10.0)


def top_share(links: LinkPicture) -> float:
    """Return the share at the dark end of the scale: a round number, at least the busiest link's unless that is far above 1."""
    most = float(np.max(links.busy[np.isfinite(links.busy)], initial=0.0))
    return next((top for top in TOPS if 0 < most <= top), TOPS[-1] if most > 1 else 1.0)


def colours(links: LinkPicture, which: Array) -> Array:
    """Return the colours of some links, (links, 4)."""
    found = shades(links.busy[which] / top_share(links))
    found[np.isnan(links.busy[which])] = UNKNOWN
    return found


def legend(canvas: Canvas, links: LinkPicture, x: float, y: float, right: float) -> float:
    """Name the faults, draw the scale and explain the marks in use, in rows up to `right`. Return the lower end."""
    y = faults(canvas, links.faults, x, y, right)
    wide, steps, top = 260.0, 52, top_share(links)
    edges = np.linspace(x, x + wide, steps + 1)
    bars = np.array([[(a, y + 2), (b + 0.3, y + 2), (b + 0.3, y + 14), (a, y + 14)] for a, b in pairwise(edges)])
    canvas.shape(bars, shades((np.arange(steps) + 0.5) / steps), name="scale")
    for tick in range(5):
        at, align = x + wide * tick / 4, ("left", "center", "center", "center", "right")[tick]
        canvas.text(at, y + 23, f"{100 * top * tick / 4:g} %", size=SMALL, colour=FAINT, align=align)
    left = x + wide + 16
    canvas.text(left, y + 8, links.what)
    at, row = left + canvas.measure(links.what, NORMAL) + 28, y + 8
    for text, glyph in glyphs(canvas, links):
        wide = canvas.measure(text, NORMAL)
        if at + 36 + wide > right:
            at, row = left, row + 22
        glyph(at, row)
        canvas.text(at + 36, row, text)
        at += 36 + wide + 24
    return max(y + 34, row + 20)


def faults(canvas: Canvas, named: Sequence[str], x: float, y: float, right: float) -> float:
    """Name faults, the most noticeable ones, from y downwards up to `right`. Return the lower end."""
    if not named:
        return y
    title = "fault:" if len(named) == 1 else f"{len(named):,} faults:"
    canvas.text(x, y + 6, title, colour=marks.DEAD, bold=True)
    left = x + canvas.measure(title, NORMAL, True) + 8
    lines = [*named[:FAULTS], *([f"and {len(named) - FAULTS:,} more"] if len(named) > FAULTS else [])]
    for line in (line for text in lines for line in canvas.wrapped(text, NORMAL, width=right - left)):
        canvas.text(left, y + 6, line)
        y += 18
    return y + 6


def glyphs(canvas: Canvas, links: LinkPicture) -> list[tuple[str, Callable[[float, float], None]]]:
    """Return each mark in use: its meaning, and a function that draws it, 30 pixels wide, from its left middle."""
    grey = "#777777"

    def arrow(x: float, y: float, to: tuple[float, float] = (28, 0), off: tuple[float, float] = (0, 0)) -> tuple[Array, Array]:
        start = np.array([[x + off[0], y + off[1]]])
        return start, start + to

    def pair(x: float, y: float) -> None:
        for start, end in (arrow(x, y), arrow(x, y, (-28, 0), (28, 0))):
            canvas.shape(marks.arrows(start, end, PEN), grey, name="key")

    def slow(x: float, y: float) -> None:
        start, end = arrow(x, y - 2)
        canvas.shape(marks.arrows(start, end, PEN), grey, name="key")
        marks.slow(canvas, start, end, PEN)

    def dead(x: float, y: float) -> None:
        marks.dead(canvas, *arrow(x, y - 2), PEN)

    def number(x: float, y: float) -> None:
        marks.number(canvas, x + 16, y, "1")

    found = list[tuple[str, Callable[[float, float], None]]]()
    if links.dead:
        found.append(("dead", dead))
    if links.slow.any():
        found.append(("slower than most of its axis" if links.is_grid else "slower than most", slow))
    found.append(("both directions of a link", pair))
    if links.is_grid:
        pieces = cut(links)
        ways = directions(pieces)

        def border(x: float, y: float) -> None:
            canvas.shape(marks.squares(np.array([x + 7, y]), 6), FAINT, name="key")
            canvas.shape(marks.arrows(*arrow(x, y, (15, 0), (14, 0)), PEN), grey, name="key")

        if (links.ends.wraparound & np.isin(links.ends.axis, pieces.flat)).any():
            found.append(("wraparound, to the other end", border))
        for axis in pieces.deep:
            def aslant(x: float, y: float, way: Array = ways[axis]) -> None:
                canvas.shape(marks.squares(np.array([x + 15, y]), 5), FAINT, name="key")
                edge = way * (5 / np.abs(way).max() + 0.5)
                for sign in (1, -1):
                    start = np.array([[x + 15, y]]) + sign * edge
                    canvas.shape(marks.arrows(start, start + sign * way * 8, PEN), grey, name="key")

            name = short(list(links.axes)[axis], 12)
            found.append((f"to {name}+1 (up) and {name}−1 (down)", aslant))
    if np.isnan(links.busy).any():
        def unknown(x: float, y: float) -> None:
            canvas.shape(marks.arrows(*arrow(x, y - 2), PEN), [UNKNOWN], name="key")

        found.append(("not known", unknown))
    if links.busiest:
        found.append((links.numbered, number))
    if links.nodes > links.chips:
        found.append(("switch", lambda x, y: canvas.shape(marks.discs(np.array([x + 16, y]), 5), INK, name="key")))
    return found


class Table:
    """The busiest links: from, to, use, bytes, bandwidth, and below or beside these the users of each link."""

    def __init__(self, canvas: Canvas, links: LinkPicture) -> None:
        self.canvas, self.head, self.note = canvas, links.head, links.beside
        self.rows = links.rows if links.rows is not None else [
                     (f"{short(links.name(int(links.source[i])), 24)} → {short(links.name(int(links.target[i])), 24)}",
                      percent(float(links.busy[i])), show(float(links.bytes[i]), "B"), show(float(links.bandwidth[i]), "B/s"))
                     for i in links.busiest]
        self.users = [*links.users, *[""] * len(self.rows)][:len(self.rows)]
        self.columns = [max(canvas.measure(text, SMALL, True) for text in column) + 14
                        for column in zip(links.head, *self.rows, strict=True)]

    @property
    def width(self) -> float:
        """The width of the table with users below their link, in one line unless that is too wide."""
        users = 24 + max((self.canvas.measure(users, SMALL) for users in self.users), default=0.0)
        return max(24 + sum(self.columns), min(max(330.0, users), 400.0)) if self.rows else 0.0

    def beside(self, width: float) -> bool:
        """Whether the users are beside their link in a table of this width."""
        return width > 24 + sum(self.columns) + 300

    def lines(self, width: float) -> list[list[str]]:
        """Return the users of each link, wrapped, at most two lines."""
        room = width - 24 - (sum(self.columns) + 20 if self.beside(width) else 0)
        found = []
        for users in self.users:
            lines = self.canvas.wrapped(users, SMALL, width=room)
            if len(lines) > 2:
                kept = lines[1]
                while kept and self.canvas.measure(kept + " …", SMALL) > room:
                    kept = kept.rpartition(" ")[0]
                lines = [lines[0], kept + " …"]
            found.append(lines)
        return found

    def heights(self, width: float) -> list[float]:
        """Return the height of each row."""
        lines = [len(said) for said in self.lines(width)]
        return [7 + 15.0 * max(1, count) if self.beside(width) else 22 + 14.0 * count for count in lines]

    def height(self, width: float) -> float:
        """Return the height of the table at this width."""
        return 34 + sum(self.heights(width)) if self.rows else 0.0

    def draw(self, x: float, y: float, right: float) -> float:
        """Draw the table from (x, y) to `right` at most. Return its lower end."""
        if not self.rows:
            return y
        canvas, wide = self.canvas, right - x if self.beside(right - x) else self.width
        wide = min(wide, right - x)
        ends = x + 24 + np.cumsum(self.columns)
        for column, name in enumerate(self.head):
            canvas.text(float(x + 24 if column == 0 else ends[column] - 4), y + 8, name, size=SMALL, bold=True,
                        align="left" if column == 0 else "right")
        if self.beside(wide):
            canvas.text(float(ends[-1] + 20), y + 8, self.note, size=SMALL, bold=True)
        y += 22
        canvas.line(x, y - 3, x + wide, y - 3, FAINT)
        for rank, (row, users, high) in enumerate(zip(self.rows, self.lines(wide), self.heights(wide), strict=True), start=1):
            marks.number(canvas, x + 9, y + 9, str(rank))
            for column, text in enumerate(row):
                canvas.text(float(x + 24 if column == 0 else ends[column] - 4), y + 9, text, size=SMALL,
                            align="left" if column == 0 else "right")
            for i, line in enumerate(users):
                at = (ends[-1] + 20, y + 9 + 14 * i) if self.beside(wide) else (x + 24, y + 23 + 14 * i)
                canvas.text(float(at[0]), float(at[1]), line, size=SMALL, colour=FAINT)
            y += high
        return y + 12
