"""Results, plans and timelines as figures, pandas tables and HTML for a notebook; `torussim.shown` is the door to this module."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim.answer import replay, shown_chips
from torussim.errors import TorusSimError
from torussim.export.shown import shown
from torussim.export.tables import operation_rows
from torussim.page.html import Html, table, tag
from torussim.planner.plans import Plan
from torussim.plot import LinkPicture, defaults, encode, front_figure, links_figure, timeline_figure
from torussim.report import subtitle, verdict
from torussim.report.causes import PARTS
from torussim.report.phrases import link
from torussim.resolve import unknown
from torussim.result import Result
from torussim.scenario import Scenario
from torussim.timeline import Timeline
from torussim.units import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

FRAMES = ("operations", "timeline", "links")


def timeline_of(result: Result, *, chips: Sequence[Any] | None = None, blocks: int = 1) -> Figure:
    """Return the timeline of a result's last pass for these chips, by default those of `shown_chips`."""
    scenario = _asked(result)
    chosen = shown_chips(result) if chips is None else [scenario.net.index(chip) for chip in chips]
    timeline = replay(scenario, chosen, start=result.timeline.begin.tolist())
    with defaults():
        return timeline_figure(timeline, chips=chosen, runs=blocks, title=result.name, subtitle=subtitle(result))


def links_of(result: Result) -> Figure:
    """Return the use of the links in a result's last pass."""
    links = result.keys["links"]
    told = f"links are busy {links['mean_busy']:.1%} of the time in the mean"
    if links["busiest"]:
        told += f", the busiest {links['busiest'][0]['busy']:.1%}"
    asked = _asked(result)
    with defaults():
        return links_figure(LinkPicture.of(result.timeline, asked.net, asked.changes), title=result.name, subtitle=told)


def front_of(plan: Plan) -> Figure:
    """Return the picture of a plan: its layouts at one batch, or latency and cost."""
    with defaults():
        return front_figure(plan)


def _asked(result: Result) -> Scenario:
    if result.asked is None:
        raise TorusSimError("this result has no scenario, so that nothing can be drawn: take one that torussim.run returned")
    return result.asked


# -- tables of pandas ---------------------------------------------------------------------------------------------------


def frame(rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """Return rows as a pandas table. Raise TorusSimError where pandas is not installed."""
    try:
        from pandas import DataFrame
    except ImportError:
        raise TorusSimError("pandas is not installed: pip install pandas, or pip install 'torussim[notebook]'") from None
    return DataFrame(list(rows))


def frame_of(result: Result, what: str) -> DataFrame:
    """Return a table of a result: one of FRAMES."""
    if what not in FRAMES:
        raise TorusSimError(unknown(what, FRAMES, "table of a result"), code="unknown-name")
    if what == "operations":
        return frame(result.keys["operations"])
    if what == "links":
        return frame(_link_rows(result))
    return frame(operation_rows(shown(_asked(result), result, range(len(result.timeline.chips)), messages=False)))


def _link_rows(result: Result) -> Iterable[dict[str, Any]]:
    """Yield each direction of each link: its ends, its properties, and its traffic in the last pass."""
    links, timeline = _asked(result).net.links, result.timeline
    edges = links.edges(np.ones(len(links.source), bool))
    columns = zip(edges, links.bandwidth.tolist(), links.latency.tolist(), timeline.link_bytes.tolist(),
                  timeline.link_seconds.tolist())
    for (source, target), bandwidth, latency, carried, seconds in columns:
        yield {"from": source, "to": target, "bandwidth": bandwidth, "latency": latency, "bytes": carried, "busy_s": seconds}


# -- HTML for a notebook ------------------------------------------------------------------------------------------------


def html(thing: Result | Plan | Timeline) -> str:
    """Return a piece of HTML that shows a result, a plan or a timeline, in the colours of the surrounding page."""
    if isinstance(thing, Timeline):
        with defaults():
            picture = encode(timeline_figure(thing), "png")
        return tag("img", alt="timeline", style="max-width: 100%", src=f"data:image/png;base64,{b64encode(picture).decode()}")
    return tag("div", _of_plan(thing) if isinstance(thing, Plan) else _of_result(thing), class_="torussim")


def _of_result(result: Result) -> list[Html]:
    k = result.keys
    parts = [tag("b", verdict(result)), tag("div", f"{result.name}: {subtitle(result)}")]
    if "breakdown_s" in k:
        parts.append(table("Where the time goes", ("", "time", "share", ""), [
            (PARTS[name], show(seconds, "s"), f"{seconds / k['step_s']:.1%}", _bar(seconds / k["step_s"]))
            for name, seconds in k["breakdown_s"].items()]))
    parts.append(table("Beside the simulation", ("", "time"), [
        (name, show(k["estimate"][key]["step_s"], "s")) for key, name in
        (("axes", "closed form, axis by axis"), ("paper", "the model of Pope et al. 2022"), ("bound", "lower bound"))]))
    rows = [(link(one, "->"), f"{one['busy']:.1%}", show(one["bytes"], "B")) for one in k["links"]["busiest"][:5]]
    return [*parts, *([table("The busiest links", ("link", "busy", "bytes"), rows)] if rows else [])]


def _of_plan(plan: Plan) -> list[Html]:
    head, *others = str(plan).split("\n\n")
    return [tag("b", head), *(tag("pre" if text.startswith("  ") else "p", text) for text in others)]  # <pre>: a table of text


def _bar(share: float) -> Html:
    return tag("span", style=f"display: inline-block; height: 0.8em; width: {12 * share:.2f}em; background: #0072B2")
