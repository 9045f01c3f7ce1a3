"""Pick an algorithm for a collective by its name, and make the collective into a schedule on a network's axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torussim.collectives import axes as over
from torussim.collectives.contract import Phase, Schedule, check
from torussim.errors import ProgramError
from torussim.program import Collective
from torussim.resolve import function, unknown

if TYPE_CHECKING:
    from torussim.topology.grid import Grid

ALGORITHMS: Mapping[str, tuple[str, ...]] = {  # the first is the default
    "all_gather": ("multi_axis", "sequential", "one_ring", "nested"),
    "reduce_scatter": ("multi_axis", "sequential", "one_ring"),
    "all_reduce": ("multi_axis", "sequential", "one_ring"),
    "all_to_all": ("dimension_wise", "sequential", "one_ring"),
    "permute": ("dimension_order",),
}


def algorithm_of(collective: Collective) -> str:
    """Return the name of the algorithm that will run; raise ProgramError if its kind has none of that name."""
    names = ALGORITHMS[collective.kind]
    name = collective.algorithm or names[0]
    if name not in names and ":" not in name:
        raise ProgramError(unknown(name, names, f"n algorithm of {collective.kind}"))
    return name


def lower(collective: Collective, grid: Grid, *, way: str | None = None) -> Schedule:
    """Return the schedule of a collective on the axes of `grid`.

    `way`: a loop kind in place of the collective's own direction. A "module:function" is called with the collective,
    the lengths of its axes and which of them are rings, returns phases, and is checked by the contract.
    """
    lengths = {a: grid.length(a) for a in collective.axes if grid.length(a) > 1}
    ring = {a: grid.ring[grid.axis(a)] for a in lengths}
    name, size, kind = algorithm_of(collective), collective.bytes, collective.kind
    way = way or collective.direction
    if not lengths:
        phases: tuple[Phase, ...] = ()
    elif kind == "permute":
        phases = over.permute(lengths, ring, size, collective.shift)
    elif ":" in name:
        phases = tuple(function(name)(collective, dict(lengths), dict(ring)))
    elif name == "one_ring":
        phases = over.one_ring(kind, lengths, ring, size, way)
    elif name == "nested":
        phases = over.nested(lengths, ring, size)
    elif name == "sequential":
        phases = over.in_parts(kind, lengths, ring, size, way, [tuple(lengths)], [1.0])
    else:
        orders = over.rotations(list(lengths))
        phases = over.in_parts(kind, lengths, ring, size, way, orders, weights(collective, grid, lengths, ring))
    schedule = Schedule(kind, lengths, size, phases, name, dict(collective.shift))
    if ":" in name:
        check(schedule)
    return schedule


def weights(collective: Collective, grid: Grid, lengths: Mapping[str, int], ring: Mapping[str, bool]) -> tuple[float, ...]:
    """Return the share of each part of `multi_axis` or `dimension_wise`: equal, given, or so that the axes finish together."""
    count = len(lengths)
    if collective.split == "equal" or count == 1:
        return (1.0 / count,) * count
    if isinstance(collective.split, tuple):
        if len(collective.split) != count:
            raise ProgramError(f"split of {collective.name!r} has {len(collective.split)} weights for {count} axes: give one "
                               f"an axis")
        return tuple(w / sum(collective.split) for w in collective.split)
    rate = {a: grid.extremes(a).slowest * (2.0 if ring[a] else 1.0) for a in lengths}
    return balanced(collective.kind, lengths, rate)


def balanced(kind: str, lengths: Mapping[str, int], rate: Mapping[str, float]) -> tuple[float, ...]:
    """Return the shares that make the busiest axis least busy: a small linear programme, solved at its vertices.

    Seconds of axis a when part p has everything: what the part moves on a, over the axis' rate (bytes/s).
    """
    from itertools import combinations

    import numpy as np

    names, count = list(lengths), len(lengths)
    load = np.zeros((count, count))
    for p, order in enumerate(over.rotations(names)):
        for i, axis in enumerate(order):
            grown = 1.0 if kind == "all_to_all" else float(np.prod([1.0 / lengths[a] for a in order[i + 1:]]))
            moved = lengths[axis] / 4 if kind == "all_to_all" else (lengths[axis] - 1) / lengths[axis]
            load[names.index(axis), p] = grown * moved / rate[axis]
    scale = load.max()
    # unknowns: shares w and the time t; load w - t <= 0, -w <= 0, sum w = 1: a vertex has `count` of the 2 count tight
    rows = np.block([[load / scale, -np.ones((count, 1))], [-np.eye(count), np.zeros((count, 1))]])
    best: tuple[float, tuple[float, ...]] | None = None
    for tight in combinations(range(2 * count), count):
        system = np.vstack([rows[list(tight)], np.append(np.ones(count), 0.0)])
        if abs(np.linalg.det(system)) < 1e-12:
            continue
        vertex = np.linalg.solve(system, np.append(np.zeros(count), 1.0))
        if (rows @ vertex <= 1e-9).all() and (best is None or vertex[-1] < best[0] - 1e-12):
            best = (vertex[-1], tuple(float(max(w, 0.0)) for w in vertex[:-1]))
    assert best is not None
    return tuple(w / sum(best[1]) for w in best[1])


Algorithm = Callable[[Collective, dict[str, int], dict[str, bool]], "tuple[Phase, ...]"]
