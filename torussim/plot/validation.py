"""Predicted and measured times as a picture: above, both models over the measured time; below, a row of errors for each set.

Coordinates are pixels of a page PAGE wide, y downwards. Twins are left out. A part of the picture is the points of one set and
one use; of a single set, those of one group and one use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from torussim.plot.canvas import COMPUTE, EXPOSED, FAINT, INK, KIND_COLOURS, SMALL, Canvas
from torussim.plot.chart import CIRCLE, DIAMOND, GRID_COLOUR, SQUARE, TRIANGLE, Chart, Entry, Scale, legend, mark
from torussim.plot.labels import short
from torussim.timeline import Array
from torussim.units import show
from torussim.validate import NOT_TOLD, Row, Summary, Validation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, EDGE, LEFT, RIGHT = 1000.0, 22.0, 76.0, 972.0
RATIOS, FLOOR, CEILING = 250.0, 0.08, 1.6  # height of the upper panel, and its lowest and highest ratio
ROW, NAMES, TOLD = 42.0, 308.0, 754.0  # least height of a row, and the ends of its columns of names and of marks
SIZE, APART = 4.6, 8.6  # radius of a marker, and the least distance of markers in a row
BAND, WIDEST = 0.15, 0.95  # shaded either way, and the share of points inside the scale of errors
NOTE = f"Shaded: {BAND:.0%} either way. A point beyond a scale is drawn at its edge. Twins are left out."
BAND_COLOUR, PAPER_COLOUR = "#DDE7EE", "#A6A6A6"
COLOURS = (COMPUTE, EXPOSED, KIND_COLOURS["reduce_scatter"], KIND_COLOURS["all_to_all"], KIND_COLOURS["all_reduce"],
           KIND_COLOURS["all_gather"], INK)  # of Okabe and Ito


@dataclass(frozen=True, eq=False)
class _Part:
    """Points with one name, one use and one look."""

    name: str
    use: str
    rows: Sequence[Row]
    colour: str
    marker: Array

    @property
    def hollow(self) -> bool:
        return self.use != "fitted"


def validation_figure(found: Validation, *, title: str = "", subtitle: str = "") -> Figure:
    """Return a picture of the predictions of both models over the measured time, and of the errors of the simulation by set."""
    canvas = Canvas()
    y = canvas.heading(EDGE, 10.0, title, subtitle, PAGE - 2 * EDGE)
    parts = _parts(found)
    if not parts:
        canvas.text(PAGE / 2, y + 30, "nothing was predicted", colour=FAINT, align="center")
        return canvas.page(PAGE, y + 60)
    y = legend(canvas, EDGE, y + 16, _entries(found), PAGE - 2 * EDGE)
    y = _ratios(canvas, found, parts, y + 34)
    y = _errors(canvas, parts, y + 30)
    canvas.text(EDGE, y + 14, NOTE, size=SMALL, colour=FAINT)
    return canvas.page(PAGE, y + 32)


def _parts(found: Validation) -> list[_Part]:
    """Return the parts in the order of the sets, or of the groups of a single set."""
    sets = {name: rows for name, rows in found.sets().items() if rows}
    named = sets if len(sets) > 1 else {group: rows for (_, group), rows in found.groups().items()}
    parts = []
    for number, (name, rows) in enumerate(named.items()):
        switched = any(_switched(row) for row in rows)
        marker = ((SQUARE, -TRIANGLE) if switched else (CIRCLE, DIAMOND))[number // len(COLOURS) % 2]
        for use in found.uses():
            points = [row for row in rows if row.measurement.use == use and not row.measurement.twin]
            parts += [_Part(name, use, points, COLOURS[number % len(COLOURS)], marker)] if points else []
    return parts


def _switched(row: Row) -> bool:
    """Return whether the network of a row has switches."""
    return not all(chip for _, chip in row.measurement.scenario.topology.nodes(data="chip", default=True))


def _entries(found: Validation) -> list[Entry]:
    """Return the legend: the uses with their errors, the paper's model, and the networks."""
    entries = []
    for use, rows in found.uses().items():
        summary = Summary.of(row.error for row in rows if not row.measurement.twin)
        if summary:
            told = f"torussim, {use or NOT_TOLD}: {_points(summary.points)}, mean error {summary.mape:.1%}"
            entries.append(Entry(told, INK, CIRCLE, hollow=use != "fitted"))
    if any(row.paper is not None for row in found.points):
        entries.append(Entry("the paper's model", PAPER_COLOUR, TRIANGLE))
    switched = {_switched(row) for row in found.points}
    entries += [Entry("links from chip to chip, as of TPUs", FAINT, CIRCLE)] if False in switched else []
    return entries + ([Entry("switches, as of GPUs", FAINT, SQUARE)] if True in switched else [])


