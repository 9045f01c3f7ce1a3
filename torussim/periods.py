"""Layers that repeat: a sequence of kinds of layers as few short lists, each with its number of runs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import groupby

MOST = 64  # layers after which the kinds of layers of a model come again


def repeated(layers: Sequence[Hashable]) -> list[tuple[int, int, int]]:
    """Return the runs of layers: the first of a list of layers, the length of the list, and how often it comes in a row.

    Equal layers in a row form a run. If these are more than three, the shortest list that repeats over the most layers is taken,
    with the runs before and after it.

    >>> repeated("DDDMMMM"), repeated("LLGLLGLLGL")
    ([(0, 1, 3), (3, 1, 4)], [(0, 3, 3), (9, 1, 1)])
    """
    def runs(first: int, end: int) -> list[tuple[int, int, int]]:
        found = []
        for _, group in groupby(range(first, end), lambda i: layers[i]):
            same = list(group)
            found.append((same[0], 1, len(same)))
        return found

    best = runs(0, len(layers))
    if len(best) <= 3:
        return best
    for length in range(2, min(len(layers) // 2, MOST) + 1):
        for first in range(length):
            end = first + length
            while end < len(layers) and layers[end] == layers[end - length]:
                end += 1
            times = (end - first) // length
            last = first + times * length
            found = [*runs(0, first), (first, length, times), *runs(last, len(layers))]
            if times > 1 and sum(one[1] for one in found) < sum(one[1] for one in best):
                best = found
    return best
