"""The fields of a model: how each is read, and its meaning in one sentence.

Presets, user-defined models, docs/scenario_file.md and the schema for editors use the same table. The module knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from torussim.chips import DTYPE_BYTES
from torussim.described import Key, reads
from torussim.errors import ModelError
from torussim.sourced import Keys, quote

MAX_SIZE: Final = 10**9  # of any one dimension
MAX_PARAMETERS: Final = 1e40  # above the result of any such sizes
MAX_LEADING: Final = 10_000  # leading dense layers
BIASES: Final = ("qkv", "o", "ffn")  # the products that can add a bias
STORED: Final = ("weights", "experts", "embedding", "kv_cache")  # the tensors whose dtype a model can name


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


@reads("a whole number, 0 or more", {"type": "integer", "minimum": 0, "maximum": MAX_SIZE})
def _count(value: Any) -> int:
    return 0 if value == 0 and not isinstance(value, bool) else _whole(value)


@reads("a list of layers, counted from 0", {"type": "array", "items": {"type": "integer", "minimum": 0}})
def _layers(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise ModelError(f"{quote(value)} is not a list of layers, counted from 0, such as [5, 11]", code="value")
    return tuple(sorted({_count(layer) for layer in value}))


@reads("the number of leading layers, or a list of layers, counted from 0",
       {"anyOf": [{"type": "integer", "minimum": 0, "maximum": MAX_LEADING}, _layers.schema]})
def _dense(value: Any) -> tuple[int, ...]:
    if isinstance(value, list | tuple):
        return _layers.read(value)  # type: ignore[no-any-return]
    leading = _count(value)
    if leading > MAX_LEADING:
        raise ModelError(f"{leading} is not a number of leading layers: must be from 0 to {MAX_LEADING}", code="value")
    return tuple(range(leading))


@reads(f"a list of {', '.join(BIASES)}", {"type": "array", "items": {"enum": list(BIASES)}})
def _biases(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or any(one not in BIASES for one in value):
        raise ModelError(f"{quote(value)} is not a list of products with a bias: give some of {', '.join(BIASES)}", code="value")
    return tuple(one for one in BIASES if one in value)


@reads(f"a mapping of {', '.join(STORED)} to dtypes",
       {"type": "object", "properties": {name: {"type": "string"} for name in STORED}, "additionalProperties": False})
def _dtypes(value: Any) -> Mapping[str, str]:
    if not isinstance(value, Mapping) or any(name not in STORED for name in value):
        raise ModelError(f"{quote(value)} is not a mapping of {', '.join(STORED)} to dtypes, such as {{experts: int4}}",
                         code="value")
    for name, dtype in value.items():
        if dtype not in DTYPE_BYTES:
            text = f"{quote(dtype)} is not a dtype: give one of {', '.join(DTYPE_BYTES)}, or one with groups, such as int4/128"
            raise ModelError(text, code="value", path=(name,))
    return dict(value)


@reads("a list of texts", {"type": "array", "items": {"type": "string"}})
def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise ModelError(f"{quote(value)} is not a list of texts", code="value")
    return tuple(value)


FIELDS: Final[Mapping[Keys, Key]] = {
    ("name",): Key(_name, otherwise="`BASE, changed`", example="palm-540b, half as deep",
                   about="The name of the model in reports."),
    ("layers",): Key(_whole, also=("num_hidden_layers", "n_layer"), example=118, about="The number of layers."),
    ("d_model",): Key(_whole, also=("hidden_size", "n_embd", "n_embed"), example=18432,
                      about="The width E of the residual stream."),
    ("d_ff",): Key(_whole, also=("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner"), example=73728,
                   about="The width F of the FFN."),
    ("heads",): Key(_whole, also=("num_attention_heads", "n_head"), example=48, about="The number H of query heads."),
    ("kv_heads",): Key(_whole, also=("num_key_value_heads", "num_kv_heads"), example=1,
                       about="The number of KV heads: 1 is multiquery attention, as many as heads is multihead."),
    ("d_head",): Key(_whole, also=("head_dim",), example=256, about="The width Q of a head."),
    ("vocabulary",): Key(_whole, also=("vocab_size",), example=256000, about="The number of words of the vocabulary."),
    ("gated",): Key(_flag, example=True, about="Whether the FFN has three matrices (SwiGLU) in place of two."),
    ("parallel",): Key(_flag, example=True, about="Whether attention and FFN of a block share their input, their outputs added."),
    ("parameters",): Key(_parameters, otherwise="counted in the matrices", example=540_000_000_000,
                         about="The nominal number of parameters, which MFU is counted in."),
    ("tied",): Key(_flag, also=("tie_word_embeddings",), example=True, about="Whether embedding and logits share their matrix."),
    ("padded_heads",): Key(_padded_heads, otherwise="`{}`: no padding", example={"64": 64, "256": 128},
                           about="The number of heads as run, on up to so many chips."),
    ("d_value",): Key(_whole, also=("v_head_dim",), otherwise="d_head", example=128, about="The width of the value of a head."),
    ("window",): Key(_whole, also=("sliding_window",), otherwise="none", example=4096,
                     about="The most tokens that a token attends to, itself included, in the layers that have a window."),
    ("full_layers",): Key(_layers, otherwise="none", example=[5, 11],
                          about="The layers, counted from 0, that attend to the whole context although the model has a window."),
    ("latent",): Key(_whole, also=("kv_lora_rank",), otherwise="none: K and V are kept", example=512,
                     about="The width of the compressed K and V of a token (latent attention, MLA)."),
    ("latent_rope",): Key(_count, also=("qk_rope_head_dim",), default=0, example=64,
                          about="With latent attention, the width of the rotated part of a key, which all heads share."),
    ("latent_q",): Key(_whole, also=("q_lora_rank",), otherwise="none: Q is not compressed", example=1536,
                       about="With latent attention, the width of the compressed Q of a token."),
    ("experts",): Key(_whole, also=("num_experts", "num_local_experts", "n_routed_experts"), example=256,
                      otherwise="none: the FFN is dense",
                      about="The number of routed experts of a layer: the model is a mixture of experts."),
    ("experts_per_token",): Key(_whole, also=("num_experts_per_tok",), default=1, example=8,
                                about="The number of routed experts that a token uses."),
    ("shared_experts",): Key(_count, also=("n_shared_experts",), default=0, example=1,
                             about="The number of experts that every token uses beside the routed ones."),
    ("expert_d_ff",): Key(_whole, also=("moe_intermediate_size",), otherwise="d_ff", example=2048,
                          about="The width F of an expert."),
    ("dense_layers",): Key(_dense, also=("first_k_dense_replace",), otherwise="none", example=3,
                           about="The layers whose FFN is dense although the model has experts: so many leading ones, or a "
                                 "list of layers, counted from 0."),
    ("biases",): Key(_biases, otherwise="none", example=["qkv"],
                     about="The products that add a bias: of Q, K and V; O; the FFN."),
    ("qk_norm",): Key(_flag, default=False, example=True, about="Whether Q and K of each head are normalised."),
    ("positions",): Key(_count, default=0, example=2050,
                        about="The number of learned positions, each a row beside the embedding."),
    ("max_context",): Key(_whole, also=("max_position_embeddings",), otherwise="not known", example=131072,
                          about="The longest context that the model was made for."),
    ("dtypes",): Key(_dtypes, otherwise="none: those of the layout", example={"experts": "int4"},
                     about="The dtypes in which the model is stored: of the weights, of the experts and of embedding and logits "
                           "where they differ from the weights, and of the KV cache."),
    ("active_parameters",): Key(_parameters, otherwise="counted in the matrices that a token uses", example=37_000_000_000,
                                about="The nominal number of parameters that a token uses, which MFU is counted in; all of a "
                                      "dense model."),
    ("remarks",): Key(_texts, otherwise="none", example=["the key use_mrope of config.json is not looked at"],
                      about="Texts that the report repeats, such as what a config.json says and this model leaves out."),
}
BASE: Final = Key(_name, example="palm-540b",
                  about="The preset, or the path of a config.json or of its folder, that has the other fields; without one, "
                        "every field without a default is needed.")
NEEDED: Final = [(name,) for name in ("layers", "d_model", "d_ff", "heads", "kv_heads", "d_head", "vocabulary", "gated",
                                      "parallel", "tied")]
