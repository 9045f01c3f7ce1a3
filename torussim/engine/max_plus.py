"""The max-plus recurrence: it gives every finish time on private links, for all chips at once.

Links are in-order queues: a message starts when its sender is ready and its link has finished the message before. Times follow
in the order of the queues, whatever the bandwidths. tests/oracle.py is a slow and obvious second implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from torussim.engine.ready import Move, Ready, Stage

Array = np.ndarray[Any, Any]
Key = tuple[int, int]
Watch = Callable[[Move, Array, Array], None]  # move, start and end of transmission (directions, chips)


@dataclass
class State:
    """The times from which on things are free, seconds: `links` (axes * 2 * chips), `unit` (chips); `last`: the chips' clocks."""

    last: Array
    unit: Array
    links: Array

    def copy(self, later: float = 0.0) -> State:
        """Return a copy of the state, some seconds later."""
        return State(self.last + later, self.unit + later, self.links + later)


def collective(ready: Ready, base: Array, state: State, *, fed: Mapping[Key, Array] | None = None,
               due: dict[Key, Array] | None = None, watch: Watch | None = None) -> Array:
    """Run a collective whose chips may send from `base` on; return the time at which each chip has received everything.

    `fed`: for each (phase, step), the end of the piece of a looped matmul that feeds it. `due` is filled: for each (phase, step),
    the time of its last arrival. All are (chips,), seconds.
    """
    done: dict[int, Array] = {}  # by part
    for stage in ready.stages:
        start = done.get(stage.part, base)
        done[stage.part] = phase(stage, start, state.links, fed, due, watch)
    latest: Array = np.maximum.reduce([base, *done.values()])
    return latest


def phase(stage: Stage, base: Array, links: Array, fed: Mapping[Key, Array] | None, due: dict[Key, Array] | None,
          watch: Watch | None) -> Array:
    """Run one phase of one part; return the time at which it is complete on each chip."""
    complete = base
    arrivals: dict[int, Array] = {}  # by step, (2, chips)
    for number, move in enumerate(stage.moves):
        ready = base if fed is None else np.maximum(base, fed[stage.index, move.step])
        free = links[move.links].reshape(move.seconds.shape)
        if move.after is None:
            begin = np.maximum(ready, free)
        else:
            begin = np.maximum(ready, arrivals[move.after][move.rows])
            np.maximum(begin, free, out=begin)
            if stage.keep[move.after] == number:
                del arrivals[move.after]
        if move.sends is None and isinstance(move.links, slice):
            end = np.add(begin, move.seconds, out=free)  # a view: the links are free again at the end
        else:
            end = begin + move.seconds
            sent = end if move.sends is None else np.where(move.sends, end, free)
            links[move.links] = sent.reshape(-1) if isinstance(move.links, slice) else sent
        if watch is not None:
            watch(move, begin, end)
        came = np.add(end, move.late, out=begin).take(move.source, mode="clip")
        if move.latest:
            for row in came:
                complete = np.maximum(complete, row)
        if move.step in stage.keep:
            if len(came) == 2:
                arrivals[move.step] = came
            else:
                arrivals.setdefault(move.step, np.full((2, came.shape[1]), -np.inf))[move.rows] = came
        if due is not None:
            key = (stage.index, move.step)
            latest = came.max(axis=0)
            due[key] = np.maximum(due[key], latest) if key in due else latest
    return complete


def gathering_loop(gather: Ready, matmul: Ready, at: Array, matmul_at: Array, state: State,
                   watch: Watch | None = None) -> tuple[Array, Array, Array]:
    """Run a matmul looped with the all-gather before it; return the gather's end, the matmul's start and its end."""
    due: dict[Key, Array] = {}
    gathered = collective(gather, at + gather.work.fixed, state, due=due, watch=watch)
    start = np.maximum(matmul_at, state.unit)
    clock = start + matmul.overhead
    for piece in matmul.pieces:
        if piece.key is not None:
            arrived = due[piece.key] if piece.idle is None else np.where(piece.idle, -np.inf, due[piece.key])
            clock = np.maximum(clock, arrived)
        clock = clock + piece.seconds
    state.unit = clock
    return gathered, start, clock


def scattering_loop(matmul: Ready, scatter: Ready, at: Array, scatter_at: Array, state: State,
                    watch: Watch | None = None) -> tuple[Array, Array, Array, Array]:
    """Run a matmul looped with the reduce-scatter after it; return start and end of the matmul, then of the scatter."""
    start = np.maximum(at, state.unit)
    clock = start + matmul.overhead
    fed: dict[Key, Array] = {}
    for piece in matmul.pieces:
        clock = clock + piece.seconds
        if piece.key is not None:
            fed[piece.key] = clock
    state.unit = clock
    scatter_start = np.maximum(start, scatter_at)
    scattered = collective(scatter, scatter_start + scatter.work.fixed, state, fed=fed, watch=watch)
    return start, clock, scatter_start, np.maximum(scattered, clock)
