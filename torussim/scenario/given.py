"""A scenario given by Python, as the plain data of a file; its values can be models, chips, graphs and numpy numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim import chips, files, models, units
from torussim.chips import Chip
from torussim.errors import Keys, Mark, Mistake, ScenarioError, TorusSimError
from torussim.models import Model
from torussim.scenario.workload import describe_workload
from torussim.topology.graph_files import of_networkx, packed
from torussim.workload import Workload

if TYPE_CHECKING:
    from networkx import Graph

MAX_DIGITS = 1000  # of an integer


def plain(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return plain dicts, lists and scalars, as a file has them. Raise ScenarioError for a value that no file can have.

    A Model or a Chip becomes the name of its preset if the two are equal, otherwise all its fields. A networkx graph as
    `topology`, or as its key `graph`, becomes the network of the graph, `kind: graph`.
    """
    return {key: _plain(_section(key, value), (key,)) if isinstance(key, str) else _plain({key: value}, ())
            for key, value in given.items()}


def _section(key: str, value: Any) -> Any:
    """Return the value of a section without objects of torussim and networkx."""
    if key == "model" and isinstance(value, Model):
        return _named(value, models.model, models.describe)
    if key == "chip" and isinstance(value, Chip):
        return _named(value, chips.chip, chips.describe)
    if key == "workload" and isinstance(value, Workload):
        return describe_workload(value)
    if key == "workload" and isinstance(value, Mapping) and isinstance(value.get("draft_model"), Model):
        return {**value, "draft_model": _named(value["draft_model"], models.model, models.describe)}
    if key == "topology":
        if _is_graph(value):
            return _of_graph(value, {})
        if isinstance(value, Mapping) and _is_graph(value.get("graph")):
            return _of_graph(value["graph"], {name: part for name, part in value.items() if name != "graph"})
    return value


def _named(value: Any, read: Callable[[str], Any], describe: Callable[[Any], dict[str, Any]]) -> Any:
    """Return the name of the preset that equals a model or chip, otherwise the fields."""
    try:
        return value.name if read(value.name) == value else describe(value)
    except TorusSimError:
        return describe(value)


def _is_graph(value: Any) -> bool:
    """Return whether a value is a networkx graph; networkx is not imported for this."""
    return any(one.__module__.startswith("networkx.") and one.__name__ == "Graph" for one in type(value).__mro__)


def _of_graph(graph: Graph, others: Mapping[str, Any]) -> dict[str, Any]:
    """Return the topology of a graph; `others`: the other keys of its section."""
    routing = graph.graph.get("routing")
    if callable(routing):
        text = ("a scenario holds plain data, so it cannot hold a function as the routing of its graph: put the function into a "
                '.py file, and write routing="module:function" under topology')
        raise _fail(text, ("topology", "routing"))
    try:
        bandwidth = units.positive(others["bandwidth"], "B/s") if "bandwidth" in others else None
        latency = units.read(others["latency"], "s") if "latency" in others else None
        network = packed(of_networkx(graph, bandwidth=bandwidth, latency=latency))
    except TorusSimError as error:
        raise _fail(f"the graph: {error}", ("topology",), error.code) from None
    kept = {key: value for key, value in others.items() if key not in ("bandwidth", "latency")}
    return {"kind": "graph", **({"routing": routing} if routing else {}), **kept, "network": network}


def _plain(value: Any, path: Keys) -> Any:
    """Return plain data from Python or numpy data."""
    if len(path) > files.MAX_DEPTH:
        raise _fail(f"nested deeper than {files.MAX_DEPTH} levels", path)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise _fail(f"{str(key)[:60]!r} is not a key: a key must be a text", path)
        return {key: _plain(part, (*path, key)) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, (*path, i)) for i, part in enumerate(value)]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist(), path)
    if isinstance(value, PathLike):
        return fspath(value)
    if not (value is None or isinstance(value, str | bool | int | float)):
        remedy = ('a graph is the topology itself, or stands under its key "graph"' if _is_graph(value) else
                  "give texts, numbers, true, false, lists and mappings")
        raise _fail(f"{str(value)[:60]!r} is a {type(value).__name__}: {remedy}", path)
    if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        raise _fail(f"a number of more than {MAX_DIGITS} digits: too many", path)
    return value


def _fail(text: str, path: Keys, code: str = "value") -> ScenarioError:
    return ScenarioError([Mistake(text, Mark("<dict>", 1, 1), code, path)])
