"""The time of the host before each pass: once a pass, in every time of a pass alike, and the steps of serving stacks with it."""

import json
import re
from dataclasses import replace
from random import Random

import measured_runs
import oracle
import pytest
from click.testing import CliRunner

import torussim
from torussim import measurements, report
from torussim.answer import last_program, replay
from torussim.calibrate import calibrate
from torussim.cases import case
from torussim.chips import chip, core_of, describe
from torussim.choice import chosen
from torussim.cli import cli
from torussim.closed_forms import estimate
from torussim.compare import compare
from torussim.critical_path import least_seconds
from torussim.engine.simulate import simulate
from torussim.fronts import Fronts
from torussim.lower_bound import bound
from torussim.measured.verdict import blame
from torussim.outlines import Outlines
from torussim.report.headline import subtitle
from torussim.resolve import preset_names
from torussim.scenario import load
from torussim.transformer import build
from torussim.workload import passes

HOST = 3e-3
MODEL = {"name": "small", "layers": 4, "d_model": 512, "d_ff": 2048, "heads": 16, "kv_heads": 4, "d_head": 64,
         "vocabulary": 1000, "gated": True, "parallel": False, "tied": True}
SMALL = {"model": MODEL, "topology": {"shape": [4, 2]}, "layout": {"ffn": "ws2d", "attention": "batch"},
         "workload": {"phase": "decode", "batch": 16, "context": 100}}
EXPERTS = {**MODEL, "experts": 8, "experts_per_token": 2, "d_ff": 512}
SLOW = {"shape": [4, 2], "links": [{"from": [0, 0], "to": [1, 0], "scale": 0.25}]}
KINDS = {
    "decode": {},
    "steps": {"workload": {"phase": "decode", "batch": 16, "context": 100, "tokens": 3}},
    "many steps": {"workload": {"phase": "decode", "batch": 16, "context": 100, "tokens": 500}},
    "prefill": {"workload": {"phase": "prefill", "batch": 16, "context": 100}},
    "chunks": {"workload": {"phase": "prefill", "batch": 16, "context": 100, "chunk": 30}},
    "generate": {"workload": {"phase": "generate", "batch": 16, "context": 100, "chunk": 30, "tokens": 3}},
    "draft": {"workload": {"phase": "decode", "batch": 16, "context": 100, "draft": 3, "accepted": 2}},
    "draft model": {"workload": {"phase": "decode", "batch": 16, "context": 100, "draft": 3, "accepted": 2,
                                 "draft_model": {**MODEL, "layers": 1}}},
    "stages": {"layout": {"ffn": "ws1d", "attention": "batch", "pipeline": {"axis": "y", "microbatches": 4}}},
    "experts": {"model": EXPERTS, "layout": {"ffn": "ws1d", "attention": "batch"}},
    "slow link": {"topology": SLOW},
    "unlooped": {"layout": {"ffn": "ws1d", "attention": "heads", "overlap": False}},
}
PASSES = {"steps": 3, "many steps": 500, "chunks": 4}  # in the latency; else 1


def asked(kind="decode", overhead=HOST, **changes):
    return {**SMALL, **KINDS[kind], "chip": {"base": "tpu-v4", "step_overhead": overhead}, **changes}


