"""The paper's sharding notation as a value, and the collectives that lead from one sharding to another.

`"B L E_xyz"`: a tensor with dimensions B, L and E, where E is cut over the axes x, y and z. `"B L F_yz {U_x}"`: partial sums over
x are not added yet. Letters are dimensions, small letters logical axes; `"BLE_xyz"` is equivalent. The module knows nothing of
models, chips or links.

A table has few shardings, and candidates of a plan share them. Results that depend only on shardings and sizes are computed once,
and kept for the last `KEPT` calls.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

from torussim.errors import ShardingError

KEPT = 2**15
Axes = tuple[str, ...]
Dims = tuple[tuple[str, Axes], ...]
Items = tuple[tuple[str, int], ...]
_TOKEN = re.compile(r"([A-Z])(?:_([a-z]+))?")
MEANINGS = {"B": "the batch", "L": "the tokens", "E": "d_model", "F": "d_ff, twice that where the MLP is gated",
            "H": "heads x d_head", "K": "kv_heads x d_head", "V": "the vocabulary",
            "N": "the experts"}  # the paper's letters, in messages
_WHOLE = re.compile(r"\s*((?:[A-Z](?:_[a-z]+)?\s*)+)(?:\{\s*U_([a-z]+)\s*\})?\s*")


def pattern(dimensions: str = "") -> str:
    """Return a regular expression, in the dialect of JSON Schema, for shardings with these dimensions; "": with any.

    >>> [bool(re.search(pattern("BLE"), text)) for text in ("B L E_xyz", "BLE {U_x}", "B L F", "B L")]
    [True, True, False, False]
    """
    names = "".join(rf"{name}(_[a-z]+)?\s*" for name in dimensions) if dimensions else r"([A-Z](_[a-z]+)?\s*)+"
    return rf"^\s*{names}(\{{\s*U_[a-z]+\s*\}})?\s*$"


@dataclass(frozen=True, eq=False)
class Sharding:
    """The axes that cut each dimension, and the axes of partial sums that are not added yet.

    The order of axes in a subscript is kept for `str`, but not compared.

    >>> Sharding.parse("B L E_xyz") == Sharding.parse("BLE_zyx")
    True
    >>> str(Sharding.parse("B L F_yz {U_x}"))
    'B L F_yz {U_x}'
    """

    dims: Dims
    partial: Axes = ()

    @staticmethod
    @lru_cache(KEPT)
    def of(dims: Dims, partial: Axes = ()) -> Sharding:
        """Return the sharding of these dimensions; equal calls share one object."""
        return Sharding(dims, partial)

    @staticmethod
    @lru_cache(KEPT)
    def parse(text: str) -> Sharding:
        """Return the sharding of `text`. Raise ShardingError if it is invalid or uses an axis twice."""
        match = _WHOLE.fullmatch(text)
        if not match:
            raise ShardingError(f'{text!r} is not a sharding: write dimensions with their axes, such as "B L E_xyz" or '
                                f'"B L F_yz {{U_x}}"')
        dims = tuple((name, tuple(axes or "")) for name, axes in _TOKEN.findall(match[1]))
        sharding = Sharding.of(dims, tuple(match[2] or ""))
        for what, names in (("dimension", [name for name, _ in dims]), ("axis", sharding.used)):
            twice = next((name for name in names if list(names).count(name) > 1), None)
            if twice:
                raise ShardingError(f"{text!r} uses the {what} {twice} twice: use each {what} once")
        return sharding

    def __str__(self) -> str:
        words = [name + ("_" + "".join(axes) if axes else "") for name, axes in self.dims]
        return " ".join(words + (["{U_" + "".join(self.partial) + "}"] if self.partial else []))

    def __repr__(self) -> str:
        return f"Sharding.parse({str(self)!r})"

    @cached_property
    def _key(self) -> tuple[object, ...]:
        return tuple((name, frozenset(axes)) for name, axes in self.dims), frozenset(self.partial)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Sharding) and self._key == other._key)

    def __hash__(self) -> int:
        return hash(self._key)

    @cached_property
    def used(self) -> tuple[str, ...]:
        """Every axis of the sharding, in writing order."""
        return tuple(axis for _, axes in self.dims for axis in axes) + self.partial

    @cached_property
    def _cut(self) -> dict[str, tuple[str, ...]]:
        return dict(reversed(self.dims))

    def axes(self, dim: str) -> tuple[str, ...]:
        """Return the axes that cut `dim`."""
        if dim not in self._cut:
            raise ShardingError(f"{str(self)!r} has no dimension {dim}", path=(dim,), shardings=(str(self),))
        return self._cut[dim]

    def names(self) -> tuple[str, ...]:
        """Return the dimensions, in writing order."""
        return tuple(name for name, _ in self.dims)

    def without(self, axes: Iterable[str]) -> Sharding:
        """Return the sharding without these axes."""
        gone = set(axes)
        return Sharding(tuple((d, tuple(a for a in cut if a not in gone)) for d, cut in self.dims),
                        tuple(a for a in self.partial if a not in gone))

    def local(self, sizes: Mapping[str, int], lengths: Mapping[str, int]) -> dict[str, int]:
        """Return the size of each dimension on one chip. Raise ShardingError if a size does not divide."""
        found = {}
        for dim, axes in self.dims:
            chips = 1
            for axis in axes:
                chips *= lengths[axis]
            found[dim] = sizes[dim] // chips if sizes[dim] % chips == 0 else divide(sizes[dim], dim, self, lengths)
        return found

    def elements(self, sizes: Mapping[str, int], lengths: Mapping[str, int]) -> int:
        """Return the number of elements on one chip."""
        return prod(self.local(sizes, lengths).values())


def divide(size: int, dim: str, sharding: Sharding, lengths: Mapping[str, int], *, what: str = "",
           do: str = "choose a size that does, or fewer axes") -> int:
    """Return the size of a dimension on one chip. Raise ShardingError with a remedy if it is no integer.

    `what` names the object of this size, if it is not the dimension itself.
    """
    axes = sharding.axes(dim)
    chips = prod(lengths[a] for a in axes)
    if size % chips:
        raise _indivisible(size, dim, axes, lengths, f"{what or _meaning(dim)} of {str(sharding)!r}", (str(sharding),), do)
    return size // chips


def _indivisible(size: int, dim: str, axes: Sequence[str], lengths: Mapping[str, int], what: str, shardings: tuple[str, ...],
                 do: str = "choose a size that does, or fewer axes") -> ShardingError:
    """Return the error for a whole size that does not divide by the chips of all axes that cut it."""
    text = f"{what}: {size} does not divide by {prod(lengths[a] for a in axes)} (the chips of {''.join(axes)}): {do}"
    return ShardingError(text, code="does-not-divide", path=(dim,), shardings=shardings)


def _meaning(dim: str) -> str:
    return f"{dim} ({MEANINGS[dim]})" if dim in MEANINGS else dim


@dataclass(frozen=True)
class Step:
    """One collective on the way between two shardings; `elements` per chip, counted as in program.Collective.

    `dims` has for each axis the dimension that it cuts: before an all-gather, after a scatter or an all-to-all.
    """

    kind: str
    axes: tuple[str, ...]
    elements: int
    dims: tuple[str, ...] = ()


def steps(source: Sharding, target: Sharding, sizes: Mapping[str, int], lengths: Mapping[str, int]) -> list[Step]:
    """Return the collectives that lead from `source` to `target`, in the cheapest order.

    An axis that is new in `target` costs nothing (each chip keeps its slice). Partial sums are scattered onto the dimensions that
    `target` cuts by their axis, otherwise all-reduced. An axis that changes dimension needs an all-to-all; an axis that
    disappears needs an all-gather. Axes of length 1 move nothing. Paper, section 3.1.

    >>> steps(Sharding.parse("B L E_xyz"), Sharding.parse("B L E_x"), dict(B=2, L=1, E=64), dict(x=4, y=4, z=4))
    [Step(kind='all_gather', axes=('y', 'z'), elements=32, dims=('E', 'E'))]
    """
    return list(_steps(source.dims, source.partial, target.dims, target.partial, tuple(sizes.items()), tuple(lengths.items())))


@lru_cache(KEPT)
def _steps(source_dims: Dims, source_partial: Axes, target_dims: Dims, target_partial: Axes,
           all_sizes: Items, all_lengths: Items) -> list[Step]:
    """Return the result of `steps` for shardings as written, which can depend on the order of axes."""
    source, target = Sharding.of(source_dims, source_partial), Sharding.of(target_dims, target_partial)
    sizes, lengths = dict(all_sizes), dict(all_lengths)
    if source.names() != target.names():
        raise ShardingError(f"{str(source)!r} cannot become {str(target)!r}: their dimensions differ",
                            shardings=(str(source), str(target)))
    had, wanted = ({axis: dim for dim, axes in s.dims for axis in axes if lengths[axis] > 1} for s in (source, target))
    partial = [a for a in source.partial if lengths[a] > 1]
    new_partial = [a for a in target.partial if a not in source.partial and lengths[a] > 1]
    if new_partial:
        one, other = (str(s.without([a for a in s.used if lengths[a] == 1])) for s in (source, target))
        raise ShardingError(f"{one!r} cannot become {other!r}: nothing makes partial sums over {''.join(new_partial)}",
                            shardings=(str(source), str(target)))
    local = source.local(sizes, lengths)
    if had == wanted and not partial:
        return []
    scattered = tuple(a for a in partial if a in wanted)
    reduced = tuple(a for a in partial if a not in wanted and a not in target.partial)
    moved = tuple(a for a in had if a in wanted and wanted[a] != had[a])
    gathered = tuple(a for a in had if a not in wanted)
    sliced = [a for a in wanted if a not in had and a not in partial]
    cutting = {dim: [a for a in axes if a in had] for dim, axes in source.dims}  # the axes that cut each dimension at present

    def cut(axes: Iterable[str]) -> None:
        for axis in axes:
            dim = wanted[axis]
            cutting[dim].append(axis)
            if local[dim] % lengths[axis]:
                final = [a for a in target.axes(dim) if a in wanted]
                at_last = set(cutting[dim]) <= set(final)
                where = f"of {str(target)!r}" if at_last else f"on the way from {str(source)!r} to {str(target)!r}"
                raise _indivisible(sizes[dim], dim, final if at_last else cutting[dim], lengths, f"{_meaning(dim)} {where}",
                                   (str(target), str(source)))
            local[dim] //= lengths[axis]

    def join(axes: Iterable[str]) -> None:
        for axis in axes:
            cutting[had[axis]].remove(axis)
            local[had[axis]] *= lengths[axis]

    found = []
    late = []
    for axis in sliced:
        if local[wanted[axis]] % lengths[axis]:
            late.append(axis)  # divides only after a gather
        else:
            cut((axis,))
    if scattered:
        found.append(Step("reduce_scatter", scattered, prod(local.values()), tuple(wanted[a] for a in scattered)))
        cut(scattered)
    if reduced:
        found.append(Step("all_reduce", reduced, prod(local.values())))
    if moved:
        found.append(Step("all_to_all", moved, prod(local.values()), tuple(wanted[a] for a in moved)))
        cut(moved)
        join(moved)
    if gathered:
        join(gathered)
        found.append(Step("all_gather", gathered, prod(local.values()), tuple(had[a] for a in gathered)))
    cut(late)
    return found


def product(activations: Sharding, weight: Sharding, contracted: str, made: str) -> Sharding:
    """Return the sharding of activations x weight, which contracts `contracted` and makes dimension `made`.

    Both must cut the contracted dimension over the same axes; these become axes of partial sums. Raise ShardingError otherwise,
    or if an axis would be used twice.
    """
    return _product(activations.dims, activations.partial, weight.dims, weight.partial, contracted, made)


@lru_cache(KEPT)
def _product(dims: Dims, partial: Axes, weight_dims: Dims, weight_partial: Axes, contracted: str, made: str) -> Sharding:
    """Return the result of `product` for shardings as written."""
    activations, weight = Sharding(dims, partial), Sharding(weight_dims, weight_partial)
    ours, theirs = set(activations.axes(contracted)), set(weight.axes(contracted))
    if ours != theirs:
        raise ShardingError(f"{str(activations)!r} x {str(weight)!r}: {contracted} is cut over "
                            f"{''.join(sorted(ours)) or 'nothing'} on one side and {''.join(sorted(theirs)) or 'nothing'} "
                            f"on the other", path=(contracted,), shardings=(str(activations), str(weight)))
    made_dims = tuple((made, weight.axes(made)) if dim == contracted else (dim, axes) for dim, axes in dims)
    result = Sharding.of(made_dims, activations.partial + activations.axes(contracted))
    twice = [a for a in result.used if result.used.count(a) > 1]
    if twice:
        raise ShardingError(f"{str(activations)!r} x {str(weight)!r} uses the axis {twice[0]} twice",
                            shardings=(str(activations), str(weight)))
    return result
