"""The price of a candidate before its simulation: memory, the closed forms, and a lower bound of the simulated time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from torussim import padding
from torussim.alike import alike
from torussim.chips import Chip
from torussim.choice import chosen
from torussim.closed_forms import axes_seconds, paper_collective, paper_compute
from torussim.collectives.lower import DIRECT, algorithm_of
from torussim.critical_path import least_seconds
from torussim.engine.prepared import Prepared
from torussim.errors import LayoutError, ShardingError
from torussim.fronts import Fronts
from torussim.layouts import Layout
from torussim.memory import Memory, memory
from torussim.outlines import Outlines
from torussim.places import places_of, runs
from torussim.planner.candidates import Candidate, uncut
from torussim.program import Collective, Compute, Program, unlike_cases
from torussim.scenario import Scenario
from torussim.topology.grid import Grid, grid_of
from torussim.transformer import Builder, build
from torussim.workload import Forward, Workload, passes

STAGED = "stages"  # the axis of a pipeline among those of a mesh
PIECES = 4  # parts of a long decode, each with one bound


@dataclass(frozen=True, eq=False)
class Priced:
    """A candidate that fits the model, with its batch padded; seconds are of all passes of its phase.

    `least_s` is a lower bound of the simulated time; `tight` says whether it is the best available bound. `axes_s` is the closed
    form axis by axis, and `paper_s` the closed form of the paper's model. `last_s` is the closed form with every pass taken as
    the last one of its length; it decides the padding of the batch.
    """

    candidate: Candidate
    memory: Memory
    least_s: float
    axes_s: float
    paper_s: float
    tight: bool
    last_s: float


@dataclass(frozen=True)
class Misfit:
    """A candidate that does not fit the model, the batch or the mesh, and the reason."""

    candidate: Candidate
    reason: str


class Pricing:
    """The prices of the candidates of one scenario. Values that do not depend on the candidate are computed once."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._nets: dict[tuple[object, ...], Outlines] = {}
        self._fronts: dict[tuple[object, ...], Fronts] = {}
        self._prepared: dict[tuple[object, ...], Prepared] = {}
        self._knots: dict[tuple[str, int], Knots] = {}
        self._priced: dict[tuple[Any, ...], Priced | Misfit] = {}

    def of(self, candidate: Candidate) -> Priced | Misfit:
        """Return the price of a candidate, with its batch padded as `padding` does, and a bound that is fast to compute.

        Meshes that no closed form can distinguish on this network are priced once. So is a batch that other batches are padded
        to.
        """
        outlines = self.outlines(candidate)
        like = _like(candidate.layout, outlines)
        found, reason = list[tuple[Priced, float, bool]](), ""
        try:
            assert self.scenario.model is not None
            every = padding.variants(lambda _, heads: replace(like, heads=heads), self.scenario.model, candidate.batch,
                                     dict(zip(outlines.net.axes, outlines.net.shape)), self.workload(candidate.batch).draft_model)
        except (LayoutError, ShardingError) as error:
            return Misfit(candidate, str(error))
        for one in every:
            batch = one.batch or candidate.batch
            made = self._made(replace(candidate, batch=batch, layout=replace(one, batch=batch)))
            if isinstance(made, Misfit):
                reason = made.reason
            else:
                found.append((made, made.last_s, made.memory.fits))
        if not found:
            return Misfit(candidate, reason)
        best = padding.best(found)
        run, layout = best.candidate.batch, best.candidate.layout
        return replace(best, candidate=replace(candidate, layout=replace(
            candidate.layout, heads=layout.heads, draft_heads=layout.draft_heads, batch=None if run == candidate.batch else run)))

    def _made(self, candidate: Candidate) -> Priced | Misfit:
        """Return the price of a candidate without padding. A named table is priced once."""
        one = candidate.layout
        if not isinstance(one.ffn, str):
            return self._price(candidate)
        values = [getattr(one, key.name) for key in fields(one)]
        key = (candidate.phase, tuple(candidate.parts.items()),
               *(tuple(value.items()) if isinstance(value, Mapping) else value for value in values))
        if key not in self._priced:
            self._priced[key] = self._price(candidate)
        return self._priced[key]

    def _price(self, candidate: Candidate) -> Priced | Misfit:
        model, chip, layout = self.scenario.model, self.scenario.chip, candidate.layout
        outlines = self.outlines(candidate)
        axes = dict(zip(outlines.net.axes, outlines.net.shape))
        assert model is not None
        workload, knots = self.workload(candidate.batch), self.knots(candidate.phase, candidate.batch)
        try:
            builders = {forward: Builder(model, layout, forward, axes) for forward in knots.forwards}
            built = _built(builders)
            held = memory(model, layout, workload, axes, chip.hbm_bytes, candidate.phase, builders=builders)
        except (LayoutError, ShardingError) as error:
            return Misfit(candidate, str(error))
        ready = {forward: chosen(program, outlines, chip) for forward, program in built.items()}
        seconds = {forward: axes_seconds(ready[forward], outlines, chip)
                   for forward in dict.fromkeys(forward for forward, _ in (*knots.middles, *knots.lasts))}
        paper_s = sum(times * _paper(built[forward], axes, chip)[1] for forward, times in knots.middles)
        axes_s, last_s = (sum(times * seconds[forward] for forward, times in some) for some in (knots.middles, knots.lasts))
        rings, equal = rings_of(outlines.net)
        rings = rings and not any(map(_inexact, ready.values()))
        if rings and equal and knots.firsts == knots.middles:
            least = axes_s
        elif rings:
            least = sum(times * axes_seconds(ready[forward], outlines, chip, fastest=True) for forward, times in knots.firsts)
        else:
            least = sum(times * _paper(built[forward], axes, chip)[0] for forward, times in knots.firsts)
        return Priced(candidate, held, least, axes_s, paper_s, rings and equal, last_s)

    def tightened(self, priced: Priced) -> Priced:
        """Return a candidate with the best available bound."""
        one, fronts, model = priced.candidate, self.fronts(priced.candidate), self.scenario.model
        net = fronts.outlines.net
        assert model is not None
        least = sum(times * least_seconds(build(model, one.layout, forward, dict(zip(net.axes, net.shape))), fronts,
                                          self.scenario.chip) for forward, times in self.knots(one.phase, one.batch).firsts)
        return replace(priced, least_s=max(priced.least_s, least), tight=True)

    def programs(self, candidate: Candidate) -> tuple[Program, ...]:
        """Return the programs of the passes that are priced, of a candidate with its batch padded. They determine its time."""
        net, model = self.outlines(candidate).net, self.scenario.model
        assert model is not None
        axes = dict(zip(net.axes, net.shape))
        forwards = self.knots(candidate.phase, candidate.batch).forwards
        return tuple(_built({forward: Builder(model, candidate.layout, forward, axes) for forward in forwards}).values())

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

    def outlines(self, candidate: Candidate) -> Outlines:
        """Return the effects of collectives on the scenario's network with its axes cut as a candidate needs them."""
        key = tuple(candidate.parts.items())
        if key not in self._nets:
            net = uncut(self.scenario)
            if candidate.parts:
                net = grid_of(net.links, parts=candidate.parts, routing=net.routing, graph=net.graph)
            self._nets[key] = Outlines(net)
        return self._nets[key]

    def fronts(self, candidate: Candidate) -> Fronts:
        """Return the longest paths through collectives on that network."""
        key = tuple(candidate.parts.items())
        if key not in self._fronts:
            self._fronts[key] = Fronts(self.outlines(candidate), self.scenario.chip)
        return self._fronts[key]

    def prepared(self, candidate: Candidate) -> Prepared:
        """Return that network, prepared for many runs."""
        key = tuple(candidate.parts.items())
        if key not in self._prepared:
            self._prepared[key] = Prepared(self.outlines(candidate).net)
        return self._prepared[key]


