"""A program from Chakra execution traces: `program: {chakra: trace.%d.et}`, files beside the scenario."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from torussim import files
from torussim.chakra.program import Trace, operations
from torussim.chakra.schema import check_library, read
from torussim.chips import Chip
from torussim.errors import FileError, Keys, ScenarioError
from torussim.scenario import forms
from torussim.scenario.notes import Notes
from torussim.units import show

PATH: Keys = ("program",)


def read_trace(notes: Notes, given: Mapping[str, Any], axes: Mapping[str, int] | None, chip: Chip | None) -> list[Any] | None:
    """Return the operations of the traces as a scenario writes them, and note the unknown parts; None if a trace is wrong."""
    section = notes.section(forms.CHAKRA, given, PATH, "a program of a trace")
    if not section.sound() or axes is None or chip is None:
        return None
    key = "chakra"
    try:
        check_library()
        traces = _traces(notes, section["chakra"], prod(axes.values()))
        key = "groups"
        groups = _groups(notes, section["groups"], prod(axes.values())) if section["groups"] is not None else {}
        key = "chakra"
        found, said = operations(traces, axes, chip, compute=section["compute"], groups=groups, name=section["chakra"])
    except FileError as error:
        notes.raised((*PATH, key), error, f"{key}: ")
        return None
    notes.said += said
    return found


def _traces(notes: Notes, name: str, chips: int) -> list[Trace]:
    """Return the contents of the file, or of the file of each chip if the name has %d."""
    names = [name.replace("%d", str(chip)) for chip in range(chips)] if "%d" in name else [name]
    found, size, most = list[Trace](), 0, max(files.LIMITS["trace"], notes.trust.most)
    for one in names:
        try:
            data = files.contents(notes.beside / one, "trace", notes.trust.most)
            size += len(data)
            if size > most:
                raise FileError(f"the traces have more than {show(most, 'B')} in all: allow more with --max-file-size",
                                code="limit")
            found.append(Trace(one, read(data)[1]))
        except FileError as error:
            hint = f": the network has {chips:,} chips, and each needs its file" if "%d" in name else ""
            raise error.within((), f"{one}: ") if error.code != "unreadable" else FileError(f"{one}: {error}{hint}") from None
    return found


def _groups(notes: Notes, name: str, chips: int) -> dict[str, list[int]]:
    """Return the chips of each process group of a file such as {"0": [0, 1, 2, 3]}. Raise FileError for another form."""
    try:
        value = files.read(notes.beside / name, "table", notes.trust.most).value
    except ScenarioError as error:
        raise FileError(str(error), code="syntax") from None
    sound = isinstance(value, dict) and all(isinstance(group, list) and len(group) > 1 and len(set(map(str, group))) == len(group)
                                            for group in value.values())
    if not sound or any(type(c) is not int or not 0 <= c < chips for group in value.values() for c in group):
        raise FileError(f"{name}: give the chips of each process group by its name, such as {{\"0\": [0, 1]}}, with numbers "
                        f"from 0 to {chips - 1}", code="value")
    return {str(key): group for key, group in value.items()}
