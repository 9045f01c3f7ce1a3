"""A network as a picture: each direction of each link in the colour of its use, so that a person can find the one to blame.

A torus or a mesh is drawn in slices, any other network as a circle. Coordinates are pixels of a page 1200 wide, y downwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from torussim.plot import marks
from torussim.plot.canvas import FAINT, INK, SMALL, Canvas, shades
from torussim.plot.graph import Circle, drawn
from torussim.plot.key import Table, legend, top_share
from torussim.plot.labels import LEFT, RIGHT, WIDTH
from torussim.plot.marks import Numbers, Pen
from torussim.plot.network import LinkPicture, shift
from torussim.plot.slices import STUB, Cut, Place, cut
from torussim.timeline import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, EDGE = float(LEFT + WIDTH + RIGHT), 12.0
TALLEST = 1500.0  # pixels of panels and table, where there is a choice
WIDEST = 64.0  # from a chip to the next
TINY = 7.0  # points


@dataclass(frozen=True)
class Margins:
    """What a panel needs around its chips, pixels."""

    left: float
    right: float
    top: float
    bottom: float


@dataclass(frozen=True)
class Sheet:
    """How panels and table share the page."""

    columns: int
    pitch: float
    width: float  # of the panels together
    height: float
    beside: bool  # the table


def links_figure(links: LinkPicture, *, title: str = "", subtitle: str = "") -> Figure:
    """Return a picture of a network's links: how busy each is, which are slow or dead, and the busiest in a table."""
    canvas = Canvas()
    y = canvas.heading(EDGE, 10.0, title, subtitle)
    y = legend(canvas, links, EDGE, y + 8, PAGE - EDGE)
    table = Table(canvas, links)
    picture: Place | Circle
    if links.is_grid:
        pieces = cut(links)
        margins = around(canvas, pieces)
        sheet = arranged(pieces, margins, table)
        picture = Place(pieces, sheet.pitch, origins(pieces, margins, sheet, y))
        which = np.flatnonzero(pieces.slot[links.ends.source] >= 0)
        visible = np.flatnonzero(pieces.slot >= 0)
        panels(canvas, picture, margins)
        width, height, beside, notes = sheet.width, sheet.height, sheet.beside, cut_notes(pieces)
    else:
        radius = 300.0
        picture = Circle(links, (EDGE + 80 + radius, y + 40 + radius), radius)
        which, visible = drawn(links), np.arange(links.nodes)
        width, height, beside, notes = 2 * radius + 160, 2 * radius + 80, True, circle_notes(links, which)
    pen, taken = draw(canvas, picture, which, visible), np.empty((0, 4))
    if isinstance(picture, Circle):
        node_names(canvas, picture)
    taken = marks.boxes(canvas)
    numbers(canvas, picture, pen, picture.centres[visible], taken)

    if beside:
        bottom = max(y + height, table.draw(EDGE + width + 30, y + 10, PAGE - EDGE))
    else:
        bottom = table.draw(EDGE, y + height + 10, PAGE - EDGE)
    for note in (line for said in notes for line in canvas.wrapped(said, SMALL)):
        canvas.text(EDGE, bottom + 14, note, size=SMALL, colour=FAINT)
        bottom += 15
    return canvas.page(PAGE, ceil(bottom + 16))


def draw(canvas: Canvas, picture: Place | Circle, which: Array, visible: Array) -> Pen:
    """Draw the nodes and links with the marks of the slow and the dead; return how thick links are."""
    links = picture.links if isinstance(picture, Circle) else picture.cut.links
    pen = Pen.of(picture.pitch if isinstance(picture, Place) else min(32.0, 2 * picture.pitch))
    chips = visible[visible < links.chips]
    marks.chips(canvas, picture.centres[chips], picture.half)
    switches = visible[visible >= links.chips]
    canvas.shape(marks.discs(picture.centres[switches], picture.half * 1.2), INK, name="switches")
    live = which[which < len(links.source)]
    live = live[np.argsort(links.busy[live], kind="stable")]  # the busy above the idle
    start, end, _ = picture.lines(live)
    canvas.shape(marks.arrows(start, end, pen), shades(links.busy[live] / top_share(links)), name="links")
    dull = links.slow[live]
    marks.slow(canvas, start[dull], end[dull], pen)
    start, end, _ = picture.lines(which[which >= len(links.source)])
    marks.dead(canvas, start, end, pen)
    return pen


