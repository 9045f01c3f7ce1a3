"""Tables of shardings in the order of their lower bounds: the space of `layouts: all` (docs/shardings.md).

The space has one role for each axis (`roles`). The bound of a table is the sum of the bounds of its parts (`parts`), each looked
up in an array over the roles. The search first chooses the spine: the roles of the axes for residual and W_in. It then chooses
the rest; for a serial block attention and MLP are chosen separately, because they have no part in common. The sums are yielded in
rising order, lazily: a spine is opened when its least possible sum is the least of all that remain, and a heap merges the sums of
its two halves.
"""

from __future__ import annotations

import heapq
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import prod
from typing import Any

import numpy as np

from torussim.chips import Chip
from torussim.errors import LayoutError, ShardingError
from torussim.layouts import Layout, Path
from torussim.models import Model
from torussim.outlines import Outlines
from torussim.planner.bounds import ALIKE, Bounds
from torussim.planner.parts import Part, Parts, paths_of
from torussim.planner.roles import Kind, Role, halves_of, table
from torussim.topology.grid import Grid
from torussim.workload import Forward

Array = np.ndarray[Any, Any]
Spine = tuple[int, ...]  # the index of each axis' role for residual and W_in
Choice = tuple[int, ...]  # the index of the choice for each half, in the flat order of its slab


class Shardings:
    """All tables of shardings for one pass on one network, in the order of lower bounds of the time of the pass.

    `layout` gives mesh, dtypes, overlap, algorithms and padded batch; its tables are replaced. `size` is the number of tables of
    the space whose sizes divide. `misfits` is the number of these whose weights and cache alone do not fit into HBM; they are not
    yielded.
    """

    def __init__(self, model: Model, layout: Layout, forward: Forward, outlines: Outlines, chip: Chip) -> None:
        net = outlines.net
        parts = Parts(model, layout, forward, {a: net.length(a) for a in net.axes}, Bounds(outlines, chip))
        builder = parts.builder
        self.axes = tuple(a for a in builder.lengths if builder.lengths[a] > 1)
        self.capacity, self.misfits = chip.hbm_bytes, 0
        own = [tuple(p for p in builder.mesh[a] if net.length(p) > 1) for a in self.axes]
        plain = set(layout.collectives.values()) <= set(ALIKE)
        paced = [_pace(net, axes) if plain else axes for axes in own]
        self.pairs = _pairs(paced) if plain and _uniform(net) else []
        kind = Kind(model.parallel, builder.kv_heads > 1, builder.kv_heads == builder.heads)
        self.halves = []
        for half, options in enumerate(halves_of(kind)):
            timed, held = ([_Lookup(part, options, self.axes, paced) for part in listed if part.half == half]
                           for listed in (parts.listed(), parts.held()))
            self.halves.append(_Half(options, timed, held))
        self.size, self.least = 0, list[tuple[float, Spine]]()
        for spine in product(range(len(self.halves[0].options)), repeat=len(self.axes)):
            if not self._first([(s,) for s in spine]):
                continue
            slabs = [half.slab(spine) for half in self.halves]
            count = prod(int(np.isfinite(slab.seconds).sum()) for slab in slabs)
            self.size += self._ways(spine) * count
            self.misfits += self._ways(spine) * (count - self._fitting(slabs))
            least = sum(float(slab.seconds[slab.held <= self.capacity].min(initial=np.inf)) for slab in slabs)
            if least < np.inf:
                self.least.append((least, spine))

    def __iter__(self) -> Iterator[tuple[float, Mapping[str, Path]]]:
        """Yield (bound in seconds, table). Of tables that differ only in the names of equivalent axes, one is yielded."""
        heap: list[tuple[float, int, tuple[Role, ...] | None]] = [(least, i, None) for i, (least, _) in enumerate(self.least)]
        heapq.heapify(heap)
        opened: dict[int, Iterator[tuple[float, tuple[Role, ...]]]] = {}
        while heap:
            bound, i, roles = heapq.heappop(heap)
            if roles is None:
                opened[i] = self._opened(self.least[i][1])
            else:
                yield bound, table(self.axes, roles)
            following = next(opened[i], None)
            if following is not None:
                heapq.heappush(heap, (following[0], i, following[1]))

    def _opened(self, spine: Spine) -> Iterator[tuple[float, tuple[Role, ...]]]:
        """Yield bounds and roles of the tables of a spine that fit into HBM, in the order of bounds."""
        slabs = [half.slab(spine) for half in self.halves]
        for bound, choice in merged([self._order(slab, spine) for slab in slabs]):
            at = [np.unravel_index(flat, slab.seconds.shape) for flat, slab in zip(choice, slabs)]
            first = self._first([(s, *(int(one[axis]) for one in at)) for axis, s in enumerate(spine)])
            if first and sum(float(slab.held[one]) for slab, one in zip(slabs, at)) <= self.capacity:
                yield bound, tuple(ChainMap(*(dict(half.options[s][int(one[axis])]) for half, one in zip(self.halves, at)))
                                   for axis, s in enumerate(spine))

    def _order(self, slab: _Slab, spine: Spine) -> tuple[Array, Array]:
        """Return the finite bounds of a slab that fit, rising, and their places; of a single slab one of equivalent choices."""
        keep = np.isfinite(slab.seconds)
        if len(self.halves) == 1:
            place = np.indices(slab.seconds.shape)
            for i, j in self.pairs:
                if spine[i] == spine[j]:
                    keep &= place[i] <= place[j]
        flat = np.flatnonzero(keep & (slab.held <= self.capacity))
        order = np.argsort(slab.seconds.ravel()[flat], kind="stable")
        return slab.seconds.ravel()[flat][order], flat[order]

    def _fitting(self, slabs: Sequence[_Slab]) -> int:
        """Return the number of pairs, one choice of each half, that fit into HBM."""
        held = [slab.held[np.isfinite(slab.seconds)] for slab in slabs]
        sizes, times = np.unique(held[-1], return_counts=True) if len(held) > 1 else (np.zeros(1), np.ones(1, int))
        return sum(int(count) * int((held[0] <= self.capacity - size).sum()) for size, count in zip(sizes, times))

    def _first(self, choices: Sequence[tuple[int, ...]]) -> bool:
        """Return whether choices, one for each axis, come first among those that differ only in the names of equivalent axes."""
        return all(choices[i] <= choices[j] for i, j in self.pairs)

    def _ways(self, spine: Spine) -> int:
        """Return the number of spines that differ from this one only in the names of equivalent axes, itself included."""
        swaps = [order for order in permutations(range(len(spine)))
                 if all(a == b or (min(a, b), max(a, b)) in self.pairs for a, b in enumerate(order))]
        return len({tuple(spine[i] for i in order) for order in swaps})


