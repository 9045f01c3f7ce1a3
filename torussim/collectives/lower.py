"""The choice of an algorithm for a collective by its name, and the schedule of the collective on a network's axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim.collectives import axes as over
from torussim.collectives import steps as stepwise
from torussim.collectives import unequal
from torussim.collectives.contract import Phase, Schedule, Step
from torussim.collectives.playback import check
from torussim.collectives.rooted import ROOTED
from torussim.collectives.steps import STEPS
from torussim.errors import ContractError, ProgramError, TorusSimError
from torussim.program import Collective
from torussim.resolve import raised, shown, unknown

if TYPE_CHECKING:
    from torussim.topology.grid import Grid

Array = np.ndarray[Any, Any]

MOST_STEPS = 1024  # the most chips that a chain passes through, or that a root sends to at once
TO_ROOT = (("direct", "reduce"), ("direct", "gather"))
AUTO = "auto"  # the fastest by estimate: see choice
ALGORITHMS: Mapping[str, tuple[str, ...]] = {  # the first is the default
    "all_gather": ("multi_axis", "sequential", "one_ring", "nested", *STEPS["all_gather"], AUTO),
    "reduce_scatter": ("multi_axis", "sequential", "one_ring", *STEPS["reduce_scatter"], AUTO),
    "all_reduce": ("multi_axis", "sequential", "one_ring", *STEPS["all_reduce"], AUTO),
    "all_to_all": ("dimension_wise", "sequential", "one_ring", *STEPS["all_to_all"], AUTO),
    "permute": ("direct", "dimension_order"),
    **{kind: (*names, AUTO) for kind, names in ROOTED.items()},
}
UNEQUAL = ("dimension_wise", "sequential", "direct")  # the algorithms of an all-to-all that can have a matrix
DIRECT = tuple(dict.fromkeys(name for table in (STEPS, ROOTED) for names in table.values() for name in names))  # have steps


def algorithm_of(collective: Collective) -> str | Callable[..., Any]:
    """Return the algorithm that will run, a name or the user's function; raise ProgramError if the kind has none of this name."""
    names = ALGORITHMS[collective.kind]
    found = collective.algorithm or names[0]
    if not callable(found) and found not in names:
        raise ProgramError(unknown(found, names, f"algorithm of {collective.kind}"), code="unknown-name")
    if collective.matrix and found not in (*UNEQUAL, AUTO):
        name = shown(found) if callable(found) else found
        raise ProgramError(f"{collective.name!r} has a matrix, and {name} sends equal bytes to all chips: take one of "
                           f"{', '.join(UNEQUAL)}", code="clash")
    return names[0] if found == AUTO else found


def name_of(collective: Collective) -> str:
    """Return the name of the algorithm that will run, as reports show it."""
    found = algorithm_of(collective)
    return shown(found) if callable(found) else found


def summed(collective: Collective, grid: Grid) -> bool:
    """Return whether, for each group of a collective, switches that sum and are linked to one another join all its chips."""
    links = grid.links
    if not links.summing:
        return False
    part = np.full(len(links.nodes), -1)
    part[list(links.summing)] = links.summing
    inside = (part[links.source] >= 0) & (part[links.target] >= 0)
    for _ in links.summing:  # each switch gets the least number of the switches that it is linked to
        before = part.copy()
        np.minimum.at(part, links.target[inside], part[links.source[inside]])
        if (part == before).all():
            break
    chip = np.full((len(links.nodes), 2), -1)  # the set of switches after each chip, and the set before it
    for column, (end, other) in enumerate(((links.source, links.target), (links.target, links.source))):
        chip[end[part[other] >= 0], column] = part[other[part[other] >= 0]]
    chip = chip[:len(links.chips)]
    groups = [np.array(group) for group in collective.groups] or _groups(collective, grid)
    return all(len(set(chip[group].ravel().tolist())) == 1 and chip[group[0], 0] >= 0 for group in groups if len(group) > 1)


