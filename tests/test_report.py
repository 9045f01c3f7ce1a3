"""The report of a run: the first line answers, a screen is a screen, and paint changes nothing but the paint."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from torussim import run
from torussim.report import remedies, text, verdict
from torussim.report.causes import operations
from torussim.report.phrases import WIDTH, axes, link, wrapped
from torussim.result import Keys
from torussim.units import show

MODEL = {"name": "small", "model": {"base": "palm-8b", "layers": 3}, "chip": "tpu-v4", "topology": {"shape": [4, 4]},
         "layout": {"ffn": "ws2d", "attention": "batch"},
         "workload": {"phase": "decode", "batch": 64, "context": 256, "tokens": 1}}
BARE = {"name": "bare", "chip": "tpu-v4", "topology": {"shape": [4, 4], "latency": "1 us", "wrap": True},
        "program": [{"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "64 MB"}]}
HERE = {"from": [0, 0], "to": [1, 0]}
THERE = {"from": [2, 1], "to": [2, 2]}


def on(scenario, *links, **more):
    return {**scenario, "topology": {**scenario["topology"], **({"links": list(links)} if links else {}), **more}}


def test_the_verdict_of_a_slow_link_has_the_times_with_it_and_without_it():
    slow, sound = run(on(MODEL, {**HERE, "scale": 0.1})), run(MODEL)
    assert verdict(slow) == (f"A decode step takes {show(slow.step_s, 's')}; without the slow link (0,0)-(1,0) it would take "
                             f"{show(sound.step_s, 's')}.")
    best = remedies(slow)[0]
    assert best.what in ("repair the slow link (0,0)-(1,0)", "take the slow link (0,0)-(1,0) out of use")
    assert f"{best.what} " in text(slow) and "busiest links it" not in verdict(slow)


@pytest.mark.parametrize("links, events, said", [
    ([{**HERE, "failed": True}], [], "; with the dead link (0,0)-(1,0) repaired it would take "),
    ([{**HERE, "latency": "1 ms"}], [], "; without the late link (0,0)-(1,0) it would take "),
    ([{**HERE, "scale": 0.1}, {**THERE, "scale": 0.2}], [], "; without its 2 faults it would take "),
    ([{"axis": "x", "at": {"y": 1}, "scale": 0.1}], [],
     "; without the 4 slow links {axis: x, at: {y: 1}, scale: 0.1} it would take "),
    ([{**THERE, "scale": 0.9}], [], "; the slow link (2,1)-(2,2) costs less than 0.1%."),
    ([], [{**HERE, "time": "100 us", "scale": 0.1}], "; without the changes of the link (0,0)-(1,0) it would take "),
    ([], [{**HERE, "time": "100 us", "failed": True}], "; without the failure of the link (0,0)-(1,0) it would take "),
])
def test_the_verdict_names_the_fault_by_its_kind_and_the_time_without_it(links, events, said):
    result = run(on(BARE, *links, **({"events": events} if events else {})))
    found, line = result.faults, verdict(result)
    assert line.startswith(f"The program takes {show(result.makespan_s, 's')}{said}") and line.endswith(".")
    if "would take" in said:
        assert line == f"The program takes {show(result.makespan_s, 's')}{said}{show(found['step_s'], 's')}."


def test_without_faults_the_verdict_has_the_time_with_infinite_bandwidth_on_the_busiest_links():
    result = run(BARE)
    without = result.links["without_busiest"]
    assert verdict(result) == (f"The program takes {show(result.makespan_s, 's')}; with infinite bandwidth on its "
                               f"{without['cables']} busiest links it would take {show(without['step_s'], 's')}.")
    work = run({**BARE, "program": [{"name": "work", "flops": 1e12}]})
    assert verdict(work) == f"The program takes {show(work.makespan_s, 's')}; no data is sent."
    hidden = run({**BARE, "program": [*BARE["program"], {"name": "work", "flops": 1e14, "after": []}]})
    assert re.search(r"; infinite bandwidth on its 16 busiest links would save less than 0.1%\.$", verdict(hidden))


def test_the_verdict_names_each_phase():
    prefill = run({**MODEL, "workload": {"phase": "prefill", "batch": 64, "context": 16}})
    both = run({**MODEL, "workload": {**MODEL["workload"], "phase": "generate", "context": 16}})
    assert verdict(prefill).startswith(f"The prefill takes {show(prefill.step_s, 's')}; ")
    assert verdict(both).startswith(f"The prefill takes {show(both.prefill_s, 's')} and a decode step {show(both.step_s, 's')}; ")
    assert " a decode step would take " in verdict(both)


def test_what_makes_a_time_doubtful_begins_the_verdict_and_what_was_missed_ends_it():
    large = run({**MODEL, "workload": {**MODEL["workload"], "context": 10_000_000}})
    m = large.memory
    short = show(m["weights"] + m["kv_cache"] + m["activations"] - m["capacity"], "B")
    assert verdict(large).startswith(f"DOES NOT FIT in memory: {short} a chip are missing. With a larger memory a decode step "
                                     f"would take {show(large.step_s, 's')}")
    assert remedies(large)[-1].seconds is None and "less memory a chip: most of it is KV cache" in remedies(large)[-1].what
    missed = run({**MODEL, "expect": {"step_s": {"value": "1 s", "within": 0.1}, "mfu": {"value": 1}}})
    assert verdict(missed).endswith(f". MISSED: step_s is {show(missed.step_s, 's')}, not 1 s as expected.")
    assert f"expected mfu 100.0%, got {missed.mfu:.1%} ({missed.mfu - 1:+z.1%})" in text(missed)
    part = replace(missed, keys=Keys({**missed.keys, "partial": {"passes": 3, "of": 7}}))
    assert verdict(part).startswith("PARTIAL: 3 of 7 passes were simulated. A decode step takes ")


def test_shares_of_operations_add_up_and_remedies_come_in_the_order_of_what_they_save():
    result = run(on(MODEL, {**HERE, "scale": 0.1}, {**THERE, "failed": True}))
    shares = list(operations(result).values())
    assert sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)
    times = [one.seconds for one in remedies(result) if one.seconds is not None]
    assert len(times) > 1 and all(a <= b < result.step_s for a, b in pairwise(times))


@pytest.mark.parametrize("verbose", [False, True])
def test_paint_marks_lines_and_changes_no_text(verbose):
    result = run({**on(MODEL, {**HERE, "scale": 0.1}), "expect": {"step_s": {"value": "1 s", "within": 0.1}}})
    painted = text(result, verbose=verbose, paint=lambda line, kind: f"<{kind}>{line}</{kind}>")
    kinds = set(re.findall(r"<(\w+)>", painted))
    assert kinds == {"verdict", "heading", "bad", "good"}
    assert re.sub(r"</?(verdict|heading|bad|good)>", "", painted) == text(result, verbose=verbose)
    assert painted.startswith("<verdict>A decode step takes ")
    marked = [line for line in painted.splitlines() if "<bad>" in line]
    assert [line for line in marked if "slow link" in line] and [line for line in marked if "MISSED" in line]


def test_a_program_of_no_time_and_a_link_that_the_last_pass_does_not_use_have_a_report():
    nothing = run({**BARE, "chip": "ideal", "program": [{"name": "nothing", "flops": 0}]})
    assert nothing.makespan_s == 0 and text(nothing).splitlines()[0] == "The program takes 0 s; no data is sent."
    assert text(nothing, verbose=True)
    result = run(BARE)
    unused = {**result.links, "busiest": [{**result.links["busiest"][0], "users": {}}]}
    said = text(replace(result, keys=Keys({**result.keys, "links": unused})))
    assert re.search(r"^  busiest link \S+: busy [\d.]+% of the time$", said, re.M)


def test_words_of_the_report():
    assert link({"from": "leaf 1", "to": [0, 2]}, "->") == "leaf 1->(0,2)" and axes(["x", "a10"]) == "x,a10" and axes([]) == "-"
    assert all(len(line) <= WIDTH for line in wrapped("word " * 100, "    ", "  "))
    assert " ".join(" ".join(wrapped("a-b " * 60)).split()) == ("a-b " * 60).strip()
