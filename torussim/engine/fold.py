"""Which chips cannot be told apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from torussim.program import Program
from torussim.topology.grid import Grid

Array = np.ndarray[Any, Any]


def orbits(program: Program, net: Grid, begin: Array) -> Array:
    """Return (chips,) numbers from 0 on, the same for chips that have the same future."""
    return np.arange(len(net.chips))
