"""Random programs with all-to-alls of unequal bytes and computations of unequal work, made of other random programs."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from random import Random
from typing import TypeVar

import numpy as np
import random_scenarios as plain

from torussim.collectives.lower import UNEQUAL
from torussim.program import Collective, Compute, Matrix, Operation
from torussim.topology.grid import Grid

Case = TypeVar("Case", bound=plain.Scenario)


def matrix(rng: Random, lengths: tuple[int, ...], scale: float = 1e5) -> Matrix:
    """Return a matrix for a group: random, with few entries, with hot chips, or the same for all displacements."""
    draw, chips = np.random.default_rng(rng.randrange(2**32)), prod(lengths)
    sizes = draw.random((chips, chips)) * scale
    how = rng.randrange(5)
    if how == 0:
        sizes = sizes * (draw.random((chips, chips)) < 0.4)
    if how == 1:
        sizes = sizes * draw.choice([0.1, 1.0, 5.0], chips)
    if how == 2:
        at = np.array(np.unravel_index(np.arange(chips), lengths))
        apart = np.ravel_multi_index(tuple((at[:, None] - at[:, :, None]) % np.array(lengths)[:, None, None]), lengths)
        sizes = sizes[0][apart]  # from i to j by j - i
    return Matrix.of(sizes)


def cases(rng: Random, net: Grid, compute: Compute) -> Compute:
    """Return a computation with cases over some axes."""
    over = tuple(rng.sample(net.axes, rng.randint(1, len(net.axes))))
    drawn = [plain.compute(rng, "case", None) for _ in range(rng.choice((2, 9)))]
    found = tuple(rng.choice(drawn) for _ in range(prod(map(net.length, over))))
    return replace(compute, over=over, cases=found)


def unequal(case: Case, seed: int, algorithms: tuple[str, ...] = UNEQUAL) -> Case:
    """Return a scenario in which collectives that are looped with nothing are all-to-alls with a matrix, as a rule."""
    rng, net, change = Random(seed), case.grid, dict[str, Operation]()
    looped = {o.loop.collective for o in case.program.operations() if isinstance(o, Compute) and o.loop}
    for o in case.program.operations():
        if isinstance(o, Compute) and rng.random() < 0.7:
            change[o.name] = cases(rng, net, o)
        elif isinstance(o, Collective) and o.name not in looped and rng.random() < 0.8:
            sizes = matrix(rng, tuple(net.length(a) for a in o.axes))
            way = rng.choice(algorithms)
            split = o.split if o.kind == "all_to_all" and way == "dimension_wise" else "equal"
            change[o.name] = replace(o, kind="all_to_all", bytes=sizes.most, matrix=sizes, algorithm=way, split=split, shift={},
                                     direction=rng.choice(("both", "one_way")) if way != "direct" else "both")
    return replace(case, program=case.program.replaced(change))
