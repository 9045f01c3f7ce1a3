"""Scenarios from file to answer: every file in scenarios/ runs, and every key of a result means what docs/design.md says."""

import json
import pickle
import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import torussim
from torussim import keys
from torussim.answer import replay, run
from torussim.chips import chip
from torussim.engine.simulate import simulate
from torussim.report import text
from torussim.result import plain
from torussim.scenario import load
from torussim.transformer import build
from torussim.units import show
from torussim.workload import passes

SCENARIOS = sorted((Path(__file__).resolve().parent.parent / "scenarios").glob("*.yaml"))
KEYS = {"scenario", "chips", "step_s", "latency_s", "makespan_s", "tokens_per_s", "mfu", "chip_s_per_token", "memory",
        "breakdown_s", "operations", "estimate", "links", "range_s", "validated", "layout", "expect", "engine"}
BARE_KEYS = {"range_s", "validated", "scenario", "chips", "makespan_s", "operations", "links", "estimate", "expect", "engine"}
ORDER = ("scenario", "chips", "cores", "step_s", "latency_s", "makespan_s", "prefill_s", "prompt_tokens_per_s",
         "generated_tokens_per_s",
         "tokens_per_s", "chip_s_per_token", "mfu", "memory", "breakdown_s", "estimate", "operations", "links", "faults",
         "range_s", "validated", "layout", "expect", "engine")
BARE_ORDER = ("scenario", "chips", "makespan_s", "operations", "links", "estimate", "faults", "range_s", "validated", "expect",
              "engine")
SMALL = {"chip": "tpu-v4", "topology": {"shape": [2, 2, 2], "wrap": False}, "layout": {"ffn": "ws2d", "attention": "batch"},
         "model": {"base": "palm-8b", "layers": 3}}


def timeless(keys):
    """Return the keys without the times of the wall clock."""
    return {**keys, "engine": {**keys["engine"], "wall_s": 0}}


LONG = ("network-dead-switch", "palm-540b-decode-pod-dead-link")  # some ten seconds each


@pytest.fixture(scope="module", ids=lambda path: path.stem,
                params=[pytest.param(p, marks=[pytest.mark.slow] if p.stem in LONG else []) for p in SCENARIOS])
def answered(request):
    few = [] if "bare" in request.param.stem or "prefill" in request.param.stem else ["workload.tokens=2"]
    return request.param, few, run(request.param, overrides=few)


def test_every_scenario_answers_with_all_keys(answered):
    _, _, result = answered
    more = {"faults"} if "links" in result.scenario["topology"] else set()
    more |= {"cores"} if result.timeline.axes[-1] == "core" else set()
    assert set(result.keys) == (BARE_KEYS if "program" in result.scenario else KEYS) | more
    assert json.loads(result.json()) == json.loads(json.dumps(plain(result.keys)))


def test_keys_stand_in_their_order(answered):
    _, _, result = answered
    order = BARE_ORDER if "program" in result.scenario else ORDER
    assert list(result.keys) == list(json.loads(result.json())) == [key for key in order if key in result.keys]
    assert list(result.estimate) == ["paper", "axes", "bound", "unlooped"]
    assert list(result.links) == ["busiest", "mean_busy", "per_axis", "without_busiest"]


def test_the_engine_says_how_many_layers_it_left_out_and_why(answered):
    _, _, result = answered
    engine = result.engine
    assert set(engine) == {"events", "flows", "chips_simulated", "blocks_simulated", "blocks", "period", "leapt",
                           "passes_simulated", "passes", "error", "proved", "wall_s"}
    left_out = engine["blocks"] - engine["blocks_simulated"]
    assert left_out == engine["leapt"] or engine["period"]


def test_the_record_gives_the_same_result_again(answered, monkeypatch):
    file, _, result = answered
    monkeypatch.chdir(file.parent)  # where the functions of the user's are that the record names
    again = run(json.loads(result.json())["scenario"])
    assert timeless(again.keys) == timeless(result.keys)


def test_two_runs_are_equal_to_the_last_bit(answered):
    file, few, result = answered
    assert timeless(run(file, overrides=few).keys) == timeless(result.keys)


