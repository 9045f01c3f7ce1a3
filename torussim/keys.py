"""The keys of a result that are slow to compute, each from the data of a run (docs/result_keys.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from torussim.alike import Alike
from torussim.analysis import link_use
from torussim.as_run import as_run
from torussim.choice import alternatives, open_
from torussim.closed_forms import Charge, Estimate, axes_seconds, charges, estimate, paper_compute
from torussim.collectives.lower import name_of
from torussim.cost import elementwise_bytes
from torussim.errors import TorusSimError
from torussim.interpolation import spans, tolerance
from torussim.layouts import counterpart, is_code
from torussim.lower_bound import Limits, bound, limits, operation_seconds
from torussim.memory import Memory, memory
from torussim.outlines import Outlines, broken
from torussim.padding import padded
from torussim.places import places_of, runs
from torussim.program import Collective, Compute, Operation, Program, unlooped
from torussim.repairs import faults, without_busiest
from torussim.result import Keys, Later
from torussim.scenario import Scenario
from torussim.sensitivity import deviation
from torussim.timeline import Timeline
from torussim.topology.faults import faults as faults_of
from torussim.transformer import Builder, build
from torussim.workload import Forward

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Ran:
    """The data of a run, from which the slow keys are computed; common intermediate values are computed once.

    `outlines` are those of the network. `program` and `timeline` are those of the last pass. `seconds` has the time of all passes
    of `timed`, or, for a `mean`, of one. `builders`: those of some passes, which other keys need too.
    """

    scenario: Scenario
    outlines: Outlines
    program: Program
    timeline: Timeline
    seconds: float
    timed: Sequence[Alike]
    mean: bool
    forward: Forward | None = None
    builders: Mapping[Forward, Builder] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "builders": {}}  # in another process passes are built anew

    @cached_property
    def limits(self) -> Limits:
        """The bandwidth limits of the network."""
        return limits(self.scenario.net)

    @cached_property
    def estimates(self) -> list[Estimate]:
        """The closed forms of the first pass of each group of similar passes."""
        return [estimate(alike.program, self.outlines, self.scenario.chip) for alike in self.timed]

    @cached_property
    def compute(self) -> list[Array]:
        """The compute time of each pass by the paper's model, seconds."""
        chip, found = self.scenario.chip, []
        for alike, first in zip(self.timed, self.estimates):
            attention = alike.each(lambda one: paper_compute(one, chip))
            here = alike.attention[0] if alike.attention else ()
            grown = [(attention - attention[0]) @ (alike.runs * [runs(one, place) for one in here])
                     for place in places_of(alike.program, dict(zip(self.scenario.net.axes, self.scenario.net.shape)))]
            found.append(first.paper_compute_s + np.minimum.reduce(grown))
        return found

    @cached_property
    def faulty(self) -> bool:
        """Whether the network has faults."""
        changes = self.scenario.changes
        if changes is None or not (changes.links or changes.events) or not self.timeline.makespan:
            return False
        return bool(faults_of(changes))

    def total(self, values: Iterable[float | Array]) -> float:
        """Return the sum over all passes, or the mean, of the values of each group of passes: one per pass, or one for all."""
        in_all = sum(float(np.broadcast_to(value, len(alike)).sum()) for alike, value in zip(self.timed, values))
        return in_all / (sum(map(len, self.timed)) if self.mean else 1)

    def axes_seconds(self, program: Program) -> float:
        """Return the closed form of a program axis by axis, seconds."""
        return axes_seconds(program, self.outlines, self.scenario.chip)


def estimate_key(ran: Ran) -> Keys:
    """Return both closed forms, the bound, and the closed form without loops."""
    return Keys({"paper": Later(_paper, ran), "axes": Later(_axes, ran), "bound": Later(_bound, ran),
                 "unlooped": Later(_unlooped, ran)})


def _paper(ran: Ran) -> dict[str, float]:
    return {"step_s": ran.total(compute + e.paper_collective_s for compute, e in zip(ran.compute, ran.estimates)),
            "compute_s": ran.total(ran.compute),
            "collective_s": ran.total(e.paper_collective_s for e in ran.estimates),
            "collective_bytes": ran.total(e.collective_bytes for e in ran.estimates)}


