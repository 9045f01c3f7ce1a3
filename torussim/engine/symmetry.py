"""The chips that have the same times, so that one chip can stand for all of them.

If all messages stay on their own chip's links, the times depend only on senders, receivers and links: partition refinement finds
the classes. In other cases only verified movements count (`topology.movement`). One slow or dead link leaves the mirror images of
its neighbourhood: of 16 x 16 x 16 chips 648 are different, if the program does the same in both directions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from torussim.collectives.contract import Pattern
from torussim.collectives.lower import DIRECT, algorithm_of, lower, matrix_of, view
from torussim.collectives.unequal import alike
from torussim.messages import sent_to
from torussim.program import Collective, Compute, Program, numbered_cases, of_each
from torussim.topology.grid import Grid
from torussim.topology.labels import colours, mixed, numbered, scramble
from torussim.topology.movement import Held, Movements, Orbits, uneven
from torussim.topology.shape import receivers

Array = np.ndarray[Any, Any]


def orbits(program: Program, movements: Movements, begin: Array) -> Orbits:
    """Return the chips that have the same future.

    `begin`: (chips,) seconds at which each chip starts. Along an axis that a neighbour collective uses, the next chips of a class
    form one class, and the next chips of two classes form two: refinement goes in both directions of an axis, so a step along the
    axis maps classes one to one, as it maps chips. Where an axis is turned, this holds for both directions together.
    """
    net = movements.net
    if net.links.failures or any(isinstance(o, Collective) and o.groups for o in program.operations()):
        # folding would need the same symmetry of the changed routes, and of the groups
        return Orbits(np.arange(len(net.chips)))
    collectives = [o for o in program.operations() if isinstance(o, Collective) and any(net.length(a) > 1 for a in o.axes)]
    direct = [o for o in collectives if algorithm_of(o) in DIRECT]
    near = [o for o in collectives if algorithm_of(o) not in DIRECT]
    used = sorted({net.axis(a) for o in near for a in o.axes if net.length(a) > 1})
    views = [view(o, net) for o in near]
    gaps = {seen.ring: np.asarray(seen.gap.any(axis=(1, 2))) for seen in {v.ring: v for v in views}.values()}
    through = [o for o, seen in zip(near, views) for a in o.axes
               if gaps[seen.ring][net.axis(a)] and not _runs_as_line(o, seen, net.axis(a))]
    told_apart = sorted({net.axis(a) for o in program.operations() for a, _ in o.on if net.length(a) > 1})
    positions = _positions(near, net, used) + [(a, net.coordinates[a]) for a in told_apart]
    unlike = list(_unlike(program, net))
    own = any(callable(algorithm_of(o)) for o in near)  # some hops can be routed
    if direct or through or own or net.links.events or not net.on_axes:
        if callable(net.routing) and (direct or own or any(net.stride[a] > 1 for a in used)):
            return Orbits(np.arange(len(net.chips)))
        positions += uneven(net)  # needed even if no link of a line is left
        steps = receivers(net.links.axes, net.links.twist)
        hops = [*enumerate(steps), *((a, net.receiver[a]) for a in used)]
        ordered = [o for o in direct if algorithm_of(o) == "shifts" or o.kind == "permute"]
        hops += [(net.axis(a), np.stack([_straight_on(net, a)] * 2)) for o in ordered for a in o.axes]
        hops += [(net.axis(o.axes[0]), np.stack([one, one])) for o in direct for one in _told(net, o)]
        groups = [_groups(net, o) for o in direct]
        return Held(movements, _mirrors(program, near, direct, net), [begin, *unlike], positions, hops, groups).orbits()
    told = [begin, *unlike, *(at for _, at in positions)]
    told += [column for a in used for column in (*net.bandwidth[a], *net.latency[a])]
    return Orbits(numbered(_refined(told, net.receiver[used])))


def _unlike(program: Program, net: Grid) -> Iterator[Array]:
    """Yield (chips,) numbers that differ where chips have different cases of a computation, or other bytes in a matrix.

    Two chips have the same bytes if each sends the same to the chip at any displacement from it.
    """
    of = dict(zip(net.axes, net.coordinates))
    for o in program.operations():
        if isinstance(o, Compute) and o.cases:
            yield of_each(o, dict(zip(o.cases, numbered_cases(o))).__getitem__, net.length, of)
        elif isinstance(o, Collective) and o.matrix and (axes := [a for a in o.axes if net.length(a) > 1]):
            lengths = [net.length(a) for a in axes]
            yield alike(lengths, matrix_of(o, prod(lengths)))[np.ravel_multi_index([of[a] for a in axes], lengths)]


def _runs_as_line(collective: Collective, net: Grid, axis: int) -> bool:
    """Return whether a collective sends nothing over the gaps of an axis, because its broken rings run as lines."""
    return (collective.detour is False and net.ring[axis] and net.stride[axis] == 1 and collective.kind != "permute"
            and algorithm_of(collective) not in ("one_ring", "nested") and not callable(algorithm_of(collective)))


def _positions(near: Sequence[Collective], net: Grid, used: Sequence[int]) -> list[tuple[int, Array]]:
    """Return the axes on which positions differ in their messages, each with (chips,) the position of each chip.

    They are lines, broken rings that run as lines, the axes of a ring over several axes, and all axes of a user-defined
    algorithm.
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
    """Return the axes along which both directions do the same, so that they can be turned."""
    whole = net.axes == tuple(net.links.axes) and not net.links.twist
    unlike = any(bool(o.matrix) if isinstance(o, Collective) else bool(o.cases) for o in program.operations())
    if unlike or not whole or any(callable(algorithm_of(o)) or algorithm_of(o) in ("one_ring", "nested") for o in near) \
            or any(algorithm_of(o) not in ("direct", "hierarchical") for o in direct):
        return []
    ways = {o.loop.collective: o.loop.kind for o in program.operations() if isinstance(o, Compute) and o.loop}
    phases = [phase for o in near for phase in lower(o, net, way=ways.get(o.name)).phases]
    lines = {net.axis(a) for o in near if o.detour is False for a in o.axes}  # these lines begin behind the first of several gaps
    uneven = {net.axis(p.lane.axes[0]) for p in phases if not _is_mirrored(p.pattern)}
    uneven |= {net.axis(a) for o in direct for a, by in o.shift.items() if 2 * by % net.length(a)}
    uneven |= {net.axis(a) for o in program.operations() for a, _ in o.on}
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


