"""The bandwidth out of sets of chips and into them: cuts of a network that can have switches.

A set of chips does not decide on which side of its cut a switch is. Every choice of sides gives a cut, and the narrowest cut
gives the best bound. It is found exactly, by maximum flows, if the network and the number of sets are small. Otherwise one switch
after another is put on the side with the lower cut bandwidth; this cut can be wider than necessary. The module knows nothing of
collectives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from torussim.topology.flows import Networks, maximum_flow, value

Array = np.ndarray[Any, Any]

EXACT = 1 << 17  # sets x links up to which the narrowest cuts are computed
PLACED = 10_000_000  # sets x links up to which switches are put on sides
AT_ONCE = 1 << 20  # sets x links that are processed at a time, which bounds the memory
WIDTHS = 6  # the bandwidths that serve as thresholds for leaving out links


@dataclass(frozen=True, eq=False)
class Sums:
    """Weighted sums over the links of some switches: switch rows[i] has the links first[i]:first[i + 1]."""

    switches: int
    rows: Array
    first: Array
    other: Array  # (links,) switch at the other end
    width: Array

    def sums(self, weight: Array) -> Array:
        """Return (switches, sets) the bandwidth of all links of each switch, weighted by their other ends, (switches, sets)."""
        found = np.zeros((self.switches, weight.shape[1]))
        if len(self.rows):
            found[self.rows] = np.add.reduceat(weight[self.other] * self.width[:, None], self.first, axis=0)
        return found


@dataclass(frozen=True, eq=False)
class Level:
    """The switches at one distance from the nearest chip, and their links to and from other switches."""

    switches: Array
    away: Sums
    back: Sums


@dataclass(frozen=True, eq=False)
class Wires:
    """The links of a network as columns (links,): numbers of chips, then those of switches, and bytes/s."""

    chips: int
    nodes: int
    source: Array
    target: Array
    bandwidth: Array

    @cached_property
    def back(self) -> Wires:
        """The network with all links reversed: the bandwidth out of a set here is the bandwidth into it there."""
        return Wires(self.chips, self.nodes, self.target, self.source, self.bandwidth)

    @cached_property
    def inner(self) -> Array:
        """The links between switches, (links,) indices."""
        return np.flatnonzero((self.source >= self.chips) & (self.target >= self.chips))

    @cached_property
    def levels(self) -> list[Level]:
        """The switches by their hops from the nearest chip, those next to chips first."""
        switches, inner = self.nodes - self.chips, self.inner
        hops = np.full(switches, switches)
        near = [ends[(ends >= self.chips) & (other < self.chips)] - self.chips
                for ends, other in ((self.source, self.target), (self.target, self.source))]
        hops[np.concatenate(near)] = 0
        begin, end, width = self.source[inner] - self.chips, self.target[inner] - self.chips, self.bandwidth[inner]
        while True:
            before = hops.copy()
            np.minimum.at(hops, end, hops[begin] + 1)
            np.minimum.at(hops, begin, hops[end] + 1)
            if (hops == before).all():
                break
        found = []
        for hop in np.unique(hops):
            here = np.flatnonzero(hops == hop)
            out, into = np.isin(begin, here), np.isin(end, here)
            found.append(Level(here, _sums(here, begin[out], end[out], width[out]),
                               _sums(here, end[into], begin[into], width[into])))
        return found

    @cached_property
    def arcs(self) -> int:
        """The number of links of a network in which each chip is merged into one of two nodes."""
        return 2 * (self.nodes - self.chips) + len(self.inner)


def leaving(inside: Array, source: Array, target: Array, weight: Array) -> Array:
    """Return (sets,) the weight of pairs of blocks that leave each set; `inside`: (sets, blocks), 0 or 1."""
    blocks = inside.shape[1]
    between = np.bincount(source * blocks + target, weight, blocks * blocks).reshape(blocks, blocks)
    return np.asarray(((inside @ between) * (1 - inside)).sum(axis=1))


def out_of(wires: Wires, block: Array, inside: Array) -> Array:
    """Return (sets,) bytes/s out of sets of chips: the chips whose block, (chips,), is 1 in `inside`, (sets, blocks)."""
    chips, switches = wires.chips, wires.nodes - wires.chips
    blocks = inside.shape[1]
    from_chip, to_chip = wires.source < chips, wires.target < chips
    direct = from_chip & to_chip
    found = leaving(inside, block[wires.source[direct]], block[wires.target[direct]], wires.bandwidth[direct])
    if not switches:
        return found
    up, down = from_chip & ~to_chip, to_chip & ~from_chip
    of_up = np.bincount(block[wires.source[up]] * switches + wires.target[up] - chips, wires.bandwidth[up], blocks * switches)
    of_down = np.bincount(block[wires.target[down]] * switches + wires.source[down] - chips, wires.bandwidth[down],
                          blocks * switches)
    side = _exact if len(inside) * wires.arcs <= EXACT else _placed
    for some in _slices(len(inside), wires.arcs):
        # from the set to each switch, and from the switch to the other chips, (sets, switches)
        gives = inside[some] @ of_up.reshape(blocks, switches)
        takes = (1 - inside[some]) @ of_down.reshape(blocks, switches)
        found[some] += side(wires, gives, takes)
    return found


def out_of_each(wires: Wires, block: Array) -> Array:
    """Return (blocks,) bytes/s out of each block of chips, given the block of each, (chips,)."""
    blocks = int(block.max()) + 1
    if wires.nodes == wires.chips:
        begin, end = block[wires.source], block[wires.target]
        return np.bincount(begin[begin != end], wires.bandwidth[begin != end], blocks)
    if blocks * max(wires.arcs, blocks) <= PLACED:
        return out_of(wires, block, np.eye(blocks))
    # A switch next to a block is on the block's side if it passes on less than it receives from the block.
    owner = np.concatenate([block, blocks + np.arange(wires.nodes - wires.chips)])
    source, target = owner[wires.source], owner[wires.target]
    pair, which = np.unique(source * len(owner) + target, return_inverse=True)
    width = np.bincount(which.reshape(-1), wires.bandwidth)
    begin, end = np.divmod(pair, len(owner))
    passes = np.bincount(source, wires.bandwidth, len(owner))
    back = np.searchsorted(pair, end * len(owner) + begin)
    back[back == len(pair)] = 0
    returned = np.where(pair[back] == end * len(owner) + begin, width[back], 0.0)
    out = np.where(end >= blocks, np.minimum(width, passes[end] - returned), width)
    leaves = (begin < blocks) & (begin != end)
    return np.bincount(begin[leaves], out[leaves], blocks)


def out_to_members(wires: Wires, group: Array) -> Array | None:
    """Return (chips,) bytes/s from each chip to the other chips of its group, (chips,), by way of any chips and switches.

    inf for a chip alone in its group. None if the network is too large.
    """
    chips, links = wires.chips, len(wires.source)
    if chips * links > EXACT:
        return None
    chip, place = np.arange(chips), np.arange(chips)[:, None] * (wires.nodes + 1)
    cell = np.tile(np.arange(wires.nodes), (chips, 1))
    cell[:, :chips][(group == group[:, None]) & (chip != chip[:, None])] = wires.nodes
    tail, head = (cell + place)[:, wires.source], (cell + place)[:, wires.target]
    networks = Networks(np.repeat(chip, links), tail.ravel(), head.ravel(), np.tile(wires.bandwidth, chips),
                        place.ravel() + chip, place.ravel() + wires.nodes)
    alone = np.bincount(group)[group] == 1
    return np.where(alone, np.inf, value(networks, maximum_flow(networks)))


def neighbourhoods(wires: Wires) -> Iterator[Array]:
    """Yield partitions of the chips by the links, (chips,) block of each: nodes, racks, groups.

    Chips of a block are connected by their own links and the switches at the ends of these, by switches up to some distance from
    chips, or by links of at least some bandwidth.
    """
    hops = np.zeros(wires.nodes, int)
    for far, level in enumerate(wires.levels):
        hops[wires.chips + level.switches] = far
    farther = np.maximum(hops[wires.source], hops[wires.target])
    widths = np.unique(wires.bandwidth)
    steps = widths[np.unique(np.linspace(0, len(widths) - 1, min(len(widths), WIDTHS)).astype(int))][1:]
    near = (wires.source < wires.chips) | (wires.target < wires.chips)
    low = (farther <= far for far in range(len(wires.levels) - 1))
    for kept in (near, *low, *(wires.bandwidth >= width for width in steps)):
        label = np.arange(wires.nodes)
        while True:
            before = label.copy()
            np.minimum.at(label, wires.target[kept], label[wires.source[kept]])
            np.minimum.at(label, wires.source[kept], label[wires.target[kept]])
            label = label[label]
            if (label == before).all():
                break
        block = np.unique(label[:wires.chips], return_inverse=True)[1].reshape(-1)
        if 0 < block.max() < wires.chips - 1:
            yield block


def _exact(wires: Wires, gives: Array, takes: Array) -> Array:
    """Return (sets,) the narrowest cuts, from the bandwidths into switches and out of them, both (sets, switches)."""
    sets, switches = gives.shape
    begin = np.arange(sets) * (switches + 2)
    end = begin + 1
    cells = begin[:, None] + 2 + np.arange(switches)
    tail, head = (cells[:, ends[wires.inner] - wires.chips] for ends in (wires.source, wires.target))
    of_give, of_take = np.nonzero(gives), np.nonzero(takes)
    owner = np.concatenate([of_give[0], of_take[0], np.repeat(np.arange(sets), len(wires.inner))])
    networks = Networks(owner, np.concatenate([begin[of_give[0]], cells[of_take], tail.ravel()]),
                        np.concatenate([cells[of_give], end[of_take[0]], head.ravel()]),
                        np.concatenate([gives[of_give], takes[of_take], np.tile(wires.bandwidth[wires.inner], sets)]), begin, end)
    return value(networks, maximum_flow(networks))


def _placed(wires: Wires, gives: Array, takes: Array) -> Array:
    """Return (sets,) cuts with each switch on the side that cuts less, both (sets, switches) as in `_exact`.

    Levels are processed away from the chips and back. If both sides cut alike, a switch is outside the set in one run, and inside
    in another.
    """
    gives, takes = np.ascontiguousarray(gives.T), np.ascontiguousarray(takes.T)  # (switches, sets)
    least = np.minimum(gives.sum(axis=0), takes.sum(axis=0))
    for among in (np.less, np.less_equal):
        side = among(takes, gives).astype(float)  # 1: with the set
        for level in (*wires.levels, *wires.levels[::-1]):
            inside = takes[level.switches] + level.away.sums(1.0 - side)
            outside = gives[level.switches] + level.back.sums(side)
            side[level.switches] = among(inside, outside)
        cut = gives * (1.0 - side) + takes * side
        for level in wires.levels:
            cut[level.switches] += side[level.switches] * level.away.sums(1.0 - side)
        least = np.minimum(least, cut.sum(axis=0))
    return np.asarray(least)


def _sums(switches: Array, own: Array, other: Array, width: Array) -> Sums:
    """Return the sums over links (own end, other end, bandwidth) of some switches."""
    order = np.argsort(own, kind="stable")
    rows, first = np.unique(own[order], return_index=True)
    return Sums(len(switches), np.searchsorted(switches, rows), first, other[order], width[order])


def _slices(count: int, each: int) -> Iterator[slice]:
    size = max(AT_ONCE // max(each, 1), 1)
    return (slice(begin, min(begin + size, count)) for begin in range(0, count, size))
