"""Charts and tables of cells: scales are faithful, labels meet nothing where there is room, cells read without colour."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PolyCollection

from torussim.plot.canvas import INK, Canvas
from torussim.plot.cells import Cell, cells
from torussim.plot.chart import CIRCLE, TRIANGLE, Chart, Entry, Scale, legend


@given(st.floats(1e-6, 1e6), st.floats(1.1, 1e6), st.booleans(), st.floats(0, 1))
def test_a_scale_keeps_the_order_and_its_ends(low, ratio, log, share):
    scale = Scale(low, low * ratio, 400, 20, log=log, every=low * ratio / 7)
    assert scale(low) == pytest.approx(400) and scale(low * ratio) == pytest.approx(20)
    inside = low * ratio**share
    assert 20 - 1e-6 <= scale(inside) <= 400 + 1e-6
    ticks = scale.ticks()
    assert ticks == sorted(set(ticks)) and all(20 - 1e-6 <= scale(tick) <= 400 + 1e-6 for tick in ticks)


def chart_of(points):
    chart = Chart(Canvas(), Scale(0, 10, 50, 450, log=False), Scale(0, 10, 450, 50, log=False))
    for number, point in enumerate(points):
        chart.mark(point, CIRCLE, INK, name="point")
        chart.label(point, f"point {number}")
    return chart


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=9, unique=True))
def test_labels_meet_no_label_no_marker_and_stay_in_the_panel(spread):
    chart = chart_of([(2 * x - 1, 2 * y - 1) for x, y in spread])
    chart.place()
    assert len(chart.canvas.texts) == len(spread)
    for (a, b, c, d), (e, f, g, h) in itertools.combinations(chart.taken, 2):
        assert not (a < f and e < b and c < h and g < d)
    assert all(min(a, c) >= 50 and max(b, d) <= 450 for a, b, c, d in chart.taken[len(spread):])


def test_a_label_stays_off_a_curve():
    chart = chart_of([(5, 5)])
    chart.curve([(5, 5), (10, 5)], INK)
    chart.place()
    assert abs(chart.canvas.texts[0]["y"] - chart.up(5)) > 5


def test_a_legend_goes_on_in_another_row_where_the_page_ends():
    entries = [Entry(f"the curve of number {i}", INK, TRIANGLE, "solid") for i in range(6)]
    canvas = Canvas()
    assert legend(canvas, 10, 20, entries, 400) > 20 + 22
    for text in canvas.texts:
        assert text["x"] + canvas.measure(text["s"], text["fontsize"]) <= 410


def luminance(colour):
    red, green, blue = (channel / 12.92 if channel <= 0.03928 else ((channel + 0.055) / 1.055)**2.4 for channel in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_cells_are_darker_the_larger_their_share_and_their_text_can_be_read_on_them():
    from matplotlib.colors import to_rgb

    shares = np.linspace(0, 1, 21)
    canvas = Canvas()
    cells(canvas, 60, 20, [[Cell(share, f"{share:.0%}", ("a", "b"))] for share in shares], [""] * 21, [""], width=150, height=30,
          text_width=60)
    figure = canvas.page(300, 700)
    (found,) = [group for group in figure.findobj(PolyCollection) if group.get_gid() == "cells"]
    backs = [luminance(colour) for colour in found.get_facecolors()]
    assert backs == sorted(backs, reverse=True) and len(set(backs)) == len(backs)
    inks = [luminance(to_rgb(text["color"])) for text in canvas.texts if text["s"].endswith("%")]
    for back, ink in zip(backs, inks):
        light, dark = max(back, ink) + 0.05, min(back, ink) + 0.05
        assert light / dark > 4.5  # the contrast that WCAG asks of text


def test_a_share_above_all_others_is_as_dark_as_the_darkest():
    canvas = Canvas()
    cells(canvas, 60, 20, [[Cell(1.0, "x"), Cell(7.0, "x")]], ["r"], ["c", "d"], width=150, height=30, text_width=60)
    (_, one), (_, other) = canvas.shapes[2, "cells"]
    assert one == other
