"""The workload of a model, and the passes through its layers that it requires."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from torussim.models import Model


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
    """The workload of a model, in tokens and sequences. `cache_share` is the share of HBM for longest_context.

    With `draft`, decode steps are speculative: each runs the next token and `draft` proposed tokens of every sequence, of which
    `accepted` are kept in the mean (Leviathan et al. 2023, arXiv:2211.17192). `tokens` counts steps. A `draft_model` makes the
    proposed tokens, one after another, and reads the prompt too; None: they cost nothing.
    """

    phase: str  # "prefill", "decode" or "generate"
    batch: int
    context: int
    tokens: int = 1
    cached: int = 0
    chunk: int | None = None
    cache_share: float = 0.30
    draft: int = 0
    accepted: float = 0.0
    balance: Balance = UNIFORM
    draft_model: Model | None = None
    host: bool = False  # whether the host takes time before each pass

    @property
    def yields(self) -> float:
        """The tokens of a sequence that a decode step yields, in the mean.

        >>> Workload("decode", 8, 100).yields, Workload("decode", 8, 100, draft=4, accepted=3.1).yields
        (1, 4.1)
        """
        return 1 + self.accepted if self.draft else 1

    @property
    def held(self) -> int:
        """The most tokens of a sequence in the cache, in the mean: those of the last pass, with its new ones.

        >>> Workload("decode", 8, 100, tokens=3).held, Workload("decode", 8, 100, 3, draft=4, accepted=1.7).held
        (103, 111)
        """
        before = self.context + (self.cached if self.phase != "decode" else 0)
        return before + (next(_yielded(self, [self.tokens - 1])) + 1 + self.draft if self.phase != "prefill" else 0)


@dataclass(frozen=True)
class Forward:
    """One pass through all layers: `length` new tokens of each of `batch` sequences, each attending to `attended`.

    A prefill yields the logits of the last position of each sequence, a decode step those of all its new tokens. Before it runs
    the `draft_model`, if there is one: the same pass of a prefill, or length - 1 decode steps of one token.
    """

    phase: str  # "prefill" or "decode"
    batch: int
    length: int
    attended: int
    balance: Balance = UNIFORM  # of the tokens among experts
    draft_model: Model | None = None
    host: bool = False  # whether the program begins with the work of the host

    @property
    def positions(self) -> int:
        """The new tokens of a sequence whose logits are computed."""
        return self.length if self.phase == "decode" else 1


def passes(workload: Workload) -> list[Forward]:
    """Return the passes of a workload, in order.

    Prefill attends to the cached tokens and to its whole chunk; decode step i reads context + i tokens. A speculative step i
    reads context + i (1 + accepted) tokens, rounded up, and its proposed tokens.
    """
    found = []
    if workload.phase in ("prefill", "generate"):
        chunk, done = workload.chunk or workload.context, 0
        while done < workload.context:
            length = min(chunk, workload.context - done)
            done += length
            found.append(Forward("prefill", workload.batch, length, workload.cached + done, workload.balance,
                                 workload.draft_model, workload.host))
    if workload.phase in ("decode", "generate"):
        read = workload.context + (workload.cached if workload.phase == "generate" else 0)
        found += [Forward("decode", workload.batch, 1 + workload.draft, read + more + workload.draft, workload.balance,
                          workload.draft_model, workload.host) for more in _yielded(workload, range(workload.tokens))]
    return found


def _yielded(workload: Workload, steps: Iterable[int]) -> Iterator[int]:
    """Yield the tokens of a sequence that so many steps yield, in the mean, rounded up; 10 steps of 1.1 tokens yield 11."""
    share = Fraction(str(workload.yields))
    return (-(-some * share.numerator // share.denominator) for some in steps)


def ended_after(workload: Workload, done: int) -> Workload:
    """Return the workload that consists of the first passes, at least one: that of a run interrupted after them."""
    made = passes(workload)[:done]
    prompt, tokens = sum(one.length for one in made if one.phase == "prefill"), sum(one.phase == "decode" for one in made)
    if tokens:
        return replace(workload, tokens=tokens)
    return replace(workload, phase="prefill", context=prompt, chunk=min(workload.chunk or prompt, prompt), draft=0, accepted=0.0)
