"""Mixtures of experts: the tokens of a layer are sent to the chips of their experts, multiplied there, and sent back.

A routed tensor has the dimension N, the experts. It holds each token once for each of its k experts: of a tensor with the sizes
N B L E, the part k / N exists. Dispatch and combine follow from the shardings, as all collectives do. An axis that cuts the
tokens before and the experts after it is an all-to-all. An axis that cuts the experts but not the tokens costs nothing on the
way to the experts; on the way back its chips have partial sums.

The load of an expert is its share of all copies of tokens. Chips with unequal loads have unequal work, and send and receive
unequal messages.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim import kernels
from torussim.errors import LayoutError
from torussim.kernels import SUM_BYTES
from torussim.layouts import Layout, Path, Sizes, Table, expert_axes, fitting
from torussim.program import Collective, Compute, Matmul, Matrix, changed
from torussim.sharding import Sharding, Step, product

if TYPE_CHECKING:
    from torussim.tensors import Station, Tensor
    from torussim.transformer import Builder

Array = np.ndarray[Any, Any]
Groups = tuple[tuple[float, int], ...]  # the experts of a chip: the share of one, and how many have this share


def with_experts(table: Table, layout: Layout, sizes: Sizes) -> Table:
    """Return a table with the paths of the experts' weights.

    By default they are those of W_in and W_out, in which the axes of `expert_axes` cut the experts in place of E and F. With
    `experts: gathered` the experts are whole where they are used.
    """
    axes = expert_axes(sizes, table["q"].used.axes("B"))

    def path(dense: Path) -> Path:
        stations = [Sharding.of((("N", axes), *((dim, tuple(a for a in cut if a not in axes)) for dim, cut in station.dims)))
                    for station in dense.stations]
        if layout.experts == "gathered" and any(sizes.lengths[a] > 1 for a in axes):
            stations.append(Sharding.of((("N", ()), *stations[-1].dims[1:])))
        used = {a for station in stations for a in station.used}
        return Path(tuple(stations), dense.algorithm, tuple(a for a in dense.axes if a in used))

    made = {"experts_in": path(table["w_in"]), "experts_out": path(table["w_out"])}
    return replace(table, paths={**made, **table.paths})


@dataclass(frozen=True)
class Load:
    """The load of the experts of a layer on the chips of the logical `axes` that cut them; `shares`: (experts,)."""

    builder: Builder
    axes: tuple[str, ...]
    shares: tuple[float, ...]

    @cached_property
    def local(self) -> Array:
        """The shares of the experts by the position of their chip along each axis: (lengths of the axes, experts of a chip)."""
        return np.array(self.shares).reshape(*(self.builder.lengths[a] for a in self.axes), -1)

    @cached_property
    def positions(self) -> list[Groups]:
        """The experts of the chips at each position along the axes, in C order; one entry where all are alike."""
        rows = self.local.reshape(-1, self.local.shape[-1])
        found = [tuple(sorted(Counter(map(float, row)).items())) for row in rows]
        return found[:1] if len(set(found)) == 1 else found

    @cached_property
    def peak(self) -> float:
        """The load of the busiest chip, in means over all chips."""
        chips = self.local.sum(axis=-1)
        return float(chips.max() * chips.size)

    def compute(self, make: Callable[[Groups], Compute]) -> Compute:
        """Return the computation of every chip; `make` returns that of the chips with some experts."""
        cases = [make(groups) for groups in self.positions]
        worst = max(range(len(cases)), key=lambda i: (sum(share * count for share, count in self.positions[i]), -i))
        if len(cases) == 1:
            return cases[0]
        return changed(cases[worst], over=self.builder.axes(self.axes), cases=tuple(cases))

    def unequal(self, added: Sequence[tuple[str, Step]], *, back: bool) -> None:
        """Give the all-to-alls of a dispatch, or of the way back, the bytes of each of their messages.

        Where the tokens are on several chips along an axis of the experts, each of these sends only the copies for its own
        experts: all send as many as the busiest.
        """
        b = self.builder
        for name, step in added:
            found = b.operations[name]
            if not isinstance(found, Collective) or found.kind != "all_to_all":
                continue
            found = changed(found, pieces=0.0)  # the copies are in the order of their experts
            group = [a for a in b.mesh if a in step.axes]
            chips = np.moveaxis(self.local.sum(axis=-1), [self.axes.index(a) for a in group], range(len(group)))
            chips = chips.reshape(prod(b.lengths[a] for a in group), -1)
            busiest = chips[:, chips.sum(axis=0).argmax()] * chips.shape[1]
            if np.ptp(busiest) > 1e-12 or abs(busiest.sum() - 1) > 1e-9:
                matrix = np.tile(found.bytes * busiest, (len(busiest), 1))
                made = Matrix.of(matrix.T if back else matrix)
                found = changed(found, matrix=made, bytes=made.most)
            b.operations[name] = found


def spread(b: Builder) -> dict[str, Any]:
    """Return how the experts of a pass are spread, as JSON data.

    The routed experts of the model, of a chip and of a token; the physical axes that cut them, and whether they are gathered
    before use; of the layer with the most unequal load, the load of the busiest chip in means over all chips, and the share of
    the copies of tokens that is dropped.
    """
    m, path = b.model, b.table["experts_in"]
    rows: Sequence[Sequence[float]] = () if b.forward.balance.uniform else [
        b.forward.balance.of(i, m.experts or 1) for i in range(max(1, len(b.forward.balance.shares)))]
    loads = [Load(b, path.used.axes("N"), shares_of(b, row)) for row in rows or [()]]
    cut = path.stored.axes("N")
    return {"model": m.experts, "token": m.experts_per_token, "shared": m.shared_experts,
            "chip": (m.experts or 1) // prod(b.lengths[a] for a in cut), "axes": list(b.axes(cut)),
            "gathered": len(path.stations) > 1 and path.used.axes("N") != cut, "busiest": max(load.peak for load in loads),
            "dropped": max(1 - sum(load.shares) if sum(load.shares) < 1 - 1e-9 else 0.0 for load in loads)}


def shares_of(b: Builder, given: Sequence[float]) -> tuple[float, ...]:
    """Return the share of the copies of tokens that each expert takes; without given ones all are the same.

    An expert takes no more than the capacity; the rest is dropped.
    """
    experts = b.model.experts or 1
    most = np.inf if b.layout.capacity_factor is None else b.layout.capacity_factor / experts
    return tuple(min(share, most) for share in given or [1 / experts] * experts)


def feed(b: Builder, given: Sequence[float]) -> None:
    """Add the FFN of a layer that is a mixture of experts, from the residual and back to it.

    `given` are the shares of the experts' load; none: all are the same. The shared experts run while the tokens are on their way.
    """
    m, used = b.model, b.table["experts_in"].used
    assert m.experts is not None
    single = m.experts == 1  # every token uses it: nothing is routed
    load = Load(b, used.axes("N"), shares_of(b, given))
    stations = b.enter("ffn", "w_in", None if single else routed_at(b), not m.parallel)
    value, arrived = stations[-1]
    here = value.sharding
    moving = [a for a in used.axes("N") if a in here.used and b.lengths[a] > 1]
    copies = m.experts_per_token / prod(b.lengths[a] for a in used.axes("N") if a not in moving)  # of a token, from a chip
    if not single:
        route(b, value, copies)
    routed = b.last
    there = Sharding.of((("N", used.axes("N")), *here.without(used.axes("N")).dims))
    tokens = value._replace(name="tokens", sharding=Sharding.of((("N", ()), *here.dims)), sizes={"N": m.experts, **value.sizes},
                            part=m.experts_per_token / m.experts)
    (tokens,), added = b.travel("dispatch", [tokens], [there])
    load.unequal(added, back=False)
    arrived = arrived if single else added[-1] if added else None
    dispatched = b.last
    shared = share(b, stations, routed) if m.shared_experts else None
    first = len(b.operations)
    made, matmul = experts(b, tokens._replace(part=tokens.part * load.peak), load, arrived)
    if shared:
        begin = list(b.operations)[first]
        b.operations[begin] = changed(b.operations[begin], after=(dispatched,))
    if not single:
        made = gathered_back(b, made, here, moving, load, copies)
    whole = Sharding.of(made.sharding.dims[1:], (*made.sharding.partial, *made.sharding.axes("N")))
    total = made._replace(name="ffn", sharding=whole, sizes=b.tokens(E=m.d_model), part=1.0)
    if shared and shared.sharding != total.sharding:
        b.home(shared, "shared")
    b.home(total, "ffn", matmul if single and not shared else "", "F")


def ffn_bytes(b: Builder, layers: Sequence[int]) -> float:
    """Return the bytes on a chip of the weights of the FFNs of some layers: dense ones, experts, shared experts, routers."""
    m, kinds = b.model, b.model.kinds
    mixed = sum(kinds[layer].mixture for layer in layers)
    gates = 2 if m.gated else 1

    def stored(first: str, second: str, width: int, **more: int) -> float:
        sizes = {"E": m.d_model, "F": width, **more}
        return sum(count * b.table[tensor].stored.elements(sizes, b.lengths) * b.wide_of(tensor)
                   for tensor, count in ((first, gates), (second, 1)))

    total = (len(layers) - mixed) * stored("w_in", "w_out", m.d_ff)
    if mixed:
        total += mixed * stored("experts_in", "experts_out", m.d_expert, N=m.experts or 1)
        total += mixed * stored("w_in", "w_out", m.shared_experts * m.d_expert) if m.shared_experts else 0.0
        if m.experts != 1:
            router = m.d_model // prod(b.lengths[a] for a in b.table["experts_in"].used.axes("E")) * (m.experts or 1)
            total += mixed * router * b.wide
    return total


def routed_at(b: Builder) -> Sharding:
    """Return the sharding of the tokens where they are routed: that of the table, or one that follows from the experts' weights.

    E is cut like the weights'. The axes of the experts cut the batch, or the tokens of a sequence, as far as these divide.
    """
    if given := b.table.get("tokens"):
        return given.used
    stored, used, residual = b.table["experts_in"].stored, b.table["experts_in"].used, b.table["residual"].stored
    cut = {dim: [a for a in residual.axes(dim) if a not in used.without(used.axes("N")).used] for dim in "BL"}
    for dim, size in (("B", b.forward.batch), ("L", b.forward.length)):
        free = [a for a in stored.axes("N") if b.lengths[a] > 1 and a not in (*cut["B"], *cut["L"])]
        cut[dim] += fitting(size // prod(b.lengths[a] for a in cut[dim]), free, b.lengths)
    return Sharding.of((("B", tuple(cut["B"])), ("L", tuple(cut["L"])), ("E", used.axes("E"))))


def route(b: Builder, value: Tensor, copies: float) -> None:
    """Add the choice of the experts of each token: the product with the router, and the copies of tokens by expert."""
    experts, local = b.model.experts or 1, value.sharding.local(value.sizes, b.lengths)
    rows, axes = local["B"] * local["L"], b.axes(value.sharding.axes("E"))
    moved = rows * (local["E"] + experts) + local["E"] * experts
    b.add(Compute(b.name("matmul_router"), (Matmul(rows, local["E"], experts),), 0.0, moved * SUM_BYTES, b.dtype))
    if axes:
        b.add(Collective(b.name("reduce_router"), "all_reduce", axes, rows * experts * SUM_BYTES,
                         b.layout.collectives.get("all_reduce", "")))
    b.add(kernels.routing(b.name("route"), rows, experts, copies, rows * local["E"], b.dtype))


def share(b: Builder, stations: list[Station], routed: str) -> Tensor:
    """Add the shared experts, side by side in one FFN that waits for `routed`, not for the dispatch; return their sum."""
    first, width = len(b.operations), b.model.shared_experts * b.model.d_expert
    here, target = stations[-1][0], b.input_of(b.table["residual"].stored, b.table["w_in"].used)
    if target != here.sharding:
        (moved,), added = b.travel("shared", [here], [target])
        stations = [(moved, added[-1] if added else None)]
    value, _, _ = b.down([b.activated(b.project(stations, ("hidden",), width)["hidden"], width)], "shared")
    begin = list(b.operations)[first]
    b.operations[begin] = changed(b.operations[begin], after=(routed,))
    return value


def experts(b: Builder, tokens: Tensor, load: Load, arrived: tuple[str, Step] | None) -> tuple[Tensor, str]:
    """Add the FFN of the experts, from the tokens at their chips; return the result, and the last matmul."""
    m = b.model
    width = m.d_expert * (2 if m.gated else 1)
    hidden, matmul = multiply(b, tokens, "experts_in", {"E": m.d_model, "F": width}, load, arrived)
    whole = Sharding.of(tuple((d, axes + hidden.sharding.partial if d == "F" else axes) for d, axes in hidden.sharding.dims))
    (hidden,), added = b.travel("hidden", [hidden], [whole])
    b.scatter(matmul, added, "E", "F")
    hidden = b.activated(hidden, m.d_expert)
    needed = Sharding.of((*hidden.sharding.dims[:-1], ("F", b.table["experts_out"].used.axes("F"))))
    (hidden,), added = b.travel("hidden", [hidden], [needed])
    return multiply(b, hidden, "experts_out", {"F": m.d_expert, "E": m.d_model}, load, added[-1] if added else None)


def multiply(b: Builder, value: Tensor, weight: str, widths: dict[str, int], load: Load,
             arrived: tuple[str, Step] | None) -> tuple[Tensor, str]:
    """Add the products of the experts of a chip with their tokens; return the result and the name of the operation.

    `widths` are the sizes of the contracted dimension and of the one that is made. An expert with less than one token is read
    and computed in that share of all cases.
    """
    (contracted, _), (made, across) = widths.items()
    sizes = {"N": b.model.experts or 1, **widths}
    (used,), gathers = b.weights([weight], [sizes], arrived)
    if set(used.axes("N")) != set(value.sharding.axes("N")):
        raise LayoutError(f"{weight} ends as {str(used)!r}, and the tokens are sent as {str(value.sharding)!r}: the experts must "
                          "be cut over the same axes", path=(weight,))
    result = product(value.sharding, used, contracted, made)
    local, shape = value.sharding.local(value.sizes, b.lengths), used.local(sizes, b.lengths)
    tokens, deep, across = local["B"] * local["L"] * b.model.experts_per_token, shape[contracted], shape[made]
    name, wide = b.name(f"matmul_{weight}"), b.wide_of(weight)
    plain = Compute(name, dtype=b.dtype)

    def make(groups: Groups) -> Compute:
        rows = [(share * tokens, count) for share, count in groups if share]
        read = sum(min(1.0, mine) * count for mine, count in rows)
        alive = sum(mine * count for mine, count in rows) * (deep * b.act + across * SUM_BYTES)
        matmuls = tuple([Matmul(max(1.0, mine), deep, across, min(1.0, mine) * count) for mine, count in rows])
        return changed(plain, matmuls=matmuls, hbm_bytes=read * deep * across * wide + alive)

    found = load.compute(make)
    held = shape["N"] * deep * across * wide if b.gathered and not b.layout.overlap else 0.0
    b.peak = max(b.peak, load.peak * tokens / prod(load.local.shape[:-1]) * (deep * b.act + across * SUM_BYTES) + held)
    loops = tuple([loop for step in gathers for loop in b.loops(step, contracted, made)])
    b.add(changed(found, loops=loops, after=tuple(g[0] for g in gathers) if len(gathers) > 1 else None))
    return _like(value, result, {**value.sizes, made: widths[made]}), name


def _like(value: Tensor, sharding: Sharding, sizes: dict[str, int]) -> Tensor:
    return value._replace(name="hidden", sharding=sharding, sizes=sizes)


def gathered_back(b: Builder, made: Tensor, here: Sharding, moving: Sequence[str], load: Load, copies: float) -> Tensor:
    """Add the way back of the results to the chips of their tokens, sharded as `here`, and their weighted sum.

    Partial sums of the experts are added before the way back if they are of more chips than a token has experts, and after the
    weighted sum otherwise: so that fewer bytes travel.
    """
    m, partial = b.model, made.sharding.partial
    made = made._replace(name="experts", part=m.experts_per_token / (m.experts or 1))
    across = (*made.sharding.axes("E"), *partial)
    chips = prod(b.lengths[a] for a in partial)
    if moving and chips > m.experts_per_token and m.d_model % prod(b.lengths[a] for a in across) == 0:
        (made,), _ = b.travel("experts", [made], [Sharding.of((*made.sharding.dims[:-1], ("E", across)))])
    left = tuple(a for a in made.sharding.axes("N") if a not in moving)
    back = Sharding.of((("N", left), *here.dims[:-1], made.sharding.dims[-1]), made.sharding.partial)
    (made,), added = b.travel("combine", [made], [back])
    load.unequal(added, back=True)
    elements = Sharding.of(back.dims[1:]).elements(b.tokens(E=m.d_model), b.lengths)
    b.add(kernels.combining(b.name("sum_experts"), elements, copies + (m.shared_experts > 0), b.dtype))
    return made
