"""Hugging Face's config.json: the fields of a model that its keys mean, by the rows of data/families.yaml.

The module knows no family. A key that is not understood is never ignored in silence: if it can change time or memory the file is
refused, otherwise a remark names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from torussim import files, quantised
from torussim.described import plain
from torussim.errors import FileError, ModelError
from torussim.model_fields import FIELDS, NEEDED
from torussim.sourced import quote

NESTED: Final = ("text_config", "llm_config", "language_config")  # in a model of several kinds of input: that of its text
OUTER: Final = ("model_type", "tie_word_embeddings", "quantization_config", "compression_config")  # hold for the text too
TYPES: Final = {"full_attention": True, "sliding_attention": False, "chunked_attention": False}  # of layers: whether full
ALIKE: Final = ("max_context", "biases", "qk_norm")  # fields that change no time
PARTS: Final = {"experts": ("experts_per_token", "shared_experts", "expert_d_ff", "dense_layers"), "window": ("full_layers",),
                "latent": ("latent_rope", "latent_q", "d_value")}  # a field, and those without meaning where it is absent
NOTHING: Final[tuple[Any, ...]] = (None, False, 0, "", [], {})  # values of foreign keys that change nothing


@dataclass(frozen=True)
class Family:
    """A row of data/families.yaml, with the rows of `like` and of every family filled in."""

    name: str
    fields: Mapping[str, Any]  # field of a model -> alternatives
    defaults: Mapping[str, Any]  # of keys of a config.json
    unread: tuple[str, ...]  # patterns of keys that change nothing
    notes: Mapping[str, str]  # key -> a remark, where the key is given

    @property
    def keys(self) -> frozenset[str]:
        """The keys that are read."""
        return frozenset(_keys(list(self.fields.values())))


@dataclass(frozen=True)
class Config:
    """What a config.json means: fields in the form of `models.model`, and remarks for the report."""

    fields: Mapping[str, Any]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class _Given:
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


def families() -> tuple[str, ...]:
    """Return the values of model_type that can be read."""
    return tuple(_document()["families"])


def family(name: str) -> Family:
    """Return the row of a family."""
    row, every = _document()["families"][name], _document()["every"]
    base = family(row["like"]) if "like" in row else Family("", every["fields"], every["defaults"], tuple(every["unread"]), {})
    return Family(name, {**base.fields, **row.get("fields", {})}, {**base.defaults, **row.get("defaults", {})},
                  (*base.unread, *row.get("unread", ())), {**base.notes, **row.get("notes", {})})


def read(path: Path, name: str, most: int = 0) -> Config:
    """Return the meaning of a config.json; `name`: the path in sources; `most`: as in files.contents.

    Raise ModelError for a file that is no config.json, for an unknown family, for keys that cannot be read, and for keys that
    change time or memory in an unknown way.
    """
    outer = _read_json(path, most)
    config, remarks = _text_of(outer)
    kind = config.get("model_type")
    known = isinstance(kind, str) and next((one for one in (kind, kind.removesuffix("_text")) if one in families()), None)
    if not known:
        raise ModelError(f"{path}: {_unknown(config)}")
    row = family(known)
    fields, mistakes = _fields(row, config, name)
    found, wrong, said = quantised.dtypes(config, mixture="experts" in fields)
    fields |= {"dtypes": {"value": found, "source": f"{name}: quantization_config"}} if found else {}
    unread, unknown = _others(row, config)
    mistakes += [*wrong, *unknown]
    if mistakes:
        raise ModelError(f"{path}: {'; '.join(dict.fromkeys(mistakes))}")
    remarks += [*said, *([f"keys that are not looked at: {', '.join(unread)}"] if unread else [])]
    remarks += [text for key, text in row.notes.items() if {**row.defaults, **config}.get(key) not in NOTHING]
    return Config(fields, tuple(f"{name}: {text}" for text in remarks))


@lru_cache(1)
def _document() -> Mapping[str, Any]:
    found: Mapping[str, Any] = files.read(Path(str(resources.files("torussim").joinpath("data", "families.yaml"))), "table").value
    return found


def _text_of(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], list[str]]:
    """Return the part of a config.json that is about text, and a remark if there are others."""
    key = next((one for one in NESTED if isinstance(config.get(one), Mapping)), None)
    if key is None:
        return config, []
    others = sorted(one for one in config if one.endswith("_config") and one not in (key, *OUTER))
    return ({**{one: config[one] for one in OUTER if one in config}, **config[key]},
            [f"the text model alone is read, without {', '.join(others)}"] if others else [])


def _fields(row: Family, config: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    """Return the fields with their sources, and mistakes."""
    given, found, mistakes = _Given({**row.defaults, **config}, frozenset(config)), dict[str, Any](), list[str]()
    for field, alternatives in row.fields.items():
        try:
            taken = _first(alternatives, given)
            if taken is None:
                lacking = [key for key in _keys(alternatives[-1:]) if given.get(key) is None]
                mistakes += [f"{key} is missing" for key in lacking] if (field,) in NEEDED else []
                continue
            value, words = taken
            try:
                value = FIELDS[field,].read(value)
            except ModelError as error:
                raise ModelError(f"{words}: {error}") from None
            if (field,) not in NEEDED and value in (FIELDS[field,].default, ()):
                continue
            found[field] = {"value": value, "source": f"{name}: {words}" if words else f"{name}: model_type {row.name}"}
            if field == "layers":
                given = _Given(given.values, given.own, value)
        except ModelError as error:
            mistakes.append(str(error))
    if len(found.get("full_layers", {"value": ()})["value"]) == given.layers:  # no layer has the window
        found.pop("window", None)
    for whole, parts in PARTS.items():
        if whole not in found:
            found = {field: value for field, value in found.items() if field not in parts}
    return found, mistakes


# -- the alternatives of a field ----------------------------------------------------------------------------------------


def _first(alternatives: Any, given: _Given) -> tuple[Any, str] | None:
    """Return the value of the first alternative whose keys are there, and the words for its source; None if there is none."""
    every = alternatives if isinstance(alternatives, list) else [alternatives]
    return next((found for one in every if (found := _one(one, given)) is not None), None)


def _one(one: Any, given: _Given) -> tuple[Any, str] | None:
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
        read = {name: _first(part, given) for name, part in one["flags"].items()}
        words = ", ".join(dict.fromkeys(part[1] for part in read.values() if part and part[1]))
        return [name for name, part in read.items() if part and _flag(part[1], part[0])], words
    layers = _layers(one, given)
    return None if layers is None else (sorted(layers), ", ".join(dict.fromkeys(_keys(one))))


def _computed(text: str, given: _Given) -> tuple[Any, str] | None:
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


def _layers(clause: Mapping[str, Any], given: _Given) -> set[int] | None:
    """Return the layers of a clause, counted from 0; None if its key is absent."""
    (kind, what), = clause.items()
    if kind == "union":
        parts = [part for one in what if (part := _layers(one, given)) is not None]
        return set().union(*parts) if parts else None
    value = given.get(what) if isinstance(what, str) else what
    if value is None or not given.layers:
        return None
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


def _keys(alternatives: Any) -> Iterator[str]:
    """Yield the keys that alternatives read."""
    if isinstance(alternatives, str):
        yield from (word.split(".")[0] for word in alternatives.split()[::2] if not word.isdigit())
    elif isinstance(alternatives, Mapping):
        for name, part in alternatives.items():
            if name != "among":
                yield from _keys(part)
    elif isinstance(alternatives, Sequence):
        for part in alternatives:
            yield from _keys(part)


# -- other keys, other families -----------------------------------------------------------------------------------------


def _others(row: Family, config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the keys that are not looked at and can change no time, and the mistakes of those that can."""
    elsewhere = {key for name in families() for field, alternatives in family(name).fields.items() if field not in ALIKE
                 for key in _keys(alternatives)}
    refused: Mapping[str, str] = _document()["refused"]
    unread, mistakes = list[str](), list[str]()
    for key, value in config.items():
        if key in row.keys or key in row.notes or value in NOTHING or any(fnmatchcase(key, one) for one in row.unread):
            continue
        reason = next((text for pattern, text in refused.items() if fnmatchcase(key, pattern)), None)
        if reason is not None:
            mistakes.append(f"{key} is given: {reason} cannot be run")
        elif key in elsewhere and not (isinstance(value, list) and {*map(str, value)} == {"full_attention"}):
            mistakes.append(f"{key} is given, which no model of model_type {row.name} has: leave it out, or give the fields of "
                            "the model in place of the file")
        else:
            unread.append(key)
    return unread, mistakes


