"""The door from results to their display: `torussim.display`, a module above them.

A result, a plan and a timeline can draw themselves, like pandas tables. The drawing code reads them, so it is above them in the
order of modules. They know it only by name, and load it on demand.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def display(verb: str, *given: Any, **choices: Any) -> Any:
    """Return the result of a function of `torussim.display` for these arguments."""
    return getattr(import_module("torussim.display"), verb)(*given, **choices)
