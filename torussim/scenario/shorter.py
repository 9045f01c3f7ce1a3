"""A scenario whose workload ends early, with its record."""

from __future__ import annotations

from torussim.scenario import forms
from torussim.scenario.read import Scenario, changed
from torussim.scenario.workload import describe_expected, describe_workload, phases_of
from torussim.workload import ended_after


def shortened(scenario: Scenario, done: int) -> Scenario:
    """Return a scenario with only the first `done` passes of its workload, at least one."""
    assert scenario.workload is not None
    workload = ended_after(scenario.workload, done)
    phases = phases_of(workload.phase)
    expect = tuple(one for one in scenario.expect if workload.phase == "generate" or one.what not in forms.OF_GENERATE)
    layout = scenario.resolved["layout"]
    shown = {"workload": describe_workload(workload), "expect": {one.what: describe_expected(one) for one in expect},
             "layout": layout[phases[0]] if len(phases) == 1 and phases[0] in layout else layout}
    record = {key: shown.get(key, value) for key, value in scenario.resolved.items() if key != "expect" or expect}
    return changed(scenario, workload=workload, layouts={phase: scenario.layouts[phase] for phase in phases}, expect=expect,
                   resolved=record)
