"""Which chips cannot be told apart, so that one of them can stand for all.

Where every message stays on its own chip's links, times depend only on who sends to whom over what: partition refinement
finds the classes. Routed messages of chips with like neighbourhoods can still meet others on their way, so there only
symmetries count: translations and reflections of the torus that were verified chip by chip and link by link. One slow or dead
link leaves its neighbourhood's mirror images: of 16 x 16 x 16 chips, 648 are unlike.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, combinations
from typing import Any, NamedTuple

import numpy as np

from torussim.collectives.contract import Pattern
from torussim.collectives.lower import DIRECT, algorithm_of, lower, view
from torussim.program import Collective, Compute, Program
from torussim.topology.grid import Grid, Mirrors
from torussim.topology.shape import receivers, strides

Array = np.ndarray[Any, Any]
TRIES = 200  # translations that turn out to be no symmetries, before the rest are left untried


def scramble(values: Array, salt: int) -> Array:
    """Return (n,) uint64 that look random, equal for equal values (splitmix64, Steele et al., OOPSLA 2014, figure 16)."""
    z = values.astype(np.uint64) + np.uint64((salt + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = z ^ (z >> np.uint64(31))
    return mixed


def colours(values: Array) -> Array:
    """Return (n,) int, the same for the same value."""
    number: Array = np.unique(values, return_inverse=True)[1]
    return number.reshape(-1)


class Orbits(NamedTuple):
    """Chips that have the same future: (chips,) a number for each class, from 0 on, in the order of their first chips.

    `links`: (links,) the first of the links that are like each, where there are mirror images.
    """

    number: Array
    links: Array | None = None
    mirrors: Mirrors | None = None


def orbits(program: Program, net: Grid, begin: Array) -> Orbits:
    """Return which chips have the same future.

    `begin`: (chips,) seconds at which each chip starts. In every class the next chip along an axis that a neighbour
    collective uses is of one class, and the next of no other class is of that: refinement goes both ways along an axis, so
    a step along it maps classes one to one, as it does chips. Where an axis is turned that holds for both ways together.
    """
    collectives = [o for o in program.operations() if isinstance(o, Collective) and any(net.length(a) > 1 for a in o.axes)]
    direct = [o for o in collectives if algorithm_of(o) in DIRECT]
    near = [o for o in collectives if algorithm_of(o) not in DIRECT]
    used = sorted({net.axis(a) for o in near for a in o.axes if net.length(a) > 1})
    views = [view(o, net) for o in near]
    gaps = {seen.ring: np.asarray(seen.gap.any(axis=(1, 2))) for seen in {v.ring: v for v in views}.values()}
    through = [o for o, seen in zip(near, views) for a in o.axes
               if gaps[seen.ring][net.axis(a)] and not _runs_as_line(o, seen, net.axis(a))]
    positions = _positions(near, net, used)
    own = any(callable(algorithm_of(o)) for o in near)  # some of its hops may be routed
    if direct or through or own or net.links.events:
        far = direct or own or any(net.stride[a] > 1 for a in used)
        if (far and callable(net.routing)) or (net.links.axis < 0).any() or len(net.links.nodes) > len(net.chips):
            return Orbits(np.arange(len(net.chips)))
        return _moved(direct, net, used, begin, positions, _mirrors(program, near, direct, net))
    told = [begin, *(at for _, at in positions)]
    told += [column for a in used for column in (*net.bandwidth[a], *net.latency[a])]
    return Orbits(numbered(_refined(told, net.receiver[used])))


def numbered(label: Array) -> Array:
    """Return labels as numbers from 0 on, in the order of the first of each.

    >>> numbered(np.array([7, 3, 7])).tolist()
    [0, 1, 0]
    """
    _, first, place = np.unique(label, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.intp)
    number[np.argsort(first)] = np.arange(len(first))
    return number[place.reshape(-1)]


def _runs_as_line(collective: Collective, net: Grid, axis: int) -> bool:
    """Return whether a collective sends nothing over the gaps of an axis: its broken rings run as lines."""
    return (collective.detour is False and net.ring[axis] and net.stride[axis] == 1 and collective.kind != "permute"
            and algorithm_of(collective) not in ("one_ring", "nested") and not callable(algorithm_of(collective)))


def _positions(near: Sequence[Collective], net: Grid, used: Sequence[int]) -> list[tuple[int, Array]]:
    """Return axes on which not every position does the same, each with (chips,) where chips stand.

    Those are lines, broken rings that run as lines, the axes of a ring over several, and any axis of a user's algorithm.
    """
    spelt = {net.axis(a) for o in near for a in o.axes if algorithm_of(o) == "one_ring" or callable(algorithm_of(o))}
    lines = {net.axis(a) for o in near if o.detour is False for a in o.axes}
    straight = {net.axis(a) for o in near for a in o.axes if not view(o, net).ring[net.axis(a)]}
    found = []
    for axis in used:
        at = net.coordinates[axis]
        if axis in straight or axis in spelt:
            found.append((axis, at))
        elif axis in lines and net.gap[axis].any():
            lane = np.arange(len(at))
            for _ in range(net.shape[axis]):
                lane = np.minimum(lane, lane[net.receiver[axis, 0]])
            found.append((axis, np.where(np.isin(lane, lane[net.gap[axis].any(axis=0)]), at, -1)))
    return found


def _mirrors(program: Program, near: Sequence[Collective], direct: Sequence[Collective], net: Grid) -> list[int]:
    """Return the axes along which both directions do the same: they can be turned."""
    whole = net.axes == tuple(net.links.axes) and not net.links.twist
    if not whole or any(callable(algorithm_of(o)) or algorithm_of(o) in ("one_ring", "nested") for o in near) \
            or any(algorithm_of(o) == "shifts" for o in direct):
        return []
    ways = {o.loop.collective: o.loop.kind for o in program.operations() if isinstance(o, Compute) and o.loop}
    phases = [phase for o in near for phase in lower(o, net, way=ways.get(o.name)).phases]
    lines = {net.axis(a) for o in near if o.detour is False for a in o.axes}  # they begin behind the first of several gaps
    uneven = {net.axis(p.lane.axes[0]) for p in phases if not _is_mirrored(p.pattern)}
    return [axis for axis, n in enumerate(net.shape) if n > 1 and axis not in uneven
            and not (axis in lines and net.gap[axis].any())]


def _is_mirrored(pattern: Pattern) -> bool:
    """Return whether each step of a pattern does the same in both directions."""
    steps: dict[tuple[int, int | None], dict[int, Array]] = {}
    for hop in pattern.hops:
        both = steps.setdefault((hop.step, hop.after), {})
        both[hop.sign] = both.get(hop.sign, 0) + hop.halves
    return pattern.role != "permute" and all(
        len(both) == 2 and bool((both[1] == both[-1][::-1]).all()) for both in steps.values())


def _refined(told: Sequence[Array], receiver: Array, pairs: Sequence[Array] = (), around: Sequence[Array] = ()) -> Array:
    """Return (chips,) the coarsest labels that tell the same columns apart, and chips with unlike chips around them.

    `receiver`: (.., 2, chips). `pairs` and `around`: (2, chips) columns and chips that have no order. Classes are told apart by
    64-bit sums over what they touch: unlike ones would have to collide.
    """
    mixed = np.zeros(receiver.shape[-1], np.uint64)
    for salt, columns in enumerate(chain(((column,) for column in told), pairs)):
        bits = [(column + 0.0).astype(np.float64).view(np.uint64) for column in columns]  # -0.0 is 0.0
        mixed = scramble(mixed + np.sum([scramble(column, salt) for column in bits], axis=0, dtype=np.uint64), salt)
    label = colours(mixed)
    leads = [*((to,) for to in receiver.reshape(-1, len(label))), *around]
    many, before = int(label.max(initial=0)), -1
    while before < many < len(label) - 1:
        mixed = scramble(label, many)
        for salt, ways in enumerate(leads):
            mixed = scramble(mixed + np.sum([scramble(label[to], salt) for to in ways], axis=0, dtype=np.uint64), salt)
        label = colours(mixed)
        many, before = int(label.max(initial=0)), many
    return label


def _moved(direct: Sequence[Collective], net: Grid, used: Sequence[int], begin: Array, positions: Sequence[tuple[int, Array]],
           mirrors: Sequence[int]) -> Orbits:
    """Return the orbits of the translations and reflections that change nothing.

    What may be different where it was: chips' starts and positions that count, links, events, where hops lead, and who is in
    a group of a direct all-to-all. All that hold these fast are symmetries: routes follow from the links.
    """
    links, chips = net.links, len(net.chips)
    steps = receivers(links.axes, links.twist)
    slot = links.slot
    events = np.zeros(len(links.source))
    for number, event in enumerate(links.events, 1):  # a number for each history of changes
        changed = np.zeros(len(events))
        changed[event.links] = event.bandwidth
        events = colours(scramble(events, number) + scramble(changed, 0)).astype(float)
    # Routes on a line depend on where it begins, even where nothing is left of its links.
    positions = [*positions, *((a, links.coordinates[a]) for a, n in enumerate(links.axes.values())
                               if n > 1 and (n == 2 or not links.ring[a]))]
    of_links = [np.where(slot >= 0, values[slot], -1.0) for values in (links.bandwidth, links.latency, *([events] if links.events else ()))
                if len(values)]
    hops = [(a, steps[a]) for a in range(len(steps))] + [(a, net.receiver[a]) for a in used]
    if any(algorithm_of(o) == "shifts" for o in direct):
        hops += [(net.axis(a), np.stack([_straight_on(net, a)] * 2)) for o in direct for a in o.axes]
    groups = [_groups(net, o) for o in direct]
    straight = [a for a in range(len(steps)) if a not in mirrors]
    label = _refined([begin, *(at for a, at in positions if a not in mirrors), *(c for v in of_links for c in v[straight].reshape(-1, chips))],
                     steps[straight], [np.stack([at, np.where(at < 0, at, net.shape[a] - 1 - at)]) for a, at in positions if a in mirrors]
                     + [v[a] for v in of_links for a in mirrors], steps[mirrors])
    members = np.flatnonzero(label == np.bincount(label).argmin())
    back = _walk(steps[:, 1], links.coordinates[:, members[0]], np.arange(chips))

    def to(member: int, turned: tuple[int, ...]) -> Array:
        """Return where chips get to, of which the first member gets to another and some axes are turned."""
        if not turned:
            return _walk(steps[:, 0], links.coordinates[:, member], back)
        shape = np.array(list(links.axes.values()))
        sign = np.where(np.isin(np.arange(len(shape)), turned), -1, 1)[:, None]
        at = links.coordinates[:, member, None] + sign * (links.coordinates - links.coordinates[:, members[0], None])
        return np.asarray(strides(tuple(shape)) @ (at % shape[:, None]))

    def holds(moved: Array, turned: tuple[int, ...]) -> bool:
        """Return whether chips that are moved find all as it was."""
        def ways(a: int) -> slice:
            return slice(None, None, -1 if a in turned else 1)
        return bool((label[moved] == label).all() and (begin[moved] == begin).all()
                    and all((np.where(at < 0, at, net.shape[a] - 1 - at if a in turned else at) == at[moved]).all() for a, at in positions)
                    and all((v[a][ways(a)] == v[a][:, moved]).all() for v in of_links for a in range(len(steps)))
                    and all((moved[lead] == lead[ways(a)][:, moved]).all() for a, lead in hops)
                    and all((g[moved] == g[moved][g]).all() for g in groups))
    found = list[tuple[Array, tuple[int, ...]]]()
    orbit, known, failed = np.arange(chips), {frozenset[int]()}, 0
    for turned in chain.from_iterable(combinations(mirrors, n) for n in range(len(mirrors) + 1)):
        failed = failed if failed > TRIES else 0  # not all translations are known: none that follow from reflections can be told
        for member in members[not turned:].tolist():
            if frozenset(turned) in known and turned or not orbit.any() or failed > TRIES:
                break
            if not turned and orbit[member] == orbit[members[0]]:
                continue
            moved = to(member, turned)
            if holds(moved, turned):
                found.append((moved, turned))
                known |= {one ^ set(turned) for one in known}
                orbit, _ = _merged(found, chips)
            else:
                failed += 1
    orbit, flips = _merged(found, chips)
    mirrored = [(moved, turned) for moved, turned in found if turned]
    along, _ = _merged([(moved, turned) for moved, turned in found if not turned], chips)
    if not mirrored:
        return Orbits(numbered(orbit))
    rows = np.arange(2 * len(steps)).reshape(-1, 2, 1) * chips
    of_hops = [(np.stack([row[::-1] if a in turned else row for a, row in enumerate(rows)]) + moved).ravel()
               for moved, turned in found]
    like, _ = _merged([(moved, ()) for moved in of_hops], 2 * len(steps) * chips)
    stands, there = np.arange(len(links.source)), slot.ravel() >= 0
    stands[slot.ravel()[there]] = slot.ravel()[like[there]]
    all_ways = {frozenset[int](): np.arange(chips)}
    for moved, turned in mirrored:
        all_ways |= {before ^ set(turned): moved[to] for before, to in all_ways.items()}
    still = tuple((tuple(sorted(turned)), along[to] == along) for turned, to in all_ways.items() if turned)
    return Orbits(numbered(orbit), stands, Mirrors(flips >> np.arange(len(net.axes))[:, None] & 1 > 0, still))


def _merged(found: Sequence[tuple[Array, tuple[int, ...]]], count: int) -> tuple[Array, Array]:
    """Return (count,) the first of the orbit of each under symmetries, and which axes are turned on the way there, as bits."""
    number, flips = np.arange(count), np.zeros(count, np.int64)
    steps = [(one, sum(1 << a for a in turned)) for moved, turned in found for one in (moved, np.argsort(moved))]
    before = None
    while before is None or (before != number).any():
        before = number
        for moved, bits in steps:
            lower_one = number[moved] < number
            number, flips = np.where(lower_one, number[moved], number), np.where(lower_one, flips[moved] ^ bits, flips)
        flips, number = flips ^ flips[number], number[number]
    return number, flips


def _straight_on(net: Grid, axis: str) -> Array:
    """Return (chips,) the next chip on an axis, as displacements count: going round without a twist."""
    if axis in net.links.twist:
        return np.asarray(receivers(net.links.axes)[list(net.links.axes).index(axis), 0])
    return np.asarray(net.receiver[net.axis(axis), 0])


def _groups(net: Grid, collective: Collective) -> Array:
    """Return (chips,) the first chip of the group of each chip in a collective."""
    others = [net.coordinates[a] for a, name in enumerate(net.axes) if name not in collective.axes]
    key = np.zeros(len(net.chips), np.intp)
    for column in others:
        key = key * (column.max() + 1) + column
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    return np.asarray(first[place.reshape(-1)])


def _walk(steps: Array, count: Array, chips: Array) -> Array:
    """Return where chips get to by count[a] steps along each axis a; `steps`: (axes, chips) one step."""
    for step, times in zip(steps, count.tolist()):
        while times:
            if times & 1:
                chips = step[chips]
            step, times = step[step], times >> 1
    return chips
