"""The fluid network: equal to exact fractions, to itself by every other way, and to the laws of max-min fairness."""

import random
from fractions import Fraction

import exact
import numpy as np
import pytest

from torussim.engine import crowd, fair, few
from torussim.engine.fluid import Fluid
from torussim.topology.routes import Routes

SHARES = (1.0, 0.5, 0.25, 1 / 3, 2 / 3, 1 / 7)


def routes_of(flows):
    """Return flows (mappings of links to shares) as Routes."""
    first = np.cumsum([0, *(len(flow) for flow in flows)]).astype(np.intp)
    link = np.array([link for flow in flows for link in flow], dtype=np.intp)
    share = np.array([share for flow in flows for share in flow.values()], dtype=float)
    return Routes(first, link, share, np.zeros(len(flows)))


def random_flows(rng, links, flows, longest=5):
    """Return flows over random links, a part of them with links in full, a part in shares."""
    made = []
    for _ in range(flows):
        used = rng.sample(range(links), rng.randint(1, min(longest, links)))
        whole = rng.random() < 0.5
        made.append({link: 1.0 if whole else rng.choice(SHARES) for link in used})
    return made


def random_capacity(rng, links):
    if rng.random() < 0.4:
        return [4.5e10] * links
    if rng.random() < 0.5:
        return [rng.choice([1.0, 2.0, 4.0]) for _ in range(links)]
    return [rng.uniform(0.1, 10.0) for _ in range(links)]


def random_starts(rng, flows):
    """Return (time, flow, size) each, sorted by time; sizes and times alike or not."""
    times = [0.0, 0.0, 0.5, 1.0] if rng.random() < 0.5 else [rng.uniform(0, 3) for _ in flows]
    sizes = [1.0, 2.0] if rng.random() < 0.5 else [rng.uniform(0.1, 3) for _ in flows]
    return sorted(((rng.choice(times), flow, rng.choice(sizes)) for flow in flows), key=lambda start: start[0])


def run(starts, capacity, changes=(), watch=None, **options):
    """Return when each flow ends, and the fluid network at its end; `watch` is called with each stretch of time."""
    fluid = Fluid(routes_of([flow for _, flow, _ in starts]), np.array(capacity), **options)
    events = {time: ([], []) for time in sorted({t for t, *_ in starts} | {t for t, *_ in changes})}
    for i, (time, _, _) in enumerate(starts):
        events[time][0].append(i)
    for time, link, value in changes:
        events[time][1].append((link, value))
    ends, index, pending = {}, {}, list(events)
    while pending or fluid.next() < np.inf:
        upcoming = fluid.next()
        time = min([upcoming, *pending[:1]])
        if watch is not None:
            watch(fluid, time)
        if pending and pending[0] <= upcoming:
            pending.pop(0)
            begin, change = events[time]
            if begin:
                paths = np.array(begin)
                ids = fluid.start(paths, np.array([starts[i][2] for i in begin]), time)
                index |= dict(zip(ids.tolist(), begin))
            if change:
                fluid.set_bandwidth(np.array([c[0] for c in change]), np.array([c[1] for c in change]), time)
        else:
            ended = fluid.end().tolist()
            assert fluid.now == upcoming
            ends |= {index[i]: fluid.now for i in ended}
    assert len(ends) == len(starts)
    return [ends[i] for i in range(len(starts))], fluid


@pytest.fixture(params=["few", "crowd"])
def pool(request, monkeypatch):
    """Keep all flows in plain Python, or all in arrays."""
    monkeypatch.setattr("torussim.engine.fluid.FEW", 10**9 if request.param == "few" else 0)
    monkeypatch.setattr(crowd, "FOLDS", 2)
    monkeypatch.setattr(crowd, "SOLVES", 0)
    return request.param


@pytest.mark.parametrize("seed", range(150))
def test_rates_are_those_of_exact_filling(seed):
    rng = random.Random(seed)
    links = rng.randint(1, 12)
    flows, capacity = random_flows(rng, links, rng.randint(1, 30)), random_capacity(rng, links)
    efficiency = rng.choice([1.0, 1.0, 0.75, 0.9])
    right = exact.fair_rates(flows, capacity, efficiency)
    got = fair.fair_rates(routes_of(flows), np.array(capacity), efficiency=efficiency)
    assert max(abs(Fraction(g) / r - 1) for g, r in zip(got, right)) < 1e-12
    paths = [few.Flow(i, i, list(flow), list(flow.values()), 1.0, 0.0, 0.0) for i, flow in enumerate(flows)]
    used = {link: sum(link in flow for flow in flows) for flow in flows for link in flow}
    left = {link: capacity[link] * (efficiency if count > 1 else 1.0) for link, count in used.items()}
    for way in (few.levels, few.by_arrays):
        assert max(abs(Fraction(g) / r - 1) for g, r in zip(way(paths, dict(left)), right)) < 1e-12


@pytest.mark.parametrize("seed", range(150))
def test_staggered_flows_end_when_exact_events_say(seed, pool):
    rng = random.Random(seed)
    links = rng.randint(1, 8)
    capacity = [rng.choice([1.0, 2.0, 3.0, 0.7]) for _ in range(links)]
    starts = random_starts(rng, random_flows(rng, links, rng.randint(1, 12)))
    efficiency = rng.choice([1.0, 0.75, 0.9])
    changes = [(rng.choice([0.5, 1.0, 1.25]), rng.randrange(links), rng.choice([0.5, 1.0, 4.0]))
               for _ in range(rng.choice([0, 0, 1, 3]))]
    changes = list({c[:2]: c for c in changes}.values())
    right = exact.finish_times(starts, capacity, efficiency, changes)
    got, fluid = run(starts, capacity, changes, efficiency=efficiency)
    assert max(abs(Fraction(g) / r - 1) for g, r in zip(got, right)) < 1e-12
    sent = np.zeros(links)
    for _, flow, size in starts:
        for link, share in flow.items():
            sent[link] += share * size
    assert fluid.sent() == pytest.approx(sent, rel=1e-14)
