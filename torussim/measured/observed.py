"""Measured times by operation and chip of a scenario: what a trace calls them, and how sure each time is."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from torussim.errors import TorusSimError
from torussim.measured.likelihood import Data
from torussim.measured.model import Model
from torussim.measured.times import Times
from torussim.resolve import unknown
from torussim.scenario.tracing import Tracing
from torussim.spelling import nearest

Array = np.ndarray[Any, Any]

NOISE = 0.05  # standard deviation of the logarithm of a time, where nothing is measured more than twice
MODEL = 0.01  # of what the median of many times differs by from the simulation
RESOLUTION = 1e-9  # s, of a time
LITTLE = 0.01  # of an operation's time, added to all its times: what is shorter than that says little
SHOWN = 8  # names
_PLACE = re.compile(r"(?:chip\s*)?[(\[]?\s*(\d+(?:\s*[, ]\s*\d+)*)\s*,?\s*[)\]]?", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Observed:
    """Measured times: (operations, chips) medians, seconds, NaN where there is none, and how many each is the median of.

    Without chips there is one column. `lost_operations`, `lost_chips`: names that were not understood, and how many times each
    has; `noise`: the standard deviation of the logarithm of one time, None if nothing was measured more than twice.
    """

    times: Array
    count: Array
    per_chip: bool
    lost_operations: Counter[str]
    lost_chips: Counter[str]
    noise: float | None

    def data(self, model: Model) -> Data:
        """Return the data of a fit."""
        simulated = np.median(model.times(model.nominal), axis=1, keepdims=True)
        floor = LITTLE * simulated + RESOLUTION
        there = np.isfinite(self.times) & (simulated > 0)
        noise = NOISE if self.noise is None else max(self.noise, MODEL)
        many = np.maximum(self.count, 1)
        variance = np.where(many > 2, np.pi / 2, 1.0) / many + (MODEL / noise) ** 2
        with np.errstate(invalid="ignore"):
            logs = np.where(there, np.log(np.where(there, self.times, 1.0) + floor), np.nan)
        return Data(logs, np.broadcast_to(variance, logs.shape), noise, model.moves, floor)


def observe(times: Times, tracing: Tracing, model: Model, scenario: str) -> Observed:
    """Return what is measured of each operation and chip; `scenario` is the name of its file, for messages.

    Raise TorusSimError if the scenario maps to operations that its program lacks, or if no operation, or no chip, of the file is
    understood.
    """
    names = {o.name: i for i, o in enumerate(model.operations)}
    for given, to in tracing.operations.items():
        if to not in names:
            raise TorusSimError(f"{scenario}: trace: operations: {given}: {unknown(to, list(names), 'operation of the program')}",
                                code="unknown-name", path=("trace", "operations", given))
    place = {given: _operation(given, tracing, names) for given in times.operations}
    lost = Counter({given: count for given, count in times.operations.items() if place[given] is None})
    if all(at is None for at in place.values()):
        raise TorusSimError(_no_operation(times, list(names)), code="unknown-name")
    chips = {given: _chip(given, tracing, model) for given in times.chips}
    lost_chips = Counter({given: count for given, count in times.chips.items() if chips[given] is None})
    per_chip = any(at is not None for at in chips.values())
    if chips and not per_chip:
        raise TorusSimError(_no_chip(times, model), code="unknown-name")
    cells: dict[tuple[int, int], list[float]] = {}
    for (operation, chip), seconds in times.seconds.items():
        row, column = place[operation], chips.get(chip) if chip is not None else None
        if row is not None and (column is not None or not per_chip):
            cells.setdefault((row, column or 0), []).extend(seconds)
    if not cells:
        raise TorusSimError(f"{times.file}: no operation that is understood is on a chip that is", code="unknown-name")
    shape = len(names), len(model.net.chips) if per_chip else 1
    found, count = np.full(shape, np.nan), np.zeros(shape)
    for at, seconds in cells.items():
        found[at], count[at] = float(np.median(seconds)), len(seconds)
    return Observed(found, count, per_chip, lost, lost_chips, _noise(cells))


def _noise(cells: Mapping[Any, list[float]]) -> float | None:
    """Return the standard deviation of the logarithm of one time among those of its cell, robustly."""
    away = []
    for seconds in cells.values():
        logs = np.log(np.array([one for one in seconds if one > 0]))
        if len(logs) > 2:
            away.append(np.abs(logs - np.median(logs)) * np.sqrt(len(logs) / (len(logs) - 1)))
    return float(1.4826 * np.median(np.concatenate(away))) if away else None


def _operation(given: str, tracing: Tracing, names: Mapping[str, int]) -> int | None:
    """Return the index of the operation that a file calls by a name, None if it is none."""
    to = tracing.operation(given)
    return names[to] if to is not None else names.get(given)


def _chip(given: str, tracing: Tracing, model: Model) -> int | None:
    """Return the index of the chip that a file calls by a name, None if it is none."""
    links = model.net.links
    if given in tracing.chips:
        return model.net.index(tracing.chips[given])
    match = _PLACE.fullmatch(given.strip())
    place = [int(part) for part in re.split(r"[\s,]+", match[1])] if match else []
    lengths = list(links.axes.values())
    if len(place) != len(lengths) or any(at >= length for at, length in zip(place, lengths)):
        return None
    return model.net.index(place)


def _no_operation(times: Times, names: list[str]) -> str:
    """Return the message for a file of which no operation is understood."""
    seen = list(times.operations)
    near = {given: found for given in seen[:100] if (found := nearest(given, names))}
    meant = "; did you mean " + ", ".join(f"{to!r} by {given!r}" for given, to in list(near.items())[:3]) + "?" if near else ""
    return (f"{times.file}: none of its operations is one of the scenario's: it has {_some(seen)}; the scenario has "
            f"{_some(names, 12)}{meant}; map them in the scenario, as in trace: {{operations: {{{seen[0][:40]}: {names[0]}}}}}")


def _no_chip(times: Times, model: Model) -> str:
    """Return the message for a file of which no chip is understood."""
    seen, axes = list(times.chips), model.net.links.axes
    one = list(model.net.chips[0])
    what = "processes" if times.kind == "trace" else "chips"
    return (f"{times.file}: none of its {what} is a chip of the scenario: it has {_some(seen)}; the scenario has "
            f"{' x '.join(map(str, axes.values()))} chips, such as \"chip ({','.join(map(str, one))})\"; map them in the "
            f"scenario, as in trace: {{chips: {{\"{seen[0][:40]}\": {one}}}}}, or leave the chips out")


def _some(names: list[str], most: int = SHOWN) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(repr(name[:40]) for name in names[:most]) + more
