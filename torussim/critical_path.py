"""The least time of a program on a network with its named algorithms: the length of its critical path.

Each class of chips has a *front*: a time before which no chip of the class has reached the present operation. A collective moves
fronts by its longest paths (`fronts`), a computation by its time. The last front is a lower bound of the simulated time. It is
equal to the simulated time if there is a class for each kind of place and collectives do not share links.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from torussim.chips import Chip
from torussim.choice import chosen
from torussim.cost import compute_seconds, shard_seconds, start_seconds
from torussim.fronts import Fronts, Table
from torussim.outlines import Outlines
from torussim.program import Collective, Compute, Operation, Program, unlike_cases
from torussim.topology.grid import Grid

Array = np.ndarray[Any, Any]

BLOCKS = 6  # the runs of a block; later ones are taken to be as slow as the class with the least gain


def least_seconds(program: Program, network: Grid | Outlines | Fronts, chip: Chip) -> float:
    """Return a lower bound of the simulated seconds of a program on a network; loops are chosen as the simulation chooses them.

    For many bounds on one network, passing its `Fronts` is faster.
    """
    known = network if isinstance(network, Fronts) else Fronts(network, chip)
    fronts = known if known.chip == chip else Fronts(known.outlines, chip)
    program = chosen(program, fronts.outlines, chip)
    walk = _Walk(fronts)
    for operations, times in program.sections():
        walk.repeat(walk.ready(operations, times), times)
    return max(walk.latest, float(walk.links.max(initial=0.0)))


@dataclass(frozen=True, eq=False)
class _Step:
    """An operation of a list: its dependencies in the list, and its time; a looped pair has the whole time at its second half.

    `seconds` is that of a computation. `ends`, `through` and `own` are as in `Table`, in seconds. `gathers`: whether the first
    half is the collective.
    """

    after: tuple[int, ...]
    partner: int | None = None
    seconds: float = 0.0
    gathers: bool = False
    ends: Array | None = None
    through: Array | None = None
    own: Array | None = None


class _Walk:
    """The fronts of a program, operation by operation, as `clock.Clock` has the times of one chip.

    (classes + 2,) seconds: of each class, of at least one chip of any class, and of all chips.
    """

    def __init__(self, fronts: Fronts) -> None:
        self.fronts, self.chip = fronts, fronts.chip
        self.last = self.unit = np.zeros(fronts.classes + 2)
        self.latest = 0.0
        self.links = np.zeros(len(fronts.net.links.source))

    def ready(self, operations: tuple[Operation, ...], times: int) -> tuple[_Step, ...]:
        """Return a list of operations, run a number of times, with the time of each. Count the use of its links."""
        place = {o.name: i for i, o in enumerate(operations)}
        matmuls = {o.loop.collective: o for o in operations if isinstance(o, Compute) and o.loop}
        found = []
        for i, o in enumerate(operations):
            after = tuple(place[name] for name in o.after) if o.after is not None else (i - 1,) if i else ()
            matmul = matmuls.get(o.name) if isinstance(o, Collective) else o if o.loop else None
            collective = o if isinstance(o, Collective) else operations[place[o.loop.collective]] if o.loop else None
            if not isinstance(collective, Collective):
                assert isinstance(o, Compute)
                seconds = min(compute_seconds(case, self.chip) for case in unlike_cases(o))
                found.append(_Step(after, seconds=self.chip.op_overhead * o.kernels + seconds))
                continue
            table = self.fronts.table(collective, matmul.loop if matmul else None)
            if o is collective:
                self.links += times * o.bytes * table.links
            partner = None if matmul is None else place[matmul.name if o is collective else collective.name]
            if partner is not None and partner > i:
                found.append(_Step(after, partner))
            elif matmul is None:
                chips = 1 if collective.groups else collective.largest(self.fronts.net.length)  # a chip can be outside all groups
                ends = table.ends.seconds(collective.bytes) + start_seconds(collective, chips, self.chip)
                found.append(_Step(after, ends=ends))
            else:
                found.append(self.pair(matmul, collective, table, after, partner))
        return tuple(found)

    def pair(self, matmul: Compute, o: Collective, table: Table, after: tuple[int, ...], partner: int | None) -> _Step:
        """Return a matmul looped with a collective."""
        assert matmul.loop is not None and table.through is not None and table.own is not None
        shard = min(shard_seconds(case, matmul.loop, self.chip) for case in unlike_cases(matmul))
        sizes = o.bytes, shard, self.chip.loop_step
        overhead = self.chip.op_overhead * matmul.kernels
        gathers = o.kind == "all_gather"
        through = table.through.seconds(*sizes) + (0.0 if gathers else overhead)
        own = table.own @ np.array([sizes[0], 1.0, *sizes[1:]]) + overhead
        return _Step(after, partner, gathers=gathers, ends=table.ends.seconds(*sizes), through=through, own=own)

    def section(self, steps: tuple[_Step, ...]) -> None:
        """Run one list of operations. A looped pair runs at its second half."""
        begin, ends = self.last, [self.last] * len(steps)
        waiting: dict[int, Array] = {}  # first halves: the times at which they can start
        for i, step in enumerate(steps):
            waits = [ends[a] for a in step.after if a != step.partner]
            at = begin if not waits else waits[0] if len(waits) == 1 else np.maximum.reduce(waits)
            if step.partner is None:
                if step.ends is not None:
                    ends[i] = _moved(at, step.ends)
                else:
                    ends[i] = self.unit = np.maximum(at, self.unit) + step.seconds
            elif step.partner > i:
                waiting[i] = at
                continue
            else:
                first = waiting.pop(step.partner)
                assert step.ends is not None and step.through is not None and step.own is not None
                if step.gathers:
                    ends[step.partner] = _moved(first, step.ends)
                    alone = np.maximum(np.maximum(first, at), self.unit) + step.own
                    ends[i] = self.unit = np.maximum(alone, _moved(first, step.through))
                else:
                    first = np.maximum(first, self.unit)
                    ends[step.partner] = self.unit = first + step.own
                    both = np.maximum(_moved(np.maximum(first, at), step.ends), _moved(first, step.through))
                    ends[i] = np.maximum(both, self.unit)
            self.last = ends[i]
        self.latest = max(self.latest, float(np.maximum.reduce(ends, axis=None))) if ends else self.latest

    def repeat(self, steps: tuple[_Step, ...], times: int) -> None:
        """Run a list a number of times; the runs after BLOCKS are at least as slow as the fastest class by then.

        A later start makes no end earlier. If all starts are later by the same time, all ends are later by that time.
        """
        states, before = [self.state()], self.latest
        for done in range(1, times + 1):
            self.latest = 0.0
            self.section(steps)
            states.append(self.state())
            gain = [0.0, *(float((states[-1] - state).min()) for state in states[-2::-1])]  # the gain over each number of blocks
            last = states[-1] - states[-2]
            if done == BLOCKS or last.max() - last.min() <= 1e-13 * last.max():
                period = max(range(1, done + 1), key=lambda p: gain[p] / p * (1 + 1e-12 * (p == 1)))
                turns, rest = divmod(times - done, period)
                later = turns * gain[period] + gain[rest]
                self.last, self.unit, self.latest = self.last + later, self.unit + later, self.latest + later
                break
            before = max(before, self.latest)
        self.latest = max(before, self.latest)

    def state(self) -> Array:
        """Return the state that later blocks start from; an idle unit is equivalent to one that has just become free."""
        return np.concatenate([self.last, np.maximum(self.unit, self.last)])


def _moved(at: Array, seconds: Array) -> Array:
    """Return the fronts after an operation of (classes + 2, classes + 1) seconds from the fronts at its start."""
    found = np.empty(len(at))
    np.maximum.reduce(at[:, None] + seconds, out=found[:-1])
    found[-1] = found[:-2].min()
    return found
