"""A timeline as two tables: a row for each operation of each chip and block, and one for each message; CSV or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torussim.export.shown import Shown
from torussim.export.spelled import block_numbers, messages, operations
from torussim.program import Collective

Row = dict[str, Any]
OPERATIONS = ["run", "section", "block", "operation", "kind", "axes", "chip", "start_s", "end_s", "compute_s", "fixed_s", "bytes"]
MESSAGES = ["run", "section", "block", "operation", "chip", "axis", "direction", "to", "start_s", "end_s", "latency_s", "bytes"]


@dataclass(frozen=True)
class Rows:
    """Rows that are made anew each time that they are gone through, as a table can be longer than the memory."""

    make: Callable[[], Iterator[Row]]

    def __iter__(self) -> Iterator[Row]:
        return self.make()


def operation_rows(of: Shown) -> Iterator[Row]:
    """Yield a row for each operation that ran on each chip that is shown, chip by chip in program order.

    `start_s`, `end_s`: seconds from the start of the pass; `compute_s`, `fixed_s`: of these the compute unit's work, and the
    overhead or launch; `bytes`: of a collective as docs/design.md, section 4, counts them, else HBM bytes.
    """
    timeline = of.timeline
    for chip in of.chips:
        name = coordinates(timeline.chips[chip])
        for one in operations(timeline, chip):
            operation, work = one.operation, timeline.work[one.operation.name]
            kind, axes = (operation.kind, " ".join(operation.axes)) if isinstance(operation, Collective) else ("compute", "")
            numbers = one.start, one.end, work.busy[chip], work.fixed[chip], of.facts[operation.name]["bytes"]
            yield dict(zip(OPERATIONS, (one.run, one.section, one.block, operation.name, kind, axes, name, *map(float, numbers)),
                           strict=True))


def message_rows(of: Shown) -> Iterator[Row]:
    """Yield a row for each message between neighbours that a recorded chip sends, run by run.

    `start_s`, `end_s`: from when to when it occupies its link; it arrives `latency_s` later. Routed messages are not kept.
    """
    timeline, net = of.timeline, of.net
    numbers = block_numbers(timeline)
    for sent in messages(timeline).sent:
        axis, way = net.axis(sent.axis), 0 if sent.sign > 0 else 1
        section, to = timeline.segments[timeline.runs[sent.run][0]].section, net.chips[net.target[axis, way, sent.chip]]
        yield dict(zip(MESSAGES, (sent.run, section, numbers[sent.run], sent.operation, coordinates(timeline.chips[sent.chip]),
                                  sent.axis, "+-"[way], coordinates(to), sent.start, sent.end,
                                  float(net.latency[axis, way, sent.chip]), sent.bytes), strict=True))


def coordinates(chip: tuple[int, ...]) -> str:
    """Return a chip as the command line takes it: its coordinates with commas between them."""
    return ",".join(map(str, chip))
