"""The values of keys that a sweep varies, and their combinations; the module knows nothing of the meaning of the keys.

    >>> axis_of("workload.batch", "1:8:x2, 12").values
    (1, 2, 4, 8, 12)
    >>> list(Points((axis_of("a", "1,2"), axis_of("b", "[[4, 4], [2, 8]]"))))
    [(1, [4, 4]), (1, [2, 8]), (2, [4, 4]), (2, [2, 8])]
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import floor, log, prod
from typing import Any, NoReturn, overload

from torussim import files
from torussim.edits import is_way
from torussim.errors import Mark, Mistake, ScenarioError
from torussim.files import Document

MOST = 1_000_000  # runs of a sweep
FORM = "write values, such as key=1,2,4, a range, such as key=1:1024:x2 or key=0:100:25, or a list, such as key=[[4,4],[2,8]]"
_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?"
_UNIT = r"[A-Za-z\u00b5\u03bc%][A-Za-z/]*"
_RANGE = re.compile(rf"(?P<start>{_NUMBER})\s*(?P<unit>{_UNIT})?\s*:\s*(?P<stop>{_NUMBER})\s*(?P<to>{_UNIT})?\s*:"
                    rf"\s*(?P<factor>x)?(?P<step>{_NUMBER})\s*(?P<by>{_UNIT})?")


@dataclass(frozen=True)
class Axis:
    """A key of scenarios, as `--set` names it, and its values as plain data."""

    key: str
    values: tuple[Any, ...]


def document_of_value(key: str, value: Any) -> Document:
    """Return a value of a key as a document, whose name gives its origin."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return files.from_value(value, f"--vary {key}={_short(text)}")


