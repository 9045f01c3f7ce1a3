"""The presets of today's models agree with their config.json files, and their counts and caches with published ones.

The counts here are by hand from the sizes, without the package's own.
"""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from torussim import run
from torussim.chips import DTYPE_BYTES
from torussim.configs import families
from torussim.layouts import Layout
from torussim.listing import lists
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


OF_THE_FILE = {field.name for field in fields(Model)} - {"name", "parameters", "active_parameters", "remarks", "sources"}


@pytest.mark.parametrize("name", TODAY)
def test_the_fields_of_a_preset_are_those_of_its_config(name: str) -> None:
    """Both were written down apart, the preset by hand."""
    preset, read = model(name), model(str(CONFIGS / f"{name}.json"))
    assert {field: getattr(preset, field) for field in OF_THE_FILE} == {field: getattr(read, field) for field in OF_THE_FILE}


def test_the_layers_of_gpt_oss_alternate_as_its_config_says() -> None:
    kinds = ["sliding_attention" if kind.window else "full_attention" for kind in model("gpt-oss-120b").kinds]
    assert kinds == config("gpt-oss-120b")["layer_types"]


# Bytes of the cache of a sequence by hand, in bf16: of a token in all layers without a window, and in all layers with one

FULL = {"qwen3-32b": 64 * 2 * 8 * 128 * 2, "qwen3-30b-a3b": 48 * 2 * 4 * 128 * 2, "qwen3-235b-a22b": 94 * 2 * 4 * 128 * 2,
        "mixtral-8x7b": 32 * 2 * 8 * 128 * 2, "mixtral-8x22b": 56 * 2 * 8 * 128 * 2, "deepseek-v3": 61 * (512 + 64) * 2,
        "gpt-oss-120b": 18 * 2 * 8 * 64 * 2, "gemma-3-27b": 10 * 2 * 16 * 128 * 2, "llama-4-maverick": 12 * 2 * 8 * 128 * 2}
WINDOWED = {"gpt-oss-120b": (128, 18 * 2 * 8 * 64 * 2), "gemma-3-27b": (1024, 52 * 2 * 16 * 128 * 2),
            "llama-4-maverick": (8192, 36 * 2 * 8 * 128 * 2)}


@pytest.mark.parametrize("name", TODAY)
@pytest.mark.parametrize("context", [100, 1024, 20_000])
def test_the_cache_of_a_sequence_is_as_by_hand(name: str, context: int) -> None:
    window, bounded = WINDOWED.get(name, (1, 0))
    by_hand = context * FULL[name] + min(context, window) * bounded
    assert memory(model(name), Layout(), Workload("prefill", 1, context), {"x": 1, "y": 1, "z": 1}, 1e15).kv_cache == by_hand
    assert 2 * cache(model(name), context) == by_hand


def cache(m: Model, context: int) -> int:
    """Return the elements of the cache of one sequence."""
    token = m.latent + m.latent_rope if m.latent else m.kv_heads * (m.d_head + (m.d_value or m.d_head))
    return sum(token * min(context, kind.window or context) for kind in m.kinds)


def test_the_table_of_the_page_on_models_is_that_of_the_presets() -> None:
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text()
    rows = re.findall(r"^\| `([\w.-]+)` \| ([\d.e]+) \| ([\d.e]+|all) \| (.+?) \| (.+?) \| ([\d.]+) GB \|$", page, re.M)
    assert sorted(row[0] for row in rows) == TODAY
    for name, whole, used, experts, attended, size in rows:
        m = model(name)
        assert (float(whole), used) == (m.parameters, "all") or (float(whole), float(used)) == (m.parameters, m.active_parameters)
        assert float(size) == round(2 * cache(m, 65536) / 1e9, 2), name
        assert {int(number) for number in re.findall(r"\d+", experts)} <= {m.experts, m.experts_per_token, m.shared_experts,
                                                                             len(m.dense_layers)}
        assert {int(number) for number in re.findall(r"\d+", attended)} <= {
            m.kv_heads, m.latent, m.latent_rope, m.window, m.layers, m.layers - len(m.full_layers)}


def test_the_list_of_presets_says_what_is_not_plain() -> None:
    lines = {line.split()[0]: line for line in lists()["models"]()}
    assert lines["llama-3-8b"].endswith("8 KV, gated, serial")
    assert lines["gpt-oss-120b"].endswith("; 4 of 128 experts in 36 layers, F 2880; window 128 in 18 layers")
    assert lines["deepseek-v3"].endswith("; 8 of 256 experts and 1 shared in 58 layers, F 2048; latent 512 + 64")


def test_the_example_of_the_page_on_models_runs_and_fits(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text()
    (name, text), = re.findall(r"^```yaml title=\"([^\"]+)\"\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / name).write_text(text)
    keys = run(tmp_path / name).keys
    assert keys["step_s"] > 0 and keys["memory"]["fits"]


def test_the_page_on_models_names_all_families_and_their_dtypes_as_they_are() -> None:
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text()
    listed = page.split("which is the `model_type` of a file:\n")[1].split(".\n")[0]
    assert re.findall(r"`(\w+)`", listed) == list(families())
    assert f"{len(families())} families" in (Path(__file__).parent.parent / "README.md").read_text()
    rows = re.findall(r"^\| `.+?\| `([\w/]+)` \| ([\d. +/]+)[,:|]", page, re.M)
    assert {dtype: eval(bits) for dtype, bits in rows} == {dtype: DTYPE_BYTES[dtype] * 8 for dtype, _ in rows} and len(rows) == 5


@pytest.mark.parametrize("name", TODAY)
def test_the_weights_of_a_preset_take_the_bytes_of_its_dtypes(name: str, tmp_path: Path) -> None:
    m = model(name)
    scenario = {"name": name, "model": name, "chip": "tpu-v5p", "topology": {"shape": [1]}, "layout": {"ffn": "ws1d"},
                "workload": {"phase": "decode", "batch": 1, "context": 16}}
    (tmp_path / "one.yaml").write_text(json.dumps(scenario))
    tables = (1 if m.tied else 2) * m.vocabulary * m.d_model
    routed = sum(ffn(m, layer, m.experts or 0) - ffn(m, layer, 0) for layer in range(m.layers))
    each = {"deepseek-v3": (2, 1, 1), "gpt-oss-120b": (2, 2, 4.25 / 8)}.get(name, (2, 2, 2))  # bytes: tables, others, experts
    by_hand = tables * each[0] + (total(m) - tables - routed) * each[1] + routed * each[2]
    assert run(tmp_path / "one.yaml").keys["memory"]["weights"] == pytest.approx(by_hand, rel=1e-12)
