"""The readers of the values of a scenario file, and the quotes of given values in messages.

A reader returns the meaning of a value, or raises Misread with all its mistakes, each with its path inside the value. A reader
describes in words and as JSON Schema the values that it accepts (`described`). The module knows no keys and no sections.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any, NoReturn

from torussim import units
from torussim.chips import DTYPE_BYTES, GROUPED
from torussim.collectives.lower import ALGORITHMS
from torussim.described import FUNCTION, TEXT, Reader, Schema, of_quantity, reads
from torussim.errors import Found, TorusSimError
from torussim.program import ALIKE, LOOPS
from torussim.resolve import unknown
from torussim.spelling import nearest
from torussim.topology.named import NETWORKS

EMPTY = "no value is given: write one, or leave the key out"  # of a key without a value
SMALLEST, LARGEST = 1e-30, 1e30  # of any quantity: results computed from them stay far from the limits of floats
ROUNDING = 1e-3  # by which shares as they are written may miss the sum of 1
_NUMBER = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"  # as in YAML 1.2


class Misread(Exception):
    """The mistakes of one value."""

    def __init__(self, *found: Found) -> None:
        super().__init__(*found)
        self.found = found

    def __str__(self) -> str:
        return "; ".join(f.text for f in self.found)


def listed(names: Sequence[str]) -> str:
    """Return names in quotes: 'a', 'b' and 'c'."""
    quoted = [f"'{name}'" for name in names]
    return " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))


def quote(value: Any) -> str:
    """Return a given value as YAML writes it, in single quotes, on one line, shortened if it is long."""
    text = flow(value)
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def flow(value: Any) -> str:
    """Return plain data as YAML writes it on one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, float) and not isfinite(value):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}[str(value)]
    return str(value)


def refuse(text: str, code: str = "value") -> NoReturn:
    """Raise Misread for the whole value."""
    raise Misread(Found((), text, code=code))


def quantity(unit: str, *, zero: bool = False) -> Reader:
    """Return a reader of quantities, with or without a unit, above 0; 0 is allowed with `zero`."""
    def reader(value: Any) -> float:
        if isinstance(value, bool | list | Mapping):
            value = quote(value)[1:-1]
        try:
            number = units.read(value, unit) if zero else units.positive(value, unit)
        except TorusSimError as error:
            refuse(str(error), error.code)
        if not (SMALLEST <= number <= LARGEST or number == 0):
            refuse(f"{quote(value)} is out of range: must be from {SMALLEST:g} to {LARGEST:g} {unit}", "quantity")
        return number
    words, base = units.called(unit)
    return Reader(reader, words + (", 0 or more" if zero else " above 0"), of_quantity(unit, zero=zero), base)


def whole(low: int, high: int | None = None) -> Reader:
    """Return a reader of integers in a range; 512.0 is an integer."""
    wanted = f"a whole number from {low:,} to {high:,}" if high is not None else f"a whole number, {low} or more"

    def reader(value: Any) -> int:
        _not_quoted(value)
        if isinstance(value, bool) or (not isinstance(value, int) and not (isinstance(value, float) and value.is_integer())):
            refuse(f"{quote(value)} is not {wanted}")
        if value < low or (high is not None and value > high):
            refuse(f"{quote(value)} is not {wanted}")
        return int(value)
    return Reader(reader, wanted, {"type": "integer", "minimum": low} | ({} if high is None else {"maximum": high}))


def number(*, zero: bool = False, most: float = LARGEST) -> Reader:
    """Return a reader of numbers above 0, or of 0 too, up to `most`; "10 %" is 0.1."""
    wanted = ("a number, 0 or more" if zero else "a number above 0") + (f", at most {most:g}" if most < LARGEST else "")

    def reader(value: Any) -> float:
        percent = re.fullmatch(rf"\s*({_NUMBER})\s*%\s*", value) if isinstance(value, str) else None
        got = float(percent[1]) / 100 if percent else value
        _not_quoted(got)
        if isinstance(got, bool) or not isinstance(got, int | float) or not 0 <= got <= most or (got == 0 and not zero):
            refuse(f"{quote(value)} is not {wanted}")
        if 0 < got < SMALLEST:
            refuse(f"{quote(value)} is out of range: must be {SMALLEST:g} or more")
        return float(got)
    return Reader(reader, wanted, {"type": ["number", "string"], "minimum" if zero else "exclusiveMinimum": 0, "maximum": most,
                                   "pattern": rf"^\s*({_NUMBER})\s*%\s*$"})


def _not_quoted(value: Any) -> None:
    """Raise Misread for a text that is a number in quotes."""
    if isinstance(value, str) and re.fullmatch(_NUMBER, value):
        refuse(f"{quote(value)} is a text, not a number: leave the quotes out")


@reads("a text of one line", TEXT)
def text(value: Any) -> str:
    """Return the text; it must be printable on one line."""
    if not isinstance(value, str):
        refuse(f"{quote(value)} is not a text: put it in quotes")
    if not value.strip() or not value.isprintable():
        refuse(f"{quote(value)} is not one line of printable text: write letters")
    return value


