"""Public slices of TPU pods: their true shapes and wraparounds, by name and by shape; v7x with a node for each core."""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim import files, load, plan, run
from torussim.chips import chip, core_of
from torussim.errors import NameError_, ScenarioError
from torussim.report import text
from torussim.topology.slices import names, pod_of, slice_of

DATA = files.read(Path(__file__).parents[1] / "torussim" / "data" / "slices.yaml")
CORES_A_CHIP = {"v2": 2, "v3": 2, "v4": 2, "v5p": 2, "v5e": 1, "v6e": 1, "tpu7x": 2}  # as the names count
GATHER = {"name": "gather", "collective": "all_gather", "axes": "xy", "bytes": "64 MB"}

# MaxText (AI-Hypercomputer/maxtext), utils/accelerator_to_spec_map.py: shape in chips, and which axes have wraparounds (w).
MAXTEXT = """
v6e-1 1x1 --; v6e-4 2x2 --; v6e-8 2x4 --; v6e-16 4x4 --; v6e-32 4x8 --; v6e-64 8x8 --; v6e-128 8x16 -w; v6e-256 16x16
ww; v5e-1 1x1 --; v5e-4 2x2 --; v5e-8 2x4 --; v5e-16 4x4 --; v5e-32 4x8 --; v5e-64 8x8 --; v5e-128 8x16 -w; v5e-256
16x16 ww; v4-8 2x2x1 ---; v4-16 2x2x2 ---; v4-32 2x2x4 ---; v4-64 2x4x4 ---; v4-128 4x4x4 www; v4-256 4x4x8 www; v4-384
4x4x12 www; v4-512 4x8x8 www; v4-1024 8x8x8 www; v4-1536 8x8x12 www; v4-2048 8x8x16 www; v4-4096 8x16x16 www; v5p-8
2x2x1 ---; v5p-16 2x2x2 ---; v5p-32 2x2x4 ---; v5p-64 2x4x4 ---; v5p-128 4x4x4 www; v5p-256 4x4x8 www; v5p-512 4x8x8 www
"""
FACTS = [tuple(one.split()) for one in MAXTEXT.replace("\n", " ").split(";")]
MORE = [("v2-8", "2x2"), ("v2-32", "4x4"), ("v2-512", "16x16"), ("v3-8", "2x2"), ("v3-32", "4x4"), ("v3-1024", "16x32"),
        ("v3-2048", "32x32"), ("v5p-1024", "8x8x8"), ("v5p-2048", "8x8x16"), ("v5p-4096", "8x16x16"), ("v5p-8192", "16x16x16"),
        ("v5p-12288", "16x16x24"), ("tpu7x-8", "2x2x1"), ("tpu7x-128", "4x4x4"), ("v7x-16", "2x2x2")]


def shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


@pytest.mark.parametrize("name, shape, wrap", FACTS)
def test_a_slice_of_maxtexts_table_has_its_shape_and_wraparounds(name: str, shape: str, wrap: str) -> None:
    lengths, wraps, _ = slice_of(name)
    assert shown(lengths) == shape and "".join("w" if one else "-" for one in wraps) == wrap


@pytest.mark.parametrize("name, shape", MORE)
def test_a_slice_of_googles_pages_has_its_shape(name: str, shape: str) -> None:
    assert shown(slice_of(name)[0]) == shape


def test_the_file_has_sources_and_no_mistakes() -> None:
    assert DATA.mistakes == () and all(len(one["source"]) > 10 for one in DATA.value["generations"].values())


@pytest.mark.parametrize("name", names())
def test_a_name_counts_the_cores_of_its_shape(name: str) -> None:
    shape, wrap, preset = slice_of(name)
    generation, size = name.split("-")
    assert prod(shape) * CORES_A_CHIP[generation] == int(size)
    assert len(wrap) == len(shape) == chip(preset).links // 2 and pod_of(preset).named[name] == (shape, wrap)


def test_only_a_slice_as_long_as_the_pod_goes_round_where_the_cables_of_the_pod_are_fixed() -> None:
    assert [slice_of(name)[1] for name in ("v3-32", "v3-1024", "v3-2048", "v2-512")] == [
        (False, False), (False, True), (True, True), (True, True)]


