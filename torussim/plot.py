"""Timelines as matplotlib figures: what each chip computes, sends and waits for.

Draws from a Timeline alone, and shows nothing; only `save` writes. Everything is laid out in pixels of a picture 1200 wide,
where text can be measured before it is placed, so that no two texts meet; then it is drawn, with the time axis behind it.
An area is a length of time: what is lower than its lane takes that share of the time. matplotlib is imported when it is
needed, and never pyplot, which takes half a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from torussim import analysis
from torussim.errors import TorusSimError
from torussim.program import KINDS, Collective, Operation
from torussim.timeline import Array, Sent, Timeline
from torussim.units import show

if TYPE_CHECKING:
    from matplotlib.figure import Figure

T = TypeVar("T")

# Colours of Okabe and Ito, which all readers can tell apart; a collective has a hatch as well, compute is dark and plain.
COMPUTE, FIXED, EXPOSED, OTHER, INK, FAINT = "#0072B2", "#8C8C8C", "#D55E00", "#DEDEDE", "#222222", "#666666"
KIND_COLOURS = dict(zip(KINDS, ("#56B4E9", "#009E73", "#E69F00", "#CC79A7", "#F0E442"), strict=True))
KIND_HATCHES = dict(zip(KINDS, ("////", "\\\\\\\\", "xxxx", "....", "----"), strict=True))

LEFT, WIDTH, RIGHT = 92, 1044, 64  # pixels; 100 to the inch
ROW, COMPUTE_HEIGHT, COLLECTIVE_HEIGHT, HALF = 16, 36, 24, 13
MAX_ROWS = 12  # of labels beside a lane
CLOSE = 4  # pixels
MAX_CHIPS = 100  # more are higher than a picture can be
SMALL, NORMAL = 8.5, 9.5  # points


def timeline_figure(timeline: Timeline, *, chips: Sequence[int] | None = None, first: int | None = None, runs: int = 1,
                    title: str = "", subtitle: str = "") -> Figure:
    """Return a picture of what `chips` did in `runs` of the timeline's runs from index `first` on.

    By default of the chips of `analysis.chosen_chips` in the last block that was simulated; `runs` beyond the last are
    left out. A block too narrow to read is one column of shares. Messages appear for the chips that were recorded.
    Raise TorusSimError for a chip or a run that is not there.
    """
    chips = analysis.chosen_chips(timeline) if chips is None else chips
    first = analysis.last_block(timeline) if first is None else first
    for what, index, count in [("chip", c, len(timeline.chips)) for c in chips] + [("run", first, max(1, len(timeline.runs)))]:
        if not 0 <= index < count:
            raise TorusSimError(f"there is no {what} {index}: give one from 0 to {count - 1}")
    if len(chips) > MAX_CHIPS:
        raise TorusSimError(f"{len(chips)} chips are too many for one picture: give at most {MAX_CHIPS}")
    view = _view(timeline, chips, range(first, min(first + max(runs, 1), len(timeline.runs))))
    canvas = _Canvas()
    y = 0.0
    for chip in chips if view.runs else ():
        y = _Panel(view, canvas, chip).draw(y) + 16
    if not y:
        canvas.text(WIDTH / 2, 30, "nothing ran", colour=FAINT, align="center")
    return canvas.figure(max(y - 8, 60), view, title, subtitle)


def encode(figure: Figure, kind: str) -> bytes:
    """Return a figure as the bytes of a "png", "svg" or "pdf" file, without dates: equal figures give equal bytes."""
    import io

    import matplotlib

    dates: dict[str, dict[str, Any]] = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    if kind not in dates:
        raise TorusSimError(f"no picture can be made as {kind!r}: give png, svg or pdf")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "torussim"}):
        figure.savefig(buffer, format=kind, metadata=dates[kind])
    return buffer.getvalue()


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as png, svg or pdf, as the path ends."""
    Path(path).write_bytes(encode(figure, Path(path).suffix.lower().removeprefix(".")))


