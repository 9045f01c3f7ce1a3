"""The command that looks for the best layout: plan."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torussim.cli.common import each, emphasized, example, fail, progress, quiet, say, trusting, writable, write
from torussim.cli.completion import a_file, setting

if TYPE_CHECKING:
    from torussim.trust import Trust


@click.command(short_help="Find the best layout for a scenario.",
               epilog=example("torussim plan scenarios/plan-llama-3-70b-v5e-16.yaml --set plan.objective=cost"))
@a_file()
@click.option("-o", "out", default="out", metavar="DIR", help="Where to write results; default: out.")
@setting("Change a value, as in plan.objective=cost.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan alone, as JSON with every candidate; no picture.")
@click.option("--simulations", type=click.IntRange(1), default=1000, help="Simulate at most so many layouts; default: 1000.")
@click.option("--no-pictures", is_flag=True, help="Write no picture.")
@quiet()
@trusting()
def plan(file: str, out: str, overrides: Sequence[str], as_json: bool, simulations: int, no_pictures: bool, quiet: bool,
         trust: Trust) -> None:
    """Find the layout that a scenario should take, and say how sure that is.

    Writes out/<name>/ with plan.json, plan.png and best.json, a scenario that `torussim run` takes.
    """
    from torussim.errors import PlanError
    from torussim.planner import plan as planned
    from torussim.scenario import load

    (scenario,) = each([file], lambda file: load(file, overrides, code=trust, fitting=False))
    folder = Path(out) / scenario.slug
    writable(folder, "plan.json", "plan.png", "best.json")
    try:
        with progress(scenario.name, quiet) as advance:
            found = planned(scenario, simulations=simulations, progress=advance)
    except (KeyboardInterrupt, PlanError) as error:
        with suppress(OSError):
            folder.rmdir()  # nothing is left behind; a folder with an earlier plan stays
        if isinstance(error, PlanError):
            fail([f"{file}: {error}"])
        click.echo("\nstopped before there was a layout for every phase that meets the limits: there is no plan", err=True)
        sys.exit(130)
    write(folder / "plan.json", found.json().encode() + b"\n")
    write(folder / "best.json", json.dumps(found.best.resolved, indent=1, allow_nan=False).encode() + b"\n")
    if as_json or no_pictures or found.partial:
        (folder / "plan.png").unlink(missing_ok=True)  # that of an earlier plan would belie the one beside it
    else:
        from torussim.plot import defaults, encode, front_figure

        with defaults():
            write(folder / "plan.png", encode(front_figure(found), "png"))
    if as_json:
        click.echo(found.json())
    elif quiet:
        click.echo(f"written to {folder}{os.sep}")
    else:
        say(emphasized(str(found), 1))
        code = f" --code {Path(file).parent}" if "code" in found.best.resolved else ""
        click.echo(f"\nwritten to {folder}{os.sep}; run the best with: torussim run {folder / 'best.json'}{code}")
    if found.partial:
        sys.exit(130)
