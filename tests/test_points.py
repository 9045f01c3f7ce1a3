"""The values that a sweep varies: how they are written, and the points that they span."""

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torussim.errors import ScenarioError
from torussim.points import MOST, Points, axis_of, points_of

TEXTS = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), min_size=1, max_size=8)
SCALARS = st.none() | st.booleans() | st.integers(-10**12, 10**12) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(SCALARS, lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXTS, inside, max_size=2),
                      max_leaves=6)


def values(text):
    return list(axis_of("a", text).values)


@given(st.lists(VALUES, min_size=1, max_size=6))
def test_values_that_are_written_as_a_list_are_read_as_they_were(given):
    assert values(json.dumps(given)) == given == list(axis_of("a", given).values)


@given(st.lists(st.booleans() | st.integers(-999, 999) | st.sampled_from(["ws2d", "45 GB/s", "mine:star", "tpu-v4", "10 %"]),
                min_size=1, max_size=6))
def test_scalars_need_no_brackets(given):
    assert values(",".join(json.dumps(one).strip('"') for one in given)) == given


@given(st.integers(-50, 50), st.integers(0, 40), st.integers(1, 9), st.integers(0, 8))
def test_an_arithmetic_range_has_all_from_start_to_stop(start, steps, step, rest):
    stop = start + steps * step + min(rest, step - 1)
    assert values(f"{start}:{stop}:{step}") == list(range(start, stop + 1, step))
    assert values(f"{-start}:{-stop}:{-step}") == [-n for n in range(start, stop + 1, step)]


@given(st.integers(1, 50), st.integers(0, 12), st.integers(2, 5))
def test_a_geometric_range_has_all_powers_up_to_stop_and_stop_too(start, count, factor):
    wanted = [start * factor**i for i in range(count + 1)]
    assert values(f"{start}:{wanted[-1]}:x{factor}") == wanted
    assert values(f"{start}:{wanted[-1] * factor - 1}:x{factor}") == wanted
    assert all(math.isclose(a, b) for a, b in zip(values(f"{wanted[-1]}:{start}:x{1 / factor!r}"), reversed(wanted), strict=True))


@pytest.mark.parametrize("text, wanted", [
    ("0.1:0.5:0.1", [0.1, 0.2, 0.3, 0.4, 0.5]), ("1 us:8 us:x2", ["1 us", "2 us", "4 us", "8 us"]),
    ("1:2us:0.5 us", ["1 us", "1.5 us", "2 us"]), ("1:8:x2, 12", [1, 2, 4, 8, 12]), ("true, False, ~", [True, False, None]),
    ("[4, 4], [2, 8]", None), ("{base: tpu-v4, links: 6}", [{"base": "tpu-v4", "links": 6}]), ("mine:star", ["mine:star"]),
    ("'1:8:x2', a b", [1, 2, 4, 8, "a b"]), ("[1:8:x2]", ["1:8:x2"]), ("0x10", [16]), ("1e-6", [1e-6])])
def test_values_are_read_as_yaml_and_ranges(text, wanted):
    if wanted is None:
        with pytest.raises(ScenarioError):
            values(text)
    else:
        assert values(text) == wanted
        assert list(map(type, values(text))) == list(map(type, wanted))


@pytest.mark.parametrize("text, code", [
    ("", "empty"), ("[]", "empty"), ("10:1:2", "empty"), ("10:1:x2", "empty"), ("0:8:x2", "empty"), ("1:8:0", "empty"),
    ("1:8:x1", "empty"), ("-1:8:x2", "empty"), ("1:1e9:1", "limit"), ("1:1e300:x1.0000001", "limit"), ("1:9e9:1,1", "limit"),
    ("1 us:2 ms:x2", "quantity"), ("1 us:2:x2", "quantity"), ("1:2 us:x2us", "quantity"), ("a,,b", "syntax"), ("[1, 2", "syntax"),
    ("a]", "syntax"), ("!x 1", "syntax"), ("{a: 1, a: 2}", "doubled-key")])
def test_values_that_cannot_be_are_told(text, code):
    with pytest.raises(ScenarioError) as caught:
        values(text)
    assert {one.code for one in caught.value.mistakes} == {code}
    assert all("--vary a" in one.mark.file for one in caught.value.mistakes)


@pytest.mark.parametrize("vary, code", [
    (["a"], "syntax"), (["=1"], "syntax"), (["a..b=1"], "syntax"), ([], "missing"), (["a=1", "a=2"], "duplicate"),
    (["a.b=1", "a=2"], "clash"), (["a=1:2000:1", "b=1:2000:1"], "limit"), ({"a": 3}, "value"), ({"a": {"b": 1}}, "value"),
    ({"a": [object()]}, "value"), ({"a": range(MOST + 1)}, "limit"), ({"a": []}, "empty")])
def test_points_that_cannot_be_are_told(vary, code):
    with pytest.raises(ScenarioError) as caught:
        points_of(vary)
    assert [one.code for one in caught.value.mistakes] == [code]


def test_all_mistakes_are_told_at_once_and_unequal_lengths_are_named():
    with pytest.raises(ScenarioError) as caught:
        points_of(["a", "b=1:0:1", "c="])
    assert len(caught.value.mistakes) == 3
    with pytest.raises(ScenarioError, match="a has 2, b has 3"):
        points_of(["a=1,2", "b=1,2,3"], zipped=True)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_points_are_all_combinations_in_order_the_last_fastest(lengths):
    axes = tuple(axis_of(f"k{i}", list(range(length))) for i, length in enumerate(lengths))
    assert list(Points(axes)) == list(itertools.product(*(axis.values for axis in axes)))
    few = list(Points(axes).few(5))
    assert len(set(few)) == len(few) and few[0] == 0 and all(0 <= one < len(Points(axes)) for one in few)
    assert all(len(axis.values) <= 5 and {Points(axes)[i][n] for i in few} == set(axis.values) for n, axis in enumerate(axes))


def test_zipped_points_take_the_values_in_step():
    assert list(points_of({"a": [1, 2, 3], "b": "x,y,z"}, zipped=True)) == [(1, "x"), (2, "y"), (3, "z")]


def test_numbers_of_numpy_are_plain_numbers():
    import numpy as np

    assert list(map(type, axis_of("a", np.arange(3)).values)) == [int] * 3
    assert list(map(type, axis_of("a", [np.float64(2), np.int8(1)]).values)) == [float, int]
