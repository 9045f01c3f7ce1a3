"""The state of a fluid network: arrays in few fields, because compiled functions pass all fields on at each call."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from torussim.topology.routes import Routes

Array = np.ndarray[Any, Any]
ENDED, RISES = -1.0, -2.0  # in place of a rate: the flow has ended, or its rate is unknown until the next solve

FLOW = np.dtype([("path", "i4"), ("row", "i4"), ("run", "i4"),  # row: of the path at the flow's begin; run: the caller's mark
                 ("left", "f8"), ("since", "f8"),  # bytes that remained at a time
                 ("began", "f8"), ("old", "f8"),  # old: the rate before the solve, 0 for a new flow
                 ("held", "i4"), ("before", "i4"), ("after", "i4")], align=True)  # bottleneck, and neighbours in its list, or -1
LINK = np.dtype([("bandwidth", "f8"), ("weight", "f8"),  # bytes/s; the sum of the shares of its flows
                 ("flows", "i4"), ("live", "i4"),  # flows on the link, and the number of flows that they stand for
                 ("first", "i8"), ("used", "i4"), ("capacity", "i4")], align=True)  # its list on[first:first + used]
RISE = np.dtype([("left", "f8"), ("left_low", "f8"),  # residual capacity beside the flows that have a rate, bytes/s
                 ("weight", "f8"), ("weight_low", "f8"),  # the sum of the shares of the flows that rise
                 ("solve", "i8"), ("flows", "i4"),  # the last solve in which the link was a bottleneck; flows that rise
                 ("holds", "i4"),  # the first flow in the list of the flows whose bottleneck it is, or -1
                 ("changed", "i1"), ("reached", "i1")], align=True)  # whether it is in the array of that name
ONE = np.dtype([("now", "f8"), ("efficiency", "f8"),
                ("ends", "i8"), ("free", "i8"), ("new", "i8"), ("changed", "i8"), ("reached", "i8"),  # used lengths of arrays
                ("high", "i8"), ("rising", "i8"), ("short", "i8"),  # slots ever used; flows that rise; a link without room, or -1
                ("live", "i8"), ("flows", "i8"), ("solves", "i8"), ("most", "i8")])  # flows under way, started; most at once


class Net(NamedTuple):
    """A network and its flows. Row r has the entries first[r]:first[r + 1] of `link`, `share` and `number` ((0,): all 1).

    A flow that starts on path p takes row[p]. If `row` is (0,), no path has been rerouted, and the flow takes row p.
    """

    row: Array  # (rows,)
    first: Array
    link: Array
    share: Array
    number: Array
    flows: Array  # (slots,) FLOW
    rate: Array  # (slots,) bytes/s
    end: Array  # (slots,) seconds
    place: Array  # (slots,) the index of a flow in `ends`; after its end, -1 - the number of lists that still hold it
    ends: Array  # (slots,) a heap by `end`
    free: Array  # (slots,) a stack of slots that were used before
    new: Array  # (slots,) flows whose rate the solve has to find, or has found
    ended: Array  # (slots,) flows that ended last
    links: Array  # (links,) LINK
    rise: Array  # (links,) RISE
    on: Array  # the flows on each link, and some that have ended
    changed: Array  # (links,) links with a changed load that are the bottleneck of flows with a rate
    reached: Array  # (links,) links on which flows rise since their level was computed
    level: Array  # (links,) bytes/s
    spot: Array  # (links,) the index of a link in `queue`, or -1
    queue: Array  # (links,) a heap by `level`
    one: Array  # (1,) ONE


def made(routes: Routes, bandwidth: Array, efficiency: float = 1.0, slots: int | None = None) -> Net:
    """Return a network at time 0 without flows; `bandwidth`: (links,) bytes/s, each above 0.

    `efficiency`: the part of its bandwidth that a link passes while several flows use it.
    """
    slots = slots or max(len(routes), 1024)
    links, rise, one = np.zeros(len(bandwidth), LINK), np.zeros(len(bandwidth), RISE), np.zeros(1, ONE)
    links["bandwidth"], links["capacity"] = bandwidth, routes.users(len(links))
    links["first"] = np.cumsum(links["capacity"], dtype=np.int64) - links["capacity"]
    rise["left"], rise["holds"], one["efficiency"] = bandwidth, -1, efficiency

    def numbers(size: int) -> Array:
        return np.zeros(size, np.int32)
    return Net(numbers(0), np.ascontiguousarray(routes.first, np.int64), np.ascontiguousarray(routes.link, np.int32),
               np.ascontiguousarray(routes.share, np.float64),
               numbers(0) if routes.number is None else np.ascontiguousarray(routes.number, np.int32),
               np.zeros(slots, FLOW), np.full(slots, ENDED), np.zeros(slots), numbers(slots) - 1,
               numbers(slots), numbers(slots), numbers(slots), numbers(slots),
               links, rise, numbers(len(routes.link)), numbers(len(links)), numbers(len(links)),
               np.zeros(len(links)), numbers(len(links)) - 1, numbers(len(links)), one)


def grown(net: Net) -> Net:
    """Return the network with twice the room of the kind that the last `start` lacked: slots, or the lists that were full."""
    if net.one["short"][0] < 0:
        def doubled(name: str, value: float) -> Array:
            array: Array = getattr(net, name)
            return np.concatenate([array, np.full(len(array), value, array.dtype)])
        return net._replace(flows=np.concatenate([net.flows, np.zeros_like(net.flows)]), rate=doubled("rate", ENDED),
                            place=doubled("place", -1),
                            **{name: doubled(name, 0) for name in ("end", "ends", "free", "new", "ended")})
    links, used, before = net.links, net.links["used"], net.links["first"].copy()
    links["capacity"] *= np.where(used == links["capacity"], 2, 1)
    links["first"] = np.cumsum(links["capacity"], dtype=np.int64) - links["capacity"]
    on, within = np.zeros(links["capacity"].sum(), np.int32), np.arange(used.sum()) - np.repeat(np.cumsum(used) - used, used)
    on[within + np.repeat(links["first"], used)] = net.on[within + np.repeat(before, used)]
    return net._replace(on=on)
