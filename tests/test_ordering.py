"""What the paper's measurements put in order: the simulation has the same order, and no name decides a time."""

import ast
from pathlib import Path

import pytest

import torussim
from torussim import layouts, resolve, run
from torussim.calibrate import calibrate
from torussim.cases import case
from torussim.measurements import DEFAULT, found, read

TIMING = ("cost", "clock", "choice", "transformer", "kernels", "program", "closed_forms", "lower_bound", "sharding", "analysis",
          "memory", "padding", "attending", "keeping", "mixture", "drafting", "pipeline", "places", "ends", "periods",
          "head_split")
PACKAGES = ("engine", "collectives")
FULL = {"model": "palm-540b", "chip": "tpu-v4", "topology": {"kind": "torus", "shape": [4, 4, 4]},
        "layout": {"ffn": "ws2d_code", "attention": "batch"},
        "workload": {"phase": "decode", "batch": 512, "context": 2080, "tokens": 1}}
SHORT = {**FULL, "model": {"base": "palm-540b", "layers": 8}}


def test_the_points_that_the_chip_was_fitted_to_are_within_the_bounds_that_were_set():
    """Mean absolute error at most 4 %, none off by 15 %, with four parameters."""
    file = read(found(DEFAULT))
    rows = [row for row in file.rows if not row.twin]
    errors = {(row.group, row.name): abs(case(row).simulated(row.scenario.chip) / row.time - 1) for row in rows}
    assert len(errors) == 31 and sum(errors.values()) / 31 < 0.04 and max(errors.values()) < 0.15
    assert len(file.fit) <= 4


@pytest.mark.slow
def test_tpu_v4_is_what_calibrate_gives_and_groups_left_out_are_within_the_bound():
    found = calibrate()
    assert [p.name for p in found.parameters if p.constrained] == [*found.priors] and len(found.priors) == 4
    preset = torussim.chips.chip("tpu-v4")
    for p in found.parameters:
        assert getattr(preset, p.name) == pytest.approx(p.value, rel=0.003)
        assert preset.uncertainty[p.name] == pytest.approx(p.deviation, rel=0.02)
    for group in {p.group for p in found.points}:
        errors = [p.left_out / p.measured - 1 for p in found.points if p.group == group]
        assert sum(map(abs, errors)) / len(errors) < 0.07, group


def test_two_dimensions_beat_one_on_64_128_and_256_chips():
    """Paper, Fig. 6: by 4, 29 and 32 %. The distance on 64 chips is smaller here: docs/validation.md, Residual errors."""
    seconds = {(row.group, row.name): case(row).simulated(row.scenario.chip) for row in read(found(DEFAULT)).rows}
    for shape, factor in {"4x4x4": 1.0, "8x4x4": 1.15, "4x8x8": 1.15}.items():
        assert seconds["Fig. 6 ws2d", shape] * factor < seconds["Fig. 6 ws1d", shape], shape


def test_multiquery_over_the_batch_grows_least_with_context():
    """Paper, section 4.2: 8 layers, batch 256. There it is flat, here it grows by 9 %: docs/validation.md, How far off."""
    def growth(attention, **model):
        took = [run({**SHORT, "model": {**SHORT["model"], **model}, "layout": {"ffn": "ws2d_code", "attention": attention},
                     "workload": {"phase": "decode", "batch": 256, "context": context, "tokens": 1}}).step_s
                for context in (512, 8192)]
        return took[1] / took[0] - 1
    flat, heads, multihead = growth("batch"), growth("heads"), growth("heads", kv_heads=48)
    assert flat < 0.10 and heads > 30 * flat and multihead > 20 * flat


def test_serial_blocks_take_longer_than_parallel_ones():
    """Paper, section 4.3: 14 % a decode step, give or take 4 points."""
    serial = run({**FULL, "model": {"base": "palm-540b", "parallel": False}}).step_s
    assert 1.10 < serial / run(FULL).step_s < 1.18


def timing_files():
    root = Path(torussim.__file__).parent
    return [root / f"{name}.py" for name in TIMING] + [file for name in PACKAGES for file in sorted((root / name).glob("*.py"))]


def test_no_code_that_makes_times_knows_a_name_or_a_batch_size():
    names = {*resolve.preset_names("models"), *resolve.preset_names("chips"), *layouts.LAYOUTS}
    assert {"palm-540b", "tpu-v4", "ws2d_code", "wg_xyz"} <= names
    files = timing_files()
    assert len(files) > 20
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{file.name}:{node.lineno}"
            if isinstance(node, ast.Attribute) and node.attr == "name":
                owner = ast.unparse(node.value)
                assert owner.rpartition(".")[2] not in ("chip", "model", "layout", "scenario"), f"{file.name}:{node.lineno}"
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                words = {n.attr if isinstance(n, ast.Attribute) else n.id for side in sides for n in ast.walk(side)
                         if isinstance(n, ast.Attribute | ast.Name)}
                numbers = [side.value for side in sides if isinstance(side, ast.Constant) and isinstance(side.value, int | float)]
                if words & {"batch", "tokens", "context", "queries", "layers"}:
                    assert all(number <= 1 for number in numbers), f"{file.name}:{node.lineno}"


@pytest.mark.parametrize("name, told", [("tpu-v5e", {"launch"}), ("tpu-v7x", {"launch", "link_efficiency"})])
def test_microbenchmarks_give_what_the_presets_have(name, told):
    found = calibrate(resolve.preset_path("measurements", name))
    assert {p.name for p in found.parameters if p.constrained} == told
    for p in found.parameters:
        if p.constrained:
            assert getattr(torussim.chips.chip(name), p.name) == pytest.approx(p.value, rel=0.02)
