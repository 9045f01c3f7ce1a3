"""Patterns on a line of K >= 2 positions: no link joins the last position and the first.

Every link carries the blocks of each side to the other side, so direction and kind of loop make no difference. Blocks and D as in
rings.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from torussim.collectives.contract import Chunk, Hop, Pattern


def gather(length: int) -> Pattern:
    """Return the all-gather on a line: K-1 steps; each chip passes arrivals on, both ways; the end links carry K-1 shards."""
    hops, i = [], np.arange(length)
    for step in range(1, length):
        for sign in (+1, -1):
            origin = i - sign * (step - 1)
            sends = (origin >= 0) & (origin < length) & (i != (length - 1 if sign > 0 else 0))
            hops.append(Hop(sign, step, step - 1 if step > 1 else None, 2 * sends, partial(_shard, sign, step)))
    return Pattern("gather", length, False, tuple(hops))


def exchange(length: int) -> Pattern:
    """Return the all-to-all on a line: every block travels alone, the farthest first.

    The middle link carries K^2 / 4 blocks of D / K each way; at zero latency that is the time.
    """
    hops, i = [], np.arange(length)
    for turn in range(1, length):
        for rank in range(length - 1):
            for sign in (+1, -1):
                goal = length - 1 - rank if sign > 0 else rank
                origin = i - sign * (turn - 1)
                sends = (origin >= 0) & (origin < length) & ((i < goal) if sign > 0 else (i > goal))
                step = (turn - 1) * (length - 1) + rank + 1
                if sends.any():
                    hops.append(Hop(sign, step, step - (length - 1) if turn > 1 else None, 2 * sends,
                                    partial(_block, sign, turn, goal)))
    return Pattern("exchange", length, False, tuple(hops))


def permute(length: int, shift: int) -> Pattern:
    """Return the permute by `shift` on a line: blocks that would leave the end travel back along the line, hop by hop."""
    ahead, i, hops = shift % length, np.arange(length), []
    for step in range(1, length):
        for sign, distance in ((+1, ahead), (-1, length - ahead)):
            origin = i - sign * (step - 1)
            inside = (origin >= 0) & (origin < length)
            sends = inside & ((origin + ahead < length) == (sign > 0)) & (step <= distance) & (ahead > 0)
            if sends.any():
                hops.append(Hop(sign, step, step - 1 if step > 1 else None, 2 * sends,
                                partial(_message, length, sign, step, ahead)))
    return Pattern("permute", length, False, tuple(hops))


def _shard(sign: int, step: int, i: int) -> list[Chunk]:
    return [((i - sign * (step - 1),), half) for half in (0, 1)]


def _block(sign: int, turn: int, goal: int, i: int) -> list[Chunk]:
    return [((i - sign * (turn - 1), goal), half) for half in (0, 1)]


def _message(length: int, sign: int, step: int, ahead: int, i: int) -> list[Chunk]:
    origin = i - sign * (step - 1)
    return [((origin, (origin + ahead) % length), half) for half in (0, 1)]
