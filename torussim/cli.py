"""The command line; the only file that prints. Heavy imports happen inside the commands, so that --help is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from torussim.result import Result
    from torussim.scenario import Scenario
    from torussim.trust import Trust

PICTURES = (".png", ".svg", ".pdf")
BY = ("step_s", "tokens_per_s", "mfu", "chip_s_per_token", "latency_s", "makespan_s")  # compare.BY, heavy to import


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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(None, "-V", "--version", package_name="torussim")
def cli() -> None:
    """How long does a step of this transformer take on this interconnect, and what is to blame?"""


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("-o", "out", default="out", metavar="DIR", help="Where to write results; default: out.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value, as in topology.latency=2us.")
@click.option("--json", "as_json", is_flag=True, help="Print the result alone, as JSON; no pictures.")
@click.option("--strict", is_flag=True, help="Exit with 1 when an expectation is missed or memory does not fit.")
@click.option("--no-pictures", is_flag=True, help="Write no pictures.")
@trusting()
def run(files: Sequence[str], out: str, overrides: Sequence[str], as_json: bool, strict: bool, no_pictures: bool,
        trust: Trust) -> None:
    """Simulate scenarios; print a report of each, and write out/<name>/."""
    from torussim import report
    from torussim.answer import run as answer

    scenarios = _load(files, overrides, trust)
    folders = _folders(scenarios, Path(out))
    results = []
    for number, (scenario, folder) in enumerate(zip(scenarios, folders)):
        with _progress(scenario.name) as progress:
            result = answer(scenario, progress=progress)
        results.append(result)
        _write(folder / "result.json", result.json().encode() + b"\n")
        if as_json or no_pictures:
            for name in ("timeline.png", "links.png"):  # those of an earlier run would belie the result beside them
                (folder / name).unlink(missing_ok=True)
        else:
            _picture(scenario, result, folder / "timeline.png")
            _links(scenario, result, folder / "links.png")
        if not as_json:
            click.echo(("\n\n" if number else "") + report.text(result))
            click.echo(f"\nwritten to {folder}{os.sep}")
    if as_json:
        import json

        from torussim.result import plain

        every = plain([r.keys for r in results])
        click.echo(results[0].json() if len(results) == 1 else json.dumps(every, indent=1, allow_nan=False))
    if strict and any(r.missed for r in results):
        sys.exit(1)


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value in all files.")
@click.option("--by", type=click.Choice(BY), default="step_s", help="What decides which is best; default: step_s.")
@click.option("--json", "as_json", is_flag=True, help="Print the results, best first, as a JSON list.")
@click.option("--strict", is_flag=True, help="Exit with 1 when an expectation is missed or memory does not fit.")
@trusting()
def compare(files: Sequence[str], overrides: Sequence[str], by: str, as_json: bool, strict: bool, trust: Trust) -> None:
    """Simulate scenarios and put them side by side, best first, with what differs; writes nothing."""
    import shutil

    from torussim import compare as side_by_side
    from torussim.answer import run as answer

    scenarios = _load(files, overrides, trust)
    side_by_side.check_by(by, all(s.program is not None for s in scenarios))
    results = []
    for scenario in scenarios:
        with _progress(scenario.name) as progress:
            results.append(answer(scenario, progress=progress))
    found = side_by_side.compare(results, files, by=by)
    width = shutil.get_terminal_size((side_by_side.WIDTH, 0)).columns if sys.stdout.isatty() else side_by_side.WIDTH
    click.echo(found.json() if as_json else found.text(width))
    if strict and any(r.missed for r in results):
        sys.exit(1)


@cli.command()
@click.argument("files", nargs=-1, metavar="[FILE...]")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON, with all parameters of the chips.")
@trusting()
def validate(files: Sequence[str], as_json: bool, trust: Trust) -> None:
    """Predict what was measured and print how far off that is; default: PaLM 540B on TPU v4.

    Rows with mistakes are named on standard error and left out; the exit status is then 2.
    """
    from torussim.validate import validate as held_against

    with _progress("validate") as progress:
        found = held_against(files, code=trust, progress=progress)
    for mistake in found.mistakes:
        click.echo(str(mistake), err=True)
    click.echo(found.json() if as_json else found.text())
    if found.mistakes:
        sys.exit(2)


@cli.command()
@click.argument("file", required=False, metavar="[FILE]")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@trusting()
def calibrate(file: str | None, as_json: bool, trust: Trust) -> None:
    """Fit a chip's parameters to what was measured and print a mapping to paste; default: PaLM 540B on TPU v4.

    Rows with mistakes are named on standard error and left out; the exit status is then 2.
    """
    from torussim.calibrate import calibrate as fitted

    with _progress("calibrate") as progress:
        found = fitted(file, code=trust, progress=progress)
    for mistake in found.mistakes:
        click.echo(str(mistake), err=True)
    click.echo(found.json() if as_json else found.text())
    if found.mistakes:
        sys.exit(2)


@cli.command()
@click.argument("file", metavar="FILE")
@click.option("-o", "image", metavar="IMAGE", help="The picture, .png, .svg or .pdf; default: timeline.png.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value, as in topology.latency=2us.")
@click.option("--chips", metavar="X,Y,Z ...", help="Chips to show, as 0,0,0 1,0,0; default: the fastest, median and slowest.")
@click.option("--blocks", type=click.IntRange(1, 1000), default=1, help="How many blocks to show; default: 1.")
@trusting()
def plot(file: str, image: str | None, overrides: Sequence[str], chips: str | None, blocks: int, trust: Trust) -> None:
    """Draw the timeline of a scenario."""
    from torussim.answer import run as answer

    path = Path(image or "timeline.png")
    if path.suffix not in PICTURES:
        _fail([f"{image!r} is not a picture: end its name in {', '.join(PICTURES)}"])
    (scenario,) = _load([file], overrides, trust)
    shown = _chips(chips, scenario) if chips else None
    _writable(path.parent, path.name)
    with _progress(scenario.name) as progress:
        result = answer(scenario, progress=progress)
    _picture(scenario, result, path, shown, blocks)
    click.echo(f"written to {path}")


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value, as in topology.latency=2us.")
@trusting("never")
def check(files: Sequence[str], overrides: Sequence[str], trust: Trust) -> None:
    """Check scenarios without running them or any code that they name; name every mistake with its line and column."""
    from torussim.scenario import check as checked

    for found in _each(files, lambda file: checked(file, overrides, code=trust)):
        chips = "" if found.chips is None else f", {found.chips} chips"
        click.echo(f"{found.file}: {'ok' if found.chips is not None else 'ok as far as it was read'} ({found.name}{chips})")
        for sentence in (*found.unopened, *found.notes):
            click.echo(f"  {sentence}")


@cli.command(name="list")
@click.argument("what", required=False, type=click.Choice(["models", "chips", "topologies", "layouts", "collectives"]))
def list_(what: str | None) -> None:
    """List the models, chips, topologies, layouts and collectives that there are."""
    from torussim.listing import lists

    for title, lines in lists().items():
        if what in (None, title):
            indent = "" if what else "  "
            click.echo("\n".join(([] if what else [title]) + [indent + line for line in lines()]))


def main() -> None:
    """Run the command line; a mistake of the user's ends with status 2 and no traceback."""
    from torussim.errors import ScenarioError, TorusSimError

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
        _fail([f"out of memory: {str(error) or 'the network or the program is too large for this machine'}"])
    except BrokenPipeError:
        _silence()
        sys.exit(141)
    except OSError as error:
        if error.filename is not None:
            raise
        _silence()  # what is written has no file name; _write tells its own failures, so it is standard output
        _fail([f"standard output: cannot be written: {(error.strerror or str(error)).lower()}"])
    except ScenarioError as error:
        _fail([str(m) for m in error.mistakes])
    except TorusSimError as error:
        _fail([str(error)])


