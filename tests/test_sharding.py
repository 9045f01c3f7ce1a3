"""The paper's notation as a value, and the collectives that follow from it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product as combinations
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from torussim.errors import ShardingError
from torussim.sharding import Sharding, Step, divide, product, steps

P = Sharding.parse
CUBE = {"x": 4, "y": 4, "z": 4}
DIMS = "BLEF"


@st.composite
def shardings(draw: st.DrawFn, dims: str | None = None, axes: str = "xyz", partial: bool = True) -> Sharding:
    """A sharding in which every axis cuts one dimension, or stands for partial sums, or is not there."""
    names = dims or "".join(draw(st.lists(st.sampled_from("BLEFHKQV"), min_size=1, max_size=4, unique=True)))
    places = {a: draw(st.sampled_from([*names, None] + ["U"] * partial)) for a in draw(st.permutations(axes))}
    return Sharding(tuple((d, tuple(a for a, place in places.items() if place == d)) for d in names),
                    tuple(a for a, place in places.items() if place == "U"))


# Writing and reading


@given(shardings(axes="xyzabc"))
def test_parse_and_str_are_inverses(sharding: Sharding) -> None:
    text = str(sharding)
    assert P(text) == sharding and str(P(text)) == text
    assert P(text.replace(" ", "")) == sharding
    assert repr(sharding) == f"Sharding.parse({text!r})" and eval(repr(sharding)) == sharding


@given(shardings(axes="xyzab"), st.randoms(use_true_random=False))
def test_the_order_of_axes_is_not_compared(sharding: Sharding, random: Any) -> None:
    def shuffled(axes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(random.sample(axes, len(axes)))
    other = Sharding(tuple((d, shuffled(axes)) for d, axes in sharding.dims), shuffled(sharding.partial))
    assert other == sharding and hash(other) == hash(sharding)


@pytest.mark.parametrize(("one", "other"), [("B L E_xyz", "B L E_xy"), ("B L E_x", "B L_x E"), ("B L E {U_x}", "B L E_x"),
                                            ("B L E", "B L F"), ("B L", "L B"), ("B L E {U_x}", "B L E")])
def test_shardings_that_differ_are_not_equal(one: str, other: str) -> None:
    assert P(one) != P(other)
    assert P(one) != one


@pytest.mark.parametrize("text", ["B L E_xyz", "BLE_xyz", "  B  L E_xyz ", "BL E_xyz", "B L E_zyx"])
def test_spaces_and_order_make_no_difference(text: str) -> None:
    assert P(text) == Sharding((("B", ()), ("L", ()), ("E", ("x", "y", "z"))))


@pytest.mark.parametrize("text", ["", " ", "b l e", "B L E_", "B L E_XY", "B_x y", "{U_x}", "B {U_x} L", "B {U}", "B U_x}",
                                  "B_x{", "B-x", "B L E {U_x} {U_y}", "B_1", "B L E_x_y"])
def test_what_is_no_sharding_is_refused(text: str) -> None:
    told = r'is not a sharding: write dimensions with their axes, such as "B L E_xyz" or "B L F_yz \{U_x\}"'
    with pytest.raises(ShardingError, match=f"^{re.escape(repr(text))} {told}$"):
        P(text)


@pytest.mark.parametrize(("text", "what"), [
    ("B L E_xx", "axis x twice: use each axis once"), ("B_x L E_yx", "axis x twice: use each axis once"),
    ("B_y L E {U_xy}", "axis y twice: use each axis once"), ("B L B", "dimension B twice: use each dimension once")])
def test_an_axis_or_a_dimension_can_stand_once(text: str, what: str) -> None:
    with pytest.raises(ShardingError, match=f"{text!r} uses the {what}"):
        P(text)


def test_a_sharding_knows_its_parts() -> None:
    sharding = P("B_z L F_yx {U_w}")
    assert sharding.names() == ("B", "L", "F") and sharding.axes("F") == ("y", "x") and sharding.axes("L") == ()
    assert sharding.used == ("z", "y", "x", "w") and sharding.partial == ("w",)
    assert sharding.without("xw") == P("B_z L F_y")
    with pytest.raises(ShardingError, match=r"'B_z L F_yx \{U_w\}' has no dimension E"):
        sharding.axes("E")


# Sizes on a chip


def test_a_chip_has_its_part_of_each_dimension() -> None:
    sizes = {"B": 8, "L": 3, "E": 64}
    assert P("B_x L E_yz").local(sizes, CUBE) == {"B": 2, "L": 3, "E": 4}
    assert P("B_x L E_yz {U_w}").elements(sizes, CUBE) == 24  # partial sums are whole


def test_what_does_not_divide_is_refused() -> None:
    told = r"E \(d_model\) of 'B E_xy': 24 does not divide by 16 \(the chips of xy\): choose a size that"
    with pytest.raises(ShardingError, match=told):
        P("B E_xy").local({"B": 1, "E": 24}, CUBE)
    with pytest.raises(ShardingError, match=r"heads of 'B L H_x': 6 does not divide by 4 \(the chips of x\): pad them"):
        divide(6, "H", P("B L H_x"), CUBE, what="heads", do="pad them")
    assert divide(6, "H", P("B L H"), CUBE, what="heads") == 6


# From one sharding to another


@pytest.mark.parametrize(("source", "target", "found"), [
    ("B L E_xyz", "B L E_x", [Step("all_gather", ("y", "z"), 4096 // 4 * 32, ("E", "E"))]),  # ws2d, 3.2.2: into W_in
    ("B L F_yz {U_x}", "B L F_xyz", [Step("reduce_scatter", ("x",), 32 * 16384 // 16, ("F",))]),
    ("B L F_xyz", "B L F_yz", [Step("all_gather", ("x",), 32 * 16384 // 16, ("F",))]),
    ("B L E_x {U_yz}", "B L E_xyz", [Step("reduce_scatter", ("y", "z"), 32 * 4096 // 4, ("E", "E"))]),
    ("B L E_xyz", "B L E", [Step("all_gather", ("x", "y", "z"), 32 * 4096, ("E", "E", "E"))]),  # ws1d, 3.2.1
    ("B L E {U_xyz}", "B L E_xyz", [Step("reduce_scatter", ("x", "y", "z"), 32 * 4096, ("E", "E", "E"))]),
    ("B L E {U_xyz}", "B L E", [Step("all_reduce", ("x", "y", "z"), 32 * 4096)]),
    ("E_x F_yz", "E F_yz", [Step("all_gather", ("x",), 4096 * 16384 // 16, ("E",))]),  # wg_x, 3.2.3: weights
    ("E_x F_yz", "E F", [Step("all_gather", ("x", "y", "z"), 4096 * 16384, ("E", "F", "F"))]),  # wg_xyz
    ("B L H_xyz", "B_xyz L H", [Step("all_to_all", ("x", "y", "z"), 32 * 8192 // 64, ("B", "B", "B"))]),  # 3.3: Q to batch
    ("B_xyz L H", "B L H_xyz", [Step("all_to_all", ("x", "y", "z"), 32 * 8192 // 64, ("H", "H", "H"))]),
    ("B L E_x", "B L E_xyz", []),  # each chip keeps its slice
    ("B L E_xyz", "B L E_zxy", []),
    ("B L F_yz {U_x}", "B L F_yz {U_x}", []),
])
def test_the_papers_steps(source: str, target: str, found: list[Step]) -> None:
    sizes = {"B": 64 if "B_xyz" in source + target else 32, "L": 1, "E": 4096, "F": 16384, "H": 8192}
    wanted = [Step(s.kind, s.axes, s.elements * sizes["B"] // 32 if "B" in source else s.elements, s.dims) for s in found]
    assert steps(P(source), P(target), sizes, CUBE) == wanted


@pytest.mark.parametrize(("source", "target", "kinds"), [
    ("B L E_x {U_yz}", "B L E_xy", ["reduce_scatter y", "all_reduce z"]),
    ("B L E {U_xy}", "B_x L E {U_y}", ["reduce_scatter x"]),  # what stays partial is left alone
    ("B_x L E_yz", "B_z L E_y", ["all_to_all z", "all_gather x"]),
    ("B_x L F_y {U_z}", "B L F_xz", ["reduce_scatter z", "all_to_all x", "all_gather y"]),
    ("B L E_x", "B_y L E", ["all_gather x"]),  # sliced first, so that less is gathered
])
def test_several_steps_go_cheapest_first(source: str, target: str, kinds: list[str]) -> None:
    found = steps(P(source), P(target), dict.fromkeys(DIMS, 256), CUBE)
    assert [f"{step.kind} {''.join(step.axes)}" for step in found] == kinds


def test_what_is_sliced_is_not_gathered() -> None:
    (gather,) = steps(P("B L E_x"), P("B_y L E"), {"B": 8, "L": 1, "E": 16}, CUBE)
    assert gather.elements == 2 * 16


def test_a_slice_that_divides_only_after_a_gather_waits_for_it() -> None:
    (gather,) = steps(P("B L E_xy"), P("B L E_z"), {"B": 2, "L": 1, "E": 16}, CUBE)
    assert gather == Step("all_gather", ("x", "y"), 2 * 16, ("E", "E"))


def test_axes_of_length_1_move_nothing() -> None:
    assert steps(P("B L E_xy {U_z}"), P("B L E"), {"B": 1, "L": 1, "E": 4}, {"x": 1, "y": 1, "z": 1}) == []
    (step,) = steps(P("B L E_xy"), P("B L E"), {"B": 1, "L": 1, "E": 4}, {"x": 4, "y": 1})
    assert step.axes == ("x",)


@pytest.mark.parametrize(("source", "target", "reason"), [
    ("B L E", "B L F", "'B L E' cannot become 'B L F': their dimensions differ"),
    ("B L E", "B L E {U_x}", "'B L E' cannot become 'B L E {U_x}': nothing makes partial sums over x"),
    ("B L E_x {U_y}", "B L E {U_yx}", "nothing makes partial sums over x"),
    ("B L E_x", "B_y L E_x", "B (the batch) of 'B_y L E_x': 2 does not divide by 4"),
    ("B_x L E", "B L E", "B (the batch) of 'B_x L E': 2 does not divide by 4"),
])
def test_steps_that_cannot_be_are_refused(source: str, target: str, reason: str) -> None:
    with pytest.raises(ShardingError, match=re.escape(reason)):
        steps(P(source), P(target), {"B": 2, "L": 1, "E": 16, "F": 16}, CUBE)


@pytest.mark.parametrize(("source", "target", "sizes", "reason"), [
    ("B L H {U_xyz}", "B L H_xyz", {"H": 8192}, "H (heads x d_head) of 'B L H_xyz': 8192 does not divide by 16384 (the chips of "
                                                "xyz)"),
    ("B L E {U_yx}", "B_x L E_yz", {"E": 6}, "E (d_model) of 'B_x L E_yz': 6 does not divide by 64 (the chips of yz)"),
    ("B_y L E_x", "B L E_y", {"E": 4}, "E (d_model) on the way from 'B_y L E_x' to 'B L E_y': 4 does not divide by 32 "
                                       "(the chips of xy)"),
    ("B L E_xw {U_y}", "B L E_xwy", {"E": 4}, "E (d_model) of 'B L E_xwy': 4 does not divide by 32 (the chips of xy)"),
])
def test_the_size_that_is_told_is_the_whole_one_with_all_axes_that_cut_it(source: str, target: str, sizes: dict[str, int],
                                                                          reason: str) -> None:
    with pytest.raises(ShardingError, match=re.escape(reason)) as caught:
        steps(P(source), P(target), {"B": 64, "L": 1, **sizes}, {"x": 4, "y": 8, "z": 512 if "H" in sizes else 8, "w": 1})
    assert caught.value.path == (next(iter(sizes)),) and caught.value.shardings[0] == target


def test_axes_that_divide_one_by_one_but_not_together_wait_until_something_is_gathered() -> None:
    """Of 16 elements over x each chip has 4: they divide by 2 and by 4, and by both only once they are 16."""
    sizes, lengths = {"B": 1, "L": 1, "E": 16}, {"x": 4, "y": 2, "z": 4}
    assert [s.kind for s in steps(P("B L E_x"), P("B L E_yz"), sizes, lengths)] == ["all_gather"]


def spread(sharding: Sharding) -> dict[tuple[int, ...], set[tuple[int, ...]]]:
    """Return the elements that each chip holds, by chip.

    An index of a dimension has a digit for each axis; a chip holds those whose digits, of the axes that cut the dimension,
    are its own coordinates. So no element depends on the order of axes.
    """
    chips = list(digits(*LENGTHS.values()))
    held = {}
    for chip in chips:
        at = dict(zip(LENGTHS, chip, strict=True))
        held[chip] = set(digits(*([number for number, index in enumerate(chips)
                                   if all(index[list(LENGTHS).index(a)] == at[a] for a in axes)] for _, axes in sharding.dims)))
    return held


def digits(*ranges: int | list[int]) -> Iterator[tuple[int, ...]]:
    return combinations(*(range(r) if isinstance(r, int) else r for r in ranges))


LENGTHS = {"x": 2, "y": 3, "z": 2}
SIZES = dict.fromkeys(DIMS, 12)


@settings(max_examples=150, deadline=None)
@given(shardings("BE"), shardings("BE"))
def test_every_axis_that_changes_is_in_one_step(source: Sharding, target: Sharding) -> None:
    assume(set(target.partial) <= set(source.partial))
    found = steps(source, target, SIZES, LENGTHS)

    def role(sharding: Sharding, axis: str) -> str | None:
        return "U" if axis in sharding.partial else next((dim for dim, axes in sharding.dims if axis in axes), None)
    changed = [a for a in LENGTHS if role(source, a) not in (None, role(target, a))]
    assert sorted(a for step in found for a in step.axes) == changed
    kinds = ["reduce_scatter", "all_reduce", "all_to_all", "all_gather"]
    order = [kinds.index(step.kind) for step in found]
    assert order == sorted(set(order))
    for step in found:
        dims = {"all_reduce": (), "all_gather": tuple(role(source, a) for a in step.axes)}
        assert step.dims == dims.get(step.kind, tuple(role(target, a) for a in step.axes))


@settings(max_examples=150, deadline=None)
@given(shardings("BE", partial=False), shardings("BE", partial=False))
def test_steps_bring_each_chip_at_least_what_it_lacks(source: Sharding, target: Sharding) -> None:
    """A single gather or all-to-all brings just that."""
    found = steps(source, target, SIZES, LENGTHS)
    here, there = spread(source), spread(target)
    lacking = {len(there[chip] - here[chip]) for chip in here}
    got = sum(step.elements * (1 - 1 / prod(LENGTHS[a] for a in step.axes)) for step in found)
    assert got >= max(lacking)
    if not found:
        assert lacking == {0}
    if [step.kind for step in found] == ["all_gather"]:
        assert {round(got)} == lacking and found[0].elements == target.elements(SIZES, LENGTHS)
    if [step.kind for step in found] == ["all_to_all"] and not set(target.used) - set(source.used) and len(found[0].axes) == 1:
        assert {round(got)} == lacking


# Products


@pytest.mark.parametrize(("activations", "weight", "contracted", "made", "result"), [
    ("B L E_x", "E_x F_yz", "E", "F", "B L F_yz {U_x}"), ("B L F_yz", "F_yz E_x", "F", "E", "B L E_x {U_yz}"),
    ("B L E", "E F_xyz", "E", "F", "B L F_xyz"), ("B_x L E_yz", "E_zy F", "E", "F", "B_x L F {U_yz}"),
    ("B_xyz L E", "E F", "E", "F", "B_xyz L F"), ("B L E_x {U_z}", "E_x F_y", "E", "F", "B L F_y {U_zx}")])
def test_a_product_contracts_what_both_cut_alike(activations: str, weight: str, contracted: str, made: str, result: str) -> None:
    assert product(P(activations), P(weight), contracted, made) == P(result)


@pytest.mark.parametrize(("activations", "weight", "reason"), [
    ("B L E_x", "E_y F", "'B L E_x' x 'E_y F': E is cut over x on one side and y on the other"),
    ("B L E", "E_yz F", "E is cut over nothing on one side and yz on the other"),
    ("B_y L E_x", "E_x F_y", "'B_y L E_x' x 'E_x F_y' uses the axis y twice"),
    ("B L E_x {U_y}", "E_x F_y", "uses the axis y twice"),
    ("B L F", "E F", "'B L F' has no dimension E")])
def test_a_product_that_cannot_be_is_refused(activations: str, weight: str, reason: str) -> None:
    with pytest.raises(ShardingError, match=reason):
        product(P(activations), P(weight), "E", "F")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_product_of_shards_with_its_partial_sums_is_the_product(data: st.DataObject) -> None:
    """Numbers in place of letters: each chip multiplies what it holds; adding over {U} gives the whole."""
    activations = data.draw(shardings("BE", partial=False))
    free = [a for a in LENGTHS if a not in activations.used]
    weight = Sharding((("E", activations.axes("E")), ("F", tuple(a for a in free if data.draw(st.booleans())))))
    result = product(activations, weight, "E", "F")
    left, right = np.arange(144.0).reshape(12, 12) % 7, np.arange(144.0).reshape(12, 12) % 5
    total = np.zeros((12, 12))
    here, there, out = (spread(s) for s in (activations, weight, Sharding(result.dims)))
    copies = prod(LENGTHS[a] for a in LENGTHS if a not in result.used)
    for chip in here:
        rows, inner = (sorted({e[i] for e in here[chip]}) for i in (0, 1))
        columns = sorted({e[1] for e in there[chip]})
        assert inner == sorted({e[0] for e in there[chip]}) and out[chip] == set(combinations(rows, columns))
        total[np.ix_(rows, columns)] += left[np.ix_(rows, inner)] @ right[np.ix_(inner, columns)] / copies
    assert np.allclose(total, left @ right)
