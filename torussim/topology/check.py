"""The contract of a topology, and its links as columns.

A topology is a `networkx.DiGraph`. Its nodes are chips, tuples of coordinates; `graph.graph["axes"]` maps the name of
each axis to its length, in the order of the coordinates, and every coordinate in their product is a chip. Each edge is
one direction of one link: `bandwidth` in bytes/s and `latency` in s. `read_links` is the only way from a graph to
numbers, and it checks the whole contract, so that nothing ever computes with a graph that breaks it.

Chips are numbered in C order (last axis fastest), whatever the order of the graph's nodes. On an axis of length 2 the
one link is no wraparound: 0 -> 1 is its + direction. Knows nothing of routing, nor of what a link is used for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, product
from math import inf, nan, prod
from numbers import Integral, Real
from typing import Any, TypeGuard

import networkx as nx  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import numpy.typing as npt

from torussim.errors import TopologyError

MAX_CHIPS = 1_000_000  # 2 GB and half a minute as a graph; a mistyped shape must not fill the memory
WITNESSES = 3  # named for each thing that is wrong

Coordinate = tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class Links:
    """Every edge of a topology, as columns of shape (links,) in the order of the graph's edges."""

    axes: dict[str, int]
    chips: tuple[Coordinate, ...]  # in C order
    coordinates: npt.NDArray[np.intp]  # (axes, chips)
    source: npt.NDArray[np.intp]  # index of a chip
    target: npt.NDArray[np.intp]
    axis: npt.NDArray[np.intp]
    sign: npt.NDArray[np.intp]  # 0: the + direction, 1: the - direction
    wraparound: npt.NDArray[np.bool_]
    bandwidth: npt.NDArray[np.float64]
    latency: npt.NDArray[np.float64]

    def edges(self, which: npt.NDArray[np.bool_]) -> list[tuple[Coordinate, Coordinate]]:
        """Return the edges of the graph where `which`, of shape (links,), is true."""
        ends = zip(self.source[which].tolist(), self.target[which].tolist(), strict=True)
        return [(self.chips[source], self.chips[target]) for source, target in ends]


def check_topology(graph: nx.DiGraph) -> None:
    """Raise TopologyError, naming everything that breaks the contract of a topology, with witnesses."""
    read_links(graph)


def read_links(graph: nx.DiGraph) -> Links:
    """Return the links of a topology. Raise TopologyError if it breaks the contract."""
    if not isinstance(graph, nx.DiGraph) or graph.is_multigraph():
        raise TopologyError(f"a topology is a networkx.DiGraph with one edge for each direction of a link, "
                            f"not a {type(graph).__name__}")
    axes, wrong = _read_axes(graph)
    receivers = dict(graph.adjacency())
    nodes = list(receivers)
    wrong += [] if nodes else ["the graph has no chips: add the coordinates of each chip as a node"]
    attributes = [attributes for of_node in receivers.values() for attributes in of_node.values()]
    start, end = _ends(receivers)

    def name(edge: int) -> str:
        return f"{nodes[start[edge]]!r} -> {nodes[end[edge]]!r}"

    bandwidth, latency = _column(attributes, "bandwidth"), _column(attributes, "latency")
    wrong += _bad_values("bandwidth", ~((bandwidth > 0) & (bandwidth < inf)), attributes, name,
                         "above 0 and finite, such as 45e9 bytes/s")
    wrong += _bad_values("latency", ~((latency >= 0) & (latency < inf)), attributes, name,
                         "0 or more and finite, such as 1e-6 s")
    loop = start == end
    alone = ~np.isin(start * len(nodes) + end, end * len(nodes) + start)
    wrong += _found("link", "from a chip to itself", np.flatnonzero(loop).tolist(), name, "leave it out")
    wrong += _found("link", "without an opposite", np.flatnonzero(alone).tolist(), name, "add the edge the other way")

    if axes is None:
        raise TopologyError("; ".join(wrong))
    chips = tuple(product(*map(range, axes.values())))
    number = {chip: i for i, chip in enumerate(chips)}
    wrong += _bad_chips(graph, axes, number)
    chip_of = np.array([number.get(node, -1) for node in nodes], np.intp)  # -1: no chip, so it is wrong
    at = coordinates(tuple(axes.values()))
    source, target = chip_of[start], chip_of[end]
    axis, sign, wraparound, neighbours = _directions(tuple(axes.values()), at, source, target)
    far = ~neighbours & ~loop & (source >= 0) & (target >= 0)
    wrong += _found("link", "between chips that are not neighbours on one axis", np.flatnonzero(far).tolist(), name,
                    "such links need routing, which is not there yet: leave it out")
    if wrong:
        raise TopologyError("; ".join(wrong))
    return Links(axes, chips, at, source, target, axis, sign, wraparound, bandwidth, latency)


