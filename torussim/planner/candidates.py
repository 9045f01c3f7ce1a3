"""The candidates of a plan (layout table, attention, mesh, dtypes and batch), before their times are known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod
from typing import Any

from torussim.errors import LayoutError, ShardingError
from torussim.layouts import LOGICAL, Layout, Path
from torussim.padding import variants
from torussim.planner import meshes
from torussim.scenario import Planning, Scenario, describe_ffn
from torussim.scenario.layout import described
from torussim.scenario.mesh import mesh_of
from torussim.scenario.pipeline import Stages, staged_on
from torussim.scenario.planning import FIVE
from torussim.topology.grid import Grid, grid_of, part_names, parts_of
from torussim.transformer import Builder
from torussim.workload import Forward

Paths = tuple[tuple[str, Path], ...]  # of the tensors of a table
Tables = tuple[tuple[tuple[int, Paths], ...], str]  # the heads and paths at each batch, and why a batch does not fit


@dataclass(frozen=True)
class Candidate:
    """A way to run one phase of a workload.

    `layout` has the axes of the grid, cut as `parts` says. `mesh` is written as in a scenario file. `alike` is the number of
    candidates of the stated space that symmetries of the network map to this one; 0 if it is not in the space. `number` is its
    place in the space. `stages` are those of `layout.pipeline` as a file has them. `mixture`: whether the model has experts.
    """

    phase: str
    batch: int
    layout: Layout
    mesh: Mapping[str, Sequence[str]]
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    alike: int = 1
    number: int = 0
    stages: Stages | None = None
    mixture: bool = False

    @property
    def name(self) -> str:
        """The layout's name, or "table"."""
        return self.layout.ffn if isinstance(self.layout.ffn, str) else "table"

    def record(self) -> dict[str, Any]:
        """Return the `layout` section of a scenario that runs the candidate."""
        return described(self.layout, describe_ffn(self.layout.ffn), self.stages, self.mesh)


def uncut(scenario: Scenario) -> Grid:
    """Return the network of a scenario with whole axes."""
    net = scenario.net
    return net if net.axes == tuple(net.links.axes) else grid_of(net.links, routing=net.routing, graph=net.graph)


def of_file(scenario: Scenario, phase: str, batch: int) -> Candidate:
    """Return the layout in the scenario's file. Without a mesh the logical axes are the physical ones with the same names."""
    layout, record, net = scenario.layouts[phase], scenario.resolved["layout"], scenario.net
    record = record.get(phase, record)
    stages = staged_on(record["pipeline"], net.links.axes) if "pipeline" in record else None
    axes = stages.left_of(net.links.axes) if stages else dict(zip(net.axes, net.shape))
    long = [axis for axis, length in axes.items() if length > 1]
    mesh = record.get("mesh")
    if not mesh:
        mesh = layout.mesh or {axis: [axis] for axis in long}
        mesh = {logical: [axis for axis in mesh.get(logical, ()) if axis in long] for logical in dict.fromkeys((*LOGICAL, *mesh))}
    return Candidate(phase, batch, replace(layout, batch=None, heads=None), mesh, cuts(net), stages=stages,
                     mixture=_mixture(scenario))


def _mixture(scenario: Scenario) -> bool:
    return scenario.model is not None and bool(scenario.model.experts)


def cuts(net: Grid) -> dict[str, tuple[int, ...]]:
    """Return the parts of each cut axis of a grid, from neighbours outwards. Whole axes are left out."""
    return {axis: lengths for axis, lengths in parts_of(net).items() if len(lengths) > 1}


