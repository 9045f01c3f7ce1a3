"""Several runs beside each other: their main numbers, and what differs between their scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torussim.compare import caution, compare
from torussim.differences import main_ones, shown
from torussim.page.html import Html, Part, escaped, exact, section, table, tag
from torussim.page.run import Run
from torussim.page.sections import SAME, letter, seconds, share

NUMBERS = {"step_s": "step", "prefill_s": "prefill", "makespan_s": "in all", "tokens_per_s": "tokens/s", "mfu": "MFU",
           "chip_s_per_token": "chip time a token"}
MORE = ("tokens_per_s", "mfu")  # is better


def compared(runs: Sequence[Run]) -> Html:
    """Return the comparison of several runs; empty for one."""
    if len(runs) < 2:
        return Html()
    return section("compared", "The runs beside each other", _measures(runs), _differs(runs))


def _measures(runs: Sequence[Run]) -> Html:
    head: list[Part] = ["", *(tag("span", letter(run), " ", run.result.name) for run in runs)]
    rows: list[list[Part]] = []
    for key, name in NUMBERS.items():
        if any(key in run.keys for run in runs) and not (key == "makespan_s" and all("step_s" in run.keys for run in runs)):
            rows.append([name, *_marked(key, [run.keys.get(key) for run in runs])])
    if all("breakdown_s" in run.keys for run in runs):
        rows.append(["waiting for communication", *(share(run.keys["breakdown_s"]["exposed_collective"] / run.seconds)
                                                    for run in runs)])
    rows.append(["lower bound, as a share of the step", *(share(run.keys["estimate"]["bound"]["of_limit"]) for run in runs)])
    rows.append(["file", *_files([run.file for run in runs])])
    return table("Main numbers; the change is to the first run", head, rows, sides="l" * len(head), name="measures")


def _files(files: Sequence[str]) -> list[str]:
    """Return the ends of paths, as short as keeps different paths different.

    >>> _files(["out/a/result.json", "out/b/result.json"])
    ['a/result.json', 'b/result.json']
    """
    parts = [Path(file).parts for file in files]
    count = next(n for n in range(1, 1 + max(map(len, parts))) if len({one[-n:] for one in parts}) == len(set(parts)))
    return ["/".join(one[-count:]) for one in parts]


def _marked(key: str, values: Sequence[float | None]) -> list[Part]:
    """Return values, the best of them marked, each after the first with its change."""
    there = [value for value in values if value is not None]
    best = (max if key in MORE else min)(there)
    apart = max(there) - min(there) > SAME * abs(best)
    found: list[Part] = []
    for i, value in enumerate(values):
        if value is None:
            found.append("-")
            continue
        cell = share(value) if key == "mfu" else exact(value, f"{value:,.0f}") if key == "tokens_per_s" else seconds(value)
        first = values[0]
        change = f" ({value / first - 1:+z.1%})" if i and first and abs(value / first - 1) > SAME else ""
        mark = tag("strong", cell, class_="best") if apart and abs(value - best) <= SAME * abs(best) else cell
        found.append(tag("span", mark, change))
    return found


def _differs(runs: Sequence[Run]) -> Html:
    ranked = compare([run.result for run in runs], [run.file for run in runs])
    index = {one.rank: next(i for i, run in enumerate(runs) if run.result is one.result) for one in ranked.runs}
    differs: dict[str, dict[int, Any]] = {key: {index[rank]: value for rank, value in at.items()}
                                          for key, at in ranked.differs.items()}
    said = caution(ranked, lambda one: runs[index[one.rank]].label)
    if not differs:
        return tag("p", said or "The scenarios are equal in everything.")
    main, left = main_ones(differs, list(range(len(runs))))
    rows = [_row(key, at, len(runs)) for key, at in main.items()]
    warning = tag("p", said, class_="bad") if said else None
    alike = tag("p", f"Alike: {', '.join(ranked.alike)}.", class_="faint") if ranked.alike else None
    more = ", ".join(f"{count} of {part}" for part, count in left.items())
    rest = tag("p", f"Values that go with the names are left out: {more}.", class_="faint") if more else None
    head: list[Part] = ["key", *(letter(run) for run in runs)]
    return escaped([warning, alike, table("What differs between the scenarios", head, rows, name="differs"), rest])


def _row(key: str, at: Mapping[int, Any], count: int) -> list[Part]:
    """Return the values of a key, those unlike the first run's marked."""
    texts = shown(key, at)
    cells = [texts.get(i, "-") for i in range(count)]
    return [tag("code", key), *(tag("mark", cell) if cell != cells[0] else cell for cell in cells)]
