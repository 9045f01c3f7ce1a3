"""The candidates of a plan: layout table, attention, mesh, dtypes and batch, before anything is known of their time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from torussim.layouts import LOGICAL, Layout
from torussim.planner import meshes
from torussim.scenario import Planning, Scenario, describe_ffn
from torussim.scenario.mesh import mesh_of
from torussim.scenario.planning import FIVE
from torussim.topology.grid import Grid, grid_of, parts_of


@dataclass(frozen=True)
class Candidate:
    """A way to run one phase of a workload.

    `layout`: with the axes of the grid, cut as `parts` says; `mesh`: as a scenario file writes it; `alike`: how many candidates
    of the stated space it stands for, which symmetries of the network lead to it; 0: it is none of the space. `number`: its place
    in the space.
    """

    phase: str
    batch: int
    layout: Layout
    mesh: Mapping[str, Sequence[str]]
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    alike: int = 1
    number: int = 0

    @property
    def name(self) -> str:
        """The layout's name, or "table"."""
        return self.layout.ffn if isinstance(self.layout.ffn, str) else "table"

    def record(self) -> dict[str, Any]:
        """Return the `layout` of a scenario that runs it."""
        one = self.layout
        found: dict[str, Any] = {"ffn": describe_ffn(one.ffn), "attention": one.attention, "weights": one.weights,
                                 "activations": one.activations, "kv_cache": one.kv_cache, "overlap": one.overlap}
        found |= {"collectives": {kind: str(name) for kind, name in one.collectives.items()}} if one.collectives else {}
        return found | ({"mesh": {logical: list(factors) for logical, factors in self.mesh.items()}} if self.mesh else {})


def uncut(scenario: Scenario) -> Grid:
    """Return the network of a scenario with its axes whole."""
    net = scenario.net
    return net if net.axes == tuple(net.links.axes) else grid_of(net.links, routing=net.routing, graph=net.graph)


def of_file(scenario: Scenario, phase: str, batch: int) -> Candidate:
    """Return the layout that the scenario's file has; without a mesh logical axes are the physical ones with their names."""
    layout, record, net = scenario.layouts[phase], scenario.resolved["layout"], scenario.net
    long = [axis for axis, length in zip(net.axes, net.shape) if length > 1]
    mesh = record.get(phase, record).get("mesh")
    if not mesh:
        mesh = layout.mesh or {axis: [axis] for axis in long}
        mesh = {logical: [axis for axis in mesh.get(logical, ()) if axis in long] for logical in dict.fromkeys((*LOGICAL, *mesh))}
    return Candidate(phase, batch, replace(layout, batch=None), mesh, cuts(net))


def cuts(net: Grid) -> dict[str, tuple[int, ...]]:
    """Return into which parts the axes of a grid are cut, from neighbours outwards; whole ones are left out."""
    return {axis: lengths for axis, lengths in parts_of(net).items() if len(lengths) > 1}


def named(scenario: Scenario, planning: Planning, phase: str, batch: int) -> Iterator[Candidate]:
    """Return every candidate with a table that has a name, of one phase and batch; where all tables are searched, the five."""
    net = uncut(scenario)
    axes = dict(zip(net.axes, net.shape))
    for base in choices(scenario, planning, phase):
        made = list(_meshes(planning, net, axes, base.collectives))
        for name in FIVE if isinstance(planning.layouts, str) else planning.layouts:
            layout = replace(base, ffn=name)
            if planning.mesh == "file":
                yield replace(of_file(scenario, phase, batch), layout=replace(layout, mesh=scenario.layouts[phase].mesh))
                continue
            for written, alike in made:
                mesh = mesh_of(written)
                yield Candidate(phase, batch, replace(layout, mesh=mesh.axes), meshes.shown(written, axes), mesh.parts, alike)


def choices(scenario: Scenario, planning: Planning, phase: str) -> Iterator[Layout]:
    """Return the layout of a phase with everything chosen but its table and its mesh."""
    base = scenario.layouts[phase]
    for values in product(*planning.choices.values()):
        for algorithms in product(*planning.collectives.values()):
            collectives = {**base.collectives, **dict(zip(planning.collectives, algorithms))}
            yield replace(base, batch=None, collectives=collectives, **dict(zip(planning.choices, values)))


def _meshes(planning: Planning, net: Grid, axes: Mapping[str, int], collectives: Mapping[str, Any]
            ) -> Iterator[tuple[meshes.Written, int]]:
    """Return the meshes to try, each with how many it stands for.

    Messages that are routed, and a user's algorithm, need not be alike on axes with other names.
    """
    every = meshes.parts(axes) if planning.mesh == "parts" else meshes.whole(axes)
    routed = any(callable(name) or name in ("direct", "shifts") for name in collectives.values())
    return meshes.once(every, [{axis: axis for axis in axes}] if routed else meshes.symmetries(net))
