"""Closed forms of a program's time: the paper's, with one bandwidth for the whole chip, and ours, axis by axis.

`axes` is what the engine does when nothing differs from chip to chip: exact on rings, and on lines where the chip at the end
is the last one everywhere. Elsewhere on lines it is an estimate: as if every chip were at the end of its line (`nested` on a
line of 7: 2.6 times the simulation). It also chooses which collective each matmul is looped with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING

from torussim.chips import Chip
from torussim.collectives.axes import ring_order
from torussim.collectives.contract import Phase
from torussim.collectives.lower import algorithm_of, lower, weights
from torussim.cost import Stretch, compute_seconds, stretches
from torussim.program import Collective, Compute, Loop, Operation, Program
from torussim.topology.grid import Grid, grid

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Estimate:
    """Seconds of the whole program by the paper's model and by ours; `collective_bytes`: D of all collectives, one chip."""

    paper_s: float
    paper_compute_s: float
    paper_collective_s: float
    collective_bytes: float
    axes_s: float


def estimate(program: Program, topology: nx.DiGraph | Grid, chip: Chip) -> Estimate:
    """Return both closed forms; the same arguments as `simulate`. Where links of an axis differ, `axes` takes the slowest."""
    net = topology if isinstance(topology, Grid) else grid(topology)
    compute = collective = size = 0.0
    for operations, times in program.sections():
        for o in operations:
            if isinstance(o, Compute):
                compute += times * paper_compute(o, chip)
            else:
                collective += times * paper_collective(o, chip)
                size += times * o.bytes
    return Estimate(compute + collective, compute, collective, size, axes_seconds(program, net, chip))


def paper_compute(compute: Compute, chip: Chip) -> float:
    """Return max(FLOP / peak, HBM bytes / bandwidth): no tiles, efficiencies 1, no overhead (paper, section 2.1)."""
    return max(compute.total_flops / chip.rate(compute.dtype), compute.hbm_bytes / chip.hbm_bandwidth)


def paper_collective(collective: Collective, chip: Chip) -> float:
    """Return D over the bandwidth of all the chip's links, twice for an all-reduce (paper, A.1; (K-1)/K dropped)."""
    return collective.bytes * (2 if collective.kind == "all_reduce" else 1) / (chip.links * chip.link_bandwidth)


