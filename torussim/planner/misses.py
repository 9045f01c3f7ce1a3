"""The reasons why a plan has no pick, in words: misfits, the candidates that each limit excludes, and the nearest miss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from torussim.errors import PlanError
from torussim.planner.pricing import Misfit, Priced, total_bytes
from torussim.planner.words import name_of
from torussim.scenario import Limit
from torussim.units import show


def none_fits(misfits: Sequence[Misfit]) -> PlanError:
    """Return the error for no candidate that fits the model, the batch and the mesh, with the most frequent reason."""
    ((reason, _),) = Counter(misfit.reason for misfit in misfits).most_common(1)
    count = sum(misfit.candidate.alike for misfit in misfits)
    phase = misfits[0].candidate.phase
    said = f"none of {count:,} layouts of the {phase} fits the model, the batch and the mesh: {reason}"
    return PlanError(said, code="no-layout")


def none_meets(limits: Sequence[Limit], limited: Sequence[tuple[Priced, Limit]], keys: Callable[[Priced], Mapping[str, float]],
               at_best: Mapping[int, Mapping[str, float]], open_: bool) -> PlanError:
    """Return the error for no candidate that meets the limits.

    `limited` are the candidates that cannot meet a limit; `keys` gives the best values that each can have. `at_best` has the best
    values of the other candidates, all phases together, by batch. `open_` says whether some candidates could meet the limits.
    """
    said = []
    for limit in limits:
        over = [one for one, broken in limited if broken == limit]
        said += [_excludes(limit, over, keys)] if over else []
        missed = {batch: found[limit.what] for batch, found in at_best.items()
                  if limit.what in found and not limit.met(found[limit.what])}
        if missed:
            near = min(missed, key=lambda batch: limit.miss(missed[batch]))
            said.append(f"{_bound(limit)} excludes {'the others' if limited else 'all'}; the nearest have "
                        f"{_shown(limit, missed[near])} at best, at batch {near}")
    said += ["others were not simulated: allow more with --simulations"] if open_ else []
    return PlanError(f"no layout meets the limits: {'; '.join(said)}", code="no-layout", path=("plan", "limits"))


def _excludes(limit: Limit, over: Sequence[Priced], keys: Callable[[Priced], Mapping[str, float]]) -> str:
    """Return in words the number of candidates that a limit excludes, and the candidate that misses it by least."""
    said = f"{_bound(limit)} excludes {sum(one.candidate.alike for one in over):,}"
    if limit.what == "memory.fits":
        near = min(over, key=lambda one: total_bytes(one.memory))
        share = total_bytes(near.memory) / near.memory.capacity
        return f"{said}; the nearest, {_named(near)}, needs {share:.4g} times the memory of a chip"
    near = min(over, key=lambda one: limit.miss(keys(one)[limit.what]))
    at_best = "" if limit.what.startswith("memory.") else " at best"
    return f"{said}; the nearest, {_named(near)}, has {_shown(limit, keys(near)[limit.what])}{at_best}"


def _named(one: Priced) -> str:
    return f"{name_of(one.candidate)} at batch {one.candidate.batch}"


def _bound(limit: Limit) -> str:
    """Return a limit in words: "step_s of at most 50 ms"."""
    bounds = [f"{word} {_shown(limit, value)}" for word, value in (("at most", limit.at_most), ("at least", limit.at_least))
              if value is not None and limit.what != "memory.fits"]
    return limit.what + (f" of {' and '.join(bounds)}" if bounds else "")


def _shown(limit: Limit, value: float) -> str:
    return show(value, limit.unit, 4) if limit.unit else f"{value:.4g}"
