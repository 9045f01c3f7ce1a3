"""Networks by name in a scenario: their keys are the parameters of the builder, and a logical mesh with an order."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from torussim import units
from torussim.chips import Chip
from torussim.described import Form, Key, Reader
from torussim.docstrings import parameters_of
from torussim.errors import Keys, TorusSimError
from torussim.scenario import forms
from torussim.scenario.keyed import Section
from torussim.scenario.notes import Notes
from torussim.scenario.values import each, flag, number, one_of, one_or_each, quantity, quote, whole
from torussim.topology.check import MAX_CHIPS
from torussim.topology.named import NETWORKS, network
from torussim.topology.shape import axis_names

TOPOLOGY: Keys = ("topology",)
SHAPED = ("switch", "fully_connected")  # the key of their mesh can be shape, and it gives the number of chips
ONE_LINK = ("switch", "hyperx", "fat_tree", "dragonfly", "gpu_nodes")  # a chip has one link, which represents all its links

_COUNT, _COUNTS = whole(1, MAX_CHIPS), each(whole(1), "[4, 4]", least=1, most=forms.MAX_AXES)
_RATE, _TIME = quantity("B/s"), quantity("s", zero=True)
READERS: Mapping[str, tuple[Reader, Any]] = {  # the reader of a parameter, and an example
    "chips": (_COUNT, 16), "dimensions": (_COUNT, 4), "routers": (_COUNT, 4), "global_links": (_COUNT, 2), "groups": (_COUNT, 9),
    "board_links": (_COUNT, 2), "group_links": (_COUNT, 4), "nodes": (_COUNT, 4), "gpus": (_COUNT, 8), "leaf": (_COUNT, 32),
    "radix": (_COUNT, 64), "levels": (_COUNT, 3), "switches": (_COUNT, 18), "slices": (_COUNT, 2), "host_chips": (_COUNT, 4),
    "shape": (_COUNTS, [4, 4]), "down": (_COUNTS, [16, 8]),
    "oversubscription": (one_or_each(number(), "[4, 1]"), 2),
    "wrap": (one_or_each(flag, "[true, false]"), True),
    "sums": (flag, True),
    "nics": (one_of("choice of NICs", "gpu", "node"), "node"),
    "fabric": (one_of("fabric between nodes", "rail", "fat_tree"), "fat_tree"),
}
_UNIT = re.compile(r", (bytes/s|s)(?=[;.])")  # a file gives quantities with units
_DEFAULT = re.compile(r"; by default ([^;]*)\.$")


def reader(parameter: str) -> tuple[Reader, Any]:
    """Return the reader and an example of a builder's parameter: a bandwidth or latency by its name, others from READERS."""
    if parameter.endswith("bandwidth"):
        return _RATE, "50 GB/s"
    return (_TIME, "1 us") if parameter.endswith("latency") else READERS[parameter]


def form(name: str) -> Form:
    """Return the keys of a network by name. The default of a key is the default of the builder's parameter.

    The builder's docstring says what each key means.
    """
    builder = NETWORKS[name]
    about = parameters_of(builder)
    filled = ("bandwidth", "chips") if name in SHAPED else ("bandwidth",)
    keys = {}
    for one in inspect.signature(builder).parameters.values():
        read, example = reader(one.name)
        text = _UNIT.sub("", about[one.name])
        default = _DEFAULT.search(text)
        otherwise = default[1] if default else _of_the_chip(name, one.name) or (
            "" if one.default in (one.empty, None) else _shown(one.name, one.default))
        keys[one.name] = Key(read, needed=one.default is one.empty and one.name not in filled, otherwise=otherwise,
                             about=_DEFAULT.sub(".", text), example=example)
    if name in SHAPED:
        keys["shape"] = Key(_COUNTS, example=[4, 4],
                            about="The logical mesh, which says how many chips there are, in place of `chips`.")
    return {**{key: forms.TOPOLOGY[key] for key in ("kind", "routing", "links", "events")}, **keys,
            "mesh": replace(forms.MESH, read=_COUNTS, example=[4, 4]), "order": forms.ORDER}


