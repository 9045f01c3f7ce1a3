"""Longest paths of collectives between classes of chips of one network, for any size of the data.

Chips are put into classes by their places. What a chip of class D has to wait for, when all chips of class C start at 0, is a
longest path through messages and links of the schedule. A path is one whatever the data's size, so its seconds a byte and its
latency hold for every size: paths are looked for at a few sizes, once a network and collective.

Only what takes longer still is left out: other collectives on the same links, flows that share a link (each has what its links
have alone), links that are slower for a while.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torussim.chips import Chip
from torussim.engine.plan import Planner
from torussim.engine.reach import reaching
from torussim.engine.ready import Piece, Ready, Stage
from torussim.engine.routed import link_bytes, shared
from torussim.lower_bound import limits, traffic
from torussim.outlines import Outlines, outlines_of
from torussim.program import Collective, Compute, Loop, Program
from torussim.topology.grid import Grid, with_bandwidth
from torussim.topology.hops import gap_routes

Array = np.ndarray[Any, Any]
Key = tuple[int, int]

CLASSES = 24  # of chips, at most
NEVER = np.array([0.0, -np.inf, 0.0, 0.0])
# Seconds of a path: path . (bytes of the collective, 1, seconds of a shard of the looped matmul, seconds of a step of the loop).
ALONE = [(size, 1.0, 0.0, 0.0) for size in (1e3, 3e4, 1e6, 3e7)]
LOOPED = [(size, 1.0, size * ratio, 1e-7) for size in (3e4, 3e6) for ratio in (1e-13, 1e-12, 1e-11, 1e-10)]


@dataclass(frozen=True, eq=False)
class Waits:
    """The longest paths to the end of something, (paths, classes + 2, classes + 1, 4), from its start to its end.

    From when each class starts, some chip, and all chips; to when each class ends, and some chip. Seconds are paths . (bytes of
    the collective, 1, seconds of a shard of the looped matmul, seconds of a step of the loop).
    """

    paths: Array

    def seconds(self, size: float, shard: float = 0.0, step: float = 0.0) -> Array:
        """Return (classes + 2, classes + 1) seconds."""
        found: Array = (self.paths @ np.array([size, 1.0, shard, step])).max(axis=0)
        return found


@dataclass(frozen=True, eq=False)
class Table:
    """A collective between classes of chips: when it ends, from its start.

    Looped with a matmul: `through`: when the second half ends, from the start of the first half, the gather or the matmul; `own`:
    (classes + 1, 4) what all pieces of the matmul take. `links`: (links,) seconds a byte that each is busy.
    """

    links: Array
    ends: Waits
    through: Waits | None = None
    own: Array | None = None


class Fronts:
    """The classes of chips of one network and the tables of its collectives, each worked out when it is first asked for."""

    def __init__(self, network: Grid | Outlines, chip: Chip) -> None:
        self.outlines, self.chip = outlines_of(network), chip
        self.limits = limits(self.outlines.net)
        self.net = _at_best(self.outlines.net)
        self.planner = Planner(self.net, replace(chip, loop_step=0.0))
        self.rate, self.late = _hops(self.net, chip)
        label = _classes(self.net, self.rate, self.late)
        self.members = [np.flatnonzero(label == c) for c in range(int(label.max(initial=0)) + 1)]
        into = np.bincount(self.net.links.target, self.net.links.bandwidth, len(label))[:len(label)] * chip.link_efficiency
        self.into = np.array([into[members].max() for members in self.members])
        self.pass_on = self.net.links.bandwidth * chip.link_efficiency
        self._tables: dict[Hashable, Table] = {}

    def table(self, o: Collective, loop: Loop | None) -> Table:
        """Return the table of a collective, alone or looped with a matmul; for any bytes."""
        own = (o.name, o.bytes, o.pieces) if callable(o.algorithm) else None
        key = (o.kind, o.axes, o.algorithm, o.split, o.direction, o.detour, tuple(o.shift.items()), loop and loop.kind, own)
        if key not in self._tables:
            self._tables[key] = self._table(replace(o, after=(), bytes=o.bytes if own else 1.0), loop)
        return self._tables[key]

    def _table(self, o: Collective, loop: Loop | None) -> Table:
        planner, rate, late = self.planner, self.rate, self.late
        if callable(o.algorithm):
            reach, routed = reaching(Program((o,)), self.net)
            planner = Planner(reach, planner.chip, routed)
            rate, late = _hops(reach, self.chip)
        paths = _Paths(self, o, rate, late, np.array(LOOPED if loop else ALONE))
        start = paths.starts()
        if loop is None:
            ready = planner.ready(o, {}, None, ())
            paths.links = self.busy((ready,), 0, planner) / (o.bytes or 1.0)
            ends = paths.meeting(planner.lanes(o.axes)) if ready.direct else paths.run(ready, start)[0]
            return Table(paths.links, paths.waits(ends))
        matmul = Compute("looped", flops=planner.chip.rate("bf16") * planner.chip.matmul_efficiency,
                         loop=Loop(o.name, loop.kind, (1, 1, 1)))  # so that a shard takes a second
        gathers = o.kind == "all_gather"
        halves = planner.section((o, matmul) if gathers else (matmul, o))
        ready, pieces = (halves[0], halves[1].pieces) if gathers else (halves[1], halves[0].pieces)
        paths.links = self.busy(halves, 0 if gathers else 1, planner) / (o.bytes or 1.0)
        work = [_work(piece) for piece in pieces]
        all_pieces = sum(work, np.zeros((paths.chips, 4)))
        own = np.array([all_pieces[members].min(axis=0) for members in [*self.members, np.arange(paths.chips)]])
        launched = start + np.array([0.0, self.chip.launch, 0.0, 0.0])
        ends, due = paths.run(ready, launched)
        clock, fed = start, dict[Key, Array]()
        for piece, took in zip(pieces, work):
            if piece.key is not None and gathers:
                came = due[piece.key]
                clock = paths.later(clock, came if piece.idle is None else np.where(piece.idle[:, None], NEVER, came))
            clock = clock + took
            if piece.key is not None:
                fed[piece.key] = clock
        through = clock if gathers else paths.run(ready, np.broadcast_to(NEVER, start.shape), fed)[0]
        return Table(paths.links, paths.waits(ends), paths.waits(through), own)

    def busy(self, section: tuple[Ready, ...], which: int, planner: Planner) -> Array:
        """Return (links,) seconds that an operation of a list keeps each link busy at least."""
        return np.asarray(link_bytes(section[which], planner, shared(planner, [section])) / self.pass_on)


class _Paths:
    """The longest paths through one collective, arrays of (samples, classes + 1, chips, 4): `weights` are the samples."""

    def __init__(self, fronts: Fronts, o: Collective, rate: Array, late: Array, weights: Array) -> None:
        self.links = np.zeros(0)
        self.fronts, self.o, self.rate, self.late, self.weights = fronts, o, rate, late, weights
        self.chips = len(fronts.net.own)

    def starts(self) -> Array:
        """Return the paths to the start: of each class at 0 where all others never start, and last of all chips at 0."""
        members = self.fronts.members
        at = np.tile(NEVER, (len(self.weights), len(members) + 1, self.chips, 1))
        for c, chips in enumerate(members):
            at[:, c, chips] = 0.0
        at[:, -1] = 0.0
        return at

    def later(self, a: Array, b: Array) -> Array:
        """Return the longer of each two paths."""
        longer = np.einsum("scnk,sk->scn", a, self.weights) >= np.einsum("scnk,sk->scn", b, self.weights)
        return np.where(longer[..., None], a, b)

    def run(self, ready: Ready, base: Array, fed: Mapping[Key, Array] | None = None) -> tuple[Array, dict[Key, Array]]:
        """Return the paths to the end of a collective, and to each (phase, step), as engine.recurrence has them in seconds."""
        free = np.tile(NEVER, (*base.shape[:2], len(self.rate), 1))
        done, due = dict[int, Array](), dict[Key, Array]()
        for stage in ready.stages:
            done[stage.part] = self.phase(stage, done.get(stage.part, base), free, fed, due)
        ends = base
        for part in done.values():
            ends = self.later(ends, part)
        return ends, due

    def phase(self, stage: Stage, base: Array, free: Array, fed: Mapping[Key, Array] | None, due: dict[Key, Array]) -> Array:
        """Return the paths to the end of one phase of one part; `free`: to when each hop is free again."""
        complete, arrivals = base, dict[tuple[int | None, int], Array]()
        for move in stage.moves:
            hops = np.arange(len(self.rate))[move.links].reshape(move.bytes.shape)
            key = (stage.index, move.step)
            start = base if fed is None else self.later(base, fed[key])
            for row, hop in enumerate(hops):
                way = move.rows.start + row
                sends = move.bytes[row] > 0
                begin = self.later(start, free[:, :, hop])
                if move.after is not None and (move.after, way) in arrivals:
                    begin = self.later(begin, arrivals[move.after, way])
                end = begin.copy()
                share = move.bytes[row] / (self.o.bytes or 1.0)
                end[..., 0] += np.divide(share, self.rate[hop], out=np.zeros(self.chips), where=sends)
                free[:, :, hop[sends]] = end[:, :, sends]
                end[..., 1] += np.where(sends, self.late[hop], -np.inf)
                came = end[:, :, move.source[row] - row * self.chips]
                arrivals[move.step, way] = came
                due[key] = self.later(due[key], came) if key in due else came
                complete = self.later(complete, came)
        return complete

    def meeting(self, group: Array) -> Array:
        """Return the paths to the end of a collective in which each chip gets something from all others of its group."""
        ends = self.starts()
        for number in np.unique(group):
            here = group == number
            for c in range(ends.shape[1]):
                if (ends[0, c, here, 1] == 0.0).any():
                    ends[:, c, here] = 0.0
        return ends

    def waits(self, ends: Array) -> Waits:
        """Return the least of each class. After all chips start, what comes into a chip takes its links some time too, and
        some chip ends only when the busiest link has passed everything on."""
        classes = len(self.fronts.members)
        found = np.tile(NEVER, (len(ends) + 1, classes + 2, classes + 1, 1))
        for c, chips in enumerate(self.fronts.members):
            least = ends[:, :, chips].min(axis=2)
            found[:-1, :classes, c], found[:-1, -1, c] = least[:, :-1], least[:, -1]
        enters = traffic(self.o, self.fronts.limits)[0] / (self.o.bytes or 1.0) / self.fronts.into
        found[-1, -1, :, 0], found[-1, -1, :, 1] = [*enters, self.links.max(initial=0.0)], 0.0
        found[:, classes, classes] = 0.0
        return Waits(np.unique(found, axis=0))


def _work(piece: Piece) -> Array:
    """Return (chips, 4) what a piece of a looped matmul takes, in shards and steps."""
    steps = np.full(len(piece.seconds), float(piece.key is not None))
    none = np.zeros(len(steps))
    return np.stack([none, none, piece.seconds, steps if piece.idle is None else np.where(piece.idle, 0.0, steps)], axis=1)


def _at_best(net: Grid) -> Grid:
    """Return the grid without changes in mid-run: each link with the most that it ever has."""
    if not net.links.events:
        return net
    most = net.links.bandwidth.copy()
    for event in net.links.events:
        most[event.links] = np.maximum(most[event.links], event.bandwidth)
    best = with_bandwidth(net, most)
    return replace(best, links=replace(best.links, events=()))


def _hops(net: Grid, chip: Chip) -> tuple[Array, Array]:
    """Return the bandwidth (bytes/s) and latency (s) of each hop, (hops + 1,), as if it were alone on the links it takes.

    A hop without a link is one flow over all its routes: it has no more than bandwidth / share of any of its links.
    """
    rate, late = net.bandwidth.ravel().copy(), net.latency.ravel().copy()
    gaps = np.flatnonzero(net.around(net.axes).gap.ravel())
    if len(gaps):
        routes = gap_routes(net, gaps)
        path = np.repeat(np.arange(len(gaps)), np.diff(routes.first))
        most = np.full(len(gaps), np.inf)
        np.minimum.at(most, path, net.links.bandwidth[routes.link] / routes.share)
        rate[gaps], late[gaps] = most, routes.latency
    return np.append(rate * chip.link_efficiency, np.inf), np.append(late, 0.0)


def _classes(net: Grid, rate: Array, late: Array) -> Array:
    """Return (chips,) the class of each chip: chips of one class have like links to chips of like classes, as far as that goes.

    Directions of an axis are not told apart. At most CLASSES; where links differ too much for that, only the slowest of each
    axis are told from the others.
    """
    count = len(net.own)
    back = np.empty((len(net.axes), 2, count), np.intp)  # the hop by which the next chip leads here
    for axis, way in np.ndindex(len(net.axes), 2):
        back[axis, way] = (2 * axis + 1 - way) * count + net.receiver[axis, way]
    hops = net.around(net.axes).hops
    rates = np.where(hops, rate[:-1].reshape(hops.shape), 0.0)
    exact = np.stack([rates.ravel(), np.where(hops, late[:-1].reshape(hops.shape), 0.0).ravel()], axis=1)
    slow = np.where(hops, rates <= np.where(hops, rates, np.inf).min(axis=(1, 2), initial=np.inf, keepdims=True), -1)
    best = np.zeros(count, np.intp)
    for columns in (exact, slow.reshape(-1, 1).astype(float)):
        kinds = np.unique(np.concatenate([columns, columns[back.ravel()]], axis=1), axis=0, return_inverse=True)[1]
        found = _refined(net.receiver, kinds.reshape(hops.shape))
        if found.max(initial=0) > 0:
            return found
    return best


def _refined(receiver: Array, kinds: Array) -> Array:
    """Return (chips,) classes by the kinds of hops around, those of the chips around, and so on, while they are not too many."""
    label, many = np.zeros(receiver.shape[-1], np.intp), 1
    while True:
        around = np.sort(kinds * many + label[receiver], axis=1).reshape(-1, len(label))
        found = np.unique(np.concatenate([label[None], around]), axis=1, return_inverse=True)[1].reshape(-1)
        now = int(found.max(initial=0)) + 1
        if now == many or now > CLASSES:
            return label
        label, many = found, now
