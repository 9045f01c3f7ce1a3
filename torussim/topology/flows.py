"""Maximum flows of many small networks at once: the flow from a source to a target, and its arcs.

It knows arcs and their capacities, and nothing of chips, links and messages.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from torussim.topology.routes import Array

ROUND = 1e-13  # of its capacity: a smaller residual capacity of an arc counts as none, and so does a smaller flow on it


@dataclass(frozen=True, eq=False)
class Networks:
    """Networks without a common cell (node). Columns of arcs are (arcs,); the other columns are (networks,)."""

    owner: Array  # number of the network of each arc
    tail: Array  # cells
    head: Array
    capacity: Array  # above 0, finite
    source: Array  # cells
    target: Array  # cells; different from the source


def maximum_flow(networks: Networks) -> Array:
    """Return (arcs,) the flow on each arc of a maximum flow from source to target in each network.

    A rule selects one of the maximum flows. All shortest paths (in arcs) from source to target get flow at the same rate, until
    an arc is full. Then all shortest paths of the residual capacities get flow, and so on until no path is left. A path can go
    backwards over an arc with flow, which reduces this flow. Except for rounding errors, the result does not depend on the order
    of arcs and cells. If the first round gives a maximum flow, it is equal on all shortest paths. There are no more rounds than
    in the algorithm of Edmonds and Karp (J. ACM 19, 1972): each round fills an arc, and the paths never get shorter.
    """
    flow = np.zeros(len(networks.owner))
    some = np.arange(len(flow))  # arcs of the networks in which a path is left
    while len(some):
        owner, tail, head = networks.owner[some], networks.tail[some], networks.head[some]
        capacity, carried = networks.capacity[some], flow[some]
        arcs = len(some)
        room = np.concatenate([capacity - carried, carried])  # residual capacities, forwards and backwards
        usable = np.flatnonzero(room > ROUND * np.concatenate([capacity, capacity]))
        both = Networks(np.concatenate([owner, owner])[usable], np.concatenate([tail, head])[usable],
                        np.concatenate([head, tail])[usable], room[usable], networks.source, networks.target)
        share = _equal_shares(both)
        used = share > 0
        step = np.full(len(networks.source), np.inf)  # by which the flow of each network grows
        np.minimum.at(step, both.owner[used], both.capacity[used] / share[used])
        more = np.zeros(2 * arcs)
        more[usable[used]] = share[used] * step[both.owner[used]]
        flow[some] = np.clip(carried + more[:arcs] - more[arcs:], 0.0, capacity)
        some = some[np.isfinite(step[owner])]
    return flow


def value(networks: Networks, flow: Array) -> Array:
    """Return (networks,) the flow from source to target."""
    leaves = networks.tail == networks.source[networks.owner]
    enters = networks.head == networks.source[networks.owner]
    count = len(networks.source)
    return np.asarray(np.bincount(networks.owner[leaves], flow[leaves], count)
                      - np.bincount(networks.owner[enters], flow[enters], count))


def _equal_shares(networks: Networks) -> Array:
    """Return the share of each arc, (arcs,), with equal shares on all shortest paths from source to target; else 0."""
    cells = int(max(networks.tail.max(initial=0), networks.head.max(initial=0), networks.source.max(), networks.target.max())) + 1
    level = np.full(cells, -1)
    ways = np.zeros(cells)  # divided by a power of two for each network and level: only ratios count
    level[networks.source], ways[networks.source] = 0, 1.0
    layers = list[tuple[Array, Array]]()
    rest = np.arange(len(networks.tail))
    while True:
        fresh = level[networks.head[rest]] < 0
        rest = rest[fresh]
        here = rest[level[networks.tail[rest]] == len(layers)]
        if not len(here):
            break
        owner, tail, head = networks.owner[here], networks.tail[here], networks.head[here]
        np.add.at(ways, head, ways[tail])
        layers.append((here, ways[tail] / ways[head]))
        level[head] = len(layers)
        most = np.zeros(len(networks.source))
        np.maximum.at(most, owner, ways[head])
        scale = np.ones(cells)
        scale[head] = np.ldexp(1.0, -np.frexp(most)[1])[owner]
        ways *= scale
    share, passing = np.zeros(len(networks.tail)), np.zeros(cells)
    passing[networks.target[level[networks.target] > 0]] = 1.0
    for here, part in reversed(layers):
        share[here] = part * passing[networks.head[here]]
        np.add.at(passing, networks.tail[here], share[here])
    return share
