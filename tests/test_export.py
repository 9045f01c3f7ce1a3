"""What a run writes for other tools: the format is sound, and what it says is what the timeline and the result say."""

import csv
import gzip
import json
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import random_scenarios as plain
import random_shared as shared
from click.testing import CliRunner
from random_shared import drifting
from traces import integral, read

from torussim.analysis import breakdown
from torussim.answer import replay, run, shown_chips
from torussim.chips import chip
from torussim.cli import cli
from torussim.engine.simulate import simulate
from torussim.errors import OutputError
from torussim.export.facts import facts
from torussim.export.perfetto import encode
from torussim.export.shown import Shown
from torussim.export.shown import shown as last_pass
from torussim.export.spelled import block_numbers, messages, operations
from torussim.program import Collective, Compute, Program
from torussim.scenario import load
from torussim.topology.builders import torus
from torussim.topology.grid import grid

SEEDS = range(8)
NS = 1e-9  # s: what a trace rounds a time to


def shown(said, net, chips, chip):
    return Shown(said, net, chips, said.program, facts(said, chip, {}), {"tool": "torussim"})


def traced(case, **choices):
    """Return the timeline of a random scenario with the messages of all chips, and its trace."""
    net = case.grid
    said = plain.run(case, record=range(len(net.chips)), **choices)
    return said, net, read(encode(shown(said, net, range(len(net.chips)), case.chip)))


def sent_by_the_oracle(case):
    """Return every transfer of the oracle: (block run, operation, sender, receiver, start, end, bytes)."""
    wanted = plain.expected(case)
    names = [name for name, *_ in wanted["ops"]]
    firsts, place = [], 0
    for listed, times in case.program.sections():
        for _ in range(times if listed else 0):
            firsts.append(place)
            place += len(listed)
    return [(int(np.searchsorted(firsts, t.number, side="right")) - 1, names[t.number], t.sender, t.receiver, t.start, t.end,
             t.bytes) for t in wanted["transfers"]], wanted["makespan"]


@pytest.mark.parametrize("seed", SEEDS)
def test_every_message_of_every_block_is_the_oracles(seed):
    case = replace(plain.scenario(seed, layers=3), repeat=True)
    net = case.grid
    want, makespan = sent_by_the_oracle(case)
    said = plain.run(case, record=range(len(net.chips)))
    got = [(s.run, s.operation, net.chips[s.chip],
            net.chips[net.target[net.axis(s.axis), 0 if s.sign > 0 else 1, s.chip]], s.start, s.end, s.bytes)
           for s in messages(said).sent]
    assert len(got) == len(want)
    for a, b in zip(sorted(got), sorted(want)):
        assert a[:4] == b[:4] and np.allclose(a[4:], b[4:], rtol=1e-9, atol=1e-9 * makespan)


