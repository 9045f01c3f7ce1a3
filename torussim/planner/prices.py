"""What a candidate costs before it is simulated: memory, the closed forms, and a time that its simulation is never below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torussim.choice import chosen
from torussim.closed_forms import axes_seconds, paper_collective, paper_compute
from torussim.critical_path import Fronts, least_seconds
from torussim.errors import LayoutError, ShardingError
from torussim.memory import Memory, memory
from torussim.outlines import Outlines
from torussim.padding import candidates as paddings
from torussim.padding import padded
from torussim.planner.candidates import Candidate, uncut
from torussim.program import Compute, Program
from torussim.scenario import Scenario
from torussim.topology.grid import Grid, grid_of
from torussim.transformer import Builder
from torussim.workload import Forward, Workload, passes

PIECES = 4  # into which a long decode is cut for its bound


@dataclass(frozen=True)
class Priced:
    """A candidate that fits the model, with its batch padded; seconds are of all passes of its phase.

    `least_s`: the simulation is never below it; `axes_s`: the closed form axis by axis; `paper_s`: the paper's model.
    """

    candidate: Candidate
    memory: Memory
    least_s: float
    axes_s: float
    paper_s: float


@dataclass(frozen=True)
class Misfit:
    """A candidate that does not fit the model, the batch or the mesh, and why."""

    candidate: Candidate
    reason: str


class Prices:
    """Prices the candidates of one scenario; what does not depend on the candidate is worked out once."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._nets: dict[tuple[object, ...], tuple[Grid, Outlines, Fronts]] = {}
        self._knots: dict[tuple[str, int], Knots] = {}

    def of(self, candidate: Candidate) -> Priced | Misfit:
        """Return what a candidate costs."""
        scenario = self.scenario
        model, chip = scenario.model, scenario.chip
        net, outlines, fronts = self.network(candidate)
        axes = dict(zip(net.axes, net.shape))
        assert model is not None
        workload, knots = self.workload(candidate.batch), self.knots(candidate.phase, candidate.batch)
        layout = candidate.layout
        try:
            if len(paddings(workload.batch, axes.values())) > 1:
                layout = padded(layout, model, workload, [f for f, _ in knots.middles], axes, (net, chip))
            builders = {forward: Builder(model, layout, forward, axes) for forward in knots.forwards}
            programs = {forward: builder.build() for forward, builder in builders.items()}
            held = memory(model, layout, workload, axes, chip.hbm_bytes, candidate.phase, builders=builders)
        except (LayoutError, ShardingError) as error:
            return Misfit(candidate, str(error))
        ready = {forward: chosen(program, outlines, chip) for forward, program in programs.items()}
        least = sum(times * least_seconds(ready[forward], fronts, chip) for forward, times in knots.firsts)
        return Priced(replace(candidate, layout=layout), held, least,
                      sum(times * axes_seconds(ready[forward], outlines, chip) for forward, times in knots.middles),
                      sum(times * _paper(programs[forward], self) for forward, times in knots.middles))

    def workload(self, batch: int) -> Workload:
        """Return the scenario's workload with another batch."""
        assert self.scenario.workload is not None
        return replace(self.scenario.workload, batch=batch)

    def knots(self, phase: str, batch: int) -> Knots:
        """Return the passes of a phase that are priced."""
        key = phase, batch
        if key not in self._knots:
            self._knots[key] = Knots.of(self.workload(batch), phase)
        return self._knots[key]

    def network(self, candidate: Candidate) -> tuple[Grid, Outlines, Fronts]:
        """Return the network of the scenario with its axes cut as a candidate wants them."""
        key = tuple(candidate.parts.items())
        if key not in self._nets:
            net = uncut(self.scenario)
            if candidate.parts:
                net = grid_of(net.links, parts=candidate.parts, routing=net.routing, graph=net.graph)
            outlines = Outlines(net)
            self._nets[key] = net, outlines, Fronts(outlines, self.scenario.chip)
        return self._nets[key]


@dataclass(frozen=True)
class Knots:
    """The passes that stand for those of a phase, each with how many it stands for.

    `firsts`: each stands for later ones, which attend to as much or more, so that a bound of it is one of them; `middles`: each
    for as many before as after it.
    """

    firsts: Sequence[tuple[Forward, int]]
    middles: Sequence[tuple[Forward, int]]
    forwards: Sequence[Forward]

    @staticmethod
    def of(workload: Workload, phase: str) -> Knots:
        """Return the passes that stand for those of a phase."""
        todo = [f for f in passes(workload) if f.phase == phase]
        runs: dict[int, list[Forward]] = {}
        for forward in todo:
            runs.setdefault(forward.length, []).append(forward)
        firsts, middles = list[tuple[Forward, int]](), list[tuple[Forward, int]]()
        for run in runs.values():
            step = max(1, -(-len(run) // PIECES))
            for begin in range(0, len(run), step):
                piece = run[begin:begin + step]
                firsts.append((piece[0], len(piece)))
                middles.append((piece[len(piece) // 2], len(piece)))
        needed = [*(f for f, _ in firsts), *(f for f, _ in middles), max(todo, key=lambda f: f.length), todo[-1]]
        return Knots(firsts, middles, tuple(dict.fromkeys(needed)))


def _paper(program: Program, prices: Prices) -> float:
    """Return the time of a program by the paper's model, seconds."""
    chip, seconds = prices.scenario.chip, 0.0
    for operations, times in program.sections():
        for o in operations:
            seconds += times * (paper_compute(o, chip) if isinstance(o, Compute) else paper_collective(o, chip))
    return seconds


def total_bytes(held: Memory) -> float:
    """Return what a chip must hold, bytes."""
    return held.weights + held.kv_cache + held.activations

