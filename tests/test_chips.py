"""Chips: presets with sources, rates, the rule for wraparounds, and what is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim import files, units
from torussim.chips import DTYPE_BYTES, Chip, chip, chip_mistakes, describe
from torussim.errors import NameError_, TorusSimError
from torussim.resolve import preset_names, preset_path

PRESETS = preset_names("chips")
SCALARS = ("hbm_bytes", "hbm_bandwidth", "on_chip_bytes", "link_bandwidth", "link_latency", "links", "wrap", "tile", "load_rows",
           "vector_rate", "matmul_efficiency")
FACTORS = ("hbm_efficiency", "link_efficiency", "shared_efficiency", "launch", "message", "op_overhead", "loop_step")
DTYPES = st.sampled_from(["bf16", "fp8", "int8", "int4"])


def complete(**changes: Any) -> dict[str, Any]:
    """Return a mapping with all fields of a chip."""
    return {**describe(chip("tpu-v4")), **changes}


def test_there_are_the_presets_that_the_design_promises() -> None:
    assert set(PRESETS) == {"a100", "b200", "h100", "h200", "ideal", "tpu-v2", "tpu-v3", "tpu-v4", "tpu-v5e", "tpu-v5p",
                            "tpu-v6e", "tpu-v7x"}


OPTIONAL = {"validated", "cores", "core_bandwidth", "bulk_launch", "low_latency_rate", "in_switch_rate", "algorithms"}


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_of_a_preset_has_a_source(name: str) -> None:
    preset = chip(name)
    rates = {f"flops.{dtype}" for dtype in preset.flops}
    uncertain = {f"uncertainty.{parameter}" for parameter in preset.uncertainty}
    assert set(preset.sources) - OPTIONAL == {*SCALARS, *FACTORS, *rates, *uncertain}
    assert all(len(text) > 3 for text in preset.sources.values())
    document = files.read(preset_path("chips", name))
    assert document.mistakes == () and preset.name == name


def test_where_sources_differ_the_other_number_is_named() -> None:
    assert "50 GB/s" in chip("tpu-v4").sources["link_bandwidth"]
    assert "140 TFLOP/s" in chip("tpu-v3").sources["flops.bf16"]


@pytest.mark.parametrize("name", PRESETS)
def test_describe_and_chip_are_inverses(name: str) -> None:
    preset = chip(name)
    again = chip(json.loads(json.dumps(describe(preset))))
    assert again == preset and again.sources == preset.sources and hash(again) == hash(preset)


@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "flops": st.dictionaries(DTYPES, st.floats(1, 1e20), max_size=3),
            "hbm_bytes": st.floats(1e-3, 1e15),
            "link_latency": st.floats(0, 1),
            "links": st.integers(1, 20),
            "wrap": st.sampled_from(["always", {"axis_length": 3}, {"every_axis_multiple_of": 2}]),
            "tile": st.fixed_dictionaries({side: st.integers(1, 512) for side in ("rows", "contraction", "columns")}),
            "link_efficiency": st.floats(0, 1, exclude_min=True),
            "shared_efficiency": st.floats(0, 1, exclude_min=True),
            "name": st.text(min_size=1),
        },
    )
)
@settings(deadline=None, max_examples=40)
def test_a_changed_chip_survives_describe_too(changes: dict[str, Any]) -> None:
    changed = chip("tpu-v5e", **changes)
    again = chip(describe(changed))
    assert again == changed and again.sources == changed.sources


def test_a_mapping_needs_only_what_differs_from_its_base() -> None:
    changed = chip({"base": "tpu-v4", "link_bandwidth": "50 GB/s", "flops": {"int8": "550 TFLOP/s"}})
    assert changed.link_bandwidth == 50e9
    assert changed.flops == {"bf16": 275e12, "int8": 550e12}
    assert changed.hbm_bytes == chip("tpu-v4").hbm_bytes == 32 * 2**30
    assert changed.name == "tpu-v4, changed"


def test_changes_as_keywords_are_changes_in_a_mapping() -> None:
    assert chip("tpu-v4", links=4) == chip({"base": "tpu-v4", "links": 4}) == chip({"base": "tpu-v4"}, links=4)
    assert chip({"base": "tpu-v4"}) == chip("tpu-v4")


def test_a_changed_number_loses_the_source_of_the_old_one_and_can_bring_its_own() -> None:
    plain = chip("tpu-v4", hbm_bytes="16 GB")
    assert "hbm_bytes" not in plain.sources and "hbm_bandwidth" in plain.sources
    assert chip("tpu-v4", hbm_bytes={"value": "16 GB", "source": "ours"}).sources["hbm_bytes"] == "ours"


def test_bytes_are_those_of_the_table_gb_or_gib() -> None:
    sizes = {name: chip(name).hbm_bytes for name in PRESETS}
    assert sizes["tpu-v4"] == sizes["tpu-v3"] == units.read("32 GiB", "B")
    assert (sizes["tpu-v5e"], sizes["tpu-v5p"], sizes["tpu-v6e"]) == (16e9, 96e9, 32e9)


def test_the_ideal_chip_is_tpu_v4_with_nothing_lost() -> None:
    ideal, real = chip("ideal"), chip("tpu-v4")
    assert (ideal.flops, ideal.hbm_bandwidth, ideal.link_bandwidth, ideal.links) == (
        real.flops,
        real.hbm_bandwidth,
        real.link_bandwidth,
        real.links,
    )
    assert ideal.matmul_efficiency == ideal.hbm_efficiency == ideal.link_efficiency == 1
    assert ideal.launch == ideal.op_overhead == ideal.loop_step == ideal.link_latency == 0
    assert ideal.tile == (1, 1, 1)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dtype", ["bf16", "fp8", "int8", "int4"])
def test_a_narrower_dtype_is_never_slower(name: str, dtype: str) -> None:
    preset = chip(name)
    assert preset.rate(dtype) >= preset.rate("bf16") == preset.flops["bf16"]
    assert preset.rate("int4") >= preset.rate("int8")


def test_a_dtype_without_a_rate_of_its_own_runs_as_the_best_wider_one() -> None:
    bare = {key: value for key, value in complete().items() if key != "flops"}
    some = chip(bare, flops={"bf16": 100.0, "int8": 300.0, "fp8": 50.0})
    assert {dtype: some.rate(dtype) for dtype in ("bf16", "int8", "fp8", "int4")} == {
        "bf16": 100.0,
        "int8": 300.0,
        "fp8": 100.0,
        "int4": 300.0,
    }
    assert chip("tpu-v3").rate("int8") == 123e12


def test_a_dtype_that_activations_cannot_have_is_refused() -> None:
    assert "f32" in DTYPE_BYTES
    with pytest.raises(NameError_, match=r"'f32' is not a dtype of activations: "):
        chip("tpu-v4").rate("f32")


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.sampled_from(PRESETS))
@settings(deadline=None, max_examples=100)
def test_axes_of_up_to_two_chips_never_wrap_and_order_does_not_matter(shape: list[int], name: str) -> None:
    preset = chip(name)
    wraps = preset.wraps(tuple(shape))
    assert not any(wrap for wrap, length in zip(wraps, shape, strict=True) if length <= 2)
    assert preset.wraps(tuple(reversed(shape))) == tuple(reversed(wraps))


def test_wraparounds_by_each_rule() -> None:
    assert chip("tpu-v4").wraps((4, 4, 8)) == (True, True, True)
    assert chip("tpu-v5p").wraps((4, 4, 6)) == (False, False, False)
    assert chip("tpu-v6e").wraps((8, 16)) == (False, True)
    assert chip("ideal").wraps((1, 2, 3)) == (False, False, True)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("hbm_bytes", "32 GiBs", "hbm_bytes: '32 GiBs' is not a number of bytes"),
        ("hbm_bytes", "32 GB/s", "hbm_bytes: '32 GB/s' is a bandwidth, not a number of bytes"),
        ("hbm_bandwidth", 0, "hbm_bandwidth: '0' is not a bandwidth that can be used: must be above 0"),
        ("link_latency", "-1 us", "link_latency: '-1 us' is not a time"),
        ("links", 4.5, "links: '4.5' is not a whole number"),
        ("links", True, "links: 'True' is not a whole number"),
        ("links", 0, "links: '0' is not a whole number from 1"),
        ("matmul_efficiency", 1.1, "matmul_efficiency: '1.1' is not a share: must be above 0 and at most 1"),
        ("link_efficiency", 0, "link_efficiency: '0' is not a share"),
        ("hbm_efficiency", "95 %", "hbm_efficiency: '95 %' is not a share"),
        ("wrap", "never", "wrap: 'never' is no rule for wraparounds: write always, {every_axis_multiple_of: 4}"),
        ("wrap", {"axis_length": 0}, "wrap: '0' is not a whole number"),
        ("wrap", {"axis_length": 16, "every_axis_multiple_of": 4}, "is no rule for wraparounds"),
        ("tile", [8, 128, 128], "tile: '[8, 128, 128]' is not a tile: write {rows: 8"),
        ("tile", {"rows": 8, "contraction": 128, "columns": "x"}, "tile: 'x' is not a whole number"),
        ("flops", "275 TFLOP/s", "flops: '275 TFLOP/s' is not a mapping of dtypes to rates"),
        ("flops", {"bf61": 1.0}, "'flops.bf61' is not a field of a chip: did you mean 'flops.bf16'?"),
        ("flops", {"bf16": 0}, "flops.bf16: '0' is not a FLOP rate that can be used"),
        ("launch", "5 GB", "launch: '5 GB' is a number of bytes, not a time"),
        ("name", 3, "name: '3' is not a name"),
        ("hbm_byte", 1, "'hbm_byte' is not a field of a chip: did you mean 'hbm_bytes'?"),
        ("links", {"value": 4, "source": 3}, "links: the source '3' is not a text"),
        ("links", {"value": 4, "sauce": "x"}, "links: 'sauce' cannot stand beside value and source"),
    ],
)
def test_a_wrong_field_is_named_and_quoted(field: str, value: Any, text: str) -> None:
    with pytest.raises(TorusSimError, match=re.escape(text)) as caught:
        chip("tpu-v4", **{field: value})
    unknown = "is not a field" in text or "beside" in text
    assert caught.value.path[0] == field and (caught.value.code == "unknown-key") == unknown
    assert caught.value.code in ("value", "quantity", "clash", "unknown-key")
    assert any(text in wrong.text for wrong in chip_mistakes({"base": "tpu-v4", field: value}))
    assert any(text in wrong.text for wrong in chip_mistakes(complete(**{field: value})))


def test_all_mistakes_come_at_once_with_their_paths() -> None:
    wrong = {"base": "tpu-v44", "links": 0, "flops": {"int8": {"value": "x"}}, "nonsense": 1}
    assert [wrong.path for wrong in chip_mistakes(wrong)] == [
        ("base",),
        ("links",),
        ("nonsense",),
        ("flops", "int8", "value"),
    ]
    assert chip_mistakes({"base": "tpu-v4", "links": 4}) == []
    with pytest.raises(TorusSimError, match=r"base: 'tpu-v44' is not a chip: did you mean 'tpu-v4'\?; links: '0'"):
        chip(wrong)


def test_missing_fields_are_named() -> None:
    with pytest.raises(TorusSimError, match=r"flops\.bf16, hbm_bytes, .*, loop_step missing: give all fields, or"):
        chip({"links": 4})
    bare = {key: value for key, value in complete().items() if key != "launch"}
    assert [(wrong.path, wrong.text[:16]) for wrong in chip_mistakes(bare)] == [((), "launch missing: ")]


def test_what_is_no_chip_at_all_is_refused() -> None:
    with pytest.raises(NameError_, match=r"'tpu-4' is not a chip: did you mean 'tpu-v4'\?"):
        chip("tpu-4")
    not_a_chip: Any = 4
    with pytest.raises(TorusSimError, match="'4' is neither the name of a chip nor a mapping"):
        chip(not_a_chip)
    with pytest.raises(TorusSimError, match="base: '4' is not the name of a chip"):
        chip({"base": 4})
    with pytest.raises(TorusSimError, match="'base' is not a field of a chip"):
        chip("tpu-v4", base="ideal")


def test_a_chip_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="links"):
        chip("ideal").links = 3  # type: ignore[misc]
    assert isinstance(chip("ideal"), Chip)
