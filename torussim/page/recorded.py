"""What a page is made of: a scenario, or what an earlier run or plan left in a JSON file, which is run again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torussim import files
from torussim.errors import Mark, Mistake, ScenarioError
from torussim.result import Result
from torussim.scenario import Scenario, check_no_trace, load
from torussim.trust import Trust
from torussim.units import show

MOST = 40  # characters of a value that is quoted
NEAR = 1e-9  # times within this share of one another are the same
TIMES = ("step_s", "makespan_s")
RESULT, PLAN = ("makespan_s", "operations", "links", "estimate"), ("objective", "candidates", "counts")
PLANNED = ("picks", *PLAN, "certified", "gap", "partial", "paper", "file", "shapes")
TRUST = Trust()
ANEW = "run the scenario file anew, with torussim"
NEITHER = (".html", ".htm", ".png", ".svg", ".pdf", ".csv", ".jsonl", ".parquet")


@dataclass(frozen=True, eq=False)
class Recorded:
    """A scenario to be run, what an earlier result says, and a plan; `file`: where they were read from."""

    file: str
    scenario: Scenario
    result: Mapping[str, Any] | None = None
    plan: Mapping[str, Any] | None = None


def read(file: str, overrides: Sequence[str] = (), trust: Trust = TRUST) -> Recorded:
    """Return what a file holds: a scenario, or a result.json or plan.json, whatever its name.

    Of a plan the scenario has the layout and the batch of the first pick. Raise ScenarioError for what is none of these.
    """
    if file.lower().endswith(NEITHER):
        raise _error(file, "is neither a scenario nor a result: give a scenario.yaml, or the result.json of a run")
    check_no_trace(file)
    held = _held(file, trust)
    if held is None:
        return Recorded(file, load(file, overrides, code=trust))
    if isinstance(held, list):
        raise _error(file, f"is a list of {len(held)}, not one result: give each result in a file of its own")
    if "scenario" not in held and (set(RESULT) & set(held) or set(PLAN) & set(held)):
        raise _error(file, f"is a result without its scenario, so it cannot be run again: {ANEW} run", "missing")
    if not isinstance(held.get("scenario"), dict):
        return Recorded(file, load(file, overrides, code=trust))
    if "picks" in held:
        missing = [key for key in PLANNED if key not in held]
        if missing:
            raise _error(file, f"is the plan of another version, which lacks {', '.join(missing)}: {ANEW} plan", "missing")
        return Recorded(file, _load(file, [*_picked(file, held), *overrides], trust), plan=held)
    return Recorded(file, _load(file, overrides, trust), None if overrides else held)


def notes(one: Recorded, result: Result) -> list[str]:
    """Return what has to be said of a result that was run again: that it does not say what it says now, or is of a part."""
    if one.result is None:
        return []
    found = []
    for key in TIMES:
        told, now = one.result.get(key), result.keys.get(key)
        if key not in one.result or now is None:
            continue
        if isinstance(told, bool) or not isinstance(told, int | float) or not math.isfinite(told):
            found.append(f"{one.file}: {key} is {json.dumps(told)[:MOST]}, not a number of seconds. This page shows a new "
                         "simulation.")
        elif abs(told - now) > NEAR * now:
            found.append(f"{one.file}: this result said {_apart(float(told), now)}. It is of another version of torussim or of "
                         "the user's code, or was changed. This page shows the new simulation.")
            break
    missing = [key for key in result.keys if key not in one.result]
    if missing:
        found.append(f"{one.file} lacks {', '.join(missing)}; this page shows a new simulation.")
    return found


def _apart(told: float, now: float) -> str:
    """Return two times as "23.3 ms, now 23.4 ms", with all digits if they look the same otherwise."""
    shown = [show(value, "s") for value in (told, now)]
    return ", now ".join(shown if shown[0] != shown[1] else [f"{value!r} s" for value in (told, now)])


def _held(file: str, trust: Trust) -> Any:
    """Return the content of a JSON file, None for other files."""
    if not Path(file).name.lower().endswith((".json", ".json.gz")):
        return None
    value = files.read(file, "result", trust.most).value
    return value if isinstance(value, dict | list) else None


def _load(file: str, overrides: Sequence[str], trust: Trust) -> Scenario:
    """Return the scenario of a result; where it cannot be read, say what that means."""
    try:
        return load(file, overrides, code=trust)
    except ScenarioError as error:
        if any(mistake.code in ("unknown-key", "unknown-name", "missing") for mistake in error.mistakes):
            said = f"the scenario in this result is of another version of torussim, or was changed: {ANEW} run"
            raise ScenarioError([Mistake(said, Mark(file, 1, 1)), *error.mistakes]) from None
        raise


def _picked(file: str, plan: Mapping[str, Any]) -> list[str]:
    """Return what makes the scenario of a plan that of its first pick."""
    try:
        pick = plan["picks"][0]
        shown = {phase: one["layout"] for phase, one in pick["phases"].items()}
        layout = shown if len(shown) > 1 else next(iter(shown.values()))
        return [f"layout={json.dumps(layout)}", f"workload.batch={pick['batch']:d}"]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration):
        raise _error(file, f"is a plan without a pick that can be read: {ANEW} plan") from None


def _error(file: str, text: str, code: str = "value") -> ScenarioError:
    return ScenarioError([Mistake(text, Mark(file, 1, 1), code)])
