"""Rings on twisted axes: in a group that holds the shifted axes an axis goes round as if it were not twisted."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import networkx as nx
import pytest
import random_scenarios as plain
import random_shared
from random_shared import Scenario, compare, run
from test_fold import unlike
from thinned import thinned

from torussim.chips import chip
from torussim.choice import chosen
from torussim.closed_forms import axes_seconds, charges
from torussim.collectives.lower import lower, view
from torussim.collectives.playback import check
from torussim.engine.simulate import simulate
from torussim.errors import ContractError
from torussim.lower_bound import bound
from torussim.program import LOOPS, Collective, Kind, Program
from torussim.topology.builders import torus
from torussim.topology.grid import grid
from torussim.topology.shape import receivers

IDEAL = chip("ideal")
TURNING: tuple[Kind, ...] = ("all_gather", "reduce_scatter", "all_reduce")
TWISTED: list[tuple[tuple[int, ...], dict[str, dict[str, int]]]] = [
    ((3, 4), {"x": {"y": 2}}), ((4, 3), {"x": {"y": 1}}), ((5, 2), {"x": {"y": 1}}), ((3, 4), {"y": {"x": 2}}),
    ((3, 3, 2), {"x": {"z": 1}, "y": {"z": 1}}), ((4, 3, 2), {"x": {"y": 2, "z": 1}}),
    ((3, 2, 4), {"x": {"y": 1}, "z": {"y": 1}}),
]
SHAPES = [shape for shape, _ in TWISTED] + [(4, 2, 4), (3, 3, 3), (4, 4)]


def alike(shape: tuple[int, ...], twist: Any) -> nx.DiGraph:
    return torus(shape, bandwidth=1e9, latency=1e-6, twist=twist)


def collective(kind: Kind, axes: Any, algorithm: str = "", **choices: Any) -> Collective:
    return Collective("c", kind, tuple(axes), 1e6, algorithm, **choices)


def scenario(seed: int, *, broken: bool) -> Scenario:
    """Return a random program on a random twisted torus; `broken`: with dead links, routed messages and changes in mid-run."""
    rng = Random(seed)
    shape = rng.choice(SHAPES)
    names = "xyz"[:len(shape)]
    shifted = rng.sample(names, rng.randint(1, len(names) - 1))
    twist = {a: {b: rng.randint(1, n - 1) for b, n in zip(names, shape) if b in shifted and n > 1 and rng.random() < 0.8}
             for a, length in zip(names, shape) if a not in shifted and length > 2}
    graph = torus(shape, wrap=[bool(a in twist or rng.random() < 0.7) for a in names], bandwidth=1.0, twist=twist)
    graph.graph["routing"] = "shortest"
    kinds = [(rng.uniform(1e9, 9e9), rng.choice((0.0, 2e-6))) for _ in range(rng.choice((1, 9)))]
    for link in graph.edges.values():
        link["bandwidth"], link["latency"] = rng.choice(kinds)
    for _ in range(rng.choice((0, 1, 1, 2)) if broken else 0):
        fewer = graph.copy()
        ends = [(u, v) for u, v in graph.edges if sum(a != b for a, b in zip(u, v)) > 1]
        u, v = rng.choice(ends if ends and rng.random() < 0.5 else list(graph.edges))
        fewer.remove_edges_from([(u, v), (v, u)])
        graph = fewer if nx.is_strongly_connected(fewer) else graph
    if broken and rng.random() < 0.2:
        graph.graph["events"] = ((rng.uniform(0, 1e-3), dict.fromkeys(rng.sample(list(graph.edges), 3), 2e9)),)
    net = grid(graph)
    draw = random_shared.operations if broken else plain.operations
    lists = [tuple(replace(o, algorithm="") if isinstance(o, Collective) and o.algorithm == "nested" else o
                   for o in draw(rng, net, label, count))  # nested gathers never go round twisted axes
             for label, count in (("p", rng.choice((0, 1))), ("b", rng.randint(1, 4)))]
    start = tuple(rng.choice((0.0, rng.uniform(0, 2e-4))) if len(kinds) > 1 else 0.0 for _ in net.chips)
    return Scenario(Program(lists[1], rng.choice((1, 2, 3)), lists[0]), graph, start, plain.REAL, rng.random() < 0.6)


def goes_round(case: Scenario) -> bool:
    """Return whether a collective of a scenario goes round a twisted axis."""
    return any(view(o, case.grid).ring != case.grid.ring for o in case.program.operations() if isinstance(o, Collective))


# What arrives


@pytest.mark.parametrize("shape, twist", thinned(TWISTED, 3), ids=str)
def test_every_shard_arrives_and_every_contribution_counts_once_in_every_order_of_the_axes(
        shape: tuple[int, ...], twist: dict[str, dict[str, int]]) -> None:
    net = grid(alike(shape, twist))
    turned = set()
    for axes in [order for count in range(1, len(shape) + 1) for order in permutations(net.axes, count)]:
        for kind in TURNING:
            for algorithm in ("multi_axis", "sequential"):
                for way in ("both", *LOOPS)[:1 if algorithm == "multi_axis" else 2 if kind == "all_reduce" else 4]:
                    schedule = lower(collective(kind, axes, algorithm), net, way=way)
                    check(schedule)
                    turned.update((a, axes) for a in schedule.twist)
    wanted = {(a, axes) for a, shifts in twist.items() for count in range(1, len(shape) + 1)
              for axes in permutations(net.axes, count) if {a, *shifts} <= set(axes)}
    assert turned == wanted


@pytest.mark.parametrize("kind", TURNING)
@pytest.mark.parametrize("twist", [{"x": {"y": 3}, "y": {"x": 1}}, {"x": {"y": 2}, "y": {"x": 1}}])
def test_axes_that_shift_each_other_would_not_do(kind: Kind, twist: dict[str, dict[str, int]]) -> None:
    net = grid(alike((3, 4), twist))
    one = collective(kind, "xy")
    assert view(one, net).ring == (False, False) and net.notes[0].endswith("run as lines")
    as_rings = lower(one, grid(alike((3, 4), None)))
    check(as_rings)
    with pytest.raises(ContractError, match=r"twice|times instead of|does not have"):
        check(replace(as_rings, twist=twist))


def test_all_else_runs_as_lines() -> None:
    net = grid(alike((4, 4, 8), True))
    assert view(collective("all_gather", "yz"), net).ring == (False, True, True)
    assert view(collective("all_gather", "zx"), net).ring == (True, False, True)
    assert view(collective("all_reduce", "xyz", "sequential"), net).ring == (True, True, True)
    for other in (collective("all_gather", "y"), collective("all_gather", "xy"), collective("all_gather", "yz", "one_ring"),
                  collective("all_gather", "yz", "nested"), collective("all_to_all", "yz"),
                  collective("permute", "yz", shift={"y": 1})):
        assert view(other, net).ring == net.ring == (False, False, True)
    parts = grid(alike((4, 4, 8), True), parts={"z": [4, 2]})
    assert not any(view(collective("all_gather", ("y", "z/4", "z/2*4")), parts).ring[:2])
    assert parts.notes[1] == "axis y is twisted (z + 4): rings along it run as lines"
    assert grid(alike((4, 4, 8), True), parts={"y": [2, 2]}).notes[1] == parts.notes[1]


# How long it takes


@pytest.mark.parametrize("shape, axes", [((4, 4, 8), "yz"), ((4, 4, 8), "zx"), ((4, 4, 8), "xyz"), ((4, 8, 8), "xyz"),
                                         ((3, 3, 6), "zyx")])
@pytest.mark.parametrize("kind", TURNING)
@pytest.mark.parametrize("algorithm", ["multi_axis", "sequential"])
def test_a_closed_group_takes_the_time_of_the_untwisted_torus(shape: tuple[int, ...], axes: str, kind: Kind,
                                                              algorithm: str) -> None:
    program = Program((collective(kind, axes, algorithm),), 3)
    twisted, flat = (simulate(program, alike(shape, twist), plain.REAL) for twist in (True, None))
    assert twisted.makespan == flat.makespan and twisted.chips_simulated == 1
    assert axes_seconds(program, grid(alike(shape, True)), plain.REAL) == pytest.approx(twisted.makespan, rel=1e-9)


def test_a_group_that_is_not_closed_takes_the_time_of_lines() -> None:
    program = Program((collective("all_gather", "y"),))
    twisted = simulate(program, alike((4, 4, 8), True), IDEAL)
    assert twisted.makespan == simulate(program, torus((4, 4, 8), wrap=[True, False, True], bandwidth=1e9, latency=1e-6),
                                        IDEAL).makespan
    assert [charge.links for o in ("y", "yz") for charge in charges(Program((collective("all_gather", o),)),
                                                                    grid(alike((4, 4, 8), True)), IDEAL)] == [1, 4]


def test_a_slow_wraparound_is_nothing_to_lines_and_all_to_rings() -> None:
    graph = alike((4, 4, 8), True)
    for u, v, link in graph.edges(data=True):
        link["bandwidth"] /= 4 if abs(u[1] - v[1]) == 3 else 1
    net = grid(graph)
    times = {axes: [axes_seconds(Program((collective("all_gather", axes),)), each, IDEAL)
                    for each in (net, grid(alike((4, 4, 8), True)))] for axes in ("y", "yz", "xz")}
    assert times["y"][0] == times["y"][1] and times["xz"][0] == times["xz"][1] and times["yz"][0] > 2 * times["yz"][1]


# Dead links


@pytest.mark.parametrize("dead", [((1, 1, 1), (1, 2, 1)), ((1, 3, 1), (1, 0, 5))], ids=["inside", "wraparound"])
def test_round_a_dead_link_or_all_of_the_axis_as_lines_whichever_is_faster(dead: Any) -> None:
    graph = alike((4, 4, 8), True)
    graph.remove_edges_from([dead, dead[::-1]])
    net = grid(graph)
    healthy = simulate(Program((collective("all_gather", "yz"),)), alike((4, 4, 8), True), IDEAL).makespan
    said, took = dict[bool, float](), dict[bool, float]()
    for detour in (True, False):
        one = collective("all_gather", "yz", detour=detour)
        assert view(one, net).ring == (False, detour, True)
        assert view(replace(one, axes=("x", "z")), net).ring == (True, False, True)
        said[detour], took[detour] = axes_seconds(Program((one,)), net, IDEAL), simulate(Program((one,)), graph, IDEAL).makespan
    assert healthy < took[True] < took[False] <= said[False] * (1 + 1e-9)
    (best,) = chosen(Program((collective("all_gather", "yz"),)), net, IDEAL).block
    assert isinstance(best, Collective) and best.detour and said[True] < said[False]


# Engine and oracle


@pytest.mark.parametrize("broken, seeds, least", [(False, range(12), 5), (True, range(5, 17), 6)], ids=["private", "shared"])
def test_engine_and_oracle_agree_on_twisted_tori(broken: bool, seeds: range, least: int) -> None:
    cases = [scenario(seed, broken=broken) for seed in seeds]
    assert sum(map(goes_round, cases)) >= least
    for seed, case in zip(seeds, cases):
        assert not (found := compare(case)), f"seed {seed}: {found}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [*range(5), *range(12, 25), *range(100, 180)])
def test_engine_and_oracle_agree_on_hundreds_more(seed: int) -> None:
    assert not compare(scenario(seed, broken=bool(seed % 2)))


@pytest.mark.parametrize("broken", [False, True])
def test_folded_is_unfolded(broken: bool) -> None:
    for seed in range(40, 60):
        case = scenario(seed, broken=broken)
        assert not unlike(run(case), run(case, fold=False, repeat=not case.repeat)), f"seed {seed}"


def test_an_engine_that_knows_no_twist_is_found_out() -> None:
    """Receivers in the own row instead of the next one, which skewed starts tell apart."""
    cases = [case for case in (scenario(seed, broken=False) for seed in range(25)) if goes_round(case) and any(case.start)]

    found = sum(bool(plain.difference(case, run(case), random_shared.expected(case), blocks=False)) for case in cases)
    assert not found
    nets = [replace(case.grid, receiver=receivers(case.grid.links.axes)) for case in cases]
    said = [simulate(case.program, net, case.chip, start=case.start, fold=False) for case, net in zip(cases, nets)]
    wrong = [bool(plain.difference(case, one, random_shared.expected(case), blocks=False)) for case, one in zip(cases, said)]
    assert sum(wrong) > len(cases) / 2


# Twisted axes of length 2: two links between their chips, which lead to different rows

TWOS = [((2, n), {"x": {"y": by}}) for n in range(2, 6) for by in range(1, n)] + [
    ((4, 2), {"y": {"x": 1}}), ((2, 3, 2), {"x": {"y": 1}}), ((2, 2, 3), {"x": {"z": 1}, "y": {"z": 2}}),
    ((3, 2, 2), {"y": {"x": 1, "z": 1}})]


def of_length_2(shape: tuple[int, ...], twist: Any, change: str, routing: str) -> Scenario:
    """Return all-to-alls, a gather and a permute on a torus with a twisted axis of length 2; `change`: of one of its links."""
    graph = alike(shape, twist)
    graph.graph["routing"] = routing
    rng = Random(f"{shape} {twist} {change}")
    (u, v) = rng.choice(list(graph.edges))
    if change == "slower":
        graph.edges[u, v]["bandwidth"] /= 2
        graph.edges[u, v]["latency"] *= 5
    elif change == "dead":
        graph.remove_edges_from([(u, v), (v, u)])
    elif change == "each":
        for link in graph.edges.values():
            link["bandwidth"], link["latency"] = rng.uniform(1e9, 9e9), rng.uniform(0, 3e-6)
    axes = tuple(graph.graph["axes"])
    operations = (Collective("direct", "all_to_all", axes, 1e6, "direct"),
                  Collective("shifts", "all_to_all", axes, 1e6, "shifts"),
                  Collective("gather", "all_gather", axes, 1e6, detour=True),
                  Collective("pass", "permute", axes, 1e6, shift=dict.fromkeys(axes, 1), detour=True))
    return Scenario(Program(operations), graph, (0.0,) * len(graph), plain.REAL, True)


@pytest.mark.parametrize("change", ["", "slower", "dead", "each"])
@pytest.mark.parametrize("shape, twist", thinned(TWOS), ids=str)
def test_two_links_between_chips_are_two_links(shape: tuple[int, ...], twist: Any, change: str) -> None:
    """By all shortest paths as the oracle has it; by minimal ones not under the bound, and folded as not."""
    case = of_length_2(shape, twist, change, "shortest")
    assert not (found := compare(case)), found
    assert not unlike(run(case), run(case, fold=False))
    case = of_length_2(shape, twist, change, "minimal")
    said = run(case)
    assert not unlike(said, run(case, fold=False))
    assert said.makespan >= bound(case.program, case.grid, case.chip) * (1 - 1e-12)
    if not change:  # each hop of a message on one link, all messages over as few as they can
        hops = sum(sum(there.values()) for _, there in nx.all_pairs_shortest_path_length(case.graph))
        assert said.carried["direct"].sum() == pytest.approx(hops * 1e6 / len(case.graph), rel=1e-9)


@pytest.mark.parametrize("shape, twist", TWOS, ids=str)
def test_both_links_of_a_twisted_axis_of_length_2_carry_messages(shape: tuple[int, ...], twist: Any) -> None:
    case = of_length_2(shape, twist, "", "minimal")
    carried = run(case).carried["direct"]
    links = case.grid.links
    for axis, name in enumerate(links.axes):
        if name in twist and links.axes[name] == 2:
            assert carried[(links.axis == axis) & ~links.wraparound].min() > 0
            assert carried[(links.axis == axis) & links.wraparound].min() > 0
