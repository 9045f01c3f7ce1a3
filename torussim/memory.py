"""The memory that one chip must have, and the longest context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torussim.chips import DTYPE_BYTES
from torussim.errors import ShardingError
from torussim.kernels import SUM_BYTES
from torussim.layouts import Layout
from torussim.models import Model
from torussim.sharding import divide
from torussim.transformer import Builder
from torussim.workload import Forward, Workload, passes


@dataclass(frozen=True)
class Memory:
    """Bytes on one chip; `longest_context` in tokens: as many of each sequence's K and V as fit into `cache_share` of HBM."""

    weights: float
    kv_cache: float
    activations: float
    capacity: float
    longest_context: int

    @property
    def fits(self) -> bool:
        """Whether all parts together fit into HBM."""
        return self.weights + self.kv_cache + self.activations <= self.capacity


def memory(model: Model, layout: Layout, workload: Workload, axes: Mapping[str, int], hbm_bytes: float,
           phase: str | None = None, *, builders: Mapping[Forward, Builder] | None = None) -> Memory:
    """Return the largest memory of one chip in a workload, or in one phase of it; sequences that pad the batch count.

    `builders` are the existing ones of its passes.

    Activations are the residual, and the largest total of reads and writes of one operation of any pass, with gathered weights
    that no loop takes piece by piece, and with the scores of attention.
    """
    todo = [f for f in passes(workload) if phase in (None, f.phase)]
    largest = dict.fromkeys((max(todo, key=lambda f: f.length), todo[-1]))
    made = [(builders or {}).get(f) or Builder(model, layout, f, axes) for f in largest]
    for one in made:
        one.build()
    try:
        held = _memory(made, workload, hbm_bytes)
        drafts = [one.draft for one in made if one.draft]
        return _together(held, _memory(drafts, workload, hbm_bytes), workload) if drafts else held
    except ShardingError as error:
        raise made[0].located(error) from None


def _together(one: Memory, other: Memory, workload: Workload) -> Memory:
    """Return the memory of a chip that runs two models in turn: weights and caches of both, the larger activations."""
    cache = one.kv_cache + other.kv_cache
    return Memory(one.weights + other.weights, cache, max(one.activations, other.activations), one.capacity,
                  int(workload.cache_share * one.capacity * workload.held / cache))


def _memory(builders: Sequence[Builder], workload: Workload, hbm_bytes: float) -> Memory:
    """Return the memory of one chip for the passes of these builders, which are built."""
    builder = builders[0]
    m, t, n, layout = builder.model, builder.table, builder.lengths, builder.layout
    widths = {"w_in": ("F", m.d_ff * (2 if m.gated else 1)), "w_out": ("F", m.d_ff), "w_q": ("H", builder.heads * m.d_head),
              "w_o": ("H", builder.heads * m.d_head), "w_k": ("K", builder.kv_heads * m.d_head),
              "w_v": ("K", builder.kv_heads * m.d_head)}
    layer = sum(t[w].stored.elements({"E": m.d_model, dim: size}, n) for w, (dim, size) in widths.items())
    table = builder.embedding.elements({"E": m.d_model, "V": builder.vocabulary}, n) * (1 if m.tied else 2)
    kv = t["kv"].used
    rows = divide(builder.forward.batch, "B", kv, n)
    a_token = m.layers * rows * kv_heads_kept(builder) * m.d_head * 2 * DTYPE_BYTES[layout.kv_cache]
    return Memory((layer * m.layers + table) * builder.wide, a_token * workload.held, max(map(_activations, builders)), hbm_bytes,
                  int(workload.cache_share * hbm_bytes / a_token))


def kv_heads_kept(builder: Builder) -> int:
    """Return the KV heads that a chip keeps: those that its queries read.

    With more chips than heads, heads are partly replicated (paper, 3.3).
    """
    q, kv, lengths = builder.table["q"].used, builder.table["kv"].used, builder.lengths
    mine = divide(builder.heads, "H", q, lengths, what="heads")
    read = -(-mine * builder.kv_heads // builder.heads)
    return min(divide(builder.kv_heads, "K", kv, lengths, what="KV heads"), read)


def _activations(builder: Builder) -> float:
    """Return the bytes of the residual and of the largest operation of a built pass."""
    residual = builder.table["residual"].stored
    return residual.elements(builder.tokens(E=builder.model.d_model), builder.lengths) * SUM_BYTES + builder.peak
