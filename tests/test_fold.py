"""Folding: a run with one chip for all that are alike is the run of every chip, and no chips are taken for alike that are not."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from math import prod
from random import Random
from typing import Any

import networkx as nx
import numpy as np
import pytest
import random_scenarios as plain
import random_shared
from fluid import Fluid
from random_shared import Scenario, run

from torussim import messages
from torussim.chips import chip
from torussim.choice import alone
from torussim.collectives import lower
from torussim.engine import routed
from torussim.engine.simulate import simulate
from torussim.outlines import Outlines
from torussim.program import Collective, Compute, Kind, Loop, Program
from torussim.timeline import Timeline
from torussim.topology import movement
from torussim.topology.builders import torus
from torussim.topology.check import read_links
from torussim.topology.grid import Grid, folded, grid
from torussim.topology.networks import boardfly
from torussim.topology.networks import dragonfly as named_dragonfly
from torussim.topology.placing import arranged
from torussim.topology.routing import routes
from torussim.topology.trees import fat_tree, gpu_nodes

IDEAL = chip("ideal")
SHAPES = ((4,), (6,), (3, 3), (4, 3), (4, 4), (3, 6), (4, 2), (6, 3), (3, 3, 2), (3, 3, 3), (4, 4, 2))


def periodic(seed: int) -> Scenario:
    """Return a scenario whose links (slow, late, dead) and starts repeat along its axes, so that chips are often alike."""
    rng = Random(seed)
    shape = rng.choice(SHAPES)
    twist = {"x": {"y": rng.randint(1, shape[1] - 1)}} if len(shape) > 1 and rng.random() < 0.3 else {}
    graph = torus(shape, wrap=[bool(rng.random() < 0.85 or twist) for _ in shape], bandwidth=1.0, twist=twist)
    kinds = [(rng.uniform(1e9, 9e9), rng.choice((0.0, 2e-6))) for _ in range(2)]
    period = [rng.choice([d for d in range(1, n + 1) if n % d == 0]) for n in shape]
    drawn: dict[object, tuple[int, bool]] = {}
    breaks, dead = rng.random() < 0.4, []
    for u, v, link in graph.edges(data=True):
        way = tuple((b - a) % n for a, b, n in zip(u, v, shape, strict=True))
        kind, gone = drawn.setdefault((tuple(a % p for a, p in zip(u, period, strict=True)), way),
                                      (int(rng.random() < 0.15), rng.random() < 0.05))
        link["bandwidth"], link["latency"] = kinds[kind]
        dead += [(u, v)] * (breaks and gone)
    fewer = graph.copy()
    fewer.remove_edges_from(dead)
    graph = fewer if nx.is_strongly_connected(fewer) else graph
    if twist or rng.random() < 0.3:
        graph.graph["routing"] = rng.choice(["shortest", "minimal"])
    if rng.random() < 0.15:
        graph.graph["events"] = ((rng.uniform(0, 5e-4), dict.fromkeys(graph.edges, 3e9)),)
    parts = {name: rng.choice([(2, n // 2), (n // 2, 2)]) for name, n in zip("xyz", shape, strict=False)
             if n in (4, 6) and not twist and rng.random() < 0.3}
    net = grid(graph, parts=parts)
    lists = [random_shared.operations(rng, net, label, count)
             for label, count in (("p", rng.choice((0, 0, 1))), ("b", rng.randint(1, 3)), ("e", rng.choice((0, 1))))]
    late = rng.choice((0.0, 0.0, 1e-4))
    start = tuple(late * (c[0] % period[0] % 2) for c in net.chips)
    real = plain.replace(plain.REAL, shared_efficiency=rng.choice((1.0, 0.9, 0.6)))
    return Scenario(Program(lists[1], rng.choice((1, 2, 3)), lists[0], lists[2]), graph, start, real, rng.random() < 0.6, parts)


def mirrored(seed: int) -> Scenario:
    """Return a scenario in which few links are slow, late or dead, often beside their mirror images; most rings go both ways."""
    rng = Random(seed)
    shape = rng.choice((*SHAPES, (2, 4), (5, 3), (3, 2, 2), (2, 4, 3)))
    graph = torus(shape, wrap=[rng.random() < 0.8 for _ in shape], bandwidth=1.0)
    for u, v, link in graph.edges(data=True):
        axis = next(i for i, (a, b) in enumerate(zip(u, v)) if a != b)
        link["bandwidth"], link["latency"] = [(4e9, 1e-6), (3e9, 2e-6), (4e9, 0.0)][axis]
    images = [tuple(image) for image in np.ndindex(*[2 if rng.random() < 0.4 else 1 for _ in shape])]
    dead, changed = [], dict[Any, float]()
    for _ in range(rng.choice((1, 1, 2))):
        kind, both, (a, b) = rng.choice(("slow", "late", "dead", "event")), rng.random() < 0.8, rng.choice(list(graph.edges))
        for image in images:
            ends = [tuple(n - 1 - at if turned else at for at, turned, n in zip(end, image, shape)) for end in (a, b)]
            for u, v in (ends, ends[::-1])[:1 + both]:
                graph.edges[u, v]["bandwidth"] /= 4 if kind == "slow" else 1
                graph.edges[u, v]["latency"] += 5e-6 if kind == "late" else 0
                dead += [(u, v)] if kind == "dead" else []
                changed |= {(u, v): 2e9} if kind == "event" else {}
    fewer = graph.copy()
    fewer.remove_edges_from(dead)
    graph = fewer if nx.is_strongly_connected(fewer) else graph
    if changed.keys() & graph.edges:
        graph.graph["events"] = ((rng.uniform(0, 5e-4), {edge: rate for edge, rate in changed.items() if edge in graph.edges}),)
    if rng.random() < 0.3:
        graph.graph["routing"] = "shortest"
    net = grid(graph)
    late = rng.choice((0.0, 0.0, 1e-5))
    start = tuple(late * sum(min(at, n - 1 - at) for at, n in zip(c, shape)) for c in net.chips)
    lists = [random_shared.operations(rng, net, label, count)
             for label, count in (("p", rng.choice((0, 1))), ("b", rng.randint(1, 3)), ("e", rng.choice((0, 1))))]
    if rng.random() < 0.85:
        lists = [tuple(evened(o) for o in found) for found in lists]
    real = plain.replace(plain.REAL, shared_efficiency=rng.choice((1.0, 0.9, 0.6)))
    return Scenario(Program(lists[1], rng.choice((1, 2, 3)), lists[0], lists[2]), graph, start, real, rng.random() < 0.6)


def switched(seed: int) -> Scenario:
    """Return a scenario on a network with switches: one, nodes with one each, a tree of two levels; sometimes with slow links."""
    rng = Random(seed)
    shape = rng.choice(((4,), (6,), (2, 3), (2, 4), (4, 2), (3, 3), (2, 2, 2)))
    chips, graph = list(np.ndindex(*shape)), nx.DiGraph(axes=dict(zip("xyz", shape)))
    graph.add_nodes_from(chips)

    def both(a: Any, b: Any, bandwidth: float) -> None:
        graph.add_edge(a, b, bandwidth=bandwidth, latency=1e-6)
        graph.add_edge(b, a, bandwidth=bandwidth, latency=1e-6)
    kind, spines = rng.choice(("one", "nodes", "tree", "rails")), rng.randint(1, 3)
    for at in chips:
        leaf = "leaf" if kind == "one" else f"leaf {at[0]}"
        both(at, leaf, 4e9)
        if kind == "rails":
            both(at, f"rail {at[1:]}", 1e9)
        elif kind != "one":
            for spine in range(1 if kind == "nodes" else spines):
                if (leaf, f"spine {spine}") not in graph.edges:
                    both(leaf, f"spine {spine}", 3e9)
    for _ in range(rng.choice((0, 1))):
        u, v = rng.choice(list(graph.edges))
        graph.edges[u, v]["bandwidth"] /= 3
        graph.edges[v, u]["bandwidth"] /= rng.choice((1, 3))
    graph.add_nodes_from((node for node in graph if isinstance(node, str)), chip=False)
    net = grid(graph)
    lists = [tuple(evened(o) if rng.random() < 0.9 else o for o in random_shared.operations(rng, net, label, count))
             for label, count in (("b", rng.randint(1, 3)), ("e", rng.choice((0, 1))))]
    real = plain.replace(plain.REAL, shared_efficiency=rng.choice((1.0, 0.9, 0.6)))
    return Scenario(Program(lists[0], rng.choice((1, 2, 3)), (), lists[1]), graph, (0.0,) * len(chips), real, rng.random() < 0.6)


def evened(o: Any) -> Any:
    """Return an operation that does the same in both directions of its axes."""
    if isinstance(o, Collective):
        even = {"one_ring": "", "nested": "", "shifts": "direct"}.get(o.algorithm, o.algorithm)
        kind = "all_gather" if o.kind == "permute" else o.kind
        return plain.replace(o, kind=kind, algorithm=even if kind == o.kind else "", direction="both", shift={})
    return plain.replace(o, loop=plain.replace(o.loop, kind="throughput")) if getattr(o, "loop", None) else o


def unlike(one: Timeline, other: Timeline) -> str:
    """Return what differs between two runs by more than 1e-9, or nothing."""
    close = 1e-9 * other.makespan
    for (i, before), (j, then) in zip(one.runs, other.runs, strict=True):
        a, b = one.segments[i], other.segments[j]
        for what, x, y in (("start", a.start + before, b.start + then), ("end", a.end + before, b.end + then)):
            if x.size and not np.abs(x - y).max() <= close:
                return f"{what} differs by {np.abs(x - y).max()} of {other.makespan} in a {a.section}"
    return "" if np.allclose(one.link_bytes, other.link_bytes, rtol=1e-9, atol=1e-6) else "link bytes differ"


def folds(case: Scenario) -> bool:
    said = run(case)
    assert not unlike(said, run(case, fold=False, repeat=not case.repeat))
    return said.chips_simulated < len(said.chips)


@pytest.mark.parametrize("draw, seeds, some", [
    (periodic, range(60), 20),
    (mirrored, range(80), 35),
    (switched, range(60), 15),
    (lambda seed: random_shared.scenario(seed, alike=True), range(30), 1),
    (random_shared.scenario, range(100, 120), 0),
    (lambda seed: plain.scenario(seed, skewed=False), range(30), 3),
], ids=["periodic", "mirrored", "switched", "alike", "shared", "private"])
def test_folded_is_unfolded_on_every_chip_and_link(draw: Callable[[int], Scenario], seeds: range, some: int) -> None:
    assert sum(folds(draw(seed)) for seed in seeds) >= some


def test_the_periodic_scenarios_that_fold_have_everything_in_them() -> None:
    cases = [case for case in map(periodic, range(60)) if (t := run(case)).chips_simulated < len(t.chips)]
    graphs = [case.graph.graph for case in cases]
    algorithms = {o.algorithm for case in cases for o in case.program.operations() if isinstance(o, Collective)}
    assert {"direct", "shifts", "one_ring", "nested", ""} <= algorithms
    assert any("twist" in g for g in graphs) and any("events" in g for g in graphs) and any(case.parts for case in cases)
    assert any(any(case.start) for case in cases) and any(case.chip.shared_efficiency < 1 for case in cases)
    assert any(case.grid.gap.any() and not case.parts for case in cases), "dead links"


def collective(kind: Kind, axes: str, algorithm: str = "", detour: bool | None = None) -> Program:
    return Program((Collective("c", kind, tuple(axes), 1e6, algorithm, detour=detour),), layers=2)


def simulated(program: Program, graph: nx.DiGraph) -> int:
    """Return how many chips are simulated, once that has been held to all."""
    said = simulate(program, graph, IDEAL)
    assert not unlike(said, simulate(program, graph, IDEAL, fold=False))
    return said.chips_simulated


@pytest.mark.parametrize("shape", [(3,), (4, 4), (5, 3), (4, 4, 3)])
@pytest.mark.parametrize("kind, algorithm", [("all_gather", ""), ("all_reduce", "sequential"), ("all_to_all", ""),
                                             ("all_to_all", "direct"), ("all_to_all", "shifts")])
def test_a_uniform_torus_folds_to_one_chip(shape: tuple[int, ...], kind: Kind, algorithm: str) -> None:
    graph = torus(shape, bandwidth=1e9, latency=1e-6)
    assert simulated(collective(kind, "xyz"[:len(shape)], algorithm), graph) == 1


def test_a_uniform_torus_of_any_size_folds_to_one_chip() -> None:
    said = simulate(collective("all_to_all", "xyz", "direct"), torus((16, 16, 16), bandwidth=1e9, latency=0.0), IDEAL)
    assert said.chips_simulated == 1
    # A link of a ring of 16 carries 1/8 of all bytes of a line of 16 chips, that is 2 of each chip's megabytes.
    assert said.makespan == pytest.approx(2 * 2 * 1e6 / 1e9)


@pytest.mark.parametrize("algorithm", ["direct", "shifts"])
def test_a_twisted_torus_folds(algorithm: str) -> None:
    graph = torus((4, 8), bandwidth=1e9, latency=1e-6, twist={"x": {"y": 4}})
    whole = simulated(collective("all_to_all", "xy", algorithm), graph)
    # Displacements go round without the twist: where messages have an order, only steps along y leave it as it is.
    assert whole == (1 if algorithm == "direct" else 4)
    assert simulated(collective("all_gather", "y"), graph) == 1


@pytest.mark.parametrize("program, chips", [(collective("all_gather", "x"), 4), (collective("all_gather", "y"), 1),
                                            (collective("all_to_all", "xy", "direct"), 2),
                                            (collective("all_to_all", "xy", "shifts"), 4)])
def test_a_mesh_folds_across_its_rings(program: Program, chips: int) -> None:
    assert simulated(program, torus((4, 4), wrap=[False, True], bandwidth=1e9, latency=1e-6)) == chips


def test_with_a_dead_link_as_many_chips_are_simulated_as_are_different() -> None:
    graph = torus((4, 4), bandwidth=1e9, latency=1e-6)
    graph.remove_edges_from([((0, 0), (1, 0)), ((1, 0), (0, 0))])
    assert simulated(collective("all_gather", "y"), graph) == 1  # nobody uses it
    assert simulated(collective("all_gather", "x", detour=False), graph) == 5  # one ring is a line
    assert simulated(collective("all_gather", "x", detour=True), graph) == 6  # its detours meet others; mirror images are alike
    graph.remove_edges_from([((2, 2), (3, 2)), ((3, 2), (2, 2))])
    assert simulated(collective("all_gather", "x", detour=True), graph) == 3
    assert simulated(collective("all_to_all", "xy", "direct"), graph) == 3
    graph.remove_edges_from([((1, 1), (2, 1)), ((2, 1), (1, 1))])
    assert simulated(collective("all_to_all", "xy", "direct"), graph) == 8  # turned upside down it is the same


@pytest.mark.parametrize("change, unlike_chips", [({}, 6), ({"direction": "one_way"}, 12), ({"algorithm": "sequential"}, 6),
                                                  ({"algorithm": "one_ring"}, 16), ({"algorithm": "nested"}, 16),
                                                  ({"kind": "permute", "shift": {"x": 1}}, 12),
                                                  ({"kind": "all_to_all", "algorithm": "shifts"}, 16)])
def test_an_axis_is_turned_only_if_both_of_its_directions_do_the_same(change: dict[str, Any], unlike_chips: int) -> None:
    """A slow link that a direct all-to-all makes shared: one reflection swaps its ends, one leaves them where they are."""
    graph = torus((4, 4), bandwidth=1e9, latency=1e-6)
    for u, v in (((0, 0), (1, 0)), ((1, 0), (0, 0))):
        graph.edges[u, v]["bandwidth"] = 5e8
    axes = ("x",) if "shift" in change or "direction" in change else ("x", "y")
    near = plain.replace(Collective("near", "all_gather", axes, 1e6), **change)
    assert simulated(Program((Collective("far", "all_to_all", ("x", "y"), 1e6, "direct"), near), layers=2), graph) == unlike_chips


def test_a_loop_that_goes_one_way_turns_no_axis() -> None:
    graph = torus((4, 4), bandwidth=1e9, latency=1e-6)
    graph.remove_edges_from([((0, 0), (1, 0)), ((1, 0), (0, 0))])
    for kind, chips in (("throughput", 6), ("latency", 12), ("one_way", 12)):
        gather = Collective("gather", "all_gather", ("x",), 1e6, detour=True)
        looped = Compute("matmul", flops=1e9, loop=Loop("gather", kind, (64, 64, 64)))
        assert simulated(Program((gather, looped), layers=2), graph) == chips


def test_messages_of_mirror_images_are_those_of_the_unfolded_run() -> None:
    """A chip that stands for others tells of their messages, in their own directions; and of both of two that are alike."""
    folds = 0
    for seed in range(40):
        case = mirrored(seed)
        every = range(len(case.grid.chips))
        one, other = (run(case, repeat=False, fold=fold, record=every) for fold in (True, False))
        folds += one.chips_simulated < len(every)
        told = [sorted((s.operation, s.run, s.chip, s.axis, s.sign, round(s.start * 1e12), s.end, s.bytes) for s in each.sent)
                for each in (one, other)]
        assert len(told[0]) == len(told[1]) > 0 or not told[1]
        for a, b in zip(*told):
            assert a[:5] == b[:5] and a[6:] == pytest.approx(b[6:], rel=1e-9)
    assert folds >= 15


@pytest.mark.parametrize("what", ["images", "twin"])
def test_a_chip_that_is_its_own_mirror_image_would_else_load_links_twice(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = torus((4, 4), bandwidth=1e9, latency=1e-6)
    graph.remove_edges_from([((0, 0), (1, 0)), ((1, 0), (0, 0))])
    direct, gather = Collective("far", "all_to_all", ("x", "y"), 1e6, "direct"), Collective("near", "all_gather", ("x", "y"), 1e6)
    program = Program((direct,) if what == "images" else (gather,))
    whole = simulate(program, graph, IDEAL, fold=False)
    assert not unlike(simulate(program, graph, IDEAL), whole)
    if what == "images":
        monkeypatch.setattr(messages, "images", lambda grid, axes, moves: np.ones((len(moves), len(grid.own)), np.int32) * 2)
    else:
        monkeypatch.setattr(Grid, "twin", property(lambda net: np.zeros((len(net.axes), len(net.own)), bool)))
    assert unlike(simulate(program, graph, IDEAL), whole)


def test_losses_where_flows_meet_are_those_of_all_flows() -> None:
    """On one chip that stands for all a link has flows that one flow stands for."""
    lossy = plain.replace(IDEAL, shared_efficiency=0.9)
    for shape in ((3,), (4, 4), (8, 8)):
        graph = torus(shape, bandwidth=1e9, latency=1e-6)
        program = collective("all_to_all", "xy"[:len(shape)], "direct")
        said = simulate(program, graph, lossy)
        assert said.chips_simulated == 1
        assert not unlike(said, simulate(program, graph, lossy, fold=False))
    assert said.makespan > simulate(program, graph, IDEAL).makespan


def dragonfly() -> nx.DiGraph:
    """Return five groups of two routers, each joined to its mate and two other groups, in the order of their numbers."""
    graph = nx.DiGraph(axes={"group": 5, "router": 2})
    for group in range(5):
        others = [g for g in range(5) if g != group]
        for place, other in enumerate(others):
            there = [g for g in range(5) if g != other].index(group)
            graph.add_edge((group, place // 2), (other, there // 2), bandwidth=1e9, latency=1e-6)
        for router in (0, 1):
            graph.add_edge((group, router), (group, 1 - router), bandwidth=1e9, latency=1e-6)
    return graph


def test_partition_refinement_alone_would_fold_a_dragonfly_wrongly() -> None:
    graph = dragonfly()
    links = read_links(graph)
    # Every router has three like links to routers with three: no refinement of labels ever tells two apart.
    assert {degree for _, degree in graph.in_degree()} == {degree for _, degree in graph.out_degree()} == {3}
    source, target = np.array([(a, b) for a in range(10) for b in range(10) if a != b]).T
    over = routes(links, "shortest", source, target)
    fluid = Fluid(over, links.bandwidth)
    fluid.start(np.arange(len(over)), np.ones(len(over)), 0.0)
    rate = fluid.rates()[1].reshape(10, 9)
    fastest = rate.max(axis=1)
    assert fastest.max() > 2 * fastest.min(), "the flows of some chips are unlike those of all others"
    for axes in (("group", "router"), ("group",)):
        program = Program((Collective("c", "all_to_all", axes, 1e6, "direct"),))
        said = simulate(program, graph, IDEAL)
        assert said.chips_simulated == 5  # turned round, it is the same
        assert not unlike(said, simulate(program, graph, IDEAL, fold=False))
    assert np.ptp(said.segments[0].end) > 5e-7, "so they are done at different times"


def test_a_routing_of_the_users_is_not_folded() -> None:
    graph = torus((3, 3), bandwidth=1e9, latency=1e-6)
    graph.graph["routing"] = nx.shortest_path
    assert simulated(collective("all_to_all", "xy", "direct"), graph) == 9
    assert simulated(collective("all_gather", "xy"), graph) == 1


def test_without_counting_flows_a_folded_run_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above can fail: entries that do not know how many flows they are make links look as if used by one."""
    route = routed.route
    monkeypatch.setattr(routed, "route", lambda *given: (plain.replace(part, number=None) for part in route(*given)))
    lossy = plain.replace(IDEAL, shared_efficiency=0.5)
    program, graph = collective("all_to_all", "x", "shifts"), torus((5,), bandwidth=1e9, latency=1e-6)
    assert unlike(simulate(program, graph, lossy), simulate(program, graph, lossy, fold=False))


