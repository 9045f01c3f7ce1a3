"""Transformers: their sizes, as data; the module knows nothing of chips, shardings and programs.

A preset is data/models/<name>.yaml, where every number has its source. A user-defined model is a mapping of the same form (with
`base` it needs only the fields that differ), or a Hugging Face config.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from torussim import files, resolve, sourced
from torussim.described import plain
from torussim.errors import FileError, Found, ModelError, TorusSimError
from torussim.model_fields import FIELDS, NEEDED
from torussim.sourced import Keys, quote

# Families of Hugging Face models with equal fields in config.json and similar blocks; our fields for each.
_FAMILIES = ("llama", "mistral", "qwen2")
_CONFIG_KEYS = {
    "layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "d_ff": "intermediate_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "d_head": "head_dim",
    "vocabulary": "vocab_size",
    "tied": "tie_word_embeddings",
}
_CONFIG_DEFAULTS = {
    "num_key_value_heads": "num_attention_heads",
    "head_dim": "hidden_size / num_attention_heads",
    "tie_word_embeddings": "no tie_word_embeddings",
}
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


class Kind(NamedTuple):
    """A kind of layer: whether its FFN is a mixture of experts, and the window of its attention, in tokens (None: none)."""

    mixture: bool
    window: int | None


@dataclass(frozen=True)
class Model:
    """A decoder-only transformer. Every block has attention and an FFN, one after the other or in parallel."""

    name: str
    layers: int
    d_model: int  # E
    d_ff: int  # F, of a dense layer
    heads: int  # H, of the queries
    kv_heads: int  # 1: multiquery; heads: multihead, and latent attention
    d_head: int  # Q, of queries and keys; with latent attention the rotated part included
    vocabulary: int
    gated: bool  # the FFN has three matrices (SwiGLU), otherwise two
    parallel: bool  # attention and FFN of a block share their input, and their outputs are added
    parameters: float  # the nominal count
    tied: bool  # embedding and logits share their matrix
    padded_heads: Mapping[int, int] = field(default_factory=dict, hash=False)  # up to this number of chips -> heads that run
    d_value: int | None = None  # width of the value of a head; None: d_head
    window: int | None = None  # the most tokens that a token attends to, itself included; None: all
    full_layers: tuple[int, ...] = ()  # the layers, counted from 0, that have no window although the model has one
    latent: int | None = None  # width of the compressed K and V of a token (latent attention, MLA); None: K and V are kept
    latent_rope: int = 0  # with `latent`: width of the rotated part of a key, which all heads share
    latent_q: int | None = None  # with `latent`: width of the compressed Q of a token; None: Q is not compressed
    experts: int | None = None  # routed experts of a layer; None: the FFN is dense
    experts_per_token: int = 1  # routed experts of a token
    shared_experts: int = 0  # experts of every token, beside the routed ones
    expert_d_ff: int | None = None  # F of an expert; None: d_ff
    dense_layers: tuple[int, ...] = ()  # the layers, counted from 0, whose FFN is dense although the model has experts
    biases: tuple[str, ...] = ()  # of "qkv", "o", "ffn": the products that add a bias
    qk_norm: bool = False  # whether Q and K of each head are normalised
    positions: int = 0  # learned positions: rows of E beside the embedding
    max_context: int | None = None  # tokens that the model was made for; None: not known
    dtypes: Mapping[str, str] = field(default_factory=dict, hash=False)  # stored: "weights", "experts", "embedding", "kv_cache"
    active_parameters: float | None = None  # the nominal count of those that a token uses, for MFU; None: all (dense)
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)  # field -> text

    @property
    def value(self) -> int:
        """Return the width of the value of a head."""
        return self.d_value or self.d_head

    @property
    def d_expert(self) -> int:
        """Return F of an expert."""
        return self.expert_d_ff or self.d_ff

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Return the kind of each layer, in order."""
        return tuple(Kind(bool(self.experts) and i not in self.dense_layers, None if i in self.full_layers else self.window)
                     for i in range(self.layers))

    @property
    def counted(self) -> int:
        """Return the number of parameters in the matrices, heads not padded.

        Embedding and, unless tied, logits: V E each. A layer: W_Q and W_O, E H Q each; W_K and W_V, E Q for each KV
        head; two or three matrices of the MLP, E F each. Norms, biases, learned positions are left out: below 0.1 %.
        """
        attention = 2 * self.d_model * (self.heads + self.kv_heads) * self.d_head
        mlp = (3 if self.gated else 2) * self.d_model * self.d_ff
        return self.layers * (attention + mlp) + (1 if self.tied else 2) * self.vocabulary * self.d_model

    def padded(self, chips: int) -> int:
        """Return the number of query heads that run on a number of chips.

        That is the entry of `padded_heads` for the fewest chips that are at least `chips`; beyond the last entry, the last.

        >>> palm = model("palm-540b")
        >>> palm.heads, palm.padded(16), palm.padded(64), palm.padded(65), palm.padded(256)
        (48, 64, 64, 128, 128)
        """
        if not self.padded_heads:
            return self.heads
        reach = min((most for most in self.padded_heads if most >= chips), default=max(self.padded_heads))
        return self.padded_heads[reach]

    def padded_kv(self, chips: int) -> int:
        """Return the number of KV heads that run on a number of chips; with multihead attention they are padded too.

        A latent is that of one KV head: all heads share it.
        """
        return 1 if self.latent else self.padded(chips) if self.kv_heads == self.heads else self.kv_heads