def _axes(ran: Ran) -> dict[str, float]:
    """Return the closed form of the passes; for long workloads interpolated from a few."""
    in_all = 0.0
    for alike, first in zip(ran.timed, ran.estimates):
        known = {0: first.axes_s}

        def value(number: int, alike: Alike = alike, known: dict[int, float] = known) -> float:
            if number not in known:
                known[number] = ran.axes_seconds(alike.of(number))
            return known[number]
        parts, convex = alike.straight(ran.scenario.chip)
        before = 0
        for part in parts:
            values = partial(_at, value, before)
            seconds = part.seconds(ran.scenario.chip)
            for span in spans(seconds, values, part.runs.sum(), tolerance(len(part)), convex=convex):
                in_all += sum(weight * values(number) for number, weight in span.weights.items())
            before += len(part)
    return {"step_s": in_all / (sum(map(len, ran.timed)) if ran.mean else 1)}


def _at(value: Callable[[int], float], first: int, number: int) -> float:
    return value(first + number)


def _bound(ran: Ran) -> dict[str, float | None]:
    network = [bound(_collectives(alike.program), ran.limits, ran.scenario.chip) for alike in ran.timed]
    least = ran.total(np.maximum(compute, seconds) for compute, seconds in zip(ran.compute, network))
    return {"step_s": least, "of_limit": _share(least, ran.seconds)}


def _collectives(program: Program) -> Program:
    """Return the collectives of a program alone."""
    return program.mapped(lambda operations: tuple(o for o in operations if isinstance(o, Collective)))


def charged(ran: Ran) -> list[Charge]:
    """Return the collectives of the last pass, with the paper's time and the time that their axes allow."""
    return charges(ran.program, ran.outlines, ran.scenario.chip)


def links_key(ran: Ran, whole: Timeline, seconds: float | None) -> Keys:
    """Return the use of the links in the whole run, and the time of the last pass without the busiest ones."""
    return Keys({**link_use(whole, ran.scenario.net, seconds), "without_busiest": Later(_without, ran)})


def _without(ran: Ran) -> dict[str, Any] | None:
    """Return the step time without the busiest cables, if the network has no faults."""
    return None if ran.faulty else without_busiest(ran.program, ran.timeline, ran.scenario.net, ran.scenario.chip, ran.seconds)


def faults_key(ran: Ran) -> dict[str, Any] | None:
    """Return the cost of the network's faults."""
    return faults(ran.scenario.changes, ran.program, ran.timeline, ran.scenario.net, ran.scenario.chip, ran.seconds)


def _unlooped(ran: Ran) -> dict[str, float]:
    """Return a time without any overlap, by the ratio of both closed forms of the last pass."""
    apart, looped = (ran.axes_seconds(p) for p in (unlooped(ran.program), ran.program))
    return {"step_s": ran.seconds * apart / looped if looped else ran.seconds}


def range_key(ran: Ran) -> list[float] | None:
    """Return a time less and plus one standard deviation, from the chip's uncertain parameters; None if it has none."""
    if not ran.scenario.chip.uncertainty:
        return None
    spread = np.exp(deviation(ran.program, ran.outlines, ran.scenario.chip))
    return [float(ran.seconds / spread), float(ran.seconds * spread)]


def layout_key(ran: Ran) -> dict[str, Any]:
    """Return whether the last pass's layout is the paper's formula or its code, and the time of the other one.

    `step_s` of the other is this one's times the ratio of both closed forms. Both are None if there is no such pair.
    """
    scenario, forward, model, workload = ran.scenario, ran.forward, ran.scenario.model, ran.scenario.workload
    assert model is not None and workload is not None and forward is not None
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    layout = scenario.layouts[forward.phase]
    other = counterpart(layout)
    found: dict[str, Any] = {"name": layout.ffn if isinstance(layout.ffn, str) else None,
                             "kind": None if other is None else "code" if is_code(layout) else "formula", "other": None,
                             "as_run": as_run(model, workload, scenario.layouts, ran.outlines, scenario.chip, ran.builders)}
    if other is not None:
        try:
            other = padded(other, model, workload, [forward], axes, (ran.outlines, scenario.chip))
            instead = build(model, other, forward, axes)
        except TorusSimError:
            return found
        ratio = ran.axes_seconds(instead) / ran.axes_seconds(ran.program)
        found["other"] = {"name": other.ffn, "step_s": ran.seconds * ratio}
    return found


