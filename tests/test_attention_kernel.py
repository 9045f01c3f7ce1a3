"""The fused kernel of attention beside the plain one: products, bytes and times by hand, laws, and the choice between the two."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim import load, run
from torussim.alike import alike
from torussim.cases import case
from torussim.chips import chip
from torussim.closed_forms import estimate
from torussim.cost import compute_seconds
from torussim.engine.simulate import simulate
from torussim.errors import LayoutError
from torussim.export.facts import facts
from torussim.keeping import absorbed, reach
from torussim.kernels import BLOCK, LEAST_BLOCK
from torussim.layouts import FUSED, KERNELS, LAYOUTS, PLAIN, Layout
from torussim.measurements import found, read
from torussim.memory import memory
from torussim.models import Model, model
from torussim.prices import work as work_of
from torussim.program import Compute, Program
from torussim.report import text
from torussim.topology.builders import torus
from torussim.transformer import Builder, build
from torussim.workload import Forward, Workload, passes

LLAMA = model("llama-3-70b")
PRESETS = [chip(name) for name in ("tpu-v2", "tpu-v3", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7x", "a100", "h100",
                                   "h200", "b200", "ideal")]


def attention(given: Model, layout: Layout, forward: Forward, axes: dict[str, int]) -> Compute:
    """Return the attention of a layer."""
    found = next(o for o in build(given, layout, forward, axes).block if o.name == "attention")
    assert isinstance(found, Compute)
    return found


def products(operation: Compute) -> list[tuple[float, ...]]:
    return [(m.m, m.k, m.n, m.count) for m in operation.matmuls]


# -- by hand ------------------------------------------------------------------------------------------------------------


def test_a_prompt_of_8192_on_16_chips_by_hand() -> None:
    """A chip has 4 query heads of one KV head: 16 blocks of 512 x 4 queries, which meet (512 + 8192) / 2 keys in the mean."""
    found = attention(LLAMA, Layout("ws2d", "heads"), Forward("prefill", 1, 8192, 8192), {"x": 4, "y": 4})
    assert products(found) == [(4 * 512, 128, 4352, 16), (4 * 512, 4352, 128, 16)]
    assert found.hbm_bytes == 2 * (8192 * 2 * 128 + 2 * 8192 * 4 * 128)  # K and V once; q and the output
    assert (found.scratch, found.vector, found.kernels) == (0, 0, 3)
    assert found.beside == 4 * 4 * 8192 * 4352  # four operations a score
    flop = 4 * 4 * 8192 * 4352 * 128
    slow = replace(chip("tpu-v5e"), matmul_efficiency=0.4)
    assert compute_seconds(found, slow) == pytest.approx(flop * (2048 + 64) / 2048 / (0.4 * 197e12))


def test_a_70b_prefill_takes_its_products() -> None:
    """Case 16, without collectives: 0.917 s of products with weights and 0.074 s of attention, where a plain one takes 0.9 s."""
    slow = replace(chip("tpu-v5e"), matmul_efficiency=0.4)
    def seconds(kernel: str | None) -> float:
        layout = Layout("ws2d", "heads", attention_kernel=kernel)
        program = build(LLAMA, layout, Forward("prefill", 1, 8192, 8192), {"x": 4, "y": 4})
        return sum(times * compute_seconds(o, slow) for some, times in program.sections() for o in some if isinstance(o, Compute))
    weights, scores = 2 * 70.6e9 * 8192 / (16 * 197e12 * 0.4), 80 * 4 * 4 * 8192 * 4352 * 128 / (0.4 * 197e12)
    assert (weights, scores) == (pytest.approx(0.917, abs=1e-3), pytest.approx(0.074, abs=1e-3))
    assert weights + scores < seconds(None) == seconds("fused") < 1.08 * (weights + scores)
    assert seconds("plain") > seconds("fused") + 0.7


def test_a_decode_step_reads_its_cache_once_and_has_no_other_work() -> None:
    """One query head a KV head, a KV head a chip: rows of a tile are filled in part, and HBM takes longer (not on TPU v2)."""
    small = replace(LLAMA, layers=1, heads=8)
    found = attention(small, Layout("ws1d", "heads"), Forward("decode", 32, 1, 8192), {"x": 8})
    assert products(found) == [(1, 128, 8192, 32), (1, 8192, 128, 32)]
    for one in PRESETS[1:]:
        assert compute_seconds(found, one) == pytest.approx(found.hbm_bytes / (one.hbm_bandwidth * one.hbm_efficiency))


def test_70b_in_chunks_is_bound_by_its_products_and_the_reads_of_its_cache() -> None:
    """Up to 65,536 tokens on a v6e-16, whose tiles of 256 x 256 a head of 128 fills in half."""
    v6e, todo = chip("tpu-v6e"), passes(Workload("prefill", 1, 65536, chunk=512))
    (group, rest) = alike(LLAMA, {"prefill": Layout("ws2d", "heads")}, todo, {"x": 4, "y": 4})
    took = [compute_seconds(one, v6e) for (one,) in (*group.attention, *rest.attention)]
    least = []
    for keys in range(512, 65536 + 1, 512):
        multiply = 2 * 2 * 4 * 512 * keys * 256 / (918e12 * v6e.matmul_efficiency)
        least.append(max(multiply, (2 * keys * 128 + 2 * 4 * 512 * 128) * 2 / (v6e.hbm_bandwidth * v6e.hbm_efficiency)))
    assert len(took) == len(least) == 128 and sum(least) <= sum(took) < 1.05 * sum(least)


def test_the_scores_of_a_prefill_take_no_memory() -> None:
    def activations(kernel: str) -> float:
        return memory(LLAMA, Layout("ws2d", "heads", attention_kernel=kernel), Workload("prefill", 1, 32768), {"x": 4, "y": 4},
                      1e12).activations
    assert activations(PLAIN) >= 4 * 4 * 32768**2 > 10 * activations(FUSED)


# -- masked blocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_a_block_of_queries_meets_the_keys_that_any_of_them_attends_to(seed: int) -> None:
    """Query by query. The queries after the last whole block are the last ones of a block that ends with them."""
    rng = Random(seed)
    length, cached = rng.choice((1, 5, 300, 512, 513, 1024, 1500, 2048)), rng.choice((0, 1, 100, 2000))
    window = rng.choice((None, 1, 64, 200, 512, 700, 3000))
    most = BLOCK if window is None else max(LEAST_BLOCK, min(BLOCK, window))
    block, met = min(length, most), 0
    for first in range(0, length, block):
        last = min(first + block, length)
        begin = cached + (first if last - first == block else length - block)
        meets = {key for query in range(begin, cached + last)
                 for key in (0 if window is None else max(0, query - window + 1), query)}
        met += (last - first) * (max(meets) + 1 - min(meets))
    assert reach(length, cached + length, window, FUSED)[0] == -(-met // length)


@pytest.mark.parametrize("context", [65536, 5000, 512, 3])
@pytest.mark.parametrize("cached", [0, 700])
def test_a_prompt_in_chunks_has_the_products_of_the_whole(context: int, cached: int) -> None:
    def flops(chunk: int | None) -> float:
        todo = passes(Workload("prefill", 1, context, cached=cached, chunk=chunk))
        groups = alike(LLAMA, {"prefill": Layout("ws2d", "heads")}, todo, {"x": 4, "y": 4})
        return sum(one.total_flops for group in groups for (one,) in group.attention)
    assert flops(512) == pytest.approx(flops(None), rel=1e-3)  # a mean of keys is rounded up
    assert flops(2048) == pytest.approx(flops(None), rel=1e-3)


# -- laws ---------------------------------------------------------------------------------------------------------------

MODELS = st.builds(
    lambda heads, kv_heads, d_head, window: model({
        "layers": 1, "d_model": 512, "d_ff": 1024, "vocabulary": 1024, "gated": True, "parallel": False, "tied": False,
        "heads": 8 * heads * kv_heads, "kv_heads": kv_heads, "d_head": d_head, **({"window": window} if window else {})}),
    st.sampled_from((1, 2, 3, 8)), st.sampled_from((1, 2, 3, 8)), st.sampled_from((64, 80, 128, 256)),
    st.sampled_from((None, None, 100, 512, 2048)))
ONE_CHIP = st.builds(lambda one, heads: replace(one, heads=one.heads // 8 * heads), MODELS, st.sampled_from((1, 2, 5)))
PASSES = st.builds(
    lambda decode, batch, length, cached: Forward("decode" if decode else "prefill", 8 * batch, length, cached + length),
    st.booleans(), st.sampled_from((1, 4)), st.sampled_from((1, 1, 2, 5, 512, 600, 2000)),
    st.sampled_from((0, 1, 700, 8192, 50000)))
Cut = tuple[str, str, dict[str, int]]
CUTS = st.sampled_from([(ffn, over, axes) for ffn in ("ws1d", "ws2d", "wg_xy", "ws2d_code", "dp") for over in ("heads", "batch")
                        for axes in ({"x": 1}, {"x": 8}, {"x": 2, "y": 4}, {"x": 2, "y": 2, "z": 2})])


def never_less(small: Compute, large: Compute) -> None:
    """Assert that one attention takes no more time than another on any chip."""
    for one in PRESETS:
        assert compute_seconds(small, one) <= compute_seconds(large, one) * (1 + 1e-12), one.name
    assert small.kernels <= large.kernels


@settings(max_examples=40)
@given(given=MODELS, forward=PASSES, cut=CUTS, kernel=st.sampled_from(KERNELS), more=st.sampled_from((1, 2, 100, 700)))
def test_more_products_on_the_same_cache_never_take_less_time(given: Model, forward: Forward, cut: Cut, kernel: str,
                                                              more: int) -> None:
    """More query heads, more new tokens, more cached ones, a longer window or none."""
    ffn, over, axes = cut
    layout = Layout(ffn, over, attention_kernel=kernel)
    here = attention(given, layout, forward, axes)
    longer = replace(forward, attended=forward.attended + more)
    never_less(here, attention(replace(given, heads=2 * given.heads), layout, forward, axes))
    never_less(here, attention(given, layout, longer, axes))
    never_less(here, attention(given, layout, replace(longer, length=forward.length + more), axes))
    for window in (given.window + more, None) if given.window else ():
        never_less(here, attention(replace(given, window=window), layout, forward, axes))


@settings(max_examples=40)
@given(given=ONE_CHIP, forward=PASSES, kernel=st.sampled_from(KERNELS))
def test_a_query_can_be_padded_on_one_chip(given: Model, forward: Forward, kernel: str) -> None:
    """Case 05: 1, 2 or 5 query heads a KV head."""
    layout = Layout("ws1d", "heads", attention_kernel=kernel)
    here, twice = (attention(one, layout, forward, {"x": 1}) for one in (given, replace(given, heads=2 * given.heads)))
    never_less(here, twice)


@settings(max_examples=40)
@given(given=MODELS, forward=PASSES, cut=CUTS)
def test_a_fused_kernel_is_never_slower_than_a_plain_one(given: Model, forward: Forward, cut: Cut) -> None:
    """Without windows: a plain kernel is taken to keep to the band of a window to the token, a fused one to the block."""
    ffn, over, axes = cut
    fused, plain = (attention(replace(given, window=None), Layout(ffn, over, attention_kernel=kernel), forward, axes)
                    for kernel in KERNELS)
    never_less(fused, plain)
    assert fused.total_flops <= plain.total_flops and fused.hbm_bytes == plain.hbm_bytes


LATENT = model({"layers": 1, "d_model": 512, "d_ff": 512, "heads": 8, "kv_heads": 8, "d_head": 120, "d_value": 80, "latent": 96,
                "latent_rope": 16, "vocabulary": 512, "gated": True, "parallel": False, "tied": False})


@pytest.mark.parametrize("kernel", KERNELS)
def test_latent_attention_takes_the_form_with_the_fewer_flop_of_the_kernel(kernel: str) -> None:
    """At 1500 new tokens after 3000 the masked blocks decide."""
    names = ("attention", "expand_kv", "matmul_k_up", "matmul_v_up")
    for length, cached in ((1, 4096), (512, 0), (1500, 3000), (1500, 4500), (4096, 4096)):
        forward = Forward("prefill", 1, length, cached + length)

        def flops(form: str, forward: Forward = forward) -> float:
            block = build(LATENT, Layout("ws1d", latent=form, attention_kernel=kernel), forward, {"x": 1}).block
            return sum(o.total_flops for o in block if isinstance(o, Compute) and o.name in names)
        both = {form: flops(form) for form in ("absorbed", "expanded")}
        assert flops("auto") == min(both.values())
        assert absorbed(LATENT, Layout(attention_kernel=kernel), forward, None) == (both["absorbed"] < both["expanded"])
        if (length, cached) == (1500, 3000):
            assert (both["absorbed"] < both["expanded"]) == (kernel == FUSED)


@pytest.mark.parametrize("kernel", KERNELS)
def test_passes_whose_table_names_the_kernel_are_their_own_programs(kernel: str) -> None:
    """The form of latent attention, which tells passes apart before they are built, is that of the table's kernel."""
    sizes = Builder(LATENT, Layout("ws1d"), Forward("decode", 8, 1, 8), {"x": 8}).sizes
    layout, work = Layout({**LAYOUTS["ws1d"](sizes), "attention_kernel": kernel}), Workload("prefill", 8, 9000, chunk=1500)
    made = [group.of(i) for group in alike(LATENT, {"prefill": layout}, passes(work), {"x": 8}) for i in range(len(group))]
    assert made == [build(LATENT, layout, forward, {"x": 8}) for forward in passes(work)]
    assert len({tuple(o.name for o in program.block) for program in made}) == 2