def test_nothing_beats_the_bound(answered):
    _, _, result = answered
    assert result.estimate["bound"]["step_s"] <= result.keys.get("step_s", result.makespan_s) * (1 + 1e-12)


def test_every_collective_and_the_step_say_how_near_to_the_limit_they_are(answered):
    """A share of at most 1, none where nothing moves; the step's is its bound over its time."""
    _, _, result = answered
    least, step = result.estimate["bound"], result.keys.get("step_s", result.makespan_s)
    assert least["of_limit"] == pytest.approx(least["step_s"] / step, rel=1e-12)
    collectives = [o for o in result.operations if o["kind"] != "compute"]
    assert collectives and all(0 < o["of_limit"] <= 1 + 1e-9 for o in collectives)
    assert all(o["of_limit"] is None for o in result.operations if o["kind"] == "compute")


def test_the_limit_of_a_collective_is_over_the_time_of_all_chips_not_of_a_late_one():
    """The chip that ends last comes late to some, and finds there what is due to it: it alone takes less than the least."""
    file = next(p for p in SCENARIOS if p.stem == "palm-540b-decode-slow-link")
    late = [o for o in run(file, overrides=["workload.tokens=1"]).operations
            if o["kind"] != "compute" and o["end_s"] - o["start_s"] < o["bound_s"]]
    assert late and all(o["of_limit"] < 1 for o in late)


def test_the_report_says_how_near_to_the_limit_the_step_and_each_collective_are(answered):
    _, _, result = answered
    screen = text(result).splitlines()
    assert len(screen) <= 28 and max(map(len, screen)) <= 100
    lines = text(result, verbose=True).splitlines()
    said = re.search(r"No algorithm can take less than .* on this network \(([\d.]+)% of the time\)\.", " ".join(screen))
    share = float(said[1]) / 100
    assert share == pytest.approx(result.estimate["bound"]["of_limit"], abs=0.005)
    (head,) = [i for i, line in enumerate(lines) if re.search(r"bound +bound/time +how", line)]
    end = lines[head].index("bound/time") + len("bound/time")
    names = {o["name"] for o in result.operations}
    rows = [line for line in lines[head + 1:] if set(line.split()[:1]) <= names and line]  # without the titles of blocks
    for o, line in zip(result.operations, rows, strict=False):
        cell = line[:end].split()[-1]
        assert cell.endswith("%") is (o["kind"] != "compute") and line.split()[0] == o["name"]
        assert o["kind"] == "compute" or float(cell[:-1]) / 100 == pytest.approx(o["of_limit"], abs=0.005)


def test_a_collective_that_moves_nothing_has_no_limit():
    alone = {"chip": "ideal", "topology": {"shape": [4, 1]}}
    result = run({**alone, "program": [{"name": "c", "collective": "all_gather", "axes": "y", "bytes": "1 MB"},
                                       {"name": "d", "collective": "all_gather", "axes": "x", "bytes": "1 MB"}]})
    assert [o["of_limit"] for o in result.operations] == [None, pytest.approx(1)]


def test_the_breakdown_adds_up_to_the_step(answered):
    _, _, result = answered
    if "breakdown_s" in result.keys:
        assert sum(result.breakdown_s.values()) == pytest.approx(result.step_s, rel=1e-9)
        assert min(result.breakdown_s.values()) >= 0


def test_links_carry_what_the_operations_send(answered):
    _, _, result = answered
    assert all(0 <= link["busy"] <= 1 + 1e-12 for link in result.links["busiest"])
    busy = [link["busy"] for link in result.links["busiest"]]
    assert all(later <= before * (1 + 1e-12) for before, later in pairwise(busy))
    assert len(result.links["busiest"]) == 10


def test_a_result_prints_itself(answered):
    _, _, result = answered
    assert repr(result).startswith(result.name)
    with pytest.raises(AttributeError, match="has no key 'speed'"):
        result.speed  # noqa: B018


