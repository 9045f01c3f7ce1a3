"""Many runs of one scenario with other values: a row for each, in parallel, in a file with which a killed sweep continues.

Common parts of the runs are made once in a worker: the document is read here, and parts of scenarios with equal text (chip,
model, network) are cached by `known`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torussim import rows as files_of_rows
from torussim.answer import run
from torussim.edits import replaced
from torussim.engine.prepared import Prepared
from torussim.errors import Mark, ScenarioError, TorusSimError, WorkerError
from torussim.executors import Done, each, workers
from torussim.files import Document
from torussim.journal import Journal, journal
from torussim.points import Chosen, Points, document_of_value, points_of
from torussim.result import Result
from torussim.result_keys import SCALARS
from torussim.scenario import Scenario, Source, document_of, forms, read_document
from torussim.topology.grid import Grid
from torussim.trust import Trust

Progress = Callable[[int, int], None]
Row = dict[str, Any]
Vary = Mapping[str, Any] | Sequence[str]

PARTS = ("memory", "breakdown_s")  # keys of a result whose parts are columns of their own
NAME = re.compile(r"[^:\s]+:[^\W\d]\w*")  # of a user-defined function
FEW = 100  # the points that are tried before a sweep without a readable scenario is refused


@dataclass(frozen=True)
class Case:
    """The common data of all runs of a sweep: a document, the varied keys, the folder of relative names, and the trusted code.

    `work` has all that determines the rows. `code` has the SHA-256 of the code files that ran for the first row.
    """

    document: Document
    keys: tuple[str, ...]
    beside: Path
    trust: Trust
    work: Mapping[str, Any]

    def scenario(self, values: Sequence[Any], known: dict[str, Any] | None = None) -> Scenario:
        """Return the scenario with these values of the keys. Raise ScenarioError."""
        document = self.document
        for key, value in zip(self.keys, values):
            new = document_of_value(key, value)
            document = replaced(document, key, new, Mark(new.file, 1, 1), bases=forms.BASES)
        return read_document(document, self.beside, self.trust, known=known)


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep: their common data, and their points."""

    case: Case
    points: Points


def sweep(source: Source, vary: Vary, *, zip: bool = False, overrides: Sequence[str] = (), jobs: int = 0, dask: str = "",
          out: str | Path | None = None, force: bool = False, code: str | Trust = "beside",
          progress: Progress | None = None) -> list[Row]:
    """Return a row for every combination of values: the varied keys, the scalars of the result, and `error`, None or a line.

    Parameters
    ----------
    source
        A scenario as `run` takes it.
    vary
        Values by their keys, which are those of `--set`; a text such as "1:1024:x2" is read as the command line reads it.
    zip
        Take the first value of every key, then the second of every key, and so on, and not all combinations.
    overrides
        Assignments such as "workload.tokens=1", the same for all runs.
    jobs
        How many processes run; 0: one a core; 1: none but this one.
    dask
        The address of the scheduler of a Dask cluster whose workers run, in their place.
    out
        A .csv, .jsonl or .parquet file for the rows. With the journal beside it the same call goes on after it was killed.
    force
        Overwrite `out` whatever it is, and begin anew.
    code
        Whose code may run, as in `load`.
    progress
        Called with the numbers of rows that are done, and of all.

    Returns
    -------
    list
        A mapping for every run, in the order of the combinations.

    Raises
    ------
    ScenarioError
        For keys and values that cannot be read, and where not one point is a sound scenario. A mistake at some points is their
        `error`, as is all else that goes wrong in a run.
    OutputError
        For `out` that cannot be written, or is something else.
    WorkerError
        For a Dask cluster that does not answer.

    Examples
    --------
    >>> ring = {"chip": "ideal", "topology": {"shape": [4], "bandwidth": "45 GB/s"},
    ...         "program": [{"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "90 MB"}]}
    >>> rows = sweep(ring, {"topology.shape": [[4], [8], [0]]}, jobs=1)
    >>> [(row["topology.shape"], row.get("makespan_s"), row["error"] is None) for row in rows]
    [([4], 0.00075, True), ([8], 0.000875, True), ([0], None, False)]
    """
    with running(prepared(source, vary, zip=zip, overrides=overrides, code=code), out=out, force=force, jobs=jobs, dask=dask,
                 progress=progress) as found:
        return list(found)


def prepared(source: Source, vary: Vary, *, zip: bool = False, overrides: Sequence[str] = (),
             code: str | Trust = "beside") -> Sweep:
    """Return a sweep that is ready to run; the arguments are those of `sweep`. Raise ScenarioError as `sweep` does."""
    points, trust = points_of(vary, zip), source.trust if isinstance(source, Scenario) else Trust.of(code)
    document, beside = document_of(source, overrides, code=trust)
    case = Case(document, tuple(axis.key for axis in points.axes), beside, trust, {})
    place, first = _sound(case, points)
    code_of, inputs = dict(first.resolved.get("code", {})), [first.resolved]
    for values in _naming(case, points, place):
        try:
            found = case.scenario(values).resolved
        except ScenarioError:
            continue
        code_of |= found.get("code", {})
        inputs.append(found)
    work = {"torussim": _version(), "scenario": _hash([document.value, inputs]), "code": code_of,
            "vary": {axis.key: _hash(axis.values) for axis in points.axes}, "zip": zip, "runs": len(points)}
    return Sweep(replace(case, work=work), points)


def _sound(case: Case, points: Points) -> tuple[int, Scenario]:
    """Return the first tried point with a sound scenario. Raise ScenarioError, for the first point, if there is none."""
    wrong: ScenarioError | None = None
    known: dict[str, Any] = {}
    for number in points.few(FEW):
        try:
            return number, case.scenario(points[number], known)
        except ScenarioError as error:
            wrong = wrong or error
    assert wrong is not None
    raise wrong


