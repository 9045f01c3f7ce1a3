"""Shortest paths where some links count as several hops.

A link counts as one hop, or as its attribute `hops` says, where routes are compared: a long link between groups, or one out of
a slice, is then used only where nothing shorter leads to the target. Such a link is searched as a chain of that many links with
its bandwidth; of each chain only the first link is left in the routes, and has its latency.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from torussim.topology.check import Links
from torussim.topology.routes import Array, Routes, starts
from torussim.topology.shortest import shortest


def shortest_routes(links: Links, source: Array, target: Array) -> Iterator[Routes]:
    """Yield the routes of `shortest`, a link counted as its number of hops."""
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
    """Return links in which those of several hops leave the end of a chain that leads there from their source.

    Links of one source and number of hops share the chain, which is as wide as all of them together.
    """
    long = np.flatnonzero(links.hops > 1)
    key = np.stack([links.source[long], links.hops[long]], axis=1)
    once, of_link = np.unique(key, axis=0, return_inverse=True)
    more = once[:, 1] - 1  # links and nodes that each chain adds
    last = np.cumsum(more)
    width = np.bincount(of_link.reshape(-1), links.bandwidth[long], len(once))
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
                   bandwidth=column(links.bandwidth, np.repeat(width, more)), latency=column(links.latency, 0))
