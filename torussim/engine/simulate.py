"""Run a program on a network with SimPy, and find out when its blocks repeat.

On private links one cohort holds all chips: one SimPy process steps it from operation to operation, and its clock is a vector.
Where links are shared every chip has its own clock, and SimPy steps the fluid network (`shared_run`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import simpy

from torussim.chips import Chip
from torussim.engine import max_plus
from torussim.engine.max_plus import State
from torussim.engine.plan import Planner
from torussim.engine.prepared import Prepared, prepared_of
from torussim.engine.ready import Move, Ready
from torussim.engine.routed import Shared, link_bytes
from torussim.engine.steady_state import Leap, Snapshot, SteadyState
from torussim.engine.unsent import moved
from torussim.program import Collective, Program
from torussim.timeline import Segment, Sent, Timeline, Work
from torussim.topology.grid import Grid

if TYPE_CHECKING:
    import networkx as nx

    from torussim.engine.shared_run import SharedRun

Array = np.ndarray[Any, Any]


def simulate(program: Program, topology: nx.DiGraph | Grid | Prepared, chip: Chip, *, start: Sequence[float] | None = None,
             pace: Sequence[float] | None = None, repeat: bool = True, fold: bool = True, record: Sequence[int] = (),
             progress: Callable[[int, int], None] | None = None) -> Timeline:
    """Return the timeline of one run of a program on every chip of a network.

    Parameters
    ----------
    program
        What every chip runs, as `build` makes it.
    topology
        The network: a graph, its Grid, or its Prepared, with which many runs on one network are quicker.
    chip
        The chip of every node.
    start
        The time at which each chip begins, (chips,) seconds; by default 0.
    pace
        The factor by which the computations of each chip take longer, (chips,); by default 1.
    repeat
        False: every repetition of a block is run, and none is leapt over when a state comes back.
    fold
        False: every chip is simulated, also those that nothing tells apart.
    record
        The indices of chips of which every message is kept, but for those of blocks that were left out.
    progress
        Called after each block with how many are done and how many there are.

    Returns
    -------
    Timeline
        The start and end of every operation on every chip, and the bytes of every link.

    Raises
    ------
    ProgramError, TopologyError
        If program and network do not fit.

    Examples
    --------
    >>> from torussim.chips import chip
    >>> from torussim.program import Collective, Program
    >>> from torussim.topology.builders import ring
    >>> gather = Program((Collective("gather", "all_gather", ("x",), 90e6),))
    >>> simulate(gather, ring(4, bandwidth=45e9), chip("ideal")).makespan
    0.00075
    """
    prepared = prepared_of(topology)
    whole = prepared.net
    begin = np.zeros(len(whole.chips)) if start is None else np.array(start, dtype=float)
    made = prepared.of(program, chip, begin, fold=fold, pace=None if pace is None else np.array(pace, dtype=float))
    program, net, planner, sections, through = made.program, made.net, made.planner, made.sections, made.through
    patience, wrong = dict[str, int](), True
    while wrong:  # once as a rule, again without leaps where a leap was wrong
        kept, env = _Kept(planner.grid, record), simpy.Environment()
        run: _Cohort | SharedRun
        if through is None:
            run = _Cohort(program, sections, planner, begin[net.own], repeat, kept, progress)
        else:
            from torussim.engine.shared_run import SharedRun  # it imports numba: half a second

            assert made.table is not None
            run = SharedRun(program, made.table, planner, through, begin[net.own], repeat=repeat, patience=patience,
                            record=sorted(kept.chips), sending=kept.note if len(record) else None, progress=progress)
        env.process(run.process(env))
        env.run()
        wrong = run.wrong is not None
        if run.wrong is not None:
            patience[run.wrong.section] = run.wrong.patience
    kept.sent = [sent for sent in kept.sent if not any(leap.first <= sent.run <= leap.first + leap.blocks for leap in run.leaps)]
    return _timeline(program, sections, whole, net, planner, through, run, begin, tuple(kept.sent))


def _timeline(program: Program, sections: Sequence[tuple[Ready, ...]], whole: Grid, net: Grid, planner: Planner,
              through: Shared | None, run: _Cohort | SharedRun, begin: Array, sent: tuple[Sent, ...]) -> Timeline:
    """Return the timeline of a run, for all chips and links."""
    carried = {operation.operation.name: times * link_bytes(operation, planner, through)[net.stands]
               for ready, (_, times) in zip(sections, program.sections()) for operation in ready
               if operation.sent is not None or operation.steps}
    if through is not None and through.later and not isinstance(run, _Cohort):
        names = [r.operation.name for ready in sections for r in ready]
        for name, more in zip(names, moved(through, run.unsent, len(net.links.source))):
            if name in carried:
                carried[name] = np.maximum(carried[name] + more, 0.0)
    total = sum(carried.values(), np.zeros(len(net.links.source)))
    segments = tuple(run.segments if net is whole else (replace(s, stands=net.orbit) for s in run.segments))
    latest = [s.ends.max(axis=0, initial=-np.inf) for s in segments]
    finish = np.maximum(begin, np.maximum.reduce([begin[net.own], *(latest[s] + offset for s, offset in run.runs)])[net.orbit])
    work = {r.operation.name: Work(*(np.broadcast_to(part, len(net.own))[net.orbit] for part in (r.work.busy, r.work.fixed)))
            for ready in sections for r in ready}
    rate = whole.links.bandwidth * planner.chip.link_efficiency
    if whole.links.events:
        rate = mean_bandwidth(whole, float(begin.min(initial=0.0)), float(finish.max(initial=0.0))) * planner.chip.link_efficiency
    busy = np.divide(total, rate, out=np.zeros(len(rate)), where=rate > 0)
    return Timeline(whole.chips, whole.axes, segments, tuple(run.runs), work, total, busy, begin, finish, run.events,
                    program.block_runs, run.simulated, program, sent, carried, len(net.own), run.flows, run.solves,
                    run.period, sum(leap.blocks for leap in run.leaps))


def mean_bandwidth(net: Grid, begin: float, end: float) -> Array:
    """Return (links,) the mean bandwidth of each link between two times, bytes/s, with the changes of mid-run.

    For a link that fails in between, the mean until its failure; 0 if it has failed before.
    """
    since, now = begin, net.links.bandwidth.copy()
    total, alive = np.zeros((2, len(now)))
    for time, event in [*((event.time, event) for event in net.links.events), (end, None)]:
        until = min(max(time, begin), end)
        total += now * (until - since)
        alive += (now > 0) * (until - since)
        since = until
        if event is not None:
            now[event.links] = event.bandwidth
    return np.divide(total, alive, out=now, where=alive > 0)


class _Kept:
    """The messages of the chips to record. The engine reports them by the hops of the chips that stand for others."""

    def __init__(self, net: Grid, record: Sequence[int]) -> None:
        self.net, self.sent = net, list[Sent]()
        self.chips: dict[int, list[int]] = {}
        for chip in record:
            self.chips.setdefault(int(net.orbit[chip]), []).append(int(chip))

    def note(self, name: str, hop: int, chip: int, begin: float, end: float, size: float, run: int) -> None:
        """Keep a message of a chip of the grid, if that chip is to be recorded."""
        axis, sign = divmod(hop // len(self.net.own), 2)
        for shown in self.chips.get(chip, ()):
            way = -1 if sign != self.net.mirrors.turned[axis, shown] else 1
            for direction in (way, -way) if self.net.twin[axis, chip] else (way,):
                self.sent.append(Sent(name, shown, self.net.axes[axis], direction, begin, end, size, run))


class _Cohort:
    """A run on private links: the generator `process` steps all chips at once."""

    def __init__(self, program: Program, sections: Sequence[tuple[Ready, ...]], planner: Planner, begin: Array, repeat: bool,
                 kept: _Kept, progress: Callable[[int, int], None] | None) -> None:
        self.program, self.ready, self.repeat, self.kept, self.progress = program, sections, repeat, kept, progress
        self.begin = begin
        links = np.full(planner.rate.size + 1, begin.min(initial=0))  # one more, for hops that send nothing
        self.state = State(begin.copy(), begin.copy(), links)
        self.segments: list[Segment] = []
        self.runs: list[tuple[int, float]] = []
        self.events = self.flows = self.solves = 0
        self.simulated = self.done = self.period = 0
        self.leaps: tuple[Leap, ...] = ()
        self.wrong: Leap | None = None

    def process(self, env: simpy.Environment) -> Generator[simpy.Event, None, None]:
        """Step all chips through prologue, blocks and epilogue; one event an operation."""
        prologue, *blocks, epilogue = zip(self.program.names(), self.ready)
        yield from self.section(env, *prologue)
        for (name, ready), (_, times) in zip(blocks, self.program.blocks):
            yield from self.block(env, name, ready, times)
        yield from self.section(env, *epilogue)

    def block(self, env: simpy.Environment, name: str, ready: tuple[Ready, ...],
              times: int) -> Generator[simpy.Event, None, None]:
        """Run a block a number of times, or until a state comes back: the times of all its further runs are then known."""
        first, steady, period = len(self.segments), SteadyState(), 0
        if not ready:
            return
        for done in range(times + 1):
            self.tell(done)
            if done == times:
                self.done += times
                return
            if self.repeat and times > 1:
                steady.note(self.snapshot())
                period, shift = steady.period()
            if period:
                break
            yield from self.section(env, name, ready)
            self.simulated += 1
        before = done - period
        for run in range(done, times):
            turns, which = divmod(run - before, period)
            self.runs.append((first + before + which, shift * turns))
        turns, which = divmod(times - before, period)
        last, unit, queues = steady.seen[len(steady.seen) - 1 - period + which].clocks
        self.state = State(last, unit, np.append(queues, 0.0)).copy(later=shift * turns)
        self.tell(times)
        self.done += times
        self.period = max(self.period, period)
        yield self.until(env, self.state.last)

    def tell(self, done: int) -> None:
        """Report the progress: the runs of the present block that are done, and of all earlier ones."""
        if self.progress:
            self.progress(self.done + done, self.program.block_runs)

    def snapshot(self) -> Snapshot:
        """Return the state on which the future depends; a queue that has been idle counts as free from now on."""
        now = self.state
        queues = np.maximum(now.links[:-1].reshape(-1, len(now.last)), now.last)
        return Snapshot(float(now.last.min()), (now.last.copy(), np.maximum(now.unit, now.last), queues.ravel()), (), ())

    def until(self, env: simpy.Environment, ends: Array) -> simpy.Event:
        """Return the event at which the last chip of the cohort has reached its end."""
        self.events += 1
        return env.timeout(max(0.0, float(ends.max()) - env.now))

    def section(self, env: simpy.Environment, name: str, ready: tuple[Ready, ...]) -> Generator[simpy.Event, None, None]:
        """Run one section on all chips, and keep its segment."""
        if not ready:
            return
        count, begin = len(self.begin), self.state.last
        start, end = np.empty((2, len(ready), count))
        self.runs.append((len(self.segments), 0.0))
        self.segments.append(Segment(name, tuple(r.operation for r in ready), start, end))
        for i, r in enumerate(ready):
            if r.partner is not None and r.partner > i:
                continue  # the first half of a loop runs together with the second
            if r.partner is not None:
                self.loop(ready, r.partner, i, start, end, begin)
            else:
                at = self.since(r, i, end, begin)
                if isinstance(r.operation, Collective):
                    start[i] = at
                    end[i] = max_plus.collective(r, at + r.work.fixed, self.state, watch=self.watch(r))
                else:
                    start[i] = np.maximum(at, self.state.unit)
                    end[i] = self.state.unit = start[i] + r.work.fixed + r.work.busy
            self.state.last = end[i]
            yield self.until(env, end[i])

    def loop(self, ready: tuple[Ready, ...], a: int, b: int, start: Array, end: Array, begin: Array) -> None:
        """Run operations a and b = a + 1: a matmul and the collective of its loop, in either order."""
        first, second = ready[a], ready[b]
        at = self.since(first, a, end, begin)
        others = self.since(second, b, end, begin, without=a)
        if isinstance(first.operation, Collective):
            start[a] = at
            end[a], start[b], end[b] = max_plus.gathering_loop(first, second, at, np.maximum(at, others), self.state,
                                                                 self.watch(first))
        else:
            start[a], end[a], start[b], end[b] = max_plus.scattering_loop(first, second, at, others, self.state,
                                                                            self.watch(second))

    def since(self, r: Ready, i: int, end: Array, begin: Array, without: int | None = None) -> Array:
        """Return the time at which all dependencies of operation i have ended, on each chip."""
        after = r.after if r.after is not None else (i - 1,) if i else ()
        ends = [end[j] for j in after if j != without]
        return np.maximum.reduce(ends) if ends else begin

    def watch(self, r: Ready) -> max_plus.Watch | None:
        """Return the function that notes the messages of the chips to record, None if there are none."""
        if not self.kept.chips:
            return None
        run, rows = len(self.runs) - 1, np.arange(len(self.state.links))

        def note(move: Move, begin: Array, ends: Array) -> None:
            links = rows[move.links].reshape(move.seconds.shape)
            shown = np.broadcast_to(begin, ends.shape)
            for row in range(len(ends)):
                for chip in self.kept.chips:
                    if move.bytes[row, chip]:
                        self.kept.note(r.operation.name, int(links[row, chip]), chip, float(shown[row, chip]),
                                       float(ends[row, chip]), float(move.bytes[row, chip]), run)
        return note
