"""The attention of a layer: from new Q, K and V to its output, with the collectives that its shardings require.

Letters are those of transformer. The functions take the Builder of a pass and add operations to its present list.

*Latent attention.* `absorbed`: the up-projections of K and V are applied to Q and to the output, and the heads attend to the
latents, as in multiquery attention. `expanded`: K and V of all heads are made from the latents of all attended tokens
(DeepSeek-V2, arXiv 2405.04434, section 2.1).

*Heads that are split over chips* (head_split). Each chip has the products of its columns of Q and K, the chips that share a head
sum its scores, and each applies them to its columns of V.

*A context cut over axes S.* A chip keeps its part of the tokens. Few queries travel: each chip of S has all of them and attends
to its own tokens, and the parts are combined by their maxima and sums. If there are many queries, K and V travel: each chip of S
has its part of the queries, and K and V are gathered over S, looped with attention (ring attention, arXiv 2310.01889). The work
under the causal mask is balanced over the chips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil, prod
from typing import TYPE_CHECKING

from torussim import kernels
from torussim.chips import DTYPE_BYTES
from torussim.errors import LayoutError
from torussim.head_split import groups_of
from torussim.keeping import STATISTIC_BYTES, STATISTICS, absorbed, new_tokens, parts_of, reach, ring, score_columns
from torussim.kernels import SUM_BYTES
from torussim.layouts import FUSED, Path, Table
from torussim.models import Kind, Model
from torussim.program import Collective, Compute, Loop, Matmul
from torussim.sharding import Sharding

if TYPE_CHECKING:
    from torussim.tensors import Tensor
    from torussim.transformer import Builder

# -- projections --------------------------------------------------------------------------------------------------------


def wanted(model: Model) -> tuple[str, ...]:
    """Return the tensors that attention needs from the residual."""
    if not model.latent:
        return "q", "k", "v"
    return "latent_q" if model.latent_q else "q", "latent"


def projections(builder: Builder) -> dict[str, tuple[str, str, int]]:
    """Return for each of these tensors its weight, the dimension that it makes, and the size of this dimension."""
    m, own, kv = builder.model, builder.made_kv, float(builder.kv_heads)
    if own:  # of each chip along the axes that cut K; chips along other axes have the same KV heads, or others
        weight = builder.table.get("w_k")
        kv = own * prod(builder.lengths[a] for a in (weight.used if weight else builder.table["kv"].stored).axes("K"))
    every = {"q": ("w_q", "H", builder.heads * m.d_head), "k": ("w_k", "K", round(kv * m.d_head)),
             "v": ("w_v", "K", round(kv * m.value)), "latent_q": ("w_q_down", "C", m.latent_q or 0),
             "latent": ("w_kv_down", "K", (m.latent or 0) + m.latent_rope)}
    return {tensor: every[tensor] for tensor in wanted(m)}


def weights(builder: Builder) -> dict[str, dict[str, int]]:
    """Return the sizes of the weights of attention, one layer, by their names in the table."""
    m = builder.model
    found = {weight: {"E": m.d_model, dim: size} for weight, dim, size in projections(builder).values()}
    if m.latent_q and m.latent:
        found["w_q_up"] = {"C": m.latent_q, "H": builder.heads * m.d_head}
    if m.latent:
        found["w_kv_up"] = {"K": m.latent, "H": builder.heads * (m.d_head - m.latent_rope + m.value)}
    return {**found, "w_o": {"H": builder.heads * m.value, "E": m.d_model}}


def with_latents(table: Table) -> Table:
    """Return a table with the paths of the weights of latent attention, which follow from those of W_q, W_k and q.

    W_q_down and W_kv_down are cut like W_k, and W_q_up like W_q. The up-projections of K and V are stored with the heads with
    which a chip attends.
    """
    q, k = table["w_q"], table["w_k"]
    down = tuple(Sharding.of((("E", s.axes("E")), ("C", ()))) for s in k.stations)
    up = tuple(Sharding.of((("C", s.axes("E")), ("H", s.axes("H")))) for s in q.stations)
    heads = Sharding.of((("K", ()), ("H", table["q"].used.axes("H"))))
    made = {"w_q_down": replace(k, stations=down), "w_kv_down": k, "w_q_up": replace(q, stations=up), "w_kv_up": Path((heads,))}
    return replace(table, paths={**table.paths, **made})


def _query(builder: Builder, parts: Mapping[str, Tensor]) -> Tensor:
    """Return q at its first station; if it is compressed, it is made from its latent."""
    if "latent_q" not in parts:
        return parts["q"]
    latent, path, sizes = parts["latent_q"], builder.table["w_q_up"], weights(builder)["w_q_up"]
    _norm(builder, latent)
    rows = tuple(a for a in latent.sharding.axes("B") if a not in path.used.used)
    target = Sharding.of((("B", rows), ("L", latent.sharding.axes("L")), ("C", path.used.axes("C"))))
    moved, arrived = builder.travel("", [latent], [target])
    used, gathers = builder.weights(["w_q_up"], [sizes], arrived[-1] if arrived else None)
    name = builder.name("matmul_q_up")
    (made,) = builder.matmul(name, moved, used, [sizes], ["C"], ["H"], gathers)
    q = latent._replace(name="q", sharding=made, sizes=builder.tokens(H=sizes["H"]))
    (q,), added = builder.travel("", [q], [builder.first_target("q", made)])
    builder.scatter(name, added, "C", "H")
    return q


def _norm(builder: Builder, latent: Tensor) -> None:
    """Add the norm of a latent."""
    builder.add(kernels.norm(builder.name(f"norm_{latent.name}"), latent.sharding.elements(latent.sizes, builder.lengths),
                             builder.dtype))


# -- attention ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Here:
    """Attention in one kind of layer, on one chip.

    `rows` sequences with `length` queries each, for `heads`; a query has `width` elements, an output `value`. Of each token,
    `stored` elements of `bytes` are read for each of `kept` KV heads, which belong to `kv_heads`. Of the heads `columns` are the
    chip's own, and it has a part of `shared` ones. The context is cut in `parts`; `ring`: K and V travel.
    """

    rows: int
    length: int
    heads: int
    columns: float
    shared: int
    width: int
    value: int
    kv_heads: float
    kept: float
    stored: int
    bytes: float
    parts: int
    ring: bool
    absorbed: bool
    window: int | None

    def tokens(self, count: int) -> int:
        """Return the number of tokens that a chip has of so many: its part, the longest one, or if K and V travel all parts."""
        return -(-count // self.parts) * (self.parts if self.ring else 1)


def attend(builder: Builder, parts: Mapping[str, Tensor], kind: Kind) -> Tensor:
    """Bring q, k and v to the sharding of attention, add attention, and bring its output back to q's first station.

    With latent attention `parts` has the latent in place of k and v, and the latent of q in place of q if the model has one.
    """
    m, stations = builder.model, builder.table["q"].stations
    count, cut = parts_of(builder), builder.table["kv"].used.axes("L")
    travel = count > 1 and ring(m, builder.layout, builder.forward, kind.window)
    q = _query(builder, parts)
    if travel:
        q = q._replace(sizes={**q.sizes, "L": -(-builder.forward.length // count) * count})
    for target in [*stations[1:-1], _over(stations[-1], cut) if travel else stations[-1]]:
        (q,), _ = builder.travel("", [q], [target])
    _keep(builder, [parts[name] for name in ("k", "v", "latent") if name in parts], q)
    here = _on_chip(builder, q, kind.window, count, travel)
    if here.absorbed:
        _per_head(builder, "matmul_k_up", here, m.d_head - m.latent_rope, m.latent or 0)
    _products(builder, here, q)
    out = q._replace(name="o", sizes={**q.sizes, "H": builder.heads * m.value})
    if here.absorbed:
        _per_head(builder, "matmul_v_up", here, m.latent or 0, m.value)
    if count > 1 and not travel:
        out = _combined(builder, here, out)
    for target in stations[-2::-1] or stations:
        (out,), _ = builder.travel("", [out], [target])
    return out._replace(sizes=builder.tokens(H=builder.heads * m.value))


def _over(q: Sharding, axes: tuple[str, ...]) -> Sharding:
    """Return the sharding of q with its tokens cut over more axes."""
    return Sharding.of(tuple((d, cut + axes if d == "L" else cut) for d, cut in q.dims), q.partial)


def _keep(builder: Builder, new: Sequence[Tensor], q: Tensor) -> None:
    """Bring K and V, or the latent, of the new tokens to where they are kept; `q` is normalised together with K."""
    if new[0].name == "latent":
        _norm(builder, new[0])
    for target in builder.table["kv"].stations[1:]:
        new, _ = builder.travel("", new, [new_tokens(builder, target)] * len(new))
    if builder.model.qk_norm:
        every = [one for one in (q, *new) if one.name in ("q", "k")]
        elements = sum(one.sharding.elements(one.sizes, builder.lengths) for one in every)
        builder.add(kernels.norm(builder.name("norm_q_k"), elements, builder.dtype))


def _on_chip(builder: Builder, q: Tensor, window: int | None, parts: int, ring: bool) -> _Here:
    """Return the sizes of attention on one chip. Raise LayoutError or ShardingError if q and kv do not fit."""
    m, used = builder.model, builder.table["kv"].used
    share = builder.share
    if not set(used.axes("K")) <= set(q.sharding.axes("H")):
        raise LayoutError(f"kv ends as {str(used)!r} and q as {str(q.sharding)!r}: K must be cut over axes of H", path=("kv",))
    both = [a for a in used.axes("L") if a in builder.table["q"].used.used]
    if both:
        raise LayoutError(f"kv ends as {str(used)!r} and q as {str(builder.table['q'].used)!r}: {both[0]} cuts the tokens of the "
                          f"context, so let q end without it: {str(builder.table['q'].used.without(both))!r}", path=("q",))
    local, cache = q.sharding.local(q.sizes, builder.lengths), DTYPE_BYTES[builder.layout.kv_cache]
    here = _Here(local["B"], local["L"], share.heads, share.columns, share.shared, m.d_head, m.value, float(share.kv_heads),
                 share.kept, m.d_head + m.value, cache, parts, ring, absorbed(m, builder.layout, builder.forward, window), window)
    if m.latent and here.absorbed:
        return replace(here, width=m.latent + m.latent_rope, value=m.latent, stored=m.latent + m.latent_rope)
    heads = float(share.heads)
    return replace(here, kv_heads=heads, kept=heads, bytes=builder.act) if m.latent else here


def _products(builder: Builder, here: _Here, q: Tensor) -> None:
    """Add the products of attention; before them the expansion of latents, and the gather of K and V that travel."""
    expanded = bool(builder.model.latent) and not here.absorbed
    if expanded:
        _expand(builder, here)
    loops = _gather(builder, here, q) if here.ring else ()
    held = expanded or (here.ring and not loops)  # whether K and V are alive beside the cache
    own = here.rows * here.length * here.columns * (here.width + here.value) * builder.act
    by_head = builder.kv_heads > 1 and not here.absorbed  # whether K and V have a dimension of heads
    name, new, part = builder.name("attention"), builder.forward.length, here.columns / here.heads

    def attention(attended: int) -> Compute:
        keys, read = reach(new, attended, here.window, builder.layout.attention_kernel)
        wide = here.rows * here.tokens(read) * here.kept * here.stored * here.bytes
        sizes = (here.rows, here.length, here.tokens(keys), here.heads, here.kv_heads, here.width * part, here.value * part)
        pieces = here.parts if here.ring else 1
        if builder.layout.attention_kernel == FUSED:
            return kernels.fused_attention(name, *sizes, wide + own, builder.dtype, parts=pieces, loops=loops)
        copied = wide * kernels.copies(here.kept, here.bytes) if by_head else 0.0
        return kernels.plain_attention(name, *sizes, wide + own, builder.dtype, parts=pieces, loops=loops, cached=read > new,
                                       copied=copied)

    def after(attended: int) -> Compute:
        keys, _ = reach(new, attended, here.window, builder.layout.attention_kernel)
        return kernels.after_scores(attention(attended), here.rows * here.length * here.heads * here.tokens(keys))

    if here.shared:
        _scores(builder, here, attention)
    made = _varying(builder, name, after if here.shared else attention)
    builder.peak = max(builder.peak, (made.hbm_bytes if held else own) + made.scratch)


def _scores(builder: Builder, here: _Here, attention: Callable[[int], Compute]) -> None:
    """Add the scores of a chip's columns, and the sums of those of each shared head over the chips that share it."""
    axes, share, stage = builder.axes(builder.table["q"].used.axes("H")), builder.share, len(builder.stages) > 1
    name = builder.name("scores")
    _varying(builder, name, lambda attended: kernels.scores(name, attention(attended)))
    met, _ = reach(builder.forward.length, builder.forward.attended, here.window, builder.layout.attention_kernel)
    keys = here.tokens(score_columns(met))
    size = here.rows * here.length * keys * kernels.SCORE_BYTES
    alike = share.sums == (((0, share.together - 1),),)  # all of these chips share one head
    exact = next((some for count in range(1, len(axes) + 1) for some in combinations(axes, count)
                  if alike and prod(builder.physical[a] for a in some) == share.together), axes if stage else ())
    if exact:
        builder.add(Collective(builder.name("reduce_scores"), "all_reduce", exact, here.shared * size,
                               builder.layout.collectives.get("all_reduce", "")))
        return
    for some in share.sums:
        builder.add(Collective(builder.name("reduce_scores"), "all_reduce", (), size,
                               groups=groups_of(axes, share.together, some, builder.physical)))