def _unknown(config: Mapping[str, Any]) -> str:
    """Return the message for a family that is not known, with the mapping of fields that the file gives."""
    shown = dict[str, Any]()
    for path, key in FIELDS.items():
        for name in key.also:
            try:
                if config.get(name) not in (None, False):
                    shown.setdefault(path[0], key.read(config[name]))
            except ModelError:
                continue
        if path in NEEDED:
            shown.setdefault(path[0], "?")
    text = ", ".join(f"{field}: {str(value).lower() if isinstance(value, bool) else plain(value)}"
                     for field, value in shown.items())
    return (f"model_type {quote(config.get('model_type'))} cannot be read: write model: {{{text}}} in place of the file, with a "
            f"value for each ?; {len(families())} other families can be read (docs/models.md)")


def _read_json(path: Path, most: int) -> dict[str, Any]:
    try:
        value = json.loads(files.contents(path, "model", most).decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ModelError(f"{path}:{error.lineno}:{error.colno}: no JSON: {error.msg}") from None
    except FileError as error:
        raise ModelError(f"{path} {error}", code=error.code) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, NUL in the name, a number of 5000 digits, 1000 brackets
        raise ModelError(f"{path} cannot be read: {error}", code="unreadable") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} is no config.json of a model: it must be an object in braces", code="unreadable")
    return value
