"""A network of levels of switches: chips at the bottom, each level of switches above the lower one, groups in boxes."""

from __future__ import annotations

from math import ceil, pi

import numpy as np

from torussim.plot.network import LinkPicture
from torussim.plot.spread import Box, Spread
from torussim.timeline import Array

WIDEST, CLOSEST = 44.0, 13.0  # pixels between neighbouring chips; the smaller one if more rows of chips make it possible
LEAST, MOST = 380.0, 1176.0  # width of the picture
DEEPEST = 12  # rows of chips
SWITCH = 7.0  # pixels between neighbouring switches, at least
GAP = 0.9  # between groups, of the pitch
LEVEL = (120.0, 170.0)  # pixels between levels: for few chips, and for many
TOP, FOOT = 40.0, 38.0  # the latter without the names of chips
NAME = 14.0  # the height of a line of names


def tree(links: LinkPicture, rows: Array, of: Array, name: float = 0.0) -> Spread:
    """Return the places of the nodes. `rows`: the level of each, 0 for chips; `of`: its group or -1; both (nodes,).

    `name` is the width of the widest name of a chip, pixels; names wider than the distance between chips are turned.
    """
    order, sizes = _order(links, rows, of)
    meshed = _meshed(links, of)
    deep, pitch = _fit(sizes, len(sizes) > 1, meshed)
    columns = [ceil(size / deep) for size in sizes]
    total = (sum(columns) + GAP * len(columns)) * pitch
    width = float(np.clip(total + 2 * pitch, LEAST, MOST))
    step, level = min(pitch, 22.0), LEVEL[0] + (LEVEL[1] - LEVEL[0]) * min(1.0, links.chips / 64)
    high = int(rows.max(initial=0))
    floor = TOP + high * level  # y of the top row of chips
    centres, out = np.zeros((links.nodes, 2)), np.tile([0.0, -1.0], (links.nodes, 1))
    left, spans, begin = (width - total) / 2 + GAP * pitch / 2, [], 0
    for size, wide in zip(sizes, columns, strict=True):
        at = np.arange(size)
        members = order[begin:begin + size]
        if meshed:
            turn, radius = 2 * pi * at / size, wide * pitch / 2.2
            middle = left + wide * pitch / 2
            out[members] = np.stack([np.sin(turn), -np.cos(turn)], axis=1)
            centres[members] = np.array([middle, floor + radius]) + radius * out[members]
        else:
            aside = (at // wide / (deep - 1) - 0.5) * 0.7 if deep > 1 else 0.0  # the links of chips in one column are offset
            centres[members] = np.stack([left + (at % wide + 0.5 + aside) * pitch, floor + at // wide * step], axis=1)
            out[members] = (0.0, 1.0)
        spans.append((left, left + wide * pitch))
        left, begin = left + (wide + GAP) * pitch, begin + size
    bottom = float(centres[:links.chips, 1].max(initial=floor))
    turned = deep == 1 and not meshed and NAME <= pitch < name + 4
    below = name + 4 if turned else NAME
    boxed = len(sizes) > 1 and bool((of[:links.chips] >= 0).all())
    half = float(np.clip(0.3 * min(pitch, step), 1.5, 9))
    sizes_of = np.full(links.nodes, half)
    for row in range(1, high + 1):
        some = np.flatnonzero(rows == row)
        apart = _raise(links, rows, of, row, centres, spans if boxed else [], (floor - row * level, width))
        sizes_of[some] = np.clip(0.3 * apart, 1.2, half)
    boxes = _boxes(links, of, centres, spans, bottom + half + below, half) if boxed else []
    named = (np.arange(links.nodes) >= links.chips) | meshed | (deep == 1)
    return Spread(links, centres, half, sizes_of, float(np.clip(pitch, 6, 32)), width, bottom + below + FOOT, out, named, boxes,
                  turned)


def _order(links: LinkPicture, rows: Array, of: Array) -> tuple[Array, list[int]]:
    """Return the chips from left to right, and the sizes of their clusters: by group, otherwise by their first switch."""
    chips = np.arange(links.chips)
    if (of[:links.chips] >= 0).all():
        order = np.argsort(of[:links.chips], kind="stable")
        return order, np.bincount(of[:links.chips]).tolist()
    return chips, [links.chips]


def _meshed(links: LinkPicture, of: Array) -> bool:
    """Return whether chips of one group are joined directly, so that they are placed on a circle."""
    source, target = links.ends.source, links.ends.target
    return bool(((source < links.chips) & (target < links.chips) & (of[source] == of[target])).any())


def _fit(sizes: list[int], grouped: bool, meshed: bool) -> tuple[int, float]:
    """Return the number of rows of chips, the smallest with enough distance, and the pixels between chips."""
    best = (1, 0.0)
    for deep in range(1, DEEPEST + 1):
        columns = sum(max(1, ceil(size / deep)) for size in sizes) + GAP * len(sizes) + 2
        pitch = min(WIDEST, MOST / columns)
        if meshed and deep < 3:
            continue
        if pitch > best[1]:
            best = deep, pitch
        if pitch >= CLOSEST and (deep == 1 or grouped or pitch >= WIDEST / 3):
            return deep, pitch
    return best


def _raise(links: LinkPicture, rows: Array, of: Array, row: int, centres: Array, spans: list[tuple[float, float]],
           line: tuple[float, float]) -> float:
    """Place the switches of a level: those of a group above it, others over the whole width, near their lower neighbours.

    Close switches take several rows. Return the least distance between two of them, pixels.
    """
    y, width = line
    members = np.flatnonzero(rows == row)
    source, target = links.ends.source, links.ends.target
    down = (rows[source] == row) & (rows[target] < row)
    total = np.bincount(source[down], centres[target[down], 0], links.nodes)
    count = np.bincount(source[down], minlength=links.nodes)
    wish = np.where(count > 0, total / np.maximum(count, 1), width / 2)
    least = WIDEST
    for group in np.unique(of[members]).tolist():
        some = members[of[members] == group]
        some = some[np.argsort(wish[some].round(3), kind="stable")]
        a, b = spans[group] if spans and group >= 0 else (0.0, width)
        at, pitch = np.arange(len(some)), (b - a) / len(some)
        deep = int(np.clip(np.ceil(SWITCH / pitch), 1, len(some)))
        centres[some, 0] = a + (at + 0.5) * pitch
        centres[some, 1] = y + at % deep * SWITCH
        least = min(least, pitch * deep, SWITCH if deep > 1 else WIDEST)
    return least


def _boxes(links: LinkPicture, of: Array, centres: Array, spans: list[tuple[float, float]], bottom: float,
           half: float) -> list[Box]:
    """Return a box around the chips and switches of each group, with its name at the foot."""
    found = []
    for group, (a, b) in enumerate(spans):
        members = np.flatnonzero(of == group)
        top, aside = float(centres[members, 1].min()) - half - 18, min(4.0, (b - a) / 8)
        found.append(Box(a - aside, top, b + aside, bottom + 22, links.group_name(members), (a + b) / 2, bottom + 13))
    return found
