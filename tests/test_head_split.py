"""Heads that do not divide by the chips: what a chip has of them, and the choice between split and padded heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, prod
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from torussim.answer import run
from torussim.attending import weights
from torussim.chips import chip
from torussim.closed_forms import axes_seconds
from torussim.cost import compute_seconds
from torussim.errors import LayoutError, ScenarioError, ShardingError
from torussim.head_split import Share, choices, groups_of, made_kv, share_of
from torussim.keeping import cached
from torussim.layouts import Heads, Layout, Path, Table
from torussim.memory import memory
from torussim.models import Model, model
from torussim.padding import padded
from torussim.planner import plan
from torussim.program import Collective, Compute, check_program
from torussim.scenario import load
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid
from torussim.transformer import Builder, build
from torussim.workload import Forward, Workload

SIZES: dict[str, Any] = {"layers": 2, "d_model": 3840, "d_ff": 15360, "vocabulary": 1000, "gated": True, "parallel": False,
                         "tied": False}
V5E = chip("tpu-v5e")
COUNTS = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 64])
SHAPES = st.sampled_from([(2,), (3,), (4,), (5,), (6,), (8,), (12,), (16,), (32,), (2, 2), (4, 4), (2, 8), (4, 3), (2, 2, 2)])
GROUPED = st.tuples(st.sampled_from([1, 2, 3, 4, 5, 8, 12]), st.integers(1, 8))  # KV heads, query heads of each


def transformer(heads: int, kv_heads: int, **more: Any) -> Model:
    return model({**SIZES, "heads": heads, "kv_heads": kv_heads, "d_head": 128, **more})


def network(*shape: int, wrap: bool = True) -> Grid:
    return grid(torus(list(shape), wrap=wrap, bandwidth=45e9, latency=1e-6))


def lengths(net: Grid) -> dict[str, int]:
    return dict(zip(net.axes, net.shape))


def settle(layout: Layout, one: Model, forward: Forward, net: Grid) -> tuple[Builder, float]:
    """Return the builder of a pass with the chosen batch and heads, and the estimate of its time in seconds."""
    workload = Workload(forward.phase, forward.batch, forward.attended)
    found = padded(layout, one, workload, [forward], lengths(net), (net, V5E))
    builder = Builder(one, found, forward, lengths(net))
    return builder, axes_seconds(builder.build(), net, V5E)


def computing(builder: Builder, names: tuple[str, ...] = ()) -> float:
    """Return the time of the computations of a pass whose names begin so, alone, in seconds."""
    return sum(times * compute_seconds(o, V5E) for operations, times in builder.build().sections() for o in operations
               if isinstance(o, Compute) and o.name.startswith(names or ""))


# -- what a chip has ----------------------------------------------------------------------------------------------------


def columns_read(heads: int, chips: int, kv_head: Mapping[int, int]) -> float:
    """Return the most KV heads of a chip: a head has `chips` columns, and a chip the next `heads` ones of all."""
    found = []
    for c in range(chips):
        mine = [divmod(column, chips) for column in range(c * heads, (c + 1) * heads)]
        found.append(len({(kv_head[head], column) for head, column in mine if head in kv_head}) / chips)
    return max(found)


@settings(max_examples=60, deadline=None)
@given(GROUPED, COUNTS, st.booleans())
def test_a_chip_keeps_the_columns_of_k_and_v_that_its_queries_read(sizes, chips, pad):
    """Padding in each group of query heads and at the end: of all group sizes, the one in which a chip keeps the fewest."""
    kv_heads, group = sizes
    real = kv_heads * group
    run = ceil(real / chips) * chips if pad else real
    ways = [{head: head // size for head in range(kv_heads * size)} for size in range(group, run // kv_heads + 1)]
    found = share_of(run, chips, kv_heads, real)
    assert found.kept == min(columns_read(run, chips, way) for way in ways)
    assert found.kept <= found.kv_heads and found.columns <= found.heads and found.columns == run / chips
    assert bool(found.shared) == bool(run % chips)


@pytest.mark.parametrize("heads, kv_heads, chips, split, whole", [
    (40, 40, 16, 2.5, 3), (48, 8, 32, 1, 1), (48, 48, 32, 1.5, 2), (8, 8, 32, 0.25, 1), (40, 8, 16, 1, 1), (71, 1, 8, 1, 1)])
def test_a_chip_keeps_no_more_than_the_heads_of_its_queries(heads, kv_heads, chips, split, whole):
    padding = ceil(heads / chips) * chips
    multihead = kv_heads == heads
    assert share_of(heads, chips, kv_heads, heads).kept == split
    assert share_of(padding, chips, padding if multihead else kv_heads, padding if multihead else heads).kept == whole


@settings(max_examples=60, deadline=None)
@given(GROUPED, COUNTS)
def test_twice_the_chips_keep_no_more_each(sizes, chips):
    kv_heads, group = sizes
    heads = kv_heads * group

    def share(chips: int, pad: bool) -> Share:
        several = ceil(heads / chips) * chips if pad else heads
        return share_of(several, chips, *((several, several) if group == 1 else (kv_heads, heads)))
    for pad in (False, True):
        few, many = share(chips, pad), share(2 * chips, pad)
        assert many.kept <= few.kept and many.columns <= few.columns


def test_groups_are_neighbours_and_have_every_chip_once():
    axes = {"x": 4, "y": 2, "z": 6}
    for order in (["z"], ["y", "z"], ["x"], ["x", "y", "z"]):
        chips = prod(axes[a] for a in order)
        for together in (n for n in range(1, chips + 1) if chips % n == 0):
            found = groups_of(order, together, [(0, together - 1)], axes)
            assert sorted(chip for group in found for chip in group) == list(range(48))
            assert {len(group) for group in found} == {together}
    assert groups_of(["z"], 2, [(0, 1)], axes)[:3] == ((0, 1), (2, 3), (4, 5))
    assert groups_of(["z"], 6, [(0, 2), (3, 4)], axes)[:3] == ((0, 1, 2), (3, 4), (6, 7, 8))


@given(st.integers(1, 24), st.integers(1, 24))
def test_rounds_of_sums_have_each_shared_head_once_and_a_chip_once_at_most(heads, chips):
    found = share_of(heads, chips, heads, heads)
    ranges = [pair for some in found.sums for pair in some]
    shared = [(head * chips // heads, -(-(head + 1) * chips // heads) - 1) for head in range(heads)]
    period = [(first, last) for first, last in shared if first < last and first < found.together]
    assert sorted(ranges) == sorted(period) and len(found.sums) == min(2, found.shared)
    for some in found.sums:
        chips_of = [chip for first, last in some for chip in range(first, last + 1)]
        assert len(set(chips_of)) == len(chips_of)


# -- layouts ------------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(GROUPED, SHAPES, st.sampled_from(["ws1d", "ws2d", "wg_x", "wg_xyz"]), st.sampled_from(["heads", "batch"]),
       st.sampled_from(["pad", "sum", "auto"]), st.sampled_from(["fused", "plain"]))
def test_memory_counts_what_attention_reads(sizes, shape, ffn, attention, way, kernel):
    one, forward = transformer(sizes[0] * sizes[1], sizes[0]), Forward("decode", 48, 1, 300)
    layout = Layout(ffn, attention, split_heads=way, attention_kernel=kernel)
    try:
        builder = Builder(one, layout, forward, lengths(network(*shape)))
        operations = {o.name: o for o in builder.build().block}
    except (LayoutError, ShardingError) as error:
        assert any(word in str(error) for word in ("choose", "give"))
        return
    read = sum(operations[name].hbm_bytes for name in ("scores", "attention") if name in operations)
    cut = prod(builder.lengths[a] for a in builder.table["q"].used.axes("B"))
    own = 48 // cut * builder.share.columns * 2 * 128 * 2
    assert cached(builder, 300, [0]) == pytest.approx(read - own, rel=1e-12)
    assert ("scores" in operations) == ("reduce_scores" in operations) == bool(builder.share.shared)


@settings(max_examples=30, deadline=None)
@given(GROUPED, SHAPES, st.sampled_from(["ws1d", "ws2d", "wg_xy"]), st.sampled_from(["heads", "batch", "sequence"]))
def test_where_heads_divide_no_way_differs(sizes, shape, ffn, attention):
    chips = prod(shape)
    one = transformer(sizes[0] * sizes[1] * chips, sizes[0] * chips if sizes[1] == 1 else sizes[0])
    forward, axes = Forward("decode", 4 * chips, 1, 300), lengths(network(*shape))
    try:
        plain = build(one, Layout(ffn, attention, heads=Heads(one.heads)), forward, axes)
    except (LayoutError, ShardingError):
        return
    for way in ("auto", "pad", "sum"):
        assert build(one, Layout(ffn, attention, split_heads=way), forward, axes) == plain


@settings(max_examples=25, deadline=None)
@given(GROUPED, SHAPES, st.sampled_from(["ws1d", "ws2d"]), st.sampled_from(["decode", "prefill"]), st.sampled_from([64, 2048]))
def test_auto_is_the_faster_of_both(sizes, shape, ffn, phase, context):
    one, net = transformer(sizes[0] * sizes[1], sizes[0]), network(*shape)
    forward = Forward(phase, 12, 1 if phase == "decode" else context, context)
    times = {}
    for way in ("auto", "pad", "sum"):
        try:
            times[way] = settle(Layout(ffn, split_heads=way), one, forward, net)[1]
        except (LayoutError, ShardingError):
            continue
    assume("auto" in times)
    assert times["auto"] == min(times.values())


@settings(max_examples=30, deadline=None)
@given(GROUPED, st.sampled_from([1, 2, 3, 4, 5, 8, 16, 32]), st.sampled_from([512, 4096]), st.sampled_from(["pad", "sum"]))
def test_attention_on_twice_the_chips_takes_no_longer(sizes, chips, context, way):
    """The collectives aside: more chips with the same cache each, or less, and never more heads each."""
    one, forward = transformer(sizes[0] * sizes[1], sizes[0]), Forward("decode", 30, 1, context)
    found = []
    for n in (chips, 2 * chips):
        try:
            found.append(Builder(one, Layout("ws1d", split_heads=way), forward, {"x": n}))
            found[-1].build()
        except (LayoutError, ShardingError):
            return
    few, many = found
    assume(few.share.shared or not many.share.shared)  # the scores of split heads are a kernel more
    assert computing(many, ("attention", "scores")) <= computing(few, ("attention", "scores")) * (1 + 1e-12)
    assert cached(many, context, [0]) <= cached(few, context, [0])


def test_scores_are_summed_by_the_chips_that_share_heads():
    forward = Forward("decode", 16, 1, 1000)
    pairs = [(chip, chip + 1) for chip in range(0, 16, 2)]
    for heads, axes, over, rounds in (
            (40, {"x": 16}, (), [pairs]), (8, {"x": 4, "y": 8}, ("x",), [()]), (5, {"x": 4}, (), [[(0, 1), (2, 3)], [(1, 2)]]),
            (3, {"x": 8}, (), [[(0, 1, 2), (5, 6, 7)], [(2, 3, 4, 5)]])):
        one = transformer(heads, heads)
        program = build(one, Layout("ws1d", split_heads="sum"), forward, axes)
        check_program(program, axes)
        found = [o for o in program.block if o.name.startswith("reduce_scores")]
        assert [sorted(o.groups) for o in found if isinstance(o, Collective)] == [sorted(some) for some in rounds]
        assert all(isinstance(o, Collective) and o.kind == "all_reduce" and o.axes == over for o in found)
        assert all(o.bytes == 16 * 1024 * 4 for o in found)  # of one head, f32, keys in whole registers


def test_a_long_prompt_is_padded_and_a_long_cache_is_split():
    """The scores of a prompt are as many as its tokens squared, those of a step are few, and padding is read in every step."""
    one, net = transformer(40, 40), network(16)
    step, _ = settle(Layout("ws1d"), one, Forward("decode", 16, 1, 8192), net)
    prompt, _ = settle(Layout("ws1d"), one, Forward("prefill", 16, 2048, 2048), net)
    assert step.layout.heads == Heads(40, split=True) and prompt.layout.heads == Heads(48)
    assert {(heads.run, heads.split) for heads, _ in step.layout.heads.tried} == {(40, True), (48, False)}


def test_a_table_of_a_file_runs_such_heads_like_the_layout_of_its_name():
    given = {"model": {**SIZES, "heads": 40, "kv_heads": 40, "d_head": 128}, "chip": "tpu-v5e", "topology": {"shape": [4, 4]},
             "workload": {"phase": "decode", "batch": 16, "context": 512}}
    table = {"residual": "B L E_xy", "w_in": "E F_xy", "hidden": "B L F_xy", "w_out": "F_xy E", "w_q": "E H_xy", "w_k": "E K_xy",
             "q": "B L H_xy", "kv": "B L K_xy", "w_o": "H_xy E"}
    for way in ("pad", "sum"):
        named, written = (run({**given, "layout": {"ffn": ffn, "split_heads": way}}) for ffn in ("ws1d", table))
        assert named.step_s == written.step_s and named.memory == written.memory


def test_the_tables_of_the_published_code_run_the_heads_of_the_model():
    one = transformer(40, 40)
    for ffn in ("ws1d_code", "ws2d_code", "wg_xyz_code"):
        every = choices(lambda heads, ffn=ffn: Layout(ffn, heads=heads), one, 16, {"x": 4, "y": 4, "z": 2})
        assert every == [Heads(40)]


@pytest.mark.parametrize("ffn", ["ws1d_code", "ws2d_code"])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_tables_of_the_published_code_split_or_pad_where_neither_the_model_nor_the_batch_says_how(ffn, batch):
    """A chip keeps the KV heads that its queries read, and `sum` is not ignored."""
    given = {"model": {**SIZES, "heads": 40, "kv_heads": 40, "d_head": 128}, "chip": "tpu-v5e",
             "topology": {"kind": "mesh", "shape": [16]}, "workload": {"phase": "decode", "batch": batch, "context": 512}}
    found = {way: run({**given, "layout": {"ffn": ffn, "split_heads": way}}) for way in ("auto", "sum", "pad")}
    kept = {way: one.layout["as_run"]["decode"]["attention"]["kv_heads"] for way, one in found.items()}
    assert kept["sum"] == 2.5 and kept["pad"] == 3 and kept["auto"] in (2.5, 3)
    assert found["auto"].step_s == pytest.approx(min(found["sum"].step_s, found["pad"].step_s), rel=0.01)
    authors = run({**given, "model": {**given["model"], "padded_heads": {"16": 64}}, "layout": {"ffn": ffn}})
    assert authors.layout["as_run"]["decode"]["attention"]["kv_heads"] == 4


def test_heads_of_a_stage_are_split_over_its_own_chips():
    scenario = {"model": {**SIZES, "layers": 4, "heads": 10, "kv_heads": 10, "d_head": 128}, "chip": "tpu-v5e",
                "topology": {"kind": "mesh", "shape": [2, 4]},
                "layout": {"ffn": "ws1d", "pipeline": "x", "split_heads": "sum"},
                "workload": {"phase": "decode", "batch": 8, "context": 512}}
    found = run(scenario)
    assert found.layout["as_run"]["decode"]["attention"]["heads"] == 2.5 and found.step_s > 0
    whole = run({**scenario, "layout": {**scenario["layout"], "split_heads": "pad"}})
    assert whole.memory["kv_cache"] == found.memory["kv_cache"] * 3 / 2.5


@pytest.mark.parametrize("gpus", [3, 5, 6, 7])
def test_any_number_of_gpus_behind_a_switch_takes_the_heads_of_a_model(gpus):
    one = {**SIZES, "d_model": 420 * 8, "d_ff": 420 * 32, "heads": 32, "kv_heads": 8, "d_head": 128}
    found = run({"model": one, "chip": "h100", "topology": {"kind": "switch", "chips": gpus, "mesh": [gpus]},
                 "layout": {"ffn": "ws1d"}, "workload": {"phase": "decode", "batch": 4 * gpus, "context": 512}})
    heads = found.layout["as_run"]["decode"]["attention"]
    assert heads["heads"] <= ceil(32 / gpus) and heads["kv_heads"] <= ceil(ceil(32 / gpus) / 4) + 1 < 8


@pytest.mark.parametrize("more, why", [
    ({"heads": 40, "kv_heads": 8}, "have 5120 columns, which do not divide"),
    ({"heads": 20, "kv_heads": 20, "latent": 512, "latent_rope": 64, "d_head": 192, "d_value": 128}, "attend to latents")])
def test_heads_that_cannot_be_split_are_refused_with_a_remedy(more, why):
    given = {"model": {**SIZES, "d_head": 128, **more}, "chip": "tpu-v5e", "topology": {"shape": [3]},
             "layout": {"ffn": "ws1d", "split_heads": "sum"}, "workload": {"phase": "decode", "batch": 6, "context": 512}}
    with pytest.raises(ScenarioError, match=f"because they {why}: give pad or auto"):
        load(given)
    assert run({**given, "layout": {"ffn": "ws1d"}}).step_s > 0


def test_forty_heads_on_sixteen_chips_are_faster_than_on_eight():
    llama = {"layers": 40, "d_model": 5120, "d_ff": 13824, "heads": 40, "kv_heads": 40, "d_head": 128, "vocabulary": 32000,
             "gated": True, "parallel": False, "tied": False}
    found = [run({"model": llama, "chip": "tpu-v5e", "topology": {"kind": "mesh", "shape": [chips]}, "layout": {"ffn": "ws1d"},
                  "workload": {"phase": "decode", "batch": 16, "context": 2048, "tokens": 1}}) for chips in (8, 16)]
    assert found[1].step_s < found[0].step_s and found[1].memory["fits"]
    assert found[1].memory["kv_cache"] <= 16 * 2049 * 819200 * 3 / 40 < found[0].memory["kv_cache"]


def test_a_plan_prices_split_and_padded_heads_like_a_run():
    given = {"model": {**SIZES, "layers": 8, "heads": 40, "kv_heads": 40, "d_head": 128}, "chip": "tpu-v5e",
             "topology": {"shape": [4, 4]}, "layout": {"ffn": "ws1d"},
             "workload": {"phase": "decode", "batch": 8, "context": 8192}, "plan": {"vary": {"layouts": ["ws1d", "ws2d"]}}}
    found = plan(given, shapes=False)
    best = run({**given, "layout": found.pick.candidate.record()})
    assert found.certified and best.step_s == pytest.approx(found.pick.keys["step_s"], rel=1e-9)
    assert best.layout["as_run"]["decode"]["attention"]["kv_heads"] <= 3
    assert found.pick.keys["step_s"] <= run({key: given[key] for key in given if key != "plan"}).step_s * (1 + 1e-9)


def test_passes_whose_scores_have_as_many_columns_share_a_program():
    one, axes = transformer(40, 40), {"x": 16}
    layout = Layout("ws1d", split_heads="sum")
    short, long, longer = (build(one, layout, Forward("decode", 16, 1, tokens), axes) for tokens in (257, 384, 385))
    sums = [next(o for o in program.block if o.name == "reduce_scores") for program in (short, long, longer)]
    assert sums[0] == sums[1] and sums[2] == replace(sums[1], bytes=sums[1].bytes * 4 / 3)
    held = memory(one, layout, Workload("decode", 16, 256, tokens=200), axes, 16e9)
    assert held.kv_cache == 2 * 16 * 456 * 2.5 * 2 * 128 * 2


def test_w_k_and_w_v_of_multihead_attention_are_cut_like_w_q():
    """Also where attention is cut over the batch, so that heads are whole on every chip."""
    one, workload = transformer(40, 40), Workload("decode", 16, 256)
    few, many = (memory(one, Layout("ws1d", "batch"), workload, {"x": chips}, 16e9).weights for chips in (8, 16))
    assert many == pytest.approx(few / 2, rel=1e-2)


@settings(max_examples=60, deadline=None)
@given(GROUPED, SHAPES, st.sampled_from(["ws1d", "ws2d", "wg_x", "wg_xy"]), st.sampled_from(["pad", "sum"]))
def test_w_k_and_w_v_have_what_a_chip_keeps_where_k_and_v_stay(sizes, shape, ffn, way):
    """Of grouped queries over heads: at least the KV heads that are kept, and no more where a chip's W_q makes its own heads."""
    kv_heads, group = sizes
    assume(group > 1)
    one, net = transformer(kv_heads * group, kv_heads), network(*shape)
    try:
        builder, _ = settle(Layout(ffn, split_heads=way), one, Forward("decode", prod(shape), 1, 512), net)
    except (LayoutError, ShardingError):
        assume(False)
    table, chips = builder.table, builder.lengths
    made = weights(builder)["w_k"]["K"] / 128 / prod(chips[a] for a in table["w_k"].used.axes("K"))
    assert builder.share.kept <= made + 1e-9 and made <= builder.kv_heads
    if table["w_q"].used.axes("H") == table["q"].used.axes("H") and set(table["w_k"].used.axes("K")) == set(
            table["kv"].used.axes("K")):
        assert made == pytest.approx(builder.share.kept)


