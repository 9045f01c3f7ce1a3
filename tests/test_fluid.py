"""The fluid network: equal to exact fractions, to itself by every other way, and to the laws of max-min fairness."""

import random
from fractions import Fraction

import exact
import numpy as np
import pytest
from thinned import thinned

from torussim.engine import compiled, crowd, fair, few, refine
from torussim.engine.fluid import Fluid
from torussim.topology.routes import Routes

SHARES = (1.0, 0.5, 0.25, 1 / 3, 2 / 3, 1 / 7)


def routes_of(flows):
    """Return flows (mappings of links to shares) as Routes."""
    first = np.cumsum([0, *(len(flow) for flow in flows)]).astype(np.intp)
    link = np.array([link for flow in flows for link in flow], dtype=np.intp)
    share = np.array([share for flow in flows for share in flow.values()], dtype=float)
    return Routes(first, link, share, np.zeros(len(flows)))


def rows_of(flows):
    """Return flows, each over a link at least, as rows of the network."""
    routes = routes_of(flows)
    return fair.Rows(routes.first, routes.link, routes.share)


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


def run(starts, capacity, changes=(), watch=None, listed=False, **options):
    """Return when each flow ends, and the fluid network at its end; `watch` is called with each stretch of time.

    `listed`: flows are started by `start_few`.
    """
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
            if begin and listed:
                first = fluid.start_few([(i, starts[i][2]) for i in begin], time)
                index |= dict(enumerate(begin, first))
            elif begin:
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


@pytest.mark.parametrize("seed", thinned(range(150), 3))
def test_rates_are_those_of_exact_filling(seed):
    rng = random.Random(seed)
    links = rng.randint(1, 12)
    flows, capacity = random_flows(rng, links, rng.randint(1, 30)), random_capacity(rng, links)
    efficiency = rng.choice([1.0, 1.0, 0.75, 0.9])
    right = exact.fair_rates(flows, capacity, efficiency)
    rows = rows_of(flows)
    got = fair.fill(rows, fair.passes(np.array(capacity), rows.count(links), efficiency))
    assert max(abs(Fraction(g) / r - 1) for g, r in zip(got, right)) < 1e-12
    paths = [few.Flow(i, i, list(flow), list(flow.values()), 1.0, 0.0, 0.0) for i, flow in enumerate(flows)]
    used = {link: sum(link in flow for flow in flows) for flow in flows for link in flow}
    left = {link: capacity[link] * (efficiency if count > 1 else 1.0) for link, count in used.items()}
    for way in (few.levels, few.by_arrays):
        assert max(abs(Fraction(g) / r - 1) for g, r in zip(way(paths, dict(left)), right)) < 1e-12


@pytest.mark.parametrize("seed", thinned(range(150), 3))
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


@pytest.mark.parametrize("seed", thinned(range(40), 3))
def test_no_rate_can_rise_but_at_the_cost_of_one_that_is_not_higher(seed):
    rng = random.Random(seed)
    links = rng.randint(2, 60)
    flows, capacity = random_flows(rng, links, rng.randint(1, 400)), np.array(random_capacity(rng, links))
    rate = fair.fill(rows_of(flows), capacity)
    load, fastest = np.zeros(links), np.zeros(links)
    for flow, own in zip(flows, rate):
        for link, share in flow.items():
            load[link] += share * own
            fastest[link] = max(fastest[link], own)
    assert (load <= capacity * (1 + 1e-12)).all()
    for flow, own in zip(flows, rate):
        assert any(load[n] >= capacity[n] * (1 - 1e-12) and own >= fastest[n] * (1 - 1e-12) for n in flow)


@pytest.mark.parametrize("seed", thinned(range(25), 3))
def test_every_byte_is_sent_once_and_no_link_passes_more_than_its_bandwidth(seed, pool):
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

    run(starts, capacity, changes, watch, efficiency=efficiency)
    assert carried == pytest.approx([size for _, _, size in starts], rel=1e-12)


