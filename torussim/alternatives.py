"""The alternatives of a field of a model in data/families.yaml, which describes them, and their value for a config.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torussim.errors import ModelError
from torussim.model_fields import MAX_LEADING
from torussim.sourced import quote

TYPES: Final = {"full_attention": True, "sliding_attention": False, "chunked_attention": False}  # of layers: whether full


@dataclass(frozen=True)
class Given:
    """The keys of a config.json with the defaults of its family; `own` are those of the file; `layers`: their number."""

    values: Mapping[str, Any]
    own: frozenset[str]
    layers: int = 0

    def get(self, key: str) -> Any:
        """Return the value of a key, or of a.b; None if it is absent."""
        value: Any = self.values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value



def first(alternatives: Any, given: Given) -> tuple[Any, str] | None:
    """Return the value of the first alternative whose keys are there, and the words for its source; None if there is none."""
    every = alternatives if isinstance(alternatives, list) else [alternatives]
    return next((found for one in every if (found := _one(one, given)) is not None), None)


def _one(one: Any, given: Given) -> tuple[Any, str] | None:
    """Return the value of an alternative (data/families.yaml), and the words for its source; None if its keys are absent."""
    if not isinstance(one, str | Mapping):
        return one, ""
    if isinstance(one, str):
        return _computed(one, given)
    if "take" in one:
        when = given.get(one["when"])
        holds = when in one["among"] if "among" in one else when is not None and _flag(one["when"], when)
        return _one(one["take"], given) if holds else None
    if "largest" in one:
        found = [part for text in one["largest"] if (part := _one(text, given))]
        return max(found, key=lambda part: float(part[0])) if found else None
    if "flags" in one:
        read = {name: first(part, given) for name, part in one["flags"].items()}
        words = ", ".join(dict.fromkeys(part[1] for part in read.values() if part and part[1]))
        return [name for name, part in read.items() if part and _flag(part[1], part[0])], words
    layers = _layers(one, given)
    return None if layers is None else (sorted(layers), ", ".join(dict.fromkeys(keys_of(one))))


def _computed(text: str, given: Given) -> tuple[Any, str] | None:
    """Return the value of keys and numbers with + * / between them, from left to right; None if a key is absent."""
    words = text.split()
    value = given.get(words[0])
    if any(given.get(word) is None for word in words[::2] if not word.isdigit()):
        return None
    own = [word for word in words[::2] if not word.isdigit() and word.split(".")[0] not in given.own]
    source = text + (f" ({' and '.join(own)}: the default of transformers)" if own else "")
    if len(words) == 1:
        return value, source if own else text
    for sign, word in zip(words[1::2], words[2::2], strict=True):
        left, right = _number(words[0], value), int(word) if word.isdigit() else _number(word, given.get(word))
        if sign == "/" and (not right or left % right):
            raise ModelError(f"{words[0]} {left} is not a multiple of {word} {right}")
        value = left + right if sign == "+" else left * right if sign == "*" else left // right
    return value, source


def _number(key: str, value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
        raise ModelError(f"{key}: {quote(value)} is not a number of 0 or more")
    return value


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ModelError(f"{key}: {quote(value)} is neither true nor false")
    return value


def _layers(clause: Mapping[str, Any], given: Given) -> set[int] | None:
    """Return the layers of a clause, counted from 0; None if its key is absent."""
    (kind, what), = clause.items()
    if kind == "union":
        parts = [part for one in what if (part := _layers(one, given)) is not None]
        return set().union(*parts) if parts else None
    value = given.get(what) if isinstance(what, str) else what
    if value is None or not given.layers:
        return None
    if given.layers > MAX_LEADING:
        raise ModelError(f"{given.layers} layers are more than can be read where they are of several kinds: {MAX_LEADING} can")
    every = range(given.layers)
    if kind in ("first", "every", "but_every", "but_multiples"):
        least = 0 if kind == "first" else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ModelError(f"{what}: {quote(value)} is not a whole number, {least} or more")
        return {"first": lambda: set(every[:value]), "every": lambda: set(every[value - 1::value]),
                "but_every": lambda: set(every) - set(every[value - 1::value]),
                "but_multiples": lambda: set(every) - set(every[::value])}[kind]()
    if not isinstance(value, list):
        raise ModelError(f"{what}: {quote(value)} is not a list")
    if kind in ("listed", "unlisted"):
        beyond = [one for one in value if isinstance(one, bool) or not isinstance(one, int) or one not in every]
        if beyond:
            raise ModelError(f"{what}: {quote(beyond[0])} is not one of the {given.layers} layers, counted from 0")
        return set(value) if kind == "listed" else set(every) - set(value)
    if kind == "zeros" and not value:
        return None
    if len(value) != given.layers:
        raise ModelError(f"{what}: a list of {len(value)} elements for {given.layers} layers")
    known: Mapping[Any, bool] = TYPES if kind == "full" else {0: True, 1: False}
    unknown = [one for one in value if isinstance(one, list | dict) or one not in known]
    if unknown:
        raise ModelError(f"{what}: {quote(unknown[0])} is not modelled: {' or '.join(map(str, known))} are")
    return {layer for layer, one in enumerate(value) if known[one]}


def keys_of(alternatives: Any) -> Iterator[str]:
    """Yield the keys that alternatives read."""
    if isinstance(alternatives, str):
        yield from (word.split(".")[0] for word in alternatives.split()[::2] if not word.isdigit())
    elif isinstance(alternatives, Mapping):
        for name, part in alternatives.items():
            if name != "among":
                yield from keys_of(part)
    elif isinstance(alternatives, Sequence):
        for part in alternatives:
            yield from keys_of(part)
