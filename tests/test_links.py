"""Changes to links: which links a change selects, and what becomes of them."""

import re
from math import inf, nan
from typing import Any

import networkx as nx  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim.errors import TopologyError
from torussim.topology.builders import mesh, torus
from torussim.topology.check import read_links
from torussim.topology.links import LinkChange, change_later, change_links

RATE = 64.0
quick = settings(deadline=None, max_examples=100)


def obvious_matches(graph: nx.DiGraph, change: LinkChange) -> list[Any]:
    """The edges that a change selects, one edge at a time, straight from the definition."""
    names, shape = list(graph.graph["axes"]), list(graph.graph["axes"].values())
    found = []
    for u, v in graph.edges:
        axis = next(i for i in range(len(shape)) if u[i] != v[i])
        plus = v[axis] == (u[axis] + 1) % shape[axis] and not (shape[axis] == 2 and u[axis] == 1)
        leaves = u if plus else v
        around = shape[axis] > 2 and leaves[axis] == shape[axis] - 1
        if change.from_ is not None:
            ends = (u, v) if not change.both_ways or u == change.from_ else (v, u)
            if ends != (change.from_, change.to):
                continue
        elif not change.both_ways and not plus:
            continue
        if change.axis not in (None, names[axis]) or change.wraparound not in (None, around):
            continue
        if all(leaves[names.index(name)] == coordinate for name, coordinate in change.at.items()):
            found.append((u, v))
    return found


def selected(graph: nx.DiGraph, change: LinkChange) -> list[Any]:
    """The edges that a change selects: those that get another bandwidth when it scales them."""
    changed = change_links(graph, [scaled(change, 0.5)])
    return [edge for edge in graph.edges if changed.edges[edge] != graph.edges[edge]]


@st.composite
def changes(draw: st.DrawFn) -> tuple[nx.DiGraph, LinkChange]:
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    wrap = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    graph = torus(shape, wrap=wrap, bandwidth=RATE)
    axes = graph.graph["axes"]
    at = {name: draw(st.integers(0, axes[name] - 1)) for name in draw(st.sets(st.sampled_from(list(axes))))}
    edges = [(None, None), *graph.edges]
    from_, to = draw(st.sampled_from(edges) if draw(st.booleans()) else st.just((None, None)))
    return graph, LinkChange(from_=from_, to=to, axis=draw(st.sampled_from([None, *axes])), at=at,
                             wraparound=draw(st.sampled_from([None, False, True])), both_ways=draw(st.booleans()))


@quick
@given(changes())
def test_a_change_selects_the_links_for_which_all_criteria_hold(drawn: tuple[nx.DiGraph, LinkChange]) -> None:
    graph, change = drawn
    expected = obvious_matches(graph, change)
    if expected:
        assert selected(graph, change) == expected
    else:
        with pytest.raises(TopologyError, match=r"no link has .* and the other properties; the links|has no links"):
            selected(graph, change)


@quick
@given(changes())
def test_both_ways_selects_the_opposite_of_each_link_and_one_way_one_of_the_two(
    drawn: tuple[nx.DiGraph, LinkChange],
) -> None:
    graph, change = drawn
    chosen = set(obvious_matches(graph, change))
    opposites = {(v, u) for u, v in chosen}
    assert chosen == opposites if change.both_ways else not chosen & opposites


@quick
@given(changes(), st.floats(0.01, 100), st.floats(0.01, 100))
def test_scaling_twice_scales_by_the_product(
    drawn: tuple[nx.DiGraph, LinkChange], one: float, other: float
) -> None:
    graph, change = drawn
    chosen = obvious_matches(graph, change)
    if chosen:
        twice = change_links(graph, [scaled(change, one), scaled(change, other)])
        once = change_links(graph, [scaled(change, one * other)])
        for edge in graph.edges:
            assert twice.edges[edge]["bandwidth"] == pytest.approx(once.edges[edge]["bandwidth"], rel=1e-12)
            assert (twice.edges[edge]["bandwidth"] == RATE * one * other) or edge not in chosen
            assert twice.edges[edge] == graph.edges[edge] or edge in chosen


def scaled(change: LinkChange, scale: float) -> LinkChange:
    return LinkChange(change.from_, change.to, change.axis, change.wraparound, change.at, change.both_ways, scale=scale)


def test_no_criterion_selects_every_link() -> None:
    graph = torus([4, 2, 3], bandwidth=RATE)
    assert selected(graph, LinkChange()) == list(graph.edges)


