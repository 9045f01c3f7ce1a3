"""plots/paper.py: its points are the measured ones, its picks those of an exhaustive simulation, and docs/paper.md quotes it."""

import math
import sys
from itertools import product
from pathlib import Path

import pytest

from torussim import model
from torussim.closed_forms import estimate
from torussim.engine.simulate import simulate
from torussim.errors import LayoutError, ShardingError
from torussim.layouts import Layout
from torussim.outlines import Outlines
from torussim.transformer import build
from torussim.workload import passes

ROOT = Path(__file__).resolve().parent.parent
PALM = model("palm-540b")


@pytest.fixture(scope="module")
def paper():
    sys.path.insert(0, str(ROOT / "plots"))
    try:
        import paper
    finally:
        sys.path.remove(str(ROOT / "plots"))
    return paper


@pytest.fixture(scope="module")
def rule(paper):
    return paper.paper_rule


@pytest.fixture(scope="module")
def pictures(paper, tmp_path_factory):
    """Return the folder of the pictures of the paper's own figures, and what is said of them."""
    folder = tmp_path_factory.mktemp("paper")
    rows = paper.measured()
    paper.figure_1(folder, [*rows["Fig. 1, decode"], *rows["Fig. 1, prefill"]])
    paper.figure_6(folder, rows["Fig. 6"])
    return folder, rows, paper.figure_3(folder)


def test_the_papers_figures_can_be_drawn_again(pictures):
    folder, *_ = pictures
    for number in (1, 3, 6):
        assert (folder / f"paper-fig{number}.png").read_bytes()[:4] == b"\x89PNG"


def test_every_measured_point_is_in_one_figure(pictures):
    _, rows, _ = pictures
    distinct = [row for several in rows.values() for row in several if not row.measurement.twin]
    assert len(distinct) == 20 and {name: len(several) for name, several in rows.items()} == {
        "Fig. 1, decode": 10, "Fig. 1, prefill": 5, "Fig. 6": 6}  # Fig. 6 has a twin of a point of Fig. 1


def test_the_bytes_agree_with_the_printed_ones_in_all_their_digits(paper):
    for tokens, printed in paper.PRINTED.items():
        for (ffn, *_), value in zip(paper.FFNS, printed):
            digits = 3 - math.floor(math.log10(value))
            assert paper.volume(ffn, tokens) / 1e9 == pytest.approx(value, abs=0.51 * 10**-digits)


def test_collectives_take_no_less_time_than_the_paper_charges(paper):
    """On rings each collective moves (K-1)/K of its bytes, over at most all links; the paper charges the whole."""
    for ffn, *_ in paper.FFNS:
        charged = paper.volume(ffn, 131072) / (paper.TPU.links * paper.TPU.link_bandwidth)
        assert paper.collective_s(ffn, 131072) > 63 / 64 * charged


def test_curves_cross_where_one_is_below_the_other_from_then_on(paper):
    tokens = [1, 2, 4, 8]
    assert paper.crossing({"a": [8, 8, 8, 8], "b": [2, 4, 8, 16]}, tokens, "a", "b") == pytest.approx(4)
    assert paper.crossing({"a": [4, 4, 4, 4], "b": [1, 2, 8, 32]}, tokens, "a", "b") == pytest.approx(2 * math.sqrt(2))


@pytest.mark.parametrize("chips", [8, 16, 32, 64, 128, 256])
def test_the_meshes_left_out_are_alike_to_one_that_is_there(rule, chips):
    net = rule.slice_of(chips)
    kept = {tuple(tuple(sorted(map(net.length, axes))) for axes in mesh.values()) for mesh in rule.meshes(net)}
    ways = list(product("xyz", repeat=3))
    assert len(list(rule.meshes(net))) == len(kept) <= len(ways)
    assert kept == {tuple(tuple(sorted(net.length(p) for p, to in zip(net.axes, way) if to == a)) for a in "xyz") for way in ways}


def everything(rule, workload, net):
    """Return (paper_s, simulated) of every layout on every mesh, those that are alike too, whether they fit in memory or not."""
    forward, axes = passes(workload)[-1], rule.lengths(net)
    outlines = Outlines(net)
    for ffn, attention, way in product(rule.FFNS, ("heads", "batch"), product("xyz", repeat=3)):
        mesh = {a: tuple(p for p, to in zip(net.axes, way) if to == a) for a in "xyz"}
        try:
            program = build(PALM, Layout(ffn, attention, "int8", mesh=mesh), forward, axes)
        except (LayoutError, ShardingError):
            continue
        yield estimate(program, outlines, rule.TPU).paper_s, simulate(program, net, rule.TPU).makespan


CELLS = [("decode", 2, 8), ("decode", 8, 16), ("decode", 8, 32), ("prefill", 16, 32), ("prefill", 32, 256), ("decode", 16, 64)]


@pytest.mark.parametrize("phase, batch, chips", [CELLS[0], *(pytest.param(*cell, marks=pytest.mark.slow) for cell in CELLS[1:])])
def test_a_choice_is_that_of_an_exhaustive_simulation(rule, phase, batch, chips):
    """In these cells all candidates fit in memory, or none does."""
    net, workload = rule.slice_of(chips), rule.workload_of(phase, batch)
    found = list(everything(rule, workload, net))
    least = min(paper_s for paper_s, _ in found)
    best = min(seconds for _, seconds in found)
    pick = min(seconds for paper_s, seconds in found if paper_s <= least * (1 + 1e-9))
    assert rule.choice(PALM, workload, Outlines(net)).loss == pytest.approx(pick / best - 1, abs=1e-9)


def test_the_picture_of_the_rule_can_be_drawn(rule, tmp_path):
    one, two = rule.Choice("ws2d 4x16 b", "ws2d 4x16 b", 0.0, True), rule.Choice("wg_xy 1x8x32 b", "wg_x 16x16 b", 0.2, False)
    several = {(batch, chips): (one, two)[batch % 3 == 1] for batch in rule.BATCHES for chips in rule.SHAPES}
    rule.draw(tmp_path, {"decode": several, "prefill": several})
    assert (tmp_path / "paper-rule.png").read_bytes()[:4] == b"\x89PNG"
    assert rule.cell_of(one).text == "same" and rule.cell_of(two).text == "20.0%*"


def block():
    """Return what docs/paper.md says that the script prints."""
    return (ROOT / "docs" / "paper.md").read_text().split("```")[1].strip("\n")


def test_the_document_quotes_the_errors_and_the_crossings(paper, pictures):
    _, rows, (off, crossings) = pictures
    one = paper.paper_rule.Choice("", "", 0.0, True)
    said = paper.report(rows, off, crossings, {"decode": {(1, 64): one}}).split("\n\n")
    assert block().split("\n\n")[:2] == said[:2]


@pytest.mark.slow
def test_the_document_quotes_all_that_the_script_prints(paper, tmp_path, capsys):
    paper.main(tmp_path)
    assert capsys.readouterr().out.strip("\n") == block()
    assert len(list(tmp_path.glob("paper-*.png"))) == 4
