"""The page to send: one file that needs nothing else, with the numbers of the result; a browser shows it without errors."""

import gzip
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from torussim import analysis, files
from torussim.answer import run
from torussim.cli import cli
from torussim.errors import OutputError
from torussim.page import labels, of, page
from torussim.page.html import Html, escaped, script_json, tag
from torussim.page.lanes import TICKS, lanes, same_block
from torussim.program import Collective
from torussim.report import KINDS, remedies
from torussim.report import text as report_text
from torussim.scenario import load
from torussim.units import show

pytest.importorskip("bokeh", reason="a page needs Bokeh")

ROOT = Path(__file__).resolve().parent.parent
HOSTILE = '</script><img src=x onerror="window.bad=1"><!-- $$x$$ \u2028 &amp; \'"'
SLOW = {"name": "One slow link", "model": {"base": "palm-8b", "layers": 3}, "chip": "tpu-v4", "layout": {"attention": "batch"},
        "topology": {"shape": [4, 2, 2], "latency": "1 us", "links": [{"from": [0, 0, 0], "to": [1, 0, 0], "scale": 0.25}]},
        "workload": {"phase": "decode", "batch": 16, "context": 64}, "expect": {"step_s": {"value": 1e-3, "within": 0.1}}}
BARE = {"name": "A program", "chip": "tpu-v4", "topology": {"shape": [2, 2, 2]},
        "program": [{"name": "gather", "collective": "all_gather", "axes": "xyz", "bytes": "1 MB"}]}
VOID = ("meta", "br", "hr", "col", "input")


def made(*scenarios, chips=()):
    """Return the page of some scenarios, and what it was made of."""
    runs = [of(one, "a.yaml", run(one), chips, label=label)
            for one, label in zip(map(load, scenarios), labels(len(scenarios)), strict=True)]
    return page(runs), runs


@pytest.fixture(scope="module")
def slow():
    return made(SLOW)


