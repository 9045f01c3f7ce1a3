"""What a run writes for other tools, when it is asked to: `run --trace --timeline --chakra`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torussim.cli.common import named_chips, write

if TYPE_CHECKING:
    from torussim.result import Result
    from torussim.scenario import Scenario

TRACE = "trace.json.gz"
NAMES = (TRACE,)


@dataclass(frozen=True)
class Exports:
    """What is written of each run, and of which chips."""

    trace: bool = False
    chips: str | None = None
    chosen: dict[str, list[int] | None] = field(default_factory=dict)  # by file of the scenario; None: those of the picture

    @property
    def names(self) -> list[str]:
        """The files that are written."""
        return [name for name, wanted in ((TRACE, self.trace),) if wanted]

    def choose(self, scenarios: Sequence[Scenario]) -> None:
        """Find the chips that are named on each network; end with what is wrong, before anything is written."""
        for scenario in scenarios:
            self.chosen[scenario.file] = named_chips("--trace-chips", self.chips, scenario) if self.chips else None

    def write(self, scenario: Scenario, result: Result, folder: Path) -> None:
        """Write what was asked for of the last pass; remove what an earlier run has left and was not asked for."""
        for name in set(NAMES) - set(self.names):
            (folder / name).unlink(missing_ok=True)
        if not self.names:
            return
        from torussim.analysis import chosen_chips
        from torussim.answer import replay
        from torussim.export import about
        from torussim.export.facts import facts, of_keys

        chips = self.chosen[scenario.file]
        chips = chosen_chips(result.timeline) if chips is None else chips
        timeline = replay(scenario, chips, every_block=bool(result.timeline.leapt))
        said = facts(timeline, scenario.chip, of_keys(result.keys))
        if self.trace:
            from torussim.export.perfetto import Trace, encode

            write(folder / TRACE, encode(Trace(timeline, scenario.net, chips, said, about(result))))


def exporting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of what it writes for other tools: its parameter `exports`."""
    @click.option("--trace", is_flag=True, help="Write trace.json.gz, for ui.perfetto.dev or chrome://tracing.")
    @click.option("--trace-chips", "chips", metavar="X,Y,Z ...",
                  help="Chips in the trace, as 0,0,0 1,0,0, or all; default: the fastest, median and slowest.")
    @wraps(command)
    def asked(*, trace: bool, chips: str | None, **others: Any) -> None:
        command(exports=Exports(trace or chips is not None, chips), **others)
    return asked
