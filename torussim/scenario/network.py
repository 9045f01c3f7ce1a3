"""The network of a scenario: a torus of ours, with the wraparounds of its chip or slice, or the graph of a user's function."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING, Any

from torussim import resolve
from torussim.chips import Chip
from torussim.errors import TorusSimError
from torussim.scenario import forms
from torussim.scenario.forms import Section
from torussim.scenario.notes import Notes
from torussim.scenario.values import Keys, quote
from torussim.topology.builders import axis_names, from_function, torus
from torussim.topology.check import MAX_CHIPS
from torussim.topology.grid import Grid, grid
from torussim.topology.links import LinkChange, change_links
from torussim.topology.shape import is_chip_of
from torussim.topology.slices import slice_of

if TYPE_CHECKING:
    import networkx as nx

TOPOLOGY: Keys = ("topology",)


@dataclass(frozen=True)
class Slice:
    """A public slice: chips along each axis, which axes have wraparounds, the preset of its chip."""

    name: str
    shape: tuple[int, ...]
    wrap: tuple[bool, ...]
    chip: str


@dataclass(frozen=True)
class Network:
    """What is known of a network: its axes as soon as they can be relied on, the rest as far as nothing is in the way."""

    axes: dict[str, int] | None = None
    graph: nx.DiGraph | None = None
    net: Grid | None = None
    record: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # for the report


def own_kind(given: Any) -> str | None:
    """Return the name of the user's function that makes the network, if one does."""
    kind = given.get("kind") if isinstance(given, Mapping) else None
    return kind if isinstance(kind, str) and ":" in kind else None


def read_slice(notes: Notes, given: Any) -> Slice | None:
    """Return the slice that a topology names, if any."""
    name = given.get("slice") if isinstance(given, Mapping) else None
    if not isinstance(name, str) or own_kind(given):
        return None
    try:
        return Slice(name, *slice_of(name))
    except TorusSimError as error:
        notes.wrong((*TOPOLOGY, "slice"), f"slice: {error}")
        return None


def read_network(notes: Notes, given: Any, chip: Chip | None, chip_preset: str | None, slice_: Slice | None) -> Network:
    """Return the network of a scenario's topology; `chip_preset` is what the file's chip is, or is based on."""
    kind = own_kind(given)
    if kind is None:
        network = _of_our_kinds(notes, given, chip, chip_preset, slice_)
    else:
        network = _of_a_function(notes, given, kind)
    links = given.get("links") if isinstance(given, Mapping) else None
    if links is not None:
        changes = _read_links(notes, links, network.axes)
        if network.graph is not None:
            record = network.record | {"links": [shown for _, _, shown in changes]}
            network = replace(network, graph=_changed(notes, network.graph, changes), record=record)
    if network.graph is None:
        return network
    try:
        return replace(network, net=grid(network.graph))
    except TorusSimError as error:
        notes.wrong((*TOPOLOGY, "kind"), f"{kind or 'topology'}: {error}")
        return network


# -- torus, mesh, ring, slice -------------------------------------------------------------------------------------------


