"""The words that the sections of a report share: names of chips, links, faults and kinds, shares, wrapped lines, paint.

A report is plain text. Who prints it gives a Paint, which marks some of the lines for a terminal; widths do not count the marks.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torussim.keeping import UNLIMITED
from torussim.program import WITH_ROOT
from torussim.result_keys import SCALARS
from torussim.units import show

Paint = Callable[[str, str], str]  # (text, kind) -> text; the kinds: verdict, heading, bad, good
WIDTH = 100  # columns of a report
LITTLE = 5e-4  # a share of the time that is below 0.1 %
KINDS: dict[str, str] = {
    "all_gather": "all-gather", "reduce_scatter": "reduce-scatter", "all_reduce": "all-reduce", "all_to_all": "all-to-all",
    "permute": "permute", **{kind: kind for kind in WITH_ROOT}}


def plain(text: str, kind: str) -> str:
    """Return the text as it is: the Paint of what is no terminal."""
    return text


def wrapped(text: str, indent: str = "", first: str | None = None) -> list[str]:
    """Return a text as lines of at most WIDTH columns; longer words stay whole. `first`: the indent of the first line.

    >>> wrapped("one fact a sentence", "    ", "  ")
    ['  one fact a sentence']
    """
    return textwrap.wrap(text, WIDTH, initial_indent=indent if first is None else first, subsequent_indent=indent,
                         break_long_words=False, break_on_hyphens=False) or [""]


def node(name: Sequence[int] | str) -> str:
    """Return a chip's coordinates in brackets, and the name of a switch as it is.

    >>> node([0, 1, 0]), node("spine 3")
    ('(0,1,0)', 'spine 3')
    """
    return name if isinstance(name, str) else "(" + ",".join(str(c) for c in name) + ")"


def link(ends: Mapping[str, Any], between: str = "-") -> str:
    """Return the name of a link by its ends: of both directions, or, with "->", of one.

    >>> link({"from": [0, 0], "to": [1, 0]}), link({"from": [0, 0], "to": "leaf 0"}, "->")
    ('(0,0)-(1,0)', '(0,0)->leaf 0')
    """
    return f"{node(ends['from'])}{between}{node(ends['to'])}"


def faulty(fault: Mapping[str, Any]) -> str:
    """Return a fault's kind and link, or the change of several links: "slow link (0,0)-(1,0)"."""
    if fault["cables"] == 1:
        return f"{fault['kind']} link {link(fault)}"
    return f"{fault['cables']:,} {fault['kind']} links {' '.join(fault['changes'])}"


def fault(found: Mapping[str, Any]) -> str:
    """Return a fault's kind and link, and how far it is from what was built."""
    slower = f"{show(found['bandwidth'], 'B/s')} in place of {show(found['built'], 'B/s')}"
    how = {"dead": "", "failing": " in mid-run", "changing": f", at worst {slower}", "slow": f", {slower}",
           "late": f", by {show(found['late'], 's')}"}
    return faulty(found) + how[found["kind"]]


def axes(names: Sequence[str]) -> str:
    """Return axes as one word, with commas where a name is longer than a letter; "-" for none."""
    return ("" if all(len(a) == 1 for a in names) else ",").join(names) or "-"


def percent(share: float | None) -> str:
    """Return a share in percent, with a digit behind the point where it is below 10 %; nothing for none."""
    return "" if share is None else f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def change(seconds: float, got: float) -> str:
    """Return by how much a time differs from the simulated one: "-29.0%"."""
    return f"{seconds / got - 1:+z.1%}" if got else ""


def count(number: int, what: str) -> str:
    """Return a number with its noun.

    >>> count(1, "link"), count(1200, "link")
    ('1 link', '1,200 links')
    """
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def most(shares: Mapping[str, float], shown: int = 3) -> str:
    """Return the first of some names with their shares, and how many others there are."""
    said = ", ".join(f"{name} {share:.0%}" for name, share in list(shares.items())[:shown])
    return said + (f" and {len(shares) - shown} more" if len(shares) > shown else "")


def host_of(keys: Mapping[str, Any]) -> float:
    """Return the time of the host in that of a result, seconds: the chip's step_overhead, of a prefill for each chunk."""
    scenario = keys["scenario"]
    chunks = keys["engine"]["passes"] if scenario.get("workload", {}).get("phase") == "prefill" else 1
    return float(value(scenario["chip"].get("step_overhead", 0.0))) * chunks if "step_s" in keys else 0.0


def value(given: Any) -> Any:
    """Return the value of a field that a record may give with its source."""
    return given["value"] if isinstance(given, Mapping) and "value" in given else given


def scalar(what: str, got: float | None) -> str:
    """Return a scalar key of a result in its unit."""
    if got is None:
        return "nothing"
    if what == "mfu":
        return f"{got:.1%}"
    unit = SCALARS.get(what, "B" if what != "memory.longest_context" else "")
    return show(got, unit) if unit else f"{got:,.0f}"


def context(tokens: int) -> str:
    """Return the longest context in words."""
    return f"{tokens:,} tokens" if tokens < UNLIMITED else "unlimited (every layer has a window)"


def seconds_of(keys: Mapping[str, Any]) -> float:
    """Return the time that a report is about: of a step, or of a bare program."""
    return float(keys.get("step_s", keys["makespan_s"]))


def experts(cut: str | Sequence[str]) -> str:
    """Return `layout.experts` in words.

    >>> experts("batch"), experts(["y", "z"])
    ('experts over the axes of the batch', 'experts over y, z')
    """
    if isinstance(cut, str):
        return "experts " + {"all": "over all axes", "batch": "over the axes of the batch", "gathered": "gathered"}[cut]
    return f"experts over {', '.join(cut) or 'no axis'}"


def pipeline(record: Mapping[str, Any]) -> str:
    """Return `layout.pipeline` of a record in words.

    >>> pipeline({"axis": "x/2", "microbatches": 8})
    'stages over x/2, 8 microbatches'
    """
    many = record["microbatches"]
    return f"stages over {record['axis']}, {many} microbatch{'es' if many > 1 else ''}"
