"""The command that makes many runs: sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from torussim.cli.common import example, progress, quiet, trusting
from torussim.cli.completion import a_file, setting

if TYPE_CHECKING:
    from torussim.trust import Trust


@click.command(short_help="Run a scenario with many values, a row each.",
               epilog=example("torussim sweep scenarios/network-torus.yaml --vary workload.batch=64,128,256 -o batches.csv"))
@a_file()
@click.option("--vary", multiple=True, required=True, metavar="KEY=VALUES",
              help="Values of a key: 1,2,4, or a range 1:1024:x2 or 0:100:25, or a list [[4,4],[2,8]]; the last varies fastest.")
@click.option("--zip", "zipped", is_flag=True, help="Take all first values, then all second values, not all combinations.")
@click.option("-o", "out", metavar="FILE", help="Write .csv, .jsonl or .parquet; default: CSV on standard output.")
@setting("Change a value in all runs.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Run in N processes; default: one a core.")
@click.option("--dask", default="", metavar="ADDRESS", help="Run on the Dask cluster of this scheduler.")
@click.option("--force", is_flag=True, help="Overwrite the output, whatever it is, and begin anew.")
@quiet()
@trusting()
def sweep(file: str, vary: Sequence[str], zipped: bool, out: str | None, overrides: Sequence[str], jobs: int | None, dask: str,
          force: bool, quiet: bool, trust: Trust) -> None:
    """Run a scenario with many values; write a row for each run, and continue a sweep that was interrupted.

    A run that fails is a row with its error; the exit status is then 1.
    """
    from torussim.rows import check_output, csv_of
    from torussim.sweeps import prepared, running

    if out is not None:
        check_output(Path(out))
    made = prepared(file, vary, zip=zipped, overrides=overrides, code=trust)
    count = len(made.points)
    kept = done = 0

    def began(rows: int) -> None:
        nonlocal kept
        kept = rows
        if rows and not quiet:
            left = f"{count - rows:,} are left" if rows < count else "nothing is left to run"
            click.echo(f"{rows:,} of {count:,} rows are in {out}.journal already; {left}", err=True)

    with progress("sweep", quiet) as advance:
        def counted(rows: int, of: int) -> None:
            nonlocal done
            done = rows
            if advance is not None:
                advance(rows - kept, of - kept)
        try:
            with running(made, out=out, force=force, jobs=jobs or 0, dask=dask, progress=counted, began=began) as rows:
                failed = sum(row["error"] is not None for row in rows)
                if out is None:
                    click.echo(csv_of(rows), nl=False)
        except KeyboardInterrupt:
            kept_in = f"they are in {out}.journal, and the same command continues" if out else "they are lost: no -o was given"
            click.echo(f"\nstopped after {done:,} of {count:,} rows: {kept_in}", err=True)
            sys.exit(130)
    if out is not None:
        click.echo(f"{count:,} rows are in {out}", err=True)
    if failed:
        click.echo(f"{failed:,} of {count:,} runs failed: see the column error", err=True)
        sys.exit(1)
