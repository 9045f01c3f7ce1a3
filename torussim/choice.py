"""The choices before a program runs: algorithms, the loop of each matmul, and how broken rings run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torussim.chips import Chip
from torussim.clock import Clock
from torussim.collectives.lower import AUTO, DIRECT, TO_ROOT, algorithm_of, beside, fits, joined, summed
from torussim.cost import overhead_seconds, protocols
from torussim.outlines import Outlines, outlines_of
from torussim.prices import Prices, work
from torussim.program import ALIKE, ONE_SHOT, Collective, Compute, Loop, Operation, Program, changed
from torussim.topology.grid import Grid

# The most tokens, and chips, of a sum by one_shot in serving stacks: TensorRT-LLM, allReduceFusionKernels (kOneShotMaxToken) and
# customAllReduceKernels (MAX_RANKS_PER_NODE); the kernel of FlashInfer, which other stacks use, has the same.
TOKENS, GROUP = 128, 16
MOST = 200_000  # the most messages whose routes are computed for an estimate


def chosen(program: Program, network: Grid | Outlines, chip: Chip) -> Program:
    """Return the program with all choices made: algorithms, broken rings, loops, permutes between neighbours."""
    outlines = outlines_of(network)
    program = with_sums(program, outlines, chip)
    loops = {o.loop.collective for o in program.operations() if isinstance(o, Compute) and o.loop}
    program = program.replaced({
        o.name: named(o, next(name for name in alternatives(o, outlines, chip) if name not in DIRECT or o.name not in loops))
        for o in program.operations() if isinstance(o, Collective) and open_(o, outlines)})
    change: dict[str, Operation] = {
        o.name: changed(o, detour=detours(o, outlines, chip)) for o in program.operations()
        if isinstance(o, Collective) and o.detour is None and outlines.broken(o)}
    change |= {o.name: changed(o, algorithm="dimension_order") for o in program.operations()
               if isinstance(o, Collective) and o.kind == "permute" and not o.algorithm and beside(o, outlines.net)}
    program = with_loops(program.replaced(change) if change else program, outlines, chip)
    if chip.bulk_launch == 0:
        return program
    loops = {o.loop.collective for o in program.operations() if isinstance(o, Compute) and o.loop}
    return program.replaced({
        o.name: changed(o, protocol=faster(o, outlines, chip)) for o in program.operations()
        if isinstance(o, Collective) and not o.protocol and o.name not in loops})


def open_(o: Collective, outlines: Outlines) -> bool:
    """Return whether a collective takes the fastest algorithm by estimate, as it does off tori and meshes if it names none."""
    chips, off = o.largest(outlines.net.length), not outlines.net.on_axes or bool(o.groups)
    return chips > 1 and (o.algorithm == AUTO or (not o.algorithm and o.kind != "permute" and off))


def alternatives(o: Collective, outlines: Outlines, chip: Chip) -> dict[str, float]:
    """Return the algorithms of a collective with the estimated seconds of each alone, the fastest first."""
    chips, found = o.largest(outlines.net.length), dict[str, float]()
    there = fits(o, chips, o.kind == "all_reduce" and summed(o, outlines.net))
    for name in library_of(o, there, outlines, chip) or [name for name in there if name != ONE_SHOT]:
        one = named(o, name)
        closed = outlines.net.on_axes and name in ("direct", "shifts") and o.kind in ALIKE and not o.groups and not o.matrix
        if name in DIRECT and not closed and len(outlines.net.chips) * _messages(name, o.kind, chips) > MOST:
            continue  # finding the routes of so many messages takes longer than the run
        ways = (True, False) if o.detour is None and outlines.broken(one) else (o.detour,)
        found[name] = min(alone(changed(one, detour=way, protocol=protocol), outlines.prices(chip))
                          for way in ways for protocol in protocols(one, chip))
    least = min(found.values())
    return dict(sorted(found.items(), key=lambda item: round(item[1] / least, 9) if least else 0.0))


def with_sums(program: Program, outlines: Outlines, chip: Chip) -> Program:
    """Return the program as a stack runs it that has one_shot: the sums of its layers are all-reduces, and are not looped.

    The residual is then whole on every chip, and there is nothing to gather. Each chip does the elementwise work of all; of few
    tokens the kernel of the sum does it, on data that are on the chip. This is so in a group on one switch, if the layout names
    no algorithms for these collectives.
    """
    marked = [o for o in program.operations() if isinstance(o, Collective) and o.tokens]
    if ONE_SHOT not in chip.algorithms.get("all_reduce", ()) or any(o.algorithm for o in marked) or not all(
            joined(o, outlines.net) for o in {(o.axes, o.groups): o for o in marked}.values()):
        return program
    made = {o.name: changed(o, axes=(), bytes=0.0) if o.kind == "all_gather" else changed(o, kind="all_reduce", algorithm=AUTO)
            for o in marked}

    def run(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
        ops = [made.get(o.name, o) for o in operations]
        for i, (o, was) in enumerate(zip(ops, operations)):
            before = ops[i - 1] if i else None
            if isinstance(was, Collective) and was.kind == "all_gather" and was.tokens > TOKENS and isinstance(before, Compute):
                chips = was.largest(outlines.net.length)
                ops[i - 1] = changed(before, vector=chips * before.vector, vector_bytes=chips * before.vector_bytes)
            elif isinstance(o, Compute) and o.loops:
                ops[i] = changed(o, loops=tuple([loop for loop in o.loops if loop.collective not in made]))
        return tuple(ops)
    return program.mapped(run) if made else program


def library_of(o: Collective, there: Sequence[str], outlines: Outlines, chip: Chip) -> list[str]:
    """Return the algorithms of a collective that the library of the chip has, of those that there are.

    one_shot is for few tokens, in a group on one switch. Where it also quantises the sum, a stack takes no other, because
    no other does that (TensorRT-LLM, allreduceOp.cpp).
    """
    found = [name for name in chip.algorithms.get(o.kind, ()) if name.partition(" ")[0] in there]
    if ONE_SHOT in found and 0 < o.tokens <= TOKENS and o.largest(outlines.net.length) <= GROUP and joined(o, outlines.net):
        return [ONE_SHOT] if o.quantised else found
    return [name for name in found if name != ONE_SHOT]


def faster(o: Collective, outlines: Outlines, chip: Chip) -> str:
    """Return the protocol in which a collective alone is faster by estimate."""
    return min(protocols(o, chip), key=lambda way: alone(changed(o, protocol=way), outlines.prices(chip)))


def named(o: Collective, name: str) -> Collective:
    """Return a collective with the algorithm of a name: the algorithm alone, or with a direction, such as one_ring one_way."""
    algorithm, _, way = name.partition(" ")
    return changed(o, algorithm=algorithm, direction=way or o.direction)


def _messages(name: str, kind: str, chips: int) -> int:
    """Return the approximate number of messages of each chip in the tables of an algorithm: to all others, or to a few."""
    few = name not in ("direct", ONE_SHOT, "shifts", "pairwise", "chain", "two_chains") or (name, kind) in TO_ROOT
    return chips.bit_length() ** 2 if few else chips


def detours(o: Collective, outlines: Outlines, chip: Chip) -> bool:
    """Return whether a collective is faster with detours around the gaps of its rings than with the rings run as lines."""
    by_detour, as_lines = (alone(changed(o, detour=way), outlines.prices(chip)) for way in (True, False))
    return by_detour < as_lines


def alone(o: Collective, prices: Prices, fastest: bool = False) -> float:
    """Return the time of a collective on an idle network; `fastest`: with the fastest link of each axis."""
    timing = prices.collective(o, fastest=fastest)
    return prices.once(("alone", timing), lambda: Clock(prices, fastest).collective(timing, 0.0))


def best(matmul: Compute, partners: Mapping[str, Collective], prices: Prices) -> Loop | None:
    """Return the loop with the largest gain among those with these collectives, on an idle chip; None if none gains."""
    def found() -> int:
        apart = {name: min(alone(changed(o, protocol=way), prices) for way in protocols(o, prices.chip))
                 for name, o in partners.items()}
        fixed, multiply = overhead_seconds(matmul, prices.chip), prices.compute(matmul)
        pick, most = -1, 1e-12 * max(apart.values(), default=0.0)
        for i, loop in enumerate(loops):
            gain = apart[loop.collective] + fixed + multiply - looped(matmul, partners[loop.collective], loop, prices)
            if gain > most:
                pick, most = i, gain
        return pick

    loops = [loop for loop in matmul.loops if loop.collective in partners]
    names = list(partners)
    of = tuple([(names.index(loop.collective), loop.kind, loop.cut, loop.sum_bytes) for loop in loops])
    key = "best", work(matmul), matmul.kernels, of, tuple([prices.outlines.key(o) for o in partners.values()])
    pick = prices.once(key, found)
    return None if pick < 0 else loops[pick]


def looped(matmul: Compute, o: Collective, loop: Loop, prices: Prices, fastest: bool = False) -> float:
    """Return the time of a matmul looped with a collective, on an idle chip; `fastest`: as in `alone`."""
    clock, timing = Clock(prices, fastest), prices.collective(o, loop, fastest)
    pieces = prices.pieces(matmul, o, loop)
    if o.kind == "all_gather":
        return clock.gather_loop(timing, pieces, 0.0, 0.0)[1]
    return clock.scatter_loop(pieces, timing, 0.0, 0.0)[1]


def with_loops(program: Program, network: Grid | Outlines, chip: Chip) -> Program:
    """Return the program with each matmul looped in the fastest way by estimate, where it may be looped.

    Of the gather before a matmul and the scatter after it, the matmul is looped with the one, and in the kind, that gains most
    over one after the other; with none if none gains. The gather is moved next to its matmul.
    """
    outlines = outlines_of(network)
    if not any(isinstance(o, Compute) and o.loops for o in program.operations()):
        return program
    prices = outlines.prices(chip)
    return program.mapped(lambda operations: _choose(operations, prices))


def _choose(operations: tuple[Operation, ...], prices: Prices) -> tuple[Operation, ...]:
    if not any(isinstance(o, Compute) and o.loops for o in operations):
        return operations
    ops = list(operations)
    taken: set[str] = set()
    for matmul in [o for o in ops if isinstance(o, Compute) and o.loops]:
        named = {o.name: o for o in ops}
        partners = {name: o for loop in matmul.loops if (name := loop.collective) not in taken
                    and isinstance(o := named[name], Collective) and algorithm_of(o) not in DIRECT}
        chosen = best(matmul, partners, prices)
        ops = _beside(ops, chosen.collective, matmul.name) if chosen else ops
        names = [o.name for o in ops]
        place = names.index(matmul.name)
        if chosen and abs(names.index(chosen.collective) - place) > 1:
            chosen = None  # an operation between them depends on it
        ops[place] = _looped(ops[place], chosen)
        if chosen:
            taken.add(chosen.collective)
    return tuple(ops)


def _looped(matmul: Operation, loop: Loop | None) -> Compute:
    """Return a matmul with its chosen loop."""
    assert isinstance(matmul, Compute)
    return changed(matmul, loop=loop, loops=())


def _beside(ops: list[Operation], collective: str, matmul: str) -> list[Operation]:
    """Return the list with an all-gather moved to just before its matmul, if no operation between depends on it."""
    names = [o.name for o in ops]
    i, j = names.index(collective), names.index(matmul)
    if i < j - 1:
        told: list[Operation] = [o if o.after is not None else changed(o, after=(names[k - 1],) if k else ())
                                 for k, o in enumerate(ops)]  # the dependencies of an operation stay; its position changes
        if not any(collective in (o.after or ()) for o in told[i + 1:j]):
            return told[:i] + told[i + 1:j] + [told[i]] + told[j:]
    return ops
