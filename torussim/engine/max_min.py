"""The fluid network: flows on paths of links, each at its max-min fair rate, which changes as others start and end.

All state is in the arrays of a `Net`, so that numba compiles what works on them. Rates are settled when somebody asks for the
next end: the changes of one instant cost one solve.

A change reaches only flows that are connected with it through shared links, and of those only the ones at or above a bound
that is known beforehand: below it all rates rise as before, and the same links fill up. The bound is the slowest of the flows
that ended, and the lowest level that the links of new flows, or with a new bandwidth, can have. So flows of one size that
start together need one solve: the fastest end first, and that changes no other rate.

Progressive filling goes link by link from the lowest level. A link's level is the rate at which it would be full if its flows
that are not frozen yet rose together. It never falls while others freeze, so a heap holds the links by the level that they
had when last looked at. Residual capacities and weights are sums of two floats, exact to twice the digits.

The list of a link keeps flows that have ended until it is read or full; a slot is free again when no list has it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from torussim.engine.heap import arrange, moved, push, remove, sort
from torussim.engine.jit import compiled
from torussim.topology.routes import Routes

Array = np.ndarray[Any, Any]
TIE = 1e-13  # levels that differ by less are the same: they differ by rounding
TOGETHER = 1e-12  # of the time since the earliest began: flows that end so close to one another end at once
SURE = 1 - 1e-9  # times a bound: rates below that are below it, however both were rounded
NEW, ENDED, FOUND = 0.0, -1.0, -2.0  # instead of a rate: not given yet, no more, or to be given by the solve under way
BULK = 64  # flows: to order a large part of the ends anew is faster than to move them one by one

FLOW = np.dtype([("path", "i4"), ("run", "i4"),  # run: a mark of the caller's
                 ("stale", "i4"),  # lists that still have the flow, once it has ended
                 ("left", "f8"), ("since", "f8"),  # bytes that were left at a time
                 ("began", "f8"), ("old", "f8")], align=True)  # old: the rate before the solve under way
LINK = np.dtype([("bandwidth", "f8"), ("weight", "f8"), ("weight_low", "f8"),  # bytes/s; the sum of its flows' shares
                 ("flows", "i4"), ("live", "i4"),  # flows on it, and how many these stand for
                 ("first", "i8"), ("used", "i4"), ("capacity", "i4"),  # its list on[first:first + used]
                 ("listed", "i4"), ("got", "i4"), ("lost", "i4"),  # whether it has changed, got a flow, lost one or bandwidth
                 ("reached", "i4"), ("rising", "i4"),  # in a solve: whether it is part of it, and flows that are not frozen,
                 ("rest", "f8"), ("rest_low", "f8"), ("left", "f8"), ("left_low", "f8")],  # their weight, bytes/s for them
                align=True)
ONE = np.dtype([("now", "f8"), ("efficiency", "f8"), ("bound", "f8"),  # rates below the bound do not change
                ("fastest", "f8"),  # no rate is above it
                ("ends", "i8"), ("free", "i8"), ("new", "i8"), ("changed", "i8"), ("reached", "i8"),  # used of these arrays
                ("high", "i8"), ("found", "i8"), ("short", "i8"),  # slots ever used; flows in a solve; a link without room, or -1
                ("live", "i8"), ("flows", "i8"), ("solves", "i8"), ("most", "i8")])  # under way, started; most at once


class Net(NamedTuple):
    """The state of a network. Path p has the entries first[p]:first[p + 1] of `link`, `share` and `number` ((0,): all 1)."""

    first: Array
    link: Array
    share: Array
    number: Array
    flows: Array  # (slots,) FLOW; a flow under way has a place among the ends, or is new
    rate: Array  # (slots,) bytes/s
    end: Array  # (slots,) seconds; the least is first in a heap
    place: Array  # (slots,)
    ends: Array  # (slots,)
    free: Array  # (slots,) a stack of slots below `high` that no flow has
    new: Array  # (slots,) flows without a rate
    ended: Array  # (slots,) that the last `advance` took away
    links: Array  # (links,) LINK
    on: Array  # slots by link
    changed: Array  # (links,) since rates were settled
    reached: Array  # (links,) by the solve under way
    level: Array  # (links,) the keys of a heap
    spot: Array  # (links,)
    queue: Array  # (links,)
    one: Array  # (1,) ONE


def made(routes: Routes, bandwidth: Array, efficiency: float = 1.0, slots: int = 1024) -> Net:
    """Return a network at time 0 with no flow; `bandwidth`: (links,) bytes/s, each above 0.

    `efficiency`: the part of its bandwidth that a link passes while several flows use it.
    """
    count, slots = len(bandwidth), max(slots, 1)
    links, one = np.zeros(count, LINK), np.zeros(1, ONE)
    links["bandwidth"], links["capacity"] = bandwidth, np.bincount(routes.link, minlength=count)
    links["first"] = np.cumsum(links["capacity"], dtype=np.int64) - links["capacity"]
    one["efficiency"], one["bound"] = efficiency, np.inf
    number = np.zeros(0, np.int32) if routes.number is None else routes.number.astype(np.int32)
    ints = [np.zeros(slots, np.int32) for _ in range(4)]
    return Net(routes.first.astype(np.int64), routes.link.astype(np.int32), np.ascontiguousarray(routes.share, dtype=np.float64),
               number, np.zeros(slots, FLOW), np.full(slots, ENDED), np.zeros(slots), np.full(slots, -1, np.int32), *ints,
               links, np.zeros(len(routes.link), np.int32), np.zeros(count, np.int32), np.zeros(count, np.int32),
               np.zeros(count), np.full(count, -1, np.int32), np.zeros(count, np.int32), one)


def grown(net: Net) -> Net:
    """Return the network with twice the room of the kind for which the last `start` found none: slots, or full links' lists."""
    if net.one["short"][0] < 0:
        more = len(net.end)
        return net._replace(**{name: np.concatenate([getattr(net, name), np.full(more, value, getattr(net, name).dtype)])
                               for name, value in (("rate", ENDED), ("end", 0.0), ("place", -1), ("ends", 0), ("free", 0),
                                                   ("new", 0), ("ended", 0))},
                            flows=np.concatenate([net.flows, np.zeros(more, FLOW)]))
    links, used, first = net.links, net.links["used"].copy(), net.links["first"].copy()
    links["capacity"] = np.where(used == links["capacity"], 2 * links["capacity"], links["capacity"])
    links["first"] = np.cumsum(links["capacity"], dtype=np.int64) - links["capacity"]
    on, within = np.zeros(links["capacity"].sum(), np.int32), np.arange(used.sum()) - np.repeat(np.cumsum(used) - used, used)
    on[within + np.repeat(links["first"], used)] = net.on[within + np.repeat(first, used)]
    return net._replace(on=on)


