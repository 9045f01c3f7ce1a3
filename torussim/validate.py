"""Files of measurements -> the errors of the simulation, and the errors of the paper's model."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10
from pathlib import Path
from typing import Any

from torussim import chips, measurements
from torussim.cases import case
from torussim.chips import Chip
from torussim.errors import Mistake, TorusSimError
from torussim.measurements import Measurement, Measurements
from torussim.tables import table
from torussim.trust import Trust

ALL = "all distinct points"
NOT_TOLD = "not told"  # the use of a time of which the file does not say whether a fit used it
_ERRORS = "Errors of the distinct points: mean absolute (MAPE), largest, mean (bias)"
_TWINS = "A twin is a second measurement of a point. It is shown and not counted."
_USES = "Fitted: parameters of the chip were fitted to the times. Predicted: they were not."
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


@dataclass(frozen=True, eq=False)
class Row:
    """One measured time and both predictions, seconds; `paper` is None if the paper has no such layout.

    `set` is the name of the file: of a file of the package its name, such as nccl-h100, of any other its path.
    """

    set: str
    file: str
    measurement: Measurement
    simulated: float
    paper: float | None

    @property
    def error(self) -> float:
        """Simulated over measured, less 1."""
        return self.simulated / self.measurement.time - 1

    @property
    def paper_error(self) -> float | None:
        """The paper's model over measured, less 1."""
        return None if self.paper is None else self.paper / self.measurement.time - 1


@dataclass(frozen=True)
class Summary:
    """Errors of several points as shares: mean absolute percentage error, the largest of either sign, and the mean."""

    points: int
    mape: float
    worst: float
    bias: float

    @staticmethod
    def of(errors: Iterable[float | None]) -> Summary | None:
        """Return the summary of the existing errors; None if there are none."""
        known = [error for error in errors if error is not None]
        if not known:
            return None
        return Summary(len(known), sum(map(abs, known)) / len(known), max(known, key=abs), sum(known) / len(known))

    def keys(self) -> dict[str, float]:
        """Return the summary as a mapping, fit for JSON."""
        return {"points": self.points, "mape": self.mape, "worst": self.worst, "bias": self.bias}


