"""The test whether an axis of a network that is no torus is a ring, and orders of directly wired chips that make it one.

Such an axis is a ring if on each of its lines the route from the last chip to the first has no less bandwidth than the narrowest
route between neighbours on the axis, and no more links than the longest one. The bandwidth of a route is that of a message alone
in the network. If chips are wired directly, but not in the order of the axis, `ring_order` searches for a Hamiltonian cycle.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim.topology.check import Bools, Links
from torussim.topology.routes import Array
from torussim.topology.routing import parts
from torussim.topology.shape import Indices
from torussim.topology.stretched import twins

if TYPE_CHECKING:
    import networkx as nx

BUDGET = 20_000  # chips that a search may try for each width of links
NEAR = 1e-9  # relative for bandwidths, absolute for hops: a smaller difference is none


def off_axes(links: Links) -> bool:
    """Return whether a network has parts that no torus or mesh has: switches, or links that join no neighbours on an axis."""
    return len(links.nodes) > len(links.chips) or bool((links.axis < 0).any())


def closes(links: Links, routing: Any, graph: nx.DiGraph | None, slot: Indices, leads: Indices, ends: Bools) -> bool:
    """Return whether an axis of a network that is no torus is a ring, by its routes.

    `slot`, `leads`, `ends`: (2, chips) the link of each hop or -1, the chip that it leads to, going round, and whether it goes
    round.
    """
    direct = slot >= 0
    if direct[~ends].all() and not direct[ends].all():
        return False  # neighbours are one link apart, but the ends of some line are not
    rate, hops = np.where(direct, links.bandwidth[slot], 0.0), direct.astype(float)
    source, target = np.nonzero(~direct)[1], leads[~direct]
    kind = np.arange(len(links.chips)) if callable(routing) else twins(links)
    _, one, alike = np.unique(kind[source] * len(kind) + kind[target], return_index=True, return_inverse=True)
    rates, lengths = [], []
    for some in parts(links, routing, source[one], target[one], graph=graph):
        first = some.first[:-1]
        rates.append(np.minimum.reduceat(links.bandwidth[some.link] / some.share, first))
        lengths.append(np.add.reduceat(some.share, first))  # links on a path, the mean over all paths
    if rates:
        rate[~direct], hops[~direct] = (np.concatenate(column)[alike.reshape(-1)] for column in (rates, lengths))
    return bool(rate[ends].min() >= rate[~ends].min() * (1 - NEAR) and hops[ends].max() <= hops[~ends].max() + NEAR)


def ring_order(links: Links, axis: int) -> tuple[list[int], float] | None:
    """Return an order of an axis' coordinates in which neighbours, and the last and the first, have links on every line.

    Return also the least bandwidth of these links, bytes/s; the search begins with the widest links. Return None if the order of
    the coordinates is such a ring, or if no order was found.
    """
    length = list(links.axes.values())[axis]
    width = _widths(links, axis, length)
    if length < 3 or not width or all((i, (i + 1) % length) in width for i in range(length)):
        return None
    for least in sorted(set(width.values()), reverse=True):
        near: list[list[int]] = [[] for _ in range(length)]
        for (i, j), bandwidth in width.items():
            if bandwidth >= least:
                near[i].append(j)
        found = hamiltonian_cycle([sorted(one) for one in near])
        if found is not None:
            return found, least
    return None


def wired(links: Links, axis: int) -> bool:
    """Return whether on each line of an axis some chips have links to one another, but not all neighbours do."""
    length = list(links.axes.values())[axis]
    width = _widths(links, axis, length)
    return bool(width) and not all((i, i + 1) in width for i in range(length - 1))


def _widths(links: Links, axis: int, length: int) -> Mapping[tuple[int, int], float]:
    """Return pairs of coordinates whose chips have links to one another on every line of an axis, and their least bandwidth."""
    chips = len(links.chips)
    inside = np.flatnonzero((links.source < chips) & (links.target < chips))
    source, target = (links.coordinates[:, end[inside]] for end in (links.source, links.target))
    along = ((source != target).sum(axis=0) == 1) & (source[axis] != target[axis])
    pair = source[axis, along] * length + target[axis, along]
    once, place, count = np.unique(pair, return_inverse=True, return_counts=True)
    least = np.full(len(once), np.inf)
    np.minimum.at(least, place.reshape(-1), links.bandwidth[inside[along]])
    whole = count * length == chips
    found = dict(zip(once[whole].tolist(), least[whole].tolist()))
    return {divmod(key, length): min(value, found[back]) for key, value in found.items()
            if (back := key % length * length + key // length) in found}


def hamiltonian_cycle(near: list[list[int]]) -> list[int] | None:
    """Return a cycle through all nodes of an undirected graph from node 0, or None if there is none or the budget is spent.

    `near`: neighbours of each node. Nodes with the fewest unvisited neighbours are tried first. A path is given up when an
    unvisited node has fewer than two neighbours from which it can be visited. If this search exceeds the budget, a path is turned
    at its end until it closes (Posa 1976).

    >>> hamiltonian_cycle([[1, 2], [0, 3], [0, 3], [1, 2]]), hamiltonian_cycle([[1], [0, 2], [1]])
    ([0, 1, 3, 2], None)
    """
    count = len(near)
    if count < 3 or min(map(len, near)) < 2 or not _joined(near):
        return None
    visited: Array = np.zeros(count, bool)
    visited[0] = True
    free = [len(one) for one in near]  # neighbours that are not visited, or are an end of the path
    way, left = [0], [_choices(0, near, visited, free)]
    for _ in range(BUDGET):
        if not left[-1]:
            gone = way.pop()
            left.pop()
            if not way:
                return None
            visited[gone] = False
            _leave(way[-1], near, free, +1, len(way) > 1)
            continue
        node = left[-1].pop()
        if len(way) > 1:
            _leave(way[-1], near, free, -1, True)
        way.append(node)
        visited[node] = True
        if len(way) == count:
            if 0 in near[node]:
                return way
            left.append([])
            continue
        stuck = any(not visited[other] and free[other] < 2 for inner in way[-2:-1] for other in near[inner])
        left.append([] if stuck else _choices(node, near, visited, free))
    return _turned(near)


def _turned(near: list[list[int]]) -> list[int] | None:
    """Return a cycle as in `hamiltonian_cycle`, or None: a path that cannot go on is turned at a neighbour of its end."""
    draw, way, place = Random(0), [0], {0: 0}
    for _ in range(BUDGET):
        end = way[-1]
        if len(way) == len(near) and 0 in near[end]:
            return way
        fresh = [node for node in near[end] if node not in place]
        if fresh:
            node = min(fresh, key=lambda node: (sum(other not in place for other in near[node]), node))
            place[node] = len(way)
            way.append(node)
            continue
        turns = [place[node] + 1 for node in near[end] if place[node] + 1 < len(way) - 1]
        if not turns:
            return None
        begin = draw.choice(turns)
        way[begin:] = way[:begin - 1:-1]
        place.update((node, begin + i) for i, node in enumerate(way[begin:]))
    return None


def _leave(node: int, near: list[list[int]], free: list[int], by: int, inner: bool) -> None:
    """Count that a node is no longer an end of the path, or is an end again: its neighbours lose it, or get it back."""
    if inner:
        for other in near[node]:
            free[other] += by


def _choices(node: int, near: list[list[int]], visited: Array, free: list[int]) -> list[int]:
    """Return the nodes to try after a node, the best one last."""
    return sorted((other for other in near[node] if not visited[other]), key=lambda other: (free[other], other), reverse=True)


def _joined(near: list[list[int]]) -> bool:
    """Return whether all nodes are connected to node 0."""
    seen, new = {0}, [0]
    while new:
        new = [other for node in new for other in near[node] if other not in seen and not seen.add(other)]  # type: ignore[func-returns-value]
    return len(seen) == len(near)