@compiled
def start(net: Net, path: int, size: float, run: int) -> bool:
    """Start a flow now; False, and nothing has changed, if there is no room: try again with the `grown` network.

    A flow without bytes or links ends now.
    """
    one = net.one[0]
    begin, stop = net.first[path], net.first[path + 1]
    moves = size > 0 and stop > begin
    if one["free"] == 0 and one["high"] == len(net.end) and not _swept(net):
        one["short"] = -1
        return False
    if moves:
        for e in range(begin, stop):
            link = net.links[net.link[e]]
            if link["used"] == link["capacity"]:
                if link["flows"] == link["used"]:
                    one["short"] = net.link[e]
                    return False
                _compact(net, net.link[e])
    if one["free"] > 0:
        one["free"] -= 1
        slot = np.int64(net.free[one["free"]])
    else:
        slot = one["high"]
        one["high"] += 1
    flow = net.flows[slot]
    flow["path"], flow["run"] = path, run
    flow["began"] = flow["since"] = one["now"]
    flow["old"] = 0.0
    one["flows"] += 1
    if not moves:
        flow["left"], net.rate[slot], net.end[slot] = 0.0, ENDED, one["now"]
        one["ends"] = push(net.ends, one["ends"], net.place, net.end, slot)
        return True
    flow["left"], net.rate[slot], net.end[slot] = size, NEW, np.inf
    net.new[one["new"]] = slot
    one["new"] += 1
    one["live"] += 1
    one["most"] = max(one["most"], one["live"])
    for e in range(begin, stop):
        n = net.link[e]
        link = net.links[n]
        net.on[link["first"] + link["used"]] = slot
        link["used"] += 1
        link["flows"] += 1
        link["live"] += net.number[e] if len(net.number) else 1
        link["weight"], link["weight_low"] = _sum(link["weight"], link["weight_low"], net.share[e])
        link["got"] = 1
        _list(net, n)
    return True


@compiled
def start_all(net: Net, paths: Array, sizes: Array, run: int) -> int:
    """Start flows marked run, run + 1, ... until there is no room; return how many have started."""
    for i in range(len(paths)):
        if not start(net, paths[i], sizes[i], run + i):
            return i
    return len(paths)


