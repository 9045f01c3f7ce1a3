"""Fitting a chip to measured times: what the times were made with comes back, and what they do not tell is said."""

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from test_measurements import ALONE, GOOD

from torussim.calibrate import CONSTRAINED, PRIORS, SPREAD, _Fit, _held, calibrate
from torussim.cases import case
from torussim.chips import chip
from torussim.cli import cli
from torussim.errors import TorusSimError
from torussim.measurements import read
from torussim.scenario import load

LONE = """\
chip: tpu-v5e
groups:
  - name: all-gather
    scenario:
      topology: {kind: mesh, shape: [4]}
      program: [{name: gather, collective: all_gather, axes: x, bytes: 34 MB}]
    measured:
      - {time: TIME, change: {program.0.bytes: 128 kB}}
      - {time: TIME, change: {program.0.bytes: 256 kB}}
      - {time: TIME, change: {program.0.bytes: 34 MB}}
      - {time: TIME, change: {program.0.bytes: 60 MB}}
  - name: over 8
    scenario:
      topology: {kind: mesh, shape: [8]}
      program: [{name: gather, collective: all_gather, axes: x, bytes: 34 MB}]
    measured:
      - {time: TIME, change: {program.0.bytes: 64 kB}}
      - {time: TIME, change: {program.0.bytes: 128 kB}}
      - {time: TIME, change: {program.0.bytes: 80 MB}}
"""
TRUE = {"link_efficiency": 0.97, "launch": 4.2e-6, "link_latency": 1.3e-6}


def made(tmp_path, text, **true):
    """Write the file with the times that a chip with these numbers would take."""
    path = tmp_path / "bench.yaml"
    path.write_text(text.replace("TIME", "1 ms"))
    for row in read(path).rows:
        seconds = case(row).simulated(replace(row.scenario.chip, **true))
        text = text.replace("TIME", f"{seconds!r} s", 1)
    path.write_text(text)
    return path


def invoke(*arguments):
    return CliRunner().invoke(cli, ["calibrate", *map(str, arguments)], standalone_mode=False)


def test_what_the_times_were_made_with_comes_back_and_the_rest_stays(tmp_path):
    found = calibrate(made(tmp_path, LONE, **TRUE))
    fitted = {p.name: p for p in found.parameters}
    assert {name for name, p in fitted.items() if p.constrained} == set(TRUE)
    for name, value in TRUE.items():
        assert fitted[name].value == pytest.approx(value, rel=0.08)
        assert abs(fitted[name].value - value) < 2 * fitted[name].deviation < 2 * PRIORS[name].sigma * value
    old = chip("tpu-v5e")
    assert all(getattr(found.chip, name) == getattr(old, name) for name in PRIORS if name not in TRUE)
    assert max(map(abs, found.errors())) < SPREAD / 2
    assert max(map(abs, found.errors(left_out=True))) < 3 * SPREAD
    assert "do not constrain matmul_efficiency" in found.text()


def test_predicted_rows_are_not_fitted(tmp_path):
    path = tmp_path / "bench.yaml"
    text = "fit: {launch: {value: 5 us, sigma: 0.5}}\n" + ALONE
    path.write_text(text)
    alone = calibrate(path)
    path.write_text(text + "      - {time: 1 s, use: predicted, change: {program.0.bytes: 64 kB}}\n")
    beside = calibrate(path)
    assert [(p.value, p.deviation) for p in beside.parameters] == [(p.value, p.deviation) for p in alone.parameters]
    assert [point.name for point in beside.points] == [point.name for point in alone.points]
    path.write_text("use: predicted\n" + text)
    with pytest.raises(TorusSimError, match="there is no row to fit: twins and rows with use: predicted are left out"):
        calibrate(path)


@pytest.mark.parametrize(("away", "held"), [(0.0, 2), (0.9, 1)])
def test_what_two_parameters_explain_together_is_left_to_one_of_them_if_it_must_be_explained(away, held):
    """The points tell the product of two parameters alone, `away` from what is plausible, and nothing of a third."""
    names = ["op_overhead", "loop_step", "load_rows"]
    plausible = np.diag([1 / PRIORS[name].sigma**2 for name in names])
    together = np.array([1.0, 1.0, 0.0])
    covariance = np.linalg.inv(plausible + np.outer(together, together) / SPREAD**2)
    logs = covariance @ together * away / SPREAD**2
    values = {name: PRIORS[name].value * math.exp(log) for name, log in zip(names, logs)}
    deviations = dict(zip(names, np.sqrt(np.diag(covariance)).tolist()))
    assert all(deviations[name] > CONSTRAINED * PRIORS[name].sigma for name in names)  # the data constrain neither by itself
    found = _held(_Fit(values, deviations, covariance), PRIORS)
    assert "load_rows" in found and len(found) == 1 + held


