"""Speculative steps: their tokens, context, cache and logits by hand, and the laws of a draft."""

import random
from dataclasses import replace
from itertools import pairwise

import oracle
import pytest

from torussim.answer import run
from torussim.chips import chip
from torussim.cost import compute_seconds
from torussim.engine.simulate import simulate
from torussim.layouts import Layout
from torussim.memory import memory
from torussim.models import model
from torussim.planner import plan
from torussim.program import Collective, check_program
from torussim.report import text
from torussim.scenario import load
from torussim.transformer import Builder, build
from torussim.workload import Forward, Workload, ended_after, passes

MODEL = {"name": "small", "layers": 3, "d_model": 512, "d_ff": 2048, "heads": 16, "kv_heads": 4, "d_head": 64,
         "vocabulary": 1000, "gated": True, "parallel": False, "tied": True}
SMALL = {"model": MODEL, "chip": "tpu-v4", "topology": {"shape": [4, 2]}, "layout": {"ffn": "ws2d", "attention": "batch"}}
HEADS = {"multihead": 16, "grouped": 4, "multiquery": 1}


def asked(phase="decode", **workload):
    return {**SMALL, "workload": {"phase": phase, "batch": 16, "context": 100, **workload}}


def test_a_step_reads_what_the_steps_before_yielded_and_its_proposed_tokens():
    found = passes(Workload("decode", 8, 100, tokens=6, draft=4, accepted=3.1))
    assert [one.attended for one in found] == [104, 109, 113, 117, 121, 125]  # 100 + ceil(0, 4.1, 8.2, 12.3, 16.4, 20.5) + 4
    assert {(one.phase, one.batch, one.length, one.positions) for one in found} == {("decode", 8, 5, 5)}


@pytest.mark.parametrize("accepted", [0.1, 0.7, 1.1, 2.3])
def test_a_mean_context_that_is_whole_is_not_rounded_up(accepted):
    found = passes(Workload("decode", 8, 100, tokens=101, draft=3, accepted=accepted))
    for i in (10, 50, 100):
        assert found[i].attended == 100 + round(i * (1 + accepted)) + 3


def test_a_generation_drafts_after_its_prompt_and_its_cached_tokens():
    whole = Workload("generate", 2, 10, tokens=3, cached=5, chunk=6, draft=2, accepted=1.0)
    assert passes(whole) == [Forward("prefill", 2, 6, 11), Forward("prefill", 2, 4, 15), Forward("decode", 2, 3, 17),
                             Forward("decode", 2, 3, 19), Forward("decode", 2, 3, 21)]
    assert [passes(ended_after(whole, done)) for done in (1, 2, 4)] == [passes(whole)[:done] for done in (1, 2, 4)]


@pytest.mark.parametrize("phase", ["decode", "generate"])
def test_a_draft_of_0_changes_nothing(phase):
    plain, drafted = run(asked(phase, tokens=5)), run(asked(phase, tokens=5, draft=0, accepted=0))
    every = [{key: value for key, value in one.keys.items() if key != "engine"} for one in (plain, drafted)]
    assert repr(every[0]) == repr(every[1]) and plain.latency_s == drafted.latency_s and plain.memory == drafted.memory
    assert plain.asked.resolved == drafted.asked.resolved and "draft" not in plain.scenario["workload"]
    assert text(plain) == text(drafted)


def test_rates_count_the_tokens_that_steps_yield():
    found = run(asked(tokens=10, draft=4, accepted=3.1))
    assert found.tokens_per_s == pytest.approx(16 * 10 * 4.1 / found.latency_s, rel=1e-12)
    assert found.chip_s_per_token == pytest.approx(8 * found.latency_s / (16 * 10 * 4.1), rel=1e-12)
    assert found.step_s == pytest.approx(found.latency_s / 10, rel=1e-12)
    assert sum(found.breakdown_s.values()) == pytest.approx(found.step_s, rel=1e-9)
    parameters = load(asked()).model.parameters
    assert found.mfu == pytest.approx(2 * parameters * found.tokens_per_s / (8 * chip("tpu-v4").flops["bf16"]), rel=1e-12)
    both = run(asked("generate", tokens=10, draft=4, accepted=3.1))
    assert both.generated_tokens_per_s == pytest.approx(16 * 10 * 4.1 / (both.latency_s - both.prefill_s), rel=1e-12)
    assert both.prompt_tokens_per_s == pytest.approx(16 * 100 / both.prefill_s, rel=1e-12)
    assert both.tokens_per_s == pytest.approx((16 * 10 * 4.1 + 1600) / both.latency_s, rel=1e-12)


