"""Predicted over measured times as a picture: the simulation and the paper's model, and below it how far each point is off.

Coordinates are pixels of a page 1200 wide, y downwards. Both scales of time are logarithmic; twins are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING

import numpy as np

from torussim.plot.canvas import COMPUTE, EXPOSED, FAINT, INK, SMALL, Canvas
from torussim.timeline import Array
from torussim.units import show
from torussim.validate import Row, Summary, Validation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, LEFT, RIGHT = 1200.0, 96.0, 1160.0
TIMES, ERRORS, GAP = 500.0, 200.0, 46.0  # heights of the two panels, and what is between them
BAND = 0.15  # either way from the diagonal
MARK = 7.0  # radius of a marker
BAND_COLOUR, GRID_COLOUR = "#DDE7EE", "#E4E4E4"
CIRCLE = np.array([(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 24, endpoint=False)])
TRIANGLE = 1.2 * np.array([(0.0, -1.0), (0.87, 0.6), (-0.87, 0.6)])


@dataclass(frozen=True)
class _Model:
    """One of the two models: its name, how it is drawn, and what it predicts of a row, in seconds."""

    name: str
    colour: str
    marker: Array
    of: Callable[[Row], float | None]


MODELS = (_Model("the paper's model", EXPOSED, TRIANGLE, lambda row: row.paper),
          _Model("torussim, simulated", COMPUTE, CIRCLE, lambda row: row.simulated))


@dataclass(frozen=True)
class _Scale:
    """From values to pixels, logarithmic or linear."""

    low: float
    high: float
    start: float  # pixel of `low`
    end: float
    log: bool = True

    def __call__(self, value: float) -> float:
        low, high, value = (log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return 1, 2 and 5 times each power of ten, or every 20 %."""
        if self.log:
            powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
            values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        else:
            values = [0.2 * i for i in range(ceil(self.low / 0.2 - 1e-9), floor(self.high / 0.2 + 1e-9) + 1)]
        return [v for v in values if self.low <= v * (1 + 1e-9) and v <= self.high * (1 + 1e-9)]


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
    across = _Scale(min(measured) / 1.15, max(measured) * 1.15, LEFT, RIGHT)
    up = _Scale(min(*measured, *predicted) / 1.3, max(*measured, *predicted) * 1.3, y + TIMES, y)
    _band(canvas, across, up)
    _axes(canvas, across, up, "predicted time", lambda v: show(v, "s"))

    top = y + TIMES + GAP
    errors = [time / m - 1 for m, times in points for time in times if time is not None]
    low, high = min(*errors, -BAND) - 0.08, max(*errors, BAND) + 0.08
    off = _Scale(low, high, top + ERRORS, top, log=False)
    canvas.shape(np.array([[(x, off(e)) for x, e in ((LEFT, BAND), (RIGHT, BAND), (RIGHT, -BAND), (LEFT, -BAND))]]), BAND_COLOUR,
                 name="band", layer=0)
    canvas.line(LEFT, off(0), RIGHT, off(0), INK, layer=1)
    _axes(canvas, across, off, "predicted / measured - 1", lambda v: f"{v:+.0%}" if abs(v) > 1e-9 else "0%")
    for tick in across.ticks():
        canvas.text(across(tick), top + ERRORS + 14, show(tick, "s"), align="center")
    canvas.text((LEFT + RIGHT) / 2, top + ERRORS + 38, "measured time (both axes of time are logarithmic)", align="center")
    layer = 3
    for number, model in enumerate(MODELS):
        for time, times in points:
            value = times[number]
            if value is not None:
                layer += 2
                _mark(canvas, across(time), up(value), model, layer)
                _mark(canvas, across(time), off(value / time - 1), model, layer)
    return canvas.page(PAGE, top + ERRORS + 58)


def _mark(canvas: Canvas, x: float, y: float, model: _Model, layer: int) -> None:
    """Draw a marker with a white edge, so that those that meet stay apart: each needs layers of its own."""
    canvas.shape(np.array([[x, y]]) + (MARK + 1.5) * model.marker[None], "#FFFFFF", name=f"edge of {model.name}", layer=layer)
    canvas.shape(np.array([[x, y]]) + MARK * model.marker[None], model.colour, name=model.name, layer=layer + 1)


def _band(canvas: Canvas, across: _Scale, up: _Scale) -> None:
    """Draw the diagonal, where predicted is measured, and the band around it."""
    ends = (across.low, across.high)
    corners = [(across(m), up(m * (1 + BAND))) for m in ends] + [(across(m), up(m * (1 - BAND))) for m in reversed(ends)]
    canvas.shape(np.array([corners]), BAND_COLOUR, name="band", layer=0)
    canvas.line(across(ends[0]), up(ends[0]), across(ends[1]), up(ends[1]), INK, layer=1)


def _axes(canvas: Canvas, across: _Scale, up: _Scale, label: str, write: Callable[[float], str]) -> None:
    """Draw the grid of one panel, and name its upright axis."""
    for tick in across.ticks():
        canvas.line(across(tick), up.start, across(tick), up.end, GRID_COLOUR, layer=0)
    for tick in up.ticks():
        canvas.line(LEFT, up(tick), RIGHT, up(tick), GRID_COLOUR, layer=0)
        canvas.text(LEFT - 8, up(tick), write(tick), align="right")
    canvas.line(LEFT, up.start, LEFT, up.end, FAINT)
    canvas.line(LEFT, up.start, RIGHT, up.start, FAINT)
    canvas.text(LEFT + 8, up.end - 12, label, bold=True)


def _legend(canvas: Canvas, found: Validation, y: float) -> float:
    """Say what each marker is, with its errors, and what line and band are; return where the legend ends."""
    for model in reversed(MODELS):
        errors = [None if (time := model.of(row)) is None else time / row.measurement.time - 1 for row in found.points]
        summary = Summary.of(errors)
        told = f": mean error {summary.mape:.1%}, largest {summary.worst:+.1%}" if summary else ""
        _mark(canvas, 36, y, model, 3)
        canvas.text(52, y, f"{model.name}{told}, {summary.points if summary else 0} points")
        y += 22
    canvas.box(26, 46, y - 6, y + 6, BAND_COLOUR, layer=0)
    canvas.line(26, y, 46, y, INK)
    canvas.text(52, y, f"predicted as measured, and {BAND:.0%} either way")
    canvas.text(RIGHT, y, "Points that were measured twice stand here once.", size=SMALL, colour=FAINT, align="right")
    return y + 12
