"""The event core: compiled or not, with little room or much, with one model of the network or another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import alone
import numpy as np
import pytest
import random_scenarios
from plain import plain, plain_core
from random_shared import Scenario, drifting, run, scenario
from thinned import thinned

from torussim.chips import chip
from torussim.engine import event_core, prepared, routed, shared_run
from torussim.program import Collective, Compute, Program
from torussim.timeline import Timeline
from torussim.topology.builders import torus

ROOT = Path(__file__).resolve().parent.parent


def bits(timeline: Timeline) -> list[Any]:
    """Return all numbers of a run whose messages share links; equal lists: equal to the last bit."""
    times = [(segment, offset, timeline.segments[segment].start.tolist(), timeline.segments[segment].end.tolist())
             for segment, offset in timeline.runs]
    sent = sorted((s.run, s.operation, s.chip, s.axis, s.sign, s.start, s.end, s.bytes) for s in timeline.sent)
    return [times, timeline.finish.tolist(), timeline.events, timeline.blocks_simulated, timeline.period, timeline.leapt, sent,
            timeline.flows, timeline.solves]


def flat(timeline: Timeline) -> np.ndarray[Any, Any]:
    """Return starts and ends of all runs one under the other, (2 x executed operations, chips)."""
    found = [np.concatenate([timeline.segments[segment].start, timeline.segments[segment].end]) + offset
             for segment, offset in timeline.runs]
    return np.concatenate([*found, np.zeros((0, len(timeline.chips)))])


# Compiled and plain


@pytest.mark.parametrize("case", [
    *(pytest.param(lambda seed=seed: scenario(seed), id=f"{seed}", marks=[] if seed % 6 == 0 else pytest.mark.slow)
      for seed in range(60)),
    *(pytest.param(lambda seed=seed: scenario(seed, nested=True), id=f"nested {seed}") for seed in (3, 120)),
    *(pytest.param(lambda seed=seed: scenario(seed, layers=12, alike=True), id=f"repeated {seed}") for seed in (1, 14)),
    *(pytest.param(lambda seed=seed: drifting(seed), id=f"leaping {seed}") for seed in (0, 2))])
def test_compiled_and_plain_are_equal_to_the_last_bit(case: Callable[[], Scenario], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every start and end, every message, and how often the clock stops."""
    given = case()
    record = range(0, len(given.start), 2)
    compiled = bits(run(given, record=record))
    plain_core(monkeypatch)
    assert bits(run(given, record=record)) == compiled


def test_the_plain_copies_are_not_those_of_everybody_else() -> None:
    for name in ("heap", "max_min", "event_core", "shared_run"):
        assert plain(name) is not sys.modules[f"torussim.engine.{name}"]
        assert plain(name) is plain(name)
    core = plain("event_core")
    assert core.network is plain("max_min") and plain("shared_run").core is core and type(core.run).__name__ == "function"
    assert shared_run.core is event_core is sys.modules["torussim.engine.event_core"] and event_core.network is not core.network


SMALL = """
import sys
sys.path.insert(0, "tests")
from random_shared import run, scenario
timeline = run(scenario(17))
print(timeline.finish.tolist(), [(s.start.tolist(), s.end.tolist()) for s in timeline.segments], timeline.events)
"""


