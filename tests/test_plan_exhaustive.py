"""The picks of many plans against exhaustive simulation: 200 cases on 8 chips, 20 on 12 and 16, 6 on three axes."""

import pytest
from test_planner import SHAPES, judge

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seeds", [range(i, i + 20) for i in range(6, 86, 20)], ids=str)
def test_no_layout_beats_the_pick_in_many_cases(seeds):
    assert sum(judge(seed, SHAPES[:2]) for seed in seeds) > 10


@pytest.mark.parametrize("seed", range(206, 214))
def test_no_layout_beats_the_pick_on_more_chips(seed):
    judge(seed, SHAPES[2:5])


@pytest.mark.parametrize("seed", range(226, 229))
def test_no_layout_beats_the_pick_on_three_axes(seed):
    judge(seed, SHAPES[5:])
