"""A topology as arrays: every link at its place, and nothing else."""

from itertools import product
from typing import Any

import networkx as nx  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim.errors import TopologyError
from torussim.topology.builders import mesh, ring, torus
from torussim.topology.grid import grid

quick = settings(deadline=None, max_examples=60)


@st.composite
def topologies(draw: st.DrawFn) -> tuple[nx.DiGraph, list[bool]]:
    """A torus whose links all differ, in any order of nodes and edges, and the wraps of its axes."""
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    wrap = draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    graph = torus(shape, wrap=wrap, bandwidth=1.0)
    nodes, edges = draw(st.permutations(list(graph))), list(graph.edges)
    draw(st.randoms(use_true_random=False)).shuffle(edges)
    shuffled = nx.DiGraph(**graph.graph)
    shuffled.add_nodes_from(nodes)
    shuffled.add_edges_from((u, v, {"bandwidth": 1.0 + i, "latency": float(i)}) for i, (u, v) in enumerate(edges))
    return shuffled, wrap


@quick
@given(topologies())
def test_every_link_of_the_grid_is_an_edge_of_the_graph_and_the_other_way_round(
    drawn: tuple[nx.DiGraph, list[bool]],
) -> None:
    graph, _ = drawn
    result = grid(graph)
    edges = []
    for axis, sign, chip in np.argwhere(result.slot >= 0).tolist():
        edges.append(result.edge(axis, sign, chip))
        assert result.chips[result.receiver[axis, sign, chip]] == edges[-1][1]
        assert graph.edges[edges[-1]] == {
            "bandwidth": result.bandwidth[axis, sign, chip], "latency": result.latency[axis, sign, chip]}
    assert len(edges) == len(set(edges)) == graph.number_of_edges()


@quick
@given(topologies())
def test_receivers_go_round_whether_there_is_a_link_or_not(drawn: tuple[nx.DiGraph, list[bool]]) -> None:
    result = grid(drawn[0])
    for (axis, length), (sign, step), (i, chip) in product(
            enumerate(result.shape), enumerate((1, -1)), enumerate(result.chips)):
        neighbour = (*chip[:axis], (chip[axis] + step) % length, *chip[axis + 1:])
        assert result.chips[result.receiver[axis, sign, i]] == neighbour


@quick
@given(topologies())
def test_an_axis_is_a_ring_when_it_is_wrapped_and_longer_than_two(drawn: tuple[nx.DiGraph, list[bool]]) -> None:
    graph, wrap = drawn
    result = grid(graph)
    assert result.ring == tuple(wraps and n > 2 for wraps, n in zip(wrap, result.shape, strict=True))
    assert not result.notes
    for axis, length in enumerate(result.shape):
        ends = [[chip[axis] == length - 1 for chip in result.chips], [chip[axis] == 0 for chip in result.chips]]
        assert (result.bandwidth[axis] == 0).tolist() == ([[False] * len(ends[0])] * 2 if result.ring[axis] else ends)


@quick
@given(topologies())
def test_chips_are_in_c_order_and_index_finds_them(drawn: tuple[nx.DiGraph, list[bool]]) -> None:
    result = grid(drawn[0])
    assert result.chips == tuple(np.ndindex(*result.shape))
    assert [result.index(chip) for chip in result.chips] == list(range(len(result.chips)))
    assert [result.axis(name) for name in result.axes] == list(range(len(result.axes)))
    assert [result.length(name) for name in result.axes] == [result.length(i) for i in range(len(result.axes))]
    assert dict(zip(result.axes, result.shape, strict=True)) == drawn[0].graph["axes"]


def test_on_an_axis_of_length_two_chip_0_has_the_plus_link_and_chip_1_the_minus_link() -> None:
    result = grid(ring(2, bandwidth=5.0, latency=1.0))
    assert result.bandwidth.tolist() == [[[5.0, 0.0], [0.0, 5.0]]]
    assert result.latency.tolist() == [[[1.0, 0.0], [0.0, 1.0]]]
    assert result.receiver.tolist() == [[[1, 0], [1, 0]]]
    assert result.ring == (False,)


def test_an_axis_of_length_one_has_no_links_and_leads_to_itself() -> None:
    result = grid(ring(1, bandwidth=5.0))
    assert result.bandwidth.tolist() == [[[0.0], [0.0]]]
    assert result.receiver.tolist() == [[[0], [0]]]


def without(graph: nx.DiGraph, *links: Any) -> nx.DiGraph:
    for u, v in links:
        graph.remove_edges_from([(u, v), (v, u)])
    return graph


