"""The lanes of one chip: its computations, its collectives, and the transfers of its links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from torussim import analysis
from torussim.plot.canvas import COMPUTE, EXPOSED, FAINT, FIXED, INK, KIND_COLOURS, KIND_HATCHES, NORMAL, OTHER, SMALL, Canvas
from torussim.plot.labels import CLOSE, LEFT, RIGHT, WIDTH, crowds, flags, gathered, joined, percent, short, tint, visible
from torussim.plot.view import View
from torussim.program import KINDS, Collective, Operation
from torussim.timeline import Array, Sent
from torussim.units import show

ROW, COMPUTE_HEIGHT, COLLECTIVE_HEIGHT, HALF = 16, 36, 24, 13  # pixels


@dataclass(frozen=True, eq=False)
class Bar:
    """An operation on one chip, in pixels. `own`: whether it belongs to a run that is shown, or to a neighbouring run."""

    operation: Operation
    x0: float
    x1: float
    seconds: float
    own: bool

    @property
    def name(self) -> str:
        """The operation's name, shortened if it is long."""
        return short(self.operation.name, 44)

    @property
    def drawn(self) -> tuple[float, float]:
        """Left and right end as drawn, so that even thin bars are visible."""
        left = min(self.x0, WIDTH - 2) if self.own else self.x0
        return left, max(self.x1, left + 2)


