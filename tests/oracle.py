"""A second engine, slow and obvious, to hold the first one to: explicit shards, one SimPy process a queue of transfers.

Written from docs/design.md, section 4, alone. It knows the program, and nothing of torussim's collectives, engine or cost.
Every shard is cut in two halves, and a transfer names the half shards that it carries, so that who owns what can be
asserted when a transfer leaves, when it arrives and when the collective is over.

Read it in three parts: who sends which block to which neighbour in which step (positions on one line or ring);
the schedule of a whole collective (chips and chunks); the run (times). What is next to what, and by which links, is in
oracle_grid; how fast the bytes go, in oracle_fluid.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, NamedTuple

import networkx as nx
import oracle_rooted
import simpy
from oracle_fluid import Fluid, Route, Router, latency_of, loads_of
from oracle_grid import Grid, Lane, Node, Parts

from torussim.program import Collective, Compute, Operation, Program

Place = tuple[int, int]  # (phase, step)
RingOrders = Mapping[tuple[str, ...], tuple[tuple[Node, ...], bool]]
Waiting = Generator[simpy.Event, Any, None]
HALVES = (0, 1)


# Positions 0 .. K-1 of one line or ring

class Move(NamedTuple):
    """In `step` (s, r) position `at` sends blocks (origin, target, half) to position `at + sign`, as one transfer."""

    step: tuple[int, int]
    sign: int
    at: int
    blocks: tuple[tuple[int, int | None, int], ...]


def shards(K: int, s: int, sign: int, at: int, origin: int, halves: tuple[int, ...] = HALVES) -> Move:
    """Return the move that carries the shard of one origin."""
    return Move((s, 0), sign, at, tuple((origin % K, None, half) for half in halves))


def gather_moves(K: int, ring: bool, mode: str) -> list[Move]:
    """Return the all-gather: mode is "both", or a kind of loop ("one_way" is also a direction)."""
    if mode not in ("both", "one_way", "throughput", "latency"):
        raise ValueError(f"unknown direction or kind of loop {mode!r}")
    moves = []
    for s, i in product(range(1, K), range(K)):
        if not ring:
            if i < K - 1 and i - s + 1 >= 0:
                moves.append(shards(K, s, +1, i, i - s + 1))
            if i > 0 and i + s - 1 <= K - 1:
                moves.append(shards(K, s, -1, i, i + s - 1))
        elif mode == "one_way":
            moves.append(shards(K, s, +1, i, i - s + 1))
        elif mode == "throughput":
            moves.append(shards(K, s, +1, i, i - s + 1, (0,)))
            moves.append(shards(K, s, -1, i, i + s - 1, (1,)))
        elif mode == "latency" and K % 2 == 0:
            if s <= K // 2:
                moves.append(shards(K, s, +1, i, i - s + 1))
            if 2 <= s <= K // 2:
                moves.append(shards(K, s, -1, i, i + s - 2))
        elif s <= K // 2:
            halved = 2 * s == K
            moves.append(shards(K, s, +1, i, i - s + 1, (0,) if halved else HALVES))
            moves.append(shards(K, s, -1, i, i + s - 1, (1,) if halved else HALVES))
    return moves


def reduce_moves(K: int, ring: bool, mode: str) -> list[Move]:
    """Return the reduce-scatter: the all-gather run backwards; a block is the partial sum for its `origin`."""
    gather = gather_moves(K, ring, mode)
    steps = max(move.step[0] for move in gather)
    return [Move((steps - move.step[0] + 1, 0), -move.sign, (move.at + move.sign) % K, move.blocks) for move in gather]


def exchange_moves(K: int, ring: bool, mode: str) -> list[Move]:
    """Return the all-to-all; on a line every block is a transfer of its own, the farthest target first."""
    if mode not in ("both", "one_way"):
        raise ValueError(f"no all-to-all with direction {mode!r}")
    moves = []
    for s, i in product(range(1, K), range(K)):
        if not ring:
            for t in range(K):
                r, origin, sign = (K - 1 - t, i - s + 1, +1) if t > i else (t, i + s - 1, -1)
                if t != i and 0 <= origin <= K - 1:
                    moves.append(Move((s, r), sign, i, tuple((origin, t, half) for half in HALVES)))
            continue
        for sign in (+1,) if mode == "one_way" else (+1, -1):
            origin = (i - sign * (s - 1)) % K
            farthest = K - 1 if mode == "one_way" else K // 2
            blocks = []
            for distance in range(s, farthest + 1):
                tie = mode == "both" and 2 * distance == K
                halves = HALVES if not tie else (0,) if sign > 0 else (1,)
                blocks += [(origin, (origin + sign * distance) % K, half) for half in halves]
            if blocks:
                moves.append(Move((s, 0), sign, i, tuple(blocks)))
    return moves


def permute_moves(K: int, ring: bool, shift: int) -> list[Move]:
    """Return the moves that bring the message of every position o to (o + shift) mod K."""
    h = shift % K
    moves = []
    for o in range(K):
        if ring:
            forward = HALVES if h < K - h else (0,) if h == K - h else ()
            backward = HALVES if h > K - h else (1,) if h == K - h else ()
        else:
            forward, backward = (HALVES, ()) if o + h < K else ((), HALVES)
        if forward:
            moves += [shards(K, s, +1, (o + s - 1) % K, o, forward) for s in range(1, h + 1)]
        if backward:
            moves += [shards(K, s, -1, (o - s + 1) % K, o, backward) for s in range(1, K - h + 1)]
    return moves


# Chips and chunks: the schedule of a collective

def ring_lanes(grid: Grid, axes: tuple[str, ...], order: tuple[Node, ...], closed: bool) -> tuple[Lane, ...]:
    lines = tuple(dict.fromkeys(tuple(grid.placed(chip, axes, at) for at in order) for chip in grid.graph))
    K = math.prod(grid.axes[axis].length for axis in axes)
    for line in lines:
        assert len(set(line)) == len(line) == K, f"{line} does not visit every chip once"
        for u, v in zip(line, line[1:] + line[:1] if closed else line[1:], strict=False):
            assert grid.neighbours(u, v, axes), f"ring order: {u} and {v} are not neighbours"
    return tuple(Lane(line, ring=closed and len(order) >= 3) for line in lines)


class Phase(NamedTuple):
    """One phase of a part: `verb` says what happens to the blocks that `moves` name."""

    verb: str  # gather | reduce | exchange | permute | walk (a permute of copies: "nested")
    axes: tuple[str, ...]
    lanes: tuple[Lane, ...]
    moves: Callable[[int, bool], list[Move]]  # of a lane of so many chips, a ring or not
    shift: int = 0  # permute, walk

    def lane(self, chip: Node) -> Lane:
        return next(lane for lane in self.lanes if chip in lane.chips)


class Chunk(NamedTuple):
    """Half a shard: of part `part`, from chip `origin` (None: a sum over chips), for chip `target` (None: for all)."""

    part: int
    origin: Node | None
    target: Node | None
    half: int


Track = tuple[tuple[str, ...], tuple[Lane, ...]]  # axes, and the lanes along them
Held = dict[Chunk, Counter[Node]]  # what a chip holds, and how often each chip contributed to it


@dataclass(frozen=True)
class Transfer:
    """Chunks on one hop. `share` is its bytes / the collective's; `passing`: the receiver only passes them on."""

    phase: int
    part: int
    step: tuple[int, int]
    sign: int
    sender: Node
    receiver: Node
    chunks: frozenset[Chunk]
    share: float
    verb: str
    passing: bool
    waits: tuple[int, ...]  # transfers to the sender, of the same phase and part, that must have arrived
    queued: bool = True
    piped: bool = False  # begins when what it waits for begins to arrive, and is there no sooner than that is
    spread: bool = False  # over all shortest ways
    after: int | None = None  # this transfer of the same sender must have left

    @property
    def place(self) -> Place:
        return self.phase, self.step[0]