def rings_of(net: Grid) -> tuple[bool, bool]:
    """Return whether all axes are healthy, constant rings or have two chips, and whether the links of each axis are equal.

    In the first case the closed form with the fastest links is a bound. Where the links are equal it is the simulated time.
    """
    links = net.links
    rings = not (links.twist or links.events or any(net.gaps) or len(links.nodes) > len(links.chips) or (links.axis < 0).any())
    rings = rings and all(ring or length <= 2 for ring, length in zip(net.ring, net.shape))
    ends = [net.extremes(axis) for axis in net.axes]
    return rings, rings and all(one.slowest == one.fastest and one.shortest == one.longest for one in ends)


def _built(builders: Mapping[Forward, Builder]) -> dict[Forward, Program]:
    """Return the program of each pass; of passes that differ only in attention one is built, that of the most tokens."""
    todo = sorted(builders, key=lambda one: (one.length, one.attended), reverse=True)
    one = builders[todo[0]]
    groups = alike(one.model, {todo[0].phase: one.layout}, todo, one.whole[1], builders)
    return dict(zip(todo, [group.of(i) for group in groups for i in range(len(group))]))


def _inexact(program: Program) -> bool:
    """Return whether the closed form of a program is no bound: messages are routed or unequal, or an algorithm is user-defined.

    So is that of a program whose chips have unequal work, or whose operations run at some places only.
    """
    for o in program.operations():
        if o.on or (isinstance(o, Compute) and o.cases):
            return True
        if isinstance(o, Collective) and (o.matrix or o.groups or callable(name := algorithm_of(o)) or name in DIRECT):
            return True
    return False


