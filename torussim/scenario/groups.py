"""The chips of an operation of a program: chips that share coordinates, one list of chips or several; the root; a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from torussim.collectives.lower import AUTO, DIRECT, UNEQUAL
from torussim.errors import Keys
from torussim.program import WITH_ROOT, Collective, Matrix
from torussim.scenario.keyed import Section
from torussim.scenario.notes import Notes
from torussim.scenario.values import quote
from torussim.topology.shape import is_chip_of

Groups = tuple[tuple[int, ...], ...]


def read_groups(notes: Notes, section: Section, path: Keys, axes: Mapping[str, int] | None) -> tuple[Groups, tuple[int, ...]]:
    """Return the groups of a collective that is given no axes, as numbers of physical chips, and its root, or ()."""
    kind = section["collective"]
    ways: list[str] = [key for key in ("axes", "chips", "groups", "from", "to") if key in section.given]
    wanted = {"from", "to"} if kind == "send" else {"axes", "chips", "groups"}
    for key in ways:
        if key not in wanted:
            instead = "give from and to" if kind == "send" else "give axes, chips or groups"
            notes.wrong((*path, key), f"{key}: a {kind} has none: {instead}", at_key=True, code="clash")
    if kind != "send" and len(ways) > 1:
        notes.wrong((*path, ways[1]), f"{ways[1]} and {ways[0]} are both given: leave one out", at_key=True, code="clash")
    if "root" in section.given and (kind not in WITH_ROOT or kind == "send" or "groups" in section.given):
        text = f"root: only a broadcast, reduce, gather or scatter has one, not {kind}: leave it out"
        if kind in WITH_ROOT and kind != "send":
            text = "root: of several groups the first chip of each is the root: leave root out"
        notes.wrong((*path, "root"), text, at_key=True, code="clash")
    lists = {"send": ("from", "to")}.get(kind, ("chips", "groups"))
    missing = [key for key in lists if kind == "send" and key not in section.given]
    for key in missing:
        notes.wrong(path, f"the send {quote(section['name'])} lacks {key!r}: say which chip, such as [0, 0]", code="missing")
    if missing or not section.sound(*lists, "root") or axes is None:
        return (), ()
    if kind == "send":
        return _send(notes, section, path, axes), ()
    given = [section["chips"]] if section["chips"] is not None else section["groups"]
    if given is None:
        return (), _root_on_axes(notes, section, path, axes)
    where: list[Keys] = [(*path, "groups", i) for i in range(len(given))] if section["chips"] is None else [(*path, "chips")]
    before = len(notes.mistakes)
    seen: dict[int, Any] = {}
    groups = []
    for group, at in zip(given, where):
        numbers = [_number(notes, chip, (*at, i), axes) for i, chip in enumerate(group)]
        for i, number in enumerate(numbers):
            if number is not None and number in seen:
                notes.wrong((*at, i), f"chip {quote(group[i])} is given twice in {at[len(path)]}: "
                            "leave one out", code="duplicate")
            elif number is not None:
                seen[number] = group[i]
        groups.append(tuple(number for number in numbers if number is not None))
    algorithm = section["algorithm"]
    if algorithm and algorithm != "auto" and algorithm not in DIRECT:
        notes.wrong((*path, "algorithm"), f"algorithm: {quote(algorithm)} goes along axes, and {at[len(path)]} has none: take "
                    "one that sends straight from chip to chip, such as direct, or auto", code="clash")
    if len(notes.mistakes) > before:
        return (), ()
    if section["root"] is None:
        return tuple(groups), ()
    root = _number(notes, section["root"], (*path, "root"), axes)
    if root is not None and root not in groups[0]:
        notes.wrong((*path, "root"), f"root: chip {quote(section['root'])} is not one of chips: take one of them",
                    code="unknown-name")
    return tuple(groups), (groups[0].index(root),) if root in groups[0] else ()


def read_matrix(notes: Notes, section: Section, path: Keys, axes: Mapping[str, int] | None, groups: Groups) -> Matrix | None:
    """Return the matrix of an all-to-all, None if it has none or the matrix is wrong."""
    if "matrix" not in section.given:
        return None
    kind, rows, algorithm = section["collective"], section["matrix"], section["algorithm"]
    if kind != "all_to_all":
        notes.wrong((*path, "matrix"), f"matrix: only an all_to_all has one, not {kind}: leave it out, and give bytes",
                    at_key=True, code="clash")
        return None
    if "bytes" in section.given:
        notes.wrong((*path, "bytes"), "bytes: the matrix has them: leave bytes or matrix out", at_key=True, code="clash")
    if algorithm and algorithm not in (*UNEQUAL, AUTO):
        notes.wrong((*path, "algorithm"), f"algorithm: {quote(algorithm)} sends equal bytes to all chips: with a matrix take "
                    f"{', '.join(UNEQUAL)} or {AUTO}", code="clash")
    if not section.sound("matrix"):
        return None
    uneven = next((i for i, row in enumerate(rows) if len(row) != len(rows)), None)
    if uneven is not None:
        notes.wrong((*path, "matrix", uneven), f"matrix: row {uneven} has {len(rows[uneven])} entries, and there are {len(rows)} "
                    "rows: give one entry for each chip, 0 where nothing is sent", code="clash")
        return None
    sizes = {len(group) for group in groups}
    if not groups and axes is not None and section["axes"] and set(section["axes"]) <= set(axes):
        sizes = {prod(axes[a] for a in section["axes"])}
    if sizes and sizes != {len(rows)}:
        notes.wrong((*path, "matrix"), f"matrix: it has {len(rows)} rows, and a group has {max(sizes - {len(rows)})} chips: "
                    "give a row and a column for each", code="clash")
        return None
    return Matrix.of(rows)


def _send(notes: Notes, section: Section, path: Keys, axes: Mapping[str, int]) -> Groups:
    """Return the group of a send."""
    ends = [_number(notes, section[key], (*path, key), axes) for key in ("from", "to")]
    if None not in ends and ends[0] == ends[1]:
        notes.wrong((*path, "to"), f"to: {quote(section['name'])} sends from chip {quote(section['to'])} to itself: give another "
                    "chip", code="clash")
        return ()
    return (tuple(end for end in ends if end is not None),) if None not in ends else ()


def _root_on_axes(notes: Notes, section: Section, path: Keys, axes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the root's coordinates on the axes of a collective; they are given on these axes or on all axes."""
    root, names = section["root"], section["axes"]
    if root is None or not set(names) <= set(axes):
        return ()
    if len(root) == len(axes):
        return tuple(root[list(axes).index(a)] for a in names) if _number(notes, root, (*path, "root"), axes) is not None else ()
    lengths = {a: axes[a] for a in names}
    return tuple(root) if _number(notes, root, (*path, "root"), lengths) is not None else ()


