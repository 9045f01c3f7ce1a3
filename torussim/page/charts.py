"""The door to Bokeh: figures of lanes and of networks, as JSON that its script makes figures of, and that script.

Bokeh is an extra. It is imported when a page is made. Texts of figures are drawn or set as texts, never as markup.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torussim.errors import OutputError
from torussim.page.lanes import height, labels
from torussim.page.links import Drawing

if TYPE_CHECKING:
    from bokeh.models import GlyphRenderer, Range1d
    from bokeh.plotting import figure as Figure

TICKS = "return window.torussim.seconds(tick, ticks)"  # JavaScript
NEEDED = "a report needs Bokeh: pip install 'torussim[report]'"
FONT = "system-ui, sans-serif"
AXIS, SCALE = 26, 63  # pixels, of a time axis and of the scale of colours
# What bars and links say when they are pointed at, a line each; the script of the page makes the columns of bars.
BAR = ("name", "what", "time", "takes", "more")
LINK = ("name", "state", "rate", "used")
MATH = re.compile(r"\$\$|\\[([]")  # what Bokeh takes for a formula, which would need another script


def check() -> None:
    """Raise OutputError if Bokeh is not installed."""
    try:
        import bokeh.document  # noqa: F401
    except ImportError:
        raise OutputError(NEEDED, code="missing-library") from None


def script() -> str:
    """Return the script that makes figures of JSON, 1.3 MB."""
    from bokeh.resources import Resources

    return str(Resources(mode="inline", components=["bokeh"], minified=True, log_level="warn").js_raw[0])


def document(timelines: Mapping[str, Mapping[str, Any]], networks: Mapping[str, Drawing], span: float) -> dict[str, Any]:
    """Return {document, places}: figures as JSON of one document, and by the id of each the element that it goes to.

    `timelines`: lanes, as `lanes.lanes` has them; all share their time axis, which begins with 0 to `span` seconds.
    """
    from bokeh.document import Document
    from bokeh.models import Range1d

    shared = Range1d(-0.01 * span, 1.01 * span, name="time")
    figures = {place: _timeline(place, one, shared) for place, one in timelines.items()}
    figures |= {place: _network(place, one) for place, one in networks.items()}
    made = Document(title="report")
    for one in figures.values():
        made.add_root(one)
    number = {one.id: place for place, one in figures.items()}
    found: Any = made.to_json(deferred=False)
    renamed = dict[str, str]()
    content = _renamed(found, renamed)
    return {"document": content, "places": {renamed[old]: place for old, place in number.items()}}


def _renamed(value: Any, names: dict[str, str]) -> Any:
    """Return the JSON of a document with ids that count from 1, so that the same page is the same bytes."""
    if isinstance(value, dict):
        return {key: names.setdefault(part, f"m{len(names) + 1}") if key == "id" and isinstance(part, str)
                else _renamed(part, names) for key, part in value.items()}
    return [_renamed(part, names) for part in value] if isinstance(value, list | tuple) else value


def said(text: str) -> str:
    """Return a text that Bokeh does not take for a formula."""
    return MATH.sub(lambda found: "\u2060".join(found[0]), text)


def _timeline(place: str, run: Mapping[str, Any], time: Range1d) -> Figure:
    """Return a figure of the lanes of one chip; the script fills its sources, `place` with "-bars" and "-names"."""
    from bokeh import models
    from bokeh.plotting import figure

    high = height(run)
    plot = figure(name=place, x_range=time, y_range=models.Range1d(high, 0), height=high + AXIS, sizing_mode="stretch_width",
                  toolbar_location=None, tools=[], min_border_right=12, min_border_left=84, outline_line_color=None,
                  background_fill_color=None, border_fill_color=None)
    columns = ("left", "right", "top", "bottom", "colour", "alpha", *BAR, "begin_s", "end_s")
    bars = models.ColumnDataSource(data={name: [] for name in columns}, name=f"{place}-bars")
    quads = plot.quad(left="left", right="right", top="top", bottom="bottom", fill_color="colour", fill_alpha="alpha",
                      line_color=None, source=bars)
    _once(quads)
    for number, hatch in enumerate(run["hatches"]):  # a renderer each, as Bokeh makes a pattern for each bar of a column
        where = models.ColumnDataSource(data={name: [] for name in columns[:4]}, name=f"{place}-hatch-{number}")
        _once(plot.quad(left="left", right="right", top="top", bottom="bottom", fill_color=None, line_color=None,
                        hatch_pattern={"value": hatch}, hatch_color="#000000", hatch_alpha=0.35, hatch_scale=7,
                        hatch_weight=0.6, source=where))
    names = models.ColumnDataSource(data={name: [] for name in ("x", "y", "text", "colour", "back")}, name=f"{place}-names")
    plot.text(x="x", y="y", text="text", text_color="colour", text_align="center", text_baseline="middle",
              text_font={"value": FONT}, text_font_size="11px", background_fill_color="back", source=names)
    plot.add_tools(models.PanTool(dimensions="width"), models.WheelZoomTool(dimensions="width", modifiers="ctrl"),
                   models.HoverTool(
                       renderers=[quads], tooltips=[("", f"@{key}") for key in BAR], point_policy="follow_mouse",
                       attachment="below"))
    plot.toolbar.active_drag, plot.toolbar.active_scroll = plot.tools[:2]
    ticks = labels(run)
    plot.yaxis.ticker = models.FixedTicker(ticks=[y for y, _ in ticks])
    plot.yaxis.major_label_overrides = {y: said(text) for y, text in ticks}
    plot.yaxis.major_tick_line_color = plot.yaxis.axis_line_color = None
    plot.ygrid.grid_line_color = None
    plot.xaxis.formatter = models.CustomJSTickFormatter(code=TICKS)
    plot.axis.major_label_text_font = FONT
    plot.axis.major_label_text_font_size = "11px"
    plot.xaxis.minor_tick_line_color = None
    return plot


def _once(drawn: GlyphRenderer) -> None:
    """Let a renderer have no other looks than its own, each of which would cost as much."""
    drawn.nonselection_glyph = drawn.selection_glyph = drawn.muted_glyph = None


def _network(place: str, drawing: Drawing) -> Figure:
    """Return a figure of a network: links in the colour of their use, with the marks of the slow and the dead."""
    from bokeh import models
    from bokeh.plotting import figure

    across, down = models.Range1d(0, drawing.width), models.Range1d(drawing.height, 0)
    plot = figure(name=place, x_range=across, y_range=down, toolbar_location=None, tools=[], outline_line_color=None,
                  aspect_ratio=drawing.width / (drawing.height + SCALE), sizing_mode="stretch_width", min_border=0,
                  background_fill_color=None, border_fill_color=None)
    plot.axis.visible, plot.grid.visible = False, False
    mapper = models.LinearColorMapper(palette=list(drawing.palette), low=0.0, high=drawing.top, name="use")
    pointed = []
    for number, shape in enumerate(drawing.shapes):
        source = models.ColumnDataSource(data={"xs": shape.xs, "ys": shape.ys, **shape.columns}, name=f"{place}-{number}")
        fill: Any = {"field": "busy", "transform": mapper} if "busy" in shape.columns else shape.colour
        drawn = plot.patches(xs="xs", ys="ys", fill_color=fill, line_color=None, source=source, name=shape.name)
        _once(drawn)
        drawn.glyph.tags = [shape.role]
        pointed += [drawn] if "name" in shape.columns else []
    for role, align in dict.fromkeys((text.role, text.align) for text in drawing.texts):
        some = [text for text in drawing.texts if (text.role, text.align) == (role, align)]
        columns = {"x": [t.x for t in some], "y": [t.y for t in some], "text": [said(t.text) for t in some],
                   "size": [f"{1.3 * t.size:.1f}px" for t in some]}
        source = models.ColumnDataSource(data=columns)
        written = plot.text(x="x", y="y", text="text", text_font_size="size", text_align=align, text_baseline="middle",
                            text_font={"value": FONT}, text_color="#ffffff" if role == "white" else "#222222", source=source)
        written.glyph.tags = [role]
    plot.add_tools(models.PanTool(), models.WheelZoomTool(modifiers="ctrl"),
                   models.HoverTool(renderers=pointed, tooltips=[("", f"@{key}") for key in LINK], point_policy="follow_mouse"))
    plot.toolbar.active_drag, plot.toolbar.active_scroll = plot.tools[:2]
    plot.add_layout(models.ColorBar(
        color_mapper=mapper, ticker=models.BasicTicker(desired_num_ticks=5), height=10,
        formatter=models.NumeralTickFormatter(format="0.[0] %"), title=drawing.what, title_text_font=FONT,
        title_text_font_style="normal", major_label_text_font=FONT, background_fill_alpha=0.0), "below")
    return plot
