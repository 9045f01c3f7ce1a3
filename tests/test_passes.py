"""Workloads of many passes: few are simulated, what is said of the error holds, and Ctrl-C leaves what was done."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from random_shared import scenario as shared
from thinned import thinned

import torussim.tally
from torussim.alike import alike, upto
from torussim.analysis import on_its_own
from torussim.answer import Interrupted, run
from torussim.chips import chip
from torussim.cli import cli
from torussim.closed_forms import axes_seconds
from torussim.engine.prepared import Prepared
from torussim.engine.simulate import simulate
from torussim.interpolation import FEW
from torussim.program import Collective, Compute, Program
from torussim.report import text
from torussim.result import plain
from torussim.scenario import load
from torussim.transformer import build
from torussim.workload import Forward, Workload, ended_after, passes

MODEL = {"name": "small", "layers": 3, "d_model": 512, "d_ff": 2048, "heads": 16, "kv_heads": 4, "d_head": 64,
         "vocabulary": 1000, "gated": True, "parallel": False, "tied": True}
DECODE = {"phase": "decode", "batch": 32, "context": 100, "tokens": 150}
DECODE = {"phase": "decode", "batch": 16, "context": 100, "tokens": FEW + 6}
SLOW = [{"from": [0, 0], "to": [1, 0], "scale": 0.3}, {"from": [2, 1], "to": [2, 0], "scale": 0.6, "both_ways": False}]
NETWORKS = {
    "alike": {"shape": [4, 2]},
    "lines": {"shape": [4, 2], "wrap": False},
    "slow links": {"shape": [4, 2], "links": SLOW},
    "dead link": {"shape": [4, 2], "links": [{"from": [0, 0], "to": [1, 0], "failed": True}]},
    "changing": {"shape": [4, 2], "events": [{"time": "1 ms", "axis": "x", "scale": 0.02}]},
}
LAYOUTS = {"plain": {"ffn": "ws2d", "attention": "batch"}, "heads": {"ffn": "ws1d", "attention": "heads", "overlap": False},
           "routed": {"ffn": "ws2d_code", "attention": "batch", "collectives": {"all_to_all": "direct"}}}
WORKLOADS = {"decode": DECODE, "chunks": {"phase": "prefill", "batch": 16, "context": 500, "chunk": 7},
             "generate": {"phase": "generate", "batch": 16, "context": 90, "chunk": 40, "tokens": FEW + 6}}
QUICK = {("alike", "routed", "chunks"), ("lines", "plain", "decode"), ("slow links", "heads", "generate"),
         ("slow links", "plain", "chunks")}
CASES = [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow)
         for case in ((network, layout, workload) for network in NETWORKS for layout in LAYOUTS for workload in WORKLOADS)]


def asked(network="alike", layout="plain", workload="decode", **more):
    return {"chip": "tpu-v4", "model": MODEL, "topology": NETWORKS[network], "layout": LAYOUTS[layout],
            "workload": {**WORKLOADS[workload], **more}}


def numbers(value, path=""):
    """Yield the path and value of each number of the keys."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from numbers(part, f"{path}.{key}")
    elif isinstance(value, list):
        for i, part in enumerate(value):
            yield from numbers(part, f"{path}.{i}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, value


@pytest.mark.parametrize("layers, full, blocks", [(7, [2, 5], 2), (3, [1], 3), (2, [], 1)])
def test_passes_are_interpolated_up_to_the_window_and_from_it_on(layers, full, blocks):
    """Attention of layers with a window stops growing at 140 tokens; layers without one go on."""
    model = {**MODEL, "layers": layers, "window": 140, "full_layers": full}
    few, every = (run({**asked("lines", tokens=90), "model": model}, every_step=each) for each in (False, True))
    assert few.engine["proved"] and few.engine["passes_simulated"] <= 12 < every.engine["passes_simulated"] == 90
    for got, want in ((few.latency_s, every.latency_s), (few.estimate["paper"]["step_s"], every.estimate["paper"]["step_s"]),
                      (few.breakdown_s["compute"], every.breakdown_s["compute"])):
        assert got == pytest.approx(want, rel=1e-4)
    assert few.latency_s == pytest.approx(every.latency_s, rel=max(few.engine["error"], 1e-9) * 1.01)
    axes = {"x": 4, "y": 2}
    scenario = load({**asked("lines", tokens=90), "model": model})
    (group,) = alike(scenario.model, scenario.layouts, passes(scenario.workload), axes)
    assert len(group.program.blocks) == len({o.get("section") for o in few.operations}) == blocks
    parts, convex = group.straight(scenario.chip)
    assert convex and len(parts) == (1 if not full else 2) and sum(map(len, parts)) == 90
    exact = sum(axes_seconds(group.of(i), scenario.net, scenario.chip) for i in range(90)) / 90
    assert few.estimate["axes"]["step_s"] == pytest.approx(exact, rel=1e-4)
    assert few.engine["blocks"] == 90 * group.program.block_runs == every.engine["blocks"]


@pytest.mark.parametrize("network, layout, workload", CASES)
def test_what_few_passes_say_is_what_every_pass_says_to_within_the_stated_error(network, layout, workload):
    few = run(asked(network, layout, workload))
    every = run(asked(network, layout, workload), every_step=True)
    assert every.engine["passes_simulated"] == every.engine["passes"] == few.engine["passes"] and every.engine["error"] == 0.0
    error = few.engine["error"]
    assert error < 1e-3 and (not few.engine["proved"] or few.latency_s >= every.latency_s * (1 - 1e-9))
    for key in ("latency_s", "step_s"):
        assert few.keys[key] == pytest.approx(every.keys[key], rel=max(error, 1e-9) * (10 if not few.engine["proved"] else 1.01))
    assert sum(few.breakdown_s.values()) == pytest.approx(few.step_s, rel=1e-9)
    assert few.links["per_axis"]["x"]["bytes"] == pytest.approx(every.links["per_axis"]["x"]["bytes"], rel=1e-9)
    if network in ("alike", "lines"):
        assert few.engine["passes_simulated"] < 15
        exact = dict(numbers(plain({key: few.keys[key] for key in few.keys if key not in ("engine", "scenario")})))
        for path, value in numbers(plain({key: every.keys[key] for key in every.keys if key not in ("engine", "scenario")})):
            assert exact[path] == pytest.approx(value, rel=2e-4, abs=1e-12), path


def test_passes_that_begin_before_the_last_change_of_a_link_are_simulated_one_by_one():
    few, every = (run(asked("changing", "plain", tokens=12), every_step=way) for way in (False, True))
    alike, slow = (run(asked("alike", "plain", tokens=12), overrides=more).step_s
                   for more in ((), ("topology.links=[{axis: x, scale: 0.02}]",)))
    early = 1e-3 / alike
    assert early < few.engine["passes_simulated"] <= early + 4 < 12 == every.engine["passes_simulated"]
    assert few.latency_s == pytest.approx(every.latency_s, rel=1e-9)
    assert few.latency_s == pytest.approx(1e-3 + (12 - early) * slow, rel=0.1)


@pytest.mark.parametrize("network, layout", [
    ("alike", "plain"), ("slow links", "heads"), *(pytest.param(network, layout, marks=pytest.mark.slow)
                                                   for network in ("slow links", "dead link") for layout in ("plain", "routed"))])
def test_up_to_64_steps_have_the_numbers_of_every_step(network, layout):
    few, every = (run(asked(network, layout, tokens=FEW), every_step=way) for way in (False, True))
    assert few.latency_s == pytest.approx(every.latency_s, rel=1e-9)
    assert few.breakdown_s == pytest.approx(every.breakdown_s, rel=1e-8, abs=1e-15)
    assert "passes were simulated" not in text(few)


def test_closed_forms_and_the_bound_of_many_passes_are_those_of_each():
    from torussim.closed_forms import estimate
    from torussim.lower_bound import bound

    scenario = load(asked())
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    programs = [build(scenario.model, scenario.layouts["decode"], one, axes) for one in passes(scenario.workload)]
    made, found = [estimate(one, scenario.net, scenario.chip) for one in programs], run(scenario).estimate
    mean = {name: sum(getattr(one, name) for one in made) / len(made)
            for name in ("paper_s", "paper_compute_s", "paper_collective_s", "collective_bytes", "axes_s")}
    assert [*found["paper"].values()] == pytest.approx([*mean.values()][:4], rel=1e-12)
    assert found["axes"]["step_s"] == pytest.approx(mean["axes_s"], rel=1e-4)
    least = sum(bound(one, scenario.net, scenario.chip) for one in programs) / len(programs)
    assert found["bound"]["step_s"] == pytest.approx(least, rel=1e-12)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_passes_that_are_alike_have_the_programs_that_are_built_one_by_one(workload):
    scenario = load(asked(workload=workload))
    axes, todo = {a: scenario.net.length(a) for a in scenario.net.axes}, passes(scenario.workload)
    groups = alike(scenario.model, scenario.layouts, todo, axes)
    assert [group.of(i) for group in groups for i in range(len(group))] \
        == [build(scenario.model, scenario.layouts[one.phase], one, axes) for one in todo]
    for group in groups:
        rises = group.seconds(scenario.chip)
        assert (rises[1:] >= rises[:-1]).all(), "attention to more tokens never takes less time"
    for done in (1, 2, 3, len(todo)):
        assert sum(map(len, upto(groups, done))) == done


@pytest.mark.parametrize("seed", thinned(range(80), 8))
def test_what_is_on_its_own_delays_all_that_follows_by_what_it_takes_longer(seed):
    """Routed messages, shared links, dead ones; each plain computation of the block in turn."""
    case = shared(seed)
    net = Prepared(case.grid)
    if net.net.links.events:
        return
    for o in case.program.block:
        if isinstance(o, Compute) and o.loop is None:
            said = simulate(case.program, net, case.chip, start=case.start)
            if on_its_own(said, o.name):
                for more in (1e-6, 3e-4):
                    longer = replace(o, kernels=o.kernels + more / case.chip.op_overhead)
                    late = simulate(case.program.replaced({o.name: longer}), net, case.chip, start=case.start)
                    assert late.makespan == pytest.approx(said.makespan + case.program.layers * more, rel=1e-9)


def test_a_computation_is_not_on_its_own_where_a_message_is_under_way_or_a_chip_is_late():
    net = Prepared(load({"chip": "ideal", "topology": {"shape": [4]}, "program": [{"name": "x", "flops": 1}]}).net)
    work, gather = Compute("work", flops=1e9), Collective("gather", "all_gather", ("x",), 1e9)

    def alone(*block, start=None):
        return on_its_own(simulate(Program(block, 3), net, chip("ideal"), start=start), "work")

    assert alone(gather, work) and alone(work, gather)
    assert not alone(gather, replace(work, after=())) and not alone(work, replace(gather, after=()))
    assert not alone(work, gather, start=[0, 1, 0, 0])


def test_passes_between_which_nothing_is_proved_are_tried(monkeypatch):
    """As if attention met other messages: the middle of each span is simulated, and up to 64 steps are each."""
    monkeypatch.setattr(torussim.tally, "on_its_own", lambda *given: False)
    few, every = (run(asked("alike", "routed"), every_step=way) for way in (False, True))
    assert not few.engine["proved"] and every.engine["proved"]
    assert 8 < few.engine["passes_simulated"] < few.engine["passes"]
    assert few.latency_s == pytest.approx(every.latency_s, rel=1e-4)
    assert "without proof" in " ".join(text(few).split()) and "passes were simulated" not in text(every)
    short = run(asked("alike", "routed", tokens=FEW))
    assert short.engine["passes_simulated"] == FEW and short.engine["error"] == 0.0


# -- Ctrl-C -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped(monkeypatch):
    """Return a function that returns the partial result of a run that Ctrl-C ends in a simulation, counted from 1."""
    def run_until(scenario, number, **choices):
        runs = []

        def simulated(*given, **more):
            runs.append(1)
            if len(runs) == number:
                raise KeyboardInterrupt
            return simulate(*given, **more)

        with monkeypatch.context() as patch, pytest.raises(Interrupted) as error:
            patch.setattr(torussim.tally, "simulate", simulated)
            run(scenario, **choices)
        return error.value.result
    return run_until


@pytest.mark.parametrize("workload, number, every, done", [
    ("decode", 2, True, 1), ("decode", 21, True, 20), ("decode", 2, False, 1), ("chunks", 30, True, 29), ("chunks", 3, False, 2),
    ("generate", 3, True, 2), ("generate", 4, False, 3), ("generate", 20, True, 19)])
def test_a_partial_result_is_that_of_the_workload_that_ends_there(stopped, workload, number, every, done):
    """The record is that of the shorter workload; of a generation that ends in its prompt that of a prefill."""
    result = stopped(asked("slow links", workload=workload), number, every_step=every)
    of = len(passes(load(asked(workload=workload)).workload))
    assert result.keys["partial"] == {"passes": done, "of": of} and result.engine["passes"] == done
    assert len(passes(load(result.scenario).workload)) == done
    shorter = run(json.loads(result.json())["scenario"], every_step=every)
    assert shorter.keys.keys() == result.keys.keys() - {"partial"}
    assert [(key, plain(shorter.keys[key])) for key in shorter.keys if key != "engine"] \
        == [(key, plain(result.keys[key])) for key in shorter.keys if key != "engine"]
    assert "PARTIAL" in text(result).splitlines()[0] and "PARTIAL" in repr(result) and "PARTIAL" not in text(shorter)


def test_ctrl_c_before_the_first_pass_is_done_is_ctrl_c():
    def progress(done, of):
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt) as error:
        run(asked(), progress=progress)
    assert not isinstance(error.value, Interrupted)