def model(given: str | Mapping[str, Any], /, beside: Path | None = None, most: int = 0, **changes: Any) -> Model:
    """Return a model: a preset by its name, that of a config.json by its path, or that of a mapping of fields.

    Without `parameters` the matrices are counted, unless the base has just as many, whose nominal number then stays. Without
    `padded_heads` there is no padding.

    Parameters
    ----------
    given
        A preset, a path that ends in .json, or a mapping of fields (docs/scenario_file.md, model): all of them, or `base`, a
        preset or a path, and those that differ from it.
    beside
        The folder that a path is relative to; by default the working folder.
    most
        The bytes that a file may have, where that is more than files.LIMITS.
    **changes
        Fields that differ from those given.

    Returns
    -------
    Model
        Its sizes.

    Raises
    ------
    NameError_
        For an unknown preset.
    ModelError
        For wrong fields, all in one text, and for a config.json that cannot be read.

    Examples
    --------
    >>> model("palm-540b", layers=8).parameters
    41032876032.0
    """
    if isinstance(given, str):
        result, mistakes = _read(changes, _named(given, beside, most))
    else:
        result, mistakes = _parse(given, changes, beside, most)
    if result is None:
        raise ModelError("model: " + "; ".join(one.text for one in mistakes), code=mistakes[0].code, path=mistakes[0].path)
    return result


def model_mistakes(given: Any, beside: Path | None = None, most: int = 0) -> list[Found]:
    """Return all mistakes of a mapping for `model`."""
    return _parse(given, {}, beside, most)[1]


def describe(model: Model) -> dict[str, Any]:
    """Return plain JSON data from which `model` makes an equal model with the same sources."""
    values = {entry.name: getattr(model, entry.name) for entry in fields(model) if entry.name != "sources"}
    values["padded_heads"] = {str(chips): heads for chips, heads in model.padded_heads.items()}
    rare = {path[0]: key.default for path, key in FIELDS.items() if path not in NEEDED and path[0] != "padded_heads"}
    return {name: sourced.show(plain(value), model.sources.get(name)) for name, value in values.items()
            if name not in rare or value not in (rare[name], (), {})}


def _named(name: str, beside: Path | None, most: int = 0) -> Model:
    if name.endswith(".json"):
        return _read_config(name, beside, most)
    document = files.read(resolve.preset_path("models", name))
    result, mistakes = _read({"name": name, **document.value}, None)
    assert result is not None, f"preset {name}: {mistakes}"
    return result


def _parse(given: Any, changes: Mapping[str, Any], beside: Path | None, most: int = 0) -> tuple[Model | None, list[Found]]:
    """Return the model of a mapping of fields that can have a base; or None and the mistakes."""
    if not isinstance(given, Mapping):
        return None, [Found((), f"{quote(given)} is neither the name of a model, nor a path, nor a mapping of fields")]
    own = {key: value for key, value in {**given, **changes}.items() if key != "base"}
    name = changes.get("base", given.get("base"))
    try:
        if name is not None and not isinstance(name, str):
            raise ModelError(f"{quote(name)} is neither the name of a model nor a path")
        base = None if name is None else _named(name, beside, most)
    except TorusSimError as error:
        wrong = Found(("base",), f"base: {error}", code=error.code)
        return None, [wrong, *sourced.read(_flat(own), FIELDS, "a model").mistakes]
    return _read(own, base)


