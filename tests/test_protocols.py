"""How a library sends: two protocols, sums in the switch, the algorithms that it has; and NCCL's times on H100."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
import pytest
import random_shared
from test_fold import unlike

from torussim import load, measurements, run
from torussim.calibrate import calibrate
from torussim.chips import Chip, chip, describe
from torussim.choice import alternatives, chosen
from torussim.collectives.lower import lower
from torussim.collectives.playback import check
from torussim.cost import on_wire
from torussim.critical_path import least_seconds
from torussim.engine.simulate import simulate
from torussim.errors import ContractError, ProgramError, ScenarioError, TorusSimError
from torussim.lower_bound import operation_seconds
from torussim.outlines import Outlines
from torussim.program import Collective, Program
from torussim.report import text
from torussim.topology.grid import Grid, grid
from torussim.topology.named import network
from torussim.validate import validate

W, LATE = 10e9, 1e-6
IDEAL = chip("ideal")
TWO = replace(IDEAL, launch=2e-6, bulk_launch=20e-6, low_latency_rate=0.5)


def star(chips: int = 8, sums: bool = False, latency: float = LATE) -> Grid:
    return grid(network("switch", {"chips": chips, "bandwidth": W, "latency": latency, "sums": sums}, [chips]))


def took(o: Collective, net: Grid, machine: Chip = IDEAL) -> float:
    return simulate(Program((o,)), net, machine).makespan


def reduce(size: float, algorithm: str = "in_network", axes: tuple[str, ...] = ("x",), **what: Any) -> Collective:
    return Collective("c", "all_reduce", axes, size, algorithm, **what)


@pytest.mark.parametrize("size", [1e3, 1e5, 3.9e5, 4.1e5, 1e7])
def test_the_faster_protocol_is_taken(size: float) -> None:
    """For 8 chips: 2 us + 2 hops + 7/8 D / (W / 2), or 20 us more and D whole; they meet at 20 us W 8/7 = 228.6 kB."""
    net, o = star(), Collective("c", "all_gather", ("x",), size, "direct")
    either = [2e-6 + 2 * LATE + 7 / 8 * size / (W / 2), 22e-6 + 2 * LATE + 7 / 8 * size / W]
    assert took(o, net, TWO) == pytest.approx(min(either), rel=1e-12)
    (taken,) = chosen(Program((o,)), net, TWO).block
    assert taken == replace(o, protocol="bulk" if either[1] < either[0] else "low_latency")
    for way, seconds in zip(("low_latency", "bulk"), either, strict=True):
        assert took(replace(o, protocol=way), net, TWO) == pytest.approx(seconds, rel=1e-12)
    assert on_wire(replace(o, protocol="low_latency"), TWO).bytes == 2 * size and on_wire(o, TWO) is o


@pytest.mark.parametrize("seed", range(10))
def test_without_a_second_protocol_nothing_changes(seed: int) -> None:
    case = random_shared.stepwise(seed)
    other = replace(case, chip=replace(case.chip, low_latency_rate=0.5, in_switch_rate=0.5))
    assert not unlike(random_shared.run(case), random_shared.run(other))


def test_a_matmul_in_a_loop_sends_in_one_protocol() -> None:
    cases = map(random_shared.scenario, range(99))
    case = next(case for case in cases if any(getattr(o, "loop", None) for o in case.program.block))
    looped = {o.loop.collective for o in case.program.operations() if getattr(o, "loop", None)}
    made = chosen(case.program, case.grid, replace(case.chip, bulk_launch=1e-6))
    for o in made.operations():
        if isinstance(o, Collective):
            assert (o.protocol == "") == (o.name in looped)


@pytest.mark.parametrize("chips", [2, 3, 8])
def test_sums_in_the_switch_bring_the_vector_once_each_way_and_reach_the_bound(chips: int) -> None:
    net, size = star(chips, sums=True), 4e6
    assert took(reduce(size), net) == pytest.approx(size / W + 4 * LATE, rel=1e-12)
    assert operation_seconds(reduce(size), net, IDEAL) == pytest.approx(size / W)
    half = replace(IDEAL, in_switch_rate=0.5)
    assert took(reduce(size), net, half) == pytest.approx(2 * size / W + 4 * LATE, rel=1e-12)
    found = alternatives(reduce(size, ""), Outlines(net), IDEAL)
    assert next(iter(found)) == "in_network" or chips == 2
    assert "in_network" not in alternatives(reduce(size, ""), Outlines(star(chips)), IDEAL)


def test_a_tree_of_switches_that_sum_carries_the_vector_once_each_way_on_every_link() -> None:
    graph = network("fat_tree", {"down": [4, 4], "bandwidth": W, "sums": True}, [16])
    said = simulate(Program((reduce(4e6),)), grid(graph), IDEAL)
    assert said.makespan == pytest.approx(4e6 / W, rel=1e-9)
    used = said.link_bytes[said.link_bytes > 0]
    assert used.max() == pytest.approx(4e6)


def test_switches_that_do_not_join_all_chips_sum_nothing() -> None:
    nodes = grid(network("gpu_nodes", {"nodes": 2, "gpus": 4, "bandwidth": W, "sums": True}))
    assert took(reduce(4e6, axes=("y",)), nodes) > 0
    for o, net in ((reduce(4e6, axes=("x", "y")), nodes), (reduce(4e6, axes=("x",)), nodes), (reduce(4e6), star()),
                   (reduce(4e6, axes=(), groups=((0, 1, 4),)), nodes)):
        with pytest.raises(ProgramError, match="'c' is to be summed in_network, and no switches that sum join all chips"):
            lower(o, net)
    assert took(reduce(4e6, axes=(), groups=((0, 1, 3), (4, 7))), nodes) > 0


def test_a_switch_gets_from_each_chip_once() -> None:
    schedule = lower(reduce(8e6), star(8, sums=True))
    check(schedule)
    ready, step = schedule.steps
    assert step.to is not None
    twice = step.to.copy()
    twice[0, 1] = twice[0, 0]
    for wrong in ((ready, replace(step, to=twice)), (ready,), (ready, replace(step, size=4e6)), (ready, step, step)):
        with pytest.raises(ContractError):
            check(replace(schedule, steps=wrong))


def test_auto_takes_what_the_library_has() -> None:
    net, machine = star(8, sums=True), replace(IDEAL, algorithms={"all_reduce": ("one_ring one_way", "hierarchical")})
    assert list(alternatives(reduce(1e6, ""), Outlines(net), machine)) == ["one_ring one_way"]
    (taken,) = chosen(Program((reduce(1e6, ""),)), net, machine).block
    assert isinstance(taken, Collective) and (taken.algorithm, taken.direction) == ("one_ring", "one_way")
    assert took(reduce(1e6, ""), net, machine) == pytest.approx(2 * 7 / 8 * 1e6 / W + 14 * 2 * LATE, rel=1e-12)
    nothing = replace(machine, algorithms={"all_reduce": ("hierarchical",)})
    assert len(alternatives(reduce(1e6, ""), Outlines(net), nothing)) > 3  # it has none for one axis: any other


@pytest.mark.parametrize("direction", ["both", "one_way"])
@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_reduce"])
def test_the_estimate_of_a_ring_through_a_switch_counts_the_directions_that_send(kind: Any, direction: str) -> None:
    o = Collective("c", kind, ("x",), 1e6, "one_ring", direction=direction)
    net = star(6)
    machine = replace(IDEAL, algorithms={kind: (f"one_ring {direction}",)})
    found = alternatives(replace(o, algorithm="auto"), Outlines(net), machine)
    assert found[f"one_ring {direction}"] == pytest.approx(took(o, net), rel=1e-12)


def test_a_chip_says_what_its_library_has() -> None:
    h100 = chip("h100")
    assert chip(describe(h100)) == h100 and describe(h100)["algorithms"]["value"]["all_to_all"] == ["direct"]
    assert "algorithms" not in describe(chip("tpu-v4")) and "bulk_launch" not in describe(chip("tpu-v4"))
    with pytest.raises(TorusSimError, match="is not a mapping of kinds of collectives to algorithms"):
        chip("h100", algorithms=["direct"])


def test_nccl_on_h100_is_predicted_within_12_percent() -> None:
    """80 points; all parameters are those that `torussim calibrate nccl-h100` finds (docs/networks.md has the whole fit)."""
    found = validate(["nccl-h100"])
    assert not found.mistakes and len(found.points) == 80
    errors = np.abs([row.error for row in found.points])
    assert errors.mean() <= 0.12
    given = measurements.read(measurements.found("nccl-h100")).fit
    assert len(given) <= 6 and set(given) <= set(chip("h100").uncertainty)


@pytest.mark.slow
def test_calibrate_finds_what_the_chip_has(tmp_path: Any) -> None:
    """From every third size; a parameter that no other group knows of is kept where a group is left out."""
    lines = measurements.found("nccl-h100").read_text().splitlines()
    thin = tmp_path / "thin.yaml"
    rows = [i for i, line in enumerate(lines) if "time:" in line]
    thin.write_text("\n".join(line for i, line in enumerate(lines) if i not in rows or rows.index(i) % 3 == 0))
    found = calibrate(thin)
    assert not found.mistakes and {p.name for p in found.parameters} == set(chip("h100").uncertainty)
    for p in found.parameters:
        assert p.constrained and p.value == pytest.approx(getattr(chip("h100"), p.name), rel=0.35), p
    left_out = np.abs(found.errors(left_out=True))
    assert left_out.mean() < 0.25


def test_the_least_time_of_a_program_knows_the_protocol_of_each_collective() -> None:
    """The table of the first was that of the second too: 4.65 ms at the least, and 2.74 ms simulated."""
    net = star()
    for sizes in ((1e3, 1e8), (1e8, 1e3)):
        gathers = [Collective(f"c{i}", "all_gather", ("x",), size, "direct") for i, size in enumerate(sizes)]
        program = chosen(Program(tuple(gathers)), net, TWO)
        assert len({o.protocol for o in program.block if isinstance(o, Collective)}) == 2
        least, said = least_seconds(program, net, TWO), simulate(program, net, TWO).makespan
        assert 0.99 * said < least <= said * (1 + 1e-9)


def test_collectives_alone_do_not_validate_a_chip_for_whole_steps() -> None:
    assert not chip("h100").validated
    said = text(run({"chip": "h100", "topology": {"kind": "switch", "shape": [2]}, "program": [
        {"name": "c", "collective": "all_gather", "axes": "x", "bytes": 1e6}]}))
    assert "not validated on this chip" in said


@pytest.mark.parametrize("given, told", [
    ({"all_gatherr": ["direct"]}, "algorithms: 'all_gatherr' is not a collective: did you mean 'all_gather'?"),
    ({"all_gather": ["direkt"]}, "algorithms: all_gather: 'direkt' is not an algorithm of all_gather: did you mean 'direct'?"),
    ({"all_gather": ["one_ring one_wey"]}, "algorithms: all_gather: 'one_wey' is not a direction: did you mean 'one_way'?")])
def test_what_a_library_is_said_to_have_must_be_there(given: Any, told: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        load({"chip": {"base": "h100", "algorithms": given}, "topology": {"kind": "switch", "shape": [4]},
              "program": [{"name": "c", "collective": "all_gather", "axes": "x", "bytes": 1e6}]})
    (mistake,) = caught.value.mistakes
    assert told in mistake.text and mistake.code == "unknown-name"


def test_a_misspelt_name_of_measurements_is_told_the_nearest() -> None:
    with pytest.raises(TorusSimError, match="'nccl-h10' is not a measurement: did you mean 'nccl-h100'"):
        validate(["nccl-h10"])


def test_what_a_file_says_is_to_be_fitted_is_checked(tmp_path: Any) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("chip: h100\nfit: {launch: {value: 5 m, sigma: 0.5}, lunch: {value: 1, sigma: 1}, message: {value: 1 us},\n"
                    "  cores: {value: 2, sigma: 1}}\ngroups:\n  - name: a\n    scenario: {topology: {kind: switch, shape: [4], "
                    "bandwidth: 1 GB/s},\n      program: [{name: c, collective: all_gather, axes: x, bytes: 1 kB}]}\n"
                    "    measured: [{time: 1 us}]\n")
    told = "\n".join(str(one) for one in measurements.read(file).mistakes)
    assert "launch: " in told and "lunch" in told and "lacks 'sigma'" in told and "cores: chip: " not in told.split("launch")[0]
    assert len(measurements.read(file).mistakes) == 4


def test_switches_of_a_graph_file_can_sum() -> None:
    graph = nx.DiGraph(axes={"x": 3})
    graph.add_node("s", chip=False, sums=True)
    for i in range(3):
        for u, v in (((i,), "s"), ("s", (i,))):
            graph.add_edge(u, v, bandwidth=W, latency=0.0)
    assert took(reduce(3e6), grid(graph)) == pytest.approx(3e6 / W)
