"""The differences between resolved scenarios, key by key, and their common values; the module knows nothing of results.

A key is the dotted path that `--set` takes, such as topology.links.0.scale. The name of a scenario and its expected values change
no answer. The source of a number and its validation do not change the number. So names, expectations, sources and validations are
no differences. A model or chip has a name, which differs only if the model or chip does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from torussim.units import show

Path = tuple[str, ...]

SECTIONS = ("workload", "layout", "topology", "program", "model", "chip")  # earlier choices come first
UNITS = {"bandwidth": "B/s", "link_bandwidth": "B/s", "hbm_bandwidth": "B/s", "latency": "s", "link_latency": "s", "launch": "s",
         "message": "s", "op_overhead": "s", "loop_step": "s", "step_overhead": "s", "bytes": "B", "hbm_bytes": "B",
         "on_chip_bytes": "B"}
SOURCED = ("model", "chip")  # sections whose values have sources
NO_DIFFERENCE = ("name", "expect")
VALIDATED = ("chip", "validated")
GRAPH = ("topology", "network")  # the network of a graph file; the file's SHA-256 decides whether it differs
ALIKE = {"model.name": "{}", "chip.name": "{}", "topology.shape": "{}", "workload.phase": "{}",
         "workload.batch": "batch {}", "workload.context": "context {}", "layout.ffn": "{}", "layout.attention":
         "attention over {}", "layout.weights": "{} weights"}  # the values that the text names, and its words
FEW = 4  # up to this number, differing fields of a model or chip are listed beside its name
DIGITS = (3, 6, 9, 17)  # 17 digits distinguish any two floats


def differences(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[int, Any]]:
    """Return the keys whose values are not equal in all records: for each the value by the record's index.

    A record that lacks the key has no entry.

    >>> differences([{"topology": {"latency": 1e-6}}, {"topology": {"latency": 2e-6, "wrap": [True]}}])
    {'topology.latency': {0: 1e-06, 1: 2e-06}, 'topology.wrap': {1: [True]}}
    """
    flat = [dict(_leaves(record)) for record in _by_phase(records)]
    found = {}
    for path in _ordered(flat):
        if path == VALIDATED or path[:2] == GRAPH:
            continue
        values = {i: one[path] for i, one in enumerate(flat) if path in one}
        if len(values) < len(flat) or len({_identity(v) for v in values.values()}) > 1:
            found[".".join(path)] = values
    labels = {f"{section}.name" for section in SOURCED if sum(key.startswith(f"{section}.") for key in found) == 1}
    return {key: values for key, values in found.items() if key not in labels}


def alike(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the main values that all records share, in words: ["palm-540b", "batch 512"]."""
    differ = differences(records)
    first = {".".join(path): value for path, value in _leaves(records[0])}
    return [text.format(shown(key, {0: first[key]})[0]) for key, text in ALIKE.items() if key in first and key not in differ]


def main_ones(found: Mapping[str, Mapping[int, Any]], all_of: Sequence[int]) -> tuple[dict[str, dict[int, Any]], dict[str, int]]:
    """Return the differences that deserve a line each, and the number of other values by section.

    The others are fields of models or chips that are many and follow from their names (a preset's fields, but not a field or two
    that were changed), and the operations of a program if other records have none; these have one line together. `all_of` has the
    indices that `found` is about.
    that `found` is about.
    """
    kept = {key: dict(values) for key, values in found.items()}
    left = {}
    for section in (*SOURCED, "program"):
        inside = {key: dict(kept[key]) for key in found if key.startswith(f"{section}.")}
        if section == "program" and _by_one(inside):
            first, owners = next(iter(inside)), next(iter(inside.values()))
            names = ", ".join(str(next(iter(at.values()))) for key, at in inside.items() if key.endswith(".name"))
            line = ("program", dict.fromkeys(owners, names))
        elif f"{section}.name" in inside and _by_name(inside, f"{section}.name", all_of):
            first = f"{section}.name"
            line = (first, inside[first])
        else:
            continue
        kept = dict(line if key == first else (key, at) for key, at in kept.items() if key == first or key not in inside)
        left[section] = len(inside) - 1
    return kept, {section: number for section, number in left.items() if number}


