"""A network as a picture: each direction of each link in the colour of its use, so that a slow or busy link is easy to find.

A torus or a mesh is drawn in slices, a tree by its levels, a network of groups as a circle of circles, and any other network as a
circle. Coordinates are pixels of a page 1200 wide, y downwards.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, cos, sin
from typing import TYPE_CHECKING

import numpy as np

from torussim.plot import marks
from torussim.plot.canvas import FAINT, INK, SMALL, Canvas
from torussim.plot.graph import circle, clusters
from torussim.plot.key import Table, colours, legend
from torussim.plot.labels import short
from torussim.plot.marks import Numbers, Pen
from torussim.plot.network import LinkPicture, shift, twisted
from torussim.plot.ranks import flat, groups, levels
from torussim.plot.sheet import EDGE, PAGE, around, arranged, origins, panels
from torussim.plot.slices import Cut, Place, cut
from torussim.plot.spread import Spread, drawn
from torussim.plot.tree import tree
from torussim.timeline import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BOX = "#EFEFEF"  # of a group
CROWD = 400  # links of a network without slices, above which they are drawn thinner
NAMES, NAMED = 76.0, 200  # the most pixels of the name of a node; the most chips with names
TURNS = (0.0, 0.6, -0.6, 1.2, -1.2)  # radians between the preferred direction of a name and the directions to try


def links_figure(links: LinkPicture, *, title: str = "", subtitle: str = "") -> Figure:
    """Return a picture of a network's links: the use of each, the slow and dead ones, and a table of the busiest."""
    canvas = Canvas()
    bottom = whole(canvas, links, canvas.heading(EDGE, 10.0, title, subtitle) + 8)
    return canvas.page(PAGE, ceil(bottom + 16))


def whole(canvas: Canvas, links: LinkPicture, y: float) -> float:
    """Draw a network's links, their key, and the table, from y downwards. Return the lower end."""
    y = legend(canvas, links, EDGE, y, PAGE - EDGE)
    table = Table(canvas, links)
    found = network(canvas, links, y, table)
    if found.beside:
        bottom = max(y + found.height, table.draw(EDGE + found.width + 30, y + 10, PAGE - EDGE))
    else:
        bottom = table.draw(EDGE, y + found.height + 10, PAGE - EDGE)
    for note in (line for said in found.notes for line in canvas.wrapped(said, SMALL)):
        canvas.text(EDGE, bottom + 14, note, size=SMALL, colour=FAINT)
        bottom += 15
    return bottom


@dataclass(frozen=True, eq=False)
class Drawn:
    """The result of drawing a network: its size in pixels, the links, dead ones last, and the notes.

    `beside`: whether there is room for the table beside the network.
    """

    width: float
    height: float
    which: Array
    beside: bool
    notes: list[str]


def network(canvas: Canvas, links: LinkPicture, y: float, table: Table) -> Drawn:
    """Draw a network's nodes, links, names and numbers from y downwards, possibly with room for a table beside it."""
    picture: Place | Spread
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
        names = [fitted(canvas, links.name(node), NAMES) for node in range(min(links.chips, NAMED))]
        picture = spread(links, max((canvas.measure(name, SMALL) for name in names), default=0.0)).moved(EDGE, y)
        which, visible = drawn(links), np.arange(links.nodes)
        width, height, notes = picture.width, picture.height, left_out(links, which)
        beside = EDGE + width + 30 + table.width <= PAGE - EDGE
        boxes(canvas, picture)
    pen = draw(canvas, picture, which, visible)
    if isinstance(picture, Spread) and not node_names(canvas, picture, which):
        notes.append("Names without room are left out.")
    if not numbers(canvas, picture, pen, which, picture.centres[visible]):
        notes.append("Numbers without room are left out.")

    if not len(links.ends.source):
        notes.append("The network has no links.")
    return Drawn(width, height, which, beside, notes)


