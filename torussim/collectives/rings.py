"""Patterns on a ring of K >= 3 positions: position i has a link to i + 1 and one to i - 1, cyclically.

The docstring of each pattern gives its steps and bytes. D is counted as in program.Collective. A block is D / K of a gather or
scatter (K blocks), D / K of an exchange, D of a permute. Data that go exactly half way round are sent half each way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from torussim.collectives.contract import Chunk, Hop, Pattern

BOTH, FIRST, SECOND = (0, 1), (0,), (1,)  # halves of a block


def gather(length: int, way: str = "both") -> Pattern:
    """Return the all-gather on a ring.

    `way`: "both" directions, K // 2 steps, the far shard of an even ring halved: (K-1)/2 shards a link;
    "one_way": K-1 steps in + direction; "throughput": K-1 steps of half shards both ways; "latency": both ways, K // 2
    steps, the far shard of an even ring whole in + direction (looped CollectiveEinsum; google-research,
    scaling_transformer_inference_efficiency/collectives.py).
    """
    half, even = length // 2, length % 2 == 0
    plan: list[tuple[int, int, int, tuple[int, ...]]] = []  # sign, step, distance travelled after it, halves
    if way == "one_way":
        plan = [(+1, s, s, BOTH) for s in range(1, length)]
    elif way == "throughput":
        plan = [(sign, s, s, FIRST if sign > 0 else SECOND) for s in range(1, length) for sign in (+1, -1)]
    elif way == "latency" and even:
        plan = [(+1, 1, 1, BOTH)]
        for s in range(2, half + 1):
            plan += [(+1, s, s, BOTH), (-1, s, s - 1, BOTH)]
    else:
        for s in range(1, half + 1):
            split = even and s == half
            plan += [(+1, s, s, FIRST if split else BOTH), (-1, s, s, SECOND if split else BOTH)]
    hops = [_uniform(length, sign, step, step - 1 if distance > 1 else None, len(halves),
                     partial(_one, length, -sign * (distance - 1), halves))
            for sign, step, distance, halves in plan]
    return Pattern("gather", length, True, tuple(hops), merged=way == "latency" and even)


def reverse(pattern: Pattern) -> Pattern:
    """Return the reduce-scatter that is this all-gather backwards: same steps, same sizes, opposite directions."""
    last = max((hop.step for hop in pattern.hops), default=0)
    length, hops = pattern.length, []
    for hop in reversed(pattern.hops):
        step = last - hop.step + 1
        position = (np.arange(length) - hop.sign) % length  # position i received from this one in the gather
        halves = hop.halves if hop.halves.strides == (0,) else hop.halves[position]
        hops.append(Hop(-hop.sign, step, None, halves, partial(_backwards, hop.chunks, hop.sign, length)))
    firsts = {sign: min((h.step for h in hops if h.sign == sign), default=0) for sign in (+1, -1)}
    chained = [Hop(h.sign, h.step, h.step - 1 if h.step > firsts[h.sign] else None, h.halves, h.chunks) for h in hops]
    return Pattern("scatter", length, pattern.ring, tuple(sorted(chained, key=lambda h: (h.step, -h.sign))),
                   pattern.merged)


def exchange(length: int, way: str = "both") -> Pattern:
    """Return the all-to-all on a ring: in step s each chip sends, in one message, all data that go s hops or further.

    K // 2 steps; a link carries D K / 8 on an even ring, D (K - 1/K) / 8 on an odd one; "one_way": K - 1 steps, D (K-1) / 2.
    """
    hops = []
    far = length - 1 if way == "one_way" else length // 2
    for step in range(1, far + 1):
        for sign in (+1,) if way == "one_way" else (+1, -1):
            reach = [(d, (FIRST if sign > 0 else SECOND) if way != "one_way" and 2 * d == length else BOTH)
                     for d in range(step, far + 1)]
            hops.append(_uniform(length, sign, step, step - 1 if step > 1 else None, sum(len(h) for _, h in reach),
                                 partial(_many, length, sign, step, reach)))
    return Pattern("exchange", length, True, tuple(hops))


def permute(length: int, shift: int) -> Pattern:
    """Return the permute by `shift` on a ring: the short way round; at exactly half way, half each way."""
    ahead, back = shift % length, -shift % length
    hops = []
    for step in range(1, min(ahead, back) + 1):
        for sign in (+1, -1):
            if (ahead if sign > 0 else back) != min(ahead, back):
                continue
            halves = BOTH if ahead != back else FIRST if sign > 0 else SECOND
            hops.append(_uniform(length, sign, step, step - 1 if step > 1 else None, len(halves),
                                 partial(_message, length, sign, step, shift, halves)))
    return Pattern("permute", length, True, tuple(hops))


def only(whole: Pattern, senders: tuple[int, ...]) -> Pattern:
    """Return a permute in which only some positions send: a hop carries nothing else."""
    hops = list[Hop]()
    for hop in whole.hops:
        mine = np.array([hop.halves[i] > 0 and hop.chunks(i)[0][0][0] in senders for i in range(whole.length)])
        if mine.any():
            hops.append(Hop(hop.sign, hop.step, hop.after, np.where(mine, hop.halves, 0), hop.chunks))
    return Pattern("permute", whole.length, whole.ring, tuple(hops))


def _uniform(length: int, sign: int, step: int, after: int | None, halves: int,
             chunks: Callable[[int], list[Chunk]]) -> Hop:
    return Hop(sign, step, after, np.broadcast_to(np.int64(halves), (length,)), chunks)


def _one(length: int, offset: int, halves: tuple[int, ...], i: int) -> list[Chunk]:
    return [(((i + offset) % length,), half) for half in halves]


def _backwards(chunks: Callable[[int], list[Chunk]], sign: int, length: int, i: int) -> list[Chunk]:
    return chunks((i - sign) % length)


def _many(length: int, sign: int, step: int, reach: Sequence[tuple[int, tuple[int, ...]]], i: int) -> list[Chunk]:
    origin = (i - sign * (step - 1)) % length
    return [((origin, (origin + sign * d) % length), half) for d, halves in reach for half in halves]


def _message(length: int, sign: int, step: int, shift: int, halves: tuple[int, ...], i: int) -> list[Chunk]:
    origin = (i - sign * (step - 1)) % length
    return [((origin, (origin + shift) % length), half) for half in halves]
