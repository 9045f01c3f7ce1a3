"""Longest paths of collectives between classes of chips of one network, for any size of the data.

Chips are divided into classes by their places. The time that a chip of class D waits, when all chips of class C start at 0, is a
longest path through messages and links of the schedule. A path does not depend on the size of the data, so its seconds a byte and
its latency hold for every size. Paths are searched for at a few sizes, once for each network and collective.

Only effects that lengthen the time are omitted: other collectives on the same links, flows that share a link (each has the whole
bandwidth), links that are slower for some time.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torussim.chips import Chip
from torussim.collectives.lower import DIRECT, algorithm_of, view
from torussim.engine.plan import Planner
from torussim.engine.reach import reaching
from torussim.engine.ready import Ready, Stage
from torussim.engine.routed import link_bytes, shared
from torussim.engine.symmetry import orbits
from torussim.errors import TopologyError
from torussim.lower_bound import limits, traffic
from torussim.outlines import Outlines, outlines_of
from torussim.program import ALIKE, Collective, Compute, Loop, Program, resized
from torussim.topology.grid import Grid, folded
from torussim.topology.hops import gap_routes
from torussim.topology.movement import Movements

Array = np.ndarray[Any, Any]
Key = tuple[int, int]

CLASSES, MANY = 24, 4096  # the most classes of chips, and the largest product of classes and chips
# A path has seconds a byte of the collective, seconds, shards and steps of the looped matmul; its time is path . (bytes, 1,
# seconds of a shard, seconds of a step). The longest paths are searched for at these values.
ALONE = [(size, 1.0) for size in (1e3, 3e4, 1e6, 3e7)]
LOOPED = [(size, 1.0, size * ratio, 1e-7) for size in (3e4, 3e6) for ratio in (1e-13, 1e-12, 1e-11, 1e-10)]


@dataclass(frozen=True, eq=False)
class Waits:
    """The longest paths from the start of a collective to its end, (paths, classes + 2, classes + 1, 2 or 4).

    They lead from the starts of each class, of some chip, and of all chips, to the ends of each class, and of some chip.
    """

    paths: Array

    def seconds(self, size: float, shard: float = 0.0, step: float = 0.0) -> Array:
        """Return (classes + 2, classes + 1) seconds."""
        at = np.array([size, 1.0, shard, step][:self.paths.shape[-1]])
        return np.asarray(np.maximum.reduce(self.paths @ at))


@dataclass(frozen=True, eq=False)
class Table:
    """A collective between classes of chips: its end, from its start.

    Looped with a matmul: `through`: the end of the second half, from the start of the first half, the gather or the matmul;
    `own`: (classes + 2, 4) the time of all pieces of the matmul. `links`: (links,) the seconds a byte that each link is busy.
    """

    links: Array
    ends: Waits
    through: Waits | None = None
    own: Array | None = None


class Fronts:
    """The classes of chips of one network and the tables of its collectives, each computed at its first use."""

    def __init__(self, network: Grid | Outlines, chip: Chip) -> None:
        self.outlines, self.chip = outlines_of(network), chip
        if self.outlines.net.links.failures:
            raise TopologyError("links fail in mid-run, and messages can be faster on the routes that are left: there is no "
                                "least time; leave the failures out")
        self.limits = limits(self.outlines.net)
        net, links = self.outlines.net, self.outlines.net.links
        self.rate = _most(net) * chip.link_efficiency
        self.net = replace(net, links=replace(links, events=())) if links.events else net
        self.label = _classes(self.net)
        self.classes = int(self.label.max(initial=0)) + 1
        into = np.bincount(links.target, self.rate, len(links.nodes))[:len(links.chips)]
        self.into = [float(into[self.label == c].max()) for c in range(self.classes)]
        self._tables: dict[Hashable, Table] = {}

    def table(self, o: Collective, loop: Loop | None, apart: bool = False) -> Table:
        """Return the table of a collective, alone or looped with a matmul; for any bytes unless it is user-defined.

        `apart`: without the end of the chip at the busiest link, because places of the network have fronts of their own. A
        collective of some chips has no links either.
        """
        own = (o.name, o.bytes, o.pieces) if callable(o.algorithm) else None
        key = (o.kind, o.axes, o.algorithm, o.split, o.direction, o.detour, o.root, o.groups, o.protocol, o.matrix,
               tuple(o.shift.items()), bool(o.on), apart, loop and loop.kind, own)
        if key not in self._tables:
            self._tables[key] = _table(self, replace(o if own else resized(o, 1.0), after=()), loop, apart)
        return self._tables[key]


def _table(fronts: Fronts, o: Collective, loop: Loop | None, apart: bool) -> Table:
    """Return the table of a collective."""
    some, o = bool(o.on), replace(o, on=())
    net, routed = reaching(Program((o,)), fronts.net)
    meet = routed or algorithm_of(o) in DIRECT or any(net.around(net.axes).gaps)
    if not meet and not fronts.outlines.net.links.events:
        net = folded(net, *orbits(Program((o,)), Movements(net), fronts.label))
    planner = Planner(net, replace(fronts.chip, loop_step=0.0), routed)
    matmul = Compute("looped", flops=fronts.chip.rate("bf16") * fronts.chip.matmul_efficiency,
                     loop=Loop(o.name, loop.kind, (1, 1, 1))) if loop else None  # a shard takes one second
    gathers = o.kind == "all_gather"
    section = planner.section((o,) if matmul is None else (o, matmul) if gathers else (matmul, o))
    ready = section[0 if gathers or matmul is None else 1]
    busy = link_bytes(ready, planner, shared(planner, [section])) / fronts.rate / (o.bytes or 1.0) * (not some)
    paths = _Paths(fronts, o, net, 0.0 if apart else float(busy.max(initial=0.0)), np.array(LOOPED if loop else ALONE))
    start = paths.starts()
    if matmul is None:
        whole = o.kind in ALIKE and not o.groups and (not o.matrix or bool(o.matrix.array.all()))
        # each chip waits for all chips of its group
        meets = planner.lanes(o.axes) if whole else np.arange(paths.chips)
        ends = paths.meeting(start, meets) if ready.steps else paths.run(ready, start)
        return Table(busy[net.stands], paths.waits(ends))
    launched = start + paths.longer(seconds=np.full(paths.chips, fronts.chip.launch))
    due = dict[Key, Array]()
    ends = paths.run(ready, launched, due=due if gathers else None)
    clock, fed, own = start, dict[Key, Array](), paths.longer()
    for piece in section[1 if gathers else 0].pieces:
        if piece.key is not None and gathers:
            came = due[piece.key]
            clock = paths.later(clock, came if piece.idle is None else np.where(piece.idle, paths.never, came))
        steps = np.full(paths.chips, float(piece.key is not None)) * (1.0 if piece.idle is None else ~piece.idle)
        took = paths.longer(shards=piece.seconds, steps=steps)
        clock, own = clock + took, own + took
        if piece.key is not None:
            fed[piece.key] = clock
    through = clock if gathers else paths.run(ready, np.broadcast_to(paths.never, start.shape), fed=fed)
    every = np.ones(paths.chips, bool)
    here = [*(paths.label == c for c in range(fronts.classes)), every, every]
    return Table(busy[net.stands], paths.waits(ends), paths.waits(through),
                 np.array([own[1:, 0, 0, chips].min(axis=1) for chips in here]))


class _Paths:
    """The longest paths through one collective from each class, and from all chips: (1 + 2 or 4, samples, sources, chips).

    Row 0 is the time of a path at each sample, seconds; the other rows are the path. `busiest`: seconds a byte of the busiest
    link.
    """

    def __init__(self, fronts: Fronts, o: Collective, net: Grid, busiest: float, samples: Array) -> None:
        self.fronts, self.o, self.busiest = fronts, o, busiest
        self.rate, self.late = _hops(view(o, net), fronts.rate)
        self.label, self.chips = fronts.label[net.own], len(net.own)
        self.samples = samples.T[:, :, None, None]
        self.never = np.array([-np.inf, 0.0, -np.inf, 0.0, 0.0])[:1 + len(self.samples), None, None, None]

    def longer(self, a_byte: Array | float = 0.0, seconds: Array | float = 0.0, shards: Array | float = 0.0,
               steps: Array | float = 0.0) -> Array:
        """Return the extension of a path on each chip, (1 + 2 or 4, samples, 1, chips)."""
        count, samples = self.samples.shape[:2]
        found = np.zeros((1 + count, samples, 1, self.chips))
        for row, more, weight in zip(found[1:], (a_byte, seconds, shards, steps), self.samples):
            row[:] = more
            found[0] += row * weight
        return found

    def starts(self) -> Array:
        """Return the paths to the start: of each class at 0, while all others never start; finally of all chips at 0."""
        classes = self.fronts.classes if self.fronts.classes > 1 else 0
        at = np.array(np.broadcast_to(self.never, (len(self.never), self.samples.shape[1], classes + 1, self.chips)))
        for c in range(classes):
            at[:, :, c, self.label == c] = 0.0
        at[:, :, -1] = 0.0
        return at

    def later(self, a: Array, b: Array) -> Array:
        """Return the longer one of each two paths."""
        return np.where(a[0] >= b[0], a, b)

    def run(self, ready: Ready, base: Array, *, fed: Mapping[Key, Array] | None = None,
            due: dict[Key, Array] | None = None) -> Array:
        """Return the paths to the end of a collective (engine.max_plus has it in seconds); `due` gets the paths to each step."""
        free, done = dict[int, Array](), dict[int, Array]()
        for stage in ready.stages:
            done[stage.part] = self.phase(stage, done.get(stage.part, base), free, fed, due)
        ends = base
        for part in done.values():
            ends = self.later(ends, part)
        return ends

    def phase(self, stage: Stage, base: Array, free: dict[int, Array], fed: Mapping[Key, Array] | None,
              due: dict[Key, Array] | None) -> Array:
        """Return the paths to the end of one phase of one part; `free`: to the times at which hops in a direction are free."""
        complete, arrivals = base, dict[tuple[int | None, int], Array]()
        for move in stage.moves:
            hops = np.arange(len(self.rate))[move.links].reshape(move.bytes.shape)
            key = (stage.index, move.step)
            start = base if fed is None else self.later(base, fed[key])
            for row, hop in enumerate(hops):
                way, sends, lane = move.rows.start + row, move.bytes[row] > 0, hop // self.chips
                lanes = [(int(one), sends & (lane == one)) for one in np.unique(lane[sends])]
                begin = start
                for one, here in lanes:
                    if one in free:
                        waits = self.later(begin, free[one])
                        begin = waits if here.all() else np.where(here, waits, begin)
                if (move.after, way) in arrivals:
                    begin = self.later(begin, arrivals[move.after, way])
                share = move.bytes[row] / (self.o.bytes or 1.0)
                end = begin + self.longer(np.divide(share, self.rate[hop], out=np.zeros(self.chips), where=sends))
                for one, here in lanes:
                    free[one] = end if here.all() else np.where(here, end, free.get(one, self.never))
                there = end + self.longer(seconds=np.where(sends, self.late[hop], -np.inf))
                came = there[..., move.source[row] - row * self.chips]
                if move.step in stage.keep:
                    arrivals[move.step, way] = came
                if due is not None:
                    due[key] = self.later(due[key], came) if key in due else came
                if move.latest:
                    complete = self.later(complete, came)
        return complete

    def meeting(self, start: Array, group: Array) -> Array:
        """Return the paths to the end of a collective in which each chip receives data from all others of its group."""
        ends = start.copy()
        for number in np.unique(group):
            here = group == number
            began = (start[0, 0][:, here] == 0.0).any(axis=1)
            ends = np.where(began[:, None] & here, 0.0, ends)
        return ends

    def waits(self, ends: Array) -> Waits:
        """Return the least path of each class, coefficient by coefficient, with the time of all links into a chip for its bytes.

        Some chip ends only when the busiest link has passed on all its data.
        """
        classes, (samples, sources) = self.fronts.classes, ends.shape[1:3]
        found = np.tile(self.never[1:, 0, 0, 0], (samples + 1, classes + 2, classes + 1, 1))
        for c in range(classes):
            least = np.moveaxis(ends[1:, ..., self.label == c].min(axis=-1), 0, -1)  # (samples, sources, 2 or 4)
            found[:-1, :sources - 1, c], found[:-1, -1, c] = least[:, :-1], least[:, -1]
        enters = traffic(self.o, self.fronts.limits)[0] / (self.o.bytes or 1.0)
        entering = [enters / into if enters else 0.0 for into in self.fronts.into]
        found[-1, -1, :, 0], found[-1, -1, :, 1] = [*entering, self.busiest], 0.0
        found[:, classes, classes] = 0.0
        once = {paths.tobytes(): paths for paths in found}
        return Waits(np.array(list(once.values())))


def _most(net: Grid) -> Array:
    """Return (links,) the highest bandwidth that each link ever has, bytes/s."""
    most = net.links.bandwidth.copy()
    for event in net.links.events:
        most[event.links] = np.maximum(most[event.links], event.bandwidth)
    return most


def _hops(net: Grid, link_rate: Array) -> tuple[Array, Array]:
    """Return the bandwidth (bytes/s) and latency (s) of each hop, (hops + 1,), as if it were alone on its links.

    A hop without a link is one flow over all its routes: it has at most bandwidth / share of any of its links.
    """
    rate, late = np.append(link_rate, 0.0)[net.slot.ravel()], net.latency.ravel().copy()
    gaps = np.flatnonzero(net.around(net.axes).gap.ravel())
    if len(gaps):
        routes = gap_routes(net, gaps)
        path = np.repeat(np.arange(len(gaps)), np.diff(routes.first))
        most = np.full(len(gaps), np.inf)
        np.minimum.at(most, path, link_rate[routes.link] / routes.share)
        rate[gaps], late[gaps] = most, routes.latency
    return np.append(rate, np.inf), np.append(late, 0.0)


def _classes(net: Grid) -> Array:
    """Return (chips,) the class of each chip: chips of one class have similar links to chips of similar classes, up to a depth.

    Directions of an axis are not distinguished. There are at most CLASSES. If the links differ too much for this, only the
    slowest links of each axis are distinguished from the others; if there are too many chips, no links are.
    """
    chips = len(net.own)
    back = np.empty((len(net.axes), 2, chips), np.intp)  # the hop from the next chip back to this chip
    for axis, way in np.ndindex(len(net.axes), 2):
        back[axis, way] = (2 * axis + 1 - way) * chips + net.receiver[axis, way]
    hops = net.around(net.axes).hops
    most = min(CLASSES, MANY // chips)
    rate = net.bandwidth
    slow = hops & (rate <= np.where(rate > 0, rate, np.inf).min(axis=(1, 2), keepdims=True))
    for columns in ((hops, rate, net.latency), (hops, slow)):
        kinds = _numbered(np.array([column.ravel()[order] for column in columns for order in (slice(None), back.ravel())], float))
        found = _refined(net.receiver, kinds.reshape(hops.shape), most)
        if found.max() > 0:
            break
    return found


def _refined(receiver: Array, kinds: Array, most: int) -> Array:
    """Return (chips,) classes by the kinds of neighbouring hops, of the neighbouring chips, and so on, up to a number."""
    label, many = np.zeros(receiver.shape[-1], np.intp), 1
    while True:
        around = np.sort(kinds * many + label[receiver], axis=1).reshape(-1, len(label))
        found = _numbered(np.concatenate([label[None], around]))
        now = int(found.max()) + 1
        if now == many or now > most:
            return label
        label, many = found, now


def _numbered(columns: Array) -> Array:
    """Return a number for each of the (rows, places) columns, the same for equal ones."""
    return np.unique(columns, axis=1, return_inverse=True)[1].reshape(-1)