def draw(canvas: Canvas, picture: Place | Spread, which: Array, visible: Array) -> Pen:
    """Draw the nodes and links with the marks of slow and dead links. Return the pen of the links."""
    links, pen = picture.links, Pen.of(picture.pitch)
    if isinstance(picture, Spread):  # in such a picture many lines cross
        pen = pen.thinner(float(np.clip((CROWD / max(len(which), 1)) ** 0.5, 0.35, 1.0)))
    chips = visible[visible < links.chips]
    marks.chips(canvas, picture.centres[chips], picture.half)
    switches = visible[visible >= links.chips]
    if isinstance(picture, Spread):
        canvas.shape(marks.discs(picture.centres[switches], 1.2 * picture.sizes[switches, None, None]), INK, name="switches")
    live = which[which < len(links.source)]
    live = live[np.argsort(links.busy[live], kind="stable")]  # busy links are drawn over idle ones
    start, end, _ = picture.lines(live)
    canvas.shape(marks.arrows(start, end, pen), colours(links, live), name="links")
    dull = links.slow[live]
    marks.slow(canvas, start[dull], end[dull], pen)
    start, end, _ = picture.lines(which[which >= len(links.source)])
    marks.dead(canvas, start, end, pen)
    return pen


def numbers(canvas: Canvas, picture: Place | Spread, pen: Pen, which: Array, chips: Array) -> bool:
    """Number the busiest links, short ones first, because they have the fewest places. Return whether all have room.

    `which` has the links that are drawn; `chips` has the centres of the nodes.
    """
    links = picture.links
    start, end, _ = picture.lines(np.array(links.busiest, np.intp))
    marked = np.append(links.slow, np.ones(len(links.dead), bool))[which]
    places = Numbers(canvas, pen, chips, picture.half, picture.lines(which)[:2], marked, marks.boxes(canvas))
    order = np.argsort(np.hypot(*(end - start).T).round(3), kind="stable").tolist()
    placed = [places.add(i + 1, start[i], end[i]) for i in order]
    return all(placed)


def cut_notes(pieces: Cut) -> list[str]:
    """Return the notes about slices."""
    links, total, said = pieces.links, int(np.prod(pieces.grid)), []
    if len(pieces.shown) < total:
        whole = total == int(np.prod([links.lengths[axis] for axis in pieces.deep]))
        odd = bool(links.busiest or links.dead) or links.slow.any()
        why = "those with numbered, slow and dead links" if odd else "the first"
        some = f"{len(pieces.shown)} of {total} {'slices' if whole else 'pieces'} are shown: {why}"
        said.append(f"{some}; {pieces.hidden} more have slow or dead links." if pieces.hidden else f"{some}.")
    names = list(links.axes)
    out = np.flatnonzero((pieces.slot[links.ends.source] >= 0) & links.ends.wraparound & np.isin(links.ends.axis, pieces.flat))
    if example := [line for link in twisted(links, out)[:1] for line in shift(links, link)]:
        said.append(f"A wraparound marked {example[0]} leads to the other end of its axis, and there {example[0]}.")
    if pieces.grid[-1] * pieces.grid[-2] > 1:
        said.append("Where a slice is cut, an arrow out of the border leads to the piece beside it.")
    for axis in pieces.deep:
        out = np.flatnonzero(links.ends.wraparound & (links.ends.axis == axis) & (links.ends.sign == 0))
        shifts = sorted({" ".join(shift(links, link)) for link in twisted(links, out)})
        if shifts:
            said.append(f"Going round {names[axis]} shifts {', or '.join(shifts[:4])}{' ...' if len(shifts) > 4 else ''}.")
    strangers = np.count_nonzero(links.ends.axis < 0)
    if strangers:
        said.append(f"{strangers} links are not between neighbours: straight lines within a panel, short arrows to the lower "
                    "right where they leave it.")
    return said