def _silence() -> None:
    """Let all that is printed from here on be lost, also what waits to be written as the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _load(files: Sequence[str], overrides: Sequence[str], trust: Trust) -> list[Scenario]:
    """Return the scenarios of all files; end with all mistakes of all of them."""
    from torussim.scenario import load

    return _each(files, lambda file: load(file, overrides, code=trust))


def _each(files: Sequence[str], read: Callable[[str], Any]) -> list[Any]:
    """Return what is read from each file; end with all mistakes of all of them."""
    from torussim.errors import ScenarioError

    found, wrong = [], []
    for file in files:
        try:
            found.append(read(file))
        except ScenarioError as error:
            wrong += [str(m) for m in error.mistakes]
    if wrong:
        _fail(list(dict.fromkeys(wrong)))  # a file can be given twice
    return found


def _folders(scenarios: Sequence[Scenario], out: Path) -> list[Path]:
    """Return a folder for each scenario, made and writable before anything runs; names that meet get a number."""
    names: list[str] = []
    for scenario in scenarios:
        name, number = scenario.slug, 2
        while name in names:
            name, number = f"{scenario.slug}-{number}", number + 1
        names.append(name)
    for name in names:
        _writable(out / name, "result.json", "timeline.png", "links.png")
    return [out / name for name in names]


def _writable(folder: Path, *names: str) -> None:
    """Make a folder in which files of these names can be written, or end with what is in the way."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        _fail([f"{folder}: cannot be written: {(error.strerror or str(error)).lower()}; name another folder with -o"])
    for name in names:
        if (folder / name).is_dir():
            _fail([f"{folder / name}: cannot be written: it is a folder; name another place with -o"])


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    import tempfile

    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(name, 0o666 & ~_umask())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        _fail([f"{path}: cannot be written: {(error.strerror or str(error)).lower()}"])


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _links(scenario: Scenario, result: Result, path: Path) -> None:
    """Draw what a result's last pass did with the links."""
    from torussim.plot import LinkPicture, defaults, encode, links_figure

    links = result.keys["links"]
    subtitle = f"links are busy {links['mean_busy']:.1%} of the time in the mean"
    if links["busiest"]:
        subtitle += f", the busiest {links['busiest'][0]['busy']:.1%}"
    with defaults():
        figure = links_figure(LinkPicture.of(result.timeline, scenario.net), title=scenario.name, subtitle=subtitle)
        data = encode(figure, path.suffix.removeprefix("."))
    _write(path, data)


