"""Which flows and which links cannot be told apart: the coarsest equitable partition of the graph of flows and links.

Two flows stay in one class if they put equal shares on links of equal classes, two links if they carry equal shares of flows
of equal classes. Then max-min rates are equal within a class, since filling treats the members of a class alike at every
level. Classes are told apart by 64-bit sums over what they touch. Every round mixes with constants of its own, and the
partition has to withstand two rounds before it is taken for final: two different classes would have to collide in both.
"""

from __future__ import annotations

import numpy as np

from torussim.engine.fair import Array, Rows


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


def refine(rows: Rows, sizes: Array, bandwidth: Array) -> tuple[Array, Array]:
    """Return the class of each row and of each link, from 0 on.

    `sizes`: (rows,) and `bandwidth`: (links,) are what tells flows and links apart to begin with.
    """
    order = np.argsort(rows.link.astype(np.uint16 if len(bandwidth) <= 1 << 16 else np.int64), kind="stable")
    used, begin = np.unique(rows.link[order], return_index=True)
    sharing, user = rows.share[order], rows.row[order]
    row, column = colours(sizes), colours(bandwidth)
    weight, weight_there = rows.share.view(np.uint64), sharing.view(np.uint64)
    if rows.number is not None:
        weight, weight_there = weight + scramble(rows.number, 0), weight_there + scramble(rows.number[order], 0)
    settled = rounds = 0
    while settled < 2:
        before = row.max() + column.max()
        own = scramble(weight, rounds) | np.uint64(1)
        mine = np.add.reduceat(scramble(column, rounds + 1)[rows.link] * own, rows.first[:-1])
        row = colours(mine + scramble(row, rounds + 2))
        own = scramble(weight_there, rounds + 3) | np.uint64(1)
        theirs = scramble(column, rounds + 4)
        theirs[used] += np.add.reduceat(scramble(row, rounds + 5)[user] * own, begin)
        column = colours(theirs)
        rounds += 6
        settled = settled + 1 if row.max() + column.max() == before else 0
    return row, column


def fold_rows(rows: Rows, row: Array, column: Array) -> tuple[Rows, Array]:
    """Return the classes of rows as rows on classes of links, and (classes,) one link of each class.

    The share of a class is what its flows put together on one link of the class.
    """
    link = np.unique(column, return_index=True)[1]
    chosen = np.zeros(len(column), dtype=bool)
    chosen[link] = True
    entry = np.flatnonzero(chosen[rows.link])
    there = column[rows.link[entry]]
    key, place = np.unique(row[rows.row[entry]] * len(link) + there, return_inverse=True)
    place = place.reshape(-1)
    share = np.bincount(place, rows.share[entry])
    number = np.bincount(place, None if rows.number is None else rows.number[entry]).astype(np.intp)
    first = np.searchsorted(key, np.arange(row.max() + 2) * len(link))
    return Rows(first, key % len(link), share, number), link
