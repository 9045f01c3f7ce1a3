"""Results side by side, best first, with the differences between their scenarios. The comparison prints itself."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torussim.apart import apart
from torussim.as_run import attention_words
from torussim.differences import alike, differences, main_ones
from torussim.errors import TorusSimError
from torussim.resolve import unknown
from torussim.result import Result, plain
from torussim.tables import shorten, table, unlike
from torussim.units import show

WIDTH = 100  # the width of a terminal that does not give its own
NAME_ROOM, MIN_ROOM = 24, 12  # the desired and the least number of characters of a name
COLUMN = {"mfu": "MFU", "chip_s_per_token": "chip-s\na token"}  # columns that stay if they rank the results
OPTIONAL = ("chip-s\na token", "MFU", "of\nlimit", "waiting", "busiest link")  # left out first if names have no room
ALIKE = 0.98  # links within this share of the busiest count as equally busy
BY = {"step_s": "step time", "tokens_per_s": "tokens/s", "mfu": "MFU", "chip_s_per_token": "chip time a token",
      "latency_s": "time in all", "makespan_s": "time in all"}
MORE_IS_BETTER = ("tokens_per_s", "mfu")
OF_TOKENS = ("tokens_per_s", "mfu", "chip_s_per_token")  # a bare program has no tokens
LEGEND = {"ratio": "ratio: to the best", "waiting": "waiting: share of the step spent on communication alone",
          "limit": "of limit: the least that any algorithm needs on this network, as a share of the time",
          "memory": "memory: of a chip's"}
STEPS = {"prefill": "a prefill's step is a whole prompt", "decode": "a decode's step is one token a sequence",
         "generate": "a generation's step is one of its decode steps", "program": "a program's time is all of it"}


@dataclass(frozen=True, eq=False)
class Ranked:
    """A result with its rank: rank 1 is the best; `ratio`: its value over the best one's, None if one of them has no value."""

    rank: int
    file: str
    ratio: float | None
    result: Result


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """Results, best first by a key; results that do not fit into memory come last. `differs`: dotted key -> rank -> value."""

    by: str
    runs: tuple[Ranked, ...]
    differs: Mapping[str, Mapping[int, Any]]
    alike: tuple[str, ...]

    def __repr__(self) -> str:
        return self.text()

    def text(self, width: int = WIDTH) -> str:
        """Return the comparison for a terminal of this many columns: the ranking and the differences."""
        title = f"Best first by {BY[self.by]}{' (more is better)' if self.by in MORE_IS_BETTER else ''}"
        rows, sides = _measures(self, width)
        told = "; ".join(text for column, text in LEGEND.items() if any(column in row for row in rows))
        parts = [f"{title}\n{table(rows, sides)}", textwrap.fill(told, width), textwrap.fill(caution(self), width),
                 _differs(self, width)]
        return "\n\n".join(part for part in parts if part)

    def rows(self) -> list[dict[str, Any]]:
        """Return a mapping for each run, best first: rank, name, file, ratio, the result's keys, and its part of `differs`."""
        return [{"rank": run.rank, "name": run.result.name, "file": run.file, "ratio": run.ratio, **plain(run.result.keys),
                 "differs": {key: values[run.rank] for key, values in self.differs.items() if run.rank in values}}
                for run in self.runs]

    def json(self) -> str:
        """Return the rows as JSON: numbers as they are, no NaN."""
        return json.dumps(self.rows(), indent=1, allow_nan=False)


def compare(results: Sequence[Result], files: Sequence[str], *, by: str = "step_s") -> Comparison:
    """Return results side by side, best first by a key of BY; `files` has the origin of each.

    A bare program has its makespan in place of a step. Ties keep the given order. Raise TorusSimError if no result has the key.
    """
    check_by(by, all("step_s" not in r.keys for r in results))
    values = [_measure(r, by) for r in results]
    sign = -1 if by in MORE_IS_BETTER else 1

    def place(i: int) -> tuple[bool, bool, float]:
        value = values[i]
        return not _fits(results[i]), value is None, sign * (value or 0.0)

    order = sorted(range(len(results)), key=place)
    best = values[order[0]] if order else None
    runs = []
    for rank, i in enumerate(order, 1):
        value = values[i]
        same = 1.0 if value is not None and value == best else None
        runs.append(Ranked(rank, str(files[i]), value / best if value is not None and best else same, results[i]))
    records = [_record(run.result) for run in runs]
    found = {key: {i + 1: value for i, value in at.items()} for key, at in differences(records).items()}
    return Comparison(by, tuple(runs), found, tuple(alike(records)) if records else ())


