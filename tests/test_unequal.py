"""All-to-alls with a matrix of bytes, and computations with cases: the laws of equal ones, and what unequal ones add."""

import json
from dataclasses import replace
from math import prod
from random import Random

import networkx as nx
import numpy as np
import pytest
import random_scenarios as plain
import random_shared
import random_unequal

from torussim.chips import chip
from torussim.closed_forms import estimate
from torussim.collectives.lower import ALGORITHMS, UNEQUAL, lower
from torussim.collectives.playback import check
from torussim.critical_path import least_seconds
from torussim.engine.prepared import Prepared
from torussim.engine.simulate import simulate
from torussim.errors import ContractError, ProgramError
from torussim.lower_bound import bound
from torussim.program import Collective, Compute, Matmul, Matrix, Program
from torussim.scenario import load
from torussim.topology.builders import torus
from torussim.topology.grid import grid

IDEAL, REAL = chip("ideal"), plain.REAL
SHAPES = ((1,), (2,), (4,), (5,), (2, 3), (4, 2), (1, 3), (2, 2, 3), (3, 1, 2))


def network(shape, wrap=True, latency=1e-6):
    return grid(torus(shape, wrap=wrap, bandwidth=5e9, latency=latency))


def drawn(net, seed, axes=None):
    """Return a random matrix over some axes, by default all, about a third of it empty."""
    draw, chips = np.random.default_rng(seed), prod(map(net.length, axes or net.axes))
    return draw.random((chips, chips)) * 1e6 * (draw.random((chips, chips)) < 0.7)


def exchange(array, axes, algorithm="", name="exchange"):
    sizes = Matrix.of(array)
    return Collective(name, "all_to_all", tuple(axes), sizes.most, algorithm, matrix=sizes)


def seconds(o, net, on=REAL):
    return simulate(Program((o,)), net, on).makespan


# One matrix and equal bytes

@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wrap", [True, False])
def test_a_uniform_matrix_is_the_plain_all_to_all(shape, wrap):
    net = network(shape, wrap)
    for algorithm in UNEQUAL:
        o = exchange(np.full([prod(shape)] * 2, 3e4), net.axes, algorithm)
        equal = replace(o, matrix=None)
        one, other = (simulate(Program((p,)), net, REAL) for p in (o, equal))
        assert one.makespan == pytest.approx(other.makespan, rel=1e-12)
        assert one.link_bytes == pytest.approx(other.link_bytes, rel=1e-12)
        forms = [estimate(Program((p,)), net, REAL) for p in (o, equal)]
        assert forms[0].paper_s == forms[1].paper_s
        if algorithm != "direct" or wrap:  # of equal bytes it takes the messages on a line of three chips to be alone
            assert forms[0].axes_s == pytest.approx(forms[1].axes_s, rel=1e-9)
        bounds = [bound(Program((p,)), net, REAL) for p in (o, equal)]
        assert bounds[0] == pytest.approx(bounds[1], rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES[1:])
@pytest.mark.parametrize("algorithm", UNEQUAL)
def test_the_contract_holds_and_a_wrong_byte_breaks_it(shape, algorithm):
    net = network(shape, wrap=shape[0] != 4)
    schedule = lower(exchange(drawn(net, 1) + 1.0, net.axes, algorithm), net)
    check(schedule)
    if schedule.steps:
        (step,) = schedule.steps
        wrong = replace(schedule, steps=(replace(step, part=step.part * (1 + 1e-3 * np.eye(*step.part.shape))),))
    else:
        flow = schedule.phases[-1].flow.copy()
        flow[0, np.argmax(flow[0] * (np.arange(len(flow[0])) > 0))] += 100.0
        wrong = replace(schedule, phases=(*schedule.phases[:-1], replace(schedule.phases[-1], flow=flow)))
    with pytest.raises(ContractError):
        check(wrong)


