"""GraphML files as graphs: nodes, edges and their attributes; no nested graphs, hyperedges, ports or entities.

The file is read by expat directly. A document type, the only way to entities and to other files, is refused at its start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from torussim.errors import FileError
from torussim.topology.raw_graph import RawGraph

_TYPES: Mapping[str, Callable[[str], Any]] = {"int": int, "long": int, "float": float, "double": float, "string": str}
_TYPES = {**_TYPES, "boolean": lambda text: {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]}
_UNKNOWN = ("hyperedge", "port", "endpoint", "locator")


@dataclass
class _Reading:
    """The data gathered by one pass over a file."""

    graph: RawGraph | None = None
    keys: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # id -> kind of its element, its name, its type
    defaults: dict[tuple[str, str], Any] = field(default_factory=dict)  # (for, name) -> value
    owner: tuple[str, dict[str, Any]] | None = None  # the open node, edge or key: its kind and its attributes
    key: str | None = None  # of the open data element
    text: list[str] = field(default_factory=list)


def graphml(data: bytes) -> RawGraph:
    """Return the graph of a GraphML file. Raise FileError, with the line, if the file is not GraphML."""
    reading = _Reading()
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(text: str, code: str = "unreadable") -> FileError:
        return FileError(f"line {parser.CurrentLineNumber}: {text}", code=code)

    def document_type(*_: Any) -> None:
        raise refuse("a document type (<!DOCTYPE) can name entities and other files: leave it out", "not-trusted")

    def start(tag: str, given: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        if tag != "graphml" and reading.graph is None and not reading.keys and tag not in ("key", "graph", "desc"):
            raise refuse(f"<{tag}> is no GraphML, which begins with <graphml>")
        if tag in _UNKNOWN or (tag == "graph" and reading.graph is not None):
            raise refuse(f"<{tag}>{' inside another graph' if tag == 'graph' else ''} is not read: write nodes and edges alone",
                         "value")
        try:
            _start(reading, tag, given, refuse)
        except KeyError as error:
            raise refuse(f"<{tag}> lacks {error}", "missing") from None

    def end(tag: str) -> None:
        try:
            _end(reading, tag.rpartition(":")[2])
        except (KeyError, ValueError):
            kind = reading.keys.get(reading.key or "", ("", "", "text"))
            raise refuse(f"{''.join(reading.text)[:60]!r} is not of the type {kind[2]} of {kind[1]!r}", "value") from None

    parser.StartDoctypeDeclHandler = document_type
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = lambda text: reading.text.append(text) if reading.key is not None else None
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise FileError(f"line {error.lineno}, column {error.offset + 1}: no XML: {expat.ErrorString(error.code)}") from None
    except (LookupError, ValueError) as error:  # an unknown encoding
        raise FileError(f"cannot be read: {error}") from None
    if reading.graph is None:
        raise FileError("no GraphML: it has no <graph>")
    return _complete(reading)


def _start(reading: _Reading, tag: str, given: Mapping[str, str], refuse: Callable[..., FileError]) -> None:
    if tag == "key":
        kind = given.get("attr.type", "string").lower()
        if kind not in _TYPES:
            raise refuse(f"attr.type {kind!r} is not a type: one of {', '.join(_TYPES)}", "value")
        reading.keys[given["id"]] = given.get("for", "all"), given.get("attr.name", given["id"]), kind
        reading.owner = given["id"], {}
    elif tag == "default":
        reading.key, reading.text = reading.owner[0] if reading.owner else None, []
    elif tag == "graph":
        reading.graph = RawGraph(given.get("edgedefault", "undirected") == "directed")
    elif tag in ("node", "edge"):
        if reading.graph is None:
            raise refuse(f"<{tag}> stands outside of <graph>", "value")
        attributes: dict[str, Any] = {}
        if tag == "node":
            reading.graph.add_node(given["id"], attributes)
        else:
            if "directed" in given and (given["directed"] == "true") != reading.graph.directed:
                raise refuse("an edge is directed where the graph is not, or the other way round: write all edges alike", "value")
            reading.graph.edges.append((given["source"], given["target"], attributes))
        reading.owner = tag, attributes
    elif tag == "data":
        if given["key"] not in reading.keys:
            raise refuse(f"data of the key {given['key']!r}, which no <key> describes", "unknown-name")
        reading.key, reading.text = given["key"], []


def _end(reading: _Reading, tag: str) -> None:
    if tag in ("data", "default") and reading.key is not None:
        used, name, kind = reading.keys[reading.key]
        value = _TYPES[kind]("".join(reading.text).strip())
        if tag == "default":
            reading.defaults[used, name] = value
        elif reading.owner is not None and reading.owner[0] in ("node", "edge"):
            reading.owner[1][name] = value
        reading.key = None
    elif tag in ("node", "edge", "key"):
        reading.owner = None


def _complete(reading: _Reading) -> RawGraph:
    """Return the graph with the defaults of its attributes; duplicate edges make it a multigraph, as networkx writes one."""
    raw = reading.graph
    assert raw is not None
    for kind, owners in (("node", list(raw.nodes.values())), ("edge", [edge[2] for edge in raw.edges])):
        plain = {name: value for (used, name), value in reading.defaults.items() if used in (kind, "all")}
        if plain:
            for attributes in owners:
                for name, value in plain.items():
                    attributes.setdefault(name, value)  # type: ignore[attr-defined]
    ends = Counter((source, target) if raw.directed else (min(source, target), max(source, target))
                   for source, target, _ in raw.edges)
    raw.multigraph = max(ends.values(), default=0) > 1
    return raw
