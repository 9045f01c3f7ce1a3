"""The detector of steady states: what is the same up to a shift, what gains the same with each block, and what is neither."""

import numpy as np
import pytest

from torussim.engine.steady_state import REMEMBERED, Snapshot, SteadyState

INF, NAN = np.inf, np.nan


def seen(*states):
    """Return a detector that has seen states: each a list of times, the first of which is when the block begins."""
    steady = SteadyState()
    for times in states:
        steady.note(Snapshot(times[0], (np.array(times),), (np.array([3]),), ()))
    return steady


def test_a_state_that_is_the_same_but_for_a_shift_is_found_after_its_period():
    assert seen([0.0, 2.0], [5.0, 7.0]).period() == (1, 5.0)
    assert seen([0.0, 2.0], [5.0, 6.0], [9.0, 11.0]).period() == (2, 9.0)
    assert seen([0.0, 2.0], [5.0, 6.0], [9.0, 11.5]).period() == (0, 0.0)


def test_a_time_that_stands_still_is_not_shifted():
    assert seen([0.0, 2.0], [5.0, 2.0]).period() == (0, 0.0)


@pytest.mark.parametrize("before, now, same", [(INF, INF, True), (NAN, NAN, True), (-INF, INF, False), (NAN, 7.0, False),
                                               (2.0, NAN, False), (2.0, INF, False)])
def test_times_that_are_not_known_or_infinite_must_be_so_in_both_states(before, now, same):
    assert (seen([0.0, before], [5.0, now]).period() == (1, 5.0)) is same


def test_counts_and_numbers_of_block_runs_must_be_the_same():
    kind = np.dtype([("at", float), ("missing", np.int32)])

    def state(begin, count, missing):
        return Snapshot(begin, (np.array([begin]),), (np.array([count]),), (np.array([(begin + 1, missing)], kind),))
    for count, missing, same in ((3, 2, True), (4, 2, False), (3, 1, False)):
        steady = SteadyState()
        steady.note(state(0.0, 3, 2))
        steady.note(state(5.0, count, missing))
        assert (steady.period() == (1, 5.0)) is same


def test_a_gain_is_what_two_blocks_in_a_row_have_added_to_each_time():
    assert [gain.tolist() for gain in seen([0.0, 2.0, INF], [5.0, 7.5, INF], [10.0, 13.0, INF]).gain()] == [[5.0, 5.5, 0.0]]
    assert seen([0.0, 2.0], [5.0, 7.5], [10.0, 13.1]).gain() is None
    assert seen([0.0, 2.0], [5.0, 7.5]).gain() is None
    assert seen([0.0, 2.0], [5.0, 7.5], [10.0, NAN]).gain() is None


def test_a_bounded_number_of_states_is_remembered():
    steady = seen(*([float(i), i % 7 + i * 0.5] for i in range(200)))
    assert len(steady.seen) == REMEMBERED
    steady.forget()
    assert not steady.seen
