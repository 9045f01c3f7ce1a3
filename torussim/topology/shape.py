"""Arithmetic of coordinates: chips in C order, and the targets of each direction of each axis. Knows nothing of graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from numbers import Integral
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

from torussim.errors import TopologyError

Indices = npt.NDArray[np.intp]
Twist = Mapping[str, Mapping[str, int]]  # a turn round an axis in + direction adds these to other coordinates


def coordinates(shape: Sequence[int]) -> Indices:
    """Return (axes, chips) the coordinates of all chips in C order."""
    lengths = np.array(shape, np.intp)[:, None]
    return np.asarray(np.arange(prod(shape)) // strides(shape)[:, None] % lengths)


def strides(shape: Sequence[int]) -> Indices:
    """Return (axes,) the distance of neighbours on each axis in C order."""
    return np.array([prod(shape[axis + 1:]) for axis in range(len(shape))], np.intp)


def receivers(axes: Mapping[str, int], twist: Twist | None = None) -> Indices:
    """Return (axes, 2, chips) the next and the previous chip of each chip on each axis, going round.

    >>> receivers({"x": 2, "y": 2}, {"x": {"y": 1}})[0, 0].tolist()  # (1, 0) leads to (0, 1)
    [2, 3, 1, 0]
    """
    shape, names = tuple(axes.values()), list(axes)
    at, lengths = coordinates(shape), np.array(shape)[:, None]
    round_the_end = wraparounds(shape)
    found = np.empty((len(shape), 2, at.shape[1]), np.intp)
    for axis, name in enumerate(names):
        for direction, step in enumerate((1, -1)):
            to = at.copy()
            to[axis] += step
            for other, shift in (twist or {}).get(name, {}).items():
                to[names.index(other)] += step * shift * round_the_end[axis, direction]
            found[axis, direction] = strides(shape) @ (to % lengths)
    return found


def wraparounds(shape: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Return (axes, 2, chips) whether a link would go round the end of its axis.

    True also for axes of length 1 and 2, which have no such links unless they are twisted.
    """
    at = coordinates(shape)
    last = np.array(shape)[:, None] - 1
    return np.stack([at == last, at == 0], axis=1)


def axis_names(n: int) -> tuple[str, ...]:
    """Return the default names of n axes.

    >>> axis_names(6)
    ('x', 'y', 'z', 'w', 'a4', 'a5')
    """
    return tuple("xyzw"[axis] if axis < 4 else f"a{axis}" for axis in range(n))


def is_chip_of(chip: Sequence[object], shape: Sequence[int]) -> bool:
    """Return whether a chip with these coordinates exists."""
    return len(chip) == len(shape) and all(is_int(c) and 0 <= c < length for c, length in zip(chip, shape, strict=True))


def chip_index(chip: Sequence[int], axes: Mapping[str, int]) -> int:
    """Return the index of a chip in C order. Raise TopologyError if it is outside."""
    if not is_chip_of(chip, tuple(axes.values())):
        ranges = ", ".join(f"{name} from 0 to {length - 1}" for name, length in axes.items())
        shown = repr(chip) if isinstance(chip, str) else f"[{', '.join(map(str, chip))}]"
        raise TopologyError(f"there is no chip {shown}; give one coordinate for each axis: {ranges}", code="unknown-name")
    index = 0
    for c, length in zip(chip, axes.values(), strict=True):
        index = index * length + int(c)
    return index


def is_int(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer, of numpy or not; True and False are not."""
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))
