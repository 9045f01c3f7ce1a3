"""Collectives that go straight from chip to chip, in steps: contract, oracle, closed forms, and which one is taken."""

from __future__ import annotations

from dataclasses import replace
from math import ceil, log2, prod
from typing import Any

import networkx as nx
import numpy as np
import pytest
from random_shared import compare, rooted, stepwise
from test_fold import unlike

from torussim import run
from torussim.chips import chip
from torussim.choice import alternatives, chosen
from torussim.closed_forms import axes_seconds
from torussim.collectives.lower import ALGORITHMS, DIRECT, algorithm_of, lower
from torussim.collectives.playback import check
from torussim.collectives.steps import PAIRS, STEPS
from torussim.engine.simulate import simulate
from torussim.errors import ContractError, ProgramError
from torussim.outlines import Outlines
from torussim.program import Collective, Compute, Kind, Loop, Program
from torussim.report import text
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid

IDEAL, D, W = chip("ideal"), 840e6, 1e9
EVERY = [(kind, name) for kind, names in STEPS.items() for name in names if name != "in_network"]  # see test_protocols
SHAPES = [(2,), (3,), (5,), (7,), (8,), (2, 2), (2, 3), (3, 3), (4, 2), (2, 2, 2), (3, 2, 2)]


def collective(kind: Kind, name: str, net: Grid) -> Collective:
    return Collective("c", kind, net.axes, D, name)


def there_is(name: str, shape: tuple[int, ...]) -> bool:
    return name not in PAIRS or prod(shape).bit_count() == 1


def star(chips: int, bandwidth: float = W, latency: float = 0.0) -> Grid:
    """Return chips on one switch."""
    graph = nx.DiGraph(axes={"x": chips})
    graph.add_node("switch", chip=False)
    for i in range(chips):
        graph.add_edge((i,), "switch", bandwidth=bandwidth, latency=latency)
        graph.add_edge("switch", (i,), bandwidth=bandwidth, latency=latency)
    return grid(graph)


def nodes(count: int, chips: int, inside: float, outside: float) -> Grid:
    """Return nodes with a switch each, a NIC for each chip, and a switch that all NICs are on."""
    graph = nx.DiGraph(axes={"x": count, "y": chips})
    for a in range(count):
        for i in range(chips):
            for u, v, bandwidth in (((a, i), f"node {a}", inside), ((a, i), f"nic {a} {i}", outside),
                                    (f"nic {a} {i}", "outer", outside)):
                graph.add_edge(u, v, bandwidth=bandwidth, latency=0.0)
                graph.add_edge(v, u, bandwidth=bandwidth, latency=0.0)
    graph.add_nodes_from([node for node in graph if isinstance(node, str)], chip=False)
    return grid(graph)


@pytest.mark.parametrize("kind, name", EVERY)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shard_arrives_and_every_contribution_counts_once(kind: Kind, name: str, shape: tuple[int, ...]) -> None:
    net = grid(torus(shape, bandwidth=W))
    if not there_is(name, shape):
        near = 1 << prod(shape).bit_length() - 1
        with pytest.raises(ProgramError, match=f"{name} is for groups of a power of two.*, or {near} or {2 * near} chips"):
            lower(collective(kind, name, net), net)
        return
    check(lower(collective(kind, name, net), net))


def mutations(schedule: Any) -> Any:
    """Yield schedules with a fault: a step left out, sent to another chip, sent twice, of another size."""
    for i, step in enumerate(schedule.steps):
        before, after = schedule.steps[:i], schedule.steps[i + 1:]
        to = step.targets(list(schedule.lengths.values()))
        yield "left out", before + after
        yield "elsewhere", (*before, replace(step, moves=None, to=np.where(to == to.max(), to.min(), to)), *after)
        yield "twice", (*before, step, step, *after)
        yield "half", (*before, replace(step, size=step.size / 2), *after)
        gone = to.copy()
        gone[tuple(np.argwhere(to >= 0)[-1])] = -1
        yield "one is not sent", (*before, replace(step, moves=None, to=gone), *after)


@pytest.mark.parametrize("kind, name", [(kind, name) for kind, name in EVERY if name != "shifts"])
def test_a_schedule_with_a_fault_is_refused(kind: Kind, name: str) -> None:
    net = grid(torus((2, 2), bandwidth=W))
    schedule = lower(collective(kind, name, net), net)
    for what, steps in mutations(schedule):
        with pytest.raises(ContractError):
            check(replace(schedule, steps=steps))
            pytest.fail(what)


@pytest.mark.parametrize("seed", [*range(24), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(24, 200))])
def test_engine_and_oracle_agree(seed: int) -> None:
    assert not compare(stepwise(seed))


@pytest.mark.parametrize("seed", [*range(30), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(30, 150))])
def test_engine_and_oracle_agree_where_there_is_a_root(seed: int) -> None:
    assert not compare(rooted(seed))


