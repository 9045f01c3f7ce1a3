"""The state of a run with shared links: arrays of records, and their values before anything has happened."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple

import numpy as np

from torussim.engine.schedule_table import Table

Array = np.ndarray[Any, Any]
SLOTS = 2  # block runs at a time, initially; a power of 2

CHIP_OPERATION = np.dtype([("at", float), ("start", float), ("end", float), ("missing", np.int32), ("parts", np.int32)])
CHIP_STAGE = np.dtype([("base", float), ("arrived", float), ("due", np.int32)])
PASSED = np.dtype([("sent", float), ("got", float)])
HEAD = np.dtype([("time", float), ("due", np.int32)])
RUN = np.dtype([("number", np.int64), ("section", np.int32), ("left", np.int64), ("next_unit", np.int64)])
QUEUE = np.dtype([("ended", float), ("run", np.int64), ("at", np.int64), ("doing", np.int32)])
TURN = np.dtype([("run", np.int64), ("place", np.int32)])
WORK = np.dtype([("time", float), ("run", np.int64), ("what", np.int32), ("index", np.int32), ("chip", np.int32)])
ENTRY = np.dtype([("time", float), ("chip", np.int32)])
BEGIN = np.dtype([("run", np.int64), ("message", np.int32), ("count", np.int32)])
LOG = np.dtype([("run", np.int64), ("operation", np.int32), ("hop", np.int32), ("chip", np.int32), ("start", float),
                ("end", float), ("bytes", float)])
ONE = np.dtype([(name, np.int64) for name in ("work", "entered", "starts", "logged", "runs", "events", "margin", "log_margin",
                                              "recording")])


class State(NamedTuple):
    """All that changes in a run, except the network; nan: a time that is not yet known."""

    operations: Array  # (slots, chips, operations)
    stages: Array  # (slots, chips, stages)
    lacking: Array  # (slots, stages, chips) at a private lane's lead: chips that have not arrived, -1 after the run
    came: Array  # (slots, transfers) the arrival of each
    shards: Array  # (slots, keys, chips) when a piece of a loop is available; -inf: no operation waits for it
    passed: Array  # (slots, messages of operations in shifts, or piped)
    heads: Array  # (slots, `Table.heads`, chips) messages that have not begun to arrive
    runs: Array  # (slots,)
    unit: Array  # (chips,) the time from which on the compute unit is free
    free: Array  # (hops + 1,) the time from which on each hop is free; if its head waits or sends: when it began to
    hops: Array  # (hops + 1,) their queues
    turns: Array  # (axes, chips) at the first chip of a line: the stage that the line runs next
    work: Array
    entered: Array  # (chips,) the chips that have reached the end of the last run that exists
    start: Array  # (starts,) the known starts of flows: of each hop, then of routed operations by slot and chip
    start_heap: Array
    start_place: Array
    begin: Array  # (starts,) of routed operations: the messages that start
    recorded: Array  # (chips,) whether messages are logged
    log: Array
    scratch: Array  # (2 + rows, chips) of the present lane: when chips may send, their latest arrivals, the arrivals of each row
    one: Array


def fresh(table: Table, begin: Array, record: Sequence[int], slots: int = SLOTS) -> State:
    """Return the state before anything has happened."""
    chips, hops, directs = len(begin), len(table.hops), max(1, len(table.directs))
    axes = table.order.shape[1] if len(table.order) else 0
    starts = hops + slots * directs * chips
    children = np.bincount(table.transfers["parent"][table.transfers["parent"] >= 0]).max(initial=0)
    widest = int(table.lanes["count"].max(initial=0)) * (int(table.stages["places"].max(initial=0)) + 1)
    margin = 16 + max(widest, len(table.operations), int(table.operations["tells"].max(initial=0)),
                      int(table.operations["stages"].max(initial=0)), 2 * axes, int(children),
                      int((table.directs["messages"] * table.directs["piped"]).max(initial=0)))
    lane_log = int(table.lanes["count"].max(initial=0)) * int(table.lane_rows["rows"].max(initial=0))
    recorded = np.zeros(chips, bool)
    recorded[list(record)] = True
    one = np.zeros(1, ONE)
    one["margin"], one["log_margin"], one["recording"] = margin, lane_log + margin, recorded.any()
    state = State(
        np.zeros((slots, chips, len(table.operations)), CHIP_OPERATION),
        np.zeros((slots, chips, len(table.stages)), CHIP_STAGE), np.zeros((slots, len(table.stages), chips), np.int32),
        np.full((slots, len(table.transfers)), np.nan),
        np.full((slots, table.keys, chips), -inf), np.zeros((slots, table.passed), PASSED),
        np.zeros((slots, table.heads, chips), HEAD), np.zeros(slots, RUN),
        begin.astype(float), np.full(hops + 1, begin.min(initial=0.0)), np.zeros(hops + 1, QUEUE),
        np.zeros((axes, chips), TURN),
        np.zeros(hops + chips * (directs * slots + 4) + 4 * margin, WORK), np.zeros(chips, ENTRY),
        np.full(starts, inf), np.zeros(starts, np.int32), np.full(starts, -1, np.int32), np.zeros(starts, BEGIN), recorded,
        np.zeros(2 * (lane_log + margin) + 4096 if recorded.any() else 0, LOG),
        np.zeros((3 + int(table.lane_rows["rows"].max(initial=0)), int(table.lanes["count"].max(initial=0)))), one)
    state.runs["number"] = -1
    return state


def empty(table: Table) -> tuple[Array, Array, Array]:
    """Return an empty slot, nothing of its run known: (chips, operations), (chips, stages), (heads, chips)."""
    operations = np.zeros(table.fixed.shape, CHIP_OPERATION)
    stages = np.zeros((len(table.fixed), len(table.stages)), CHIP_STAGE)
    operations["at"] = stages["arrived"] = -inf
    operations["start"] = operations["end"] = stages["base"] = np.nan
    operations["missing"], operations["parts"], stages["due"] = table.missing.T, table.operations["parts"], table.due.T
    heads = np.zeros((table.heads, len(table.fixed)), HEAD)
    led = table.directs[table.directs["head"] >= 0]
    heads["time"], heads["due"][led["head"]] = -inf, table.due[led["stage"]] - led["piped"][:, None]
    return operations, stages, heads
