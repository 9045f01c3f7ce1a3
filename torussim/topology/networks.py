"""Networks by name, from a crossbar to dragonflies. The trees are in `trees`.

Each function returns a graph that keeps the contract of `check` and has the attributes that `cables` describes. `bandwidth` is
one direction of one link, bytes/s; `latency` is one link, s. Each raises TopologyError for impossible sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from math import prod
from typing import TYPE_CHECKING

from torussim.topology.cables import add_switch, cable, few_cables, lengths_of, rates, whole, with_chips
from torussim.topology.check import MAX_CHIPS

if TYPE_CHECKING:
    import networkx as nx

BOARD = 4  # chips of a boardfly's board
BOARDS = 8  # of a boardfly's group
GROUPS = 36  # of a boardfly, at most


def switch(chips: int, *, bandwidth: float, latency: float = 0.0, sums: bool = False) -> nx.DiGraph:
    """Return chips on one crossbar that does not block: one link from each chip to the switch and back.

    A message between two chips takes two links.

    Parameters
    ----------
    chips
        The number of chips.
    bandwidth
        The bandwidth of one direction of one link, bytes/s.
    latency
        The latency of one link, s.
    sums
        Whether the switch can add up what passes.

    Returns
    -------
    networkx.DiGraph
        The network, with the attributes that `check_topology` asks for.

    Raises
    ------
    TopologyError
        If no such network can have these sizes.

    Examples
    --------
    >>> graph = switch(8, bandwidth=50e9)
    >>> graph.number_of_nodes(), graph.number_of_edges()
    (9, 16)
    """
    whole("chips", chips)
    rates(bandwidth=bandwidth, latency=latency)
    graph = with_chips([chips], "by number")
    centre = add_switch(graph, "switch", 1, sums=sums)
    for chip in range(chips):
        cable(graph, (chip,), centre, bandwidth, latency)
    return graph


def fully_connected(chips: int, *, bandwidth: float, latency: float = 0.0) -> nx.DiGraph:
    """Return chips of which each has a link to every other: chips (chips - 1) / 2 cables, one hop between any two.

    Parameters
    ----------
    chips
        The number of chips.
    bandwidth
        The bandwidth of one direction of one link, bytes/s.
    latency
        The latency of one link, s.

    Returns
    -------
    networkx.DiGraph
        The network, with the attributes that `check_topology` asks for.

    Raises
    ------
    TopologyError
        If no such network can have these sizes.

    Examples
    --------
    >>> fully_connected(4, bandwidth=50e9).number_of_edges()
    12
    """
    whole("chips", chips)
    rates(bandwidth=bandwidth, latency=latency)
    few_cables(chips * (chips - 1) / 2)
    graph = with_chips([chips], "by number")
    for one, other in combinations(range(chips), 2):
        cable(graph, (one,), (other,), bandwidth, latency)
    return graph


def hypercube(dimensions: int, *, bandwidth: float, latency: float = 0.0) -> nx.DiGraph:
    """Return a hypercube: 2**dimensions chips, one axis of length 2 for each dimension, a torus of twos.

    Parameters
    ----------
    dimensions
        The number of axes.
    bandwidth
        The bandwidth of one direction of one link, bytes/s.
    latency
        The latency of one link, s.

    Returns
    -------
    networkx.DiGraph
        The network, with the attributes that `check_topology` asks for.

    Raises
    ------
    TopologyError
        If no such network can have these sizes.

    Examples
    --------
    >>> hypercube(3, bandwidth=50e9).graph["axes"]
    {'x': 2, 'y': 2, 'z': 2}
    """
    most = MAX_CHIPS.bit_length() - 1
    whole("dimensions", dimensions, 1, most, f"a network has at most {MAX_CHIPS:,} chips")
    rates(bandwidth=bandwidth, latency=latency)
    graph = with_chips([2] * dimensions, "by coordinates, the last dimension fastest")
    for chip in product(range(2), repeat=dimensions):
        for axis in range(dimensions):
            if chip[axis] == 0:
                cable(graph, chip, (*chip[:axis], 1, *chip[axis + 1:]), bandwidth, latency)
    return graph


def hyperx(shape: Sequence[int], *, chips: int = 1, bandwidth: float, latency: float = 0.0,
           switch_bandwidth: float | None = None, switch_latency: float | None = None) -> nx.DiGraph:
    """Return a HyperX: a grid of switches, each joined to all others in its row along every dimension (Ahn et al., SC 2009).

    Two chips are at most len(shape) + 2 links apart.

    Parameters
    ----------
    shape
        The number of switches along each dimension.
    chips
        The number of chips at each switch.
    bandwidth
        The bandwidth of one direction of a chip's link, bytes/s.
    latency
        The latency of a chip's link, s.
    switch_bandwidth
        The bandwidth of one direction of a link between switches, bytes/s; by default `bandwidth`.
    switch_latency
        The latency of a link between switches, s; by default `latency`.

    Returns
    -------
    networkx.DiGraph
        The network, with the attributes that `check_topology` asks for.

    Raises
    ------
    TopologyError
        If no such network can have these sizes.

    Examples
    --------
    >>> hyperx([4, 4], chips=2, bandwidth=50e9).graph["axes"]
    {'x': 4, 'y': 4, 'z': 2}
    """
    sides, chips = lengths_of("shape", shape), whole("chips", chips)
    between = bandwidth if switch_bandwidth is None else switch_bandwidth
    late = latency if switch_latency is None else switch_latency
    rates(bandwidth=bandwidth, latency=latency, switch_bandwidth=between, switch_latency=late)
    few_cables(prod(sides) * (chips + sum(side - 1 for side in sides) / 2))
    lengths = (*sides, chips) if chips > 1 else sides
    graph = with_chips(lengths, "switch by switch")
    for place in product(*map(range, sides)):
        add_switch(graph, _named("switch", place), 1)
    for place in product(*map(range, sides)):
        for chip in range(chips):
            cable(graph, (*place, chip) if chips > 1 else place, _named("switch", place), bandwidth, latency)
        for axis, length in enumerate(sides):
            for further in range(place[axis] + 1, length):
                other = (*place[:axis], further, *place[axis + 1:])
                cable(graph, _named("switch", place), _named("switch", other), between, late)
    return graph


def dragonfly(*, routers: int, chips: int, global_links: int, groups: int | None = None, bandwidth: float, latency: float = 0.0,
              local_bandwidth: float | None = None, local_latency: float | None = None,
              global_bandwidth: float | None = None, global_latency: float | None = None) -> nx.DiGraph:
    """Return a dragonfly: groups of fully connected routers, and links between the groups (Kim et al., ISCA 2008).

    A global link counts as three hops where routes are compared, so that the shortest routes have at most one. The balanced
    dragonfly has routers = 2 chips = 2 global_links.

    Parameters
    ----------
    routers
        The number of routers of a group.
    chips
        The number of chips of a router.
    global_links
        The number of links of a router to other groups.
    groups
        The number of groups, at most routers x global_links + 1, where each pair of groups has one link (the default); fewer
        groups share the links evenly.
    bandwidth
        The bandwidth of one direction of a chip's link, bytes/s.
    latency
        The latency of a chip's link, s.
    local_bandwidth
        The bandwidth of one direction of a link inside a group, bytes/s; by default `bandwidth`.
    local_latency
        The latency of a link inside a group, s; by default `latency`.
    global_bandwidth
        The bandwidth of one direction of a link between groups, bytes/s; by default `bandwidth`.
    global_latency
        The latency of a link between groups, s; by default `latency`.

    Returns
    -------
    networkx.DiGraph
        The network, with the attributes that `check_topology` asks for.

    Raises
    ------
    TopologyError
        If no such network can have these sizes.

    Examples
    --------
    >>> dragonfly(routers=4, chips=2, global_links=2, bandwidth=25e9).graph["axes"]
    {'x': 9, 'y': 4, 'z': 2}
    """
    for name, value in {"routers": routers, "chips": chips, "global_links": global_links}.items():
        whole(name, value)
    ports = routers * global_links
    groups = ports + 1 if groups is None else whole(
        "groups", groups, 1, ports + 1, f"{routers} routers with {global_links} global links reach {ports} other groups")
    local, late = _or(local_bandwidth, bandwidth), _or(local_latency, latency)
    far, far_late = _or(global_bandwidth, bandwidth), _or(global_latency, latency)
    rates(bandwidth=bandwidth, latency=latency, local_bandwidth=local, local_latency=late, global_bandwidth=far,
          global_latency=far_late)
    few_cables(groups * routers * (chips + (routers - 1 + global_links) / 2))
    graph = with_chips([groups, routers, chips], "group by group, in it router by router", group=True)
    for group, router in product(range(groups), range(routers)):
        here = add_switch(graph, f"router {group} {router}", 1, group=group)
        for chip in range(chips):
            cable(graph, (group, router, chip), here, bandwidth, latency)
        for other in range(router):
            cable(graph, f"router {group} {other}", here, local, late)
    per_pair = ports // max(groups - 1, 1)
    for one, other in combinations(range(groups), 2):
        ends = [(_port(one, other, groups, k, per_pair) // global_links, _port(other, one, groups, k, per_pair) // global_links)
                for k in range(per_pair)]
        for pair in dict.fromkeys(ends):  # links between the same two routers are one link with the sum of their bandwidths
            cable(graph, f"router {one} {pair[0]}", f"router {other} {pair[1]}", far * ends.count(pair), far_late, hops=3)
    return graph


def boardfly(groups: int = GROUPS, *, bandwidth: float, latency: float = 0.0, board_bandwidth: float | None = None,
             board_latency: float | None = None, group_bandwidth: float | None = None, group_latency: float | None = None,
             board_links: int = 1, group_links: int = 1) -> nx.DiGraph:
    """Return a boardfly, the network of the TPU 8i, as announced in April 2026.

    Boards of 4 chips, fully connected; groups of 8 boards; up to 36 groups, all to all by optical circuit switches, which
    are circuits and no switches here: 1152 chips, at most 7 hops (Google Cloud, TPU 8t and TPU 8i technical deep dive,
    April 2026). Not published and assumed: that the boards of a group are joined all to all (as a diameter of 7 hops
    needs), every bandwidth, the links between two boards and between two groups, and which chips have them: in turn, as
    evenly as can be. A link between groups counts as seven hops where routes are compared, so that the shortest routes
    have at most one.

    Parameters
    ----------
    groups
        The number of groups of 32 chips, at most 36.
    bandwidth
        The bandwidth of one direction of a link inside a board, bytes/s.
    latency
        The latency of a link inside a board, s.
    board_bandwidth
        The bandwidth of one direction of a link between boards, bytes/s; by default `bandwidth`.
    board_latency
        The latency of a link between boards, s; by default `latency`.
    group_bandwidth
        The bandwidth of one direction of a link between groups, bytes/s; by default `bandwidth`.
    group_latency
        The latency of a link between groups, s; by default `latency`.
    board_links
        The number of links between two boards, 1 to 4.
    group_links
        The number of links between two groups, 1 to 32.

    Returns
    -------
    networkx.DiGraph
        The network, with the attributes that `check_topology` asks for.

    Raises
    ------
    TopologyError
        If no such network can have these sizes.

    Examples
    --------
    >>> boardfly(2, bandwidth=100e9).graph["axes"]
    {'x': 2, 'y': 8, 'z': 4}
    """
    whole("groups", groups, 1, GROUPS, f"optical switches join at most {GROUPS} groups, {GROUPS * BOARDS * BOARD} chips")
    whole("board_links", board_links, 1, BOARD, "the links of two boards start at different chips")
    whole("group_links", group_links, 1, BOARD * BOARDS, "the links of two groups start at different chips")
    near, near_late = _or(board_bandwidth, bandwidth), _or(board_latency, latency)
    far, far_late = _or(group_bandwidth, bandwidth), _or(group_latency, latency)
    rates(bandwidth=bandwidth, latency=latency, board_bandwidth=near, board_latency=near_late, group_bandwidth=far,
          group_latency=far_late)
    said = ("boardfly: the bandwidths of the TPU 8i's links are not published: the ones here are assumed, as is which chips have "
            f"the links of boards ({board_links} a pair) and of groups ({group_links} a pair)")
    graph = with_chips([groups, BOARDS, BOARD], "group by group, in it board by board", group=True, notes=(said,))
    for group, board in product(range(groups), range(BOARDS)):
        for one, other in combinations(range(BOARD), 2):
            cable(graph, (group, board, one), (group, board, other), bandwidth, latency)
        for before, k in product(range(board), range(board_links)):
            ends = (_port(*pair, BOARDS, k, board_links) % BOARD for pair in ((before, board), (board, before)))
            cable(graph, (group, before, next(ends)), (group, board, next(ends)), near, near_late)
    for one, other in combinations(range(groups), 2):
        for k in range(group_links):
            here, there = (_port(*pair, groups, k, group_links) for pair in ((one, other), (other, one)))
            cable(graph, (one, here % BOARDS, here // BOARDS % BOARD), (other, there % BOARDS, there // BOARDS % BOARD), far,
                  far_late, hops=7)
    return graph


def _port(here: int, there: int, count: int, k: int, per_pair: int) -> int:
    """Return the port of the k-th link from one member to another of a fully connected set of `count`; ports take turns."""
    return (there - here - 1) % count * per_pair + k


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _named(what: str, place: Sequence[int]) -> str:
    return " ".join([what, *map(str, place)])
