"""The names that a trace of a user's run gives to the operations and the chips of a scenario."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torussim.scenario import forms
from torussim.scenario.notes import Notes

PATH = ("trace",)


@dataclass(frozen=True)
class Tracing:
    """`operations`: name in the trace, or a pattern with `*` and `?`, to names of operations; `chips`: name to coordinates."""

    operations: Mapping[str, str] = field(default_factory=dict)
    chips: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def operation(self, name: str) -> str | None:
        """Return the operation of a name in the trace. An exact name comes first, then the first pattern that matches."""
        if name in self.operations:
            return self.operations[name]
        return next((to for pattern, to in self.operations.items() if _fits(pattern, name)), None)


def _fits(pattern: str, name: str) -> bool:
    if "*" not in pattern and "?" not in pattern:
        return False
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), name, re.DOTALL) is not None


def read_tracing(notes: Notes, given: Any, axes: Mapping[str, int]) -> Tracing:
    """Return the names of a trace, and note mistakes. `axes`: lengths of the network's axes, none if unknown."""
    section = notes.section(forms.TRACE, given, PATH, "trace")
    chips = {}
    for name, place in section["chips"].items() if section.sound("chips") else ():
        lengths = list(axes.values())
        if axes and (len(place) != len(lengths) or any(at >= length for at, length in zip(place, lengths))):
            notes.wrong((*PATH, "chips", name), f"chips: {name}: the network has no chip {list(place)}: it has "
                        f"{' x '.join(map(str, lengths))} chips, counted from 0")
        chips[name] = tuple(place)
    return Tracing(section["operations"] if section.sound("operations") else {}, chips)


def describe_tracing(tracing: Tracing) -> dict[str, Any]:
    """Return the record of the names of a trace."""
    return {"operations": dict(tracing.operations), "chips": {name: list(place) for name, place in tracing.chips.items()}}
