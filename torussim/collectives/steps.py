"""Collectives whose messages go directly from chip to chip, routed at any distance: step after step.

Each function takes the lengths of the group's axes (all above 1) and bytes counted as in program.Collective. Positions are
numbers in the group, in C order. A chip sends the messages of a step when its step before is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from math import prod

import numpy as np

from torussim.collectives.contract import Array, Step
from torussim.collectives.rooted import all_reduce
from torussim.program import ONE_SHOT

Make = Callable[[Sequence[int], float], tuple[Step, ...]]


def displacements(lengths: Sequence[int]) -> Array:
    """Return all displacements within a group except zero, in C order, (messages, axes).

    >>> displacements([2, 2]).tolist()
    [[0, 1], [1, 0], [1, 1]]
    """
    return np.array(list(product(*map(range, lengths)))[1:], dtype=int).reshape(-1, len(lengths))


def permute(lengths: Mapping[str, int], shift: Mapping[str, int], size: float) -> tuple[Step, ...]:
    """Return the step with one message from each chip to the chip that is `shift` away; no step if the shift is zero."""
    by = [shift.get(axis, 0) % n for axis, n in lengths.items()]
    return (Step("permute", size, lambda m, p, to: [p], np.array([by], dtype=int)),) if any(by) else ()


def exchange(lengths: Sequence[int], size: float, turns: bool = False) -> tuple[Step, ...]:
    """Return the all-to-all in one step: a message from each chip to every other, at once or in turn (`turns`)."""
    chips = prod(lengths)
    return (Step("exchange", size / chips, lambda m, p, to: [p * chips + to], displacements(lengths), turns=turns),)


def gather(lengths: Sequence[int], size: float) -> tuple[Step, ...]:
    """Return the all-gather in one step: each chip sends its shard to every other chip."""
    return (Step("gather", size / prod(lengths), lambda m, p, to: [p], displacements(lengths)),)


def scatter(lengths: Sequence[int], size: float) -> tuple[Step, ...]:
    """Return the reduce-scatter in one step: each chip sends to every other chip its contribution to the sum there."""
    return (Step("scatter", size / prod(lengths), lambda m, p, to: [to], displacements(lengths)),)


def doubling(lengths: Sequence[int], size: float) -> tuple[Step, ...]:
    """Return the all-gather by recursive doubling: at distance 1, 2, 4, ... the chips of a pair exchange all their shards.

    log2 K steps, D (K-1)/K in all; K is a power of two (Thakur et al. 2005, 4.1).
    """
    chips = prod(lengths)
    return tuple(Step("gather", size / chips * far, partial(_half, far), to=_pairs(chips, far)) for far in _powers(chips))


def halving(lengths: Sequence[int], size: float) -> tuple[Step, ...]:
    """Return the reduce-scatter by recursive halving: at distance K/2, ..., 2, 1 each chip of a pair sends the other's half.

    log2 K steps, D (K-1)/K in all; K is a power of two (Thakur et al. 2005, 4.2).
    """
    chips = prod(lengths)
    return tuple(Step("scatter", size / chips * far, partial(_others_half, far), to=_pairs(chips, far))
                 for far in reversed(_powers(chips)))


def whole(lengths: Sequence[int], size: float) -> tuple[Step, ...]:
    """Return the all-reduce by recursive doubling: at distance 1, 2, 4, ... the chips of a pair exchange the whole vector.

    log2 K steps of D: for short vectors (Thakur et al. 2005, 4.5).
    """
    chips = prod(lengths)
    return tuple(Step("sum", size, lambda m, p, to: list(range(chips)), to=_pairs(chips, far)) for far in _powers(chips))


def one_shot(lengths: Sequence[int], size: float) -> tuple[Step, ...]:
    """Return the all-reduce in one step: each chip sends its whole vector to every other, and adds up what arrives.

    D (K-1) in all. It waits once, so it is the kernel of serving stacks for short vectors (docs/networks.md).
    """
    chips = prod(lengths)
    return (Step("sum", size, lambda m, p, to: list(range(chips)), displacements(lengths)),)


def pairwise(kind: str, lengths: Sequence[int], size: float) -> tuple[Step, ...]:
    """Return K-1 steps of one shard each: to the chip 1, 2, ... places on (Thakur et al. 2005, 4.3 and 4.4)."""
    chips = prod(lengths)
    carries = {"all_gather": ("gather", lambda m, p, to: [p]), "reduce_scatter": ("scatter", lambda m, p, to: [to]),
               "all_to_all": ("exchange", lambda m, p, to: [p * chips + to])}
    role, blocks = carries[kind]
    return tuple(Step(role, size / chips, blocks, to=((np.arange(chips) + by) % chips)[None]) for by in range(1, chips))


def bruck(kind: str, lengths: Sequence[int], size: float) -> tuple[Step, ...]:
    """Return ceil(log2 K) steps for any K (Bruck et al. 1997).

    An all-gather sends to the chip 1, 2, 4, ... places before all shards that this chip lacks; D (K-1)/K in all. An all-to-all
    sends to the chip 1, 2, 4, ... places on all data whose displacement has this binary digit; D/2 a step if K is a power of two.
    """
    chips = prod(lengths)
    found = []
    for far in (1 << k for k in range((chips - 1).bit_length())):
        if kind == "all_gather":
            many = min(far, chips - far)
            found.append(Step("gather", size / chips * many, partial(_next, chips, many),
                              to=((np.arange(chips) - far) % chips)[None]))
        else:
            ways = [by for by in range(chips) if by & far]
            found.append(Step("exchange", size / chips * len(ways), partial(_digit, chips, far, ways),
                              to=((np.arange(chips) + far) % chips)[None]))
    return tuple(found)


def hierarchical(kind: str, lengths: Sequence[int], size: float) -> tuple[Step, ...]:
    """Return one step for each axis, direct along the axis.

    A sum begins on the last axis, inside the node; a gather ends there. So each shard goes between nodes once.
    """
    sums = [_along("scatter", lengths, axis, size) for axis in reversed(range(len(lengths)))]
    out = [_along("gather", lengths, axis, size) for axis in range(len(lengths))]
    moved = [_along("exchange", lengths, axis, size) for axis in reversed(range(len(lengths)))]
    return tuple({"all_gather": out, "reduce_scatter": sums, "all_reduce": sums + out, "all_to_all": moved}[kind])


def in_network(lengths: Sequence[int], size: float) -> tuple[Step, ...]:
    """Return the all-reduce with sums in the switches: all chips tell all others that they are ready; then the data move.

    Each link of a chip carries the vector once each way. A message to the next chip stands for the data that a chip sends up and
    for the sum that the next chip receives. In the order of the chips the messages also cross each link between switches once
    each way, if the chips of a switch are neighbours in this order.
    """
    chips = prod(lengths)
    ready = Step("ready", 0.0, lambda m, p, to: [], displacements(lengths))
    return (ready, Step("in_network", size, lambda m, p, to: list(range(chips)), to=((np.arange(chips) + 1) % chips)[None]))


def _along(role: str, lengths: Sequence[int], axis: int, size: float) -> Step:
    """Return the step of `hierarchical` along one axis; the axes before it in the schedule decide which blocks a message has."""
    moves = np.zeros((lengths[axis] - 1, len(lengths)), dtype=int)
    moves[:, axis] = range(1, lengths[axis])
    chips, shape = prod(lengths), tuple(lengths)
    at = np.array(np.unravel_index(np.arange(chips), shape))  # (axes, K)

    def blocks(message: int, position: int, to: int) -> list[int]:
        def like(place: int, axes: range) -> Array:
            return np.asarray((at[axes.start:axes.stop] == at[axes.start:axes.stop, [place]]).all(axis=0))
        if role == "gather":  # received over the axes before
            return np.flatnonzero(like(position, range(axis, len(lengths)))).tolist()
        if role == "scatter":  # the blocks of the chips that the axes before reach
            return np.flatnonzero(like(to, range(axis, len(lengths)))).tolist()
        origins = np.flatnonzero(like(position, range(axis + 1)))  # the senders of the blocks received over the axes after
        goals = np.flatnonzero(like(to, range(axis, len(lengths))))
        return (origins[:, None] * chips + goals).ravel().tolist()
    shards = {"gather": prod(lengths[:axis]), "scatter": prod(lengths[:axis]), "exchange": chips // lengths[axis]}[role]
    return Step(role, size / chips * shards, blocks, moves)


STEPS: Mapping[str, Mapping[str, Make]] = {  # by kind and name
    "all_gather": {"direct": gather, "hierarchical": partial(hierarchical, "all_gather"), "recursive_doubling": doubling,
                   "pairwise": partial(pairwise, "all_gather"), "bruck": partial(bruck, "all_gather")},
    "reduce_scatter": {"direct": scatter, "hierarchical": partial(hierarchical, "reduce_scatter"), "halving_doubling": halving,
                       "pairwise": partial(pairwise, "reduce_scatter")},
    "all_reduce": {"direct": lambda n, size: scatter(n, size) + gather(n, size),
                   "hierarchical": partial(hierarchical, "all_reduce"), "recursive_doubling": whole,
                   ONE_SHOT: one_shot,
                   "halving_doubling": lambda n, size: halving(n, size) + doubling(n, size), "double_tree": all_reduce,
                   "in_network": in_network},
    "all_to_all": {"direct": exchange, "shifts": partial(exchange, turns=True),
                   "hierarchical": partial(hierarchical, "all_to_all"), "pairwise": partial(pairwise, "all_to_all"),
                   "bruck": partial(bruck, "all_to_all")},
    "permute": {},  # direct: see permute
}
PAIRS = ("recursive_doubling", "halving_doubling")  # they need a power of two


def _powers(chips: int) -> list[int]:
    return [1 << k for k in range(chips.bit_length() - 1)]


def _pairs(chips: int, far: int) -> Array:
    """Return (1, K) the other chip of each pair at this distance."""
    return (np.arange(chips) ^ far)[None]


def _half(far: int, message: int, position: int, to: int) -> list[int]:
    """Return the blocks of the `far` positions whose numbers differ from `position` in the digits below `far` only."""
    return list(range(position // far * far, position // far * far + far))


def _others_half(far: int, message: int, position: int, to: int) -> list[int]:
    return _half(far, message, to, position)


def _next(chips: int, many: int, message: int, position: int, to: int) -> list[int]:
    return [(position + i) % chips for i in range(many)]


def _digit(chips: int, far: int, ways: Sequence[int], message: int, position: int, to: int) -> list[int]:
    """Return the blocks on a chip that move by `far` next; each has moved by the lower digits of its displacement."""
    return [(position - (by & (far - 1))) % chips * chips + (position - (by & (far - 1)) + by) % chips for by in ways]