def spread(links: LinkPicture, wide: float = 0.0) -> Spread:
    """Return the places of the nodes of a network without slices. `wide`: the width of the widest name of a chip, pixels."""
    rows = levels(links)
    of = groups(links, rows)
    if links.nodes > links.chips and not flat(links, rows, of):
        return tree(links, rows, of, wide)
    return clusters(links, of) if of.max(initial=-1) > 0 else circle(links)


def left_out(links: LinkPicture, which: Array) -> list[str]:
    """Return the notes about links without slices."""
    count = len(links.ends.source) - len(which)
    return [f"{count} links that are less busy are not drawn."] if count else []


def boxes(canvas: Canvas, picture: Spread) -> None:
    """Draw the boxes of groups with their names. Crowded names are shortened, and some are left out if that is not enough."""
    drawn, names = picture.boxes, [box.name for box in picture.boxes]
    apart = min((float(np.hypot(a.x - b.x, a.y - b.y)) for a, b in pairwise(drawn)), default=PAGE)
    if max((canvas.measure(name, SMALL) for name in names), default=0.0) + 6 > apart:
        names = [name.removeprefix("group ") for name in names]
    every = ceil((max((canvas.measure(name, SMALL) for name in names), default=0.0) + 4) / apart)
    for i, (box, name) in enumerate(zip(drawn, names, strict=True)):
        corners = [(box.x0, box.y0), (box.x1, box.y0), (box.x1, box.y1), (box.x0, box.y1)]
        canvas.shape(np.array([corners]), BOX, name="groups", layer=0)
        if name and i % every == 0:
            canvas.text(box.x, box.y, fitted(canvas, name, 100.0), size=SMALL, colour=FAINT, align="center")


def node_names(canvas: Canvas, picture: Spread, which: Array) -> bool:
    """Write the names of nodes beside them, off the drawn links if possible. Return whether all have room."""
    links, half = picture.links, picture.sizes[:, None]
    nodes = np.concatenate([picture.centres - half - 1, picture.centres + half + 1], axis=1)
    taken, count = np.concatenate([marks.boxes(canvas), nodes]), len(canvas.texts) + links.nodes
    lines = picture.lines(which)[:2]
    for node in np.flatnonzero(picture.named).tolist():
        turned, text = picture.turned and node < links.chips, fitted(canvas, links.name(node), NAMES)
        size = np.array([canvas.measure(text, SMALL) / 2, 5.0])
        size, room = (size[::-1], np.array([1.5, 3])) if turned else (size, np.array([3, 1.5]))
        best: tuple[bool, Array] | None = None
        for turn in TURNS[:1] if picture.turned else TURNS:
            out = np.array([[cos(turn), -sin(turn)], [sin(turn), cos(turn)]]) @ picture.out[node]
            at = picture.centres[node] + out * (half[node] + 6 + size)
            low, high = at - size - room, at + size + room
            meets = ((taken[:, :2] < high) & (taken[:, 2:] > low)).all(axis=1).any()
            if low[0] >= 0 and high[0] <= PAGE and not meets:
                probes = at + np.array([[-1.0], [-0.5], [0.0], [0.5], [1.0]]) * size * (1, 0)
                crossed = bool((marks.distances(probes, *lines) < 6).any())
                best = (crossed, at) if best is None or (best[0] and not crossed) else best
        if best is not None:
            crossed, at = best
            x, y = at.tolist()
            within = any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for box in picture.boxes)
            back = "" if not crossed else BOX if within else "white"
            canvas.text(x, y, text, size=SMALL, colour=FAINT, align="center", back=back, turned=turned)
            taken = np.concatenate([taken, [[*(at - size - room), *(at + size + room)]]])
    return len(canvas.texts) == count


def fitted(canvas: Canvas, text: str, width: float) -> str:
    """Return a text, shortened in its middle to at most this width."""
    if canvas.measure(text, SMALL) <= width:
        return text
    most = bisect_left(range(4, len(text)), True, key=lambda most: canvas.measure(short(text, most), SMALL) > width) + 3
    return short(text, most) if most > 3 else text[:3]