@dataclass(frozen=True)
class Schedule:
    """All transfers of a collective, on all its groups, and what every chip holds before and after."""

    K: int
    phases: list[list[Phase]]  # of each part
    transfers: list[Transfer]
    before: dict[Node, Held]
    after: dict[Node, Held]


def live_axes(collective: Collective, grid: Grid) -> tuple[str, ...]:
    return tuple(axis for axis in collective.axes if grid.axes[axis].length > 1)


def split_weights(collective: Collective, n: int) -> tuple[float, ...]:
    if collective.split == "equal":
        return (1 / n,) * n
    if collective.split == "auto":
        raise ValueError(f"{collective.name}: split 'auto' must be weights by now")
    weights = tuple(float(weight) for weight in collective.split)
    assert len(weights) == n and abs(sum(weights) - 1) < 1e-9, f"{collective.name}: split {weights} over {n} axes"
    return weights


def nested_walk(axes: tuple[str, ...], lengths: Mapping[str, int]) -> tuple[str, ...]:
    """Return the axis of each phase of "nested": axes[0] is the innermost loop."""
    if not axes:
        return ()
    inner = nested_walk(axes[:-1], lengths)
    return inner + ((axes[-1], *inner) * (lengths[axes[-1]] - 1))


def parts(collective: Collective, grid: Grid, mode: str, ring_orders: RingOrders) -> list[tuple[float, list[Phase]]]:
    """Return each part's weight and its phases."""
    kind, algorithm = collective.kind, collective.algorithm
    axes = live_axes(collective, grid)
    lengths = {axis: grid.axes[axis].length for axis in axes}

    def shifted(verb: str, axis: str, shift: int) -> Phase:
        lanes = grid.lanes(axis, detour=True)
        if verb == "walk" and lengths[axis] > 2 and axis not in grid.twists:  # what goes over the end of a line is routed
            lanes = tuple(lane._replace(ring=True) for lane in lanes)
        return Phase(verb, (axis,), lanes, partial(permute_moves, shift=shift), shift)

    def along(axis: str) -> Track:
        turning = kind != "all_to_all" and algorithm in ("", "multi_axis", "sequential")
        return (axis,), grid.lanes(axis, getattr(collective, "detour", True), axes if turning else ())

    if not axes:
        return []
    if kind == "permute" and algorithm in ("", "dimension_order"):
        assert set(collective.shift) <= set(collective.axes), collective
        shifts = {axis: collective.shift.get(axis, 0) for axis in grid.axes if axis in axes}
        return [(1.0, [shifted("permute", axis, h) for axis, h in shifts.items() if h % lengths[axis]])]
    if kind == "all_gather" and algorithm == "nested":
        return [(1.0, [shifted("walk", axis, 1) for axis in nested_walk(axes, lengths)])]
    if algorithm in ("", "dimension_wise" if kind == "all_to_all" else "multi_axis"):
        visits = [(weight, [along(axis) for axis in axes[p:] + axes[:p]])
                  for p, weight in enumerate(split_weights(collective, len(axes)))]
    elif algorithm == "sequential" or (algorithm == "one_ring" and kind != "all_to_all" and len(axes) == 1):
        visits = [(1.0, [along(axis) for axis in axes])]
    elif algorithm == "one_ring" and kind != "all_to_all":
        named = collective.axes if collective.axes in ring_orders else axes
        visits = [(1.0, [(named, ring_lanes(grid, named, *ring_orders[named]))])]
    else:
        raise ValueError(f"{collective.name}: the oracle has no {kind} by {algorithm!r}")
    if kind == "all_to_all":
        return [(weight, [Phase("exchange", *track, partial(exchange_moves, mode=mode)) for track in visit])
                for weight, visit in visits]
    found = []
    for weight, visit in visits:
        gathers = [Phase("gather", *track, partial(gather_moves, mode=mode)) for track in visit]
        reduces = [Phase("reduce", *track, partial(reduce_moves, mode=mode)) for track in reversed(visit)]
        phases = {"all_gather": gathers, "reduce_scatter": reduces, "all_reduce": reduces + gathers}
        found.append((weight, phases[kind]))
    return found