@pytest.mark.parametrize("one, other", [("v5litepod-16", "v5e-16"), ("v7x-128", "tpu7x-128"), ("v7x-2x2x1", "tpu7x-2x2x1")])
def test_a_generation_has_its_other_names(one: str, other: str) -> None:
    assert slice_of(one) == slice_of(other)


@settings(deadline=None)
@given(st.sampled_from(sorted(CORES_A_CHIP)), st.lists(st.integers(1, 12), min_size=3, max_size=3))
def test_a_shape_counts_chips_and_has_the_wraparounds_of_its_chips_rule(generation: str, lengths: list[int]) -> None:
    preset = DATA.value["generations"][generation]["chip"]
    lengths = lengths[:chip(preset).links // 2]
    found = slice_of(f"{generation}-{shown(tuple(lengths))}")
    assert found == (tuple(lengths), chip(preset).wraps(tuple(lengths)), preset) == slice_of(shown(tuple(lengths)), preset)


@pytest.mark.parametrize("name", names())
def test_a_public_slice_is_also_found_by_its_shape(name: str) -> None:
    assert slice_of(f"{name.split('-')[0]}-{shown(slice_of(name)[0])}") == slice_of(name)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("v5e16", "'v5e16' is not a TPU slice: did you mean 'v5e-16'?"),
        ("v5-e16", "'v5-e16' is not a TPU slice: did you mean 'v5e-16'?"),
        ("V5E-16", "did you mean 'v5e-16'?"),
        ("tpu-v5p-8", "did you mean 'v5p-8'?"),
        ("v5pp-16", "did you mean 'v5p-16'?"),
        ("tpu7-8", "did you mean 'tpu7x-8'?"),
        ("v4-12", "'v4-12' is not a TPU slice: one of v4-8, v4-16, v4-32, v4-64, v4-128, "),
        ("v5litepod-17", "one of v5e-1, v5e-4, v5e-8, v5e-16, v5e-32, v5e-64, v5e-128, v5e-256"),
        ("v5p-1000", "'v5p-1000' is not a TPU slice: the sizes next to it are v5p-896 and v5p-1024; or give a shape, such as"),
        ("v5p-4", "the sizes next to it are v5p-8; or"),
        ("v5p-99999", "the sizes next to it are v5p-17920; or"),
        ("v5p-4x4", "'v5p-4x4' has 2 axes, but slices of v5p have 3, such as v5p-2x2x1"),
        ("v6e-4x4x4", "'v6e-4x4x4' has 3 axes, but slices of v6e have 2"),
        ("v4-0x4x4", "has 0 chips: give 1 to 1,000,000"),
        ("v4-4096x4096x4096", "has 68,719,476,736 chips: give 1 to 1,000,000"),
        ("4x4x8", "'4x4x8' is a shape without a generation: write one before it, such as v5p-4x4x8, or name the chip"),
        ("", "'' is not a TPU slice: slices of v2, v3, v4, v5e, v6e, v5p, tpu7x have names, such as v2-8, or shapes"),
        ("h100-8", "'h100-8' is not a TPU slice: slices of v2, v3, v4, v5e, v6e, v5p, tpu7x have names"),
        ("v9-8", "'v9-8' is not a TPU slice: slices of v2, "),
    ],
)
def test_an_unknown_name_gets_the_slice_that_is_spelt_alike_or_those_of_its_generation(given: str, text: str) -> None:
    with pytest.raises(NameError_, match=re.escape(text)):
        slice_of(given)


# -- v7x: a node for each core ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["v7x-2x2x1", "tpu7x-8", "v7x-4x4x4"])
@pytest.mark.parametrize("given_chip", [{}, {"chip": "tpu-v7x"}, {"chip": {"base": "tpu-v7x", "launch": 0}}])
def test_a_node_of_a_v7x_slice_is_half_a_chip(name: str, given_chip: dict[str, object]) -> None:
    shape = slice_of(name)[0]
    scenario, whole = load({**given_chip, "topology": {"slice": name}, "program": [GATHER]}), chip("tpu-v7x")
    assert list(scenario.net.links.axes) == ["x", "y", "z", "core"] and scenario.net.shape == (*shape, 2)
    for key in ("hbm_bytes", "hbm_bandwidth", "link_bandwidth", "vector_rate"):
        assert 2 * getattr(scenario.chip, key) == getattr(whole, key) and "1/2 of the chip's" in scenario.chip.sources[key]
    assert {dtype: 2 * rate for dtype, rate in scenario.chip.flops.items()} == whole.flops
    for u, v, link in scenario.topology.edges(data=True):
        assert link["bandwidth"] == (1.2e12 if u[:3] == v[:3] else 50e9)
        assert (u[3] == v[3]) != (u[:3] == v[:3])
    again = load(json.loads(json.dumps(scenario.resolved)))
    assert again.resolved == scenario.resolved and again.chip == scenario.chip


