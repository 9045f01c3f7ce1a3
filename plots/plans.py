"""Print the table of docs/plan.md: what the authors of ten public cases chose, and what a plan takes: `python plots/plans.py`."""

from __future__ import annotations

import time
from pathlib import Path

import torussim
from torussim.planner.words import name_of
from torussim.units import show

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"


def row(file: Path) -> str:
    """Return the row of one scenario, in Markdown."""
    began = time.process_time()
    plan = torussim.plan(file, shapes=False)
    seconds = time.process_time() - began
    every = torussim.plan(file, overrides=["plan.vary={layouts: all}"], shapes=False)
    assert plan.file is not None
    measured = next((show(one.value, "s") for one in plan.scenario.expect if one.what == "step_s"), "-")
    theirs, ours = plan.file.keys["step_s"], plan.pick.keys["step_s"]
    runs = sum(one.state == "simulated" and one.candidate.alike > 0 for one in plan.ranked)
    all_s = every.pick.keys["step_s"]
    sure = f"certified: {runs} runs exclude the rest" if plan.certified else f"{plan.count('open')} open, up to {plan.gap:.1%}"
    same = "the same" if abs(ours / theirs - 1) < 1e-6 else name_of(plan.pick.candidate)
    return " | ".join([f"| `{file.stem}`", name_of(plan.file.candidate), measured, show(theirs, "s"), same, show(ours, "s"),
                       f"{ours / theirs - 1:+z.1%}", f"{plan.space:,}", sure, f"{seconds:.1f} s",
                       f"{show(all_s, 's')}, {all_s / ours - 1:+z.1%}{'' if every.certified else ' (open)'} |"])


def main() -> None:
    """Print the table."""
    columns = ("case", "its authors' layout", "measured", "simulated", "the plan's", "simulated", "", "layouts", "certificate",
               "CPU", "of all tables")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for file in sorted(SCENARIOS.glob("plan-*.yaml")):
        model = torussim.load(file, fitting=False).model
        if model and not model.experts:  # `layouts: all` is for dense models
            print(row(file), flush=True)


if __name__ == "__main__":
    main()
