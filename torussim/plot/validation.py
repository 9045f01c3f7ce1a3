"""Predicted over measured times as a picture: the simulation and the paper's model, and below them the error of each point.

Coordinates are pixels of a page 1200 wide, y downwards. Both scales of time are logarithmic; twins are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from torussim.plot.canvas import COMPUTE, EXPOSED, FAINT, INK, SMALL, Canvas
from torussim.plot.chart import CIRCLE, TRIANGLE, Chart, Scale, mark
from torussim.timeline import Array
from torussim.units import show
from torussim.validate import Row, Summary, Validation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, LEFT, RIGHT = 1200.0, 96.0, 1160.0
TIMES, ERRORS, GAP = 500.0, 200.0, 46.0  # heights of the two panels, and the gap between them
BAND = 0.15  # above and below the diagonal
BAND_COLOUR = "#DDE7EE"


@dataclass(frozen=True)
class _Model:
    """One of the two models: its name, its look, and its prediction for a row, in seconds."""

    name: str
    colour: str
    marker: Array
    of: Callable[[Row], float | None]


MODELS = (_Model("the paper's model", EXPOSED, TRIANGLE, lambda row: row.paper),
          _Model("torussim, simulated", COMPUTE, CIRCLE, lambda row: row.simulated))


def validation_figure(found: Validation, *, title: str = "", subtitle: str = "") -> Figure:
    """Return a picture of predicted over measured times, and of the errors."""
    canvas = Canvas()
    y = canvas.heading(24, 10.0, title, subtitle)
    y = _legend(canvas, found, y + 14) + 24
    points = [(row.measurement.time, [model.of(row) for model in MODELS]) for row in found.points]
    if not points:
        canvas.text(PAGE / 2, y + 30, "nothing was predicted", colour=FAINT, align="center")
        return canvas.page(PAGE, y + 60)
    predicted = [time for _, times in points for time in times if time is not None]
    measured = [time for time, _ in points]
    across = Scale(min(measured) / 1.15, max(measured) * 1.15, LEFT, RIGHT)
    up = Scale(min(*measured, *predicted) / 1.3, max(*measured, *predicted) * 1.3, y + TIMES, y)
    _band(canvas, across, up)
    times = Chart(canvas, across, up)
    times.grid("predicted time", lambda v: show(v, "s"))

    top = y + TIMES + GAP
    off = [time / m - 1 for m, predictions in points for time in predictions if time is not None]
    low, high = min(*off, -BAND) - 0.08, max(*off, BAND) + 0.08
    errors = Chart(canvas, across, Scale(low, high, top + ERRORS, top, log=False))
    sides = ((LEFT, BAND), (RIGHT, BAND), (RIGHT, -BAND), (LEFT, -BAND))
    canvas.shape(np.array([[(x, errors.up(e)) for x, e in sides]]), BAND_COLOUR, name="band", layer=0)
    canvas.line(LEFT, errors.up(0), RIGHT, errors.up(0), INK, layer=1)
    errors.grid("predicted / measured - 1", lambda v: f"{v:+.0%}" if abs(v) > 1e-9 else "0%")
    errors.below("measured time (both axes of time are logarithmic)", lambda v: show(v, "s"))
    for number, model in enumerate(MODELS):
        for time, predictions in points:
            value = predictions[number]
            if value is not None:
                times.mark((time, value), model.marker, model.colour, name=model.name)
                errors.mark((time, value / time - 1), model.marker, model.colour, name=model.name)
    return canvas.page(PAGE, top + ERRORS + 58)


def _band(canvas: Canvas, across: Scale, up: Scale) -> None:
    """Draw the diagonal, where predicted and measured times are equal, and the band around it."""
    ends = (across.low, across.high)
    corners = [(across(m), up(m * (1 + BAND))) for m in ends] + [(across(m), up(m * (1 - BAND))) for m in reversed(ends)]
    canvas.shape(np.array([corners]), BAND_COLOUR, name="band", layer=0)
    canvas.line(across(ends[0]), up(ends[0]), across(ends[1]), up(ends[1]), INK, layer=1)


def _legend(canvas: Canvas, found: Validation, y: float) -> float:
    """Write the meaning of each marker, with its errors, and of line and band. Return the lower end of the legend."""
    for model in reversed(MODELS):
        errors = [None if (time := model.of(row)) is None else time / row.measurement.time - 1 for row in found.points]
        summary = Summary.of(errors)
        told = f": mean error {summary.mape:.1%}, largest {summary.worst:+.1%}" if summary else ""
        mark(canvas, 36, y, model.marker, model.colour, name=model.name)
        canvas.text(52, y, f"{model.name}{told}, {summary.points if summary else 0} points")
        y += 22
    canvas.box(26, 46, y - 6, y + 6, BAND_COLOUR, layer=0)
    canvas.line(26, y, 46, y, INK)
    canvas.text(52, y, f"predicted as measured, and {BAND:.0%} either way")
    canvas.text(RIGHT, y, "Points that were measured twice stand here once.", size=SMALL, colour=FAINT, align="right")
    return y + 12
