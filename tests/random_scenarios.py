"""Random programs on random networks, and the comparison of engine and oracle on them.

A seed is a scenario, always the same one. Lengths 1 to 8, rings and lines, links that
all differ or are all alike, skewed starts, every kind of collective by every algorithm that the oracle knows, loops, `after`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any

import networkx as nx
import oracle

from torussim.chips import Chip, chip
from torussim.collectives.axes import ring_order
from torussim.collectives.lower import beside, view, weights
from torussim.engine.simulate import simulate
from torussim.program import LOOPS, SYMMETRIC, Block, Collective, Compute, Kind, Loop, Matmul, Operation, Program
from torussim.timeline import Timeline
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid

REAL = replace(chip("tpu-v4"), matmul_efficiency=0.7, hbm_efficiency=0.8, link_efficiency=0.9, launch=1.3e-6, op_overhead=0.8e-6,
               loop_step=0.3e-6, message=0.05e-6, load_rows=20.0, on_chip_bytes=3e6)  # a chip where every field counts
SHAPES = ((1, 3), (2, 2), (2, 3), (3, 2), (4, 2), (2, 5), (3, 4), (4, 4), (5, 3), (6, 2), (2, 7), (8, 2), (3, 6), (1, 4, 2),
          (2, 2, 2), (2, 3, 2), (3, 3, 2), (2, 1, 5), (3, 2, 4), (3, 3, 3), (4, 2, 2))
ALGORITHMS: Mapping[Kind, tuple[str, ...]] = {  # that the oracle knows
    "all_gather": ("", "multi_axis", "sequential", "one_ring", "nested"),
    "reduce_scatter": ("", "multi_axis", "sequential", "one_ring"),
    "all_reduce": ("", "multi_axis", "sequential", "one_ring"),
    "all_to_all": ("", "dimension_wise", "sequential"),
    "permute": ("dimension_order",),
}
SAME = 1e-9  # of the makespan
STATE = 1e-12  # of a block: docs/design.md 4, "Repetition"


@dataclass(frozen=True, eq=False)
class Scenario:
    """All that one run needs; `start`: (chips,) seconds."""

    program: Program
    graph: nx.DiGraph
    start: tuple[float, ...]
    chip: Chip = REAL
    repeat: bool = True

    @property
    def grid(self) -> Grid:
        return grid(self.graph)


# Drawing one

def scenario(seed: int, *, layers: int | None = None, skewed: bool = True) -> Scenario:
    """Return the scenario of a seed; with `layers` it has one block, so often; without `skewed` all chips start at 0."""
    rng = Random(seed)
    graph = network(rng)
    net = grid(graph)
    lists = [operations(rng, net, label, count)
             for label, count in (("p", rng.choice((0, 0, 1, 2))), ("b", rng.randint(1, 5)), ("e", rng.choice((0, 0, 1, 2))))]
    times = rng.choice((1, 1, 2, 2, 3, 3, 6))
    start = tuple(rng.choice((0.0, rng.uniform(0, 2e-4))) for _ in net.chips) if rng.random() < 0.6 else (0.0,) * len(net.chips)
    more = () if layers else further(seed, net, operations)
    return Scenario(Program(lists[1], layers or times, lists[0], lists[2], more), graph,
                    start if skewed else (0.0,) * len(net.chips), repeat=rng.random() < 0.6)


def further(seed: int, net: Grid, make: Callable[[Random, Grid, str, int], tuple[Operation, ...]]) -> tuple[Block, ...]:
    """Return the blocks after the first: in a quarter of the seeds one or two."""
    rng = Random(f"{seed} further")
    return tuple(Block(make(rng, net, label, rng.randint(0, 3)), rng.choice((1, 1, 2, 3, 6)))
                 for label in "cd"[:rng.choice((0, 0, 0, 0, 0, 0, 1, 2))])


def renamed(operations: tuple[Operation, ...], ending: str) -> tuple[Operation, ...]:
    """Return the same operations by other names."""
    found: list[Operation] = []
    for o in operations:
        after = tuple(name + ending for name in o.after) if o.after is not None else None
        o = replace(o, name=o.name + ending, after=after)
        if isinstance(o, Compute):
            loops = [replace(loop, collective=loop.collective + ending) for loop in (*o.loops, *([o.loop] if o.loop else []))]
            o = replace(o, loops=tuple(loops[:len(o.loops)]), loop=loops[-1] if o.loop else None)
        found.append(o)
    return tuple(found)


def parted(program: Program, first: int) -> Program:
    """Return the program with its only block in two: its first runs, and the others by other names."""
    return replace(program, layers=first, more=(Block(renamed(program.block, "_later"), program.layers - first),))


def network(rng: Random) -> nx.DiGraph:
    """Return a torus, mesh or something between; all links differ, or are alike, or only those of an axis are."""
    shape = (rng.randint(2, 8),) if rng.random() < 0.4 else rng.choice(SHAPES)
    graph = torus(shape, wrap=[rng.random() < 0.6 for _ in shape], bandwidth=1.0)
    alike = rng.random()
    of_axis = [(rng.uniform(1e9, 9e9), rng.choice((0.0, rng.uniform(0, 3e-6)))) for _ in shape]
    for u, v, link in graph.edges(data=True):
        axis = next(i for i in range(len(shape)) if u[i] != v[i])
        own = rng.uniform(1e9, 9e9), rng.choice((0.0, rng.uniform(0, 3e-6)))
        link["bandwidth"], link["latency"] = of_axis[0] if alike < 0.15 else of_axis[axis] if alike < 0.35 else own
    return graph


def operations(rng: Random, net: Grid, label: str, count: int) -> tuple[Operation, ...]:
    """Return a list of `count` operations, a looped pair counting as one, each waiting for some of those before it."""
    found: list[Operation] = []
    for i in range(count):
        kind = rng.choice(("compute", *SYMMETRIC, *SYMMETRIC[:2]))
        if kind == "compute":
            found.append(compute(rng, f"{label}{i}", waits(rng, found)))
            continue
        collective = drawn(rng, net, f"{label}{i}", kind, waits(rng, found))
        if kind not in SYMMETRIC[:2] or rng.random() < 0.4:
            found.append(collective)
            continue
        names = (collective.name, f"{label}{i}_work")
        sums = 100 * collective.bytes if kind == "reduce_scatter" else 0.0
        loop = Loop(collective.name, rng.choice(LOOPS), cut(rng, net, collective), sums)
        others = tuple(o.name for o in found if rng.random() < 0.15)
        if kind == "all_gather":
            after = None if rng.random() < 0.5 else (names[0], *others)
            found += [collective, replace(compute(rng, names[1], after), loop=loop)]
        else:
            after = None if rng.random() < 0.5 else (names[1], *others)
            found += [replace(compute(rng, names[1], collective.after), loop=loop), replace(collective, after=after)]
    return tuple(found)


def waits(rng: Random, before: list[Operation]) -> tuple[str, ...] | None:
    return None if rng.random() < 0.6 else tuple(o.name for o in rng.sample(before, rng.randint(0, min(3, len(before)))))


def cut(rng: Random, net: Grid, collective: Collective) -> tuple[int, int, int]:
    """Return how a loop cuts m, k and n: each axis of the collective cuts one of them."""
    parts = [1, 1, 1]
    for axis in collective.axes:
        parts[rng.randrange(3)] *= net.length(axis)
    return parts[0], parts[1], parts[2]


def compute(rng: Random, name: str, after: tuple[str, ...] | None) -> Compute:
    matmuls = tuple(Matmul(rng.randint(1, 60), rng.randint(1, 3000), rng.randint(1, 3000), rng.choice((1, 1, 3)))
                    for _ in range(rng.choice((0, 1, 1, 2))))
    made = Compute(name, matmuls, rng.uniform(0, 1e9), rng.uniform(0, 1e7), rng.choice(("bf16", "int8")), after)
    if len(matmuls) != 1:
        return made
    # The scratch of about three in ten fits on the chip; kernels are as many as the name has letters.
    return replace(made, vector=made.flops / 10, vector_bytes=made.hbm_bytes / 10, scratch=made.hbm_bytes, scratch_passes=0.5,
                   kernels=len(name))


def drawn(rng: Random, net: Grid, name: str, kind: Kind, after: tuple[str, ...] | None) -> Collective:
    """Return a collective over at least one axis above length 1, and perhaps some of length 1."""
    live = [a for a in net.axes if net.length(a) > 1]
    axes = [*rng.sample(live, rng.randint(1, len(live))), *(a for a in net.axes if a not in live and rng.random() < 0.5)]
    rng.shuffle(axes)
    count = sum(a in live for a in axes)
    algorithm = rng.choice(("", rng.choice(ALGORITHMS[kind])))
    split: str | tuple[float, ...] = "equal"
    if algorithm in ("", "multi_axis", "dimension_wise") and rng.random() < 0.4:
        shares = [rng.choice((0.0, rng.random(), rng.random())) for _ in range(count)]
        split = "auto" if rng.random() < 0.3 or not sum(shares) else tuple(s / sum(shares) for s in shares)
    if algorithm == "one_ring":
        axes = [a for a in axes if a in live]
    shift = {a: rng.randint(-9, 9) for a in axes} if kind == "permute" else {}
    if kind == "permute":
        axes, algorithm = [a for a in net.axes if a in axes], "dimension_order"  # a direct one is routed: random_shared
    if algorithm == "nested" and not all(net.ring[net.axis(a)] or net.length(a) <= 2 for a in axes):
        algorithm = "sequential"  # nested, what goes over the end of a line is routed
    size = rng.uniform(1e3, 1e6)
    return Collective(name, kind, tuple(axes), size, algorithm, split, rng.choice(("both", "both", "one_way")), shift, after,
                      pieces=size // 1e5 if kind == "all_to_all" else 0.0)


# Holding one to the other

def run(case: Scenario, **choices: Any) -> Timeline:
    """Return what the engine says."""
    return simulate(case.program, case.grid, case.chip, start=case.start, **{"repeat": case.repeat, **choices})


def expected(case: Scenario) -> dict[str, Any]:
    """Return what the oracle says; it is told what `split: auto` means, which axes are rings, and which rings to take."""
    net = case.grid
    change, orders = told(case.program, net)
    start = dict(zip(net.chips, case.start, strict=True))
    return oracle.simulate(case.program.replaced(change), case.graph, case.chip, start=start, ring_orders=orders,
                           ring=net.ring)


def told(program: Program, net: Grid) -> tuple[dict[str, Operation], dict[tuple[str, ...], Any]]:
    """Return the operations with `split: auto` made explicit, and the order of chips on each ring over several axes."""
    change: dict[str, Operation] = {}
    orders = {}
    for o in program.operations():
        if isinstance(o, Collective):
            lengths = {a: net.length(a) for a in o.axes if net.length(a) > 1}
            seen = view(o, net)
            ring = {a: seen.ring[net.axis(a)] for a in lengths}
            if o.split == "auto":
                change[o.name] = replace(o, split=weights(o, seen, lengths, ring))
            if o.kind == "permute" and not o.algorithm:
                change[o.name] = replace(o, algorithm="dimension_order" if beside(o, net) else "direct")
            if o.algorithm in ("chain", "two_chains"):
                orders[tuple(lengths)] = ring_order(list(lengths.values()), list(ring.values()))
            if o.algorithm == "one_ring":
                orders[o.axes] = ring_order(list(lengths.values()), list(ring.values()))
    return change, orders


@cache
def expected_of(seed: int) -> dict[str, Any]:
    return expected(scenario(seed))


def difference(case: Scenario, said: Timeline, wanted: dict[str, Any], blocks: bool = True) -> str:
    """Return in words the first way in which the engine's timeline is not the oracle's, or nothing.

    Start and end of every operation on every chip, the makespan, bytes edge by edge, and with `blocks` how many were simulated.
    """
    net, close = case.grid, SAME * wanted["makespan"]
    executed = iter(wanted["ops"])
    for number, (segment, offset) in enumerate(said.runs):
        part = said.segments[segment]
        for operation, starts, ends in zip(part.operations, part.start + offset, part.end + offset, strict=True):
            name, started, ended = next(executed, ("nothing", {}, {}))
            if operation.name != name:
                return f"run {number} has {operation.name} where the oracle runs {name}"
            for what, got, want in (("starts", starts, started), ("ends", ends, ended)):
                for c, place in enumerate(net.chips):
                    if not abs(got[c] - want[place]) <= close:
                        return f"run {number}: {name} {what} on {place} at {got[c]!r} instead of {want[place]!r}: {operation}"
    if left := list(executed):
        return f"the engine leaves out {left[0][0]}"
    if not abs(said.finish.max() - wanted["makespan"]) <= close:
        return f"the last chip is done at {said.finish.max()!r} instead of {wanted['makespan']!r}"
    carried = dict.fromkeys(wanted["link_bytes"], 0.0)
    for link, size in enumerate(said.link_bytes.tolist()):
        carried[net.links.edge(link)] += size
    for edge, size in wanted["link_bytes"].items():
        if not abs(carried[edge] - size) <= SAME * max(size, 1.0):
            return f"the link {edge} carries {carried[edge]!r} bytes instead of {size!r}"
    if not blocks:
        return ""
    count = needed(case, wanted)
    if said.blocks_simulated != count:
        return f"{said.blocks_simulated} of {case.program.block_runs} blocks were simulated instead of {count}"
    return ""


def needed(case: Scenario, wanted: dict[str, Any]) -> int:
    """Return how many runs of each block must be simulated until the state of the network is one that was there before, in all.

    From the oracle's times: clocks, the unit and every queue, an idle one as good as one that is free just now.
    """
    first, found = len(case.program.prologue), 0
    for operations, times in case.program.blocks:
        if operations:
            found += needed_of(case, wanted, first, len(operations), times) if case.repeat else times
        first += len(operations) * times
    return found


def needed_of(case: Scenario, wanted: dict[str, Any], first: int, size: int, times: int) -> int:
    """Return it for a block of `size` operations, before which `first` operations are executed."""
    program, net = case.program, case.grid
    kinds = [o for operations, often in program.sections() for _ in range(often) for o in operations]
    states: list[list[float]] = []
    before = 0.0  # when the last block began
    for done in range(times):
        until = first + done * size  # operations that were executed before this block
        clock = dict(zip(net.chips, case.start, strict=True)) if not until else wanted["ops"][until - 1][2]
        free: dict[Any, float] = {}
        for o, (_, _, ended) in list(zip(kinds, wanted["ops"], strict=True))[:until]:
            if isinstance(o, Compute):
                free |= {("unit", c): end for c, end in ended.items()}
        for sent in wanted["transfers"]:
            if sent.number < until:
                link = (sent.sender, sent.receiver)
                free[link] = max(free.get(link, 0.0), sent.end)
        zero = min(clock.values())
        keys = [*(("unit", c) for c in net.chips), *case.graph.edges]
        owner = {key: key[1] if key[0] == "unit" else key[0] for key in keys}
        states.append([clock[c] - zero for c in net.chips]
                      + [max(free.get(key, 0.0), clock[owner[key]]) - zero for key in keys])
        close, before = STATE * (zero - before), zero
        if any(max(abs(a - b) for a, b in zip(states[-1], old, strict=True)) <= close for old in states[:-1]):
            return done
    return times


# Making a failure small

def smaller(case: Scenario) -> Iterator[Scenario]:
    """Yield scenarios with a little less in them: fewer layers, no skew, one operation less (or a looped pair)."""
    program = case.program
    if program.layers > 1:
        yield replace(case, program=replace(program, layers=program.layers - 1))
    for i, (operations, times) in enumerate(program.more):
        less = (Block(operations, times - 1),) if times > 1 else ()
        yield replace(case, program=replace(program, more=(*program.more[:i], *less, *program.more[i + 1:])))
    if any(case.start):
        yield replace(case, start=(0.0,) * len(case.start))
    for section in ("prologue", "block", "epilogue"):
        for gone in getattr(program, section):
            names = {gone.name}
            for o in getattr(program, section):
                if isinstance(o, Compute) and o.loop and {o.name, o.loop.collective} & names:
                    names |= {o.name, o.loop.collective}
            left = tuple(replace(o, after=tuple(n for n in o.after if n not in names) if o.after is not None else None)
                         for o in getattr(program, section) if o.name not in names)
            yield replace(case, program=replace(program, **{section: left}))


def compare(case: Scenario, wanted: dict[str, Any] | None = None) -> str:
    """Return the first difference between engine and oracle, on the smallest scenario of its kind; or nothing."""
    found = difference(case, run(case), expected(case) if wanted is None else wanted)
    if not found:
        return ""
    shrunk = True
    while shrunk:
        shrunk = False
        for less in smaller(case):
            if text := difference(less, run(less), expected(less)):
                case, found, shrunk = less, text, True
                break
    links = {edge: (link["bandwidth"], link["latency"]) for edge, link in case.graph.edges.items()}
    return f"{found}\n{case.program}\naxes {case.graph.graph['axes']}, starts {case.start}, repeat {case.repeat}\nlinks {links}"
