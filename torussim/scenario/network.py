"""The network of a scenario: a built-in torus, with the wraparounds of its chip or slice, or a user-defined graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim import resolve
from torussim.chips import CORE, Chip
from torussim.chips import chip as chip_of
from torussim.errors import Keys, TorusSimError
from torussim.scenario import forms, keyed
from torussim.scenario.graph_file import read_graph_file, read_graph_here
from torussim.scenario.keyed import Section
from torussim.scenario.links import changed, changed_later, cutting, read_changes
from torussim.scenario.named import named_kind, of_name
from torussim.scenario.notes import Notes
from torussim.scenario.values import quote
from torussim.topology.builders import check_twist, from_function, standard_twist, torus, torus_links
from torussim.topology.check import MAX_CHIPS, Links
from torussim.topology.faults import Changes
from torussim.topology.grid import Grid, Routing, cut_axes, default_routing, grid, grid_of
from torussim.topology.rings import off_axes
from torussim.topology.routing import NAMES, routes
from torussim.topology.shape import axis_names
from torussim.topology.slices import slice_of
from torussim.units import show

if TYPE_CHECKING:
    import networkx as nx

TOPOLOGY: Keys = ("topology",)
TRIED = 64  # chips that a routing must reach before any run


@dataclass(frozen=True)
class Slice:
    """A public slice: nodes along each axis, the axes with wraparounds, the preset of its chip.

    If `cores` is above 1, a node is a core of a chip, and the last axis has the cores of one chip, joined at `core_bandwidth`.
    """

    name: str
    shape: tuple[int, ...]
    wrap: tuple[bool, ...]
    chip: str
    cores: int = 1
    core_bandwidth: float = 0.0

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of its axes."""
        return (*axis_names(len(self.shape) - 1), CORE) if self.cores > 1 else axis_names(len(self.shape))


@dataclass(frozen=True)
class Network:
    """The known properties of a network: the axes as soon as they are valid, the rest if there are no mistakes."""

    axes: dict[str, int] | None = None
    graph: nx.DiGraph | None = None  # of a built-in torus only if the file changes its links
    net: Grid | None = None
    record: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # for the report
    changes: Changes | None = None  # a graph as it was built, and the changes of the file
    links: Links | None = None  # of a built-in torus, with the arguments from which `torus` builds its graph
    torus: Mapping[str, Any] | None = None

    def topology(self) -> nx.DiGraph:
        """Return the graph."""
        if self.graph is not None or self.torus is None:
            return self.graph
        graph = torus(**self.torus)
        if self.net is not None and self.net.routing != default_routing(self.net.links):
            graph.graph["routing"] = self.net.routing
        return graph


def own_kind(given: Any) -> str | None:
    """Return the name of the user-defined function that makes the network, if there is one."""
    kind = given.get("kind") if isinstance(given, Mapping) else None
    return kind if isinstance(kind, str) and ":" in kind else None


def read_slice(notes: Notes, given: Any, preset: str | None) -> Slice | None:
    """Return the slice that a topology names, if any. `preset` is the preset or base of the file's chip."""
    name = given.get("slice") if isinstance(given, Mapping) else None
    if not isinstance(name, str) or own_kind(given):
        return None
    try:
        shape, wrap, maker = slice_of(name, preset)
        whole = chip_of(maker)
        if whole.cores == 1:
            return Slice(name, shape, wrap, maker)
        nodes = prod(shape) * whole.cores
        if nodes > MAX_CHIPS:
            raise TorusSimError(f"{name!r} has {nodes:,} cores: at most {MAX_CHIPS:,} can be simulated", code="limit")
        return Slice(name, (*shape, whole.cores), (*wrap, False), maker, whole.cores, whole.core_bandwidth)
    except TorusSimError as error:
        notes.raised((*TOPOLOGY, "slice"), error, "slice: ")
        return None


