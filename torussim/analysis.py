"""The breakdown of a run: the use of a chip's compute unit, the exposed time, and the use of the links.

The module reads only a Timeline, and for links the Grid. Runs of one segment are processed together as arrays, so that 118 equal
blocks cost little more than one. Units are seconds and bytes throughout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torussim.pipeline import of_microbatch
from torussim.program import Collective, Compute, Operation
from torussim.timeline import Array, Timeline
from torussim.topology.grid import Grid

ALIKE = 1e-9  # of the makespan: closer times are equal
ROUNDING = 1e-12  # of the whole: less than this counts as zero
BUSIEST = 10
STAGES = 16  # the most stages of which a picture shows a chip by default


def breakdown(timeline: Timeline, chip: int | None = None, seconds: float | None = None) -> dict[str, float]:
    """Return {compute, exposed_collective, overhead} of one chip over the whole run; they add up to `seconds`.

    The default chip is the one that finishes last, and the default of `seconds` is the makespan. `compute` is the time that the
    compute unit needs. `overhead` is the fixed costs of its operations, and launches of collectives that are not hidden by
    computation. `exposed_collective` is the rest. In a program of which some operations run on some positions, `bubble` is the
    part of the rest in which the chip waits for the sender of a permute that has not started to send.
    """
    chip = timeline.last_chip if chip is None else chip
    seconds = timeline.makespan if seconds is None else seconds
    compute = overhead = 0.0
    for segment, times in sorted(Counter(segment for segment, _ in timeline.runs).items()):
        for operation in timeline.segments[segment].operations:
            if isinstance(operation, Compute):
                work = timeline.work[operation.name]
                compute += times * float(work.busy[chip])
                overhead += times * float(work.fixed[chip])
    bare = _unit(timeline, chip).bare_launches
    overhead += float((bare[:, 1] - bare[:, 0]).sum())
    rest = seconds - (compute + overhead)
    if rest < ROUNDING * seconds:  # the rest is only the rounding of sums
        compute, rest = compute + rest, 0.0
    found = {"compute": compute, "exposed_collective": rest, "overhead": overhead}
    if staged(timeline):
        spans = bubbles(timeline, chip)
        found["bubble"] = min(float((spans[:, 1] - spans[:, 0]).sum()), rest)
        found["exposed_collective"] = rest - found["bubble"]
    return found


def staged(timeline: Timeline) -> tuple[str, ...]:
    """Return the axes on which operations name their positions, such as that of pipeline stages."""
    return tuple(dict.fromkeys(axis for s in timeline.segments for o in s.operations for axis, _ in o.on))


def bubbles(timeline: Timeline, chip: int) -> Array:
    """Return (n, 2) the starts and ends of the times in which a chip waits in a permute before its sender starts to send.

    Only permutes of some senders count, such as those between pipeline stages.
    """
    if not staged(timeline):
        return np.empty((0, 2))
    found, at = [np.empty((0, 2))], {axis: positions(timeline, axis) for axis in timeline.axes}
    once: dict[int, Array] = {}
    for segment, offset in timeline.runs:
        if segment not in once:
            s = timeline.segments[segment]
            once[segment] = np.array([(s.on(chip)[0, i], s.on(sender)[0, i]) for i, o in enumerate(s.operations)
                                      if isinstance(o, Collective) and o.kind == "permute" and o.on
                                      and all(at[axis][sender := _sender(o, chip, at)] in places for axis, places in o.on)])
        found.append(once[segment].reshape(-1, 2) + offset)
    return merged(np.concatenate(found))


def _sender(o: Collective, chip: int, at: Mapping[str, Array]) -> int:
    """Return the chip whose message a permute brings to a chip; `at`: (chips,) positions on each axis."""
    there = [column == (column[chip] - o.shift.get(axis, 0)) % (column.max() + 1) for axis, column in at.items()]
    return int(np.flatnonzero(np.logical_and.reduce(there))[0])


def positions(timeline: Timeline, axis: str) -> Array:
    """Return (chips,) the position of each chip on an axis of the grid, or on a part of an axis, such as x/4*2."""
    name, _, part = axis.partition("/")
    column = list(dict.fromkeys(a.partition("/")[0] for a in timeline.axes)).index(name)
    at = np.array([chip[column] for chip in timeline.chips])
    length, _, stride = part.partition("*")
    return at // int(stride or 1) % int(length) if length else at


def exposed(timeline: Timeline, chip: int) -> float:
    """Return the seconds between begin and finish during which a chip's compute unit only waits."""
    between = (timeline.begin[chip], timeline.finish[chip])
    return float(usage(timeline, chip, between).exposed[0])