def test_a_wraparound_leaves_the_last_chip() -> None:
    graph = torus([4, 3], bandwidth=RATE)
    change = LinkChange(axis="x", wraparound=True, at={"y": 2})
    assert selected(graph, change) == [((0, 2), (3, 2)), ((3, 2), (0, 2))]
    assert selected(graph, LinkChange(axis="x", at={"x": 3, "y": 2}, both_ways=False)) == [((3, 2), (0, 2))]


def test_on_an_axis_of_length_two_the_link_is_no_wraparound_and_0_to_1_is_plus() -> None:
    graph = torus([2, 3], bandwidth=RATE)
    assert selected(graph, LinkChange(axis="x", at={"y": 0}, both_ways=False)) == [((0, 0), (1, 0))]
    assert selected(graph, LinkChange(axis="x", at={"x": 0, "y": 0})) == [((0, 0), (1, 0)), ((1, 0), (0, 0))]
    with pytest.raises(TopologyError, match=r"wraparound true and the other properties; .* have wraparound false"):
        selected(graph, LinkChange(axis="x", wraparound=True))


def test_one_way_from_to_is_only_that_direction_also_against_the_axis() -> None:
    graph = torus([4], bandwidth=RATE)
    assert selected(graph, LinkChange(from_=(2,), to=(1,), both_ways=False)) == [((2,), (1,))]
    assert selected(graph, LinkChange(from_=np.array([2]).tolist(), to=[1])) == [((1,), (2,)), ((2,), (1,))]


def test_changes_are_made_in_their_order() -> None:
    graph = torus([4], bandwidth=RATE)
    steps = [LinkChange(bandwidth=10, latency=1), LinkChange(from_=(0,), to=(1,), scale=0.5),
             LinkChange(from_=(0,), to=(1,), both_ways=False, latency=2), LinkChange(wraparound=True, bandwidth=3)]
    changed = change_links(graph, steps)
    assert changed.edges[(0,), (1,)] == {"bandwidth": 5.0, "latency": 2.0}
    assert changed.edges[(1,), (0,)] == {"bandwidth": 5.0, "latency": 1.0}
    assert changed.edges[(3,), (0,)] == {"bandwidth": 3.0, "latency": 1.0}
    assert changed.edges[(1,), (2,)] == {"bandwidth": 10.0, "latency": 1.0}


def test_the_given_topology_stays_as_it_is_and_the_rest_is_copied() -> None:
    graph = torus([4], bandwidth=RATE, latency=1e-6)
    graph.edges[(0,), (1,)]["colour"] = "red"
    changed = change_links(graph, [LinkChange(scale=0.5)])
    assert {rate for _, _, rate in graph.edges(data="bandwidth")} == {RATE}
    assert changed.edges[(0,), (1,)] == {"bandwidth": RATE / 2, "latency": 1e-6, "colour": "red"}
    assert list(changed) == list(graph)
    assert list(changed.edges) == list(graph.edges)
    assert changed.graph == graph.graph
    assert nx.utils.graphs_equal(change_links(graph, []), graph)


def test_views_of_a_graph_can_be_changed_too() -> None:
    graph = torus([4, 3], bandwidth=RATE)
    view = nx.restricted_view(graph, [], [((3, 0), (0, 0)), ((0, 0), (3, 0))]).reverse(copy=False)
    changed = change_links(view, [LinkChange(from_=(0, 0), to=(1, 0), both_ways=False, scale=0.5)])
    assert [edge for edge in changed.edges if changed.edges[edge]["bandwidth"] != RATE] == [((0, 0), (1, 0))]
    assert changed.number_of_edges() == graph.number_of_edges() - 2


def test_a_change_prints_itself_as_a_scenario_has_it() -> None:
    assert str(LinkChange(from_=(0, 0), to=(1, 0), bandwidth=22.5e9)) == (
        "{from: [0, 0], to: [1, 0], bandwidth: 22500000000.0}")
    assert str(LinkChange(axis="z", wraparound=True, at={"y": 3}, both_ways=False, scale=0.5)) == (
        "{axis: z, wraparound: true, at: {y: 3}, both_ways: false, scale: 0.5}")


STRANGERS = (
    r"{from: .*}: there is no link from \[0, 0, 0\] to \[2, 0, 0\]; the neighbours of \[0, 0, 0\] are "
    r"\[1, 0, 0\], \[3, 0, 0\], \[0, 1, 0\], \[0, 2, 0\], \[0, 0, 1\]$"
)


