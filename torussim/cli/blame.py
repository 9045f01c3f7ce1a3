"""The command that reads measured times: blame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from torussim.cli.common import example, load, progress, trusting
from torussim.cli.completion import a_file, scenarios, setting

if TYPE_CHECKING:
    from torussim.trust import Trust


@click.command(short_help="Name what is slow in a measured run.",
               epilog=example("torussim blame trace.json.gz scenarios/palm-540b-decode-64-chips.yaml"))
@click.argument("trace", metavar="TRACE", shell_complete=scenarios)
@a_file("SCENARIO")
@setting("Change a value, as in topology.latency=2us.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@trusting()
def blame(trace: str, file: str, overrides: Sequence[str], as_json: bool, trust: Trust) -> None:
    """Say which links, chips or operations of a measured run are slower than they should be, and how sure that is.

    TRACE is a trace of your own run (.json or .json.gz, as XProf or Perfetto export it), or a table with the columns operation,
    time and, if it has them, chip (.csv or .jsonl). SCENARIO says what was run. Its section trace says what the trace calls
    operations and chips; names that are the same need none.
    """
    from torussim.measured.verdict import blame as judged

    (scenario,) = load([file], overrides, trust)
    with progress(scenario.name) as advance:
        def told(done: int) -> None:
            if advance:
                advance(min(done, expected - 1), expected)
        expected = max(2, len(scenario.net.links.source) // 2)
        found = judged(trace, scenario, most=trust.most, progress=told)
    click.echo(found.json() if as_json else str(found))