@dataclass(frozen=True, eq=False, repr=False)
class Validation:
    """Every predicted row, in the order of the files, and the mistakes of the other rows."""

    files: tuple[Measurements, ...]
    rows: tuple[Row, ...]
    mistakes: tuple[Mistake, ...]

    def __repr__(self) -> str:
        return self.text()

    @property
    def points(self) -> tuple[Row, ...]:
        """The rows without twins: each measured point once."""
        return tuple(row for row in self.rows if not row.measurement.twin)

    def sets(self) -> dict[str, list[Row]]:
        """Return the rows by set; a set whose rows are all wrong has none."""
        found: dict[str, list[Row]] = {one.name: [] for one in self.files}
        for row in self.rows:
            found[row.set].append(row)
        return found

    def groups(self) -> dict[tuple[str, str], list[Row]]:
        """Return the rows by set and group."""
        found: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.set, row.measurement.group), []).append(row)
        return found

    def uses(self) -> dict[str, list[Row]]:
        """Return the rows by their use: fitted, predicted, and "" where the file does not say; only uses that occur."""
        by_use = {use: [row for row in self.rows if row.measurement.use == use] for use in (*measurements.USE, "")}
        return {use: rows for use, rows in by_use.items() if rows}

    def chips(self) -> list[Chip]:
        """Return the chips that the rows were simulated with, each once."""
        found: list[Chip] = []
        for row in self.rows:
            found += [row.measurement.scenario.chip] if row.measurement.scenario.chip not in found else []
        return found

    def text(self, *, details: bool = False) -> str:
        """Return the errors for a terminal: of several sets a line each, of one set its rows and groups.

        With `details`, rows and groups of several sets stand above these lines. The last line says if rows are missing.
        """
        several = len(self.sets()) > 1
        parts = []
        if not self.rows:
            parts.append("No row can be simulated.")
        elif details or not several:
            parts += [*_groups(self), _summaries(self)]
            parts += [_TWINS] if any(row.measurement.twin for row in self.rows) else []
        if several:
            parts.append(_sets(self))
            parts += [_USES if details else f"{_USES}\n`torussim validate --details` prints every row."]
        if self.mistakes:
            wrong = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
            parts.append(f"Incomplete: {wrong} on standard error; the rows with mistakes are left out.")
        return "\n\n".join(parts)

    def keys(self) -> dict[str, Any]:
        """Return all results as JSON data: seconds and shares, with all parameters of the chips."""
        rows = [{"set": row.set, "file": row.file, "line": row.measurement.mark.line, "group": row.measurement.group,
                 "name": row.measurement.name, "what": row.measurement.what, "twin": row.measurement.twin,
                 "use": row.measurement.use or None,
                 "source": row.measurement.source, "chip": row.measurement.scenario.chip.name,
                 "measured_s": row.measurement.time, "simulated_s": row.simulated, "error": row.error,
                 "paper_s": row.paper, "paper_error": row.paper_error} for row in self.rows]
        groups = [{"set": name, "file": rows[0].file, "group": group, **_both(rows)} for (name, group), rows in
                  self.groups().items()]
        sets = [{"set": name, "chips": _chips(rows), **_counts(rows), **_both(rows)} for name, rows in self.sets().items()]
        uses = self.uses()
        return {"complete": not self.mistakes, "rows": rows, "groups": groups, "sets": sets,
                **{use: _both(uses.get(use, [])) for use in measurements.USE}, "all": _both(self.rows),
                "chips": [chips.describe(chip) for chip in self.chips()],
                "sources": {found.file: found.source for found in self.files},
                "mistakes": [str(mistake) for mistake in self.mistakes]}

    def json(self) -> str:
        """Return the keys as JSON: numbers as they are, no NaN."""
        return json.dumps(self.keys(), indent=1, allow_nan=False)


def validate(files: Sequence[str | Path] = (), *, code: str | Trust = "beside",
             progress: Callable[[int, int], None] | None = None) -> Validation:
    """Return the errors of the predictions for files of measurements; by default all files of the package.

    A file that is given twice counts once. `progress(done, all)` counts rows. Mistakes in a file are listed, and the other rows
    are still predicted.
    """
    paths = dict.fromkeys(measurements.found(file) for file in files or measurements.package())
    read = [measurements.read(path, code) for path in paths]
    mistakes = [mistake for found in read for mistake in found.mistakes]
    todo = [(found, measurement) for found in read for measurement in found.rows]
    rows = []
    for done, (found, measurement) in enumerate(todo):
        try:
            rows.append(_row(found, measurement))
        except TorusSimError as error:
            mistakes.append(Mistake(str(error), measurement.mark, error.code, error.path))
        if progress:
            progress(done + 1, len(todo))
    return Validation(tuple(read), tuple(rows), tuple(dict.fromkeys(mistakes)))


def _row(found: Measurements, measurement: Measurement) -> Row:
    ready = case(measurement)
    return Row(found.name, found.file, measurement, ready.simulated(measurement.scenario.chip), ready.paper())


def _distinct(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if not row.measurement.twin]


def _summary(rows: Sequence[Row]) -> tuple[Summary | None, Summary | None]:
    """Return the summaries of the distinct points of rows, of the simulation and of the paper's model."""
    points = _distinct(rows)
    return Summary.of(row.error for row in points), Summary.of(row.paper_error for row in points)


def _both(rows: Sequence[Row]) -> dict[str, Any]:
    """Return both summaries of rows as JSON data."""
    return {key: summary.keys() if summary else None for key, summary in zip(("simulated", "paper"), _summary(rows))}


def _counts(rows: Sequence[Row]) -> dict[str, int]:
    """Return the number of distinct points of each use; a use that the file does not say is not counted."""
    return {use: sum(row.measurement.use == use for row in _distinct(rows)) for use in measurements.USE}


def _chips(rows: Sequence[Row]) -> list[str]:
    """Return the names of the chips of rows, each once."""
    return list(dict.fromkeys(row.measurement.scenario.chip.name for row in rows))


