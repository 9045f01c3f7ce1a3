"""The one sentence that answers: how long a step takes, and what would make it shorter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torussim.result import NO_ROOM, Result
from torussim.units import show

LITTLE = 0.01  # of the time: a gain of less is not worth saying
STEPS = {"prefill": "The prefill", "decode": "A decode step", "generate": "A decode step"}


def verdict(result: Result) -> str:
    """Return the answer of a run in a sentence or two."""
    k = result.keys
    got = float(k.get("step_s", k["makespan_s"]))
    what = STEPS[k["scenario"]["workload"]["phase"]] if "step_s" in k else "The program"
    return f"{what} takes {show(got, 's')}{_without(k, got)}." + ("" if result.fits else f" It {NO_ROOM}.")


def _without(k: Mapping[str, Any], got: float) -> str:
    """Say what it would take without its faults, or else with no limit on the busiest links; nothing where that is little."""
    faults = k.get("faults")
    if faults:
        if faults["cost"] < LITTLE:
            return "; its faults cost less than 1 % of that" if faults["count"] > 1 else "; its fault costs less than 1 % of that"
        worst = faults["worst"][0]
        which = f"the {faults['count']:,} faults" if faults["count"] > 1 else \
            f"the {worst['kind']} link {place(worst['from'])}-{place(worst['to'])}" if worst["cables"] == 1 else \
            f"the {worst['kind']} links {' '.join(worst['changes'])}"
        return f"; without {which} it would take {show(faults['step_s'], 's')}"
    without = k["links"].get("without_busiest") if k["links"]["busiest"] else None
    if without and without["step_s"] < got * (1 - LITTLE):
        those = "the busiest link" if without["cables"] == 1 else f"the {without['cables']:,} busiest links"
        return f"; with no limit on the bandwidth of {those} it would take {show(without['step_s'], 's')}"
    return ""


def place(node: Sequence[int] | str) -> str:
    """Return a chip's coordinates without spaces, "(0,0,1)", and the name of a switch as it is."""
    return node if isinstance(node, str) else f"({','.join(map(str, node))})"
