"""The part of a timeline in a picture: its runs, and the time window that all panels share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from torussim.plot.labels import WIDTH
from torussim.timeline import Timeline


@dataclass(frozen=True, eq=False)
class View:
    """The shared view of all panels: the window in seconds, and pixels per second."""

    timeline: Timeline
    runs: range
    extents: dict[tuple[int, int], tuple[float, float]]  # (chip, run): start and end there
    since: float
    until: float
    lengths: tuple[int, ...]  # of the axes

    @property
    def scale(self) -> float:
        """Pixels per second."""
        return WIDTH / (self.until - self.since)

    def x(self, seconds: float) -> float:
        """Return the pixel of a time."""
        return (seconds - self.since) * self.scale

    def extent(self, chip: int, run: int) -> tuple[float, float]:
        """Return start and end of one run on a chip."""
        segment, offset = self.timeline.runs[run]
        s = self.timeline.segments[segment]
        return float(s.start[:, chip].min(initial=np.inf)) + offset, float(s.end[:, chip].max(initial=-np.inf)) + offset

    def section(self, run: int) -> str:
        """Return the section of a run."""
        return self.timeline.segments[self.timeline.runs[run][0]].section

    def is_block(self, run: int) -> bool:
        """Return whether a run is one of a block."""
        return self.timeline.segments[self.timeline.runs[run][0]].is_block

    def columns(self) -> list[int]:
        """Return the blocks among the runs, if there are some and they are too narrow to show their operations."""
        blocks = {run: len(self.timeline.segments[self.timeline.runs[run][0]].operations)
                  for run in self.runs if self.is_block(run)}
        wide = [end - start for (_, run), (start, end) in self.extents.items() if run in blocks]
        if len(blocks) < 2 or np.mean(wide) * self.scale >= min(400, 14 * max(blocks.values())):
            return []
        return list(blocks)

    def what(self) -> str:
        """Return the content of the picture in words."""
        if len(self.runs) == len(self.timeline.runs):
            return "the run"
        if len(self.runs) > 1:
            return "what is shown"
        run = self.runs.start
        if not self.is_block(run):
            return f"the {self.section(run)}"
        title = self.title(run)
        return title if title == self.section(run) else f"{title} of {self.timeline.counts()[run][1]}"

    def title(self, run: int, until: int = 0) -> str:
        """Return the name of a run, or of its block's runs up to number `until`.

        It is "block 3" for a program with one block, else "block 2, run 3", or "block 2" if that block runs once.
        """
        section, (number, of) = self.section(run), self.timeline.counts()[run]
        single = len(self.timeline.last_of_blocks()) == 1
        if not self.is_block(run) or (of == 1 and not single):
            return section
        numbers = f"s {number} to {until}" if until else f" {number}"
        return f"block{numbers}" if single else f"{section}, run{numbers}"


def window(timeline: Timeline, chips: Sequence[int], runs: range) -> View:
    """Return the view of some chips over some runs."""
    lengths = tuple((np.array(timeline.chips).max(axis=0) + 1).tolist()) if timeline.chips else ()
    empty = View(timeline, runs, {}, 0.0, 1.0, lengths)
    shown = range(runs.start, runs.start) if not chips else runs
    extents = {(chip, run): empty.extent(chip, run) for chip in chips for run in shown}
    since = min((start for start, _ in extents.values()), default=0.0)
    until = max((end for _, end in extents.values()), default=0.0)
    return View(timeline, shown, extents, since, until if until > since else since + 1e-9, lengths)
