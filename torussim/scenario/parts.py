"""The mappings of a scenario file, each with the form of its keys: what the reference page and the schema for editors are made "
  "of.

The schema holds to keys, types and names. What follows from several values together (a mesh that fits a network) only `check` can
say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torussim import chip_fields, model_fields, resolve, sourced
from torussim.collectives.lower import ALGORITHMS
from torussim.described import FUNCTION, Form, Key, of_form
from torussim.scenario import forms
from torussim.scenario.named import form as named_form
from torussim.scenario.planning import VARY, limit_form, limits_schema
from torussim.scenario.values import named
from torussim.scenario.workload import expect_schema, expected_form
from torussim.topology.named import NETWORKS, said

DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True)
class Part:
    """A mapping of a scenario file: its name in the schema, a title, a sentence on where it stands, its keys, and its schema.

    Without a schema its keys depend on the key that it is the value of.
    """

    name: str
    title: str
    where: str
    form: Form
    schema: Mapping[str, Any]


def parts() -> tuple[Part, ...]:
    """Return all mappings of a scenario file, in the order of the reference page."""
    chip = {path[0]: _of_base(key, path in chip_fields.NEEDED or path[0] == "flops")
            for path, key in chip_fields.FIELDS.items() if len(path) == 1}
    flops, uncertainty = ({path[1]: key for path, key in chip_fields.FIELDS.items() if path[0] == part and len(path) == 2}
                          for part in ("flops", "uncertainty"))
    model = {path[0]: _of_base(key, path in model_fields.NEEDED) for path, key in model_fields.FIELDS.items()}
    networks = [_part(f"network-{name}", f"A network by name: {name}", f"`topology` with `kind: {name}`: {said(name)}.",
                      named_form(name)) for name in NETWORKS]
    return (
        Part("scenario", "The file", "The top of a scenario file.", forms.TOP, _top()),
        Part("model", "model", "A mapping in `model`; a value can be `{value: ..., source: ...}`.", {"base": model_fields.BASE,
        **model},
             _preset("models", model_fields.BASE, model, [path[0] for path in model_fields.NEEDED], {"pattern": r"\.json$"})),
        Part("chip", "chip", "A mapping in `chip`; a value can be `{value: ..., source: ...}`.", {"base": chip_fields.BASE,
        **chip},
             _preset("chips", chip_fields.BASE, chip, list(dict.fromkeys(path[0] for path in chip_fields.NEEDED)))),
        Part("flops", "chip.flops", "The rates of a chip; those that are given are added to those of the base.", flops,
             sourced.schema(flops)),
        Part("uncertainty", "chip.uncertainty", "The uncertainties of the fitted parameters of a chip.", uncertainty,
             sourced.schema(uncertainty)),
        _part("network-torus", "topology: a torus, mesh or ring",
              "`topology` with `kind: torus`, `mesh` or `ring`, or without a kind.", forms.TOPOLOGY),
        *networks,
        _part("network-file", "topology: a graph file", "`topology` with `kind: file`.", forms.FILE_TOPOLOGY),
        _part("network-graph", "topology: a graph in the scenario", "`topology` with `kind: graph`.", forms.GRAPH_TOPOLOGY),
        _part("network-function", "topology: a user-defined function",
              '`topology` with `kind: "module:function"`; other keys are arguments of the function.', forms.OWN_TOPOLOGY,
              others=True),
        _part("link", "topology.links", "An element of `topology.links`: a link changes if it has all that is given of `from` "
                                        "and `to`, `axis`, `wraparound` and `at`; with none of them every link changes.",
                                        forms.LINK),
        _part("event", "topology.events", "An element of `topology.events`: a change of links in mid-run.", forms.EVENT),
        Part("layout", "layout", "`layout`, or each of its two phases. With `ffn: \"module:function\"` other keys are arguments "
                                                                                                    "of the function.",
                                                                                                    forms.LAYOUT, {
                 "if": {"properties": {"ffn": FUNCTION}, "required": ["ffn"]},
                 "then": of_form(forms.LAYOUT, others=True), "else": of_form(forms.LAYOUT)}),
        _part("table", "layout.ffn: a table of shardings", "A mapping in `layout.ffn`: the sharding of each tensor.",
        forms.TENSORS),
        _part("path", "layout.ffn: a path", "A mapping as the value of a tensor.", forms.PATH),
        _part("workload", "workload", "`workload`.", forms.WORKLOAD),
        Part("expected", "expect", "The value of a key of the result in `expect`, which can be the number alone. The keys are: "
              f"{', '.join(f'`{what}`' for what in forms.RESULTS)}.", expected_form("step_s"), {}),
        _part("plan", "plan", "`plan`.", forms.PLAN),
        _part("trace", "trace", "`trace`.", forms.TRACE),
        Part("limit", "plan.limits", "The value of a key of the result in `plan.limits`. The keys are those of `expect`, and "
                                     "`memory.fits`, which is true or false.", limit_form("step_s"), {}),
        _part("vary", "plan.vary", "`plan.vary`; each value is one or a list.", VARY),
        _part("chakra", "program: a Chakra trace", "A mapping in `program`.", forms.CHAKRA),
        _part("computation", "program: a computation", "An element of `program` without `collective`.", forms.COMPUTE),
        Part("collective", "program: a collective", "An element of `program` with `collective`.", forms.COLLECTIVE,
             {**of_form(forms.COLLECTIVE), "allOf": [_algorithms(kind) for kind in ALGORITHMS]}),
    )


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


def _part(name: str, title: str, where: str, form: Form, *, others: bool = False) -> Part:
    return Part(name, title, where, form, of_form(form, others=others))


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _either(key: str, having: str, lacking: str) -> dict[str, Any]:
    """Return the schema of a mapping that is one part where it has a key, else another."""
    return {"if": {"type": "object", "required": [key]}, "then": _ref(having), "else": _ref(lacking)}


def _top() -> dict[str, Any]:
    """Return the schema of the top: either a program, or a model with its workload; a chip, unless a slice brings it."""
    bare = {"required": ["program", "topology"], "properties": dict.fromkeys(("model", "layout", "workload", "plan"), False)}
    sliced = {"properties": {"topology": {"required": ["slice"]}}, "required": ["topology"]}
    return {**of_form(forms.TOP), "anyOf": [{"required": ["chip"]}, sliced],
            "if": {"required": ["program"]}, "then": bare, "else": {"required": ["model", "workload"]}}


def _preset(kind: str, base: Any, form: Form, needed: list[str], path: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the schema of the name of a preset, or a path where one can stand, or a mapping with a base or all fields."""
    names = [{"enum": list(resolve.preset_names(kind))}, *([{"type": "string", **path}] if path else [])]
    mapping = sourced.schema(form)
    mapping["properties"] = {"base": {"anyOf": names, "description": base.about}, **mapping["properties"]}
    return {"anyOf": [*names, {**mapping, "anyOf": [{"required": ["base"]}, {"required": needed}]}]}


def _algorithms(kind: str) -> dict[str, Any]:
    """Return the schema of the algorithms of a kind of collective, in a collective of that kind."""
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
    """Return the schema of `layout`: one, or one for each phase."""
    two = {"anyOf": [{"required": [phase]} for phase in forms.PHASES]}
    return {"type": "object", "if": two, "then": of_form(forms.PHASES), "else": _ref("layout")}