def read_network(notes: Notes, given: Any, chip: Chip | None, chip_preset: str | None, slice_: Slice | None) -> Network:
    """Return the network of a scenario's topology. `chip_preset` is the preset or base of the file's chip."""
    kind, name_of = own_kind(given), named_kind(given)
    if name_of is not None:
        graph, record, said = of_name(notes, given, name_of, chip)
        network = Network() if graph is None else Network(dict(graph.graph["axes"]), graph, None, record, said)
    elif isinstance(given, Mapping) and given.get("kind") in ("file", "graph"):
        found = (read_graph_file if given["kind"] == "file" else read_graph_here)(notes, given)
        network = Network() if found is None else Network(dict(found.graph.graph["axes"]), found.graph, None, found.record,
                                                          found.said)
    elif kind is None:
        network = _of_our_kinds(notes, given, chip, chip_preset, slice_)
    else:
        network = _of_a_function(notes, given, kind)
    changes, events = (read_changes(notes, given[key], (*TOPOLOGY, key), network.axes)
                       if isinstance(given, Mapping) and given.get(key) is not None else [] for key in ("links", "events"))
    routing, name = _read_routing(notes, given)
    if network.graph is None and network.links is None:
        return network
    if network.links is not None and not (changes or events or callable(routing)):
        net = grid_of(network.links, routing=routing)
        return _routed(network, net, name) if routing is None or _check_routes(notes, net) else network
    network = replace(network, graph=network.topology(), links=None, torus=None)
    graph = changed_later(notes, changed(notes, network.graph, changes), events)
    in_order = sorted(events, key=lambda one: one.time)
    try:
        net = grid(graph)
    except TorusSimError as error:
        place = cutting(network.graph, [*changes, *in_order])
        notes.raised(place or (*TOPOLOGY, "kind"), error, "" if place else f"{kind or name_of or 'topology'}: ")
        return replace(network, graph=graph)
    if routing is not None and routing != net.routing:
        graph = graph.copy()  # a user-defined function may return the same graph again
        graph.graph["routing"] = routing
        net = replace(net, routing=routing, graph=graph)
    if routing is not None and not _check_routes(notes, net):
        return replace(network, graph=graph)
    if routing is not None and off_axes(net.links):  # the routes decide which of its axes are rings
        try:
            net = grid(graph)
        except TorusSimError as error:
            notes.raised((*TOPOLOGY, "routing"), error, "routing: ")
            return replace(network, graph=graph)
    made = {"links": changes, "events": events}
    record = network.record | {key: [dict(one.record) for one in some] for key, some in made.items() if some}
    made_of = Changes(network.graph, tuple(one.what for one in changes), tuple((one.time, one.what) for one in in_order), routing)
    return _routed(replace(network, graph=graph, record=record, changes=made_of), net, name)


def _routed(network: Network, net: Grid, name: str | None) -> Network:
    """Return a network with its grid and its routing. The record has the name of the routing, if it has one."""
    name = name or (net.routing if isinstance(net.routing, str) else None)
    return replace(network, net=net, record=network.record | ({"routing": name} if name else {}))


def cut_network(network: Network, parts: Mapping[str, Sequence[int]]) -> Network:
    """Return a network whose axes are cut into parts, as `grid` cuts them."""
    if not parts or network.axes is None:
        return network
    net = network.net and grid_of(network.net.links, parts=parts, routing=network.net.routing, graph=network.net.graph)
    changes = network.changes and replace(network.changes, parts=parts)
    return replace(network, axes=cut_axes(network.axes, parts), net=net, changes=changes)


# -- routing ------------------------------------------------------------------------------------------------------------


def _read_routing(notes: Notes, given: Any) -> tuple[Routing | None, str | None]:
    """Return the routing of the file, a name or a user-defined function, and its name in the record."""
    name = given.get("routing") if isinstance(given, Mapping) else None
    if not isinstance(name, str) or ":" not in name:
        return (name, name) if isinstance(name, str) and name in NAMES else (None, None)
    path = (*TOPOLOGY, "routing")
    try:
        function = notes.function(name)
    except TorusSimError as error:
        notes.raised(path, error, "routing: ")
        return None, None
    if function is None:
        return None, None
    wrong = resolve.arguments(function, {}, given=3)
    if wrong:
        notes.wrong(path, f"routing: {name}: {wrong}: it is called with the graph and two chips, (graph, source, target)",
                    code="function")
        return None, None
    return function, name


def _check_routes(notes: Notes, net: Grid) -> bool:
    """Return whether a routing leads from the first chip to some others. Note a mistake if not."""
    others = np.arange(1, min(len(net.links.chips), TRIED + 1))
    try:
        routes(net.links, net.routing, np.zeros_like(others), others, graph=net.graph)
    except TorusSimError as error:
        notes.raised((*TOPOLOGY, "routing"), error, "routing: ")
        return False
    return True


# -- torus, mesh, ring, slice -------------------------------------------------------------------------------------------