@dataclass(frozen=True, eq=False)
class Usage:
    """Seconds of a chip's compute unit in each of several intervals; the fields add up to the lengths of the intervals."""

    compute: Array
    overhead: Array
    exposed: Array
    bubble: Array  # see `breakdown`

    def shares(self) -> dict[str, float]:
        """Return each field as a share of all intervals together; all 0 if they have no length."""
        sums = {name: float(getattr(self, name).sum()) for name in ("compute", "overhead", "exposed", "bubble")}
        total = sum(sums.values())
        return {name: value / total if total else 0.0 for name, value in sums.items()}


def usage(timeline: Timeline, chip: int, edges: Sequence[float] | Array) -> Usage:
    """Return the seconds of a chip's compute unit between successive `edges`, which are in rising order.

    An operation that contains waits (a looped matmul) is taken to compute, wait and pay its fixed costs evenly over its time.
    """
    at, unit = np.asarray(edges, dtype=float), _unit(timeline, chip)
    compute = spread(unit.spans, at, unit.busy)
    overhead = spread(unit.spans, at, unit.fixed) + spread(unit.bare_launches, at)
    rest = np.maximum(0.0, np.diff(at) - compute - overhead)
    idle = np.minimum(spread(bubbles(timeline, chip), at), rest)
    return Usage(compute, overhead, rest - idle, idle)


def waits(timeline: Timeline, chip: int, since: float, until: float) -> Array:
    """Return (n, 2) the starts and ends of the times when the compute unit is idle and pays for no launch, in order.

    Bubbles are left out.
    """
    unit = _unit(timeline, chip)
    taken = merged(np.concatenate([unit.spans, unit.bare_launches, bubbles(timeline, chip)]))
    return without(np.array([[since, until]]), taken)


def occurrences(timeline: Timeline, chip: int) -> list[tuple[Operation, Array]]:
    """Return each operation of each segment with (runs, 2) its start and end on a chip in each run."""
    offsets: dict[int, list[float]] = {}
    for index, offset in timeline.runs:
        offsets.setdefault(index, []).append(offset)
    found = []
    for index, later in offsets.items():
        segment = timeline.segments[index]
        for operation, once in zip(segment.operations, segment.on(chip).T):
            found.append((operation, once + np.array(later)[:, None]))
    return found


def on_its_own(timeline: Timeline, name: str) -> bool:
    """Return whether no other operation is in progress, on any chip or link, at the first end of an operation of the block.

    If so, a longer time of the operation on all chips changes no other contention: everything after it shifts by that time. A
    message always belongs to a chip whose collective ends no sooner than the message arrives.
    """
    segments = timeline.segments
    if timeline.leapt or not len(timeline.finish):
        return False
    begins = np.array([segments[s].starts.min(initial=np.inf) + offset for s, offset in timeline.runs])
    ends = np.array([segments[s].ends.max(initial=-np.inf) + offset for s, offset in timeline.runs])
    before = np.append(-np.inf, np.maximum.accumulate(ends)[:-1])
    after = np.append(np.minimum.accumulate(begins[::-1])[-2::-1], np.inf)
    for run, (index, offset) in enumerate(timeline.runs):
        segment = segments[index]
        this = np.array([o.name == name for o in segment.operations])
        if this.any():
            first = segment.ends[this].min()
            over, still = segment.ends[~this].max(axis=1) < first, segment.starts[~this].min(axis=1) >= first
            if not ((over | still).all() and before[run] < first + offset <= after[run] and segment.starts[this].max() <= first):
                return False
    return True


def link_use(timeline: Timeline, grid: Grid, makespan: float | None = None) -> dict[str, Any]:
    """Return {busiest, mean_busy, per_axis} of the existing links; `busy` is the share of `makespan` spent sending.

    `busiest` has the ten busiest links, {from, to, bytes, busy}; ties are in the order of axis, + before -, chip. `per_axis` has
    {bytes, mean_busy, max_busy} for each axis with links.
    """
    seconds = timeline.makespan if makespan is None else makespan
    links, axis, sent = grid.links, grid.links.axis, timeline.link_bytes
    busy = timeline.link_seconds / seconds if seconds > 0 else np.zeros(len(axis))
    order = busiest(timeline, grid)
    ends = [links.edge(i) for i in order]
    return {
        "busiest": [{"from": _named(a), "to": _named(b), "bytes": float(sent[i]), "busy": float(busy[i]),
                     "users": users(timeline, i)} for i, (a, b) in zip(order, ends, strict=True)],
        "mean_busy": float(busy.mean()) if len(busy) else 0.0,
        "per_axis": {name: {"bytes": float(sent[axis == a].sum()), "mean_busy": float(busy[axis == a].mean()),
                            "max_busy": float(busy[axis == a].max())}
                     for a, name in [*enumerate(links.axes), (-1, "none")] if (axis == a).any()},
    }


