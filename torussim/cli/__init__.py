"""The command line; its modules are the only ones that print.

Heavy imports happen inside the commands, so that --help is quick.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from torussim.cli.blame import blame
from torussim.cli.common import EXIT, example, fail, silence
from torussim.cli.completion import complete, completion
from torussim.cli.faults import faults
from torussim.cli.look import check, list_
from torussim.cli.measure import calibrate, validate
from torussim.cli.plan import plan
from torussim.cli.report import report
from torussim.cli.schema import schema
from torussim.cli.simulate import compare, plot, run
from torussim.cli.sweep import sweep


class _Cli(click.Group):
    """The commands; click would end with 1 where the reader of standard output is gone."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            silence()
            sys.exit(141)


@click.group(cls=_Cli, context_settings={"help_option_names": ["-h", "--help"]}, epilog="\n\n".join((
    example("torussim run scenarios/palm-540b-decode-slow-link.yaml"),
    "\n".join(("\b", "Exit status:", *(f"  {status:<3}  {meaning}" for status, meaning in EXIT.items()))))))
@click.version_option(None, "-V", "--version", package_name="torussim")
def cli() -> None:
    """How long does a step of this transformer take on this interconnect, and what is to blame?"""


for command in (run, report, compare, plan, sweep, faults, validate, calibrate, blame, plot, check, list_, schema, completion):
    cli.add_command(command)


def main() -> None:
    """Run the command line; a mistake of the user's ends with status 2 and no traceback."""
    from torussim.errors import ScenarioError, TorusSimError

    complete()
    try:
        cli(standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, and not as the interpreter ends, so that a failure is told
    except click.exceptions.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except MemoryError as error:
        fail([f"out of memory: {str(error) or 'the network or the program is too large for this machine'}"])
    except BrokenPipeError:
        silence()
        sys.exit(141)
    except OSError as error:
        if error.filename is not None:
            raise
        silence()  # what is written has no file name; write tells its own failures, so it is standard output
        fail([f"standard output: cannot be written: {(error.strerror or str(error)).lower()}"])
    except ScenarioError as error:
        fail([str(m) for m in error.mistakes])
    except TorusSimError as error:
        fail([str(error)])