def named(scenario: Scenario, planning: Planning, phase: str, batch: int) -> Iterator[Candidate]:
    """Return the candidates with a named table, of one phase and batch; the paper's five where all tables are searched.

    Candidates that differ only in choices of attention and experts which give the same table are one: the first of them, or the
    first with attention over the batch if the table cuts no heads.
    """
    found: dict[object, Candidate] = {}
    tables: dict[object, Tables] = {}
    for one in _named(scenario, planning, phase, batch):
        layout, axes = one.layout, axes_of(scenario, one)
        shape = [(logical, prod(axes[a] for a in factors)) for logical, factors in layout.mesh.items()]
        sizes = layout.ffn, layout.attention, layout.experts, one.stages, *shape
        if sizes not in tables:
            tables[sizes] = tables_of(scenario, one)
        key = repr((replace(layout, attention="", experts=""), one.mesh, one.parts)), tables[sizes]
        known = found.setdefault(key, one)
        if known is not one:
            whole = not any(dict(paths)["q"].used.axes("H") for _, paths in tables[sizes][0])
            better = one if whole and known.layout.attention != "batch" and layout.attention == "batch" else known
            found[key] = replace(better, alike=known.alike + one.alike)
    yield from found.values()


def axes_of(scenario: Scenario, candidate: Candidate) -> dict[str, int]:
    """Return the axes of the network, cut as a candidate needs them."""
    net = uncut(scenario)
    cut = {axis: candidate.parts.get(axis, (whole,)) for axis, whole in zip(net.axes, net.shape)}
    return {name: length for axis, parts in cut.items() for name, length in zip(part_names(axis, parts), parts)}


def tables_of(scenario: Scenario, candidate: Candidate) -> Tables:
    """Return the tables of a candidate at the batches that it can be padded to, and the reason where it does not fit."""
    layout, axes, found, reason = candidate.layout, axes_of(scenario, candidate), list[tuple[int, Paths]](), ""
    assert scenario.model is not None
    try:
        for one in variants(lambda _, heads: replace(layout, heads=heads), scenario.model, candidate.batch, axes):
            batch = one.batch or candidate.batch
            builder = Builder(scenario.model, replace(one, batch=batch), Forward(candidate.phase, batch, 1, 1), axes)
            found.append((builder.heads, tuple(builder.table.paths.items())))
    except (LayoutError, ShardingError) as error:
        reason = str(error)
    return tuple(found), reason


def _named(scenario: Scenario, planning: Planning, phase: str, batch: int) -> Iterator[Candidate]:
    """Return every candidate with a named table, of one phase and batch."""
    net = uncut(scenario)
    axes = dict(zip(net.axes, net.shape))
    for base, stages in choices(scenario, planning, phase):
        made = list(_meshes(planning, net, axes, base.collectives, stages))
        for name in FIVE if isinstance(planning.layouts, str) else planning.layouts:
            layout = replace(base, ffn=name)
            if planning.mesh == "file":
                yield replace(of_file(scenario, phase, batch), stages=stages,
                              layout=replace(layout, mesh=scenario.layouts[phase].mesh))
                continue
            for written, alike in made:
                mesh = mesh_of(written, stages.last if stages else None)
                yield Candidate(phase, batch, replace(layout, mesh=mesh.axes), meshes.shown(written, axes), mesh.parts, alike,
                                stages=stages, mixture=_mixture(scenario))


def choices(scenario: Scenario, planning: Planning, phase: str) -> Iterator[tuple[Layout, Stages | None]]:
    """Return the layout of a phase with every choice made, except table and mesh, and its stages."""
    base = scenario.layouts[phase]
    for stages in planning.pipelines:
        for values in product(*planning.choices.values()):
            for algorithms in product(*planning.collectives.values()):
                collectives = {**base.collectives, **dict(zip(planning.collectives, algorithms))}
                yield replace(base, batch=None, heads=None, collectives=collectives, pipeline=stages.staged if stages else None,
                              **dict(zip(planning.choices, values))), stages


def _meshes(planning: Planning, net: Grid, axes: Mapping[str, int], collectives: Mapping[str, Any], stages: Stages | None
            ) -> Iterator[tuple[meshes.Written, int]]:
    """Return the meshes to try of the axes that stages leave, each with the number of meshes that it stands for.

    With routed messages or a user-defined algorithm, axes with other names need not give the same time.
    """
    left = stages.left_of(axes) if stages else axes
    every = meshes.parts(left) if planning.mesh == "parts" else meshes.whole(left)
    routed = any(callable(name) or name in ("direct", "shifts") for name in collectives.values())
    alike = [{axis: axis for axis in axes}] if routed else meshes.symmetries(net)
    return meshes.once(every, [one for one in alike if not stages or one[stages.axis] == stages.axis])