def _picture(scenario: Scenario, result: Result, path: Path, chips: Sequence[int] | None = None, blocks: int = 1) -> None:
    """Draw the timeline of a result's last pass."""
    from torussim.analysis import chosen_chips
    from torussim.answer import replay
    from torussim.plot import defaults, encode, timeline_figure
    from torussim.report import subtitle

    chosen = list(chips) if chips is not None else chosen_chips(result.timeline)
    timeline = replay(scenario, chosen)
    with defaults():
        figure = timeline_figure(timeline, chips=chosen, runs=blocks, title=scenario.name, subtitle=subtitle(result))
        data = encode(figure, path.suffix[1:])
    _write(path, data)


def _chips(text: str, scenario: Scenario) -> list[int]:
    """Return the indices of chips given as "0,0,0 1,0,0"."""
    from torussim.errors import TorusSimError

    chips = scenario.net.chips
    example = " ".join(",".join(map(str, chip)) for chip in dict.fromkeys((chips[0], chips[-1])))
    found = []
    for word in text.split():
        parts = word.split(",")
        if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
            _fail([f"--chips {text!r}: {word!r} is not a chip: write coordinates with commas between them, such as {example}"])
        try:
            found.append(scenario.net.index([int(part) for part in parts]))
        except TorusSimError as error:
            _fail([f"--chips {text!r}: {error}, such as {example}"])
    if not found:
        _fail([f"--chips {text!r} names no chip: write coordinates, such as {example}"])
    return found


def _fail(lines: Sequence[str]) -> Any:
    for line in lines:
        click.echo(line, err=True)
    sys.exit(2)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar on standard error for runs of over a second, when it is a terminal."""
    import time

    if not sys.stderr.isatty():
        yield None
        return
    began, bar = time.monotonic(), None

    def advance(done: int, of: int) -> None:
        nonlocal bar
        if bar is None and time.monotonic() - began > 1 and done < of:
            bar = click.progressbar(length=of, label=name[:40], file=sys.stderr)
            bar.__enter__()
        if bar is not None:
            bar.update(done - bar.pos)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.__exit__(None, None, None)