@pytest.mark.parametrize("seed", thinned(range(30), 3))
def test_flows_in_lists_are_flows_in_arrays_to_the_last_bit(seed):
    rng = random.Random(seed)
    links = rng.randint(2, 8)
    capacity = random_capacity(rng, links)
    flows = [*random_flows(rng, links, 30), {}]
    starts = [(time, flow, size * (rng.random() < 0.9)) for time, flow, size in random_starts(rng, flows)]
    ends, fluid = run(starts, capacity)
    same, listed = run(starts, capacity, listed=True)
    assert same == ends and (listed.most, listed.solves, listed.flows) == (fluid.most, fluid.solves, fluid.flows)
    assert (listed.sent() == fluid.sent()).all()


@pytest.mark.parametrize("seed", thinned(range(30), 3))
def test_the_order_of_starts_does_not_matter(seed, pool):
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
def test_looking_only_at_what_a_change_can_reach_is_as_good_as_looking_at_all(seed, pool, monkeypatch):
    rng = random.Random(seed)
    links = rng.randint(5, 40)
    capacity = random_capacity(rng, links)
    starts = random_starts(rng, random_flows(rng, links, 60, longest=3))
    efficiency = rng.choice([1.0, 0.9])
    changes = [(1.0, 0, capacity[0] * 3), (1.5, 1, capacity[1] / 3)]
    if rng.random() < 0.5:  # ends, starts and changes at one instant
        capacity, starts = [1.0] * links, [(rng.choice([0.0, 1.0]), flow, 1.0) for _, flow, _ in starts]
    narrow = run(starts, capacity, changes, efficiency=efficiency)[0]
    monkeypatch.setattr(few, "SURE", 0.0)
    monkeypatch.setattr(crowd, "SURE", 0.0)
    wide = run(starts, capacity, changes, efficiency=efficiency)[0]
    assert narrow == pytest.approx(wide, rel=1e-12)


def test_a_flow_that_meets_no_other_needs_no_solve():
    flows = [{0: 1.0, 1: 0.5}, {2: 1.0}, {3: 1.0}]
    times, fluid = run([(0.0, flows[0], 6.0), (0.0, flows[1], 1.0), (0.5, flows[2], 1.0)], [3.0, 1.0, 1.0, 1.0], efficiency=0.5)
    assert times == [3.0, 1.0, 1.5]  # the first by link 1 at rate 2; link 0 at 3 would have sent it in 2 s
    assert fluid.solves == 0
    assert fluid.most == 3


def test_a_flow_without_links_or_bytes_ends_at_its_start():
    routes = routes_of([{0: 1.0}, {}, {0: 1.0}])
    fluid = Fluid(routes, np.array([1.0]))
    ids = fluid.start(np.array([0, 1, 2]), np.array([1.0, 5.0, 0.0]), 2.0)
    assert (fluid.next(), fluid.end().tolist()) == (2.0, ids[1:].tolist())
    assert (fluid.next(), fluid.end().tolist()) == (3.0, ids[:1].tolist())
    assert (fluid.next(), fluid.sent().tolist()) == (np.inf, [1.0])


def test_flows_without_bytes_alone_end_at_their_start_while_others_are_under_way(pool):
    fluid = Fluid(routes_of([{n: 1.0} for n in range(8)]), np.ones(8))
    first = fluid.start(np.arange(8), np.ones(8), 0.0)
    fluid.next()
    ids = fluid.start(np.array([3, 3]), np.zeros(2), 0.5)
    assert (fluid.next(), fluid.end().tolist()) == (0.5, ids.tolist())
    assert (fluid.next(), fluid.end().tolist()) == (1.0, first.tolist())


def test_one_path_can_be_used_by_several_flows(pool):
    fluid = Fluid(routes_of([{0: 0.5}]), np.array([1.0]))
    fluid.start(np.array([0, 0]), np.array([1.0, 1.0]), 0.0)
    fluid.start(np.array([0]), np.array([1.0]), 0.25)  # 3/4 left of each of the first, at 2/3 each
    assert fluid.next() == pytest.approx(0.25 + 0.75 / (2 / 3))
    assert fluid.end().tolist() == [0, 1]
    assert fluid.next() == pytest.approx(1.5)


