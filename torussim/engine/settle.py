"""Max-min fair rates of the flows of a network, after all changes of one instant.

A *bottleneck* of a flow is a full link on which no flow is faster. Rates are max-min fair if each flow has a bottleneck. A link
keeps a list of the flows whose bottleneck it is: it *holds* them. A change frees the flows held by the links whose load has
changed; all other flows keep their rates for now.

Progressive filling goes link by link from the lowest level. The level of a link is the rate at which it would be full if all its
rising flows rose together. A level does not fall when flows are frozen at a lower level. So a heap can hold the links by the
level computed last. Before the rising flows of a link are frozen at its level, faster flows on the link are freed, and the level
is computed anew. When a flow is frozen at a new rate, the flows held by its other links are freed. The rates of the freed flows
are not below the level reached, because the levels of these links were above it. So no frozen rate has to be undone, and the
rates are those of a solve of all flows, except for rounding errors.

Residual capacities and weights are sums of two floats, exact to twice the digits.
"""

from __future__ import annotations

import numpy as np

from torussim.engine.heap import arrange, moved, push, remove
from torussim.engine.jit import inner
from torussim.engine.net import ENDED, RISES, Net

TIE = 1e-13  # levels are the same if they differ by less: they differ by rounding errors
SAME = 1e-15  # a rate is unchanged if it differs from the rate before by less
SURE = 1 - 1e-9  # times a lower bound of a level: a lower bound despite the rounding errors of both
BULK = 64  # flows: from this number on it is faster to order all ends anew than to move them one by one


@inner
def settle(net: Net) -> None:
    """Compute the rates of all flows after the changes of this instant."""
    one = net.one[0]
    _free(net)
    for i in range(one["new"]):
        slot = net.new[i]
        if net.flows[slot]["old"] == 0:
            _alone(net, slot)
    if one["rising"] > 0:
        one["solves"] += 1
        _fill(net)
    for i in range(one["reached"]):
        net.rise[net.reached[i]]["reached"] = 0
    one["reached"] = 0
    _move(net)


@inner
def _fill(net: Net) -> None:
    """Compute the rates of the rising flows."""
    one, queue, level, spot = net.one[0], net.queue, net.level, net.spot
    size, rate = _order(net, 0), 0.0
    while one["rising"] > 0:
        n = queue[0]
        here, link = net.rise[n], net.links[n]
        if here["flows"] == 0:
            size = remove(queue, size, spot, level, n)
            continue
        height = _level(net, n)
        if height != level[n]:
            level[n] = height
            moved(queue, size, spot, level, n)
            if queue[0] != n:
                continue
        if 2 * link["flows"] < link["used"]:
            compact(net, n)
        if here["flows"] < link["flows"] and _overtaken(net, n, height):
            size = _order(net, size)
            continue
        if abs(height - rate) > TIE * height:
            rate = height
        here["solve"] = one["solves"]
        k = link["first"]
        while here["flows"] > 0:
            if net.rate[net.on[k]] == RISES:
                _freeze(net, net.on[k], n, rate)
            k += 1
        _free(net)
        size = _order(net, size)
    for i in range(size):
        spot[queue[i]] = -1


@inner
def _order(net: Net, size: int) -> int:
    """Add the links on which more flows rise now to the heap of levels, or move them there; return its size."""
    one = net.one[0]
    for i in range(one["reached"]):
        n = net.reached[i]
        net.rise[n]["reached"] = 0
        if net.rise[n]["flows"] > 0:
            net.level[n] = _level(net, n)
            if net.spot[n] < 0:
                size = push(net.queue, size, net.spot, net.level, n)
            else:
                moved(net.queue, size, net.spot, net.level, n)
    one["reached"] = 0
    return size


@inner
def _overtaken(net: Net, n: int, height: float) -> bool:
    """Free the flows on a link that are faster than its rising flows can become; return whether there are any."""
    link, solve, found = net.links[n], net.one[0]["solves"], False
    most = max(height, SURE * passes(net, n) / link["weight"]) * (1 + TIE)
    for k in range(link["first"], link["first"] + link["used"]):
        slot = net.on[k]
        if net.rate[slot] > most and net.rise[net.flows[slot]["held"]]["solve"] != solve:
            rise(net, slot)
            found = True
    return found


@inner
def _free(net: Net) -> None:
    """Free the flows held by links whose load has changed."""
    one = net.one[0]
    for i in range(one["changed"]):
        here = net.rise[net.changed[i]]
        here["changed"] = 0
        while here["holds"] >= 0:
            rise(net, here["holds"])
    one["changed"] = 0


@inner
def rise(net: Net, slot: int) -> None:
    """Let a flow rise in the next solve, or in the present one."""
    flow, one, rate = net.flows[slot], net.one[0], net.rate[slot]
    unhold(net, slot)
    flow["old"] = rate
    net.rate[slot] = RISES
    net.new[one["new"]] = slot
    one["new"] += 1
    one["rising"] += 1
    for e in range(net.first[flow["row"]], net.first[flow["row"] + 1]):
        here, share = net.rise[net.link[e]], net.share[e]
        here["left"], here["left_low"] = add(here["left"], here["left_low"], share * rate)
        here["weight"], here["weight_low"] = add(here["weight"], here["weight_low"], share)
        here["flows"] += 1
        if here["reached"] == 0:
            here["reached"] = 1
            net.reached[one["reached"]] = net.link[e]
            one["reached"] += 1


