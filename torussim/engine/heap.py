"""Heaps of numbers by their keys, in arrays. The number with the least key is first; of equal keys, the least number.

`place[i]` is the index of i in `heap`, or -1 if i is not in it. The caller owns `key` and calls `moved` after each change of a
key.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from torussim.engine.jit import compiled, inner

Array = np.ndarray[Any, Any]


@compiled
def push(heap: Array, size: int, place: Array, key: Array, i: int) -> int:
    """Add i to a heap of `size` numbers that does not hold it; return the new size."""
    heap[size] = i
    place[i] = size
    _rise(heap, place, key, size)
    return size + 1


@compiled
def remove(heap: Array, size: int, place: Array, key: Array, i: int) -> int:
    """Remove i from a heap; return the new size."""
    at = place[i]
    place[i] = -1
    last = heap[size - 1]
    if at < size - 1:
        heap[at] = last
        place[last] = at
        _rise(heap, place, key, at)
        _sink(heap, size - 1, place, key, place[last])
    return size - 1


@compiled
def moved(heap: Array, size: int, place: Array, key: Array, i: int) -> None:
    """Move i to its place after its key has changed."""
    _rise(heap, place, key, place[i])
    _sink(heap, size, place, key, place[i])


@inner
def _rise(heap: Array, place: Array, key: Array, at: int) -> None:
    i = heap[at]
    own = key[i]
    while at > 0:
        above = (at - 1) >> 1
        other = heap[above]
        if key[other] < own or (key[other] == own and other < i):
            break
        heap[at] = other
        place[other] = at
        at = above
    heap[at] = i
    place[i] = at


@inner
def _sink(heap: Array, size: int, place: Array, key: Array, at: int) -> None:
    i = heap[at]
    own = key[i]
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        other = heap[below]
        if below + 1 < size:
            right = heap[below + 1]
            if key[right] < key[other] or (key[right] == key[other] and right < other):
                below += 1
                other = right
        if own < key[other] or (own == key[other] and i < other):
            break
        heap[at] = other
        place[other] = at
        at = below
    heap[at] = i
    place[i] = at


@compiled
def arrange(heap: Array, size: int, place: Array, key: Array) -> None:
    """Make a heap of the numbers heap[:size], which can be in any order."""
    for at in range(size):
        place[heap[at]] = at
    for at in range(size // 2 - 1, -1, -1):
        _sink(heap, size, place, key, at)


@compiled
def sort(numbers: Array, size: int) -> None:
    """Sort numbers[:size] (Shell, 1959); numba's own sort would allocate memory."""
    gap = 1
    while gap < size // 9:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, size):
            number, at = numbers[i], i
            while at >= gap and numbers[at - gap] > number:
                numbers[at] = numbers[at - gap]
                at -= gap
            numbers[at] = number
        gap //= 3
