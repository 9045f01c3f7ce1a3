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

from torussim.engine.agenda import ARRIVE, BASE, COMPLETE, ENTER, FINISH, LOOK, SHARD, Agenda
from torussim.engine.lanes import Lanes, Sending
from torussim.engine.messages import Messages
from torussim.engine.network import Network
from torussim.engine.plan import Planner
from torussim.engine.queues import Queues
from torussim.engine.ready import Ready
from torussim.engine.routed import Shared
from torussim.engine.turn import END, START, Turn, Waits
from torussim.program import Compute, Program
from torussim.timeline import Segment

Array = np.ndarray[Any, Any]
REMEMBERED = 8  # states kept to find a repetition
SAME = 1e-12  # of a block: states closer than this are the same


class SharedRun:
    """One run; `process` is the generator that SimPy steps."""

    def __init__(self, program: Program, sections: Sequence[tuple[Ready, ...]], planner: Planner, shared: Shared, begin: Array, *,
                 repeat: bool, sending: Sending | None = None, progress: Callable[[int, int], None] | None = None) -> None:
        self.shared, self.begin, self.repeat, self.progress = shared, begin, repeat, progress
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
        self.messages = Messages(shared, self.count, self.agenda, self.network)
        self.turns: list[Turn] = []
        self.runs: list[tuple[int, float]] = []
        self.simulated = self.skipped = 0
        self.seen: list[tuple[int, float, list[Array], list[Array]]] = []

    @property
    def segments(self) -> list[Segment]:
        """What every list has done, each run of it."""
        return [turn.segment for turn in self.turns]

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
                assert all(turn.known.all() for turn in self.turns), "everything has ended"
                return
            yield env.timeout(max(0.0, now - env.now))
            self.network.step(now)

    def drain(self) -> None:
        """Do all that follows from what is known."""
        while True:
            self.queues.send()
            if not self.agenda:
                return
            (number, i, k, what), chips, times = self.agenda.pop()
            if what == ENTER:
                self.enter(number, chips, times)
                continue
            turn = self.turns[number]
            if what == ARRIVE:
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

    def enter(self, number: int, chips: Array, times: Array) -> None:
        """Begin a list on chips; on the first of them, see whether all was like this before."""
        if number == len(self.turns):
            self.create(number, float(times.min()), chips, times)
            if number == len(self.turns):
                return
        turn = self.turns[number]
        for i in turn.waits.entering:
            self.tell(turn, i, chips, times)

    def create(self, number: int, begin: float, chips: Array, times: Array) -> None:
        """Make the next turn, or leave it if the program is over."""
        place, done = number + self.skipped, 0
        section = None
        for section in self.sections:
            if place < done + section[2]:
                break
            done += section[2]
        else:
            return
        assert section is not None
        name, ready, often, waits = section
        if name == "block":
            block = place - done
            if self.progress:
                self.progress(block, often)
            if block and self.repeat:
                self.skip(number, block, often, begin, chips, times)
            self.simulated += 1
        turn = Turn.new(number, len(self.runs), name, ready, waits, self.shared, self.count)
        self.runs.append((number, self.network.offset))
        self.turns.append(turn)
        self.queues.line_up(turn)
        self.lanes.line_up(turn)
        if waits.first is not None:  # the compute unit serves the lists in turn
            before = next((t for t in reversed(self.turns[:-1]) if t.waits.last is not None), None)
            if before is not None and before.waits.last is not None:
                turn.missing[waits.first] += ~before.known[before.waits.last]
                before.more.append((before.waits.last, turn, waits.first))

    def tell(self, turn: Turn, i: int, chips: Array, times: Array | None) -> None:
        """Tell an operation on chips that one it waits for is known, and since when it need not wait for that one."""
        if times is not None:
            turn.at[i, chips] = np.maximum(turn.at[i, chips], times)
        np.subtract.at(turn.missing[i], chips, 1)  # a chip can be there more than once
        ready = np.unique(chips[turn.missing[i, chips] == 0])
        if len(ready):
            self.agenda.add(turn.number, i, 0, ARRIVE, ready, turn.at[i, ready])

    def arrive(self, turn: Turn, i: int, chips: Array) -> None:
        """Start an operation on chips."""
        r, at = turn.ready[i], turn.at[i, chips]
        if isinstance(r.operation, Compute):
            start = np.maximum(at, self.unit[chips])
            if r.partner is None:
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
        firsts = [0] if r.direct else [k for k, stage in enumerate(r.stages)
                                       if all(s.part != stage.part for s in r.stages[:k])]
        for k in firsts:
            self.agenda.add(turn.number, i, k, BASE, chips, base)
        if not firsts:
            self.agenda.add(turn.number, i, 0, FINISH, chips, base)

    def pieces(self, turn: Turn, i: int, chips: Array, start: Array) -> Array:
        """Run a looped matmul piece by piece on chips; return when it ends there."""
        r = turn.ready[i]
        clock = start + r.overhead
        assert r.partner is not None
        gathers, never = r.partner < i, np.full(self.count, -np.inf)
        fed = turn.fed.setdefault(r.partner, {}) if not gathers else {}
        for piece in r.pieces:
            if piece.key is not None and gathers:
                arrived = turn.pieces[r.partner].get(piece.key, never)[chips]
                clock = np.maximum(clock, arrived if piece.idle is None else np.where(piece.idle[chips], -np.inf, arrived))
            clock = clock + piece.seconds[chips]
            if piece.key is not None and not gathers:
                fed.setdefault(piece.key, np.full(self.count, -np.inf))[chips] = clock
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
            self.queues.based(turn, i, k, flowing)
            if len(flowing) < len(chips):
                self.lanes.based(turn, i, k, chips[~fluid], times[~fluid])
        over = flowing[turn.due[i][k][flowing] == 0]
        if len(over):
            self.agenda.add(turn.number, i, k, COMPLETE, over, np.maximum(turn.base[i][k][over], turn.arrived[i][k][over]))

    def complete(self, turn: Turn, i: int, k: int, chips: Array, times: Array) -> None:
        """Go on, on chips, from a stage that is complete there."""
        r = turn.ready[i]
        after = [] if r.direct else [j for j in range(k + 1, len(r.stages)) if r.stages[j].part == r.stages[k].part]
        if after:
            self.agenda.add(turn.number, i, after[0], BASE, chips, times)
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
        for j, what in turn.waits.tells[i]:
            if what != START:
                self.tell(turn, j, chips, times if what == END else None)
        for j, other, k in turn.more:
            if j == i:
                self.tell(other, k, chips, None)
        if i == len(turn.ready) - 1:
            self.agenda.add(turn.number + 1, 0, 0, ENTER, chips, times)

    def begun(self, turn: Turn, i: int, chips: Array) -> None:
        """Tell a matmul that is looped with a gather when that began on chips."""
        for j, what in turn.waits.tells[i]:
            if what == START:
                self.tell(turn, j, chips, turn.segment.start[i, chips])

    def state(self, begin: float, chips: Array, times: Array) -> tuple[list[Array], list[Array]]:
        """Return all that the future depends on, as times from `begin` on and as counts."""
        last = self.turns[-1]
        clocks, counts = last.state()
        now = self.network.fluid.now
        (left, *starts), flows = self.network.state()
        clocks += [np.maximum(self.free[:-1], now), np.maximum(self.unit, now), times[np.argsort(chips)], np.array([now])]
        counts += [np.sort(chips), *flows, self.queues.lengths(), self.lanes.behind()]
        relative = [np.where(np.isfinite(c), c - begin, np.where(np.isnan(c), 1e300, -1e300)) for c in [*clocks, *starts]]
        return [*relative, left / self.fastest], [count.copy() for count in counts]

    def skip(self, number: int, block: int, blocks: int, begin: float, chips: Array, times: Array) -> None:
        """Before a block begins anywhere: if the state was there before, leave out the blocks that will be like those since."""
        if not all(turn.known.all() for turn in self.turns[:-1]):
            self.seen.clear()
            return
        clocks, counts = self.state(begin, chips, times)
        for period, (_, then, old_clocks, old_counts) in enumerate(reversed(self.seen), 1):
            shift = begin - then
            if len(old_clocks) == len(clocks) and all(
                    a.shape == b.shape and (a == b).all() for a, b in zip(counts, old_counts)) and all(
                    a.shape == b.shape and (np.abs(a - b) <= SAME * shift / period).all() for a, b in zip(clocks, old_clocks)):
                turns = (blocks - block - 1) // period
                if self.network.changes:
                    known = max(float(np.nanmax(self.turns[-1].segment.end)), float(times.max()))
                    turns = min(turns, int((self.network.change() - known) / shift) - 1)
                if turns > 0:
                    for turn in range(turns):
                        self.runs += [(number - period + j, self.network.offset + shift * (turn + 1)) for j in range(period)]
                    self.skipped += turns * period
                    self.network.offset += turns * shift
                    self.seen.clear()
                    return
        self.seen.append((block, begin, clocks, counts))
        del self.seen[:-REMEMBERED]
