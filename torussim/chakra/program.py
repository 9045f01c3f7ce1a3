"""The operations of Chakra execution traces, as a scenario file writes a program, and what of the traces was not understood.

Every chip of a program of ours runs the same operations, so the files of all chips must have the same nodes, but for the times of
computations and for which group a collective is on. Who depends on a node that is left out depends on what that depends on. A
collective's `comm_size` is what a chip puts in: of an all-gather its shard. Dimension i of `involved_dim` is axis i.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import prod
from typing import Any

import numpy as np

from torussim.chakra.schema import COLLECTIVES, Node
from torussim.chips import Chip
from torussim.errors import FileError
from torussim.units import show

WAYS = ("recorded", "roofline")  # how long a computation takes: as the trace has it, or as the chip makes it of FLOP and bytes
OURS = {"ALL_REDUCE": "all_reduce", "REDUCE": "reduce", "ALL_GATHER": "all_gather", "GATHER": "gather", "SCATTER": "scatter",
        "BROADCAST": "broadcast", "ALL_TO_ALL": "all_to_all", "REDUCE_SCATTER": "reduce_scatter",
        "REDUCE_SCATTER_BLOCK": "reduce_scatter"}
GATHERED = ("all_gather", "gather")  # whose bytes are those of all shards
MARK, SECONDS = "torussim", "torussim_seconds"  # attributes of ours: an operation as a scenario has it; s of a computation
READ = {"is_cpu_op", "num_ops", "tensor_size", "comm_type", "comm_size", "involved_dim", "pg_name", "comm_src", "comm_dst", MARK,
        SECONDS}
LEFT_OUT = {"MEM_LOAD_NODE": "memory", "MEM_STORE_NODE": "memory", "COMM_SEND_NODE": "point-to-point",
            "COMM_RECV_NODE": "point-to-point", "METADATA_NODE": "metadata", "INVALID_NODE": "invalid"}
LONGEST, SHOWN = 60, 9  # letters of a name; nodes of a circle
Groups = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Trace:
    """What the file of one chip holds; `name`: of the file, for messages."""

    name: str
    nodes: Sequence[Node]


@dataclass(frozen=True)
class _Step:
    """A node that is an operation of ours: `what` is it as a scenario has it, without name, `after` and the group it is on."""

    node: Node
    what: Mapping[str, Any]
    group: str = ""


def operations(traces: Sequence[Trace], axes: Mapping[str, int], chip: Chip, *, compute: str = "recorded",
               groups: Groups | None = None, name: str = "") -> tuple[list[dict[str, Any]], list[str]]:
    """Return the operations of traces, one for all chips or one a chip, and sentences on what was not understood.

    `axes`: lengths of the network's; `groups`: the chips of each process group, by its name; `name`: of all files. Raise
    FileError where the traces are no program of ours.
    """
    said, unread, left = list[str](), Counter[str](), Counter[str]()
    every = [_steps(trace, unread, left) for trace in traces]
    _check_alike(traces, every)
    first, order = every[0], _order(traces[0], every[0], said)
    names, found, short, spread = _names(first), list[dict[str, Any]](), 0, 0.0
    for place, after in order:
        step = first[place]
        one: dict[str, Any] = {"name": names[step.node.id], "after": [names[number] for number in after]}
        if "collective" in step.what:
            one |= step.what if MARK in step.node.attributes else _sized(step, every, place, axes, groups or {}, said)
        else:
            seconds = [_seconds(steps[place].node, compute) for steps in every]
            if None in seconds:
                one |= {key: float(step.node.attributes.get(given) or 0) for key, given in (("flops", "num_ops"),
                                                                                            ("hbm_bytes", "tensor_size"))}
            else:
                known = np.array(seconds, float)
                spread = max(spread, float(np.ptp(known) / known.mean()) if known.any() else 0.0)
                short += bool(known.mean() < chip.op_overhead)
                one |= {"flops": max(0.0, float(known.mean()) - chip.op_overhead) * chip.rate("bf16") * chip.matmul_efficiency}
        found.append(one)
    return found, [_read_words(name or traces[0].name, len(traces), found, compute),
                   *_left_words(left, unread, short, spread, chip), *dict.fromkeys(said)]


def _steps(trace: Trace, unread: Counter[str], left: Counter[str]) -> list[_Step]:
    """Return the nodes of a file that are operations; count the attributes that are not read and the nodes left out."""
    found = list[_Step]()
    for node in trace.nodes:
        given = node.attributes
        unread.update(given.keys() - READ)
        if isinstance(given.get(MARK), str):
            marked = _marked(trace, node)
            if marked is not None:
                found.append(_Step(node, marked))
        elif given.get("is_cpu_op"):
            left["host"] += 1
        elif node.type == "COMP_NODE":
            found.append(_Step(node, {}))
        elif node.type == "COMM_COLL_NODE":
            number = given.get("comm_type", 0)
            kind = COLLECTIVES[number] if isinstance(number, int) and 0 <= number < len(COLLECTIVES) else ""
            if kind in OURS:
                what: dict[str, Any] = {"collective": OURS[kind], "bytes": float(given.get("comm_size") or 0)}
                dims = given.get("involved_dim")
                found.append(_Step(node, what | ({"dims": list(dims)} if isinstance(dims, tuple) and dims else {}),
                                   str(given.get("pg_name") or "")))
            else:
                left["barrier" if kind else "unknown collective"] += 1
        else:
            left[LEFT_OUT[node.type]] += 1
    if not found:
        raise FileError(f"{trace.name}: none of its {len(trace.nodes):,} nodes is an operation of a chip", code="value")
    return found


def _marked(trace: Trace, node: Node) -> dict[str, Any] | None:
    """Return the operation that torussim wrote into a node; None of the second node of one."""
    try:
        what = json.loads(node.attributes[MARK])
    except (ValueError, RecursionError):
        what = 0
    if what is None:
        return None
    if not isinstance(what, dict):
        raise FileError(f"{trace.name}: node {node.id}: its attribute {MARK} is no operation", code="value")
    return {key: value for key, value in what.items() if key not in ("name", "after")}


def _check_alike(traces: Sequence[Trace], every: Sequence[Sequence[_Step]]) -> None:
    """Raise FileError where the files of two chips have other operations, with the first of them."""
    first = every[0]
    for trace, steps in zip(traces[1:], every[1:]):
        place = next((i for i, (a, b) in enumerate(zip(first, steps)) if (a.what, a.node.id) != (b.what, b.node.id)),
                     min(len(first), len(steps)))
        if place < max(len(first), len(steps)):
            shown = [f"{one[place].node.type} {one[place].node.name[:LONGEST]!r} (node {one[place].node.id})"
                     if place < len(one) else "none" for one in (first, steps)]
            raise FileError(f"{trace.name} and {traces[0].name} are not the same program: operation {place + 1} is {shown[1]} in "
                            f"the one and {shown[0]} in the other; every chip must run the same operations", code="clash")


def _order(trace: Trace, steps: Sequence[_Step], said: list[str]) -> list[tuple[int, list[int]]]:
    """Return the operations, each after all that it waits for, else as in the file, with the nodes that each waits for."""
    place = {node.id: i for i, node in enumerate(trace.nodes)}
    needs = {node.id: [number for number in node.after if number in place] for node in trace.nodes}
    lost = sum(len(node.after) - len(needs[node.id]) for node in trace.nodes)
    if lost:
        said.append(f"{lost:,} dependencies of the trace are on nodes that are not in it")
    waits = {number: len(before) for number, before in needs.items()}
    then: dict[int, list[int]] = {number: [] for number in place}
    for number, before in needs.items():
        for one in before:
            then[one].append(number)
    mine, after = {step.node.id: i for i, step in enumerate(steps)}, dict[int, dict[int, None]]()
    ready, found = [place[number] for number, left in waits.items() if not left], list[tuple[int, list[int]]]()
    heapify(ready)
    while ready:
        node = trace.nodes[heappop(ready)]
        known = dict.fromkeys(one for number in needs[node.id] for one in after[number])
        after[node.id] = known
        if node.id in mine:
            found.append((mine[node.id], list(known)))
            after[node.id] = {node.id: None}
        for number in then[node.id]:
            waits[number] -= 1
            if not waits[number]:
                heappush(ready, place[number])
    if len(after) < len(place):
        walk = [next(number for number in place if number not in after)]
        while walk[-1] not in walk[:-1]:
            walk.append(next(number for number in needs[walk[-1]] if number not in after))
        circle = " -> ".join(map(str, walk[walk.index(walk[-1]):][:SHOWN]))
        raise FileError(f"{trace.name}: nodes wait for each other: {circle}", code="cycle")
    return found


def _names(steps: Sequence[_Step]) -> dict[int, str]:
    """Return a name of its own for each operation: that of its node, with a number from the second of a name on."""
    found, often, taken = dict[int, str](), Counter[str](), set[str]()
    for step in steps:
        base = step.node.name.strip()[:LONGEST].strip() or "operation"
        often[base] += 1
        name = base if often[base] == 1 else f"{base} {often[base]}"
        while name in taken:
            often[base] += 1
            name = f"{base} {often[base]}"
        taken.add(name)
        found[step.node.id] = name
    return found


def _sized(step: _Step, every: Sequence[Sequence[_Step]], place: int, axes: Mapping[str, int], groups: Groups,
           said: list[str]) -> dict[str, Any]:
    """Return a collective with where it runs and the bytes as we count them."""
    what = {key: value for key, value in step.what.items() if key != "dims"}
    dims, names = step.what.get("dims"), list(axes)
    used = [name for name, there in zip(names, dims) if there] if dims else names
    if dims and (any(dims[len(names):]) or not used):
        raise FileError(f"{step.node.name[:LONGEST]!r} (node {step.node.id}) is over dimensions {dims}, but the network has the "
                        f"axes {', '.join(names)}", code="clash")
    on = list(dict.fromkeys(tuple(groups[one.group]) for one in (steps[place] for steps in every) if one.group in groups))
    if step.group and step.group not in groups and not dims:
        said.append(f"no chips are known of the process group {step.group!r}: its collectives run on all chips")
    if on and not dims and len(on[0]) < prod(axes.values()):
        chips = max(map(len, on))
        lengths = tuple(axes.values())
        what["groups"] = [[[int(i) for i in np.unravel_index(number, lengths)] for number in group] for group in on]
    else:
        chips = prod(axes[name] for name in used)
        what["axes"] = used
    return what | {"bytes": what["bytes"] * (chips if what["collective"] in GATHERED else 1)}


def _seconds(node: Node, compute: str) -> float | None:
    """Return how long a computation takes, None where the chip is to find that from FLOP and bytes."""
    sized = any(node.attributes.get(key) for key in ("num_ops", "tensor_size"))
    exact = node.attributes.get(SECONDS)
    recorded = exact if isinstance(exact, float) else node.duration_us * 1e-6
    return None if sized and (compute == "roofline" or not recorded) else recorded


def _read_words(name: str, chips: int, found: Sequence[Mapping[str, Any]], compute: str) -> str:
    collectives = sum("collective" in one for one in found)
    of = f"{chips:,} chips" if chips > 1 else "one chip, for all"
    how = "take the times of the trace" if compute == "recorded" else "take what the chip makes of their FLOP and bytes"
    return (f"{name}: a Chakra trace of {of}: {len(found) - collectives:,} computations, which {how}, and "
            f"{collectives:,} collectives")


def _left_words(left: Counter[str], unread: Counter[str], short: int, spread: float, chip: Chip) -> list[str]:
    """Return a sentence for each thing that was not understood."""
    found = []
    if left:
        parts = [f"{number:,} {what} node{'s' if number > 1 else ''}" for what, number in sorted(left.items())]
        found.append(f"left out of the trace: {', '.join(parts)}")
    if unread:
        found.append("attributes of the trace that were not read: "
                     + ", ".join(f"{name[:LONGEST]} ({number:,})" for name, number in sorted(unread.items())[:20]))
    if short:
        found.append(f"{short:,} computations are shorter than the overhead of an operation, {show(chip.op_overhead, 's')}, "
                     "which they take")
    if spread > 0.01:
        found.append(f"computations take the mean of all chips; on these they differ by up to {spread:.0%}")
    return found
