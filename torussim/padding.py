"""The number of sequences that run for a batch: the batch, or more if a batch that divides is faster.

A padded sequence costs as much compute, cache and traffic as any other, and yields no tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from torussim.chips import Chip
from torussim.closed_forms import axes_seconds
from torussim.errors import LayoutError, ShardingError
from torussim.layouts import Layout
from torussim.memory import memory
from torussim.models import Model
from torussim.outlines import Outlines, outlines_of
from torussim.topology.grid import Grid
from torussim.transformer import Builder
from torussim.workload import Forward, Workload

Thing = TypeVar("Thing")


def multiples(batch: int, lengths: Iterable[int]) -> list[int]:
    """Return the batch, and the next multiples of the numbers of chips along some of the axes, in rising order.

    >>> multiples(250, [4, 4, 8]), multiples(256, [4, 4, 8])
    ([250, 252, 256], [256])
    """
    chips = {1}
    for length in lengths:
        chips |= {length * some for some in chips}
    return sorted({-(-batch // some) * some for some in chips})


def padded(layout: Layout, model: Model, workload: Workload, forwards: Sequence[Forward], axes: Mapping[str, int],
           network: tuple[Grid | Outlines, Chip] | None) -> Layout:
    """Return `made_padded` of a layout that does not depend on the batch."""
    return made_padded(lambda _: layout, model, workload, forwards, axes, network)


def made_padded(make: Callable[[int], Layout], model: Model, workload: Workload, forwards: Sequence[Forward],
                axes: Mapping[str, int], network: tuple[Grid | Outlines, Chip] | None) -> Layout:
    """Return the fastest layout for some passes of a workload, by the closed form, with the batch that it is padded to.

    `make` returns the layout for a batch. Of equal times, and if the network is not known, the result is the smallest batch that
    fits the layout. If some batch fits into memory, batches that do not are excluded. Raise LayoutError or ShardingError if no
    batch fits the layout.
    """
    last = {(f.phase, f.length): f for f in forwards}
    times = Counter((f.phase, f.length) for f in forwards)
    found: list[tuple[Layout, float, bool]] = []
    wrong: LayoutError | ShardingError | None = None
    outlines: Outlines | None = None
    sizes = candidates(make(workload.batch), workload.batch, axes)
    for batch in sizes:
        layout = replace(make(batch), batch=batch if batch != workload.batch else None)
        try:
            builders = {forward: Builder(model, layout, forward, axes) for forward in last.values()}
            programs = {key: builders[forward].build() for key, forward in last.items()}
            held = [memory(model, layout, workload, axes, network[1].hbm_bytes if network else 1.0, phase, builders=builders)
                    for phase in {f.phase for f in forwards}]
        except (LayoutError, ShardingError) as error:
            wrong = error
            continue
        if network is None or len(sizes) == 1:
            return layout
        outlines = outlines or outlines_of(network[0])
        seconds = sum(times[key] * axes_seconds(program, outlines, network[1]) for key, program in programs.items())
        found.append((layout, seconds, all(one.fits for one in held)))
    if not found:
        assert wrong is not None
        raise wrong
    return best(found)


def candidates(layout: Layout, batch: int, axes: Mapping[str, int]) -> list[int]:
    """Return the candidates for a batch: of a pipeline, those for a microbatch, as often as there are microbatches."""
    staged = layout.pipeline
    many = staged.microbatches if staged and axes.get(staged.axis, 1) > 1 else 1
    if staged and many > batch:
        raise LayoutError(f"{many} microbatches need as many sequences at least, and the batch has {batch}: give fewer "
                          "microbatches or a larger batch", path=("pipeline", "microbatches"), code="clash")
    lengths = [length for axis, length in axes.items() if not staged or axis != staged.axis]
    return [many * size for size in multiples(-(-batch // many), lengths)]


def best(found: Sequence[tuple[Thing, float, bool]]) -> Thing:
    """Return the fastest of those that fit into memory, or of all if none does; of equal ones the first."""
    return min([one for one in found if one[2]] or found, key=lambda one: one[1])[0]
