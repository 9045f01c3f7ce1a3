"""Routes over the links of a grid: of messages between its chips, and of hops that have no link of their own.

And what is left to each hop of an axis when all of them send. The grid can be folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from torussim.topology.grid import Grid, Routing, wraparounds_of
from torussim.topology.rings import off_axes
from torussim.topology.routes import Array, Routes, joined
from torussim.topology.routing import parts


def route(net: Grid, routing: Routing, source: Array, target: Array, crowd: Array | None = None) -> Iterator[Routes]:
    """Yield routes between physical chips, over the links that stand for the links, some of the paths at a time.

    `crowd`: (paths,) how many messages of its sender each stands for, if that is not 1. A path can use several links that one
    stands for: where all flows that are like its own are counted, that one has as many of them.
    """
    found, done = parts(net.links, routing, source, target, graph=net.graph), 0
    if len(net.own) == len(net.orbit):
        yield from found
        return
    messages = np.bincount(net.orbit)[net.orbit[source]] * (1 if crowd is None else crowd)
    for part in found:
        yield _folded(net, part, messages[done:done + len(part)])
        done += len(part)


def _folded(net: Grid, found: Routes, messages: Array) -> Routes:
    """Return routes over the links that stand for the links of other routes, of which each is so many messages'."""
    most = len(net.links.source) + 1
    path = np.repeat(np.arange(len(found)), np.diff(found.first))
    once, place = np.unique(path * most + net.stands[found.link], return_inverse=True)
    path, link = np.divmod(once, most)
    place = place.reshape(-1)
    first = np.searchsorted(path, np.arange(len(found) + 1))
    crowd = messages[path] / np.bincount(net.stands)[link]
    return Routes(first, link.astype(np.int32), crowd * np.bincount(place, found.share, len(once)), found.latency,
                  np.rint(crowd * np.bincount(place, minlength=len(once))).astype(np.int32))


def gap_routes(net: Grid, gaps: Array) -> Routes:
    """Return the routes that stand for hops without a link, over physical links; `gaps`: places in (axes, 2, chips).

    On a torus or mesh a dead link is gone round over all shortest detours, as `shortest` shares them. Elsewhere, and where
    neighbours are several chips apart, as the ends of a line are, messages are routed as the topology says.
    """
    chips = len(net.own)
    source, target = net.own[gaps % chips], net.target.ravel()[gaps]
    near = (np.array(net.stride)[gaps // (2 * chips)] == 1) & (not off_axes(net.links))
    closed = [net.goes_round(axis) for axis in net.axes]
    near &= ~(wraparounds_of(net.coordinates, net.shape) & ~np.array(closed)[:, None, None]).ravel()[gaps]
    crowd = np.where(net.twin.repeat(2, axis=0).ravel()[gaps], 2, 1)
    order, tables = np.empty(len(gaps), np.intp), list[Routes]()
    for here, routing in ((near, "shortest"), (~near, net.routing)):
        if here.any():
            order[here] = sum(map(len, tables)) + np.arange(here.sum())
            tables.append(joined(route(net, routing, source[here], target[here], crowd[here])))
    return joined(tables).take(order)


def slowest(net: Grid, axis: int, efficiency: float = 1.0, beside: Sequence[int] = (),
            ways: tuple[bool, bool] = (True, True)) -> tuple[float, float, float]:
    """Return the lowest rate (bytes/s) of an axis' hops while all of them send, their longest latency, and how much longer
    the longest of those without a link takes (s): a message meets that one once on its way along a ring. `ways`: the directions
    in which any send.

    A link is shared equally by all that crosses it: a hop gets bandwidth / load of its tightest link, times `efficiency`
    where it is not alone there. `beside`: axes whose hops send at the same time.
    """
    load, flows, late, far, direct = _crossing(net, axis, ways)
    used = load > 0
    for other in beside:
        more = _crossing(net, other, ways)
        load, flows = load + more[0], flows + more[1]
    if net.stride[axis] > 1 or off_axes(net.links) or not direct:  # many hops are like that
        late = max(late, far)
    left = net.links.bandwidth[used] / load[used] * np.where(flows[used] > 1, efficiency, 1.0)
    return float(left.min(initial=np.inf)), late, max(far - late, 0.0)


def _crossing(net: Grid, axis: int, ways: tuple[bool, bool]) -> tuple[Array, Array, float, float, bool]:
    """Return (links,) the load of all hops of an axis in these directions, how many there are, the longest latency of those with
    a link of their own and of the others, s, and whether any has one.
    """
    chips = len(net.own)
    sends = np.array(ways)[:, None]
    gaps = np.flatnonzero((net.gap[axis] & sends).ravel()) + 2 * axis * chips
    own = net.slot[axis][net.hops[axis] & (net.slot[axis] >= 0) & sends]
    load = np.zeros(len(net.links.bandwidth))
    load[own] = 1.0
    flows = (load > 0).astype(float)
    late, far = float(net.links.latency[own].max(initial=0.0)), 0.0
    if len(gaps):
        around = gap_routes(net, gaps)
        np.add.at(load, around.link, around.share)
        flows += around.flows(len(flows))
        far = float(around.latency.max())
    return load, flows, late, far, bool(len(own))