def _naming(case: Case, points: Points, number: int) -> Iterator[tuple[Any, ...]]:
    """Return points that differ from one in a value that names code or a file, because their content determines rows too."""
    for position, axis in enumerate(points.axes):
        for index, value in enumerate(axis.values):
            if any(NAME.fullmatch(text) or _is_file(case.beside, text) for text in _texts(value)):
                point = points[number]
                yield points[index] if points.zipped else (*point[:position], value, *point[position + 1:])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)
    elif isinstance(value, str):
        yield value


@lru_cache(maxsize=1)
def _version() -> str:
    """Return the version of torussim and the hash of its files: one sweep must not mix rows of two versions."""
    try:
        number = version("torussim")
    except PackageNotFoundError:
        number = "not installed"
    folder, found = Path(__file__).parent, sha256()
    for path in sorted(path for kind in ("py", "yaml") for path in folder.rglob(f"*.{kind}")):
        found.update(path.read_bytes())
    return f"{number}, {found.hexdigest()[:16]}"


def _is_file(folder: Path, text: str) -> bool:
    return 0 < len(text) < 200 and text.isprintable() and (folder / text).is_file()


def _hash(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


# -- rows ---------------------------------------------------------------------------------------------------------------


def row(case: Case, values: Sequence[Any]) -> Row:
    """Return the row of a point; an exception of its run is in `error`."""
    found = dict(zip(case.keys, values))
    try:
        if case.work["torussim"] != _version():
            raise WorkerError(f"this worker has torussim {_version()}, and not {case.work['torussim']}", code="clash")
        known = _known(_hash(case.work))
        scenario = case.scenario(values, known)
        before = case.work["code"]
        changed = [file for file, code in scenario.resolved.get("code", {}).items() if before.get(file, code) != code]
        if changed:
            raise WorkerError(f"{', '.join(changed)} changed during the sweep", code="clash")
        return {**found, **scalars(run(scenario, prepared=_prepared(known, scenario.net))), "error": None}
    except Exception as error:
        return {**found, "error": line(error)}


@lru_cache(maxsize=2)
def _known(work: str) -> dict[str, Any]:
    """Return the cache that the runs of one sweep share in this process."""
    return {}


def _prepared(known: dict[str, Any], net: Grid) -> Prepared:
    """Return a network prepared for many runs; the last one is kept."""
    found = known.get("prepared")
    if not isinstance(found, Prepared) or found.net is not net:
        found = known["prepared"] = Prepared(net)
    return found


def scalars(result: Result) -> Row:
    """Return the scalar keys of a result, and its time on the wall clock."""
    keys = result.keys
    found = {key: keys[key] for key in SCALARS if key in keys}
    for part in PARTS:
        found |= {f"{part}.{key}": value for key, value in keys.get(part, {}).items()}
    return {**found, "wall_s": keys["engine"]["wall_s"]}


def line(error: Exception) -> str:
    """Return an exception on one line, with the codes of the mistakes."""
    if isinstance(error, ScenarioError):
        return "; ".join(f"{mistake} [{mistake.code}]" for mistake in error.mistakes).replace("\n", " ")
    if isinstance(error, MemoryError):
        return "out of memory [limit]"
    text, code = str(error).replace("\n", " "), error.code if isinstance(error, TorusSimError) else "bug"
    return f"{text if isinstance(error, TorusSimError) else f'{type(error).__name__}: {text}'} [{code}]"


# -- running ------------------------------------------------------------------------------------------------------------


@contextmanager
def running(made: Sweep, *, out: str | Path | None = None, force: bool = False, jobs: int = 0, dask: str = "",
            progress: Progress | None = None, began: Callable[[int], None] = lambda _: None) -> Iterator[Journal | Kept]:
    """Make all missing rows, and yield all rows; the arguments are those of `sweep`.

    `began` is called with the number of rows of an earlier run, before the first new one is made.
    """
    if out is None:
        memory = Kept()
        began(0)
        _fill(memory, made, jobs, dask, progress)
        yield memory
        return
    path = Path(out)
    files_of_rows.check_output(path)
    with journal(path, made.case.work, force=force) as kept:
        began(len(kept))
        _fill(kept, made, jobs, dask, progress)
        if not kept.finished:
            kept.finish(lambda new: files_of_rows.write(new, kept, path.suffix))
        yield kept


class Kept:
    """Rows in memory alone, with the interface of a Journal."""

    def __init__(self) -> None:
        self._rows: dict[int, Row] = {}

    def add(self, number: int, row: Row, *, again: bool = False) -> None:
        """Keep a row."""
        self._rows[number] = row

    def __contains__(self, number: int) -> bool:
        return number in self._rows

    def __iter__(self) -> Iterator[Row]:
        return (self._rows[number] for number in sorted(self._rows))

    def __len__(self) -> int:
        return len(self._rows)


def _fill(kept: Journal | Kept, made: Sweep, jobs: int, dask: str, progress: Progress | None) -> None:
    """Make the missing rows."""
    count = len(made.points)
    left = [number for number in range(count) if number not in kept]
    if not left:
        return
    if progress is not None:
        progress(len(kept), count)
    with workers(1 if len(left) == 1 and not (jobs or dask) else jobs, dask) as those:
        done: Done[Row]
        for done in each(partial(row, made.case), Chosen(made.points, left), those):
            number, found = left[done.index], done.value
            if found is None:  # its worker was lost
                assert done.error is not None
                found = {**dict(zip(made.case.keys, made.points[number])), "error": line(done.error)}
            kept.add(number, found, again=done.value is None)
            if progress is not None:
                progress(len(kept), count)
