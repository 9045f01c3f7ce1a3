"""The form of a scenario file: the keys of each section; no meaning.

A form is a table of keys. `read` finds all that is wrong with a section at once, and still returns the keys that are sound, so
that a mistake in one value does not hide those in the others. Written by hand, so that every message is in words of ours, and the
place of a wrong element of a list is that of the element.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from torussim.errors import Found
from torussim.layouts import AXES, DIMENSIONS, HEADS, LONGEST
from torussim.program import KINDS
from torussim.resolve import unknown
from torussim.scenario.values import (
    EMPTY,
    Misread,
    Reader,
    algorithms,
    anything,
    axes,
    by_name,
    each,
    flag,
    listed,
    named,
    number,
    one_of,
    one_or_each,
    order,
    overlap,
    quantity,
    quote,
    split,
    text,
    topology_kind,
    twist,
    whole,
)
from torussim.spelling import nearest
from torussim.topology.graph_files import FORMATS
from torussim.topology.routing import NAMES

MAX_SIZE = 10**9  # of a batch or a context
MAX_PASSES = 100_000
MAX_AXES = 16
MOST_MEANT = 100  # unknown keys of one mapping that are taken for misspelt ones


@dataclass(frozen=True)
class Key:
    """How a key's value is read, and what stands for it when it is not given."""

    read: Reader
    default: Any = None
    needed: bool = False


Form = Mapping[str, Key]


@dataclass(frozen=True)
class Section:
    """What was read: every key of the form, its default where it is not given, or `wrong`: missing or of no use."""

    values: Mapping[str, Any]
    given: frozenset[str] = frozenset()
    wrong: frozenset[str] = frozenset()
    others: Mapping[str, Any] | None = None  # keys that the form has not, where those are welcome

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def sound(self, *keys: str) -> bool:
        """Return whether these keys (none: all) can be relied on."""
        return not self.wrong.intersection(keys or self.wrong)


def read(form: Form, value: Any, what: str, *, others: bool = False) -> tuple[Section, list[Found]]:
    """Return the section, and all that is wrong with it; `what` names it, such as "workload".

    With `others` keys that the form has not are kept; else they are mistakes.
    """
    defaults = {name: key.default for name, key in form.items()}
    needed = [name for name, key in form.items() if key.needed]
    if not isinstance(value, Mapping):
        keys = ", ".join((needed + [name for name in form if name not in needed])[:3])
        text = f"{quote(value)} is not a mapping: {what} needs keys such as {keys}"
        return Section(defaults, wrong=frozenset(form)), [Found((), text)]
    found, values, wrong = [], dict(defaults), set()
    for name, part in value.items():
        if name not in form:
            if not others:
                found.append(Found((name,), unknown(name, form, f"key of {what}"), True, "unknown-key"))
            continue
        if part is None:
            found.append(Found((name,), f"{name}: {EMPTY}", True, "empty"))
            wrong.add(name)
            continue
        try:
            values[name] = form[name].read(part)
        except Misread as error:
            found += [f.within((name,), f"{name}: ") for f in error.found]
            wrong.add(name)
    missing = [name for name in needed if name not in value]
    told = [name for name in missing if name not in meant(value, form)]
    if told:  # there is no such path: the place is the section's key
        found.append(Found((told[0],), f"{what} lacks {listed(told)}: write {'them' if len(told) > 1 else 'it'}",
                           code="missing"))
    rest = {name: part for name, part in value.items() if name not in form} if others else None
    return Section(values, frozenset(value), frozenset({*wrong, *missing}), rest), found


def meant(given: Iterable[str], names: Iterable[str]) -> set[str]:
    """Return the names that the first unknown keys misspell: told to be missing too, one mistake would be told twice."""
    names = list(names)
    near = {nearest(key, names) for key in islice((key for key in given if key not in names), MOST_MEANT)}
    return {name for name in near if name is not None}


_DTYPE = one_of("dtype", "bf16", "fp8", "int8", "int4")
_COORDINATE = each(whole(0), "[0, 0, 0]", least=1, most=MAX_AXES)
_NAMES = each(text, "[gather, multiply]")

TOP = ("name", "model", "chip", "topology", "layout", "workload", "expect", "program", "plan", "code")
CODE = by_name(text, "{mine.py: SHA-256}")
BASES = ("model", "chip")  # a name there is short for {base: name}

TOPOLOGY: Form = {
    "kind": Key(topology_kind, "torus"),
    "shape": Key(each(whole(1), "[4, 4, 4]", least=1, most=MAX_AXES)),
    "slice": Key(text),
    "wrap": Key(one_or_each(flag, "[true, true, false]")),
    "bandwidth": Key(one_or_each(quantity("B/s"), "[45 GB/s, 45 GB/s]")),
    "latency": Key(one_or_each(quantity("s", zero=True), "[1 us, 1 us]")),
    "twist": Key(twist),
    "routing": Key(named("routing", *NAMES)),
    "links": Key(anything),
    "events": Key(anything),
    "axes": Key(each(text, "[x, y, z]", least=1, most=MAX_AXES)),
}
ORDER = Key(order)
OWN_TOPOLOGY: Form = {**{key: TOPOLOGY[key] for key in ("kind", "routing", "links", "events")}, "mesh": TOPOLOGY["shape"],
                      "order": ORDER}
