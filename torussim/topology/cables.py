"""Functions shared by the builders of networks: cables between nodes, switches, and checks of the user's values.

A builder returns a graph that keeps the contract of `check`, with more attributes. A switch has a `level` (1 next to the chips).
A chip or switch of a node, board, group or slice has its number as `group`. A switch that can add up the data that pass it has
`sums=True`. A link with `hops` counts as this number of hops when routes are compared (`stretched`). `graph.graph["notes"]` are
sentences for the report; `graph.graph["order"]` describes the order of the chips.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import inf, prod
from typing import TYPE_CHECKING, Any

from torussim.errors import TopologyError
from torussim.topology.check import MAX_CHIPS, Node, as_float
from torussim.topology.shape import axis_names, is_int

if TYPE_CHECKING:
    import networkx as nx

MAX_CABLES = 2_000_000  # 2 GB as a graph


def with_chips(lengths: Sequence[int], order: str, *, group: bool = False, notes: Sequence[str] = ()) -> nx.DiGraph:
    """Return a graph of chips without links, one axis for each length; `order` describes the order of the chips.

    With `group`, the first coordinate of a chip is its group. Raise TopologyError for too many chips.
    """
    import networkx as nx

    if prod(lengths) > MAX_CHIPS:
        raise TopologyError(f"the network has {prod(lengths):,} chips; give at most {MAX_CHIPS:,}", code="limit")
    graph = nx.DiGraph(axes=dict(zip(axis_names(len(lengths)), lengths)), order=order)
    if notes:
        graph.graph["notes"] = tuple(notes)
    for chip in product(*map(range, lengths)):
        graph.add_node(chip, **({"group": chip[0]} if group else {}))
    return graph


def add_switch(graph: nx.DiGraph, name: str, level: int, *, group: int | None = None, sums: bool = False) -> str:
    """Add a switch to a graph and return its name."""
    graph.add_node(name, chip=False, level=level, **({} if group is None else {"group": group}),
                   **({"sums": True} if sums else {}))
    return name


def cable(graph: nx.DiGraph, one: Node, other: Node, bandwidth: float, latency: float, hops: int = 1) -> None:
    """Join two nodes by a link in each direction; `bandwidth` is one direction, bytes/s; `latency` in s."""
    more = {"hops": hops} if hops > 1 else {}
    graph.add_edge(one, other, bandwidth=bandwidth, latency=latency, **more)
    graph.add_edge(other, one, bandwidth=bandwidth, latency=latency, **more)


def whole(name: str, value: object, least: int = 1, most: float = inf, why: str = "") -> int:
    """Return a whole number in a range. Raise TopologyError, with the nearest possible number, for any other value."""
    if not is_int(value):
        raise TopologyError(f"{name} {value!r} is no whole number; give one, {least} or more", path=(name,))
    if not least <= value <= most:
        nearest = least if value < least else int(most)
        raise TopologyError(f"{name} {int(value):,} is not possible{': ' + why if why else ''}; the nearest is {nearest:,}",
                            path=(name,))
    return int(value)


def few_cables(count: float) -> None:
    """Raise TopologyError for a network of more cables than can be built."""
    if count > MAX_CABLES:
        raise TopologyError(f"the network has {count:,.0f} cables; give a size of at most {MAX_CABLES:,}", code="limit")


def lengths_of(name: str, given: object, least: int = 1) -> tuple[int, ...]:
    """Return a list of whole numbers. Raise TopologyError if it is not one, or has a number below `least`."""
    if not isinstance(given, list | tuple) or not given:
        raise TopologyError(f"{name} {given!r} is no list of whole numbers; give one such as [4, 4]", path=(name,))
    return tuple(whole(name, one, least) for one in given)


def rates(**given: float | None) -> None:
    """Raise TopologyError unless each bandwidth is above 0 and each latency 0 or more; None is not checked."""
    for name, value in given.items():
        if value is None:
            continue
        late = name.endswith("latency")
        if not (0 <= as_float(value) < inf) or (not late and as_float(value) == 0):
            wanted = "0 or more; give seconds, such as 1e-6" if late else "above 0; give bytes/s, such as 50e9"
            raise TopologyError(f"{name} {value!r} is no finite number {wanted}", path=(name,))


def one_of(name: str, value: str, choices: Mapping[str, Any] | Sequence[str]) -> str:
    """Return one of some names. Raise TopologyError for any other value."""
    if value not in choices:
        raise TopologyError(f"{name} {value!r} is not one of {', '.join(choices)}", code="unknown-name", path=(name,))
    return value
