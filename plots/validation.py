"""Draws plots/validation.png: PaLM 540B on TPU v4, what was measured and what is predicted, as docs/validation.md shows it."""

from pathlib import Path

from torussim.plot import save, validation_figure
from torussim.validate import validate

HERE = Path(__file__).resolve().parent


def main(folder: Path = HERE) -> None:
    figure = validation_figure(validate(), title="PaLM 540B on 64 to 256 TPU v4 chips: predicted over measured",
                               subtitle="decode steps and prefills of arXiv 2211.05102, Fig. 1 and Fig. 6")
    save(figure, folder / "validation.png")


if __name__ == "__main__":
    main()
