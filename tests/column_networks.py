"""Networks as columns, written out link by link: what `torussim.topology.routing` reads, made the obvious way."""

from itertools import product
from types import SimpleNamespace

import networkx as nx
import numpy as np


def moved(chip, axis, step, axes, ring, twist):
    """Return the chip a step (+1, -1) along an axis; None past the end of a line."""
    names, lengths = list(axes), list(axes.values())
    there = list(chip)
    there[axis] += step
    if not 0 <= there[axis] < lengths[axis]:
        if not ring[axis]:
            return None
        there[axis] %= lengths[axis]
        for other, by in twist.get(names[axis], {}).items():
            there[names.index(other)] = (there[names.index(other)] + step * by) % axes[other]
    return tuple(there)


def grid(shape, *, ring=True, twist=None, dead=(), latency=0.0, bandwidth=1.0):
    """Return a torus or mesh; `dead`: (chip, axis, sign) of links to leave out; latency: a number, or a function of those."""
    axes = dict(zip("xyzwuv", shape, strict=False))
    ring = tuple(ring) if isinstance(ring, list | tuple) else (ring,) * len(shape)
    ring = tuple(r and (length > 2 or name in (twist or {})) for r, length, name in zip(ring, shape, axes, strict=True))
    rows, slot = [], {}
    for chip in product(*map(range, shape)):
        for axis, sign in product(range(len(shape)), range(2)):
            there = moved(chip, axis, 1 - 2 * sign, axes, ring, twist or {})
            if there is not None and (chip, axis, sign) not in dead:
                slot[axis, sign, chip] = len(rows)
                late = latency(chip, axis, sign) if callable(latency) else latency
                rows.append((chip, there, axis, sign, late))
    return columns(axes, ring, twist or {}, [], rows, slot, bandwidth)


def network(axes, switches, links, latency=0.0):
    """Return a network of chips and switches from its links, pairs of nodes, each one way."""
    return columns(axes, (False,) * len(axes), {}, switches, [(a, b, -1, 0, latency) for a, b in links], {}, 1.0)


def columns(axes, ring, twist, switches, rows, slot, bandwidth):
    chips = tuple(product(*map(range, axes.values())))
    nodes = (*chips, *switches)
    number = {node: i for i, node in enumerate(nodes)}
    slots = np.full((len(axes), 2, len(chips)), -1)
    for (axis, sign, chip), link in slot.items():
        slots[axis, sign, number[chip]] = link
    rates = np.full(len(rows), bandwidth)
    return SimpleNamespace(
        axes=axes, ring=ring, twist=twist, chips=chips, nodes=nodes, coordinates=np.array(chips).T.reshape(len(axes), -1),
        source=np.array([number[row[0]] for row in rows], int), target=np.array([number[row[1]] for row in rows], int),
        axis=np.array([row[2] for row in rows], int), sign=np.array([row[3] for row in rows], int),
        latency=np.array([row[4] for row in rows], float), bandwidth=rates, routed=rates, slot=slots,
        hops=np.ones(len(rows), int))


def as_graph(links):
    """Return the network as a graph of node numbers, with the latency and number of each link."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(links.nodes)))
    for i, (a, b) in enumerate(zip(links.source.tolist(), links.target.tolist(), strict=True)):
        graph.add_edge(a, b, latency=links.latency[i], link=i)
    return graph


def all_pairs(links):
    n = len(links.chips)
    source, target = np.divmod(np.arange(n * n), n)
    return source, target
