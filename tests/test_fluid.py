"""The fluid network: equal to exact fractions, compiled or not, and to the laws of max-min fairness."""

import random
from fractions import Fraction
from functools import partial

import exact
import numpy as np
import pytest
from fluid import Fluid
from plain import plain
from thinned import thinned

from torussim.engine import jit, max_min
from torussim.topology.routes import Routes

SHARES = (1.0, 0.5, 0.25, 1 / 3, 2 / 3, 1 / 7)
Plain = partial(Fluid, model=plain("max_min"))


@pytest.fixture(params=["compiled", "plain"])
def way(request):
    """Return the fluid network, compiled or as it is."""
    return Fluid if request.param == "compiled" else Plain


def routes_of(flows, numbers=None):
    """Return flows (mappings of links to shares) as Routes; `numbers`: for each flow, how many it stands for on each link."""
    first = np.cumsum([0, *(len(flow) for flow in flows)]).astype(np.intp)
    link = np.array([link for flow in flows for link in flow], dtype=np.intp)
    share = np.array([share for flow in flows for share in flow.values()], dtype=float)
    number = None if numbers is None else np.array([n for flow, there in zip(flows, numbers) for n in map(there.get, flow)])
    return Routes(first, link, share, np.zeros(len(flows)), number)


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


def run(starts, capacity, changes=(), watch=None, way=Fluid, **options):
    """Return when each flow ends, and the fluid network at its end; `watch` is called with each stretch of time."""
    fluid = way(routes_of([flow for _, flow, _ in starts]), np.array(capacity), **options)
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


def rates_of(flows, capacity, numbers=None, way=Fluid, **options):
    """Return the rates of flows that are under way together."""
    fluid = way(routes_of(flows, numbers), np.array(capacity, dtype=float), **options)
    fluid.start(np.arange(len(flows)), np.ones(len(flows)), 0.0)
    fluid.next()
    ids, rates = fluid.rates()
    return rates[np.argsort(ids)]


def worst(got, right):
    """Return the largest relative difference of numbers from the right ones."""
    return max(abs(Fraction(g) / r - 1) for g, r in zip(got, right, strict=True))


def staggered(seed, links=8, flows=12):
    """Return capacities, starts, changes and an efficiency."""
    rng = random.Random(seed)
    links = rng.randint(1, links)
    capacity = [rng.choice([1.0, 2.0, 3.0, 0.7]) for _ in range(links)]
    starts = random_starts(rng, random_flows(rng, links, rng.randint(1, flows)))
    efficiency = rng.choice([1.0, 0.75, 0.9])
    changes = [(rng.choice([0.5, 1.0, 1.25]), rng.randrange(links), rng.choice([0.5, 1.0, 4.0]))
               for _ in range(rng.choice([0, 0, 1, 3]))]
    return capacity, starts, list({c[:2]: c for c in changes}.values()), efficiency


@pytest.mark.parametrize("seed", thinned(range(150), 3))
def test_rates_are_those_of_exact_filling(seed, way):
    rng = random.Random(seed)
    links = rng.randint(1, 12)
    flows, capacity = random_flows(rng, links, rng.randint(1, 30)), random_capacity(rng, links)
    numbers = [{n: rng.choice([1, 1, 2]) for n in flow} for flow in flows] if rng.random() < 0.5 else None
    efficiency = rng.choice([1.0, 1.0, 0.75, 0.9])
    right = exact.fair_rates(flows, capacity, efficiency, numbers)
    assert worst(rates_of(flows, capacity, numbers, way, efficiency=efficiency), right) < 1e-12


@pytest.mark.parametrize("seed", thinned(range(150), 3))
def test_staggered_flows_end_when_exact_events_say(seed, way):
    capacity, starts, changes, efficiency = staggered(seed)
    right = exact.finish_times(starts, capacity, efficiency, changes)
    got, fluid = run(starts, capacity, changes, way=way, efficiency=efficiency, slots=random.Random(seed).choice([1, 2, 64]))
    assert worst(got, right) < 1e-12
    sent = np.zeros(len(capacity))
    for _, flow, size in starts:
        for link, share in flow.items():
            sent[link] += share * size
    assert fluid.sent() == pytest.approx(sent, rel=1e-14)


