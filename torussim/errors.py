"""Mistakes of the user: one hierarchy, one line each, with the place in the file where there is one.

Inner code raises the bare reason; the public function or the scenario reader adds the place once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


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
    """One thing that is wrong, and where: `text` quotes what was given and says what would do."""

    text: str
    mark: Mark | None = None

    def __str__(self) -> str:
        return f"{self.mark}: {self.text}" if self.mark else self.text


class TorusSimError(Exception):
    """A mistake of the user's; its text says what was given, what is wrong, and what would do."""


class FileError(TorusSimError):
    """A file that cannot be read, is too large, or is no file."""


class UnitError(TorusSimError):
    """A quantity that cannot be read."""


class NameError_(TorusSimError):
    """A name that nothing has; the nearest one is suggested."""


class ShardingError(TorusSimError):
    """A sharding that cannot be read, or does not fit its neighbours."""


class LayoutError(TorusSimError):
    """A layout that does not fit the model, the workload or the mesh."""


class ModelError(TorusSimError):
    """A model whose sizes make no sense, or a config.json of an unknown family."""


class ProgramError(TorusSimError):
    """A program with a cycle, an unknown name, or a collective that its topology cannot run."""


class TopologyError(TorusSimError):
    """A graph that breaks the contract of a topology, or a change to links that are not there."""


class ContractError(TorusSimError):
    """A schedule that does not do what its collective promises; the text names a witness."""


class ScenarioError(TorusSimError):
    """All mistakes of one scenario file, in the order of their places."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda m: (m.mark is None, m.mark or 0)))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))
