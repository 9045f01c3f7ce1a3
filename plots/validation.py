"""Draws plots/validation.png, all measured times of the package and their predictions; writes the table of docs/validation.md."""

from pathlib import Path

from torussim.plot import save, validation_figure
from torussim.validate import validate

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "validation.md"
SAID = "```console\n$ torussim validate\n"


def renewed(page: str, said: str) -> str:
    """Return the page with what the command says in place of what it said."""
    before, _, after = page.partition(SAID)
    return f"{before}{SAID}{said}\n```{after.partition('```')[2]}"


def main(folder: Path = HERE, page: Path = PAGE) -> None:
    found = validate()
    figure = validation_figure(found, title="How far predicted times are from measured times",
                               subtitle="steps of transformers and single collectives, on TPUs and GPUs (torussim validate)")
    save(figure, folder / "validation.png")
    page.write_text(renewed(page.read_text(), found.text()))


if __name__ == "__main__":
    main()
