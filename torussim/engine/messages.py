"""Messages of routed all-to-alls in the fluid network: every chip to every other, all at once or one after another."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from torussim.engine.agenda import COMPLETE, Agenda
from torussim.engine.network import Network
from torussim.engine.routed import Shared
from torussim.engine.turn import Turn

Array = np.ndarray[Any, Any]


class Messages:
    """Message m of chip c is m * chips + c."""

    def __init__(self, shared: Shared, count: int, agenda: Agenda, network: Network) -> None:
        self.shared, self.count, self.agenda, self.network = shared, count, agenda, network

    def begin(self, turn: Turn, i: int, chips: Array, times: Array) -> None:
        """Let chips send to all others of their group: everything at once, or the first shift."""
        direct = self.shared.direct[turn.ready[i].operation.name]
        count = 1 if direct.shifts else len(direct.receiver)
        if direct.shifts and i not in turn.sent:
            turn.sent[i], turn.got[i] = np.full((2, *direct.receiver.shape), np.nan)
        for time in np.unique(times):
            here = chips[times == time]
            self.send(turn, i, (np.arange(count)[:, None] * self.count + here).ravel(), float(time))

    def send(self, turn: Turn, i: int, messages: Array, time: float) -> None:
        """Send messages at a time."""
        direct = self.shared.direct[turn.ready[i].operation.name]
        sizes = np.full(len(messages), direct.bytes)
        self.network.later(time, direct.first + messages, sizes, partial(self.left, turn, i, messages))

    def left(self, turn: Turn, i: int, messages: Array, which: Array, now: float) -> None:
        """Note messages that have left now, `which` of those that were sent together, and when they arrive."""
        messages = messages[which]
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
                    self.send(turn, i, np.array([(done + 1) * self.count + chip]), ready)
        arrived, due = turn.arrived[i][0], turn.due[i][0]
        np.maximum.at(arrived, receiver, arrival)
        np.subtract.at(due, receiver, 1)
        over = np.unique(receiver)
        over = over[(due[over] == 0) & ~np.isnan(turn.base[i][0][over])]
        self.agenda.add(turn.number, i, 0, COMPLETE, over, np.maximum(turn.base[i][0][over], arrived[over]))
