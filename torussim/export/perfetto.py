"""A timeline as a trace in the Chrome trace-event format, which ui.perfetto.dev and chrome://tracing open.

A process is a chip, and one more is the network. A chip has a thread for its compute unit, one or more for its collectives, one
for each direction of each axis with the messages that it sends there ("x+, routed": the hop has no link of its own), and one for
each of its links that routed collectives use. Slices of one thread never overlap. Times are in microseconds, in whole
nanoseconds, each rounded alone, so that what is in order stays so. Equal runs give equal bytes.

The format: "Trace Event Format", docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Any

import numpy as np

from torussim import analysis
from torussim.export.counters import exposed_share, link_use_steps
from torussim.export.events import THREADS, arrow, counter, named, ns, place, span, thread
from torussim.export.shown import Shown
from torussim.export.spelled import Messages, Ran, block_numbers, messages, operations, runs_of
from torussim.program import Collective
from torussim.timeline import Timeline

NETWORK = 1  # number of the network's process; chips follow
COMPUTE, COLLECTIVES, LINKS, ROUTED = 1, 10, 100, 500  # a chip's first thread of each sort
GROUP = 20_000  # events that are compressed at a time


def encode(trace: Shown) -> bytes:
    """Return a trace as the bytes of a .json.gz file."""
    buffer = io.BytesIO()
    sent = messages(trace.timeline)
    about = {**trace.about, **_blocks(trace.timeline, sent)}
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=6, mtime=0) as file:
        head = f'{{"displayTimeUnit":"ns","otherData":{json.dumps(about, allow_nan=False)},"traceEvents":[\n'
        file.write(head.encode())
        lines, between = _events(trace, sent), ""
        while group := list(islice(lines, GROUP)):
            file.write((between + ",\n".join(group)).encode())
            between = ",\n"
        file.write(b"\n]}\n")
    return buffer.getvalue()


def _blocks(timeline: Timeline, sent: Messages) -> dict[str, Any]:
    """Return what the trace says of its blocks: which were simulated, and where the messages of the others come from."""
    found: dict[str, Any] = {"blocks": timeline.blocks, "blocks_simulated": timeline.blocks_simulated}
    for key, numbers in (("blocks_repeated", sent.repeated), ("blocks_without_messages", sent.missing)):
        if numbers:
            found[key] = _ranges(numbers)
    return found


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as ranges.

    >>> _ranges([1, 2, 3, 7])
    '1-3, 7'
    """
    parts = list[list[int]]()
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ", ".join("-".join(map(str, part)) for part in parts)


def _events(trace: Shown, sent: Messages) -> Iterator[str]:
    """Yield every event as JSON: names first, then what happened."""
    process = {chip: NETWORK + 1 + number for number, chip in enumerate(trace.chips)}
    yield from named(NETWORK, "network", 0)
    for chip, number in process.items():
        yield from named(number, f"chip {place(trace.net.chips[chip])}", number)
    for axis, steps in link_use_steps(trace.timeline, trace.net).items():
        name = f"links of axis {axis}" if axis != "none" else "links of no axis"
        yield from (counter(NETWORK, name, at, "busy", share) for at, share in steps)
    ran = [_Chip(trace, chip, number) for chip, number in process.items()]
    for one in ran:
        yield from one.computes()
        yield from one.collectives()
        yield from one.routed({s.operation for s in sent.sent})
    yield from _sends(trace, {one.chip: one for one in ran}, sent)