def test_the_report_says_what_a_step_yields():
    found = run(asked(tokens=2, draft=4, accepted=3.1))
    assert "and yields 4.1 tokens of each sequence" in text(found) and "yields 4.1 tokens" in repr(found)
    assert "yields" not in text(run(asked(tokens=2)))


def test_the_record_of_a_speculative_run_gives_it_again():
    found = run(asked("generate", tokens=3, draft=2, accepted=1.5))
    again = run(found.scenario)
    assert again.latency_s == found.latency_s and again.scenario == found.scenario
    workload = load(found.scenario).workload
    assert (workload.draft, workload.accepted) == (2, 1.5)


@pytest.mark.parametrize("workload, held", [
    (Workload("decode", 16, 100, tokens=10), 110), (Workload("decode", 16, 100, tokens=10, draft=4, accepted=3.0), 100 + 36 + 5),
    (Workload("generate", 16, 100, tokens=2, cached=7, draft=4, accepted=0.5), 107 + 2 + 5),
    (Workload("prefill", 16, 100, cached=7), 107)])
def test_the_cache_holds_the_tokens_of_the_last_step_at_their_most(workload, held):
    made = model(MODEL)
    found = memory(made, Layout("ws2d", "batch"), workload, {"x": 4, "y": 2}, 32e9)
    assert found.kv_cache == pytest.approx(held * 3 * 16 / 8 * 2 * 4 * 64 * 2, rel=1e-12)


def test_logits_are_those_of_every_token_of_a_step_and_of_the_last_position_of_a_prompt():
    axes, layout = {"x": 4, "y": 2}, Layout("ws2d", "batch", overlap=False)
    plain = build(model(MODEL), layout, Forward("decode", 16, 1, 100), axes)
    drafted = build(model(MODEL), layout, Forward("decode", 16, 5, 104), axes)
    prompt = build(model(MODEL), layout, Forward("prefill", 16, 5, 104), axes)
    for one, other, last in zip(plain.epilogue, drafted.epilogue, prompt.epilogue):
        assert one.name == other.name and one == last
        if isinstance(one, Collective):
            assert other.bytes == 5 * one.bytes
        for mine, theirs in zip(getattr(one, "matmuls", ()), getattr(other, "matmuls", ())):
            assert (theirs.m, theirs.k, theirs.n) == (5 * mine.m, mine.k, mine.n)
    assert [o.name for o in drafted.epilogue if getattr(o, "matmuls", ())] == ["logits"]
    assert drafted.block == prompt.block and drafted.prologue == prompt.prologue


@pytest.mark.parametrize("heads", HEADS)
def test_a_step_never_takes_less_time_for_a_larger_draft(heads):
    rng = random.Random(heads)
    given = replace(model(MODEL), kv_heads=HEADS[heads])
    for _ in range(20):
        batch, context, made = 2 ** rng.randint(3, 7), rng.randint(1, 3000), chip(rng.choice(("tpu-v4", "tpu-v6e", "h100")))
        seconds = []
        for draft in range(9):
            forward, = passes(Workload("decode", batch, context, draft=draft, accepted=0.0))
            program = build(given, Layout("ws1d", "batch", overlap=False), forward, {"x": 4})
            seconds.append(sum(times * compute_seconds(o, made) for operations, times in program.sections()
                               for o in operations if not isinstance(o, Collective)))
        assert all(one <= other * (1 + 1e-12) for one, other in pairwise(seconds)), (batch, context, made.name)


