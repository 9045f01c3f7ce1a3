"""Where the time went: numbers worked out by hand, an obvious sweep, and laws on random programs."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_scenarios import run, scenario

from torussim import answer
from torussim.analysis import (
    breakdown,
    chosen_chips,
    exposed,
    last_block,
    link_use,
    merged,
    spread,
    usage,
    waits,
    without,
)
from torussim.chips import chip
from torussim.engine.simulate import simulate
from torussim.program import Collective, Compute, Program
from torussim.timeline import Segment, Timeline, Work
from torussim.topology.builders import mesh, ring, torus
from torussim.topology.grid import grid

SEEDS = range(60)
IDEAL = chip("ideal")
GATHER, SCATTER = Collective("gather", "all_gather", ("x",), 1.0), Collective("scatter", "reduce_scatter", ("x",), 1.0)
MULTIPLY, ADD = Compute("multiply"), Compute("add")


def timeline(*rows, runs=1, period=0.0, chips=1):
    """Return the timeline of one block: rows of (operation, start, end, busy, fixed), the same on all chips."""
    def column(i):
        return np.array([[row[i]] * chips for row in rows], dtype=float).reshape(len(rows), chips)

    segment = Segment("block", tuple(row[0] for row in rows), column(1), column(2))
    work = {row[0].name: Work(np.full(chips, float(row[3])), np.full(chips, float(row[4]))) for row in rows}
    finish = np.full(chips, max((row[2] for row in rows), default=0.0) + period * (runs - 1))
    none = np.zeros((1, 2, chips))
    turns = tuple((0, period * i) for i in range(runs))
    return Timeline(tuple((i,) for i in range(chips)), ("x",), (segment,), turns, work, none, none, np.zeros(chips), finish, 0,
                    runs, 1, None)


def swept(said, index, since, until):
    """Return (compute, overhead, exposed) between two times, one stretch between events after the other."""
    spans = [(o, a, b, said.work[o.name]) for _, o, a, b in said.spans(index)]
    launches = [(a, a + float(w.fixed[index])) for o, a, _, w in spans if isinstance(o, Collective)]
    works = [(a, b, float(w.busy[index]), float(w.fixed[index])) for o, a, b, w in spans if isinstance(o, Compute) and b > a]
    times = {t for a, b, *_ in [*launches, *works] for t in (a, b) if since < t < until} | {since, until}
    sums = [0.0, 0.0, 0.0]
    for a, b in pairwise(sorted(times)):
        middle, length = (a + b) / 2, b - a
        running = [w for w in works if w[0] < middle < w[1]]
        assert len(running) <= 1, "one compute unit"
        if running:
            start, end, busy, fixed = running[0]
            parts = [length * busy / (end - start), length * fixed / (end - start)]
        else:
            parts = [0.0, length * any(s < middle < e for s, e in launches)]
        sums = [s + p for s, p in zip(sums, [*parts, length - sum(parts)], strict=True)]
    return sums


# By hand


def test_a_matmul_alone_is_compute_and_overhead():
    assert breakdown(timeline((MULTIPLY, 0, 4, 3, 1))) == {"compute": 3, "exposed_collective": 0, "overhead": 1}


def test_a_collective_alone_is_exposed_but_for_its_launch():
    said = timeline((GATHER, 0, 5, 0, 1), (MULTIPLY, 5, 8, 3, 0))
    assert breakdown(said) == {"compute": 3, "exposed_collective": 4, "overhead": 1}
    assert exposed(said, 0) == 4
    assert waits(said, 0, 0, 8).tolist() == [[1, 5]]


def test_hidden_communication_and_hidden_launches_count_as_compute():
    said = timeline((MULTIPLY, 0, 10, 10, 0), (GATHER, 2, 9, 0, 1))
    assert breakdown(said) == {"compute": 10, "exposed_collective": 0, "overhead": 0}


def test_a_launch_that_compute_hides_in_part_counts_in_part():
    said = timeline((MULTIPLY, 0, 4, 4, 0), (GATHER, 3, 9, 0, 2))
    assert breakdown(said) == {"compute": 4, "exposed_collective": 4, "overhead": 1}


def test_launches_at_the_same_time_count_once():
    said = timeline((GATHER, 0, 6, 0, 2), (SCATTER, 1, 7, 0, 2))
    assert breakdown(said) == {"compute": 0, "exposed_collective": 4, "overhead": 3}


def test_a_matmul_that_waits_within_is_exposed_for_that_long():
    said = timeline((GATHER, 0, 9, 0, 1), (MULTIPLY, 0, 10, 6, 1))
    assert breakdown(said) == {"compute": 6, "exposed_collective": 3, "overhead": 1}
    assert exposed(said, 0) == pytest.approx(3)
    assert usage(said, 0, [0, 5, 10]).exposed == pytest.approx([1.5, 1.5])


def test_repeated_blocks_count_as_often_as_they_run():
    said = timeline((GATHER, 0, 5, 0, 1), (MULTIPLY, 5, 8, 3, 0), runs=100, period=8)
    assert breakdown(said) == pytest.approx({"compute": 300, "exposed_collective": 400, "overhead": 100})
    assert breakdown(said, 0, 1000.0)["exposed_collective"] == pytest.approx(600)


def test_the_shares_of_nothing_are_nothing():
    said = timeline((MULTIPLY, 0, 0, 0, 0))
    assert breakdown(said) == {"compute": 0, "exposed_collective": 0, "overhead": 0}
    assert set(usage(said, 0, [0, 0]).shares().values()) == {0.0}
    assert breakdown(timeline()) == {"compute": 0, "exposed_collective": 0, "overhead": 0}


def test_a_gather_on_a_ring_loads_every_link_alike():
    said = simulate(Program((Collective("g", "all_gather", ("x",), 8e6),)), ring(4, bandwidth=1e9), IDEAL)
    use = link_use(said, grid(ring(4, bandwidth=1e9)))
    assert use["per_axis"] == {"x": {"bytes": 8 * 3e6, "mean_busy": 1.0, "max_busy": 1.0}}  # (K - 1) / 2 shards of 2 MB each way
    assert use["mean_busy"] == 1.0
    assert use["busiest"][0] == {"from": [0], "to": [1], "bytes": 3e6, "busy": 1.0, "users": {"g": 1.0}}
    assert [(b["from"], b["to"]) for b in use["busiest"][4:]] == [([0], [3]), ([1], [0]), ([2], [1]), ([3], [2])]


def test_only_links_that_exist_are_counted():
    graph = mesh((1, 3), bandwidth=1e9)
    said = simulate(Program((Collective("g", "all_gather", ("y",), 3e6),)), graph, IDEAL)
    use = link_use(said, grid(graph))
    assert list(use["per_axis"]) == ["y"]
    assert len(use["busiest"]) == 4
    assert use["per_axis"]["y"]["mean_busy"] == pytest.approx(0.75)  # the ends send 1 of 2 messages, the middle 2
    assert link_use(simulate(Program((MULTIPLY,)), torus((1,), bandwidth=1.0), IDEAL), grid(torus((1,), bandwidth=1.0))) == {
        "busiest": [], "mean_busy": 0.0, "per_axis": {}}


def test_a_slow_link_is_the_busiest_and_twice_the_time_halves_it():
    graph = torus((4, 4), bandwidth=1e9)
    graph[(1, 2)][(2, 2)]["bandwidth"] /= 4
    said = simulate(Program((Collective("g", "all_gather", ("x", "y"), 8e6),)), graph, IDEAL)
    first = link_use(said, grid(graph))["busiest"][0]
    assert (first["from"], first["to"]) == ([1, 2], [2, 2])
    assert link_use(said, grid(graph), 2 * said.makespan)["busiest"][0]["busy"] == pytest.approx(first["busy"] / 2)


def test_one_chip_of_those_that_are_alike_is_chosen():
    program = Program((Compute("m", flops=1e9), Collective("g", "all_gather", ("x", "y"), 8e6)))
    assert chosen_chips(simulate(program, torus((4, 4), bandwidth=1e9), IDEAL)) == [0]
    assert chosen_chips(simulate(Program(()), torus((4, 4), bandwidth=1e9), IDEAL)) == [0]


def test_first_median_and_last_chip_are_chosen():
    said = simulate(Program((Compute("m", flops=1e9),)), torus((4, 4), bandwidth=1e9), IDEAL, start=np.arange(16) * 1.0)
    first, median, last = chosen_chips(said)
    assert last == said.last_chip
    assert said.finish[first] == said.finish.min()
    assert said.finish[first] < said.finish[median] < said.finish[last]


def test_chips_that_only_finish_together_are_told_apart_by_their_operations():
    rows = [(GATHER, 0, 2, 0, 0), (MULTIPLY, 2, 6, 4, 0)]
    said = timeline(*rows, chips=3)
    said.segments[0].end[0] = [2, 1, 1.5]
    assert chosen_chips(said) == [1, 2, 0]


def test_the_last_block_that_was_simulated_is_shown():
    block = timeline((MULTIPLY, 0, 1, 1, 0)).segments[0]
    ends = [replace(block, section=s) for s in ("prologue", "epilogue")]
    said = replace(timeline((MULTIPLY, 0, 1, 1, 0)), segments=(ends[0], block, block, ends[1]),
                   runs=((0, 0.0), (1, 0.0), (2, 0.0), (1, 2.0), (2, 2.0), (3, 0.0)))
    assert last_block(said) == 2
    assert last_block(replace(said, segments=ends[:1], runs=((0, 0.0),))) == 0


# Laws


@pytest.mark.parametrize("seed", SEEDS)
def test_the_parts_add_up_to_the_makespan_and_none_is_negative(seed):
    said = run(scenario(seed))
    parts = breakdown(said)
    assert sum(parts.values()) == pytest.approx(said.makespan, rel=1e-14)
    assert min(parts.values()) >= 0
    assert parts["exposed_collective"] == pytest.approx(
        exposed(said, said.last_chip) + said.begin[said.last_chip] - said.begin.min(), abs=1e-9 * said.makespan)


@pytest.mark.parametrize("seed", SEEDS)
def test_usage_is_what_an_obvious_sweep_finds(seed):
    said = run(scenario(seed))
    for index in {0, said.last_chip}:
        edges = np.linspace(said.begin[index], said.finish[index], 4)
        found = usage(said, index, edges)
        wanted = np.array([swept(said, index, a, b) for a, b in pairwise(edges.tolist())]).T
        assert np.stack([found.compute, found.overhead, found.exposed]) == pytest.approx(wanted, abs=1e-9 * said.makespan)
        assert sum(found.shares().values()) == pytest.approx(1)


@pytest.mark.parametrize("seed", SEEDS)
def test_repeated_blocks_give_what_simulated_ones_give(seed):
    short, long = (run(scenario(seed, layers=12), repeat=repeat) for repeat in (True, False))
    for index in {0, short.last_chip}:
        assert breakdown(short, index) == pytest.approx(breakdown(long, index), abs=1e-9 * short.makespan)
        assert exposed(short, index) == pytest.approx(exposed(long, index), abs=1e-9 * short.makespan)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_link_is_busier_than_all_the_time(seed):
    case = scenario(seed)
    said = run(case)
    use = link_use(said, case.grid)
    busy = [link["busy"] for link in use["busiest"]]
    assert all(-1e-12 <= b <= 1 + 1e-9 for b in busy)
    assert busy == pytest.approx(sorted(busy, reverse=True), abs=1e-11)
    assert sum(axis["bytes"] for axis in use["per_axis"].values()) == pytest.approx(said.link_bytes.sum())
    assert max((axis["max_busy"] for axis in use["per_axis"].values()), default=0.0) == max(busy, default=0.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_chosen_chips_differ_and_end_with_the_slowest(seed):
    said = run(scenario(seed))
    chosen = chosen_chips(said)
    assert 1 <= len(chosen) == len(set(chosen)) <= 3
    assert said.finish[chosen[-1]] >= said.finish.max() - 1e-9 * said.makespan


SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 6)).map(lambda s: (float(s[0]), float(s[0] + s[1]))), max_size=8)


def array(spans):
    return np.array(spans, dtype=float).reshape(-1, 2)


def seconds(spans):
    """Return the whole seconds that spans with whole ends cover."""
    return {t for a, b in spans for t in range(int(a), int(b))}


@given(SPANS, SPANS)
def test_spans_are_sets_of_time(some, others):
    union, taken = merged(array(some)), merged(array(others))
    assert seconds(union) == seconds(some)
    assert (union[1:, 0] > union[:-1, 1]).all(), "in order, and none touches the next"
    assert seconds(without(union, taken)) == seconds(some) - seconds(others)
    assert spread(union, np.arange(40.0)) == pytest.approx([float(t in seconds(some)) for t in range(39)])


def test_a_chip_at_the_link_to_blame_is_shown_wherever_the_link_is():
    for source, target in (((2, 1), (2, 2)), ((0, 3), (1, 3)), ((3, 0), (0, 0))):
        links = [{"from": source, "to": target, "scale": 0.6}]
        result = answer.run({"chip": "tpu-v4", "topology": {"shape": [4, 4], "wrap": True, "links": links}, "program": [
            {"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "8 MB"}, {"name": "work", "flops": 1e10},
            {"name": "exchange", "collective": "all_to_all", "axes": "xy", "bytes": "8 MB"},
            {"name": "scatter", "collective": "reduce_scatter", "axes": "y", "bytes": "8 MB"}]})
        shown = [result.timeline.chips[chip] for chip in answer.shown_chips(result)]
        assert {source, target} & set(shown) and len(shown) <= 3
