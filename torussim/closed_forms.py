"""Closed forms of a program's time: the paper's, with one bandwidth for the whole chip, and ours, axis by axis.

`axes` is what the engine does when nothing differs from chip to chip: exact on rings, and on lines where the chip at the end
is the last one everywhere. Elsewhere on lines it is an estimate: as if every chip were at the end of its line (`nested` on a
line of 7: 2.6 times the simulation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from torussim.chips import Chip
from torussim.choice import chosen
from torussim.clock import Clock, goes_round, phases_of
from torussim.collectives.lower import DIRECT, algorithm_of, view
from torussim.program import Collective, Compute, Program
from torussim.topology.grid import Grid, grid

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True)
class Estimate:
    """Seconds of the whole program by the paper's model and by ours; `collective_bytes`: D of all collectives, one chip."""

    paper_s: float
    paper_compute_s: float
    paper_collective_s: float
    collective_bytes: float
    axes_s: float


def estimate(program: Program, topology: nx.DiGraph | Grid, chip: Chip) -> Estimate:
    """Return both closed forms; the same arguments as `simulate`. Where links of an axis differ, `axes` takes the slowest."""
    net = topology if isinstance(topology, Grid) else grid(topology)
    compute = collective = size = 0.0
    for operations, times in program.sections():
        for o in operations:
            if isinstance(o, Compute):
                compute += times * paper_compute(o, chip)
            else:
                collective += times * paper_collective(o, chip)
                size += times * o.bytes
    return Estimate(compute + collective, compute, collective, size, axes_seconds(program, net, chip))


def paper_compute(compute: Compute, chip: Chip) -> float:
    """Return max(FLOP / peak, HBM bytes / bandwidth): no tiles, efficiencies 1, no overhead (paper, section 2.1).

    Elementwise work is not counted.
    """
    return max(compute.total_flops / chip.rate(compute.dtype), compute.hbm_bytes / chip.hbm_bandwidth)


def paper_collective(collective: Collective, chip: Chip) -> float:
    """Return D over the bandwidth of all the chip's links, twice for an all-reduce (paper, A.1; (K-1)/K dropped)."""
    return collective.bytes * (2 if collective.kind == "all_reduce" else 1) / (chip.links * chip.link_bandwidth)


def axes_seconds(program: Program, net: Grid, chip: Chip, *, fastest: bool = False) -> float:
    """Return the time of the program with every link of an axis as slow as its slowest (fast as its fastest), seconds."""
    program = chosen(program, net, chip)
    clock = Clock(net, chip, fastest)
    clock.section(program.prologue)
    durations, states = list[float](), list[list[float]]()
    for done in range(program.layers):
        before = clock.last
        clock.section(program.block)
        durations.append(clock.last - before)
        states.append(clock.state())
        if done and len(states[-1]) == len(states[-2]) and all(
                abs(a - b) <= 1e-13 * durations[-1] for a, b in zip(states[-1], states[-2])):
            later = durations[-1] * (program.layers - done - 1)
            clock.last += later
            clock.latest += later
            clock.unit += later
            clock.links = {k: v + later for k, v in clock.links.items()}
            break
    clock.section(program.epilogue)
    return clock.latest


@dataclass(frozen=True)
class Charge:
    """One collective of a program, alone on an idle network: what the paper charges it, and what its own axes allow.

    `links`: how many of a chip's `of` links on this network (the most that a chip has) bring it data at once; on a line those of
    the chip at its end. `charged`: the chip's links by its data, over which the paper charges. `times`: how often it runs.
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


def charges(program: Program, net: Grid, chip: Chip) -> list[Charge]:
    """Return every collective that moves something, in program order, as the paper charges it and as its axes allow."""
    found = []
    of = int(np.bincount(net.links.source, minlength=1)[:len(net.links.chips)].max())
    for operations, times in chosen(program, net, chip).sections():
        loops = {o.loop.collective: o.loop for o in operations if isinstance(o, Compute) and o.loop}
        for o in operations:
            phases = phases_of(o, net, loops.get(o.name)) if isinstance(o, Collective) else []
            direct = isinstance(o, Collective) and algorithm_of(o) in DIRECT and any(net.length(a) > 1 for a in o.axes)
            if not isinstance(o, Collective) or not (phases or direct):
                continue
            at_once: dict[int, set[tuple[str, int]]] = {}
            for stretch in phases:
                for direction, sends in enumerate(stretch.sends if goes_round(stretch.axis, view(o, net)) else stretch.sends[:1]):
                    if sends:
                        at_once.setdefault(stretch.index, set()).add((stretch.axis, direction))
            links = (sum(2 if net.length(a) > 2 else 1 for a in o.axes if net.length(a) > 1) if direct
                     else max(len(used) for used in at_once.values()))
            alone = Clock(net, chip).collective(o, 0.0, loops.get(o.name))
            found.append(Charge(o.name, o.kind, o.axes, o.bytes, times, min(links, of), of, chip.links, paper_collective(o, chip),
                                alone))  # directions of a logical mesh can share one link, such as that to a switch
    return found
