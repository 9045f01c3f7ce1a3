"""Files of measurements -> the errors of the simulation, and the errors of the paper's model."""

from __future__ import annotations

import json
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
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


@dataclass(frozen=True, eq=False)
class Row:
    """One measured time and both predictions, seconds; `paper` is None if the paper has no such layout."""

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

    def groups(self) -> dict[tuple[str, str], list[Row]]:
        """Return the rows by file and group."""
        found: dict[tuple[str, str], list[Row]] = {}
        for row in self.rows:
            found.setdefault((row.file, row.measurement.group), []).append(row)
        return found

    def chips(self) -> list[Chip]:
        """Return the chips that the rows were simulated with, each once."""
        found: list[Chip] = []
        for row in self.rows:
            found += [row.measurement.scenario.chip] if row.measurement.scenario.chip not in found else []
        return found

    def text(self) -> str:
        """Return the rows by group and the summaries for a terminal; the last line says if rows are missing."""
        parts = [*_groups(self), _summaries(self)] if self.rows else ["No row can be simulated."]
        if any(row.measurement.twin for row in self.rows):
            parts.append("A twin is a second measurement of a point. It is shown and not counted.")
        if self.mistakes:
            wrong = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
            parts.append(f"Incomplete: {wrong} on standard error; the rows with mistakes are left out.")
        return "\n\n".join(parts)

    def keys(self) -> dict[str, Any]:
        """Return all results as JSON data: seconds and shares, with all parameters of the chips."""
        rows = [{"file": row.file, "line": row.measurement.mark.line, "group": row.measurement.group,
                 "name": row.measurement.name, "what": row.measurement.what, "twin": row.measurement.twin,
                 "source": row.measurement.source, "chip": row.measurement.scenario.chip.name,
                 "measured_s": row.measurement.time, "simulated_s": row.simulated, "error": row.error,
                 "paper_s": row.paper, "paper_error": row.paper_error} for row in self.rows]
        groups = [{"file": file, "group": group, **_both(rows)} for (file, group), rows in self.groups().items()]
        return {"complete": not self.mistakes, "rows": rows, "groups": groups, "all": _both(self.rows),
                "chips": [chips.describe(chip) for chip in self.chips()],
                "sources": {found.file: found.source for found in self.files},
                "mistakes": [str(mistake) for mistake in self.mistakes]}

    def json(self) -> str:
        """Return the keys as JSON: numbers as they are, no NaN."""
        return json.dumps(self.keys(), indent=1, allow_nan=False)


def validate(files: Sequence[str | Path] = (), *, code: str | Trust = "beside",
             progress: Callable[[int, int], None] | None = None) -> Validation:
    """Return the errors of the predictions for files of measurements; by default the package's own files.

    `progress(done, all)` counts rows. Mistakes in a file are listed, and the other rows are still predicted.
    """
    read = [measurements.read(measurements.found(file), code) for file in files or [measurements.DEFAULT]]
    mistakes = [mistake for found in read for mistake in found.mistakes]
    todo = [(found.file, measurement) for found in read for measurement in found.rows]
    rows = []
    for done, (file, measurement) in enumerate(todo):
        try:
            rows.append(_row(file, measurement))
        except TorusSimError as error:
            mistakes.append(Mistake(str(error), measurement.mark, error.code, error.path))
        if progress:
            progress(done + 1, len(todo))
    return Validation(tuple(read), tuple(rows), tuple(dict.fromkeys(mistakes)))


def _row(file: str, measurement: Measurement) -> Row:
    ready = case(measurement)
    return Row(file, measurement, ready.simulated(measurement.scenario.chip), ready.paper())


def _both(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the summary of the distinct points of rows, of the simulation and of the paper's model."""
    points = [row for row in rows if not row.measurement.twin]
    errors = {"simulated": Summary.of(row.error for row in points), "paper": Summary.of(row.paper_error for row in points)}
    return {key: summary.keys() if summary else None for key, summary in errors.items()}


# -- the tables ---------------------------------------------------------------------------------------------------------


def _groups(found: Validation) -> list[str]:
    """Return a table for each group, all with the same columns."""
    cells: list[list[str]] = []
    titles: list[tuple[str, int]] = []
    for (file, group), rows in found.groups().items():
        sources = [row.measurement.source for row in rows]
        usual = max(dict.fromkeys(sources), key=sources.count)
        several = f" ({file})" if len(found.files) > 1 else ""
        titles.append((f"{group}{several}{': ' + usual if usual else ''}", len(rows) + 1))
        unit, name = _unit(min(row.measurement.time for row in rows))
        smallest = min(row.measurement.time for row in rows) / unit
        digits = max(0, 3 - floor(log10(smallest)))  # four significant digits for the smallest
        cells.append(["", f"measured, {name}", f"simulated, {name}", "error", f"paper's model, {name}", "error", ""])
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
    names = [(f"{group} ({file})" if len(found.files) > 1 else group, rows) for (file, group), rows in found.groups().items()]
    head = [["", "", "simulated", "", "", "paper's model", "", ""],
            ["group", "points", "MAPE", "worst", "bias", "MAPE", "worst", "bias"]]
    cells = []
    for name, rows in [*names, (ALL, list(found.rows))]:
        points = [row for row in rows if not row.measurement.twin]
        summaries = [Summary.of(row.error for row in points), Summary.of(row.paper_error for row in points)]
        cells.append([name, str(len(points)), *(cell for s in summaries for cell in (
            [f"{s.mape:.1%}", _percent(s.worst), _percent(s.bias)] if s else ["-"] * 3))])
    return "Errors of the distinct points: mean absolute (MAPE), largest, mean (bias)\n" + table([*head, *cells], "lrrrrrrr")


def _unit(seconds: float) -> tuple[float, str]:
    """Return the largest unit of time in which a time is at least 1."""
    return next(((size, name) for size, name in _UNITS if seconds >= size), _UNITS[-1])


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:+.1%}"