@pytest.mark.parametrize("seed", thinned(range(60), 3))
def test_every_settled_rate_is_that_of_a_solve_from_scratch(seed, way):
    """Flows start at random, several on one path, and bandwidths change; there is hardly room, which grows."""
    rng = random.Random(seed)
    links = rng.randint(2, 15)
    flows = [*random_flows(rng, links, rng.randint(1, 12), longest=rng.choice([2, 5])), {}]
    numbers = [{n: rng.choice([1, 1, 1, 3]) for n in flow} for flow in flows] if rng.random() < 0.3 else None
    capacity, efficiency = random_capacity(rng, links), rng.choice([1.0, 0.8])
    fluid = way(routes_of(flows, numbers), np.array(capacity), efficiency=efficiency, slots=1)
    path, ends, starts, changes = {}, {}, [], []
    scale, even = np.mean(capacity), rng.random() < 0.5
    while len(path) < 40 or fluid.next() < np.inf:
        if len(path) < 40 and rng.random() < 0.6:
            time = fluid.now if fluid.next() == np.inf or rng.random() < 0.4 else rng.uniform(fluid.now, fluid.next())
            if rng.random() < 0.2:
                changes.append((time, rng.randrange(links), rng.choice(capacity)))
                fluid.set_bandwidth(np.array([changes[-1][1]]), np.array([changes[-1][2]]), time)
            chosen = [rng.randrange(len(flows)) for _ in range(rng.choice([1, 1, 2, 7]))]
            sizes = [(1.0 if even else rng.uniform(0.1, 2)) / scale * (rng.random() < 0.95) for _ in chosen]
            ids = fluid.start(np.array(chosen), np.array(sizes), time).tolist()
            assert ids == list(range(len(path), len(path) + len(chosen)))
            path |= dict(zip(ids, chosen))
            starts += [(time, flows[p] if s > 0 else {}, s) for p, s in zip(chosen, sizes)]
        elif fluid.next() < np.inf:
            ends |= dict.fromkeys(fluid.end().tolist(), fluid.now)
        fluid.next()
        ids, rates = fluid.rates()
        wanted = exact.fair_rates([flows[path[i]] for i in ids.tolist()], fluid.bandwidth.tolist(), efficiency,
                                  None if numbers is None else [numbers[path[i]] for i in ids.tolist()])
        assert len(ids) == 0 or worst(rates, wanted) < 1e-12
        assert sorted({*ids.tolist(), *ends}) == [i for i in path if i in ends or starts[i][1]]
    assert len(ends) == len(path) == fluid.flows
    assert all(ends[i] == time for i, (time, flow, _) in enumerate(starts) if not flow)


@pytest.mark.parametrize("seed", thinned(range(60), 3))
def test_compiled_is_plain_to_the_last_bit(seed):
    capacity, starts, changes, efficiency = staggered(seed, 40, 200)
    (ends, one), (same, other) = (run(starts, capacity, changes, way=way, efficiency=efficiency, slots=7)
                                  for way in (Fluid, Plain))
    assert ends == same and repr(one) == repr(other) and (one.sent() == other.sent()).all()


def test_a_plain_copy_disturbs_nobody():
    assert plain("max_min") is not max_min
    assert not hasattr(plain("max_min").start, "py_func") and not hasattr(plain("settle").settle, "py_func")
    assert hasattr(max_min.start, "py_func") == hasattr(jit.compiled(lambda: None), "py_func"), "numba is in the test extra"
    assert plain("settle").SURE == __import__("torussim.engine.settle", fromlist=["SURE"]).SURE


BROKEN = {"a share": lambda net: net.share.__setitem__(0, net.share[0] / 2),
          "a bandwidth": lambda net: net.links["bandwidth"].__setitem__(0, 2 * net.links["bandwidth"][0]),
          "the efficiency": lambda net: net.one["efficiency"].fill(1.0),
          "a number": lambda net: net.number.__setitem__(-1, 1),
          "a residual": lambda net: net.rise["left_low"].__setitem__(0, 1e-9)}


