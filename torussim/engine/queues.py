"""Fluid lanes, on which stages run transfer by transfer: every hop has a queue, and the head of it is a flow.

A hop whose link nobody else uses sends at its bandwidth, without the network.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from functools import partial
from math import nan
from typing import Any

import numpy as np

from torussim.engine.agenda import COMPLETE, SHARD, Agenda
from torussim.engine.entries import Entry, entries
from torussim.engine.lanes import Sending
from torussim.engine.network import Network
from torussim.engine.numbers import numbers
from torussim.engine.plan import Planner
from torussim.engine.routed import Shared
from torussim.engine.turn import Turn

Array = np.ndarray[Any, Any]


class Queues:
    """`free`: (hops,) since when each hop is free, for all lanes."""

    def __init__(self, planner: Planner, shared: Shared, agenda: Agenda, network: Network, free: Array,
                 sending: Sending | None) -> None:
        self.planner, self.shared, self.agenda, self.network, self.sending = planner, shared, agenda, network, sending
        self.count, self.free = planner.count, numbers(free)
        self.lines: dict[int, dict[int, Entry]] = {}  # by list of operations, by hop
        self.turn: list[Turn | None] = [None] * planner.rate.size  # by hop: the turn that it is in, and what it sends next
        self.head: list[Entry | None] = [None] * planner.rate.size
        self.queue = defaultdict[int, deque[tuple[Turn, Entry]]](deque)  # by hop: what it sends first in each turn after that
        self.pokes: list[int] = []  # hops whose head may be able to go
        self.going: dict[int, float] = {}  # hops whose head is a flow, or will be at a time that is known: its end, or nan

    def line_up(self, turn: Turn) -> None:
        """Put the transfers of a turn behind those of the turns before."""
        if id(turn.ready) not in self.lines:
            self.lines[id(turn.ready)] = entries(turn, self.planner, self.shared)
        for hop, first in self.lines[id(turn.ready)].items():
            self.queue[hop].append((turn, first))
            if self.head[hop] is None:
                self.next_turn(hop)

    def lengths(self) -> Array:
        """Return (hops,) how many transfers each hop has yet to send."""
        left = np.zeros(len(self.head), int)
        for hop, queue in self.queue.items():
            head = self.head[hop]
            left[hop] = sum(first.left for _, first in queue) + (head.left if head else 0)
        return left

    def based(self, turn: Turn, i: int, k: int, chips: Iterable[int]) -> None:
        """See what chips can send now that they may send what a stage has for them."""
        axes = [self.planner.grid.axis(a) for a in turn.ready[i].stages[k].lane.axes]
        self.pokes += [(2 * a + d) * self.count + c for c in chips for a in axes for d in (0, 1)]

    def send(self) -> None:
        """Let the head of every hop that was poked go, and those behind it, as far as it is known when they can.

        In a large network with a dead link this is where the time goes: what happens to every transfer is done without calls.
        """
        pokes, turns, heads, free, sending = self.pokes, self.turn, self.head, self.free, self.sending
        while pokes:
            hop = pokes.pop()
            turn, head = turns[hop], heads[hop]
            if turn is None or head is None:
                continue
            causes = turn.causes
            begin = causes[head.cause]
            if begin != begin:
                continue
            since = free[hop]
            if since > begin:
                begin = since
            if head.also:
                for also in head.also:
                    time = causes[also]
                    if time > begin or time != time:
                        begin = time
                if begin != begin:
                    continue
            seconds = head.seconds
            end = begin + seconds if seconds is not None else self.flow(head, begin)
            if end != end:
                continue
            if sending:
                self.note(turn, head, begin, end)
            free[hop] = end
            causes[head.number] = arrival = end + head.latency
            if head.told:
                self.tell(turn, head, arrival)
            heads[hop] = then = head.then
            if then is None:
                self.next_turn(hop)
                pokes.append(hop)
            else:
                known = causes[then.cause]
                if known == known:
                    pokes.append(hop)
            onward = head.onward
            if onward is not None:
                hop = onward.hop
                if heads[hop] is onward:
                    pokes.append(hop)

    def next_turn(self, hop: int) -> None:
        """Let a hop go on to the next turn in which it sends anything."""
        queue = self.queue[hop]
        self.turn[hop], self.head[hop] = queue.popleft() if queue else (None, None)

    def flow(self, head: Entry, begin: float) -> float:
        """Return when the flow at the head of a queue has ended, nan if it has not; if there is none yet, let it begin."""
        if head.hop not in self.going:
            self.going[head.hop] = nan
            self.network.later(begin, [head.hop], [head.bytes], partial(self.ended, head.hop))
        end = self.going[head.hop]
        if end == end:
            del self.going[head.hop]
        return end

    def ended(self, hop: int, _: Array, end: float) -> None:
        """Note that the flow of a hop has ended."""
        self.going[hop] = end
        self.pokes.append(hop)

    def note(self, turn: Turn, head: Entry, begin: float, end: float) -> None:
        """Tell of a transfer that has left its hop."""
        transfer = head.transfer
        if self.sending:
            self.sending(turn.ready[head.operation].operation.name, head.hop, transfer.chip, begin, end, transfer.bytes, turn.run)

    def tell(self, turn: Turn, head: Entry, arrival: float) -> None:
        """Tell all of an arrival but the first that passes it on."""
        if head.closes:
            self.close(turn, head, arrival)
        if head.shard:
            self.shard(turn, head, arrival)
        for other in head.others:
            self.pokes.append(other.hop)

    def close(self, turn: Turn, head: Entry, arrival: float) -> None:
        """Note the arrival of the last transfer of a stage on its hop."""
        to = head.to
        if arrival > turn.arrivals[to]:
            turn.arrivals[to] = arrival
        turn.lacks[to] = lacks = turn.lacks[to] - head.closes
        base = turn.causes[to]
        if not lacks and base == base:
            i, k, chip = head.operation, head.transfer.stage, head.transfer.receiver
            self.agenda.add_chip(turn.number, i, k, COMPLETE, chip, max(turn.arrivals[to], base))

    def shard(self, turn: Turn, head: Entry, arrival: float) -> None:
        """Note that a shard has arrived of a looped all-gather."""
        transfer = head.transfer
        pieces = turn.pieces.setdefault(head.operation, {})
        if transfer.key not in pieces:
            pieces[transfer.key] = np.full(self.count, -np.inf)
        latest = pieces[transfer.key]
        latest[transfer.receiver] = max(latest.item(transfer.receiver), arrival)
        if transfer.awaited:
            self.agenda.add_chip(turn.number, head.operation, 0, SHARD, transfer.receiver, arrival)