def test_an_axis_that_is_partly_wrapped_is_a_ring_with_gaps() -> None:
    result = grid(without(torus([3, 4], bandwidth=5.0, latency=1.0), ((2, 1), (0, 1))))
    assert result.ring == (True, True)
    assert [result.edge(*hop) for hop in np.argwhere(result.gap).tolist()] == [((2, 1), (0, 1)), ((0, 1), (2, 1))]
    assert result.bandwidth[0, 0, result.index((2, 1))] == 0.0


def test_an_axis_without_any_wraparound_needs_no_note() -> None:
    assert grid(mesh([3, 4], bandwidth=5.0)).notes == ()


def test_a_missing_link_inside_an_axis_is_a_gap() -> None:
    result = grid(without(torus([3, 4], bandwidth=5.0), ((1, 1), (1, 2))))
    assert {result.edge(*hop) for hop in np.argwhere(result.gap).tolist()} == {((1, 1), (1, 2)), ((1, 2), (1, 1))}
    assert not grid(torus([3, 2, 1], wrap=[True, False, False], bandwidth=5.0)).gap.any()


def test_a_twisted_axis_is_a_line_but_in_groups_with_what_it_shifts_and_a_note_says_so() -> None:
    result = grid(torus([4, 4, 8], bandwidth=5.0, twist=True))
    assert result.ring == (False, False, True) and not result.gap.any()
    assert result.around("yz").ring == (False, True, True) and not result.around("yz").gap.any()
    assert result.around("xy").ring == result.ring and result.around("zyx").ring == (True, True, True)
    assert result.notes[0] == "axis x is twisted (z + 4): rings along it run as lines, except in groups with z"
    assert grid(torus([4, 8, 8], bandwidth=5.0, twist=True)).notes[0].endswith("except in groups with y and z")
    assert result.edge(0, 0, result.index((3, 1, 2))) == ((3, 1, 2), (0, 1, 6))
    links = result.links
    edge = next(i for i in range(len(links.source)) if links.edge(i) == ((3, 1, 2), (0, 1, 6)))
    assert (links.axis[edge], links.sign[edge], links.wraparound[edge]) == (0, 0, True)
    assert (links.axis >= 0).all() and (links.slot >= 0).all()


def test_parts_of_an_axis_are_axes_of_their_own() -> None:
    result = grid(torus([8, 3], bandwidth=5.0), parts={"x": [2, 4]})
    assert result.axes == ("x/4*2", "x/2", "y") and result.shape == (4, 2, 3)
    assert result.ring == (True, False, True) and result.stride == (2, 1, 1)
    assert result.edge(0, 0, result.index((7, 1))) == ((7, 1), (1, 1))
    assert result.edge(1, 0, result.index((6, 1))) == ((6, 1), (7, 1))
    assert (result.slot[0] < 0).all() and result.gap[0].all() and not result.gap[1:].any()
    assert (result.slot[1] >= 0).sum() == 8 * 3
    with pytest.raises(TopologyError, match="axis x of 8 chips cannot be cut into parts of 3, 2: their product must be 8"):
        grid(torus([8, 3], bandwidth=5.0), parts={"x": [3, 2]})


def test_a_graph_that_breaks_the_contract_is_refused() -> None:
    graph = ring(4, bandwidth=5.0)
    graph.edges[(0,), (1,)]["bandwidth"] = float("nan")
    with pytest.raises(TopologyError, match="1 link with an invalid bandwidth"):
        grid(graph)


def test_what_is_not_in_the_grid_is_named() -> None:
    result = grid(mesh([3, 4], bandwidth=5.0))
    with pytest.raises(TopologyError, match="there is no axis 'z'; the axes are x, y"):
        result.axis("z")
    for chip in ((3, 0), (0, -1), (0,), (0, 0, 0), (0, 1.0)):
        with pytest.raises(TopologyError, match="give one coordinate for each axis: x from 0 to 2, y from 0 to 3"):
            result.index(chip)  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match=r"chip \(2, 0\) has no \+ link on axis x"):
        result.edge(0, 0, result.index((2, 0)))


def test_a_grid_prints_itself_and_cannot_be_written_to() -> None:
    result = grid(torus([3, 2], bandwidth=5.0))
    assert repr(result) == "<Grid x: ring of 3, y: line of 2; 6 chips, 18 links>"
    with pytest.raises(ValueError, match="read-only"):
        result.bandwidth[0, 0, 0] = 1.0


def test_a_twisted_axis_of_length_2_is_a_line_in_every_group() -> None:
    (note,) = grid(torus([2, 3], bandwidth=5.0, twist={"x": {"y": 1}})).notes
    assert note == "axis x is twisted (y + 1): rings along it run as lines"
