"""Sets of drawn faults: the slow and dead cables of a network, and the sets of equal cost.

A cable is both directions of a link. Faults are drawn from the existing cables. These include cables that the scenario has made
slow. They exclude dead cables, and cables that change in mid-run, whose history is given. The module knows nothing of times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from torussim.collectives.lower import algorithm_of
from torussim.errors import FaultError
from torussim.program import Collective, Program
from torussim.topology.check import Floats
from torussim.topology.faults import cables
from torussim.topology.grid import Grid
from torussim.topology.links import LinkChange
from torussim.topology.shape import Indices, receivers

Faults = tuple[tuple[int, float], ...]  # (cable, scale of its bandwidth; 0: dead), in the order of the cables
COMPARED = 8  # faults: larger sets that differ only by a translation are too rare to search for


@dataclass(frozen=True)
class Kind:
    """A kind of fault: `many` is a probability for each cable (a float) or a number of cables (an int).

    `scale` multiplies the bandwidth; 0: dead.
    """

    many: float | int
    scale: float = 0.0

    def __str__(self) -> str:
        what = "dead" if self.scale == 0 else f"slow (x {self.scale:g})"
        if isinstance(self.many, float):
            return f"each {what} with probability {self.many:g}"
        return f"{self.many:,} {what}"


def kinds_of(dead: float | int | None, slow: Iterable[tuple[float | int, float]], count: int) -> tuple[Kind, ...]:
    """Return the requested kinds of faults on a network of `count` cables. Raise FaultError for numbers that are not valid."""
    asked = [*([] if dead is None else [(dead, 0.0)]), *slow]
    kinds = tuple(Kind(many.item() if isinstance(many, np.generic) else many, scale) for many, scale in asked)
    if not kinds:
        raise FaultError("no fault is asked for: give dead, slow, or both", code="missing")
    for i, kind in enumerate(kinds):
        _check(kind, ("dead",) if dead is not None and not i else ("slow", i - (dead is not None)))
    in_all = sum(kind.many for kind in kinds if isinstance(kind.many, int))
    if in_all > count:
        raise FaultError(f"{in_all:,} faulty links are asked for, but the network has {count:,} that can be drawn: give fewer",
                         code="limit")
    share = sum(kind.many for kind in kinds if isinstance(kind.many, float))
    if share > 1:
        raise FaultError(f"the probabilities add up to {share:g}, but a link is dead or slow, not both: they must add up to 1.0 "
                         "at most", code="clash")
    return kinds


def _check(kind: Kind, path: tuple[str | int, ...]) -> None:
    """Raise FaultError if a kind of fault is not valid."""
    if isinstance(kind.many, bool) or not isinstance(kind.many, int | float) or not kind.many >= 0:
        raise FaultError(f"{path[0]}: {kind.many!r} is no probability and no number of links: give 0.001 or 2", path=path)
    if isinstance(kind.many, float) and not kind.many <= 1:
        raise FaultError(f"{path[0]}: {kind.many!r} is no probability: give one from 0.0 to 1.0, or a number of links, without a "
                         "point", path=path)
    if path[0] == "slow" and not 0 < kind.scale <= 1:
        raise FaultError(f"slow: the scale {kind.scale!r} is not above 0 and at most 1: give the share of its bandwidth that a "
                         "slow link has, such as 0.5", path=path)


def draw(kinds: Sequence[Kind], count: int, seed: int, number: int) -> Faults:
    """Return the faults of one draw among `count` cables; it depends on these arguments alone.

    Numbers of cables are drawn first, without replacement. Each other cable then has at most one kind, with its probability.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, number]))
    left, found = np.arange(count), dict[int, float]()
    for kind in kinds:
        if isinstance(kind.many, int):
            chosen = rng.choice(len(left), kind.many, replace=False)
            found.update((cable, kind.scale) for cable in left[chosen].tolist())
            left = np.delete(left, chosen)
    likely = [kind for kind in kinds if isinstance(kind.many, float)]
    edges = np.cumsum([kind.many for kind in likely])
    which = np.searchsorted(edges, rng.random(len(left)), side="right")
    faulty = np.flatnonzero(which < len(likely))
    found.update((cable, likely[kind].scale) for cable, kind in zip(left[faulty].tolist(), which[faulty].tolist()))
    return tuple(sorted(found.items()))


