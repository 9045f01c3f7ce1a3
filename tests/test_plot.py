"""Pictures: what is written never meets, what is drawn is as long as it took, and the same timeline gives the same bytes."""

import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.text import Text
from random_scenarios import run, scenario
from thinned import thinned

from torussim import analysis
from torussim.chips import chip
from torussim.engine.simulate import simulate
from torussim.errors import TorusSimError
from torussim.layouts import Layout
from torussim.models import model
from torussim.plot import COMPUTE, EXPOSED, FIXED, KIND_COLOURS, encode, save, timeline_figure
from torussim.plot.canvas import KIND_HATCHES
from torussim.plot.view import window
from torussim.program import KINDS, SYMMETRIC, Block, Collective, Compute, Program
from torussim.topology.builders import torus
from torussim.transformer import build
from torussim.workload import Forward

V4 = chip("tpu-v4", matmul_efficiency=1, hbm_efficiency=1, link_efficiency=1, launch="2.7 us", op_overhead="1 us",
          loop_step="0.5 us", link_latency="1 us", load_rows=0)  # pictures do not change with what is fitted
IDEAL = chip("ideal")
WHOLE = {"first": 0, "runs": 10**6}
SEEDS = range(9)


def network(shape, wrap=True):
    return torus(shape, wrap=wrap, bandwidth=V4.link_bandwidth, latency=V4.link_latency)


def recorded(program, graph, **choices):
    """Return the timeline with the messages of the chips that a picture shows."""
    chips = analysis.chosen_chips(simulate(program, graph, V4, **choices))
    return simulate(program, graph, V4, record=chips, **choices)


@cache
def palm(layout, phase, shape=(4, 4, 4), slow=False):
    forward = Forward("decode", 512, 1, 2048) if phase == "decode" else Forward("prefill", 512, 2048, 2048)
    graph = network(shape, wrap=not slow)
    if slow:
        graph[3, 0, 0][4, 0, 0]["bandwidth"] /= 4
    return recorded(build(model("palm-540b"), Layout(layout, "batch"), forward, dict(zip("xyz", shape, strict=True))), graph)


def many():
    """Return operations too short to be told apart, and one long one."""
    operations = []
    for i in range(40):
        operations += [Compute(f"norm_{i}", hbm_bytes=1e4), Collective(f"scatter_{i}", "reduce_scatter", ("x",), 1e4)]
    return Program((*operations, Compute("a_name_that_never_ends_" * 9, flops=3e12), Compute("the_last", flops=1e5)))


def concurrent():
    return Program((
        Collective("gather", "all_gather", ("y", "z"), 64e6, after=()),
        Collective("exchange", "all_to_all", ("x",), 30e6, after=()),
        Collective("tiny", "reduce_scatter", ("z",), 3e3, after=()), Collective("shift", "permute", ("x",), 3e6, shift={"x": 1}),
        Collective("sum", "all_reduce", ("x",), 3e6, after=()), Compute("multiply", flops=1e11, after=()),
        Compute("combine", flops=2e10, after=("gather", "exchange", "multiply"))))


NONE = (Compute("start"), Compute("nothing", flops=0), Collective("none", "all_gather", ("x",), 0.0))
CASES = {
    "decode": lambda: (palm("ws2d", "decode"), {}),
    "decode, as its code": lambda: (palm("ws2d_code", "decode"), {}),
    "decode, 1D": lambda: (palm("ws1d", "decode"), {}),
    "prefill": lambda: (palm("wg_xyz_code", "prefill"), {}),
    "a slow link": lambda: (palm("ws2d", "decode", (8, 4, 4), True), {}),
    "a whole step": lambda: (palm("ws2d", "decode", (8, 4, 4), True), WHOLE),
    "three runs": lambda: (palm("ws2d", "decode"), {"first": 0, "runs": 3}),
    "the last run": lambda: (palm("ws2d", "decode"), {"first": 119, "runs": 7}),
    "concurrent": lambda: (recorded(concurrent(), network((4, 4, 4))), {}),
    "many": lambda: (recorded(many(), network((4, 4))), {"title": "a long title " * 20 + "x" * 300,
                                                         "subtitle": "and more $of$ it " * 30}),
    "one chip": lambda: (simulate(Program((Compute("a", flops=1e11), Compute("b", flops=1.0)), 5), network((1,)), V4), WHOLE),
    "sixteen axes": lambda: (simulate(Program((Compute("a", flops=1e9), Collective("g", "all_gather", ("x",), 1e6))),
                                      network((1,) * 16), V4), {"chips": [0]}),
    "no time": lambda: (simulate(Program((*NONE, Compute("real", flops=1e9), *(replace(o, name=o.name + "_2") for o in NONE))),
                                 network((4,)), IDEAL), {}),
    "no time at all": lambda: (simulate(Program(NONE[:2]), network((4,)), IDEAL), {}),
    "nothing": lambda: (simulate(Program(()), network((4,)), V4), {}),
    "no chip": lambda: (palm("ws2d", "decode"), {"chips": []}),
    **{f"seed {seed}": lambda seed=seed: (run(scenario(seed), record=[0, 1]), {"chips": [0, 1]}) for seed in SEEDS},
    **{f"seed {seed}, whole": lambda seed=seed: (run(scenario(seed, layers=40), record=[1]), {"chips": [1], **WHOLE})
       for seed in SEEDS},
}


