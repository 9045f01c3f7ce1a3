"""Fluid lanes, on which stages run transfer by transfer: every hop has a queue, and the head of it is a flow.

A hop whose link nobody else uses sends at its bandwidth, without the network.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Any

import numpy as np

from torussim.engine.agenda import COMPLETE, SHARD, Agenda
from torussim.engine.lanes import Sending
from torussim.engine.network import Network
from torussim.engine.plan import Planner
from torussim.engine.routed import Shared, Transfer
from torussim.engine.turn import Turn

Array = np.ndarray[Any, Any]
Line = list[tuple[int, Transfer]]  # operations and their transfers, in queue order


class Queues:
    """`free`: (hops,) since when each hop is free, for all lanes."""

    def __init__(self, planner: Planner, shared: Shared, agenda: Agenda, network: Network, free: Array,
                 sending: Sending | None) -> None:
        self.planner, self.shared, self.agenda, self.network, self.sending = planner, shared, agenda, network, sending
        self.count, self.free = planner.count, free
        self.rate, self.latency = planner.rate.ravel().tolist(), shared.paths.latency[:planner.rate.size].tolist()
        self.alone = shared.alone.tolist()
        self.lines: dict[int, dict[int, Line]] = {}  # by list of operations, by hop
        self.queue: dict[int, deque[tuple[Turn, Line]]] = {}  # by hop, what it sends in each turn
        self.place = [0] * planner.rate.size  # by hop: how many transfers of its first turn have gone
        self.pokes: list[int] = []  # hops whose head may be able to go
        self.going: set[int] = set()  # hops whose head is a flow, or will be at a time that is known

    def line_up(self, turn: Turn) -> None:
        """Put the transfers of a turn behind those of the turns before."""
        lines = self.lines.get(id(turn.ready))
        if lines is None:
            lines = self.lines[id(turn.ready)] = {}
            for i, r in enumerate(turn.ready):
                for transfer in self.shared.transfers[r.operation.name]:
                    lines.setdefault(transfer.hop, []).append((i, transfer))
        for hop, line in lines.items():
            self.queue.setdefault(hop, deque()).append((turn, line))

    def lengths(self) -> Array:
        """Return (hops,) how many transfers each hop has yet to send."""
        left = -np.array(self.place)
        for hop, queue in self.queue.items():
            for _, line in queue:
                left[hop] += len(line)
        return left

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
        queue = self.queue.get(hop)
        while queue and hop not in self.going:
            turn, line = queue[0]
            i, transfer = line[self.place[hop]]
            begin = turn.base[i][transfer.stage].item(transfer.chip)
            if begin != begin:
                return
            if transfer.after is not None:
                came = turn.came[i][transfer.after]
                if came != came:
                    return
                if came > begin:
                    begin = came
            free = self.free.item(hop)
            if free > begin:
                begin = free
            if i in turn.fed:
                begin = max(begin, turn.fed[i][transfer.key].item(transfer.chip))
            if self.alone[hop]:
                self.left(turn, i, transfer, begin, begin + transfer.bytes / self.rate[hop])
            else:
                self.going.add(hop)
                ended = partial(self.ended, turn, i, transfer, begin)
                self.network.later(begin, np.array([hop]), np.array([transfer.bytes]), ended)

    def ended(self, turn: Turn, i: int, transfer: Transfer, begin: float, _: Array, end: float) -> None:
        """Note that the flow of a hop has ended."""
        self.going.discard(transfer.hop)
        self.left(turn, i, transfer, begin, end)
        self.pokes.append(transfer.hop)

    def left(self, turn: Turn, i: int, transfer: Transfer, begin: float, end: float) -> None:
        """Note that a transfer, the head of its queue, has left its hop, and when it arrives."""
        hop, chip, k = transfer.hop, transfer.receiver, transfer.stage
        self.free[hop] = end
        self.place[hop] += 1
        if self.place[hop] == len(self.queue[hop][0][1]):
            self.queue[hop].popleft()
            self.place[hop] = 0
        if self.sending:
            self.sending(turn.ready[i].operation.name, hop, transfer.chip, begin, end, transfer.bytes, turn.run)
        arrival = turn.came[i][transfer.number] = end + self.latency[hop]
        if turn.ready[i].partner is not None and i not in turn.fed:
            self.piece(turn, i, transfer, arrival)
        arrived, due = turn.arrived[i][k], turn.due[i][k]
        latest = max(arrived.item(chip), arrival)
        arrived[chip] = latest
        missing = due.item(chip) - 1
        due[chip] = missing
        if not missing:
            base = turn.base[i][k].item(chip)
            if base == base:
                self.agenda.add_chip(turn.number, i, k, COMPLETE, chip, max(latest, base))
        self.pokes += transfer.onward

    def piece(self, turn: Turn, i: int, transfer: Transfer, arrival: float) -> None:
        """Note that a shard has arrived of a looped all-gather."""
        pieces = turn.pieces.setdefault(i, {})
        if transfer.key not in pieces:
            pieces[transfer.key] = np.full(self.count, -np.inf)
        latest = pieces[transfer.key]
        latest[transfer.receiver] = max(latest.item(transfer.receiver), arrival)
        if transfer.awaited:
            self.agenda.add_chip(turn.number, i, 0, SHARD, transfer.receiver, arrival)
