"""Movements of a network that change nothing: translations and reflections of the axes, verified link by link.

What is routed can meet others anywhere, so that chips with like neighbourhoods need not have the same future: only an
automorphism of the whole network tells that they have. A movement is one if every chip finds all that counts as it was, and
every link leads to one like it; switches go where their neighbours go. The links of a network are verified once for each movement
(`Movements`), whatever else a movement must leave as it was (`Held`).
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
Move = tuple[int, Turned]  # where the first chip gets to, and axes turned: no two movements have both alike
FEW = 4096  # messages: routed sooner than it is known which of them are alike
TRIES = 200  # movements that turn out to change something, before the rest are left untried


class Orbits(NamedTuple):
    """Chips that have the same future: (chips,) a number for each class, from 0 on, in the order of their first chips.

    `links`: (links,) the first of the links that are like each; None: that of the first chip of the class.
    """

    number: Array
    links: Array | None = None
    mirrors: Mirrors | None = None


@dataclass(frozen=True, eq=False)
class Movements:
    """The movements of one network, and which of them lead every link to one like it; what was verified is kept."""

    net: Grid

    def to(self, chip: int, other: int, turned: Turned) -> Array:
        """Return where all chips get to, (chips,), when one gets to another and some axes are turned."""
        links = self.net.links
        if not turned:
            back = _walk(self.steps[:, 1], links.coordinates[:, chip], np.arange(len(self.net.own)))
            return _walk(self.steps[:, 0], links.coordinates[:, other], back)
        lengths = np.array(list(links.axes.values()))[:, None]
        sign = np.where(np.isin(np.arange(len(lengths)), turned), -1, 1)[:, None]
        at = links.coordinates[:, [other]] + sign * (links.coordinates - links.coordinates[:, [chip]])
        return np.asarray(strides(tuple(links.axes.values())) @ (at % lengths))

    def links(self, moved: Array, turned: Turned) -> Array | None:
        """Return the links that links are moved to, (links,), all like them; None if there are none for some."""
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
        """Return the network with one chip for all that are led to one another by movements which lead messages to messages.

        `to`: (messages, chips) the chip that each message of each goes to. Nothing is folded where these are FEW, or where
        the routing is a user's.
        """
        if to.size <= FEW or callable(self.net.routing):
            return self.net
        return folded(self.net, *Held(self, (), (), uneven(self.net), [(0, to)], ()).orbits())

    def refined(self, own: Array) -> Array:
        """Return labels of the chips, (chips,), that tell apart labels `own` and chips with unlike links and nodes around."""
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
        """Where links get to by the movements that were tried."""
        return {}

    @cached_property
    def _like(self) -> dict[tuple[Move, ...], Array]:
        """Links that stand for others, by movements."""
        return {}

    @cached_property
    def _refined(self) -> dict[bytes, Array]:
        """Refined labels, by what they refine."""
        return {}

    def _links(self, moved: Array) -> Array | None:
        """Return the links that links are moved to, (links,), all like them; None if there are none for some."""
        links, nodes = self.net.links, self.nodes(moved)
        if nodes is None or not len(links.source):
            return None if nodes is None else np.zeros(0, np.intp)
        order, ends = self.ends
        to = nodes[links.source] * len(nodes) + nodes[links.target]
        place = np.minimum(np.searchsorted(ends, to), len(ends) - 1)
        found = order[place]
        return found if (ends[place] == to).all() and (self.kinds[found] == self.kinds).all() else None

    def nodes(self, moved: Array) -> Array | None:
        """Return where all nodes get to, (nodes,): switches where their neighbours do; None if some cannot."""
        switches = len(self.net.links.nodes) - len(moved)
        if not switches:
            return moved
        wanted, there = self.switches(moved), self.there
        here, order = np.argsort(wanted, kind="stable"), np.argsort(there, kind="stable")
        to = np.empty(switches, np.intp)
        to[here] = len(moved) + order  # those that nothing tells apart in the order of their numbers
        return np.concatenate([moved, to]) if (wanted[here] == there[order]).all() else None

    def switches(self, moved: Array) -> Array:
        """Return labels of the switches, (switches,), by the chips around them, which are known by where they get to."""
        label = np.concatenate([moved, np.full(len(self.net.links.nodes) - len(moved), -1)]).astype(np.uint64)
        for _ in range(self.rounds):
            label[len(moved):] = self.around(label)[len(moved):]
        return label[len(moved):]

    def around(self, label: Array) -> Array:
        """Return labels, (nodes,), that tell apart what labels tell apart, or the links and nodes around."""
        links, found = self.net.links, scramble(label, 0)
        for salt, (here, there, order, first) in enumerate(self.sides, 1):
            weight = scramble(scramble(self.kinds, 0) + label[there], salt)[order]
            total = np.add.reduceat(np.append(weight, np.uint64(0)), np.minimum(first[:-1], len(weight)))
            found = found + np.where(np.diff(first) > 0, scramble(total, salt), np.uint64(0))
            assert len(here) == len(links.source)
        return found

    @cached_property
    def steps(self) -> Array:
        """The chip after and before each chip on each axis, going round; (axes, 2, chips)."""
        return receivers(self.net.links.axes, self.net.links.twist)

    @cached_property
    def kinds(self) -> Array:
        """Labels of the links, (links,), by bandwidth, latency, what routes see of them and what happens to them in mid-run."""
        links = self.net.links
        found = mixed([(links.bandwidth,), (links.latency,), (links.routed,), (links.hops,)], len(links.source))
        for number, event in enumerate(links.events, 4):
            changed = np.zeros(len(found))
            changed[event.links] = np.where(event.bandwidth > 0, event.bandwidth, -1.0)
            found = scramble(found + scramble(changed.view(np.uint64), number), number)
        return found

    @cached_property
    def ends(self) -> tuple[Array, Array]:
        """The links in the order of their ends, and these as one number each."""
        links = self.net.links
        ends = links.source * len(links.nodes) + links.target
        order = np.argsort(ends)
        return order, ends[order]

    @cached_property
    def sides(self) -> list[tuple[Array, Array, Array, Array]]:
        """For links that leave nodes, and that enter them: node, the other one, links in their order, the first of each."""
        links, found = self.net.links, []
        for here, there in ((links.source, links.target), (links.target, links.source)):
            order = np.argsort(here, kind="stable")
            found.append((here, there, order, np.searchsorted(here[order], np.arange(len(links.nodes) + 1))))
        return found

    @cached_property
    def rounds(self) -> int:
        """After how many rounds labels of switches do not tell more of them apart."""
        label = np.concatenate([np.arange(len(self.net.chips)), np.full(len(self.net.links.nodes) - len(self.net.chips), -1)])
        label, many, before, rounds = label.astype(np.uint64), 1, 0, 0
        while before < many:
            label[len(self.net.chips):] = self.around(label)[len(self.net.chips):]
            many, before, rounds = len(np.unique(label[len(self.net.chips):])), many, rounds + 1
        return rounds

    @cached_property
    def there(self) -> Array:
        """Labels of the switches where nothing is moved."""
        return self.switches(self.net.own)


@dataclass(frozen=True, eq=False)
class Held:
    """What a movement must leave as it was; `mirrors`: the axes that it may turn.

    `columns`: (chips,) each. `positions`: axes on which not every position is the same, with (chips,) positions, -1 where that
    is no matter. `hops`: axes, with (2, chips) where something leads in both directions. `groups`: (chips,) the first chip of
    each chip's group.
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
        """Return the orbits of all movements that were found to change nothing."""
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
        """Yield movements that change nothing and generate all that do: where chips get to, axes turned.

        Where a chip leads to another by a translation, what fails to lead to the one fails to lead to the other.
        """
        members = np.flatnonzero(self.labels == np.bincount(self.labels).argmin())
        base, known, moves, failed = int(members[0]), {frozenset[int]()}, list[tuple[Array, Turned]](), 0
        orbit = along = np.arange(len(self.labels))
        for turned in chain.from_iterable(combinations(self.mirrors, n) for n in range(len(self.mirrors) + 1)):
            missed = np.zeros(len(orbit), bool)  # by the first chip of an orbit of translations
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
            if failed <= TRIES:  # else not all translations are known, and not which reflections leave a chip where it is
                failed = 0

    def holds(self, moved: Array, turned: Turned) -> bool:
        """Return whether chips that are moved find all as it was, but for the links."""
        def ways(axis: int, to: Array) -> Array:
            return to[::-1] if axis in turned else to

        def places(axis: int, at: Array) -> Array:
            return self.mirrored(axis, at) if axis in turned else at
        return bool(all((column[moved] == column).all() for column in (self.labels, *self.columns))
                    and all((at[moved] == places(axis, at)).all() for axis, at in self.positions)
                    and all((moved[to] == ways(axis, to)[:, moved]).all() for axis, to in self.hops)
                    and all((first[moved] == first[moved][first]).all() for first in self.groups))

    def mirrored(self, axis: int, at: Array) -> Array:
        """Return positions on an axis as they are when it is turned."""
        return np.where(at < 0, at, self.net.shape[axis] - 1 - at)

    @cached_property
    def labels(self) -> Array:
        """Labels of the chips, (chips,), that every movement leaves as they are."""
        columns = [*((column,) for column in self.columns), *(
            (at, self.mirrored(axis, at)) if axis in self.mirrors else (at,) for axis, at in self.positions)]
        return self.movements.refined(mixed(columns, len(self.net.chips)))


def uneven(net: Grid) -> list[tuple[int, Array]]:
    """Return the axes on which routes by coordinates depend on where a line begins, with the positions of chips there."""
    return [(a, net.links.coordinates[a]) for a, n in enumerate(net.links.axes.values())
            if n > 1 and (n == 2 or not net.links.ring[a]) and net.routing != "shortest"]


def merged(moves: Sequence[tuple[Array, Turned]], count: int) -> tuple[Array, Array]:
    """Return (count,) the first of the orbit of each, and which axes are turned on the way there, as bits."""
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
    """Return where chips get to by count[a] steps along each axis a; `steps`: (axes, chips) one step."""
    for step, times in zip(steps, count.tolist()):
        while times:
            if times & 1:
                chips = step[chips]
            step, times = step[step], times >> 1
    return chips
