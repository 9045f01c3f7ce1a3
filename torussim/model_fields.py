"""The fields of a model: how each is read, and its meaning in one sentence.

Presets, user-defined models, docs/scenario_file.md and the schema for editors use the same table. The module knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torussim.described import Key, reads
from torussim.errors import ModelError
from torussim.sourced import Keys, quote

MAX_SIZE: Final = 10**9  # of any one dimension
MAX_PARAMETERS: Final = 1e40  # above the result of any such sizes


@reads("a text", {"type": "string", "minLength": 1})
def _name(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ModelError(f"{quote(value)} is not a name", code="value")
    return value


@reads(f"a whole number from 1 to {MAX_SIZE:,}", {"type": "integer", "minimum": 1, "maximum": MAX_SIZE})
def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelError(f"{quote(value)} is not a whole number", code="value")
    if not 1 <= value <= MAX_SIZE or value != int(value):
        raise ModelError(f"{quote(value)} is not a whole number from 1 to {MAX_SIZE:.0e}", code="value")
    return int(value)


@reads("true or false", {"type": "boolean"})
def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ModelError(f"{quote(value)} is neither true nor false", code="value")
    return value


@reads("a number, 1 or more", {"type": "number", "minimum": 1, "maximum": MAX_PARAMETERS})
def _parameters(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MAX_PARAMETERS:
        raise ModelError(f"{quote(value)} is not a number of parameters: must be from 1 to {MAX_PARAMETERS:.0e}", code="value")
    return float(value)


@reads("a mapping of numbers of chips to heads",
       {"type": "object", "patternProperties": {"^[0-9]+$": _whole.schema}, "additionalProperties": False})
def _padded_heads(value: Any) -> Mapping[int, int]:
    if not isinstance(value, Mapping):
        raise ModelError(f'{quote(value)} is not a mapping of numbers of chips to heads, such as {{"64": 64}}', code="value")
    return {_whole(_unquoted(chips)): _whole(heads) for chips, heads in value.items()}


def _unquoted(key: Any) -> Any:  # keys are texts in YAML and JSON
    return int(key) if isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 20 else key


FIELDS: Final[Mapping[Keys, Key]] = {
    ("name",): Key(_name, otherwise="`BASE, changed`", example="palm-540b, half as deep",
                   about="The name of the model in reports."),
    ("layers",): Key(_whole, example=118, about="The number of layers."),
    ("d_model",): Key(_whole, example=18432, about="The width E of the residual stream."),
    ("d_ff",): Key(_whole, example=73728, about="The width F of the FFN."),
    ("heads",): Key(_whole, example=48, about="The number H of query heads."),
    ("kv_heads",): Key(_whole, example=1,
                       about="The number of KV heads: 1 is multiquery attention, as many as heads is multihead."),
    ("d_head",): Key(_whole, example=256, about="The width Q of a head."),
    ("vocabulary",): Key(_whole, example=256000, about="The number of words of the vocabulary."),
    ("gated",): Key(_flag, example=True, about="Whether the FFN has three matrices (SwiGLU) in place of two."),
    ("parallel",): Key(_flag, example=True, about="Whether attention and FFN of a block share their input, their outputs added."),
    ("parameters",): Key(_parameters, otherwise="counted in the matrices", example=540_000_000_000,
                         about="The nominal number of parameters, which MFU is counted in."),
    ("tied",): Key(_flag, example=True, about="Whether embedding and logits share their matrix."),
    ("padded_heads",): Key(_padded_heads, otherwise="`{}`: no padding", example={"64": 64, "256": 128},
                           about="The number of heads as run, on up to so many chips."),
}
BASE: Final = Key(_name, example="palm-540b",
                  about="The preset, or the path of a config.json, that has the other fields; without one, every field without a "
                        "default is needed.")
NEEDED: Final = [path for path in FIELDS if path[0] not in ("name", "parameters", "padded_heads")]
