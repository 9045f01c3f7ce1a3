"""The possible shapes of a torus with the same number of chips: whether a shape is a slice of the chip, and its effect.

The shape of a network is its axes in any order, the wraparound of each, and the twist. Axes of one chip do not count. Links of
every other shape are like the links that the present network was built with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from torussim.chips import Chip
from torussim.errors import PlanError, TopologyError
from torussim.planner.candidates import cuts
from torussim.planner.plans import Choice, Plan
from torussim.planner.words import SAME, name_of
from torussim.scenario import Planning, Scenario, changed
from torussim.scenario.network import Network
from torussim.scenario.planning import FIVE
from torussim.topology.builders import standard_twist, torus_links
from torussim.topology.grid import default_routing, grid_of
from torussim.topology.shape import Twist, axis_names
from torussim.topology.slices import Pod, pod_of
from torussim.units import percent, show

MANY, LONG = 256, 16  # chips in all, and along an axis, up to which shapes that are no slices are examined


@dataclass(frozen=True)
class Shape:
    """The chips along each axis, the axes with a wraparound, and whether the shape is an available slice.

    `buildable` is None where no source says which slices the chip has. `how` names the kind of slice in words.
    """

    lengths: tuple[int, ...]
    wrap: tuple[bool, ...]
    buildable: bool | None
    how: str
    twist: Twist = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its axes, as in "4x4x8" or "4x4x8 twisted"."""
        return "x".join(map(str, self.lengths)) + (" twisted" if self.twist else "")

    @property
    def like(self) -> tuple[object, ...]:
        """The properties that are equal for shapes which differ only in the order of their axes."""
        names = axis_names(len(self.lengths))
        axes = [(length, wraps, tuple(sorted((self.lengths[names.index(other)], shift)
                                             for other, shift in self.twist.get(name, {}).items())))
                for name, length, wraps in zip(names, self.lengths, self.wrap) if length > 1]
        return tuple(sorted(axes))


@dataclass(frozen=True)
class Reshaped:
    """The fastest known layout on another shape, at the batch of the plan's pick.

    `of` is the shape of the scenario's network; `present`: whether this is the same shape, without its faults. `links` describes
    the links of the shape. `step_s` is simulated; it is None where no layout fits, or where the shape was not examined, and `why`
    gives the reason. `saving` is the share of the time of the plan's pick, and so of its cost, that the shape saves; it is
    negative where the shape is slower. `certified`: whether no candidate on this shape is faster; otherwise the layout is the
    fastest of a few.
    """

    shape: Shape
    of: Shape
    present: bool
    links: str
    step_s: float | None = None
    saving: float | None = None
    certified: bool = False
    candidate: str = ""
    best: Scenario | None = None
    why: str = ""

    def words(self) -> str:
        """Return the row in words: "4x4x4 as 2x4x8 would cost 17 % (not buildable: no slice of tpu-v4): 95.7 ms ..."."""
        one = self.shape
        if self.present and not self.saving:
            return f"The network is {one.name} ({one.how})."
        what = f"{one.name} without its faults" if self.present else f"{self.of.name} as {one.name}"
        if not self.present and one.name == self.of.name:
            closed = [axis for axis, wraps in zip(axis_names(len(one.wrap)), one.wrap) if wraps]
            what += " with " + (f"wraparounds on {', '.join(closed)}" if closed else "no wraparounds")
        mark = {True: "buildable: ", False: "not buildable: ", None: ""}[one.buildable]
        if self.step_s is None or self.saving is None:
            return f"{what} ({mark}{one.how}): {self.why}."
        change = "take the same time" if abs(self.saving) < SAME else \
            f"{'save' if self.saving > 0 else 'cost'} {percent(abs(self.saving))}"
        few = "" if self.certified else "; of few layouts that were simulated"
        return f"{what} would {change} ({mark}{one.how}): {show(self.step_s, 's')} with {self.candidate}{few}."

    def keys(self) -> dict[str, Any]:
        """Return the fields as mappings and lists."""
        one = self.shape
        return {"shape": list(one.lengths), "wrap": list(one.wrap), "twist": {axis: dict(by) for axis, by in one.twist.items()},
                "buildable": one.buildable, "how": one.how, "present": self.present, "links": self.links, "step_s": self.step_s,
                "saving": self.saving, "certified": self.certified, "candidate": self.candidate,
                "layout": self.best.resolved["layout"] if self.best else None,
                **({"why": self.why} if self.why else {})}


