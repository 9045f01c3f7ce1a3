"""The closed form of a program on one chip that stands for all, axis by axis: steps and bytes, without any schedule.

Exact on rings whose links are all alike. On lines every chip is taken for the one at the end; where links differ, all are as
slow as the slowest; a ring that goes round a dead link is as slow as what its detours have to share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from torussim.chips import Chip
from torussim.collectives.lower import algorithm_of
from torussim.cost import compute_seconds, shard_seconds, start_seconds
from torussim.outlines import Lane, Outlines, Pace, Step
from torussim.program import Collective, Compute, Loop, Operation


@dataclass(frozen=True, eq=False)
class Ready:
    """An operation of a list, what is the same each time it runs: which operations of the list it waits for, by index.

    `partner`: the other half of its loop; `fixed`, `busy`: seconds of a compute operation that is not looped.
    """

    operation: Operation
    after: tuple[int, ...]
    partner: int | None = None
    fixed: float = 0.0
    busy: float = 0.0


@dataclass
class Clock:
    """One chip that stands for all: when its unit and its links are free, and when each operation ended."""

    outlines: Outlines
    chip: Chip
    fastest: bool = False
    last: float = 0.0
    latest: float = 0.0  # when all of the lists so far is done
    unit: float = 0.0
    links: dict[tuple[str, int], float] = field(default_factory=dict)

    def ready(self, operations: tuple[Operation, ...]) -> tuple[Ready, ...]:
        """Return a list of operations made ready to be run, once or again and again."""
        place = {o.name: i for i, o in enumerate(operations)}
        loops = {o.loop.collective: i for i, o in enumerate(operations) if isinstance(o, Compute) and o.loop}
        found = []
        for i, o in enumerate(operations):
            after = tuple(place[name] for name in o.after) if o.after is not None else (i - 1,) if i else ()
            if isinstance(o, Collective):
                found.append(Ready(o, after, loops.get(o.name)))
            elif o.loop is not None:
                found.append(Ready(o, after, place[o.loop.collective]))
            else:
                found.append(Ready(o, after, None, self.chip.op_overhead * o.kernels, compute_seconds(o, self.chip)))
        return tuple(found)

    def section(self, operations: tuple[Ready, ...]) -> None:
        """Run one list of operations; a looped pair runs when its second half comes."""
        begin, ends = self.last, [0.0] * len(operations)
        waiting: dict[int, float] = {}  # first halves: when they could start
        for i, ready in enumerate(operations):
            o, partner = ready.operation, ready.partner
            at = max([ends[a] for a in ready.after if a not in waiting], default=begin)
            if partner is None:
                if isinstance(o, Collective):
                    ends[i] = self.collective(o, at)
                else:
                    ends[i] = self.unit = max(at, self.unit) + ready.fixed + ready.busy
            elif partner not in waiting:
                waiting[i] = at
                continue
            elif isinstance(o, Collective):
                matmul = operations[partner].operation
                assert isinstance(matmul, Compute) and matmul.loop
                started = max(waiting.pop(partner), self.unit)
                ends[partner], ends[i] = self.scatter_loop(matmul, o, matmul.loop, started, at)
            else:
                gather = operations[partner].operation
                assert isinstance(gather, Collective) and o.loop
                first = waiting.pop(partner)
                ends[partner], ends[i] = self.gather_loop(gather, o, o.loop, first, max(first, at))
            self.last = ends[i]
        self.latest = max([self.latest, *ends])

    def collective(self, o: Collective, at: float, loop: Loop | None = None, fed: Mapping[Step, float] | None = None,
                   due: dict[Step, float] | None = None) -> float:
        """Return when a collective that starts at `at` is done; `due` is told when each step is there."""
        outline = self.outlines.of(o, loop)
        base = at + start_seconds(o, outline.chips, self.chip)
        if outline.direct:
            return base + self.direct(o)
        done = dict[int, float]()
        for line in outline.lines:
            stretch = line.stretch
            begin = end = done.get(stretch.part, base)
            rate, late, once = self.pace(line.lane)
            rate *= self.chip.link_efficiency
            plus, minus = (stretch.axis, 0), (stretch.axis, 1)
            same = line.alike and self.links.get(plus) == self.links.get(minus)
            for link, sends in ((plus, stretch.sends[0]),) if same else ((plus, stretch.sends[0]), (minus, stretch.sends[1])):
                clock, free = begin, self.links.get(link, 0.0)
                for step, size in sends:
                    ready = fed.get((stretch.index, step), clock) if fed else clock
                    free = max(clock, free, ready) + size / rate
                    clock = free + late
                    if due is not None:
                        key = stretch.index, step
                        due[key] = max(due.get(key, 0.0), clock)
                self.links[link] = free
                end = max(end, clock + once if sends else clock)
            if same:
                self.links[minus] = self.links[plus]
            done[stretch.part] = end
        return max([base, *done.values()])

    def gather_loop(self, gather: Collective, matmul: Compute, loop: Loop, at: float, matmul_at: float) -> tuple[float, float]:
        """Return when the gather and the matmul looped with it end."""
        due: dict[Step, float] = {}
        gathered = self.collective(gather, at, loop, due=due)
        clock = max(matmul_at, self.unit) + self.chip.op_overhead * matmul.kernels
        for key, seconds in self.pieces(gather, matmul, loop):
            clock = (clock if key is None else max(clock, due[key])) + seconds
        self.unit = clock
        return gathered, clock

    def scatter_loop(self, matmul: Compute, scatter: Collective, loop: Loop, started: float, at: float) -> tuple[float, float]:
        """Return when the matmul and the scatter looped with it end."""
        clock = started + self.chip.op_overhead * matmul.kernels
        fed: dict[Step, float] = {}
        for key, seconds in self.pieces(scatter, matmul, loop):
            clock += seconds
            if key is not None:
                fed[key] = clock
        self.unit = clock
        return clock, max(clock, self.collective(scatter, max(at, started), loop, fed=fed))

    def pieces(self, o: Collective, matmul: Compute, loop: Loop) -> list[tuple[Step | None, float]]:
        """Return the pieces of a looped matmul: (the step that brings or takes it or None, seconds)."""
        shard = shard_seconds(matmul, loop, self.chip)
        return [(key, shard if key is None else share * shard + self.chip.loop_step)
                for key, share in self.outlines.of(o, loop).pieces]

    def pace(self, lane: Lane) -> Pace:
        """Return bandwidth and latency of a lane, and what a message loses once by going round a dead link; bytes/s, s."""
        return self.outlines.pace(lane, self.fastest, self.chip.shared_efficiency)

    def direct(self, o: Collective) -> float:
        """Return the time of a routed all-to-all: what the busiest link of any axis must carry, and the longest way.

        D k / 8 on an even ring of k, D (k - 1/k) / 8 on an odd one, each way; on a line what crosses its middle. In shifts:
        the busiest axis of each displacement, one after another. On a twisted torus an axis is taken as if it were not.
        """
        seconds, far, net = 0.0, 0.0, self.outlines.net
        lengths = {a: net.length(a) for a in o.axes if net.length(a) > 1}
        messages = prod(lengths.values())
        rates = {}
        for a, k in lengths.items():
            rate, late, _ = self.pace((a, True, net.ring))
            ring = net.ring[net.axis(a)] or net.links.ring[list(net.links.axes).index(a.partition("/")[0])]
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
