"""Attention with windows, over latents and over the sequence: FLOP and bytes by hand, laws, and the oracle."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from random_scenarios import REAL, Scenario, difference, expected, run

from torussim.alike import alike
from torussim.choice import chosen
from torussim.closed_forms import axes_seconds
from torussim.engine.simulate import simulate
from torussim.errors import ModelError
from torussim.keeping import UNLIMITED, absorbed, ring
from torussim.layouts import LAYOUTS, Layout
from torussim.memory import memory
from torussim.models import Model, model
from torussim.program import Collective, Compute, Operation
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid
from torussim.transformer import Builder, build
from torussim.workload import Forward, Workload, passes

FIVE = [name for name in LAYOUTS if not name.endswith("_code")]
# nope 16, rope 8, value 12, latents of 32 and 40
SMALL: dict[str, Any] = {"layers": 3, "d_model": 96, "d_ff": 192, "heads": 8, "kv_heads": 8, "d_head": 24, "d_value": 12,
                         "vocabulary": 480, "gated": True, "parallel": False, "tied": False, "latent": 32, "latent_rope": 8,
                         "latent_q": 40}
PLAIN = {key: value for key, value in SMALL.items() if not key.startswith("latent")}
LATENT = model(SMALL)
DEEPSEEK = model({"layers": 61, "d_model": 7168, "d_ff": 18432, "heads": 128, "kv_heads": 128, "d_head": 192, "d_value": 128,
                  "vocabulary": 129280, "gated": True, "parallel": False, "tied": False, "latent": 512, "latent_rope": 64,
                  "latent_q": 1536})  # the attention of DeepSeek V3 (its config.json), without experts
GROUPED = model({"base": "llama-3-8b", "layers": 2, "d_model": 128, "d_ff": 256, "heads": 16, "kv_heads": 4, "d_head": 16,
                 "vocabulary": 480})
LLAMA = model("llama-3-70b")
ONE = {"x": 1, "y": 1}
DECODE, PREFILL = Forward("decode", 8, 1, 96), Forward("prefill", 8, 16, 48)


def named(given: Model, layout: Layout, forward: Forward, axes: dict[str, int]) -> dict[str, Operation]:
    return {o.name: o for o in build(given, layout, forward, axes).block}


def network() -> Grid:
    return grid(torus((2, 4), bandwidth=2e9, latency=1e-6))


def products(operation: Operation) -> list[tuple[float, ...]]:
    assert isinstance(operation, Compute)
    return [(m.m, m.k, m.n, m.count) for m in operation.matmuls]


def flops(operations: dict[str, Operation], *names: str) -> float:
    return sum(o.total_flops for name in names if isinstance(o := operations[name], Compute))


# -- latent attention ---------------------------------------------------------------------------------------------------


def test_every_operation_of_latent_attention_by_hand() -> None:
    """Weights E_x F_y on 2 x 2 chips, 8 sequences, heads over all chips: 2 heads a chip."""
    found = named(LATENT, Layout("ws2d", "heads"), DECODE, {"x": 2, "y": 2})
    assert products(found["matmul_q_down"]) == [(8, 48, 40, 1)]  # E_x: 48 of 96; the latent is whole
    assert products(found["matmul_kv_down"]) == [(8, 48, 32 + 8, 1)]
    assert products(found["matmul_q_up"]) == [(8, 20, 8 * 24 / 2, 1)]  # 40 cut over x, the columns of all heads over y
    assert products(found["matmul_k_up"]) == [(8, 16, 32, 2)]
    assert products(found["attention"]) == [(2, 40, 96, 8), (2, 96, 32, 8)]  # both heads share the latent
    assert products(found["matmul_v_up"]) == [(8, 32, 12, 2)]
    assert products(found["matmul_o"]) == [(8, 8 * 12 / 2, 48, 1)]
    assert isinstance(attention := found["attention"], Compute)
    assert attention.hbm_bytes == 8 * 96 * 40 * 2 + 8 * 2 * (40 + 32) * 2  # the latents once for both heads; q and the output
    assert [(o.name, o.kind, o.axes, o.bytes) for o in found.values() if isinstance(o, Collective)][1:6] == [
        ("scatter_latent_q", "reduce_scatter", ("x",), 8 * 40 * 2), ("reduce_latent", "all_reduce", ("x",), 8 * 40 * 2),
        ("scatter_q", "reduce_scatter", ("x",), 8 * 96 * 2), ("gather_o", "all_gather", ("x",), 8 * 48 * 2),
        ("scatter_attention", "reduce_scatter", ("y",), 8 * 48 * 2)]
    expanded = named(LATENT, Layout("ws2d", "heads", latent="expanded"), DECODE, {"x": 2, "y": 2})
    assert products(expanded["expand_kv"]) == [(8 * 96, 32, 2 * (16 + 12), 1)]
    assert products(expanded["attention"]) == [(1, 24, 96, 16), (1, 96, 12, 16)]
    assert {"matmul_k_up", "matmul_v_up"}.isdisjoint(expanded)


@pytest.mark.parametrize("forward", [DECODE, PREFILL, Forward("prefill", 8, 16, 16), Forward("decode", 8, 1, 4096)], ids=str)
@pytest.mark.parametrize("ffn", ["ws2d", "wg_xyz", "ws1d"])
def test_the_flop_of_all_chips_are_those_of_the_model(forward: Forward, ffn: str) -> None:
    """Batch over all chips, so that nothing runs twice: a product for each token, head and key, in either form."""
    axes, tokens, keys = {"x": 2, "y": 4}, 8 * forward.length, forward.attended
    wanted = {"absorbed": 2 * tokens * 8 * (16 * 32 + 32 * 12 + keys * (40 + 32)),
              "expanded": 2 * (8 * keys * 32 * 8 * (16 + 12) + tokens * 8 * keys * (24 + 12))}
    names = {"absorbed": ("matmul_k_up", "attention", "matmul_v_up"), "expanded": ("expand_kv", "attention")}
    for way, total in wanted.items():
        found = named(LATENT, Layout(ffn, "batch", latent=way), forward, axes)
        assert 8 * flops(found, *names[way]) == total
    auto = named(LATENT, Layout(ffn, "batch"), forward, axes)
    assert ("expand_kv" in auto) == (wanted["expanded"] <= wanted["absorbed"])


def test_decode_absorbs_and_a_prompt_expands() -> None:
    layout = Layout()
    assert absorbed(DEEPSEEK, layout, Forward("decode", 1, 1, 2048), None)
    assert not absorbed(DEEPSEEK, layout, Forward("prefill", 1, 2048, 2048), None)
    assert not absorbed(LLAMA, layout, Forward("decode", 1, 1, 2048), None)


@pytest.mark.parametrize("ffn", FIVE)
def test_the_weights_of_latent_attention_are_counted_by_hand(ffn: str) -> None:
    attention = 7168 * 1536 + 1536 * 128 * 192 + 7168 * (512 + 64) + 512 * 128 * (128 + 128) + 128 * 128 * 7168
    assert attention == 187_105_280  # DeepSeek V3: 61 x 0.187e9 = 11.4e9 of attention
    whole = 61 * (attention + 3 * 7168 * 18432) + 2 * 129280 * 7168
    found = memory(DEEPSEEK, Layout(ffn, "batch"), Workload("decode", 1, 1000), ONE, 1e12)
    assert found.weights == 2 * whole
    assert found.kv_cache == 61 * 576 * 1001 * 2
    direct = memory(replace(DEEPSEEK, latent_q=None), Layout(ffn), Workload("decode", 1, 1000), ONE, 1e12)
    assert found.weights - direct.weights == 2 * 61 * (7168 * 1536 + 1536 * 128 * 192 - 7168 * 128 * 192)


def test_the_weights_per_head_lie_with_the_heads() -> None:
    """Over heads each chip has those of its heads; over batch all chips have all."""
    def weights(attention: str) -> float:
        return memory(LATENT, Layout("ws1d", attention), Workload("decode", 8, 10), {"x": 2, "y": 4}, 1e12).weights
    assert weights("batch") - weights("heads") == 2 * 3 * 32 * 8 * (16 + 12) * 7 / 8


def test_a_value_narrower_than_a_key_makes_output_and_cache_narrower() -> None:
    plain = model({**PLAIN, "kv_heads": 4})
    found = named(plain, Layout("ws1d", "heads"), DECODE, {"x": 4})
    assert products(found["matmul_q_k_v"]) == [(8, 96, 2 * 24 + 24 + 12, 1)]
    assert products(found["attention"]) == [(2, 24, 96, 8), (2, 96, 12, 8)]
    assert products(found["matmul_o"]) == [(8, 2 * 12, 96, 1)]
    held = memory(plain, Layout("ws1d"), Workload("decode", 8, 95), ONE, 1e12)
    assert held.kv_cache == 3 * 8 * 96 * 4 * (24 + 12) * 2
    assert held.weights == 2 * (3 * (96 * (8 + 4) * 24 + 96 * 4 * 12 + 8 * 12 * 96 + 3 * 96 * 192) + 2 * 480 * 96)


# -- windows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [GROUPED, LATENT], ids=["grouped", "latent"])
@pytest.mark.parametrize("attention", ["heads", "batch", "sequence"])
@pytest.mark.parametrize("forward", [DECODE, PREFILL], ids=str)
def test_a_window_as_long_as_the_context_is_none(given: Model, attention: str, forward: Forward) -> None:
    axes = {"x": 2, "y": 4}
    for window in (forward.attended, 10**6):
        changed = replace(given, window=window)
        assert build(changed, Layout("ws1d", attention), forward, axes) == build(given, Layout("ws1d", attention), forward, axes)
        work = Workload("decode", 8, forward.attended - 1)
        assert memory(changed, Layout("ws1d", attention), work, axes, 1e9).kv_cache == memory(
            given, Layout("ws1d", attention), work, axes, 1e9).kv_cache


def test_a_window_bounds_products_reads_and_cache_by_hand() -> None:
    """Case 26: 16 sequences, window 4096, context 32,768, 8 KV heads of 128 in 32 layers: 131,072 B a token."""
    mistral = model({"base": "llama-3-8b", "window": 4096})
    axes, layout = {"x": 2, "y": 4}, Layout("ws1d", "heads")
    held = memory(mistral, layout, Workload("decode", 16, 32768), axes, 16e9)
    assert held.kv_cache == 16 * 4096 * 131072 / 8 and held.longest_context == UNLIMITED
    attention = named(mistral, layout, Forward("decode", 16, 1, 32768), axes)["attention"]
    assert products(attention) == [(4, 128, 4096, 16), (4, 4096, 128, 16)]
    for kernel, keys in (("plain", 4096), ("fused", 4096 + 511)):  # a block of 512 queries reads the windows of all of them
        chunk = named(mistral, replace(layout, attention_kernel=kernel), Forward("prefill", 16, 512, 32768), axes)["attention"]
        assert products(chunk) == [(4 * 512, 128, keys, 16), (4 * 512, keys, 128, 16)]
        assert isinstance(chunk, Compute)
        assert chunk.hbm_bytes == 16 * (4096 + 511) * 2 * 128 * 2 + 2 * 16 * 512 * 4 * 128 * 2


def test_layers_without_a_window_keep_the_whole_context() -> None:
    """As Gemma 3: one layer of six has no window."""
    given = model({"base": "llama-3-8b", "layers": 12, "window": 1024, "full_layers": [5, 11]})
    layout, each = Layout("ws1d", "heads"), 2 * 8 * 128 * 2
    held = memory(given, layout, Workload("decode", 1, 9999), ONE, 1e9)
    assert held.kv_cache == each * (2 * 10_000 + 10 * 1024)
    longest = held.longest_context
    fits = [memory(given, layout, Workload("decode", 1, tokens - 1), ONE, 1e9).kv_cache <= 0.3e9 for tokens in
            (longest, longest + 1)]
    assert fits == [True, False]


@pytest.mark.parametrize("seed", range(12))
def test_the_longest_context_is_the_longest_that_fits(seed: int) -> None:
    rng = Random(seed)
    given = replace(GROUPED if seed % 2 else LATENT, layers=6, window=rng.choice((None, rng.randint(1, 400))),
                    full_layers=(2, 5) if rng.random() < 0.5 else ())
    given = given if given.window else replace(given, full_layers=())
    layout, axes, room = Layout("ws1d", rng.choice(("heads", "sequence"))), {"x": 2, "y": 4}, 10 ** rng.uniform(5, 7)
    def cache(tokens: int) -> float:
        return memory(given, layout, Workload("decode", 8, tokens - 1), axes, room).kv_cache
    longest = memory(given, layout, Workload("decode", 8, 1), axes, room).longest_context
    assert longest == 0 or cache(longest) <= 0.3 * room
    assert longest == UNLIMITED or cache(longest + 1) > 0.3 * room


@pytest.mark.parametrize("seed", range(8))
def test_a_longer_window_never_takes_less_time_or_memory(seed: int) -> None:
    rng = Random(seed)
    given, attention = rng.choice((GROUPED, LATENT)), rng.choice(("heads", "batch", "sequence"))
    forward, axes = rng.choice((DECODE, PREFILL)), {"x": 2, "y": 4}
    layout, net = Layout("ws1d", attention, latent=rng.choice(("absorbed", "expanded"))), network()
    made = [(axes_seconds(build(changed, layout, forward, axes), net, REAL),
             memory(changed, layout, Workload("decode", 8, 100), axes, 1e9).kv_cache)
            for changed in (replace(given, window=window) for window in sorted(rng.sample(range(1, 100), 6)))]
    assert all(a[0] <= b[0] * (1 + 1e-12) and a[1] <= b[1] for a, b in pairwise(made))


# -- over the sequence --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [GROUPED, LATENT, replace(LATENT, latent_q=None), replace(GROUPED, window=30)],
                         ids=["grouped", "latent", "whole q", "window"])
@pytest.mark.parametrize("forward", [DECODE, PREFILL, Forward("prefill", 8, 48, 48)], ids=str)
@pytest.mark.parametrize("ffn", FIVE)
def test_over_one_chip_the_sequence_is_whole(given: Model, forward: Forward, ffn: str) -> None:
    assert build(given, Layout(ffn, "sequence"), forward, ONE) == build(given, Layout(ffn, "heads"), forward, ONE)


def test_llama_with_65536_tokens_over_32_chips_by_hand() -> None:
    """8 KV heads over the 8 chips of x, tokens over the 4 of y: each chip has 1/32 of the cache."""
    axes, layout = {"x": 8, "y": 4}, Layout("ws1d", "sequence")
    forward = Forward("decode", 8, 1, 65536)
    found = named(LLAMA, layout, forward, axes)
    assert products(found["attention"]) == [(8, 128, 16384, 8), (8, 16384, 128, 8)]
    names = ("gather_q", "reduce_softmax", "scatter_o")
    assert [(o.kind, o.axes, o.bytes) for name in names if isinstance(o := found[name], Collective)] == [
        ("all_gather", ("y",), 8 * 8 * 128 * 2), ("all_reduce", ("y",), 8 * 8 * 2 * 4),
        ("reduce_scatter", ("y",), 8 * 8 * 128 * 2)]
    held = memory(LLAMA, layout, Workload("decode", 8, 65535), axes, 32e9)
    assert held.kv_cache * 32 == 80 * 8 * 65536 * 2 * 8 * 128 * 2
    heads = memory(LLAMA, Layout("ws1d", "heads"), Workload("decode", 8, 65535), axes, 32e9)
    assert heads.kv_cache == 4 * held.kv_cache


def test_a_ring_of_prompts_by_hand() -> None:
    """A prompt of 4096: each chip has 1024 queries of its 8 heads, and K and V of its KV head come round."""
    plain = Layout("ws1d", "sequence", attention_kernel="plain")
    found = named(LLAMA, plain, Forward("prefill", 1, 4096, 4096), {"x": 8, "y": 4})
    moved = [(o.name, o.kind, o.axes, o.bytes) for o in found.values() if isinstance(o, Collective)][1:4]
    assert moved == [("exchange_q", "all_to_all", ("y",), 4096 * 256 * 2), ("gather_kv", "all_gather", ("y",), 4096 * 256 * 2),
                     ("exchange_o", "all_to_all", ("y",), 1024 * 1024 * 2)]
    attention = found["attention"]
    assert products(attention) == [(8 * 1024, 128, 1024, 4), (8 * 1024, 1024, 128, 4)]
    fused = named(LLAMA, Layout("ws1d", "sequence"), Forward("prefill", 1, 4096, 4096), {"x": 8, "y": 4})["attention"]
    assert products(fused) == [(8 * 512, 128, (4096 + 512) / 2 / 4, 2 * 4), (8 * 512, (4096 + 512) / 2 / 4, 128, 2 * 4)]
    for one in (attention, fused):
        assert isinstance(one, Compute)
        assert {(loop.collective, loop.cut) for loop in one.loops} == {("gather_kv", (1, 1, 1, 4))}


@pytest.mark.parametrize(("length", "attended", "travels"), [(1, 4096, False), (4096, 4096, True), (512, 4223, True),
                                                             (512, 4224, False), (512, 512, True)])
def test_what_has_fewer_bytes_travels(length: int, attended: int, travels: bool) -> None:
    """Llama 3 70B: K and V of a token have 2 x 1024 elements, q and the output 2 x 8192, with 64 maxima and sums both ways."""
    assert ring(LLAMA, Layout(), Forward("prefill", 1, length, attended), None) is travels
    keys, queries = attended * 2048 * 2, length * (2 * 8192 * 2 + 64 * 2 * 2 * 4)
    assert travels == (length > 1 and keys < queries)


@pytest.mark.parametrize("ffn", ["ws1d", "ws2d", "wg_x"])
@pytest.mark.parametrize("given", [GROUPED, LATENT], ids=["grouped", "latent"])
@pytest.mark.parametrize("context", [64, 65, 1])
def test_the_caches_of_all_chips_are_that_of_the_model(given: Model, ffn: str, context: int) -> None:
    """If the tokens divide; otherwise every chip has room for the longest part."""
    held = memory(given, Layout(ffn, "sequence"), Workload("prefill", 8, context), {"x": 2, "y": 4, "z": 2}, 1e9).kv_cache
    each = 8 * (4 * 2 * 16 if given is GROUPED else 40) * 2 * given.layers
    parts = 16 // {("ws1d", GROUPED): 4, ("ws2d", GROUPED): 4, ("wg_x", GROUPED): 8, ("wg_x", LATENT): 2}.get((ffn, given), 1)
    assert 16 * held == pytest.approx(each * -(-context // parts) * parts)


@pytest.mark.parametrize("seed", range(6))
def test_queries_and_keys_travel_for_the_same_flop(seed: int) -> None:
    """The products of all chips are those of the model, whoever travels, if the tokens divide."""
    rng = Random(seed)
    axes, length = {"x": rng.choice((2, 4)), "y": 8}, 16 * rng.randint(1, 3)
    for attended in (length, 160 * length):
        forward = Forward("prefill", 4, length, attended)
        found = named(GROUPED, Layout("ws1d", "sequence"), forward, axes)
        assert ("gather_kv" in found) == (attended == length)
        assert axes["x"] * axes["y"] * flops(found, "attention") == 2 * 4 * length * 16 * attended * 2 * 16


@pytest.mark.parametrize("way", ["absorbed", "expanded"])
@pytest.mark.parametrize("attention", ["heads", "batch", "sequence"])
def test_more_products_on_the_same_cache_never_take_less_time(way: str, attention: str) -> None:
    """More new tokens, more heads, more attended tokens."""
    net, axes, layout = network(), {"x": 2, "y": 4}, Layout("ws1d", attention, latent=way)
    def seconds(given: Model, length: int, attended: int) -> float:
        return axes_seconds(build(given, layout, Forward("prefill", 8, length, attended), axes), net, REAL)
    more_heads = replace(LATENT, heads=16, kv_heads=16)
    assert seconds(LATENT, 8, 640) <= seconds(LATENT, 16, 640) <= seconds(more_heads, 16, 640) <= seconds(more_heads, 16, 656)


# -- passes, and the engines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [LATENT, GROUPED, replace(GROUPED, window=40)], ids=["latent", "grouped", "window"])
@pytest.mark.parametrize("attention", ["heads", "sequence"])
def test_passes_of_a_group_are_their_own_programs(given: Model, attention: str) -> None:
    """A chunk whose latents are expanded, or whose K and V travel, stands apart from one that does not."""
    layout, axes = Layout("ws1d", attention), {"x": 2, "y": 4}
    todo = passes(Workload("generate", 8, 100, tokens=3, chunk=16))
    made = [group.of(i) for group in alike(given, {"prefill": layout, "decode": layout}, todo, axes) for i in range(len(group))]
    assert made == [build(given, layout, forward, axes) for forward in todo]


def test_the_attention_of_a_pass_can_be_asked_for_other_lengths() -> None:
    builder = Builder(LATENT, Layout("ws1d", "batch", latent="expanded"), PREFILL, {"x": 2, "y": 4})
    builder.build()
    longer = {o.name: o for o in build(LATENT, builder.layout, replace(PREFILL, attended=200), {"x": 2, "y": 4}).block}
    assert {name: make(200) for name, make in builder.attention.items()} == {
        name: longer[name] for name in ("expand_kv", "attention")}


@pytest.mark.parametrize("seed", range(10))
def test_engine_is_oracle_on_built_programs(seed: int) -> None:
    rng = Random(seed)
    shape = rng.choice(((2, 2), (2, 3), (4, 2), (1, 4), (2, 2, 2)))
    given = rng.choice((replace(LATENT, layers=2), replace(LATENT, layers=2, window=20), replace(GROUPED, window=33), GROUPED))
    given = replace(given, heads=12, kv_heads=12 if given.latent else 4, d_model=192, d_ff=384) if 3 in shape else given
    forward = Forward("prefill", 24, *rng.choice(((1, 48), (6, 13), (16, 48), (24, 24))))
    layout = Layout(rng.choice(FIVE), "sequence" if seed % 3 else rng.choice(("heads", "batch")),
                    latent=rng.choice(("auto", "absorbed", "expanded")))
    graph = torus(shape, wrap=[rng.random() < 0.5 for _ in shape], bandwidth=2e9, latency=1e-6)
    net = grid(graph)
    axes = {axis: net.length(axis) for axis in net.axes}
    program = chosen(build(given, layout, forward, axes), net, REAL)
    case = Scenario(program, graph, (0.0,) * len(net.chips), REAL, repeat=False)
    assert not difference(case, run(case), expected(case), blocks=False)


@pytest.mark.parametrize("given", [GROUPED, LATENT, replace(LATENT, window=20)], ids=["grouped", "latent", "window"])
@pytest.mark.parametrize("forward", [DECODE, PREFILL, Forward("prefill", 8, 48, 48)], ids=str)
def test_simulation_is_the_closed_form_on_rings(given: Model, forward: Forward) -> None:
    """Where K and V travel too, looped with attention."""
    net = grid(torus((3, 4), bandwidth=2e9, latency=1e-6))
    program = build(replace(given, heads=24, kv_heads=24 if given.latent else 3, d_model=192, d_ff=384),
                    Layout("ws1d", "sequence"), forward, {"x": 3, "y": 4})
    assert simulate(program, net, REAL).makespan == pytest.approx(axes_seconds(program, net, REAL), rel=1e-9)


def test_norms_of_q_and_k_are_those_of_a_chips_heads() -> None:
    plain, normed = (named(replace(GROUPED, qk_norm=qk_norm), Layout("ws1d", "heads"), PREFILL, {"x": 2, "y": 2})
                     for qk_norm in (False, True))
    assert isinstance(norm := normed.pop("norm_q_k"), Compute) and normed == plain
    assert norm.vector_bytes == 3 * 2 * 8 * 16 * (4 + 1) * 16  # 4 heads and one KV head a chip; read twice and written


def test_a_mixed_up_model_is_refused() -> None:
    for wrong in ({"latent": 32, "kv_heads": 4}, {"latent_rope": 8, "kv_heads": 8}, {"full_layers": [1]}):
        with pytest.raises(ModelError):
            model({**PLAIN, **wrong})
