"""The picture of a plan says what the plan says: its front, its pick, its bounds; no text meets another; thousands are quick."""

import time
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.text import Text

import torussim
from torussim.plot import defaults, encode, front_figure

BASE = {"model": "palm-8b", "chip": "tpu-v4", "topology": {"shape": [4, 2]}, "layout": {"ffn": "ws2d_code", "attention": "heads"},
        "workload": {"phase": "decode", "batch": 64, "context": 2048}}
BATCHES = [1, 4, 16, 64, 256]
CASES = {
    "one batch": BASE,
    "one phase each": {**BASE, "workload": {"phase": "generate", "batch": 16, "context": 128, "tokens": 2}},
    "front": {**BASE, "plan": {"objective": "pareto", "vary": {"batch": BATCHES, "weights": ["bf16", "int8"]}}},
    "one pick of several batches": {**BASE, "plan": {"objective": "cost", "vary": {"batch": BATCHES}}},
}


@cache
def planned(name):
    return torussim.plan(CASES[name])


@cache
def drawn(name):
    with defaults():
        return front_figure(planned(name))


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def centres(figure, what):
    """Return the middles of all polygons of a group, in the order of their drawing."""
    return [tuple(path.vertices[:-1].mean(axis=0)) for group in figure.findobj(PolyCollection) if group.get_gid() == what
            for path in group.get_paths()]


@pytest.mark.parametrize("name", CASES)
def test_no_text_meets_another_and_all_are_inside_the_picture(name):
    figure = drawn(name)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer())) for text in figure.findobj(Text) if text.get_text()]
    for text, box in boxes:
        assert box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 and box.y1 <= height, text
    for (a, one), (b, other) in combinations(boxes, 2):
        across, down = min(one.x1, other.x1) - max(one.x0, other.x0), min(one.y1, other.y1) - max(one.y0, other.y0)
        assert across <= 1 or down <= 4, f"{a!r} meets {b!r}"


def test_the_front_has_the_picks_in_their_order_with_their_batches():
    found, figure = planned("front"), drawn("front")
    assert len(found.picks) > 2
    places = centres(figure, "front")
    assert len(places) == len(found.picks)
    assert [x for x, _ in places] == sorted(x for x, _ in places)  # later, and cheaper: y is downwards
    assert [y for _, y in places] == sorted(y for _, y in places)
    for pick in found.picks:
        assert f"{pick.batch:,}" in words(figure)
        assert found.alone(pick.of["decode"])["chip_s_per_token"] == pytest.approx(pick.keys["chip_s_per_token"], rel=1e-9)


def test_a_single_pick_of_several_batches_is_a_star_with_its_layout():
    found, figure = planned("one pick of several batches"), drawn("one pick of several batches")
    assert len(centres(figure, "the pick")) == 2  # and one in the legend
    assert any(text.startswith(f"{found.pick.batch}: {found.pick.candidate.name}") for text in words(figure))


def test_axes_have_units_and_say_that_they_are_logarithmic():
    said = words(drawn("front"))
    assert any("logarithmic" in text and "decode step" in text for text in said)
    assert any("chip-seconds a token" in text for text in said) and any(text.endswith(" ms") for text in said)


@pytest.mark.parametrize("name", ["one batch", "one phase each"])
def test_a_ranking_has_the_pick_the_choice_of_the_paper_and_that_of_the_file(name):
    found, said = planned(name), words(drawn(name))
    for phase, one in found.pick.of.items():
        assert any(text.startswith(f"{one.candidate.name}, attention over") for text in said)
        assert len(found.pick.of) == 1 or any(f"of the {phase}" in text for text in said)
    assert "file" in " ".join(said)


def test_more_layouts_than_points_that_can_be_told_apart_are_drawn_in_a_moment():
    found = planned("front")
    many = [replace(one, estimate_s=one.seconds * (1 + 1e-3 * i)) for one in found.ranked if one.seconds for i in range(30)]
    assert len(many) > 5000
    began = time.process_time()
    with defaults():
        data = encode(front_figure(replace(found, ranked=many)), "png")
    assert data.startswith(b"\x89PNG") and len(data) < 400_000
    assert time.process_time() - began < 20  # a guard against what is quadratic, not a measurement