def _number(notes: Notes, chip: list[int], path: Keys, axes: Mapping[str, int]) -> int | None:
    """Return the number of a chip, in C order; note a mistake if there is no such chip."""
    if is_chip_of(chip, tuple(axes.values())):
        return int(np.ravel_multi_index(tuple(chip), tuple(axes.values())))
    ranges = ", ".join(f"{name} from 0 to {length - 1}" for name, length in axes.items())
    notes.wrong(path, f"{next(key for key in reversed(path) if isinstance(key, str))}: there is no chip {quote(chip)}: give one "
                f"coordinate an axis, {ranges}", code="unknown-name")
    return None


def describe_groups(o: Collective, axes: Mapping[str, int]) -> dict[str, Any]:
    """Return the keys of a scenario that give the chips of a collective without axes, and its root."""
    def chip(number: int) -> list[int]:
        return [int(i) for i in np.unravel_index(number, tuple(axes.values()))]
    if not o.groups:
        at = dict(zip(o.axes, o.root))
        return {"root": [at[a] for a in axes] if set(at) == set(axes) else list(o.root)}
    if o.kind == "send":
        return {"from": chip(o.groups[0][0]), "to": chip(o.groups[0][1])}
    if len(o.groups) > 1:
        return {"groups": [[chip(c) for c in group] for group in o.groups]}
    return {"chips": [chip(c) for c in o.groups[0]]} | ({"root": chip(o.groups[0][o.root[0]])} if o.root else {})