def test_more_chips_with_the_same_cache_each_make_no_more_of_k_and_v():
    """24 query heads over 8 KV heads on 8 and on 16 chips: K and V of one KV head a chip, 256 columns (on 16 they were 2048)."""
    for chips in (8, 16):
        builder, _ = settle(Layout("ws1d"), transformer(24, 8), Forward("prefill", 1, 4096, 4096), network(chips))
        (made,) = [o for o in builder.build().block if isinstance(o, Compute) and o.name.endswith("k_v")]
        columns = sum(m.flops for m in made.matmuls) / (2 * 4096 * SIZES["d_model"])
        assert made.name == "matmul_q_k_v"  # one matmul with W_q, whether KV heads divide or are copied
        assert columns - builder.share.columns * 128 == 256 and builder.share.kept == 1
    one = build(transformer(24, 1), Layout("ws1d"), Forward("decode", 16, 1, 512), {"x": 8})
    assert {"matmul_q", "matmul_k_v"} <= {o.name for o in one.block}  # the one KV head of all chips is not cut like W_q


def test_all_of_k_and_v_are_made_where_they_go_to_other_chips():
    """Over the batch a chip reads all KV heads of its sequences."""
    builder, _ = settle(Layout("ws1d", "batch"), transformer(16, 4), Forward("decode", 64, 1, 512), network(8))
    assert weights(builder)["w_k"]["K"] == 4 * 128


