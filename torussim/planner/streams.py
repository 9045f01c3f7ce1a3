"""The unnamed candidates: tables of shardings, by rising lower bound."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

from torussim.planner import meshes
from torussim.planner.candidates import Candidate, choices, uncut
from torussim.planner.pricing import Pricing
from torussim.planner.shardings import Shardings
from torussim.scenario import Planning, Scenario
from torussim.scenario.mesh import mesh_of

FIRST = 10**9  # number of the first table; named candidates come before it

Stream = Iterator[tuple[float, Candidate]]  # with a lower bound, in seconds of the phase, of all candidates that follow


def tables(scenario: Scenario, planning: Planning, phase: str, batch: int, pricing: Pricing
           ) -> tuple[Stream, int]:
    """Return every table of shardings by rising bound, in seconds of the phase, and the number of tables.

    A table has its own attention sharding, so the choice of attention does not apply. No table has stages.
    """
    net = uncut(scenario)
    axes = dict(zip(net.axes, net.shape))
    written = next(meshes.whole(axes))
    firsts = pricing.knots(phase, batch).firsts
    kept = {key: some for key, some in planning.choices.items() if key != "attention"}
    others = replace(planning, choices=kept, pipelines=(None,))
    assert scenario.model is not None
    of, size, times, numbers = list[Stream](), 0, sum(times for _, times in firsts), count(FIRST)
    for base, _ in choices(scenario, others, phase):
        layout = replace(base, mesh=mesh_of(written).axes, batch=batch)
        candidate = Candidate(phase, batch, layout, meshes.shown(written, axes))
        found = Shardings(scenario.model, layout, firsts[0][0], pricing.outlines(candidate), scenario.chip)
        size += found.size
        of.append(_scaled(found, candidate, times, numbers))
    return heapq.merge(*of, key=lambda one: one[0]), size


def _scaled(found: Shardings, candidate: Candidate, times: int, numbers: Iterator[int]) -> Stream:
    """Return the tables as candidates, each with its bound for a number of passes and a unique number."""
    for bound, table in found:
        yield bound * times, replace(candidate, layout=replace(candidate.layout, ffn=table, batch=None), number=next(numbers))
