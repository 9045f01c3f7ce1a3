"""A mapping of a scenario file, read by the form of its keys: the sound values, and the mistakes; without their meaning.

A form is a table of keys. `read` finds all mistakes of a section together, and still returns the sound keys, so that a mistake in
one value does not hide mistakes in other values. The code is our own, so that every message is in our words, and a wrong element
of a list has its own place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torussim.described import Form
from torussim.errors import Found
from torussim.resolve import unknown
from torussim.scenario.values import EMPTY, Misread, listed, quote
from torussim.spelling import nearest

MOST_MEANT = 100  # unknown keys of one mapping that are treated as misspelt


@dataclass(frozen=True)
class Section:
    """The result of reading: every key of the form, with its default if it is not given; `wrong` keys are missing or invalid."""

    values: Mapping[str, Any]
    given: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()
    others: Mapping[str, Any] | None = None  # keys outside the form, where they are allowed

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def sound(self, *keys: str) -> bool:
        """Return whether these keys, by default all, are valid."""
        return not self.wrong.intersection(keys or self.wrong)


def read(form: Form, value: Any, what: str, *, others: bool = False) -> tuple[Section, list[Found]]:
    """Return the section and all its mistakes; `what` names the section, such as "workload".

    With `others`, keys outside the form are kept; otherwise they are mistakes.
    """
    defaults = {name: key.default for name, key in form.items()}
    needed = [name for name, key in form.items() if key.needed]
    if not isinstance(value, Mapping):
        keys = ", ".join((needed + [name for name in form if name not in needed])[:3])
        text = f"{quote(value)} is not a mapping: {what} needs keys such as {keys}"
        return Section(defaults, wrong=frozenset(form)), [Found((), text)]
    found, values, wrong = [], dict(defaults), set()
    for name, part in value.items():
        if name not in form:
            if not others:
                found.append(Found((name,), unknown(name, form, f"key of {what}"), True, "unknown-key"))
            continue
        if part is None:
            found.append(Found((name,), f"{name}: {EMPTY}", True, "empty"))
            wrong.add(name)
            continue
        try:
            values[name] = form[name].read(part)
        except Misread as error:
            found += [f.within((name,), f"{name}: ") for f in error.found]
            wrong.add(name)
    missing = [name for name in needed if name not in value]
    told = [name for name in missing if name not in meant(value, form)]
    if told:  # the path does not exist: the place is the section's key
        found.append(Found((told[0],), f"{what} lacks {listed(told)}: write {'them' if len(told) > 1 else 'it'}",
                           code="missing"))
    rest = {name: part for name, part in value.items() if name not in form} if others else None
    return Section(values, frozenset(value), frozenset({*wrong, *missing}), rest), found


def meant(given: Iterable[str], names: Iterable[str]) -> set[str]:
    """Return the names that the first unknown keys misspell; a missing one of these would repeat the same mistake."""
    names = list(names)
    near = {nearest(key, names) for key in islice((key for key in given if key not in names), MOST_MEANT)}
    return {name for name in near if name is not None}
