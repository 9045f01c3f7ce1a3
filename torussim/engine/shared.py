"""A run whose messages share links: what follows from what is known is computed at once, the rest waits for the fluid network.

Every chip has a clock of its own. An operation starts on a chip when all that it waits for is known there. A stage on a
private lane runs by the recurrence when the last of its chips is there; on a fluid lane transfer by transfer: the head of
each hop's queue becomes a flow. SimPy's clock is that of the network: it goes on to the next start or end of a flow when
nothing more follows from what is known. So no flow starts in its past, and everything else can be computed ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import numpy as np

from torussim.engine import agenda
from torussim.engine.agenda import ARRIVE, BASE, COMPLETE, ENTER, FINISH, SHARD, Agenda, Key, together
from torussim.engine.handful import Handful, can
from torussim.engine.lanes import Lanes, Sending
from torussim.engine.messages import Messages
from torussim.engine.network import Network, PastError
from torussim.engine.numbers import numbers
from torussim.engine.plan import Planner
from torussim.engine.queues import Queues
from torussim.engine.ready import Ready
from torussim.engine.repetition import Repetition, fill, straight
from torussim.engine.routed import Shared
from torussim.engine.turn import START, Turn, Waits
from torussim.program import Compute, Program
from torussim.timeline import Segment

Array = np.ndarray[Any, Any]


class SharedRun:
    """One run; `process` is the generator that SimPy steps.

    `patience`: the block from which on it may leap over others that it takes to add what the last two added; after a
    leap, that from which on to try again; `leapt`: the index into `runs` and the number of those that it has left out, None if
    it has not; `wrong`: it should not have.
    """

    def __init__(self, program: Program, sections: Sequence[tuple[Ready, ...]], planner: Planner, shared: Shared, begin: Array, *,
                 repeat: bool, patience: int = 0, sending: Sending | None = None,
                 progress: Callable[[int, int], None] | None = None) -> None:
        self.shared, self.begin, self.repeat, self.progress = shared, begin, repeat, progress
        self.patience = patience
        self.count = len(begin)
        self.sections = [(name, ready, times, Waits.of(ready)) for name, ready, (_, times) in
                         zip(("prologue", "block", "epilogue"), sections, program.sections()) if ready]
        self.unit = begin.copy()
        self.free = np.full(planner.rate.size + 1, begin.min(initial=0.0))  # hops
        self.fastest = planner.rate.max(initial=1.0)
        self.agenda = Agenda()
        self.network = Network(planner, shared.paths)
        self.queues = Queues(planner, shared, self.agenda, self.network, self.free, sending)
        self.lanes = Lanes(planner, shared, self.agenda, self.network, self.free, sending)
        self.handful = Handful(shared, self.agenda, self.queues, self.lanes, numbers(self.unit))
        self.messages = Messages(shared, self.count, self.agenda, self.network)
        self.turns: list[Turn] = []
        self.over = 0  # turns of which all is known, and nobody asks again
        self.runs: list[tuple[int, float]] = []
        self.simulated = self.skipped = self.period = 0
        self.repetition = Repetition()
        self.segments: list[Segment] = []  # what every list has done, each run of it
        self.leapt: tuple[int, int] | None = None
        self.wrong = False

    @property
    def events(self) -> int:
        """Starts and ends of flows, those at one instant counted once, and changes of bandwidth."""
        return self.network.steps

    @property
    def flows(self) -> int:
        """Messages that went through the fluid network."""
        return self.network.fluid.flows

    @property
    def solves(self) -> int:
        """How often rates were found anew."""
        return self.network.fluid.solves

    def process(self, env: Any) -> Any:
        """Step from one start or end of a flow to the next, until nothing is left."""
        if self.sections:
            self.agenda.add(0, -1, 0, ENTER, np.arange(self.count), self.begin)
        while True:
            self.drain()
            now = self.network.next()
            if self.lanes.wake(now):
                continue
            if now == inf or (now == self.network.change() and self.network.still() and not self.lanes.idle):
                self.land()
                return
            yield env.timeout(max(0.0, now - env.now))
            try:
                self.network.step(now)
            except PastError:
                self.wrong = self.leapt is not None
                if not self.wrong:
                    raise
                return

    def drain(self) -> None:
        """Do all that follows from what is known."""
        queues, turns, handful, most = self.queues, self.turns, self.handful, agenda.FEW
        queues.send()
        while self.agenda.keys:
            key, few, many = self.agenda.pop()
            number, i, _, what = key
            if many or len(few[0]) > most or number == len(turns) or not can(turns[number], i, what):
                self.do(key, *together(few, many))
            else:
                handful.do(turns[number], key, *few)
            if queues.pokes:
                queues.send()

    def do(self, key: Key, chips: Array, times: Array) -> None:
        """Do what is on the agenda for chips."""
        number, i, k, what = key
        if what == ENTER:
            self.enter(number, chips, times)
            return
        turn = self.turns[number]
        if what == ARRIVE:
            self.arrive(turn, i, chips)
        elif what == BASE:
            self.based(turn, i, k, chips, times)
        elif what == COMPLETE:
            self.complete(turn, i, k, chips, times)
        elif what == SHARD:
            partner = turn.ready[i].partner
            assert partner is not None
            self.tell(turn, partner, chips, None)
        else:
            self.finish(turn, i, chips, times)

    def enter(self, number: int, chips: Array, times: Array) -> None:
        """Begin a list on chips; on the first of them, see whether all was like this before."""
        if number == len(self.turns):
            times = self.create(number, float(times.min()), chips, times)
            if number == len(self.turns):
                return
        turn = self.turns[number]
        for i in turn.waits.entering:
            self.tell(turn, i, chips, times)

    def create(self, number: int, begin: float, chips: Array, times: Array) -> Array:
        """Make the next turn, or leave it if the program is over; return when it begins on the chips."""
        place, done = number + self.skipped, 0
        section = None
        for section in self.sections:
            if place < done + section[2]:
                break
            done += section[2]
        else:
            return times
        assert section is not None
        name, ready, often, waits = section
        if name == "block":
            block = place - done
            if self.progress:
                self.progress(block, often)
            if block and self.repeat:
                times = self.skip(block, often, begin, chips, times)
            self.simulated += 1
        turn = Turn.new(number, len(self.runs), name, ready, waits, self.shared, self.count)
        self.runs.append((len(self.segments), self.network.offset))
        self.segments.append(turn.segment)
        self.turns.append(turn)
        self.let_go()
        self.queues.line_up(turn)
        self.lanes.line_up(turn)
        if waits.first is not None:  # the compute unit serves the lists in turn
            before = next((t for t in reversed(self.turns[:-1]) if t.waits.last is not None), None)
            if before is not None and before.waits.last is not None:
                turn.missing[waits.first] += ~before.known[before.waits.last]
                before.more.append((before.waits.last, turn, waits.first))
        return times

    def let_go(self) -> None:
        """Forget what was in turns that are over, but for the latest, which says what a block adds."""
        while self.over < len(self.turns) - 2 and self.turns[self.over].known.all():
            self.turns[self.over].let_go()
            self.over += 1

    def tell(self, turn: Turn, i: int, chips: Array, times: Array | None) -> None:
        """Tell an operation on chips that one it waits for is known, and since when it need not wait for that one."""
        if times is not None:
            turn.at[i, chips] = np.maximum(turn.at[i, chips], times)
        told = np.bincount(chips, minlength=self.count)  # a chip can be there more than once
        turn.missing[i] -= told
        ready = np.flatnonzero((told > 0) & (turn.missing[i] == 0))
        self.agenda.add(turn.number, i, 0, ARRIVE, ready, turn.at[i, ready])

    def arrive(self, turn: Turn, i: int, chips: Array) -> None:
        """Start an operation on chips."""
        r, at = turn.ready[i], turn.at[i, chips]
        if isinstance(r.operation, Compute):
            start = np.maximum(at, self.unit[chips])
            if not r.looped:
                end = start + r.work.fixed[chips] + r.work.busy[chips]
            else:
                end = self.pieces(turn, i, chips, start)
            turn.segment.start[i, chips] = start
            self.unit[chips] = end
            self.agenda.add(turn.number, i, 0, FINISH, chips, end)
            return
        turn.segment.start[i, chips] = at
        if r.operation.name in self.shared.awaited:
            self.begun(turn, i, chips)
        base = at + r.work.fixed[chips]
        turn.latest[i][chips] = base
        for k in r.firsts:
            self.agenda.add(turn.number, i, k, BASE, chips, base)
        if not r.firsts:
            self.agenda.add(turn.number, i, 0, FINISH, chips, base)

    def pieces(self, turn: Turn, i: int, chips: Array, start: Array) -> Array:
        """Run a looped matmul piece by piece on chips; return when it ends there."""
        r = turn.ready[i]
        clock = start + r.overhead
        assert r.partner is not None
        gathers, never = r.partner < i, np.full(self.count, -np.inf)
        for piece in r.pieces:
            if piece.key is not None and gathers:
                arrived = turn.pieces[r.partner].get(piece.key, never)[chips]
                clock = np.maximum(clock, arrived if piece.idle is None else np.where(piece.idle[chips], -np.inf, arrived))
            clock = clock + piece.seconds[chips]
            if piece.key is not None and not gathers:
                turn.fed[r.partner][piece.key][chips] = clock
        return clock

    def based(self, turn: Turn, i: int, k: int, chips: Array, times: Array) -> None:
        """Let chips send what a stage has for them."""
        turn.base[i][k][chips] = times
        if turn.ready[i].direct:
            self.messages.begin(turn, i, chips, times)
            flowing = chips
        else:
            fluid = self.lanes.fluid(turn, i, k)[chips]
            flowing = chips[fluid]
            self.queues.based(turn, i, k, flowing.tolist())
            if len(flowing) < len(chips):
                self.lanes.based(turn, i, k, chips[~fluid], times[~fluid])
        over = flowing[turn.due[i][k][flowing] == 0]
        if len(over):
            self.agenda.add(turn.number, i, k, COMPLETE, over, np.maximum(turn.base[i][k][over], turn.arrived[i][k][over]))

    def complete(self, turn: Turn, i: int, k: int, chips: Array, times: Array) -> None:
        """Go on, on chips, from a stage that is complete there."""
        r = turn.ready[i]
        then = r.then[k]
        if then is not None:
            self.agenda.add(turn.number, i, then, BASE, chips, times)
            return
        turn.latest[i][chips] = np.maximum(turn.latest[i][chips], times)
        turn.parts[i][chips] -= 1
        over = chips[turn.parts[i][chips] == 0]
        end = turn.latest[i][over]
        if i in turn.fed:
            partner = r.partner
            assert partner is not None
            end = np.maximum(end, turn.segment.end[partner, over])
        self.agenda.add(turn.number, i, 0, FINISH, over, end)

    def finish(self, turn: Turn, i: int, chips: Array, times: Array) -> None:
        """Note the end of an operation on chips, and tell those that wait for it."""
        turn.segment.end[i, chips] = times
        turn.known[i, chips] = True
        if turn.ready[i].operation.name not in self.shared.awaited:
            self.begun(turn, i, chips)
        for other, j, takes in turn.waiting(i):
            self.tell(other, j, chips, times if takes else None)
        if i == len(turn.ready) - 1:
            self.agenda.add(turn.number + 1, 0, 0, ENTER, chips, times)

    def begun(self, turn: Turn, i: int, chips: Array) -> None:
        """Tell a matmul that is looped with a gather when that began on chips."""
        for j, what in turn.waits.tells[i]:
            if what == START:
                self.tell(turn, j, chips, turn.segment.start[i, chips])

    def note(self, begin: float, chips: Array, times: Array) -> None:
        """Remember all that the future depends on, before a block begins anywhere."""
        last, now = self.turns[-1], self.network.fluid.now
        (left, *starts), flows = self.network.state()
        clocks = [np.maximum(self.free[:-1], now), np.maximum(self.unit, now), times[np.argsort(chips)], np.array([now])]
        counts = [np.sort(chips), *flows, self.queues.lengths(), self.lanes.behind()]
        self.repetition.note(begin, [*last.times(), *clocks, *starts, begin + left / self.fastest], [*last.counts(), *counts])

    def skip(self, block: int, blocks: int, begin: float, chips: Array, times: Array) -> Array:
        """Before a block begins anywhere: if it is known what the next ones add, leave them out; return when it then begins."""
        if not all(turn.known.all() for turn in self.turns[self.over:-1]):
            self.repetition.forget()
            return times
        self.note(begin, chips, times)
        period, shift = self.repetition.period()
        if not period:
            drift = self.repetition.drift()
            most = 0 if self.network.offset or self.leapt else blocks - block - 1
            return times if drift is None or most < 1 or block < self.patience else self.leap(block, most, drift, chips, times)
        turns = (blocks - block - 1) // period
        if self.network.changes:
            known = max(float(np.nanmax(self.turns[-1].segment.end)), float(times.max()))
            turns = min(turns, int((self.network.change() - known) / shift) - 1)
        if turns > 0:
            like = [segment for segment, _ in self.runs[-period:]]
            self.runs += [(j, self.network.offset + shift * (turn + 1)) for turn in range(turns) for j in like]
            self.skipped += turns * period
            self.network.offset += turns * shift
            self.period = period
            self.repetition.forget()
        return times

    def leap(self, block: int, blocks: int, drift: Sequence[Array], chips: Array, times: Array) -> Array:
        """Go on as if that many blocks had added what the last ones did, if the network can; return when the next one begins."""
        last, now, order = self.turns[-1], self.network.fluid.now, np.argsort(chips)
        own = len(last.times())
        *of_turn, free, unit, entering = (blocks * by for by in drift[:own + 3])
        network = [blocks * by for by in drift[own + 3:-1]]
        if not self.network.leap(network):
            return times
        last.leap(iter(of_turn))
        self.free[:-1] = np.maximum(self.free[:-1], now) + free
        self.unit[:] = np.maximum(self.unit, now) + unit
        later = times.copy()
        later[order] += entering
        self.leapt, self.patience = (len(self.runs) - 1, blocks), 2 * block
        left_out = [Segment("block", last.segment.operations, *np.empty((2, *last.segment.start.shape))) for _ in range(blocks)]
        end = self.runs.pop()
        self.runs += [(len(self.segments) + i, end[1]) for i in range(blocks)] + [end]
        self.segments += left_out
        last.run = len(self.runs) - 1
        self.skipped += blocks
        self.repetition.forget()
        return later

    def land(self) -> None:
        """At the end, see whether a leap was right, and give the blocks that were left out their times."""
        known = all(turn.known.all() for turn in self.turns)
        assert known or self.leapt, "everything has ended"
        if self.leapt is None:
            return
        first, blocks = self.leapt
        before, since, *left_out, until, after = (self.segments[j] for j, _ in self.runs[first - 2:first + blocks + 2])
        self.wrong = not known or not straight(before, since, until, after, blocks + 1)
        if not self.wrong:
            fill(left_out, since, until)
