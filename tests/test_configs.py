"""Files of Hugging Face: every family, windows and mixtures by the rules of its code, quantisation, what is refused or said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim import files
from torussim.chips import DTYPE_BYTES
from torussim.configs import families
from torussim.errors import ModelError, ScenarioError, TorusSimError
from torussim.memory import memory
from torussim.model_fields import FIELDS
from torussim.models import Model, describe, model, model_mistakes
from torussim.result import rates
from torussim.scenario import check, load
from torussim.workload import Workload

HERE = Path(__file__).resolve().parent / "configs"
PUBLISHED: dict[str, Any] = files.read(HERE / "published.yaml").value
# The keys that are not the usual ones, by family, and the constants: gated, parallel, tied, biases where no key says otherwise.
OTHERS = {"bloom": {"num_hidden_layers": "n_layer", "hidden_size": "n_embed", "num_attention_heads": "n_head"},
          "gpt_bigcode": {"num_hidden_layers": "n_layer", "hidden_size": "n_embd", "num_attention_heads": "n_head",
                          "intermediate_size": "n_inner"},
          "opt": {"intermediate_size": "ffn_dim"}, "falcon": {"intermediate_size": "ffn_hidden_size"},
          "llama4": {"intermediate_size": "intermediate_size_mlp"}}
UNGATED = ("falcon", "gpt_neox", "opt", "bloom", "gpt_bigcode", "starcoder2", "nemotron")
PARALLEL = ("falcon", "gpt_neox", "cohere", "cohere2")
TIED = ("smollm3", "gemma", "gemma2", "gemma3", "falcon", "opt", "bloom", "gpt_bigcode", "starcoder2", "cohere", "cohere2")
MULTIHEAD = ("gpt_neox", "opt", "bloom", "deepseek_v2", "deepseek_v3", "kimi_k2")
NO_HEAD_DIM = ("bloom", "gpt_bigcode", "deepseek_v2", "deepseek_v3", "kimi_k2")


def read(folder: Path, config: dict[str, Any]) -> Model:
    """Return the model of a config.json."""
    (folder / "config.json").write_text(json.dumps(config))
    return model(str(folder / "config.json"))


def sizes(rng: Random, family: str) -> dict[str, Any]:
    """Return the keys of random sizes with the names of a family."""
    kv_heads = rng.randint(1, 4)
    heads = kv_heads * rng.randint(1, 4)
    usual = {"num_hidden_layers": rng.randint(1, 40), "hidden_size": heads * rng.choice([8, 16]),
             "intermediate_size": rng.randint(1, 300), "num_attention_heads": heads, "num_key_value_heads": kv_heads,
             "head_dim": rng.randint(1, 64), "vocab_size": rng.randint(1, 9999)}
    if family in (*MULTIHEAD, "gpt_bigcode", "falcon"):
        del usual["num_key_value_heads"]
    if family in NO_HEAD_DIM:
        del usual["head_dim"]
    if family == "bloom":
        del usual["intermediate_size"]
    if family in ("deepseek_v2", "deepseek_v3", "kimi_k2", "glm4_moe", "qwen2_moe", "qwen3_moe", "mixtral", "gpt_oss", "llama4",
                  "granitemoe", "phimoe", "olmoe", "qwen3_vl_moe", "glm4v_moe"):
        usual["num_experts_per_tok"] = 2
    if family == "falcon":
        usual |= {"new_decoder_architecture": True, "num_kv_heads": kv_heads}
    return {"model_type": family, **{OTHERS.get(family, {}).get(key, key): value for key, value in usual.items()}}


@pytest.mark.parametrize("family", families())
def test_the_sizes_of_any_family_are_those_of_its_keys(family: str, tmp_path: Path) -> None:
    rng = Random(family)
    for _ in range(5):
        config = sizes(rng, family)
        got, value = read(tmp_path, config), {usual: config.get(OTHERS.get(family, {}).get(usual, usual)) for usual in (
            "num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "head_dim", "vocab_size")}
        width, heads = value["hidden_size"], value["num_attention_heads"]
        assert (got.layers, got.d_model, got.heads, got.vocabulary) == (value["num_hidden_layers"], width, heads,
                                                                        value["vocab_size"])
        assert got.d_ff == (4 * width if family == "bloom" else value["intermediate_size"])
        assert got.kv_heads == (heads if family in MULTIHEAD else 1 if family == "gpt_bigcode"
                                else config["num_kv_heads" if family == "falcon" else "num_key_value_heads"])
        assert got.d_head == (192 if got.latent else value["head_dim"] or width // heads)
        assert (got.gated, got.parallel, got.tied) == (family not in UNGATED, family in PARALLEL, family in TIED)
        assert got.parameters == got.counted and model(json.loads(json.dumps(describe(got)))) == got
        assert all(text.startswith(str(tmp_path / "config.json")) for field, text in got.sources.items() if field != "parameters")


def test_the_files_of_published_models_give_their_published_counts() -> None:
    """Counts of the matrices leave out norms: below 0.1 %. Active parameters have `tables` of embedding and unembedding."""
    seen = 0
    for name, published in PUBLISHED.items():
        got = model(str(HERE / f"{name}.json"))
        table = got.vocabulary * got.d_model
        assert got.counted == pytest.approx(published["counted"], rel=1.5e-3), name
        if "parameters" in published:
            assert got.counted == pytest.approx(published["parameters"], rel=0.01), name
            seen += 1
        if published.get("tables") == 1:  # as a token uses them: the unembedding, and no look-up
            assert got.active == pytest.approx(published["active"], rel=0.025), name
        elif "active" in published and "qwen1.5" not in name and "glm" not in name:  # rounded to two digits, with other tables
            assert got.active + (published["tables"] - 1) * table == pytest.approx(published["active"], rel=0.03), name
    assert seen >= 20 and {"deepseek-v3", "qwen3-235b-a22b", "gpt-oss-120b"} <= PUBLISHED.keys()


# Families without a file in tests/configs: sizes of the model card, and its parameters in 1e9: all, active with the look-up.
NO_FILE = [
    ({"model_type": "granitemoe", "num_hidden_layers": 32, "hidden_size": 1536, "intermediate_size": 512,
      "num_attention_heads": 24, "num_key_value_heads": 8, "num_local_experts": 40, "num_experts_per_tok": 8, "vocab_size": 49155,
      "tie_word_embeddings": True}, 3.3, None),
    ({"model_type": "phimoe", "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 6400, "num_attention_heads": 32,
      "num_local_experts": 16, "vocab_size": 32064, "attention_bias": True, "lm_head_bias": True}, 41.9, 6.6),
    ({"model_type": "olmoe", "num_hidden_layers": 16, "hidden_size": 2048, "intermediate_size": 1024, "num_attention_heads": 16,
      "num_key_value_heads": 16, "vocab_size": 50304}, 6.92, 1.28),
    ({"model_type": "seed_oss", "num_hidden_layers": 64, "hidden_size": 5120, "intermediate_size": 27648,
      "num_attention_heads": 80, "vocab_size": 155136}, 36.15, None),
    ({"model_type": "smollm3", "num_hidden_layers": 36, "hidden_size": 2048, "intermediate_size": 11008,
      "num_attention_heads": 16, "vocab_size": 128256, "no_rope_layers": [1, 1, 1, 0] * 9,
      "use_sliding_window": False}, 3.08, None),
    ({"model_type": "qwen3_vl_moe", "text_config": {
        "model_type": "qwen3_vl_moe_text", "num_hidden_layers": 94, "hidden_size": 4096, "intermediate_size": 12288,
        "head_dim": 128, "num_attention_heads": 64, "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8,
        "vocab_size": 151936, "moe_intermediate_size": 1536}}, 235.1, 22.2),
]


@pytest.mark.parametrize(("config", "whole", "used"), NO_FILE, ids=[config["model_type"] for config, _, _ in NO_FILE])
def test_further_families_give_the_counts_of_their_model_cards(config: dict[str, Any], whole: float, used: float | None,
                                                               tmp_path: Path) -> None:
    got = read(tmp_path, config)
    assert got.counted / 1e9 == pytest.approx(whole, rel=0.002)
    assert used is None or (got.active + got.vocabulary * got.d_model) / 1e9 == pytest.approx(used, rel=0.01)


# -- windows and mixtures, by the rules of the code of transformers -------------------------------------------------------

def windowed(family: str, layers: int, config: dict[str, Any]) -> list[bool]:
    """Return for each layer whether it has a window, as the class of its configuration says (transformers 4.57.1)."""
    if family in ("mistral", "mixtral", "starcoder2", "phi3", "phimoe", "qwen3_moe"):
        return [True] * layers
    if family in ("qwen2", "qwen3"):
        return [i >= config["max_window_layers"] for i in range(layers)]
    if family in ("gemma2", "gpt_oss"):
        return [bool((i + 1) % 2) for i in range(layers)]
    if family in ("gemma3", "cohere2"):
        return [bool((i + 1) % config.get("sliding_window_pattern", 6 if family == "gemma3" else 4)) for i in range(layers)]
    if family == "olmo3":
        return [(i + 1) % 4 != 0 for i in range(layers)]
    assert family == "llama4"
    return [bool(i) for i in config.get("no_rope_layers") or [(i + 1) % 4 for i in range(layers)]]


@pytest.mark.parametrize("family", ["mistral", "mixtral", "starcoder2", "phi3", "phimoe", "qwen2", "qwen3", "qwen3_moe", "gemma2",
                                    "gpt_oss", "gemma3", "cohere2", "olmo3", "llama4"])
def test_a_layer_has_a_window_where_the_code_of_its_family_has_one(family: str, tmp_path: Path) -> None:
    rng, key = Random(family), "attention_chunk_size" if family == "llama4" else "sliding_window"
    for _ in range(6):
        config = {**sizes(rng, family), key: rng.randint(1, 5000)}
        layers = config["num_hidden_layers"]
        if family.startswith("qwen"):
            config |= {"use_sliding_window": True, "max_window_layers": rng.randint(0, 50)}
        if family == "llama4" and rng.random() < 0.5:
            config["no_rope_layers"] = [rng.randint(0, 1) for _ in range(layers)]
        if family in ("gemma3", "cohere2") and rng.random() < 0.5:
            config["sliding_window_pattern"] = rng.randint(1, 8)
        expected = windowed(family, layers, config)
        assert [kind.window for kind in read(tmp_path, config).kinds] == [config[key] if one else None for one in expected]
        if family in ("qwen2", "gemma2", "gpt_oss", "gemma3", "cohere2", "olmo3", "llama4"):
            types = [rng.choice(["sliding_attention", "full_attention"]) for _ in range(layers)]
            got = read(tmp_path, {**config, "layer_types": types})
            assert [kind.window is not None for kind in got.kinds] == [one == "sliding_attention" for one in types]
        assert not any(kind.window for kind in read(tmp_path, {**config, key: None}).kinds)


def test_qwen_has_a_window_only_if_it_is_used(tmp_path: Path) -> None:
    config = {**sizes(Random(1), "qwen2"), "sliding_window": 77, "max_window_layers": 0}
    assert read(tmp_path, config).window is None
    assert read(tmp_path, {**config, "use_sliding_window": True}).window == 77


@pytest.mark.parametrize("family", ["qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3", "glm4_moe", "llama4"])
def test_a_layer_is_a_mixture_where_the_code_of_its_family_has_one(family: str, tmp_path: Path) -> None:
    rng = Random(family)
    for _ in range(6):
        config = sizes(rng, family)
        layers, step, first = config["num_hidden_layers"], rng.randint(1, 4), rng.randint(0, 6)
        only = sorted(rng.sample(range(layers), rng.randint(0, layers)))
        if family.startswith("qwen"):
            config |= {"decoder_sparse_step": step, "mlp_only_layers": only}
            expected = [i not in only and (i + 1) % step == 0 for i in range(layers)]
        elif family == "llama4":
            config |= {"interleave_moe_layer_step": step}
            expected = [i in range(step - 1, layers, step) for i in range(layers)]
        else:
            config |= {"first_k_dense_replace": first} | ({"moe_layer_freq": step} if family != "glm4_moe" else {})
            expected = [i >= first and (family == "glm4_moe" or i % step == 0) for i in range(layers)]
        got = read(tmp_path, config)
        assert [kind.mixture for kind in got.kinds] == expected and got.mixtures == sum(expected)


def test_the_experts_of_a_mixture_and_its_latent_attention_are_those_of_the_file(tmp_path: Path) -> None:
    rng = Random(3)
    config = {**sizes(rng, "deepseek_v3"), "n_routed_experts": 7, "n_shared_experts": 3, "moe_intermediate_size": 11,
              "q_lora_rank": None, "kv_lora_rank": 5, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 9}
    got = read(tmp_path, config)
    assert (got.experts, got.shared_experts, got.expert_d_ff) == (7, 3, 11)
    assert (got.latent, got.latent_rope, got.latent_q, got.d_head, got.d_value) == (5, 4, None, 12, 9) and got.cached == 9
    dense = read(tmp_path, {**config, "n_routed_experts": None})
    assert dense.experts is None and dense.shared_experts == 0 and dense.dense_layers == ()
    config = {**sizes(rng, "qwen2_moe"), "moe_intermediate_size": 10, "shared_expert_intermediate_size": 40}
    assert read(tmp_path, config).shared_experts == 4
    with pytest.raises(ModelError, match="shared_expert_intermediate_size 41 is not a multiple of moe_intermediate_size 10"):
        read(tmp_path, {**config, "shared_expert_intermediate_size": 41})


def by_hand(m: Model, used: bool) -> float:
    """Return the parameters by an obvious sum over layers: all, or those that a token uses."""
    gates, total = (3 if m.gated else 2), m.vocabulary * m.d_model * (1 if used or m.tied else 2)
    for layer in range(m.layers):
        if m.latent:
            nope = m.d_head - m.latent_rope
            total += m.d_model * m.latent_q + m.latent_q * m.heads * m.d_head if m.latent_q else m.d_model * m.heads * m.d_head
            total += m.d_model * (m.latent + m.latent_rope) + m.latent * m.heads * (nope + m.value)
        else:
            total += m.d_model * (m.heads * m.d_head + m.kv_heads * m.d_head + m.kv_heads * m.value)
        total += m.heads * m.value * m.d_model
        if m.experts and layer not in m.dense_layers:
            routed = m.experts_per_token if used else m.experts
            total += m.experts * m.d_model + (routed + m.shared_experts) * gates * m.d_model * (m.expert_d_ff or m.d_ff)
        else:
            total += gates * m.d_model * m.d_ff
    return total


def test_counts_are_those_of_a_sum_over_layers() -> None:
    rng = Random(5)
    for _ in range(200):
        kv, layers = rng.randint(1, 4), rng.randint(1, 9)
        fields: dict[str, Any] = {"layers": layers, "d_model": rng.randint(1, 99), "d_ff": rng.randint(1, 99), "kv_heads": kv,
                                  "heads": kv * rng.randint(1, 3), "d_head": rng.randint(5, 20), "vocabulary": rng.randint(1, 99),
                                  "gated": rng.random() < 0.5, "parallel": False, "tied": rng.random() < 0.5}
        if rng.random() < 0.5:
            fields |= {"latent": rng.randint(1, 9), "latent_rope": rng.randint(0, 4), "d_value": rng.randint(1, 9),
                       "kv_heads": fields["heads"]} | ({"latent_q": rng.randint(1, 9)} if rng.random() < 0.5 else {})
        if rng.random() < 0.7:
            experts = rng.randint(1, 9)
            fields |= {"experts": experts, "experts_per_token": rng.randint(1, experts), "shared_experts": rng.randint(0, 2),
                       "dense_layers": sorted(rng.sample(range(layers), rng.randint(0, layers)))}
            fields |= {"expert_d_ff": rng.randint(1, 9)} if rng.random() < 0.7 else {}
        got = model(fields)
        assert got.counted == by_hand(got, used=False) and got.active == by_hand(got, used=True)


def test_mfu_counts_the_parameters_that_a_token_uses() -> None:
    from torussim.chips import chip
    one, workload = {"base": "palm-8b", "experts": 8, "experts_per_token": 2}, Workload("decode", 16, 512, 4)

    def mfu(**more: Any) -> float:
        return rates(model({**one, **more}), workload, chip("tpu-v4"), 8, {"decode": 0.02})["mfu"]
    mixture = model(one)
    assert mfu(active_parameters=1e9) / mfu() == pytest.approx(1e9 / mixture.active)
    assert mfu() / mfu(experts_per_token=1) == pytest.approx(mixture.active / model({**one, "experts_per_token": 1}).active)


# -- dtypes -----------------------------------------------------------------------------------------------------------------

BF16 = {"embedding": "bf16"}
GROUP = {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": True}}
QUANTISED = [
    ({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}, {"weights": "fp8", **BF16}),
    ({"quant_method": "fbgemm_fp8"}, {"weights": "fp8", **BF16}),
    ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, {"weights": "int4/128", **BF16}),
    ({"quant_method": "gptq", "bits": 4, "group_size": 64, "sym": False}, {"weights": "int4/64z", **BF16}),
    ({"quant_method": "gptq", "bits": 8, "group_size": -1}, {"weights": "int8", **BF16}),
    ({"quant_method": "gptq", "bits": 4, "group_size": 32, "lm_head": True}, {"weights": "int4/32"}),
    ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, {"weights": "int4/128z", **BF16}),
    ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64, "zero_point": False}, {"weights": "int4/64", **BF16}),
    ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8, "type": "float"}}},
      "kv_cache_scheme": {"num_bits": 8, "type": "float"}, "ignore": ["lm_head"]}, {"weights": "fp8", "kv_cache": "fp8", **BF16}),
    ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 8, "type": "int"}}}},
     {"weights": "int8", **BF16}),
    ({"quant_method": "compressed-tensors", "config_groups": {"g": GROUP}}, {"weights": "int4/32", **BF16}),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, {"weights": "int8", **BF16}),
    ({"load_in_4bit": True, "bnb_4bit_use_double_quant": True}, {"weights": "int4/128", **BF16}),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"},
     {"weights": "nvfp4", "kv_cache": "fp8", **BF16}),
    ({"quant_method": "fp8", "kv_cache_scheme": "static"}, {"weights": "fp8", "kv_cache": "fp8", **BF16}),
    ({"quant_method": "compressed-tensors", "config_groups": {}, "kv_cache_scheme": {"num_bits": 8, "type": "float"}},
     {"kv_cache": "fp8"}),
    ({"quant_method": "mxfp4"}, {"weights": "mxfp4", **BF16}), (None, {}), ({}, {}),
]


@pytest.mark.parametrize(("given_", "dtypes"), QUANTISED)
def test_the_quantisation_of_a_file_is_the_default_of_the_dtypes(given_: Any, dtypes: dict[str, str], tmp_path: Path) -> None:
    got = read(tmp_path, {**sizes(Random(2), "llama"), "quantization_config": given_})
    assert got.dtypes == dtypes and got.remarks == ()


@pytest.mark.parametrize(("given_", "said"), [
    ({"quant_method": "fp8", "activation_scheme": "dynamic"}, True), ({"quant_method": "fp8"}, False),
    ({"quant_method": "compressed-tensors", "config_groups": {"g": {**GROUP, "input_activations": {"num_bits": 8}}}}, True),
    ({"quant_method": "compressed-tensors", "config_groups": {"g": {**GROUP, "input_activations": None}}}, False)])
def test_a_file_that_quantises_activations_says_that_they_stay_in_bf16(given_: Any, said: bool, tmp_path: Path) -> None:
    got = read(tmp_path, {**sizes(Random(2), "llama"), "quantization_config": given_})
    assert [text.partition("config.json: ")[2][:30] for text in got.remarks] == ["activations are quantised too;"] * said


def test_of_a_mixture_whose_attention_is_not_quantised_only_the_experts_are(tmp_path: Path) -> None:
    config = {**sizes(Random(2), "mixtral"), "quantization_config": {
        "quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"]}}
    assert read(tmp_path, config).dtypes == {"experts": "mxfp4"}
    config["quantization_config"] = {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0.mlp.gate", "lm_head",
                                                                                       "model.layers.0.post_attention_layernorm"]}
    assert read(tmp_path, config).dtypes == {"weights": "fp8", **BF16}
    dense = {**sizes(Random(2), "llama"), "quantization_config": {"quant_method": "fbgemm_fp8", "modules_to_not_convert": [
        "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.gate_proj", "model.norm"]}}
    said = "read as fp8 all the same: model.layers.0.mlp.gate_proj, model.layers.0.self_attn.q_proj"
    assert read(tmp_path, dense).remarks[0].endswith(said)


@pytest.mark.parametrize("given_", [{"quant_method": "quip"}, {"quant_method": "gptq", "bits": 3}, "fp8", {"other": 1},
                                    {"quant_method": "gptq", "bits": 4, "group_size": "128"}, {"quant_method": "modelopt"},
                                    {"quant_method": "compressed-tensors", "config_groups": {
                                        "a": GROUP, "b": {"weights": {"num_bits": 8, "type": "int"}}}}])
def test_a_quantisation_that_is_not_understood_is_refused(given_: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config\.json: quantization_config: "):
        read(tmp_path, {**sizes(Random(2), "llama"), "quantization_config": given_})


def test_an_element_has_the_bits_of_its_number_and_its_part_of_those_of_its_group() -> None:
    bits = {"bf16": 16, "fp8": 8, "int8": 8, "int4": 4, "f32": 32, "mxfp4": 4.25, "nvfp4": 4.5, "int4/128": 4 + 16 / 128,
            "int4/128z": 4 + 20 / 128, "int8/32": 8 + 16 / 32, "int4/7": 4 + 16 / 7}
    assert {dtype: DTYPE_BYTES[dtype] * 8 for dtype in bits} == pytest.approx(bits)
    for unknown in ("int4/0", "int4/", "int4/-1", "int2/8", "fp8/128", "int4/128zz", "bf17", ""):
        assert unknown not in DTYPE_BYTES


def scenario(given: Any, **layout: Any) -> dict[str, Any]:
    """Return a small scenario of a model."""
    return {"model": given, "chip": "tpu-v5e", "topology": {"slice": "v5e-8"}, "layout": {"ffn": "ws1d", **layout},
            "workload": {"phase": "decode", "batch": 8, "context": 64}}


def held(asked: dict[str, Any]) -> Any:
    """Return the memory of a scenario."""
    made = load(asked)
    assert made.model and made.workload
    return memory(made.model, made.layouts["decode"], made.workload, made.network.axes or {}, 16e9)


@pytest.mark.parametrize("dtype", ["fp8", "int4/128", "mxfp4"])
def test_a_layout_takes_the_dtypes_of_the_model_where_it_has_none(dtype: str) -> None:
    base = {"base": "llama-3-8b", "layers": 2}
    table = model(base).vocabulary * 4096 / 8 * 2  # of embedding and logits, on a chip
    wide = held(scenario(base))
    narrow = held(scenario({**base, "dtypes": {"weights": dtype, "kv_cache": "int8", "embedding": "bf16"}}))
    assert narrow.weights - 2 * table == pytest.approx((wide.weights - 2 * table) * DTYPE_BYTES[dtype] / 2)
    assert narrow.kv_cache == wide.kv_cache / 2
    other = scenario({**base, "dtypes": {"weights": dtype, "kv_cache": "int8"}}, weights="int8", kv_cache="bf16")
    assert held(other).weights == wide.weights / 2 and held(other).kv_cache == wide.kv_cache
    experts = {**base, "experts": 8, "experts_per_token": 2}
    less = held(scenario(experts)).weights - held(scenario(experts, expert_weights=dtype)).weights
    assert less == pytest.approx(2 * 8 * 3 * 4096 * 14336 / 8 * (2 - DTYPE_BYTES[dtype]))


def test_a_draft_model_has_its_own_dtypes_where_it_names_some() -> None:
    asked = scenario({"base": "llama-3-8b", "layers": 2}, kv_cache="int8")

    def drafted(**more: Any) -> Any:
        return held({**asked, "workload": {**asked["workload"], "draft": 2, "accepted": 1.5,
                                           "draft_model": {"base": "llama-3-8b", "layers": 1, **more}}})
    main, same, narrow = held(asked), drafted(), drafted(dtypes={"weights": "fp8"})
    assert narrow.weights - main.weights == (same.weights - main.weights) / 2 > 0 and narrow.kv_cache == same.kv_cache


def test_the_record_of_a_run_keeps_the_dtypes() -> None:
    asked = scenario({"base": "llama-3-8b", "experts": 8, "dtypes": {"experts": "mxfp4", "weights": "fp8", "embedding": "bf16"}})
    first = load(asked)
    again = load(dict(first.resolved))
    assert again.layouts == first.layouts and again.layouts["decode"].expert_weights == "mxfp4"
    assert (again.layouts["decode"].weights, again.layouts["decode"].embedding) == ("fp8", "bf16")


# -- what is refused, and what is said --------------------------------------------------------------------------------------

@pytest.mark.parametrize(("family", "more", "text"), [
    ("llama", {"sliding_window": 4096}, "sliding_window is given, which no model of model_type llama has"),
    ("llama", {"layer_types": ["sliding_attention", "full_attention"]}, "layer_types is given, which no"),
    ("llama", {"num_local_experts": 8}, "num_local_experts is given, which no"),
    ("qwen3", {"kv_lora_rank": 512}, "kv_lora_rank is given, which no"),
    ("deepseek_v3", {"index_topk": 2048}, "index_topk is given: the index of sparse attention cannot be run"),
    ("qwen3", {"full_attention_interval": 4}, "full_attention_interval is given: linear attention cannot be run"),
    ("qwen3", {"layer_types": ["linear_attention"]}, "layer_types: "),
    ("gemma3", {"sliding_window_pattern": 0}, "sliding_window_pattern: '0' is not a whole number, 1 or more"),
    ("mistral", {"sliding_window": 0}, "sliding_window: '0' is not a whole number from 1"),
    ("opt", {"word_embed_proj_dim": 3}, "word_embed_proj_dim: '3' is not modelled: must be hidden_size, "),
    ("qwen3", {"linear_key_head_dim": 4, "linear_value_head_dim": 4},
     "linear_key_head_dim, linear_value_head_dim are given: linear attention cannot be run"),
    ("llama4", {"text_config": [1]}, "text_config: '[1]' is not a mapping"),
    ("falcon", {"multi_query": "yes", "new_decoder_architecture": False}, "multi_query: 'yes' is neither true nor false"),
    ("gpt_oss", {"num_hidden_layers": 900_000_000}, "900000000 layers are more than can be read"),
    ("deepseek_v2", {"num_experts_per_tok": None}, "num_experts_per_tok is missing"),
    ("qwen3_moe", {"mlp_only_layers": [99]}, "mlp_only_layers: '99' is not one of the"),
    ("qwen3_moe", {"num_experts_per_tok": 129}, "a token cannot use 129 of 128 experts"),
])
def test_a_key_that_changes_time_or_memory_and_is_not_understood_is_named(family: str, more: dict[str, Any], text: str,
                                                                          tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=re.escape(text)):
        read(tmp_path, {**sizes(Random(4), family), **more})


def test_the_mapping_of_an_unknown_family_has_its_windows_and_dtypes_and_names_all_that_it_does_not_cover(tmp_path: Path) -> None:
    rng = Random(8)
    for windows in ("list", "off", "one", "none"):
        config = {**sizes(rng, "qwen3"), "num_hidden_layers": 4, "tie_word_embeddings": True,
                  "quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}
        config |= {"list": {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 64},
                   "off": {"use_sliding_window": False, "sliding_window": 64}, "one": {"sliding_window": 64}, "none": {}}[windows]
        known = read(tmp_path, {**config, "use_sliding_window": windows in ("list", "one"), "max_window_layers": 0})
        with pytest.raises(ModelError) as error:
            read(tmp_path, {**config, "model_type": "other", "a_key": 3, "mamba_d_state": 5, "index_topk": 7})
        text, _, others = str(error.value).partition("write model: ")[2].partition(" in place of the file")
        whole = text.replace("gated: unknown", "gated: true").replace("parallel: unknown", "parallel: false")
        shown = files.parse(whole, "").value
        assert model({**shown, "name": known.name, "qk_norm": True}) == known
        assert all(key in others for key in ("a_key", "mamba_d_state", "index_topk")), others
    with pytest.raises(ModelError, match="model_type is missing; llama"):
        read(tmp_path, {**sizes(rng, "llama"), "model_type": None})


def test_a_key_of_null_is_an_absent_key(tmp_path: Path) -> None:
    config = {**sizes(Random(3), "llama"), "num_key_value_heads": 1}
    absent = read(tmp_path, config)
    nulls = dict.fromkeys(("tie_word_embeddings", "rope_scaling", "quantization_config", "attention_bias", "text_config",
                           "sliding_window", "max_position_embeddings"))
    assert read(tmp_path, {**config, **nulls}) == absent
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(config).encode())
    assert model(str(tmp_path / "config.json")) == absent


def test_a_key_that_changes_nothing_is_said_and_one_without_meaning_is_not(tmp_path: Path) -> None:
    config = {**sizes(Random(4), "llama"), "hidden_size": 64, "intermediate_size": 64, "torch_dtype": "bfloat16",
              "rope_theta": 1e4, "sliding_window": None, "mlp_bias": False}
    assert read(tmp_path, {**config, "layer_types": ["full_attention"] * config["num_hidden_layers"]}).remarks == ()
    got = read(tmp_path, {**config, "a_new_key": 3})
    assert [text.partition("config.json: ")[2] for text in got.remarks] == ["keys that are not looked at: a_new_key"]
    asked = scenario(str(tmp_path))
    asked["layout"]["attention"] = "batch"
    assert check(asked).notes == got.remarks
    assert got.remarks[0] in load(dict(load(asked).resolved)).notes


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_no_value_of_a_key_is_a_crash(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    family = data.draw(st.sampled_from(families()))
    config = {**sizes(Random(1), family), **({} if data.draw(st.booleans()) else {"model_type": "other"})}
    known = [*config, "first_k_dense_replace", "qk_rope_head_dim", "tie_word_embeddings", "layer_types",
             "sliding_window", "rope_scaling", "no_rope_layers", "mlp_only_layers", "quantization_config",
             "num_experts", "decoder_sparse_step", "max_window_layers", "use_sliding_window", "attention_bias", "text_config"]
    values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
                          lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                              st.sampled_from(["factor", "bits", "quant_method", "rope_type", "config_groups"]), inner))
    config[data.draw(st.sampled_from(known))] = data.draw(values)
    try:
        read(tmp_path_factory.getbasetemp(), config)
    except TorusSimError as error:
        assert len(str(error)) < 5000


def test_a_folder_and_a_nested_text_config_are_read(tmp_path: Path) -> None:
    config = sizes(Random(6), "gemma3")
    whole = read(tmp_path, config)
    (tmp_path / "models").mkdir()
    nested = {"model_type": "gemma3", "vision_config": {"hidden_size": 7}, "text_config": {**config, "model_type": "gemma3_text"}}
    (tmp_path / "models" / "config.json").write_text(json.dumps(nested))
    got = model("models", tmp_path)
    assert got == model({"base": "./models"}, tmp_path, name="models") == model("models/config.json", tmp_path)
    assert {**describe(got), "name": ""}["d_ff"]["value"] == whole.d_ff and "without vision_config" in got.remarks[0]
    (tmp_path / "models" / "config.json").write_text(json.dumps({"model_type": "gemma3", "text_config": {}}))
    assert model("models", tmp_path).layers == 26  # the file leaves all to the defaults of its family
    with pytest.raises(ModelError, match="no such file"):
        model("./other", tmp_path)


def test_the_names_of_hugging_face_are_those_of_the_fields() -> None:
    ours = {name: key.also for (name,), key in FIELDS.items() if key.also}
    assert {"layers", "d_model", "d_ff", "heads", "kv_heads", "d_head", "vocabulary", "tied", "window", "experts"} <= ours.keys()
    renamed = {ours.get(name, (name,))[0]: shown for name, shown in describe(model("llama-3-8b")).items()}
    assert model(renamed) == model("llama-3-8b") and model(renamed).sources == model("llama-3-8b").sources
    assert model({"base": "llama-3-8b", "num_hidden_layers": 3}) == model("llama-3-8b", layers=3)
    for name, others in ours.items():
        for other in others:
            wrong = model_mistakes({"base": "llama-3-8b", name: 2, other: 2})
            assert [(one.path, one.code) for one in wrong if one.code == "clash"] == [((other,), "clash")]


def test_the_families_of_the_docs_are_those_that_are_read() -> None:
    text = (HERE.parent.parent / "docs" / "models.md").read_text()
    (listed,) = re.findall(r"is the `model_type` of a file:\n(.*?)\.\n", text, re.DOTALL)
    assert tuple(re.findall(r"`(\w+)`", listed)) == families()


def test_an_unknown_family_is_refused_with_the_mapping_that_would_describe_it(tmp_path: Path) -> None:
    config = {"model_type": "brand_new", "n_layer": 3, "n_embd": 64, "n_head": 4, "n_inner": 128, "vocab_size": 100,
              "tie_word_embeddings": True, "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": 32}
    with pytest.raises(ModelError) as caught:
        read(tmp_path, config)
    written = re.search(r"model: (\{.*\}) in place", str(caught.value))
    assert written
    fields = files.parse(written[1], "it").value
    lacking = [name for name, value in fields.items() if value == "unknown"]
    assert set(lacking) == {"kv_heads", "d_head", "gated", "parallel"}
    got = model({**fields, "kv_heads": 2, "d_head": 16, "gated": True, "parallel": False})
    assert (got.layers, got.d_model, got.d_ff, got.experts, got.experts_per_token, got.window, got.tied) == (
        3, 64, 128, 8, 2, 32, True)


@pytest.mark.parametrize(("more", "field", "code"), [
    ({"window": 0}, "window", "value"), ({"experts": 4, "experts_per_token": 5}, "experts_per_token", "clash"),
    ({"experts_per_token": 2}, "experts_per_token", "clash"), ({"dense_layers": 1}, "dense_layers", "clash"),
    ({"experts": 4, "dense_layers": 33}, "dense_layers", "clash"), ({"window": 8, "full_layers": [32]}, "full_layers", "clash"),
    ({"full_layers": [1]}, "full_layers", "clash"), ({"latent": 8, "kv_heads": 16}, "latent", "clash"),
    ({"latent": 8, "kv_heads": 16, "d_value": 8, "latent_rope": 256}, "latent_rope", "clash"),
    ({"latent": 8, "d_value": 8}, "kv_heads", "clash"), ({"latent_q": 8}, "latent_q", "clash"),
    ({"shared_experts": 1}, "shared_experts", "clash"), ({"expert_d_ff": 1}, "expert_d_ff", "clash"),
    ({"dtypes": {"weights": "fp9"}}, "dtypes", "value"), ({"biases": ["k"]}, "biases", "value"),
])
def test_fields_that_contradict_each_other_are_one_clear_mistake(more: dict[str, Any], field: str, code: str) -> None:
    (wrong,) = model_mistakes({"base": "palm-8b", **more})
    assert wrong.path[0] == field and wrong.code == code and wrong.text.startswith(field)


def test_a_context_beyond_that_of_the_model_is_said(tmp_path: Path) -> None:
    for rope, longest in ((None, 100), ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 50}, 200),
                          ({"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 10}, 100),
                          ({"rope_type": "linear", "factor": 8.0}, 800), ({"rope_type": "llama3", "factor": 8.0}, 100)):
        got = read(tmp_path, {**sizes(Random(6), "llama"), "max_position_embeddings": 100, "rope_scaling": rope})
        assert got.max_context == longest
        newer = {"rope_type": "default", "rope_theta": 1e4, **(rope or {})}  # as transformers 5 writes it
        got = read(tmp_path, {**sizes(Random(6), "llama"), "max_position_embeddings": 100, "rope_parameters": newer})
        assert got.max_context == longest
    asked = scenario({"base": "llama-3-8b", "max_context": 65})
    assert check(asked).notes == ()  # 64 tokens and the new one
    asked["model"]["max_context"] = 64
    (note,) = check(asked).notes
    assert "65 tokens is beyond the 64 that llama-3-8b, changed was made for" in note and note in load(asked).notes
    with pytest.raises(ScenarioError, match="max_context: '0' is not a whole number"):
        load(scenario({"base": "llama-3-8b", "max_context": 0}))