@pytest.mark.parametrize("seed", range(6))
def test_links_carry_each_message_over_each_hop_of_its_way(seed):
    shape = SHAPES[2 + seed]
    net = network(shape)
    sizes = drawn(net, seed)
    at = np.array(np.unravel_index(np.arange(prod(shape)), shape))
    apart = np.abs(at[:, :, None] - at[:, None, :])
    lengths = np.array(shape)[:, None, None]
    hops = np.minimum(apart, lengths - apart).sum(axis=0)
    for algorithm in UNEQUAL:
        carried = simulate(Program((exchange(sizes, net.axes, algorithm),)), net, REAL).link_bytes.sum()
        assert carried == pytest.approx((sizes * hops).sum(), rel=1e-12)


# Times

@pytest.mark.parametrize("algorithm", UNEQUAL)
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 2, 3)])
def test_twice_the_bytes_take_twice_the_time(shape, algorithm):
    net = network(shape, latency=0.0)
    once, twice = (seconds(exchange(factor * drawn(net, 3), net.axes, algorithm), net, IDEAL) for factor in (1, 2))
    assert twice == pytest.approx(2 * once, rel=1e-12)


@pytest.mark.parametrize("algorithm", UNEQUAL)
@pytest.mark.parametrize("length", [3, 4, 6])
def test_a_rotated_matrix_on_a_ring_takes_the_same_time(length, algorithm):
    net = network((length,))
    sizes = drawn(net, length)
    times = {round(seconds(exchange(np.roll(sizes, (by, by), (0, 1)), "x", algorithm), net) * 1e15) for by in range(length)}
    assert max(times) - min(times) <= 1


@pytest.mark.parametrize("seed", range(4))
def test_more_bytes_are_never_faster(seed):
    rng, net = Random(seed), network(((6,), (4, 3), (3, 2, 2), (5, 2))[seed], wrap=seed < 3)
    sizes, before = drawn(net, seed), 0.0
    for _ in range(8):
        now = seconds(exchange(sizes, net.axes), net)
        assert now >= before * (1 - 1e-12)
        before, sizes = now, sizes + 0.0
        sizes[rng.randrange(len(sizes)), rng.randrange(len(sizes))] += 5e5


@pytest.mark.parametrize("seed", range(4))
def test_bounds_are_below_and_on_rings_the_estimate_is_above(seed):
    net = network(((6,), (4, 3), (3, 2, 3), (5, 2))[seed])
    axes = net.axes[:1 + seed % 2]
    o = exchange(drawn(net, seed, axes), axes)
    work = random_unequal.cases(Random(seed), net, Compute("work", flops=1e9))
    costliest = max(work.cases, key=lambda case: simulate(Program((replace(case, name="w"),)), net, REAL).makespan)
    work = replace(costliest, name="work", kernels=1, over=work.over, cases=tuple(replace(c, kernels=1) for c in work.cases))
    program = Program((work, o, replace(o, name="back", matrix=Matrix.of(o.matrix.array.T))), layers=2)
    took = simulate(program, net, REAL).makespan
    assert max(bound(program, net, REAL), least_seconds(program, net, REAL)) <= took * (1 + 1e-12)
    assert took <= estimate(program, net, REAL).axes_s * (1 + 1e-12)
    moved = o.matrix.array - np.diag(o.matrix.array.diagonal())
    least = max(moved.sum(axis=axis).max() for axis in (0, 1))  # of one chip, by all its links
    assert bound(Program((o,)), net, REAL) >= least / (5e9 * sum(2 if n > 2 else 1 for n in net.shape if n > 1)) * (1 - 1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_the_engine_is_the_oracle_on_private_links(seed):
    case = random_unequal.unequal(plain.scenario(seed), seed, ("dimension_wise", "sequential"))
    assert not plain.difference(case, plain.run(case), plain.expected(case))


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 20))])
def test_the_engine_is_the_oracle_on_shared_links(seed):
    assert not random_shared.compare(random_unequal.unequal(random_shared.scenario(seed), seed))


# Chips that are alike

