"""Documents are true to the code: citations and links lead somewhere, and docs/design.md names what there is, and no more."""

import ast
import io
import re
import tokenize
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from test_levels import INSIDE, level, modules

import torussim
from torussim import run
from torussim.answer import Interrupted
from torussim.program import Block, Compute
from torussim.result_keys import KEYS
from torussim.scenario import changed, forms, load

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted(file for folder in ("torussim", "tests", "plots", "scenarios") for ext in ("py", "yaml")
                 for file in (ROOT / folder).rglob(f"*.{ext}"))
DESIGN = (ROOT / "docs" / "design.md").read_text()
COLUMNS = 110
DOCUMENT = re.compile(r"(?<![\w./-])((?:docs/)?[A-Za-z]\w*\.md|README|CONTRIBUTING|CHANGELOG|DESIGN|REFERENCE|STYLE|ROADMAP)"
                      r"\b(?!\.\w)")
PLACE = re.compile(r",? (?:section )?(?P<number>\d+)\b(?:, \"(?P<inner>[^\"]+)\")?|, \"(?P<quoted>[^\"]+)\"|, (?P<words>[A-Z].*)")
BEFORE = re.compile(r"section (\d+) of $")
FILE = re.compile(r"(?<![\w./-])(?:(?:torussim|tests|plots|scenarios|docs)/[\w/*.-]*\w\.(?:py|yaml|md|png)|\.ci/\w+)")


def name(file):
    return str(file.relative_to(ROOT))


# What documents say, and where it leads


def prose(text):
    """Return a Markdown text with its code blocks left empty, line by line."""
    found, code = [], False
    for line in text.splitlines():
        fence = line.startswith("```")
        code ^= fence
        found.append("" if code or fence else line)
    return found


def headings(document):
    return [line.lstrip("#").strip() for line in prose(document.read_text()) if re.match(r"#+ ", line)]


def anchors(document):
    """Return the anchors of headings as GitHub makes them, and those that stand in the text."""
    there = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(document)}
    return there | set(re.findall(r'<a id="([^"]+)">', document.read_text()))


@cache
def said(file):
    """Return what a file says to its readers, as texts on one line each: docstrings and comments, or all of it."""
    text = file.read_text()
    if file.suffix == ".md":
        found = [re.sub(r"\]\([^)]*\)", "]", text)]
    elif file.suffix == ".yaml":
        found = [text.replace("\n#", "\n")]
    else:
        found = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(text))
                 if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
        last = -1
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                words = token.string.lstrip("#")
                found = [*found[:-1], found[-1] + words] if last == token.start[0] - 1 else [*found, words]
                last = token.start[0]
    return [" ".join(text.split()) for text in found]


def lost_citations(text):
    """Return the citations of documents of the repository in a text that lead nowhere."""
    lost = []
    for cited in DOCUMENT.finditer(text):
        file = ROOT / (cited[1] if cited[1].endswith(".md") else f"{cited[1]}.md")
        if not file.is_file():
            lost.append(cited[0])
            continue
        there = headings(file)
        numbers = {heading.partition(".")[0] for heading in there}
        place, before = PLACE.match(text, cited.end()), BEFORE.search(text[:cited.start()])
        number = before[1] if before else place["number"] if place else None
        heading = (place["inner"] or place["quoted"]) if place else None
        words = place["words"] if place else None
        sound = ((number is None or number in numbers) and (heading is None or heading in there)
                 and (words is None or any(re.match(rf"{re.escape(one)}(?!\w)", words) for one in there)))
        if not sound:
            lost.append(text[cited.start():cited.end() + 40])
    return lost


@pytest.mark.parametrize("file", [*SOURCES, *DOCUMENTS], ids=name)
def test_every_citation_of_a_document_leads_to_it_and_to_its_section(file):
    assert not [lost for text in said(file) for lost in lost_citations(text)]


@pytest.mark.parametrize("text, lost", [
    ("as docs/design.md, section 4, says", 0), ("(docs/design.md 4)", 0), ('docs/design.md 4, "Repetition"', 0),
    ("section 4 of docs/design.md", 0), ("fitted (README, How fast); a unit", 0), ("as README shows it", 0),
    ('README, "Documentation"', 0), ("docs/validation.md, How far off", 0), ("https://example.org/docs/DESIGN.md", 0),
    ("(DESIGN 4)", 1), ("the end of REFERENCE.md", 1), ("docs/desing.md", 1), ("docs/design.md, section 11", 1),
    ("section 11 of docs/design.md", 1), ('docs/design.md 4, "Repetitions"', 1), ("README, How fas", 1),
    ("README, How fasts", 1), ("README, Why", 1), ("docs/design.md 0 and README, How near", 2)])
def test_a_citation_that_leads_nowhere_is_found(text, lost):
    assert len(lost_citations(text)) == lost


