"""The workload of a model, and the passes through its layers that it requires."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Workload:
    """The workload of a model, in tokens and sequences. `cache_share` is the share of HBM for longest_context."""

    phase: str  # "prefill", "decode" or "generate"
    batch: int
    context: int
    tokens: int = 1
    cached: int = 0
    chunk: int | None = None
    cache_share: float = 0.30


@dataclass(frozen=True)
class Forward:
    """One pass through all layers: `length` new tokens of each of `batch` sequences, each attending to `attended`."""

    phase: str  # "prefill" or "decode"
    batch: int
    length: int
    attended: int


def passes(workload: Workload) -> list[Forward]:
    """Return the passes of a workload, in order.

    Prefill attends to the cached tokens and to its whole chunk (masked products are computed as well); decode step i reads
    context + i tokens.
    """
    found = []
    if workload.phase in ("prefill", "generate"):
        chunk, done = workload.chunk or workload.context, 0
        while done < workload.context:
            length = min(chunk, workload.context - done)
            done += length
            found.append(Forward("prefill", workload.batch, length, workload.cached + done))
    if workload.phase in ("decode", "generate"):
        read = workload.context + (workload.cached if workload.phase == "generate" else 0)
        found += [Forward("decode", workload.batch, 1, read + i) for i in range(workload.tokens)]
    return found


def ended_after(workload: Workload, done: int) -> Workload:
    """Return the workload that consists of the first passes, at least one: that of a run interrupted after them."""
    made = passes(workload)[:done]
    prompt, tokens = sum(one.length for one in made if one.phase == "prefill"), sum(one.phase == "decode" for one in made)
    if tokens:
        return replace(workload, tokens=tokens)
    return replace(workload, phase="prefill", context=prompt, chunk=min(workload.chunk or prompt, prompt))
