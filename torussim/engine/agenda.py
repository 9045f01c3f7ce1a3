"""What follows from what is known and is not worked out yet, in the order in which it is to be done."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Key = tuple[int, int, int, int]  # turn, operation, stage, what

# What is left to do, in this order within one operation of one turn.
ARRIVE, BASE, LOOK, COMPLETE, SHARD, FINISH, ENTER = range(7)
LAST = 1 << 30  # in place of an operation: a list is entered when all else of the one before is done
NOBODY, NEVER = np.zeros(0, int), np.zeros(0)


class Agenda:
    """Chips, and times on them, for which something is to be done; what belongs together is done at once."""

    def __init__(self) -> None:
        self._work: dict[Key, list[tuple[Array, Array]]] = {}
        self._single: dict[Key, tuple[list[int], list[float]]] = {}  # of chips that came one by one
        self._order: list[Key] = []

    def __bool__(self) -> bool:
        return bool(self._order)

    def add(self, number: int, i: int, k: int, what: int, chips: Array, times: Array) -> None:
        """Put something on the agenda: operation i of a turn, stage k."""
        if len(chips):
            self._put((number, i if what != ENTER else LAST, k, what), chips, times)

    def add_chip(self, number: int, i: int, k: int, what: int, chip: int, time: float) -> None:
        """Put one chip on the agenda."""
        key = (number, i, k, what)
        if key not in self._single:
            self._single[key] = ([], [])
            self._put(key, NOBODY, NEVER)
        chips, times = self._single[key]
        chips.append(chip)
        times.append(time)

    def look_again(self, number: int, i: int, k: int) -> None:
        """Put on the agenda that a stage's lanes are looked at again, without news of any chip."""
        self._put((number, i, k, LOOK), NOBODY, NEVER)

    def pop(self) -> tuple[Key, Array, Array]:
        """Take away what comes first; return it with its chips and their times."""
        key = heappop(self._order)
        found = self._work.pop(key)
        if key in self._single:
            chips, times = self._single.pop(key)
            found.append((np.array(chips), np.array(times)))
        if len(found) == 1:
            return key, *found[0]
        return key, np.concatenate([part[0] for part in found]), np.concatenate([part[1] for part in found])

    def _put(self, key: Key, chips: Array, times: Array) -> None:
        if key not in self._work:
            self._work[key] = []
            heappush(self._order, key)
        self._work[key].append((chips, times))
