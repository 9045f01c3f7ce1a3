"""torussim: how long a transformer's step takes on this interconnect, and what is to blame.

>>> import torussim
>>> torussim.run({"chip": "ideal", "topology": {"shape": [4]},
...               "program": [{"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "90 MB"}]}).makespan_s
0.00075
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torussim.engine import simulate as simulate
    from torussim.estimate import estimate as estimate
    from torussim.run import run as run
    from torussim.scenario import load as load
    from torussim.transformer import build as build

_HOMES = {"run": "torussim.run", "load": "torussim.scenario", "build": "torussim.transformer", "estimate": "torussim.estimate",
          "simulate": "torussim.engine", "lower": "torussim.collectives.lower", "bound": "torussim.bound"}

__all__ = ["build", "estimate", "load", "run", "simulate"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import torussim` alone costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'torussim' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
