"""Fluid lanes, on which stages run transfer by transfer: every hop has a queue, and the head of it is a flow.

A hop whose link nobody else uses sends at its bandwidth, without the network.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

import numpy as np

from torussim.engine.agenda import COMPLETE, Agenda
from torussim.engine.lanes import Sending
from torussim.engine.network import Network
from torussim.engine.plan import Planner
from torussim.engine.routed import Shared, Transfer
from torussim.engine.turn import Turn

Array = np.ndarray[Any, Any]


class Queues:
    """`free`: (hops,) since when each hop is free, for all lanes."""

    def __init__(self, planner: Planner, shared: Shared, agenda: Agenda, network: Network, free: Array,
                 sending: Sending | None) -> None:
        self.planner, self.shared, self.agenda, self.network, self.sending = planner, shared, agenda, network, sending
        self.count, self.free, self.rate = planner.count, free, planner.rate.ravel()
        self.queue: list[deque[tuple[Turn, int, Transfer]]] = [deque() for _ in range(planner.rate.size)]
        self.pokes: list[int] = []  # hops whose head may be able to go
        self.going: set[int] = set()  # hops whose head is a flow, or will be at a time that is known

    def line_up(self, turn: Turn) -> None:
        """Put the transfers of a turn behind those of the turns before."""
        for i, r in enumerate(turn.ready):
            for transfer in self.shared.transfers[r.operation.name]:
                self.queue[transfer.hop].append((turn, i, transfer))

    def based(self, turn: Turn, i: int, k: int, chips: Array) -> None:
        """See what chips can send now that they may send what a stage has for them."""
        axes = [self.planner.grid.axis(a) for a in turn.ready[i].stages[k].lane.axes]
        self.pokes += [(2 * a + d) * self.count + c for c in chips.tolist() for a in axes for d in (0, 1)]

    def send(self) -> None:
        """Let all go that can."""
        while self.pokes:
            self.poke(self.pokes.pop())

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
                ended = partial(self.ended, turn, i, transfer, begin)
                self.network.later(begin, np.array([hop]), np.array([transfer.bytes]), ended)

    def ended(self, turn: Turn, i: int, transfer: Transfer, begin: float, _: Array, end: float) -> None:
        """Note that the flow of a hop has ended."""
        self.queue[transfer.hop].popleft()
        self.going.discard(transfer.hop)
        self.left(turn, i, transfer, begin, end)

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
            over = max(arrived[chip], turn.base[i][k][chip])
            self.agenda.add(turn.number, i, k, COMPLETE, np.array([chip]), np.array([over]))
        onwards: tuple[int, ...] = (transfer.hop - transfer.chip + chip,)  # along one axis it is passed on in the same direction
        if len(stage.lane.axes) > 1:
            onwards = tuple((2 * self.planner.grid.axis(a) + d) * self.count + chip for a in stage.lane.axes for d in (0, 1))
        self.pokes += (transfer.hop, *onwards)
