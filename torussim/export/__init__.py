"""A timeline for other tools: a Perfetto trace, tables, Chakra execution traces. Reads a Timeline, and nothing of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torussim.result import Result


def about(result: Result) -> dict[str, Any]:
    """Return what a file that is made of a result's last pass says of where it comes from, fit for JSON."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        number = version("torussim")
    except PackageNotFoundError:
        number = "not installed"
    keys = result.keys
    phase = keys["scenario"]["workload"]["phase"] if "workload" in keys["scenario"] else None
    found = {"tool": "torussim", "version": number, "scenario": result.name, "phase": phase,
             "step_s": keys.get("step_s"), "makespan_s": result.timeline.makespan, "passes": keys["engine"]["passes"],
             "shows": "the last pass"}
    return {key: value for key, value in found.items() if value is not None}