def _like(layout: Layout, outlines: Outlines) -> Layout:
    """Return a layout for all that no closed form distinguishes from this one."""
    staged = {STAGED: (layout.pipeline.axis,)} if layout.pipeline else {}
    mesh = outlines.like({**layout.mesh, **staged})
    axes = mesh.pop(STAGED, ())
    return replace(layout, mesh=mesh, pipeline=layout.pipeline and layout.pipeline._replace(axis=axes[0]))


@dataclass(frozen=True)
class Knots:
    """The passes that represent a phase, each with the number of passes that it represents.

    Each of `firsts` represents later passes, which attend to as much or more, so that its bound holds for them. Each of `middles`
    represents as many passes before it as after it. `lasts` has the last pass of each length, which the padding of the batch
    uses.
    """

    firsts: Sequence[tuple[Forward, int]]
    middles: Sequence[tuple[Forward, int]]
    lasts: Sequence[tuple[Forward, int]]
    forwards: Sequence[Forward]

    @staticmethod
    def of(workload: Workload, phase: str) -> Knots:
        """Return the passes that represent a phase."""
        todo = [f for f in passes(workload) if f.phase == phase]
        runs: dict[int, list[Forward]] = {}
        for forward in todo:
            runs.setdefault(forward.length, []).append(forward)
        firsts, middles = list[tuple[Forward, int]](), list[tuple[Forward, int]]()
        lasts = [(run[-1], len(run)) for run in runs.values()]
        for run in runs.values():
            step = max(1, -(-len(run) // PIECES))
            for begin in range(0, len(run), step):
                piece = run[begin:begin + step]
                firsts.append((piece[0], len(piece)))
                middles.append((piece[len(piece) // 2], len(piece)))
        needed = [*(f for f, _ in (*firsts, *middles, *lasts)), max(todo, key=lambda f: f.length), todo[-1]]
        return Knots(firsts, middles, lasts, tuple(dict.fromkeys(needed)))


def _paper(program: Program, axes: Mapping[str, int], chip: Chip) -> tuple[float, float]:
    """Return the time of a program by the paper's model, at the place with the most: of its computations, and of all, seconds.

    That of the computations is a lower bound of any simulation.
    """
    found = list[tuple[float, float]]()
    for place in places_of(program, axes):
        compute = moved = 0.0
        for operations, times in program.sections():
            for o in operations:
                if not runs(o, place):
                    continue
                if isinstance(o, Compute):
                    compute += times * min(paper_compute(case, chip) for case in unlike_cases(o))
                else:
                    moved += times * paper_collective(o, chip)
        found.append((compute, moved))
    return max(compute for compute, _ in found), max(compute + moved for compute, moved in found)


def total_bytes(held: Memory) -> float:
    """Return the bytes that a chip must hold."""
    return held.weights + held.kv_cache + held.activations

