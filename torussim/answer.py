"""Scenario -> Result: the only way from a file to an answer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torussim.alike import Alike, alike, upto
from torussim.analysis import chosen_chips, staged
from torussim.engine.prepared import Prepared
from torussim.engine.simulate import simulate
from torussim.keys import Ran, charged, estimate_key, faults_key, layout_key, links_key, memory_key, operations_key, range_key
from torussim.memory import largest
from torussim.program import Program
from torussim.result import Keys, Later, Result, counted, rates
from torussim.scenario import Scenario, Source, ready, shortened
from torussim.tally import PARTS, Progress, Tally
from torussim.timeline import Timeline
from torussim.transformer import Builder, build
from torussim.trust import Trust
from torussim.workload import Forward, passes


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a workload. `result` has the passes so far, with the key `partial` if passes remain."""

    def __init__(self, result: Result) -> None:
        super().__init__()
        self.result = result


def run(source: Source, *, overrides: Sequence[str] = (), code: str | Trust = "beside",
        progress: Progress | None = None, every_step: bool = False, prepared: Prepared | None = None) -> Result:
    """Return the answer to a scenario.

    Parameters
    ----------
    source
        A file, a mapping of the same form, or a Scenario.
    overrides
        Assignments such as "workload.tokens=1".
    code
        Whose code may run, as in `load`.
    progress
        Called with how many blocks are done and how many there are.
    every_step
        Whether every pass is simulated, also those that others bound (docs/design.md, section 4, Passes).
    prepared
        The network of the scenario, for many runs on it.

    Returns
    -------
    Result
        It prints itself as a short report; its keys (docs/result_keys.md) are attributes.

    Raises
    ------
    ScenarioError
        With all mistakes of the scenario, each with its place.
    Interrupted
        On Ctrl-C after the first pass: a KeyboardInterrupt whose `result` is of the passes so far.

    Examples
    --------
    >>> found = run({"model": "palm-8b", "chip": "tpu-v4", "topology": {"shape": [4, 4]},
    ...              "workload": {"phase": "decode", "batch": 64, "context": 2048}})
    >>> found.chips, found.memory["fits"], 0 < found.step_s < 0.1
    (16, True, True)
    """
    scenario = ready(source, overrides, code=code)
    network = Prepared(scenario.net) if prepared is None else prepared
    assert network.net is scenario.net, "what is prepared is this network"
    return _bare(scenario, network, progress) if scenario.program else _model(scenario, network, progress, every_step)


def shown_chips(result: Result) -> list[int]:
    """Return the chips that pictures and traces of a result show by default, one at the link to blame among them.

    That is the link of the worst fault, or the busiest where the network has no faults.
    """
    keys, asked = result.keys, result.asked
    blamed = ((keys.get("faults") or {}).get("worst") or keys["links"]["busiest"])[:1]
    ends = [end for one in blamed for end in (one["from"], one["to"]) if isinstance(end, list)]
    return chosen_chips(result.timeline, [asked.net.index(end) for end in ends] if asked else [])


def replay(scenario: Scenario, chips: Sequence[int], *, start: Sequence[float] | None = None,
           every_block: bool = False) -> Timeline:
    """Return the timeline of a scenario's last pass, with every message of some chips.

    Blocks that a leap left out have no messages, unless every block is simulated. `start` is the start time on each chip,
    (chips,) seconds, which matters if the network changes in mid-run; 0 by default.
    """
    return simulate(last_program(scenario), scenario.net, scenario.chip, start=start, record=chips, repeat=not every_block)


def last_program(scenario: Scenario) -> Program:
    """Return the program of a scenario's last pass."""
    if scenario.program:
        return scenario.program
    assert scenario.model and scenario.workload
    forward = passes(scenario.workload)[-1]
    return build(scenario.model, scenario.layouts[forward.phase], forward, {a: scenario.net.length(a) for a in scenario.net.axes})


