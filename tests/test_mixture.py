"""A mixture of experts does the work of its tokens, moves the bytes of its shardings, and waits for its busiest expert."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from math import prod
from random import Random
from typing import Any

import oracle
import pytest

from torussim.analysis import users
from torussim.answer import run
from torussim.chips import chip
from torussim.engine.simulate import simulate
from torussim.errors import LayoutError
from torussim.layouts import LAYOUTS, Layout
from torussim.memory import memory
from torussim.models import Model, model
from torussim.periods import repeated
from torussim.program import Collective, Compute, Program, check_program
from torussim.report import text
from torussim.topology.builders import torus
from torussim.transformer import build
from torussim.workload import Balance, Forward, Workload

CUBE = {"x": 4, "y": 2, "z": 2}
DENSE: dict[str, Any] = {"layers": 3, "d_model": 1024, "d_ff": 4096, "heads": 32, "kv_heads": 16, "d_head": 32,
                         "vocabulary": 32768, "gated": True, "parallel": False, "tied": True}
DECODE, PREFILL = Forward("decode", 64, 1, 512), Forward("prefill", 64, 32, 32)
CUTS: tuple[Any, ...] = ("all", "batch", "gathered", ("x",), ("y", "z"), ())


def mixture(experts: int = 16, used: int = 2, **more: Any) -> Model:
    return model({**DENSE, "experts": experts, "experts_per_token": used, **more})


def named(program: Program, word: str) -> list[Any]:
    return [o for o in program.block if word in o.name]


def plain(program: Program) -> list[object]:
    """Return the operations of a layer without their names."""
    hidden = ("name", "loops", "after")
    return [(type(o), {key: value for key, value in vars(o).items() if key not in hidden}, len(getattr(o, "loops", ())))
            for o in program.block]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("ffn", LAYOUTS)
def test_a_mixture_with_one_expert_has_the_operations_of_the_dense_model(ffn: str, parallel: bool) -> None:
    dense, one = model({**DENSE, "parallel": parallel}), mixture(1, 1, parallel=parallel)
    for forward in (DECODE, PREFILL):
        layout = Layout(ffn, "batch")
        assert plain(build(one, layout, forward, CUBE)) == plain(build(dense, layout, forward, CUBE))
        a, b = (memory(given, layout, Workload("decode", 64, 512), CUBE, 32e9) for given in (dense, one))
        assert a == b


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("ffn", LAYOUTS)
def test_the_products_of_all_chips_are_those_of_the_experts_of_all_tokens(ffn: str, cut: Any) -> None:
    given = mixture(expert_d_ff=512)
    for forward in (DECODE, PREFILL):
        program = build(given, Layout(ffn, "batch", experts=cut), forward, CUBE)
        check_program(program, CUBE)
        made = sum(o.total_flops for o in named(program, "matmul_experts")) * prod(CUBE.values())
        copies = 2 * forward.batch * forward.length
        assert made == pytest.approx(copies * 2 * 3 * given.d_model * 512, rel=1e-12)


@pytest.mark.parametrize("ffn", ["ws1d", "ws2d", "dp", "wg_xyz"])
def test_one_expert_a_chip_sends_each_chip_its_share_of_the_copies(ffn: str) -> None:
    given = mixture(16, 4)
    program = build(given, Layout(ffn, "batch", activations="fp8"), DECODE, CUBE)
    sent = [(o.kind, set(o.axes), o.bytes) for o in program.block if isinstance(o, Collective)
            and o.name in ("exchange_dispatch", "exchange_combine")]
    bytes_ = DECODE.batch / 16 * 4 * given.d_model  # the copies of a chip's tokens, fp8: it keeps 1/16 of them
    assert sent == [("all_to_all", {"x", "y", "z"}, bytes_)] * 2


def test_experts_over_axes_that_do_not_cut_the_tokens_need_no_dispatch_and_sum_their_results() -> None:
    """One sequence on many chips: every chip has the token, multiplies its own experts' part, and the results are summed."""
    program = build(mixture(), Layout("ws1d"), Forward("decode", 1, 1, 512), CUBE)
    assert not named(program, "dispatch") and not named(program, "combine")
    (scattered,) = named(program, "scatter_ffn")
    assert scattered.kind == "reduce_scatter" and scattered.bytes == 1024 * 2


