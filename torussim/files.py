"""YAML files with the place of every key and value; knows nothing of what the keys mean.

YAML 1.2, core schema: `1e-6` is a number, `no` a word, a date and `1_000` are texts. ruamel.yaml scans and composes;
plain Python is constructed here, because its constructors stop at the first doubled key and keep no places. A mistake
that leaves nothing to check (no such file, broken YAML, two documents, too deep) raises ScenarioError; the others (a
doubled key, a key that is no text, a tag, an alias inside itself) stand in `Document.mistakes`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from torussim.errors import Keys, Mark, Mistake, ScenarioError
from torussim.spelling import nearest

MAX_DEPTH = 100
MAX_VALUES = 100_000  # aliases filled in

# The core schema of YAML 1.2.2, section 10.3.2.
_WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INVALID = re.compile(  # characters, and two things that make ruamel raise what is no YAMLError
    r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
    r"|\\U(?!000|0010)[0-9a-fA-F]{8}|(?<![^\n\r\x85\u2028\u2029])%YAML(?!\s+1\.[12]\b).*"
)

# What is in ruamel's context, what in its problem, and better words for it.
_BETTER = (
    ("", "maximum depth", f"nested deeper than {MAX_DEPTH} levels"),
    ("", "found another document", "a second document starts here: only one is allowed in a file"),
    ("", "character '\\t' that cannot start", "a tab cannot indent: use spaces"),
    ("", "that cannot start any token", "{words[2]} cannot start a value: put the value in quotes"),
    ("", "mapping values are not", "a ':' cannot stand here: mend the indentation, or put a text with ':' in quotes"),
    ("", "could not find expected ':'", "there is no ':' after the key{at}"),
    ("parsing a flow", "expected ','", "a ',' is missing here, or the bracket{at} is not closed"),
    ("flow node", "'<stream end>'", "the text ends where a value is expected: a bracket is not closed"),
    ("quoted scalar", "found unexpected", "the quoted text{at} is not closed"),
    ("", "expected <block end>", "this does not fit the block{at}: mend the indentation or the quotes"),
    ("", "undefined alias", "no anchor above has the name {words[3]}: put a text that begins with '*' in quotes"),
)


@dataclass(frozen=True)
class Document:
    """A value made of dicts, lists and scalars, and the places that its parts were read from."""

    value: Any
    file: str
    marks: Mapping[Keys, Mark] = field(repr=False)  # of values
    key_marks: Mapping[Keys, Mark] = field(repr=False)  # of keys of mappings
    mistakes: tuple[Mistake, ...] = ()

    def where(self, path: Keys) -> Mark:
        """Return the place of the value at `path`; if there is none, of the key of the nearest parent that exists."""
        return self.marks[path] if path in self.marks or not path else self.where_key(path[:-1])

    def where_key(self, path: Keys) -> Mark:
        """Return the place of the key at `path`; if it has none, that of the value."""
        return self.key_marks[path] if path in self.key_marks else self.where(path)


def read(path: Path | str) -> Document:
    """Return the content of a YAML file in UTF-8; raise ScenarioError if it cannot be read."""
    try:
        text = Path(path).read_bytes().decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        reason = f"not UTF-8, byte 0x{error.object[error.start]:02x} in line {line}"
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        reason = (getattr(error, "strerror", None) or str(error)).lower() + _instead(Path(path), error)
    else:
        return parse(text, str(path))
    _fail(f"cannot be read: {reason}", Mark(str(path), 1, 1), code="unreadable")


def _instead(path: Path, error: Exception) -> str:
    """Return what to name in place of a file that cannot be read, where that can be guessed."""
    if isinstance(error, IsADirectoryError):
        return ": name a file in it"
    if not isinstance(error, FileNotFoundError) or not path.parent.is_dir():
        return ""
    files = [one.name for one in path.parent.iterdir() if one.suffix in (".yaml", ".yml", ".json")]
    near = nearest(path.name, sorted(files))
    return f": did you mean {near!r}?" if near else ""


def parse(text: str, file: str) -> Document:
    """Return the content of a YAML text; `file` is the name for its places. Raise ScenarioError if it is no YAML."""
    found = fragment(text, file)
    if found is None:
        _fail("the file is empty", Mark(file, 1, 1))
    return found


def fragment(text: str, file: str) -> Document | None:
    """Return the content of a YAML text, or None if there is nothing in it."""
    node = _compose(text, file)
    if node is None or (node.id == "scalar" and node.value == "" and node.style is None):
        return None
    reading = _Reading(file)
    value = _construct(node, (), reading)
    return Document(value, file, reading.marks, reading.key_marks, tuple(reading.mistakes))


def from_value(value: Any, name: str = "<dict>") -> Document:
    """Return a document for plain Python data, all of it at the one place `name`:1:1."""
    return Document(value, name, {(): Mark(name, 1, 1)}, {})


@dataclass
class _Reading:
    """What one walk over the nodes of a document gathers."""

    file: str
    marks: dict[Keys, Mark] = field(default_factory=dict)
    key_marks: dict[Keys, Mark] = field(default_factory=dict)
    mistakes: dict[Mistake, None] = field(default_factory=dict)  # in order, once each
    entered: set[int] = field(default_factory=set)  # identities of the nodes around the present one
    values: Iterator[int] = field(default_factory=lambda: count(1))

    def mark(self, node: Any) -> Mark:
        return Mark(self.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def add(self, text: str, node: Any, code: str = "syntax", path: Keys = ()) -> None:
        self.mistakes[Mistake(text, self.mark(node), code, path)] = None


def _construct(node: Any, path: Keys, reading: _Reading) -> Any:
    """Return the Python value of the node at `path`."""
    mark = reading.mark(node)
    if next(reading.values) > MAX_VALUES:
        _fail(f"more than {MAX_VALUES} values, aliases filled in", mark, reading.mistakes, code="limit")
    if len(reading.entered) >= MAX_DEPTH:
        _fail(f"nested deeper than {MAX_DEPTH} levels", mark, reading.mistakes, code="limit")
    if id(node) in reading.entered:
        reading.add(f"the alias '*{node.anchor}' stands inside what it is an alias of", node)
        return None
    reading.marks[path] = mark
    if node.id == "scalar":
        return _scalar(node, reading)
    _tag(node, reading)
    reading.entered.add(id(node))
    if node.id == "sequence":
        value: Any = [_construct(item, (*path, index), reading) for index, item in enumerate(node.value)]
    else:
        value = _mapping(node, path, reading)
    reading.entered.remove(id(node))
    return value


def _mapping(node: Any, path: Keys, reading: _Reading) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _key(key_node, reading)
        if key is None or key in value:
            if key is not None:
                first = reading.key_marks[*path, key]
                reading.add(f"{key!r} is given twice: first at line {first.line}", key_node, "doubled-key", (*path, key))
            _construct(value_node, path, replace(reading, marks={}, key_marks={}))  # only for the mistakes in it
        else:
            reading.key_marks[*path, key] = reading.mark(key_node)
            value[key] = _construct(value_node, (*path, key), reading)
    return value


def _key(node: Any, reading: _Reading) -> str | None:
    """Return the text of a key, or None if it is not a text, which is a mistake."""
    key = _scalar(node, reading) if node.id == "scalar" else None
    if node.value == "<<" and node.style is None:
        reading.add("'<<' is no key in YAML 1.2, which has no merging: write the keys out", node)
    elif isinstance(key, str):
        return key
    else:
        given = f"a {node.id}" if node.id != "scalar" else f"'{node.value[:20]}'" if node.value else "nothing"
        reading.add(f"{given} is no key: a key must be a text, in quotes where it could be something else", node)
    return None


def _scalar(node: Any, reading: _Reading) -> str | int | float | bool | None:
    text: str = node.value
    if re.search("[\ud800-\udfff]", text):  # JSON escapes a character in two halves
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if re.search("[\0\ud800-\udfff]", text):
        reading.add("an escape in this text stands for a character that is not allowed", node)
        return None
    if _tag(node, reading) or node.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > 1000 and _INTEGER.fullmatch(text):
        reading.add(f"'{text[:20]}...' has {len(text)} digits: too many for a number", node)
        return None
    if _INTEGER.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text) if _FLOAT.fullmatch(text) else text


def _tag(node: Any, reading: _Reading) -> str | None:
    """Return the tag that stands in the file, or None; one that the core schema has no use for is a mistake."""
    if node.ctag.suffix is None:
        return None
    tag = f"{node.ctag.handle or ''}{node.ctag.suffix}"
    if tag != {"scalar": "!!str", "sequence": "!!seq", "mapping": "!!map"}[node.id]:
        reading.add(f"the tag {tag!r} means nothing here: leave it out", node)
    return tag


def _compose(text: str, file: str) -> Any:
    """Return the root node of the one document in `text`, scalars unresolved; None if there is no document."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.resolver import VersionedResolver

    class Unresolved(VersionedResolver):
        def resolve(self, kind: Any, value: Any, implicit: Any) -> None:
            """Leave a node without a tag when it has none in the file."""

    text = text.removeprefix("\ufeff")
    invalid = _INVALID.search(text)
    if invalid:
        before = re.split("\r\n|\r|\n", text[: invalid.start()])
        _fail(f"{invalid[0]!a} is not allowed", Mark(file, len(before), len(before[-1]) + 1))
    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    yaml.Resolver = Unresolved
    yaml.composer.warn_double_anchors = False
    try:
        return yaml.compose(text)
    except MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        _fail(_problem(error), Mark(file, place.line + 1, place.column + 1))


def _problem(error: Any) -> str:
    """Return one line about an error of ruamel's."""
    context, problem = (" ".join((part or "").split()) for part in (error.context, error.problem))
    start = error.context_mark
    at = f" that starts at line {start.line + 1}, column {start.column + 1}" if start else ""
    for inside, what, better in _BETTER:
        if inside in context and what in problem:
            return better.format(at=at, words=problem.split())
    return "not YAML: " + ": ".join(filter(None, [context and context + at, problem]))


def _fail(text: str, mark: Mark, others: Iterable[Mistake] = (), code: str = "syntax") -> NoReturn:
    raise ScenarioError([*others, Mistake(text, mark, code)]) from None