@inner
def _freeze(net: Net, slot: int, n: int, rate: float) -> None:
    """Set the rate and the bottleneck of a rising flow."""
    flow, one, old = net.flows[slot], net.one[0], net.flows[slot]["old"]
    if abs(rate - old) <= SAME * rate:
        rate = old
    net.rate[slot] = rate
    one["rising"] -= 1
    for e in range(net.first[flow["row"]], net.first[flow["row"] + 1]):
        here, share = net.rise[net.link[e]], net.share[e]
        here["left"], here["left_low"] = add(here["left"], here["left_low"], -share * rate)
        here["flows"] -= 1
        if here["flows"] > 0:
            here["weight"], here["weight_low"] = add(here["weight"], here["weight_low"], -share)
        else:
            here["weight"] = here["weight_low"] = 0.0
        if rate != old and here["solve"] != one["solves"]:
            change(net, net.link[e])
    here = net.rise[n]
    flow["held"], flow["before"], flow["after"] = n, -1, here["holds"]
    if here["holds"] >= 0:
        net.flows[here["holds"]]["before"] = slot
    here["holds"] = slot


@inner
def unhold(net: Net, slot: int) -> None:
    """Remove a flow from the list of its bottleneck, if it has one."""
    flow = net.flows[slot]
    if flow["held"] < 0:
        return
    if flow["before"] < 0:
        net.rise[flow["held"]]["holds"] = flow["after"]
    else:
        net.flows[flow["before"]]["after"] = flow["after"]
    if flow["after"] >= 0:
        net.flows[flow["after"]]["before"] = flow["before"]
    flow["held"] = -1


@inner
def change(net: Net, n: int) -> None:
    """Note that the load of a link has changed; without effect if it holds no flow."""
    here = net.rise[n]
    if here["changed"] == 0 and here["holds"] >= 0:
        here["changed"] = 1
        net.changed[net.one[0]["changed"]] = n
        net.one[0]["changed"] += 1


@inner
def _alone(net: Net, slot: int) -> None:
    """Set the rate of a new flow to the bandwidth that its links pass, if no other flow uses any of them."""
    row, rate, at = net.flows[slot]["row"], np.inf, 0
    for e in range(net.first[row], net.first[row + 1]):
        n = net.link[e]
        if net.links[n]["flows"] > 1:
            return
        if passes(net, n) / net.share[e] < rate:
            rate, at = passes(net, n) / net.share[e], n
    _freeze(net, slot, at, rate)


@inner
def _move(net: Net) -> None:
    """Move the flows with a new rate to their places among the ends; a flow that ends now stays."""
    one, ends, end, now, moving = net.one[0], net.ends, net.end, net.one[0]["now"], 0
    for i in range(one["new"]):
        slot = net.new[i]
        if net.rate[slot] != net.flows[slot]["old"]:
            net.new[moving] = slot
            moving += 1
    one["new"] = 0
    bulk = moving > BULK and 4 * moving > one["ends"]
    for i in range(moving):
        slot = net.new[i]
        flow = net.flows[slot]
        left = flow["left"] - flow["old"] * (now - flow["since"])
        flow["left"], flow["since"] = left if left > 0 else 0.0, now
        if end[slot] > now:
            end[slot] = now + flow["left"] / net.rate[slot]
            if net.place[slot] >= 0:
                if not bulk:
                    moved(ends, one["ends"], net.place, end, slot)
            elif bulk:
                ends[one["ends"]] = slot
                net.place[slot] = one["ends"]
                one["ends"] += 1
            else:
                one["ends"] = push(ends, one["ends"], net.place, end, slot)
    if bulk:
        arrange(ends, one["ends"], net.place, end)


@inner
def _level(net: Net, n: int) -> float:
    """Return the level of a link."""
    here = net.rise[n]
    return float((here["left"] + here["left_low"]) / (here["weight"] + here["weight_low"]))


@inner
def passes(net: Net, n: int) -> float:
    """Return the bandwidth that a link passes with its present flows, bytes/s."""
    link = net.links[n]
    return float(link["bandwidth"] * net.one[0]["efficiency"] if link["live"] > 1 else link["bandwidth"])


@inner
def recount(net: Net, n: int, more: int) -> None:
    """Change the number of flows that the flows of a link stand for; the bandwidth that the link passes can change with it."""
    here, before = net.rise[n], passes(net, n)
    net.links[n]["live"] += more
    if passes(net, n) != before:
        here["left"], here["left_low"] = add(here["left"], here["left_low"], passes(net, n))
        here["left"], here["left_low"] = add(here["left"], here["left_low"], -before)


@inner
def compact(net: Net, n: int) -> None:
    """Remove the ended flows from the list of a link."""
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
