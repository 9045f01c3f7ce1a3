"""No simulation is faster than the critical path of its program, on any network; and how close that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import networkx as nx
import numpy as np
import pytest
import random_scenarios as plain
import random_shared as shared
import test_own_algorithms as own
from hypothesis import given, settings
from hypothesis import strategies as st
from random_files import whole

from torussim import fronts
from torussim.chips import Chip
from torussim.choice import chosen
from torussim.critical_path import least_seconds
from torussim.engine.simulate import simulate
from torussim.fronts import CLASSES, Fronts, Waits, _Paths
from torussim.outlines import Outlines
from torussim.program import Collective, Compute, Program
from torussim.scenario import Scenario, load
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid
from torussim.transformer import build
from torussim.workload import passes

SCENARIOS = sorted((Path(__file__).resolve().parent.parent / "scenarios").glob("*.yaml"))
PODS = ("palm-540b-decode-pod-dead-link", "palm-540b-decode-uneven-pod")  # of 4096 chips
CLOSE = 1 + 1e-9
FEW = st.sampled_from((1, 2, 5, CLASSES))  # classes of chips
Case = tuple[Program, Grid, Chip, Any]  # at last when each chip starts


def private(seed: int) -> Case:
    """Return a random program on links that are each one chip's own."""
    case = plain.scenario(seed, skewed=seed % 2 == 0, layers=40 if seed % 7 == 0 else None)
    return case.program, case.grid, case.chip, case.start


def contended(seed: int) -> Case:
    """Return a random program with dead links and detours, routed all-to-alls, twists, parts of axes, events."""
    case = shared.scenario(seed, nested=seed % 5 == 0, layers=20 if seed % 11 == 0 else None)
    return case.program, case.grid, case.chip, case.start


def faster(seed: int) -> Case:
    """Return a random program on links that become faster when it has hardly begun."""
    case = plain.scenario(seed)
    case.graph.graph["events"] = ((1e-6, {edge: 1.5 * link["bandwidth"] for edge, link in case.graph.edges.items()}),)
    return case.program, case.grid, case.chip, None


def users(seed: int) -> Case:
    """Return a program with a collective by a random algorithm of the user's."""
    rng = Random(seed)
    net = own.networks(rng)
    return own.own_program(rng, net, sound=True), net, plain.REAL, None


def step(scenario: Scenario) -> Case:
    """Return the last pass of a scenario."""
    net, program = scenario.net, scenario.program
    if scenario.model and scenario.workload:
        last = passes(scenario.workload)[-1]
        program = build(scenario.model, scenario.layouts[last.phase], last, dict(zip(net.axes, net.shape, strict=True)))
    assert program is not None
    return program, net, scenario.chip, None


def transformer(seed: int) -> Case:
    """Return the pass of a transformer in a random layout, on a network with slow and dead links."""
    return step(whole(seed))


def beats(case: Case, classes: int = CLASSES) -> str:
    """Return in words that a simulation is faster than its critical path with so many classes of chips, or nothing."""
    program, net, chip, start = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fronts, "CLASSES", classes)
        end, least = simulate(program, net, chip, start=start).finish.max(), least_seconds(program, net, chip)
    return "" if least <= end * CLOSE else f"{end} s, at least {least} s: {program} on {net}, starting at {start}"


# No simulation is faster


@settings(max_examples=45)
@given(st.integers(0, 10**6), FEW)
def test_no_program_beats_its_critical_path(seed: int, classes: int) -> None:
    assert not beats(private(seed), classes)


@settings(max_examples=45)
@given(st.integers(0, 10**6), FEW)
def test_no_program_beats_its_critical_path_where_links_are_shared(seed: int, classes: int) -> None:
    assert not beats(contended(seed), classes)


@settings(max_examples=20)
@given(st.integers(0, 10**6), FEW)
def test_no_program_beats_its_critical_path_by_an_algorithm_of_the_users(seed: int, classes: int) -> None:
    assert not beats(users(seed), classes)


@settings(max_examples=25)
@given(st.integers(0, 10**6), FEW)
def test_no_transformer_beats_its_critical_path(seed: int, classes: int) -> None:
    assert not beats(transformer(seed), classes)


@pytest.mark.slow
@pytest.mark.parametrize("draw", [private, contended, users, transformer])
@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_none_of_thousands_beats_its_critical_path(first: int, draw: Callable[[int], Case]) -> None:
    for seed in range(first, first + 100):
        case = draw(seed)
        assert not beats(case, CLASSES if seed % 3 else 1 + seed % 7)


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_reduce", "all_to_all", "permute"])
def test_no_collective_beats_its_critical_path_through_switches(kind: Any) -> None:
    """Chips on one switch, where both directions of an axis share a chip's link, and on two with a thin link between."""
    for switches, thin in ((1, 1e9), (2, 3e8)):
        graph = nx.DiGraph(axes={"x": 3, "y": 2})
        graph.add_nodes_from((x, y) for x in range(3) for y in range(2))
        graph.add_nodes_from((f"s{i}" for i in range(switches)), chip=False)
        for x, y in list(graph)[:6]:
            for ends in (((x, y), f"s{y % switches}"), (f"s{y % switches}", (x, y))):
                graph.add_edge(*ends, bandwidth=1e9 * (1 + x), latency=1e-6)
        for ends in (("s0", "s1"), ("s1", "s0"))[:2 * (switches - 1)]:
            graph.add_edge(*ends, bandwidth=thin, latency=2e-6)
        for axes in (("x",), ("y",), ("x", "y")):
            shift = {"x": 1} if kind == "permute" else {}
            collective = Collective("c", kind, axes, 1e6, shift={a: s for a, s in shift.items() if a in axes})
            case = Program((collective, replace(collective, name="again")), 3), grid(graph), plain.REAL, None
            assert not beats(case)