# -- the choice ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ffn", "given", "words"), [
    ("ws2d", None, "fused (by default)"), ("ws2d", "plain", "plain (as given)"), ("ws2d", "fused", "fused (as given)"),
    ("ws2d_code", None, "plain (as its table says)"), ("ws2d_code", "fused", "fused (as given)")])
def test_the_report_says_which_kernel_runs_and_why(ffn: str, given: str | None, words: str) -> None:
    asked = {"model": {"base": "palm-8b", "layers": 2}, "chip": "tpu-v4", "topology": {"shape": [2, 2, 2]},
             "layout": {"ffn": ffn, **({"attention_kernel": given} if given else {})},
             "workload": {"phase": "decode", "batch": 8, "context": 128}}
    result = run(asked)
    assert f"Attention: {words}\n" in text(result)
    record = result.keys["scenario"]["layout"]
    assert record.get("attention_kernel") == given
    assert result.keys["layout"]["as_run"]["decode"]["attention"]["kernel"] == {
        "run": words.split()[0], "given": "layout" if given else "table" if ffn == "ws2d_code" else None}


def test_a_table_of_a_file_is_fused_unless_it_says_otherwise_and_its_name_decides_nothing() -> None:
    forward, axes = Forward("prefill", 8, 512, 512), {"x": 2, "y": 2, "z": 2}
    palm = model("palm-8b")
    for name, make in LAYOUTS.items():
        written = make(Builder(palm, Layout(name), forward, axes).sizes)
        assert build(palm, Layout(written), forward, axes) == build(palm, Layout(name), forward, axes)
        silent = {key: value for key, value in written.items() if key != "attention_kernel"}
        assert (written == silent) == (not name.endswith("_code"))
        for kernel in KERNELS:
            said = build(palm, Layout({**silent, "attention_kernel": kernel}), forward, axes)
            assert said == build(palm, Layout(name, attention_kernel=kernel), forward, axes)
        assert Builder(palm, Layout(silent), forward, axes).layout.attention_kernel == FUSED


