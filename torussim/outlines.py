"""The effects of collectives on the axes of one network, for one chip that represents all, independent of chip parameters.

Phases, messages and their links are computed once for a network. Closed forms of the same program with other parameters of the
chip, or of other programs on the same network, use them again.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from torussim.chips import Chip
from torussim.collectives.axes import ring_order
from torussim.collectives.contract import Phase
from torussim.collectives.lower import DIRECT, algorithm_of, lower, view, weights
from torussim.collectives.unequal import hop_bytes
from torussim.cost import Stretch, stretches
from torussim.messages import paces
from torussim.prices import KEPT, Prices, Step
from torussim.program import Collective, Loop, resized
from torussim.topology.grid import Grid
from torussim.topology.hops import slowest
from torussim.topology.movement import Movements

Lane = tuple[str, bool, tuple[bool, ...], tuple[str, ...], tuple[bool, bool]]
"""An axis (or several, joined by +), whether detours are taken, which axes are rings, and which axes send at once and can share
links with it: off tori and meshes those of the parts that run beside one another; and in which directions anything is sent."""
Pace = tuple[float, float, float]  # bytes/s, s, and the loss of a message, once, by a detour round a dead link, s


@dataclass(frozen=True, eq=False)
class Line:
    """One phase of one part on a lane.

    `closed`: the lane goes round, so that the two directions bring a chip different data. `alike`: both directions send the same.
    """

    stretch: Stretch
    lane: Lane
    closed: bool
    alike: bool


@dataclass(frozen=True, eq=False)
class Outline:
    """A collective on a network: its phases in queue order.

    `chips` is the size of a group. `pieces`: if a matmul is looped with it, the step and the shards of each piece in order; the
    chip's own shard, which no step brings, is (None, 1.0).
    """

    chips: int
    direct: bool
    lines: tuple[Line, ...]
    pieces: tuple[tuple[Step | None, float], ...] = ()


class Outlines:
    """The outlines of collectives on one network and the pace of its axes, each computed at its first use."""

    def __init__(self, net: Grid) -> None:
        self.net = net
        self._outlines: dict[Hashable, Outline] = {}
        self._paces: dict[tuple[Lane, bool, float], Pace] = {}
        self._steps: dict[Hashable, list[tuple[float, float, float]]] = {}
        self._prices: Prices | None = None
        self._broken: dict[Hashable, bool] = {}

    def prices(self, chip: Chip) -> Prices:
        """Return the times of operations on this network with a chip, kept until another chip is asked for."""
        if self._prices is None or self._prices.chip is not chip:
            self._prices = Prices(self, chip)
        return self._prices

    def key(self, o: Collective, loop: Loop | None = None) -> Hashable:
        """Return the values that determine the outline of a collective, alone or looped with a matmul."""
        return (o.kind, o.axes, o.bytes, o.algorithm, o.split, o.direction, o.detour,
                (*o.shift.items(), o.on) if o.shift else (), o.root, o.groups, o.protocol, o.matrix,
                loop and loop.kind, (o.name, o.pieces) if callable(o.algorithm) else None)

    def of(self, o: Collective, loop: Loop | None = None) -> Outline:
        """Return the outline of a collective, alone or looped with a matmul."""
        key = self.key(o, loop)
        found = self._outlines.get(key)
        if found is None:
            if len(self._outlines) >= KEPT:
                self._outlines.clear()
            found = self._outlines[key] = _outline(o, self.net, loop)
        return found

    @cached_property
    def movements(self) -> Movements:
        """The movements of the network, verified at their first use."""
        return Movements(self.net)

    @cached_property
    def even(self) -> bool:
        """Whether all hops have a link and all links are equal, so that the slowest is the fastest."""
        net = self.net
        live = [net.extremes(a) for a in net.axes if net.length(a) > 1]
        rates, latencies = {r for e in live for r in (e.slowest, e.fastest)}, {s for e in live for s in (e.shortest, e.longest)}
        return not net.links.twist and not any(net.gaps) and len(rates) <= 1 and len(latencies) <= 1

    @cached_property
    def _kinds(self) -> dict[str, Hashable]:
        """The properties of an axis in closed forms. Axes of one kind are interchangeable; one with gaps, or cut, is a kind."""
        net = self.net
        own = {a for a, gaps in zip(net.axes, net.gaps) if net.links.twist or gaps or "/" in a}
        return {a: a if a in own else (net.shape[i], net.ring[i], net.stride[i], net.extremes(a)) for i, a in enumerate(net.axes)}

    def like(self, mesh: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Return one mesh for all that no closed form distinguishes from this one: axes of a kind in the order of the network's.

        A mesh can have an entry for the axis of a pipeline.

        A simulation can distinguish them if the links of an axis differ, and so can a user-defined algorithm that reads names.
        """
        free = {kind: iter([a for a in self.net.axes if self._kinds[a] == kind]) for kind in self._kinds.values()}
        return {logical: tuple([next(free[self._kinds[a]]) for a in factors]) for logical, factors in mesh.items()}

    def broken(self, o: Collective) -> bool:
        """Return whether a collective has rings that lack a link, and can run as lines instead."""
        if self.even:
            return False
        key = o.kind, o.axes, o.algorithm, o.detour
        found = self._broken.get(key)
        if found is None:
            found = self._broken[key] = bool(broken(o, self.net))
        return found

    def pace(self, lane: Lane, fastest: bool, shared_efficiency: float) -> Pace:
        """Return bandwidth and latency of the slowest (`fastest`: the fastest) hop of a lane, bytes/s and s.

        The third value is the loss of a message, once on its way, by a detour round a dead link, s.
        """
        key = lane, fastest, shared_efficiency
        found = self._paces.get(key)
        if found is None:
            found = self._paces[key] = self._pace(lane, fastest, shared_efficiency)
        return found

    def _pace(self, lane: Lane, fastest: bool, shared_efficiency: float) -> Pace:
        joined, detour, ring, beside, ways = lane
        net, names = self.net.with_rings(ring), joined.split("+")
        of = [net.extremes(a) for a in names]
        if fastest:
            return max(e.fastest for e in of), min(e.shortest for e in of), 0.0
        rate, late, once = min(e.slowest for e in of), max(e.longest for e in of), 0.0
        for a in names:
            if beside or (net.gaps[net.axis(a)] and (detour or not runs_as_line(net, a))):
                others = [net.axis(b) for b in beside if b != a]
                seen = net if others else self._of_like_hops(net, net.axis(a))
                shared, latency, more = slowest(seen, net.axis(a), shared_efficiency, others, ways)
                rate, late, once = min(rate, shared), max(late, latency), max(once, more)
        return rate, late, once

    def steps(self, o: Collective, fastest: bool) -> list[tuple[float, float, float]]:
        """Return the `paces` of a collective's steps, a byte; `fastest`: all links as fast as the fastest."""
        key = o.kind, o.axes, o.root, o.groups, algorithm_of(o), o.matrix, *o.shift.items(), o.on, fastest
        if key not in self._steps:
            net, axes = self.net, [a for a in o.axes if self.net.length(a) > 1]
            bandwidth = np.full(len(net.links.bandwidth), net.links.bandwidth.max()) if fastest else net.links.bandwidth
            self._steps[key] = paces(self.movements, axes, lower(resized(o, 1.0), net).steps, bandwidth)
        return self._steps[key]

    def _of_like_hops(self, net: Grid, axis: int) -> Grid:
        """Return the network, folded if all hops of an axis are routed, so that a few chips represent all."""
        if (net.slot[axis] >= 0).any():
            return net
        return self.movements.folded(np.where(net.gap[axis], net.target[axis], net.own)).with_rings(net.ring)


