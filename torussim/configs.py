"""Hugging Face's config.json: the fields of a model that its keys mean, by the rows of data/families.yaml.

The module knows no family. A key that is not understood is never ignored in silence: if it can change time or memory the file is
refused, otherwise a remark names it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from torussim import files, quantised
from torussim.alternatives import Given, first, keys_of
from torussim.described import plain
from torussim.errors import FileError, ModelError
from torussim.model_fields import FIELDS, NEEDED
from torussim.sourced import quote

NESTED: Final = ("text_config", "llm_config", "language_config")  # in a model of several kinds of input: that of its text
OUTER: Final = ("model_type", "tie_word_embeddings", "quantization_config", "compression_config")  # hold for the text too
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
    equal: Mapping[str, Any]  # key -> the alternatives whose value it must have, where it is given

    @property
    def keys(self) -> frozenset[str]:
        """The keys that are read."""
        return frozenset(keys_of(list(self.fields.values())))


@dataclass(frozen=True)
class Config:
    """What a config.json means: fields in the form of `models.model`, and remarks for the report."""

    fields: Mapping[str, Any]
    remarks: tuple[str, ...]


def families() -> tuple[str, ...]:
    """Return the values of model_type that can be read."""
    return tuple(_document()["families"])


def family(name: str) -> Family:
    """Return the row of a family."""
    row = _document()["families"][name]
    base = family(row["like"]) if "like" in row else _every()
    merged = {part: {**getattr(base, part), **row.get(part, {})} for part in ("fields", "defaults", "notes", "equal")}
    return Family(name, unread=(*base.unread, *row.get("unread", ())), **merged)


def _every() -> Family:
    """Return the row that all families have in common."""
    return Family("", **{"notes": {}, "equal": {}, **_document()["every"]})


def read(path: Path, name: str, most: int = 0) -> Config:
    """Return the meaning of a config.json; `name`: the path in sources; `most`: as in files.contents.

    Raise ModelError for a file that is no config.json, for an unknown family, for keys that cannot be read, and for keys that
    change time or memory in an unknown way.
    """
    outer = _read_json(path, most)
    torn = next((key for key in NESTED if not isinstance(outer.get(key), Mapping | None)), None)
    if torn:
        raise ModelError(f"{path}: {torn}: {quote(outer[torn])} is not a mapping")
    config, remarks = _text_of(outer)
    kind = config.get("model_type")
    known = isinstance(kind, str) and next((one for one in (kind, kind.removesuffix("_text")) if one in families()), None)
    if not known:
        raise ModelError(f"{path}: {_unknown(config, name)}")
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
    from importlib import resources

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
    given, found, mistakes = Given({**row.defaults, **config}, frozenset(config)), dict[str, Any](), list[str]()
    for field, alternatives in row.fields.items():
        try:
            taken = first(alternatives, given)
            if taken is None:
                needed = (field,) in NEEDED or (field == "experts_per_token" and "experts" in found)
                lacking = [key for key in keys_of(alternatives[-1:]) if given.get(key) is None]
                mistakes += [f"{key} is missing" for key in lacking] if needed else []
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
                given = Given(given.values, given.own, value)
        except ModelError as error:
            mistakes.append(str(error))
    for key, wanted in row.equal.items():
        only = first(wanted, given)
        if given.get(key) is not None and only and given.get(key) != only[0]:
            mistakes.append(f"{key}: {quote(given.get(key))} is not modelled: must be {only[1]}, {only[0]}")
    if len(found.get("full_layers", {"value": ()})["value"]) == given.layers:  # no layer has the window
        found.pop("window", None)
    for whole, parts in PARTS.items():
        if whole not in found:
            found = {field: value for field, value in found.items() if field not in parts}
    return found, mistakes


# -- other keys, other families -----------------------------------------------------------------------------------------


def _others(row: Family, config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the keys that are not looked at and can change no time, and the mistakes of those that can."""
    refused: Mapping[str, str] = _document()["refused"]
    unread, mistakes, reasons = list[str](), list[str](), dict[str, list[str]]()
    for key, value in config.items():
        read = key in row.keys or key in row.notes or key in row.equal
        if read or _means_nothing(value) or any(fnmatchcase(key, one) for one in row.unread):
            continue
        reason = next((text for pattern, text in refused.items() if fnmatchcase(key, pattern)), None)
        if reason is not None:
            reasons.setdefault(reason, []).append(key)
        elif row.name and key in _timed():
            mistakes.append(f"{key} is given, which no model of model_type {row.name} has: leave it out, or give the fields of "
                            "the model in place of the file")
        else:
            unread.append(key)
    several = [f"{', '.join(keys)} {'is' if len(keys) == 1 else 'are'} given: {text} cannot be run"
               for text, keys in reasons.items()]
    return unread, several + mistakes


def _means_nothing(value: Any) -> bool:
    """Return whether the value of a foreign key changes nothing: that of an absent thing, or layers that are all full."""
    return value in NOTHING or (isinstance(value, list) and {*map(str, value)} == {"full_attention"})


@lru_cache(1)
def _timed() -> frozenset[str]:
    """Return the keys of all families that change time or memory."""
    return frozenset(key for name in families() for field, alternatives in family(name).fields.items() if field not in ALIKE
                     for key in keys_of(alternatives))


def _unknown(config: Mapping[str, Any], name: str) -> str:
    """Return the message for a family that is not known, with the mapping of fields that the file gives.

    It names the keys that the mapping does not cover.
    """
    shown, taken = dict[str, Any](), {"use_sliding_window"}
    for path, key in FIELDS.items():
        for other in key.also:
            try:
                if config.get(other) not in (None, False):
                    key.read(config[other])
                    shown.setdefault(path[0], config[other])
                    taken.add(other)
            except ModelError:
                continue
        if path in NEEDED:
            shown.setdefault(path[0], "unknown")
    given = Given(config, frozenset(config), shown["layers"] if isinstance(shown["layers"], int) else 0)
    for field, alternatives in _document()["unknown"].items():
        try:
            if part := first(alternatives, given):
                shown[field] = FIELDS[field,].read(part[0])
                taken.update(keys_of(alternatives))
        except ModelError:
            continue
    if config.get("use_sliding_window") is False or len(shown.get("full_layers", ())) == given.layers:
        shown.pop("window", None)
    if "window" not in shown:
        shown.pop("full_layers", None)
    found, wrong, _ = quantised.dtypes(config, mixture="experts" in shown)
    shown |= {"dtypes": found} if found else {}
    text = ", ".join(f"{field}: {_yaml(value)}" for field, value in shown.items())
    unread, refused = _others(_every(), {key: value for key, value in config.items() if key not in taken})
    every, kind = families(), config.get("model_type")
    reason = "model_type is missing" if kind is None else f"model_type {quote(kind)} cannot be read"
    others = [*([f"keys without a field: {', '.join(unread)}"] if unread else []), *wrong, *refused]
    return (f"{reason}; {', '.join(every[:3])} and {len(every) - 3} other families can be read (docs/models.md); write "
            f"model: {{{text}}} in place of the file, with a value for each unknown"
            + (f"; the mapping does not cover this: {'; '.join(others)}" if others else ""))


def _yaml(value: Any) -> str:
    """Return a value of a field as YAML."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {one}" for key, one in value.items()) + "}"
    return str(value).lower() if isinstance(value, bool) else str(plain(value))


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