@pytest.mark.parametrize(("change", "message"), [
    (LinkChange(from_=(0, 0, 0), to=(2, 0, 0)), STRANGERS),
    (LinkChange(from_=(0, 0, 0), to=(0, 0, 0)), "there is no link from"),
    (LinkChange(from_=(0, 0, 0)), "from is given without to; give both, or neither"),
    (LinkChange(to=(0, 0, 0)), "to is given without from; give both, or neither"),
    (LinkChange(from_=(4, 0, 0), to=(0, 0, 0)), r"there is no chip \[4, 0, 0\]; give one coordinate for each axis"),
    (LinkChange(from_=(0, 0, 0), to=(0, 0)), r"there is no chip \[0, 0\]"),
    (LinkChange(from_=(-1, 0, 0), to=(0, 0, 0)), r"there is no chip \[-1, 0, 0\]"),
    (LinkChange(axis="w"), "there is no axis 'w'; the axes are x, y, z"),
    (LinkChange(at={"w": 0}), "there is no axis 'w'; the axes are x, y, z"),
    (LinkChange(at={"y": 3}), "at has y: 3, but axis y goes from 0 to 2"),
    (LinkChange(at={"y": -1}), "at has y: -1, but"),
    (LinkChange(at={"y": 1.0}), "at has y: 1.0, but"),  # type: ignore[dict-item]
    (LinkChange(at={"y": True}), "at has y: True, but"),
    (LinkChange(axis="z", wraparound=True), "no link has wraparound true and .* have wraparound false"),
    (LinkChange(from_=(0, 0, 0), to=(1, 0, 0), axis="y"), "no link has axis y and .* have axis x$"),
    (LinkChange(axis="x", wraparound=True, at={"x": 0}),
     r"no link has at x 0 \(at is the chip that a link leaves in \+ direction\) and .* have at x 3$"),
])
def test_a_selector_that_matches_nothing_is_told_what_would_do(change: LinkChange, message: str) -> None:
    graph = torus([4, 3, 2], bandwidth=RATE)
    with pytest.raises(TopologyError, match=message) as caught:
        selected(graph, change)
    unknown = re.search("there is no (chip|axis)", message) is not None
    assert (caught.value.code, caught.value.path[0]) == ("unknown-name" if unknown else "topology", 0)
    assert "\n" not in str(caught.value)


def test_only_the_first_values_that_would_do_are_named() -> None:
    with pytest.raises(TopologyError, match=r"at x 0 or 1 or 2 or 3 or 4 or 5 or 6 or 7 or 11 more$"):
        selected(mesh([20], bandwidth=RATE), LinkChange(at={"x": 19}))


def test_a_topology_of_one_chip_has_no_links_to_change() -> None:
    with pytest.raises(TopologyError, match="the topology has no links"):
        selected(torus([1, 1], bandwidth=RATE), LinkChange())


@pytest.mark.parametrize(("change", "message"), [
    (LinkChange(), "^change 3 of links, {}: it changes nothing; give bandwidth, latency, scale or failed: true"),
    (LinkChange(axis="w", scale=2), "^change 3 of links, {axis: w, scale: 2}: there is no axis 'w'"),
    (LinkChange(bandwidth=1, scale=1), "bandwidth and scale are both given; give the bandwidth that results"),
    (LinkChange(bandwidth=0), "bandwidth 0 is no finite number above 0; give bytes/s, such as 45e9"),
    (LinkChange(bandwidth=inf), "bandwidth inf is no finite number"),
    (LinkChange(bandwidth="45 GB/s"), "bandwidth '45 GB/s' is no finite number"),  # type: ignore[arg-type]
    (LinkChange(scale=0), "scale 0 is no finite number above 0; give a factor, such as 0.5"),
    (LinkChange(scale=nan), "scale nan is no finite number"),
    (LinkChange(scale=1e308), r"scale 1e\+308 makes a bandwidth 0 or infinite; give a factor such as 0.5"),
    (LinkChange(scale=5e-324), "scale 5e-324 makes a bandwidth 0 or infinite"),
    (LinkChange(latency=-1), "latency -1 is no finite number, 0 or more; give seconds, such as 1e-6"),
    (LinkChange(latency=nan), "latency nan is no finite number"),
])
def test_a_change_that_makes_no_sense_is_refused_by_its_number(change: LinkChange, message: str) -> None:
    graph = torus([4, 3], bandwidth=RATE)
    with pytest.raises(TopologyError, match=message) as caught:
        change_links(graph, [LinkChange(bandwidth=0.25), LinkChange(axis="x", bandwidth=8), change])
    assert (caught.value.code, caught.value.path[0]) == ("unknown-name" if "no axis" in message else "topology", 2)


def test_changes_are_refused_on_a_graph_that_breaks_the_contract() -> None:
    with pytest.raises(TopologyError, match="is missing"):
        change_links(nx.DiGraph(), [])