def operations_key(ran: Ran) -> list[dict[str, Any]]:
    """Return the operations of the last simulated run of each block, on the chip that finishes last, from that run's start.

    With several blocks each entry has the `section`, one of Program.names(). Operations of other stages are left out. `of_limit`,
    of collectives, is the bound over the time from the first chip's start to the last one's end. On one chip alone the time can
    be below the bound, because data for a late chip may have arrived already.
    """
    timeline, scenario = ran.timeline, ran.scenario
    chip, blocks, found = timeline.last_chip, timeline.last_of_blocks(), []
    given = {o.name: o for o in ran.program.operations()}
    loops = {o.loop.collective: o.loop.kind for block in blocks for o in block.operations if isinstance(o, Compute) and o.loop}
    for block in blocks:
        starts, ends = block.on(chip).tolist()
        for i, o in enumerate(block.operations):
            if o.on and ends[i] == starts[i]:  # other chips run it
                continue
            if isinstance(o, Collective) and o.tokens and not o.axes:  # a gather of what is whole (choice.with_sums)
                continue
            moves = isinstance(o, Collective)
            least, span = operation_seconds(o, ran.limits, scenario.chip), float(block.ends[i].max() - block.starts[i].min())
            found.append({**({"section": block.section} if len(blocks) > 1 else {}),
                          "name": o.name, "kind": o.kind if isinstance(o, Collective) else "compute",
                          "axes": list(o.axes) if isinstance(o, Collective) else [],
                          "chips": o.largest(scenario.net.length) if isinstance(o, Collective) else 1,
                          "bytes": o.bytes if isinstance(o, Collective) else o.hbm_bytes + elementwise_bytes(o, scenario.chip),
                          "start_s": starts[i] - min(starts), "end_s": ends[i] - min(starts),
                          "bound_s": least, "of_limit": _share(least, span) if moves and least else None,
                          "algorithm": _how(o, scenario, loops.get(o.name)),
                          "alternatives": _alternatives(given.get(o.name), o, ran)})
    return found


def _how(o: Operation, scenario: Scenario, loop: str | None) -> str:
    """Return in words how an operation runs: its algorithm, its loop, and the handling of rings that lack a link."""
    if not isinstance(o, Collective):
        return "matmul" if o.matmuls else "vector"
    rings = "" if not broken(o, scenario.net) else ", broken rings as lines" if o.detour is False else ", broken rings by detours"
    return name_of(o) + rings + (f", looped {loop}" if loop else "")


def _alternatives(o: Operation | None, run: Operation, ran: Ran) -> dict[str, float]:
    """Return the estimated times of the algorithms of a collective, if the fastest was chosen for the one that was run."""
    if not isinstance(o, Collective) or not isinstance(run, Collective) or (o.kind, o.axes) != (run.kind, run.axes):
        return {}
    return alternatives(o, ran.outlines, ran.scenario.chip) if open_(o, ran.outlines) else {}


def memory_key(ran: Ran) -> dict[str, Any]:
    """Return the memory use of a chip; of two layouts the maximum of each part."""
    scenario = ran.scenario
    assert scenario.model and scenario.workload
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    held = [memory(scenario.model, layout, scenario.workload, axes, scenario.chip.hbm_bytes, phase, builders=ran.builders)
            for phase, layout in scenario.layouts.items()]
    most = Memory(max(h.weights for h in held), max(h.kv_cache for h in held), max(h.activations for h in held),
                  held[0].capacity, min(h.longest_context for h in held))
    return {"weights": most.weights, "kv_cache": most.kv_cache, "activations": most.activations, "capacity": most.capacity,
            "fits": most.fits, "longest_context": most.longest_context}


def _share(least: float, got: float) -> float | None:
    return least / got if got else None