def _of_our_kinds(notes: Notes, given: Any, chip: Chip | None, chip_preset: str | None, slice_: Slice | None) -> Network:
    section = notes.section(forms.TOPOLOGY, given, TOPOLOGY, "topology")
    if slice_ and chip_preset not in (None, slice_.chip, "ideal"):
        notes.wrong((*TOPOLOGY, "slice"),
                    f"slice: {slice_.name!r} is made of {slice_.chip}, but the chip is {chip_preset!r}: write "
                    f"chip: {slice_.chip}, or shape and wrap in place of slice")
    shape = _shape(notes, section, given, slice_)
    if shape is None:
        return Network()
    axes = dict(zip(axis_names(len(shape)), shape))
    lists = [key for key in ("wrap", "bandwidth", "latency") if isinstance(section[key], list)]
    uneven = [key for key in lists if len(section[key]) != len(shape)]
    for key in uneven:
        notes.wrong((*TOPOLOGY, key),
                    f"{key}: {quote(given[key])} is a list of {len(section[key])}, but there are {len(shape)} axes: give one, or "
                    "one an axis")
    if uneven or not section.sound("kind", "wrap"):
        return Network(axes)
    wrap, origin = _wrap(section, shape, chip, slice_)
    if wrap is None:
        return Network(axes)
    bandwidth, latency = section["bandwidth"], section["latency"]
    if bandwidth is None:
        bandwidth = chip.link_bandwidth if chip else 1.0  # without a chip there is a mistake, and only the links are checked
    if latency is None:
        latency = chip.link_latency if chip else 0.0
    graph = torus(shape, wrap=wrap, bandwidth=bandwidth, latency=latency)
    record = {"kind": "torus", "shape": list(shape), "wrap": wrap, "bandwidth": bandwidth, "latency": latency,
              "routing": section["routing"]}
    closed = [axis for axis, wraps in zip(axes, wrap) if wraps]
    return Network(axes, graph, None, record, (f"wraparounds on {', '.join(closed) if closed else 'no axis'} ({origin})",))


def _shape(notes: Notes, section: Section, given: Any, slice_: Slice | None) -> tuple[int, ...] | None:
    """Return the chips along each axis, or None if that cannot be relied on."""
    kind = section["kind"] if section.sound("kind") else None
    if not {"slice", "shape"} & section.given:
        if isinstance(given, Mapping) and not {"slice", "shape"} & forms.meant(given, forms.TOPOLOGY):
            notes.wrong((*TOPOLOGY, "shape"),
                        "topology lacks 'shape': give the chips along each axis, such as [4, 4, 4], or a slice, such as v5e-16")
        return None
    if {"slice", "shape"} <= section.given:
        notes.wrong((*TOPOLOGY, "slice"), "slice and shape are both given: leave one out", at_key=True)
        return None
    if "slice" in section.given:
        if kind in ("mesh", "ring"):
            notes.wrong((*TOPOLOGY, "kind"),
                        f"kind: {quote(kind)} contradicts slice, which has the wraparounds of the real one: leave kind out")
            return None
        return slice_.shape if slice_ else None
    if not section.sound("shape"):
        return None
    shape = tuple(section["shape"])
    chips_ = prod(shape)
    if chips_ > MAX_CHIPS:
        many = f"{chips_:,}" if chips_ < 10**18 else "more than 10**18"
        notes.wrong((*TOPOLOGY, "shape"),
                    f"shape: {quote(given['shape'])} has {many} chips: at most {MAX_CHIPS:,} can be simulated")
        return None
    if kind == "ring" and len(shape) != 1:
        notes.wrong((*TOPOLOGY, "shape"),
                    f"shape: {quote(given['shape'])} has {len(shape)} axes, but a ring has one: write [{chips_}], or kind: torus")
        return None
    wraps = section["wrap"] if isinstance(section["wrap"], list) else [section["wrap"]]
    if (kind == "mesh" and True in wraps) or (kind == "ring" and False in wraps):
        has = "no wraparounds" if kind == "mesh" else "its wraparound"
        notes.wrong((*TOPOLOGY, "wrap"), f"wrap: {quote(given['wrap'])} contradicts kind: a {kind} has {has}: leave one out")
        return None
    return shape


def _wrap(section: Section, shape: tuple[int, ...], chip: Chip | None, slice_: Slice | None) -> tuple[list[bool] | None, str]:
    """Return which axes have a wraparound, if that is known, and who says so; an axis of up to 2 chips never has one."""
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
    return [bool(wraps) and length > 2 for wraps, length in zip(wrap, shape)], origin


# -- a user's function --------------------------------------------------------------------------------------------------


