"""Networks with levels of switches: fat trees, nodes of GPUs, racks, and slices joined by a data-centre network.

As in `networks`, each function returns a graph, and bandwidths are one direction of one link. A builder gives the number of links
up of a switch, all equal, so that `oversubscription` is exact: the bandwidth of a switch downwards over its bandwidth upwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import ceil, prod
from typing import TYPE_CHECKING, Any

from torussim.errors import TopologyError
from torussim.topology.builders import torus
from torussim.topology.cables import add_switch, cable, few_cables, lengths_of, one_of, rates, whole, with_chips
from torussim.topology.check import as_float

if TYPE_CHECKING:
    import networkx as nx

GPUS = (4, 8)  # of a node
RAIL = 32  # nodes whose NICs share the leaf switches of a rail-optimised fat tree: a scalable unit of DGX SuperPOD H100


def fat_tree(down: Sequence[int] | None = None, *, chips: int | None = None, radix: int | None = None, levels: int = 2,
             oversubscription: float | Sequence[float] = 1.0, bandwidth: float, latency: float = 0.0,
             sums: bool = False) -> nx.DiGraph:
    """Return a fat tree of two or three levels of switches (Leiserson 1985; Al-Fares et al., SIGCOMM 2008).

    `down` says what there is, or `chips`, `radix` and `levels` do, from which `down` follows. A leaf with d chips has
    ceil(d / oversubscription) links up, each of d bandwidth / (oversubscription links).

    Parameters
    ----------
    down
        What hangs below a switch of each level from the bottom: [chips a leaf, leaves] or [chips a leaf, leaves a pod, pods].
    chips
        The number of chips, where `down` is not given.
    radix
        The number of ports of a switch; with `down` it is only checked.
    levels
        The number of levels of switches, 2 or 3, where `down` is not given.
    oversubscription
        The bandwidth down over the bandwidth up, of the leaves, and of the switches above them in three levels; one value is
        that of the leaves.
    bandwidth
        The bandwidth of one direction of a chip's link, bytes/s.
    latency
        The latency of one link, s.
    sums
        Whether the switches can add up what passes.

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
    >>> fat_tree([4, 4], bandwidth=50e9).number_of_nodes()  # 16 chips, 4 leaves, 4 spines
    24
    """
    ratios = _ratios(oversubscription, whole("levels", levels, 2, 3) if down is None else _levels(down))
    if down is None:
        if chips is None or radix is None:
            raise TopologyError("a fat tree needs down, such as [16, 8] (16 chips a leaf, 8 leaves), or chips and radix")
        counts = _from_radix(whole("chips", chips), whole("radix", radix, 2), levels, ratios)
    else:
        counts = lengths_of("down", down)
        if chips is not None and chips != prod(counts):
            raise TopologyError(f"down {list(counts)} has {prod(counts):,} chips, but chips is {chips!r}: leave one out",
                                code="clash")
    rates(bandwidth=bandwidth, latency=latency)
    ups = [ceil(count / ratio - 1e-9) for count, ratio in zip(counts, ratios)]
    if radix is not None:
        _check_ports(counts, ups, whole("radix", radix, 2))
    few_cables(prod(counts) * (1 + ups[0] / counts[0] * (1 + (ups[1] / counts[1] if len(counts) == 3 else 0))))
    leaf, leaves, pods = (*counts, 1)[:3]
    graph = with_chips([prod(counts)], "leaf by leaf")
    up = leaf * bandwidth / (ratios[0] * ups[0])
    for number in range(leaves * pods):
        name = add_switch(graph, f"leaf {number}", 1, group=number, sums=sums)
        for chip in range(number * leaf, (number + 1) * leaf):
            cable(graph, (chip,), name, bandwidth, latency)
            graph.nodes[chip,]["group"] = number
    if len(counts) == 2:
        _joined(graph, [f"leaf {i}" for i in range(leaves)], [f"spine {k}" for k in range(ups[0])], 2, up, latency, sums)
        return graph
    over = leaves * up / (ratios[1] * ups[1])
    for pod in range(pods):
        _joined(graph, [f"leaf {i}" for i in range(pod * leaves, (pod + 1) * leaves)],
                [f"spine {pod} {k}" for k in range(ups[0])], 2, up, latency, sums)
    for k in range(ups[0]):
        _joined(graph, [f"spine {pod} {k}" for pod in range(pods)],
                [f"core {k} {j}" for j in range(ups[1])], 3, over, latency, sums)
    return graph


def gpu_nodes(nodes: int, *, gpus: int = 8, nics: str = "gpu", fabric: str = "rail", leaf: int | None = None,
              oversubscription: float = 1.0, bandwidth: float, latency: float = 0.0, nic_bandwidth: float = 50e9,
              nic_latency: float | None = None, sums: bool = False) -> nx.DiGraph:
    """Return nodes of 4 or 8 GPUs behind an NVSwitch, joined by a fat tree between their NICs; axes: nodes, GPUs of a node.

    The NVSwitch of a node is one crossbar; DGX H100 has four chips.

    Parameters
    ----------
    nodes
        The number of nodes.
    gpus
        The number of GPUs of a node, 4 or 8.
    nics
        "gpu": a NIC for each GPU, or "node": one that all GPUs of a node share.
    fabric
        "rail" joins the NICs of the same place in their nodes by leaf switches of their own, as DGX SuperPOD does; "fat_tree"
        gives the NICs to leaves node by node.
    leaf
        The number of NICs of a leaf switch; by default those of up to 32 nodes (rail), or up to 32 NICs of whole nodes
        (fat_tree).
    oversubscription
        The bandwidth down over the bandwidth up, of the leaves.
    bandwidth
        The bandwidth of one direction of a GPU's link to its NVSwitch, bytes/s.
    latency
        The latency of that link, s.
    nic_bandwidth
        The bandwidth of one direction of a NIC and of all links beyond, bytes/s; by default 400 Gbit/s, as in DGX H100.
    nic_latency
        The latency of a NIC and of all links beyond, s; by default `latency`.
    sums
        Whether the NVSwitches can add up what passes.

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
    >>> gpu_nodes(2, bandwidth=450e9).graph["axes"]
    {'x': 2, 'y': 8}
    """
    whole("nodes", nodes)
    if gpus not in GPUS:
        nearest = min(GPUS, key=lambda one: abs(one - as_float(gpus)))
        raise TopologyError(f"gpus {gpus!r} is not possible: a node has {' or '.join(map(str, GPUS))} GPUs; the nearest is "
                            f"{nearest}", path=("gpus",))
    per_node = {"gpu": gpus, "node": 1}[one_of("nics", nics, ("gpu", "node"))]
    rail = one_of("fabric", fabric, ("rail", "fat_tree")) == "rail"
    late = latency if nic_latency is None else nic_latency
    rates(bandwidth=bandwidth, latency=latency, nic_bandwidth=nic_bandwidth, nic_latency=late)
    ratio = _ratios(oversubscription, 2)[0]
    few_cables(nodes * (2 * gpus + per_node * (1 + 1 / ratio)))
    graph = with_chips([nodes, gpus], "node by node", group=True)
    for node in range(nodes):
        inner = add_switch(graph, f"nvswitch {node}", 1, group=node, sums=sums)
        for nic in range(per_node):
            add_switch(graph, f"nic {node} {nic}", 1, group=node)
        for gpu in range(gpus):
            cable(graph, (node, gpu), inner, bandwidth, latency)
            cable(graph, (node, gpu), f"nic {node} {gpu % per_node}", nic_bandwidth, late)
    if nodes == 1:
        return graph
    if rail:
        size = min(nodes, RAIL) if leaf is None else whole("leaf", leaf)
        rows = [[f"nic {node} {nic}" for node in range(begin, min(begin + size, nodes))]
                for begin in range(0, nodes, size) for nic in range(per_node)]
    else:
        size = min(nodes * per_node, max(32 // per_node, 1) * per_node) if leaf is None else whole("leaf", leaf)
        every = [f"nic {node} {nic}" for node in range(nodes) for nic in range(per_node)]
        rows = [every[begin:begin + size] for begin in range(0, len(every), size)]
    for number, row in enumerate(rows):
        _joined(graph, row, [f"leaf {number}"], 2, nic_bandwidth, late, False)
    if len(rows) > 1:
        spines = ceil(size / ratio - 1e-9)
        _joined(graph, [f"leaf {i}" for i in range(len(rows))], [f"spine {k}" for k in range(spines)], 3,
                size * nic_bandwidth / (ratio * spines), late, False)
    return graph


def nvl72(*, switches: int = 18, bandwidth: float = 50e9, latency: float = 0.0, sums: bool = False) -> nx.DiGraph:
    """Return a rack of 72 GPUs on one level of switches: each GPU has one link to each of 18 NVSwitches.

    The default bandwidth is that of one NVLink of the fifth generation, 50 GB/s in a direction, 900 GB/s a GPU (NVIDIA, GB200
    NVL72: 1.8 TB/s a GPU both ways over 18 links, 9 switch trays of two chips).

    Parameters
    ----------
    switches
        The number of switches.
    bandwidth
        The bandwidth of one direction of one link, bytes/s.
    latency
        The latency of one link, s.
    sums
        Whether the switches can add up what passes.

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
    >>> nvl72().number_of_edges()
    2592
    """
    whole("switches", switches)
    rates(bandwidth=bandwidth, latency=latency)
    graph = with_chips([72], "by number")
    for k in range(switches):
        name = add_switch(graph, f"nvswitch {k}", 1, sums=sums)
        for gpu in range(72):
            cable(graph, (gpu,), name, bandwidth, latency)
    return graph


def multislice(slices: int, shape: Sequence[int], *, wrap: bool | Sequence[bool] = True, bandwidth: float, latency: float = 0.0,
               host_chips: int = 4, dcn_bandwidth: float = 25e9, dcn_latency: float = 10e-6) -> nx.DiGraph:
    """Return several tori of one shape, joined by a data-centre network; axes: slices, then those of the shape.

    The data-centre network is one crossbar. Its default bandwidth, 25 GB/s a host of 200 Gbit/s, is assumed, as is the latency
    of 10 us. The link from a chip to its host counts as more than half of the hops of any way inside a slice where routes are
    compared, so that messages inside a slice stay on its torus.

    Parameters
    ----------
    slices
        The number of tori.
    shape
        The number of chips along each axis of a torus.
    wrap
        Whether each axis of a torus has a wraparound: one value, or one for each axis.
    bandwidth
        The bandwidth of one direction of one link of a torus, bytes/s.
    latency
        The latency of one link of a torus, s.
    host_chips
        The number of chips that share the NIC of their host, in C order.
    dcn_bandwidth
        The bandwidth of one direction of a NIC, bytes/s.
    dcn_latency
        The latency from a NIC to the data-centre network, s.

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
    >>> multislice(2, [4, 4], bandwidth=45e9).graph["axes"]
    {'x': 2, 'y': 4, 'z': 4}
    """
    lengths = lengths_of("shape", shape)
    whole("slices", slices)
    inside = prod(lengths)
    whole("host_chips", host_chips)
    if inside % host_chips:
        nearest = min((d for d in range(1, inside + 1) if inside % d == 0), key=lambda d: abs(d - host_chips))
        raise TopologyError(f"host_chips {host_chips} is not possible: {inside} chips of a slice have no whole number of such "
                            f"hosts; the nearest is {nearest}", path=("host_chips",))
    rates(dcn_bandwidth=dcn_bandwidth, dcn_latency=dcn_latency)
    one = torus(lengths, wrap=list(wrap) if isinstance(wrap, tuple) else wrap, bandwidth=bandwidth, latency=latency)
    few_cables(slices * inside * (1 + len(lengths)))
    graph = with_chips([slices, *lengths], "slice by slice", group=True)
    centre = add_switch(graph, "data centre", 2)
    inner = list(product(*map(range, lengths)))
    for slice_ in range(slices):
        graph.add_edges_from(((slice_, *a), (slice_, *b), dict(link)) for a, b, link in one.edges(data=True))
        for begin in range(0, inside, host_chips):
            name = add_switch(graph, f"host {slice_} {begin // host_chips}", 1, group=slice_)
            for chip in inner[begin:begin + host_chips]:
                cable(graph, (slice_, *chip), name, dcn_bandwidth, latency, hops=sum(lengths) // 2 + 1)
            cable(graph, name, centre, dcn_bandwidth, dcn_latency)
    return graph


def _joined(graph: nx.DiGraph, below: Sequence[str], above: Sequence[str], level: int, bandwidth: float, latency: float,
            sums: bool) -> None:
    """Add the switches `above`, and a cable from each switch `below` to each of them."""
    for name in above:
        add_switch(graph, name, level, sums=sums)
    for one, other in product(below, above):
        cable(graph, one, other, bandwidth, latency)


def _levels(down: Sequence[int]) -> int:
    """Return the number of levels. Raise TopologyError unless it is two or three."""
    counts = lengths_of("down", down)
    if len(counts) not in (2, 3):
        raise TopologyError(f"down {list(counts)} has {len(counts)} levels; a fat tree has two or three: [chips a leaf, leaves] "
                            "or [chips a leaf, leaves a pod, pods]", path=("down",))
    return len(counts)


def _ratios(given: float | Sequence[float], levels: int) -> list[float]:
    """Return the oversubscription of each level but the last. Raise TopologyError if one is not a number above 0."""
    several: list[Any] = list(given) if isinstance(given, list | tuple) else [given] + [1.0] * (levels - 2)
    if len(several) != levels - 1:
        raise TopologyError(f"oversubscription {several} has {len(several)} values, but {levels} levels have {levels - 1}: give "
                            "one for each level but the last", path=("oversubscription",))
    for ratio in several:
        if not 0 < as_float(ratio) <= 1e6:
            raise TopologyError(f"oversubscription {ratio!r} is no number above 0; give bandwidth down over bandwidth up, such "
                                "as 4", path=("oversubscription",))
    return [float(ratio) for ratio in several]


def _check_ports(counts: Sequence[int], ups: Sequence[int], radix: int) -> None:
    """Raise TopologyError if a switch needs more ports than it has."""
    ports = [below + up for below, up in zip(counts, ups)] + [counts[-1]]
    for level, (what, needed) in enumerate(zip(("leaf", "spine", "core") if len(counts) == 3 else ("leaf", "spine"),
                                               ports if len(counts) == 3 else (ports[0], counts[1]))):
        if needed > radix:
            raise TopologyError(f"radix {radix} is not possible: a {what} switch needs {needed} ports "
                                f"({counts[level]} down); the nearest is {max(ports)}", path=("radix",))


def _from_radix(chips: int, radix: int, levels: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """Return the `down` of the fat tree for some chips. Raise TopologyError if there is no such tree."""
    half = [max((d for d in range(1, radix) if d + ceil(d / ratio - 1e-9) <= radix), default=0) for ratio in ratios]
    if not all(half):
        ratio = ratios[half.index(0)]
        raise TopologyError(f"radix {radix} is not possible with an oversubscription of {ratio:g}; the nearest is "
                            f"{1 + ceil(1 / ratio)}", path=("radix",))
    most = prod(half) * radix
    if chips > most:
        raise TopologyError(f"chips {chips:,} are not possible: switches of radix {radix} join at most {most:,} in {levels} "
                            f"levels; the nearest is {most:,}, or give {'levels: 3 or ' if levels == 2 else ''}a larger radix",
                            path=("chips",))
    if chips <= half[0]:
        raise TopologyError(f"chips {chips:,} fit on one switch of radix {radix}, with {half[0]} chips a leaf: give kind: "
                            "switch, a smaller radix, or down", path=("chips",))
    for leaf in range(half[0], half[0] // 2, -1):  # a leaf is at least half full
        if chips % leaf:
            continue
        if levels == 2:
            if chips // leaf <= radix:
                return leaf, chips // leaf
            continue
        pod = max(d for d in range(1, half[1] + 1) if chips // leaf % d == 0)
        if chips // leaf // pod <= radix:
            return leaf, pod, chips // leaf // pod
    nearest = min((n for n in range(half[0], most + 1, half[0])), key=lambda n: abs(n - chips))
    raise TopologyError(f"chips {chips:,} do not divide into leaves of at most {half[0]}; the nearest is {nearest:,}",
                        path=("chips",))