def test_a_step_on_a_network_never_takes_less_time_for_a_larger_draft_and_yields_more_if_all_is_accepted():
    found = [run(asked(tokens=2, draft=draft, accepted=draft)) for draft in (0, 1, 2, 4, 8)]
    assert all(one.step_s < other.step_s for one, other in pairwise(found))
    assert all(one.tokens_per_s < other.tokens_per_s for one, other in pairwise(found))


def test_many_speculative_steps_are_interpolated_to_within_the_stated_error():
    few, every = (run(asked(tokens=80, draft=3, accepted=1.7), every_step=way) for way in (False, True))
    assert few.engine["passes_simulated"] < 15 < every.engine["passes_simulated"] == 80
    assert few.latency_s == pytest.approx(every.latency_s, rel=max(1e-9, 1.01 * few.engine["error"]))


def test_a_plan_times_speculative_steps_as_a_run_does():
    found = plan({**asked(tokens=3, draft=4, accepted=3.1), "topology": {"shape": [4]},
                  "plan": {"objective": "throughput", "vary": {"layouts": ["ws1d", "ws2d"]}}})
    assert found.certified
    again = run(found.best)
    assert again.tokens_per_s == pytest.approx(found.pick.keys["tokens_per_s"], rel=1e-12)
    assert again.scenario["workload"]["draft"] == 4


# -- a draft model ------------------------------------------------------------------------------------------------------

DRAFT = {**MODEL, "name": "tiny", "layers": 2, "d_model": 256, "d_ff": 512, "heads": 8, "kv_heads": 8}
NETWORKS = {"torus": {"shape": [4, 2]}, "slow link": {"shape": [4, 4], "links": [{"from": [0, 0], "to": [1, 0], "scale": 0.3}]}}


def drafting(phase="decode", network="torus", overlap=True, given=MODEL, **workload):
    made = asked(phase, **workload)
    return run({**made, "model": given, "topology": NETWORKS[network], "layout": {**made["layout"], "overlap": overlap}})


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("overlap", [True, False])
def test_a_step_takes_the_time_of_its_draft_steps_and_its_own(network, overlap):
    given = {"network": network, "overlap": overlap, "tokens": 2, "draft": 3, "accepted": 2.0}
    both, large = (drafting(**given, **more).step_s for more in ({"draft_model": DRAFT}, {}))
    small = sum(drafting(network=network, overlap=overlap, given=DRAFT, context=100 + 3 * step + done).step_s
                for step in range(2) for done in range(3)) / 2
    if network == "torus":
        assert both == pytest.approx(large + small, rel=1e-9)
    else:  # chips far from the slow link run ahead from one pass to the next
        assert large < both <= (large + small) * (1 + 1e-9) and both > large + 0.99 * small


def test_a_draft_model_reads_the_prompt_too():
    for chunk in ({}, {"chunk": 64}):
        both = drafting("generate", tokens=2, draft=2, accepted=1.0, draft_model=DRAFT, **chunk).prefill_s
        alone = drafting("prefill", draft_model=DRAFT, **chunk).step_s
        apart = sum(drafting("prefill", given=given, **chunk).step_s for given in (MODEL, DRAFT))
        assert both == pytest.approx(apart, rel=1e-9) and alone == pytest.approx(apart, rel=1e-9)


