"""The table of docs/shardings.md: the best of the five layouts and the best of all tables, for scenario files.

    python tests/searched.py scenarios/llama-3-70b-v5e-16.yaml ...
"""

import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from time import process_time

from torussim.engine.simulate import simulate
from torussim.errors import TorusSimError
from torussim.layouts import LAYOUTS
from torussim.memory import memory
from torussim.outlines import Outlines
from torussim.planner.shardings import Shardings
from torussim.scenario import load
from torussim.transformer import Builder
from torussim.workload import passes

MOST = 2000  # tables to simulate


def time_of(scenario, layout, forward):
    """Return the simulated seconds of a pass, None where the layout does not fit the sizes or memory."""
    axes = {a: scenario.net.length(a) for a in scenario.net.axes}
    try:
        builder = Builder(scenario.model, layout, forward, axes)
        program = builder.build()
        held = memory(scenario.model, layout, scenario.workload, axes, scenario.chip.hbm_bytes, forward.phase,
                      builders={forward: builder})
    except TorusSimError:
        return None
    return simulate(program, scenario.net, scenario.chip).makespan if held.fits else None


def best_of_five(scenario, layout, forward):
    """Return (seconds, name) of the fastest of the paper's layouts on all meshes of whole axes."""
    found = []
    for name, attention in product((name for name in LAYOUTS if not name.endswith("_code")), ("heads", "batch")):
        for places in product("xyz", repeat=len(scenario.net.axes)):
            mesh = {a: tuple(p for p, place in zip(scenario.net.axes, places) if place == a) for a in "xyz"}
            seconds = time_of(scenario, replace(layout, ffn=name, attention=attention, mesh=mesh), forward)
            found += [(seconds, f"{name}, {attention}")] if seconds else []
    return min(found, key=lambda one: round(one[0], 12))


def best_of_all(scenario, layout, forward, stream):
    """Return (seconds, table), how many tables were simulated, and the bound of the next."""
    best, simulated = (float("inf"), {}), 0
    for bound, table in stream:
        if bound >= best[0] or simulated == MOST:
            return best, simulated, bound
        seconds = time_of(scenario, replace(layout, ffn=table, mesh={}), forward)
        simulated += seconds is not None
        best = min(best, (seconds or float("inf"), table), key=lambda one: one[0])
    return best, simulated, float("inf")


def main(files):
    """Print a row for each file, and its table."""
    for file in files:
        scenario = load(file)
        forward = passes(scenario.workload)[0]
        layout = scenario.layouts[forward.phase]
        began = process_time()
        stream = Shardings(scenario.model, replace(layout, mesh={}), forward, Outlines(scenario.net), scenario.chip)
        (seconds, table), simulated, bound = best_of_all(scenario, layout, forward, stream)
        took = process_time() - began
        five, name = best_of_five(scenario, layout, forward)
        still = "" if bound >= seconds else f" (not certified: at best {bound * 1e3:.5g} ms)"
        print(f"| {Path(file).stem} | {stream.size:,} | {stream.size - stream.misfits:,} | {simulated} "
              f"| {name}: {five * 1e3:.5g} ms | {seconds * 1e3:.5g} ms{still} | {five / seconds - 1:.1%} |")
        shown = {tensor: [str(station) for station in path.stations] for tensor, path in table.items()}
        print(f"<!-- {took:.0f} s CPU {shown} -->", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
