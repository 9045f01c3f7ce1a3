"""Max-min fair rates of the flows of a network, after what has changed at one instant.

A change reaches only flows that are connected with it through shared links, and of those only the ones at or above a bound
that is known beforehand: below it all rates rise as before, and the same links fill up. The bound is the slowest of the flows
that ended, and the lowest level that the links of new flows, or with a new bandwidth, can have. So flows of one size that
start together need one solve: the fastest end first, and that changes no other rate.

Progressive filling goes link by link from the lowest level. A link's level is the rate at which it would be full if its flows
that are not frozen yet rose together. It never falls while others freeze, so a heap holds the links by the level that they
had when last looked at. Residual capacities and weights are sums of two floats, exact to twice the digits.
"""

from __future__ import annotations

import numpy as np

from torussim.engine.heap import arrange, moved, push, remove
from torussim.engine.jit import inner
from torussim.engine.net import ENDED, FOUND, NEW, Net

TIE = 1e-13  # levels that differ by less are the same: they differ by rounding
SURE = 1 - 1e-9  # times a bound: rates below that are below it, however both were rounded
SCAN = 16  # entries of rates that are read in order, while one is that stands anywhere
BULK = 64  # flows: to order a large part of the ends anew is faster than to move them one by one


@inner
def settle(net: Net) -> None:
    """Give every flow its rate after what has changed now."""
    one, entries = net.one[0], 0
    for i in range(one["changed"]):
        n = net.changed[i]
        link = net.links[n]
        if link["got"] == 1 and link["flows"] > 1:
            one["bound"] = min(one["bound"], lowest(net, n))
        if link["lost"] == 1:
            entries += link["used"]
            if link["live"] == 1 and one["efficiency"] < 1:
                rate = fastest(net, n)
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
    fast = entries > 0 and (SCAN * entries < one["high"] or _any(net, least))
    for i in range(one["changed"]):
        n = net.changed[i]
        link = net.links[n]
        if link["lost"] == 1 and fast:
            for k in range(link["first"], link["first"] + link["used"]):
                if net.rate[net.on[k]] >= least:
                    _find(net, net.on[k])
        link["changed"] = link["got"] = link["lost"] = 0
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


@inner
def _any(net: Net, least: float) -> bool:
    """Return whether any flow is as fast as that."""
    i, high = 0, net.one[0]["high"]
    while i < high and net.rate[i] < least:
        i += 1
    return bool(i < high)


@inner
def _alone(net: Net, slot: int) -> float:
    """Return what a flow's links pass if nobody else is on any of them, 0 if somebody is."""
    path, rate = net.flows[slot]["path"], np.inf
    for e in range(net.first[path], net.first[path + 1]):
        if net.links[net.link[e]]["flows"] > 1:
            return 0.0
        rate = min(rate, _passes(net, net.link[e]) / net.share[e])
    return rate


@inner
def _find(net: Net, slot: int) -> None:
    """Make a flow and its links part of the solve."""
    net.flows[slot]["old"] = net.rate[slot]
    net.rate[slot] = FOUND
    net.one[0]["found"] += 1
    path = net.flows[slot]["path"]
    for e in range(net.first[path], net.first[path + 1]):
        _reach(net, net.link[e])


@inner
def _reach(net: Net, n: int) -> None:
    """Make a link part of the solve."""
    link, one = net.links[n], net.one[0]
    if link["reached"] == 0:
        link["reached"] = 1
        net.reached[one["reached"]] = n
        one["reached"] += 1
        rise = net.rise[n]
        rise["left"], rise["left_low"] = _passes(net, n), 0.0
        rise["weight"], rise["weight_low"], rise["flows"] = link["weight"], link["weight_low"], link["flows"]


@inner
def _look(net: Net, n: int, least: float) -> None:
    """Make the flows of a link part of the solve; those slower than `least` keep their part of what it passes."""
    link = net.links[n]
    if 2 * link["flows"] < link["used"]:
        compact(net, n)
    for k in range(link["first"], link["first"] + link["used"]):
        slot = net.on[k]
        rate = net.rate[slot]
        if rate == NEW or rate >= least:
            _find(net, slot)
        elif rate > 0:
            e = net.first[net.flows[slot]["path"]]
            while net.link[e] != n:
                e += 1
            _freeze(net, e, rate)


