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
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = ROOT / "scenarios"
# name: scenario, repeat, events that the simulation must take (one an operation)
CASES = {
    "PaLM 540B decode, 64 chips, with repetition": ("palm-540b-decode-high-throughput", True, 13),
    "PaLM 540B decode, 64 chips, without": ("palm-540b-decode-high-throughput", False, 948),
    "4096 chips, all links different, with repetition": ("palm-540b-decode-uneven-pod", True, 401),
    "4096 chips, all links different, without": ("palm-540b-decode-uneven-pod", False, 1066),
}
COMMANDS = {
    "torussim run --no-pictures, 64 chips, one token": [
        "run", f"{SCENARIOS}/palm-540b-decode-high-throughput.yaml", "--no-pictures", "--set", "workload.tokens=1", "-o", "OUT"],
    "torussim --help": ["--help"],
}
RUNS = 5


def case(name: str) -> dict[str, float]:
    """Simulate one step several times in this process; return CPU seconds, events and peak memory."""
    from torussim.engine.simulate import simulate
    from torussim.scenario import load
    from torussim.transformer import build
    from torussim.workload import passes

    file, repeat, _ = CASES[name]
    scenario = load(SCENARIOS / f"{file}.yaml", ["workload.tokens=1"])
    assert scenario.model and scenario.workload
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    program = build(scenario.model, scenario.layouts["decode"], passes(scenario.workload)[0], axes)
    times = []
    for _ in range(RUNS):
        began = time.process_time()
        timeline = simulate(program, scenario.topology, scenario.chip, repeat=repeat)
        times.append(time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"best": min(times), "median": statistics.median(times), "events": timeline.events, "peak": peak,
            "blocks": timeline.blocks_simulated}


def command(arguments: list[str], folder: str) -> tuple[float, float]:
    """Run the command line; return CPU seconds and wall seconds of the whole process."""
    arguments = [folder if a == "OUT" else a for a in arguments]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    program = [sys.executable, "-c", "from torussim.cli import main; main()"]
    subprocess.run([*program, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - began


def main() -> None:
    """Print a table of every case and command."""
    import tempfile

    environment = dict(os.environ, OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
    print(f"{'case':52} {'best':>9} {'median':>9} {'events':>7} {'blocks':>7} {'peak':>8}")
    for name, (_, _, events) in CASES.items():
        done = subprocess.run([sys.executable, __file__, name], check=True, capture_output=True, text=True, env=environment)
        got = json.loads(done.stdout)
        assert got["events"] == events, f"{name}: {got['events']} events, not {events}"
        print(f"{name:52} {got['best'] * 1e3:6.1f} ms {got['median'] * 1e3:6.1f} ms {got['events']:7} {got['blocks']:7} "
              f"{got['peak'] / 1e6:5.0f} MB")
    print(f"\n{'command, the whole process':52} {'CPU':>9} {'wall':>9}")
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in COMMANDS.items():
            runs = [command(arguments, folder) for _ in range(RUNS)]
            print(f"{name:52} {min(c for c, _ in runs):7.2f} s {min(w for _, w in runs):7.2f} s")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if len(sys.argv) > 1:
        print(json.dumps(case(sys.argv[1])))
    else:
        main()
