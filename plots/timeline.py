"""Draws plots/timeline.png: one layer of a decode step on a torus with one slow link, as README shows it."""

from pathlib import Path

from torussim.answer import replay, run, shown_chips
from torussim.plot import save, timeline_figure
from torussim.scenario import load
from torussim.units import show

HERE = Path(__file__).resolve().parent
FILE = HERE.parent / "scenarios" / "palm-540b-decode-slow-link.yaml"


def main(folder: Path = HERE) -> None:
    scenario = load(FILE, ["workload.tokens=1"])
    result = run(scenario)
    chips = shown_chips(result)
    figure = timeline_figure(replay(scenario, chips), chips=chips, title=scenario.name,
                             subtitle=f"{result.chips} chips, decode step {show(result.step_s, 's')}, MFU {result.mfu:.1%}")
    save(figure, folder / "timeline.png")


if __name__ == "__main__":
    main()