@dataclass(frozen=True, eq=False)
class Cables:
    """The cables of a network that can have drawn faults, numbered in the order of their chips.

    `link`: (cables,) one link of each, the one in + direction along an axis. `of`: (links,) the cable of each link, -1 if none.
    `free`: the axes along which a translation of faults changes no time.
    """

    net: Grid
    link: Indices
    of: Indices
    free: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.link)

    @cached_property
    def places(self) -> list[tuple[int, ...]]:
        """For each cable the axis (-1: none) and the direction of its link, and the coordinates of the chip at its start."""
        links = self.net.links
        start = np.minimum(links.source[self.link], len(links.chips) - 1)  # a switch has no coordinates, and no axis is free then
        columns = np.vstack([links.axis[self.link], links.sign[self.link], links.coordinates[:, start]])
        return [tuple(place) for place in columns.T.tolist()]

    @cached_property
    def at(self) -> dict[tuple[int, ...], int]:
        """The cable at each place."""
        return {place: cable for cable, place in enumerate(self.places)} if self.free else {}

    def alike(self, faults: Faults) -> Faults:
        """Return the first of the sets of faults that are translations of this one along free axes; all have the same cost."""
        if not self.free or not 0 < len(faults) <= COMPARED:
            return faults
        anchors = [self.places[cable] for cable, _ in faults]
        rarest = min(anchor[0] for anchor in anchors)  # the origin has a fault of the first axis
        return min(tuple(sorted((self._moved(cable, anchor), scale) for cable, scale in faults))
                   for anchor in anchors if anchor[0] == rarest)

    def _moved(self, cable: int, anchor: tuple[int, ...]) -> int:
        """Return the image of a cable under the translation along the free axes that moves `anchor` to 0."""
        place = list(self.places[cable])
        for axis in self.free:
            place[axis + 2] = (place[axis + 2] - anchor[axis + 2]) % self.net.shape[axis]
        return self.at[tuple(place)]

    def scale(self, faults: Faults) -> Floats:
        """Return the scale of each link's bandwidth under faults, (links,)."""
        of_cables = np.ones(len(self) + 1)
        for cable, scale in faults:
            of_cables[cable] = scale
        return of_cables[self.of]

    def changes(self, faults: Faults) -> list[LinkChange]:
        """Return faults as a scenario file gives them, under `links`."""
        edges = [self.net.links.edge(int(self.link[cable])) for cable, _ in faults]
        ends = [[list(end) if isinstance(end, tuple) else str(end) for end in edge] for edge in edges]
        return [LinkChange(u, v, failed=True) if scale == 0 else LinkChange(u, v, scale=scale)
                for (u, v), (_, scale) in zip(ends, faults, strict=True)]


def cables_of(net: Grid, programs: Iterable[Program]) -> Cables:
    """Return the cables of a network for draws; `programs` limit the symmetry of the network."""
    links = net.links
    changing = np.zeros(len(links.source), bool)
    for event in links.events:
        changing[event.links] = True
    _, cable = np.unique(cables(links), return_inverse=True)
    steady = np.bincount(cable, changing) == 0
    backwards = np.argsort(links.sign, kind="stable")[::-1]
    first = np.zeros(len(steady), np.intp)
    first[cable[backwards]] = backwards  # the last value written stays: the first link in + direction
    number = np.where(steady, np.cumsum(steady) - 1, -1)
    return Cables(net, first[steady], number[cable], free_axes(net, programs))


def free_axes(net: Grid, programs: Iterable[Program]) -> tuple[int, ...]:
    """Return the axes along which a translation changes neither the network nor the programs' use of it.

    The network is compared link by link. Lines, axes of two chips, twisted tori, axes cut into parts, and axes on which
    algorithms count chips from the first one are left out, although some may be free.
    """
    links = net.links
    if (not len(links.source) or links.events or callable(net.routing) or links.twist or (links.axis < 0).any()
            or len(links.nodes) > len(net.chips) or net.axes != tuple(links.axes)):
        return ()
    moving = [o for program in programs for o in program.operations() if isinstance(o, Collective)]
    counted = {axis for o in moving for axis in o.axes if callable(algorithm_of(o)) or algorithm_of(o) == "one_ring"}
    there = links.slot >= 0
    columns = [np.where(there, values[links.slot], -1.0) for values in (links.bandwidth, links.latency)]
    ahead = receivers(links.axes)[:, 0]
    return tuple(axis for axis, (name, length) in enumerate(links.axes.items())
                 if length > 2 and links.ring[axis] and name not in counted
                 and all((column[:, :, ahead[axis]] == column).all() for column in columns))