def coordinates(shape: Sequence[int]) -> npt.NDArray[np.intp]:
    """Return the coordinates of all chips in C order, of shape (axes, chips)."""
    lengths = np.array(shape, np.intp)[:, None]
    strides = np.array([prod(shape[axis + 1:]) for axis in range(len(shape))], np.intp)[:, None]
    return np.asarray(np.arange(prod(shape)) // strides % lengths)


def is_chip_of(chip: Sequence[object], shape: Sequence[int]) -> bool:
    """Return whether there is a chip of these coordinates."""
    return len(chip) == len(shape) and all(is_int(c) and 0 <= c < length for c, length in zip(chip, shape, strict=True))


def chip_index(chip: Sequence[int], axes: Mapping[str, int]) -> int:
    """Return the place of a chip in C order. Raise TopologyError if it is outside."""
    if not is_chip_of(chip, tuple(axes.values())):
        ranges = ", ".join(f"{name} from 0 to {length - 1}" for name, length in axes.items())
        raise TopologyError(f"there is no chip [{', '.join(map(str, chip))}]; give one coordinate an axis: {ranges}")
    index = 0
    for c, length in zip(chip, axes.values(), strict=True):
        index = index * length + int(c)
    return index


def as_float(value: object) -> float:
    """Return a real number, of numpy or not, as a float; nan for anything else (a bool too), inf beyond all floats."""
    if type(value) is float:
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        return nan
    try:
        return float(value)
    except OverflowError:
        return inf


def is_int(value: object) -> TypeGuard[int]:
    """Return whether it is an integer, of numpy or not; True and False are none."""
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def _read_axes(graph: nx.DiGraph) -> tuple[dict[str, int] | None, list[str]]:
    """Return the axes, or None if they are of no use, and what is wrong with them."""
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


def _ends(receivers: dict[Any, Any]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return where each edge starts and ends, as places of nodes in the order of `receivers`."""
    place = {node: i for i, node in enumerate(receivers)}
    degrees = [len(of_node) for of_node in receivers.values()]
    ends = map(place.__getitem__, chain.from_iterable(receivers.values()))
    return np.repeat(np.arange(len(receivers)), degrees), np.fromiter(ends, np.intp, sum(degrees))


def _column(attributes: list[dict[str, Any]], key: str) -> npt.NDArray[np.float64]:
    """Return one attribute of all edges as floats; nan where it is missing or no number."""
    values = [of_edge.get(key) for of_edge in attributes]
    return np.array(values if set(map(type, values)) == {float} else [as_float(value) for value in values], float)


def _directions(
    shape: tuple[int, ...], at: npt.NDArray[np.intp], source: npt.NDArray[np.intp], target: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return the axis, the sign, whether it is a wraparound, and whether it joins neighbours, for each link."""
    difference = at[:, target] - at[:, source]  # (axes, links)
    axis = (difference != 0).argmax(axis=0)
    step = difference[axis, np.arange(len(axis))]
    length = np.array(shape, np.intp)[axis]
    wraparound = (abs(step) == length - 1) & (length > 2)
    neighbours = ((difference != 0).sum(axis=0) == 1) & ((abs(step) == 1) | wraparound)
    sign = np.where(wraparound, step > 0, step < 0).astype(np.intp)
    return axis, sign, wraparound, neighbours


def _bad_chips(graph: nx.DiGraph, axes: dict[str, int], number: dict[Coordinate, int]) -> list[str]:
    """Return what is wrong with the nodes: switches, nodes that are no coordinates, and chips that are missing."""
    switches = [node for node, is_chip in graph.nodes(data="chip", default=True) if not is_chip]
    strange = [node for node, is_chip in graph.nodes(data="chip", default=True)
               if is_chip and not (node in number and all(map(is_int, node)))]  # (0.0,) and (False,) equal (0,)
    missing = [chip for chip in number if chip not in graph] if len(graph) else []
    ranges = ", ".join(f"{name} from 0 to {length - 1}" for name, length in axes.items())
    return (_found("switch node", "(chip=False)", switches, repr, "switches are not there yet: leave it out")
            + _found("node", "outside the axes", strange, repr, f"name it by a tuple of ints: {ranges}")
            + _found("chip", "missing", missing, repr, 'add it, or correct graph.graph["axes"]'))


def _bad_values(
    key: str, bad: npt.NDArray[np.bool_], attributes: list[dict[str, Any]], name: Callable[[int], str], remedy: str
) -> list[str]:
    """Return what is wrong with one attribute of the edges, `bad` being true where something is."""
    edges = np.flatnonzero(bad).tolist()
    without = [edge for edge in edges if key not in attributes[edge]]
    given = [edge for edge in edges if key in attributes[edge]]
    return (_found("link", f"without {key}", without, name, f"give it one, {remedy}")
            + _found("link", f"with a {key} that makes no sense", given,
                     lambda edge: f"{name(edge)} has {attributes[edge][key]!r}", f"give a number {remedy}"))


def _found(noun: str, rest: str, witnesses: Sequence[Any], show: Callable[[Any], str], remedy: str) -> list[str]:
    """Return nothing if there are no witnesses, else one sentence that counts them, shows the first few, and helps."""
    count = len(witnesses)
    if not count:
        return []
    more = f" and {count - WITNESSES:,} more" if count > WITNESSES else ""
    shown = ", ".join(map(show, witnesses[:WITNESSES]))
    return [f"{count:,} {noun}{'s' if count > 1 else ''} {rest}: {shown}{more} ({remedy})"]
