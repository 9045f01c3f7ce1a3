"""No algorithm beats the bound, whatever the links; and on the best networks it is reached."""

from random import Random

import numpy as np
import pytest
from random_scenarios import operations, run, scenario
from thinned import thinned

from torussim.chips import chip
from torussim.collectives.lower import ALGORITHMS, fits
from torussim.engine.simulate import simulate
from torussim.lower_bound import Part, bound, limits, limits_of, operation_seconds, traffic
from torussim.program import SYMMETRIC, Collective, Compute, Matmul, Program
from torussim.topology.builders import torus
from torussim.topology.grid import grid

IDEAL = chip("ideal")


def least(graph, kind, axes, size, **more):
    return operation_seconds(Collective("c", kind, tuple(axes), size, **more), grid(graph), IDEAL)


def took(graph, kind, axes, size, **more):
    return simulate(Program((Collective("c", kind, tuple(axes), size, **more),)), graph, IDEAL).makespan


def slowed(graph, *links, by=10.0):
    for u, v in links:
        graph.edges[u, v]["bandwidth"] /= by
        graph.edges[v, u]["bandwidth"] /= by
    return graph


# Nothing beats it

@pytest.mark.parametrize("seed", thinned(range(60), 3))
def test_no_algorithm_beats_the_bound_on_uneven_links(seed):
    random = Random(seed)
    shape = [random.randint(1, 5) for _ in range(random.randint(1, 3))]
    graph = torus(shape, wrap=[random.random() < 0.6 for _ in shape], bandwidth=1.0)
    for link in graph.edges.values():
        link["bandwidth"] = random.choice((1, random.uniform(1, 9), random.uniform(0.01, 1)))
    net = grid(graph)
    longer = [a for a in net.axes if net.length(a) > 1]
    if not longer:
        return
    axes = tuple(random.sample(longer, random.randint(1, len(longer))))
    chips = int(np.prod([net.length(a) for a in axes]))
    for kind in ALGORITHMS:
        for algorithm in fits(Collective("c", kind, axes, 1.0), chips):
            shift = {a: random.randint(1, net.length(a) - 1) for a in axes} if kind == "permute" else {}
            ends = (tuple(random.sample(range(len(net.chips)), 2)),) if kind == "send" else ()
            one = Collective("c", kind, () if ends else axes, 100.0, algorithm, shift=shift, groups=ends)
            assert 0 < operation_seconds(one, net, IDEAL) <= simulate(Program((one,)), net, IDEAL).makespan * (1 + 1e-12), one


@pytest.mark.parametrize("seed", thinned(range(60), 3))
def test_no_operation_of_a_program_beats_its_bound_from_the_first_start_to_the_last_end(seed):
    """On one chip alone it may: what is due to a chip that comes late may be there already."""
    case = scenario(seed)
    most, timeline = limits(case.grid), run(case)
    assert timeline.makespan - min(case.start) >= bound(case.program, most, case.chip) * (1 - 1e-12)
    for segment in timeline.segments:
        for o, start, end in zip(segment.operations, segment.start, segment.end, strict=True):
            if isinstance(o, Collective):
                assert end.max() - start.min() >= operation_seconds(o, most, case.chip) * (1 - 1e-9), o


# It is reached

@pytest.mark.parametrize("shape", [(2, 2), (4,), (4, 4), (4, 4, 4), (6, 6), (4, 2), (4, 6), (8, 4)], ids=str)
def test_an_all_to_all_on_even_rings_must_bring_d_k_8_through_the_middle_of_its_longest_axis(shape):
    """D max(k) / (8 w); an axis of two has one link each way, not two: D / (4 w)."""
    graph, names = torus(shape, bandwidth=3.0), "xyz"[:len(shape)]
    ideal = 64.0 * max(k / 8 if k > 2 else k / 4 for k in shape) / 3.0
    assert least(graph, "all_to_all", names, 64.0) == pytest.approx(ideal, rel=1e-12)


@pytest.mark.parametrize("shape", [(4,), (6,), (8,), (4, 4), (4, 4, 4)], ids=str)
def test_an_all_to_all_on_equal_even_rings_reaches_the_bound(shape):
    graph, names = torus(shape, bandwidth=3.0), "xyz"[:len(shape)]
    assert took(graph, "all_to_all", names, 64.0) == pytest.approx(least(graph, "all_to_all", names, 64.0), rel=1e-12)