def busiest(timeline: Timeline, grid: Grid, most: int = BUSIEST) -> list[int]:
    """Return the indices of the links with the longest sending time; ties are in the order of axis, + before -, chip."""
    links = grid.links
    ordered = np.lexsort((links.source, links.sign, links.axis))
    seconds = timeline.link_seconds[ordered]
    # Rounding from a different order of summation must not break a tie.
    rounded = np.round(seconds / seconds.max(initial=0.0), 12) if seconds.any() else seconds
    found: list[int] = ordered[np.argsort(-rounded, kind="stable")[:most]].tolist()
    return found


def users(timeline: Timeline, link: int) -> dict[str, float]:
    """Return the collectives that use a link, those of all ticks and layers as one, and the share of each in its bytes."""
    sent: dict[str, float] = {}
    for name, carried in timeline.carried.items():
        if carried[link] > 0:
            sent[of_layers(name)] = sent.get(of_layers(name), 0.0) + float(carried[link])
    total = sum(sent.values())
    return {name: size / total for name, size in sorted(sent.items(), key=lambda item: -item[1])}


def of_layers(name: str) -> str:
    """Return the name of an operation without its tick in a pipeline and its layer among layers of several kinds.

    >>> of_layers("attention@3#5"), of_layers("gather@home")
    ('attention', 'gather@home')
    """
    plain, _, layer = of_microbatch(name).rpartition("@")
    return plain if layer.isdigit() else of_microbatch(name)


def _named(node: Any) -> Any:
    """Return a chip as a list of coordinates, a switch as a text."""
    return list(node) if isinstance(node, tuple) else str(node)


