"""Files of measured times: a trace in the Chrome trace-event format, or a table of operation times. Knows no scenario.

A trace (.json or .json.gz, as XProf and Perfetto export it, and as `torussim run --trace` writes it) has a process a chip. Its
complete events (`"ph": "X"`) are operations: `name`, and `dur` in microseconds. Of torussim's own traces the messages, and the
times for which a chip waits, are left out.

A table (.csv, or .jsonl with an object a line) has a row an operation: `operation`, and `time` (a text with a unit, or seconds),
`time_s`, or `start_s` and `end_s`. `chip` says where, if the table has it. Other columns are not read.

The format of traces: "Trace Event Format", docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from math import inf, isfinite
from pathlib import Path
from typing import Any, NoReturn

from torussim import files, units
from torussim.errors import FileError, Mark, Mistake, ScenarioError, UnitError
from torussim.scenario.values import quote
from torussim.spelling import nearest

MOST_TOLD = 10  # mistakes of one file
COLUMNS = ("operation", "time", "time_s", "chip", "start_s", "end_s")
APART = ("message", "routed", "exposed")  # categories of torussim's own traces that are no operations
Key = tuple[str, str | None]  # of an operation and of a chip, as the file names them


@dataclass(frozen=True, eq=False)
class Times:
    """What a file says: by names of an operation and a chip (None: it has none), seconds of each time that it ran."""

    file: str
    kind: str  # "trace" or "table"
    seconds: Mapping[Key, list[float]]

    @property
    def count(self) -> int:
        """How many times there are."""
        return sum(map(len, self.seconds.values()))

    @property
    def operations(self) -> Counter[str]:
        """How many times of each operation there are."""
        return self._counted(0)

    @property
    def chips(self) -> Counter[str]:
        """How many times of each chip there are; without those that have none."""
        return self._counted(1)

    def _counted(self, part: int) -> Counter[str]:
        found = Counter[str]()
        for key, times in self.seconds.items():
            name = key[part]
            if name is not None:
                found[name] += len(times)
        return found


def read(file: str | Path, most: int = 0) -> Times:
    """Return the times of a file; raise ScenarioError, with the place, if it has none. `most`: bytes that it may have."""
    name = str(file)
    try:
        text = files.text(file, "trace", most).removeprefix("\ufeff")
    except FileError as error:
        _fail(str(error), Mark(name, 1, 1), error.code)
    if not text.strip():
        _fail("the file is empty: give a trace (.json, .json.gz) or a table of operation times (.csv, .jsonl)", Mark(name, 1, 1),
              "syntax")
    suffixes = Path(name.removesuffix(".gz")).suffix.lower()
    found: dict[Key, list[float]] = {}
    table = suffixes == ".csv" or (suffixes != ".json" and suffixes != ".jsonl" and text.lstrip()[:1] not in "[{")
    pairs = _rows(text, name, suffixes) if table or suffixes == ".jsonl" else _events(text, name)
    for key, seconds in pairs:
        found.setdefault(key, []).append(seconds)
    if not found:
        what = "row" if table or suffixes == ".jsonl" else 'complete event ("ph": "X")'
        _fail(f"there is no {what} in the file: nothing was measured", Mark(name, 1, 1), "missing")
    return Times(name, "table" if table or suffixes == ".jsonl" else "trace", found)


def _fail(text: str, mark: Mark, code: str = "value") -> NoReturn:
    raise ScenarioError([Mistake(text, mark, code)]) from None


# -- traces -------------------------------------------------------------------------------------------------------------


def _events(text: str, file: str) -> Iterator[tuple[Key, float]]:
    """Yield the operations of a trace."""
    top = Mark(file, 1, 1)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        _fail(f"not JSON: {error.msg[:1].lower()}{error.msg[1:]}: give a trace in the Chrome trace-event format, or a table that "
              "ends in .csv", Mark(file, error.lineno, error.colno), "syntax")
    except RecursionError:
        _fail("nested too deep for a trace", top, "limit")
    events = value.get("traceEvents") if isinstance(value, dict) else value
    if not isinstance(events, list):
        given = f"its keys are {', '.join(list(value)[:5])}" if isinstance(value, dict) and value else f"it is {quote(value)}"
        _fail(f"no trace: {given}; a trace has a list 'traceEvents', and a table of operation times ends in .csv or .jsonl", top,
              "missing")
    wrong: list[str] = []
    names: dict[Any, str] = {}
    found: list[tuple[Any, str, float]] = []
    for number, event in enumerate(events, 1):
        if not isinstance(event, dict):
            wrong.append(f"event {number}, {quote(event)}, is not a mapping")
        elif event.get("ph") == "M" and event.get("name") == "process_name" and isinstance(event.get("args"), dict):
            names[_number(event.get("pid"))] = str(event["args"].get("name"))
        elif event.get("ph") == "X" and event.get("cat") not in APART:
            name, duration = event.get("name"), event.get("dur", 0)
            if not isinstance(name, str):
                wrong.append(f"event {number} has no name: {quote(name)} is not a text")
            elif isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 <= duration < inf:
                wrong.append(f"event {number}, {quote(name)}: dur {quote(duration)} is no time: give microseconds, 0 or more")
            else:
                found.append((_number(event.get("pid")), name, duration * 1e-6))
        if len(wrong) >= MOST_TOLD:
            break
    if wrong:
        raise ScenarioError([Mistake(one, top, "value") for one in wrong])
    for process, name, seconds in found:
        yield (name, names.get(process, f"process {process}")), seconds


def _number(value: Any) -> Any:
    """Return what identifies a process."""
    return value if isinstance(value, str | int | float) else str(value)


# -- tables -------------------------------------------------------------------------------------------------------------


def _rows(text: str, file: str, suffix: str) -> Iterator[tuple[Key, float]]:
    """Yield the operations of a table."""
    wrong: list[Mistake] = []
    rows = _objects(text, file) if suffix == ".jsonl" else _cells(text, file)
    for line, row in rows:
        try:
            operation = row.get("operation")
            if not isinstance(operation, str) or not operation.strip():
                raise _Wrong("the row has no operation")
            chip = row.get("chip")
            given = None if chip is None or chip == "" else chip.strip() if isinstance(chip, str) else json.dumps(chip)
            pair = (operation.strip(), given), _seconds(row)
        except _Wrong as error:
            wrong.append(Mistake(str(error), Mark(file, line, 1), "value"))
            if len(wrong) >= MOST_TOLD:
                break
            continue
        if not wrong:
            yield pair
    if wrong:
        raise ScenarioError(wrong)


class _Wrong(Exception):
    """What is wrong with a row."""


def _seconds(row: Mapping[str, Any]) -> float:
    """Return the time of a row in seconds."""
    given = row.get("time", row.get("time_s"))
    if given in (None, "") and row.get("end_s") not in (None, ""):
        found = _quantity(row["end_s"], "end_s") - _quantity(row.get("start_s"), "start_s")
        if found < 0:
            raise _Wrong(f"end_s {quote(row['end_s'])} is before start_s {quote(row['start_s'])}")
        return found
    if given in (None, ""):
        raise _Wrong("the row has no time")
    found = _quantity(given, "time" if "time" in row else "time_s")
    if found < 0:
        raise _Wrong(f"the time {quote(given)} is negative: give 0 or more")
    return found


def _quantity(value: Any, name: str) -> float:
    try:
        found = units.read(value.strip() if isinstance(value, str) else value, "s")
    except UnitError as error:
        raise _Wrong(f"{name}: {error}") from None
    if not isfinite(found):
        raise _Wrong(f"{name}: {quote(value)} is not finite")
    return found


def _cells(text: str, file: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the rows of a CSV with their lines."""
    reader = csv.reader(StringIO(text, newline=""))
    try:
        head = [name.strip() for name in next(reader, [])]
        _check_head(head, file)
        for row in reader:
            if not any(row):
                continue
            if len(row) != len(head):
                _fail(f"the row has {len(row)} cells, and the head {len(head)}", Mark(file, reader.line_num, 1), "syntax")
            yield reader.line_num, dict(zip(head, row))
    except csv.Error as error:
        _fail(f"not CSV: {error}", Mark(file, reader.line_num, 1), "syntax")


