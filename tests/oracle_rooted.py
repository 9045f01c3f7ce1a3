"""Collectives with a root, and trees, for the oracle: who sends what to whom, by places on the axes of a group.

Written from docs/design.md, section 4, alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

Place = tuple[int, ...]
Send = tuple[Place, Place, list[tuple[Place | None, tuple[int, ...]]]]  # from, to, shards (None: the one vector) and their halves
TREES = ("tree", "chain", "two_chains", "double_tree")
ALL = (0, 1)


def steps(kind: str, algorithm: str, lengths: Sequence[int], ring: Sequence[bool], root: Place,
          order: Sequence[Place]) -> tuple[list[list[Send]], bool]:
    """Return the messages of each step, and whether what comes is passed on while it comes; `order`: through all chips."""
    places = list(product(*map(range, lengths)))
    inwards = kind in ("reduce", "gather")
    if kind == "all_reduce":
        one, two = binary(places)
        shards: list[Place | None] = [*places]
        down = levels([(one, (0,)), (two, (1,))], shards)
        return turned(down) + down, True
    if kind in ("gather", "scatter"):
        if algorithm == "tree":
            parent = {p: towards(p, root, lengths, ring) for p in places if p != root}
            found = [[(a, b, [(p, ALL) for p in places if b in way(p, parent)]) for a, b, _ in step]
                     for step in levels([(parent, ALL)], [None])]
            return (turned(found) if inwards else found), True
        found = [[(root, p, [(p, ALL)]) for p in places if p != root]] if algorithm == "direct" else binomial(places, root, True)
        return (turned(found) if inwards else found), False
    if algorithm in ("direct", "binomial"):
        at_once: list[list[Send]] = [[(root, p, [(None, ALL)]) for p in places if p != root]]
        found = at_once if algorithm == "direct" else binomial(places, root, False)
        return (turned(found) if inwards else found), False
    at = list(order).index(root)
    line = [*order[at:], *order[:at]]
    others = [p for p in places if p != root]
    forest = {
        "tree": lambda: [({p: towards(p, root, lengths, ring) for p in others}, ALL)],
        "chain": lambda: [(dict(zip(line[1:], line, strict=False)), ALL)],
        "two_chains": lambda: [(dict(zip(line[1:], line, strict=False)), (0,)),
                               (dict(zip(line[:0:-1], [root, *line[:1:-1]], strict=True)), (1,))],
        "double_tree": lambda: [({p: tree.get(p, root) for p in others}, halves)
                                for tree, halves in zip(binary(others), ((0,), (1,)), strict=True)],
    }[algorithm]()
    found = levels(forest, [None])
    return (turned(found) if inwards else found), True


def turned(found: list[list[Send]]) -> list[list[Send]]:
    return [[(b, a, what) for a, b, what in step] for step in reversed(found)]


def towards(place: Place, root: Place, lengths: Sequence[int], ring: Sequence[bool]) -> Place:
    """Return the next chip on the way back to the root: the last axis on which they differ, the shorter way, back at half way."""
    axis = max(a for a in range(len(place)) if place[a] != root[a])
    n = lengths[axis]
    ahead = (place[axis] - root[axis]) % n
    back = 2 * ahead <= n if ring[axis] else place[axis] > root[axis]
    return (*place[:axis], (place[axis] + (-1 if back else 1)) % n, *place[axis + 1:])


def way(place: Place, parent: dict[Place, Place]) -> list[Place]:
    """Return a chip and all those above it."""
    found = [place]
    while found[-1] in parent:
        found.append(parent[found[-1]])
    return found


def binary(chips: Sequence[Place]) -> tuple[dict[Place, Place], dict[Place, Place]]:
    """Return two binary trees: the leaves of one are 1, 3, 5, ...; the other is its mirror image, or it moved on by one."""
    count = len(chips)
    one = {}
    for i in range(1, count):
        low = 1
        while i % (2 * low) == 0:
            low *= 2
        up = next(j for j in (i - low, i + low) if j % (4 * low) == 2 * low)  # a level up, and beside it
        one[i] = up if up < count else i - low
    place = (lambda i: count - 1 - i) if count % 2 == 0 else (lambda i: (i + 1) % count)
    return {chips[a]: chips[b] for a, b in one.items()}, {chips[place(a)]: chips[place(b)] for a, b in one.items()}


def levels(forest: Sequence[tuple[dict[Place, Place], tuple[int, ...]]],
           shards: Sequence[Place | None]) -> list[list[Send]]:
    """Return what goes down trees, level by level."""
    found: dict[int, list[Send]] = {}
    for parent, halves in forest:
        for chip in parent:
            found.setdefault(len(way(chip, parent)) - 1, []).append((parent[chip], chip, [(s, halves) for s in shards]))
    return [found[level] for level in sorted(found)]


def binomial(places: Sequence[Place], root: Place, split: bool) -> list[list[Send]]:
    """Return the steps from the root: the vector to 1, 2, 4, ... places on, or what is for those behind, the half first."""
    K, at = len(places), list(places).index(root)
    on = [places[(at + i) % K] for i in range(K)]
    powers = [1 << k for k in range(K.bit_length()) if 1 << k < K]
    if split:
        return [[(on[i - far], on[i], [(p, ALL) for p in on[i:i + far]]) for i in range(far, K, 2 * far)]
                for far in reversed(powers)]
    return [[(on[i], on[i + far], [(None, ALL)]) for i in range(far) if i + far < K] for far in powers]
