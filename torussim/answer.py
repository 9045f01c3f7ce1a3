"""Scenario -> Result: the one way from a file to an answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from torussim.analysis import breakdown, link_use
from torussim.as_run import as_run
from torussim.blame import faults, without_busiest
from torussim.clock import broken
from torussim.closed_forms import axes_seconds, charges, estimate
from torussim.collectives.lower import name_of
from torussim.cost import elementwise_bytes
from torussim.engine.simulate import simulate
from torussim.errors import TorusSimError
from torussim.layouts import counterpart, is_code
from torussim.lower_bound import bound, limits, operation_seconds
from torussim.memory import Memory, memory
from torussim.padding import padded
from torussim.program import Collective, Operation, Program, unlooped
from torussim.result import Result
from torussim.scenario import Scenario, load
from torussim.sensitivity import deviation
from torussim.timeline import Timeline
from torussim.transformer import build
from torussim.trust import Trust
from torussim.workload import Forward, passes

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
class _Sum:
    """What is summed up over the passes of one phase."""

    seconds: float = 0.0
    passes: int = 0
    breakdown: dict[str, float] = field(default_factory=dict)
    estimate: dict[str, float] = field(default_factory=dict)

    def add(self, program: Program, timeline: Timeline, scenario: Scenario) -> None:
        guess = estimate(program, scenario.net, scenario.chip)
        shares = breakdown(timeline, timeline.last_chip)
        guesses = {"step_s": guess.paper_s, "compute_s": guess.paper_compute_s, "collective_s": guess.paper_collective_s,
                   "collective_bytes": guess.collective_bytes, "axes": guess.axes_s,
                   "bound": bound(program, scenario.net, scenario.chip)}
        self.seconds += timeline.makespan
        self.passes += 1
        for total, new in ((self.breakdown, shares), (self.estimate, guesses)):
            for key, value in new.items():
                total[key] = total.get(key, 0.0) + value

    def keys(self, mean: bool) -> dict[str, Any]:
        """Return breakdown_s and estimate, a pass or in all."""
        count = self.passes if mean else 1
        guess = {key: value / count for key, value in self.estimate.items()}
        axes, least = guess.pop("axes"), guess.pop("bound")
        return {"breakdown_s": {key: value / count for key, value in self.breakdown.items()},
                "estimate": {"paper": guess, "axes": {"step_s": axes},
                             "bound": {"step_s": least, "of_limit": _share(least, self.seconds / count)}}}


def _model(scenario: Scenario, progress: Progress | None) -> Result:
    began = time.perf_counter()
    model, workload = scenario.model, scenario.workload
    assert model is not None and workload is not None
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    todo = passes(workload)
    sums = {"prefill": _Sum(), "decode": _Sum()}
    links = np.zeros((2, len(scenario.net.links.source)))
    events = simulated = flows = leapt = 0
    for number, forward in enumerate(todo):
        program = build(model, scenario.layouts[forward.phase], forward, axes)
        step = _step(progress, number, len(todo))
        timeline = simulate(program, scenario.net, scenario.chip, start=_start(scenario, sums), progress=step)
        sums[forward.phase].add(program, timeline, scenario)
        links += (timeline.link_bytes, timeline.link_seconds)
        events += timeline.events
        flows += timeline.flows
        simulated += timeline.blocks_simulated
        leapt += timeline.leapt
    prefill, decode = sums["prefill"], sums["decode"]
    latency = prefill.seconds + decode.seconds
    step_s = decode.seconds / decode.passes if decode.passes else prefill.seconds
    tokens = workload.batch * ((workload.context if workload.phase != "decode" else 0)
                               + (workload.tokens if workload.phase != "prefill" else 0))
    chips = len(scenario.net.chips)
    keys: dict[str, Any] = {"scenario": scenario.resolved, "chips": chips, "step_s": step_s, "latency_s": latency,
                            "makespan_s": latency}
    if workload.phase == "generate":
        keys["prefill_s"] = prefill.seconds
        keys["prompt_tokens_per_s"] = workload.batch * workload.context / prefill.seconds
        keys["generated_tokens_per_s"] = workload.batch * workload.tokens / decode.seconds
    held = _memory(scenario, todo)
    keys |= {"tokens_per_s": tokens / latency, "chip_s_per_token": chips * latency / tokens,
             "mfu": 2 * model.parameters * tokens / (chips * scenario.chip.flops["bf16"] * latency),
             "memory": {"weights": held.weights, "kv_cache": held.kv_cache, "activations": held.activations,
                        "capacity": held.capacity, "fits": held.fits, "longest_context": held.longest_context}}
    keys |= (decode if decode.passes else prefill).keys(mean=bool(decode.passes))
    keys["estimate"]["unlooped"] = {"step_s": _unlooped(program, scenario, step_s)}
    keys["operations"] = operations(timeline, scenario)
    whole = replace(timeline, link_bytes=links[0], link_seconds=links[1])
    keys["links"] = link_use(whole, scenario.net, latency)
    keys |= _blame(program, timeline, scenario, step_s, keys["links"])
    keys["range_s"] = _range(program, scenario, step_s)
    keys["validated"] = scenario.chip.validated or None
    keys["layout"] = _layout(program, scenario, forward, step_s)
    keys["layout"]["as_run"] = as_run(model, workload, scenario.layouts, scenario.net, scenario.chip)
    keys["expect"] = _expect(scenario, keys)
    keys["engine"] = {"events": events, "flows": flows, "chips_simulated": timeline.chips_simulated,
                      "blocks_simulated": simulated, "blocks": model.layers * len(todo), "period": timeline.period,
                      "leapt": leapt, "wall_s": time.perf_counter() - began}
    return Result(scenario.name, keys, timeline, tuple(charges(program, scenario.net, scenario.chip)), scenario.notes)


def _bare(scenario: Scenario, progress: Progress | None) -> Result:
    began = time.perf_counter()
    program = scenario.program
    assert program is not None
    timeline = simulate(program, scenario.net, scenario.chip, progress=progress)
    total = _Sum()
    total.add(program, timeline, scenario)
    keys: dict[str, Any] = {"scenario": scenario.resolved, "chips": len(scenario.net.chips), "makespan_s": timeline.makespan,
                            "operations": operations(timeline, scenario), "links": link_use(timeline, scenario.net),
                            "estimate": total.keys(mean=False)["estimate"]}
    keys["estimate"]["unlooped"] = {"step_s": _unlooped(program, scenario, timeline.makespan)}
    keys |= _blame(program, timeline, scenario, timeline.makespan, keys["links"])
    keys["range_s"] = _range(program, scenario, timeline.makespan)
    keys["validated"] = scenario.chip.validated or None
    keys["expect"] = _expect(scenario, keys)
    keys["engine"] = {"events": timeline.events, "flows": timeline.flows, "chips_simulated": timeline.chips_simulated,
                      "blocks_simulated": 1, "blocks": 1, "period": 0, "leapt": 0, "wall_s": time.perf_counter() - began}
    return Result(scenario.name, keys, timeline, tuple(charges(program, scenario.net, scenario.chip)), scenario.notes)


def _start(scenario: Scenario, sums: Mapping[str, _Sum]) -> Sequence[float] | None:
    """Return when the chips begin a pass: at 0, but where links change in mid-run when the pass before has ended."""
    elapsed = sum(one.seconds for one in sums.values())
    return [elapsed] * len(scenario.net.chips) if scenario.net.links.events else None


def _blame(program: Program, timeline: Timeline, scenario: Scenario, step_s: float, links: dict[str, Any]) -> dict[str, Any]:
    """Return `faults`, where the network has any; else note in `links` what the step would be without the busiest cables."""
    found = faults(scenario.changes, program, timeline, scenario.net, scenario.chip, step_s)
    links["without_busiest"] = None if found else without_busiest(program, timeline, scenario.net, scenario.chip, step_s)
    return {"faults": found} if found else {}


def _unlooped(program: Program, scenario: Scenario, seconds: float) -> float:
    """Return what a time would be if nothing overlapped, by the ratio of both closed forms of the last pass."""
    apart, looped = (axes_seconds(p, scenario.net, scenario.chip) for p in (unlooped(program), program))
    return seconds * apart / looped if looped else seconds


def _range(program: Program, scenario: Scenario, seconds: float) -> list[float] | None:
    """Return one standard deviation below and above a time, from the chip's uncertain parameters; None if it has none."""
    spread = np.exp(deviation(program, scenario.net, scenario.chip))
    return [float(seconds / spread), float(seconds * spread)] if scenario.chip.uncertainty else None


