"""What is said of an operation beside its times: bytes, FLOP, bound, algorithm, and what limits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torussim.chips import Chip
from torussim.collectives.lower import name_of
from torussim.cost import elementwise_bytes, flop_seconds, overhead_seconds
from torussim.program import Collective, Compute, Operation
from torussim.timeline import Timeline

FROM_KEYS = ("bytes", "bound_s", "of_limit", "algorithm")


def facts(timeline: Timeline, chip: Chip, listed: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return for each operation, by name, what holds of it on every chip and whenever it runs.

    `listed`: the entries of the result's key `operations`, by name. Bytes and FLOP are those of one run on one chip, the busiest.
    """
    found = {}
    for segment in timeline.segments:
        for operation in segment.operations:
            if operation.name not in found:
                found[operation.name] = _facts(operation, chip, listed.get(operation.name, {}))
    return found


def _facts(operation: Operation, chip: Chip, entry: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(operation, Collective):
        found = {"kind": operation.kind, "axes": " ".join(operation.axes), "bytes": operation.bytes,
                 "algorithm": name_of(operation)}
    else:
        found = {"kind": "compute", "bytes": operation.hbm_bytes + elementwise_bytes(operation, chip),
                 "flops": operation.total_flops, "algorithm": "matmul" if operation.matmuls else "vector",
                 "limited_by": _limit(operation, chip)}
    return found | {key: entry[key] for key in FROM_KEYS if entry.get(key) is not None}


def _limit(operation: Compute, chip: Chip) -> str:
    """Return what most of the time of a computation is spent on: FLOP, HBM, the vector unit, or its fixed costs."""
    rate = chip.hbm_bandwidth * chip.hbm_efficiency
    multiply = flop_seconds(operation.matmuls, operation.flops, operation.dtype, chip)
    memory, vector = operation.hbm_bytes / rate, operation.vector / chip.vector_rate
    outside = elementwise_bytes(operation, chip) / rate
    beside = operation.beside / chip.vector_rate
    together = {"FLOP/s": multiply, "HBM bandwidth": memory, "vector unit": beside}
    longest = max(together, key=together.__getitem__)
    parts = {name: seconds if name == longest else 0.0 for name, seconds in together.items()}
    parts["HBM bandwidth"] += outside if outside > vector else 0.0
    parts["vector unit"] += vector if vector >= outside else 0.0
    parts["overhead"] = overhead_seconds(operation, chip)
    return max(parts, key=parts.__getitem__)