def _of_a_function(notes: Notes, given: Mapping[str, Any], name: str) -> Network:
    """Return the network that a user's function makes of the other keys of `topology`."""
    section = notes.section(forms.OWN_TOPOLOGY, given, TOPOLOGY, "topology", others=True)
    keywords = dict(section.others or {})
    try:
        function = resolve.function(name, notes.beside)
        reasons = resolve.argument_mistakes(function, keywords)
        for key, reason in reasons:
            notes.wrong((*TOPOLOGY, key or "kind"), f"{name}: {reason}", at_key=key is not None)
        if reasons:
            return Network()
        graph = from_function(function, deepcopy(keywords))
    except TorusSimError as error:
        notes.wrong((*TOPOLOGY, "kind"), str(error) if name in str(error) else f"{name}: {error}")
        return Network()
    record = {"kind": resolve.full_name(name, notes.beside), "routing": section["routing"], **keywords}
    return Network(dict(graph.graph["axes"]), graph, None, record)


# -- changes to links ---------------------------------------------------------------------------------------------------

Change = tuple[Keys, LinkChange, dict[str, Any]]  # place, what to do, record


def _read_links(notes: Notes, given: Any, axes: Mapping[str, int] | None) -> list[Change]:
    """Return the changes to links that make sense one by one."""
    path: Keys = (*TOPOLOGY, "links")
    if not isinstance(given, list):
        notes.wrong(path, f"links: {quote(given)} is not a list: write one such as [{{axis: x, scale: 0.5}}]")
        return []
    changes = []
    for i, item in enumerate(given):
        before = len(notes.mistakes)
        section = notes.section(forms.LINK, item, (*path, i), "a change of links")
        if section.given:
            _check_change(notes, section, item, (*path, i), axes)
        if len(notes.mistakes) == before:
            record = {key: section[key] for key in item}
            change = LinkChange(**{"from_" if key == "from" else key: value for key, value in record.items()})
            changes.append(((*path, i), change, record))
    return changes


def _check_change(notes: Notes, section: Section, item: Any, path: Keys, axes: Mapping[str, int] | None) -> None:
    """Note what is wrong between the keys of one change, and where it names what the network has not."""
    given = section.given | forms.meant(section.given, forms.LINK)
    if not given & {"bandwidth", "latency", "scale"} and section.sound() and given <= set(forms.LINK):
        notes.wrong(path, f"{quote(item)} changes nothing: give bandwidth, latency or scale")
    if {"bandwidth", "scale"} <= given:
        notes.wrong((*path, "scale"), "scale and bandwidth are both given: leave one out", at_key=True)
    if len(given & {"from", "to"}) == 1:
        one, other = ("from", "to") if "from" in given else ("to", "from")
        notes.wrong((*path, one), f"'{one}' is given without '{other}': give both, or neither", at_key=True)
    if axes is None:
        return
    shape = tuple(axes.values())
    ranges = ", ".join(f"{name} from 0 to {length - 1}" for name, length in axes.items())
    for key in ("from", "to"):
        if section[key] is not None and not is_chip_of(section[key], shape):
            notes.wrong((*path, key), f"{key}: there is no chip {quote(section[key])}: give one coordinate an axis, {ranges}")
    if section["axis"] is not None and section["axis"] not in axes:
        notes.wrong((*path, "axis"), "axis: " + resolve.unknown(section["axis"], axes, "axis of the topology"))
    for axis, coordinate in (section["at"] or {}).items():
        if axis not in axes:
            notes.wrong((*path, "at", axis), "at: " + resolve.unknown(axis, axes, "axis of the topology"), at_key=True)
        elif coordinate >= axes[axis]:
            notes.wrong((*path, "at", axis), f"at: '{coordinate}' is not on axis {axis}: give 0 to {axes[axis] - 1}")


def _changed(notes: Notes, graph: nx.DiGraph, changes: Sequence[Change]) -> nx.DiGraph:
    """Return the graph with its links changed, one after another; a change that does not fit is noted and left out."""
    left = list(changes)
    while left:
        try:
            return change_links(graph, [change for _, change, _ in left])
        except TorusSimError as error:
            text = str(error)
            number = re.match(r"change (\d+) of links, ", text)
            assert number is not None, text
            path, change, _ = left.pop(int(number[1]) - 1)
            notes.wrong(path, text.removeprefix(f"{number[0]}{change}: "))
    return graph


