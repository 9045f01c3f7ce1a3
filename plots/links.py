"""Draws plots/links.png: the links of a torus with one slow link, as docs/blame.md shows it."""

from pathlib import Path

from torussim.answer import run
from torussim.plot import LinkPicture, links_figure, save
from torussim.scenario import load

HERE = Path(__file__).resolve().parent
FILE = HERE.parent / "scenarios" / "palm-540b-decode-slow-link.yaml"


def main(folder: Path = HERE) -> None:
    scenario = load(FILE, ["workload.tokens=1"])
    result = run(scenario)
    use = result.links
    subtitle = f"links are busy {use['mean_busy']:.1%} of the time in the mean, the busiest {use['busiest'][0]['busy']:.1%}"
    links = LinkPicture.of(result.timeline, scenario.net, scenario.changes)
    figure = links_figure(links, title=scenario.name, subtitle=subtitle)
    save(figure, folder / "links.png")


if __name__ == "__main__":
    main()
