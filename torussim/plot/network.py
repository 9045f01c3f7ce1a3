"""The data of a picture of a network: its links as plain columns, and their oddities. The module knows nothing of pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan, nan, prod
from typing import Any

import numpy as np

from torussim.analysis import busiest, users
from torussim.plot.ranks import levels
from torussim.report.phrases import fault
from torussim.timeline import Array, Timeline
from torussim.topology.check import Links
from torussim.topology.faults import Changes, all_described
from torussim.topology.grid import Grid
from torussim.topology.shape import coordinates, receivers

FEW = 4  # links without an axis can be slow only if the commonest bandwidth has this many times as many links


@dataclass(frozen=True, eq=False)
class LinkPicture:
    """The links of a network as columns `(links,)`, one entry for each direction of each link.

    `source` and `target` number chips in C order of the axes; numbers after the last chip are switches.
    """

    axes: Mapping[str, int]  # name -> length; empty: every node counts as a chip
    source: Array
    target: Array
    axis: Array  # -1: not between neighbours
    sign: Array  # 0: +, 1: -
    wraparound: Array
    bandwidth: Array  # bytes/s
    busy: Array  # share of the time, or the value that the colours show instead; nan if unknown
    bytes: Array
    dead: Sequence[tuple[int, int, int]] = ()  # (source, target, axis) of links that do not exist
    busiest: Sequence[int] = ()  # links with numbers from 1, at most ten
    users: Sequence[str] = ()  # the users of each of the busiest links
    names: Sequence[str] = ()  # of the nodes; default: coordinates, and "switch 0" ...
    switches: int = 0  # without axes: the number of switches, which are the last nodes
    what: str = "share of the time that a link is busy"  # the value that the colours show
    head: Sequence[str] = ("from → to", "busy", "bytes", "bandwidth")  # of the table of the busiest
    rows: Sequence[Sequence[str]] | None = None  # of the table; default: the values named in its head
    beside: str = "used by"  # the meaning of `users`
    numbered: str = "the busiest, see the table"  # the meaning of a number at a link
    levels: Sequence[float] = ()  # of the switches: their distance from the chips, nan if the graph does not give it
    groups: Sequence[object] = ()  # of the nodes, chips first: the group of each, None if the graph does not give it
    faults: Sequence[str] = ()  # of the network, in words

    @staticmethod
    def of(timeline: Timeline, grid: Grid, changes: Changes | None = None) -> LinkPicture:
        """Return the use of the links of a network by a run. `changes`: if faults are named, the present state of the network."""
        links, shown = grid.links, busiest(timeline, grid)
        busy = timeline.link_seconds / timeline.makespan if timeline.makespan else np.zeros(len(links.source))
        names = node_names(links)
        return LinkPicture(links.axes, links.source, links.target, links.axis, links.sign, links.wraparound, links.bandwidth,
                           busy, timeline.link_bytes, dead_links(links), shown, [_users(timeline, link) for link in shown], names,
                           faults=[fault(one) for one in all_described(changes)], **placing(grid))

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        return tuple(self.axes.values())

    @cached_property
    def nodes(self) -> int:
        """The number of chips and switches."""
        ends = [np.asarray(self.source).max(initial=-1), np.asarray(self.target).max(initial=-1)]
        ends += [max(link[:2]) for link in self.dead]
        return max(prod(self.lengths) if self.axes else 1, len(self.names), int(max(ends)) + 1)

    @cached_property
    def chips(self) -> int:
        """The number of chips."""
        return prod(self.lengths) if self.axes else self.nodes - self.switches

    @cached_property
    def at(self) -> Array:
        """The coordinates of the chips, (axes, chips)."""
        return coordinates(self.lengths) if self.axes else np.arange(self.chips)[None]

    def name(self, node: int) -> str:
        """Return the name of a chip or a switch."""
        if node < len(self.names):
            return self.names[node]
        if node >= self.chips:
            return f"switch {node - self.chips}"
        return f"({', '.join(map(str, self.at[:, node]))})" if self.axes else str(node)

    def group_name(self, members: Array) -> str:
        """Return the name of a group, given its nodes."""
        name = self.groups[int(members[0])] if self.groups and len(members) else None
        return "" if name is None else f"group {name}" if isinstance(name, int) else str(name)

    @cached_property
    def slow(self) -> Array:
        """Whether a link's bandwidth is below the commonest of its axis; the larger one if two are equally common.

        Links without an axis are compared with links between the same levels, and only few of them can be slow: a network can be
        built of links of several widths.
        """
        found = np.zeros(len(self.source), bool)
        rows = levels(self)
        kinds = np.where(self.axis >= 0, self.axis, -1 - rows[self.source] - (rows.max(initial=0) + 1) * rows[self.target])
        for kind in np.unique(kinds):
            mine = kinds == kind
            values, counts = np.unique(self.bandwidth[mine], return_counts=True)
            commonest = values[counts == counts.max()].max() if mine.any() else 0.0
            low = values[(values < commonest * (1 - 1e-9)) & ((kind >= 0) | (FEW * counts < counts.max()))]
            found |= mine & np.isin(self.bandwidth, low)
        return found

    @cached_property
    def is_grid(self) -> bool:
        """Whether most links are between neighbours, so that slices can show them."""
        return bool(self.axes) and self.nodes == self.chips and 2 * int(np.count_nonzero(self.axis < 0)) <= len(self.axis)

    @cached_property
    def ends(self) -> Ends:
        """The existing links, then the dead ones."""
        dead = np.array(self.dead, np.intp).reshape(-1, 3).T
        sign, wraparound = self.directions(*dead)
        pairs = [(self.source, dead[0]), (self.target, dead[1]), (self.axis, dead[2]), (self.sign, sign)]
        sources, targets, axes, signs = (np.concatenate(pair).astype(np.intp) for pair in pairs)
        return Ends(sources, targets, axes, signs, np.concatenate([self.wraparound, wraparound]).astype(bool))

    def directions(self, source: Array, target: Array, axis: Array) -> tuple[Array, Array]:
        """Return sign and wraparound of links with given ends and axis."""
        if not self.axes or not len(source):
            return np.zeros(len(source), np.intp), np.zeros(len(source), bool)
        links, safe = np.arange(len(source)), np.minimum([source, target], self.chips - 1)
        step = self.at[:, safe[1]] - self.at[:, safe[0]]
        along = step[axis, links]
        others = np.abs(step).sum(axis=0) - np.abs(along)
        wraparound = (axis >= 0) & ((np.abs(along) != 1) | (others > 0))
        # From a border, the step inwards is the step of a wraparound in the other direction.
        from_last = self.at[axis, safe[0]] == np.array(self.lengths)[axis] - 1
        return np.where(wraparound, ~from_last, along < 0).astype(np.intp), wraparound


def node_names(links: Links) -> list[str]:
    """Return the names of the nodes if some are switches; otherwise none, because coordinates are enough."""
    if len(links.nodes) == len(links.chips):
        return []
    return [f"({', '.join(map(str, node))})" if isinstance(node, tuple) else str(node) for node in links.nodes]


def placing(grid: Grid) -> dict[str, Any]:
    """Return the levels and groups of a picture from the nodes of the graph; nothing if no node has any."""
    graph, links = grid.graph, grid.links
    if graph is None:
        return {}
    given = [graph.nodes[node] for node in links.nodes]
    levels = [one.get("level") for one in given[len(links.chips):]]
    groups = [one.get("group") for one in given]
    numbers = [float(one) if isinstance(one, int | float) and not isinstance(one, bool) else nan for one in levels]
    found: dict[str, Any] = {} if all(map(isnan, numbers)) else {"levels": numbers}
    return found if all(one is None for one in groups) else found | {"groups": groups}


def dead_links(links: Links) -> list[tuple[int, int, int]]:
    """Return (source, target, axis) of the links that a network had when it was built; axis -1: none."""
    number = {node: i for i, node in enumerate(links.nodes)}
    directions = receivers(links.axes, links.twist)
    dead = []
    for u, v in links.failed:
        source, target = number[u], number[v]
        along: Array = np.argwhere(directions[:, :, source] == target) if source < len(links.chips) else np.empty((0, 2), int)
        dead.append((source, target, int(along[0][0]) if len(along) else -1))
    return dead


def _users(timeline: Timeline, link: int) -> str:
    """Return the users of a link in words."""
    found = list(users(timeline, link).items())
    shown = ", ".join(f"{name} {share:.0%}" for name, share in found[:2])
    return shown + (f" and {len(found) - 2} more" if len(found) > 2 else "")


@dataclass(frozen=True, eq=False)
class Ends:
    """The ends of links as columns `(links,)`."""

    source: Array
    target: Array
    axis: Array
    sign: Array
    wraparound: Array


def shift(links: LinkPicture, link: int) -> list[str]:
    """Return the change of other coordinates by a wraparound, such as ["z+4"]; empty if it is not twisted."""
    ends, said = links.ends, []
    step = links.at[:, ends.target[link]] - links.at[:, ends.source[link]]
    for axis, (name, length) in enumerate(links.axes.items()):
        by = int(step[axis]) % length
        if by and axis != ends.axis[link]:
            said.append(f"{name}+{by}" if 2 * by <= length else f"{name}−{length - by}")
    return said


def twisted(links: LinkPicture, which: Array) -> list[int]:
    """Return the links that change coordinates other than that of their axis."""
    at, ends = links.at, links.ends
    step = at[:, ends.source[which]] != at[:, ends.target[which]]
    step[ends.axis[which], np.arange(len(which))] = False
    return [int(link) for link in which[step.any(axis=0)]]
