"""Labels: numbers that are equal for equal values and look random, so that sums of labels tell different sets apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def scramble(values: Array, salt: int) -> Array:
    """Return (n,) uint64 that look random, equal for equal values (splitmix64, Steele et al., OOPSLA 2014, figure 16)."""
    z = values.astype(np.uint64) + np.uint64((salt + 1) * 0x9E3779B97F4A7C15 & (1 << 64) - 1)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scrambled: Array = z ^ (z >> np.uint64(31))
    return scrambled


def mixed(columns: Iterable[Sequence[Array]], count: int) -> Array:
    """Return (count,) labels, equal where all columns of floats are equal; the order of several arrays in a column is ignored."""
    found = np.zeros(count, np.uint64)
    for salt, column in enumerate(columns):
        bits = [scramble((one + 0.0).astype(np.float64).view(np.uint64), salt) for one in column]  # -0.0 is 0.0
        found = scramble(found + np.sum(bits, axis=0, dtype=np.uint64), salt)
    return found


def colours(values: Array) -> Array:
    """Return (n,) int, equal for equal values."""
    number: Array = np.unique(values, return_inverse=True)[1]
    return number.reshape(-1)


def numbered(label: Array) -> Array:
    """Return labels as numbers from 0 on, in the order of the first of each.

    >>> numbered(np.array([7, 3, 7])).tolist()
    [0, 1, 0]
    """
    _, first, place = np.unique(label, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.intp)
    number[np.argsort(first)] = np.arange(len(first))
    return number[place.reshape(-1)]
