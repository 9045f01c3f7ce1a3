"""The layouts of a plan at one batch: the best as bars, with the bounds that exclude others, and a histogram of all bounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from torussim.planner.plans import Plan, Ranked
from torussim.planner.words import SAME, attention_of, cut_of
from torussim.plot.canvas import COMPUTE, EXPOSED, FAINT, INK, NORMAL, SMALL, Canvas
from torussim.plot.chart import Chart, Scale, round_step
from torussim.plot.labels import short, tint
from torussim.plot.sheet import EDGE
from torussim.units import percent, show

ROWS, ROW, BAR = 14, 25.0, 15.0  # layouts, the height of a row, and of its bar
FAR = 3.0  # layouts slower than the pick by this factor have no bar
BARS, END = 500.0, 860.0  # the ends of the bars' room; times are to the right of it
PALE, MIDDLE = tint(COMPUTE, 0.25), tint(COMPUTE, 0.62)
BINS, HIGH = 64, 110.0  # of the panel of bounds
TICKS = 6  # of an axis from 0 on, at most
DRAWN = ("simulated", "excluded", "open")


@dataclass(frozen=True)
class _Row:
    """A layout, the number of layouts with the same name and time, and its tags, such as the paper's choice."""

    one: Ranked
    others: int
    tags: Sequence[str]


def ranking(canvas: Canvas, found: Plan, phase: str, y: float) -> float:
    """Draw the best layouts of a phase, and the bounds of all of them, from y downwards. Return the lower end."""
    pick = found.pick.of[phase]
    known = [one for one in found.ranked if one.candidate.phase == phase and one.state in DRAWN and one.seconds is not None]
    rows = _rows(found, known, phase)
    most = max(max(row.one.seconds or 0.0, row.one.least_s or 0.0) for row in rows)
    across = Scale(0.0, most * 1.02, BARS, END, log=False, every=round_step(most, TICKS))
    several = len({row.one.candidate.layout.weights for row in rows}) > 1
    names = [_name(row.one, several) for row in rows]
    beside = EDGE + max(canvas.measure(name, NORMAL, bold=not number) for number, name in enumerate(names)) + 24
    canvas.text(EDGE, y + 10, f"The best layouts{_of(found, phase)}, by time", size=11.5, bold=True)
    top = y = _legend(canvas, y + 38) + 16
    for number, (row, name) in enumerate(zip(rows, names)):
        middle = y + ROW * number + ROW / 2
        mesh = (cut_of(row.one.candidate) or "its default mesh") + (f" and {row.others} more" if row.others else "")
        canvas.text(EDGE, middle, name, bold=not number)
        canvas.text(beside, middle, short(mesh, int((BARS - beside) / 6.4)), size=SMALL, colour=FAINT)
        _draw(canvas, across, row, pick, middle)
    y = top + ROW * len(rows)
    for tick in across.ticks():
        canvas.line(across(tick), top - 4, across(tick), y, "#E4E4E4", layer=0)
        canvas.text(across(tick), y + 12, show(tick, "s"), align="center", colour=FAINT)
    assert pick.step_s is not None
    canvas.line(across(pick.step_s), top - 6, across(pick.step_s), y, EXPOSED, layer=4, width=1.2)
    return _bounds(canvas, found, known, pick, y + 46)


def _of(found: Plan, phase: str) -> str:
    return f" of the {phase}" if len(found.pick.of) > 1 else ""


def _rows(found: Plan, known: Sequence[Ranked], phase: str) -> list[_Row]:
    """Return the best layouts, the pick first, then other tagged ones; equal name, attention, dtype and time share a row."""
    chosen = [("the pick", found.pick), ("the paper's", found.paper), ("the file's", found.file)]
    tags: dict[str, list[str]] = {}
    for tag, choice in chosen:
        if choice:
            tags.setdefault(_record(choice.of[phase]), []).append(tag)
    groups: dict[object, list[Ranked]] = {}
    for one in sorted(known, key=lambda one: (_record(one) != _record(found.pick.of[phase]), one.seconds)):
        layout = one.candidate.layout
        key = (one.candidate.name, attention_of(one.candidate), layout.weights, f"{one.seconds:.4g}")
        groups.setdefault(_record(one) if _record(one) in tags else key, []).append(one)
    rows = [_Row(some[0], max(0, sum(one.candidate.alike for one in some) - 1), tags.get(_record(some[0]), ()))
            for some in groups.values()]
    there = {_record(row.one) for row in rows}
    rows += [_Row(choice.of[phase], 0, tags[_record(choice.of[phase])]) for _, choice in chosen
             if choice and _record(choice.of[phase]) not in there]
    near = [row for row in rows if (row.one.seconds or 0.0) <= FAR * (rows[0].one.seconds or 0.0)][:ROWS]
    last = [row for row in rows if row.tags and row not in near]
    return [*near[:ROWS - len(last)], *sorted(last, key=lambda row: row.one.seconds or 0.0)]