def joined(collective: Collective, grid: Grid) -> bool:
    """Return whether, for each group of a collective, one switch has a link to and from each of its chips."""
    links, chips = grid.links, len(grid.links.chips)
    near = np.zeros((2, len(links.nodes), len(links.nodes) - chips), bool)  # switches after each node, and before it
    for way, (end, other) in enumerate(((links.source, links.target), (links.target, links.source))):
        out = other >= chips
        near[way, end[out], other[out] - chips] = True
    beside = near[0] & near[1]
    groups = [np.array(group) for group in collective.groups] or _groups(collective, grid)
    return all(bool(beside[group].all(axis=0).any()) for group in groups if len(group) > 1)


def _groups(collective: Collective, grid: Grid) -> list[Array]:
    """Return the physical chips of each group of a collective over axes."""
    others = [i for i, a in enumerate(grid.axes) if a not in collective.axes]
    _, number = np.unique(grid.coordinates[others], axis=1, return_inverse=True)
    number = number.reshape(-1) if others else np.zeros(len(grid.chips), int)
    order = np.argsort(number, kind="stable")
    return [grid.own[part] for part in np.split(order, np.flatnonzero(np.diff(number[order])) + 1)]


def fits(collective: Collective, chips: int, sums: bool = False) -> list[str]:
    """Return the algorithms of a collective for a group of this number of chips; `sums`: switches can sum for the group."""
    paired = not any(size & (size - 1) for size in (chips, *map(len, collective.groups)))
    without = {AUTO, *(() if sums else ("in_network",)), *(["hierarchical"] if len(collective.axes) <= 1 else ()),
               *(() if paired else stepwise.PAIRS)}
    near = () if collective.groups else ALGORITHMS[collective.kind]  # the algorithms along axes
    return [name for name in ALGORITHMS[collective.kind] if name not in without and (name in near or name in DIRECT)
            and (name in UNEQUAL or not collective.matrix)]


def beside(collective: Collective, grid: Grid) -> bool:
    """Return whether each sender of a permute sends to a neighbour: on one axis, by one place, not over the end of a line."""
    moving = {a: by for a in collective.axes if (by := collective.shift.get(a, 0) % grid.length(a))}
    for axis, by in moving.items():
        i, length = grid.axis(axis), grid.length(axis)
        end = length - 1 if by == 1 else 0
        over = not grid.ring[i] and length > 2 and end in dict(collective.on).get(axis, (end,))
        if by not in (1, length - 1) or grid.stride[i] > 1 or over:
            return False
    return len(moving) <= 1


def view(collective: Collective, grid: Grid) -> Grid:
    """Return the grid as a collective sees it: some collectives use twisted axes as rings, others as lines.

    Gathers and sums over several axes use them as rings if their group holds the axes that are shifted. A chip can then take a
    shard of another row in place of its own one, because each row takes the shard of another row and all rows are in the group.
    An axis with a dead link is a ring only if detours are taken.
    """
    if algorithm_of(collective) == "nested":  # a message over the end of a line is routed back along it
        on = {grid.axis(a) for a in collective.axes if grid.length(a) > 2 and a not in grid.links.twist}
        return grid.with_rings(tuple(ring or axis in on for axis, ring in enumerate(grid.ring)))
    turning = collective.kind in ("all_gather", "reduce_scatter", "all_reduce")
    if not grid.links.twist or not turning or algorithm_of(collective) not in ("multi_axis", "sequential"):
        return grid
    return grid.around(collective.axes, detour=collective.detour is not False)


