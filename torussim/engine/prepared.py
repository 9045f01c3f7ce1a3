"""The state that runs on one network share: the folded network and programs made ready to run, each worked out once.

Two programs can differ only in the cost of their plain computations, as the passes of a workload do in attention. Then they have
the same messages on the same links, and only these computations are made ready anew. Programs that differ in bytes share the
folded network, and the hops, the order and the links of each message.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from torussim.chips import Chip
from torussim.choice import chosen, with_sums
from torussim.engine.plan import Planner
from torussim.engine.reach import reaching
from torussim.engine.ready import Ready
from torussim.engine.routed import Shared, shared
from torussim.engine.schedule_table import Table, table
from torussim.engine.symmetry import orbits
from torussim.outlines import Outlines
from torussim.program import Collective, Compute, Operation, Program, check_program, numbered_cases
from torussim.topology.grid import Grid, folded, grid
from torussim.topology.labels import colours, mixed

if TYPE_CHECKING:
    import networkx as nx

Array = np.ndarray[Any, Any]
REMEMBERED = 2  # programs, and foldings of the network; on a large network each takes as much room as a run


@dataclass(frozen=True, eq=False)
class Setup:
    """A program ready to run: every choice by estimate is made, on the chips that stand for all.

    `planner.grid` has the axes of `net` and the axes for lanes of user-defined algorithms. `through`: None if all links are
    private.
    """

    program: Program
    net: Grid
    planner: Planner
    sections: tuple[tuple[Ready, ...], ...]
    through: Shared | None
    table: Table | None  # of the part of the program that goes through the network

    def costing(self, program: Program) -> Setup:
        """Return the setup of a program that differs only in the cost of plain computations."""
        cost = {o.name: o for o in program.operations() if _is_plain(o)}
        change = {o.name: replace(cost[o.name], after=o.after) for o in self.program.operations()
                  if o.name in cost and o is not cost[o.name]}  # positions, and so dependencies, were chosen
        ready = {name: self.planner.work(compute) for name, compute in change.items()}
        sections = tuple(tuple(replace(r, operation=change[r.operation.name], work=ready[r.operation.name])
                               if r.operation.name in change else r for r in section) for section in self.sections)
        found = None if self.table is None else self.table.costing([r for section in sections for r in section])
        return replace(self, program=self.program.replaced(change), sections=sections, table=found)


class Prepared:
    """A network, made ready for many runs on it. The results equal the results of runs without it, to the last bit."""

    def __init__(self, net: Grid) -> None:
        self.net, self.outlines = net, Outlines(net)
        self._chip: Chip | None = None
        self._folded: dict[Hashable, Grid] = {}
        self._planners: dict[Hashable, Planner] = {}
        self._setups: dict[Hashable, Setup] = {}

    def of(self, program: Program, chip: Chip, begin: Array, *, fold: bool = True, pace: Array | None = None) -> Setup:
        """Return a program ready to run from `begin`, (chips,) seconds. Raise ProgramError if it does not fit the network.

        `pace`: (chips,) the factors by which the computations of each chip take longer; None: 1 everywhere.
        """
        if chip != self._chip:
            self._chip = chip
            self._planners.clear()
            self._setups.clear()
        alike = (begin == begin[:1]).all() and pace is None
        since = None if alike else (begin.tobytes(), pace.tobytes() if pace is not None else b"")
        program = with_sums(program, self.outlines, chip)
        key = _shape(program), since, fold
        if key not in self._setups:
            check_program(program, dict(zip(self.net.axes, self.net.shape)))
            _forget(self._setups)
            self._setups[key] = self._made(chosen(program, self.outlines, chip), chip, begin, pace, since, fold)
        return self._setups[key].costing(program)

    def _made(self, program: Program, chip: Chip, begin: Array, pace: Array | None, since: Hashable, fold: bool) -> Setup:
        """Return a program, in which all choices are made, ready to run."""
        moved = [o for o in program.operations() if isinstance(o, Collective)]
        loops = {o.loop.collective: o.loop.kind for o in program.operations() if isinstance(o, Compute) and o.loop}
        ways = [(o.kind, o.axes, o.root, o.groups, o.algorithm, o.detour, o.direction, o.matrix, o.on, *o.shift.items(),
                 loops.get(o.name)) for o in moved]
        unlike = [(o.over, numbered_cases(o)) for o in program.operations() if isinstance(o, Compute) and o.cases]
        some = [o.on for o in program.operations() if o.on]
        key = fold, since, *(dict.fromkeys([*ways, *unlike, *some]) if fold else ())
        if key not in self._folded:
            _forget(self._folded, self._planners)
            told = begin if pace is None else colours(mixed([(begin,), (pace,)], len(begin))).astype(float)
            self._folded[key] = folded(self.net, *orbits(program, self.outlines.movements, told)) if fold else self.net
        net = self._folded[key]
        own = None if pace is None else pace[net.own]
        if any(callable(o.algorithm) for o in moved):
            grid, routed = reaching(program, net)
            planner = Planner(grid, chip, routed, own)
        elif key in self._planners:
            planner = self._planners[key]
        else:
            planner = self._planners[key] = Planner(net, chip, pace=own)
        sections = planner.sections(program)
        through = shared(planner, sections)
        return Setup(program, net, planner, sections, through, None if through is None else table(planner, through, sections))


def prepared_of(network: nx.DiGraph | Grid | Prepared) -> Prepared:
    """Return a network made ready for runs on it; a Prepared is returned as it is."""
    return network if isinstance(network, Prepared) else Prepared(network if isinstance(network, Grid) else grid(network))


def _forget(*remembered: dict[Hashable, Any]) -> None:
    """Make room for one more entry in each, in place of the oldest."""
    for found in remembered:
        for old in list(found)[:1 - REMEMBERED]:
            del found[old]


def _is_plain(operation: Operation) -> TypeGuard[Compute]:
    """Return whether an operation is a computation without a loop."""
    return isinstance(operation, Compute) and operation.loop is None and not operation.loops


def _shape(program: Program) -> Hashable:
    """Return everything of a program except the cost of its plain computations."""
    return tuple((times, *map(_form, operations)) for operations, times in program.sections())


def _form(operation: Operation) -> Hashable:
    if isinstance(operation, Collective):
        return *(value for name, value in vars(operation).items() if name != "shift"), *operation.shift.items()
    if _is_plain(operation):
        return operation.name, operation.after, operation.on, operation.over, numbered_cases(operation)
    return operation
