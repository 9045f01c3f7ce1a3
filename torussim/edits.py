"""Edits of documents: a part as a document, and a document with a value replaced; every value keeps its place."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, NoReturn

from torussim import files
from torussim.errors import Keys, Mark, Mistake, ScenarioError
from torussim.files import MAX_DEPTH, Document


def part(document: Document, path: Keys) -> Document:
    """Return the value at `path` as a document of its own, with the places of the whole document."""
    value, size = document.value, len(path)
    for key in path:
        value = value[key]
    marks = {at[size:]: mark for at, mark in document.marks.items() if at[:size] == path}
    key_marks = {at[size:]: mark for at, mark in document.key_marks.items() if at[:size] == path and at != path}
    return Document(value, document.file, {(): document.where(path)} | marks, key_marks)


def replaced(document: Document, way: str, new: Document, mark: Mark, *, bases: Collection[str] = ()) -> Document:
    """Return `document` with the value at a dotted path, such as "topology.links.0.scale", replaced by that of `new`.

    Missing mappings along the path are created. Under a top-level key in `bases`, a text is short for {base: text}. `mark` is the
    place of the path itself, and of new keys. Raise ScenarioError for a path that cannot exist.
    """
    steps = way.strip().split(".")
    if len(steps) > 1 and steps[0] in bases:
        document = _written_out(document, steps[0])
    value, path, known = _assign(document.value, steps, new.value, mark)
    marks = {at: place for at, place in document.marks.items() if at[: len(path)] != path}
    key_marks = {at: place for at, place in document.key_marks.items() if at[: len(path)] != path}
    marks |= {path[:length]: new.where(()) for length in range(known + 1, len(path))}
    marks |= {path + at: place for at, place in new.marks.items()}
    key_marks |= {path[:length]: mark for length in range(min(known + 1, len(path)), len(path) + 1)}
    key_marks |= {path + at: place for at, place in new.key_marks.items()}
    return Document(value, document.file, marks, key_marks, (*document.mistakes, *new.mistakes))


def _written_out(document: Document, key: str) -> Document:
    """Return `document` with a text under a key made into {base: text}; the text keeps its place."""
    if not isinstance(document.value, Mapping) or not isinstance(document.value.get(key), str):
        return document
    value = {**document.value, key: {"base": document.value[key]}}
    places: Mapping[Keys, Mark] = {(key, "base"): document.where((key,))}
    return replace(document, value=value, marks={**document.marks, **places}, key_marks={**document.key_marks, **places})


def is_way(text: str) -> bool:
    """Return whether a text can be a dotted path to a value."""
    steps = text.strip().split(".")
    return all(steps) and len(steps) <= MAX_DEPTH


def override(document: Document, assignment: str, *, bases: Collection[str] = ()) -> Document:
    """Return `document` with one value replaced, as by "topology.bandwidth=22.5 GB/s" or "topology.links.0.scale=0.5".

    `bases` is as in `replaced`. The value is YAML; no text at all is null. Missing mappings along the path are created. New
    values have places in a file named after the assignment. Raise ScenarioError for a path that cannot exist, or for broken YAML.
    """
    short = assignment if len(assignment) <= 60 and assignment.isprintable() else repr(assignment[:40])[1:-1] + "..."
    name = f"--set {short}"
    way, equals, text = assignment.partition("=")
    if not equals or not is_way(way):
        _fail(f"{short!r} is not of the form path=value, such as topology.latency=2us", Mark(name, 1, 1), "syntax")
    column = len(assignment) - len(text.lstrip(" "))
    new = files.fragment(" " * column + text.lstrip(" "), name)  # the columns are those of the assignment
    if new is None:
        new = Document(None, name, {(): Mark(name, 1, column + 1)}, {})
    return replaced(document, way, new, Mark(name, 1, 1), bases=bases)


def _assign(old: Any, steps: list[str], new: Any, mark: Mark) -> tuple[Any, Keys, int]:
    """Return a copy of `old` with `new` at the end of `steps`, its path, and the length of the path's part in `old`."""
    root = [old]
    holder: Any = root
    path: list[Any] = [0]  # of root
    known = 0
    for step in steps:
        key: int | str = step
        part, here = holder[path[-1]], ".".join(map(str, path[1:])) or "the document"
        if isinstance(part, list | tuple):
            indices = [str(index) for index in range(len(part))]
            if step not in indices:
                which = f"0 to {indices[-1]}" if part else "none, since it is empty"
                _fail(f"{step!r} is not an index of the list {here!r}: its indices are {which}", mark, "unknown-key",
                      tuple(path[1:]))
            part, key = list(part), int(step)
        elif part is None or isinstance(part, Mapping):
            part = dict(part or {})
        else:
            _fail(f"cannot set {step!r} in {here!r}, which is {part!r}: not a mapping or a list", mark, "value", tuple(path[1:]))
        if isinstance(part, list) or key in part:
            known += 1
        else:
            part[key] = None
        holder[path[-1]] = part
        holder = part
        path.append(key)
    holder[path[-1]] = new
    return root[0], tuple(path[1:]), known


def _fail(text: str, mark: Mark, code: str, path: Keys = ()) -> NoReturn:
    raise ScenarioError([Mistake(text, mark, code, path)])
