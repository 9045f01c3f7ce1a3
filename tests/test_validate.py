"""What was measured beside what is predicted: the arithmetic of the errors, the cases, the command."""

import json
import re
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.collections import PolyCollection
from matplotlib.text import Text
from test_measurements import ALONE, GOOD

from torussim import run, simulate
from torussim.cases import case
from torussim.chips import chip
from torussim.cli import cli
from torussim.closed_forms import estimate
from torussim.measurements import USE, read
from torussim.plot import validation_figure
from torussim.scenario import load, read_document
from torussim.topology.grid import grid
from torussim.validate import ALL, Summary, validate

ROOT = Path(__file__).resolve().parent.parent
NOTHING = {"simulated": None, "paper": None}
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


def cells(text):
    """Return the cells of the table of sets, from the line of its heads on."""
    return [re.split(r"  +", line.strip()) for line in text[text.index("  set  "):].split("\n\n")[0].splitlines()]


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


@pytest.fixture(scope="module")
def package():
    return validate()


def test_all_sets_of_the_package_are_predicted_and_nearer_than_by_the_papers_model(package):
    assert not package.mistakes
    assert list(package.sets()) == sorted(path.stem for path in (ROOT / "torussim/data/measurements").iterdir())
    assert all(one["simulated"]["points"] > 0 for one in package.keys()["sets"])
    errors = package.keys()["all"]
    assert errors["simulated"]["mape"] < errors["paper"]["mape"] / 3


def test_every_point_of_the_package_is_told_to_be_fitted_or_predicted(package):
    assert [(row.set, row.measurement.name) for row in package.rows if row.measurement.use not in USE] == []


def test_a_line_of_the_table_of_sets_has_the_mean_worst_and_bias_of_its_rows(package):
    head, *lines = list(cells(package.text()))
    assert head == ["set", "chip", "use", "points", "MAPE", "worst", "bias", "points", "MAPE"]
    lines = {line[0]: line[-6:] for line in lines}
    for name, rows in package.sets().items():
        errors = [row.error for row in rows if not row.measurement.twin]
        assert lines[name][:4] == [str(len(errors)), f"{sum(map(abs, errors)) / len(errors):.1%}",
                                   f"{max(errors, key=abs):+z.1%}", f"{sum(errors) / len(errors):+z.1%}"]
    assert lines[ALL][0] == str(len(package.points)) == str(sum(int(lines[name][0]) for name in package.sets()))
    assert sum(int(line[0]) for name, line in lines.items() if name in ("all fitted", "all predicted")) == len(package.points)


def test_details_have_every_row_of_every_set_and_the_table_of_sets(package):
    text, details = package.text(), package.text(details=True)
    shown = [line.strip() for line in details.splitlines()]
    for row in package.rows:
        assert any(line.startswith(row.measurement.name) and f"{row.error:+z.1%}" in line for line in shown), row
        assert f"\n{row.measurement.group} ({row.set})" in f"\n{details}"
    assert all(line in shown for one in text.split("\n\n")[:1] for line in map(str.strip, one.splitlines()))
    assert len(text.splitlines()) <= len(package.sets()) + 9


def test_uses_are_those_of_the_row_else_the_group_else_the_file_and_are_summed_apart(file, alone):
    file.write_text("use: predicted\n" + GOOD.replace("{time: 1 ms}", "{time: 1 ms, use: fitted}"))
    small = ALONE.replace("name: small", "name: small, use: predicted")
    alone.write_text(small.replace("    scenario", "    use: fitted\n    scenario"))
    found = validate([file, alone])
    assert [row.measurement.use for row in found.rows] == ["fitted", "predicted", "predicted", "fitted", "predicted"]
    keys = found.keys()
    for use in USE:
        errors = [row.error for row in found.points if row.measurement.use == use]
        assert keys[use]["simulated"] == {"points": 2, "mape": pytest.approx(sum(map(abs, errors)) / 2),
                                          "worst": max(errors, key=abs), "bias": pytest.approx(sum(errors) / 2)}
    assert [(one["set"], one["fitted"], one["predicted"]) for one in keys["sets"]] == [(str(file), 1, 1), (str(alone), 1, 1)]
    lines = {line[0]: line for line in cells(found.text())}
    assert lines[str(file)][2] == "1 fitted, 1 predicted" and {"all fitted", "all predicted"} < set(lines)


def test_a_file_that_does_not_say_what_was_fitted_counts_as_neither(file, alone):
    found = validate([file, alone])
    keys = found.keys()
    assert {row["use"] for row in keys["rows"]} == {None} and keys["fitted"] == keys["predicted"] == NOTHING
    lines = {line[0]: line for line in cells(found.text())}
    assert lines[str(file)][2] == "not told" and "all not told" in lines and "all fitted" not in lines


# -- the command --------------------------------------------------------------------------------------------------------


def test_the_table_has_every_group_row_and_summary(file, alone):
    result = invoke(file, alone, "--details")
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert f"decode ({file}): a bench" in lines and f"all-gather ({alone})" in lines
    assert sum("batch 8, 2x2x2" in line for line in lines) == 2 and any("twin: another day" in line for line in lines)
    assert any("measured, ms" in line for line in lines) and any("measured, us" in line for line in lines)
    assert any(line.split()[:4] == ["all", "distinct", "points", "4"] for line in lines)
    assert "Incomplete" not in result.stdout


def test_with_no_file_all_sets_of_the_package_are_meant(package, monkeypatch):
    def held_against(files, **_):
        assert not files
        return package

    monkeypatch.setattr("torussim.validate.validate", held_against)
    for options, text in ([], package.text()), (["--details"], package.text(details=True)), (["--json"], package.json()):
        result = invoke(*options)
        assert result.exit_code == 0 and result.stdout == f"{text}\n"
    assert [row["set"] for row in json.loads(package.json())["rows"]] == [row.set for row in package.rows]