def test_citations_are_looked_for_in_docstrings_comments_and_sources():
    found = {name(file) for file in SOURCES if any(DOCUMENT.search(text) for text in said(file))}
    assert {"torussim/result.py", "torussim/files.py", "torussim/data/chips/tpu-v5e.yaml", "tests/oracle.py"} <= found


@pytest.mark.parametrize("file", [*SOURCES, *DOCUMENTS], ids=name)
def test_every_file_of_the_repository_that_is_named_is_there(file):
    named = {one for text in said(file) for one in FILE.findall(text)}
    assert not sorted(one for one in named if not any(ROOT.glob(one)))


def lost_links(text, file):
    """Return the links of a Markdown text, as one in a file, that lead to nothing in the repository."""
    lost = []
    for link in re.findall(r"\]\(([^)\s]+)\)", "\n".join(prose(text))):
        path, _, anchor = link.partition("#")
        target = file.parent / path if path else file
        if not re.match(r"https?:", link) and not (target.exists() and (not anchor or anchor in anchors(target))):
            lost.append(link)
    return lost


@pytest.mark.parametrize("file", DOCUMENTS, ids=name)
def test_every_link_leads_to_a_file_and_an_anchor_that_are_there(file):
    assert not lost_links(file.read_text(), file)


@pytest.mark.parametrize("text, lost", [
    ("[trust](docs/trust.md), [fast](#how-fast), ![a](plots/links.png)", 0), ("[trust](trust.md)", 1), ("[fast](#how-far)", 1),
    ("[trust](docs/design.md#8-trust), [web](https://example.org/none#x)", 0), ("[trust](docs/design.md#9-trust)", 1),
    ("```\n[code](none.md)\n```", 0)])
def test_a_link_that_leads_nowhere_is_found(text, lost):
    assert len(lost_links(text, ROOT / "README.md")) == lost


@pytest.mark.parametrize("file", DOCUMENTS, ids=name)
def test_lines_of_prose_fit_the_page(file):
    assert not [line for line in prose(file.read_text()) if len(line) > COLUMNS and not line.startswith("|")]


# docs/design.md against the code


def section(number):
    """Return the text of a section of docs/design.md."""
    return re.search(rf"^## {number}\. .*?(?=^## |\Z)", DESIGN, re.M | re.S)[0]


def tables(number):
    """Return the tables of a section as lists of rows of cells, without their heads."""
    return [[[cell.strip() for cell in row.strip("|").split(" | ")] for row in found.splitlines()[2:]]
            for found in re.findall(r"(?:^\|.*\n)+", section(number), re.M)]


