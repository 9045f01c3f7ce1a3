"""The search: candidates in the order of their bound are simulated until the next bound is not below the best simulated time.

The time of a phase at a batch decides nothing about another phase or batch, so that each of these is a search of its own; the
objective compares what they find. In memory and time a candidate depends on all of its choices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torussim.answer import run
from torussim.errors import PlanError
from torussim.planner import candidates
from torussim.planner.candidates import Candidate
from torussim.planner.plans import Choice, Plan, Ranked
from torussim.planner.prices import Misfit, Priced, Prices, total_bytes
from torussim.planner.shapes import Fastest, reshaped
from torussim.planner.words import name_of
from torussim.result import Result
from torussim.scenario import Limit, Planning, Scenario, load
from torussim.trust import Trust
from torussim.workload import Workload

TIE = 1e-9  # a bound within this share of a time is that time
ROUND = 9  # digits to which times that differ by rounding alone are equal
SIMULATIONS = 1000
ELSEWHERE = 8  # candidates that are simulated on another shape of the network
Progress = Callable[[int, int], None]


def plan(source: str | Path | Mapping[str, Any] | Scenario, *, overrides: Sequence[str] = (), code: str | Trust = "beside",
         simulations: int = SIMULATIONS, shapes: bool = False, progress: Progress | None = None) -> Plan:
    """Return which layout a scenario should take, and how sure that is.

    Parameters
    ----------
    source
        A scenario as in `run`: a file, a mapping, or what `load` made of one. Its `plan` says what is looked for; its layout
        need not fit.
    overrides, code
        As in `load`.
    simulations
        How many candidates are simulated at most. A plan that ends there is not certified.
    shapes
        Whether other shapes of as many chips are looked at, on tori.
    progress
        Called with how many candidates are done and how many there are.

    Raises
    ------
    ScenarioError
        With all mistakes of the scenario.
    PlanError
        Where no candidate fits, or none meets the limits; its text says which excludes how many, and the nearest miss.

    Examples
    --------
    >>> import torussim
    >>> found = torussim.plan({"model": "palm-8b", "chip": "tpu-v4", "topology": {"shape": [4]},
    ...                        "workload": {"phase": "decode", "batch": 64, "context": 2048}})
    >>> found.certified, found.pick.candidate.name
    (True, 'ws1d')
    """
    began = time.perf_counter()
    scenario = source if isinstance(source, Scenario) else load(source, overrides, code=code, fitting=False)
    if scenario.model is None or scenario.workload is None:
        raise PlanError("a program has no layout to plan: give a scenario with a model and a workload", code="missing")
    planning = scenario.planning or Planning()
    search = Search(scenario, planning, simulations, progress)
    search.price()
    partial = False
    try:
        search.run()
    except KeyboardInterrupt:
        partial = True
        if not search.found():
            raise
    picks = search.picks()
    found = Plan(scenario, planning, picks, best_of(scenario, picks[0]), search.ranked(), search.space, search.gap(picks),
                 partial=partial)
    if not partial:
        found = replace(found, paper=search.choice_of(search.paper()), file=search.choice_of(search.file()))
        if shapes:
            found = replace(found, shapes=reshaped(found, fastest))
        found = replace(found, ranked=search.ranked())
    return replace(found, seconds=time.perf_counter() - began)


def best_of(scenario: Scenario, pick: Choice) -> Scenario:
    """Return the scenario that runs a choice; its record gives the same answer."""
    layouts = {phase: one.candidate.layout for phase, one in pick.of.items()}
    shown = {phase: one.candidate.record() for phase, one in pick.of.items()}
    layout = shown if len(shown) > 1 else next(iter(shown.values()))
    assert scenario.workload is not None
    record = {key: value for key, value in scenario.resolved.items() if key not in ("plan", "expect")}
    record |= {"layout": layout, "workload": {**record["workload"], "batch": pick.batch}}
    net = Prices(scenario).network(next(iter(pick.of.values())).candidate)[0]
    changes = scenario.changes and replace(scenario.changes, parts=next(iter(pick.of.values())).candidate.parts)
    return replace(scenario, net=net, network=replace(scenario.network, net=net, changes=changes), layouts=layouts,
                   workload=replace(scenario.workload, batch=pick.batch), resolved=record, expect=(), planning=None)


def fastest(scenario: Scenario, planning: Planning, rival_s: float) -> Fastest:
    """Return the fastest layout of a scenario at one batch, where one on another network takes `rival_s` seconds.

    The fastest in closed form is simulated; unless a bound shows that all are slower than the rival, a few others that could be
    faster still follow.
    """
    search = Search(scenario, planning, ELSEWHERE, None)
    search.price()
    search.choice_of({unit.phase: min(unit.waiting, key=lambda one: (rounded(one.axes_s), order(one))) for unit in search.units})
    if sum(unit.least for unit in search.units) < rival_s * (1 - TIE):
        search.run()
    choice = search.picks()[0]
    return Fastest(choice, best_of(scenario, choice), all(unit.settled for unit in search.units))


def order(priced: Priced) -> tuple[float, float, float, int]:
    """Return what comes first of candidates: the lower bound, the faster by estimate; of equal ones the first of the space."""
    return rounded(priced.least_s), rounded(priced.axes_s), rounded(priced.paper_s), priced.candidate.number


def rounded(seconds: float) -> float:
    """Return a time without what differs by rounding alone."""
    return float(f"{seconds:.{ROUND}e}")


# -- one phase at one batch ---------------------------------------------------------------------------------------------


@dataclass
class Unit:
    """The search for the fastest way to run one phase at one batch."""

    phase: str
    batch: int
    waiting: list[Priced] = field(default_factory=list)  # by falling bound
    done: dict[int, tuple[Priced, Result, float]] = field(default_factory=dict)  # by id: simulated, with seconds of the phase
    limited: list[tuple[Priced, Limit]] = field(default_factory=list)
    misfits: list[Misfit] = field(default_factory=list)

    @property
    def fastest(self) -> float:
        """The least simulated time, seconds of all passes of the phase; infinite before the first."""
        return min((seconds for _, _, seconds in self.done.values()), default=float("inf"))

    @property
    def least(self) -> float:
        """What no candidate of the unit is faster than, seconds."""
        return min([self.fastest, *(one.least_s for one in self.waiting[-1:])])

    @property
    def settled(self) -> bool:
        """Whether nothing that waits can be faster than what was simulated."""
        return not self.waiting or self.waiting[-1].least_s >= self.fastest * (1 - TIE)


class Search:
    """The search of one plan."""

    def __init__(self, scenario: Scenario, planning: Planning, simulations: int, progress: Progress | None) -> None:
        assert scenario.workload is not None
        self.scenario, self.planning, self.left, self.progress = scenario, planning, simulations, progress
        self.prices = Prices(scenario)
        self.units = [Unit(phase, batch) for batch in planning.batch or (scenario.workload.batch,) for phase in scenario.layouts]
        self.space = 0
        self.workload: Workload = scenario.workload

    # -- before anything is simulated -----------------------------------------------------------------------------------

    def price(self) -> None:
        """Price every candidate, and put those that fit and meet the limits in the order of their bounds."""
        for unit in self.units:
            for number, candidate in enumerate(self.candidates(unit)):
                self.space += candidate.alike
                priced = self.prices.of(replace(candidate, number=number))
                if isinstance(priced, Misfit):
                    unit.misfits.append(priced)
                    continue
                broken = next((limit for limit in self.planning.limits if not self.may_meet(priced, limit)), None)
                if broken:
                    unit.limited.append((priced, broken))
                else:
                    unit.waiting.append(priced)
            unit.waiting = sorted(unit.waiting, key=order)[::-1]
        if not any(unit.waiting for unit in self.units):
            raise self.none_meets()

    def candidates(self, unit: Unit) -> Iterable[Candidate]:
        """Return the candidates of a phase at a batch."""
        assert not isinstance(self.planning.layouts, str)
        return candidates.five(self.scenario, self.planning, unit.phase, unit.batch, self.planning.layouts)

    def may_meet(self, priced: Priced, limit: Limit) -> bool:
        """Return whether a candidate meets a limit, or could, as far as is known before it is simulated."""
        held = priced.memory
        kept = {"memory.fits": float(held.fits), "memory.weights": held.weights, "memory.kv_cache": held.kv_cache,
                "memory.activations": held.activations, "memory.longest_context": float(held.longest_context)}
        if limit.what in kept:
            return limit.met(kept[limit.what])
        if self.workload.phase == "generate":
            return True  # a limit on both phases together says nothing of one alone
        keys = self.keys(priced.candidate.batch, {priced.candidate.phase: priced.least_s})
        return limit.what not in keys or limit.met(keys[limit.what])

    # -- simulation -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Simulate candidates until every unit that could hold the best is settled, or as many as are allowed were simulated."""
        while self.left > 0:
            open_ = [unit for unit in self.units if not unit.settled and self.could_win(unit)]
            if not open_:
                break
            unit = min(open_, key=lambda unit: (len(unit.done) > 0, self.score(unit.batch, self.together(unit, "least"))))
            self.simulate(unit, unit.waiting.pop())
            if self.progress is not None:
                done = sum(len(unit.done) for unit in self.units)
                self.progress(done, done + sum(not unit.settled for unit in self.units))

    def simulate(self, unit: Unit, priced: Priced) -> None:
        """Simulate a candidate."""
        one = priced.candidate
        workload = replace(self.workload, batch=one.batch)
        if workload.phase == "generate":
            workload = (replace(workload, phase="prefill", tokens=1) if one.phase == "prefill" else
                        replace(workload, phase="decode", context=workload.context + workload.cached, cached=0, chunk=None))
        net = self.prices.network(one)[0]
        changes = self.scenario.changes and replace(self.scenario.changes, parts=one.parts)
        ready = replace(self.scenario, net=net, network=replace(self.scenario.network, net=net, changes=changes), expect=(),
                        layouts={one.phase: one.layout}, workload=workload)
        result = run(ready)
        self.left -= 1
        unit.done[id(priced)] = priced, result, result.latency_s

    def together(self, unit: Unit, what: str) -> dict[str, float]:
        """Return `least` or `fastest` of all phases at the batch of a unit, seconds."""
        return {other.phase: getattr(other, what) for other in self.units if other.batch == unit.batch}

    def could_win(self, unit: Unit) -> bool:
        """Return whether the batch of a unit could still be picked, or be on the front."""
        mine = self.keys(unit.batch, self.together(unit, "least"))
        for other in self.units:
            seconds = self.together(other, "fastest")
            if other.batch == unit.batch or max(seconds.values()) == float("inf"):
                continue
            theirs = self.keys(other.batch, seconds)
            if not all(limit.met(theirs[limit.what]) for limit in self.planning.limits if limit.what in theirs):
                continue
            if self.planning.objective == "pareto":
                if theirs["latency_s"] <= mine["latency_s"] and theirs["chip_s_per_token"] <= mine["chip_s_per_token"]:
                    return False
            elif self.score(other.batch, seconds) <= self.score(unit.batch, self.together(unit, "least")):
                return False
        return True

    # -- what it comes to -----------------------------------------------------------------------------------------------

    def keys(self, batch: int, seconds: Mapping[str, float]) -> dict[str, float]:
        """Return the scalar keys of a result with these seconds of each phase."""
        asked, model, chip = self.workload, self.scenario.model, self.scenario.chip
        assert model is not None
        chips, latency = len(self.scenario.net.chips), sum(seconds.values())
        tokens = batch * ((asked.context if asked.phase != "decode" else 0) + (asked.tokens if asked.phase != "prefill" else 0))
        step = seconds["decode"] / asked.tokens if "decode" in seconds else seconds["prefill"]
        found = {"step_s": step, "latency_s": latency, "makespan_s": latency, "tokens_per_s": tokens / latency,
                 "mfu": 2 * model.parameters * tokens / (chips * chip.flops["bf16"] * latency),
                 "chip_s_per_token": chips * latency / tokens}
        if asked.phase == "generate" and len(seconds) > 1:
            found |= {"prefill_s": seconds["prefill"], "prompt_tokens_per_s": batch * asked.context / seconds["prefill"],
                      "generated_tokens_per_s": batch * asked.tokens / seconds["decode"]}
        return found

    def score(self, batch: int, seconds: Mapping[str, float]) -> float:
        """Return what the objective wants to be small."""
        keys = self.keys(batch, seconds)
        return keys["latency_s" if self.planning.objective in ("latency", "pareto") else "chip_s_per_token"]

    def found(self) -> list[Choice]:
        """Return the fastest choice of each batch at which every phase was simulated and the limits are met."""
        made = []
        for batch in dict.fromkeys(unit.batch for unit in self.units):
            units = [unit for unit in self.units if unit.batch == batch]
            if all(unit.done for unit in units):
                choice = self.choice_of({unit.phase: min(unit.done.values(), key=lambda one: (rounded(one[2]), order(one[0])))[0]
                                          for unit in units})
                assert choice is not None
                if all(limit.met(choice.keys[limit.what]) for limit in self.planning.limits if limit.what in choice.keys):
                    made.append(choice)
        return made

    def picks(self) -> list[Choice]:
        """Return the best choice, or the front; raise PlanError if none meets the limits."""
        made = self.found()
        if not made:
            raise self.none_meets()
        by = "latency_s" if self.planning.objective in ("latency", "pareto") else "chip_s_per_token"
        made.sort(key=lambda choice: (choice.keys[by], choice.keys["chip_s_per_token"]))
        if self.planning.objective != "pareto":
            return made[:1]
        front: list[Choice] = []
        for choice in made:
            if not front or choice.keys["chip_s_per_token"] < front[-1].keys["chip_s_per_token"]:
                front.append(choice)
        return front

    def choice_of(self, of: Mapping[str, Priced] | None) -> Choice | None:
        """Return the choice of a candidate for each phase, simulated if need be."""
        if of is None:
            return None
        ranked, seconds = {}, {}
        for phase, priced in of.items():
            unit = next(unit for unit in self.units if (unit.phase, unit.batch) == (phase, priced.candidate.batch))
            if id(priced) not in unit.done:
                unit.waiting = [one for one in unit.waiting if one is not priced]
                self.simulate(unit, priced)
            ranked[phase], seconds[phase] = self.simulated(*unit.done[id(priced)]), unit.done[id(priced)][2]
        batch = next(iter(of.values())).candidate.batch
        return Choice(batch, ranked, self.keys(batch, seconds))

    def paper(self) -> dict[str, Priced] | None:
        """Return what the paper's model would take: of each phase the least time by it, of all that fit, at the best batch."""
        of_batch: dict[int, dict[str, Priced]] = {}
        for unit in self.units:
            known = [*unit.waiting, *(one for one, _, _ in unit.done.values())]
            if known:
                of_batch.setdefault(unit.batch, {})[unit.phase] = min(known, key=lambda one: (rounded(one.paper_s),
                                                                                            one.candidate.number))
        whole = {batch: of for batch, of in of_batch.items() if len(of) == len(self.scenario.layouts)}
        return min(whole.values(), key=lambda of: self.score(next(iter(of.values())).candidate.batch,
                                                             {phase: one.paper_s for phase, one in of.items()}), default=None)

    def file(self) -> dict[str, Priced] | None:
        """Return the layout of the scenario's file at the file's batch, if it fits."""
        if not any(unit.batch == self.workload.batch for unit in self.units):
            return None
        made: dict[str, Priced] = {}
        for phase in self.scenario.layouts:
            priced = self.prices.of(candidates.of_file(self.scenario, phase, self.workload.batch))
            if isinstance(priced, Misfit):
                return None
            unit = next(unit for unit in self.units if (unit.phase, unit.batch) == (phase, self.workload.batch))
            same = [one for one in [*unit.waiting, *(one for one, _, _ in unit.done.values())]
                    if one.candidate.record() == priced.candidate.record()]
            made[phase] = same[0] if same else replace(priced, candidate=replace(priced.candidate, alike=0))
        return made

    def gap(self, picks: Sequence[Choice]) -> float:
        """Return by how much of its time the pick could be beaten by what is open."""
        return max((1 - one.least_s / unit.fastest for unit in self.units for one in unit.waiting
                    if not unit.settled and unit.fastest < float("inf") and self.could_win(unit)), default=0.0)

    def ranked(self) -> list[Ranked]:
        """Return every candidate with what is known of it, the fastest first within its phase and batch."""
        found: list[Ranked] = []
        for unit in self.units:
            could = self.could_win(unit)
            known = [self.simulated(*done) for done in unit.done.values()]
            for one in unit.waiting:
                excluded = not could or one.least_s >= unit.fastest * (1 - TIE)
                known.append(self.known(one, "excluded" if excluded else "open"))
            known.sort(key=lambda one: (rounded(one.seconds or 0.0), one.state != "simulated", one.candidate.number))
            found += known
            found += [self.known(one, "limited", limit.what) for one, limit in unit.limited]
            found += [Ranked(one.candidate, "misfit", one.reason) for one in unit.misfits]
        return found

    def known(self, priced: Priced, state: str, why: str = "") -> Ranked:
        """Return a candidate that was not simulated."""
        step = self.workload.tokens if priced.candidate.phase == "decode" else 1
        return Ranked(priced.candidate, state, why, priced.memory, priced.least_s / step, priced.axes_s / step,
                      priced.paper_s / step)

    def simulated(self, priced: Priced, result: Result, seconds: float) -> Ranked:
        """Return a candidate that was simulated."""
        return replace(self.known(priced, "simulated"), step_s=result.step_s, result=result)

    def none_meets(self) -> PlanError:
        """Return the error that says why there is no pick: how many fit, which limit excludes how many, and the nearest miss."""
        fitting = [(unit, one, limit) for unit in self.units for one, limit in unit.limited]
        misfits = [misfit for unit in self.units for misfit in unit.misfits]
        simulated = [one for unit in self.units for one in unit.done.values()]
        if not fitting and not simulated:
            reasons = dict.fromkeys(misfit.reason for misfit in misfits)
            return PlanError(f"none of {len(misfits)} layouts fits the model, the batch and the mesh: "
                             f"{next(iter(reasons), 'there is none')}", code="no-layout")
        said = []
        for limit in self.planning.limits:
            over = [one for _, one, broken in fitting if broken == limit]
            if over:
                said.append(f"{limit.what} excludes {len(over)}; {self.miss(over, limit)}")
        for unit in self.units:
            if unit.done:
                priced, _, seconds = min(unit.done.values(), key=lambda one: one[2])
                keys = self.keys(unit.batch, {unit.phase: seconds})
                said += [f"{limit.what}: the fastest, {name_of(priced.candidate)}, has {keys[limit.what]:.4g}"
                         for limit in self.planning.limits if limit.what in keys and not limit.met(keys[limit.what])]
        return PlanError(f"no layout meets the limits: {'; '.join(said)}", code="no-layout", path=("plan", "limits"))

    def miss(self, over: Sequence[Priced], limit: Limit) -> str:
        """Return in words which of these candidates misses a limit by least."""
        if limit.what == "memory.fits":
            near = min(over, key=lambda one: total_bytes(one.memory))
            return (f"the nearest, {name_of(near.candidate)}, needs {total_bytes(near.memory) / near.memory.capacity:.2f} times "
                    "the memory of a chip")
        near = min(over, key=lambda one: one.least_s)
        got = self.keys(near.candidate.batch, {near.candidate.phase: near.least_s}).get(limit.what)
        return f"the nearest is {name_of(near.candidate)}" + (f", which is no better than {got:.4g}" if got is not None else "")
