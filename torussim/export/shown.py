"""What an export is made from: the last pass of a run with the messages of some chips, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torussim.answer import last_program, replay, shown_chips
from torussim.export.facts import facts
from torussim.program import Program
from torussim.result import Result
from torussim.scenario import Scenario
from torussim.timeline import Timeline
from torussim.topology.grid import Grid


@dataclass(frozen=True)
class Shown:
    """A timeline, its network, the chips that are shown (indices), and its program before algorithms were chosen for it.

    `facts`: of each operation, as export.facts has them; `about`: what a file says of where it comes from, fit for JSON.
    """

    timeline: Timeline
    net: Grid
    chips: Sequence[int]
    program: Program
    facts: Mapping[str, Mapping[str, Any]]
    about: Mapping[str, Any] = field(default_factory=dict)


def shown(scenario: Scenario, result: Result, chips: Sequence[int] | None = None, *, messages: bool = True) -> Shown:
    """Return the last pass of a result with every message of some chips, by default those of the timeline picture.

    For the messages it is simulated anew, all its blocks where some were left out that did not repeat.
    """
    chips = shown_chips(result) if chips is None else chips
    timeline = result.timeline if not messages else replay(
        scenario, chips, start=result.timeline.begin.tolist(), every_block=bool(result.timeline.leapt))
    said = facts(timeline, scenario.chip, {entry["name"]: entry for entry in result.keys["operations"]})
    return Shown(timeline, scenario.net, chips, last_program(scenario), said, about(result))


def about(result: Result) -> dict[str, Any]:
    """Return what a file that is made of a result's last pass says of where it comes from, fit for JSON."""
    try:
        number = version("torussim")
    except PackageNotFoundError:
        number = "not installed"
    keys = result.keys
    phase = keys["scenario"]["workload"]["phase"] if "workload" in keys["scenario"] else None
    found = {"tool": "torussim", "version": number, "scenario": result.name, "phase": phase, "step_s": keys.get("step_s"),
             "makespan_s": result.timeline.makespan, "passes": keys["engine"]["passes"], "shows": "the last pass"}
    return {key: value for key, value in found.items() if value is not None}
