"""Draws plots/pipeline.png: four pipeline stages with their bubbles, the prompts of docs/worked_models.md."""

import re
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from torussim.answer import run
from torussim.plot import save

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "worked_models.md"


def main(folder: Path = HERE) -> None:
    (text,) = re.findall(r"^```yaml title=\"prompts.yaml\"\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    save(run(YAML(typ="safe", pure=True).load(StringIO(text))).plot(), folder / "pipeline.png")


if __name__ == "__main__":
    main()
