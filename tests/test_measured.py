"""What a measured run says: hidden links, chips and operations are found by name, and nothing is where nothing is slow.

    PYTHONPATH=.:tests python tests/test_measured.py

counts over 100 runs each, which takes ten minutes; the suite tries the first 12.
"""

import json
import random
from math import exp
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from click.testing import CliRunner
from measured_runs import LARGE, LLAMA, PROGRAMS, SMALL, TPU4, TPU5, Run, drawn, events, table, write

from torussim.answer import last_program, replay
from torussim.choice import chosen
from torussim.cli import cli
from torussim.engine.simulate import simulate
from torussim.errors import ScenarioError, TorusSimError
from torussim.measured.likelihood import COMMON, FREEDOM, OWN, PRIOR, Data, fitted
from torussim.measured.model import Model, typical
from torussim.measured.verdict import blame
from torussim.outlines import Outlines
from torussim.scenario import load

LOOPED = {**LLAMA, "topology": {"slice": "v5e-8"}}
BARE = {**TPU5, "topology": {"shape": [4, 4]}, "program": PROGRAMS[2]}


def told(finding):
    """Return the cables, or chips, that a finding names."""
    return {frozenset(place.ends) for place in finding.places}


def right(number, scenarios, path, **how):
    """Return whether exactly the hidden link is named in a run that is drawn by a seed."""
    rng, run = drawn(number, scenarios)
    links, _, timeline = run.hidden(rng)
    verdict = blame(write(path / "trace.json", events(timeline, rng, **how)), run.scenario)
    return [told(one) for one in verdict.findings] == [{run.ends(links)}]


def silent(number, scenarios, path):
    """Return whether nothing is named in a run of a sound network, whose chip is some percent off."""
    rng, run = drawn(number, scenarios)
    kinds = {True: exp(rng.gauss(0, 0.08)), False: exp(rng.gauss(0, 0.08))}
    factor = {o.name: kinds[hasattr(o, "axes")] for o in run.program.operations()}
    verdict = blame(write(path / "trace.json", events(run.sound, rng, factor=factor)), run.scenario)
    return not verdict.findings and not verdict.slow


# -- links


@pytest.mark.parametrize("number", range(7))
def test_a_hidden_slow_link_is_named_and_nothing_else(number, tmp_path):
    assert right(number, SMALL, tmp_path)