@reads("true or false", {"type": "boolean"})
def flag(value: Any) -> bool:
    """Return the flag: true or false."""
    if not isinstance(value, bool):
        refuse(f"{quote(value)} is not true or false")
    return value


def one_of(what: str, *names: str) -> Reader:
    """Return a reader of one name from a list; `what` says what the names mean."""
    def reader(value: Any) -> str:
        if not isinstance(value, str):
            refuse(f"{quote(value)} is not {'an' if what[:1] in 'aeiou' else 'a'} {what}: one of {', '.join(names)}")
        if value not in names:
            refuse(unknown(value, names, what), "unknown-name")
        return value
    return Reader(reader, f"{'an' if what[:1] in 'aeiou' else 'a'} {what}: {', '.join(names)}", {"enum": list(names)})


@reads(f"a dtype: {', '.join(DTYPE_BYTES)}, or one with groups, such as int4/128",
       {"anyOf": [{"enum": list(DTYPE_BYTES)}, {"type": "string", "pattern": GROUPED}]})
def stored(value: Any) -> str:
    """Return the dtype of a tensor in memory; int4/128: in groups of 128 that share a scale, int4/128z: and a zero point."""
    if not isinstance(value, str) or value not in DTYPE_BYTES:
        hint = nearest(value, DTYPE_BYTES) if isinstance(value, str) else None
        instead = f"did you mean {hint!r}?" if hint else f"one of {', '.join(DTYPE_BYTES)}, or int4/128 in groups"
        refuse(f"{quote(value)} is not a dtype: {instead}", "unknown-name" if isinstance(value, str) else "value")
    return value


def each(reader: Reader, example: str, *, least: int = 0, most: int | None = None) -> Reader:
    """Return a reader of lists whose elements `reader` reads; `example` is a valid list."""
    def read_all(value: Any) -> list[Any]:
        if not isinstance(value, list):
            refuse(f"{quote(value)} is not a list: write one such as {example}")
        if len(value) < least:
            refuse(f"the list is empty: write one such as {example}")
        if most is not None and len(value) > most:
            refuse(f"the list has {len(value)} elements: at most {most} can be")
        return list(_parts(enumerate(value), reader))
    size = ({"minItems": least} if least else {}) | ({} if most is None else {"maxItems": most})
    schema = {"type": "array", "items": reader.schema, **size}
    return Reader(read_all, f"a list, each element {reader.words}", schema, reader.unit)


_ROW = each(number(zero=True), "[0.5, 0.25, 0.25]", least=1)
_SHARES: Schema = {"anyOf": [_ROW.schema, {"type": "array", "items": _ROW.schema, "minItems": 1}]}


def rows_of_shares(value: Any) -> tuple[tuple[float, ...], ...]:
    """Return a list of shares, or a list of such lists, as rows, each scaled so that its sum is exactly 1."""
    if not isinstance(value, list) or not value:
        refuse(f"{quote(value)} is not a list of shares, such as [0.5, 0.25, 0.25]")
    several = isinstance(value[0], list)
    found, mistakes = list[tuple[float, ...]](), list[Found]()
    for i, row in enumerate(value if several else [value]):
        try:
            shares = _ROW(row)
            if abs(sum(shares) - 1) > ROUNDING:
                refuse(f"the shares of a layer sum to {sum(shares):.4g}: they must sum to 1", "clash")
            found.append(tuple(share / sum(shares) for share in shares))
        except Misread as error:
            mistakes += [one.within((i,) if several else ()) for one in error.found]
    if mistakes:
        raise Misread(*mistakes)
    return tuple(found)


shares = Reader(lambda value: value if isinstance(value, str) and value else rows_of_shares(value),
                "a list of shares, a list of such lists, one for each mixture layer, or the path of a JSON or YAML file with one",
                {"anyOf": [TEXT, *_SHARES["anyOf"]]})


