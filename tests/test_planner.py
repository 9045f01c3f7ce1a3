"""Plans: the pick is the best of all by exhaustive simulation, no certificate is wrong, and the paper's rules come out."""

import json
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import torussim
from torussim.cli.plan import plan as plan_command
from torussim.engine.prepared import Prepared
from torussim.engine.simulate import simulate
from torussim.errors import PlanError, ScenarioError, ShardingError, TorusSimError
from torussim.layouts import Layout
from torussim.planner import meshes, search
from torussim.scenario import load
from torussim.scenario.mesh import mesh_of
from torussim.topology.builders import torus
from torussim.topology.grid import grid
from torussim.transformer import build
from torussim.workload import passes

DECODE = "scenarios/palm-540b-decode-high-throughput.yaml"
FIVE = ("ws1d", "ws2d", "wg_x", "wg_xy", "wg_xyz")
SHAPES = ([8], [2, 4], [4, 4], [3, 4], [2, 8], [2, 2, 2], [2, 2, 4])


def case(seed, shapes=SHAPES):
    """Return a random scenario of 8 to 16 chips: links that differ, dead links, rings and lines, a small model."""
    random = np.random.default_rng(seed)
    shape = shapes[random.integers(len(shapes))]
    heads = int(random.choice([8, 16]))
    model = {"name": "m", "layers": int(random.integers(1, 4)), "d_model": int(random.choice([1024, 2048, 4096])),
             "d_ff": int(random.choice([4096, 8192])), "heads": heads, "kv_heads": int(random.choice([1, heads // 4, heads])),
             "d_head": 128, "vocabulary": 1024, "gated": bool(random.integers(2)), "parallel": bool(random.integers(2)),
             "tied": True}
    links = [{"from": at(a), "to": at(b), "scale": float(random.choice([0.25, 0.5, 0.8]))}
             for a, b in chosen(random, shape, int(random.integers(0, 4)))]
    dead = [{"from": at(a), "to": at(b), "failed": True} for a, b in chosen(random, shape, int(random.integers(0, 2)))]
    phase = str(random.choice(["decode", "prefill"]))
    batch = int(random.choice([4, 16, 64] if phase == "decode" else [1, 4, 16]))
    workload = {"phase": phase, "batch": batch, "context": int(random.choice([128, 2048] if phase == "decode" else [64, 512]))}
    return {"model": model, "chip": str(random.choice(["tpu-v4", "tpu-v5e", "ideal"])),
            "topology": {"shape": list(shape), "wrap": bool(random.integers(2)), "links": links + dead},
            "layout": {"overlap": bool(random.integers(2))}, "workload": workload}


def chosen(random, shape, count):
    """Return pairs of neighbours, each once."""
    every = [(a, b) for a in np.ndindex(*shape) for axis in range(len(shape))
             for b in [tuple(c + (i == axis) for i, c in enumerate(a))] if b[axis] < shape[axis]]
    return [every[i] for i in random.choice(len(every), min(count, len(every)), replace=False)]


def at(chip):
    return [int(c) for c in chip]


def exhaustive(scenario):
    """Return the simulated seconds of every layout, attention and mesh that fits model, batch and memory, by brute force."""
    net, (forward,), ready = scenario.net, passes(scenario.workload), Prepared(scenario.net)
    axes = dict(zip(net.axes, net.shape))
    names = [a for a in axes if axes[a] > 1]
    base = scenario.layouts[forward.phase]
    found = {}
    for homes in product("xyz", repeat=len(names)):
        for order in permutations(names):
            mesh = {logical: tuple(a for a in order if homes[names.index(a)] == logical) for logical in "xyz"}
            for ffn, attention in product(FIVE, ("heads", "batch")):
                key = ffn, attention, tuple(mesh.values())
                if key in found:
                    continue
                layout = Layout(ffn, attention, overlap=base.overlap, mesh=mesh)
                try:
                    program = build(scenario.model, layout, forward, axes)
                except TorusSimError:
                    continue
                found[key] = simulate(program, ready, scenario.chip).makespan
    return found


def loaded(made):
    try:
        return load(made, fitting=False)
    except ScenarioError:  # a dead link can cut a line in two
        return None


def judge(seed, shapes=SHAPES):
    """Hold one plan to exhaustive simulation."""
    scenario = loaded(case(seed, shapes))
    if scenario is None:
        return False
    times = exhaustive(scenario)
    try:
        found = torussim.plan(scenario, shapes=False)
    except PlanError:
        assert not times
        return False
    if not times:
        assert found.added  # nothing that was asked for fits
        return False
    best, step = min(times.values()), found.pick.keys["step_s"]
    assert step <= best * (1 + 1e-9), f"case {seed}: {step} is not the best, {best}"
    assert found.certified and found.gap == 0
    assert torussim.run(found.best).step_s == pytest.approx(step, rel=1e-12)
    return True


@pytest.mark.parametrize("seed", range(6))
def test_no_layout_beats_the_pick(seed):
    judge(seed, SHAPES[:3])


# -- the paper's rules on a uniform 4x4x4 -------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [8, 64, 256, 512])
def test_decode_is_weight_stationary_in_two_dimensions_at_every_batch(batch):
    """But for a single sequence, where bytes hardly count: ws1d has two collectives a layer in place of four."""
    found = torussim.plan(DECODE, overrides=["workload.tokens=1", f"workload.batch={batch}"], shapes=False)
    assert found.pick.candidate.name == "ws2d"


def test_prefill_gathers_weights_at_a_large_batch_and_keeps_them_at_a_small_one():
    small, large = (torussim.plan("scenarios/palm-540b-prefill-high-throughput.yaml", overrides=[f"workload.batch={batch}"],
                                  shapes=False) for batch in (1, 512))
    assert small.pick.candidate.name == "ws2d"
    assert large.pick.candidate.name.startswith("wg_")


def test_attention_is_over_the_batch_where_the_context_is_long():
    found = torussim.plan(DECODE, overrides=["workload.tokens=1", "workload.batch=256", "workload.context=8192"],
                          shapes=False)
    assert found.pick.candidate.layout.attention == "batch"


# -- objectives ---------------------------------------------------------------------------------------------------------

SMALL = {"model": "palm-8b", "chip": "tpu-v4", "topology": {"shape": [4, 2]},
         "workload": {"phase": "decode", "batch": 16, "context": 512}}


def with_plan(**plan):
    return {**SMALL, "plan": plan}


def test_the_front_is_that_of_all_batches():
    batches = [1, 2, 8, 32, 33, 128]
    found = torussim.plan(with_plan(objective="pareto", vary={"batch": batches}), shapes=False)
    alone = [torussim.plan({**SMALL, "workload": {**SMALL["workload"], "batch": batch}}, shapes=False).pick.keys
             for batch in batches]
    points = {(k["latency_s"], k["chip_s_per_token"]) for k in alone}
    front = sorted(p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points))
    got = [(c.keys["latency_s"], c.keys["chip_s_per_token"]) for c in found.picks]
    assert np.array(got) == pytest.approx(np.array(front), rel=1e-9)


@pytest.mark.parametrize("objective,key", [("latency", "step_s"), ("throughput", "tokens_per_s"), ("cost", "chip_s_per_token")])
def test_an_objective_takes_the_batch_that_is_best_for_it(objective, key):
    batches = [1, 16, 64]
    found = torussim.plan(with_plan(objective=objective, vary={"batch": batches}), shapes=False)
    alone = [torussim.plan({**SMALL, "workload": {**SMALL["workload"], "batch": batch}}, shapes=False).pick.keys[key]
             for batch in batches]
    assert found.pick.keys[key] == pytest.approx(max(alone) if key == "tokens_per_s" else min(alone), rel=1e-9)


def test_a_limit_on_the_step_leaves_the_largest_batch_that_meets_it():
    free = torussim.plan(with_plan(objective="throughput", vary={"batch": [16, 64, 256]}))
    limit = free.pick.keys["step_s"] * 0.9
    held = torussim.plan(with_plan(objective="throughput", vary={"batch": [16, 64, 256]}, limits={"step_s": {"at_most": limit}}))
    assert held.pick.keys["step_s"] <= limit
    assert held.pick.batch < free.pick.batch


@pytest.mark.parametrize("what", ["step_s", "latency_s", "chip_s_per_token", "tokens_per_s", "mfu"])
def test_a_limit_bounds_a_time_from_above_and_a_rate_from_below(what):
    """Just met by the best it changes nothing, just missed nothing meets it, and the other way round it is refused."""
    best = torussim.plan(SMALL, shapes=False).pick.keys[what]
    right, wrong, less = ("at_least", "at_most", 1.001) if what in ("tokens_per_s", "mfu") else ("at_most", "at_least", 0.999)
    met = torussim.plan(with_plan(limits={what: {right: best * (2 - less)}}), shapes=False)
    assert met.pick.keys[what] == best
    with pytest.raises(PlanError, match=f"{what} of {right.replace('_', ' ')}"):
        torussim.plan(with_plan(limits={what: {right: best * less}}), shapes=False)
    with pytest.raises(ScenarioError, match="leave it out"):
        torussim.plan(with_plan(limits={what: {wrong: best}}), shapes=False)


def test_a_generation_takes_the_best_prefill_and_the_best_decode():
    workload = {"phase": "generate", "batch": 16, "context": 256, "tokens": 2}
    found = torussim.plan({**SMALL, "workload": workload})
    prefill = torussim.plan({**SMALL, "workload": {"phase": "prefill", "batch": 16, "context": 256}})
    decode = torussim.plan({**SMALL, "workload": {"phase": "decode", "batch": 16, "context": 256, "tokens": 2}})
    assert found.pick.keys["latency_s"] == pytest.approx(prefill.pick.keys["latency_s"] + decode.pick.keys["latency_s"], rel=1e-9)
    assert torussim.run(found.best).latency_s == pytest.approx(found.pick.keys["latency_s"], rel=1e-9)


def test_one_simulation_gives_no_certificate_and_says_what_is_open():
    made = {**SMALL, "topology": {"shape": [4, 2], "wrap": False, "links": [{"from": [0, 0], "to": [1, 0], "scale": 0.25}]}}
    whole, cut = torussim.plan(made, shapes=False), torussim.plan(made, simulations=1, shapes=False)
    assert whole.certified
    assert not cut.certified and cut.count("open") > 0 and 0 < cut.gap < 1
    assert whole.pick.keys["step_s"] >= cut.pick.keys["step_s"] * (1 - cut.gap) * (1 - 1e-9)
    assert "Not certified" in repr(cut)


# -- meshes -------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from("xyzw"), st.integers(1, 4), min_size=1, max_size=3))
def test_a_mesh_of_whole_axes_uses_each_once_and_none_stands_twice(axes):
    every = list(meshes.whole(axes))
    used = sorted((a, n) for a, n in axes.items() if n > 1)
    assert all(sorted(f for factors in mesh.values() for f in factors) == used for mesh in every)
    assert len({tuple(mesh.values()) for mesh in every}) == len(every)


@given(st.dictionaries(st.sampled_from("xyz"), st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=2))
@settings(max_examples=20)
def test_a_mesh_of_parts_can_be_written_into_a_file(axes):
    shape = [axes.get(a, 1) for a in "xyz"]
    for mesh in list(meshes.parts(dict(zip("xyz", shape))))[::7]:
        shown = meshes.shown(mesh, dict(zip("xyz", shape)))
        try:
            scenario = load({"model": "palm-8b", "chip": "ideal", "topology": {"shape": shape}, "layout": {"mesh": shown},
                             "workload": {"phase": "decode", "batch": 8, "context": 8}}, fitting=False)
        except ShardingError:
            continue
        assert scenario.layouts["decode"].mesh == mesh_of(mesh).axes


def test_relabelling_changes_no_time():
    net = grid(torus((2, 2, 2), bandwidth=45e9))
    alike = meshes.symmetries(net)
    assert len(alike) == 6
    classes = list(meshes.once(meshes.whole(dict(zip(net.axes, net.shape))), alike))
    assert sum(count for _, count in classes) == 60 and len(classes) == 10


@pytest.mark.parametrize("change,left", [
    ({"links": [{"from": [0, 0, 0], "to": [1, 0, 0], "scale": 0.5}]}, 2), ({"links": [{"axis": "z", "scale": 0.5}]}, 2), ({}, 6),
    ({"bandwidth": ["1 GB/s", "2 GB/s", "3 GB/s"]}, 1), ({"events": [{"time": 0.1, "axis": "x", "scale": 0.5}]}, 1)])
def test_only_alike_axes_are_relabelled(change, left):
    made = {"model": "palm-8b", "chip": "tpu-v4", "topology": {"shape": [4, 4, 4], **change},
            "workload": {"phase": "decode", "batch": 8, "context": 8}}
    assert len(meshes.symmetries(load(made, fitting=False).net)) == left


def test_parts_find_what_whole_axes_cannot():
    made = {**SMALL, "topology": {"shape": [8]}, "workload": {"phase": "decode", "batch": 64, "context": 512}}
    whole = torussim.plan({**made, "plan": {"vary": {"mesh": "whole"}}})
    parts = torussim.plan({**made, "plan": {"vary": {"mesh": {"parts": True}}}})
    assert parts.space > whole.space
    assert parts.pick.keys["step_s"] <= whole.pick.keys["step_s"] * (1 + 1e-9)
    assert torussim.run(parts.best.resolved).step_s == pytest.approx(parts.pick.keys["step_s"], rel=1e-9)


# -- every table of shardings -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{}, {"links": [{"from": [0, 0], "to": [1, 0], "scale": 0.25}]},
                                    pytest.param({"links": [{"from": [0, 0], "to": [0, 1], "failed": True}]},
                                                 marks=pytest.mark.slow)])
