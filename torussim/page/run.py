"""What a page shows of one run: the scenario, its result, and the timeline of its last pass with the messages of some chips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torussim.answer import replay, shown_chips
from torussim.result import Result
from torussim.scenario import Scenario
from torussim.timeline import Timeline

HELD = 64  # chips that a page holds, at most, besides those that are asked for
MESSAGES = 40_000  # of all chips in a page, at most: half of them for the chips that it shows at first


@dataclass(frozen=True, eq=False)
class Run:
    """A run as a page shows it.

    `shown`: the chips whose lanes it shows at first; `held`: those that a reader can choose, with these. `notes`: what has to be
    said of the file.
    """

    scenario: Scenario
    file: str
    result: Result
    timeline: Timeline
    shown: tuple[int, ...]
    held: tuple[int, ...]
    notes: tuple[str, ...] = ()
    label: str = ""  # "A", "B" where a page shows several

    @property
    def keys(self) -> Any:
        """The keys of the result."""
        return self.result.keys

    def messages(self, chip: int) -> int:
        """Return how many messages of a chip are kept, at most."""
        return MESSAGES // 2 // (len(self.shown) if chip in self.shown else max(1, len(self.held) - len(self.shown)))

    @property
    def seconds(self) -> float:
        """How long a step takes, or a program."""
        return float(self.keys.get("step_s", self.keys["makespan_s"]))


def of(scenario: Scenario, file: str, result: Result, chips: Sequence[int] = (), notes: Sequence[str] = (),
       label: str = "") -> Run:
    """Return what a page shows of a run; `chips`: those whose lanes it shows.

    By default the fastest, median and slowest; of runs side by side, which have a `label`, the slowest, so that they are near.
    """
    shown = tuple(dict.fromkeys(chips)) or tuple(shown_chips(result)[-1 if label else 0:])
    every = range(len(result.timeline.chips))
    held = tuple(every) if len(every) <= HELD else tuple(sorted(shown))
    return Run(scenario, file, result, replay(scenario, held), shown, held, tuple(notes), label)