def _of_the_chip(name: str, parameter: str) -> str:
    """Return in words the chip's value for a parameter that is left out; "" if there is none."""
    if parameter == "latency" or (parameter == "bandwidth" and name not in ("nvl72", *ONE_LINK)):
        return "that of the chip"
    if parameter == "bandwidth" and name in ONE_LINK:
        return "all links of the chip as one"
    return "by the rule of the chip" if parameter == "wrap" else ""


def _shown(parameter: str, value: Any) -> str:
    """Return a default as a file writes it."""
    unit = "B/s" if parameter.endswith("bandwidth") else "s" if parameter.endswith("latency") else None
    return units.show(value, unit) if unit else quote(value)[1:-1]


def named_kind(given: Any) -> str | None:
    """Return the name of a topology that is a built-in network and no torus, if it is one."""
    kind = given.get("kind") if isinstance(given, Mapping) else None
    return kind if isinstance(kind, str) and kind in NETWORKS else None


def of_name(notes: Notes, given: Mapping[str, Any], name: str, chip: Chip | None) -> tuple[Any, dict[str, Any], tuple[str, ...]]:
    """Return the graph of a network by name, or None, its record, and notes for the report."""
    section = notes.section(form(name), given, TOPOLOGY, f"a {name}")
    parameters = inspect.signature(NETWORKS[name]).parameters
    keywords = {key: section[key] for key in parameters if key in section.given and not (key == "shape" and name in SHAPED)}
    mesh = _mesh(notes, section, given, name)
    if name in SHAPED and "chips" not in section.given:
        if mesh is None:
            if not {"shape", "mesh"} & section.given:
                notes.wrong((*TOPOLOGY, "chips"), f"a {name} lacks 'chips': give chips: 8, or shape: [8]", code="missing")
            return None, {}, ()
        keywords["chips"] = prod(mesh)
    if not section.sound() or set(section.given) - set(form(name)):
        return None, {}, ()
    said = []
    for key in ("bandwidth", "latency"):
        if key in parameters and key not in keywords and (key == "latency" or name != "nvl72"):
            together = key == "bandwidth" and name in ONE_LINK and chip is not None and chip.links > 1
            keywords[key] = _of_chip(chip, key) * (chip.links if together and chip else 1)
            if together and chip:
                said.append(f"links of {units.show(keywords[key], 'B/s')}: all {chip.links} links of {chip.name} as one")
    if "wrap" in parameters and "wrap" not in keywords and chip is not None:
        keywords["wrap"] = list(chip.wraps(tuple(keywords["shape"])))
        closed = [axis for axis, wraps in zip(axis_names(len(keywords["wrap"]) + 1)[1:], keywords["wrap"]) if wraps]
        said.append(f"wraparounds on {', '.join(closed) if closed else 'no axis'} (by the rule of {chip.name})")
    record = {"kind": name, **keywords} | {key: value for key, value in (("mesh", mesh), ("order", section["order"]))
                                           if value is not None}
    try:
        return network(name, keywords, mesh, section["order"]), record, tuple(said)
    except TorusSimError as error:
        path = error.path if error.path and (error.path[0] in given) else ("shape",) if "shape" in given else ("kind",)
        notes.wrong((*TOPOLOGY, *path), f"{name}: {error}", code=error.code)
        return None, {}, ()


def _mesh(notes: Notes, section: Section, given: Mapping[str, Any], name: str) -> list[int] | None:
    """Return the logical mesh; for a switch it can be given as shape."""
    if name in SHAPED and {"shape", "mesh"} <= section.given:
        notes.wrong((*TOPOLOGY, "mesh"), f"mesh: {quote(given['mesh'])} and shape are both given: leave one out", at_key=True,
                    code="clash")
        return None
    key = "shape" if name in SHAPED and "shape" in section.given else "mesh"
    return section[key] if section.sound(key) else None


def _of_chip(chip: Chip | None, key: str) -> float:
    """Return the bandwidth or latency of a chip's link. A missing chip is already a mistake: only the network is checked then."""
    if chip is None:
        return 1.0 if key == "bandwidth" else 0.0
    return chip.link_bandwidth if key == "bandwidth" else chip.link_latency
