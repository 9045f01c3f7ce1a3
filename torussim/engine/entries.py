"""The queues of hops in fluid lanes, made once for each list of operations: the transfers that each hop sends, in order.

What never has to be looked at is left out. All transfers of a stage on a hop have one sender and one receiver, and go and come
in order: only the first of them has to wait until its chip may send, and only the last tells when all are there.
"""

from __future__ import annotations

from collections import Counter
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
    told: bool  # somebody else than those that pass it on is told, or several pass it on
    onward: Entry | None  # the first that passes it on
    others: tuple[Entry, ...]  # and the others
    then: Entry | None  # the next one in the queue
    left: int  # it, and all that are behind it


def entries(turn: Turn, planner: Planner, shared: Shared) -> dict[int, Entry]:
    """Return the first transfer of every hop that has one, the same in every turn of a list."""
    rate, latency, alone = planner.rate.ravel().tolist(), shared.paths.latency.tolist(), shared.alone.tolist()
    rows = [0, *accumulate(map(len, turn.base))]  # of each operation, its first stage
    fed = {(i, key): row for row, (i, key) in enumerate(((i, key) for i in turn.fed for key in turn.fed[i]), rows[-1])}
    first = list(accumulate(map(len, turn.came), initial=(rows[-1] + len(fed)) * planner.count))  # and its first transfer
    transfers = [(i, t) for i, ready in enumerate(turn.ready) for t in shared.transfers[ready.operation.name]]
    many = Counter((i, t.stage, t.hop, t.receiver) for i, t in transfers)
    seen = Counter[tuple[int, int, int, int]]()
    onward: dict[int, list[Entry]] = {}
    heads: dict[int, Entry] = {}
    places, lengths = dict[int, int](), dict[float, float]()  # equal numbers are one object, which the processor has at hand
    for i, t in reversed(transfers):  # what comes after is made before
        here, partner = (i, t.stage, t.hop, t.receiver), turn.ready[i].partner
        row = (rows[i] + t.stage) * planner.count
        seen[here] += 1
        causes = [] if t.after is None else [first[i] + t.after]
        if seen[here] == many[here]:
            causes.append(row + t.chip)
        causes += [len(turn.causes) - 1] if not causes else []
        causes += [(fed[i, t.key]) * planner.count + t.chip] if i in turn.fed else []
        causes = [places.setdefault(place, place) for place in causes]
        number, then = places.setdefault(first[i] + t.number, first[i] + t.number), heads.get(t.hop)
        seconds = t.bytes / rate[t.hop] if alone[t.hop] else None
        further = onward.pop(number, [])
        closes, shard = many[here] if seen[here] == 1 else 0, partner is not None and partner > i
        heads[t.hop] = entry = Entry(
            operation=i, transfer=t, hop=places.setdefault(t.hop, t.hop), cause=causes[0], also=tuple(causes[1:]),
            seconds=None if seconds is None else lengths.setdefault(seconds, seconds),
            latency=lengths.setdefault(latency[t.hop], latency[t.hop]), number=number,
            to=places.setdefault(row + t.receiver, row + t.receiver), bytes=lengths.setdefault(t.bytes, t.bytes),
            closes=closes, shard=shard, told=bool(closes or shard or further[1:]),
            onward=further[0] if further else None, others=tuple(further[1:]), then=then, left=1 + (then.left if then else 0))
        if t.after is not None:
            onward.setdefault(first[i] + t.after, []).append(entry)
    return heads