def periodic(net, period, seed):
    """Return a matrix that a translation by `period` along x, and by 1 along other axes, leaves as it is."""
    sizes, lengths = drawn(net, seed), tuple(net.shape)
    whole = np.zeros_like(sizes)
    at = np.array(np.unravel_index(np.arange(len(sizes)), lengths))
    for shift in np.ndindex(lengths):
        if shift[0] % period == 0:
            to = np.ravel_multi_index(tuple((at + np.array(shift)[:, None]) % np.array(lengths)[:, None]), lengths)
            whole += sizes[np.ix_(to, to)].round()  # whole numbers add up alike in any order
    return whole


@pytest.mark.parametrize("algorithm", UNEQUAL)
@pytest.mark.parametrize(("shape", "period"), [((6,), 1), ((6,), 3), ((4, 3), 2), ((4, 3), 4), ((2, 3, 3), 1)])
def test_chips_with_the_same_bytes_are_simulated_once(shape, period, algorithm):
    net = network(shape, wrap=True)
    o = exchange(periodic(net, period, 5), net.axes, algorithm)
    folded, every = (simulate(Program((o,), 2), net, REAL, fold=fold) for fold in (True, False))
    assert folded.finish == pytest.approx(every.finish, rel=1e-12) and folded.link_bytes == pytest.approx(every.link_bytes)
    lines = prod(n for n in shape if n == 2)
    assert period * (1 if shape[0] == 2 else lines) <= folded.chips_simulated <= period * lines
    assert every.chips_simulated == prod(shape)


def test_a_computation_folds_by_its_different_cases():
    net = network((6, 4))
    one, other = Compute("case", flops=1e9), Compute("case", flops=2e9)
    for cases, chips in (((one,) * 6, 1), ((one, other) * 3, 2), ((one, one, other) * 2, 3), ((other, *(one,) * 5), 6)):
        work = replace(other, name="work", over=("x",), cases=cases)
        ran = simulate(Program((work, Collective("sum", "all_reduce", ("x", "y"), 1e6))), net, REAL)
        every = simulate(Program((work, Collective("sum", "all_reduce", ("x", "y"), 1e6))), net, REAL, fold=False)
        assert ran.chips_simulated == chips and ran.finish == pytest.approx(every.finish, rel=1e-12)


def test_programs_on_one_network_keep_their_own_matrices_and_cases():
    net = network((4, 3))
    known = Prepared(net)
    for seed in (1, 2, 3, 1):
        work = random_unequal.cases(Random(seed), net, Compute("work", flops=1e9))
        for o in (exchange(drawn(net, seed), net.axes), exchange(periodic(net, 1, seed), net.axes)):
            program = Program((work, o))
            assert (simulate(program, known, REAL).finish == simulate(program, net, REAL).finish).all()
        slower = replace(work, cases=tuple(replace(case, flops=2 * case.flops) for case in work.cases))
        program = Program((slower, o))  # another cost in the same cases
        assert (simulate(program, known, REAL).finish == simulate(program, net, REAL).finish).all()


# Computations

def test_equal_cases_are_the_computation_and_unequal_ones_are_slower_chips():
    net, work = network((4, 3)), Compute("work", (Matmul(100, 300, 500),), flops=1e9, hbm_bytes=1e6)
    after = Collective("sum", "all_reduce", ("x",), 1e6)
    same = simulate(Program((replace(work, over=("y",), cases=(work,) * 3), after)), net, REAL)
    assert (same.finish == simulate(Program((work, after)), net, REAL).finish).all()
    pace = (2.0, 1.0, 3.0)  # of the positions on y
    cases = tuple(replace(work, matmuls=(replace(work.matmuls[0], count=by),), flops=by * 1e9, hbm_bytes=by * 1e6) for by in pace)
    slow = simulate(Program((replace(cases[2], over=("y",), cases=cases), after)), net, IDEAL)
    paced = simulate(Program((work, after)), net, IDEAL, pace=[pace[y] for _, y in net.chips])
    assert slow.finish == pytest.approx(paced.finish, rel=1e-12)


