"""The presets of today's models agree with their config.json files, and their counts and caches with published ones.

The counts here are by hand from the sizes, without the package's own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from torussim.layouts import Layout
from torussim.memory import memory
from torussim.models import Model, model
from torussim.workload import Workload

CONFIGS = Path(__file__).parent / "configs"
PUBLISHED = YAML(typ="safe").load(CONFIGS / "published.yaml")
TODAY = ["deepseek-v3", "gemma-3-27b", "gpt-oss-120b", "llama-4-maverick", "mixtral-8x22b", "mixtral-8x7b", "qwen3-235b-a22b",
         "qwen3-30b-a3b", "qwen3-32b"]
MIXTURES = sorted({*TODAY} - {"gemma-3-27b", "qwen3-32b"})


def config(name: str) -> dict[str, Any]:
    """Return the config.json of a model, of one with images the part that is its language model."""
    whole = json.loads((CONFIGS / f"{name}.json").read_text())
    return dict(whole.get("text_config", whole))


def attention(m: Model) -> int:
    """Return the parameters of the matrices of one layer's attention."""
    value = m.d_value or m.d_head
    output = m.heads * value * m.d_model
    if m.latent is None:
        return m.d_model * m.heads * m.d_head + m.d_model * m.kv_heads * (m.d_head + value) + output
    query = m.d_model * m.heads * m.d_head
    if m.latent_q is not None:
        query = m.d_model * m.latent_q + m.latent_q * m.heads * m.d_head
    down = m.d_model * (m.latent + m.latent_rope)
    up = m.latent * m.heads * (m.d_head - m.latent_rope + value)
    return query + down + up + output


def ffn(m: Model, layer: int, routed: int) -> int:
    """Return the parameters of the matrices of one layer's FFN that are in all experts or in `routed` of them."""
    matrices = 3 if m.gated else 2
    if m.experts is None or layer in m.dense_layers:
        return matrices * m.d_model * m.d_ff
    return m.d_model * m.experts + (routed + m.shared_experts) * matrices * m.d_model * (m.expert_d_ff or m.d_ff)


def total(m: Model) -> int:
    """Return the parameters of all matrices."""
    tables = (1 if m.tied else 2) * m.vocabulary * m.d_model
    return tables + sum(attention(m) + ffn(m, layer, m.experts or 0) for layer in range(m.layers))


def active(m: Model) -> int:
    """Return the parameters of the matrices that multiply a token: the unembedding, but not the look-up of the embedding."""
    return m.vocabulary * m.d_model + sum(attention(m) + ffn(m, layer, m.experts_per_token) for layer in range(m.layers))


@pytest.mark.parametrize("name", TODAY)
def test_the_sizes_of_a_preset_add_up_to_the_published_total(name: str) -> None:
    preset = model(name)
    assert preset.parameters == PUBLISHED[name]["parameters"] or name == "gemma-3-27b"  # which counts its projection of images
    assert total(preset) == pytest.approx(PUBLISHED[name]["parameters"], rel=0.01)
    assert total(preset) == pytest.approx(PUBLISHED[name]["counted"], rel=4e-4) and total(preset) <= PUBLISHED[name]["counted"]


@pytest.mark.parametrize("name", MIXTURES)
def test_the_sizes_of_a_preset_add_up_to_the_published_active_parameters(name: str) -> None:
    preset = model(name)
    assert preset.active_parameters == PUBLISHED[name]["active"] and not preset.tied
    others = (PUBLISHED[name]["tables"] - 1) * preset.vocabulary * preset.d_model  # publishers count what a token looks up or not
    assert active(preset) + others == pytest.approx(PUBLISHED[name]["active"], rel=0.025)


