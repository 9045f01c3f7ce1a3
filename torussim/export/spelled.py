"""A timeline spelled out: every operation of every run of each list, and every message, those of repeated blocks too.

A Timeline stores a repeated block once, and the messages of the blocks that were simulated. A block that repeats has the
messages of the one that it repeats, later by the difference of their offsets. A block that a leap left out has messages between
those of the blocks on both sides of the leap: each block there adds the same time (engine.steady_state).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from torussim.program import Operation
from torussim.timeline import Sent, Timeline


@dataclass(frozen=True)
class Ran:
    """An operation on one chip in one run of its list; `start`, `end`: seconds.

    `block`: the number of the block, from 1; 0 in the prologue and the epilogue.
    """

    run: int
    section: str
    block: int
    operation: Operation
    chip: int
    start: float
    end: float


@dataclass(frozen=True)
class Messages:
    """The messages of the recorded chips, in order of run, chip, axis, direction and start.

    `repeated`, `between`, `missing`: the numbers of the blocks whose messages repeat those of an earlier block, lie between those
    of two blocks, and are not known.
    """

    sent: tuple[Sent, ...]
    repeated: tuple[int, ...] = ()
    between: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()


def block_numbers(timeline: Timeline) -> list[int]:
    """Return for each run the number of its block, from 1; 0 of a prologue or an epilogue."""
    numbers, last = list[int](), 0
    for segment, _ in timeline.runs:
        block = timeline.segments[segment].section == "block"
        last += block
        numbers.append(last if block else 0)
    return numbers


def operations(timeline: Timeline, chip: int) -> Iterator[Ran]:
    """Yield every operation of a chip in program order."""
    numbers = block_numbers(timeline)
    for run, operation, start, end in timeline.spans(chip):
        section = timeline.segments[timeline.runs[run][0]].section
        yield Ran(run, section, numbers[run], operation, chip, start, end)


def count(timeline: Timeline) -> int:
    """Return how many operations a chip runs, those of all repetitions."""
    return sum(len(timeline.segments[segment].operations) for segment, _ in timeline.runs)


def runs_of(timeline: Timeline) -> dict[str, int]:
    """Return how often each operation runs, by name."""
    return dict(Counter(operation.name for segment, _ in timeline.runs for operation in timeline.segments[segment].operations))


def messages(timeline: Timeline) -> Messages:
    """Return every message of the chips that were recorded."""
    simulated = {run: _ordered(list(sent)) for run, sent in groupby(sorted(timeline.sent, key=lambda s: s.run), lambda s: s.run)}
    of_segment = {timeline.runs[run][0]: run for run in reversed(simulated)}  # the first run of each segment that has any
    numbers, found = block_numbers(timeline), dict[int, list[Sent]]()
    repeated, between, missing = list[int](), list[int](), list[int]()
    for run, (segment, offset) in enumerate(timeline.runs):
        if run in simulated:
            found[run] = simulated[run]
        elif segment in of_segment:
            first = of_segment[segment]
            later = offset - timeline.runs[first][1]
            found[run] = [replace(s, start=s.start + later, end=s.end + later, run=run) for s in simulated[first]]
            repeated.append(numbers[run])
    if timeline.leapt:
        blocks = [run for run, number in enumerate(numbers) if number]
        for run in (run for run in blocks if run not in found):
            before = max((r for r in simulated if r < run and numbers[r]), default=None)
            after = min((r for r in simulated if r > run and numbers[r]), default=None)
            made = None if before is None or after is None else _between(simulated[before], simulated[after], before, after, run)
            (missing if made is None else between).append(numbers[run])
            found[run] = made or []
    every = tuple(sent for run in sorted(found) for sent in found[run])
    return Messages(every, tuple(repeated), tuple(between), tuple(missing))


def _ordered(sent: Sequence[Sent]) -> list[Sent]:
    return sorted(sent, key=lambda s: (s.chip, s.axis, -s.sign, s.start, s.end, s.operation))


def _between(one: Sequence[Sent], other: Sequence[Sent], before: int, after: int, run: int) -> list[Sent] | None:
    """Return the messages of a run between those of two others, None where these are not the same messages."""
    if [_what(s) for s in one] != [_what(s) for s in other]:
        return None
    share = (run - before) / (after - before)
    return [replace(a, start=a.start + share * (b.start - a.start), end=a.end + share * (b.end - a.end), run=run)
            for a, b in zip(one, other)]


def _what(sent: Sent) -> tuple[str, int, str, int, float]:
    return sent.operation, sent.chip, sent.axis, sent.sign, sent.bytes
