"""Collectives with a root, trees, and groups by a list: contract, closed forms, bounds, folds, and what files say of them."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from random import Random
from typing import Any

import numpy as np
import pytest
from random_shared import compare, dying, rooted, run, scenario
from test_fold import unlike

import torussim
from torussim.chips import chip
from torussim.choice import alone, alternatives
from torussim.collectives.lower import MOST_STEPS, lower, schedules
from torussim.collectives.playback import check
from torussim.collectives.rooted import ROOTED, in_order, two_trees
from torussim.engine.simulate import simulate
from torussim.errors import ContractError, ProgramError
from torussim.lower_bound import operation_seconds
from torussim.outlines import Outlines
from torussim.program import ALIKE, WITH_ROOT, Collective, Kind, Program
from torussim.topology.builders import mesh, torus
from torussim.topology.grid import Grid, grid
from torussim.topology.named import network

IDEAL, D, W, LATE = chip("ideal"), 84e6, 1e9, 1e-6
EVERY = [(kind, name) for kind, names in ROOTED.items() for name in names]
SHAPES = [(2,), (3,), (5,), (8,), (2, 2), (2, 3), (3, 4), (2, 2, 3)]


def took(o: Collective, net: Grid) -> float:
    return simulate(Program((o,)), net, IDEAL).makespan


def on(shape: tuple[int, ...], build: Any = torus, latency: float = LATE) -> Grid:
    return grid(build(shape, bandwidth=W, latency=latency))


@pytest.mark.parametrize("kind, name", [one for one in EVERY if one[0] != "send"])
@pytest.mark.parametrize("build", [torus, mesh])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_root_gets_or_gives_what_is_promised(kind: Kind, name: str, shape: tuple[int, ...], build: Any) -> None:
    net, rng = on(shape, build), Random(prod(shape))
    for root in ((), tuple(n - 1 for n in shape), tuple(rng.randrange(n) for n in shape)):
        check(lower(Collective("c", kind, net.axes, D, name, root=root), net))


@pytest.mark.parametrize("kind, name", EVERY)
def test_a_schedule_with_a_fault_is_refused(kind: Kind, name: str) -> None:
    net = on((2, 3))
    (schedule,) = schedules(Collective("c", kind, (), D, name, groups=((0, 5, 3, 2),) if kind != "send" else ((1, 4),)), net)
    check(schedule)
    for i, step in enumerate(schedule.steps):
        assert step.to is not None
        last = tuple(np.argwhere(step.to >= 0)[-1])
        fewer, elsewhere = step.to.copy(), step.to.copy()
        fewer[last], elsewhere[last] = -1, last[1]
        for wrong in (replace(step, to=fewer), replace(step, to=elsewhere), replace(step, size=step.size / 2), None):
            steps = (*schedule.steps[:i], *([wrong] if wrong else []), *schedule.steps[i + 1:])
            if steps:
                with pytest.raises(ContractError):
                    check(replace(schedule, steps=steps))


@pytest.mark.parametrize("chips", range(2, 20))
def test_of_two_trees_an_even_number_of_chips_has_children_in_one_alone(chips: int) -> None:
    one, two = two_trees(chips)
    inner = [set(tree[tree >= 0].tolist()) for tree in (one, two)]
    assert (one < 0).sum() == (two < 0).sum() == 1 and (in_order(chips) == one).all()
    assert max(np.bincount(tree[tree >= 0]).max() for tree in (one, two)) <= 2
    if chips % 2 == 0 and chips > 2:
        assert not inner[0] & inner[1]


@pytest.mark.parametrize("kind", ["broadcast", "reduce"])
@pytest.mark.parametrize("chips", [3, 4, 5, 8])
def test_a_long_vector_is_on_all_links_at_once(kind: Kind, chips: int) -> None:
    """On a ring: D / B and a latency a hop; half of that where each half goes round one way."""
    ring, line = on((chips,)), on((chips,), mesh)
    for root in range(chips):
        o = Collective("c", kind, ("x",), D, "tree", root=(root,))
        assert took(o, ring) == pytest.approx(D / W + chips // 2 * LATE, rel=1e-12)
        assert took(o, line) == pytest.approx(D / W + max(root, chips - 1 - root) * LATE, rel=1e-12)
        assert took(replace(o, algorithm="chain"), ring) == pytest.approx(D / W + (chips - 1) * LATE, rel=1e-12)
        assert took(replace(o, algorithm="two_chains"), ring) == pytest.approx(D / 2 / W + (chips - 1) * LATE, rel=1e-12)
        assert operation_seconds(o, ring, IDEAL) == pytest.approx(D / 2 / W)
    full = on((4, 4))
    assert took(Collective("c", kind, full.axes, D, "tree", root=(1, 2)), full) == pytest.approx(D / W + 4 * LATE, rel=1e-12)


def test_a_slow_link_holds_up_what_comes_after_it() -> None:
    """On a line of four the second link has half the bandwidth: what it brings is passed on, and is no sooner complete."""
    graph = mesh((4,), bandwidth=W, latency=LATE)
    graph.edges[(1,), (2,)]["bandwidth"] = W / 2
    assert took(Collective("c", "broadcast", ("x",), D, "tree"), grid(graph)) == pytest.approx(2 * D / W + 3 * LATE, rel=1e-12)


def test_a_send_is_split_over_all_shortest_ways() -> None:
    net = on((4, 4), mesh)
    o = Collective("c", "send", (), D, groups=((0, 15),))
    assert took(o, net) == pytest.approx(D / (2 * W) + 6 * LATE, rel=1e-12)
    assert operation_seconds(o, net, IDEAL) == pytest.approx(D / (2 * W))
    assert took(replace(o, groups=((5, 6),)), net) == pytest.approx(D / W + LATE, rel=1e-12)


@pytest.mark.parametrize("kind", ["gather", "scatter"])
def test_a_gather_and_a_scatter_take_what_the_links_of_the_root_need(kind: Kind) -> None:
    for net, links in ((grid(network("fully_connected", {"chips": 6, "bandwidth": W}, [6])), 5),
                       (grid(network("switch", {"chips": 8, "bandwidth": W}, [8])), 1), (on((4, 4, 4), latency=0.0), 6)):
        o = Collective("c", kind, net.axes, D, "direct")
        least = D * (1 - 1 / len(net.chips)) / links / W
        assert operation_seconds(o, net, IDEAL) == pytest.approx(least)
        assert took(o, net) == pytest.approx(least, rel=1e-9)


def test_groups_that_meet_no_link_of_others_take_what_each_takes_alone() -> None:
    net = on((4, 6), mesh)
    rows = tuple(tuple(6 * row + i for i in range(size)) for row, size in enumerate((6, 2, 3, 5)))
    for kind in (*ALIKE, *WITH_ROOT[:-1]):
        for name in ("direct", "bruck", "pairwise", "double_tree", "binomial", "tree"):
            o = Collective("c", kind, (), D, name, groups=rows)
            try:
                together = simulate(Program((o,)), net, IDEAL)
            except ProgramError:
                continue
            (segment,) = together.segments
            for row in rows:
                single = simulate(Program((replace(o, groups=(row,)),)), net, IDEAL).segments[0]
                assert segment.end[0, list(row)] == pytest.approx(single.end[0, list(row)], rel=1e-12), (kind, name)
            assert not segment.end[0, sorted(set(range(24)) - {c for row in rows for c in row})].any()


@pytest.mark.parametrize("seed", range(40))
def test_no_bound_is_beaten_and_folded_runs_are_the_same(seed: int) -> None:
    case = rooted(seed)
    said = run(case)
    assert not unlike(said, run(case, fold=False))
    for segment in said.segments:
        for i, o in enumerate(segment.operations):
            if isinstance(o, Collective):
                span = segment.end[i].max() - segment.start[i].min()
                assert operation_seconds(o, case.grid, case.chip) <= span * (1 + 1e-9), o


def test_folds_are_used_where_roots_are_alike() -> None:
    net = on((4, 4, 4))
    o = Collective("c", "broadcast", ("x",), D, "tree", root=(2,))
    said = simulate(Program((o,)), net, IDEAL)
    assert not unlike(said, simulate(Program((o,)), net, IDEAL, fold=False))


@pytest.mark.parametrize("seed", range(30))
def test_more_bytes_and_slower_links_never_take_less_time(seed: int) -> None:
    case = rooted(seed)
    for o in case.program.operations():
        if isinstance(o, Collective) and o.kind in WITH_ROOT and not case.graph.graph.get("events"):
            o = replace(o, after=None)
            before = took(o, case.grid)
            assert took(replace(o, bytes=2 * o.bytes), case.grid) >= before
            slower = case.graph.copy()
            for link in slower.edges.values():
                link["bandwidth"] /= 2
            assert took(o, grid(slower, parts=case.parts)) >= before * (1 - 1e-12)


def test_the_generator_draws_every_kind_and_algorithm() -> None:
    drawn = {(o.kind, o.algorithm, bool(o.groups)) for seed in range(300) for o in rooted(seed).program.operations()
             if isinstance(o, Collective)}
    assert {(kind, name) for kind, name, _ in drawn} >= {*EVERY, ("all_reduce", "double_tree")}
    assert {kind for kind, _, listed in drawn if listed} == set(WITH_ROOT)


def test_auto_takes_the_fastest_and_there_are_others() -> None:
    net = on((4, 4))
    for size in (1e3, 1e9):
        found = alternatives(Collective("c", "broadcast", net.axes, size, "auto"), Outlines(net), IDEAL)
        assert set(found) == set(ROOTED["broadcast"]) and list(found.values()) == sorted(found.values())
        for name, seconds in found.items():
            o = Collective("c", "broadcast", net.axes, size, name)
            assert seconds == alone(o, Outlines(net).prices(IDEAL))
            assert seconds == pytest.approx(took(o, net), rel=0.3), name


def test_large_groups_are_refused_where_the_root_would_send_to_all() -> None:
    net = on((MOST_STEPS + 1,))
    for kind, name in (("broadcast", "chain"), ("scatter", "direct")):
        with pytest.raises(ProgramError, match=f"{name} is for groups of at most 1,024 chips, and 'c' has 1,025: take tree"):
            lower(Collective("c", kind, ("x",), D, name), net)  # type: ignore[arg-type]
    assert took(Collective("c", "gather", ("x",), D, "direct"), net) > 0


@pytest.mark.parametrize("seed", [*range(24), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(24, 80))])
def test_engine_and_oracle_agree_where_links_fail_in_mid_run(seed: int) -> None:
    assert not compare(dying(seed, rooted))


@pytest.mark.parametrize("o, told", [
    (Collective("c", "send", ("x",), D), "'c' is a send: give groups of the two chips"),
    (Collective("c", "send", (), D, groups=((0, 1, 2),)), "'c' is a send: give groups of the two chips"),
    (Collective("c", "all_gather", (), D, groups=((0, 1), (1, 2))), "'c' has a chip twice in its groups")])
def test_a_program_in_python_with_groups_that_cannot_be_is_refused(o: Collective, told: str) -> None:
    with pytest.raises(ProgramError, match=told):
        took(o, on((4,)))


PROGRAM = [
    {"name": "spread", "collective": "broadcast", "axes": "yx", "root": [1, 2], "bytes": 1e6},
    {"name": "column", "collective": "reduce", "axes": "x", "root": [3], "bytes": 1e6},
    {"name": "corner", "collective": "send", "from": [0, 0], "to": [3, 3], "bytes": 1e6},
    {"name": "some", "collective": "all_gather", "chips": [[0, 0], [3, 1], [2, 2]], "bytes": 3e6},
    {"name": "three", "collective": "gather", "chips": [[0, 0], [3, 1], [2, 2]], "root": [2, 2], "bytes": 3e6},
    {"name": "unlike", "collective": "all_reduce", "groups": [[[0, 0], [3, 1], [2, 2]], [[1, 1], [1, 2]]], "bytes": 3e6}]


def test_a_file_says_which_chips_and_its_record_says_the_same() -> None:
    case = torussim.load({"chip": "ideal", "topology": {"kind": "mesh", "shape": [4, 4]}, "program": PROGRAM})
    spread, column, corner, some, three, unlike_ = case.program.block
    assert spread.root == (2, 1) and spread.axes == ("y", "x") and column.root == (3,)
    assert corner.groups == ((0, 15),) and some.groups == ((0, 13, 10),) and three.root == (2,)
    assert unlike_.groups == ((0, 13, 10), (5, 6))
    result = torussim.run(case)
    assert torussim.load(result.scenario).program == case.program
    operations = result.operations
    assert [o["chips"] for o in operations] == [16, 4, 2, 3, 3, 3]
    assert all(0 < o["of_limit"] <= 1 + 1e-9 for o in operations)


@pytest.mark.parametrize("seed", range(12))
def test_looped_and_rooted_collectives_share_links_with_any_others(seed: int) -> None:
    """A program of ours after one with a root is as it was: nothing is left over from block run to block run."""
    case = scenario(seed, layers=6)
    other = rooted(seed)
    longer = replace(case, program=replace(case.program, block=other.program.block + tuple(
        replace(o, name=f"{o.name}_again", after=None) for o in other.program.block if isinstance(o, Collective)
        and o.name not in {x.loop.collective for x in other.program.operations() if getattr(x, "loop", None)})))
    assert not compare(longer)
    assert not unlike(run(longer), run(longer, repeat=False))


@pytest.mark.parametrize("kind", [*WITH_ROOT[:-1], "all_gather", "all_reduce"])
@pytest.mark.parametrize("name", ["h100", "tpu-v4"])
def test_a_collective_of_one_chip_takes_no_time(kind: Kind, name: str) -> None:
    """The h100 asks the closed form which protocol is the faster one."""
    said = simulate(Program((Collective("alone", kind, ("x",), 1e6),)), torus((1, 4), bandwidth=1e9), chip(name))
    assert said.makespan == 0.0
