"""Texts and their places: shortened, merged where they crowd, and placed without overlaps. Pure functions of pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from torussim.timeline import Array

T = TypeVar("T")

LEFT, WIDTH, RIGHT = 92, 1044, 64  # pixels; 100 to the inch
MAX_ROWS = 12  # of labels beside a lane
CLOSE = 4  # pixels


def short(text: str, most: int) -> str:
    """Return a text without its middle if it is longer than the given number of characters."""
    return text if len(text) <= most else f"{text[:most // 2]}…{text[1 - most // 2:]}"


def joined(spans: Iterable[Array]) -> Array:
    """Return all spans as one array (n, 2)."""
    return np.concatenate([np.empty((0, 2)), *spans])


def visible(x0: float, x1: float) -> float:
    """Return the number of pixels of a bar that are inside the picture."""
    return min(x1, WIDTH) - max(x0, 0.0)


def percent(share: float) -> str:
    """Return a share in whole percent."""
    return "<1 %" if 1e-9 < share < 0.005 else f"{100 * share:.0f} %"


def tint(colour: str, strength: float) -> str:
    """Return a colour mixed with white."""
    parts = [int(colour[i:i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - strength * (255 - part)):02X}" for part in parts)


def crowds(items: Iterable[T], x: Callable[[T], float]) -> list[list[T]]:
    """Return the items in the order of their places, with items that are too close together in one group."""
    groups: list[list[T]] = []
    for item in sorted(items, key=x):
        if groups and x(item) - x(groups[-1][-1]) < CLOSE:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def gathered(items: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return (x, name), with one name for each crowd of more than three."""
    found = []
    for group in crowds(items, lambda item: item[0]):
        names = f"{group[0][1]} to {group[-1][1]}, {len(group)} operations"
        found += group if len(group) <= 3 else [(group[len(group) // 2][0], names)]
    return found


def flags(items: Sequence[tuple[float, float]]) -> list[tuple[int, int] | None]:
    """Return (row, side) of the label of each (x, width): right (1) or left (-1) of a line from x to its row.

    No label overlaps another label or the line of another; None where a label would need more than MAX_ROWS. Of a few
    arrangements, the one returned leaves out the fewest labels, then needs the fewest rows.
    """
    rows = range(MAX_ROWS)
    near = [(row, side) for row in rows for side in (1, -1)]
    sided = {side: [(row, s) for s in (side, -side) for row in rows] for side in (1, -1)}
    order = sorted(range(len(items)), key=lambda i: items[i][0])
    ways = [(order, [near] * len(items)), (order[::-1], [near] * len(items))]
    # Flags to the right that rise to the left; from some item on, flags to the left that rise to the right.
    ways += [(order[:split][::-1] + order[split:], [sided[1]] * split + [sided[-1]] * (len(items) - split))
             for split in range(len(items), -1, -1)[:40]]
    tried: list[list[tuple[int, int] | None]] = []
    for number, (taken, wishes) in enumerate(ways):
        if number < 3 or None in min(tried, key=cost):
            tried.append(placed(items, taken, wishes))
    return min(tried, key=cost)


def cost(places: Sequence[tuple[int, int] | None]) -> tuple[int, int, int]:
    """Return the cost of an arrangement: labels left out, then rows, then the sum of rows."""
    rows = [place[0] for place in places if place]
    return len(places) - len(rows), max(rows, default=0), sum(rows)


def placed(items: Sequence[tuple[float, float]], order: Sequence[int],
            wishes: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[int, int] | None]:
    """Return the first free one of the preferred places of each item; items are placed in this order."""
    boxes: list[tuple[float, float, int]] = []
    lines: list[tuple[float, int]] = []
    found: list[tuple[int, int] | None] = [None] * len(items)

    def free(x: float, left: float, right: float, row: int) -> bool:
        return (left >= -LEFT / 2 and right <= WIDTH + RIGHT
                and not any(row == r and left < b + 8 and a - 8 < right for a, b, r in boxes)
                and not any(row > r and a - 2 < x < b + 2 for a, b, r in boxes)
                and not any(r >= row and left - 2 < other < right + 2 for other, r in lines))

    for i, wished in zip(order, wishes, strict=True):
        x, width = items[i]
        sides = {1: (x + 3, x + 3 + width), -1: (x - 3 - width, x - 3)}
        for row, side in wished:
            if free(x, *sides[side], row):
                found[i] = (row, side)
                boxes.append((*sides[side], row))
                lines.append((x, row))
                break
    return found
