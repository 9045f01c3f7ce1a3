"""What the shell completes: scenario files, keys and names of --set; and the command that prints the script for it.

Nothing of a scenario is imported before a shell asks. Bash takes `=` for the end of a word, so `--set chip=tpu` reaches click as
three words: they are put together again, and what is completed is the part behind the `=`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from torussim.cli.common import example

SCENARIOS = (".yaml", ".yml", ".json", ".json.gz")
VARIABLE = "_TORUSSIM_COMPLETE"
NO_SPACE = '    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace\n    return 0\n'  # after --set key=

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def a_file(metavar: str = "FILE") -> Decorator:
    """Give a command the argument FILE, one scenario: its parameter `file`."""
    return click.argument("file", metavar=metavar, shell_complete=scenarios)


def files(metavar: str = "FILE...") -> Decorator:
    """Give a command the argument FILE..., scenarios: its parameter `files`."""
    return click.argument("files", nargs=-1, required=True, metavar=metavar, shell_complete=scenarios)


def setting(said: str) -> Decorator:
    """Give a command the option --set, which changes values of its scenarios: its parameter `overrides`."""
    return click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=said, shell_complete=assignments)


def scenarios(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the files that a name can begin, and those in folders that it can begin; where there are none, any file."""
    from glob import escape, glob

    begun = sorted(glob(escape(incomplete) + "*"))
    inside = [name for folder in begun if os.path.isdir(folder) for name in sorted(glob(os.path.join(escape(folder), "*")))]
    found = [name for name in (*begun, *inside) if name.endswith(SCENARIOS)]
    return [CompletionItem(name) for name in found] or [CompletionItem(incomplete, type="file")]


def assignments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the keys of a scenario that `incomplete` can begin, or, behind a key and its `=`, the names that can stand there."""
    key, given, value = incomplete.partition("=")
    if not given:
        return [CompletionItem(f"{one}=") for one in keys() if one.startswith(key)]
    return [CompletionItem(f"{key}={name}") for name in names(key) if name.startswith(value)]


def keys() -> list[str]:
    """Return the dotted keys of a scenario file that hold one value each."""
    from torussim.scenario import forms

    sections = {"topology": forms.TOPOLOGY, "layout": forms.LAYOUT, "workload": forms.WORKLOAD, "plan": forms.PLAN}
    return ["name", "model", "chip", *(f"{section}.{key}" for section, form in sections.items() for key in form)]


def names(key: str) -> list[str]:
    """Return the names that a key can have; none for a key that has other values."""
    if key in ("model", "chip"):
        from torussim.resolve import preset_names

        return list(preset_names(f"{key}s"))
    if key == "layout.ffn":
        from torussim.layouts import LAYOUTS

        return sorted(LAYOUTS)
    return []


class _Bash(BashComplete):
    """Completion for bash, which splits words at `=`."""

    source_template = BashComplete.source_template.replace("    return 0\n", NO_SPACE)
    _behind = False  # the shell completes what is behind a =

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        words = list[str]()
        for word in [*args, incomplete]:
            if words and (word == "=" or words[-1].endswith("=")):
                words[-1] += word
            else:
                words.append(word)
        self._behind = "=" in words[-1]
        return words[:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        value = item.value.partition("=")[2] if self._behind else item.value
        return f"{item.type},{value}"


def complete() -> None:
    """Let click complete for bash as this module does; only a shell that asks needs it."""
    if VARIABLE in os.environ:
        add_completion_class(_Bash)


@click.command(short_help="Print a completion script for a shell.",
               epilog=example("torussim completion fish > ~/.config/fish/completions/torussim.fish"))
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes torussim's commands, options, scenario files and keys in a shell.

    \b
    bash: add to ~/.bashrc:  source <(torussim completion bash)
    zsh:  torussim completion zsh > ~/.zfunc/_torussim
          and in ~/.zshrc, before compinit:  fpath+=~/.zfunc
    fish: torussim completion fish > ~/.config/fish/completions/torussim.fish
    """
    made = _Bash if shell == "bash" else get_completion_class(shell)
    assert made is not None
    click.echo(made(ctx.find_root().command, {}, "torussim", VARIABLE).source())