@dataclass
class _Clock:
    """One chip that stands for all: when its unit and its links are free, and when each operation ended."""

    net: Grid
    chip: Chip
    fastest: bool = False
    last: float = 0.0
    latest: float = 0.0  # when all of the lists so far is done
    unit: float = 0.0
    links: dict[tuple[str, int], float] = field(default_factory=dict)
    rates: dict[str, tuple[float, float]] = field(default_factory=dict)

    def section(self, operations: tuple[Operation, ...]) -> None:
        """Run one list of operations; a looped pair runs when its second half comes."""
        begin, ends, named = self.last, dict[str, float](), {o.name: o for o in operations}
        loops = {o.loop.collective: o for o in operations if isinstance(o, Compute) and o.loop}
        waiting: dict[str, float] = {}  # first halves: when they could start
        for i, o in enumerate(operations):
            after = o.after if o.after is not None else (operations[i - 1].name,) if i else ()
            at = max((ends[a] for a in after if a not in waiting), default=begin)
            matmul = loops.get(o.name) if isinstance(o, Collective) else o
            if matmul is not None and matmul.loop is not None:
                collective = named[matmul.loop.collective]
                assert isinstance(collective, Collective)
                if not {matmul.name, collective.name} & waiting.keys():
                    waiting[o.name] = at
                    continue
                if o is matmul:
                    first = waiting.pop(collective.name)
                    ends[collective.name], ends[o.name] = self.gather_loop(collective, matmul, first, max(first, at))
                else:
                    started = max(waiting.pop(matmul.name), self.unit)
                    ends[matmul.name], ends[o.name] = self.scatter_loop(matmul, collective, started, at)
            elif isinstance(o, Collective):
                ends[o.name] = self.collective(o, at)
            else:
                ends[o.name] = self.unit = max(at, self.unit) + self.chip.op_overhead + compute_seconds(o, self.chip)
            self.last = ends[o.name]
        self.latest = max([self.latest, *ends.values()])

    def collective(self, o: Collective, at: float, loop: Loop | None = None,
                   fed: Mapping[tuple[int, int], float] | None = None,
                   due: dict[tuple[int, int], float] | None = None) -> float:
        """Return when a collective that starts at `at` is done."""
        phases = phases_of(o, self.net, loop)
        done = dict[int, float]()
        base = at + (self.chip.launch if any(self.net.length(a) > 1 for a in o.axes) else 0.0)
        for stretch in phases:
            begin = done.get(stretch.part, base)
            end = begin
            rate, late = self.link(stretch.axis)
            for direction, sends in enumerate(stretch.sends):
                clock = begin
                free = self.links.get((stretch.axis, direction), 0.0)
                for step, size in sends:
                    key = (stretch.index, step)
                    free = max(clock, free, fed[key] if fed is not None else clock) + size / (rate * self.chip.link_efficiency)
                    clock = free + late
                    if due is not None:
                        due[key] = max(due.get(key, 0.0), clock)
                self.links[stretch.axis, direction] = free
                end = max(end, clock)
            done[stretch.part] = end
        return max([base, *done.values()])

    def gather_loop(self, gather: Collective, matmul: Compute, at: float, matmul_at: float) -> tuple[float, float]:
        assert matmul.loop is not None
        due: dict[tuple[int, int], float] = {}
        gathered = self.collective(gather, at, matmul.loop, due=due)
        clock = max(matmul_at, self.unit) + self.chip.op_overhead
        for key, seconds in pieces_of(gather, matmul, matmul.loop, self.net, self.chip):
            clock = (clock if key is None else max(clock, due[key])) + seconds
        self.unit = clock
        return gathered, clock

    def scatter_loop(self, matmul: Compute, scatter: Collective, started: float, at: float) -> tuple[float, float]:
        assert matmul.loop is not None
        clock = started + self.chip.op_overhead
        fed: dict[tuple[int, int], float] = {}
        for key, seconds in pieces_of(scatter, matmul, matmul.loop, self.net, self.chip):
            clock += seconds
            if key is not None:
                fed[key] = clock
        self.unit = clock
        return clock, max(clock, self.collective(scatter, max(at, started), matmul.loop, fed=fed))

    def link(self, axis: str) -> tuple[float, float]:
        """Return bandwidth and latency of the slowest (fastest) link of an axis, or of a ring over several; bytes/s, s."""
        if axis not in self.rates:
            of = [self.net.extremes(a) for a in axis.split("+")]
            self.rates[axis] = (max(e.fastest for e in of) if self.fastest else min(e.slowest for e in of),
                                min(e.shortest for e in of) if self.fastest else max(e.longest for e in of))
        return self.rates[axis]

    def state(self) -> list[float]:
        """Return what the future can see, relative to the clock."""
        return [max(self.unit - self.last, 0.0)] + [max(v - self.last, 0.0) for _, v in sorted(self.links.items())]


def phases_of(o: Collective, net: Grid, loop: Loop | None) -> list[Stretch]:
    """Return the phases of a collective on the axes of a network, as one chip sees them."""
    lengths = {a: net.length(a) for a in o.axes if net.length(a) > 1}
    ring = {a: net.ring[net.axis(a)] for a in lengths}
    if not lengths:
        return []
    name, way = algorithm_of(o), loop.kind if loop else o.direction
    if ":" in name:
        return [_stretch(phase) for phase in lower(o, net, way=way).phases]
    shares = weights(o, net, lengths, ring) if name in ("multi_axis", "dimension_wise") else (1.0,)
    if name == "one_ring":
        order, closed = ring_order(list(lengths.values()), list(ring.values()))
        joined = "+".join(lengths)
        lengths, ring, name, shares = {joined: len(order)}, {joined: closed and len(order) > 2}, "multi_axis", (1.0,)
    return stretches(o.kind, name, lengths, ring, o.bytes, way, shares, o.shift)


