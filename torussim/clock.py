"""The closed form of a program on one chip that stands for all, axis by axis: steps and bytes, without any schedule.

Exact on rings whose links are all alike. On lines every chip is taken for the one at the end; where links differ, all are as
slow as the slowest; a ring that goes round a dead link is as slow as what its detours have to share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from torussim.chips import Chip
from torussim.collectives.axes import ring_order
from torussim.collectives.contract import Phase
from torussim.collectives.lower import DIRECT, algorithm_of, lower, view, weights
from torussim.cost import Stretch, compute_seconds, shard_seconds, start_seconds, stretches
from torussim.program import Collective, Compute, Loop, Operation
from torussim.topology.grid import Grid
from torussim.topology.hops import slowest


@dataclass
class Clock:
    """One chip that stands for all: when its unit and its links are free, and when each operation ended."""

    net: Grid
    chip: Chip
    fastest: bool = False
    last: float = 0.0
    latest: float = 0.0  # when all of the lists so far is done
    unit: float = 0.0
    links: dict[tuple[str, int], float] = field(default_factory=dict)
    rates: dict[tuple[str, bool, tuple[bool, ...]], tuple[float, float, float]] = field(default_factory=dict)

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
                ends[o.name] = self.unit = max(at, self.unit) + self.chip.op_overhead * o.kernels + compute_seconds(o, self.chip)
            self.last = ends[o.name]
        self.latest = max([self.latest, *ends.values()])

    def collective(self, o: Collective, at: float, loop: Loop | None = None,
                   fed: Mapping[tuple[int, int], float] | None = None,
                   due: dict[tuple[int, int], float] | None = None) -> float:
        """Return when a collective that starts at `at` is done."""
        phases = phases_of(o, self.net, loop)
        done = dict[int, float]()
        base = at + start_seconds(o, prod(self.net.length(a) for a in o.axes), self.chip)
        if algorithm_of(o) in DIRECT:
            return base + self.direct(o)
        net = view(o, self.net)
        for stretch in phases:
            begin = done.get(stretch.part, base)
            end = begin
            rate, late, once = self.link(stretch.axis, net, o.detour is not False)
            for direction, sends in enumerate(stretch.sends):
                clock = begin
                free = self.links.get((stretch.axis, direction), 0.0)
                for step, size in sends:
                    key = (stretch.index, step)
                    free = max(clock, free, (fed or {}).get(key, clock)) + size / (rate * self.chip.link_efficiency)
                    clock = free + late
                    if due is not None:
                        due[key] = max(due.get(key, 0.0), clock)
                self.links[stretch.axis, direction] = free
                end = max(end, clock + once if sends else clock)
            done[stretch.part] = end
        return max([base, *done.values()])

    def gather_loop(self, gather: Collective, matmul: Compute, at: float, matmul_at: float) -> tuple[float, float]:
        """Return when the gather and the matmul looped with it end."""
        assert matmul.loop is not None
        due: dict[tuple[int, int], float] = {}
        gathered = self.collective(gather, at, matmul.loop, due=due)
        clock = max(matmul_at, self.unit) + self.chip.op_overhead * matmul.kernels
        for key, seconds in pieces_of(gather, matmul, matmul.loop, self.net, self.chip):
            clock = (clock if key is None else max(clock, due[key])) + seconds
        self.unit = clock
        return gathered, clock

    def scatter_loop(self, matmul: Compute, scatter: Collective, started: float, at: float) -> tuple[float, float]:
        """Return when the matmul and the scatter looped with it end."""
        assert matmul.loop is not None
        clock = started + self.chip.op_overhead * matmul.kernels
        fed: dict[tuple[int, int], float] = {}
        for key, seconds in pieces_of(scatter, matmul, matmul.loop, self.net, self.chip):
            clock += seconds
            if key is not None:
                fed[key] = clock
        self.unit = clock
        return clock, max(clock, self.collective(scatter, max(at, started), matmul.loop, fed=fed))

    def link(self, axis: str, net: Grid, detour: bool = True) -> tuple[float, float, float]:
        """Return bandwidth and latency of the slowest (fastest) hop of an axis, or of a ring over several; bytes/s, s.

        Third: what a message loses once on its way by going round a dead link, s.
        """
        key = axis, detour, net.ring
        if key not in self.rates:
            names = axis.split("+")
            of = [net.extremes(a) for a in names]
            rate, late = (max(e.fastest for e in of), min(e.shortest for e in of)) if self.fastest else (
                min(e.slowest for e in of), max(e.longest for e in of))
            gaps = [a for a in names if net.gap[net.axis(a)].any() and (detour or not runs_as_line(net, a))]
            once = 0.0
            for a in gaps if not self.fastest else ():
                shared, latency, more = slowest(net, net.axis(a), self.chip.shared_efficiency)
                rate, late, once = min(rate, shared), max(late, latency), max(once, more)
            self.rates[key] = rate, late, once
        return self.rates[key]

    def direct(self, o: Collective) -> float:
        """Return the time of a routed all-to-all: what the busiest link of any axis must carry, and the longest way.

        D k / 8 on an even ring of k, D (k - 1/k) / 8 on an odd one, each way; on a line what crosses its middle. In shifts:
        the busiest axis of each displacement, one after another. On a twisted torus an axis is taken as if it were not.
        """
        seconds = far = 0.0
        lengths = {a: self.net.length(a) for a in o.axes if self.net.length(a) > 1}
        messages = prod(lengths.values())
        rates = {}
        for a, k in lengths.items():
            rate, late, _ = self.link(a, self.net)
            axis = self.net.axis(a)
            ring = self.net.ring[axis] or self.net.links.ring[list(self.net.links.axes).index(a.partition("/")[0])]
            alone = k <= 3 and len(lengths) == 1
            rates[a] = rate * self.chip.link_efficiency * (1.0 if alone else self.chip.shared_efficiency), ring
            crossing = (k / 8 if k % 2 == 0 else (k - 1 / k) / 8) if ring and k > 2 else (k // 2) * ((k + 1) // 2) / k
            seconds = max(seconds, o.bytes * crossing / rates[a][0])
            far += late * (k // 2 if ring else k - 1)
        if algorithm_of(o) == "direct":
            return seconds + far
        total = 0.0
        for move in range(1, messages):
            longest = 0.0
            for a, k in reversed(lengths.items()):
                move, d = divmod(move, k)
                rate, ring = rates[a]
                hops = min(d, k - d)
                longest = max(longest, (hops / 2 if ring and 2 * hops == k else hops) * o.bytes / messages / rate)
            total += longest
        return total + far * (messages - 1)

    def state(self) -> list[float]:
        """Return what the future can see, relative to the clock."""
        return [max(self.unit - self.last, 0.0)] + [max(v - self.last, 0.0) for _, v in sorted(self.links.items())]


def phases_of(o: Collective, net: Grid, loop: Loop | None) -> list[Stretch]:
    """Return the phases of a collective on the axes of a network, as one chip sees them."""
    net = view(o, net)
    lengths = {a: net.length(a) for a in o.axes if net.length(a) > 1}
    ring = {a: net.ring[net.axis(a)] and not (o.detour is False and runs_as_line(net, a)) for a in lengths}
    name, way = algorithm_of(o), loop.kind if loop else o.direction
    if not lengths or name in DIRECT:
        return []
    if callable(name):
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


def broken(o: Collective, net: Grid) -> list[str]:
    """Return the axes of a collective on which rings lack a link, and could run as lines instead."""
    if o.kind == "permute" or algorithm_of(o) not in ("multi_axis", "sequential", "dimension_wise"):
        return []
    return [a for a in o.axes if runs_as_line(view(o, net), a)]


def runs_as_line(net: Grid, axis: str) -> bool:
    """Return whether some ring along an axis lacks a link."""
    i = net.axis(axis)
    return net.ring[i] and net.stride[i] == 1 and bool(net.gap[i].any())


def goes_round(axis: str, net: Grid) -> bool:
    """Return whether an axis, or the one ring through several (joined by +), closes."""
    names = axis.split("+")
    order, closed = ring_order([net.length(a) for a in names], [net.ring[net.axis(a)] for a in names])
    return closed and len(order) > 2


def pieces_of(o: Collective, matmul: Compute, loop: Loop, net: Grid,
              chip: Chip) -> list[tuple[tuple[int, int] | None, float]]:
    """Return the pieces of a looped matmul on a ring's chip, or a line's end: ((phase, step) or None, seconds)."""
    shard, gathers = shard_seconds(matmul, loop, chip), o.kind == "all_gather"
    chips = prod(net.length(a) for a in o.axes)
    share: dict[tuple[int, int], float] = {}
    net = view(o, net)
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
