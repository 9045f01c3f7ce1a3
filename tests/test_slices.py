"""Public slices of TPU pods: their true shapes and wraparounds."""

from __future__ import annotations

import re
from math import prod
from pathlib import Path

import pytest

from torussim import files
from torussim.chips import chip
from torussim.errors import NameError_
from torussim.topology.slices import slice_of

DATA = files.read(Path(__file__).parents[1] / "torussim" / "data" / "slices.yaml")
CORES_A_CHIP = {"v4": 2, "v5p": 2, "v5e": 1, "v6e": 1}  # as the names count; MaxText: v5e and v6e have one core a chip


def test_the_file_has_a_source_and_no_mistakes() -> None:
    assert DATA.mistakes == () and "MaxText" in DATA.value["source"]


@pytest.mark.parametrize("name", DATA.value["slices"])
def test_a_name_counts_the_cores_of_its_shape(name: str) -> None:
    shape, wrap, _ = slice_of(name)
    generation, size = name.split("-")
    assert prod(shape) * CORES_A_CHIP[generation] == int(size)
    assert len(wrap) == len(shape) == chip(slice_of(name)[2]).links // 2


@pytest.mark.parametrize("name", DATA.value["slices"])
def test_the_rule_of_the_chip_gives_the_wraparounds_of_every_public_slice(name: str) -> None:
    shape, wrap, preset = slice_of(name)
    assert chip(preset).wraps(shape) == wrap


def test_names_that_count_cores_and_small_slices_that_are_meshes() -> None:
    assert slice_of("v4-128") == ((4, 4, 4), (True, True, True), "tpu-v4")
    assert slice_of("v5e-16") == ((4, 4), (False, False), "tpu-v5e")
    assert slice_of("v6e-128") == ((8, 16), (False, True), "tpu-v6e")


def test_v5litepod_is_v5e() -> None:
    assert slice_of("v5litepod-16") == slice_of("v5e-16")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("v5e16", "'v5e16' is not a TPU slice: did you mean 'v5e-16'?"),
        ("v5-e16", "'v5-e16' is not a TPU slice: did you mean 'v5e-16'?"),
        ("V5E-16", "did you mean 'v5e-16'?"),
        ("v4-12", "'v4-12' is not a TPU slice: one of v4-8, v4-16, v4-32, v4-64, v4-128, "),
        ("v5litepod-17", "one of v5e-1, v5e-4, v5e-8, v5e-16, v5e-32, v5e-64, v5e-128, v5e-256"),
        ("", "'' is not a TPU slice: slices of v6e, v5e, v4, v5p have names, such as v6e-1: give shape and wrap"),
        ("h100-8", "'h100-8' is not a TPU slice: slices of v6e, v5e, v4, v5p have names"),
        ("v7x-8", "'v7x-8' is not a TPU slice: slices of v6e, v5e, v4, v5p have names"),
    ],
)
def test_an_unknown_name_gets_the_slice_that_is_spelt_alike_or_those_of_its_generation(given: str, text: str) -> None:
    with pytest.raises(NameError_, match=re.escape(text)):
        slice_of(given)
