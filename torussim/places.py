"""The closed form of a program whose operations run on some positions of axes: a clock for each place.

A *place* is a position on each axis on which some operation names its positions. All chips of a place do the same, and one clock
represents them. Clocks of different places meet at the collectives over these axes. A collective starts for all places of a group
when the last of them is ready. A message of a permute brings its receiver the time of its sender, so that a place which only
sends does not wait.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from itertools import product

from torussim.clock import Clock, Ready, alike
from torussim.prices import Pieces, Prices, Timing
from torussim.program import Collective, Operation, Program, changed

Place = Mapping[str, int]  # axis -> position
IDLE = Timing(0.0, ())


def places_of(program: Program, lengths: Mapping[str, int]) -> list[Place]:
    """Return all places of a program in C order; one without axes if its operations run on all chips."""
    axes = sorted({axis for o in program.operations() for axis, _ in o.on}, key=list(lengths).index)
    return [dict(zip(axes, at)) for at in product(*(range(lengths[axis]) for axis in axes))]


def runs(operation: Operation, place: Place) -> bool:
    """Return whether the chips of a place run an operation; of a permute: whether they send."""
    return all(place[axis] in positions for axis, positions in operation.on)


def meets(operation: Operation, place: Place) -> bool:
    """Return whether an operation moves data between places like this one and others."""
    if not isinstance(operation, Collective) or operation.groups:
        return False
    return any(axis in place and (operation.kind != "permute" or bool(operation.shift.get(axis, 0))) for axis in operation.axes)


def clocks_of(program: Program, prices: Prices, fastest: bool) -> Clocks:
    """Return a clock for each place of a program."""
    lengths = dict(zip(prices.outlines.net.axes, prices.outlines.net.shape))
    places = places_of(program, lengths)
    return Clocks(places, lengths, [Clock(prices, fastest) for _ in places])


@dataclass(frozen=True, eq=False)
class Lists:
    """A list of operations as each place runs it, and by index the collectives at which places meet."""

    of_place: tuple[tuple[Ready, ...], ...]
    meetings: Mapping[int, Collective]


@dataclass(eq=False)
class Clocks:
    """The clocks of all places, in the order of `places`; `lengths`: of the network's axes."""

    places: list[Place]
    lengths: Mapping[str, int]
    clocks: list[Clock]

    @property
    def latest(self) -> float:
        """The end of all lists so far, at the last place."""
        return max(clock.latest for clock in self.clocks)

    def ready(self, operations: tuple[Operation, ...]) -> Lists:
        """Return a list of operations prepared for one or several runs."""
        if not self.places[0]:
            return Lists((self.clocks[0].ready(operations),), {})
        found, made = self.clocks[0].ready(operations), dict[tuple[bool, ...], tuple[Ready, ...]]()
        meetings = {i: o for i, o in enumerate(operations) if isinstance(o, Collective) and meets(o, self.places[0])}
        lists = []
        for place in self.places:
            here = tuple([runs(o, place) for o in operations])
            if here not in made:
                made[here] = tuple([_at(r, o, mine, i in meetings)
                                    for i, (r, o, mine) in enumerate(zip(found, operations, here))])
            lists.append(made[here])
        return Lists(tuple(lists), meetings)

    def repeat(self, operations: tuple[Operation, ...], times: int) -> None:
        """Run a list a number of times, or until the state of all clocks repeats."""
        lists = self.ready(operations)
        if not lists.meetings:
            for clock, here in zip(self.clocks, lists.of_place):
                clock.repeat(here, times if any(map(_takes_time, here)) else min(times, 1))
            return
        before, begin = self.state(), self.clocks[0].last
        for done in range(1, times + 1):
            self.section(lists)
            state, last = self.state(), self.clocks[0].last
            if done > 1 and alike(before, state, last - begin):
                for clock in self.clocks:
                    clock.leap((last - begin) * (times - done))
                return
            before, begin = state, last

    def section(self, lists: Lists) -> None:
        """Run one list of operations at all places."""
        going = [clock.steps(operations) for clock, operations in zip(self.clocks, lists.of_place)]
        at = [next(one, 0.0) for one in going]
        for i, o in lists.meetings.items():
            here = [number for number, operations in enumerate(lists.of_place) if operations[i].meets]
            times = self.permute(o, at) if o.kind == "permute" else self.together(o, at, here)
            for number in here:
                at[number] = _sent(going[number], times[number])

    def together(self, o: Collective, at: list[float], here: list[int]) -> list[float]:
        """Return the start of a collective at each place: when the last place of the group can start."""
        groups: dict[tuple[tuple[str, int], ...], float] = {}
        keys = [tuple((axis, i) for axis, i in place.items() if axis not in o.axes) for place in self.places]
        for number in here:
            groups[keys[number]] = max(groups.get(keys[number], 0.0), at[number])
        return [groups.get(key, 0.0) for key in keys]

    def permute(self, o: Collective, at: list[float]) -> list[float]:
        """Return the end of a permute at each place: its start, or the arrival of the message due to it."""
        number, prices = {tuple(place.values()): i for i, place in enumerate(self.places)}, self.clocks[0].prices
        ends = list(at)
        for i, place in enumerate(self.places):
            if not runs(o, place):
                continue
            clock = self.clocks[i]
            own = tuple((axis, (position,)) for axis, position in place.items())
            timing = prices.collective(changed(o, on=own), fastest=clock.fastest)
            to = number[tuple((i + o.shift.get(axis, 0)) % self.lengths[axis] for axis, i in place.items())]
            ends[i] = max(ends[i], at[i] + timing.start)
            ends[to] = max(ends[to], clock.collective(timing, at[i]))
        return ends

    def state(self) -> list[float]:
        """Return the state that determines the future, relative to the first clock."""
        return [value for clock in self.clocks for value in (clock.last - self.clocks[0].last, *clock.state())]


def _at(ready: Ready, operation: Operation, runs_here: bool, meeting: bool) -> Ready:
    """Return an operation as a place runs it: as it is, without a cost, or together with other places."""
    if meeting and isinstance(operation, Collective) and operation.kind == "permute":
        return replace(ready, meets="end")
    if not runs_here:
        return Ready(ready.after, ready.partner, ready.timing and IDLE, ready.pieces and Pieces(0.0, ()))
    return replace(ready, meets="start") if meeting else ready


def _takes_time(ready: Ready) -> bool:
    moves, multiplies = ready.timing not in (None, IDLE), ready.pieces is not None and bool(ready.pieces.pieces)
    return bool(ready.fixed or ready.busy) or moves or multiplies


def _sent(run: Generator[float, float, None], value: float) -> float:
    """Return the next start that a list yields after it is sent a time; 0 if it has none."""
    try:
        return run.send(value)
    except StopIteration:
        return 0.0