@compiled
def next_end(net: Net) -> float:
    """Return when the next flow ends, inf if none is under way; never before now."""
    one = net.one[0]
    if one["changed"] > 0:
        _settle(net)
    return max(one["now"], net.end[net.ends[0]]) if one["ends"] > 0 else np.inf


@compiled
def go(net: Net, time: float) -> None:
    """Go on to a time that is not after `next_end`, which has been asked since the last change."""
    net.one[0]["now"] = time


@compiled
def advance(net: Net) -> int:
    """Go on to the next end and take the flows away that end then: ended[:number], ascending; return their number.

    Their paths and marks can be read until the next start. Times are not negative.
    """
    one, ended, ends, end = net.one[0], net.ended, net.ends, net.end
    now = next_end(net)
    if now == np.inf:
        return 0
    one["now"] = now
    rounding = 4 * np.spacing(now)
    count, i, ended[0] = 1, 0, 0
    while i < count:  # the top of the heap, in order of places
        for at in range(2 * ended[i] + 1, min(2 * ended[i] + 3, one["ends"])):
            if end[ends[at]] <= now + TOGETHER * now + rounding:
                ended[count] = at
                count += 1
        i += 1
    earliest = now
    for i in range(count):
        slot = ends[ended[i]]
        began = net.flows[slot]["began"]
        if began < earliest and end[slot] <= now + TOGETHER * (now - began) + rounding:
            earliest = began
    latest, kept = now + TOGETHER * (now - earliest) + rounding, count
    for i in range(count - 1, -1, -1):  # from below, so that what fills a place need not sink far
        slot = ends[ended[i]]
        if end[slot] <= latest:
            one["ends"] = remove(ends, one["ends"], net.place, end, slot)
            kept -= 1
            ended[kept] = slot
    count -= kept
    for i in range(count):
        ended[i] = ended[i + kept]
    sort(ended, count)
    for i in range(count):
        _leave(net, ended[i])
    if one["live"] == 0:
        one["fastest"] = 0.0
    return count


@compiled
def set_bandwidth(net: Net, n: int, bandwidth: float) -> None:
    """Give a link another bandwidth, above 0, from now on; `next_end` has been asked since the last change."""
    link, one = net.links[n], net.one[0]
    link["bandwidth"] = bandwidth
    if link["flows"] > 0:
        link["got"] = link["lost"] = 1
        _list(net, n)
        one["bound"] = min(one["bound"], _fastest(net, n), _lowest(net, n))


@compiled
def _sum(total: float, low: float, part: float) -> tuple[float, float]:
    """Return the sum of two floats and a third as two floats, the second one the rounding error of the first."""
    both = total + part
    seen = both - total
    return both, low + ((total - (both - seen)) + (part - seen))


@compiled
def _list(net: Net, n: int) -> None:
    """Take note that a link has changed."""
    if net.links[n]["listed"] == 0:
        net.links[n]["listed"] = 1
        net.changed[net.one[0]["changed"]] = n
        net.one[0]["changed"] += 1


@compiled
def _lowest(net: Net, n: int) -> float:
    """Return the lowest level that a link can have with its flows."""
    link = net.links[n]
    return net.one[0]["efficiency"] * link["bandwidth"] / (link["weight"] + link["weight_low"])


@compiled
def _passes(net: Net, n: int) -> float:
    """Return what a link passes with its flows, bytes/s."""
    link = net.links[n]
    return link["bandwidth"] * net.one[0]["efficiency"] if link["live"] > 1 else link["bandwidth"]


@compiled
def _fastest(net: Net, n: int) -> float:
    """Return the highest rate on a link, 0 if none is given yet."""
    _compact(net, n)
    link, rate = net.links[n], 0.0
    for k in range(link["first"], link["first"] + link["used"]):
        rate = max(rate, net.rate[net.on[k]])
    return rate


@compiled
def _compact(net: Net, n: int) -> None:
    """Drop the flows that have ended from a link's list."""
    link, one = net.links[n], net.one[0]
    if link["used"] == link["flows"]:
        return
    kept = link["first"]
    for k in range(link["first"], link["first"] + link["used"]):
        slot = net.on[k]
        if net.rate[slot] != ENDED:
            net.on[kept] = slot
            kept += 1
        else:
            net.flows[slot]["stale"] -= 1
            if net.flows[slot]["stale"] == 0:
                net.free[one["free"]] = slot
                one["free"] += 1
    link["used"] = kept - link["first"]


@compiled
def _swept(net: Net) -> bool:
    """Drop all flows that have ended from all lists, if they have half of the slots, and it is worth looking for them."""
    stale = len(net.end) - net.one[0]["live"]
    if 2 * stale < len(net.end) or 4 * stale < len(net.links):
        return False
    for n in range(len(net.links)):
        _compact(net, n)
    return net.one[0]["free"] > 0