def test_passes_of_a_draft_model_stand_before_the_large_one_and_attend_to_one_token_more_each():
    axes, layout, forward = {"x": 4, "y": 2}, Layout("ws2d", "batch"), Forward("decode", 16, 4, 203)
    builder = Builder(model(MODEL), layout, replace(forward, draft_model=model(DRAFT)), axes)
    program = builder.build()
    check_program(program, tuple(axes))
    alone = build(model(MODEL), layout, forward, axes)
    assert program.sections()[-3:] == alone.sections()
    steps = [build(model(DRAFT), layout, Forward("decode", 16, 1, 200 + number), axes) for number in range(3)]
    of = {o.name: o for o in program.operations()}
    for number, step in enumerate(steps):
        for mine in step.operations():
            theirs = of.pop(f"draft_{number + 1}_{mine.name}")
            same = ("flops", "matmuls", "hbm_bytes", "vector", "bytes", "axes", "kernels", "scratch")
            assert [getattr(mine, key, None) for key in same] == [getattr(theirs, key, None) for key in same]
    assert list(of) == [o.name for o in alone.operations()]
    assert [(len(o), times) for o, times in program.sections() if o and o[0].name.startswith("draft_2")] == [
        (len(steps[1].prologue), 1), (len(steps[1].block), 2), (len(steps[1].epilogue), 1)]
    later = {name: make(210) for name, make in builder.attention.items()}
    assert later["attention"] == build(model(MODEL), layout, replace(forward, attended=210), axes).block[
        [o.name for o in alone.block].index("attention")]
    for number in range(3):
        wanted = next(o for o in build(model(DRAFT), layout, Forward("decode", 16, 1, 207 + number), axes).block
                      if o.name == "attention")
        assert later[f"draft_{number + 1}_attention"].matmuls == wanted.matmuls


def test_weights_and_caches_of_both_models_are_in_memory():
    given = {"tokens": 5, "draft": 3, "accepted": 2.0}
    large, small, both = (drafting(given=one, **given, **more).memory
                          for one, more in ((MODEL, {}), (DRAFT, {}), (MODEL, {"draft_model": DRAFT})))
    assert both["weights"] == large["weights"] + small["weights"]
    assert both["kv_cache"] == large["kv_cache"] + small["kv_cache"]
    assert both["activations"] >= large["activations"]
    a_token = both["kv_cache"] / (100 + 4 * 3 + 4)
    room = 0.3 * both["capacity"]
    assert both["longest_context"] * a_token <= room < (both["longest_context"] + 1) * a_token


def test_a_larger_draft_model_never_makes_a_step_faster():
    steps = [drafting(draft=2, accepted=1.0, **more).step_s
             for more in ({}, *({"draft_model": {**DRAFT, "layers": layers}} for layers in (1, 2, 4)))]
    assert all(one < other for one, other in pairwise(steps))


def test_steps_with_a_draft_model_are_interpolated_to_within_the_stated_error():
    few, every = (run(asked(tokens=70, draft=2, accepted=1.3, draft_model=DRAFT), every_step=way) for way in (False, True))
    assert few.engine["passes_simulated"] < 40 and few.engine["passes"] == 70
    assert few.latency_s == pytest.approx(every.latency_s, rel=max(1e-9, 2 * few.engine["error"]))


def test_a_draft_model_is_given_as_a_model_is():
    preset = run(asked(draft=2, accepted=1.0, draft_model="llama-3-8b"))
    assert "small with the draft model llama-3-8b, 8 chips" in text(preset)
    again = run(preset.scenario)
    assert again.step_s == preset.step_s and again.scenario == preset.scenario
    for one in (model("llama-3-8b"), {"base": "llama-3-8b"}):
        assert run(asked(draft=2, accepted=1.0, draft_model=one)).step_s == preset.step_s
    workload = Workload("decode", 16, 100, draft=2, accepted=1.0, draft_model=model("llama-3-8b"))
    assert run({**SMALL, "workload": workload}).step_s == preset.step_s


def test_a_plan_times_steps_with_a_draft_model_as_a_run_does():
    found = plan({**asked(draft=2, accepted=1.0, draft_model=DRAFT), "topology": {"shape": [4]},
                  "plan": {"vary": {"layouts": ["ws1d", "ws2d"]}}})
    assert found.certified
    assert run(found.best).step_s == pytest.approx(found.pick.keys["step_s"], rel=1e-12)


