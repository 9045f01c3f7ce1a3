"""The least time of a program on a network with its named algorithms: the length of its critical path.

Each class of chips has a *front*: a time before which no chip of the class has reached the present operation. A collective moves
fronts by its longest paths (`fronts`), a computation by its time. The last front is a lower bound of the simulated time. It is
equal to the simulated time if there is a class for each kind of place and collectives do not share links.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from torussim.chips import Chip
from torussim.choice import chosen
from torussim.collectives.lower import beside
from torussim.cost import compute_seconds, overhead_seconds, shard_seconds, start_seconds
from torussim.fronts import Fronts, Table
from torussim.messages import here_on
from torussim.outlines import Outlines
from torussim.places import Place, meets, places_of, runs
from torussim.program import ALIKE, Collective, Compute, Operation, Program, unlike_cases
from torussim.topology.grid import Grid

Array = np.ndarray[Any, Any]

BLOCKS = 6  # the runs of a block; later ones are taken to be as slow as the class with the least gain
MEETINGS = 64  # the same of a block in which places meet: a stage can be slower than the stage before


def least_seconds(program: Program, network: Grid | Outlines | Fronts, chip: Chip) -> float:
    """Return a lower bound of the simulated seconds of a program on a network; loops are chosen as the simulation chooses them.

    For many bounds on one network, passing its `Fronts` is faster.
    """
    known = network if isinstance(network, Fronts) else Fronts(network, chip)
    fronts = known if known.chip == chip else Fronts(known.outlines, chip)
    program = chosen(program, fronts.outlines, chip)
    walk = _Walks(fronts, places_of(program, dict(zip(fronts.net.axes, fronts.net.shape))))
    for operations, times in program.sections():
        walk.repeat(operations, times)
    return max(walk.latest, float(walk.links.max(initial=0.0)))


@dataclass(frozen=True, eq=False)
class _Step:
    """An operation of a list: its dependencies in the list, and its time; a looped pair has the whole time at its second half.

    `seconds` is that of a computation. `ends`, `through` and `own` are as in `Table`, in seconds. `gathers`: whether the first
    half is the collective.
    """

    after: tuple[int, ...]
    partner: int | None = None
    seconds: float = 0.0
    gathers: bool = False
    ends: Array | None = None
    through: Array | None = None
    own: Array | None = None
    idle: bool = False  # a collective that the place does not run
    meets: str = ""  # "start" or "end": it moves data between places, which decide on its start or on its end


class _Walk:
    """The fronts of a program at one place, operation by operation, as `clock.Clock` has the times of one chip.

    (classes + 2,) seconds: of each class, of at least one chip of any class, and of all chips. A class without a chip at the
    place has no front: -inf.
    """

    def __init__(self, fronts: Fronts, place: Place) -> None:
        self.fronts, self.chip, self.place = fronts, fronts.chip, place
        here = here_on(fronts.net, [(axis, (position,)) for axis, position in place.items()])
        found = fronts.label if here is None else fronts.label[here]
        self.there = np.append(np.isin(np.arange(fronts.classes), found), [True, True])  # whether a class has chips at the place
        self.last = self.unit = np.where(self.there, 0.0, -np.inf)
        self.latest = 0.0
        self.links = np.zeros(len(fronts.net.links.source))

    def ready(self, operations: tuple[Operation, ...], times: int) -> tuple[_Step, ...]:
        """Return a list of operations, run a number of times, with the time of each. Count the use of its links."""
        place = {o.name: i for i, o in enumerate(operations)}
        matmuls = {o.loop.collective: o for o in operations if isinstance(o, Compute) and o.loop}
        found = []
        for i, o in enumerate(operations):
            after = tuple(place[name] for name in o.after) if o.after is not None else (i - 1,) if i else ()
            matmul = matmuls.get(o.name) if isinstance(o, Collective) else o if o.loop else None
            collective = o if isinstance(o, Collective) else operations[place[o.loop.collective]] if o.loop else None
            if not isinstance(collective, Collective):
                assert isinstance(o, Compute)
                seconds = min(compute_seconds(case, self.chip) for case in unlike_cases(o))
                found.append(_Step(after, seconds=overhead_seconds(o, self.chip) + seconds))
                continue
            if collective.kind == "permute" and meets(collective, self.place):
                found.append(_Step(after, meets="end"))
                continue
            table = self.fronts.table(collective, matmul.loop if matmul else None, bool(self.place))
            if o is collective:
                self.links += times * o.bytes * table.links
            partner = None if matmul is None else place[matmul.name if o is collective else collective.name]
            if partner is not None and partner > i:
                found.append(_Step(after, partner))
            elif matmul is None:
                chips = 1 if collective.groups else collective.largest(self.fronts.net.length)  # a chip can be outside all groups
                ends = table.ends.seconds(collective.bytes) + start_seconds(collective, chips, self.chip)
                found.append(_Step(after, ends=ends))
            else:
                found.append(self.pair(matmul, collective, table, after, partner))
        return tuple(found)

    def pair(self, matmul: Compute, o: Collective, table: Table, after: tuple[int, ...], partner: int | None) -> _Step:
        """Return a matmul looped with a collective."""
        assert matmul.loop is not None and table.through is not None and table.own is not None
        shard = min(shard_seconds(case, matmul.loop, self.chip) for case in unlike_cases(matmul))
        sizes = o.bytes, shard, self.chip.loop_step
        overhead = overhead_seconds(matmul, self.chip)
        gathers = o.kind == "all_gather"
        through = table.through.seconds(*sizes) + (0.0 if gathers else overhead)
        own = table.own @ np.array([sizes[0], 1.0, *sizes[1:]]) + overhead
        return _Step(after, partner, gathers=gathers, ends=table.ends.seconds(*sizes), through=through, own=own)

    def section(self, steps: tuple[_Step, ...]) -> Generator[Array, tuple[Array, float], None]:
        """Run one list of operations. A looped pair runs at its second half.

        Where an operation meets other places: yield the fronts at its start here, and be sent its start, or its end, and a time
        before which it ends nowhere.
        """
        begin, ends = self.last, [self.last] * len(steps)
        waiting: dict[int, Array] = {}  # first halves: the times at which they can start
        for i, step in enumerate(steps):
            waits = [ends[a] for a in step.after if a != step.partner]
            at = begin if not waits else waits[0] if len(waits) == 1 else np.maximum.reduce(waits)
            least = 0.0
            if step.meets:
                scatters = step.partner is not None and step.partner > i and not steps[step.partner].gathers
                at, least = yield np.maximum(at, self.unit) if scatters else at
            if step.partner is None:
                if step.idle or step.meets == "end":
                    ends[i] = self.here(at)
                elif step.ends is not None:
                    ends[i] = self.here(np.maximum(self.moved(at, step.ends), least))
                else:
                    ends[i] = self.unit = np.maximum(at, self.unit) + step.seconds
            elif step.partner > i:
                waiting[i] = at
                continue
            else:
                first = waiting.pop(step.partner)
                assert step.ends is not None and step.through is not None and step.own is not None
                if step.gathers:
                    ends[step.partner] = self.moved(first, step.ends)
                    alone = np.maximum(np.maximum(first, at), self.unit) + step.own
                    ends[i] = self.unit = np.maximum(alone, self.moved(first, step.through))
                else:
                    first = first if step.meets else np.maximum(first, self.unit)
                    ends[step.partner] = self.unit = first + step.own
                    both = np.maximum(self.moved(np.maximum(first, at), step.ends), self.moved(first, step.through))
                    ends[i] = np.maximum(both, self.unit)
                if step.meets:
                    ends[i], ends[step.partner], self.unit = map(self.here, (ends[i], ends[step.partner], self.unit))
            self.last = ends[i]
        self.latest = max(self.latest, float(np.maximum.reduce(ends, axis=None))) if ends else self.latest

    def state(self) -> Array:
        """Return the state that later blocks start from; an idle unit is equivalent to one that has just become free."""
        return np.concatenate([self.last[self.there], np.maximum(self.unit, self.last)[self.there]])

    def moved(self, at: Array, seconds: Array) -> Array:
        """Return the fronts after an operation of (classes + 2, classes + 1) seconds from the fronts at its start."""
        found = np.empty(len(at))
        np.maximum.reduce(at[:, None] + seconds, out=found[:-1])
        found[-1] = found[:-2][self.there[:-2]].min()
        return self.here(found)

    def here(self, fronts: Array) -> Array:
        """Return the fronts of the classes that have chips at the place."""
        return np.where(self.there, fronts, -np.inf)


class _Walks:
    """The walks of all places of a program (`places`), which meet at the collectives over their axes."""

    def __init__(self, fronts: Fronts, places: list[Place]) -> None:
        self.fronts, self.places, self.walks = fronts, places, [_Walk(fronts, place) for place in places]
        self.lengths = dict(zip(fronts.net.axes, fronts.net.shape))

    @property
    def latest(self) -> float:
        """The end of all lists so far, at the last place."""
        return max(walk.latest for walk in self.walks)

    @property
    def links(self) -> Array:
        """The time for which each link is busy, (links,) seconds."""
        return self.walks[0].links

    def repeat(self, operations: tuple[Operation, ...], times: int) -> None:
        """Run a list a number of times; lists without a meeting at each place by itself."""
        found = self.walks[0].ready(operations, times)
        moved = {o.name: o for o in operations if isinstance(o, Collective) and meets(o, self.places[0])}
        moved |= {o.name: moved[o.loop.collective] for o in operations  # both halves of a loop meet other places
                  if isinstance(o, Compute) and o.loop and o.loop.collective in moved}
        meetings = {i: moved[o.name] for i, o in enumerate(operations) if o.name in moved}
        lists = [tuple([self.at(step, o, i in meetings, place) for i, (step, o) in enumerate(zip(found, operations))])
                 for place in self.places]
        if meetings:
            _repeat(self.walks, lambda: self.section(lists, meetings), times, MEETINGS)
            return
        for walk, steps in zip(self.walks, lists):
            _repeat([walk], partial(_alone, walk, steps), times)

    def at(self, step: _Step, o: Operation, meeting: bool, place: Place) -> _Step:
        """Return an operation as a place runs it."""
        if step.meets:
            return step
        if not runs(o, place):
            return _Step(step.after, idle=isinstance(o, Collective))
        return replace(step, meets="start") if meeting else step

    def section(self, lists: Sequence[tuple[_Step, ...]], meetings: Mapping[int, Collective]) -> None:
        """Run one list of operations at all places."""
        going = [walk.section(steps) for walk, steps in zip(self.walks, lists)]
        at = [next(one, None) for one in going]
        for i, o in meetings.items():
            here = [number for number, steps in enumerate(lists) if steps[i].meets]
            fronts = {number: front for number in here if (front := at[number]) is not None}
            told = self.permute(o, fronts) if o.kind == "permute" else self.together(o, fronts)
            for number in here:
                at[number] = _sent(going[number], told[number])

    def together(self, o: Collective, at: Mapping[int, Array]) -> dict[int, tuple[Array, float]]:
        """Return the least start of a collective at the places of each group, and the time when all have started."""
        groups: dict[tuple[tuple[str, int], ...], list[int]] = {}
        for number in at:
            key = tuple((axis, i) for axis, i in self.places[number].items() if axis not in o.axes)
            groups.setdefault(key, []).append(number)
        waits = o.kind in ALIKE
        found: dict[int, tuple[Array, float]] = {}
        for group in groups.values():
            start = np.minimum.reduce([np.where(self.walks[i].there, at[i], np.inf) for i in group])
            start[np.isinf(start)] = -np.inf  # a class that has no chip at any of these places
            least = max(float(at[i][-1]) for i in group) if waits else 0.0
            found |= dict.fromkeys(group, (start, least))
        return found

    def permute(self, o: Collective, at: Mapping[int, Array]) -> dict[int, tuple[Array, float]]:
        """Return the ends of a permute: at each place its start, or the arrival of the message due to it, on an idle network."""
        number, net, chip = {tuple(place.values()): i for i, place in enumerate(self.places)}, self.fronts.net, self.fronts.chip
        start, seconds = start_seconds(o, o.largest(net.length), chip), 0.0
        if beside(o, net):
            seconds = o.bytes / float(self.fronts.rate.max(initial=0.0)) + min(net.extremes(axis).shortest for axis in o.axes)
        ends = dict(at)
        for i, place in enumerate(self.places):
            if runs(o, place):
                to = number[tuple((p + o.shift.get(axis, 0)) % self.lengths[axis] for axis, p in place.items())]
                ends[i] = np.maximum(ends[i], at[i] + start)
                ends[to] = np.maximum(ends[to], float(at[i][-1]) + start + (seconds if to != i else 0.0))
        return {i: (end, 0.0) for i, end in ends.items()}


def _alone(walk: _Walk, steps: tuple[_Step, ...]) -> None:
    for _ in walk.section(steps):
        raise AssertionError("an operation meets other places")


def _sent(run: Generator[Array, tuple[Array, float], None], value: tuple[Array, float]) -> Array | None:
    """Return the next start that a list yields after it is sent a value; None if it has none."""
    try:
        return run.send(value)
    except StopIteration:
        return None


def _repeat(walks: Sequence[_Walk], run: Callable[[], None], times: int, most: int = BLOCKS) -> None:
    """Run a list on some walks a number of times; the runs after `most` are at least as slow as the fastest class by then.

    A later start makes no end earlier. If all starts are later by the same time, all ends are later by that time.
    """
    def state() -> Array:
        return np.concatenate([walk.state() for walk in walks])
    states, before = [state()], [walk.latest for walk in walks]
    for done in range(1, times + 1):
        for walk in walks:
            walk.latest = 0.0
        run()
        states.append(state())
        gain = [0.0, *(float((states[-1] - one).min()) for one in states[-2::-1])]  # the gain over each number of blocks
        last = states[-1] - states[-2]
        if done == most or last.max() - last.min() <= 1e-13 * last.max():
            period = max(range(1, done + 1), key=lambda p: gain[p] / p * (1 + 1e-12 * (p == 1)))
            turns, rest = divmod(times - done, period)
            later = turns * gain[period] + gain[rest]
            for walk in walks:
                walk.last, walk.unit, walk.latest = walk.last + later, walk.unit + later, walk.latest + later
            break
        before = [max(one, walk.latest) for one, walk in zip(before, walks)]
    for one, walk in zip(before, walks):
        walk.latest = max(one, walk.latest)
