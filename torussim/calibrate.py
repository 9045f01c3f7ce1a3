"""Files of measurements -> calibrated parameters of their chip, the standard deviations of these, and the residual errors.

The fit is least squares (soft L1). The residuals are log(simulated / measured) / SPREAD of each distinct point, and
log(parameter / prior) / sigma of each parameter, so that few points cannot move a parameter far from its prior. Parameters that
the data do not constrain keep the chip's value, as many as the fit allows: of two parameters that explain the same data, one is
fitted. There are no random numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from math import exp, inf, log
from pathlib import Path
from typing import Any, Final

import numpy as np

from torussim import measurements, resolve
from torussim.cases import Case, case
from torussim.chips import Chip
from torussim.errors import Mistake, TorusSimError
from torussim.tables import table
from torussim.trust import Trust

SPREAD = 0.03  # of one measurement: the paper's tables and figures differ by 2 to 4 % at the same point
CONSTRAINED = 0.7  # the data constrain a parameter if they bring its deviation below this share of its prior's
SPARE = 2.0  # the largest total cost of keeping parameters at their values: a factor of e**2 of likelihood


@dataclass(frozen=True)
class Prior:
    """The prior of a parameter: a value, and one standard deviation of its logarithm."""

    value: float
    sigma: float
    meaning: str


PRIORS: Final[Mapping[str, Prior]] = {
    "matmul_efficiency": Prior(0.90, 0.06, "of the matrix unit's peak, tiles full"),
    "load_rows": Prior(64, 0.5, "rows that would go through a tile while its weights are loaded"),
    "hbm_efficiency": Prior(0.85, 0.10, "of HBM's bandwidth"),
    "link_efficiency": Prior(0.95, 0.03, "of a link's bandwidth (TPU v5e's, scaling book)"),
    "launch": Prior(2.7e-6, 0.4, "s, of a collective (TPU v5e's, from scaling book)"),
    "link_latency": Prior(1e-6, 0.3, "s, of a hop (scaling book)"),
    "message": Prior(0.1e-6, 0.7, "s, of each message of an all-to-all, and of each piece in one"),
    "op_overhead": Prior(1.5e-6, 0.5, "s, of a kernel: what a compiler makes of an operation"),
    "loop_step": Prior(1e-6, 0.5, "s, of a step of a looped einsum"),
}
MEANINGS: Final[Mapping[str, str]] = {
    **{name: prior.meaning.partition(" (")[0] for name, prior in PRIORS.items()},
    "step_overhead": "s, of the host and the runtime before each pass",
    "bulk_launch": "s, of a collective in the protocol for long messages, besides launch",
    "low_latency_rate": "of what a link passes: data, in the protocol for short messages",
    "in_switch_rate": "of what a link passes: what a switch sums",
}
_SHARES = ("matmul_efficiency", "hbm_efficiency", "link_efficiency", "shared_efficiency", "low_latency_rate",
           "in_switch_rate")  # at most 1
_PLAIN = (*_SHARES, "load_rows")  # without a unit

Array = np.ndarray[Any, Any]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Parameter:
    """One parameter. `deviation` is one standard deviation, in the parameter's unit. If not `constrained`, the value is kept."""

    name: str
    value: float
    deviation: float
    constrained: bool  # whether the data constrain it


@dataclass(frozen=True, eq=False)
class Point:
    """One measured time, seconds, as simulated by the fit, and by a fit without its group (None: there is no other)."""

    group: str
    name: str
    measured: float
    simulated: float
    left_out: float | None