# -- the tables ---------------------------------------------------------------------------------------------------------


def _groups(found: Validation) -> list[str]:
    """Return a table for each group, all with the same columns."""
    cells: list[list[str]] = []
    titles: list[tuple[str, int]] = []
    for (name, group), rows in found.groups().items():
        sources = [row.measurement.source for row in rows]
        usual = max(dict.fromkeys(sources), key=sources.count)
        several = f" ({name})" if len(found.sets()) > 1 else ""
        titles.append((f"{group}{several}{': ' + usual if usual else ''}", len(rows) + 1))
        unit, called = _unit(min(row.measurement.time for row in rows))
        smallest = min(row.measurement.time for row in rows) / unit
        digits = max(0, 3 - floor(log10(smallest)))  # four significant digits for the smallest
        cells.append(["", f"measured, {called}", f"simulated, {called}", "error", f"paper's model, {called}", "error", ""])
        for row in rows:
            m = row.measurement
            times = ["-" if time is None else f"{time / unit:.{digits}f}" for time in (m.time, row.simulated, row.paper)]
            notes = ["twin"] if m.twin else []
            notes += [m.source] if m.source != usual else []
            cells.append([m.name, times[0], times[1], _percent(row.error), times[2], _percent(row.paper_error), ": ".join(notes)])
    lines = table(cells, "lrrrrrl").splitlines()
    parts = []
    for title, count in titles:
        parts.append("\n".join([title, *lines[:count]]))
        lines = lines[count:]
    return parts


def _summaries(found: Validation) -> str:
    """Return the table of summaries, a line for each group and one for all."""
    several = len(found.sets()) > 1
    names = [(f"{group} ({name})" if several else group, rows) for (name, group), rows in found.groups().items()]
    head = [["", "", "simulated", "", "", "paper's model", "", ""],
            ["group", "points", "MAPE", "worst", "bias", "MAPE", "worst", "bias"]]
    cells = []
    for name, rows in [*names, *([] if several else [(ALL, list(found.rows))])]:
        cells.append([name, str(len(_distinct(rows))), *(cell for s in _summary(rows) for cell in _errors(s))])
    return f"{_ERRORS}\n" + table([*head, *cells], "lrrrrrrr")


def _sets(found: Validation) -> str:
    """Return the table of sets, a line each, then a line for all points of each use and one for all."""
    head = [["", "", "", "", "simulated", "", "", "paper's model", ""],
            ["set", "chip", "use", "points", "MAPE", "worst", "bias", "points", "MAPE"]]
    lines = [(name, ", ".join(_chips(rows)) or "-", _use(rows), rows) for name, rows in found.sets().items()]
    lines += [(f"all {use or NOT_TOLD}", "", "", rows) for use, rows in found.uses().items()]
    lines += [(ALL, "", "", list(found.rows))]
    cells = []
    for name, chip, use, rows in lines:
        simulated, paper = _summary(rows)
        cells.append([name, chip, use, str(len(_distinct(rows))), *_errors(simulated), str(paper.points) if paper else "-",
                      _errors(paper)[0]])
    return f"{_ERRORS}\n" + table([*head, *cells], "lllrrrrrr")


def _use(rows: Sequence[Row]) -> str:
    """Return the use of a set's points: one word if all have the same, otherwise with their numbers."""
    found = Counter(row.measurement.use or NOT_TOLD for row in _distinct(rows))
    return ", ".join(use if len(found) == 1 else f"{number} {use}" for use, number in found.items()) or "-"


def _errors(summary: Summary | None) -> list[str]:
    """Return the cells of a summary: mean absolute, worst, bias."""
    return [f"{summary.mape:.1%}", _percent(summary.worst), _percent(summary.bias)] if summary else ["-"] * 3


def _unit(seconds: float) -> tuple[float, str]:
    """Return the largest unit of time in which a time is at least 1."""
    return next(((size, name) for size, name in _UNITS if seconds >= size), _UNITS[-1])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:+z.1%}"
