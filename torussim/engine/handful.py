"""What `shared` does for many chips at once, here chip by chip in plain Python: for a few, numpy's calls would cost more.

Every step is the same sum on the same numbers as its twin of the same name there; tests compare them to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable

from torussim.engine.agenda import ARRIVE, BASE, COMPLETE, ENTER, FINISH, LOOK, SHARD, Agenda, Key
from torussim.engine.lanes import Lanes
from torussim.engine.numbers import Numbers, numbers
from torussim.engine.queues import Queues
from torussim.engine.ready import Ready
from torussim.engine.routed import Shared
from torussim.engine.turn import START, Turn
from torussim.program import Compute


def can(turn: Turn, i: int, what: int) -> bool:
    """Return whether a step is known here: looped matmuls and routed messages are only worked out for many chips at once."""
    return not ((what == ARRIVE and turn.ready[i].looped) or (what == BASE and turn.ready[i].direct))


class Handful:
    """The steps of a run for a few chips; `unit`: since when each compute unit is free, in the memory that the run has."""

    def __init__(self, shared: Shared, agenda: Agenda, queues: Queues, lanes: Lanes, unit: Numbers) -> None:
        self.shared, self.agenda, self.queues, self.lanes, self.unit = shared, agenda, queues, lanes, unit
        self.work: dict[int, tuple[Numbers, Numbers]] = {}  # by operation: fixed and busy seconds

    def do(self, turn: Turn, key: Key, chips: list[int], times: list[float]) -> None:
        """Do what is on the agenda for chips."""
        _, i, k, what = key
        if what == ENTER:
            for j in turn.waits.entering:
                self.tell(turn, j, chips, times)
        elif what == ARRIVE:
            self.arrive(turn, i, chips)
        elif what == BASE:
            self.based(turn, i, k, chips, times)
        elif what == LOOK:
            self.lanes.run(turn, i, k)
        elif what == COMPLETE:
            self.complete(turn, i, k, chips, times)
        elif what == SHARD:
            partner = turn.ready[i].partner
            assert partner is not None
            self.tell(turn, partner, chips, None)
        else:
            self.finish(turn, i, chips, times)

    def tell(self, turn: Turn, i: int, chips: Iterable[int], times: Iterable[float] | None) -> None:
        """Tell an operation on chips that one it waits for is known, and since when it need not wait for that one."""
        at, missing = turn.rows.at[i], turn.rows.missing[i]
        if times is not None:
            for chip, time in zip(chips, times):
                if time > at[chip]:
                    at[chip] = time
        ready = list[int]()
        for chip in chips:
            missing[chip] = left = missing[chip] - 1
            if not left:
                ready.append(chip)
        if ready:
            self.agenda.add_few(turn.number, i, 0, ARRIVE, ready, [at[chip] for chip in ready])

    def arrive(self, turn: Turn, i: int, chips: list[int]) -> None:
        """Start an operation on chips."""
        ready, start = turn.ready[i], turn.rows.start[i]
        if isinstance(ready.operation, Compute):
            self.compute(turn, i, chips)
            return
        fixed, _ = self.seconds(ready)
        at, latest = turn.rows.at[i], turn.rows.latest[i]
        bases = list[float]()
        for chip in chips:
            start[chip] = at[chip]
            latest[chip] = base = at[chip] + fixed[chip]
            bases.append(base)
        for k in ready.firsts:
            self.agenda.add_few(turn.number, i, k, BASE, chips, bases)
        if not ready.firsts:
            self.agenda.add_few(turn.number, i, 0, FINISH, chips, bases)
        if ready.operation.name in self.shared.awaited:
            self.begun(turn, i, chips)

    def compute(self, turn: Turn, i: int, chips: list[int]) -> None:
        """Start what the compute unit does on chips."""
        at, start, unit = turn.rows.at[i], turn.rows.start[i], self.unit
        fixed, busy = self.seconds(turn.ready[i])
        ends = list[float]()
        for chip in chips:
            start[chip] = begin = max(at[chip], unit[chip])
            unit[chip] = end = begin + fixed[chip] + busy[chip]
            ends.append(end)
        self.agenda.add_few(turn.number, i, 0, FINISH, chips, ends)

    def seconds(self, ready: Ready) -> tuple[Numbers, Numbers]:
        """Return (chips,) the fixed seconds of an operation, and the busy ones."""
        if id(ready) not in self.work:
            self.work[id(ready)] = numbers(ready.work.fixed), numbers(ready.work.busy)
        return self.work[id(ready)]

    def based(self, turn: Turn, i: int, k: int, chips: list[int], times: list[float]) -> None:
        """Let chips send what a stage has for them."""
        base, arrived, due = turn.rows.base[i][k], turn.rows.arrived[i][k], turn.rows.due[i][k]
        fluid, _, _ = self.lanes.singly(turn, i, k)
        flowing, private = list[int](), list[tuple[int, float]]()
        for chip, time in zip(chips, times):
            base[chip] = time
            if not fluid[chip]:
                private.append((chip, time))
                continue
            flowing.append(chip)
            if not due[chip]:
                self.agenda.add_chip(turn.number, i, k, COMPLETE, chip, max(time, arrived[chip]))
        if flowing:
            self.queues.based(turn, i, k, flowing)
        if private:
            self.lanes.based_singly(turn, i, k, private)

    def complete(self, turn: Turn, i: int, k: int, chips: list[int], times: list[float]) -> None:
        """Go on, on chips, from a stage that is complete there."""
        ready, rows = turn.ready[i], turn.rows
        then = ready.then[k]
        if then is not None:
            self.agenda.add_few(turn.number, i, then, BASE, chips, times)
            return
        latest, parts = rows.latest[i], rows.parts[i]
        looped = rows.end[ready.partner] if ready.partner is not None and i in turn.fed else None
        for chip, time in zip(chips, times):
            latest[chip] = end = max(latest[chip], time)
            parts[chip] = left = parts[chip] - 1
            if not left:
                self.agenda.add_chip(turn.number, i, 0, FINISH, chip, end if looped is None else max(end, looped[chip]))

    def finish(self, turn: Turn, i: int, chips: list[int], times: list[float]) -> None:
        """Note the end of an operation on chips, and tell those that wait for it."""
        end, known = turn.rows.end[i], turn.rows.known[i]
        for chip, time in zip(chips, times):
            end[chip], known[chip] = time, True
        if turn.ready[i].operation.name not in self.shared.awaited:
            self.begun(turn, i, chips)
        for other, j, takes in turn.waiting(i):
            self.tell(other, j, chips, times if takes else None)
        if i == len(turn.ready) - 1:
            self.agenda.add_few(turn.number + 1, 0, 0, ENTER, chips, times)

    def begun(self, turn: Turn, i: int, chips: list[int]) -> None:
        """Tell a matmul that is looped with a gather when that began on chips."""
        for j, what in turn.waits.tells[i]:
            if what == START:
                self.tell(turn, j, chips, [turn.rows.start[i][chip] for chip in chips])
