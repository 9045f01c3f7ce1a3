"""What the event core asks of a model of the network. A model is a module of functions; max-min fair sharing is one.

Its state is a named tuple of arrays. The event core hands it on and reads only `flows[slot]["path"]`, `flows[slot]["run"]`,
`ended` and the clock, `one[0]["now"]`; for a steady state also `end[slot]`, when a flow ends as things stand. What the event
core calls is compiled where numba is there: `start`, `next_end`, `advance` and `go`.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from torussim.topology.routes import Routes

Array = np.ndarray[Any, Any]


class NetworkModel(Protocol):
    """The functions of a model; times in seconds, sizes in bytes."""

    def made(self, routes: Routes, bandwidth: Array, efficiency: float) -> Any:
        """Return the state at time 0, where nothing is under way; `efficiency`: what a link passes that several flows share."""

    def start(self, net: Any, path: int, size: float, run: int) -> bool:
        """Let a flow leave now; False, with nothing changed, where there is no room for it. `run` is a mark of the caller's."""

    def grown(self, net: Any) -> Any:
        """Return the state with more room of the kind that the last `start` had too little of."""

    def next_end(self, net: Any) -> float:
        """Return when the next flow ends, inf if none is under way; to be asked before the clock goes on."""

    def advance(self, net: Any) -> int:
        """Go on to that time; the flows in the slots ended[:number] have ended. Return their number."""

    def go(self, net: Any, time: float) -> None:
        """Go on to a time that is not after the next end."""

    def set_bandwidth(self, net: Any, n: int, bandwidth: float) -> None:
        """Give a link another bandwidth, above 0, from now on."""

    def reroute(self, net: Any, paths: Array, rows: Array) -> Any:
        """Return the state in which these paths take these rows of the routes that it was made with from now on.

        Until then path p takes row p. Flows under way on them go on there at once, with the bytes that they have left.
        """

    def left(self, net: Any, slots: Array) -> Array:
        """Return the bytes that flows have still to send."""

    def live(self, net: Any) -> Array:
        """Return the slots of the flows under way, in an order that does not depend on the past."""

    def shift(self, net: Any, seconds: float, each: Array | None = None) -> None:
        """Make the clock later, and the times of each flow, in the order of `live`, by its own."""
