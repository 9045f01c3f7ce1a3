"""Which links, chips or operations of a measured run are slower than they should be: `blame`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from torussim.answer import last_program
from torussim.lower_bound import limits, operation_seconds
from torussim.measured import words
from torussim.measured.likelihood import Data, fitted
from torussim.measured.model import Model, State
from torussim.measured.observed import Observed, observe
from torussim.measured.search import Hypothesis, Signatures, Suspect, look, weighed
from torussim.measured.times import read
from torussim.program import Collective, Compute
from torussim.scenario import Scenario
from torussim.scenario.tracing import Tracing
from torussim.topology.check import Node

Array = np.ndarray[Any, Any]

ROUNDS = 4  # links or chips that are looked for
SURE = 0.9  # posterior probability from which something is named
SURE_OF_CLASS = 0.99  # likewise of links of a class: which of its links, and which chip saw it, are taken to be known
LEAST = 1.1  # times as slow: what is nearer to its nominal speed is not named
TOGETHER = 6  # suspects that are named where the data do not tell which of them it is
CERTAIN = 3.0  # standard deviations from which an operation is named
MUCH = 1.15  # times as slow, beyond what is common to its kind, from which an operation is named
LONGER = 1.05  # times as long as simulated, which it must take besides


@dataclass(frozen=True)
class Place:
    """One thing that may be slow: `kind` is "link" (`ends` of a cable), "chip" or "class" (`name`: links of one axis)."""

    kind: str
    ends: tuple[Node, ...] = ()
    one_way: bool = False  # only from the first end to the second
    name: str = ""


@dataclass(frozen=True)
class Finding:
    """What is slower than it should be.

    `places`: the likeliest first; several where the data do not tell which of them it is. `probability`: that it is one of
    them, given that at most one more thing is slow; `slower`: how many times as slow, `between` the ends of its interval of 90 %.
    `bandwidth`, bytes/s: that of the link, and as the scenario has it. `repaired_s`: the time of the step if only it had its
    nominal speed; `minor`: its repair gains under 0.1 % of the step, also once all that is minor is repaired.
    """

    places: tuple[Place, ...]
    probability: float
    slower: float
    between: tuple[float, float]
    bandwidth: tuple[float, float] | None
    repaired_s: float
    minor: bool = False


@dataclass(frozen=True)
class Row:
    """One operation: medians over chips and repetitions of what was measured, and simulated as the scenario says, seconds.

    `explained_s`: simulated with all that was found; `slower`: by which factor it is slower than that on all chips, beyond what
    is common to all of its kind, `between` the ends of its interval of 90 %; `slow`: it is named. `worst`: measured over
    simulated on the chip where that is most, `worst_chip`. `looped`: a computation that runs together with a collective.
    """

    name: str
    kind: str
    measured_s: float | None
    count: int
    simulated_s: float
    bound_s: float
    explained_s: float
    slower: float | None = None
    between: tuple[float, float] | None = None
    slow: bool = False
    worst: float | None = None
    worst_chip: Node | None = None
    looped: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a measured run says; times in seconds. `str` is the report.

    `explained`: the share of what deviates from chip to chip, beyond noise, that the findings explain; None without deviations.
    `common`: by which factor all computations, and all collectives, are slower than simulated; `noise`: the standard deviation of
    the logarithm of one measured time; `times`: how many the file has, `used`: how many of them were understood; `chips`: how
    many of how many chips of the scenario these are of, `foreign`: how many of how many chips of the file are not in the
    scenario (of those that run its operations), both None without chips; `lost`: names of operations and of chips that were
    not understood, with how many times each has.
    """

    name: str
    file: str
    step_s: float
    found_s: float
    findings: tuple[Finding, ...]
    rows: tuple[Row, ...]
    explained: float | None
    common: Mapping[str, float]
    noise: float
    times: int
    used: int
    chips: tuple[int, int] | None
    foreign: tuple[int, int] | None
    lost: Mapping[str, Mapping[str, int]]

    def __str__(self) -> str:
        return words.text(self)

    @property
    def slow(self) -> tuple[Row, ...]:
        """The operations that are slow on all chips."""
        return tuple(row for row in self.rows if row.slow)

    def json(self) -> str:
        """Return everything as JSON."""
        return json.dumps(words.record(self), indent=1, allow_nan=False)


