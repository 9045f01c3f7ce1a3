"""Decode steps on GPUs: the sums of a layer as serving stacks make them, and 22 measured steps of Llama 70B on H200."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from random import Random
from typing import Any

import networkx as nx
import numpy as np
import pytest

from torussim import chip, load, measurements, run
from torussim.calibrate import calibrate
from torussim.chips import Chip
from torussim.choice import GROUP, TOKENS, chosen, with_sums
from torussim.closed_forms import axes_seconds
from torussim.collectives.lower import joined
from torussim.cost import protocols, start_seconds
from torussim.critical_path import least_seconds
from torussim.engine.simulate import simulate
from torussim.layouts import Layout
from torussim.models import model
from torussim.outlines import Outlines
from torussim.program import Collective, Compute, Program
from torussim.report import text
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid
from torussim.topology.named import network
from torussim.transformer import build
from torussim.validate import validate
from torussim.workload import Forward

SMALL = model("llama-3-8b", layers=2)
H200, LATE = chip("h200"), 0.3e-6
STACK = replace(chip("ideal"), algorithms={"all_reduce": ("one_shot", "one_ring one_way")})


def star(chips: int, bandwidth: float = 450e9) -> Grid:
    return grid(network("switch", {"chips": chips, "bandwidth": bandwidth, "latency": LATE}, [chips]))


def step(chips: int, batch: int, dtype: str = "fp8", **layout: Any) -> Program:
    made = Layout("ws1d", "heads", weights=dtype, activations=dtype, kv_cache=dtype, **layout)
    return build(SMALL, made, Forward("decode", batch, 1, 1000), {"x": chips})


def sums(program: Program) -> list[Collective]:
    return [o for o in program.operations() if isinstance(o, Collective) and o.kind == "all_reduce"]


def taken(program: Program, net: Grid, machine: Chip = H200) -> set[str]:
    return {str(o.algorithm) for o in sums(chosen(program, net, machine))}


@pytest.mark.parametrize("seed", range(8))
def test_the_sums_of_a_layer_take_what_their_messages_take(seed: int) -> None:
    """Of each of two sums a layer and that of the embedding, every chip sends all others the whole vector, in bf16."""
    rng = Random(seed)
    chips, batch = rng.choice((2, 4, 8)), rng.randint(1, TOKENS)
    net, free = star(chips), star(chips, bandwidth=1e30)
    program = step(chips, batch, rng.choice(("fp8", "int8")))
    one = (chips - 1) * batch * SMALL.d_model * 2 / 450e9
    logits = [o for o in chosen(program, net, STACK).epilogue if isinstance(o, Collective) and o.tokens == 0]
    apart = [simulate(Program(tuple(replace(o, after=()) for o in logits)), n, STACK).makespan for n in (net, free)]
    more = simulate(program, net, STACK).makespan - simulate(program, free, STACK).makespan
    assert more == pytest.approx((2 * SMALL.layers + 1) * one + apart[0] - apart[1], rel=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_simulation_estimate_and_least_time_agree_on_a_switch(seed: int) -> None:
    rng = Random(seed)
    chips, batch = rng.choice((2, 4, 8)), rng.choice((1, 7, 64, TOKENS, TOKENS + 8, 512))
    program, net = step(chips, batch, rng.choice(("fp8", "bf16"))), star(chips)
    said = simulate(program, net, H200).makespan
    assert axes_seconds(program, net, H200) == pytest.approx(said, rel=1e-9)
    assert 0.5 * said < least_seconds(program, net, H200) <= said * (1 + 1e-9)


def test_choices_are_made_once() -> None:
    net = star(8)
    once = chosen(step(8, 64), net, H200)
    assert chosen(once, net, H200) == once and with_sums(once, Outlines(net), H200) == once


@pytest.mark.parametrize("dtype, batch, wanted", [
    ("fp8", TOKENS, {"one_shot"}), ("fp8", TOKENS + 1, {"one_ring"}), ("bf16", 4, {"one_shot"}), ("bf16", TOKENS, {"one_ring"}),
    ("bf16", TOKENS + 1, {"one_ring"})])
def test_one_shot_is_for_few_tokens_and_without_quantisation_only_where_it_is_faster(dtype: str, batch: int,
                                                                                     wanted: set[str]) -> None:
    assert taken(step(8, batch, dtype), star(8)) == wanted
    for o in chosen(step(8, batch, dtype), star(8), H200).operations():
        assert not (isinstance(o, Compute) and o.loop)


@pytest.mark.parametrize("batch, times", [(16, 1), (TOKENS, 1), (TOKENS + 4, 4)])
def test_every_chip_does_the_elementwise_work_of_many_tokens_and_gathers_nothing(batch: int, times: int) -> None:
    program, net = step(4, batch), star(4)
    run_ = chosen(program, net, H200)
    for given, made in zip(program.block, run_.block, strict=True):
        if isinstance(given, Compute) and isinstance(made, Compute) and given.name.startswith("add_"):
            assert (made.vector, made.vector_bytes) == (times * given.vector, times * given.vector_bytes)
        elif isinstance(given, Compute) and isinstance(made, Compute):
            assert replace(given, loops=()) == made
        elif isinstance(made, Collective):
            assert (made.axes == ()) == (given.kind == "all_gather")  # type: ignore[union-attr]


def test_sums_stay_as_they_are_where_the_stack_has_no_kernel_for_them() -> None:
    """On a torus, across nodes, by other chips, with an algorithm that the layout names, of a mixture of experts."""
    nodes = grid(network("gpu_nodes", {"nodes": 2, "gpus": 4, "bandwidth": 450e9}))
    across = build(SMALL, Layout("ws1d", "heads"), Forward("decode", 8, 1, 1000), {"x": 2, "y": 4})
    mixed = build(model("mixtral-8x7b", layers=1), Layout("ws1d", "heads"), Forward("decode", 8, 1, 1000), {"x": 8})
    named = step(8, 8, collectives={"reduce_scatter": "direct"})
    for program, net, machine in ((step(8, 8), grid(torus((8,), bandwidth=450e9)), H200), (across, nodes, H200),
                                  (step(8, 8), star(8), replace(H200, algorithms={})), (named, star(8), H200),
                                  (mixed, star(8), H200)):
        assert with_sums(program, Outlines(net), machine) is program
    wide = build(SMALL, Layout("ws1d", "heads"), Forward("decode", 8, 1, 1000), {"x": 2 * GROUP})
    assert taken(wide, star(2 * GROUP)) and "one_shot" not in taken(wide, star(2 * GROUP))


def test_a_switch_joins_the_chips_that_it_has_links_to_and_from() -> None:
    def o(*axes: str, groups: Any = ()) -> Collective:
        return Collective("c", "all_reduce", axes, 1e6, groups=groups)
    nodes = grid(network("gpu_nodes", {"nodes": 2, "gpus": 4, "bandwidth": 450e9}))
    assert joined(o("y"), nodes) and not joined(o("x"), nodes) and not joined(o("x", "y"), nodes)
    assert joined(o(groups=((0, 1, 2), (5, 7))), nodes) and not joined(o(groups=((0, 1), (3, 4))), nodes)
    assert joined(o("x"), star(3)) and not joined(o("x"), grid(torus((4,), bandwidth=1e9)))
    one_way = nx.DiGraph(axes={"x": 2})
    one_way.add_node("up", chip=False)
    one_way.add_node("down", chip=False)
    for i in range(2):
        one_way.add_edge((i,), "up", bandwidth=1e9, latency=0.0)
        one_way.add_edge("down", (i,), bandwidth=1e9, latency=0.0)
    one_way.add_edge("up", "down", bandwidth=1e9, latency=0.0)
    assert not joined(o("x"), grid(one_way))


def test_one_shot_is_a_kernel_and_sends_in_the_low_latency_protocol() -> None:
    o = Collective("c", "all_reduce", ("x",), 1e6, "one_shot")
    assert start_seconds(o, 8, H200) == H200.op_overhead and protocols(o, H200) == ("low_latency",)
    assert start_seconds(replace(o, algorithm="one_ring"), 8, H200) == H200.launch
    rate = 450e9 * H200.link_efficiency * H200.low_latency_rate
    net = star(8)
    assert simulate(Program((o,)), net, H200).makespan == pytest.approx(H200.op_overhead + 2 * LATE + 7e6 / rate, rel=1e-9)


def test_a_sum_by_itself_is_the_library_s_and_no_stack_s() -> None:
    """So the times of NCCL remain those of NCCL."""
    given = {"chip": "h100", "topology": {"kind": "switch", "shape": [8]},
             "program": [{"name": "c", "collective": "all_reduce", "axes": "x", "bytes": "1 KiB"}]}
    (o,) = run(given).keys["operations"]
    assert o["algorithm"] == "one_ring" and "one_shot" not in o["alternatives"]
    given["program"][0]["algorithm"] = "one_shot"  # type: ignore[index]
    (o,) = run(given).keys["operations"]
    assert o["algorithm"] == "one_shot"


def test_decode_steps_on_h200_are_within_4_percent() -> None:
    """22 points; the two parameters are those that `torussim calibrate llama-70b-h200` finds."""
    found = validate(["llama-70b-h200"])
    assert not found.mistakes and len(found.points) == 22
    errors = np.abs([row.error for row in found.points])
    assert errors.mean() <= 0.04 and errors.max() <= 0.08
    given = measurements.read(measurements.found("llama-70b-h200")).fit
    assert set(given) == set(H200.uncertainty) and len(given) <= 4


@pytest.mark.slow
def test_each_number_of_gpus_is_predicted_by_the_others() -> None:
    found = calibrate("llama-70b-h200")
    assert not found.mistakes
    for p in found.parameters:
        assert p.constrained and p.value == pytest.approx(getattr(H200, p.name), rel=0.02), p
    groups = defaultdict[str, list[float]](list)
    for point in found.points:
        assert point.left_out is not None
        groups[point.group].append(abs(point.left_out / point.measured - 1))
    assert len(groups) == 4 and max(sum(errors) / len(errors) for errors in groups.values()) <= 0.06


@pytest.mark.parametrize("name", ["h100", "h200", "b200", "a100"])
def test_gpus_take_the_shares_of_h200_and_say_so(name: str) -> None:
    other = chip(name)
    for key in ("op_overhead", "hbm_efficiency"):
        assert getattr(other, key) == getattr(H200, key) and "H200" in other.sources[key]
    assert bool(other.validated) == (name == "h200")


def test_a_stack_on_one_gpu_sums_nothing() -> None:
    scenario = load({"model": "llama-3-8b", "chip": "h200", "topology": {"kind": "switch", "shape": [1], "bandwidth": "450 GB/s"},
                     "layout": {"ffn": "ws1d"}, "workload": {"phase": "decode", "batch": 4, "context": 1000, "tokens": 1}})
    assert run(scenario).keys["breakdown_s"]["exposed_collective"] == 0


def test_the_report_says_that_sums_run_as_all_reduces() -> None:
    given: dict[str, Any] = {
        "model": "llama-3-8b", "chip": "h200", "topology": {"kind": "gpu_nodes", "nodes": 1, "gpus": 4},
        "layout": {"ffn": "ws1d", "attention": "heads", "weights": "fp8", "activations": "fp8"},
        "workload": {"phase": "decode", "batch": 4, "context": 1000, "tokens": 1}}
    found = run(given)
    assert found.step_s == run({**given, "topology": {"kind": "switch", "shape": [4], "bandwidth": "450 GB/s"}}).step_s
    moved = {(o["kind"], o["algorithm"]) for o in found.keys["operations"] if o["kind"] != "compute"}
    assert moved == {("all_reduce", "one_shot")}
    assert "stacks on h200 sum the results of a layer by all-reduces (one_shot)" in " ".join(text(found, verbose=True).split())
    assert "no matmul is looped" not in text(found, verbose=True)
    other = run({**given, "chip": {"base": "h200", "algorithms": {"all_reduce": ["one_ring one_way"]}}})
    assert "by all-reduces" not in text(other, verbose=True)
