"""The collectives that follow from the shardings move what the paper says, to the byte: Fig. 3, Table 1, the code."""

import pytest

from torussim.chips import chip
from torussim.layouts import Layout
from torussim.memory import memory
from torussim.models import model
from torussim.program import Collective
from torussim.transformer import build
from torussim.workload import Forward, Workload

CUBE = {"x": 4, "y": 4, "z": 4}
E, F, N = 16384, 65536, 64
TWO_MATRICES = {"base": "mt-nlg-530b", "layers": 1, "d_model": E, "d_ff": F, "heads": 64, "kv_heads": 64, "d_head": 256}
FORMULAS = {  # elements of one FFN layer on X = Y = Z = 4 (paper, A.1 and A.2)
    "ws2d": lambda t: 2 * t * (E / 4 + F / 16),
    "wg_x": lambda t: 2 * E * F * 4 / N + 2 * t * E / 4,
    "wg_xy": lambda t: 2 * E * F * 16 / N + 2 * t * E / 16,
    "wg_xyz": lambda t: 2 * E * F,
}
PRINTED = {  # GB, as the figure's table has them
    2048: ("0.06711", "0.302", "1.082", "4.295"), 16384: ("0.5369", "0.5369", "1.141", "4.295"),
    131072: ("4.295", "2.416", "1.611", "4.295"), 1048576: ("34.36", "17.45", "5.369", "4.295"),
}


def of_the_ffn(program):
    """Return the collectives of a serial layer's second half: what comes after the attention is back in the residual."""
    names = [o.name for o in program.block]
    back = [i for i, name in enumerate(names) if name in ("matmul_o", "scatter_attention", "exchange_attention")]
    return [o for o in program.block[max(back) + 1:] if isinstance(o, Collective)]


@pytest.mark.parametrize("tokens", PRINTED)
@pytest.mark.parametrize("layout", FORMULAS)
def test_a_two_matrix_ffn_layer_moves_the_volumes_of_figure_3(layout, tokens):
    batch = 64 if tokens == 2048 else 512
    program = build(model(TWO_MATRICES), Layout(layout, "batch"), Forward("prefill", batch, tokens // batch, 0), CUBE)
    moved = sum(o.bytes for o in of_the_ffn(program))
    assert moved == 2 * FORMULAS[layout](tokens)
    printed = PRINTED[tokens][list(FORMULAS).index(layout)]
    assert f"{moved / 1e9:.4g}".startswith(printed) or f"{moved / 1e9:.{len(printed.split('.')[1])}f}" == printed


def moved_by(layout, attention, forward):
    program = build(model("palm-540b"), Layout(layout, attention), forward, CUBE)
    return [(o.kind, "".join(o.axes), o.bytes) for o in program.block if isinstance(o, Collective)]


DECODE = Forward("decode", 512, 1, 2048)


def test_the_bytes_of_a_ws2d_decode_layer():
    assert moved_by("ws2d", "batch", DECODE) == [
        ("all_gather", "yz", 4_718_592), ("reduce_scatter", "x", 10_485_760), ("reduce_scatter", "x", 32_768),
        ("all_to_all", "xyz", 262_144), ("all_to_all", "xyz", 262_144), ("all_gather", "x", 5_767_168),
        ("reduce_scatter", "yz", 4_718_592)]


def test_the_bytes_of_a_ws2d_prefill_layer():
    assert moved_by("ws2d", "heads", Forward("prefill", 1, 2048, 2048)) == [
        ("all_gather", "yz", 18_874_368), ("reduce_scatter", "x", 41_943_040), ("all_reduce", "x", 2_097_152),
        ("all_gather", "x", 23_068_672), ("reduce_scatter", "yz", 18_874_368)]


def test_the_bytes_of_a_wg_xyz_prefill_layer():
    assert moved_by("wg_xyz", "batch", Forward("prefill", 512, 2048, 2048)) == [
        ("all_gather", "xyz", 6_039_797_760), ("all_gather", "x", 18_874_368), ("all_gather", "xyz", 3_321_888_768)]


def test_the_bytes_of_a_ws1d_decode_layer():
    assert moved_by("ws1d", "batch", DECODE) == [
        ("all_gather", "xyz", 18_874_368), ("all_to_all", "xyz", 262_144), ("all_to_all", "xyz", 262_144),
        ("reduce_scatter", "xyz", 18_874_368)]


def test_k_and_v_held_whole_take_two_gigabytes():
    held = {layout: memory(model("palm-540b"), Layout(layout, "batch"), Workload("prefill", 512, 2048), CUBE, 1.0).weights
            for layout in ("wg_xyz", "wg_xyz_code")}
    assert held["wg_xyz_code"] - held["wg_xyz"] == 118 * 18_874_368 * 3 / 4  # whole on every chip, not a quarter


@pytest.mark.parametrize("batch, multihead, heads, spread", [(128, 1320, 660, 43_000), (512, 330, 165, 10_700)])
def test_the_longest_context_is_that_of_table_1(batch, multihead, heads, spread):
    def longest(given, attention):
        held = memory(model(given), Layout("ws2d", attention), Workload("decode", batch, 2048), CUBE, chip("tpu-v4").hbm_bytes)
        return held.longest_context

    assert longest({"base": "palm-540b", "kv_heads": 48, "d_head": 128}, "heads") == pytest.approx(multihead, rel=0.03)
    assert longest("palm-540b", "heads") == pytest.approx(heads, rel=0.03)
    assert longest("palm-540b", "batch") == pytest.approx(spread, rel=0.03)


CODE = {  # REFERENCE, last section: kind and axes in order, PaLM 540B on 4x4x4
    ("ws2d_code", 512): "all_gather y, all_reduce x, all_gather z, reduce_scatter x, reduce_scatter x, all_to_all x, "
                        "all_to_all yz, all_to_all yz, all_to_all x, all_gather x, reduce_scatter y, reduce_scatter z",
    ("ws2d_code", 16): "all_gather y, all_reduce x, all_gather z, reduce_scatter x, all_reduce x, all_to_all yz, all_to_all yz, "
                       "all_gather x, reduce_scatter y, reduce_scatter z",
    ("ws1d_code", 512): "all_reduce x, all_gather x, reduce_scatter x, all_to_all x, all_to_all yz, all_to_all yz, all_to_all x, "
                        "reduce_scatter x, all_reduce yz",
}


@pytest.mark.parametrize("layout, batch", CODE)
def test_the_code_layouts_run_what_the_published_code_runs(layout, batch):
    moved = moved_by(layout, "batch", Forward("decode", batch, 1, 2048))
    assert ", ".join(f"{kind} {axes}" for kind, axes, _ in moved) == CODE[layout, batch]


def test_the_code_gathers_weights_one_way_one_axis_at_a_time_and_no_activations():
    program = build(model("palm-540b"), Layout("wg_xyz_code", "batch"), Forward("prefill", 512, 2048, 2048), CUBE)
    gathers = [o for o in program.block if isinstance(o, Collective)]
    assert {o.kind for o in gathers} == {"all_gather"} and {o.algorithm for o in gathers} == {"nested"}
    assert ["".join(o.axes) for o in gathers] == ["xzy", "zyx"]
    assert [o.bytes for o in gathers] == [6_039_797_760, 3_321_888_768]