def test_a_point_that_is_off_moves_the_fit_less_than_its_own_error(tmp_path):
    path = made(tmp_path, LONE, **TRUE)
    row = read(path).rows[3]
    path.write_text(path.read_text().replace(repr(row.time), repr(row.time * 1.5)))
    found = calibrate(path)
    assert found.errors()[3] < -0.25  # still seen as off
    assert max(abs(error) for i, error in enumerate(found.errors()) if i != 3) < 0.05


def test_left_out_points_are_predicted_without_their_group(tmp_path):
    path = made(tmp_path, LONE, **TRUE)
    before = calibrate(path)
    text = path.read_text()
    for row in read(path).rows:
        if row.group == "over 8":
            text = text.replace(repr(row.time), repr(row.time * 1.2))
    path.write_text(text)
    after = calibrate(path)
    for old, new in zip(before.points, after.points):
        if old.group == "over 8":  # the fit without them knows nothing of the change
            assert new.left_out == pytest.approx(old.left_out, rel=0.01) and new.measured == pytest.approx(1.2 * old.measured)
        else:
            assert new.left_out > 1.02 * old.left_out


def test_a_single_group_leaves_out_points(tmp_path):
    path = tmp_path / "bench.yaml"
    path.write_text(ALONE)
    found = calibrate(path)
    assert len(found.points) == 2 and all(p.left_out and p.left_out != p.simulated for p in found.points)


def test_a_single_point_has_nothing_to_be_predicted_from(tmp_path):
    path = tmp_path / "bench.yaml"
    path.write_text("\n".join(ALONE.splitlines()[:-1]) + "\n")
    found = calibrate(path)
    assert [p.left_out for p in found.points] == [None] and found.errors(left_out=True) == []
    assert "left out:" not in found.text()


def test_it_is_the_same_every_time(tmp_path):
    path = made(tmp_path, LONE, **TRUE)
    assert calibrate(path).json() == calibrate(path).json()


def test_its_mapping_pasted_into_a_scenario_is_the_fitted_chip(tmp_path):
    found = calibrate(made(tmp_path, LONE, **TRUE))
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(found.mapping() + "\ntopology: {kind: mesh, shape: [4]}\n"
                        "program: [{name: gather, collective: all_gather, axes: x, bytes: 34 MB}]\n")
    pasted = load(scenario).chip
    assert all(getattr(pasted, name) == getattr(found.chip, name) for name in PRIORS)
    assert pasted.uncertainty == {p.name: pytest.approx(p.deviation, rel=0.01) for p in found.parameters}
    assert not pasted.validated
    same = {"name": "", "uncertainty": {}, "validated": ""}
    assert replace(pasted, **same) == replace(found.chip, **same)


def test_a_model_tells_of_hbm_and_operations(tmp_path):
    text = GOOD.replace("{time: 1 ms}", "{time: TIME}").replace("{time: 1.5 ms", "{time: TIME")
    found = calibrate(made(tmp_path, text, hbm_efficiency=0.7))
    assert next(p for p in found.parameters if p.name == "hbm_efficiency").value < 0.84
    assert len(found.points) == 2  # the twin does not count


def test_rows_with_mistakes_are_named_and_the_rest_is_fitted(tmp_path):
    path = made(tmp_path, LONE, **TRUE)
    wrong = path.read_text().replace("program.0.bytes: 128 kB", "program.0.bytes: 128 ms", 1).replace("34 MB}}", "34 MB}, x: 1}")
    path.write_text(wrong)
    result = invoke(path)
    assert result.exit_code == 2
    assert f"{path}:8:" in result.output and f"{path}:10:" in result.output
    assert "Incomplete: " in result.output and "chip:\n  base: tpu-v5e\n" in result.output


def test_a_file_without_a_sound_row_is_a_mistake(tmp_path):
    path = tmp_path / "bench.yaml"
    path.write_text("groups: 3\n")
    with pytest.raises(TorusSimError, match=r"bench\.yaml:1:9: groups: '3' is not a list"):
        calibrate(path)
    with pytest.raises(TorusSimError, match="nowhere"):
        calibrate(tmp_path / "nowhere.yaml")


def test_two_chips_in_one_file_are_a_mistake(tmp_path):
    path = tmp_path / "bench.yaml"
    path.write_text(LONE.replace("TIME", "1 ms").replace("    scenario:\n", "    scenario:\n      chip: tpu-v5p\n", 1))
    with pytest.raises(TorusSimError, match=r"several chips \(tpu-v5p, tpu-v5e\): give each a file of its own"):
        calibrate(path)


def test_without_scipy_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(TorusSimError, match=r"pip install scipy, or in a clone of torussim pip install '\.\[calibrate\]'"):
        calibrate(made(tmp_path, LONE, **TRUE))


def test_as_json(tmp_path):
    path = made(tmp_path, LONE, **TRUE)
    keys = json.loads(invoke(path, "--json").output)
    assert keys["complete"] and keys["base"] == "tpu-v5e" and len(keys["points"]) == 7
    found = calibrate(path)
    assert [p["value"] for p in keys["parameters"]] == [p.value for p in found.parameters]
    assert {p["name"] for p in keys["parameters"] if not p["constrained"]} == set(PRIORS) - set(TRUE)
