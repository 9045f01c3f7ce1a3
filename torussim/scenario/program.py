"""A program given by the file, in place of model, layout and workload: operations on physical axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from torussim import resolve
from torussim.chips import Chip
from torussim.collectives.lower import ALGORITHMS, lower
from torussim.errors import Keys, TorusSimError
from torussim.program import Collective, Compute, Kind, On, Operation, Program, mistakes
from torussim.resolve import UserFunction
from torussim.scenario import forms, keyed
from torussim.scenario.chakra_program import read_trace
from torussim.scenario.groups import Groups, describe_groups, read_groups, read_matrix
from torussim.scenario.keyed import Section
from torussim.scenario.notes import Notes
from torussim.scenario.values import quote
from torussim.topology.grid import Grid

EXAMPLE = "[{name: gather, collective: all_gather, axes: yz, bytes: 64 MB}]"
OF_COMPUTE, OF_COLLECTIVE = (frozenset(one) - frozenset(other) for one, other in
                             ((forms.COMPUTE, forms.COLLECTIVE), (forms.COLLECTIVE, forms.COMPUTE)))


def read_program(notes: Notes, given: Any, axes: Mapping[str, int] | None, net: Grid | None, chip: Chip | None) -> Program | None:
    """Return the program, if all of it is valid. The chip converts the times of a trace into work."""
    path: Keys = ("program",)
    if isinstance(given, Mapping) and "chakra" in {*given, *keyed.meant(given, forms.CHAKRA)}:
        given = read_trace(notes, given, axes, chip)
        if given is None:
            return None
    if not isinstance(given, list) or not given:
        notes.wrong(path, f"program: {quote(given)} is not a list of operations: write one such as {EXAMPLE}")
        return None
    before = len(notes.mistakes)
    read = [_read_operation(notes, item, (*path, i), axes, net) for i, item in enumerate(given)]
    if any(operation is None for operation in read):
        return None
    operations = tuple(operation for operation in read if operation is not None)
    names: dict[str, int | None] = dict(axes) if axes is not None else dict.fromkeys(
        [a for o in operations for a in (*(o.axes if isinstance(o, Collective) else ()), *dict(o.on))])
    notes.add(mistakes(operations, names), path)
    return Program(operations) if len(notes.mistakes) == before else None


def _read_operation(notes: Notes, item: Any, path: Keys, axes: Mapping[str, int] | None, net: Grid | None) -> Operation | None:
    """Return an operation. An invalid operation with a name becomes a placeholder, so that other operations can depend on it."""
    given = set(item) if isinstance(item, Mapping) else set()
    meant = given | keyed.meant(given, [*forms.COMPUTE, *forms.COLLECTIVE])
    collective = "collective" in meant or (bool(meant & OF_COLLECTIVE) and not meant & OF_COMPUTE)
    form, what = (forms.COLLECTIVE, "a collective") if collective else (forms.COMPUTE, "a computation")
    if collective and "matrix" not in meant:
        form = {**form, "bytes": replace(form["bytes"], needed=True)}
    before = len(notes.mistakes)
    section = notes.section(form, item, path, what)
    if not section.sound("name"):
        return None
    after = None if section["after"] is None else tuple(section["after"])
    made: Operation = Compute(section["name"], after=after)
    if not collective:
        return Compute(section["name"], (), section["flops"], section["hbm_bytes"], section["dtype"], after, on=_on(section))
    if section.sound("collective"):
        made = _collective(notes, section, item, path, axes, after)
        if len(notes.mistakes) == before and net is not None and set(made.axes) <= set(net.axes):
            reason = unfit(made, net) if len(set(made.axes)) == len(made.axes) else None
            if reason:
                notes.wrong((*path, "algorithm"), f"algorithm: {reason}", code="function")
    return made


def _collective(notes: Notes, section: Section, item: Mapping[str, Any], path: Keys, axes: Mapping[str, int] | None,
                after: tuple[str, ...] | None) -> Collective:
    kind, name, shift = section["collective"], section["name"], section["shift"]
    groups: Groups = ()
    root: tuple[int, ...] = ()
    over = tuple(section["axes"])
    if kind == "permute":
        if not shift and section.sound("shift"):
            notes.wrong((*path, "shift"), f"the permute {quote(name)} lacks 'shift': say how far, such as {{x: 1}}",
                        code="missing")
        for key in ("chips", "groups", "from", "to", "root"):
            if key in section.given:
                notes.wrong((*path, key), f"{key}: a permute has none, only shift: leave it out", at_key=True, code="clash")
        if over and section.sound("axes", "shift") and set(over) != set(shift):
            notes.wrong((*path, "axes"), f"axes: {quote(''.join(over))} are not those of shift: leave axes out", at_key=True,
                        code="clash")
        over = tuple(sorted(shift, key=list(axes or shift).index if axes is None or set(shift) <= set(axes) else str))
    else:
        if "shift" in section.given:
            notes.wrong((*path, "shift"), f"shift: only a permute has one, not {kind}: leave it out", at_key=True, code="clash")
        groups, root = read_groups(notes, section, path, axes)
        if not over and section.sound("axes") and not section.given & {"chips", "groups", "from", "to"} and kind != "send":
            notes.wrong((*path, "axes"), f"the collective {quote(name)} lacks 'axes': say over which, such as yz, or give chips",
                        code="missing")
    algorithm = section["algorithm"]
    if algorithm:
        algorithm = read_algorithm(notes, kind, algorithm, (*path, "algorithm"))
    used = [a for a in over if axes is None or axes.get(a, 2) > 1]
    if isinstance(section["split"], tuple) and len(section["split"]) != len(used) and section.sound("axes"):
        notes.wrong((*path, "split"),
                    f"split: {quote(item['split'])} has {len(item['split'])} weights for {len(used)} axes: give one for each "
                    "axis", code="clash")
    matrix = read_matrix(notes, section, path, axes, groups)
    size = section["bytes"] or 0.0 if matrix is None else matrix.most
    return Collective(name, cast(Kind, kind), over, size, algorithm, section["split"], section["direction"], dict(shift), after,
                      section["detour"], root=root, groups=groups, on=_on(section), matrix=matrix)


def _on(section: Section) -> On:
    """Return the positions at which an operation runs."""
    return tuple((axis, tuple(sorted(set(places)))) for axis, places in section["on"].items())


def read_algorithm(notes: Notes, kind: str, name: str, path: Keys) -> str | UserFunction:
    """Return an algorithm by its name, or the user-defined function of this name. Note a mistake at `path` if there is none."""
    prefix = f"{path[-1]}: "
    if ":" not in name:
        if name not in ALGORITHMS[kind]:
            notes.wrong(path, prefix + resolve.unknown(name, ALGORITHMS[kind], f"algorithm of {kind}"), code="unknown-name")
        return name
    try:
        return notes.function(name) or ""  # if its file was not opened, the default replaces it, and nothing is run
    except TorusSimError as error:
        notes.raised(path, error, prefix)
        return name


def unfit(collective: Collective, net: Grid) -> str | None:
    """Return the mistake in the schedule of a user-defined algorithm for a collective; None for a built-in algorithm."""
    if not callable(collective.algorithm):
        return None
    try:
        lower(collective, net)
    except TorusSimError as error:
        return f"{resolve.shown(collective.algorithm)}: {error}"
    return None


def describe_program(program: Program, axes: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return the record of a program on a network with these axes, as JSON data."""
    return [describe_operation(operation, axes) for operation in program.block]


def describe_operation(operation: Operation, axes: Mapping[str, int]) -> dict[str, Any]:
    """Return an operation on a network with these axes as a scenario writes it."""
    after: dict[str, Any] = {"on": {axis: list(places) for axis, places in operation.on}} if operation.on else {}
    after |= {} if operation.after is None else {"after": list(operation.after)}
    if isinstance(operation, Compute):
        return {"name": operation.name, "flops": operation.flops, "hbm_bytes": operation.hbm_bytes,
                "dtype": operation.dtype} | after
    where = {"shift": dict(operation.shift)} if operation.shift else (
        {"axes": list(operation.axes)} if operation.axes else {})
    if operation.groups or operation.root:
        where |= describe_groups(operation, axes)
    algorithm = {"algorithm": str(operation.algorithm)} if operation.algorithm else {}
    detour = {} if operation.detour is None else {"detour": operation.detour}
    split = list(operation.split) if isinstance(operation.split, tuple) else operation.split
    size = {"matrix": operation.matrix.array.tolist()} if operation.matrix else {"bytes": operation.bytes}
    return {"name": operation.name, "collective": operation.kind, **size, **algorithm, "split": split,
            "direction": operation.direction} | where | detour | after
