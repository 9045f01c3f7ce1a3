"""Names: the nearest one, arguments of functions, presets."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torussim.errors import NameError_
from torussim.resolve import arguments, preset_names, preset_path, unknown
from torussim.spelling import nearest

MODELS = ["palm-8b", "palm-62b", "palm-540b"]
names = st.text(min_size=1, max_size=8)


@given(st.lists(names, min_size=1, unique_by=str.casefold), st.data())
def test_a_name_is_nearest_to_itself_whatever_its_case(candidates: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(candidates))
    assert nearest(name, candidates) == name
    assert nearest(name.casefold(), candidates) == name


def test_the_nearest_name_is_the_likeliest_or_none() -> None:
    assert nearest("palm-54b", MODELS) == "palm-540b"
    assert nearest("PALM-62B", MODELS) == "palm-62b"
    assert nearest("llama", MODELS) is None
    assert nearest("palm", []) is None
    assert nearest("", MODELS) is None
    assert nearest("ring", ["default", "one_ring", "nested"]) == "one_ring"  # a whole word of one name alone
    assert nearest("reduce", ["all_reduce", "reduce_scatter"]) is None


@pytest.mark.parametrize(("given", "name"), [("palm-52b", "palm-62b"), ("tpu-v9", "tpu-v4"), ("int16", "int8"), ("v7x-8", "v4-8"),
                                             ("fp4", "fp8"), ("q", "x"), ("x1", "x"), ("memory.fits", "memory.weights")])
def test_another_number_or_another_word_is_no_misspelling(given: str, name: str) -> None:
    assert nearest(given, [name]) is None


@pytest.mark.parametrize(("given", "name"), [("fnn", "ffn"), ("axis", "axes"), ("tpu-v44", "tpu-v4"), ("bf61", "bf16"),
                                             ("lenght", "length"), ("w_kk", "w_k"), ("TPU-V6", "tpu-v6e"), ("tours", "torus")])
def test_an_edit_for_three_letters_is_a_misspelling(given: str, name: str) -> None:
    assert nearest(given, [name, "something else"]) == name


def test_an_unknown_name_is_told_with_the_nearest_or_with_all() -> None:
    assert unknown("palm-54b", MODELS, "model") == "'palm-54b' is not a model: did you mean 'palm-540b'?"
    assert unknown("gpt", MODELS, "model") == "'gpt' is not a model: one of palm-8b, palm-62b, palm-540b"
    assert unknown("x", iter(["ring"]), "algorithm") == "'x' is not an algorithm: one of ring"
    assert unknown("x", [], "chip") == "'x' is not a chip: there is none"
    many = unknown("?", [f"name{n}" for n in range(13)], "chip")
    assert many.endswith("name10, name11, ...")
    assert unknown("?", [f"name{n}" for n in range(12)], "chip").endswith("name10, name11")


def star(graph: Any, arms: int, *, length: int = 1) -> None: ...
def only(graph: Any, /, arms: int) -> None: ...
def anything(graph: Any, **rest: Any) -> None: ...
def several(*graphs: Any, arms: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("called", "keywords", "given_first", "reason"),
    [
        (star, {"arms": 3}, 1, None),
        (star, {"graph": 0, "arms": 3, "length": 2}, 0, None),
        (star, {}, 2, None),
        (star, {"arms": 3, "lenght": 2}, 1, "'lenght' is not a parameter of star(): did you mean 'length'?"),
        (star, {"arms": 3, "x": 2}, 1, "'x' is not a parameter of star(): one of arms, length"),
        (star, {}, 1, "star() needs 'arms'"),
        (star, {}, 0, "star() needs 'graph', 'arms'"),
        (star, {"amrs": 3}, 1, "'amrs' is not a parameter of star(): did you mean 'arms'?; star() needs 'arms'"),
        (star, {"graph": 0, "arms": 3}, 1, "star() gets its 'graph' from torussim: leave it out"),
        (star, {}, 3, "star() takes 2 positional arguments, but must take 3"),
        (only, {"arms": 3}, 1, None),
        (only, {"graph": 0, "arms": 3}, 1, "'graph' is not a parameter of only(): one of arms"),
        (only, {"arms": 3}, 0, "only() needs 'graph'"),
        (anything, {"x": 1}, 1, None),
        (anything, {"graph": 1}, 1, "anything() gets its 'graph' from torussim: leave it out"),
        (anything, {}, 0, "anything() needs 'graph'"),
        (several, {"arms": 2}, 5, None),
        (functools.partial(star, arms=3), {"lengt": 1}, 1, "'lengt' is not a parameter of the function(): did you"),
        (dict.fromkeys, {}, 1, None),
        (dict, {"x": 1}, 0, None),  # has no signature to be read
    ],
)
def test_arguments_are_refused_exactly_when_the_call_would_fail(
    called: Callable[..., Any], keywords: dict[str, Any], given_first: int, reason: str | None
) -> None:
    got = arguments(called, keywords, given=given_first)
    assert (got is None) == (reason is None)
    assert got is None or reason is None or got.startswith(reason)
    if got is None:
        called(*[()] * given_first, **keywords)
    else:
        with pytest.raises(TypeError):
            called(*[()] * given_first, **keywords)


@pytest.mark.parametrize("kind", ["chips", "models"])
def test_every_preset_has_a_file(kind: str) -> None:
    assert list(preset_names(kind)) == sorted(preset_names(kind))
    assert preset_names(kind)
    for name in preset_names(kind):
        assert preset_path(kind, name).is_file()
        assert preset_path(kind, name).stem == name


def test_a_preset_that_is_not_there_is_refused() -> None:
    with pytest.raises(NameError_, match=r"^'palm-54b' is not a model: did you mean 'palm-540b'\?$"):
        preset_path("models", "palm-54b")
    with pytest.raises(NameError_, match=r"^'abacus' is not a chip: one of .*tpu-v4"):
        preset_path("chips", "abacus")
    with pytest.raises(NameError_, match=r"^'\.\./chips/tpu-v4' is not a model: "):
        preset_path("models", "../chips/tpu-v4")