def test_every_table_holds_the_five_and_the_pick_runs_from_its_record(change):
    made = {**SMALL, "model": "llama-3-8b", "topology": {"shape": [2, 4], **change}}
    five, every = (torussim.plan({**made, "plan": {"vary": {"layouts": layouts}}}, shapes=False) for layouts in ("five", "all"))
    assert every.certified and every.space > 1000 * five.space
    assert every.pick.keys["step_s"] <= five.pick.keys["step_s"] * (1 + 1e-9)
    assert torussim.run(every.best.resolved).step_s == pytest.approx(every.pick.keys["step_s"], rel=1e-12)
    assert every.pick.candidate.name != "table" or "w_in: " in repr(every)


def test_tables_that_differ_in_a_choice_without_effect_are_told_apart():
    """Algorithms of a collective that a table does not have make candidates that are equal in all but their number."""
    vary = {"layouts": "all", "collectives": {"all_to_all": ["dimension_wise", "sequential"]}}
    found = torussim.plan({**SMALL, "topology": {"shape": [4], "wrap": False}, "plan": {"vary": vary}}, shapes=False)
    numbers = [one.candidate.number for one in found.ranked if one.candidate.name == "table"]
    assert found.certified and len(numbers) == len(set(numbers)) > 1


@pytest.mark.parametrize("links", [[], [{"from": [0], "to": [1], "scale": 0.25}]])
def test_no_mesh_of_parts_beats_the_pick(links):
    """All ways to write an axis of 8 chips as x/2, x/4, ... over the logical axes, in every order, each run as a scenario."""
    made = {**SMALL, "topology": {"shape": [8], "wrap": True, "links": links},
            "workload": {"phase": "decode", "batch": 16, "context": 512}}
    times = []
    for cut in ((8,), (2, 4), (4, 2), (2, 2, 2)):
        for homes in product("xyz", repeat=len(cut)):
            if len(set(homes)) < len(homes):
                continue  # neighbours on one logical axis are one part, and others cannot be written
            mesh = {home: [f"x/{n}"] for home, n in zip(homes, cut)}
            for ffn, attention in product(FIVE, ("heads", "batch")):
                layout = {"ffn": ffn, "attention": attention, "mesh": mesh}
                times.append(torussim.run({**made, "layout": layout}).step_s)
    found = torussim.plan({**made, "plan": {"vary": {"mesh": {"parts": True}}}}, shapes=False)
    assert found.certified and found.space == len(times) == 210
    assert found.pick.keys["step_s"] == pytest.approx(min(times), rel=1e-9)


