"""All-to-alls with unequal bytes, given by a matrix: the bytes of each hop of a phase, and of each routed message.

An all-to-all over several axes visits one axis after another. In the phase of an axis a chip sends to each position of the axis
the data for the chips there. Bytes are counted exactly, so they differ from chip to chip. A message without bytes is not sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import numpy as np

from torussim.collectives.contract import Pattern, Phase, Step
from torussim.collectives.steps import displacements

Array = np.ndarray[Any, Any]


def flow(matrix: Array, lengths: Sequence[int], order: Sequence[int], place: int) -> Array:
    """Return (K, length) the bytes that each chip of a group holds for each position of an axis when the phase of it starts.

    `matrix`: (K, K) bytes, in C order of axes of these lengths. `order`: the numbers of the axes in the order of the phases. The
    axis is order[place]: the axes before it have brought data to the positions of their destinations, those after have not.
    """
    axes, axis = len(lengths), order[place]
    data = matrix.reshape(*lengths, *lengths)  # by origin, then by destination
    here = [axes + a if a in order[:place] else a for a in range(axes)]
    gone = tuple(i for i in range(2 * axes) if i not in here and i != axes + axis)
    left = [i for i in range(2 * axes) if i not in gone]
    return np.asarray(data.sum(axis=gone).transpose([left.index(i) for i in (*here, axes + axis)])).reshape(len(matrix), -1)


def with_flows(phases: Sequence[Phase], matrix: Array, lengths: Mapping[str, int], orders: Sequence[Sequence[str]],
               weights: Sequence[float]) -> tuple[Phase, ...]:
    """Return the phases of an all-to-all in parts with the bytes of a matrix; part p has the share weights[p] of each entry."""
    names, found = list(lengths), list[Phase]()
    for phase in phases:
        order = [names.index(a) for a in orders[phase.part]]
        held = weights[phase.part] * flow(matrix, list(lengths.values()), order, phase.index)
        found.append(replace(phase, block=float(held.max()), flow=held))
    return tuple(found)


def hop_bytes(pattern: Pattern, held: Array, lengths: Sequence[int], axis: int, first: int = 0) -> Array:
    """Return (hops, K) the bytes that each chip of a group sends in each hop of a pattern along an axis of the group.

    `held`: (K, length) the flow of the phase. `first`: the position on the axis that is position 0 of the pattern.
    """
    length, hops = pattern.length, len(pattern.hops)
    row, origin, target = _carried(pattern)
    lines = np.moveaxis(held.reshape(*lengths, length), axis, -2)  # (other axes, origin, destination)
    lines = np.roll(lines, (-first, -first), (-2, -1))
    halves = lines[..., origin, target] / 2
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    sent = np.zeros((*halves.shape[:-1], hops * length))
    sent[..., row[starts]] = np.add.reduceat(halves, starts, axis=-1)
    sent = np.roll(sent.reshape(*halves.shape[:-1], hops, length), first, -1)
    return np.asarray(np.moveaxis(np.moveaxis(sent, -1, axis), -1, 0)).reshape(hops, -1)


@cache
def _carried(pattern: Pattern) -> tuple[Array, Array, Array]:
    """Return (halves,) the hop and position that each half of a block leaves, as one number, its origin and its destination."""
    found = [(h * pattern.length + i, *block) for h, hop in enumerate(pattern.hops) for i in range(pattern.length)
             if hop.halves[i] for block, _ in hop.chunks(i)]
    row, origin, target = np.array(found, int).reshape(-1, 3).T
    return row, origin, target


def messages(lengths: Sequence[int], matrix: Array) -> tuple[Step, ...]:
    """Return the direct all-to-all in one step: a message from each chip to every other for which it has data."""
    chips, to = len(matrix), _displaced(tuple(lengths))
    sent = matrix[np.arange(chips), to]
    most = float(sent.max(initial=0.0))
    if most == 0:
        return ()
    return (Step("exchange", most, lambda m, p, to: [p * chips + to], to=np.where(sent > 0, to, -1), part=sent / most),)


def alike(lengths: Sequence[int], matrix: Array) -> Array:
    """Return (K,) a number for each chip of a group, equal for chips that send the same to the chips at each displacement."""
    chips, first = len(matrix), dict[bytes, int]()
    sent = matrix[np.arange(chips), _displaced(tuple(lengths))]
    return np.array([first.setdefault(row.tobytes(), i) for i, row in enumerate(sent.T)])


@lru_cache(maxsize=2)
def _displaced(lengths: tuple[int, ...]) -> Array:
    """Return (K - 1, K) the position at each displacement from each chip, as `displacements` are ordered."""
    return Step("exchange", 0.0, lambda m, p, to: [], displacements(lengths)).targets(lengths)