def _of_our_kinds(notes: Notes, given: Any, chip: Chip | None, chip_preset: str | None, slice_: Slice | None) -> Network:
    section = notes.section(forms.TOPOLOGY, given, TOPOLOGY, "topology")
    if slice_ and chip_preset not in (None, slice_.chip, "ideal"):
        notes.wrong((*TOPOLOGY, "slice"),
                    f"slice: {slice_.name!r} consists of {slice_.chip}, but the chip is {chip_preset!r}: write "
                    f"chip: {slice_.chip}, or shape and wrap in place of slice", code="clash")
    shape = _shape(notes, section, given, slice_)
    if shape is None:
        return Network()
    names = _names(notes, section, len(shape), slice_)
    if names is None:
        return Network()
    axes = dict(zip(names, shape))
    lists = [key for key in ("wrap", "bandwidth", "latency") if isinstance(section[key], list)]
    uneven = [key for key in lists if len(section[key]) != len(shape)]
    for key in uneven:
        notes.wrong((*TOPOLOGY, key),
                    f"{key}: {quote(given[key])} is a list of {len(section[key])}, but there are {len(shape)} axes: give one "
                    "value, or one for each axis", code="clash")
    if uneven or not section.sound("kind", "wrap", "twist"):
        return Network(axes)
    wrap, origin = _wrap(section, shape, chip, slice_)
    if wrap is None:
        return Network(axes)
    try:
        twist = standard_twist(shape) if section["twist"] is True else section["twist"] or {}
        check_twist(twist, axes, wrap)
    except TorusSimError as error:
        notes.raised((*TOPOLOGY, "twist"), error, "twist: ")
        return Network(axes)
    wrap = [wraps and (length > 2 or axis in twist) for wraps, (axis, length) in zip(wrap, axes.items())]
    bandwidth, latency = section["bandwidth"], section["latency"]
    if bandwidth is None:
        bandwidth = chip.link_bandwidth if chip else 1.0  # a missing chip is already a mistake: only the links are checked
    if latency is None:
        latency = chip.link_latency if chip else 0.0
    if slice_ and slice_.cores > 1 and not isinstance(bandwidth, list):
        between = chip.core_bandwidth if chip and chip.core_bandwidth else slice_.core_bandwidth
        bandwidth = [bandwidth] * (len(shape) - 1) + [between]
    made = {"shape": list(shape), "wrap": wrap, "bandwidth": bandwidth, "latency": latency} | ({"twist": twist} if twist else {})
    made |= {"axes": list(names)} if names != axis_names(len(names)) else {}
    record = {"kind": "torus", **made}
    try:
        links = torus_links(**made)
    except TorusSimError as error:
        notes.raised((*TOPOLOGY, "twist"), error, "twist: ")
        return Network(axes)
    closed = [axis for axis, wraps in zip(axes, wrap) if wraps]
    said = (f"wraparounds on {', '.join(closed) if closed else 'no axis'} ({origin})", *_of_cores(chip, axes))
    return Network(axes, record=record, notes=said, links=links, torus=made)


def _names(notes: Notes, section: Section, count: int, slice_: Slice | None) -> tuple[str, ...] | None:
    """Return the names of the axes; None if the names in the file are not valid."""
    given = section["axes"]
    if given is None:
        return slice_.axes if slice_ else axis_names(count)
    if not section.sound("axes"):
        return None
    if len(given) != count or len(set(given)) < count or slice_:
        remedy = "a slice has its own names: leave axes out" if slice_ else f"give {count} different names, one for each axis"
        notes.wrong((*TOPOLOGY, "axes"), f"axes: {quote(given)} do not name the {count} axes: {remedy}", code="clash")
        return None
    return tuple(given)


def _of_cores(chip: Chip | None, axes: Mapping[str, int]) -> tuple[str, ...]:
    """Return the note of the report on a chip with several cores."""
    if chip is None or (chip.cores == 1 and chip.part == 1):
        return ()
    if chip.part == 1:
        return (f"a node is a chip of {chip.cores} cores (slices by name have a node for each core)",)
    between = f", the cores of a chip are joined by links of {show(chip.core_bandwidth, 'B/s')}" if CORE in axes else ""
    return (f"a node is one of the {chip.part} cores of a chip, with 1/{chip.part} of its FLOP/s, HBM and each link{between}",)