# -- what is told -------------------------------------------------------------------------------------------------------


def test_the_plan_of_a_slow_link_names_pick_certificate_paper_and_file():
    found = torussim.plan("scenarios/palm-540b-decode-slow-link.yaml", overrides=["workload.tokens=1"])
    text = repr(found)
    assert "Take ws2d with x=[y]" in text and "Best of 600 layouts" in text and "The paper's model would take" in text
    keys = json.loads(found.json())
    assert keys["certified"] and len(keys["candidates"]) == len(found.ranked)
    states = ("simulated", "excluded", "open", "limited", "misfit")
    assert sum(keys["counts"][state] for state in states) == keys["counts"]["space"]
    again = load(found.best.resolved)
    assert torussim.run(again).step_s == found.pick.keys["step_s"]


@pytest.mark.parametrize("file", ["palm-540b-decode-open-z", "palm-540b-prefill-low-latency", "llama-3-70b-v5e-16",
                                  "network-dead-link"])
def test_a_plan_needs_no_plan_section(file):
    found = torussim.plan(f"scenarios/{file}.yaml", overrides=[] if "prefill" in file else ["workload.tokens=1"],
                          shapes=False)
    assert found.certified
    assert found.file is None or found.pick.keys["latency_s"] <= found.file.keys["latency_s"] * (1 + 1e-9) \
        or found.file.candidate.name not in FIVE