def _record(one: Ranked) -> str:
    return repr(one.candidate.record())


def _name(one: Ranked, dtypes: bool) -> str:
    layout = one.candidate.layout
    return f"{one.candidate.name}, attention over {attention_of(one.candidate)}" + (f", {layout.weights}" if dtypes else "")


def _draw(canvas: Canvas, across: Scale, row: _Row, pick: Ranked, y: float) -> None:
    """Draw a bar of a layout's time, its bound as a tick, its distance to the pick, and its tags."""
    one, seconds = row.one, row.one.seconds or 0.0
    simulated, first = one.step_s is not None, "the pick" in row.tags
    colour = COMPUTE if first else MIDDLE if simulated else PALE
    canvas.box(across(0.0), across(seconds), y - BAR / 2, y + BAR / 2, colour)
    if one.least_s is not None:
        canvas.line(across(one.least_s), y - BAR / 2 - 3, across(one.least_s), y + BAR / 2 + 3, INK, layer=5, width=1.6)
    more = seconds / (pick.step_s or seconds) - 1
    than = "the same" if abs(more) <= SAME else f"{'+' if more > 0 else '-'}{percent(abs(more))}"
    said = show(seconds, "s") + ("" if first else f", {than}")
    canvas.text(END + 10, y, said if simulated else f"~{said}", bold=first)
    tags = [tag for tag in row.tags if tag != "the pick"]
    if tags:
        canvas.text(END + 10 + canvas.measure(said, NORMAL, first) + 12, y, f"({' and '.join(tags)})", size=SMALL, colour=EXPOSED)


def _legend(canvas: Canvas, y: float) -> float:
    x = EDGE
    for name, colour in (("the pick", COMPUTE), ("simulated", MIDDLE), ("closed form (~), excluded by its bound", PALE)):
        canvas.box(x, x + 24, y - 6, y + 6, colour)
        canvas.text(x + 31, y, name)
        x += canvas.measure(name, NORMAL) + 56
    for name, colour in (("lower bound", INK), ("the pick's time: a bound not left of it excludes", EXPOSED)):
        canvas.line(x + 4, y - 8, x + 4, y + 8, colour, width=1.6)
        canvas.text(x + 13, y, name)
        x += canvas.measure(name, NORMAL) + 38
    return y + 8


def _bounds(canvas: Canvas, found: Plan, known: Sequence[Ranked], pick: Ranked, y: float) -> float:
    """Draw a histogram of the bounds of layouts, and the pick's time. Return the lower end."""
    bounds = np.array([one.least_s for one in known])
    weights = np.array([one.candidate.alike for one in known])
    assert pick.step_s is not None
    across = Scale(min(bounds.min(), pick.step_s) / 1.06, max(bounds.max(), pick.step_s) * 1.06, 84.0, 1160.0)
    edges = np.geomspace(across.low, across.high, BINS + 1)
    counts = np.histogram(bounds, edges, weights=weights)[0]
    phase = _of(found, pick.candidate.phase)
    what = f"How many of the {int(weights.sum()):,} layouts that were priced have which lower bound{phase}"
    canvas.text(EDGE, y + 10, what, size=11.5, bold=True)
    y += 40
    up = Scale(0.0, max(float(counts.max()), 1.0) * 1.08, y + HIGH, y, log=False, every=round_step(float(counts.max()), TICKS))
    chart = Chart(canvas, across, up)
    chart.grid("", lambda value: f"{value:,.0f}")
    chart.below("lower bound (logarithmic)", lambda value: show(value, "s"))
    for low, high, count in zip(edges[:-1], edges[1:], counts):
        if count:
            excluded = low >= pick.step_s or high >= pick.step_s
            x0, x1, y0, y1 = across(low) + 0.5, across(high) - 0.5, up(float(count)), up(0.0)
            canvas.shape(np.array([[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]]), PALE if excluded else MIDDLE, name="bounds")
    x = across(pick.step_s)
    canvas.line(x, y - 14, x, y + HIGH, EXPOSED, layer=4, width=1.2)
    right = x > 1000
    said, place, align = ("not excluded by the pick", x - 6, "right") if right else ("excluded by the pick", x + 6, "left")
    canvas.text(place, y - 10, said, colour=EXPOSED, align=align)
    return y + HIGH + 58
