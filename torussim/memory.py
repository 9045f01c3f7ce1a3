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
    made = [(builders or {}).get(f) or Builder(model, layout, f, axes) for f in largest(todo)]
    for one in made:
        one.build()
    drafts = [one.draft for one in made if one.draft]
    try:
        return _memory([made, drafts] if drafts else [made], workload, hbm_bytes)
    except ShardingError as error:
        raise made[0].located(error) from None


def largest(todo: Sequence[Forward]) -> list[Forward]:
    """Return the passes of a phase that decide its memory: that with the most new tokens, and the last one."""
    return list(dict.fromkeys((max(todo, key=lambda f: f.length), todo[-1])))


def _memory(models: Sequence[Sequence[Builder]], workload: Workload, hbm_bytes: float) -> Memory:
    """Return the memory of one chip, in the stage with the most, for models that run in turn; of each its passes, built."""
    builders, room = [some[0] for some in models], workload.cache_share * hbm_bytes
    stages = range(len(builders[0].stages))
    held = [[_held(builder, stage, workload.held) for builder in builders] for stage in stages]
    most, cache = max(((sum(one[0] for one in some), sum(one[1] for one in some)) for some in held), key=sum)
    return Memory(most, cache, max(_activations(one) for some in models for one in some), hbm_bytes,
                  min(_longest(builders, stage, room) for stage in stages))


def _held(builder: Builder, stage: int, tokens: int) -> tuple[float, float]:
    """Return the bytes of the weights and the cache of a stage on one chip."""
    m, t, n, layers = builder.model, builder.table, builder.lengths, builder.stages[stage]
    attention = builder.wide * sum(t[w].stored.elements(sizes, n) for w, sizes in weights(builder).items())
    table = builder.wide_of("embedding") * builder.embedding.elements({"E": m.d_model, "V": builder.vocabulary}, n)
    last = len(builder.stages) - 1
    tables = table * (1 if m.tied and not last else (stage == 0) + (stage == last))
    return attention * len(layers) + ffn_bytes(builder, layers) + tables, cached(builder, tokens, layers)


def _longest(builders: Sequence[Builder], stage: int, room: float) -> int:
    """Return the longest context for which the caches of all models fit into this room on a chip of a stage, bytes."""
    if len(builders) == 1:
        return longest(builders[0], room, builders[0].stages[stage])

    def caches(tokens: int) -> float:
        return sum(cached(builder, tokens, builder.stages[stage]) for builder in builders)
    return bisect_right(range(UNLIMITED + 1), room, key=caches) - 1


def _activations(builder: Builder) -> float:
    """Return the bytes of the residual and of the largest operation of a built pass."""
    residual = builder.table["residual"].stored
    return residual.elements(builder.tokens(E=builder.model.d_model), builder.lengths) * SUM_BYTES + builder.peak