def test_a_layout_of_the_users_is_the_files_choice_and_may_fail(tmp_path):
    code = "from torussim.layouts import LAYOUTS\n\ndef like(sizes, which):\n    return LAYOUTS[which](sizes)\n"
    (tmp_path / "own.py").write_text(code)
    file = tmp_path / "scenario.yaml"
    file.write_text(json.dumps({**SMALL, "layout": {"ffn": "own:like", "which": "ws1d"}}))
    found, same = torussim.plan(file, shapes=False), torussim.run({**SMALL, "layout": {"ffn": "ws1d"}})
    assert found.file.keys["step_s"] == torussim.run(file).step_s == same.step_s
    file.write_text(json.dumps({**SMALL, "layout": {"ffn": "own:like", "which": "ws9d"}}))
    with pytest.raises(ScenarioError) as caught:
        torussim.plan(file)
    assert [(mistake.code, mistake.path) for mistake in caught.value.mistakes] == [("function", ("layout", "ffn"))]


@pytest.mark.parametrize("plan,code", [
    ({"objective": "latancy"}, "unknown-name"), ({"limit": {}}, "unknown-key"), ("latency", "value"),
    ({"limits": {"step": {"at_most": 1}}}, "unknown-key"), ({"limits": {"step_s": 1}}, "value"),
    ({"limits": {"step_s": {"at_least": 1}}}, "value"), ({"limits": {"step_s": {"at_most": "5 GB"}}}, "quantity"),
    ({"vary": {"batch": []}}, "value"), ({"vary": {"batch": [0]}}, "value"), ({"vary": {"mesh": "hole"}}, "unknown-name"),
    ({"vary": {"layouts": ["ws3d"]}}, "unknown-name"), ({"vary": {"atention": ["heads"]}}, "unknown-key"),
    ({"vary": {"collectives": {"all_to_all": ["ring"]}}}, "unknown-name")])
