"""`layout.as_run` names what the program really does; a sentence says so wherever it is not what the words of the file have."""

from math import prod
from pathlib import Path

import pytest

from torussim import run
from torussim.as_run import as_run
from torussim.choice import chosen
from torussim.compare import compare
from torussim.layouts import LAYOUTS
from torussim.program import Collective, Compute
from torussim.report import text
from torussim.scenario import load
from torussim.sharding import Sharding
from torussim.transformer import build
from torussim.workload import passes

SCENARIOS = sorted((Path(__file__).resolve().parent.parent / "scenarios").glob("*.yaml"))


def scenario(ffn="ws2d", attention="heads", batch=8, *, model="palm-8b", shape=(2, 2, 4), phase="decode", **layout):
    return {"name": "as run", "model": {"base": model, "layers": 2}, "chip": "tpu-v4", "topology": {"shape": list(shape)},
            "layout": {"ffn": ffn, "attention": attention, **layout},
            "workload": {"phase": phase, "batch": batch, "context": 512}}


def phases(made):
    """Return the phase, what is said of its run, and the program of its last pass."""
    axes = {axis: made.net.length(axis) for axis in made.net.axes}
    said = as_run(made.model, made.workload, made.layouts, made.net, made.chip)
    for phase, forward in {f.phase: f for f in passes(made.workload)}.items():
        yield said[phase], build(made.model, made.layouts[phase], forward, axes), made, forward


def check(found, program, made, forward):
    """Hold what is said against the operations of the program."""
    q = Sharding.parse(found["shardings"]["q"])
    cut = {dim: {part for axis in q.axes(dim) for part in found["mesh"][axis] if made.net.length(part) > 1} for dim in "BH"}
    block = [o for operations, _ in program.blocks for o in operations]
    exchanges = [o for o in block if isinstance(o, Collective) and o.name.startswith("exchange_q")]
    exchanged = {axis for o in exchanges for axis in o.axes}
    scattered = {axis for o in block if isinstance(o, Collective) and o.kind == "reduce_scatter"
                 and "q" in o.name.partition("@")[0].split("_") for axis in o.axes}
    before = {part for axis in Sharding.parse(found["shardings"]["residual"]).axes("B") for part in found["mesh"][axis]}
    over = found["attention"]["over"]
    cut["L"] = {part for axis in Sharding.parse(found["shardings"]["kv"]).axes("L") for part in found["mesh"][axis]
                if made.net.length(part) > 1}
    parts = found["attention"].get("parts", 1)
    assert parts == prod(made.net.length(part) for part in cut["L"])
    words = (("B", "batch"), ("H", "heads"), ("L", "sequence"))
    assert over == (" and ".join(word for dim, word in words if cut[dim]) or "nothing")
    assert exchanged - cut["H"] <= cut["B"]
    assert exchanged | scattered >= cut["B"] - before
    for attention in (o for o in block if isinstance(o, Compute) and o.name.partition("@")[0] == "attention"):
        products = attention.matmuls[0]
        assert products.m * products.count == found["attention"]["sequences"] * found["attention"]["heads"] * forward.length
    chips = len(made.net.chips)
    assert (found["attention"]["sequences"] * found["attention"]["heads"] * chips
            == found["batch"]["run"] * found["heads"]["run"] * found["heads"]["copies"] * parts)
    assert (found["attention"]["sequences"] * found["attention"]["kv_heads"] * chips
            == pytest.approx(found["batch"]["run"] * found["kv_heads"]["run"] * found["kv_heads"]["copies"] * parts))
    ran = {o.name: o.loop for o in chosen(program, made.net, made.chip).operations() if isinstance(o, Compute) and o.matmuls}
    assert {name: loop and loop["with"] for name, loop in found["loops"].items()} == {
        name: loop.collective if loop else None for name, loop in ran.items() if name in found["loops"]}
    assert {name for name, loop in ran.items() if loop} <= found["loops"].keys()
    detours = {o.name: o.detour for o in chosen(program, made.net, made.chip).operations()
               if isinstance(o, Collective) and o.detour is not None}
    assert {name: ring["run"] == "detours" for name, ring in found["rings"].items()} == detours


@pytest.mark.parametrize("file", SCENARIOS, ids=[file.stem for file in SCENARIOS])
def test_what_is_said_of_every_scenario_is_what_its_program_does(file):
    made = load(file)
    if made.model is not None:
        for each in phases(made):
            check(*each)


@pytest.mark.parametrize("attention", ["heads", "batch", "sequence"])
@pytest.mark.parametrize("ffn", LAYOUTS)
def test_what_is_said_of_every_layout_is_what_its_program_does(ffn, attention):
    for model, batch in (("palm-8b", 3), ("llama-3-8b", 8), ("llama-3-8b", 64), ("palm-540b", 20)):
        for each in phases(load(scenario(ffn, attention, batch, model=model))):
            check(*each)


def sentences(given):
    return run(given).layout["as_run"]["decode"]["differs"]


def test_nothing_is_said_where_all_is_as_the_words_have_it():
    assert sentences(scenario("ws2d", "heads", 8)) == sentences(scenario("ws2d", "batch", 16)) == []


