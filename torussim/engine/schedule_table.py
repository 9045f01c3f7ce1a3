"""A program as tables of numbers for the event core: operations, stages, lanes, and the transfers of shared lanes.

Indices count through all sections (prologue, block, epilogue). Private lanes are described by rows, one row for each direction of
each step; all private lanes of a stage share its rows. Shared lanes are described by transfers, in the order of the queues of
their hops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from torussim.engine.plan import Planner
from torussim.engine.ready import Move, Ready, Stage
from torussim.engine.routed import Shared, fluid_chips, moves_of
from torussim.program import Compute

Array = np.ndarray[Any, Any]
END, START, ORDER = range(3)  # what an operation learns of a dependency: end, start, or only that it is known
COMPUTE, LOOPED, COLLECTIVE = range(3)  # kinds of operations

OPERATION = np.dtype([(name, np.int32) for name in (
    "kind", "partner", "last", "entering", "unit_first", "unit_last", "awaited", "fed", "gathers", "parts",
    "stage", "stages", "tell", "tells", "piece", "pieces")] + [("overhead", float)])
AWAITED = (OPERATION.names or ()).index("awaited")
STAGE = np.dtype([(name, np.int32) for name in ("operation", "then", "leads", "lanes", "place", "places",
                                                "direct")])  # direct: a step of routed messages, or -1
LANE_ROWS = np.dtype([("row", np.int32), ("rows", np.int32)])
TELL = np.dtype([("operation", np.int32), ("what", np.int32)])
PIECE = np.dtype([("key", np.int32), ("seconds", np.int32)])  # key: -1 for the own shard
LANE = np.dtype([("lead", np.int32), ("place", np.int32), ("first", np.int32), ("count", np.int32), ("shared", np.int32)])
PLACE = np.dtype([("axis", np.int32), ("place", np.int32)])  # a stage among the stages of its section on an axis
ROW = np.dtype([(name, np.int32) for name in ("parent", "came", "hop", "seconds", "late", "to", "bytes", "latest", "key",
                                              "feed")])
TRANSFER = np.dtype([(name, np.int32) for name in ("stage", "chip", "to", "hop", "parent", "child", "sibling", "key", "feed",
                                                   "awaited")] + [("bytes", float)])
HOP = np.dtype([("rate", float), ("latency", float), ("alone", np.int32)])
DIRECT = np.dtype([("path", np.int64), ("receiver", np.int64), ("messages", np.int32), ("passed", np.int64), ("bytes", float),
                   ("stage", np.int32), ("turns", np.int32), ("sizes", np.int64), ("piped", np.int32), ("head", np.int32)])
# passed: the first entry in State.passed of messages in shifts or piped; sizes: the first entry in Table.sizes, -1: all are
# `bytes`; piped: its messages pass on the messages of the stage before; head: the number in State.heads of a stage whose messages
# are passed on, else -1
SECTION = np.dtype([(name, np.int32) for name in ("operation", "operations", "unit_first", "unit_last")] + [
    (name, np.int64) for name in ("stage", "stages", "transfer", "transfers", "key", "keys", "passed", "passes", "head",
                                  "heads")])
# the first of its operations, stages, and so on, and the number of each; passed, passes: entries in State.passed


class Table(NamedTuple):
    """A program on a network; n chips, and lanes of g kinds (a kind for each tuple of axes)."""

    sections: Array
    operations: Array
    fixed: Array  # (n, operations) seconds
    busy: Array  # (n, operations) seconds
    missing: Array  # (operations, n) the number of dependencies of each
    tells: Array
    pieces: Array
    piece_seconds: Array  # (.., n)
    piece_idle: Array  # (.., n)
    stages: Array
    due: Array  # (stages, n) the number of arrivals in shared lanes
    lanes: Array  # (g, n) by chip: its lane's lead and its place in the lane; at a lead: the range of its chips in `members`
    members: Array  # (g, n) chips, lane by lane
    line: Array  # (axes, n) the first chip of the line of each chip along an axis
    places: Array
    order: Array  # (sections, axes, most) the stages on an axis in the order of their queue, -1 after the last
    lane_rows: Array  # (stages, n) at the lead of a private lane: its rows, those of one course; none if nothing is sent
    rows: Array
    row_hop: Array  # (.., n), lane by lane, as the next five: the arrays that rows refer to
    row_seconds: Array
    row_late: Array  # seconds; -inf where nothing is sent
    row_to: Array  # places in the lane
    row_came: Array  # the source of the data passed on: 2 * the place in the lane + the row behind `parent`
    row_bytes: Array
    transfers: Array
    queues: Array  # (sections, hops + 1) the first transfer of each hop
    hops: Array
    directs: Array
    receiver: Array  # of all messages of routed operations; -1: another message stands for it
    sizes: Array  # the bytes of messages of different sizes
    path_latency: Array  # (paths,) seconds
    keys: int
    passed: int  # the number of messages of operations in shifts, or piped
    heads: int  # the number of stages whose messages are passed on while they arrive

    def costing(self, ready: Sequence[Ready]) -> Table:
        """Return the table with the costs of other operations, which differ from the present ones in nothing else."""
        fixed, busy = (np.stack([np.broadcast_to(part, len(self.fixed)) for part in parts], axis=1) for parts in (
            [r.work.fixed for r in ready], [r.work.busy for r in ready]))
        return self._replace(fixed=fixed, busy=busy)


@dataclass
class Pool:
    """Rows of arrays, each kept once."""

    chips: int
    kind: Any
    rows: list[Array] = field(default_factory=list)
    known: dict[object, int] = field(default_factory=dict)

    def number(self, key: object, row: Array, order: Array) -> int:
        """Return the number of a row, in an order of its chips; `key` identifies the row."""
        if key not in self.known:
            self.known[key] = len(self.rows)
            self.rows.append(np.asarray(row[order], self.kind))
        return self.known[key]

    def array(self) -> Array:
        """Return (rows, chips)."""
        return np.array(self.rows, self.kind).reshape(-1, self.chips)


def waits(ready: Sequence[Ready]) -> list[dict[int, int]]:
    """Return, for each operation of a section, its dependencies and what it learns of each (END, START or ORDER)."""
    found, unit = [], list[int]()
    for i, r in enumerate(ready):
        partner = r.partner if r.partner is not None and r.partner < i else None
        after = r.after if r.after is not None else (i - 1,) if i else ()
        told = dict.fromkeys(sorted(set(after) - {partner}), END)
        if partner is not None:
            told[partner] = START
        if isinstance(r.operation, Compute):
            if unit and unit[-1] not in told:
                told[unit[-1]] = ORDER
            unit.append(i)
        found.append(told)
    return found


class Maker:
    """Makes a table, section by section."""

    def __init__(self, planner: Planner, shared: Shared) -> None:
        self.planner, self.shared, self.n = planner, shared, planner.count
        self.sections, self.operations, self.stages = list[Any](), list[Any](), list[Any]()
        self.fixed, self.busy, self.missing, self.due = list[Array](), list[Array](), list[Array](), list[Array]()
        self.tells, self.pieces, self.places, self.rows = list[Any](), list[Any](), list[Any](), list[Any]()
        self.order, self.lanes, self.members = list[list[list[int]]](), list[Array](), list[Array]()
        self.kinds: dict[tuple[str, ...], int] = {}
        self.lane_rows = list[Array]()
        self.transfers, self.queues, self.count = list[Array](), list[Array](), 0
        self.directs, self.receiver, self.messages, self.passed = list[Any](), list[Array](), 0, 0
        self.sizes, self.heads = list[Array](), 0
        self.keys = 0
        pools = {"hop": np.int32, "seconds": float, "late": float, "to": np.int32, "bytes": float, "came": np.int32}
        self.pools = {name: Pool(self.n, kind) for name, kind in pools.items()}
        self.piece_seconds, self.piece_idle = list[Array](), list[Array]()

    def section(self, ready: Sequence[Ready]) -> None:
        """Add a section."""
        first, self.made = len(self.operations), list[Array]()
        begun = len(self.stages), self.count, self.keys, self.passed, self.heads
        self.order.append([[] for _ in self.planner.grid.axes])
        told = waits(ready)
        unit = [i for i, r in enumerate(ready) if isinstance(r.operation, Compute)]
        keys = [self.keys_of(ready, i) for i in range(len(ready))]
        for i, r in enumerate(ready):
            listeners = [(first + j, what) for j, by in enumerate(told) for k, what in by.items() if k == i]
            fed = r.partner is not None and r.partner < i and not r.looped
            matmul = ready[r.partner] if r.partner is not None and r.partner > i else None
            singly = matmul is not None and bool(r.stages) and all(s.single for s in r.stages)
            awaited = {p.key: p.idle for p in matmul.pieces} if matmul is not None and singly else {}
            self.missing.append(np.full(self.n, max(1, len(told[i]))))
            begin = len(self.stages)
            self.routed(first + i, r)
            phases = [tuple(courses) for _, courses in groupby(r.stages, key=lambda s: (s.index, s.part))]
            parts = [courses[0].part for courses in phases]
            for k, courses in enumerate(phases):
                then = begin + parts.index(parts[k], k + 1) if parts[k] in parts[k + 1:] else -1
                self.stage(first + i, courses, then, parts[k] not in parts[:k], keys[i], fed, awaited)
            pieces = len(self.pieces)
            if r.looped and r.partner is not None:
                self.piece(r, keys[r.partner])
            kind = (LOOPED if r.looped else COMPUTE) if isinstance(r.operation, Compute) else COLLECTIVE
            self.operations.append((
                kind, -1 if r.partner is None else first + r.partner, i == len(ready) - 1, not told[i],
                bool(unit) and i == unit[0], bool(unit) and i == unit[-1], singly, fed, r.looped and not matmul,
                1 if r.steps else len({s.part for s in r.stages}), begin, len(self.stages) - begin, len(self.tells),
                len(listeners), pieces, len(self.pieces) - pieces, r.overhead))
            self.tells += listeners
            self.fixed.append(np.broadcast_to(r.work.fixed, self.n))
            self.busy.append(np.broadcast_to(r.work.busy, self.n))
        self.sort()
        for i, r in enumerate(ready):  # a matmul waits for each shard of a gather that arrives shard by shard
            if r.partner is not None and self.operations[first + i][AWAITED]:
                made = self.transfers[-1]
                mine = (made["awaited"] > 0) & (np.array([s[0] for s in self.stages])[made["stage"]] == first + i)
                shards = np.bincount(made["to"][mine], minlength=self.n)
                self.missing[first + r.partner] = self.missing[first + r.partner] + shards
        ended = len(self.stages), self.count, self.keys, self.passed, self.heads
        parts = [n for begin, end in zip(begun, ended) for n in (begin, end - begin)]
        self.sections.append((first, len(ready), first + unit[0] if unit else -1, first + unit[-1] if unit else -1, *parts))

    def keys_of(self, ready: Sequence[Ready], i: int) -> dict[Any, int]:
        """Return a number for each (phase, step) of collective i that the loop waits for or feeds."""
        r = ready[i]
        if r.partner is None or r.looped:
            return {}
        keys = dict.fromkeys(p.key for p in ready[r.partner].pieces if p.key is not None)
        found = {key: self.keys + k for k, key in enumerate(keys)}
        self.keys += len(found)
        return found

    def piece(self, r: Ready, keys: dict[Any, int]) -> None:
        """Add the pieces of a looped matmul."""
        for p in r.pieces:
            self.pieces.append((-1 if p.key is None else keys[p.key], len(self.piece_seconds)))
            self.piece_seconds.append(np.broadcast_to(p.seconds, self.n))
            self.piece_idle.append(np.zeros(self.n, bool) if p.idle is None else p.idle)

    def routed(self, operation: int, r: Ready) -> None:
        """Add the steps of a collective whose messages are routed: a stage for each step."""
        steps = self.shared.direct.get(r.operation.name, ())
        for k, direct in enumerate(steps):
            stage, messages = len(self.stages), len(direct.receiver)
            then = stage + 1 if k + 1 < len(r.steps) else -1
            self.stages.append((operation, then, k == 0, 0, len(self.places), 0, len(self.directs)))
            self.lane_rows.append(np.zeros(self.n, LANE_ROWS))
            # A piped stage is complete only after the stage before: this counts as one more arrival.
            self.due.append(np.bincount(direct.receiver[direct.receiver >= 0], minlength=self.n) + direct.piped)
            head = k + 1 < len(steps) and steps[k + 1].piped
            sizes = -1 if direct.part is None else sum(map(len, self.sizes))
            self.directs.append((direct.first, self.messages, messages, self.passed, direct.bytes, stage, direct.turns, sizes,
                                 direct.piped, self.heads if head else -1))
            self.receiver.append(direct.receiver.ravel())
            self.sizes += [] if direct.part is None else [direct.sent]
            self.messages += direct.receiver.size
            self.passed += direct.receiver.size if direct.turns or direct.piped else 0
            self.heads += head

    def stage(self, operation: int, courses: Sequence[Stage], then: int, leads: bool, keys: dict[Any, int], fed: bool,
              awaited: dict[Any, Array | None]) -> None:
        """Add a stage with all courses of a phase: the rows of its private lanes and the transfers of its shared lanes."""
        number, place, lane = len(self.stages), len(self.places), courses[0].lane
        for name in lane.axes:
            axis = self.planner.grid.axis(name)
            self.places.append((axis, len(self.order[-1][axis])))
            self.order[-1][axis].append(number)
        kind = self.kind(courses[0])
        lanes = self.lanes[kind]
        here, all_here = lanes["shared"] > 0, bool(lanes["shared"].all())
        brings: dict[tuple[int, int], Array] = {}  # (step, direction): (chips,) the transfer that arrived at each chip, -1
        due, lane_rows = np.zeros(self.n, np.int64), np.zeros(self.n, LANE_ROWS)
        for s in courses:
            row, moving, of_step = len(self.rows), np.zeros(self.n, bool), dict[tuple[int, int], tuple[int, int]]()
            for move, hops, sends in moves_of(self.planner, s):
                key = (s.index, move.step)
                numbers = (keys.get(key, -1), -1) if not fed else (-1, keys[key])
                if not all_here:
                    moving[lanes["lead"][sends.any(axis=0)]] = True
                    self.private(kind, move, hops, len(self.rows) - row, of_step, numbers)
                number_of = np.full(move.bytes.shape, -1)
                for d, way in enumerate(range(move.rows.start, move.rows.stop)):
                    chip = np.flatnonzero(sends[d] & here)
                    made = np.zeros(len(chip), TRANSFER)
                    made["stage"], made["chip"], made["to"], made["hop"] = number, chip, move.receiver[d][chip], hops[d][chip]
                    made["parent"] = -1 if move.after is None else brings[move.after, way][chip]
                    made["key"], made["feed"], made["bytes"] = *numbers, move.bytes[d][chip]
                    if key in awaited:
                        idle = awaited[key]
                        made["awaited"] = True if idle is None else ~idle[made["to"]]
                    number_of[d, chip] = self.count + np.arange(len(chip))
                    due += np.bincount(made["to"], minlength=self.n)
                    self.made.append(made)
                    self.count += len(chip)
                for way, came in zip(range(move.rows.start, move.rows.stop), number_of.ravel()[move.source]):
                    before = brings.get((move.step, way), came)
                    brings[move.step, way] = np.where(came >= 0, came, before)
            lane_rows["row"][moving], lane_rows["rows"][moving] = row, len(self.rows) - row
        self.due.append(due)
        self.lane_rows.append(lane_rows)
        self.stages.append((operation, then, leads, kind, place, len(self.places) - place, -1))

    def private(self, kind: int, move: Move, hops: Array, first: int, of_step: dict[tuple[int, int], tuple[int, int]],
                numbers: tuple[int, int]) -> None:
        """Add the rows of a move, from `first` on in its course; `of_step`: the numbers of the arrivals by step and direction."""
        members, place = self.members[kind], self.lanes[kind]["place"]

        def pooled(name: str, of: object, values: Array) -> int:
            return self.pools[name].number((kind, of), values, members)
        links = (move.rows.start, move.links.start) if isinstance(move.links, slice) else id(move.links)
        for d, way in enumerate(range(move.rows.start, move.rows.stop)):
            parent, came = (-1, -1) if move.after is None else of_step.get((move.after, way), (-1, -1))
            self.rows.append((
                parent, came, pooled("hop", (d, links), hops[d]), pooled("seconds", (d, id(move.seconds)), move.seconds[d]),
                pooled("late", (d, id(move.late)), move.late[d]), pooled("to", (d, id(move.receiver)), place[move.receiver[d]]),
                pooled("bytes", (d, id(move.bytes)), move.bytes[d]), move.latest, *numbers))
        for d, way in enumerate(range(move.rows.start, move.rows.stop)):
            row, sender = np.divmod(move.source[d], self.n)
            of_step[move.step, way] = first, pooled("came", (d, id(move.source)), 2 * place[sender] + row)

    def kind(self, s: Stage) -> int:
        """Return the number of the kind of lanes that a stage runs on."""
        if s.lane.axes not in self.kinds:
            self.kinds[s.lane.axes] = len(self.lanes)
            lead = self.planner.lanes(s.lane.axes)
            lanes, members = np.zeros(self.n, LANE), np.argsort(lead, kind="stable")
            lanes["lead"], lanes["shared"] = lead, fluid_chips(self.planner, s, self.shared.fluid)
            lanes["count"] = np.bincount(lead, minlength=self.n)
            lanes["first"] = np.concatenate([[0], np.cumsum(lanes["count"])[:-1]])
            lanes["place"][members] = np.arange(self.n) - lanes["first"][lead[members]]
            self.lanes.append(lanes)
            self.members.append(members)
        return self.kinds[s.lane.axes]

    def sort(self) -> None:
        """Sort the transfers of the section by the queues of their hops, and note for each the transfers that pass it on."""
        made = np.empty(sum(map(len, self.made)), TRANSFER)
        if self.made:
            np.concatenate(self.made, out=made)  # without `out` numpy compares the fields of all of them: slow
        first = self.count - len(made)
        order = np.argsort(made["hop"], kind="stable")
        place = np.empty(len(made), np.int64)
        place[order] = first + np.arange(len(made))
        made = made[order]
        passed = made["parent"] >= 0
        made["parent"][passed] = place[made["parent"][passed] - first]
        made["child"] = made["sibling"] = -1
        children = np.flatnonzero(passed)
        children = children[np.argsort(made["parent"][children], kind="stable")]
        parents = made["parent"][children]
        begins = np.flatnonzero(np.diff(parents, prepend=-2))
        made["child"][parents[begins] - first] = first + children[begins]
        same = np.flatnonzero(parents[1:] == parents[:-1])
        made["sibling"][children[same]] = first + children[same + 1]
        self.transfers.append(made)
        self.queues.append(first + np.searchsorted(made["hop"], np.arange(self.planner.rate.size + 1)))

    def table(self) -> Table:
        """Return the table of all sections."""
        n, axes = self.n, len(self.planner.grid.axes)
        hops = np.zeros(self.planner.rate.size, HOP)
        hops["rate"], hops["alone"] = self.planner.rate.ravel(), self.shared.alone
        hops["latency"] = self.shared.paths.latency[:len(hops)]
        longest = max((len(stages) for section in self.order for stages in section), default=0)
        order = np.full((len(self.order), axes, longest + 1), -1, np.int32)
        for section, by_axis in enumerate(self.order):
            for axis, stages in enumerate(by_axis):
                order[section, axis, :len(stages)] = stages

        def stacked(rows: Sequence[Array], kind: Any) -> Array:
            return np.array(rows, kind).reshape(-1, n)

        pools = {f"row_{name}": pool.array() for name, pool in self.pools.items()}
        return Table(
            sections=np.array(self.sections, SECTION), operations=np.array(self.operations, OPERATION),
            fixed=np.ascontiguousarray(stacked(self.fixed, float).T), busy=np.ascontiguousarray(stacked(self.busy, float).T),
            missing=stacked(self.missing, np.int32), tells=np.array(self.tells, TELL), pieces=np.array(self.pieces, PIECE),
            piece_seconds=stacked(self.piece_seconds, float), piece_idle=stacked(self.piece_idle, bool),
            stages=np.array(self.stages, STAGE), due=stacked(self.due, np.int32), lanes=stacked(self.lanes, LANE),
            members=stacked(self.members, np.int32),
            line=stacked([self.planner.lanes((a,)) for a in self.planner.grid.axes], np.int32),
            places=np.array(self.places, PLACE), order=order,
            lane_rows=stacked(self.lane_rows, LANE_ROWS), rows=np.array(self.rows, ROW), **pools,
            transfers=np.concatenate([np.zeros(0, TRANSFER), *self.transfers]),
            queues=np.array(self.queues), hops=hops, directs=np.array(self.directs, DIRECT),
            receiver=np.concatenate([np.zeros(0, np.int32), *self.receiver]).astype(np.int32),
            sizes=np.concatenate([np.zeros(0), *self.sizes]),
            path_latency=self.shared.paths.latency, keys=self.keys, passed=self.passed, heads=self.heads)


def table(planner: Planner, shared: Shared, sections: Sequence[tuple[Ready, ...]]) -> Table:
    """Return the table of a program; sections without operations are left out."""
    maker = Maker(planner, shared)
    for ready in filter(None, sections):
        maker.section(ready)
    return maker.table()