def lower(collective: Collective, grid: Grid, *, way: str | None = None) -> Schedule:
    """Return the schedule of a collective on the axes of a network.

    Parameters
    ----------
    collective
        The collective. A user's function as its algorithm is called with the collective, the lengths of its axes and which of
        them are rings, returns phases, and is checked by the contract.
    grid
        The network.
    way
        A kind of loop, in place of the collective's own direction.

    Returns
    -------
    Schedule
        Its phases; an algorithm that is DIRECT has steps in place of phases, whose messages are routed.

    Raises
    ------
    ProgramError
        If the collective has no algorithm of this name, or cannot run on these axes.
    ContractError
        If a user's function makes a schedule that does not do what the collective promises.

    Examples
    --------
    >>> from torussim.topology.builders import ring
    >>> from torussim.topology.grid import grid as grid_of
    >>> schedule = lower(Collective("sum", "all_reduce", ("x",), 1e6), grid_of(ring(8, bandwidth=45e9)))
    >>> schedule.algorithm
    'multi_axis'
    """
    if collective.groups:
        return _joined(schedules(collective, grid), collective, grid)
    return _over_axes(collective, grid, way)


def matrix_of(collective: Collective, chips: int) -> Array:
    """Return the matrix of a collective that has one; raise ProgramError if a group has another number of chips."""
    matrix = collective.matrix
    assert matrix is not None
    if matrix.chips != chips:
        raise ProgramError(f"the matrix of {collective.name!r} is {matrix.chips} x {matrix.chips}, and a group has {chips}: "
                           "give a row and a column for each", code="clash")
    return matrix.array


def schedules(collective: Collective, grid: Grid) -> list[Schedule]:
    """Return the schedule of each group of a collective without axes, on one axis without a name."""
    return [_schedule(collective, {"": len(group)} if len(group) > 1 else {}, grid) for group in collective.groups]


def _joined(found: Sequence[Schedule], collective: Collective, grid: Grid) -> Schedule:
    """Return the schedules of all groups as one schedule of all chips of the network."""
    chips, steps = len(grid.links.chips), list[Step]()
    for number in range(max(len(one.steps) for one in found)):
        here = [(np.array(group), one.steps[number]) for group, one in zip(collective.groups, found) if number < len(one.steps)]
        made = [(group, step.targets([len(group)]), step) for group, step in here]
        rows = max(len(to) for _, to, _ in made)
        to, size, most = np.full((rows, chips), -1), np.zeros((rows, chips)), max(step.size for _, step in here)
        for group, where, step in made:
            to[:len(where), group] = np.where(where >= 0, group[where], -1)
            size[:len(where), group] = step.size * (1.0 if step.part is None else step.part)
        alike = most == 0 or (size[to >= 0] == most).all()
        steps.append(replace(here[0][1], size=most, moves=None, to=to, part=None if alike else size / most))
    return Schedule(collective.kind, {}, collective.bytes, (), name_of(collective), {}, {}, tuple(steps))


def _over_axes(collective: Collective, grid: Grid, way: str | None) -> Schedule:
    """Return the schedule of a collective over axes."""
    grid = view(collective, grid)
    lengths = {a: grid.length(a) for a in collective.axes if grid.length(a) > 1}
    ring = {a: grid.ring[grid.axis(a)] for a in lengths}
    algorithm, size, kind = algorithm_of(collective), collective.bytes, collective.kind
    way = way or collective.direction
    phases: tuple[Phase, ...] = ()
    orders: list[tuple[str, ...]] = []
    shares: tuple[float, ...] = ()
    if not lengths:
        pass
    elif algorithm in DIRECT:
        return _schedule(collective, lengths, grid)
    elif callable(algorithm):
        return _own(algorithm, collective, lengths, ring)
    elif kind == "permute":
        phases = over.permute(lengths, ring, size, collective.shift, dict(collective.on))
    elif algorithm == "one_ring":
        phases = over.one_ring(kind, lengths, ring, size, way)
    elif algorithm == "nested":
        phases = over.nested(lengths, ring, size)
    elif algorithm == "sequential":
        orders, shares = [tuple(lengths)], (1.0,)
    else:
        orders, shares = over.rotations(list(lengths)), weights(collective, grid, lengths, ring)
    if orders:
        phases = over.in_parts(kind, lengths, ring, size, way, orders, shares)
    matrix = matrix_of(collective, prod(lengths.values())) if collective.matrix else None
    if matrix is not None:
        phases = unequal.with_flows(phases, matrix, lengths, orders, shares)
    if collective.on and kind != "permute":
        phases = tuple(replace(phase, on=collective.on) for phase in phases)
    twist = {a: shifts for a, shifts in grid.links.twist.items() if ring.get(a)}
    return Schedule(kind, lengths, size, phases, name_of(collective), dict(collective.shift), twist, matrix=matrix)