def test_a_table_of_a_file_can_name_its_kernel() -> None:
    table = {"residual": "B L E_xyz", "w_in": "E_x F_yz", "w_out": "F_yz E_x", "w_q": "E_x H_yz", "w_k": "E_x K",
             "w_o": "H_yz E_x", "q": "B L H_xyz", "kv": "B L K", "attention_kernel": "plain"}
    asked = {"model": "palm-8b", "chip": "tpu-v4", "topology": {"shape": [2, 2, 2]}, "layout": {"ffn": table},
             "workload": {"phase": "decode", "batch": 8, "context": 128}}
    found = load(asked)
    assert found.resolved["layout"]["ffn"]["attention_kernel"] == "plain"
    assert run(found.resolved).step_s == run(asked).step_s > run({**asked, "layout": {"ffn": {
        key: value for key, value in table.items() if key != "attention_kernel"}}}).step_s


@pytest.mark.parametrize("layout", [Layout(attention_kernel="flash"), Layout({**LAYOUTS["ws1d"](
    Builder(LLAMA, Layout("ws1d"), Forward("decode", 8, 1, 8), {"x": 8}).sizes), "attention_kernel": "flash"})])
def test_an_unknown_kernel_is_refused(layout: Layout) -> None:
    with pytest.raises(LayoutError, match="'flash' is no kernel of attention: give fused or plain") as caught:
        Builder(LLAMA, layout, Forward("decode", 8, 1, 8), {"x": 8})
    assert caught.value.path == ("attention_kernel",)