def test_few_failed_translations_are_tried_and_what_was_found_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movement, "TRIES", 0)
    assert simulated(collective("all_to_all", "xy", "direct"), torus((4, 4), bandwidth=1e9, latency=1e-6)) == 1


def test_what_fails_to_lead_to_a_chip_is_not_tried_on_those_that_others_lead_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 8 nodes, 4 a leaf switch, only translations by 4 hold: by 1, 2 and 3 they fail, once each and not once for each GPU."""
    monkeypatch.setattr(movement, "TRIES", 3)
    graph = gpu_nodes(8, gpus=4, leaf=4, bandwidth=4e9, nic_bandwidth=1e9, latency=1e-6)
    assert simulated(collective("all_to_all", "xy", "shifts"), graph) == 4


def estimates(net: Grid, real: Any) -> list[float]:
    """Return what each algorithm of each collective over some axes takes alone by estimate, seconds."""
    outlines, found = Outlines(net), list[float]()
    for kind, axes in product(("all_gather", "all_reduce", "all_to_all"), (net.axes[:1], net.axes[-1:], net.axes)):
        for name in lower.fits(one := Collective("c", kind, axes, 1e6), prod(net.length(a) for a in axes)):
            for fastest in (False, True):
                found.append(alone(plain.replace(one, algorithm=name), outlines.prices(real), fastest))
    return found


@pytest.mark.parametrize("draw, some", [(periodic, 3), (mirrored, 1), (switched, 3)])
def test_estimates_of_the_chips_that_stand_for_all_are_those_of_all(draw: Callable[[int], Scenario], some: int,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = list[bool]()

    def folds_to(net: Grid, *given: Any) -> Grid:
        made = folded(net, *given)
        fewer[-1] |= len(made.own) < len(net.own)
        return made
    monkeypatch.setattr(movement, "folded", folds_to)
    for case in map(draw, range(8)):
        fewer.append(False)
        if len(case.grid.chips) > 1:
            monkeypatch.setattr(movement, "FEW", 10**9)
            whole = estimates(case.grid, case.chip)
            monkeypatch.setattr(movement, "FEW", 0)
            assert estimates(case.grid, case.chip) == pytest.approx(whole, rel=1e-12)
    assert sum(fewer) >= some


@pytest.mark.parametrize("graph", [
    gpu_nodes(8, gpus=4, leaf=4, bandwidth=4e9, nic_bandwidth=1e9, latency=1e-6),
    arranged(fat_tree([4, 2, 2], bandwidth=4e9, latency=1e-6, oversubscription=[2, 1]), (4, 4)), boardfly(3, bandwidth=1e9),
    named_dragonfly(routers=2, chips=2, global_links=1, bandwidth=1e9, latency=1e-6),
], ids=["gpu_nodes", "fat_tree", "boardfly", "dragonfly"])
def test_estimates_on_networks_by_name_are_those_of_all_chips(graph: nx.DiGraph, monkeypatch: pytest.MonkeyPatch) -> None:
    net, lossy = grid(graph), plain.replace(plain.REAL, shared_efficiency=0.6)
    monkeypatch.setattr(movement, "FEW", 0)
    said = estimates(net, lossy)
    monkeypatch.setattr(movement, "FEW", 10**9)
    assert said == pytest.approx(estimates(net, lossy), rel=1e-12)