def outlines_of(network: Grid | Outlines) -> Outlines:
    """Return the outlines of a network; new ones if a grid is given."""
    return network if isinstance(network, Outlines) else Outlines(network)


def broken(o: Collective, net: Grid) -> list[str]:
    """Return the axes of a collective on which rings lack a link, and can run as lines instead.

    A ring without any links of its own lacks none: its messages pass switches. Off tori and meshes, neighbours on an axis need no
    link between them, so a ring lacks a link only if all missing ones have failed.
    """
    if o.kind == "permute" or algorithm_of(o) not in ("multi_axis", "sequential", "dimension_wise"):
        return []
    seen = view(o, net)
    return [a for a in o.axes if runs_as_line(seen, a) and (seen.slot[seen.axis(a)] >= 0).any()
            and (seen.on_axes or _have_failed(seen, seen.axis(a)))]


def _have_failed(net: Grid, axis: int) -> bool:
    """Return whether the network, as built, had a link for each hop of an axis that has none now."""
    gone, gaps = set(net.links.failed), np.argwhere(net.gap[axis]).tolist()
    return len(gaps) <= len(gone) and all(net.edge(axis, sign, chip) in gone for sign, chip in gaps)


def runs_as_line(net: Grid, axis: str) -> bool:
    """Return whether some ring along an axis lacks a link."""
    i = net.axis(axis)
    return net.ring[i] and net.stride[i] == 1 and net.gaps[i]