def chosen_chips(timeline: Timeline, near: Sequence[int] = ()) -> list[int]:
    """Return the chips that a picture shows by default: the first to finish, the median and the last; one of equivalent chips.

    If all finish together, the chips are those whose operations end earliest and latest on average. `near`: chips at a link that
    is to blame; of chips that finish together one of these is taken, and where none is among the three, the first of them comes
    in the place of the median. With pipeline stages they are the first chip of each stage, of at most STAGES of them.
    """
    if not timeline.chips:
        return []
    if staged(timeline):
        at = np.array([positions(timeline, axis) for axis in staged(timeline)])
        _, firsts = np.unique(at, axis=1, return_index=True)
        some = np.linspace(0, len(firsts) - 1, min(len(firsts), STAGES)).astype(int)
        return [int(chip) for chip in np.sort(firsts)[np.unique(some)]]
    columns = np.concatenate([np.concatenate([s.start, s.end]) for s in timeline.segments]
                             or [np.zeros((1, len(timeline.chips)))])
    equal = ALIKE * timeline.makespan
    last, key = timeline.last_chip, timeline.finish
    if np.ptp(key) <= equal:
        key = columns.mean(axis=0)
        last = int(key.argmax())
    rounded = np.round((key - key.min()) / equal) if equal else np.zeros(len(key))
    order = np.lexsort((~np.isin(np.arange(len(key)), list(near)), rounded))
    median = int(order[len(order) // 2])
    if near and not {last, int(order[0]), median} & set(near):
        median = near[0]
    chosen: list[int] = []
    for chip in (last, int(order[0]), median):
        if all(np.abs(columns[:, chip] - columns[:, other]).max(initial=0.0) > equal for other in chosen):
            chosen.append(chip)
    return sorted(chosen, key=lambda chip: (chip == last, rounded[chip], chip))


def last_block(timeline: Timeline) -> int:
    """Return the index into `runs` of the last simulated run of a block, or of the first run if there is none.

    Of several blocks it is the one with the most runs, of equally many the last.
    """
    first, often = dict[int, int](), timeline.counts()
    for run, (segment, _) in enumerate(timeline.runs):
        first.setdefault(segment, run)
    blocks = [run for segment, run in first.items() if timeline.segments[segment].is_block]
    return max(blocks, key=lambda run: (often[run][1], run), default=0)


# -- time spans: arrays (n, 2) of start and end -------------------------------------------------------------------------


def merged(spans: Array) -> Array:
    """Return the union of spans as disjoint spans in order."""
    spans = spans[spans[:, 1] > spans[:, 0]]
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    if not len(spans):
        return spans
    reach = np.maximum.accumulate(spans[:, 1])
    opens = np.append(True, spans[1:, 0] > reach[:-1])
    return np.stack([spans[opens, 0], np.append(reach[:-1][opens[1:]], reach[-1])], axis=1)


def without(spans: Array, taken: Array) -> Array:
    """Return the parts of spans outside those in `taken`; each array is in order and free of overlaps."""
    if not len(taken):
        return spans[spans[:, 1] > spans[:, 0]]
    first = np.searchsorted(taken[:, 1], spans[:, 0], side="right")  # the first taken span that ends inside or after each span
    count = np.maximum(np.searchsorted(taken[:, 0], spans[:, 1]) - first, 0) + 1  # pieces: before each taken span, after the last
    span = np.repeat(np.arange(len(spans)), count)
    after = first[span] + np.arange(len(span)) - np.repeat(np.cumsum(count) - count, count)  # the taken span after each piece
    free = np.append(-np.inf, taken[:, 1])[after], np.append(taken[:, 0], np.inf)[after]
    left = np.stack([np.maximum(spans[span, 0], free[0]), np.minimum(spans[span, 1], free[1])], axis=1)
    return left[left[:, 1] > left[:, 0]]


def spread(spans: Array, edges: Array, amounts: Array | None = None) -> Array:
    """Return the part of `amounts`, each spread evenly over its span, between successive edges.

    The spans do not overlap. The default amount of a span is its length. Spans without length do not count.
    """
    order = np.argsort(spans[:, 0], kind="stable")
    order = order[spans[order, 1] > spans[order, 0]]
    if not len(order):
        return np.zeros(len(edges) - 1)
    amount = spans[:, 1] - spans[:, 0] if amounts is None else amounts
    total = np.append(0.0, np.cumsum(amount[order]))
    knots = np.stack([total[:-1], total[1:]], axis=1)
    return np.diff(np.interp(edges, np.maximum.accumulate(spans[order].ravel()), knots.ravel()))


@dataclass(frozen=True, eq=False)
class _Unit:
    """The work of a compute unit: `spans` (n, 2) in order, their costs (n,), and launches outside of them (m, 2)."""

    spans: Array
    busy: Array
    fixed: Array
    bare_launches: Array


def _unit(timeline: Timeline, chip: int) -> _Unit:
    spans, busy, fixed, launches = [np.empty((0, 2))], [np.empty(0)], [np.empty(0)], [np.empty((0, 2))]
    for operation, ran in occurrences(timeline, chip):
        work = timeline.work[operation.name]
        if isinstance(operation, Collective):
            launches.append(np.stack([ran[:, 0], ran[:, 0] + work.fixed[chip]], axis=1))
        else:
            spans.append(ran)
            busy.append(np.full(len(ran), work.busy[chip]))
            fixed.append(np.full(len(ran), work.fixed[chip]))
    ran = np.concatenate(spans)
    order = np.argsort(ran[:, 0], kind="stable")
    bare = without(merged(np.concatenate(launches)), merged(ran))
    return _Unit(ran[order], np.concatenate(busy)[order], np.concatenate(fixed)[order], bare)


def advances(timeline: Timeline) -> list[tuple[Operation, float]]:
    """Return each operation of the blocks with the seconds by which its end moves the end of its block, in the mean block run.

    The chip is the one that finishes last, and the last simulated run of a block stands for all of its runs. The times add up to
    the mean time of a block run: while two operations run, the time is charged to the one that ends first.
    """
    found, runs = list[tuple[Operation, float]](), Counter(timeline.segments[segment].section for segment, _ in timeline.runs)
    blocks, chip = timeline.last_of_blocks(), timeline.last_chip
    for block in blocks:
        share = runs[block.section] / sum(runs[each.section] for each in blocks)
        starts, ends = block.on(chip)
        end = float(starts.min())
        for i in np.argsort(ends, kind="stable"):
            found.append((block.operations[i], share * max(0.0, float(ends[i]) - end)))
            end = max(end, float(ends[i]))
    return found
