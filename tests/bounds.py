"""How close lower bounds are: `python tests/bounds.py` prints two tables, as docs/design.md has them.

The first has one pass of each file in scenarios/, its choices made; CPU time is that of the first critical path on a network, and
the best of twenty more. The second has random layouts of a small transformer on 4 to 16 chips (tests/random_files.py).
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RUNS = 20
SEEDS = range(400)


def last_pass(scenario: Any) -> Any:
    """Return the program of the last pass of a scenario."""
    from torussim.transformer import build
    from torussim.workload import passes

    if scenario.program is not None:
        return scenario.program
    net, last = scenario.net, passes(scenario.workload)[-1]
    return build(scenario.model, scenario.layouts[last.phase], last, dict(zip(net.axes, net.shape, strict=True)))


def row(path: Path) -> list[str]:
    """Return the row of a file."""
    from torussim.choice import chosen
    from torussim.closed_forms import axes_seconds
    from torussim.critical_path import least_seconds
    from torussim.engine.simulate import simulate
    from torussim.fronts import Fronts
    from torussim.lower_bound import bound
    from torussim.scenario import load

    scenario = load(path)
    net = scenario.net
    program = chosen(last_pass(scenario), net, scenario.chip)
    end = simulate(program, net, scenario.chip).makespan
    began = time.process_time()
    known = Fronts(net, scenario.chip)
    least = least_seconds(program, known, scenario.chip)
    times = [time.process_time() - began]
    for _ in range(RUNS):
        began = time.process_time()
        least_seconds(program, known, scenario.chip)
        times.append(time.process_time() - began)
    closed = axes_seconds(program, known.outlines, scenario.chip, fastest=True)
    shares = (least / end, closed / end, bound(program, net, scenario.chip) / end)
    return [f"`{path.stem}`", "x".join(map(str, net.shape)), str(known.classes), f"{end * 1e3:,.1f} ms",
            *(f"{share:.4f}" for share in shares), f"{times[0] * 1e3:.0f} ms", f"{min(times) * 1e6:.0f} us"]


def kind(net: Any, program: Any) -> str:
    """Return what is the matter with a network, or with a program on it."""
    uneven = any(net.extremes(a).slowest < net.extremes(a).fastest for a in net.axes)
    return ("changes in mid-run" if net.links.events else "twisted" if net.links.twist else
            "routed all-to-alls" if any(getattr(o, "algorithm", "") in ("direct", "shifts") for o in program.operations()) else
            "parts of axes" if max(net.stride) > 1 else "dead links" if any(net.gaps) else
            "slow links" if uneven else "links of an axis alike")


def spread() -> list[list[str]]:
    """Return the rows of random scenarios."""
    from random_files import whole

    from torussim.critical_path import least_seconds
    from torussim.engine.simulate import simulate

    found: dict[str, list[float]] = {}
    for seed in SEEDS:
        scenario = whole(seed)
        net, program = scenario.net, last_pass(scenario)
        share = least_seconds(program, net, scenario.chip) / simulate(program, net, scenario.chip).makespan
        found.setdefault(kind(net, program), []).append(share)
    return [[name, str(len(shares)), *(f"{value:.3f}" for value in np.quantile(shares, (0.0, 0.1, 0.5)))]
            for name, shares in sorted(found.items(), key=lambda item: -np.median(item[1]))]


def table(heads: list[str], rows: Any) -> None:
    """Print a table, row by row."""
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    for cells in rows:
        print(f"| {' | '.join(cells)} |", flush=True)
    print()


def main() -> None:
    """Print both tables."""
    files = sorted((ROOT / "scenarios").glob("*.yaml"))
    table(["scenario", "chips", "classes", "simulated", "critical path", "`axes`, fastest links", "`bound`", "CPU, first", "CPU"],
          map(row, files))
    table(["random layouts, on networks with", "cases", "lowest", "tenth", "median"], spread())


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
