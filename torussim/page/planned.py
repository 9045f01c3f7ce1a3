"""The plan of a scenario: which layout to take, how sure that is, and what comes next. Reads what plan.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torussim.page.html import Html, Part, escaped, section, table, tag
from torussim.page.sections import seconds, share
from torussim.report.phrases import experts, pipeline
from torussim.units import percent, show

ROWS = 12  # candidates of the table, shapes likewise
STATES = {"simulated": "simulated", "excluded": "excluded by its bound", "open": "could be faster; not simulated"}


def planned(plans: Mapping[str, Mapping[str, Any]]) -> Html:
    """Return the section of plans, by the names of their scenarios; empty where there is none."""
    if not plans:
        return Html()
    each = [tag("div", tag("h3", name) if len(plans) > 1 else None, _plan(one)) for name, one in plans.items()]
    return section("plan", "The plan", tag("div", each, class_="beside") if len(plans) > 1 else each)


def _plan(plan: Mapping[str, Any]) -> Html:
    picks, counts = plan["picks"], plan["counts"]
    said = [f"Take {_choice(picks[0])}: {show(picks[0]['step_s'], 's')} a step." if len(picks) == 1 else
            f"{len(picks)} layouts are on the front of latency and cost; the fastest is {_choice(picks[0])}."]
    for other, word in (("paper", "The paper's model would take"), ("file", "The file has")):
        if plan[other] and plan[other]["step_s"] > picks[0]["step_s"] * (1 + 5e-4):
            more = percent(plan[other]["step_s"] / picks[0]["step_s"] - 1)
            said.append(f"{word} {_choice(plan[other])}: {show(plan[other]['step_s'], 's')}, {more} more time.")
    sure = f"It is the best of {counts['space']:,} candidates" if plan["certified"] else \
        f"{counts['open']:,} of {counts['space']:,} candidates were not settled; one could be {percent(plan['gap'])} better"
    said.append(f"{sure}: {counts['simulated']:,} were simulated, {counts['excluded']:,} were excluded by a bound.")
    if plan["partial"]:
        said.append("The search was stopped before its end.")
    shown = [one for one in plan["candidates"] if one["state"] in STATES and (one["step_s"] or one["estimate_s"])]
    shown.sort(key=lambda one: one["step_s"] or one["estimate_s"])
    parts = [tag("p", " ".join(said)), _candidates(shown[:ROWS]), _shapes(plan["shapes"][:ROWS])]
    left = len(shown) - ROWS
    return escaped([*parts, tag("p", f"{left:,} slower candidates are left out.", class_="faint") if left > 0 else None])


def _candidates(shown: Sequence[Mapping[str, Any]]) -> Html:
    best = shown[0]["step_s"] or shown[0]["estimate_s"] if shown else 1.0
    rows: list[list[Part]] = []
    for one in shown:
        taken = one["step_s"] or one["estimate_s"]
        rows.append([layout_words(one["layout"]), one["phase"], f"{one['batch']:,}", seconds(one["step_s"]),
                     seconds(one["estimate_s"]), seconds(one["bound_s"]), f"{taken / best - 1:+z.1%}", STATES[one["state"]],
                     one["bound_by"] or ""])
    head = ["layout", "phase", "batch", "simulated", "closed form", "lower bound", "to the best", "state", "bound by"]
    return table("The best candidates", head, rows, sides="llrrrrrll", marks={0: "first"})


def _shapes(shapes: Sequence[Mapping[str, Any]]) -> Html:
    rows: list[list[Part]] = []
    for one in shapes:
        name = "x".join(map(str, one["shape"])) + (" (present)" if one["present"] else "")
        can = {True: "yes", False: "no", None: "unknown"}[one["buildable"]]
        rows.append([name, seconds(one["step_s"]), share(one["saving"]),
                     one.get("why") or (layout_words(one["layout"]) if one["layout"] else ""), f"{can}: {one['how']}"])
    return table("Other shapes of as many chips", ["shape", "step", "saves", "layout", "can it be had?"], rows,
                 sides="lrrll") if rows else Html()


def _choice(choice: Mapping[str, Any]) -> str:
    return "; ".join((f"{phase}: " if len(choice["phases"]) > 1 else "") + layout_words(one["layout"])
                     for phase, one in choice["phases"].items())


def layout_words(layout: Mapping[str, Any]) -> str:
    """Return a layout in words.

    >>> layout_words({"ffn": "ws2d", "attention": "batch", "mesh": {"x": ["x"], "y": ["y", "z"], "z": []}})
    'ws2d with x=[x], y=[y, z], z=[], attention over batch'
    """
    name = layout["ffn"] if isinstance(layout["ffn"], str) else "a table of shardings"
    mesh = ", ".join(f"{axis}=[{', '.join(parts)}]" for axis, parts in layout.get("mesh", {}).items())
    more = [experts(layout["experts"])] if "experts" in layout else []
    more += [pipeline(layout["pipeline"])] if "pipeline" in layout else []
    return ", ".join([f"{name}{f' with {mesh}' if mesh else ''}", f"attention over {layout['attention']}", *more])
