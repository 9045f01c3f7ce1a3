"""The program of every chip: computations and collectives with their dependencies.

Plain frozen data and its check; the module knows nothing of models, layouts, links or times. Sizes are per chip. Bytes of a
collective are counted as docs/design.md, section 4, says: all_gather the gathered output, reduce_scatter the input, all_reduce
the vector, all_to_all the data of one chip before it, permute the data that one chip sends; broadcast and reduce the vector,
gather the gathered output, scatter the root's input, send the message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from torussim.errors import Found, ProgramError

Array = np.ndarray[Any, Any]

Kind = Literal["all_gather", "reduce_scatter", "all_reduce", "all_to_all", "permute", "broadcast", "reduce", "gather", "scatter",
               "send"]
WITH_ROOT: tuple[Kind, ...] = ("broadcast", "reduce", "gather", "scatter", "send")  # one chip of a group differs from the others
ALIKE: tuple[Kind, ...] = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all")  # the kinds that models and layouts use
SYMMETRIC: tuple[Kind, ...] = (*ALIKE, "permute")  # all chips of a group do the same
KINDS: tuple[Kind, ...] = (*SYMMETRIC, *WITH_ROOT)
LOOPS = ("one_way", "throughput", "latency")  # kinds of looped CollectiveEinsum
ONE_SHOT = "one_shot"  # the all-reduce that serving stacks have as a kernel of their own
On = tuple[tuple[str, tuple[int, ...]], ...]  # axes of the grid, each with positions on it


@dataclass(frozen=True)
class Matmul:
    """`count` products (m, k) x (k, n) on one chip: 2 m k n count FLOP."""

    m: float
    k: float
    n: float
    count: float = 1.0

    @property
    def flops(self) -> float:
        """FLOP of all the products."""
        return 2.0 * self.m * self.k * self.n * self.count


@dataclass(frozen=True)
class Loop:
    """How a matmul is looped with one neighbouring collective (looped CollectiveEinsum, paper 3.5).

    `collective` names the all-gather before the matmul or the reduce-scatter after it. The group of K chips cuts the
    matmul into K shards of shape (m / cut[0], k / cut[1], n / cut[2]); a fourth number cuts the count of its products. `kind` is
    one of LOOPS; on a line all are one.
    `sum_bytes`: HBM traffic of adding received data to computed data, all shards of one chip together.
    """

    collective: str
    kind: str
    cut: tuple[int, ...]
    sum_bytes: float = 0.0


@dataclass(frozen=True)
class Matrix:
    """Bytes from each chip of a group to each chip of it: compared and hashed by content. Make one with `of`."""

    chips: int
    content: bytes = field(repr=False)

    @staticmethod
    def of(array: Any) -> Matrix:
        """Return the matrix with (K, K) bytes from chip i to chip j; raise ProgramError if it is none."""
        found = np.asarray(array, float) + 0.0  # -0.0 is 0.0
        if found.ndim != 2 or found.shape[0] != found.shape[1] or not len(found):
            raise ProgramError(f"a matrix has shape {found.shape}: give a row and a column for each chip", code="program")
        if not (np.isfinite(found) & (found >= 0)).all():
            raise ProgramError("a matrix has an entry that is no number of bytes: give 0 or more", code="program")
        return Matrix(len(found), found.tobytes())

    @cached_property
    def array(self) -> Array:
        """The bytes from chip i to chip j, (K, K), read-only; the bytes of the diagonal stay on the chip."""
        return np.frombuffer(self.content).reshape(self.chips, self.chips)

    @cached_property
    def most(self) -> float:
        """The largest sum of a row or a column: the most that a chip holds before or after the collective."""
        return float(max(self.array.sum(axis=0).max(), self.array.sum(axis=1).max()))


@dataclass(frozen=True)
class Compute:
    """Work of the compute unit of each chip: matmuls, or `flops` of no particular shape, and HBM traffic.

    `cases`: the work at each position along the axes `over` of the grid, in C order, if the chips have unequal work. The sizes of
    the operation itself are then those of its costliest case; name, dependencies, loop and kernels are the operation's own.
    `on`: only the chips at these positions run it. On every other chip it takes no time and passes on its dependencies.
    """

    name: str
    matmuls: tuple[Matmul, ...] = ()
    flops: float = 0.0  # FLOP besides the matmuls'
    hbm_bytes: float = 0.0  # bytes, one chip
    dtype: str = "bf16"  # of the activations: sets the FLOP rate
    after: tuple[str, ...] | None = None  # None: the operation before; (): no dependency
    loop: Loop | None = None  # looped with this collective
    loops: tuple[Loop, ...] = ()  # loops to choose from, by estimate, when `loop` is None
    beside: float = 0.0  # elementwise operations, done while the matmuls run, one chip
    vector: float = 0.0  # elementwise operations, done after the matmuls, one chip
    vector_bytes: float = 0.0  # HBM bytes of these
    scratch: float = 0.0  # bytes of an intermediate value, one chip
    scratch_passes: float = 0.0  # number of times that it crosses HBM if it is larger than the chip's own memory
    kernels: int = 1  # kernels of a compiler for the operation: each has the chip's op_overhead
    host: bool = False  # whether the host and the runtime prepare the pass here: the chip's step_overhead
    over: tuple[str, ...] = ()
    cases: tuple[Compute, ...] = ()
    on: On = ()  # (): all chips

    @property
    def total_flops(self) -> float:
        """FLOP of the whole operation, one chip."""
        return self.flops + sum(m.flops for m in self.matmuls)


@dataclass(frozen=True)
class Collective:
    """A collective over physical `axes`, on all chips that share the other coordinates; or of the chips of each of `groups`.

    `root`: its coordinates on the axes, or (its index in its group,); (): the first chip. A send goes from the root to the other
    chip. `matrix`: of an all-to-all, the bytes between the chips of each group, in C order of the axes, if they are unequal;
    `bytes` is then the largest sum of a row or a column. `on`: only the groups at these positions run it, on axes that it does
    not use; of a permute, only these chips send, on any axes. Every other chip sends nothing and passes on its dependencies.
    `tokens`: of the reduce-scatters that make a residual of so many tokens, and of the all-gathers that make it whole, where the
    program has no others on it; `quantised`: its activations have fewer bits than its sums. See `choice.with_sums`.
    """

    name: str
    kind: Kind
    axes: tuple[str, ...]
    bytes: float  # per chip, counted as the module says
    algorithm: str | Callable[..., Any] = ""  # "" is the default of the kind; or a user-defined function (collectives.lower)
    split: str | tuple[float, ...] = "equal"  # multi_axis, dimension_wise: "equal", "auto" or one weight a part
    direction: str = "both"  # "both" | "one_way"
    shift: Mapping[str, int] = field(default_factory=dict)  # permute: axis -> chips
    after: tuple[str, ...] | None = None
    detour: bool | None = None  # rings with a dead link: detour (True), lines (False), or the faster by estimate (None)
    pieces: int = 0  # of an all-to-all: the parts from which its messages are assembled, one chip, each issued separately
    protocol: str = ""  # "low_latency" | "bulk": the protocol of its messages, of a chip that has both
    root: tuple[int, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()  # physical chips, numbers in C order of the network's axes; in place of axes
    matrix: Matrix | None = None
    on: On = ()  # (): all chips
    tokens: int = 0
    quantised: bool = False

    def largest(self, length: Callable[[str], int]) -> int:
        """Return the number of chips of the largest group; `length` gives that of an axis."""
        return max(map(len, self.groups)) if self.groups else prod(map(length, self.axes))


Operation = Compute | Collective
One = TypeVar("One", bound=Operation)


def changed(operation: One, **changes: Any) -> One:
    """Return an operation with other values of some fields: `dataclasses.replace`, but several times as fast."""
    found = object.__new__(type(operation))
    found.__dict__.update(operation.__dict__, **changes)
    return found


def resized(collective: Collective, size: float) -> Collective:
    """Return a collective of other bytes; those of its matrix change in proportion."""
    if collective.matrix is None or collective.bytes == 0:
        return changed(collective, bytes=size)
    return changed(collective, bytes=size, matrix=Matrix.of(collective.matrix.array * (size / collective.bytes)))


def unlike_cases(compute: Compute) -> tuple[Compute, ...]:
    """Return each case of a computation once; the computation itself if all chips have the same work."""
    return tuple(dict.fromkeys(compute.cases)) or (compute,)


def of_each(compute: Compute, value: Callable[[Compute], float], length: Callable[[str], int],
            position: Mapping[str, Array]) -> Array:
    """Return (chips,) a value of the case of each chip; raise ProgramError unless there is a case for each position.

    `length` gives that of an axis, `position` the positions of the chips on it, (chips,).
    """
    lengths = tuple(map(length, compute.over))
    if len(compute.cases) != prod(lengths):
        raise ProgramError(f"{compute.name!r} has {len(compute.cases)} cases, and the axes {', '.join(compute.over)} have "
                           f"{prod(lengths)} positions: give one for each", code="program")
    values = {case: value(case) for case in unlike_cases(compute)}
    at = np.ravel_multi_index(tuple(position[a] for a in compute.over), lengths)
    return np.array([values[case] for case in compute.cases])[at]


def numbered_cases(compute: Compute) -> tuple[int, ...]:
    """Return for each case of a computation the number of the first case that is equal to it."""
    first: dict[Compute, int] = {}
    return tuple([first.setdefault(case, i) for i, case in enumerate(compute.cases)])


class Block(NamedTuple):
    """A list of operations and its number of runs, one after another."""

    operations: tuple[Operation, ...]
    times: int


@dataclass(frozen=True)
class Program:
    """A prologue, a block that runs `layers` times, more blocks, each with its number of runs, and an epilogue.

    Every list may be empty. `after` names earlier operations of the same list; None is the operation before, across lists and
    repetitions too; `()` is the start of the list on that chip (of this repetition of the block).
    """

    block: tuple[Operation, ...]
    layers: int = 1
    prologue: tuple[Operation, ...] = ()
    epilogue: tuple[Operation, ...] = ()
    more: tuple[Block, ...] = ()  # the blocks after the first: layers of other kinds

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The blocks in order, each with its number of runs."""
        return Block(self.block, self.layers), *self.more

    @property
    def block_runs(self) -> int:
        """The number of runs of all blocks together."""
        return sum(times for _, times in self.blocks)

    def sections(self) -> tuple[Block, ...]:
        """Return the lists in order, each with its number of runs: prologue, blocks, epilogue."""
        return Block(self.prologue, 1), *self.blocks, Block(self.epilogue, 1)

    def names(self) -> tuple[str, ...]:
        """Return the names of the lists, in the order of `sections`.

        >>> Program((), more=(Block((), 2),)).names()
        ('prologue', 'block', 'block 2', 'epilogue')
        """
        return "prologue", "block", *(f"block {i}" for i in range(2, len(self.more) + 2)), "epilogue"

    def operations(self) -> tuple[Operation, ...]:
        """Return every operation once, in program order."""
        return tuple(o for operations, _ in self.sections() for o in operations)

    def mapped(self, change: Callable[[tuple[Operation, ...]], tuple[Operation, ...]]) -> Program:
        """Return the program with `change` of each of its lists in its place."""
        return replace(self, block=change(self.block), prologue=change(self.prologue), epilogue=change(self.epilogue),
                       more=tuple(Block(change(operations), times) for operations, times in self.more))

    def replaced(self, change: Mapping[str, Operation]) -> Program:
        """Return the program with other operations in place of those with these names."""
        return self.mapped(lambda operations: tuple(change.get(o.name, o) for o in operations))