def _layout(program: Program, scenario: Scenario, forward: Forward, step_s: float) -> dict[str, Any]:
    """Return whether the last pass's layout is the paper's formula or what its code ran, and what the other would take.

    `step_s` of the other is this one's times the ratio of both closed forms; both are None where there is no such pair.
    """
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    layout = scenario.layouts[forward.phase]
    other = counterpart(layout)
    found: dict[str, Any] = {"name": layout.ffn if isinstance(layout.ffn, str) else None,
                             "kind": None if other is None else "code" if is_code(layout) else "formula", "other": None}
    if other is not None and scenario.model is not None and scenario.workload is not None:
        try:
            other = padded(other, scenario.model, scenario.workload, [forward], axes, (scenario.net, scenario.chip))
            instead = build(scenario.model, other, forward, axes)
        except TorusSimError:
            return found
        ratio = axes_seconds(instead, scenario.net, scenario.chip) / axes_seconds(program, scenario.net, scenario.chip)
        found["other"] = {"name": other.ffn, "step_s": step_s * ratio}
    return found


def operations(timeline: Timeline, scenario: Scenario) -> list[dict[str, Any]]:
    """Return the operations of the last simulated block on the chip that finishes last, from the block's start.

    `of_limit`, of collectives: the bound over the time from the first chip's start to the last one's end. On one chip alone
    it can take less than the bound: what is due to a chip that comes late may be there already.
    """
    blocks = [s for s in timeline.segments if s.section == "block"]
    if not blocks:
        return []
    chip, block = timeline.last_chip, blocks[-1]
    begin = min(float(v) for v in block.start[:, chip])
    loops = {getattr(o, "loop", None).collective: o.loop.kind for o in block.operations  # type: ignore[union-attr]
             if getattr(o, "loop", None)}
    most = limits(scenario.net)
    found = []
    for i, o in enumerate(block.operations):
        moves = isinstance(o, Collective)
        least, span = operation_seconds(o, most, scenario.chip), float(block.end[i].max() - block.start[i].min())
        found.append({"name": o.name, "kind": o.kind if isinstance(o, Collective) else "compute",
                      "axes": list(o.axes) if isinstance(o, Collective) else [],
                      "bytes": o.bytes if isinstance(o, Collective) else o.hbm_bytes + elementwise_bytes(o, scenario.chip),
                      "start_s": float(block.start[i, chip]) - begin, "end_s": float(block.end[i, chip]) - begin,
                      "bound_s": least, "of_limit": _share(least, span) if moves and least else None,
                      "algorithm": _how(o, scenario, loops.get(o.name))})
    return found


def _how(o: Operation, scenario: Scenario, loop: str | None) -> str:
    """Return in words how an operation runs: the algorithm, its loop, and what becomes of rings that lack a link."""
    if not isinstance(o, Collective):
        return "matmul" if o.matmuls else "vector"
    rings = "" if not broken(o, scenario.net) else ", broken rings as lines" if o.detour is False else ", broken rings by detours"
    return name_of(o) + rings + (f", looped {loop}" if loop else "")


def _memory(scenario: Scenario, todo: Sequence[Forward]) -> Memory:
    """Return what a chip must hold; of two layouts the most of each."""
    assert scenario.model and scenario.workload
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    held = [memory(scenario.model, layout, scenario.workload, axes, scenario.chip.hbm_bytes, phase)
            for phase, layout in scenario.layouts.items()]
    return Memory(max(h.weights for h in held), max(h.kv_cache for h in held), max(h.activations for h in held),
                  held[0].capacity, min(h.longest_context for h in held))


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


def _share(least: float, got: float) -> float | None:
    return least / got if got else None


def _step(progress: Progress | None, number: int, count: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, blocks: progress(number * blocks + done, count * blocks)
