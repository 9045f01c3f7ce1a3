"""Query heads that do not divide by the chips that cut them: the choices, and what a chip then has of heads and KV heads.

*Pad.* The number of heads is raised to a multiple of the chips on some axes. The padded heads cost weights and products, and
cache if every query head has its own KV head.

*Sum.* The columns of H are cut evenly, so that a chip can have a part of a head. The products of its part of Q and K are then
partial sums of that head's scores. The chips that share heads add them before the softmax, and each applies the scores to its
columns of V.

In both cases a chip keeps the columns of K and V that its queries read. Chips have neighbouring heads. Padding is in the groups
of query heads that share a KV head, each as large as the others, and at the end, so that a chip has the fewest KV heads.

The module knows no operations, links and times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import gcd, prod
from typing import NamedTuple

from torussim.errors import LayoutError, ShardingError
from torussim.layouts import Heads, Layout, Sizes, Table, placed, table, written
from torussim.models import Model
from torussim.sharding import KEPT, Sharding, divide

Make = Callable[[Heads], Layout]  # the layout with a choice of heads, and with its table for this number


class Share(NamedTuple):
    """What a chip has of heads, the most of any chip.

    `columns`: of H, in heads. `heads` and `kv_heads`: those of which it has a part. `kept`: the columns of K that it reads, in KV
    heads; those of V are as many. `shared`: the heads of which other chips have a part too. `together`: neighbouring chips that
    share heads only with one another. `sums`: of these, the first and the last chip of each shared head, in rounds in which a
    chip has one of them at most.
    """

    columns: float
    heads: int
    kv_heads: int
    kept: float
    shared: int = 0
    together: int = 1
    sums: tuple[tuple[tuple[int, int], ...], ...] = ()


@lru_cache(KEPT)
def share_of(heads: int, chips: int, kv_heads: int, real: int) -> Share:
    """Return the share of one of `chips` that cut `heads`, of which `real` are no padding, with `kv_heads` KV heads.

    >>> share_of(40, 16, 40, 40).kept, share_of(48, 32, 8, 48).kept, share_of(48, 16, 48, 48).kept
    (2.5, 1.0, 3.0)
    """
    spreads = [_spread(heads, chips, kv_heads, group) for group in range(real // kv_heads, heads // kv_heads + 1)]
    return min(spreads, key=lambda one: (one.kept, one.kv_heads))


def _spread(heads: int, chips: int, kv_heads: int, group: int) -> Share:
    """Return the share of a chip if each KV head has `group` query heads, padding included, and other padding is at the end."""
    found = list[tuple[int, int, float, int]]()
    for first in range(0, chips * heads, heads):  # a head has `chips` parts, and a chip has `heads` of them
        parts, shared, mine = dict[int, set[tuple[int, int]]](), 0, range(first // chips, -(-(first + heads) // chips))
        for head in mine:
            low, high = max(first - head * chips, 0), min(first + heads - head * chips, chips)
            shared += high - low < chips
            if head < kv_heads * group:
                parts.setdefault(head // group, set()).add((low, high))
        found.append((len(mine), len(parts), sum(map(_union, parts.values())) / chips, shared))
    touched, read, kept, shared = (max(some) for some in zip(*found))
    return Share(heads // chips if heads % chips == 0 else heads / chips, touched, max(1, read), kept, shared,
                 chips // gcd(heads, chips) if shared else 1, _rounds(heads // gcd(heads, chips), chips // gcd(heads, chips)))


def _rounds(heads: int, chips: int) -> tuple[tuple[tuple[int, int], ...], ...]:
    """Return the first and the last of the chips that share each head, in as few rounds as keep a chip out of two at once.

    >>> _rounds(5, 2), _rounds(5, 4)
    ((((0, 1),),), (((0, 1), (2, 3)), ((1, 2),)))
    """
    rounds: list[list[tuple[int, int]]] = []
    for first, last in ((head * chips // heads, -(-(head + 1) * chips // heads) - 1) for head in range(heads)):
        if first == last:
            continue
        free = next((some for some in rounds if some[-1][1] < first), None)
        if free is None:
            rounds.append(free := [])
        free.append((first, last))
    return tuple(map(tuple, rounds))


def _union(parts: Iterable[tuple[int, int]]) -> int:
    """Return the length that some ranges cover together."""
    end = covered = 0
    for low, high in sorted(parts):
        covered += max(0, high - max(low, end))
        end = max(end, high)
    return covered


def share(model: Model, table: Table, heads: Heads, kv_heads: int, lengths: Mapping[str, int]) -> Share:
    """Return what a chip has of heads where attention runs; `heads` and `kv_heads` are those that run.

    Raise ShardingError if heads do not divide and may not be split, or if a chip does not have the KV heads that its queries
    read.
    """
    q, kv = table["q"].used, table["kv"].used
    return _share(model.heads, heads.run, heads.split, kv_heads, model.latent is not None, q, kv, tuple(lengths.items()))


def made_kv(model: Model, table: Table, heads: Heads, kv_heads: int, lengths: Mapping[str, int]) -> float | None:
    """Return the KV heads of a chip's W_k and W_v where these are those that its queries read; otherwise None.

    They are not where K and V or queries go to other chips than those that make them. If a table lacks W_q and W_k (a part of a
    plan), it is the least number that they can have.
    """
    if model.latent or kv_heads == heads.run or not {"q", "kv"} <= set(table.paths):
        return None
    q, kv, w_q, weights = table["q"].used, table["kv"], table.get("w_q"), [table.get(name) for name in ("w_k", "w_v")]
    made = w_q.used.axes("H") if w_q else q.axes("H")
    cuts = [one.axes("K") for one in (*(weight.used for weight in weights if weight), *kv.stations)]
    if len(set(map(frozenset, cuts))) > 1 or not set(cuts[0]) <= set(made) <= set(q.axes("H")):
        return None
    queries, keys = Sharding.of((("H", made),)), Sharding.of((("K", cuts[0]),))
    try:
        return _share(model.heads, heads.run, heads.split, kv_heads, False, queries, keys, tuple(lengths.items())).kept
    except ShardingError:  # the table is refused where attention runs
        return None


@lru_cache(KEPT)
def _share(real: int, run: int, split: bool, kv_heads: int, latent: bool, q: Sharding, kv: Sharding,
           items: tuple[tuple[str, int], ...]) -> Share:
    lengths = dict(items)
    chips, across = (prod(lengths[a] for a in one.axes(dim)) for one, dim in ((q, "H"), (kv, "K")))
    if not split or latent:
        divide(run, "H", q, lengths, what="heads", do="give split_heads: pad, or choose attention: batch")
    if latent:
        divide(kv_heads, "K", kv, lengths, what="KV heads")
        return share_of(run, chips, 1, run)
    own = run if kv_heads == run else real  # with a KV head for each query head, all are padded
    whole = not (run % across or kv_heads % across or own % across or chips % across)
    found = share_of(run // across, chips // across, kv_heads // across, own // across) if whole else share_of(
        run, chips, kv_heads, own)
    if kv_heads % across and kv_heads / across < found.kept:
        divide(kv_heads, "K", kv, lengths, what="KV heads")
    return found._replace(kept=min(kv_heads / across, found.kept))


# -- the choices --------------------------------------------------------------------------------------------------------


def multiples(count: int, lengths: Iterable[int]) -> list[int]:
    """Return a number, and the next multiples of the numbers of chips along some of the axes, in rising order.

    >>> multiples(250, [4, 4, 8]), multiples(256, [4, 4, 8])
    ([250, 252, 256], [256])
    """
    chips = {1}
    for length in lengths:
        chips |= {length * some for some in chips}
    return sorted({-(-count // some) * some for some in chips})


def sizes_of(model: Model, layout: Layout, batch: int, physical: Mapping[str, int]) -> Sizes:
    """Return the sizes for a table of shardings; its lengths are those of the mesh, and are not known yet."""
    chips = prod(physical.values())
    heads = layout.heads or Heads(model.padded(chips))
    return Sizes({}, batch, model.d_model, heads.run, model.kv_of(heads.run), layout.attention, bool(model.padded_heads),
                 model.parallel, model.experts or 0, layout.experts, gcd(model.d_head, model.value), heads.split, heads.copied)


def choices(make: Make, model: Model, batch: int, physical: Mapping[str, int]) -> list[Heads]:
    """Return the choices of heads among which a layout has the fastest: of the number of heads, and of W_k and W_v.

    `make` returns the layout for a choice; `physical` are its axes, without that of stages. W_k and W_v of a KV head for each
    query head can be copied where K and V go to other chips than Q. Raise LayoutError if heads must be split and cannot be.
    """
    found = _numbers(make, model, batch, physical)
    some = [heads for heads in found if model.kv_of(heads.run) == heads.run and not heads.split and not model.latent]
    if not some or make(some[0]).attention == "heads":
        return found
    both = [[_Made.of(make(replace(heads, copied=copied)), model, batch, physical) for copied in (False, True)] for heads in some]
    return [*found, *(other.heads for one, other in both if other.share and other.table != one.table)]


def _numbers(make: Make, model: Model, batch: int, physical: Mapping[str, int]) -> list[Heads]:
    """Return the choices of the number of heads, that of the most chips first.

    If heads divide by all the chips that batch and context leave, there is one choice. Paddings with which a chip keeps more KV
    heads, and a larger cache, than with others are left out. A table with a padding of its own is left to it if the model says
    how it is padded, or has one KV head. Raise LayoutError if heads must be split and cannot be.
    """
    chips = prod(physical.values())
    given = Heads(model.padded(chips))
    if given.run % chips == 0:
        return [given]
    first = _Made.of(make(given), model, batch, physical)
    how = first.layout.split_heads
    own = first.table.padding and (model.padded_heads or model.kv_heads == 1)
    if (first.share and first.everywhere) or (own and how == "auto"):
        return [given]
    split = _Made.of(make(Heads(given.run, split=True)), model, batch, physical)
    if how == "sum":
        if model.latent or not split.share:
            why = "attend to latents" if model.latent else f"have {given.run * model.d_head} columns, which do not divide"
            raise LayoutError(f"split_heads: the {given.run} heads are not split, because they {why}: give pad or auto",
                              code="clash", path=("split_heads",))
        return [split.heads]
    every = [_Made.of(make(Heads(heads)), model, batch, physical) for heads in multiples(given.run, physical.values())]
    splits = [split.heads] if how == "auto" and split.share and split.share.shared else []
    return [*_best([one for one in every if one.share]), *splits] or [given]


def _best(padded: Sequence[_Made]) -> list[Heads]:
    """Return the paddings with the fewest KV heads, or the smallest cache, of a chip; on the same number of chips the first."""
    if not padded:
        return []
    (kept, cache), first = min(one.kept for one in padded), dict[int, Heads]()
    for one in padded:
        if one.kept[0] == kept or one.kept[1] <= cache:
            first.setdefault(one.chips, one.heads)
    return [first[chips] for chips in sorted(first, reverse=True)]


@dataclass(frozen=True)
class _Made:
    """A layout with one choice of heads, and its table; `share` is None if the heads do not fit the table."""

    layout: Layout
    heads: Heads
    table: Table
    share: Share | None
    chips: int  # that cut the heads
    parts: int  # that cut batch or context
    everywhere: bool  # whether batch, heads or context are cut over every axis

    @property
    def kept(self) -> tuple[float, float]:
        """The KV heads that a chip keeps, and its part of the cache, in KV heads of all tokens."""
        assert self.share
        return self.share.kept, self.share.kept / self.parts

    @staticmethod
    def of(layout: Layout, model: Model, batch: int, physical: Mapping[str, int]) -> _Made:
        """Return the table of a layout with a choice of heads, and whether the heads fit it."""
        assert layout.heads is not None

        def make(sizes: Sizes) -> Mapping[str, object]:
            return written(layout, sizes)
        _, sizes = placed(make, layout.mesh, sizes_of(model, layout, batch, physical), physical)
        made, lengths = table(layout, sizes), sizes.lengths
        q, kv = made["q"].used, made["kv"].used
        used = {*q.axes("B"), *q.axes("H"), *kv.axes("L")}
        heads = Heads(made.heads or layout.heads.run, layout.heads.split)
        try:
            _check_columns(made, model, heads.run, lengths)
            found = share(model, made, heads, model.kv_of(heads.run), lengths)
        except ShardingError:
            found = None
        return _Made(layout, layout.heads, made, found, prod(lengths[a] for a in q.axes("H")),
                     prod(lengths[a] for a in {*q.axes("B"), *kv.axes("L")}),
                     all(length == 1 or axis in used for axis, length in lengths.items()))


def _check_columns(made: Table, model: Model, heads: int, lengths: Mapping[str, int]) -> None:
    """Raise ShardingError if the columns of Q, or those of K and V, do not divide at some station."""
    kv = model.kv_of(heads)
    columns = {"H": (heads * model.d_head, heads * model.value), "K": (kv * model.d_head, kv * model.value)}
    tensors = {"H": ("w_q", "q", "w_o"), "K": () if model.latent else ("w_k", "w_v", "kv")}
    for dim, names in tensors.items():
        for station in [station for name in names for station in made[name].stations]:
            for size in columns[dim]:
                divide(size, dim, station, lengths)


def groups_of(axes: Sequence[str], together: int, some: Sequence[tuple[int, int]],
              physical: Mapping[str, int]) -> tuple[tuple[int, ...], ...]:
    """Return the chips that share a head: of every so many neighbours along `axes`, the last of them first, some ranges.

    Chips are numbers in C order of all axes.

    >>> groups_of(["x"], 2, [(0, 1)], {"x": 4, "y": 2})
    ((0, 2), (1, 3), (4, 6), (5, 7))
    """
    every = _grouped(tuple(axes), together, tuple(physical.items()))
    return tuple(group[first:last + 1] for group in every for first, last in some)


@lru_cache(KEPT)
def _grouped(axes: tuple[str, ...], together: int, items: tuple[tuple[str, int], ...]) -> list[tuple[int, ...]]:
    import numpy as np
    names, shape = [name for name, _ in items], [length for _, length in items]
    chips = np.moveaxis(np.arange(prod(shape)).reshape(shape), [names.index(a) for a in axes], range(-len(axes), 0))
    return sorted(map(tuple, chips.reshape(-1, together).tolist()))