def test_tokens_are_counted_by_phase():
    prefill = run({**SMALL, "workload": {"phase": "prefill", "batch": 8, "context": 64}})
    decode = run({**SMALL, "workload": {"phase": "decode", "batch": 8, "context": 64, "tokens": 5}})
    both = run({**SMALL, "workload": {"phase": "generate", "batch": 8, "context": 64, "tokens": 5}})
    assert prefill.tokens_per_s == pytest.approx(8 * 64 / prefill.latency_s)
    assert decode.tokens_per_s == pytest.approx(8 * 5 / decode.latency_s)
    assert both.latency_s == pytest.approx(prefill.latency_s + decode.latency_s, rel=1e-12)
    assert both.prefill_s == pytest.approx(prefill.step_s, rel=1e-12)
    assert both.step_s == pytest.approx(decode.step_s, rel=1e-12)
    assert decode.step_s == pytest.approx(decode.latency_s / 5, rel=1e-12)
    assert both.tokens_per_s == pytest.approx(8 * (64 + 5) / both.latency_s)


def test_mfu_is_the_papers():
    result = run({**SMALL, "workload": {"phase": "decode", "batch": 8, "context": 64, "tokens": 5}})
    model = load({**SMALL, "workload": {"phase": "decode", "batch": 8, "context": 64, "tokens": 5}}).model
    assert result.mfu == pytest.approx(2 * model.parameters * 8 * 5 / (8 * chip("tpu-v4").flops["bf16"] * result.latency_s))


def test_each_decode_step_reads_its_own_context():
    one = {**SMALL, "workload": {"phase": "decode", "batch": 8, "context": 4096, "tokens": 1}}
    steps = [run({**one, "workload": {**one["workload"], "context": c}}).latency_s for c in (4096, 4097, 4098)]
    together = run({**one, "workload": {**one["workload"], "tokens": 3}})
    assert together.latency_s == pytest.approx(sum(steps), rel=1e-12)
    assert steps[0] < steps[2]


def test_prefill_in_chunks_attends_to_what_came_before():
    whole = {**SMALL, "workload": {"phase": "prefill", "batch": 8, "context": 64}}
    forwards = passes(load({**whole, "workload": {**whole["workload"], "chunk": 24, "cached": 10}}).workload)
    assert [(f.length, f.attended) for f in forwards] == [(24, 34), (24, 58), (16, 74)]
    chunked = run({**whole, "workload": {**whole["workload"], "chunk": 24}})
    assert chunked.step_s > run(whole).step_s


def test_memory_that_does_not_fit_is_marked_and_the_run_goes_on():
    result = run({"chip": "tpu-v4", "topology": {"shape": [2, 2, 2]}, "model": "palm-540b", "layout": {"ffn": "ws2d"},
                  "workload": {"phase": "decode", "batch": 1, "context": 16}})
    assert not result.memory["fits"] and result.missed and result.step_s > 0
    assert "DOES NOT FIT" in repr(result)


def test_a_missed_expectation_is_told_and_a_met_one_too():
    base = {**SMALL, "workload": {"phase": "decode", "batch": 8, "context": 64}}
    step = run(base).step_s
    met, missed = (run({**base, "expect": {"step_s": {"value": value, "within": 0.01}}}) for value in (step * 1.005, step * 1.05))
    assert met.expect[0]["ok"] and not met.missed
    assert missed.expect[0]["ok"] is False and missed.missed
    assert missed.expect[0]["error"] == pytest.approx(1 / 1.05 - 1)


def test_a_slower_link_in_the_file_makes_the_step_longer():
    file = next(p for p in SCENARIOS if p.stem == "palm-540b-decode-slow-link")
    steps = [run(file, overrides=["workload.tokens=1", f"topology.links.0.scale={s}"]).step_s for s in (1, 0.5, 0.25, 0.125)]
    assert steps == sorted(steps) and steps[-1] > 1.5 * steps[0]


def test_a_replay_has_the_messages_of_the_chosen_chips_and_the_same_times():
    scenario = load({**SMALL, "workload": {"phase": "decode", "batch": 8, "context": 64}})
    timeline = replay(scenario, [0, 3])
    assert {s.chip for s in timeline.sent} == {0, 3}
    assert timeline.makespan == run(scenario).latency_s
    for chosen in (0, 3):
        sent = sum(s.bytes for s in timeline.sent if s.chip == chosen)
        blocks = len([s for s, _ in timeline.runs if timeline.segments[s].section == "block"])
        assert sent > 0 and blocks == 3