def test_the_links_of_the_cores_of_a_chip_add_up_to_those_of_the_chip() -> None:
    """Both cores gather at once what the whole chip gathers: half of the bytes over half of each link."""
    ideal = {"base": "tpu-v7x", "launch": 0, "link_latency": 0, "link_efficiency": 1}
    by_core = run({"chip": ideal, "topology": {"slice": "v7x-4x4x4"}, "program": [{**GATHER, "bytes": "32 MB"}]})
    whole = run({"chip": ideal, "topology": {"shape": [4, 4, 4]}, "program": [GATHER]})
    assert by_core.keys["makespan_s"] == pytest.approx(whole.keys["makespan_s"], rel=1e-9)


def test_a_result_of_v7x_counts_chips_and_cores_and_pays_for_chips() -> None:
    asked = {"model": {"base": "palm-8b", "layers": 2}, "topology": {"slice": "tpu7x-16"},
             "workload": {"phase": "decode", "batch": 16, "context": 64}}
    result = run(asked)
    assert (result.keys["chips"], result.keys["cores"]) == (8, 16)
    assert result.keys["chip_s_per_token"] == pytest.approx(8 * result.keys["latency_s"] / 16)
    assert "8 chips with 16 cores (tpu-v7x, one core), 2x2x2x2" in text(result) and "Memory a core" in text(result)
    assert any("a node is one of the 2 cores of a chip" in note for note in result.notes)
    flops = 16 * chip("tpu-v7x").flops["bf16"] / 2
    parameters = result.keys["mfu"] * flops * result.keys["latency_s"] / 2 / 16
    assert parameters == pytest.approx(load(asked).model.parameters)
    assert run(json.loads(json.dumps(result.keys["scenario"]))).keys["latency_s"] == result.keys["latency_s"]


def test_a_plan_on_v7x_has_the_cores_on_a_logical_axis() -> None:
    found = plan({"model": {"base": "palm-8b", "layers": 2}, "topology": {"slice": "v7x-2x1x1"},
                  "workload": {"phase": "decode", "batch": 16, "context": 64}}, shapes=True)
    assert found.pick.keys["chip_s_per_token"] == pytest.approx(2 * found.pick.keys["latency_s"] / 16)
    assert not found.shapes


def test_a_chip_of_one_core_is_its_own_core() -> None:
    whole = chip("tpu-v4")
    assert core_of(whole).flops == whole.flops and core_of(whole).link_bandwidth == whole.link_bandwidth


@pytest.mark.parametrize("topology, text", [
    ({"slice": "v7x-8", "axes": ["a", "b", "c", "d"]}, "a slice has its own names: leave axes out"),
    ({"shape": [2, 2], "axes": ["a"]}, "do not name the 2 axes: give 2 different names"),
    ({"shape": [2, 2], "axes": ["a", "a"]}, "do not name the 2 axes"),
    ({"slice": "v7x-100x100x100"}, "has 2,000,000 cores: at most 1,000,000 can be simulated"),
    ({"slice": "v7x-8", "bandwidth": [1e9, 1e9, 1e9]}, "is a list of 3, but there are 4 axes")])
def test_axes_that_do_not_fit_are_told(topology: dict[str, object], text: str) -> None:
    with pytest.raises(ScenarioError, match=re.escape(text)):
        load({"chip": "tpu-v7x", "topology": topology, "program": [{**GATHER, "axes": []}]})


def test_axes_can_have_names() -> None:
    found = load({"chip": "ideal", "topology": {"shape": [2, 3], "axes": ["row", "column"]},
                  "program": [{**GATHER, "axes": ["row"]}]})
    assert found.net.axes == ("row", "column") and load(found.resolved).resolved == found.resolved
