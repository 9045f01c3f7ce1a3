"""The contract of a topology, and its links as columns.

A topology is a `networkx.DiGraph`. Its chips are nodes that are tuples of coordinates. `graph.graph["axes"]` maps the name of
each axis to its length, in the order of the coordinates; every coordinate of their product is a chip. Other nodes are switches,
marked `chip=False`. Each edge is one direction of one link, with a `bandwidth` in bytes/s and a `latency` in s.

Optional attributes: `graph.graph["twist"]`, such as {"x": {"z": 4}}: going round x in + direction leads to z + 4.
`graph.graph["events"]`, such as ((1e-3, {((0, 0), (1, 0)): 1e9}),): from 1 ms on, this link has this bandwidth; at bandwidth 0 it
fails. `sums=True` of a switch: it can add up the data that pass it; `graph.graph["switches_sum"]`: all switches can. `hops` of a
link: the number of hops that it counts as when routes are compared.

`read_links` is the only way from a graph to numbers. It checks the whole contract, so no code computes with a graph that breaks
the contract.

Chips are numbered in C order (last axis fastest), whatever the order of the graph's nodes; switches follow. On an axis of length
2 the one link is not a wraparound: 0 -> 1 is its + direction. This module knows nothing of routing, nor of the use of links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, product
from math import inf, nan, prod
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from torussim.errors import TopologyError
from torussim.topology.shape import Indices, Twist, coordinates, is_int, receivers, wraparounds

if TYPE_CHECKING:
    import networkx as nx

MAX_CHIPS = 1_000_000  # 2 GB and half a minute as a graph; a mistyped shape must not fill the memory
MAX_HOPS = 1000  # that a link can count as
WITNESSES = 3  # shown for each kind of mistake

Coordinate = tuple[int, ...]
Node = Any  # a Coordinate, or the name of a switch
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Event:
    """From `time` on (s), these links (indices) have this bandwidth, bytes/s; 0: they have failed for the rest of the run."""

    time: float
    links: Indices
    bandwidth: Floats

    @property
    def dead(self) -> Indices:
        """The links that fail."""
        return np.asarray(self.links[self.bandwidth == 0])


@dataclass(frozen=True, eq=False, repr=False)
class Links:
    """Every edge of a topology, as columns of shape (links,) in the order of the graph's edges."""

    axes: dict[str, int]
    twist: dict[str, dict[str, int]]
    chips: tuple[Coordinate, ...]  # in C order
    nodes: tuple[Node, ...]  # the chips, then the switches
    coordinates: Indices  # (axes, chips)
    source: Indices  # index of a node
    target: Indices
    axis: Indices  # -1: the link joins no neighbours on an axis
    sign: Indices  # 0: the + direction, 1: the - direction
    wraparound: Bools
    bandwidth: Floats
    latency: Floats
    hops: Indices  # the number of hops that a link counts as when routes are compared; 1 unless the graph gives another
    events: tuple[Event, ...] = ()
    failed: tuple[tuple[Node, Node], ...] = ()  # links that the graph had before they failed
    summing: tuple[int, ...] = ()  # indices of switches that can add up the data that pass them
    as_routed: Floats | None = None  # the bandwidths for routing, where a what-if has other ones

    @property
    def switches_sum(self) -> bool:
        """Whether any switch can add up the data that pass it."""
        return bool(self.summing)

    @property
    def routed(self) -> Floats:
        """The bandwidths for routing, (links,) bytes/s."""
        return self.bandwidth if self.as_routed is None else self.as_routed

    def edge(self, link: int) -> tuple[Node, Node]:
        """Return a link as an edge of the graph."""
        return self.nodes[self.source[link]], self.nodes[self.target[link]]

    def edges(self, which: Bools) -> list[tuple[Node, Node]]:
        """Return the edges of the graph where `which`, of shape (links,), is true."""
        return [self.edge(link) for link in np.flatnonzero(which).tolist()]

    @property
    def failures(self) -> tuple[Event, ...]:
        """The events in which links fail, in order of time."""
        return tuple(event for event in self.events if len(event.dead))

    def without(self, dead: Bools) -> Links:
        """Return the links where `dead`, (links,), is false, without their events."""
        left = ~dead
        columns = {name: getattr(self, name)[left]
                   for name in ("source", "target", "axis", "sign", "wraparound", "bandwidth", "latency", "hops")}
        routed = None if self.as_routed is None else self.as_routed[left]
        return replace(self, **columns, as_routed=routed, events=(), failed=(*self.failed, *self.edges(dead)))

    @cached_property
    def slot(self) -> Indices:
        """The link that leaves each chip along each axis in + and - direction, -1 for none, (axes, 2, chips)."""
        slot = np.full((len(self.axes), 2, len(self.chips)), -1, np.intp)
        along = self.axis >= 0
        slot[self.axis[along], self.sign[along], self.source[along]] = np.flatnonzero(along)
        return slot

    @cached_property
    def ring(self) -> tuple[bool, ...]:
        """Whether each axis is a ring: at least one of its wraparounds exists (others can have failed)."""
        return tuple(bool((self.wraparound & (self.axis == axis)).any()) for axis in range(len(self.axes)))