@cache
def drawn(name):
    said, choices = CASES[name]()
    return said, choices, timeline_figure(said, **choices)


def texts(figure):
    """Return all that is written; matplotlib keeps some labels of ticks outside of the axis, which it does not draw."""
    axis = figure.axes[0]
    low, high = axis.get_xlim()
    outside = [label for tick, label in zip(axis.get_xticks(), axis.get_xticklabels(), strict=True) if not low <= tick <= high]
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in outside]


def areas(figure, colour):
    """Return the area of all boxes of a colour in the lanes, pixels; not of those in the legend, which are above them."""
    boxes = [path.get_extents() for found in figure.findobj(PolyCollection) if to_hex(found.get_facecolor()[0]).upper() == colour
             for path in found.get_paths()]
    return sum(box.width * box.height for box in boxes if box.y0 > 0)


@pytest.mark.parametrize("name", thinned(CASES, 3))
def test_no_text_meets_another_and_all_are_inside_the_picture(name):
    figure = drawn(name)[2]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # it places the labels of the time axis
    renderer = canvas.get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts(figure)]
    for text, box in boxes:
        assert 0 <= box.x0 and box.x1 <= width and 0 <= box.y0 and box.y1 <= height, text  # noqa: SIM300
    for (a, one), (b, other) in combinations(boxes, 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        down = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert across <= 0 or down <= 1.5, f"{a!r} meets {b!r}"  # a box has room for accents above


@pytest.mark.parametrize("name", ["decode", "decode, as its code", "decode, 1D", "prefill", "concurrent", "a slow link",
                                  "three runs"])
def test_every_operation_is_named_on_every_chip(name):
    said, choices, figure = drawn(name)
    written = [text.get_text().split("  ")[0] for text in texts(figure)]
    first = choices.get("first", analysis.last_block(said))
    for segment, _ in said.runs[first:first + choices.get("runs", 1)]:
        for operation in said.segments[segment].operations:
            assert written.count(operation.name) >= len(analysis.chosen_chips(said)), operation.name
    assert not any(text.startswith("Too close") for text in written)


def test_a_crowd_is_named_as_one():
    written = [text.get_text() for text in texts(drawn("many")[2])]
    assert "norm_0 to norm_39, 40 operations" in written
    assert "scatter_0 to scatter_39, 40 operations" in written
    assert any(text.startswith("a_name_that_never_ends…") for text in written), "without its middle"


@pytest.mark.parametrize("name", ["decode", "decode, 1D", "a slow link", "a whole step", "many", *(f"seed {s}" for s in SEEDS)])
def test_exposed_area_is_exposed_time(name):
    said, choices, figure = drawn(name)
    runs = said.runs if "runs" in choices else said.runs[analysis.last_block(said):][:1]
    spans = {}
    for index in choices.get("chips") or analysis.chosen_chips(said):
        spans[index] = (min(said.segments[i].start[:, index].min() + offset for i, offset in runs),
                        max(said.segments[i].end[:, index].max() + offset for i, offset in runs))
    if not any(isinstance(o, Compute) for i, _ in runs for o in said.segments[i].operations):
        pytest.skip("no compute, no lane")
    exposed = sum(float(analysis.usage(said, index, span).exposed[0]) for index, span in spans.items())
    window = max(b for _, b in spans.values()) - min(a for a, _ in spans.values())
    height = 72 if "runs" in choices else 36
    assert areas(figure, EXPOSED) / height / 1044 == pytest.approx(exposed / window, abs=0.012)


def test_the_share_of_exposed_communication_is_written():
    said, _, figure = drawn("decode")
    segment, offset = said.runs[analysis.last_block(said)]
    s = said.segments[segment]
    share = analysis.usage(said, 0, [s.start[:, 0].min() + offset, s.end[:, 0].max() + offset]).shares()["exposed"]
    assert f"exposed communication {100 * share:.0f} % of block 1 of 118" in [text.get_text() for text in texts(figure)]


@pytest.mark.parametrize("scale, unit", [(1.0, "ns"), (1e3, "us"), (1e6, "ms"), (1e9, "s")])
def test_the_time_axis_has_a_unit_that_fits(scale, unit):
    flops = 2.0 * scale * IDEAL.flops["bf16"] * 1e-9
    figure = timeline_figure(simulate(Program((Compute("m", flops=flops),)), network((1,)), IDEAL))
    assert figure.axes[0].get_xlabel() == f"time from the start of the run ({unit})"
    assert figure.axes[0].get_xlim() == pytest.approx((0, 2))


def test_what_is_computed_looks_other_than_every_collective_also_without_colour():
    hatches = {}
    for found in drawn("concurrent")[2].findobj(PolyCollection):
        hatches.setdefault(to_hex(found.get_facecolor()[0]).upper(), set()).add(found.get_hatch() or "")
    assert len(set(KIND_HATCHES.values())) == len(KINDS)
    kinds = [max(hatches[KIND_COLOURS[kind]]) for kind in SYMMETRIC]
    assert len(set(kinds)) == len(kinds) and "" not in kinds
    assert hatches[COMPUTE] == hatches[FIXED] == {""}


def test_messages_are_drawn_for_the_chips_that_were_recorded():
    program, graph = concurrent(), network((4, 4, 4))
    dark = [areas(timeline_figure(simulate(program, graph, V4, record=chips), chips=[0]), KIND_COLOURS["all_gather"])
            for chips in ([], [0])]
    assert dark[1] > 2 * dark[0] > 0


def test_lanes_without_sends_say_why():
    own = Collective("own", "all_gather", ("x",), 1e6)
    over = Collective("over", "all_to_all", ("y",), 1e6, "direct")
    graph = network((4, 4))
    cases = [((own, over), [0], ["over"], "simulated as flows", 2), ((own,), [], ["own"], "not asked for", 0),
             ((own,), [0], [], "", 4)]
    for program, record, unkept, why, count in cases:
        figure = timeline_figure(simulate(Program(program), graph, V4, record=record), chips=[0])
        said = " ".join(text.get_text() for text in figure.findobj(Text))
        assert ("Not recorded" in said) == bool(unkept)
        if unkept:
            assert f"the messages of {', '.join(unkept)} (" in said and why in said
        shares = [text for text in figure.findobj(Text) if text.get_text().endswith(" %") and text.get_position()[0] > 1044]
        assert len(shares) == count, "only where all is known"


@pytest.mark.parametrize("kind, head", [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_same_timeline_gives_the_same_bytes(kind, head, tmp_path):
    said = drawn("concurrent")[0]
    first, second = (encode(timeline_figure(said, title="twice"), kind) for _ in range(2))
    assert first == second and first.startswith(head)
    save(timeline_figure(said, title="twice"), tmp_path / f"timeline.{kind.upper()}")
    assert (tmp_path / f"timeline.{kind.upper()}").read_bytes() == first


def test_mistakes_are_told(tmp_path):
    said = drawn("concurrent")[0]
    with pytest.raises(TorusSimError, match="there is no chip 64: give one from 0 to 63"):
        timeline_figure(said, chips=[0, 64])
    with pytest.raises(TorusSimError, match="there is no run 1: give one from 0 to 0"):
        timeline_figure(said, first=1)
    with pytest.raises(TorusSimError, match="128 chips are too many for one picture: give at most 100"):
        timeline_figure(said, chips=[*range(64)] * 2)
    with pytest.raises(TorusSimError, match="no picture can be made as 'jpeg': give png, svg or pdf"):
        save(timeline_figure(said), tmp_path / "timeline.jpeg")
    assert not list(tmp_path.iterdir())


def test_matplotlib_is_imported_when_it_is_needed_and_pyplot_never():
    code = """
import sys
from torussim.plot import encode, timeline_figure
from torussim.timeline import Timeline
import numpy as np
assert not any(name.startswith("matplotlib") for name in sys.modules)
none = np.zeros((1, 2, 1))
encode(timeline_figure(Timeline(((0,),), ("x",), (), (), {}, none, none, np.zeros(1), np.zeros(1), 0, 0, 0, None)), "png")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_runs_of_several_blocks_are_named_by_block_and_number():
    work = Compute("work", flops=275e10)
    more = tuple(Block((replace(work, name=name),), times) for name, times in (("other", 3), ("once", 1)))
    several = ["block, run 1", "block, run 2", "block 2, run 1", "block 2, run 2", "block 2, run 3", "block 3"]
    for program, wanted in ((Program((work,), 2, prologue=(replace(work, name="begin"),)), ["prologue", "block 1", "block 2"]),
                            (Program((work,), 2, more=more), several)):
        timeline = simulate(program, torus((2,), bandwidth=1e9), chip("ideal"))
        view = window(timeline, [0], range(len(timeline.runs)))
        assert [view.title(run) for run in view.runs] == wanted
        assert view.title(1, 9) == ("blocks 1 to 9" if not program.more else "block, runs 2 to 9")
        one = window(timeline, [0], range(1, 2)).what()
        assert one == ("block 1 of 2" if not program.more else "block, run 2 of 2")
    assert analysis.last_block(timeline) == 2, "the block with the most runs; its first run stands for the others"
