"""Rows of numbers and texts written as CSV, JSON lines or Parquet, by the suffix of the file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import IO, Any

from torussim.errors import OutputError

SUFFIXES = (".csv", ".jsonl", ".parquet")
GROUP = 10_000  # rows of a Parquet file that are written at once
Row = Mapping[str, Any]


def check_output(path: Path | str) -> None:
    """Raise OutputError for a file that `write` cannot write: with an unknown suffix, or without its library."""
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise OutputError(f"{str(path)!r} is no file of rows: end its name in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}",
                          code="value")
    if path.suffix == ".parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ImportError:
            raise OutputError(f"{path}: Parquet needs pyarrow: pip install 'torussim[parquet]', or write .csv or .jsonl",
                              code="missing-library") from None


def columns(rows: Iterable[Row]) -> list[str]:
    """Return the keys of all rows in the order of occurrence; `error`, which every row has, is last."""
    found = dict.fromkeys(key for row in rows for key in row)
    return [key for key in found if key != "error"] + ["error"]


def write(path: Path, rows: Iterable[Row], suffix: str, names: list[str] | None = None) -> None:
    """Write rows, which are iterated twice (for Parquet, three times), to a file; `names` are by default those of `columns`."""
    names = columns(rows) if names is None else names
    if suffix == ".parquet":
        _write_parquet(path, rows, names)
        return
    with open(path, "w", encoding="utf-8", newline="") as file:
        if suffix == ".csv":
            write_csv(file, rows, names)
        else:
            file.writelines(json.dumps({name: row.get(name) for name in names}, ensure_ascii=False) + "\n" for row in rows)


def write_csv(file: IO[str], rows: Iterable[Row], names: list[str]) -> None:
    """Write rows as CSV with a header; lists, mappings, true and false are JSON, and missing values are empty."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)


def csv_of(rows: Iterable[Row]) -> str:
    """Return rows as CSV."""
    text = StringIO()
    write_csv(text, rows, columns(rows))
    return text.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else value


def _write_parquet(path: Path, rows: Iterable[Row], names: list[str]) -> None:
    """Write rows as Parquet, with columns of numbers, of booleans or of texts; mixed values are texts."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds: dict[str, set[type]] = {name: set() for name in names}
    for row in rows:  # once, because rows may be read from disk
        for name, value in row.items():
            kinds[name].add(type(value))
    of_kind = {frozenset([bool]): pa.bool_(), frozenset([int]): pa.int64(), frozenset([float]): pa.float64(),
               frozenset([int, float]): pa.float64()}
    types = {name: of_kind.get(frozenset(kind - {type(None)}), pa.string()) for name, kind in kinds.items()}
    schema = pa.schema([pa.field(name, types[name]) for name in names])
    texts = {name for name in names if types[name] == pa.string()}
    with pq.ParquetWriter(path, schema) as writer:
        for group in _groups(rows):
            arrays = [pa.array([_text(row.get(name)) if name in texts else row.get(name) for row in group], types[name])
                      for name in names]
            writer.write_table(pa.table(arrays, schema=schema))


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _groups(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while group := list(islice(left, GROUP)):
        yield group
