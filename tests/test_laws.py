"""What engine and closed forms must have in common, and what no change of a network or a program may do."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from math import prod
from pathlib import Path
from random import Random
from typing import Any

import networkx as nx
import numpy as np
import pytest
from random_scenarios import REAL, operations, run, scenario
from thinned import thinned

from torussim.chips import chip
from torussim.closed_forms import axes_seconds
from torussim.collectives.lower import ALGORITHMS, DIRECT
from torussim.engine.simulate import simulate
from torussim.layouts import Layout
from torussim.lower_bound import bound
from torussim.models import model
from torussim.program import LOOPS, SYMMETRIC, Collective, Compute, Loop, Matmul, Operation, Program
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid
from torussim.transformer import build
from torussim.workload import Forward

IDEAL = chip("ideal")
RATES, LATENCIES = (1e9, 2.3e9, 1.7e9), (1e-6, 3.1e-6, 0.7e-6)


def network(shape: tuple[int, ...], *, wrap: bool, unlike: bool = False, latency: bool = True) -> Grid:
    """Return a torus or mesh; with `unlike` the links of one axis differ from those of another."""
    axes = range(len(shape))
    return grid(torus(shape, wrap=wrap, bandwidth=[RATES[a] if unlike else 1e9 for a in axes],
                      latency=[(LATENCIES[a] if unlike else 1e-6) * latency for a in axes]))


def collectives(net: Grid, without: tuple[str, ...] = ()) -> Iterator[Program]:
    """Yield every kind of collective by every algorithm over all axes, in every split and direction, looped or not."""
    axes = net.axes
    for kind in SYMMETRIC:
        for algorithm in ALGORITHMS[kind]:
            if algorithm in without or kind in without or algorithm in DIRECT:  # routed: tests/test_shared.py
                continue
            parts = algorithm in ("multi_axis", "dimension_wise") and len(axes) > 1
            shares = (0.2, 0.5, 0.3)[:len(axes)]
            for split in ("equal", "auto", tuple(s / sum(shares) for s in shares)) if parts else ("equal",):
                shift = dict(zip(axes, (1, 2, -1), strict=False)) if kind == "permute" else {}
                for direction in ("both", "one_way"):
                    yield Program((Collective("c", kind, axes, 123456.0, algorithm, split, direction, shift),))
                if kind in SYMMETRIC[:2] and "loops" not in without:
                    one = Collective("c", kind, axes, 123456.0, algorithm, split)
                    yield from (looped(one, net, loop, work) for loop in LOOPS for work in (1e6, 2e10))


def looped(collective: Collective, net: Grid, loop: str, work: float) -> Program:
    compute = Compute("m", (Matmul(100, 640, 640),), work, work / 1e3,
                      loop=Loop("c", loop, (1, prod(net.length(a) for a in collective.axes), 1)))
    return Program((collective, compute) if collective.kind == "all_gather" else (compute, collective))


def apart(program: Program, net: Grid, **choices: Any) -> float:
    """Return simulate / estimate - 1."""
    return simulate(program, net, REAL).makespan / axes_seconds(program, net, REAL, **choices) - 1


# Closed forms


@pytest.mark.parametrize("shape", [(3,), (4,), (5,), (6,), (7,), (8,), (1, 4), (4, 4), (5, 3), (2, 4), (3, 3, 3),
                                   (4, 3, 2)], ids=str)
@pytest.mark.parametrize("unlike", [False, True])
def test_a_collective_on_rings_takes_what_the_closed_form_says(shape: tuple[int, ...], unlike: bool) -> None:
    """Of any lengths; an axis of two chips is like a ring: no chip has more to do than another.

    One ring through several axes has no closed form with a latency that differs from hop to hop.
    """
    net = network(shape, wrap=True, unlike=unlike)
    alike = not unlike or len(shape) == 1
    for program in collectives(net, () if alike else ("one_ring",)):
        assert abs(apart(program, net)) < 1e-9, program


@pytest.mark.parametrize("shape", [(2,), (3,), (4,), (5,), (7,), (2, 3), (4, 3), (2, 5), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("unlike", [False, True])
def test_a_collective_on_lines_of_any_lengths_at_zero_latency_takes_what_the_closed_form_says(shape: tuple[int, ...],
                                                                                              unlike: bool) -> None:
    """But for `nested`, where chips inside a line pass messages on while those at its end wait for theirs."""
    net = network(shape, wrap=False, unlike=unlike, latency=False)
    for program in collectives(net, ("nested",)):
        assert abs(apart(program, net)) < 1e-9, program


@pytest.mark.parametrize("shape", [(2,), (3,), (4,), (5,), (6,), (7,), (2, 2), (3, 3), (5, 5), (2, 2, 2), (3, 3, 3)], ids=str)
def test_a_collective_on_lines_of_equal_lengths_takes_what_the_closed_form_says(shape: tuple[int, ...]) -> None:
    """With the same latency on all axes; but for `nested`, and for an all-to-all on four chips and more.

    There the links in the middle of a line have the most to send, but what they send last has fewer hops to go.
    """
    net = network(shape, wrap=False)
    for program in collectives(net, ("nested",) if shape[0] <= 3 else ("nested", "all_to_all")):
        if "one_ring" in str(program) and "all_to_all" in str(program) and len(shape) > 1:
            continue
        assert abs(apart(program, net)) < 1e-9, program


@pytest.mark.parametrize("shape", [(2, 3), (4, 3), (2, 3, 4), (4, 3, 2)], ids=str)
def test_one_axis_after_another_on_lines_of_any_lengths_takes_what_the_closed_form_says(shape: tuple[int, ...]) -> None:
    net = network(shape, wrap=False, unlike=True)
    for kind in ("all_gather", "reduce_scatter", "all_reduce"):
        program = Program((Collective("c", kind, net.axes, 1e5, "sequential"),))
        assert abs(apart(program, net)) < 1e-9, program


def test_a_permute_that_moves_nothing_takes_its_launch() -> None:
    net = network((4,), wrap=True)
    assert abs(apart(Program((Collective("c", "permute", net.axes, 1e5, shift={"x": 4}),)), net)) < 1e-9


def test_a_program_ends_when_all_of_it_is_done() -> None:
    net = network((4,), wrap=True)
    long, short = Collective("long", "all_gather", net.axes, 1e6), Compute("short", flops=1.0, after=())
    program = Program((long, short))
    assert abs(apart(program, net)) < 1e-9


def drawn(seed: int, *, wrap: bool | None, unlike: bool) -> tuple[Program, nx.DiGraph]:
    """Return a random program and network: rings and axes of up to 2 chips with `wrap`, lines without, either with None.

    With `unlike` all links differ.
    """
    rng = Random(seed)
    count = rng.choice((1, 1, 2, 2, 3))
    goes_round = [wrap is not False if wrap is not None else rng.random() < 0.5 for _ in range(count)]
    shape = [rng.randint(1, (0, 8, 5, 4)[count]) for _ in range(count)]
    shape[0] = max(shape[0], 2)
    graph = torus(shape, wrap=goes_round, bandwidth=[rng.uniform(1e9, 9e9) for _ in shape],
                  latency=[rng.uniform(0, 3e-6) for _ in shape])
    for link in graph.edges.values() if unlike else ():
        link["bandwidth"], link["latency"] = rng.uniform(1e9, 9e9), rng.choice((0.0, rng.uniform(0, 3e-6)))
    net = grid(graph)
    before, block, after = (foreseeable(operations(rng, net, label, rng.randint(least, most)), net)
                            for label, least, most in (("p", 0, 2), ("b", 1, 5), ("e", 0, 2)))
    return Program(block, rng.choice((1, 2, 3, 30)), before, after), graph


def foreseeable(listed: tuple[Operation, ...], net: Grid) -> tuple[Operation, ...]:
    """Return operations without what the closed form leaves out.

    That is a ring through several axes, whose links others may use at the same time, and a matmul looped with a nested
    gather on a line, whose pieces come in another order on each chip.
    """
    loops = {o.loop.collective for o in listed if isinstance(o, Compute) and o.loop}
    line = {a for a in net.axes if not net.ring[net.axis(a)] and net.length(a) > 2}
    return tuple(replace(o, algorithm="") if isinstance(o, Collective) and (
        o.algorithm == "one_ring" or (o.algorithm == "nested" and o.name in loops and line & set(o.axes))) else o for o in listed)


@pytest.mark.parametrize("seed", thinned(range(150), 3))
def test_a_program_on_rings_takes_what_the_closed_form_says(seed: int) -> None:
    """With loops, any graph of what waits for what, and blocks that repeat."""
    program, graph = drawn(seed, wrap=True, unlike=False)
    assert abs(apart(program, grid(graph))) < 1e-9


@pytest.mark.parametrize("seed", thinned(range(150), 3))
@pytest.mark.parametrize("unlike", [False, True])
def test_no_program_is_slower_than_on_the_slowest_links_alone(seed: int, unlike: bool) -> None:
    """Also on lines, where chips inside are done sooner than those at the ends, whose time the closed form is."""
    program, graph = drawn(seed, wrap=None, unlike=unlike)
    assert apart(program, grid(graph)) < 1e-9


@pytest.mark.parametrize("seed", thinned(range(150), 3))
def test_no_program_on_rings_is_faster_than_on_the_fastest_links_alone(seed: int) -> None:
    program, graph = drawn(seed, wrap=True, unlike=True)
    assert apart(program, grid(graph), fastest=True) > -1e-9


@pytest.mark.parametrize("seed", thinned(range(60), 3))
def test_no_program_beats_the_bound(seed: int) -> None:
    program, graph = drawn(seed, wrap=None, unlike=True)
    assert simulate(program, graph, REAL).makespan >= bound(program, graph, REAL) * (1 - 1e-12)


PALM = model("palm-8b", heads=64)


@pytest.mark.parametrize("ffn", ["ws1d", "ws2d", "wg_x", "wg_xy", "wg_xyz", "ws1d_code", "ws2d_code", "wg_xyz_code"])
@pytest.mark.parametrize("shape", [(4, 4, 4), (2, 2, 2)], ids=str)
def test_a_transformer_on_equal_axes_takes_what_the_closed_form_says(ffn: str, shape: tuple[int, ...]) -> None:
    """On lines of two chips too; the loops are those that were chosen."""
    net = grid(torus(shape, bandwidth=45e9, latency=1e-6))
    axes = dict(zip(net.axes, net.shape, strict=True))
    for forward in (Forward("decode", 64, 1, 2048), Forward("prefill", 64, 256, 256)):
        for attention in ("heads", "batch"):
            program = build(PALM, Layout(ffn, attention), forward, axes)
            assert abs(apart(program, net)) < 1e-9


# What must change nothing, and what must change in proportion


def unsplit(program: Program) -> Program:
    """Return a program without a split that looks at bandwidths."""
    return program.replaced({o.name: replace(o, split="equal") for o in program.operations()
                             if isinstance(o, Collective) and o.split == "auto"})


def doubled(o: Operation) -> Operation:
    if isinstance(o, Collective):
        return replace(o, bytes=2 * o.bytes, pieces=2 * o.pieces)
    matmuls = tuple(replace(m, count=2 * m.count) for m in o.matmuls)
    return replace(o, matmuls=matmuls, flops=2 * o.flops, hbm_bytes=2 * o.hbm_bytes, vector=2 * o.vector,
                   vector_bytes=2 * o.vector_bytes, scratch=2 * o.scratch,
                   loop=o.loop and replace(o.loop, sum_bytes=2 * o.loop.sum_bytes))


@pytest.mark.parametrize("seed", thinned(range(60), 3))
def test_twice_the_bytes_and_twice_the_work_take_twice_the_time_at_zero_latency(seed: int) -> None:
    case = scenario(seed, skewed=False)
    for link in case.graph.edges.values():
        link["latency"] = 0.0
    twice = case.program.replaced({o.name: doubled(o) for o in case.program.operations()})
    once, more = (simulate(p, case.graph, IDEAL) for p in (case.program, twice))
    assert once.makespan > 0 and (more.link_bytes == 2 * once.link_bytes).all()
    for a, b in zip(once.segments, more.segments, strict=True):  # a power of two: to the last bit
        assert (b.start == 2 * a.start).all() and (b.end == 2 * a.end).all()


@pytest.mark.parametrize("length", [2, 3, 4])
@pytest.mark.parametrize("wrap", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_cyclic_relabelling_of_the_axes_of_a_cube_changes_nothing(length: int, wrap: bool, seed: int) -> None:
    """Chip (i, j, k) does what chip (k, i, j) does when x, y and z are called y, z and x; whatever the starts."""
    rng = Random(seed)
    net = grid(torus((length,) * 3, wrap=wrap, bandwidth=1e9, latency=1e-6))
    program = Program(operations(rng, net, "b", 5), 3)
    renamed = {"x": "y", "y": "z", "z": "x"}
    turned = program.replaced({o.name: replace(o, axes=tuple(renamed[a] for a in o.axes),
                                               shift={renamed[a]: s for a, s in o.shift.items()})
                               for o in program.operations() if isinstance(o, Collective)})
    start = np.array([rng.uniform(0, 1e-4) for _ in net.chips])
    moved = np.array([net.index((k, i, j)) for i, j, k in net.chips])  # where each chip's part is played
    there = np.empty_like(start)
    there[moved] = start
    one, other = simulate(program, net, REAL, start=start), simulate(turned, net, REAL, start=there)
    assert one.makespan > 0
    for a, b in zip(one.segments, other.segments, strict=True):
        assert (a.start == b.start[:, moved]).all() and (a.end == b.end[:, moved]).all()


@pytest.mark.parametrize("seed", thinned(range(80), 3))
def test_a_faster_link_makes_nothing_later_anywhere(seed: int) -> None:
    case = scenario(seed, layers=5)
    slow = replace(case, program=unsplit(case.program), repeat=False)
    before = run(slow)
    rng = Random(seed)
    for change in ({"bandwidth": rng.uniform(1.01, 10)}, {"latency": rng.random()}):
        edge = rng.choice(list(case.graph.edges))
        faster = case.graph.copy()
        for key, factor in change.items():
            faster.edges[edge][key] *= factor
        after = run(replace(slow, graph=faster))
        for a, b in zip(before.segments, after.segments, strict=True):
            for was, now in ((a.start, b.start), (a.end, b.end)):
                assert (now <= was + 1e-12 * before.makespan).all(), (edge, change)


def digest(seed: int) -> str:
    """Return a hash of every bit of a run's times and bytes, and of a transformer's program."""
    found = hashlib.sha256()
    timeline = run(scenario(seed, layers=12))
    for segment in timeline.segments:
        found.update(segment.start.tobytes() + segment.end.tobytes())
    found.update(repr(timeline.runs).encode() + timeline.finish.tobytes() + timeline.link_bytes.tobytes())
    found.update(repr(axes_seconds(timeline.program, scenario(seed).grid, REAL)).encode())
    program = build(PALM, Layout("ws2d", "batch"), Forward("decode", 64, 1, 100 + seed), {"x": 2, "y": 2, "z": 2})
    found.update(repr(program).encode())
    return found.hexdigest()


def test_two_runs_are_equal_to_the_last_bit() -> None:
    assert [digest(seed) for seed in range(12)] == [digest(seed) for seed in range(12)]


@pytest.mark.parametrize("salt", ["1", "2"])
def test_a_run_in_another_process_is_equal_to_the_last_bit(salt: str) -> None:
    """Also where sets and dicts of names come in another order."""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    code = "from test_laws import digest; print([digest(seed) for seed in range(12)])"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": salt},
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str([digest(seed) for seed in range(12)])
