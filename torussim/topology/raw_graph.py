"""A graph as read from a file, before its attributes are interpreted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from torussim.errors import FileError

Node = Any  # a text, a number, or a tuple of these


@dataclass
class RawGraph:
    """Nodes with their attributes, edges (source, target, attributes), attributes of the graph, and `said` for the report."""

    directed: bool
    multigraph: bool = False
    nodes: dict[Node, Mapping[str, Any]] = field(default_factory=dict)
    edges: list[tuple[Node, Node, Mapping[str, Any]]] = field(default_factory=list)
    attributes: dict[str, Any] = field(default_factory=dict)
    said: tuple[str, ...] = ()

    def add_node(self, node: Node, attributes: Mapping[str, Any]) -> None:
        """Add a node. Raise FileError for a duplicate node."""
        if node in self.nodes:
            raise FileError(f"the node {node!r} is listed twice: leave one out", code="duplicate")
        self.nodes[node] = attributes


def node_of(given: Any) -> Node:
    """Return the name of a node; a list, such as the coordinates of a chip, becomes a tuple. Raise FileError for other values."""
    if isinstance(given, list):
        return tuple(map(node_of, given))
    if isinstance(given, bool) or not isinstance(given, str | int | float) or given in (inf, -inf) or given != given:
        raise FileError(f"{given!r} is not the name of a node: write a text, a number, or a list of coordinates", code="value")
    return given