def python(code: str, **environment: str) -> str:
    """Return what a Python of its own prints."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(ROOT), **environment})
    assert not done.returncode, done.stderr
    return done.stdout


@pytest.mark.parametrize("missing", [False, True])
def test_a_run_is_the_same_where_numba_is_missing_or_disabled(missing: bool) -> None:
    timeline = run(scenario(17))
    wanted = f"{timeline.finish.tolist()} {[(s.start.tolist(), s.end.tolist()) for s in timeline.segments]} {timeline.events}\n"
    if missing:
        assert python("import sys\nsys.modules['numba'] = None" + SMALL) == wanted
    else:
        assert python(SMALL, NUMBA_DISABLE_JIT="1") == wanted


USES = """
import sys
import torussim
torussim.run("scenarios/SCENARIO.yaml", overrides=["workload.tokens=1"])
print("numba" in sys.modules)
"""


@pytest.mark.parametrize("name, used", [("palm-540b-decode-high-throughput", False), ("network-dead-link", True)])
def test_numba_is_imported_for_runs_whose_messages_share_links_and_for_no_others(name: str, used: bool) -> None:
    assert python(USES.replace("SCENARIO", name), NUMBA_DISABLE_JIT="1").split() == [str(used)]


# Room


def apart(kind: str) -> Scenario:
    """Return rings over x that nothing joins, each slower than the one before: the first is blocks ahead of the last.

    Links over y are shared, and those over x where messages over x are routed or make a detour.
    """
    graph = torus((4, 3), bandwidth=4e9, latency=1e-6)
    for (u, v), link in graph.edges.items():
        if u[1] == v[1]:
            link["bandwidth"] /= (1, 3, 9)[u[1]]
    first = Collective("first", "all_to_all", ("y",), 1e4, "direct")
    gather = Collective("gather", "all_gather", ("x",), 1e5)
    block: dict[str, tuple[Collective | Compute, ...]] = {
        "private": (gather, Compute("work", flops=1e9)),
        "detour": (replace(gather, detour=True), Compute("work", flops=1e9)),
        "direct": (Collective("exchange", "all_to_all", ("x",), 1e5, "direct"), gather),
        "shifts": (Collective("exchange", "all_to_all", ("x",), 1e5, "shifts"), Compute("work", flops=1e9)),
    }
    if kind == "detour":
        graph.remove_edges_from([((0, 2), (1, 2)), ((1, 2), (0, 2))])
    last = Collective("last", "all_gather", ("x", "y"), 1e4)
    return Scenario(Program(block[kind], 11, (first,), (last,)), graph, (0.0,) * 12, chip("ideal"))


@contextmanager
def little_room(slots: int, work: int = 0, log: int = 0, flows: int = 0) -> Iterator[list[int]]:
    """Give runs that many block runs at a time at first, items before the worklist grows, messages logged, slots of flows.

    What is left of arrays is what the core may use without asking. Yields, by run made, the block runs that had room.
    """
    fresh, made, rooms = shared_run.fresh, event_core.network.made, list[int]()

    def small(table: Any, begin: Any, record: Any, room: int = slots) -> Any:
        rooms.append(room)
        state = fresh(table, begin, record, room)
        if work:
            state.one["margin"] = len(state.work) - work
        if log and len(state.log):
            state.one["log_margin"] = len(state.log) - log
        return state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared_run, "fresh", small)
        if flows:
            patch.setattr(event_core.network, "made", lambda *given: made(*given, slots=flows))
        yield rooms


KINDS = ("private", "detour", "direct", "shifts")


@pytest.mark.parametrize("slots", [1, 2, 32])
@pytest.mark.parametrize("kind", KINDS)
def test_room_for_few_block_runs_at_a_time_gives_the_times_of_room_for_many(kind: str, slots: int) -> None:
    case = apart(kind)
    wanted = bits(run(case, repeat=False))
    with little_room(slots) as rooms:
        assert bits(run(case, repeat=False)) == wanted
    many = 1 if kind == "private" else 8  # all that follows of a block on private links is known before the next begins
    assert rooms == [slots << i for i in range(len(rooms))] and rooms[-1] >= many


@pytest.mark.parametrize("kind", KINDS)
def test_a_little_worklist_a_little_log_and_a_network_for_one_flow_change_no_time(kind: str) -> None:
    case, record = apart(kind), range(12)
    wanted = bits(run(case, record=record, repeat=False))
    for work in (1, 2, 3, 5, 8, 13, 21):
        with little_room(2, work=work):
            assert bits(run(case, record=record, repeat=False)) == wanted, work
    for log in (1, 2, 7, 50):
        with little_room(2, log=log):
            assert bits(run(case, record=record, repeat=False)) == wanted, log
    with little_room(1, work=1, log=1, flows=1):
        assert bits(run(case, record=record, repeat=False)) == wanted


def test_a_queue_that_was_held_up_for_many_blocks_has_room_in_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hop of the first chip sends 401 messages at once, when the message that is late, a flow, has arrived there."""
    graph = torus((8,), bandwidth=1e9, latency=1e-6)
    graph.graph["events"] = ((50.0, {((1,), (0,)): 5e8}),)  # which makes this hop a shared one

    def permute(name: str, shift: int, after: tuple[str, ...] = ()) -> Collective:
        return Collective(name, "permute", ("x",), 1e3, shift={"x": shift}, after=after)
    prologue = permute("late", -1), permute("held up", 1, ("late",)), Compute("goes on", flops=1e6, after=())
    block = *(permute(f"hop {i}", 1) for i in range(4)), Compute("soon", flops=1e6, after=())
    case = Scenario(Program(block, 100, prologue), graph, (0.0,) * 8, chip("ideal"))
    core_run, _ = plain_core(monkeypatch)
    fresh = core_run.fresh

    def small(*given: Any) -> Any:
        state = fresh(*given)
        return state._replace(log=state.log[:state.one["log_margin"][0] + 1])
    monkeypatch.setattr(core_run, "fresh", small)
    assert len(run(case, record=range(8), repeat=False).sent) == 8 * (2 + 4 * 100)


