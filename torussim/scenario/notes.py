"""The mistakes of a document: all parts of a scenario are read with the same notes, and reading continues after a mistake."""

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
KEPT = 16  # parts of scenarios that are cached at once


@dataclass
class Notes:
    """A document, the folder of its relative names, and its mistakes.

    `code` has the SHA-256 of the code files that were run. `unopened` has the code files that were not run, because they are not
    trusted. `known` caches parts of scenarios by their input, for callers that read many scenarios with few differences.
    """

    document: Document
    beside: Path
    mistakes: list[Mistake] = field(default_factory=list)
    trust: Trust = field(default_factory=Trust)
    code: dict[str, str] = field(default_factory=dict)
    unopened: list[Unopened] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # for the report
    known: dict[str, Any] | None = None
    asked: int = 0  # calls of `function`

    def once(self, what: str, given: Any, make: Callable[[], T]) -> T:
        """Return the result of `make` for plain data, cached if it noted nothing and ran no code."""
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
        """Return the user-defined function of this name; None if its file is not to be opened. Raise NameError_ if there is none.

        `recorded`: whether the record of the scenario names the function, instead of its result.
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
        """Note a mistake in the value at `path`, or in its key; without such a value, in the key of its nearest parent."""
        mark = self.document.where_key(path) if at_key else self.document.where(path)
        self.mistakes.append(Mistake(text, mark, code, path))

    def raised(self, path: Keys, error: TorusSimError, prefix: str = "") -> None:
        """Note an exception for the value at `path`, as a mistake in the whole value."""
        self.wrong(path, f"{prefix}{error}", code=error.code)

    def add(self, found: list[Found], path: Keys, prefix: str = "") -> None:
        """Note the mistakes found in the value at `path`."""
        for one in found:
            inside = one.within(path, prefix)
            self.wrong(inside.path, inside.text, inside.at_key, inside.code)

    def section(self, form: Form, value: Any, path: Keys, what: str, *, others: bool = False) -> keyed.Section:
        """Return the section that `keyed.read` returns, and note its mistakes."""
        section, found = keyed.read(form, value, what, others=others)
        self.add(found, path)
        return section

    def error(self) -> ScenarioError:
        """Return all mistakes, each once, even if two readers of one part noted it."""
        return ScenarioError(dict.fromkeys(self.mistakes))