def numbers(canvas: Canvas, picture: Place | Circle, pen: Pen, chips: Array, taken: Array) -> None:
    """Number the busiest links."""
    links = picture.links if isinstance(picture, Circle) else picture.cut.links
    start, end, _ = picture.lines(np.array(links.busiest, np.intp))
    places = Numbers(canvas, chips, picture.half, taken)
    for rank, (a, b) in enumerate(zip(start, end, strict=True), start=1):
        places.add(rank, a, b, pen)


def around(canvas: Canvas, pieces: Cut) -> Margins:
    """Return the room that a panel needs for its title, coordinates, and arrows out of it with where they lead."""
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
    wide = max(canvas.measure(str(length - 1), SMALL) for length in links.lengths) if links.lengths else 0.0
    slack = 18.0 if pieces.deep else 10.0  # arrows aslant
    return Margins(left=slack + 10 + wide + sides[0, 1], right=slack + 8 + sides[0, 0],
                   top=slack + 26 + sides[1, 0], bottom=slack + 16 + sides[1, 1])


def twisted(links: LinkPicture, which: Array) -> list[int]:
    """Return those of some links that change other coordinates than that of their axis."""
    at, ends = links.at, links.ends
    step = at[:, ends.source[which]] != at[:, ends.target[which]]
    step[ends.axis[which], np.arange(len(which))] = False
    return [int(link) for link in which[step.any(axis=0)]]


def arranged(pieces: Cut, margins: Margins, table: Table) -> Sheet:
    """Return how many panels stand beside each other, and where the table is: links as long as the page allows.

    What makes the picture a hundred pixels lower is worth a link three pixels shorter.
    """
    across, down = [*(pieces.sizes), 1, 1][:2]
    count = len(pieces.shown)
    ways: list[tuple[tuple[bool, float], Sheet]] = []
    for beside in (True, False):
        room = PAGE - 2 * EDGE - (table.width + 30 if beside else 0)
        for columns in range(1, count + 1):
            if len(pieces.deep) > 1 and count == int(np.prod(pieces.grid)) and columns % pieces.links.lengths[pieces.deep[-1]]:
                continue  # a row is all of the last axis
            pitch = float(np.floor(min(WIDEST, (room / columns - margins.left - margins.right) / across)))
            if pitch < 4:
                continue
            rows = ceil(count / columns)
            width = columns * (across * pitch + margins.left + margins.right)
            height = rows * (down * pitch + margins.top + margins.bottom)
            total = max(height, table.height(table.width)) if beside else height + table.height(room)
            ways.append(((total <= TALLEST, min(pitch, 44.0) - 0.03 * total), Sheet(columns, pitch, width, height, beside)))
    if not ways:
        return Sheet(1, 4.0, across * 4.0 + margins.left + margins.right,
                     count * (down * 4.0 + margins.top + margins.bottom), False)
    return max(ways, key=lambda way: way[0])[1]


def origins(pieces: Cut, margins: Margins, sheet: Sheet, y: float) -> Array:
    """Return where each panel's lower left chip lies, (panels, 2)."""
    across, down = [*(pieces.sizes), 1, 1][:2]
    row, column = np.divmod(np.arange(len(pieces.shown)), sheet.columns)
    x0 = EDGE + column * (across * sheet.pitch + margins.left + margins.right) + margins.left + sheet.pitch / 2
    y0 = y + row * (down * sheet.pitch + margins.top + margins.bottom) + margins.top + (down - 0.5) * sheet.pitch
    return np.stack([x0, y0], axis=1)