@pytest.mark.parametrize("what", ["nothing", *BROKEN])
def test_broken_data_are_noticed_by_exact_rates(what, way):
    flows = [{0: 1.0, 1: 0.5}, {0: 0.5, 2: 1.0}, {1: 1.0, 2: 0.25}, {3: 1.0}]
    numbers = [{0: 1, 1: 1}, {0: 1, 2: 1}, {1: 1, 2: 1}, {3: 2}]
    capacity = [1.0, 2.0, 0.9, 1.0]
    fluid = way(routes_of(flows, numbers), np.array(capacity), efficiency=0.75)
    early = what != "a residual"
    if early:
        BROKEN.get(what, id)(fluid.net)
    fluid.start(np.arange(4), np.ones(4), 0.0)
    if not early:
        BROKEN[what](fluid.net)
    fluid.next()
    ids, rates = fluid.rates()
    assert ids.tolist() == [0, 1, 2, 3]
    assert (worst(rates, exact.fair_rates(flows, capacity, 0.75, numbers)) < 1e-12) == (what == "nothing")


@pytest.mark.parametrize("seed", thinned(range(40), 3))
def test_no_rate_can_rise_but_at_the_cost_of_one_that_is_not_higher(seed):
    rng = random.Random(seed)
    links = rng.randint(2, 60)
    flows, capacity = random_flows(rng, links, rng.randint(1, 400)), np.array(random_capacity(rng, links))
    rate = rates_of(flows, capacity)
    load, fastest = np.zeros(links), np.zeros(links)
    for flow, own in zip(flows, rate):
        for link, share in flow.items():
            load[link] += share * own
            fastest[link] = max(fastest[link], own)
    assert (load <= capacity * (1 + 1e-12)).all()
    for flow, own in zip(flows, rate):
        assert any(load[n] >= capacity[n] * (1 - 1e-12) and own >= fastest[n] * (1 - 1e-12) for n in flow)


@pytest.mark.parametrize("seed", thinned(range(25), 3))
def test_every_byte_is_sent_once_and_no_link_passes_more_than_its_bandwidth(seed, way):
    rng = random.Random(seed)
    links = rng.randint(2, 8)
    capacity = [rng.choice([1.0, 2.0, 3.0]) for _ in range(links)]
    starts = random_starts(rng, random_flows(rng, links, 25))
    changes = [(0.5, 0, 0.25), (1.5, 0, 8.0), (1.5, 1, 0.5)]
    efficiency = rng.choice([1.0, 0.8])
    carried, passed = np.zeros(len(starts)), np.zeros(links)

    def watch(fluid, until):
        ids, rates = fluid.rates()
        used, users = np.zeros(links), np.zeros(links)
        for i, rate in zip(ids, rates):  # ids are given in the order of `starts`
            carried[i] += rate * (until - fluid.now)
            for link, share in starts[i][1].items():
                used[link] += share * rate
                users[link] += 1
        most = np.where(users > 1, efficiency, 1.0) * fluid.bandwidth
        assert (used <= most * (1 + 1e-12)).all()
        assert fluid.sent() == pytest.approx(passed, rel=1e-9, abs=1e-9)
        passed[:] += used * (until - fluid.now)

    run(starts, capacity, changes, watch, way, efficiency=efficiency)
    assert carried == pytest.approx([size for _, _, size in starts], rel=1e-12)


@pytest.mark.parametrize("seed", thinned(range(30), 3))
def test_the_order_of_starts_does_not_matter(seed):
    rng = random.Random(seed)
    links = rng.randint(2, 8)
    capacity = random_capacity(rng, links)
    starts = random_starts(rng, random_flows(rng, links, 30))
    order = list(range(len(starts)))
    rng.shuffle(order)
    order.sort(key=lambda i: starts[i][0])
    straight, shuffled = run(starts, capacity)[0], run([starts[i] for i in order], capacity)[0]
    assert shuffled == pytest.approx([straight[i] for i in order], rel=1e-12)


