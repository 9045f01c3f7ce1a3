"""Makes the operations of a program ready to run: links, durations and receivers of all messages, as arrays over the chips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from torussim.chips import Chip
from torussim.collectives.axes import pattern as pattern_of
from torussim.collectives.contract import Hop, Lane, Pattern, Phase, Schedule
from torussim.collectives.lower import lower
from torussim.collectives.unequal import hop_bytes
from torussim.cost import compute_seconds, on_wire, overhead_seconds, shard_seconds, start_seconds
from torussim.engine.reach import Routed
from torussim.engine.ready import Course, Move, Piece, Ready, Stage
from torussim.errors import ProgramError
from torussim.messages import here_on
from torussim.program import Collective, Compute, Loop, Operation, Program, of_each
from torussim.timeline import Work
from torussim.topology.grid import Grid, wraparounds_of

Array = np.ndarray[Any, Any]


@dataclass
class Planner:
    """Makes the operations of programs ready, one program after another; arrays that recur are made once.

    `cache`: arrays that do not depend on bytes, for all programs. `loads`: arrays that do, for the present program. `pace`:
    (chips,) factors by which the computations of each chip take longer, except the fixed cost of looped computations; None: 1.
    """

    grid: Grid
    chip: Chip
    routed: Routed = field(default_factory=dict)  # lanes and the axes of the grid that stand for them
    pace: Array | None = None
    cache: dict[object, Any] = field(default_factory=dict)
    loads: dict[object, tuple[Array, Array]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.count = len(self.grid.chips)
        self.slower: Array = np.ones(self.count) if self.pace is None else self.pace
        self.position: dict[str, Array] = dict(zip(self.grid.axes, self.grid.coordinates))
        self.rate = self.grid.bandwidth.reshape(-1, self.count) * self.chip.link_efficiency
        self.latency = self.grid.latency.reshape(-1, self.count)
        over_ends = wraparounds_of(self.grid.coordinates, self.grid.shape) & (np.array(self.grid.shape) > 2)[:, None, None]
        gap = self.grid.around(self.grid.axes).gap | ((self.grid.slot < 0) & over_ends)  # nested gathers cross the ends of lines
        self.gap = gap.reshape(-1, self.count)

    def sections(self, program: Program) -> tuple[tuple[Ready, ...], ...]:
        """Return the sections of a program, ready to run."""
        self.loads = {}
        return tuple(self.section(operations) for operations, _ in program.sections())

    def section(self, operations: tuple[Operation, ...]) -> tuple[Ready, ...]:
        """Return the operations of one section, ready to run."""
        index = {operation.name: i for i, operation in enumerate(operations)}
        loops = {o.loop.collective: o for o in operations if isinstance(o, Compute) and o.loop}
        return tuple(self.ready(o, index, loops.get(o.name), operations) for o in operations)

    def ready(self, operation: Operation, index: Mapping[str, int], looped: Compute | None,
              operations: tuple[Operation, ...]) -> Ready:
        """Return one operation, ready to run; `looped`: the matmul in whose loop a collective runs."""
        after = None if operation.after is None else tuple(index[name] for name in operation.after)
        zero = np.zeros(self.count)
        if isinstance(operation, Collective):
            loop = looped.loop if looped else None
            lengths = {a: n for a in operation.axes if (n := self.grid.length(a)) > 1}
            fixed = zero + start_seconds(operation, prod(lengths.values()), self.chip)
            for group in operation.groups:
                fixed[np.isin(self.grid.own, group)] = start_seconds(operation, len(group), self.chip)
            here = here_on(self.grid, operation.on)
            fixed = fixed if here is None else np.where(here, fixed, 0.0)
            schedule = self.lowered(on_wire(operation, self.chip), loop.kind if loop else None)
            if schedule.steps and looped:
                raise ProgramError(f"{operation.name!r} is looped with {looped.name!r}, but its messages are routed: take an "
                                   "algorithm of neighbours", code="program")
            if schedule.steps:
                return Ready(operation, after, Work(zero, fixed), steps=schedule.steps)
            stages, sent = self.stages(schedule, callable(operation.algorithm), takes_detours(operation))
            return Ready(operation, after, Work(zero, fixed), stages, (), index[looped.name] if looped else None, sent)
        if operation.loop is None:
            return Ready(operation, after, self.work(operation))
        partner = index[operation.loop.collective]
        collective = operations[partner]
        assert isinstance(collective, Collective)
        pieces, busy, steps = self.pieces(operation, operation.loop, collective)
        overhead, here = overhead_seconds(operation, self.chip), here_on(self.grid, operation.on)
        if here is None:
            return Ready(operation, after, Work(busy, overhead + steps * self.chip.loop_step), (), pieces, partner,
                         overhead=overhead)
        own = np.where(here, overhead, 0.0)
        return Ready(operation, after, Work(busy, own + steps * self.chip.loop_step), (), (Piece(None, own), *pieces), partner)

    def work(self, compute: Compute) -> Work:
        """Return the cost of a computation without a loop on each chip."""
        here = here_on(self.grid, compute.on)
        slower = self.slower if here is None else np.where(here, self.slower, 0.0)
        busy = self.each(compute, lambda case: compute_seconds(case, self.chip))
        return Work(slower * busy, slower * overhead_seconds(compute, self.chip))

    def each(self, compute: Compute, cost: Callable[[Compute], float]) -> Array | float:
        """Return a cost of a computation; (chips,) if the chips have unequal work."""
        return of_each(compute, cost, self.grid.length, self.position) if compute.cases else cost(compute)

    def lowered(self, collective: Collective, way: str | None) -> Schedule:
        """Return the schedule of a collective; lanes that have an axis of the grid of their own are replaced by it."""
        schedule = lower(collective, self.grid, way=way)
        if not callable(collective.algorithm) or not self.routed:
            return schedule
        names = [self.routed.get((phase.lane, phase.pattern.ring)) for phase in schedule.phases]
        return replace(schedule, phases=tuple(replace(phase, lane=Lane((name,))) if name else phase
                                              for phase, name in zip(schedule.phases, names)))

    def pieces(self, compute: Compute, loop: Loop, collective: Collective) -> tuple[tuple[Piece, ...], Array, Array]:
        """Return the pieces of a looped matmul in order, the unit's busy seconds and loop steps; (chips,)."""
        schedule = self.lowered(collective, loop.kind)
        gathers = collective.kind == "all_gather"
        shard = self.slower * self.each(compute, lambda case: shard_seconds(case, loop, self.chip))
        on = here_on(self.grid, compute.on)
        shard = shard if on is None else np.where(on, shard, 0.0)
        share: dict[tuple[int, int], Array] = {}  # of the group's shards, by (phase, step)
        merged = np.zeros(self.count, bool)  # chips whose own shard is computed together with another one
        for phase in schedule.phases:
            for course in self.courses(phase, takes_detours(collective)):
                steps_of: list[int] = []
                for hop in course.pattern.hops:
                    at = course.here(np.roll(hop.halves, hop.sign) if gathers else hop.halves)
                    if course.pattern.role == "permute":  # a message arrives with its last hop
                        at = course.here(delivered(hop, course.pattern.length))
                    key = (phase.index, hop.step)
                    share[key] = share.get(key, 0.0) + at * (phase.block / 2 / collective.bytes * schedule.chips)
                    steps_of.append(hop.step)
                if course.pattern.merged and len(schedule.phases) == 1:
                    here = np.ones(self.count, bool) if course.where is None else course.where
                    share[phase.index, min(steps_of) if gathers else max(steps_of)] += here
                    merged |= here
        own = None if merged.all() else Piece(None, np.where(merged, 0.0, shard))
        made, steps = [], np.zeros(self.count)
        for key in sorted(share):
            amount = share[key] + np.zeros(self.count)
            steps = steps + (amount > 0)
            idle = amount == 0
            made.append(Piece(key, amount * shard + ~idle * self.chip.loop_step, idle if idle.any() else None))
        pieces = tuple(([own] if own and gathers else []) + made + ([own] if own and not gathers else []))
        return pieces, sum((p.seconds for p in pieces), np.zeros(self.count)) - steps * self.chip.loop_step, steps

    def courses(self, phase: Phase, detour: bool) -> tuple[Course, ...]:
        """Return the pattern of a phase, or two patterns: broken rings that take no detours run as lines.

        Such a line begins behind the first gap of its ring. Lines that do not run the phase are in no course.
        """
        here = here_on(self.grid, phase.on)
        if here is None:
            return self._courses(phase, detour)
        return tuple(replace(one, where=here if one.where is None else here & one.where) for one in self._courses(phase, detour))

    def _courses(self, phase: Phase, detour: bool) -> tuple[Course, ...]:
        """Return the same as if all lines ran the phase."""
        position, pattern = self.positions(phase.lane), phase.pattern
        if detour or phase.lane.order is not None or pattern.role == "permute" or not pattern.ring:
            return (Course(pattern, position),)
        axis = self.grid.axis(phase.lane.axes[0])
        if self.grid.stride[axis] > 1:  # every hop is routed anyway
            return (Course(pattern, position),)
        begin = self.first_gap(axis)
        broken = begin >= 0
        if not broken.any():
            return (Course(pattern, position),)
        line = pattern_of(pattern.role, pattern.length, ring=False)
        along = Course(line, np.where(broken, (position - begin) % pattern.length, 0), broken)
        return (along,) if broken.all() else (Course(pattern, position, ~broken), along)

    def first_gap(self, axis: int) -> Array:
        """Return (chips,) the position behind the first gap of the ring of each chip along an axis, -1 if the ring has no gap."""
        length, gap = self.grid.shape[axis], self.grid.gap[axis]
        lane = self.lanes((self.grid.axes[axis],))
        behind = np.full(self.count, length)
        for i in range(length - 1, -1, -1):  # the hop between i and i + 1, in either direction
            here = gap[0] & (self.grid.coordinates[axis] == i) | gap[1] & (self.grid.coordinates[axis] == (i + 1) % length)
            behind[np.isin(lane, lane[here])] = i
        return np.where(behind < length, (behind + 1) % length, -1)

    def lanes(self, axes: tuple[str, ...]) -> Array:
        """Return (chips,) the number of the group over `axes` that each chip is in; a twisted axis counts as a line."""
        key = ("lanes", axes)
        if key not in self.cache:
            label = np.arange(self.count)
            leads = [to for a in axes for to in self.grid.receiver[self.grid.axis(a)]]
            if self.grid.links.twist.keys() & set(axes):
                ends = wraparounds_of(self.grid.coordinates, self.grid.shape)
                over = [end & (a in self.grid.links.twist) for a in axes for end in ends[self.grid.axis(a)]]
                leads = [np.where(end, np.arange(self.count), to) for end, to in zip(over, leads)]
            for _ in range(sum(self.grid.length(a) for a in axes)):
                for to in leads:
                    label = np.minimum(label, label[to])
            self.cache[key] = label
        found: Array = self.cache[key]
        return found

    def positions(self, lane: Lane) -> Array:
        """Return (chips,) the position of each chip on its line of the lane."""
        if lane.order is None:
            return self.position[lane.axes[0]]
        key = ("positions", lane)
        if key not in self.cache:
            at = {c: i for i, c in enumerate(lane.order)}
            coordinates = zip(*(self.position[a] for a in lane.axes))
            self.cache[key] = np.array([at[tuple(int(v) for v in c)] for c in coordinates])
        found: Array = self.cache[key]
        return found

    def neighbours(self, lane: Lane, sign: int, ring: bool) -> tuple[Array, Array]:
        """Return the flat index of each chip's link in direction `sign` of the lane, and the receiving chip; (chips,) each."""
        key = ("neighbours", lane, sign, ring)
        if key not in self.cache:
            if lane.order is None:
                row = 2 * self.grid.axis(lane.axes[0]) + (sign < 0)
                receiver = self.grid.receiver.reshape(-1, self.count)[row]
                self.cache[key] = (row * self.count + np.arange(self.count), receiver)
            else:
                self.cache[key] = self.ring_links(lane, sign, ring)
        found: tuple[Array, Array] = self.cache[key]
        return found

    def ring_links(self, lane: Lane, sign: int, ring: bool) -> tuple[Array, Array]:
        """Return the same for a lane over several axes."""
        assert lane.order is not None
        position, length = self.positions(lane), len(lane.order)
        place, lanes = (position + sign) % length, self.lanes(lane.axes)
        at = {key: chip for chip, key in enumerate(zip(lanes.tolist(), position.tolist()))}
        receiver = np.array([at[key] for key in zip(lanes.tolist(), place.tolist())])
        link = np.full(self.count, -1)
        for there in (self.gap, self.rate > 0):  # a hop with a link of its own is preferred to a detour
            for row in reversed([2 * self.grid.axis(a) + d for a in lane.axes for d in (0, 1)]):
                leads = (self.grid.receiver.reshape(-1, self.count)[row] == receiver) & there[row]
                link[leads] = row * self.count + np.flatnonzero(leads)
        if not ring:
            link[place == (0 if sign > 0 else length - 1)] = self.rate.size  # over the end of the line: nothing is sent there
        link[link < 0] = self.rate.size  # the same index; `arrays` checks that nothing is sent there
        return link, receiver

    def stages(self, schedule: Schedule, own: bool, detour: bool) -> tuple[tuple[Stage, ...], Array]:
        """Return the stages of a schedule, and (axes * 2 * chips) its bytes on each hop; `own`: the algorithm is user-defined."""
        sent = np.zeros(self.rate.size + 1)
        stages = []
        for phase in schedule.phases:
            for course in self.courses(phase, detour):
                steps, keep = self.steps(course.pattern)
                sizes = self.sizes(phase, course, schedule.lengths)
                few = phase.flow is not None and not phase.flow.all()  # some messages have no bytes: any other can be the latest
                moves = tuple(self.move(phase, course, hops, shape, latest or few, sizes) for hops, shape, latest in steps)
                some = few or own or bool(phase.on) or course.pattern.role == "permute" or any(
                    a in schedule.twist for a in phase.lane.axes)
                stages.append(Stage(phase.index, phase.part, phase.lane, moves, keep, some))
                for move in moves:
                    sent[move.links if isinstance(move.links, slice) else move.links.ravel()] += move.bytes.ravel()
        return tuple(stages), sent[:-1]

    def steps(self, pattern: Pattern) -> tuple[list[tuple[list[Hop], object, bool]], dict[int, int]]:
        """Return the hops of each move of a pattern, a key of the data that they send, and whether the move can be the latest.

        Return also, for each step that a move waits for, the last such move.
        """
        key = ("steps", pattern)
        if key not in self.cache:
            groups: dict[tuple[int, int | None], list[Hop]] = {}
            hops = sorted(pattern.hops, key=lambda hop: (hop.step, -hop.sign))
            for hop in hops:
                groups.setdefault((hop.step, hop.after), []).append(hop)
            final = {hop.sign: hop for hop in hops}.values()  # the last hop of a direction is the latest ...
            every = not all(hop.halves.all() for hop in final)  # ... if all chips send in it, as on rings
            steps = [(group, tuple((h.sign, h.halves.tobytes() if h.halves.strides != (0,) else int(h.halves[0])) for h in group),
                      every or any(h is f for h in group for f in final)) for group in groups.values()]
            self.cache[key] = steps, {after: i for i, (_, after) in enumerate(groups) if after is not None}
        found: tuple[list[tuple[list[Hop], object, bool]], dict[int, int]] = self.cache[key]
        return found

    def sizes(self, phase: Phase, course: Course, lengths: Mapping[str, int]) -> Mapping[Hop, Array] | None:
        """Return (chips,) the bytes that each chip sends in each hop of a phase whose blocks differ; None if all are equal."""
        if phase.flow is None:
            return None
        axis, key = phase.lane.axes[0], ("places", *lengths)
        if key not in self.cache:
            self.cache[key] = np.ravel_multi_index(tuple(self.position[a] for a in lengths), tuple(lengths.values()))
        place, of = self.cache[key], list(lengths).index(axis)
        begin = (self.position[axis] - course.position) % course.pattern.length  # of a broken ring: behind its first gap
        found = np.zeros((len(course.pattern.hops), self.count))
        for first in np.unique(begin if course.where is None else begin[course.where]).tolist():
            sent = hop_bytes(course.pattern, phase.flow, list(lengths.values()), of, first)
            found = np.where(begin == first, sent[:, place], found)
        return dict(zip(course.pattern.hops, found))

    def move(self, phase: Phase, course: Course, hops: list[Hop], shape: object, latest: bool,
             sizes: Mapping[Hop, Array] | None) -> Move:
        """Return the hops of one step (one direction, or both) as one move; `sizes`: the bytes of each hop, if they differ."""
        where = None if course.where is None else course.where.tobytes()
        key = ("move", phase.lane, course.pattern.ring, where, shape)
        if key not in self.cache:
            self.cache[key] = self.arrays(phase, course, hops)
        links, rate, late, sends, receiver, source, halves = self.cache[key]
        rows = slice(0, 2) if len(hops) == 2 else slice(0, 1) if hops[0].sign > 0 else slice(1, 2)
        if sizes is not None:
            size = np.where(halves > 0, [sizes[hop] for hop in hops], 0.0)
            if not (size > 0).all():
                late, sends = np.where(size > 0, late, -np.inf), size > 0
            return Move(hops[0].step, hops[0].after, rows, links, size / rate, late, sends, receiver, source, size, latest)
        if (key, phase.block) not in self.loads:
            size = halves * (phase.block / 2)
            self.loads[key, phase.block] = size / rate, size
        seconds, size = self.loads[key, phase.block]
        return Move(hops[0].step, hops[0].after, rows, links, seconds, late, sends, receiver, source, size, latest)

    def arrays(self, phase: Phase, course: Course, hops: list[Hop]) -> tuple[Any, ...]:
        """Return the arrays of a move that do not depend on the size of a block.

        They are links, rate, late, sends, receiver, source and halves of a block. `rate` is infinite where a transfer takes no
        time: where a chip does not send, and where the hop has no link of its own.
        """
        assert [h.sign for h in hops] in ([1, -1], [1], [-1])
        halves = np.array([course.here(hop.halves) for hop in hops], dtype=float)
        if phase.lane.order is None and len(hops) == 2:
            halves[1, self.grid.twin[self.grid.axis(phase.lane.axes[0])]] = 0.0
        pairs = [self.neighbours(phase.lane, hop.sign, phase.pattern.ring) for hop in hops]
        link = np.array([p[0] for p in pairs])
        rate, latency = (np.append(values.ravel(), 0.0)[link] for values in (self.rate, self.latency))
        sends = halves > 0
        if (sends & (rate <= 0) & ~np.append(self.gap.ravel(), False)[link]).any():
            raise AssertionError(f"a schedule over {phase.lane.axes} sends where no link is")
        receiver = np.array([p[1] for p in pairs])
        links: slice | Array = link
        if phase.lane.order is None:
            axis, ways = self.grid.axis(phase.lane.axes[0]), [int(hop.sign < 0) for hop in hops]
            back = np.array([1 - way for way in ways])  # the hop back to the sender, which sends over the opposite hop
            sender, row = self.grid.receiver[axis, back], 1 - self.grid.arrives[axis, back]
            source = sender + self.count * np.where((len(hops) == 1) | self.grid.twin[axis, sender], 0, row)
            links = slice((2 * axis + ways[0]) * self.count, (2 * axis + ways[-1] + 1) * self.count)
        else:
            source = np.zeros_like(link)
            for row, to in enumerate(receiver):
                source[row, to] = row * self.count + np.arange(self.count)
        late = np.where(sends, latency, -np.inf)
        return links, np.where(sends & (rate > 0), rate, np.inf), late, None if sends.all() else sends, receiver, source, halves


def takes_detours(collective: Collective) -> bool:
    """Return whether rings with a dead link take detours, and do not run as lines: user-defined patterns are not changed."""
    return collective.detour is not False or callable(collective.algorithm)


def delivered(hop: Hop, length: int) -> Array:
    """Return (length,) the halves that arrive at their destination, at each position, with this hop of a permute."""
    halves = np.zeros(length)
    for i in range(length):
        if hop.halves[i]:
            j = (i + hop.sign) % length
            halves[j] = sum(1 for (tag, _) in hop.chunks(i) if tag[1] == j)
    return halves
