"""A result in words, for a terminal: the answer first, then where the time goes, what is to blame and what would help.

`text` is one screen; with `verbose` it has all tables. Keys of a result that take long are asked for only where they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torussim.report import causes, details, headline, phrases
from torussim.report.causes import Remedy, remedies
from torussim.report.headline import subtitle, verdict
from torussim.report.phrases import KINDS, Paint, plain, wrapped
from torussim.result import Result
from torussim.units import show

DIFFERENCES = 2  # sentences, on one screen

__all__ = ["KINDS", "Paint", "Remedy", "plain", "remedies", "subtitle", "text", "verdict"]


def text(result: Result, *, verbose: bool = False, paint: Paint = plain) -> str:
    """Return the report of a run in lines of at most 100 columns, tables and long names aside.

    `verbose`: all tables, in place of one screen. `paint(text, kind)` marks the verdict, headings and what is bad or good for a
    terminal.
    """
    k = result.keys
    parts = [causes.where(result), causes.blame(result, paint), causes.helps(result, paint)]
    if verbose:
        parts += [details.passes(k["engine"]), details.simulated(k), details.estimates(k)]
        if "layout" in k:
            parts += [details.layout(k["layout"]), details.spread(k["layout"]["as_run"]), details.as_run(k["layout"]["as_run"])]
        parts += [details.charges(result), details.operations(k["operations"], k.get("cores", k["chips"])),
                  details.memory(k["memory"], _node(k)) if "memory" in k else [], details.links(k["links"])]
    sections = [_head(result, paint, verbose), *([paint(part[0], "heading"), *part[1:]] for part in parts if part)]
    if not verbose:
        sections.append(_notes(k))
    return "\n\n".join("\n".join(lines) for lines in sections)


def _head(result: Result, paint: Paint, verbose: bool) -> list[str]:
    """Return the verdict, then the name of the run, its network, its rates and what was expected."""
    lines = [paint(line, "verdict") for line in wrapped(verdict(result))]
    lines += wrapped(result.name, "  ", "")
    for line in (headline.network(result), *headline.rates(result)):
        lines += wrapped(line, "    ", "  ")
    for line, met in headline.expectations(result, sources=verbose):
        lines += [part if met is None else paint(part, "good" if met else "bad") for part in wrapped(line, "    ", "  ")]
    return lines


def _notes(k: Mapping[str, Any]) -> list[str]:
    """Return what a screen says besides: how the run differs from the file, its error, its memory, its bounds."""
    lines = details.passes(k["engine"])
    if "layout" in k:
        said = details.differences(k["layout"]["as_run"])
        for sentence in said[:DIFFERENCES]:
            lines += wrapped(f"Not as in the file: {sentence}", "  ", "")
        if said[DIFFERENCES:]:
            lines.append(f"  and {len(said) - DIFFERENCES} more with --verbose")
        lines += details.spread(k["layout"]["as_run"])
    if "memory" in k:
        m = k["memory"]
        used = show(m["weights"] + m["kv_cache"] + m["activations"], "B")
        context = f", longest context {phrases.context(m['longest_context'])}" if m["weights"] < m["capacity"] else ""
        fits = "" if m["fits"] else " (does not fit)"
        lines.append(f"Memory a {_node(k)}: {used} of {show(m['capacity'], 'B')}{fits}{context}")
    return lines + details.beside(k)


def _node(k: Mapping[str, Any]) -> str:
    return "core" if "cores" in k else "chip"
