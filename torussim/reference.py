"""Pages of reference as Markdown, each made from the one source of its subject: forms, keys of a result, docstrings.

The pages are committed as docs/scenario_file.md, docs/result_keys.md and docs/python_api.md; a test fails when one is stale.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any, Final

from torussim import result_keys
from torussim.described import Key
from torussim.docstrings import summary
from torussim.errors import CODES
from torussim.scenario.parts import Part, parts
from torussim.scenario.values import flow
from torussim.units import called

COLUMNS: Final = 110  # of a line of prose
MADE: Final = "<!-- Made by `torussim schema --markdown {page}`; do not edit. -->"


def pages() -> dict[str, Callable[[], str]]:
    """Return the function that makes each page, by its name."""
    return {"scenario_file": scenario_file, "result_keys": result_page, "python_api": python_api}


def page(name: str, title: str, *blocks: str) -> str:
    """Return a page from its title and its blocks."""
    return "\n\n".join([MADE.format(page=name), f"# {title}", *blocks]) + "\n"


def prose(text: str) -> str:
    """Return a paragraph with lines that fit the page."""
    return fill(" ".join(text.split()), COLUMNS, break_long_words=False, break_on_hyphens=False)


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table, without its empty columns."""
    rows = list(rows)
    full = [any(row[i] for row in rows) for i in range(len(heads))]
    heads, *rows = [[cell for cell, shown in zip(row, full) if shown] for row in (heads, *rows)]
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


# -- the scenario file --------------------------------------------------------------------------------------------------


def scenario_file() -> str:
    """Return the page of the scenario file: every key with its meaning, type, unit, default and an example."""
    every = parts()
    listed = "\n".join(f"- [{part.title}](#{anchor(part.title)})" for part in every)
    return page(
        "scenario_file", "Scenario file",
        prose("A scenario file is YAML 1.2 or JSON. An unknown key, a doubled key and a key without a value are errors. A key "
              "that is not given has its default. A quantity is a number in the unit of the column *unit*, or a text with a unit "
              "of its own, such as `45 GB/s`, `400 Gbit/s`, `512 MiB`, `1 us`: GB is 1e9 bytes, GiB is 2**30. `torussim check "
              "FILE` names every mistake in a file. [Design](design.md#5-a-scenario-file) has a whole file, and says what keys "
              "mean together."),
        prose("`torussim schema` prints the JSON Schema of this page. With it an editor completes keys, shows what they mean, "
              "and marks mistakes. With the YAML language server (VS Code: the extension YAML), write it to a file once, and "
              "name that file at the top of a scenario:"),
        "```console\n$ torussim schema > torussim.schema.json\n```",
        "```yaml\n# yaml-language-server: $schema=torussim.schema.json\nmodel: palm-540b\n```",
        listed, *(_section(part, {one.name: one.title for one in every}) for part in every))


def anchor(heading: str) -> str:
    """Return the anchor of a heading as GitHub makes it.

    >>> anchor("topology: a torus, mesh or ring")
    'topology-a-torus-mesh-or-ring'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _section(part: Part, titles: Mapping[str, str]) -> str:
    rows = [(f'<a id="{part.name}-{name}"></a>`{name}`', key.about, key.read.words, key.read.unit, _default(key),
             "" if key.example is None else f"`{flow(key.example)}`") for name, key in part.form.items()]
    beside = " and ".join(f"[{titles[name]}](#{anchor(titles[name])})" for name in part.beside)
    where = f"{part.where} It has the keys of {beside} too." if beside else part.where
    heads = ("key", "meaning", "type", "unit", "default", "example")
    return "\n\n".join([f"## {part.title}", prose(where), *([table(heads, rows)] if rows else [])])


def _default(key: Key) -> str:
    """Return in words the default of a key."""
    if key.needed:
        return "**needed**"
    if key.otherwise:
        return key.otherwise
    return "none" if key.default in (None, "") else f"`{flow(key.default)}`"


# -- the keys of a result -----------------------------------------------------------------------------------------------


def result_page() -> str:
    """Return the page of the keys of result.json."""
    rows = [(f'<a id="{key.path}"></a>`{key.path}`', key.about, result_keys.RUNS[key.runs],
             called(key.unit)[1] if key.unit else "") for key in result_keys.KEYS]
    return page(
        "result_keys", "Keys of result.json",
        prose("`torussim run` writes these keys to `out/<name>/result.json`, and `torussim run --json` prints them. In Python "
              "they are `result.keys`, and attributes of a result, such as `result.step_s`. A `[]` stands for each element of "
              "a list, a `*` for any name. A share is a number from 0 to 1. The paper is Pope et al. 2022, arXiv 2211.05102. "
              "[Design](design.md#6-what-a-run-gives) says how each is computed."),
        table(("key", "meaning", "in", "unit"), rows))


# -- Python -------------------------------------------------------------------------------------------------------------


def python_api() -> str:
    """Return the page of the public names of the package: signatures and first sentences, then the whole docstrings."""
    import torussim

    names = sorted(torussim.__all__, key=str.lower)
    public = {name: getattr(torussim, name) for name in names}
    short = [f"### {name}\n\n```python\n{signature(name, made)}\n```\n\n{prose(summary(made))}" for name, made in public.items()]
    return page(
        "python_api", "Python",
        prose("`import torussim as ts` gives the names of this page. Times are seconds, sizes are bytes, bandwidths are bytes/s "
              "of one direction of one link; a text with a unit, such as `45 GB/s`, is read where a scenario or a chip is given. "
              "Any other module of the package can change without notice."),
        "## Names", *short,
        "## Mistakes",
        prose("A mistake of the user raises `torussim.errors.TorusSimError` or a subclass. Its text is for people and can "
              "change; programs read `code` and `path`, the keys from what was given to what is wrong. `ScenarioError` has "
              "`mistakes`: all those of one file, each with a code, a path and a place."),
        table(("code", "meaning"),
              [(f"`{code}`", f"{meaning[0].upper()}{meaning[1:]}.") for code, meaning in sorted(CODES.items())]),
        "## Docstrings",
        prose("MkDocs shows them here. Elsewhere, `help(torussim.run)` does."), *(f"::: torussim.{name}" for name in names))


def signature(name: str, function: Callable[..., Any]) -> str:
    """Return a function's signature, one parameter a line where it is long.

    >>> signature("called", called)
    'called(unit: str) -> tuple[str, str]'
    """
    found = inspect.signature(function)
    line = _unquoted(f"{name}{found}")
    if len(line) <= COLUMNS - 10:
        return line
    shown, kind = [], None
    for one in found.parameters.values():
        if one.kind is one.KEYWORD_ONLY and kind not in (one.KEYWORD_ONLY, one.VAR_POSITIONAL):
            shown.append("*")
        elif kind is one.POSITIONAL_ONLY and one.kind is not kind:
            shown.append("/")
        shown.append(_unquoted(str(one)))
        kind = one.kind
    returned = "" if found.return_annotation is found.empty else f" -> {found.return_annotation}"
    return f"{name}(\n" + "".join(f"    {part},\n" for part in shown) + f"){returned}"


def _unquoted(text: str) -> str:
    """Return a signature with annotations as the source has them."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
