"""Draws of faulty links as a picture: the distribution of step times, and the network coloured by the loss of each link's fault.

Coordinates are pixels of a page 1200 wide, y downwards.
"""

from __future__ import annotations

from math import ceil, log10
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim.fault_result import QUANTILES, FaultDraws, kind_name, link_name, observed, signed
from torussim.plot.canvas import COMPUTE, EXPOSED, FAINT, INK, SMALL, Canvas
from torussim.plot.chart import CIRCLE, Chart, Scale, round_step
from torussim.plot.links import whole
from torussim.plot.network import LinkPicture, dead_links, node_names, placing
from torussim.plot.sheet import EDGE, PAGE
from torussim.units import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEFT, RIGHT, HIGH = 84.0, 1150.0, 280.0  # the panel of the times
NUMBERED = 10  # links in the table
WORDS = {"median": "median", "p95": "95 %", "p99": "99 %"}
LITTLE = 5e-4  # losses up to this one have no number, except the first
STEPS = 8  # of the time axis, at most


def faults_figure(found: FaultDraws, *, title: str = "", subtitle: str = "") -> Figure:
    """Return a picture of the results of draws of faulty links. The default title is the scenario's name."""
    canvas = Canvas()
    said = f"{len(found.times):,} draws of faulty links: {'; '.join(map(str, found.kinds))} (seed {found.seed})"
    y = canvas.heading(EDGE, 10.0, title or found.name, subtitle or said)
    y = _distribution(canvas, found, y + 36)
    canvas.text(EDGE, y + 16, "What the fault of a link costs, alone", size=11.5, bold=True)
    bottom = whole(canvas, picture(found), y + 34)
    return canvas.page(PAGE, ceil(bottom + 16))


def picture(found: FaultDraws) -> LinkPicture:
    """Return the network with the loss by each link's fault in place of its use. Both directions have the loss of their cable."""
    cables, links = found.cables, found.cables.net.links
    losses = np.append(found.losses, np.nan)[cables.of]
    ranked = [one for i, one in enumerate(found.ranking[:NUMBERED]) if not i or one["loss"] is None or one["loss"] > LITTLE]
    numbered = [int(cables.link[one["cable"]]) for one in ranked]
    kinds = [kind_name(scale) for scale in found.alone.scales] if len(found.alone.scales) > 1 else []
    rows = [(link_name(one), f"{one['alike']:,}", signed(one["loss"]), *(signed(kind["loss"]) for kind in one["kinds"] if kinds))
            for one in ranked]
    users = [f"faulty in {count} draw{'s' * (count != '1')}, mean loss {loss}"
             for count, loss in (observed(one["in_draws"]) for one in ranked)]
    what = f"how much longer {subject(found)} takes when this link alone is faulty"
    return LinkPicture(links.axes, links.source, links.target, links.axis, links.sign, links.wraparound, links.bandwidth, losses,
                       np.zeros(len(losses)), dead_links(links), numbered, users, node_names(links), what=what, rows=rows,
                       head=("link", "alike", "loss", *kinds), beside="in the draws", numbered="see the table",
                       **placing(found.cables.net))


def subject(found: FaultDraws) -> str:
    """Return in words the run whose time is shown."""
    return "a step" if found.timed == "step_s" else "the program"


def _distribution(canvas: Canvas, found: FaultDraws, y: float) -> float:
    """Draw the share of draws above each time, from y downwards. Return its lower end."""
    times, base = found.sorted_times, found.base_s
    if not len(times):
        canvas.text(LEFT, y + 20, "Every draw cuts the network in two: no time can be shown.", colour=INK)
        return y + 40
    low, high = min(base, float(times[0])), max(base, float(times[-1]))
    room = max(high - low, 1e-3 * high, 1e-12)
    low, high = low - 0.04 * room, high + 0.18 * room
    count = len(times)
    across = Scale(low, high, LEFT, RIGHT, log=False, every=round_step(high - low, STEPS))
    chart = Chart(canvas, across, Scale(0.5 / count, 1.35, y + HIGH, y))
    chart.grid("share of the draws in which it takes longer", lambda share: f"{100 * share:g} %",
               up=[tick for tick in chart.up.ticks() if tick <= 1])
    digits = max(2, ceil(log10(high / across.every)) + 1)
    chart.below(f"how long {subject(found)} takes", lambda seconds: show(seconds, "s", digits))
    chart.curve(_falling(times, across), COMPUTE)
    canvas.line(across(base), y, across(base), y + HIGH, EXPOSED, layer=1)
    canvas.text(across(base) + 6, y + HIGH - 10, f"without drawn faults {show(base, 's', 4)}", colour=EXPOSED, size=SMALL)
    named, bars = dict[float, list[str]](), 0
    for word, share in (*((WORDS[name], share) for name, share in QUANTILES.items()), ("worst", 1.0)):
        seconds = found.quantile(share)
        assert seconds is not None
        level = max(1 - share, 1 / count)
        if share < 1 and (between := found.interval(share)) and between[1] is not None:
            chart.curve([(between[0], level), (between[1], level)], INK, width=2.5)
            bars += between[0] < between[1]
        chart.mark((seconds, level), CIRCLE, INK, name=word, size=4.5)
        named.setdefault(seconds, []).append(word)
        chart.labels = [label for label in chart.labels if label[0][0] != across(seconds)]
        chart.label((seconds, level), f"{', '.join(named[seconds])}: {show(seconds, 's', 4)} ({signed(found.loss(seconds))})")
    chart.place(SMALL)
    bottom = y + HIGH + 54
    said = "Bars: where the true percentile lies with 95 % confidence." if bars else ""
    if found.cut:
        said += f" {found.cut:,} of {len(found.times):,} draws cut the network in two and count in none of these."
    canvas.text(LEFT, bottom, said, size=SMALL, colour=FAINT)
    return bottom + 16


def _falling(times: Any, across: Scale) -> list[tuple[float, float]]:
    """Return the corners of a line that falls at each time to the share of times above it. Times of one pixel are merged."""
    pixel = np.round(across.start + (times - across.low) / (across.high - across.low) * (across.end - across.start))
    last = np.flatnonzero(np.append(np.diff(pixel) > 0, True))
    points, share = [(across.low, 1.0)], 1.0
    for i in last.tolist():
        at, above = float(times[i]), 1 - (i + 1) / len(times)
        points += [(at, share), (at, max(above, 0.5 / len(times)))]
        share = above
    return points
