"""The form of a schedule that playback and engine rely on, for built-in and user-defined algorithms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import inf
from typing import Any

import numpy as np

from torussim.collectives.contract import Hop, Lane, Pattern, Phase, Schedule
from torussim.errors import ContractError

ROLES: Mapping[str, tuple[str, ...]] = {  # of the patterns of each kind of collective
    "all_gather": ("gather", "permute"), "reduce_scatter": ("scatter",), "all_reduce": ("scatter", "gather", "permute"),
    "all_to_all": ("exchange",), "permute": ("permute",)}


def check_form(schedule: Schedule) -> None:
    """Raise ContractError for the first phase of wrong form, with the reason."""
    seen: dict[tuple[int, int], Phase] = {}
    for number, phase in enumerate(schedule.phases):
        for reason in _of_phase(schedule, phase, seen):
            raise ContractError(f"{schedule.kind} ({schedule.algorithm}): phase number {number}: {reason}")
        seen[phase.part, phase.index] = phase
    for (part, index), phase in seen.items():
        if phase.pattern.role != "scatter" and any(p == part and i > index and other.pattern.role == "scatter"
                                                   for (p, i), other in seen.items()):
            raise ContractError(f"{schedule.kind} ({schedule.algorithm}): part {part} has a scatter after phase {index}, a "
                                f"{phase.pattern.role}: first all is added up, then it goes out")


def _of_phase(schedule: Schedule, phase: Any, seen: Mapping[tuple[int, int], Phase]) -> Iterator[str]:
    if not isinstance(phase, Phase) or not isinstance(phase.lane, Lane) or not isinstance(phase.pattern, Pattern):
        yield f"{phase!r:.60} is no Phase with a Lane and a Pattern"
        return
    if not all(type(number) is int for number in (phase.index, phase.part)):
        yield f"index {phase.index!r} and part {phase.part!r} must be whole numbers"
    if (phase.part, phase.index) in seen:
        yield f"there is another phase with index {phase.index} in part {phase.part}: the index is the place in its part"
    if isinstance(phase.block, bool) or not isinstance(phase.block, int | float) or not 0 <= phase.block < inf:
        yield f"block is {phase.block!r}, which is no number of bytes"
    if phase.pattern.role not in ROLES[schedule.kind]:
        yield f"its role is {phase.pattern.role!r}: a phase of this collective is one of {', '.join(ROLES[schedule.kind])}"
    reason = _of_lane(schedule, phase.lane)
    if reason:
        yield reason
        return
    places = len(phase.lane.order) if phase.lane.order is not None else schedule.lengths[phase.lane.axes[0]]
    if phase.pattern.length != places:
        yield f"its pattern has {phase.pattern.length!r} positions, its lane {places}"
        return
    yield from _of_hops(phase.pattern)


def _of_lane(schedule: Schedule, lane: Lane) -> str:
    """Return the mistake in a lane, "" if there is none."""
    axes, order = lane.axes, lane.order
    if not isinstance(axes, tuple) or not axes or not set(axes) <= set(schedule.lengths) or len(set(axes)) < len(axes):
        return f"its lane is along {axes!r}: the axes of the group are {tuple(schedule.lengths)}"
    if order is None:
        return "" if len(axes) == 1 else "its lane is along several axes: give the order of their coordinates"
    if not isinstance(order, tuple) or not all(isinstance(one, tuple) for one in order):
        return "the order of its lane is no tuple of tuples of coordinates"
    chips = set(product(*(range(schedule.lengths[a]) for a in axes)))
    if len(order) != len(chips) or set(order) != chips:
        return f"the order of its lane has not each of the {len(chips)} coordinates along {', '.join(axes)} once"
    return ""


def _of_hops(pattern: Pattern) -> Iterator[str]:
    """Yield the mistakes in the hops of a pattern. After the first one, the others can be consequences of it."""
    steps: dict[int, set[int]] = {+1: set(), -1: set()}
    if pattern.merged and not pattern.hops:
        yield "merged is true, but there are no hops"
    for hop in pattern.hops:
        if not isinstance(hop, Hop) or hop.sign not in steps:
            yield f"{getattr(hop, 'sign', hop)!r:.60} is no sign of a hop: +1 or -1; the order of a lane says who is beside whom"
            return
        if type(hop.step) is not int:
            yield f"step {hop.step!r} is no whole number"
            return
        halves = hop.halves
        if not isinstance(halves, np.ndarray) or halves.shape != (pattern.length,) or halves.dtype.kind not in "iub" or (
                halves.min(initial=0) < 0):
            yield f"halves of the hop in step {hop.step} are no array of {pattern.length} whole numbers, 0 or more"
        if hop.step in steps[hop.sign]:
            yield f"two hops have step {hop.step} and sign {hop.sign:+}: a step has one hop in a direction"
        steps[hop.sign].add(hop.step)
    for hop in pattern.hops:
        if hop.after is not None and not (hop.after in steps[hop.sign] and hop.after < hop.step):
            yield (f"the hop in step {hop.step} with sign {hop.sign:+} is after step {hop.after!r}, but no earlier hop with that "
                   "sign has that step")
