"""What is chosen by estimate: detours or lines for rings that lack a link, and what the closed forms say of them."""

from dataclasses import replace

import networkx as nx
import pytest

from torussim import run
from torussim.chips import chip
from torussim.choice import chosen
from torussim.closed_forms import axes_seconds, charges
from torussim.engine.simulate import simulate
from torussim.program import Collective, Program
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid

IDEAL = chip("ideal")


def broken(shape: tuple[int, ...], latency: float = 0.0, **keywords: object) -> Grid:
    """A torus without its link from the first chip to the next along x."""
    graph: nx.DiGraph = torus(shape, bandwidth=1e9, latency=latency, **keywords)
    u, v = (0,) * len(shape), (1, *(0,) * (len(shape) - 1))
    graph.remove_edges_from([(u, v), (v, u)])
    return grid(graph)


def one(kind: str, axes: str, size: float, **keywords: object) -> Program:
    return Program((Collective("c", kind, tuple(axes), size, **keywords),))  # type: ignore[arg-type]


def seconds(net: Grid, program: Program) -> float:
    return simulate(program, net, IDEAL).makespan


@pytest.mark.parametrize("shape", [(8, 4), (8, 4, 4), (5, 5)])
def test_large_gathers_take_detours_and_that_is_faster_than_lines(shape: tuple[int, ...]) -> None:
    net = broken(shape)
    (picked,) = chosen(one("all_gather", "x", 1e9), net, IDEAL).block
    assert isinstance(picked, Collective) and picked.detour is True
    by_detour, as_line = (seconds(net, one("all_gather", "x", 1e9, detour=way)) for way in (True, False))
    assert seconds(net, one("all_gather", "x", 1e9)) == by_detour < as_line


def test_a_ring_of_one_axis_has_only_the_long_way_round_and_runs_as_a_line() -> None:
    net = broken((8,))
    (picked,) = chosen(one("all_gather", "x", 1e9), net, IDEAL).block
    assert isinstance(picked, Collective) and picked.detour is False
    by_detour, as_line = (seconds(net, one("all_gather", "x", 1e9, detour=way)) for way in (True, False))
    assert as_line <= by_detour


def test_small_gathers_on_short_rings_run_as_lines_where_detours_cost_more_hops() -> None:
    net = broken((4, 4), latency=1e-6)
    (picked,) = chosen(one("all_gather", "x", 1e3), net, IDEAL).block
    assert isinstance(picked, Collective) and picked.detour is False


@pytest.mark.parametrize("detour", [True, False])
@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (4, 4, 4)])
@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_to_all", "all_reduce"])
def test_the_closed_form_of_broken_rings_is_no_less_than_the_simulation(kind: str, shape: tuple[int, ...], detour: bool) -> None:
    net, program = broken(shape), one(kind, "x", 1e9, detour=detour)
    assert seconds(net, program) <= axes_seconds(program, net, IDEAL) * (1 + 1e-9)


def test_what_is_given_is_kept() -> None:
    net = broken((8, 4))
    for way in (True, False):
        (picked,) = chosen(one("all_gather", "x", 1e9, detour=way), net, IDEAL).block
        assert isinstance(picked, Collective) and picked.detour is way


def test_where_no_ring_is_broken_nothing_is_chosen() -> None:
    (picked,) = chosen(one("all_gather", "y", 1e9), broken((8, 4)), IDEAL).block
    assert isinstance(picked, Collective) and picked.detour is None


@pytest.mark.parametrize("shape", [(4,), (4, 4), (4, 6), (4, 4, 4), (4, 4, 8)])
def test_a_direct_all_to_all_on_even_rings_takes_what_the_closed_form_says(shape: tuple[int, ...]) -> None:
    net = grid(torus(shape, bandwidth=1e9))
    program = Program((Collective("c", "all_to_all", net.axes, 1e9, "direct"),))
    assert axes_seconds(program, net, IDEAL) == pytest.approx(max(shape) / 8, rel=1e-12)
    assert seconds(net, program) == pytest.approx(max(shape) / 8, rel=1e-12)
    (charge,) = charges(program, net, IDEAL)
    assert charge.links == 2 * len(shape)


@pytest.mark.parametrize("shape", [(4,), (4, 4), (4, 4, 4)])
def test_shifts_take_what_the_closed_form_says_where_every_chip_is_alike(shape: tuple[int, ...]) -> None:
    net = grid(torus(shape, bandwidth=1e9))
    program = Program((Collective("c", "all_to_all", net.axes, 1e9, "shifts"),))
    assert seconds(net, program) == pytest.approx(axes_seconds(program, net, IDEAL), rel=1e-9)


def test_the_collective_that_gains_most_is_looped_so_a_faster_axis_never_makes_a_step_slower() -> None:
    """On 8 chips gathers before matmuls and scatters after them are about as long, and change places as the axis gets faster."""
    def step(scale: float) -> float:
        return float(run({"model": {"base": "palm-8b", "layers": 2}, "chip": "tpu-v4",
                          "topology": {"shape": [2, 2, 2], "links": [{"axis": "x", "scale": scale}]},
                          "layout": {"ffn": "ws2d", "attention": "batch"},
                          "workload": {"phase": "decode", "batch": 8, "context": 64, "tokens": 1}}).step_s)
    times = [step(scale) for scale in (0.25, 0.5, 0.7, 1, 1.4, 2, 4)]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("shape, links", [((4, 4, 4), 6), ((4, 4), 4), ((4,), 2), ((2, 2), 2), ((4, 4, 4, 4), 8)])
@pytest.mark.parametrize("preset", [1, 4, 6])
def test_no_collective_has_more_links_than_a_chip_and_the_paper_charges_those_of_the_preset(shape, links, preset):
    net, real = grid(torus(shape, bandwidth=1e9)), replace(IDEAL, links=preset)
    program = Program((Collective("c", "all_gather", net.axes, 1e6),))
    (charge,) = charges(program, net, real)
    assert charge.links <= charge.of == links and charge.charged == preset
    assert charge.paper_s == 1e6 / (preset * real.link_bandwidth)


def test_auto_takes_an_algorithm_that_every_one_of_unlike_groups_can_run():
    """The largest group is a power of two, and the other one is not: recursive doubling is for neither."""
    net = grid(torus([8], wrap=False, bandwidth=45e9, latency=1e-6))
    for kind in ("all_reduce", "all_gather", "reduce_scatter"):
        program = chosen(one(kind, "", 1e3, algorithm="auto", groups=((0, 1, 2), (4, 5, 6, 7))), net, IDEAL)
        (made,) = program.block
        assert isinstance(made, Collective) and made.algorithm not in ("auto", "recursive_doubling", "halving_doubling")
        assert seconds(net, program) > 0