@pytest.mark.parametrize("number", range(3))
def test_a_sound_network_has_nothing_named(number, tmp_path):
    assert silent(number, SMALL, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("judged, first", [(right, 0), (silent, 100)], ids=["hidden", "sound"])
def test_in_11_of_12_runs_the_hidden_link_is_named_and_nothing_where_nothing_is_slow(judged, first, tmp_path):
    assert sum(judged(number, [*LARGE, *SMALL], tmp_path) for number in range(first, first + 12)) >= 11


def test_a_link_is_named_also_where_loops_are_chosen_with_its_bandwidth_known(tmp_path):
    run, ends = Run(LOOPED), ((0, 0), (0, 1))
    slow = load({**LOOPED, "topology": {"slice": "v5e-8", "links": [{"from": [0, 0], "to": [0, 1], "scale": 0.2}]}})
    assert chosen(last_program(slow), Outlines(slow.net), slow.chip) != run.program
    verdict = blame(write(tmp_path / "trace.json", events(replay(slow, ()), random.Random(0))), run.scenario)
    assert [told(one) for one in verdict.findings] == [{frozenset(ends)}]


def test_of_a_link_that_is_slow_in_one_direction_the_direction_is_named(tmp_path):
    rng, run = random.Random(3), Run(BARE)
    links, scale, timeline = run.hidden(rng, one_way=True)
    (found,) = blame(write(tmp_path / "trace.json", events(timeline, rng)), run.scenario).findings
    assert [(place.ends, place.one_way) for place in found.places] == [(run.net.links.edge(links[0]), True)]
    assert found.between[0] <= 1 / scale <= found.between[1]


def test_the_repair_of_the_only_slow_link_gains_what_the_sound_network_says(tmp_path):
    rng, run = random.Random(5), Run(BARE)
    links, scale, timeline = run.hidden(rng)
    verdict = blame(write(tmp_path / "trace.json.gz", {"traceEvents": events(timeline, rng, noise=0.0)}), run.scenario)
    (found,) = verdict.findings
    assert told(found) == {run.ends(links)} and found.probability > 0.99
    assert found.repaired_s == pytest.approx(run.sound.makespan) == pytest.approx(verdict.step_s)
    assert verdict.found_s == pytest.approx(timeline.makespan, rel=0.02)
    assert found.bandwidth == pytest.approx((45e9 * scale, 45e9), rel=0.03)


def test_three_chips_of_a_run_are_enough_for_a_link_beside_one(tmp_path):
    rng, run = random.Random(1), Run(LOOPED)
    links, _, timeline = run.hidden(rng)
    ends = [int(run.net.links.source[links[0]]), int(run.net.links.target[links[0]])]
    chips = [*ends, next(chip for chip in range(8) if chip not in ends)]
    verdict = blame(write(tmp_path / "trace.json", events(timeline, rng, chips=chips)), run.scenario)
    assert verdict.chips == (3, 8)
    assert run.ends(links) in told(verdict.findings[0])


# -- chips and operations


def test_a_chip_that_computes_slowly_is_named_and_no_link(tmp_path):
    rng, run = random.Random(2), Run(LOOPED)
    pace = np.ones(8)
    pace[5] = 1.5
    (found,) = blame(write(tmp_path / "trace.json", events(run.timeline(pace=pace), rng)), run.scenario).findings
    assert [(place.kind, place.ends) for place in found.places] == [("chip", (run.net.chips[5],))]
    assert found.slower == pytest.approx(1.5, rel=0.03)


@pytest.mark.parametrize("name", ["attention", "gather_ffn"])
def test_an_operation_that_is_slow_on_all_chips_is_named_and_no_link(name, tmp_path):
    rng, run = random.Random(4), Run(LOOPED)
    verdict = blame(write(tmp_path / "trace.json", events(run.sound, rng, factor={name: 1.6})), run.scenario)
    assert not verdict.findings
    assert [row.name for row in verdict.slow] == [name]
    assert verdict.slow[0].between[0] < 1.6 < verdict.slow[0].between[1] * 1.02


@pytest.mark.parametrize("own, named", [(1.25, False), (1.6, True)])
def test_an_operation_is_slow_only_if_it_takes_longer_than_simulated_whatever_the_others_take(own, named, tmp_path):
    rng, run = random.Random(11), Run(LOOPED)
    factor = {o.name: 0.8 for o in run.program.operations() if not hasattr(o, "axes")}
    made = events(run.sound, rng, noise=0.01, factor=factor | {"attention": 0.8 * own})
    verdict = blame(write(tmp_path / "trace.json", made), run.scenario)
    (row,) = (row for row in verdict.rows if row.name == "attention")
    assert row.slower == pytest.approx(own, rel=0.02)
    assert [one.name for one in verdict.slow] == ["attention"] * named
    assert (f"the operation attention, on all chips: {row.slower:.3g} times as long as other computations, compared with the "
            "simulation" in str(verdict)) == named
    assert str(verdict).splitlines()[1] == (
        f"Warning: Computations take {verdict.common['compute']:.3g} times as long as simulated: is the chip of the scenario the "
        "right one?")
    assert str(verdict).count("as long as simulated") == 1


# -- what does not matter, and what is unlike the scenario


HIDDEN = [{"name": "multiply", "flops": 2e12, "after": []},
          {"name": "reduce", "collective": "all_reduce", "axes": "x", "bytes": "16 MB", "after": []},
          {"name": "end", "flops": 1e10, "after": ["multiply", "reduce"]}]


def cut(run, *ends):
    """Return the timeline with some cables, given by their ends, at a third of their bandwidth."""
    return run.timeline([([i for i in range(len(run.net.links.source)) if set(run.net.links.edge(i)) == set(two)], 1 / 3)
                         for two in ends])


def test_a_slow_link_that_work_hides_is_told_last_in_one_line(tmp_path):
    rng, run, ends = random.Random(12), Run({**BARE, "program": HIDDEN}), ((1, 2), (2, 2))
    timeline = cut(run, ends)
    assert timeline.makespan == pytest.approx(run.sound.makespan)
    verdict = blame(write(tmp_path / "trace.json", events(timeline, rng, noise=0.01)), run.scenario)
    assert [(told(one), one.minor) for one in verdict.findings] == [({frozenset(ends)}, True)]
    text = str(verdict)
    assert "Nothing that was found slows the step" in text and "Slow:" not in text
    (line,) = (line for line in text.splitlines() if "(1,2)-(2,2)" in line)
    assert text.splitlines()[text.splitlines().index(line) - 1] == "Also unlike the scenario, without effect on the step:"
    assert json.loads(verdict.json())["findings"][0]["minor"] is True


def test_of_two_slow_links_that_hide_each_other_neither_is_without_effect(tmp_path):
    program = [HIDDEN[1], {**HIDDEN[0], "after": ["reduce"]}, {**HIDDEN[1], "name": "again", "axes": "y", "after": ["reduce"]}]
    run, ends = Run({**BARE, "program": program}), [((1, 2), (2, 2)), ((1, 0), (2, 0))]
    idle = ((3, 1), (3, 2))  # the product hides it
    timeline = cut(run, *ends, idle)
    assert cut(run, ends[0]).makespan == pytest.approx(timeline.makespan) and timeline.makespan > 1.05 * run.sound.makespan
    made = [event for seed in range(8) for event in events(timeline, random.Random(seed), noise=0.002)]
    verdict = blame(write(tmp_path / "trace.json", made), run.scenario)
    minor = {cable: one.minor for one in verdict.findings for cable in told(one)}
    assert minor == {**dict.fromkeys(map(frozenset, ends), False), frozenset(idle): True}
    assert str(verdict).count("another that is slow hides it") == 2


def test_chips_of_the_file_that_the_scenario_lacks_are_a_warning_and_their_times_are_not_counted(tmp_path):
    rng, run = random.Random(14), Run(BARE)
    made = [*events(run.sound, rng), {"ph": "M", "pid": 99, "name": "process_name", "args": {"name": "host"}},
            {"ph": "X", "pid": 99, "name": "wait", "dur": 1}]
    verdict = blame(write(tmp_path / "trace.json", made), load({**BARE, "topology": {"shape": [4, 2]}}))
    first, second, *_ = str(verdict).splitlines()
    assert "32 times of 8 of 8 chips (33 more are left out)" in first
    assert second == "Warning: 8 of the 16 chips of the file are not in the scenario."
    found = json.loads(verdict.json())
    assert (found["times"], found["used"], found["chips_of_file"]) == (65, 32, {"not_in_scenario": 8, "of": 16})
    assert found["warnings"][0] in second
    whole = blame(tmp_path / "trace.json", run.scenario)
    assert "Warning" not in str(whole) and whole.foreign == (0, 16)


@pytest.mark.parametrize("without, warned", [((), False), (("after",), True)])
def test_operations_that_were_never_measured_are_a_warning(without, warned, tmp_path):
    rng, run = random.Random(15), Run(BARE)
    made = [event for event in events(run.sound, rng) if event["name"] not in without]
    verdict = blame(write(tmp_path / "trace.json", made), run.scenario)
    told = "Warning: 1 of the 4 operations of the scenario that take time was never measured. Is this the scenario that was run?"
    assert (str(verdict).splitlines()[1] == told) == warned == bool(json.loads(verdict.json())["warnings"])


def test_computations_that_are_looped_are_marked(tmp_path):
    rng, run = random.Random(16), Run(LOOPED)
    verdict = blame(write(tmp_path / "trace.json", events(run.sound, rng)), run.scenario)
    looped = {o.name for o in run.program.operations() if getattr(o, "loop", None)}
    assert looped and {row.name for row in verdict.rows if row.looped} == looped
    lines = str(verdict).splitlines()
    assert {line.split()[0] for line in lines if "  compute, looped  " in line} == looped
    assert lines[-1].startswith("  compute, looped: ")
    rng, run = random.Random(17), Run(BARE)
    assert "looped" not in str(blame(write(tmp_path / "trace.json", events(run.sound, rng)), run.scenario))


# -- tables


@pytest.mark.parametrize("axis", [0, 1])
def test_a_table_without_chips_names_the_axis_and_says_that_the_link_cannot_be_told(axis, tmp_path):
    rng, run = random.Random(6), Run(LOOPED)
    timeline = run.timeline([(np.flatnonzero(run.net.links.axis == axis), 0.3)])
    verdict = blame(write(tmp_path / "times.csv", table(timeline, rng, noise=0.03)), run.scenario)
    assert [[place.name for place in one.places] for one in verdict.findings] == [[f"axis {'xy'[axis]}"]]
    assert verdict.chips is None and "cannot be told" in str(verdict)


def test_a_table_without_chips_of_a_sound_network_names_no_axis(tmp_path):
    rng, run = random.Random(7), Run(LOOPED)
    verdict = blame(write(tmp_path / "times.csv", table(run.sound, rng)), run.scenario)
    assert not verdict.findings and not verdict.slow


def test_a_table_with_chips_says_what_the_trace_says(tmp_path):
    rng, run = random.Random(8), Run(BARE)
    _, _, timeline = run.hidden(rng)
    made = events(timeline, rng)
    chips = {event["pid"]: event["args"]["name"] for event in made if event["ph"] == "M"}
    rows = [(event["name"], event["dur"], chips[event["pid"]]) for event in made if event["ph"] == "X"]
    files = [write(tmp_path / "trace.json", made),
             write(tmp_path / "times.csv", "\n".join(
                 ["operation,time,chip", *(f'{name},{time} us,"{chip[5:]}"' for name, time, chip in rows)])),
             write(tmp_path / "times.jsonl", "\n".join(
                 json.dumps({"operation": name, "time_s": time * 1e-6, "chip": json.loads(f"[{chip[6:-1]}]")})
                 for name, time, chip in rows))]
    first, *others = (json.loads(blame(file, run.scenario).json()) for file in files)
    for other in others:
        assert other["findings"][0]["places"] == first["findings"][0]["places"]
        assert other["found_s"] == pytest.approx(first["found_s"], rel=1e-6)
        assert [row["measured_s"] for row in other["operations"]] == pytest.approx(
            [row["measured_s"] for row in first["operations"]])


# -- names


def renamed(made):
    """Return events with the names that another tool gives: a number at the end, and devices for chips."""
    found = []
    for number, event in enumerate(made):
        name = event["args"]["name"] if event["ph"] == "M" else event["name"]
        if event["ph"] == "M":
            found.append({**event, "args": {"name": f"/device:TPU:{event['pid']}"}})
        else:
            found.append({**event, "name": {"before": "fusion.7", "after": "after"}.get(name, f"{name}-start.{number}")})
    return [*found, {"ph": "X", "pid": 0, "name": "XLA Modules", "dur": 3}, {"ph": "C", "pid": 0, "name": "counter"}]


def test_names_are_mapped_exactly_or_by_a_pattern_and_the_others_are_counted(tmp_path):
    rng, run = random.Random(9), Run(BARE)
    links, _, timeline = run.hidden(rng)
    made = renamed(events(timeline, rng))
    chips = {f"/device:TPU:{i}": list(chip) for i, chip in enumerate(run.net.chips)}
    scenario = load({**BARE, "trace": {"operations": {"*-start.*": "scatter", "reduce-*": "reduce", "fusion.7": "before"},
                                       "chips": chips}})
    wrong = blame(write(tmp_path / "trace.json", made), scenario)
    assert {row.name: row.count for row in wrong.rows} == {"before": 16, "reduce": 0, "after": 16, "scatter": 32}
    scenario = load({**BARE, "trace": {"operations": {"reduce-*": "reduce", "*-start.*": "scatter", "fusion.7": "before"},
                                       "chips": chips}})
    verdict = blame(tmp_path / "trace.json", scenario)
    assert {row.count for row in verdict.rows} == {16}
    assert verdict.lost == {"operations": {"XLA Modules": 1}, "chips": {}}
    assert "XLA Modules (1)" in str(verdict)
    assert run.ends(links) in told(verdict.findings[0])
    assert load(scenario.resolved).tracing == scenario.tracing


@pytest.mark.parametrize("trace, path", [
    ({"chips": {"a": [0, 4]}}, ("trace", "chips", "a")), ({"chips": {"a": [0]}}, ("trace", "chips", "a")),
    ({"chips": {"a": "0,0"}}, ("trace", "chips", "a")), ({"operations": ["a"]}, ("trace", "operations")),
    ({"operation": {}}, ("trace", "operation")), ([], ("trace",))])
def test_a_mistake_in_the_section_trace_has_its_place(trace, path):
    with pytest.raises(ScenarioError) as raised:
        load({**BARE, "trace": trace})
    assert [mistake.path for mistake in raised.value.mistakes] == [path]


@pytest.mark.parametrize("made, trace, code", [
    ([{"ph": "X", "name": "reduze", "dur": 1}], {}, "unknown-name"),
    ([{"ph": "X", "name": "reduce", "dur": 1, "pid": 7}], {}, "unknown-name"),
    ([{"ph": "X", "name": "fusion", "dur": 1}], {"operations": {"fusion": "reduc"}}, "unknown-name"),
    ([{"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "chip (9,9)"}},
      {"ph": "X", "name": "reduce", "dur": 1, "pid": 1}], {}, "unknown-name")])
def test_a_trace_of_which_nothing_is_understood_says_what_it_has_and_what_the_scenario_has(made, trace, code, tmp_path):
    scenario = load({**BARE, "trace": trace} if trace else BARE)
    with pytest.raises(TorusSimError) as raised:
        blame(write(tmp_path / "trace.json", made), scenario)
    assert raised.value.code == code


# -- files


BAD = {
    "no.json": ("{\n \"traceEvents\": [,]}", "syntax", 2), "list.json": ("3", "missing", 1),
    "keys.json": ("{\"events\": []}", "missing", 1), "empty.json": ("", "syntax", 1), "none.json": ("[]", "missing", 1),
    "deep.json": ("[" * 100_000, "limit", 1), "event.json": ("[3]", "value", 1),
    "name.json": ('[{"ph": "X", "dur": 1}]', "value", 1),
    "negative.json": ('[{"ph": "X", "name": "a", "dur": -1}]', "value", 1),
    "infinite.json": ('[{"ph": "X", "name": "a", "dur": 1e999}]', "value", 1),
    "text.json": ('[{"ph": "X", "name": "a", "dur": "1"}]', "value", 1),
    "head.csv": ("name,time\na,1\n", "missing", 1), "misspelt.csv": ("operation,time,chpi\na,1,0\n", "unknown-key", 1),
    "rows.csv": ("operation,time\n", "missing", 1), "negative.csv": ("operation,time\na,1 us\nb,-1 us\n", "value", 3),
    "unit.csv": ("operation,time\na,1 us\nb,1 GB\n", "value", 3), "cells.csv": ("operation,time\na,1,2\n", "syntax", 2),
    "nameless.csv": ("operation,time\n,1\n", "value", 2), "timeless.csv": ("operation,time\na,\n", "value", 2),
    "back.csv": ("operation,start_s,end_s\na,2,1\n", "value", 2), "nan.csv": ("operation,time_s\na,nan\n", "value", 2),
    "lines.jsonl": ('{"operation": "a", "time": 1}\n{"operation"\n', "syntax", 2), "list.jsonl": ("[1]\n", "value", 1)}


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_trace_and_no_table_is_a_mistake_with_its_line(name, tmp_path):
    text, code, line = BAD[name]
    with pytest.raises(ScenarioError) as raised:
        blame(write(tmp_path / name, text), load(BARE))
    (mistake,) = raised.value.mistakes
    assert (mistake.code, mistake.mark.file, mistake.mark.line) == (code, str(tmp_path / name), line)


@pytest.mark.parametrize("data, code", [(b"\xff\xfe", "unreadable"), (b"\x1f\x8b\x00", "unreadable"), (None, "unreadable")])
def test_a_file_that_cannot_be_read_is_a_mistake(data, code, tmp_path):
    if data is not None:
        (tmp_path / "trace.json").write_bytes(data)
    with pytest.raises(ScenarioError) as raised:
        blame(tmp_path / "trace.json", load(BARE))
    assert raised.value.mistakes[0].code == code


def test_a_file_that_is_too_large_is_a_mistake(tmp_path, monkeypatch):
    scenario = load(BARE)
    monkeypatch.setattr("torussim.files.LIMITS", {"trace": 10})
    with pytest.raises(ScenarioError) as raised:
        blame(write(tmp_path / "trace.json", [{"ph": "X"}]), scenario)
    assert raised.value.mistakes[0].code == "limit"


def test_the_command_prints_the_report_or_json_and_ends_with_2_for_a_mistake(tmp_path, capsys):
    rng, run = random.Random(10), Run(BARE)
    links, _, timeline = run.hidden(rng)
    trace = str(write(tmp_path / "trace.json", events(timeline, rng)))
    scenario = str(write(tmp_path / "bare.yaml", json.dumps(BARE)))
    text = CliRunner().invoke(cli, ["blame", trace, scenario])
    found = CliRunner().invoke(cli, ["blame", trace, scenario, "--json"])
    a, b = sorted(run.ends(links))
    assert text.exit_code == found.exit_code == 0
    assert f"({a[0]},{a[1]})-({b[0]},{b[1]})" in text.output or f"({b[0]},{b[1]})-({a[0]},{a[1]})" in text.output
    (place,) = json.loads(found.output)["findings"][0]["places"]
    assert {tuple(place["from"]), tuple(place["to"])} == {a, b}
    assert max(map(len, text.output.splitlines())) <= 120
    (tmp_path / "empty.json").write_text("")
    wrong = CliRunner().invoke(cli, ["blame", str(tmp_path / "empty.json"), scenario], standalone_mode=False)
    assert isinstance(wrong.exception, ScenarioError) and not wrong.output


def test_the_documentation_lists_every_key_of_the_json(tmp_path):
    run, page = Run({**BARE, "program": HIDDEN}), Path(__file__).parents[1] / "docs" / "measured_traces.md"
    made = events(cut(run, ((1, 2), (2, 2))), random.Random(18), noise=0.01)
    verdict = blame(write(tmp_path / "trace.json", made), run.scenario)
    found = json.loads(verdict.json())
    keys = [*found, *found["findings"][0], *found["chips"], *found["chips_of_file"]]
    assert not [key for key in keys if f"`{key}`" not in page.read_text()]


# -- what it is made of


def test_the_median_counts_each_repetition_of_a_block():
    run = Run({**LOOPED, "model": {"base": "llama-3-70b", "layers": 7}})
    timeline = run.timeline([([0], 0.2)])
    names, found = typical(timeline)
    rows = {name: [[] for _ in timeline.chips] for name in names}
    for chip in range(len(timeline.chips)):
        for _, operation, start, end in timeline.spans(chip):
            rows[operation.name][chip].append(end - start)
    spelled = np.array([[sorted(times)[(len(times) - 1) // 2] for times in rows[name]] for name in names])
    assert found == pytest.approx(spelled)


def test_a_fit_is_where_no_factor_and_no_noise_explains_residuals_better():
    rng = np.random.default_rng(0)
    moves = np.array([False, True, True, False, True])
    variance = rng.uniform(0.5, 2, (5, 8))
    residuals = 0.05 * rng.standard_normal((3, 5, 8)) + rng.uniform(-0.3, 0.3, (3, 5, 1))
    residuals[:, 2, 5:] = np.nan
    residuals[0, 1, 3] = 1.0
    data = Data(np.zeros((5, 8)), variance, 0.05, moves, np.zeros((5, 1)))
    fit = fitted(data, residuals)

    def score(r, factor, common, noise):
        """The log likelihood as it is defined, one residual at a time."""
        total = -PRIOR * (np.log(noise) + 0.05**2 / (2 * noise**2)) - (common**2).sum() / (2 * COMMON**2)
        for i in range(5):
            total -= (FREEDOM + 1) / 2 * np.log1p(((factor[i] - common[int(moves[i])]) / OWN) ** 2 / FREEDOM)
            for c in range(8):
                if np.isfinite(r[i, c]):
                    square = (r[i, c] - factor[i]) ** 2 / variance[i, c] / noise**2
                    total -= (FREEDOM + 1) / 2 * np.log1p(square / FREEDOM) + np.log(noise)
        return total

    for h in range(3):
        at = fit.factor[h], fit.common[h], fit.noise[h]
        best = score(residuals[h], *at)
        assert fit.score[h] == pytest.approx(best, abs=0.3)
        for _ in range(50):
            factor, common = at[0] + 0.02 * rng.standard_normal(5), at[1] + 0.02 * rng.standard_normal(2)
            assert score(residuals[h], factor, common, at[2] * exp(0.2 * rng.standard_normal())) < best + 0.05


def test_chips_of_another_pace_compute_that_much_longer_folded_or_not():
    program = [{"name": "work", "flops": 1e10}, {"name": "sum", "collective": "all_reduce", "axes": "xy", "bytes": "1 MB"}]
    scenario = load({**TPU4, "topology": {"shape": [4, 4]}, "program": program})
    pace = np.ones(16)
    pace[6] = 3.0
    model = Model(last_program(scenario), scenario.net, scenario.chip)
    sound, slow, unfolded = (simulate(model.program, scenario.net, scenario.chip, pace=one, fold=fold)
                             for one, fold in ((None, True), (pace, True), (pace, False)))
    assert slow.segments[0].end == pytest.approx(unfolded.segments[0].end)
    work = [(s.segments[0].end - s.segments[0].start)[0] for s in (sound, slow)]
    assert work[1] / work[0] == pytest.approx(pace)
    assert slow.makespan > sound.makespan


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        for judged, first in ((right, 0), (silent, 100)):
            wrong = [number for number in range(first, first + 100) if not judged(number, [*LARGE, *SMALL], Path(folder))]
            print(f"{judged.__name__}: {100 - len(wrong)} of 100; not {wrong}", flush=True)
