"""Lower bounds of the time of operations: of one operation alone, and of a matmul looped with a collective.

The bounds hold for the corner chips, which are at the ends of all lines: if no corner starts an operation before a given time, no
corner ends it before that time plus the bound. The bounds of operations that wait for one another therefore add up. On rings
every chip is like a corner, and the bound is the closed form with the fastest link of each axis. On lines, chips in the middle
can be ahead of the corners, so that only data from other corners counts. For a gather or scatter this is the shard that goes from
end to end of each line, which takes as long as the whole collective. For an all-to-all it is one message.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod

import numpy as np

from torussim.chips import Chip
from torussim.choice import alone, looped
from torussim.collectives.lower import DIRECT, algorithm_of
from torussim.cost import overhead_seconds, start_seconds
from torussim.outlines import Outlines
from torussim.prices import work
from torussim.program import Collective, Compute, Loop, Operation, unlike_cases
from torussim.topology.grid import with_bandwidth

ALIKE = ("multi_axis", "dimension_wise")  # algorithms that treat all axes alike


class Bounds:
    """The bounds of operations on one network and chip, each computed once."""

    def __init__(self, outlines: Outlines, chip: Chip) -> None:
        bandwidth = outlines.net.links.bandwidth.copy()
        for event in outlines.net.links.events:
            bandwidth[event.links] = np.maximum(bandwidth[event.links], event.bandwidth)
        if outlines.net.links.events:  # at the highest speed that a link ever has
            outlines = Outlines(with_bandwidth(outlines.net, bandwidth))
        self.prices, self.net, self.chip = outlines.prices(chip), outlines.net, chip
        self._seconds: dict[Hashable, float] = {}

    def alike(self, axes: Sequence[str]) -> bool:
        """Return whether every chip is like one at an end, on all axes: the axes are rings or have two chips, without gaps."""
        return all((self.net.ring[i] or self.net.shape[i] <= 2) and not self.net.gaps[i] for i in map(self.net.axis, axes))

    def alone(self, o: Operation) -> float:
        """Return the bound of an operation."""
        if isinstance(o, Compute):
            return min(map(self.prices.compute, unlike_cases(o))) + overhead_seconds(o, self.chip)
        key = self.prices.outlines.key(o), o.pieces
        found = self._seconds.get(key)
        if found is None:
            found = self._seconds[key] = self._collective(o)
        return found

    def _collective(self, o: Collective) -> float:
        if o.matrix:  # the chip with the least data is done after this
            return start_seconds(o, o.matrix.chips, self.chip)
        if self.alike(o.axes) and not callable(o.algorithm) and algorithm_of(o) not in DIRECT:
            return alone(o, self.prices, fastest=True)
        names = [a for a in o.axes if self.net.length(a) > 1]
        begin = start_seconds(o, prod(map(self.net.length, names)), self.chip)
        plain = not callable(o.algorithm) and algorithm_of(o) in ALIKE and o.split == "equal" and bool(names)
        orders = [names[part:] + names[:part] for part in range(len(names))] if plain else []
        return begin + max((self._part(o, order) for order in orders), default=0.0)

    def _part(self, o: Collective, order: Sequence[str]) -> float:
        """Return the seconds of a part that visits lines and rings in this order, or backwards, one phase after another."""
        block, gather, exchange = o.bytes / prod(map(self.net.length, order)) / len(order), 0.0, 0.0
        for a in order:
            length, i, found = self.net.length(a), self.net.axis(a), self.net.extremes(a)
            rate = found.fastest * self.chip.link_efficiency
            if self.net.gaps[i] or self.net.ring[i] or self.net.goes_round(a):  # a broken or twisted axis may run as ring or line
                ways = 1 if o.direction == "one_way" else 2
                gather += (length - 1) / ways * block / rate + (length - 1) // ways * found.shortest
            else:
                gather += (length - 1) * (block / rate + found.shortest)
            exchange += o.bytes / length / len(order) / rate
            block *= length
        return {"all_gather": gather, "reduce_scatter": gather, "all_reduce": 2 * gather}.get(o.kind, exchange)

    def pair(self, matmul: Compute, collective: Collective, loop: Loop) -> float:
        """Return the bound of a matmul looped with a collective, from the start of the first to the end of both."""
        if matmul.cases:
            return min(self.pair(case, collective, loop) for case in unlike_cases(matmul))
        if not self.alike(collective.axes):
            made = self.prices.pieces(matmul, collective, loop)
            pieces, fixed, moving = [seconds for _, seconds in made.pieces], made.fixed, self.alone(collective)
            begin = start_seconds(collective, prod(map(self.net.length, collective.axes)), self.chip)
            last = moving + pieces[-1] if collective.kind == "all_gather" else moving - begin + max(begin, fixed + pieces[0])
            return max(fixed + sum(pieces), last)
        key = work(matmul), matmul.kernels, self.prices.outlines.key(collective, loop), loop.cut, loop.sum_bytes
        found = self._seconds.get(key)
        if found is None:
            found = self._seconds[key] = looped(matmul, collective, loop, self.prices, fastest=True)
        return found