@pytest.mark.parametrize("name", ["deepseek-v3", "qwen3-235b-a22b", "gpt-oss-120b"])
def test_active_parameters_without_the_embedding_are_the_published_ones_within_2_5_percent(name: str) -> None:
    assert active(model(name)) == pytest.approx(PUBLISHED[name]["active"], rel=0.025)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_total_is_that_of_the_file(name: str) -> None:
    """What transformers makes of the file is what its publisher says, so that the file is the right one."""
    said = PUBLISHED[name]
    assert (CONFIGS / f"{name}.json").is_file() and said["file"]
    if "parameters" in said:
        assert said["counted"] == pytest.approx(said["parameters"], rel=0.01) and said["source"]


def test_every_config_has_its_published_counts() -> None:
    assert {file.stem for file in CONFIGS.glob("*.json")} == {*PUBLISHED}
    assert sum("parameters" in said for said in PUBLISHED.values()) >= 30


# The fields of a preset and the keys of its config.json, by hand.

SIZES = {"layers": "num_hidden_layers", "d_model": "hidden_size", "d_ff": "intermediate_size", "heads": "num_attention_heads",
         "kv_heads": "num_key_value_heads", "vocabulary": "vocab_size", "max_context": "max_position_embeddings",
         "tied": "tie_word_embeddings", "d_head": "head_dim", "experts_per_token": "num_experts_per_tok",
         "d_value": "v_head_dim", "latent": "kv_lora_rank", "latent_rope": "qk_rope_head_dim", "latent_q": "q_lora_rank",
         "shared_experts": "n_shared_experts", "expert_d_ff": "moe_intermediate_size"}
MORE: dict[str, dict[str, Any]] = {
    "deepseek-v3": {"d_head": 128 + 64, "experts": 256, "dense_layers": (0, 1, 2)},
    "gemma-3-27b": {"window": 1024, "full_layers": (5, 11, 17, 23, 29, 35, 41, 47, 53, 59), "vocabulary": 262208, "tied": True,
                    "max_context": 131072},
    "gpt-oss-120b": {"window": 128, "full_layers": tuple(range(1, 36, 2)), "experts": 128, "biases": ("qkv", "o", "ffn")},
    "llama-4-maverick": {"d_ff": 16384, "expert_d_ff": 8192, "experts": 128, "shared_experts": 1, "window": 8192, "tied": False,
                         "dense_layers": tuple(range(0, 48, 2)), "full_layers": tuple(range(3, 48, 4))},
    "mixtral-8x7b": {"experts": 8, "d_head": 128},
    "mixtral-8x22b": {"experts": 8, "d_head": 128},
    "qwen3-235b-a22b": {"experts": 128, "qk_norm": True},
    "qwen3-30b-a3b": {"experts": 128, "qk_norm": True},
    "qwen3-32b": {"qk_norm": True},
}


@pytest.mark.parametrize("name", TODAY)
def test_the_fields_of_a_preset_are_those_of_its_config(name: str) -> None:
    preset, keys = model(name), config(name)
    fields = {field: keys[key] for field, key in SIZES.items() if keys.get(key) is not None} | MORE[name]
    assert {field: getattr(preset, field) for field in fields} == fields
    assert {"experts", "window", "latent"} & {*fields} == {one for one in ("experts", "window", "latent") if getattr(preset, one)}


def test_the_layers_of_gpt_oss_alternate_as_its_config_says() -> None:
    kinds = ["sliding_attention" if kind.window else "full_attention" for kind in model("gpt-oss-120b").kinds]
    assert kinds == config("gpt-oss-120b")["layer_types"]


# Bytes of the cache by hand, in bf16 on one chip

CACHE = {"qwen3-32b": 64 * 2 * 8 * 128 * 2, "qwen3-30b-a3b": 48 * 2 * 4 * 128 * 2, "qwen3-235b-a22b": 94 * 2 * 4 * 128 * 2,
         "mixtral-8x7b": 32 * 2 * 8 * 128 * 2}


@pytest.mark.parametrize("name", CACHE)
def test_the_cache_of_a_token_with_grouped_attention_is_as_by_hand(name: str) -> None:
    workload = Workload(phase="prefill", batch=1, context=1000)
    assert memory(model(name), Layout(), workload, {"x": 1, "y": 1, "z": 1}, 1e15).kv_cache == 1000 * CACHE[name]