def unlooped(program: Program) -> Program:
    """Return the program without loops of matmuls and collectives."""
    return program.replaced({o.name: replace(o, loop=None, loops=()) for o in program.operations() if isinstance(o, Compute)})


def check_program(program: Program, axes: Mapping[str, int]) -> None:
    """Raise ProgramError for the first part of `program` that cannot run on a network with these axes and their lengths.

    Its path begins with the list: ("block", 2, "after", 0).
    """
    often = Counter(o.name for o in program.operations())
    twice = next((name for name in often if often[name] > 1), None)
    if twice:
        raise ProgramError(f"two operations are named {twice!r}: give each a name of its own, also across lists",
                           code="duplicate")
    for section, (operations, _) in zip(program.names(), program.sections()):
        for wrong in (*mistakes(operations, axes), *_misgiven(operations, axes)):
            raise ProgramError(wrong.text, code=wrong.code, path=(section, *wrong.path))


def _misgiven(operations: tuple[Operation, ...], axes: Mapping[str, int]) -> list[Found]:
    """Return the mistakes in groups, matrices and cases; a scenario finds them first, with the places in its file."""
    found = list[Found]()
    for i, o in enumerate(operations):
        if isinstance(o, Compute):
            missing = [a for a in o.over if a not in axes]
            if missing or bool(o.over) != bool(o.cases):
                text = f"{o.name!r} has {len(o.cases)} cases over the axes {o.over}, and the network has {', '.join(axes)}"
                found.append(Found((i, "over"), text, code="program"))
            continue
        listed = [chip for group in o.groups for chip in group]
        if len(set(listed)) < len(listed):
            found.append(Found((i, "groups"), f"{o.name!r} has a chip twice in its groups: leave one out", code="duplicate"))
        if o.kind == "send" and [len(group) for group in o.groups] != [2]:
            text = f"{o.name!r} is a send: give groups of the two chips, ((from, to),)"
            found.append(Found((i, "groups"), text, code="program"))
        if o.matrix and o.kind != "all_to_all":
            text = f"{o.name!r} has a matrix: only an all_to_all has one, not {o.kind}"
            found.append(Found((i, "matrix"), text, code="program"))
        elif o.matrix and abs(o.bytes - o.matrix.most) > 1e-9 * o.bytes:
            text = f"{o.name!r} is of {o.bytes:g} bytes, and the largest sum of its matrix is {o.matrix.most:g}: give this"
            found.append(Found((i, "bytes"), text, code="program"))
    return found


