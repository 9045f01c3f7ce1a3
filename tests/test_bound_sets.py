"""The bound is that of an obvious count over sets of chips, and never above that of the worst of all sets."""

from itertools import combinations, product
from math import prod
from random import Random

import numpy as np
import pytest
from thinned import thinned

from torussim.chips import chip
from torussim.lower_bound import Part, limits_of, operation_seconds
from torussim.program import SYMMETRIC, Collective
from torussim.topology.builders import torus
from torussim.topology.grid import grid

IDEAL = chip("ideal")


def groups_of(shape, parts, axes):
    """Return the groups of a collective, as lists of chips that differ in its own coordinates alone."""
    found = {}
    for c in product(*map(range, shape)):
        rest = list(c)
        for name in axes:
            p = parts[name]
            rest[p.axis] -= c[p.axis] // p.stride % p.length * p.stride
        found.setdefault(tuple(rest), []).append(c)
    return list(found.values())


def moved(c, parts, shift):
    """Return the chip that a permute sends to, from chip c."""
    to = list(c)
    for name, by in shift.items():
        p = parts[name]
        place = c[p.axis] // p.stride % p.length
        to[p.axis] += ((place + by) % p.length - place) * p.stride
    return tuple(to)


def must_leave(kind, groups, inside, size, target):
    """Return the bytes that must leave a set of chips, counted message by message where it is about messages."""
    total = 0.0
    for group in groups:
        here, there = [c for c in group if c in inside], [c for c in group if c not in inside]
        if kind == "permute":
            total += size * sum(target(c) not in inside for c in here)
        elif here and there:
            shard = size / len(group)
            total += {"all_gather": shard * len(here), "reduce_scatter": shard * len(there), "all_reduce": size,
                      "all_to_all": sum(shard for _ in product(here, there))}[kind]
    return total


def in_all(one, groups, links, place, target):
    """Return the least time for all that goes from one place to another: sets of chips that are taken as one."""
    rate = sum(bandwidth for (u, v), bandwidth in links.items() if place[u] != place[v])
    if one.kind == "all_reduce":
        size = sum(2 * one.bytes * (len({place[c] for c in group}) - 1) for group in groups)
    else:
        sets = [{c for c in place if place[c] == p} for p in set(place.values())]
        size = sum(must_leave(one.kind, groups, inside, one.bytes, target) for inside in sets)
    return size / rate if size else 0.0


def out_of(links, inside):
    return sum(bandwidth for (u, v), bandwidth in links.items() if u in inside and v not in inside)


def runs(shape):
    """Return all runs of neighbouring positions on each axis, going round, as sets of chips."""
    chips = list(product(*map(range, shape)))
    for axis, length in enumerate(shape):
        for start, count in product(range(length), range(1, length)):
            positions = {(start + i) % length for i in range(count)}
            yield frozenset(c for c in chips if c[axis] in positions)


def single(chips):
    """Return each chip alone and all but it: what leaves those is what comes to it."""
    for c in chips:
        yield frozenset({c})
        yield frozenset(chips) - {c}


def drawn(rng):
    """Return shape, parts of axes, links (any chips can be joined) and a collective over any of them."""
    shape = rng.choice(((2,), (3,), (4,), (5,), (6,), (8,), (2, 2), (2, 3), (4, 2), (1, 4), (2, 2, 2)))
    parts = {f"a{axis}": Part(axis, length) for axis, length in enumerate(shape)}
    for axis, length in enumerate(shape):
        divisors = [d for d in range(2, length) if length % d == 0]
        if divisors and rng.random() < 0.6:
            inner = rng.choice(divisors)
            del parts[f"a{axis}"]
            parts |= {f"a{axis}/{inner}": Part(axis, inner), f"a{axis}/{inner}*": Part(axis, length // inner, inner)}
    chips = list(product(*map(range, shape)))
    links = {edge: rng.choice((1.0, rng.uniform(0.1, 5))) for edge in torus(shape, wrap=rng.random() < 0.6, bandwidth=1.0).edges}
    for _ in range(rng.choice((0, 0, 3))):
        if len(chips) > 1:
            u, v = rng.sample(chips, 2)
            links |= {(u, v): rng.uniform(0.1, 5)}
    kind, axes = rng.choice(SYMMETRIC), rng.sample(list(parts), rng.randint(1, len(parts)))
    shift = {a: rng.randint(-5, 5) for a in axes} if kind == "permute" else {}
    return shape, parts, links, Collective("c", kind, tuple(axes), 100.0, shift=shift)


def as_limits(shape, parts, links):
    at = {c: i for i, c in enumerate(product(*map(range, shape)))}
    ends = np.array([(at[u], at[v]) for u, v in links], np.intp).reshape(-1, 2)
    return limits_of(shape, parts, ends[:, 0], ends[:, 1], np.array(list(links.values())))


@pytest.mark.parametrize("seed", thinned(range(300), 3))
def test_the_bound_is_that_of_the_worst_chip_or_run_and_below_that_of_the_worst_set_of_chips(seed):
    shape, parts, links, one = drawn(Random(seed))
    chips, groups = list(product(*map(range, shape))), groups_of(shape, parts, one.axes)
    assert len(groups[0]) == prod(parts[a].length for a in one.axes)

    def needs(inside):
        leaves = must_leave(one.kind, groups, inside, one.bytes, lambda c: moved(c, parts, one.shift))
        return leaves / out_of(links, inside) if leaves else 0.0

    got = operation_seconds(one, as_limits(shape, parts, links), IDEAL)
    tried = max(needs(inside) for inside in [*runs(shape), *single(chips)] if 0 < len(inside) < len(chips))
    ways = [list(chips), *([c[axis] for c in chips] for axis in range(len(shape)))]  # what a chip is taken to be one with
    totals = [in_all(one, groups, links, dict(zip(chips, way)), lambda c: moved(c, parts, one.shift)) for way in ways]
    assert got == pytest.approx(max(tried, *totals), rel=1e-12)
    if one.kind not in ("all_reduce", "reduce_scatter"):
        every = (frozenset(s) for n in range(1, len(chips)) for s in combinations(chips, n))
        assert got <= max(needs(inside) for inside in every) * (1 + 1e-12)


@pytest.mark.parametrize("seed", thinned(range(40), 3))
def test_an_all_gather_over_all_chips_is_never_above_the_exact_optimum(seed):
    """(D/K) max over sets S of |S| / (bandwidth out of S) (ForestColl); on rings of links of any bandwidth equal to it."""
    rng = Random(seed)
    shape = rng.choice(((3,), (5,), (8,), (2, 3), (2, 4), (2, 2, 2)))
    graph = torus(shape, bandwidth=1.0)
    for link in graph.edges.values():
        link["bandwidth"] = rng.uniform(0.1, 5)
    links = {(u, v): b for u, v, b in graph.edges(data="bandwidth")}
    chips = list(graph)
    optimum = max(n / out_of(links, set(s)) for n in range(1, len(chips)) for s in combinations(chips, n)) * 100 / len(chips)
    one = Collective("c", "all_gather", tuple("xyz"[:len(shape)]), 100.0)
    got = operation_seconds(one, grid(graph), IDEAL)
    assert got <= optimum * (1 + 1e-12)
    if len(shape) == 1:
        assert got == pytest.approx(optimum, rel=1e-12)
