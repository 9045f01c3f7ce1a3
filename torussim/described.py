"""The reader of a value of a file, with its description for people and editors: in words, by an example, as JSON Schema.

The description of a key is written once: messages, the reference pages and the schema for editors are made from it. The module
knows no key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torussim import units

Schema = Mapping[str, Any]  # a JSON Schema, 2020-12, as plain data

FUNCTION: Final[Schema] = {"type": "string", "pattern": r"^[^:]+:[A-Za-z_]\w*$"}  # the name of a user-defined function
TEXT: Final[Schema] = {"type": "string", "pattern": r"\S"}


@dataclass(frozen=True, eq=False)
class Reader:
    """A function that returns the meaning of a value, or raises; with the accepted values in words and as JSON Schema.

    `unit` is that of a plain number, such as "bytes/s"; "" if there is none.
    """

    read: Callable[[Any], Any]
    words: str
    schema: Schema
    unit: str = ""

    def __call__(self, value: Any) -> Any:
        """Return the meaning of a value, or raise."""
        return self.read(value)


def reads(words: str, schema: Schema, unit: str = "") -> Callable[[Callable[[Any], Any]], Reader]:
    """Return a decorator that makes a function of a value into a reader."""
    return lambda function: Reader(function, words, schema, unit)


@dataclass(frozen=True)
class Key:
    """A key of a mapping: the reader of its value, its default, its meaning, an example, and its other names.

    `otherwise` describes a default that depends on other keys in words; `default` is None then.
    """

    read: Reader
    default: Any = None
    needed: bool = False
    about: str = ""  # one sentence
    example: Any = None  # as YAML gives it
    otherwise: str = ""
    also: tuple[str, ...] = ()  # other names of the key


Form = Mapping[str, Key]


def of_quantity(unit: str, *, zero: bool = False) -> dict[str, Any]:
    """Return the schema of quantities: a number of base units, or a text that can have a unit."""
    least = {"minimum": 0} if zero else {"exclusiveMinimum": 0}
    return {"type": ["number", "string"], **least, "pattern": units.pattern(unit)}


def of_form(form: Form, *, others: bool = False) -> dict[str, Any]:
    """Return the schema of a mapping with the keys of a form; `others`: further keys are allowed."""
    needed = [name for name, key in form.items() if key.needed]
    every = {other: key for name, key in form.items() for other in (name, *key.also)}
    return {"type": "object", "properties": {name: of_key(key) for name, key in every.items()},
            **({"required": needed} if needed else {}), **({} if others else {"additionalProperties": False})}


def of_key(key: Key) -> dict[str, Any]:
    """Return the schema of the value of a key, with the texts that an editor shows."""
    unit = f" Without a unit: {key.read.unit}." if key.read.unit else ""
    default = f" Default: {key.otherwise}." if key.otherwise else ""
    shown = {"description": f"{key.about}{unit}{default}"} | ({} if key.example is None else {"examples": [plain(key.example)]})
    return {**key.read.schema, **shown} | ({} if key.default is None else {"default": plain(key.default)})


def plain(value: Any) -> Any:
    """Return a value with lists for tuples, as JSON has it."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value
