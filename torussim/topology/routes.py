"""Routes as arrays: the links that a message loads, and its share on each. Knows nothing of the choice of routes.

All paths together can have tens of millions of entries, so code that works on all of them takes ENTRIES at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
ENTRIES = 1 << 19  # of 8 bytes: several such arrays fit into a cache


@dataclass(frozen=True, eq=False)
class Routes:
    """Path p has the entries first[p]:first[p + 1]; a path has each link at most once.

    `first`: (paths + 1,) intp. `link`: (entries,) int32. `share`: (entries,) the part of the message that passes over the link.
    `latency`: (paths,) seconds. `number`: (entries,) int32, the number of flows that an entry stands for in a folded grid; None:
    1.
    """

    first: Array
    link: Array
    share: Array
    latency: Array
    number: Array | None = None

    def __len__(self) -> int:
        return len(self.first) - 1

    def __repr__(self) -> str:
        return f"<Routes: {len(self)} paths over {len(np.unique(self.link))} links, {len(self.link)} entries>"

    def take(self, paths: Array) -> Routes:
        """Return the chosen paths, in the given order; a path can be chosen several times."""
        entry, _ = spread(self.first, paths)
        first = starts(np.diff(self.first)[paths])
        return Routes(first, self.link[entry], self.share[entry], self.latency[paths],
                      None if self.number is None else self.number[entry])

    def replaced(self, paths: Array, by: Routes) -> Routes:
        """Return the routes with other routes for the paths `paths`, which are in ascending order."""
        if not len(paths):
            return self
        whole = np.delete(np.arange(len(self)), paths)
        back = np.empty(len(self), np.intp)
        back[np.concatenate([whole, paths])] = np.arange(len(self))
        return joined([self.take(whole), by]).take(back)

    def users(self, links: int) -> Array:
        """Return (links,) the number of paths that use each link."""
        count = np.zeros(links, np.intp)
        for _, entries in pieces(self.first):
            count += np.bincount(self.link[entries], minlength=links)
        return count

    def flows(self, links: int) -> Array:
        """Return (links,) the number of flows that use each link, including all flows that an entry stands for."""
        if self.number is None:
            return self.users(links)
        count = np.zeros(links)
        for _, entries in pieces(self.first):
            count += np.bincount(self.link[entries], self.number[entries], links)
        return count

    def load(self, sent: Array, links: int, begin: int = 0) -> Array:
        """Return (links,) the bytes on each link if the paths from `begin` on carry `sent`, (paths,) bytes."""
        total = np.zeros(links)
        first = self.first[begin:begin + len(sent) + 1]
        for paths, entries in pieces(first):
            carried = np.repeat(sent[paths], np.diff(first[paths.start:paths.stop + 1])) * self.share[entries]
            total += np.bincount(self.link[entries], carried, links)
        return total


def joined(parts: Iterable[Routes]) -> Routes:
    """Return the paths of several routes one after another.

    A part from a generator is copied before the next part is made: only one part is in memory twice.
    """
    first, link, share, latency = np.zeros(1, np.intp), np.zeros(0, np.int32), np.zeros(0), np.zeros(0)
    number: Array | None = None

    def extend(array: Array, more: Array) -> None:
        begin = len(array)
        array.resize(begin + len(more), refcheck=False)
        array[begin:] = more

    for part in parts:
        if number is None and part.number is not None:
            number = np.ones(len(link), np.int32)
        if number is not None:
            extend(number, np.ones(len(part.link), np.int32) if part.number is None else part.number)
        extend(first, part.first[1:] + len(link))
        extend(link, part.link)
        extend(share, part.share)
        extend(latency, part.latency)
    return Routes(first, link, share, latency, number)


def starts(count: Array) -> Array:
    """Return (rows + 1,) the start of each row of a table, and the end of the last, from the number of entries of each row."""
    return np.concatenate([[0], np.cumsum(count)]).astype(np.intp)


def spread(first: Array, rows: Array) -> tuple[Array, Array]:
    """Return all entries of some rows of a table whose row r has the entries first[r]:first[r + 1].

    Return also the index in `rows` that each of these entries belongs to.
    """
    count = first[rows + 1] - first[rows]
    place = np.repeat(np.arange(len(rows)), count)
    begin = np.cumsum(count) - count
    return np.arange(len(place)) + (first[rows] - begin)[place], place


def pieces(first: Array) -> Iterator[tuple[slice, slice]]:
    """Yield the rows of a table and their entries, in order: each time rows with at most ENTRIES entries, or one row."""
    begin, rows = 0, len(first) - 1
    while begin < rows:
        end = max(begin + 1, int(np.searchsorted(first, first[begin] + ENTRIES, side="right")) - 1)
        yield slice(begin, end), slice(int(first[begin]), int(first[end]))
        begin = end
