"""Which link, or which chip, is slower than the scenario says: one after another, until nothing more is likely.

Each round takes every cable that carries traffic, and every chip whose computations are late, as a hypothesis. A simulation with
it slowed down gives its signature: by how much each operation on each chip takes longer. The few whose signatures fit best are
simulated at more speeds, and compared with each other and with the hypothesis that nothing more is slow, by their evidence: the
likelihood, times the prior, over all speeds. The prior draws everything to its nominal speed: nothing more is slow with a
probability of one half; else each cable, or chip, is as likely as any other, and the logarithm of its speed is uniform.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torussim import units
from torussim.measured.likelihood import Data, Fit, fitted
from torussim.measured.model import Model, State
from torussim.topology.faults import cables

Array = np.ndarray[Any, Any]

SCREENED = (3.0, 10.0)  # times as slow, for the signatures; the second where none of the first fits
SLOWER = (1.25, 1.6, 2.2, 3.0, 5.0, 10.0, 30.0)  # times as slow, simulated for those that are weighed
FITTING, WEIGHED = 24, 10  # signatures that fit best, by least squares and then, with single directions, by likelihood
WORTH = 3.0  # by how much a suspect must raise the log likelihood to be weighed; to be named it needs twice that
MOST, ROOM = 1000, 10_000_000  # signatures that are simulated in a round, and numbers that they have
NEAR = (0.85, 0.92, 0.96, 1.0, 1.04, 1.08, 1.15)  # of the likeliest speed, simulated at the end
NOTHING, LINKS, CHIPS = 0.5, 0.4, 0.1  # prior probabilities: nothing more is slow, some link is, some chip is
LATE = 0.03  # logarithm by which a chip's computations are late, beyond noise, for the chip to be a hypothesis
EDGE = 2.0  # by how much more the logarithm of the evidence must be, for the program to be taken to run in another way
HOPELESS, NEAR_BEST = 30.0, 0.25  # a score that is lower than the best by that, and by this part of its gain, is not weighed
ONE_WAY = 0.25  # prior of one direction of a cable alone, relative to the cable's
AT_ONCE = 2_000_000  # residuals that are fitted at once


@dataclass(frozen=True)
class Suspect:
    """A cable, by its links, or one direction of it; a chip; or links of one class, `of`, where times have no chips.

    `late`: how many times as long the computations of the chip take, as measured; `seen`: how times without chips follow from
    those of all chips: "median", "last" (the largest), or "chip" (those of the chip, here one at an end of the link); "" where
    each chip has its own.
    """

    links: tuple[int, ...] = ()
    chip: int = -1
    late: float = 0.0
    of: str = ""
    seen: str = ""

    def in_state(self, state: State, by: float) -> State:
        """Return a state with it `by` times as slow as there."""
        return state.slowed(np.array(self.links), by) if self.links else state.paced(self.chip, by)

    def times(self, model: Model, state: State) -> Array:
        """Return (operations, chips) seconds in a state, or (operations, 1) where times have no chips."""
        found = model.times(state)
        if self.seen == "chip":
            return found[:, [self.chip]]
        return found if not self.seen else (np.median if self.seen == "median" else np.max)(found, axis=1, keepdims=True)


Signatures = dict[tuple[int, Suspect, float], Array]  # by way, and how many times as slow: seconds more (operations, chips)


@dataclass(frozen=True, eq=False)
class Hypothesis:
    """A suspect; `by`: (n,) times as slow, rising, and `density` (n,) the evidence of each, up to a factor common to all.

    `prior`: its probability before; `evidence`: the logarithm of the integral of both.
    """

    suspect: Suspect
    by: Array
    density: Array
    prior: float
    evidence: float

    @property
    def best(self) -> float:
        """How many times as slow it is likeliest."""
        return float(self.by[self.density.argmax()])

    def interval(self, share: float = 0.9) -> tuple[float, float]:
        """Return between which factors it is with a probability, the same left out at either end."""
        mass = np.append(0.0, np.cumsum(_pieces(self.density, self.by)))
        low, high = np.interp([(1 - share) / 2, (1 + share) / 2], mass / mass[-1], np.log(self.by))
        return float(np.exp(low)), float(np.exp(high))


@dataclass(frozen=True, eq=False)
class Round:
    """The hypotheses that fit best on top of a state, the likeliest first, and the probability of each and of none.

    `evidence`: the logarithm of that of the likeliest of all.
    """

    state: State
    hypotheses: tuple[Hypothesis, ...]
    probability: Array
    nothing: float
    evidence: float


def suspects(model: Model, data: Data, fit: Fit, residuals: Array) -> list[Suspect]:
    """Return the cables that carry traffic, the likeliest MOST by what is late at their ends, and the chips that are late."""
    links = model.net.links
    late = residuals - fit.common[0, data.moves.astype(int)][:, None]
    numbers = cables(links)
    order = np.unique(numbers[model.timeline.link_bytes > 0])
    found = [Suspect(tuple(np.flatnonzero(numbers == number).tolist())) for number in order.tolist()]
    most = min(MOST, max(2 * FITTING, ROOM // residuals.size))
    if len(found) > most:
        at = np.append(_mean(late[data.moves]), np.zeros(len(links.nodes) - len(model.net.chips)))
        found = sorted(found, key=lambda one: -max(at[links.target[i]] for i in one.links))[:most]
    own = _mean((residuals - fit.factor[0][:, None])[~data.moves])
    least = LATE + fit.noise[0] / np.sqrt(max(1, (~data.moves).sum()))
    return found + [Suspect(chip=chip, late=float(np.exp(own[chip]))) for chip in np.flatnonzero(own > least).tolist()]


def classes(model: Model) -> list[Suspect]:
    """Return the links of each axis, or of each bandwidth where they are on none: all of them, and single ones.

    Single ones are the cables in line with the busiest, each seen by the last chip, and by one at its end.
    """
    links, sent, chips = model.net.links, model.timeline.link_bytes, len(model.net.chips)
    numbers, names = cables(links), list(links.axes)
    apart = len(set(links.bandwidth[links.axis < 0].tolist())) > 1
    label = np.array([f"axis {names[a]}" if a >= 0 else f"links of {units.show(rate, 'B/s')}" if apart else "links"
                      for a, rate in zip(links.axis.tolist(), links.bandwidth.tolist())])
    found = []
    for one in dict.fromkeys(label[sent > 0].tolist()):
        own = label == one
        busiest = int(np.where(own, sent, -1.0).argmax())
        line = [busiest]
        if links.axis[busiest] >= 0:
            others = np.delete(links.coordinates, links.axis[busiest], axis=0)
            in_line = (others[:, links.source[own]] == others[:, links.source[[busiest]]]).all(axis=0)
            line = np.flatnonzero(own)[in_line].tolist()
        found.append(Suspect(tuple(np.flatnonzero(own).tolist()), of=one, seen="median"))
        for link in {int(numbers[i]): i for i in line if sent[i] > 0}.values():
            cable = tuple(np.flatnonzero(numbers == numbers[link]).tolist())
            found.append(Suspect(cable, of=one, seen="last"))
            found += [Suspect(cable, chip=end, of=one, seen="chip") for end in sorted((links.source[link], links.target[link]))
                      if end < chips]
    return [replace(one, chip=int(one.chip)) for one in found]


def _mean(values: Array) -> Array:
    """Return the mean of each column over the numbers in it; 0 where there is none."""
    there = np.isfinite(values)
    return np.asarray(np.where(there, values, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1))


@dataclass(frozen=True, eq=False)
class _View:
    """A state, its times, how well it fits, and the suspects that are worth to be weighed on top of it, with their scores.

    `links`: how many cables, or classes of links, they are from.
    """

    state: State
    nothing: float
    worth: tuple[tuple[Suspect, float], ...]
    links: int

    @property
    def best(self) -> float:
        """The largest score."""
        return max([self.nothing, *(score for _, score in self.worth)])


def look(model: Model, data: Data, state: State, known: Signatures, progress: Callable[[], None] | None = None, *,
         ways: Sequence[int] = ()) -> Round:
    """Return what one more thing that is slow is likeliest to be, on top of a state, if anything is; `known` keeps signatures.

    `ways`: in which of these the program may run, in place of that of the state; the one in which most is explained is taken.
    """
    seen = Suspect(seen="" if data.logs.shape[1] == len(model.net.chips) else "median")
    views = [_view(model, data, replace(state, way=way), seen, known, progress) for way in ways or (state.way,)]
    best = max(view.best for view in views)
    least = best - max(HOPELESS, NEAR_BEST * (best - min(view.nothing for view in views)))
    rounds = [_round(model, data, view, least) for view in views if view.best >= least]
    return max(rounds, key=lambda one: one.evidence + EDGE * (one.state.way == state.way))


def _view(model: Model, data: Data, state: State, seen: Suspect, known: Signatures,
          progress: Callable[[], None] | None) -> _View:
    """Return which suspects are worth to be weighed on top of a state, by their signatures."""
    now = seen.times(model, state)
    nothing = fitted(data, data.residuals(now[None]))
    every = classes(model) if seen.seen else suspects(model, data, nothing, data.residuals(now))
    found = list[tuple[Suspect, float]]()

    def slowed(some: Sequence[Suspect], by: float) -> Array:
        """Return the times (suspects, operations, chips) when each is slow; on top of others the change is nearly the same."""
        for one in some:
            if (state.way, one, by) not in known:
                known[state.way, one, by] = one.times(model, one.in_state(state, one.late or by)) - now
            if progress:
                progress()
        return np.asarray(np.maximum(now + np.array([known[state.way, one, by] for one in some]), 0.0))

    for by in SCREENED if every else ():
        few = [every[i] for i in _fitting(data, now, nothing, slowed(every, by))]
        few += [Suspect((link,)) for one in few if len(one.links) == 2 and not seen.seen for link in one.links]
        found = _worth(data, now, nothing, few, slowed(few, by), by) if few else []
        if found:
            break
    return _View(state, float(nothing.score[0]), tuple(found), sum(bool(one.links) for one in every))


def _round(model: Model, data: Data, view: _View, least: float) -> Round:
    """Return the hypotheses on top of a state, of those suspects whose scores reach `least`."""
    links, chips = LINKS / max(1, view.links), CHIPS / len(model.net.chips)
    found = [weighed(model, data, view.state, one, links * (ONE_WAY if len(one.links) == 1 else 1.0) if one.links else chips)
             for one, score in view.worth if score >= least]
    found.sort(key=lambda h: -h.evidence)
    logs = np.array([np.log(NOTHING) + view.nothing, *(h.evidence for h in found)])
    share = np.exp(logs - logs.max())
    share /= share.sum()
    return Round(view.state, tuple(found), share[1:], float(share[0]), float(logs.max()))


def weighed(model: Model, data: Data, state: State, one: Suspect, prior: float, near: float = 0.0) -> Hypothesis:
    """Return the evidence of a suspect, from simulations at some speeds, more of them near one, and what lies between them.

    The end of an operation is a maximum of sums of times of messages, each as many times longer as its link is slower: between
    two speeds that were simulated it is nearly straight in that factor.
    """
    knots = np.unique([1.0, *SLOWER, *(by for share in NEAR if (by := near * share) > 1)])
    times = np.stack([one.times(model, one.in_state(state, by)) for by in knots.tolist()])

    def scores(by: Array) -> Array:
        right = np.clip(np.searchsorted(knots, by), 1, len(knots) - 1)
        share = ((by - knots[right - 1]) / (knots[right] - knots[right - 1]))[:, None, None]
        at = max(1, AT_ONCE // times[0].size)
        return np.concatenate([fitted(data, data.residuals(
            (1 - share[p]) * times[right[p] - 1] + share[p] * times[right[p]])).score
            for p in (slice(i, i + at) for i in range(0, len(by), at))])
    coarse = np.exp(np.linspace(0, np.log(knots[-1]), 25)[1:])
    at_coarse = scores(coarse)
    best = int(at_coarse.argmax())
    around = np.append(1.0, coarse)[best], coarse[min(best + 1, len(coarse) - 1)]
    fine = np.exp(np.linspace(np.log(around[0]), np.log(around[1]), 26)[1:-1])
    speeds, first = np.unique(np.concatenate([coarse, fine]), return_index=True)
    found = np.concatenate([at_coarse, scores(fine)])[first]
    density = np.exp(found - found.max())
    integral = float(_pieces(density, speeds).sum() / np.log(knots[-1]))
    return Hypothesis(one, speeds, density, prior, float(found.max() + np.log(max(integral, 1e-300)) + np.log(prior)))


def _pieces(density: Array, by: Array) -> Array:
    """Return the integral of a density of the logarithm of `by` between each two of its points."""
    return np.asarray((density[1:] + density[:-1]) / 2 * np.diff(np.log(by)))


def _fitting(data: Data, now: Array, nothing: Fit, slowed: Array) -> list[int]:
    """Return which of the times (suspects, operations, chips) change as the measured ones do, FITTING at the most.

    By least squares, with and without a factor of each operation.
    """
    late = data.residuals(now) - nothing.common[0, data.moves.astype(int)][:, None]
    there = np.isfinite(late)
    weight = np.where(there, 1 / np.maximum(data.variance, 1e-12), 0.0)
    weight /= weight.max(initial=1e-300)
    e, d = np.where(there, late, 0.0), np.log((slowed + data.floor) / (now + data.floor))

    def gains(e: Array, d: Array) -> Array:
        along = (weight * e * d).sum(axis=(1, 2))
        size = (weight * d * d).sum(axis=(1, 2))
        return np.where((along > 0) & (size > 1e-12), along**2 / np.maximum(size, 1e-12), 0.0)

    def centred(values: Array) -> Array:
        total = np.maximum(weight.sum(axis=1), 1e-300)[:, None]
        return np.asarray(values - (weight * values).sum(axis=-1, keepdims=True) / total)
    both = gains(e, d), gains(centred(e), centred(d))
    order = [np.argsort(-g, kind="stable").tolist() for g in both]
    return list(dict.fromkeys(i for pair in zip(*order) for i in pair if max(both[0][i], both[1][i]) > 0))[:FITTING]


def _worth(data: Data, now: Array, nothing: Fit, few: Sequence[Suspect], slowed: Array,
           by: float) -> list[tuple[Suspect, float]]:
    """Return the suspects that are worth to be weighed, by their times when they are `by` times as slow; chips: as measured.

    They are fitted at all speeds, as if times were straight in the speed; each with its largest log likelihood.
    """
    speeds, best = np.array([1.05, 1.25, *SLOWER])[:, None, None], list[tuple[Suspect, float]]()
    for one, times in zip(few, slowed):
        straight = np.maximum(now + (times - now) * (speeds - 1) / ((one.late or by) - 1), 0.0)
        best.append((one, float(fitted(data, data.residuals(straight)).score.max())))
    best.sort(key=lambda pair: -pair[1])
    return [pair for pair in best[:WEIGHED] if pair[1] > nothing.score[0] + WORTH]
