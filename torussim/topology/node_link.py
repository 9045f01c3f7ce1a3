"""Node-link JSON as networkx writes it, read as a graph."""

from __future__ import annotations

import json

from torussim.errors import FileError
from torussim.topology.raw_graph import RawGraph, node_of


def node_link(data: bytes) -> RawGraph:
    """Return the graph of node-link JSON, with its edges under `edges` or `links`. Raise FileError for other data."""
    try:
        value = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise FileError(f"line {error.lineno}, column {error.colno}: no JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of 5000 digits, 1000 brackets
        raise FileError(f"cannot be read: {error}") from None
    keys = list(value) if isinstance(value, dict) else []
    wires = [key for key in ("edges", "links") if isinstance(value, dict) and isinstance(value.get(key), list)]
    if not isinstance(value, dict) or not isinstance(value.get("nodes"), list) or len(wires) != 1:
        has = f"its keys are {', '.join(map(repr, keys[:6]))}" if keys else f"it is a {type(value).__name__}"
        has = "it has both edges and links" if len(wires) == 2 else has
        raise FileError(f"no node-link JSON, which has a list of nodes, and one of edges (or links): {has}",
                        code="value")
    raw = RawGraph(bool(value.get("directed", False)), bool(value.get("multigraph", False)))
    for i, node in enumerate(value["nodes"]):
        if not isinstance(node, dict) or "id" not in node:
            raise FileError(f"node {i} has no id: write {{\"id\": {i}}}", code="missing")
        raw.add_node(node_of(node["id"]), {key: part for key, part in node.items() if key != "id"})
    for i, edge in enumerate(value[wires[0]]):
        lacks = [key for key in ("source", "target") if not isinstance(edge, dict) or key not in edge]
        if lacks:
            raise FileError(f"edge {i} has no {' and no '.join(lacks)}: write the ids of its two nodes", code="missing")
        raw.edges.append((node_of(edge["source"]), node_of(edge["target"]),
                          {key: part for key, part in edge.items() if key not in ("source", "target", "key")}))
    graph = value.get("graph")
    given = dict(graph) if isinstance(graph, dict) else {}
    raw.attributes.update({key: given[key] for key in ("axes", "twist") if key in given})
    return raw