@pytest.mark.parametrize("of", [plain, shared], ids=["private", "shared"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_trace_is_sound_and_its_totals_are_those_of_the_timeline(of, seed):
    case = of.scenario(seed)
    said, net, trace = traced(case)
    finish = float(said.finish.max())
    for number, place in enumerate(net.chips):
        name = f"chip ({','.join(map(str, place))})"
        ran = Counter(operation.name for _, operation, _, _ in said.spans(number))
        assert Counter(e["name"] for kind in ("compute", "collective") for e in trace.slices(kind, name)) == ran
        computed = sum(e["args"]["compute_s"] for e in trace.slices("compute", name))
        of_chip = breakdown(said, number, float(said.finish[number] - said.begin[number]))
        if any(isinstance(o, Compute) for o in case.program.operations()):
            assert computed == pytest.approx(sum(float(said.work[n].busy[number]) * times for n, times in ran.items()
                                                 if n in {e["name"] for e in trace.slices("compute", name)}))
            waited = integral(trace.counter("exposed communication", name), float(said.finish[number]))
            assert waited == pytest.approx(of_chip["exposed_collective"], abs=1e-9 * finish + 4 * NS * sum(ran.values()))
    ends = [e["ts"] + e["dur"] for kind in ("compute", "collective") for e in trace.slices(kind)]
    assert max(ends, default=0.0) * 1e-6 == pytest.approx(float(max(said.finish.max() if ends else 0.0, 0.0)), abs=3 * NS)
    for axis in range(len(net.links.axes)):
        here = net.links.axis == axis
        if here.any():
            busy = integral(trace.counter(f"links of axis {list(net.links.axes)[axis]}", "network"), finish)
            assert busy == pytest.approx(float(said.link_seconds[here].mean()), rel=1e-6, abs=len(said.carried) * 99 * NS)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bytes_of_the_messages_on_a_link_are_those_that_it_carried(seed):
    case = plain.scenario(seed)
    said, net, trace = traced(case)
    got = Counter()
    for e in trace.slices("message"):
        got[trace.processes[e["pid"]].removeprefix("chip "), trace.threads[e["tid"]]] += e["args"]["bytes"]
    for link, size in enumerate(said.link_bytes.tolist()):
        source = f"({','.join(map(str, net.chips[net.links.source[link]]))})"
        direction = f"{list(net.links.axes)[net.links.axis[link]]}{'+-'[net.links.sign[link]]}"
        assert got[source, direction] == pytest.approx(size, rel=1e-9)


def test_each_message_to_a_chip_that_is_shown_has_an_arrow_to_its_collective_there():
    _, _, trace = traced(plain.scenario(7))
    late = {(e["tid"], e["name"]) for e in trace.slices("collective") if e["dur"] == 0}
    assert not late
    assert len(trace.arrows()) == len(trace.slices("message")) > 100
    for sent, came in trace.arrows():
        assert trace.threads[came["tid"]].startswith("collectives") and sent["pid"] != came["pid"]


def test_the_network_without_neighbours_has_a_slice_a_link_out_of_a_chip():
    net = grid(torus((4, 4), bandwidth=1e9, latency=1e-6))
    program = Program((Compute("work", flops=1e9), Collective("exchange", "all_to_all", ("x", "y"), 1e6, "direct")), 5)
    said = simulate(program, net, chip("ideal"), record=[0, 5])
    trace = read(encode(shown(said, net, [0, 5], chip("ideal"))))
    for number in (0, 5):
        name = f"chip ({','.join(map(str, net.chips[number]))})"
        for link in np.flatnonzero(net.links.source == number):
            to = f"link to ({','.join(map(str, net.chips[net.links.target[link]]))}), routed"
            own = [e for e in trace.slices("routed", name) if trace.threads[e["tid"]] == to]
            assert len(own) == 5 and sum(e["args"]["bytes"] for e in own) == pytest.approx(said.link_bytes[link])


@pytest.mark.parametrize("seed", (5, 13, 16, 25, 27, 28))
def test_blocks_that_repeat_have_the_messages_of_a_run_of_every_block(seed):
    case = replace(shared.scenario(seed, layers=12, alike=True), repeat=True)
    record = range(len(case.start))
    said, whole = (plain.run(case, record=record, repeat=repeat) for repeat in (True, False))
    assert said.flows and said.period and said.blocks_simulated < 12
    got, want = ([sorted((s.run, s.operation, s.chip, s.axis, s.sign, s.bytes) for s in messages(one).sent),
                  sorted((s.run, s.chip, s.axis, s.sign, s.start, s.end) for s in messages(one).sent)] for one in (said, whole))
    assert got[0] == want[0] and np.allclose([row[4:] for row in got[1]], [row[4:] for row in want[1]],
                                              rtol=0, atol=1e-9 * whole.makespan)


def test_blocks_that_a_leap_left_out_are_named():
    case = drifting(2)
    said = plain.run(case, record=range(len(case.start)))
    known = {block_numbers(said)[s.run] for s in said.sent} - {0}
    sent = messages(said)
    assert said.leapt and sorted({*known, *sent.missing, *sent.repeated}) == list(range(1, 41)) and not known & {*sent.missing}
    trace = read(encode(shown(said, case.grid, [0], case.chip)))
    assert trace.about["blocks_without_messages"] == f"{sent.missing[0]}-{sent.missing[-1]}"


def test_what_is_shown_of_a_run_with_a_leap_has_every_block(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL.replace("layers: 3", "layers: 8"))
    scenario = load(tmp_path / "small.yaml")
    result = run(scenario)
    leapt = replace(result, timeline=replace(result.timeline, leapt=2))
    few, every = (last_pass(scenario, one).timeline.blocks_simulated for one in (result, leapt))
    assert few == result.timeline.blocks_simulated < every == 8


def test_two_runs_give_the_same_bytes():
    case = plain.scenario(3)
    one, two = (encode(shown(said, net, [0], case.chip))
                for said, net in ((plain.run(case, record=[0]), case.grid) for _ in range(2)))
    assert one == two


def test_operations_of_a_chip_are_numbered_by_their_blocks():
    case = plain.scenario(5, layers=3)
    said = plain.run(case)
    assert max(block_numbers(said)) == 3
    assert {(one.section, one.block) for one in operations(said, 0)} <= {
        ("prologue", 0), ("block", 1), ("block", 2), ("block", 3), ("epilogue", 0)}


# The command

SMALL = """
name: A small one
model: {base: palm-8b, layers: 3}
chip: tpu-v4
topology: {shape: [4, 2, 2]}
layout: {ffn: ws2d, attention: batch}
workload: {phase: decode, batch: 16, context: 64, tokens: 1}
"""
NETWORKS = {
    "torus": "{shape: [4, 2, 2]}",
    "slow link": "{shape: [4, 2, 2], links: [{from: [0, 0, 0], to: [1, 0, 0], scale: 0.25}]}",
    "dead link": "{shape: [4, 4], links: [{from: [0, 0], to: [1, 0], failed: true}]}",
    "switch": "{kind: gpu_nodes, nodes: 2}",
}


def invoke(*arguments, code=0):
    result = CliRunner().invoke(cli, [str(a) for a in arguments], standalone_mode=False)
    if code:
        assert isinstance(result.exception, SystemExit) and result.exception.code == code, result.output
    else:
        assert result.exception is None, result.output
    return result


def ran(tmp_path, text, *options):
    """Return the folder of a run of a scenario and its result."""
    file = tmp_path / "small.yaml"
    file.write_text(text)
    invoke("run", file, "-o", tmp_path / "out", "--no-pictures", *options)
    (folder,) = (tmp_path / "out").iterdir()
    return folder, json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize("network", NETWORKS)
def test_the_totals_of_a_trace_are_those_of_the_result(tmp_path, network):
    chip_of = "h100" if network == "switch" else "tpu-v4"
    text = SMALL.replace("{shape: [4, 2, 2]}", NETWORKS[network]).replace("tpu-v4", chip_of)
    text = text.replace("ws2d", "ws1d") if network in ("dead link", "switch") else text
    folder, result = ran(tmp_path, text, "--trace", "--trace-chips", "all")
    trace = read((folder / "trace.json.gz").read_bytes())
    assert trace.about["scenario"] == "A small one" and trace.about["step_s"] == result["step_s"]
    ends = {process: max(e["ts"] + e["dur"] for kind in ("compute", "collective") for e in trace.slices(kind, process))
            for process in trace.processes.values() if process != "network"}
    assert len(ends) == result["chips"]
    assert max(ends.values()) * 1e-6 == pytest.approx(result["makespan_s"], abs=3 * NS)
    last = [process for process in ends if ends[process] == max(ends.values())]  # equal to the ns, but not in result.json
    computed = [sum(e["args"]["compute_s"] for e in trace.slices("compute", process)) for process in last]
    waited = [integral(trace.counter("exposed communication", process), result["makespan_s"]) for process in last]
    assert any(one == pytest.approx(result["breakdown_s"]["compute"], rel=1e-9) for one in computed)
    assert any(one == pytest.approx(result["breakdown_s"]["exposed_collective"], rel=1e-3) for one in waited)
    for axis, use in result["links"]["per_axis"].items():
        name = "links of no axis" if axis == "none" else f"links of axis {axis}"
        assert integral(trace.counter(name, "network"), result["makespan_s"]) == pytest.approx(
            use["mean_busy"] * result["makespan_s"], rel=1e-3)
    listed = {o["name"]: o for o in result["operations"]}
    for kind in ("compute", "collective"):
        for e in trace.slices(kind):
            if e["args"].get("block"):
                wanted = listed[e["name"]]
                assert e["args"]["bytes"] == wanted["bytes"] and e["args"]["bound_s"] == wanted["bound_s"]
                assert e["args"]["algorithm"] == wanted["algorithm"] and e["args"]["kind"] == wanted["kind"]
    if network == "torus":
        for axis, use in result["links"]["per_axis"].items():
            sent = sum(e["args"]["bytes"] for kind in ("message", "routed") for e in trace.slices(kind)
                       if trace.threads[e["tid"]][0] == axis)
            assert sent == pytest.approx(use["bytes"])


def test_a_run_without_a_trace_removes_an_old_one(tmp_path):
    folder, _ = ran(tmp_path, SMALL, "--trace")
    assert {p.name for p in folder.iterdir()} == {"result.json", "trace.json.gz"}
    ran(tmp_path, SMALL)
    assert {p.name for p in folder.iterdir()} == {"result.json"}


def test_by_default_a_trace_has_the_chips_of_the_picture_and_chips_can_be_named(tmp_path):
    folder, _ = ran(tmp_path, SMALL, "--trace")
    result = run(tmp_path / "small.yaml")
    names = {f"chip ({','.join(map(str, result.timeline.chips[number]))})" for number in shown_chips(result)}
    assert set(read((folder / "trace.json.gz").read_bytes()).processes.values()) == {"network"} | names
    ran(tmp_path, SMALL, "--trace-chips", "3,1,0 0,1,0 3,1,0")
    assert set(read((folder / "trace.json.gz").read_bytes()).processes.values()) == {
        "network", "chip (3,1,0)", "chip (0,1,0)"}


@pytest.mark.parametrize("chips, says", [("9,0,0", "there is no chip [9, 0, 0]"), ("x", "'x' is not a chip"),
                                         (" ", "names no chip"), ("", "names no chip"), ("1,0", "one coordinate for each axis")])
def test_a_chip_that_is_not_there_is_told_before_anything_is_written(tmp_path, chips, says):
    file = tmp_path / "small.yaml"
    file.write_text(SMALL)
    said = invoke("run", file, "-o", tmp_path / "out", "--trace-chips", chips, code=2)
    assert said.stderr.startswith(f"--trace-chips {chips!r}") and says in said.stderr and said.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_trace_of_a_network_that_changes_begins_when_its_pass_does(tmp_path):
    """The link is slow in the first of two passes alone."""
    text = SMALL.replace("tokens: 1", "tokens: 2").replace("[4, 2, 2]}", """[4, 2, 2], events: [
  {time: 0 s, axis: x, scale: 0.25}, {time: 0.5 ms, axis: x, scale: 4}]}""")
    folder, result = ran(tmp_path, text, "--trace", "--timeline", "csv")
    timeline = run(tmp_path / "small.yaml").timeline
    rows = table(folder / "timeline.csv")
    assert min(row["start_s"] for row in rows) == timeline.begin.min() > 0
    assert max(row["end_s"] for row in rows) == pytest.approx(timeline.finish.max(), rel=1e-12)
    assert result["makespan_s"] > timeline.makespan * 2.01


def test_more_operations_than_can_be_written_are_told_before_the_run(tmp_path):
    file = tmp_path / "small.yaml"
    file.write_text("chip: tpu-v4\ntopology: {shape: [40, 40, 40]}\nprogram:\n" + "".join(
        f"  - {{name: work {i}, flops: 1e9}}\n" for i in range(16)))
    said = invoke("run", file, "-o", tmp_path / "out", "--trace-chips", "all", code=2)
    assert "64,000 chips run 1,024,000 operations" in said.stderr and "name fewer chips" in said.stderr
    assert not (tmp_path / "out").exists()


# Tables

def table(path):
    """Return the rows of a table, numbers as numbers."""
    if path.suffix == ".parquet":
        return pytest.importorskip("pyarrow.parquet").read_table(path).to_pylist()
    with open(path, newline="") as file:
        numbers = {"run": int, "block": int} | dict.fromkeys(
            ("start_s", "end_s", "compute_s", "fixed_s", "latency_s", "bytes"), float)
        return [{key: numbers.get(key, str)(value) for key, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_hold_each_operation_of_each_chip_and_block_and_each_message(tmp_path, kind):
    folder, result = ran(tmp_path, SMALL, "--timeline", kind, "--trace-chips", "all")
    assert {p.name for p in folder.iterdir()} == {"result.json", f"timeline.{kind}", f"messages.{kind}"}
    rows = table(folder / f"timeline.{kind}")
    said = replay(load(tmp_path / "small.yaml"), range(result["chips"]))
    want = [(run, said.segments[said.runs[run][0]].section, o.name, ",".join(map(str, place)), start, end,
             float(said.work[o.name].busy[number]))
            for number, place in enumerate(said.chips) for run, o, start, end in said.spans(number)]
    assert [tuple(row[key] for key in ("run", "section", "operation", "chip", "start_s", "end_s", "compute_s"))
            for row in rows] == want
    assert max(row["block"] for row in rows) == 3
    assert max(row["end_s"] for row in rows) == result["makespan_s"]
    listed = {o["name"]: o for o in result["operations"]}
    assert all((row["kind"], row["axes"], row["bytes"]) == (o["kind"], " ".join(o["axes"]), o["bytes"])
               for row in rows if row["block"] and (o := listed[row["operation"]]))
    sent = table(folder / f"messages.{kind}")
    links, names = load(tmp_path / "small.yaml").net.links, {row["operation"] for row in sent}
    for number, axis in enumerate(links.axes):
        want = sum(carried[links.axis == number].sum() for name, carried in said.carried.items() if name in names)
        assert want > 0 and sum(row["bytes"] for row in sent if row["axis"] == axis) == pytest.approx(want)
    assert all(row["end_s"] >= row["start_s"] >= 0 for row in sent)


def test_both_kinds_of_tables_hold_the_same(tmp_path):
    folder, _ = ran(tmp_path, SMALL, "--timeline", "csv")
    first = [table(folder / f"{name}.csv") for name in ("timeline", "messages")]
    ran(tmp_path, SMALL, "--timeline", "parquet")
    assert [table(folder / f"{name}.parquet") for name in ("timeline", "messages")] == first
    assert {p.name for p in folder.iterdir()} == {"result.json", "timeline.parquet", "messages.parquet"}


def test_parquet_without_its_library_is_told_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "small.yaml").write_text(SMALL)
    with pytest.raises(OutputError, match="Parquet needs pyarrow") as raised:
        CliRunner().invoke(cli, ["run", str(tmp_path / "small.yaml"), "-o", str(tmp_path / "out"), "--timeline", "parquet"],
                           standalone_mode=False, catch_exceptions=False)
    assert raised.value.code == "missing-library"
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_trace_of_a_pod_of_4096_chips_is_small():
    asked = load(Path(__file__).parent.parent / "scenarios" / "palm-540b-decode-pod-dead-link.yaml", ["workload.tokens=1"])
    assert len(asked.net.chips) == 4096
    trace = encode(last_pass(asked, run(asked)))
    assert len(trace) < 5e6 and len(gzip.decompress(trace)) < 50e6



# In Perfetto's own trace processor, where it is there: its package would download it

SHELLS = [*(path for path in map(shutil.which, ("trace_processor_shell", "trace_processor")) if path),
          *map(str, (Path.home() / ".local/share/perfetto/prebuilts").glob("trace_processor_shell*[!p]"))]


@pytest.mark.skipif(not SHELLS, reason="no trace_processor_shell on this machine, and no test downloads one")
def test_sql_finds_the_same_totals(tmp_path):
    processor = pytest.importorskip("perfetto.trace_processor")
    folder, result = ran(tmp_path, SMALL, "--trace-chips", "all")
    trace = read((folder / "trace.json.gz").read_bytes())
    config = processor.TraceProcessorConfig(bin_path=SHELLS[0])
    with processor.TraceProcessor(trace=str(folder / "trace.json.gz"), config=config) as sql:
        def one(query):
            return next(iter(sql.query(query))).value
        slices = [e for e in trace.events if e["ph"] == "X"]
        assert one("select count(*) as value from slice") == len(slices)
        assert one("select count(*) as value from flow") == len(trace.arrows())
        assert one("select count(*) as value from process where name like 'chip%'") == result["chips"]
        ends = "select max(ts + dur) * 1e-9 as value from slice where category in ('compute', 'collective')"
        assert one(ends) == pytest.approx(result["makespan_s"], abs=3 * NS)
        assert one("select count(*) as value from stats where severity = 'error' and value > 0") == 0


@pytest.mark.parametrize("words", [("run",), ("check",), ("report",), ("blame", "small.yaml")])
def test_a_trace_in_the_place_of_a_scenario_is_told_apart(tmp_path, monkeypatch, words):
    folder, _ = ran(tmp_path, SMALL, "--trace")
    monkeypatch.chdir(tmp_path)
    said = invoke(*words, folder / "trace.json.gz", code=2).stderr
    assert "is a trace of a run" in said and "torussim blame TRACE SCENARIO" in said