def _record(result: Result) -> Mapping[str, Any]:
    """Return the record of a scenario with attention as run, if it differs from the word in the file."""
    record: Mapping[str, Any] = result.keys["scenario"]
    phases = result.keys.get("layout", {}).get("as_run", {})
    if not phases:
        return record
    asked = record["layout"]
    each = {phase: asked.get(phase, asked) for phase in phases}
    shown = {phase: {**one, "attention": attention_words(phases[phase])} for phase, one in each.items()}
    same = phases.keys().isdisjoint(asked) and len({one["attention"] for one in shown.values()}) == 1
    return {**record, "layout": next(iter(shown.values())) if same else shown}


def check_by(by: str, bare: bool) -> None:
    """Raise TorusSimError for a key that cannot rank results; `bare`: all are programs without a model."""
    if by not in BY:
        raise TorusSimError(unknown(by, BY, "key to compare by"), code="unknown-name")
    if bare and by in OF_TOKENS:
        raise TorusSimError(f"{by!r} is of no use to compare by: programs alone have no tokens; use makespan_s")


# -- the table of results -----------------------------------------------------------------------------------------------


def _measure(result: Result, by: str) -> float | None:
    k = result.keys
    if by in OF_TOKENS:
        return float(k[by]) if by in k else None
    return float(k.get(by, k["makespan_s"]))


def _fits(result: Result) -> bool:
    return bool(result.keys.get("memory", {}).get("fits", True))


def _measures(found: Comparison, width: int) -> tuple[list[list[str]], str]:
    """Return the rows of the table, the head first, and the alignment of each column. A column without values is left out."""
    results = [run.result for run in found.runs]
    bare = all("step_s" not in r.keys for r in results)
    short = not all(_fits(r) for r in results)
    columns: list[tuple[str, str, Callable[[Mapping[str, Any]], str | None]]] = [
        ("chips", "r", lambda k: str(k["chips"])),
        ("time" if bare else "step", "r", lambda k: show(k.get("step_s", k["makespan_s"]), "s")),
        ("prefill", "r", lambda k: show(k["prefill_s"], "s") if "prefill_s" in k else None),
        ("in all", "r", lambda k: show(k["makespan_s"], "s") if found.by in ("latency_s", "makespan_s") and not bare else None),
        ("tokens/s", "r", lambda k: _count(k["tokens_per_s"]) if "tokens_per_s" in k else None),
        ("MFU", "r", lambda k: f"{k['mfu']:.1%}" if "mfu" in k else None),
        ("chip-s\na token", "r", lambda k: show(k["chip_s_per_token"], "s") if "chip_s_per_token" in k else None),
        ("waiting", "r", lambda k: _share(k["breakdown_s"]["exposed_collective"], k["step_s"]) if "breakdown_s" in k else None),
        ("of\nlimit", "r", lambda k: _share(k["estimate"]["bound"]["step_s"], k.get("step_s", k["makespan_s"]))),
        ("memory", "r", lambda k: _memory(k["memory"]) if short and "memory" in k else None),
        ("busiest link", "l", lambda k: _busiest(k["links"])),
    ]
    ranks, ratios = [str(run.rank) for run in found.runs], [_ratio(run.ratio) for run in found.runs]
    kept: dict[str, tuple[str, list[str | None]]] = {"ratio": ("r", [*ratios])}
    for title, side, read in columns:
        cells = [read(r.keys) for r in results]
        if any(cell is not None for cell in cells):
            kept[title] = side, cells
    for title in OPTIONAL:
        if title in kept and title != COLUMN.get(found.by) and _names(found, room := _room(kept, ranks, width)) is None and (
                room < NAME_ROOM):
            del kept[title]
    room = max(_room(kept, ranks, width), MIN_ROOM)
    names = _names(found, room) or shorten(_full_names(found), room)
    rows = [list(row) for row in zip(["", "", *ranks], ["", "", *names], *(
        [*_heads(title), *(cell or "-" for cell in cells)] for title, (_, cells) in kept.items()))]
    return rows[0 if any(rows[0]) else 1:], "rl" + "".join(side for side, _ in kept.values())


def _heads(title: str) -> list[str]:
    """Return a title as two lines."""
    return ("\n" + title).split("\n")[-2:]


def _room(columns: Mapping[str, tuple[str, list[str | None]]], ranks: Sequence[str], width: int) -> int:
    """Return the number of characters for a name beside the columns."""
    wide = [max(map(len, [*_heads(title), *(cell or "-" for cell in cells)])) for title, (_, cells) in columns.items()]
    return width - sum(2 + one for one in [*wide, max(map(len, ranks), default=0), 0])


def _names(found: Comparison, room: int) -> list[str] | None:
    """Return a name for each run; if one is too long, the distinct parts of the files; None if these are too long as well."""
    names, stems = _full_names(found), unlike([Path(run.file).stem for run in found.runs])
    told = len(set(stems)) == len({run.file for run in found.runs})
    return next((some for some in (names, *([stems] if told else [])) if all(len(name) <= room for name in some)), None)


