"""No simulation is faster than the critical path of its program, on any network; and where it is exact."""

from __future__ import annotations

import pytest
import random_scenarios as plain
import random_shared as shared
from thinned import thinned

from torussim.critical_path import least_seconds

CLOSE = 1 + 1e-9


def beats(case: plain.Scenario) -> str:
    """Return by how much a simulation is faster than its critical path, or nothing."""
    end, least = plain.run(case).finish.max(), least_seconds(case.program, case.grid, case.chip)
    return "" if least <= end * CLOSE else f"{end} s, at least {least} s: {case.program} on {case.grid}, starting at {case.start}"


@pytest.mark.parametrize("seed", thinned(range(120), 2))
def test_no_program_beats_its_critical_path(seed: int) -> None:
    assert not beats(plain.scenario(seed, skewed=seed % 2 == 0))


@pytest.mark.parametrize("seed", thinned(range(120), 2))
def test_no_program_beats_its_critical_path_where_links_are_shared(seed: int) -> None:
    """Dead links and detours, routed all-to-alls, twists, parts of axes, links that change in mid-run."""
    assert not beats(shared.scenario(seed, nested=seed % 4 == 0))
