"""What was measured beside what is predicted: the arithmetic of the errors, the cases, the command."""

import json
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from matplotlib.collections import PolyCollection
from test_measurements import ALONE, GOOD

from torussim import run, simulate
from torussim.cases import case
from torussim.chips import chip
from torussim.cli import cli
from torussim.closed_forms import estimate
from torussim.measurements import read
from torussim.plot import validation_figure
from torussim.scenario import load, read_document
from torussim.topology.grid import grid
from torussim.validate import Summary, validate

CHANGED = {"link_latency": 7e-6, "link_bandwidth": 20e9, "launch": 9e-6, "hbm_efficiency": 0.5}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "bench.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def alone(tmp_path):
    path = tmp_path / "alone.yaml"
    path.write_text(ALONE)
    return path


def invoke(*arguments):
    return CliRunner().invoke(cli, ["validate", *map(str, arguments)], standalone_mode=False)


# -- cases --------------------------------------------------------------------------------------------------------------


def test_a_step_is_what_a_run_says_it_takes(file):
    file.write_text(GOOD.replace("tokens: 1", "tokens: 3").replace("what: layers", "what: step"))
    for row in read(file).rows:
        assert case(row).simulated(row.scenario.chip) == pytest.approx(run(row.scenario).step_s, rel=1e-12)


def test_a_prefill_in_chunks_takes_the_sum_of_its_passes(file):
    chunks = "phase: prefill, batch: 8, context: 64, chunk: 16"
    file.write_text(GOOD.replace("phase: decode, batch: 8, context: 64, tokens: 1", chunks).replace("what: layers", "what: step"))
    (row, *_) = read(file).rows
    made = case(row)
    assert len(made.programs) == 4
    assert made.simulated(row.scenario.chip) == pytest.approx(run(row.scenario).step_s, rel=1e-12)


def test_layers_are_a_step_without_embedding_and_logits(file):
    layers, _, step = read(file).rows
    seconds = [case(row).simulated(row.scenario.chip) for row in (layers, step)]
    assert seconds[0] < seconds[1]
    (program,) = case(layers).programs
    assert not program.prologue and not program.epilogue and program.layers == 2


def test_another_chip_gives_what_the_scenario_with_that_chip_gives(file):
    for row in read(file).rows:
        other = replace(row.scenario.chip, **CHANGED)
        made, again = case(row), load({**row.scenario.resolved, "chip": {"base": "tpu-v4", **CHANGED}, "topology": {
            "kind": "torus", "shape": list(row.scenario.net.shape), "wrap": False}})
        before = made.simulated(row.scenario.chip)
        assert before != made.simulated(other)
        expected = case(replace(row, scenario=again)).simulated(again.chip)
        assert made.simulated(other) == pytest.approx(expected, rel=1e-12)
        assert made.simulated(row.scenario.chip) == before


def test_links_that_the_file_gives_stay_when_the_chip_changes(file):
    links = "links: [{axis: x, latency: 3 us}, {axis: y, scale: 0.5}, {axis: z, bandwidth: 1 GB/s}]"
    file.write_text(GOOD.replace("wrap: false}", f"wrap: false, {links}}}"))
    row = read(file).rows[0]
    net = case(row).network(replace(row.scenario.chip, **CHANGED))
    assert {axis: (net.extremes(axis).slowest, net.extremes(axis).longest) for axis in "xyz"} == {
        "x": (20e9, 3e-6), "y": (10e9, 7e-6), "z": (1e9, 7e-6)}
    assert (net.links.latency[:4] > 0).all() and set(net.links.latency) == {3e-6, 7e-6}


def test_a_bandwidth_and_a_latency_of_the_file_are_not_the_chips(file):
    file.write_text(GOOD.replace("wrap: false", "wrap: false, bandwidth: 5 GB/s, latency: 3 us"))
    row = read(file).rows[0]
    net = case(row).network(replace(row.scenario.chip, **CHANGED))
    assert set(net.links.bandwidth) == {5e9} and set(net.links.latency) == {3e-6}


def test_a_lone_collective_is_a_program_of_one_block(alone):
    for row in read(alone).rows:
        seconds = simulate(row.scenario.program, row.scenario.net, row.scenario.chip).makespan
        assert case(row).simulated(row.scenario.chip) == seconds
        assert case(row).paper() == estimate(row.scenario.program, row.scenario.net, row.scenario.chip).paper_s


def test_the_papers_model_is_that_of_the_papers_own_layout(file):
    file.write_text(GOOD.replace("what: layers", "what: step"))
    row = read(file).rows[0]
    own = load({**row.scenario.resolved, "layout": {"ffn": "ws2d", "attention": "batch"}})
    assert case(row).paper() == pytest.approx(run(own).estimate["paper"]["step_s"], rel=1e-12)
    assert case(row).paper() != pytest.approx(run(row.scenario).estimate["paper"]["step_s"], rel=1e-4)


