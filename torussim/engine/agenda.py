"""What follows from what is known and is not worked out yet, in the order in which it is to be done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import heappop, heappush
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Key = tuple[int, int, int, int]  # turn, operation, stage, what

# What is left to do, in this order within one operation of one turn.
ARRIVE, BASE, LOOK, COMPLETE, SHARD, FINISH, ENTER = range(7)
LAST = 1 << 30  # in place of an operation: a list is entered when all else of the one before is done
FEW = 12  # chips; with more, numpy is faster
Few = tuple[list[int], list[float]]  # chips, and their times
Many = tuple[Array, Array]


class Agenda:
    """Chips, and times on them, for which something is to be done; what belongs together is done at once."""

    def __init__(self) -> None:
        self._few: dict[Key, Few] = {}  # chips that came by the handful; empty lists if none did
        self._many: dict[Key, list[Many]] = {}
        self.keys: list[Key] = []  # what there is, a heap

    def __bool__(self) -> bool:
        return bool(self.keys)

    def add(self, number: int, i: int, k: int, what: int, chips: Array, times: Array) -> None:
        """Put something on the agenda: operation i of a turn, stage k."""
        key = (number, i if what != ENTER else LAST, k, what)
        if len(chips) > FEW:
            self._put(key)
            self._many.setdefault(key, []).append((chips, times))
        elif len(chips):
            few = self._put(key)
            few[0].extend(chips.tolist())
            few[1].extend(times.tolist())

    def add_few(self, number: int, i: int, k: int, what: int, chips: Iterable[int], times: Iterable[float]) -> None:
        """Put a few chips on the agenda."""
        few = self._put((number, i if what != ENTER else LAST, k, what))
        few[0].extend(chips)
        few[1].extend(times)

    def add_chip(self, number: int, i: int, k: int, what: int, chip: int, time: float) -> None:
        """Put one chip on the agenda."""
        few = self._put((number, i if what != ENTER else LAST, k, what))
        few[0].append(chip)
        few[1].append(time)

    def look_again(self, number: int, i: int, k: int) -> None:
        """Put on the agenda that a stage's lanes are looked at again, without news of any chip."""
        self._put((number, i, k, LOOK))

    def pop(self) -> tuple[Key, Few, Sequence[Many]]:
        """Take away what comes first; return it with the chips that came by the handful, and with the others."""
        key = heappop(self.keys)
        return key, self._few.pop(key), self._many.pop(key, ()) if self._many else ()

    def _put(self, key: Key) -> Few:
        """Return where to put a few chips of a key."""
        few = self._few.get(key)
        if few is None:
            few = self._few[key] = ([], [])
            heappush(self.keys, key)
        return few


def together(few: Few, many: Sequence[Many]) -> Many:
    """Return all chips, and their times, in arrays."""
    if len(many) == 1 and not few[0]:
        return many[0]
    chips, times = zip(*many, (np.array(few[0], dtype=int), np.array(few[1], dtype=float)))
    return np.concatenate(chips), np.concatenate(times)
