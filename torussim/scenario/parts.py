"""The mappings of a scenario file, each with the form of its keys.

The reference page and the schema for editors are made from them. The schema checks keys, types and names. Conditions on several
values together (a mesh that fits a network) only `check` can test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torussim import chip_fields, model_fields, resolve, sourced
from torussim.collectives.lower import ALGORITHMS
from torussim.described import FUNCTION, Form, Key, of_form
from torussim.docstrings import summary
from torussim.scenario import forms
from torussim.scenario.named import form as named_form
from torussim.scenario.planning import VARY, limit_form, limits_schema
from torussim.scenario.values import named
from torussim.scenario.workload import expect_schema, expected_form
from torussim.topology.named import NETWORKS

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Part:
    """A mapping of a scenario file: its name in the schema, a title, a sentence on its place, its keys, and its schema.

    `beside` names parts whose keys belong to the mapping too: they are in its schema, but not in its form. A mapping without a
    schema has keys of other parts, or keys that depend on its place.
    """

    name: str
    title: str
    where: str
    form: Form
    schema: Mapping[str, Any]
    beside: tuple[str, ...] = ()


def parts() -> tuple[Part, ...]:
    """Return all mappings of a scenario file, in the order of the reference page."""
    return (Part("scenario", "The file", "The top of a scenario file.", forms.TOP, _top()),
            *_bases(), *_networks(), *_layout_parts(),
            _part("workload", "workload", "The value of `workload`.", forms.WORKLOAD),
            _part("balance", "workload.balance", "A mapping as the value of `workload.balance`.", forms.BALANCE),
            Part("expected", "expect", "The value of a key of the result in `expect`, or the number alone. The keys are: "
                 + ", ".join(f"`{what}`" for what in forms.RESULTS) + ".", expected_form("step_s"), {}),
            _part("plan", "plan", "The value of `plan`.", forms.PLAN),
            Part("limit", "plan.limits", "The value of a key of the result in `plan.limits`. The keys are those of `expect`, and "
                 "`memory.fits`, which is true or false.", limit_form("step_s"), {}),
            _part("vary", "plan.vary", "The value of `plan.vary`; each key has one value or a list.", VARY),
            _part("trace", "trace", "The value of `trace`.", forms.TRACE),
            _part("chakra", "program: a Chakra trace", "A mapping as the value of `program`.", forms.CHAKRA),
            _part("computation", "program: a computation", "An element of `program` without `collective`.", forms.COMPUTE),
            Part("collective", "program: a collective", "An element of `program` with `collective`.", forms.COLLECTIVE,
                 {**of_form(forms.COLLECTIVE), "allOf": [_algorithms(kind) for kind in ALGORITHMS],
                  "oneOf": [{"required": ["bytes"]}, {"required": ["matrix"]}]}))


def _bases() -> list[Part]:
    """Return the parts of model and chip."""
    model = {path[0]: _of_base(key, path in model_fields.NEEDED) for path, key in model_fields.FIELDS.items()}
    chip = {path[0]: _of_base(key, path in chip_fields.NEEDED or path[0] == "flops")
            for path, key in chip_fields.FIELDS.items() if len(path) == 1}
    flops, uncertainty = ({path[1]: key for path, key in chip_fields.FIELDS.items() if path[0] == part and len(path) == 2}
                          for part in ("flops", "uncertainty"))
    needed = [list(dict.fromkeys(path[0] for path in fields.NEEDED)) for fields in (model_fields, chip_fields)]
    where = "A mapping as the value of `{}`. A value can be `{{value: ..., source: ...}}`."
    return [
        Part("model", "model", where.format("model"), {"base": model_fields.BASE, **model},
             _preset("models", model_fields.BASE, model, needed[0], {"pattern": r"\.json$|/"})),
        Part("chip", "chip", where.format("chip"), {"base": chip_fields.BASE, **chip},
             _preset("chips", chip_fields.BASE, chip, needed[1])),
        Part("flops", "chip.flops", "The rates of a chip; those that are given are added to those of the base.", flops,
             sourced.schema(flops)),
        Part("uncertainty", "chip.uncertainty", "The uncertainties of the fitted parameters of a chip.", uncertainty,
             sourced.schema(uncertainty))]


def _networks() -> list[Part]:
    """Return the parts of topology, one for each kind, after the part of shared keys."""
    every = {key: forms.TOPOLOGY[key] for key in ("kind", "routing", "links", "events")}
    placing = {"mesh": forms.MESH, "order": forms.ORDER}

    def network(name: str, title: str, where: str, form: Form, *, others: bool = False) -> Part:
        own = {key: one for key, one in form.items() if key not in every and (key not in placing or name == "torus")}
        beside = ["network", *(["placing"] if placing.keys() & form.keys() else [])]
        return Part(f"network-{name}", title, where, own, of_form(form, others=others), tuple(beside))

    return [
        Part("network", "topology", "The value of `topology`: the keys of every kind.", every, {}),
        Part("placing", "topology: the logical mesh", "The keys of every kind but a torus, a mesh and a ring; a graph file or a "
             "graph has no `order`.", placing, {}),
        network("torus", "topology: a torus, mesh or ring", "With `kind: torus`, `mesh` or `ring`, or without a kind.",
                forms.TOPOLOGY),
        *(network(name, f"topology: {name}", f"With `kind: {name}`: {summary(NETWORKS[name]).removeprefix('Return ')}",
                  named_form(name)) for name in NETWORKS),
        network("file", "topology: a graph file", "With `kind: file`.", forms.FILE_TOPOLOGY),
        network("graph", "topology: a graph", "With `kind: graph`: a graph in the scenario itself.", forms.GRAPH_TOPOLOGY),
        network("function", "topology: a user-defined function",
                'With `kind: "module:function"`. Every further key is an argument of the function.', forms.OWN_TOPOLOGY,
                others=True),
        _part("link", "topology.links", "An element of `topology.links`. A link changes if it has all that is given of `from` "
              "and `to`, `axis`, `wraparound` and `at`. With none of them every link changes.", forms.LINK),
        Part("event", "topology.events", "An element of `topology.events`: a change of links in mid-run.",
             {"time": forms.EVENT["time"]}, of_form(forms.EVENT), ("link",))]


def _layout_parts() -> list[Part]:
    """Return the parts of layout."""
    own = {"if": {"properties": {"ffn": FUNCTION}, "required": ["ffn"]},
           "then": of_form(forms.LAYOUT, others=True), "else": of_form(forms.LAYOUT)}
    return [
        Part("layout", "layout", 'The value of `layout`, or of each of its two phases. With `ffn: "module:function"` every '
             "further key is an argument of the function.", forms.LAYOUT, own),
        _part("table", "layout.ffn: a table of shardings", "A mapping as the value of `layout.ffn`: the sharding of each tensor.",
              forms.TENSORS),
        _part("pipeline", "layout.pipeline", "A mapping as the value of `layout.pipeline`.", forms.PIPELINE),
        _part("path", "layout.ffn: a path", "A mapping as the value of a tensor.", forms.PATH)]


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a scenario file, for editors.

    >>> schema()["$defs"]["workload"]["properties"]["batch"]["minimum"]
    1
    """
    every = {part.name: {"title": part.title, **part.schema} for part in parts() if part.schema}
    top = every.pop("scenario")
    several = {"network": _network(), "layouts": _layouts(), "expect": expect_schema(), "limits": limits_schema(),
               "operation": _either("collective", "collective", "computation")}
    return {"$schema": DIALECT, **top, "title": "A scenario of torussim", "$defs": {**every, **several}}