def blame(trace: str | Path, scenario: Scenario, *, most: int = 0, progress: Callable[[int], None] | None = None) -> Verdict:
    """Return what a trace, or a table of operation times, of a scenario's run says.

    Parameters
    ----------
    trace
        The file of measured times (`measured.times`); `most`: bytes that it may have, where that is more than 1 GiB.
    scenario
        What was run; its links and chips are as they should be. Measured times are those of its last pass.
    progress
        Is called with the number of simulations so far.

    Raises
    ------
    ScenarioError
        With all that is wrong with the file.
    TorusSimError
        If nothing of the file is understood.
    """
    times = read(trace, most)
    model = Model(last_program(scenario), scenario.net, scenario.chip)
    observed = observe(times, scenario.tracing or Tracing(), model, scenario.file)
    data = observed.data(model)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done)
    state, found = search(model, data, step)
    whole, step_s = model.seconds(state), model.seconds(model.nominal)
    findings = _minor(model, state.way, found, [_finding(model, state.way, found, i) for i in range(len(found))], whole)
    rows, common, noise = _rows(model, data, observed, state, found[-1][0].suspect if found else Suspect())
    chips = (int(observed.count.any(axis=0).sum()), len(scenario.net.chips)) if observed.per_chip else None
    run = {chip for name, chip in times.seconds if chip is not None and name not in observed.lost_operations}
    foreign = (len(run & set(observed.lost_chips)), len(run)) if observed.per_chip else None
    lost = {"operations": dict(observed.lost_operations), "chips": dict(observed.lost_chips)}
    return Verdict(scenario.name, str(trace), step_s, whole, findings, rows, _explained(model, data, state), common, noise,
                   times.count, int(observed.count.sum()), chips, foreign, lost)


Found = tuple[Hypothesis, tuple[tuple[Suspect, ...], float]]  # the likeliest, all that it may be, and their probability


def search(model: Model, data: Data, step: Callable[[], None] | None = None) -> tuple[State, list[Found]]:
    """Return the state that explains the times, and what is slow in it, one after another, each on top of those before."""
    state, found, known = model.nominal, list[Found](), Signatures()
    for _ in range(ROUNDS):
        seen = look(model, data, state, known, step, ways=() if found else range(len(model.ways)))
        if not seen.hypotheses or seen.nothing > 1 - SURE:
            break
        best = seen.hypotheses[0]
        total, together = 0.0, list[Suspect]()
        for hypothesis, share in zip(seen.hypotheses, seen.probability.tolist()):
            if total >= (SURE if not hypothesis.suspect.seen else SURE_OF_CLASS):
                break
            together.append(hypothesis.suspect)
            total += share
        things = {(one.kind, frozenset(one.ends), one.name) for one in (_place(model, suspect) for suspect in together)}
        if best.best < LEAST or len(things) > TOGETHER:
            break
        again = [one for one in found if set(one[0].suspect.links) & set(best.suspect.links)]
        before = [one for one in found if one not in again]
        if again:  # its speed was not right yet
            state = _with(model, seen.state.way, before)
            best = weighed(model, data, state, best.suspect, best.prior, best.best * again[0][0].best)
        found = _refined(model, data, seen.state.way, [*before, (best, (tuple(together), total))])
        state = _with(model, seen.state.way, found)
        if best.suspect.seen:
            break  # operation times without chips do not tell two classes apart
    found = [one for one in found if one[0].best >= LEAST]
    return _with(model, state.way, found), found


def _with(model: Model, way: int, found: list[Found], *without: int) -> State:
    """Return the state with all that was found, but for some of it."""
    state = replace(model.nominal, way=way)
    for i, (one, _) in enumerate(found):
        state = state if i in without else one.suspect.in_state(state, one.best)
    return state


def _refined(model: Model, data: Data, way: int, found: list[Found]) -> list[Found]:
    """Return the same with the speed of each fitted anew, all others as they were found."""
    for i, (one, told) in enumerate(found):
        again = weighed(model, data, _with(model, way, found, i), one.suspect, one.prior, one.best)
        found = [*found[:i], (again, told), *found[i + 1:]]
    return found


def _finding(model: Model, way: int, found: list[Found], index: int) -> Finding:
    """Return a finding with what its repair gains, all others left as they are; without others all is as in the scenario."""
    best, (together, probability) = found[index]
    low, high = best.interval()
    links = model.net.links
    rate = float(links.bandwidth[list(best.suspect.links)].min()) if best.suspect.links else 0.0
    places = tuple(dict.fromkeys(_place(model, one) for one in together))
    repaired = model.seconds(_with(model, way if len(found) > 1 else 0, found, index))
    return Finding(places, min(probability, 1.0), best.best, (low, high), (rate / best.best, rate) if rate else None, repaired)