def mistakes(operations: tuple[Operation, ...], axes: Mapping[str, int | None]) -> list[Found]:
    """Return all mistakes in one list of operations, for a network with these axes; lengths can be unknown.

    Paths begin with the index of the operation: (2, "name"), (2, "after", 0), (2, "axes"), (2, "shift", "x"), (2, "loop"),
    (2, "on", "x").
    """
    found: list[Found] = []
    place: dict[str, int] = {}
    for i, operation in enumerate(operations):
        if operation.name in place:
            text = f"two operations are named {operation.name!r}: give each a name of its own"
            found.append(Found((i, "name"), text, code="duplicate"))
        place.setdefault(operation.name, i)
    waits = {o.name: _waits(i, operations) for i, o in enumerate(operations)}
    for i, operation in enumerate(operations):
        for j, name in enumerate(operation.after or ()):
            at = (i, "after", j)
            if name not in place:
                text = f"{operation.name!r} waits for {name!r}, but no operation has that name: {_names(place)}"
                found.append(Found(at, text, code="unknown-name"))
            elif place[name] >= i and (circle := _circle(operation.name, waits)):
                text = f"{operation.name!r} waits for {name!r}, which waits for it: {' -> '.join(circle)}"
                found.append(Found(at, text, code="cycle"))
            elif place[name] >= i:
                text = f"{operation.name!r} waits for {name!r}, which comes after it: operations run in the order of the " \
                       f"list, so move {name!r} above"
                found.append(Found(at, text, code="program"))
        if isinstance(operation, Compute) and operation.loop:
            near = [o.name for o, kind in ((operations[i - 1] if i else None, "all_gather"),
                                           (operations[i + 1] if i + 1 < len(operations) else None, "reduce_scatter"))
                    if isinstance(o, Collective) and o.kind == kind]
            if operation.loop.collective not in near:
                text = f"{operation.name!r} is looped with {operation.loop.collective!r}, which is neither the all-gather just " \
                       "before it nor the reduce-scatter just after: put them side by side"
                found.append(Found((i, "loop"), text, code="program"))
            elif any(o.name == operation.loop.collective and o.on != operation.on for o in operations):
                text = f"{operation.name!r} is looped with {operation.loop.collective!r}, which runs on other chips: give " \
                       "both the same on"
                found.append(Found((i, "loop"), text, code="program"))
        found += _misplaced(i, operation, axes)
        if isinstance(operation, Collective):
            for axis in operation.axes:
                if axis not in axes:
                    text = f"{operation.name!r} runs over axis {axis!r}, but the network has {', '.join(axes) or 'no axes'}"
                    at_axis = (i, "shift", axis) if axis in operation.shift else (i, "axes")
                    found.append(Found(at_axis, text, code="unknown-name"))
                elif operation.axes.count(axis) > 1:
                    found.append(Found((i, "axes"), f"{operation.name!r} uses the axis {axis!r} twice", code="duplicate"))
                    break
    return found