def both(kind):
    return torussim.run(asked(kind, 0)), torussim.run(asked(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_host_comes_once_a_pass_in_every_time_of_a_pass(kind):
    without, found = both(kind)
    chunks = 4 if kind == "chunks" else 1
    near = {"rel": 2e-4 if kind == "many steps" else 1e-9}
    assert found.step_s == pytest.approx(without.step_s + chunks * HOST, **near)
    assert found.breakdown_s["overhead"] == pytest.approx(without.breakdown_s["overhead"] + chunks * HOST, **near)
    for part in without.breakdown_s.keys() - {"overhead"}:
        assert found.breakdown_s[part] == pytest.approx(without.breakdown_s[part], abs=1e-9)
    assert sum(found.breakdown_s.values()) == pytest.approx(found.step_s, rel=1e-9)
    assert found.estimate["axes"]["step_s"] == pytest.approx(without.estimate["axes"]["step_s"] + chunks * HOST, **near)
    assert found.estimate["paper"] == without.estimate["paper"]  # the paper counts no overhead
    assert found.estimate["bound"]["step_s"] == without.estimate["bound"]["step_s"]  # nor does a bound of any algorithm
    if kind == "generate":
        assert found.prefill_s == pytest.approx(without.prefill_s + 4 * HOST, rel=1e-9)
        assert found.latency_s == pytest.approx(without.latency_s + 7 * HOST, rel=1e-9)
    else:
        assert found.latency_s == pytest.approx(without.latency_s + PASSES.get(kind, 1) * HOST, **near)
    assert found.memory == without.memory and found.links["per_axis"]["x"]["bytes"] == without.links["per_axis"]["x"]["bytes"]


def test_a_chip_without_it_runs_as_before():
    plain = torussim.run({**asked(), "chip": "tpu-v4"})
    given = torussim.run(asked("decode", 0))
    same = ("step_s", "breakdown_s", "operations", "estimate", "range_s")
    assert [plain.keys[key] for key in same] == [given.keys[key] for key in same]
    assert plain.keys["engine"]["events"] == given.keys["engine"]["events"]
    assert "host" not in [o.name for o in last_program(plain.asked).operations()]
    assert "step_overhead" not in describe(chip("tpu-v4")) and "host" not in plain.scenario["workload"]
    found = torussim.run(asked())
    assert found.scenario["chip"]["step_overhead"] == HOST and "host" not in found.scenario["workload"]
    assert torussim.run(found.scenario).step_s == found.step_s  # a record runs again


def test_a_longer_host_never_takes_less_and_a_mesh_of_slow_links_waits_for_it_as_long():
    for kind in ("decode", "slow link", "stages"):
        times = [torussim.run(asked(kind, overhead)).step_s for overhead in (0, 1e-6, 1e-3, 2e-3)]
        assert times == sorted(times) and times[3] - times[2] == pytest.approx(1e-3, rel=1e-6)


@pytest.mark.parametrize("kind", ["decode", "draft model", "stages", "slow link"])
def test_an_obvious_engine_the_closed_form_and_the_bounds_wait_for_the_host(kind):
    scenario = load(asked(kind))
    net, (forward,) = scenario.net, passes(scenario.workload)
    program = build(scenario.model, scenario.layouts["decode"], forward, dict(zip(net.axes, net.shape)))
    assert [o.name for o in program.operations() if getattr(o, "host", False)] == ["host"]
    chosen_program = chosen(program, Outlines(net), scenario.chip)
    took = simulate(chosen_program, net, scenario.chip).makespan
    assert oracle.simulate(chosen_program, scenario.topology, scenario.chip)["makespan"] == pytest.approx(took, rel=1e-9)
    least = least_seconds(chosen_program, Fronts(Outlines(net), scenario.chip), scenario.chip)
    assert HOST < least <= took * (1 + 1e-12)
    assert bound(program, net, scenario.chip) < took
    if kind != "slow link":
        assert estimate(program, net, scenario.chip).axes_s == pytest.approx(took, rel=0.02)


def test_a_plan_has_it_in_every_bound_and_time():
    asks = {key: value for key, value in asked(topology={"shape": [2]}).items() if key != "layout"}
    for layouts in ({}, {"plan": {"vary": {"layouts": "all"}}}):
        found, without = torussim.plan({**asks, **layouts}), torussim.plan({**asks, **layouts, "chip": "tpu-v4"})
        assert found.certified and without.certified
        assert found.best.layouts == without.best.layouts
        pick, before = found.pick.of["decode"], without.pick.of["decode"]
        assert pick.step_s == pytest.approx(before.step_s + HOST, rel=1e-9)
        assert pick.step_s == pytest.approx(torussim.run(found.best).step_s, rel=1e-9)
        assert all(one.least_s >= HOST for one in found.ranked if one.least_s)
        assert sum(one.least_s is not None for one in found.ranked) > 3 and pick.bound_by.startswith("the host (")


def test_a_timeline_a_trace_and_a_report_show_it():
    found = torussim.run(asked())
    segment = found.timeline.segments[0]
    assert segment.operations[0].name == "host" and segment.ends[0] == pytest.approx(HOST)
    assert "host: 3 ms, " in report.text(found) and "(chip.step_overhead)" in report.text(found)
    assert "host 3 ms" in subtitle(found)
    plain = report.text(torussim.run(asked("decode", 0)))
    assert "host" not in plain
    more = torussim.run(asked("chunks"))
    assert "host: 12 ms, " in report.text(more)


def test_a_trace_and_a_sweep_have_it(tmp_path):
    found = load(asked())
    first = replay(found, [0]).segments[0].operations[0]
    assert first.host and first.name == "host"
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(asked()))
    options = ["--vary", "chip.step_overhead=0,1 ms,2 ms", "-o", str(tmp_path / "rows.csv")]
    done = CliRunner().invoke(cli, ["sweep", str(path), *options])
    assert done.exit_code == 0, done.output
    rows = torussim.sweep(asked(), {"chip.step_overhead": [0, "1 ms", "2 ms"]}, jobs=1)
    steps = [row["step_s"] for row in rows]
    assert steps[1] - steps[0] == pytest.approx(1e-3, rel=1e-6) and steps[2] - steps[0] == pytest.approx(2e-3, rel=1e-6)
    assert [row["breakdown_s.overhead"] for row in rows] == sorted(row["breakdown_s.overhead"] for row in rows)


def test_a_slow_host_is_named_in_a_measured_run(tmp_path):
    run = measured_runs.Run(asked(topology={"shape": [4]}))
    events = measured_runs.events(run.sound, Random(1), factor={"host": 3.0})
    found = blame(measured_runs.write(tmp_path / "trace.json", events), run.scenario)
    assert [row.name for row in found.slow] == ["host"] and not found.findings


def test_a_comparison_and_a_range_have_it(tmp_path):
    found = compare([torussim.run(asked()), torussim.run(asked("decode", 0))], ["with", "without"])
    assert [one.file for one in found.runs] == ["without", "with"] and found.differs == {"chip.step_overhead": {2: HOST}}
    sure, unsure = (torussim.run({**asked(), "chip": {"base": "ideal", "step_overhead": HOST, "uncertainty": some}})
                    for some in ({}, {"step_overhead": 1e-3}))
    assert sure.range_s is None
    assert unsure.range_s[1] / unsure.step_s == pytest.approx(1 + 1e-3 / unsure.step_s, rel=0.1)


# -- fits ---------------------------------------------------------------------------------------------------------------

STEPS = """\
chip: {base: tpu-v6e, step_overhead: GIVEN}
fit: {step_overhead: {value: 2 ms, sigma: 1.0}}
groups:
  - name: decode
    scenario:
      model: {base: llama-3-8b, layers: 4}
      topology: {slice: v6e-4}
      layout: {ffn: ws1d}
      workload: {phase: decode, batch: 16, context: 400}
    measured:
      - {time: TIME}
      - {time: TIME, change: {workload.batch: 64}}
"""


@pytest.mark.parametrize("given", ["0 s", pytest.param("1 ms", marks=pytest.mark.slow)])
def test_a_fit_finds_it_whatever_the_file_has(tmp_path, given):
    path = tmp_path / "steps.yaml"
    path.write_text(STEPS.replace("GIVEN", given))
    text = path.read_text()
    path.write_text(text.replace("TIME", "1 ms"))
    for row in measurements.read(path).rows:
        seconds = case(row).simulated(replace(row.scenario.chip, step_overhead=4.2e-3))
        text = text.replace("TIME", f"{seconds!r} s", 1)
    path.write_text(text)
    found = calibrate(path)
    (parameter,) = found.parameters
    assert parameter.constrained and parameter.value == pytest.approx(4.2e-3, rel=0.01)
    assert "step_overhead: 4" in found.mapping()


# -- the package's own measurements -------------------------------------------------------------------------------------

STACKS = [name for name in preset_names("measurements") if "llama" in name and ("v6e" in name or "v7x" in name)]


def test_steps_of_serving_stacks_are_predicted_within_a_fifth_with_two_values_at_most():
    overheads, errors = set(), {}
    for name in STACKS:
        found = measurements.read(measurements.found(name))
        assert not found.mistakes and set(found.fit) <= {"step_overhead"}
        for row in found.rows:
            used, base = row.scenario.chip, chip(row.document.value["chip"]["base"])
            base = base if row.scenario.chip.part == 1 else core_of(base)
            assert replace(used, name="", step_overhead=0, validated="", uncertainty={}, sources={}) == replace(
                base, name="", step_overhead=0, validated="", uncertainty={}, sources={})  # nothing else is fitted
            overheads.add(used.step_overhead)
            errors[name, row.name] = case(row).simulated(used) / row.time - 1
            if name == "llama-v6e":  # what the preset says of itself
                share = re.search(r"within (\d+) % with a step_overhead of ([\d.]+) ms", chip("tpu-v6e").validated)
                assert abs(errors[name, row.name]) < float(share[1]) / 100
                assert used.step_overhead == pytest.approx(float(share[2]) / 1e3)
    assert len(errors) == 4 and max(map(abs, errors.values())) < 0.2, errors
    assert len(overheads) <= 2 and min(overheads) > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", STACKS)
def test_the_values_of_the_stacks_are_those_that_calibrate_finds(name):
    (fitted,), found = calibrate(name).parameters, measurements.read(measurements.found(name))
    assert fitted.value == pytest.approx(found.rows[0].scenario.chip.step_overhead, rel=0.02)


def test_an_all_to_all_inside_a_kernel_is_little_above_its_bound_and_nothing_is_fitted_to_it():
    found = measurements.read(measurements.found("all-to-all-v7x"))
    assert not found.mistakes and not found.fit and len(found.rows) == 2
    for row in found.rows:
        scenario = row.scenario
        least = bound(scenario.program, scenario.net, scenario.chip)
        crossing = 16 * scenario.program.block[0].bytes / 2 / (4 * 100e9)  # half of what 16 cores hold, over four links of a chip
        assert least == pytest.approx(crossing, rel=1e-9)
        assert row.use == "predicted" and 1.03 < case(row).simulated(scenario.chip) / least < 1.08