@pytest.mark.parametrize("length", [2, 3, 4, 5, 6, 7])
def test_on_a_line_all_gather_and_all_to_all_reach_the_bound(length):
    """The chips at the ends get (K-1)/K D through one link; the middle link carries floor(K/2) ceil(K/2) D/K."""
    graph = torus((length,), wrap=False, bandwidth=3.0)
    middle = 60.0 * (length // 2) * (length - length // 2) / length / 3.0
    for kind, formula in (("all_gather", 60.0 * (length - 1) / length / 3.0), ("all_to_all", middle)):
        assert least(graph, kind, "x", 60.0) == pytest.approx(formula, rel=1e-12)
        assert took(graph, kind, "x", 60.0) == pytest.approx(formula, rel=1e-12)


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_reduce"])
@pytest.mark.parametrize("length", [3, 4, 5, 6, 7])
def test_on_a_ring_gathers_and_reductions_reach_the_bound(kind, length):
    """(K-1)/K D through the two links of a chip; twice that in all for an all-reduce."""
    graph = torus((length,), bandwidth=3.0)
    formula = (2 if kind == "all_reduce" else 1) * 60.0 * (length - 1) / length / 6.0
    assert least(graph, kind, "x", 60.0) == pytest.approx(formula, rel=1e-12)
    assert took(graph, kind, "x", 60.0) == pytest.approx(formula, rel=1e-12)


def test_an_all_gather_over_all_axes_reaches_the_bound():
    graph = torus((4, 4, 4), bandwidth=1.0)
    assert took(graph, "all_gather", "xyz", 64.0) == pytest.approx(least(graph, "all_gather", "xyz", 64.0), rel=1e-12)


@pytest.mark.parametrize("length", [4, 5, 8])
def test_a_permute_must_bring_its_shift_through_the_middle_of_the_ring(length):
    """A half of the ring sends from its last `shift` chips to the other half; both ends of the half have a link."""
    graph = torus((length,), bandwidth=3.0)
    for shift in range(-length, length + 1):
        short = min(shift % length, -shift % length)
        assert least(graph, "permute", "x", 60.0, shift={"x": shift}) == pytest.approx(60.0 * short / 6.0, rel=1e-12)


# Where the links are

@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_reduce", "all_to_all"])
@pytest.mark.parametrize("axes", ["x", "z", "xyz"])
def test_idle_axes_are_of_no_help_when_all_groups_run_at_once(kind, axes):
    """Six links of a chip could bring 48/6 of an all-gather over x, but into all chips of one x only links of x lead."""
    graph = torus((4, 4, 4), bandwidth=1.0)
    assert took(graph, kind, axes, 64.0) == pytest.approx(least(graph, kind, axes, 64.0), rel=1e-12)


def test_an_idle_axis_counts_for_the_chip_that_its_own_axis_starves():
    """One chip's x links are nearly dead: what it needs can come by way of its neighbour, over y."""
    graph = torus((4, 4), bandwidth=1.0)
    for u, v, link in graph.edges(data=True):
        if (0, 0) in (u, v) and u[1] == v[1]:
            link["bandwidth"] = 0.01
    by_x_alone, by_all = 12 / 0.02, 12 / 2.02
    assert by_all < least(graph, "all_gather", "x", 16.0) < by_x_alone
    assert least(graph, "all_gather", "x", 16.0) == pytest.approx(4 * 12 / (3 * 2 + 0.02))  # all four chips of that x


def test_one_slow_chip_sets_the_bound():
    graph = torus((4, 4), bandwidth=1.0)
    for _, target, link in graph.edges(data=True):
        if target == (1, 1):
            link["bandwidth"] = 0.25
    assert least(graph, "all_gather", "xy", 16.0) == pytest.approx(15 / (4 * 0.25))


def test_one_slow_link_of_a_ring_harms_its_chips_or_the_halves_that_it_joins():
    """A gather by the chip at its end: (K-1)/K D / 1.1 w; an all-to-all by the half that begins there: K/4 D / 1.1 w."""
    graph = slowed(torus((8,), bandwidth=1.0), ((3,), (4,)))
    assert least(graph, "all_gather", "x", 64.0) == pytest.approx(56 / 1.1)
    assert least(graph, "all_to_all", "x", 64.0) == pytest.approx(128 / 1.1)


@pytest.mark.parametrize("first", range(8))
def test_two_slow_links_of_a_ring_make_a_cut_wherever_they_are(first):
    """Each chip has a fast link, but half of the shards must come through the two slow ones."""
    graph = slowed(torus((8,), bandwidth=1.0), *(((i % 8,), ((i + 1) % 8,)) for i in (first, first + 4)))
    assert least(graph, "all_gather", "x", 64.0) == pytest.approx(32 / 0.2)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_slow_plane_of_links_is_found_from_either_side_and_on_any_axis(axis):
    """Only links out of the first half are slow: what leaves it sets the bound, in a gather as in a scatter."""
    graph = torus((4, 4), wrap=False, bandwidth=1.0)
    for u, v, link in graph.edges(data=True):
        if u[axis] == 1 and v[axis] == 2:
            link["bandwidth"] = 0.01
    for kind, out in (("all_gather", 8), ("reduce_scatter", 8), ("all_reduce", 16), ("all_to_all", 8 * 8)):
        assert least(graph, kind, "xy", 16.0) == pytest.approx(out / (4 * 0.01))


# Programs

def test_a_program_needs_its_compute_or_all_its_traffic():
    net = grid(torus((4,), bandwidth=1e9))
    gather, work = Collective("g", "all_gather", ("x",), 4e6), Compute("w", (Matmul(1000, 1000, 1000),), hbm_bytes=1e6)
    traffic_s, work_s = 3e6 / 2e9, max(2e9 / IDEAL.rate("bf16"), 1e6 / IDEAL.hbm_bandwidth)
    assert bound(Program((gather, work)), net, IDEAL) == pytest.approx(max(traffic_s, work_s))
    assert bound(Program((gather, work), layers=7), net, IDEAL) == pytest.approx(7 * max(traffic_s, work_s))
    assert bound(Program((work,)), net, IDEAL) == pytest.approx(work_s)


def test_operations_that_need_the_same_cut_add_up_and_others_do_not():
    graph = torus((4, 4), wrap=False, bandwidth=1.0)
    over = {axes: Collective(f"c_{axes}", "all_to_all", (axes,), 16.0) for axes in "xy"}
    alone = least(graph, "all_to_all", "x", 16.0)
    twice = Collective("again", "all_to_all", ("x",), 16.0)
    assert bound(Program((over["x"], twice)), graph, IDEAL) == pytest.approx(2 * alone)
    assert bound(Program((over["x"], over["y"])), graph, IDEAL) == pytest.approx(alone)
    assert bound(Program((over["y"],), 3, (over["x"],), (twice,)), graph, IDEAL) == pytest.approx(3 * alone)


@pytest.mark.parametrize("seed", thinned(range(20), 3))
def test_a_program_needs_as_long_as_each_operation_and_no_longer_than_all_one_after_another(seed):
    rng = Random(seed)
    net = grid(torus((3, 4), wrap=[True, False], bandwidth=[1e9, 2e9]))
    listed = tuple(o for o in operations(rng, net, "b", 5) if isinstance(o, Collective))
    each = [operation_seconds(o, net, IDEAL) for o in listed]
    assert max(each, default=0) * (1 - 1e-12) <= bound(Program(listed), net, IDEAL) <= sum(each) * (1 + 1e-12)


def test_an_all_reduce_counts_what_crosses_links_in_all():
    graph = torus((4,), bandwidth=1.0)
    assert traffic(Collective("c", "all_reduce", ("x",), 8.0), limits(graph)) == (8.0, 8.0, 12.0)
    assert least(graph, "all_reduce", "x", 8.0) == pytest.approx(12 / 2)


# What is nothing

def test_where_nothing_leads_it_takes_for_ever():
    most = limits_of((2,), {"x": Part(0, 2)}, np.array([0]), np.array([1]), np.array([1.0]))
    assert operation_seconds(Collective("c", "all_gather", ("x",), 1.0), most, IDEAL) == np.inf


@pytest.mark.parametrize("graph", [torus((1,), bandwidth=1.0), torus((4, 1), bandwidth=1.0)], ids=["one chip", "one a group"])
def test_a_collective_of_one_chip_needs_nothing(graph):
    alone = list(graph.graph["axes"])[-1]
    for kind in SYMMETRIC:
        assert least(graph, kind, alone, 64.0, shift={alone: 1} if kind == "permute" else {}) == 0


def test_long_axes_are_cut_in_halves_too():
    """Axes above 64 chips are cut between blocks; those of a ring of 300 with two slow links are its halves."""
    graph = slowed(torus((300,), bandwidth=1.0), ((149,), (150,)), ((299,), (0,)))
    assert least(graph, "all_to_all", "x", 300.0) == pytest.approx(150 * 150 / 0.2)
    assert least(torus((301,), bandwidth=1.0), "all_to_all", "x", 301.0) <= 150 * 151 / 2
    assert least(torus((301,), bandwidth=1.0), "all_to_all", "x", 301.0) > 0.99 * 150 * 151 / 2
