"""A timeline as Chakra execution traces, a file a chip: nodes with what they depend on, and attributes as simulators read them.

An operation is a COMP_NODE or a COMM_COLL_NODE. A permute and a send have no kind there: they are a COMM_SEND_NODE and a
COMM_RECV_NODE. The attribute `torussim` has a collective as a scenario writes it, and `torussim_seconds` the time of a
computation, of which `duration_micros` has whole microseconds; with them a trace can be read back.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np

from torussim.chakra.program import GATHERED, MARK, OURS, SECONDS
from torussim.chakra.schema import COLLECTIVES, Node, Typed, written
from torussim.export.shown import Shown
from torussim.export.spelled import operations
from torussim.program import Collective, Operation, of_each
from torussim.scenario.program import describe_operation
from torussim.topology.grid import Grid

MOVES = ("permute", "send")  # of no kind in Chakra


def files(traced: Shown) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file: of each chip, and of the groups of chips that collectives name, if any do."""
    given = {o.name: o for o in traced.program.operations()}
    groups = {name: _groups(o, traced.net) for name, o in given.items() if isinstance(o, Collective)}
    for chip in traced.chips:
        about = {"torussim": Typed("string", json.dumps({**traced.about, "chip": list(traced.net.chips[chip])}))}
        yield f"trace.{chip}.et", written(_nodes(traced, chip, given, groups), about)
    named = {_group_name(name, number): list(group) for name, several in groups.items() for number, group in enumerate(several)}
    if named:
        yield "comm_groups.json", json.dumps(named).encode() + b"\n"


def _nodes(traced: Shown, chip: int, given: Mapping[str, Operation],
           groups: Mapping[str, Sequence[Sequence[int]]]) -> Iterator[Node]:
    """Yield the nodes of a chip. The nodes of operation i of all that run are 2 i and, of a receive, 2 i + 1."""
    ends, before, last, run = dict[str, list[int]](), list[int](), list[int](), -1
    for number, one in enumerate(operations(traced.timeline, chip)):
        operation, first = given[one.operation.name], 2 * number
        if one.run != run:  # the list begins anew
            ends, before, run = {}, last, one.run
        after = last if operation.after is None else [node for name in operation.after for node in ends[name]] or before
        ends[operation.name] = last = [first]
        times = {"start_us": round(one.start * 1e6), "duration_us": round((one.end - one.start) * 1e6)}
        attributes = {"is_cpu_op": Typed("bool", False)}
        if not isinstance(operation, Collective):
            work = traced.timeline.work[operation.name]
            net, flops = traced.net, operation.total_flops
            if operation.cases:
                flops = of_each(operation, lambda case: case.total_flops, net.length, dict(zip(net.axes, net.coordinates)))[chip]
            attributes |= {"num_ops": Typed("int64", round(flops)),
                           "tensor_size": Typed("uint64", round(traced.facts[operation.name]["bytes"])),
                           SECONDS: Typed("double", float(work.busy[chip] + work.fixed[chip]))}
            yield Node(first, operation.name, "COMP_NODE", tuple(after), attributes=attributes, **times)
            continue
        physical = traced.net.links.axes
        mark = ({MARK: Typed("string", json.dumps(describe_operation(operation, physical)))}
                if set(operation.axes) <= set(physical) else {})  # a scenario's program knows no parts of axes
        if operation.kind in MOVES:
            to, source = _moves(operation, traced.net, chip)
            moves = [(kind, key, other) for kind, key, other in (("COMM_SEND_NODE", "comm_dst", to),
                                                                ("COMM_RECV_NODE", "comm_src", source)) if other is not None]
            last += [first + 1] * (len(moves) - 1)
            for i, (kind, key, other) in enumerate(moves or [("METADATA_NODE", "", 0)]):
                size = {"comm_size": Typed("int64", round(operation.bytes)), key: Typed("int32", other)} if key else {}
                yield Node(first + i, operation.name, kind, tuple(after), **times, attributes=attributes | size | (
                    mark if i == 0 else {MARK: Typed("string", "null")}))
            continue
        yield Node(first, operation.name, "COMM_COLL_NODE", tuple(after), **times,
                   attributes=attributes | _sizes(operation, traced.net, chip, groups[operation.name]) | mark)


def _sizes(o: Collective, net: Grid, chip: int, groups: Sequence[Sequence[int]]) -> dict[str, Typed]:
    """Return kind, size and place of a collective: `involved_dim`, or the name of the group that a chip is in."""
    kind = next(name for name, ours in OURS.items() if ours == o.kind)
    chips = max(map(len, groups)) if groups else prod(map(net.length, o.axes))
    found = {"comm_type": Typed("int64", COLLECTIVES.index(kind)),
             "comm_size": Typed("int64", round(o.bytes / (chips if o.kind in GATHERED else 1)))}
    if not groups:
        return found | {"involved_dim": Typed("bool_list", [axis in o.axes for axis in net.links.axes])}
    mine = next((number for number, group in enumerate(groups) if chip in group), None)
    return found | ({"pg_name": Typed("string", _group_name(o.name, mine))} if mine is not None else {})


def _group_name(name: str, number: int) -> str:
    return f"{name} {number}"


def _groups(o: Collective, net: Grid) -> Sequence[Sequence[int]]:
    """Return the chips of each group of a collective; none where `involved_dim` says it."""
    if o.groups or set(o.axes) <= set(net.links.axes) or o.kind in MOVES:
        return [] if o.kind in MOVES else o.groups
    others = net.coordinates[[i for i, axis in enumerate(net.axes) if axis not in o.axes]]
    label = np.unique(others, axis=1, return_inverse=True)[1].reshape(-1) if len(others) else np.zeros(len(net.chips), int)
    return [np.flatnonzero(label == number).tolist() for number in range(int(label.max()) + 1)]


def _moves(o: Collective, net: Grid, chip: int) -> tuple[int | None, int | None]:
    """Return to which chip a chip sends in a permute or a send, and from which it receives; None for none."""
    if o.kind == "send":
        ends = [group for group in o.groups if chip in group]
        return (ends[0][1], None) if ends and ends[0][0] == chip else (None, ends[0][0]) if ends else (None, None)
    shape, at = net.shape, net.coordinates[:, chip]
    shift = np.array([o.shift.get(axis, 0) for axis in net.axes])
    place = [np.flatnonzero((net.coordinates == ((at + sign * shift) % shape)[:, None]).all(axis=0))[0] for sign in (1, -1)]
    return (None, None) if place[0] == chip else (int(place[0]), int(place[1]))
