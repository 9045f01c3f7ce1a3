"""What is chosen by estimate before a program runs: which collective each matmul is looped with, and how broken rings run."""

from __future__ import annotations

from dataclasses import replace

from torussim.chips import Chip
from torussim.clock import Clock
from torussim.cost import compute_seconds
from torussim.outlines import Outlines, broken, outlines_of
from torussim.program import Collective, Compute, Loop, Operation, Program
from torussim.topology.grid import Grid


def chosen(program: Program, network: Grid | Outlines, chip: Chip) -> Program:
    """Return the program with all chosen that is chosen by estimate: how broken rings run, and the loops."""
    outlines = outlines_of(network)
    change = {o.name: replace(o, detour=detours(o, outlines, chip)) for o in program.operations()
              if isinstance(o, Collective) and o.detour is None and broken(o, outlines.net)}
    return with_loops(program.replaced(change) if change else program, outlines, chip)


def detours(o: Collective, outlines: Outlines, chip: Chip) -> bool:
    """Return whether a collective is faster if its broken rings go round the gaps than if they run as lines."""
    times = [Clock(outlines, chip).collective(replace(o, detour=way), 0.0) for way in (True, False)]
    return times[0] < times[1]


def with_loops(program: Program, network: Grid | Outlines, chip: Chip) -> Program:
    """Return the program with each matmul that may be looped looped in the fastest way, by estimate.

    Of the gather before a matmul and the scatter after it that one is looped, and in that kind, which gains most over one after
    the other; none where none gains. The gather is put next to its matmul.
    """
    outlines = outlines_of(network)
    if not any(isinstance(o, Compute) and o.loops for o in program.operations()):
        return program
    return replace(program, prologue=_choose(program.prologue, outlines, chip), block=_choose(program.block, outlines, chip),
                   epilogue=_choose(program.epilogue, outlines, chip))


def _choose(operations: tuple[Operation, ...], outlines: Outlines, chip: Chip) -> tuple[Operation, ...]:
    if not any(isinstance(o, Compute) and o.loops for o in operations):
        return operations
    ops = list(operations)
    taken: set[str] = set()
    for matmul in [o for o in ops if isinstance(o, Compute) and o.loops]:
        named = {o.name: o for o in ops}
        partners = {loop.collective: named[loop.collective] for loop in matmul.loops if loop.collective not in taken}
        alone = {name: Clock(outlines, chip).collective(c, 0.0) for name, c in partners.items() if isinstance(c, Collective)}
        chosen, most = None, 1e-12 * max(alone.values(), default=0.0)
        multiply = compute_seconds(matmul, chip)
        for loop in matmul.loops:
            collective = partners.get(loop.collective)
            if isinstance(collective, Collective):
                apart = alone[loop.collective] + chip.op_overhead * matmul.kernels + multiply
                gain = apart - _pair(matmul, collective, loop, outlines, chip)
                if gain > most:
                    chosen, most = loop, gain
        ops = _beside(ops, chosen.collective, matmul.name) if chosen else ops
        names = [o.name for o in ops]
        place = names.index(matmul.name)
        if chosen and abs(names.index(chosen.collective) - place) > 1:
            chosen = None  # something between them waits for it
        ops[place] = _looped(ops[place], chosen)
        if chosen:
            taken.add(chosen.collective)
    return tuple(ops)


def _looped(matmul: Operation, loop: Loop | None) -> Compute:
    """Return a matmul with its choice made."""
    assert isinstance(matmul, Compute)
    return replace(matmul, loop=loop, loops=())


def _pair(matmul: Compute, collective: Collective, loop: Loop, outlines: Outlines, chip: Chip) -> float:
    """Return the time of a matmul looped with its collective, on an idle chip."""
    clock = Clock(outlines, chip)
    if collective.kind == "all_gather":
        return clock.gather_loop(collective, matmul, loop, 0.0, 0.0)[1]
    return clock.scatter_loop(matmul, collective, loop, 0.0, 0.0)[1]


def _beside(ops: list[Operation], collective: str, matmul: str) -> list[Operation]:
    """Return the list with an all-gather moved to just before its matmul, where nothing between waits for it."""
    names = [o.name for o in ops]
    i, j = names.index(collective), names.index(matmul)
    if i < j - 1:
        told: list[Operation] = [o if o.after is not None else replace(o, after=(names[k - 1],) if k else ())
                                 for k, o in enumerate(ops)]  # what an operation waits for stays, where it stands changes
        if not any(collective in (o.after or ()) for o in told[i + 1:j]):
            return told[:i] + told[i + 1:j] + [told[i]] + told[j:]
    return ops
