"""The functions that the event core calls of a model of the network. A model is a module of functions, such as `max_min`.

The state of a model is a named tuple of arrays. The event core passes it on and reads only `flows[slot]["path"]`,
`flows[slot]["run"]`, `ended` and the clock, `one[0]["now"]`; for a steady state also `end[slot]`, the end of a flow at its
present rate. The functions that the event core calls are compiled where numba is installed: `start`, `next_end`, `advance`, `go`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from torussim.topology.routes import Routes

Array = np.ndarray[Any, Any]


class NetworkModel(Protocol):
    """The functions of a model; times in seconds, sizes in bytes."""

    def made(self, routes: Routes, bandwidth: Array, efficiency: float) -> Any:
        """Return the state at time 0 without flows; `efficiency`: the part of a bandwidth that several flows can use together."""

    def start(self, net: Any, path: int, size: float, run: int) -> bool:
        """Start a flow now; return False and change nothing if there is no room for it. `run` is a mark of the caller."""

    def grown(self, net: Any) -> Any:
        """Return the state with more room of the kind that the last `start` lacked."""

    def next_end(self, net: Any) -> float:
        """Return the time of the next end, inf if no flow is under way. The caller asks before the clock goes on."""

    def advance(self, net: Any) -> int:
        """Go on to the next end; return the number of flows that end then. Their slots are ended[:number]."""

    def go(self, net: Any, time: float) -> None:
        """Go on to a time that is not after the next end."""

    def set_bandwidth(self, net: Any, n: int, bandwidth: float) -> None:
        """Set the bandwidth of a link, above 0, from now on."""

    def reroute(self, net: Any, paths: Array, rows: Array) -> Any:
        """Return the state in which these paths take these rows of the routes of the network from now on.

        Until then path p takes row p. A flow under way on such a path moves to its new row now, with its remaining bytes.
        """

    def left(self, net: Any, slots: Array) -> Array:
        """Return the remaining bytes of flows."""

    def live(self, net: Any) -> Array:
        """Return the slots of the flows under way, in an order that does not depend on the past."""

    def shift(self, net: Any, seconds: float, each: Array | None = None) -> None:
        """Move the clock later by some seconds, and the times of each flow, in the order of `live`, by its entry of `each`."""