@dataclass(frozen=True)
class Points(Sequence[tuple[Any, ...]]):
    """All combinations of the values of some axes, the last axis fastest; `zipped`: the first value of each, and so on."""

    axes: tuple[Axis, ...]
    zipped: bool = False

    def __len__(self) -> int:
        lengths = [len(axis.values) for axis in self.axes]
        return min(lengths) if self.zipped else prod(lengths)

    def indices(self, number: int) -> tuple[int, ...]:
        """Return the index of each axis' value at a point."""
        if self.zipped:
            return (number,) * len(self.axes)
        found = []
        for axis in reversed(self.axes):
            number, index = divmod(number, len(axis.values))
            found.append(index)
        return tuple(reversed(found))

    @overload
    def __getitem__(self, number: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, number: slice) -> list[tuple[Any, ...]]: ...
    def __getitem__(self, number: int | slice) -> Any:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        return tuple(axis.values[i] for axis, i in zip(self.axes, self.indices(number)))

    def few(self, most: int) -> Iterator[int]:
        """Return the numbers of some points: the first, points that differ from it in one axis, and some spread over all."""
        sizes = [1 if self.zipped else prod(len(axis.values) for axis in self.axes[i + 1:]) for i in range(len(self.axes))]
        cross = [size * i for size, axis in zip(sizes, self.axes) for i in range(min(len(axis.values), most))]
        spread = [len(self) * i // most for i in range(most)]
        return iter(dict.fromkeys([*cross, *spread]))


@dataclass(frozen=True)
class Chosen(Sequence[tuple[Any, ...]]):
    """Some of the points, given by their numbers."""

    points: Points
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> tuple[Any, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> Chosen: ...
    def __getitem__(self, index: int | slice) -> Any:
        return Chosen(self.points, self.numbers[index]) if isinstance(index, slice) else self.points[self.numbers[index]]


def points_of(vary: Mapping[str, Any] | Sequence[str], zipped: bool = False) -> Points:
    """Return the points of assignments, such as "workload.batch=1,2", or of values by their keys.

    Raise ScenarioError with all mistakes: impossible keys, unreadable values, no values, too many points.
    """
    axes, wrong = list[Axis](), list[Mistake]()
    for one in vary:
        key, equals, text = one.partition("=")
        given = vary[one] if isinstance(vary, Mapping) else text
        try:
            if not isinstance(vary, Mapping) and not equals:
                _fail(f"--vary {_short(one)}", f"{_short(one)!r} has no '=': {FORM}", "syntax")
            axes.append(axis_of(one if isinstance(vary, Mapping) else key, given))
        except ScenarioError as error:
            wrong += error.mistakes
    wrong = wrong or [*_clashes(axes), *_lengths(axes, zipped)]
    if wrong:
        raise ScenarioError(wrong)
    return Points(tuple(axes), zipped)


def axis_of(key: str, given: Any) -> Axis:
    """Return the axis of a key: a list of values, or a text as `--vary` has it. Raise ScenarioError for other input."""
    name = f"--vary {_short(key)}"
    if not is_way(key):
        _fail(name, f"{_short(key)!r} is not a key, such as workload.batch", "syntax")
    if isinstance(given, str):
        values = _read(given, f"{name}={_short(given)}")
    elif isinstance(given, Mapping) or not hasattr(given, "__iter__"):
        _fail(name, f"{_short(repr(given))} is neither a list of values nor a text such as '1:1024:x2'", "value")
    else:
        values = given.tolist() if hasattr(given, "tolist") else list(given)
        values = [one.item() if hasattr(one, "item") else one for one in values]
    if not values:
        _fail(name, f"no values are given: {FORM}", "empty")
    if len(values) > MOST:
        _fail(name, f"{len(values):,} values are given: at most {MOST:,} runs are in one sweep", "limit")
    try:
        plain = json.loads(json.dumps(values))
    except (TypeError, ValueError) as error:
        _fail(name, f"values are texts, numbers, true, false, lists and mappings: {error}", "value")
    return Axis(key.strip(), tuple(plain))


def _read(text: str, name: str) -> list[Any]:
    """Return the values of a text: a flow list, or scalars and ranges with commas between them."""
    text = text.strip()
    if text.startswith("["):
        return _flow(text, name)
    values = []
    for value in _flow(f"[{text}]", name, before=1):
        found = _RANGE.fullmatch(value.strip()) if isinstance(value, str) else None
        values += _range(found, name) if found else [value]
        if len(values) > MOST:
            _fail(name, f"over {MOST:,} values are given: at most {MOST:,} runs are in one sweep", "limit")
    return values


def _flow(text: str, name: str, before: int = 0) -> list[Any]:
    """Return the values of a YAML flow list; `before`: the number of leading characters that the user did not write."""
    try:
        found = files.fragment(text, name)
    except ScenarioError as error:
        (first, *_) = error.mistakes
        _fail(name, f"{first.text}: {FORM}", first.code, max(first.mark.column - before, 1) if first.mark else 1)
    if found is not None and found.mistakes:
        raise ScenarioError(found.mistakes)
    if found is None or not isinstance(found.value, list):
        _fail(name, f"this is no list: {FORM}", "value")
    return found.value


def _range(found: re.Match[str], name: str) -> list[Any]:
    """Return the values of a range, its ends included; they are integers if all given numbers are."""
    start, stop, step = (Decimal(found[part]) for part in ("start", "stop", "step"))
    units = {unit for unit in (found["unit"], found["to"], found["by"]) if unit}
    if len(units) > 1 or (units and not found["to"]) or (found["factor"] and found["by"]):
        _fail(name, f"the range {_short(found[0])!r} has {' and '.join(sorted(units))}: give its ends the same unit, "
              "such as '1 us:16 us:x2'", "quantity")
    count = _geometric(start, stop, step) if found["factor"] else _arithmetic(start, stop, step)
    if count < 1:
        _fail(name, f"the range {_short(found[0])!r} is empty: no {'factor' if found['factor'] else 'step'} of "
              f"{found['step']} leads from {found['start']} to {found['stop']}", "empty")
    if count > MOST:
        _fail(name, f"the range {_short(found[0])!r} has {count:,} values: at most {MOST:,} runs are in one sweep", "limit")
    numbers = [start * step ** i if found["factor"] else start + i * step for i in range(count)]
    whole = all(re.fullmatch("[-+]?[0-9]+", found[part]) for part in ("start", "stop", "step"))
    plain = [int(n) if whole and n == n.to_integral_value() else float(n) for n in numbers]
    return [f"{n:g} {found['to']}" if float(f"{n:g}") == n else f"{n!r} {found['to']}" for n in plain] if units else list(plain)


def _arithmetic(start: Decimal, stop: Decimal, step: Decimal) -> int:
    return 0 if step == 0 else floor((stop - start) / step) + 1


def _geometric(start: Decimal, stop: Decimal, factor: Decimal) -> int:
    """Return the number of values start, start * factor, ... up to stop; stop counts in spite of rounding errors."""
    if start <= 0 or stop <= 0 or factor <= 0 or factor == 1:
        return 0
    steps = floor(log(stop / start) / log(factor) + 1e-9)
    past = 0 <= steps <= MOST and (start * factor**steps / stop - 1) * (1 if factor > 1 else -1) > Decimal("1e-12")
    return steps + 1 - past


def _clashes(axes: Sequence[Axis]) -> Iterator[Mistake]:
    """Return the mistakes of axes of which a later one replaces all values of an earlier one."""
    for number, one in enumerate(axes):
        for other in axes[number + 1:]:
            mark = Mark(f"--vary {other.key}", 1, 1)
            if other.key == one.key:
                yield Mistake(f"{one.key!r} is varied twice: give all its values at once", mark, "duplicate")
            elif one.key.startswith(f"{other.key}."):
                yield Mistake(f"{other.key!r} replaces {one.key!r}, which it holds: vary it first", mark, "clash")


def _lengths(axes: Sequence[Axis], zipped: bool) -> Iterator[Mistake]:
    """Return the mistakes in the number of axes and of their values."""
    lengths = [len(axis.values) for axis in axes]
    listed = ", ".join(f"{axis.key} has {len(axis.values):,}" for axis in axes)
    if not axes:
        yield Mistake(f"nothing is varied: {FORM}", Mark("--vary", 1, 1), "missing")
    elif zipped and len(set(lengths)) > 1:
        yield Mistake(f"with --zip all keys need the same number of values: {listed}", Mark("--zip", 1, 1), "clash")
    elif not zipped and prod(lengths) > MOST:
        yield Mistake(f"{prod(lengths):,} runs are too many: at most {MOST:,} are in one sweep, and {listed}; "
                      "give fewer values, or --zip", Mark("--vary", 1, 1), "limit")


def _short(text: str) -> str:
    """Return a text short enough for a message."""
    return text if len(text) <= 60 and text.isprintable() else repr(text[:40])[1:-1] + "..."


def _fail(name: str, text: str, code: str, column: int = 1) -> NoReturn:
    raise ScenarioError([Mistake(text, Mark(name, 1, column), code)])