def _of_base(key: Key, needed: bool) -> Key:
    return replace(key, otherwise="that of the base") if needed else key


def _part(name: str, title: str, where: str, form: Form) -> Part:
    return Part(name, title, where, form, of_form(form))


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _either(key: str, having: str, lacking: str) -> dict[str, Any]:
    """Return the schema of a mapping that is one part if it has a given key, otherwise another part."""
    return {"if": {"type": "object", "required": [key]}, "then": _ref(having), "else": _ref(lacking)}


def _top() -> dict[str, Any]:
    """Return the schema of the top level: a program, or a model with its workload; and a chip, unless a slice has one."""
    bare = {"required": ["program", "topology"], "properties": dict.fromkeys(("model", "layout", "workload", "plan"), False)}
    sliced = {"properties": {"topology": {"required": ["slice"]}}, "required": ["topology"]}
    return {**of_form(forms.TOP), "anyOf": [{"required": ["chip"]}, sliced],
            "if": {"required": ["program"]}, "then": bare, "else": {"required": ["model", "workload"]}}


def _preset(kind: str, base: Any, form: Form, needed: list[str], path: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the schema of a preset's name, or a path where one is allowed, or a mapping with a base or all fields."""
    names = [{"enum": list(resolve.preset_names(kind))}, *([{"type": "string", **path}] if path else [])]
    mapping = sourced.schema(form)
    mapping["properties"] = {"base": {"anyOf": names, "description": base.about}, **mapping["properties"]}
    return {"anyOf": [*names, {**mapping, "anyOf": [{"required": ["base"]}, {"required": needed}]}]}


def _algorithms(kind: str) -> dict[str, Any]:
    """Return the schema of the algorithms of one kind of collective, for a collective of this kind."""
    return {"if": {"properties": {"collective": {"const": kind}}, "required": ["collective"]},
            "then": {"properties": {"algorithm": named(f"algorithm of {kind}", *ALGORITHMS[kind]).schema}}}


def _network() -> dict[str, Any]:
    """Return the schema of `topology`, which depends on its kind."""
    def of_kind(kind: Mapping[str, Any], name: str) -> dict[str, Any]:
        return {"if": {"properties": {"kind": kind}, "required": ["kind"]}, "then": _ref(f"network-{name}")}
    torus = {"if": {"properties": {"kind": {"enum": ["torus", "mesh", "ring"]}}}, "then": _ref("network-torus")}
    return {"type": "object", "properties": {"kind": forms.TOPOLOGY["kind"].read.schema},
            "allOf": [torus, *(of_kind({"const": name}, name) for name in (*NETWORKS, "file", "graph")),
                      of_kind(FUNCTION, "function")]}


def _layouts() -> dict[str, Any]:
    """Return the schema of `layout`: one layout, or one for each phase."""
    two = {"anyOf": [{"required": [phase]} for phase in forms.PHASES]}
    return {"type": "object", "if": two, "then": of_form(forms.PHASES), "else": _ref("layout")}
