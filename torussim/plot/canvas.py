"""The items of a picture, in pixels, and the figure made from them. This is the only module that imports matplotlib.

matplotlib is imported when it is needed, and never pyplot, which takes half a second.
"""

from __future__ import annotations

import warnings
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim.errors import TorusSimError
from torussim.plot.labels import CLOSE, LEFT, RIGHT, WIDTH, short
from torussim.plot.view import View
from torussim.program import KINDS
from torussim.timeline import Array

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Colours of Okabe and Ito, which all readers can distinguish. A collective also has a hatch; compute is dark and plain.
COMPUTE, FIXED, EXPOSED, OTHER, INK, FAINT = "#0072B2", "#8C8C8C", "#D55E00", "#DEDEDE", "#222222", "#666666"
# A collective with a root has the colour of the corresponding collective without a root, and its own hatch.
KIND_COLOURS = dict(zip(KINDS, ("#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#F0E442", "#56B4E9", "#009E73", "#56B4E9", "#CC79A7",
                                "#F0E442"), strict=True))
KIND_HATCHES = dict(zip(KINDS, ("////", "\\\\\\\\", "xxxx", "....", "----", "++", "||", "oo", "OO", "//.."), strict=True))

SMALL, NORMAL = 8.5, 9.5  # points


@dataclass
class Canvas:
    """The items to draw, in pixels, y downwards; `used` has the names that the legend must explain."""

    boxes: dict[tuple[int, str, str, float], list[tuple[float, float, float, float]]] = field(default_factory=dict)
    lines: dict[tuple[int, str, float, str], list[tuple[float, float, float, float]]] = field(default_factory=dict)
    shapes: dict[tuple[int, str], list[tuple[Array, Any]]] = field(default_factory=dict)
    texts: list[dict[str, Any]] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    unkept: list[str] = field(default_factory=list)  # collectives whose messages were not recorded
    used: set[str] = field(default_factory=set)
    widths: dict[tuple[str, float, bool], float] = field(default_factory=dict)

    def box(self, x0: float, x1: float, y0: float, y1: float, colour: str, hatch: str = "", *, line: float = 0.0,
            layer: int = 1) -> None:
        """Add a rectangle, cut to the picture's width."""
        x0, x1 = max(x0, 0.0), min(x1, WIDTH)
        if x1 > x0:
            line = line if x1 - x0 > CLOSE else 0.0  # a white edge would hide a thin bar
            self.boxes.setdefault((layer, colour, hatch, line), []).append((x0, x1, y0, y1))

    def collective(self, x0: float, x1: float, y0: float, y1: float, kind: Any, own: bool) -> None:
        """Add the bar of a collective, in the colour and hatch of its kind."""
        if own:
            self.used.add(kind)
        self.box(x0, x1, y0, y1, KIND_COLOURS[kind] if own else OTHER, KIND_HATCHES[kind], line=0.6)

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: str, *, layer: int = 3, width: float = 0.7,
             dashes: str = "solid") -> None:
        """Add a line; `width` in points, `dashes`: solid, dashed or dotted."""
        self.lines.setdefault((layer, colour, width, dashes), []).append((x0, y0, x1, y1))

    def shape(self, corners: Array, colour: Any, *, name: str, layer: int = 2) -> None:
        """Add polygons of equal number of corners, (polygons, corners, 2); `colour`: one, or (polygons, 4).

        `name` says what the polygons show; the figure keeps it as the id of the group.
        """
        if len(corners):
            self.shapes.setdefault((layer, name), []).append((corners, colour))

    def text(self, x: float, y: float, text: str, *, size: float = NORMAL, colour: str = INK, bold: bool = False,
             align: str = "left", back: str = "", turned: bool = False) -> None:
        """Add a text. `back`: the colour of a box behind it; `turned`: it runs upwards, with its middle at (x, y)."""
        self.texts.append({"x": x, "y": y, "s": text, "fontsize": size, "color": colour, "ha": align, "back": back,
                           "fontweight": "bold" if bold else "normal", "turned": turned})

    def fit(self, x0: float, x1: float, y: float, choices: Sequence[str], colour: str, *, back: str = "") -> bool:
        """Write the first of `choices` that fits between x0 and x1. Return whether one fits."""
        x0, x1 = max(x0, 0.0), min(x1, WIDTH)
        for text in choices:
            if self.measure(text, NORMAL) + 6 <= x1 - x0:
                self.text((x0 + x1) / 2, y, text, colour=colour, align="center", back=back)
                return True
        return False

    def measure(self, text: str, size: float, bold: bool = False) -> float:
        """Return the width of a text in pixels."""
        from matplotlib.backends.backend_agg import RendererAgg
        from matplotlib.font_manager import FontProperties

        key = (text, size, bold)
        if key not in self.widths:
            font = FontProperties(size=size, weight="bold" if bold else "normal")
            renderer: Any = RendererAgg(8, 8, 100)  # type: ignore[no-untyped-call, unused-ignore]
            with missing_glyphs(text):
                self.widths[key] = float(renderer.get_text_width_height_descent(text, font, False)[0])
        return self.widths[key]

    def legend(self) -> tuple[list[tuple[float, int, str, str, str]], int]:
        """Return (x, row, name, colour, hatch) of each entry of the legend, and the number of its rows."""
        items = [("compute", COMPUTE, ""), ("overhead", FIXED, ""), ("exposed: compute waits for communication", EXPOSED, "////")]
        items = items if "compute" in self.used else []
        items += [(kind, KIND_COLOURS[kind], KIND_HATCHES[kind]) for kind in KINDS if kind in self.used]
        placed, x, row = [], -LEFT + 12.0, 0
        for name, colour, hatch in items:
            width = self.measure(name, NORMAL) + 52
            if x + width > WIDTH + RIGHT:
                x, row = -LEFT + 12.0, row + 1
            placed.append((x, row, name, colour, hatch))
            x += width
        return placed, row + 1 if placed else 0

    def notes(self) -> list[str]:
        """Return the notes at the foot, one line each: the conventions that the picture uses."""
        found = []
        if "links" in self.used:
            sent = "; dark: the chip sends, at the right the share of the time" if "messages" in self.used else ""
            found.append(f"Link lanes: + link above, − link below; light: a collective is under way on the axis{sent}.")
        if self.unkept:
            names = list(dict.fromkeys(self.unkept))
            said = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            why = "they share links and are simulated as flows" if "flows" in self.used else "it was not asked for"
            found.append(f"Not recorded, so that the lanes show no sends: the messages of {said} ({why}).")
        if "clusters" in self.used:
            found.append("Messages too short to be told apart are drawn as one, as low as their share of the time.")
        if "others" in self.used:
            found.append("Grey: what runs before and after.")
        if "waits within" in self.used:
            found.append("A matmul that waits within its loop is as low as the share of its time that it computes.")
        if self.unnamed:
            found.append("Too close together to be named: " + ", ".join(dict.fromkeys(self.unnamed)) + ".")
        return [line for note in found for line in self.wrapped(note, SMALL)]

    def wrapped(self, text: str, size: float, bold: bool = False, width: float = LEFT + WIDTH + RIGHT - 24) -> list[str]:
        """Return the lines of a text that is as wide as the picture, or as `width`; none for an empty text."""
        words, lines = [short(word, 64) for word in text.split()], list[str]()

        def wide(count: int) -> bool:
            return self.measure(" ".join(words[:count]), size, bold) > width

        while words:  # measuring a text is slow, so only a few lengths are tried
            fit = bisect_left(range(2, len(words) + 1), True, key=wide) + 1 if wide(len(words)) else len(words)
            lines.append(" ".join(words[:fit]))
            del words[:fit]
        return lines

    def heading(self, x: float, y: float, title: str, subtitle: str, width: float = LEFT + WIDTH + RIGHT - 24) -> float:
        """Write title and subtitle from (x, y) downwards, at most as wide as `width`. Return their lower end."""
        for line in self.wrapped(title, 13.5, True, width):
            self.text(x, y + 13, line, size=13.5, bold=True)
            y += 26
        for line in self.wrapped(subtitle, 10.5, width=width):
            self.text(x, y + 10, line, size=10.5, colour=FAINT)
            y += 20
        return y

    def figure(self, height: float, view: View, title: str, subtitle: str) -> Figure:
        """Return the figure: title and legend, panels of this height, the time axis and the notes."""
        legend, rows = self.legend()
        notes = self.notes()
        above = 20.0 * rows + 22 + 26 * len(self.wrapped(title, 13.5, True)) + 20 * len(self.wrapped(subtitle, 10.5))
        y = self.heading(-LEFT + 12, 10.0 - above, title, subtitle)
        for x, row, name, colour, hatch in legend:
            top = y + 4 + 20 * row
            self.boxes.setdefault((1, colour, hatch, 0.0), []).append((x, x + 26, top, top + 13))
            self.text(x + 32, top + 6.5, name)
        for i, note in enumerate(notes):
            self.text(-LEFT + 12, height + 56 + 15 * i, note, size=SMALL, colour=FAINT)
        below = 50.0 + (15 * len(notes) + 6 if notes else 0)

        total_width, total_height = LEFT + WIDTH + RIGHT, above + height + below
        figure = picture()(figsize=(total_width / 100, total_height / 100), dpi=100, facecolor="white")
        place = (LEFT / total_width, below / total_height, WIDTH / total_width, height / total_height)
        self.time_axis(figure.add_axes(place), view)
        self.paint(figure.add_axes((0, 0, 1, 1), xlim=(-LEFT, WIDTH + RIGHT), ylim=(height + below, -above)))
        return figure

    def page(self, width: float, height: float, *, dots: float = 1.5) -> Figure:
        """Return the figure of the items between (0, 0), the upper left corner, and (width, height).

        `dots` is the number of dots for each pixel, above 1 for small details.
        """
        figure = picture()(figsize=(width / 100, height / 100), dpi=100 * dots, facecolor="white")
        self.paint(figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0)))
        return figure

    def time_axis(self, axes: Any, view: View) -> None:
        """Draw the axis in the largest unit that the window reaches."""
        length = view.until - view.since
        unit, name = next(((u, n) for u, n in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")) if length >= u), (1e-9, "ns"))
        axes.set(xlim=(0, length / unit), yticks=[])
        axes.set_xlabel(f"time from the start of {view.what()} ({name})", fontsize=NORMAL, color=INK)
        axes.tick_params(labelsize=NORMAL, color=FAINT, labelcolor=INK)
        axes.grid(axis="x", color="#EEEEEE", linewidth=1)
        axes.set_axisbelow(True)
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.spines["bottom"].set_color(FAINT)

    def paint(self, axes: Any) -> None:
        """Draw all items, with one collection for each look."""
        from matplotlib.collections import LineCollection, PolyCollection

        axes.set_axis_off()
        for (layer, colour, hatch, line), boxes in self.boxes.items():
            corners = [((a, c), (b, c), (b, d), (a, d)) for a, b, c, d in boxes]
            axes.add_collection(PolyCollection(corners, facecolor=colour, edgecolor="white", linewidth=line, hatch=hatch,
                                               zorder=layer), autolim=False)
        for (layer, name), shapes in self.shapes.items():
            polygons = [corners for several, _ in shapes for corners in several]
            axes.add_collection(PolyCollection(polygons, facecolors=rgba(shapes), linewidth=0, zorder=layer, gid=name),
                                autolim=False)
        for (layer, colour, width, dashes), lines in self.lines.items():
            ends = [((a, b), (c, d)) for a, b, c, d in lines]
            axes.add_collection(LineCollection(ends, colors=colour, linewidths=width, linestyles=dashes, zorder=layer),
                                autolim=False)
        for given in self.texts:
            text = dict(given)
            back = text.pop("back")
            if text.pop("turned"):
                text |= {"rotation": 90, "va": "center", "ha": "center"}
            if back:
                text["bbox"] = {"facecolor": back, "edgecolor": "none", "pad": 1.5}
            axes.text(**{"va": "center_baseline", "zorder": 5, "parse_math": False, **text})


@cache
def picture() -> type[Figure]:
    """Return the class of figures that a notebook displays, even if pyplot is not imported."""
    from matplotlib.figure import Figure

    class Picture(Figure):
        def _repr_png_(self) -> bytes:
            return encode(self, "png")

    return Picture


def rgba(shapes: Iterable[tuple[Array, Any]]) -> Array:
    """Return the colour of each polygon, (polygons, 4)."""
    from matplotlib.colors import to_rgba_array

    return np.concatenate([np.broadcast_to(to_rgba_array(colour), (len(corners), 4)) for corners, colour in shapes])


def shades(shares: Array) -> Array:
    """Return the colours of shares from 0, light, to 1, dark; (shares, 4).

    The scale is perceptually uniform, and its lightness alone is monotonic, so that it can be read without colour.
    """
    import matplotlib

    return np.asarray(matplotlib.colormaps["viridis_r"](np.clip(shares, 0.0, 1.0)))


@contextmanager
def missing_glyphs(text: str = "") -> Iterator[None]:
    """Replace each character that the font does not have by a box, without a warning."""
    if text.isascii() and text:
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


@contextmanager
def defaults() -> Iterator[None]:
    """Draw with matplotlib's default settings: a matplotlibrc in the working folder could start TeX."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def encode(figure: Figure, kind: str) -> bytes:
    """Return a figure as the bytes of a "png", "svg" or "pdf" file, without dates: equal figures give equal bytes."""
    import io

    import matplotlib

    dates: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    if kind not in dates:
        raise TorusSimError(f"no picture can be made as {kind!r}: give png, svg or pdf")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "torussim"}), missing_glyphs():
        figure.savefig(buffer, format=kind, metadata=dates[kind])
    return buffer.getvalue()


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as png, svg or pdf, as the path ends."""
    Path(path).write_bytes(encode(figure, Path(path).suffix.lower().removeprefix(".")))
