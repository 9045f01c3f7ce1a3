"""How well simulated times explain measured ones, whatever the whole computes, or sends, slower than simulated.

A residual is the logarithm of measured over simulated time of an operation on a chip. It is the sum of
- a factor common to all computations, and one common to all collectives: the preset of a chip can be some percent off;
- a factor of the operation on all chips, 5 % wide: its model can be off, or the operation is slow everywhere;
- noise, whose size is unknown.
The second and the third have Student's t distribution of few degrees of freedom, so that single outliers do not decide. All three
are fitted anew for each hypothesis (expectation maximisation), for many hypotheses at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

FREEDOM = 4.0  # degrees of, of both t distributions
COMMON = 0.3  # standard deviation of the logarithm of a common factor
OWN = 0.05  # scale of the logarithm of an operation's own factor
PRIOR = 8.0  # measurements that the assumed size of the noise counts as
ROUNDS = 12


@dataclass(frozen=True, eq=False)
class Data:
    """Measured times: `logs` (operations, chips) of seconds, NaN where there is none; the same shape `variance`, relative.

    `noise`: the standard deviation that is assumed of a logarithm of variance 1; `moves`: (operations,) which are collectives.
    """

    logs: Array
    variance: Array
    noise: float
    moves: Array
    floor: Array  # (operations, 1) seconds, added to each time before the logarithm: what is shorter than that says little

    def residuals(self, seconds: Array) -> Array:
        """Return measured over simulated, logarithms, for simulated times (..., operations, chips) in seconds."""
        return np.asarray(self.logs - np.log(seconds + self.floor))


@dataclass(frozen=True, eq=False)
class Fit:
    """How well each of H hypotheses does: `score` (H,), its log likelihood; `factor` (H, operations), logarithms.

    `common`: (H, 2), of computations and of collectives; `noise`: (H,).
    """

    score: Array
    factor: Array
    common: Array
    noise: Array


def fitted(data: Data, residuals: Array) -> Fit:
    """Return the fit of residuals (H, operations, chips)."""
    there = np.isfinite(residuals)
    r = np.where(there, residuals, 0.0)
    variance = np.where(there, np.maximum(data.variance, 1e-12), 1.0)
    precision = there / variance  # (H, operations, chips)
    count = there.sum(axis=(1, 2))
    kinds = np.stack([~data.moves, data.moves]).astype(float)  # (2, operations)
    seen = there.any(axis=2)
    size = np.full(len(r), data.noise)
    factor = np.array(_medians(r, there))
    common = np.zeros((len(r), 2))
    weight = np.ones_like(r)
    for _ in range(ROUNDS):
        own = (FREEDOM + 1) / (FREEDOM + ((factor - common @ kinds) / OWN) ** 2) * seen / OWN**2  # (H, operations)
        common = (own * factor) @ kinds.T / (own @ kinds.T + COMMON**-2)
        told = weight * precision / (size**2)[:, None, None]
        factor = ((told * r).sum(axis=2) + own * (common @ kinds)) / np.maximum(told.sum(axis=2) + own, 1e-300)
        square = (r - factor[:, :, None]) ** 2 * precision
        weight = (FREEDOM + 1) / (FREEDOM + square / (size**2)[:, None, None])
        size = np.sqrt(((weight * square).sum(axis=(1, 2)) + PRIOR * data.noise**2) / (count + PRIOR))
    half = (FREEDOM + 1) / 2
    away = (factor - common @ kinds) / OWN
    score = (-half * (np.log1p(square / FREEDOM / (size**2)[:, None, None])).sum(axis=(1, 2)) - count * np.log(size)
             - PRIOR * (np.log(size) + data.noise**2 / (2 * size**2))
             - half * (np.log1p(away**2 / FREEDOM) * seen).sum(axis=1) - (common**2).sum(axis=1) / (2 * COMMON**2))
    return Fit(score, factor, common, size)


def _medians(r: Array, there: Array) -> Array:
    """Return (H, operations) the medians over the chips that there are; 0 where there is none."""
    if there.all():
        return np.asarray(np.median(r, axis=2))
    ordered = np.sort(np.where(there, r, np.inf), axis=2)
    middle = np.maximum(there.sum(axis=2) - 1, 0) // 2
    found = np.take_along_axis(ordered, middle[:, :, None], axis=2)[:, :, 0]
    return np.where(np.isfinite(found), found, 0.0)
