"""Lower bounds of the time of operations: alone, looped in pairs, and in lists.

On rings the closed form with the fastest link of each axis. On lines a chip in the middle has an all-gather before the chips at
the ends, so the closed form, which is that of a chip at the end, is no bound: there the chip that is done first counts. If no
chip starts an operation before some time, none ends it before that time plus the bound; so bounds of operations that wait for
one another add up.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod

import numpy as np

from torussim.chips import Chip
from torussim.clock import Clock
from torussim.collectives.lower import DIRECT, algorithm_of
from torussim.cost import compute_seconds, start_seconds
from torussim.outlines import Outlines
from torussim.program import Collective, Compute, Loop, Operation
from torussim.topology.grid import with_bandwidth

ALIKE = ("multi_axis", "dimension_wise")  # algorithms that treat all axes alike


class Bounds:
    """Bounds of operations on one network and chip, each worked out once."""

    def __init__(self, outlines: Outlines, chip: Chip) -> None:
        bandwidth = outlines.net.links.bandwidth.copy()
        for event in outlines.net.links.events:
            bandwidth[event.links] = np.maximum(bandwidth[event.links], event.bandwidth)
        if outlines.net.links.events:  # as fast as a link ever is
            outlines = Outlines(with_bandwidth(outlines.net, bandwidth))
        self.into = float(np.bincount(outlines.net.links.target, bandwidth, len(outlines.net.links.chips)).max(initial=0.0))
        self.outlines, self.net, self.chip = outlines, outlines.net, chip
        self._seconds: dict[Hashable, float] = {}

    def rings(self, axes: Sequence[str]) -> bool:
        """Return whether all axes are rings without a gap."""
        return all(self.net.ring[i] and not self.net.gaps[i] for i in map(self.net.axis, axes) if self.net.length(i) > 1)

    def alone(self, o: Operation) -> float:
        """Return the bound of an operation."""
        if isinstance(o, Compute):
            return compute_seconds(o, self.chip) + self.chip.op_overhead * o.kernels
        key = o.kind, o.axes, o.bytes, o.algorithm, o.direction, o.pieces, o.split
        found = self._seconds.get(key)
        if found is None:
            found = self._seconds[key] = self._collective(o)
        return found

    def _collective(self, o: Collective) -> float:
        if self.rings(o.axes) and not callable(o.algorithm):
            return Clock(self.outlines, self.chip, fastest=True).collective(o, 0.0)
        chips = prod(self.net.length(a) for a in o.axes)
        begin = start_seconds(o, chips, self.chip)
        plain = not callable(o.algorithm) and algorithm_of(o) in ALIKE and o.split == "equal" and o.kind != "all_to_all"
        return begin + (self._phases(o) if plain else self._arriving(o, chips))

    def _phases(self, o: Collective) -> float:
        """Return the longest part of a gather or scatter over lines and rings, each phase until its first chip is done."""
        names = [a for a in o.axes if self.net.length(a) > 1]
        longest = 0.0
        for part in range(len(names)):
            block, gather, scatter = o.bytes / prod(map(self.net.length, names)) / len(names), 0.0, 0.0
            for a in names[part:] + names[:part]:
                gather += self._phase(a, block, o.direction, False)
                scatter += self._phase(a, block, o.direction, True)
                block *= self.net.length(a)
            longest = max(longest, {"all_gather": gather, "reduce_scatter": scatter}.get(o.kind, gather + scatter))
        return longest

    def _phase(self, axis: str, block: float, direction: str, scatter: bool) -> float:
        """Return the bound of one phase.

        On a line a shard of a gather comes from the farther end to the middle; a sum of a scatter goes from one end to the other.
        """
        length, i = self.net.length(axis), self.net.axis(axis)
        found = self.net.extremes(axis)
        rate, late = found.fastest * self.chip.link_efficiency, found.shortest
        if self.net.ring[i] or self.net.stride[i] > 1 or self.net.gaps[i]:  # or it may run as a ring
            ways = 1 if direction == "one_way" else 2
            return (length - 1) / ways * block / rate + late * ((length - 1) // ways)
        return (length - 1 if scatter else length // 2) * (block / rate + late)

    def _arriving(self, o: Collective, chips: int) -> float:
        """Return how long the links of any chip need for what must reach it, whatever the algorithm."""
        if chips == 1 or o.kind == "permute":
            return 0.0
        own = [self.net.axis(a) for a in o.axes if self.net.length(a) > 1]
        neighbours = not callable(o.algorithm) and algorithm_of(o) not in DIRECT and not any(self.net.gaps[i] for i in own)
        into = sum(self.net.extremes(self.net.axes[i]).fastest * min(2, self.net.length(i) - 1) for i in own)
        share = {"reduce_scatter": 1 / chips, "all_reduce": 1.0}.get(o.kind, (chips - 1) / chips)
        return share * o.bytes / ((into if neighbours else self.into) * self.chip.link_efficiency)

    def pair(self, matmul: Compute, collective: Collective, loop: Loop) -> float:
        """Return the bound of a matmul looped with a collective, from the start of the first until both are done."""
        if not self.rings(collective.axes):
            return max(self.alone(matmul), self.alone(collective))
        key = (matmul.matmuls, matmul.hbm_bytes, matmul.kernels, matmul.dtype, collective.kind, collective.axes, collective.bytes,
               collective.algorithm, loop.kind, loop.cut, loop.sum_bytes)
        found = self._seconds.get(key)
        if found is None:
            clock = Clock(self.outlines, self.chip, fastest=True)
            found = self._seconds[key] = (
                clock.gather_loop(collective, matmul, loop, 0.0, 0.0)[1] if collective.kind == "all_gather"
                else clock.scatter_loop(matmul, collective, loop, 0.0, 0.0)[1])
        return found