def _check_head(head: list[str], file: str) -> None:
    """Raise ScenarioError for a table without operations or times, or with a misspelt column."""
    mark = Mark(file, 1, 1)
    misspelt = {name: near for name in head if name not in COLUMNS and (near := nearest(name, COLUMNS)) and near not in head}
    if misspelt:
        name, near = next(iter(misspelt.items()))
        _fail(f"{quote(name)} is no column of a table of operation times: did you mean {near!r}?", mark, "unknown-key")
    timed = "time" in head or "time_s" in head or {"start_s", "end_s"} <= set(head)
    if "operation" not in head or not timed:
        shown = ", ".join(head[:8]) or "none"
        _fail("no table of operation times: its first line must name the columns operation and time (or time_s), and can name "
              f"chip; it has {quote(shown)}", mark, "missing")


def _objects(text: str, file: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the objects of JSON lines with their lines."""
    for line, part in enumerate(text.splitlines(), 1):
        if not part.strip():
            continue
        try:
            row = json.loads(part)
        except (json.JSONDecodeError, RecursionError) as error:
            _fail(f"not JSON: {getattr(error, 'msg', 'nested too deep')}", Mark(file, line, getattr(error, "colno", 1)), "syntax")
        if not isinstance(row, dict):
            _fail(f"{quote(row)} is not a mapping: give one such as {{\"operation\": \"gather\", \"time_s\": 1e-4}} a line",
                  Mark(file, line, 1))
        yield line, row
