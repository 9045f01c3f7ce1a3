"""Routes as arrays: which links a message loads, and with what share of it. Knows nothing of how they were chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Routes:
    """Path p has the entries first[p]:first[p + 1]; a link comes at most once in a path.

    `first`: (paths + 1,) intp; `link`: (entries,) intp; `share`: (entries,), the part of the message that passes there;
    `latency`: (paths,) seconds; `number`: (entries,), how many flows an entry stands for, where chips that are alike are
    folded; None for 1.
    """

    first: Array
    link: Array
    share: Array
    latency: Array
    number: Array | None = None

    def __len__(self) -> int:
        return len(self.first) - 1

    def __repr__(self) -> str:
        return f"<Routes: {len(self)} paths over {len(np.unique(self.link))} links, {len(self.link)} entries>"

    def take(self, paths: Array) -> Routes:
        """Return the paths picked, in that order; one can be picked several times."""
        count = np.diff(self.first)[paths]
        first = np.concatenate([[0], np.cumsum(count)]).astype(np.intp)
        entry = np.arange(first[-1]) + np.repeat(self.first[paths] - first[:-1], count)
        return Routes(first, self.link[entry], self.share[entry], self.latency[paths],
                      None if self.number is None else self.number[entry])
