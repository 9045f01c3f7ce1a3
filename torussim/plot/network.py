"""What a picture of a network shows: its links as plain columns, and what is odd about them. Knows nothing of pixels."""

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

FEW = 4  # so many times as many links are built as the commonest as are slow, where they have no axis


@dataclass(frozen=True, eq=False)
class LinkPicture:
    """The links of a network as columns `(links,)`, one entry for each direction of each link.

    `source` and `target` count chips in C order of the axes; what comes after the last chip is a switch.
    """

    axes: Mapping[str, int]  # name -> length; none: every node counts as a chip
    source: Array
    target: Array
    axis: Array  # -1: not between neighbours
    sign: Array  # 0: +, 1: -
    wraparound: Array
    bandwidth: Array  # bytes/s
    busy: Array  # share of the time; or what else the colours show, nan where it is not known
    bytes: Array
    dead: Sequence[tuple[int, int, int]] = ()  # (source, target, axis) of links that are not there
    busiest: Sequence[int] = ()  # links to be numbered from 1, at most ten
    users: Sequence[str] = ()  # who uses each of the busiest
    names: Sequence[str] = ()  # of the nodes; default: coordinates, and "switch 0" ...
    switches: int = 0  # where there are no axes: how many of the nodes, the last ones
    what: str = "share of the time that a link is busy"  # what the colours show
    head: Sequence[str] = ("from → to", "busy", "bytes", "bandwidth")  # of the table of the busiest
    rows: Sequence[Sequence[str]] | None = None  # of it; default: what its head says
    beside: str = "used by"  # what `users` says
    numbered: str = "the busiest, see the table"  # what a number at a link means
    levels: Sequence[float] = ()  # of the switches: how far from the chips they are, nan where the graph does not say
    groups: Sequence[object] = ()  # of the nodes, chips first: what each belongs to, None where the graph does not say
    faults: Sequence[str] = ()  # of the network, in words

    @staticmethod
    def of(timeline: Timeline, grid: Grid, changes: Changes | None = None) -> LinkPicture:
        """Return what a run did with the links of its network; `changes`: where faults are named, what has been made of it."""
        links, shown = grid.links, busiest(timeline, grid)
        busy = timeline.link_seconds / timeline.makespan if timeline.makespan else np.zeros(len(links.source))
        names = node_names(links)
        return LinkPicture(links.axes, links.source, links.target, links.axis, links.sign, links.wraparound, links.bandwidth,
                           busy, timeline.link_bytes, dead_links(links), shown, [_users(timeline, link) for link in shown], names,
                           faults=[fault(one) for one in all_described(changes)], **placing(grid))

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """The axes' lengths."""
        return tuple(self.axes.values())

    @cached_property
    def nodes(self) -> int:
        """How many chips and switches there are."""
        ends = [np.asarray(self.source).max(initial=-1), np.asarray(self.target).max(initial=-1)]
        ends += [max(link[:2]) for link in self.dead]
        return max(prod(self.lengths) if self.axes else 1, len(self.names), int(max(ends)) + 1)

    @cached_property
    def chips(self) -> int:
        """How many chips there are."""
        return prod(self.lengths) if self.axes else self.nodes - self.switches

    @cached_property
    def at(self) -> Array:
        """The coordinates of the chips, (axes, chips)."""
        return coordinates(self.lengths) if self.axes else np.arange(self.chips)[None]

    def name(self, node: int) -> str:
        """Return what a chip or a switch is called."""
        if node < len(self.names):
            return self.names[node]
        if node >= self.chips:
            return f"switch {node - self.chips}"
        return f"({', '.join(map(str, self.at[:, node]))})" if self.axes else str(node)

    def group_name(self, members: Array) -> str:
        """Return what a group is called, given its nodes."""
        name = self.groups[int(members[0])] if self.groups and len(members) else None
        return "" if name is None else f"group {name}" if isinstance(name, int) else str(name)

    @cached_property
    def slow(self) -> Array:
        """Whether a link's bandwidth is below the commonest of its axis; the larger where two are as common.

        Links of no axis are compared with those between the same levels, and only few can be slow: a network can be built of
        links of several widths.
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
        """Whether most links are between neighbours, so that slices show them."""
        return bool(self.axes) and self.nodes == self.chips and 2 * int(np.count_nonzero(self.axis < 0)) <= len(self.axis)

    @cached_property
    def ends(self) -> Ends:
        """The links that are there, then the dead ones."""
        dead = np.array(self.dead, np.intp).reshape(-1, 3).T
        sign, wraparound = self.directions(*dead)
        pairs = [(self.source, dead[0]), (self.target, dead[1]), (self.axis, dead[2]), (self.sign, sign)]
        sources, targets, axes, signs = (np.concatenate(pair).astype(np.intp) for pair in pairs)
        return Ends(sources, targets, axes, signs, np.concatenate([self.wraparound, wraparound]).astype(bool))

    def directions(self, source: Array, target: Array, axis: Array) -> tuple[Array, Array]:
        """Return sign and wraparound of links whose ends and axis are given."""
        if not self.axes or not len(source):
            return np.zeros(len(source), np.intp), np.zeros(len(source), bool)
        links, safe = np.arange(len(source)), np.minimum([source, target], self.chips - 1)
        step = self.at[:, safe[1]] - self.at[:, safe[0]]
        along = step[axis, links]
        others = np.abs(step).sum(axis=0) - np.abs(along)
        wraparound = (axis >= 0) & ((np.abs(along) != 1) | (others > 0))
        # From a border the step towards the inside is a wraparound's in the other direction.
        from_last = self.at[axis, safe[0]] == np.array(self.lengths)[axis] - 1
        return np.where(wraparound, ~from_last, along < 0).astype(np.intp), wraparound


def node_names(links: Links) -> list[str]:
    """Return the names of the nodes where some are switches; else none, as coordinates are enough."""
    if len(links.nodes) == len(links.chips):
        return []
    return [f"({', '.join(map(str, node))})" if isinstance(node, tuple) else str(node) for node in links.nodes]


def placing(grid: Grid) -> dict[str, Any]:
    """Return the levels and groups of a picture, as the nodes of the graph have them; nothing where none has any."""
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
    """Return (source, target, axis) of the links that a network once had; axis -1: none."""
    number = {node: i for i, node in enumerate(links.nodes)}
    directions = receivers(links.axes, links.twist)
    dead = []
    for u, v in links.failed:
        source, target = number[u], number[v]
        along: Array = np.argwhere(directions[:, :, source] == target) if source < len(links.chips) else np.empty((0, 2), int)
        dead.append((source, target, int(along[0][0]) if len(along) else -1))
    return dead


def _users(timeline: Timeline, link: int) -> str:
    """Return who uses a link, in words."""
    found = list(users(timeline, link).items())
    shown = ", ".join(f"{name} {share:.0%}" for name, share in found[:2])
    return shown + (f" and {len(found) - 2} more" if len(found) > 2 else "")


@dataclass(frozen=True, eq=False)
class Ends:
    """Where links begin and end; columns `(links,)`."""

    source: Array
    target: Array
    axis: Array
    sign: Array
    wraparound: Array


def shift(links: LinkPicture, link: int) -> list[str]:
    """Return how a wraparound changes the coordinates of the other axes: ["z+4"]; nothing where it is not twisted."""
    ends, said = links.ends, []
    step = links.at[:, ends.target[link]] - links.at[:, ends.source[link]]
    for axis, (name, length) in enumerate(links.axes.items()):
        by = int(step[axis]) % length
        if by and axis != ends.axis[link]:
            said.append(f"{name}+{by}" if 2 * by <= length else f"{name}−{length - by}")
    return said


def twisted(links: LinkPicture, which: Array) -> list[int]:
    """Return those of some links that change other coordinates than that of their axis."""
    at, ends = links.at, links.ends
    step = at[:, ends.source[which]] != at[:, ends.target[which]]
    step[ends.axis[which], np.arange(len(which))] = False
    return [int(link) for link in which[step.any(axis=0)]]
