"""Faults of a network: changes that make its cables worse than they were built; and the network without some of them.

A cable is both directions between two nodes. Changes of the same cables are one fault, at the start or in mid-run: the two
directions of one link, or a link that slows down and recovers. A fault has several cables if a change selects several, such as
the wraparounds of one optical switch.

A change that names no place (`from_` and `to`, or `at`), such as {axis: z, bandwidth: 20 GB/s}, is the design of the network and
no fault, unless links fail or change in mid-run. A change that makes no cable worse is no fault either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim.topology.check import Floats, Links, Node, read_links
from torussim.topology.grid import Grid, Routing, grid, grid_of, parts_of
from torussim.topology.links import LinkChange, Mask, apply, change_later, change_links, remove
from torussim.topology.shape import Indices

if TYPE_CHECKING:
    import networkx as nx

Cable = tuple[Node, Node]
KINDS = ("dead", "failing", "changing", "slow", "late")  # kinds of faults, the gravest first


@dataclass(frozen=True, eq=False)
class Changes:
    """A network as it was built, and its changes; `events`: (seconds, change) in order of time."""

    graph: nx.DiGraph
    links: tuple[LinkChange, ...] = ()
    events: tuple[tuple[float, LinkChange], ...] = ()
    routing: Routing | None = None  # None: the routing of the graph
    parts: Mapping[str, Sequence[int]] = field(default_factory=dict)  # the lengths into which axes are cut

    def net(self, without: Iterable[Fault] = (), dead: Fault | None = None) -> Grid:
        """Return the network without some faults; the cables of `dead` have failed instead.

        Raise TopologyError if this cuts the network in two.
        """
        left = [*without, *([dead] if dead else [])]
        links, events = ({i for fault in left for i in getattr(fault, key)} for key in ("links", "events"))
        graph = change_links(self.graph, [one for i, one in enumerate(self.links) if i not in links])
        if dead:
            ends = [edge for a, b in dead.cables for edge in ((a, b), (b, a)) if graph.has_edge(*edge)]
            graph = remove(graph, ends)
        graph = change_later(graph, [one for i, one in enumerate(self.events) if i not in events])
        if self.routing is not None:
            graph.graph["routing"] = self.routing
        return grid(graph, parts=self.parts)


@dataclass(frozen=True)
class Fault:
    """Changes for the worse of the same cables; bandwidths are those of the slowest direction of any of the cables, bytes/s."""

    kind: str  # one of KINDS; failing and changing: in mid-run
    cables: tuple[Cable, ...]
    links: tuple[int, ...]  # indices of changes
    events: tuple[int, ...]
    bandwidth: float  # the least in the run; 0: dead, or failing
    built: float
    late: float  # seconds by which the latency is longer


def faults(changes: Changes) -> list[Fault]:
    """Return the faults of a network, in the order of their first changes."""
    links = read_links(changes.graph)
    groups = _groups(changes, links)
    if not groups:
        return []
    built = _columns(changes, links, *({i for group in groups for i in group[key]} for key in (0, 1)))
    now = _columns(changes, links)
    slower = now.bandwidth < built.bandwidth
    worse = now.failed | slower | (now.latency > built.latency)
    cable, found = cables(links), []
    for of_links, of_events, own in groups:
        where = np.isin(cable, own)
        if not (worse & where).any():  # another change has undone it
            continue
        dead, fails = (any(one.failed for one in some) for some in (
            [changes.links[i] for i in of_links], [changes.events[i][1] for i in of_events]))
        kind = ("dead" if dead else "failing" if fails else "changing" if of_events else
                "slow" if (slower & where).any() else "late")
        one_way = np.flatnonzero(where)[np.unique(cable[where], return_index=True)[1]]
        found.append(Fault(kind, tuple(links.edge(i) for i in one_way.tolist()), tuple(of_links), tuple(of_events),
                           0.0 if dead or fails else float(now.bandwidth[where].min()), float(built.bandwidth[where].min()),
                           max(0.0, float((now.latency - built.latency)[where].max()))))
    return found


def described(fault: Fault, changes: Changes) -> dict[str, Any]:
    """Return a fault as plain data for JSON: {kind, from, to (of its first cable), cables, changes, bandwidth, built, late}."""
    ends = [list(end) if isinstance(end, tuple) else str(end) for end in fault.cables[0]]
    return {"kind": fault.kind, "from": ends[0], "to": ends[1], "cables": len(fault.cables),
            "changes": [str(changes.links[i]) for i in fault.links] + [str(changes.events[i][1]) for i in fault.events],
            "bandwidth": fault.bandwidth, "built": fault.built, "late": fault.late}


def all_described(changes: Changes | None) -> list[dict[str, Any]]:
    """Return the faults of a network, the gravest first, each as in `described`."""
    if changes is None or not (changes.links or changes.events):
        return []
    ordered = sorted(faults(changes), key=lambda fault: (KINDS.index(fault.kind), fault.bandwidth / fault.built))
    return [described(one, changes) for one in ordered]


def cables(links: Links) -> Indices:
    """Return the number of the cable of each link, (links,); both directions have the same number."""
    lower, upper = np.sort([links.source, links.target], axis=0)
    return np.asarray(lower * len(links.nodes) + upper)


def _groups(changes: Changes, links: Links) -> list[list[list[int]]]:
    """Return the groups of changes of the same cables, any of them for the worse: indices in `links`, in `events`, cables."""
    state, cable = _State.of(links), cables(links)
    groups: dict[bytes, list[list[int]]] = {}
    bad = set()
    listed = [(0, i, one) for i, one in enumerate(changes.links)] + [(1, i, one) for i, (_, one) in enumerate(changes.events)]
    for which, i, change in listed:
        before = _State(state.bandwidth.copy(), state.latency.copy(), state.failed)
        own = np.unique(cable[state.make(links, change)])
        if which or change.failed or change.at or change.from_ is not None:
            groups.setdefault(own.tobytes(), [[], [], own.tolist()])[which].append(i)
            if change.failed or (state.bandwidth < before.bandwidth).any() or (state.latency > before.latency).any():
                bad.add(own.tobytes())
    return [group for name, group in groups.items() if name in bad]


@dataclass(frozen=True, eq=False)
class _State:
    """Columns of links, (links,), with changes applied."""

    bandwidth: Floats
    latency: Floats
    failed: Mask

    @staticmethod
    def of(links: Links) -> _State:
        return _State(links.bandwidth.copy(), links.latency.copy(), np.zeros(len(links.source), bool))

    def make(self, links: Links, change: LinkChange) -> Mask:
        return apply(links, change, self.bandwidth, self.latency, self.failed)


def _columns(changes: Changes, links: Links, no_links: Set[int] = frozenset(), no_events: Set[int] = frozenset()) -> _State:
    """Return the links after all changes except some; each link with its least bandwidth of the run."""
    state = _State.of(links)
    for i, change in enumerate(changes.links):
        if i not in no_links:
            state.make(links, change)
    least = state.bandwidth.copy()
    for i, (_, change) in enumerate(changes.events):
        if i not in no_events:
            state.make(links, change)
            np.minimum(least, state.bandwidth, out=least)
    return _State(least, state.latency, state.failed)


def scaled(net: Grid, scale: Floats) -> Grid:
    """Return a grid with multiples of its links' bandwidths, (links,); links with 0 have failed.

    Links that change in mid-run must keep their bandwidths. Raise TopologyError if the rest of the network is cut in two.
    """
    links, left = net.links, scale > 0
    place = np.cumsum(left) - 1
    columns = {name: getattr(links, name)[left] for name in ("source", "target", "axis", "sign", "wraparound", "latency",
                                                               "hops")}
    events = tuple(replace(event, links=place[event.links]) for event in links.events)
    made = replace(links, **columns, bandwidth=(links.bandwidth * scale)[left], as_routed=None, events=events,
                   failed=(*links.failed, *links.edges(~left)))
    graph = net.graph
    if callable(net.routing):  # only a user-defined routing reads the graph
        graph = remove(graph, links.edges(~left))
        for u, v, rate in zip(*zip(*made.edges(np.ones(len(made.source), bool))), made.bandwidth.tolist(), strict=True):
            graph.edges[u, v]["bandwidth"] = rate
    return grid_of(made, parts=parts_of(net), routing=net.routing, graph=graph)
