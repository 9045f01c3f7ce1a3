"""The sums over the simulated passes of a workload; each simulated pass represents a number of passes near it.

If every pass is simulated, each counts once. Otherwise only some are, and the times of the others are interpolated
(`interpolation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from torussim.alike import Alike
from torussim.analysis import breakdown, on_its_own
from torussim.engine.prepared import Prepared
from torussim.engine.simulate import simulate
from torussim.interpolation import FEW, Span, each, spans, tolerance
from torussim.scenario import Scenario
from torussim.timeline import Timeline

Array = np.ndarray[Any, Any]
Progress = Callable[[int, int], None]
PARTS = ("compute", "exposed_collective", "overhead", "bubble")


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums over the first `done` passes; `timeline` is that of the last of them."""

    links: Array  # (2, links): bytes and seconds
    done: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)  # by phase
    parts: Mapping[str, Array] = field(default_factory=dict)  # by phase: (PARTS,) seconds
    error: float = 0.0  # s: the largest possible error of the seconds
    timeline: Timeline | None = None

    @property
    def in_all(self) -> float:
        """The time of these passes, seconds."""
        return self.seconds.get("prefill", 0.0) + self.seconds.get("decode", 0.0)

    def plus(self, phase: str, span: Span, before: int, timelines: Mapping[int, Timeline]) -> Sums:
        """Return the sums with the passes of a span; their numbers count from the pass after the first `before`."""
        seconds, parts, links = self.seconds.get(phase, 0.0), self.parts.get(phase, np.zeros(len(PARTS))), self.links
        for number, times in span.weights.items():
            one = timelines[number]
            shares = breakdown(one, one.last_chip)
            seconds += times * one.makespan
            parts = parts + times * np.array([shares.get(name, 0.0) for name in PARTS])
            links = links + np.multiply(times, (one.link_bytes, one.link_seconds))
        return Sums(links, before + span.stop, {**self.seconds, phase: seconds}, {**self.parts, phase: parts},
                    self.error + span.error, timelines[span.stop - 1])


class Tally:
    """The sums so far, and the counts of the simulation: events, flows and blocks, as Timeline counts them, and passes.

    An exception in mid-run leaves the sums of whole passes.
    """

    def __init__(self, scenario: Scenario, prepared: Prepared, *, every: bool, blocks: int, progress: Progress | None) -> None:
        self.scenario, self.prepared, self.blocks = scenario, prepared, blocks
        self.every = every
        self.last_change = max((event.time for event in scenario.net.links.events), default=0.0)
        self.sums = Sums(np.zeros((2, len(scenario.net.links.source))))
        self.events = self.flows = self.blocks_simulated = self.blocks_done = self.leapt = self.passes = 0
        self.proved = True
        self._progress, self._told = progress, 0

    def add(self, group: Alike) -> None:
        """Add a group of passes."""
        done = 0
        while done < len(group) and self.sums.in_all < self.last_change:  # the start time of each pass matters
            self._add(group.part(done, done + 1))
            done += 1
        if done < len(group):
            parts, convex = group.part(done).straight(self.scenario.chip)
            for part in parts:
                self._add(part, convex)

    def _add(self, group: Alike, convex: bool = True) -> None:
        """Add passes whose time does not depend on their start, or a single one.

        `convex`: whether their time is a convex function of that of attention on private links.
        """
        timelines: dict[int, Timeline] = {}

        def seconds(number: int) -> float:
            if number not in timelines:
                timelines[number] = self.simulated(group, number)
            return timelines[number].makespan

        seconds(0)
        apart = not timelines[0].flows or len(group) == 1 or all(on_its_own(timelines[0], o.name) for o in group.attention[0])
        proved = convex and apart
        if self.every or (not proved and len(group) <= FEW):
            settled = each(len(group))
        else:
            settled = spans(group.seconds(self.scenario.chip), seconds, group.runs.sum(), tolerance(len(group)),
                            convex=proved)
            self.proved &= proved
        before, blocks, blocks_before = self.sums.done, group.program.block_runs, self.blocks_done
        for span in settled:
            for number in span.weights:
                seconds(number)
            self.sums = self.sums.plus(group.phase, span, before, timelines)
            for number in [n for n in timelines if n < span.stop - 1]:
                del timelines[number]
            self.blocks_done = blocks_before + blocks * span.stop
            self.tell(0, blocks)

    def simulated(self, group: Alike, number: int) -> Timeline:
        """Return the timeline of a pass, which begins at the end of the last one, or at the last change, which is equivalent."""
        begin = min(self.sums.in_all, self.last_change)
        timeline = simulate(group.of(number), self.prepared, self.scenario.chip, start=[begin] * len(self.scenario.net.chips),
                            progress=self.tell if self._progress else None)
        self.passes += 1
        self.events += timeline.events
        self.flows += timeline.flows
        self.blocks_simulated += timeline.blocks_simulated
        self.leapt += timeline.leapt
        return timeline

    def tell(self, done: int, blocks: int) -> None:
        """Report the progress of the run: blocks of the present pass, and all earlier passes; it never decreases."""
        self._told = max(self._told, self.blocks_done + done)
        if self._progress:
            self._progress(self._told, self.blocks)