@inner
def _fill(net: Net) -> None:
    """Give the flows found their rates."""
    one, queue, level = net.one[0], net.queue, net.level
    bulk = one["found"] > BULK and 4 * one["found"] > one["ends"]
    size = 0
    for i in range(one["reached"]):
        n = net.reached[i]
        if net.rise[n]["flows"] > 0:
            level[n] = _level(net, n)
            queue[size] = n
            size += 1
    arrange(queue, size, net.spot, level)
    while size > 0:
        before, lowest = size, np.inf
        while size > 0 and level[queue[0]] <= lowest * (1 + TIE):
            n = queue[0]
            if net.rise[n]["flows"] > 0:
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
            n = queue[i]
            k = net.links[n]["first"]
            while net.rise[n]["flows"] > 0:
                slot = net.on[k]
                k += 1
                if net.rate[slot] == FOUND:
                    path = net.flows[slot]["path"]
                    for e in range(net.first[path], net.first[path + 1]):
                        _freeze(net, e, lowest)
                    _move(net, slot, lowest, bulk)
    if bulk:
        arrange(net.ends, one["ends"], net.place, net.end)


@inner
def _move(net: Net, slot: int, rate: float, bulk: bool) -> None:
    """Give a flow a new rate; it makes no difference any more to one that ends now. `bulk`: the ends are not in order."""
    flow, one, old = net.flows[slot], net.one[0], net.flows[slot]["old"]
    net.rate[slot] = rate
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


@inner
def _freeze(net: Net, e: int, rate: float) -> None:
    """Take a flow with a rate from what a link passes to those that rise; `e`: the flow's entry of the link."""
    rise, share = net.rise[net.link[e]], net.share[e]
    rise["left"], rise["left_low"] = add(rise["left"], rise["left_low"], -share * rate)
    rise["weight"], rise["weight_low"] = add(rise["weight"], rise["weight_low"], -share)
    rise["flows"] -= 1


@inner
def _level(net: Net, n: int) -> float:
    """Return a link's level."""
    rise = net.rise[n]
    return float((rise["left"] + rise["left_low"]) / (rise["weight"] + rise["weight_low"]))


@inner
def _passes(net: Net, n: int) -> float:
    """Return what a link passes with its flows, bytes/s."""
    link = net.links[n]
    return float(link["bandwidth"] * net.one[0]["efficiency"] if link["live"] > 1 else link["bandwidth"])


@inner
def lowest(net: Net, n: int) -> float:
    """Return the lowest level that a link can have with its flows."""
    link = net.links[n]
    return float(net.one[0]["efficiency"] * link["bandwidth"] / (link["weight"] + link["weight_low"]))


@inner
def fastest(net: Net, n: int) -> float:
    """Return the highest rate on a link, 0 if none is given yet."""
    link, rate = net.links[n], 0.0
    for k in range(link["first"], link["first"] + link["used"]):
        rate = max(rate, net.rate[net.on[k]])
    return rate


@inner
def compact(net: Net, n: int) -> None:
    """Drop the flows that have ended from a link's list."""
    link, one = net.links[n], net.one[0]
    if link["used"] == link["flows"]:
        return
    kept = link["first"]
    for k in range(link["first"], link["first"] + link["used"]):
        slot = net.on[k]
        if link["flows"] > 0 and net.rate[slot] != ENDED:
            net.on[kept] = slot
            kept += 1
        else:
            net.place[slot] += 1
            if net.place[slot] == -1:
                net.free[one["free"]] = slot
                one["free"] += 1
    link["used"] = kept - link["first"]


@inner
def add(total: float, low: float, part: float) -> tuple[float, float]:
    """Return the sum of two floats and a third as two floats, the second one the rounding error of the first."""
    both = total + part
    seen = both - total
    return both, low + ((total - (both - seen)) + (part - seen))
