"""Plans of today's models: mixtures of experts, latent attention, windows; over experts, the sequence and pipeline stages."""

import json
from math import inf, prod

import numpy as np
import pytest

import torussim
from torussim.errors import PlanError, ScenarioError, TorusSimError
from torussim.planner import search
from torussim.planner.candidates import named
from torussim.planner.pricing import Misfit
from torussim.planner.space import filled
from torussim.scenario import Planning, load

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
    """Return a random scenario of 4 or (`many`) 8 chips: links that differ, rings and lines, loads that differ, batches to be padded."""
    random = np.random.default_rng([seed, list(MODELS).index(kind)])

    def one(*some):
        return some[int(random.integers(len(some)))]

    model = {**MODELS[kind], "parallel": one(False, False, True) and not MODELS[kind].get("experts")}
    shape = one([2, 2], [4, 2], [2, 4]) if many else one([4], [2, 2])
    phase = one("decode", "prefill")
    workload = {"phase": phase, "batch": one(3, 4, 16), "context": one(64, 200)}
    workload |= {"balance": {"zipf": one(0.5, 1.2)}} if model.get("experts") and one(True, False) else {}
    links = [{"from": [0] * len(shape), "to": [1, *[0] * (len(shape) - 1)], "scale": one(0.25, 0.5)}] if one(True, False) else []
    pipelines = PIPELINES if many else PIPELINES[:2]
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