def _shape(notes: Notes, section: Section, given: Any, slice_: Slice | None) -> tuple[int, ...] | None:
    """Return the chips along each axis, or None if they are not valid."""
    kind = section["kind"] if section.sound("kind") else None
    if not {"slice", "shape"} & section.given:
        if isinstance(given, Mapping) and not {"slice", "shape"} & keyed.meant(given, forms.TOPOLOGY):
            notes.wrong((*TOPOLOGY, "shape"),
                        "topology lacks 'shape': give the chips along each axis, such as [4, 4, 4], or a slice, such as v5e-16",
                        code="missing")
        return None
    if {"slice", "shape"} <= section.given:
        notes.wrong((*TOPOLOGY, "slice"), "slice and shape are both given: leave one out", at_key=True, code="clash")
        return None
    if "slice" in section.given:
        if kind in ("mesh", "ring"):
            notes.wrong((*TOPOLOGY, "kind"),
                        f"kind: {quote(kind)} contradicts slice, which has the wraparounds of the real one: leave kind out",
                        code="clash")
            return None
        return slice_.shape if slice_ else None
    if not section.sound("shape"):
        return None
    shape = tuple(section["shape"])
    chips_ = prod(shape)
    if chips_ > MAX_CHIPS:
        many = f"{chips_:,}" if chips_ < 10**18 else "more than 10**18"
        notes.wrong((*TOPOLOGY, "shape"),
                    f"shape: {quote(given['shape'])} has {many} chips: at most {MAX_CHIPS:,} can be simulated", code="limit")
        return None
    if kind == "ring" and len(shape) != 1:
        notes.wrong((*TOPOLOGY, "shape"),
                    f"shape: {quote(given['shape'])} has {len(shape)} axes, but a ring has one: write [{chips_}], or kind: torus",
                    code="clash")
        return None
    wraps = section["wrap"] if isinstance(section["wrap"], list) else [section["wrap"]]
    if (kind == "mesh" and True in wraps) or (kind == "ring" and False in wraps):
        has = "no wraparounds" if kind == "mesh" else "its wraparound"
        notes.wrong((*TOPOLOGY, "wrap"), f"wrap: {quote(given['wrap'])} contradicts kind: a {kind} has {has}: leave one out",
                    code="clash")
        return None
    return shape


def _wrap(section: Section, shape: tuple[int, ...], chip: Chip | None, slice_: Slice | None) -> tuple[list[bool] | None, str]:
    """Return the axes that have a wraparound if they are long enough, if known, and the origin of this fact in words."""
    wrap: Sequence[bool]
    if section["wrap"] is not None:
        given = section["wrap"]
        wrap, origin = given if isinstance(given, list) else [given] * len(shape), "as the file says"
    elif slice_:
        wrap, origin = slice_.wrap, f"as slice {slice_.name} has them"
    elif section["kind"] != "torus":
        wrap, origin = [section["kind"] == "ring"] * len(shape), f"as a {section['kind']} has them"
    elif chip is None:
        return None, ""
    else:
        wrap, origin = chip.wraps(shape), f"by the rule of {chip.name}"
    return [bool(wraps) for wraps in wrap], origin


# -- a user-defined function --------------------------------------------------------------------------------------------


def _of_a_function(notes: Notes, given: Mapping[str, Any], name: str) -> Network:
    """Return the network that a user-defined function makes from the other keys of `topology`."""
    section = notes.section(forms.OWN_TOPOLOGY, given, TOPOLOGY, "topology", others=True)
    keywords = dict(section.others or {})
    if section["order"] is not None and section["mesh"] is None:
        notes.wrong((*TOPOLOGY, "order"), "order: without mesh there are no axes to put chips on: give mesh, such as [8]",
                    at_key=True, code="missing")
        return Network()
    try:
        function = notes.function(name)
    except TorusSimError as error:
        notes.raised((*TOPOLOGY, "kind"), error)
        return Network()
    if function is None:
        return Network()
    reasons = resolve.argument_mistakes(function, keywords)
    for key, reason in reasons:
        notes.wrong((*TOPOLOGY, key or "kind"), f"{name}: {reason}", at_key=key is not None, code="function")
    if reasons:
        return Network()
    try:
        graph = from_function(function, deepcopy(keywords), section["mesh"], section["order"])
    except TorusSimError as error:
        notes.raised((*TOPOLOGY, *(error.path if error.path[:1] == ("order",) else ("kind",))), error, f"{name}: ")
        return Network()
    record = {"kind": name, **keywords} | {key: section[key] for key in ("mesh", "order") if section[key] is not None}
    return Network(dict(graph.graph["axes"]), graph, None, record)
