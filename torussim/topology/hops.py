"""Routes over the links of a grid: of messages between its chips, and of hops that have no link of their own.

The module also gives the bandwidth of each hop of an axis while all hops send. The grid can be folded.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from torussim.topology.grid import Grid, Routing, wraparounds_of
from torussim.topology.rings import off_axes
from torussim.topology.routes import Array, Routes, joined
from torussim.topology.routing import parts


def route(net: Grid, routing: Routing, source: Array, target: Array, crowd: Array | None = None) -> Iterator[Routes]:
    """Yield routes between physical chips, over the links that stand for all, some of the paths at a time.

    `crowd`: (paths,) the number of messages of its sender that each path stands for, if it is not 1. A path can use several links
    that one link stands for. All flows like its own together put as many flows on that one link.
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
    """Return the routes over the links that stand for all; each route stands for this number of messages."""
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
    """Return the routes that stand for hops without a link, over physical links; `gaps`: indices in (axes, 2, chips).

    On a torus or mesh the traffic of a dead link takes all shortest detours, in the shares of `shortest`. On other networks, and
    where neighbours are several chips apart, such as the ends of a line, messages take the routing of the topology.
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
    """Return three numbers for an axis while all its hops send: the lowest rate of a hop, the longest latency, an extra latency.

    The rate is in bytes/s, the latencies in s. The extra latency is that of the longest hop without a link: a message meets such
    a hop once on its way along a ring. `ways`: the directions in which any hop sends. A link is shared equally by all hops that
    use it: a hop gets bandwidth / load of its tightest link, times `efficiency` if it shares that link. `beside`: axes whose hops
    send at the same time.
    """
    load, flows, late, far, direct = _crossing(net, axis, ways)
    used = load > 0
    for other in beside:
        more = _crossing(net, other, ways)
        load, flows = load + more[0], flows + more[1]
    if net.stride[axis] > 1 or off_axes(net.links) or not direct:  # hops without a link are then common
        late = max(late, far)
    left = net.links.bandwidth[used] / load[used] * np.where(flows[used] > 1, efficiency, 1.0)
    return float(left.min(initial=np.inf)), late, max(far - late, 0.0)


def _crossing(net: Grid, axis: int, ways: tuple[bool, bool]) -> tuple[Array, Array, float, float, bool]:
    """Return the loads of the hops of an axis in these directions, with their numbers and latencies.

    They are (links,) loads, (links,) numbers of hops, the longest latency of hops with a link of their own and of other hops, s,
    and whether any hop has a link of its own.
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