def test_w_v_that_is_cut_unlike_w_k_has_all_heads():
    lengths, one = {"x": 8, "y": 2}, transformer(16, 4)
    paths = {"w_q": "E H_xy", "w_k": "E K_y", "q": "B L H_xy", "kv": "B L K_y"}

    def made(w_v):
        return made_kv(one, Table({key: Path.of(value) for key, value in {**paths, "w_v": w_v}.items()}), Heads(16), 4, lengths)
    assert made("E K_y") == 1 and made("E K") is None


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([1, 2, 4, 8, 16, 32]), st.integers(1, 3), SHAPES, st.sampled_from(["ws1d", "ws2d", "dp"]),
       st.sampled_from(["heads", "batch", "sequence"]), st.sampled_from([(1, 256), (1, 4096), (512, 512)]),
       st.sampled_from([1, 4, 64]), st.sampled_from([1024, 4096]), st.booleans())
def test_twice_the_query_heads_on_the_same_cache_never_make_a_pass_shorter(kv_heads, group, shape, ffn, attention, tokens, batch,
                                                                           width, wrap):
    """Also where each query head has its own KV head, so that K and V could take the way of Q."""
    assume(kv_heads % prod(shape) == 0)  # otherwise heads are split or padded, some numbers of them more than others
    net = network(*shape, wrap=wrap)
    forward = Forward("decode" if tokens[0] == 1 else "prefill", batch, *tokens)
    few, many = (settle(Layout(ffn, attention), model({**SIZES, "d_model": width, "d_ff": 4 * width, "heads": some * kv_heads,
                                                       "kv_heads": kv_heads, "d_head": 64}), forward, net)[1]
                 for some in (group, 2 * group))
    assert few <= many * (1 + 1e-9)


