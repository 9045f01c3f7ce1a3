"""A layer's program has the volumes of the paper, the collectives of its authors' code, and the FLOP of its matrices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import pytest

from torussim.chips import DTYPE_BYTES, chip
from torussim.errors import LayoutError, ShardingError
from torussim.layouts import LAYOUTS, Layout, Sizes, default_mesh
from torussim.memory import memory
from torussim.models import Model, model
from torussim.program import LOOPS, Collective, Compute, Operation, Program, check_program
from torussim.transformer import build
from torussim.workload import Forward, Workload

CUBE = {"x": 4, "y": 4, "z": 4}
PALM, MT_NLG, LLAMA = model("palm-540b"), model("mt-nlg-530b"), model("llama-3-70b")
MULTIHEAD = model({"base": "palm-540b", "kv_heads": 48, "d_head": 128})
FIG3: dict[str, Any] = {"layers": 1, "d_model": 16384, "d_ff": 65536, "heads": 64, "kv_heads": 1, "d_head": 256,
                        "vocabulary": 256000, "gated": False, "parallel": False, "tied": True}
DECODE, PREFILL = Forward("decode", 512, 1, 2048), Forward("prefill", 512, 2048, 2048)


def layer(given: Model, layout: Layout, forward: Forward, axes: Mapping[str, int] = CUBE) -> tuple[Operation, ...]:
    return build(given, layout, forward, axes).block


def collectives(operations: tuple[Operation, ...]) -> list[tuple[str, str, float]]:
    """Return (kind, axes, bytes) of the collectives in order."""
    return [(o.kind, "".join(o.axes), o.bytes) for o in operations if isinstance(o, Collective)]


def computes(operations: tuple[Operation, ...]) -> list[Compute]:
    """Return the operations that multiply, in order."""
    return [o for o in operations if isinstance(o, Compute) and o.matmuls]


def flops(operations: tuple[Operation, ...], attention: bool) -> float:
    """Return the FLOP of one chip, of attention or of the rest."""
    return sum(o.total_flops for o in computes(operations) if (o.name == "attention") == attention)


# The paper's volumes


TOKENS = {2048: (64, 32), 16384: (64, 256), 131072: (512, 256), 1048576: (512, 2048)}
FIGURE_3 = {  # GB = 1e9 of one FFN layer of two matrices, as printed; tokens -> layout
    2048: {"ws2d": "0.06711", "wg_x": "0.302", "wg_xy": "1.082", "wg_xyz": "4.295"},
    16384: {"ws2d": "0.5369", "wg_x": "0.5369", "wg_xy": "1.141", "wg_xyz": "4.295"},
    131072: {"ws2d": "4.295", "wg_x": "2.416", "wg_xy": "1.611", "wg_xyz": "4.295"},
    1048576: {"ws2d": "34.36", "wg_x": "17.45", "wg_xy": "5.369", "wg_xyz": "4.295"},
}


def volume(ffn: str, tokens: int, e: int, f: int, x: int, y: int, z: int) -> float:
    """Return the elements that the paper counts for one FFN layer, without (K-1)/K (A.1, A.2)."""
    if ffn == "ws2d":
        return 2 * tokens * (e / x + f / (y * z))
    chips = {"wg_x": x, "wg_xy": x * y, "wg_xyz": x * y * z}[ffn]
    return 2 * e * f * chips / (x * y * z) + (2 * tokens * e / chips if ffn != "wg_xyz" else 0)


@pytest.mark.parametrize("attention", ["heads", "batch"])
@pytest.mark.parametrize("ffn", ["ws2d", "wg_x", "wg_xy", "wg_xyz"])
@pytest.mark.parametrize("tokens", TOKENS)
def test_the_ffn_moves_the_volumes_of_figure_3(tokens: int, ffn: str, attention: str) -> None:
    batch, length = TOKENS[tokens]
    assert batch >= 64 and batch * length == tokens
    operations = layer(model(FIG3), Layout(ffn, attention), Forward("prefill", batch, length, length))
    half = operations[[o.name for o in operations].index("matmul_o") + 1:]
    moved = sum(o.bytes for o in half if isinstance(o, Collective) and o.name != "scatter_attention")
    assert moved == 2 * volume(ffn, tokens, 16384, 65536, 4, 4, 4)
    assert f"{moved / 1e9:.4g}" == FIGURE_3[tokens][ffn]


@pytest.mark.parametrize("shape", [(4, 4, 8), (4, 8, 8), (2, 4, 4), (8, 4, 4), (8, 2, 4)], ids=str)
@pytest.mark.parametrize("ffn", ["ws2d", "wg_x", "wg_xy", "wg_xyz"])
def test_the_ffn_moves_the_papers_volume_on_any_shape(ffn: str, shape: tuple[int, int, int]) -> None:
    axes = dict(zip("xyz", shape, strict=True))
    operations = layer(model(FIG3, heads=256), Layout(ffn, "heads"), Forward("prefill", 256, 16, 16), axes)
    names = [o.name for o in operations]
    half = operations[names.index("matmul_o") + 1:]
    moved = sum(o.bytes for o in half if isinstance(o, Collective) and o.name != "scatter_attention")
    assert moved == 2 * volume(ffn, 4096, 16384, 65536, *shape)


def test_ws1d_moves_the_residual_twice() -> None:
    operations = layer(model(FIG3), Layout("ws1d", "heads"), Forward("decode", 64, 1, 100))
    assert sum(o.bytes for o in operations if isinstance(o, Collective) and "ffn" in o.name) == 2 * 2 * 64 * 16384


BYTES = {  # follows from the shardings of the paper, section 3: PaLM 540B, 64 heads, 4x4x4, bf16; bytes a chip a layer
    ("ws2d", "batch", DECODE): [
        ("all_gather", "yz", 4_718_592), ("reduce_scatter", "x", 10_485_760), ("reduce_scatter", "x", 32_768),
        ("all_to_all", "xyz", 262_144), ("all_to_all", "xyz", 262_144), ("all_gather", "x", 5_767_168),
        ("reduce_scatter", "yz", 4_718_592)],
    ("ws2d", "heads", Forward("prefill", 1, 2048, 2048)): [
        ("all_gather", "yz", 18_874_368), ("reduce_scatter", "x", 41_943_040), ("all_reduce", "x", 2_097_152),
        ("all_gather", "x", 23_068_672), ("reduce_scatter", "yz", 18_874_368)],
    ("wg_xyz", "batch", PREFILL): [
        ("all_gather", "xyz", 6_039_797_760), ("all_gather", "x", 18_874_368), ("all_gather", "xyz", 3_321_888_768)],
    ("ws1d", "batch", DECODE): [
        ("all_gather", "xyz", 18_874_368), ("all_to_all", "xyz", 262_144), ("all_to_all", "xyz", 262_144),
        ("reduce_scatter", "xyz", 18_874_368)],
}


@pytest.mark.parametrize("case", BYTES, ids=lambda case: f"{case[0]}-{case[2].phase}")
def test_palm_540b_moves_the_bytes_of_the_papers_layouts(case: tuple[str, str, Forward]) -> None:
    ffn, attention, forward = case
    assert collectives(layer(PALM, Layout(ffn, attention), forward)) == BYTES[case]


# What the authors' code runs


def in_order(found: list[tuple[str, str, float]]) -> list[tuple[str, str]]:
    """Return kinds and axes."""
    return [(kind, axes) for kind, axes, _ in found]


def looped(operations: tuple[Operation, ...]) -> set[tuple[str, str]]:
    """Return kind and axes of the collectives with which a matmul may be looped."""
    named = {o.name: o for o in operations if isinstance(o, Collective)}
    partners = {loop.collective for o in computes(operations) for loop in o.loops}
    return {(named[name].kind, "".join(named[name].axes)) for name in partners}


@pytest.mark.parametrize(("batch", "over"), [(512, "xyz"), (64, "xyz"), (32, "yz"), (16, "yz"), (8, "z"), (4, "z")])
def test_ws2d_of_the_code_over_batch(batch: int, over: str) -> None:
    """K and V are scattered over x where the batch is cut over x too; else all chips along x read the same ones."""
    operations = layer(PALM, Layout("ws2d_code", "batch"), replace(DECODE, batch=batch))
    assert in_order(collectives(operations)) == [
        ("all_gather", "y"), ("all_reduce", "x"), ("all_gather", "z"),  # residual B_z L E_xy, norm, batch
        ("reduce_scatter", "x"), ("reduce_scatter" if over == "xyz" else "all_reduce", "x"),  # gate, up and Q; K and V
        ("all_to_all", over), ("all_to_all", over),
        ("all_gather", "x"), ("reduce_scatter", "y"), ("reduce_scatter", "z")]  # down and O
    assert looped(operations) == {("reduce_scatter", "x"), ("all_gather", "x")}
    assert [o.name for o in computes(operations)] == ["matmul_in_q", "matmul_k_v", "attention", "matmul_out_o"]
    norm = next(size for kind, _, size in collectives(operations) if kind == "all_reduce")
    assert norm == 4 * batch / 4  # the mean square: four bytes a token


def test_ws2d_of_the_code_over_heads() -> None:
    operations = layer(PALM, Layout("ws2d_code", "heads"), replace(DECODE, batch=64))
    assert in_order(collectives(operations)) == [
        ("all_gather", "y"), ("all_reduce", "x"), ("all_gather", "z"), ("reduce_scatter", "x"), ("all_reduce", "x"),
        ("all_gather", "z"), ("all_gather", "x"), ("reduce_scatter", "y"), ("reduce_scatter", "z")]
    sizes = [size for kind, axes, size in collectives(operations) if (kind, axes) in (("all_reduce", "x"), ("all_gather", "z"))]
    assert sizes[2:] == [64 / 4 * 512 * 2, 64 * 512 * 2]  # made of a quarter of the batch, and gathered


def test_ws2d_of_the_code_keeps_the_batch_together_where_it_is_smaller_than_z() -> None:
    """The residual is B L E_xyz; what was gathered over z of the batch is then gathered of the width, and before that over y."""
    operations = layer(PALM, Layout("ws2d_code", "heads"), Forward("prefill", 1, 2048, 2048))
    kinds = [(kind, axes) for kind, axes, _ in collectives(operations)]
    assert kinds == [("all_gather", "z"), ("all_gather", "y"), ("all_reduce", "x"), ("reduce_scatter", "x"), ("all_reduce", "x"),
                     ("all_gather", "x"), ("reduce_scatter", "y"), ("reduce_scatter", "z")]
    gathers = [size for kind, axes, size in collectives(operations) if kind == "all_gather" and axes in "yz"]
    assert gathers == [18_874_368 / 4, 18_874_368]


def test_ws1d_of_the_code() -> None:
    operations = layer(PALM, Layout("ws1d_code", "heads"), DECODE)
    assert collectives(operations) == [
        ("all_reduce", "x", 4 * 512), ("all_gather", "x", 512 * 18432 * 2), ("all_reduce", "x", 512 * 512 * 2),
        ("reduce_scatter", "x", 512 * 18432 * 2), ("all_reduce", "yz", 512 * 18432 // 4 * 2)]
    assert looped(operations) == {("all_gather", "x"), ("reduce_scatter", "x")}
    over_batch = layer(PALM, Layout("ws1d_code", "batch"), DECODE)
    assert in_order(collectives(over_batch)) == [
        ("all_reduce", "x"), ("all_gather", "x"), ("reduce_scatter", "x"),  # K and V over the batch
        ("all_to_all", "x"), ("all_to_all", "yz"), ("all_to_all", "yz"), ("all_to_all", "x"),  # x apart from yz
        ("reduce_scatter", "x"), ("all_reduce", "yz")]


def test_wg_xyz_of_the_code_moves_weights_alone_one_axis_at_a_time() -> None:
    operations = layer(PALM, Layout("wg_xyz_code", "batch"), PREFILL)
    assert collectives(operations) == [("all_gather", "xzy", 6_039_797_760), ("all_gather", "zyx", 3_321_888_768)]
    assert {o.algorithm for o in operations if isinstance(o, Collective)} == {"nested"}
    assert looped(operations) == {("all_gather", "xzy"), ("all_gather", "zyx")}


def test_the_longest_axis_is_x_for_ws1d_of_the_code() -> None:
    assert default_mesh({"x": 4, "y": 4, "z": 8}, "x") == {"x": ("z",), "y": ("y",), "z": ("x",)}
    assert default_mesh(CUBE, "x") == default_mesh({"x": 4, "y": 4, "z": 8}) == {a: (a,) for a in "xyz"}
    operations = layer(PALM, Layout("ws1d_code", "heads"), DECODE, {"x": 4, "y": 4, "z": 8})
    assert [axes for _, axes, _ in collectives(operations)] == ["z", "z", "z", "z", "yx"]


def test_ws1d_of_the_code_needs_as_many_heads_as_chips() -> None:
    axes = {"x": 8, "y": 8, "z": 4}
    columns = {ffn: computes(layer(PALM, Layout(ffn, "batch"), DECODE, axes))[0].matmuls[0].n for ffn in ("ws1d_code", "ws1d")}
    hidden = 2 * 73728 // 256
    assert columns == {"ws1d_code": hidden + 256 * 256 // 256, "ws1d": hidden + 128 * 256 // 256}


def test_logits_are_of_the_last_position_only_and_scattered_over_x_in_f32() -> None:
    epilogue = build(PALM, Layout("ws2d_code", "batch"), Forward("prefill", 512, 2048, 2048), CUBE).epilogue
    (logits,) = computes(epilogue)
    assert [(m.m, m.k, m.n) for m in logits.matmuls] == [(512, 18432 // 4, 256000 // 16)]
    assert collectives(epilogue)[-1] == ("reduce_scatter", "x", 512 * 256000 // 16 * 4)


# Blocks


@pytest.mark.parametrize("attention", ["heads", "batch"])
def test_a_serial_block_gathers_and_scatters_twice_and_a_parallel_one_once(attention: str) -> None:
    parallel = layer(PALM, Layout("ws2d", attention), DECODE)
    serial = layer(model(PALM_SERIAL), Layout("ws2d", attention), DECODE)
    for kind in ("all_gather", "reduce_scatter"):
        assert [axes for k, axes, _ in collectives(parallel) if k == kind].count("yz") == 1
        assert [axes for k, axes, _ in collectives(serial) if k == kind].count("yz") == 2
    names = [o.name for o in computes(serial)]
    assert names == ["matmul_q", "matmul_k_v", "attention", "matmul_o", "matmul_in", "matmul_out"]
    assert flops(serial, attention=False) == flops(parallel, attention=False)


PALM_SERIAL = {"base": "palm-540b", "parallel": False}


def test_multihead_attention_over_batch_moves_keys_and_values_too() -> None:
    operations = layer(MT_NLG, Layout("ws2d", "batch"), DECODE)
    found = [(axes, size) for kind, axes, size in collectives(operations) if kind == "all_to_all"]
    own = 512 * 128 * 160 * 2 / 64  # Q of a chip, bytes
    assert found == [("xyz", own), ("xyz", 2 * own), ("xyz", own)]
    assert not any(kind == "all_to_all" for kind, _, _ in collectives(layer(MT_NLG, Layout("ws2d", "heads"), DECODE)))


def test_keys_and_values_of_multihead_attention_are_made_with_the_queries() -> None:
    assert computes(layer(MT_NLG, Layout("ws2d", "heads"), DECODE))[0].name == "matmul_q_k_v"
    assert computes(layer(MULTIHEAD, Layout("ws2d", "batch"), DECODE))[0].name == "matmul_in_q_k_v"


def test_grouped_heads_read_their_group_alone() -> None:
    """Llama 3 70B: 64 heads in 8 groups; over heads a chip has one head, over batch 8 sequences with all of them."""
    for attention, heads, groups, rows in (("heads", 1, 1, 512), ("batch", 64, 8, 8)):
        (one,) = [o for o in computes(layer(LLAMA, Layout("ws2d", attention), DECODE)) if o.name == "attention"]
        assert [(m.m, m.k, m.n, m.count) for m in one.matmuls] == [(heads / groups, 128, 2048, rows * groups),
                                                                    (heads / groups, 2048, 128, rows * groups)]
        assert one.hbm_bytes == 2 * rows * 2048 * groups * 128 * 2 + 2 * rows * heads * 128 * 2  # cache; queries and output


def test_multiquery_attention_reads_one_head_for_all_queries() -> None:
    (one,) = [o for o in computes(layer(PALM, Layout("ws2d", "batch"), DECODE)) if o.name == "attention"]
    assert [(m.m, m.k, m.n, m.count) for m in one.matmuls] == [(64, 256, 2048, 8), (64, 2048, 256, 8)]


@pytest.mark.parametrize(("axes", "heads"), [({"x": 2, "y": 2, "z": 2}, 64), (CUBE, 64), ({"x": 4, "y": 4, "z": 8}, 128),
                                             ({"x": 4, "y": 8, "z": 8}, 128)], ids=str)
def test_heads_are_padded_by_the_number_of_chips(axes: dict[str, int], heads: int) -> None:
    first = computes(layer(PALM, Layout("ws2d", "batch"), DECODE, axes))[0]
    over = axes["y"] * axes["z"]
    assert first.matmuls[0].n == (2 * 73728 + heads * 256) // over
    (one,) = [o for o in computes(layer(PALM, Layout("ws2d", "batch"), DECODE, axes)) if o.name == "attention"]
    assert one.matmuls[0].m == heads


def test_keys_of_multihead_attention_are_padded_with_the_heads() -> None:
    (one,) = [o for o in computes(layer(MULTIHEAD, Layout("ws2d", "heads"), DECODE)) if o.name == "attention"]
    assert one.matmuls[0].count == 512  # 64 heads on 64 chips: one each


def test_heads_that_do_not_divide_are_refused() -> None:
    told = ("heads of 'B L H_xyz': 16 does not divide by 64 (the chips of xyz): give split_heads: pad, or choose "
            "attention: batch")
    sizes = Sizes({**CUBE}, 512, 4096, 64, 1, "heads")
    with pytest.raises(ShardingError, match=re.escape(told)):
        layer(model("palm-8b"), Layout(LAYOUTS["ws2d_code"](sizes), "heads"), DECODE)


@pytest.mark.parametrize(("attention", "batch", "q", "kv"), [
    ("heads", 512, ["B_x L H_yz"], "B_x L K"),  # 16 heads on 64 chips: x cuts the batch
    ("heads", 2, ["B L H_yz"], "B L K"),  # replicated over x (paper, 3.3)
    ("batch", 512, ["B L H_xyz", "B_xyz L H"], "B_xyz L K"),
    ("batch", 4, ["B L H_xyz", "B_z L H_xy"], "B_z L K"),
    ("batch", 2, ["B L H_yz"], "B L K"),
])
@pytest.mark.parametrize("ffn", ["ws2d_code", "ws1d_code"])
def test_where_there_are_fewer_heads_than_chips_the_code_cuts_the_batch_or_replicates(ffn: str, attention: str, batch: int,
                                                                                     q: list[str], kv: str) -> None:
    found = LAYOUTS[ffn](Sizes({**CUBE}, batch, 4096, 16, 1, attention))
    path = found["q"]
    assert isinstance(path, list) and [path[0], path[-1]] == [q[0], q[-1]] and found["kv"] == kv
    axes = {"x": 4, "y": 2, "z": 4}
    build(model("palm-8b"), Layout(ffn, attention), Forward("prefill", batch, 60, 60), axes)


# Bytes an element


def test_int8_activations_halve_what_is_gathered_but_not_partial_sums() -> None:
    wide, narrow = (collectives(layer(PALM, Layout("ws2d", "batch", activations=dtype), DECODE)) for dtype in ("bf16", "int8"))
    assert [(kind, axes) for kind, axes, _ in wide] == [(kind, axes) for kind, axes, _ in narrow]
    for (kind, _, before), (_, _, after) in zip(wide, narrow, strict=True):
        assert after == (before if kind == "reduce_scatter" else before / 2)


def test_sums_of_keys_over_heads_stay_in_bf16() -> None:
    found = [collectives(layer(PALM, Layout("ws2d", "heads", activations=dtype), DECODE)) for dtype in ("bf16", "int8")]
    assert [[size for kind, _, size in one if kind == "all_reduce"] for one in found] == [[512 * 512 * 2]] * 2


@pytest.mark.parametrize("dtype", ["int8", "int4", "fp8"])
def test_narrow_weights_shrink_what_is_gathered_and_read_of_them_alone(dtype: str) -> None:
    for ffn, forward in (("wg_xyz", PREFILL), ("ws2d", DECODE)):
        wide, narrow = (layer(PALM, Layout(ffn, "batch", weights=w), forward) for w in ("bf16", dtype))
        for before, after in zip(wide, narrow, strict=True):
            if isinstance(before, Collective) and isinstance(after, Collective):
                assert after.bytes == before.bytes * (DTYPE_BYTES[dtype] / 2 if "_w_" in before.name else 1)
            elif isinstance(before, Compute) and isinstance(after, Compute):
                read = sum(m.k * m.n for m in before.matmuls) if before.name != "attention" else 0
                assert before.hbm_bytes - after.hbm_bytes == read * (2 - DTYPE_BYTES[dtype]) and after.dtype == "bf16"


def test_a_narrow_cache_is_read_faster() -> None:
    wide, narrow = (layer(PALM, Layout("ws2d", "batch", kv_cache=dtype), DECODE) for dtype in ("bf16", "int8"))
    saved = [a.hbm_bytes - b.hbm_bytes for a, b in zip(computes(wide), computes(narrow), strict=True)]
    assert saved == [0, 0, 2 * 8 * 2048 * 256, 0]


# Meshes


def test_a_logical_axis_of_several_physical_ones_moves_the_same_bytes() -> None:
    split = {"x": 2, "y": 4, "z": 4, "w": 2}
    mesh = {"x": ("x", "w"), "y": ("y",), "z": ("z",)}
    for ffn in LAYOUTS:
        whole = collectives(layer(PALM, Layout(ffn, "batch"), DECODE))
        parts = collectives(layer(PALM, Layout(ffn, "batch", mesh=mesh), DECODE, split))
        assert parts == [(kind, axes.replace("x", "xw"), size) for kind, axes, size in whole]


def test_a_logical_axis_of_no_physical_one_has_one_chip() -> None:
    """Then 2D is 1D."""
    mesh = {"x": (), "y": ("x", "y"), "z": ("z",)}
    flat = layer(PALM, Layout("ws2d", "batch", mesh=mesh), DECODE)
    assert collectives(flat) == collectives(layer(PALM, Layout("ws1d", "batch"), DECODE))
    assert [o.matmuls for o in computes(flat)] == [o.matmuls for o in computes(layer(PALM, Layout("ws1d", "batch"), DECODE))]


def test_an_axis_of_one_chip_moves_nothing() -> None:
    for ffn in LAYOUTS:
        program = build(PALM, Layout(ffn, "batch"), DECODE, {"x": 1, "y": 1, "z": 1})
        assert not collectives(program.operations())
    flat = layer(PALM, Layout("ws2d", "batch"), DECODE, {"x": 4, "y": 1, "z": 4})
    assert {axes for _, axes, _ in collectives(flat)} == {"x", "z", "xz"}


@pytest.mark.parametrize(("mesh", "reason"), [
    ({"x": ("x",), "y": ("y",), "z": ()}, "mesh leaves the axis 'z' unused: give it to a logical axis"),
    ({"x": ("x", "y"), "y": ("y",), "z": ("z",)}, "mesh uses the axis 'y' twice: every physical axis is used up exactly once"),
    ({"x": ("x",), "y": ("v",), "z": ("z",)}, "mesh uses the axis 'v', but the network has x, y, z")])
def test_a_mesh_uses_up_every_axis_once(mesh: dict[str, tuple[str, ...]], reason: str) -> None:
    with pytest.raises(LayoutError, match=re.escape(reason)):
        layer(PALM, Layout("ws2d", "batch", mesh=mesh), DECODE)


def test_an_axis_that_the_mesh_leaves_out_is_refused() -> None:
    with pytest.raises(LayoutError, match=re.escape("mesh leaves the axis 'w' unused: give it to a logical axis, such as "
                                                    "z: [z, w]")):
        layer(PALM, Layout("ws2d", "batch"), DECODE, {**CUBE, "w": 2})


# All layouts


def cases() -> Iterator[tuple[str, Program, Model, Layout, Forward, dict[str, int]]]:
    for axes in (CUBE, {"x": 2, "y": 2, "z": 2}, {"x": 4, "y": 4, "z": 8}):
        for given in (PALM, MT_NLG, model(PALM_SERIAL), MULTIHEAD):
            for ffn in LAYOUTS:
                for forward in (DECODE, Forward("prefill", 128, 64, 256)):
                    layout = Layout(ffn, "batch")
                    try:
                        program = build(given, layout, forward, axes)
                    except (LayoutError, ShardingError) as error:
                        assert "does not divide by" in str(error), error  # its cause
                        continue
                    yield f"{given.name} {ffn} {forward} {axes}", program, given, layout, forward, axes


def test_every_layout_makes_a_program_that_can_run() -> None:
    found = list(cases())
    assert len(found) > 150
    for what, program, given, _, _, axes in found:
        check_program(program, tuple(axes))
        names = [o.name for o in program.operations()]
        assert len(names) == len(set(names)) and program.layers == given.layers, what
        assert all(o.bytes == int(o.bytes) > 0 for o in program.operations() if isinstance(o, Collective)), what


def test_all_chips_together_have_the_flop_of_the_matrices() -> None:
    """2 FLOP for each weight and token, and 2 for each element of queries, keys and values that meet; none is done twice."""
    for what, program, given, layout, forward, axes in cases():
        chips = prod(axes.values())
        heads = max(given.padded(chips), chips if layout.ffn == "ws1d_code" and given.padded_heads else 0)
        groups = heads if given.kv_heads == given.heads else given.kv_heads
        ffn = (3 if given.gated else 2) * given.d_model * given.d_ff
        rows = forward.batch * forward.length
        weights = 2 * rows * (ffn + 2 * given.d_model * (heads + groups) * given.d_head)
        assert chips * flops(program.block, attention=False) == pytest.approx(weights, rel=1e-12), what
        scores = 4 * rows * forward.attended * heads * given.d_head
        assert chips * flops(program.block, attention=True) == pytest.approx(scores, rel=1e-12), what


def test_a_loop_cuts_its_matmul_into_a_shard_for_each_chip_of_the_group() -> None:
    for what, program, _, _, _, axes in cases():
        groups = {o.name: prod(axes[a] for a in o.axes) for o in program.operations() if isinstance(o, Collective)}
        for o in computes(program.operations()):
            assert all(prod(loop.cut) == groups[loop.collective] for loop in o.loops), what
            assert {loop.kind for loop in o.loops} in (set(), set(LOOPS)), what


@pytest.mark.parametrize("overlap", [False, *LOOPS])
def test_overlap_can_be_left_out_or_of_one_kind(overlap: Any) -> None:
    for ffn in LAYOUTS.keys() - {"dp"}:  # whole weights: nothing to loop with
        kinds = {loop.kind for o in computes(layer(PALM, Layout(ffn, "batch", overlap=overlap), DECODE)) for loop in o.loops}
        assert kinds == ({overlap} if overlap else set())


# Memory


@pytest.mark.parametrize(("given", "attention", "contexts"), [
    (MULTIHEAD, "heads", {128: 1320, 512: 330}), (PALM, "heads", {128: 660, 512: 165}),
    (PALM, "batch", {128: 43000, 512: 10700})],
    ids=["multihead", "multiquery over heads", "multiquery over batch"])
def test_the_longest_context_is_that_of_table_1(given: Model, attention: str, contexts: dict[int, int]) -> None:
    """The paper, table 1: 64 chips, 30 % of HBM for the cache; batch -> tokens."""
    for batch, context in contexts.items():
        for ffn in ("ws2d", "ws1d"):
            found = memory(given, Layout(ffn, attention), Workload("decode", batch, 2048), CUBE, chip("tpu-v4").hbm_bytes)
            assert found.longest_context == pytest.approx(context, rel=0.03)


@pytest.mark.parametrize("ffn", ["ws2d", "wg_x", "wg_xyz"])
def test_the_weights_of_all_chips_are_those_of_the_model(ffn: str) -> None:
    """Multihead, so that none are replicated; heads padded by a third."""
    found = memory(MT_NLG, Layout(ffn, "batch", weights="int8"), Workload("decode", 64, 2048), CUBE, 32 * 2**30)
    assert found.weights * 64 == MT_NLG.counted
    assert found.kv_cache * 64 == 105 * 64 * (2048 + 1) * 2 * 128 * 160 * 2


@pytest.mark.parametrize(("weights", "fits"), [("int8", True), ("bf16", True), ("f32", False)])
def test_memory_that_does_not_fit_is_told(weights: str, fits: bool) -> None:
    found = memory(PALM, Layout("ws2d", "batch", weights=weights), Workload("decode", 64, 2048), CUBE, 32 * 2**30)
    assert found.fits is fits
    padding = 118 * 2 * 18432 * (64 - 48) * 256  # 18e9, as the paper says (section 4)
    replicas = 118 * 2 * 18432 * 256 * (16 - 1)  # the one head of W_K and W_V is cut over x alone
    assert 64 * found.weights == (PALM.counted + padding + replicas) * DTYPE_BYTES[weights]


def test_the_scores_of_a_long_prompt_must_fit_into_memory_too() -> None:
    """Attention is not fused: one head a chip, all scores in f32; chunks have fewer of them."""
    def activations(context: int, chunk: int | None = None) -> float:
        work = Workload("prefill", 1, context, chunk=chunk)
        return memory(PALM, Layout("ws2d_code", "heads"), work, CUBE, 32 * 2**30).activations
    assert 65536**2 * 4 < activations(65536) < 1.01 * 65536**2 * 4
    assert 2048 * 65536 * 4 < activations(65536, 2048) < 1.05 * 2048 * 65536 * 4


# Elementwise work


def elementwise(operations: tuple[Operation, ...]) -> dict[str, Compute]:
    """Return the operations with elementwise work by name."""
    return {o.name: o for o in operations if isinstance(o, Compute) and o.vector}


HEADS = Layout("ws2d", "heads", attention_kernel="plain")


@pytest.mark.parametrize("ffn", ["ws1d", "ws2d", "wg_xyz", "ws2d_code", "wg_xyz_code"])
@pytest.mark.parametrize("attention", ["heads", "batch"])
def test_elementwise_work_is_that_of_the_whole_model_shared_by_all_chips(ffn: str, attention: str) -> None:
    found = elementwise(layer(PALM, Layout(ffn, attention, attention_kernel="plain"), Forward("decode", 512, 1, 2048)))
    assert set(found) == {"add_residual", "attention", "nonlinearity"}
    whole = {"add_residual": 512 * 18432, "nonlinearity": 512 * 73728, "attention": 512 * 64 * 2048}
    each = {"add_residual": 10, "nonlinearity": 5, "attention": 10}
    for name, elements in whole.items():
        assert found[name].vector == each[name] * elements / 64
    assert (found["attention"].matmuls[0].m == 1) == (attention == "heads" and ffn in ("ws1d", "ws2d", "ws2d_code", "wg_xyz"))


def test_keys_and_values_with_heads_are_copied_to_another_order_and_those_of_multiquery_are_not() -> None:
    """Llama 3 70B over 64 and over 2 chips, one KV head a chip and 4: 512 sequences of 2048 tokens, 2 x 128 elements of bf16.

    A single head of bf16 fills half of the rows of a tile: read, written, and read again are then six times its bytes.
    """
    one, four = (elementwise(layer(LLAMA, HEADS, DECODE, axes))["attention"] for axes in ({"x": 4, "y": 4, "z": 4}, {"x": 2}))
    cache = 512 * 2048 * 2 * 128 * 2
    own = [512 * heads * 2 * 128 * 2 for heads in (1, 32)]  # q and the output
    assert [o.hbm_bytes for o in (one, four)] == [cache + own[0], 4 * cache + own[1]]
    assert [o.vector_bytes for o in (one, four)] == [5 * cache, 2 * 4 * cache]
    assert elementwise(layer(PALM, HEADS, DECODE))["attention"].vector_bytes == 0
    fused = next(o for o in layer(LLAMA, Layout("ws2d", "heads"), DECODE) if o.name == "attention")
    assert isinstance(fused, Compute) and fused.vector_bytes == 0


def test_a_softmax_grows_with_the_square_of_the_prompt_and_is_made_and_used_up_inside() -> None:
    short, long = (elementwise(layer(PALM, HEADS, Forward("prefill", 4, n, n)))["attention"]
                   for n in (512, 1024))
    assert long.vector == 4 * short.vector and long.scratch == 4 * short.scratch == 4 * 4 * 512 * 512 * 4  # f32, one head a chip
    assert long.vector_bytes == 0 and long.scratch_passes == 5


def test_what_a_looped_collective_adds_or_puts_together_goes_through_hbm() -> None:
    """Sums: what arrives is written, it and what was made are read, their sum is written. Halves from either side are copied."""
    program = {o.name: o for o in layer(PALM, Layout("ws2d_code", "batch"), DECODE)}
    sums = {(o.name, loop.kind): loop.sum_bytes / program[loop.collective].bytes
            for o in program.values() if isinstance(o, Compute) for loop in o.loops}
    assert sums == {("matmul_in_q", kind): 4.0 for kind in LOOPS} | {("matmul_out_o", "one_way"): 0.0} | {
        ("matmul_out_o", kind): 2.0 for kind in ("throughput", "latency")}
    nested = [loop for o in layer(PALM, Layout("wg_xyz_code", "batch"), PREFILL) if isinstance(o, Compute) for loop in o.loops]
    assert nested and all(loop.sum_bytes == 0 for loop in nested)


def test_attention_is_many_kernels_and_more_with_a_cache() -> None:
    def kernels(forward: Forward, kernel: str = "plain") -> dict[str, int]:
        layout = Layout("ws2d", "batch", attention_kernel=kernel)
        return {o.name: o.kernels for o in layer(PALM, layout, forward) if isinstance(o, Compute)}
    assert kernels(DECODE) == {"add_residual": 3, "matmul_in_q": 1, "matmul_k_v": 1, "attention": 11, "nonlinearity": 2,
                               "matmul_out_o": 1}
    assert kernels(PREFILL)["attention"] == 7
    assert kernels(Forward("prefill", 512, 64, 128))["attention"] == 11  # a chunk with what is cached before it
    assert kernels(DECODE, "fused")["attention"] == kernels(PREFILL, "fused")["attention"] == 3


# What the measured code ran, beyond shardings


def collective(operations: tuple[Operation, ...], name: str) -> Collective:
    (found,) = [o for o in operations if o.name == name]
    assert isinstance(found, Collective)
    return found


@pytest.mark.parametrize(("ffn", "one_way"), [("ws2d_code", True), ("ws1d_code", True), ("ws2d", False), ("ws1d", False)])
def test_reduce_scatters_of_the_measured_code_go_one_way_and_nothing_else_does(ffn: str, one_way: bool) -> None:
    found = [o for o in layer(PALM, Layout(ffn, "batch"), DECODE) if isinstance(o, Collective)]
    assert {o.kind for o in found} >= {"reduce_scatter", "all_gather", "all_to_all"}
    assert all((o.direction == "one_way") == (one_way and o.kind == "reduce_scatter") for o in found)


def test_a_serial_block_of_the_measured_code_loops_what_leaves_it_over_y_and_scatters_over_z_both_ways() -> None:
    operations = layer(model(PALM_SERIAL), Layout("ws2d_code", "batch"), DECODE)
    loops = {(o.name, o_.kind, o_.axes) for o in operations if isinstance(o, Compute)
             for o_ in (collective(operations, loop.collective) for loop in o.loops)}
    assert loops == {("matmul_q", "reduce_scatter", ("x",)), ("matmul_o", "reduce_scatter", ("y",)),
                     ("matmul_in", "reduce_scatter", ("x",)), ("matmul_out", "reduce_scatter", ("y",))}
    assert {(o.axes, o.direction) for o in operations if isinstance(o, Collective) and o.kind == "reduce_scatter"} == {
        (("x",), "one_way"), (("y",), "one_way"), (("z",), "both")}
    parallel = layer(PALM, Layout("ws2d_code", "batch"), DECODE)
    assert collective(parallel, "scatter_residual_z").direction == "one_way"


@pytest.mark.parametrize(("batch", "pieces"), [(64, 64), (512, 512), (1024, 1024)])
def test_an_exchange_has_a_piece_for_each_sequence_of_which_a_chip_has_a_part(batch: int, pieces: int) -> None:
    for length in (1, 16):  # the tokens of a sequence lie side by side
        operations = layer(PALM, Layout("ws2d_code", "batch"), Forward("prefill", batch, length, 2048))
        found = [o.pieces for o in operations if isinstance(o, Collective) and o.kind == "all_to_all"]
        assert found == [pieces, pieces]
    assert all(o.pieces == 0 for o in operations if isinstance(o, Collective) and o.kind != "all_to_all")
