"""What a program may be: names, what waits for what, axes, and loops of neighbours."""

from dataclasses import replace

import pytest

from torussim.chips import chip
from torussim.choice import with_loops
from torussim.engine.simulate import simulate
from torussim.errors import ProgramError
from torussim.program import Collective, Compute, Loop, Matmul, Program, changed, check_program
from torussim.topology.builders import torus
from torussim.topology.grid import grid

GATHER, WORK = Collective("g", "all_gather", ("x",), 1e6), Compute("m", (Matmul(64, 512, 512),))
AFTER = ("block", 0, "after", 0)


@pytest.mark.parametrize("program, code, path, reason", [
    (Program((GATHER, GATHER)), "duplicate", (), "two operations are named 'g'"),
    (Program((WORK,), prologue=(WORK,)), "duplicate", (), "two operations are named 'm'.*also across lists"),
    (Program((Compute("a", after=("b",)), Compute("b", after=("a",)))), "cycle", AFTER,
     "'a' waits for 'b', which waits for it: a -> b -> a"),
    (Program((Compute("a", after=("a",)),)), "cycle", AFTER, "a -> a"),
    (Program((Compute("a", after=("b",)), Compute("b", after=()))), "program", AFTER,
     "'b', which comes after it.*move 'b' above"),
    (Program((Compute("a", after=("z",)),)), "unknown-name", AFTER,
     "'a' waits for 'z', but no operation has that name: the names are a"),
    (Program((Collective("g", "all_gather", ("q",), 1.0),)), "unknown-name", ("block", 0, "axes"),
     "runs over axis 'q', but the network has x"),
    (Program((Collective("g", "all_gather", ("x", "x"), 1.0),)), "duplicate", ("block", 0, "axes"), "uses the axis 'x' twice"),
    (Program((GATHER, Compute("n"), Compute("m", loop=Loop("g", "one_way", (1, 4, 1))))), "program", ("block", 2, "loop"),
     "neither the all-gather just before"),
    (Program((Compute("m", loop=Loop("g", "one_way", (1, 4, 1))), GATHER)), "program", ("block", 0, "loop"),
     "neither the all-gather just before it"),
])
def test_a_program_that_cannot_run_is_refused(program, code, path, reason):
    for check in (lambda: check_program(program, ("x",)), lambda: simulate(program, torus((4,), bandwidth=1e9), chip("ideal"))):
        with pytest.raises(ProgramError, match=reason) as caught:
            check()
        assert (caught.value.code, caught.value.path) == (code, path)


@pytest.mark.parametrize("operation", [GATHER, WORK])
def test_an_operation_with_other_values_is_what_dataclasses_make_of_it(operation):
    before = replace(operation)
    assert changed(operation, name="other", after=()) == replace(operation, name="other", after=())
    assert operation == before and hash(changed(WORK)) == hash(WORK)


def test_a_gather_is_not_moved_past_what_waits_for_it():
    """Where another operation stands between a gather and its matmul and needs the gather, the matmul is not looped."""
    second = Collective("h", "all_gather", ("x",), 1e3, after=("g",))
    matmul = Compute("m", WORK.matmuls, after=("g", "h"), loops=(Loop("g", "throughput", (1, 4, 1)),))
    net = grid(torus((4,), bandwidth=1e9))
    chosen = with_loops(Program((GATHER, second, matmul)), net, chip("ideal"))
    assert [o.name for o in chosen.block] == ["g", "h", "m"] and chosen.block[2].loop is None
    assert simulate(chosen, net, chip("ideal")).makespan > 1e6 * 3 / 4 / 2e9


def test_a_gather_is_moved_to_its_matmul_where_nothing_between_needs_it():
    second = Collective("h", "all_gather", ("x",), 1e3, after=())
    matmul = Compute("m", (Matmul(6400, 512, 5120),), after=("g", "h"), loops=(Loop("g", "throughput", (1, 4, 1)),))
    chosen = with_loops(Program((GATHER, second, matmul)), grid(torus((4,), bandwidth=1e9)), chip("ideal"))
    assert [o.name for o in chosen.block] == ["h", "g", "m"] and chosen.block[2].loop.collective == "g"
