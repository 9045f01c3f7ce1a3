"""Networks for scenarios: functions that torussim calls by name, with the other keys of `topology` as arguments."""

import networkx as nx
import numpy as np

from torussim.topology.builders import torus


def uneven_torus(shape: list[int], mean: float, spread: float, latency: float, seed: int) -> nx.DiGraph:
    """Return a torus whose links all differ: bandwidths (bytes/s) are spread evenly over mean (1 +- spread)."""
    graph = torus(shape, bandwidth=mean, latency=latency)
    random = np.random.default_rng(seed)
    for _, _, link in graph.edges(data=True):
        link["bandwidth"] = mean * float(random.uniform(1 - spread, 1 + spread))
    return graph
