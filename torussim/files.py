"""YAML files with the place of every key and value; the module knows nothing of the meaning of the keys.

YAML 1.2, core schema: `1e-6` is a number, `no` a word, a date and `1_000` are texts. libyaml (PyYAML) scans and composes. Files
that it rejects, and the few constructs that it reads by YAML 1.1, are read and judged by ruamel.yaml. Plain Python is constructed
here, because the constructors of both stop at the first doubled key and keep no places. A mistake that leaves nothing to check
(no such file, broken YAML, two documents, too deep) raises ScenarioError. Other mistakes (a doubled key, a key that is no text, a
tag, an alias inside itself) are in `Document.mistakes`.
"""

from __future__ import annotations

import errno
import gzip
import math
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

from torussim import units
from torussim.errors import FileError, Keys, Mark, Mistake, ScenarioError
from torussim.spelling import nearest

# The most bytes of a file, also after unpacking, by its purpose (docs/trust.md).
LIMITS: Mapping[str, int] = {"scenario": 2**20, "model": 2**20, "shares": 16 * 2**20, "table": 2**20, "code": 2**20,
                             "measurements": 16 * 2**20, "graph": 256 * 2**20, "result": 2**30, "trace": 2**30}
PACKED = ("graph", "result", "trace")  # kinds of files that may be compressed by gzip

MAX_DEPTH = 100
MAX_VALUES = 100_000  # with aliases expanded

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
_HALF = re.compile("[\ud800-\udfff]")
_INVALID = re.compile(  # characters, and two constructs for which ruamel raises an error that is no YAMLError
    r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
    r"|\\U(?!000|0010)[0-9a-fA-F]{8}|(?<![^\n\r\x85\u2028\u2029])%YAML(?!\s+1\.[12]\b).*"
)
# Directives, tags, anchors, aliases, block scalars, explicit keys, tabs, line breaks of YAML 1.1, surrogate halves.
_RARE = re.compile(r"^%|(?:^|[\s,\[{:-])[!&*?|>]|[\t\x85\u2028\u2029]|\\u[dD][89a-fA-F]", re.MULTILINE)

# Text in ruamel's context, text in its problem, and a better wording.
_BETTER = (
    ("", "maximum depth", f"nested deeper than {MAX_DEPTH} levels"),
    ("", "found another document", "a second document starts here: only one is allowed in a file"),
    ("", "character '\\t' that cannot start", "a tab cannot indent: use spaces"),
    ("", "that cannot start any token", "{words[2]} cannot start a value: put the value in quotes"),
    ("", "mapping values are not", "a ':' cannot stand here: correct the indentation, or put a text with ':' in quotes"),
    ("", "could not find expected ':'", "there is no ':' after the key{at}"),
    ("parsing a flow", "expected ','", "a ',' is missing here, or the bracket{at} is not closed"),
    ("flow node", "'<stream end>'", "the text ends where a value is expected: a bracket is not closed"),
    ("quoted scalar", "found unexpected", "the quoted text{at} is not closed"),
    ("", "expected <block end>", "this does not fit the block{at}: correct the indentation or the quotes"),
    ("", "undefined alias", "no anchor above has the name {words[3]}: put a text that begins with '*' in quotes"),
)


@dataclass(frozen=True)
class Document:
    """A value of dicts, lists and scalars, and the places of its parts in the file."""

    value: Any
    file: str
    marks: Mapping[Keys, Mark] = field(repr=False)  # of values
    key_marks: Mapping[Keys, Mark] = field(repr=False)  # of keys of mappings
    mistakes: tuple[Mistake, ...] = ()

    def where(self, path: Keys) -> Mark:
        """Return the place of the value at `path`; if there is none, of the key of its nearest existing parent."""
        return self.marks[path] if path in self.marks or not path else self.where_key(path[:-1])

    def where_key(self, path: Keys) -> Mark:
        """Return the place of the key at `path`; if it has none, that of the value."""
        return self.key_marks[path] if path in self.key_marks else self.where(path)


def read(path: Path | str, kind: str = "scenario", most: int = 0) -> Document:
    """Return the content of a YAML file in UTF-8; raise ScenarioError if it cannot be read. `kind`, `most`: see `contents`."""
    try:
        return parse(text(path, kind, most), str(path))
    except FileError as error:
        _fail(str(error), Mark(str(path), 1, 1), code=error.code)


