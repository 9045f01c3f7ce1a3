"""The fields of a chip: how each is read, and its meaning in one sentence.

Presets, user-defined chips, docs/scenario_file.md and the schema for editors use the same table. The module knows no chip.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from torussim import units
from torussim.described import Key, Reader, of_quantity, reads
from torussim.errors import TorusSimError
from torussim.sourced import Keys, quote

# Dtype of the activations -> the dtypes in which it can be multiplied.
MULTIPLIED_AS = {"bf16": ("bf16",), "fp8": ("fp8", "bf16"), "int8": ("int8", "bf16"), "int4": ("int4", "int8", "bf16")}
WRAP_RULES = ("every_axis_multiple_of", "axis_length")
TILE_SIDES = ("rows", "contraction", "columns")
PLAIN: Final[Mapping[str, Any]] = {  # fields that can be left out, in descriptions too
    "validated": "", "cores": 1, "core_bandwidth": 0.0, "part": 1, "step_overhead": 0.0, "bulk_launch": 0.0,
    "low_latency_rate": 1.0, "in_switch_rate": 1.0, "algorithms": {}}
MOST = 10**6  # of a count
_COUNT: Final = {"type": "integer", "minimum": 1, "maximum": MOST}


def _refused(value: Any, why: str) -> TorusSimError:
    return TorusSimError(f"{quote(value)} {why}", code="value")


@reads("a text", {"type": "string", "minLength": 1})
def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _refused(value, "is not a name")
    return value


@reads("a text", {"type": "string"})
def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _refused(value, "is not a text")
    return value


@reads("a mapping of parameters", {"$ref": "#/$defs/uncertainty"})
def _uncertainty(value: Any) -> Any:
    raise _refused(value, "is not a mapping of parameters to standard deviations, such as {launch: 0.3 us}")


@reads("a number from 0 to 1", {"type": "number", "minimum": 0, "maximum": 1})
def _deviation(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise _refused(value, "is not the deviation of a share: must be from 0 to 1")
    return float(value)


@reads("a mapping of dtypes", {"$ref": "#/$defs/flops"})
def _flops(value: Any) -> Any:
    raise _refused(value, "is not a mapping of dtypes to rates, such as {bf16: 275 TFLOP/s}")


@reads(f"a whole number from 1 to {MOST:,}", _COUNT)
def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise _refused(value, "is not a whole number from 1 to 10**6")
    return value


@reads("a number above 0, at most 1", {"type": "number", "exclusiveMinimum": 0, "maximum": 1})
def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        raise _refused(value, "is not a share: must be above 0 and at most 1")
    return float(value)


@reads("a mapping of kinds of collectives to lists of algorithms",
       {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1}})
def _algorithms(value: Any) -> Mapping[str, tuple[str, ...]]:
    """Return lists of algorithms by kind of collective. Their names are checked where one is chosen (`choice`)."""
    if isinstance(value, Mapping) and all(isinstance(names, list | tuple) and names and all(isinstance(n, str) for n in names)
                                          for names in value.values()):
        return {str(kind): tuple(names) for kind, names in value.items()}
    raise _refused(value, "is not a mapping of kinds of collectives to algorithms, such as {all_gather: [one_ring one_way]}")


@reads(f"`always`, `{{{WRAP_RULES[0]}: n}}` or `{{{WRAP_RULES[1]}: n}}`",
       {"anyOf": [{"const": "always"}, *({"type": "object", "properties": {rule: _COUNT}, "required": [rule],
                                          "additionalProperties": False} for rule in WRAP_RULES)]})
def _wrap(value: Any) -> Mapping[str, int] | str:
    if value == "always":
        return "always"
    if isinstance(value, Mapping) and len(value) == 1 and set(value) <= set(WRAP_RULES):
        return {rule: _count(length) for rule, length in value.items()}
    raise _refused(value, "is no rule for wraparounds: write always, {every_axis_multiple_of: 4} or {axis_length: 16}")


@reads(f"a mapping of {', '.join(TILE_SIDES)}", {"type": "object", "properties": dict.fromkeys(TILE_SIDES, _COUNT),
                                                  "required": list(TILE_SIDES), "additionalProperties": False})
def _tile(value: Any) -> tuple[int, int, int]:
    if not isinstance(value, Mapping) or set(value) != set(TILE_SIDES):
        raise _refused(value, "is not a tile: write {rows: 8, contraction: 128, columns: 128}")
    rows, contraction, columns = (_count(value[side]) for side in TILE_SIDES)
    return rows, contraction, columns


@reads(f"a number from 0 to {MOST:,}", {"type": "number", "minimum": 0, "maximum": MOST})
def _rows(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:
        raise _refused(value, "is not a number of rows: must be from 0 to 10**6")
    return float(value)


def _of(unit: str, *, zero: bool = False) -> Reader:
    words, base = units.called(unit)
    return Reader(partial(units.read if zero else units.positive, unit=unit), words + (", 0 or more" if zero else " above 0"),
                  of_quantity(unit, zero=zero), base)


_TIMES: Final = {  # the example and the meaning of each time
    "link_latency": ("1 us", "The latency of one hop."),
    "launch": ("5 us", "The fixed time of a collective on each chip, before its first send."),
    "message": ("0.1 us", "The time of each message of an all-to-all, and of each piece in one, before its first send."),
    "op_overhead": ("1.5 us", "The fixed time of a computation: of a kernel, as a compiler makes it."),
    "loop_step": ("1 us", "The time of each step of a loop."),
    "step_overhead": ("5 ms", "The time before each pass in which the host and the runtime prepare it and the chips wait; once a "
                              "step, with all its microbatches and the passes of a draft model."),
    "bulk_launch": ("24 us", "The time of a collective, besides `launch`, where it takes the protocol for long messages."),
}
_SHARES: Final = {  # the example and the meaning of each share
    "matmul_efficiency": (0.86, "The share of the peak FLOP/s that a matmul of whole tiles reaches."),
    "hbm_efficiency": (0.7, "The share of the HBM bandwidth that is reached."),
    "link_efficiency": (0.9, "The share of the bandwidth of a link that one message reaches."),
    "shared_efficiency": (0.9, "The share of the bandwidth of a link that is reached while several routed messages share it."),
    "low_latency_rate": (0.59, "The share of data in what a link carries by the protocol for short messages, beside flags."),
    "in_switch_rate": (0.73, "The share of the bandwidth of a link at which a switch sums."),
}
FIELDS: Final[Mapping[Keys, Key]] = {
    ("name",): Key(_name, otherwise="`BASE, changed`", example="tpu-v4 at 1.2 GHz", about="The name of the chip in reports."),
    ("flops",): Key(_flops, example={"bf16": "275 TFLOP/s"}, about="The peak FLOP rate for each dtype of activations."),
    **{("flops", dtype): Key(_of("FLOP/s"), otherwise="none: runs at the rate of the next wider dtype" if dtype != "bf16" else "",
                             example="275 TFLOP/s",
                             about=f"The peak FLOP rate for {dtype} activations.") for dtype in MULTIPLIED_AS},
    ("hbm_bytes",): Key(_of("B"), example="32 GiB", about="The size of HBM."),
    ("on_chip_bytes",): Key(_of("B", zero=True), example="128 MiB", about="The size of the memory on the chip, beside HBM."),
    ("hbm_bandwidth",): Key(_of("B/s"), example="1.2 TB/s", about="The bandwidth of HBM."),
    ("link_bandwidth",): Key(_of("B/s"), example="45 GB/s", about="The bandwidth of one direction of one link."),
    ("links",): Key(_count, example=6, about="The number of links of a chip."),
    ("wrap",): Key(_wrap, example={"every_axis_multiple_of": 4},
                   about="The rule that says which axes of a slice have wraparounds."),
    ("tile",): Key(_tile, example={"rows": 8, "contraction": 128, "columns": 128},
                   about="The tile of the matrix unit; a matmul is rounded up to whole tiles."),
    ("load_rows",): Key(_rows, example=64, about="The rows that could go through a tile while its weights are loaded."),
    ("vector_rate",): Key(_of("FLOP/s"), example="4.3 TFLOP/s", about="The rate of elementwise operations."),
    **{(name,): Key(_share, PLAIN.get(name), example=example, about=about) for name, (example, about) in _SHARES.items()},
    **{(name,): Key(_of("s", zero=True), PLAIN.get(name), example=example,
                    about=about) for name, (example, about) in _TIMES.items()},
    ("uncertainty",): Key(_uncertainty, example={"launch": "0.3 us"}, about="One standard deviation of each fitted parameter."),
    **{("uncertainty", name): Key(_deviation, example=0.05, about=f"One standard deviation of {name}.") for name in _SHARES},
    **{("uncertainty", name): Key(_of("s", zero=True), example="0.3 us", about=f"One standard deviation of {name}.")
       for name in _TIMES},
    ("uncertainty", "load_rows"): Key(_rows, example=32, about="One standard deviation of load_rows."),
    ("validated",): Key(_text, "", example="our own microbenchmarks",
                        about="The measured times that the chip was compared with."),
    ("algorithms",): Key(_algorithms, {}, example={"all_gather": ["one_ring one_way"]},
                         about="The algorithms that the library of the chip has of each collective, each with a direction or "
                               "without; `auto` chooses among them."),
    ("cores",): Key(_count, 1, example=2,
                    about="The number of cores that are devices of their own; slices have a node for each."),
    ("core_bandwidth",): Key(_of("B/s"), otherwise="none, where a chip has one core", example="1200 GB/s",
                             about="The bandwidth of one direction of the link between the cores of a chip."),
    ("part",): Key(_count, 1, example=2, about="In the record of a run: the fields are those of one of so many parts of a chip."),
}
BASE: Final = Key(_name, example="tpu-v4",
                  about="The preset that has the other fields; without one, every field without a default is needed.")
_OPTIONAL = (("name",), ("flops",), ("uncertainty",), *((name,) for name in PLAIN))
NEEDED: Final = [path for path in FIELDS if path not in _OPTIONAL and path[1:] in ((), ("bf16",))]
