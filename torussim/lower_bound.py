"""The least time of any algorithm on a network: the data that must enter and leave sets of chips.

Whatever the algorithm, the bytes that must leave a set take at least bytes / (bandwidth of all links out of it), so every set
gives a bound. The sets are the single chips, and all chips whose coordinate on one axis is in a run of neighbouring positions,
cyclically: halves of an axis, slabs, and their complements. Two more bounds come from the data that must cross links in total:
between chips, and between the positions of an axis (as if all chips of a position were one). Every link counts, also links of
axes that the collective does not use, and all groups run at once. There are no latencies and no overheads, and efficiencies are
1.

On networks that are no tori there are more sets: the blocks of partitions that the links suggest (chips of a node), the blocks of
chips with equal first coordinates, and on small networks the cut between a chip and the other members of its group. If there are
switches, a set has the links of its narrowest cut (torussim.cuts). A switch passes messages on, and neither adds nor copies. If
the network has switches that sum, there is no bound from all links.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim.chips import Chip
from torussim.closed_forms import paper_compute
from torussim.cuts import PLACED, Wires, leaving, neighbourhoods, out_of, out_of_each, out_to_members
from torussim.places import Place, places_of, runs
from torussim.program import WITH_ROOT, Collective, Compute, Operation, Program, of_each
from torussim.topology.grid import Grid, grid
from torussim.topology.shape import coordinates, strides

if TYPE_CHECKING:
    import networkx as nx

Array = np.ndarray[Any, Any]

BLOCKS = 64  # runs of a longer axis begin and end at multiples of its length over this number; n blocks have n (n-1) runs


@dataclass(frozen=True)
class Part:
    """The place of an axis of collectives: position p on a physical axis has the coordinate p // stride % length."""

    axis: int
    length: int
    stride: int = 1


@dataclass(frozen=True, eq=False, repr=False)
class Partition:
    """Chips in blocks, and the bandwidth out of each block and into it, bytes/s."""

    block: Array  # (chips,)
    out: Array  # (blocks,)
    into: Array
    total: float  # between all blocks


