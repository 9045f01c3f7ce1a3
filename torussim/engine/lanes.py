"""Private lanes of a run whose messages share links: a stage runs by the recurrence on all lanes whose chips are all there."""

from __future__ import annotations

from collections.abc import Callable
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


class Lanes:
    """`free`: (hops + 1,) since when each hop is free, for all lanes."""

    def __init__(self, planner: Planner, shared: Shared, agenda: Agenda, network: Network, free: Array,
                 sending: Sending | None) -> None:
        self.planner, self.shared, self.agenda, self.network, self.sending = planner, shared, agenda, network, sending
        self.count, self.free = planner.count, free
        self.order: list[list[tuple[Turn, int, int]]] = [[] for _ in planner.grid.axes]  # the stages of each axis
        self.over = np.zeros((len(planner.grid.axes), self.count), int)  # how many of them are over
        self.idle: dict[Place, float] = {}  # stages whose lanes can wait, until this time
        self.until = -inf  # the time until which lanes are run at once
        self._fluid: dict[int, Array] = {}  # by stage
        self._fluid_numbers: dict[int, Numbers] = {}
        self._moved: dict[int, Array] = {}
        self._lacking: dict[Place, tuple[Array, Array]] = {}

    def fluid(self, turn: Turn, i: int, k: int) -> Array:
        """Return (chips,) whether the lane of a chip in a stage is fluid."""
        stage = turn.ready[i].stages[k]
        if id(stage) not in self._fluid:
            self._fluid[id(stage)] = fluid_chips(self.planner, stage, self.shared.fluid)
        return self._fluid[id(stage)]

    def fluid_numbers(self, turn: Turn, i: int, k: int) -> Numbers:
        """Return the same, for looking at single chips."""
        stage = turn.ready[i].stages[k]
        if id(stage) not in self._fluid_numbers:
            self._fluid_numbers[id(stage)] = numbers(self.fluid(turn, i, k))
        return self._fluid_numbers[id(stage)]

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
        lacking, last = self.lacking(turn, i, k)
        lane = self.planner.lanes(turn.ready[i].stages[k].lane.axes)[chips]
        np.subtract.at(lacking, lane, 1)
        np.maximum.at(last, lane, times)
        full = lane[lacking[lane] == 0]
        if not len(full):
            return
        idle = self.idle.get((turn.number, i, k))
        if idle is None or not self.postponed(turn, i, k, full, idle):
            self.run(turn, i, k)

    def based_singly(self, turn: Turn, i: int, k: int, there: list[tuple[int, float]]) -> None:
        """Do the same for a few chips and the times since when they may send."""
        chips, times = zip(*there)
        self.based(turn, i, k, np.array(chips), np.array(times))

    def lacking(self, turn: Turn, i: int, k: int) -> tuple[Array, Array]:
        """Return, of each lane of a stage, how many chips are not there yet (never 0 if it is fluid), and the last that is."""
        place = turn.number, i, k
        if place not in self._lacking:
            stage = turn.ready[i].stages[k]
            lanes, fluid = self.planner.lanes(stage.lane.axes), self.fluid(turn, i, k)
            lacking = np.bincount(lanes, minlength=self.count) + self.count * np.bincount(lanes, fluid, self.count).astype(int)
            self._lacking[place] = lacking, np.full(self.count, -np.inf)
        return self._lacking[place]

    def run(self, turn: Turn, i: int, k: int) -> None:
        """Run a stage on the private lanes on which every chip may send, in the order of their queues."""
        stage, base = turn.ready[i].stages[k], turn.base[i][k]
        lanes = self.planner.lanes(stage.lane.axes)
        here = (self.lacking(turn, i, k)[0][lanes] == 0) & ~turn.done[i][k]
        for axis, place in turn.order[i][k].items():
            here &= self.over[axis] == place
        if not here.any() or self.postponed(turn, i, k, lanes[here]):
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
        if (turn.done[i][k] | self.fluid(turn, i, k)).all():
            del self._lacking[turn.number, i, k]
        chips = np.flatnonzero(here)
        self.agenda.add(turn.number, i, k, COMPLETE, chips, complete[chips])
        for axis, place in turn.order[i][k].items():
            self.over[axis][here] += 1
            if place + 1 < len(self.order[axis]):
                other, j, stage_after = self.order[axis][place + 1]
                if not np.isnan(other.base[j][stage_after]).all():
                    self.agenda.look_again(other.number, j, stage_after)

    def postponed(self, turn: Turn, i: int, k: int, lanes: Array, others: float = inf) -> bool:
        """Return whether lanes, and others until a time, can wait for the network to act before their last chip is there.

        Where a stage moves nothing, as on healthy rings when broken ones run as lines, each chip ends as it comes.
        """
        last = np.where(self.moved(turn, i, k)[lanes] > 0, self.lacking(turn, i, k)[1][lanes], -np.inf)
        earliest = min(float(last.min()), others)
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