def text(path: Path | str, kind: str, most: int = 0) -> str:
    """Return the content of a file in UTF-8. Raise FileError if it cannot be read."""
    data = contents(path, kind, most)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError(f"cannot be read: not UTF-8, byte 0x{data[error.start]:02x} in line {line}") from None


def contents(path: Path | str, kind: str, most: int = 0) -> bytes:
    """Return the bytes of a regular file, unpacked if gzip has compressed them.

    `kind`, one of LIMITS, sets the most bytes of the file, compressed or not; `most` raises this limit. Raise FileError for a
    larger file, and for one that cannot be read: the function never waits for a pipe, and never reads from a device.
    """
    limit = max(LIMITS[kind], most)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not stat.S_ISREG(mode):
            raise FileError("cannot be read: it is a device, a pipe or a socket: name a regular file")
        with open(path, "rb") as file:
            data = file.read(limit + 1)
            if data[:2] == b"\x1f\x8b" and kind in PACKED:
                file.seek(0)
                data = gzip.GzipFile(fileobj=file).read(limit + 1)
    except (OSError, EOFError, ValueError, zlib.error) as error:  # ValueError: NUL in the name
        reason = (getattr(error, "strerror", None) or str(error)).lower() + _instead(Path(path), error)
        raise FileError(f"cannot be read: {reason}") from None
    if len(data) > limit:
        size = units.show(limit, "B", 4)
        raise FileError(f"cannot be read: it is larger than the {size} that {kind} files may have: raise that with "
                        "--max-file-size, such as --max-file-size 2GB", code="limit")
    return data


