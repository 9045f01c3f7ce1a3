"""What is wrong with a document so far: every part of a scenario is read with the same notes, and goes on after a mistake."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torussim import resolve
from torussim.errors import Mistake, ScenarioError
from torussim.files import Document
from torussim.resolve import UserFunction
from torussim.scenario import forms
from torussim.scenario.values import Found, Keys


@dataclass
class Notes:
    """A document, the folder that its names are looked up in, and its mistakes."""

    document: Document
    beside: Path
    mistakes: list[Mistake] = field(default_factory=list)

    def wrong(self, path: Keys, text: str, at_key: bool = False) -> None:
        """Note a mistake in the value at `path`, or in its key; where there is no such value, in its nearest parent's key."""
        self.mistakes.append(Mistake(text, self.document.where_key(path) if at_key else self.document.where(path)))

    def add(self, found: list[Found], path: Keys, prefix: str = "") -> None:
        """Note the mistakes that were found in the value at `path`."""
        for one in found:
            inside = one.within(path, prefix)
            self.wrong(inside.path, inside.text, inside.at_key)

    def section(self, form: forms.Form, value: Any, path: Keys, what: str, *, others: bool = False) -> forms.Section:
        """Return what `forms.read` returns, its mistakes noted."""
        section, found = forms.read(form, value, what, others=others)
        self.add(found, path)
        return section

    def function(self, name: str) -> UserFunction:
        """Return the function that "module:function" names. Raise TorusSimError if there is none, or if it may not be run."""
        return UserFunction(name, resolve.function(name, self.beside))

    def error(self) -> ScenarioError:
        """Return all that was noted; what two readers of one part have both noted stands there once."""
        return ScenarioError(dict.fromkeys(self.mistakes))