def _outline(o: Collective, net: Grid, loop: Loop | None) -> Outline:
    """Return the outline of a collective on a network."""
    links, net = net.ring, view(o, net)
    paced = links if algorithm_of(o) == "nested" else net.ring  # over the end of a line: links that no other message uses
    chips = o.largest(net.length)
    detour = o.detour is not False
    found = _stretches(o, net, loop)
    closed = {axis: _goes_round(axis, net) for axis in {stretch.axis for stretch in found}}
    several = len({stretch.part for stretch in found}) > 1 and not net.on_axes
    beside = tuple(dict.fromkeys(a for stretch in found for a in stretch.axis.split("+"))) if several else ()
    lines = tuple(Line(one, (one.axis, detour, paced, beside, (bool(one.sends[0]), bool(one.sends[1]))), closed[one.axis],
                       one.sends[0] == one.sends[1]) for one in found)
    return Outline(chips, algorithm_of(o) in DIRECT, lines, _pieces(o, lines, loop, chips) if loop else ())


def _stretches(o: Collective, net: Grid, loop: Loop | None) -> list[Stretch]:
    """Return the phases of a collective on the axes of its network."""
    lengths = {a: net.length(a) for a in o.axes if net.length(a) > 1}
    ring = {a: net.ring[net.axis(a)] and not (o.detour is False and runs_as_line(net, a)) for a in lengths}
    name, way = algorithm_of(o), loop.kind if loop else o.direction
    if not lengths or name in DIRECT:
        return []
    if callable(name):
        return [_stretch(phase) for phase in lower(o, net, way=way).phases]
    if o.matrix:
        seen = net.with_rings(tuple(ring.get(a, goes_round) for a, goes_round in zip(net.axes, net.ring)))
        return [_unequal(phase, lengths) for phase in lower(o, seen, way=way).phases]
    shares = weights(o, net, lengths, ring) if name in ("multi_axis", "dimension_wise") else (1.0,)
    if name == "one_ring":
        order, closed = ring_order(list(lengths.values()), list(ring.values()))
        joined = "+".join(lengths)
        lengths, ring, name, shares = {joined: len(order)}, {joined: closed and len(order) > 2}, "multi_axis", (1.0,)
    return stretches(o.kind, name, lengths, ring, o.bytes, way, shares, o.shift, dict(o.on))


def _stretch(phase: Phase) -> Stretch:
    """Return a phase of a user-defined algorithm at the busiest position of its lane."""
    sends = tuple(tuple((hop.step, float(hop.halves.max()) * phase.block / 2) for hop in phase.pattern.hops if hop.sign == sign)
                  for sign in (+1, -1))
    return Stretch(phase.index, phase.part, "+".join(phase.lane.axes), sends)


def _unequal(phase: Phase, lengths: Mapping[str, int]) -> Stretch:
    """Return a phase of an all-to-all with unequal bytes.

    On a ring each message is as large as the largest of its step, so that no chip is slower. On a line the messages are those of
    the link with the most bytes.
    """
    (axis,), pattern = phase.lane.axes, phase.pattern
    assert phase.flow is not None
    sent = hop_bytes(pattern, phase.flow, list(lengths.values()), list(lengths).index(axis))  # (hops, K)
    sends = []
    for sign in (+1, -1):
        here = [i for i, hop in enumerate(pattern.hops) if hop.sign == sign]
        sizes = sent[here].max(axis=1) if pattern.ring else sent[here][:, sent[here].sum(axis=0).argmax()]
        steps = zip([pattern.hops[i].step for i in here], sizes.tolist())
        sends.append(tuple(sorted((step, size) for step, size in steps if size > 0)))
    return Stretch(phase.index, phase.part, axis, tuple(sends))


def _goes_round(axis: str, net: Grid) -> bool:
    """Return whether an axis, or the ring through several axes (joined by +), is closed."""
    names = axis.split("+")
    order, closed = ring_order([net.length(a) for a in names], [net.ring[net.axis(a)] for a in names])
    return closed and len(order) > 2


def _pieces(o: Collective, lines: Sequence[Line], loop: Loop, chips: int) -> tuple[tuple[Step | None, float], ...]:
    """Return the pieces of a matmul looped with a collective, on a chip of a ring, or at the end of a line."""
    gathers = o.kind == "all_gather"
    share: dict[Step, float] = {}
    for line in lines:
        for sends in line.stretch.sends if line.closed else line.stretch.sends[:1]:
            for step, size in sends:
                key = line.stretch.index, step
                share[key] = share.get(key, 0.0) + size / o.bytes * chips
    keys = sorted(share)
    own: list[tuple[Step | None, float]] = [(None, 1.0)]
    if loop.kind == "latency" and len(lines) == 1 and len(keys) * 2 == chips and lines[0].closed:
        share[keys[0] if gathers else keys[-1]] += 1.0
        own = []
    made: list[tuple[Step | None, float]] = [(key, share[key]) for key in keys]
    return tuple(own + made if gathers else made + own)
