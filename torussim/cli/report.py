"""The command that makes a page to send: report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from torussim.cli.common import each, example, fail, named_chips, progress, trusting, writable, write
from torussim.cli.completion import files, setting

if TYPE_CHECKING:
    from torussim.trust import Trust

MOST = 12  # runs of a page


@click.command(short_help="Write one HTML file to send.",
               epilog=example("torussim report scenarios/palm-540b-decode-slow-link.yaml -o report.html"))
@files("SCENARIO_OR_RESULT...")
@click.option("-o", "out", default="report.html", metavar="FILE", help="The page; default: report.html.")
@setting("Change a value in all files.")
@click.option("--chips", metavar="X,Y,Z ...", help="Chips to show, as 0,0,0 1,0,0; default: fast, median and slow ones.")
@click.option("--plan", "with_plan", is_flag=True, help="Also look for the best layout, as `torussim plan` does.")
@trusting()
def report(files: Sequence[str], out: str, overrides: Sequence[str], chips: str | None, with_plan: bool, trust: Trust) -> None:
    """Write one HTML file with the answer, a timeline, the network and tables; several runs stand side by side.

    Reads scenarios, the result.json of earlier runs and the plan.json of plans, whose scenarios are simulated again. The page
    needs no server and no network. Needs Bokeh: pip install 'torussim[report]'.
    """
    from torussim import page
    from torussim.answer import run as answer
    from torussim.page import charts, recorded

    charts.check()
    if len(files) > MOST:
        fail([f"{len(files)} runs are too many for one page: give at most {MOST}"])
    path = Path(out)
    if path.suffix not in (".html", ".htm"):
        fail([f"{out!r} is not a page: end its name in .html"])
    read = each(files, lambda file: recorded.read(file, overrides, trust))
    bare = [one.file for one in read if one.scenario.program]
    if with_plan and bare:
        fail([f"{file}: a program alone has no layout to plan: leave out --plan" for file in bare])
    chosen = [named_chips("--chips", chips, one.scenario) if chips else [] for one in read]
    writable(path.parent, path.name)
    runs, plans = [], dict[str, Mapping[str, Any]]()
    for one, shown, label in zip(read, chosen, page.labels(len(read)), strict=True):
        with progress(one.scenario.name) as advance:
            result = answer(one.scenario, progress=advance)
        runs.append(page.of(one.scenario, one.file, result, shown, recorded.notes(one, result), label))
        plan = one.plan or (_planned(one.scenario) if with_plan else None)
        if plan:
            plans[f"{label} {one.scenario.name}".strip()] = plan
    write(path, page.page(runs, plans).encode())
    click.echo(f"written to {path}")


def _planned(scenario: Any) -> Mapping[str, Any]:
    """Return the plan of a scenario, as plan.json has it."""
    from torussim.errors import PlanError
    from torussim.planner import plan

    try:
        with progress(scenario.name) as advance:
            found: Mapping[str, Any] = plan(scenario, progress=advance).keys()
    except PlanError as error:
        fail([f"{scenario.file}: {error}"])
    return found
