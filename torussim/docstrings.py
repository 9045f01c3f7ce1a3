"""Docstrings in the form of numpydoc, taken apart: what a function is, and what each of its parameters is."""

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
    """Return the sections of a docstring by their titles, such as "Parameters"; "" is what stands before the first."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.getdoc(function) or "", flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2]))}


def parameters_of(function: Callable[..., Any]) -> dict[str, str]:
    """Return what each parameter of a function is, on one line.

    Names that share a description, "bandwidth, latency", each get it. A type after " : " is left out.
    """
    found: dict[str, str] = {}
    text = sections_of(function).get("Parameters", "")
    for names, described in re.findall(r"^(\S.*)\n((?:[ \t]+\S.*\n?|\n(?=[ \t]))*)", text, re.M):
        for name in re.sub(r" : .*", "", names).split(","):
            found[name.strip().lstrip("*")] = " ".join(described.split())
    return found