def ticked(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_the_rooms_are_the_modules_of_the_package_in_their_order():
    rows, packages = tables(3)
    inside = {ticked(package)[0]: ticked(listed) for package, listed in packages}
    top = [ticked(cell) for cell, _ in rows]
    listed = [one for row in top for one in row if one not in inside]
    listed += [f"{package}.{module}" for package, names in inside.items() for module in names]
    assert len(set(listed)) == len(listed)
    there = {module for module in modules() if not module.endswith("__init__") and module != "__main__"}
    assert there == set(listed)
    levels = [[level(one) for one in row if level(one) is not None] for row in top]
    assert all(len(set(row)) <= 1 for row in levels)
    assert [row[0] for row in levels if row] == sorted({row[0] for row in levels if row})
    for package, order in INSIDE.items():
        assert [one for one in inside[package] if one in order] == order


def test_section_2_names_every_public_verb():
    assert set(torussim.__all__) <= set(ticked(section(2)))


def test_the_scenario_and_the_program_of_section_5_can_be_loaded():
    scenario, program = (YAML(typ="safe", pure=True).load(block) for block in re.findall(r"```yaml\n(.*?)```", section(5), re.S))
    assert set(scenario) == set(forms.TOP) - {"program", "code"}
    assert load(scenario).workload.tokens == 64
    assert load({"chip": "tpu-v4", "topology": scenario["topology"], **program}).program.block[1].after == ("gather",)


def flat(value, known, path=""):
    """Return the names of all that is in the value of a key, as docs/result_keys.md writes them; `known`: those of the page."""
    if isinstance(value, list):
        found = set().union(*(flat(part, known, f"{path}[]") for part in value))
        return found if any(key.startswith(f"{path}[]") for key in known) else {path}
    if not hasattr(value, "items") or path in known:
        return {path} if value is not None or path in known else set()
    before, anything = f"{path}." if path else "", any(key.startswith(f"{path}.*") for key in known)
    return set().union(*(flat(part, known, before + ("*" if anything else key)) for key, part in value.items()))


def interrupted(scenario):
    """Return the partial result of a scenario that Ctrl-C ends in its second pass."""
    def progress(done, of):
        if done > of // 2:
            raise KeyboardInterrupt
    with pytest.raises(Interrupted) as stopped:
        run(scenario, progress=progress)
    return stopped.value.result


@pytest.fixture(scope="module")
def results():
    """Return a small run of each kind, with all that it has keys for."""
    common = {"chip": "tpu-v4", "topology": {"shape": [2, 2, 2], "latency": "1 us"}}
    decode = {**common, "model": {"base": "palm-8b", "layers": 2}, "layout": {"attention": "batch"}, "expect": {"step_s": 1e-3},
              "workload": {"phase": "decode", "batch": 6, "context": 16}}
    mixture = {"base": "llama-3-8b", "layers": 2, "heads": 6, "kv_heads": 6, "experts": 4, "experts_per_token": 2}
    slow = {**common["topology"], "links": [{"from": [0, 0, 0], "to": [1, 0, 0], "scale": 0.1}]}
    bare = {**common, "program": [{"name": "gather", "collective": "all_gather", "axes": "xyz", "bytes": "1 MB"}]}
    one = load(bare)
    several = changed(one, program=replace(one.program, more=(Block((Compute("work", flops=1e9),), 2),)))
    cores = {"topology": {"slice": "v7x-1x1x1"}, "program": [{**bare["program"][0], "axes": ["core"]}]}
    return {("every run", "model"): run(decode), ("every run", "cores"): run(cores),
            ("every run", "model", "faults"): run({**decode, "topology": slow}),
            ("every run", "model", "generate"): run({**decode, "layout": {"pipeline": "x"}, "model": mixture,
                                                     "workload": {**decode["workload"], "phase": "generate"}}),
            ("every run", "model", "interrupted"): interrupted({**decode, "workload": {**decode["workload"], "tokens": 2}}),
            ("every run",): run(several), ("every run", "faults"): run({**bare, "topology": slow})}


def test_the_keys_that_runs_give_are_those_that_are_described(results):
    """Every run has the keys that the table says it has, and each of them is in some run."""
    where = {key.path: key.runs for key in KEYS}
    assert len(where) == len(KEYS)
    tops = {re.split(r"[.\[]", key)[0]: kind for key, kind in where.items()}
    seen = set()
    for kinds, result in results.items():
        given = dict(result.keys)
        wanted = {key for key, kind in tops.items() if kind in kinds}
        assert given.keys() == wanted, kinds
        found = flat(given, where)
        assert found <= where.keys(), kinds
        seen |= found
    assert seen == where.keys()


# docs/glossary.md: a word of ours stands there once

GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()


def entries(text):
    """Return the groups of a glossary, each a list of (word, what is said of it)."""
    groups = re.split(r"^## .*$", text, flags=re.M)[1:]
    return [re.findall(r"^- \*\*(.+?)\*\*: (.+)$", re.sub(r"\n  ", " ", group), re.M) for group in groups]


def glossary_mistakes(text):
    """Return the words of a glossary that stand twice, that are out of order, or whose entry names no place that there is."""
    groups = entries(text)
    count = Counter(word.lower() for group in groups for word, _ in group)
    found = [word for word, times in count.items() if times > 1]
    for group in groups:
        found += [b for (a, _), (b, _) in pairwise(group) if a.lower() > b.lower()]
        for word, meaning in group:
            place = re.search(r"\((?:`torussim/([\w/]+)\.py`|\[[^]]+\]\(([^)]+)\))\)$", meaning)
            there = place and (place[1].replace("/", ".") in modules() if place[1]
                               else not lost_links(place[0], ROOT / "docs" / "glossary.md"))
            found += [] if there else [word]
    return found


def test_the_glossary_has_each_word_once_in_order_and_where_it_is_described():
    assert not glossary_mistakes(GLOSSARY)
    assert sum(map(len, entries(GLOSSARY))) == GLOSSARY.count("\n- ") > 80


@pytest.mark.parametrize("text, mistakes", [
    ("- **Hop**: A way. (`torussim/program.py`)\n- **lane**: Chips\n  in a row. ([section 4](design.md#routing))\n", []),
    ("- **lane**: Chips. (`torussim/program.py`)\n- **hop**: A way. (`torussim/program.py`)\n", ["hop"]),
    ("- **hop**: A way. (`torussim/program.py`)\n\n## More\n- **Hop**: Another. (`torussim/program.py`)\n", ["hop"]),
    ("- **hop**: A way. (`torussim/engine/agendas.py`)\n", ["hop"]), ("- **hop**: A way.\n", ["hop"]),
    ("- **hop**: A way. ([section 4](design.md#routings))\n", ["hop"])])
def test_a_mistake_in_a_glossary_is_found(text, mistakes):
    assert glossary_mistakes("# Glossary\n\n## Words\n" + text) == mistakes


@pytest.mark.parametrize("file", ["README.md", "docs/design.md"])
def test_the_glossary_is_linked(file):
    assert "glossary.md)" in (ROOT / file).read_text()
