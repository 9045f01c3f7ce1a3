"""Networks of chips: networkx graphs with a bandwidth and a latency on every link.

The builders have names here, such as `torussim.topology.fat_tree`. Each is imported at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

BUILDERS = {"builders": ("mesh", "ring", "torus"), "trees": ("fat_tree", "gpu_nodes", "multislice", "nvl72"),
            "networks": ("boardfly", "dragonfly", "fully_connected", "hypercube", "hyperx", "switch")}  # by module

__all__ = ["boardfly", "dragonfly", "fat_tree", "fully_connected", "gpu_nodes", "hypercube", "hyperx", "mesh", "multislice",
           "nvl72", "ring", "switch", "torus"]


def __getattr__(name: str) -> Any:
    """Import a builder at its first use."""
    for module, names in BUILDERS.items():
        if name in names:
            return getattr(import_module(f"torussim.topology.{module}"), name)
    raise AttributeError(f"module 'torussim.topology' has no attribute {name!r}")