@dataclass
class Panel:
    """The lanes of one chip."""

    view: View
    canvas: Canvas
    chip: int

    def __post_init__(self) -> None:
        view, self.timeline = self.view, self.view.timeline
        self.begin = view.extents[self.chip, view.runs.start][0]
        self.end = max(view.extents[self.chip, run][1] for run in view.runs)
        self.columns = view.columns()
        self.bubbles = analysis.bubbles(self.timeline, self.chip)
        self.detailed = [run for run in view.runs if not self.columns or not view.is_block(run)]
        self.bars = [bar for run in self.detailed for bar in self.bars_of(run, True)]
        for step, run in ((-1, view.runs.start - 1), (1, view.runs.stop)):  # runs that reach in from before and after
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
        kept = {sent.operation for sent in self.timeline.sent}
        moving = [o for o in self.collectives if o.name in self.timeline.carried and self.timeline.carried[o.name].any()]
        self.unkept = [o for o in moving if o.name not in kept]  # routed messages are not recorded
        self.edges = self.column_edges()

    def bars_of(self, run: int, own: bool) -> list[Bar]:
        """Return the operations of one run on this chip."""
        segment, offset = self.timeline.runs[run]
        s, x = self.timeline.segments[segment], self.view.x
        found = list[Bar]()
        for o, start, end in zip(s.operations, s.start[:, self.chip] + offset, s.end[:, self.chip] + offset, strict=True):
            if o.on and start == end:  # other chips run it
                continue
            idle = self.bubbles[np.abs(self.bubbles[:, 0] - start) <= 1e-12 * abs(start)]
            begin = min(float(idle[0, 1]), float(end)) if o.on and len(idle) and isinstance(o, Collective) else float(start)
            found.append(Bar(o, x(begin), x(float(end)), float(end) - begin, own))
        return found

    def column_edges(self) -> Array:
        """Return seconds: the starts of the columns of narrow blocks, each at least 3 pixels wide, and the end of the last."""
        edges: list[float] = []
        for run in self.columns:
            start = self.view.extents[self.chip, run][0]
            if not edges or (start - edges[-1]) * self.view.scale >= 3:
                edges.append(start)
        if edges:
            edges.append(max(self.view.extents[self.chip, run][1] for run in self.columns))
        return np.array(edges)

    def draw(self, y: float) -> float:
        """Draw the chip's lanes from `y` downwards. Return their lower end."""
        y = self.zones(self.header(y))
        if self.computes:
            y = self.compute_lane(y)
        if self.collectives:
            y = self.collective_lane(y)
            whole = dict.fromkeys(axis.partition("/")[0] for axis in self.timeline.axes)  # x is the whole axis of x/2 and x/4*2
            lengths = dict(zip(whole, self.view.lengths, strict=True))
            for axis in self.timeline.axes:
                if lengths[axis.partition("/")[0]] > 1:
                    y = self.link_lane(axis, y)
        return y

    def header(self, y: float) -> float:
        """Write the chip and the shares of its time. Return the upper end of the lanes."""
        canvas, finish = self.canvas, self.timeline.finish
        place = self.timeline.chips[self.chip]
        coordinates = (", " if len(place) < 6 else ",").join(map(str, place))
        parts = [(f"chip ({coordinates})", INK, True)]
        near = analysis.ALIKE * self.timeline.makespan
        if np.ptp(finish) > near:
            if self.chip == self.timeline.last_chip:
                parts.append(("last to finish", INK, False))
            elif finish[self.chip] <= finish.min() + near:
                parts.append(("first to finish", INK, False))
        if self.computes:
            share = analysis.usage(self.timeline, self.chip, [self.begin, self.end]).shares()
            parts += [(f"exposed communication {percent(share['exposed'])} of {self.view.what()}", EXPOSED, True),
                      (f"compute {percent(share['compute'])}", COMPUTE, False),
                      (f"overhead {percent(share['overhead'])}", FAINT, False)]
            parts += [(f"bubbles {percent(share['bubble'])}", FAINT, False)] if analysis.staged(self.timeline) else []
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
        """Draw brackets over the runs, if there are several."""
        if len(self.view.runs) < 2:
            return y
        counts = self.timeline.counts()
        groups = [[run] for run in self.detailed] + [list(runs) for _, runs in groupby(self.columns, self.view.section)]
        for group in groups:
            x0 = self.view.x(self.view.extents[self.chip, group[0]][0])
            x1 = self.view.x(self.view.extents[self.chip, group[-1]][1])
            text = self.view.title(group[0])
            if len(group) > 1:
                mean = (x1 - x0) / self.view.scale / len(group)
                what = self.view.title(group[0], counts[group[-1]][0])
                text = f"{what}, {show(mean, 's')} each on average, as shares of their time"
            for x in (x0 + 1, x1 - 1):
                self.canvas.line(x, y + 15, x, y + 19, FAINT)
            self.canvas.line(x0 + 1, y + 15, max(x1 - 1, x0 + 2), y + 15, FAINT)
            if self.canvas.measure(text, SMALL) < x1 - x0 - 4:
                self.canvas.text((x0 + x1) / 2, y + 7, text, size=SMALL, colour=FAINT, align="center")
        return y + 23

    # -- lanes

    def compute_lane(self, y: float) -> float:
        """Draw the compute unit's lane. Return its lower end."""
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
        for a, b in self.bubbles:
            canvas.fit(view.x(a), view.x(b), y + height / 2, [f"bubble {show(b - a, 's')}", "bubble"], FAINT)
            for a, b in analysis.without(np.array([[start, end]]), self.bubbles):
                canvas.box(view.x(a), view.x(b), y, y + height, FIXED, layer=0)  # a part without a bar is a launch alone
        crowded = [group for group in crowds([bar for bar in bars if bar.own], lambda bar: (bar.x0 + bar.x1) / 2)
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

    def compute_bar(self, bar: Bar, y: float, height: float) -> None:
        """Draw a matmul. If it contains waits, its height is the share of its time that it works."""
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
        canvas.fit(bar.x0 + (head if head >= 0.7 else 0), bar.x1, middle, names(bar), "white",
                   back="" if busy * height >= 15 else COMPUTE)

    def collective_lane(self, y: float) -> float:
        """Draw the collectives' lane. Return its lower end."""
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
            if bar.own and not canvas.fit(bar.x0, bar.x1, middle, names(bar), INK,
                                              back=tint(KIND_COLOURS[bar.operation.kind], 0.3)):
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
        """Draw the + link above the - link: light during a collective over the axis, dark while the chip sends."""
        canvas = self.canvas
        for bar in self.bars:
            if isinstance(bar.operation, Collective) and axis in bar.operation.axes and bar.own:
                canvas.box(*bar.drawn, y, y + 2 * HALF, tint(KIND_COLOURS[bar.operation.kind], 0.22), layer=0)
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
                all_sent = analysis.merged(joined(spans[run] for _, spans in sends for run in self.columns))
                self.stack(top, HALF, self.edges, [(analysis.spread(all_sent, self.edges), FAINT, "", "")])
            used = analysis.merged(joined(s for _, spans in sends for s in spans.values()))
            if any(axis in o.axes for o in self.unkept):
                continue  # the recorded share is not the share of all messages
            share = float((used[:, 1] - used[:, 0]).sum()) / (self.end - self.begin) if self.end > self.begin else 0.0
            canvas.text(WIDTH + 8, top + HALF / 2, percent(share), size=SMALL, colour=FAINT)
        canvas.used |= {"links", "messages"} if self.sent else {"links"}
        canvas.unkept += [o.name for o in self.unkept if axis in o.axes]
        canvas.used |= {"flows"} if self.timeline.flows else set()
        return y + 2 * HALF + 5

    def sends(self, axis: str, sign: int) -> list[tuple[Collective, dict[int, Array]]]:
        """Return for each collective {run: (messages, 2)}: the start and end of each transfer on one of the chip's links."""
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
        """Draw messages: separately if distinguishable, otherwise merged, with the height of their share of the time."""
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
        """Return for each column the seconds during which a collective of these kinds runs."""
        spans = joined(ran for operation, ran in analysis.occurrences(self.timeline, self.chip)
                        if isinstance(operation, Collective) and operation.kind in kinds)
        return analysis.spread(analysis.without(analysis.merged(spans), self.bubbles), self.edges)

    def stack(self, y: float, height: float, edges: Array, parts: Sequence[tuple[Array, str, str, str]]) -> None:
        """Draw seconds of each column as stacked shares; (seconds, colour, hatch, name) of each part.

        Neighbouring columns of equal look are drawn as one.
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
                self.canvas.fit(self.view.x(edges[0]), self.view.x(edges[-1]), middle, [f"{name} {percent(mean)}"],
                                "white" if dark else INK, back=colour if dark else tint(colour, 0.3))
            if name in KINDS and shares[row].any():
                self.canvas.used.add(name)

    def inside(self, bar: Bar) -> bool:
        """Whether the bar's name fits inside it."""
        return any(self.canvas.measure(text, NORMAL) + 6 <= visible(bar.x0, bar.x1) for text in names(bar))

    def sublanes(self, bars: Sequence[Bar]) -> tuple[dict[Bar, int], bool]:
        """Return the row of each bar, and whether bars overlap; if so, each has room for its name beside it."""
        order = sorted(bars, key=lambda b: b.x0)
        reach, concurrent = -np.inf, False
        for bar in order:
            concurrent |= bar.x0 < reach - 0.5
            reach = max(reach, bar.x1)
        rows: dict[Bar, int] = {}
        ends: list[float] = []
        for bar in order:
            named = concurrent and bar.own and not self.inside(bar)
            name = self.canvas.measure(bar.name, NORMAL) + 8 if named else 0.0
            left, right = bar.drawn
            left, right = (left, right + name) if right + name <= WIDTH + RIGHT else (left - name, right)
            row = next((r for r, end in enumerate(ends) if left >= end - 0.5), len(ends)) if concurrent else 0
            ends[row:row + 1] = [right]
            rows[bar] = row
        return rows, concurrent

    def beside(self, bar: Bar, y: float) -> None:
        """Write a bar's name beside it, on the side with room."""
        left, right = bar.drawn
        fits = right + self.canvas.measure(bar.name, NORMAL) + 8 <= WIDTH + RIGHT
        self.canvas.text(right + 3 if fits else left - 3, y, bar.name, align="left" if fits else "right")

    def callouts(self, bars: Sequence[Bar], y: float, sign: int) -> float:
        """Write the names of bars above (sign -1) or below the lane with a line to each. Return their height."""
        items = gathered([((max(bar.drawn[0], 0.0) + min(bar.drawn[1], WIDTH)) / 2, bar.name) for bar in bars])
        places = flags([(x, self.canvas.measure(name, NORMAL)) for x, name in items])
        self.canvas.unnamed += [name for (_, name), place in zip(items, places, strict=True) if place is None]
        height = ROW * max((place[0] + 1 for place in places if place), default=0) + (4 if any(places) else 0)
        edge = y + height if sign < 0 else y
        for (x, name), place in zip(items, places, strict=True):
            if place:
                middle = edge + sign * (place[0] * ROW + ROW / 2 + 3)
                self.canvas.line(x, edge, x, middle + sign * 3, FAINT)
                self.canvas.text(x + 3 * place[1], middle, name, align="left" if place[1] > 0 else "right")
        return height


def names(bar: Bar) -> list[str]:
    """Return the texts that may be written into a bar, longest first."""
    return [f"{bar.name}  {show(bar.seconds, 's')}", bar.name]
