"""How uncertain a time is: against hand arithmetic, and what a chip's mapping makes of uncertainties."""

import json
from dataclasses import replace
from math import exp, hypot

import pytest

from torussim import report, run
from torussim.chips import chip, describe
from torussim.errors import TorusSimError
from torussim.program import Collective, Compute, Program
from torussim.sensitivity import deviation
from torussim.topology.builders import torus
from torussim.topology.grid import grid

NET = grid(torus((4, 4), bandwidth=45e9, latency=1e-6))
PLAIN = replace(chip("ideal"), tile=(1, 1, 1))
DECODE = {"model": {"base": "palm-540b", "layers": 4}, "topology": {"kind": "torus", "shape": [4, 4, 4]},
          "layout": {"ffn": "ws2d_code", "attention": "batch"},
          "workload": {"phase": "decode", "batch": 64, "context": 64, "tokens": 2}}


def test_a_matmul_is_as_uncertain_as_the_unit_that_runs_it():
    program = Program((Compute("multiply", flops=1e12),))
    sure = replace(PLAIN, matmul_efficiency=0.5)
    assert deviation(program, NET, sure) == 0
    assert deviation(program, NET, replace(sure, uncertainty={"matmul_efficiency": 0.01})) == pytest.approx(0.02, rel=1e-3)
    assert deviation(program, NET, replace(sure, uncertainty={"link_latency": 1e-6, "launch": 1e-6, "hbm_efficiency": 0.1})) == 0


def test_independent_parts_add_as_squares():
    program = Program((Compute("first", flops=3e12), Collective("gather", "all_gather", ("x",), 64e6)))
    some = replace(PLAIN, matmul_efficiency=0.5, link_efficiency=0.8)
    each = {"matmul_efficiency": 0.02, "link_efficiency": 0.02, "launch": 1e-6}
    alone = [deviation(program, NET, replace(some, uncertainty={name: sigma})) for name, sigma in each.items()]
    assert min(alone) > 0
    assert deviation(program, NET, replace(some, uncertainty=each)) == pytest.approx(hypot(*alone), rel=1e-12)


def test_latency_that_comes_from_the_chip_is_uncertain_and_latency_of_the_network_is_not():
    program = Program((Collective("gather", "all_gather", ("x",), 64.0),))
    far = replace(PLAIN, link_latency=1e-6, uncertainty={"link_latency": 1e-7})  # NET has links of 1 us
    assert deviation(program, NET, far) == pytest.approx(0.1, rel=0.01)
    assert deviation(program, NET, replace(far, link_latency=2e-6)) == 0


def test_a_share_cannot_be_more_than_one():
    program = Program((Compute("multiply", flops=1e12),))
    top = replace(PLAIN, matmul_efficiency=1.0, uncertainty={"matmul_efficiency": 0.02})
    assert deviation(program, NET, top) == pytest.approx(0.02, rel=0.02)


def test_a_run_gives_its_range_or_none():
    result = run({"chip": "tpu-v4", **DECODE})
    low, high = result.range_s
    assert low < result.step_s < high and low * high == pytest.approx(result.step_s**2, rel=1e-12)
    assert 1.005 < high / result.step_s < 1.3
    wide = run({"chip": {"base": "tpu-v4", "uncertainty": {"hbm_efficiency": 0.3}}, **DECODE}).range_s
    assert wide[1] > high
    assert "one standard deviation of the chip's parameters" in report.text(result)
    json.loads(result.json())
    sure = run({"chip": "ideal", **DECODE})
    assert sure.range_s is None and "deviation" not in report.text(sure)


def test_the_range_holds_what_a_run_with_changed_parameters_takes():
    alone = dict.fromkeys(chip("tpu-v4").uncertainty, 0) | {"hbm_efficiency": 0.03}
    result = run({"chip": {"base": "tpu-v4", "uncertainty": alone}, **DECODE})
    worse = run({"chip": {"base": "tpu-v4", "hbm_efficiency": chip("tpu-v4").hbm_efficiency - 0.03}, **DECODE})
    assert result.range_s[1] == pytest.approx(worse.step_s, rel=0.01) and worse.step_s > result.step_s


def test_a_program_alone_has_a_range_too():
    given = {"chip": "tpu-v4", "topology": {"kind": "torus", "shape": [4, 4, 4]},
             "program": [{"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "64 MB"}]}
    result = run(given)
    assert result.range_s[0] < result.makespan_s < result.range_s[1]


def test_a_changed_parameter_loses_its_uncertainty_and_the_chip_its_validation():
    old = chip("tpu-v4")
    assert old.validated and "hbm_efficiency" in old.uncertainty
    new = chip("tpu-v4", hbm_efficiency=0.9)
    assert set(old.uncertainty) - set(new.uncertainty) == {"hbm_efficiency"} and not new.validated
    assert "uncertainty.hbm_efficiency" not in new.sources and "uncertainty.launch" in new.sources
    own = chip("tpu-v4", hbm_efficiency=0.9, uncertainty={"hbm_efficiency": 0.01}, validated="ours, yesterday")
    assert own.uncertainty["hbm_efficiency"] == 0.01 and own.validated == "ours, yesterday"
    assert chip("tpu-v4", uncertainty={"launch": "1 us"}).validated == old.validated
    for one in (old, new, own):
        again = chip(describe(one))
        assert again == one and again.sources == one.sources


@pytest.mark.parametrize("given, text", [
    ({"hbm_bytes": 1}, "'uncertainty.hbm_bytes' is not a field of a chip"),
    ({"launch": "1 GB"}, "uncertainty.launch: '1 GB' is a number of bytes, not a time"),
    ({"hbm_efficiency": 2}, "uncertainty.hbm_efficiency: '2' is not the deviation of a share"),
    (3, "uncertainty: '3' is not a mapping of parameters to standard deviations"),
])
def test_wrong_uncertainties_are_named(given, text):
    with pytest.raises(TorusSimError) as error:
        chip("tpu-v4", uncertainty=given)
    assert text in str(error.value)


def test_reports_say_which_chips_are_not_validated():
    for given, said in (("tpu-v4", False), ("ideal", False), ("tpu-v5p", True), ({"base": "tpu-v4", "launch": 0}, True)):
        result = run({"chip": given, **DECODE})
        assert ("not validated on this chip" in report.text(result)) == said == (result.validated is None)


def test_reports_say_what_the_other_layout_would_take():
    results = {name: run({"chip": "tpu-v4", **DECODE, "layout": {"ffn": name, "attention": "batch"}})
               for name in ("ws2d", "ws2d_code")}
    for name, kind, other in (("ws2d", "formula", "ws2d_code"), ("ws2d_code", "code", "ws2d")):
        found = results[name].layout
        assert (found["name"], found["kind"], found["other"]["name"]) == (name, kind, other)
        assert found["other"]["step_s"] == pytest.approx(results[other].step_s, rel=0.05)
    says = "ws2d is the paper's formula. By the ratio of closed forms, ws2d_code, the layout of the paper's measured code, would"
    assert says in " ".join(report.text(results["ws2d"], verbose=True).split())
    assert ["layout.ffn: ws2d" in one.what for one in report.remedies(results["ws2d_code"])].count(True) == 1
    alone = run({"chip": "tpu-v4", **DECODE, "layout": {"ffn": "wg_x", "attention": "heads"}})
    assert (alone.layout["name"], alone.layout["kind"], alone.layout["other"]) == ("wg_x", None, None)
    assert exp(deviation(Program((Compute("one", flops=1e9),)), NET, chip("ideal"))) == 1