class Parsed(HTMLParser):
    """A page as its elements: (name, attributes), its texts without scripts and styles, and whether all ends match."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.texts, self.open, self.data = [], [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        assert self.open.pop() == name

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.data = self.data if self.data else data  # the first script is the data
        elif self.open and self.open[-1] != "style":
            self.texts.append(data)


def data_of(text):
    """Return the data that the script of a page reads."""
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def keyed(text):
    """Return the main numbers of a page by their keys."""
    found = re.findall(r'<dd data-key="(\w+)"><data value="([^"]*)">', text)
    return {key: float(value) for key, value in found}


# -- without a browser


def test_a_page_is_one_file_that_refers_to_nothing_outside(slow):
    found = Parsed(slow[0])
    assert not found.open
    for name, attributes in found.elements:
        assert name not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes and not any(key.startswith("on") for key in attributes)
        assert attributes.get("href", "#").startswith("#")
    style = (ROOT / "torussim" / "page" / "report.css").read_text()
    assert "url(" not in style and "@import" not in style
    ours = "".join((ROOT / "torussim" / "page" / name).read_text() for name in ("lanes.js", "report.js"))
    assert not re.search(r"https?:|fetch\(|XMLHttp|import\(|WebSocket|localStorage|innerHTML", ours)


def test_the_page_of_the_64_chips_is_below_3_mb():
    text, _ = made(files.read(ROOT / "scenarios" / "palm-540b-decode-slow-link.yaml").value)
    assert 1.2e6 < len(text.encode()) < 3e6


def test_the_numbers_of_a_page_are_those_of_the_result(slow):
    text, (one,) = slow
    k = one.keys
    held = sum(k["memory"][key] for key in ("weights", "kv_cache", "activations"))
    assert keyed(text) == {**{key: k[key] for key in ("step_s", "tokens_per_s", "mfu")}, "memory": held / k["memory"]["capacity"]}
    values = {float(value) for value in re.findall(r'<data value="([^"]*)"', text)}
    wanted = {*k["breakdown_s"].values(), *(k["estimate"][key]["step_s"] for key in ("axes", "paper", "bound", "unlooped")),
              *(o["end_s"] - o["start_s"] for o in k["operations"]), *(o["bytes"] for o in k["operations"]),
              *(b["busy"] for b in k["links"]["busiest"]), k["faults"]["step_s"], k["faults"]["worst"][0]["cost"],
              *(e["got"] for e in k["expect"]), *(k["memory"][key] for key in ("weights", "kv_cache", "activations", "capacity"))}
    assert wanted <= values
    assert show(k["step_s"], "s") in text and f"(0,0,0)-(1,0,0) it would take {show(k['faults']['step_s'], 's')}" in text


def test_experts_and_stages_are_said_as_in_the_report():
    one = {"model": "mixtral-8x7b", "chip": "tpu-v5e", "topology": {"kind": "torus", "shape": [2, 2]},
           "layout": {"ffn": "ws1d", "pipeline": {"axis": "x", "microbatches": 2}},
           "workload": {"phase": "decode", "batch": 8, "context": 128}}
    text = html.unescape(str(made(one)[0]))
    for said in ("Experts: 8 over y, 4 on a chip, 2 a token", "Pipeline: 2 stages on x, of 16 layers each; 2 microbatches"):
        assert text.count(said) == 1


def test_two_pages_of_one_scenario_are_the_same_bytes(slow):
    assert made(SLOW)[0] == slow[0]


@pytest.mark.slow
def test_pages_of_two_processes_are_the_same_bytes(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(json.dumps(SLOW))
    pages = []
    for seed in ("1", "2"):
        subprocess.run([sys.executable, "-m", "torussim", "report", file, "-o", tmp_path / "a.html"], check=True, cwd=tmp_path,
                       env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed})
        pages.append((tmp_path / "a.html").read_bytes())
    assert pages[0] == pages[1]


def test_texts_of_a_scenario_are_no_markup_anywhere():
    program = [{**BARE["program"][0], "name": HOSTILE.replace("\u2028", " ")}]
    text, (one,) = made({**BARE, "name": HOSTILE.replace("\u2028", " "), "program": program})
    found = Parsed(text)
    assert not found.open
    assert not [element for element in found.elements if element[0] == "img" or "onerror" in element[1]]
    assert "".join(found.texts).count("onerror") > 2, "the name is shown as a text"
    assert "<img src=x" not in text and "<!-- $$" not in text
    assert data_of(text)["timelines"][0]["operations"][0]["name"] == one.scenario.program.block[0].name


@pytest.mark.parametrize("text", [HOSTILE, "</SCRIPT >", "]]>", "\u2029", "<!--<script>"])
def test_data_in_a_script_is_what_it_was_and_ends_nothing(text):
    written = script_json({text: [text]})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {text: [text]}


@pytest.mark.parametrize("text", [HOSTILE, "a & b", '"', "'>"])
def test_a_text_is_escaped_once_and_markup_is_not(text):
    assert html.unescape(escaped(text)) == text and not set("<>\"'") & set(escaped(text))
    assert escaped(Html("<b>")) == "<b>" and escaped([text, None]) == escaped(text)
    assert Parsed(tag("p", text, title=text)).elements == [("p", {"title": text})]


def test_headings_tables_and_controls_have_names(slow):
    found = Parsed(slow[0])
    ids = [attributes["id"] for _, attributes in found.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for name, attributes in found.elements:
        if name == "section":
            assert attributes["aria-labelledby"] in ids
        if name == "a":
            assert attributes["href"][1:] in ids
        if name == "th":
            assert attributes["scope"] in ("row", "col")
        if attributes.get("role") in ("img", "region", "group"):
            assert attributes["aria-label"]
    names = [name for name, _ in found.elements]
    assert names.count("table") == names.count("caption") > 5
    assert names.count("select") == names.count("label")
    assert names.index("h1") < names.index("h2")


def test_the_scenario_of_a_page_runs_again_with_the_same_answer(slow):
    text, (one,) = slow
    copied = html.unescape(re.search(r'<code id="yaml-0">(.*?)</code>', text, re.S)[1])
    assert files.parse(copied, "a.yaml").value == one.keys["scenario"]
    assert run(files.parse(copied, "a.yaml").value).step_s == one.result.step_s


@pytest.mark.parametrize("scenario", [SLOW, BARE, {**SLOW, "topology": {"kind": "gpu_nodes", "nodes": 2, "mesh": [4, 2, 2]},
                                                   "chip": "h100"}], ids=["torus", "program", "switches"])
def test_the_lanes_hold_the_timeline_of_each_chip(scenario):
    """Operations, messages and waits of the page, made from its segments, are those of the timeline."""
    one = made(scenario)[1][0]
    told, timeline = lanes(one), one.timeline
    for number, chip in enumerate(one.held):
        mine = told["chips"][number]
        spans = []
        for segment, offset in told["runs"]:
            operations = told["segments"][segment]["operations"]
            times = np.array(mine["times"][segment]).reshape(2, -1) + offset
            spans += [(told["operations"][o]["name"], *at) for o, at in zip(operations, times.T)]
        wanted = [(o.name, start, end) for _, o, start, end in timeline.spans(chip)]
        assert [name for name, *_ in spans] == [name for name, *_ in wanted]
        assert np.allclose([at for _, *at in spans], [at for _, *at in wanted], rtol=1e-9, atol=0)
    assert [one.held[i] for i in told["shown"]] == list(one.shown)
    assert told["origin"] >= 0 and told["span"] > 0 and told["end"] == pytest.approx(timeline.finish.max())


def test_messages_of_the_lanes_are_those_that_were_sent(slow):
    _, (one,) = slow
    told, timeline = lanes(one), one.timeline
    for number, chip in enumerate(one.held[:3]):
        found = []
        first = {}
        for index, (segment, _) in enumerate(timeline.runs):
            first.setdefault(segment, index)
        for segment, index in first.items():
            sent, offset = told["chips"][number]["sent"][segment], timeline.runs[index][1]
            for o, lane, start, long, size in np.array(sent).reshape(-1, 5).tolist():
                axis, sign = told["axes"][int(lane) // 2], -1 if lane % 2 else 1
                found.append((told["operations"][int(o)]["name"], axis, sign, start / TICKS + offset, long / TICKS, size))
        wanted = [(s.operation, s.axis, s.sign, s.start, s.end - s.start, s.bytes) for s in timeline.sent
                  if s.chip == chip and first[timeline.runs[s.run][0]] == s.run]
        assert len(found) == len(wanted) > 10
        assert [one[:3] for one in found] == [one[:3] for one in wanted]
        assert np.allclose([one[3:5] for one in found], [one[3:5] for one in wanted], atol=2 / TICKS)
        assert np.allclose([one[5] for one in found], [one[5] for one in wanted], atol=1)


def test_collectives_that_are_under_way_at_once_have_rows_of_their_own(slow):
    _, (one,) = slow
    told = lanes(one)
    for number, segment in enumerate(one.timeline.segments):
        rows = told["segments"][number]["rows"]
        moving = [i for i, o in enumerate(segment.operations) if isinstance(o, Collective)]
        for i, j in combinations(moving, 2):
            both = np.minimum(segment.ends[i], segment.ends[j]) - np.maximum(segment.starts[i], segment.starts[j])
            assert both.max() < 1e-9 or rows[i] != rows[j]
    assert told["rows"] <= 4


def test_many_messages_are_those_of_the_blocks_near_the_one_that_is_shown(monkeypatch):
    text_all = lanes(made(SLOW)[1][0])
    monkeypatch.setattr("torussim.page.run.MESSAGES", (400, 0, 0))
    one = made(SLOW)[1][0]
    told = lanes(one)
    shown = one.timeline.runs[analysis.last_block(one.timeline)][0]
    for chip in told["shown"]:
        kept = [sent is not None for sent in told["chips"][chip]["sent"]]
        assert kept[shown] and not all(kept)
        assert told["chips"][chip]["sent"][shown] == text_all["chips"][chip]["sent"][shown]


def test_messages_at_the_ends_of_faulty_and_busiest_links_are_kept_first(monkeypatch):
    whole = lanes(made(SLOW)[1][0])
    most = max(sum(map(len, chip["sent"])) for chip in whole["chips"]) // 5
    monkeypatch.setattr("torussim.page.run.MESSAGES", (3 * most, 4 * most, 4 * most))
    one = made(SLOW)[1][0]
    told, chips = lanes(one), one.timeline.chips
    assert {tuple(chips[i]) for i in one.ends[:2]} == {(0, 0, 0), (1, 0, 0)} and len(one.ends) == 4
    for chip in {*one.shown, *one.ends}:
        assert told["chips"][one.held.index(chip)]["sent"] == whole["chips"][one.held.index(chip)]["sent"]
    assert any(None in chip["sent"] for chip in told["chips"])
    monkeypatch.setattr("torussim.page.run.HELD", 4)
    few = made(SLOW)[1][0]
    assert few.held == tuple(sorted({*few.shown, *few.ends})) and len(few.held) < len(chips)
    assert {s.chip for s in few.timeline.sent} == set(few.held)


def test_several_runs_share_tables_and_what_differs_is_marked():
    faster = {**SLOW, "name": "No slow link", "topology": {"shape": [4, 2, 2], "latency": "1 us"}}
    text, runs = made(SLOW, faster, {**faster, "name": "Another", "workload": {**SLOW["workload"], "context": 32}})
    assert not Parsed(text).open
    assert [run.label for run in runs] == ["A", "B", "C"] and all(len(run.shown) == 1 for run in runs)
    differs = re.search(r'<table id="differs">.*?</table>', text, re.S)[0]
    rows = {re.sub("<.*?>", "", row).split("topology")[-1] for row in re.findall(r"<tr>.*?</tr>", differs, re.S)}
    assert any("scale" in row for row in rows) and "<mark>-</mark>" in differs
    measures = re.search(r'<table id="measures">.*?</table>', text, re.S)[0]
    change = runs[1].result.step_s / runs[0].result.step_s - 1
    assert f"({change:+z.1%})" in measures
    assert {float(v) for v in re.findall(r'value="([^"]*)"', measures)} >= {run.result.step_s for run in runs}
    told = data_of(text)["timelines"]
    assert [one["label"] for one in told] == ["A", "B", "C"] and len({place for one in told for place in one["places"]}) == 3


def test_blame_and_help_are_those_of_the_report_and_the_network_names_its_faults(slow):
    text, (one,) = slow
    sections = {name: html.unescape(re.sub("<.*?>", "", re.search(rf'<section id="{name}".*?</section>', text, re.S)[0]))
                for name in ("verdict", "blame", "helps", "network")}
    assert list(sections) == re.findall(r'<section id="(verdict|blame|helps|network)"', text)
    report = " ".join(report_text(one.result).split())
    said = re.findall(r"<li.*?>(.*?)</li>", re.search(r'<section id="blame".*?</section>', text, re.S)[0])
    assert len(said) > 2 and all(html.unescape(line) in report for line in said)
    known = remedies(one.result)
    assert known and all(remedy.what in sections["helps"] and remedy.what in report for remedy in known)
    assert {remedy.seconds for remedy in known} - {None} <= {float(v) for v in re.findall(r'<data value="([^"]*)"', text)}
    assert "fault: slow link (0,0,0)-(1,0,0), 11.2 GB/s in place of 45 GB/s" in sections["network"]
    alone = re.search(r"<main.*?</main>", made({**SLOW, "topology": {"shape": [1, 1, 1]}})[0], re.S)[0]
    assert "nothing that this run knows of" in alone and "fault:" not in alone


def test_the_files_of_a_comparison_are_told_apart():
    runs = [of(load(BARE), file, run(BARE), label=label) for file, label in zip(("a/b/result.json", "c/b/result.json"), "AB")]
    cells = re.findall(r"<td.*?>([^<]*json)</td>", page(runs))
    assert cells == ["a/b/result.json", "c/b/result.json"]


def test_runs_with_equally_many_blocks_show_the_same_block():
    many = {**SLOW, "chip": "tpu-v5e", "model": {"base": "palm-8b", "layers": 12}}
    faster = {**many, "topology": {"shape": [4, 2, 2], "latency": "1 us"}}
    runs = made(many, faster)[1]
    own = [analysis.last_block(one.timeline) for one in runs]
    found = same_block(runs)
    numbers = [sum(one.timeline.segments[segment].section == "block" for segment, _ in one.timeline.runs[:first])
               for one, first in zip(runs, found)]
    assert len(set(numbers)) == 1 and len(set(own)) > 1, "they would show different ones"
    for one, first in zip(runs, found):
        told = lanes(one, first)
        segment, offset = one.timeline.runs[first]
        assert told["chips"][told["shown"][0]]["sent"][segment] and told["origin"] >= offset
    assert same_block([runs[0], made(SLOW)[1][0]])[0] == own[0], "another number of blocks"


def test_equal_scenarios_are_said_to_be_equal():
    assert "equal in everything" in made(BARE, {**BARE, "name": "The same"})[0]


# -- the command


def invoke(*arguments):
    result = CliRunner().invoke(cli, ["report", *map(str, arguments)], standalone_mode=False)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(*arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2 and result.stdout == ""
    return result.stderr


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.yaml").write_text(json.dumps(SLOW))
    (tmp_path / "bare.yaml").write_text(json.dumps(BARE))
    result = json.loads(run(BARE).json())
    (tmp_path / "result.json").write_text(json.dumps(result))
    (tmp_path / "earlier.json").write_text(json.dumps(result))
    return tmp_path


def test_a_scenario_and_a_result_of_any_name_give_the_same_page(there):
    for file in ("bare.yaml", "result.json", "earlier.json"):
        assert invoke(file, "-o", f"{file}.html").stdout == f"written to {file}.html\n"
    (there / "packed.json.gz").write_bytes(gzip.compress((there / "result.json").read_bytes()))
    assert invoke("packed.json.gz", "-o", "packed.html").exit_code == 0
    pages = [(there / f"{name}.html").read_text() for name in ("bare.yaml", "result.json", "earlier.json", "packed")]
    assert len(set(pages[1:])) == 1, "what the record of a run says is not by default"
    assert data_of(pages[0]) == data_of(pages[1]) and keyed(pages[0]) == keyed(pages[1])


def test_options_change_the_scenario_and_the_chips(there):
    invoke("slow.yaml", "--set", "workload.context=128", "--chips", "1,1,1 0,0,0")
    data = data_of((there / "report.html").read_text())["timelines"][0]
    assert [data["chips"][i]["name"] for i in data["shown"]] == ["(1, 1, 1)", "(0, 0, 0)"]
    assert "context: 128" in (there / "report.html").read_text()
    assert "is not a chip" in refused("slow.yaml", "--chips", "a")
    assert "there is no chip" in refused("slow.yaml", "--chips", "9,9,9")


def test_a_result_that_says_something_else_is_shown_anew_and_that_is_said(there):
    result = json.loads((there / "result.json").read_text())
    (there / "old.json").write_text(json.dumps({**result, "makespan_s": 2 * result["makespan_s"]}))
    invoke("old.json", "-o", "old.html")
    told, now = (show(value, "s") for value in (2 * result["makespan_s"], result["makespan_s"]))
    assert f"old.json: this result said {told}, now {now}." in (there / "old.html").read_text()
    for value, said in ((result["makespan_s"] * (1 + 3e-9), True), (result["makespan_s"] * (1 + 1e-10), False)):
        (there / "near.json").write_text(json.dumps({**result, "makespan_s": value}))
        invoke("near.json", "-o", "near.html")
        assert (f"said {value!r} s, now {result['makespan_s']!r} s." in (there / "near.html").read_text()) == said
    for value in ("soon", None, True, [1.0]):
        (there / "odd.json").write_text(json.dumps({**result, "makespan_s": value}))
        invoke("odd.json", "-o", "odd.html")
        assert f"odd.json: makespan_s is {json.dumps(value)}, not a number" in html.unescape((there / "odd.html").read_text())
    for key in ("makespan_s", "links", "operations"):
        (there / "less.json").write_text(json.dumps({name: value for name, value in result.items() if name != key}))
        invoke("less.json", "-o", "less.html")
        assert f"less.json lacks {key}" in (there / "less.html").read_text()


def test_bad_input_is_one_clear_message_and_nothing_is_written(there):
    result = json.loads((there / "result.json").read_text())
    before = sorted(there.rglob("*"))
    cases = {"none.json": ({key: value for key, value in result.items() if key != "scenario"}, "without its scenario"),
             "list.json": ([result, result], "is a list of 2"), "trace.json": ({"traceEvents": []}, "is a trace"),
             "other.json": ({**result, "scenario": {**result["scenario"], "later": 1}}, "of another version"),
             "plan.json": ({"scenario": result["scenario"], "picks": []}, "lacks objective"),
             "neither.yaml": ({"a": 1}, "'a'"), "text.yaml": ("a text", "is not a scenario"),
             "number.json": (3, "is not a scenario")}
    for name, (value, said) in cases.items():
        (there / name).write_text(json.dumps(value))
        found = refused(name, "-o", "new.html")
        assert said in found and found.startswith(f"{name}:1:"), found
        (there / name).unlink()
    (there / "broken.json").write_text('{"scenario": ')
    assert "broken.json:1:" in refused("broken.json")
    (there / "broken.json").unlink()
    assert "neither a scenario nor a result" in refused("page.html")
    assert "no such file" in refused("nowhere.json")
    assert "end its name in .html" in refused("bare.yaml", "-o", "page.pdf")
    assert "give at most 12" in refused(*["bare.yaml"] * 13)
    (there / "taken.html").mkdir()
    assert "it is a folder" in refused("bare.yaml", "-o", "taken.html")
    (there / "taken.html").rmdir()
    assert "cannot be written" in refused("bare.yaml", "-o", "bare.yaml/new.html")
    assert "leave out --plan" in refused("bare.yaml", "--plan", "-o", "new.html")
    assert sorted(there.rglob("*")) == before


def test_without_bokeh_the_message_says_how_to_install_it(there, monkeypatch):
    monkeypatch.setitem(sys.modules, "bokeh.document", None)
    with pytest.raises(OutputError, match=r"pip install 'torussim\[report\]'") as raised:
        cli(["report", "bare.yaml"], standalone_mode=False)
    assert raised.value.code == "missing-library"
    assert not (there / "report.html").exists()


@pytest.mark.slow
def test_a_plan_and_its_file_give_the_section_of_the_plan(there):
    asked = {**SLOW, "expect": {}, "plan": {"vary": {"layouts": ["ws1d", "ws2d"]}}}
    del asked["expect"]
    (there / "plan.yaml").write_text(json.dumps(asked))
    CliRunner().invoke(cli, ["plan", "plan.yaml", "--no-pictures"], standalone_mode=False)
    plan = json.loads((there / "out" / "one-slow-link" / "plan.json").read_text())
    invoke("plan.yaml", "--plan", "-o", "a.html")
    invoke("out/one-slow-link/plan.json", "-o", "b.html")
    for name in ("a.html", "b.html"):
        text = (there / name).read_text()
        section = re.search(r'<section id="plan".*?</section>', text, re.S)[0]
        values = {float(value) for value in re.findall(r'<data value="([^"]*)"', section)}
        assert plan["picks"][0]["step_s"] in values and f"{plan['counts']['space']:,} candidates" in section
    assert keyed((there / "b.html").read_text())["step_s"] == pytest.approx(plan["picks"][0]["step_s"], rel=1e-9)
    assert 'id="plan"' not in made(BARE)[0]


# -- in a browser


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync.sync_playwright() as playing:
        try:
            started = playing.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        except sync.Error as error:
            pytest.skip(f"Chromium cannot be started: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture
def shown(browser, tmp_path):
    """Return a function that opens a page and returns the tab, which fails if anything was wrong."""
    wrong, contexts = [], []

    def opened(text, **settings):
        file = tmp_path / "page.html"
        file.write_text(text)
        usual = {"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"}
        contexts.append(browser.new_context(**{**usual, **settings}))
        tab = contexts[-1].new_page()
        tab.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: None if request.url == file.as_uri() else wrong.append(request.url))
        tab.goto(file.as_uri())
        tab.wait_for_function("document.documentElement.dataset.ready == 'yes'")
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def ranged(tab):
    return tab.evaluate("(() => { const t = torussim.figures.get_model_by_name('time'); return [t.start, t.end]; })()")


def tooltip(tab):
    """Return what the tooltip says that is shown."""
    tip = tab.locator(".bk-tooltip-content >> visible=true").first
    tip.wait_for(timeout=5000)
    return tip.evaluate("element => element.textContent")


def bars(tab, place="lanes-0-0"):
    """Return the columns of the bars of a chip."""
    return tab.evaluate(f"torussim.figures.get_model_by_name('{place}-bars').data")


def test_a_browser_draws_the_operations_of_the_result(slow, shown):
    text, (one,) = slow
    tab = shown(text)
    last = len(one.shown) - 1
    drawn = bars(tab, f"lanes-0-{last}")
    chip = one.shown[last]
    found = defaultdict(list)
    for name, what, begin, end in zip(drawn["name"], drawn["what"], drawn["begin_s"], drawn["end_s"]):
        found[name, what].append((begin, end))
    run_ = analysis.last_block(one.timeline)
    spans = [(o, start, end) for index, o, start, end in one.timeline.spans(chip) if index == run_ and end > start]
    assert len(spans) > 8
    for o, start, end in spans:
        what = f"{KINDS[o.kind]} over {''.join(o.axes)}" if isinstance(o, Collective) else "compute"
        assert any(at == pytest.approx((start, end), rel=1e-9) for at in found[o.name, what])
    assert tab.inner_text("[data-key=step_s]") == show(one.result.step_s, "s")


def test_waits_in_the_browser_are_those_of_the_timeline(slow, shown):
    text, (one,) = slow
    tab = shown(text)
    tab.click("[data-move=all]")
    for place, chip in enumerate(one.shown):
        tab.wait_for_timeout(60)
        drawn = bars(tab, f"lanes-0-{place}")
        found = sorted((a, b) for a, b, what in zip(drawn["begin_s"], drawn["end_s"], drawn["what"]) if what == "exposed")
        wanted = analysis.waits(one.timeline, chip, float(one.timeline.begin[chip]), float(one.timeline.finish[chip]))
        near = 1e-9 * one.timeline.makespan
        assert np.allclose([w for w in found if w[1] - w[0] > near], [w for w in wanted if w[1] - w[0] > near], rtol=1e-6)


def test_buttons_keys_wheel_and_drag_move_in_time(slow, shown):
    tab = shown(slow[0])
    start, end = ranged(tab)

    def after(act):
        act()
        tab.wait_for_timeout(120)
        return ranged(tab)

    a, b = after(lambda: tab.click("[data-move=in]"))
    assert b - a == pytest.approx((end - start) / 2)
    assert after(lambda: tab.click("[data-move=block]")) == pytest.approx([start, end])
    tab.focus("#lanes")
    a, b = after(lambda: tab.keyboard.press("-"))
    assert b - a == pytest.approx(2 * (end - start))
    assert after(lambda: tab.keyboard.press("ArrowRight"))[0] > a
    assert after(lambda: tab.keyboard.press("0")) == pytest.approx([start, end])
    whole = after(lambda: tab.click("[data-move=all]"))
    assert whole[1] - whole[0] >= slow[1][0].timeline.makespan
    tab.click("[data-move=block]")
    tab.locator("#lanes-0-0").scroll_into_view_if_needed()
    box = tab.locator("#lanes-0-0").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 30
    tab.mouse.move(x, y)
    tab.keyboard.down("Control")
    a, b = after(lambda: tab.mouse.wheel(0, -200))
    tab.keyboard.up("Control")
    assert 0 < b - a < end - start
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x - 150, y, steps=4)
    tab.mouse.up()
    tab.wait_for_timeout(120)
    assert ranged(tab)[0] > a
    drawn = bars(tab)
    assert drawn["name"] and max(drawn["right"]) >= ranged(tab)[0]


def test_hovering_tells_of_an_operation_and_of_a_link(slow, shown):
    tab = shown(slow[0])
    drawn = bars(tab)
    computes = [i for i, what in enumerate(drawn["what"]) if what == "compute"]
    longest = max(computes, key=lambda i: drawn["end_s"][i] - drawn["begin_s"][i])
    tab.locator("#lanes-0-0").scroll_into_view_if_needed()
    inner = tab.evaluate("torussim.figures.get_model_by_name('lanes-0-0').inner_width")
    box = tab.locator("#lanes-0-0").bounding_box()
    start, end = ranged(tab)
    left = box["x"] + box["width"] - 12 - inner
    middle = (max(drawn["left"][longest], start) + min(drawn["right"][longest], end)) / 2
    tab.mouse.move(left + (middle - start) / (end - start) * inner, box["y"] + 40)
    told = tooltip(tab)
    assert all(drawn[key][longest] in told for key in ("name", "what", "time", "takes", "more"))
    tab.mouse.move(0, 0)
    network = tab.locator("#network-0")
    network.scroll_into_view_if_needed()
    columns = tab.evaluate("[...torussim.figures._all_models.values()].find((model) => model.data?.busy).data")
    dull = columns["state"].index("slower than most")
    size = tab.evaluate("(() => { const f = torussim.figures.get_model_by_name('network-0');"
                        " return [f.inner_width, f.inner_height, f.x_range.end, f.y_range.start]; })()")
    box = network.bounding_box()
    x, y = np.mean(columns["xs"][dull]), np.mean(columns["ys"][dull])
    tab.mouse.move(box["x"] + x / size[2] * size[0] + (box["width"] - size[0]) / 2, box["y"] + y / size[3] * size[1])
    told = tooltip(tab)
    assert columns["name"][dull] in told and "slower than most" in told and columns["rate"][dull] in told


def test_another_chip_can_be_chosen(slow, shown):
    text, (one,) = slow
    tab = shown(text)
    before = bars(tab)["begin_s"]
    chip = one.held[-1]
    tab.select_option("#lanes-0-0-chip", str(len(one.held) - 1))
    tab.wait_for_timeout(100)
    drawn = bars(tab)
    assert drawn["begin_s"] != before
    ends = {round(end, 12) for _, _, _, end in one.timeline.spans(chip)}
    assert sum(round(end, 12) in ends for end in drawn["end_s"]) > 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_follow_the_system_and_the_button(slow, shown, scheme):
    tab = shown(slow[0], color_scheme=scheme)

    def looks():
        return tab.evaluate("(() => { const f = torussim.figures.get_model_by_name('lanes-0-0'); const style ="
                            " getComputedStyle(document.body); return [document.documentElement.dataset.theme, style.color,"
                            " style.backgroundColor, f.below[0].major_label_text_color]; })()")

    def lightness(colour):
        parts = [int(part) for part in re.findall(r"\d+", colour)[:3]]
        return sum(parts) / 3

    theme, ink, back, label = looks()
    assert theme == scheme and (lightness(ink) > lightness(back)) == (scheme == "dark")
    assert tab.get_attribute("#theme", "aria-pressed") == str(scheme == "dark").lower()
    tab.click("#theme")
    assert looks()[0] != scheme and looks()[3] != label
    tab.click("#theme")
    assert looks() == [theme, ink, back, label]


def test_everything_that_can_be_used_is_reached_by_tab_in_the_order_of_the_page(slow, shown):
    tab = shown(slow[0])
    seen = []
    for _ in range(60):
        tab.keyboard.press("Tab")
        seen.append(tab.evaluate("(() => { const e = document.activeElement; if (e === document.body) return null; const b ="
                                 " e.getBoundingClientRect(); return [e.id || e.dataset.move || e.getAttribute('href') ||"
                                 " e.dataset.copy || e.className, getComputedStyle(e).outlineStyle, b.top + scrollY]; })()"))
    names = [one[0] for one in seen if one]
    assert names[0] == "#verdict", "the first is the link to the answer"
    for name in ("theme", "in", "out", "all", "align", "lanes", "lanes-0-0-chip", "yaml-0"):
        assert name in names
    assert [one for one in seen if one and one[1] == "none"] == [], "where the keyboard is can be seen"
    assert names.index("theme") < names.index("in") < names.index("lanes") < names.index("lanes-0-0-chip") < names.index("yaml-0")


@pytest.mark.parametrize("width", [390, *(pytest.param(width, marks=pytest.mark.slow) for width in (320, 768))])
def test_a_narrow_page_does_not_scroll_sideways(slow, shown, width):
    tab = shown(slow[0], viewport={"width": width, "height": 800})
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_runs_side_by_side_share_their_time_axis_and_can_be_aligned(shown):
    faster = {**SLOW, "name": "No slow link", "topology": {"shape": [4, 2, 2], "latency": "1 us"}}
    text, _ = made(SLOW, faster)
    tab = shown(text)
    origins = [one["origin"] for one in data_of(text)["timelines"]]
    for place, origin in zip(("lanes-0-0", "lanes-1-0"), origins):
        drawn = bars(tab, place)
        assert drawn["left"][0] == pytest.approx(drawn["begin_s"][0] - origin, abs=1e-12)
    tab.select_option("#align", "pass")
    tab.wait_for_timeout(100)
    drawn = bars(tab, "lanes-1-0")
    assert drawn["left"] == pytest.approx(drawn["begin_s"], abs=1e-12)
    names = "['lanes-0-0', 'lanes-1-0']"
    same = tab.evaluate(f"new Set({names}.map((name) => torussim.figures.get_model_by_name(name).x_range)).size")
    assert same == 1


def test_a_hostile_name_does_nothing_in_a_browser(shown):
    name = HOSTILE.replace("\u2028", " ")
    text, _ = made({**BARE, "name": name, "program": [{**BARE["program"][0], "name": name}]})
    tab = shown(text)
    assert tab.evaluate("window.bad") is None
    assert tab.inner_text("h1") == " ".join(name.split())
    tab.locator("#lanes-0-0").scroll_into_view_if_needed()
    box = tab.locator("#lanes-0-0").bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + 25)
    assert name in tooltip(tab) and tab.evaluate("window.bad") is None


def test_copying_gives_the_scenario(slow, shown):
    tab = shown(slow[0])
    tab.click("[data-copy=yaml-0]")
    tab.wait_for_function("document.querySelector('[data-copy]').parentElement.querySelector('[role=status]').textContent != ''")
    assert "opied" in tab.inner_text("#scenario [role=status]") or "opy" in tab.inner_text("#scenario [role=status]")


def test_printed_pages_are_light_and_complete(slow, shown):
    tab = shown(slow[0], color_scheme="dark")
    tab.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert tab.evaluate("document.documentElement.dataset.theme") == "light"
    assert not tab.evaluate("document.querySelectorAll('details:not([open])').length")
    tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