def _schedule(collective: Collective, lengths: dict[str, int], grid: Grid) -> Schedule:
    """Return the schedule, in steps, of a collective with a DIRECT algorithm on one group."""
    at = [0] * len(lengths)
    if collective.root:
        at = list(collective.root) if collective.groups else [i for a, i in zip(collective.axes, collective.root) if a in lengths]
    root = int(np.ravel_multi_index(at, tuple(lengths.values()))) if lengths else 0
    closed = [bool(a) and grid.ring[grid.axis(a)] for a in lengths]
    sums = algorithm_of(collective) == "in_network" and summed(collective, grid)
    matrix = matrix_of(collective, prod(lengths.values())) if collective.matrix else None
    if matrix is not None:
        steps = unequal.messages(list(lengths.values()), matrix) if lengths else ()
    else:
        steps = _steps(collective, lengths, closed, root, sums) if lengths else ()
    steps = tuple(replace(step, on=collective.on) for step in steps) if collective.on else steps
    return Schedule(collective.kind, lengths, collective.bytes, (), name_of(collective), dict(collective.shift), {}, steps, root,
                    matrix)


def _steps(collective: Collective, lengths: Mapping[str, int], ring: Sequence[bool], root: int,
           sums: bool) -> tuple[Step, ...]:
    """Return the steps of a collective with a DIRECT algorithm; raise ProgramError if it has none for this number of chips."""
    name, chips = name_of(collective), prod(lengths.values())
    if collective.kind in ROOTED:
        if chips > MOST_STEPS and name in ("chain", "two_chains", "direct") and (name, collective.kind) not in TO_ROOT:
            raise ProgramError(f"{name} is for groups of at most {MOST_STEPS:,} chips, and {collective.name!r} has {chips:,}: "
                               "take tree", code="program")
        return ROOTED[collective.kind][name](list(lengths.values()), ring, root, collective.bytes)
    if collective.kind == "permute":
        return stepwise.permute(lengths, collective.shift, collective.bytes)
    if name == "in_network" and not sums:
        raise ProgramError(f"{collective.name!r} is to be summed in_network, and no switches that sum join all chips of a group: "
                           "say sums: true where they do, or take another algorithm", code="program")
    if name in stepwise.PAIRS and chips & (chips - 1):
        near = 1 << chips.bit_length() - 1
        raise ProgramError(f"{name} is for groups of a power of two, and {collective.name!r} has {chips} chips: take another "
                           f"algorithm, or {near} or {2 * near} chips", code="program")
    return STEPS[collective.kind][name](list(lengths.values()), collective.bytes)


def _own(algorithm: Callable[..., Any], collective: Collective, lengths: dict[str, int], ring: Mapping[str, bool]) -> Schedule:
    """Return the schedule of a user-defined algorithm; raise ContractError if the function raises or breaks the contract."""
    try:
        phases = tuple(algorithm(collective, dict(lengths), dict(ring)))
        schedule = Schedule(collective.kind, lengths, collective.bytes, phases, shown(algorithm), dict(collective.shift))
        check(schedule)
    except TorusSimError:
        raise
    except (Exception, SystemExit) as error:
        raise ContractError(raised(algorithm, error)) from error
    return replace(schedule, phases=tuple(sorted(phases, key=lambda phase: (phase.index, phase.part))))