@dataclass(frozen=True, eq=False, repr=False)
class Calibration:
    """The fitted chip, its parameters, the points, and the mistakes of the file."""

    chip: Chip
    base: str
    parameters: tuple[Parameter, ...]
    priors: Mapping[str, Prior]
    points: tuple[Point, ...]
    mistakes: tuple[Mistake, ...]

    def __repr__(self) -> str:
        return self.text()

    def errors(self, *, left_out: bool = False) -> list[float]:
        """Return simulated / measured - 1 of the points. `left_out`: with the predictions of the fits without their groups."""
        times = [(p.left_out if left_out else p.simulated, p.measured) for p in self.points]
        return [time / measured - 1 for time, measured in times if time is not None]

    def mapping(self) -> str:
        """Return the chip as YAML to paste into a scenario: the fitted values, based on a preset."""
        if self.base in resolve.preset_names("chips"):
            lines = ["chip:", f"  base: {self.base}"]
        else:
            lines = [f"chip:  # and the other fields of your {self.base}"]
        lines += [f"  {p.name}: {_shown(p.name, p.value)}" for p in self.parameters if p.constrained]
        return "\n".join([*lines, "  uncertainty:"] + [f"    {p.name}: {_shown(p.name, p.deviation)}" for p in self.parameters])

    def text(self) -> str:
        """Return everything as tables for a terminal, and the mapping."""
        rows = [["point", "measured, ms", "fitted, ms", "error", "error, left out"]]
        for p in self.points:
            out = "-" if p.left_out is None else f"{p.left_out / p.measured - 1:+z.1%}"
            shown = f"{p.measured * 1e3:.4g}", f"{p.simulated * 1e3:.4g}", f"{p.simulated / p.measured - 1:+z.1%}"
            rows.append([f"{p.group}: {p.name}", *shown, out])
        parts = [table(rows, "lrrrr"), "\n".join(_summary("residual errors of the fit", self.errors())
                                                  + _summary("errors of points left out of the fit", self.errors(left_out=True)))]
        head = ["parameter", "prior", "fitted", "+-", "meaning"]
        cells = [[p.name, _shown(p.name, self.priors[p.name].value), _shown(p.name, p.value), _shown(p.name, p.deviation),
                  self.priors[p.name].meaning] for p in self.parameters if p.constrained]
        parts += [table([head, *cells], "lrrrl")] if cells else []
        kept = [f"{p.name} ({_shown(p.name, p.value)} +- {_shown(p.name, p.deviation)})"
                for p in self.parameters if not p.constrained]
        if kept:
            parts.append(f"The data do not constrain {', '.join(kept)}. Such parameters keep the chip's value.")
        parts.append(self.mapping())
        if self.mistakes:
            wrong = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
            parts.append(f"Incomplete: {wrong} on standard error; the rows with mistakes are left out.")
        return "\n\n".join(parts)

    def json(self) -> str:
        """Return everything as JSON; seconds and shares."""
        keys = {"complete": not self.mistakes, "base": self.base,
                "parameters": [{"name": p.name, "prior": self.priors[p.name].value, "prior_sigma": self.priors[p.name].sigma,
                                "value": p.value, "deviation": p.deviation, "constrained": p.constrained}
                               for p in self.parameters],
                "points": [{"group": p.group, "name": p.name, "measured_s": p.measured, "simulated_s": p.simulated,
                            "left_out_s": p.left_out} for p in self.points],
                "mistakes": [str(mistake) for mistake in self.mistakes]}
        return json.dumps(keys, indent=1, allow_nan=False)


def calibrate(file: str | Path | None = None, *, code: str | Trust = "beside", progress: Progress | None = None) -> Calibration:
    """Return the calibration of the one chip in a file of measurements, by default the package's file of PaLM 540B.

    Twins, and rows whose use is "predicted", are not fitted. `progress(done, all)` counts fits. Every group is left out once and
    predicted by the fit to the others; if there is a single group, every point is. Raise TorusSimError if no row is sound, if the
    rows are of several chips, or if scipy is missing.
    """
    file = measurements.found(file or measurements.DEFAULT)
    found = measurements.read(file, code)
    mistakes, cases = list(found.mistakes), []
    for row in found.rows:
        try:
            cases += [] if row.twin or row.use == "predicted" else [case(row)]
        except TorusSimError as error:
            mistakes.append(Mistake(str(error), row.mark, error.code, error.path))
    if not cases:
        none = f"{file}: there is no row to fit: twins and rows with use: predicted are left out"
        raise TorusSimError("\n".join(map(str, mistakes)) or none)
    chips = [c.measurement.scenario.chip for c in cases]
    if any(chip != chips[0] for chip in chips):
        names = ", ".join(dict.fromkeys(chip.name for chip in chips))
        raise TorusSimError(f"{file}: measurements of several chips ({names}): give each a file of its own")
    labels = [c.measurement.group for c in cases]
    if len(set(labels)) == 1:
        labels = [c.measurement.name for c in cases]
    folds = list(dict.fromkeys(labels)) if len(set(labels)) > 1 else []
    step = _counted(progress, 2 + len(folds))

    priors = {name: Prior(*given, MEANINGS.get(name, "")) for name, given in found.fit.items()} or PRIORS
    loose = _fit(cases, chips[0], priors)
    step()
    held = _held(loose, priors)
    free = {name: prior for name, prior in priors.items() if name not in held}
    values, deviations = dict[str, float](), loose.deviations
    if free:
        fit = _fit(cases, chips[0], free, loose.values) if held else loose
        values, deviations = fit.values, {**deviations, **fit.deviations}
    step()
    values = {name: float(f"{value:.3g}") for name, value in values.items()}
    chip = _with(chips[0], values)
    left_out: dict[str, Chip] = {}
    for fold in folds:
        others = [c for c, label in zip(cases, labels) if label != fold]
        fitted = {name: prior for name, prior in free.items() if _matters(name, others, chip)}
        left_out[fold] = _with(chip, _fit(others, chip, fitted, values).values if fitted else {})
        step()
    points = [Point(c.measurement.group, c.measurement.name, c.measurement.time, c.simulated(chip),
                    c.simulated(left_out[label]) if folds else None) for c, label in zip(cases, labels)]
    parameters = [Parameter(name, getattr(chip, name), getattr(chip, name) * deviations[name], name in values)
                  for name in priors]
    return Calibration(chip, chips[0].name, tuple(parameters), priors, tuple(points), tuple(mistakes))


