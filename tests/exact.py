"""Max-min fair rates and flows over time in fractions, straight from the definition: the slow twin of the fluid network.

A flow is a mapping of links to shares; a link has a capacity. Nothing here is shared with the engine.
"""

from fractions import Fraction


def fair_rates(flows, capacity, efficiency=1, numbers=None):
    """Return the rates of flows: raise all together; where a link is full, stop the flows that are on it.

    `numbers`: for each flow, how many flows it stands for on each link; by default one.
    """
    numbers = numbers or [dict.fromkeys(flow, 1) for flow in flows]
    flows = [{link: Fraction(share) for link, share in flow.items()} for flow in flows]
    users = {link: [i for i, flow in enumerate(flows) if link in flow] for link in range(len(capacity))}
    passes = [Fraction(c) * (Fraction(efficiency) if sum(numbers[i][link] for i in users[link]) > 1 else 1)
              for link, c in enumerate(capacity)]
    rate = [None] * len(flows)
    while None in rate:
        level = {}
        for link, here in users.items():
            rising = sum(flows[i][link] for i in here if rate[i] is None)
            stopped = sum(flows[i][link] * rate[i] for i in here if rate[i] is not None)
            if rising:
                level[link] = (passes[link] - stopped) / rising
        full = min(level.values())
        stopping = {i for link, height in level.items() if height == full for i in users[link] if rate[i] is None}
        for i in stopping:
            rate[i] = full
    return rate


def finish_times(starts, capacity, efficiency=1, changes=()):
    """Return when each flow ends. `starts`: (time, flow, size) each; `changes`: (time, link, capacity) each."""
    capacity = [Fraction(c) for c in capacity]
    left = [Fraction(size) for _, _, size in starts]
    ends = [None] * len(starts)
    events = sorted({Fraction(t) for t, *_ in starts} | {Fraction(t) for t, *_ in changes})
    now = events[0]
    while True:
        for time, link, value in changes:
            if time == now:
                capacity[link] = Fraction(value)
        active = [i for i, (time, _, _) in enumerate(starts) if time <= now and ends[i] is None]
        rate = dict(zip(active, fair_rates([starts[i][1] for i in active], capacity, efficiency)))
        later = [now + left[i] / rate[i] for i in active] + [t for t in events if t > now]
        if not later:
            return ends
        step = min(later) - now
        now += step
        for i in active:
            left[i] -= rate[i] * step
            if left[i] == 0:
                ends[i] = now