def test_w_k_and_w_v_are_copied_where_that_is_faster_than_an_exchange_of_k_and_v():
    """Two heads on 16 chips, over the batch: the report says so. Of 40 heads, W_k and W_v are cut."""
    given = {"model": {**SIZES, "heads": 2, "kv_heads": 2, "d_head": 128}, "chip": "tpu-v4",
             "topology": {"kind": "torus", "shape": [4, 4]}, "layout": {"ffn": "ws1d", "attention": "batch"},
             "workload": {"phase": "decode", "batch": 16, "context": 512}}
    found, wide = run(given), run({**given, "model": {**given["model"], "heads": 40, "kv_heads": 40}})
    as_run, cut = (one.layout["as_run"]["decode"] for one in (found, wide))
    assert as_run["kv_heads"]["copied"] and any("W_k and W_v: whole heads" in one for one in as_run["differs"])
    assert "split_heads" not in as_run  # two heads over the batch divide: nothing is split or padded
    assert not cut["kv_heads"]["copied"] and not any("W_k" in one for one in cut["differs"])
    assert not any(o["name"].startswith("exchange_k") for o in found.operations)
    assert any(o["name"].startswith("exchange_k") for o in wide.operations)
    assert run(found.scenario).step_s == found.step_s
    equal = Layout("ws1d", "batch")  # 32 whole heads divide by 16 chips: both ways are one program, but for rounding
    builder, _ = settle(equal, transformer(32, 32), Forward("decode", 256, 1, 512), network(16))
    assert builder.layout.heads == Heads(32)
