"""Files of measurements: what a row is made of, and every mistake at its place while the other rows go on."""

import pytest

from torussim import measurements
from torussim.measurements import read

GOOD = """\
chip: tpu-v4
source: a bench
groups:
  - name: decode
    what: layers
    scenario:
      model: {base: palm-8b, layers: 2}
      topology: {kind: torus, shape: [2, 2, 2], wrap: false}
      layout: {ffn: ws2d_code, attention: batch}
      workload: {phase: decode, batch: 8, context: 64, tokens: 1}
    measured:
      - {time: 1 ms}
      - {time: 1.5 ms, change: {workload.batch: 16, topology.shape: [2, 2, 4]}}
      - {time: 1.1 ms, what: step, twin: true, source: another day}
"""
ALONE = """\
chip: tpu-v5e
groups:
  - name: all-gather
    scenario:
      topology: {kind: mesh, shape: [4]}
      program: [{name: gather, collective: all_gather, axes: x, bytes: 34 MB}]
    measured:
      - {time: 680 us}
      - {time: 8 us, name: small, change: {program.0.bytes: 128 kB}}
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "bench.yaml"
        path.write_text(text)
        return path
    return write


def test_the_points_of_the_paper_are_all_there_each_with_a_source():
    found = read(measurements.found(measurements.DEFAULT))
    assert not found.mistakes
    points = [row for row in found.rows if not row.twin]
    assert len(points) == 31 and len(found.rows) == 36
    sizes = {group: sum(row.group == group for row in points) for group in dict.fromkeys(row.group for row in found.rows)}
    assert sizes == {"decode bf16": 7, "decode int8": 4, "prefill ws2d": 5, "prefill wg": 2, "Fig. 6 ws2d": 2, "Fig. 6 ws1d": 3,
                     "Fig. 8": 6, "PaLM 8B": 2}
    assert all(row.source and row.scenario.layouts for row in found.rows)
    assert all(layout.ffn.endswith("_code") for row in found.rows for layout in row.scenario.layouts.values())
    assert {len(row.scenario.net.chips) for row in found.rows} == {8, 64, 128, 256}


def test_a_twin_of_the_package_is_a_point_that_another_row_has():
    rows = read(measurements.found(measurements.DEFAULT)).rows
    times = [row.time for row in rows if not row.twin]
    for twin in (row for row in rows if row.twin):
        assert min(abs(twin.time / time - 1) for time in times) < 0.04  # the paper's own spread


def test_a_row_is_the_groups_scenario_with_its_changes(written):
    first, second, third = read(written(GOOD)).rows
    assert (first.time, first.what, first.twin, first.source) == (1e-3, "layers", False, "a bench")
    assert (third.time, third.what, third.twin, third.source) == (1.1e-3, "step", True, "another day")
    assert first.scenario.workload.batch == third.scenario.workload.batch == 8 and second.scenario.workload.batch == 16
    assert len(first.scenario.net.chips) == 8 and len(second.scenario.net.chips) == 16
    assert [row.name for row in (first, second)] == ["batch 8, 2x2x2", "batch 16, 2x2x4"]
    assert [row.mark.line for row in (first, second, third)] == [12, 13, 14]
    assert first.scenario.chip.name == "tpu-v4"


def test_a_row_can_be_a_lone_collective(written):
    large, small = read(written(ALONE)).rows
    assert large.scenario.program.block[0].bytes == 34e6 and small.scenario.program.block[0].bytes == 128e3
    assert (large.name, small.name) == ("bytes 34 MB", "small")


def test_a_chip_of_the_groups_own_counts_more_than_the_files(written):
    found = read(written(GOOD.replace("    scenario:\n", "    scenario:\n      chip: tpu-v5p\n")))
    assert {row.scenario.chip.name for row in found.rows} == {"tpu-v5p"}


@pytest.mark.parametrize("old, new, place, text, left", [
    ("{time: 1 ms}", "{}", "12:9", "a measurement lacks 'time': write it", 2),
    ("{time: 1 ms}", "{time: 1 MB}", "12:16", "time: '1 MB' is a number of bytes, not a time", 2),
    ("{time: 1 ms}", "{time: 0 s}", "12:16", "time: '0 s' is not a time that can be used: must be above 0", 2),
    ("{time: 1 ms}", "{time: }", "12:10", "time: no value is given", 2),
    ("{time: 1 ms}", "{tiem: 1 ms}", "12:10", "'tiem' is not a key of a measurement: did you mean 'time'?", 2),
    ("{time: 1 ms}", "{time: 1 ms, what: layer}", "12:28", "did you mean 'layers'?", 2),
    ("{time: 1 ms}", "{time: 1 ms, use: fited}", "12:27", "did you mean 'fitted'?", 2),
    ("source: a bench", "use: all", "2:6", "'all' is not a kind of use: one of fitted, predicted", 3),
    ("    what: layers\n", "    use: 3\n", "5:10", "is not a kind of use: one of fitted, predicted", 0),
    ("{time: 1 ms}", "{time: 1 ms, twin: yes}", "12:28", "twin: 'yes' is not true or false", 2),
    ("{time: 1 ms}", "{time: 1 ms, change: 3}", "12:30", "change: '3' is not a mapping", 2),
    ("{time: 1 ms}", "[1 ms]", "12:9", "'[1 ms]' is not a mapping: a measurement needs keys such as time", 2),
    ("workload.batch: 16", "workload.batsh: 16", "13:33", "'batsh' is not a key of workload: did you mean 'batch'?", 2),
    ("workload.batch: 16", "workload.batch: 16 GB", "13:49", "batch: '16 GB' is not a whole number", 2),
    ("workload.batch: 16", "workload..batch: 16", "13:33", "'workload..batch' is no way to a value", 2),
    ("workload.batch: 16", "workload.batch.x: 16", "13:33", "cannot set 'x' in 'workload.batch', which is 8", 2),
    ("workload.batch: 16", "model: palm-54b", "13:40", "'palm-54b' is not a model: did you mean 'palm-540b'?", 2),
    ("workload.batch: 16", "topology.events: [{time: 1 us, axis: x, scale: 0.5}]", "13:9", "changes in mid-run", 2),
    (", topology.shape: [2, 2, 4]}", ", workload.batch: 8}", "13:53", "'workload.batch' is given twice", 2),
    ("workload.batch: 16, topology.shape: [2, 2, 4]", "workload.batch: 8", "13:9", "the same point as line 12", 2),
    ("palm-8b", "palm-8", "7:21", "'palm-8' is not a model: did you mean 'palm-8b'?", 0),
    ("    what: layers\n", "", None, None, 3),
    ("chip: tpu-v4\n", "chip: tpu-v44\n", "1:7", "'tpu-v44' is not a chip: did you mean 'tpu-v4'?", 0),
    ("layout: {", "layout: {ffn: ws2d, ", "9:27", "'ffn' is given twice", 0),
    ("chip: tpu-v4\n", "chip: tpu-v4\nchip: tpu-v3\n", "2:1", "'chip' is given twice", 0),
    ("chip: tpu-v4\n", "", "6:7", "the scenario lacks 'chip'", 0),
    ("source: a bench", "sauce: a bench", "2:1", "'sauce' is not a key of a file of measurements: did you mean 'source'?", 3),
    ("  - name: decode\n    what", "  - what", "4:5", "a group lacks 'name': write it", 0),
])
def test_a_mistake_has_its_line_and_column_and_the_other_rows_go_on(written, old, new, place, text, left):
    assert GOOD.count(old) == 1 or old == "chip: tpu-v4\n"
    path = written(GOOD.replace(old, new))
    found = read(path)
    assert len(found.rows) == left
    if place is None:
        assert not found.mistakes
        return
    (mistake,) = found.mistakes
    assert str(mistake).startswith(f"{path}:{place}: ") and text in mistake.text


def test_all_mistakes_of_a_file_are_told_at_once_each_once(written):
    text = GOOD.replace("{time: 1 ms}", "{time: 1 MB}").replace("workload.batch: 16", "workload.batch: many")
    found = read(written(text.replace("attention: batch", "attention: bach")))
    assert [mistake.mark.line for mistake in found.mistakes] == [9, 12, 13] and not found.rows


@pytest.mark.parametrize("content, text", [
    ("groups: []\n", ":1:9: groups: '[]' is not a list with something in it"),
    ("chip: tpu-v4\n", ":1:1: a file of measurements lacks 'groups'"),
    ("groups: [{name: a, scenario: {}, measured: 5}]\n", ":1:44: measured: '5' is not a list with something in it"),
    ("groups: [{name: a, scenario: 5, measured: [{time: 1}]}]\n", ":1:30: scenario: '5' is not a mapping"),
    ("groups: [\n", ":2:1: the text ends where a value is expected"),
    ("", ":1:1: the file is empty"),
    ("just a text\n", ":1:1: 'just a text' is not a mapping: a file of measurements needs keys such as groups"),
])
def test_a_file_without_rows_is_refused_with_the_reason(written, content, text):
    path = written(content)
    found = read(path)
    assert not found.rows and f"{path}{text}" in "\n".join(map(str, found.mistakes))


def test_a_file_that_is_not_there_is_a_mistake(tmp_path):
    (mistake,) = read(tmp_path / "none.yaml").mistakes
    assert "cannot be read" in mistake.text


def test_the_form_shown_in_the_module_is_read(written):
    shown = measurements.__doc__.split("\n\n")[1]
    scenario = "{model: palm-8b, topology: {shape: [2, 2, 2]}, workload: {phase: decode, batch: 8, context: 64}}"
    found = read(written(shown.replace("{...}", scenario)))
    assert not found.mistakes and [row.twin for row in found.rows] == [False, False, True]
