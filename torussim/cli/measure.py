"""The commands that hold torussim to measurements: validate, calibrate."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from torussim.cli.common import example, progress, trusting

if TYPE_CHECKING:
    from torussim.calibrate import Calibration
    from torussim.trust import Trust
    from torussim.validate import Validation


@click.command(short_help="Compare predictions with measurements.",
               epilog=example("torussim validate nccl-h100"))
@click.argument("files", nargs=-1, metavar="[FILE...]")
@click.option("--details", is_flag=True, help="Of several sets, print every row and group too.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, with all parameters of the chips.")
@trusting()
def validate(files: Sequence[str], details: bool, as_json: bool, trust: Trust) -> None:
    """Predict what was measured and print how far off that is; default: all sets of measurements of the package.

    FILE is a set of measurements, or the name of one of the package, such as nccl-h100. One set is printed row by row, several
    sets as a table with a line each.

    Rows with mistakes are named on standard error and left out; the exit status is then 2.
    """
    from torussim.validate import validate as held_against

    with progress("validate") as advance:
        found = held_against(files, code=trust, progress=advance)
    _tell(found, found.json() if as_json else found.text(details=details))


@click.command(short_help="Fit the parameters of a chip to measurements.",
               epilog=example("torussim calibrate nccl-h100"))
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@trusting()
def calibrate(file: str | None, as_json: bool, trust: Trust) -> None:
    """Fit a chip's parameters to what was measured and print a mapping to paste; default: PaLM 540B on TPU v4.

    FILE can be a name, such as nccl-h100.

    Rows with mistakes are named on standard error and left out; the exit status is then 2.
    """
    from torussim.calibrate import calibrate as fitted

    with progress("calibrate") as advance:
        found = fitted(file, code=trust, progress=advance)
    _tell(found, found.json() if as_json else found.text())


def _tell(found: Validation | Calibration, text: str) -> None:
    """Print the text of what was found, and its mistakes on standard error; end with status 2 if there are any."""
    for mistake in found.mistakes:
        click.echo(str(mistake), err=True)
    click.echo(text)
    if found.mistakes:
        sys.exit(2)