def check_topology(graph: nx.DiGraph) -> None:
    """Raise TopologyError, with all breaches of the contract of a topology and their witnesses."""
    read_links(graph)


def read_links(graph: nx.DiGraph) -> Links:
    """Return the links of a topology. Raise TopologyError if it breaks the contract."""
    import networkx as nx

    if not isinstance(graph, nx.DiGraph) or graph.is_multigraph():
        raise TopologyError(f"a topology is a networkx.DiGraph with one edge for each direction of a link, "
                            f"not a {type(graph).__name__}")
    axes, wrong = _read_axes(graph)
    adjacent = dict(graph.adjacency())
    nodes = list(adjacent)
    wrong += [] if nodes else ["the graph has no chips: add the coordinates of each chip as a node"]
    attributes = [attributes for of_node in adjacent.values() for attributes in of_node.values()]
    start, end = _ends(adjacent)

    def name(edge: int) -> str:
        return f"{nodes[start[edge]]!r} -> {nodes[end[edge]]!r}"

    bandwidth, latency = _column(attributes, "bandwidth"), _column(attributes, "latency")
    wrong += _bad_values("bandwidth", ~((bandwidth > 0) & (bandwidth < inf)), attributes, name,
                         "above 0 and finite, such as 45e9 bytes/s")
    wrong += _bad_values("latency", ~((latency >= 0) & (latency < inf)), attributes, name,
                         "0 or more and finite, such as 1e-6 s")
    hops = _column(attributes, "hops", 1.0)
    wrong += _bad_values("hops", ~((hops >= 1) & (hops <= MAX_HOPS) & (hops == np.floor(hops))), attributes, name,
                         f"that is a whole number from 1 to {MAX_HOPS}")
    wrong += _found("link", "from a chip to itself", np.flatnonzero(start == end).tolist(), name, "leave it out")

    if axes is None:
        raise TopologyError("; ".join(wrong))
    chips = tuple(product(*map(range, axes.values())))
    number = {chip: i for i, chip in enumerate(chips)}
    twist, of_twist = _read_twist(graph, axes)
    events, of_events = _read_events(graph)
    wrong += _bad_chips(graph, axes, number) + of_twist + of_events
    if wrong:
        raise TopologyError("; ".join(wrong))
    switches = [node for node, is_chip in graph.nodes(data="chip", default=True) if not is_chip]
    number.update((node, len(chips) + i) for i, node in enumerate(switches))
    place = np.array([number[node] for node in nodes], np.intp)
    every = bool(graph.graph.get("switches_sum"))
    sums = tuple(number[switch] for switch in switches if every or graph.nodes[switch].get("sums"))
    return made_links(axes, twist, place[start], place[end], bandwidth, latency, switches, events,
                      tuple(graph.graph.get("failed", ())), hops.astype(np.intp), sums)


def made_links(axes: dict[str, int], twist: dict[str, dict[str, int]], source: Indices, target: Indices, bandwidth: Floats,
               latency: Floats, switches: Sequence[Node] = (), events: tuple[Event, ...] = (),
               failed: tuple[tuple[Node, Node], ...] = (), hops: Indices | None = None, summing: tuple[int, ...] = ()) -> Links:
    """Return the links of checked columns (links,); chips are numbered in C order, switches after the chips."""
    chips = tuple(product(*map(range, axes.values())))
    axis, sign, wraparound = _directions(axes, twist, source, target)
    return Links(axes, twist, chips, (*chips, *switches), coordinates(tuple(axes.values())), source, target, axis, sign,
                 wraparound, bandwidth, latency, np.ones(len(source), np.intp) if hops is None else hops, events, failed,
                 summing)


