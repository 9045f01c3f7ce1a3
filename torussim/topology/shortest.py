"""All shortest paths, in hops, on any network: a message is split over all paths from its chip to the other.

The split is equal if the bandwidths of all links on these paths are equal, or if an equal split has as much throughput as any
other. The share of a link from u to v is then (paths to u) / (paths to v) of the traffic that passes v. So one search from each
source serves all its targets, and the rest of the work is proportional to the used links. In all other cases the shares are those
of a maximum flow over the same links (`flows.maximum_flow` selects it). So more bandwidth of a link never lowers the throughput
between two chips alone, except where it makes all links equal. Bandwidths are those at the start of a run.

Messages can pass both chips and switches. No path is ever listed. This module knows nothing of axes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from torussim.errors import TopologyError
from torussim.topology.check import Links
from torussim.topology.flows import Networks, maximum_flow, value
from torussim.topology.routes import Array, Routes, joined, pieces, spread, starts

ALIKE = 1e-12  # relative: times that differ by no more are equal; smaller shares are dropped
CELLS = 1 << 19  # the number of (sources or paths) x nodes in work at a time, which bounds the memory


def shortest(links: Links, source: Array, target: Array) -> Iterator[Routes]:
    """Yield the routes from chips to chips, (paths,), over all shortest paths, some of the paths at a time.

    Raise TopologyError, with the parts of the network, if a chip cannot reach another.
    """
    order = np.argsort(source, kind="stable")
    found = _by_source(links, source[order], target[order])
    if (order[1:] > order[:-1]).all():
        yield from found
        return
    whole = joined(found)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    for paths, _ in pieces(starts(np.diff(whole.first)[back])):
        yield whole.take(back[paths])


def _by_source(links: Links, source: Array, target: Array) -> Iterator[Routes]:
    """Yield the routes of paths that are sorted by source."""
    nodes = len(links.nodes)
    size = max(min(4 * CELLS // nodes, 1 << 16), 1)  # the arrays are reused, so they can be larger
    cells = min(size, len(source)) * nodes
    room = _Room(np.zeros(cells), np.zeros(cells), np.empty(cells, np.intp))
    alike = bool((links.routed == links.routed[:1]).all())
    for some in _batches(np.unique(source), CELLS // nodes):
        mine = np.arange(np.searchsorted(source, some[0]), np.searchsorted(source, some[-1], side="right"))
        searched = _search(links, some, np.searchsorted(some, source[mine]) * nodes + target[mine])
        for paths in _batches(mine, size):
            found, hop = _walk_back(links, searched, source[paths], target[paths], room)
            yield found if alike else _fitted(links, found, hop, source[paths], target[paths])


def connected(links: Links) -> None:
    """Raise TopologyError, with the parts of the network, unless every chip can reach every other."""
    start = np.zeros(1, np.intp)
    reached = _search(links, start).distance[0] >= 0
    if not reached[:len(links.chips)].all():
        raise cut(links, reached)
    cannot = _search(links, start, backwards=True).distance[0] < 0
    if cannot[:len(links.chips)].any():
        raise cut(links, cannot)


def cut(links: Links, inside: Array) -> TopologyError:
    """Return the error that the chips `inside`, (nodes,), cannot reach the other chips."""
    chips = inside[:len(links.chips)]
    here, there = np.flatnonzero(chips), np.flatnonzero(~chips)
    return TopologyError(f"the network is cut in two: {_some(links, here, ' chip')} cannot reach {_some(links, there, '')}; "
                         "keep a link between them", code="cut-network")


@dataclass(frozen=True, eq=False)
class _Search:
    """Shortest paths from some sources. Cell (i, n), number i x nodes + n, is node n as seen from source i.

    Entries first[c]:first[c + 1] are the links by which shortest paths enter cell c; `part` is the part of the traffic of the
    cell that enters by this link.
    """

    sources: Array  # sorted
    distance: Array  # (sources, nodes) hops; -1: not reached
    first: Array
    link: Array
    part: Array


def _search(links: Links, sources: Array, wanted: Array | None = None, *, backwards: bool = False) -> _Search:
    """Return all shortest paths from the sources; `backwards`: to them; no farther than to the cells `wanted`, if given."""
    nodes = len(links.nodes)
    begin, end = (links.target, links.source) if backwards else (links.source, links.target)
    leaving = np.argsort(begin, kind="stable").astype(np.int32)
    first_leaving = np.searchsorted(begin[leaving], np.arange(nodes + 1))

    distance = np.full(len(sources) * nodes, -1)
    ways = np.zeros(len(distance))  # paths to a cell, divided by a power of two for each source and distance: only ratios count
    mark = np.empty(len(distance), np.intp)
    frontier = np.arange(len(sources)) * nodes + sources
    distance[frontier], ways[frontier] = 0, 1.0
    cells, used, parts = [np.zeros(0, np.intp)], [np.zeros(0, np.int32)], [np.zeros(0)]
    while len(frontier) and (wanted is None or (distance[wanted] < 0).any()):
        hop, place = spread(first_leaving, frontier % nodes)
        link, origin = leaving[hop], frontier[place]
        cell = origin // nodes * nodes + end[link]
        fresh = distance[cell] < 0
        link, origin, cell = link[fresh], origin[fresh], cell[fresh]
        np.add.at(ways, cell, ways[origin])
        cells.append(cell)
        used.append(link)
        parts.append(ways[origin] / ways[cell])
        distance[cell] = distance[origin] + 1
        frontier = _once(cell, mark)
        most = np.zeros(len(sources))
        np.maximum.at(most, frontier // nodes, ways[frontier])
        ways[frontier] = np.ldexp(ways[frontier], -np.frexp(most)[1][frontier // nodes])
    entering = np.concatenate(cells)
    order = np.argsort(entering, kind="stable")
    first = np.searchsorted(entering[order], np.arange(len(distance) + 1))
    return _Search(sources, distance.reshape(-1, nodes), first, np.concatenate(used)[order], np.concatenate(parts)[order])


@dataclass(frozen=True, eq=False)
class _Room:
    """Arrays for all nodes of some paths, unchanged after each walk: new arrays would cost more time than the walk."""

    passing: Array  # share of the path's message that passes a node; 0 between walks
    longest: Array  # latency from a node to the target; 0 between walks
    mark: Array


def _walk_back(links: Links, searched: _Search, source: Array, target: Array, room: _Room) -> tuple[Routes, Array]:
    """Return the routes of some paths in equal shares, from their targets back to their sources, all one hop at a time.

    Return also, for each entry, (entries,), the number of hops from its link to the target.
    """
    nodes, paths = len(links.nodes), len(source)
    row = np.searchsorted(searched.sources, source)
    lost = np.flatnonzero(searched.distance[row, target] < 0)
    if lost.size:
        raise cut(links, searched.distance[row[lost[0]]] >= 0)
    passing, longest = room.passing, room.longest
    frontier = np.arange(paths) * nodes + target
    passing[frontier] = 1.0
    met = list[Array]()
    of_path, used, shares = [np.zeros(0, np.intp)], [np.zeros(0, np.int32)], [np.zeros(0)]
    while len(frontier):
        met.append(frontier)
        path, node = np.divmod(frontier, nodes)
        entry, place = spread(searched.first, row[path] * nodes + node)
        link, share = searched.link[entry], searched.part[entry] * passing[frontier][place]
        before = path[place] * nodes + links.source[link]
        np.add.at(passing, before, share)
        np.maximum.at(longest, before, longest[frontier][place] + links.latency[link])
        of_path.append(path[place])
        used.append(link)
        shares.append(share)
        frontier = _once(before, room.mark)
    owner = np.concatenate(of_path)
    hop = np.repeat(np.arange(len(of_path)), list(map(len, of_path)))
    order = np.argsort(owner.astype(np.uint16), kind="stable")  # 16 bits: numpy sorts them by radix
    first = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=paths))]).astype(np.intp)
    latency = longest[np.arange(paths) * nodes + source]
    for cells in met:
        passing[cells] = longest[cells] = 0.0
    return Routes(first, np.concatenate(used)[order], np.concatenate(shares)[order], latency), hop[order]


def _fitted(links: Links, found: Routes, hop: Array, source: Array, target: Array) -> Routes:
    """Return routes with the shares of a maximum flow if bandwidths differ and its throughput is above that of equal shares.

    `hop`: (entries,) of `_walk_back`. Equal shares have the most throughput if all links at the same distance from the target are
    full at once, because these links are a cut. Where other links are a cut, the maximum flow has the equal shares too.
    """
    moves = np.flatnonzero(np.diff(found.first))
    if not len(moves):
        return found
    begin, paths, hops = found.first[moves], len(found), int(hop.max()) + 1
    width = links.routed[found.link]  # inf: no limit, and equal to all others
    alike = np.minimum.reduceat(width, begin) >= np.maximum.reduceat(np.where(np.isinf(width), 0.0, width), begin)
    seconds = found.share / width
    longest = np.zeros(paths)
    longest[moves] = np.maximum.reduceat(seconds, begin)
    path = np.repeat(np.arange(paths), np.diff(found.first))
    least = np.full(paths * hops, np.inf)
    np.minimum.at(least, path * hops + hop, seconds)
    full = np.where(np.isfinite(least), least, 0.0).reshape(paths, hops).max(axis=1) >= longest * (1 - ALIKE)
    unlike = moves[~alike & ~full[moves]]
    if not len(unlike):
        return found
    entry, owner = spread(found.first, unlike)
    return found.replaced(unlike, _widest(links, owner, found.link[entry], hop[entry], source[unlike], target[unlike]))


def _widest(links: Links, owner: Array, link: Array, hop: Array, source: Array, target: Array) -> Routes:
    """Return the routes of a maximum flow of each path over its entries (owner, link, hop), which are sorted by owner."""
    nodes = len(links.nodes)
    place = owner * nodes
    ends = np.concatenate([place + links.source[link], place + links.target[link]])
    cell, which = np.unique(ends, return_inverse=True)
    tail, head = which.reshape(2, -1)
    own = np.arange(len(source)) * nodes
    begin, end = np.searchsorted(cell, own + source), np.searchsorted(cell, own + target)
    width = links.routed[link]
    limited = np.isfinite(width)
    most = np.bincount(owner[limited], width[limited], len(source))  # the sum of all links of a path is no limit either
    networks = Networks(owner, tail, head, np.where(limited, width, most[owner]), begin, end)
    flow = maximum_flow(networks)
    share = flow / value(networks, flow)[owner]
    kept = np.flatnonzero(share > ALIKE)
    late = np.zeros(len(cell))
    for far in range(int(hop.max()), 0, -1):
        here = kept[hop[kept] == far]
        np.maximum.at(late, head[here], late[tail[here]] + links.latency[link[here]])
    return Routes(starts(np.bincount(owner[kept], minlength=len(source))), link[kept], share[kept], late[end])


def _once(cells: Array, mark: Array) -> Array:
    """Return each cell once, in order; `mark` is an array with a number for each cell."""
    number = np.arange(len(cells))
    mark[cells] = number
    return np.asarray(cells[mark[cells] == number])


def _batches(items: Array, size: int) -> list[Array]:
    size = max(size, 1)
    return [items[i:i + size] for i in range(0, len(items), size)]


def _some(links: Links, chips: Array, noun: str) -> str:
    more = len(chips) - 1
    return f"{links.chips[chips[0]]}" + (f" and {more:,} more{noun}{'s' if noun and more > 1 else ''}" if more else "")
