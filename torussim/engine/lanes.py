"""Private lanes of a run whose messages share links: a stage runs by the recurrence on all lanes whose chips are all there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf
from typing import Any

import numpy as np

from torussim.engine import recurrence
from torussim.engine.agenda import COMPLETE, Agenda
from torussim.engine.network import Network
from torussim.engine.numbers import Numbers, numbers
from torussim.engine.plan import Planner
from torussim.engine.ready import Move
from torussim.engine.routed import Shared, fluid_chips
from torussim.engine.turn import Turn

Array = np.ndarray[Any, Any]
Sending = Callable[[str, int, int, float, float, float, int], None]  # operation, hop, chip, start, end, bytes, run
Place = tuple[int, int, int]  # turn, operation, stage


class Gathering:
    """The lanes of a stage in a turn: how many of their chips are not there yet, never 0 on fluid ones, and the last that is."""

    def __init__(self, lacking: Array) -> None:
        self.lacking, self.last = lacking, np.full(len(lacking), -np.inf)
        self.singly = numbers(self.lacking), numbers(self.last)


class Lanes:
    """`free`: (hops + 1,) since when each hop is free, for all lanes."""

    def __init__(self, planner: Planner, shared: Shared, agenda: Agenda, network: Network, free: Array,
                 sending: Sending | None) -> None:
        self.planner, self.shared, self.agenda, self.network, self.sending = planner, shared, agenda, network, sending
        self.count, self.free = planner.count, free
        self.chips = np.arange(planner.count)  # a lane has the number of one of its chips
        self.order: list[list[tuple[Turn, int, int]]] = [[] for _ in planner.grid.axes]  # the stages of each axis
        self.over = np.zeros((len(planner.grid.axes), self.count), int)  # how many of them are over
        self.idle: dict[Place, float] = {}  # stages whose lanes can wait, until this time
        self.until = -inf  # the time until which lanes are run at once
        self._fluid: dict[int, Array] = {}  # by stage
        self._moved: dict[int, Array] = {}
        self._singly: dict[int, tuple[Numbers, Numbers, Numbers]] = {}  # by stage: whether chips' lanes are fluid, lanes, bytes
        self._missing: dict[int, Array] = {}
        self._gathering: dict[Place, Gathering] = {}

    def fluid(self, turn: Turn, i: int, k: int) -> Array:
        """Return (chips,) whether the lane of a chip in a stage is fluid."""
        stage = turn.ready[i].stages[k]
        if id(stage) not in self._fluid:
            self._fluid[id(stage)] = fluid_chips(self.planner, stage, self.shared.fluid)
        return self._fluid[id(stage)]

    def singly(self, turn: Turn, i: int, k: int) -> tuple[Numbers, Numbers, Numbers]:
        """Return the same for looking at single chips, and their lanes, and the bytes that move on each lane."""
        stage = turn.ready[i].stages[k]
        if id(stage) not in self._singly:
            arrays = self.fluid(turn, i, k), self.planner.lanes(stage.lane.axes), self.moved(turn, i, k)
            self._singly[id(stage)] = numbers(arrays[0]), numbers(arrays[1]), numbers(arrays[2])
        return self._singly[id(stage)]

    def line_up(self, turn: Turn) -> None:
        """Put the stages of a turn behind those of the turns before."""
        for i, r in enumerate(turn.ready):
            for k, stage in enumerate(r.stages):
                for name in stage.lane.axes:
                    axis = self.planner.grid.axis(name)
                    turn.order[i][k][axis] = len(self.order[axis])
                    self.order[axis].append((turn, i, k))

    def based(self, turn: Turn, i: int, k: int, chips: Array, times: Array) -> None:
        """Note chips of private lanes that may send from now on, and run the lanes whose last chip is there.

        They can wait until the network acts, for others to come: nothing ends on them before their last chip is there.
        """
        gathering = self.gathering(turn, i, k)
        lane = self.planner.lanes(turn.ready[i].stages[k].lane.axes)[chips]
        np.subtract.at(gathering.lacking, lane, 1)
        np.maximum.at(gathering.last, lane, times)
        full = lane[gathering.lacking[lane] == 0]
        if len(full):
            self.filled(turn, i, k, self.earliest(turn, i, k, full))

    def based_singly(self, turn: Turn, i: int, k: int, chips: Iterable[tuple[int, float]]) -> None:
        """Do the same chip by chip, for a few chips and the times since when they may send."""
        lacking, last = self.gathering(turn, i, k).singly
        _, lanes, moved = self.singly(turn, i, k)
        full = list[int]()
        for chip, time in chips:
            lane = lanes[chip]
            last[lane] = max(last[lane], time)
            lacking[lane] = left = lacking[lane] - 1
            if not left:
                full.append(lane)
        if full:
            self.filled(turn, i, k, min(last[lane] if moved[lane] > 0 else -inf for lane in full))

    def filled(self, turn: Turn, i: int, k: int, earliest: float) -> None:
        """Run the lanes of a stage after the last chips of some have come, but for lanes that can all wait for others."""
        idle = self.idle.get((turn.number, i, k))
        if idle is None or not self.postponed(turn, i, k, min(earliest, idle)):
            self.run(turn, i, k)

    def gathering(self, turn: Turn, i: int, k: int) -> Gathering:
        """Return how far the lanes of a stage are."""
        found = self._gathering.get((turn.number, i, k))
        if found is None:
            found = self._gathering[turn.number, i, k] = Gathering(self.missing(turn, i, k).copy())
        return found

    def missing(self, turn: Turn, i: int, k: int) -> Array:
        """Return how many chips have to come on each lane of a stage, more than there are on fluid ones."""
        stage = turn.ready[i].stages[k]
        if id(stage) not in self._missing:
            lanes, fluid = self.planner.lanes(stage.lane.axes), self.fluid(turn, i, k)
            more = self.count * np.bincount(lanes, fluid, self.count).astype(int)
            self._missing[id(stage)] = np.bincount(lanes, minlength=self.count) + more
        return self._missing[id(stage)]

    def run(self, turn: Turn, i: int, k: int) -> None:
        """Run a stage on the private lanes on which every chip may send, in the order of their queues."""
        stage, base = turn.ready[i].stages[k], turn.base[i][k]
        lanes = self.planner.lanes(stage.lane.axes)
        here = (self.gathering(turn, i, k).lacking == 0)[lanes] & ~turn.done[i][k]
        for axis, place in turn.order[i][k].items():
            here &= self.over[axis] == place
        if not here.any() or self.postponed(turn, i, k, self.earliest(turn, i, k, lanes[here & (lanes == self.chips)])):
            return
        gathers = turn.ready[i].partner is not None and i not in turn.fed
        due: dict[recurrence.Key, Array] | None = {} if gathers else None
        free = self.free if here.all() else self.free.copy()
        complete = recurrence.phase(stage, np.where(here, base, 0.0), free, turn.fed.get(i), due, self.watch(turn, i, here))
        if free is not self.free:
            for axis in turn.order[i][k]:
                rows = slice(2 * axis * self.count, 2 * (axis + 1) * self.count)
                np.copyto(self.free[rows].reshape(2, -1), free[rows].reshape(2, -1), where=here)
        for key, arrived in (due or {}).items():
            kept = turn.pieces.setdefault(i, {}).setdefault(key, np.full(self.count, -np.inf))
            kept[here] = np.maximum(kept, arrived)[here]
        turn.done[i][k] |= here
        if (turn.done[i][k] | self.fluid(turn, i, k)).all():
            del self._gathering[turn.number, i, k]
        chips = np.flatnonzero(here)
        self.agenda.add(turn.number, i, k, COMPLETE, chips, complete[chips])
        for axis, place in turn.order[i][k].items():
            self.over[axis][here] += 1
            if place + 1 < len(self.order[axis]):
                other, j, stage_after = self.order[axis][place + 1]
                if not np.isnan(other.base[j][stage_after]).all():
                    self.agenda.look_again(other.number, j, stage_after)

    def earliest(self, turn: Turn, i: int, k: int, lanes: Array) -> float:
        """Return when something ends on lanes whose chips are all there, at the earliest.

        Where a stage moves nothing, as on healthy rings when broken ones run as lines, each chip ends as it comes.
        """
        return float(np.where(self.moved(turn, i, k)[lanes] > 0, self.gathering(turn, i, k).last[lanes], -np.inf).min())

    def postponed(self, turn: Turn, i: int, k: int, earliest: float) -> bool:
        """Return whether the lanes of a stage can wait for the network to act before something ends on them."""
        if earliest <= max(self.network.next(), self.until):
            self.idle.pop((turn.number, i, k), None)
            return False
        self.idle[turn.number, i, k] = earliest
        return True

    def moved(self, turn: Turn, i: int, k: int) -> Array:
        """Return the bytes that a stage moves on each lane."""
        stage = turn.ready[i].stages[k]
        if id(stage) not in self._moved:
            moved = sum((move.bytes.sum(axis=0) for move in stage.moves), np.zeros(self.count))
            self._moved[id(stage)] = np.bincount(self.planner.lanes(stage.lane.axes), moved, minlength=self.count)
        return self._moved[id(stage)]

    def wake(self, now: float) -> bool:
        """Run the lanes that cannot wait any longer; return whether there are any."""
        if not self.idle:
            return False
        ripe = [place for place, earliest in self.idle.items() if earliest <= now]
        if ripe:
            self.until = now
        for place in ripe:
            self.agenda.look_again(*place)
        return bool(ripe)

    def watch(self, turn: Turn, i: int, here: Array) -> recurrence.Watch | None:
        """Return what notes the messages of private lanes where a stage is run `here`."""
        sending = self.sending
        if sending is None:
            return None
        rows, name = np.arange(len(self.free)), turn.ready[i].operation.name

        def note(move: Move, begin: Array, end: Array) -> None:
            hops = rows[move.links].reshape(move.seconds.shape)
            for row, chip in np.argwhere((move.bytes > 0) & here).tolist():
                sending(name, int(hops[row, chip]), chip, float(np.broadcast_to(begin, end.shape)[row, chip]),
                        float(end[row, chip]), float(move.bytes[row, chip]), turn.run)
        return note

    def behind(self) -> Array:
        """Return (axes, chips) how many stages are left on each private lane."""
        many = np.array([len(order) for order in self.order])[:, None]
        return np.where(self.shared.fluid, 0, many - self.over)