def contract(collective: Collective, grid: Grid, used: list[int]) -> tuple[dict[Node, Held], dict[Node, Held]]:
    """Return what each chip must hold before and after; `used` are the parts that have any data."""
    before: dict[Node, Held] = {}
    after: dict[Node, Held] = {}
    between = bytes_between(collective, grid)
    for chip in grid.graph:
        group = members(collective, grid, chip)
        if len(group) < 2 and (collective.groups or collective.kind in ROOTED):
            before[chip] = after[chip] = {}
            continue
        root = root_of(collective, grid, group)
        everyone = list(product(used, group, HALVES))
        own = list(product(used, HALVES))
        if collective.kind == "all_gather":
            before[chip] = {Chunk(p, chip, None, half): Counter([chip]) for p, half in own}
            after[chip] = {Chunk(p, o, None, half): Counter([o]) for p, o, half in everyone}
        elif collective.kind in ("reduce_scatter", "all_reduce"):
            before[chip] = {Chunk(p, None, t, half): Counter([chip]) for p, t, half in everyone}
            after[chip] = {Chunk(p, None, t, half): Counter(group) for p, t, half in everyone
                           if t == chip or collective.kind == "all_reduce"}
        elif collective.kind == "all_to_all":
            before[chip] = {Chunk(p, chip, t, half): Counter([chip]) for p, t, half in everyone
                            if between.get((chip, t), 1.0)}
            after[chip] = {Chunk(p, o, chip, half): Counter([o]) for p, o, half in everyone
                           if between.get((o, chip), 1.0)}
        elif collective.kind in ("broadcast", "send"):
            before[chip] = {Chunk(p, root, None, half): Counter([root]) for p, half in own if chip == root}
            after[chip] = {Chunk(p, root, None, half): Counter([root]) for p, half in own}
        elif collective.kind == "reduce":
            before[chip] = {Chunk(p, None, root, half): Counter([chip]) for p, half in own}
            after[chip] = {Chunk(p, None, root, half): Counter(group) for p, half in own if chip == root}
        elif collective.kind == "gather":
            before[chip] = {Chunk(p, chip, root, half): Counter([chip]) for p, half in own}
            after[chip] = {Chunk(p, o, root, half): Counter([o]) for p, o, half in everyone if chip == root}
        elif collective.kind == "scatter":
            before[chip] = {Chunk(p, root, t, half): Counter([root]) for p, t, half in everyone if chip == root}
            after[chip] = {Chunk(p, root, chip, half): Counter([root]) for p, half in own}
        else:
            origin = [(grid.position(chip, a) - collective.shift.get(a, 0)) % grid.axes[a].length for a in collective.axes]
            sender = grid.placed(chip, collective.axes, origin)
            before[chip] = {Chunk(p, chip, None, half): Counter([chip]) for p, half in own}
            after[chip] = {Chunk(p, sender, None, half): Counter([sender]) for p, half in own}
    return before, after


ROOTED = ("broadcast", "reduce", "gather", "scatter", "send")


def bytes_between(collective: Collective, grid: Grid) -> dict[tuple[Node | None, Node | None], float]:
    """Return the bytes from each chip to each of its group in an all-to-all with a matrix; else nothing."""
    if collective.matrix is None:
        return {}
    found: dict[tuple[Node | None, Node | None], float] = {}
    for chip in grid.graph:
        group = members(collective, grid, chip)
        found |= {(chip, other): float(collective.matrix.array[group.index(chip), j]) for j, other in enumerate(group)}
    return found


def members(collective: Collective, grid: Grid, chip: Node) -> list[Node]:
    """Return the group of a chip; none where it is in no group."""
    if not collective.groups:
        return grid.group(chip, live_axes(collective, grid))
    nodes = list(product(*map(range, grid.lengths)))
    return next((named for group in collective.groups if chip in (named := [nodes[i] for i in group])), [])


def root_of(collective: Collective, grid: Grid, group: list[Node]) -> Node:
    if collective.groups:
        return group[collective.root[0] if collective.root else 0]
    return grid.placed(group[0], collective.axes, collective.root or [0] * len(collective.axes))