def test_weights_of_experts_that_are_gathered_replace_the_dispatch() -> None:
    program = build(mixture(), Layout("ws1d", experts="gathered"), PREFILL, CUBE)
    assert not named(program, "dispatch")
    gathered = [o.bytes for o in named(program, "gather_experts")]
    assert gathered == [16 * 1024 * 2 * 4096 * 2, 16 * 4096 * 1024 * 2]  # whole: N E F, two bytes each


def test_an_expert_without_tokens_is_not_read() -> None:
    """One token of 2 of 16 experts reads 2 of them; 8 tokens, each of 2, read all; more tokens read no more."""
    def weights(tokens: int) -> float:
        program = build(mixture(), Layout("ws1d"), Forward("decode", tokens, 1, 512), {"x": 1})
        o, = named(program, "matmul_experts_in")
        return float(o.hbm_bytes - 2 * tokens * (1024 * 2 + 8192 * 2))

    one = 1024 * 8192 * 2
    assert [weights(tokens) / one for tokens in (1, 4, 8, 64)] == [2, 8, 16, 16]


def test_shared_experts_run_while_the_tokens_are_on_their_way() -> None:
    program = build(mixture(shared_experts=1), Layout("dp"), DECODE, CUBE)
    run = simulate(program, torus([4, 2, 2], bandwidth=1e6), chip("ideal"))
    names = [o.name for o in run.segments[1].operations]
    starts, ends = run.segments[1].start[:, 0], run.segments[1].end[:, 0]
    at = {name: (start, end) for name, start, end in zip(names, starts, ends)}
    assert at["matmul_in"][0] == at["exchange_dispatch"][0] < at["exchange_dispatch"][1] <= at["matmul_experts_in"][0]


# Load


def times(program: Program, shape: list[int], **more: Any) -> float:
    return simulate(program, torus(shape, bandwidth=1e9), chip("tpu-v4"), **more).makespan


@pytest.mark.parametrize("ffn", ["ws1d", "dp"])
def test_a_more_skewed_load_is_never_faster(ffn: str) -> None:
    seconds = [times(build(mixture(), Layout(ffn, "batch"), replace(DECODE, balance=Balance(zipf)), CUBE), [4, 2, 2])
               for zipf in (0.0, 0.25, 0.5, 1.0, 2.0)]
    assert seconds == sorted(seconds) and seconds[-1] > 1.05 * seconds[0]


def test_moving_load_from_a_cold_to_the_hottest_expert_is_never_faster() -> None:
    rng = Random(7)
    for _ in range(6):
        row = [rng.random() for _ in range(16)]
        row = [share / sum(row) for share in row]
        hot, cold = row.index(max(row)), row.index(min(row))
        moved = list(row)
        moved[hot], moved[cold] = row[hot] + row[cold], 0.0
        before, after = (times(build(mixture(), Layout("dp"), replace(PREFILL, balance=Balance(shares=(tuple(one),))), CUBE),
                               [4, 2, 2]) for one in (row, moved))
        assert after >= before * (1 - 1e-12)


def test_equal_shares_are_the_uniform_load() -> None:
    for ffn, cut in (("ws2d", "all"), ("dp", "all"), ("ws1d", ("x",))):
        layout = Layout(ffn, "batch", experts=cut)
        equal = replace(DECODE, balance=Balance(shares=((1 / 16,) * 16,)))
        assert build(mixture(), layout, equal, CUBE) == build(mixture(), layout, DECODE, CUBE)