@pytest.mark.parametrize("seed", thinned(range(60), 3))
def test_looking_only_at_what_a_change_can_reach_is_as_good_as_looking_at_all(seed, monkeypatch):
    rng = random.Random(seed)
    links = rng.randint(5, 40)
    capacity = random_capacity(rng, links)
    starts = random_starts(rng, random_flows(rng, links, 60, longest=3))
    efficiency = rng.choice([1.0, 0.9])
    changes = [(1.0, 0, capacity[0] * 3), (1.5, 1, capacity[1] / 3)]
    if rng.random() < 0.5:  # ends, starts and changes at one instant
        capacity, starts = [1.0] * links, [(rng.choice([0.0, 1.0]), flow, 1.0) for _, flow, _ in starts]
    narrow = run(starts, capacity, changes, efficiency=efficiency)[0]
    monkeypatch.setattr(plain("settle"), "SURE", 1e-300)
    wide = run(starts, capacity, changes, way=Plain, efficiency=efficiency)[0]
    assert narrow == pytest.approx(wide, rel=1e-12)


def test_a_flow_that_meets_no_other_needs_no_solve(way):
    flows = [{0: 1.0, 1: 0.5}, {2: 1.0}, {3: 1.0}]
    starts = [(0.0, flows[0], 6.0), (0.0, flows[1], 1.0), (0.5, flows[2], 1.0)]
    times, fluid = run(starts, [3.0, 1.0, 1.0, 1.0], way=way, efficiency=0.5)
    assert times == [3.0, 1.0, 1.5]  # the first by link 1 at rate 2; link 0 at 3 would have sent it in 2 s
    assert fluid.solves == 0
    assert fluid.most == 3


def test_a_flow_without_links_or_bytes_ends_at_its_start(way):
    routes = routes_of([{0: 1.0}, {}, {0: 1.0}])
    fluid = way(routes, np.array([1.0]))
    ids = fluid.start(np.array([0, 1, 2]), np.array([1.0, 5.0, 0.0]), 2.0)
    assert (fluid.next(), fluid.end().tolist()) == (2.0, ids[1:].tolist())
    assert (fluid.next(), fluid.end().tolist()) == (3.0, ids[:1].tolist())
    assert (fluid.next(), fluid.sent().tolist()) == (np.inf, [1.0])


def test_flows_without_bytes_alone_end_at_their_start_while_others_are_under_way(way):
    fluid = way(routes_of([{n: 1.0} for n in range(8)]), np.ones(8))
    first = fluid.start(np.arange(8), np.ones(8), 0.0)
    fluid.next()
    ids = fluid.start(np.array([3, 3]), np.zeros(2), 0.5)
    assert (fluid.next(), fluid.end().tolist()) == (0.5, ids.tolist())
    assert (fluid.next(), fluid.end().tolist()) == (1.0, first.tolist())


def test_one_path_can_be_used_by_several_flows(way):
    fluid = way(routes_of([{0: 0.5}]), np.array([1.0]))
    fluid.start(np.array([0, 0]), np.array([1.0, 1.0]), 0.0)
    fluid.start(np.array([0]), np.array([1.0]), 0.25)  # 3/4 left of each of the first, at 2/3 each
    assert fluid.next() == pytest.approx(0.25 + 0.75 / (2 / 3))
    assert fluid.end().tolist() == [0, 1]
    assert fluid.next() == pytest.approx(1.5)


def test_an_efficiency_is_lost_only_where_flows_meet(way):
    starts = [(0.0, {0: 1.0}, 1.0), (0.0, {0: 1.0}, 2.0), (0.0, {1: 1.0}, 1.0)]
    assert run(starts, [1.0, 1.0], way=way, efficiency=0.8)[0] == pytest.approx([2.5, 3.5, 1.0], rel=1e-14)


def test_little_left_of_a_link_is_shared_exactly(way):
    flows = [{0: 1.0, i + 1: 1.0} for i in range(3000)] + [{0: 1 / 64}, {0: 1 / 64}]
    capacity = np.array([sum(Fraction(1, 3) for _ in range(3000)) + 1, *[1 / 3] * 3000], dtype=float)
    right = (Fraction(capacity[0]) - 3000 * Fraction(1 / 3)) * 32
    assert abs(Fraction(rates_of(flows, capacity, way=way)[-1]) / right - 1) < 1e-15