def test_softmax_beside_products_takes_time_where_it_is_longer() -> None:
    one = chip("tpu-v4")
    work = Compute("attention", flops=1e9, hbm_bytes=1e6, beside=1e8)
    alone = compute_seconds(replace(work, beside=0.0), one)
    assert compute_seconds(work, one) == max(alone, 1e8 / one.vector_rate) > alone
    assert compute_seconds(replace(work, beside=1e6), one) == alone
    assert work_of(work) != work_of(replace(work, beside=1e6))  # a time that is known is not that of the other
    timeline = simulate(Program((work,)), torus((1,), bandwidth=1e9), one)
    assert facts(timeline, one, {})["attention"]["limited_by"] == "vector unit"


def test_the_papers_model_of_its_code_has_whole_rectangles() -> None:
    """The formula beside a measured prefill is compared with the same kernel, although its own default is another one."""
    row = next(row for row in read(found("palm-540b-tpu-v4")).rows if row.scenario.workload == Workload("prefill", 1, 2048))
    scenario, forward = row.scenario, Forward("prefill", 1, 2048, 2048)
    assert scenario.model is not None and scenario.layouts["prefill"].ffn == "ws2d_code"
    axes = {axis: scenario.net.length(axis) for axis in scenario.net.axes}
    formula = replace(scenario.layouts["prefill"], ffn="ws2d", attention_kernel="plain")
    layers = replace(build(scenario.model, formula, forward, axes), prologue=(), epilogue=())  # what was measured
    assert case(row).paper() == estimate(layers, scenario.net, scenario.chip).paper_s
