"""Collectives with a root, a chip that is unlike the others, and trees: steps of messages from chip to chip.

Positions, lengths and bytes are as in `steps`. A *tree* is (K,) the position of each chip's parent, -1 at the root. Down a tree a
chip passes on the data that it receives; up a tree, the data that it has summed or collected. It begins when the data that it
waits for begin to arrive (`Step.piped`), so that a long vector uses all links at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import numpy as np

from torussim.collectives.axes import ring_order
from torussim.collectives.contract import Array, Step

Make = Callable[[Sequence[int], Sequence[bool], int, float], tuple[Step, ...]]  # lengths, which axes are rings, root, bytes
Sends = Sequence[tuple[int, int, int]]  # a label of the data, sender, receiver
Trees = Callable[[Sequence[int], Sequence[bool], int], Sequence[Array]]
NONE = -1  # no parent, no message


def nearest(lengths: Sequence[int], ring: Sequence[bool], root: int) -> Array:
    """Return the tree over neighbours, (K,): along the first axis, from there along the second, ..., both ways round a ring.

    >>> nearest([5], [True], 1).tolist()
    [1, -1, 1, 2, 0]
    """
    chips = np.arange(prod(lengths))
    at = np.array(np.unravel_index(chips, tuple(lengths)))  # (axes, K)
    parent = np.full(len(chips), NONE)
    for axis, (n, goes_round) in enumerate(zip(lengths, ring)):
        off = at[axis] - at[axis, root]
        off = (off + (n - 1) // 2) % n - (n - 1) // 2 if goes_round else off
        to = at.copy()
        to[axis] = (at[axis] - np.sign(off)) % n
        parent = np.where(off, np.ravel_multi_index(tuple(to), tuple(lengths)), parent)
    return parent


def chain(lengths: Sequence[int], ring: Sequence[bool], root: int) -> Array:
    """Return the tree in which each chip has one child: the next one on a path of neighbours through all chips, cyclically."""
    order, _ = ring_order(list(lengths), list(ring))
    places = np.ravel_multi_index(tuple(np.array(order).T), tuple(lengths))
    places = np.roll(places, -int(np.flatnonzero(places == root)[0]))
    parent = np.full(len(places), NONE)
    parent[places[1:]] = places[:-1]
    return parent


def both_ways(lengths: Sequence[int], ring: Sequence[bool], root: int) -> list[Array]:
    """Return two chains along the same path, one in each direction."""
    one = chain(lengths, ring, root)
    depth = depths(one)
    order = np.argsort(depth)
    other = np.full(len(one), NONE)
    if len(one) > 1:
        other[order[-1]] = root
        other[order[1:-1]] = order[2:]
    return [one, other]


def in_order(chips: int) -> Array:
    """Return a binary tree in which all chips of odd number are leaves; its root is chip 0.

    >>> in_order(7).tolist()
    [-1, 2, 4, 2, 0, 6, 4]
    """
    parent = np.full(chips, NONE)
    for p in range(1, chips):
        low = p & -p
        up = (p ^ low) | low << 1
        parent[p] = up if up < chips else p ^ low
    return parent


def two_trees(chips: int) -> tuple[Array, Array]:
    """Return two binary trees; if the number of chips is even, no chip has children in both (Sanders, Speck, Traeff 2009).

    Each tree carries half of the data, so a chip sends and receives about as much as in the other trees.
    """
    one = in_order(chips)
    other = np.arange(chips)[::-1] if chips % 2 == 0 else (np.arange(chips) + 1) % chips  # places in the second tree
    second = np.full(chips, NONE)
    second[other] = np.where(one >= 0, other[one], NONE)
    return one, second


def below(root: int, tree: Array) -> Array:
    """Return a tree over all chips but the root, placed under the root; the positions of the given tree do not count the root."""
    places = np.delete(np.arange(len(tree) + 1), root)
    parent = np.full(len(tree) + 1, NONE)
    parent[places] = np.where(tree >= 0, places[tree], root)
    return parent


def depths(tree: Array) -> Array:
    """Return the distance of each chip from the root, (K,)."""
    depth, at = np.zeros(len(tree), int), tree
    while (at >= 0).any():
        depth += at >= 0
        at = np.where(at >= 0, tree[at], NONE)
    return depth


def down(trees: Sequence[Array], size: float, shards: int = 1) -> list[Step]:
    """Return the steps in which the data of each root reach all chips; each tree carries its part of every shard."""
    return [_step("gather", trees, sends, size, shards) for sends in _levels(trees)]


def up(trees: Sequence[Array], size: float, shards: int = 1) -> list[Step]:
    """Return the steps in which the sums reach the roots."""
    return [_step("reduce", trees, [(tree, to, source) for tree, source, to in sends], size, shards)
            for sends in reversed(_levels(trees))]


def _levels(trees: Sequence[Array]) -> list[list[tuple[int, int, int]]]:
    """Return the (tree, parent, child) of each level, starting at the roots."""
    depth = [depths(tree) for tree in trees]
    return [[(t, int(tree[child]), int(child)) for t, tree in enumerate(trees) for child in np.flatnonzero(depth[t] == level)]
            for level in range(1, int(max(d.max() for d in depth)) + 1)]


def _step(role: str, trees: Sequence[Array], sends: Sends, size: float, shards: int) -> Step:
    """Return a step of messages (tree, sender, receiver)."""
    to, tree = _rows(len(trees[0]), sends)
    carried = partial(_of_tree, tree, len(trees), shards)
    return Step(role, size / len(trees), carried, to=to, cut=len(trees), piped=True, spread=True)


def _rows(chips: int, sends: Sends) -> tuple[Array, list[int]]:
    """Return (messages, K) receivers, and the label of each row; several messages of one chip are in separate rows."""
    rows: dict[tuple[int, int], Array] = {}
    count: dict[tuple[int, int], int] = {}
    for what, sender, receiver in sends:
        number = count[what, sender] = count.get((what, sender), NONE) + 1
        rows.setdefault((what, number), np.full(chips, NONE))[sender] = receiver
    return np.array(list(rows.values())), [what for what, _ in rows]


def _of_tree(tree: Sequence[int], trees: int, shards: int, message: int, position: int, to: int) -> list[int]:
    return [shard * trees + tree[message] for shard in range(shards)]


def _halves(lengths: Sequence[int], ring: Sequence[bool], root: int) -> list[Array]:
    return [below(root, tree) for tree in two_trees(prod(lengths) - 1)]


def broadcast(trees: Trees, lengths: Sequence[int], ring: Sequence[bool], root: int, size: float) -> tuple[Step, ...]:
    """Return a broadcast down trees: D / B and the latency of each level, if each edge of a tree has a link of its own."""
    return tuple(down(trees(lengths, ring, root), size))


def reduce(trees: Trees, lengths: Sequence[int], ring: Sequence[bool], root: int, size: float) -> tuple[Step, ...]:
    """Return a reduce up trees: a broadcast reversed in time."""
    return tuple(up(trees(lengths, ring, root), size))


def collected(tree: Callable[[Sequence[int], Sequence[bool], int], Array], inwards: bool, lengths: Sequence[int],
              ring: Sequence[bool], root: int, size: float) -> tuple[Step, ...]:
    """Return a gather up a tree (`inwards`) or a scatter down it: a message holds the shards of all chips below the edge."""
    found = tree(lengths, ring, root)
    chips, levels = len(found), _levels([found])
    under = [{c} for c in range(chips)]
    for level in reversed(levels):
        for _, parent, child in level:
            under[parent] |= under[child]
    return tuple(_shards([(0, child, parent) if inwards else (0, parent, child) for _, parent, child in level],
                         [sorted(under[child]) for _, _, child in level], chips, size, inwards, piped=True)
                 for level in (reversed(levels) if inwards else levels))


def binomial(kind: str, lengths: Sequence[int], ring: Sequence[bool], root: int, size: float) -> tuple[Step, ...]:
    """Return ceil(log2 K) steps: the chip 1, 2, 4, ... places on gets its part from a chip that has it (Thakur et al. 2005, 4).

    A broadcast and a reduce take D a step. A scatter sends the data of half of the chips first; a gather sends them last.
    """
    chips, made = prod(lengths), list[Step]()
    for far in (1 << k for k in range((chips - 1).bit_length())):
        if kind in ("broadcast", "reduce"):
            pairs = [(p, p + far) for p in range(min(far, chips - far))]
        else:
            pairs = [(p - far, p) for p in range(far, chips, 2 * far)]
        sends = [(0, (a + root) % chips, (b + root) % chips) for a, b in pairs]
        turned = [(0, b, a) for _, a, b in sends]
        if kind in ("broadcast", "reduce"):
            to, tree = _rows(chips, turned if kind == "reduce" else sends)
            role = "gather" if kind == "broadcast" else "reduce"
            made.append(Step(role, size, partial(_of_tree, tree, 1, 1), to=to, spread=True))
        else:
            held = [[(p + root) % chips for p in range(b, min(b + far, chips))] for _, b in pairs]
            made.append(_shards(turned if kind == "gather" else sends, held, chips, size, kind == "gather", piped=False))
    return tuple(made if kind in ("broadcast", "gather") else reversed(made))


def at_once(kind: str, lengths: Sequence[int], ring: Sequence[bool], root: int, size: float) -> tuple[Step, ...]:
    """Return the one step in which the root sends directly to every other chip, or every other chip to the root."""
    chips = prod(lengths)
    others = [c for c in range(chips) if c != root]
    inwards = kind in ("reduce", "gather")
    sends = [(0, c, root) if inwards else (0, root, c) for c in others]
    if kind in ("broadcast", "reduce", "send"):
        to, tree = _rows(chips, sends)
        role = {"broadcast": "gather", "reduce": "reduce", "send": "gather"}[kind]
        return (Step(role, size, partial(_of_tree, tree, 1, 1), to=to, spread=True),)
    return (_shards(sends, [[c] for c in others], chips, size, inwards, piped=False),)


def _shards(sends: Sends, held: Sequence[Sequence[int]], chips: int, size: float, keeps: bool, *,
            piped: bool) -> Step:
    """Return the step of messages (0, sender, receiver), each with the shards, of K, in `held`."""
    to, _ = _rows(chips, sends)
    of = {(sender, receiver): list(shards) for (_, sender, receiver), shards in zip(sends, held)}
    most = max(map(len, held))
    part = None
    if any(len(shards) < most for shards in held):
        part = np.array([[len(of.get((p, int(q)), ())) / most for p, q in enumerate(row)] for row in to])
    return Step("gather" if keeps else "moved", size / chips * most, lambda m, p, q: of.get((p, q), []), to=to, part=part,
                piped=piped, spread=True)


def all_reduce(lengths: Sequence[int], size: float) -> tuple[Step, ...]:
    """Return the all-reduce of half of the vector up and down each of two binary trees: about 2 log2 K latencies, 2 D a chip."""
    trees = two_trees(prod(lengths))
    return tuple(up(trees, size, prod(lengths)) + down(trees, size, prod(lengths)))


def _one(tree: Callable[[Sequence[int], Sequence[bool], int], Array], lengths: Sequence[int], ring: Sequence[bool],
         root: int) -> list[Array]:
    return [tree(lengths, ring, root)]


ROOTED: dict[str, dict[str, Make]] = {  # by kind and name, the first is the default
    kind: {"tree": partial(make, partial(_one, nearest)), "chain": partial(make, partial(_one, chain)),
           "two_chains": partial(make, both_ways), "double_tree": partial(make, _halves),
           "binomial": partial(binomial, kind), "direct": partial(at_once, kind)}
    for kind, make in (("broadcast", broadcast), ("reduce", reduce))}
ROOTED |= {kind: {"direct": partial(at_once, kind), "tree": partial(collected, nearest, kind == "gather"),
                  "binomial": partial(binomial, kind)} for kind in ("gather", "scatter")}
ROOTED["send"] = {"direct": partial(at_once, "send")}
