"""The search of a plan: candidates are simulated in the order of their bounds.

The search ends when the next bound is not below the best simulated time. The time of a phase at a batch says nothing about
another phase or batch, so each pair has a search of its own (`unit`). The objective compares their results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from torussim.answer import run
from torussim.errors import PlanError
from torussim.planner import candidates
from torussim.planner.candidates import Candidate
from torussim.planner.misses import none_fits, none_meets
from torussim.planner.plans import Choice, Plan, Ranked
from torussim.planner.pricing import Misfit, Priced, Pricing
from torussim.planner.shapes import Fastest, reshaped
from torussim.planner.space import spaces
from torussim.planner.streams import tables
from torussim.planner.unit import TIE, Done, Unit, rounded
from torussim.planner.words import SAME, bound_by
from torussim.program import Program
from torussim.result import rates
from torussim.scenario import Limit, Planning, Scenario, Source, changed, ready
from torussim.trust import Trust
from torussim.workload import Workload

SIMULATIONS = 1000
FOLLOWING = 8  # simulations for the next best choice of a phase
KEYS = "latency_s", "chip_s_per_token"  # the keys that objectives minimize
ELSEWHERE = 4  # candidates of a phase simulated on another shape of the network
Progress = Callable[[int, int], None]


def plan(source: Source, *, overrides: Sequence[str] = (), code: str | Trust = "beside",
         simulations: int = SIMULATIONS, shapes: bool = True, progress: Progress | None = None) -> Plan:
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

    Returns
    -------
    Plan
        It prints itself; `best` is a scenario that `run` takes.

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
    scenario = ready(source, overrides, code=code, fitting=False)
    if scenario.model is None or scenario.workload is None:
        raise PlanError("a program has no layout to plan: give a scenario with a model and a workload", code="missing")
    if len(scenario.layouts) > 1 and scenario.planning and scenario.planning.mesh == "parts":
        raise PlanError("both phases of a generation must cut the axes alike, and a plan finds the best of each alone: plan "
                        "prefill and decode with parts one after the other, or a generation with mesh: whole",
                        code="clash", path=("plan", "vary", "mesh"))
    if len(scenario.layouts) > 1 and scenario.planning and any(one and one.left > 1 for one in scenario.planning.pipelines):
        raise PlanError("both phases of a generation must cut the axes alike, and a plan finds the best of each alone: plan "
                        "prefill and decode with stages over a part of an axis one after the other, or give whole axes",
                        code="clash", path=("plan", "vary", "pipeline"))
    if len(scenario.layouts) > 1 and scenario.net.links.events:
        raise PlanError("links change in mid-run, so that the time of the decode depends on that of the prefill: plan prefill "
                        "and decode one after the other", code="clash", path=("topology", "events"))
    if scenario.net.links.failures:
        raise PlanError("links fail in mid-run, and the bounds of a plan do not hold on the routes that messages take then: "
                        "give the links that fail under links, or leave them out", code="clash", path=("topology", "events"))
    search = priced(scenario, scenario.planning or Planning(), simulations, progress)
    found: Plan | None = None
    try:
        search.run(progress)
        search.follow()
        found = search.plan()
        found = replace(found, paper=search.paper(), file=search.file())
        found = replace(found, ranked=search.ranked())
        if shapes:
            found = replace(found, shapes=reshaped(found, fastest))
    except KeyboardInterrupt:
        if found is None and not search.found():
            raise
        found = replace(found or search.plan(), partial=True)
    return replace(found, seconds=time.perf_counter() - began)


def best_of(scenario: Scenario, pick: Choice) -> Scenario:
    """Return the scenario that runs a choice. Its record gives the same answer."""
    shown = {phase: one.candidate.record() for phase, one in pick.of.items()}
    layout = shown if len(shown) > 1 else next(iter(shown.values()))
    record = {key: value for key, value in scenario.resolved.items() if key not in ("plan", "expect")}
    record |= {"layout": layout, "workload": {**record["workload"], "batch": pick.batch}}
    return running(scenario, [one.candidate for one in pick.of.values()], Pricing(scenario), resolved=record, planning=None)


def running(scenario: Scenario, some: Sequence[Candidate], pricing: Pricing, **others: Any) -> Scenario:
    """Return the scenario that runs a candidate for each of its phases."""
    net = pricing.outlines(some[0]).net
    changes = scenario.changes and replace(scenario.changes, parts=some[0].parts)
    return changed(scenario, net=net, network=replace(scenario.network, net=net, changes=changes), expect=(), fitted=True,
                   layouts={one.phase: one.layout for one in some},
                   **{"workload": pricing.workload(some[0].batch), **others})


def priced(scenario: Scenario, planning: Planning, simulations: int, progress: Progress | None) -> Search:
    """Return the search of a plan with prices, in the first of its spaces with candidates that fit into memory.

    Raise PlanError if no candidate fits, or none meets the limits.
    """
    added, first = list[str](), None
    for space, new in spaces(scenario, planning):
        added += [new] if new else []
        search = Search.of(scenario, planning, space, simulations, tuple(added))
        search.price(progress)
        if search.fits:
            break
        first = first or search
    if all(unit.next == float("inf") for unit in search.units):
        raise (search if search.fits or not first else first).none_meets()
    return search


def fastest(scenario: Scenario, planning: Planning) -> Fastest:
    """Return the fastest layout of a scenario at one batch, of a few that are simulated."""
    search = priced(scenario, planning, ELSEWHERE * len(scenario.layouts), None)
    search.run(None)
    choice = search.picks()[0]
    return Fastest(choice, best_of(scenario, choice), all(unit.settled for unit in search.units))


@dataclass
class Search:
    """The search of one plan: `planning` as the file has it, `choices` with those that it leaves open.

    `left` is the number of simulations that remain; `space` is the number of candidates. `added` has the choices that are tried
    because nothing else fits into memory, in words.
    """

    scenario: Scenario
    planning: Planning
    choices: Planning
    workload: Workload
    pricing: Pricing
    left: int
    units: list[Unit] = field(default_factory=list)
    outside: list[Done] = field(default_factory=list)  # simulated, but not in the space
    space: int = 0
    added: tuple[str, ...] = ()
    _simulated: dict[Hashable, list[tuple[tuple[Program, ...], Done]]] = field(default_factory=dict)
    streams: int = 0  # the part of the space in streams, whose candidates are not named one by one

    @staticmethod
    def of(scenario: Scenario, planning: Planning, choices: Planning, simulations: int, added: tuple[str, ...]) -> Search:
        """Return a search before its first simulation."""
        assert scenario.workload is not None
        search = Search(scenario, planning, choices, scenario.workload, Pricing(scenario), simulations, added=added)
        search.units = [Unit(phase, batch, search.pricing, search.broken)
                        for batch in planning.batch or (scenario.workload.batch,) for phase in scenario.layouts]
        return search

    # -- before anything is simulated -----------------------------------------------------------------------------------

    def price(self, progress: Progress | None) -> None:
        """Price every named candidate, and prepare the streams of the unnamed ones."""
        for done, unit in enumerate(self.units):
            for number, candidate in enumerate(candidates.named(self.scenario, self.choices, unit.phase, unit.batch)):
                self.space += candidate.alike
                unit.add(replace(candidate, number=number))
                if progress is not None:
                    progress(self.space, self.space * len(self.units) // (done + 1) + 1)
            if self.planning.layouts == "all":
                unit.stream, size = tables(self.scenario, self.choices, unit.phase, unit.batch, self.pricing)
                self.space += size
                self.streams += size

    @property
    def fits(self) -> bool:
        """Whether at one batch at least a candidate of every phase fits into memory, as far as is known without simulation."""
        return any(all(other.fits for other in self.at(unit.batch)) for unit in self.units)

    def broken(self, priced: Priced) -> Limit | None:
        """Return a limit that a candidate cannot meet, as far as is known before its simulation."""
        known = self.known_keys(priced)
        return next((limit for limit in self.planning.limits if limit.what in known and not limit.met(known[limit.what])), None)

    def known_keys(self, priced: Priced) -> dict[str, float]:
        """Return the keys of a candidate's result that are known before its simulation; times are lower bounds."""
        held, one = priced.memory, priced.candidate
        known = {"memory.fits": float(held.fits), "memory.weights": held.weights, "memory.kv_cache": held.kv_cache,
                 "memory.activations": held.activations, "memory.longest_context": float(held.longest_context)}
        # a limit on both phases of a generation together does not limit one phase alone
        return known | (self.keys(one.batch, {one.phase: priced.least_s}) if self.workload.phase != "generate" else {})

    # -- simulation -----------------------------------------------------------------------------------------------------

    def run(self, progress: Progress | None) -> None:
        """Simulate candidates until every unit that can hold the best one is settled, or no simulations are left."""
        while self.left > 0 or not self.complete:
            open_ = [unit for unit in self.units if not unit.settled and self.could_win(unit)]
            if not open_:
                break
            unit = min(open_, key=lambda unit: (len(unit.done) > 0, self.score(unit.batch, self.together(unit, "least"))))
            priced = unit.first()
            if priced is not None:
                unit.finish(self.simulated(priced))
                self.left -= 1
            if progress is not None:
                done = sum(len(unit.done) for unit in self.units)
                progress(done, done + len(open_))

    def follow(self) -> None:
        """Simulate the possible next best after the pick, at its batch: a few candidates of each phase without a known time."""
        picks = self.picks()
        for unit in self.at(picks[0].batch) if len(picks) == 1 else ():
            most = len(unit.done) + min(FOLLOWING, self.left)
            while len(unit.done) < most and not unit.exact(SAME) and unit.next < unit.second(SAME) * (1 - TIE):
                priced = unit.first()
                if priced is not None:
                    unit.finish(self.simulated(priced))

    def simulated(self, priced: Priced) -> Done:
        """Return a candidate simulated; of candidates with equal programs one is."""
        one, programs = priced.candidate, self.pricing.programs(priced.candidate)
        like = self._simulated.setdefault((one.phase, one.batch, tuple(one.parts.items())), [])
        done = next((done for others, done in like if others == programs), None)
        if done is None:
            done = self._run(priced)
            like.append((programs, done))
        return replace(done, priced=priced)

    def _run(self, priced: Priced) -> Done:
        one, workload = priced.candidate, self.pricing.workload(priced.candidate.batch)
        if workload.phase == "generate":
            workload = (replace(workload, phase="prefill", tokens=1) if one.phase == "prefill" else
                        replace(workload, phase="decode", context=workload.context + workload.cached, cached=0, chunk=None))
        result = run(running(self.scenario, [one], self.pricing, workload=workload), prepared=self.pricing.prepared(one))
        return Done(priced, result.latency_s, result.step_s, bound_by(result.timeline, self.scenario.chip))

    def together(self, unit: Unit, what: str) -> dict[str, float]:
        """Return `least` or `fastest` of all phases at the batch of a unit, seconds."""
        return {other.phase: getattr(other, what) for other in self.units if other.batch == unit.batch}

    @property
    def complete(self) -> bool:
        """Whether a candidate of every phase was simulated at one batch at least."""
        return any(all(other.done for other in self.at(unit.batch)) for unit in self.units)

    def could_win(self, unit: Unit) -> bool:
        """Return whether the batch of a unit can still become the pick, or be on the front."""
        seconds = self.together(unit, "least")
        mine = self.keys(unit.batch, seconds)
        if max(seconds.values()) == float("inf") or not self.meets(mine):
            return False
        for other in self.units:
            found = self.together(other, "fastest")
            if other.batch == unit.batch or max(found.values()) == float("inf"):
                continue
            theirs = self.keys(other.batch, found)
            if self.meets(theirs) and all(theirs[key] <= mine[key] * (1 + TIE) for key in self.wanted):
                return False
        return True

    def plan(self) -> Plan:
        """Return the plan in the present state of the search. Raise PlanError if no candidate meets the limits."""
        picks = self.picks()
        return Plan(self.scenario, self.planning, picks, best_of(self.scenario, picks[0]), self.ranked(), self.space, self.unseen,
                    self.gap(picks), added=self.added)

    # -- results --------------------------------------------------------------------------------------------------------

    @property
    def wanted(self) -> tuple[str, ...]:
        """The keys that the objective minimizes."""
        return {"latency": KEYS[:1], "pareto": KEYS}.get(self.planning.objective, KEYS[1:])

    def keys(self, batch: int, seconds: Mapping[str, float]) -> dict[str, float]:
        """Return the scalar keys of a result with these seconds of each phase."""
        assert self.scenario.model is not None
        chips = len(self.scenario.net.chips)
        return rates(self.scenario.model, self.pricing.workload(batch), self.scenario.chip, chips, seconds)

    def meets(self, keys: Mapping[str, float]) -> bool:
        """Return whether the keys of a choice meet the limits. Memory was checked earlier."""
        return all(limit.met(keys[limit.what]) for limit in self.planning.limits if limit.what in keys)

    def score(self, batch: int, seconds: Mapping[str, float]) -> float:
        """Return the first value that the objective minimizes."""
        return self.keys(batch, seconds)[self.wanted[0]]

    def at(self, batch: int) -> list[Unit]:
        """Return the searches of all phases at a batch."""
        return [unit for unit in self.units if unit.batch == batch]

    def found(self) -> list[Choice]:
        """Return the fastest choice of each batch at which every phase was simulated and the limits are met."""
        made = [self.choice([unit.best for unit in self.at(batch)]) for batch in dict.fromkeys(unit.batch for unit in self.units)
                if all(unit.done for unit in self.at(batch))]
        return [choice for choice in made if self.meets(choice.keys)]

    def picks(self) -> list[Choice]:
        """Return the best choice, or the front; raise PlanError if none meets the limits."""
        made = sorted(self.found(), key=lambda choice: [rounded(choice.keys[key]) for key in (*self.wanted, *KEYS)])
        if not made:
            raise self.none_meets()
        if self.planning.objective != "pareto":
            return made[:1]
        front = made[:1]
        for choice in made:
            if choice.keys["chip_s_per_token"] < front[-1].keys["chip_s_per_token"] * (1 - TIE):
                front.append(choice)
        return front

    def choice(self, done: Sequence[Done]) -> Choice:
        """Return the choice of a candidate for each phase."""
        batch = done[0].priced.candidate.batch
        return Choice(batch, {one.priced.candidate.phase: self.told(one) for one in done},
                      self.keys(batch, {one.priced.candidate.phase: one.seconds for one in done}))

    def paper(self) -> Choice | None:
        """Return the choice of the paper's model among the named layouts: for each phase the least time by this model."""
        best: list[Priced] = []
        for batch in dict.fromkeys(unit.batch for unit in self.units):
            known = [[one for one in unit.known if one.candidate.name != "table"] for unit in self.at(batch)]
            if all(known):
                of = [min(some, key=lambda one: (rounded(one.paper_s), one.candidate.number)) for some in known]
                if not best or self._by_paper(of) < self._by_paper(best):
                    best = of
        return self.choice([self.done(one) for one in best]) if best else None

    def _by_paper(self, of: Sequence[Priced]) -> float:
        return self.score(of[0].candidate.batch, {one.candidate.phase: one.paper_s for one in of})

    def done(self, priced: Priced) -> Done:
        """Return a candidate of the space simulated, unless it was simulated before."""
        unit = next(unit for unit in self.at(priced.candidate.batch) if unit.phase == priced.candidate.phase)
        found = next((one for one in unit.done if one.priced is priced), None)
        if found is None:
            found = self.simulated(priced)
            unit.finish(found)
        return found

    def file(self) -> Choice | None:
        """Return the layout of the scenario's file at the file's batch, if it fits. It need not be in the space."""
        made = []
        for phase in self.scenario.layouts:
            priced = self.pricing.of(replace(candidates.of_file(self.scenario, phase, self.workload.batch), alike=0))
            if isinstance(priced, Misfit):
                return None
            known = [one for unit in self.at(self.workload.batch) if unit.phase == phase for one in unit.known]
            same = next((one for one in known if self.alike(one.candidate, priced.candidate)), None)
            made.append(self.done(same) if same else self.simulated(priced))
            self.outside += [] if same else made[-1:]
        return self.choice(made)

    def alike(self, one: Candidate, other: Candidate) -> bool:
        """Return whether two candidates are the same but for choices of attention and experts that give the same table."""
        ours, theirs = one.record(), other.record()
        if ours == theirs:
            return True
        records = [{key: value for key, value in record.items() if key not in ("attention", "experts")}
                   for record in (ours, theirs)]
        return records[0] == records[1] and len({candidates.tables_of(self.scenario, some) for some in (one, other)}) == 1

    @property
    def unseen(self) -> Mapping[str, int]:
        """The number of candidates of the streams that were never named, by state."""
        settled = all(unit.settled or not self.could_win(unit) for unit in self.units)
        left = self.streams - sum(unit.streamed for unit in self.units)
        return {"excluded" if settled else "open": left} if left else {}

    def gap(self, picks: Sequence[Choice]) -> float:
        """Return the largest possible gain of open candidates over all picks, as a share of the minimized value."""
        could = [self.keys(unit.batch, self.together(unit, "least")) for unit in self.units
                 if not unit.settled and self.could_win(unit)]
        return max((min(max(1 - keys[key] / pick.keys[key] for key in self.wanted) for pick in picks) for keys in could),
                   default=0.0)

    def ranked(self) -> list[Ranked]:
        """Return every candidate with its known times, the fastest first within its phase and batch."""
        found: list[Ranked] = []
        for unit in self.units:
            could, outside = self.could_win(unit), partial(_is_of, unit)
            known = [self.told(one) for one in [*unit.done, *filter(outside, self.outside)]]
            for one in unit.waiting:
                excluded = not could or one.least_s >= unit.fastest * (1 - TIE)
                known.append(self.known(one, "excluded" if excluded else "open"))
            found += sorted(known, key=lambda one: (rounded(one.seconds or 0.0), one.state != "simulated", one.candidate.number))
            found += [self.known(one, "limited", limit.what) for one, limit in unit.limited]
            found += [Ranked(one.candidate, "misfit", one.reason) for one in unit.misfits]
        return found

    def known(self, priced: Priced, state: str, why: str = "") -> Ranked:
        """Return the Ranked of a candidate that was not simulated."""
        steps = self.workload.tokens if priced.candidate.phase == "decode" else 1
        return Ranked(priced.candidate, state, why, priced.memory, priced.least_s / steps, priced.axes_s / steps,
                      priced.paper_s / steps)

    def told(self, done: Done) -> Ranked:
        """Return the Ranked of a simulated candidate."""
        return replace(self.known(done.priced, "simulated"), step_s=done.step_s, bound_by=done.bound_by)

    def none_meets(self) -> PlanError:
        """Return the error that says why there is no pick."""
        bare = [unit for unit in self.units if not unit.known and not unit.limited]
        if {unit.batch for unit in bare} == {unit.batch for unit in self.units}:
            return none_fits([misfit for unit in bare for misfit in unit.misfits])
        open_ = any(not unit.settled and self.could_win(unit) for unit in self.units)
        at_best = {unit.batch: self.together(unit, "least") for unit in self.units}
        return none_meets(self.planning.limits, [pair for unit in self.units for pair in unit.limited], self.known_keys,
                          {batch: self.keys(batch, seconds) for batch, seconds in at_best.items()
                           if max(seconds.values()) < float("inf")}, open_)


def _is_of(unit: Unit, done: Done) -> bool:
    return (done.priced.candidate.phase, done.priced.candidate.batch) == (unit.phase, unit.batch)