def _matters(name: str, cases: Sequence[Case], chip: Chip) -> bool:
    """Return whether a parameter affects some points; a parameter that affects none keeps its fitted value."""
    other = _with(chip, {name: getattr(chip, name) * 0.9})
    return any(c.simulated(other) != c.simulated(chip) for c in cases)


@dataclass(frozen=True, eq=False)
class _Fit:
    """Fitted parameters by name, the standard deviation of each one's logarithm, and the covariance of these logarithms."""

    values: dict[str, float]
    deviations: dict[str, float]
    covariance: Array


def _fit(cases: Sequence[Case], chip: Chip, free: Mapping[str, Prior], start: Mapping[str, float] | None = None) -> _Fit:
    """Return the fit of the free parameters."""
    try:
        optimize: Any = import_module("scipy.optimize")
    except ImportError:
        raise TorusSimError("calibrate needs scipy: pip install scipy, or in a clone of torussim pip install '.[calibrate]'",
                            code="missing-library") from None
    center = np.array([log(prior.value) for prior in free.values()])
    sigma = np.array([prior.sigma for prior in free.values()])
    most = np.array([0.0 if name in _SHARES else inf for name in free])
    measured = np.array([c.measurement.time for c in cases])

    def residuals(logs: Array) -> Array:
        changed = _with(chip, dict(zip(free, np.exp(logs).tolist())))
        simulated = np.array([c.simulated(changed) for c in cases])
        return np.concatenate([np.log(simulated / measured) / SPREAD, (logs - center) / sigma])

    first = center if start is None else np.array([log(start[name]) for name in free])
    solved = optimize.least_squares(residuals, np.minimum(first, most - 1e-6), bounds=(-inf, most), loss="soft_l1",
                                    xtol=1e-6, ftol=1e-6)
    covariance = np.linalg.inv(solved.jac.T @ solved.jac)
    values = {name: exp(value) for name, value in zip(free, solved.x)}
    return _Fit(values, dict(zip(free, np.sqrt(np.diag(covariance)).tolist())), covariance)


def _held(fit: _Fit, priors: Mapping[str, Prior]) -> list[str]:
    """Return the parameters that keep the chip's value: as many unconstrained ones as cost SPARE in all (Wald's test).

    Moving parameters to their priors, at a distance d from the fit, costs d^T C^-1 d / 2, with C their covariance.
    """
    names = list(fit.values)
    away = np.array([log(priors[name].value / fit.values[name]) for name in names])

    def cost(chosen: list[int]) -> float:
        return float(away[chosen] @ np.linalg.solve(fit.covariance[np.ix_(chosen, chosen)], away[chosen])) / 2

    held = list[int]()
    loose = [i for i, name in enumerate(names) if fit.deviations[name] >= CONSTRAINED * priors[name].sigma]
    while loose:
        cheapest = min(loose, key=lambda i: cost([*held, i]))
        if cost([*held, cheapest]) > SPARE:
            break
        held.append(cheapest)
        loose.remove(cheapest)
    return [names[i] for i in held]


def _with(chip: Chip, values: Mapping[str, float]) -> Chip:
    changes: dict[str, Any] = dict(values)
    return replace(chip, **changes)


def _counted(progress: Progress | None, total: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)
    return step


def _summary(what: str, errors: Sequence[float]) -> list[str]:
    if not errors:
        return []
    mape = sum(map(abs, errors)) / len(errors)
    return [f"{what}: mean absolute {mape:.1%}, worst {max(errors, key=abs):+z.1%}"]


def _shown(name: str, value: float) -> str:
    if name in _PLAIN:
        return f"{value:.3g}"
    return f"{value * 1e3:.3g} ms" if value >= 1e-3 else f"{value * 1e6:.3g} us"