def test_flows_and_the_clock_can_be_made_later(way):
    """All alike, or each by its own: flows on the same links end as much later."""
    state = max_min if way is Fluid else plain("max_min")
    flows = [{0: 1.0}, {0: 0.5, 1: 1.0}, {2: 1.0}]

    def at_half():
        fluid = way(routes_of(flows), np.array([1.0, 0.75, 0.5]))
        fluid.start(np.array([2, 0, 1, 1]), np.array([3.0, 1.0, 1.0, 2.0]), 0.5)
        fluid.next()
        state.go(fluid.net, 1.0)
        return fluid

    def rest(fluid):
        ends = []
        while fluid.next() < np.inf:
            ends += [(i, fluid.now) for i in fluid.end().tolist()]
        return dict(ends)
    wanted, alike, own = rest(at_half()), at_half(), at_half()
    paths, runs, left = state.under_way(alike.net)
    assert paths.tolist() == [0, 1, 1, 2] and runs.tolist() == [1, 2, 3, 0] and (left > 0).all() and left[1] < left[2]
    state.shift(alike.net, 8.0)
    assert alike.now == 9.0 and (state.under_way(alike.net)[2] == left).all()
    assert rest(alike) == pytest.approx({i: end + 8.0 for i, end in wanted.items()}, rel=1e-14)
    state.shift(own.net, 8.0, np.array([8.0, 8.0, 8.0, 9.0]))
    assert rest(own) == pytest.approx({i: end + (9.0 if i == 0 else 8.0) for i, end in wanted.items()}, rel=1e-14)


def test_a_start_without_room_changes_nothing(way):
    state = max_min if way is Fluid else plain("max_min")
    net = state.made(routes_of([{0: 1.0, 1: 1.0}, {1: 1.0}, {}]), np.ones(2), 1.0, 2)
    assert state.start(net, 0, 1.0, 10)
    before = [array.copy() for array in net[:-1]]
    assert not state.start(net, 0, 1.0, 11), "link 0 has a list for one flow"
    assert all((a == b).all() for a, b in zip(net, before))
    net = state.grown(net)
    assert state.start(net, 0, 1.0, 11)
    assert not state.start(net, 2, 0.0, 12), "two slots"
    net = state.grown(net)
    assert state.start(net, 2, 0.0, 12)
    assert (state.next_end(net), state.advance(net), net.flows["run"][net.ended[0]]) == (0.0, 1, 12)
    assert (state.next_end(net), state.advance(net), net.flows["run"][net.ended[:2]].tolist()) == (2.0, 2, [10, 11])
    assert (state.next_end(net), state.advance(net)) == (np.inf, 0)


def test_slots_and_lists_are_used_again(way):
    """A flow after another on a link that is never idle: there is room for three at a time, and no more is taken."""
    state = max_min if way is Fluid else plain("max_min")
    net = state.made(routes_of([{0: 1.0}] * 4), np.ones(1), 1.0, 4)
    assert state.start(net, 0, 1.5, 0)
    for i in range(1, 50):
        assert state.start(net, i % 4, 2.0, i) and state.advance(net) == 1
        assert net.flows["run"][net.ended[0]] == i - 1


