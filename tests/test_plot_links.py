"""Pictures of networks: each link is drawn once and where it belongs, what is odd is marked, and no text meets another."""

import re
import warnings
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise
from math import prod

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from link_pictures import CASES, GROUPED, ROUND, SLICED, TREES, check_texts, fat_tree, gpu_nodes, graph, joined, network
from matplotlib.collections import PolyCollection
from matplotlib.text import Text
from thinned import thinned

from torussim.plot import encode, links_figure
from torussim.plot.links import spread
from torussim.plot.network import placing, shift
from torussim.plot.ranks import groups, levels
from torussim.plot.slices import Place, cut
from torussim.plot.spread import MOST
from torussim.plot.tree import tree
from torussim.topology.grid import grid


@cache
def drawn(name):
    links = CASES[name]()
    return links, links_figure(links, title=f"Links of {name}", subtitle="what $is$ known of it " * (1 + 9 * (name == "8x8")))


def written(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def polygons(figure, what):
    """Return the corners of all polygons of a group, each (corners, 2), and their colours."""
    groups = [group for group in figure.findobj(PolyCollection) if group.get_gid() == what]
    return ([path.vertices[:-1] for group in groups for path in group.get_paths()],
            np.concatenate([np.empty((0, 4)), *(group.get_facecolor() for group in groups)]))


def shown(links, figure):
    """Return the chips that are shown, in their order, by the titles of the panels."""
    names, ranges = list(links.axes), []
    for text in written(figure):
        parts = [re.fullmatch(r"(\S+)(?: = (\d+)| (\d+) to (\d+))", part) for part in text.split(", ")]
        if all(parts) and all(part[1] in names for part in parts):
            ranges.append({names.index(p[1]): (int(p[2] or p[3]), int(p[2] or p[4])) for p in parts})
    if not ranges:
        return list(range(links.chips))
    return [chip for chip in range(links.chips)
            if any(all(a <= links.at[axis, chip] <= b for axis, (a, b) in found.items()) for found in ranges)]


def centres(links, figure):
    """Return {chip: (x, y)} of the squares."""
    squares, _ = polygons(figure, "chips")
    chips = shown(links, figure)
    assert len(squares) == len(chips)
    return {chip: square.mean(axis=0) for chip, square in zip(chips, squares, strict=True)}


def angle(links, axis, sign):
    """Return the direction that a link has to have, y downwards: x to the right, y up, the others aslant."""
    live = [a for a, length in enumerate(links.lengths) if length > 1]
    place = live.index(axis)
    if place < 2:
        return [0.0, -90.0][place] + 180 * sign
    deep = len(live) - 2
    first = (deep + 1) // 2
    place -= 2
    rows, turn = (first, 0) if place < first else (deep - first, 90)
    return -(turn + 90 * (place % first + 1) / (rows + 1)) + 180 * sign


@cache
def matches(name):
    """Return {link: its arrow}: the one arrow that starts at the chip that the link leaves, and goes its way."""
    links, figure = drawn(name)
    at = centres(links, figure)
    arrows, colours = polygons(figure, "links")
    tails = np.array([arrow[0] for arrow in arrows]).reshape(-1, 2)
    ways = np.array([np.degrees(np.arctan2(*(arrow[1] - arrow[0])[::-1])) for arrow in arrows])
    half = np.ptp(polygons(figure, "chips")[0][0][:, 0]) / 2
    chips, places, leaves = list(at), np.array(list(at.values())), {chip: [] for chip in at}
    for arrow, tail in enumerate(tails):
        far = np.abs(places - tail).max(axis=1)
        assert far.min() < half + 2, "each starts at a chip"
        leaves[chips[far.argmin()]].append(arrow)
    found = {}
    for link in range(len(links.source)):
        chip, axis = int(links.source[link]), int(links.axis[link])
        if chip in at and axis >= 0:
            wish = angle(links, axis, links.sign[link])
            which = [arrow for arrow in leaves[chip] if abs((ways[arrow] - wish + 180) % 360 - 180) < 1]
            assert len(which) == 1, (links.name(chip), axis, links.sign[link])
            found[link] = (arrows[which[0]], colours[which[0]])
    return found


@pytest.mark.parametrize("name", thinned(SLICED, 4))
def test_every_link_of_a_shown_slice_is_drawn_exactly_once(name):
    links, figure = drawn(name)
    found = matches(name)
    chips = set(shown(links, figure))
    assert sorted(found) == [i for i, chip in enumerate(links.source) if int(chip) in chips]
    assert len({arrow.round(6).tobytes() for arrow, _ in found.values()}) == len(found) == len(polygons(figure, "links")[0])


@pytest.mark.parametrize("name", SLICED)
def test_an_arrow_ends_at_its_chip_or_out_of_the_panel(name):
    links, figure = drawn(name)
    at = centres(links, figure)
    flat = [axis for axis, length in enumerate(links.lengths) if length > 1][:2]
    pitch = min((float(np.hypot(*(at[t] - at[s]))) for s, t, a, w in
                 zip(links.source.tolist(), links.target.tolist(), links.axis.tolist(), links.wraparound, strict=True)
                 if s in at and t in at and a in flat and not w), default=0.0)
    for link, (arrow, _) in matches(name).items():
        source, target = int(links.source[link]), int(links.target[link])
        near = [float(np.hypot(*(arrow[1] - at[chip]))) for chip in (source, target) if chip in at]
        inside = (links.axis[link] in flat and not links.wraparound[link] and target in at
                  and np.hypot(*(at[target] - at[source])) < pitch + 0.1)
        assert near[-1] < near[0] - 1 if inside else near[0] < 40, "short where it leaves"


@pytest.mark.parametrize("name", CASES)
def test_every_one_of_the_busiest_is_shown_numbered_beside_its_link_and_in_the_table(name):
    links, figure = drawn(name)
    texts = [text for text in figure.findobj(Text) if text.get_color() == "white"]
    if links.is_grid:
        assert {int(links.source[i]) for i in links.busiest} <= set(shown(links, figure))
        arrows = {link: arrow for link, (arrow, _) in matches(name).items()}
    for rank, link in enumerate(links.busiest, start=1):
        places = sorted(text.get_position() for text in texts if text.get_text() == str(rank))
        assert len(places) == 2 + (rank == 1), "in the picture, in the table; 1 is in the legend too"
        if links.is_grid and link in arrows:
            assert min(np.hypot(*(np.array(place) - arrows[link].mean(axis=0))) for place in places) < 60
        row = f"{links.name(int(links.source[link]))} → {links.name(int(links.target[link]))}"
        assert len(row) > 50 or row in written(figure)


@pytest.mark.parametrize("name", CASES)
def test_the_dead_and_the_slow_are_marked_and_nothing_else(name):
    links, figure = drawn(name)
    crosses, _ = polygons(figure, "dead")
    chips = shown(links, figure) if links.is_grid else range(links.nodes)
    dead = [source for source, _, _ in links.dead if source in chips]
    assert len(crosses) == len(dead) + bool(links.dead), "one more in the legend"
    assert len(dead) == len(links.dead), "all are shown"
    cuts = [corners.mean(axis=0) for corners in polygons(figure, "slow")[0]]
    assert bool(cuts) == bool(links.slow.any())
    assert links.slow.sum() == np.count_nonzero(links.bandwidth < 45e9) if links.is_grid else not links.slow.any()
    if links.is_grid:
        at = centres(links, figure)
        for source in dead:
            assert min(np.hypot(*(cross.mean(axis=0) - at[source])) for cross in crosses) < 25
        marked = set()
        for link, (arrow, _) in matches(name).items() if cuts else ():
            (x0, y0), (x1, y1) = arrow.min(axis=0), arrow.max(axis=0)
            if any(x0 <= x <= x1 and y0 <= y <= y1 for x, y in cuts):
                marked.add(link)
        assert marked >= set(np.flatnonzero(links.slow).tolist())
        assert len(marked) <= 2 * links.slow.sum(), "the box of an arrow aslant can hold another's cut"


def assert_nothing_odd_is_covered(figure):
    """No part of a cross, of a dead link's dots or of a slow link's cuts is under the disc of a number."""
    discs = [disc.mean(axis=0) for disc in polygons(figure, "number, back")[0]]
    radius = max((np.ptp(disc[:, 0]) / 2 for disc in polygons(figure, "number, back")[0]), default=0.0)
    odd = [one for what in ("dead", "dead lines", "slow") for one in polygons(figure, what)[0]]
    corners = np.concatenate([np.empty((0, 2)), *odd])
    for disc in discs:
        assert (np.hypot(*(corners - disc).T) > radius - 0.1).all()


@pytest.mark.parametrize("name", CASES)
def test_no_number_covers_a_dead_or_a_slow_link(name):
    assert_nothing_odd_is_covered(drawn(name)[1])


@pytest.mark.parametrize(("shape", "seed"), [((4, 4), 0), ((4, 4, 4), 0), ((2, 4, 4), 2), ((3, 3, 3), 2), ((5,), 1),
                                             ((2, 2, 2, 2, 2), 0), ((2, 2, 2, 2, 2), 3), ((3, 3, 3, 3), 3), ((16, 16), 1)])
def test_nor_where_half_of_the_links_are_dead_or_slow(shape, seed):
    """The busiest are among them: the number of a slow link stands beside it."""
    rng = np.random.default_rng(seed)
    links = network(shape, seed=seed)
    odd = rng.random(len(links.source)) < 0.3
    gone = (rng.random(len(odd)) < 0.3) & ~odd
    columns = {name: getattr(links, name)[~gone] for name in ("source", "target", "axis", "sign", "wraparound", "busy", "bytes")}
    dead = list(zip(*(column[gone].tolist() for column in (links.source, links.target, links.axis)), strict=True))
    bandwidth = np.where(odd, 1e9, links.bandwidth)[~gone]
    some = replace(links, **columns, bandwidth=bandwidth, dead=dead, busiest=np.argsort(-columns["busy"])[:10].tolist())
    figure = links_figure(some)
    assert_nothing_odd_is_covered(figure)
    placed = (len(polygons(figure, "number")[0]) - 1) / 2
    assert (placed == len(some.busiest)) != ("Numbers without room are left out." in written(figure))


def test_faults_are_named_before_all_else():
    links = network((4, 4, 4))
    few, many = (replace(links, faults=[f"dead cable ({i}, 0, 0) - ({i}, 1, 0)" for i in range(count)]) for count in (1, 9))
    for shown_, label, last in ((few, "fault:", few.faults[0]), (many, "9 faults:", "and 5 more")):
        figure = links_figure(shown_, title="a title", subtitle="a subtitle")
        texts = {text.get_text(): text.get_position()[1] for text in figure.findobj(Text)}
        above = [text for text, y in texts.items() if y < texts[last]]
        assert texts[label] == texts[shown_.faults[0]] < texts["0 %"]
        assert set(above) <= {"", "a title", "a subtitle", label, *shown_.faults[:4]}
        check_texts(figure)
    assert not any("fault" in text for text in written(links_figure(links)))


@pytest.mark.parametrize("name", ["4x4x4", "8x8", "mesh 5x3"])
def test_what_is_busier_is_darker(name):
    links, found = drawn(name)[0], matches(name)
    order = sorted(found, key=lambda link: links.busy[link])
    light = [found[link][1][:3] @ (0.2126, 0.7152, 0.0722) for link in order]
    assert all(a >= b - 0.005 for a, b in pairwise(light)) and light[0] > light[-1] + 0.3


@pytest.mark.parametrize("busy, most", [(0.06, "10 %"), (0.013, "2 %"), (0.35, "40 %"), (0.97, "100 %"), (0.0, "100 %")])
def test_the_scale_ends_above_the_busiest(busy, most):
    links = replace(network((3, 2), wrap=False, busiest=0), busy=np.full(14, busy))
    ticks = [text for text in written(links_figure(links)) if re.fullmatch(r"[\d.]+ %", text)]
    assert ticks[0] == "0 %" and ticks[-1] == most and len(ticks) == 5


@pytest.mark.parametrize("name", CASES)
def test_no_text_meets_another_and_all_are_inside_the_picture(name):
    check_texts(drawn(name)[1])


@pytest.mark.parametrize("name", ["4x4x4", "64 chips, 8 switches"])
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_same_links_give_the_same_bytes(name, kind):
    links = drawn(name)[0]
    assert encode(links_figure(links, title="a"), kind) == encode(links_figure(CASES[name](), title="a"), kind)


def test_a_twisted_wraparound_says_where_it_leads():
    figure = drawn("4x4x8 twisted")[1]
    assert written(figure).count("z+4") == 8 * 16, "16 out of each of the 8 slices, dead or not"
    assert any("A wraparound marked z+4" in text for text in written(figure))
    turned = network((4, 4, 8), twist={2: {0: 1}})
    assert "Going round z shifts x+1." in written(links_figure(turned))
    back = next(i for i in range(len(turned.source)) if turned.wraparound[i] and turned.axis[i] == 2 and turned.sign[i])
    assert shift(turned, back) == ["x−1"]


def test_what_is_left_out_is_said():
    assert not re.search("(slices|pieces) are shown", " ".join(written(drawn("8x8x8")[1])))
    links, figure = drawn("16x16x16")
    titles = {text for text in written(figure) if text.startswith("z = ")}
    wanted = {int(links.at[2, links.source[i]]) for i in links.busiest} | {3, 5, 6}
    assert titles == {f"z = {z}" for z in wanted}
    assert any(text.startswith(f"{len(wanted)} of 16 slices are shown") for text in written(figure))
    many = network((4, 4, 40), slow=[((0, 0, z), (1, 0, z)) for z in range(40)])
    hidden = [re.search(r"16 of 40 slices are shown.*; (\d+) more have slow", text) for text in written(links_figure(many))]
    assert [int(found[1]) for found in hidden if found] == [24]
    assert any("the first" in text for text in written(drawn("nothing busy")[1]))
    crowded = graph(64, 70)
    figure = links_figure(crowded)
    assert len(polygons(figure, "links")[0]) == 4000
    assert f"{len(crowded.source) - 4000} links that are less busy are not drawn." in written(figure)
    assert "Names without room are left out." in written(figure)


def test_a_name_in_any_script_is_no_warning_and_a_network_without_links_says_so():
    links = CASES["one chip"]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = links_figure(links, title="数 Größe Ωμέγα $x_1$ <b>")
        encode(figure, "png")
    assert {"The network has no links.", "数 Größe Ωμέγα $x_1$ <b>"} <= set(written(figure))


def test_links_between_strangers_are_drawn_too():
    links, figure = drawn("strangers")
    assert len(polygons(figure, "links")[0]) == len(links.source)
    assert any(text.startswith("2 links are not between neighbours") for text in written(figure))
    at = centres(links, figure)
    tips = [arrow[1] for arrow in polygons(figure, "links")[0]]
    # 0 and 36 are (0, 0, 0) and (2, 1, 0), in one slice: two to the right, one up.
    assert any(np.hypot(*(tip - at[36])) < 15 and abs(np.degrees(np.arctan2(*(at[36] - tip)[::-1])) + 26.6) < 8 for tip in tips)


@pytest.mark.parametrize("name", ROUND)
def test_without_slices_every_link_goes_from_node_to_node(name):
    links, figure = drawn(name)
    squares, discs = polygons(figure, "chips")[0], polygons(figure, "switches")[0]
    at = np.array([corners.mean(axis=0) for corners in [*squares, *discs]])
    assert len(squares) == links.chips and len(discs) == links.switches
    ends = sorted(tuple(int(np.hypot(*(at - corner).T).argmin()) for corner in arrow[:2])
                  for arrow in polygons(figure, "links")[0])
    every = sorted(zip(links.source.tolist(), links.target.tolist(), strict=True))
    assert ends == every if len(every) <= MOST else (len(ends) == MOST and not set(ends) - set(every))


@pytest.mark.parametrize("name", TREES)
def test_in_a_tree_each_level_of_switches_stands_above_the_one_below(name):
    links = drawn(name)[0]
    rows, where = levels(links), tree(links, levels(links), groups(links, levels(links)))
    height = {int(row): where.centres[rows == row, 1] for row in np.unique(rows)}
    assert all(height[row + 1].max() < height[row].min() for row in range(len(height) - 1)) and len(height) > 1
    apart = np.abs(where.centres[:, None] - where.centres[None]).max(axis=2) + 1e9 * np.eye(links.nodes)
    assert (apart > 0.9 * (where.sizes[:, None] + where.sizes[None])).all(), "no node hides another"


@pytest.mark.parametrize("name", [*(name for name in TREES if name not in ("a switch", "72 on 18")), *GROUPED])
def test_a_group_has_a_box_with_its_nodes_and_no_other(name):
    links = drawn(name)[0]
    where = spread(links)
    of = groups(links, levels(links))
    assert len(where.boxes) == of.max() + 1 > 1
    for group, box in enumerate(where.boxes):
        x, y = where.centres.T
        inside = (box.x0 < x) & (x < box.x1) & (box.y0 < y) & (y < box.y1)
        assert set(np.flatnonzero(of == group)) == set(np.flatnonzero(inside & (of >= 0) if name in GROUPED else inside))
    assert len(polygons(drawn(name)[1], "groups")[0]) == len(where.boxes)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
@pytest.mark.parametrize("of", [1, 2, 5])
def test_a_switch_of_a_group_is_nearest_to_its_own_chips(count, of):
    """Groups of eight chips, as a dragonfly has them, and their switches, all of which are joined; `of`: how many groups."""
    chips, own = 8 * of, {switch: range(8 // count * switch, 8 // count * (switch + 1)) for switch in range(count * of)}
    pairs = [(chip, chips + switch) for switch, some in own.items() for chip in some]
    pairs += list(combinations(range(chips, chips + count * of), 2))
    names = [chip // 8 for chip in range(chips)] + [switch // count for switch in own]
    where = spread(joined(pairs, switches=count * of, groups=names if of > 1 else ()))
    apart = np.hypot(*(where.centres[chips:, None] - where.centres[None, :chips]).transpose(2, 0, 1))
    for switch, some in own.items():
        others = np.delete(apart[switch], some)
        assert apart[switch, some].max() <= others.min(initial=np.inf) + 1e-6
        assert apart[switch, some[0]] == pytest.approx(apart[switch, some[-1]]), "before the middle of them"
        if count == 1 and of > 1:
            assert np.ptp(apart[switch, some]) < 1e-6, "the only one lies in the middle"


@pytest.mark.parametrize("make", [lambda marked: fat_tree(4, 4, 2, marked), lambda marked: gpu_nodes(4, 4, marked)])
def test_levels_and_groups_that_the_graph_does_not_say_are_found(make):
    marked, plain = make(True), make(False)
    np.testing.assert_array_equal(levels(marked), levels(plain))
    np.testing.assert_array_equal(groups(marked, levels(marked)), groups(plain, levels(plain)))


def test_what_a_picture_knows_of_nodes_is_what_the_graph_says():
    made = nx.DiGraph(axes={"x": 2})
    made.add_node((0,), group="left")
    made.add_nodes_from([(1,)])
    made.add_node("s", chip=False, level=3)
    made.add_edges_from([(a, b) for a in ((0,), (1,)) for b in ("s",)] + [("s", (0,)), ("s", (1,))], bandwidth=1.0, latency=0.0)
    assert placing(grid(made)) == {"levels": [3.0], "groups": ["left", None, None]}
    made.nodes["s"].pop("level"), made.nodes[0,].pop("group")
    assert placing(grid(made)) == {}


def test_a_network_of_links_of_several_widths_is_not_slow_but_a_changed_link_is():
    assert not gpu_nodes(4, 4).slow.any()
    star = joined([(chip, 8) for chip in range(8)], switches=1, bandwidth=lambda a, b: 5e9 if 3 in (a, b) else 25e9)
    assert {(int(star.source[i]), int(star.target[i])) for i in np.flatnonzero(star.slow)} == {(3, 8), (8, 3)}


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.booleans(), st.integers(0, 9))
def test_lines_of_any_network_differ_and_the_busiest_are_shown(shape, wrap, seed):
    links = network(tuple(shape), wrap=wrap, seed=seed)
    pieces = cut(links)
    assert sorted(set(pieces.panel.tolist())) == list(range(prod(pieces.grid)))
    assert all(pieces.slot[links.source[link]] >= 0 for link in links.busiest)
    place = Place(pieces, 30.0, 1000.0 * np.stack([np.arange(len(pieces.shown)), np.zeros(len(pieces.shown))], axis=1))
    visible = np.flatnonzero(pieces.slot >= 0)
    assert len(np.unique(place.centres[visible].round(6), axis=0)) == len(visible)
    which = np.flatnonzero(pieces.slot[links.ends.source] >= 0)
    start, end, _ = place.lines(which)
    assert len(np.unique(np.concatenate([start, end], axis=1).round(6), axis=0)) == len(which)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(0, 3), st.data())
def test_a_dead_link_has_the_direction_that_it_had_alive(shape, by, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    other = data.draw(st.integers(0, len(shape) - 1))
    twisted = {axis: {other: by}} if axis != other and shape[axis] > 2 and by % shape[other] else {}
    links = network(tuple(shape), twist=twisted)
    sign, wraparound = links.directions(links.source, links.target, links.axis)
    np.testing.assert_array_equal(sign, links.sign)
    np.testing.assert_array_equal(wraparound, links.wraparound)