def test_a_set_of_the_package_has_its_name_also_by_its_path():
    path = ROOT / "torussim" / "data" / "measurements" / "tpu-v5e.yaml"
    by_name, by_path = validate(["tpu-v5e"]), validate([path])
    assert list(by_name.sets()) == list(by_path.sets()) == ["tpu-v5e"] and by_name.text() == by_path.text()
    assert by_name.text() == by_name.text(details=True)


def test_a_file_that_is_given_twice_counts_once(alone):
    assert validate([alone, str(alone)]).text() == validate([alone]).text()


def test_a_broken_file_leaves_the_other_sets_of_the_table(file, alone):
    file.write_text("groups: [\n")
    result = invoke(file, alone)
    assert result.exit_code == 2 and result.stderr.startswith(f"{file}:2:1: ")
    lines = {line[0]: line[1:] for line in cells(result.stdout)}
    assert lines[str(file)] == ["-", "-", "0", *["-"] * 5] and lines[str(alone)][2] == "2"
    assert [one["simulated"] and one["simulated"]["points"] for one in validate([file, alone]).keys()["sets"]] == [None, 2]


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
        assert {line[0]: line[3] for line in cells(result.stdout)}[str(file)] == "0"
        assert result.stdout.splitlines()[-1].startswith("Incomplete: ")


def test_where_no_row_is_sound_the_table_says_so(file):
    file.write_text(GOOD.replace("palm-8b", "palm-9b"))
    result = invoke(file)
    assert result.exit_code == 2 and "No row can be simulated." in result.stdout
    assert json.loads(invoke(file, "--json").stdout)["all"] == NOTHING


# -- the picture --------------------------------------------------------------------------------------------------------


def marks(figure, name):
    """Return the outlines of the markers of a picture that have this name."""
    return [path for group in figure.findobj(PolyCollection) if group.get_gid() == name for path in group.get_paths()]


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


def test_the_picture_has_each_distinct_point_in_both_panels_and_the_papers_model_in_one(package):
    figure = validation_figure(package, title="t")
    keys = sum(bool({row for row in rows if row.measurement.use == use}) for rows in package.sets().values() for use in USE)
    assert len(marks(figure, "error")) == len(package.points)
    assert len(marks(figure, "simulated")) == len(package.points) + keys
    assert len(marks(figure, "the paper's model")) == sum(row.paper is not None for row in package.points) + 1  # the legend's
    assert set(package.sets()) <= set(texts(figure))


def test_markers_of_a_row_are_within_the_picture_and_do_not_meet(package):
    figure = validation_figure(package)
    width, height = 100 * figure.get_size_inches()
    places = np.array([path.vertices[:-1].mean(axis=0) for path in marks(figure, "error")])
    assert (places > 0).all() and (places < (width, height)).all()
    apart = np.hypot(*(places[:, None] - places[None]).T)
    assert apart[~np.eye(len(places), dtype=bool)].min() > 8


def test_predicted_points_are_hollow_and_one_set_is_shown_by_its_groups(file):
    file.write_text("use: predicted\n" + GOOD.replace("{time: 1 ms}", "{time: 1 ms, use: fitted}"))
    figure = validation_figure(validate([file]))
    assert len(marks(figure, "error")) == 2 and len(marks(figure, "inside of error")) == 1
    assert texts(figure).count("decode") == 2 and str(file) not in texts(figure)


def test_networks_with_switches_are_told_from_links_between_chips(package):
    """A circle has 24 corners, a square four."""
    corners = {len(path.vertices) - 1 for path in marks(validation_figure(validate(["tpu-v5e"])), "error")}
    assert corners == {24}
    assert {len(path.vertices) - 1 for path in marks(validation_figure(package), "error")} == {4, 24}


def test_a_picture_of_nothing_can_be_drawn(file):
    file.write_text(GOOD.replace("palm-8b", "palm-9b"))
    assert validation_figure(validate([file])).get_size_inches()[0] > 1


def test_picture_and_table_of_the_page_can_be_made_again_and_the_table_is_what_the_command_says(tmp_path, package, monkeypatch):
    """`python plots/validation.py` makes both anew."""
    monkeypatch.setattr("torussim.validate.validate", lambda: package)
    page = tmp_path / "validation.md"
    page.write_text((ROOT / "docs" / "validation.md").read_text())
    runpy.run_path(str(ROOT / "plots" / "validation.py"))["main"](tmp_path, page)
    assert (tmp_path / "validation.png").read_bytes()[:4] == b"\x89PNG"
    assert page.read_text() == (ROOT / "docs" / "validation.md").read_text()
    assert f"$ torussim validate\n{package.text()}\n```" in page.read_text()


def test_the_keys_of_the_json_are_those_of_the_page(package):
    """docs/validation.md has a row for each key, and the keys within `rows`, `groups` and `sets`."""
    rows = re.findall(r"^\| (`.+?`) \| (.+) \|$", (ROOT / "docs" / "validation.md").read_text().split("| key |")[1], re.M)
    told = {name: set(re.findall(r"`(\w+)`", content)) for names, content in rows for name in re.findall(r"`(\w+)`", names)}
    keys = package.keys()
    assert set(keys) <= set(told)
    assert all(set(one) == told[name] for name in ("rows", "groups", "sets") for one in keys[name])
    assert all(set(keys[use]) | set(keys["all"]["simulated"]) == told[use] for use in (*USE, "all"))
