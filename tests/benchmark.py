"""Benchmarks: `python tests/benchmark.py` asserts event counts, and prints CPU times and peak memory; nothing asserts a time.

Each case runs in a process of its own, on one core. CPU time is the best and the median of several runs.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = ROOT / "scenarios"
RUNS = 5


def decode(file: str, overrides: tuple[str, ...] = (), repeat: bool = True) -> Callable[[], Any]:
    """Return the simulation of one decode step of a scenario."""
    from torussim.engine.simulate import simulate
    from torussim.scenario import load
    from torussim.transformer import build
    from torussim.workload import passes

    scenario = load(SCENARIOS / f"{file}.yaml", ["workload.tokens=1", *overrides])
    assert scenario.model and scenario.workload
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    program = build(scenario.model, scenario.layouts["decode"], passes(scenario.workload)[0], axes)
    return lambda: simulate(program, scenario.net, scenario.chip, repeat=repeat)


def exchange(shape: tuple[int, ...], slow: bool = False) -> Callable[[], Any]:
    """Return the simulation of a direct all-to-all between all chips of a torus; `slow`: one link has half its bandwidth."""
    from torussim.chips import chip
    from torussim.engine.simulate import simulate
    from torussim.program import Collective, Program
    from torussim.topology.builders import torus
    from torussim.topology.grid import grid

    graph = torus(shape, bandwidth=45e9)
    first, second = (0,) * len(shape), (1, *(0,) * (len(shape) - 1))
    for edge in [(first, second), (second, first)] if slow else ():
        graph.edges[edge]["bandwidth"] /= 2
    net = grid(graph)
    program = Program((Collective("exchange", "all_to_all", net.axes, 64e6, "direct"),))
    return lambda: simulate(program, net, chip("ideal"))


def degraded(shape: tuple[int, ...], dead: int = 0, slow: int = 0, direct: bool = False) -> Callable[[], Any]:
    """Return the simulation of one decode step of PaLM 540B, batch 512, on a torus some of whose cables are dead or slow.

    `dead`: cables, one between the first two chips or several drawn with seed 1; `slow`: the first cables, at half their
    bandwidth; `direct`: all-to-alls are routed.
    """
    from random import Random

    from torussim.engine.simulate import simulate
    from torussim.scenario import load
    from torussim.topology.builders import torus
    from torussim.topology.grid import grid
    from torussim.transformer import build
    from torussim.workload import passes

    scenario = load(SCENARIOS / "palm-540b-decode-pod-dead-link.yaml", ["workload.tokens=1"])
    assert scenario.model and scenario.workload
    graph = torus(shape, bandwidth=scenario.chip.link_bandwidth, latency=scenario.chip.link_latency)
    cables = sorted(edge for edge in graph.edges if edge[0] < edge[1])
    for u, v in [((0, 0, 0), (1, 0, 0))] if dead == 1 else Random(1).sample(cables, dead):
        graph.remove_edges_from([(u, v), (v, u)])
    for u, v in cables[:slow]:
        graph.edges[u, v]["bandwidth"] /= 2
        graph.edges[v, u]["bandwidth"] /= 2
    net, layout, model = grid(graph), scenario.layouts["decode"], scenario.model
    if shape[0] == 32:
        model = replace(model, d_ff=65536)  # PaLM's does not divide by so many chips
    if direct:
        layout = replace(layout, collectives={**layout.collectives, "all_to_all": "direct"})
    program = build(model, layout, passes(scenario.workload)[0], {a: net.length(a) for a in net.axes})
    return lambda: simulate(program, net, scenario.chip)


def decode_on(topology: dict[str, Any], model: str, chip: str, batch: int, layout: dict[str, Any]) -> Callable[[], Any]:
    """Return the whole way from a scenario on a network by name to the simulation of one decode step: all is chosen anew."""
    from torussim.engine.simulate import simulate
    from torussim.scenario import load
    from torussim.transformer import build
    from torussim.workload import passes

    def run() -> Any:
        scenario = load({"chip": chip, "topology": topology, "model": model, "layout": layout,
                         "workload": {"phase": "decode", "batch": batch, "context": 2048, "tokens": 1}})
        assert scenario.model and scenario.workload
        axes = {a: scenario.net.length(a) for a in scenario.net.axes}
        program = build(scenario.model, scenario.layouts["decode"], passes(scenario.workload)[0], axes)
        return simulate(program, scenario.net, scenario.chip)
    return run


def exchange_on(**topology: Any) -> Callable[[], Any]:
    """Return the whole way from a network by name to the simulation of a direct all-to-all between all of its chips."""
    from torussim.engine.simulate import simulate
    from torussim.scenario import load

    def run() -> Any:
        scenario = load({"chip": "ideal", "topology": {**topology, "bandwidth": "50 GB/s", "latency": "1 us"}, "program": [
            {"name": "exchange", "collective": "all_to_all", "axes": "xyz", "bytes": "64 MB", "algorithm": "direct"}]})
        assert scenario.program
        return simulate(scenario.program, scenario.net, scenario.chip)
    return run


FAT_TREE = {"kind": "fat_tree", "down": [16, 16, 16], "mesh": [16, 16, 16]}
REPLICAS = {"ffn": {"residual": "B_x L E", "w_in": "E F_y", "hidden": "B_x L F_y", "w_out": "F_y E", "w_q": "E H_y",
                    "w_k": "E K_y", "w_v": "E K_y", "q": "B_x L H_y", "kv": "B_x L K_y", "w_o": "H_y E"},
            "attention": "heads", "weights": "fp8", "mesh": {"x": ["x"], "y": ["y"]}}

# name: what to run, runs, events that the simulation must take (operations of cohorts, starts and ends of flows)
CASES: dict[str, tuple[Callable[[], Callable[[], Any]], int, int]] = {
    "PaLM 540B decode, 64 chips, with repetition": (lambda: decode("palm-540b-decode-high-throughput"), RUNS, 22),
    "PaLM 540B decode, 64 chips, without": (lambda: decode("palm-540b-decode-high-throughput", repeat=False), RUNS, 1659),
    "4096 chips, all links different, with repetition": (lambda: decode("palm-540b-decode-uneven-pod"), RUNS, 500),
    "4096 chips, all links different, without": (lambda: decode("palm-540b-decode-uneven-pod", repeat=False), RUNS, 1539),
    "4096 chips, one dead link": (lambda: decode("palm-540b-decode-pod-dead-link"), 3, 3745),
    "direct all-to-all, 8x8x8": (lambda: exchange((8, 8, 8)), RUNS, 2),
    "direct all-to-all, 16x16x16": (lambda: exchange((16, 16, 16)), 3, 2),
    "direct all-to-all, 8x8x8, one link at half bandwidth": (lambda: exchange((8, 8, 8), slow=True), 3, 104),
    "direct all-to-all, 12x12x12, one link at half bandwidth": (lambda: exchange((12, 12, 12), slow=True), 1, 299),
    "64 chips, ten dead links": (lambda: degraded((4, 4, 4), dead=10), 3, 805330),
    "512 chips, ten dead links": (lambda: degraded((8, 8, 8), dead=10), 3, 186583),
    "4096 chips, ten dead links": (lambda: degraded((16, 16, 16), dead=10), 1, 159952),
    "32,768 chips, one dead link": (lambda: degraded((32, 32, 32), dead=1), 1, 10855),
    "128 chips, one dead link, direct all-to-alls": (lambda: degraded((4, 4, 8), dead=1, direct=True), 1, 135530),
    "PaLM 540B decode, fat tree of 4096 chips": (
        lambda: decode_on(FAT_TREE, "palm-540b", "tpu-v4", 512, {"ffn": "ws2d", "attention": "batch"}), 2, 474),
    "Llama 3 405B decode, 64 nodes of 8 GPUs": (
        lambda: decode_on({"kind": "gpu_nodes", "nodes": 64, "gpus": 8}, "llama-3-405b", "h100", 4096, REPLICAS), 3, 196),
    "direct all-to-all, dragonfly of 1056 chips": (
        lambda: exchange_on(kind="dragonfly", routers=8, chips=4, global_links=4), 3, 2),
    "direct all-to-all, boardfly of 1152 chips": (lambda: exchange_on(kind="boardfly"), 2, 80),
    "512 chips, one slow link, direct all-to-alls": (lambda: degraded((8, 8, 8), slow=1, direct=True), 1, 24148),
}


def answers(file: str, ask: Callable[[Any], Any] = lambda result: result.step_s) -> Callable[[], Any]:
    """Return the whole way from a scenario file to an answer; `ask` asks the result for keys."""
    from torussim import run

    return lambda: ask(run(SCENARIOS / f"{file}.yaml", overrides=["workload.tokens=1"]))


def chunks() -> Callable[[], Any]:
    """Return a run of 2048 chunks of one token through one layer on 4 chips, whose exchanges are routed."""
    from torussim import run
    from torussim.scenario import load

    model = {"name": "m", "layers": 1, "d_model": 128, "d_ff": 256, "heads": 8, "kv_heads": 4, "d_head": 128, "vocabulary": 400,
             "gated": True, "parallel": False, "tied": True}
    layout = {"ffn": "ws2d_code", "attention": "batch", "overlap": "throughput", "collectives": {"all_to_all": "direct"},
              "mesh": {"x": ["x/2"], "y": ["x/2"], "z": []}}
    scenario = load({"chip": "tpu-v4", "topology": {"shape": [4], "wrap": [True]}, "model": model, "layout": layout,
                     "workload": {"phase": "prefill", "batch": 4, "context": 2048, "chunk": 1}})
    return lambda: run(scenario).json()


def steps(file: str, tokens: int) -> Callable[[], Any]:
    """Return a decode of so many tokens, with all keys."""
    from torussim import run
    from torussim.scenario import load

    scenario = load(SCENARIOS / f"{file}.yaml", [f"workload.tokens={tokens}"])
    return lambda: run(scenario).json()


def batches(file: str, count: int) -> Callable[[], Any]:
    """Return decode steps of so many batches on a network that is known, as a sweep runs them."""
    from torussim import run
    from torussim.engine.prepared import Prepared
    from torussim.scenario import changed, load

    scenario = load(SCENARIOS / f"{file}.yaml", ["workload.tokens=1"])
    assert scenario.workload
    asked = [changed(scenario, workload=replace(scenario.workload, batch=64 * (i + 1))) for i in range(count)]

    def call() -> list[float]:
        prepared = Prepared(scenario.net)
        return [run(one, prepared=prepared).step_s for one in asked]
    return call


def estimates(file: str, again: bool = False) -> Callable[[], Any]:
    """Return the closed forms of one decode step; `again`: with what the same network is known by."""
    from torussim import estimate
    from torussim.outlines import Outlines
    from torussim.scenario import load
    from torussim.transformer import build
    from torussim.workload import passes

    scenario = load(SCENARIOS / f"{file}.yaml", ["workload.tokens=1"])
    assert scenario.model and scenario.workload
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    program = build(scenario.model, scenario.layouts["decode"], passes(scenario.workload)[0], axes)
    network = Outlines(scenario.net) if again else scenario.net
    return lambda: estimate(program, network, scenario.chip)


def values() -> Callable[[], Any]:
    """Return the reading of a scenario of 66,000 values, as tests/test_trust.py has it."""
    from torussim.scenario import load

    operations = "".join(f"  - {{name: o{i}, flops: {i + 1}, hbm_bytes: {i}, dtype: bf16, after: []}}\n" for i in range(11_000))
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name) / "s.yaml"
    file.write_text(f"chip: ideal\ntopology: {{shape: [4]}}\nprogram:\n{operations}")
    return lambda: (load(file), folder)


def candidates(classes: bool) -> dict[str, Any]:
    """Price the candidates of a plan of PaLM 540B decode on 64 TPU v4, from a layout to its memory and both closed forms.

    The five layouts, both attentions, all ways in which whole axes make up logical ones, two dtypes, batches 1 to 1024.
    `classes`: meshes that no closed form can tell apart are priced once.
    """
    from dataclasses import replace
    from itertools import product

    from torussim.chips import chip
    from torussim.choice import chosen
    from torussim.closed_forms import axes_seconds
    from torussim.errors import LayoutError, ShardingError
    from torussim.layouts import Layout
    from torussim.memory import memory
    from torussim.models import model
    from torussim.outlines import Outlines
    from torussim.topology.builders import torus
    from torussim.topology.grid import grid
    from torussim.transformer import Builder
    from torussim.workload import Workload, passes

    palm, v4 = model("palm-540b"), chip("tpu-v4")
    outlines = Outlines(grid(torus((4, 4, 4), bandwidth=v4.link_bandwidth, latency=v4.link_latency)))
    axes = {a: outlines.net.length(a) for a in outlines.net.axes}
    meshes = [{a: tuple(p for p, of in zip("xyz", where) if of == a) for a in "xyz"} for where in product("xyz", repeat=3)]
    layouts = [Layout(ffn, attention, weights, mesh=mesh) for ffn, attention, mesh, weights in product(
        ("ws1d", "ws2d", "wg_x", "wg_xy", "wg_xyz"), ("heads", "batch"), meshes, ("bf16", "int8"))]
    batches = [2 ** i for i in range(11)]
    known: dict[Any, tuple[Any, float] | None] = {}

    def price(layout: Layout, batch: int) -> tuple[Any, float] | None:
        workload = Workload("decode", batch, 2048)
        (forward,) = passes(workload)
        try:
            builder = Builder(palm, layout, forward, axes)
            program = chosen(builder.build(), outlines, v4)
            held = memory(palm, layout, workload, axes, v4.hbm_bytes, builders={forward: builder})
        except (LayoutError, ShardingError):
            return None
        return held, axes_seconds(program, outlines, v4)

    began = time.process_time()
    found = []
    for layout in layouts:
        mesh = outlines.like(layout.mesh) if classes else layout.mesh
        for batch in batches:
            key = layout.ffn, layout.attention, layout.weights, tuple(mesh.items()), batch
            if key not in known:
                known[key] = price(replace(layout, mesh=mesh), batch)
            found.append(known[key])
    seconds = time.process_time() - began
    return {"seconds": seconds, "counts": (len(found), sum(one is not None for one in found), len(known))}


# name: whether meshes that are alike are priced once; candidates, how many of them fit the layout, how many were priced
PLANS: dict[str, tuple[bool, tuple[int, int, int]]] = {
    "a candidate of a plan, 64 chips": (True, (5940, 4644, 2200)),
    "a candidate of a plan, every mesh by itself": (False, (5940, 4644, 5940)),
}

# name: what to call, runs, how many collectives are timed on the clock of the closed forms and outlined for it
CALLS: dict[str, tuple[Callable[[], Callable[[], Any]], int, tuple[int, int]]] = {
    "run(file).step_s, 64 chips": (lambda: answers("palm-540b-decode-high-throughput"), RUNS, (12, 12)),
    "run(file).json(), 64 chips": (
        lambda: answers("palm-540b-decode-high-throughput", lambda result: result.json()), RUNS, (845, 92)),
    "estimate, 64 chips": (lambda: estimates("palm-540b-decode-high-throughput"), 20 * RUNS, (37, 20)),
    "estimate on a network that is known, 64 chips": (
        lambda: estimates("palm-540b-decode-high-throughput", again=True), 20 * RUNS, (25, 0)),
    "run(...).json(), 2048 chunks of one layer, 4 chips": (chunks, RUNS, (628, 61)),
    "run(...).json(), 10,000 decode steps, 64 chips": (
        lambda: steps("palm-540b-decode-high-throughput", 10_000), RUNS, (870, 92)),
    "16 runs of a sweep over the batch, 64 chips": (
        lambda: batches("palm-540b-decode-high-throughput", 16), RUNS, (192, 192)),
    "load(file) of 66,000 values": (values, RUNS, (0, 0)),
}
# name: the values of the batch of one decode step on 64 chips, processes, runs
SWEEPS = {"batches of 64 to 6400": ("64:6400:64", 1), "batches of 64 to 6400, two processes": ("64:6400:64", 2),
          "batches that do not divide": ("60:6396:64", 1)}
COMMANDS = {
    "torussim check, 64 chips": ["check", f"{SCENARIOS}/palm-540b-decode-high-throughput.yaml"],
    "torussim run --no-pictures, 64 chips, one token": [
        "run", f"{SCENARIOS}/palm-540b-decode-high-throughput.yaml", "--no-pictures", "--set", "workload.tokens=1", "-o", "OUT"],
    "torussim --help": ["--help"],
}


def case(name: str) -> dict[str, float]:
    """Simulate a case several times in this process; return CPU seconds, events, flows and peak memory."""
    make, runs, _ = CASES[name]
    run = make()
    times = []
    for _ in range(runs):
        began = time.process_time()
        timeline = run()
        times.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"best": min(times), "median": statistics.median(times), "events": timeline.events, "peak": peak,
            "blocks": timeline.blocks_simulated, "flows": timeline.flows, "chips": timeline.chips_simulated}


def call(name: str) -> dict[str, float]:
    """Call something several times in this process; return CPU seconds, and what the last call timed and outlined."""
    from torussim import outlines
    from torussim.clock import Clock

    make, runs, _ = CALLS[name]
    run = make()
    times = []
    for _ in range(runs):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    made = []
    timed, outlined = Clock.collective, outlines._outline
    Clock.collective = lambda *given, **more: made.append("timed") or timed(*given, **more)  # type: ignore
    outlines._outline = lambda *given: made.append("outlined") or outlined(*given)  # type: ignore
    run()
    return {"best": min(times), "median": statistics.median(times), "timed": made.count("timed"),
            "outlined": made.count("outlined")}


def swept(name: str) -> dict[str, float]:
    """Make a sweep, after a short one; return its rows, those that failed, and the CPU seconds of this process and of all."""
    from torussim import sweep

    values, jobs = SWEEPS[name]
    file, one_step = SCENARIOS / "palm-540b-decode-high-throughput.yaml", ["workload.tokens=1"]
    sweep(file, {"workload.batch": "64,128"}, overrides=one_step, jobs=1)
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.process_time()
    rows = sweep(file, {"workload.batch": values}, overrides=one_step, jobs=jobs)
    mine, after = time.process_time() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"rows": len(rows), "failed": sum(row["error"] is not None for row in rows), "mine": mine,
            "all": mine + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime}


# name: what is drawn, and how many different sets of faults must be simulated
FAULTS: dict[str, tuple[dict[str, Any], int]] = {
    "1000 draws, each link slow with probability 0.01": ({"slow": [(0.01, 0.5)]}, 489),
    "1000 draws, each link dead with probability 0.001": ({"dead": 0.001}, 23),
}


def drawn(name: str) -> dict[str, float]:
    """Draw faulty links in this process; return draws, sets of faults that were simulated, and CPU seconds."""
    from torussim import draw_faults, load

    scenario = load(SCENARIOS / "palm-540b-decode-64-chips.yaml", ["workload.tokens=1"])
    draw_faults(scenario, draws=1, slow=[(1, 0.5)], jobs=1)
    began = time.process_time()
    found = draw_faults(scenario, seed=1, jobs=1, **FAULTS[name][0])
    return {"draws": len(found.times), "simulated": found.simulated, "seconds": time.process_time() - began}


def command(arguments: list[str], folder: str) -> tuple[float, float]:
    """Run the command line; return CPU seconds and wall seconds of the whole process."""
    arguments = [folder if a == "OUT" else a for a in arguments]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    program = [sys.executable, "-c", "from torussim.cli import main; main()"]
    subprocess.run([*program, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - began


def main() -> None:
    """Print a table of every case, call, plan and command; end with an error if counts are not as they should be."""
    wrong: list[str] = []
    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    print(f"{'case':56} {'best':>9} {'median':>9} {'events':>7} {'flows':>8} {'chips':>6} {'blocks':>7} {'peak':>8}")
    for name, (_, _, events) in CASES.items():
        done = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True, env=environment)
        got = json.loads(done.stdout)
        print(f"{name:56} {got['best'] * 1e3:6.1f} ms {got['median'] * 1e3:6.1f} ms {got['events']:7} {got['flows']:8,} "
              f"{got['chips']:6} {got['blocks']:7} {got['peak'] / 1e6:5.0f} MB", flush=True)
        wrong += [] if got["events"] == events else [f"{name}: {got['events']} events, not {events}"]
    print(f"\n{'call':52} {'best':>9} {'median':>9} {'timed':>7} {'outlined':>8}")
    for name, (_, _, counts) in CALLS.items():
        done = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True, env=environment)
        got = json.loads(done.stdout)
        print(f"{name:52} {got['best'] * 1e3:6.2f} ms {got['median'] * 1e3:6.2f} ms {got['timed']:7} {got['outlined']:8}",
              flush=True)
        found = got["timed"], got["outlined"]
        wrong += [] if found == counts else [f"{name}: {found[0]} collectives timed, {found[1]} outlined, not {counts}"]
    print(f"\n{'sweep of one decode step, 64 chips':52} {'runs/s a core':>13} {'CPU of the parent':>17}")
    for name in SWEEPS:
        done = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True, env=environment)
        got = json.loads(done.stdout)
        print(f"{name:52} {got['rows'] / got['all']:13.1f} {got['mine'] / got['all']:16.1%}", flush=True)
        wrong += [] if (got["rows"], got["failed"]) == (100, 0) else [f"{name}: {got['rows']} rows, {got['failed']} failed"]
    print(f"\n{'plan':52} {'mean':>9} {'built':>9} {'of':>8} {'priced':>8}")
    for name, (_, counts) in PLANS.items():
        done = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True, env=environment)
        got = json.loads(done.stdout)
        print(f"{name:52} {got['seconds'] / counts[0] * 1e6:6.0f} us {got['counts'][1]:9,} {got['counts'][0]:8,} "
              f"{got['counts'][2]:8,}", flush=True)
        wrong += [] if tuple(got["counts"]) == counts else [f"{name}: {got['counts']}, not {counts}"]
    print(f"\n{'faulty links, one decode step, 64 chips':52} {'draws/s':>9} {'simulated':>9}")
    for name, (_, simulated) in FAULTS.items():
        done = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True, env=environment)
        got = json.loads(done.stdout)
        print(f"{name:52} {got['draws'] / got['seconds']:9.0f} {got['simulated']:9}", flush=True)
        wrong += [] if got["simulated"] == simulated else [f"{name}: {got['simulated']} sets of faults, not {simulated}"]
    print(f"\n{'command, the whole process':52} {'CPU':>9} {'wall':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in COMMANDS.items():
            runs = [command(arguments, folder) for _ in range(RUNS)]
            print(f"{name:52} {min(c for c, _ in runs):7.2f} s {min(w for _, w in runs):7.2f} s")
    assert not wrong, "\n".join(wrong)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if len(sys.argv) > 1:
        name = sys.argv[1]
        measured = case if name in CASES else swept if name in SWEEPS else drawn if name in FAULTS else call
        print(json.dumps(candidates(PLANS[name][0]) if name in PLANS else measured(name)))
    else:
        main()
