"""The times of operations on one network with one chip, in seconds, each computed once, for all candidates of a plan.

The module knows no start and end times: the clock adds them up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, TypeVar

from torussim.chips import Chip
from torussim.collectives.lower import algorithm_of
from torussim.cost import compute_seconds, on_wire, overhead_seconds, shard_seconds, start_seconds
from torussim.program import ALIKE, Collective, Compute, Loop

if TYPE_CHECKING:
    from torussim.outlines import Outlines

KEPT = 2**15  # the most results that are kept, so that a plan of any size fits into memory
Step = tuple[int, int]  # a phase and a step in it
Link = tuple[str, int]  # an axis and a direction: 0 is +, 1 is -
Thing = TypeVar("Thing")


@dataclass(frozen=True, eq=False)
class Leg:
    """One phase of one part on a lane, s.

    `ways` has, for the + and the - direction: the link, the step of each of its messages in order, and for each message the time
    for which it keeps the link busy, and its latency. `alike`: both directions send the same. `once`: the loss of a message,
    once, by a detour round a dead link.
    """

    part: int
    ways: tuple[tuple[Link, tuple[Step, ...], tuple[float, ...]], ...]
    alike: bool
    once: float


@dataclass(frozen=True, eq=False)
class Timing:
    """A collective: seconds from its start to its first send, its phases in queue order, and the time of a routed one, s."""

    start: float
    legs: tuple[Leg, ...]
    direct: float | None = None


@dataclass(frozen=True, eq=False)
class Pieces:
    """A looped matmul: its overhead, s, and its pieces in order: the step that brings or takes it, or None, and seconds."""

    fixed: float
    pieces: tuple[tuple[Step | None, float], ...]


class Prices:
    """The times of operations on one network with one chip; `fastest`: with the fastest links of each axis, else the slowest."""

    def __init__(self, outlines: Outlines, chip: Chip) -> None:
        self.outlines, self.chip = outlines, chip
        self._kept: dict[Hashable, object] = {}

    def once(self, key: Hashable, make: Callable[..., Thing], *given: object) -> Thing:
        """Return the first result of `make` for this key, which must determine the result."""
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            found = self._kept[key] = make(*given)
        return found  # type: ignore[return-value]

    def compute(self, compute: Compute) -> float:
        """Return the seconds of a compute operation without its overhead."""
        return self.once(work(compute), compute_seconds, compute, self.chip)

    def collective(self, o: Collective, loop: Loop | None = None, fastest: bool = False) -> Timing:
        """Return the phases of a collective, alone or looped with a matmul, in seconds."""
        return self.once((self.outlines.key(o, loop), o.pieces, fastest), self._timing, o, loop, fastest)

    def _timing(self, o: Collective, loop: Loop | None, fastest: bool) -> Timing:
        start, o = start_seconds(o, o.largest(self.outlines.net.length), self.chip), on_wire(o, self.chip)
        outline = self.outlines.of(o, loop)
        if outline.direct:
            return Timing(start, (), self._direct(o, fastest))
        legs = []
        for line in outline.lines:
            stretch = line.stretch
            if not any(stretch.sends):
                continue
            rate, late, once = self.outlines.pace(line.lane, fastest, self.chip.shared_efficiency)
            rate *= self.chip.link_efficiency
            ways = tuple([((stretch.axis, direction), tuple([(stretch.index, step) for step, _ in sends]),
                           tuple([s for _, size in sends for s in (size / rate, late)]))
                          for direction, sends in enumerate(stretch.sends)])
            legs.append(Leg(stretch.part, ways, line.alike, once))
        return Timing(start, tuple(legs))

    def pieces(self, matmul: Compute, o: Collective, loop: Loop) -> Pieces:
        """Return the pieces of a matmul looped with a collective."""
        shard = shard_seconds(matmul, loop, self.chip)
        return Pieces(overhead_seconds(matmul, self.chip),
                      tuple([(key, shard if key is None else share * shard + self.chip.loop_step)
                             for key, share in self.outlines.of(o, loop).pieces]))

    def _direct(self, o: Collective, fastest: bool) -> float:
        """Return the time of a routed collective: the traffic of the busiest link of any axis, and the longest route.

        The traffic is D k / 8 on an even ring of k, D (k - 1/k) / 8 on an odd one, each way; on a line, the data that cross its
        middle. In shifts it is that of the busiest axis of each displacement, one after another. The twist of a torus is ignored.
        """
        seconds, far, net = 0.0, 0.0, self.outlines.net
        if o.kind == "permute":
            return self._permute(o, fastest)
        if algorithm_of(o) not in ("direct", "shifts") or not net.on_axes or o.kind not in ALIKE or o.groups or o.matrix:
            return self._steps(o, fastest)
        lengths = {a: net.length(a) for a in o.axes if net.length(a) > 1}
        messages = prod(lengths.values())
        rates = {}
        for a, k in lengths.items():
            rate, late, _ = self.outlines.pace((a, True, net.ring, (), (True, True)), fastest, self.chip.shared_efficiency)
            ring = net.ring[net.axis(a)] or net.links.ring[list(net.links.axes).index(a.partition("/")[0])]
            alone = k <= 3 and len(lengths) == 1
            rates[a] = rate * self.chip.link_efficiency * (1.0 if alone else self.chip.shared_efficiency), ring
            crossing = (k / 8 if k % 2 == 0 else (k - 1 / k) / 8) if ring and k > 2 else (k // 2) * ((k + 1) // 2) / k
            seconds = max(seconds, o.bytes * crossing / rates[a][0])
            far += late * (k // 2 if ring else k - 1)
        if algorithm_of(o) == "direct":
            return (seconds + far) * (2 if o.kind == "all_reduce" else 1)  # a reduce-scatter, then an all-gather
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


    def _steps(self, o: Collective, fastest: bool) -> float:
        """Return the time of successive steps, each by its routes; `fastest`: all links as fast as the fastest."""
        part, efficiency = self.chip.shared_efficiency, self.chip.link_efficiency
        return sum(o.bytes * max(alone, met / part) / efficiency + late for alone, met, late in self.outlines.steps(o, fastest))

    def _permute(self, o: Collective, fastest: bool) -> float:
        """Return the time of a routed permute: a link on an axis carries at most min(shift, length - shift) messages."""
        seconds, far, net, on = 0.0, 0.0, self.outlines.net, dict(o.on)
        for a in o.axes:
            length, by = net.length(a), o.shift.get(a, 0) % net.length(a)
            if by:
                rate, late, _ = self.outlines.pace((a, True, net.ring, (), (True, True)), fastest, self.chip.shared_efficiency)
                hops, ring = min(by, length - by), net.ring[net.axis(a)]
                if not ring and a in on and all(place + by < length for place in on[a]):  # no message goes back
                    hops, ring = by, True
                load = hops / 2 if ring and 2 * hops == length else hops
                shared = self.chip.shared_efficiency if hops > 1 else 1.0
                seconds = max(seconds, o.bytes * load / (rate * self.chip.link_efficiency * shared))
                far += late * (hops if ring else length - hops)
        return seconds + far


def work(compute: Compute) -> Hashable:
    """Return the values that determine the time of a compute operation on a chip."""
    return (compute.matmuls, compute.flops, compute.hbm_bytes, compute.dtype, compute.beside, compute.vector,
            compute.vector_bytes, compute.scratch, compute.scratch_passes)
