"""Private lanes of a run whose messages share links: a stage runs by the recurrence on all lanes whose chips are all there."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np

from torussim.engine import recurrence
from torussim.engine.agenda import COMPLETE, Agenda
from torussim.engine.network import Network
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
        self._moved: dict[int, Array] = {}  # by stage, (chips,) the bytes that it moves on the lane of each number

    def fluid(self, turn: Turn, i: int, k: int) -> Array:
        """Return (chips,) whether the lane of a chip in a stage is fluid."""
        stage = turn.ready[i].stages[k]
        if id(stage) not in self._fluid:
            self._fluid[id(stage)] = fluid_chips(self.planner, stage, self.shared.fluid)
        return self._fluid[id(stage)]

    def line_up(self, turn: Turn) -> None:
        """Put the stages of a turn behind those of the turns before."""
        for i, r in enumerate(turn.ready):
            for k, stage in enumerate(r.stages):
                for name in stage.lane.axes:
                    axis = self.planner.grid.axis(name)
                    turn.order[i][k][axis] = len(self.order[axis])
                    self.order[axis].append((turn, i, k))

    def run(self, turn: Turn, i: int, k: int) -> None:
        """Run a stage on the private lanes on which every chip may send, in the order of their queues."""
        stage, fluid = turn.ready[i].stages[k], self.fluid(turn, i, k)
        base = turn.base[i][k]
        lanes = self.planner.lanes(stage.lane.axes)
        late = np.bincount(lanes, np.isnan(base) | fluid | turn.done[i][k], minlength=self.count) > 0
        here = ~late[lanes]
        for axis, place in turn.order[i][k].items():
            here &= self.over[axis] == place
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
        self.agenda.add(turn.number, i, k, COMPLETE, chips, complete[chips])
        for axis, place in turn.order[i][k].items():
            self.over[axis][here] += 1
            if place + 1 < len(self.order[axis]):
                other, j, stage_after = self.order[axis][place + 1]
                if not np.isnan(other.base[j][stage_after]).all():
                    self.agenda.look_again(other.number, j, stage_after)

    def postponed(self, turn: Turn, i: int, k: int, lanes: Array, base: Array) -> bool:
        """Return whether lanes can wait: nothing ends on them before its last chip is there, and the network acts before.

        Where a stage moves nothing, as on healthy rings when broken ones run as lines, each chip ends as it comes.
        """
        stage = turn.ready[i].stages[k]
        if id(stage) not in self._moved:
            moved = sum((move.bytes.sum(axis=0) for move in stage.moves), np.zeros(self.count))
            self._moved[id(stage)] = np.bincount(self.planner.lanes(stage.lane.axes), moved, minlength=self.count)
        last = np.full(self.count, -np.inf)
        np.maximum.at(last, lanes, base)
        last[self._moved[id(stage)] == 0] = -np.inf
        earliest = float(last[lanes].min())
        if earliest <= max(self.network.next(), self.until):
            self.idle.pop((turn.number, i, k), None)
            return False
        self.idle[turn.number, i, k] = earliest
        return True

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
