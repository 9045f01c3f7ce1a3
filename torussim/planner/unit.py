"""The search for the fastest way to run one phase at one batch: a queue of candidates in the order of their bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from torussim.planner.candidates import Candidate
from torussim.planner.pricing import Misfit, Priced, Pricing
from torussim.planner.streams import Stream
from torussim.scenario import Limit
from torussim.scenario.planning import FITS

TIE = 1e-9  # a bound within this share of a time is equal to it
ROUND = 9  # times that are equal to this many digits differ only by rounding

Order = tuple[float, float, float, int]


@dataclass(frozen=True, eq=False)
class Done:
    """A simulated candidate: the seconds of its phase and of a step, and its bottleneck, in words."""

    priced: Priced
    seconds: float
    step_s: float
    bound_by: str


@dataclass
class Unit:
    """The state of the search for one phase at one batch.

    `stream` has candidates without a price; `ahead` is a lower bound of their times. `broken` says which limit a candidate cannot
    meet.
    """

    phase: str
    batch: int
    pricing: Pricing
    broken: Callable[[Priced], Limit | None]
    stream: Stream = field(default_factory=lambda: iter(()))
    done: list[Done] = field(default_factory=list)
    limited: list[tuple[Priced, Limit]] = field(default_factory=list)
    misfits: list[Misfit] = field(default_factory=list)
    streamed: int = 0  # candidates that came from the stream
    _waiting: list[tuple[Order, Priced]] = field(default_factory=list)
    _head: tuple[float, Candidate] | None = None

    def add(self, candidate: Candidate) -> None:
        """Price a candidate. Put it into the queue if it fits and can meet the limits."""
        priced = self.pricing.of(candidate)
        if isinstance(priced, Misfit):
            self.misfits.append(priced)
        else:
            self._wait(priced)

    def _wait(self, priced: Priced) -> None:
        broken = self.broken(priced)
        if broken:
            self.limited.append((priced, broken))
        else:
            heappush(self._waiting, (order(priced), priced))

    @property
    def waiting(self) -> list[Priced]:
        """The candidates in the queue, in no order."""
        return [priced for _, priced in self._waiting]

    @property
    def known(self) -> list[Priced]:
        """The candidates that fit and can meet the limits."""
        return [*self.waiting, *(one.priced for one in self.done)]

    @property
    def fits(self) -> bool:
        """Whether a candidate fits into memory, as far as is known: candidates of the stream that do not fit are not in it."""
        return any(limit.what != FITS for _, limit in self.limited) or self.next < float("inf") or bool(self.done)

    @property
    def ahead(self) -> float:
        """The lower bound of all candidates of the stream, seconds."""
        if self._head is None:
            self._head = next(self.stream, None)
        return self._head[0] if self._head else float("inf")

    @property
    def fastest(self) -> float:
        """The least simulated time, seconds; infinite before the first simulation."""
        return min((one.seconds for one in self.done), default=float("inf"))

    def exact(self, same: float) -> bool:
        """Return whether the first time in the queue is known without a simulation: bound and closed form are equal."""
        first = self._waiting[0][1] if self._waiting else None
        return first is not None and first.tight and first.axes_s <= first.least_s * (1 + same)

    def second(self, same: float) -> float:
        """Return the least simulated time that is above the fastest by more than a share, seconds; infinite if there is none."""
        return min((one.seconds for one in self.done if one.seconds > self.fastest * (1 + same)), default=float("inf"))

    @property
    def best(self) -> Done:
        """The fastest simulated candidate; of equal ones the first of the space."""
        return min(self.done, key=lambda one: (rounded(one.seconds), one.priced.candidate.number))

    @property
    def next(self) -> float:
        """The lower bound of all candidates in queue and stream, seconds."""
        return min(self._waiting[0][1].least_s if self._waiting else float("inf"), self.ahead)

    @property
    def least(self) -> float:
        """The lower bound of all candidates, seconds."""
        return min(self.fastest, self.next)

    @property
    def settled(self) -> bool:
        """Whether no candidate in queue or stream can be faster than the simulated ones."""
        return self.next == float("inf") or self.next >= self.fastest * (1 - TIE)

    def first(self) -> Priced | None:
        """Return the candidate to simulate next, which stays in the queue; None if one was priced, or its bound improved.

        An interrupt (Ctrl-C) between two calls loses no candidate.
        """
        if self.ahead < (self._waiting[0][1].least_s if self._waiting else float("inf")):
            assert self._head is not None
            self.add(self._head[1])
            self.streamed, self._head = self.streamed + 1, None
            return None
        priced = self._waiting[0][1]
        if priced.tight:
            return priced
        tight = self.pricing.tightened(priced)
        heappop(self._waiting)
        self._wait(tight)
        return None

    def finish(self, one: Done) -> None:
        """Remove a simulated candidate from the queue."""
        if self._waiting[0][1] is one.priced:
            heappop(self._waiting)
        else:
            self._waiting = sorted(entry for entry in self._waiting if entry[1] is not one.priced)
        self.done.append(one)


def order(priced: Priced) -> Order:
    """Return the sort key of candidates: the lower bound, then the estimate, then the place in the space."""
    return rounded(priced.least_s), rounded(priced.axes_s), rounded(priced.paper_s), priced.candidate.number


def rounded(seconds: float) -> float:
    """Return a time without differences from rounding."""
    return float(f"{seconds:.{ROUND}e}")

