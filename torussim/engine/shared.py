"""A run whose messages share links: what follows from what is known is computed at once, the rest waits for the fluid network.

Every chip has a clock of its own. An operation starts on a chip when all that it waits for is known there. A stage on a
private lane runs by the recurrence when the last of its chips is there; on a fluid lane transfer by transfer: the head of
each hop's queue becomes a flow. SimPy's clock is that of the network: it goes on to the next start or end of a flow when
nothing more follows from what is known. So no flow starts in its past, and everything else can be computed ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Any

import numpy as np

from torussim.engine import recurrence
from torussim.engine.fluid import Fluid
from torussim.engine.plan import Planner, Ready
from torussim.engine.routed import Shared, Transfer, fluid_chips
from torussim.engine.turn import END, START, Turn, Waits
from torussim.program import Compute, Program
from torussim.timeline import Segment

Array = np.ndarray[Any, Any]
REMEMBERED = 8  # states kept to find a repetition
SAME = 1e-12  # of a block: states closer than this are the same
Sending = Callable[[str, int, int, float, float, float, int], None]  # operation, hop, chip, start, end, bytes, run

# What is left to do, in this order within one operation of one turn.
ARRIVE, BASE, COMPLETE, FINISH, ENTER = range(5)
NOBODY, NEVER = np.zeros(0, int), np.zeros(0)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Messages of an all-to-all that started together: `messages` are m * chips + c."""

    turn: Turn
    i: int
    messages: Array


