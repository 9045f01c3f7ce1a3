"""A topology as axes: the target and the link of each chip's + and - hop along each axis, for all chips at once.

Collectives know only this. Index 0 of the second dimension is the + hop of a chip along an axis, index 1 its - hop. A hop has a
link of its own, or it is a `gap` and has to be routed: its link failed, or the axis is a part of a physical axis and its
neighbours are several hops apart. An axis is a ring if any of its lines goes round, else a line. An axis with twisted wraparounds
is a line, because going round it ends in another row; collectives that can use that row see it as a ring (`Grid.around`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from torussim.errors import TopologyError
from torussim.topology.check import Bools, Coordinate, Floats, Links, read_links
from torussim.topology.rings import closes, off_axes, wired
from torussim.topology.shape import Indices, chip_index, coordinates, receivers, wraparounds
from torussim.topology.shortest import connected

if TYPE_CHECKING:
    import networkx as nx

Routing = str | Callable[..., Any]


@dataclass(frozen=True)
class Extremes:
    """The slowest and fastest bandwidth (bytes/s), and the shortest and longest latency (s), of the links of an axis."""

    slowest: float
    fastest: float
    shortest: float
    longest: float


class Mirrors(NamedTuple):
    """The chips that reflections map to one another.

    `turned`: (axes, chips) whether an axis runs the other way on the chip that stands for each chip. `still`: sets of axes, with
    (chips,) whether a chip is its own mirror image when these axes are turned.
    """

    turned: Bools
    still: tuple[tuple[tuple[int, ...], Bools], ...] = ()


@dataclass(frozen=True, eq=False)
class Grid:
    """Axes, and the + and - hop of each chip along each. Arrays are of shape (axes, 2, chips) and not writable.

    In a folded grid, `chips` are the chips that stand for all; `links` are always all links. Values that follow from the fields
    are computed once for each grid.
    """

    links: Links
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    ring: tuple[bool, ...]  # else a line; an axis of length 1 or 2 is a line
    stride: tuple[int, ...]  # physical chips between neighbours of an axis
    slot: Indices  # index of the link of a hop; -1: none
    bandwidth: Floats  # of this link, bytes/s; 0 without a link
    latency: Floats  # s; 0 without a link
    receiver: Indices  # the chip that the hop leads to, going round; also without a link
    chips: tuple[Coordinate, ...]  # physical coordinates, in C order
    coordinates: Indices  # (axes, chips) along the axes of this grid
    target: Indices  # physical index of the chip that the hop leads to, (axes, 2, chips)
    own: Indices  # physical index of each chip of the grid; not all physical chips in a folded grid
    orbit: Indices  # (physical chips,) the chip of the grid that stands for each
    stands: Indices  # (links,) the link that stands for each
    mirrors: Mirrors  # of the links, if reflections are folded
    routing: Routing = "dimension_order"
    graph: Any = None  # for a user-defined routing
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        kinds = ("ring" if ring else "line" for ring in self.ring)
        axes = ", ".join(f"{name}: {kind} of {length}"
                         for name, kind, length in zip(self.axes, kinds, self.shape, strict=True))
        notes = "".join(f"; {note}" for note in self.notes)
        return f"<Grid {axes}; {len(self.chips)} chips, {len(self.links.source)} links{notes}>"

    def axis(self, name: str) -> int:
        """Return the index of an axis. Raise TopologyError for an unknown name."""
        if name not in self.axes:
            raise TopologyError(f"there is no axis {name!r}; the axes are {', '.join(self.axes)}", code="unknown-name")
        return self.axes.index(name)

    def length(self, axis: str | int) -> int:
        """Return the number of chips along an axis, given by name or index."""
        return self.shape[self.axis(axis) if isinstance(axis, str) else axis]

    def extremes(self, axis: str) -> Extremes:
        """Return the slowest and fastest of an axis' links. Raise TopologyError for an unknown name."""
        return self._extremes[self.axis(axis)]

    @cached_property
    def _extremes(self) -> tuple[Extremes, ...]:
        """The extremes of each axis."""
        found = []
        for hops, bandwidth, latency in zip(self.hops, self.bandwidth, self.latency, strict=True):
            there = hops & (bandwidth > 0)
            rate, late = bandwidth[there], latency[there]
            found.append(Extremes(float(rate.min()), float(rate.max()), float(late.min()), float(late.max())) if rate.size
                         else Extremes(np.inf, np.inf, 0.0, 0.0))
        return tuple(found)

    def index(self, coordinate: Sequence[int]) -> int:
        """Return the index of a chip. Raise TopologyError for a chip outside of the grid."""
        return chip_index(coordinate, self.links.axes)

    @cached_property
    def on_axes(self) -> bool:
        """Whether the network is a torus or mesh."""
        return not off_axes(self.links)

    @cached_property
    def arrives(self) -> Indices:
        """The direction in which the receiver gets the data of a hop, 0 for +; (axes, 2, chips)."""
        over = np.arange(len(self.axes))[:, None, None]
        return np.asarray(np.arange(2)[:, None] ^ self.mirrors.turned[over, self.target])

    @cached_property
    def twin(self) -> Bools:
        """Whether the - hop of a chip is the mirror image of its + hop, which stands for both; (axes, chips)."""
        twin = np.zeros((len(self.axes), len(self.own)), bool)
        for turned, chips in self.mirrors.still:
            twin[list(turned)] |= chips[self.own]
        return twin

    @cached_property
    def hops(self) -> Bools:
        """Whether an axis has a hop, with or without a link of its own: inside, and over the ends of rings; (axes, 2, chips)."""
        inner = ~wraparounds_of(self.coordinates, self.shape)
        goes_round = np.array(self.ring)[:, None, None]
        hops = np.asarray((inner | goes_round) & (np.array(self.shape)[:, None, None] > 1))
        hops.flags.writeable = False
        return hops

    @cached_property
    def gap(self) -> Bools:
        """Whether an axis has a hop without a link of its own, (axes, 2, chips)."""
        gap = np.asarray(self.hops & (self.slot < 0))
        gap.flags.writeable = False
        return gap

    @cached_property
    def gaps(self) -> tuple[bool, ...]:
        """Whether each axis has any hop without a link of its own."""
        return tuple(bool(one.any()) for one in self.gap)

    def around(self, axes: Iterable[str], *, detour: bool = True) -> Grid:
        """Return the grid in which twisted axes of `axes` are rings if they shift only other axes of `axes`.

        The shifted axes must not be twisted, and no axis may be cut into parts. Without `detour`, no link of the ring may be
        dead.
        """
        twist, group = self.links.twist, set(axes) & set(self.axes)
        closed = [a for a in group & twist.keys() if twist[a].keys() <= group - twist.keys() and self.goes_round(a)]
        turned = self.with_rings(tuple(ring or a in closed for a, ring in zip(self.axes, self.ring, strict=True)))
        if detour or not closed or not any(turned.gaps):
            return turned
        broken = {a for a in closed if turned.gaps[self.axis(a)]}
        return self.with_rings(tuple(ring and a not in broken for a, ring in zip(self.axes, turned.ring, strict=True)))

    def with_rings(self, ring: tuple[bool, ...]) -> Grid:
        """Return the grid with other axes as rings; the same object for the same axes."""
        if ring == self.ring:
            return self
        if ring not in self._turned:
            self._turned[ring] = replace(self, ring=ring)
        return self._turned[ring]

    @cached_property
    def _turned(self) -> dict[tuple[bool, ...], Grid]:
        """The grids that differ from this one only in their rings, as far as they were used."""
        return {}

    def goes_round(self, axis: str) -> bool:
        """Return whether an uncut axis has wraparounds, twisted or not."""
        return axis in self.links.axes and self.length(axis) > 2 and self.links.ring[list(self.links.axes).index(axis)]

    def edge(self, axis: int, sign: int, chip: int) -> tuple[Coordinate, Coordinate]:
        """Return the two ends of a hop. Raise TopologyError if the axis has no hop there."""
        if self.slot[axis, sign, chip] < 0 and not self.gap[axis, sign, chip]:
            raise TopologyError(f"chip {self.chips[chip]} has no {'+-'[sign]} link on axis {self.axes[axis]}")
        return self.chips[chip], self.chips[self.receiver[axis, sign, chip]]


