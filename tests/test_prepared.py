"""What runs on one network share: with it every run gives what it gives alone, to the last bit."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from random_scenarios import REAL, scenario
from random_shared import scenario as shared
from test_fold import mirrored
from thinned import thinned

import torussim.engine.prepared
from torussim.collectives.lower import DIRECT
from torussim.engine.prepared import REMEMBERED, Prepared
from torussim.engine.simulate import simulate
from torussim.program import LOOPS, Collective, Compute, Program
from torussim.topology.builders import torus
from torussim.topology.grid import grid

SEEDS = range(60)
OTHER = replace(REAL, launch=3e-6, link_efficiency=0.7, shared_efficiency=0.5, op_overhead=0.0)


def variants(program):
    """Yield the program again, with other plain computations, bytes and layers, and as it was."""
    def scaled(kind, **factors):
        return program.replaced({o.name: replace(o, **{key: factor * getattr(o, key) for key, factor in factors.items()})
                                 for o in program.operations() if isinstance(o, kind)})
    yield program
    yield scaled(Compute, flops=3.0, hbm_bytes=2.5, kernels=2)
    yield scaled(Collective, bytes=1.7)
    for kind in LOOPS:  # some of which do not do the same in both directions
        yield program.replaced({o.name: replace(o, loop=replace(o.loop, kind=kind)) for o in program.operations()
                                if isinstance(o, Compute) and o.loop})
    yield program.replaced({o.name: replace(o, direction="one_way", shift=dict.fromkeys(o.shift, 1))
                            for o in program.operations() if isinstance(o, Collective) and o.algorithm not in DIRECT})
    yield replace(program, layers=program.layers + 1)
    yield replace(program, epilogue=())
    yield program


def told(timeline):
    """Return all that a timeline says, as plain values."""
    segments = [(s.section, s.operations, s.start.tolist(), s.end.tolist()) for s in timeline.segments]
    work = {name: (one.busy.tolist(), one.fixed.tolist()) for name, one in timeline.work.items()}
    carried = {name: sent.tolist() for name, sent in timeline.carried.items()}
    arrays = [getattr(timeline, name).tolist() for name in ("link_bytes", "link_seconds", "begin", "finish")]
    return (segments, timeline.runs, work, carried, arrays, timeline.program, timeline.events, timeline.blocks_simulated,
            timeline.chips_simulated, timeline.flows, timeline.period, timeline.leapt, timeline.sent)


@pytest.mark.parametrize("make", [scenario, shared, mirrored])
@pytest.mark.parametrize("seed", thinned(SEEDS, 15))
def test_runs_that_share_what_does_not_change_are_those_that_share_nothing(seed, make):
    case = make(seed)
    net, later = case.grid, [1e-3] * len(case.start)
    prepared = Prepared(net)
    for program in variants(case.program):
        for chip, start, fold in ((REAL, case.start, True), (OTHER, case.start, True), (REAL, later, True), (REAL, None, False)):
            alone = simulate(program, replace(net), chip, start=start, fold=fold)
            assert told(simulate(program, prepared, chip, start=start, fold=fold)) == told(alone)


def starts_and_ends(timeline):
    return np.concatenate([times.ravel() for segment in timeline.segments for times in (segment.start, segment.end)])


@pytest.mark.parametrize("make", [scenario, shared, mirrored])
@pytest.mark.parametrize("seed", range(3))
def test_paces_of_chips_are_those_of_their_computations_folded_or_not(seed, make):
    case = make(seed)
    prepared = Prepared(case.grid)
    pace = np.random.default_rng(seed).choice([1.0, 1.0, 1.5], len(case.start))
    run = partial(simulate, case.program, chip=REAL, start=case.start)
    plain, ones, slower = run(case.grid), run(prepared, pace=np.ones(len(pace))), run(prepared, pace=pace)
    apart = run(replace(case.grid), pace=pace, fold=False, repeat=False)
    assert starts_and_ends(ones) == pytest.approx(starts_and_ends(plain), rel=1e-9, abs=1e-12)
    assert slower.finish == pytest.approx(apart.finish, rel=1e-9)
    for name, work in plain.work.items():
        assert slower.work[name].busy == pytest.approx(work.busy * pace, rel=1e-12)
    assert run(prepared).finish.tolist() == plain.finish.tolist(), "paces of one run are not those of the next"


def test_a_program_without_messages_is_folded_or_not_as_it_is_asked_each_time():
    prepared = Prepared(grid(torus((2, 2), bandwidth=1e9)))
    program = Program((Compute("multiply", flops=1e12),))
    chips = [simulate(program, prepared, REAL, fold=fold).chips_simulated for fold in (True, False, True)]
    assert chips == [1, 4, 1]


def test_a_pass_that_differs_in_attention_alone_makes_nothing_anew(monkeypatch):
    asked = []

    def counted(name, real):
        return lambda *given: asked.append(name) or real(*given)

    for name in ("chosen", "orbits", "shared"):
        monkeypatch.setattr(torussim.engine.prepared, name, counted(name, getattr(torussim.engine.prepared, name)))
    gather, scores = Collective("gather", "all_gather", ("x", "y"), 64e6), Compute("scores", flops=1e9)
    prepared = Prepared(grid(torus((4, 4), bandwidth=45e9)))
    for flops in (1e9, 2e9, 3e9):
        simulate(Program((gather, replace(scores, flops=flops)), 3), prepared, REAL)
    assert sorted(asked) == ["chosen", "orbits", "shared"]
    simulate(Program((replace(gather, bytes=32e6), scores), 3), prepared, REAL)
    assert sorted(asked) == ["chosen", "chosen", "orbits", "shared", "shared"], "other bytes fold the network alike"


def test_what_is_kept_is_bounded():
    prepared = Prepared(grid(torus((4,), bandwidth=45e9)))
    for size in range(1, 20):
        simulate(Program((Collective("gather", "all_gather", ("x",), 1e6 * size),)), prepared, REAL)
    assert len(prepared._setups) == REMEMBERED
    (planner,) = prepared._planners.values()
    assert len(planner.loads) < 5 and np.isfinite(planner.rate).all()