def _ratios(canvas: Canvas, found: Validation, parts: Sequence[_Part], y: float) -> float:
    """Draw the predictions of both models as shares of the measured time. Return the lower end of the panel."""
    measured = [row.measurement.time for row in found.points]
    across = Scale(min(measured) / 1.3, max(measured) * 1.3, LEFT, RIGHT)
    up = Scale(FLOOR, CEILING, y + RATIOS, y)
    corners = [(LEFT, up(1 + BAND)), (RIGHT, up(1 + BAND)), (RIGHT, up(1 - BAND)), (LEFT, up(1 - BAND))]
    canvas.shape(np.array([corners]), BAND_COLOUR, name="band", layer=0)
    canvas.line(LEFT, up(1), RIGHT, up(1), INK, layer=1)
    chart = Chart(canvas, across, up)
    chart.grid("predicted / measured", lambda v: f"{v:.0%}", up=[0.1, 0.2, 0.5, 1.0])
    chart.below("measured time", lambda v: show(v, "s"))
    for row in found.points:
        if row.paper is not None:
            chart.mark((row.measurement.time, min(max(row.paper / row.measurement.time, FLOOR), CEILING)), TRIANGLE, PAPER_COLOUR,
                       name="the paper's model", size=SIZE)
    for part in parts:
        for row in part.rows:
            chart.mark((row.measurement.time, min(max(1 + row.error, FLOOR), CEILING)), part.marker, part.colour,
                       name="simulated", size=SIZE, hollow=part.hollow)
    return y + RATIOS + 46


def _errors(canvas: Canvas, parts: Sequence[_Part], y: float) -> float:
    """Draw a row for each part: name, errors of its points, their mean. Return the lower end."""
    every = sorted(abs(row.error) for part in parts for row in part.rows)
    limit = max(0.2, ceil(every[ceil(WIDEST * len(every)) - 1] * 20) / 20)
    across = Scale(-1.03 * limit, 1.03 * limit, NAMES, TOLD, log=False, every=0.1)
    canvas.text(NAMES, y, "simulated / measured - 1", bold=True)
    top = y = y + 16
    for part in parts:
        places = _swarm([across(min(max(row.error, -limit), limit)) for row in part.rows])
        high = max(ROW, 2 * max(abs(down) for _, down in places) + 3 * SIZE)
        middle = y + high / 2
        _row(canvas, part, middle)
        for x, down in places:
            mark(canvas, x, middle + down, part.marker, part.colour, name="error", size=SIZE, hollow=part.hollow)
        y += high
        canvas.line(EDGE, y, RIGHT, y, GRID_COLOUR, layer=0)
    corners = [(across(-BAND), top), (across(BAND), top), (across(BAND), y), (across(-BAND), y)]
    canvas.shape(np.array([corners]), BAND_COLOUR, name="band", layer=0)
    for tick in across.ticks():
        canvas.line(across(tick), top, across(tick), y, INK if abs(tick) < 1e-9 else GRID_COLOUR, layer=1)
        canvas.text(across(tick), y + 14, f"{tick:+z.0%}" if abs(tick) > 1e-9 else "0%", align="center")
    return y + 24


def _row(canvas: Canvas, part: _Part, y: float) -> None:
    """Write the name of a part, its chips, its points and their errors."""
    summary, paper = Summary.of(row.error for row in part.rows), Summary.of(row.paper_error for row in part.rows)
    assert summary
    chips = ", ".join(dict.fromkeys(row.measurement.scenario.chip.name for row in part.rows))
    mark(canvas, EDGE + 6, y - 8, part.marker, part.colour, name="simulated", size=SIZE + 1, hollow=part.hollow)
    beside = f"; the paper's model {paper.mape:.0%}" if paper else ""
    canvas.text(EDGE + 20, y - 8, short(part.name, 32), bold=True)
    canvas.text(EDGE + 20, y + 9, f"{short(chips, 32)}, {part.use or NOT_TOLD}", size=SMALL, colour=FAINT)
    canvas.text(TOLD + 16, y - 8, f"mean {summary.mape:.1%}, worst {summary.worst:+z.1%}")
    canvas.text(TOLD + 16, y + 9, f"{_points(len(part.rows))}{beside}", size=SMALL, colour=FAINT)


def _points(count: int) -> str:
    return "1 point" if count == 1 else f"{count} points"


def _swarm(places: Sequence[float]) -> list[tuple[float, float]]:
    """Return (x, offset downwards) of marks in a row: the least offset at which a mark meets none before it."""
    placed: list[tuple[float, float]] = []
    for x in places:
        near = [(other, down) for other, down in placed if abs(other - x) < APART]
        steps = (side * step * 0.5 * APART for step in range(2 * len(near) + 1) for side in (1, -1))
        placed.append((x, next(down for down in steps if all(np.hypot(x - a, down - b) >= APART - 1e-6 for a, b in near))))
    return placed
