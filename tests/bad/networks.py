"""Networks that are wrong, for the scenarios in this folder."""

import networkx as nx

NUMBER = 7


def raises(length):
    """Raise, as a function may."""
    graph = nx.DiGraph(axes={"x": length})
    raise ValueError(f"a length of {len(graph.graph['axes']) * length} is too short")


def returns_nothing():
    """Forget the return."""


def one_way_only():
    """Return a link with a bandwidth that makes no sense, and no link back."""
    graph = nx.DiGraph(axes={"x": 2})
    graph.add_edge((0,), (1,), bandwidth=-1, latency=0.0)
    return graph


def gap():
    """Return a line of three chips of which two are not joined."""
    graph = nx.DiGraph(axes={"x": 3})
    graph.add_node((2,))
    for one, other in (((0,), (1,)), ((1,), (0,))):
        graph.add_edge(one, other, bandwidth=1e9, latency=0.0)
    return graph


def star(chips):
    """Return chips that a switch joins, without axes."""
    graph = nx.DiGraph()
    graph.add_node("switch", chip=False)
    for chip in range(chips):
        graph.add_edge(f"chip{chip}", "switch", bandwidth=1e9, latency=0.0)
        graph.add_edge("switch", f"chip{chip}", bandwidth=1e9, latency=0.0)
    return graph


def too_few(graph, source):
    """Forget where to go."""
    return [source]


def stops(graph, source, target):
    """Return a path that goes nowhere."""
    return [source]


def jumps(graph, source, target):
    """Return a path of one link, whether it is there or not."""
    return [source, target]
