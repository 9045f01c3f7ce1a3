"""A table of coloured cells, rows by columns: each has a share, light to dark, a text, and small lines beside it.

A cell is read without its colour too: the text says what the colour shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torussim.plot.canvas import COMPUTE, FAINT, INK, NORMAL, SMALL, Canvas
from torussim.plot.labels import tint

DARK = 0.55  # the share from which text is white
STRONGEST = 0.92  # tint of a share of 1


@dataclass(frozen=True)
class Cell:
    """One cell: its share of the darkest colour from 0 to 1, its text, and lines beside it, one or two."""

    share: float
    text: str
    lines: tuple[str, ...] = ()


def cells(canvas: Canvas, x: float, y: float, found: Sequence[Sequence[Cell]], rows: Sequence[str], columns: Sequence[str], *,
          width: float, height: float, text_width: float, corner: str = "", colour: str = COMPUTE) -> float:
    """Draw rows of cells from (x, y), each `width` by `height`; return where they end.

    Names of rows stand to the left of x, those of columns above the first row, `corner` where they meet. In a cell the text has
    `text_width`, its lines the rest.
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
            canvas.box(left + 1, left + width - 1, top + 1, top + height - 1, tint(colour, STRONGEST * min(1.0, cell.share)))
            ink = "#FFFFFF" if cell.share > DARK else INK
            canvas.text(left + text_width - 4, top + height / 2, cell.text, align="right", colour=ink, bold=True, size=NORMAL)
            for number, line in enumerate(cell.lines):
                down = top + height * (number + 1) / (len(cell.lines) + 1) + (2 * number - len(cell.lines) + 1) * 1.0
                canvas.text(left + text_width + 4, down, line, colour=ink, size=SMALL)
    return y + len(rows) * height
