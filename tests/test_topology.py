"""Builders and the contract: what a torus has, and what is refused."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from itertools import product
from math import inf, nan, prod
from pathlib import Path
from typing import Any

import networkx as nx  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim.errors import TopologyError
from torussim.topology.builders import from_function, mesh, ring, torus, torus_links
from torussim.topology.check import Links, check_topology, read_links
from torussim.topology.shape import axis_names

RATE, DELAY = 45e9, 1e-6
quick = settings(deadline=None, max_examples=60)
shapes = st.lists(st.integers(1, 6), min_size=1, max_size=3)


@st.composite
def tori(draw: st.DrawFn) -> tuple[list[int], list[bool]]:
    shape = draw(shapes)
    return shape, draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))


def obvious_edges(shape: list[int], wrap: list[bool]) -> set[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Every pair of chips that a torus links, straight from the definition."""
    edges = set()
    for chip in product(*map(range, shape)):
        for axis, length in enumerate(shape):
            for step in (1, -1):
                to = chip[axis] + step
                if 0 <= to < length or (wrap[axis] and length > 2):
                    edges.add((chip, (*chip[:axis], to % length, *chip[axis + 1:])))
    return edges


@quick
@given(tori())
def test_a_torus_links_exactly_the_neighbours(drawn: tuple[list[int], list[bool]]) -> None:
    shape, wrap = drawn
    assert set(torus(shape, wrap=wrap, bandwidth=RATE).edges) == obvious_edges(shape, wrap)


@quick
@given(tori(), st.data())
def test_a_torus_has_the_same_links_without_its_graph(drawn: tuple[list[int], list[bool]], data: st.DataObject) -> None:
    """Every column in the same order, of the same type; and what one refuses, the other refuses in the same words."""
    shape, wrap = drawn
    names = axis_names(len(shape))
    shifts = {axis: data.draw(st.dictionaries(st.sampled_from(names), st.integers(-7, 7), max_size=2)) for axis in names}
    twist = {axis: {other: shift for other, shift in shifts[axis].items() if other != axis}
             for axis, length, wraps in zip(names, shape, wrap, strict=True) if wraps and length > 1}
    rates = [RATE * (1 + i) for i in range(len(shape))]
    given_: dict[str, Any] = {"wrap": wrap, "bandwidth": rates, "latency": [DELAY * i for i in range(len(shape))], "twist": twist}
    try:
        ours = torus_links(shape, **given_)
    except TopologyError as error:
        with pytest.raises(TopologyError) as refused:
            torus(shape, **given_)
        assert str(refused.value) == str(error) and "two links to one neighbour" in str(error)
        return
    graphs = read_links(torus(shape, **given_))
    for name in (field.name for field in fields(Links)):
        mine, theirs = getattr(ours, name), getattr(graphs, name)
        assert (mine.dtype == theirs.dtype and np.array_equal(mine, theirs)) if isinstance(mine, np.ndarray) else mine == theirs