def _varying(builder: Builder, name: str, function: Callable[[int], Compute]) -> Compute:
    """Add an operation that depends on the number of attended tokens."""
    builder.attention[name] = function
    made = function(builder.forward.attended)
    builder.add(made)
    return made


def _expand(builder: Builder, here: _Here) -> None:
    """Add the making of K and V of all heads from the latents of a chip's tokens."""
    m, cache = builder.model, DTYPE_BYTES[builder.layout.kv_cache]
    width = here.heads * (m.d_head - m.latent_rope + m.value)
    name, latent = builder.name("expand_kv"), m.latent or 0

    def expand(attended: int) -> Compute:
        tokens = here.rows * -(-reach(builder.forward.length, attended, here.window)[1] // here.parts)
        moved = tokens * ((latent + m.latent_rope) * cache + here.heads * here.stored * here.bytes)
        return Compute(name, (Matmul(tokens, latent, width),), 0.0, moved + latent * width * builder.wide, builder.dtype)

    builder.peak = max(builder.peak, _varying(builder, name, expand).hbm_bytes)


def _gather(builder: Builder, here: _Here, q: Tensor) -> tuple[Loop, ...]:
    """Add the gather of K and V of all tokens that the chip's queries read; return the loops of attention with it."""
    used = builder.table["kv"].used
    tokens = here.tokens(reach(builder.forward.length, builder.forward.attended, here.window)[1])
    sizes = {"B": builder.forward.batch, "L": tokens, "K": ceil(here.kept * here.stored)}
    source = Sharding.of((("B", used.axes("B")), ("L", used.axes("L")), ("K", ())))
    value = q._replace(name="kv", sharding=source, sizes=sizes, bytes=here.bytes)
    _, ((name, step),) = builder.travel("", [value], [source.without(used.axes("L"))])
    loop = builder.table.loop
    if builder.layout.overlap is False or not (loop is None or set(step.axes) <= set(loop)):
        return ()
    return builder.looped(name, (1, 1, 1, here.parts))


def _combined(builder: Builder, here: _Here, out: Tensor) -> Tensor:
    """Add the exchange of maxima and sums, and the scaling of a part's outputs; return these, which are then partial sums."""
    axes = builder.axes(builder.table["kv"].used.axes("L"))
    outputs = here.rows * here.length * here.heads
    builder.add(Collective(builder.name("reduce_softmax"), "all_reduce", axes, outputs * STATISTICS * STATISTIC_BYTES,
                           builder.layout.collectives.get("all_reduce", "")))
    builder.add(kernels.rescaling(builder.name("rescale"), outputs * builder.model.value, builder.dtype))
    return out._replace(sharding=Sharding.of(out.sharding.dims, builder.table["kv"].used.axes("L")))


def _per_head(builder: Builder, wish: str, here: _Here, deep: int, across: int) -> None:
    """Add the product of each head's part of q or of the output with the up-projection of K or V."""
    rows = here.rows * here.length
    alive = rows * here.heads * (deep * builder.act + across * SUM_BYTES)
    builder.peak = max(builder.peak, alive)
    builder.add(Compute(builder.name(wish), (Matmul(rows, deep, across, here.heads),), 0.0,
                        here.heads * deep * across * builder.wide + alive, builder.dtype))
