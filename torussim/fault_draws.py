"""Faults by Monte Carlo: the distribution of step times with random slow or dead links, and the links that matter most.

A draw is the scenario with additional changes of links. Draws with equal faults are run once, and so are draws that a translation
of the torus maps to one another (`fault_sets`). The layout, its padding included, is that of the scenario without drawn faults.

*The loss of a link* is that of its fault alone: the step time with this one fault over the step time without it, less 1. It is
run, not estimated: every link by every kind of fault, weighted by the frequency of each kind. The mean loss of the draws in which
a link is faulty is given beside it, with its standard error. This mean includes the other faults of those draws, and if a fault
is rare it depends on few draws, so it ranks nothing. Faults interact: two slow links of one ring cost little more than one.

*Time of a step.* As in `run`, except that one pass represents all of the same length: it attends to their mean number of tokens.
If messages share links, the first layers represent all (`repairs`), which is exact to about 0.01 %.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from torussim.chips import Chip
from torussim.collectives.lower import DIRECT, algorithm_of
from torussim.engine.simulate import simulate
from torussim.errors import FaultError, TopologyError, TorusSimError, WorkerError
from torussim.executors import Workers, each, workers
from torussim.fault_result import Alone, FaultDraws
from torussim.fault_sets import Cables, Faults, Kind, cables_of, draw, kinds_of
from torussim.program import Collective, Program
from torussim.repairs import sample, seconds_of
from torussim.scenario import Scenario, Source, ready
from torussim.topology.check import Floats
from torussim.topology.faults import scaled
from torussim.topology.grid import Grid
from torussim.topology.shape import Indices
from torussim.transformer import build
from torussim.trust import Trust
from torussim.workload import Forward, passes

MAX_DRAWS = 1_000_000
Progress = Callable[[int, int], None]


def draw_faults(source: Source, *, draws: int = 1000, dead: float | int | None = None,
                slow: Sequence[tuple[float | int, float]] = (), seed: int = 0, overrides: Sequence[str] = (),
                code: str | Trust = "beside", jobs: int = 0, dask: str = "", progress: Progress | None = None) -> FaultDraws:
    """Return how long a step takes on draws of faulty links, and how much each link's fault costs.

    Parameters
    ----------
    source
        A file, a mapping of the same form, or what `load` made of one. Faults are added to those that it has.
    draws
        How many times faults are drawn.
    dead
        How many links are dead: a probability for each (a float), or a number of them in every draw (an int). A link is a cable:
        both directions.
    slow
        Pairs of how many links are slow, likewise, and the share of its bandwidth that such a link has. A link is slow or dead,
        not both.
    seed
        With the number of a draw it decides what is drawn, whatever runs the draws.
    overrides, code
        As in `load`.
    jobs, dask
        How many processes run draws, 0 for one a core; or the address of the scheduler of a Dask cluster. A routing or an
        algorithm of the user's runs in this process alone.
    progress
        Called with how many draws, and runs of single faults after them, are done, and how many there are.

    Returns
    -------
    FaultDraws
        It prints itself; `quantile(0.99)` is the time that 99 of 100 draws keep.

    Raises
    ------
    FaultError
        If the numbers make no sense for the network.
    ScenarioError
        With all mistakes of the scenario.
    WorkerError
        If the cluster does not answer, or a worker is lost.

    Examples
    --------
    >>> found = draw_faults({"chip": "ideal", "topology": {"shape": [4]}, "program": [
    ...     {"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "90 MB"}]}, draws=10, slow=[(1, 0.5)], jobs=1)
    >>> found.base_s, found.quantile(0.5)
    (0.00075, 0.0015)
    """
    began = time.perf_counter()
    scenario = ready(source, overrides, code=code)
    kinds = checked(scenario.net, draws, dead, slow, seed)
    trial = Trial.of(scenario)
    cables = trial.cables
    drawn = [draw(kinds, len(cables), seed, number) for number in range(draws)]
    sets = [cables.alike(faults) for faults in drawn]
    counts = Counter(sets)
    leaders, scales = _single_faults(cables, kinds)
    singles: list[Faults] = [((int(cable), scale),) for cable in np.unique(leaders) for scale in scales]
    new = [single for single in singles if single not in counts]
    tell = _Told(progress, counts, draws + min(draws, len(new)))
    with workers(*_where(trial, jobs, dask)) as those:
        known = _run(trial, [(), *(faults for faults in counts if faults)], those, tell)
        times = np.array([known[faults] for faults in sets])
        if len(new) > draws:
            new = _likely(new, leaders, drawn, times)[:draws]
        known |= _run(trial, new, those, tell)
    tell.all()
    alone = Alone(leaders, tuple(scales), {single[0]: known[single] for single in singles if single in known},
                  tuple(sum(_expected(kind, len(cables)) for kind in kinds if kind.scale == scale) for scale in scales))
    return FaultDraws(scenario.name, scenario.resolved, trial.timed, known[()], cables, kinds, seed, tuple(drawn), times, alone,
                      len(known), time.perf_counter() - began)


def checked(net: Grid, draws: int, dead: float | int | None, slow: Sequence[tuple[float | int, float]],
            seed: int) -> tuple[Kind, ...]:
    """Return the kinds of faults that are drawn. Raise FaultError if a number makes no sense for the network."""
    if not 1 <= draws <= MAX_DRAWS:
        raise FaultError(f"{draws:,} draws cannot be made: give 1 to {MAX_DRAWS:,}", code="limit", path=("draws",))
    if seed < 0:
        raise FaultError(f"the seed {seed} is negative: give 0 or more", path=("seed",))
    return kinds_of(dead, slow, len(cables_of(net, ())))


@dataclass(frozen=True, eq=False)
class Trial:
    """The data to run a set of faults; `passes`: programs, and the weight of each in the time of a step."""

    cables: Cables
    chip: Chip
    passes: tuple[tuple[Program, float], ...]
    timed: str  # the key of a result that has the time

    @staticmethod
    def of(scenario: Scenario) -> Trial:
        """Return the trial of a scenario."""
        if scenario.program:
            some: tuple[tuple[Program, float], ...] = ((scenario.program, 1.0),)
        else:
            assert scenario.model and scenario.workload
            axes = {a: scenario.net.length(a) for a in scenario.net.axes}
            some = tuple((build(scenario.model, scenario.layouts[forward.phase], forward, axes), count)
                         for forward, count in _passes(scenario))
        cables = cables_of(scenario.net, [program for program, _ in some])
        return Trial(cables, scenario.chip, some, "makespan_s" if scenario.program else "step_s")

    def __call__(self, faults: Faults) -> float:
        """Return the time with these faults, seconds; nan if they disconnect the network."""
        try:
            net = scaled(self.cables.net, self.cables.scale(faults)) if faults else self.cables.net
        except TopologyError as error:
            if error.code == "cut-network":
                return float("nan")
            raise
        elapsed = total = 0.0
        for program, count in self.passes:
            seconds = self._seconds(program, net, elapsed)
            elapsed += seconds
            total += count * seconds
        return total

    def _seconds(self, program: Program, net: Grid, begin: float) -> float:
        """Return the time of one pass. If messages share links, its first layers represent all."""
        start = [begin] * len(net.chips) if net.links.events else None
        direct = any(isinstance(o, Collective) and algorithm_of(o) in DIRECT for o in program.operations())
        if not net.links.events and (any(net.gaps) or direct):
            first = simulate(sample(program), net, self.chip)
            if first.flows or first.blocks == program.block_runs:
                return seconds_of(program, first)
        return simulate(program, net, self.chip, start=start).makespan


def _passes(scenario: Scenario) -> list[tuple[Forward, float]]:
    """Return the passes to run, and the weight of each in `step_s`; all passes if links change in mid-run."""
    assert scenario.workload
    every = passes(scenario.workload)
    decode = [one for one in every if one.phase == "decode"]
    timed, count = (decode, 1 / len(decode)) if decode else (every, 1.0)
    if scenario.net.links.events:
        return [(one, count if one in timed else 0.0) for one in every]
    found = []
    for length in dict.fromkeys(one.length for one in timed):
        alike = [one for one in timed if one.length == length]
        mean = round(sum(one.attended for one in alike) / len(alike))
        found.append((replace(alike[0], attended=mean), len(alike) * count))
    return found


def _where(trial: Trial, jobs: int, dask: str) -> tuple[int, str]:
    """Return the number of processes, and the cluster, that can run a trial; a user-defined function stays in this process."""
    own = callable(trial.cables.net.routing) or any(
        isinstance(o, Collective) and callable(algorithm_of(o)) for program, _ in trial.passes for o in program.operations())
    if not own:
        return jobs, dask
    if dask:
        raise WorkerError("a routing or an algorithm of yours cannot be sent to a Dask cluster: leave the address out",
                          code="function")
    return 1, ""


class _Told:
    """A counter of completed draws, and of completed runs of single faults after them."""

    def __init__(self, progress: Progress | None, counts: Mapping[Faults, int], most: int) -> None:
        self.progress, self.counts, self.most, self.done = progress, counts, most, 0

    def __call__(self, faults: Faults) -> None:
        self.done += self.counts.get(faults, 1 if faults else 0)
        if self.progress:
            self.progress(self.done, self.most)

    def all(self) -> None:
        """Report that all work is done."""
        if self.progress:
            self.progress(self.most, self.most)


def _run(trial: Trial, sets: Sequence[Faults], those: Workers, tell: Callable[[Faults], None]) -> dict[Faults, float]:
    """Return the time of each set of faults. Raise the first error, with the faults."""
    found: dict[Faults, float] = {}
    for done in each(trial, sets, those):
        faults = sets[done.index]
        if isinstance(done.error, TorusSimError) and faults:
            raise done.error.within((), f"with the links {', '.join(map(str, trial.cables.changes(faults)))}: ") from None
        if done.error is not None:
            raise done.error
        assert done.value is not None
        found[faults] = done.value
        tell(faults)
    return found


def _single_faults(cables: Cables, kinds: Sequence[Kind]) -> tuple[Indices, list[float]]:
    """Return for each cable the first equivalent one, (cables,), and the scales that are drawn, dead first."""
    leaders = np.array([cables.alike(((cable, 0.0),))[0][0] for cable in range(len(cables))], np.intp)
    return leaders, sorted({kind.scale for kind in kinds if kind.many})


def _expected(kind: Kind, count: int) -> float:
    """Return the expected number of cables of a kind."""
    return kind.many if isinstance(kind.many, int) else kind.many * count


def _likely(singles: Sequence[Faults], leaders: Indices, drawn: Sequence[Faults], times: Floats) -> list[Faults]:
    """Return single faults in the order of the mean time of the draws with any fault of these cables; then the others."""
    total, count = np.zeros((2, len(leaders)))
    for faults, seconds in zip(drawn, times.tolist()):
        for cable in {int(leaders[cable]) for cable, _ in faults}:
            total[cable] += seconds if seconds == seconds else np.inf
            count[cable] += 1
    mean = np.divide(total, count, out=np.zeros(len(total)), where=count > 0)
    return sorted(singles, key=lambda single: -mean[single[0][0]])