@compiled
def _leave(net: Net, slot: int) -> None:
    """Take a flow that has ended off its links."""
    one, flow, rate = net.one[0], net.flows[slot], net.rate[slot]
    if rate == ENDED:  # it was on none
        net.free[one["free"]] = slot
        one["free"] += 1
        return
    net.rate[slot] = ENDED
    one["live"] -= 1
    begin, stop = net.first[flow["path"]], net.first[flow["path"] + 1]
    flow["stale"] = stop - begin
    for e in range(begin, stop):
        n = net.link[e]
        link = net.links[n]
        link["flows"] -= 1
        link["live"] -= net.number[e] if len(net.number) else 1
        if link["flows"] > 0:
            link["weight"], link["weight_low"] = _sum(link["weight"], link["weight_low"], -net.share[e])
            link["lost"] = 1
            _list(net, n)
            one["bound"] = min(one["bound"], rate)
        else:
            link["weight"] = link["weight_low"] = 0.0
            link["lost"] = 0
            _compact(net, n)


@compiled
def _settle(net: Net) -> None:
    """Give every flow its rate after what has changed now."""
    one, entries = net.one[0], 0
    for i in range(one["changed"]):
        n = net.changed[i]
        link = net.links[n]
        if link["got"] == 1 and link["flows"] > 1:
            one["bound"] = min(one["bound"], _lowest(net, n))
        if link["lost"] == 1:
            entries += link["used"]
            if link["live"] == 1 and one["efficiency"] < 1:
                rate = _fastest(net, n)
                if rate > 0:
                    one["bound"] = min(one["bound"], rate)
    least = one["bound"] * SURE
    for i in range(one["new"]):
        slot = net.new[i]
        rate = _alone(net, slot)
        if rate > 0:
            _move(net, slot, rate, False)
        else:
            _find(net, slot)
    if one["fastest"] >= least and one["high"] < entries:
        one["fastest"] = 0.0
        for i in range(one["high"]):
            one["fastest"] = max(one["fastest"], net.rate[i])
    for i in range(one["changed"]):
        n = net.changed[i]
        link = net.links[n]
        if link["lost"] == 1 and one["fastest"] >= least:
            _reach(net, n)
        link["listed"] = link["got"] = link["lost"] = 0
    one["changed"], one["new"], one["bound"] = 0, 0, np.inf
    i = 0
    while i < one["reached"]:
        _look(net, net.reached[i], least)
        i += 1
    if one["found"] > 0:
        one["solves"] += 1
        _fill(net)
    for i in range(one["reached"]):
        net.links[net.reached[i]]["reached"] = 0
    one["reached"] = one["found"] = 0


@compiled
def _alone(net: Net, slot: int) -> float:
    """Return what a flow's links pass if nobody else is on any of them, 0 if somebody is."""
    path, rate = net.flows[slot]["path"], np.inf
    for e in range(net.first[path], net.first[path + 1]):
        if net.links[net.link[e]]["flows"] > 1:
            return 0.0
        rate = min(rate, _passes(net, net.link[e]) / net.share[e])
    return rate


@compiled
def _find(net: Net, slot: int) -> None:
    """Make a flow and its links part of the solve."""
    net.flows[slot]["old"] = net.rate[slot]
    net.rate[slot] = FOUND
    net.one[0]["found"] += 1
    path = net.flows[slot]["path"]
    for e in range(net.first[path], net.first[path + 1]):
        _reach(net, net.link[e])


@compiled
def _reach(net: Net, n: int) -> None:
    """Make a link part of the solve."""
    link, one = net.links[n], net.one[0]
    if link["reached"] == 0:
        link["reached"] = 1
        net.reached[one["reached"]] = n
        one["reached"] += 1
        link["left"], link["left_low"] = _passes(net, n), 0.0
        link["rest"], link["rest_low"], link["rising"] = link["weight"], link["weight_low"], link["flows"]


@compiled
def _look(net: Net, n: int, least: float) -> None:
    """Make the flows of a link part of the solve; those slower than `least` keep their part of what it passes."""
    _compact(net, n)
    link = net.links[n]
    for k in range(link["first"], link["first"] + link["used"]):
        slot = net.on[k]
        rate = net.rate[slot]
        if rate == FOUND:
            continue
        if rate == NEW or rate >= least:
            _find(net, slot)
        else:
            e = net.first[net.flows[slot]["path"]]
            while net.link[e] != n:
                e += 1
            _freeze(net, e, rate)


