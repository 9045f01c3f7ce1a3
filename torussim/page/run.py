"""What a page shows of one run: the scenario, its result, and the timeline of its last pass with the messages of some chips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torussim.answer import replay, shown_chips
from torussim.result import Result
from torussim.scenario import Scenario
from torussim.timeline import Timeline

HELD = 64  # chips that a page holds, at most, besides those that are asked for and the ends of notable links
ENDS = 4  # chips at the ends of notable links
MESSAGES = (15_000, 9_000, 20_000)  # at most: of the chips shown at first, of the ends of notable links, of the others


@dataclass(frozen=True, eq=False)
class Run:
    """A run as a page shows it.

    `shown`: the chips whose lanes it shows at first; `held`: those that a reader can choose, with these; `ends`: those at the
    ends of faulty links and of the busiest links. `notes`: what has to be said of the file.
    """

    scenario: Scenario
    file: str
    result: Result
    timeline: Timeline
    shown: tuple[int, ...]
    held: tuple[int, ...]
    ends: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    label: str = ""  # "A", "B" where a page shows several

    @property
    def keys(self) -> Any:
        """The keys of the result."""
        return self.result.keys

    def messages(self, chip: int) -> int:
        """Return how many messages of a chip are kept, at most."""
        first, ends = set(self.shown), set(self.ends) - set(self.shown)
        groups = (first, ends, set(self.held) - first - ends)
        return next((most // len(chips) for most, chips in zip(MESSAGES, groups) if chip in chips), 0)

    @property
    def seconds(self) -> float:
        """How long a step takes, or a program."""
        return float(self.keys.get("step_s", self.keys["makespan_s"]))


def of(scenario: Scenario, file: str, result: Result, chips: Sequence[int] = (), notes: Sequence[str] = (),
       label: str = "") -> Run:
    """Return what a page shows of a run; `chips`: those whose lanes it shows.

    By default those of `shown_chips`; of runs side by side, which have a `label`, the slowest, so that they are near.
    """
    shown = tuple(dict.fromkeys(chips)) or tuple(shown_chips(result)[-1 if label else 0:])
    every, ends = range(len(result.timeline.chips)), _ends(result)
    held = tuple(every) if len(every) <= HELD else tuple(sorted({*shown, *ends}))
    return Run(scenario, file, result, replay(scenario, held), shown, held, ends, tuple(notes), label)


def _ends(result: Result) -> tuple[int, ...]:
    """Return the chips at the ends of the worst faults, then of the busiest links, at most ENDS."""
    place = {tuple(chip): i for i, chip in enumerate(result.timeline.chips)}
    links = [*(result.keys.get("faults") or {"worst": ()})["worst"], *result.keys["links"]["busiest"]]
    nodes = [node for link in links for node in (link["from"], link["to"]) if not isinstance(node, str)]  # a switch is a text
    return tuple(dict.fromkeys(place[tuple(node)] for node in nodes if tuple(node) in place))[:ENDS]
