"""The memory that one chip must have, and the longest context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torussim.attending import weights
from torussim.errors import ShardingError
from torussim.keeping import cached, longest
from torussim.kernels import SUM_BYTES
from torussim.layouts import Layout
from torussim.mixture import ffn_bytes
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

    With pipeline stages it is a chip of the stage with the most.

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
        return _memory(made, workload, hbm_bytes)
    except ShardingError as error:
        raise made[0].located(error) from None


def _memory(builders: Sequence[Builder], workload: Workload, hbm_bytes: float) -> Memory:
    """Return the memory of one chip for the passes of these builders, which are built."""
    builder = builders[0]
    m, t, n = builder.model, builder.table, builder.lengths
    attention = builder.wide * sum(t[w].stored.elements(sizes, n) for w, sizes in weights(builder).items())
    table = builder.wide * builder.embedding.elements({"E": m.d_model, "V": builder.vocabulary}, n)
    last, held = len(builder.stages) - 1, list[tuple[float, float]]()
    for stage, layers in enumerate(builder.stages):
        tables = table * (1 if m.tied and not last else (stage == 0) + (stage == last))
        held.append((attention * len(layers) + ffn_bytes(builder, layers) + tables, cached(builder, workload.held, layers)))
    most, cache = max(held, key=sum)
    return Memory(most, cache, max(map(_activations, builders)), hbm_bytes,
                  min(longest(builder, workload.cache_share * hbm_bytes, layers) for layers in builder.stages))


def _activations(builder: Builder) -> float:
    """Return the bytes of the residual and of the largest operation of a built pass."""
    residual = builder.table["residual"].stored
    return residual.elements(builder.tokens(E=builder.model.d_model), builder.lengths) * SUM_BYTES + builder.peak
