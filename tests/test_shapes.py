"""Shapes of as many chips: which are slices, with which wraparounds, and what a plan says of them is what running gives."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import torussim
from torussim.chips import chip
from torussim.errors import PlanError
from torussim.planner.shapes import on_shape, present_shape, reshaped, shapes_of
from torussim.scenario import load
from torussim.topology.slices import pod_of

CHIPS = ("tpu-v2", "tpu-v3", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7x", "ideal")
DECODE = {"model": "palm-8b", "chip": "tpu-v4", "workload": {"phase": "decode", "batch": 64, "context": 2048},
          "plan": {"vary": {"layouts": ["ws1d", "ws2d"], "attention": "heads"}}}
ONE = {**DECODE, "plan": {"vary": {"layouts": "ws1d", "attention": "heads", "mesh": "file"}}}


def nothing(scenario, planning):
    raise PlanError("nothing is looked at here", code="no-layout")


def named(shapes):
    return {shape.name: shape for shape in shapes}


@given(chips=st.integers(1, 600), name=st.sampled_from(CHIPS), axes=st.integers(1, 4))
@settings(max_examples=100)
def test_shapes_have_the_chips_and_none_stands_twice(chips, name, axes):
    found = shapes_of(chips, chip(name), axes)
    assert found and all(prod(shape.lengths) == chips for shape in found)
    assert len({shape.like for shape in found}) == len(found)
    lengths = {tuple(sorted(shape.lengths)) for shape in found}
    brute = {tuple(sorted(shape)) for shape in factors(chips, len(found[0].lengths))}
    assert lengths == brute
    assert all(not wraps for shape in found for length, wraps in zip(shape.lengths, shape.wrap) if length < 3)


def factors(number, count):
    if count == 1:
        return [(number,)]
    return [(first, *rest) for first in range(1, number + 1) if number % first == 0
            for rest in factors(number // first, count - 1)]


@pytest.mark.parametrize("preset", ["tpu-v2", "tpu-v3", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7x"])
def test_a_public_slice_can_be_had_with_the_wraparounds_of_the_table(preset):
    for name, (lengths, wrap) in pod_of(preset).named.items():
        shape = next(shape for shape in shapes_of(prod(lengths), chip(preset), 3) if shape.how == f"public slice {name}")
        assert (shape.lengths, shape.wrap, shape.buildable, shape.twist) == (lengths, wrap, True, {})


def test_which_shapes_can_be_had_is_said_as_the_sources_have_it():
    of_v4 = named(shapes_of(64, chip("tpu-v4"), 3))
    assert {name for name, shape in of_v4.items() if shape.buildable} == {"4x4x4"} and not any(of_v4["2x4x8"].wrap)
    assert {name for name, shape in named(shapes_of(256, chip("tpu-v4"), 3)).items() if shape.buildable} \
        == {"4x8x8", "4x8x8 twisted", "4x4x16"}
    assert "no public name" in named(shapes_of(256, chip("tpu-v4"), 3))["4x4x16"].how
    assert not any(shape.buildable for shape in shapes_of(8192, chip("tpu-v4"), 3))
    assert {name for name, shape in named(shapes_of(64, chip("tpu-v5e"), 2)).items() if shape.buildable} == {"8x8"}
    for name, chips in (("2x2x1", 4), ("2x2x2", 8), ("2x2x4", 16), ("2x4x4", 32)):
        cut = named(shapes_of(chips, chip("tpu-v7x"), 3))[name]
        assert cut.buildable and cut.how == f"public slice tpu7x-{2 * chips}" and not any(cut.wrap)
        assert named(shapes_of(chips, chip("tpu-v4"), 3))[name].how.startswith("public slice v4-")
    assert all(shape.buildable is None for shape in shapes_of(16, chip("ideal"), 2))


def test_a_twisted_slice_is_another_shape_and_goes_with_its_axes_in_any_order():
    shapes = named(shapes_of(128, chip("tpu-v4"), 3))
    assert shapes["4x4x8 twisted"].like != shapes["4x4x8"].like
    turned = present_shape(load({**DECODE, "topology": {"shape": [8, 4, 4], "twist": True}}, fitting=False))
    assert turned.like == shapes["4x4x8 twisted"].like and turned.buildable and turned.how.endswith("v4-256, twisted")


@pytest.mark.parametrize("topology", [
    {"shape": [4, 2]},
    {"shape": [2, 4], "wrap": [False, True], "links": [{"axis": "y", "at": {"x": 0}, "scale": 0.5}]},
    {"shape": [4, 2], "bandwidth": ["45 GB/s", "20 GB/s"], "links": [{"from": [0, 0], "to": [0, 1], "failed": True}]}])
def test_what_a_shape_brings_is_what_a_plan_and_a_run_of_it_give(topology):
    found = torussim.plan({**DECODE, "topology": topology}, shapes=True)
    pick = found.pick.keys["latency_s"]
    (present,) = [one for one in found.shapes if one.present]
    healthy = {key: value for key, value in topology.items() if key != "links"}
    assert torussim.plan({**DECODE, "topology": healthy}).pick.keys["step_s"] == pytest.approx(present.step_s, rel=1e-9)
    assert all(one.step_s is not None for one in found.shapes)
    assert [one.step_s for one in found.shapes] == sorted(one.step_s for one in found.shapes)
    for one in found.shapes:
        result = torussim.run(load(one.best.resolved))
        assert result.step_s == pytest.approx(one.step_s, rel=1e-9)
        assert one.saving == pytest.approx(1 - result.latency_s / pick, abs=1e-9)
        bandwidth = one.best.resolved["topology"]["bandwidth"]
        assert bandwidth == (found.scenario.resolved["topology"]["bandwidth"] if one.present else 45e9)


def test_a_certified_shape_is_not_beaten_by_its_own_plan():
    found = torussim.plan({**DECODE, "topology": {"shape": [2, 2, 2]}}, shapes=True)
    for one in found.shapes:
        best = torussim.plan(on_shape(found.scenario, one.shape)).pick.keys["step_s"]
        assert one.step_s >= best * (1 - 1e-9) and (not one.certified or one.step_s == pytest.approx(best, rel=1e-9))


def test_open_axes_are_another_shape_than_the_slice_and_say_so():
    found = torussim.plan({**ONE, "topology": {"shape": [4, 4, 4], "wrap": [True, True, False]}})
    shapes = {(one.shape.lengths, one.shape.wrap): one for one in reshaped(found, nothing)}
    whole, here = shapes[(4, 4, 4), (True, True, True)], shapes[(4, 4, 4), (True, True, False)]
    assert here.present and not here.shape.buildable and whole.shape.buildable
    assert "wraparounds on x, y, z" in whole.words() and "nothing is looked at" in whole.words()


def test_large_shapes_that_cannot_be_had_are_not_looked_at_and_say_so():
    found = reshaped(torussim.plan({**ONE, "topology": {"shape": [4, 4, 4]}}), nothing)
    line = next(one for one in found if one.shape.name == "1x1x64")
    assert line.step_s is None and line.why and line.keys()["buildable"] is False and line.why in line.words()


def test_a_network_that_is_no_torus_of_ours_has_no_other_shapes(tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text("from torussim.topology.builders import torus\n"
                                     "def made(n=4):\n    return torus([n], bandwidth=45e9)\n")
    monkeypatch.chdir(tmp_path)
    assert torussim.plan({**DECODE, "topology": {"kind": "own:made"}}, shapes=True).shapes == []