# -- what is shown -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _View:
    """What all panels share: the window in seconds, and pixels a second."""

    timeline: Timeline
    runs: range
    extents: dict[tuple[int, int], tuple[float, float]]  # (chip, run): when it begins and ends there
    since: float
    until: float
    lengths: tuple[int, ...]  # of the axes

    @property
    def scale(self) -> float:
        return WIDTH / (self.until - self.since)

    def x(self, seconds: float) -> float:
        return (seconds - self.since) * self.scale

    def extent(self, chip: int, run: int) -> tuple[float, float]:
        segment, offset = self.timeline.runs[run]
        s = self.timeline.segments[segment]
        return float(s.start[:, chip].min(initial=np.inf)) + offset, float(s.end[:, chip].max(initial=-np.inf)) + offset

    def section(self, run: int) -> str:
        return self.timeline.segments[self.timeline.runs[run][0]].section

    def columns(self) -> list[int]:
        """Return the blocks among the runs, if there are some and they are too narrow to show their operations."""
        blocks = {run: len(self.timeline.segments[self.timeline.runs[run][0]].operations)
                  for run in self.runs if self.section(run) == "block"}
        wide = [end - start for (_, run), (start, end) in self.extents.items() if run in blocks]
        if len(blocks) < 2 or np.mean(wide) * self.scale >= min(400, 14 * max(blocks.values())):
            return []
        return list(blocks)

    def what(self) -> str:
        """Return what is shown, in words."""
        sections = [self.section(run) for run in range(len(self.timeline.runs))]
        blocks = sections.count("block")
        if len(self.runs) == len(sections):
            return "the run"
        if len(self.runs) > 1:
            return "what is shown"
        run = self.runs.start
        return f"block {sections[:run].count('block') + 1} of {blocks}" if sections[run] == "block" else f"the {sections[run]}"


def _view(timeline: Timeline, chips: Sequence[int], runs: range) -> _View:
    lengths = tuple((np.array(timeline.chips).max(axis=0) + 1).tolist()) if timeline.chips else ()
    empty = _View(timeline, runs, {}, 0.0, 1.0, lengths)
    shown = range(runs.start, runs.start) if not chips else runs
    extents = {(chip, run): empty.extent(chip, run) for chip in chips for run in shown}
    since = min((start for start, _ in extents.values()), default=0.0)
    until = max((end for _, end in extents.values()), default=0.0)
    return _View(timeline, shown, extents, since, until if until > since else since + 1e-9, lengths)


# -- one chip ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Bar:
    """An operation on one chip, in pixels; `own`: of a run that is shown, else of one next to it."""

    operation: Operation
    x0: float
    x1: float
    seconds: float
    own: bool

    @property
    def drawn(self) -> tuple[float, float]:
        """Left and right end as drawn: nothing is too thin to see."""
        left = min(self.x0, WIDTH - 2) if self.own else self.x0
        return left, max(self.x1, left + 2)


