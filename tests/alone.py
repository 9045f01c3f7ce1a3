"""A second model of the network: every flow has its links to itself. In plain Python, for the event core as it is (`plain`).

A flow passes at the bandwidth of its slowest link, whoever else is there. Whatever waits for it is then never later than with
max-min fair rates, and at the same time where no link has two flows at once.
"""

from types import SimpleNamespace

import numpy as np

FLOW = np.dtype([("path", "i4"), ("run", "i4"), ("began", "f8"), ("since", "f8")])
TOGETHER = 1e-12  # of the time since it began: a flow ends with another that ends before

class Net:
    """The state: what `event_core` and `shared_run` read of it, and a dictionary of the flows under way."""

    def __init__(self, routes, bandwidth, slots):
        self.routes, self.bandwidth = routes, np.array(bandwidth, dtype=float)
        self.one = np.zeros(1, [("now", "f8"), ("flows", "i8"), ("solves", "i8")])
        self.flows, self.end = np.zeros(slots, FLOW), np.full(slots, np.inf)
        self.ended = np.zeros(slots, int)
        self.left = {}  # bytes that each flow under way had left at its `since`, by slot, and its rate
        self.rate = {}
        self.row = {}  # of the paths that were rerouted

    def entries(self, path):
        row = self.row.get(int(path), path)
        return slice(self.routes.first[row], self.routes.first[row + 1])

    def fastest(self, path):
        """Return the bytes/s of a flow on a path: a link that it is on several times passes so many shares of it."""
        here = self.entries(path)
        load = {}
        for link, share in zip(self.routes.link[here].tolist(), self.routes.share[here].tolist()):
            load[link] = load.get(link, 0.0) + share
        return min((self.bandwidth[link] / share for link, share in load.items()), default=np.inf)


def made(routes, bandwidth, efficiency=1.0, slots=16):
    assert efficiency == 1.0, "what a link loses to several flows is not in the model"
    return Net(routes, bandwidth, slots)


def grown(net):
    more = len(net.flows)
    net.flows = np.concatenate([net.flows, np.zeros(more, FLOW)])
    net.end = np.concatenate([net.end, np.full(more, np.inf)])
    net.ended = np.zeros(2 * more, int)
    return net


def start(net, path, size, run):
    slot = next((i for i in range(len(net.flows)) if i not in net.left), None)
    if slot is None:
        return False
    net.one["flows"] += 1
    now = net.one["now"][0]
    net.flows["path"][slot], net.flows["run"][slot] = path, run
    net.flows["began"][slot] = net.flows["since"][slot] = now
    net.left[slot], net.rate[slot] = size, net.fastest(path)
    net.end[slot] = now + size / net.rate[slot]
    return True


def next_end(net):
    return max(net.one["now"][0], net.end.min())


def go(net, time):
    net.one["now"] = time


def advance(net):
    now = next_end(net)
    if now == np.inf:
        return 0
    net.one["now"] = now
    gone = [slot for slot in sorted(net.left) if net.end[slot] <= now + TOGETHER * (now - net.flows["began"][slot])]
    net.ended[:len(gone)] = gone
    for slot in gone:
        del net.left[slot], net.rate[slot]
        net.end[slot] = np.inf
    return len(gone)


def set_bandwidth(net, link, bandwidth):
    net.bandwidth[link] = bandwidth
    renew(net, [slot for slot in net.left if link in net.routes.link[net.entries(net.flows["path"][slot])]])


def renew(net, slots):
    """Let flows go on from now as fast as their links are now."""
    now = net.one["now"][0]
    for slot, remaining in zip(slots, left(net, slots).tolist(), strict=True):
        net.left[slot], net.rate[slot] = max(0.0, remaining), net.fastest(net.flows["path"][slot])
        net.flows["since"][slot], net.end[slot] = now, now + net.left[slot] / net.rate[slot]


def reroute(net, paths, rows):
    net.row |= dict(zip(paths.tolist(), rows.tolist(), strict=True))
    renew(net, [slot for slot in net.left if net.flows["path"][slot] in paths])
    return net


def left(net, slots):
    now = net.one["now"][0]
    return np.array([net.left[slot] - net.rate[slot] * (now - net.flows["since"][slot]) for slot in slots])


def live(net):
    slots = sorted(net.left)
    order = dict(zip(slots, left(net, slots).tolist(), strict=True))
    return np.array(sorted(slots, key=lambda slot: (net.flows["path"][slot], order[slot], net.flows["run"][slot])), int)


def shift(net, seconds, each=None):
    slots = live(net)
    later = np.full(len(slots), seconds) if each is None else each
    net.one["now"] += seconds
    net.end[slots] += later
    for name in ("began", "since"):
        net.flows[name][slots] += later


NETWORK = SimpleNamespace(made=made, grown=grown, start=start, next_end=next_end, go=go, advance=advance,
                          set_bandwidth=set_bandwidth, reroute=reroute, left=left, live=live, shift=shift)
