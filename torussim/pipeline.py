"""Pipeline stages: the program of all stages and microbatches, from the lists of one microbatch.

Stage s has some of the layers, and the chips at position s of an axis run it. In tick k = 0 .. m + p - 2, stage s works on
microbatch k - s, if there is one; else its chips are idle: a bubble. A tick ends with a permute that hands the residual over to
the next stage. A stage does not wait for its own sends, so where nothing else happens m microbatches take (m + p - 1) t and p - 1
transfers on p stages of time t; the bubble is (p - 1) / (m + p - 1) of it (GPipe, arXiv 1811.06965, section 2.3). The module
knows nothing of models, shardings and times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from torussim.program import Block, Collective, On, One, Operation, Program, changed

HAND_OVER, TAG = "hand_over", "#"  # the permute to the next stage; what separates the name of an operation from its tick
Lists = tuple[Block, ...]  # the layers of a stage


def dealt(layers: int, stages: int) -> tuple[range, ...]:
    """Return the layers of each stage: as even as they go, the first stages with one more.

    >>> dealt(7, 3)
    (range(0, 3), range(3, 5), range(5, 7))
    """
    least, more = divmod(layers, stages)
    ends = [least * stage + min(stage, more) for stage in range(stages + 1)]
    return tuple(map(range, ends, ends[1:]))


@dataclass(frozen=True, eq=False)
class Pipeline:
    """What one microbatch runs on each stage, in order: `first` on the first, its `layers`, `last` on the last.

    `axis`: the axis of the network whose positions are the stages. `size`: bytes that a chip hands over.
    """

    axis: str
    microbatches: int
    first: tuple[Operation, ...]
    layers: Sequence[Lists]
    last: tuple[Operation, ...]
    size: float

    @property
    def stages(self) -> int:
        """The number of stages."""
        return len(self.layers)

    def build(self) -> Program:
        """Return the program of all stages and microbatches, of two stages or more."""
        blocks = list[Block]()
        for _, group in groupby(range(self.microbatches + self.stages - 1), self.active):
            ticks = list(group)
            tick = self.tick(ticks[0])
            unrolled = _unrolled(tick)
            if len(ticks) > 1 and len(unrolled) <= len(ticks) * sum(len(block.operations) for block in tick):
                blocks.append(Block(unrolled, len(ticks)))
            else:
                blocks += [block for number in ticks for block in (tick if number == ticks[0] else self.tick(number))]
        prologue, epilogue = Block((), 1), Block((), 1)
        if self.first:
            prologue, *blocks = blocks
        if self.last:
            *blocks, epilogue = blocks
        return Program(*blocks[0], prologue.operations, epilogue.operations, tuple(blocks[1:]))

    @cached_property
    def alike(self) -> list[tuple[Lists, list[int]]]:
        """The stages that have the same layers, together."""
        found = list[tuple[Lists, list[int]]]()
        for stage, layers in enumerate(self.layers):
            like = next((stages for other, stages in found if other == layers), None)
            if like is None:
                found.append((layers, [stage]))
            else:
                like.append(stage)
        return found

    def active(self, tick: int) -> tuple[int, ...]:
        """Return the stages that work in a tick, by which it differs from others."""
        return tuple(stage for stage in range(self.stages) if 0 <= tick - stage < self.microbatches)

    def tick(self, tick: int) -> list[Block]:
        """Return the lists of a tick."""
        active, found = self.active(tick), list[Block]()
        if 0 in active and self.first:
            found.append(Block(self._copied(self.first, f"{TAG}{tick}", (0,)), 1))
        for number, (layers, stages) in enumerate(self.alike):
            working = tuple(stage for stage in stages if stage in active)
            tag = f"{TAG}{tick}" if not number else f"{TAG}{tick}/{stages[0]}"
            found += [Block(self._copied(operations, tag, working), times) for operations, times in layers if working]
        if self.stages - 1 in active and self.last:
            found.append(Block(self._copied(self.last, f"{TAG}{tick}", (self.stages - 1,)), 1))
        senders = tuple(stage for stage in active if stage < self.stages - 1)
        if senders:
            over: On = ((self.axis, senders),)
            found.append(Block((Collective(f"{HAND_OVER}{TAG}{tick}", "permute", (self.axis,), self.size, shift={self.axis: 1},
                                           on=over),), 1))
        return found

    def _copied(self, operations: tuple[Operation, ...], tag: str, stages: tuple[int, ...]) -> tuple[Operation, ...]:
        return tagged(operations, tag, ((self.axis, stages),))


def copies(program: Program) -> dict[str, list[Operation]]:
    """Return the copies of each operation of a microbatch in a built program, by its name."""
    found: dict[str, list[Operation]] = {}
    for o in program.operations():
        found.setdefault(of_microbatch(o.name), []).append(o)
    return found


def of_microbatch(name: str) -> str:
    """Return the name of the operation of a microbatch that an operation of a program is a copy of.

    >>> of_microbatch("attention#3"), of_microbatch("attention")
    ('attention', 'attention')
    """
    return name.partition(TAG)[0]


def tagged(operations: tuple[Operation, ...], tag: str, on: On = (), prefix: str = "") -> tuple[Operation, ...]:
    """Return a list of operations with a tag behind each name, and a prefix before it, on some positions only."""
    return tuple(renamed(o, tag, on, prefix) for o in operations)


def renamed(o: One, tag: str, on: On = (), prefix: str = "") -> One:
    """Return one operation of such a list."""
    after = None if o.after is None else tuple(prefix + name + tag for name in o.after)
    found = changed(o, name=prefix + o.name + tag, after=after, on=o.on + on)
    if isinstance(found, Collective):
        return found
    loops = tuple(replace(loop, collective=prefix + loop.collective + tag) for loop in found.loops)
    loop = found.loop and replace(found.loop, collective=prefix + found.loop.collective + tag)
    return changed(found, loops=loops, loop=loop)


def _unrolled(blocks: Sequence[Block]) -> tuple[Operation, ...]:
    """Return all runs of lists as one list. A dependency on the start of a run becomes one on the end of the run before."""
    found = list[Operation]()
    for operations, times in blocks:
        for run in range(times):
            begin = (found[-1].name,) if found else ()
            here = tagged(operations, f".{run}" if times > 1 else "")
            found += [changed(o, after=begin) if o.after == () else o for o in here]
    return tuple(found)
