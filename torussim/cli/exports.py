"""What a run writes for other tools, when it is asked to: `run --trace --timeline --chakra`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torussim.cli.common import fail, named_chips, write, write_rows

if TYPE_CHECKING:
    from torussim.result import Result
    from torussim.scenario import Scenario

TRACE = "trace.json.gz"
TABLES = {kind: (f"timeline.{kind}", f"messages.{kind}") for kind in ("csv", "parquet")}
NAMES = (TRACE, *(name for names in TABLES.values() for name in names))
CHAKRA = "chakra"  # a folder
MOST = 1_000_000  # operations of all chips and blocks that are written


@dataclass(frozen=True)
class Exports:
    """What is written of each run, and of which chips."""

    trace: bool = False
    table: str | None = None  # "csv" or "parquet"
    chakra: bool = False
    chips: str | None = None
    chosen: dict[str, list[int] | None] = field(default_factory=dict)  # by file of the scenario; None: those of the picture

    @property
    def names(self) -> list[str]:
        """The files that are written."""
        return ([TRACE] if self.trace else []) + ([*TABLES[self.table]] if self.table else [])

    def choose(self, scenarios: Sequence[Scenario]) -> None:
        """Find the chips that are named on each network; end with what is wrong, before anything is written."""
        from torussim.answer import last_program
        from torussim.chakra.schema import check_library
        from torussim.rows import check_output

        if self.table:
            check_output(TABLES[self.table][0])
        if self.chakra:
            check_library()
        for scenario in scenarios:
            chosen = None if self.chips is None else list(dict.fromkeys(named_chips("--trace-chips", self.chips, scenario)))
            self.chosen[scenario.file] = chosen
            if chosen is not None:
                size = len(chosen) * sum(len(listed) * times for listed, times in last_program(scenario).sections())
                if size > MOST:
                    fail([f"--trace-chips {self.chips!r}: {len(chosen):,} chips run {size:,} operations, more than the {MOST:,} "
                          "that are written: name fewer chips"])

    def write(self, scenario: Scenario, result: Result, folder: Path) -> None:
        """Write what was asked for of the last pass; remove what an earlier run has left and was not asked for."""
        for name in set(NAMES) - set(self.names):
            (folder / name).unlink(missing_ok=True)
        for old in (*(folder / CHAKRA).glob("trace.*.et"), folder / CHAKRA / "comm_groups.json"):
            old.unlink(missing_ok=True)
        if not self.names and not self.chakra:
            return
        from torussim.analysis import chosen_chips
        from torussim.answer import last_program, replay
        from torussim.export import about
        from torussim.export.facts import facts, of_keys

        chips = self.chosen[scenario.file]
        chips = chosen_chips(result.timeline) if chips is None else chips
        timeline = replay(scenario, chips, start=result.timeline.begin.tolist(), every_block=bool(result.timeline.leapt))
        said = facts(timeline, scenario.chip, of_keys(result.keys))
        if self.trace:
            from torussim.export.perfetto import Trace, encode

            write(folder / TRACE, encode(Trace(timeline, scenario.net, chips, said, about(result))))
        if self.table:
            from torussim.export.tables import MESSAGES, OPERATIONS, Rows, message_rows, operation_rows

            of_operations, of_messages = TABLES[self.table]
            write_rows(folder / of_operations, Rows(lambda: operation_rows(timeline, chips, said)), OPERATIONS)
            if timeline.sent:
                write_rows(folder / of_messages, Rows(lambda: message_rows(timeline, scenario.net)), MESSAGES)
            else:
                (folder / of_messages).unlink(missing_ok=True)
        if self.chakra:
            from torussim.export.chakra import Traced, files

            (folder / CHAKRA).mkdir(exist_ok=True)
            traced = Traced(timeline, scenario.net, last_program(scenario), said, about(result))
            for name, data in files(traced, chips):
                write(folder / CHAKRA / name, data)


def exporting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of what it writes for other tools: its parameter `exports`."""
    @click.option("--trace", is_flag=True, help="Write trace.json.gz, for ui.perfetto.dev or chrome://tracing.")
    @click.option("--timeline", "table", type=click.Choice([*TABLES]),
                  help="Write timeline.csv, a row an operation, chip and block, and messages.csv; or both as Parquet.")
    @click.option("--chakra", is_flag=True, help="Write chakra/trace.N.et, a Chakra execution trace of each chip.")
    @click.option("--trace-chips", "chips", metavar="X,Y,Z ...",
                  help="Chips of --trace, --timeline and --chakra, as 0,0,0 1,0,0, or all; default: those of the picture.")
    @wraps(command)
    def asked(*, trace: bool, table: str | None, chakra: bool, chips: str | None, **others: Any) -> None:
        trace = trace or (chips is not None and not table and not chakra)
        command(exports=Exports(trace, table, chakra, chips), **others)
    return asked