@compiled
def _freeze(net: Net, e: int, rate: float) -> None:
    """Take a flow with a rate from what a link passes to those that rise; `e`: the flow's entry of the link."""
    link, share = net.links[net.link[e]], net.share[e]
    link["left"], link["left_low"] = _sum(link["left"], link["left_low"], -share * rate)
    link["rest"], link["rest_low"] = _sum(link["rest"], link["rest_low"], -share)
    link["rising"] -= 1


@compiled
def _level(net: Net, n: int) -> float:
    """Return a link's level."""
    link = net.links[n]
    return (link["left"] + link["left_low"]) / (link["rest"] + link["rest_low"])


@compiled
def _fill(net: Net) -> None:
    """Give the flows found their rates."""
    one, queue, level = net.one[0], net.queue, net.level
    bulk = one["found"] > BULK and 4 * one["found"] > one["ends"]
    size = 0
    for i in range(one["reached"]):
        n = net.reached[i]
        if net.links[n]["rising"] > 0:
            level[n] = _level(net, n)
            queue[size] = n
            size += 1
    arrange(queue, size, net.spot, level)
    while size > 0:
        before, lowest = size, np.inf
        while size > 0 and level[queue[0]] <= lowest * (1 + TIE):
            n = queue[0]
            if net.links[n]["rising"] > 0:
                height = _level(net, n)
                if height != level[n]:
                    level[n] = height
                    moved(queue, size, net.spot, level, n)
                if height > lowest * (1 + TIE) or height > level[queue[0]] * (1 + TIE):
                    continue
                lowest = min(lowest, height)
            size = remove(queue, size, net.spot, level, n)
            queue[size] = n  # behind the heap: the links that are full, or of no interest any more
        for i in range(size, before):
            link = net.links[queue[i]]
            k = link["first"]
            while link["rising"] > 0:
                slot = net.on[k]
                k += 1
                if net.rate[slot] == FOUND:
                    path = net.flows[slot]["path"]
                    for e in range(net.first[path], net.first[path + 1]):
                        _freeze(net, e, lowest)
                    _move(net, slot, lowest, bulk)
    if bulk:
        arrange(net.ends, one["ends"], net.place, net.end)


@compiled
def _move(net: Net, slot: int, rate: float, bulk: bool) -> None:
    """Give a flow a new rate; it makes no difference any more to one that ends now. `bulk`: the ends are not in order."""
    flow, one, old = net.flows[slot], net.one[0], net.flows[slot]["old"]
    net.rate[slot] = rate
    one["fastest"] = max(one["fastest"], rate)
    if rate == old:
        return
    now = one["now"]
    left = flow["left"] - old * (now - flow["since"])
    flow["left"], flow["since"] = left if left > 0 else 0.0, now
    if net.end[slot] > now:
        net.end[slot] = now + flow["left"] / rate
        if bulk:
            if net.place[slot] < 0:
                net.ends[one["ends"]] = slot
                net.place[slot] = one["ends"]
                one["ends"] += 1
        elif net.place[slot] < 0:
            one["ends"] = push(net.ends, one["ends"], net.place, net.end, slot)
        else:
            moved(net.ends, one["ends"], net.place, net.end, slot)


def live(net: Net) -> Array:
    """Return the slots of the flows under way, by path, then bytes left, then mark; rates are settled."""
    next_end(net)
    slots = np.flatnonzero(net.place >= 0)
    return slots[np.lexsort((net.flows["run"][slots], left(net, slots), net.flows["path"][slots]))]


def left(net: Net, slots: Array) -> Array:
    """Return the bytes that flows have still to send, (slots,); rates are settled."""
    flows = net.flows[slots]
    remaining: Array = flows["left"] - np.maximum(net.rate[slots], 0.0) * (net.one["now"][0] - flows["since"])
    return remaining


def under_way(net: Net) -> tuple[Array, Array, Array]:
    """Return the paths, the marks and the bytes left of the flows under way, sorted by path, then bytes left; (flows,)."""
    slots = live(net)
    return net.flows["path"][slots], net.flows["run"][slots], left(net, slots)


def shift(net: Net, seconds: float, each: Array | None = None) -> None:
    """Make the clock later, and the times of all flows under way: by `each` ((flows,), in the order of `under_way`), if given."""
    slots = live(net)
    later = np.full(len(slots), seconds) if each is None else each
    net.one["now"] += seconds
    net.end[slots] += later
    for name in ("began", "since"):
        net.flows[name][slots] += later
    arrange(net.ends, net.one["ends"][0], net.place, net.end)
