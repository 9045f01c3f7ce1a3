"""The time of an operation on one chip, and the closed form of a collective on axes with equal links.

The closed forms are written from the algorithms' steps and bytes, not from their schedules. Estimate and engine are thus two
independent implementations, and tests compare them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

from torussim.chips import Chip
from torussim.program import ONE_SHOT, Collective, Compute, Loop, Matmul, resized


def flop_seconds(matmuls: Sequence[Matmul], flops: float, dtype: str, chip: Chip,
                 cut: tuple[int, ...] = (1, 1, 1)) -> float:
    """Return the time of the matrix unit for one shard of matmuls, of products of m/cut[0], k/cut[1], n/cut[2].

    A fourth number cuts the count of the products. The unit works on tiles (rows x contraction x columns): sizes are rounded up
    to whole tiles, and the weights of each tile take as long to load as `load_rows` rows take to pass through it. `flops` without
    a shape run at the same rate without padding.
    """
    total = flops / prod(cut)
    for matmul in matmuls:
        rows, deep, across = (ceil(s / c / t) * t for s, c, t in zip((matmul.m, matmul.k, matmul.n), cut, chip.tile))
        total += 2.0 * (rows + chip.load_rows) * deep * across * matmul.count / prod(cut[3:])
    return total / (chip.rate(dtype) * chip.matmul_efficiency)


def compute_seconds(compute: Compute, chip: Chip, cut: tuple[int, ...] = (1, 1, 1)) -> float:
    """Return max(time of the matrix unit, time of HBM) of one shard of the work, without overheads (docs/design.md 4).

    The vector unit does the work `beside` the products meanwhile. Other elementwise work follows, with max(time of the vector
    unit, time of HBM). An intermediate value crosses HBM only if it is larger than the memory on the chip.
    """
    rate = prod(cut) * chip.hbm_bandwidth * chip.hbm_efficiency
    multiply = max(flop_seconds(compute.matmuls, compute.flops, compute.dtype, chip, cut), compute.hbm_bytes / rate,
                   compute.beside / (prod(cut) * chip.vector_rate))
    return multiply + max(compute.vector / (prod(cut) * chip.vector_rate), elementwise_bytes(compute, chip) / rate)


def overhead_seconds(compute: Compute, chip: Chip) -> float:
    """Return the fixed costs of a compute operation: of its kernels, and of the host if it prepares the pass there."""
    return chip.op_overhead * compute.kernels + (chip.step_overhead if compute.host else 0.0)


def elementwise_bytes(compute: Compute, chip: Chip) -> float:
    """Return the HBM bytes of the elementwise work, with those of an intermediate value that does not fit on the chip."""
    spilled = compute.scratch_passes * compute.scratch if compute.scratch > chip.on_chip_bytes else 0.0
    return compute.vector_bytes + spilled


def shard_seconds(compute: Compute, loop: Loop, chip: Chip) -> float:
    """Return the time of one shard of a looped matmul, with its part of the sums and without overheads."""
    sums = loop.sum_bytes / (chip.hbm_bandwidth * chip.hbm_efficiency)
    return compute_seconds(compute, chip, loop.cut) + sums / prod(loop.cut)


def start_seconds(collective: Collective, chips: int, chip: Chip) -> float:
    """Return the time from the start of a collective, over groups of this number of chips, to its first send.

    In an all-to-all a chip assembles a message for every other chip from pieces, and issues all messages one after another. A
    one_shot is a kernel of the program and no call of a library.
    """
    if chips == 1:
        return 0.0
    if collective.algorithm == ONE_SHOT:
        return chip.op_overhead
    bulk = chip.bulk_launch if collective.protocol == "bulk" else 0.0
    return chip.launch + bulk + (chip.message * (chips - 1 + collective.pieces) if collective.kind == "all_to_all" else 0.0)


def protocols(collective: Collective, chip: Chip) -> tuple[str, ...]:
    """Return the protocols in which a chip can send the messages of a collective: "" if there is one protocol for all.

    Switches sum only in the protocol for long messages, because flags cannot be summed. A one_shot waits for its data by flags.
    """
    if chip.bulk_launch == 0:
        return ("",)
    if collective.algorithm == ONE_SHOT:
        return ("low_latency",)
    return ("bulk",) if collective.algorithm == "in_network" else ("bulk", "low_latency")


def on_wire(collective: Collective, chip: Chip) -> Collective:
    """Return a collective with the bytes that links carry for it.

    A low-latency protocol adds flags. A switch that sums more slowly than its links counts as additional bytes.
    """
    share = chip.low_latency_rate if collective.protocol == "low_latency" else 1.0
    share *= chip.in_switch_rate if collective.algorithm == "in_network" else 1.0
    return collective if share == 1 else resized(collective, collective.bytes / share)


@dataclass(frozen=True)
class Stretch:
    """One phase of one part on one axis, as any chip of it sees it (on a line: the chip at its end).

    `sends[d]`, for direction d (0: +, 1: -), has the (step, bytes) of each message in order; each message waits for the one
    before.
    """

    index: int
    part: int
    axis: str
    sends: tuple[tuple[tuple[int, float], ...], ...]


def stretches(kind: str, algorithm: str, lengths: Mapping[str, int], ring: Mapping[str, bool], size: float, way: str,
              weights: Sequence[float], shift: Mapping[str, int],
              on: Mapping[str, tuple[int, ...]] | None = None) -> list[Stretch]:
    """Return the phases of a collective in queue order; `lengths` are those above 1, in order. one_ring: see one_axis.

    `shift` is that of a permute, and `on` the positions of its senders.
    """
    names = list(lengths)
    chips = prod(lengths.values())
    if kind == "permute":
        moving = [a for a in names if shift.get(a, 0) % lengths[a]]
        return [Stretch(i, 0, a, _permute(lengths[a], ring[a], shift[a], size, (on or {}).get(a))) for i, a in enumerate(moving)]
    if algorithm == "nested":
        return [Stretch(i, 0, a, _permute(lengths[a], ring[a], 1, size / chips))
                for i, a in enumerate(_odometer(lengths))]
    found = []
    for part, weight in enumerate(weights):
        order = names[part:] + names[:part]
        if not weight:
            continue
        index = 0
        if kind == "all_to_all":
            for index, a in enumerate(order):
                found.append(Stretch(index, part, a, _exchange(lengths[a], ring[a], size * weight / lengths[a], way)))
            continue
        blocks, grown = [], size * weight / chips
        for a in order:
            blocks.append((a, grown))
            grown *= lengths[a]
        if kind in ("reduce_scatter", "all_reduce"):
            for a, block in reversed(blocks):
                found.append(Stretch(index, part, a, _ring(lengths[a], ring[a], block, way, backwards=True)))
                index += 1
        if kind in ("all_gather", "all_reduce"):
            for a, block in blocks:
                found.append(Stretch(index, part, a, _ring(lengths[a], ring[a], block, way, backwards=False)))
                index += 1
    return sorted(found, key=lambda s: (s.index, s.part))


def _odometer(lengths: Mapping[str, int]) -> list[str]:
    """Return the axis that moves at each of the K - 1 turns of an odometer whose first axis is the fastest wheel."""
    walk = []
    for turn in range(1, prod(lengths.values())):
        for axis, length in lengths.items():
            if turn % length:
                walk.append(axis)
                break
            turn //= length
    return walk


def _ring(length: int, ring: bool, block: float, way: str,
          backwards: bool) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Return the messages of an all-gather, or of a reduce-scatter, along one axis."""
    last = length - 1
    if not ring:
        plus = minus = [(s, block) for s in range(1, length)]
    elif way == "one_way":
        plus, minus = [(s, block) for s in range(1, length)], []
    elif way == "throughput":
        plus = minus = [(s, block / 2) for s in range(1, length)]
    elif length % 2:
        last = length // 2
        plus = minus = [(s, block) for s in range(1, last + 1)]
    elif way == "latency":
        last = length // 2
        plus, minus = [(s, block) for s in range(1, last + 1)], [(s, block) for s in range(2, last + 1)]
    else:
        last = length // 2
        plus = minus = [(s, block) for s in range(1, last)] + [(last, block / 2)]
    if backwards:
        plus, minus = [(last - s + 1, b) for s, b in reversed(minus)], [(last - s + 1, b) for s, b in reversed(plus)]
    return tuple(plus), tuple(minus)


