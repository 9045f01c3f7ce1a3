"""Groups of passes whose programs differ only in the cost of their attention operations.

The steps of a decode form one group. So do the chunks of a prefill, except the first, which has no cache to read, and the last,
if it is shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
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
BENDS = 8  # parts in which attention grows in one proportion
PROPORTION = 1e-8  # shares of the growth of attention that differ by less are equal: the rounding of differences


@dataclass(frozen=True, eq=False)
class Alike:
    """Consecutive passes, each of which attends to more than the one before; or one program that is no pass.

    `program` is that of the first pass; `attention` has the attention operations of each pass, one for each kind of layer, and
    is empty if the program is no pass. `known` has the times of attention by chip, so that each is computed once.
    """

    phase: str
    program: Program
    attention: tuple[tuple[Compute, ...], ...] = ()
    known: dict[Chip, Array] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return max(1, len(self.attention))

    def of(self, number: int) -> Program:
        """Return the program of a pass."""
        if not number:
            return self.program
        return self.program.replaced({one.name: one for one in self.attention[number]})

    def part(self, begin: int, end: int | None = None) -> Alike:
        """Return some of the passes, at least one; the whole program if it is no pass."""
        if not begin and end is None:
            return self
        known = {chip: times[begin:end] for chip, times in self.known.items()}
        return replace(self, program=self.of(begin), attention=self.attention[begin:end], known=known)

    @cached_property
    def runs(self) -> Array:
        """The number of runs of each attention operation in a pass, (attention operations,)."""
        runs = {o.name: times for operations, times in self.program.sections() for o in operations}
        return np.array([runs[one.name] for one in self.attention[0]] if self.attention else [], float)

    def each(self, seconds: Callable[[Compute], float]) -> Array:
        """Return (passes, attention operations) the seconds of one run of each; `seconds` gives that of an operation."""
        return np.array([[seconds(one) for one in every] for every in self.attention], float).reshape(len(self), -1)

    def times(self, chip: Chip) -> Array:
        """Return (passes, attention operations) the time of one run of each on a chip, seconds."""
        if chip not in self.known:
            self.known[chip] = self.each(lambda one: compute_seconds(one, chip))
        return self.known[chip]

    def seconds(self, chip: Chip) -> Array:
        """Return (passes,) the mean time of a run of attention, which never decreases from pass to pass."""
        return np.asarray(self.times(chip) @ (self.runs / self.runs.sum()))

    def straight(self, chip: Chip) -> tuple[list[Alike], bool]:
        """Return the passes in parts, in each of which the times of all attention operations grow in one proportion, and True.

        Only then is the time of a pass a convex function of `seconds`. Windowed attention, for example, stops growing at its
        window. If there were more than BENDS parts, return all passes as one, and False.
        """
        gains = np.diff(self.times(chip) * self.runs, axis=0)
        shares = np.divide(gains, total := gains.sum(axis=1, keepdims=True), out=np.zeros_like(gains), where=total > 0)
        ends, grows = list[int](), None
        for number in np.flatnonzero(total[:, 0] > 0).tolist():
            if grows is not None and np.abs(shares[number] - grows).max() > PROPORTION:
                ends.append(number + 1)  # the first pass of the next part is the last of this one
            grows = shares[number]
        if len(ends) >= BENDS:
            return [self], False
        return [self.part(begin, end) for begin, end in zip([0, *ends], [*ends, len(self)])], True


def alike(model: Model, layouts: Mapping[str, Layout], todo: Sequence[Forward], axes: Mapping[str, int],
          builders: Mapping[Forward, Builder] | None = None) -> list[Alike]:
    """Return passes, in order, in groups that differ only in attention. Raise errors as `build` does.

    `builders` are the existing ones of its passes.
    """
    found, settled = [], dict[str, Layout]()
    for one in todo:
        if one.phase not in settled:
            settled[one.phase] = ((builders or {}).get(one) or Builder(model, layouts[one.phase], one, axes)).layout
    for _, group in groupby(todo, lambda one: (one.phase, one.length, one.attended > one.length,
                                               form(model, settled[one.phase], one))):
        first, *others = group
        builder = (builders or {}).get(first) or Builder(model, layouts[first.phase], first, axes)
        program = builder.build()
        attention = tuple(tuple(make(one.attended) for make in builder.attention.values()) for one in (first, *others))
        found.append(Alike(first.phase, program, attention))
    return found


def upto(groups: Sequence[Alike], done: int) -> list[Alike]:
    """Return the first `done` passes of groups, as groups."""
    found = []
    for group in groups:
        if done > 0:
            found.append(group.part(0, done))
        done -= len(group)
    return found