def rooted(collective: Collective, grid: Grid, ring_orders: RingOrders) -> list[Transfer]:
    """Return the messages of a collective with a root, or over trees, on all its groups."""
    found: list[list[Transfer]] = []
    axes = live_axes(collective, grid)
    groups = {tuple(members(collective, grid, chip)) for chip in grid.graph}
    due: dict[Node, list[tuple[int, int]]] = defaultdict(list)
    verb = {"broadcast": "gather", "send": "gather", "reduce": "reduce", "all_reduce": "reduce"}.get(collective.kind, "exchange")
    for group in sorted(group for group in groups if len(group) > 1):
        if collective.groups:
            lengths, ring = [len(group)], [False]
            at = {(i,): chip for i, chip in enumerate(group)}
        else:
            lengths = [grid.axes[a].length for a in axes]
            ring = [grid.axes[a].ring for a in axes]
            at = {place: grid.placed(group[0], axes, list(place)) for place in product(*map(range, lengths))}
        root = root_of(collective, grid, list(group))
        order = ring_orders[axes][0] if len(axes) > 1 and axes in ring_orders else sorted(at)
        steps, piped = oracle_rooted.steps("broadcast" if collective.kind == "send" else collective.kind, collective.algorithm,
                                           lengths, ring, next(p for p, chip in at.items() if chip == root), order)
        for s, sends in enumerate(steps):
            if s == len(found):
                found.append([])
            summing = verb == "reduce" and (collective.kind == "reduce" or s < len(steps) // 2)
            for sender, receiver, shards in sends:
                def chunk(place: Any, half: int, at: Any = at, root: Node = root) -> Chunk:
                    if collective.kind in ("all_reduce", "reduce"):
                        return Chunk(0, None, root if place is None else at[place], half)
                    if collective.kind == "gather":
                        return Chunk(0, at[place], root, half)
                    return Chunk(0, root, None if place is None else at[place], half)
                chunks = frozenset(chunk(place, half) for place, halves in shards for half in halves)
                whole = 1 if collective.kind in ("broadcast", "reduce", "send") else len(group)
                found[s].append(Transfer(s, 0, (s + 1, 0), 1, at[sender], at[receiver], chunks, len(chunks) / 2 / whole,
                                         "reduce" if summing else "gather" if verb == "reduce" else verb, False, (), queued=False,
                                         piped=piped, spread=True))
    made: list[Transfer] = []
    for this in found:
        this = [replace(t, waits=tuple(due[t.sender])) for t in this]
        for j, t in enumerate(this, start=len(made)):
            due[t.receiver].append(j)
        made += this
    return made


def schedule(collective: Collective, grid: Grid, mode: str, ring_orders: RingOrders) -> Schedule:
    """Return the transfers: the moves of every phase, with the chunks that each sender holds when the phase starts."""
    K = math.prod(grid.axes[axis].length for axis in collective.axes)
    if collective.kind in ROOTED or collective.algorithm == "double_tree":
        before, after = contract(collective, grid, [0])
        return Schedule(2 if collective.groups else K, [[]], rooted(collective, grid, ring_orders), before, after)
    if collective.algorithm == "shifts" or (collective.algorithm == "direct" and collective.kind in ("all_to_all", "permute")):
        before, after = contract(collective, grid, [0])
        return Schedule(K, [[]], messages(collective, grid, K), before, after)
    if collective.algorithm in STEPWISE:
        before, after = contract(collective, grid, [0])
        return Schedule(K, [[]], stepped(collective, grid, K), before, after)
    weighed = parts(collective, grid, mode, ring_orders)
    before, after = contract(collective, grid, [p for p, (weight, _) in enumerate(weighed) if weight])
    between = bytes_between(collective, grid)
    transfers: list[Transfer] = []
    for part, (weight, phases) in enumerate(weighed):
        size = weight / 2 / (1 if collective.kind == "permute" else K)  # of a chunk, as a share of the bytes
        holds = {chip: {chunk for chunk in chunks if chunk.part == part} for chip, chunks in before.items()}
        if collective.kind in ("reduce_scatter", "all_reduce") and any(lane.turn for phase in phases for lane in phase.lanes):
            reversed_ = [phase for phase in reversed(phases) if phase.verb == "reduce"]
            gathers = [phase._replace(verb="gather", moves=partial(gather_moves, mode=mode)) for phase in reversed_]
            after_reduce = gathered(gathers, grid)
        else:
            after_reduce = []
        for f, phase in enumerate(phases if weight else []):
            hops = []
            where = {lane.chips: grid.where(lane.chips, phase.axes) for lane in phase.lanes}
            moves = [(lane, move) for lane in phase.lanes for move in phase.moves(len(lane.chips), lane.ring)]
            for lane, move in moves:
                line = lane.chips
                receiver = (move.at + move.sign) % len(line)
                # A message of the walk ends `shift` positions from its origin.
                passing = phase.verb == "walk" and receiver != (move.blocks[0][0] + phase.shift) % len(line)
                if phase.verb == "reduce" and after_reduce:
                    chunks = summed(lane, move, holds, after_reduce[f])
                elif phase.verb == "gather":
                    chunks = brought(lane, move, holds)
                else:
                    chunks = carried(phase, line, where[line], move, holds)
                hops.append((move.step, -move.sign, line[move.at], lane.on(move.at, move.sign), chunks, passing))
            if between:
                hops = [hop for hop in hops if hop[4]]  # a message without bytes is not sent
            hops.sort(key=lambda hop: hop[:4])
            carriers: dict[tuple[Node, Chunk], list[int]] = defaultdict(list)
            for j, (*_, receiver_chip, chunks, _) in enumerate(hops, start=len(transfers)):
                for chunk in chunks:
                    carriers[receiver_chip, chunk].append(j)
            for step, minus, sender, receiver_chip, chunks, passing in hops:
                share = len(chunks) * size
                if between:
                    share = weight / 2 / collective.bytes * sum(between[c.origin, c.target] for c in chunks)
                waits = sorted({j for chunk in chunks for j in carriers[sender, chunk]})
                transfers.append(Transfer(f, part, step, -minus, sender, receiver_chip, chunks, share,
                                          phase.verb, passing, tuple(waits)))
            if phase.verb == "gather":
                for *_, receiver_chip, chunks, _ in hops:
                    holds[receiver_chip] = holds[receiver_chip] | chunks
            elif phase.verb == "reduce" and after_reduce:
                holds = {chip: {c for c in chunks if (c.target, c.half) in after_reduce[f][chip]}
                         for chip, chunks in holds.items()}
            else:
                holds = {chip: held_next(phase, line, where[line], i, holds) for line in where for i, chip in enumerate(line)}
    return Schedule(K, [phases for _, phases in weighed], transfers, before, after)


def taking_part(operation: Operation, grid: Grid, chip: Node) -> bool:
    """Return whether a chip is at the positions at which an operation runs."""
    return all(grid.position(chip, axis) in places for axis, places in operation.on)


def restricted(plan: Schedule, collective: Collective, grid: Grid) -> Schedule:
    """Return the schedule without what chips that take no part would send: of a permute, without their messages on any hop."""
    if not collective.on:
        return plan
    mine = {chip: taking_part(collective, grid, chip) for chip in grid.graph}
    permutes = collective.kind == "permute"
    kept = [j for j, t in enumerate(plan.transfers)
            if (all(mine[c.origin] for c in t.chunks) if permutes else mine[t.sender])]
    at = {j: i for i, j in enumerate(kept)}
    transfers = [replace(plan.transfers[j], waits=tuple(at[i] for i in plan.transfers[j].waits if i in at),
                         after=at.get(plan.transfers[j].after)) for j in kept]

    def held(before: dict[Node, Held]) -> dict[Node, Held]:
        return {chip: {c: by for c, by in chunks.items() if (mine[c.origin] if permutes else mine[chip])}
                for chip, chunks in before.items()}
    return replace(plan, transfers=transfers, before=held(plan.before), after=held(plan.after))


def brought(lane: Lane, move: Move, holds: Mapping[Node, set[Chunk]]) -> frozenset[Chunk]:
    """Return the chunks of a move of a gather: what the chip had that they come from, back against their direction."""
    chunks = set()
    for origin, _, half in move.blocks:
        back = (move.sign * (move.at - origin)) % len(lane.chips)
        chunks |= {c for c in holds[lane.on(move.at, -move.sign * back)] if c.half == half}
    return frozenset(chunks)


def summed(lane: Lane, move: Move, holds: Mapping[Node, set[Chunk]],
           wanted: Mapping[Node, set[tuple[Node, int]]]) -> frozenset[Chunk]:
    """Return the chunks of a move of a reduce-scatter: the sender's own partial sums that the chip at its end wants."""
    chunks = set()
    for target, _, half in move.blocks:
        ahead = (move.sign * (target - move.at)) % len(lane.chips)
        end = wanted[lane.on(move.at, move.sign * ahead)]
        chunks |= {c for c in holds[lane.chips[move.at]] if c.half == half and (c.target, half) in end}
    return frozenset(chunks)


def gathered(phases: list[Phase], grid: Grid) -> list[dict[Node, set[tuple[Node, int]]]]:
    """Return of each phase of a reduce-scatter whose sums a chip has afterwards, as (target, half).

    It is the all-gather run backwards: what a chip has before a phase of that is what it has after the same one of this.
    """
    holds = {chip: {Chunk(0, chip, None, half) for half in HALVES} for chip in grid.graph}
    found = []
    for phase in phases:
        found.append({chip: {(c.origin, c.half) for c in chunks if c.origin} for chip, chunks in holds.items()})
        came = [(lane.on(move.at, move.sign), brought(lane, move, holds))
                for lane in phase.lanes for move in phase.moves(len(lane.chips), lane.ring)]
        for chip, chunks in came:
            holds[chip] = holds[chip] | chunks
    return found[::-1]


def messages(collective: Collective, grid: Grid, K: int) -> list[Transfer]:
    """Return the messages of an all-to-all from every chip to every other: by displacement, the last axis fastest.

    Of a permute the one from every chip, if that moves.
    """
    lengths = [grid.axes[axis].length for axis in collective.axes]
    every, between = [at for at in product(*map(range, lengths)) if any(at)], bytes_between(collective, grid)
    if collective.kind == "permute":
        shift = tuple(collective.shift.get(axis, 0) % length for axis, length in zip(collective.axes, lengths, strict=True))
        every = [at for at in every if at == shift]
    found: list[Transfer] = []
    own: dict[Node, int] = {}  # the last message of a chip
    due: dict[Node, int] = {}  # the last message to a chip
    for s, displacement in enumerate(every):
        this: list[Transfer] = []
        for chip in grid.graph:
            to = [(grid.position(chip, axis) + d) % length
                  for axis, d, length in zip(collective.axes, displacement, lengths, strict=True)]
            target = grid.placed(chip, collective.axes, to)
            chunks = frozenset(Chunk(0, chip, None if collective.kind == "permute" else target, half) for half in HALVES)
            share = 1 / (1 if collective.kind == "permute" else K)
            if between:
                share = between[chip, target] / collective.bytes
                if not share:
                    continue
            first = s == 0 or collective.algorithm == "direct"
            this.append(Transfer(0, 0, (s + 1, 0), 1, chip, target, chunks, share,
                                 "permute" if collective.kind == "permute" else "exchange", False,
                                 () if first else (due[chip],), queued=False, after=None if first else own[chip]))
        own = {t.sender: j for j, t in enumerate(this, start=len(found))}
        due = {t.receiver: j for j, t in enumerate(this, start=len(found))}
        found += this
    return found


STEPWISE = ("direct", "hierarchical", "recursive_doubling", "halving_doubling", "pairwise", "bruck")
Place_ = tuple[int, ...]


def stepped(collective: Collective, grid: Grid, K: int) -> list[Transfer]:
    """Return the messages of a collective that goes straight from chip to chip, step by step.

    A chip sends what belongs to a step when all that is due to it in the steps before has arrived.
    """
    lengths = [grid.axes[axis].length for axis in collective.axes]
    places = list(product(*map(range, lengths)))
    found: list[Transfer] = []
    due: dict[Node, list[int]] = defaultdict(list)
    for s, (verb, moves) in enumerate(steps_of(collective.kind, collective.algorithm, places)):
        this: list[Transfer] = []
        for chip in grid.graph:
            here = tuple(grid.position(chip, axis) for axis in collective.axes)

            def at(place: Place_, chip: Node = chip) -> Node:
                return grid.placed(chip, collective.axes, list(place))
            for to, shards in moves(here):
                tags = [(at(o), at(t)) if verb == "exchange" else (at(o), None) if collective.kind == "all_gather" else
                        (None, at(o)) for o, t in shards]
                chunks = frozenset(Chunk(0, o, t, half) for o, t in tags for half in HALVES)
                this.append(Transfer(s, 0, (s + 1, 0), 1, chip, at(to), chunks, len(chunks) / 2 / K, verb, False,
                                     tuple(due[chip]), queued=False))
        for j, t in enumerate(this, start=len(found)):
            due[t.receiver].append(j)
        found += this
    return found


def steps_of(kind: str, algorithm: str, places: list[Place_]) -> list[tuple[str, Callable[[Place_], list[Any]]]]:
    """Return the steps: a verb, and for the chip at a place whom it sends what, (origin, target) of each shard."""
    K, number = len(places), {place: i for i, place in enumerate(places)}
    axes = range(len(places[0]))

    def sends(how: Callable[[int], list[tuple[int, list[int]]]]) -> Callable[[Place_], list[Any]]:
        return lambda here: [(places[q], [(places[o], None) for o in shards]) for q, shards in how(number[here])]

    def along(axis: int, verb: str) -> Callable[[Place_], list[Any]]:
        def moves(here: Place_) -> list[Any]:
            out = []
            for i in range(max(p[axis] for p in places) + 1):
                to = (*here[:axis], i, *here[axis + 1:])
                if to == here:
                    continue
                if verb == "gather":  # all shards that came over the axes before
                    shards = [(o, None) for o in places if o[axis:] == here[axis:]]
                elif verb == "reduce":  # sums for chips like the receiver on this axis, like both on those after
                    shards = [(t, None) for t in places if t[axis:] == to[axis:]]
                else:
                    shards = [(o, t) for o in places for t in places if o[:axis + 1] == here[:axis + 1] and t[axis:] == to[axis:]]
                out.append((to, shards))
            return out
        return moves
    if algorithm == "hierarchical":
        out = [("gather", along(axis, "gather")) for axis in axes]
        sums = [("reduce", along(axis, "reduce")) for axis in reversed(axes)]
        moved = [("exchange", along(axis, "exchange")) for axis in reversed(axes)]
        return {"all_gather": out, "reduce_scatter": sums, "all_reduce": sums + out, "all_to_all": moved}[kind]
    powers = [1 << k for k in range(K.bit_length()) if 1 << k < K]
    if kind == "all_to_all":
        if algorithm == "pairwise":
            return [("exchange", lambda here, by=by: [(places[q := (number[here] + by) % K], [(here, places[q])])])
                    for by in range(1, K)]
        assert algorithm == "bruck"  # the way (t - o) mod K, digit by digit, the lowest first
        return [("exchange", lambda here, far=far: [(places[(number[here] + far) % K], [
            (places[o], places[t]) for o in range(K) for t in range(K)
            if ((t - o) % K) & far and (o + (((t - o) % K) & (far - 1))) % K == number[here]])]) for far in powers]
    others = [[("all", lambda p: [(q, [p]) for q in range(K) if q != p])]]
    gathers: list[Any] = {
        "direct": [sends(others[0][0][1])],
        "recursive_doubling": [sends(lambda p, far=far: [(p ^ far, [o for o in range(K) if o // far == p // far])])
                               for far in powers],
        "pairwise": [sends(lambda p, by=by: [((p + by) % K, [p])]) for by in range(1, K)],
        "bruck": [sends(lambda p, far=far: [((p - far) % K, [(p + i) % K for i in range(min(far, K - far))])]) for far in powers],
    }.get(algorithm, [sends(lambda p, far=far: [(p ^ far, [o for o in range(K) if o // far == p // far])]) for far in powers])
    if kind == "all_gather":
        return [("gather", one) for one in gathers]
    scatters: list[Any] = {
        "direct": [sends(lambda p: [(q, [q]) for q in range(K) if q != p])],
        "halving_doubling": [sends(lambda p, far=far: [(p ^ far, [t for t in range(K) if t // far == (p ^ far) // far])])
                             for far in reversed(powers)],
        "pairwise": [sends(lambda p, by=by: [((p + by) % K, [(p + by) % K])]) for by in range(1, K)],
    }[algorithm]
    sums = [("reduce", one) for one in scatters]
    return sums if kind == "reduce_scatter" else sums + [("gather", one) for one in gathers]


def carried(
    phase: Phase, line: tuple[Node, ...], position: Mapping[Node, int], move: Move, holds: Mapping[Node, set[Chunk]]
) -> frozenset[Chunk]:
    """Return the chunks of a move's blocks; `holds` is what every chip held when the phase started."""
    chunks = set()
    for origin, target, half in move.blocks:
        if phase.verb == "reduce":  # the sender's own partial sums for `origin`
            chunks |= {c for c in holds[line[move.at]] if c.half == half and c.target and position[c.target] == origin}
        elif phase.verb == "exchange":
            chunks |= {c for c in holds[line[origin]] if c.half == half and c.target and position[c.target] == target}
        else:  # permute, walk
            chunks |= {c for c in holds[line[origin]] if c.half == half}
    return frozenset(chunks)


def held_next(
    phase: Phase, line: tuple[Node, ...], position: Mapping[Node, int], i: int, holds: Mapping[Node, set[Chunk]]
) -> set[Chunk]:
    """Return what the chip at position i has to send on after a phase that started with `holds`."""
    everything = set().union(*(holds[chip] for chip in line))
    if phase.verb in ("permute", "walk"):
        return holds[line[(i - phase.shift) % len(line)]]
    return {c for c in everything if c.target and position[c.target] == i}


# The run

class Step(NamedTuple):
    """One executed operation: what it waits for (indices; -1 is the chip's start) and what it is looped with."""

    operation: Operation
    waits: tuple[int, ...]
    partner: int | None


class Sent(NamedTuple):
    """A transfer as it happened; `number` counts executed operations. Bytes, seconds."""

    number: int
    name: str
    phase: int
    part: int
    step: tuple[int, int]
    sender: Node
    receiver: Node
    bytes: float
    start: float
    end: float
    arrival: float


def executed(program: Program) -> list[Step]:
    """Return all operations in program order, repetitions included."""
    steps: list[Step] = []
    for operations, times in program.sections():
        for _ in range(times):
            opening = len(steps) - 1
            index = {operation.name: opening + 1 + k for k, operation in enumerate(operations)}
            looped = {index[o.loop.collective]: index[o.name] for o in operations if isinstance(o, Compute) and o.loop}
            looped |= {compute: collective for collective, compute in looped.items()}
            for operation in operations:
                here = len(steps)
                waits = ((here - 1,) if operation.after is None else
                         tuple(index[name] for name in operation.after) or (opening,))
                assert all(k < here for k in waits), f"{operation.name} waits for what comes later"
                steps.append(Step(operation, waits, looped.get(here)))
    return steps


def work_time(compute: Compute, chip: Any, cut: tuple[int, ...] = (1, 1, 1), pieces: int = 1) -> float:
    """Return the seconds of one of `pieces` equal shards of the work; `cut` divides m, k, n, and the count if it has a fourth."""
    flops = compute.flops / pieces
    for matmul in compute.matmuls:
        shape = [math.ceil(size / by / tile) * tile
                 for size, by, tile in zip((matmul.m, matmul.k, matmul.n), cut[:3], chip.tile, strict=True)]
        flops += 2 * (shape[0] + chip.load_rows) * shape[1] * shape[2] * matmul.count / math.prod(cut[3:])
    memory = float(chip.hbm_bandwidth * chip.hbm_efficiency)
    crossing = compute.vector_bytes
    if compute.scratch > chip.on_chip_bytes:
        crossing += compute.scratch * compute.scratch_passes
    elementwise = max(compute.vector / pieces / chip.vector_rate, crossing / pieces / memory)
    return elementwise + max(flops / float(chip.rate(compute.dtype) * chip.matmul_efficiency),
                             compute.hbm_bytes / pieces / memory)


def case_of(compute: Compute, grid: Grid, chip: Node) -> Compute:
    """Return the work of a chip."""
    if not compute.cases:
        return compute
    places = list(product(*(range(grid.axes[axis].length) for axis in compute.over)))
    return compute.cases[places.index(tuple(grid.position(chip, axis) for axis in compute.over))]


def pieces(plan: Schedule, chip: Node, kind: str, mode: str) -> list[tuple[Place | None, float]]:
    """Return the pieces of a looped matmul on a chip in order: (phase, step) or None for the own shard; fraction."""
    scatter = kind == "reduce_scatter"
    share: dict[Place, float] = defaultdict(float)
    for t in plan.transfers:
        if chip == (t.sender if scatter else t.receiver) and not t.passing:
            share[t.place] += t.share
    found: list[tuple[Place | None, float]] = [(place, share[place]) for place in sorted(share) if share[place]]
    assert abs(sum(share.values()) + 1 / plan.K - 1) < 1e-9, f"the pieces on {chip} are not the matmul: {share}"
    alone = len(plan.phases) == 1 and len(plan.phases[0]) == 1 and plan.phases[0][0].verb != "walk"
    if mode == "latency" and alone and plan.phases[0][0].lane(chip).ring and plan.K % 2 == 0:
        at = -1 if scatter else 0
        found[at] = found[at][0], found[at][1] + 1 / plan.K
        return found
    return [*found, (None, 1 / plan.K)] if scatter else [(None, 1 / plan.K), *found]


class Run:
    """The events of one run: of every operation k on every chip, and of every transfer j of collective k."""

    def __init__(
        self, steps: list[Step], grid: Grid, chip: Any, start: Mapping[Node, float], orders: RingOrders, parts: Parts | None,
        spread: Router | None = None
    ) -> None:
        self.spread = spread or grid.message
        self.steps, self.grid, self.graph, self.chip, self.parts = steps, grid, grid.graph, chip, parts
        graph = grid.graph
        self.env = env = simpy.Environment(initial_time=min([0.0, *start.values()]))
        self.fluid = Fluid(env, graph, chip, self.failed)
        self.plans: dict[int, Schedule] = {}
        self.mode: dict[int, str] = {}
        known: dict[tuple[int, str], Schedule] = {}
        for k, (operation, _, partner) in enumerate(steps):
            if isinstance(operation, Collective):
                compute = steps[partner].operation if partner is not None else None
                looped = compute.loop if isinstance(compute, Compute) else None
                self.mode[k] = mode = looped.kind if looped else operation.direction
                if (id(operation), mode) not in known:
                    known[id(operation), mode] = restricted(schedule(operation, grid, mode, orders), operation, grid)
                self.plans[k] = known[id(operation), mode]
        everywhere = [(k, c) for k in range(len(steps)) for c in graph]
        self.begun = {at: env.event() for at in everywhere}
        self.base = {at: env.event() for at in everywhere}  # start + launch
        self.ended: dict[tuple[int, Node], simpy.Event] = {at: env.event() for at in everywhere}
        self.ended |= {(-1, c): env.timeout(start[c] - env.now) for c in graph}
        self.piece_ended: dict[tuple[int, Node, Place | None], simpy.Event] = defaultdict(env.event)
        transfers = [(k, j) for k, plan in self.plans.items() for j in range(len(plan.transfers))]
        self.left = {at: env.event() for at in transfers}
        self.arrived = {at: env.event() for at in transfers}
        self.headed = {at: env.event() for at in transfers}
        self.complete: dict[tuple[int, int, int, Node], simpy.Event] = {}  # (k, part, phase, chip)
        self.state = {k: {c: dict(plan.before[c]) for c in graph} for k, plan in self.plans.items()}
        self.transit: dict[tuple[int, int, Node], Held] = defaultdict(dict)
        self.start_at: dict[tuple[int, Node], float] = {}
        self.end_at: dict[tuple[int, Node], float] = {}
        self.sent: list[Sent] = []

    def failed(self, links: list[tuple[Node, Node]]) -> None:
        """From now on messages go as they would have from the start, had these links never been there."""
        self.graph.remove_edges_from(links)
        self.grid = Grid(self.graph, None, self.parts, self.grid.route)

    def routes(self, t: Transfer) -> Route:
        """Return the routes of a transfer, as links are now."""
        if t.spread:
            return self.spread(t.sender, t.receiver)
        return self.grid.hop(t.sender, t.receiver) if t.queued else self.grid.message(t.sender, t.receiver)

    def start_processes(self) -> None:
        queues: dict[tuple[Node, Node], list[tuple[int, int]]] = defaultdict(list)
        for c in self.graph:
            self.env.process(self.unit(c))
        for k, plan in self.plans.items():
            due: dict[Node, list[int]] = defaultdict(list)
            stage: dict[tuple[int, int, Node], list[int]] = defaultdict(list)
            for j, t in enumerate(plan.transfers):
                if t.queued:  # of a chip, an axis and a direction: one queue for each of its neighbours
                    queues[t.sender, t.receiver].append((k, j))
                else:
                    self.env.process(self.transfer(k, j))
                due[t.receiver].append(j)
                stage[t.part, t.phase, t.receiver].append(j)
            for c in self.graph:
                self.env.process(self.member(k, c, [self.arrived[k, j] for j in due[c]]))
                for part, phases in enumerate(plan.phases):
                    self.complete[k, part, -1, c] = self.base[k, c]
                    for f in range(len(phases)):
                        self.complete[k, part, f, c] = self.env.process(self.all_of(
                            [self.complete[k, part, f - 1, c], *(self.arrived[k, j] for j in stage[part, f, c])]))
        for (u, v), queue in queues.items():
            order = [(k, t.phase, t.part, t.step, -t.sign) for k, j in queue for t in [self.plans[k].transfers[j]]]
            assert len(set(order)) == len(order), f"the order of the queue {u} -> {v} is not fixed"
            self.env.process(self.queue([entry for _, entry in sorted(zip(order, queue, strict=True))]))

    def all_of(self, events: list[simpy.Event]) -> Waiting:
        yield from events

    def ready(self, k: int, chip: Node, other_than: int | None) -> list[simpy.Event]:
        return [self.ended[w, chip] for w in self.steps[k].waits if w != other_than]

    def begin(self, k: int, chip: Node) -> None:
        self.start_at[k, chip] = self.env.now
        self.begun[k, chip].succeed()

    def end(self, k: int, chip: Node) -> None:
        self.end_at[k, chip] = self.env.now
        self.ended[k, chip].succeed()

    def unit(self, c: Node) -> Waiting:
        """The compute unit of a chip: one operation after another, in program order."""
        for k, (operation, waits, partner) in enumerate(self.steps):
            if not isinstance(operation, Compute):
                continue
            yield from self.ready(k, c, other_than=partner)
            gather = partner is not None and partner < k
            if not taking_part(operation, self.grid, c):
                if gather:
                    yield self.begun[partner, c]
                self.begin(k, c)
                self.end(k, c)
                continue
            kernels, loop = operation.kernels, operation.loop
            operation = case_of(operation, self.grid, c)
            if partner is None or loop is None:
                self.begin(k, c)
                host = self.chip.step_overhead if operation.host else 0.0
                yield self.env.timeout(kernels * self.chip.op_overhead + host + work_time(operation, self.chip))
                self.end(k, c)
                continue
            plan, collective = self.plans[partner], self.steps[partner].operation
            assert isinstance(collective, Collective), f"{operation.name} is looped with {collective.name}"
            assert collective.kind == ("all_gather" if gather else "reduce_scatter"), (operation, collective)
            assert partner in waits if gather else k in self.steps[partner].waits, f"{operation.name} is no neighbour"
            if gather:
                yield self.begun[partner, c]
            self.begin(k, c)
            yield self.env.timeout(kernels * self.chip.op_overhead)
            adding = loop.sum_bytes / (self.chip.hbm_bandwidth * self.chip.hbm_efficiency)
            whole = plan.K * work_time(operation, self.chip, loop.cut, plan.K) + adding
            for place, fraction in pieces(plan, c, collective.kind, self.mode[partner]):
                if gather and place is not None:
                    yield from [self.arrived[partner, j] for j, t in enumerate(plan.transfers)
                                if t.receiver == c and t.place == place]
                yield self.env.timeout((self.chip.loop_step if place is not None else 0.0) + fraction * whole)
                self.piece_ended[k, c, place].succeed()
            self.end(k, c)

    def member(self, k: int, c: Node, due: list[simpy.Event]) -> Waiting:
        """A chip in a collective: its start, its base, its end."""
        partner = self.steps[k].partner
        scatter = partner is not None and partner < k
        yield from self.ready(k, c, other_than=partner)
        if scatter and partner is not None:
            yield self.begun[partner, c]
        self.begin(k, c)
        operation = self.steps[k].operation
        outside = isinstance(operation, Collective) and operation.groups and len(members(operation, self.grid, c)) < 2
        if k in self.plans and self.plans[k].K > 1 and not outside and taking_part(operation, self.grid, c):
            issued = self.plans[k].K - 1 + operation.pieces if operation.kind == "all_to_all" else 0
            yield self.env.timeout(self.chip.launch + issued * self.chip.message)
        self.base[k, c].succeed()
        yield from due
        if scatter and partner is not None:
            yield self.ended[partner, c]
        self.end(k, c)

    def queue(self, entries: list[tuple[int, int]]) -> Waiting:
        """Neighbour transfers in order, the next one not before this one has left."""
        for k, j in entries:
            yield from self.transfer(k, j)

    def transfer(self, k: int, j: int) -> Waiting:
        """One transfer until it has left: all that it waits for, then all its bytes."""
        collective, t, partner = self.steps[k].operation, self.plans[k].transfers[j], self.steps[k].partner
        assert isinstance(collective, Collective)
        yield self.base[k, t.sender]
        if t.queued:
            yield self.complete[k, t.part, t.phase - 1, t.sender]
        yield from [(self.headed if t.piped else self.arrived)[k, i] for i in t.waits]
        if t.after is not None:
            yield self.left[k, t.after]
        if partner is not None and partner < k:
            yield self.piece_ended[partner, t.sender, t.place]
        started, size = self.env.now, t.share * collective.bytes
        payload = {} if t.piped else self.take(k, t)
        self.env.process(self.head(k, j, latency_of(self.routes(t), self.graph)))
        yield self.fluid.send(size, loads_of(self.routes(t)), lambda: loads_of(self.routes(t)))
        self.left[k, j].succeed()
        self.env.process(self.deliver(k, j, payload, started, size, latency_of(self.routes(t), self.graph)))

    def deliver(self, k: int, j: int, payload: Held, started: float, size: float, latency: float) -> Waiting:
        t, left = self.plans[k].transfers[j], self.env.now
        if t.piped:
            yield from [self.arrived[k, i] for i in t.waits]
            payload, latency = self.take(k, t), latency_of(self.routes(t), self.graph)  # its last byte goes now
        yield self.env.timeout(latency)
        self.put(k, t, payload)
        self.sent.append(Sent(k, self.steps[k].operation.name, t.phase, t.part, t.step, t.sender, t.receiver, size,
                              started, left, self.env.now))
        self.arrived[k, j].succeed()

    def head(self, k: int, j: int, latency: float) -> Waiting:
        """The first byte of a transfer, until it arrives."""
        yield self.env.timeout(latency)
        self.headed[k, j].succeed()

    def take(self, k: int, t: Transfer) -> Held:
        """Return what leaves: copies in a gather, else the thing itself."""
        payload = {}
        for chunk in t.chunks:
            passed_on = self.transit[k, t.phase, t.sender]
            owned = passed_on if chunk in passed_on else self.state[k][t.sender]
            assert chunk in owned, f"{t.sender} sends {chunk} to {t.receiver} at {self.env.now}, and does not have it"
            if t.verb == "gather":
                final = self.plans[k].after[t.receiver][chunk]
                assert owned[chunk] == final, f"{t.sender} sends {chunk}, which lacks {final - owned[chunk]}"
            payload[chunk] = Counter(owned[chunk])
            if t.verb not in ("gather", "walk") or owned is passed_on:
                del owned[chunk]
        return payload

    def put(self, k: int, t: Transfer, payload: Held) -> None:
        """Add to the partial sums there in a reduction, else keep what must not be there yet."""
        held = self.transit[k, t.phase, t.receiver] if t.passing else self.state[k][t.receiver]
        for chunk, contributions in payload.items():
            if t.verb == "reduce":
                assert chunk in held, f"{t.receiver} has sent on {chunk} before {t.sender} had added to it"
                held[chunk] = held[chunk] + contributions
            else:
                assert chunk not in held, f"{t.receiver} got {chunk} twice, from {t.sender} at {self.env.now}"
                held[chunk] = contributions

    def check(self) -> None:
        """Assert that everything has ended, and that every collective has done what it promises."""
        for k, (operation, _, _) in enumerate(self.steps):
            for c in self.graph:
                assert (k, c) in self.end_at, f"{operation.name} (executed as number {k}) never ends on {c}"
                assert k not in self.plans or self.state[k][c] == self.plans[k].after[c], f"{operation.name} on {c}"
        assert all(event.triggered for event in self.arrived.values()), "a transfer has not arrived"
        assert not any(self.transit.values()), "a shard was lost on its way"


def simulate(
    program: Program,
    graph: nx.DiGraph,
    chip: Any,
    *,
    start: Mapping[Node, float] | None = None,
    ring_orders: RingOrders | None = None,
    ring: tuple[bool, ...] | None = None,
    parts: Parts | None = None,
    route: Router | None = None,
    spread: Router | None = None,
) -> dict[str, Any]:
    """Return the times of every executed operation on every chip, the makespan, bytes of links, and all transfers.

    `ring`: which axes are rings, by default those with a wraparound; `parts`: of a physical axis, innermost first (name,
    length, stride); `route`: from source and target to (share, chips) of each route, by default dimension order; `spread`: that
    of messages from and to a root. Links that
    fail in mid-run are taken out of `graph` then, so that a `route` sees that. `pieces` of the result: of every link, (from,
    to, bytes/s) of every flow on it.
    """
    starts = {c: (start or {}).get(c, 0.0) for c in graph}
    steps = executed(program)
    run = Run(steps, Grid(graph, ring, parts, route), chip, starts, ring_orders or {}, parts, spread)
    run.start_processes()
    run.env.run()
    run.check()
    return {
        "ops": [(step.operation.name, {c: run.start_at[k, c] for c in graph}, {c: run.end_at[k, c] for c in graph})
                for k, step in enumerate(steps)],
        "makespan": max([*starts.values(), *run.end_at.values()]),
        "link_bytes": run.fluid.carried,
        "pieces": run.fluid.pieces,
        "transfers": sorted(run.sent, key=lambda t: (t.number, t.phase, t.part, t.step, t.sender, t.receiver)),
    }
