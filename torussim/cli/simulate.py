"""The commands that simulate scenarios: run, compare, plot."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torussim.cli.common import (
    example,
    fail,
    folders_of,
    load,
    named_chips,
    paint,
    progress,
    quiet,
    say,
    trusting,
    writable,
    write,
)
from torussim.cli.completion import a_file, files, setting
from torussim.cli.exports import Exports, exporting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from torussim.result import Result
    from torussim.trust import Trust

PICTURES = (".png", ".svg", ".pdf")
BY = ("step_s", "tokens_per_s", "mfu", "chip_s_per_token", "latency_s", "makespan_s")  # compare.BY, heavy to import


@click.command(short_help="Simulate scenarios and report what is to blame.",
               epilog=example("torussim run scenarios/palm-540b-decode-slow-link.yaml --set workload.tokens=1"))
@files()
@click.option("-o", "out", default="out", metavar="DIR", help="Where to write results; default: out.")
@setting("Change a value, as in topology.latency=2us.")
@click.option("--json", "as_json", is_flag=True, help="Print the result alone, as JSON; no pictures.")
@click.option("--strict", is_flag=True, help="Exit with 1 when an expectation is missed or memory does not fit.")
@click.option("--no-pictures", is_flag=True, help="Write no pictures, and remove those of an earlier run.")
@click.option("--every-step", is_flag=True, help="Simulate every decode step and every chunk of a prefill.")
@click.option("-v", "--verbose", is_flag=True, help="Print all tables: estimates, operations, memory, links.")
@quiet()
@exporting
@trusting()
def run(files: Sequence[str], out: str, overrides: Sequence[str], as_json: bool, strict: bool, no_pictures: bool,
        every_step: bool, verbose: bool, quiet: bool, trust: Trust, exports: Exports) -> None:
    """Simulate scenarios; print a report of each, and write out/<name>/.

    After Ctrl-C the report is of the passes so far.
    """
    from torussim import report
    from torussim.answer import Interrupted
    from torussim.answer import run as answer

    if verbose and quiet:
        raise click.UsageError("--verbose and --quiet exclude each other: give one of them")
    scenarios = load(files, overrides, trust)
    exports.choose(scenarios)
    folders = folders_of(scenarios, Path(out), *exports.names)
    results: list[Result] = []
    interrupted = False
    for number, (scenario, folder) in enumerate(zip(scenarios, folders)):
        try:
            with progress(scenario.name, quiet) as advance:
                result = answer(scenario, progress=advance, every_step=every_step)
        except Interrupted as stopped:
            result, interrupted = stopped.result, True
        results.append(result)
        write(folder / "result.json", result.json().encode() + b"\n")
        if as_json or no_pictures or interrupted:
            for name in ("timeline.png", "links.png"):  # those of an earlier run would belie the result beside them
                (folder / name).unlink(missing_ok=True)
        else:
            _picture(result.plot(), folder / "timeline.png")
            _picture(result.links(), folder / "links.png")
        (Exports() if interrupted else exports).write(scenario, result, folder)
        if quiet and not as_json:
            click.echo(f"written to {folder}{os.sep}")
        elif not as_json:
            say(("\n\n" if number else "") + report.text(result, verbose=verbose, paint=paint))
            click.echo(f"\nwritten to {folder}{os.sep}" if verbose else f"written to {folder}{os.sep}; --verbose: all tables")
        if interrupted:
            break
    if as_json:
        import json

        from torussim.result import plain

        every = plain([r.keys for r in results])
        click.echo(results[0].json() if len(files) == 1 else json.dumps(every, indent=1, allow_nan=False))
    if interrupted:
        sys.exit(130)
    if strict and any(r.missed for r in results):
        sys.exit(1)


@click.command(short_help="Simulate scenarios and compare them.",
               epilog=example("torussim compare scenarios/network-torus.yaml scenarios/network-mesh.yaml"))
@files()
@setting("Change a value in all files.")
@click.option("--by", type=click.Choice(BY), default="step_s", help="What decides which is best; default: step_s.")
@click.option("--json", "as_json", is_flag=True, help="Print the results, best first, as a JSON list.")
@click.option("--strict", is_flag=True, help="Exit with 1 when an expectation is missed or memory does not fit.")
@trusting()
def compare(files: Sequence[str], overrides: Sequence[str], by: str, as_json: bool, strict: bool, trust: Trust) -> None:
    """Simulate scenarios and put them side by side, best first, with what differs; writes nothing."""
    import shutil

    from torussim import compare as side_by_side
    from torussim.answer import run as answer

    scenarios = load(files, overrides, trust)
    side_by_side.check_by(by, all(s.program is not None for s in scenarios))
    results = []
    for scenario in scenarios:
        with progress(scenario.name) as advance:
            results.append(answer(scenario, progress=advance))
    found = side_by_side.compare(results, files, by=by)
    width = shutil.get_terminal_size((side_by_side.WIDTH, 0)).columns if sys.stdout.isatty() else side_by_side.WIDTH
    click.echo(found.json() if as_json else found.text(width))
    if strict and any(r.missed for r in results):
        sys.exit(1)


@click.command(short_help="Draw the timeline of a scenario.",
               epilog=example("torussim plot scenarios/palm-540b-decode-slow-link.yaml -o slow.png --chips '0,0,0 2,2,2'"))
@a_file()
@click.option("-o", "image", metavar="IMAGE", help="The picture, .png, .svg or .pdf; default: timeline.png.")
@setting("Change a value, as in topology.latency=2us.")
@click.option("--chips", metavar="X,Y,Z ...", help="Chips to show, as 0,0,0 1,0,0; default: fast, median and slow ones.")
@click.option("--blocks", type=click.IntRange(1, 1000), default=1, help="How many blocks to show; default: 1.")
@trusting()
def plot(file: str, image: str | None, overrides: Sequence[str], chips: str | None, blocks: int, trust: Trust) -> None:
    """Draw the timeline of a scenario."""
    from torussim.answer import run as answer

    path = Path(image or "timeline.png")
    if path.suffix not in PICTURES:
        fail([f"{image!r} is not a picture: end its name in {', '.join(PICTURES)}"])
    (scenario,) = load([file], overrides, trust)
    shown = named_chips("--chips", chips, scenario) if chips else None
    writable(path.parent, path.name)
    with progress(scenario.name) as advance:
        result = answer(scenario, progress=advance)
    chosen = None if shown is None else [scenario.net.chips[chip] for chip in shown]
    _picture(result.plot(chips=chosen, blocks=blocks), path)
    click.echo(f"written to {path}")


def _picture(figure: Figure, path: Path) -> None:
    """Write a figure as its path ends."""
    from torussim.plot import defaults, encode

    with defaults():
        write(path, encode(figure, path.suffix[1:]))