def torus_routes(k):
    """Return dimension-order routes of each chip of a k x k x k torus to every other, and the link (axis, sign, chip) of each."""
    n = k**3
    source, target = np.divmod(np.arange(n * n), n)
    source, target = source[source != target], target[source != target]
    at, to = np.array(np.unravel_index(source, (k, k, k))), np.array(np.unravel_index(target, (k, k, k)))
    pieces = []
    for axis in range(3):
        ahead = (to[axis] - at[axis]) % k
        for sign, distance in enumerate((ahead, (k - ahead) % k)):
            for step in range(k // 2):
                path = np.flatnonzero((step < distance) & (2 * distance <= k))
                here = at.copy()
                here[axis] = (here[axis] + (step if sign == 0 else -step)) % k
                chip = np.ravel_multi_index(here[:, path], (k, k, k))
                pieces.append((path, (2 * axis + sign) * n + chip, np.where(2 * distance[path] == k, 0.5, 1.0)))
        at[axis] = to[axis]
    path, link, share = (np.concatenate(column) for column in zip(*pieces))
    order = np.argsort(path, kind="stable")
    first = np.searchsorted(path[order], np.arange(len(source) + 1))
    return Routes(first, link[order], share[order], np.zeros(len(source)))


def drain(routes, bandwidth, way=Fluid):
    """Return the events and the fluid network after a message of a byte on every path, all at once."""
    fluid, events = way(routes, bandwidth), 0
    fluid.start(np.arange(len(routes)), np.ones(len(routes)), 0.0)
    while fluid.next() < np.inf:
        fluid.end()
        events += 1
    return events, fluid


def filled(routes, paths, bandwidth):
    """Return the max-min fair rates of flows on paths, by filling in plain floats."""
    length = np.diff(routes.first)[paths]
    path = np.repeat(np.arange(len(paths)), length)
    entry = np.repeat(routes.first[paths] - (np.cumsum(length) - length), length) + np.arange(length.sum())
    link, share = routes.link[entry], routes.share[entry]
    rate, rising = np.zeros(len(paths)), np.ones(len(paths), bool)
    while rising.any():
        weight = np.bincount(link, share * rising[path], len(bandwidth))
        residual = bandwidth - np.bincount(link, share * rate[path], len(bandwidth))
        level = np.where(weight > 1e-9, residual, np.inf) / np.where(weight > 1e-9, weight, 1.0)
        here = np.zeros(len(paths), bool)
        here[path[level[link] <= level.min() * (1 + 1e-13)]] = True
        rate[here & rising] = level.min()
        rising &= ~here
    return rate


@pytest.mark.parametrize("flows, even", [(30, True), (200, False), (600, True)])
def test_rates_and_ends_on_a_torus_are_those_of_a_solve_of_all_flows_after_thousands_of_changes(flows, even):
    """Flows end and others start, on the same paths or on others, also several at one instant; a few links are slower."""
    rng, routes, bandwidth = random.Random(flows), torus_routes(4), np.ones(6 * 64)
    bandwidth[[0, 80, 81, 300]] = 0.5, 0.5, 0.75, 0.5
    fluid, path = Fluid(routes, bandwidth), {}

    def start(paths, time):
        sizes = [1.0 if even else rng.uniform(0.5, 1.5) for _ in paths]
        path.update(zip(fluid.start(np.array(paths), np.array(sizes), time).tolist(), paths))

    start([rng.randrange(len(routes)) for _ in range(flows)], 0.0)
    for event in range(1500):
        if rng.random() < 0.1:
            start([rng.randrange(len(routes)) for _ in range(rng.choice([1, 5]))], rng.uniform(fluid.now, fluid.next()))
        else:
            ended = fluid.end().tolist()
            again = rng.random() < 0.5
            start([path[i] if again else rng.randrange(len(routes)) for i in ended if rng.random() < 0.99], fluid.now)
        if event % 10 == 0:
            ids, rates = fluid.rates()
            assert rates == pytest.approx(filled(routes, [path[i] for i in ids.tolist()], bandwidth), rel=1e-12)
            assert fluid.next() == pytest.approx((fluid.now + (fluid.under_way()[1] / rates)).min(), rel=1e-14)


@pytest.mark.parametrize("k, way", [(4, Fluid), (8, Fluid), (4, Plain)])
def test_all_to_all_takes_as_long_as_its_busiest_link_and_twice_that_with_one_at_half_bandwidth(k, way):
    routes, bandwidth = torus_routes(k), np.ones(6 * k**3)
    events, fluid = drain(routes, bandwidth, way)
    assert (events, fluid.now) == (1, k**4 / 8)
    bandwidth[[0, k**3 + k**2]] = 0.5  # both directions of the link between chips (0, 0, 0) and (1, 0, 0)
    events, fluid = drain(routes, bandwidth, way)
    assert events > 1
    assert fluid.solves == 1  # the fastest end first, and what is left is slower than they were
    assert fluid.now == pytest.approx(k**4 / 4, rel=1e-12)
    assert fluid.sent() == pytest.approx(np.full(6 * k**3, k**4 / 8), rel=1e-12)
