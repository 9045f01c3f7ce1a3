"""Make the outputs that documentation pages show anew: `python docs/outputs.py [docs/tutorial.md ...]`.

A page has files (a fenced block with `title="mine.yaml"`), commands (the lines of `sh` blocks), Python (`python` blocks), and
outputs: a mark `<!-- output: COMMAND -->`, then a `text` block. A block that ends with `...` shows the first lines of an output,
as many as it has; one of `...` alone shows none yet. `python` in place of a command is the output of the Python block before it.
tests/test_tutorial.py runs the same pages and compares.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"(?:^<!-- output: (?P<mark>.+?) -->\n)?^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n"
                   r"(?P<text>.*?)^```$", re.M | re.S)
PAGES = ("tutorial.md", "worked_models.md")
FIRST = 12  # lines of an output that has none yet and is longer
NOT_RUN = ("python3 -m venv", "source ", "pip install", "git clone")  # they set the machine up
NOT_SHOWN = "torussim: compiling "  # a line that the first run on a machine prints


@dataclass(frozen=True)
class Shown:
    """An output that a page shows: of which command, its lines, and where it stands in the page."""

    command: str
    text: str
    begin: int
    end: int

    def renewed(self, output: str) -> str:
        """Return what the page should show of an output: all of it, or as many lines as it shows now."""
        new, old = output.rstrip("\n").splitlines(), self.text.splitlines()
        if old[-1:] != ["..."]:
            return "\n".join(new) + "\n"
        count = len(old) - 1 or FIRST
        return "\n".join([*new[:count], "..."] if len(new) > count else new) + "\n"


def played(page: str, folder: Path) -> Iterator[tuple[Shown, str, int]]:
    """Write the files of a page, run its commands in order, and yield each output that it shows, what it is, and the status."""
    outputs = dict[str, tuple[str, int]]()
    for block in FENCE.finditer(page):
        if block["title"]:
            (folder / block["title"]).write_text(block["text"])
        elif block["mark"]:
            output, status = outputs[block["mark"]]
            yield Shown(block["mark"], block["text"], block.start("text"), block.end("text")), output, status
        elif block["language"] == "sh":
            for line in re.sub(r"\\\n\s*", "", block["text"]).splitlines():
                if not line.startswith(NOT_RUN):
                    outputs[line] = commanded(line, folder)
        elif block["language"] == "python":
            with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()) as written:
                exec(compile(block["text"], "page", "exec"), {"__name__": "page"})
            outputs["python"] = written.getvalue(), 0


def commanded(line: str, folder: Path) -> tuple[str, int]:
    """Return what a torussim command prints, on both streams, and its exit status; its messages name no folder of ours."""
    from click.testing import CliRunner

    from torussim.cli import cli

    name, *arguments = shlex.split(line, comments=True)
    if name != "torussim":
        raise ValueError(f"{line!r} is no torussim command: add it to NOT_RUN if it is not to be run")
    with contextlib.chdir(folder):
        found = CliRunner(env={"COLUMNS": "100", "NO_COLOR": "1"}).invoke(cli, arguments)
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    lines = found.output.replace(f"{folder}{os.sep}", "").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(NOT_SHOWN)), found.exit_code


def renewed(page: str, folder: Path) -> str:
    """Return a page with its outputs made anew."""
    made, at = [], 0
    for shown, output, _ in played(page, folder):
        made += [page[at:shown.begin], shown.renewed(output)]
        at = shown.end
    return "".join([*made, page[at:]])


def main() -> None:
    """Make the outputs of the pages that are named, or of all, anew."""
    docs = Path(__file__).resolve().parent
    for file in [Path(name).resolve() for name in sys.argv[1:]] or [docs / name for name in PAGES]:
        with tempfile.TemporaryDirectory() as folder:
            mine = Path(folder) / "mine"  # a model is named after the folder of its config.json
            mine.mkdir()
            file.write_text(renewed(file.read_text(), mine))


if __name__ == "__main__":
    main()