def as_float(value: object) -> float:
    """Return a real number, of numpy or not, as a float; nan for any other value (a bool too), inf beyond all floats."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        return nan
    try:
        return float(value)
    except OverflowError:
        return inf


def _read_axes(graph: nx.DiGraph) -> tuple[dict[str, int] | None, list[str]]:
    """Return the axes, or None if they are unusable, and the mistakes in them."""
    remedy = 'set graph.graph["axes"] to the length of each axis in order, such as {"x": 4, "y": 4}'
    if "axes" not in graph.graph:
        return None, [f'graph.graph["axes"] is missing: {remedy}']
    axes = graph.graph["axes"]
    if not isinstance(axes, Mapping) or not axes:
        return None, [f'graph.graph["axes"] is {axes!r}, which is no mapping from names to lengths: {remedy}']
    if not all(isinstance(name, str) and name and is_int(length) and length > 0 for name, length in axes.items()):
        mistake = "a name is no text, or a length no whole number above 0"
        return None, [f'graph.graph["axes"] is {axes!r}, where {mistake}: {remedy}']
    count = prod(map(int, axes.values()))
    if count > MAX_CHIPS:
        return None, [f'graph.graph["axes"] is {axes!r}, {count:,} chips: give at most {MAX_CHIPS:,}']
    return {str(name): int(length) for name, length in axes.items()}, []


def _ends(adjacent: dict[Any, Any]) -> tuple[Indices, Indices]:
    """Return the start and the end of each edge, as indices of nodes in the order of `adjacent`."""
    place = {node: i for i, node in enumerate(adjacent)}
    degrees = [len(of_node) for of_node in adjacent.values()]
    ends = map(place.__getitem__, chain.from_iterable(adjacent.values()))
    return np.repeat(np.arange(len(adjacent)), degrees), np.fromiter(ends, np.intp, sum(degrees))


def _column(attributes: list[dict[str, Any]], key: str, default: float | None = None) -> Floats:
    """Return one attribute of all edges as floats; nan if it is missing without a default, or not a number."""
    values = [of_edge.get(key, default) for of_edge in attributes]
    return np.array(values if set(map(type, values)) == {float} else [as_float(value) for value in values], float)


def _read_twist(graph: nx.DiGraph, axes: Mapping[str, int]) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Return the twists with a shift other than zero, and the mistakes in all twists."""
    given = graph.graph.get("twist") or {}
    remedy = 'give shifts of other axes, such as {"x": {"z": 4}}, or leave it out'
    if not isinstance(given, Mapping) or not all(isinstance(shifts, Mapping) for shifts in given.values()):
        return {}, [f'graph.graph["twist"] is {given!r}, which is no mapping of axes to shifts: {remedy}']
    for axis, shifts in given.items():
        for other, shift in shifts.items():
            if axis not in axes or other not in axes or axis == other or not is_int(shift):
                return {}, [f'graph.graph["twist"] is {given!r}, but the axes are {", ".join(axes)}: {remedy}']
        if axes[axis] < 2:
            return {}, [f'graph.graph["twist"] is {given!r}, but axis {axis} has one chip: {remedy}']
    return moving(given, axes), []


