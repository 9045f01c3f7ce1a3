"""Collectives over several axes: in parts that visit one axis after another, or as one ring.

Each function takes the lengths of the group's axes (in order, all above 1), which of them are rings, and bytes counted as in
program.Collective. It returns the phases in the order of the queues. It knows nothing of bandwidths and times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from math import prod

from torussim.collectives import lines, rings
from torussim.collectives.contract import Lane, Pattern, Phase

Order = tuple[tuple[int, ...], ...]


@cache
def pattern(role: str, length: int, ring: bool, way: str = "both", shift: int = 0,
            senders: tuple[int, ...] | None = None) -> Pattern:
    """Return the pattern of `role` on a ring or line: the same object for the same arguments.

    `way` is a direction or a kind of loop, as in rings.gather; `shift` is the shift of a permute, and `senders`
    are the positions that send in it (None: all).
    """
    if role == "permute":
        made = rings.permute(length, shift) if ring else lines.permute(length, shift)
        return made if senders is None else rings.only(made, senders)
    if role == "scatter":
        return rings.reverse(pattern("gather", length, ring, way))
    if role == "gather":
        return rings.gather(length, way) if ring else lines.gather(length)
    return rings.exchange(length, "one_way" if way == "one_way" else "both") if ring else lines.exchange(length)


def rotations(axes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the order of axes of each part of `multi_axis`: part p starts with axes[p]."""
    return [tuple(axes[p:]) + tuple(axes[:p]) for p in range(len(axes))]


def in_parts(kind: str, lengths: Mapping[str, int], ring: Mapping[str, bool], size: float, way: str,
             orders: Sequence[tuple[str, ...]], weights: Sequence[float]) -> tuple[Phase, ...]:
    """Return the phases of a collective whose part p has the share weights[p] of the data and visits the axes in orders[p].

    The shards of an all-gather grow from axis to axis. A reduce-scatter is the same backwards. An all-reduce is a reduce-scatter,
    then an all-gather. An all-to-all keeps its size: blocks are sent by the coordinate of their destination on the present axis.
    """
    phases = []
    for part, (order, weight) in enumerate(zip(orders, weights)):
        if weight == 0:
            continue
        whole = size * weight
        index = 0
        if kind in ("reduce_scatter", "all_reduce"):
            for i, axis in reversed(list(enumerate(order))):
                block = whole * prod(lengths[a] for a in order[:i]) / prod(lengths.values())
                phases.append(Phase(index, part, Lane((axis,)), pattern("scatter", lengths[axis], ring[axis], way), block))
                index += 1
        if kind in ("all_gather", "all_reduce"):
            for i, axis in enumerate(order):
                block = whole * prod(lengths[a] for a in order[:i]) / prod(lengths.values())
                phases.append(Phase(index, part, Lane((axis,)), pattern("gather", lengths[axis], ring[axis], way), block))
                index += 1
        if kind == "all_to_all":
            for index, axis in enumerate(order):
                phases.append(Phase(index, part, Lane((axis,)), pattern("exchange", lengths[axis], ring[axis], way),
                                    whole / lengths[axis]))
    return tuple(sorted(phases, key=lambda p: (p.index, p.part)))


def permute(lengths: Mapping[str, int], ring: Mapping[str, bool], size: float, shift: Mapping[str, int],
            on: Mapping[str, tuple[int, ...]] | None = None) -> tuple[Phase, ...]:
    """Return the permute by `shift` chips on each axis, one axis after another; `on`: the positions of the chips that send.

    On an axis that is done, the data of these chips are at the positions to which they have moved.
    """
    here, phases = dict(on or {}), list[Phase]()
    for index, axis in enumerate(axis for axis in lengths if shift.get(axis, 0) % lengths[axis]):
        senders = here.pop(axis, None)
        one = pattern("permute", lengths[axis], ring[axis], shift=shift[axis], senders=senders)
        phases.append(Phase(index, 0, Lane((axis,)), one, size, on=tuple(here.items())))
        if senders is not None:
            here[axis] = tuple(sorted((place + shift[axis]) % lengths[axis] for place in senders))
    return tuple(phases)


