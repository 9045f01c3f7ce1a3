"""torussim: how long a transformer's step takes on this interconnect, and what is to blame.

>>> import torussim
>>> torussim.run({"chip": "ideal", "topology": {"shape": [4]},
...               "program": [{"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "90 MB"}]}).makespan_s
0.00075
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torussim.bound import bound as bound
    from torussim.collectives.lower import lower as lower
    from torussim.engine.simulate import simulate as simulate
    from torussim.estimate import estimate as estimate
    from torussim.run import run as run
    from torussim.scenario import load as load
    from torussim.transformer import build as build

_HOMES = {"run": "torussim.run", "load": "torussim.scenario", "build": "torussim.transformer", "estimate": "torussim.estimate",
          "simulate": "torussim.engine.simulate", "lower": "torussim.collectives.lower", "bound": "torussim.bound"}

__all__ = ["bound", "build", "estimate", "load", "lower", "run", "simulate"]


def __getattr__(name: str) -> Any:
    """Import a verb when it is asked for: `import torussim` alone costs nothing, so the command line starts at once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'torussim' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


class _Package(ModuleType):
    """Importing torussim/run.py must not hide the verb `torussim.run` behind the module of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
