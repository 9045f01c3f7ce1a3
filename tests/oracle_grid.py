"""Axes, parts of axes, neighbours, dead links and routes for the oracle. Knows the graph, and nothing of bytes and times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import networkx as nx
from oracle_fluid import Route, Router
from oracle_routes import split

Node = tuple[int, ...]
Parts = Mapping[str, Sequence[tuple[str, int, int]]]  # physical axis -> (name, length, stride) of its parts


class Axis(NamedTuple):
    """A physical axis or a part of one: the position of a chip on it is (chip[place] // stride) % length."""

    place: int
    length: int
    stride: int
    ring: bool


class Lane(NamedTuple):
    """Chips in the order in which neighbours send to each other, in a ring or on a line.

    `turn`: what is added to all coordinates on the way from the last chip to the first, beside that way itself.
    """

    chips: tuple[Node, ...]
    ring: bool
    turn: Node = ()
    lengths: tuple[int, ...] = ()

    def on(self, at: int, places: int) -> Node:
        """Return the chip that is so many places behind position `at`; going round a twisted ring leads to another lane."""
        turns, place = divmod(at + places, len(self.chips))
        chip = self.chips[place]
        return tuple((c + turns * t) % n for c, t, n in zip(chip, self.turn, self.lengths, strict=True)) if self.turn else chip


class Grid:
    """The chips of a graph by their coordinates. `ring`: which axes are rings though all their wraparounds be dead."""

    def __init__(self, graph: nx.DiGraph, ring: tuple[bool, ...] | None, parts: Parts | None, route: Router | None) -> None:
        self.graph, self.route = graph, route
        self.lengths: tuple[int, ...] = tuple(graph.graph["axes"].values())
        names = tuple(graph.graph["axes"])
        self.twists = {axis: tuple(shifts.get(other, 0) % n for other, n in zip(names, self.lengths, strict=True))
                       for axis, shifts in graph.graph.get("twist", {}).items()}
        self.twists = {axis: shift for axis, shift in self.twists.items() if any(shift)}
        self.twisted = bool(self.twists)
        self.axes: dict[str, Axis] = {}
        for i, (name, length) in enumerate(graph.graph["axes"].items()):
            wraps = ring[i] if ring is not None else any(self.wraparounds(i))
            self.axes[name] = Axis(i, length, 1, wraps and length > 2 and name not in self.twists)
            stride = 1
            for part, size, step in (parts or {}).get(name, ()):
                assert step == stride, f"{part}: stride {step} instead of {stride}"
                stride *= size
                self.axes[part] = Axis(i, size, step, self.axes[name].ring and stride == length and size > 2)
            assert stride in (1, length), f"the parts of {name} make {stride} chips of {length}"
        self.detours: dict[tuple[Node, Node], Route] = {}

    def goes_round(self, i: int) -> bool:
        """Return whether a twisted axis has a wraparound anywhere."""
        ends = [chip for chip in self.graph if chip[i] == 0]
        return self.lengths[i] > 2 and any(u in self.graph[v] or v in self.graph[u] for v in ends for u in [self.step(v, i, -1)])

    def step(self, chip: Node, i: int, sign: int) -> Node:
        """Return the next chip on axis i, going round with its twist."""
        to = [c + sign * (j == i) for j, c in enumerate(chip)]
        if not 0 <= to[i] < self.lengths[i]:
            twist = self.twists.get(tuple(self.graph.graph["axes"])[i], (0,) * len(to))
            to = [c + sign * t for c, t in zip(to, twist, strict=True)]
        return tuple(c % n for c, n in zip(to, self.lengths, strict=True))

    def turning(self, axis: str, axes: Sequence[str], detour: bool | None) -> bool:
        """Return whether a group over `axes` goes round a twisted axis: it holds all that is shifted, uncut, untwisted."""
        if axis not in self.twists:
            return False
        i, names = self.axes[axis].place, tuple(self.graph.graph["axes"])
        shifted = {other for other, shift in zip(names, self.twists[axis], strict=True) if shift}
        if not self.goes_round(i) or not shifted <= set(axes) - set(self.twists):
            return False
        whole = all(v in self.graph[u] for u in self.graph for v in (self.step(u, i, +1), self.step(u, i, -1)))
        return whole or detour is not False

    def wraparounds(self, i: int) -> Iterator[bool]:
        """Return of every chip that is first on axis i whether there is a link between it and the last."""
        for chip in self.graph:
            if chip[i] == 0:
                last = (*chip[:i], self.lengths[i] - 1, *chip[i + 1:])
                yield self.lengths[i] > 2 and (self.graph.has_edge(last, chip) or self.graph.has_edge(chip, last))

    def position(self, chip: Node, axis: str) -> int:
        place, length, stride, _ = self.axes[axis]
        return (chip[place] // stride) % length

    def placed(self, chip: Node, axes: Sequence[str], positions: Sequence[int]) -> Node:
        """Return the chip with its positions on these axes replaced."""
        at = list(chip)
        for axis, position in zip(axes, positions, strict=True):
            at[self.axes[axis].place] += (position - self.position(chip, axis)) * self.axes[axis].stride
        return tuple(at)

    def group(self, chip: Node, axes: Sequence[str]) -> list[Node]:
        """Return the chips that share its positions on all other axes, itself included, in C order of `axes`."""
        return [self.placed(chip, axes, at) for at in product(*(range(self.axes[a].length) for a in axes))]

    def where(self, line: tuple[Node, ...], axes: Sequence[str]) -> dict[Node, int]:
        """Return of every chip the place in this line of the chip that shares its positions on `axes`, all of the line's."""
        return {chip: line.index(self.placed(line[0], axes, [self.position(chip, a) for a in axes])) for chip in self.graph}

    def neighbours(self, u: Node, v: Node, axes: Sequence[str] | None = None) -> bool:
        """Return whether u and v are next to each other on one of the axes (default: the physical ones), link or no link."""
        if axes is None and any(self.step(u, self.axes[axis].place, sign) == v for axis in self.twists for sign in (+1, -1)):
            return True
        names = self.graph.graph["axes"] if axes is None else axes
        steps = {name: abs(self.position(u, name) - self.position(v, name)) for name in names}
        differ = [name for name, step in steps.items() if step]
        if len(differ) != 1:
            return False
        axis = self.axes[differ[0]]
        return steps[differ[0]] == 1 or (axis.ring and steps[differ[0]] == axis.length - 1)

    def broken(self, u: Node, v: Node) -> bool:
        return self.neighbours(u, v) and not (self.graph.has_edge(u, v) and self.graph.has_edge(v, u))

    def lanes(self, axis: str, detour: bool | None, axes: Sequence[str] = ()) -> tuple[Lane, ...]:
        """Return the lanes of an axis. On a ring with a gap: the ring (detour), or a line from just after the first gap.

        `axes`: those of a group that goes round twisted axes where it can.
        """
        ring = self.axes[axis].ring
        lanes = []
        for chips in dict.fromkeys(tuple(self.group(chip, (axis,))) for chip in self.graph):
            if self.turning(axis, axes, detour):
                lanes.append(Lane(chips, True, self.twists[axis], self.lengths))
                continue
            gaps = [i for i, (u, v) in enumerate(zip(chips, chips[1:] + chips[:1], strict=True)) if self.broken(u, v)]
            if not ring or not gaps or detour is True:
                lanes.append(Lane(chips, ring))
            elif detour is False:
                lanes.append(Lane(chips[gaps[0] + 1:] + chips[:gaps[0] + 1], ring=False))
            else:
                raise ValueError(f"ring {chips} is broken: detour must be True or False by now")
        return tuple(lanes)

    def hop(self, u: Node, v: Node) -> Route:
        """Return the routes of a neighbour transfer: the link, detours for it, or routes where v is several links away."""
        return self.link(u, v) if self.neighbours(u, v) else self.message(u, v)

    def link(self, u: Node, v: Node) -> Route:
        """Return the link between neighbours, or all its shortest detours."""
        if self.graph.has_edge(u, v):
            return [(1.0, [u, v])]
        if (u, v) not in self.detours:
            self.detours[u, v] = split(self.graph, u, v)
        return self.detours[u, v]

    def message(self, source: Node, target: Node) -> Route:
        """Return the routes of a message."""
        routes = self.route(source, target) if self.route is not None else self.dimension_order(source, target)
        assert abs(sum(share for share, _ in routes) - 1) < 1e-9, f"{source} -> {target}: shares do not sum to 1"
        for _, path in routes:
            assert (path[0], path[-1]) == (source, target), f"{source} -> {target}: {path}"
            assert nx.is_path(self.graph, path), f"{source} -> {target}: a link of {path} is not there"
        return routes

    def dimension_order(self, source: Node, target: Node) -> Route:
        """Return axis after axis, the short way round rings (exactly half way: both), each dead link by its detours."""
        assert not self.twisted, "dimension order on a twisted torus: give a route function"
        routes: Route = [(1.0, [source])]
        for i, (name, length) in enumerate(self.graph.graph["axes"].items()):
            up = (target[i] - source[i]) % length
            if not self.axes[name].ring:
                ways = [target[i] - source[i]]
            elif 2 * up == length:
                ways = [up, -up]
            else:
                ways = [up if 2 * up < length else up - length]
            routes = [(share / len(ways), [*path, *self.walk(path[-1], i, way)]) for share, path in routes for way in ways]
        return [detoured for share, path in routes for detoured in self.repaired(share, path)]

    def walk(self, chip: Node, i: int, way: int) -> list[Node]:
        """Return the chips after this one on axis i, `way` of them, backwards if it is negative."""
        sign = 1 if way > 0 else -1
        return [(*chip[:i], (chip[i] + sign * n) % self.lengths[i], *chip[i + 1:]) for n in range(1, abs(way) + 1)]

    def repaired(self, share: float, path: list[Node]) -> Route:
        """Return the route with each dead link replaced by its detours."""
        routes: Route = [(share, path[:1])]
        for u, v in pairwise(path):
            routes = [(a * b, [*way, *detour[1:]]) for a, way in routes for b, detour in self.link(u, v)]
        return routes
