"""A table of coloured cells, rows by columns: each cell has a share (light to dark), a text, and small lines beside it.

A cell can be read without colour: the text gives the value that the colour shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from torussim.plot.canvas import COMPUTE, FAINT, NORMAL, SMALL, Canvas
from torussim.plot.labels import tint

STRONGEST = 0.69  # tint of a share of 1: the contrast of TEXT on it is 7 to 1
TEXT = "#000000"


@dataclass(frozen=True)
class Cell:
    """One cell: its share of the darkest colour from 0 to 1, its text, and lines beside it, one or two."""

    share: float
    text: str
    lines: tuple[str, ...] = ()


def cells(canvas: Canvas, x: float, y: float, found: Sequence[Sequence[Cell]], rows: Sequence[str], columns: Sequence[str], *,
          width: float, height: float, text_width: float, corner: str = "", colour: str = COMPUTE) -> float:
    """Draw rows of cells from (x, y), each `width` by `height`. Return their lower end.

    Names of rows are to the left of x, names of columns above the first row, and `corner` is above the names of rows. In a cell
    the text takes `text_width`, and the lines take the rest.
    """
    canvas.text(x - 10, y + 8, corner, align="right", colour=FAINT)
    for j, name in enumerate(columns):
        canvas.text(x + (j + 0.5) * width, y + 8, name, align="center", bold=True)
    y += 20
    for i, name in enumerate(rows):
        top = y + i * height
        canvas.text(x - 10, top + height / 2, name, align="right", bold=True)
        for j, cell in enumerate(found[i]):
            left = x + j * width
            corners = [(left + a * (width - 2) + 1, top + b * (height - 2) + 1) for a, b in ((0, 0), (1, 0), (1, 1), (0, 1))]
            canvas.shape(np.array([corners]), tint(colour, STRONGEST * min(1.0, cell.share)), name="cells")
            canvas.text(left + text_width - 4, top + height / 2, cell.text, align="right", colour=TEXT, bold=True, size=NORMAL)
            for number, line in enumerate(cell.lines):
                down = top + height * (number + 1) / (len(cell.lines) + 1) + (2 * number - len(cell.lines) + 1) * 1.0
                canvas.text(left + text_width + 4, down, line, colour=TEXT, size=SMALL)
    return y + len(rows) * height