def test_a_failed_link_is_gone_and_remembered() -> None:
    graph = torus([3, 3], bandwidth=RATE)
    dead = change_links(graph, [LinkChange(axis="x", at={"x": 0, "y": 1}, failed=True)])
    assert set(graph.edges) - set(dead.edges) == {((0, 1), (1, 1)), ((1, 1), (0, 1))} == set(dead.graph["failed"])
    one = change_links(graph, [LinkChange(from_=[0, 1], to=[1, 1], both_ways=False, failed=True)])
    assert set(graph.edges) - set(one.edges) == {((0, 1), (1, 1))}


def test_changes_after_a_failure_select_what_is_left() -> None:
    graph = torus([3, 3], bandwidth=RATE)
    dead = LinkChange(axis="x", at={"y": 1}, failed=True)
    slower = change_links(graph, [dead, LinkChange(axis="x", scale=0.5)])
    assert {d["bandwidth"] for u, v, d in slower.edges(data=True) if u[0] != v[0]} == {RATE / 2}
    with pytest.raises(TopologyError, match=r"change 2 of links, .*: every link that it selects has already failed"):
        change_links(graph, [dead, LinkChange(axis="x", at={"y": 1}, scale=0.5)])
    with pytest.raises(TopologyError, match="failed: true leaves no link whose bandwidth or latency could change"):
        change_links(graph, [LinkChange(axis="x", scale=0.5, failed=True)])


def test_later_changes_scale_the_bandwidth_as_it_then_is() -> None:
    graph = torus([3], bandwidth=RATE)
    half = LinkChange(from_=[0], to=[1], both_ways=False, scale=0.5)
    later = change_later(graph, [(2e-3, half), (1e-3, half)])
    assert later.graph["events"] == ((1e-3, {((0,), (1,)): RATE / 2}), (2e-3, {((0,), (1,)): RATE / 4}))
    assert [(e.time, e.bandwidth.tolist()) for e in read_links(later).events] == [(1e-3, [RATE / 2]), (2e-3, [RATE / 4])]
    for wrong, message in ((LinkChange(latency=1.0), "keeps its latency"),
                           (LinkChange(failed=True, scale=0.5), "give one or the other"),
                           (LinkChange(axis="q", scale=0.5), "there is no axis 'q'")):
        with pytest.raises(TopologyError, match=f"event 1, .*{message}"):
            change_later(graph, [(1e-3, wrong)])
    with pytest.raises(TopologyError, match=r"event 1, .*the time -1.0 is not one of the run"):
        change_later(graph, [(-1.0, half)])


def starred() -> nx.DiGraph:
    """Return three chips on two switches, whose names are a word and a number of links."""
    graph = nx.DiGraph(axes={"x": 3})
    for name in ("leaf", "4"):
        graph.add_node(name, chip=False)
        for chip in range(3):
            graph.add_edge((chip,), name, bandwidth=RATE, latency=0.0)
            graph.add_edge(name, (chip,), bandwidth=RATE, latency=0.0)
    return graph


@pytest.mark.parametrize("name", ["leaf", "4"])
@pytest.mark.parametrize("both_ways", [True, False])
@pytest.mark.parametrize("up", [True, False])
def test_a_link_of_a_switch_is_selected_by_the_name_of_the_switch(name: str, both_ways: bool, up: bool) -> None:
    graph = starred()
    ends: Any = ((1,), name) if up else (name, (1,))
    changed = change_links(graph, [LinkChange(*ends, both_ways=both_ways, scale=0.5)])
    slow = {edge for edge, rate in nx.get_edge_attributes(changed, "bandwidth").items() if rate != RATE}
    assert slow == ({ends, ends[::-1]} if both_ways else {ends})
    gone = change_links(graph, [LinkChange(*ends, both_ways=both_ways, failed=True)])
    assert set(graph.edges) - set(gone.edges) == slow
    later = change_later(graph, [(1.0, LinkChange(*ends, both_ways=both_ways, scale=0.5))])
    assert later.graph["events"] == ((1.0, dict.fromkeys(slow, RATE / 2)),)


@pytest.mark.parametrize("graph", [starred(), torus((3,), bandwidth=RATE, latency=0.0)])
def test_a_switch_that_is_not_there_is_refused_and_its_name_quoted_whole(graph: nx.DiGraph) -> None:
    with pytest.raises(TopologyError, match="there is no switch 'spine'") as error:
        change_links(graph, [LinkChange((0,), "spine", scale=0.5)])
    assert (error.value.code, error.value.path) == ("unknown-name", (0,))
