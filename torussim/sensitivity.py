"""The uncertainty of a program's time that follows from the uncertainty of its chip's parameters."""

from __future__ import annotations

from dataclasses import replace
from math import hypot, log
from typing import Any

import numpy as np

from torussim.chips import Chip
from torussim.closed_forms import axes_seconds
from torussim.outlines import Outlines, outlines_of
from torussim.program import Program
from torussim.topology.grid import Grid, with_latency


def deviation(program: Program, network: Grid | Outlines, chip: Chip) -> float:
    """Return one standard deviation of the logarithm of a program's time; 0 for a chip without uncertainties.

    It is sqrt(sum of (d ln t / d p * deviation of p)^2) over the chip's uncertain parameters p, taken as independent. t is the
    closed form axis by axis, and the derivatives are differences over one deviation either way, within the range of p. On
    networks with unequal links the closed form is not the simulated time; the result is then an estimate.
    """
    parts, outlines = [], outlines_of(network)
    for name, sigma in chip.uncertainty.items():
        value = getattr(chip, name)
        low = max(value - sigma, value / 2 if name.endswith("efficiency") else 0.0)
        high = min(value + sigma, 1.0) if name.endswith("efficiency") else value + sigma
        if high > low:
            seconds = [_seconds(program, outlines, chip, name, p) for p in (low, high)]
            if min(seconds) > 0:
                parts.append(log(seconds[1] / seconds[0]) / (high - low) * sigma)
    return hypot(*parts)


def _seconds(program: Program, outlines: Outlines, chip: Chip, name: str, value: float) -> float:
    """Return the closed form with one parameter changed; links with the chip's own latency follow it."""
    change: dict[str, Any] = {name: value}
    if name == "link_latency":
        net = outlines.net
        latency = np.where(net.links.latency == chip.link_latency, value, net.links.latency)
        outlines = Outlines(with_latency(net, latency))
    return axes_seconds(program, outlines, replace(chip, **change))