def _full_names(found: Comparison) -> list[str]:
    """Return the name of each run, with its file if different files have the same name."""
    files: dict[str, set[str]] = {}
    for run in found.runs:
        files.setdefault(run.result.name, set()).add(run.file)
    return [f"{run.result.name} ({run.file})" if len(files[run.result.name]) > 1 else run.result.name for run in found.runs]


def _busiest(links: Mapping[str, Any]) -> str | None:
    """Return the busiest link and its share of the time; only the axes if many of their links are about as busy."""
    if not links["busiest"]:
        return None
    first, last = links["busiest"][0], links["busiest"][-1]
    most = {axis: use for axis, use in links["per_axis"].items() if use["max_busy"] >= ALIKE * first["busy"]}
    if most and len(links["busiest"]) > 2 and last["busy"] >= ALIKE * first["busy"]:
        whole = all(use["mean_busy"] >= ALIKE * first["busy"] for use in most.values())
        axes = "" if [*most] == ["none"] else " on " + ", ".join("no axis" if axis == "none" else axis for axis in most)
        return f"{'all' if whole else 'many'}{axes} {first['busy']:.0%}"
    ends = [",".join(str(c) for c in end) if isinstance(end, list | tuple) else str(end) for end in (first["from"], first["to"])]
    return f"{ends[0]} > {ends[1]} {first['busy']:.0%}"


def _memory(held: Mapping[str, Any]) -> str:
    share = (held["weights"] + held["kv_cache"] + held["activations"]) / held["capacity"]
    return f"{share:.0%}" if held["fits"] else f"NO: {share:.0%}"


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if value < 100 else f"{value:.3g}"


def _share(part: float, whole: float) -> str | None:
    return f"{part / whole:.0%}" if whole else None


# -- the differences ----------------------------------------------------------------------------------------------------


def caution(found: Comparison, called: Callable[[Ranked], str] = lambda run: str(run.rank)) -> str:
    """Return a sentence on why times are not comparable, if they are not. `called`: the name of a run, by default its rank."""
    kinds: dict[str, list[str]] = {}
    for run in found.runs:
        k = run.result.keys
        kinds.setdefault(k["scenario"]["workload"]["phase"] if "step_s" in k else "program", []).append(called(run))
    reasons = []
    if len(kinds) > 1:
        reasons.append(", ".join(f"{STEPS[kind]} ({', '.join(ranks)})" for kind, ranks in kinds.items()))
    if differences([{"model": run.result.keys["scenario"]["model"]} for run in found.runs if "step_s" in run.result.keys]):
        reasons.append("the models are not the same")
    if kinds.keys() == {"program"} and any(key.startswith("program.") for key in found.differs):
        reasons.append("the programs are not the same")
    tokens = {"workload.batch"} | ({"workload.context"} if "prefill" in kinds else set())
    if len(kinds) == 1 and tokens & found.differs.keys():
        reasons.append("steps are of different numbers of tokens, so that chip time a token says more than step time")
    return f"Not all of this is the same work: {'; '.join(reasons)}." if reasons else ""


def _differs(found: Comparison, width: int) -> str:
    """Return equal runs, common values and differences as text."""
    if len(found.runs) < 2:
        return "One run alone: nothing to compare it with."
    rest = " and all that is not named below" if found.differs else ""
    same = f"Alike: {', '.join(found.alike)}{',' if rest and len(found.alike) > 1 else ''}{rest}." if found.alike else ""
    parts = [textwrap.fill(same, width), _equal(found, width)]
    if found.differs:
        main, left = main_ones(found.differs, [run.rank for run in found.runs])
        counts = ", ".join(f"{count} of {section}" for section, count in left.items())
        more = f"Left out, as they go with the names: values, {counts}; --json has them." if left else ""
        parts += ["What differs\n" + apart(main, [run.rank for run in found.runs], width), textwrap.fill(more, width)]
    return "\n\n".join(part for part in parts if part)


def _equal(found: Comparison, width: int) -> str:
    """Return the runs whose scenarios are equal in every key."""
    groups: list[list[Ranked]] = []
    for run in found.runs:
        for group in groups:
            if not differences([group[0].result.keys["scenario"], run.result.keys["scenario"]]):
                group.append(run)
                break
        else:
            groups.append([run])
    lines = []
    for group in (group for group in groups if len(group) > 1):
        ranks = [str(run.rank) for run in group]
        same = len({run.result.keys["makespan_s"] for run in group}) == 1
        why = "" if same else ", but not in time: a function of yours is not the same in all"
        lines.append(f"{', '.join(ranks[:-1])} and {ranks[-1]} are equal in everything{why}.")
    return "\n".join(textwrap.fill(line, width) for line in lines)