@quick
@given(tori())
def test_number_of_links_is_two_a_chip_and_axis_less_the_missing_ends(drawn: tuple[list[int], list[bool]]) -> None:
    shape, wrap = drawn
    chips = prod(shape)
    ends = [0 if wraps and length > 2 else 2 * chips // length for length, wraps in zip(shape, wrap, strict=True)]
    graph = torus(shape, wrap=wrap, bandwidth=RATE)
    assert graph.number_of_nodes() == chips
    assert graph.number_of_edges() == 2 * chips * len(shape) - sum(ends)


@quick
@given(shapes)
def test_every_chip_has_two_links_out_and_in_for_each_ring_axis(shape: list[int]) -> None:
    graph = torus(shape, bandwidth=RATE)
    links = sum({1: 0, 2: 1}.get(length, 2) for length in shape)
    assert {degree for _, degree in graph.out_degree} == {degree for _, degree in graph.in_degree} == {links}


@quick
@given(tori(), st.data())
def test_reversing_axes_changes_nothing(drawn: tuple[list[int], list[bool]], data: st.DataObject) -> None:
    shape, wrap = drawn
    flip = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    graph = torus(shape, wrap=wrap, bandwidth=RATE)

    def image(chip: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(n - 1 - c if flips else c for c, n, flips in zip(chip, shape, flip, strict=True))

    assert set(nx.relabel_nodes(graph, image).edges) == set(graph.edges)


@quick
@given(tori())
def test_every_link_has_an_opposite_that_is_like_it(drawn: tuple[list[int], list[bool]]) -> None:
    shape, wrap = drawn
    n = len(shape)
    graph = torus(shape, wrap=wrap, bandwidth=[RATE + i for i in range(n)], latency=[DELAY * i for i in range(n)])
    assert all(graph.edges[v, u] == attributes for u, v, attributes in graph.edges(data=True))


@quick
@given(tori(), st.data())
def test_relabelling_the_axes_gives_the_torus_of_the_relabelled_shape(
    drawn: tuple[list[int], list[bool]], data: st.DataObject
) -> None:
    shape, wrap = drawn
    order = data.draw(st.permutations(range(len(shape))))
    rates = [RATE + i for i in range(len(shape))]
    moved = torus([shape[i] for i in order], wrap=[wrap[i] for i in order], bandwidth=[rates[i] for i in order])
    graph = torus(shape, wrap=wrap, bandwidth=rates)
    assert nx.utils.edges_equal(nx.relabel_nodes(graph, lambda chip: tuple(chip[i] for i in order)).edges(data=True),
                                moved.edges(data=True), directed=True)


@quick
@given(shapes, st.data())
def test_going_round_a_torus_changes_nothing(shape: list[int], data: st.DataObject) -> None:
    shape = [1 if length == 2 else length for length in shape]
    shift = [data.draw(st.integers(0, length - 1)) for length in shape]
    graph = torus(shape, bandwidth=RATE)
    moved = nx.relabel_nodes(graph, lambda chip: tuple((c + s) % n for c, s, n in zip(chip, shift, shape, strict=True)))
    assert set(moved.edges) == set(graph.edges)


@quick
@given(shapes)
def test_chips_are_in_c_order_and_axes_in_the_order_of_the_shape(shape: list[int]) -> None:
    graph = torus(shape, bandwidth=RATE)
    assert list(graph) == list(np.ndindex(*shape))
    assert list(graph.graph["axes"].items()) == list(zip(axis_names(len(shape)), shape, strict=True))
    assert all(type(c) is int for chip in graph for c in chip)


@quick
@given(tori())
def test_what_is_built_keeps_the_contract(drawn: tuple[list[int], list[bool]]) -> None:
    shape, wrap = drawn
    check_topology(torus(shape, wrap=wrap, bandwidth=RATE, latency=DELAY))


def test_axes_are_x_y_z_w_then_numbered() -> None:
    assert axis_names(7) == ("x", "y", "z", "w", "a4", "a5", "a6")
    assert list(torus([1] * 5, bandwidth=RATE).graph["axes"]) == ["x", "y", "z", "w", "a4"]
    assert mesh([2, 3], bandwidth=RATE, axes=["rows", "columns"]).graph["axes"] == {"rows": 2, "columns": 3}


def test_a_hundred_axes_are_no_trouble() -> None:
    graph = torus([1] * 97 + [2, 3, 4], bandwidth=RATE)
    check_topology(graph)
    assert graph.number_of_edges() == 24 * (1 + 2 + 2)


def test_a_mesh_is_a_torus_without_wraparounds_and_a_ring_a_torus_of_one_axis() -> None:
    def same(one: nx.DiGraph, other: nx.DiGraph) -> bool:
        return bool(nx.utils.graphs_equal(one, other))

    assert same(mesh([3, 4], bandwidth=RATE), torus([3, 4], wrap=False, bandwidth=RATE))
    assert same(ring(5, bandwidth=RATE, latency=DELAY), torus([5], bandwidth=RATE, latency=DELAY))
    assert list(ring(2, bandwidth=RATE).edges) == [((0,), (1,)), ((1,), (0,))]
    assert list(ring(1, bandwidth=RATE)) == [(0,)]


def test_bandwidth_and_latency_are_one_value_or_one_an_axis() -> None:
    rates: Any = np.array([1, 2])
    graph = torus((3, 3), bandwidth=rates, latency=(0, 0.5))
    assert graph.edges[(0, 0), (2, 0)] == {"bandwidth": 1.0, "latency": 0.0}
    assert graph.edges[(0, 0), (0, 2)] == {"bandwidth": 2.0, "latency": 0.5}
    assert {type(value) for _, _, attributes in graph.edges(data=True) for value in attributes.values()} == {float}


def test_links_do_not_share_their_attributes() -> None:
    graph = ring(3, bandwidth=RATE)
    graph.edges[(0,), (1,)]["bandwidth"] = 1.0
    assert graph.edges[(1,), (0,)]["bandwidth"] == RATE


@pytest.mark.parametrize(("shape", "message"), [
    ([1000, 1000, 1000], r"a shape of 1,000,000,000 chips, \[1000, 1000, 1000\]; give at most 1,000,000 chips"),
    ([10**30], "a shape of 1,000,000,000,000"),
    ([4, 0], r"shape \[4, 0\] is no list of whole numbers above 0; give one length an axis, such as \[4, 4, 4\]"),
    ([-1], r"shape \[-1\] is no list"),
    ([], r"shape \[\] is no list"),
    (4, "shape 4 is no list"),
    ("44", "shape '44' is no list"),
    ([2.0], r"shape \[2.0\] is no list"),
    ([True], r"shape \[True\] is no list"),
    ({"x": 4}, r"shape {'x': 4} is no list"),
])
def test_a_shape_that_makes_no_sense_is_refused(shape: Any, message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        torus(shape, bandwidth=RATE)


@pytest.mark.parametrize(("choices", "message"), [
    ({"bandwidth": 0}, "bandwidth 0 on axis x is no finite number above 0; give bytes/s, such as 45e9"),
    ({"bandwidth": -1.0}, "bandwidth -1.0 on axis x"),
    ({"bandwidth": nan}, "bandwidth nan on axis x"),
    ({"bandwidth": [1.0, inf]}, "bandwidth inf on axis y"),
    ({"bandwidth": 10**400}, "bandwidth 1000"),
    ({"bandwidth": True}, "bandwidth True on axis x"),
    ({"bandwidth": "45 GB/s"}, "bandwidth '45 GB/s' on axis x is no finite number"),
    ({"bandwidth": [1.0]}, r"bandwidth \[1.0\] has 1 values, but the shape has 2; give one value, or 2"),
    ({"latency": -1e-6}, "latency -1e-06 on axis x is no finite number, 0 or more; give seconds, such as 1e-6"),
    ({"latency": [0.0, nan]}, "latency nan on axis y"),
    ({"latency": [0.0] * 3}, r"latency \[0.0, 0.0, 0.0\] has 3 values"),
    ({"wrap": [True]}, r"wrap \[True\] has 1 values"),
    ({"wrap": "no"}, "wrap 'no' on axis x is neither true nor false; give one of them"),
    ({"axes": ["x"]}, r"axes \['x'\] do not name the axes of the shape; give 2 different names, such as \['x', 'y'\]"),
    ({"axes": "xx"}, "axes 'xx' do not name"),
    ({"axes": ["x", ""]}, "do not name"),
    ({"axes": 2}, "axes 2 do not name"),
])
def test_links_that_make_no_sense_are_refused(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(TopologyError, match=message) as caught:
        torus([2, 3], **({"bandwidth": RATE} | choices))
    assert "\n" not in str(caught.value)


def broken(change: Callable[[nx.DiGraph], object]) -> nx.DiGraph:
    """A torus of shape [3, 4] after a change."""
    graph = torus([3, 4], bandwidth=RATE, latency=DELAY)
    change(graph)
    return graph


def set_axes(axes: object) -> Callable[[nx.DiGraph], object]:
    return lambda graph: graph.graph.update(axes=axes)


def set_edge(**attributes: object) -> Callable[[nx.DiGraph], object]:
    return lambda graph: graph.edges[(0, 0), (0, 1)].update(attributes)


@pytest.mark.parametrize(("change", "message"), [
    (lambda g: g.graph.clear(), r'graph.graph\["axes"\] is missing: set .* such as {"x": 4, "y": 4}$'),
    (set_axes([3, 4]), r'axes"\] is \[3, 4\], which is no mapping'),
    (set_axes({}), r'axes"\] is {}, which is no mapping'),
    (set_axes({"x": 3, "y": 4.0}), "where a name is no text, or a length no whole number above 0"),
    (set_axes({"x": 3, "y": 0}), "where a name is no text"),
    (set_axes({"x": 3, "y": True}), "where a name is no text"),
    (set_axes({"x": 3, 1: 4}), "where a name is no text"),
    (set_axes({"x": 10**30}), "000 chips: give at most 1,000,000"),
    (set_axes({"x": 3, "y": 5}), r"3 chips missing: \(0, 4\), \(1, 4\), \(2, 4\) \(add it, or correct"),
    (set_axes({"x": 3, "y": 3}), r"3 nodes outside the axes: \(0, 3\), .* \(name it by a tuple of ints: x from"),
    (set_axes({"x": 12}), r"12 nodes outside the axes: \(0, 0\), \(0, 1\), \(0, 2\) and 9 more"),
    (lambda g: g.remove_node((1, 1)), r"^1 chip missing: \(1, 1\)"),
    (lambda g: g.add_node("host"), "^1 node outside the axes: 'host'"),
    (lambda g: g.edges[(0, 0), (0, 1)].clear(), r"1 link without bandwidth: \(0, 0\) -> .*; 1 link without latency"),
    (set_edge(bandwidth=0), r"^1 link with an invalid bandwidth: \(0, 0\) -> \(0, 1\) has 0 \(give a"),
    (set_edge(bandwidth=-1.0), "has -1.0"),
    (set_edge(bandwidth=nan), "has nan"),
    (set_edge(bandwidth=inf), "has inf"),
    (set_edge(bandwidth=10**400), "has 1000"),
    (set_edge(bandwidth="45e9"), "has '45e9'"),
    (set_edge(bandwidth=None), "has None"),
    (set_edge(bandwidth=True), "has True"),
    (set_edge(latency=-1e-9), r"^1 link with an invalid latency: .* has -1e-09 \(give a number 0 or more"),
    (set_edge(latency=nan), "has nan"),
    (set_edge(latency=inf), "has inf"),
    (lambda g: g.add_edge((0, 0), (0, 0), bandwidth=1, latency=0), r"^1 link from a chip to itself: \(0, 0\) ->"),
    (lambda g: g.graph.update(twist=3), r"twist\"\] is 3, which is no mapping of axes to shifts"),
    (lambda g: g.graph.update(twist={"x": {"q": 1}}), r"twist\"\] is .*'q': 1.*, but the axes are x, y"),
    (lambda g: g.graph.update(events=((-1.0, {}),)), "event 1 is at -1.0, which is no time of the run"),
    (lambda g: g.graph.update(events=((1.0, {((0, 0), (2, 2)): 1.0}),)), r"event 1, at 1 s, is on a link that is not there: "),
    (lambda g: g.graph.update(events=((1.0, {((0, 0), (0, 1)): -1.0}),)), "event 1, at 1 s, gives no bandwidth: "),
    (lambda g: g.graph.update(events=(1.0,)), r'events"\] has 1.0: give \(seconds, '),
])
def test_what_breaks_the_contract_is_named(change: Callable[[nx.DiGraph], object], message: str) -> None:
    with pytest.raises(TopologyError, match=message) as caught:
        check_topology(broken(change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("node", [(0.0, 0), (False, 0), (np.float64(0), 0)])
def test_coordinates_that_only_equal_ints_are_refused(node: tuple[object, ...]) -> None:
    graph = nx.DiGraph(axes={"x": 1, "y": 1})
    graph.add_node(node)
    with pytest.raises(TopologyError, match="1 node outside the axes"):
        check_topology(graph)


def test_wraparounds_of_an_axis_of_three_and_no_more_are_neighbours() -> None:
    graph = mesh([4], bandwidth=RATE)
    graph.add_edges_from([((0,), (3,)), ((3,), (0,))], bandwidth=RATE, latency=0.0)
    check_topology(graph)
    graph.add_edges_from([((0,), (2,)), ((2,), (0,))], bandwidth=RATE, latency=0.0)
    links = read_links(graph)
    assert [links.edge(i) for i in np.flatnonzero(links.axis < 0)] == [((0,), (2,)), ((2,), (0,))]
    assert {links.edge(i) for i in np.flatnonzero(links.wraparound)} == {((0,), (3,)), ((3,), (0,))}


def test_switches_come_after_the_chips() -> None:
    graph = nx.DiGraph(axes={"x": 2})
    graph.add_node("switch", chip=False)
    for chip in ((1,), (0,)):
        graph.add_edge(chip, "switch", bandwidth=1.0, latency=0.0)
        graph.add_edge("switch", chip, bandwidth=1.0, latency=0.0)
    links = read_links(graph)
    assert links.nodes == ((0,), (1,), "switch") and links.chips == ((0,), (1,))
    assert {links.edge(i) for i in range(4)} == set(graph.edges) and (links.axis == -1).all()


@pytest.mark.parametrize(("shape", "twist"), [([4, 4, 8], None), ([8, 4, 4], None), ([4, 8, 8], None), ([3, 5], {"x": {"y": 2}}),
                                              ([2, 6], {"x": {"y": 3}}), ([4, 4], {"x": {"y": 4}})])
def test_going_round_a_twisted_axis_shifts_the_others(shape: list[int], twist: Any) -> None:
    graph = torus(shape, bandwidth=RATE, twist=twist or True)
    names = list(graph.graph["axes"])
    shifts = graph.graph["twist"]
    wanted = set()
    for chip in product(*map(range, shape)):
        for axis, length in enumerate(shape):
            if length > 2 or any(s % shape[names.index(o)] for o, s in shifts.get(names[axis], {}).items()):
                to = list(chip)
                to[axis] += 1
                if to[axis] == length:
                    for other, shift in shifts.get(names[axis], {}).items():
                        to[names.index(other)] += shift
                to = [c % n for c, n in zip(to, shape)]
                wanted |= {(chip, tuple(to)), (tuple(to), chip)}
            elif chip[axis] == 0 and length == 2:
                to = (*chip[:axis], 1, *chip[axis + 1:])
                wanted |= {(chip, to), (to, chip)}
    assert set(graph.edges) == wanted
    assert (read_links(graph).axis >= 0).all()


@pytest.mark.parametrize(("shape", "keywords", "message"), [
    ([4, 4, 4], {"twist": True}, r"a slice of shape \[4, 4, 4\] has no twist of its own: only n x n x 2n and n x 2n x 2n"),
    ([4, 8], {"twist": True}, "has no twist of its own"),
    ([4, 8], {"twist": {"q": {"x": 1}}}, "twist names the axis 'q'; the axes are x, y"),
    ([4, 8], {"twist": {"x": {"x": 1}}}, "twist shifts axis x itself"),
    ([3, 4], {"twist": {"x": {"y": 1}, "y": {"x": 1}}}, "gives chips two links to one neighbour, but a network has one edge"),
    ([2, 2], {"twist": {"x": {"y": 1}, "y": {"x": 1}}}, "gives chips two links to one neighbour"),
    ([4, 8], {"twist": {"x": {"y": 1.5}}}, "give whole numbers of chips"),
    ([4, 8], {"twist": {"x": {"y": 4}}, "wrap": [False, True]}, "axis x has no wraparound that could be twisted"),
])
def test_a_twist_that_makes_no_sense_is_refused(shape: list[int], keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        torus(shape, bandwidth=RATE, **keywords)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    def change(graph: nx.DiGraph) -> None:
        graph.remove_node((2, 3))
        graph.add_node("switch", chip=False)
        graph.add_edge((0, 0), (0, 0), bandwidth=0, latency=0)
        graph.add_edge((0, 0), "switch", bandwidth=1)
        graph.add_edge((0, 0), (1, 1), bandwidth=1, latency=-1)

    with pytest.raises(TopologyError) as caught:
        check_topology(broken(change))
    for part in ("with an invalid bandwidth", "without latency", "with an invalid latency", "to itself", "1 chip missing"):
        assert part in str(caught.value)


@pytest.mark.parametrize(("graph", "message"), [
    (nx.Graph(), "a topology is a networkx.DiGraph with one edge for each direction of a link, not a Graph"),
    (nx.MultiDiGraph(), "not a MultiDiGraph"),
    (None, "not a NoneType"),
    (nx.DiGraph(axes={"x": 1}), "^the graph has no chips: add the coordinates of each chip as a node$"),
    (nx.DiGraph(), r'axes"\] is missing.*; the graph has no chips'),
])
def test_what_is_no_directed_graph_of_chips_is_refused(graph: Any, message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        check_topology(graph)


def test_numpy_numbers_count_as_numbers() -> None:
    graph = nx.DiGraph(axes={"x": np.int64(2)})
    graph.add_edge((np.int64(0),), (np.int32(1),), bandwidth=np.float32(5), latency=np.int64(0))
    graph.add_edge((1,), (0,), bandwidth=7, latency=np.float64(1e-6))
    links = read_links(graph)
    assert links.axes == {"x": 2}
    assert links.bandwidth.tolist() == [5.0, 7.0]
    assert links.latency.tolist() == [0.0, 1e-6]


@quick
@given(tori(), st.randoms(use_true_random=False))
def test_the_order_of_nodes_and_edges_does_not_matter(drawn: tuple[list[int], list[bool]], random: Any) -> None:
    shape, wrap = drawn
    graph = torus(shape, wrap=wrap, bandwidth=RATE)
    nodes, edges = list(graph), list(graph.edges(data=True))
    random.shuffle(nodes)
    random.shuffle(edges)
    shuffled = nx.DiGraph(**graph.graph)
    shuffled.add_nodes_from(nodes)
    shuffled.add_edges_from(edges)
    links = read_links(shuffled)
    assert links.edges(np.ones(len(edges), bool)) == list(shuffled.edges)
    assert links.chips == tuple(graph)


def two_rings(length: int, bandwidth: float = RATE) -> nx.DiGraph:
    """A user's function that cannot do everything."""
    if length == 7:
        raise ValueError("seven\nis too many")
    if length == 8:
        return ring(length, bandwidth=-1)
    if length == 9:
        return nx.DiGraph()
    if length == 10:
        sys.exit()
    return torus([2, length], bandwidth=bandwidth)


def test_a_users_function_gives_its_topology() -> None:
    assert from_function(two_rings, {"length": 4}).number_of_nodes() == 8


@pytest.mark.parametrize(("keywords", "message"), [
    ({"length": 7}, r"test_topology.py:{7}: two_rings raised ValueError: seven is too many$"),
    ({"length": 8}, r"test_topology.py:{8}: two_rings raised TopologyError: bandwidth -1 on axis x"),
    ({"length": 9}, r"test_topology.py:{0}: two_rings returned an invalid topology: graph.graph\[.axes.\] is missing"),
    ({"length": 10}, r"test_topology.py:{10}: two_rings raised SystemExit$"),
    ({"size": 4}, r"test_topology.py:{0}: two_rings raised TypeError: .*unexpected keyword argument 'size'"),
])
def test_what_a_users_function_raises_is_told_with_its_line(keywords: dict[str, object], message: str) -> None:
    first = two_rings.__code__.co_firstlineno
    for key, line in {"{0}": 0, "{7}": 3, "{8}": 5, "{10}": 9}.items():
        message = message.replace(key, str(first + line))
    with pytest.raises(TopologyError, match=message):
        from_function(two_rings, keywords)


def test_a_callable_without_a_line_is_named() -> None:
    with pytest.raises(TopologyError, match="int raised TypeError"):
        from_function(int, {"length": 4})


def test_the_package_itself_imports_nothing_heavy() -> None:
    code = "import torussim.topology, sys; sys.exit('networkx' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent.parent, check=True)
