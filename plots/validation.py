"""Draws plots/validation.png: all measured times of the package and their predictions, as docs/validation.md shows them."""

from pathlib import Path

from torussim.plot import save, validation_figure
from torussim.validate import validate

HERE = Path(__file__).resolve().parent


def main(folder: Path = HERE) -> None:
    figure = validation_figure(validate(), title="How far predicted times are from measured times",
                               subtitle="steps of transformers and single collectives, on TPUs and GPUs (torussim validate)")
    save(figure, folder / "validation.png")


if __name__ == "__main__":
    main()
