"""A measurement prepared for repeated predictions with other parameters of its chip: the common part of `validate` and a fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from torussim import chips, edits, files
from torussim.chips import Chip
from torussim.closed_forms import estimate
from torussim.engine.prepared import Prepared
from torussim.engine.simulate import simulate
from torussim.errors import Mark, TorusSimError
from torussim.layouts import of_formula
from torussim.measurements import Measurement
from torussim.padding import padded
from torussim.program import Program
from torussim.scenario import read_document
from torussim.topology.check import Bools
from torussim.topology.grid import Grid, with_bandwidth, with_latency
from torussim.transformer import Builder, build
from torussim.workload import passes


@dataclass(frozen=True, eq=False)
class Case:
    """The programs of one measurement, one for each pass, built once; its time is their mean, or sum for prefill in chunks."""

    measurement: Measurement
    programs: tuple[Program, ...]
    mean: bool

    def simulated(self, chip: Chip) -> float:
        """Return the simulated time in seconds on the scenario's network with this chip.

        The chip gives efficiencies, overheads, link latency and bandwidth. The wraparounds of the axes do not change.
        """
        net = Prepared(self.network(chip))
        return self._in_all([simulate(program, net, chip).makespan for program in self.programs])

    def paper(self) -> float | None:
        """Return the time of the paper's model, on the scenario's chip, of the layout without `_code`; None if not possible."""
        scenario = self.measurement.scenario
        try:
            made = _programs(self.measurement, paper=True)
        except TorusSimError:
            return None
        return self._in_all([estimate(program, scenario.net, scenario.chip).paper_s for program in made])

    def network(self, chip: Chip) -> Grid:
        """Return the network with the chip's link bandwidth and latency, except where the file gives its own."""
        scenario, net = self.measurement.scenario, self.measurement.scenario.net
        if chip.link_latency != scenario.chip.link_latency:
            net = with_latency(net, np.where(self._of_chip[0], chip.link_latency, net.links.latency))
        if chip.link_bandwidth != scenario.chip.link_bandwidth:
            scale = chip.link_bandwidth / scenario.chip.link_bandwidth  # links that have the chip's bandwidth can be scaled
            net = with_bandwidth(net, np.where(self._of_chip[1], net.links.bandwidth * scale, net.links.bandwidth))
        return net

    def _in_all(self, seconds: list[float]) -> float:
        return sum(seconds) / (len(seconds) if self.mean else 1)

    @cached_property
    def _of_chip(self) -> tuple[Bools, Bools]:
        """The links with the chip's latency, and those with its bandwidth, (links,): these change with the chip."""
        m = self.measurement
        other = replace(m.scenario.chip, link_latency=m.scenario.chip.link_latency + 1e-6,
                        link_bandwidth=2 * m.scenario.chip.link_bandwidth)
        chip = files.from_value(chips.describe(other))
        links = read_document(edits.replaced(m.document, "chip", chip, Mark("<dict>", 1, 1)), m.beside, m.trust).net.links
        mine = m.scenario.net.links
        return np.asarray(links.latency != mine.latency), np.asarray(links.bandwidth != mine.bandwidth)


def case(measurement: Measurement) -> Case:
    """Return a measurement with its programs built. Raise TorusSimError where its layout does not fit."""
    workload = measurement.scenario.workload
    return Case(measurement, _programs(measurement), workload is not None and workload.phase != "prefill")


def _programs(measurement: Measurement, *, paper: bool = False) -> tuple[Program, ...]:
    """Return the programs whose time is measured; with `paper` those of the paper's layout."""
    scenario = measurement.scenario
    if scenario.program is not None:
        return (scenario.program,)
    assert scenario.model is not None and scenario.workload is not None
    axes = {axis: scenario.net.length(axis) for axis in scenario.net.axes}
    timed = "prefill" if scenario.workload.phase == "prefill" else "decode"
    workload = replace(scenario.workload, host=True)  # also where the chip has no step_overhead: a fit may give it one
    forwards = [forward for forward in passes(workload) if forward.phase == timed]
    layout = scenario.layouts[timed]
    if paper:
        same = Builder(scenario.model, layout, forwards[0], axes).layout  # with its kernel of attention
        layout = padded(of_formula(same), scenario.model, scenario.workload, forwards, axes, (scenario.net, scenario.chip))
    made = [build(scenario.model, layout, forward, axes) for forward in forwards]
    if measurement.what == "layers":
        made = [replace(program, prologue=(), epilogue=()) for program in made]
    return tuple(made)