class SharedRun:
    """One run; `network` is the generator that SimPy steps."""

    def __init__(self, program: Program, sections: Sequence[tuple[Ready, ...]], planner: Planner, shared: Shared, begin: Array, *,
                 repeat: bool, sending: Sending | None = None, progress: Callable[[int, int], None] | None = None) -> None:
        self.program, self.planner, self.shared = program, planner, shared
        self.begin, self.repeat, self.sending, self.progress = begin, repeat, sending, progress
        self.count, self.hops = len(begin), planner.rate.size
        self.sections = [(name, ready, times, Waits.of(ready)) for name, ready, (_, times) in
                         zip(("prologue", "block", "epilogue"), sections, program.sections()) if ready]
        self.unit = begin.copy()
        self.free = np.full(self.hops + 1, begin.min(initial=0.0))  # hops
        rate = planner.grid.links.bandwidth * planner.chip.link_efficiency
        self.events_ahead = [(e.time, planner.grid.stands[e.links], e.bandwidth * planner.chip.link_efficiency)
                             for e in planner.grid.links.events]
        self.fluid = Fluid(shared.paths, rate, efficiency=planner.chip.shared_efficiency)
        self.rate = planner.rate.ravel().copy()
        self.fluid_of = {id(stage): fluid_chips(planner, stage, shared.fluid) for _, ready, _, _ in self.sections
                         for r in ready for stage in r.stages}
        self.moved: dict[int, Array] = {}  # by stage, (chips,) the bytes that it moves on the lane of each number
        self.turns: list[Turn] = []
        self.runs: list[tuple[int, float]] = []
        self.offset = 0.0  # seconds that were skipped
        self.simulated = self.skipped = self.steps = 0
        self.work: dict[tuple[int, int, int, int], list[tuple[Array, Array]]] = {}
        self.agenda: list[tuple[int, int, int, int]] = []
        self.queue: list[deque[tuple[Turn, int, Transfer]]] = [deque() for _ in range(self.hops)]
        self.pokes: list[int] = []
        self.sends: dict[int, tuple[Turn, int, Transfer, float]] = {}  # by flow
        self.idle: dict[tuple[int, int, int], float] = {}  # stages whose lanes can wait, until this time
        self.until = -inf  # the time until which lanes are run at once
        self.going: set[int] = set()  # hops whose head is a flow, or will be at a time that is known
        self.starts: dict[float, list[tuple[Array, Array, Any]]] = {}
        self.times: list[float] = []
        self.batches: list[_Batch] = []
        self.firsts: list[int] = []
        self.lane_order: list[list[tuple[Turn, int, int]]] = [[] for _ in planner.grid.axes]
        self.lane_done = np.zeros((len(planner.grid.axes), self.count), int)
        self.seen: list[tuple[int, float, list[Array], list[Array]]] = []

    @property
    def segments(self) -> list[Segment]:
        """What every list has done, each run of it."""
        return [turn.segment for turn in self.turns]

    @property
    def events(self) -> int:
        """Starts and ends of flows, those at one instant counted once, and changes of bandwidth."""
        return self.steps

    @property
    def flows(self) -> int:
        """Messages that went through the fluid network."""
        return self.fluid.flows

    @property
    def solves(self) -> int:
        """How often rates were found anew."""
        return self.fluid.solves

    # -- the clock ------------------------------------------------------------------------------------------------------

    def network(self, env: Any) -> Any:
        """Step from one start or end of a flow to the next, until nothing is left."""
        if self.sections:
            self.add(0, -1, 0, ENTER, np.arange(self.count), self.begin)
        while True:
            self.drain()
            start = self.times[0] if self.times else inf
            change = self.events_ahead[0][0] - self.offset if self.events_ahead else inf
            end = self.fluid.next()
            now = min(start, end, change)
            ripe = [key for key, earliest in self.idle.items() if earliest <= now]
            if ripe:
                self.until = now
                for number, i, k in ripe:
                    self.add(number, i, k, BASE, NOBODY, NEVER)
                continue
            if now == inf or (now == change and min(start, end) == inf and not self.idle):
                assert all(turn.known.all() for turn in self.turns), "everything has ended"
                return
            yield env.timeout(max(0.0, now - env.now))
            self.steps += 1
            if now == change:
                _, links, bandwidth = self.events_ahead.pop(0)
                self.fluid.set_bandwidth(links, bandwidth, max(now, self.fluid.now))
            elif now == end:
                self.ended(self.fluid.end())
            else:
                self.started(heappop(self.times))

    def started(self, time: float) -> None:
        """Start the flows that were to start at this time."""
        waiting = self.starts.pop(time)
        assert time >= self.fluid.now * (1 - 1e-9), "no flow starts in the network's past"
        ids = self.fluid.start(np.concatenate([paths for paths, _, _ in waiting]),
                               np.concatenate([sizes for _, sizes, _ in waiting]), max(time, self.fluid.now))
        first = int(ids[0]) if len(ids) else 0
        for paths, _, what in waiting:
            if isinstance(what, _Batch):
                self.firsts.append(first)
                self.batches.append(what)
            else:
                self.sends[first] = (*what, time)
            first += len(paths)

    def ended(self, ids: Array) -> None:
        """Take note of flows that have just sent their last byte."""
        now = self.fluid.now
        crowd = []
        for flow in ids.tolist():
            if flow in self.sends:
                turn, i, transfer, begin = self.sends.pop(flow)
                self.queue[transfer.hop].popleft()
                self.going.discard(transfer.hop)
                self.left(turn, i, transfer, begin, now)
            else:
                crowd.append(flow)
        if crowd:
            flows = np.array(crowd)
            of = np.searchsorted(self.firsts, flows, side="right") - 1
            for batch in np.unique(of).tolist():
                made = self.batches[batch]
                self.delivered(made, made.messages[flows[of == batch] - self.firsts[batch]], now)

    def later(self, time: float, paths: Array, sizes: Array, what: Any) -> None:
        """Start flows at a time that is not before now."""
        if time not in self.starts:
            heappush(self.times, time)
        self.starts.setdefault(time, []).append((paths, sizes, what))

    # -- what follows from what is known --------------------------------------------------------------------------------

    def add(self, number: int, i: int, k: int, what: int, chips: Array, times: Array) -> None:
        """Put something on the agenda: operation i of a turn, stage k. A stage may be looked at again without news."""
        if not len(chips) and what != BASE:
            return
        key = (number, i, k, what) if what != ENTER else (number, 1 << 30, k, what)  # entered when all else is done
        if key not in self.work:
            self.work[key] = []
            heappush(self.agenda, key)
        self.work[key].append((chips, times))

    def drain(self) -> None:
        """Do all that follows from what is known."""
        while self.agenda or self.pokes:
            while self.pokes:
                self.poke(self.pokes.pop())
            if not self.agenda:
                return
            key = heappop(self.agenda)
            found = self.work.pop(key)
            chips, times = (np.concatenate([part[column] for part in found]) for column in (0, 1))
            number, i, k, what = key
            if what == ENTER:
                self.enter(number, chips, times)
                continue
            turn = self.turns[number]
            if what == ARRIVE:
                self.arrive(turn, i, chips)
            elif what == BASE:
                self.based(turn, i, k, chips, times)
            elif what == COMPLETE:
                self.complete(turn, i, k, chips, times)
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
        self.runs.append((number, self.offset))
        self.turns.append(turn)
        for i, r in enumerate(ready):
            for transfer in self.shared.transfers[r.operation.name]:
                self.queue[transfer.hop].append((turn, i, transfer))
            for k, stage in enumerate(r.stages):
                for name in stage.lane.axes:
                    axis = self.planner.grid.axis(name)
                    turn.order[i][k][axis] = len(self.lane_order[axis])
                    self.lane_order[axis].append((turn, i, k))
        if waits.first is not None:  # the compute unit serves the lists in turn
            before = next((t for t in reversed(self.turns[:-1]) if t.waits.last is not None), None)
            if before is not None and before.waits.last is not None:
                turn.missing[waits.first] += ~before.known[before.waits.last]
                before.more.append((before.waits.last, turn, waits.first))

    def tell(self, turn: Turn, i: int, chips: Array, times: Array | None) -> None:
        """Tell an operation on chips that one it waits for is known, and since when it need not wait for that one."""
        if times is not None:
            turn.at[i, chips] = np.maximum(turn.at[i, chips], times)
        turn.missing[i, chips] -= 1
        ready = chips[turn.missing[i, chips] == 0]
        if len(ready):
            self.add(turn.number, i, 0, ARRIVE, ready, turn.at[i, ready])

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
            self.add(turn.number, i, 0, FINISH, chips, end)
            return
        turn.segment.start[i, chips] = at
        base = at + r.work.fixed[chips]
        turn.latest[i][chips] = base
        firsts = [0] if r.direct else [k for k, stage in enumerate(r.stages)
                                       if all(s.part != stage.part for s in r.stages[:k])]
        for k in firsts:
            self.add(turn.number, i, k, BASE, chips, base)
        if not firsts:
            self.add(turn.number, i, 0, FINISH, chips, base)

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
        r = turn.ready[i]
        turn.base[i][k][chips] = times
        if r.direct:
            self.start_messages(turn, i, chips, times)
            flowing = chips
        else:
            stage = r.stages[k]
            fluid = self.fluid_of[id(stage)][chips]
            flowing = chips[fluid]
            axes = [self.planner.grid.axis(a) for a in stage.lane.axes]
            self.pokes += [(2 * a + d) * self.count + c for c in flowing.tolist() for a in axes for d in (0, 1)]
            if not len(chips) or not fluid.all():
                self.run_lanes(turn, i, k)
        over = flowing[turn.due[i][k][flowing] == 0]
        if len(over):
            self.add(turn.number, i, k, COMPLETE, over, np.maximum(turn.base[i][k][over], turn.arrived[i][k][over]))

    def run_lanes(self, turn: Turn, i: int, k: int) -> None:
        """Run a stage on the private lanes on which every chip may send, in the order of their queues."""
        stage, fluid = turn.ready[i].stages[k], self.fluid_of[id(turn.ready[i].stages[k])]
        base = turn.base[i][k]
        lanes = self.planner.lanes(stage.lane.axes)
        late = np.bincount(lanes, np.isnan(base) | fluid | turn.done[i][k], minlength=self.count) > 0
        here = ~late[lanes]
        for axis, place in turn.order[i][k].items():
            here &= self.lane_done[axis] == place
        if not here.any() or self.postponed(turn, i, k, lanes[here], base[here]):
            return
        gathers = turn.ready[i].partner is not None and i not in turn.fed
        due: dict[recurrence.Key, Array] | None = {} if gathers else None
        free = self.free if here.all() else self.free.copy()
        complete = recurrence.phase(stage, np.where(here, base, 0.0), free, turn.fed.get(i), due, self.watch(turn, i, here))
        if free is not self.free:
            for axis in turn.order[i][k]:
                rows = slice(2 * axis * self.count, 2 * (axis + 1) * self.count)
                self.free[rows].reshape(2, -1)[:, here] = free[rows].reshape(2, -1)[:, here]
        for key, arrived in (due or {}).items():
            kept = turn.pieces.setdefault(i, {}).setdefault(key, np.full(self.count, -np.inf))
            kept[here] = np.maximum(kept, arrived)[here]
        turn.done[i][k] |= here
        chips = np.flatnonzero(here)
        self.add(turn.number, i, k, COMPLETE, chips, complete[chips])
        for axis, place in turn.order[i][k].items():
            self.lane_done[axis][here] += 1
            if place + 1 < len(self.lane_order[axis]):
                other, j, stage_after = self.lane_order[axis][place + 1]
                if not np.isnan(other.base[j][stage_after]).all():
                    self.add(other.number, j, stage_after, BASE, NOBODY, NEVER)

    def postponed(self, turn: Turn, i: int, k: int, lanes: Array, base: Array) -> bool:
        """Return whether lanes can wait: nothing ends on them before its last chip is there, and the network acts before.

        Where a stage moves nothing, as on healthy rings when broken ones run as lines, each chip ends as it comes.
        """
        stage = turn.ready[i].stages[k]
        if id(stage) not in self.moved:
            moved = sum((move.bytes.sum(axis=0) for move in stage.moves), np.zeros(self.count))
            self.moved[id(stage)] = np.bincount(self.planner.lanes(stage.lane.axes), moved, minlength=self.count)
        last = np.full(self.count, -np.inf)
        np.maximum.at(last, lanes, base)
        last[self.moved[id(stage)] == 0] = -np.inf
        earliest = float(last[lanes].min())
        if earliest <= self.horizon():
            self.idle.pop((turn.number, i, k), None)
            return False
        self.idle[turn.number, i, k] = earliest
        return True

    def horizon(self) -> float:
        """Return when the network next does something, as far as is known now."""
        change = self.events_ahead[0][0] - self.offset if self.events_ahead else inf
        return max(min(self.times[0] if self.times else inf, change, self.fluid.next()), self.until)

    def complete(self, turn: Turn, i: int, k: int, chips: Array, times: Array) -> None:
        """Go on, on chips, from a stage that is complete there."""
        r = turn.ready[i]
        after = [] if r.direct else [j for j in range(k + 1, len(r.stages)) if r.stages[j].part == r.stages[k].part]
        if after:
            self.add(turn.number, i, after[0], BASE, chips, times)
            return
        turn.latest[i][chips] = np.maximum(turn.latest[i][chips], times)
        turn.parts[i][chips] -= 1
        over = chips[turn.parts[i][chips] == 0]
        end = turn.latest[i][over]
        if i in turn.fed:
            partner = r.partner
            assert partner is not None
            end = np.maximum(end, turn.segment.end[partner, over])
        self.add(turn.number, i, 0, FINISH, over, end)

    def finish(self, turn: Turn, i: int, chips: Array, times: Array) -> None:
        """Note the end of an operation on chips, and tell those that wait for it."""
        turn.segment.end[i, chips] = times
        turn.known[i, chips] = True
        for j, what in turn.waits.tells[i]:
            self.tell(turn, j, chips, times if what == END else turn.segment.start[i, chips] if what == START else None)
        for j, other, k in turn.more:
            if j == i:
                self.tell(other, k, chips, None)
        if i == len(turn.ready) - 1:
            self.add(turn.number + 1, 0, 0, ENTER, chips, times)

    # -- fluid lanes ----------------------------------------------------------------------------------------------------

    def poke(self, hop: int) -> None:
        """Let the head of a hop's queue go, and those behind it, as far as it is known when they can."""
        queue = self.queue[hop]
        while queue and hop not in self.going:
            turn, i, transfer = queue[0]
            begin = max(float(turn.base[i][transfer.stage][transfer.chip]), float(self.free[hop]))
            if begin != begin:
                return
            if transfer.after is not None:
                came = turn.came.get((i, transfer.stage, transfer.after, transfer.row, transfer.chip))
                if came is None:
                    return
                begin = max(begin, came)
            if i in turn.fed:
                begin = max(begin, float(turn.fed[i][turn.ready[i].stages[transfer.stage].index, transfer.step][transfer.chip]))
            if self.shared.alone[hop]:
                queue.popleft()
                self.left(turn, i, transfer, begin, begin + transfer.bytes / float(self.rate[hop]))
            else:
                self.going.add(hop)
                self.later(begin, np.array([hop]), np.array([transfer.bytes]), (turn, i, transfer))

    def left(self, turn: Turn, i: int, transfer: Transfer, begin: float, end: float) -> None:
        """Note that a transfer has left its hop, and when it arrives."""
        self.free[transfer.hop] = end
        if self.sending:
            self.sending(turn.ready[i].operation.name, transfer.hop, transfer.chip, begin, end, transfer.bytes, turn.run)
        arrival = end + float(self.shared.paths.latency[transfer.hop])
        k, chip, stage = transfer.stage, transfer.receiver, turn.ready[i].stages[transfer.stage]
        turn.came[i, k, transfer.step, transfer.row, chip] = arrival
        if turn.ready[i].partner is not None and i not in turn.fed:
            pieces, key = turn.pieces.setdefault(i, {}), (stage.index, transfer.step)
            if key not in pieces:
                pieces[key] = np.full(self.count, -np.inf)
            pieces[key][chip] = max(pieces[key][chip], arrival)
        arrived, due = turn.arrived[i][k], turn.due[i][k]
        arrived[chip] = max(arrived[chip], arrival)
        due[chip] -= 1
        if not due[chip] and turn.base[i][k][chip] == turn.base[i][k][chip]:
            self.add(turn.number, i, k, COMPLETE, np.array([chip]), np.array([max(arrived[chip], turn.base[i][k][chip])]))
        onwards: tuple[int, ...] = (transfer.hop - transfer.chip + chip,)  # along one axis it is passed on in the same direction
        if len(stage.lane.axes) > 1:
            onwards = tuple((2 * self.planner.grid.axis(a) + d) * self.count + chip for a in stage.lane.axes for d in (0, 1))
        self.pokes += (transfer.hop, *onwards)


    # -- messages of all-to-alls ----------------------------------------------------------------------------------------

    def start_messages(self, turn: Turn, i: int, chips: Array, times: Array) -> None:
        """Let chips send to all others of their group: everything at once, or the first shift."""
        direct = self.shared.direct[turn.ready[i].operation.name]
        count = 1 if direct.shifts else len(direct.receiver)
        if direct.shifts and i not in turn.sent:
            turn.sent[i], turn.got[i] = np.full((2, *direct.receiver.shape), np.nan)
        for time in np.unique(times):
            here = chips[times == time]
            self.message(turn, i, (np.arange(count)[:, None] * self.count + here).ravel(), float(time))

    def message(self, turn: Turn, i: int, messages: Array, time: float) -> None:
        """Send messages at a time."""
        direct = self.shared.direct[turn.ready[i].operation.name]
        self.later(time, direct.first + messages, np.full(len(messages), direct.bytes), _Batch(turn, i, messages))

    def delivered(self, batch: _Batch, messages: Array, now: float) -> None:
        """Note messages that have left now, and when they arrive."""
        turn, i = batch.turn, batch.i
        direct = self.shared.direct[turn.ready[i].operation.name]
        shift, sender = np.divmod(messages, self.count)
        receiver = direct.receiver[shift, sender]
        arrival = now + self.shared.paths.latency[direct.first + messages]
        if direct.shifts:
            turn.sent[i][shift, sender] = now
            turn.got[i][shift, receiver] = arrival
            for chip, done in {*zip(sender.tolist(), shift.tolist()), *zip(receiver.tolist(), shift.tolist())}:
                ready = max(float(turn.sent[i][done, chip]), float(turn.got[i][done, chip]))
                both = not np.isnan(turn.sent[i][done, chip]) and not np.isnan(turn.got[i][done, chip])
                if both and done + 1 < len(direct.receiver):
                    self.message(turn, i, np.array([(done + 1) * self.count + chip]), ready)
        arrived, due = turn.arrived[i][0], turn.due[i][0]
        np.maximum.at(arrived, receiver, arrival)
        np.subtract.at(due, receiver, 1)
        over = np.unique(receiver)
        over = over[(due[over] == 0) & ~np.isnan(turn.base[i][0][over])]
        self.add(turn.number, i, 0, COMPLETE, over, np.maximum(turn.base[i][0][over], arrived[over]))

    # -- pictures, and repetition ---------------------------------------------------------------------------------------

    def watch(self, turn: Turn, i: int, here: Array) -> recurrence.Watch | None:
        """Return what notes the messages of private lanes where a stage is run `here`."""
        sending = self.sending
        if sending is None:
            return None
        rows, name = np.arange(self.hops + 1), turn.ready[i].operation.name

        def note(move: Any, begin: Array, end: Array) -> None:
            hops = rows[move.links].reshape(move.seconds.shape)
            for row, chip in np.argwhere((move.bytes > 0) & here).tolist():
                assert sending is not None
                sending(name, int(hops[row, chip]), chip, float(np.broadcast_to(begin, end.shape)[row, chip]),
                        float(end[row, chip]), float(move.bytes[row, chip]), turn.run)
        return note

    def state(self, begin: float, chips: Array, times: Array) -> tuple[list[Array], list[Array]]:
        """Return all that the future depends on, as times from `begin` on and as counts."""
        last = self.turns[-1]
        clocks, counts = last.state()
        now = self.fluid.now
        clocks += [np.maximum(self.free[:-1], now), np.maximum(self.unit, now), times[np.argsort(chips)], np.array([now])]
        clocks += [np.repeat(time, sum(len(paths) for paths, _, _ in self.starts[time])) for time in sorted(self.times)]
        paths, left = self.fluid.under_way()
        counts += [np.sort(chips), paths, np.array([len(queue) for queue in self.queue]),
                   np.where(self.shared.fluid, 0, np.array([len(order) for order in self.lane_order])[:, None] - self.lane_done),
                   *(np.concatenate([paths for paths, _, _ in self.starts[time]]) for time in sorted(self.times))]
        relative = [np.where(np.isfinite(c), c - begin, np.where(np.isnan(c), 1e300, -1e300)) for c in clocks]
        return [*relative, left / self.rate.max(initial=1.0)], [count.copy() for count in counts]

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
                if self.events_ahead:
                    known = max(float(np.nanmax(self.turns[-1].segment.end)), float(times.max()))
                    turns = min(turns, int((self.events_ahead[0][0] - self.offset - known) / shift) - 1)
                if turns > 0:
                    for turn in range(turns):
                        self.runs += [(number - period + j, self.offset + shift * (turn + 1)) for j in range(period)]
                    self.skipped += turns * period
                    self.offset += turns * shift
                    self.seen.clear()
                    return
        self.seen.append((block, begin, clocks, counts))
        del self.seen[:-REMEMBERED]