@pytest.mark.parametrize("given, said", [
    (scenario("wg_xyz", "batch", 5),
     ["batch: padded from 5 sequences to 16, which divide over the chips."]),
    (scenario("wg_xyz", "heads", 1),
     ["batch: padded from 1 sequence to 16, which divide over the chips."]),
    (scenario("ws2d", "batch", 8), ["attention: the file says batch; the batch is cut 8 ways and the heads are cut 2 ways."]),
    (scenario("ws1d_code", "heads", 1, model="palm-8b", shape=(4, 4, 4)),
     ["attention: the file says heads; the batch is not cut and the heads are cut 16 ways, so 4 chips do the same work."]),
    (scenario("ws2d", "heads", 8, model="llama-3-8b", shape=(4, 4, 4), split_heads="sum"),
     ["heads: the 32 heads are split, 0.5 a chip, and chips that share one sum its scores."]),
    (scenario("ws2d", "heads", 64, model="palm-540b"), ["heads: padded from 48 heads to 64, which divide over the chips."]),
    (scenario("ws1d_code", "heads", 8),
     ["mesh: the default takes the longest axis of the network first: {x: [z], y: [y], z: [x]}."]),
    (scenario("ws2d", "heads", 8, shape=(1,)), []), (scenario("ws2d", "sequence", 8, model="llama-3-8b"), []),
    (scenario("wg_xyz", "sequence", 16),
     ["attention: the file says sequence; the batch is cut 16 ways and the heads are not cut."]),
    (scenario("wg_x", "sequence", 16, model="llama-3-8b"),
     ["attention: the file says sequence; the batch is cut 2 ways and the heads are cut 8 ways."]),
])
def test_a_sentence_says_what_is_not_as_the_words_have_it(given, said):
    result = run(given)
    assert result.layout["as_run"]["decode"]["differs"] == said
    for verbose, heading in ((False, "Not as in the file: "), (True, "Where the run differs from the file")):
        told = " ".join(text(result, verbose=verbose).split())
        assert all(sentence in told for sentence in said) and (heading in told) == bool(said)


def test_rings_without_a_link_are_named_by_how_they_run():
    given = scenario(shape=(4, 4, 4), model="palm-62b")
    given["topology"]["links"] = [{"from": [0, 0, 0], "to": [1, 0, 0], "failed": True}]
    found = run(given).layout["as_run"]["decode"]
    assert {ring["run"] for ring in found["rings"].values()} == {"lines", "detours"}
    assert [s for s in found["differs"] if s.startswith("rings: those over x lack a link and run as lines in ")]
    assert [s for s in found["differs"] if s.startswith("rings: those over x lack a link and take detours in ")]


def test_a_loop_that_was_asked_for_and_gains_nothing_is_named():
    given = scenario(overlap="latency")
    slow = {**given, "chip": {"base": "tpu-v4", "loop_step": 1.0}}
    assert sentences(given) == [] and sentences(slow) == [
        "overlap: the file says latency; no matmul is looped, because none gains by a loop with a collective."]


def test_what_holds_for_both_phases_is_said_once():
    result = run(scenario("ws2d", "batch", 8, phase="generate"))
    assert set(result.layout["as_run"]) == {"prefill", "decode"}
    assert text(result).count("attention: the file says batch") == 1


def test_compare_shows_attention_as_it_is_run():
    results = [run(scenario("wg_xyz", "batch", 5)), run(scenario("ws2d", "batch", 8))]
    found = compare(results, ["a.yaml", "b.yaml"])
    assert sorted(found.differs["layout.attention"].values()) == ["batch and heads", "batch, padded to 16"]
    same = compare([run(scenario("ws2d", "batch", 16)), run(scenario("ws2d", "batch", 32))], ["a.yaml", "b.yaml"])
    assert "layout.attention" not in same.differs and "attention over batch" in same.alike


def test_a_chip_keeps_every_kv_head_that_its_queries_read():
    """Heads 3 to 5 of a chip belong to two KV heads of four query heads each."""
    model = {"base": "llama-3-8b", "layers": 2, "heads": 12, "kv_heads": 3, "d_head": 128}
    given = {**scenario(batch=8, shape=(2, 2)), "model": model}
    (found, *_), = phases(load(given))
    assert (found["attention"]["kv_heads"], found["kv_heads"]["read"], found["differs"]) == (2, 2, [])


def test_heads_that_do_not_divide_are_named_with_the_estimates_of_each_way():
    model = {"base": "llama-3-8b", "layers": 2, "heads": 40, "kv_heads": 40}
    given = {**scenario("ws1d", "heads", 8, shape=(4, 4)), "model": model}
    for way, first in (("sum", "heads: the 40 heads are split, 2.5 a chip, and chips that share one sum its scores."),
                       ("pad", "heads: padded from 40 heads to 48, which divide over the chips.")):
        (found, *_), = phases(load({**given, "layout": {**given["layout"], "split_heads": way}}))
        assert found["differs"][0] == first and "split_heads" not in found and found["heads"]["split"] == (way == "sum")
    (found, *_), = phases(load(given))
    assert [(one["way"], one["heads"]) for one in found["split_heads"]] == [("pad", 48), ("sum", 40)]
    assert (found["heads"]["split"], found["heads"]["run"]) in ((True, 40), (False, 48))
    pad, split = (f"{one['seconds'] * 1e3:.3g} ms" for one in found["split_heads"])
    said = f"split_heads: a pass takes by estimate {pad} with 48 whole heads and {split} with split heads."
    assert found["differs"][-1] == said


@pytest.mark.parametrize(("context", "full", "said"), [
    (512, [1], ""), (513, [1], "a window of 512 tokens in 1 of 2 layers"), (513, [], "a window of 512 tokens in all layers")])
def test_a_window_that_is_shorter_than_the_context_is_said(context, full, said):
    given = scenario()
    given["model"] |= {"window": 512, "full_layers": full}
    given["workload"]["context"] = context
    shown = next(line for line in text(run(given)).splitlines() if "Attention: " in line)
    assert shown == "Attention: fused (by default)" + (said and f"; {said}")