def test_a_mistake_in_plan_is_named_with_its_place(plan, code):
    with pytest.raises(ScenarioError) as caught:
        torussim.plan({**SMALL, "plan": plan})
    (mistake,) = caught.value.mistakes
    assert mistake.path[0] == "plan" and mistake.code == code


def test_the_command_line_allows_as_many_simulations_as_the_verb():
    (option,) = [one for one in plan_command.params if one.name == "simulations"]
    assert option.default == search.SIMULATIONS


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file in sorted(Path("scenarios").glob("*.yaml")) if "pod" not in file.stem
                                  and "program:" not in file.read_text()], ids=lambda file: file.stem)
def test_every_scenario_with_a_model_has_a_plan_whose_best_takes_its_time(file):
    found = torussim.plan(file, shapes=False)
    assert found.certified
    assert torussim.run(found.best.resolved).step_s == pytest.approx(found.pick.keys["step_s"], rel=1e-9)
    assert all(one.bound_by for one in found.pick.of.values())


def test_limits_that_nothing_meets_name_the_nearest_miss():
    with pytest.raises(PlanError) as caught:
        torussim.plan(with_plan(limits={"step_s": {"at_most": "1 us"}}))
    assert caught.value.code == "no-layout" and "step_s of at most 1 us excludes" in str(caught.value)
    with pytest.raises(PlanError, match=r"memory.fits excludes .* times the memory"):
        torussim.plan({**SMALL, "model": "palm-540b"})
    with pytest.raises(PlanError, match="a program has no layout"):
        torussim.plan({"chip": "ideal", "topology": {"shape": [4]}, "program": [{"name": "a", "flops": 1}]})
