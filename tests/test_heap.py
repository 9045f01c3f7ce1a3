"""Heaps and sorting in arrays, compiled or not, against sorted lists."""

import random

import numpy as np
import pytest
from plain import plain

from torussim.engine import heap


@pytest.fixture(params=["compiled", "plain"])
def way(request):
    return heap if request.param == "compiled" else plain("heap")


@pytest.mark.parametrize("seed", range(20))
def test_the_first_of_a_heap_has_the_least_key_whatever_was_done(seed, way):
    rng = random.Random(seed)
    count = rng.randint(1, 40)
    numbers, place = np.zeros(count, np.int32), np.full(count, -1, np.int32)
    key = np.array([rng.choice([1.0, 2.0, 3.0, np.inf]) for _ in range(count)])
    there = rng.sample(range(count), rng.randint(0, count))
    numbers[:len(there)] = there
    way.arrange(numbers, len(there), place, key)
    size = len(there)
    for _ in range(100):
        i = rng.randrange(count)
        if place[i] < 0:
            size = way.push(numbers, size, place, key, i)
        elif rng.random() < 0.5:
            size = way.remove(numbers, size, place, key, i)
            assert place[i] == -1
        else:
            key[i] = rng.random()
            way.moved(numbers, size, place, key, i)
        inside = np.flatnonzero(place >= 0)
        assert size == len(inside) and (numbers[place[inside]] == inside).all()
        assert size == 0 or numbers[0] == min(inside.tolist(), key=lambda i: (key[i], i))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 10, 100, 1000])
def test_numbers_are_sorted_and_those_behind_them_stay(size, way):
    numbers = np.random.default_rng(size).integers(0, 500, size + 5).astype(np.int32)
    wanted = [*np.sort(numbers[:size]).tolist(), *numbers[size:].tolist()]
    way.sort(numbers, size)
    assert numbers.tolist() == wanted
