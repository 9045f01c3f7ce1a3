"""Docstrings in numpydoc form, parsed: the summary of a function, and the description of each parameter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any


def summary(function: Callable[..., Any]) -> str:
    """Return the first paragraph of a docstring, on one line.

    >>> summary(summary)
    'Return the first paragraph of a docstring, on one line.'
    """
    return " ".join((inspect.getdoc(function) or "").partition("\n\n")[0].split())


def sections_of(function: Callable[..., Any]) -> dict[str, str]:
    """Return the sections of a docstring by their titles, such as "Parameters"; "" is the text before the first title."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.getdoc(function) or "", flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2]))}


def parameters_of(function: Callable[..., Any]) -> dict[str, str]:
    """Return the description of each parameter of a function, on one line.

    Names with a common description, "bandwidth, latency", each have it. A type after " : " is left out.
    """
    found: dict[str, str] = {}
    text = sections_of(function).get("Parameters", "")
    for names, described in re.findall(r"^(\S.*)\n((?:[ \t]+\S.*\n?|\n(?=[ \t]))*)", text, re.M):
        for name in re.sub(r" : .*", "", names).split(","):
            found[name.strip().lstrip("*")] = " ".join(described.split())
    return found
