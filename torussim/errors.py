"""Mistakes of the user: one hierarchy, one line each, with the place in the file if there is one.

Inner code raises the bare reason; the public function or the scenario reader adds the place once.

The text of a mistake is for people and can be reworded; programs read its `code` and its `path`. A code, one of CODES, names the
kind of mistake. A path has the keys and indices from the input of the raising function to the wrong part, outermost first:
("links", 2, "scale"); the empty path means the whole input. Code that adds context puts its own keys before the path (`within`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

Keys = tuple[str | int, ...]  # the path to a value: keys of mappings, indices of lists

CODES = {
    "clash": "two values, each of them sound, contradict each other",
    "contract": "a schedule that does not do what its collective promises",
    "cut-network": "chips that cannot reach each other",
    "cycle": "operations that wait for each other",
    "does-not-divide": "a dimension whose size is no multiple of the chips that cut it",
    "doubled-key": "a key that stands twice in a mapping",
    "duplicate": "a thing that can be there once is there twice",
    "empty": "a key without a value",
    "function": "a user's function that cannot be loaded or called, raises, or returns what is of no use",
    "layout": "a layout that does not fit the model, the workload or the mesh",
    "limit": "more than can be run",
    "missing": "a key that must be given is not",
    "no-layout": "no candidate of a plan fits, or none meets the limits",
    "missing-library": "a library that is not installed",
    "mistake": "any other",
    "model": "a model whose sizes make no sense, or a config.json that cannot be read",
    "occupied": "an output that is something else already, or that another process writes",
    "program": "a program that cannot run",
    "quantity": "a quantity that cannot be read",
    "scenario": "all mistakes of one file",
    "sharding": "a sharding that cannot be read, or does not fit its neighbours",
    "not-trusted": "code that is not run, as nobody said that it can be trusted",
    "syntax": "no YAML, or YAML that means nothing here",
    "topology": "a graph that breaks the contract of a topology, or a change of links that are not there",
    "unknown-key": "a key that its mapping cannot have",
    "unknown-name": "a name that nothing has",
    "unreadable": "a file that cannot be read",
    "unwritable": "a file that cannot be written",
    "value": "a value that is not of the kind that its key needs",
    "worker": "a process or a cluster that is to run something and is not there, or is lost while it does",
}


@dataclass(frozen=True, order=True)
class Mark:
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True)
class Mistake:
    """One mistake and its place: `text` quotes the given value and names a remedy.

    Two readers of one part find the same mistake, so equality compares only text and mark.
    """

    text: str
    mark: Mark | None = None
    code: str = field(default="mistake", compare=False)
    path: Keys = field(default=(), compare=False)  # from the top of the file

    def __str__(self) -> str:
        return f"{self.mark}: {self.text}" if self.mark else self.text


@dataclass(frozen=True)
class Found:
    """One mistake in a value, before its place in a file is known; `at_key`: the place is that of the key."""

    path: Keys
    text: str
    at_key: bool = False
    code: str = "value"

    def within(self, path: Keys, context: str = "") -> Found:
        """Return the mistake with a path from further outside."""
        return Found((*path, *self.path), context + self.text, self.at_key, self.code)


class TorusSimError(Exception):
    """A mistake of the user. Its text gives the given value, the reason, and a remedy.

    `code` and `path` are as the module says; `reason` is the text without the context in front of it.
    """

    code = "mistake"

    def __init__(self, text: str, *, code: str = "", path: Keys = ()) -> None:
        super().__init__(text)
        self.code, self.path, self.reason = code or self.code, path, text

    def within(self, path: Keys, context: str = "") -> Self:
        """Return the error with a path from further outside: `path` before its path, `context` before its text."""
        self.path, self.args = (*path, *self.path), (f"{context}{self}",)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Return the data for pickle, so that a subclass can have any constructor."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[TorusSimError], args: tuple[Any, ...], data: dict[str, Any]) -> TorusSimError:
    """Return an error from pickled data."""
    error = kind.__new__(kind, *args)
    error.__dict__.update(data)
    return error


class FileError(TorusSimError):
    """A file that cannot be read, is too large, or is no regular file."""

    code = "unreadable"


class UnitError(TorusSimError):
    """A quantity that cannot be read."""

    code = "quantity"


class NameError_(TorusSimError):
    """An unknown name; the nearest known one is suggested."""

    code = "unknown-name"


class ShardingError(TorusSimError):
    """A sharding that cannot be read, or does not fit its neighbours; `shardings`: those that the text quotes, as written.

    If a size does not divide, the path ends in the dimension.
    """

    code = "sharding"

    def __init__(self, text: str, *, code: str = "", path: Keys = (), shardings: tuple[str, ...] = ()) -> None:
        super().__init__(text, code=code, path=path)
        self.shardings = shardings


class PlanError(TorusSimError):
    """A plan without a candidate."""

    code = "no-layout"


class LayoutError(TorusSimError):
    """A layout that does not fit the model, the workload or the mesh; the path begins with the tensor."""

    code = "layout"


class ModelError(TorusSimError):
    """A model whose sizes are not valid, or a config.json of an unknown family."""

    code = "model"


class ProgramError(TorusSimError):
    """A program with a cycle, an unknown name, or a collective that its topology cannot run."""

    code = "program"


class TopologyError(TorusSimError):
    """A graph that breaks the contract of a topology, or a change to links that do not exist."""

    code = "topology"


class ContractError(TorusSimError):
    """A schedule that breaks the contract of its collective; the text names a witness."""

    code = "contract"


class OutputError(TorusSimError):
    """A file that cannot be written, or must not be overwritten."""

    code = "unwritable"


class FaultError(TorusSimError):
    """Faults that cannot be drawn: numbers that are not valid, or more faults than links."""

    code = "value"


class WorkerError(TorusSimError):
    """A lost process, or a cluster that does not answer."""

    code = "worker"


class ScenarioError(TorusSimError):
    """All mistakes of one scenario file, in the order of their places; each has its own code and path."""

    code = "scenario"

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda m: (m.mark is None, m.mark or 0)))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))