def test_the_bound_adds_up_the_work_of_each_chip():
    net = network((2,))
    cases = tuple(Compute("case", flops=size) for size in (1e12, 3e12))
    busy = [replace(cases[1], name=f"work {i}", over=("x",), cases=cases[::step]) for i, step in enumerate((1, -1))]
    program = Program(tuple(busy))
    assert bound(program, net, IDEAL) == pytest.approx(simulate(program, net, IDEAL).makespan, rel=1e-12)


# Files and mistakes

def test_a_matrix_in_a_file_is_that_of_the_program_and_the_record_runs_the_same():
    sizes = [[0, "1 MB"], ["2 MB", 0.5e6]]
    one = load({"chip": "tpu-v4", "topology": {"shape": [2, 3]}, "program": [
        {"name": "exchange", "collective": "all_to_all", "axes": "x", "matrix": sizes},
        {"name": "two", "collective": "all_to_all", "chips": [[0, 0], [1, 2]], "matrix": sizes}]})
    again = load(json.loads(json.dumps(one.resolved)))
    assert again.resolved == one.resolved and again.program == one.program
    exchanged, two = one.program.block
    assert exchanged.matrix.array.tolist() == [[0, 1e6], [2e6, 0.5e6]] and exchanged.bytes == 2.5e6
    times = [simulate(Program((o,)), one.net, one.chip).makespan for o in (exchanged, two)]
    assert times[0] >= 2e6 / one.net.links.bandwidth.max() and times[1] > times[0]


@pytest.mark.parametrize("algorithm", [*sorted(set(ALGORITHMS["all_to_all"]) - {*UNEQUAL, "auto"}), lambda *given: []])
def test_an_algorithm_of_equal_bytes_refuses_a_matrix(algorithm):
    net = network((4, 2))
    with pytest.raises(ProgramError, match="has a matrix") as error:
        simulate(Program((exchange(drawn(net, 1), net.axes, algorithm),)), net, REAL)
    assert error.value.code == "clash"


@pytest.mark.parametrize(("wrong", "code"), [
    (lambda net: exchange(drawn(net, 1), "x"), "clash"),
    (lambda net: replace(exchange(drawn(net, 1), net.axes), bytes=1.0), "program"),
    (lambda net: replace(exchange(drawn(net, 1), net.axes), kind="all_gather"), "program"),
    (lambda net: Compute("work", over=("x",), cases=(Compute("case"),) * 3), "program"),
    (lambda net: Compute("work", over=("w",), cases=(Compute("case"),) * 4), "program"),
    (lambda net: Compute("work", over=("x",)), "program"),
    (lambda net: exchange([[0, 1]], "x"), "program"),
    (lambda net: exchange([[0, -1.0], [0, 0]], "x"), "program"),
    (lambda net: exchange([[0, np.nan], [0, 0]], "x"), "program")])
def test_a_matrix_or_cases_that_do_not_fit_are_refused(wrong, code):
    net = network((4, 2))
    with pytest.raises(ProgramError) as error:
        simulate(Program((wrong(net),)), net, REAL)
    assert error.value.code == code


def test_an_all_to_all_without_bytes_takes_its_start():
    net = network((3, 2))
    for algorithm in UNEQUAL:
        o = exchange(np.diag(np.arange(6.0)), net.axes, algorithm)
        assert seconds(o, net) == pytest.approx(REAL.launch + 5 * REAL.message, rel=1e-12)


def test_a_network_without_axes_sends_unequal_messages_directly():
    graph = nx.DiGraph(axes={"x": 3})
    for i in range(3):
        graph.add_node((i,))
    graph.add_node("switch", chip=False)
    for i in range(3):
        graph.add_edge((i,), "switch", bandwidth=1e9, latency=0.0)
        graph.add_edge("switch", (i,), bandwidth=1e9, latency=0.0)
    sizes = np.array([[0, 1e6, 3e6], [0, 0, 2e6], [1e6, 0, 0]])
    assert seconds(exchange(sizes, "x", "direct"), grid(graph), IDEAL) == pytest.approx(5e6 / 1e9, rel=1e-12)
