"""The bytes that a run with shared links still has to send over some of its paths: they take other links once a link has failed.

No block run since the start may have been left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from torussim.engine.network_model import NetworkModel
from torussim.engine.routed import Shared
from torussim.engine.run_state import State
from torussim.engine.schedule_table import Table
from torussim.topology.routes import spread

Array = np.ndarray[Any, Any]


def unsent(table: Table, state: State, network: NetworkModel, net: Any, often: Sequence[int], number: int,
           paths: Array) -> Array:
    """Return (operations, paths) the bytes that each operation still has to send over some paths, in ascending order.

    `often`: the number of block runs of each section. `number`: the number of block runs made.
    """
    left, hops = np.zeros((len(table.operations), len(paths))), len(table.hops)
    near = int(np.searchsorted(paths, hops))
    _of_hops(table, state, often, number, paths[:near], left)
    _of_messages(table, state, often, number, paths[near:] - hops, left[:, near:])
    slots = network.live(net)
    slots = slots[np.isin(net.flows["path"][slots], paths)]
    for path, remaining in zip(net.flows["path"][slots].tolist(), network.left(net, slots).tolist()):
        if path < hops:
            moving = table.transfers[state.hops["at"][path]]
            counted = True  # by `_of_hops`, with all its bytes
        else:
            moving = table.directs[int(np.searchsorted(table.directs["path"], path, side="right")) - 1]
            counted = moving["turns"] > 0  # by `_of_messages`
        o, size = table.stages["operation"][moving["stage"]], moving["bytes"]
        left[o, np.searchsorted(paths, path)] += remaining - (size if counted else 0.0)
    return left


def _of_hops(table: Table, state: State, often: Sequence[int], number: int, hops: Array, left: Array) -> None:
    """Add the bytes in the queues of hops; a head counts with all its bytes."""
    queue, first = state.hops[hops], 0
    for section, times in enumerate(often):
        entry, place = spread(table.queues[section], hops)
        done = np.clip(queue["run"] - first, 0, times)
        here = (queue["run"] >= first) & (queue["run"] < min(first + times, number))  # the head of the queue is in this section
        runs = (times - done)[place] - (here[place] & (entry < queue["at"][place]))
        transfers = table.transfers[entry]
        np.add.at(left, (table.stages["operation"][transfers["stage"]], place), transfers["bytes"] * runs)
        first += times


def _of_messages(table: Table, state: State, often: Sequence[int], number: int, messages: Array, left: Array) -> None:
    """Add the messages of routed operations that have not begun; in shifts, the messages that have not ended.

    `messages`: their paths, counted from the first path of a routed message.
    """
    hops, chips = len(table.hops), len(state.unit)
    of_path = np.searchsorted(table.directs["path"] - hops, messages, side="right") - 1
    for d, direct in enumerate(table.directs):
        here = np.flatnonzero(of_path == d)
        message = messages[here] - (direct["path"] - hops)
        o = int(table.stages["operation"][direct["stage"]])
        section = int(np.searchsorted(table.sections["operation"], o, side="right")) - 1
        runs = np.full(len(here), float(often[section] - np.clip(number - sum(often[:section]), 0, often[section])))
        chip = message % chips
        for slot in np.flatnonzero((state.runs["number"] >= 0) & (state.runs["section"] == section)):
            if direct["turns"]:
                waits = np.isnan(state.passed["sent"][slot, direct["passed"] + message])
            else:
                known = ~np.isnan(state.stages["base"][slot, chip, direct["stage"]])
                start = state.start[hops + (slot * len(table.directs) + d) * chips + chip]
                waits = ~known | (start < np.inf)
            runs += waits
        size = direct["bytes"] if direct["sizes"] < 0 else table.sizes[direct["sizes"] + message]
        left[o, here] += np.where(table.receiver[direct["receiver"] + message] >= 0, size * runs, 0.0)


def moved(through: Shared, rest: Sequence[Array], links: int) -> Array:
    """Return (operations, links) the bytes that each has carried beyond the bytes by the routes at the start; can be negative.

    `rest`: the results of `unsent` for the paths that changed at each event that has happened.
    """
    found = np.zeros((len(rest[0]) if len(rest) else 0, links))
    rows, row, count = through.rows, np.arange(len(through.paths)), len(through.paths)
    for (paths, routes), left in zip(through.later, rest):
        before = rows.take(row[paths])
        for o in np.flatnonzero(left.any(axis=1)).tolist():
            found[o] += routes.load(left[o], links) - before.load(left[o], links)
        row[paths] = count + np.arange(len(paths))
        count += len(paths)
    return found
