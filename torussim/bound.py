"""The least time that any algorithm could need on this network: what must go into and out of each chip.

Every link of a chip counts, also those of axes that the collective does not run on, and all groups run at once. No latency, no
overhead, efficiencies 1.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim.chips import Chip
from torussim.estimate import paper_compute
from torussim.program import Collective, Compute, Operation, Program
from torussim.topology.grid import Grid, grid

if TYPE_CHECKING:
    import networkx as nx

Array = np.ndarray[Any, Any]


def traffic(collective: Collective, net: Grid) -> tuple[float, float, float]:
    """Return the bytes that must enter a chip, leave a chip, and cross links in all a chip of its group, at the least.

    An all-gather brings each chip (K-1)/K D and takes out each shard once; a reduce-scatter is the reverse; an all-reduce moves
    D both ways and 2 (K-1)/K D in all (DESIGN section 4).
    """
    chips, size = prod(net.length(a) for a in collective.axes), collective.bytes
    most = size * (chips - 1) / chips
    if chips == 1:
        return 0.0, 0.0, 0.0
    if collective.kind == "all_gather":
        return most, size / chips, most
    if collective.kind == "reduce_scatter":
        return size / chips, most, most
    if collective.kind == "all_reduce":
        return size, size, 2 * most
    if collective.kind == "permute" and not any(collective.shift.get(a, 0) % net.length(a) for a in collective.axes):
        return 0.0, 0.0, 0.0
    moved = most if collective.kind == "all_to_all" else size
    return moved, moved, moved


def capacity(net: Grid) -> tuple[Array, Array]:
    """Return the bandwidth into and out of each chip, (chips,) bytes/s."""
    links, chips = net.links, len(net.chips)
    out, into = (np.bincount(ends, links.bandwidth, minlength=chips)[:chips] for ends in (links.source, links.target))
    return into, out


def operation_seconds(operation: Operation, net: Grid, chip: Chip) -> float:
    """Return the bound of one operation on an idle network, seconds."""
    if isinstance(operation, Compute):
        return paper_compute(operation, chip)
    return _seconds(np.array([traffic(operation, net)]), *capacity(net))


def bound(program: Program, topology: nx.DiGraph | Grid, chip: Chip) -> float:
    """Return the bound of a whole program, seconds: its compute on one unit, or all its traffic, whichever is longer."""
    net = topology if isinstance(topology, Grid) else grid(topology)
    compute = sum(times * paper_compute(o, chip) for operations, times in program.sections() for o in operations
                  if isinstance(o, Compute))
    moved = [np.multiply(times, traffic(o, net)) for operations, times in program.sections() for o in operations
             if isinstance(o, Collective)]
    return max(compute, _seconds(np.array(moved).reshape(-1, 3), *capacity(net)))


def _seconds(moved: Array, into: Array, out: Array) -> float:
    enter, leave, cross = moved.sum(axis=0)
    if not cross and not enter and not leave:
        return 0.0
    return float(max(enter / into.min(), leave / out.min(), cross * len(out) / out.sum()))
