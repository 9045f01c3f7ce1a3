"""How a value of a file is read, and what people and editors are told of it: in words, by an example, as JSON Schema.

What is said of a key is said here once: messages, the reference pages and the schema for editors are made from it. Knows no key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torussim import units

Schema = Mapping[str, Any]  # a JSON Schema, 2020-12, as plain data

FUNCTION: Final[Schema] = {"type": "string", "pattern": r"^[^:]+:[A-Za-z_]\w*$"}  # the name of a user's function
TEXT: Final[Schema] = {"type": "string", "pattern": r"\S"}


@dataclass(frozen=True, eq=False)
class Reader:
    """A function that returns what a value means, or raises; what it takes, in words and as JSON Schema.

    `unit`: of a plain number, such as "bytes/s"; "" where there is none.
    """

    read: Callable[[Any], Any]
    words: str
    schema: Schema
    unit: str = ""

    def __call__(self, value: Any) -> Any:
        """Return what a value means, or raise."""
        return self.read(value)


def reads(words: str, schema: Schema, unit: str = "") -> Callable[[Callable[[Any], Any]], Reader]:
    """Return a decorator that makes a function of a value into a reader."""
    return lambda function: Reader(function, words, schema, unit)


@dataclass(frozen=True)
class Key:
    """A key of a mapping: how its value is read, what stands for it when it is not given, what it is, and an example.

    `otherwise`: in words, what stands for it where that depends on other keys, so that `default` is None.
    """

    read: Reader
    default: Any = None
    needed: bool = False
    about: str = ""  # one sentence
    example: Any = None  # as YAML gives it
    otherwise: str = ""


Form = Mapping[str, Key]


def of_quantity(unit: str, *, zero: bool = False) -> dict[str, Any]:
    """Return the schema of quantities: a number of base units, or a text that can have a unit."""
    least = {"minimum": 0} if zero else {"exclusiveMinimum": 0}
    return {"type": ["number", "string"], **least, "pattern": units.pattern(unit)}


def of_form(form: Form, *, others: bool = False) -> dict[str, Any]:
    """Return the schema of a mapping with the keys of a form; `others`: it can have further keys."""
    needed = [name for name, key in form.items() if key.needed]
    return {"type": "object", "properties": {name: of_key(key) for name, key in form.items()},
            **({"required": needed} if needed else {}), **({} if others else {"additionalProperties": False})}


def of_key(key: Key) -> dict[str, Any]:
    """Return the schema of the value of a key, with what an editor shows of it."""
    unit = f" Without a unit: {key.read.unit}." if key.read.unit else ""
    default = f" Default: {key.otherwise}." if key.otherwise else ""
    shown = {"description": f"{key.about}{unit}{default}"} | ({} if key.example is None else {"examples": [plain(key.example)]})
    return {**key.read.schema, **shown} | ({} if key.default is None else {"default": plain(key.default)})


def plain(value: Any) -> Any:
    """Return a value with lists for tuples, as JSON has it."""
    if isinstance(value, Mapping):
        return {str(name): plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value
