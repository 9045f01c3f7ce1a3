"""How long each operation takes on each chip, as a function of the bandwidth of the links and the pace of the chips.

The times are those of the simulation. What is chosen by estimate (algorithms, loops) does not follow the bandwidths: a compiler
does not know that a link is slow. It is chosen for the network of the scenario, or else for one with a slow link on some axis:
which of these was run is a part of the state. Routes stay as they are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from torussim.chips import Chip
from torussim.choice import chosen
from torussim.engine.simulate import simulate
from torussim.outlines import Outlines
from torussim.program import Collective, Operation, Program
from torussim.repairs import sample, seconds_of
from torussim.timeline import Timeline
from torussim.topology.faults import cables
from torussim.topology.grid import Grid, with_bandwidth

Array = np.ndarray[Any, Any]

UNFOLDED = 512  # chips: with fewer, and one unlike the others, it takes longer to find which are alike than to simulate all
SLOWER = (1.6, 3.0, 10.0)  # times as slow, a link for which it may have been chosen how a program runs


@dataclass(frozen=True, eq=False)
class State:
    """The share of its bandwidth that each link has, (links,), and by which factor each chip computes slower, (chips,).

    `way`: which of the model's ways to run the program.
    """

    scale: Array
    pace: Array
    way: int = 0

    def slowed(self, links: Array, by: float) -> State:
        """Return the state with some links, given by index, `by` times as slow."""
        scale = self.scale.copy()
        scale[links] /= by
        return replace(self, scale=scale)

    def paced(self, chip: int, by: float) -> State:
        """Return the state with a chip `by` times as slow."""
        pace = self.pace.copy()
        pace[chip] *= by
        return replace(self, pace=pace)


@dataclass(frozen=True, eq=False)
class Model:
    """A program on a network."""

    program: Program
    net: Grid
    chip: Chip

    @cached_property
    def ways(self) -> tuple[Program, ...]:
        """The program with all chosen: first as for the network, then as for one with a slow link on an axis, each once."""
        links, found = self.net.links, [chosen(self.program, Outlines(self.net), self.chip)]
        numbers = cables(links)
        for link in np.unique(links.axis, return_index=True)[1].tolist():
            for by in SLOWER:
                slowed = np.where(numbers == numbers[link], links.bandwidth / by, links.bandwidth)
                one = chosen(self.program, Outlines(with_bandwidth(self.net, slowed)), self.chip)
                found += [] if one in found else [one]
        return tuple(found)

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The operations of prologue, blocks and epilogue."""
        return self.program.operations()

    @cached_property
    def moves(self) -> Array:
        """Whether each operation is a collective, (operations,)."""
        return np.array([isinstance(o, Collective) for o in self.operations], bool)

    @cached_property
    def nominal(self) -> State:
        """The network and the chips as the scenario has them."""
        return State(np.ones(len(self.net.links.source)), np.ones(len(self.net.chips)))

    @cached_property
    def timeline(self) -> Timeline:
        """The run of the whole program as the scenario has it."""
        return simulate(self.ways[0], self.net, self.chip)

    def run(self, state: State) -> Timeline:
        """Return the timeline of a state; of its first layers alone, where messages share links."""
        pace = None if (state.pace == 1).all() else state.pace.tolist()
        net = self.net if (state.scale == 1).all() else with_bandwidth(self.net, state.scale * self.net.links.bandwidth)
        whole = not self.timeline.flows or bool(self.net.links.events)
        program = self.ways[state.way] if whole else sample(self.ways[state.way])
        return simulate(program, net, self.chip, pace=pace, fold=not whole or len(self.net.chips) > UNFOLDED)

    def times(self, state: State) -> Array:
        """Return (operations, chips) seconds: the median over all repetitions of each operation."""
        names, found = typical(self.run(state))
        return found[[names.index(o.name) for o in self.operations]]

    def seconds(self, state: State) -> float:
        """Return the time of the whole program in a state."""
        return seconds_of(self.program, self.run(state))


def typical(timeline: Timeline) -> tuple[list[str], Array]:
    """Return the names of the operations, and (operations, chips) seconds: the median duration over all runs of each."""
    names, found = list[str](), []
    for section in dict.fromkeys(segment.section for segment in timeline.segments):
        runs = [i for i, _ in timeline.runs if timeline.segments[i].section == section]
        which, times = np.unique(runs, return_counts=True)
        spans = np.array([timeline.segments[i].end - timeline.segments[i].start for i in which.tolist()])
        found.append(_median(spans, times))
        names += [o.name for o in timeline.segments[which[0]].operations]
    return names, np.concatenate(found)


def _median(values: Array, times: Array) -> Array:
    """Return the median over the first axis, where each entry counts `times`."""
    if len(values) == 1:
        return np.asarray(values[0])
    order = np.argsort(values, axis=0)
    reached = np.cumsum(times[order], axis=0) * 2 >= times.sum()
    middle = np.take_along_axis(order, reached.argmax(axis=0)[None], axis=0)
    return np.asarray(np.take_along_axis(values, middle, axis=0)[0])
