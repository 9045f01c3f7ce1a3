"""Chakra execution traces: what is written is what a plain decoder reads, and what is read back takes the same time."""

import json
import struct
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner
from test_export import SMALL, invoke, ran

from torussim.answer import last_program, run
from torussim.chakra.program import MARK, SECONDS, Trace, operations
from torussim.chakra.schema import Node, Typed, read, written
from torussim.chips import chip
from torussim.cli import cli
from torussim.engine.simulate import simulate
from torussim.errors import FileError, ScenarioError
from torussim.export.chakra import files
from torussim.export.facts import facts
from torussim.export.shown import Shown
from torussim.program import Collective, Compute, Program, unlooped
from torussim.scenario import load
from torussim.topology.builders import torus
from torussim.topology.grid import grid
from torussim.units import show

pytest.importorskip("google.protobuf")
V4 = chip("tpu-v4")
AXES = {"x": 4, "y": 2}
BARE = """
chip: tpu-v4
topology: {shape: [4, 2]}
program:
  - {name: gather, collective: all_gather, axes: yx, bytes: 3 MB, algorithm: sequential}
  - {name: multiply, flops: 1e10, hbm_bytes: 20 MB, after: []}
  - {name: move, collective: permute, shift: {x: 1}, bytes: 1 MB, after: [gather]}
  - {name: give, collective: broadcast, chips: [[0, 0], [3, 1], [1, 1]], bytes: 2 MB, root: [1, 1], after: [multiply]}
  - {name: sum, collective: all_reduce, groups: [[[0, 0], [0, 1]], [[1, 0], [1, 1]]], bytes: 1 MB, after: [give, move]}
  - {name: tell, collective: send, from: [0, 0], to: [2, 1], bytes: 1 MB}
  - {name: last, collective: reduce_scatter, axes: x, bytes: 1 MB}
"""


# A plain decoder of protobuf's wire format: (number of the field, value) in order

def fields(data):
    found, at = [], 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = varint()
        if key & 7 == 0:
            value = varint()
        elif key & 7 == 1:
            value, at = struct.unpack("<d", data[at:at + 8])[0], at + 8
        else:
            assert key & 7 == 2
            size = varint()
            value, at = data[at:at + size], at + size
        found.append((key >> 3, value))
    return found


def messages(data):
    """Return the fields of each message of a file."""
    found, at = [], 0
    while at < len(data):
        size = shift = 0
        while data[at] > 127:
            size, shift, at = size | (data[at] & 127) << shift, shift + 7, at + 1
        size, at = size | data[at] << shift, at + 1
        found.append(fields(data[at:at + size]))
        at += size
    return found


def attributes(message):
    return {dict(fields(value))[1].decode(): dict(fields(value)) for number, value in message if number == 10}


def files_of(folder):
    return sorted((folder / "chakra").glob("trace.*.et"), key=lambda path: int(path.suffixes[0][1:]))


def back(folder, text):
    """Return the scenario that has the traces of a folder as its program."""
    lines = [line for line in text.splitlines() if line.startswith(("chip:", "topology:"))]
    groups = ", groups: chakra/comm_groups.json" if (folder / "chakra/comm_groups.json").exists() else ""
    (folder / "back.yaml").write_text("\n".join([*lines, f"program: {{chakra: chakra/trace.%d.et{groups}}}\n"]))
    return load(folder / "back.yaml")