def weights(collective: Collective, grid: Grid, lengths: Mapping[str, int], ring: Mapping[str, bool]) -> tuple[float, ...]:
    """Return the share of each part of `multi_axis` or `dimension_wise`: equal, given, or such that all axes end together."""
    count = len(lengths)
    if collective.split == "equal" or count == 1:
        return (1.0 / count,) * count
    if isinstance(collective.split, tuple):
        if len(collective.split) != count:
            raise ProgramError(f"split of {collective.name!r} has {len(collective.split)} weights for {count} axes: give one "
                               f"for each axis")
        return tuple(w / sum(collective.split) for w in collective.split)
    rate = {a: grid.extremes(a).slowest * (2.0 if ring[a] else 1.0) for a in lengths}
    return balanced(collective.kind, lengths, rate)


def balanced(kind: str, lengths: Mapping[str, int], rate: Mapping[str, float]) -> tuple[float, ...]:
    """Return the shares with which the last part ends earliest, at zero latency; equal shares if none are better.

    The time is the longest chain of phases that wait for one another, on their part or their axis: a maximum of sums that are
    linear in the shares. So it is a linear program. A row is added when it is found to be the longest.
    """
    names, count = list(lengths), len(lengths)
    visits = [_visits(kind, order, lengths, rate) for order in over.rotations(names)]
    equal = np.full(count, 1.0 / count)
    chains = [_longest(visits, equal)]
    shares, bound = equal, 0.0
    while chains[-1] @ shares > bound * (1 + 1e-9):
        shares, bound = _least(np.array(chains))
        chains.append(_longest(visits, shares))
    if chains[0] @ equal <= bound * (1 + 1e-9):
        shares = equal
    return tuple(float(share) for share in shares / shares.sum())


def _visits(kind: str, order: Sequence[str], lengths: Mapping[str, int], rate: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the axes that a part visits, each with the seconds that a byte of the collective takes on it."""
    if kind == "all_to_all":
        return [(axis, lengths[axis] / 4 / rate[axis]) for axis in order]
    gather = [(axis, (lengths[axis] - 1) * prod(lengths[a] for a in order[:i]) / prod(lengths.values()) / rate[axis])
              for i, axis in enumerate(order)]
    return {"all_gather": gather, "reduce_scatter": gather[::-1]}.get(kind, gather[::-1] + gather)


def _longest(visits: Sequence[Sequence[tuple[str, float]]], shares: Array) -> Array:
    """Return the longest chain of phases for these shares: for each part, the seconds of the whole data in this chain."""
    nothing = np.zeros(len(shares))
    parts = [nothing] * len(shares)
    axes: dict[str, Array] = {}
    for turn in zip(*visits):
        for part, (axis, seconds) in enumerate(turn):
            if shares[part] > 0:
                longest = max(parts[part], axes.get(axis, nothing), key=lambda chain: float(chain @ shares))
                parts[part] = axes[axis] = longest + seconds * (np.arange(len(shares)) == part)
    return max(parts, key=lambda chain: float(chain @ shares))


def _least(chains: Array) -> tuple[Array, float]:
    """Return the shares with the shortest longest chain, and its seconds: the best vertex."""
    count = chains.shape[1]
    rows = np.block([[chains / chains.max(), -np.ones((len(chains), 1))], [-np.eye(count), np.zeros((count, 1))]])
    best = (np.full(count, 1.0 / count), np.inf)
    for tight in combinations(range(len(rows)), count):
        system = np.vstack([rows[list(tight)], np.append(np.ones(count), 0.0)])
        if abs(np.linalg.det(system)) > 1e-12:
            vertex = np.linalg.solve(system, np.append(np.zeros(count), 1.0))
            if (rows @ vertex <= 1e-9).all() and vertex[-1] < best[1] - 1e-12:
                best = (vertex[:-1].clip(0.0), float(vertex[-1]))
    return best[0], best[1] * float(chains.max())