@dataclass(frozen=True)
class Fastest:
    """The fastest choice on one network, the scenario that runs it, and whether this is proved."""

    choice: Choice
    best: Scenario
    certified: bool


Seek = Callable[[Scenario, Planning], Fastest]


# -- the shapes ---------------------------------------------------------------------------------------------------------


def shapes_of(chips: int, chip: Chip, axes: int) -> list[Shape]:
    """Return every shape of a number of chips, up to the order of its axes; available slices come first.

    Slices of known chips have as many axes as the chip, other shapes as many as `axes`. A slice with a public name has the
    wraparounds of the public table. Any other shape has the wraparounds of the chip's rule.

    >>> from torussim.chips import chip
    >>> [(shape.name, shape.wrap, shape.how) for shape in shapes_of(32, chip("tpu-v4"), 3)][:2]
    [('2x4x4', (False, False, False), 'public slice v4-64'), ('1x1x32', (False, False, False), 'no slice of tpu-v4')]
    """
    preset = chip.name.removesuffix(", changed")
    pod = pod_of(preset)
    lengths = factored(chips, chip.links // 2 if pod else axes)
    found = [shape for one in lengths for shape in _shapes(one, chip, preset, pod)]
    return sorted(found, key=lambda shape: not shape.buildable)


def factored(chips: int, axes: int, least: int = 1) -> Iterator[tuple[int, ...]]:
    """Return every way to write a number of chips as a product of one factor for each axis, in rising order.

    >>> list(factored(16, 3))
    [(1, 1, 16), (1, 2, 8), (1, 4, 4), (2, 2, 4)]
    """
    if axes == 1:
        yield (chips,)
        return
    for first in range(least, round(chips ** (1 / axes)) + 1):
        if chips % first == 0:
            yield from ((first, *rest) for rest in factored(chips // first, axes - 1, first))


def _shapes(lengths: tuple[int, ...], chip: Chip, preset: str, pod: Pod | None) -> Iterator[Shape]:
    """Return the shapes with axes of these lengths: with the wraparounds of the chip's slices, and twisted where possible."""
    if pod is None:
        yield Shape(lengths, chip.wraps(lengths), None, f"no source says which slices {preset} has")
        return
    public = next(((name, *one) for name, one in pod.named.items() if sorted(one[0]) == sorted(lengths)), None)
    blocks = pod.block and all(length % pod.block == 0 for length in lengths)
    wrap = chip.wraps(lengths)
    if public:
        name, lengths, wrap = public
        shape = Shape(lengths, wrap, True, f"public slice {name}")
    elif blocks and not (pod.most and prod(lengths) > pod.most):
        shape = Shape(lengths, wrap, True, f"by the rule of multiples of {pod.block}, no public name")
    elif blocks:
        shape = Shape(lengths, wrap, False, f"more than the {pod.most:,} chips of the largest slice of {preset}")
    else:
        shape = Shape(lengths, wrap, False, f"no slice of {preset}")
    yield shape
    if pod.twisted and blocks and shape.buildable and _twist(lengths):
        yield replace(shape, how=f"{shape.how}, twisted", twist=_twist(lengths))


def _twist(lengths: tuple[int, ...]) -> Twist:
    """Return the twist of n x n x 2n and n x 2n x 2n, and none for other shapes."""
    try:
        return standard_twist(lengths)
    except TopologyError:
        return {}


# -- their effect -------------------------------------------------------------------------------------------------------


def reshaped(found: Plan, seek: Seek) -> list[Reshaped]:
    """Return the effect of each shape of as many chips, the fastest first; none for a network that is no built-in torus.

    A network whose nodes are cores of chips has none either. `seek` finds the fastest layout on a network. Where every table of
    shardings was searched, shapes are compared by the named layouts, the present shape included. Links of other shapes have the
    bandwidth and latency that the scenario's network was built with, or those of the chip where its axes differ.
    """
    scenario = found.scenario
    record = scenario.resolved["topology"]
    if record.get("kind") != "torus" or scenario.chip.part > 1:
        return []
    here = present_shape(scenario)
    healthy = not {"links", "events"} & record.keys()
    others = shapes_of(len(scenario.net.chips), scenario.chip, len(here.lengths))
    made, asked = [], found.planning
    base = Fastest(found.pick, found.best, found.certified)
    if asked.layouts == "all":
        try:
            base = seek(scenario, replace(asked, batch=(found.pick.batch,), layouts=FIVE))
        except PlanError:  # no layout fits on this shape
            return []
    for shape in (here, *(one for one in others if one.like != here.like)):
        if shape is here and healthy:
            made.append(Reshaped(shape, here, True, _words(record), base.choice.keys["step_s"], 0.0, base.certified,
                                 name_of(base.choice.candidate), base.best))
        else:
            made.append(_on(shape, here, found, base.choice, seek))
    return sorted(made, key=lambda one: (one.step_s is None, one.step_s or 0.0, not one.present, not one.shape.buildable))


def _on(shape: Shape, here: Shape, found: Plan, base: Choice, seek: Seek) -> Reshaped:
    """Return the effect of one shape in place of the present one, against a choice on the present one."""
    present = shape is here
    large = f"{LONG} chips along an axis" if max(shape.lengths) > LONG else f"{MANY} chips" if prod(shape.lengths) > MANY else ""
    if large and not shape.buildable and not present:
        return Reshaped(shape, here, present, "", why=f"not looked at, with more than {large}")
    scenario = on_shape(found.scenario, shape, present)
    asked = found.planning
    planning = replace(asked, batch=(found.pick.batch,), mesh="whole" if asked.mesh == "file" and not present else asked.mesh,
                       layouts=FIVE if asked.layouts == "all" else asked.layouts)
    links = _words(scenario.resolved["topology"])
    try:
        one = seek(scenario, planning)
    except PlanError as error:
        return Reshaped(shape, here, present, links, why=str(error))
    keys, name = one.choice.keys, name_of(one.choice.candidate)
    return Reshaped(shape, here, present, links, keys["step_s"], 1 - keys["latency_s"] / base.keys["latency_s"],
                    one.certified, name, one.best)


def on_shape(scenario: Scenario, shape: Shape, present: bool = False) -> Scenario:
    """Return a scenario on another shape, or on its own shape without faults. Its layouts still have the old mesh."""
    old, chip = scenario.resolved["topology"], scenario.chip
    made: dict[str, Any] = {"shape": list(shape.lengths), "wrap": list(shape.wrap)}
    for key, base in (("bandwidth", chip.link_bandwidth), ("latency", chip.link_latency)):
        values = old[key] if isinstance(old[key], list) else [old[key]]
        made[key] = old[key] if present else values[0] if len({*values}) == 1 else base
    made |= {"twist": {axis: dict(by) for axis, by in shape.twist.items()}} if shape.twist else {}
    links = torus_links(**made)
    routing = old.get("routing") if not shape.twist and old.get("routing") in ("minimal", "shortest") else default_routing(links)
    net = grid_of(links, parts=cuts(scenario.net) if present else None, routing=routing)
    record = {"kind": "torus", **made, "routing": routing}
    network = Network(dict(zip(net.axes, net.shape)), None, net, record, links=links, torus=made)
    return changed(scenario, network=network, net=net, resolved={**scenario.resolved, "topology": record})


def present_shape(scenario: Scenario) -> Shape:
    """Return the shape of a scenario's network as it was built."""
    record = scenario.resolved["topology"]
    lengths, wrap, twist = tuple(record["shape"]), tuple(record["wrap"]), record.get("twist", {})
    here = Shape(lengths, wrap, False, "not as any slice", twist)
    same = [one for one in shapes_of(len(scenario.net.chips), scenario.chip, len(lengths)) if one.like == here.like]
    if same:
        return replace(here, buildable=same[0].buildable, how=same[0].how)
    known = pod_of(scenario.chip.name.removesuffix(", changed")) is not None
    return replace(here, buildable=False if known else None, how="the scenario's own wraparounds")


def _words(record: Mapping[str, Any]) -> str:
    """Return a description of the links of a network without faults, in words."""
    said = []
    for key, unit in (("bandwidth", "B/s"), ("latency", "s")):
        values = record[key] if isinstance(record[key], list) else [record[key]]
        said.append(" / ".join(show(value, unit) for value in values))
    return ", ".join(said)
