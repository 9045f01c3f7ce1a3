"""Movements of a network that change nothing: translations and reflections of the axes, verified link by link.

Routed messages can share links with others anywhere, so chips with equal neighbourhoods can have different futures. Only an
automorphism of the whole network shows that futures are equal. A movement is an automorphism if it leaves all relevant properties
of every chip unchanged and leads every link to a link like it; switches follow their neighbours. The links of a network are
verified once for each movement (`Movements`), whatever else a movement must leave unchanged (`Held`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, combinations
from typing import Any, NamedTuple

import numpy as np

from torussim.topology.grid import Grid, Mirrors, folded
from torussim.topology.labels import colours, mixed, numbered, scramble
from torussim.topology.shape import receivers, strides

Array = np.ndarray[Any, Any]
Turned = tuple[int, ...]  # axes
Move = tuple[int, Turned]  # the target of the first chip, and the turned axes: they identify a movement
FEW = 4096  # messages: it is faster to route that many than to find out which are alike
TRIES = 200  # movements that are found to change something, before the rest are left untried


class Orbits(NamedTuple):
    """Chips that have the same future: (chips,) a number for each class, from 0 on, in the order of their first chips.

    `links`: (links,) the first link of the class of each link; None: the link of the first chip of the class of its chip.
    """

    number: Array
    links: Array | None = None
    mirrors: Mirrors | None = None


@dataclass(frozen=True, eq=False)
class Movements:
    """The movements of one network, and the movements that lead every link to a link like it; verified results are kept."""

    net: Grid

    def to(self, chip: int, other: int, turned: Turned) -> Array:
        """Return the targets of all chips, (chips,), of the movement from one chip to another with some axes turned."""
        links = self.net.links
        if not turned:
            back = _walk(self.steps[:, 1], links.coordinates[:, chip], np.arange(len(self.net.own)))
            return _walk(self.steps[:, 0], links.coordinates[:, other], back)
        lengths = np.array(list(links.axes.values()))[:, None]
        sign = np.where(np.isin(np.arange(len(lengths)), turned), -1, 1)[:, None]
        at = links.coordinates[:, [other]] + sign * (links.coordinates - links.coordinates[:, [chip]])
        return np.asarray(strides(tuple(links.axes.values())) @ (at % lengths))

    def links(self, moved: Array, turned: Turned) -> Array | None:
        """Return the targets of the links, (links,), all like their sources; None if a link has no such target."""
        key = int(moved[0]), turned
        if key not in self._verified:
            self._verified[key] = self._links(moved)
        return self._verified[key]

    def like(self, moves: Sequence[tuple[Array, Turned]]) -> Array:
        """Return (links,) the first of the links that verified movements lead to one another."""
        key = tuple((int(moved[0]), turned) for moved, turned in moves)
        if key not in self._like:
            found = [links for moved, turned in moves if (links := self.links(moved, turned)) is not None]
            self._like[key] = merged([(to, ()) for to in found], len(self.net.links.source))[0]
        return self._like[key]

    def folded(self, to: Array) -> Grid:
        """Return the network with one chip for each orbit of the movements that map messages to messages.

        `to`: (messages, chips) the target of each message of each chip. Nothing is folded for at most FEW messages, or for a
        user-defined routing.
        """
        if to.size <= FEW or callable(self.net.routing):
            return self.net
        return folded(self.net, *Held(self, (), (), uneven(self.net), [(0, to)], ()).orbits())

    def refined(self, own: Array) -> Array:
        """Return labels of the chips, (chips,), that differ where labels `own` differ or where surrounding links and nodes do."""
        key = own.tobytes()
        if key not in self._refined:
            chips, nodes = len(own), len(self.net.links.nodes)
            label = np.concatenate([own, np.zeros(nodes - chips, np.uint64)])
            many, before = len(np.unique(label)), 0
            while before < many < nodes:
                label = self.around(label)
                many, before = len(np.unique(label)), many
            self._refined[key] = colours(label[:chips])
        return self._refined[key]

    @cached_property
    def _verified(self) -> dict[Move, Array | None]:
        """The targets of links, for each movement tried."""
        return {}

    @cached_property
    def _like(self) -> dict[tuple[Move, ...], Array]:
        """The links that stand for others, for each set of movements."""
        return {}

    @cached_property
    def _refined(self) -> dict[bytes, Array]:
        """Refined labels, by the labels that they refine."""
        return {}

    def _links(self, moved: Array) -> Array | None:
        """Return the targets of the links, (links,), all like their sources; None if a link has no such target."""
        links, nodes = self.net.links, self.nodes(moved)
        if nodes is None or not len(links.source):
            return None if nodes is None else np.zeros(0, np.intp)
        order, ends = self.ends
        to = nodes[links.source] * len(nodes) + nodes[links.target]
        place = np.minimum(np.searchsorted(ends, to), len(ends) - 1)
        found = order[place]
        return found if (ends[place] == to).all() and (self.kinds[found] == self.kinds).all() else None

    def nodes(self, moved: Array) -> Array | None:
        """Return the targets of all nodes, (nodes,): switches follow their neighbours; None if a switch cannot."""
        switches = len(self.net.links.nodes) - len(moved)
        if not switches:
            return moved
        wanted, there = self.switches(moved), self.there
        here, order = np.argsort(wanted, kind="stable"), np.argsort(there, kind="stable")
        to = np.empty(switches, np.intp)
        to[here] = len(moved) + order  # switches with equal labels in the order of their numbers
        return np.concatenate([moved, to]) if (wanted[here] == there[order]).all() else None

    def switches(self, moved: Array) -> Array:
        """Return labels of the switches, (switches,), by the targets of the chips around them."""
        label = np.concatenate([moved, np.full(len(self.net.links.nodes) - len(moved), -1)]).astype(np.uint64)
        for _ in range(self.rounds):
            label[len(moved):] = self.around(label)[len(moved):]
        return label[len(moved):]

    def around(self, label: Array) -> Array:
        """Return labels, (nodes,), that differ where labels differ, or where the links and nodes around do."""
        links, found = self.net.links, scramble(label, 0)
        for salt, (here, there, order, first) in enumerate(self.sides, 1):
            weight = scramble(scramble(self.kinds, 0) + label[there], salt)[order]
            total = np.add.reduceat(np.append(weight, np.uint64(0)), np.minimum(first[:-1], len(weight)))
            found = found + np.where(np.diff(first) > 0, scramble(total, salt), np.uint64(0))
            assert len(here) == len(links.source)
        return found

    @cached_property
    def steps(self) -> Array:
        """The next and the previous chip of each chip on each axis, going round; (axes, 2, chips)."""
        return receivers(self.net.links.axes, self.net.links.twist)

    @cached_property
    def kinds(self) -> Array:
        """Labels of the links, (links,), by bandwidth, latency, properties that routes depend on, and events in mid-run."""
        links = self.net.links
        found = mixed([(links.bandwidth,), (links.latency,), (links.routed,), (links.hops,)], len(links.source))
        for number, event in enumerate(links.events, 4):
            changed = np.zeros(len(found))
            changed[event.links] = np.where(event.bandwidth > 0, event.bandwidth, -1.0)
            found = scramble(found + scramble(changed.view(np.uint64), number), number)
        return found

    @cached_property
    def ends(self) -> tuple[Array, Array]:
        """The links in the order of their ends, and the ends of each as one number."""
        links = self.net.links
        ends = links.source * len(links.nodes) + links.target
        order = np.argsort(ends)
        return order, ends[order]

    @cached_property
    def sides(self) -> list[tuple[Array, Array, Array, Array]]:
        """For links that leave nodes, and for links that enter nodes: node, other node, links in order, first of each node."""
        links, found = self.net.links, []
        for here, there in ((links.source, links.target), (links.target, links.source)):
            order = np.argsort(here, kind="stable")
            found.append((here, there, order, np.searchsorted(here[order], np.arange(len(links.nodes) + 1))))
        return found

    @cached_property
    def rounds(self) -> int:
        """The number of rounds after which labels of switches do not become finer."""
        label = np.concatenate([np.arange(len(self.net.chips)), np.full(len(self.net.links.nodes) - len(self.net.chips), -1)])
        label, many, before, rounds = label.astype(np.uint64), 1, 0, 0
        while before < many:
            label[len(self.net.chips):] = self.around(label)[len(self.net.chips):]
            many, before, rounds = len(np.unique(label[len(self.net.chips):])), many, rounds + 1
        return rounds

    @cached_property
    def there(self) -> Array:
        """Labels of the switches without a movement."""
        return self.switches(self.net.own)


@dataclass(frozen=True, eq=False)
class Held:
    """The properties that a movement must leave unchanged; `mirrors`: the axes that it may turn.

    `columns`: (chips,) each. `positions`: axes on which positions differ, with (chips,) positions, -1 where they do not matter.
    `hops`: axes, with (2, chips) the targets of something in both directions. `groups`: (chips,) the first chip of the group of
    each chip.
    """

    movements: Movements
    mirrors: Sequence[int]
    columns: Sequence[Array]
    positions: Sequence[tuple[int, Array]]
    hops: Sequence[tuple[int, Array]]
    groups: Sequence[Array]

    @property
    def net(self) -> Grid:
        """The network."""
        return self.movements.net

    def orbits(self) -> Orbits:
        """Return the orbits of all movements found to change nothing."""
        found, chips = list(self.found()), len(self.net.chips)
        if not found:
            return Orbits(np.arange(chips))
        orbit, turned = merged(found, chips)
        along, _ = merged([(moved, axes) for moved, axes in found if not axes], chips)
        ways = {frozenset[int](): np.arange(chips)}
        for moved, axes in found:
            ways |= {before ^ set(axes): moved[to] for before, to in ways.items() if axes}
        still = tuple((tuple(sorted(axes)), along[to] == along) for axes, to in ways.items() if axes)
        of_axes = turned >> np.arange(len(self.net.axes))[:, None] & 1 > 0
        return Orbits(numbered(orbit), self.movements.like(found), Mirrors(of_axes, still))

    def found(self) -> Iterator[tuple[Array, Turned]]:
        """Yield movements that change nothing and generate all such movements: targets of the chips, turned axes.

        If a translation leads one chip to another, a failed movement to the one means that the movement to the other fails, too.
        """
        members = np.flatnonzero(self.labels == np.bincount(self.labels).argmin())
        base, known, moves, failed = int(members[0]), {frozenset[int]()}, list[tuple[Array, Turned]](), 0
        orbit = along = np.arange(len(self.labels))
        for turned in chain.from_iterable(combinations(self.mirrors, n) for n in range(len(self.mirrors) + 1)):
            missed = np.zeros(len(orbit), bool)  # at the first chip of each orbit of translations
            for member in members[not turned:].tolist():
                if failed > TRIES or not orbit.any() or (turned and frozenset(turned) in known):
                    break
                if missed[along[member]] or (not turned and orbit[member] == orbit[base]):
                    continue
                moved = self.movements.to(base, member, turned)
                if not self.holds(moved, turned) or self.movements.links(moved, turned) is None:
                    missed[along[member]] = True
                    failed += 1
                    continue
                yield moved, turned
                known |= {one ^ set(turned) for one in known}
                moves.append((moved, turned))
                orbit, _ = merged(moves, len(orbit))
                if not turned:
                    along = orbit
                    missed[along[missed]] = True
            if failed <= TRIES:  # else some translations can be missing, and so can reflections that leave a chip in place
                failed = 0

    def holds(self, moved: Array, turned: Turned) -> bool:
        """Return whether a movement leaves all properties of the chips unchanged; links are not checked."""
        def ways(axis: int, to: Array) -> Array:
            return to[::-1] if axis in turned else to

        def places(axis: int, at: Array) -> Array:
            return self.mirrored(axis, at) if axis in turned else at
        return bool(all((column[moved] == column).all() for column in (self.labels, *self.columns))
                    and all((at[moved] == places(axis, at)).all() for axis, at in self.positions)
                    and all((moved[to] == ways(axis, to)[:, moved]).all() for axis, to in self.hops)
                    and all((first[moved] == first[moved][first]).all() for first in self.groups))

    def mirrored(self, axis: int, at: Array) -> Array:
        """Return the positions on an axis after it is turned."""
        return np.where(at < 0, at, self.net.shape[axis] - 1 - at)

    @cached_property
    def labels(self) -> Array:
        """Labels of the chips, (chips,), that every movement leaves unchanged."""
        columns = [*((column,) for column in self.columns), *(
            (at, self.mirrored(axis, at)) if axis in self.mirrors else (at,) for axis, at in self.positions)]
        return self.movements.refined(mixed(columns, len(self.net.chips)))


def uneven(net: Grid) -> list[tuple[int, Array]]:
    """Return the axes on which routes depend on the start of a line, with the positions of chips on them."""
    return [(a, net.links.coordinates[a]) for a, n in enumerate(net.links.axes.values())
            if n > 1 and (n == 2 or not net.links.ring[a]) and net.routing != "shortest"]


def merged(moves: Sequence[tuple[Array, Turned]], count: int) -> tuple[Array, Array]:
    """Return (count,) the first item of the orbit of each, and the axes turned on the way to it, as bits."""
    number, turned = np.arange(count), np.zeros(count, np.int64)
    steps = [(one, sum(1 << a for a in axes)) for moved, axes in moves for one in (moved, np.argsort(moved))]
    before = None
    while before is None or (before != number).any():
        before = number
        for moved, bits in steps:
            earlier = number[moved] < number
            number, turned = np.where(earlier, number[moved], number), np.where(earlier, turned[moved] ^ bits, turned)
        turned, number = turned ^ turned[number], number[number]
    return number, turned


def _walk(steps: Array, count: Array, chips: Array) -> Array:
    """Return the targets of chips after count[a] steps along each axis a; `steps`: (axes, chips) one step."""
    for step, times in zip(steps, count.tolist()):
        while times:
            if times & 1:
                chips = step[chips]
            step, times = step[step], times >> 1
    return chips
