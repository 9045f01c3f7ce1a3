"""Random programs whose messages share links: dead links and detours, routed all-to-alls, twists, parts of axes, events.

As random_scenarios, on smaller networks, held to the same oracle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from random import Random
from typing import Any

import networkx as nx
import oracle
import random_scenarios as plain
from oracle_routes import split

from torussim.chips import Chip
from torussim.collectives.lower import fits
from torussim.collectives.rooted import ROOTED
from torussim.collectives.steps import STEPS
from torussim.engine.simulate import simulate
from torussim.program import WITH_ROOT, Collective, Compute, Operation, Program
from torussim.timeline import Timeline
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid, part_names

SHAPES = ((3,), (4,), (5,), (6,), (2, 3), (3, 3), (4, 2), (4, 3), (4, 4), (2, 2, 2), (3, 2, 2), (2, 4, 2), (3, 3, 2))
KEEP = 12  # of the links of a network at least


@dataclass(frozen=True, eq=False)
class Scenario(plain.Scenario):
    """All that one run needs."""

    parts: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def grid(self) -> Grid:
        return grid(self.graph, parts=self.parts)


def scenario(seed: int, *, layers: int | None = None, alike: bool | None = None, nested: bool = False) -> Scenario:
    """Return the scenario of a seed. `alike`: all links alike, all chips starting at 0 (or not); by default as it falls.

    `nested`: every all-gather goes along one axis at a time, as those of weights do.
    """
    rng = Random(seed)
    graph, parts = network(rng, alike)
    net = grid(graph, parts=parts)
    lists = [operations(rng, net, label, count)
             for label, count in (("p", rng.choice((0, 0, 1))), ("b", rng.randint(1, 4)), ("e", rng.choice((0, 0, 1))))]
    if nested:
        lists = [tuple(replace(o, algorithm="nested", split="equal", direction="both")
                       if isinstance(o, Collective) and o.kind == "all_gather" else o for o in listed) for listed in lists]
    uneven = not alike if alike is not None else rng.random() < 0.5
    start = tuple(rng.choice((0.0, rng.uniform(0, 2e-4))) if uneven else 0.0 for _ in net.chips)
    chip: Chip = replace(plain.REAL, shared_efficiency=rng.choice((1.0, 1.0, 0.9, 0.6)))
    more = () if layers or nested else plain.further(seed, net, operations)
    return Scenario(Program(lists[1], layers or rng.choice((1, 1, 2, 3)), lists[0], lists[2], more), graph, start, chip,
                    rng.random() < 0.6, parts)


def stepwise(seed: int) -> Scenario:
    """Return a scenario in which collectives that are looped with nothing go straight from chip to chip, in steps."""
    case, rng = scenario(seed), Random(seed)
    looped = {o.loop.collective for o in case.program.operations() if getattr(o, "loop", None)}
    net, change = case.grid, dict[str, Operation]()
    for o in case.program.operations():
        if isinstance(o, Collective) and o.kind != "permute" and o.name not in looped:
            lengths = [net.length(a) for a in o.axes if net.length(a) > 1]
            names = [name for name in fits(o, prod(lengths)) if name in STEPS[o.kind]]
            if o.kind == "all_reduce":  # the oracle has no sums that stay
                names = [name for name in names if name not in ("recursive_doubling", "one_shot")]
            change[o.name] = replace(o, algorithm=rng.choice(names), split="equal", direction="both")
    return replace(case, program=case.program.replaced(change))


def rooted(seed: int) -> Scenario:
    """Return a scenario in which most collectives that are looped with nothing have a root, some in groups of their own."""
    case, rng = scenario(seed), Random(seed)
    looped = {o.loop.collective for o in case.program.operations() if getattr(o, "loop", None)}
    net, change = case.grid, dict[str, Operation]()
    for o in case.program.operations():
        if not isinstance(o, Collective) or o.name in looped or rng.random() < 0.2:
            continue
        kind, groups, root = rng.choice((*WITH_ROOT, "all_reduce")), (), ()
        chips = rng.sample(range(len(net.chips)), len(net.chips))
        if kind == "send":
            groups = (tuple(chips[:2]),)
        elif rng.random() < 0.4 and kind != "all_reduce":
            cut = rng.randint(2, len(chips))
            groups = (tuple(chips[:cut]), *([tuple(chips[cut:])] if len(chips) > cut and rng.random() < 0.7 else []))
        else:
            root = tuple(rng.randrange(net.length(a)) for a in o.axes)
        axes = () if groups else o.axes
        names = ["double_tree"] if kind == "all_reduce" else list(ROOTED[kind])
        change[o.name] = replace(o, kind=kind, axes=axes, groups=groups, root=root if kind != "all_reduce" else (), shift={},
                                 algorithm=rng.choice(names), split="equal", direction="both")
    return replace(case, program=case.program.replaced(change))


def drifting(seed: int, layers: int = 40) -> Scenario:
    """Return a scenario in which rings over x lose a little on one another with each block, and what waits for that has time."""
    rng = Random(seed)
    shape = rng.choice(((3, 2), (4, 2), (3, 3), (4, 3), (2, 4)))
    graph = torus(shape, bandwidth=4e9, latency=1e-6)
    loss = [rng.choice((0.0, 10 ** rng.uniform(-5, -2))) for _ in range(shape[1])]
    for (u, v), link in graph.edges.items():
        if u[1] == v[1]:
            link["bandwidth"] *= 1 - loss[u[1]]
    first = Collective("first", "all_to_all", ("y",), 1e4, "direct")  # which makes links over y shared
    spared = Collective("spared", rng.choice(("all_gather", "all_reduce")), ("y",), rng.uniform(1e3, 1e4), after=())
    work = Compute("work", flops=rng.uniform(1e9, 1e10), after=())
    waited = Collective("waited", rng.choice(("all_gather", "reduce_scatter")), ("x",), rng.uniform(1e4, 4e5), after=("work",))
    end = Compute("end", flops=1e6, after=("spared", "waited"))
    epilogue = (Collective("last", "all_gather", ("x", "y"), 1e4),) if rng.random() < 0.5 else ()
    return Scenario(Program((spared, work, waited, end), layers, (first,), epilogue), graph, (0.0,) * len(graph), plain.REAL)


def network(rng: Random, alike: bool | None) -> tuple[nx.DiGraph, dict[str, tuple[int, ...]]]:
    """Return a torus or mesh with dead links, a twist, events, and how its axes are cut."""
    shape = rng.choice(SHAPES)
    twist = {}
    if len(shape) > 1 and rng.random() < 0.15:
        twist = {"x": {"y": rng.randint(1, shape[1] - 1)}}
    wrap = [rng.random() < 0.7 or (twist and a == 0) for a in range(len(shape))]
    graph = torus(shape, wrap=[bool(w) for w in wrap], bandwidth=1.0, twist=twist)
    same = rng.random() < 0.3 if alike is None else alike
    for link in graph.edges.values():
        own = rng.uniform(1e9, 9e9), rng.choice((0.0, rng.uniform(0, 3e-6)))
        link["bandwidth"], link["latency"] = (4e9, 1e-6) if same else own
    if twist or rng.random() < 0.15:
        graph.graph["routing"] = "shortest"
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        fewer = graph.copy()
        u, v = rng.choice(list(graph.edges))
        fewer.remove_edges_from([(u, v)] if rng.random() < 0.3 else [(u, v), (v, u)])
        if nx.is_strongly_connected(fewer):
            graph = fewer
    if rng.random() < 0.2:
        edges = list(graph.edges)
        graph.graph["events"] = tuple(sorted(
            (rng.uniform(0, 2e-3), {edge: rng.uniform(1e9, 9e9) for edge in rng.sample(edges, min(4, len(edges)))})
            for _ in range(rng.randint(1, 3))))
    parts = {}
    for name, length in zip("xyz", shape, strict=False):
        if length in (4, 6) and not twist and rng.random() < 0.3:
            parts[name] = rng.choice([(2, length // 2), (length // 2, 2)])
    return graph, parts


def operations(rng: Random, net: Grid, label: str, count: int) -> tuple[Operation, ...]:
    """Return a list of operations; all-to-alls are often routed, and every collective knows what to do with broken rings."""
    found = plain.operations(rng, net, label, count)
    looped = {o.loop.collective for o in found if getattr(o, "loop", None)}
    made: list[Operation] = []
    for o in found:
        if isinstance(o, Collective):
            o = replace(o, detour=rng.random() < 0.6)
            if o.kind == "permute":  # axis by axis, parts from neighbours outwards
                o = replace(o, axes=tuple(sorted(o.axes, key=lambda a: (a[0], net.stride[net.axis(a)]))),
                            algorithm=("", "direct", "dimension_order")[len(made) % 3])
            if o.algorithm == "one_ring" and any(net.stride[net.axis(a)] > 1 or net.gap[net.axis(a)].any() for a in o.axes):
                o = replace(o, algorithm="", split="equal")
            if o.algorithm == "sequential" and o.kind == "all_gather" and len(made) % 2:
                o = replace(o, algorithm="nested")
            if o.kind == "all_to_all" and o.name not in looped and rng.random() < 0.7:
                o = replace(o, algorithm=rng.choice(("direct", "direct", "shifts")), split="equal", direction="both")
        made.append(o)
    return tuple(made)


def dying(seed: int, make: Callable[..., Scenario] = scenario, **choices: Any) -> Scenario:
    """Return a scenario of a seed in which one to three times in mid-run links fail, of which the network stays whole."""
    case, rng = make(seed, **choices), Random(-1 - seed)
    makespan, left = run(case).makespan, case.graph.copy()
    events = list(case.graph.graph.get("events", ()))
    for time in sorted(rng.uniform(0, rng.choice((1.0, 1.0, 0.2)) * makespan) for _ in range(rng.randint(1, 3))):
        dead = set[Any]()
        for _ in range(rng.choice((1, 1, 2))):
            u, v = rng.choice(list(left.edges))
            fewer = left.copy()
            fewer.remove_edges_from(pair := {(u, v), *([(v, u)] if rng.random() < 0.7 and left.has_edge(v, u) else [])})
            if nx.is_strongly_connected(fewer):
                left, dead = fewer, dead | pair
        events = [(at, {edge: value for edge, value in change.items() if at < time or edge not in dead}) for at, change in events]
        events.append((time, dict.fromkeys(sorted(dead), 0.0)))
    case.graph.graph["events"] = tuple(sorted(((at, change) for at, change in events if change), key=lambda event: event[0]))
    return case


def run(case: Scenario, **choices: Any) -> Timeline:
    """Return what the engine says."""
    return simulate(case.program, case.grid, case.chip, start=case.start, **{"repeat": case.repeat, **choices})


def expected(case: Scenario) -> dict[str, Any]:
    """Return what the oracle says."""
    net = case.grid
    change, orders = plain.told(case.program, net)
    parts = {}
    for name, lengths in case.parts.items():
        parts[name] = [(label, length, prod(lengths[:i]))
                       for i, (label, length) in enumerate(zip(part_names(name, lengths), lengths))]
    route, graph = None, case.graph.copy()
    if case.graph.graph.get("routing") == "shortest":
        def route(a: Any, b: Any) -> Any:
            return split(graph, a, b)
    start = dict(zip(net.chips, case.start, strict=True))
    return oracle.simulate(case.program.replaced(change), graph, case.chip, start=start, ring_orders=orders,
                           ring=net.links.ring, parts=parts, route=route, spread=lambda a, b: split(graph, a, b))


def compare(case: Scenario) -> str:
    """Return the first difference between engine and oracle, or nothing."""
    return plain.difference(case, run(case), expected(case), blocks=False)