def _stretch(phase: Phase) -> Stretch:
    """Return a phase of a user's own algorithm as the busiest position of its lane sees it."""
    sends = tuple(tuple((hop.step, float(hop.halves.max()) * phase.block / 2) for hop in phase.pattern.hops if hop.sign == sign)
                  for sign in (+1, -1))
    return Stretch(phase.index, phase.part, "+".join(phase.lane.axes), sends)


def goes_round(axis: str, net: Grid) -> bool:
    """Return whether an axis, or the one ring through several (joined by +), closes."""
    names = axis.split("+")
    order, closed = ring_order([net.length(a) for a in names], [net.ring[net.axis(a)] for a in names])
    return closed and len(order) > 2


def pieces_of(o: Collective, matmul: Compute, loop: Loop, net: Grid,
              chip: Chip) -> list[tuple[tuple[int, int] | None, float]]:
    """Return the pieces of a looped matmul on a ring's chip, or a line's end: ((phase, step) or None, seconds)."""
    shard, gathers = compute_seconds(matmul, chip, loop.cut), o.kind == "all_gather"
    chips = prod(net.length(a) for a in o.axes)
    share: dict[tuple[int, int], float] = {}
    phases = phases_of(o, net, loop)
    for stretch in phases:
        for sends in stretch.sends if goes_round(stretch.axis, net) else stretch.sends[:1]:
            for step, size in sends:
                key = (stretch.index, step)
                share[key] = share.get(key, 0.0) + size / o.bytes * chips
    keys = sorted(share)
    own: list[tuple[tuple[int, int] | None, float]] = [(None, shard)]
    merged = (loop.kind == "latency" and len(phases) == 1 and len(keys) * 2 == chips
              and all(goes_round(stretch.axis, net) for stretch in phases))
    if merged:
        share[keys[0] if gathers else keys[-1]] += 1.0
        own = []
    made: list[tuple[tuple[int, int] | None, float]] = [(k, share[k] * shard + chip.loop_step) for k in keys]
    return own + made if gathers else made + own


def axes_seconds(program: Program, net: Grid, chip: Chip, *, fastest: bool = False) -> float:
    """Return the time of the program with every link of an axis as slow as its slowest (fast as its fastest), seconds."""
    program = with_loops(program, net, chip)
    clock = _Clock(net, chip, fastest)
    clock.section(program.prologue)
    durations, states = list[float](), list[list[float]]()
    for done in range(program.layers):
        before = clock.last
        clock.section(program.block)
        durations.append(clock.last - before)
        states.append(clock.state())
        if done and len(states[-1]) == len(states[-2]) and all(
                abs(a - b) <= 1e-13 * durations[-1] for a, b in zip(states[-1], states[-2])):
            later = durations[-1] * (program.layers - done - 1)
            clock.last += later
            clock.latest += later
            clock.unit += later
            clock.links = {k: v + later for k, v in clock.links.items()}
            break
    clock.section(program.epilogue)
    return clock.latest


def chosen(program: Program, net: Grid, chip: Chip) -> Program:
    """Return the program with everything chosen that is chosen by estimate: how broken rings run, and the loops."""
    return with_loops(program, net, chip)


def with_loops(program: Program, net: Grid, chip: Chip) -> Program:
    """Return the program with each matmul that may be looped looped in the fastest way, by estimate.

    Of the gather before a matmul and the scatter after it the longer one is looped, in the fastest of the kinds offered;
    where even that is slower than one after the other, none is. The gather is put next to its matmul.
    """
    if not any(isinstance(o, Compute) and o.loops for o in program.operations()):
        return program
    return replace(program, prologue=_choose(program.prologue, net, chip), block=_choose(program.block, net, chip),
                   epilogue=_choose(program.epilogue, net, chip))


