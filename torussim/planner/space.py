"""The choices of a plan that its file leaves open, and wider ones where no candidate fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from torussim.chips import CORE
from torussim.layouts import EXPERTS
from torussim.planner.candidates import uncut
from torussim.scenario import Planning, Scenario
from torussim.scenario.pipeline import Stages, staged_on
from torussim.scenario.planning import FIVE

MIXED = ("ws1d", "ws2d", "dp")  # the layouts that are tried of a mixture of experts
ATTENTION = ("heads", "batch")
SEQUENCE = "attention over the tokens of the context"
STAGES = "pipeline stages"
MICROBATCHES = (1, 4)  # a stage of a pipeline, beside one in all


def spaces(scenario: Scenario, planning: Planning) -> Iterator[tuple[Planning, str]]:
    """Yield the choices of a plan, and wider ones for the case that no candidate of those before fits, with their name in words.

    Attention is cut over the tokens of the context where neither KV heads nor a batch divide over the chips, or where nothing
    else fits. Stages are tried where nothing else fits, over each axis.
    """
    found = filled(scenario, planning)
    yield found, ""
    if "attention" not in planning.choices and "sequence" not in found.choices["attention"]:
        found = replace(found, choices={**found.choices, "attention": (*ATTENTION, "sequence")})
        yield found, SEQUENCE
    if not planning.pipelines and found.mesh != "file" and found.layouts != "all" and not any(found.pipelines):
        yield replace(found, pipelines=tuple(over_each_axis(scenario))), STAGES


def filled(scenario: Scenario, planning: Planning) -> Planning:
    """Return the planning of a scenario with the choices that are tried without being asked for."""
    model, workload, axes = scenario.model, scenario.workload, lengths(scenario)
    assert model is not None and workload is not None
    chips = prod(axes.values())
    uneven = model.padded_kv(chips) % chips and any(batch % chips for batch in planning.batch or (workload.batch,))
    mixed = (model.experts or 1) > 1
    choices = {"attention": (*ATTENTION, "sequence") if uneven else ATTENTION, **({"experts": EXPERTS} if mixed else {})}
    asked: tuple[Stages | None, ...] = planning.pipelines or (None, *given(scenario))
    stages = [one if one is None else staged_on(one, axes) for one in asked]
    kept = [one for one, before in zip(stages, asked) if one or not before]
    return replace(planning, layouts=planning.layouts or (MIXED if mixed else FIVE), choices={**choices, **planning.choices},
                   pipelines=tuple(dict.fromkeys(kept)) or (None,))


def given(scenario: Scenario) -> list[Stages]:
    """Return the stages of the layouts of the scenario's file, each once."""
    record = scenario.resolved["layout"]
    some = [staged_on(one["pipeline"], lengths(scenario)) for phase in scenario.layouts
            if "pipeline" in (one := record.get(phase, record))]
    return list(dict.fromkeys(one for one in some if one))


def over_each_axis(scenario: Scenario) -> Iterator[Stages]:
    """Return stages over each axis of the network that has no more chips than the model has layers."""
    model, axes = scenario.model, lengths(scenario)
    assert model is not None
    for axis, stages in axes.items():
        if axis != CORE and 1 < stages <= model.layers:
            yield from (Stages(axis, stages, 1, many) for many in (1, *(stages * one for one in MICROBATCHES)))


def lengths(scenario: Scenario) -> dict[str, int]:
    """Return the axes of the scenario's network, uncut."""
    net = uncut(scenario)
    return dict(zip(net.axes, net.shape))
