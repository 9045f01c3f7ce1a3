"""Fields with sources: `hbm_bytes: {value: 32 GiB, source: "..."}`, or without one: `hbm_bytes: 32 GiB`.

The module has the common part of chips and models, and knows none of their fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torussim.described import Form, Key, of_form
from torussim.errors import Found, TorusSimError
from torussim.resolve import unknown

Keys = tuple[str, ...]  # keys from the outermost mapping inwards


@dataclass(frozen=True)
class Fields:
    """The fields that were read, by path. `sources` lacks fields without a source; `mistakes` has the unreadable fields."""

    values: dict[Keys, Any]
    sources: dict[Keys, str]
    mistakes: list[Found]


def read(given: Mapping[Keys, Any], known: Mapping[Keys, Key], what: str) -> Fields:
    """Return the given fields, each read by its reader, which raises TorusSimError for an invalid value."""
    fields = Fields({}, {}, [])
    names = [".".join(path) for path in known]
    for path, field in given.items():
        name = ".".join(path)
        if path not in known:
            fields.mistakes.append(Found(path, unknown(name, names, f"field of {what}"), True, "unknown-key"))
            continue
        value, source, place = field, None, path
        if isinstance(field, Mapping) and "value" in field:
            value, source, place = field["value"], field.get("source"), (*path, "value")
            for key in sorted(map(str, field.keys() - {"value", "source"})):
                text = f"{name}: {quote(key)} cannot stand beside value and source"
                fields.mistakes.append(Found((*path, key), text, True, "unknown-key"))
        if isinstance(source, str):
            fields.sources[path] = source
        elif source is not None:
            fields.mistakes.append(Found((*path, "source"), f"{name}: the source {quote(source)} is not a text"))
        try:
            fields.values[path] = known[path].read(value)
        except TorusSimError as error:
            fields.mistakes.append(Found((*place, *error.path), f"{name}: {error}", code=error.code))
    return fields


def schema(form: Form) -> dict[str, Any]:
    """Return the schema of a mapping of fields, each a value or {value, source}."""
    found = of_form(form)
    for name, whole in found["properties"].items():
        shown = {key: whole.pop(key) for key in ("description", "examples", "default") if key in whole}
        both = {"type": "object", "properties": {"value": whole, "source": {"type": "string"}}, "required": ["value"],
                "additionalProperties": False}
        found["properties"][name] = {"anyOf": [whole, both], **shown}
    return found


def quote(value: Any) -> str:
    """Return a given value in single quotes, on one line, shortened if it is long."""
    text = value if isinstance(value, str) else repr(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def show(value: Any, source: str | None) -> Any:
    """Return the form of a field that `read` reads as this value and source."""
    return value if source is None else {"value": value, "source": source}
