"""The ways to make up the logical axes x, y and z from physical axes or parts of them; equivalent ways once.

A mesh is written as in a scenario file: logical axis -> factors in order, each with a physical axis and its number of chips.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import permutations, product

import numpy as np

from torussim.layouts import LOGICAL
from torussim.topology.grid import Grid
from torussim.topology.shape import strides

Written = Mapping[str, tuple[tuple[str, int], ...]]
Relabelling = Mapping[str, str]


def whole(axes: Mapping[str, int]) -> Iterator[Written]:
    """Return every assignment of whole physical axes to logical axes, in every order; the one with equal names is first.

    Axes of one chip are not assigned.

    >>> len(list(whole({"x": 4, "y": 4, "z": 4}))), len(list(whole({"x": 8, "y": 1})))
    (60, 3)
    """
    names = [axis for axis, length in axes.items() if length > 1]
    seen = set()
    same = tuple(LOGICAL.index(axis) if axis in LOGICAL else len(LOGICAL) - 1 for axis in names)
    for homes in (same, *product(range(len(LOGICAL)), repeat=len(names))):
        for order in permutations(range(len(names))):
            mesh = {logical: tuple((names[i], axes[names[i]]) for i in order if homes[i] == home)
                    for home, logical in enumerate(LOGICAL)}
            if (key := tuple(mesh.values())) not in seen:
                seen.add(key)
                yield mesh


def parts(axes: Mapping[str, int]) -> Iterator[Written]:
    """Return the meshes of whole axes, and the meshes in which axes are cut into parts on different logical axes.

    Neighbouring parts of one axis on the same logical axis are merged into one part. The factors of a logical axis stand in the
    order of the physical axes. A file must have the inner part of an axis before the outer one: a mesh is left out if no order of
    the logical axes has this for all physical axes.

    >>> len(list(parts({"x": 4}))), len(list(parts({"x": 4, "y": 4})))
    (9, 78)
    """
    yield from whole(axes)
    names = [axis for axis, length in axes.items() if length > 1]
    for cut in product(*(list(_factors(axes[axis])) for axis in names)):
        if all(len(one) == 1 for one in cut):
            continue
        places = [(axis, length, inner > 0) for axis, lengths in zip(names, cut) for inner, length in enumerate(lengths)]
        for homes in product(LOGICAL, repeat=len(places)):
            if any(later and homes[i] == homes[i - 1] for i, (_, _, later) in enumerate(places)):
                continue
            before = {(homes[i - 1], homes[i]) for i, (_, _, later) in enumerate(places) if later}
            order = next((order for order in permutations(LOGICAL)
                          if all(order.index(a) < order.index(b) for a, b in before)), None)
            if order is not None:
                yield {logical: tuple((axis, length) for (axis, length, _), home in zip(places, homes) if home == logical)
                       for logical in order}


def _factors(length: int) -> Iterator[tuple[int, ...]]:
    """Return every way to cut an axis into parts above 1, from neighbours outwards.

    >>> list(_factors(8))
    [(8,), (2, 4), (2, 2, 2), (4, 2)]
    """
    yield (length,)
    for first in range(2, length):
        if length % first == 0:
            yield from ((first, *rest) for rest in _factors(length // first))


def symmetries(net: Grid) -> list[Relabelling]:
    """Return the relabellings of the axes that map each link of a network to a link with the same bandwidth and latency.

    Only the identity is returned if links change in mid-run, belong to no axis or are twisted, or if the routing is user-defined.
    """
    names, links = net.axes, net.links
    found: list[Relabelling] = [{axis: axis for axis in names}]
    if links.events or links.twist or (links.axis < 0).any() or len(links.nodes) > len(links.chips) or callable(net.routing):
        return found
    for turn in list(permutations(range(len(names))))[1:]:
        if any(net.shape[a] != net.shape[b] or net.ring[a] != net.ring[b] or net.stride[a] != net.stride[b]
               for a, b in enumerate(turn)):
            continue
        there = np.empty_like(net.coordinates)
        there[list(turn)] = net.coordinates
        chip = strides(net.shape) @ there  # the chip that each chip is mapped to
        moved = np.ix_(np.array(turn), np.arange(2), chip)
        if all(np.array_equal(column[moved], column) for column in (net.bandwidth, net.latency)):
            found.append({names[a]: names[b] for a, b in enumerate(turn)})
    return found


def once(meshes: Iterator[Written], alike: Sequence[Relabelling]) -> Iterator[tuple[Written, int]]:
    """Return the first of the meshes that relabellings map to one another, each with their number.

    In meshes of cut axes the order of the factors of a logical axis is not varied, so it does not distinguish two meshes.
    """
    classes: dict[tuple[object, ...], tuple[Written, int]] = {}
    for mesh in meshes:
        axes = [axis for factors in mesh.values() for axis, _ in factors]
        order: Callable[[Iterable[tuple[str, int]]], Sequence[tuple[str, int]]] = tuple if len({*axes}) == len(axes) else sorted
        key = min(tuple((logical, tuple(order((turn[axis], length) for axis, length in factors)))
                        for logical, factors in mesh.items()) for turn in alike)
        first, count = classes.get(key, (mesh, 0))
        classes[key] = first, count + 1
    yield from classes.values()


def shown(mesh: Written, axes: Mapping[str, int]) -> dict[str, list[str]]:
    """Return a mesh as it is written in a scenario file."""
    return {logical: [axis if length == axes[axis] else f"{axis}/{length}" for axis, length in factors]
            for logical, factors in mesh.items()}
