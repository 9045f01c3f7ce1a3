"""The form of a scenario file: its keys, and the type of each value; no meaning.

pydantic finds all mistakes at once; `mistakes_of` puts each into words of ours, with the path of the value in the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError
from pydantic_core import PydanticCustomError

from torussim import units
from torussim.errors import TorusSimError
from torussim.layouts import DIMENSIONS
from torussim.program import KINDS
from torussim.resolve import unknown
from torussim.sourced import quote

Path = tuple[str | int, ...]
Found = list[tuple[Path, str, bool]]  # path, text, whether the place is that of the key
RESULT_UNITS: Mapping[str, str] = {"step_s": "s", "latency_s": "s", "makespan_s": "s", "prefill_s": "s", "tokens_per_s": "", "mfu": "",
                                   "chip_s_per_token": "s", "memory.weights": "B", "memory.kv_cache": "B", "memory.activations": "B",
                                   "memory.longest_context": ""}


def _quantity(unit: str, *, zero: bool = False) -> BeforeValidator:
    def read(value: Any) -> float:
        try:
            return units.read(value, unit) if zero else units.positive(value, unit)
        except TorusSimError as error:
            raise PydanticCustomError("quantity", "{text}", {"text": str(error)}) from None
    return BeforeValidator(read)


def _one_or_list(unit: str, *, zero: bool = False) -> BeforeValidator:
    one = _quantity(unit, zero=zero).func

    def read(value: Any) -> list[float] | float:
        if isinstance(value, list):
            return [one(v) for v in value]  # type: ignore[call-arg, misc]
        return one(value)  # type: ignore[call-arg, return-value]
    return BeforeValidator(read)


def _wrap(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, list) and value and all(isinstance(v, bool) for v in value)):
        return value
    raise PydanticCustomError("wrap", "{text}", {"text": f"{quote(value)} is not true, false, or a list of them, one an axis"})


def _axes(value: Any) -> Any:
    if isinstance(value, str):
        return list(value)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value
    raise PydanticCustomError("axes", "{text}", {"text": f"{quote(value)} is not a list of axes: write letters, such as yz, or "
                                                         f"[y, z]"})


def _split(value: Any) -> Any:
    if value in ("equal", "auto"):
        return value
    if isinstance(value, list) and value and all(isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v < float("inf")
                                                 for v in value) and sum(value) > 0:
        return tuple(float(v) for v in value)
    raise PydanticCustomError("split", "{text}", {"text": f"{quote(value)} is not equal, auto, or a list of weights, one an axis"})


Seconds = Annotated[float, _quantity("s", zero=True)]
Bytes = Annotated[float, _quantity("B", zero=True)]
Flops = Annotated[float, _quantity("FLOP", zero=True)]
Whole = Annotated[StrictInt, Field(ge=1, le=10**12)]
Natural = Annotated[StrictInt, Field(ge=0, le=10**12)]
Dtype = Literal["bf16", "fp8", "int8", "int4"]


class Strict(BaseModel):
    """A mapping without other keys."""

    model_config = ConfigDict(extra="forbid", strict=True)


class LinkForm(Strict):
    """One change to links."""

    from_: list[StrictInt] | None = Field(None, alias="from")
    to: list[StrictInt] | None = None
    axis: StrictStr | None = None
    wraparound: StrictBool | None = None
    at: dict[StrictStr, StrictInt] = {}
    both_ways: StrictBool = True
    bandwidth: Annotated[float, _quantity("B/s")] | None = None
    latency: Seconds | None = None
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False, strict=False)] | None = None


class TopologyForm(Strict):
    """A network of one of our kinds."""

    kind: Literal["torus", "mesh", "ring"] = "torus"
    shape: Annotated[list[StrictInt], Field(min_length=1, max_length=16)] | None = None
    slice: StrictStr | None = None
    wrap: Annotated[bool | list[bool], BeforeValidator(_wrap)] | None = None
    bandwidth: Annotated[float | list[float], _one_or_list("B/s")] | None = None
    latency: Annotated[float | list[float], _one_or_list("s", zero=True)] | None = None
    routing: Literal["dimension_order"] = "dimension_order"
    links: list[LinkForm] = []


class FunctionForm(BaseModel):
    """A network made by a function of the user: the other keys are its keyword arguments."""

    model_config = ConfigDict(extra="allow", strict=True)
    kind: StrictStr
    links: list[LinkForm] = []
    routing: Literal["dimension_order"] = "dimension_order"


class PathForm(Strict):
    """The way of a tensor, with the algorithm and order of its collectives."""

    path: list[StrictStr] | StrictStr
    algorithm: StrictStr = ""
    axes: Annotated[list[StrictStr], BeforeValidator(_axes)] = []


class LayoutForm(Strict):
    """A layout; `ffn` is a name or a table of shardings."""

    ffn: StrictStr | dict[StrictStr, Any] = "ws2d"
    attention: Literal["heads", "batch"] = "heads"
    weights: Dtype = "bf16"
    activations: Dtype = "bf16"
    kv_cache: Dtype = "bf16"
    overlap: StrictBool | Literal["one_way", "throughput", "latency"] = True
    mesh: dict[StrictStr, Annotated[list[StrictStr], BeforeValidator(_axes)]] | None = None


class WorkloadForm(Strict):
    """What is asked of the model."""

    phase: Literal["prefill", "decode", "generate"]
    batch: Whole
    context: Whole
    tokens: Whole = 1
    cached: Natural = 0
    chunk: Whole | None = None
    cache_share: Annotated[float, Field(gt=0, le=1, strict=False)] = 0.30


class ExpectForm(Strict):
    """A value that the result is held against."""

    value: Any
    within: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=False)] | None = None
    source: StrictStr = ""


class ComputeForm(Strict):
    """An operation of a bare program that computes."""

    name: StrictStr
    flops: Flops = 0.0
    hbm_bytes: Bytes = 0.0
    dtype: Dtype = "bf16"
    after: list[StrictStr] | None = None


class CollectiveForm(Strict):
    """An operation of a bare program that communicates."""

    name: StrictStr
    collective: Literal["all_gather", "reduce_scatter", "all_reduce", "all_to_all", "permute"]
    axes: Annotated[list[StrictStr], BeforeValidator(_axes)] = []
    bytes: Annotated[float, _quantity("B", zero=True)]
    algorithm: StrictStr = ""
    split: Annotated[str | tuple[float, ...], BeforeValidator(_split)] = "equal"
    direction: Literal["both", "one_way"] = "both"
    shift: dict[StrictStr, StrictInt] = {}
    after: list[StrictStr] | None = None


TOP = ("name", "model", "chip", "topology", "layout", "workload", "expect", "program")
TABLE = (*DIMENSIONS, "loop")
assert set(KINDS) == set(CollectiveForm.model_fields["collective"].annotation.__args__)  # type: ignore[union-attr]


def read(form: type[BaseModel], value: Any, path: Path, what: str) -> tuple[Any, Found]:
    """Return the value as its form and no mistakes, or None and all mistakes; `what` names it, such as "topology"."""
    if not isinstance(value, Mapping):
        return None, [(path, f"{quote(value)} is not a mapping: {what} needs keys such as "
                             f"{', '.join(_keys(form)[:3])}", False)]
    try:
        return form.model_validate(dict(value)), []
    except ValidationError as error:
        return None, mistakes_of(error, form, value, path, what)


def mistakes_of(error: ValidationError, form: type[BaseModel], value: Any, path: Path, what: str) -> Found:
    """Return what pydantic found, in words of ours; of the branches of a union only the first to speak at a place."""
    found: dict[tuple[Path, bool], str] = {}
    for item in error.errors(include_url=False):
        place = _inside(value, item["loc"])
        at_key = item["type"] == "extra_forbidden"
        if item["type"] == "missing":
            place = place[:-1] if place and place[-1] == item["loc"][-1] else place
        text = _words(item, form, what)
        key = (path + place, at_key)
        if item["type"] == "missing" and key in found:
            found[key] += "; " + text
        else:
            found.setdefault(key, text)
    return [(place, text, at_key) for (place, at_key), text in found.items()]


def _inside(value: Any, loc: tuple[Any, ...]) -> Path:
    """Return the part of a pydantic location that is a path in the value: names of union branches are left out."""
    place: list[str | int] = []
    for step in loc:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list | tuple) and isinstance(step, int) and step < len(value):
            value = value[step]
        elif isinstance(value, Mapping) and step == "[key]":
            break
        else:
            continue
        place.append(step)
    return tuple(place)


def _words(item: Any, form: type[BaseModel], what: str) -> str:
    kind, given, context = item["type"], item["input"], item.get("ctx", {})
    name = str(item["loc"][-1]) if item["loc"] else what
    if kind == "extra_forbidden":
        inner = "link change" if form in (TopologyForm, FunctionForm) and len(item["loc"]) > 1 else what
        keys = _keys(LinkForm) if inner == "link change" else _keys(form)
        return unknown(name, keys, f"key of {inner}")
    if kind == "missing":
        return f"{what} lacks the key '{name}'"
    if kind in ("quantity", "wrap", "axes", "split"):
        return f"{_last_name(item['loc'])}: {context['text']}"
    if kind == "literal_error":
        options = [o.strip(" '") for o in str(context["expected"]).replace(" or ", ",").split(",")]
        return unknown(given, options, name) if isinstance(given, str) else \
            f"{name}: {quote(given)} is not one of {', '.join(options)}"
    wanted = {"int_type": "a whole number", "bool_type": "true or false", "string_type": "a text", "list_type": "a list",
              "dict_type": "a mapping", "model_type": "a mapping", "model_attributes_type": "a mapping", "float_type": "a number",
              "int_from_float": "a whole number", "float_parsing": "a number", "bool_parsing": "true or false",
              "greater_than_equal": f"{context.get('ge')} or more", "greater_than": f"above {context.get('gt')}",
              "less_than_equal": f"{context.get('le')} or less", "finite_number": "a finite number",
              "too_short": "a list with something in it", "too_long": "a list of at most 16"}.get(kind)
    return f"{_last_name(item['loc']) or what}: {quote(given)} is not {wanted or item['msg'].lower()}"


def _last_name(loc: tuple[Any, ...]) -> str:
    names = [str(step) for step in loc if isinstance(step, str) and step.isidentifier() and step not in ("str", "bool", "int")]
    return names[-1] if names else ""


def _keys(form: type[BaseModel]) -> list[str]:
    return [f.alias or name for name, f in form.model_fields.items()]
