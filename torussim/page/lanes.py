"""A timeline as numbers for the script of the page: what each chip runs, waits for and sends, block by block.

The script makes bars of them for the part of the time that is looked at (torussim/page/lanes.js), so a block that repeats stands
here once. Seconds from the start of the pass; TICKS a second where whole numbers are shorter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from torussim import analysis
from torussim.page.run import Run
from torussim.plot import COMPUTE, EXPOSED, FIXED, KIND_COLOURS
from torussim.program import Collective, Operation
from torussim.report import KINDS
from torussim.timeline import Array, Segment, Sent, Timeline

FIELDS = 5  # of a message
TICKS = 1e10  # a tenth of a nanosecond
ROUNDING = 1e-12  # seconds
# Of a collective, beside its colour, as in the pictures of torussim/plot: what a reader sees who sees no colours.
HATCHES = dict(zip(KIND_COLOURS, ("/", "\\", "x", ".", "-", "+", "|", "o", "@", ","), strict=True))
UNIT, ROW, LINK, RULER = 30, 20, 11, 15  # pixels: of the compute unit, a collective, a direction of a link, the names of blocks


def same_block(runs: Sequence[Run]) -> list[int]:
    """Return the block that each run shows at first, as an index into the runs of segments of its timeline.

    It is the last simulated one; of runs with equally many blocks, the same one in all: the last of these.
    """
    found = [analysis.last_block(run.timeline) for run in runs]
    blocks = [[i for i, (segment, _) in enumerate(run.timeline.runs) if run.timeline.segments[segment].is_block]
              for run in runs]
    if len({len(one) for one in blocks}) > 1 or not blocks[0]:
        return found
    number = max(one.index(first) for one, first in zip(blocks, found))
    return [one[number] for one in blocks]


def lanes(run: Run, first: int | None = None) -> dict[str, Any]:
    """Return the timeline of a run for the script. `first`: the block that it shows at first; by default the last simulated one.

    Keys: `operations`, those that the program has, each {name, kind, what, axes, bytes, bound, algorithm, colour, hatch};
    `hatches`: those in use; `segments`, {section, operations: indices}; `runs`, [segment, seconds] in order; `axes`: those with
    lanes; `rows`: how many collectives are under way at once; `shared`: whether messages share links, not all of which the lanes
    show; `chips`: what each does, with `name` and `text`; `shown`: indices into these; `origin`: when the block that is shown
    first begins, and `span`, how long it is; `begin`, `end`: of the pass.
    """
    timeline = run.timeline
    names = {o.name: o for segment in timeline.segments for o in segment.operations}
    place = {name: i for i, name in enumerate(names)}
    known = {o["name"]: o for o in run.keys["operations"]}
    axes = _axes(timeline)
    rows = [_rows(segment) for segment in timeline.segments]
    first = analysis.last_block(timeline) if first is None else first
    start, end = _extent(timeline, first, run.shown)
    return {
        "operations": [_operation(o, known.get(name, {})) for name, o in names.items()],
        "segments": [{"section": s.section, "operations": [place[o.name] for o in s.operations], "rows": row}
                     for s, row in zip(timeline.segments, rows)],
        "hatches": sorted({"/"} | {HATCHES[o.kind] for o in names.values() if isinstance(o, Collective)}),
        "runs": [[segment, offset] for segment, offset in timeline.runs],
        "shared": timeline.flows > 0, "axes": axes, "rows": _count(timeline, rows),
        "computes": any(not isinstance(o, Collective) for o in names.values()),
        "chips": [_chip(run, chip, place, axes, first) for chip in run.held],
        "shown": [run.held.index(chip) for chip in run.shown],
        "first": first, "origin": start, "span": end - start, "begin": float(timeline.begin.min(initial=0.0)),
        "end": float(timeline.finish.max(initial=0.0)),
    }


def height(run: Mapping[str, Any]) -> int:
    """Return how high the lanes of a chip are, pixels."""
    rows: int = run["rows"]
    return RULER + (UNIT + 6 if run["computes"] else 0) + ROW * rows + 6 + (2 * LINK + 4) * len(run["axes"])


def labels(run: Mapping[str, Any]) -> list[tuple[float, str]]:
    """Return where the name of each lane stands, pixels from the top, and the name."""
    y, found = float(RULER), list[tuple[float, str]]()
    if run["computes"]:
        found.append((y + UNIT / 2, "compute"))
        y += UNIT + 6
    if run["rows"]:
        found.append((y + ROW * run["rows"] / 2, "collectives"))
    y += ROW * run["rows"] + 6
    for axis in run["axes"]:
        found += [(y + LINK / 2, f"{axis} +"), (y + 1.5 * LINK, f"{axis} −")]
        y += 2 * LINK + 4
    return found


def _axes(timeline: Timeline) -> list[str]:
    """Return the axes along which some chip sends a message that was kept."""
    sent = {one.axis for one in timeline.sent}
    return [axis for axis in timeline.axes if axis in sent]


def _operation(o: Operation, known: Any) -> dict[str, Any]:
    kind = o.kind if isinstance(o, Collective) else "compute"
    axes = ("" if all(len(a) == 1 for a in o.axes) else ",").join(o.axes) if isinstance(o, Collective) else ""
    return {"name": o.name, "kind": kind, "what": KINDS.get(kind, kind), "axes": axes,
            "over": list(o.axes) if isinstance(o, Collective) else [],
            "bytes": known.get("bytes", o.bytes if isinstance(o, Collective) else o.hbm_bytes), "bound": known.get("bound_s"),
            "algorithm": known.get("algorithm", ""), "colour": KIND_COLOURS[o.kind] if isinstance(o, Collective) else COMPUTE,
            "hatch": HATCHES[o.kind] if isinstance(o, Collective) else " "}


def _rows(segment: Segment) -> list[int]:
    """Return the row of each operation: collectives that are under way at once on some chip have different ones."""
    found, taken = [0] * len(segment.operations), list[list[int]]()
    for i in np.argsort(segment.starts.min(axis=1, initial=np.inf), kind="stable").tolist():
        if isinstance(segment.operations[i], Collective):
            row = next((r for r, others in enumerate(taken) if not any(_meet(segment, i, j) for j in others)), len(taken))
            taken += [[]] * (row == len(taken))
            taken[row] = [*taken[row], i]
            found[i] = row
    return found


def _count(timeline: Timeline, rows: Sequence[Sequence[int]]) -> int:
    """Return how many rows collectives have; 0 where there are none."""
    return max((1 + row for segment, of in zip(timeline.segments, rows) for o, row in zip(segment.operations, of)
                if isinstance(o, Collective)), default=0)


def _meet(segment: Segment, one: int, other: int) -> bool:
    """Return whether two operations are under way at once on some chip."""
    since, until = np.maximum(*segment.starts[[one, other]]), np.minimum(*segment.ends[[one, other]])
    return bool((until - since > ROUNDING).any())


def _extent(timeline: Timeline, run: int, chips: Sequence[int]) -> tuple[float, float]:
    """Return when the first of some chips begins one run, and when the last ends it, seconds."""
    if not timeline.runs or not chips:
        return 0.0, 1e-9
    segment, offset = timeline.runs[run]
    s = timeline.segments[segment]
    if not len(s.operations):
        return offset, offset + 1e-9
    own = [s.on(chip) for chip in chips]
    start, end = min(float(t[0].min()) for t in own), max(float(t[1].max()) for t in own)
    return start + offset, max(end + offset, start + offset + 1e-9)


def _chip(run: Run, chip: int, place: dict[str, int], axes: Sequence[str], block: int) -> dict[str, Any]:
    timeline = run.timeline
    since, until = float(timeline.begin[chip]), float(timeline.finish[chip])
    shares = analysis.usage(timeline, chip, [since, until]).shares()
    work = [timeline.work[name] for name in place]
    return {"name": name_of(timeline, chip), "begin": since, "finish": until, **_said(timeline, chip), "shares": shares,
            "times": [_short(s.on(chip).ravel()) for s in timeline.segments],
            "busy": _short([w.busy[chip] for w in work]),
            "fixed": _short([w.fixed[chip] for w in work]),
            "sent": _sent(run, chip, place, axes, block)}


def name_of(timeline: Timeline, chip: int) -> str:
    """Return the coordinates of a chip: "(0, 0, 1)"."""
    return f"({', '.join(map(str, timeline.chips[chip]))})"


def _said(timeline: Timeline, chip: int) -> dict[str, str]:
    near, finish = analysis.ALIKE * timeline.makespan, timeline.finish
    if np.ptp(finish) <= near:
        return {"text": ""}
    return {"text": "last to finish" if chip == timeline.last_chip else
            "first to finish" if finish[chip] <= finish.min() + near else ""}


def _sent(run: Run, chip: int, place: dict[str, int], axes: Sequence[str], block: int) -> list[list[int] | None]:
    """Return for each segment the messages of a chip, five numbers each: operation, lane, start and length in ticks, bytes.

    Only those of the first run of a segment, as others are the same. Where they are too many, those of the segments nearest to
    the block that is shown first; None for the others.
    """
    timeline = run.timeline
    lane = {(axis, sign): 2 * i + (sign < 0) for i, axis in enumerate(axes) for sign in (1, -1)}
    found: list[list[int]] = [[] for _ in timeline.segments]
    first: dict[int, int] = {}
    mine: list[Sent] = [one for one in timeline.sent if one.chip == chip and (one.axis, one.sign) in lane]
    for one in mine:
        segment, offset = timeline.runs[one.run]
        if first.setdefault(segment, one.run) == one.run:
            found[segment] += [place[one.operation], lane[one.axis, one.sign], round((one.start - offset) * TICKS),
                               round((one.end - one.start) * TICKS), round(one.bytes)]
    left, kept = FIELDS * run.messages(chip), list[list[int] | None]([None] * len(found))
    near = {segment: min(abs(i - block) for i, (one, _) in enumerate(timeline.runs) if one == segment) for segment in first}
    for segment in sorted(range(len(found)), key=lambda segment: near.get(segment, 0)):
        left -= len(found[segment])
        if left < 0:
            break
        kept[segment] = found[segment]
    return kept


def _short(values: Sequence[float] | Array) -> list[float]:
    """Return numbers of ten digits."""
    return [float(f"{value:.10g}") for value in np.asarray(values, float).tolist()]


COLOURS = {"compute": COMPUTE, "fixed": FIXED, "exposed": EXPOSED}
