"""The physical axes, or parts of axes, of each logical axis of a layout."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torussim import resolve
from torussim.errors import Keys
from torussim.layouts import LAYOUTS, LOGICAL
from torussim.scenario.notes import Notes
from torussim.scenario.values import listed, quote
from torussim.topology.grid import part_names

PART = re.compile(r"(.+)/([0-9]+)")
TWICE = "mesh: the axis '{}' is used twice: use every axis of the topology exactly once"


@dataclass(frozen=True)
class Mesh:
    """Logical axis -> axes of the grid. `parts`: the lengths of the parts of each cut physical axis, from neighbours outwards."""

    axes: Mapping[str, tuple[str, ...]]
    parts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


Last = tuple[str, int]  # the outermost part of an axis, which is none of the mesh's: the axis, and the chips of the part


@dataclass(frozen=True)
class _Factor:
    """A physical axis, or a part of one, as a file gives it: its place, logical axis and number of chips."""

    place: Keys
    logical: str
    axis: str
    length: int | None  # None: the whole axis


def read_mesh(notes: Notes, given: Mapping[str, Sequence[str]], path: Keys, axes: Mapping[str, int] | None, ffn: Any,
              last: Last | None = None) -> Mesh:
    """Return a mesh, and note its mistakes. Every physical axis must be used exactly once.

    Parts of an axis are taken from neighbours outwards in the order in which the file lists them. `axes` are those left by the
    pipeline, which has the part `last`.
    """
    factors: list[_Factor] = []
    before = len(notes.mistakes)
    for name, written in given.items():
        if not (len(name) == 1 and name.isascii() and name.islower()):
            notes.wrong((*path, name), f"mesh: {quote(name)} is not a logical axis: use small letters, such as x, y, z",
                        at_key=True, code="unknown-key")
        elif isinstance(ffn, str) and ffn in LAYOUTS and name not in LOGICAL:
            notes.wrong((*path, name), f"mesh: {quote(name)} is not a logical axis of {ffn}, which has x, y, z", at_key=True,
                        code="unknown-key")
        for i, factor in enumerate(written):
            place = (*path, name, i)
            place = place if place in notes.document.marks else place[:-1]
            part = PART.fullmatch(factor) if axes is None or factor not in axes else None
            axis, length = (part[1], int(part[2])) if part else (factor, None)
            if last and axis == last[0] and axes is not None and axis not in axes:
                notes.wrong(place, f"mesh: the axis '{axis}' is that of the pipeline, which uses it up: leave it out of the mesh",
                            code="clash")
            elif axes is not None and axis not in axes:
                notes.wrong(place, "mesh: " + resolve.unknown(axis, axes, "axis of the topology"), code="unknown-name")
            factors.append(_Factor(place, name, axis, length))
    if axes is None:
        for i, one in enumerate(factors):
            if one.length is None and any(one.axis == other.axis for other in factors[:i]):
                notes.wrong(one.place, TWICE.format(one.axis), code="duplicate")
        return Mesh(_with_all({name: tuple(written) for name, written in given.items()}))
    of_axis = {axis: [factor for factor in factors if factor.axis == axis] for axis in axes}
    cut = {axis: _lengths(notes, axis, length, of_axis[axis]) for axis, length in axes.items()}
    unused = [axis for axis, length in axes.items() if length > 1 and not of_axis[axis]]
    if len(unused) > len(notes.mistakes) - before:  # otherwise a mistake noted above may explain the unused axes
        notes.wrong(path, f"mesh leaves {listed(unused)} unused: use every axis of the topology exactly once", at_key=True,
                    code="missing")
    for axis, length in axes.items():
        used = prod(cut[axis])
        if len(notes.mistakes) == before and of_axis[axis] and used < length:
            verb = "are" if len(of_axis[axis]) > 1 else "is"
            notes.wrong(path, f"mesh: {_written(of_axis[axis])} {verb} {used} of the {length} chips of axis {axis}: use all of "
                        f"them, such as with another '{axis}/{length // used}'", at_key=True, code="missing")
    if len(notes.mistakes) > before:
        return Mesh(_with_all({}))
    return mesh_of({name: [(f.axis, axes[f.axis] if f.length is None else f.length) for f in factors if f.logical == name]
                    for name in given}, last)


def mesh_of(written: Mapping[str, Sequence[tuple[str, int]]], last: Last | None = None) -> Mesh:
    """Return the mesh with these factors of each logical axis, each with a physical axis and its chips, as in a file.

    Parts of one axis are taken from neighbours outwards in the given order; the part `last` comes last.

    >>> mesh_of({"z": [("x", 2)], "x": [("x", 2), ("y", 4)]}).axes
    {'x': ('x/2*2', 'y'), 'y': (), 'z': ('x/2',)}
    """
    cut: dict[str, list[int]] = {}
    for factors in written.values():
        for axis, length in factors:
            cut.setdefault(axis, []).append(length)
    if last:
        cut.setdefault(last[0], []).append(last[1])
    labels = {axis: iter(part_names(axis, lengths)) for axis, lengths in cut.items()}
    made = {name: tuple(next(labels[axis]) for axis, _ in factors) for name, factors in written.items()}
    return Mesh(_with_all(made), {axis: tuple(lengths) for axis, lengths in cut.items() if len(lengths) > 1})


def _lengths(notes: Notes, axis: str, chips: int, factors: Sequence[_Factor]) -> list[int]:
    """Return the lengths of the parts of an axis, and note invalid ones."""
    found: list[int] = []
    for factor in factors:
        used = prod(found)
        length = chips if factor.length is None else factor.length
        shown = f"'{axis}'" if factor.length is None else f"'{axis}/{factor.length}'"
        if factor.length is not None and ((length < 2 and chips > 1) or length < 1 or chips % length):
            several = [n for n in range(2, chips + 1) if chips % n == 0][:8]
            would = f"write {' or '.join(f'{axis}/{n}' for n in several)}" if several else "leave it out"
            notes.wrong(factor.place, f"mesh: {shown} does not divide the {chips} chips of axis {axis}: {would}",
                        code="does-not-divide")
        elif found and (factor.length is None or (len(found) == 1 and used == chips)):
            notes.wrong(factor.place, TWICE.format(axis), code="duplicate")
        elif chips // used % length:
            notes.wrong(factor.place, f"mesh: {shown} is too much: of the {chips} chips of axis {axis} the parts before it leave "
                        f"{'none' if used == chips else f'{chips // used} in a row'}", code="does-not-divide")
        else:
            found.append(length)
    return found


def _written(factors: Sequence[_Factor]) -> str:
    return listed([factor.axis if factor.length is None else f"{factor.axis}/{factor.length}" for factor in factors])


def _with_all(mesh: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return a mesh with all logical axes of the paper's layouts. Axes that are not given have one chip."""
    return {axis: mesh.get(axis, ()) for axis in dict.fromkeys((*LOGICAL, *mesh))}


def cut_alike(notes: Notes, meshes: Sequence[tuple[Keys, Mapping[str, tuple[int, ...]]]]) -> Mapping[str, tuple[int, ...]] | None:
    """Return the cut of the axes. Note a mistake if the layouts of the phases differ, because there is one network."""
    before = len(notes.mistakes)
    parts = meshes[0][1] if meshes else {}
    for path, other in meshes[1:]:
        for axis in dict.fromkeys((*parts, *other)):
            if parts.get(axis) != other.get(axis):
                one, two = (" x ".join(map(str, cut[axis])) if axis in cut else "not at all" for cut in (parts, other))
                notes.wrong((*path, "mesh"), f"mesh: axis {axis} is cut {two} here, and {one} by the other phase: both must cut "
                            "the axes alike, from neighbours outwards", code="clash")
    return parts if len(notes.mistakes) == before else None
