"""Closed forms of a program's time: the paper's, with one bandwidth for the whole chip, and ours, axis by axis.

`axes` is the time of the engine if no chip differs from another: it is exact on rings, and on lines where the chip at the end is
always the last one. On other lines it is an estimate: every chip is treated like the end of its line. For `nested` it omits the
latency of the data that goes back along the line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from torussim.chips import Chip
from torussim.choice import chosen
from torussim.clock import Clock
from torussim.outlines import Outlines, outlines_of
from torussim.places import clocks_of, places_of, runs
from torussim.program import WITH_ROOT, Collective, Compute, Operation, Program
from torussim.topology.grid import Grid, grid

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Estimate:
    """Seconds of the whole program by both closed forms; `collective_bytes`: D of all collectives, one chip.

    The paper's are sums: where operations run at some places only, of the place with the most.
    """

    paper_s: float
    paper_compute_s: float
    paper_collective_s: float
    collective_bytes: float
    axes_s: float


def estimate(program: Program, topology: nx.DiGraph | Grid | Outlines, chip: Chip) -> Estimate:
    """Return both closed forms of a program: the paper's model, and ours axis by axis.

    Where links of an axis differ, `axes` takes the slowest.

    Parameters
    ----------
    program
        What every chip runs, as `build` makes it.
    topology
        The network: a graph, its Grid, or its Outlines, with which many estimates on one network are quicker.
    chip
        The chip of every node.

    Returns
    -------
    Estimate
        The times of both, seconds, and the bytes of the collectives.

    Raises
    ------
    ProgramError, TopologyError
        If program and network do not fit.

    Examples
    --------
    >>> from torussim.chips import chip
    >>> from torussim.program import Collective, Program
    >>> from torussim.topology.builders import ring
    >>> gather = Program((Collective("gather", "all_gather", ("x",), 90e6),))
    >>> estimate(gather, ring(4, bandwidth=45e9), chip("ideal")).axes_s
    0.00075
    """
    network = topology if isinstance(topology, Grid | Outlines) else grid(topology)
    net = network.net if isinstance(network, Outlines) else network
    places = places_of(program, dict(zip(net.axes, net.shape)))
    sums = [_paper([(o, times) for operations, times in program.sections() for o in operations if runs(o, place)], chip)
            for place in places]
    compute, collective, size = max(sums, key=lambda parts: parts[0] + parts[1])
    return Estimate(compute + collective, compute, collective, size, axes_seconds(program, network, chip))


def _paper(operations: Sequence[tuple[Operation, int]], chip: Chip) -> tuple[float, float, float]:
    """Return the paper's seconds of the computations and of the collectives among operations, and the collectives' bytes."""
    compute = collective = size = 0.0
    for o, times in operations:
        if isinstance(o, Compute):
            compute += times * paper_compute(o, chip)
        else:
            collective += times * paper_collective(o, chip)
            size += times * o.bytes
    return compute, collective, size


def paper_compute(compute: Compute, chip: Chip) -> float:
    """Return max(FLOP / peak, HBM bytes / bandwidth): no tiles, efficiencies 1, no overhead (paper, section 2.1).

    Elementwise work is not counted.
    """
    return max(compute.total_flops / chip.rate(compute.dtype), compute.hbm_bytes / chip.hbm_bandwidth)


def paper_collective(collective: Collective, chip: Chip) -> float:
    """Return D over the bandwidth of all the chip's links, twice for an all-reduce (paper, A.1; (K-1)/K dropped)."""
    return collective.bytes * (2 if collective.kind == "all_reduce" else 1) / (chip.links * chip.link_bandwidth)


def axes_seconds(program: Program, network: Grid | Outlines, chip: Chip, *, fastest: bool = False) -> float:
    """Return the time of the program with every link of an axis as slow as its slowest (fast as its fastest), seconds."""
    outlines = outlines_of(network)
    program = chosen(program, outlines, chip)
    clocks = clocks_of(program, outlines.prices(chip), fastest and not outlines.even)
    for operations, times in program.sections():
        clocks.repeat(operations, times)
    return clocks.latest


@dataclass(frozen=True)
class Charge:
    """One collective of a program, alone on an idle network: the paper's time for it, and the time that its own axes allow.

    `links` is the number of a chip's `of` links on this network (the most of any chip) that bring it data at once; on a line, of
    the chip at its end. `charged` is the number of links in the data of the chip, among which the paper divides the bytes.
    `times` is the number of runs.
    """

    name: str
    kind: str
    axes: tuple[str, ...]
    bytes: float
    times: int
    links: int
    of: int
    charged: int
    paper_s: float
    axes_s: float


def charges(program: Program, network: Grid | Outlines, chip: Chip) -> list[Charge]:
    """Return every collective that moves data, in program order, with the paper's time and the time that its axes allow."""
    found, outlines = [], outlines_of(network)
    net, prices = outlines.net, outlines.prices(chip)
    of = int(np.bincount(net.links.source, minlength=1)[:len(net.links.chips)].max())
    for operations, times in chosen(program, outlines, chip).sections():
        loops = {o.loop.collective: o.loop for o in operations if isinstance(o, Compute) and o.loop}
        for o in operations:
            if not isinstance(o, Collective) or o.kind in WITH_ROOT or o.groups:  # these are not in the paper
                continue
            outline = outlines.of(o, loops.get(o.name))
            if outline.chips == 1 or not (outline.lines or outline.direct):
                continue
            at_once: dict[int, set[tuple[str, int]]] = {}
            for line in outline.lines:
                for direction, sends in enumerate(line.stretch.sends if line.closed else line.stretch.sends[:1]):
                    if sends:
                        at_once.setdefault(line.stretch.index, set()).add((line.stretch.axis, direction))
            lengths = map(net.length, o.axes)
            links = (sum(min(length, 3) - 1 for length in lengths) if outline.direct
                     else max(len(used) for used in at_once.values()))
            alone = Clock(prices).collective(prices.collective(o, loops.get(o.name)), 0.0)
            found.append(Charge(o.name, o.kind, o.axes, o.bytes, times, min(links, of), of, chip.links, paper_collective(o, chip),
                                alone))  # several directions of a logical mesh can share one link, such as the link to a switch
    return found
