"""The levels and groups of a network without slices: the distance of a switch from the chips, and the nodes of a group.

The attributes `level` of a switch and `group` of a node give them, if the graph has these. Otherwise a level is the distance from
the chips, and a group is connected without the switches of higher levels, or by the widest links of chips. The module knows
nothing of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim.timeline import Array

if TYPE_CHECKING:
    from torussim.plot.network import LinkPicture


def levels(links: LinkPicture) -> Array:
    """Return the row of each node, (nodes,): 0 for chips, 1 for the switches next to them, and so on without gaps."""
    found = distances(links)
    if links.levels:
        given = np.array(links.levels, float)
        found[links.chips:] = np.where(np.isnan(given), found[links.chips:] + np.nanmin(given) - 1, given) + 1
        found[links.chips:] -= min(float(np.min(found[links.chips:], initial=1.0)) - 1, 0.0)
    return np.unique(np.append(found, 0.0), return_inverse=True)[1][:-1].astype(np.intp) if links.nodes else found.astype(np.intp)


def distances(links: LinkPicture) -> Array:
    """Return the number of links between each node and the nearest chip, (nodes,) floats."""
    found = np.where(np.arange(links.nodes) < links.chips, 0.0, np.inf)
    for step in range(links.nodes):
        near = links.ends.source[(found[links.ends.target] == step) & np.isinf(found[links.ends.source])]
        near = np.append(near, links.ends.target[(found[links.ends.source] == step) & np.isinf(found[links.ends.target])])
        if not len(near):
            break
        found[near] = step + 1
    return np.where(np.isinf(found), 1.0, found)


def groups(links: LinkPicture, rows: Array) -> Array:
    """Return the number of each node's group, (nodes,), -1 if it has none; groups are numbered in the order of their chips."""
    if links.groups and any(group is not None for group in links.groups):
        found = _numbered(links.groups)
    else:
        low = np.maximum(rows[links.ends.source], rows[links.ends.target]) < 2
        found = _parts(links, low if rows.max(initial=0) > 1 else np.zeros(len(low), bool))
        if found.max(initial=-1) < 1:
            found = _parts(links, np.append(_wide(links, rows), np.zeros(len(links.dead), bool)))
    return found if found.max(initial=-1) > 0 else np.full(links.nodes, -1)


def flat(links: LinkPicture, rows: Array, of: Array) -> bool:
    """Return whether switches of one row are joined to each other outside their group, unlike in a tree."""
    source, target = links.ends.source, links.ends.target
    alike = (rows[source] == rows[target]) & (rows[source] > 0) & ((of[source] != of[target]) | (of[source] < 0))
    return bool(alike.any())


def _numbered(given: Sequence[Any]) -> Array:
    place: dict[str, int] = {}
    return np.array([-1 if one is None else place.setdefault(str(one), len(place)) for one in given], np.intp)


def _wide(links: LinkPicture, rows: Array) -> Array:
    """Return the links that are as wide as the widest link of a chip, (links,); none if all are."""
    of_chips = (rows[links.source] == 0) | (rows[links.target] == 0)
    rates = links.bandwidth[of_chips]
    widest = rates.max(initial=0.0) * (1 - 1e-9)
    found: Array = of_chips & (links.bandwidth >= widest) & bool((rates < widest).any())
    return found


def _parts(links: LinkPicture, which: Array) -> Array:
    """Return groups of at least two chips connected by some links, (nodes,); -1 for nodes outside; all -1 for one group."""
    root = np.arange(links.nodes)
    ends = np.stack([links.ends.source[which], links.ends.target[which]])
    while True:
        low = np.minimum(root[ends[0]], root[ends[1]])
        before = root.copy()
        for end in ends:
            np.minimum.at(root, end, low)
        root = root[root]
        if (root == before).all():
            break
    chips = np.bincount(root[:links.chips], minlength=links.nodes)
    found = np.where(chips[root] > 1, root, -1)
    if (found[:links.chips] < 0).any():
        return np.full(links.nodes, -1)
    kept = np.unique(found[found >= 0])
    return np.where(found >= 0, np.searchsorted(kept, found), -1)