def test_a_plain_decoder_reads_the_numbers_of_the_schema(tmp_path):
    folder, result = ran(tmp_path, BARE, "--chakra", "--trace-chips", "all")
    first, *nodes = messages(files_of(folder)[0].read_bytes())
    assert dict(first)[1] == b"1.0.0" and len(files_of(folder)) == 8
    by_name = {dict(node)[2].decode(): dict(node) for node in reversed(nodes)}
    kinds = {name: node[3] for name, node in by_name.items()}
    assert kinds == {"gather": 7, "multiply": 4, "move": 5, "give": 7, "sum": 7, "tell": 5, "last": 7}  # NodeType
    listed = {o["name"]: o for o in result["operations"]}
    given = {dict(node)[2].decode(): attributes(node) for node in reversed(nodes)}
    assert given["multiply"]["num_ops"][9] == 10**10 and given["multiply"]["tensor_size"][13] == 20_000_000
    assert (given["gather"]["comm_type"].get(9, 0), given["gather"]["comm_size"][9]) == (2, 3_000_000 // 8)  # ALL_GATHER
    assert (given["last"]["comm_type"][9], given["last"]["comm_size"][9]) == (7, 1_000_000)  # REDUCE_SCATTER
    assert given["last"]["involved_dim"][28] == b"\n\x02\x01\x00" and given["sum"]["pg_name"][29] == b"sum 0"
    assert given["move"]["comm_dst"][7] == 2  # chip (1, 0), in C order
    number = {dict(node).get(1, 0): dict(node)[2].decode() for node in nodes}
    waits = {name: {number[i] for i in node.get(5, b"")} for name, node in by_name.items()}  # packed, each below 128
    assert waits == {"gather": set(), "multiply": set(), "move": {"gather"}, "give": {"multiply"}, "sum": {"give", "move"},
                     "tell": {"sum"}, "last": {"tell"}}
    assert by_name["multiply"][7] == round((listed["multiply"]["end_s"] - listed["multiply"]["start_s"]) * 1e6)
    assert json.loads((folder / "chakra/comm_groups.json").read_text())["sum 1"] == [2, 3]


def test_an_all_to_all_with_a_matrix_comes_back_with_it(tmp_path):
    text = BARE[:BARE.index("program:")] + """program:
  - {name: exchange, collective: all_to_all, axes: y, matrix: [[0, 1 MB], [3 MB, 1 MB]]}
"""
    folder, result = ran(tmp_path, text, "--chakra", "--trace-chips", "all")
    scenario = back(folder, text)
    assert scenario.program.block[0].matrix.array.tolist() == [[0, 1e6], [3e6, 1e6]]
    assert run(scenario).keys["makespan_s"] == pytest.approx(result["makespan_s"], rel=1e-9)


def test_a_chip_has_the_flop_of_its_own_case():
    net = grid(torus((2, 2), bandwidth=1e9))
    cases = tuple(Compute("case", flops=size) for size in (1e9, 3e9))
    program = Program((Compute("work", flops=3e9, over=("y",), cases=cases),))
    timeline = simulate(program, net, V4)
    found = {name: attributes(messages(content)[1])["num_ops"][9] for name, content in files(
        Shown(timeline, net, range(4), program, facts(timeline, V4, {})))}
    assert found == {f"trace.{chip}.et": (10**9, 3 * 10**9)[chip % 2] for chip in range(4)}


def test_a_program_that_was_written_and_read_takes_the_same_time(tmp_path):
    folder, result = ran(tmp_path, BARE, "--chakra", "--trace-chips", "all")
    scenario = back(folder, BARE)
    assert run(scenario).keys["makespan_s"] == pytest.approx(result["makespan_s"], rel=1e-9)
    assert "a Chakra trace of 8 chips: 1 computations" in scenario.notes[-1]
    assert run(scenario.resolved).keys["makespan_s"] == pytest.approx(result["makespan_s"], rel=1e-9)  # without the files


def test_a_model_without_loops_that_was_written_and_read_takes_the_same_time(tmp_path):
    """But for the time to put the messages of an all-to-all together, which a scenario's program does not know."""
    text = SMALL.replace("attention: batch", "attention: batch, overlap: false")
    folder, _ = ran(tmp_path, text, "--chakra", "--trace-chips", "all")
    scenario = load(tmp_path / "small.yaml")
    program = last_program(scenario)
    assert program == unlooped(program)
    program = program.replaced({o.name: replace(o, pieces=0.0) for o in program.operations() if isinstance(o, Collective)})
    want = simulate(program, scenario.net, scenario.chip).makespan
    assert run(back(folder, text)).keys["makespan_s"] == pytest.approx(want, rel=1e-9)


def test_a_model_with_loops_takes_longer_when_it_is_read_back_as_nothing_is_looped(tmp_path):
    folder, result = ran(tmp_path, SMALL, "--chakra", "--trace-chips", "all")
    assert run(back(folder, SMALL)).keys["makespan_s"] > 1.001 * result["makespan_s"]


def test_without_our_attributes_the_operations_are_the_same_but_for_whole_bytes(tmp_path):
    text = BARE.replace(", algorithm: sequential", "").replace("root: [1, 1], ", "")
    folder, _ = ran(tmp_path, text, "--chakra", "--trace-chips", "all")
    groups = json.loads((folder / "chakra/comm_groups.json").read_text())
    traces = [Trace(path.name, read(path.read_bytes())[1]) for path in files_of(folder)]
    plain = [replace(trace, nodes=[replace(node, attributes={key: value for key, value in node.attributes.items()
                                                             if key not in (MARK, SECONDS)}) for node in trace.nodes])
             for trace in traces]
    ours, theirs = (operations(one, AXES, V4, compute="roofline", groups=groups) for one in (traces, plain))
    kept = [one for one in ours[0] if one["name"] not in ("move", "tell")]
    assert [one["name"] for one in theirs[0]] == [one["name"] for one in kept]
    for a, b in zip(kept, theirs[0]):
        assert a.get("collective") == b.get("collective")
        assert b.get("bytes", 0.0) == pytest.approx(a.get("bytes", 0.0), abs=8)
        assert a.get("groups", [a["chips"]] if "chips" in a else None) == b.get("groups")
        assert sorted(a.get("axes", [])) == sorted(b.get("axes", []))
        assert "flops" not in a or (a["flops"], a["hbm_bytes"]) == (b["flops"], b["hbm_bytes"]) == (1e10, 2e7)
    assert {one["name"]: one["after"] for one in theirs[0]}["last"] == ["sum"], "of what is left out the dependencies stay"
    assert "2 metadata" not in theirs[1][1] and "point-to-point nodes" in theirs[1][1]


def test_a_trace_of_one_chip_stands_for_all(tmp_path):
    folder, result = ran(tmp_path, BARE, "--chakra", "--trace-chips", "0,0")
    (folder / "back.yaml").write_text(BARE.split("program:")[0] + "program: {chakra: chakra/trace.0.et}\n")
    assert run(folder / "back.yaml").keys["makespan_s"] == pytest.approx(result["makespan_s"], rel=1e-9)


# What is not understood

def node(number, kind="COMP_NODE", *after, name="", us=0, **given):
    types = {bool: "bool", int: "int64", float: "double", str: "string", list: "bool_list"}
    return Node(number, name or f"node {number}", kind, after, 0, us,
                {key: Typed(types[type(value)], value) for key, value in given.items()})


def taken(*nodes, **choices):
    """Return the operations and the words of one trace."""
    return operations([Trace("trace.et", read(written(nodes, {}))[1])], AXES, V4, **choices)


def test_there_is_a_word_for_each_thing_that_was_not_understood():
    found, said = taken(
        node(0, "METADATA_NODE"), node(1, "MEM_LOAD_NODE", tensor_size=5), node(2, "MEM_STORE_NODE", 1),
        node(3, "COMP_NODE", 2, us=90, name="a kernel"), node(4, "COMM_SEND_NODE", 3, comm_size=7), node(5, "COMM_RECV_NODE", 4),
        node(6, "COMM_COLL_NODE", 5, comm_type=9), node(7, "COMM_COLL_NODE", 6, comm_type=77), node(8, "INVALID_NODE", 7),
        node(9, "COMP_NODE", 8, us=5, is_cpu_op=True, tid=3), node(10, "COMP_NODE", 9, us=50, name="a kernel", stream=4),
        node(11, "COMM_COLL_NODE", 10, 99, comm_type=0, comm_size=1000, pg_name="dp", comm_priority=1), node(12, us=0))
    assert [one["name"] for one in found] == ["a kernel", "a kernel 2", "node 11", "node 12"]
    assert [one["after"] for one in found] == [[], ["a kernel"], ["a kernel 2"], []]
    assert found[2] == {"name": "node 11", "after": ["a kernel 2"], "collective": "all_reduce", "axes": ["x", "y"],
                        "bytes": 1000.0}
    seconds = [one["flops"] / V4.rate("bf16") / V4.matmul_efficiency + V4.op_overhead for one in found[:2]]
    assert seconds == pytest.approx([90e-6, 50e-6])
    assert said[1] == ("left out of the trace: 1 barrier node, 1 host node, 1 invalid node, 2 memory nodes, 1 metadata node, "
                       "2 point-to-point nodes, 1 unknown collective node")
    assert said[2] == "attributes of the trace that were not read: comm_priority (1), stream (1), tid (1)"
    assert said[3].startswith(f"1 computations are shorter than the overhead of an operation, {show(V4.op_overhead, 's')}")
    assert said[4] == "1 dependencies of the trace are on nodes that are not in it" and "process group 'dp'" in said[5]


def test_a_computation_takes_its_time_or_what_the_chip_makes_of_it():
    both = node(0, us=100, num_ops=10**9, tensor_size=10**6)
    assert taken(both, compute="roofline")[0][0] == {"name": "node 0", "after": [], "flops": 1e9, "hbm_bytes": 1e6}
    assert "hbm_bytes" not in taken(both)[0][0]
    assert taken(node(0, num_ops=10**9))[0][0]["flops"] == 1e9


def test_computations_take_the_mean_of_the_chips():
    traces = [Trace(f"{i}", [node(0, us=us)]) for i, us in enumerate((100, 140))]
    traces = [replace(trace, nodes=[replace(one, attributes={}) for one in trace.nodes]) for trace in traces]
    (found,), said = operations(traces, AXES, V4)
    assert found["flops"] / V4.rate("bf16") / V4.matmul_efficiency + V4.op_overhead == pytest.approx(120e-6)
    assert "differ by up to 33%" in said[-1]


@pytest.mark.parametrize("nodes, code", [
    ([node(0, "COMP_NODE", 1), node(1, "COMP_NODE", 0)], "cycle"),
    ([node(0), node(0)], "duplicate"), ([node(0, "MEM_LOAD_NODE")], "value"), ([], "value"),
    ([node(0, "COMM_COLL_NODE", comm_size=5, involved_dim=[False, False, True])], "clash"),
    ([node(0, "COMM_COLL_NODE", **{MARK: "[1]"})], "value")])
def test_a_trace_that_is_no_program_is_one_message(nodes, code):
    with pytest.raises(FileError) as raised:
        taken(*nodes)
    assert raised.value.code == code


@pytest.mark.parametrize("data", [b"", b"not a trace of anything\n", b"\xff\xff\xff\xff\xff\xff", b"PK\x03\x04" * 50,
                                  written([node(0)], {})[:-3], b'{"traceEvents": []}'])
def test_a_file_that_is_no_trace_is_told(tmp_path, data):
    (tmp_path / "trace.et").write_bytes(data)
    (tmp_path / "a.yaml").write_text(BARE.split("program:")[0] + "program: {chakra: trace.et}\n")
    said = invoke("run", tmp_path / "a.yaml", "-o", tmp_path / "out", code=2)
    assert said.stderr.startswith(f"{tmp_path / 'a.yaml'}:4:19: chakra: trace.et: ") and "Chakra execution trace" in said.stderr
    assert said.stderr.count("\n") == 1 and not (tmp_path / "out").exists()


def test_every_file_is_cut_off_somewhere_without_a_traceback():
    data = written([node(0, us=3), node(1, "COMM_COLL_NODE", 0, comm_type=2, comm_size=10**6, involved_dim=[True])], {})
    for end in range(len(data)):
        try:
            read(data[:end])
        except FileError as error:
            assert error.code == "value"


@pytest.mark.parametrize("program, code, path", [
    ("{chakra: none.et}", "unreadable", ("program", "chakra")), ("{chakra: trace.%d.et}", "unreadable", ("program", "chakra")),
    ("{chakra: trace.0.et, compute: guess}", "unknown-name", ("program", "compute")),
    ("{chakra: trace.0.et, groups: none.json}", "syntax", ("program", "groups")),
    ("{chakra: trace.0.et, groups: groups.json}", "value", ("program", "groups")),
    ("{chakra: trace.0.et, axis: x}", "unknown-key", ("program", "axis")), ("{chakra: 3}", "value", ("program", "chakra"))])
def test_mistakes_about_traces_have_their_place(tmp_path, program, code, path):
    (tmp_path / "trace.0.et").write_bytes(written([node(0, us=3)], {}))
    (tmp_path / "groups.json").write_text('{"dp": [0, 99]}')
    (tmp_path / "a.yaml").write_text(BARE.split("program:")[0] + f"program: {program}\n")
    with pytest.raises(ScenarioError) as raised:
        load(tmp_path / "a.yaml")
    assert [(one.code, one.path) for one in raised.value.mistakes] == [(code, path)]


def test_chips_that_run_other_operations_are_named(tmp_path):
    for number in range(8):
        nodes = [node(0, us=3), node(1, us=number, **{MARK: json.dumps({"a": number == 5})})]
        (tmp_path / f"trace.{number}.et").write_bytes(written(nodes, {}))
    (tmp_path / "a.yaml").write_text(BARE.split("program:")[0] + "program: {chakra: trace.%d.et}\n")
    with pytest.raises(ScenarioError) as raised:
        load(tmp_path / "a.yaml")
    (mistake,) = raised.value.mistakes
    assert mistake.code == "clash" and "trace.5.et and trace.0.et are not the same program: operation 2" in mistake.text


def test_without_protobuf_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "google.protobuf", None)
    (tmp_path / "a.yaml").write_text(BARE)
    with pytest.raises(FileError, match=r"torussim\[chakra\]") as raised:
        CliRunner().invoke(cli, ["run", str(tmp_path / "a.yaml"), "-o", str(tmp_path / "out"), "--chakra"],
                           standalone_mode=False, catch_exceptions=False)
    assert raised.value.code == "missing-library" and not (tmp_path / "out").exists()


def test_a_run_without_chakra_removes_old_traces(tmp_path):
    folder, _ = ran(tmp_path, BARE, "--chakra", "--trace-chips", "all")
    ran(tmp_path, BARE, "--chakra", "--trace-chips", "0,0")
    assert [path.name for path in files_of(folder)] == ["trace.0.et"]
    ran(tmp_path, BARE)
    assert not files_of(folder) and not (folder / "chakra/comm_groups.json").exists()
