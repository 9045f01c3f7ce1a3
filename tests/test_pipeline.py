"""Pipeline stages: the closed form of ticks and transfers, what stages hold, and operations on some positions of axes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import random_scenarios as plain
import random_shared
from hypothesis import given
from hypothesis import strategies as st

from torussim.alike import alike
from torussim.analysis import breakdown, chosen_chips
from torussim.answer import run
from torussim.chips import chip
from torussim.closed_forms import estimate
from torussim.critical_path import least_seconds
from torussim.engine.simulate import simulate
from torussim.errors import LayoutError, ProgramError
from torussim.layouts import Layout, Staged
from torussim.lower_bound import bound
from torussim.memory import memory
from torussim.models import model
from torussim.pipeline import Pipeline, dealt, of_microbatch
from torussim.program import Block, Collective, Compute, Matmul, Program
from torussim.report import causes
from torussim.topology.builders import torus
from torussim.topology.grid import grid
from torussim.transformer import build
from torussim.workload import Forward, Workload

IDEAL = chip("ideal")
RATE = IDEAL.rate("bf16")


def staged(stages, microbatches, seconds, size, *, layers=1, inside=()):
    """Return a pipeline whose stages take some seconds a microbatch on the chip `ideal`, and hand over some bytes."""
    one = (Compute("work", flops=seconds / layers * RATE), *inside)
    return Pipeline("x", microbatches, (), [(Block(one, layers),)] * stages, (), size).build()


@given(st.integers(1, 40), st.integers(1, 12))
def test_layers_are_dealt_in_order_and_as_evenly_as_they_go(layers, stages):
    found = dealt(layers, stages)
    assert [i for some in found for i in some] == list(range(layers))
    sizes = [len(some) for some in found]
    assert max(sizes) - min(sizes) <= 1 and sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("seed", range(12))
def test_m_microbatches_on_p_stages_take_m_plus_p_minus_1_times_and_p_minus_1_transfers(seed):
    rng = Random(seed)
    stages, microbatches, layers = rng.randint(2, 6), rng.choice((1, 2, 5, 9, 30)), rng.randint(1, 4)
    net = torus((stages, 2), wrap=[rng.random() < 0.5, False], bandwidth=1e9, latency=1e-6)
    t, size = 1e-3, rng.uniform(0, 9e5)
    transfer = size / 1e9 + 1e-6
    program = staged(stages, microbatches, t, size, layers=layers)
    said = simulate(program, net, IDEAL)
    expected = (microbatches + stages - 1) * t + (stages - 1) * transfer
    assert said.makespan == pytest.approx(expected, rel=1e-9)
    assert estimate(program, net, IDEAL).axes_s == pytest.approx(expected, rel=1e-9)
    assert least_seconds(program, grid(net), IDEAL) == pytest.approx(expected, rel=1e-6)
    last = said.last_chip
    parts = breakdown(said, last)
    assert parts["bubble"] == pytest.approx((stages - 1) * t + (stages - 2) * transfer, rel=1e-9)
    assert parts["compute"] == pytest.approx(microbatches * t, rel=1e-9)
    assert sum(parts.values()) == pytest.approx(expected, rel=1e-9)
    assert parts["exposed_collective"] == pytest.approx(transfer, rel=1e-9)
    axis = said.link_bytes.sum()  # every microbatch passes every boundary once, on both chips of a stage
    assert axis == pytest.approx(2 * size * microbatches * (stages - 1), rel=1e-12)
    assert chosen_chips(said) == [2 * stage for stage in range(stages)]


def test_a_transfer_longer_than_a_stage_sets_the_pace():
    said = simulate(staged(4, 6, 1e-3, 2e6), torus((4,), wrap=[False], bandwidth=1e9, latency=0.0), IDEAL)
    assert said.makespan == pytest.approx(4 * 1e-3 + 3 * 2e-3 + 5 * 2e-3, rel=1e-9)


def test_a_slow_link_delays_the_stages_behind_it_alone():
    net = torus((4, 2), wrap=[False, False], bandwidth=1e9, latency=0.0)
    net.edges[(1, 1), (2, 1)]["bandwidth"] = 1e8
    said = simulate(staged(4, 3, 1e-3, 5e5), net, IDEAL)
    fast = simulate(staged(4, 3, 1e-3, 5e5), torus((4, 2), wrap=[False, False], bandwidth=1e9, latency=0.0), IDEAL)
    later = {c for c, (slow, once) in enumerate(zip(said.finish, fast.finish)) if slow > once * (1 + 1e-9)}
    assert later == {5, 7}


@pytest.mark.parametrize("seed", range(6))
def test_more_microbatches_of_as_much_work_in_all_are_never_slower(seed):
    rng = Random(seed)
    stages, work, size = rng.randint(2, 5), rng.uniform(1e-4, 1e-2), rng.uniform(0, 1e5)
    net = torus((stages,), wrap=[False], bandwidth=1e9, latency=0.0)
    times = [simulate(staged(stages, m, work / m, size / m), net, IDEAL).makespan for m in (1, 2, 3, 4, 8, 16)]
    assert times == sorted(times, reverse=True)


def random_pipeline(seed):
    """Return a pipeline on a network whose links differ, with stages of several kinds and collectives inside."""
    case = plain.scenario(seed)
    rng = Random(seed)
    shape = rng.choice(((2, 2), (2, 3), (3, 2), (3,), (4,)))
    graph = torus(shape, wrap=[rng.random() < 0.5 for _ in shape], bandwidth=1.0)
    for link in graph.edges.values():
        link["bandwidth"], link["latency"] = rng.uniform(1e9, 9e9), rng.choice((0.0, rng.uniform(0, 3e-6)))

    def layer(label):
        found = [Compute(f"{label}_work", (Matmul(8, rng.randint(100, 3000), rng.randint(100, 3000)),), 0.0, rng.uniform(0, 1e7))]
        if len(shape) > 1:
            kind = rng.choice(("all_gather", "all_reduce", "all_to_all", "reduce_scatter"))
            after = () if rng.random() < 0.3 else None
            found.append(Collective(f"{label}_move", kind, ("y",), rng.uniform(1e3, 1e6), after=after,
                                    algorithm="direct" if kind == "all_to_all" and rng.random() < 0.6 else ""))
        return tuple(found)
    one, other = Block(layer("one"), rng.randint(1, 2)), Block(layer("two"), 1)
    layers = [(one,) if rng.random() < 0.6 else (one, other) for _ in range(shape[0])]
    ends = [(Compute(name, flops=rng.uniform(0, 1e10)),) if rng.random() < 0.7 else () for name in ("first", "last")]
    program = Pipeline("x", rng.choice((1, 2, 3)), ends[0], layers, ends[1], rng.uniform(1e3, 2e6)).build()
    return replace(case, program=program, graph=graph, start=(0.0,) * len(graph))


@pytest.mark.parametrize("seed", range(5))
def test_the_oracle_runs_pipelines_in_the_same_time(seed):
    case = random_pipeline(seed)
    wanted = random_shared.expected(random_shared.Scenario(**vars(case)))
    for fold in (True, False):
        assert not plain.difference(case, plain.run(case, fold=fold), wanted, blocks=False)


def somewhere(case, seed):
    """Return a scenario in which most operations run on some positions of axes."""
    rng, net, change = Random(seed), case.grid, {}
    matmuls = {o.loop.collective: o for o in case.program.operations() if isinstance(o, Compute) and o.loop}
    for o in case.program.operations():
        free = [a for a in net.axes if isinstance(o, Compute) or o.kind == "permute" or a not in o.axes]
        if free and rng.random() < 0.7 and not (isinstance(o, Compute) and o.loop):
            on = tuple((a, tuple(sorted(rng.sample(range(net.length(a)), rng.randint(1, net.length(a))))))
                       for a in rng.sample(free, rng.randint(1, len(free))))
            change[o.name] = replace(o, on=on)
            if o.name in matmuls:
                change[matmuls[o.name].name] = replace(matmuls[o.name], on=on)
    return replace(case, program=case.program.replaced(change))


@pytest.mark.parametrize(("make", "seed"), [(make, seed) for make in (plain, random_shared) for seed in range(100, 105)])
def test_the_oracle_runs_operations_on_some_positions_in_the_same_time(make, seed):
    case = somewhere(make.scenario(seed), seed)
    wanted = make.expected(case)
    for fold in (True, False):
        said = make.run(case, fold=fold)
        assert not plain.difference(case, said, wanted, blocks=False)
    if not any(case.start):
        assert bound(case.program, case.grid, case.chip) <= said.makespan * (1 + 1e-9)
        if not case.graph.graph.get("events"):
            assert least_seconds(case.program, case.grid, case.chip) <= said.makespan * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_estimate_is_the_simulation_where_links_of_an_axis_are_alike(seed):
    rng = Random(seed)
    shape = rng.choice(((3, 4), (4, 4), (2, 8)))
    net = torus(shape, wrap=[False, True], bandwidth=4e9, latency=1e-6)
    inside = (Collective("sum", "all_reduce", ("y",), rng.uniform(1e4, 1e6)),)
    program = staged(shape[0], rng.choice((1, 3, 7)), rng.uniform(1e-5, 1e-3), rng.uniform(1e3, 1e6), layers=2, inside=inside)
    real = replace(plain.REAL, matmul_efficiency=1.0)
    said = simulate(program, net, real).makespan
    assert estimate(program, net, real).axes_s == pytest.approx(said, rel=1e-9)
    assert least_seconds(program, grid(net), real) <= said * (1 + 1e-9)


def test_all_positions_named_are_all_chips():
    net, size = torus((4, 3), bandwidth=1e9), 1e6
    whole = (Compute("work", flops=1e12), Collective("sum", "all_reduce", ("y",), size),
             Collective("pass", "permute", ("x",), size, shift={"x": 1}))
    named = tuple(replace(o, on=(("x", (0, 1, 2, 3)),)) for o in whole)
    one, other = (simulate(Program(operations), net, plain.REAL) for operations in (whole, named))
    assert other.makespan == pytest.approx(one.makespan, rel=1e-12) and (one.link_bytes == other.link_bytes).all()


# -- models -------------------------------------------------------------------------------------------------------------

LLAMA = model("llama-3-8b")
WINDOWED = replace(LLAMA, name="windowed", layers=14, window=512, full_layers=(5, 11))


def test_one_stage_is_no_pipeline():
    for axes in ({"x": 1, "y": 4}, {"x": 1}):
        forward = Forward("decode", 32, 1, 2048)
        assert build(LLAMA, Layout("ws1d", pipeline=Staged("x", 4)), forward, axes) == build(LLAMA, Layout("ws1d"), forward, axes)


def test_the_bytes_between_stages_are_those_of_the_residual():
    axes, batch, tokens = {"x": 4, "y": 2}, 24, 3
    program = build(LLAMA, Layout("ws1d", pipeline=Staged("x", 3)), Forward("decode", batch, tokens, 2048), axes)
    said = simulate(program, torus((4, 2), wrap=[False, False], bandwidth=45e9), IDEAL)
    net = grid(torus((4, 2), wrap=[False, False], bandwidth=45e9))
    assert said.link_bytes[net.links.axis == 0].sum() == 3 * batch * tokens * LLAMA.d_model * 2


def test_a_stage_waits_for_all_stages_before_it_with_one_microbatch():
    alone = build(LLAMA, Layout("ws1d"), Forward("decode", 32, 1, 2048), {})
    one = simulate(alone, torus((1,), bandwidth=45e9), IDEAL).makespan
    program = build(LLAMA, Layout("ws1d", pipeline=Staged("x")), Forward("decode", 32, 1, 2048), {"x": 8})
    said = simulate(program, torus((8,), wrap=[False], bandwidth=45e9, latency=1e-6), IDEAL).makespan
    assert said == pytest.approx(one + 7 * (32 * LLAMA.d_model * 2 / 45e9 + 1e-6), rel=1e-9)


@pytest.mark.parametrize("of", [LLAMA, WINDOWED], ids=lambda of: of.name)
@pytest.mark.parametrize("microbatches", [1, 12])
def test_attention_grows_in_all_stages_and_ticks_from_pass_to_pass(of, microbatches):
    layout = Layout("ws1d", pipeline=Staged("x", microbatches))
    todo = [Forward("decode", 24, 1, 300 + 200 * i) for i in range(3)]
    passes = [(group, i) for group in alike(of, {"decode": layout}, todo, {"x": 4}) for i in range(len(group))]
    assert [group.of(i) for group, i in passes] == [build(of, layout, forward, {"x": 4}) for forward in todo]


def test_each_layer_runs_on_one_stage_once_a_microbatch():
    program = build(WINDOWED, Layout("ws1d", pipeline=Staged("x", 5)), Forward("decode", 20, 1, 2048), {"x": 4})
    runs = 0
    for operations, times in program.sections():
        runs += times * sum(len(o.on[0][1]) for o in operations if of_microbatch(o.name).startswith("attention"))
    assert runs == 5 * WINDOWED.layers
    flops = sum(times * len(dict(o.on)["x"]) * o.total_flops for operations, times in program.sections() for o in operations
                if isinstance(o, Compute))
    whole = build(WINDOWED, Layout("ws1d"), Forward("decode", 20, 1, 2048), {})
    assert flops == pytest.approx(sum(times * o.total_flops for operations, times in whole.sections() for o in operations
                                      if isinstance(o, Compute)), rel=1e-12)


def test_memory_is_that_of_the_stage_with_the_most():
    workload = Workload("decode", 24, 2048, 1)
    whole = memory(LLAMA, Layout("ws1d"), workload, {}, 1e12)
    for stages, microbatches in ((2, 1), (4, 6), (32, 1)):
        one = memory(LLAMA, Layout("ws1d", pipeline=Staged("x", microbatches)), workload, {"x": stages}, 1e12)
        table = LLAMA.vocabulary * LLAMA.d_model * 2
        assert one.weights == pytest.approx((whole.weights - 2 * table) / stages + table, rel=1e-12)
        assert one.kv_cache == pytest.approx(whole.kv_cache / stages, rel=1e-12)
        assert one.activations <= whole.activations
    tied = replace(LLAMA, tied=True)
    both = memory(tied, Layout("ws1d", pipeline=Staged("x")), workload, {"x": 2}, 1e12).weights
    assert both == pytest.approx((memory(tied, Layout("ws1d"), workload, {}, 1e12).weights - table) / 2 + table, rel=1e-12)


def scenario(**layout):
    return {"name": "stages", "model": "llama-3-8b", "chip": "ideal",
            "topology": {"kind": "mesh", "shape": [8], "bandwidth": "45 GB/s", "latency": 0},
            "layout": {"ffn": "ws1d", **layout}, "workload": {"phase": "decode", "batch": 32, "context": 2048, "tokens": 2}}


def test_a_result_has_the_stages_and_the_bubble():
    found = run(scenario(pipeline={"axis": "x", "microbatches": 4}, mesh={"x": [], "y": [], "z": []}))
    assert sum(found.breakdown_s.values()) == pytest.approx(found.step_s, rel=1e-9)
    assert found.estimate["axes"]["step_s"] == pytest.approx(found.step_s, rel=1e-9)
    assert found.estimate["bound"]["step_s"] <= found.step_s
    stages = found.layout["as_run"]["decode"]["pipeline"]
    assert stages == {"axis": "x", "stages": 8, "microbatches": 4, "layers": [4] * 8}
    assert 0.5 < found.breakdown_s["bubble"] / found.step_s < 7 / 11  # of the last stage, which has the logits too
    again = run(found.keys["scenario"])
    assert again.step_s == found.step_s


def test_a_part_of_an_axis_can_be_the_stages_and_the_rest_the_mesh():
    two = run(scenario(pipeline="x/2"))
    assert two.layout["as_run"]["decode"]["pipeline"]["layers"] == [16, 16]
    assert two.layout["as_run"]["decode"]["mesh"]["x"] == ["x/4"]
    same = run(scenario(pipeline="x/2", mesh={"x": ["x/4"], "y": [], "z": []}))
    assert same.step_s == two.step_s


def test_a_batch_is_padded_to_whole_microbatches():
    found = run({**scenario(pipeline={"axis": "x", "microbatches": 3}), "workload": {"phase": "decode", "batch": 31,
                                                                                   "context": 2048}})
    assert found.layout["as_run"]["decode"]["batch"] == {"asked": 31, "run": 33}


def test_mistakes_in_python_have_a_code_and_a_path():
    forward = Forward("decode", 32, 1, 2048)
    for pipeline, axes, code in ((Staged("w"), {"x": 4}, "unknown-name"), (Staged("x"), {"x": 64}, "layout"),
                                 (Staged("x", 5), {"x": 4}, "does-not-divide")):
        with pytest.raises(LayoutError) as caught:
            build(LLAMA, Layout("ws1d", pipeline=pipeline), forward, axes)
        assert (caught.value.code, caught.value.path) == (code, ("pipeline",))
    net = torus((4, 2), bandwidth=1e9)
    gather = Collective("gather", "all_gather", ("x",), 1e6)
    for on, code in (((("w", (0,)),), "unknown-name"), ((("y", (2,)),), "value"), ((("x", (0,)),), "clash")):
        with pytest.raises(ProgramError) as caught:
            simulate(Program((replace(gather, on=on),)), net, IDEAL)
        assert (caught.value.code, caught.value.path) == (code, ("block", 0, "on", on[0][0]))


def test_a_wait_for_the_stage_before_is_no_operation_of_a_layer():
    """The last of four stages waits three quarters of the time, which the breakdown says; its hand-over is not the longest."""
    said = run({"model": {"base": "llama-3-8b", "layers": 4}, "chip": "tpu-v5e", "topology": {"kind": "mesh", "shape": [4]},
                "layout": {"ffn": "ws1d", "pipeline": "x"}, "workload": {"phase": "decode", "batch": 8, "context": 128}})
    assert said.breakdown_s["bubble"] > 0.3 * said.step_s
    shares = causes.operations(said)
    assert shares and "hand_over" not in shares and sum(shares.values()) == pytest.approx(1)
