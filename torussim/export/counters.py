"""How much of a chip's time is exposed, and how busy the links of an axis are: steps over time, (seconds, value from then on)."""

from __future__ import annotations

import numpy as np

from torussim import analysis
from torussim.export.spelled import runs_of
from torussim.program import Collective
from torussim.timeline import Array, Timeline
from torussim.topology.grid import Grid

SAME = 1e-9  # values that differ by less are the same step
Steps = list[tuple[float, float]]


def exposed_share(timeline: Timeline, chip: int) -> Steps:
    """Return from when on which share of a chip's time its compute unit waits for communication.

    The integral over the run is the exposed time of the chip. It is 1 while nothing computes, and less in a looped matmul that
    waits within.
    """
    begin, finish = float(timeline.begin[chip]), float(timeline.finish[chip])
    spans = [ran for operation, ran in analysis.occurrences(timeline, chip) if not isinstance(operation, Collective)]
    edges = np.unique(np.concatenate([[begin, finish], *(ran.ravel() for ran in spans),
                                      analysis.waits(timeline, chip, begin, finish).ravel()]))
    length = np.diff(edges)
    share = analysis.usage(timeline, chip, edges).exposed / length
    return _steps(edges, np.append(np.where(share < SAME, 0.0, np.minimum(share, 1.0)), 0.0))


def link_use_steps(timeline: Timeline, net: Grid) -> dict[str, Steps]:
    """Return for each axis from when on which share of its links is busy, in the mean; "none": links along no axis.

    The bytes of a collective count evenly from its first start to its last end on any chip. The integral over the run is the
    mean over the links of the seconds that each transmits.
    """
    links, sent = net.links, timeline.link_bytes
    second = np.divide(timeline.link_seconds, sent, out=np.zeros(len(sent)), where=sent > 0)  # a byte
    begins, ends, names = list[float](), list[float](), list[str]()
    for index, offset in timeline.runs:
        segment = timeline.segments[index]
        for row, operation in enumerate(segment.operations):
            if operation.name in timeline.carried:
                begins.append(float(segment.starts[row].min()) + offset)
                ends.append(float(segment.ends[row].max()) + offset)
                names.append(operation.name)
    often = runs_of(timeline)
    found = dict[str, Steps]()
    for number, axis in [*enumerate(links.axes), (-1, "none")]:
        here = links.axis == number
        if not here.any():
            continue
        each = {name: float((carried * second)[here].mean()) / often.get(name, 1) for name, carried in timeline.carried.items()}
        found[axis] = _sum(np.array(begins), np.array(ends), np.array([each[name] for name in names]))
    return found


def _sum(begins: Array, ends: Array, amounts: Array) -> Steps:
    """Return the sum of rates: each amount spread evenly from its begin to its end."""
    there = (ends > begins) & (amounts > 0)
    begins, ends, rates = begins[there], ends[there], amounts[there] / (ends[there] - begins[there])
    at = np.concatenate([begins, ends])
    edges, place = np.unique(at, return_inverse=True)
    change = np.bincount(place, np.concatenate([rates, -rates]), len(edges)) if len(at) else np.zeros(0)
    level = np.cumsum(change)
    return _steps(edges, np.where(level < SAME, 0.0, level))


def _steps(edges: Array, values: Array) -> Steps:
    """Return where the values change."""
    changes = np.append(True, np.abs(np.diff(values)) > SAME) if len(values) else np.zeros(0, bool)
    return list(zip(edges[changes].tolist(), values[changes].tolist()))
