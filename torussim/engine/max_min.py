"""The fluid network: flows on paths of links. Each flow has its max-min fair rate, which changes when flows start and end.

All state is in the arrays of a `Net`, so that numba can compile the functions. Rates are settled when the next end is asked
for: all changes of one instant cost one solve.

The list of a link keeps ended flows until the list is read or full. A slot is free again when no list holds its flow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from torussim.engine.heap import arrange, push, remove, sort
from torussim.engine.jit import compiled, inner
from torussim.engine.net import ENDED, Net
from torussim.engine.net import grown as grown
from torussim.engine.net import made as made
from torussim.engine.settle import add, change, compact, passes, recount, rise, settle, unhold

Array = np.ndarray[Any, Any]
TOGETHER = 1e-12  # relative to the time since the earliest of them began: ends that are closer than this are one instant


@compiled
def start(net: Net, path: int, size: float, run: int) -> bool:
    """Start a flow now; return False and change nothing if there is no room. The caller then retries with the `grown` network.

    A flow without bytes or links ends now.
    """
    one = net.one[0]
    row = net.row[path] if len(net.row) > 0 else path
    begin, stop = net.first[row], net.first[row + 1]
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
                compact(net, net.link[e])
    if one["free"] > 0:
        one["free"] -= 1
        slot = int(net.free[one["free"]])
    else:
        slot = one["high"]
        one["high"] += 1
    flow = net.flows[slot]
    flow["path"], flow["row"], flow["run"] = path, row, run
    flow["began"] = flow["since"] = one["now"]
    flow["old"] = 0.0
    one["flows"] += 1
    if not moves:
        flow["left"], net.rate[slot], net.end[slot] = 0.0, ENDED, one["now"]
        one["ends"] = push(net.ends, one["ends"], net.place, net.end, slot)
        return True
    flow["left"], net.rate[slot], net.end[slot], flow["held"] = size, 0.0, np.inf, -1
    one["live"] += 1
    one["most"] = max(one["most"], one["live"])
    for e in range(begin, stop):
        n = net.link[e]
        link = net.links[n]
        net.on[link["first"] + link["used"]] = slot
        link["used"] += 1
        link["flows"] += 1
        link["weight"] += net.share[e]
        recount(net, n, net.number[e] if len(net.number) else 1)
        change(net, n)
    rise(net, slot)
    return True


@compiled
def start_all(net: Net, paths: Array, sizes: Array, run: int) -> int:
    """Start flows with the marks run, run + 1, ... until there is no room; return the number of flows started."""
    for i in range(len(paths)):
        if not start(net, paths[i], sizes[i], run + i):
            return i
    return len(paths)


@compiled
def next_end(net: Net) -> float:
    """Return the time of the next end, inf if no flow is under way; never before the present time."""
    one = net.one[0]
    if one["changed"] > 0 or one["new"] > 0:
        settle(net)
    return max(one["now"], net.end[net.ends[0]]) if one["ends"] > 0 else np.inf


@compiled
def advance(net: Net) -> int:
    """Go on to the next end and remove the flows that end then; return their number. Their slots are ended[:count], ascending.

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
    for i in range(count - 1, -1, -1):  # from the bottom of the heap, so that the number that fills a place sinks less far
        slot = ends[ended[i]]
        if end[slot] <= latest:
            one["ends"] = remove(ends, one["ends"], net.place, end, slot)
            kept -= 1
            ended[kept] = slot
    count -= kept
    for i in range(count):
        ended[i] = ended[i + kept]
    sort(ended, count)
    _leave(net, count)
    return count


@compiled
def go(net: Net, time: float) -> None:
    """Go on to a time that is not after `next_end`. `next_end` must have been called since the last change."""
    net.one[0]["now"] = time


@compiled
def set_bandwidth(net: Net, n: int, bandwidth: float) -> None:
    """Set the bandwidth of a link, above 0, from now on. `next_end` must have been called since the last change."""
    link, here = net.links[n], net.rise[n]
    before = passes(net, n)
    link["bandwidth"] = bandwidth
    here["left"], here["left_low"] = add(here["left"], here["left_low"], -before)
    here["left"], here["left_low"] = add(here["left"], here["left_low"], passes(net, n))
    for k in range(link["first"], link["first"] + link["used"]):
        if net.rate[net.on[k]] > 0:
            rise(net, net.on[k])


