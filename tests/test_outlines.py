"""What is worked out once: closed forms that use it again give the numbers of those that do not, to the last digit."""

from dataclasses import replace

import numpy as np
import pytest
from random_scenarios import REAL, scenario
from random_shared import scenario as shared
from thinned import thinned

import torussim.outlines
import torussim.topology.grid
from torussim.chips import chip
from torussim.closed_forms import axes_seconds, charges, estimate
from torussim.outlines import Outlines
from torussim.program import Collective, Program
from torussim.sensitivity import deviation
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid

SEEDS = range(40)
CHIPS = [REAL, replace(REAL, launch=3e-6), replace(REAL, link_efficiency=0.7), replace(REAL, shared_efficiency=0.5),
         replace(REAL, hbm_efficiency=0.3, loop_step=0.0)]


class Plain(Outlines):
    """Outlines that forget everything at once."""

    def of(self, *given):
        return Outlines(self.net).of(*given)

    def pace(self, *given):
        return Outlines(replace(self.net)).pace(*given)


@pytest.mark.parametrize("make", [scenario, shared])
@pytest.mark.parametrize("seed", thinned(SEEDS, 3))
def test_what_is_used_again_gives_the_same_times_to_the_last_digit(seed, make):
    case = make(seed)
    program, kept = case.program, Outlines(case.grid)
    for one in CHIPS:
        plain = Plain(replace(case.grid))
        for fastest in (False, True):
            assert axes_seconds(program, kept, one, fastest=fastest) == axes_seconds(program, plain, one, fastest=fastest)
        assert charges(program, kept, one) == charges(program, plain, one)
        assert estimate(program, kept, one) == estimate(program, case.grid, one)


def test_a_range_is_the_same_with_outlines_and_with_a_grid():
    program = Program((Collective("gather", "all_gather", ("x", "y"), 64e6), Collective("far", "all_to_all", ("y",), 1e6)))
    net, v4 = grid(torus((4, 4), bandwidth=45e9, latency=chip("tpu-v4").link_latency)), chip("tpu-v4")
    assert deviation(program, Outlines(net), v4) == deviation(program, net, v4) == deviation(program, Plain(net), v4) > 0


def test_another_chip_needs_no_new_outline(monkeypatch):
    made, real = [], torussim.outlines._outline
    monkeypatch.setattr(torussim.outlines, "_outline", lambda *given: made.append(1) or real(*given))
    gathers = [Collective(f"gather_{i}", "all_gather", ("x", "y"), 64e6) for i in range(3)]
    program, outlines = Program((*gathers, Collective("sum", "all_reduce", ("x",), 1e6)), 4), Outlines(NET)
    for one in CHIPS:
        axes_seconds(program, outlines, one)
    assert len(made) == 2, "one for the gathers, which are alike, and one for the sum"


NET = grid(torus((4, 4, 8), bandwidth=45e9, twist=True))


def test_hops_and_gaps_of_a_grid_are_worked_out_once_and_cannot_be_written_to(monkeypatch):
    made = []
    real = torussim.topology.grid.wraparounds_of
    monkeypatch.setattr(torussim.topology.grid, "wraparounds_of", lambda *given: made.append(1) or real(*given))
    net = replace(NET)
    for _ in range(3):
        for name in net.axes:
            net.extremes(name)
        assert not net.gap.any() and net.gaps == (False, False, False)
    assert len(made) == 1
    for array in (net.hops, net.gap):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = True


@pytest.mark.parametrize("seed", thinned(SEEDS, 3))
def test_what_a_grid_keeps_is_what_its_fields_say(seed):
    """Against a new grid of the same fields, also after the grid was asked for its other rings."""
    net: Grid = shared(seed).grid
    for axes in (net.axes, net.axes[:2], net.axes[1:]):
        for detour in (True, False):
            seen = net.around(axes, detour=detour)
            assert net.around(axes, detour=detour) is seen
            fresh = replace(net, ring=replace(net).around(axes, detour=detour).ring)
            assert seen.ring == fresh.ring and np.array_equal(seen.hops, fresh.hops) and np.array_equal(seen.gap, fresh.gap)
            assert [seen.extremes(a) for a in net.axes] == [fresh.extremes(a) for a in net.axes]
            assert seen.gaps == tuple(fresh.gap[i].any() for i in range(len(net.axes)))