def test_quantised_activations_shrink_matmuls_where_the_chip_has_the_rate():
    base = {"model": "llama-3-8b", "topology": {"shape": [4, 4]}, "workload": {"phase": "prefill", "batch": 16, "context": 256}}
    for name, shape, faster in (("tpu-v5e", [4, 4], True), ("tpu-v4", [4, 4, 1], False)):
        given = {**base, "chip": name, "topology": {"shape": shape}}
        compute = [run({**given, "layout": {"activations": dtype, "overlap": False}}).breakdown_s["compute"]
                   for dtype in ("bf16", "int8")]
        assert (compute[1] < 0.7 * compute[0]) is faster  # elementwise work stays as it is


def test_the_verbs_work_on_plain_objects():
    scenario = load({**SMALL, "workload": {"phase": "decode", "batch": 8, "context": 64}})
    axes = scenario.topology.graph["axes"]
    program = build(scenario.model, scenario.layouts["decode"], passes(scenario.workload)[0], axes)
    timeline = simulate(program, scenario.topology, scenario.chip)
    assert timeline.makespan == run(scenario).latency_s
    assert torussim.estimate(program, scenario.topology, scenario.chip).axes_s > 0
    assert np.isfinite(timeline.finish).all()


@pytest.mark.parametrize("first", ["import torussim.answer, torussim.closed_forms, torussim.lower_bound",
                                   "from torussim.answer import replay", "pass"])
def test_a_verb_is_the_function_whatever_was_imported_before(first):
    code = f"{first}\nimport torussim\nfor name in torussim.__all__: [callable(getattr(torussim, name)) or 1 / 0 for _ in 'ab']"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_scores_that_do_not_fit_on_the_chip_are_among_the_bytes_of_attention_and_take_time():
    def attention(room):
        chip = {"base": "tpu-v4", "on_chip_bytes": room}
        found = run({**SMALL, "layout": {**SMALL["layout"], "attention_kernel": "plain"}, "chip": chip,
                     "workload": {"phase": "prefill", "batch": 8, "context": 256}}).keys["operations"]
        (one,) = [o for o in found if o["name"] == "attention"]
        return one["bytes"], one["end_s"] - one["start_s"]
    scores = 16 * 256 * 256 * 4  # of one sequence on each of 8 chips, f32
    there, here = attention(scores), attention(scores - 1)
    assert here[0] == there[0] + 5 * scores and here[1] > there[1]


@pytest.mark.parametrize("ffn", ["ws2d", "ws2d_code", "ws1d_code"])
def test_what_overlap_gains_is_said_and_is_what_a_run_without_it_takes(ffn):
    from torussim import report

    rings = {"model": "palm-8b", "chip": "tpu-v4", "topology": {"shape": [4, 4, 4]},
             "workload": {"phase": "prefill", "batch": 64, "context": 128}}
    looped, apart = (run({**rings, "layout": {"ffn": ffn, "attention": "batch", "overlap": way}}) for way in (True, False))
    assert looped.step_s < apart.step_s == pytest.approx(looped.estimate["unlooped"]["step_s"], rel=1e-9)
    assert apart.estimate["unlooped"]["step_s"] == apart.step_s
    assert f"overlap gains a factor of {apart.step_s / looped.step_s:.2f}" in report.text(looped, verbose=True)
    assert "without overlap" not in report.text(apart, verbose=True)
    assert ["layout.overlap: true" in report.text(one) for one in (looped, apart)] == [False, True]


def test_memory_is_that_of_the_largest_pass_not_of_the_last_chunk():
    whole = {**SMALL, "workload": {"phase": "prefill", "batch": 8, "context": 64}}
    chunked = run({**whole, "workload": {**whole["workload"], "chunk": 63}})
    assert 0.9 * run(whole).memory["activations"] < chunked.memory["activations"] <= run(whole).memory["activations"]