def grid(topology: nx.DiGraph, *, parts: Mapping[str, Sequence[int]] | None = None) -> Grid:
    """Return a topology as a grid; `parts` as in `grid_of`. Raise TopologyError if the topology breaks its contract."""
    return grid_of(read_links(topology), parts=parts, routing=topology.graph.get("routing"), graph=topology)


def grid_of(links: Links, *, parts: Mapping[str, Sequence[int]] | None = None, routing: Routing | None = None,
            graph: nx.DiGraph | None = None) -> Grid:
    """Return links as a grid; `graph` is the argument of a user-defined routing.

    `parts`: the lengths into which an axis is cut, from neighbours outwards; part_names gives their names. Raise TopologyError if
    the topology is cut in two, or if a part does not divide its axis.
    """
    cut = {name: tuple((parts or {}).get(name, (length,))) for name, length in links.axes.items()}
    routing = routing or default_routing(links)
    by_route = off_axes(links)
    if by_route:
        connected(links)
    names, shape, ring, stride, slots, lead, at = [], [], [], [], [], [], []
    own = coordinates(tuple(links.axes.values()))
    plain, turned = receivers(links.axes), receivers(links.axes, links.twist)
    ends = wraparounds(tuple(links.axes.values()))
    for axis, (name, length) in enumerate(links.axes.items()):
        if prod(cut[name]) != length or min(cut[name]) < 1:
            raise TopologyError(f"axis {name} of {length} chips cannot be cut into parts of {', '.join(map(str, cut[name]))}: "
                                f"their product must be {length}")
        apart = 1
        made: list[tuple[Any, ...]] = []
        for part, label in zip(cut[name], part_names(name, cut[name])):
            whole = part == length
            outermost = apart * part == length
            position = own[axis] // apart % part
            leads = _leads(own, axis, apart, part, links.axes) if not whole else turned[axis] if length > 2 else plain[axis]
            # A wraparound of a part is a wraparound of the whole axis only if the part is the axis.
            slot = np.where(ends[axis] if whole and length == 2 else False, -1, links.slot[axis])
            slot = slot if whole else np.where(_wraps(position, part) | (apart > 1), -1, links.slot[axis])
            if by_route:
                goes_round = part > 2 and closes(links, routing, graph, slot, leads, _wraps(position, part))
            else:
                goes_round = links.ring[axis] and outermost and part > 2
            made.append((label, part, goes_round and name not in links.twist, apart, slot, leads, position))
            apart *= part
        for label, part, goes_round, apart, slot, leads, position in reversed(made):  # the outermost first, as in C order
            names.append(label)
            shape.append(part)
            ring.append(goes_round)
            stride.append(apart)
            slots.append(slot)
            lead.append(leads)
            at.append(position)
    slot, receiver = np.array(slots), np.array(lead)
    there = slot >= 0
    bandwidth, latency = (np.where(there, column[slot], 0.0) if len(column) else np.zeros(slot.shape)
                          for column in (links.bandwidth, links.latency))
    for array in (bandwidth, latency, receiver, slot):
        array.flags.writeable = False
    in_parts = {name for name, lengths in cut.items() if len(lengths) > 1}
    never = {name: links.twist.keys() - {name} | in_parts | ({name} if links.axes[name] == 2 else set()) for name in links.twist}
    strangers = [name for axis, name in enumerate(links.axes) if by_route and name not in in_parts and wired(links, axis)]
    told = graph.graph.get("notes", ()) if graph is not None else ()
    notes = (*([told] if isinstance(told, str) else map(str, told) if isinstance(told, list | tuple) else ()),
             *(f"not all neighbours on axis {name} are neighbours in the network: messages of the others take several links"
               for name in strangers),
             *(_turning(name, shifts, never[name]) for name, shifts in links.twist.items()))
    every = np.arange(len(links.chips))
    found = Grid(links, tuple(names), tuple(shape), tuple(ring), tuple(stride), slot, bandwidth, latency, receiver, links.chips,
                 np.array(at), receiver, every, every, np.arange(len(links.source)),
                 Mirrors(np.zeros((len(names), len(every)), bool)), routing, graph, notes)
    if found.gap.any() and not by_route:  # else neighbours are linked
        connected(links)
    dead = np.zeros(len(links.source), bool)
    for event in links.failures:
        dead[event.dead] = True
        try:
            connected(links.without(dead))
        except TopologyError as error:
            raise error.within((), f"after the failure at {event.time:g} s ") from None
    return found


