"""The page of a network in slices: the room of panels and table, and the texts around a panel's chips.

Pixels of a page 1200 wide, y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np

from torussim.plot.canvas import FAINT, INK, NORMAL, SMALL, Canvas
from torussim.plot.key import Table
from torussim.plot.labels import LEFT, RIGHT, WIDTH, short
from torussim.plot.network import LinkPicture, shift, twisted
from torussim.plot.slices import STUB, Cut, Place
from torussim.timeline import Array

PAGE, EDGE = float(LEFT + WIDTH + RIGHT), 12.0
TALLEST = 1500.0  # pixels of panels and table, if there is a choice
CLOSEST, WIDEST = 14.0, 64.0  # distance between neighbouring chips; the smallest only if there is a choice
TINY = 7.0  # points


@dataclass(frozen=True)
class Margins:
    """The room of a panel around its chips, pixels from the centres of the outermost chips."""

    left: float
    right: float
    top: float
    bottom: float
    title: float  # the widest title

    def width(self, chips: int, pitch: float) -> float:
        """Return the width of a panel."""
        return max((chips - 1) * pitch + self.left + self.right, self.title + 16)


@dataclass(frozen=True)
class Sheet:
    """The room of panels and table on the page."""

    columns: int
    pitch: float
    width: float  # of all panels
    height: float
    beside: bool  # whether the table is beside the panels


def around(canvas: Canvas, pieces: Cut) -> Margins:
    """Return the room of a panel for its title, coordinates, and outgoing arrows with their targets."""
    links, ends = pieces.links, pieces.links.ends
    sides = {(0, 0): 0.0, (0, 1): 0.0, (1, 0): 0.0, (1, 1): 0.0}  # (axis in the panel, sign)
    tiled = [size < links.lengths[axis] for axis, size in zip(pieces.flat, pieces.sizes, strict=True)]
    shown = pieces.slot[ends.source] >= 0
    for i, axis in enumerate(pieces.flat):
        for sign in (0, 1):
            out = np.flatnonzero(shown & ends.wraparound & (ends.axis == axis) & (ends.sign == sign))
            if len(out) or tiled[i]:
                sides[i, sign] = STUB
            lines = [shift(links, link) for link in twisted(links, out)]
            if lines and i == 0:
                sides[i, sign] += 6 + max(canvas.measure(line, TINY) for said in lines for line in said)
            elif lines:
                sides[i, sign] += 4 + 10 * max(len(said) for said in lines)
    written = [name(links, axis) for axis in pieces.flat] + [str(links.lengths[axis] - 1) for axis in pieces.flat]
    wide = max((canvas.measure(text, SMALL, True) for text in written), default=0.0)
    reach = {side: 11 + max(out, 11.0 if pieces.deep else 0.0) for side, out in sides.items()}  # from the centre of the chip
    row = 0.0 if len(pieces.flat) > 1 else 11.0  # a row has numbers above and below it
    return Margins(left=reach[0, 1] + wide + 14, right=reach[0, 0] + 12, top=reach[1, 0] + 26 + row,
                   bottom=reach[1, 1] + 18 + row,
                   title=max(canvas.measure(pieces.title(panel), NORMAL, True) for panel in pieces.shown.tolist()))


def arranged(pieces: Cut, margins: Margins, table: Table) -> Sheet:
    """Return the number of panels beside each other, and the place of the table: links are as long as the page allows.

    A picture that is a hundred pixels lower, or has a twentieth less of the panels' room empty, is worth links that are one pixel
    shorter; a third of a pixel if chips are close.
    """
    across, down = [*(pieces.sizes), 1, 1][:2]
    count = len(pieces.shown)
    row_of = pieces.grid[-1] if pieces.grid[-1] > 1 else pieces.grid[-3] if len(pieces.deep) > 1 else 1
    ways: list[tuple[tuple[bool, bool, float], Sheet]] = []
    for beside in (True, False):
        room = PAGE - 2 * EDGE - (table.width + 30 if beside else 0)
        for columns in range(1, count + 1):
            if count == int(np.prod(pieces.grid)) and columns % row_of:
                continue  # a row has the whole last axis, or all pieces of a slice along it
            pitch = float(np.floor(min(WIDEST, (room / columns - margins.left - margins.right) / max(across - 1, 1))))
            if pitch < 4 or columns * margins.width(across, pitch) > room:
                continue
            rows = ceil(count / columns)
            width = columns * margins.width(across, pitch)
            height = rows * ((down - 1) * pitch + margins.top + margins.bottom)
            total = max(height, table.height(PAGE - 2 * EDGE - width - 30)) if beside else height + table.height(room)
            worth = min(pitch, 36.0) + 2 * min(pitch, 24.0) - 0.01 * total - 20 * (1 - count / (rows * columns))
            ways.append(((pitch >= CLOSEST, total <= TALLEST, worth), Sheet(columns, pitch, width, height, beside)))
    if not ways:
        return Sheet(1, 4.0, margins.width(across, 4.0),
                     count * ((down - 1) * 4.0 + margins.top + margins.bottom), False)
    return max(ways, key=lambda way: way[0])[1]


def origins(pieces: Cut, margins: Margins, sheet: Sheet, y: float) -> Array:
    """Return the lower left chip of each panel, (panels, 2)."""
    across, down = [*(pieces.sizes), 1, 1][:2]
    row, column = np.divmod(np.arange(len(pieces.shown)), sheet.columns)
    x0 = EDGE + column * margins.width(across, sheet.pitch) + margins.left
    y0 = y + row * ((down - 1) * sheet.pitch + margins.top + margins.bottom) + margins.top + (down - 1) * sheet.pitch
    return np.stack([x0, y0], axis=1)


def panels(canvas: Canvas, place: Place, margins: Margins) -> None:
    """Write the texts around the chips: titles, coordinates, and the targets of twisted wraparounds."""
    cut, pitch = place.cut, place.pitch
    for panel, (x, y) in zip(cut.shown.tolist(), place.origins.tolist(), strict=True):
        _, starts = cut.parts(panel)
        counts = [min(size, cut.links.lengths[axis] - start)
                  for axis, size, start in zip(cut.flat, cut.sizes, starts, strict=True)]
        across = [*counts, 1][0]
        high = y - (([*cut.sizes, 1, 1][1] - 1) * pitch + margins.top)
        foot, left = y + margins.bottom - 10, x - margins.left + 4
        title, middle = cut.title(panel), x + (across - 1) * pitch / 2
        fits = canvas.measure(title, NORMAL, True) / 2 < min(middle - left, (across - 1) * pitch / 2 + margins.right)
        canvas.text(middle if fits else left, high + 10, title, bold=True, align="center" if fits else "left")
        for i, (start, count) in enumerate(zip(starts, counts, strict=True)):
            widest = canvas.measure(str(start + count - 1), SMALL) + 4
            step = max(1, ceil((widest if i == 0 else 12) / pitch))
            for at in range(0, count, step):
                if i == 0:
                    canvas.text(x + at * pitch, foot, str(start + at), size=SMALL, colour=FAINT, align="center")
                else:
                    canvas.text(left, y - at * pitch, str(start + at), size=SMALL, colour=FAINT)
            if i == 0:
                canvas.text(left, foot, name(cut.links, cut.flat[0]), size=SMALL, bold=True, colour=FAINT)
            else:
                canvas.text(left, y - (count - 1) * pitch - 15, name(cut.links, cut.flat[1]), size=SMALL, bold=True, colour=FAINT)
    twists(canvas, place)


def name(links: LinkPicture, axis: int) -> str:
    """Return the name of an axis beside its coordinates."""
    return short(list(links.axes)[axis], 8)


def twists(canvas: Canvas, place: Place) -> None:
    """Write the targets of outgoing arrows that do not go straight across; not at each arrow if the texts crowd."""
    cut, ends = place.cut, place.cut.links.ends
    out = np.flatnonzero((cut.slot[ends.source] >= 0) & ends.wraparound & np.isin(ends.axis, cut.flat))
    which = twisted(cut.links, out)
    _, tips, _ = place.lines(np.array(which, np.intp))
    for link, (x, y) in zip(which, tips.tolist(), strict=True):
        said = shift(cut.links, link)
        i, sign = cut.flat.index(ends.axis[link]), int(ends.sign[link])
        room = max(canvas.measure(line, TINY) for line in said) + 4 if i else 10.0 * len(said) + 2
        other = [axis for axis in cut.flat if axis != ends.axis[link]]
        along = int(cut.links.at[other[0], ends.source[link]] % cut.sizes[1 - i]) if other else 0
        if along % ceil(room / place.pitch):
            continue
        for row, line in enumerate(said):
            if i == 0:
                canvas.text(x + (-3 if sign else 3), y + 10 * (row - (len(said) - 1) / 2), line, size=TINY, colour=INK,
                            align="right" if sign else "left")
            else:
                level = row if sign else row - len(said) + 1
                canvas.text(x, y + (8 if sign else -8) + 10 * level, line, size=TINY, colour=INK, align="center")
