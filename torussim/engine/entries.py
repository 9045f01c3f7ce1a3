"""The queues of hops in fluid lanes, made once for each list of operations: the transfers that each hop sends, in order.

What never has to be looked at is left out. All transfers of a stage on a hop have one sender and one receiver, and go and come
in order: only the first of them has to wait until its chip may send, and only the last tells when all are there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import accumulate

from torussim.engine.plan import Planner
from torussim.engine.routed import Shared, Transfer
from torussim.engine.turn import Turn


@dataclass(slots=True, eq=False)
class Entry:
    """A transfer in the queue of its hop; numbers are places in `Turn.causes`."""

    operation: int
    transfer: Transfer
    hop: int
    cause: int  # what it waits for: that its chip may send, or the arrival of the transfer that it passes on
    also: tuple[int, ...]  # the other of the two, where it waits for both, and the piece of a looped matmul that feeds it
    seconds: float | None  # None if it is a flow
    latency: float
    number: int  # where its arrival goes
    to: int  # where in `Turn.causes`, `Turn.arrivals` and `Turn.lacks` the receiver has its numbers of the stage
    bytes: float
    closes: int  # the arrivals of its stage on its hop, if it is the last of them, else 0
    shard: bool  # a piece of a looped gather
    told: bool  # its arrival means more than that the next can pass it on
    onward: Entry | None  # what passes it on
    others: tuple[Entry, ...]  # if several do, the others
    then: Entry | None  # the next one in the queue
    left: int  # it, and all that are behind it


def entries(turn: Turn, planner: Planner, shared: Shared) -> dict[int, Entry]:
    """Return the first transfer of every hop that has one, the same in every turn of a list."""
    rate, latency, alone = planner.rate.ravel().tolist(), shared.paths.latency.tolist(), shared.alone.tolist()
    rows = [0, *accumulate(map(len, turn.base))]  # of each operation, its first stage
    keys = [(i, key) for i, pieces in turn.fed.items() for key in pieces]
    fed = {key: rows[-1] + n for n, key in enumerate(keys)}
    first = list(accumulate(map(len, turn.came), initial=(rows[-1] + len(fed)) * planner.count))  # and its first transfer
    transfers = [(i, t) for i, ready in enumerate(turn.ready) for t in shared.transfers[ready.operation.name]]
    many = Counter((i, t.stage, t.hop, t.receiver) for i, t in transfers)
    seen = Counter[tuple[int, int, int, int]]()
    onward = defaultdict[int, list[Entry]](list)
    heads: dict[int, Entry] = {}
    same = Same()
    for i, t in reversed(transfers):  # what comes after is made before
        here, partner = (i, t.stage, t.hop, t.receiver), turn.ready[i].partner
        row, number = (rows[i] + t.stage) * planner.count, first[i] + t.number
        seen[here] += 1
        is_last, is_first = seen[here] == 1, seen[here] == many[here]
        causes = list[int]()
        if t.after is not None:
            causes.append(first[i] + t.after)
        if is_first:
            causes.append(row + t.chip)
        if not causes:
            causes.append(len(turn.causes) - 1)
        if i in turn.fed:
            causes.append(fed[i, t.key] * planner.count + t.chip)
        closes, shard = many[here] if is_last else 0, partner is not None and partner > i
        further, then = onward.pop(number, []), heads.get(t.hop)
        entry = Entry(
            operation=i, transfer=t, hop=same.place(t.hop),
            cause=same.place(causes[0]), also=tuple(causes[1:]),
            seconds=same.length(t.bytes / rate[t.hop]) if alone[t.hop] else None,
            latency=same.length(latency[t.hop]), bytes=same.length(t.bytes),
            number=same.place(number), to=same.place(row + t.receiver),
            closes=closes, shard=shard, told=bool(closes or shard or further[1:]),
            onward=further[0] if further else None, others=tuple(further[1:]),
            then=then, left=1 + (then.left if then else 0))
        heads[t.hop] = entry
        if t.after is not None:
            onward[first[i] + t.after].append(entry)
    return heads


class Same:
    """Equal numbers as one object: the processor has it at hand when it is used again, which makes `send` a third faster."""

    def __init__(self) -> None:
        self.places: dict[int, int] = {}
        self.lengths: dict[float, float] = {}

    def place(self, place: int) -> int:
        """Return the one that is equal."""
        return self.places.setdefault(place, place)

    def length(self, length: float) -> float:
        """Return the one that is equal."""
        return self.lengths.setdefault(length, length)