def test_an_efficiency_is_lost_only_where_flows_meet(pool):
    starts = [(0.0, {0: 1.0}, 1.0), (0.0, {0: 1.0}, 2.0), (0.0, {1: 1.0}, 1.0)]
    assert run(starts, [1.0, 1.0], efficiency=0.8)[0] == pytest.approx([2.5, 3.5, 1.0], rel=1e-14)


def test_little_left_of_a_link_is_shared_exactly():
    rows = rows_of([{0: 1.0, i + 1: 1.0} for i in range(3000)] + [{0: 1 / 64}, {0: 1 / 64}])
    capacity = np.array([sum(Fraction(1, 3) for _ in range(3000)) + 1, *[1 / 3] * 3000], dtype=float)
    right = (Fraction(capacity[0]) - 3000 * Fraction(1 / 3)) * 32
    assert abs(Fraction(fair.fill(rows, capacity)[-1]) / right - 1) < 1e-15


def symmetric(rng, chips, longest=4):
    """Return flows that look the same from each chip of a ring but for slow links, and links' capacities."""
    flows = []
    for _ in range(rng.randint(1, 6)):
        used = {rng.randrange(2 * chips): rng.choice(SHARES) for _ in range(rng.randint(1, longest))}
        flows += [{(n % chips + shift) % chips + n // chips * chips: s for n, s in used.items()} for shift in range(chips)]
    capacity = [1.0] * chips + [rng.choice([1.0, 2.0])] * chips
    for _ in range(rng.choice([0, 0, 1, 2])):
        capacity[rng.randrange(2 * chips)] = 0.5
    return flows, capacity


@pytest.mark.parametrize("seed", thinned(range(60), 3))
def test_classes_are_an_equitable_partition_and_the_coarsest(seed):
    rng = random.Random(seed)
    flows, capacity = symmetric(rng, rng.randint(2, 12))
    sizes = [rng.choice([1.0, 2.0]) for _ in flows] if seed % 2 else [1.0] * len(flows)
    routes = routes_of(flows)
    row, column = refine.refine(fair.Rows(routes.first, routes.link, routes.share), np.array(sizes), np.array(capacity))
    of_flow, of_link = list(sizes), list(capacity)  # the slow twin: colours are everything that was seen
    for _ in range(len(flows) + len(capacity)):
        seen = [(of_flow[i], tuple(sorted((of_link[n], s) for n, s in flow.items()))) for i, flow in enumerate(flows)]
        there = [(of_link[n], tuple(sorted((of_flow[i], flow[n]) for i, flow in enumerate(flows) if n in flow)))
                 for n in range(len(capacity))]
        names = {c: i for i, c in enumerate(sorted(set(seen)))}, {c: i for i, c in enumerate(sorted(set(there)))}
        grown = len(names[0]) + len(names[1]) > len(set(of_flow)) + len(set(of_link))
        of_flow, of_link = [names[0][c] for c in seen], [names[1][c] for c in there]
        if not grown:
            break
    assert len(set(zip(row.tolist(), of_flow))) == len(set(row.tolist())) == len(set(of_flow))
    assert len(set(zip(column.tolist(), of_link))) == len(set(column.tolist())) == len(set(of_link))


@pytest.mark.parametrize("seed", thinned(range(60), 3))
def test_folded_is_unfolded(seed, monkeypatch):
    rng = random.Random(seed)
    monkeypatch.setattr("torussim.engine.fluid.FEW", 0)
    monkeypatch.setattr(crowd, "FOLDS", 2)
    monkeypatch.setattr(crowd, "SOLVES", rng.choice([0, 1]))
    flows, capacity = symmetric(rng, rng.randint(3, 12))
    starts = [(0.0, flow, rng.choice([1.0, 1.0, 1.0, 3.0])) for flow in flows]
    if seed % 3 == 0:
        starts += [(1.5, flows[0], 1.0), (1.5, flows[-1], 0.5)]
    changes = [(2.0, 0, 0.3)] if seed % 3 == 1 else []
    efficiency = rng.choice([1.0, 0.9])
    folded, unfolded = (run(starts, capacity, changes, fold=fold, efficiency=efficiency) for fold in (True, False))
    assert folded[0] == pytest.approx(unfolded[0], rel=1e-9)
    assert folded[1].sent() == pytest.approx(unfolded[1].sent(), rel=1e-14)
    assert folded[1].sent() == pytest.approx(sum(np.bincount(list(f), np.array(list(f.values())) * size, len(capacity))
                                                 for _, f, size in starts), rel=1e-12)


def test_alike_flows_fold_to_one(monkeypatch):
    monkeypatch.setattr(crowd, "SOLVES", 0)
    fluid = Fluid(routes_of([{n: 1.0, (n + 1) % 600: 0.5} for n in range(600)]), np.ones(600))
    fluid.start(np.arange(600), np.ones(600), 0.0)
    assert fluid.next() == 1.5
    assert len(fluid._pool.rows) == 1
    assert fluid.rates()[1].tolist() == [2 / 3] * 600
    assert fluid.end().tolist() == list(range(600))
    assert len(fluid._pool) == 0


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


def drain(routes, bandwidth, **options):
    """Return the events and the fluid network after a message of a byte on every path, all at once."""
    fluid, events = Fluid(routes, bandwidth, **options), 0
    fluid.start(np.arange(len(routes)), np.ones(len(routes)), 0.0)
    while fluid.next() < np.inf:
        fluid.end()
        events += 1
    return events, fluid


@pytest.mark.parametrize("k", [4, 8])
def test_all_to_all_takes_as_long_as_its_busiest_link_and_twice_that_with_one_at_half_bandwidth(k):
    routes, bandwidth = torus_routes(k), np.ones(6 * k**3)
    events, fluid = drain(routes, bandwidth)
    assert (events, fluid.now) == (1, k**4 / 8)
    bandwidth[[0, k**3 + k**2]] = 0.5  # both directions of the link between chips (0, 0, 0) and (1, 0, 0)
    events, fluid = drain(routes, bandwidth)
    assert events > 1
    assert fluid.solves == 1  # the fastest end first, and what is left is slower than they were
    assert fluid.now == pytest.approx(k**4 / 4, rel=1e-12)
    assert fluid.sent() == pytest.approx(np.full(6 * k**3, k**4 / 8), rel=1e-12)


@pytest.mark.parametrize("seed", thinned(range(20), 3))
def test_flows_by_compiled_rates_end_when_those_by_numpy_do_to_1e_12(seed, monkeypatch):
    rng = random.Random(seed)
    links = rng.randint(2, 60)
    starts = random_starts(rng, random_flows(rng, links, rng.randint(1, 100)))
    capacity = random_capacity(rng, links)
    monkeypatch.setattr("torussim.engine.fluid.FEW", 0)
    plain = run(starts, capacity, efficiency=0.9)[0]
    monkeypatch.setattr(compiled, "WORTH", -1)
    got, fluid = run(starts, capacity, efficiency=0.9)
    assert fluid._solver.compiled is not None
    assert got == pytest.approx(plain, rel=1e-12)


@pytest.mark.parametrize("rates", [compiled.rates, compiled.compiled_rates()], ids=["as it is", "compiled"])
def test_what_numba_compiles_gives_exact_rates_to_1e_12(rates):
    for seed in range(60):
        rng = random.Random(seed)
        links = rng.randint(1, 12)
        flows, capacity = random_flows(rng, links, rng.randint(1, 30)), random_capacity(rng, links)
        right = exact.fair_rates(flows, capacity)
        rows = rows_of(flows)
        solver = compiled.Solver()
        assert rates is not None, "numba is in the test extra"
        solver.asked, solver.compiled = True, rates
        held = np.array([rng.random() < 0.3 for _ in flows]) & (np.array(right, dtype=float) < float(max(right)))
        least = min((r for r, h in zip(right, held) if not h))
        held &= np.array([r < least for r in right])
        given = np.where(held, np.array(right, dtype=float), 0.0)
        for way in (solver.fill, fair.fill):
            got = way(rows, np.array(capacity), given, ~held)
            assert max(abs(Fraction(g) / r - 1) for g, r in zip(got, right)) < 1e-12


def test_without_numba_numpy_goes_on(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "numba", None)
    assert compiled.compiled_rates() is None
