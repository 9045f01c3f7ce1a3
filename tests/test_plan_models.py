"""Plans of today's models: mixtures of experts, latent attention, windows; over experts, the sequence and pipeline stages."""

import json
from math import inf

import numpy as np
import pytest

import torussim
from torussim.errors import PlanError
from torussim.layouts import EXPERTS
from torussim.planner import search
from torussim.planner.candidates import named
from torussim.planner.pricing import Misfit
from torussim.planner.space import SEQUENCE, STAGES, filled, spaces
from torussim.scenario import Planning, load
from torussim.scenario.planning import FIVE

DENSE = {"name": "dense", "layers": 4, "d_model": 1024, "d_ff": 2048, "heads": 8, "kv_heads": 2, "d_head": 64, "vocabulary": 1024,
         "gated": True, "parallel": False, "tied": True}
MIXTURE = {**DENSE, "name": "mixture", "experts": 8, "experts_per_token": 2, "expert_d_ff": 512}
MODELS = {
    "mixture": MIXTURE,
    "with dense layers and shared experts": {**MIXTURE, "dense_layers": [0], "shared_experts": 1},
    "latent": {**MIXTURE, "kv_heads": 8, "d_head": 96, "d_value": 64, "latent": 128, "latent_rope": 32, "latent_q": 256},
    "windowed": {**DENSE, "layers": 5, "window": 64, "full_layers": [2]},
    "dense": DENSE,
}
PIPELINES = ["none", {"axis": "x", "microbatches": 2}, {"axis": "y", "microbatches": 4}]


def case(kind, seed, many=False):
    """Return a random scenario of 4 or (`many`) 8 chips: links and loads that differ, rings and lines, batches to be padded."""
    random = np.random.default_rng([seed, list(MODELS).index(kind)])

    def one(*some):
        return some[int(random.integers(len(some)))]

    model = {**MODELS[kind], "parallel": one(False, False, True) and not MODELS[kind].get("experts")}
    shape = one([2, 2], [4, 2], [2, 4]) if many else one([4], [2, 2])
    phase = one("decode", "prefill")
    workload = {"phase": phase, "batch": one(3, 4, 16), "context": one(64, 200)}
    workload |= {"balance": {"zipf": one(0.5, 1.2)}} if model.get("experts") and one(True, False) else {}
    slow = {"from": [0] * len(shape), "to": [1, *[0] * (len(shape) - 1)], "scale": one(0.25, 0.5)}
    links, pipelines = [slow] if one(True, False) else [], PIPELINES if many else PIPELINES[:2]
    return {"name": kind, "model": model, "chip": one("tpu-v4", "tpu-v6e", "ideal"),
            "topology": {"shape": shape, "wrap": one(True, False), "latency": one(0, 2e-6), "links": links},
            "workload": workload, "layout": {"overlap": one(True, False)},
            "plan": {"vary": {"pipeline": pipelines, "attention": ["heads", "batch", "sequence"],
                              "layouts": [one("ws1d", "ws2d", "wg_x"), "dp"]}}}


def judge(made, simulations):
    """Hold a plan and the bounds of its candidates to simulations of some of them."""
    scenario = load(made, fitting=False)
    found = torussim.plan(scenario, shapes=False)
    assert found.certified and found.gap == 0
    planning, random = filled(scenario, scenario.planning), np.random.default_rng(0)
    of = search.Search.of(scenario, scenario.planning, planning, 1, ())
    phase, batch = scenario.workload.phase, scenario.workload.batch
    every = list(named(scenario, planning, phase, batch))
    best, staged = inf, 0
    for i in random.permutation(len(every))[:simulations]:
        candidate = every[i]
        priced = of.pricing.of(candidate)
        if isinstance(priced, Misfit):
            continue
        got = of.simulated(priced)
        bound = of.pricing.tightened(priced)
        assert priced.least_s <= got.seconds * (1 + 1e-9), search.name_of(candidate)
        assert bound.least_s <= got.seconds * (1 + 1e-9), search.name_of(candidate)
        # as a scenario of its own, it takes the same time
        record = {**{key: made[key] for key in ("model", "chip", "topology", "workload")}, "layout": candidate.record()}
        assert torussim.run(record).latency_s == pytest.approx(got.seconds, rel=1e-9)
        staged += candidate.layout.pipeline is not None
        best = min(best, got.seconds) if priced.memory.fits else best
    assert found.space == sum(one.alike for one in every) and staged
    assert found.pick.of[phase].step_s * (1 if phase == "prefill" else scenario.workload.tokens) <= best * (1 + 1e-9)
    assert torussim.run(json.loads(json.dumps(found.best.resolved))).step_s == pytest.approx(found.pick.keys["step_s"], rel=1e-9)


@pytest.mark.parametrize("kind", MODELS)
def test_no_bound_is_above_a_simulated_time_and_no_candidate_beats_a_certified_pick(kind):
    judge(case(kind, 0), 10)


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("seed", range(1, 3))
def test_no_candidate_beats_a_certified_pick_in_many_cases(kind, seed):
    judge(case(kind, seed, many=True), 40)


# -- what is tried unasked ----------------------------------------------------------------------------------------------

SMALL = {"chip": "tpu-v4", "topology": {"shape": [4, 2]}, "workload": {"phase": "decode", "batch": 16, "context": 512}}


