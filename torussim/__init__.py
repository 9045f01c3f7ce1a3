"""torussim: how long a transformer's step takes on this interconnect, and what is to blame.

>>> import torussim
>>> torussim.run({"chip": "ideal", "topology": {"shape": [4]},
...               "program": [{"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "90 MB"}]}).makespan_s
0.00075
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from torussim.topology import BUILDERS

if TYPE_CHECKING:
    from torussim.answer import run as run
    from torussim.chips import chip as chip
    from torussim.closed_forms import estimate as estimate
    from torussim.collectives.lower import lower as lower
    from torussim.engine.simulate import simulate as simulate
    from torussim.fault_draws import draw_faults as draw_faults
    from torussim.lower_bound import bound as bound
    from torussim.models import model as model
    from torussim.planner import plan as plan
    from torussim.scenario import Scenario as Scenario
    from torussim.scenario import load as load
    from torussim.sweeps import sweep as sweep
    from torussim.topology.builders import mesh as mesh
    from torussim.topology.builders import ring as ring
    from torussim.topology.builders import torus as torus
    from torussim.topology.networks import boardfly as boardfly
    from torussim.topology.networks import dragonfly as dragonfly
    from torussim.topology.networks import fully_connected as fully_connected
    from torussim.topology.networks import hypercube as hypercube
    from torussim.topology.networks import hyperx as hyperx
    from torussim.topology.networks import switch as switch
    from torussim.topology.trees import fat_tree as fat_tree
    from torussim.topology.trees import gpu_nodes as gpu_nodes
    from torussim.topology.trees import multislice as multislice
    from torussim.topology.trees import nvl72 as nvl72
    from torussim.transformer import build as build

# No module of the package has the name of one of these, so importing a module never hides a verb (tests/test_levels.py).
_HOMES = {"run": "answer", "load": "scenario", "Scenario": "scenario", "build": "transformer", "estimate": "closed_forms",
          "simulate": "engine.simulate", "lower": "collectives.lower", "bound": "lower_bound", "draw_faults": "fault_draws",
          "chip": "chips", "model": "models", "plan": "planner", "sweep": "sweeps",
          **{name: f"topology.{module}" for module, names in BUILDERS.items() for name in names}}

__all__ = ["Scenario", "boardfly", "bound", "build", "chip", "dragonfly", "draw_faults", "estimate", "fat_tree",
           "fully_connected", "gpu_nodes", "hypercube", "hyperx", "load", "lower", "mesh", "model", "multislice", "nvl72",
           "plan", "ring", "run", "simulate", "sweep", "switch", "torus"]


def __getattr__(name: str) -> Any:
    """Import a verb when it is asked for: `import torussim` alone costs nothing, so the command line starts at once."""
    if name not in _HOMES:
        raise AttributeError(f"module 'torussim' has no attribute {name!r}")
    return getattr(import_module(f"torussim.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