def _misplaced(i: int, operation: Operation, axes: Mapping[str, int | None]) -> list[Found]:
    """Return the mistakes in the positions of one operation."""
    found = list[Found]()
    for axis, places in operation.on:
        at = (i, "on", axis)
        length = axes.get(axis)
        if axis not in axes:
            text = f"{operation.name!r} runs on positions of axis {axis!r}, but the network has {', '.join(axes) or 'no axes'}"
            found.append(Found(at, text, code="unknown-name"))
        elif length is not None and any(not 0 <= place < length for place in places):
            wrong = next(place for place in places if not 0 <= place < length)
            text = f"on: axis {axis!r} has no position {wrong}: its {length} positions are 0 to {length - 1}"
            found.append(Found(at, text, code="value"))
        elif isinstance(operation, Collective) and operation.kind != "permute" and axis in operation.axes:
            text = f"on: {operation.name!r} runs over axis {axis!r}, so all its positions take part: leave {axis!r} out of on"
            found.append(Found(at, text, code="clash"))
    if operation.on and isinstance(operation, Collective) and operation.groups:
        text = f"on: the groups of {operation.name!r} name its chips: leave on out"
        found.append(Found((i, "on"), text, code="clash"))
    return found


def _waits(i: int, operations: tuple[Operation, ...]) -> tuple[str, ...]:
    after = operations[i].after
    return after if after is not None else (operations[i - 1].name,) if i else ()


def _circle(name: str, waits: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the names of a dependency cycle through `name`, or an empty list."""
    paths = [[name]]
    seen = set()
    while paths:
        path = paths.pop()
        for other in waits.get(path[-1], ()):
            if other == name:
                return [*path, name]
            if other not in seen:
                seen.add(other)
                paths.append([*path, other])
    return []


def _names(place: Mapping[str, int]) -> str:
    return "the names are " + ", ".join(list(place)[:12]) if place else "there are none"