def space_of(made):
    scenario = load(made, fitting=False)
    return [filled for filled, _ in spaces(scenario, scenario.planning or Planning())]


@pytest.mark.parametrize("model,layouts,more", [("palm-8b", FIVE, {}), (MIXTURE, ("ws1d", "ws2d", "dp"), {"experts": EXPERTS})])
def test_a_mixture_is_tried_with_its_layouts_and_all_cuts_of_its_experts(model, layouts, more):
    first = space_of({**SMALL, "model": model})[0]
    assert first.layouts == layouts
    assert first.choices == {"attention": ("heads", "batch"), **more}
    assert first.pipelines == (None,)


@pytest.mark.parametrize("kv_heads,batch,sequence", [(8, 3, False), (2, 16, False), (2, 12, True), (1, 3, True)])
def test_the_sequence_is_cut_where_neither_kv_heads_nor_batch_divide(kv_heads, batch, sequence):
    made = {**SMALL, "model": {**DENSE, "kv_heads": kv_heads}, "workload": {**SMALL["workload"], "batch": batch}}
    first, *wider = space_of(made)
    assert ("sequence" in first.choices["attention"]) == sequence
    assert all("sequence" in one.choices["attention"] for one in wider)


def test_stages_are_tried_only_where_asked_or_where_nothing_else_fits():
    made = {**SMALL, "model": {**DENSE, "layers": 8}, "layout": {"pipeline": {"axis": "x", "microbatches": 4}}}
    assert [one and one.record() for one in space_of(made)[0].pipelines] == [None, {"axis": "x", "microbatches": 4}]
    made |= {"plan": {"vary": {"pipeline": ["y", "x/2"]}}}
    assert [one.record()["axis"] for one in space_of(made)[0].pipelines] == ["y", "x/2"]
    chip = {"base": "tpu-v4", "hbm_bytes": "64 MB"}
    tight = {**SMALL, "chip": chip, "model": {**DENSE, "layers": 8}, "plan": {"vary": {"layouts": ["dp"]}}}
    found = torussim.plan(tight, shapes=False)
    assert found.added == (SEQUENCE, STAGES) and found.pick.candidate.stages
    assert "Without attention over the tokens of the context and pipeline stages no layout fits" in " ".join(repr(found).split())
    record = found.best.resolved["layout"]["pipeline"]
    assert f"stages over {record['axis']}" in repr(found) and json.loads(found.json())["added"] == list(found.added)
    assert torussim.plan({**tight, "chip": "tpu-v4"}, shapes=False).added == ()
    with pytest.raises(PlanError, match=r"memory\.fits excludes 24;"):  # what is said is of the choices that were asked for
        torussim.plan({**tight, "chip": {**chip, "hbm_bytes": "1 MB"}, "topology": {"shape": [2, 2]}}, shapes=False)


def test_the_stages_of_the_file_are_a_choice():
    made = {"model": DENSE, "chip": "tpu-v4", "topology": {"shape": [2, 2]}, "plan": {"vary": {"layouts": ["ws1d"]}},
            "workload": {"phase": "prefill", "batch": 8, "context": 64},
            "layout": {"ffn": "ws1d", "pipeline": {"axis": "x", "microbatches": 4}}}
    found = torussim.plan(made, shapes=False)
    assert found.certified and found.file.keys["step_s"] == pytest.approx(torussim.run(made).step_s, rel=1e-9)
    assert found.file.keys["step_s"] >= found.pick.keys["step_s"] and found.file.candidate.name == "ws1d"


def test_stages_over_a_part_of_an_axis_leave_the_rest_to_the_mesh():
    made = {**SMALL, "model": {**DENSE, "layers": 4}, "plan": {"vary": {"pipeline": ["x/2"], "layouts": ["ws1d"]}}}
    found = torussim.plan(made, shapes=False)
    assert {factor for factors in found.pick.candidate.mesh.values() for factor in factors} == {"x/2", "y"}
    assert torussim.run(found.best).step_s == pytest.approx(found.pick.keys["step_s"], rel=1e-12)
    with pytest.raises(PlanError) as caught:
        torussim.plan({**made, "workload": {"phase": "generate", "batch": 16, "context": 64}})
    assert caught.value.path == ("plan", "vary", "pipeline")


def test_every_table_is_bounded_with_the_windows_of_all_kinds_of_layers():
    window = {**MODELS["windowed"], "window": 16, "kv_heads": 8}
    made = {**SMALL, "topology": {"shape": [2, 2]}, "model": window, "workload": {"phase": "decode", "batch": 8, "context": 4096}}
    every = torussim.plan({**made, "plan": {"vary": {"layouts": "all"}}}, shapes=False)
    five = torussim.plan(made, shapes=False)
    assert every.certified and every.pick.keys["step_s"] <= five.pick.keys["step_s"] * (1 + 1e-9)
    assert every.pick.of["decode"].least_s <= every.pick.keys["step_s"] * (1 + 1e-9)


def test_a_sweep_varies_experts_and_pipeline():
    vary = {"layout.experts": ["all", "gathered", ["x"]], "layout.pipeline": [{"axis": "x", "microbatches": 4}]}
    rows = torussim.sweep({**SMALL, "model": MIXTURE, "layout": {"ffn": "ws1d"}}, vary, jobs=1)
    assert [row["error"] for row in rows] == [None] * 3
    assert len({row["step_s"] for row in rows}) == 3