FILE_TOPOLOGY: Form = {
    **{key: form for key, form in OWN_TOPOLOGY.items() if key != "order"},
    "path": Key(text, needed=True),
    "format": Key(one_of("format of a graph file", *FORMATS)),
    "bandwidth": Key(quantity("B/s")),
    "latency": Key(quantity("s", zero=True)),
    "sha256": Key(text),
    "network": Key(anything),  # what the record of a run has of the file
}


def _node(value: Any) -> Any:
    """Read the coordinates of a chip, or the name of a switch."""
    return text(value) if isinstance(value, str) else _COORDINATE(value)


def _place(value: Any) -> Any:
    """Read the coordinates of a chip; a number where there is one axis."""
    return [whole(0)(value)] if not isinstance(value, list) else _COORDINATE(value)


LINK: Form = {
    "from": Key(_node),
    "to": Key(_node),
    "axis": Key(text),
    "wraparound": Key(flag),
    "at": Key(by_name(whole(0), "{y: 3}")),
    "both_ways": Key(flag, True),
    "bandwidth": Key(quantity("B/s")),
    "latency": Key(quantity("s", zero=True)),
    "scale": Key(number()),
    "failed": Key(flag),
}
EVENT: Form = {"time": Key(quantity("s", zero=True), needed=True), **LINK}

LAYOUT: Form = {
    "ffn": Key(anything, "ws2d"),
    "attention": Key(one_of("layout of attention", "heads", "batch"), "heads"),
    "weights": Key(_DTYPE, "bf16"),
    "activations": Key(_DTYPE, "bf16"),
    "kv_cache": Key(_DTYPE, "bf16"),
    "overlap": Key(overlap, True),
    "mesh": Key(by_name(axes, "{x: [x], y: [y], z: [z]}")),
    "collectives": Key(algorithms, {}),
}
TENSORS = (*DIMENSIONS, *AXES, HEADS, LONGEST)
PATH: Form = {"path": Key(anything, needed=True), "algorithm": Key(text, ""), "axes": Key(axes, [])}

WORKLOAD: Form = {
    "phase": Key(one_of("phase", "prefill", "decode", "generate"), needed=True),
    "batch": Key(whole(1, MAX_SIZE), needed=True),
    "context": Key(whole(1, MAX_SIZE), needed=True),
    "tokens": Key(whole(1, MAX_PASSES), 1),
    "cached": Key(whole(0, MAX_SIZE), 0),
    "chunk": Key(whole(1, MAX_SIZE)),
    "cache_share": Key(number(most=1), 0.30),
}

PLAN: Form = {
    "objective": Key(one_of("objective", "latency", "throughput", "cost", "pareto"), "latency"),
    "limits": Key(anything, {}),
    "vary": Key(anything, {}),
}

EXPECT: Form = {"within": Key(number(zero=True)), "source": Key(text, "")}
RESULTS: Mapping[str, str] = {  # what can be expected, and its unit
    "step_s": "s", "latency_s": "s", "makespan_s": "s", "prefill_s": "s", "tokens_per_s": "",
    "prompt_tokens_per_s": "", "generated_tokens_per_s": "", "mfu": "", "chip_s_per_token": "s",
    "memory.weights": "B", "memory.kv_cache": "B", "memory.activations": "B", "memory.longest_context": ""}
OF_GENERATE = {  # results of phase: generate alone, and what another phase has in place of each
    "prefill_s": "step_s", "prompt_tokens_per_s": "tokens_per_s", "generated_tokens_per_s": "tokens_per_s"}

CHAKRA: Form = {
    "chakra": Key(text, needed=True),  # a file, or a file a chip with %d for the number of the chip
    "compute": Key(one_of("way to take computations", "recorded", "roofline"), "recorded"),
    "groups": Key(text),
}
COMPUTE: Form = {
    "name": Key(text, needed=True),
    "flops": Key(quantity("FLOP", zero=True), 0.0),
    "hbm_bytes": Key(quantity("B", zero=True), 0.0),
    "dtype": Key(_DTYPE, "bf16"),
    "after": Key(_NAMES),
}
COLLECTIVE: Form = {
    "name": Key(text, needed=True),
    "collective": Key(one_of("collective", *KINDS), needed=True),
    "axes": Key(axes, []),
    "bytes": Key(quantity("B", zero=True), 0.0, needed=True),
    "algorithm": Key(text, ""),
    "split": Key(split, "equal"),
    "direction": Key(one_of("direction", "both", "one_way"), "both"),
    "shift": Key(by_name(whole(-MAX_SIZE, MAX_SIZE), "{x: 1}"), {}),
    "detour": Key(flag),
    "root": Key(_place),
    "from": Key(_place),
    "to": Key(_place),
    "chips": Key(each(_place, "[[0, 0], [0, 1]]", least=2)),
    "groups": Key(each(each(_place, "[[0, 0], [0, 1]]", least=1), "[[[0, 0], [0, 1]], [[1, 0], [1, 1]]]", least=1)),
    "after": Key(_NAMES),
}