@dataclass(frozen=True, eq=False, repr=False)
class Limits:
    """The bandwidths of a network, bytes/s: into and out of its tightest chip, through all links, out of every run.

    A run consists of blocks, which are neighbouring positions of one axis. The complement of a run is a run too, so the bandwidth
    into a run is the bandwidth out of another. The last entry of `across` is the total bandwidth between blocks.
    """

    shape: tuple[int, ...]
    parts: Mapping[str, Part]
    into: float
    out: float
    total: float
    inside: tuple[Array, ...]  # of each axis: (runs, blocks), 1 if a block is in the run, else 0
    across: tuple[Array, ...]  # of each axis: (runs + 1,) bytes/s
    single: Partition  # each chip a block
    partitions: tuple[Partition, ...] = ()  # of networks that are no tori
    wires: Wires | None = None  # the links of these networks
    _known: dict[Any, Any] = field(default_factory=dict)

    def group(self, axes: tuple[str, ...]) -> Array:
        """Return the group of each chip, (chips,), numbered from 0, for collectives over these axes."""
        if axes not in self._known:
            self._known[axes] = np.unique(self.moved({a: -self._place(a) for a in axes}), return_inverse=True)[1].reshape(-1)
        return np.asarray(self._known[axes])

    def moved(self, by: Mapping[str, Array]) -> Array:
        """Return for each chip the chip at this displacement along some axes, (chips,)."""
        step = strides(self.shape)
        number = np.arange(prod(self.shape))
        return number + sum((places * self.parts[a].stride * step[self.parts[a].axis] for a, places in by.items()), 0 * number)

    def shifted(self, shift: Mapping[str, int]) -> Array:
        """Return for each chip the chip that a permute sends to, (chips,)."""
        return self.moved({a: (self._place(a) + by) % self.parts[a].length - self._place(a) for a, by in shift.items()})

    def beside(self, axes: tuple[str, ...]) -> tuple[float, float]:
        """Return the least bandwidth from a chip to the others of its group, and back; inf if it is unknown."""
        key = "beside", frozenset(axes)
        if key not in self._known:
            ways = [out_to_members(wires, self.group(axes)) for wires in ((self.wires, self.wires.back) if self.wires else ())]
            self._known[key] = tuple(np.inf if way is None else float(way.min()) for way in ways) or (np.inf, np.inf)
        out, into = self._known[key]
        return out, into

    def here(self, collective: Collective) -> Array:
        """Return whether each chip runs a collective, (chips,); of a permute: whether it sends."""
        every = np.ones(prod(self.shape), bool)
        return np.asarray(np.logical_and.reduce([every, *(np.isin(self._place(axis), places) for axis, places in collective.on)]))

    def _place(self, axis: str) -> Array:
        """Return the position of each chip on an axis, (chips,)."""
        part = self.parts[axis]
        return np.asarray(coordinates(self.shape)[part.axis] // part.stride % part.length)


def limits(topology: nx.DiGraph | Grid) -> Limits:
    """Return the bandwidths of a topology."""
    net = topology if isinstance(topology, Grid) else grid(topology)
    links = net.links
    names = list(links.axes)
    parts = {name: Part(names.index(name.partition("/")[0]), length, stride)
             for name, length, stride in zip(net.axes, net.shape, net.stride, strict=True)}
    bandwidth = links.bandwidth.copy()
    for event in links.events:  # the highest bandwidth that a link ever has
        bandwidth[event.links] = np.maximum(bandwidth[event.links], event.bandwidth)
    found = limits_of(tuple(links.axes.values()), parts, links.source, links.target, bandwidth)
    wires = Wires(len(links.chips), len(links.nodes), links.source, links.target, bandwidth)
    if wires.nodes == wires.chips and not (links.axis < 0).any():
        return found
    blocks = [*_same_coordinates(found.shape), *neighbourhoods(wires)]
    partitions = tuple(_partition(wires, block) for block in {block.tobytes(): block for block in blocks}.values())
    found = replace(found, partitions=partitions, wires=wires)
    if not links.switches_sum:
        return found
    across = tuple(np.append(rates[:-1], np.inf) for rates in found.across)
    return replace(found, total=np.inf, across=across, partitions=tuple(replace(one, total=np.inf) for one in partitions),
                   single=replace(found.single, total=np.inf))


def limits_of(shape: tuple[int, ...], parts: Mapping[str, Part], source: Array, target: Array, bandwidth: Array) -> Limits:
    """Return the bandwidths of links given as columns (links,): indices of chips in C order, then those of switches.

    The sets are single chips and runs of axes.
    """
    chips, at = prod(shape), coordinates(shape)
    wires = Wires(chips, max(chips, int(max(source.max(initial=0), target.max(initial=0))) + 1), source, target, bandwidth)
    single = _partition(wires, np.arange(chips))
    inside, across = list[Array](), list[Array]()
    for axis, length in enumerate(shape):
        count = min(length, BLOCKS)
        while count > 2 and count * (count - 1) * wires.arcs > PLACED // 4:
            count = (count + 1) // 2
        block = _blocks(at[axis], length, count)
        inside.append(_runs(count))
        across.append(np.append(out_of(wires, block, inside[-1]), _partition(wires, block).total))
    least = float(single.into.min()), float(single.out.min())
    return Limits(shape, parts, *least, single.total, tuple(inside), tuple(across), single)


def bound(program: Program, topology: nx.DiGraph | Grid | Limits, chip: Chip) -> float:
    """Return the lower bound of a whole program, seconds: its compute on one unit, or all its traffic, whichever is longer.

    What all operations together must bring through one chip or one cut takes its time, however they overlap.

    Parameters
    ----------
    program
        What every chip runs, as `build` makes it.
    topology
        The network: a graph, its Grid, or its Limits, with which many bounds on one network are quicker.
    chip
        The chip of every node.

    Returns
    -------
    float
        Seconds; no run of the program takes less.

    Raises
    ------
    ProgramError, TopologyError
        If program and network do not fit.

    Examples
    --------
    >>> from torussim.chips import chip
    >>> from torussim.program import Collective, Program
    >>> from torussim.topology.builders import ring
    >>> bound(Program((Collective("gather", "all_gather", ("x",), 90e6),)), ring(4, bandwidth=45e9), chip("ideal"))
    0.00075
    """
    most = topology if isinstance(topology, Limits) else limits(topology)
    listed = [(o, times) for operations, times in program.sections() for o in operations]
    lengths = {axis: part.length for axis, part in most.parts.items()}

    def compute(place: Place) -> float:
        here = [(o, times) for o, times in listed if isinstance(o, Compute) and runs(o, place)]
        unlike = sum((times * _each(o, most, chip) for o, times in here if o.cases), np.zeros(prod(most.shape)))
        own = np.logical_and.reduce([most._place(axis) == at for axis, at in place.items()])  # the chips of the place
        return sum(times * paper_compute(o, chip) for o, times in here if not o.cases) + float(unlike.max(where=own, initial=0.0))

    return max(max(map(compute, places_of(program, lengths))),
               _seconds([(o, times) for o, times in listed if isinstance(o, Collective)], most))


def operation_seconds(operation: Operation, topology: nx.DiGraph | Grid | Limits, chip: Chip) -> float:
    """Return the bound of one operation on an idle network, seconds."""
    if isinstance(operation, Compute):
        return paper_compute(operation, chip)
    return _seconds([(operation, 1)], topology if isinstance(topology, Limits) else limits(topology))


def _each(compute: Compute, most: Limits, chip: Chip) -> Array:
    """Return (chips,) the least time of a computation with cases on each chip."""
    position = {a: most._place(a) for a in compute.over}
    return of_each(compute, lambda case: paper_compute(case, chip), lambda a: most.parts[a].length, position)


def traffic(collective: Collective, most: Limits) -> tuple[float, float, float]:
    """Return the least bytes that enter a chip, leave a chip, and cross links in total for each chip of its group.

    An all-gather brings each chip (K-1)/K D and takes out each shard once. A reduce-scatter is the reverse. An all-reduce moves D
    both ways and 2 (K-1)/K D in total: for each sum, K-1 chips send their part before one chip has it, and then K-1 chips must
    receive it.
    """
    chips, size = _group(collective, most), collective.bytes
    share = size * (chips - 1) / chips
    if chips == 1 or collective.kind in WITH_ROOT:  # one chip receives nothing, or sends nothing: see `unlike`
        return 0.0, 0.0, 0.0
    if collective.matrix:  # the least of any chip
        moved = collective.matrix.array - np.diag(collective.matrix.array.diagonal())
        return float(moved.sum(axis=0).min()), float(moved.sum(axis=1).min()), float(moved.sum()) / chips
    if collective.kind == "all_gather":
        return share, size / chips, share
    if collective.kind == "reduce_scatter":
        return size / chips, share, share
    if collective.kind == "all_reduce":
        return size, size, 2 * share
    if collective.kind == "permute" and not any(collective.shift.get(a, 0) % most.parts[a].length for a in collective.axes):
        return 0.0, 0.0, 0.0
    moved = share if collective.kind == "all_to_all" else size
    return moved, moved, moved


def crossing(collective: Collective, axis: int, most: Limits) -> Array:
    """Return the bytes that must leave each run of an axis, and cross between its blocks in total, for all groups, (runs + 1,).

    A run has m chips of a group of K; if m is 0 or K nothing has to leave. Otherwise the least bytes are:
    all_gather: the m shards of the chips inside, D/K each, once for all chips outside (further copies can be made there);
    reduce_scatter: for each of the K-m chips outside one partial sum of D/K, added up over the chips inside before it leaves;
    all_reduce: one partial sum of D, without which no chip outside has the result;
    all_to_all: a message of D/K from each chip inside to each outside, m (K-m) of them; permute: D for each target outside.
    The total is the sum over single blocks; for an all_reduce over c blocks it is 2 (c-1) D (see `traffic`).
    A collective on some positions of this axis is left out, except a permute.
    """
    inside, length = most.inside[axis], most.shape[axis]
    on = [(most.parts[name], places) for name, places in collective.on]
    size = collective.bytes * prod(len(places) / part.length for part, places in on if part.axis != axis)
    place, blocks = np.arange(length), inside.shape[1]
    own = [(name, part) for name in collective.axes if (part := most.parts[name]).axis == axis and part.length > 1]
    senders = np.logical_and.reduce([np.isin(place // part.stride % part.length, places) for part, places in on
                                     if part.axis == axis] or [np.ones(length, bool)])
    if not own or (collective.kind != "permute" and not senders.all()):  # each group is inside as a whole, or outside
        return np.zeros(len(inside) + 1)
    at = {name: place // part.stride % part.length for name, part in own}
    if collective.kind == "permute":
        shift = {name: (at[name] + collective.shift.get(name, 0)) % part.length for name, part in own}
        target = place + sum(((shift[name] - at[name]) * part.stride for name, part in own), np.zeros_like(place))
        weight = np.where(senders, size * prod(most.shape) / length, 0.0)
        block = _blocks(np.array([place, target]), length, blocks)
        return np.append(leaving(inside, block[0], block[1], weight), weight[block[0] != block[1]].sum())
    # positions of one group have equal coordinates, except the collective's own
    first = place - sum((at[name] * part.stride for name, part in own), np.zeros_like(place))
    group = np.unique(first, return_inverse=True)[1]  # (positions,)
    groups = int(group.max()) + 1
    count = np.bincount(group * blocks + _blocks(place, length, blocks), minlength=groups * blocks).reshape(groups, blocks)
    chips = _group(collective, most)
    here = chips * groups // length  # members of a group at each of its positions
    alike = prod(most.shape) // (chips * groups)  # groups on the same positions of this axis
    size *= alike
    leaves = size * _leaves(collective.kind, here * (inside @ count.T), chips).sum(axis=1)
    if collective.kind == "all_reduce":
        in_all = 2 * size * ((count > 0).sum(axis=1) - 1).sum()
    else:
        in_all = size * _leaves(collective.kind, here * count, chips).sum()
    return np.append(leaves, in_all)


def through(collective: Collective, partition: Partition, most: Limits) -> Array:
    """Return the bytes that must leave each block of a partition, enter each, and cross between blocks, (2 blocks + 1,)."""
    block, blocks, size, here = partition.block, len(partition.out), collective.bytes, most.here(collective)
    if collective.kind == "permute":
        to = block[most.shifted({a: collective.shift.get(a, 0) for a in collective.axes})]
        out, into = (size * np.bincount(ends[(block != to) & here], minlength=blocks) for ends in (block, to))
        return np.concatenate([out, into, [out.sum()]])
    block = block[here]
    pair, count = np.unique(most.group(collective.axes)[here] * blocks + block, return_counts=True)
    chips = _group(collective, most)
    out, into = (size * np.bincount(pair % blocks, _leaves(collective.kind, m, chips), blocks) for m in (count, chips - count))
    in_all = 2 * size * (len(pair) - len(block) // chips) if collective.kind == "all_reduce" else out.sum()
    return np.concatenate([out, into, [in_all]])


def _leaves(kind: str, m: Array, chips: int | Array) -> Array:
    """Return the share of D that must leave a set with m of a group's chips."""
    share = {"all_gather": m / chips, "reduce_scatter": (chips - m) / chips, "all_reduce": np.ones(m.shape),
             "all_to_all": m * (chips - m) / chips}[kind]
    return np.where((m > 0) & (m < chips), share, 0.0)


def unlike(collective: Collective, block: Array, blocks: int, inside: Array | None, most: Limits) -> tuple[Array, Array, float]:
    """Return the bytes that must leave sets of blocks, enter each, (sets,), and cross between blocks in total.

    They are for a collective with a root, a matrix, or groups of its own. `block`: (chips,); `inside`: (sets, blocks) of 0 and 1;
    None: each block is a set. For a set with some but not all chips of a group: a broadcast sends D out of a set with the root; a
    reduce sends one sum of D out of a set without it; a gather sends the shards of the chips inside out of a set without the
    root; a scatter sends the shards of the chips outside out of a set with it; a send sends D.
    """
    chip, group, count, root = _members(collective, most)
    groups = len(count)
    if collective.matrix:
        return _between(collective.matrix.array, block[chip[np.argsort(group, kind="stable")]], blocks, inside)
    m = np.bincount(group * blocks + block[chip], minlength=groups * blocks).reshape(groups, blocks)
    has = np.zeros((groups, blocks), bool)
    has[np.arange(groups), block[root]] = True
    many, there = (m.T, has.T) if inside is None else (inside @ m.T, inside @ has.T > 0)  # (sets, groups)
    of = count[None]
    out, into = (collective.bytes * _shares(collective.kind, k, at, of).sum(axis=1) for k, at in (
        (many, there), (of - many, ~there)))
    if collective.kind in ("all_reduce", "broadcast", "reduce", "send"):
        in_all = (2 if collective.kind == "all_reduce" else 1) * float(((m > 0).sum(axis=1) - 1).sum())
    else:
        in_all = float(_shares(collective.kind, m, has, count[:, None]).sum())
    return out, into, collective.bytes * in_all


def _between(matrix: Array, block: Array, blocks: int, inside: Array | None) -> tuple[Array, Array, float]:
    """Return the same for a matrix between the chips of each group; `block`: of each chip, (members,), group by group."""
    ends = block.reshape(-1, len(matrix))  # (groups, K)
    pairs = (ends[:, :, None] * blocks + ends[:, None, :]).ravel()
    moved = np.bincount(pairs, np.tile(matrix.ravel(), len(ends)), blocks * blocks).reshape(blocks, blocks)
    moved -= np.diag(moved.diagonal())
    if inside is None:
        return moved.sum(axis=1), moved.sum(axis=0), float(moved.sum())
    out, into = ((inside @ way * (1 - inside)).sum(axis=1) for way in (moved, moved.T))
    return out, into, float(moved.sum())


def _members(o: Collective, most: Limits) -> tuple[Array, Array, Array, Array]:
    """Return the chips in groups, the group of each, (members,), the size of each group, and its root, (groups,)."""
    if o.groups:
        sizes = [len(group) for group in o.groups]
        at = o.root[0] if o.root else 0
        return (np.concatenate([np.array(group) for group in o.groups]), np.repeat(np.arange(len(sizes)), sizes), np.array(sizes),
                np.array([group[at] for group in o.groups]))
    group = most.group(o.axes)
    here = np.logical_and.reduce([most._place(a) == at for a, at in zip(o.axes, o.root or (0,) * len(o.axes))])
    root = np.empty(int(group.max()) + 1, int)
    root[group[here]] = np.flatnonzero(here)
    return np.arange(len(group)), group, np.bincount(group), root


def _shares(kind: str, m: Array, root: Array, chips: Array) -> Array:
    """Return the share of D that must leave sets with m of the chips of groups, and with the root where `root` is set."""
    if kind in ("broadcast", "send"):
        return np.where(root & (m < chips), 1.0, 0.0)
    if kind == "reduce":
        return np.where(~root & (m > 0), 1.0, 0.0)
    if kind == "gather":
        return np.where(root, 0.0, m / chips)
    return np.where(root, (chips - m) / chips, 0.0) if kind == "scatter" else _leaves(kind, m, chips)


def _seconds(collectives: list[tuple[Collective, int]], most: Limits) -> float:
    """Return the longest time of a chip, a run or all links for collectives, each with its number of runs."""
    alike = [(o, times) for o, times in collectives if not (o.groups or o.kind in WITH_ROOT or o.matrix or o.on)]
    some = [(o, times) for o, times in collectives if o.kind not in WITH_ROOT and not o.matrix and o.on]  # chip by chip
    others = [(o, times) for o, times in collectives if o.groups or (not o.on and (o.kind in WITH_ROOT or o.matrix))]
    enter, leave, cross = np.sum([np.multiply(times, traffic(o, most)) for o, times in alike], axis=0) if alike else np.zeros(3)
    moved = [np.array([cross * prod(most.shape), enter, leave])]
    rate = [np.array([most.total, most.into, most.out]), *most.across]
    for axis, across in enumerate(most.across):
        moved.append(sum((times * crossing(o, axis, most) for o, times in (*alike, *some)), np.zeros_like(across)))
        inside, at = most.inside[axis], coordinates(most.shape)[axis]
        for o, times in others:
            out, _, in_all = unlike(o, _blocks(at, most.shape[axis], inside.shape[1]), inside.shape[1], inside, most)
            moved[-1] = moved[-1] + times * np.append(out, in_all)
    for partition in (*most.partitions, *([most.single] if others or some else [])):
        moved.append(np.zeros(2 * len(partition.out) + 1))
        moved[-1] += sum(times * through(o, partition, most) for o, times in (*alike, *some))
        for o, times in others:
            out, into, in_all = unlike(o, partition.block, len(partition.out), None, most)
            moved[-1] += times * np.concatenate([out, into, [in_all]])
        rate.append(np.concatenate([partition.out, partition.into, [partition.total]]))
    for axes in {o.axes for o, _ in alike} if most.wires else ():
        over = [np.multiply(times, traffic(o, most)[:2]) for o, times in alike if o.axes == axes]
        moved.append(np.sum(over, axis=0))
        rate.append(np.array(most.beside(axes)[::-1]))
    bytes_, rates = np.concatenate(moved), np.concatenate(rate)
    with np.errstate(divide="ignore"):  # without bandwidth the time is infinite
        return float((bytes_[bytes_ > 0] / rates[bytes_ > 0]).max(initial=0.0))


def _group(collective: Collective, most: Limits) -> int:
    return prod(most.parts[name].length for name in collective.axes)


def _runs(blocks: int) -> Array:
    """Return all runs of 1 to blocks - 1 neighbouring blocks, cyclically, (runs, blocks) of 0 and 1."""
    start, length, block = np.ogrid[:blocks, 1:blocks, :blocks]
    return np.asarray((block - start) % blocks < length, float).reshape(-1, blocks)


def _blocks(positions: Array, length: int, blocks: int) -> Array:
    """Return the block of each position of an axis."""
    return positions * blocks // length


def _partition(wires: Wires, block: Array) -> Partition:
    """Return the bandwidths between blocks of chips; the total is at most the sum out of them, and the sum into them."""
    out, into = out_of_each(wires, block), out_of_each(wires.back, block)
    return Partition(block, out, into, float(min(out.sum(), into.sum())))


def _same_coordinates(shape: tuple[int, ...]) -> list[Array]:
    """Return the partitions of chips by equal first coordinates, (chips,) block of each."""
    return [np.arange(prod(shape)) // prod(shape[axes:]) for axes in range(1, len(shape)) if 1 < prod(shape[:axes]) < prod(shape)]