def test_the_measured_row_can_be_read_again_from_its_document(file):
    for row in read(file).rows:
        assert read_document(row.document, row.beside).resolved == row.scenario.resolved
        assert len(grid(row.scenario.topology).chips) == len(row.scenario.net.chips)


# -- errors -------------------------------------------------------------------------------------------------------------


def test_a_summary_is_of_the_errors_that_there_are():
    found = Summary.of([0.1, None, -0.3, 0.05])
    assert (found.points, found.worst) == (3, -0.3)
    assert found.mape == pytest.approx(0.15) and found.bias == pytest.approx(-0.05)
    assert Summary.of([None]) is None


def test_errors_are_predicted_over_measured_and_twins_are_not_counted(file):
    found = validate([file])
    assert [row.error for row in found.rows] == [row.simulated / row.measurement.time - 1 for row in found.rows]
    assert [row.measurement.twin for row in found.rows] == [False, False, True] and len(found.points) == 2
    keys = found.keys()
    assert keys["all"]["simulated"]["points"] == keys["groups"][0]["simulated"]["points"] == 2
    assert keys["all"]["simulated"]["mape"] == pytest.approx(sum(abs(row.error) for row in found.points) / 2)
    assert keys["all"]["paper"]["bias"] == pytest.approx(sum(row.paper_error for row in found.points) / 2)
    assert keys["complete"] and keys["mistakes"] == []


def test_the_parameters_of_the_chips_are_in_the_json_and_make_the_same_chips(file, alone):
    keys = json.loads(validate([file, alone]).json())
    assert [chip(one) for one in keys["chips"]] == [chip("tpu-v4"), chip("tpu-v5e")]


def test_all_measurements_of_the_package_are_predicted_and_nearer_than_by_the_papers_model():
    found = validate()
    assert not found.mistakes and len(found.points) == 20
    errors = found.keys()["all"]
    assert errors["simulated"]["mape"] < errors["paper"]["mape"] / 3


# -- the command --------------------------------------------------------------------------------------------------------


def test_the_table_has_every_group_row_and_summary(file, alone):
    result = invoke(file, alone)
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert f"decode ({file}): a bench" in lines and f"all-gather ({alone})" in lines
    assert sum("batch 8, 2x2x2" in line for line in lines) == 2 and any("twin: another day" in line for line in lines)
    assert any("measured, ms" in line for line in lines) and any("measured, us" in line for line in lines)
    assert any(line.split()[:4] == ["all", "distinct", "points", "4"] for line in lines)
    assert "Incomplete" not in result.stdout


def test_with_no_file_the_packages_own_is_meant():
    result = invoke("--json")
    assert result.exit_code == 0 and len(json.loads(result.stdout)["rows"]) == 25


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_mistake_is_named_the_rest_is_printed_and_the_status_says_that_it_is_incomplete(file, alone, options):
    file.write_text(GOOD.replace("{time: 1 ms}", "{time: 1 MB}").replace("workload.batch: 16", "model: palm-9b"))
    result = invoke(file, alone, *options)
    assert isinstance(result.exception, SystemExit) and result.exit_code == 2
    places = [line.split(": ")[0] for line in result.stderr.splitlines()]
    assert places == [f"{file}:12:16", f"{file}:13:40"]
    if options:
        keys = json.loads(result.stdout)
        assert not keys["complete"] and len(keys["mistakes"]) == 2
        assert [row["group"] for row in keys["rows"]] == ["decode", "all-gather", "all-gather"]
    else:
        assert "another day" in result.stdout and "bytes 34 MB" in result.stdout
        assert result.stdout.splitlines()[-1].startswith("Incomplete: ")


def test_where_no_row_is_sound_the_table_says_so(file):
    file.write_text(GOOD.replace("palm-8b", "palm-9b"))
    result = invoke(file)
    assert result.exit_code == 2 and "No row can be simulated." in result.stdout
    assert json.loads(invoke(file, "--json").stdout)["all"] == {"simulated": None, "paper": None}


# -- the picture --------------------------------------------------------------------------------------------------------


def test_the_picture_has_each_distinct_point_twice_for_each_model(file, alone):
    found = validate([file, alone])
    figure = validation_figure(found, title="t")
    for name in ("torussim, simulated", "the paper's model"):
        groups = [group for group in figure.findobj(PolyCollection) if group.get_gid() == name]
        assert sum(len(group.get_paths()) for group in groups) == 2 * len(found.points) + 1  # and the legend's


def test_a_picture_of_nothing_can_be_drawn(file):
    file.write_text(GOOD.replace("palm-8b", "palm-9b"))
    assert validation_figure(validate([file])).get_size_inches()[0] > 1


def test_the_picture_of_the_readme_can_be_drawn_again(tmp_path):
    script = Path(__file__).resolve().parent.parent / "plots" / "validation.py"
    runpy.run_path(str(script))["main"](tmp_path)
    assert (tmp_path / "validation.png").read_bytes()[:4] == b"\x89PNG"