def by_name(reader: Reader, example: str) -> Reader:
    """Return a reader of mappings whose values `reader` reads; `example` is a valid mapping."""
    def read_all(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            refuse(f"{quote(value)} is not a mapping: write one such as {example}")
        return dict(zip(value, _parts(value.items(), reader)))
    return Reader(read_all, f"a mapping, each value {reader.words}", {"type": "object", "additionalProperties": reader.schema},
                  reader.unit)


def _parts(items: Iterable[tuple[str | int, Any]], reader: Reader) -> list[Any]:
    """Return the result of `reader` for each part. Raise Misread with the mistakes of all parts."""
    found, made = [], []
    for key, part in items:
        try:
            if part is None:
                refuse("no value is given", "empty")
            made.append(reader(part))
        except Misread as error:
            found += [f.within((key,)) for f in error.found]
    if found:
        raise Misread(*found)
    return made


def one_or_each(reader: Reader, example: str) -> Reader:
    """Return a reader of one value for all axes, or a list of one value for each axis."""
    every = each(reader, example, least=1)
    return Reader(lambda value: every(value) if isinstance(value, list) else reader(value), f"{reader.words}, or a list of such",
                  {"anyOf": [reader.schema, every.schema]}, reader.unit)


@reads("letters of axes, or a list of axes",
       {"anyOf": [{"type": "string", "pattern": r"^[^\W\d_]*$"}, {"type": "array", "items": {"type": "string", "minLength": 1}}]})
def axes(value: Any) -> list[str]:
    """Return the axes that a value names: letters, or a list if names are longer."""
    if isinstance(value, str) and (value.isalpha() or not value):
        return list(value)
    if isinstance(value, list) and all(isinstance(v, str) and v for v in value):
        return list(value)
    refuse(f"{quote(value)} is not a list of axes: write letters, such as yz, or a list, such as [y, z]")


@reads(f"true, false or a kind of loop: {', '.join(LOOPS)}", {"enum": [True, False, *LOOPS]})
def overlap(value: Any) -> bool | str:
    """Return whether matmuls are looped with collectives, or the kind of loop."""
    if isinstance(value, bool) or value in LOOPS:
        return value  # type: ignore[no-any-return]
    refuse(f"{quote(value)} is not true, false or a kind of loop: one of {', '.join(LOOPS)}")


_WEIGHTS = each(number(zero=True), "[2, 1]", least=1)


@reads("equal, auto, or a list of weights", {"anyOf": [{"enum": ["equal", "auto"]}, _WEIGHTS.schema]})
def split(value: Any) -> str | tuple[float, ...]:
    """Return the shares of a collective's parts."""
    if value in ("equal", "auto"):
        return str(value)
    if not isinstance(value, list):
        refuse(f"{quote(value)} is not equal, auto, or a list of weights, one for each axis")
    weights = _WEIGHTS(value)
    if not sum(weights):
        refuse(f"{quote(value)} has no weight above 0")
    return tuple(weights)


@reads(f"a mapping of {', '.join(ALIKE)} to the name of an algorithm, or \"module:function\"",
       {"type": "object", "properties": {kind: {"anyOf": [{"enum": list(ALGORITHMS[kind])}, FUNCTION]} for kind in ALIKE},
        "additionalProperties": False})
def algorithms(value: Any) -> dict[str, str]:
    """Return the algorithm of each kind of collective."""
    kinds: list[str] = list(ALIKE)
    if not isinstance(value, dict):
        refuse(f"{quote(value)} is not a mapping: write one such as {{all_to_all: direct}}")
    found = [Found((key,), unknown(key, kinds, "collective of a layout"), True, "unknown-key")
             for key in value if key not in kinds]
    for kind in kinds:
        if kind in value:
            try:
                named(f"algorithm of {kind}", *ALGORITHMS[kind])(value[kind])
            except Misread as error:
                found += [one.within((kind,), f"{kind}: ") for one in error.found]
    if found:
        raise Misread(*found)
    return dict(value)


_SHIFTS = by_name(by_name(whole(-(10**9), 10**9), "{z: 4}"), "{x: {z: 4}}")


@reads("true, false, or a mapping of axes to shifts of other axes", {"anyOf": [{"type": "boolean"}, _SHIFTS.schema]})
def twist(value: Any) -> bool | dict[str, dict[str, int]]:
    """Return whether a torus has the twist of its shape, or the shifts of other axes by each wraparound."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, dict):
        refuse(f"{quote(value)} is not true, false or a mapping of axes to shifts, such as {{x: {{z: 4}}}}")
    found: dict[str, dict[str, int]] = _SHIFTS(value)
    return found


def named(what: str, *names: str) -> Reader:
    """Return a reader of one name from a list, or of the name of a user-defined function."""
    article = "an" if what[:1] in "aeiou" else "a"

    def reader(value: Any) -> str:
        if isinstance(value, str) and ":" in value:
            return value
        if not isinstance(value, str):
            refuse(f'{quote(value)} is not {article} {what}: one of {", ".join(names)}, or "module:function"')
        if value not in names:
            refuse(unknown(value, names, what) + ("" if nearest(value, names) else ', or "module:function"'), "unknown-name")
        return value
    return Reader(reader, f'{article} {what}: {", ".join(names)}, or "module:function"',
                  {"anyOf": [{"enum": list(names)}, FUNCTION]})


topology_kind = named("kind of topology", "torus", "mesh", "ring", "file", *NETWORKS, "graph")
_PLACE = each(whole(0), "[0, 3]", least=1)


@reads("a number, coordinates or a name", {"anyOf": [{"type": "integer", "minimum": 0}, _PLACE.schema, {"type": "string"}]})
def _chip(value: Any) -> Any:
    if isinstance(value, list):
        return _PLACE(value)
    return value if isinstance(value, str) else whole(0)(value)


order = each(_chip, "[0, 3, 2, 1]", least=1)


def elsewhere(words: str, schema: Schema) -> Reader:
    """Return a reader that leaves a value unchanged, because it is checked elsewhere."""
    return Reader(lambda value: value, words, schema)


anything = elsewhere("anything", {})
