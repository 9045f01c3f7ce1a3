"""Networks that are no tree: chips on a circle with switches inside it, or a small circle of that kind for each group."""

from __future__ import annotations

from math import pi, sin

import numpy as np

from torussim.plot.network import LinkPicture
from torussim.plot.spread import Box, Spread
from torussim.timeline import Array

RADIUS, AROUND = 300.0, 80.0  # pixels: the largest circle, and the room for names around it
READABLE = 60.0  # radius of a group with room for the names of its nodes
WITHIN = 0.55  # radius of the circle of switches, as a share of the circle of chips


def circle(links: LinkPicture) -> Spread:
    """Return all chips on one circle, clockwise from the top, and the switches on a circle inside it."""
    angles = _angles(links, np.arange(links.nodes))
    radius = np.where(np.arange(links.nodes) < links.chips, 1.0, WITHIN if links.nodes > links.chips + 1 else 0.0) * RADIUS
    out = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    middle = np.array([AROUND + RADIUS, RADIUS + 40])
    centres = middle + out * (radius[:, None] if links.nodes > 1 else 0.0)
    half = float(np.clip(0.4 * pi * RADIUS / max(links.chips, 3), 1.5, 9))
    pitch = min(32.0, 4 * pi * RADIUS / max(links.chips, 3))
    return Spread(links, centres, half, np.full(links.nodes, half), pitch, 2 * (RADIUS + AROUND), 2 * RADIUS + 80, out,
                  np.ones(links.nodes, bool))


def clusters(links: LinkPicture, of: Array) -> Spread:
    """Return a circle of groups, each a circle of its chips with its switches inside; `of`: the group of each node, (nodes,).

    Nodes without a group are in the middle.
    """
    count = int(of.max()) + 1
    size = max(1, int(np.bincount(of[:links.chips][of[:links.chips] >= 0], minlength=count).max()))
    large = RADIUS + 40.0  # from the middle to the centres of groups
    small = min(0.8 * large * sin(pi / max(count, 3)), 130.0 if count > 2 else 190.0)
    middle = np.array([large, large if count > 2 else 0.0]) + small + 40
    centres, out = np.tile(middle, (links.nodes, 1)), np.tile([0.0, -1.0], (links.nodes, 1))
    boxes = []
    for group in range(count):
        turn = 2 * pi * group / count - (pi / 2 if count == 2 else 0.0)  # two groups are side by side
        centre = middle + large * np.array([np.sin(turn), -np.cos(turn)])
        members = np.flatnonzero(of == group)
        angles = _angles(links, members) + 2 * pi * group / count
        ways = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
        alone = np.count_nonzero(members >= links.chips) == 1  # a single switch is in the middle of its chips
        radius = small * np.where(members < links.chips, 0.8, 0.0 if alone else WITHIN * 0.8)
        centres[members] = centre + ways * (radius[:, None] if len(members) > 1 else 0.0)
        out[members] = ways
        (x, y), (across, down) = centre.tolist(), (np.sin(turn), -np.cos(turn))
        boxes.append(Box(x - small, y - small, x + small, y + small, links.group_name(members),
                         x + float(across) * (small + 24), y + float(down) * (small + 9)))
    lost = np.flatnonzero(of < 0)
    turns = 2 * pi * np.arange(len(lost)) / max(len(lost), 1)
    ways = np.stack([np.sin(turns), -np.cos(turns)], axis=1)
    centres[lost], out[lost] = middle + ways * (0.4 * large if len(lost) > 1 else 0.0), ways
    half = float(np.clip(0.3 * pi * small / max(size, 3), 1.2, 8))
    width, height = 2 * middle
    pitch = float(np.clip(1.6 * pi * small / max(size, 3), 4, 30))
    return Spread(links, centres, half, np.full(links.nodes, half), pitch, float(width), float(height), out,
                  np.full(links.nodes, small > READABLE), boxes)


def _angles(links: LinkPicture, members: Array) -> Array:
    """Return the angle of each node on its circle, clockwise from the top. Chips come before switches.

    Switches are evenly spaced, each as near as possible to the mean direction of its chips; ties are in the order of numbers.
    """
    chips = members[members < links.chips]
    found = np.arange(len(members)) * 2 * pi / max(len(chips), 1)
    switches = len(members) - len(chips)
    if not switches:
        return found
    place = np.full(links.nodes, -1)
    place[members] = np.arange(len(members))
    target, source = place[links.ends.target], place[links.ends.source]
    onto = (target >= len(chips)) & (source >= 0) & (source < len(chips))
    seen, which = np.exp(1j * found[source[onto]]), target[onto] - len(chips)
    total = np.bincount(which, seen.real, switches) + 1j * np.bincount(which, seen.imag, switches)
    wish = np.where(np.abs(total) > 1e-6, np.angle(total) % (2 * pi), 0.0).round(6)
    order, slots = np.argsort(wish, kind="stable"), np.arange(switches) * 2 * pi / switches
    turn = np.angle(np.sum(np.abs(total[order]) * np.exp(1j * (wish[order] - slots))) + 1e-9)
    spread = np.empty(switches)
    spread[order] = slots + turn
    found[len(chips):] = spread
    return found