def folded(net: Grid, orbit: Indices, like: Indices | None = None, mirrors: Mirrors | None = None) -> Grid:
    """Return the grid with one chip for each orbit, the first of it; `orbit`: (chips,) numbers from 0 on.

    The chips of an orbit must have the same future; the caller has to ensure this. Their unused links can differ; a link without
    a counterpart stands for itself. `like`: (links,) the link that stands for each, if `mirrors` are folded.
    """
    own = np.unique(orbit, return_index=True)[1]
    if len(own) == len(orbit):
        return net
    slot = net.links.slot
    stands = net.stands.copy() if like is None else like
    if like is None:
        first = slot[:, :, own[orbit]]
        both = (slot >= 0) & (first >= 0)
        stands[slot[both]] = first[both]
    arrays: dict[str, Any] = {name: np.asarray(getattr(net, name)[:, :, own]) for name in ("bandwidth", "latency", "target")}
    of_own = net.slot[:, :, own]
    return replace(net, **arrays, slot=np.where(of_own >= 0, stands[of_own], -1) if len(stands) else of_own,
                   receiver=orbit[net.receiver[:, :, own]], chips=tuple(net.chips[chip] for chip in own.tolist()),
                   coordinates=net.coordinates[:, own], own=own, orbit=orbit, stands=stands, mirrors=mirrors or net.mirrors)


