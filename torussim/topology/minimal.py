"""All minimal paths of a torus or mesh, twisted or not, with the loads of the axes in balance.

From one chip to another lead one or more displacement vectors, one for each of the repeated images of the target. A message is
split over the shortest of these vectors. Within one vector it takes every order of the steps equally often: a link that leaves
the point u of the box 0..d along axis a carries the share

    prod C(d_b, u_b) / C(D, U) x (d_a - u_a) / (D - U),   D = sum of d, U = sum of u

of it, because steps in random order are drawn without replacement. The shares depend on the displacement alone, so links are
computed once for each displacement and moved to each source.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import comb

import numpy as np

from torussim.topology.check import Links
from torussim.topology.dimension import Lattice, Steps, lattice
from torussim.topology.routes import Array, pieces, spread, starts

ROUNDS = 300  # of the balance, if equal shares do not balance


def minimal(links: Links, source: Array, target: Array) -> Iterator[Steps]:
    """Yield routes over all minimal paths; the paths of an all-to-all balance the axes as far as possible.

    Raise TopologyError if a twist makes routes differ from chip to chip.
    """
    grid = lattice(links)
    gap = grid.canonical(links.coordinates[:, target] - links.coordinates[:, source])
    span = np.where(grid.closed, grid.shape, 2 * grid.shape - 1)  # displacements on a line have a sign
    least = np.where(grid.closed, 0, 1 - grid.shape)[:, None]
    code = np.ravel_multi_index(tuple(gap - least), tuple(span))
    codes, kind = np.unique(code, return_inverse=True)
    fan = _fan(grid, np.array(np.unravel_index(codes, tuple(span))) + least)

    single = (grid.shape == 2) & ~grid.twisted  # a twisted axis of length 2 has two links, to different chips
    chips = len(links.chips)
    first = starts(np.diff(fan.first)[kind])
    for paths, _ in pieces(first):
        entry, path = spread(fan.first, kind[paths])
        point = grid.canonical(links.coordinates[:, source[paths]][:, path] + fan.point[:, entry])
        axis, sign = fan.axis[entry], fan.sign[entry]
        sign = np.where(single[axis], point[axis, np.arange(len(entry))], sign)  # the one link from 1 is a - link
        slot = ((axis * 2 + sign) * chips + grid.number(point)).astype(np.int32)
        begins = first[paths.start:paths.stop + 1] - first[paths.start]
        yield Steps(begins, slot, fan.share[entry], fan.level[entry], target[paths])


def displacements(grid: Lattice, gap: Array) -> tuple[Array, Array]:
    """Return all shortest vectors to chips that are `gap`, (axes, gaps), away.

    Return the number of the gap of each vector, (vectors,), in ascending order, and the vectors, (axes, vectors). On an axis of
    length 2 without a twist there is only one way, called +.
    """
    twisted = np.flatnonzero(grid.twisted)
    far = 1
    while True:  # with more and more turns round twisted axes, until more turns cannot be shorter
        turns = [np.array(turn, np.intp) for turn in product(range(-far, far + 1), repeat=len(twisted))]
        images = [_nearest(grid, gap, twisted, turn) for turn in turns]
        length = np.array([abs(image).sum(axis=0) for image in images])  # (turns, gaps)
        if not len(twisted) or length.min(axis=0).max() <= far * grid.shape[twisted].min():
            break
        far = -(-int(length.min(axis=0).max()) // int(grid.shape[twisted].min()))
    best = length == length.min(axis=0)
    halved = grid.closed & ~grid.twisted & (grid.shape > 2)
    number, vectors = [], []
    for image, there in zip(images, best, strict=True):
        half = halved[:, None] & (2 * image == grid.shape[:, None])
        for flip in product((False, True), repeat=len(grid.shape)):
            flipped = np.array(flip)[:, None]
            mine = np.flatnonzero(there & (half | ~flipped).all(axis=0))
            number.append(mine)
            vectors.append(np.where(flipped, -image[:, mine], image[:, mine]))
    order = np.argsort(np.concatenate(number), kind="stable")
    return np.concatenate(number)[order], np.concatenate(vectors, axis=1)[:, order]


def shares(grid: Lattice, number: Array, vectors: Array) -> Array:
    """Return the share of each of the displacements, (vectors,), among the displacements with the same number.

    Shares are equal, unless other shares reduce the load of the busiest axis of an all-to-all. In that case a hop on a busy axis
    has a price, and the share of a vector is proportional to exp(-price). Any prices give a lower bound of the least maximum: the
    cost of all messages if each takes its cheapest vector. A price rises while the load of its axis is above the best lower
    bound, and falls while the load is below it.
    """
    price = np.zeros(len(grid.shape))
    if grid.twisted.any():  # without a twist, tied vectors differ only in signs
        of, ways = displacements(grid, np.indices(tuple(np.where(grid.closed, grid.shape, 1))).reshape(len(grid.shape), -1))
        links = np.where(grid.closed & (grid.shape > 1), np.minimum(grid.shape - 1, 2), np.inf)  # the number that leave a chip
        links = np.where(grid.twisted, 2, links)
        cost = abs(ways) / links[:, None]
        bound = max(_cheapest(of, of_axis) for of_axis in cost)
        now, least, step, last = price, np.inf, np.ones(len(price)), np.zeros(len(price))
        for _ in range(ROUNDS):
            load = cost @ _split(of, now @ cost)
            if load.max() < least * (1 - 1e-9):
                price, least = now, load.max()
            if now.any():
                bound = max(bound, _cheapest(of, now / now.sum() @ cost))
            if least <= bound * (1 + 1e-9):
                break
            uneven = load / bound - 1
            turned = np.sign(uneven) * last  # a step grows while its sign stays, and shrinks when it changes
            step, last = step * np.where(turned > 0, 1.2, np.where(turned < 0, 0.5, 1.0)), np.sign(uneven)
            now = np.maximum(now + step * uneven, 0)
        price = price / links
    return _split(number, price @ abs(vectors))


def _cheapest(number: Array, price: Array) -> float:
    """Return the sum, over all numbers, of the lowest price with this number."""
    least = np.full(number.max(initial=0) + 1, np.inf)
    np.minimum.at(least, number, price)
    return float(least.sum())


def _split(number: Array, price: Array) -> Array:
    """Return exp(-price), scaled so that the shares of each number add up to 1."""
    least = np.full(number.max(initial=0) + 1, np.inf)
    np.minimum.at(least, number, price)
    weight = np.exp(least[number] - price)
    return np.asarray(weight / np.bincount(number, weight)[number])


@dataclass(frozen=True, eq=False)
class _Fan:
    """The links of each displacement: number r has the entries first[r]:first[r + 1], sorted by level."""

    first: Array
    point: Array  # (axes, entries) the point that the link leaves, from the source
    axis: Array
    sign: Array
    share: Array
    level: Array


def _nearest(grid: Lattice, gap: Array, twisted: Array, turns: Array) -> Array:
    """Return the nearest image of each gap, (axes, gaps), after these numbers of turns round the twisted axes."""
    image = gap - (turns[:, None] * grid.shift[twisted]).sum(axis=0)[:, None]
    image[twisted] += (turns * grid.shape[twisted])[:, None]
    for axis in np.flatnonzero(grid.closed & ~grid.twisted):
        length = grid.shape[axis]
        image[axis] %= length
        image[axis] -= length * ((2 * image[axis] > length) & (length > 2))
    return np.asarray(image)


def _fan(grid: Lattice, gap: Array) -> _Fan:
    """Return the links of all minimal paths to chips that are `gap`, (axes, gaps), away; each link once."""
    number, vectors = displacements(grid, gap)
    weight = shares(grid, number, vectors)
    size, box_of = np.unique(abs(vectors), axis=1, return_inverse=True)
    boxes = [_box(tuple(sides)) for sides in size.T.tolist()]
    first_of = np.concatenate([[0], np.cumsum([len(box[1]) for box in boxes])]).astype(np.intp)
    inside, axis, part, deep = (np.concatenate([box[i] for box in boxes], axis=-1) for i in range(4))

    entry, vector = spread(first_of, box_of.reshape(-1))
    axis, level = axis[entry], deep[entry]
    sign = (vectors[axis, vector] < 0).astype(np.int32)
    point = grid.canonical(inside[:, entry] * np.sign(vectors).astype(np.int32)[:, vector])
    span = np.where(grid.closed, grid.shape, 2 * grid.shape - 1)
    least = np.where(grid.closed, 0, 1 - grid.shape)[:, None]
    digits = (number[vector], level, axis, sign, *(point - least))
    sizes = (gap.shape[1], int(level.max(initial=0)) + 1, len(span), 2, *span)
    key = np.ravel_multi_index(digits, sizes)
    order = np.argsort(key)
    key = key[order]
    fresh = np.ones(len(key), bool)
    fresh[1:] = key[1:] > key[:-1]
    once = order[fresh]
    share = np.bincount(np.cumsum(fresh) - 1, (part[entry] * weight[vector])[order], len(once))
    first = np.searchsorted(number[vector[once]], np.arange(gap.shape[1] + 1))
    return _Fan(first, point[:, once], axis[once], sign[once], share, level[once])


def _box(sides: tuple[int, ...]) -> tuple[Array, Array, Array, Array]:
    """Return the links of a box: the points that they leave, (axes, links), their axes, shares, and levels.

    The shares are fractions of whole numbers, rounded once, so equal shares are equal to the last bit.
    """
    whole = sum(sides)
    exact = float if comb(whole, whole // 2) * whole < 2**53 else object
    at = np.indices([side + 1 for side in sides], np.int32).reshape(len(sides), -1)
    gone = at.sum(axis=0, dtype=np.int32)
    ways = np.ones(len(gone), exact)
    for side, steps in zip(sides, at, strict=True):
        ways = ways * np.array([comb(side, i) for i in range(side + 1)], exact)[steps]
    outcomes = np.array([comb(whole, i) * (whole - i) for i in range(whole + 1)], exact)[gone]
    points, axes, parts, levels = [], [], [], []
    for axis, side in enumerate(sides):
        leaves = at[axis] < side
        points.append(at[:, leaves])
        axes.append(np.full(len(points[-1][0]), axis, np.int32))
        levels.append(gone[leaves])
        parts.append((ways[leaves] * (side - at[axis, leaves]).astype(exact) / outcomes[leaves]).astype(float))
    return np.concatenate(points, axis=1), np.concatenate(axes), np.concatenate(parts), np.concatenate(levels)
