"""A tensor while a pass is built: its sharding, its sizes, and the collective that led it there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torussim.sharding import Sharding, Step


class Tensor(NamedTuple):
    """A present tensor: its sharding, the full size of each dimension, bytes per element, and the part of it that exists.

    The part is 1, except for tensors of a mixture, which have an element of a token for few of its experts.
    """

    name: str
    sharding: Sharding
    sizes: Mapping[str, int]
    bytes: float
    part: float = 1.0


Station = tuple[Tensor, tuple[str, Step] | None]  # a tensor on its way, and the collective that led it there
