"""Which chips cannot be told apart, so that one of them can stand for all.

Where every message stays on its own chip's links, times depend only on who sends to whom over what: partition refinement
finds the classes. Routed messages of chips with like neighbourhoods can still meet others on their way, so there only
symmetries count: translations of the torus that were verified chip by chip and link by link.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from torussim.collectives.lower import DIRECT, algorithm_of, view
from torussim.program import Collective, Program
from torussim.topology.grid import Grid
from torussim.topology.shape import receivers

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


def orbits(program: Program, net: Grid, begin: Array) -> Array:
    """Return (chips,) numbers from 0 on, the same for chips that have the same future; classes in order of their first chips.

    `begin`: (chips,) seconds at which each chip starts. In every class the next chip along an axis that a neighbour
    collective uses is of one class, and the next of no other class is of that: refinement goes both ways along an axis, so
    a step along it maps classes one to one, as it does chips.
    """
    collectives = [o for o in program.operations() if isinstance(o, Collective) and any(net.length(a) > 1 for a in o.axes)]
    direct = [o for o in collectives if algorithm_of(o) in DIRECT]
    near = [o for o in collectives if algorithm_of(o) not in DIRECT]
    used = sorted({net.axis(a) for o in near for a in o.axes if net.length(a) > 1})
    views = [view(o, net) for o in near]
    gaps = {seen.ring: np.asarray(seen.gap.any(axis=(1, 2))) for seen in {v.ring: v for v in views}.values()}
    through = [o for o, seen in zip(near, views) for a in o.axes
               if gaps[seen.ring][net.axis(a)] and not _runs_as_line(o, seen, net.axis(a))]
    told = [begin, *_positions(near, net, used)]
    own = any(callable(algorithm_of(o)) for o in near)  # some of its hops may be routed
    if direct or through or own or net.links.events:
        far = direct or own or any(net.stride[a] > 1 for a in used)
        if (far and callable(net.routing)) or (net.links.axis < 0).any() or len(net.links.nodes) > len(net.chips):
            return np.arange(len(net.chips))
        found = _translated(direct, net, used, told)
    else:
        told += [column for a in used for column in (*net.bandwidth[a], *net.latency[a])]
        found = _refined(told, net.receiver[used])
    return numbered(found)


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


def _positions(near: Sequence[Collective], net: Grid, used: Sequence[int]) -> list[Array]:
    """Return (chips,) columns: where chips stand on axes on which not every position does the same.

    Those are lines, broken rings that run as lines, the axes of a ring over several, and any axis of a user's algorithm.
    """
    spelt = {net.axis(a) for o in near for a in o.axes if algorithm_of(o) == "one_ring" or callable(algorithm_of(o))}
    lines = {net.axis(a) for o in near if o.detour is False for a in o.axes}
    straight = {net.axis(a) for o in near for a in o.axes if not view(o, net).ring[net.axis(a)]}
    found = []
    for axis in used:
        at = net.coordinates[axis]
        if axis in straight or axis in spelt:
            found.append(at)
        elif axis in lines and net.gap[axis].any():
            lane = np.arange(len(at))
            for _ in range(net.shape[axis]):
                lane = np.minimum(lane, lane[net.receiver[axis, 0]])
            found.append(np.where(np.isin(lane, lane[net.gap[axis].any(axis=0)]), at, -1))
    return found


def _refined(told: Sequence[Array], receiver: Array) -> Array:
    """Return (chips,) the coarsest labels that tell the same columns apart, and chips with unlike chips around them.

    `receiver`: (axes, 2, chips). Classes are told apart by 64-bit sums over what they touch: unlike ones would have to collide.
    """
    mixed = np.zeros(len(told[0]), np.uint64)
    for salt, column in enumerate(told):
        bits = (column + 0.0).astype(np.float64).view(np.uint64)  # -0.0 is 0.0
        mixed = scramble(mixed + scramble(bits, salt), salt)
    label = colours(mixed)
    leads = receiver.reshape(-1, len(label))
    many, before = int(label.max(initial=0)), -1
    while before < many < len(label) - 1:
        mixed = scramble(label, many)
        for salt, to in enumerate(leads):
            mixed = scramble(mixed + scramble(label[to], salt), salt)
        label = colours(mixed)
        many, before = int(label.max(initial=0)), many
    return label


def _translated(direct: Sequence[Collective], net: Grid, used: Sequence[int], told: Sequence[Array]) -> Array:
    """Return (chips,) the orbits of the translations that change nothing.

    What may be different where it was: chips' starts and positions that count, links, events, where hops lead, and who is in
    a group of a direct all-to-all. All translations that hold these fast are symmetries: routes follow from the links.
    """
    links, chips = net.links, len(net.chips)
    steps = receivers(links.axes, links.twist)
    slot = links.slot
    events = np.zeros(len(links.source))
    for number, event in enumerate(links.events, 1):  # a number for each history of changes
        changed = np.zeros(len(events))
        changed[event.links] = event.bandwidth
        events = colours(scramble(events, number) + scramble(changed, 0)).astype(float)
    there = slot >= 0
    columns = list(told)
    # Routes on a line depend on where it begins, even where nothing is left of its links.
    columns += [links.coordinates[a] for a, n in enumerate(links.axes.values()) if n > 1 and (n == 2 or not links.ring[a])]
    for values in (links.bandwidth, links.latency, events) if links.events else (links.bandwidth, links.latency):
        columns += list(np.where(there, values[slot], -1.0).reshape(-1, chips)) if len(values) else []
    label = _refined(columns, steps)
    size = np.bincount(label)
    if size.min() == 1:  # a translation that holds one chip moves none
        return np.arange(chips)
    members = np.flatnonzero(label == size.argmin())
    groups = [_groups(net, o) for o in direct]
    hops = [*steps[:, 0], *net.receiver[used, 0]]
    ordered = any(algorithm_of(o) == "shifts" for o in direct)
    if ordered:
        hops += [_straight_on(net, a) for o in direct for a in o.axes]
    back = _walk(steps[:, 1], links.coordinates[:, members[0]], np.arange(chips))
    orbit, failed = np.arange(chips), 0
    for member in members[1:].tolist():
        if orbit[member] == orbit[members[0]]:
            continue
        moved = _walk(steps[:, 0], links.coordinates[:, member], back)
        if (label[moved] == label).all() and all((c[moved] == c).all() for c in columns) \
                and all((to[moved] == moved[to]).all() for to in hops) \
                and all((g[moved] == g[moved][g]).all() for g in groups):
            orbit = _joined(orbit, moved)
        else:
            failed += 1
            if failed == TRIES:
                break
    return orbit


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


def _joined(orbit: Array, moved: Array) -> Array:
    """Return orbits, numbered by their first chips, with one more symmetry; it commutes with those before."""
    for _ in range(len(orbit).bit_length()):  # then it has been gone round, however often it can be
        orbit = np.minimum(orbit, orbit[moved])
        moved = moved[moved]
    return orbit
