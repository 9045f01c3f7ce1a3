"""How close lower bounds are: `python tests/bounds.py` prints a table of scenarios/, one pass each, as docs/design.md has it.

CPU time is the best of twenty, on a network whose tables are known.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = 20


def row(path: Path) -> str:
    """Return a row of the table."""
    from torussim.closed_forms import axes_seconds
    from torussim.critical_path import least_seconds
    from torussim.engine.simulate import simulate
    from torussim.fronts import Fronts
    from torussim.lower_bound import bound
    from torussim.scenario import load
    from torussim.transformer import build
    from torussim.workload import passes

    scenario = load(path)
    net, program = scenario.net, scenario.program
    if scenario.model and scenario.workload:
        last = passes(scenario.workload)[-1]
        program = build(scenario.model, scenario.layouts[last.phase], last, dict(zip(net.axes, net.shape, strict=True)))
    assert program is not None
    end = simulate(program, net, scenario.chip).makespan
    known = Fronts(net, scenario.chip)
    least = least_seconds(program, known, scenario.chip)
    times = []
    for _ in range(RUNS):
        began = time.process_time()
        least_seconds(program, known, scenario.chip)
        times.append(time.process_time() - began)
    closed = axes_seconds(program, known.outlines, scenario.chip, fastest=True)
    shares = (least / end, closed / end, bound(program, net, scenario.chip) / end)
    cells = [f"`{path.stem}`", "x".join(map(str, net.shape)), str(known.classes), f"{end * 1e3:,.1f} ms",
             *(f"{share:.4f}" for share in shares), f"{min(times) * 1e6:.0f} us"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    print(f"| scenario | chips | classes | simulated | critical path | `axes`, fastest links | `bound` | CPU |\n{'|---' * 8}|")
    for path in sorted((ROOT / "scenarios").glob("*.yaml")):
        print(row(path), flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
