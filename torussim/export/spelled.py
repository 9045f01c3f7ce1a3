"""A timeline spelled out: every operation of every run of each list, and every message, those of repeated blocks too.

A Timeline stores a repeated block once, and the messages of the blocks that were simulated. A block that repeats has the
messages of the one that it repeats, later by the difference of their offsets. The messages of blocks that a leap left out are not
known: only the times of their operations are. Who needs them simulates every block (`answer.replay`).
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

    `block`: the number of the block run, from 1, over all blocks; 0 in the prologue and the epilogue.
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

    `repeated`, `missing`: the numbers of the blocks whose messages repeat those of an earlier block, and are not known.
    """

    sent: tuple[Sent, ...]
    repeated: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()


def block_numbers(timeline: Timeline) -> list[int]:
    """Return for each run its number among the block runs, from 1, over all blocks; 0 of a prologue or an epilogue."""
    numbers, last = list[int](), 0
    for segment, _ in timeline.runs:
        block = timeline.segments[segment].is_block
        last += block
        numbers.append(last if block else 0)
    return numbers


def operations(timeline: Timeline, chip: int) -> Iterator[Ran]:
    """Yield every operation of a chip in program order."""
    numbers = block_numbers(timeline)
    for run, operation, start, end in timeline.spans(chip):
        section = timeline.segments[timeline.runs[run][0]].section
        yield Ran(run, section, numbers[run], operation, chip, start, end)


def runs_of(timeline: Timeline) -> dict[str, int]:
    """Return how often each operation runs, by name."""
    return dict(Counter(operation.name for segment, _ in timeline.runs for operation in timeline.segments[segment].operations))


def messages(timeline: Timeline) -> Messages:
    """Return every message of the chips that were recorded."""
    simulated = {run: _ordered(list(sent)) for run, sent in groupby(sorted(timeline.sent, key=lambda s: s.run), lambda s: s.run)}
    of_segment = {timeline.runs[run][0]: run for run in reversed(simulated)}  # the first run of each segment that has any
    numbers, found = block_numbers(timeline), dict[int, list[Sent]]()
    repeated = list[int]()
    for run, (segment, offset) in enumerate(timeline.runs):
        if run in simulated:
            found[run] = simulated[run]
        elif segment in of_segment:
            first = of_segment[segment]
            later = offset - timeline.runs[first][1]
            found[run] = [replace(s, start=s.start + later, end=s.end + later, run=run) for s in simulated[first]]
            repeated.append(numbers[run])
    missing = [number for run, number in enumerate(numbers) if number and run not in found] if timeline.leapt else []
    every = tuple(sent for run in sorted(found) for sent in found[run])
    return Messages(every, tuple(n for n in repeated if n), tuple(missing))


def _ordered(sent: Sequence[Sent]) -> list[Sent]:
    return sorted(sent, key=lambda s: (s.chip, s.axis, -s.sign, s.start, s.end, s.operation))
