"""The door from results up to how they are shown: `torussim.display`, a room above them.

A result, a plan and a timeline can draw themselves, as tables of pandas do. What draws them reads them, so it lies above them;
they know it by name alone, and load it when they are asked.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def display(verb: str, *given: Any, **choices: Any) -> Any:
    """Return what a function of `torussim.display` makes of these."""
    return getattr(import_module("torussim.display"), verb)(*given, **choices)