@dataclass(frozen=True, eq=False)
class _Slab:
    """For every choice of one half of a spine: the bound (inf if a size does not divide) and the bytes held."""

    seconds: Array
    held: Array


@dataclass(frozen=True, eq=False)
class _Half:
    """One half of the rest that a spine leaves open. `options[s]`: the roles of an axis with spine s, the spine's included."""

    options: Sequence[Sequence[Role]]
    timed: Sequence[_Lookup]
    held: Sequence[_Lookup]

    def slab(self, spine: Spine) -> _Slab:
        """Return bounds and bytes of all choices for a spine, as arrays with one axis for each axis of the mesh."""
        seconds, held = np.zeros((1,) * len(spine)), np.zeros((1,) * len(spine))
        gain: Array = np.zeros(())
        for lookup in self.timed:
            at = lookup.at(spine)
            seconds = seconds + lookup.part.times * lookup.bound[at]
            if lookup.part.shares:
                seconds = seconds - lookup.part.times * np.maximum(gain, lookup.gain[at])
            gain = lookup.gain[at]
        for lookup in self.held:
            held = held + lookup.part.times * lookup.bound[lookup.at(spine)]
        return _Slab(*np.broadcast_arrays(seconds, held))


class _Lookup:
    """The bound and the gain of a part, as arrays over the entries of each axis' role that the part depends on."""

    def __init__(self, part: Part, options: Sequence[Sequence[Role]], axes: Sequence[str], paced: Sequence[object]) -> None:
        reduced: dict[tuple[object, ...], Role] = {}
        self.part, self.codes = part, list[Array]()
        for roles in options:
            keys = [tuple(part.reduced(role).items()) for role in roles]
            reduced |= {key: dict(key) for key in keys}
            self.codes.append(np.array([list(reduced).index(key) for key in keys], np.intp))
        found, pairs = list(reduced.values()), _pairs(paced)
        self.bound, self.gain = (np.empty((len(found),) * len(axes)) for _ in range(2))
        for codes in product(range(len(found)), repeat=len(axes)):
            first = list(codes)
            for i, j in pairs:  # one order is enough for axes of equal pace
                first[i], first[j] = sorted((first[i], first[j]))
            if tuple(first) != codes:
                self.bound[codes], self.gain[codes] = self.bound[tuple(first)], self.gain[tuple(first)]
                continue
            try:
                self.bound[codes], self.gain[codes] = part.seconds(paths_of(axes, [found[code] for code in codes], found[0]))
            except (LayoutError, ShardingError):  # a size does not divide
                self.bound[codes], self.gain[codes] = np.inf, 0.0

    def at(self, spine: Spine) -> tuple[Array, ...]:
        """Return the indices of the choices for a spine in the arrays."""
        return np.ix_(*(self.codes[s] for s in spine))


def merged(halves: Sequence[tuple[Array, Array]]) -> Iterator[tuple[float, Choice]]:
    """Yield the sums of one entry from each of one or two sorted arrays, in rising order, and the places of the entries."""
    values, places = halves[0]
    if len(halves) == 1:
        yield from ((float(value), (int(place),)) for value, place in zip(values, places))
        return
    more, others = halves[1]
    heap = [(float(values[0] + more[0]), 0, 0)] if len(values) and len(more) else []
    while heap:
        value, i, j = heapq.heappop(heap)
        yield value, (int(places[i]), int(others[j]))
        if j + 1 < len(more):
            heapq.heappush(heap, (float(values[i] + more[j + 1]), i, j + 1))
        if not j and i + 1 < len(values):
            heapq.heappush(heap, (float(values[i + 1] + more[0]), i + 1, 0))


def _pairs(kinds: Sequence[object]) -> list[tuple[int, int]]:
    """Return the pairs of indices of equal items, in an order in which swapping them sorts."""
    return [(i, j) for i in range(len(kinds)) for j in range(i + 1, len(kinds)) if kinds[i] == kinds[j]]


def _pace(net: Grid, axes: Sequence[str]) -> object:
    """Return the values that bounds of collectives over some physical axes depend on."""
    return tuple((net.length(a), net.ring[net.axis(a)], net.stride[net.axis(a)], net.gaps[net.axis(a)], net.extremes(a).fastest,
                  net.extremes(a).shortest) for a in axes)


def _uniform(net: Grid) -> bool:
    """Return whether all links of an axis are equal, without twist, fault or change: axes of equal pace can be swapped."""
    alike = all(e.slowest == e.fastest and e.shortest == e.longest for e in map(net.extremes, net.axes))
    return alike and not (net.links.events or net.links.twist or net.links.failed or any(net.gaps) or (net.links.axis < 0).any())