def _minor(model: Model, way: int, found: list[Found], told: list[Finding], whole: float) -> tuple[Finding, ...]:
    """Return the findings, those marked that do not matter to the step, which takes `whole` seconds with all of them.

    Two links may hide each other: the repair of either gains nothing, but that of both does. So what is minor must gain nothing
    either once the others that gain nothing are repaired.
    """
    few = [i for i, one in enumerate(told) if whole - one.repaired_s < words.GAIN * whole]
    if len(few) > 1:
        best = model.seconds(_with(model, way, found, *few))
        few = [i for i in few if model.seconds(_with(model, way, found, *(j for j in few if j != i))) - best < words.GAIN * whole]
    return tuple(replace(one, minor=i in few) for i, one in enumerate(told))


def _place(model: Model, one: Suspect) -> Place:
    links = model.net.links
    if one.of:
        return Place("class", name=one.of)
    if not one.links:
        return Place("chip", (model.net.chips[one.chip],))
    ahead = min(one.links, key=lambda i: (int(links.sign[i]), i))
    return Place("link", links.edge(ahead), len(one.links) == 1)


def _rows(model: Model, data: Data, observed: Observed, state: State,
          last: Suspect) -> tuple[tuple[Row, ...], dict[str, float], float]:
    """Return a row an operation, the common factors, and the noise; `last`: what was found last, whose view of times is taken."""
    view = replace(last, seen=last.seen or ("" if data.logs.shape[1] == len(model.net.chips) else "median"))
    nominal, now = (view.times(model, s) for s in (model.nominal, state))
    fit = fitted(data, data.residuals(now[None]))
    own = fit.factor[0] - fit.common[0, data.moves.astype(int)]
    there = np.isfinite(data.logs)
    deviation = np.sqrt(1 / np.maximum((there / data.variance).sum(axis=1) / fit.noise[0] ** 2, 1e-12))
    most = limits(model.net)
    rows = []
    looped = {o.name for o in model.ways[state.way].operations() if isinstance(o, Compute) and o.loop}
    for i, o in enumerate(model.operations):
        here = np.isfinite(observed.times[i])
        kind = o.kind if isinstance(o, Collective) else "compute"
        row = Row(o.name, kind, float(np.median(observed.times[i][here])) if here.any() else None, int(observed.count[i].sum()),
                  float(np.median(nominal[i][here] if here.any() else nominal[i])), operation_seconds(o, most, model.chip),
                  float(np.median(now[i][here] if here.any() else now[i])), looped=o.name in looped)
        if there[i].any():
            low, high = (float(np.exp(own[i] + side * 1.645 * deviation[i])) for side in (-1, 1))
            slow = own[i] > np.log(MUCH) and own[i] > CERTAIN * deviation[i] and (
                (row.measured_s or 0.0) >= LONGER * max(row.simulated_s, row.explained_s))
            row = replace(row, slower=float(np.exp(own[i])), between=(low, high), slow=bool(slow))
            if observed.per_chip:
                ratio = np.where(here & (nominal[i] > 0), observed.times[i] / np.maximum(nominal[i], 1e-300), 0.0)
                row = replace(row, worst=float(ratio.max()), worst_chip=model.net.chips[int(ratio.argmax())])
        rows.append(row)
    common = {name: float(np.exp(fit.common[0, kind])) for kind, name in enumerate(("compute", "collective"))
              if there[data.moves == bool(kind)].any()}
    return tuple(rows), common, float(fit.noise[0])


def _explained(model: Model, data: Data, state: State) -> float | None:
    """Return the share of what deviates from chip to chip, beyond noise, that a state explains; None if there is nothing."""
    if data.logs.shape[1] != len(model.net.chips):
        return None
    residuals = data.residuals(np.stack([model.times(model.nominal), model.times(state)]))
    left = residuals - fitted(data, residuals).factor[:, :, None]
    noise = np.where(np.isfinite(data.logs), data.noise**2 * data.variance, 0.0).sum()
    before, after = np.maximum(np.nansum(left**2, axis=(1, 2)) - noise, 0.0)
    return float(1 - after / before) if before > noise / 2 else None