def moving(twist: Twist, axes: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Return the twists with a shift other than zero, each shift as its least number of chips."""
    moved = {axis: {other: int(shift) % axes[other] for other, shift in shifts.items() if shift % axes[other]}
             for axis, shifts in twist.items()}
    return {axis: shifts for axis, shifts in moved.items() if shifts}


def _read_events(graph: nx.DiGraph) -> tuple[tuple[Event, ...], list[str]]:
    """Return the events of links in mid-run, in order of time, and the mistakes in them."""
    given = graph.graph.get("events") or ()
    place = {edge: i for i, edge in enumerate(graph.edges)} if given else {}
    remedy = 'give (seconds, {edge: bytes/s}), such as (1e-3, {((0, 0), (1, 0)): 1e9}), where 0 bytes/s: the link fails'
    made: list[Event] = []
    for i, event in enumerate(given if isinstance(given, Iterable) else [given]):
        if not (isinstance(event, Sequence) and len(event) == 2 and isinstance(event[1], Mapping)):
            return (), [f'graph.graph["events"] has {event!r}: {remedy}']
        time, changes = as_float(event[0]), event[1]
        lost = [edge for edge in changes if edge not in place]
        bad = [edge for edge, rate in changes.items() if not 0 <= as_float(rate) < inf]
        if not 0 <= time < inf:
            return (), [f"event {i + 1} is at {event[0]!r}, which is no time of the run: give seconds, 0 or more"]
        if lost or bad:
            what, edge = ("is on a link that is not there", lost[0]) if lost else ("gives no bandwidth", bad[0])
            return (), [f"event {i + 1}, at {time:g} s, {what}: {edge!r}: {remedy}"]
        links = np.array([place[edge] for edge in changes], np.intp)
        made.append(Event(time, links, np.array([as_float(rate) for rate in changes.values()])))
    made.sort(key=lambda event: event.time)
    failed = set[int]()
    for event in made:
        if again := failed.intersection(event.links.tolist()):
            edge = list(place)[min(again)]
            return (), [f"the event at {event.time:g} s changes {edge!r}, which has failed before: leave it out"]
        failed.update(event.dead.tolist())
    return tuple(made), []


def _directions(axes: Mapping[str, int], twist: Mapping[str, Mapping[str, int]], source: Indices,
                target: Indices) -> tuple[Indices, Indices, Bools]:
    """Return the axis (-1: none), the sign, and whether it is a wraparound, for each link."""
    shape = tuple(axes.values())
    inside = (source < prod(shape)) & (target < prod(shape))
    leads, goes_round = receivers(axes, twist), wraparounds(shape)
    axis, sign = np.full(len(source), -1, np.intp), np.zeros(len(source), np.intp)
    wraparound = np.zeros(len(source), bool)
    for wraps in (False, True):  # a twisted wraparound that leads to a neighbour counts as the link to this neighbour
        for a, (name, length) in enumerate(axes.items()):
            for direction in range(2):
                if wraps and length == 2 and name not in twist:
                    continue
                from_ = np.where(inside, source, 0)
                here = inside & (axis < 0) & (leads[a, direction, from_] == target) & (goes_round[a, direction, from_] == wraps)
                axis[here], sign[here], wraparound[here] = a, direction, wraps
    return axis, sign, wraparound


def _bad_chips(graph: nx.DiGraph, axes: dict[str, int], number: dict[Coordinate, int]) -> list[str]:
    """Return the mistakes in the nodes: chips that are not coordinates, and missing chips."""
    strange = [node for node, is_chip in graph.nodes(data="chip", default=True)
               if is_chip and not (node in number and all(map(is_int, node)))]  # (0.0,) and (False,) equal (0,)
    missing = [chip for chip in number if not graph.nodes.get(chip, {}).get("chip", chip in graph)] if len(graph) else []
    ranges = ", ".join(f"{name} from 0 to {length - 1}" for name, length in axes.items())
    return (_found("node", "outside the axes", strange, repr, f"name it by a tuple of ints: {ranges}; a switch has chip=False")
            + _found("chip", "missing", missing, repr, 'add it, or correct graph.graph["axes"]'))


def _bad_values(
    key: str, bad: Bools, attributes: list[dict[str, Any]], name: Callable[[int], str], remedy: str
) -> list[str]:
    """Return the mistakes in one attribute of the edges; `bad` is true for edges with a mistake."""
    edges = np.flatnonzero(bad).tolist()
    without = [edge for edge in edges if key not in attributes[edge]]
    given = [edge for edge in edges if key in attributes[edge]]
    return (_found("link", f"without {key}", without, name, f"give it one, {remedy}")
            + _found("link", f"with an invalid {key}", given,
                     lambda edge: f"{name(edge)} has {attributes[edge][key]!r}", f"give a number {remedy}"))


def _found(noun: str, rest: str, witnesses: Sequence[Any], show: Callable[[Any], str], remedy: str) -> list[str]:
    """Return nothing without witnesses, else one sentence with their number, the first few of them, and a remedy."""
    count = len(witnesses)
    if not count:
        return []
    more = f" and {count - WITNESSES:,} more" if count > WITNESSES else ""
    shown = ", ".join(map(show, witnesses[:WITNESSES]))
    return [f"{count:,} {noun}{'s' if count > 1 else ''} {rest}: {shown}{more} ({remedy})"]
