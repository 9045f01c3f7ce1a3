"""The network of a scenario from a graph file, `kind: file`, or from the scenario itself, `kind: graph`.

The record of a run has the network itself, so that a result can be run again without the file. It also has the SHA-256 of the
file, so that the report can say that the file has changed since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from math import prod
from typing import TYPE_CHECKING, Any

from torussim import files
from torussim.errors import FileError, Keys, TopologyError, TorusSimError
from torussim.scenario import forms
from torussim.scenario.keyed import Section
from torussim.scenario.notes import Notes
from torussim.topology.check import check_topology
from torussim.topology.graph_files import GraphFile, format_of, packed, read_graph, unpacked
from torussim.topology.placing import placed, unmarked

if TYPE_CHECKING:
    import networkx as nx

TOPOLOGY: Keys = ("topology",)


@dataclass(frozen=True)
class Found:
    """The topology of a graph file, its record, and notes for the report."""

    graph: nx.DiGraph
    record: dict[str, Any]
    said: tuple[str, ...]


def read_graph_file(notes: Notes, given: Mapping[str, Any]) -> Found | None:
    """Return the network of a topology with `kind: file`; None if it has a mistake."""
    section = notes.section(forms.FILE_TOPOLOGY, given, TOPOLOGY, "topology")
    if not section.sound("path", "format", "bandwidth", "latency", "mesh", "sha256"):
        return None
    try:
        file = _recorded(notes, section) if section["network"] is not None else _read(notes, section)
    except TorusSimError as error:
        at = "network" if section["network"] is not None else "path"
        notes.raised((*TOPOLOGY, at), error, f"{at}: ")
        return None
    lengths = section["mesh"]
    try:
        graph = _placed(file, lengths)
        check_topology(graph)
    except TopologyError as error:
        notes.raised((*TOPOLOGY, "path" if lengths is None else "mesh"), error, f"{section['path']}: ")
        return None
    record: dict[str, Any] = {"kind": "file", "path": section["path"], "format": file.format}
    record |= {"mesh": lengths} if lengths is not None else {}
    record |= {"sha256": file.sha256, "network": packed(file.graph) | ({"said": list(file.said)} if file.said else {})}
    return Found(graph, record, (_words(f"the graph file {section['path']} ({file.format})", graph), *file.said))


def read_graph_here(notes: Notes, given: Mapping[str, Any]) -> Found | None:
    """Return the network of a topology with `kind: graph`; None if it has a mistake."""
    section = notes.section(forms.GRAPH_TOPOLOGY, given, TOPOLOGY, "topology")
    if not section.sound("kind", "network", "mesh"):
        return None
    lengths, at = section["mesh"], "network"
    try:
        graph = unpacked(section["network"])
        at = "network" if lengths is None else "mesh"
        graph = _placed(GraphFile(graph, "", ""), lengths)
        check_topology(graph)
    except TopologyError as error:
        notes.raised((*TOPOLOGY, at), error, f"{at}: ")
        return None
    record: dict[str, Any] = {"kind": "graph"} | ({"mesh": lengths} if lengths is not None else {})
    return Found(graph, record | {"network": packed(unpacked(section["network"]))}, (_words("a graph", graph),))


def _read(notes: Notes, section: Section) -> GraphFile:
    """Return the contents of the file."""
    return read_graph(notes.beside / section["path"], section["format"], bandwidth=section["bandwidth"],
                      latency=section["latency"], most=notes.trust.most)


def _recorded(notes: Notes, section: Section) -> GraphFile:
    """Return the recorded contents of the file, and note if the file beside the result has changed since."""
    graph, said = unpacked(section["network"]), tuple(map(str, section["network"].get("said", ())))
    found = GraphFile(graph, section["format"] or format_of(section["path"]), section["sha256"] or "", said)
    try:
        now = sha256(files.contents(notes.beside / section["path"], "graph", notes.trust.most)).hexdigest()
    except FileError:  # the record needs no file
        return found
    if now != found.sha256:
        notes.said.append(f"{section['path']} changed since this scenario was recorded: the network is as it was then")
    return found


def _placed(file: GraphFile, lengths: Sequence[int] | None) -> nx.DiGraph:
    """Return the topology with its chips on axes of these lengths, by default those of its file. Raise TopologyError."""
    graph = file.graph
    chips = sum(bool(is_chip) for _, is_chip in graph.nodes(data="chip", default=True))
    if lengths is None:
        if "axes" in graph.graph:
            return graph
        what = "file" if file.format else "graph"
        here = "" if file.format else f', in Python topology={{"graph": graph, "mesh": [{chips}]}}'
        raise TopologyError(f"the {what} gives its {chips:,} chips no axes: write mesh under topology, such as mesh: [{chips}]"
                            f"{here}", code="missing")
    if chips != prod(lengths):
        what = "file" if file.format else "graph"
        raise TopologyError(f"the mesh {list(lengths)} has {prod(lengths):,} chips, but the {what} has {chips:,}"
                            f"{unmarked(graph, prod(lengths), file.format) or ': give lengths whose product that is'}")
    bare = graph.copy()
    for key in ("axes", "twist", "failed"):  # chips given as coordinates follow the order of these axes
        bare.graph.pop(key, None)
    return placed(bare, lengths)


def _words(what: str, graph: nx.DiGraph) -> str:
    """Return a description of the network in words."""
    switches = sum(not is_chip for _, is_chip in graph.nodes(data="chip", default=True))
    axes = " x ".join(f"{name} {length}" for name, length in graph.graph["axes"].items())
    has = f" and {switches:,} switch{'es' if switches > 1 else ''}" if switches else ""
    return f"{what}: {len(graph) - switches:,} chips{has}, axes {axes}"