def _by_one(inside: Mapping[str, Mapping[int, Any]]) -> bool:
    """Return whether the same records have all of these keys, with the same values."""
    owners = {frozenset(at) for at in inside.values()}
    return len(owners) == 1 and all(len({_identity(v) for v in at.values()}) == 1 for at in inside.values())


def _by_name(inside: Mapping[str, Mapping[int, Any]], name: str, all_of: Sequence[int]) -> bool:
    """Return whether records that differ at any of these keys differ at many of them, and at `name`."""
    values = {i: [_identity(at[i]) if i in at else None for at in inside.values()] for i in all_of}
    for i, j in combinations(all_of, 2):
        apart = sum(one != other for one, other in zip(values[i], values[j]))
        if apart and (apart <= FEW or inside[name].get(i) == inside[name].get(j)):
            return False
    return True


def shown(key: str, values: Mapping[int, Any]) -> dict[int, str]:
    """Return the values of a key as short text, quantities with their units; different values always have different texts.

    >>> shown("topology.bandwidth", {0: 45e9, 1: 45.01e9}), shown("topology.shape", {0: [4, 4, 8]})
    ({0: '45 GB/s', 1: '45.01 GB/s'}, {0: '4x4x8'})
    """
    count = len({_identity(v) for v in values.values()})
    texts: dict[int, str] = {}
    for digits in DIGITS:
        texts = {i: _text(key, value, digits) for i, value in values.items()}
        if len(set(texts.values())) == count:
            return texts
    return {i: json.dumps(value) for i, value in values.items()}  # 1 and "1"


def _by_phase(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the records, all with a layout for each phase if one has that; one layout for both phases is given twice."""
    if not any("prefill" in record.get("layout", {}) for record in records):
        return list(records)
    phases = {"prefill": ["prefill"], "decode": ["decode"], "generate": ["prefill", "decode"]}
    return [record if "layout" not in record or "prefill" in record["layout"] else
            {**record, "layout": dict.fromkeys(phases[record["workload"]["phase"]], record["layout"])} for record in records]


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the leaves of a record: scalars, lists of scalars, and empty values."""
    if path and path[0] in SOURCED and isinstance(value, Mapping) and "value" in value and set(value) <= {"value", "source"}:
        value = value["value"]
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            if path or key not in NO_DIFFERENCE:
                yield from _leaves(part, (*path, str(key)))
    elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):
        for i, part in enumerate(value):
            yield from _leaves(part, (*path, str(i)))
    else:
        yield path, value


def _ordered(flat: Sequence[Mapping[Path, Any]]) -> list[Path]:
    """Return all paths, section by section, each branch together, in the order of first occurrence."""
    place: dict[Path, int] = {(section,): i for i, section in enumerate(SECTIONS)}
    paths = list(dict.fromkeys(path for one in flat for path in one))
    for path in paths:
        for n in range(1, len(path) + 1):
            place.setdefault(path[:n], len(place))
    return sorted(paths, key=lambda path: tuple(place[path[:n]] for n in range(1, len(path) + 1)))


def _identity(value: Any) -> Any:
    """Return the identity of a value: 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(value, list):
        return ("list", *(_identity(part) for part in value))
    if isinstance(value, Mapping):
        return ("mapping", *((key, _identity(part)) for key, part in value.items()))
    return (type(value).__name__ if isinstance(value, bool | str) or value is None else "number", value)


def _text(key: str, value: Any, digits: int) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        parts = [_text(key, part, digits) for part in value]
        if len(value) > 1 and all(part is value[0] for part in value) and isinstance(value[0], bool):
            return f"all {parts[0]}"
        return "x".join(parts) if key == "topology.shape" else f"[{', '.join(parts)}]"
    if isinstance(value, Mapping):
        return "{}"
    if isinstance(value, str):
        return value if value.isprintable() and value.strip("- ") else json.dumps(value)  # a dash alone means a missing value
    unit = _unit(key)
    if unit or (isinstance(value, float) and abs(value) < 1e6):
        return show(value, unit, digits)
    return str(value) if isinstance(value, int) else f"{value:.{digits}g}"


def _unit(key: str) -> str:
    parts = key.split(".")
    if "flops" in parts[1:]:
        return "FLOP/s" if parts[0] == "chip" else "FLOP"
    return UNITS.get(parts[-1], "")
