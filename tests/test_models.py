"""Models: presets with sources, counts of parameters, padded heads, config.json, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim import files
from torussim.errors import ModelError, NameError_
from torussim.models import describe, model, model_mistakes
from torussim.resolve import preset_names, preset_path

PRESETS = preset_names("models")
SIZES = ("layers", "d_model", "d_ff", "heads", "kv_heads", "d_head", "vocabulary")

# What the sources count, to as many digits as they give. PaLM: arXiv 2204.02311, table 1; MT-NLG: arXiv 2104.04473,
# table 1; Llama: the files on Hugging Face, which have 2 layers + 1 norms of d_model besides the matrices.
PUBLISHED = {"palm-8b": 8.63e9, "palm-62b": 62.50e9, "palm-540b": 540.35e9, "mt-nlg-530b": 529.6e9}
PUBLISHED_LLAMA = {
    "llama-2-70b": 68_976_648_192,
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-3-405b": 405_853_388_800,
}
TODAY = {"deepseek-v3", "gemma-3-27b", "gpt-oss-120b", "llama-4-maverick", "mixtral-8x7b", "mixtral-8x22b", "qwen3-30b-a3b",
         "qwen3-32b", "qwen3-235b-a22b"}  # tests/test_presets.py counts them
LLAMA_8B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


def complete(**changes: Any) -> dict[str, Any]:
    """Return a mapping with all fields of a model."""
    return {**describe(model("palm-8b")), **changes}


def config(folder: Path, file: str = "config.json", **changes: Any) -> str:
    """Write a config.json of Llama 3 8B with changes, leaving out what is `...`, and return its path."""
    path = folder / file
    fields = {key: value for key, value in {**LLAMA_8B, **changes}.items() if value is not ...}
    path.write_text(json.dumps(fields))
    return str(path)


def test_there_are_the_presets_that_the_design_promises() -> None:
    assert set(PRESETS) == {*PUBLISHED, *PUBLISHED_LLAMA, *TODAY}


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_of_a_preset_has_a_source(name: str) -> None:
    preset = model(name)
    given = {name for name, value in describe(preset).items() if isinstance(value, dict) and "source" in value}
    assert set(preset.sources) == given >= {*SIZES, "gated", "parallel", "parameters", "tied"}
    assert given == {*describe(preset)} - {"name"} - ({"padded_heads"} if not preset.padded_heads else set())
    assert all(len(text) > 3 for text in preset.sources.values())
    assert files.read(preset_path("models", name)).mistakes == () and preset.name == name


@pytest.mark.parametrize("name", PUBLISHED)
def test_matrices_add_up_to_the_published_count(name: str) -> None:
    assert model(name).counted == pytest.approx(PUBLISHED[name], rel=6e-4)  # two decimals of 8.63e9


@pytest.mark.parametrize("name", PUBLISHED_LLAMA)
def test_matrices_and_norms_of_llama_are_exactly_the_published_count(name: str) -> None:
    preset = model(name)
    norms = (2 * preset.layers + 1) * preset.d_model
    assert preset.counted + norms == PUBLISHED_LLAMA[name]


@pytest.mark.parametrize("name", sorted({*PRESETS} - {"palm-8b", *TODAY}))  # whose name rounds 8.63e9 down to 8e9
def test_the_nominal_count_is_that_of_the_matrices_within_3_percent(name: str) -> None:
    assert model(name).counted == pytest.approx(model(name).parameters, rel=0.03)


@pytest.mark.parametrize("name", PRESETS)
def test_describe_and_model_are_inverses(name: str) -> None:
    preset = model(name)
    again = model(json.loads(json.dumps(describe(preset))))
    assert again == preset and again.sources == preset.sources and hash(again) == hash(preset)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **{size: st.integers(1, 10**9) for size in ("layers", "d_model", "d_ff", "d_head", "vocabulary")},
            **{flag: st.booleans() for flag in ("gated", "parallel", "tied")},
            "parameters": st.integers(1, 10**15),
            "padded_heads": st.dictionaries(st.integers(1, 1000), st.integers(16, 10**6), max_size=3),
            "name": st.text(min_size=1),
        },
    )
)
@settings(deadline=None, max_examples=40)
def test_a_changed_model_survives_describe_too(changes: dict[str, Any]) -> None:
    changed = model("palm-8b", **changes)
    again = model(json.loads(json.dumps(describe(changed))))
    assert again == changed and again.sources == changed.sources


def test_heads_are_padded_by_the_number_of_chips() -> None:
    palm = model("palm-540b")
    chips = [1, 8, 64, 65, 128, 129, 256]
    assert [palm.padded(count) for count in chips] == [64, 64, 64, 128, 128, 128, 128]
    assert {palm.padded_kv(count) for count in chips} == {1}  # multiquery
    assert {model("palm-62b").padded(count) for count in chips} == {32}


def test_the_kv_heads_of_multihead_attention_are_padded_likewise() -> None:
    multihead = model("palm-540b", kv_heads=48, d_head=128)
    assert (multihead.padded_kv(64), multihead.padded_kv(256)) == (64, 128)
    grouped = model("llama-3-8b", padded_heads={64: 64})
    assert (grouped.padded(64), grouped.padded_kv(64)) == (64, 8)


def test_padding_adds_what_the_paper_says() -> None:
    """P section 4: the padding of 540B to 64 heads adds 18e9 parameters."""
    palm = model("palm-540b")
    padded = model("palm-540b", heads=palm.padded(64), padded_heads={})
    assert padded.counted - palm.counted == pytest.approx(18e9, rel=0.02)


def test_a_changed_size_changes_the_nominal_count_and_nothing_else_does() -> None:
    assert model("palm-540b", parallel=False).parameters == 540e9
    eight = model("palm-540b", layers=8)
    assert eight.parameters == eight.counted < 42e9
    assert eight.sources["parameters"] == "counted in the matrices"
    assert model("palm-540b", layers=8, parameters=540e9).parameters == 540e9
    assert (eight.name, eight.padded_heads) == ("palm-540b, changed", {64: 64, 128: 128})


def test_changes_as_keywords_are_changes_in_a_mapping() -> None:
    assert model("palm-8b", layers=4) == model({"base": "palm-8b", "layers": 4}) == model({"base": "palm-8b"}, layers=4)
    assert model({"base": "palm-8b"}) == model("palm-8b")


def test_sizes_can_be_written_with_an_exponent() -> None:
    assert model("palm-8b", vocabulary=256e3).vocabulary == 256000
    assert isinstance(model("palm-8b", vocabulary=256e3).vocabulary, int)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("layers", 0, "layers: '0' is not a whole number from 1 to 1e+09"),
        ("layers", 1.5, "layers: '1.5' is not a whole number"),
        ("layers", "32", "layers: '32' is not a whole number"),
        ("d_ff", True, "d_ff: 'True' is not a whole number"),
        ("d_model", 10**10, "d_model: '10000000000' is not a whole number"),
        ("d_head", float("nan"), "d_head: 'nan' is not a whole number"),
        ("vocabulary", None, "vocabulary: 'None' is not a whole number"),
        ("gated", 1, "gated: '1' is neither true nor false"),
        ("tied", "yes", "tied: 'yes' is neither true nor false"),
        ("parameters", -1, "parameters: '-1' is not a number of parameters: must be from 1 to 1e+40"),
        ("kv_heads", 3, "kv_heads: 16 heads are not a multiple of 3 KV heads"),
        ("kv_heads", 32, "kv_heads: 16 heads are not a multiple of 32 KV heads"),
        ("padded_heads", 64, "padded_heads: '64' is not a mapping of numbers of chips to heads, such as {\"64\": 64}"),
        ("padded_heads", {"x": 64}, "padded_heads: 'x' is not a whole number"),
        ("padded_heads", {"64": 8}, "padded_heads: 8 heads on up to 64 chips are fewer than the 16 of the model"),
        ("layer", 3, "'layer' is not a field of a model: did you mean 'layers'?"),
        ("name", "", "name: '' is not a name"),
    ],
)
def test_a_wrong_field_is_named_and_quoted(field: str, value: Any, text: str) -> None:
    with pytest.raises(ModelError, match=re.escape(text)) as caught:
        model("palm-8b", **{field: value})
    unknown = "is not a field" in text or "beside" in text
    assert caught.value.path[0] == field and (caught.value.code == "unknown-key") == unknown
    assert caught.value.code in ("value", "quantity", "clash", "unknown-key")
    assert any(text in wrong.text for wrong in model_mistakes({"base": "palm-8b", field: value}))
    assert any(text in wrong.text for wrong in model_mistakes(complete(**{field: value})))


def test_padded_heads_share_out_grouped_kv_heads() -> None:
    with pytest.raises(ModelError, match="36 heads on up to 8 chips are not a multiple of the 8 KV heads"):
        model("llama-3-8b", padded_heads={8: 36})


def test_all_mistakes_come_at_once_with_their_paths() -> None:
    wrong = {"base": "palm-54b", "layers": {"value": 0}, "gated": 3}
    assert [wrong.path for wrong in model_mistakes(wrong)] == [("base",), ("layers", "value"), ("gated",)]
    assert model_mistakes({"base": "palm-8b", "layers": 3}) == []
    with pytest.raises(ModelError, match=r"'palm-54b' is not a model: did you mean 'palm-540b'\?; layers: '0' .*; ga"):
        model(wrong)


def test_missing_fields_are_named() -> None:
    with pytest.raises(ModelError, match=r"d_model, d_ff, .*, tied missing: give all fields, or those that differ"):
        model({"layers": 4})
    bare = {key: value for key, value in complete().items() if key not in ("parameters", "padded_heads", "name")}
    assert model(bare).parameters == model("palm-8b").counted
    assert model(bare).name == "unnamed"


def test_what_is_no_model_at_all_is_refused() -> None:
    with pytest.raises(NameError_, match=r"'palm-540' is not a model: did you mean 'palm-540b'\?"):
        model("palm-540")
    not_a_model: Any = 4
    with pytest.raises(ModelError, match="'4' is neither the name of a model, nor a path, nor a mapping"):
        model(not_a_model)
    with pytest.raises(ModelError, match="base: '4' is neither the name of a model nor a path"):
        model({"base": 4})


def test_a_config_json_of_a_preset_gives_the_preset(tmp_path: Path) -> None:
    read, preset = model(config(tmp_path)), model("llama-3-8b")
    assert read == model("llama-3-8b", name=tmp_path.name, parameters=preset.counted)
    assert read.parameters == read.counted
    assert read.sources["d_ff"].endswith("config.json: intermediate_size")


def test_a_config_json_is_found_beside_the_scenario_and_can_be_a_base(tmp_path: Path) -> None:
    config(tmp_path, "mine.json")
    assert model("mine.json", beside=tmp_path).name == "mine"
    assert model({"base": "mine.json", "layers": 3}, beside=tmp_path).layers == 3
    assert model_mistakes({"base": "mine.json"}, tmp_path) == []
    with pytest.raises(ModelError, match=r"other\.json cannot be read: no such file"):
        model("other.json", beside=tmp_path)


def test_fields_that_a_config_json_can_leave_out(tmp_path: Path) -> None:
    gone: dict[str, Any] = {"num_key_value_heads": ..., "tie_word_embeddings": ..., "head_dim": None}
    read = model(config(tmp_path, model_type="mistral", **gone))
    assert (read.kv_heads, read.d_head, read.tied, read.gated, read.parallel) == (32, 128, False, True, False)
    read = model(config(tmp_path, model_type="qwen2", head_dim=64, tie_word_embeddings=True))
    assert (read.d_head, read.tied) == (64, True)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' cannot be read; llama, mistral, qwen2"),
        ({"model_type": "gpt_neox"}, "num_key_value_heads is given, which no model of model_type gpt_neox has"),
        ({"model_type": ...}, "model_type is missing; llama"),
        ({"hidden_size": ...}, "hidden_size is missing"),
        ({"hidden_size": ..., "vocab_size": None}, "hidden_size is missing; vocab_size is missing"),
        ({"num_hidden_layers": "32"}, "num_hidden_layers: '32' is not a whole number"),
        ({"intermediate_size": [1]}, "intermediate_size: '[1]' is not a whole number"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings: '1' is neither true nor false"),
        ({"num_attention_heads": 30}, "hidden_size 4096 is not a multiple of num_attention_heads 30"),
        ({"num_key_value_heads": 5}, "32 heads are not a multiple of 5 KV heads"),
        ({"num_local_experts": 8}, "num_local_experts is given, which no model of model_type llama has"),
        ({"model_type": "mixtral", "num_local_experts": 1}, "a token cannot use 2 of 1 experts"),
    ],
)
def test_a_config_json_that_cannot_be_read_is_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    path = config(tmp_path, **changes)
    with pytest.raises(ModelError, match=re.escape(path) + ".*" + re.escape(text)):
        model(path)


def test_broken_json_is_reported_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "llama",\n "hidden_size" 4096}')
    with pytest.raises(ModelError, match=r"config\.json:2:16: no JSON: Expecting ':' delimiter"):
        model(str(path))
    path.write_text("[1]")
    with pytest.raises(ModelError, match=r"config\.json is no config\.json of a model"):
        model(str(path))
    path.write_bytes(b"\xff")
    with pytest.raises(ModelError, match="cannot be read: 'utf-8' codec"):
        model(str(path))
    path.write_text("[" * 100_000)
    with pytest.raises(ModelError, match="cannot be read: maximum recursion depth"):
        model(str(path))


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)))
@settings(deadline=None, max_examples=60)
def test_no_value_of_a_field_is_a_crash(value: Any) -> None:
    for field in [*SIZES, "gated", "parameters", "padded_heads", "name"]:
        assert all(isinstance(wrong.text, str) for wrong in model_mistakes({"base": "palm-8b", field: value}))


@pytest.mark.parametrize("name", ["gpt-oss-120b", "gemma-3-27b", "llama-4-maverick", "deepseek-v3"])
def test_a_base_with_fewer_layers_has_its_first_ones(name: str) -> None:
    whole = model(name)
    for layers in (1, 4, 7, whole.layers - 1):
        short = model(name, layers=layers)
        assert short.kinds == whole.kinds[:layers] and model(describe(short)) == short
        assert short.parameters == short.counted and short.used_parameters == short.active
    assert model(name, layers=whole.layers, name=name) == whole
    listed = {"full_layers": [0]} if whole.window else {"dense_layers": list(whole.dense_layers)}
    more = model(name, layers=whole.layers + 2, **listed, **({"dense_layers": []} if whole.window and whole.dense_layers else {}))
    assert more.layers == whole.layers + 2
    assert [i for i, kind in enumerate(more.kinds) if kind.window is None] == (listed.get("full_layers") or [*range(more.layers)])


def test_leading_dense_layers_lead_any_number_of_layers() -> None:
    assert model("deepseek-v3", layers=70).dense_layers == (0, 1, 2)
    for name, field in (("gpt-oss-120b", "full_layers"), ("llama-4-maverick", "full_layers")):
        with pytest.raises(ModelError, match=f"give {field} too, those among 99"):
            model(name, layers=99)
