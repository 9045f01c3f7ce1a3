"""A plan as a picture: the front of latency and cost over several batches, or a ranking at one batch.

Coordinates are pixels of a page 1200 wide, y downwards. Simulated candidates are filled; candidates with only a closed form are
hollow or pale.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from torussim.planner.plans import Plan, Ranked
from torussim.planner.words import choices_of
from torussim.plot.canvas import COMPUTE, EXPOSED, FAINT, INK, KIND_COLOURS, SMALL, Canvas
from torussim.plot.chart import CIRCLE, SQUARE, TRIANGLE, Chart, Entry, Scale, legend
from torussim.plot.labels import tint
from torussim.plot.ranking import ranking
from torussim.plot.sheet import EDGE, PAGE
from torussim.timeline import Array
from torussim.units import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEFT, RIGHT = 96.0, 1160.0  # of the front
HIGH = 560.0

Kind = tuple[str, str, str]  # name of the layout, its other choices, dtype of weights

FAR = 4.0  # layouts slower than the best at their batch by this factor are not drawn
PALE = tint(COMPUTE, 0.3)
COLOURS = (COMPUTE, EXPOSED, KIND_COLOURS["reduce_scatter"], KIND_COLOURS["all_to_all"], KIND_COLOURS["all_reduce"])
STAR = np.array([(r * np.sin(a), -r * np.cos(a)) for a, r in zip(np.arange(10) * np.pi / 5, (1.5, 0.62) * 5)])
DOT = 0.5 * CIRCLE[::4]


def front_figure(found: Plan, *, title: str = "", subtitle: str = "") -> Figure:
    """Return a picture of a plan. The default title is the scenario's name; the default subtitle is the certificate."""
    canvas = Canvas()
    y = canvas.heading(EDGE, 10.0, title or f"{found.scenario.name}: which layout", subtitle or certificate(found))
    if len({one.candidate.batch for one in found.ranked}) > 1:
        return canvas.page(PAGE, _front(canvas, found, y + 12))
    for phase in found.pick.of:
        y = ranking(canvas, found, phase, y + 14)
    return canvas.page(PAGE, y)


def certificate(found: Plan) -> str:
    """Return the number of layouts, and the number in each state."""
    counts = {state: found.count(state) for state in ("simulated", "excluded", "open")}
    said = f"{found.space:,} layouts: {counts['simulated']:,} simulated, {counts['excluded']:,} excluded by a bound"
    left = found.count("limited") + found.count("misfit")
    said += f", {left:,} that do not fit or do not meet a limit" if left else ""
    return said + (f", {counts['open']:,} could not be excluded" if counts["open"] else "")


# -- several batches ----------------------------------------------------------------------------------------------------