def _exchange(length: int, ring: bool, block: float, way: str) -> tuple[tuple[tuple[int, float], ...], ...]:
    """Return the messages of an all-to-all along one axis; on a line, the data that cross its middle, block after block."""
    if not ring:
        crossing = (length // 2) * ((length + 1) // 2)
        both = tuple((s, block) for s in range(1, crossing + 1))
        return both, both
    if way == "one_way":
        return tuple((s, block * (length - s)) for s in range(1, length)), ()
    half = length // 2
    farthest = 0.5 if length % 2 == 0 else 1.0  # half of the data for the opposite chip goes each way
    both = tuple((s, block * (half - s + farthest)) for s in range(1, half + 1))
    return both, both


def _permute(length: int, ring: bool, shift: int, size: float,
             senders: tuple[int, ...] | None = None) -> tuple[tuple[tuple[int, float], ...], ...]:
    ahead, back = shift % length, -shift % length
    if not ring:
        over = {place + ahead >= length for place in (range(length) if senders is None else senders)}
        return (tuple((s, size) for s in range(1, ahead + 1) if False in over),
                tuple((s, size) for s in range(1, back + 1) if True in over))
    if ahead == back:
        both = tuple((s, size / 2) for s in range(1, ahead + 1))
        return both, both
    hops = tuple((s, size) for s in range(1, min(ahead, back) + 1))
    return (hops, ()) if ahead < back else ((), hops)
