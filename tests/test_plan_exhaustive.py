"""The picks of many plans against exhaustive simulation: 240 cases on one and two axes, 12 on three."""

import pytest
from test_planner import SHAPES, judge

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seeds", [range(i, i + 20) for i in range(6, 246, 20)], ids=str)
def test_no_layout_beats_the_pick_in_many_cases(seeds):
    assert sum(judge(seed, SHAPES[:5]) for seed in seeds) > 10


@pytest.mark.parametrize("seed", range(246, 258))
def test_no_layout_beats_the_pick_on_three_axes(seed):
    judge(seed, SHAPES[5:])
