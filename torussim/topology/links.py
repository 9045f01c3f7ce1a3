"""Changes to the links of a topology: the selection of links, and their new values.

A change selects whole links, both directions at once, by properties of the link: its two ends, its axis, whether it is a
wraparound, and the coordinates of the chip that it leaves in + direction (on an axis of length n a wraparound leaves chip n - 1).
`both_ways=False` then keeps one direction of each link. Every selection is a mask over the columns of `read_links`, so a change
costs the same for any number of links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, prod
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from torussim.errors import TopologyError
from torussim.topology.check import Links, Node, as_float, read_links
from torussim.topology.shape import chip_index, is_int

if TYPE_CHECKING:
    import networkx as nx

Mask = npt.NDArray[np.bool_]  # (links,)
Floats = npt.NDArray[np.float64]
Column = npt.NDArray[np.bool_] | npt.NDArray[np.intp]  # (links,)

SHOWN = 8  # values of a criterion that a message shows


@dataclass(frozen=True)
class LinkChange:
    """A selection of links and their change. A link must meet all given criteria; a change without criteria selects every link.

    `str` is the change as a scenario file has it.
    """

    from_: Sequence[int] | str | None = None  # with `to`: two neighbours; a switch is given by its name
    to: Sequence[int] | str | None = None
    axis: str | None = None
    wraparound: bool | None = None
    at: Mapping[str, int] = field(default_factory=dict)  # coordinates of the chip that the link leaves in + direction
    both_ways: bool = True  # else only from -> to, or only the + direction
    bandwidth: float | None = None  # bytes/s, the new one
    latency: float | None = None  # s, the new one
    scale: float | None = None  # multiplies the bandwidth at that time
    failed: bool = False  # the link has failed

    def __str__(self) -> str:
        given = {"from": self.from_, "to": self.to, "axis": self.axis, "wraparound": self.wraparound,
                 "at": self.at or None, "both_ways": None if self.both_ways else False,
                 "bandwidth": self.bandwidth, "latency": self.latency, "scale": self.scale,
                 "failed": self.failed or None}
        return "{" + ", ".join(f"{key}: {_flow(value)}" for key, value in given.items() if value is not None) + "}"


def change_links(graph: nx.DiGraph, changes: Iterable[LinkChange]) -> nx.DiGraph:
    """Return a copy of a topology with the changes made, one after another.

    Raise TopologyError, with the change, if it selects no link or makes no sense; its path begins with the change's index.
    """
    links = read_links(graph)
    bandwidth, latency = links.bandwidth.copy(), links.latency.copy()
    touched, failed = np.zeros((2, len(bandwidth)), bool)
    for index, change in enumerate(changes):
        try:
            selected = apply(links, change, bandwidth, latency, failed)
        except TopologyError as error:
            raise error.within((index,), f"change {index + 1} of links, {change}: ") from None
        touched |= selected

    changed = graph.copy()
    attributes = dict(changed.adjacency())
    edges = zip(links.edges(touched), bandwidth[touched].tolist(), latency[touched].tolist(), strict=True)
    for (u, v), new_bandwidth, new_latency in edges:
        attributes[u][v].update(bandwidth=new_bandwidth, latency=new_latency)
    return remove(changed, links.edges(failed)) if failed.any() else changed


def apply(links: Links, change: LinkChange, bandwidth: Floats, latency: Floats, failed: Mask) -> Mask:
    """Change the columns of links, (links,), in place, and return the changed links; links that have `failed` do not change.

    Raise TopologyError with the bare reason if the change selects no link or makes no sense.
    """
    _check_values(change)
    selected = _select(links, change) & ~failed
    if not selected.any():
        raise TopologyError("every link that it selects has already failed: move this change up, or leave it out")
    failed |= selected & change.failed
    if change.bandwidth is not None:
        bandwidth[selected] = as_float(change.bandwidth)
    if change.latency is not None:
        latency[selected] = as_float(change.latency)
    if change.scale is not None:
        bandwidth[selected] = _scaled(bandwidth[selected], as_float(change.scale))
    return selected


def remove(graph: nx.DiGraph, edges: Sequence[tuple[Node, Node]]) -> nx.DiGraph:
    """Return a copy of a topology in which some edges have failed."""
    left = graph.copy()
    left.remove_edges_from(edges)
    left.graph["failed"] = (*graph.graph.get("failed", ()), *edges)
    return left


def change_later(graph: nx.DiGraph, changes: Iterable[tuple[float, LinkChange]]) -> nx.DiGraph:
    """Return a copy of a topology whose links change in mid-run: (seconds from the start, bandwidth, scale or failure of links).

    `scale` multiplies the bandwidth just before the change. Links that failed earlier do not change. Raise TopologyError, with
    the change, as in change_links; the index of a change is that in the order given.
    """
    links = read_links(graph)
    bandwidth, failed = links.bandwidth.copy(), np.zeros(len(links.source), bool)
    events = []
    for index, (time, change) in sorted(enumerate(changes), key=lambda one: one[1][0]):
        try:
            _check_values(change)
            if change.latency is not None:
                raise TopologyError("in mid-run a link keeps its latency; give bandwidth above 0, scale, or failed: true")
            if not 0 <= as_float(time) < inf:
                raise TopologyError(f"the time {time!r} is not one of the run; give seconds, 0 or more")
            selected = apply(links, change, bandwidth, links.latency, failed)
            bandwidth[failed] = 0.0
        except TopologyError as error:
            raise error.within((index,), f"event {index + 1}, {change}: ") from None
        events.append((float(time), dict(zip(links.edges(selected), bandwidth[selected].tolist(), strict=True))))
    changed = graph.copy()
    changed.graph["events"] = (*graph.graph.get("events", ()), *events)
    return changed


def _check_values(change: LinkChange) -> None:
    if change.bandwidth is None and change.latency is None and change.scale is None and not change.failed:
        raise TopologyError("it changes nothing; give bandwidth, latency, scale or failed: true")
    if change.failed and not (change.bandwidth is None and change.latency is None and change.scale is None):
        raise TopologyError("failed: true leaves no link whose bandwidth or latency could change; give one or the other")
    if change.bandwidth is not None and change.scale is not None:
        raise TopologyError("bandwidth and scale are both given; give the bandwidth that results, or scale alone")
    for name, value in (("bandwidth", change.bandwidth), ("scale", change.scale)):
        if value is not None and not 0 < as_float(value) < inf:
            raise TopologyError(f"{name} {value!r} is no finite number above 0; "
                                f"give {'bytes/s, such as 45e9' if name == 'bandwidth' else 'a factor, such as 0.5'}")
    if change.latency is not None and not 0 <= as_float(change.latency) < inf:
        raise TopologyError(f"latency {change.latency!r} is no finite number, 0 or more; give seconds, such as 1e-6")


def _scaled(bandwidth: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.float64]:
    with np.errstate(over="ignore", under="ignore"):
        scaled = bandwidth * scale
    if not (np.isfinite(scaled) & (scaled > 0)).all():
        raise TopologyError(f"scale {scale!r} makes a bandwidth 0 or infinite; give a factor such as 0.5")
    return scaled


def _select(links: Links, change: LinkChange) -> Mask:
    """Return (links,) whether a change selects an edge. Raise TopologyError with the bare reason if it selects none."""
    if not len(links.source):
        raise TopologyError("the topology has no links")
    selected = np.ones(len(links.source), bool)
    if change.from_ is not None or change.to is not None:
        selected = _between(links, change)
    for name, column, wanted, show in _criteria(links, change):
        before = selected
        selected = before & (column == wanted)
        if not selected.any():
            others = [show(value) for value in np.unique(column[before]).tolist()]
            more = f" or {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            meaning = " (at is the chip that a link leaves in + direction)" if name.startswith("at ") else ""
            raise TopologyError(f"no link has {name} {show(wanted)}{meaning} and the other properties; "
                                f"the links with the other properties have {name} {' or '.join(others[:SHOWN])}{more}")
    if not change.both_ways and change.from_ is None:
        selected = selected & (links.sign == 0)
    return selected


def _between(links: Links, change: LinkChange) -> Mask:
    """Return whether an edge joins the nodes from and to. Raise TopologyError if they are not neighbours."""
    if change.from_ is None or change.to is None:
        given, other = ("from", "to") if change.to is None else ("to", "from")
        raise TopologyError(f"{given} is given without {other}; give both, or neither")
    start, end = _index(links, change.from_), _index(links, change.to)
    there: Mask = (links.source == start) & (links.target == end)
    if not there.any():
        neighbours = ", ".join(_flow(links.nodes[chip]) for chip in links.target[links.source == start])
        raise TopologyError(f"there is no link from {_flow(change.from_)} to {_flow(change.to)}; "
                            f"the neighbours of {_flow(change.from_)} are {neighbours or 'none'}")
    back: Mask = (links.source == end) & (links.target == start)
    return there | back if change.both_ways else there


def _index(links: Links, node: Sequence[int] | str) -> int:
    """Return the number of a chip, given by its coordinates, or of a switch, given by its name.

    Raise TopologyError if it does not exist.
    """
    if not isinstance(node, str):
        return chip_index(node, links.axes)
    chips = prod(links.axes.values())
    switches = [str(name) for name in links.nodes[chips:]]
    if node not in switches:
        more = f" and {len(switches) - SHOWN} more" if len(switches) > SHOWN else ""
        known = f": one of {', '.join(switches[:SHOWN])}{more}" if switches else " on this network"
        raise TopologyError(f"there is no switch {node!r}{known}; a chip is a list of coordinates, such as "
                            f"{_flow([0] * len(links.axes))}", code="unknown-name")
    return chips + switches.index(node)


def _criteria(links: Links, change: LinkChange) -> list[tuple[str, Column, int, Callable[[int], str]]]:
    """Return, for each criterion, its name, a column (links,), the wanted value, and a function that shows a value."""
    names = list(links.axes)
    criteria: list[tuple[str, Column, int, Callable[[int], str]]] = []
    if change.axis is not None:
        _check_axis(links, change.axis)
        criteria.append(("axis", links.axis, names.index(change.axis), (*names, "none").__getitem__))
    if change.wraparound is not None:
        criteria.append(("wraparound", links.wraparound, change.wraparound, lambda value: _flow(bool(value))))
    leaves = np.where(links.sign == 0, links.source, links.target)  # the chip that the link leaves in + direction
    leaves = np.where(links.axis >= 0, leaves, 0)  # other links can end at a switch
    for axis, coordinate in change.at.items():
        _check_axis(links, axis)
        if not is_int(coordinate) or not 0 <= coordinate < links.axes[axis]:
            raise TopologyError(f"at has {axis}: {coordinate!r}, but axis {axis} goes from 0 to {links.axes[axis] - 1}")
        where = np.where(links.axis >= 0, links.coordinates[names.index(axis), leaves], -1)  # -1: a link along no axis
        criteria.append((f"at {axis}", where, coordinate, str))
    return criteria


def _check_axis(links: Links, axis: str) -> None:
    if axis not in links.axes:
        raise TopologyError(f"there is no axis {axis!r}; the axes are {', '.join(links.axes)}", code="unknown-name")


def _flow(value: object) -> str:
    """Return a value in the flow style of YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value)
