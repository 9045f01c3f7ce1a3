"""No algorithm beats the bound, whatever the links; and on the best networks the bound is reached."""

from random import Random

import pytest

from torussim.bound import bound, operation_seconds, traffic
from torussim.chips import chip
from torussim.collectives.lower import ALGORITHMS
from torussim.engine.simulate import simulate
from torussim.program import Collective, Compute, Matmul, Program
from torussim.topology.builders import torus
from torussim.topology.grid import grid

IDEAL = chip("ideal")


@pytest.mark.parametrize("seed", range(40))
def test_no_algorithm_beats_the_bound_on_uneven_links(seed):
    random = Random(seed)
    shape = [random.randint(1, 4) for _ in range(random.randint(1, 3))]
    graph = torus(shape, wrap=[random.random() < 0.6 for _ in shape], bandwidth=1.0)
    for _, _, link in graph.edges(data=True):
        link["bandwidth"] = random.uniform(1, 9)
    net = grid(graph)
    axes = tuple(a for a in net.axes if net.length(a) > 1)
    if not axes:
        return
    for kind, algorithms in ALGORITHMS.items():
        for algorithm in algorithms:
            shift = {axes[0]: 1} if kind == "permute" else {}
            one = Collective("c", kind, axes[:1] if shift else axes, 100.0, algorithm, shift=shift)
            least = operation_seconds(one, net, IDEAL)
            assert 0 < least <= simulate(Program((one,)), net, IDEAL).makespan * (1 + 1e-12), (kind, algorithm)


def test_an_all_gather_over_all_axes_reaches_the_bound():
    net = grid(torus((4, 4, 4), bandwidth=1.0))
    one = Program((Collective("c", "all_gather", ("x", "y", "z"), 64.0),))
    assert simulate(one, net, IDEAL).makespan == pytest.approx(bound(one, net, IDEAL), rel=1e-12)


def test_idle_axes_count():
    net = grid(torus((4, 4, 4), bandwidth=1.0))
    over = [operation_seconds(Collective("c", "all_gather", axes, 64.0), net, IDEAL) for axes in (("x",), ("x", "y", "z"))]
    assert over == pytest.approx([48 / 6, 63 / 6])


def test_one_slow_chip_sets_the_bound():
    graph = torus((4, 4), bandwidth=1.0)
    for _, target, link in graph.edges(data=True):
        if target == (1, 1):
            link["bandwidth"] = 0.25
    one = Collective("c", "all_gather", ("x", "y"), 16.0)
    assert operation_seconds(one, grid(graph), IDEAL) == pytest.approx(15 / (4 * 0.25))


def test_a_program_needs_its_compute_or_all_its_traffic():
    net = grid(torus((4,), bandwidth=1e9))
    gather, work = Collective("g", "all_gather", ("x",), 4e6), Compute("w", (Matmul(1000, 1000, 1000),), hbm_bytes=1e6)
    traffic_s, work_s = 3e6 / 2e9, max(2e9 / IDEAL.rate("bf16"), 1e6 / IDEAL.hbm_bandwidth)
    assert bound(Program((gather, work)), net, IDEAL) == pytest.approx(max(traffic_s, work_s))
    assert bound(Program((gather, work), layers=7), net, IDEAL) == pytest.approx(7 * max(traffic_s, work_s))
    assert bound(Program((work,)), net, IDEAL) == pytest.approx(work_s)


def test_an_all_reduce_counts_what_crosses_links_in_all():
    net = grid(torus((4,), bandwidth=1.0))
    assert traffic(Collective("c", "all_reduce", ("x",), 8.0), net) == (8.0, 8.0, 12.0)
    assert operation_seconds(Collective("c", "all_reduce", ("x",), 8.0), net, IDEAL) == pytest.approx(12 / 2)