@dataclass
class _Panel:
    """The lanes of one chip."""

    view: _View
    canvas: _Canvas
    chip: int

    def __post_init__(self) -> None:
        view, self.timeline = self.view, self.view.timeline
        self.begin = view.extents[self.chip, view.runs.start][0]
        self.end = max(view.extents[self.chip, run][1] for run in view.runs)
        self.columns = view.columns()
        self.detailed = [run for run in view.runs if not self.columns or view.section(run) != "block"]
        self.bars = [bar for run in self.detailed for bar in self.bars_of(run, True)]
        for step, run in ((-1, view.runs.start - 1), (1, view.runs.stop)):  # what reaches in from before and after
            while 0 <= run < len(self.timeline.runs):
                reaching = [b for b in self.bars_of(run, False) if b.x1 > 0.5 and b.x0 < WIDTH - 0.5 and b.x1 > b.x0]
                self.bars += reaching
                self.canvas.used |= {"others"} if reaching else set()
                run = run + step if reaching else -1
        operations = {o.name: o for s, _ in self.timeline.runs[view.runs.start:view.runs.stop]
                      for o in self.timeline.segments[s].operations}
        self.collectives = [o for o in operations.values() if isinstance(o, Collective)]
        self.computes = len(self.collectives) < len(operations)
        self.sent: dict[tuple[str, int], list[Sent]] = {}
        for sent in self.timeline.sent:
            if sent.chip == self.chip:
                self.sent.setdefault((sent.axis, sent.sign), []).append(sent)
        self.edges = self.column_edges()

    def bars_of(self, run: int, own: bool) -> list[_Bar]:
        segment, offset = self.timeline.runs[run]
        s, x = self.timeline.segments[segment], self.view.x
        times = zip(s.operations, s.start[:, self.chip] + offset, s.end[:, self.chip] + offset, strict=True)
        return [_Bar(o, x(float(a)), x(float(b)), float(b - a), own) for o, a, b in times]

    def column_edges(self) -> Array:
        """Return seconds: where the columns of narrow blocks begin, each at least 3 pixels wide, and the end of the last."""
        edges: list[float] = []
        for run in self.columns:
            start = self.view.extents[self.chip, run][0]
            if not edges or (start - edges[-1]) * self.view.scale >= 3:
                edges.append(start)
        if edges:
            edges.append(max(self.view.extents[self.chip, run][1] for run in self.columns))
        return np.array(edges)

    def draw(self, y: float) -> float:
        """Draw the chip's lanes from `y` on down; return where they end."""
        y = self.zones(self.header(y))
        if self.computes:
            y = self.compute_lane(y)
        if self.collectives:
            y = self.collective_lane(y)
            for axis, length in zip(self.timeline.axes, self.view.lengths, strict=True):
                if length > 1:
                    y = self.link_lane(axis, y)
        return y

    def header(self, y: float) -> float:
        canvas, finish = self.canvas, self.timeline.finish
        place = self.timeline.chips[self.chip]
        coordinates = (", " if len(place) < 6 else ",").join(map(str, place))
        parts = [(f"chip ({coordinates})", INK, True)]
        if np.ptp(finish) > analysis.ALIKE * self.timeline.makespan:
            if self.chip == self.timeline.last_chip:
                parts.append(("last to finish", INK, False))
            elif finish[self.chip] == finish.min():
                parts.append(("first to finish", INK, False))
        if self.computes:
            share = analysis.usage(self.timeline, self.chip, [self.begin, self.end]).shares()
            parts += [(f"exposed communication {_percent(share['exposed'])} of {self.view.what()}", EXPOSED, True),
                      (f"compute {_percent(share['compute'])}", COMPUTE, False),
                      (f"overhead {_percent(share['overhead'])}", FAINT, False)]
        parts.append((f"takes {show(self.end - self.begin, 's')}", FAINT, False))
        x = -LEFT + 12.0
        for text, colour, bold in parts:
            width = canvas.measure(text, 10.5, bold)
            if x + width < WIDTH + RIGHT:
                canvas.text(x, y + 10, text, size=10.5, colour=colour, bold=bold)
            x += width + 16
        canvas.line(-LEFT + 12, y - 3, WIDTH + RIGHT - 12, y - 3, "#BBBBBB")
        return y + 24

    def zones(self, y: float) -> float:
        """Draw brackets over the runs, if there are more than one."""
        if len(self.view.runs) < 2:
            return y
        sections = [self.view.section(run) for run in range(self.view.runs.stop)]
        groups = [[run] for run in self.detailed] + ([self.columns] if self.columns else [])
        for group in groups:
            x0 = self.view.x(self.view.extents[self.chip, group[0]][0])
            x1 = self.view.x(self.view.extents[self.chip, group[-1]][1])
            number = sections[:group[0]].count("block") + 1
            text = sections[group[0]] if sections[group[0]] != "block" else f"block {number}"
            if len(group) > 1:
                mean = (x1 - x0) / self.view.scale / len(group)
                text = f"blocks {number} to {number + len(group) - 1}, {show(mean, 's')} each on average, as shares of their time"
            for x in (x0 + 1, x1 - 1):
                self.canvas.line(x, y + 15, x, y + 19, FAINT)
            self.canvas.line(x0 + 1, y + 15, max(x1 - 1, x0 + 2), y + 15, FAINT)
            if self.canvas.measure(text, SMALL) < x1 - x0 - 4:
                self.canvas.text((x0 + x1) / 2, y + 7, text, size=SMALL, colour=FAINT, align="center")
        return y + 23

    # -- lanes

    def compute_lane(self, y: float) -> float:
        canvas, view = self.canvas, self.view
        bars = [bar for bar in self.bars if not isinstance(bar.operation, Collective)]
        height = COMPUTE_HEIGHT * (2 if self.columns else 1)
        y += self.callouts([bar for bar in bars if bar.own and not self.inside(bar)], y, -1)
        canvas.text(-8, y + height / 2, "compute", align="right")
        for run in self.detailed:
            start, end = view.extents[self.chip, run]
            for a, b in analysis.waits(self.timeline, self.chip, start, end):
                x0, x1 = view.x(a), view.x(b)
                canvas.box(x0, x1, y, y + height, EXPOSED, "////")
                canvas.fit(x0, x1, y + height / 2, [f"exposed {show(b - a, 's')}", show(b - a, "s")], "white", back=EXPOSED)
            canvas.box(view.x(start), view.x(end), y, y + height, FIXED, layer=0)  # what no bar hides is a bare launch
        crowded = [group for group in _crowds([bar for bar in bars if bar.own], lambda bar: (bar.x0 + bar.x1) / 2)
                   if len(group) > 3 and group[-1].x1 - group[0].x0 > CLOSE]
        for bar in bars:
            if not any(bar in group for group in crowded):
                self.compute_bar(bar, y, height)
        stacks = [np.array([min(bar.x0 for bar in group), max(bar.x1 for bar in group)]) / view.scale + view.since
                  for group in crowded] + ([self.edges] if self.columns else [])
        for edges in stacks:
            shares = analysis.usage(self.timeline, self.chip, edges)
            self.stack(y, height, edges, [(shares.compute, COMPUTE, "", "compute"), (shares.overhead, FIXED, "", "overhead"),
                                          (shares.exposed, EXPOSED, "////", "exposed")])
        canvas.used |= {"compute", "fixed", "exposed"}
        return y + height + 5

    def compute_bar(self, bar: _Bar, y: float, height: float) -> None:
        """Draw a matmul; where it waits within, it is as low as the share of its time that it works."""
        canvas, work = self.canvas, self.timeline.work[bar.operation.name]
        if not bar.own:
            canvas.box(*bar.drawn, y, y + height, OTHER)
            return
        fixed = float(work.fixed[self.chip])
        busy = min(1.0, (float(work.busy[self.chip]) + fixed) / bar.seconds) if bar.seconds else 1.0
        busy = 1.0 if (1 - busy) * height < 0.5 else busy
        top = y + height * (1 - busy)
        if busy < 1:
            canvas.box(*bar.drawn, y, top, EXPOSED, "////")
            canvas.used.add("waits within")
        canvas.box(*bar.drawn, top, y + height, COMPUTE, line=0.6)
        head = fixed * self.view.scale / busy
        if head >= 0.7:
            canvas.box(bar.x0, bar.x0 + head, top, y + height, FIXED)
        middle = (top + y + height) / 2 if busy * height >= 15 else y + height / 2
        canvas.fit(bar.x0 + (head if head >= 0.7 else 0), bar.x1, middle, _names(bar), "white",
                   back="" if busy * height >= 15 else COMPUTE)

    def collective_lane(self, y: float) -> float:
        canvas = self.canvas
        bars = [bar for bar in self.bars if isinstance(bar.operation, Collective)]
        if not bars and not self.columns:
            return y
        rows, concurrent = self.sublanes(bars)
        height = COLLECTIVE_HEIGHT * 2 if self.columns else COLLECTIVE_HEIGHT - 4 if concurrent else COLLECTIVE_HEIGHT
        canvas.text(-8, y + height * max(rows.values(), default=0) / 2 + height / 2, "collectives", align="right")
        loose = []
        for bar in bars:
            top = y + rows[bar] * height
            assert isinstance(bar.operation, Collective)
            canvas.collective(*bar.drawn, top, top + height - (2 if concurrent else 0), bar.operation.kind, bar.own)
            middle = top + height / 2 - (1 if concurrent else 0)
            if bar.own and not canvas.fit(bar.x0, bar.x1, middle, _names(bar), INK,
                                              back=_tint(KIND_COLOURS[bar.operation.kind], 0.3)):
                if concurrent:
                    self.beside(bar, middle)
                else:
                    loose.append(bar)
        bottom = y + height * (max(rows.values(), default=0) + 1)
        if self.columns:
            self.stack(y, bottom - y, self.edges, [
                (self.open_share([kind]), KIND_COLOURS[kind], KIND_HATCHES[kind], kind) for kind in KINDS])
        return bottom + self.callouts(loose, bottom, 1) + 5

    def link_lane(self, axis: str, y: float) -> float:
        """Draw the + link above the - link: light while a collective runs over the axis, dark while the chip sends."""
        canvas = self.canvas
        for bar in self.bars:
            if isinstance(bar.operation, Collective) and axis in bar.operation.axes and bar.own:
                canvas.box(*bar.drawn, y, y + 2 * HALF, _tint(KIND_COLOURS[bar.operation.kind], 0.22), layer=0)
        for sign, top in ((1, y), (-1, y + HALF)):
            canvas.text(-8, top + HALF / 2, f"{axis} {'+' if sign > 0 else '−'}", size=SMALL, align="right")
            canvas.line(0, top + HALF, WIDTH, top + HALF, "#BBBBBB" if sign < 0 else "#DDDDDD", layer=1)
            if not self.sent:
                continue
            sends = self.sends(axis, sign)
            for operation, spans in sends:
                for run in self.detailed:
                    self.messages(operation, spans[run], top)
            if self.columns:
                all_sent = analysis.merged(_joined(spans[run] for _, spans in sends for run in self.columns))
                self.stack(top, HALF, self.edges, [(analysis.spread(all_sent, self.edges), FAINT, "", "")])
            used = analysis.merged(_joined(s for _, spans in sends for s in spans.values()))
            share = float((used[:, 1] - used[:, 0]).sum()) / (self.end - self.begin) if self.end > self.begin else 0.0
            canvas.text(WIDTH + 8, top + HALF / 2, _percent(share), size=SMALL, colour=FAINT)
        canvas.used |= {"links", "messages"} if self.sent else {"links"}
        return y + 2 * HALF + 5

    def sends(self, axis: str, sign: int) -> list[tuple[Collective, dict[int, Array]]]:
        """Return for each collective {run: (messages, 2) from when to when the chip sends on one of its links}."""
        runs = self.timeline.runs
        by_segment: dict[tuple[int, str], list[tuple[float, float]]] = {}
        for sent in self.sent.get((axis, sign), ()):
            segment, offset = runs[sent.run]
            by_segment.setdefault((segment, sent.operation), []).append((sent.start - offset, sent.end - offset))
        found = []
        for operation in self.collectives:
            once = {segment: np.array(spans) for (segment, name), spans in by_segment.items() if name == operation.name}
            found.append((operation, {run: once.get(runs[run][0], np.empty((0, 2))) + runs[run][1] for run in self.view.runs}))
        return found

    def messages(self, operation: Collective, spans: Array, y: float) -> None:
        """Draw messages: each for itself where that can be seen, else together, as high as their share of the time."""
        colour, near = KIND_COLOURS[operation.kind], 1.2
        spans = np.array([(self.view.x(a), self.view.x(b)) for a, b in spans[np.argsort(spans[:, 0], kind="stable")]])
        cluster: list[tuple[float, float]] = []
        for x0, x1 in [*spans, (np.inf, np.inf)]:
            wide = x1 - x0 > CLOSE
            if cluster and (wide or x0 - cluster[-1][1] > near):
                a, b = cluster[0][0], cluster[-1][1]
                share = sum(end - start for start, end in cluster) / (b - a) if b > a else 1.0
                self.canvas.used |= {"clusters"} if share < 0.9 else set()
                self.canvas.box(a, max(b, a + 1.5), y + HALF - 1 - max(2.0, (HALF - 2) * share), y + HALF - 1, colour, layer=2)
                cluster = []
            if wide:
                self.canvas.box(x0, x1 - 0.8, y + 1, y + HALF - 1, colour, layer=2)
            else:
                cluster.append((x0, x1))

    def open_share(self, kinds: Iterable[str]) -> Array:
        """Return for each column the seconds in which a collective of these kinds is under way."""
        spans = _joined(ran for operation, ran in analysis.occurrences(self.timeline, self.chip)
                        if isinstance(operation, Collective) and operation.kind in kinds)
        return analysis.spread(analysis.merged(spans), self.edges)

    def stack(self, y: float, height: float, edges: Array, parts: Sequence[tuple[Array, str, str, str]]) -> None:
        """Draw seconds of each column as shares of it, one part upon the other; (seconds, colour, hatch, name) of each part.

        Columns that look alike are drawn as one.
        """
        widths = np.diff(edges)
        seconds = np.stack([part[0] for part in parts])
        shares = seconds / np.maximum(np.maximum(widths, seconds.sum(axis=0)), 1e-300)
        tops = y + height * (1 - np.cumsum(shares, axis=0))
        bottoms = tops + height * shares
        changes = [0]
        for i in range(1, len(widths)):
            if np.abs(tops[:, i] - tops[:, changes[-1]]).max() > 0.3:
                changes.append(i)
        for row, (_, colour, hatch, name) in enumerate(parts):
            for i, until in zip(changes, [*changes[1:], len(widths)], strict=True):
                x0, x1 = self.view.x(edges[i]), self.view.x(edges[until])
                top, bottom = tops[row, i], bottoms[row, i]
                if bottom - top > 0.05:
                    self.canvas.box(x0, x1, min(top, bottom - 1), bottom, colour, hatch)
            mean = float(shares[row] @ widths) / float(widths.sum()) if widths.sum() else 0.0
            middle, high = (tops[row].mean() + bottoms[row].mean()) / 2, (bottoms[row] - tops[row]).min()
            if name and high >= 12:
                dark = colour in (COMPUTE, FIXED, EXPOSED)
                self.canvas.fit(self.view.x(edges[0]), self.view.x(edges[-1]), middle, [f"{name} {_percent(mean)}"],
                                "white" if dark else INK, back=colour if dark else _tint(colour, 0.3))
            if name in KINDS and shares[row].any():
                self.canvas.used.add(name)

    # -- labels

    def inside(self, bar: _Bar) -> bool:
        return any(self.canvas.measure(text, NORMAL) + 6 <= _visible(bar.x0, bar.x1) for text in _names(bar))

    def sublanes(self, bars: Sequence[_Bar]) -> tuple[dict[_Bar, int], bool]:
        """Return the row of each bar, and whether any overlap; if so each has room for its name beside it."""
        order = sorted(bars, key=lambda b: b.x0)
        reach, concurrent = -np.inf, False
        for bar in order:
            concurrent |= bar.x0 < reach - 0.5
            reach = max(reach, bar.x1)
        rows: dict[_Bar, int] = {}
        ends: list[float] = []
        for bar in order:
            named = concurrent and bar.own and not self.inside(bar)
            name = self.canvas.measure(bar.operation.name, NORMAL) + 8 if named else 0.0
            left, right = bar.drawn
            left, right = (left, right + name) if right + name <= WIDTH + RIGHT else (left - name, right)
            row = next((r for r, end in enumerate(ends) if left >= end - 0.5), len(ends)) if concurrent else 0
            ends[row:row + 1] = [right]
            rows[bar] = row
        return rows, concurrent

    def beside(self, bar: _Bar, y: float) -> None:
        name = bar.operation.name
        left, right = bar.drawn
        fits = right + self.canvas.measure(name, NORMAL) + 8 <= WIDTH + RIGHT
        self.canvas.text(right + 3 if fits else left - 3, y, name, align="left" if fits else "right")

    def callouts(self, bars: Sequence[_Bar], y: float, sign: int) -> float:
        """Write the names of bars above (sign -1) or below the lane with a line to each; return the height taken."""
        items = _gathered([((max(bar.drawn[0], 0.0) + min(bar.drawn[1], WIDTH)) / 2, bar.operation.name) for bar in bars])
        places = _flags([(x, self.canvas.measure(name, NORMAL)) for x, name in items])
        self.canvas.unnamed += [name for (_, name), place in zip(items, places, strict=True) if place is None]
        height = ROW * max((place[0] + 1 for place in places if place), default=0) + (4 if any(places) else 0)
        edge = y + height if sign < 0 else y
        for (x, name), place in zip(items, places, strict=True):
            if place:
                middle = edge + sign * (place[0] * ROW + ROW / 2 + 3)
                self.canvas.line(x, edge, x, middle + sign * 3, FAINT)
                self.canvas.text(x + 3 * place[1], middle, name, align="left" if place[1] > 0 else "right")
        return height