def nested(lengths: Mapping[str, int], ring: Mapping[str, bool], size: float) -> tuple[Phase, ...]:
    """Return the all-gather by permutes in one direction, one axis at a time, the first axis innermost.

    K-1 permutes of D / K: each chip passes on the shard that it received last, and has received every shard at the end (the
    weights of google-research's wg_xyz).
    """
    walk: list[str] = []
    for axis in lengths:
        walk = [*walk, axis] * (lengths[axis] - 1) + walk
    one = {axis: pattern("permute", lengths[axis], ring[axis], shift=1) for axis in lengths}
    return tuple(Phase(index, 0, Lane((axis,)), one[axis], size / prod(lengths.values()))
                 for index, axis in enumerate(walk))


def one_ring(kind: str, lengths: Mapping[str, int], ring: Mapping[str, bool], size: float, way: str) -> tuple[Phase, ...]:
    """Return the collective on one ring through all chips of the group (a line if no ring of neighbours exists)."""
    order, closed = ring_order(list(lengths.values()), [ring[a] for a in lengths])
    lane, count = Lane(tuple(lengths), order), len(order)
    roles = {"all_gather": ["gather"], "reduce_scatter": ["scatter"], "all_reduce": ["scatter", "gather"],
             "all_to_all": ["exchange"]}[kind]
    return tuple(Phase(index, 0, lane, pattern(role, count, closed and count > 2, way), size / count)
                 for index, role in enumerate(roles))


def ring_order(lengths: Sequence[int], ring: Sequence[bool]) -> tuple[Order, bool]:
    """Return an order of all coordinates in which neighbours are linked, and whether the last is linked to the first.

    The order is made axis by axis. If one of two axes has an even length, a closed path needs no wraparounds: out along rows,
    back along the first column. Two odd rings make a closed path of turns round the shorter ring, one for each chip of the
    longer, some in + direction and some in - direction. In all other cases the path is a snake and does not close.

    >>> ring_order([2, 3], [False, False])
    (((0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)), True)
    """
    order: list[tuple[int, ...]] = [()]
    closed = False
    for length, wraps in zip(lengths, ring):
        axis: list[tuple[int, ...]] = [(i,) for i in range(length)]
        order, closed = _join(order, closed, axis, wraps) if len(order) > 1 else ([a + b for a in order for b in axis], wraps)
    return tuple(order), closed


def _join(a: list[tuple[int, ...]], a_closed: bool, b: list[tuple[int, ...]],
          b_closed: bool) -> tuple[list[tuple[int, ...]], bool]:
    """Return a path through a x b, and whether it closes; in a and in b, each chip is linked to the next."""
    if len(b) == 1:
        return [x + b[0] for x in a], a_closed
    if len(a) % 2 == 0:
        return _comb([[x + y for y in b] for x in a]), True
    if len(b) % 2 == 0:
        return _comb([[x + y for x in a] for y in b]), True
    if a_closed and b_closed:
        wide = len(b) >= len(a)
        return _rounds([[x + y for x in a] for y in b] if wide else [[x + y for y in b] for x in a]), True
    return [x + y for i, y in enumerate(b) for x in (a if i % 2 == 0 else a[::-1])], False


def _comb(rows: list[list[tuple[int, ...]]]) -> list[tuple[int, ...]]:
    """Return a closed path through an even number of rows: a snake without the first column, then back along it."""
    path = rows[0][:1]
    for i, row in enumerate(rows):
        path += row[1:] if i % 2 == 0 else row[:0:-1]
    return path + [row[0] for row in reversed(rows[1:])]


def _rounds(rows: list[list[tuple[int, ...]]]) -> list[tuple[int, ...]]:
    """Return a closed path through odd rings, an odd number of them and at least as many as a ring has chips; one turn each.

    After a turn in + direction the next row starts one place earlier, after a turn in - direction one place later. The numbers of
    both are such that the row after the last one would start at the first place.
    """
    width = len(rows[0])
    forward = (len(rows) + width) // 2
    path, start = [], 0
    for i, row in enumerate(rows):
        sign = 1 if i < forward else -1
        path += [row[(start + sign * j) % width] for j in range(width)]
        start -= sign
    return path