def test_unequal_loads_keep_the_products_of_all_chips() -> None:
    program = build(mixture(32, 3), Layout("dp"), replace(PREFILL, balance=Balance(1.0)), CUBE)
    for o in named(program, "matmul_experts"):
        assert len(o.cases) == 16 and o.over == ("x", "y", "z")
        whole = 3 * 64 * 32 * 2 * 1024 * (8192 if o.name.endswith("in") else 4096)
        assert sum(case.total_flops for case in o.cases) == pytest.approx(whole)
        assert o.total_flops == max(case.total_flops for case in o.cases)


def test_an_unequal_dispatch_sends_each_chip_the_share_of_its_experts_and_the_combine_sends_it_back() -> None:
    shares = Balance(1.0).of(0, 32)
    program = build(mixture(32, 3), Layout("dp"), replace(PREFILL, balance=Balance(1.0)), CUBE)
    there, back = named(program, "exchange_dispatch")[0].matrix.array, named(program, "exchange_combine")[0].matrix.array
    held = 64 * 32 / 16 * 3 * 1024 * 2  # bytes of the copies of a chip's tokens
    for to in range(16):
        assert there[:, to] == pytest.approx(held * sum(shares[2 * to:2 * to + 2]))
    assert (back == there.T).all()


def test_a_capacity_bounds_the_load_of_an_expert() -> None:
    skewed = replace(PREFILL, balance=Balance(1.0))
    free, bounded, roomy = (times(build(mixture(), Layout("dp", capacity_factor=factor), skewed, CUBE), [4, 2, 2])
                            for factor in (None, 1.25, 16.0))
    assert bounded < free == roomy
    most = max(m.m for o in named(build(mixture(), Layout("dp", capacity_factor=1.25), skewed, CUBE), "matmul_experts_in")
               for case in o.cases for m in case.matmuls)
    assert most == pytest.approx(1.25 * 64 * 32 * 2 / 16)


def test_the_result_says_the_load_of_the_busiest_chip_and_what_is_dropped() -> None:
    """Shares 1/2, 1/4, 1/8, 1/8 of two chips with two experts each: 3/4 of the load is on one, and 1/4 is beyond the capacity."""
    asked = {"chip": "ideal", "topology": {"shape": [2]}, "model": {**DENSE, "experts": 4, "experts_per_token": 1},
             "layout": {"ffn": "dp", "attention": "batch", "capacity_factor": 1.0},
             "workload": {"phase": "decode", "batch": 64, "context": 128, "balance": {"shares": [0.5, 0.25, 0.125, 0.125]}}}
    bounded, free = run(asked), run({**asked, "layout": {"ffn": "dp", "attention": "batch"}})
    said = [one.layout["as_run"]["decode"]["experts"] for one in (bounded, free)]
    assert [(one["busiest"], one["dropped"]) for one in said] == [(1.0, 0.25), (1.5, 0.0)]
    assert "25.0% of the copies of tokens are dropped" in text(bounded)
    assert "the busiest chip has 1.5 times the mean load" in text(free) and "dropped" not in text(free)


def test_the_oracle_runs_mixtures_with_unequal_loads() -> None:
    rng = Random(3)
    for ffn, cut, shape in (("dp", "all", (2, 3)), ("ws1d", ("y",), (2, 2)), ("ws2d", "all", (4, 2))):
        axes = dict(zip("xy", shape))
        experts = prod(shape) * 2
        row = [rng.random() for _ in range(experts)]
        load = Balance(shares=(tuple(share / sum(row) for share in row),))
        given = model({**DENSE, "layers": 1, "d_model": 96, "d_ff": 192, "heads": 12, "kv_heads": 6, "d_head": 8,
                       "vocabulary": 240, "experts": experts, "experts_per_token": 2, "shared_experts": 1})
        program = build(given, Layout(ffn, "batch", experts=cut), Forward("decode", 24, 1, 64, load), axes)
        graph = torus(list(shape), bandwidth=1e8)
        ours = simulate(program, graph, chip("tpu-v4"))
        theirs = oracle.simulate(ours.program, graph, chip("tpu-v4"))
        assert ours.makespan == pytest.approx(theirs["makespan"], rel=1e-9)


