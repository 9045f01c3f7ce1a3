"""A plain reader of Chrome traces, and the check of their format; knows nothing of how torussim writes them.

It holds a trace to what ui.perfetto.dev and chrome://tracing need: names, numbers and times of each kind of event, slices of a
thread that do not overlap, and arrows that begin and end in slices.
"""

from __future__ import annotations

import gzip
import json
from bisect import bisect
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf
from typing import Any

NEEDS = {"X": {"pid", "tid", "ts", "dur", "name", "cat", "args"}, "M": {"pid", "name", "args"},
         "C": {"pid", "ts", "name", "args"}, "s": {"pid", "tid", "ts", "id", "cat", "name"},
         "f": {"pid", "tid", "ts", "id", "cat", "name", "bp"}}


@dataclass
class Read:
    """A trace; times in microseconds."""

    about: dict[str, Any]
    events: list[dict[str, Any]]
    processes: dict[int, str] = field(default_factory=dict)
    threads: dict[int, str] = field(default_factory=dict)

    def slices(self, category: str, process: str | None = None) -> list[dict[str, Any]]:
        return [e for e in self.events if e["ph"] == "X" and e["cat"] == category
                and process in (None, self.processes[e["pid"]])]

    def counter(self, name: str, process: str) -> list[tuple[float, float]]:
        """Return (seconds, value) of a counter in order of time."""
        found = [(e["ts"] * 1e-6, next(iter(e["args"].values()))) for e in self.events
                 if e["ph"] == "C" and e["name"] == name and self.processes[e["pid"]] == process]
        return sorted(found, key=lambda step: step[0])  # of those at one time the last stands

    def arrows(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        ends: dict[int, list[Any]] = defaultdict(lambda: [None, None])
        for e in self.events:
            if e["ph"] in "sf":
                ends[e["id"]]["sf".index(e["ph"])] = e
        return [(a, b) for a, b in ends.values()]


def read(data: bytes) -> Read:
    """Return a trace; an AssertionError says what is wrong with its format."""
    text = gzip.decompress(data)
    given = json.loads(text, parse_constant=lambda name: 1 / 0)  # no NaN, no Infinity
    assert given["displayTimeUnit"] in ("ms", "ns")
    found = Read(given["otherData"], given["traceEvents"])
    for e in found.events:
        assert e.keys() - {"ph"} == NEEDS[e["ph"]] or (e["ph"] == "M" and e.keys() - {"ph", "tid"} == NEEDS["M"]), e
        if e["ph"] == "M" and e["name"].endswith("_name"):
            names, number = (found.threads, e["tid"]) if "tid" in e else (found.processes, e["pid"])
            assert number not in names, "a number is that of one thing"
            assert number > 0
            names[number] = e["args"]["name"]
    where = {}
    for e in found.events:
        assert e["pid"] in found.processes
        assert "ts" not in e or e["ts"] >= 0
        if "tid" in e:
            assert e["tid"] in found.threads and where.setdefault(e["tid"], e["pid"]) == e["pid"]
    slices = defaultdict(list)
    for e in found.events:
        if e["ph"] == "X":
            slices[e["tid"]].append((e["ts"], e["dur"]))
            assert e["dur"] >= 0
    for spans in slices.values():
        spans.sort()
        assert all(ts + dur <= after for (ts, dur), (after, _) in pairwise(spans)), "no two slices overlap in chrome://tracing"
        cut = [(int(ts * 1000.0), int(dur * 1000.0)) for ts, dur in spans]
        assert all(ts + dur <= after for (ts, dur), (after, _) in pairwise(cut)), "no two slices overlap in Perfetto"
    arrows = [e for e in found.events if e["ph"] in "sf"]
    assert len({(e["id"], e["ph"]) for e in arrows}) == len(arrows) == 2 * len({e["id"] for e in arrows})
    for e in arrows:
        ts, dur = slices[e["tid"]][bisect(slices[e["tid"]], (e["ts"], inf)) - 1]  # the last one that has begun
        assert ts <= e["ts"] < ts + dur or ts == e["ts"], "an arrow begins and ends in a slice"
        assert int(e["ts"] * 1000.0) < int(ts * 1000.0) + int(dur * 1000.0) or ts == e["ts"], "in Perfetto too"
        assert e["ph"] == "s" or e["bp"] == "e"
    assert all(a["ts"] <= b["ts"] and a["name"] == b["name"] for a, b in found.arrows())
    return found


def integral(steps: list[tuple[float, float]], until: float) -> float:
    """Return the area under steps."""
    return sum(value * (after - at) for (at, value), (after, _) in pairwise([*steps, (until, 0.0)]))
