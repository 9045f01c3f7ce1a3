"""The closed form of a program on one chip that represents all, axis by axis: steps and bytes, without a schedule.

It is exact on rings with equal links. On lines every chip is treated like the one at the end. If links differ, all are as slow as
the slowest. A ring with a detour round a dead link is as slow as the links that the detours share.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from torussim.cost import overhead_seconds
from torussim.prices import Link, Pieces, Prices, Step, Timing
from torussim.program import Collective, Compute, Operation


@dataclass(frozen=True, eq=False)
class Ready:
    """An operation of a list, with the values that are equal in each run; `after` has the indices of its dependencies.

    `partner` is the other half of its loop. `timing` is that of a collective; `pieces` are those of a looped matmul; `fixed` and
    `busy` are seconds of any other compute operation. `meets`: the clocks of other places decide on its start ("start") or on its
    end ("end"): see `Clock.steps`.
    """

    after: tuple[int, ...]
    partner: int | None = None
    timing: Timing | None = None
    pieces: Pieces | None = None
    fixed: float = 0.0
    busy: float = 0.0
    meets: str = ""


@dataclass
class Clock:
    """One chip that represents all: the times at which its unit and its links are free, and the end of each operation."""

    prices: Prices
    fastest: bool = False
    last: float = 0.0
    latest: float = 0.0  # the end of all lists so far
    unit: float = 0.0
    links: dict[Link, float] = field(default_factory=dict)

    def ready(self, operations: tuple[Operation, ...]) -> tuple[Ready, ...]:
        """Return a list of operations prepared for one or several runs."""
        prices = self.prices
        place = {o.name: i for i, o in enumerate(operations)}
        loops = {o.loop.collective: o.loop for o in operations if isinstance(o, Compute) and o.loop}
        matmuls = {o.loop.collective: i for i, o in enumerate(operations) if isinstance(o, Compute) and o.loop}
        found = []
        for i, o in enumerate(operations):
            after = tuple([place[name] for name in o.after]) if o.after is not None else (i - 1,) if i else ()
            if isinstance(o, Collective):
                found.append(Ready(after, matmuls.get(o.name), prices.collective(o, loops.get(o.name), self.fastest)))
            elif o.loop is not None:
                partner = place[o.loop.collective]
                collective = operations[partner]
                assert isinstance(collective, Collective)
                found.append(Ready(after, partner, pieces=prices.pieces(o, collective, o.loop)))
            else:
                found.append(Ready(after, fixed=overhead_seconds(o, prices.chip), busy=prices.compute(o)))
        return tuple(found)

    def section(self, operations: tuple[Ready, ...]) -> None:
        """Run one list of operations that no other place has a part in."""
        for _ in self.steps(operations):
            raise AssertionError("an operation meets the clocks of other places")

    def steps(self, operations: tuple[Ready, ...]) -> Generator[float, float, None]:
        """Run one list of operations. A looped pair runs at its second half.

        Where an operation meets other places: yield the time at which it can start here, and be sent its start or its end.
        """
        begin, ends = self.last, [0.0] * len(operations)
        waiting: dict[int, float] = {}  # first halves: the times at which they can start
        for i, o in enumerate(operations):
            at = max([ends[a] for a in o.after if a not in waiting], default=begin)
            if o.meets == "end":
                ends[i] = self.last = yield at
                continue
            if o.meets:
                at = yield at
            if o.partner is None:
                if o.timing:
                    ends[i] = self.collective(o.timing, at)
                else:
                    ends[i] = self.unit = max(at, self.unit) + o.fixed + o.busy
            elif o.partner not in waiting:
                waiting[i] = at
                continue
            else:
                other, first = operations[o.partner], waiting.pop(o.partner)
                if o.timing and other.pieces:
                    ends[o.partner], ends[i] = self.scatter_loop(other.pieces, o.timing, max(first, self.unit), at)
                elif o.pieces and other.timing:
                    ends[o.partner], ends[i] = self.gather_loop(other.timing, o.pieces, first, max(first, at))
            self.last = ends[i]
        self.latest = max([self.latest, *ends])

    def collective(self, timing: Timing, at: float, fed: Mapping[Step, float] | None = None,
                   due: dict[Step, float] | None = None) -> float:
        """Return the end of a collective that starts at `at`.

        `fed` gives the time at which the matmul before it has made the data of a step; `due` receives the arrival of each step.
        """
        base = at + timing.start
        if timing.direct is not None:
            return base + timing.direct
        links, done = self.links, dict[int, float]()
        for leg in timing.legs:
            begin = end = done.get(leg.part, base)
            (plus, _, _), (minus, _, _) = leg.ways
            same = leg.alike and links.get(plus) == links.get(minus)
            for link, steps, seconds in leg.ways[:1] if same else leg.ways:
                if not steps:
                    continue
                clock = links.get(link, 0.0)
                if clock < begin:
                    clock = begin
                if fed:
                    for step, busy, late in zip(steps, seconds[::2], seconds[1::2]):
                        if clock < fed.get(step, clock):
                            clock = fed[step]
                        free = clock + busy
                        clock = free + late
                else:
                    *_, free, clock = times = list(accumulate(seconds, initial=clock))
                    if due is not None:
                        for step, there in zip(steps, times[2::2]):
                            if there > due.get(step, -1.0):
                                due[step] = there
                links[link] = free
                if end < clock + leg.once:
                    end = clock + leg.once
            if same:
                links[minus] = links[plus]
            done[leg.part] = end
        return max([base, *done.values()])

    def gather_loop(self, gather: Timing, matmul: Pieces, at: float, matmul_at: float) -> tuple[float, float]:
        """Return the end of the gather and of the matmul looped with it."""
        due: dict[Step, float] = {}
        gathered = self.collective(gather, at, due=due)
        clock = max(matmul_at, self.unit) + matmul.fixed
        for key, seconds in matmul.pieces:
            clock = (clock if key is None else max(clock, due[key])) + seconds
        self.unit = clock
        return gathered, clock

    def scatter_loop(self, matmul: Pieces, scatter: Timing, started: float, at: float) -> tuple[float, float]:
        """Return the end of the matmul and of the scatter looped with it."""
        clock = started + matmul.fixed
        fed: dict[Step, float] = {}
        for key, seconds in matmul.pieces:
            clock += seconds
            if key is not None:
                fed[key] = clock
        self.unit = clock
        return clock, max(clock, self.collective(scatter, max(at, started), fed=fed))

    def repeat(self, operations: tuple[Ready, ...], times: int) -> None:
        """Run a list a number of times, or until its state repeats: all further runs then take as long as the last."""
        states = list[list[float]]()
        for done in range(times):
            before = self.last
            self.section(operations)
            duration = self.last - before
            states.append(self.state())
            if done and alike(states[-2], states[-1], duration):
                return self.leap(duration * (times - done - 1))

    def leap(self, later: float) -> None:
        """Go on by some seconds, after which everything is as now."""
        self.last += later
        self.latest += later
        self.unit += later
        self.links = {k: v + later for k, v in self.links.items()}

    def state(self) -> list[float]:
        """Return the state that determines the future, relative to the clock."""
        return [max(self.unit - self.last, 0.0)] + [max(v - self.last, 0.0) for _, v in sorted(self.links.items())]


def alike(before: list[float], after: list[float], duration: float) -> bool:
    """Return whether two states are the same, to rounding errors in the time between them."""
    return len(before) == len(after) and all(abs(a - b) <= 1e-13 * duration for a, b in zip(after, before))
