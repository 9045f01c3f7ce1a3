"""The links that a message takes from chip to chip: a routing is a name, or a user-defined function.

`dimension_order` and `minimal` give routes of the healthy torus or mesh; the traffic of a dead link takes all shortest detours
over the remaining links, in the shares of `shortest`. `shortest` works on any network. Deadlock is not modelled: messages do not
wait for buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim import resolve
from torussim.errors import TopologyError
from torussim.topology.check import Links
from torussim.topology.dimension import Steps, dimension_order, longest, neighbours
from torussim.topology.minimal import minimal
from torussim.topology.routes import Array, Routes, joined, spread
from torussim.topology.stretched import shortest_routes

if TYPE_CHECKING:
    import networkx as nx

ON_GRIDS = {"dimension_order": dimension_order, "minimal": minimal}
NAMES = (*ON_GRIDS, "shortest")


def routes(links: Links, routing: str | Callable[..., Any], source: Array, target: Array, *,
           graph: nx.DiGraph | None = None) -> Routes:
    """Return the routes from chips to chips, given by number, (paths,); a chip reaches itself over no link.

    `routing` is one of NAMES or a function. The function is called with `graph` and the coordinates of two chips. It returns a
    path, as the list of nodes from the first chip to the second, or a list of paths, which get equal shares. Raise TopologyError
    if the routing does not fit the network, if two of the chips are not connected, or if a function returns a wrong path.
    """
    return joined(parts(links, routing, source, target, graph=graph))


def parts(links: Links, routing: str | Callable[..., Any], source: Array, target: Array, *,
          graph: nx.DiGraph | None = None) -> Iterator[Routes]:
    """Yield the routes of `routes`, some of the paths at a time."""
    if callable(routing):
        yield _of_function(links, routing, source, target, graph)
        return
    if routing == "shortest":
        yield from shortest_routes(links, source, target)
        return
    if routing not in ON_GRIDS:
        raise TopologyError(resolve.unknown(routing, NAMES, "routing"), code="unknown-name")
    other = np.flatnonzero(links.axis < 0)
    if other.size:
        ends = f"{links.nodes[links.source[other[0]]]!r} -> {links.nodes[links.target[other[0]]]!r}"
        raise TopologyError(f"routing {routing} is for tori and meshes, and {ends} joins no neighbours on an axis; use shortest")
    if len(source):
        yield from (_surviving(links, steps) for steps in ON_GRIDS[routing](links, source, target))


def detours(links: Links, slots: Array) -> Routes:
    """Return the routes that replace dead links: all shortest paths between the ends of each slot, in the shares of `shortest`.

    A slot is (axis x 2 + sign) x chips + chip, its index in `links.slot.ravel()`. Raise TopologyError if there is no path.
    """
    return joined(shortest_routes(links, slots % len(links.chips), neighbours(links)[slots]))


def _surviving(links: Links, steps: Steps) -> Routes:
    """Return routes over slots as routes over links, with detours round dead links."""
    link_of = links.slot.reshape(-1).astype(np.int32)
    latency = np.zeros(len(link_of))
    latency[link_of >= 0] = links.latency[link_of[link_of >= 0]]
    link = link_of[steps.slot]
    gone = link < 0
    if not gone.any():
        return Routes(steps.first, link, steps.share, longest(links, steps, latency))
    dead, which = np.unique(steps.slot[gone], return_inverse=True)
    around = detours(links, dead)
    latency[dead] = around.latency
    found = Routes(steps.first, link, steps.share, longest(links, steps, latency))

    path = np.repeat(np.arange(len(found)), np.diff(steps.first))
    meets = np.zeros(len(found), bool)
    meets[path[gone]] = True
    alive = meets[path] & ~gone
    entry, place = spread(around.first, which)
    changed = np.flatnonzero(meets)
    number = np.cumsum(meets) - 1
    owner = np.concatenate([number[path[alive]], number[path[gone][place]]])
    carried = np.concatenate([steps.share[alive], steps.share[gone][place] * around.share[entry]])
    added = _added_up(owner, np.concatenate([link[alive], around.link[entry]]), carried, found.latency[changed])
    return found.replaced(changed, added)


def _of_function(links: Links, function: Callable[..., Any], source: Array, target: Array,
                 graph: nx.DiGraph | None) -> Routes:
    """Return the routes of a user-defined function."""
    node = {name: i for i, name in enumerate(links.nodes)}
    link_of = {ends: i for i, ends in enumerate(zip(links.source.tolist(), links.target.tolist(), strict=True))}
    owner: list[int] = []
    used: list[int] = []
    shares: list[float] = []
    latency = np.zeros(len(source))
    for path, (begin, end) in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
        if begin == end:
            continue
        here, there = links.chips[begin], links.chips[end]
        ways = _ways(resolve.call(function, graph, here, there), node)
        called = f"{getattr(function, '__name__', 'the routing')} from {here} to {there}"
        if not ways:
            raise TopologyError(f"{called} returned no path; return the list of nodes from the one to the other")
        for way in ways:
            over = _over(way, node, link_of, begin, end, called)
            owner += [path] * len(over)
            used += over
            shares += [1.0 / len(ways)] * len(over)
            latency[path] = max(latency[path], sum(links.latency[over].tolist()))
    return _added_up(np.array(owner, np.intp), np.array(used, np.intp), np.array(shares), latency)


def _ways(returned: Any, node: dict[Hashable, int]) -> list[list[Any]]:
    """Return the paths that a function returned: one path, or a list of paths; a path is a list that begins with a node."""
    found = list(returned) if isinstance(returned, list | tuple) else [returned]
    several = all(isinstance(one, list | tuple) and len(one) > 0 and _is_node(one[0], node) and not _is_node(one, node)
                  for one in found)
    return [list(one) for one in found] if several else [found]


def _is_node(name: Any, node: dict[Hashable, int]) -> bool:
    try:
        return name in node
    except TypeError:  # a list
        return False


def _over(way: list[Any], node: dict[Hashable, int], link_of: dict[tuple[int, int], int], begin: int, end: int,
          called: str) -> list[int]:
    """Return the links of a path of nodes. Raise TopologyError if it is not a path from the first chip to the second."""
    for name in way:
        if not _is_node(name, node):
            raise TopologyError(f"{called} returned a path through {name!r}, which is no node of the network")
    numbers = [node[name] for name in way]
    if numbers[0] != begin:
        raise TopologyError(f"{called} returned a path that begins at {way[0]!r}")
    if numbers[-1] != end:
        raise TopologyError(f"{called} returned a path that ends at {way[-1]!r}, and does not arrive")
    for i, ends in enumerate(pairwise(numbers)):
        if ends not in link_of:
            raise TopologyError(f"{called} returned a path with {way[i]!r} -> {way[i + 1]!r}, and there is no such link")
    return [link_of[ends] for ends in pairwise(numbers)]


def _added_up(path: Array, link: Array, share: Array, latency: Array) -> Routes:
    """Return entries as routes, with each link once in a path."""
    paths, most = len(latency), int(link.max(initial=0)) + 1
    once, place = np.unique(path * most + link, return_inverse=True)
    first = np.searchsorted(once, np.arange(paths + 1) * most)
    return Routes(first, (once % most).astype(np.int32), np.bincount(place, share, len(once)), latency)
