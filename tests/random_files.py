"""Random whole scenarios as documents: layouts of a small transformer on tori and meshes, parts of axes, slow and dead links."""

from __future__ import annotations

from itertools import permutations
from random import Random
from typing import Any

from torussim.errors import TorusSimError
from torussim.scenario import Scenario, load

SHAPES = ((4,), (8,), (2, 2), (4, 2), (4, 4), (8, 2), (2, 2, 2), (4, 2, 2))
FFN = ("ws1d", "ws2d", "wg_x", "wg_xy", "wg_xyz", "ws1d_code", "ws2d_code", "wg_xyz_code")


def whole(seed: int) -> Scenario:
    """Return the scenario of a seed: of those that are drawn, the first that holds together."""
    rng = Random(seed)
    while True:
        try:
            return load(document(rng))
        except TorusSimError:
            continue


def document(rng: Random) -> dict[str, Any]:
    """Return a scenario that may not hold together."""
    shape = list(rng.choice(SHAPES))
    names = "xyz"[:len(shape)]
    topology: dict[str, Any] = {"shape": shape, "wrap": [rng.random() < 0.6 for _ in shape],
                                "latency": rng.choice(("0 us", "1 us", "3 us"))}
    if rng.random() < 0.3:
        topology["bandwidth"] = [f"{rng.uniform(20, 90)} GB/s" for _ in shape]
    topology["links"] = changes = list[dict[str, Any]]()
    for _ in range(rng.choice((0, 0, 1, 1, 2, 40))):
        at = {name: rng.randrange(length) for name, length in zip(names, shape, strict=True)}
        worse = {"failed": True} if rng.random() < 0.4 else {"scale": rng.uniform(0.2, 0.9)}
        changes.append({"axis": rng.choice(names), "at": at, "both_ways": rng.random() < 0.7, **worse})
    if rng.random() < 0.15:
        topology["events"] = [{"time": f"{rng.uniform(0, 300)} us", "axis": rng.choice(names), "scale": rng.choice((0.5, 1.7))}]
    if rng.random() < 0.1 and len(shape) > 1:
        topology["twist"] = {"x": {"y": rng.randint(1, shape[1])}}
    decode = rng.random() < 0.6
    layout: dict[str, Any] = {
        "ffn": rng.choice(FFN), "attention": rng.choice(("heads", "batch")), "weights": rng.choice(("bf16", "int8")),
        "overlap": rng.choice((True, True, False, "one_way", "throughput", "latency")), "mesh": mesh(rng, names, shape)}
    if rng.random() < 0.3:
        layout["collectives"] = {"all_to_all": rng.choice(("direct", "shifts", "sequential", "one_ring")),
                                 **({"all_gather": "one_ring"} if rng.random() < 0.3 else {}),
                                 **({"reduce_scatter": "sequential"} if rng.random() < 0.3 else {})}
    model = {"base": rng.choice(("palm-8b", "llama-3-8b")), "layers": rng.choice((1, 2, 5, 32))}
    workload = {"phase": "decode", "batch": rng.choice((8, 64, 512)), "context": 2048, "tokens": 1} if decode else {
        "phase": "prefill", "batch": rng.choice((1, 8, 64)), "context": rng.choice((64, 512))}
    return {"model": model, "chip": rng.choice(("tpu-v4", "tpu-v5e", "ideal")), "topology": topology, "layout": layout,
            "workload": workload}


def mesh(rng: Random, names: str, shape: list[int]) -> dict[str, list[str]]:
    """Return logical axes made up of physical ones, whole or in parts."""
    factors = list[str]()
    for name, length in zip(names, shape, strict=True):
        cut = length > 2 and length % 2 == 0 and rng.random() < 0.25
        factors += [f"{name}/{length // 2}*2", f"{name}/2"] if cut else [name]
    order = rng.choice(list(permutations(factors)))
    logical: dict[str, list[str]] = {"x": [], "y": [], "z": []}
    for factor in order:
        logical[rng.choice("xyz")].append(factor.partition("*")[0])
    return logical
