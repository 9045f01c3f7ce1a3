"""The costs of single cables of a network: of the faults in a scenario, and of the busiest cables.

Every cost comes from a run of the last pass with the cable repaired, dead, or without a limit. It is a share of the present time:
a fault whose repair reduces a step from 25.8 ms to 21.2 ms costs 17.8 %. Costs do not add up: if every chip waits for two slow
cables, the repair of one alone gains nothing. On private links a repair never loses, and the repair of all faults gains the most,
except where `split: auto` divides the data otherwise for other links.

Runs have all layers if all links are private, or if links change in mid-run; they begin when the pass did. Otherwise only the
first SAMPLE runs of each block are made, and each other run takes the mean of the last SAMPLE / 2 of them. That is exact if the
blocks repeat by then. It is within 0.01 % of a whole run for PaLM 540B on 16x16x16 chips with a dead link, where they never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from torussim.chips import Chip
from torussim.engine.simulate import simulate
from torussim.errors import TorusSimError
from torussim.program import Block, Collective, Program
from torussim.timeline import Timeline
from torussim.topology.faults import Changes, Fault, cables, described
from torussim.topology.faults import faults as faults_of
from torussim.topology.grid import Grid, with_bandwidth

ALIKE = 0.01  # cables whose use differs by less count as equally busy
NO_LIMIT = 1e6  # with this multiple of its bandwidth a link is no limit
SAMPLE = 12  # runs of a block
TRIED = 7  # the most faults that are repaired one at a time: with the other runs 12
SHOWN = 3
LITTLE = 1e-3  # of the time: a cable below this cost is not tried dead, because that gains no more than its repair


def faults(changes: Changes | None, program: Program, timeline: Timeline, net: Grid, chip: Chip,
           step_s: float) -> dict[str, Any] | None:
    """Return the cost of the faults of a network; None if it has none.

    `timeline` is that of `program`, the last pass, on `net`, which `changes` describes; `step_s` is its time in the report. Keys:
    `cost` of all faults together and `step_s` without them; `count` of faults; `tried`, the number of faults that were repaired
    one at a time: the TRIED with the highest estimated costs; `runs`, the number of simulations; `worst`: the three of the
    highest cost, each {kind, from, to (of its first cable), cables, changes, bandwidth, built, late, cost, step_s, as_dead}.
    `as_dead` is {cost, step_s} with its cables dead; None for dead ones, below LITTLE, and if no run is possible.
    """
    found = faults_of(changes) if changes else []
    if changes is None or not found or not timeline.makespan:
        return None
    whole = _whole(program, timeline, net)
    least = program if whole else sample(program)
    rerouted = program if net.links.events else sample(program)  # a dead cable makes other links shared

    def seconds(variant: Grid, part: Program = least) -> float:
        return seconds_of(program, simulate(part, variant, chip, start=timeline.begin.tolist()))

    now = timeline.makespan if whole else seconds(net)
    sound = changes.net(without=found)
    healthy = simulate(least, sound, chip, start=timeline.begin.tolist())
    best = seconds_of(program, healthy)
    tried = _likely(found, sound, healthy)
    repaired = [best if len(found) == 1 else seconds(changes.net(without=[one])) for one in tried]
    runs = 1 + (not whole) + (len(tried) if len(found) > 1 else 0)
    worst: list[dict[str, Any]] = []
    for i in np.argsort(repaired, kind="stable")[:SHOWN].tolist():
        fault, without = tried[i], repaired[i]
        as_dead = None
        if fault.kind != "dead" and now - without > LITTLE * now:
            try:
                dead = seconds(changes.net(dead=fault), rerouted)
            except TorusSimError:  # the network is disconnected, or a user-defined routing does not know it
                pass
            else:
                runs += 1
                as_dead = {"cost": (dead - without) / now, "step_s": step_s * dead / now}
        worst.append(described(fault, changes) | {"cost": (now - without) / now, "step_s": step_s * without / now,
                                                   "as_dead": as_dead})
    return {"cost": (now - best) / now, "step_s": step_s * best / now, "count": len(found), "tried": len(tried), "runs": runs,
            "worst": worst}


def without_busiest(program: Program, timeline: Timeline, net: Grid, chip: Chip, step_s: float) -> dict[str, Any] | None:
    """Return {links, cables, step_s}: the time of a step if the busiest cables, all equally busy ones, were no limit.

    A cable is as busy as the busier of its directions; both limits are removed. None if nothing is sent.
    """
    seconds = timeline.link_seconds
    if not seconds.any() or not timeline.makespan:
        return None
    numbers, cable = np.unique(cables(net.links), return_inverse=True)
    busy = np.zeros(len(numbers))
    np.maximum.at(busy, cable, seconds)
    lifted = (busy >= (1 - ALIKE) * busy.max())[cable]
    start = timeline.begin.tolist()
    whole = _whole(program, timeline, net)
    least = program if whole else sample(program)
    sound = with_bandwidth(net, np.where(lifted, NO_LIMIT, 1.0) * net.links.bandwidth)
    best = seconds_of(program, simulate(least, sound, chip, start=start))
    now = timeline.makespan if whole else seconds_of(program, simulate(least, net, chip, start=start))
    return {"links": int(lifted.sum()), "cables": len(np.unique(cable[lifted])), "step_s": step_s * best / now}


def _whole(program: Program, timeline: Timeline, net: Grid) -> bool:
    """Return whether all layers are run: if all links are private, or some change in mid-run."""
    return all(times <= SAMPLE for _, times in program.blocks) or not timeline.flows or bool(net.links.events)


def sample(program: Program) -> Program:
    """Return a program with only the first SAMPLE runs of each block, if it has more."""
    return replace(program, layers=min(program.layers, SAMPLE),
                   more=tuple(Block(operations, min(times, SAMPLE)) for operations, times in program.more))


def seconds_of(program: Program, timeline: Timeline) -> float:
    """Return the time of a program from a timeline of the first runs of each block, or of all; see the top of this file."""
    seconds = timeline.makespan
    for section, (operations, times), (_, made) in zip(program.names(), program.sections(), timeline.program.sections()):
        if operations and made < times:
            ends = [float(timeline.segments[i].ends.max()) + offset for i, offset in timeline.runs
                    if timeline.segments[i].section == section]
            half = made // 2
            seconds += (times - made) * (ends[-1] - ends[-1 - half]) / half
    return seconds


def _likely(found: Sequence[Fault], net: Grid, healthy: Timeline) -> list[Fault]:
    """Return at most TRIED faults with the highest costs by a closed form; `healthy` is a run without faults.

    The bytes of a cable in that run take longer at its reduced bandwidth, and each collective takes its additional latency. A
    dead cable counts as one of half the bandwidth: it makes a ring a line, whose other links carry twice as much.
    """
    if len(found) <= TRIED:
        return list(found)
    links = net.links
    at = {edge: i for i, edge in enumerate(links.edges(np.ones(len(links.source), bool)))}
    messages = sum(times for operations, times in healthy.program.sections() for o in operations if isinstance(o, Collective))

    def longer(fault: Fault) -> float:
        sent = max(healthy.link_bytes[at[edge]] for a, b in fault.cables for edge in ((a, b), (b, a)) if edge in at)
        return float(sent * (1 / (fault.bandwidth or fault.built / 2) - 1 / fault.built) + messages * fault.late)

    return sorted(found, key=longer, reverse=True)[:TRIED]
