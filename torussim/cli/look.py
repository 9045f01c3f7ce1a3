"""The commands that run nothing: check, list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from torussim.cli.common import each, example, trusting
from torussim.cli.completion import files, setting

if TYPE_CHECKING:
    from torussim.trust import Trust


@click.command(short_help="Check scenarios; run nothing.",
               epilog=example("torussim check scenarios/palm-540b-decode-slow-link.yaml"))
@files()
@setting("Change a value, as in topology.latency=2us.")
@trusting("never")
def check(files: Sequence[str], overrides: Sequence[str], trust: Trust) -> None:
    """Check scenarios without running them or any code that they name; name every mistake with its line and column."""
    from torussim.scenario import check as checked

    for found in each(files, lambda file: checked(file, overrides, code=trust)):
        chips = "" if found.chips is None else f", {found.chips} chips"
        click.echo(f"{found.file}: {'ok' if found.chips is not None else 'ok as far as it was read'} ({found.name}{chips})")
        for sentence in (*found.unopened, *found.notes):
            click.echo(f"  {sentence}")


@click.command(name="list", short_help="List models, chips, topologies, layouts, collectives.",
               epilog=example("torussim list chips"))
@click.argument("what", required=False, type=click.Choice(["models", "chips", "topologies", "layouts", "collectives"]))
def list_(what: str | None) -> None:
    """List the models, chips, topologies, layouts and collectives that there are."""
    from torussim.listing import lists

    for title, lines in lists().items():
        if what in (None, title):
            indent = "" if what else "  "
            click.echo("\n".join(([] if what else [title]) + [indent + line for line in lines()]))
