"""What is worked out once: closed forms that use it again give the numbers of those that do not, to the last digit."""

from dataclasses import replace
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest
from random_scenarios import REAL, scenario
from random_shared import scenario as shared
from thinned import thinned

import torussim.outlines
import torussim.topology.grid
from torussim import layouts, sharding
from torussim.chips import Chip, chip
from torussim.choice import chosen
from torussim.closed_forms import axes_seconds, charges, estimate
from torussim.errors import LayoutError, ShardingError
from torussim.layouts import LAYOUTS, Layout
from torussim.memory import memory
from torussim.models import Model, model
from torussim.outlines import Outlines
from torussim.prices import Prices
from torussim.program import Collective, Compute, Matmul, Program
from torussim.sensitivity import deviation
from torussim.sharding import Sharding
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid
from torussim.transformer import Builder
from torussim.workload import Workload, passes

SEEDS = range(40)
CHIPS = [REAL, replace(REAL, launch=3e-6), replace(REAL, link_efficiency=0.7), replace(REAL, shared_efficiency=0.5),
         replace(REAL, hbm_efficiency=0.3, loop_step=0.0)]


class Plain(Outlines):
    """Outlines that forget everything at once."""

    even = False

    def of(self, *given):
        return Outlines(self.net).of(*given)

    def pace(self, *given):
        return Outlines(replace(self.net)).pace(*given)

    def broken(self, *given):
        return Outlines(self.net).broken(*given)

    def prices(self, chip):
        return PlainPrices(self, chip)


class PlainPrices(Prices):
    """Prices that forget everything at once."""

    def once(self, key, make, *given):
        return make(*given)


def forget():
    """Forget what was kept of shardings and tables."""
    for function in (Sharding.of, Sharding.parse, *vars(sharding).values(), *vars(layouts).values()):
        getattr(function, "cache_clear", lambda: None)()


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
        assert chosen(program, kept, one) == chosen(program, plain, one)
        assert estimate(program, kept, one) == estimate(program, case.grid, one)


MESHES = [{a: tuple(p for p, of in zip("xyz", where) if of == a) for a in "xyz"} for where in product("xyz", repeat=3)]
SHAPES = [(4, 4, 4), (4, 4, 8), (2, 4, 2), (1, 4, 4), (3, 4, 4), (6, 2, 3)]


def network(rng: Random) -> Grid:
    """Return a torus; in half of the cases one axis is slower, or one link is slow or dead."""
    graph = torus(rng.choice(SHAPES), bandwidth=rng.choice((45e9, [45e9, 45e9, 20e9])), latency=1e-6)
    u, v = rng.choice(sorted(graph.edges))
    change = rng.choice(("none", "none", "slow", "dead"))
    if change == "dead":
        graph.remove_edges_from([(u, v), (v, u)])
    elif change == "slow":
        graph.edges[u, v]["bandwidth"] /= 3
    return grid(graph)


def candidate(rng: Random) -> tuple[Layout, Workload]:
    collectives = rng.choice(({}, {"all_gather": "sequential", "all_to_all": "direct"}, {"all_reduce": "one_ring"}))
    layout = Layout(rng.choice(sorted(LAYOUTS)), rng.choice(("heads", "batch")), rng.choice(("bf16", "int8")),
                    overlap=rng.choice((True, True, False, "one_way")), mesh=rng.choice(MESHES), collectives=collectives)
    return layout, Workload(rng.choice(("decode", "prefill")), rng.choice((1, 1, 9)) * 2 ** rng.randint(0, 9), 64)


def priced(named: Model, layout: Layout, workload: Workload, outlines: Outlines, one: Chip) -> tuple[Any, ...]:
    """Return all that a plan asks of a candidate: what it runs, its memory, its times; or why it cannot run."""
    axes = {a: outlines.net.length(a) for a in outlines.net.axes}
    (forward,) = passes(workload)
    try:
        builder = Builder(named, layout, forward, axes)
        program = chosen(builder.build(), outlines, one)
        held = memory(named, layout, workload, axes, one.hbm_bytes, builders={forward: builder})
    except (LayoutError, ShardingError) as error:
        return str(error), error.code, error.path
    return held, axes_seconds(program, outlines, one), axes_seconds(program, outlines, one, fastest=True), program