def begins(path: Path | str, word: bytes) -> bool:
    """Return whether a word stands in the first 4 KiB of a regular file, which gzip may have packed."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        start = file.read(2)
        file.seek(0)
        try:
            return word in (gzip.GzipFile(fileobj=file).read(4096) if start == b"\x1f\x8b" else file.read(4096))
        except (OSError, EOFError, zlib.error):  # whoever reads the file says what is wrong with it
            return False


def _instead(path: Path, error: Exception) -> str:
    """Return a hint at the file to name in place of one that cannot be read, if there is a likely one."""
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
    if node is None or (node.id == "scalar" and node.value == "" and not node.style):
        return None
    reading = _Reading(file)
    value = _construct(node, (), reading)
    return Document(value, file, reading.marks, reading.key_marks, tuple(reading.mistakes))


def from_value(value: Any, name: str = "<dict>") -> Document:
    """Return a document for plain Python data, all of it at the one place `name`:1:1."""
    return Document(value, name, {(): Mark(name, 1, 1)}, {})


def to_yaml(value: Mapping[str, Any]) -> str:
    """Return plain data as YAML that `parse` reads back, keys in their order; the innermost mappings and lists in flow style.

    >>> print(to_yaml({"name": "no", "topology": {"shape": [4, 4], "latency": 1e-6}}), end="")
    name: no
    topology:
      shape: [4, 4]
      latency: 1e-06
    """
    from io import StringIO

    from ruamel.yaml import YAML
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    def flow(part: Any, depth: int) -> Any:
        """Return a part with its style: lists of mappings, and top-level mappings, in block style, other parts in flow style."""
        if isinstance(part, Mapping):
            made: Any = CommentedMap((key, flow(one, depth + 1)) for key, one in part.items())
            inline = depth > 1 and not any(isinstance(one, Mapping) and one for one in part.values())
        elif isinstance(part, list | tuple):
            made = CommentedSeq(flow(one, depth + 1) for one in part)
            inline = not any(isinstance(one, Mapping) for one in part)
        else:
            return part
        if inline:
            made.fa.set_flow_style()
        return made

    yaml, out = YAML(), StringIO()
    yaml.width, yaml.allow_unicode = 110, True
    yaml.representer.add_representer(float, _float)
    yaml.dump(flow(value, 0), out)
    return out.getvalue()


def _float(representer: Any, value: float) -> Any:
    """Return a float in YAML 1.2, with all its digits."""
    words = {math.inf: ".inf", -math.inf: "-.inf"}
    text = ".nan" if value != value else words.get(value) or repr(value)
    return representer.represent_scalar("tag:yaml.org,2002:float", text)


@dataclass
class _Reading:
    """The data collected by one walk over the nodes of a document."""

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
            _construct(value_node, path, replace(reading, marks={}, key_marks={}))  # only to collect its mistakes
        else:
            reading.key_marks[*path, key] = reading.mark(key_node)
            value[key] = _construct(value_node, (*path, key), reading)
    return value


def _key(node: Any, reading: _Reading) -> str | None:
    """Return the text of a key; None if it is no text, which is a mistake."""
    key = _scalar(node, reading) if node.id == "scalar" else None
    if node.value == "<<" and not node.style:
        reading.add("'<<' is not a key: YAML 1.2 has no merge key; write the keys out", node)
    elif isinstance(key, str):
        return key
    else:
        given = f"a {node.id}" if node.id != "scalar" else f"'{node.value[:20]}'" if node.value else "nothing"
        reading.add(f"{given} is not a key: a key must be a text, in quotes where it could be something else", node)
    return None


def _scalar(node: Any, reading: _Reading) -> str | int | float | bool | None:
    text: str = node.value
    if _HALF.search(text):  # JSON escapes a character as two surrogates
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    if "\0" in text or _HALF.search(text):
        reading.add("an escape in this text stands for a character that is not allowed", node)
        return None
    if _tag(node, reading) or node.style:
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
    """Return the tag in the file, or None; a tag outside the core schema is a mistake."""
    if node.tag is None or node.ctag.suffix is None:
        return None
    tag = f"{node.ctag.handle or ''}{node.ctag.suffix}"
    if tag != {"scalar": "!!str", "sequence": "!!seq", "mapping": "!!map"}[node.id]:
        reading.add(f"the tag {tag!r} means nothing here: leave it out", node)
    return tag


def _compose(text: str, file: str) -> Any:
    """Return the root node of the one document in `text`, scalars unresolved; None if there is no document."""
    text = text.removeprefix("\ufeff")
    invalid = _INVALID.search(text)
    if invalid:
        before = re.split("\r\n|\r|\n", text[: invalid.start()])
        _fail(f"{invalid[0]!a} is not allowed", Mark(file, len(before), len(before[-1]) + 1))
    if not _RARE.search(text):
        import yaml

        if yaml.__with_libyaml__:
            try:
                return yaml.compose(text, Loader=_plain_loader(yaml.CLoader, file))
            except yaml.YAMLError:
                pass  # ruamel.yaml finds the mistake
    return _compose_slowly(text, file)


def _plain_loader(loader: Any, file: str) -> Any:
    class Unresolved(loader):  # type: ignore[misc]
        values = 0

        def resolve(self, kind: Any, value: Any, implicit: Any) -> None:
            """Leave a node without a tag if the file gives it none."""

        def descend_resolver(self, node: Any, index: Any) -> None:
            """Resolve no tags; fail at too many values before they take memory (the key of a mapping has no index)."""
            self.values += node is None or index is not None
            if self.values > MAX_VALUES:
                _fail(f"more than {MAX_VALUES} values", Mark(file, node.start_mark.line + 1, node.start_mark.column + 1),
                      code="limit")

        def ascend_resolver(self) -> None:
            """Resolve no tags."""
    return Unresolved


def _compose_slowly(text: str, file: str) -> Any:
    """Return the result of `_compose` by ruamel.yaml. Raise ScenarioError, with the place, for invalid YAML."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.resolver import VersionedResolver

    yaml = YAML(typ="safe", pure=True)
    yaml.max_depth = MAX_DEPTH
    yaml.Resolver = _plain_loader(VersionedResolver, file)
    yaml.composer.warn_double_anchors = False
    try:
        return yaml.compose(text)
    except MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        _fail(_problem(error), Mark(file, place.line + 1, place.column + 1))


def _problem(error: Any) -> str:
    """Return one line about an error of ruamel.yaml."""
    context, problem = (" ".join((part or "").split()) for part in (error.context, error.problem))
    start = error.context_mark
    at = f" that starts at line {start.line + 1}, column {start.column + 1}" if start else ""
    for inside, what, better in _BETTER:
        if inside in context and what in problem:
            return better.format(at=at, words=problem.split())
    return "not YAML: " + ": ".join(filter(None, [context and context + at, problem]))


def _fail(text: str, mark: Mark, others: Iterable[Mistake] = (), code: str = "syntax") -> NoReturn:
    raise ScenarioError([*others, Mistake(text, mark, code)]) from None
