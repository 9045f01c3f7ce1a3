"""Run a program on a network with SimPy, and find out when the blocks repeat.

On private links one cohort holds all chips: one SimPy process steps it from operation to operation, its clock a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy

from torussim.chips import Chip
from torussim.engine import recurrence
from torussim.engine.plan import Move, Ready, plan
from torussim.engine.recurrence import State
from torussim.estimate import with_loops
from torussim.program import Collective, Program, check_program
from torussim.timeline import Segment, Sent, Timeline
from torussim.topology.grid import Grid, grid

if TYPE_CHECKING:
    import networkx as nx

Array = np.ndarray[Any, Any]
REMEMBERED = 64  # states kept to find a repetition
SAME = 1e-12  # of a block: states closer than this are the same


def simulate(program: Program, topology: nx.DiGraph | Grid, chip: Chip, *, start: Sequence[float] | None = None,
             repeat: bool = True, record: Sequence[int] = (),
             progress: Callable[[int, int], None] | None = None) -> Timeline:
    """Return the timeline of one run of `program` on every chip of `topology`.

    `start`: (chips,) seconds at which each chip begins, 0 by default; `repeat=False` runs every repetition of the block
    instead of recognising that a state came back; `record`: indices of chips of which every message is kept;
    `progress(done, blocks)` is called after each block. Raise ProgramError or TopologyError if they do not fit.
    """
    net = topology if isinstance(topology, Grid) else grid(topology)
    check_program(program, net.axes)
    program = with_loops(program, net, chip)
    return _Run(program, net, chip, start, repeat, record, progress).timeline()


class _Run:
    """One run; the cohort is the generator `cohort`."""

    def __init__(self, program: Program, net: Grid, chip: Chip, start: Sequence[float] | None, repeat: bool,
                 record: Sequence[int], progress: Callable[[int, int], None] | None) -> None:
        self.program, self.net, self.repeat, self.progress = program, net, repeat, progress
        self.record = np.array(record, dtype=int)
        count = len(net.chips)
        self.begin = np.zeros(count) if start is None else np.array(start, dtype=float)
        links = np.full(2 * len(net.axes) * count + 1, self.begin.min(initial=0))  # one more, that nothing is sent on
        self.state = State(self.begin.copy(), self.begin.copy(), links)
        self.ready = plan(program, net, chip)
        self.segments: list[Segment] = []
        self.runs: list[tuple[int, float]] = []
        self.sent: list[Sent] = []
        self.events = 0
        self.simulated = 0

    def timeline(self) -> Timeline:
        env = simpy.Environment()
        env.process(self.cohort(env))
        env.run()
        sections = zip(self.ready, self.program.sections())
        sent, seconds = np.zeros((2, self.net.slot.size))
        for ready, (_, times) in sections:
            for operation in ready:
                if operation.link_bytes is not None and operation.link_seconds is not None:
                    sent += times * operation.link_bytes
                    seconds += times * operation.link_seconds
        sent, seconds = self.by_link(sent), self.by_link(seconds)
        ends = [self.segments[s].end.max(axis=0) + offset for s, offset in self.runs if self.segments[s].operations]
        work = {r.operation.name: r.work for ready in self.ready for r in ready}
        return Timeline(self.net.chips, self.net.axes, tuple(self.segments), tuple(self.runs), work, sent, seconds,
                        self.begin, np.maximum.reduce([self.begin, *ends]), self.events, self.program.layers,
                        self.simulated, self.program, tuple(self.sent))

    def by_link(self, hops: Array) -> Array:
        """Return what (axes * 2 * chips) hops carry as columns of links."""
        slot = self.net.slot.ravel()
        return np.bincount(slot[slot >= 0], hops[slot >= 0], minlength=len(self.net.links.source)).astype(float)

    def cohort(self, env: simpy.Environment) -> Generator[simpy.Event, None, None]:
        """Step all chips through prologue, blocks and epilogue; one event an operation."""
        yield from self.section(env, "prologue", self.ready[0])
        yield from self.blocks(env)
        yield from self.section(env, "epilogue", self.ready[2])

    def blocks(self, env: simpy.Environment) -> Generator[simpy.Event, None, None]:
        """Run the block `layers` times, or until the state at its end was there before: then the rest is known."""
        layers, first = self.program.layers, len(self.segments)
        seen: list[State] = []
        if not self.ready[1]:
            return
        for done in range(layers + 1):
            if self.progress:
                self.progress(done, layers)
            if done == layers:
                return
            period = self.seen_before(seen) if self.repeat else 0
            if period:
                break
            yield from self.section(env, "block", self.ready[1])
            self.simulated += 1
        shift = float(seen[-1].last.min() - seen[-1 - period].last.min())
        before = done - period
        for block in range(done, layers):
            turns, which = divmod(block - before, period)
            self.runs.append((first + before + which, shift * turns))
        turns, which = divmod(layers - before, period)
        self.state = seen[len(seen) - 1 - period + which].copy(later=shift * turns)
        if self.progress:
            self.progress(layers, layers)
        yield self.until(env, self.state.last)

    def seen_before(self, seen: list[State]) -> int:
        """Remember the state before a block; return how many blocks ago it was the same, up to a shift in time, else 0."""
        now = self.state.copy()
        # What the future can see: a queue that has been idle is as good as one that is free just now.
        now.unit = np.maximum(now.unit, now.last)
        queues = now.links[:-1].reshape(-1, len(now.last))
        now.links = np.append(np.maximum(queues, now.last), 0.0)
        seen.append(now)
        del seen[:-REMEMBERED]
        if len(seen) < 2:
            return 0
        begin = now.last.min()
        close = SAME * (begin - seen[-2].last.min())
        for period, old in enumerate(reversed(seen[:-1]), 1):
            shift = begin - old.last.min()
            if all(np.abs(a - b - shift).max() <= close
                   for a, b in ((now.last, old.last), (now.unit, old.unit), (now.links[:-1], old.links[:-1]))):
                return period
        return 0

    def until(self, env: simpy.Environment, ends: Array) -> simpy.Event:
        """Return the event that the last chip of the cohort is that far."""
        self.events += 1
        return env.timeout(max(0.0, float(ends.max()) - env.now))

    def section(self, env: simpy.Environment, name: str, ready: tuple[Ready, ...]) -> Generator[simpy.Event, None, None]:
        """Run one list of operations on all chips, and keep its segment."""
        if not ready:
            return
        count, begin = len(self.begin), self.state.last
        start, end = np.empty((2, len(ready), count))
        self.runs.append((len(self.segments), 0.0))
        self.segments.append(Segment(name, tuple(r.operation for r in ready), start, end))
        for i, r in enumerate(ready):
            if r.partner is not None and r.partner > i:
                continue  # the first half of a loop runs with the second
            if r.partner is not None:
                self.loop(ready, r.partner, i, start, end, begin)
            else:
                at = self.since(r, i, end, begin)
                if isinstance(r.operation, Collective):
                    start[i] = at
                    end[i] = recurrence.collective(r, at + r.work.fixed, self.state, watch=self.watch(r))
                else:
                    start[i] = np.maximum(at, self.state.unit)
                    end[i] = self.state.unit = start[i] + r.work.fixed + r.work.busy
            self.state.last = end[i]
            yield self.until(env, end[i])

    def loop(self, ready: tuple[Ready, ...], a: int, b: int, start: Array, end: Array, begin: Array) -> None:
        """Run operations a and b = a + 1, a matmul and the collective that it is looped with."""
        first, second = ready[a], ready[b]
        at = self.since(first, a, end, begin)
        others = self.since(second, b, end, begin, without=a)
        if isinstance(first.operation, Collective):
            start[a] = at
            end[a], start[b], end[b] = recurrence.gathering_loop(first, second, at, np.maximum(at, others), self.state,
                                                                 self.watch(first))
        else:
            start[a], end[a], start[b], end[b] = recurrence.scattering_loop(first, second, at, others, self.state,
                                                                            self.watch(second))

    def since(self, r: Ready, i: int, end: Array, begin: Array, without: int | None = None) -> Array:
        """Return when all that operation i waits for is done, on each chip."""
        after = r.after if r.after is not None else (i - 1,) if i else ()
        ends = [end[j] for j in after if j != without]
        return np.maximum.reduce(ends) if ends else begin

    def watch(self, r: Ready) -> recurrence.Watch | None:
        """Return what notes each message of the chips to record, or nothing if there are none."""
        if not len(self.record):
            return None
        run, count = len(self.runs) - 1, len(self.begin)
        rows = np.arange(2 * len(self.net.axes) * count + 1)

        def note(move: Move, begin: Array, ends: Array) -> None:
            links = rows[move.links].reshape(move.seconds.shape)
            shown = np.broadcast_to(begin, ends.shape)
            for row in range(len(ends)):
                for chip in self.record:
                    if move.bytes[row, chip]:
                        axis, sign = divmod(int(links[row, chip]) // count, 2)
                        self.sent.append(Sent(r.operation.name, int(chip), self.net.axes[axis], -1 if sign else 1,
                                              float(shown[row, chip]), float(ends[row, chip]), float(move.bytes[row, chip]), run))
        return note
