"""Groups of passes whose programs differ only in the cost of attention.

The steps of a decode form one group. So do the chunks of a prefill, except the first, which has no cache to read, and the last,
if it is shorter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np

from torussim.chips import Chip
from torussim.cost import compute_seconds
from torussim.keeping import form
from torussim.layouts import Layout
from torussim.models import Model
from torussim.program import Compute, Program
from torussim.transformer import Builder
from torussim.workload import Forward

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Alike:
    """Consecutive passes, each of which attends to more than the one before; or one program that is no pass.

    `program` is that of the first pass; `attention` has the attention of each pass, and is empty if the program is no pass.
    """

    phase: str
    program: Program
    attention: tuple[Compute, ...] = ()

    def __len__(self) -> int:
        return max(1, len(self.attention))

    def of(self, number: int) -> Program:
        """Return the program of a pass."""
        if not number:
            return self.program
        return self.program.replaced({self.attention[number].name: self.attention[number]})

    def part(self, begin: int, end: int | None = None) -> Alike:
        """Return some of the passes, at least one; the whole program if it is no pass."""
        return replace(self, program=self.of(begin), attention=self.attention[begin:end])

    def seconds(self, chip: Chip) -> Array:
        """Return (passes,) the time of attention in a layer, which increases from pass to pass."""
        return np.array([compute_seconds(one, chip) for one in self.attention] or [0.0])


def alike(model: Model, layouts: Mapping[str, Layout], todo: Sequence[Forward], axes: Mapping[str, int]) -> list[Alike]:
    """Return passes, in order, in groups that differ only in attention. Raise errors as `build` does."""
    found = []
    for _, group in groupby(todo, lambda one: (one.phase, one.length, one.attended > one.length,
                                               form(model, layouts[one.phase], one))):
        first, *others = group
        builder = Builder(model, layouts[first.phase], first, axes)
        program = builder.build()
        found.append(Alike(first.phase, program, tuple(attention(one.attended) for attention in builder.attention.values()
                                                          for one in (first, *others))))
    return found


def upto(groups: Sequence[Alike], done: int) -> list[Alike]:
    """Return the first `done` passes of groups, as groups."""
    found = []
    for group in groups:
        if done > 0:
            found.append(group.part(0, done))
        done -= len(group)
    return found
