"""The workload of a model, and the passes through its layers that it requires."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Balance:
    """How the tokens of a mixture are shared among the experts of a layer: uniformly, by Zipf's law, or by measured shares.

    `zipf`: expert i, counted from 1, has a share in proportion to i ** -zipf. `shares`: the share of each expert, one row for
    all mixture layers, or one for each of them.
    """

    zipf: float = 0.0
    shares: tuple[tuple[float, ...], ...] = ()

    def of(self, layer: int, experts: int) -> tuple[float, ...]:
        """Return the share of each expert in a mixture layer, counted from 0 among the mixture layers.

        >>> Balance(zipf=1.0).of(0, 2)
        (0.6666666666666666, 0.3333333333333333)
        """
        if self.shares:
            return self.shares[layer if len(self.shares) > 1 else 0]
        weights = [(i + 1) ** -self.zipf for i in range(experts)]
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def uniform(self) -> bool:
        """Whether all experts have the same share."""
        return not self.zipf and all(max(row) == min(row) for row in self.shares)


UNIFORM = Balance()


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
    balance: Balance = UNIFORM


@dataclass(frozen=True)
class Forward:
    """One pass through all layers: `length` new tokens of each of `batch` sequences, each attending to `attended`."""

    phase: str  # "prefill" or "decode"
    batch: int
    length: int
    attended: int
    balance: Balance = UNIFORM  # of the tokens among experts


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
            found.append(Forward("prefill", workload.batch, length, workload.cached + done, workload.balance))
    if workload.phase in ("decode", "generate"):
        read = workload.context + (workload.cached if workload.phase == "generate" else 0)
        found += [Forward("decode", workload.batch, 1, read + i, workload.balance) for i in range(workload.tokens)]
    return found


def ended_after(workload: Workload, done: int) -> Workload:
    """Return the workload that consists of the first passes, at least one: that of a run interrupted after them."""
    made = passes(workload)[:done]
    prompt, tokens = sum(one.length for one in made if one.phase == "prefill"), sum(one.phase == "decode" for one in made)
    if tokens:
        return replace(workload, tokens=tokens)
    return replace(workload, phase="prefill", context=prompt, chunk=min(workload.chunk or prompt, prompt))