@pytest.mark.parametrize("chips", [2, 3, 4, 7, 8])
def test_on_a_switch_each_chip_sends_and_gets_what_the_algorithm_says(chips: int) -> None:
    """No link but a chip's own is in the way: its bytes over its bandwidth, and two latencies a step."""
    late, net, once = 1e-6, star(chips, latency=1e-6), (chips - 1) / chips * D / W
    steps, digits = ceil(log2(chips)), [sum(1 for by in range(chips) if by & 1 << k) for k in range((chips - 1).bit_length())]
    wanted = {
        ("all_gather", "direct"): once + 2 * late, ("reduce_scatter", "direct"): once + 2 * late,
        ("all_to_all", "direct"): once + 2 * late, ("all_reduce", "direct"): 2 * once + 4 * late,
        ("all_gather", "pairwise"): once + (chips - 1) * 2 * late, ("all_gather", "bruck"): once + steps * 2 * late,
        ("all_to_all", "bruck"): sum(digits) / chips * D / W + steps * 2 * late}
    if chips.bit_count() == 1:
        wanted |= {("all_gather", "recursive_doubling"): once + steps * 2 * late,
                   ("reduce_scatter", "halving_doubling"): once + steps * 2 * late,
                   ("all_reduce", "halving_doubling"): 2 * once + 2 * steps * 2 * late,
                   ("all_reduce", "recursive_doubling"): steps * (D / W + 2 * late)}
    wanted["all_reduce", "one_shot"] = (chips - 1) * D / W + 2 * late
    for (kind, name), seconds in wanted.items():
        program = Program((collective(kind, name, net),))  # type: ignore[arg-type]
        said = simulate(program, net, IDEAL)
        assert said.makespan == pytest.approx(seconds, rel=1e-9), (kind, name)
        assert axes_seconds(program, net, IDEAL) == pytest.approx(seconds, rel=1e-9), (kind, name)
        assert not unlike(said, simulate(program, net, IDEAL, fold=False))


def test_hierarchical_sends_each_shard_once_between_nodes() -> None:
    """Two nodes of four: 3/4 of the data inside, half of a quarter between the nodes, and back."""
    net = nodes(2, 4, 150e9, 10e9)
    said = simulate(Program((collective("all_reduce", "hierarchical", net),)), net, IDEAL).makespan
    assert said == pytest.approx(2 * (0.75 * D / 150e9 + D / 8 / 10e9), rel=1e-9)
    assert said < simulate(Program((collective("all_reduce", "direct", net),)), net, IDEAL).makespan / 2


def test_off_tori_the_fastest_by_estimate_is_taken() -> None:
    for net in (star(8), nodes(2, 4, 150e9, 10e9), nodes(3, 2, 5e9, 20e9)):
        for kind in STEPS:
            if kind == "permute":
                continue
            for given in ("", "auto"):
                o = Collective("c", kind, net.axes, D, given)  # type: ignore[arg-type]
                (taken,) = chosen(Program((o,)), net, IDEAL).block
                assert isinstance(taken, Collective)
                found = alternatives(o, Outlines(net), IDEAL)
                least = axes_seconds(Program((replace(o, algorithm=algorithm_of(taken)),)), net, IDEAL)
                assert least == pytest.approx(min(found.values())) and next(iter(found)) == taken.algorithm
                assert set(found) <= set(ALGORITHMS[kind])  # type: ignore[index]
    net = grid(torus((8,), bandwidth=W))
    for given, wanted in (("", ""), ("auto", "multi_axis")):
        (taken,) = chosen(Program((Collective("c", "all_gather", ("x",), D, given),)), net, IDEAL).block
        assert isinstance(taken, Collective) and taken.algorithm == wanted


def test_a_matmul_is_looped_with_no_collective_that_is_routed() -> None:
    net = star(4)
    gather = Collective("gather", "all_gather", ("x",), D, "direct")
    loops = (Loop("gather", "throughput", (4, 1, 1)),)
    (_, multiply) = chosen(Program((gather, Compute("multiply", flops=1e12, loops=loops))), net, IDEAL).block
    assert isinstance(multiply, Compute) and multiply.loop is None
    with pytest.raises(ProgramError, match="'gather' is looped with 'multiply', but its messages are routed"):
        simulate(Program((gather, Compute("multiply", flops=1e12, loop=loops[0]))), net, IDEAL)
    assert {"direct", "hierarchical", *PAIRS} <= set(DIRECT)


@pytest.mark.parametrize("chips", [3, 4, 8])
@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_reduce", "all_to_all"])
def test_on_a_switch_the_estimate_of_every_algorithm_is_the_simulation(kind: Kind, chips: int) -> None:
    """Also of rings, whose messages pass the switch at every step. A nested gather sends one way; it is taken to send both."""
    net = star(chips, latency=1e-6)
    for name in alternatives(collective(kind, "", net), Outlines(net), IDEAL):
        program = Program((replace(collective(kind, name, net), bytes=1e4),))
        said = simulate(program, net, IDEAL).makespan
        if name == "double_tree":  # up and down are taken to be at work together all the time
            assert said <= axes_seconds(program, net, IDEAL) <= 1.25 * said
        elif name != "nested":
            assert axes_seconds(program, net, IDEAL) == pytest.approx(said, rel=1e-9), name


def test_the_report_says_what_other_algorithms_take_and_how_much_was_simulated() -> None:
    result = run({"chip": "ideal", "topology": {"kind": "switch", "shape": [8], "bandwidth": 50e9},
                  "program": [{"name": "reduce", "collective": "all_reduce", "axes": "x", "bytes": 100e6}]})
    (reduce,) = result.keys["operations"]
    assert reduce["alternatives"]["direct"] == pytest.approx(3.5e-3) and "recursive_doubling" in reduce["alternatives"]
    told = text(result, verbose=True)
    assert f"reduce: {reduce['algorithm']} is the fastest by estimate, 3.5 ms alone; " in told
    assert f"Simulated: {result.keys['engine']['chips_simulated']} of 8 chips; the others are like these." in told