def test_the_command_writes_and_prints_what_was_done_and_ends_with_130(tmp_path: Path, monkeypatch):
    runs = []

    def simulated(*given, **choices):
        runs.append(1)
        if len(runs) == 6:
            raise KeyboardInterrupt
        return simulate(*given, **choices)

    monkeypatch.setattr(torussim.tally, "simulate", simulated)
    file, folder = tmp_path / "long.yaml", tmp_path / "out" / "long"
    file.write_text(json.dumps({"name": "long", **asked()}))
    folder.mkdir(parents=True)
    for name in ("timeline.png", "links.png"):
        (folder / name).write_text("of an earlier run")
    done = CliRunner().invoke(cli, ["run", str(file), str(file), "-o", str(tmp_path / "out"), "--every-step"])
    assert done.exit_code == 130 and f"PARTIAL: 5 of {FEW + 6} passes were simulated. A" in done.output
    assert json.loads((folder / "result.json").read_text())["partial"] == {"passes": 5, "of": FEW + 6}
    assert [path.name for path in folder.iterdir()] == ["result.json"]
    assert not (tmp_path / "out" / "long-2" / "result.json").exists(), "the next scenario is not begun"


def test_the_report_says_how_many_passes_were_simulated_and_how_far_off_the_time_can_be():
    said = f"2 of {FEW + 6} passes were simulated. The others are interpolated; error 1e-09 % at most."
    assert said in text(run(asked())) and said not in text(run(asked(), every_step=True))


def test_progress_never_goes_back_and_ends_at_the_end():
    for every in (True, False):
        told = list[tuple[int, int]]()
        run(asked("slow links", "plain", "generate"), progress=lambda *at, told=told: told.append(at), every_step=every)
        assert told == sorted(told) and len({of for _, of in told}) == 1 and told[-1][0] == told[-1][1]


@pytest.mark.parametrize("phase, chunk, done, left", [
    ("decode", None, 3, ("decode", 10, 3, None)), ("prefill", 4, 2, ("prefill", 8, 1, 4)),
    ("prefill", 4, 3, ("prefill", 10, 1, 4)), ("generate", 4, 1, ("prefill", 4, 5, 4)),
    ("generate", 4, 4, ("generate", 10, 1, 4)), ("generate", None, 1, ("prefill", 10, 5, 10))])
def test_a_workload_ends_after_its_first_passes(phase, chunk, done, left):
    whole = Workload(phase, 2, 10, tokens=5 if phase != "prefill" else 1, chunk=chunk)
    part = ended_after(whole, done)
    assert (part.phase, part.context, part.tokens, part.chunk) == left
    assert passes(part) == passes(whole)[:done] and isinstance(passes(part)[0], Forward)
