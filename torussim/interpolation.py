"""Values at many points from values at a few, with a bound on the error of their sum.

A convex function lies below its chord between two points, and above the extensions of the neighbouring chords. If chord and
extensions agree, the values between are known. If they are too far apart, the function is evaluated at one more point, where the
extensions meet. The time of a pass on private links is such a function of the time of its attention: a maximum of sums, each of
which has each run of attention at most once. The module knows nothing of passes (docs/design.md, section 4, Passes).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
FEW = 64  # points; up to this number, values are equal to evaluated ones to within SURE
SURE = 1e-9  # of a value
TOLERANCE = 1e-4  # of a value, above FEW points
ROUNDING = 1e-11  # of a value: repetition is recognised to 1e-12 of a block (engine.steady_state)
CHECKED = 8  # spans of a function that may not be convex; each is evaluated at its middle


@dataclass(frozen=True)
class Span:
    """Points whose values are known: the points before `stop` that no earlier span had.

    `weights` has, by the index of an evaluated point, the number of these points that it represents. `error` is the largest
    possible error of the sum.
    """

    stop: int
    weights: Mapping[int, float]
    error: float = 0.0


def tolerance(points: int) -> float:
    """Return the allowed error of a value, as a share of it."""
    return SURE if points <= FEW else TOLERANCE


def each(points: int) -> Iterator[Span]:
    """Yield every point as a span of its own."""
    return (Span(i + 1, {i: 1.0}) for i in range(points))


def spans(x: Array, value: Callable[[int], float], steepest: float, near: float, *, convex: bool = True) -> Iterator[Span]:
    """Yield spans from the first point to the last, with few evaluations.

    Parameters
    ----------
    x
        The points, (n,), in non-decreasing order.
    value
        Called with the index of a point, returns the value there: a function of x that never falls.
    steepest
        The largest slope of the function.
    near
        The allowed error of the value of a point, as a share of it.
    convex
        Whether the function is known to be convex. Otherwise a span counts as straight if its middle does: the error is then that
        of the middle, which proves nothing.
    """
    known = {0: value(0)}
    yield Span(1, {0: 1.0})
    here, rise, last = 0, 0.0, len(x) - 1
    first = [last] if convex else np.unique(np.linspace(0, last, CHECKED + 1).astype(int))[:0:-1].tolist()
    wanted: list[tuple[int, float | None]] = [(i, None) for i in first if i]  # the next point is last; with the error of its span
    while wanted:
        there, off = wanted[-1]
        if there not in known:
            known[there] = value(there)
        inside = slice(here + 1, there)
        share = _share(x, here, there)
        chord = known[here] + share * (known[there] - known[here])
        if convex:
            after = wanted[-2][0] if len(wanted) > 1 else there
            beyond = _rise(x, known, there, after, steepest) if after in known else steepest
            floor = np.maximum(known[here] + rise * (x[inside] - x[here]), known[there] - beyond * (x[there] - x[inside]))
            gap = np.maximum(chord - floor, 0.0)
            if (gap > near * chord).any():
                wanted.append((here + 1 + int((gap / chord).argmax()), None))
                continue
        else:
            middle = (here + there) // 2
            if off is None and middle > here:
                known[middle] = value(middle)
                off = abs(float(known[middle] / chord[middle - here - 1]) - 1)
                if off <= near:
                    wanted[-1] = there, off
                wanted.append((middle, off if off <= near else None))
                continue
            gap = (off or 0.0) * chord
        wanted.pop()
        weights = {here: float((1 - share).sum()), there: float(share.sum()) + 1.0}
        rise, here = _rise(x, known, here, there, 0.0), there
        yield Span(there + 1, weights, float((gap + ROUNDING * chord).sum()))


def _share(x: Array, here: int, there: int) -> Array:
    """Return the relative position of each point between two points, 0 to 1."""
    way, between = x[there] - x[here], x[here + 1:there] - x[here]
    return np.asarray(between / way) if way > 0 else np.ones(len(between))


def _rise(x: Array, known: Mapping[int, float], here: int, there: int, otherwise: float) -> float:
    """Return the slope of a chord, or `otherwise` if it has no length."""
    return float((known[there] - known[here]) / (x[there] - x[here])) if x[there] > x[here] else otherwise