class _Chip:
    """What one chip does, as events; `on`: by run and name of a collective, what it ran and on which thread that is."""

    def __init__(self, trace: Shown, chip: int, process: int) -> None:
        self.trace, self.chip, self.process, self.first = trace, chip, process, process * THREADS
        ran = sorted(operations(trace.timeline, chip), key=lambda one: (one.start, one.run))
        self.computing = [one for one in ran if not isinstance(one.operation, Collective)]
        self.talking = [one for one in ran if isinstance(one.operation, Collective)]
        self.lanes = list[int]()
        self.on = {(one.run, one.operation.name): (one, self.first + COLLECTIVES + _lane(self.lanes, one))
                   for one in self.talking}

    def computes(self) -> Iterator[str]:
        """Yield what the compute unit runs, and what it waits for."""
        timeline, chip, on = self.trace.timeline, self.chip, self.first + COMPUTE
        if not self.computing:
            return
        yield thread(self.process, on, "compute")
        for one in self.computing:
            work = timeline.work[one.operation.name]
            busy, fixed = float(work.busy[chip]), float(work.fixed[chip])
            yield span(self.process, on, one.operation.name, "compute", one.start, one.end, {
                **self.trace.facts[one.operation.name], "compute_s": busy, "overhead_s": fixed,
                "waits_within_s": max(0.0, one.end - one.start - busy - fixed), **_when(one)})
        for a, b in analysis.waits(timeline, chip, float(timeline.begin[chip]), float(timeline.finish[chip])).tolist():
            yield span(self.process, on, "exposed communication", "exposed", a, b, {"exposed_s": b - a})
        for at, share in exposed_share(timeline, chip):
            yield counter(self.process, "exposed communication", at, "share", share)

    def collectives(self) -> Iterator[str]:
        """Yield the collectives that the chip takes part in."""
        for one, on in self.on.values():
            said, seconds = self.trace.facts[one.operation.name], one.end - one.start
            launch = float(self.trace.timeline.work[one.operation.name].fixed[self.chip])
            yield span(self.process, on, one.operation.name, "collective", one.start, one.end, {
                **said, "bandwidth": said["bytes"] / seconds if seconds > 0 else None, "launch_s": launch, **_when(one)})
        yield from self.threads("collectives", COLLECTIVES, len(self.lanes))

    def routed(self, single: Set[str]) -> Iterator[str]:
        """Yield what collectives other than `single` put on each link out of the chip: a slice as long as the collective.

        Their messages are routed, and not kept one by one. The bytes are those of all chips that send over the link.
        """
        timeline, links, first = self.trace.timeline, self.trace.net.links, ROUTED
        mine = [one for one in self.talking if one.operation.name in timeline.carried and one.operation.name not in single]
        often = runs_of(timeline)
        for link in np.flatnonzero(links.source == self.chip).tolist() if mine else ():
            lanes = list[int]()
            for one in mine:
                size = float(timeline.carried[one.operation.name][link]) / often[one.operation.name]
                if size > 0:
                    rate = size / (one.end - one.start) if one.end > one.start else None
                    yield span(self.process, self.first + first + _lane(lanes, one), one.operation.name, "routed", one.start,
                               one.end, {"bytes": size, "mean_bandwidth": rate, **_when(one)})
            yield from self.threads(f"link to {place(links.nodes[links.target[link]])}, routed", first, len(lanes))
            first += len(lanes)

    def threads(self, name: str, first: int, count: int) -> Iterator[str]:
        """Yield the names of a few threads of one sort."""
        for lane in range(count):
            yield thread(self.process, self.first + first + lane, name + (f" {lane + 1}" if lane else ""))


def _sends(trace: Shown, shown: Mapping[int, _Chip], sent: Messages) -> Iterator[str]:
    """Yield the messages between neighbours, and for each whose receiver is shown an arrow to the collective that it is part of.

    An arrow ends when the message arrives, or, on a chip that comes later, when the collective begins there.
    """
    net, numbers, arrows, threads = trace.net, block_numbers(trace.timeline), 0, set[int]()
    for s in sent.sent:
        if s.chip not in shown:
            continue
        axis, way, here = net.axis(s.axis), 0 if s.sign > 0 else 1, shown[s.chip]
        on, to, seconds = here.first + LINKS + 2 * axis + way, int(net.target[axis, way, s.chip]), s.end - s.start
        if on not in threads:
            threads.add(on)
            routed = ", routed" if net.gap[axis, way, s.chip] else ""
            yield thread(here.process, on, f"{s.axis}{'+-'[way]}{routed}")
        yield span(here.process, on, s.operation, "message", s.start, s.end, {
            "bytes": s.bytes, "bandwidth": s.bytes / seconds if seconds > 0 else None, "to": place(net.chips[to]),
            **({"block": numbers[s.run]} if numbers[s.run] else {})})
        if to in shown and (s.run, s.operation) in shown[to].on:
            there, their = shown[to].on[s.run, s.operation]
            begin = ns(s.start)
            came = min(max(ns(s.end + float(net.latency[axis, way, s.chip])), ns(there.start)), ns(there.end) - 2)
            if came >= max(begin, ns(there.start)):
                arrows += 1
                yield arrow(arrows, s.operation, sender=(here.process, on), sent=begin, receiver=(shown[to].process, their),
                            came=came)


def _lane(lanes: list[int], one: Ran) -> int:
    """Return the first lane that is free from an operation's start on, and is taken until its end; `lanes`: until when, ns."""
    begin = ns(one.start)
    lane = next((i for i, free in enumerate(lanes) if free <= begin), len(lanes))
    lanes[lane:lane + 1] = [ns(one.end)]
    return lane


def _when(one: Ran) -> dict[str, Any]:
    return {"section": one.section} | ({"block": one.block} if one.block else {})
