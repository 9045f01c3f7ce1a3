"""Single numbers in the memory of arrays: Python reads and writes them there in half of the time that numpy takes."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Any

import numpy as np

Numbers = MutableSequence[Any]


def numbers(array: np.ndarray[Any, Any]) -> Numbers:
    """Return the memory of an array, in C order.

    >>> array = np.zeros((2, 2))
    >>> numbers(array)[3] = 1.5
    >>> array[1, 1].item()
    1.5
    """
    memory: Any = array.reshape(-1).data
    return memory  # type: ignore[no-any-return]