def _front(canvas: Canvas, found: Plan, y: float) -> float:
    """Draw latency and cost of the candidates of the pick's phase. Return the lower end."""
    phase = found.pick.candidate.phase
    drawn = [one for one in found.ranked if one.candidate.phase == phase and one.state in ("simulated", "excluded", "open")]
    best: dict[int, Ranked] = {}
    for one in (one for one in drawn if one.candidate.alike):
        known = best.setdefault(one.candidate.batch, one)
        if (one.seconds or 0.0) < (known.seconds or 0.0):
            best[one.candidate.batch] = one
    far = {batch: FAR * (one.seconds or 0.0) for batch, one in best.items()}
    near = [one for one in drawn if (one.seconds or 0.0) <= far.get(one.candidate.batch, 0.0)]
    picks = [choice.of[phase] for choice in found.picks]
    others = _others(found, phase, picks)
    points = {id(one): (one.seconds or 0.0, found.alone(one)["chip_s_per_token"])
              for one in (*near, *picks, *(one for _, one in others))}
    colours = _kinds([*picks, *best.values()])
    several = len({one.candidate.layout.weights for one in drawn}) > 1
    y = legend(canvas, EDGE, y + 8, _entries(found, colours, several, len(drawn) - len(near)), PAGE - 2 * EDGE) + 30
    times, costs = zip(*points.values())
    chart = Chart(canvas, _around(times, LEFT, RIGHT), _around(costs, y + HIGH, y))
    chart.grid("cost, chip-seconds a token", lambda value: show(value, "s"))
    chart.below(f"time of a {'decode step' if phase == 'decode' else 'prefill'} (both axes are logarithmic)",
                lambda value: show(value, "s"))
    for what, colour, layer in (("closed form", tint(COMPUTE, 0.3), 1), ("simulated", tint(COMPUTE, 0.6), 2)):
        some = [points[id(one)] for one in near if (one.step_s is not None) == (what == "simulated")]
        places = np.array([chart.pixels(point) for point in some]).reshape(-1, 1, 2)
        canvas.shape(places + 5.0 * DOT[None], colour, name=f"layouts, {what}", layer=layer)
    for limit in found.planning.limits:
        if limit.what == "step_s" and limit.at_most and chart.across.low <= limit.at_most <= chart.across.high:
            x = chart.across(limit.at_most)
            canvas.line(x, y + HIGH, x, y, FAINT, width=1.2, dashes="dashed")
            canvas.text(x + 5, y + 10, "limit of step_s", size=SMALL, colour=FAINT)
    if len(picks) > 1:
        chart.curve([points[id(one)] for one in picks], FAINT, width=1.4)
    for batch, one in best.items():
        if batch not in {pick.candidate.batch for pick in picks}:
            chart.mark(points[id(one)], CIRCLE, colours[_kind(one)], name="best of a batch", size=4.5, hollow=one.step_s is None)
            chart.label(points[id(one)], f"{batch:,}", FAINT)
    for number, one in enumerate(picks):
        shape, size = (STAR, 7.5) if number == 0 and len(picks) == 1 else (CIRCLE, 7.5)
        chart.mark(points[id(one)], shape, colours[_kind(one)], name="the pick" if len(picks) == 1 else "front", size=size)
        text = f"{one.candidate.batch:,}"
        chart.label(points[id(one)], text if len(picks) > 1 else f"{text}: {_named(_kind(one), several)}")
    for marker, one in others:
        chart.mark(points[id(one)], marker, INK, name=MARKED[id(marker)], size=6.0, hollow=True)
        chart.label(points[id(one)], MARKED[id(marker)])
    chart.place()
    return y + HIGH + 58


MARKED = {id(TRIANGLE): "the paper's model", id(SQUARE): "the file's layout"}


def _others(found: Plan, phase: str, picks: Sequence[Ranked]) -> list[tuple[Array, Ranked]]:
    """Return the choices of the paper and of the file with their markers, if they are no picks."""
    choices = [(TRIANGLE, found.paper), (SQUARE, found.file)]
    return [(marker, choice.of[phase]) for marker, choice in choices
            if choice is not None and not any(_same(choice.of[phase], pick) for pick in picks)]


def _same(one: Ranked, other: Ranked) -> bool:
    return one.candidate.batch == other.candidate.batch and one.candidate.record() == other.candidate.record()


def _kind(one: Ranked) -> Kind:
    layout = one.candidate.layout
    return one.candidate.name, choices_of(one.candidate), str(layout.weights)


def _kinds(some: Iterable[Ranked]) -> Mapping[Kind, str]:
    """Return a colour for each layout, attention and dtype of weights. Kinds beyond the colours share the last one."""
    kinds = list(dict.fromkeys(map(_kind, some)))
    return {kind: COLOURS[min(i, len(COLOURS) - 1)] for i, kind in enumerate(kinds)}


def _entries(found: Plan, colours: Mapping[Kind, str], several: bool, left_out: int) -> list[Entry]:
    """Return the entries of the legend."""
    entries = [Entry(_named(kind, several), colour, CIRCLE) for kind, colour in colours.items()]
    entries += [Entry("the front: no layout is better in both", FAINT, dashes="solid")] if len(found.picks) > 1 else \
        [Entry("the pick", FAINT, STAR), Entry("the best at another batch; hollow: in closed form", FAINT, CIRCLE, hollow=True)]
    far = f"; {left_out:,} more take over {FAR:.0f} times the best at their batch" if left_out else ""
    return [*entries, Entry(f"other layouts, dark: simulated{far}", PALE, DOT)]


def _named(kind: Kind, several: bool) -> str:
    """Return a kind in words, with its dtype if there are several dtypes."""
    name, choices, weights = kind
    return f"{name}, attention over {choices}{f', {weights}' if several else ''}"


def _around(values: Sequence[float], start: float, end: float) -> Scale:
    return Scale(min(values) / 1.25, max(values) * 1.25, start, end)
