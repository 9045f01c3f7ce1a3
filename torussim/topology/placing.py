"""Logical meshes: the chips of any network on axes, in a given order or in an order in which the axes are rings of links."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim import units
from torussim.errors import TopologyError
from torussim.topology.check import WITNESSES, Node, read_links
from torussim.topology.rings import ring_order
from torussim.topology.shape import axis_names

if TYPE_CHECKING:
    import networkx as nx

SHOWN = 16  # chips of an order that a note shows
SWITCH_NAMES = ("switch", "spine", "leaf", "router", "hub", "nic", "tor", "core", "aggr")
REMEDY = {"node_link": '{"id": "switch 0", "chip": false}', "graphml": 'a boolean attribute "chip" of the node, false'}


def placed(graph: nx.DiGraph, lengths: Sequence[int], order: Sequence[Any] | None = None) -> nx.DiGraph:
    """Return a network without axes with coordinates for its chips: in `order`, with the last axis fastest.

    An entry of `order` is the name of a chip, or its number in the default order. The default order is that of the names, in
    which numbers count as numbers, so chip9 stands before chip10. Without `order`, directly wired chips that do not follow the
    order of their axis are put in the order of a ring of links, if one is found; a note in `graph.graph["notes"]` says so. Raise
    TopologyError if the axes have more or fewer chips than the network, if the network has axes of its own, or if `order` does
    not have each chip once.
    """
    import networkx as nx

    if not isinstance(graph, nx.DiGraph):
        raise TopologyError(f"a topology is a networkx.DiGraph, not a {type(graph).__name__}")
    if "axes" in graph.graph:
        raise TopologyError(f'the network has axes of its own, {graph.graph["axes"]!r}: leave mesh out')
    chips = [node for node, is_chip in graph.nodes(data="chip", default=True) if is_chip]
    if len(chips) != prod(lengths):
        raise TopologyError(f"the mesh {list(lengths)} has {prod(lengths):,} chips, but the network has {len(chips):,}"
                            f"{unmarked(graph, prod(lengths))}", path=("mesh",))
    try:
        chips.sort(key=lambda chip: [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", chip)]
                   if isinstance(chip, str) else chip)
    except TypeError:
        raise TopologyError("the chips have no order, as their names are of different types: name them alike, such as "
                            "0, 1, 2") from None
    made = _on_axes(graph, lengths, chips if order is None else _in_order(chips, order))
    return made if order is not None else _ringed(made)


def unmarked(graph: nx.DiGraph, chips: int, format: str = "") -> str:
    """Return in words the nodes that are probably switches, if a graph has more chips than it should; else "".

    Nodes with the name of a switch come first, then nodes with more neighbours than any remaining node.
    """
    nodes = [node for node, is_chip in graph.nodes(data="chip", default=True) if is_chip]
    many = len(nodes) - chips
    if many <= 0:
        return ""
    named = [node for node in nodes if any(word in str(node).lower() for word in SWITCH_NAMES)]
    by_degree = sorted(nodes, key=lambda node: -graph.out_degree(node))
    if len(named) != many:
        named = by_degree[:many] if graph.out_degree(by_degree[many - 1]) > graph.out_degree(by_degree[many]) else []
    if not named:
        return ""
    more = f" and {many - WITNESSES:,} more" if many > WITNESSES else ""
    return (f": {', '.join(map(repr, named[:WITNESSES]))}{more} {'seem' if many > 1 else 'seems'} to be "
            f"{'switches' if many > 1 else 'a switch'}: mark {'them' if many > 1 else 'it'} with chip=False"
            f"{f', in {format} ' + REMEDY.get(format, 'chip: false') if format else ''}")


def arranged(graph: nx.DiGraph, lengths: Sequence[int] | None = None, order: Sequence[Any] | None = None) -> nx.DiGraph:
    """Return a built-in network on other axes, or with its chips in another order; both as in `placed`."""
    axes = graph.graph["axes"]
    bare = graph.copy()
    del bare.graph["axes"]
    made = placed(bare, tuple(axes.values()) if lengths is None else lengths, order)
    how = "in the order given" if order is not None else graph.graph["order"]
    on = ", ".join(f"{name} {length}" for name, length in made.graph["axes"].items())
    made.graph["notes"] = (f"chips on the logical mesh {on}: {how}", *made.graph.get("notes", ()))
    return made


def _on_axes(graph: nx.DiGraph, lengths: Sequence[int], chips: Sequence[Node]) -> nx.DiGraph:
    """Return a network whose chips have coordinates on these axes, in C order."""
    import networkx as nx

    new = dict(zip(chips, np.ndindex(*lengths), strict=True))
    coordinates = set(new.values())
    taken = [node for node, is_chip in graph.nodes(data="chip", default=True) if not is_chip and node in coordinates]
    if taken:
        raise TopologyError(f"a switch is called {taken[0]!r}, which is to be a chip of the mesh: give it another name")
    made = nx.relabel_nodes(graph, new)
    made.graph["axes"] = dict(zip(axis_names(len(lengths)), lengths))
    return made


def _in_order(chips: Sequence[Node], order: Sequence[Any]) -> list[Node]:
    """Return the chips in the given order. Raise TopologyError unless the order has each chip once."""
    names, seen = set(chips), dict[Node, int]()
    for place, given in enumerate(order):
        chip = tuple(given) if isinstance(given, list) else given
        if chip not in names and isinstance(chip, int) and 0 <= chip < len(chips):
            chip = chips[chip]
        if chip not in names:
            raise TopologyError(f"order has {given!r}, which is no chip: give coordinates such as {_shown(chips[-1])}, or a "
                                f"number from 0 to {len(chips) - 1}", path=("order", place), code="unknown-name")
        if chip in seen:
            raise TopologyError(f"order has the chip {_shown(chip)} twice", path=("order", place), code="duplicate")
        seen[chip] = place
    missing = [chip for chip in chips if chip not in seen]
    if missing:
        raise TopologyError(f"order lacks {len(missing):,} of {len(chips):,} chips, such as {_shown(missing[0])}: give each once",
                            path=("order",))
    return list(seen)


def _ringed(graph: nx.DiGraph) -> nx.DiGraph:
    """Return a network with the chips of each axis in the order of a ring of links, if one is needed and found."""
    if not any(a in graph.nodes and b in graph.nodes and graph.nodes[a].get("chip", True) and graph.nodes[b].get("chip", True)
               for a, b in graph.edges):
        return graph
    links = read_links(graph)
    axes, notes = dict(graph.graph["axes"]), list(graph.graph.get("notes", ()))
    orders = [list(range(length)) for length in axes.values()]
    for axis, name in enumerate(axes):
        found = ring_order(links, axis)
        if found is not None:
            orders[axis], bandwidth = found
            said = " ".join(map(str, orders[axis][:SHOWN])) + (" ..." if axes[name] > SHOWN else "")
            notes.append(f"axis {name} has its chips in the order {said}, a ring of links of {units.show(bandwidth, 'B/s')} that "
                         "was searched for; topology.order gives another")
    if all(order == sorted(order) for order in orders):
        made = graph
    else:
        mixed = np.array(list(np.ndindex(*axes.values())))
        old = zip(*(np.array(order)[mixed[:, axis]].tolist() for axis, order in enumerate(orders)))
        made = _on_axes(graph, tuple(axes.values()), list(old))
        made.graph["axes"] = axes
    if notes:
        made.graph["notes"] = tuple(notes)
    return made


def _shown(chip: Node) -> str:
    return f"[{', '.join(map(str, chip))}]" if isinstance(chip, tuple) else repr(chip)
