"""What each mechanism of the machine model does for TPU v4: the fit without it, as in docs/validation.md (some minutes).

`python plots/mechanisms.py` fits the chip anew to the measured times of PaLM with one thing changed at a time. It holds the
fitted chip against two things that no fit sees: what a serial block costs, and what a long context does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from math import ceil
from typing import Any
from unittest.mock import patch

from torussim import kernels, layouts, run
from torussim.calibrate import Calibration, calibrate
from torussim.chips import Chip, describe
from torussim.program import Compute
from torussim.tables import table
from torussim.transformer import Builder

STEP = {"model": "palm-540b", "topology": {"shape": [4, 4, 4]}, "layout": {"ffn": "ws2d_code", "attention": "batch"},
        "workload": {"phase": "decode", "batch": 512, "context": 2080, "tokens": 1}}
MULTIHEAD = {"model": {"base": "palm-540b", "kv_heads": 48, "d_head": 128}, "layout": {"ffn": "ws2d_code", "attention": "heads"}}


@contextmanager
def both_ways() -> Iterator[None]:
    """Let reduce-scatters outside loops go in both directions."""
    def without(table_of: Callable[[layouts.Sizes], dict[str, object]]) -> Callable[[layouts.Sizes], dict[str, object]]:
        return lambda sizes: {key: value for key, value in table_of(sizes).items() if key != "one_way"}

    with patch.dict(layouts.LAYOUTS, {name: without(table_of) for name, table_of in layouts.LAYOUTS.items()}):
        yield


def attention_as(change: Callable[[Compute, float], Compute]) -> Any:
    """Replace the attention of `rows` sequences on a chip by what `change` makes of it."""
    before = kernels.plain_attention
    return patch.object(kernels, "plain_attention",
                        lambda name, rows, *more, **named: change(before(name, rows, *more, **named), rows))


def no_pieces() -> Any:
    """Let the messages of an all-to-all be of one piece each."""
    return patch.object(Builder, "pieces", lambda self, *shardings: 0)


def in_place() -> Any:
    """Let K and V with a dimension of heads be read once, without copies to another order."""
    return patch.object(kernels, "copies", lambda kv_heads, width: 0.0)


@contextmanager
def on_the_vector_unit() -> Iterator[None]:
    """Let single queries of KV heads be multiplied by the vector unit, eight operations an element of K and V, and no copies."""
    def change(o: Compute, _: float) -> Compute:
        first, second = o.matmuls
        return replace(o, vector=o.vector + 8 * first.count * first.n * (first.k + second.n)) if first.m <= 1 else o

    with in_place(), attention_as(change):
        yield


@contextmanager
def kernels_for_pieces() -> Iterator[None]:
    """Let each sequence that a chip attends to cost eight kernels, and messages no pieces."""
    with no_pieces(), attention_as(lambda o, rows: replace(o, kernels=o.kernels + round(8 * rows))):
        yield


@contextmanager
def one_kernel() -> Iterator[None]:
    """Let every operation be one kernel."""
    with patch.multiple(kernels, ATTENTION_KERNELS=1, CACHE_KERNELS=0, MLP_KERNELS=1, RESIDUAL_KERNELS=1):
        yield


VARIANTS: dict[str, Callable[[], Any]] = {
    "as it is": nullcontext,
    "K and V with heads read where they lie": in_place,
    "a head fills one row of eight, no copies": lambda: patch.object(
        kernels, "copies", lambda kv_heads, width: ceil(kv_heads / 8) * 8 / kv_heads - 1),
    "single queries on the vector unit": on_the_vector_unit,
    "reduce-scatters go both ways": both_ways,
    "no pieces in all-to-alls": no_pieces,
    "eight kernels a sequence in their place": kernels_for_pieces,
    "every operation one kernel": one_kernel,
    "scores always cross HBM": lambda: attention_as(
        lambda o, rows: replace(o, vector_bytes=o.vector_bytes + o.scratch * o.scratch_passes, scratch=0.0)),
    "sums and halves in loops for nothing": lambda: patch.multiple(kernels, SUM_PASSES=0, HALVES_PASSES=0),
    "what a loop receives written for nothing": lambda: patch.multiple(kernels, SUM_PASSES=3),
}


def seconds(chip: Chip, **changes: Any) -> float:
    """Return the time of a decode step on a chip, of the scenario with changes."""
    return float(run({**STEP, "chip": describe(chip), **changes}).step_s)


def row(name: str, found: Calibration) -> list[str]:
    """Return a row of the table."""
    fit, left_out = found.errors(), found.errors(left_out=True)
    serial = seconds(found.chip, model={"base": "palm-540b", "parallel": False}) / seconds(found.chip)
    short, long = (seconds(found.chip, model={"base": "palm-540b", "layers": 8},
                           workload={**STEP["workload"], "batch": 256, "context": context}) for context in (512, 8192))
    contexts = [p.simulated / p.measured - 1 for p in found.points if p.group == "Fig. 8"]
    told = ", ".join(f"{p.name} {p.value:.3g}" for p in found.parameters if p.constrained)
    mean, mean_left_out, of_contexts = (sum(map(abs, errors)) / len(errors) for errors in (fit, left_out, contexts))
    return [name, f"{mean:.1%}", f"{max(fit, key=abs):+z.1%}", f"{mean_left_out:.1%}", f"{of_contexts:.1%}",
            f"{serial - 1:+z.0%}", f"{long / short - 1:+z.0%}", told]


def main() -> None:
    """Print the table."""
    rows = [["", "error", "worst", "left out", "Fig. 8", "serial", "context", "fitted"]]
    for name, variant in VARIANTS.items():
        with variant():
            rows.append(row(name, calibrate()))
    print(table(rows, "lrrrrrrl"))


if __name__ == "__main__":
    main()
