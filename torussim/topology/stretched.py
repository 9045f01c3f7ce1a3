"""Shortest paths where some links count as several hops, and where chips can stand for one another.

When routes are compared, a link counts as one hop, or as many as its attribute `hops` says. So a long link between groups, or one
out of a slice, is used only if no shorter path leads to the target. In the search, such a link starts at the end of a chain of
links that are no limit, have no latency, and are left out of the routes. Chips with equal links from and to the same nodes can be
exchanged: the routes between two such chips equal the routes between two others, except for the first and last links.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from torussim.topology.check import Links
from torussim.topology.routes import Array, Routes, joined, pieces, starts
from torussim.topology.shape import Indices
from torussim.topology.shortest import shortest


def shortest_routes(links: Links, source: Array, target: Array) -> Iterator[Routes]:
    """Yield the routes of `shortest`, with a link counted as its number of hops, some of the paths at a time."""
    if len(source) < len(links.chips):  # too few chips for a gain
        yield from _searched(links, source, target)
        return
    kind = twins(links)
    pair = (kind[source] * len(kind) + kind[target]) * 2 + (source == target)
    _, one, alike = np.unique(pair, return_index=True, return_inverse=True)
    if 2 * len(one) > len(pair):
        yield from _searched(links, source, target)
        return
    alike, of_source, of_target = alike.reshape(-1), source[one], target[one]
    whole = joined(_searched(links, of_source, of_target))
    leaving, entering = _Ends(links.source, links.target), _Ends(links.target, links.source)
    for paths, _ in pieces(starts(np.diff(whole.first)[alike])):
        some = alike[paths]
        found = whole.take(some)
        path = np.repeat(np.arange(len(some)), np.diff(found.first))
        link = leaving.of_other(found.link, of_source[some][path], source[paths][path])
        link = entering.of_other(link, of_target[some][path], target[paths][path])
        yield replace(found, link=link.astype(np.int32))


def twins(links: Links) -> Indices:
    """Return (chips,) a number for each chip, equal for chips with equal links from and to the same nodes.

    An exchange of two such chips changes nothing. A shortest path passes no twin of its ends, because twins have the neighbours
    of the ends.
    """
    chips, ends = len(links.chips), []
    for of, other in ((links.source, links.target), (links.target, links.source)):
        order = np.lexsort((other, of))
        what = np.stack([other.astype(float), links.routed, links.latency, links.hops.astype(float)], axis=1)[order]
        ends.append((what, np.searchsorted(of[order], np.arange(chips + 1)).tolist()))
    number: dict[tuple[bytes, ...], int] = {}
    return np.array([number.setdefault(tuple(what[first[chip]:first[chip + 1]].tobytes() for what, first in ends), len(number))
                     for chip in range(chips)], np.intp)


class _Ends:
    """The links at each node, leaving or entering, in the order of the nodes at their other ends."""

    def __init__(self, of: Indices, other: Indices) -> None:
        self.of = of
        self.order = np.lexsort((other, of))
        self.place = np.empty_like(self.order)
        self.place[self.order] = np.arange(len(self.order))
        self.first = np.searchsorted(of[self.order], np.arange(int(of.max(initial=0)) + 2))

    def of_other(self, link: Array, node: Array, other: Array) -> Array:
        """Return links, (entries,), with the links at `node` replaced by the equal links at `other`, its twin."""
        here = self.of[link] == node
        found = link.copy()
        found[here] = self.order[self.place[link[here]] - self.first[node[here]] + self.first[other[here]]]
        return found


def _searched(links: Links, source: Array, target: Array) -> Iterator[Routes]:
    """Yield the routes of `shortest`, with a link counted as its number of hops."""
    if not (links.hops > 1).any():
        yield from shortest(links, source, target)
        return
    real = len(links.source)
    for found in shortest(_stretched(links), source, target):
        kept = found.link < real
        path = np.repeat(np.arange(len(found)), np.diff(found.first))[kept]
        count = np.bincount(path, minlength=len(found))
        yield Routes(starts(count), found.link[kept], found.share[kept], found.latency)


def _stretched(links: Links) -> Links:
    """Return links in which a link of several hops starts at the end of a chain of links from its source.

    Links with the same source and number of hops share the chain, which is no limit.
    """
    long = np.flatnonzero(links.hops > 1)
    key = np.stack([links.source[long], links.hops[long]], axis=1)
    once, of_link = np.unique(key, axis=0, return_inverse=True)
    more = once[:, 1] - 1  # the number of links and nodes that each chain adds
    last = np.cumsum(more)
    node = len(links.nodes) + np.arange(last[-1])
    before = node - 1
    before[last - more] = once[:, 0]
    source = links.source.copy()
    source[long] = node[last[of_link.reshape(-1)] - 1]

    def column(values: Array, new: Array | float) -> Array:
        return np.concatenate([values, np.broadcast_to(new, len(node)).astype(values.dtype)])

    return replace(links, nodes=(*links.nodes, *(("chain", i) for i in range(len(node)))), source=column(source, before),
                   target=column(links.target, node), axis=column(links.axis, -1), sign=column(links.sign, 0),
                   wraparound=column(links.wraparound, 0), hops=np.ones(len(source) + len(node), np.intp),
                   bandwidth=column(links.bandwidth, np.inf), as_routed=column(links.routed, np.inf),
                   latency=column(links.latency, 0))
