"""YAML files: what they say, where they say it, and what is wrong with them."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from torussim import edits, files
from torussim.errors import Mark, ScenarioError
from torussim.files import Document, Keys

SCENARIO = """\
name: a test
topology:
  kind: torus
  shape: [4, 4, 4]
  links:
    - {from: [0, 0], scale: 0.5}
    - axis: z
      scale: 2
workload:
  tokens: 64
"""

# What JSON lets stand, but YAML does not, or (the last three) ruamel takes for ends of lines as YAML 1.1 does.
NOT_IN_YAML = "[\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff\x85\u2028\u2029]"

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3))


def places(document: Document) -> dict[Keys, str]:
    return {path: f"{mark.line}:{mark.column}" for path, mark in document.marks.items()}


def paths(value: Any) -> set[Keys]:
    """Return the paths of all parts of a value, the slow way."""
    if isinstance(value, dict):
        items: list[Any] = list(value.items())
    else:
        items = list(enumerate(value)) if isinstance(value, list) else []
    return {(), *((key, *rest) for key, part in items for rest in paths(part))}


def broken(text: str) -> str:
    """Return the one message that a text is refused with."""
    with pytest.raises(ScenarioError) as caught:
        files.parse(text, "f")
    assert len(caught.value.mistakes) == 1
    return str(caught.value)


def mistakes(text: str) -> list[str]:
    return [str(mistake) for mistake in files.parse(text, "f").mistakes]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-6", 1e-6),
        ("-.5E+3", -500.0),
        ("12.", 12.0),
        ("12", 12),
        ("+012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("2024-01-31", "2024-01-31"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("12:30:45", "12:30:45"),
        ("tRUE", "tRUE"),
        ("45 GB/s", "45 GB/s"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("=", "="),
    ],
)
def test_a_scalar_is_what_the_core_schema_of_yaml_1_2_says(text: str, value: Any) -> None:
    got = files.parse(f"a: {text}", "f")
    assert got.value == {"a": value}
    assert type(got.value["a"]) is type(value)
    assert got.mistakes == ()
    assert files.parse(f"%YAML 1.1\n---\na: {text}", "f").value == {"a": value}


def test_not_a_number_is_read() -> None:
    assert math.isnan(files.parse("a: .nan", "f").value["a"])


@given(values)
@example("\N{GRINNING FACE}")
def test_json_is_yaml(value: Any) -> None:
    escaped, plain = json.dumps({"a": value}), json.dumps({"a": value}, indent="\t", ensure_ascii=False)
    for text in [escaped] + [plain] * (not re.search(NOT_IN_YAML, plain)):
        got = files.parse(text, "f")
        assert got.value == {"a": value}
        assert got.mistakes == ()
        assert set(got.marks) == paths(got.value)
        assert set(got.key_marks) == {path for path in got.marks if path and isinstance(path[-1], str)}


def test_every_value_and_key_has_its_place() -> None:
    document = files.parse(SCENARIO, "s.yaml")
    assert document.value["topology"]["links"][1] == {"axis": "z", "scale": 2}
    assert document.where(()) == Mark("s.yaml", 1, 1)
    assert document.where(("topology", "shape", 2)) == Mark("s.yaml", 4, 17)
    assert document.where(("topology", "links", 0, "scale")) == Mark("s.yaml", 6, 29)
    assert document.where(("topology", "links", 1)) == Mark("s.yaml", 7, 7)
    assert document.where_key(("topology", "links", 0, "scale")) == Mark("s.yaml", 6, 22)
    assert document.where_key(("workload",)) == Mark("s.yaml", 9, 1)
    assert set(document.marks) == paths(document.value)


def test_a_path_that_is_not_there_has_the_place_of_its_nearest_parent() -> None:
    document = files.parse(SCENARIO, "s.yaml")
    assert document.where(("topology", "wrap")) == Mark("s.yaml", 2, 1)
    assert document.where(("topology", "twist", "x", "z")) == Mark("s.yaml", 2, 1)
    assert document.where(("topology", "links", 1, "to")) == Mark("s.yaml", 7, 7)
    assert document.where(("layout",)) == Mark("s.yaml", 1, 1)
    assert document.where_key(("topology", "wrap")) == Mark("s.yaml", 2, 1)
    assert document.where_key(("topology", "shape", 1)) == Mark("s.yaml", 4, 14)


def test_lines_end_as_they_do_anywhere() -> None:
    for end in ("\n", "\r\n", "\r"):
        assert files.parse(f"\ufeffa: 1{end}b: 2", "f").where(("b",)) == Mark("f", 2, 4)
        assert broken(f"a: 1{end}b: \0") == r"f:2:4: '\x00' is not allowed"


def test_an_alias_is_what_it_stands_for_at_the_place_where_that_is() -> None:
    document = files.parse("a: &x {b: [1]}\nc: *x\n&k d: 1\n*k : 2\n", "f")
    assert document.value == {"a": {"b": [1]}, "c": {"b": [1]}, "d": 1}
    assert document.value["a"] is not document.value["c"]
    assert document.where(("c", "b", 0)) == Mark("f", 1, 12)
    assert [str(mistake) for mistake in document.mistakes] == ["f:3:1: 'd' is given twice: first at line 3"]
    assert files.parse("a: &x 1\nb: &x 2\nc: *x", "f").value == {"a": 1, "b": 2, "c": 2}


def test_all_doubled_keys_are_found_and_the_first_value_counts() -> None:
    document = files.parse("a: 1\nb: {c: 1, c: 2, c: 3}\na: {d: 1, d: 2}\n", "f")
    assert document.value == {"a": 1, "b": {"c": 1}}
    assert [str(mistake) for mistake in document.mistakes] == [
        "f:2:11: 'c' is given twice: first at line 2",
        "f:2:17: 'c' is given twice: first at line 2",
        "f:3:1: 'a' is given twice: first at line 1",
        "f:3:11: 'd' is given twice: first at line 3",
    ]
    assert places(document) == {(): "1:1", ("a",): "1:4", ("b",): "2:4", ("b", "c"): "2:8"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1: x", "f:1:1: '1' is not a key: a key must be a text, in quotes where it could be something else"),
        ("a: {true: x}", "f:1:5: 'true' is not a key"),
        (": x", "f:1:1: nothing is not a key"),
        ("? [a]\n: x", "f:1:3: a sequence is not a key"),
        ("? {a: b}\n: x", "f:1:3: a mapping is not a key"),
        ("a: &b {c: 1}\nd:\n  <<: *b", "f:3:3: '<<' is not a key: YAML 1.2 has no merge key; write the keys out"),
        ("a: !foo 1", "f:1:4: the tag '!foo' means nothing here: leave it out"),
        ("a: !!binary x", "f:1:4: the tag '!!binary' means nothing here: leave it out"),
        ("a: !!int '1'", "f:1:4: the tag '!!int' means nothing here: leave it out"),
        ("a: !<x> {b: 1}", "f:1:4: the tag 'x' means nothing here: leave it out"),
        ("a: !!set [1]", "f:1:4: the tag '!!set' means nothing here: leave it out"),
        ("a: &x [1, *x]", "f:1:4: the alias '*x' stands inside what it is an alias of"),
        ("a: &x {b: {c: *x}}", "f:1:4: the alias '*x' stands inside what it is an alias of"),
        (r'a: "\ud800"', "f:1:4: an escape in this text stands for a character that is not allowed"),
        (r'a: "\0"', "f:1:4: an escape in this text stands for a character that is not allowed"),
        ("a: " + "9" * 5000, "f:1:4: '99999999999999999999...' has 5000 digits: too many for a number"),
    ],
)
def test_a_mistake_that_leaves_a_value_is_kept_with_its_place(text: str, message: str) -> None:
    assert len(mistakes(text)) == 1
    assert mistakes(text)[0].startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f:1:1: the file is empty"),
        ("# nothing\n\n", "f:1:1: the file is empty"),
        ("---\n", "f:1:1: the file is empty"),
        ("a: 1\n---\nb: 2\n", "f:2:1: a second document starts here: only one is allowed in a file"),
        ("a:\n\tb: 1", "f:2:1: a tab cannot indent: use spaces"),
        ("a: [1,\n  2", "f:2:4: a ',' is missing here, or the bracket that starts at line 1, column 4 is not closed"),
        ("a: {b: 1\nc: 2}", "f:2:2: a ',' is missing here, or the bracket that starts at line 1, column 4"),
        ("a: [", "f:1:5: the text ends where a value is expected: a bracket is not closed"),
        ("a: 'b\n", "f:2:1: the quoted text that starts at line 1, column 4 is not closed"),
        ("a: b: c", "f:1:5: a ':' cannot stand here: correct the indentation, or put a text with ':' in quotes"),
        ("a: 1\n  b: 1", "f:2:4: a ':' cannot stand here"),
        ("a: 1\nb\n", "f:3:1: there is no ':' after the key that starts at line 2, column 1"),
        ("a: @b", "f:1:4: '@' cannot start a value: put the value in quotes"),
        ("a:\n  - 1\n b: 2", "f:3:2: this does not fit the block that starts at line 1, column 1: correct the indent"),
        ("a: 'it's'", "f:1:8: this does not fit the block"),
        ("a: *b", "f:1:4: no anchor above has the name 'b': put a text that begins with '*' in quotes"),
        ("a: - b", "f:1:4: not YAML: sequence entries are not allowed here"),
        (r'a: "\q"', "f:1:6: not YAML: while scanning a double-quoted scalar that starts at line 1, column 4: found"),
        ("a: b\x07", r"f:1:5: '\x07' is not allowed"),
        ("a: \ud800", r"f:1:4: '\ud800' is not allowed"),
        ("a: b\ufeff", r"f:1:5: '\ufeff' is not allowed"),
        (r'a: "\U00110000"', r"f:1:5: '\\U00110000' is not allowed"),
        ("%YAML 1.3\n---\na: 1", "f:1:1: '%YAML 1.3' is not allowed"),
        ("[" * 101, "f:1:101: nested deeper than 100 levels"),
        ("[" * 100_000, "f:1:101: nested deeper than 100 levels"),
        ("- " * 100_000, "f:1:201: nested deeper than 100 levels"),
    ],
)
def test_a_text_that_is_no_yaml_is_refused_with_its_place_on_one_line(text: str, message: str) -> None:
    assert broken(text).startswith(message)
    assert "\n" not in broken(text)


def test_nesting_is_allowed_to_100_levels_also_through_aliases() -> None:
    deep = files.parse("a: " + "[" * 98 + "0" + "]" * 98, "f")
    assert ("a", *[0] * 98) in deep.marks
    half = "[" * 60
    assert broken(f"a: &a {half}1{']' * 60}\nb: {half}*a{']' * 60}") == "f:1:46: nested deeper than 100 levels"


def test_an_alias_bomb_is_refused_quickly() -> None:
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 20)]
    assert "more than 100000 values, aliases filled in" in broken("\n".join(lines))


def test_mistakes_before_one_that_ends_the_reading_are_told_with_it() -> None:
    bomb = "\n".join([f"a{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else '1'] * 50)}]" for n in range(5)])
    with pytest.raises(ScenarioError, match=r"(?s)'b' is given twice: first at line 1.*more than 100000 values"):
        files.parse(f"b: 1\nb: 2\n{bomb}", "f")


YAML_LIKE = "ab1: -?[]{},&*!|>'\"%@`#~\\\n\t\r.x0eU<=\0\ud800\u2028\x85\ufeff"


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from(YAML_LIKE), max_size=40) | st.text(max_size=20))
@example(":")
@example("\r%YAML 1.3\n--- a")
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    try:
        document = files.parse(text, "f")
    except ScenarioError as error:
        found, value = error.mistakes, {}
    else:
        found, value = document.mistakes, document.value
        assert set(document.marks) == paths(value)
    lines = re.split("\r\n|\r|\n", text.removeprefix("\ufeff"))
    for mistake in found:
        assert mistake.mark is not None
        assert "\n" not in str(mistake)
        assert mistake.mark.line <= len(lines)
        assert mistake.mark.column <= len(lines[mistake.mark.line - 1]) + 1


def test_a_file_is_read_with_its_name_in_every_place(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("\ufeffname: caf\N{LATIN SMALL LETTER E WITH ACUTE}\n", encoding="utf-8")
    for given_path in (path, str(path)):
        document = files.read(given_path)
        assert document.value == {"name": "caf\N{LATIN SMALL LETTER E WITH ACUTE}"}
        assert document.where(("name",)) == Mark(str(path), 1, 7)
        assert document.file == str(path)


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latin, wide = tmp_path / "latin.yaml", tmp_path / "wide.yaml"
    latin.write_bytes(b"a: 1\nb: caf\xe9\n")
    wide.write_text("a: 1", encoding="utf-16")
    for path, reason in [
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "is a directory"),
        (latin / "x", "not a directory"),
        (latin, "not UTF-8, byte 0xe9 in line 2"),
        (wide, "not UTF-8, byte 0xff in line 1"),
        (Path("a\0b"), "embedded null byte"),
    ]:
        with pytest.raises(ScenarioError, match=re.escape(f"{path}:1:1: cannot be read: {reason}")):
            files.read(path)

    def forbid(path: str) -> None:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr(files.os, "stat", forbid)
    with pytest.raises(ScenarioError, match=r"s\.yaml:1:1: cannot be read: permission denied"):
        files.read("s.yaml")


@pytest.mark.parametrize(
    ("assignment", "path", "value", "column"),
    [
        ("topology.bandwidth=22.5 GB/s", ("topology", "bandwidth"), "22.5 GB/s", 20),
        ("topology.links.0.scale=0.25", ("topology", "links", 0, "scale"), 0.25, 24),
        ("topology.links.1={axis: x}", ("topology", "links", 1), {"axis": "x"}, 18),
        ("workload.tokens= 1", ("workload", "tokens"), 1, 18),
        ("layout.mesh.x=[x/2, y]", ("layout", "mesh", "x"), ["x/2", "y"], 15),
        ("name=a=b", ("name",), "a=b", 6),
        ("name=", ("name",), None, 6),
        ("name=no", ("name",), "no", 6),
    ],
)
def test_an_override_changes_one_value_and_its_place_only(assignment: str, path: Keys, value: Any, column: int) -> None:
    before = files.parse(SCENARIO, "s.yaml")
    after = edits.override(before, assignment)
    got = after.value
    for key in path:
        got = got[key]
    assert got == value
    assert after.where(path) == Mark(f"--set {assignment}", 1, column)
    assert set(after.marks) == paths(after.value)
    for other in set(after.marks) & set(before.marks):
        if other[: len(path)] != path:
            assert after.where(other) == before.where(other)
            assert after.where_key(other) == before.where_key(other)
    assert before == files.parse(SCENARIO, "s.yaml")


def test_the_key_of_an_override_has_the_place_of_the_assignment() -> None:
    after = edits.override(files.parse(SCENARIO, "s.yaml"), "layuot.mesh={x: [y]}")
    assert after.where_key(("layuot",)) == Mark("--set layuot.mesh={x: [y]}", 1, 1)
    assert after.where_key(("layuot", "mesh")) == Mark("--set layuot.mesh={x: [y]}", 1, 1)
    assert after.where_key(("layuot", "mesh", "x")) == Mark("--set layuot.mesh={x: [y]}", 1, 14)
    assert after.where(("layuot",)) == Mark("--set layuot.mesh={x: [y]}", 1, 13)


def test_a_later_override_wins_and_null_becomes_a_mapping() -> None:
    document = files.parse("a: null\nb: {c: {d: 1}}\n", "f")
    for assignment in ("a.x=1", "a.y=2", "b.c=3", "a.x=4"):
        document = edits.override(document, assignment)
    assert document.value == {"a": {"x": 4, "y": 2}, "b": {"c": 3}}
    assert set(document.marks) == paths(document.value)
    assert document.where(("a",)) == Mark("f", 1, 4)


def test_a_long_assignment_is_named_by_its_beginning() -> None:
    long = edits.override(files.from_value({}), f"name={'x' * 100}")
    assert long.where(("name",)) == Mark(f"--set name={'x' * 35}...", 1, 6)
    with pytest.raises(ScenarioError) as caught:
        edits.override(files.from_value({}), "name=[\n1, }")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("foo", "--set foo:1:1: 'foo' is not of the form path=value, such as topology.latency=2us"),
        ("=1", "--set =1:1:1: '=1' is not of the form path=value"),
        ("a..b=1", "--set a..b=1:1:1: 'a..b=1' is not of the form path=value"),
        (".".join("a" * 101) + "=1", "is not of the form path=value"),
        ("topology.links.2.scale=1", "'2' is not an index of the list 'topology.links': its indices are 0 to 1"),
        ("topology.links.-1.scale=1", "'-1' is not an index of the list 'topology.links': its indices are 0 to 1"),
        ("topology.links.x=1", "'x' is not an index of the list 'topology.links'"),
        ("empty.0=1", "'0' is not an index of the list 'empty': its indices are none, since it is empty"),
        ("name.x=1", "--set name.x=1:1:1: cannot set 'x' in 'name', which is 'a test': not a mapping or a list"),
        ("name=[1", "--set name=[1:1:8: a ',' is missing here, or the bracket that starts at line 1, column 6"),
        ("name=a: b: c", "--set name=a: b: c:1:10: a ':' cannot stand here"),
    ],
)
def test_an_override_that_cannot_be_made_is_refused(assignment: str, message: str) -> None:
    document = files.parse(f"{SCENARIO}empty: []\n", "s.yaml")
    with pytest.raises(ScenarioError, match=re.escape(message)):
        edits.override(document, assignment)


def test_mistakes_of_the_file_and_of_overrides_are_kept_together() -> None:
    document = edits.override(files.parse("a: 1\na: 2", "f"), "b={c: 1, c: 2}")
    assert [str(mistake) for mistake in document.mistakes] == [
        "f:2:1: 'a' is given twice: first at line 1",
        "--set b={c: 1, c: 2}:1:10: 'c' is given twice: first at line 1",
    ]


def test_a_document_of_a_plain_value_has_one_place_and_takes_overrides() -> None:
    value = {"topology": {"shape": (4, 4)}}
    document = files.from_value(value)
    assert document.where(("topology", "shape", 1)) == Mark("<dict>", 1, 1)
    assert document.where_key(("topology",)) == Mark("<dict>", 1, 1)
    changed = edits.override(document, "topology.shape.1=8")
    assert changed.value == {"topology": {"shape": [4, 8]}}
    assert changed.where(("topology", "shape", 1)).file == "--set topology.shape.1=8"
    assert changed.where(("topology", "shape", 0)) == Mark("<dict>", 1, 1)
    assert value == {"topology": {"shape": (4, 4)}}
    with pytest.raises(ScenarioError, match="cannot set 'a' in 'the document', which is 3: not a mapping or a list"):
        edits.override(files.from_value(3), "a=1")


def test_a_name_that_has_fields_is_written_out_as_their_base_and_keeps_its_place() -> None:
    before = files.parse("chip: tpu-v4\nmodel: {base: palm-8b}\nname: a\n", "f")
    after = before
    for assignment in ("chip.launch=0", "chip.flops.bf16=1e12", "model.layers=2"):
        after = edits.override(after, assignment, bases=("chip", "model"))
    assert after.value == {"chip": {"base": "tpu-v4", "launch": 0, "flops": {"bf16": 1e12}},
                           "model": {"base": "palm-8b", "layers": 2}, "name": "a"}
    assert set(after.marks) == paths(after.value)
    assert after.where(("chip",)) == after.where(("chip", "base")) == Mark("f", 1, 7)
    assert after.where(("chip", "launch")) == Mark("--set chip.launch=0", 1, 13)
    assert after.where_key(("chip", "launch")) == Mark("--set chip.launch=0", 1, 1)
    assert after.where_key(("chip",)) == before.where_key(("chip",))
    for document, bases in ((before, ()), (before, ("model",))):
        with pytest.raises(ScenarioError, match="cannot set 'launch' in 'chip', which is 'tpu-v4'"):
            edits.override(document, "chip.launch=0", bases=bases)
    with pytest.raises(ScenarioError, match=r"cannot set 'b' in 'chip\.a', which is 'x'"):  # at the top alone
        edits.override(files.parse("chip: {a: x}", "f"), "chip.a.b=0", bases=("chip", "a"))
    assert edits.override(before, "chip=ideal", bases=("chip",)).value["chip"] == "ideal"


def test_ruamel_is_imported_only_when_a_file_is_read() -> None:
    code = "import sys, torussim.files; sys.exit(any(name.startswith('ruamel') for name in sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], cwd=Path(files.__file__).parents[1], check=False).returncode == 0
    )


TOKENS = ["a", "b: ", "- ", "\n", "\n  ", "\n    ", ": ", ":", "{", "}", "[", "]", ", ", ",", "'x'", '"y"', "# c", "#", "1e-6",
          "~", "-", "...", "---", "\n---\n", "'", '"', "  ", "http://x", "a b", "@", "`", "%", "=", "<<", "\u00e9", "''", "\r\n",
          "|", ">", "&", "*", "!", "?", "\\", "\U0001f600", "&k ", "*k", "!!str ", "\t", "? "]


def shape(node: Any) -> Any:
    """Return all that is read of a node: kind, text, whether it is quoted, place (not of what is empty), parts."""
    place = (node.start_mark.line, node.start_mark.column)
    if node.id == "scalar":
        return node.value, bool(node.style), place if node.value or node.style else None
    parts = node.value if node.id == "sequence" else [part for pair in node.value for part in pair]
    return node.id, place, [shape(part) for part in parts]


def composed(compose: Callable[[str, str], Any], text: str) -> Any:
    try:
        node = compose(text, "f")
    except ScenarioError as error:
        return error.mistakes
    return node and shape(node)


@settings(max_examples=400)
@given(st.lists(st.sampled_from(TOKENS), max_size=10).map("".join))
def test_what_the_fast_parser_reads_the_slow_one_reads_alike(text: str) -> None:
    if files._RARE.search(text) or files._INVALID.search(text):
        return  # never read by the fast one
    assert composed(files._compose, text) == composed(files._compose_slowly, text)


def test_the_fast_parser_reads_the_files_of_the_package_as_the_slow_one() -> None:
    for path in sorted(Path(files.__file__).parent.rglob("*.yaml")):
        text = path.read_text()
        assert composed(files._compose, text) == composed(files._compose_slowly, text)
