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
    """Return links in which each one of several hops is the first of a chain through nodes of its own, the others following."""
    long = np.flatnonzero(links.hops > 1)
    more = links.hops[long] - 1  # links and nodes that each chain adds
    last = np.cumsum(more)
    of = np.repeat(long, more)
    node = len(links.nodes) + np.arange(len(of))
    source, target = np.concatenate([links.source, node]), np.concatenate([links.target, node + 1])
    target[len(links.source) + last - 1] = links.target[long]
    target[long] = len(links.nodes) + last - more

    def column(values: Array, new: Array) -> Array:
        return np.concatenate([values, new])

    nothing = np.zeros(len(of))
    return replace(links, nodes=(*links.nodes, *(("chain", i) for i in range(len(of)))), source=source, target=target,
                   axis=column(links.axis, np.full(len(of), -1)), sign=column(links.sign, np.zeros(len(of), np.intp)),
                   wraparound=column(links.wraparound, np.zeros(len(of), bool)), hops=np.ones(len(source), np.intp),
                   bandwidth=column(links.bandwidth, links.bandwidth[of]), latency=column(links.latency, nothing))
