"""A plan: every candidate with its known times and state, the pick, and the certificate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torussim.memory import Memory
from torussim.planner.candidates import Candidate
from torussim.planner.words import text
from torussim.result import rates
from torussim.scenario import Planning, Scenario
from torussim.shown import display

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True)
class Ranked:
    """A candidate of one phase with its known times. Times are those of the result's keys: a step, or a whole prefill.

    `state` is "simulated"; "excluded" (its bound is not below the time of the pick); "open" (not simulated, and possibly faster
    than the pick); "limited" (it misses the limit that `why` names); "misfit" (it does not fit the model, the batch or the mesh,
    see `why`).
    """

    candidate: Candidate
    state: str
    why: str = ""
    memory: Memory | None = None
    least_s: float | None = None  # a lower bound of the simulated time
    estimate_s: float | None = None  # the closed form axis by axis
    paper_s: float | None = None
    step_s: float | None = None  # simulated
    bound_by: str = ""  # the largest item of the simulated time, in words

    @property
    def seconds(self) -> float | None:
        """The simulated time, or else the closed form; None for a misfit."""
        return self.step_s if self.step_s is not None else self.estimate_s


@dataclass(frozen=True)
class Choice:
    """One possible answer of a plan: a candidate of each phase at one batch, and the keys of its result."""

    batch: int
    of: Mapping[str, Ranked]  # by phase
    keys: Mapping[str, float]  # step_s, latency_s, tokens_per_s, mfu, chip_s_per_token, ...

    @property
    def candidate(self) -> Candidate:
        """The candidate of the only phase, or of decode where there are two."""
        return self.of["decode" if "decode" in self.of else "prefill"].candidate


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """The answer of `plan`.

    `picks` has the best choice, or for the objective `pareto` the choices of the front, by rising latency. `best` is the scenario
    of the first pick. `ranked` has every candidate with a price, the fastest first within its phase and batch. `space` is the
    number of candidates of the stated space; `unseen` is the number that were never examined one by one, by state. `gap` is the
    largest possible improvement by an open candidate, as a share of the time or cost of the pick. `paper` is the choice of the
    paper's model, and `file` is the layout of the scenario's file; both are simulated, and None where they do not fit. `shapes`
    has other shapes with as many chips. `partial`: whether Ctrl-C ended the plan early.
    `added` has the choices that were tried because nothing else fits into memory, in words.
    """

    scenario: Scenario
    planning: Planning
    picks: Sequence[Choice]
    best: Scenario
    ranked: Sequence[Ranked]
    space: int
    unseen: Mapping[str, int]
    gap: float
    paper: Choice | None = None
    file: Choice | None = None
    shapes: Sequence[Any] = ()
    partial: bool = False
    added: tuple[str, ...] = ()
    seconds: float = 0.0  # wall-clock time of the plan

    @property
    def certified(self) -> bool:
        """Whether every candidate of the space was simulated, or excluded by a bound or a limit."""
        return not self.count("open")

    @property
    def pick(self) -> Choice:
        """The best choice."""
        return self.picks[0]

    def count(self, state: str) -> int:
        """Return the number of candidates of the space in a state. Candidates that symmetries map to one another count each."""
        return sum(one.candidate.alike for one in self.ranked if one.state == state) + self.unseen.get(state, 0)

    def alone(self, one: Ranked) -> dict[str, float]:
        """Return the rates of a candidate alone, in one step or a prefill."""
        scenario, candidate = self.scenario, one.candidate
        assert scenario.workload is not None and scenario.model is not None and one.seconds is not None
        workload = replace(scenario.workload, phase=candidate.phase, batch=candidate.batch, tokens=1)
        return rates(scenario.model, workload, scenario.chip, len(scenario.net.chips), {candidate.phase: one.seconds})

    def json(self) -> str:
        """Return the plan with every candidate as JSON."""
        return json.dumps(self.keys(), indent=1, allow_nan=False)

    def keys(self) -> dict[str, Any]:
        """Return the plan as mappings and lists; seconds and bytes."""
        return {
            "scenario": self.scenario.resolved, "objective": self.planning.objective,
            "picks": [_choice(one) for one in self.picks],
            "certified": self.certified, "partial": self.partial, "gap": self.gap, "added": list(self.added),
            "counts": {"space": self.space, "tried": len(self.ranked),
                       **{state: self.count(state) for state in ("simulated", "excluded", "open", "limited", "misfit")},
                       "simulations": sum(one.state == "simulated" and one.candidate.alike > 0 for one in self.ranked)},
            "paper": _choice(self.paper), "file": _choice(self.file), "shapes": [one.keys() for one in self.shapes],
            "candidates": [_ranked(one) for one in self.ranked], "seconds": self.seconds}

    def plot(self) -> Figure:
        """Return the layouts as a matplotlib figure, by latency and cost."""
        return display("front_of", self)  # type: ignore[no-any-return]

    def to_frame(self) -> DataFrame:
        """Return a pandas table with a row a candidate. Raise TorusSimError where pandas is not installed."""
        return display("frame", self.keys()["candidates"])

    def _repr_html_(self) -> str:
        return str(display("html", self))

    def __repr__(self) -> str:
        return text(self)


def _choice(choice: Choice | None) -> dict[str, Any] | None:
    if choice is None:
        return None
    return {"batch": choice.batch, **choice.keys, "phases": {phase: _ranked(one) for phase, one in choice.of.items()}}


def _ranked(one: Ranked) -> dict[str, Any]:
    held = one.memory
    return {"phase": one.candidate.phase, "batch": one.candidate.batch, "layout": one.candidate.record(), "state": one.state,
            **({"why": one.why} if one.why else {}), "alike": one.candidate.alike, "step_s": one.step_s,
            "estimate_s": one.estimate_s, "bound_s": one.least_s, "paper_s": one.paper_s, "bound_by": one.bound_by or None,
            "memory": None if held is None else {"weights": held.weights, "kv_cache": held.kv_cache,
                                                 "activations": held.activations, "fits": held.fits}}
