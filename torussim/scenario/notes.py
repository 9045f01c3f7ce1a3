"""What is wrong with a document so far: every part of a scenario is read with the same notes, and goes on after a mistake."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torussim.described import Form
from torussim.errors import Found, Keys, Mistake, ScenarioError, TorusSimError
from torussim.files import Document
from torussim.resolve import UserFunction
from torussim.scenario import keyed
from torussim.trust import Trust, Unopened, function

T = TypeVar("T")
KEPT = 16  # parts of scenarios that are known at once


@dataclass
class Notes:
    """A document, the folder that its names are looked up in, and its mistakes.

    `code`: the SHA-256 of the files of code that were run; `unopened`: those that were not, as nobody trusts them;
    `known`: parts of other scenarios, by what they were made of, for who reads many that differ in a few values.
    """

    document: Document
    beside: Path
    mistakes: list[Mistake] = field(default_factory=list)
    trust: Trust = field(default_factory=Trust)
    code: dict[str, str] = field(default_factory=dict)
    unopened: list[Unopened] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # for the report
    known: dict[str, Any] | None = None
    asked: int = 0  # how often a user's function was

    def once(self, what: str, given: Any, make: Callable[[], T]) -> T:
        """Return what `make` makes of plain data, or what it made of the same before where it noted nothing and ran no code."""
        if self.known is None:
            return make()
        key = f"{what} {json.dumps(given)}"
        if key in self.known:
            found: T = self.known[key]
            return found
        before = len(self.mistakes), len(self.said), self.asked
        found = make()
        if before == (len(self.mistakes), len(self.said), self.asked):
            while len(self.known) >= KEPT:
                del self.known[next(iter(self.known))]
            self.known[key] = found
        return found

    def function(self, name: str, *, recorded: bool = True) -> UserFunction | None:
        """Return the user's function of this name, None where its file is not to be opened; raise NameError_ if there is none.

        `recorded`: the record of the scenario will name it, not what it made.
        """
        self.asked += 1
        try:
            loaded = function(name, self.beside, self.trust)
        except Unopened as unopened:
            self.unopened.append(unopened)
            return None
        self.code |= loaded.files if recorded else {}
        return loaded.function

    def wrong(self, path: Keys, text: str, at_key: bool = False, code: str = "value") -> None:
        """Note a mistake in the value at `path`, or in its key; where there is no such value, in its nearest parent's key."""
        mark = self.document.where_key(path) if at_key else self.document.where(path)
        self.mistakes.append(Mistake(text, mark, code, path))

    def raised(self, path: Keys, error: TorusSimError, prefix: str = "") -> None:
        """Note what was raised for the value at `path`, as a mistake in all of it."""
        self.wrong(path, f"{prefix}{error}", code=error.code)

    def add(self, found: list[Found], path: Keys, prefix: str = "") -> None:
        """Note the mistakes that were found in the value at `path`."""
        for one in found:
            inside = one.within(path, prefix)
            self.wrong(inside.path, inside.text, inside.at_key, inside.code)

    def section(self, form: Form, value: Any, path: Keys, what: str, *, others: bool = False) -> keyed.Section:
        """Return what `keyed.read` returns, its mistakes noted."""
        section, found = keyed.read(form, value, what, others=others)
        self.add(found, path)
        return section

    def error(self) -> ScenarioError:
        """Return all that was noted; what two readers of one part have both noted stands there once."""
        return ScenarioError(dict.fromkeys(self.mistakes))
