"""The command that draws faults of links: faults."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torussim.cli.common import emphasized, example, fail, load, progress, quiet, say, trusting, writable, write
from torussim.cli.completion import a_file, setting

if TYPE_CHECKING:
    from torussim.fault_result import FaultDraws
    from torussim.trust import Trust


@click.command(short_help="Draw faulty links at random; show what they cost.",
               epilog=example("torussim faults scenarios/network-torus.yaml --dead 0.001 --slow 0.01:0.5 --draws 100"))
@a_file()
@click.option("--draws", type=int, default=1000, metavar="N", help="How many times faults are drawn; default: 1000.")
@click.option("--dead", metavar="P", help="Dead links: a probability for each, with a point, or a number of them, without.")
@click.option("--slow", multiple=True, metavar="P:SCALE", help="Slow links, likewise, and their share of bandwidth; repeatable.")
@click.option("--seed", type=int, default=0, metavar="N", help="Another seed makes other draws; default: 0.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Run in N processes; default: one a core.")
@click.option("--dask", default="", metavar="ADDRESS", help="Run on the Dask cluster of this scheduler.")
@click.option("-o", "out", default="out", metavar="DIR", help="Where to write results; default: out.")
@setting("Change a value, as in topology.latency=2us.")
@click.option("--json", "as_json", is_flag=True, help="Print the result alone, as JSON; no picture.")
@click.option("--no-pictures", is_flag=True, help="Draw no picture.")
@quiet()
@trusting()
def faults(file: str, draws: int, dead: str | None, slow: Sequence[str], seed: int, jobs: int | None, dask: str, out: str,
           overrides: Sequence[str], as_json: bool, no_pictures: bool, quiet: bool, trust: Trust) -> None:
    """Draw faulty links by chance; print how long a step then takes and which links cost most, and write out/<name>/.

    A link is both directions of a cable. At least one of --dead and --slow must be given.
    """
    from torussim.fault_draws import checked, draw_faults

    dead_, slow_ = None if dead is None else _many("--dead", dead, dead), [_slow(text) for text in slow]
    if dead is None and not slow:
        fail(["no fault is asked for: give --dead, as in --dead 0.001, or --slow, as in --slow 0.01:0.5, or both"])
    (scenario,) = load([file], overrides, trust)
    checked(scenario.net, draws, dead_, slow_, seed)
    folder = Path(out) / scenario.slug
    writable(folder, "faults.json", "faults.png")
    done = 0

    with progress(scenario.name, quiet) as advance:
        def told(count: int, of: int) -> None:
            nonlocal done
            done = count
            if advance:
                advance(count, of)
        try:
            found = draw_faults(scenario, draws=draws, dead=dead_, slow=slow_, seed=seed, jobs=jobs or 0, dask=dask,
                                progress=told)
        except KeyboardInterrupt:
            click.echo(f"\nstopped after {min(done, draws):,} of {draws:,} draws; nothing was written", err=True)
            sys.exit(130)
    write(folder / "faults.json", found.json().encode() + b"\n")
    if as_json or no_pictures:
        (folder / "faults.png").unlink(missing_ok=True)  # that of an earlier run would belie the result beside it
    else:
        _picture(found, folder / "faults.png")
    if as_json:
        click.echo(found.json())
    else:
        say(f"{'' if quiet else emphasized(str(found), 1) + chr(10) * 2}written to {folder}{os.sep}")


def _many(option: str, text: str, given: str) -> float | int:
    """Return a probability (a float) or a number of links (an int)."""
    from torussim.errors import FaultError

    try:
        return int(text) if text.isascii() and text.isdecimal() else float(text)
    except ValueError:
        raise FaultError(f"{option} {given!r}: {text!r} is no number: give a probability, such as 0.001, or a number of links, "
                         "such as 2") from None


def _slow(text: str) -> tuple[float | int, float]:
    """Return how many links are slow, and the scale of their bandwidth."""
    from torussim.errors import FaultError

    many, colon, scale = text.partition(":")
    if not colon:
        raise FaultError(f"--slow {text!r} has no scale: give P:SCALE, such as 0.01:0.5 for links of half their bandwidth",
                         code="missing")
    try:
        return _many("--slow", many, text), float(scale)
    except ValueError:
        raise FaultError(f"--slow {text!r}: the scale {scale!r} is no number: give the share of its bandwidth that a slow link "
                         "has, such as 0.5") from None


def _picture(found: FaultDraws, path: Path) -> None:
    from torussim.plot import defaults, encode, faults_figure

    with defaults():
        data = encode(faults_figure(found), "png")
    write(path, data)
