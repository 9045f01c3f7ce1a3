"""plots/mechanisms.py: each of its variants is another machine while it lasts, and leaves nothing behind."""

import importlib.util
from pathlib import Path

import pytest

from torussim.chips import chip

SCRIPT = Path(__file__).resolve().parent.parent / "plots" / "mechanisms.py"
SPEC = importlib.util.spec_from_file_location("mechanisms", SCRIPT)
mechanisms = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(mechanisms)


@pytest.mark.parametrize("name", mechanisms.VARIANTS)
def test_a_variant_changes_the_time_of_a_step_while_it_lasts(name):
    def steps():
        return [mechanisms.seconds(chip("tpu-v4"), **changes) for changes in ({}, mechanisms.MULTIHEAD)]
    before = steps()
    with mechanisms.VARIANTS[name]():
        changed = steps()
    assert (changed == before) == (name == "as it is")
    assert steps() == before