@pytest.mark.parametrize("seed", thinned(range(20), 4))
def test_candidates_that_share_what_does_not_change_are_each_as_if_alone(seed):
    """To the last digit and to the letter of every message, in any order, and with another chip in between."""
    rng = Random(seed)
    net, named = network(rng), model(rng.choice(("palm-540b", "palm-540b", "palm-8b", "llama-3-70b")))
    shared, drawn = Outlines(net), [(*candidate(rng), rng.choice(CHIPS)) for _ in range(12)]
    found = [priced(named, layout, workload, shared, one) for layout, workload, one in drawn]
    assert seed % 4 or any(len(one) == 4 for one in found), "some of them can run"
    for (layout, workload, one), seen in zip(drawn, found, strict=True):
        forget()
        assert priced(named, layout, workload, Plain(replace(net)), one) == seen


@pytest.mark.parametrize("seed", thinned(range(20), 4))
def test_meshes_that_are_alike_have_the_same_memory_and_the_same_closed_forms(seed):
    rng = Random(seed)
    net, classes = network(rng), {}
    outlines = Outlines(net)
    layout, workload = candidate(rng)
    for mesh in MESHES:
        like = outlines.like(mesh)
        assert outlines.like(like) == like and list(like) == list(mesh)
        assert sorted(a for axes in like.values() for a in axes) == ["x", "y", "z"]
        found = priced(model("palm-8b"), replace(layout, mesh=mesh), workload, outlines, REAL)[:3]
        assert classes.setdefault(str(like), found) == found
    kind = {a: a if net.gaps[i] else (net.length(a), net.extremes(a)) for i, a in enumerate(net.axes)}
    assert len(classes) == len({str([[kind[a] for a in axes] for axes in mesh.values()]) for mesh in MESHES})


SENT = Collective("c", "all_to_all", ("x", "y"), 64e6, pieces=8.0)
MADE = Compute("m", (Matmul(64, 512, 512),), 1e12, 1e6, vector=1e9, vector_bytes=1e6, scratch=1e9, scratch_passes=2.0)
OTHER = [{"kind": "all_gather"}, {"axes": ("y", "x")}, {"axes": ("x", "z")}, {"bytes": 32e6}, {"pieces": 9.0},
         {"split": (1.0, 0.0)}, {"algorithm": "sequential"}, {"algorithm": "direct"}, {"direction": "one_way"}, {"detour": False},
         {"detour": True}, {"kind": "permute", "shift": {"x": 1}}, {"kind": "permute", "shift": {"x": 2}}]
MORE = [{"matmuls": (Matmul(64, 512, 1024),)}, {"flops": 0.0}, {"hbm_bytes": 1e12}, {"dtype": "int8"}, {"vector": 0.0},
        {"vector_bytes": 1e12}, {"scratch": 1e12}, {"scratch_passes": 5.0}, {"kernels": 9}]


def test_operations_that_differ_in_anything_are_not_taken_for_each_other():
    """Each after all others, on a torus with a slow axis and a dead link."""
    graph = torus((4, 4, 4), bandwidth=[45e9, 45e9, 20e9], latency=1e-6)
    graph.remove_edges_from([((0, 0, 0), (1, 0, 0)), ((1, 0, 0), (0, 0, 0))])
    net = grid(graph)
    kept, plain = Outlines(net), Plain(net)
    v5 = replace(REAL, flops={"bf16": 200e12, "int8": 400e12})
    every = [replace(SENT, **change) for change in ({}, *OTHER)] + [replace(MADE, **change) for change in ({}, *MORE)]
    found = [axes_seconds(Program((one,)), kept, v5) for one in every]
    assert found == [axes_seconds(Program((one,)), plain, v5) for one in every]
    assert len(set(found)) > len(found) - 5, "nearly all differ"


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
