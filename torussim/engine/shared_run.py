"""A run whose messages share links: it makes block runs, leaps over blocks with a constant gain, and lets SimPy step the clock.

The event core works out the times. It returns when the next block run has to be made, when a bandwidth changes, or when an array
has no room.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

import numpy as np

from torussim.engine import event_core as core
from torussim.engine import jit
from torussim.engine.heap import arrange
from torussim.engine.plan import Planner
from torussim.engine.routed import Shared
from torussim.engine.run_state import empty, fresh
from torussim.engine.schedule_table import Table
from torussim.engine.steady_state import Leap, Snapshot, SteadyState, fill, straight
from torussim.engine.unsent import unsent
from torussim.program import Program
from torussim.timeline import Segment
from torussim.topology.routes import Routes

Array = np.ndarray[Any, Any]
PARTS = (("operation", "operations"), ("stage", "stages"), ("transfer", "transfers"), ("key", "keys"), ("passed", "passes"),
         ("head", "heads"))  # of a section in its table
Sending = Callable[[str, int, int, float, float, float, int], None]  # operation, hop, chip, start, end, bytes, run


class PastError(AssertionError):
    """A flow would start in the network's past."""


class SharedRun:
    """One run; `process` is the generator that SimPy steps.

    `patience`: by section, the first of its runs before which the run may leap; by default the first. `leaps`: in order, at most
    one of each block. `wrong`: the first leap that was not allowed.
    """

    def __init__(self, program: Program, table: Table, planner: Planner, shared: Shared, begin: Array, *, repeat: bool,
                 patience: Mapping[str, int], record: Sequence[int] = (), sending: Sending | None = None,
                 progress: Callable[[int, int], None] | None = None) -> None:
        self.table, self.begin, self.repeat, self.progress = table, begin, repeat, progress
        self.patience, self.sending, self.chips, self.blocks_in_all = patience, sending, len(begin), program.block_runs
        self.lists = [(name, operations, times) for name, (operations, times) in
                      zip(program.names(), program.sections()) if operations]
        links, chip = planner.grid.links, planner.chip
        self.changes = [(e.time, planner.grid.stands[e.links], e.bandwidth * chip.link_efficiency) for e in links.events]
        self.net = core.network.made(shared.rows, links.bandwidth * chip.link_efficiency, chip.shared_efficiency)
        self.later, self.row = list(shared.later), len(shared.paths)  # routes of later failures, and the first of their rows
        self.unsent: list[Array] = []  # for each failure: (operations, changed paths) bytes still to send over the new routes
        self.on_shared = table.lanes["shared"].any(axis=0)
        self.gathering = (table.lanes["count"][table.stages["lanes"]] if len(table.lanes)
                          else np.zeros((len(table.stages), 1), np.int32))
        self.queued = np.flatnonzero((np.diff(table.queues) > 0).any(axis=0))  # hops with a queue
        self.state, self.empty = fresh(table, begin, record if sending else ()), empty(table)
        self.offset = 0.0  # seconds left out
        self.steady = SteadyState()
        self.number = self.skipped = 0  # block runs made, and block runs left out
        self.simulated = self.period = self.changed = 0
        self.runs: list[tuple[int, float]] = []
        self.place: list[int] = []  # for each block run: its index in `runs`
        self.segments: list[Segment] = []
        self.of_run: list[int] = []  # for each block run: its segment
        self.leaps: list[Leap] = []
        self.may_leap = True  # in the present block
        self.wrong: Leap | None = None

    @property
    def events(self) -> int:
        """The number of starts and ends of flows, counted once an instant, and of changes of bandwidth."""
        return int(self.state.one[0]["events"]) + self.changed

    @property
    def flows(self) -> int:
        """The number of messages that went through the network."""
        return int(self.net.one[0]["flows"])

    @property
    def solves(self) -> int:
        """The number of times that rates were computed anew."""
        return int(self.net.one[0]["solves"])

    @property
    def now(self) -> float:
        """The network's clock."""
        return float(self.net.one[0]["now"])

    def process(self, env: Any) -> Any:
        """Step from one block run to the next, until the run has ended."""
        jit.announce()
        if self.lists:
            self.enter(np.arange(self.chips), self.begin)
        while True:
            until = self.changes[0][0] - self.offset if self.changes else inf
            reason = core.run(self.table, self.state, self.net, until)
            if reason == core.DONE:
                yield env.timeout(max(0.0, self.now - env.now))
                break
            if reason == core.NEXT_RUN:
                count = int(self.state.one[0]["entered"])
                self.state.one[0]["entered"] = 0
                entered = np.sort(self.state.entered[:count], order="chip")
                yield env.timeout(max(0.0, self.now - env.now))
                self.enter(entered["chip"].copy(), entered["time"].copy())
            elif reason == core.CHANGE:
                yield env.timeout(max(0.0, until - env.now))
                self.change(max(until, self.now))
            elif reason == core.GROW_NETWORK:
                self.net = core.network.grown(self.net)
            elif reason == core.PAST:
                if not self.leaps:
                    raise PastError("no flow starts in the network's past")
                self.wrong = self.leaps[-1]
                return
            else:
                self.tell()
                if reason == core.GROW:
                    self.state = self.state._replace(work=np.resize(self.state.work, 2 * len(self.state.work)))
        self.tell()
        self.land()

    def change(self, now: float) -> None:
        """Change bandwidths, and the routes over links that fail."""
        _, links, bandwidth = self.changes.pop(0)
        core.network.go(self.net, now)
        for link, value in dict(zip(links.tolist(), bandwidth.tolist())).items():
            if value > 0:
                core.network.set_bandwidth(self.net, link, value)
        if not bandwidth.all():
            self.reroute(*self.later.pop(0))
        self.steady.forget()
        self.changed += 1

    def reroute(self, paths: Array, routes: Routes) -> None:
        """Move the messages under way on some paths to other routes now, and all later messages of these paths."""
        often = [times for _, _, times in self.lists]
        self.unsent.append(unsent(self.table, self.state, core.network, self.net, often, self.number, paths))
        self.net = core.network.reroute(self.net, paths, self.row + np.arange(len(paths)))
        self.row += len(paths)
        latency, hops = self.table.path_latency.copy(), self.table.hops.copy()
        latency[paths] = routes.latency
        hops["latency"] = latency[:len(hops)]
        self.table = self.table._replace(path_latency=latency, hops=hops)

    def tell(self) -> None:
        """Pass on the logged messages to `sending`."""
        one = self.state.one[0]
        names = [o.name for _, operations, _ in self.lists for o in operations]
        for entry in self.state.log[:one["logged"]].tolist():
            number, operation, hop, chip, start, end, size = entry
            assert self.sending is not None
            place = self.place[number]
            later = self.runs[place][1]  # the network's clock does not count the seconds left out before the block
            self.sending(names[operation], hop, chip, start + later, end + later, size, place)
        one["logged"] = 0

    def enter(self, chips: Array, times: Array) -> None:
        """Make the next block run, if there is one, and begin it on chips; first leave out blocks whose gain is known."""
        place, firsts = self.number + self.skipped, np.cumsum([0, *(count for _, _, count in self.lists)])
        if place >= firsts[-1]:
            return
        section = int(np.searchsorted(firsts, place, side="right")) - 1
        name, _, often = self.lists[section]
        if name not in ("prologue", "epilogue"):
            block = place - int(firsts[section])
            if self.progress:
                self.progress(place - (self.lists[0][0] == "prologue"), self.blocks_in_all)
            if block == 0:
                self.steady.forget()
                self.may_leap = True
            elif self.repeat and often > 2 and not self.later:  # all bytes sent before a failure must be known
                times = self.skip(name, block, often, chips, times)
            self.simulated += 1
        self.make(name, section)
        number, work, size = self.number - 1, self.state.work, int(self.state.one[0]["work"])
        work["what"][size:size + len(chips)], work["run"][size:size + len(chips)] = core.ENTER, number
        work["chip"][size:size + len(chips)], work["time"][size:size + len(chips)] = chips, times
        self.state.one[0]["work"] = size + len(chips)

    def make(self, name: str, section: int) -> None:
        """Make a block run."""
        number, table = self.number, self.table
        if number >= len(self.state.runs) and self.unfinished(number - len(self.state.runs)):
            self.widen()
        state = self.state
        slot = number % len(state.runs)
        if state.runs[slot]["number"] >= 0:
            self.keep(int(state.runs[slot]["number"]))
            self.clear(slot, table.sections[state.runs[slot]["section"]])
        else:
            self.clear(slot)
        here = table.sections[section]
        state.runs[slot] = number, section, int(here["operations"]) * self.chips, -1
        late = state.hops["run"][:-1] == number
        state.hops["at"][:-1][late] = table.queues[section, :-1][late]
        if here["unit_first"] >= 0:  # the compute unit serves the block runs in order
            for before in range(number - 1, max(-1, number - len(state.runs)), -1):
                other = state.runs[before % len(state.runs)]
                last = table.sections[other["section"]]["unit_last"]
                if last >= 0:
                    unknown = np.isnan(state.operations["end"][before % len(state.runs), :, last])
                    state.operations["missing"][slot, :, here["unit_first"]] += unknown
                    other["next_unit"] = number
                    break
        self.number += 1
        state.one[0]["runs"] = self.number
        self.place.append(len(self.runs))
        self.of_run.append(len(self.segments))
        self.runs.append((len(self.segments), self.offset))
        operations = self.lists[section][1]
        self.segments.append(Segment(name, tuple(operations), *np.empty((2, len(operations), self.chips))))

    def clear(self, slot: int, used: Any = None) -> None:
        """Empty a slot, so that nothing is known of its run. `used`: the only section that used it, a record; None: all of it."""
        state = self.state
        operations, stages, transfers, keys, passed, heads = (
            slice(None) if used is None else slice(used[first], used[first] + used[count]) for first, count in PARTS)
        of_operations, of_stages, of_heads = self.empty
        state.operations[slot, :, operations] = of_operations[:, operations]
        state.stages[slot, :, stages] = of_stages[:, stages]
        state.heads[slot, heads] = of_heads[heads]
        state.lacking[slot, stages] = self.gathering[stages]
        state.came[slot, transfers] = np.nan
        state.shards[slot, keys] = -inf
        state.passed[slot, passed] = np.nan

    def unfinished(self, number: int) -> bool:
        """Return whether any time of a block run is not yet known."""
        run = self.state.runs[number % len(self.state.runs)]
        return bool(run["number"] == number and run["left"] > 0)

    def keep(self, number: int) -> None:
        """Copy the known times of a block run into its segment."""
        state, segment = self.state, self.segments[self.of_run[number]]
        slot = number % len(state.runs)
        here = self.table.sections[state.runs[slot]["section"]]
        found = state.operations[slot, :, here["operation"]:here["operation"] + here["operations"]]
        segment.start[...], segment.end[...] = found["start"].T, found["end"].T

    def widen(self) -> None:
        """Make room for twice as many simultaneous block runs."""
        old, table = self.state, self.table
        new = fresh(table, self.begin, (), 2 * len(old.runs))
        hops, chips, directs = len(table.hops), self.chips, max(1, len(table.directs))
        for slot, run in enumerate(old.runs):
            if run["number"] >= 0:
                to = run["number"] % len(new.runs)
                for field in ("operations", "stages", "lacking", "came", "shards", "passed", "heads", "runs"):
                    getattr(new, field)[to] = getattr(old, field)[slot]
                a, b = (slice(hops + at * directs * chips, hops + (at + 1) * directs * chips) for at in (slot, to))
                new.start[b], new.begin[b] = old.start[a], old.begin[a]
        new.start[:hops] = old.start[:hops]
        waiting = np.flatnonzero(new.start < inf)
        new.start_heap[:len(waiting)] = waiting
        arrange(new.start_heap, len(waiting), new.start_place, new.start)
        work = old.work if len(old.work) > len(new.work) else np.resize(old.work, len(new.work))
        self.state = new._replace(work=work, **{name: getattr(old, name) for name in (
            "unit", "free", "hops", "turns", "recorded", "log", "one")})

    def live(self) -> list[int]:
        """Return the block runs from the first with an unknown time to the latest one."""
        present = range(max(0, self.number - len(self.state.runs)), self.number)
        return list(range(next(filter(self.unfinished, present), self.number - 1), self.number))

    def blocks(self, live: Sequence[int]) -> tuple[list[Array], list[Array]]:
        """Return the state of block runs on which the future depends, without ended operations, and where that state is."""
        found, where = list[Array](), list[Array]()
        for number in live:
            slot = number % len(self.state.runs)
            open_, going = self.open(slot)
            found += [self.state.operations[slot, open_], self.state.stages[slot, going], self.state.came[slot].copy(),
                      self.state.shards[slot].copy(), self.state.passed[slot].copy(), self.state.heads[slot].copy()]
            where += [open_, self.state.lacking[slot].astype(np.int16)]
        return found, where

    def open(self, slot: int) -> tuple[Array, Array]:
        """Return (chips,) where operations of a slot have not ended, and (chips,) the same with all chips on shared lanes."""
        here = self.table.sections[self.state.runs[slot]["section"]]
        rows = slice(here["operation"], here["operation"] + here["operations"])
        open_ = np.isnan(self.state.operations["end"][slot, :, rows]).any(axis=1)
        return open_, open_ | self.on_shared

    def counts(self, live: Sequence[int], chips: Array, flows: Array, where: Sequence[Array]) -> list[Array]:
        """Return all other counts on which the future depends."""
        waiting = [self.waiting(number % len(self.state.runs)) for number in live]
        hops, turns, first = self.state.hops[self.queued], self.state.turns, live[0]
        run = np.where(flows["path"] < len(self.table.hops), 0, flows["run"] - self.number)
        return [chips, flows["path"], run, *where, *(np.where(self.state.start[which] < inf, self.state.begin[which][name], -1)
                                         for which in waiting for name in ("message", "count")), hops["doing"],
                np.where((first <= hops["run"]) & (hops["run"] < self.number), hops["at"], -1),
                np.maximum(hops["run"], first) - self.number, np.maximum(turns["run"], first) - self.number,
                np.where(turns["run"] < first, 0, turns["place"])]

    def waiting(self, slot: int) -> slice:
        """Return where the starts of routed operations of a slot are."""
        hops, size = len(self.table.hops), max(1, len(self.table.directs)) * self.chips
        return slice(hops + slot * size, hops + (slot + 1) * size)

    def starts(self, live: Sequence[int]) -> list[Array]:
        """Return the known starts of flows, inf for others; views."""
        slots = [self.waiting(number % len(self.state.runs)) for number in live]
        return [self.state.start[:len(self.table.hops)], *(self.state.start[slot] for slot in slots)]

    def skip(self, name: str, block: int, blocks: int, chips: Array, times: Array) -> Array:
        """Before a run of a block begins on any chip, leave out the runs whose gain is known; return when it then begins."""
        live, now, state = self.live(), self.now, self.state
        flows = core.network.live(self.net)
        ends = self.net.end[flows]
        clocks = [times, np.array([now]), np.maximum(state.unit, now), np.maximum(state.free[:-1], now), ends,
                  *(start.copy() for start in self.starts(live))]
        of_runs, where = self.blocks(live)
        counts = self.counts(live, chips, self.net.flows[flows], where)
        self.steady.note(Snapshot(float(times.min()), tuple(clocks), tuple(counts), tuple(of_runs)))
        period, shift = self.steady.period()
        if not period:
            gain = self.steady.gain() if len(live) == 1 else None
            most = blocks - block - 1 if self.may_leap else 0
            if gain is None or most < 1 or block < self.patience.get(name, 0):
                return times
            return self.leap(Leap(name, len(self.runs) - 1, most, 2 * block), gain, times)
        turns = (blocks - block - 1) // period
        if self.changes:
            last = state.operations["end"][(self.number - 1) % len(state.runs)]
            known = max(float(np.nanmax(last)), float(times.max()))
            turns = min(turns, int((self.changes[0][0] - self.offset - known) / shift) - 1)
        if turns > 0:
            like = [segment for segment, _ in self.runs[-period:]]
            self.runs += [(j, self.offset + shift * (turn + 1)) for turn in range(turns) for j in like]
            self.skipped += turns * period
            self.offset += turns * shift
            self.period = max(self.period, period)
            self.may_leap = False
            self.steady.forget()
        return times

    def leap(self, leap: Leap, gain: list[Array], times: Array) -> Array:
        """Leap over runs of a block with the gain of the last ones, if possible; return when the next run begins."""
        live, state, now, blocks = self.live(), self.state, self.now, leap.blocks
        starts = self.starts(live)
        later, clock, unit, free, flows, *rest = (blocks * by for by in gain)
        slot, before = ((self.number - back) % len(state.runs) for back in (1, 2))
        end = now + float(clock[0])
        if self.changes or state.runs[before]["number"] != self.number - 2 or any(
                (array + by).min(initial=inf) < end for array, by in zip(starts, rest)):
            return times
        of_starts, (at, arrived) = rest[:len(starts)], (rest[len(starts) + i] for i in (0, 4))
        for array, by in zip(starts, of_starts):
            array += by
        open_, going = self.open(slot)
        state.operations["at"][slot][open_] += at
        state.stages["arrived"][slot][going] += arrived
        for array in (*(state.operations[name] for name in ("start", "end")), state.stages["base"], state.came, state.shards,
                      *(state.passed[name] for name in ("sent", "got")), state.heads["time"]):
            with np.errstate(invalid="ignore"):  # the difference of two infinite times, for which nothing waits
                by = blocks * (array[slot] - array[before])
            array[slot] += np.where(np.isfinite(by), by, 0.0)
        state.free[:-1] = np.maximum(state.free[:-1], now) + free
        state.unit[:] = np.maximum(state.unit, now) + unit
        arrange(state.start_heap, int(state.one[0]["starts"]), state.start_place, state.start)
        core.network.shift(self.net, end - now, flows)
        self.leaps.append(leap)
        self.may_leap = False
        last = self.segments[self.of_run[-1]]
        latest = self.runs.pop()
        self.runs += [(len(self.segments) + i, latest[1]) for i in range(blocks)] + [latest]
        self.segments += [Segment(leap.section, last.operations, *np.empty((2, *last.start.shape))) for _ in range(blocks)]
        self.place[-1] = len(self.runs) - 1
        self.skipped += blocks
        self.steady.forget()
        return np.asarray(times + later)

    def land(self) -> None:
        """At the end of the run, check whether each leap was right, and compute the times of the runs left out."""
        for run in self.state.runs:
            if run["number"] >= 0:
                self.keep(int(run["number"]))
        known = not any(self.unfinished(number) for number in self.live()) if self.number else True
        assert known or self.leaps, "everything has ended"
        for leap in self.leaps:
            here = self.runs[leap.first - 2:leap.first + leap.blocks + 2]
            before, since, *left_out, until, after = (self.segments[j] for j, _ in here)
            if not straight(before, since, until, after, leap.blocks + 1):
                self.wrong = leap
                return
            fill(left_out, since, until)
        self.wrong = None if known else self.leaps[-1]
