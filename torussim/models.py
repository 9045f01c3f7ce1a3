"""Transformers: their sizes, as data; the module knows nothing of chips, shardings and programs.

A preset is data/models/<name>.yaml, where every number has its source. A user-defined model is a mapping of the same form (with
`base` it needs only the fields that differ), or a Hugging Face config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from torussim import configs, files, resolve, sourced
from torussim.clashes import clashes
from torussim.described import Key, plain
from torussim.errors import Found, ModelError, TorusSimError
from torussim.model_fields import FIELDS, NEEDED
from torussim.sourced import Keys, quote

NAMES = {other: name for (name,), key in FIELDS.items() for other in key.also}  # of Hugging Face -> ours
KNOWN: Mapping[Keys, Key] = {(other,): key for path, key in FIELDS.items() for other in (*path, *key.also)}


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
    remarks: tuple[str, ...] = field(default=(), repr=False, compare=False)  # for the report
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)  # field -> text

    @property
    def value(self) -> int:
        """Return the width of the value of a head."""
        return self.d_value or self.d_head

    @property
    def d_expert(self) -> int:
        """Return F of an expert."""
        return self.expert_d_ff or self.d_ff

    @cached_property
    def kinds(self) -> tuple[Kind, ...]:
        """The kind of each layer, in order."""
        dense, full = set(self.dense_layers), set(self.full_layers)
        return tuple(Kind(bool(self.experts) and i not in dense, None if i in full else self.window) for i in range(self.layers))

    @property
    def mixtures(self) -> int:
        """Return the number of layers whose FFN is a mixture of experts."""
        return self.layers - len(self.dense_layers) if self.experts else 0

    @property
    def counted(self) -> int:
        """Return the number of parameters in matrices, biases and learned positions, heads not padded.

        Embedding and, unless tied, logits: V E each. A layer: attention, and the FFN, or the router and all experts. Norms
        are left out: below 0.1 %.
        """
        ends = (1 if self.tied else 2) * self.vocabulary * self.d_model + self.positions * self.d_model
        return ends + self._layers(self.experts or 0)

    @property
    def active(self) -> int:
        """Return the number of parameters that a token uses: all of `counted` but the experts of others and the look-up.

        The matrix of the logits counts once, also if it is that of the embedding; rows of the embedding and of positions do not.
        """
        return self.vocabulary * self.d_model + self._layers(self.experts_per_token)

    @property
    def used_parameters(self) -> float:
        """Return the number of parameters that MFU counts: nominal, of a mixture those that a token uses."""
        return self.active_parameters or (float(self.active) if self.experts else self.parameters)

    @property
    def cached(self) -> int:
        """Return the elements of the cache that a layer keeps of a token: K and V of each KV head, or the compressed ones."""
        if self.latent:
            return self.latent + self.latent_rope
        return self.kv_heads * (self.d_head + self.value)

    def _layers(self, experts: int) -> int:
        """Return the number of parameters of all layers, with so many routed experts."""
        routed = (experts + self.shared_experts) * self._ffn(self.d_expert) + (self.experts or 0) * self.d_model
        return self.layers * self._attention + (self.layers - self.mixtures) * self._ffn(self.d_ff) + self.mixtures * routed

    @property
    def _attention(self) -> int:
        """The number of parameters of attention in a layer.

        W_Q and W_O: E x H Q and H V x E; W_K and W_V: E x Q and E x V for each KV head. Latent: W_Q through the compressed Q if
        there is one; E x (latent + rotated), and latent x (Q - rotated + V) for each head.
        """
        wide, value, biases = self.heads * self.d_head, self.heads * self.value, 0
        if self.latent:
            q = self.latent_q * (self.d_model + wide) if self.latent_q else self.d_model * wide
            kv = self.d_model * (self.latent + self.latent_rope) + self.latent * (wide - self.heads * self.latent_rope + value)
        else:
            q, kv = self.d_model * wide, self.d_model * self.cached
            biases += wide + self.cached if "qkv" in self.biases else 0
        biases += self.d_model if "o" in self.biases else 0
        return q + kv + value * self.d_model + biases

    def _ffn(self, width: int) -> int:
        """Return the number of parameters of a dense FFN or of an expert: two or three matrices, E x width each."""
        matrices = (3 if self.gated else 2) * self.d_model * width
        return matrices + (((2 if self.gated else 1) * width + self.d_model) if "ffn" in self.biases else 0)

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
        """Return the number of KV heads that run on a number of chips."""
        return self.kv_of(self.padded(chips))

    def kv_of(self, heads: int) -> int:
        """Return the number of KV heads that run with so many query heads; with multihead attention they are padded too.

        A latent is that of one KV head: all heads share it.
        """
        return 1 if self.latent else heads if self.kv_heads == self.heads else self.kv_heads


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
    if _is_path(name, beside):
        return _of_config(name, beside, most)
    document = files.read(resolve.preset_path("models", name))
    result, mistakes = _read({"name": name, **document.value}, None)
    assert result is not None, f"preset {name}: {mistakes}"
    return result


def _is_path(name: str, beside: Path | None) -> bool:
    """Return whether a name is that of a file or folder: with .json at its end or a / in it, or a folder without a preset."""
    if name.endswith(".json") or "/" in name:
        return True
    try:
        return name not in resolve.preset_names("models") and ((beside or Path()) / name / "config.json").is_file()
    except ValueError:  # NUL in the name
        return False


def _of_config(name: str, beside: Path | None, most: int) -> Model:
    """Return the model of a config.json, or of the folder that holds one; it is named after the folder, or after another file."""
    path = Path(name) if name.endswith(".json") else Path(name) / "config.json"
    whole = (beside or Path()) / path
    config = configs.read(whole, str(path), most)
    title = whole.resolve().parent.name if whole.stem == "config" else whole.stem
    result, mistakes = _read({"name": title or "unnamed", **config.fields, "remarks": config.remarks}, None)
    if result is None:
        raise ModelError(f"{whole}: " + "; ".join(one.text for one in mistakes))
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
        return None, [wrong, *sourced.read(_flat(own), KNOWN, "a model").mistakes]
    return _read(own, base)


def _read(given: Mapping[str, Any], base: Model | None) -> tuple[Model | None, list[Found]]:
    """Return the model of these fields, with the other fields of `base`; or None and the mistakes."""
    read = sourced.read(_flat(given), KNOWN, "a model")
    mistakes = list(read.mistakes)
    ours: dict[str, list[str]] = {}
    for key in given:
        ours.setdefault(NAMES.get(str(key), str(key)), []).append(str(key))
    for both in (names for names in ours.values() if len(names) > 1):
        mistakes.append(Found((both[1],), f"{both[1]}: {both[0]} is given too, which is the same: leave one out", True, "clash"))
    missing = [path[0] for path in NEEDED if path[0] not in ours]
    if missing and base is None:
        text = "missing: give all fields, or those that differ from a base, such as base: palm-540b"
        mistakes.append(Found((), f"{', '.join(missing)} {text}", True, "missing"))
    if mistakes:
        return None, mistakes

    changed = {NAMES.get(path[0], path[0]): value for path, value in read.values.items()}
    sources = {NAMES.get(path[0], path[0]): source for path, source in read.sources.items()}
    if base is None:
        result = Model(**{"name": "unnamed", "parameters": 0.0, **changed, "sources": sources})
    else:
        lists, mistakes = _lists(base, changed)
        if mistakes:
            return None, mistakes
        changed |= lists
        old_sources = {name: source for name, source in base.sources.items() if name not in changed}
        name = f"{base.name}, changed" if changed else base.name
        result = replace(base, **{"name": name, **changed, "sources": {**old_sources, **sources}})
    if "parameters" not in changed and (base is None or result.counted != base.counted):
        sources = {**result.sources, "parameters": "counted in the matrices"}
        result = replace(result, parameters=float(result.counted), sources=sources)
    if base and "active_parameters" not in changed and result.active != base.active:
        sources = {name: source for name, source in result.sources.items() if name != "active_parameters"}
        result = replace(result, active_parameters=None, sources=sources)
    mistakes = clashes(result)
    return (None, mistakes) if mistakes else (result, [])


def _lists(base: Model, changed: Mapping[str, Any]) -> tuple[dict[str, tuple[int, ...]], list[Found]]:
    """Return the lists of layers of a base with another number of layers, and the mistake of a pattern that is not known.

    With fewer layers they are those that are left. With more, leading layers remain the same.
    """
    layers, lists = changed.get("layers", base.layers), dict[str, tuple[int, ...]]()
    for name in ("full_layers", "dense_layers"):
        old: tuple[int, ...] = getattr(base, name)
        if name in changed or layers == base.layers or not old:
            continue
        if layers > base.layers and (name == "full_layers" or old != tuple(range(len(old)))):
            text = f"layers: {base.name} lists its {name} among {base.layers} layers: give {name} too, those among {layers}"
            return {}, [Found(("layers",), text, code="clash")]
        lists[name] = tuple(layer for layer in old if layer < layers)
    return lists, []


def _flat(given: Mapping[str, Any]) -> dict[Keys, Any]:
    return {(str(key),): value for key, value in given.items()}
