"""The `plan` section of a scenario: the objective, the limits that a layout must meet, and the choices that may vary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torussim import resolve
from torussim.collectives.lower import ALGORITHMS
from torussim.described import TEXT, Form, Key, Reader, Schema, of_form, reads
from torussim.errors import Keys
from torussim.layouts import LAYOUTS
from torussim.models import Model
from torussim.program import ALIKE
from torussim.scenario import forms, keyed, values
from torussim.scenario.notes import Notes
from torussim.scenario.pipeline import Stages, read_pipeline
from torussim.scenario.values import Misread, quote, refuse

PATH = ("plan",)
FITS = "memory.fits"
NO_STAGES = "none"  # of `vary.pipeline`
FIVE = ("ws1d", "ws2d", "wg_x", "wg_xy", "wg_xyz")  # the layouts of the paper
CHOICES = ("attention", "experts", "weights", "activations", "kv_cache", "overlap")  # keys of a layout that a plan may vary


@dataclass(frozen=True)
class Limit:
    """A bound on one key of the result, in its unit. `memory.fits` is 1 if the model fits into memory."""

    what: str
    at_most: float | None = None
    at_least: float | None = None

    def met(self, value: float) -> bool:
        """Return whether a value meets the limit."""
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    def miss(self, value: float) -> float:
        """Return the factor by which a value misses the limit; at most 1 if it meets the limit."""
        over = value / self.at_most if self.at_most is not None else 0.0
        under = (self.at_least / value if value else float("inf")) if self.at_least is not None else 0.0
        return max(over, under)

    @property
    def unit(self) -> str:
        """The unit of the key; "" for a number without unit."""
        return forms.RESULTS.get(self.what, "")


@dataclass(frozen=True)
class Planning:
    """The objective of a plan and its choices. An empty choice is the one in the file; planner.space has those of a few keys.

    `layouts` has names, or "all" for every table of shardings. `mesh` is "whole", "parts" (physical axes are cut too) or "file".
    `pipelines` has the stages of layers; None: no stages.
    """

    objective: str = "latency"
    limits: tuple[Limit, ...] = (Limit(FITS, at_least=1.0),)
    layouts: tuple[str, ...] | str = ()
    mesh: str = "whole"
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    batch: tuple[int, ...] = ()
    collectives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pipelines: tuple[Stages | None, ...] = ()


def read_planning(notes: Notes, given: Any, model: Model | None, axes: Mapping[str, int] | None) -> Planning:
    """Return the `plan` section for a model on a network with these axes, and note its mistakes."""
    section = notes.section(forms.PLAN, given, PATH, "plan")
    vary = notes.section(VARY, section["vary"], (*PATH, "vary"), "vary") if section.sound("vary") else None
    limits = dict.fromkeys(_limits(notes, section["limits"])) if section.sound("limits") else {}
    if not any(limit.what == FITS for limit in limits):
        limits = {Limit(FITS, at_least=1.0): None, **limits}
    if vary is None:
        return Planning(section["objective"], tuple(limits))
    choices = {key: vary[key] for key in CHOICES if vary[key]}
    pipelines = tuple(dict.fromkeys(_pipelines(notes, vary["pipeline"], axes)))
    _check(notes, vary, model, pipelines)
    return Planning(section["objective"], tuple(limits), vary["layouts"], vary["mesh"], choices, vary["batch"],
                    vary["collectives"], pipelines)


def _check(notes: Notes, vary: keyed.Section, model: Model | None, pipelines: tuple[Stages | None, ...]) -> None:
    """Note choices that do not fit the model, or one another."""
    path: Keys = (*PATH, "vary")
    if model and vary["experts"] and not model.experts:
        notes.wrong((*path, "experts"), f"experts: {model.name} has no experts: leave it out", at_key=True, code="clash")
    if vary["layouts"] != "all":
        return
    unknown = "experts" if model and model.experts else "latent attention" if model and model.latent else ""
    if unknown and model:
        notes.wrong((*path, "layouts"), "layouts: the tables of shardings of `all` are those of models without experts and "
                    f"latent attention, and {model.name} has {unknown}: name layouts, such as [ws1d, ws2d, dp], or leave layouts "
                    "out", code="clash")
    if any(pipelines):
        notes.wrong((*path, "pipeline"), "pipeline: the tables of shardings of `layouts: all` have no stages: name layouts, such "
                    "as [ws1d, ws2d], or leave pipeline out", at_key=True, code="clash")


def _pipelines(notes: Notes, given: Any, axes: Mapping[str, int] | None) -> list[Stages | None]:
    """Return the stages that are tried; none where the axes are not known. Note the mistakes."""
    if given is None:
        return []
    path: Keys = (*PATH, "vary", "pipeline")
    every = list(enumerate(given)) if isinstance(given, list) else [(None, given)]
    if not every:
        notes.wrong(path, "pipeline: the list is empty: write one such as [none, {axis: x, microbatches: 8}]", code="empty")
    found: list[Stages | None] = []
    for i, one in every:
        if one == NO_STAGES:
            found.append(None)
            continue
        before = len(notes.mistakes)
        stages = read_pipeline(notes, one if one is not None else "", path if i is None else (*path, i), axes)
        if stages and len(notes.mistakes) == before:
            found.append(stages)
    return found


def describe_planning(planning: Planning) -> dict[str, Any]:
    """Return the record of the `plan` section."""
    limits: dict[str, Any] = {}
    for limit in planning.limits:
        bounds = {key: value for key in ("at_most", "at_least") if (value := getattr(limit, key)) is not None}
        limits[limit.what] = bool(limit.at_least) if limit.what == FITS else bounds
    vary: dict[str, Any] = {"layouts": planning.layouts if isinstance(planning.layouts, str) else list(planning.layouts)}
    vary = (vary if planning.layouts else {}) | {"mesh": {"parts": True} if planning.mesh == "parts" else planning.mesh}
    vary |= {key: [list(one) if isinstance(one, tuple) else one for one in some] for key, some in planning.choices.items()}
    vary |= {"pipeline": [one.record() if one else NO_STAGES for one in planning.pipelines]} if planning.pipelines else {}
    vary |= {"batch": list(planning.batch)} if planning.batch else {}
    vary |= {"collectives": {key: list(some) for key, some in planning.collectives.items()}} if planning.collectives else {}
    return {"objective": planning.objective, "limits": limits, "vary": vary}


# -- limits -------------------------------------------------------------------------------------------------------------


def _limits(notes: Notes, given: Any) -> list[Limit]:
    """Return the valid limits."""
    path = (*PATH, "limits")
    if not isinstance(given, Mapping):
        notes.wrong(path, f"limits: {quote(given)} is not a mapping: write one such as {{step_s: {{at_most: 50 ms}}}}")
        return []
    found, known = [], (*forms.RESULTS, FITS)
    for what, value in given.items():
        if what not in known:
            notes.wrong((*path, what), "limits: " + resolve.unknown(what, known, "result that can be limited"), at_key=True,
                        code="unknown-key")
            continue
        try:
            found += [_fits(what, value) if what == FITS else _bounded(what, value)]
        except Misread as error:
            notes.add(list(error.found), (*path, what), f"{what}: ")
    return found


def _fits(what: str, value: Any) -> Limit:
    if not isinstance(value, bool):
        refuse(f"{quote(value)} is not true or false")
    return Limit(what, at_least=float(value))


def _bounded(what: str, value: Any) -> Limit:
    """Return the limit {at_most, at_least} of a key of the result."""
    if value is None or not isinstance(value, Mapping):
        refuse(f"{quote(value)} is no limit: write one such as {{at_most: 50 ms}} or {{at_least: 0.3}}")
    section, found = keyed.read(limit_form(what), value, what)
    if not found and section["at_most"] is None and section["at_least"] is None:
        refuse("the limit is empty: give at_most or at_least", "missing")
    if found:
        raise Misread(*found)
    if None not in (section["at_most"], section["at_least"]) and section["at_most"] < section["at_least"]:
        refuse(f"at_most {quote(value['at_most'])} is below at_least {quote(value['at_least'])}: nothing meets both", "clash")
    useless = "at_least" if forms.RESULTS[what] == "s" else "at_most"
    if section[useless] is not None and not what.startswith("memory."):
        refuse(f"{useless}: a plan looks for the fastest layout, so that such a limit excludes the best: leave it out")
    return Limit(what, section["at_most"], section["at_least"])


def limit_form(what: str) -> Form:
    """Return the keys of a limit on a key of the result."""
    unit = forms.RESULTS[what]
    reader = values.quantity(unit) if unit else values.number(most=1.0 if what == "mfu" else values.LARGEST)
    example = {"s": "50 ms", "B": "16 GiB"}.get(unit, 0.3)
    return {"at_most": Key(reader, example=example,
                           about="The largest value that is accepted; of times and of keys of `memory`."),
            "at_least": Key(reader, example=example,
                            about="The smallest value that is accepted; of rates and of keys of `memory`.")}


def limits_schema() -> dict[str, Any]:
    """Return the schema of `limits`."""
    named = {what: {**of_form(limit_form(what)), "minProperties": 1} for what in forms.RESULTS}
    return {"type": "object", "properties": {**named, FITS: {"type": "boolean"}}, "additionalProperties": False}


# -- the choices that vary ----------------------------------------------------------------------------------------------


def _some(reader: Reader, example: str) -> Reader:
    """Return a reader of one value or a list of distinct values, as a tuple."""
    every = values.each(reader, example, least=1)
    return Reader(lambda value: tuple(dict.fromkeys(every(value if isinstance(value, list) else [value]))),
                  f"{reader.words}, or a list of such", {"anyOf": [reader.schema, every.schema]}, reader.unit)


_NAMED = _some(values.one_of("layout", *LAYOUTS), "[ws1d, ws2d], or five, or all")


@reads("five, all, the name of a layout, or a list of names", {"anyOf": [{"enum": ["five", "all"]}, _NAMED.schema]})
def _layouts(value: Any) -> tuple[str, ...] | str:
    """Return the layouts to try: five, all, or names."""
    if value == "five":
        return FIVE
    if isinstance(value, str):
        value = values.one_of("choice of layouts", "five", "all", *LAYOUTS)(value)
    if value == "all":
        return "all"
    names: tuple[str, ...] = _NAMED(value)
    return names


_PARTS: Form = {"parts": Key(values.flag, needed=True, example=True, about="Whether physical axes can be cut.")}


@reads("`whole`, `file` or `{parts: true}`", {"anyOf": [{"enum": ["whole", "file"]}, of_form(_PARTS)]})
def _mesh(value: Any) -> str:
    """Return how physical axes may make up logical ones."""
    if isinstance(value, Mapping):
        section, found = keyed.read(_PARTS, value, "mesh")
        if found:
            raise Misread(*found)
        return "parts" if section["parts"] else "whole"
    if value not in ("whole", "file"):
        refuse(f"{quote(value)} is no way to vary the mesh: one of whole, file or {{parts: true}}", "unknown-name")
    return str(value)


_OF_KIND: Form = {kind: Key(_some(values.one_of(f"algorithm of {kind}", *ALGORITHMS[kind]), f"[{ALGORITHMS[kind][0]}]"),
                            example=[*ALGORITHMS[kind][:2]], about=f"The algorithms of {kind}.") for kind in ALIKE}


@reads(f"a mapping of {', '.join(ALIKE)} to algorithms", of_form(_OF_KIND))
def _algorithms(value: Any) -> dict[str, tuple[str, ...]]:
    """Return the allowed algorithms of each kind of collective."""
    if not isinstance(value, Mapping):
        refuse(f"{quote(value)} is not a mapping: write one such as {{all_to_all: [dimension_wise, direct]}}")
    section, found = keyed.read(_OF_KIND, value, "collectives")
    if found:
        raise Misread(*found)
    return {kind: section[kind] for kind in _OF_KIND if section[kind]}


def _chosen(key: str, example: list[Any], otherwise: str = "that of the file") -> Key:
    """Return the key that gives several values for a key of the layout."""
    reader = _some(forms.LAYOUT[key].read, quote(example)[1:-1])
    return Key(reader, (), otherwise=otherwise, example=example, about=f"The values of `layout.{key}` that are tried.")


_ONE: Schema = {"anyOf": [TEXT, {"$ref": "#/$defs/pipeline"}]}
_STAGES = values.elsewhere("`none`, an axis of the network, a mapping `{axis, microbatches}`, or a list of such",
                           {"anyOf": [*_ONE["anyOf"], {"type": "array", "items": _ONE, "minItems": 1}]})

VARY: Form = {
    "layouts": Key(_layouts, (), otherwise="five; of a mixture of experts ws1d, ws2d and dp", example="all",
                   about="The layouts that are tried: the five of the paper, every table of shardings, or those named."),
    "attention": _chosen("attention", ["heads", "batch"], "heads and batch, and sequence where neither KV heads nor batch divide "
                                                          "over the chips, or no other layout fits"),
    "experts": _chosen("experts", ["all", ["y", "z"]], "all, batch and gathered, of a mixture of experts"),
    "pipeline": Key(_STAGES, otherwise="none, and that of the file; where no layout fits, stages over each axis",
                    example=["none", {"axis": "x", "microbatches": 8}],
                    about="The values of `layout.pipeline` that are tried; `none`: no stages."),
    "mesh": Key(_mesh, "whole", example={"parts": True},
                about="The logical meshes that are tried: of whole axes, of parts of axes too, or that of the file."),
    "weights": _chosen("weights", ["bf16", "int8"]),
    "activations": _chosen("activations", ["bf16"]),
    "kv_cache": _chosen("kv_cache", ["bf16", "int8"]),
    "overlap": _chosen("overlap", [True, False]),
    "batch": Key(_some(values.whole(1, forms.MAX_SIZE), "[64, 128, 256]"), (), otherwise="that of the file",
                 example=[64, 128, 256], about="The batches that are tried."),
    "collectives": Key(_algorithms, {}, otherwise="those of the file", example={"all_to_all": ["dimension_wise", "direct"]},
                       about="The algorithms that are tried for each kind of collective."),
}