def reroute(net: Net, paths: Array, rows: Array) -> Net:
    """Return the network with new rows of entries for some paths from now on. `next_end` must have been called.

    A flow under way on such a path moves to the new row now, with its remaining bytes.
    """
    slots = live(net)
    slots = slots[np.isin(net.flows["path"][slots], paths) & (net.rate[slots] > 0)]
    flows, remaining, count = net.flows[slots], left(net, slots), len(slots)
    row = net.row if len(net.row) else np.arange(len(net.first) - 1, dtype=np.int32)
    row[paths] = rows
    net = net._replace(row=row)
    net.ended[:count] = slots
    _withdraw(net, count)
    done = 0
    while (done := _restart(net, flows, remaining, done)) < count:
        net = grown(net)
    net.one["flows"] -= count
    return net


@compiled
def _withdraw(net: Net, count: int) -> None:
    """Take the flows ended[:count], which are under way, off their links and out of the heap of ends."""
    one = net.one[0]
    for i in range(count):
        one["ends"] = remove(net.ends, one["ends"], net.place, net.end, net.ended[i])
    _leave(net, count)


@compiled
def _restart(net: Net, flows: Array, sizes: Array, done: int) -> int:
    """Restart flows, from number `done` on, until there is no room; return the number of flows restarted."""
    for i in range(done, len(flows)):
        if not start(net, flows[i]["path"], sizes[i], flows[i]["run"]):
            return i
        if sizes[i] > 0:
            net.flows[net.new[net.one[0]["new"] - 1]]["began"] = flows[i]["began"]
    return len(flows)


def under_way(net: Net) -> tuple[Array, Array, Array]:
    """Return paths, marks and remaining bytes of the flows under way, (flows,) each, sorted by path, then remaining bytes."""
    slots = live(net)
    return net.flows["path"][slots], net.flows["run"][slots], left(net, slots)


def shift(net: Net, seconds: float, each: Array | None = None) -> None:
    """Move the clock later, and the times of all flows under way: by `each`, (flows,) in the order of `under_way`, if given."""
    slots = live(net)
    later = np.full(len(slots), seconds) if each is None else each
    net.one["now"] += seconds
    net.end[slots] += later
    for name in ("began", "since"):
        net.flows[name][slots] += later
    arrange(net.ends, net.one["ends"][0], net.place, net.end)


def live(net: Net) -> Array:
    """Return the slots of the flows under way, by path, then remaining bytes, then mark; rates are settled."""
    next_end(net)
    slots = np.flatnonzero(net.place >= 0)
    return slots[np.lexsort((net.flows["run"][slots], left(net, slots), net.flows["path"][slots]))]


def left(net: Net, slots: Array) -> Array:
    """Return the remaining bytes of flows, (slots,); rates are settled."""
    flows = net.flows[slots]
    remaining: Array = flows["left"] - np.maximum(net.rate[slots], 0.0) * (net.one["now"][0] - flows["since"])
    return remaining


@inner
def _leave(net: Net, count: int) -> None:
    """Take the ended flows off their links."""
    one = net.one[0]
    for i in range(count):
        slot = net.ended[i]
        flow, rate = net.flows[slot], net.rate[slot]
        if rate == ENDED:  # the flow was on no link
            net.free[one["free"]] = slot
            one["free"] += 1
            continue
        one["live"] -= 1
        begin, stop = net.first[flow["row"]], net.first[flow["row"] + 1]
        net.rate[slot], net.place[slot] = ENDED, begin - stop - 1
        unhold(net, slot)
        for e in range(begin, stop):
            n = net.link[e]
            link, here = net.links[n], net.rise[n]
            link["flows"] -= 1
            link["weight"] -= net.share[e]
            here["left"], here["left_low"] = add(here["left"], here["left_low"], net.share[e] * rate)
            recount(net, n, -net.number[e] if len(net.number) else -1)
            change(net, n)
            if link["flows"] == 0:
                link["weight"], here["left"], here["left_low"] = 0.0, link["bandwidth"], 0.0
                compact(net, n)


@inner
def _swept(net: Net) -> bool:
    """Drop all ended flows from all lists if that is worth its cost; return whether a slot is free.

    It is if they fill half of the slots, and links are few in comparison.
    """
    stale = len(net.end) - net.one[0]["live"]
    if 2 * stale < len(net.end) or 4 * stale < len(net.links):
        return False
    for n in range(len(net.links)):
        compact(net, n)
    return bool(net.one[0]["free"] > 0)
