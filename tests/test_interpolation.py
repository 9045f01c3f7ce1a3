"""Values at many points from those at few: never further off than is said, and exact where a function is straight."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_scenarios import REAL, scenario
from thinned import thinned

from torussim.engine.simulate import simulate
from torussim.interpolation import FEW, SURE, TOLERANCE, each, spans, tolerance
from torussim.program import Compute
from torussim.topology.grid import grid

lines = st.lists(st.tuples(st.floats(0.1, 10), st.sampled_from([0.0, 0.5, 1.0, 2.0, 7.0, 8.0])), min_size=1, max_size=6)
points = st.lists(st.floats(0, 3), min_size=1, max_size=80).map(lambda x: np.sort(np.array(x)))


def told(x, function, steepest, near, **choices):
    """Return the sum, the error that is stated, and the points that were asked for."""
    asked = {}
    total = error = 0.0
    stop = 0
    for span in spans(x, lambda i: asked.setdefault(i, function(x[i])), steepest, near, **choices):
        assert span.stop > stop and sum(span.weights.values()) == pytest.approx(span.stop - stop)
        total += sum(weight * asked[i] for i, weight in span.weights.items())
        stop, error = span.stop, error + span.error
    assert stop == len(x)
    return total, error, asked


@given(lines, points, st.sampled_from([1e-1, 1e-3, 1e-9]))
def test_the_sum_of_a_convex_function_is_never_further_off_than_is_said(terms, x, near):
    def function(at):
        return max(base + slope * at for base, slope in terms)

    total, error, _ = told(x, function, 8.0, near)
    exact = sum(map(function, x.tolist()))
    assert -1e-9 * exact <= total - exact <= error + 1e-9 * exact
    assert error <= (near + 1e-10) * total


@given(points, st.floats(0.1, 10))
def test_what_is_as_steep_as_can_be_is_known_from_both_ends(x, base):
    total, error, asked = told(x, lambda at: base + 8 * at, 8.0, SURE)
    assert asked.keys() <= {0, len(x) - 1} and error <= 1e-10 * total
    assert total == pytest.approx(sum(base + 8 * x), rel=1e-12)


def test_a_kink_costs_few_points_more():
    x = np.linspace(0, 1, 10_000)
    _, _, asked = told(x, lambda at: max(1.0, 0.5 + at, 3 * at), 4.0, TOLERANCE)
    assert len(asked) <= 12


def test_of_a_function_that_may_be_anything_a_bend_is_seen_and_more_points_are_asked_for():
    x = np.linspace(0, 1, 1000)
    straight = told(x, lambda at: 1 + at, 4.0, TOLERANCE, convex=False)
    bent = told(x, lambda at: 1 + at + 0.1 * np.sin(20 * at), 4.0, TOLERANCE, convex=False)
    assert len(straight[2]) < 20 < len(bent[2]) < 500
    assert bent[0] == pytest.approx(float((1 + x + 0.1 * np.sin(20 * x)).sum()), rel=TOLERANCE)


def test_each_asks_for_every_point_and_few_points_are_known_surely():
    assert [dict(span.weights) for span in each(3)] == [{0: 1.0}, {1: 1.0}, {2: 1.0}]
    assert tolerance(FEW) == SURE < tolerance(FEW + 1) == TOLERANCE < 1e-3


@pytest.mark.parametrize("seed", thinned(range(120), 6))
def test_times_on_private_links_are_a_convex_function_of_the_time_of_a_computation(seed):
    """All links differ, chips start when they like: the premise on which the error of interpolated passes is proved."""
    case = scenario(seed, layers=3)
    net = grid(case.graph)
    work = [o for o in case.program.block if isinstance(o, Compute) and o.loop is None]
    if not work:
        return

    def function(seconds):
        flops = seconds * REAL.rate("bf16") * REAL.matmul_efficiency
        program = case.program.replaced({work[0].name: Compute(work[0].name, flops=flops, after=work[0].after)})
        return simulate(program, net, REAL, start=case.start, repeat=False).makespan

    x = np.sort(np.random.default_rng(seed).uniform(0, 1, 24) ** 3) * 2e-3
    exact = np.array([function(at) for at in x])
    rises = np.diff(exact) / np.diff(x)
    assert (rises >= -1e-9).all() and (rises <= 3 * (1 + 1e-6)).all()
    assert (np.diff(rises) >= -1e-6).all()
    total, error, _ = told(x, function, 3, 1e-3)
    assert -1e-9 * exact.sum() <= total - exact.sum() <= error + 1e-12