def _model(scenario: Scenario, prepared: Prepared, progress: Progress | None, every: bool) -> Result:
    began = time.perf_counter()
    model, workload = scenario.model, scenario.workload
    assert model is not None and workload is not None
    todo, axes = passes(workload), {a: scenario.net.length(a) for a in scenario.net.axes}
    needed = [todo[0], *(f for phase in scenario.layouts for f in largest([f for f in todo if f.phase == phase]))]
    builders = {f: Builder(model, scenario.layouts[f.phase], f, axes) for f in needed}
    groups = alike(model, scenario.layouts, todo, axes, builders)
    blocks = sum(len(group) * group.program.block_runs for group in groups)
    tally = Tally(scenario, prepared, every=every, blocks=blocks, progress=progress)
    try:
        for group in groups:
            tally.add(group)
    except KeyboardInterrupt:
        done = tally.sums.done
        if not done:
            raise
        partial = {"partial": {"passes": done, "of": len(todo)}} if done < len(todo) else {}
        result = _answer(shortened(scenario, done), upto(groups, done), todo[done - 1], tally, began, partial, builders)
        raise Interrupted(result) from None
    return _answer(scenario, groups, todo[-1], tally, began, {}, builders)


def _answer(scenario: Scenario, groups: Sequence[Alike], last: Forward, tally: Tally, began: float,
            partial: Mapping[str, Any], builders: Mapping[Forward, Builder]) -> Result:
    """Return the result of the added passes; `last` is the last of them. `builders` are those of some passes."""
    model, workload, sums, timeline = scenario.model, scenario.workload, tally.sums, tally.sums.timeline
    assert model is not None and workload is not None and timeline is not None
    chips, mean = len(scenario.net.chips), last.phase == "decode"
    timed = [group for group in groups if group.phase == last.phase]
    found = rates(model, workload, scenario.chip, chips, sums.seconds)
    latency, count = found["latency_s"], workload.tokens if mean else 1
    ran = Ran(scenario, tally.prepared.outlines, groups[-1].of(len(groups[-1]) - 1), timeline,
              found["step_s"], timed, mean, last, builders)
    whole = replace(timeline, link_bytes=sums.links[0], link_seconds=sums.links[1])
    given: dict[str, Any] = {"scenario": scenario.resolved, **partial, **counted(scenario.chip, chips), **found,
                             "memory": Later(memory_key, ran),
                             "breakdown_s": {name: part for name, part in zip(PARTS, (sums.parts[last.phase] / count).tolist())
                                             if name != "bubble" or staged(timeline)}}
    given |= {"estimate": estimate_key(ran), "operations": Later(operations_key, ran),
              "links": Later(links_key, ran, whole, latency)}
    given |= _faults(ran)
    given |= {"range_s": Later(range_key, ran), "validated": scenario.chip.validated or None, "layout": Later(layout_key, ran)}
    engine = {"events": tally.events, "flows": tally.flows, "chips_simulated": timeline.chips_simulated,
              "blocks_simulated": tally.blocks_simulated, "blocks": tally.blocks_done, "period": timeline.period,
              "leapt": tally.leapt, "passes_simulated": tally.passes, "passes": sums.done, "error": sums.error / latency,
              "proved": tally.proved, "wall_s": time.perf_counter() - began}
    return _result(ran, given, engine)


def _bare(scenario: Scenario, prepared: Prepared, progress: Progress | None) -> Result:
    began = time.perf_counter()
    program = scenario.program
    assert program is not None
    timeline = simulate(program, prepared, scenario.chip, progress=progress)
    ran = Ran(scenario, prepared.outlines, program, timeline, timeline.makespan, [Alike("", program)], False)
    given: dict[str, Any] = {"scenario": scenario.resolved, **counted(scenario.chip, len(scenario.net.chips)),
                             "makespan_s": timeline.makespan,
                             "operations": Later(operations_key, ran), "links": Later(links_key, ran, timeline, None),
                             "estimate": estimate_key(ran)}
    given |= _faults(ran)
    given |= {"range_s": Later(range_key, ran), "validated": scenario.chip.validated or None}
    engine = {"events": timeline.events, "flows": timeline.flows, "chips_simulated": timeline.chips_simulated,
              "blocks_simulated": 1, "blocks": 1, "period": 0, "leapt": 0, "passes_simulated": 1, "passes": 1, "error": 0.0,
              "proved": True, "wall_s": time.perf_counter() - began}
    return _result(ran, given, engine)


def _faults(ran: Ran) -> dict[str, Any]:
    """Return the key of the cost of faults, if the network has any."""
    return {"faults": Later(faults_key, ran)} if ran.faulty else {}


def _result(ran: Ran, given: Mapping[str, Any], engine: Mapping[str, Any]) -> Result:
    """Return the result with these keys, the expected values, and the keys of the engine."""
    found = Keys({**given, "expect": Later(_expect, ran.scenario, Keys(given)), "engine": engine})
    return Result(ran.scenario.name, found, ran.timeline, Later(charged, ran), ran.scenario.notes, ran.scenario)


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

