"""The network of a run as shapes and texts, with what is told of each link: those of the pictures of torussim/plot.

Coordinates are pixels of that picture, y downwards. It knows nothing of how shapes are drawn on a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from torussim.page.run import Run
from torussim.plot import LinkPicture
from torussim.plot.canvas import Canvas, shades
from torussim.plot.key import Table, top_share
from torussim.plot.links import network
from torussim.plot.sheet import EDGE, PAGE
from torussim.timeline import Array
from torussim.units import show

# What a shape is drawn in: the colour of text, of faint text, of the page, or its own on both light and dark pages.
ROLES = {"links": "use", "chips": "faint", "switches": "ink", "slow": "page", "dead, back": "page", "groups": "box",
         "dead": "bad", "dead lines": "bad"}
STATES = ("", "slower than most", "dead")


@dataclass(frozen=True)
class Shape:
    """Polygons of one kind; `columns`: what is told of each, and "busy", from which its colour follows."""

    name: str
    role: str
    colour: str
    xs: list[list[float]]
    ys: list[list[float]]
    columns: Mapping[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Text:
    """A text at a place, points; `role`: "ink", "faint" or "white"."""

    x: float
    y: float
    text: str
    size: float
    align: str
    role: str


@dataclass(frozen=True)
class Drawing:
    """A network: its shapes from the back to the front, texts, the size of all, and the scale of the colours."""

    width: float
    height: float
    shapes: Sequence[Shape]
    texts: Sequence[Text]
    top: float
    what: str
    palette: Sequence[str]
    notes: Sequence[str]
    faults: Sequence[str] = ()  # in words, the most noticeable first


def drawing(run: Run) -> Drawing | None:
    """Return the network of a run, each direction of each link with what the last pass did with it; None if it has no link."""
    links, canvas = LinkPicture.of(run.result.timeline, run.scenario.net, run.scenario.changes), Canvas()
    if not len(links.ends.source):
        return None
    found = network(canvas, links, EDGE, Table(canvas, replace(links, rows=(), users=())))
    live = found.which[found.which < len(links.source)]
    live = live[np.argsort(links.busy[live], kind="stable")]  # as the picture has them
    told = {"links": _told(links, live), "dead": _told(links, found.which[found.which >= len(links.source)])}
    wide = max([found.width + 2 * EDGE, *(text["x"] + 40 for text in canvas.texts)])
    return Drawing(round(min(wide, PAGE)), round(found.height + 2 * EDGE), _shapes(canvas, told), _texts(canvas),
                   top_share(links), links.what, palette(), found.notes, links.faults)


def palette(count: int = 64) -> list[str]:
    """Return the colours of shares from 0, light, to 1, dark; for a dark page the script turns them round."""
    return ["#" + "".join(f"{round(255 * part):02x}" for part in colour[:3]) for colour in shades(np.linspace(0, 1, count))]


def _shapes(canvas: Canvas, told: Mapping[str, Mapping[str, list[Any]]]) -> list[Shape]:
    found = []
    for (_, name), parts in sorted(canvas.shapes.items(), key=lambda item: item[0][0]):
        corners = [polygon for polygons, _ in parts for polygon in np.round(polygons, 1)]
        columns = told.get(name, {})
        assert not columns or len(columns["name"]) == len(corners)
        colour = parts[0][1] if isinstance(parts[0][1], str) else "#777777"
        found.append(Shape(name, ROLES.get(name, "own"), colour, [one[:, 0].tolist() for one in corners],
                           [one[:, 1].tolist() for one in corners], columns))
    return found


def _texts(canvas: Canvas) -> list[Text]:
    roles = {"white": "white", "#222222": "ink"}
    return [Text(round(t["x"], 1), round(t["y"], 1), t["s"], t["fontsize"], t["ha"], roles.get(t["color"], "faint"))
            for t in canvas.texts]


def _told(links: LinkPicture, which: Array) -> dict[str, list[Any]]:
    """Return what is told of some links, and of dead ones, which come after those that are there."""
    names = [f"{links.name(int(links.ends.source[i]))} → {links.name(int(links.ends.target[i]))}" for i in which]
    there = [int(i) if i < len(links.source) else None for i in which]
    users = {link: f", {used}" for link, used in zip(links.busiest, links.users)}
    found: dict[str, list[Any]] = {
        "name": names,
        "state": [STATES[2] if i is None else STATES[int(links.slow[i])] for i in there],
        "rate": ["" if i is None else f"{show(float(links.bandwidth[i]), 'B/s')}, busy {links.busy[i]:.1%}" for i in there],
        "used": ["" if i is None else f"{show(float(links.bytes[i]), 'B')}{users.get(i, '')}" for i in there]}
    if None not in there:
        found["busy"] = [float(f"{links.busy[i]:.6g}") for i in there if i is not None]
    return found