def with_bandwidth(net: Grid, bandwidth: Floats) -> Grid:
    """Return the grid with other bandwidths of its links, (links,) bytes/s; no change in mid-run makes them slower.

    Messages take the same routes as before. A link that fails still fails.
    """
    events = tuple(replace(event, bandwidth=np.where(event.bandwidth, np.maximum(event.bandwidth, bandwidth[event.links]), 0))
                   for event in net.links.events)
    links = replace(net.links, bandwidth=bandwidth, as_routed=net.links.routed, events=events)
    of_hops = np.where(net.slot >= 0, bandwidth[net.slot], 0.0) if len(bandwidth) else net.bandwidth
    return replace(net, links=links, bandwidth=of_hops)


def with_latency(net: Grid, latency: Floats) -> Grid:
    """Return the grid with other latencies of its links, (links,) seconds."""
    of_hops = np.where(net.slot >= 0, latency[net.slot], 0.0) if len(latency) else net.latency
    return replace(net, links=replace(net.links, latency=latency), latency=of_hops)


def part_names(axis: str, lengths: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the parts of an axis, from neighbours outwards: x/2, then x/2*2 (every second chip), ...

    >>> part_names("x", [2, 4]), part_names("x", [8])
    (('x/2', 'x/4*2'), ('x',))
    """
    if len(lengths) == 1:
        return (axis,)
    strides = [prod(lengths[:i]) for i in range(len(lengths))]
    return tuple(f"{axis}/{n}" + (f"*{s}" if s > 1 else "") for n, s in zip(lengths, strides))


def parts_of(net: Grid) -> dict[str, tuple[int, ...]]:
    """Return the lengths into which the axes of a grid are cut, from neighbours outwards: the `parts` of `grid_of`."""
    inwards: dict[str, list[int]] = {}
    for label, length in zip(net.axes, net.shape):
        inwards.setdefault(label.partition("/")[0], []).append(length)
    return {axis: tuple(reversed(lengths)) for axis, lengths in inwards.items()}


def cut_axes(axes: Mapping[str, int], parts: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Return the axes of a grid and their lengths, with axes cut into parts; the outermost part of an axis first.

    >>> cut_axes({"x": 8, "y": 4}, {"x": [2, 4]})
    {'x/4*2': 4, 'x/2': 2, 'y': 4}
    """
    cut = {name: tuple(parts.get(name, (length,))) for name, length in axes.items()}
    return {label: part for name in axes for label, part in reversed(list(zip(part_names(name, cut[name]), cut[name])))}


def _turning(axis: str, shifts: Mapping[str, int], never: Set[str]) -> str:
    """Return in words where rings along a twisted axis close: nowhere, if it is one of `never` or shifts one of them."""
    others = ", ".join(f"{other} + {shift}" for other, shift in shifts.items())
    where = "" if never & {axis, *shifts} else f", except in groups with {' and '.join(shifts)}"
    return f"axis {axis} is twisted ({others}): rings along it run as lines{where}"


def default_routing(links: Links) -> str:
    """Return the routing of a topology that names none: minimal on twisted tori, shortest where links leave the axes.

    If an axis that is shifted is twisted itself, or is a line, minimal routes differ from chip to chip; the routing is then
    shortest.
    """
    if links.twist:
        shifted = {other for by in links.twist.values() for other in by}
        lines = {name for name, ring in zip(links.axes, links.ring, strict=True) if not ring and links.axes[name] > 2}
        return "shortest" if shifted & (links.twist.keys() | lines) else "minimal"
    return "shortest" if off_axes(links) else "dimension_order"


def wraparounds_of(position: Indices, shape: Sequence[int]) -> Bools:
    """Return whether a hop goes round the end of its axis, (axes, 2, chips), for coordinates (axes, chips)."""
    return np.stack([_wraps(position[a], n) for a, n in enumerate(shape)])


def _wraps(position: Indices, length: int) -> Bools:
    return np.stack([position == length - 1, position == 0])


def _leads(own: Indices, axis: int, apart: int, part: int, axes: Mapping[str, int]) -> Indices:
    """Return (2, chips) the targets of the hops along a part of an axis."""
    place = own[axis] // apart % part
    stride = prod(list(axes.values())[axis + 1:])
    number = np.arange(own.shape[1])
    return np.stack([number + stride * apart * ((place + step) % part - place) for step in (1, -1)])