def _read(given: Mapping[str, Any], base: Model | None) -> tuple[Model | None, list[Found]]:
    """Return the model of these fields, with the other fields of `base`; or None and the mistakes."""
    flat = _flat(given)
    read = sourced.read(flat, FIELDS, "a model")
    mistakes = list(read.mistakes)
    missing = [path[0] for path in NEEDED if path not in flat]
    if missing and base is None:
        text = "missing: give all fields, or those that differ from a base, such as base: palm-540b"
        mistakes.append(Found((), f"{', '.join(missing)} {text}", True, "missing"))
    if mistakes:
        return None, mistakes

    changed = {path[0]: value for path, value in read.values.items()}
    sources = {path[0]: source for path, source in read.sources.items()}
    if base is None:
        result = Model(**{"name": "unnamed", "parameters": 0.0, **changed, "sources": sources})
    else:
        old_sources = {name: source for name, source in base.sources.items() if name not in changed}
        name = f"{base.name}, changed" if changed else base.name
        result = replace(base, **{"name": name, **changed, "sources": {**old_sources, **sources}})
    if "parameters" not in changed and (base is None or result.counted != base.counted):
        sources = {**result.sources, "parameters": "counted in the matrices"}
        result = replace(result, parameters=float(result.counted), sources=sources)
    mistakes = _unfitting(result)
    return (None, mistakes) if mistakes else (result, [])


def _flat(given: Mapping[str, Any]) -> dict[Keys, Any]:
    return {(str(key),): value for key, value in given.items()}


def _unfitting(model: Model) -> list[Found]:
    """Return the contradictions between fields that are valid one by one."""
    if model.heads % model.kv_heads:
        text = f"kv_heads: {model.heads} heads are not a multiple of {model.kv_heads} KV heads"
        return [Found(("kv_heads",), text, code="clash")]
    mistakes: list[Found] = []
    for chips, heads in model.padded_heads.items():
        text = f"padded_heads: {heads} heads on up to {chips} chips are"
        if heads < model.heads:
            reason = f"fewer than the {model.heads} of the model: give {{}} for no padding"
            mistakes.append(Found(("padded_heads",), f"{text} {reason}", code="clash"))
        elif model.kv_heads != model.heads and heads % model.kv_heads:
            mistakes.append(Found(("padded_heads",), f"{text} not a multiple of the {model.kv_heads} KV heads", code="clash"))
    return mistakes


def _read_config(name: str, beside: Path | None, most: int) -> Model:
    """Return the model of a Hugging Face config.json, named after its folder, or after the file if that has another name.

    A sliding window of attention is ignored: attention reads the whole context.
    """
    path = (beside or Path()) / name
    config = _read_json(path, most)
    experts = next((key for key in _EXPERTS if config.get(key) is not None), None)
    if experts is not None:
        raise ModelError(f"{path}: {experts} is given: mixtures of experts cannot be read, only dense models")
    if config.get("model_type") not in _FAMILIES:
        family = quote(config.get("model_type"))
        raise ModelError(f"{path}: model_type {family} cannot be read: only {', '.join(_FAMILIES)}")

    title = path.resolve().parent.name if path.stem == "config" else path.stem
    given: dict[str, Any] = {"name": title or "unnamed", "gated": True, "parallel": False}
    values: dict[str, Any] = {}  # by their names in the file
    mistakes = []
    for field_name, key in _CONFIG_KEYS.items():
        if config.get(key) is not None:
            try:
                values[key] = FIELDS[field_name,].read(config[key])
            except ModelError as error:
                mistakes.append(f"{key}: {error}")
        elif key not in _CONFIG_DEFAULTS:
            mistakes.append(f"{key} is missing")
    if not mistakes:
        width, heads = values["hidden_size"], values["num_attention_heads"]
        defaults = {"num_key_value_heads": heads, "head_dim": width // heads, "tie_word_embeddings": False}
        if "head_dim" not in values and width % heads:
            reason = f"hidden_size {width} is not a multiple of num_attention_heads {heads}"
            mistakes.append(f"head_dim is missing, and {reason}")
        for field_name, key in _CONFIG_KEYS.items():
            source = key if key in values else _CONFIG_DEFAULTS[key]
            given[field_name] = {"value": values.get(key, defaults.get(key)), "source": f"{name}: {source}"}
    result, others = (None, []) if mistakes else _read(given, None)
    if result is None:
        raise ModelError(f"{path}: " + "; ".join(mistakes + [one.text for one in others]))
    return result


def _read_json(path: Path, most: int) -> dict[str, Any]:
    try:
        value = json.loads(files.contents(path, "model", most).decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}:{error.lineno}:{error.colno}: no JSON: {error.msg}") from None
    except FileError as error:
        raise ModelError(f"{path} {error}", code=error.code) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, NUL in the name, a number of 5000 digits, 1000 brackets
        raise ModelError(f"{path} cannot be read: {error}", code="unreadable") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is no config.json of a model: it must be an object in braces", code="unreadable")
    return value