def panels(canvas: Canvas, place: Place, margins: Margins) -> None:
    """Write what stands around the chips: titles, coordinates, and where twisted wraparounds lead."""
    cut, pitch, names = place.cut, place.pitch, list(place.cut.links.axes)
    for panel, (x, y) in zip(cut.shown.tolist(), place.origins.tolist(), strict=True):
        _, starts = cut.parts(panel)
        counts = [min(size, cut.links.lengths[axis] - start)
                  for axis, size, start in zip(cut.flat, cut.sizes, starts, strict=True)]
        across, down = [*counts, 1, 1][:2]
        high = y - ([*cut.sizes, 1, 1][1] - 0.5) * pitch - margins.top
        canvas.text(x + (across - 1) * pitch / 2, high + 12, cut.title(panel), bold=True, align="center")
        foot, left = y + pitch / 2 + margins.bottom - 10, x - pitch / 2 - margins.left + 4
        for i, (start, count) in enumerate(zip(starts, counts, strict=True)):
            name = names[cut.flat[i]]
            widest = canvas.measure(str(start + count - 1), SMALL) + 4
            step = max(1, ceil((widest if i == 0 else 12) / pitch))
            for at in range(0, count, step):
                label = str(start + at) if at else f"{name} = {start}" if i == 0 else str(start)
                if i == 0:
                    canvas.text(x + at * pitch, foot, str(start + at), size=SMALL, colour=FAINT, align="center")
                else:
                    canvas.text(left + margins.left * 0, y - at * pitch, label, size=SMALL, colour=FAINT)
            if i == 0:
                canvas.text(left, foot, name, size=SMALL, bold=True, colour=FAINT)
            else:
                canvas.text(left, y - (count - 1) * pitch - 15, name, size=SMALL, bold=True, colour=FAINT)
    twists(canvas, place)


def twists(canvas: Canvas, place: Place) -> None:
    """Write at the arrows out of the border where they lead, if not straight across; not at each where they crowd."""
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


def cut_notes(pieces: Cut) -> list[str]:
    """Return what has to be said about slices."""
    links, total, said = pieces.links, int(np.prod(pieces.grid)), []
    if len(pieces.shown) < total:
        some = f"{len(pieces.shown)} of {total} pieces of the network are shown: those with the busiest, the dead and the slow links"
        said.append(f"{some}; {pieces.hidden} more have slow or dead links." if pieces.hidden else f"{some}.")
    names = list(links.axes)
    for axis in pieces.deep:
        out = np.flatnonzero(links.ends.wraparound & (links.ends.axis == axis) & (links.ends.sign == 0))
        shifts = sorted({" ".join(shift(links, link)) for link in twisted(links, out)})
        if shifts:
            said.append(f"Going round {names[axis]} shifts {', or '.join(shifts[:4])}{' ...' if len(shifts) > 4 else ''}.")
    strangers = np.count_nonzero(links.ends.axis < 0)
    if strangers:
        said.append(f"{strangers} links are not between neighbours: straight lines within a panel, short arrows to the lower right "
                    "where they leave it.")
    return said


def circle_notes(links: LinkPicture, which: Array) -> list[str]:
    """Return what has to be said about a circle."""
    left_out = len(links.ends.source) - len(which)
    return [f"{left_out} links that are less busy are not drawn."] if left_out else []


def node_names(canvas: Canvas, circle: Circle) -> None:
    """Write the names of nodes outside of their circle, those that have room."""
    taken = marks.boxes(canvas)
    for node in range(circle.links.nodes):
        x, y = circle.centres[node]
        text, angle = circle.links.name(node), float(circle.angles[node])
        wide = canvas.measure(text, SMALL)
        across, down = float(np.sin(angle)), -float(np.cos(angle))
        out = circle.half + 6
        x, y = float(x + across * (out + wide / 2)), float(y + down * (out + 5))
        box = (x - wide / 2 - 3, y - 6.5, x + wide / 2 + 3, y + 6.5)
        meets = ((taken[:, 0] < box[2]) & (taken[:, 2] > box[0]) & (taken[:, 1] < box[3]) & (taken[:, 3] > box[1])).any()
        if not meets:
            canvas.text(x, y, text, size=SMALL, colour=FAINT, align="center")
            taken = np.concatenate([taken, [box]])
