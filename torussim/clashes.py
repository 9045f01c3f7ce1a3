"""The contradictions between fields of a model that are valid one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torussim.errors import Found

if TYPE_CHECKING:
    from torussim.models import Model


def clashes(model: Model) -> list[Found]:
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
    return mistakes + [Found((name,), f"{name}: {text}", code="clash") for name, text in _clashes(model)]


def _clashes(model: Model) -> Iterator[tuple[str, str]]:
    """Yield a field of mixtures, windows and latent attention that contradicts another, and the reason."""
    for name, whole in (("full_layers", "window"), ("latent_rope", "latent"), ("latent_q", "latent"), ("dense_layers", "experts"),
                        ("shared_experts", "experts"), ("expert_d_ff", "experts")):
        if getattr(model, name) and not getattr(model, whole):
            yield name, f"the model has no {whole}: give {whole}, or leave {name} out"
    for name, layers in (("full_layers", model.full_layers), ("dense_layers", model.dense_layers)):
        beyond = [layer for layer in layers if layer >= model.layers]
        if beyond:
            yield name, f"layer {beyond[0]} is not there: the model has {model.layers} layers, counted from 0"
    if model.experts is None and model.experts_per_token != 1:
        yield "experts_per_token", "the model has no experts: give experts, or leave experts_per_token out"
    elif model.experts is not None and model.experts_per_token > model.experts:
        yield "experts_per_token", f"a token cannot use {model.experts_per_token} of {model.experts} experts"
    if not model.latent:
        return
    if model.d_value is None:
        yield "latent", "d_value is missing, the width of the values: give one, such as d_value: 128"
    if model.latent_rope >= model.d_head:
        yield "latent_rope", f"the rotated part of {model.latent_rope} leaves nothing of the {model.d_head} of d_head"
    if model.kv_heads != model.heads:
        yield "kv_heads", f"latent attention has as many KV heads as heads: give {model.heads}, not {model.kv_heads}"
