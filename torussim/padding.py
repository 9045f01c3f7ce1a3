"""The number of sequences that run for a batch, or more if a batch that divides is faster, and the heads that run.

A padded sequence costs as much compute, cache and traffic as any other, and yields no tokens. Heads: see head_split.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from torussim.chips import Chip
from torussim.closed_forms import axes_seconds
from torussim.errors import LayoutError, ShardingError
from torussim.head_split import choices, multiples
from torussim.layouts import Heads, Layout, stored_as
from torussim.memory import memory
from torussim.models import Model
from torussim.outlines import Outlines, outlines_of
from torussim.topology.grid import Grid
from torussim.transformer import Builder
from torussim.workload import Forward, Workload

Thing = TypeVar("Thing")


Make = Callable[[int, Heads | None], Layout]  # the layout for a batch and a choice of heads


def padded(layout: Layout, model: Model, workload: Workload, forwards: Sequence[Forward], axes: Mapping[str, int],
           network: tuple[Grid | Outlines, Chip] | None) -> Layout:
    """Return `made_padded` of a layout whose table does not depend on batch and heads, or is named."""
    return made_padded(lambda _, heads: replace(layout, heads=heads), model, workload, forwards, axes, network)


def made_padded(make: Make, model: Model, workload: Workload, forwards: Sequence[Forward], axes: Mapping[str, int],
                network: tuple[Grid | Outlines, Chip] | None) -> Layout:
    """Return the fastest layout for some passes of a workload, by the closed form, with its batch and its heads as they run.

    `make` returns the layout for a batch and a choice of heads. Of equal times, and if the network is not known, the result is
    the smallest batch that fits the layout, and its first choice of heads. If some fit into memory, those that do not are
    excluded. Raise LayoutError or ShardingError if none fits the layout.
    """
    last = {(f.phase, f.length): f for f in forwards}
    times = Counter((f.phase, f.length) for f in forwards)
    found: list[tuple[Layout, float, bool]] = []
    wrong: LayoutError | ShardingError | None = None
    outlines: Outlines | None = None
    every = variants(make, model, workload.batch, axes, workload.draft_model)
    for layout in every:
        try:
            builders = {forward: Builder(model, layout, forward, axes) for forward in last.values()}
            programs = {key: builders[forward].build() for key, forward in last.items()}
            held = [memory(model, layout, workload, axes, network[1].hbm_bytes if network else 1.0, phase, builders=builders)
                    for phase in {f.phase for f in forwards}]
        except (LayoutError, ShardingError) as error:
            wrong = error
            continue
        if network is None or len(every) == 1:
            return layout
        outlines = outlines or outlines_of(network[0])
        seconds = sum(times[key] * axes_seconds(program, outlines, network[1]) for key, program in programs.items())
        found.append((layout, seconds, all(one.fits for one in held)))
    if not found:
        assert wrong is not None
        raise wrong
    picked = best(found)
    assert picked.heads is not None
    tried = [(one.heads, seconds / len(forwards)) for one, seconds, _ in found
             if one.heads and (one.batch, one.heads.copied, one.draft_heads) == (
                 picked.batch, picked.heads.copied, picked.draft_heads)]
    return replace(picked, heads=replace(picked.heads, tried=tuple(tried) if len(tried) > 1 else ()))


def variants(make: Make, model: Model, batch: int, axes: Mapping[str, int], draft: Model | None = None) -> list[Layout]:
    """Return a layout with each batch that a batch can be padded to, and each choice of heads, also of a draft model."""
    layout, found = make(batch, None), list[Layout]()
    physical = {axis: length for axis, length in axes.items() if not layout.pipeline or axis != layout.pipeline.axis}
    for size in candidates(layout, batch, axes):
        pass_batch = size // microbatches(layout, axes)
        for heads in choices(partial(make, size), model, pass_batch, physical):
            one = replace(make(size, heads), batch=size if size != batch else None)
            found += [replace(one, draft_heads=some) for some in _of_draft(one, draft, pass_batch, physical)]
    return found


def _of_draft(layout: Layout, draft: Model | None, batch: int, physical: Mapping[str, int]) -> Sequence[Heads | None]:
    """Return the choices of heads of a draft model; None where there is none, or none that the layout allows."""
    if draft is None:
        return [None]
    try:
        return choices(lambda heads: stored_as(replace(layout, heads=heads), draft.dtypes), draft, batch, physical)
    except (LayoutError, ShardingError):  # building its pass says what is wrong
        return [None]


def microbatches(layout: Layout, axes: Mapping[str, int]) -> int:
    """Return the number of microbatches of a layout; 1 without stages."""
    staged = layout.pipeline
    return staged.microbatches if staged and axes.get(staged.axis, 1) > 1 else 1


def candidates(layout: Layout, batch: int, axes: Mapping[str, int]) -> list[int]:
    """Return the candidates for a batch: of a pipeline, those for a microbatch, as often as there are microbatches."""
    staged, many = layout.pipeline, microbatches(layout, axes)
    if staged and many > batch:
        raise LayoutError(f"{many} microbatches need as many sequences at least, and the batch has {batch}: give fewer "
                          "microbatches or a larger batch", path=("pipeline", "microbatches"), code="clash")
    lengths = [length for axis, length in axes.items() if not staged or axis != staged.axis]
    return [many * size for size in multiples(-(-batch // many), lengths)]


def best(found: Sequence[tuple[Thing, float, bool]]) -> Thing:
    """Return the fastest of those that fit into memory, or of all if none does; but for rounding, of equal ones the first."""
    some = [one for one in found if one[2]] or found
    least = min(seconds for _, seconds, _ in some)
    return next(thing for thing, seconds, _ in some if seconds <= least * (1 + 1e-12))