def test_gathered_weights_are_held_whole_where_no_loop_takes_them_piece_by_piece():
    base = {**SMALL, "workload": {"phase": "prefill", "batch": 8, "context": 64}}
    looped, whole = (run({**base, "layout": {"ffn": "wg_xyz", "attention": "batch", "overlap": o}}) for o in (True, False))
    assert whole.memory["activations"] - looped.memory["activations"] > 4096 * 2 * 16384 * 2 / 2


def test_attention_over_heads_does_not_compute_what_the_batch_divides_already_twice():
    base = {**SMALL, "model": {"base": "palm-62b", "layers": 1}, "topology": {"shape": [4, 4, 4]},
            "workload": {"phase": "prefill", "batch": 64, "context": 64}}
    scenario = load({**base, "layout": {"ffn": "wg_xy", "attention": "heads"}})
    program = build(scenario.model, scenario.layouts["prefill"], passes(scenario.workload)[0], scenario.topology.graph["axes"])
    attention = next(o for o in program.block if o.name == "attention")
    assert attention.total_flops * 64 == 2 * 2 * 64 * 32 * 64 * 64 * 256


def test_without_the_slow_link_the_step_is_that_of_the_healthy_torus():
    program = [{"name": "gather", "collective": "all_gather", "axes": "x", "bytes": 64e6},
               {"name": "work", "flops": 1e9, "hbm_bytes": 1e6}]
    links = [{"from": [0, 0], "to": [1, 0], "scale": 0.1}]
    torus = {"kind": "torus", "shape": [4, 4]}
    both = ({**torus, "links": links}, torus)
    got, whole = (run({"chip": "tpu-v4", "topology": network, "program": program}) for network in both)
    busiest = got.links["busiest"][0]
    assert {tuple(busiest["from"]), tuple(busiest["to"])} == {(0, 0), (1, 0)}
    assert sum(busiest["users"].values()) == pytest.approx(1.0)
    assert got.links["without_busiest"] is None
    assert got.faults["step_s"] == pytest.approx(whole.makespan_s, rel=1e-9)
    assert whole.makespan_s < 0.5 * got.makespan_s
    assert text(got).splitlines()[0] == (f"The program takes {show(got.makespan_s, 's')}; without the slow link (0,0)-(1,0) it "
                                         f"would take {show(whole.makespan_s, 's')}.")


COSTLY = ("estimate", "axes_seconds", "charges", "bound", "limits", "deviation", "link_use", "faults", "without_busiest",
          "memory", "build")


@pytest.mark.parametrize("tokens", [1, 3])
def test_who_asks_for_times_waits_for_nothing_else(monkeypatch, tokens):
    """No closed form, bound, table of links or second simulation before a key that needs it is asked for; then once."""
    asked = Counter()

    def counted(name, real):
        return lambda *given, **more: asked.update([name]) or real(*given, **more)

    for name in COSTLY:
        monkeypatch.setattr(keys, name, counted(name, getattr(keys, name)))
    result = run({**SMALL, "workload": {"phase": "decode", "batch": 8, "context": 64, "tokens": tokens},
                  "expect": {"step_s": {"value": 1.0}, "memory.longest_context": {"value": 1.0}}})
    for key in ("chips", "step_s", "latency_s", "makespan_s", "tokens_per_s", "chip_s_per_token", "mfu", "breakdown_s"):
        assert result.keys[key] == getattr(result, key)
    assert "links" in result.keys and len(result.keys) == len(KEYS) and not asked
    assert result.estimate["paper"]["step_s"] > 0 and asked == {"estimate": 1}
    assert result.expect[1]["got"] == result.memory["longest_context"] and not result.missed
    assert asked == {"estimate": 1, "memory": 1}
    result.json()
    text(result)
    assert not asked["charges"], "one screen does not show them"
    text(result, verbose=True)
    before = dict(asked)
    assert before["bound"] == before["limits"] == before["link_use"] == before["charges"] == before["deviation"] == 1
    assert result.json() == result.json() and asked == before


def test_a_result_can_be_sent_to_another_process_before_and_after_its_keys_are_made():
    result = run({**SMALL, "workload": {"phase": "decode", "batch": 8, "context": 64}})
    early = pickle.loads(pickle.dumps(result))
    assert early.json() == result.json() == pickle.loads(pickle.dumps(result)).json()
