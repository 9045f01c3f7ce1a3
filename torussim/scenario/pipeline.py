"""The axis, or part of an axis, over which a layout's layers are cut into pipeline stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torussim import resolve
from torussim.errors import Keys
from torussim.layouts import Staged
from torussim.scenario import forms
from torussim.scenario.mesh import PART, Last
from torussim.scenario.notes import Notes
from torussim.scenario.values import quote
from torussim.topology.grid import part_names


@dataclass(frozen=True)
class Stages:
    """The positions of an axis, or of its outermost part, as stages; `left`: the chips of the axis in a stage."""

    axis: str
    stages: int
    left: int
    microbatches: int

    @property
    def label(self) -> str:
        """The axis of the grid."""
        return part_names(self.axis, (self.left, self.stages))[1] if self.left > 1 else self.axis

    @property
    def staged(self) -> Staged:
        """The stages as Layout has them."""
        return Staged(self.label, self.microbatches)

    @property
    def last(self) -> Last:
        """The part of the axis that the mesh does not have."""
        return self.axis, self.stages

    def left_of(self, axes: Mapping[str, int]) -> dict[str, int]:
        """Return the axes that are left for the mesh; without the axis of the stages if nothing of it is left."""
        return {a: self.left if a == self.axis else n for a, n in axes.items() if a != self.axis or self.left > 1}

    def record(self) -> dict[str, Any]:
        """Return the stages as a file gives them."""
        return {"axis": self.axis if self.left == 1 else f"{self.axis}/{self.stages}", "microbatches": self.microbatches}


def staged_on(recorded: Stages | Mapping[str, Any], axes: Mapping[str, int]) -> Stages | None:
    """Return recorded stages on these axes: over the whole of an axis, or over as large a part; None if they do not fit.

    >>> staged_on({"axis": "x/2", "microbatches": 4}, {"x": 8})
    Stages(axis='x', stages=2, left=4, microbatches=4)
    """
    record = recorded.record() if isinstance(recorded, Stages) else recorded
    axis, _, part = str(record["axis"]).partition("/")
    stages = int(part) if part else axes.get(axis, 1)
    if axes.get(axis, 1) < 2 or axes[axis] % stages:
        return None
    return Stages(axis, stages, axes[axis] // stages, int(record["microbatches"]))


def read_pipeline(notes: Notes, given: Any, path: Keys, axes: Mapping[str, int] | None) -> Stages | None:
    """Return the stages of a layout; None if it has none. Note the mistakes."""
    if given is None:
        return None
    microbatches, place = 1, path
    if isinstance(given, Mapping):
        section = notes.section(forms.PIPELINE, given, path, "pipeline")
        if not section.sound():
            return None
        given, microbatches, place = section["axis"], section["microbatches"], (*path, "axis")
    if not isinstance(given, str) or not given:
        notes.wrong(place, f"pipeline: {quote(given)} is neither an axis, such as x or x/2, nor a mapping: write one such as "
                    "{axis: x, microbatches: 8}")
        return None
    part = PART.fullmatch(given) if axes is None or given not in axes else None
    axis = part[1] if part else given
    if axes is None:
        return None
    if axis not in axes:
        notes.wrong(place, "pipeline: " + resolve.unknown(axis, axes, "axis of the topology"), code="unknown-name")
        return None
    stages = int(part[2]) if part else axes[axis]
    if stages < 1 or axes[axis] % stages:
        several = [n for n in range(2, axes[axis] + 1) if axes[axis] % n == 0][:8]
        would = f"write {' or '.join(f'{axis}/{n}' for n in several)}" if several else f"write {axis}"
        notes.wrong(place, f"pipeline: {quote(given)} does not divide the {axes[axis]} chips of axis {axis}: {would}",
                    code="does-not-divide")
        return None
    return Stages(axis, stages, axes[axis] // stages, microbatches)