def _choose(operations: tuple[Operation, ...], net: Grid, chip: Chip) -> tuple[Operation, ...]:
    if not any(isinstance(o, Compute) and o.loops for o in operations):
        return operations
    ops: list[Operation] = [replace(o, after=o.after if o.after is not None else (operations[i - 1].name,) if i else ())
                            for i, o in enumerate(operations)]
    taken: set[str] = set()
    for matmul in [o for o in ops if isinstance(o, Compute) and o.loops]:
        named = {o.name: o for o in ops}
        partners = {loop.collective: named[loop.collective] for loop in matmul.loops if loop.collective not in taken}
        alone = {name: _Clock(net, chip).collective(c, 0.0) for name, c in partners.items() if isinstance(c, Collective)}
        chosen = None
        if alone:
            longest = max(alone, key=lambda name: alone[name])
            collective = partners[longest]
            assert isinstance(collective, Collective)
            best = alone[longest] + chip.op_overhead + compute_seconds(matmul, chip)
            for loop in matmul.loops:
                if loop.collective == longest:
                    seconds = _pair(matmul, collective, loop, net, chip)
                    if seconds < best * (1 - 1e-12):
                        best, chosen = seconds, loop
        ops = _beside(ops, chosen.collective, matmul.name) if chosen else ops
        if chosen and abs([o.name for o in ops].index(chosen.collective) - ops.index(matmul)) > 1:
            chosen = None  # something between them waits for it
        ops[ops.index(matmul)] = replace(matmul, loop=chosen, loops=())
        if chosen:
            taken.add(chosen.collective)
    return tuple(ops)


def _pair(matmul: Compute, collective: Collective, loop: Loop, net: Grid, chip: Chip) -> float:
    """Return the time of a matmul looped with its collective, on an idle chip."""
    clock, looped = _Clock(net, chip), replace(matmul, loop=loop)
    if collective.kind == "all_gather":
        return clock.gather_loop(collective, looped, 0.0, 0.0)[1]
    return clock.scatter_loop(looped, collective, 0.0, 0.0)[1]


def _beside(ops: list[Operation], collective: str, matmul: str) -> list[Operation]:
    """Return the list with an all-gather moved to just before its matmul, where nothing between waits for it."""
    names = [o.name for o in ops]
    i, j = names.index(collective), names.index(matmul)
    if i < j - 1 and not any(collective in (o.after or ()) for o in ops[i + 1:j]):
        moved = ops[i]
        return ops[:i] + ops[i + 1:j] + [moved] + ops[j:]
    return ops


@dataclass(frozen=True)
class Charge:
    """One collective of a program, alone on an idle network: what the paper charges it, and what its own axes allow.

    `links`: how many of a chip's `of` links bring it data at once; on a line those of the chip at its end. `times`: how often
    it runs.
    """

    name: str
    kind: str
    axes: tuple[str, ...]
    bytes: float
    times: int
    links: int
    of: int
    paper_s: float
    axes_s: float


def charges(program: Program, net: Grid, chip: Chip) -> list[Charge]:
    """Return every collective that moves something, in program order, as the paper charges it and as its axes allow."""
    found = []
    for operations, times in with_loops(program, net, chip).sections():
        loops = {o.loop.collective: o.loop for o in operations if isinstance(o, Compute) and o.loop}
        for o in operations:
            phases = phases_of(o, net, loops.get(o.name)) if isinstance(o, Collective) else []
            if not isinstance(o, Collective) or not phases:
                continue
            at_once: dict[int, set[tuple[str, int]]] = {}
            for stretch in phases:
                for direction, sends in enumerate(stretch.sends if goes_round(stretch.axis, net) else stretch.sends[:1]):
                    if sends:
                        at_once.setdefault(stretch.index, set()).add((stretch.axis, direction))
            links = max(len(used) for used in at_once.values())
            alone = _Clock(net, chip).collective(o, 0.0, loops.get(o.name))
            found.append(Charge(o.name, o.kind, o.axes, o.bytes, times, links, chip.links, paper_collective(o, chip), alone))
    return found