def _refined(told: Sequence[Array], receiver: Array) -> Array:
    """Return (chips,) the coarsest labels that differ where a column differs, or where a neighbour's label differs.

    `receiver`: (axes, 2, chips). Classes are told apart by 64-bit sums over their neighbours: only a collision could merge two.
    """
    label = colours(mixed([(column,) for column in told], len(told[0])))
    leads = receiver.reshape(-1, len(label))
    many, before = int(label.max(initial=0)), -1
    while before < many < len(label) - 1:
        found = scramble(label, many)
        for salt, to in enumerate(leads):
            found = scramble(found + scramble(label[to], salt), salt)
        label = colours(found)
        many, before = int(label.max(initial=0)), many
    return label


def _straight_on(net: Grid, axis: str) -> Array:
    """Return (chips,) the next chip on an axis by displacement, without a twist."""
    if axis in net.links.twist:
        return np.asarray(receivers(net.links.axes)[list(net.links.axes).index(axis), 0])
    return np.asarray(net.receiver[net.axis(axis), 0])


def _told(net: Grid, collective: Collective) -> Iterator[Array]:
    """Yield (chips,) the receivers of the messages of each step, if the step names them and does not displace all chips alike."""
    axes = [a for a in collective.axes if net.length(a) > 1]
    for step in lower(collective, net).steps:
        if step.to is not None:
            to, crowd = sent_to(net, axes, step)
            yield from np.where(crowd > 0, to, np.arange(len(net.chips)))


def _groups(net: Grid, collective: Collective) -> Array:
    """Return (chips,) the first chip of the group of each chip in a collective."""
    others = [net.coordinates[a] for a, name in enumerate(net.axes) if name not in collective.axes]
    key = np.zeros(len(net.chips), np.intp)
    for column in others:
        key = key * (column.max() + 1) + column
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    return np.asarray(first[place.reshape(-1)])