# Memory


@pytest.mark.parametrize("cut", ["all", ("x",), ("y", "z")])
def test_every_weight_is_kept_once_where_nothing_is_replicated(cut: Any) -> None:
    given = mixture(expert_d_ff=512, shared_experts=2, dense_layers=1)
    held = memory(given, Layout("ws1d", "batch", experts=cut), Workload("decode", 64, 512), CUBE, 32e9).weights * 16 / 2
    attention = 3 * 1024 * 32 * (2 * 32 + 2 * 16)
    ffns = 3 * 1024 * 4096 + 2 * (16 + 2) * 3 * 1024 * 512
    router = 16 * 2 * 1024 * 16  # on every chip
    assert held == attention + ffns + router + 32768 * 1024


# Layers of several kinds


def test_layers_of_several_kinds_are_blocks_in_order() -> None:
    program = build(mixture(dense_layers=1), Layout("ws1d"), DECODE, CUBE)
    assert [times for _, times in program.blocks] == [1, 2]
    dense, mixed = ({o.name.partition("@")[0] for o in block.operations} for block in program.blocks)
    assert {"matmul_in", "matmul_experts_in"} & dense == {"matmul_in"}
    assert {"matmul_in", "matmul_experts_in"} & mixed == {"matmul_experts_in"}


def test_measured_shares_of_each_layer_are_blocks_of_their_own() -> None:
    rows = tuple(tuple([0.25 - i / 100] + [(0.75 + i / 100) / 15] * 15) for i in range(3))
    program = build(mixture(), Layout("dp"), replace(DECODE, balance=Balance(shares=rows)), CUBE)
    assert [times for _, times in program.blocks] == [1, 1, 1]
    cases = [o.cases for block in program.blocks for o in block.operations if isinstance(o, Compute) and "experts_in" in o.name]
    assert len(cases) == len(set(cases)) == 3


def test_runs_of_layers_give_the_layers_back() -> None:
    rng = Random(11)
    for _ in range(300):
        pattern = [rng.choice("ab") for _ in range(rng.randint(1, 5))]
        layers = [rng.choice("ab") for _ in range(rng.randint(0, 3))] + pattern * rng.randint(1, 6) + pattern[:rng.randint(0, 3)]
        found = repeated(layers)
        assert [one for first, length, times in found for one in layers[first:first + length] * times] == layers
        simple = [(key, len(list(group))) for key, group in groupby(layers)]
        assert sum(length for _, length, _ in found) <= len(simple)


def test_the_blocks_of_a_pattern_are_short() -> None:
    assert repeated(["L", "L", "L", "L", "L", "G"] * 10 + ["L", "L"]) == [(0, 6, 10), (60, 1, 2)]


def test_a_link_has_the_collectives_of_all_layers_as_one() -> None:
    rows = tuple(tuple([0.25 - i / 100] + [(0.75 + i / 100) / 15] * 15) for i in range(3))
    program = build(mixture(), Layout("dp"), replace(DECODE, balance=Balance(shares=rows)), CUBE)
    found = users(simulate(program, torus([4, 2, 2], bandwidth=1e9), chip("ideal")), 0)
    assert set(found) == {"exchange_dispatch", "exchange_combine"} and sum(found.values()) == pytest.approx(1)


# Mistakes


@pytest.mark.parametrize("cut, code", [(("x", "y", "z"), "does-not-divide"), (("w",), "")])
def test_axes_that_cannot_cut_the_experts_are_named(cut: Any, code: str) -> None:
    with pytest.raises(LayoutError) as caught:
        build(mixture(12), Layout("ws1d", experts=cut), DECODE, CUBE)
    assert caught.value.path == ("experts",) and (not code or caught.value.code == code)