def test_one_chip_alone_takes_the_time_of_its_computations() -> None:
    program = Program((Compute("work", flops=1e12), Collective("c", "all_gather", ("x",), 1e6)), 3)
    assert close((program, grid(torus((1,), bandwidth=1e9)), plain.REAL, None)) == pytest.approx(1)


def test_tables_of_another_chip_are_not_used() -> None:
    net, program = grid(torus((4,), bandwidth=1e9)), Program((Collective("c", "all_gather", ("x",), 1e6),))
    other = replace(plain.REAL, link_efficiency=0.3)
    assert least_seconds(program, Fronts(net, other), plain.REAL) == least_seconds(program, net, plain.REAL)


# How close it is


def close(case: Case) -> float:
    """Return the critical path as a share of the simulated time."""
    program, net, chip, _ = case
    return least_seconds(program, net, chip) / simulate(program, net, chip).makespan


@pytest.mark.parametrize("path", [path for path in SCENARIOS if path.stem not in PODS], ids=lambda path: path.stem)
def test_the_critical_path_of_a_scenario_is_its_time(path: Path) -> None:
    """To 1e-9 where each link is one chip's own; to 4 % where a dead link or a twist makes messages meet.

    On lines chips run apart, so that a collective of one can meet the next one of its neighbour: to 0.1 %.
    """
    case = step(load(path))
    around = case[1].around(case[1].axes)
    meet = any(around.gaps) or case[1].links.twist
    apart = not all(ring or around.length(axis) < 3 for axis, ring in zip(around.axes, around.ring))
    assert 1 - (4e-2 if meet else 1e-3 if apart else 1e-9) <= close(case) <= CLOSE


@pytest.mark.parametrize("shape", [(8,), (4, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("wrap", [True, False])
def test_an_uneven_collective_that_nothing_meets_takes_its_critical_path(shape: tuple[int, ...], wrap: bool) -> None:
    """All links differ and there is a class for each chip: of one collective nothing is left out, but paths at other sizes."""
    graph, rng = torus(shape, wrap=wrap, bandwidth=1.0), Random(3)
    for link in graph.edges.values():
        link["bandwidth"], link["latency"] = rng.uniform(1e9, 9e9), rng.uniform(0, 3e-6)
    net = grid(graph)
    for kind in ("all_gather", "reduce_scatter", "all_reduce", "all_to_all"):
        for size in (1e2, 1e5, 1e9):
            assert close((Program((Collective("c", kind, net.axes, size),)), net, plain.REAL, None)) > 0.99


def test_one_table_holds_for_all_sizes_and_programs_of_a_network() -> None:
    net, chip = grid(torus((4, 3), wrap=[True, False], bandwidth=2e9, latency=1e-6)), plain.REAL
    known = Fronts(Outlines(net), chip)
    for size in (0.0, 1.0, 1e4, 1e7, 1e12):
        program = Program((Collective("c", "all_gather", net.axes, size),), 3)
        assert least_seconds(program, known, chip) == pytest.approx(least_seconds(program, net, chip), rel=1e-12)
        assert least_seconds(program, known, chip) == pytest.approx(simulate(program, net, chip).makespan, rel=1e-9)
    assert len(known._tables) == 1


def test_choices_are_made_as_the_simulation_makes_them() -> None:
    program, net, chip, _ = step(load(SCENARIOS[[path.stem for path in SCENARIOS].index("network-dead-link")]))
    assert least_seconds(program, net, chip) == least_seconds(chosen(program, net, chip), net, chip)


# Bounds that are broken on purpose


def all_like_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every chip of a class for the one that ends last, as a closed form takes every chip of a line for that at its end."""
    right = _Paths.waits

    def waits(self: _Paths, ends: Any) -> Waits:
        for c in range(self.fronts.classes):
            here = self.label == c
            ends[..., here] = ends[..., here].max(axis=-1, keepdims=True)
        return right(self, ends)

    monkeypatch.setattr(_Paths, "waits", waits)
    monkeypatch.setattr(fronts, "MANY", 1)


def each_route_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a message that takes several routes no more than the links of one of them have."""
    right = fronts._hops

    def hops(net: Grid, link_rate: Any) -> Any:
        rate, late = right(net, link_rate)
        gaps = np.flatnonzero(net.around(net.axes).gap.ravel())
        rate[gaps] = np.minimum(rate[gaps], link_rate.min())
        return rate, late

    monkeypatch.setattr(fronts, "_hops", hops)


def never_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take links for as fast as they are at the start, whatever happens later."""
    monkeypatch.setattr(fronts, "_most", lambda net: net.links.bandwidth)


def gains_of_the_slowest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take later blocks for as slow as the class that gains most."""
    from torussim.critical_path import _Walk

    monkeypatch.setattr(_Walk, "state", lambda self: np.array([self.last.max(), max(self.unit.max(), self.last.max())]))


@pytest.mark.parametrize("broken, draw", [(all_like_the_last, private), (each_route_alone, contended), (never_faster, faster),
                                          (gains_of_the_slowest, private)])
def test_a_bound_that_is_broken_is_noticed(broken: Callable[[pytest.MonkeyPatch], None], draw: Callable[[int], Case],
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any(beats(draw(seed)) for seed in range(3))
    broken(monkeypatch)
    assert any(beats(draw(seed)) for seed in range(60))