# -- labels --------------------------------------------------------------------------------------------------------------


def _names(bar: _Bar) -> list[str]:
    return [f"{bar.operation.name}  {show(bar.seconds, 's')}", bar.operation.name]


def _joined(spans: Iterable[Array]) -> Array:
    return np.concatenate([np.empty((0, 2)), *spans])


def _visible(x0: float, x1: float) -> float:
    return min(x1, WIDTH) - max(x0, 0.0)


def _percent(share: float) -> str:
    return "<1 %" if 1e-9 < share < 0.005 else f"{100 * share:.0f} %"


def _tint(colour: str, strength: float) -> str:
    """Return a colour mixed with white."""
    parts = [int(colour[i:i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(255 - strength * (255 - part)):02X}" for part in parts)


def _crowds(items: Iterable[T], x: Callable[[T], float]) -> list[list[T]]:
    """Return the items in the order of their places, those together that lie closer than can be told apart."""
    groups: list[list[T]] = []
    for item in sorted(items, key=x):
        if groups and x(item) - x(groups[-1][-1]) < CLOSE:
            groups[-1].append(item)
        else:
            groups.append([item])
    return groups


def _gathered(items: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return (x, name) with one name in place of each crowd of more than three."""
    found = []
    for group in _crowds(items, lambda item: item[0]):
        names = f"{group[0][1]} to {group[-1][1]}, {len(group)} operations"
        found += group if len(group) <= 3 else [(group[len(group) // 2][0], names)]
    return found


def _flags(items: Sequence[tuple[float, float]]) -> list[tuple[int, int] | None]:
    """Return (row, side) of the label of each (x, width): right (1) or left (-1) of a line from x to its row.

    No label meets another or the line of another; None where that would take more than MAX_ROWS. Of some ways to place
    them the one that leaves out fewest, then needs fewest rows.
    """
    rows = range(MAX_ROWS)
    near = [(row, side) for row in rows for side in (1, -1)]
    sided = {side: [(row, s) for s in (side, -side) for row in rows] for side in (1, -1)}
    order = sorted(range(len(items)), key=lambda i: items[i][0])
    ways = [(order, [near] * len(items)), (order[::-1], [near] * len(items))]
    # Flags to the right that rise to the left, and from some item on flags to the left that rise to the right.
    ways += [(order[:split][::-1] + order[split:], [sided[1]] * split + [sided[-1]] * (len(items) - split))
             for split in range(len(items), -1, -1)[:40]]
    tried: list[list[tuple[int, int] | None]] = []
    for number, (taken, wishes) in enumerate(ways):
        if number < 3 or None in min(tried, key=_cost):
            tried.append(_placed(items, taken, wishes))
    return min(tried, key=_cost)


def _cost(places: Sequence[tuple[int, int] | None]) -> tuple[int, int, int]:
    rows = [place[0] for place in places if place]
    return len(places) - len(rows), max(rows, default=0), sum(rows)


def _placed(items: Sequence[tuple[float, float]], order: Sequence[int],
            wishes: Sequence[Sequence[tuple[int, int]]]) -> list[tuple[int, int] | None]:
    """Return the first of its wishes that is free for each item, taken in this order."""
    boxes: list[tuple[float, float, int]] = []
    lines: list[tuple[float, int]] = []
    found: list[tuple[int, int] | None] = [None] * len(items)

    def free(x: float, left: float, right: float, row: int) -> bool:
        return (left >= -LEFT / 2 and right <= WIDTH + RIGHT
                and not any(row == r and left < b + 8 and a - 8 < right for a, b, r in boxes)
                and not any(row > r and a - 2 < x < b + 2 for a, b, r in boxes)
                and not any(r >= row and left - 2 < other < right + 2 for other, r in lines))

    for i, wished in zip(order, wishes, strict=True):
        x, width = items[i]
        sides = {1: (x + 3, x + 3 + width), -1: (x - 3 - width, x - 3)}
        for row, side in wished:
            if free(x, *sides[side], row):
                found[i] = (row, side)
                boxes.append((*sides[side], row))
                lines.append((x, row))
                break
    return found


# -- the canvas ----------------------------------------------------------------------------------------------------------


@dataclass
class _Canvas:
    """What is to be drawn, in pixels, y downwards; `used`: what the legend has to explain."""

    boxes: dict[tuple[int, str, str, float], list[tuple[float, float, float, float]]] = field(default_factory=dict)
    lines: dict[tuple[int, str], list[tuple[float, float, float, float]]] = field(default_factory=dict)
    texts: list[dict[str, Any]] = field(default_factory=list)
    unnamed: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    widths: dict[tuple[str, float, bool], float] = field(default_factory=dict)

    def box(self, x0: float, x1: float, y0: float, y1: float, colour: str, hatch: str = "", *, line: float = 0.0,
            layer: int = 1) -> None:
        x0, x1 = max(x0, 0.0), min(x1, WIDTH)
        if x1 > x0:
            line = line if x1 - x0 > CLOSE else 0.0  # a white edge would leave nothing of a thin bar
            self.boxes.setdefault((layer, colour, hatch, line), []).append((x0, x1, y0, y1))

    def collective(self, x0: float, x1: float, y0: float, y1: float, kind: Any, own: bool) -> None:
        if own:
            self.used.add(kind)
        self.box(x0, x1, y0, y1, KIND_COLOURS[kind] if own else OTHER, KIND_HATCHES[kind], line=0.6)

    def line(self, x0: float, y0: float, x1: float, y1: float, colour: str, *, layer: int = 3) -> None:
        self.lines.setdefault((layer, colour), []).append((x0, y0, x1, y1))

    def text(self, x: float, y: float, text: str, *, size: float = NORMAL, colour: str = INK, bold: bool = False,
             align: str = "left", back: str = "") -> None:
        self.texts.append({"x": x, "y": y, "s": text, "fontsize": size, "color": colour, "ha": align, "back": back,
                           "fontweight": "bold" if bold else "normal"})

    def fit(self, x0: float, x1: float, y: float, choices: Sequence[str], colour: str, *, back: str = "") -> bool:
        """Write the first of `choices` that fits between x0 and x1; return whether one did."""
        x0, x1 = max(x0, 0.0), min(x1, WIDTH)
        for text in choices:
            if self.measure(text, NORMAL) + 6 <= x1 - x0:
                self.text((x0 + x1) / 2, y, text, colour=colour, align="center", back=back)
                return True
        return False

    def measure(self, text: str, size: float, bold: bool = False) -> float:
        """Return the width of a text in pixels."""
        from matplotlib.backends.backend_agg import RendererAgg
        from matplotlib.font_manager import FontProperties

        key = (text, size, bold)
        if key not in self.widths:
            font = FontProperties(size=size, weight="bold" if bold else "normal")
            renderer: Any = RendererAgg(8, 8, 100)  # type: ignore[no-untyped-call, unused-ignore]
            self.widths[key] = float(renderer.get_text_width_height_descent(text, font, False)[0])
        return self.widths[key]

    def legend(self) -> tuple[list[tuple[float, int, str, str, str]], int]:
        """Return (x, row, name, colour, hatch) of what the legend explains, and the number of its rows."""
        items = [("compute", COMPUTE, ""), ("overhead", FIXED, ""), ("exposed: compute waits for communication", EXPOSED, "////")]
        items = items if "compute" in self.used else []
        items += [(kind, KIND_COLOURS[kind], KIND_HATCHES[kind]) for kind in KINDS if kind in self.used]
        placed, x, row = [], -LEFT + 12.0, 0
        for name, colour, hatch in items:
            width = self.measure(name, NORMAL) + 52
            if x + width > WIDTH + RIGHT:
                x, row = -LEFT + 12.0, row + 1
            placed.append((x, row, name, colour, hatch))
            x += width
        return placed, row + 1 if placed else 0

    def notes(self) -> list[str]:
        found = []
        if "links" in self.used:
            sent = "; dark: the chip sends, at the right the share of the time" if "messages" in self.used else ""
            found.append(f"Link lanes: + link above, − link below; light: a collective is under way on the axis{sent}.")
        if "clusters" in self.used:
            found.append("Messages too short to be told apart are drawn as one, as low as their share of the time.")
        if "others" in self.used:
            found.append("Grey: what runs before and after.")
        if "waits within" in self.used:
            found.append("A matmul that waits within its loop is as low as the share of its time that it computes.")
        if self.unnamed:
            found.append("Too close together to be named: " + ", ".join(dict.fromkeys(self.unnamed)) + ".")
        return [line for note in found for line in self.wrapped(note, SMALL)]

    def wrapped(self, text: str, size: float, bold: bool = False) -> list[str]:
        """Return the lines of a text that is as wide as the picture; none if it is empty."""
        lines = [""] if text else []
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if self.measure(longer, size, bold) <= LEFT + WIDTH + RIGHT - 24 or not lines[-1]:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    def figure(self, height: float, view: _View, title: str, subtitle: str) -> Figure:
        """Return the figure: title and legend, panels of this height, the time axis and the notes."""
        from matplotlib.figure import Figure

        legend, rows = self.legend()
        notes = self.notes()
        titles, subtitles = self.wrapped(title, 13.5, True), self.wrapped(subtitle, 10.5)
        above, y = 20.0 * rows + 22 + 26 * len(titles) + 20 * len(subtitles), 10.0
        for line in titles:
            self.text(-LEFT + 12, y + 13 - above, line, size=13.5, bold=True)
            y += 26
        for line in subtitles:
            self.text(-LEFT + 12, y + 10 - above, line, size=10.5, colour=FAINT)
            y += 20
        for x, row, name, colour, hatch in legend:
            top = y + 4 + 20 * row - above
            self.boxes.setdefault((1, colour, hatch, 0.0), []).append((x, x + 26, top, top + 13))
            self.text(x + 32, top + 6.5, name)
        for i, note in enumerate(notes):
            self.text(-LEFT + 12, height + 56 + 15 * i, note, size=SMALL, colour=FAINT)
        below = 50.0 + (15 * len(notes) + 6 if notes else 0)

        total_width, total_height = LEFT + WIDTH + RIGHT, above + height + below
        figure = Figure(figsize=(total_width / 100, total_height / 100), dpi=100, facecolor="white")
        place = (LEFT / total_width, below / total_height, WIDTH / total_width, height / total_height)
        self.time_axis(figure.add_axes(place), view)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(-LEFT, WIDTH + RIGHT), ylim=(height + below, -above))
        axes.set_axis_off()
        self.paint(axes)
        return figure

    def time_axis(self, axes: Any, view: _View) -> None:
        length = view.until - view.since
        unit, name = next(((u, n) for u, n in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")) if length >= u), (1e-9, "ns"))
        axes.set(xlim=(0, length / unit), yticks=[])
        axes.set_xlabel(f"time from the start of {view.what()} ({name})", fontsize=NORMAL, color=INK)
        axes.tick_params(labelsize=NORMAL, color=FAINT, labelcolor=INK)
        axes.grid(axis="x", color="#EEEEEE", linewidth=1)
        axes.set_axisbelow(True)
        axes.spines[["left", "right", "top"]].set_visible(False)
        axes.spines["bottom"].set_color(FAINT)

    def paint(self, axes: Any) -> None:
        from matplotlib.collections import LineCollection, PolyCollection

        for (layer, colour, hatch, line), boxes in self.boxes.items():
            corners = [((a, c), (b, c), (b, d), (a, d)) for a, b, c, d in boxes]
            axes.add_collection(PolyCollection(corners, facecolor=colour, edgecolor="white", linewidth=line, hatch=hatch,
                                               zorder=layer), autolim=False)
        for (layer, colour), lines in self.lines.items():
            ends = [((a, b), (c, d)) for a, b, c, d in lines]
            axes.add_collection(LineCollection(ends, colors=colour, linewidths=0.7, zorder=layer), autolim=False)
        for given in self.texts:
            text = dict(given)
            back = text.pop("back")
            if back:
                text["bbox"] = {"facecolor": back, "edgecolor": "none", "pad": 1.5}
            axes.text(va="center_baseline", zorder=5, parse_math=False, **text)