OTHERS = {"mixture": {**MODEL, "layers": 4, "experts": 8, "experts_per_token": 2, "expert_d_ff": 256},
          "latent": {**MODEL, "layers": 4, "kv_heads": 16, "latent": 128, "latent_rope": 32, "d_head": 96, "d_value": 64},
          "windows": {**MODEL, "window": 64, "full_layers": [2]}}
LAYOUTS = {"batch": {"ffn": "ws2d", "attention": "batch"}, "sequence": {"ffn": "ws2d", "attention": "sequence"},
           "stages": {"ffn": "ws1d", "attention": "batch", "pipeline": {"axis": "y", "microbatches": 2}}}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("given", OTHERS)
def test_the_laws_of_a_draft_hold_for_models_and_layouts_of_today(given, layout):
    def made(given=OTHERS[given], **workload):
        return run({**asked(**workload), "model": given, "layout": LAYOUTS[layout]})
    steps = [made(draft=draft, accepted=0).step_s for draft in (0, 1, 2, 3, 8)]
    assert all(one < other for one, other in pairwise(steps))
    both = made(draft=2, accepted=0, draft_model=DRAFT)
    apart = steps[2] + sum(made(given=DRAFT, context=100 + done).step_s for done in range(2))
    if layout == "stages":  # the tokens go back to the first stage, which waits for them
        assert apart < both.step_s < 1.02 * apart
    else:
        assert both.step_s == pytest.approx(apart, rel=1e-9)
    large, small = (made(given=one, draft=2, accepted=0).memory for one in (OTHERS[given], DRAFT))
    if layout != "stages":
        assert both.memory["kv_cache"] == large["kv_cache"] + small["kv_cache"]


@pytest.mark.parametrize("layout", ["batch", "stages"])
def test_the_oracle_runs_a_step_with_its_draft_model_in_the_same_time(layout):
    scenario = load({**asked(draft=2, accepted=1.0, draft_model=DRAFT), "model": {**MODEL, "layers": 2},
                     "topology": {"shape": [4, 2], "links": NETWORKS["slow link"]["links"]},
                     "layout": {**LAYOUTS[layout], "overlap": False}})
    program = build(scenario.model, scenario.layouts["decode"], passes(scenario.workload)[0], {"x": 4, "y": 2})
    known = oracle.simulate(program, scenario.topology, scenario.chip)["makespan"]
    assert simulate(program, scenario.net, scenario.chip).makespan == pytest.approx(known, rel=1e-9)


@pytest.mark.parametrize("heads, ffn, attention, context", [(12, "ws1d", "heads", 60_000), (8, "ws2d", "batch", 100)])
def test_the_heads_of_a_draft_model_are_chosen_as_if_it_ran_alone(heads, ffn, attention, context):
    """Not the first choice: 12 heads on 8 chips are split, and 8 heads over the batch have K and V of their own way."""
    draft = {**DRAFT, "heads": heads, "kv_heads": heads}

    def step(given, **more):
        made = asked("decode", tokens=1, context=context, **more)
        return run({**made, "model": given, "topology": NETWORKS["torus"], "layout": {"ffn": ffn, "attention": attention}})

    both, large, small = step(MODEL, draft=1, accepted=0.0, draft_model=draft), step(MODEL, draft=1, accepted=0.0), step(draft)
    assert both.step_s == pytest.approx(large.step_s + small.step_s, rel=1e-9)
    assert small.layout["as_run"]["decode"]["heads"]["split"] or small.layout["as_run"]["decode"]["kv_heads"]["copied"]


def test_a_plan_times_the_heads_of_a_draft_model_as_a_run_does():
    given = asked(tokens=2, draft=2, accepted=1.0, draft_model=DRAFT)
    found = plan({**given, "model": MODEL, "topology": NETWORKS["torus"], "layout": {"ffn": "ws2d", "attention": "batch"},
                  "plan": {"vary": {"layouts": ["ws2d"], "attention": ["batch"], "mesh": "file"}}})
    assert found.pick.candidate.layout.draft_heads.copied
    assert run(found.best).step_s == pytest.approx(found.pick.keys["step_s"], rel=1e-12)
