"""What the commands share: whose code may run, how files are read and written, what is shown while they wait.

Heavy imports happen inside the functions, so that --help is quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torussim.scenario import Scenario
    from torussim.trust import Trust

EXIT = {0: "success", 1: "--strict: a missed expectation, too little memory; sweep: a failed run",
        2: "a mistake in the command line or a file: the message says what would do", 130: "interrupted (Ctrl-C)",
        141: "standard output was closed"}
STYLES: dict[str, dict[str, Any]] = {"verdict": {"bold": True}, "heading": {"bold": True}, "bad": {"fg": "red"},
                                     "good": {"fg": "green"}}


def trusting(default: str = "beside") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options that say whose code may run, and how large files may be: its parameter `trust`."""
    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @click.option("--code", "folders", multiple=True, metavar="DIR", type=click.Path(exists=True, file_okay=False),
                      help="Also run code of .py files in this folder.")
        @click.option("--allow-code", is_flag=True, help="Let files name code anywhere, also of installed packages.")
        @click.option("--max-file-size", "most", metavar="SIZE", help="Read files up to this size, such as 2GB.")
        @wraps(command)
        def asked(*, folders: Sequence[str], allow_code: bool, most: str | None, **others: Any) -> None:
            from torussim import units
            from torussim.trust import Trust

            size = int(units.positive(most, "B")) if most else 0
            command(trust=Trust("any" if allow_code else default, tuple(map(Path, folders)), size), **others)
        return asked
    return decorate


def silence() -> None:
    """Let all that is printed from here on be lost, also what waits to be written as the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def load(files: Sequence[str], overrides: Sequence[str], trust: Trust) -> list[Scenario]:
    """Return the scenarios of all files; end with all mistakes of all of them."""
    from torussim.scenario import load

    return each(files, lambda file: load(file, overrides, code=trust))


def each(files: Sequence[str], read: Callable[[str], Any]) -> list[Any]:
    """Return what is read from each file; end with all mistakes of all of them."""
    from torussim.errors import ScenarioError

    found, wrong = [], []
    for file in files:
        try:
            found.append(read(file))
        except ScenarioError as error:
            wrong += [str(m) for m in error.mistakes]
    if wrong:
        fail(list(dict.fromkeys(wrong)))  # a file can be given twice
    return found


def folders_of(scenarios: Sequence[Scenario], out: Path, *files: str) -> list[Path]:
    """Return a folder for each scenario, made and writable before anything runs; names that meet get a number.

    `files`: names of files that are written besides result.json and the pictures.
    """
    names: list[str] = []
    for scenario in scenarios:
        name, number = scenario.slug, 2
        while name in names:
            name, number = f"{scenario.slug}-{number}", number + 1
        names.append(name)
    for name in names:
        writable(out / name, "result.json", "timeline.png", "links.png", *files)
    return [out / name for name in names]


def writable(folder: Path, *names: str) -> None:
    """Make a folder in which files of these names can be written, or end with what is in the way."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        fail([f"{folder}: cannot be written: {(error.strerror or str(error)).lower()}; name another folder with -o"])
    for name in names:
        if (folder / name).is_dir():
            fail([f"{folder / name}: cannot be written: it is a folder; name another place with -o"])


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    from torussim.errors import OutputError
    from torussim.journal import whole

    try:
        with whole(path) as new:
            new.write_bytes(data)
    except OutputError as error:
        fail([str(error)])


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], names: list[str]) -> None:
    """Write rows with columns of these names whole or not at all, as CSV or Parquet by the suffix of the path."""
    from torussim.errors import OutputError
    from torussim.journal import whole
    from torussim.rows import write

    try:
        with whole(path) as new:
            write(new, rows, path.suffix, names)
    except OutputError as error:
        fail([str(error)])


def example(*commands: str) -> str:
    """Return the end of a command's help: an example, each command on its own line."""
    return "\n".join(["\b", "Example:", *(f"  {command}" for command in commands)])


def quiet() -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the option --quiet: its parameter `quiet`."""
    return click.option("-q", "--quiet", is_flag=True, help="Print only errors, and where files were written.")


def coloured() -> bool:
    """Return whether what is printed may have colours: on a terminal, or with FORCE_COLOR, and never with NO_COLOR."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (sys.stdout.isatty() and os.environ.get("TERM") != "dumb")


def paint(text: str, kind: str) -> str:
    """Return a text as a terminal shows it, by what it is: the verdict, a heading, bad or good."""
    return click.style(text, **STYLES[kind]) if coloured() else text


def say(text: str) -> None:
    """Print a text that may be painted."""
    click.echo(text, color=coloured())


def emphasized(text: str, part: int) -> str:
    """Return a text with one of its paragraphs, counted from 0, painted as the verdict."""
    parts = text.split("\n\n")
    return "\n\n".join([*parts[:part], paint(parts[part], "verdict"), *parts[part + 1:]])


def fail(lines: Sequence[str]) -> Any:
    """Print these lines on standard error, and end with status 2."""
    for line in lines:
        click.echo(line, err=True)
    sys.exit(2)


def named_chips(option: str, text: str, scenario: Scenario) -> list[int]:
    """Return the indices of chips given as "0,0,0 1,0,0", or "all", in place of a command's option."""
    from torussim.errors import TorusSimError

    chips = scenario.net.chips
    if text.strip() == "all":
        return list(range(len(chips)))
    example = " ".join(",".join(map(str, chip)) for chip in dict.fromkeys((chips[0], chips[-1])))
    found = []
    for word in text.split():
        parts = word.split(",")
        if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
            fail([f"{option} {text!r}: {word!r} is not a chip: write coordinates with commas between them, such as {example}"])
        try:
            found.append(scenario.net.index([int(part) for part in parts]))
        except TorusSimError as error:
            fail([f"{option} {text!r}: {error}, such as {example}"])
    if not found:
        fail([f"{option} {text!r} names no chip: write coordinates, such as {example}"])
    return found


@contextmanager
def progress(name: str, quiet: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar with the time left on standard error for runs of over a second, on a terminal and unless `quiet`."""
    import time

    if quiet or not sys.stderr.isatty():
        yield None
        return
    began, bar = time.monotonic(), None

    def advance(done: int, of: int) -> None:
        nonlocal bar
        if bar is None and time.monotonic() - began > 1 and done < of:
            bar = click.progressbar(length=of, label=name[:40], file=sys.stderr)
            bar.start -= time.monotonic() - began  # the time left follows from all that was done, also before there was a bar
            bar.__enter__()
        if bar is not None and done > bar.pos:
            bar.update(done - bar.pos)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)