def test_room_makes_no_difference_to_the_blocks_that_are_left_out() -> None:
    case, found = apart("private"), []
    for slots in (2, 4, 8):
        with little_room(slots):
            timeline = run(case)
        found.append((timeline.blocks_simulated, timeline.leapt))
    assert found == [found[0]] * 3 and found[0][1] > 0


@pytest.mark.parametrize("seed", thinned(range(40), 4))
def test_random_runs_with_little_room_have_the_times_of_those_with_much(seed: int) -> None:
    case = scenario(seed)
    record = range(len(case.start))
    wanted = bits(run(case, record=record, repeat=False))
    for slots, work, log, flows in ((1, 1, 1, 1), (2, 4, 5, 2), (1, 9, 0, 3)):
        with little_room(slots, work, log, flows):
            assert bits(run(case, record=record, repeat=False)) == wanted


# Another model of the network


@pytest.fixture
def flows_alone(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Timeline]:
    """Return what runs a scenario with every flow alone on its links."""
    def running(case: Any, **choices: Any) -> Timeline:
        with monkeypatch.context() as patch:
            _, core = plain_core(patch)
            patch.setattr(core, "network", alone.NETWORK)
            return run(case, **choices)
    return running


def without_loss(seed: int) -> Scenario:
    case = scenario(seed)
    return replace(case, chip=replace(case.chip, shared_efficiency=1.0))


@pytest.mark.parametrize("seed", thinned(range(60), 4))
def test_flows_alone_on_their_links_make_nothing_later(seed: int, flows_alone: Callable[..., Timeline]) -> None:
    case = without_loss(seed)
    fair, lonely = run(case, repeat=False), flows_alone(case, repeat=False)
    assert (flat(lonely) <= flat(fair) + 1e-9 * fair.makespan).all() and lonely.flows == fair.flows


def test_flows_alone_on_their_links_make_some_runs_shorter(flows_alone: Callable[..., Timeline]) -> None:
    cases = [without_loss(seed) for seed in range(0, 60, 5)]
    assert sum(flows_alone(case).makespan < 0.999 * run(case).makespan for case in cases) >= 3


@pytest.mark.parametrize("seed", thinned(range(40), 4))
def test_where_every_hop_has_a_link_of_its_own_both_models_give_the_same(seed: int, flows_alone: Callable[..., Timeline],
                                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything goes through the network, and each hop's transfers one after another: no link ever has two flows."""
    def all_flows(planner: Any, sections: Any) -> routed.Shared:
        every = np.ones(planner.rate.size, bool)
        return routed.Shared(routed._hop_paths(planner.grid, np.array([], dtype=int)),
                             routed._fluid_lanes(planner, sections, every), ~every, {})
    case = random_scenarios.scenario(seed)
    shared = Scenario(case.program, case.graph, case.start, replace(case.chip, shared_efficiency=1.0), case.repeat)
    wanted = run(shared)
    assert wanted.flows == 0, "all private"
    monkeypatch.setattr(prepared, "shared", all_flows)
    fair, lonely = run(shared, repeat=False), flows_alone(shared, repeat=False)
    close = 1e-9 * fair.makespan
    assert fair.flows == lonely.flows and np.abs(flat(fair) - flat(lonely)).max(initial=0.0) <= close
    assert np.abs(fair.finish - wanted.finish).max() <= close
