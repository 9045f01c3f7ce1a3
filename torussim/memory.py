"""The memory that one chip must have, and the longest context."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torussim.attending import weights
from torussim.errors import ShardingError
from torussim.keeping import UNLIMITED, cached, longest
from torussim.kernels import SUM_BYTES
from torussim.layouts import Layout
from torussim.models import Model
from torussim.transformer import Builder
from torussim.workload import Forward, Workload, passes


@dataclass(frozen=True)
class Memory:
    """Bytes on one chip; `longest_context` in tokens: as many of each sequence's K and V as fit into `cache_share` of HBM.

    It is `keeping.UNLIMITED` if every layer has a window and the caches of all of them fit.
    """

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
        return _together((held, _memory(drafts, workload, hbm_bytes)), (made[0], drafts[0]), workload) if drafts else held
    except ShardingError as error:
        raise made[0].located(error) from None


def _together(some: Sequence[Memory], builders: Sequence[Builder], workload: Workload) -> Memory:
    """Return the memory of a chip that runs several models in turn: their weights and caches, and the largest activations."""
    room = workload.cache_share * some[0].capacity
    fits = bisect_right(range(UNLIMITED + 1), room, key=lambda tokens: sum(cached(builder, tokens) for builder in builders))
    return Memory(sum(one.weights for one in some), sum(one.kv_cache for one in some), max(one.activations for one in some),
                  some[0].capacity, fits - 1)


def _memory(builders: Sequence[Builder], workload: Workload, hbm_bytes: float) -> Memory:
    """Return the memory of one chip for the passes of these builders, which are built."""
    builder = builders[0]
    m, t, n = builder.model, builder.table, builder.lengths
    ffn = {"w_in": {"E": m.d_model, "F": m.d_ff * (2 if m.gated else 1)}, "w_out": {"F": m.d_ff, "E": m.d_model}}
    layer = sum(t[w].stored.elements(sizes, n) for w, sizes in {**ffn, **weights(builder)}.items())
    table = builder.embedding.elements({"E": m.d_model, "V": builder.vocabulary}, n) * (1 if m.tied else 2)
    return Memory((layer * m.layers + table) * builder.wide, cached(builder, workload.held), max(map(_activations, builders)),
                  hbm_bytes, longest(builder, workload.cache_share * hbm_bytes))


def _activations(builder: Builder) -> float:
    """Return the bytes of the residual and of the largest operation of a built pass."""
    residual = builder.table["residual"].stored
    return residual.elements(builder.tokens(E=builder.model.d_model), builder.lengths) * SUM_BYTES + builder.peak
