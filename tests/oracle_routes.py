"""Shares of a message over its shortest paths, slow and obvious: paths are listed, and the network is filled by hand."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import networkx as nx

Path = list[Any]
NOTHING = 1e-12  # of a bandwidth, or of a message


def split(graph: nx.DiGraph, source: Any, target: Any) -> list[tuple[float, Path]]:
    """Return (share, path) over the shortest paths: equal where all bandwidths are alike, else of a maximum flow."""
    paths = list(nx.all_shortest_paths(graph, source, target))
    width = {link: graph.edges[link]["bandwidth"] for path in paths for link in pairwise(path)}
    if len(set(width.values())) < 2:
        return [(1 / len(paths), path) for path in paths]
    return listed(graph, filled(width, source, target), source, target)


def filled(width: dict[tuple[Any, Any], float], source: Any, target: Any) -> dict[tuple[Any, Any], float]:
    """Return a maximum flow: all shortest ways through what is left fill at one rate, again and again, backwards too."""
    flow = dict.fromkeys(width, 0.0)
    while True:
        room = nx.DiGraph()
        room.add_nodes_from((source, target))
        for (u, v), most in width.items():
            if most - flow[u, v] > NOTHING * most:
                room.add_edge(u, v, room=most - flow[u, v])
            if flow[u, v] > NOTHING * most:
                room.add_edge(v, u, room=flow[u, v])
        if not nx.has_path(room, source, target):
            return flow
        ways = list(nx.all_shortest_paths(room, source, target))
        crowd: dict[tuple[Any, Any], int] = {}
        for way in ways:
            for link in pairwise(way):
                crowd[link] = crowd.get(link, 0) + 1
        rate = min(room.edges[link]["room"] / many for link, many in crowd.items())
        for (u, v), many in crowd.items():
            if (u, v) in flow:
                flow[u, v] += rate * many
            else:
                flow[v, u] -= rate * many


def listed(graph: nx.DiGraph, flow: dict[tuple[Any, Any], float], source: Any, target: Any) -> list[tuple[float, Path]]:
    """Return a flow as paths with shares that sum to 1, one of those with the longest latency first."""
    whole = sum(carried for (u, _), carried in flow.items() if u == source)
    left = {link: carried / whole for link, carried in flow.items()}
    found: list[tuple[float, Path]] = []
    while True:
        used = nx.DiGraph()
        used.add_nodes_from((source, target))
        used.add_edges_from(link for link, share in left.items() if share > NOTHING)
        if not nx.has_path(used, source, target):
            total = sum(share for share, _ in found)
            return [(share / total, path) for share, path in found]
        path = max(nx.all_simple_paths(used, source, target), key=lambda p: sum(graph.edges[e]["latency"] for e in pairwise(p)))
        share = min(left[link] for link in pairwise(path))
        for link in pairwise(path):
            left[link] -= share
        found.append((share, path))
