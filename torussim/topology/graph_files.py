"""Graphs in files, as topologies: node-link JSON and GraphML as networkx writes them, and the network files of ASTRA-sim.

A file is data: no part of it is run. An XML file must have no document type, so it has neither entities nor references to other
files. A node is a chip unless its attribute `chip` is false. An edge has a `bandwidth` and a `latency`, each with a unit or in
bytes/s and s. An edge of an undirected graph is a link in each direction. Parallel edges of a multigraph are one link with the
sum of their bandwidths. `of_networkx` reads a graph in memory in the same way. `packed` turns a topology into plain data for the
record of a run; `unpacked` makes the same topology from these data. This module knows nothing of scenarios.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torussim import files, units
from torussim.errors import FileError, ScenarioError, TopologyError, TorusSimError
from torussim.resolve import unknown
from torussim.topology.astra_sim import astra_sim
from torussim.topology.check import MAX_CHIPS, WITNESSES
from torussim.topology.graphml import graphml
from torussim.topology.node_link import node_link
from torussim.topology.raw_graph import Node, RawGraph, node_of

if TYPE_CHECKING:
    import networkx as nx

FORMATS = ("node_link", "graphml", "astra_sim")
SUFFIXES = {".json": "node_link", ".graphml": "graphml", ".xml": "graphml", ".yaml": "astra_sim", ".yml": "astra_sim"}
_Link = tuple[float, float, int]  # bandwidth, latency, and the number of hops that it counts as when routes are compared
KEPT = ("level", "group", "sums")  # attributes of nodes: the place in pictures, and whether a switch sums
OF_GRAPH = ("axes", "twist", "switches_sum")  # attributes of a graph that are plain data; `events` and `failed` name edges


@dataclass(frozen=True)
class GraphFile:
    """A topology read from a file; `said`: for the report; `sha256`: the digest of the file on disk."""

    graph: nx.DiGraph
    format: str
    sha256: str
    said: tuple[str, ...] = ()


def read_graph(path: Path | str, format: str | None = None, *, bandwidth: float | None = None, latency: float | None = None,
               most: int = 0) -> GraphFile:
    """Return the topology in a file; it has axes only if the file gives them.

    Parameters
    ----------
    path
        A file of at most files.LIMITS["graph"] bytes, or `most`; it can be packed by gzip.
    format
        One of FORMATS; by default the format of the file's suffix.
    bandwidth, latency
        The values of edges without one, bytes/s and s.

    Raises
    ------
    FileError
        If the file cannot be read, or is not of this format.
    TopologyError
        If the graph is not a topology: the first edges without a bandwidth, duplicate edges, unusable attributes.
    """
    try:
        format = format or format_of(str(path))
        data = files.contents(path, "graph", most)
        raw = _parsed(data, format)
        graph = _built(raw, {"bandwidth": bandwidth, "latency": latency})
    except (FileError, TopologyError) as error:
        raise error.within((), f"{path}: ") from None
    return GraphFile(graph, format, sha256(data).hexdigest(), raw.said)


def of_networkx(graph: nx.Graph, *, bandwidth: float | None = None, latency: float | None = None) -> nx.DiGraph:
    """Return the topology of a networkx graph of any kind; it has axes only if the graph gives them.

    Nodes and edges have the same attributes as in a file: `bandwidth` and `latency` with a unit or in bytes/s and s. The
    parameters are the values of edges without one. Raise TopologyError if the graph is not a topology.
    """
    raw = RawGraph(graph.is_directed(), graph.is_multigraph())
    try:
        for node, attributes in graph.nodes(data=True):
            raw.add_node(_name(node), attributes)
    except FileError as error:
        raise TopologyError(str(error), code=error.code) from None
    raw.edges = list(graph.edges(data=True))
    raw.attributes = {key: graph.graph[key] for key in (*OF_GRAPH, "events", "failed") if key in graph.graph}
    return _built(raw, {"bandwidth": bandwidth, "latency": latency})


def _name(node: Any) -> Node:
    """Return the name of a node of a graph, if a file can hold it. Raise FileError otherwise."""
    return tuple(map(_name, node)) if isinstance(node, tuple) else node_of(node)


def format_of(name: str) -> str:
    """Return the format of a file with this suffix. Raise FileError for an unknown suffix.

    >>> format_of("net.json"), format_of("net.graphml.gz"), format_of("Ring.yml")
    ('node_link', 'graphml', 'astra_sim')
    """
    suffix = Path(name.removesuffix(".gz")).suffix.lower()
    if suffix not in SUFFIXES:
        raise FileError(f"the name does not say what the format is: write format: {', '.join(FORMATS[:-1])} or {FORMATS[-1]}",
                        code="missing")
    return SUFFIXES[suffix]


def _parsed(data: bytes, format: str) -> RawGraph:
    """Return the content of a file. Raise FileError; the error names another format if the file seems to have it."""
    if format not in FORMATS:
        raise FileError(unknown(format, FORMATS, "format of a graph file"), code="unknown-name")
    readers: Mapping[str, Callable[[bytes], RawGraph]] = {"node_link": node_link, "graphml": graphml, "astra_sim": astra_sim}
    try:
        return readers[format](data)
    except FileError as error:
        first = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        seems = {b"<": "graphml", b"{": "node_link"}.get(first, "astra_sim" if b"npus_count" in data else format)
        hint = f": it looks like {seems}: write format: {seems}" if seems != format and error.code == "unreadable" else ""
        raise FileError(f"{error}{hint}", code=error.code) from None
    except ScenarioError as error:
        first_one = error.mistakes[0]
        where = f"line {first_one.mark.line}: " if first_one.mark else ""
        raise FileError(f"{where}{first_one.text}", code=first_one.code) from None


# -- raw graph to topology ----------------------------------------------------------------------------------------------


def _built(raw: RawGraph, defaults: Mapping[str, float | None]) -> nx.DiGraph:
    """Return the topology of a graph read from a file. Raise TopologyError, with all mistakes in its nodes and edges."""
    if len(raw.nodes) > 2 * MAX_CHIPS:
        raise TopologyError(f"{len(raw.nodes):,} nodes: at most {2 * MAX_CHIPS:,} can be read", code="limit")
    wrong = _strangers(raw)
    chips = {node: _is_chip(node, attributes, wrong) for node, attributes in raw.nodes.items()}
    columns = {key: _quantities(raw, key, unit, defaults[key], wrong) for key, unit in (("bandwidth", "B/s"), ("latency", "s"))}
    links: dict[tuple[Node, Node], _Link] = {}
    parallel: list[tuple[Node, Node]] = []
    for (source, target, given), bandwidth, latency in zip(raw.edges, columns["bandwidth"], columns["latency"], strict=True):
        hops = given.get("hops", 1)
        if type(hops) is not int or hops < 1:
            wrong.append(f"{source!r} - {target!r} has hops {hops!r}: write a whole number above 0, as how many hops it counts")
        for ends in ((source, target),) if raw.directed else ((source, target), (target, source)):
            if ends in links and source != target:
                parallel.append(ends)
                links[ends] = links[ends][0] + bandwidth, max(links[ends][1], latency), max(links[ends][2], hops)
            else:
                links[ends] = bandwidth, latency, hops
    if parallel and raw.multigraph:
        raw.said += ("parallel edges are one link of their summed bandwidth",)
    elif parallel:
        both = "" if raw.directed else ', or "directed": true for a graph that lists both directions'
        stand = "stands" if len(parallel) == 1 else "stand"
        wrong.append(f"{_shown(parallel)} {stand} twice: leave one out, or write a multigraph, whose parallel edges are added "
                     f"up{both}")
    if wrong:
        raise TopologyError("; ".join(wrong))
    return _graph(raw.nodes, chips, links, raw.attributes)


def _graph(nodes: Mapping[Node, Mapping[str, Any]], chips: Mapping[Node, bool],
           links: Mapping[tuple[Node, Node], _Link], attributes: Mapping[str, Any]) -> nx.DiGraph:
    """Return a topology: nodes in their order, edges in the order of their ends, so that a record gives the same topology."""
    import networkx as nx

    graph = nx.DiGraph(**attributes)
    for node, given in nodes.items():
        kept = {key: given[key] for key in KEPT if isinstance(given.get(key), int | float | str)}
        graph.add_node(node, **({} if chips[node] else {"chip": False}), **kept)
    place = {node: i for i, node in enumerate(nodes)}
    for source, target in sorted(links, key=lambda ends: (place[ends[0]], place[ends[1]])):
        bandwidth, latency, hops = links[source, target]
        graph.add_edge(source, target, bandwidth=bandwidth, latency=latency, **({"hops": hops} if hops != 1 else {}))
    return graph


def _strangers(raw: RawGraph) -> list[str]:
    """Return the mistakes in the ends of edges: nodes that the file does not list."""
    lost = list(dict.fromkeys(end for source, target, _ in raw.edges for end in (source, target) if end not in raw.nodes))
    if not lost:
        return []
    more = f" and {len(lost) - WITNESSES:,} more" if len(lost) > WITNESSES else ""
    return [f"edges lead to {', '.join(map(repr, lost[:WITNESSES]))}{more}, which the file does not list as "
            f"node{'s' if len(lost) > 1 else ''}: add {'them' if len(lost) > 1 else 'it'}"]


def _is_chip(node: Node, attributes: Mapping[str, Any], wrong: list[str]) -> bool:
    """Return whether a node is a chip; texts such as "false" count too, and any value but true and false is a mistake."""
    value = attributes.get("chip", True)
    text = str(value).strip().lower()
    if text in ("true", "1"):
        return True
    if text not in ("false", "0"):
        wrong.append(f"node {node!r} has chip {value!r}: write true, or false for a switch")
    return False


def _quantities(raw: RawGraph, key: str, unit: str, default: float | None, wrong: list[str]) -> list[float]:
    """Return an attribute of every edge, nan if unusable, and add the mistakes in it."""
    read = units.positive if unit == "B/s" else units.read
    found, lacking, refused = [], [], []
    known: dict[Any, float] = {}
    for source, target, attributes in raw.edges:
        value = attributes.get(key, default)
        if value is None:
            lacking.append((source, target))
        elif isinstance(value, str | int | float) and (type(value), value) in known:
            found.append(known[type(value), value])
            continue
        else:
            try:
                number = read(value, unit)
                known[type(value), value] = number
                found.append(number)
                continue
            except TorusSimError as error:
                refused.append(((source, target), str(error)))
        found.append(float("nan"))
    if lacking:
        example = '"50 GB/s", or a number of bytes/s' if key == "bandwidth" else '"1 us", or a number of seconds'
        named = sorted({name for _, _, attributes in raw.edges for name in attributes} - {"bandwidth", "latency"})
        has = f"; the attributes of edges here are {', '.join(map(repr, named[:6]))}" if named else ""
        wrong.append(f"{_shown(lacking)} {'has' if len(lacking) == 1 else 'have'} no {key}: give {example}, or {key} under "
                     f"topology for all edges without one{has}")
    if refused:
        more = f", and likewise {len(refused) - 1:,} more" if len(refused) > 1 else ""
        wrong.append(f"{_shown([refused[0][0]])} has a {key} of no use: {refused[0][1]}{more}")
    return found


def _shown(ends: Sequence[tuple[Node, Node]]) -> str:
    """Return edges in words, the first few by name."""
    more = f" and {len(ends) - WITNESSES:,} more" if len(ends) > WITNESSES else ""
    listed = ", ".join(f"{source!r} - {target!r}" for source, target in ends[:WITNESSES])
    return f"{len(ends):,} edge{'s' if len(ends) > 1 else ''} ({listed}{more})"


# -- the record ---------------------------------------------------------------------------------------------------------


def packed(graph: nx.DiGraph) -> dict[str, Any]:
    """Return a topology as plain data, from which `unpacked` makes the same graph, with the edges in the same order.

    Links with the same bandwidth and latency are grouped: `ends` has the indices of their nodes, in pairs.
    """
    place = {node: i for i, node in enumerate(graph)}
    alike: dict[_Link, list[str]] = {}
    for source, target, given in graph.edges(data=True):
        link = given["bandwidth"], given["latency"], given.get("hops", 1)
        alike.setdefault(link, []).append(f"{place[source]} {place[target]}")
    made: dict[str, Any] = {"nodes": [list(node) if isinstance(node, tuple) else node for node in graph]}
    made["switches"] = [place[node] for node, is_chip in graph.nodes(data="chip", default=True) if not is_chip]
    for key in KEPT:
        values = {str(place[node]): value for node, value in graph.nodes(data=key) if value is not None}
        made |= {key: values} if values else {}
    made["links"] = [{"bandwidth": bandwidth, "latency": latency, **({"hops": hops} if hops != 1 else {}),
                      "ends": " ".join(ends)} for (bandwidth, latency, hops), ends in alike.items()]
    made |= {key: graph.graph[key] for key in OF_GRAPH if key in graph.graph}
    if graph.graph.get("events"):
        made["events"] = [{"time": time, "bandwidth": list(rates.values()), "ends": _ends(rates, place)}
                          for time, rates in graph.graph["events"]]
    return made | ({"failed": _ends(graph.graph["failed"], place)} if graph.graph.get("failed") else {})


def _ends(edges: Iterable[tuple[Node, Node]], place: Mapping[Node, int]) -> str:
    """Return the indices of the nodes of edges, in pairs."""
    return " ".join(f"{place[source]} {place[target]}" for source, target in edges)


def unpacked(given: Any) -> nx.DiGraph:
    """Return the topology that `packed` turned into plain data. Raise TopologyError for any other data."""
    try:
        names = [node_of(node) for node in given["nodes"]]
        switches = set(given["switches"])
        nodes = {node: {key: given[key][str(i)] for key in KEPT if str(i) in given.get(key, {})} for i, node in enumerate(names)}
        chips = {node: i not in switches for i, node in enumerate(names)}
        links: dict[tuple[Node, Node], _Link] = {}
        for some in given["links"]:
            link = some["bandwidth"], some["latency"], some.get("hops", 1)
            links |= dict.fromkeys(_edges(some["ends"], names), link)
        attributes = {key: given[key] for key in OF_GRAPH if key in given}
        if "events" in given:
            attributes["events"] = tuple((some["time"], dict(zip(_edges(some["ends"], names), some["bandwidth"], strict=True)))
                                         for some in given["events"])
        attributes |= {"failed": tuple(_edges(given["failed"], names))} if "failed" in given else {}
        return _graph(nodes, chips, links, attributes)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, TorusSimError) as error:
        raise TopologyError(f"the recorded network is of no use ({type(error).__name__}: {error}): take it from a result of "
                            "torussim, or leave it out, so that the file is read") from None


def _edges(ends: str, names: Sequence[Node]) -> list[tuple[Node, Node]]:
    """Return the edges from pairs of indices of nodes."""
    found = [names[int(end)] for end in ends.split()]
    return list(zip(found[::2], found[1::2], strict=True))
