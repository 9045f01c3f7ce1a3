"""Draws plots/paper-*.png: Figs. 1, 3 and 6 of arXiv 2211.05102 from simulation, and where the paper's rule picks another layout.

`python plots/paper.py` takes 75 s of CPU time, and prints how far the simulation is from what the paper has. docs/paper.md says
what each picture shows. Figs. 1 and 6 are times of the layers alone, with the layouts of the published code, as measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import exp, log
from pathlib import Path

import paper_rule
from paper_rule import BATCHES, HERE, PREFILL, TPU, Choice, lengths, slice_of, told, workload_of

from torussim import measurements, model
from torussim.engine.simulate import simulate
from torussim.errors import LayoutError, ShardingError
from torussim.layouts import Layout
from torussim.memory import memory
from torussim.plot import COMPUTE, EXPOSED, KIND_COLOURS, save
from torussim.plot.canvas import FAINT, SMALL, Canvas
from torussim.plot.chart import CIRCLE, DIAMOND, SQUARE, TRIANGLE, Chart, Entry, Scale, legend
from torussim.program import Collective, Program
from torussim.tables import table
from torussim.transformer import build
from torussim.units import show
from torussim.validate import Row, Summary, validate
from torussim.workload import Workload, passes

PAGE, EDGE, DOTS = 1000.0, 20.0, 1.3  # pixels, and dots a pixel
GREEN, PURPLE = KIND_COLOURS["reduce_scatter"], KIND_COLOURS["all_to_all"]


# Fig. 1: latency and cost


@dataclass(frozen=True)
class Point:
    """A batch on some chips: seconds of a decode step or of a prefill, and chip-seconds a token."""

    batch: int
    chips: int
    seconds: float
    cost: float

    @property
    def place(self) -> tuple[float, float]:
        """Where the chart has it: seconds, and chip-milliseconds a token."""
        return self.seconds, 1e3 * self.cost


def point(phase: str, batch: int, chips: int, seconds: float) -> Point:
    """Return a point with its cost."""
    return Point(batch, chips, seconds, chips * seconds / (batch * (1 if phase == "decode" else PREFILL)))


def curve(name: str, weights: str, phase: str, chips: int, batches: Iterable[int]) -> list[Point]:
    """Return the Pareto front over batches, each with the fastest of the layouts that the paper takes and that fits."""
    ways = [("ws2d_code", "batch")] if phase == "decode" else [("ws2d_code", "heads"), ("wg_xyz_code", "batch")]
    net, palm, found = slice_of(chips), model(name), []
    for batch in batches:
        times = []
        for ffn, attention in ways:
            layout, workload = Layout(ffn, attention, weights), workload_of(phase, batch)
            try:
                program = build(palm, layout, passes(workload)[-1], lengths(net))
                fits = memory(palm, layout, workload, lengths(net), TPU.hbm_bytes).fits
            except (LayoutError, ShardingError):
                continue
            if fits:
                times.append(simulate(replace(program, prologue=(), epilogue=()), net, TPU).makespan)
        found += [point(phase, batch, chips, min(times))] if times else []
    return [p for p in found if not any(q.seconds <= p.seconds and q.cost < p.cost for q in found)]


MODELS = (("palm-540b", 64, "solid"), ("palm-62b", 16, "dashed"), ("palm-8b", 8, "dotted"))
DTYPES = (("bf16", COMPUTE, CIRCLE), ("int8", EXPOSED, TRIANGLE))


def size(name: str) -> str:
    """Return the size in the name of a model."""
    return name.removeprefix("palm-").upper()


def of_row(row: Row, seconds: float) -> Point:
    """Return a point of a measured row, with this time."""
    workload = row.measurement.scenario.workload
    assert workload
    return point(workload.phase, workload.batch, len(row.measurement.scenario.net.chips), seconds)


def figure_1(folder: Path, rows: Sequence[Row]) -> None:
    """Draw latency against cost: measured and simulated points of PaLM 540B, simulated curves of all three models."""
    canvas = Canvas()
    y = canvas.heading(EDGE, 10, "Cost and latency of PaLM on TPU v4: simulated curves, measured markers",
                       "The paper's Fig. 1; 16 chips for 62B and 8 for 8B are ours. Numbers are batches; blue: bf16, "
                       "orange: int8.", PAGE - 40)
    entries = [Entry(f"measured, {dtype}", colour, marker) for dtype, colour, marker in DTYPES]
    entries += [Entry(f"{size(name)} on {chips} chips", FAINT, None, dashes) for name, chips, dashes in MODELS]
    y = legend(canvas, EDGE, y + 14, entries, PAGE - 40) + 30
    seconds = [10.0**i for i in range(-1, 3)]
    panels = {"decode": (Scale(2e-3, 0.25, 80, 500), Scale(0.2, 5000, y + 480, y), None, "a decode step"),
              "prefill": (Scale(0.03, 200, 580, 970), Scale(0.05, 20, y + 480, y), seconds, "a prefill, 2048 tokens a sequence")}
    for phase, (across, up, ticks, what) in panels.items():
        chart = Chart(canvas, across, up)
        chart.grid(f"{phase}: cost, chip-ms a token", lambda v: f"{v:g}", across=ticks)
        chart.below(f"time of {what}", lambda v: show(v, "s"), ticks)
        for (name, chips, dashes), (dtype, colour, _) in product(MODELS, DTYPES):
            front = curve(name, dtype, phase, chips, BATCHES if phase == "decode" else BATCHES[:-1])
            chart.curve([p.place for p in front], colour, dashes=dashes)
            for p in front:
                chart.mark(p.place, CIRCLE, colour, name="simulated", size=2.5)
            for p in front[::2] if dtype == "bf16" or name == "palm-540b" else ():
                first = f"{size(name)}, batch " if p is front[0] and dtype == "bf16" else ""
                chart.label(p.place, f"{first}{p.batch}", colour)
        for row in rows:
            if row.measurement.scenario.layouts.get(phase):
                add_measured(chart, row, phase)
        chart.place(SMALL)
    save(canvas.page(PAGE, y + 535, dots=DOTS), folder / "paper-fig1.png")


def add_measured(chart: Chart, row: Row, phase: str) -> None:
    """Draw a measured point; on other chips than the curve has, also the simulated one."""
    weights = row.measurement.scenario.layouts[phase].weights
    colour, marker = next((c, m) for dtype, c, m in DTYPES if dtype == weights)
    p, simulated = of_row(row, row.measurement.time), of_row(row, row.simulated)
    chart.mark(p.place, marker, colour, name="measured", size=6)
    if p.chips != MODELS[0][1]:
        chart.mark(simulated.place, CIRCLE, colour, name="simulated", size=2.5)
        chart.label(p.place, f"{p.batch}, on {p.chips} chips", colour)


# Fig. 3: what a layer's FFN moves

FFNS = (("ws2d", COMPUTE, CIRCLE), ("wg_x", GREEN, TRIANGLE), ("wg_xy", EXPOSED, SQUARE), ("wg_xyz", PURPLE, DIAMOND))
PRINTED = {  # bytes / 1e9 as in the paper's Fig. 3: tokens -> of each layout
    2048: (0.06711, 0.302, 1.082, 4.295), 16384: (0.5369, 0.5369, 1.141, 4.295), 131072: (4.295, 2.416, 1.611, 4.295),
    1048576: (34.36, 17.45, 5.369, 4.295)}
FIG_3 = {"layers": 1, "d_model": 16384, "d_ff": 65536, "heads": 64, "kv_heads": 1, "d_head": 256, "vocabulary": 256000,
         "gated": False, "parallel": False, "tied": True}  # only E, F and the two matrices count


def ffn_collectives(ffn: str, tokens: int) -> tuple[Collective, ...]:
    """Return the collectives of one FFN layer of Fig. 3, one after another; at least 64 sequences."""
    workload = Workload("prefill", 64, tokens // 64)
    block = build(model(FIG_3), Layout(ffn), passes(workload)[-1], dict.fromkeys("xyz", 4)).block
    names = [o.name for o in block]
    return tuple(replace(o, after=None) for o in block[names.index("add_ffn"):] if isinstance(o, Collective))


def volume(ffn: str, tokens: int) -> float:
    """Return the bytes a chip of one FFN layer, as the paper counts them."""
    return sum(o.bytes for o in ffn_collectives(ffn, tokens))


def collective_s(ffn: str, tokens: int) -> float:
    """Return the simulated time of the collectives of one FFN layer on 4x4x4, without anything else."""
    return simulate(Program(ffn_collectives(ffn, tokens)), slice_of(64), TPU).makespan


def crossing(values: Mapping[str, Sequence[float]], tokens: Sequence[int], one: str, other: str) -> float:
    """Return the tokens from which a layout is below another, between points as on log axes."""
    gaps = [log(a / b) for a, b in zip(values[one], values[other])]
    i = next(i for i, gap in enumerate(gaps) if gap <= 1e-9)
    share = gaps[i - 1] / (gaps[i - 1] - gaps[i])
    return exp(log(tokens[i - 1]) + share * log(tokens[i] / tokens[i - 1]))


def figure_3(folder: Path) -> tuple[list[float], str]:
    """Draw bytes, and the time that they take, against tokens; return the errors of the bytes, and where curves cross."""
    tokens = [2**i for i in range(11, 21)]
    moved = {ffn: [volume(ffn, n) for n in tokens] for ffn, *_ in FFNS}
    times = {ffn: [collective_s(ffn, n) for n in tokens] for ffn, *_ in FFNS}
    bandwidth = TPU.links * TPU.link_bandwidth
    canvas = Canvas()
    y = canvas.heading(EDGE, 10, "Bytes are not time: of these layouts only wg_xyz uses all links of a chip",
                       "Left, the paper's Fig. 3: one FFN layer, two matrices, E 16384, F 65536, bf16, 4x4x4 chips. Right: ours.",
                       PAGE - 40)
    y = legend(canvas, EDGE, y + 14, [
        *(Entry(ffn, colour, marker, "solid", hollow=True) for ffn, colour, marker in FFNS),
        Entry("bytes over the bandwidth of the whole chip (the paper)", FAINT, None, "dashed")], PAGE - 40) + 30
    across, low = (2048 / 1.2, 1048576 * 1.2), (0.05, 100.0)
    left = Chart(canvas, Scale(*across, 90, 470), Scale(*low, y + 400, y))
    right = Chart(canvas, Scale(*across, 580, 960), Scale(*(v * 1e9 / bandwidth for v in low), y + 400, y))
    powers = [2**i for i in range(11, 21, 3)]
    left.grid("GB a chip a layer; markers: the paper's", lambda v: f"{v:g}", across=powers)
    right.grid("time of these collectives, simulated", lambda v: show(v, "s"), across=powers)
    for ffn, colour, marker in FFNS:
        left.curve([(n, v / 1e9) for n, v in zip(tokens, moved[ffn])], colour)
        right.curve([(n, v / bandwidth) for n, v in zip(tokens, moved[ffn])], colour, width=1.2, dashes="dashed")
        right.curve(list(zip(tokens, times[ffn])), colour)
        for n, printed in PRINTED.items():
            left.mark((n, printed[[f for f, *_ in FFNS].index(ffn)]), marker, colour, name=ffn, size=6, hollow=True)
            right.mark((n, times[ffn][tokens.index(n)]), marker, colour, name=ffn, size=3)
    for chart in (left, right):
        chart.below("tokens (sequences x length)", lambda v: f"{v:,.0f}", powers)
    save(canvas.page(PAGE, y + 455, dots=DOTS), folder / "paper-fig3.png")
    errors = [volume(ffn, n) / 1e9 / v - 1 for n, printed in PRINTED.items() for (ffn, *_), v in zip(FFNS, printed)]
    pays = []
    for (one, *_), (before, *_) in zip(FFNS[1:], FFNS):
        by_bytes, by_time = (crossing(values, tokens, one, before) for values in (moved, times))
        pays.append(f"{one} pays from {by_bytes:,.0f} tokens on by bytes, from {by_time:,.0f} by time")
    return errors, "\n".join(pays)


# Fig. 6: decode on more chips


def figure_6(folder: Path, rows: Sequence[Row]) -> None:
    """Draw the time of a decode step against chips, of both weight-stationary layouts."""
    canvas = Canvas()
    y = canvas.heading(EDGE, 10, "PaLM 540B decode at batch 512: 2D pays for more chips, 1D hardly",
                       "The paper's Fig. 6: bf16, layers only. Markers are measured, curves are computed.", PAGE - 40)
    looks = {"ws2d_code": ("ws2d", COMPUTE, CIRCLE), "ws1d_code": ("ws1d", EXPOSED, TRIANGLE)}
    entries = [Entry(f"{name}, measured", colour, marker) for name, colour, marker in looks.values()]
    entries += [Entry(f"{name}, simulated", colour, None, "solid") for name, colour, _ in looks.values()]
    entries += [Entry("the paper's model", FAINT, None, "dashed")]
    y = legend(canvas, EDGE, y + 14, entries, PAGE - 40) + 30
    chart = Chart(canvas, Scale(56, 290, 90, 960), Scale(0, 0.12, y + 380, y, log=False, every=0.02))
    sizes = sorted({len(row.measurement.scenario.net.chips) for row in rows})
    chart.grid("time of a decode step", lambda v: f"{1e3 * v:.0f} ms", across=sizes)
    chart.below("chips", lambda v: f"{v:.0f}", sizes)
    for ffn, (_, colour, marker) in looks.items():
        mine = [(len(row.measurement.scenario.net.chips), row) for row in rows
                if row.measurement.scenario.layouts["decode"].ffn == ffn]
        chart.curve([(chips, row.simulated) for chips, row in mine], colour)
        chart.curve([(chips, row.paper) for chips, row in mine if row.paper], colour, dashes="dashed", width=1.2)
        for chips, row in mine:
            chart.mark((chips, row.simulated), CIRCLE, colour, name="simulated", size=2.5)
            chart.mark((chips, row.measurement.time), marker, colour, name="measured")
            chart.label((chips, row.measurement.time), f"{1e3 * row.measurement.time:.2f}", colour)
    chart.place()
    save(canvas.page(PAGE, y + 435, dots=DOTS), folder / "paper-fig6.png")


def report(rows: Mapping[str, Sequence[Row]], bytes_off: Sequence[float], crossings: str,
           found: Mapping[str, Mapping[tuple[int, int], Choice]]) -> str:
    """Return what docs/paper.md quotes."""
    errors = {name: [row.error for row in several] for name, several in rows.items()} | {"Fig. 3, bytes": list(bytes_off)}
    cells = [["", "points", "mean error", "worst"]]
    for name in sorted(errors):
        summary = Summary.of(errors[name])
        assert summary
        cells.append([name, str(summary.points), f"{summary.mape:.2%}", f"{summary.worst:+z.2%}"])
    rule = [["the paper's rule", "cells that fit", "other pick", "loss > 1 %", "mean loss", "worst", ""]]
    rule += [[phase, *told(several)] for phase, several in found.items()]
    return "\n\n".join([table(cells, "lrrr"), crossings, table(rule, "lrrrrrl")])


def measured() -> dict[str, list[Row]]:
    """Return the measured rows of Fig. 1 and Fig. 6 with their predictions, by figure and phase; in Fig. 1 each point once."""
    found: dict[str, list[Row]] = {}
    for row in validate([measurements.DEFAULT]).rows:
        if row.measurement.source.startswith("Fig. 6"):
            found.setdefault("Fig. 6", []).append(row)
        elif row.measurement.source.startswith("Fig. 1") and not row.measurement.twin:
            found.setdefault(f"Fig. 1, {row.measurement.group.split()[0]}", []).append(row)
    return found


def main(folder: Path = HERE) -> None:
    rows = measured()
    figure_1(folder, [*rows["Fig. 1, decode"], *rows["Fig. 1, prefill"]])
    figure_6(folder, rows["Fig. 6"])
    bytes_off, crossings = figure_3(folder)
    found = {phase: paper_rule.choices(phase) for phase in ("decode", "prefill")}
    paper_rule.draw(folder, found)
    print(report(rows, bytes_off, crossings, found))


if __name__ == "__main__":
    main()
