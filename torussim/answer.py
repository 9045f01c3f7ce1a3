"""Scenario -> Result: the one way from a file to an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from torussim.analysis import breakdown
from torussim.engine.simulate import simulate
from torussim.keys import Ran, charged, estimate_key, faults_key, layout_key, links_key, memory_key, operations_key, range_key
from torussim.program import Program
from torussim.result import Keys, Later, Result
from torussim.scenario import Scenario, load
from torussim.timeline import Timeline
from torussim.transformer import build
from torussim.trust import Trust
from torussim.workload import passes

Progress = Callable[[int, int], None]


def run(source: str | Path | Mapping[str, Any] | Scenario, *, overrides: Sequence[str] = (), code: str | Trust = "beside",
        progress: Progress | None = None) -> Result:
    """Return the answer to a scenario: a file, a mapping of the same form, or what `load` made of one.

    `overrides`: assignments such as "workload.tokens=1"; `code`: whose code may run, as in `load`; `progress(done,
    all)` counts blocks. Raise ScenarioError with all mistakes of the scenario.
    """
    scenario = source if isinstance(source, Scenario) else load(source, overrides, code=code)
    return _bare(scenario, progress) if scenario.program else _model(scenario, progress)


def replay(scenario: Scenario, chips: Sequence[int]) -> Timeline:
    """Return the timeline of a scenario's last pass, with every message of some chips."""
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    if scenario.program:
        return simulate(scenario.program, scenario.net, scenario.chip, record=chips)
    assert scenario.model and scenario.workload
    forward = passes(scenario.workload)[-1]
    program = build(scenario.model, scenario.layouts[forward.phase], forward, axes)
    return simulate(program, scenario.net, scenario.chip, record=chips)


@dataclass
class _Phase:
    """The passes of one phase: how long they took in all, where that went, and their programs."""

    seconds: float = 0.0
    breakdown: dict[str, float] = field(default_factory=dict)
    programs: list[Program] = field(default_factory=list)

    def add(self, program: Program, timeline: Timeline) -> None:
        self.seconds += timeline.makespan
        self.programs.append(program)
        for key, value in breakdown(timeline, timeline.last_chip).items():
            self.breakdown[key] = self.breakdown.get(key, 0.0) + value


def _model(scenario: Scenario, progress: Progress | None) -> Result:
    began = time.perf_counter()
    model, workload = scenario.model, scenario.workload
    assert model is not None and workload is not None
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    todo = passes(workload)
    phases = {"prefill": _Phase(), "decode": _Phase()}
    links = np.zeros((2, len(scenario.net.links.source)))
    events = simulated = flows = leapt = 0
    for number, forward in enumerate(todo):
        program = build(model, scenario.layouts[forward.phase], forward, axes)
        step = _step(progress, number, len(todo))
        timeline = simulate(program, scenario.net, scenario.chip, start=_start(scenario, phases), progress=step)
        phases[forward.phase].add(program, timeline)
        links += (timeline.link_bytes, timeline.link_seconds)
        events += timeline.events
        flows += timeline.flows
        simulated += timeline.blocks_simulated
        leapt += timeline.leapt
    prefill, decode = phases["prefill"], phases["decode"]
    latency = prefill.seconds + decode.seconds
    mean = bool(decode.programs)
    timed, count = (decode, len(decode.programs)) if mean else (prefill, 1)
    step_s = timed.seconds / count
    tokens = workload.batch * ((workload.context if workload.phase != "decode" else 0)
                               + (workload.tokens if workload.phase != "prefill" else 0))
    chips = len(scenario.net.chips)
    ran = Ran(scenario, program, timeline, step_s, timed.programs, mean, forward)
    given: dict[str, Any] = {"scenario": scenario.resolved, "chips": chips, "step_s": step_s, "latency_s": latency,
                             "makespan_s": latency}
    if workload.phase == "generate":
        given["prefill_s"] = prefill.seconds
        given["prompt_tokens_per_s"] = workload.batch * workload.context / prefill.seconds
        given["generated_tokens_per_s"] = workload.batch * workload.tokens / decode.seconds
    whole = replace(timeline, link_bytes=links[0], link_seconds=links[1])
    given |= {"tokens_per_s": tokens / latency, "chip_s_per_token": chips * latency / tokens,
              "mfu": 2 * model.parameters * tokens / (chips * scenario.chip.flops["bf16"] * latency),
              "memory": Later(memory_key, scenario),
              "breakdown_s": {key: value / count for key, value in timed.breakdown.items()}}
    given |= {"estimate": estimate_key(ran), "operations": Later(operations_key, ran),
              "links": Later(links_key, ran, whole, latency)}
    given |= _faults(ran)
    given |= {"range_s": Later(range_key, ran), "validated": scenario.chip.validated or None, "layout": Later(layout_key, ran)}
    engine = {"events": events, "flows": flows, "chips_simulated": timeline.chips_simulated, "blocks_simulated": simulated,
              "blocks": model.layers * len(todo), "period": timeline.period, "leapt": leapt,
              "wall_s": time.perf_counter() - began}
    return _result(ran, given, engine)


def _bare(scenario: Scenario, progress: Progress | None) -> Result:
    began = time.perf_counter()
    program = scenario.program
    assert program is not None
    timeline = simulate(program, scenario.net, scenario.chip, progress=progress)
    ran = Ran(scenario, program, timeline, timeline.makespan, [program], False)
    given: dict[str, Any] = {"scenario": scenario.resolved, "chips": len(scenario.net.chips), "makespan_s": timeline.makespan,
                             "operations": Later(operations_key, ran), "links": Later(links_key, ran, timeline, None),
                             "estimate": estimate_key(ran)}
    given |= _faults(ran)
    given |= {"range_s": Later(range_key, ran), "validated": scenario.chip.validated or None}
    engine = {"events": timeline.events, "flows": timeline.flows, "chips_simulated": timeline.chips_simulated,
              "blocks_simulated": 1, "blocks": 1, "period": 0, "leapt": 0, "wall_s": time.perf_counter() - began}
    return _result(ran, given, engine)


def _faults(ran: Ran) -> dict[str, Any]:
    """Return the key of what faults cost, where the network has any."""
    return {"faults": Later(faults_key, ran)} if ran.faulty else {}


def _result(ran: Ran, given: Mapping[str, Any], engine: Mapping[str, Any]) -> Result:
    """Return the result with these keys, what was expected of them, and the engine's."""
    found = Keys({**given, "expect": Later(_expect, ran.scenario, Keys(given)), "engine": engine})
    return Result(ran.scenario.name, found, ran.timeline, Later(charged, ran), ran.scenario.notes)


def _start(scenario: Scenario, phases: Mapping[str, _Phase]) -> Sequence[float] | None:
    """Return when the chips begin a pass: at 0, but where links change in mid-run when the pass before has ended."""
    elapsed = sum(one.seconds for one in phases.values())
    return [elapsed] * len(scenario.net.chips) if scenario.net.links.events else None


def _expect(scenario: Scenario, keys: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for e in scenario.expect:
        got: Any = keys
        for part in e.what.split("."):
            got = got.get(part) if isinstance(got, Mapping) else None
        error = None if got is None else got / e.value - 1
        within = None if e.within is None or error is None else bool(abs(error) <= e.within)
        found.append({"what": e.what, "value": e.value, "got": got, "error": error, "within": e.within,
                      "ok": False if got is None else within, "source": e.source})
    return found


def _step(progress: Progress | None, number: int, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, blocks: progress(number * blocks + done, count * blocks)
