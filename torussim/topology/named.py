"""The networks with names, besides tori, meshes and rings: each name, and the function that builds its graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torussim.topology.check import check_topology
from torussim.topology.networks import boardfly, dragonfly, fully_connected, hypercube, hyperx, switch
from torussim.topology.placing import arranged
from torussim.topology.trees import fat_tree, gpu_nodes, multislice, nvl72

if TYPE_CHECKING:
    import networkx as nx

NETWORKS: Mapping[str, Callable[..., nx.DiGraph]] = {
    "switch": switch, "fully_connected": fully_connected, "hypercube": hypercube, "hyperx": hyperx, "fat_tree": fat_tree,
    "dragonfly": dragonfly, "gpu_nodes": gpu_nodes, "nvl72": nvl72, "boardfly": boardfly, "multislice": multislice}


def network(name: str, keywords: Mapping[str, Any], mesh: Sequence[int] | None = None,
            order: Sequence[Any] | None = None) -> nx.DiGraph:
    """Return a network by name, with its chips on a logical mesh and in an order, as in `placing.placed`.

    Raise TopologyError for impossible sizes; its path begins with the wrong keyword, if there is one.
    """
    graph = arranged(NETWORKS[name](**keywords), mesh, order)
    check_topology(graph)
    return graph


def said(name: str) -> str:
    """Return the description of a network, from the first line of its builder's docstring.

    >>> said("switch")
    'chips on one crossbar that does not block: one link from each chip to the switch and back'
    """
    text = (NETWORKS[name].__doc__ or "").partition("\n")[0]
    return text.removeprefix("Return ").removeprefix("a ").rstrip(".")
