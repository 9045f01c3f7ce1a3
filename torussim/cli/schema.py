"""The command that says what there is in files, results and commands: schema."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from torussim.cli.common import EXIT, example

PAGES = ("scenario_file", "result_keys", "command_line", "python_api")


@click.command(short_help="Print the JSON Schema of a scenario file.",
               epilog=example("torussim schema > torussim.schema.json"))
@click.option("--markdown", "page", type=click.Choice(PAGES), help="Print a page of reference in place of the schema.")
@click.pass_context
def schema(context: click.Context, page: str | None) -> None:
    """Print the JSON Schema of a scenario file, for editors; or a page of reference.

    An editor that has the schema completes keys, and marks mistakes while a file is written.
    """
    import json

    from torussim.reference import pages
    from torussim.scenario.parts import schema as made

    root = context.find_root().command
    if page == "command_line":
        assert isinstance(root, click.Group)
        click.echo(command_line(root), nl=False)
    else:
        click.echo(pages()[page]() if page else json.dumps(made(), indent=1), nl=not page)


def command_line(group: click.Group) -> str:
    """Return the page of the command line: each command with its usage, arguments, options and exit statuses."""
    from torussim.reference import page, prose, table

    top = click.Context(group, info_name="torussim", **group.context_settings)
    listed = table(("command", "what it does"), [(f"[`{name}`](#torussim-{name})", _sentence(command))
                                                 for name, command in sorted(group.commands.items())])
    return page(
        "command_line", "Command line",
        prose("`torussim COMMAND --help` prints what this page says of a command. Results go to standard output or to files, "
              "progress and mistakes to standard error."),
        listed, "## Exit status",
        table(("status", "meaning"), [(str(status), meaning) for status, meaning in EXIT.items()]),
        *(block for name, command in sorted(group.commands.items()) for block in _command(name, command, top)))


def _sentence(command: click.Command) -> str:
    return _marked(" ".join((command.help or "").partition("\n\n")[0].split()))


def _marked(text: str) -> str:
    """Return a text with words such as out/<name>/ as code: elsewhere Markdown takes them for HTML."""
    return re.sub(r"[^\s.,;]*<\w+>[^\s.,;]*", r"`\g<0>`", text)


def _command(name: str, command: click.Command, top: click.Context) -> Iterator[str]:
    """Yield the blocks of a command's section."""
    from torussim.reference import prose, table

    context = click.Context(command, info_name=name, parent=top)
    yield f"## torussim {name}"
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```console\n$ torussim {name} {usage}\n```"
    for paragraph in (command.help or "").split("\n\n"):
        if paragraph.startswith("\b"):  # lines that stay as they are
            yield "```console\n" + paragraph.removeprefix("\b").strip("\n") + "\n```"
        elif paragraph.strip():
            yield prose(_marked(paragraph))
    rows = [row for parameter in command.get_params(context) if (row := _option(parameter, context))]
    yield table(("option", "meaning", "default"), rows)


def _option(parameter: click.Parameter, context: click.Context) -> Sequence[str] | None:
    """Return the row of an option; an argument stands in the usage."""
    if not isinstance(parameter, click.Option) or parameter.hidden:
        return None
    record = parameter.get_help_record(context)
    assert record is not None
    default = parameter.to_info_dict()["default"]
    shown = f"`{default}`" if isinstance(default, str | int | float | Path) and not parameter.is_flag and default != "" else ""
    return f"`{record[0]}`", _marked(" ".join((parameter.help or "").split())), shown
