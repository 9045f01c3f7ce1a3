"""The whole page: one file of HTML that needs nothing else, neither a server nor the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torussim import files
from torussim.page import charts, details, sections
from torussim.page.beside import compared
from torussim.page.html import Html, Part, script_json, section, tag
from torussim.page.lanes import COLOURS, TICKS, lanes, same_block
from torussim.page.links import Drawing, drawing
from torussim.page.planned import planned
from torussim.page.run import Run
from torussim.plot import KIND_COLOURS
from torussim.plot.key import FAULTS
from torussim.report import KINDS

HERE = Path(__file__).parent
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
BUTTONS = (("in", "Zoom in"), ("out", "Zoom out"), ("left", "Earlier"), ("right", "Later"), ("before", "Previous block"),
           ("after", "Next block"), ("block", "One block"), ("all", "Whole pass"))


def page(runs: Sequence[Run], plans: Mapping[str, Mapping[str, Any]] | None = None) -> str:
    """Return the page of one run, or of several side by side; `plans`: what `Plan.keys` gives, by the names of the scenarios.

    The same runs give the same text, to the last byte. Raise OutputError if Bokeh is not installed.
    """
    charts.check()
    timelines = [lanes(run, first) for run, first in zip(runs, same_block(runs))]
    networks = [drawing(run) for run in runs]
    top = max((one.top for one in networks if one), default=1.0)  # colours mean the same in all
    span = max(one["span"] for one in timelines)
    places = [[f"lanes-{i}-{j}" for j in range(len(one["shown"]))] for i, one in enumerate(timelines)]
    figures = charts.document({place: one for one, of in zip(timelines, places) for place in of},
                              {f"network-{i}": replace(one, top=top) for i, one in enumerate(networks) if one}, span)
    data = {**figures, "timelines": [{**one, "places": of, "label": run.label, "name": run.result.name}
                                     for one, of, run in zip(timelines, places, runs)], "span": span, "ticks": TICKS,
            "colours": COLOURS}
    title = runs[0].result.name if len(runs) == 1 else f"{len(runs)} runs beside each other"
    parts = [section("verdict", "The answer", sections.summary(runs)), sections.blame(runs), sections.helps(runs),
             compared(runs), sections.breakdown(runs), _timeline(runs, places, timelines),
             _network(runs, networks), sections.estimates(runs),
             details.operations(runs), details.memory(runs), details.faults(runs), planned(plans or {}), _scenarios(runs)]
    return _whole(title, parts, data)


def _whole(title: str, parts: Sequence[Html], data: Any) -> str:
    head = tag("head", tag("meta", charset="utf-8"), tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
               tag("title", f"torussim: {title}"), tag("style", Html((HERE / "report.css").read_text(encoding="utf-8"))))
    links = [tag("li", tag("a", heading, href=f"#{name}")) for name, heading in _headings(parts)]
    body = tag("body", tag("a", "Skip to the answer", href="#verdict", class_="skip"),
               tag("header", tag("h1", title), tag("button", "Dark", type="button", id="theme", aria_pressed="false"),
                   tag("nav", tag("ul", links), aria_label="Sections")),
               tag("noscript", tag("p", "Timeline and network need JavaScript, which is off. The tables do not.", class_="bad")),
               tag("main", parts, id="main"),
               tag("p", "Made by torussim. Times are simulated, except those that are said to be measured.", class_="faint foot"),
               tag("script", script_json(data), type="application/json", id="data"),
               tag("script", Html(charts.script().replace("</script", "<\\/script"))),
               [tag("script", Html((HERE / name).read_text(encoding="utf-8"))) for name in ("lanes.js", "report.js")])
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _headings(parts: Sequence[Html]) -> list[tuple[str, str]]:
    names = {"verdict": "Answer", "blame": "Blame", "helps": "Help", "compared": "Comparison", "breakdown": "Time",
             "timeline": "Timeline", "network": "Network", "estimates": "Estimates", "operations": "Operations",
             "memory": "Memory", "faults": "Faults", "plan": "Plan", "scenario": "Scenario"}
    return [(name, heading) for name, heading in names.items() if any(part.startswith(f'<section id="{name}"') for part in parts)]


def _timeline(runs: Sequence[Run], places: Sequence[Sequence[str]], timelines: Sequence[Mapping[str, Any]]) -> Html:
    buttons = tag("div", [tag("button", word, type="button", data_move=move) for move, word in BUTTONS],
                  role="group", aria_label="Time that is shown", class_="buttons")
    align = tag("label", "Time 0 is ", tag("select", tag("option", "the start of the block", value="block"),
                                          tag("option", "the start of the pass", value="pass"), id="align"))
    panels = []
    for run, of, one in zip(runs, places, timelines):
        chips = [tag("div", _chooser(run, place, one, shown), tag("div", id=place, class_="plot"), class_="panel")
                 for place, shown in zip(of, one["shown"])]
        panels.append(tag("div", tag("h3", sections.letter(run), " ", run.result.name) if run.label else None, chips))
    said = tag("p", "Drag to move. Ctrl and the wheel, or a pinch, zoom. Keys: + and - zoom, arrows move, 0 shows one block. "
               "Point at a bar to see what it is.", class_="faint")
    return section("timeline", "Timeline of the last pass", said, _key(timelines), tag("div", buttons, align, class_="tools"),
                   tag("p", id="range", class_="faint", role="status"), tag("div", panels, id="lanes", tabindex="0", role="group",
                                                                          aria_label="Timeline; use + - 0 and the arrow keys"))


def _chooser(run: Run, place: str, one: Mapping[str, Any], shown: int) -> Html:
    options = [tag("option", chip["name"] + (f", {chip['text']}" if chip["text"] else ""), value=str(i), selected=i == shown)
               for i, chip in enumerate(one["chips"])]
    return tag("p", tag("label", "Chip ", tag("select", options, id=f"{place}-chip", data_place=place)), " ",
               tag("span", id=f"{place}-said", class_="faint"))


def _key(timelines: Sequence[Mapping[str, Any]]) -> Html:
    """Return what the colours of the lanes mean, those that are there."""
    kinds = {o["kind"] for one in timelines for o in one["operations"]}
    found = [("compute", COLOURS["compute"]), ("fixed costs", COLOURS["fixed"]), ("waits for communication", COLOURS["exposed"])]
    found = found if "compute" in kinds else []
    found += [(KINDS[kind], colour) for kind, colour in KIND_COLOURS.items() if kind in kinds]
    return tag("ul", [tag("li", tag("span", class_="key", style=f"background:{colour}"), word) for word, colour in found],
               class_="legend")


def _network(runs: Sequence[Run], networks: Sequence[Drawing | None]) -> Html:
    def each(i: int, run: Run) -> Part:
        title = tag("h3", sections.letter(run), " ", run.result.name) if run.label else None
        drawn = networks[i]
        if drawn is None:
            return [title, tag("p", "The network has no links.", class_="faint")]
        wide = drawn.width  # on a narrow screen it scrolls, as texts do not shrink
        return [title,
                tag("div", tag("div", id=f"network-{i}", class_="plot", style=f"max-width:{wide}px;min-width:{min(wide, 760)}px"),
                    class_="wide", tabindex="0", role="region",
                    aria_label=f"The network of {run.result.name}; the tables below say the same"),
                _named(drawn.faults), [tag("p", note, class_="faint") for note in drawn.notes], details.links(run)]
    said = tag("p", "Each arrow is one direction of a link, in the colour of its use in the last pass. Dashed arrows are links "
               "that are slower than most links of their axis. A red cross is a dead link. Point at an arrow to see what it is.",
               class_="faint")
    return section("network", "The network", said, [each(i, run) for i, run in enumerate(runs)])


def _named(faults: Sequence[str]) -> Part:
    """Return the faults of a network by name, as its picture has them."""
    if not faults:
        return None
    more = f"; and {len(faults) - FAULTS:,} more" if len(faults) > FAULTS else ""
    title = "fault:" if len(faults) == 1 else f"{len(faults):,} faults:"
    return tag("p", tag("strong", title, class_="bad"), f" {'; '.join(faults[:FAULTS])}{more}")


def _scenarios(runs: Sequence[Run]) -> Html:
    found = []
    for i, run in enumerate(runs):
        text = files.to_yaml(run.keys["scenario"])
        found.append(tag("details", tag("summary", sections.letter(run), " ", run.result.name), tag(
            "p", tag("button", "Copy", type="button", data_copy=f"yaml-{i}"), " ", tag("span", role="status")),
            tag("pre", tag("code", text, id=f"yaml-{i}"), tabindex="0"), open=len(runs) == 1))
    return section("scenario", "The scenario, to run again", tag(
        "p", "Complete, with all that was chosen by default. Save it as scenario.yaml, then: torussim run scenario.yaml",
        class_="faint"), found)


def labels(count: int) -> list[str]:
    """Return the letters of so many runs; none for one alone.

    >>> labels(1), labels(3)
    ([''], ['A', 'B', 'C'])
    """
    return [""] if count == 1 else [LETTERS[i % 26] + (str(i // 26 + 1) if i >= 26 else "") for i in range(count)]


