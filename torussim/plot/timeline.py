"""A timeline as a Gantt picture: one panel of lanes for each chip, over one or more blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torussim import analysis
from torussim.errors import TorusSimError
from torussim.plot.canvas import FAINT, Canvas
from torussim.plot.labels import WIDTH
from torussim.plot.panel import Panel
from torussim.plot.view import window
from torussim.timeline import Timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CHIPS = 100  # more chips make too high a picture


def timeline_figure(timeline: Timeline, *, chips: Sequence[int] | None = None, first: int | None = None, runs: int = 1,
                    title: str = "", subtitle: str = "") -> Figure:
    """Return a picture of `chips` in `runs` of the timeline's runs from index `first` on.

    The default is the chips of `analysis.chosen_chips` in the last simulated block; with pipeline stages in all runs, so that the
    bubbles are seen. `runs` beyond the last are left out. A block too narrow to read is one column of shares. Messages appear for
    the recorded chips. Raise TorusSimError for a chip or a run that does not exist.
    """
    chips = analysis.chosen_chips(timeline) if chips is None else chips
    if first is None and runs == 1 and analysis.staged(timeline):
        first, runs = 0, len(timeline.runs)
    first = analysis.last_block(timeline) if first is None else first
    for what, index, count in [("chip", c, len(timeline.chips)) for c in chips] + [("run", first, max(1, len(timeline.runs)))]:
        if not 0 <= index < count:
            raise TorusSimError(f"there is no {what} {index}: give one from 0 to {count - 1}")
    if len(chips) > MAX_CHIPS:
        raise TorusSimError(f"{len(chips)} chips are too many for one picture: give at most {MAX_CHIPS}")
    view = window(timeline, chips, range(first, min(first + max(runs, 1), len(timeline.runs))))
    canvas = Canvas()
    y = 0.0
    for chip in chips if view.runs else ():
        y = Panel(view, canvas, chip).draw(y) + 16
    if not y:
        canvas.text(WIDTH / 2, 30, "nothing ran", colour=FAINT, align="center")
    return canvas.figure(max(y - 8, 60), view, title, subtitle)
