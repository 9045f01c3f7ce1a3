"""Parts of an HTML page: every text is escaped here, and nothing is markup that was not made here.

It knows nothing of what the parts say.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

VOID = ("meta", "br", "hr", "col", "input", "img")  # elements without an end
# In a script element "</script>" and "<!--" mean something also within a string; the two separators end a line in old engines.
IN_SCRIPT = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


class Html(str):
    """A text that is markup already."""

    __slots__ = ()


Part = str | Iterable[Any] | None  # a text, markup, several parts, or nothing


def escaped(part: Part) -> Html:
    """Return a part as markup: texts escaped, several parts one after the other, nothing for None.

    >>> escaped(["a < b", None, Html("<br>")])
    'a &lt; b<br>'
    """
    if part is None:
        return Html()
    if isinstance(part, Html):
        return part
    return Html(html.escape(part)) if isinstance(part, str) else Html("".join(map(escaped, part)))


def tag(name: str, /, *parts: Part, **attributes: str | bool | None) -> Html:
    """Return an element; `class_` and `data_x` are the attributes class and data-x; False or None: without it.

    >>> tag("a", "<b>", href='"x"', class_="link", hidden=True, id=None)
    '<a href="&quot;x&quot;" class="link" hidden>&lt;b&gt;</a>'
    """
    said = "".join(f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(value)}"')
                   for key, value in attributes.items() if value is not None and value is not False)
    return Html(f"<{name}{said}>" + ("" if name in VOID else f"{escaped(parts)}</{name}>"))


def script_json(value: Any) -> Html:
    """Return data as JSON that can stand in a script element, whatever its texts are: numbers as they are, no NaN."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Html(text.translate(IN_SCRIPT))


def exact(value: float | int | None, shown: str) -> Html:
    """Return a number as it is shown, with its exact value for programs (`data value`)."""
    return escaped(shown) if value is None else tag("data", shown, value=repr(value))


def table(caption: Part, head: Sequence[Part], rows: Sequence[Sequence[Part]], *, sides: str = "", name: str = "",
          marks: Mapping[int, str] | None = None, hide_caption: bool = False) -> Html:
    """Return a table that scrolls within itself where it is wide; the first cell of a row is its head.

    `sides`: "l" or "r" for each column; `marks`: a class for some rows, by their index.
    """
    sides = sides or "l" * len(head)
    top = tag("tr", [tag("th", cell, scope="col", class_=side) for cell, side in zip(head, sides, strict=True)])
    body = [tag("tr", tag("th", row[0], scope="row", class_=sides[0]),
                [tag("td", cell, class_=side) for cell, side in zip(row[1:], sides[1:], strict=True)],
                class_=(marks or {}).get(i)) for i, row in enumerate(rows)]
    title = tag("caption", caption, class_="unseen" if hide_caption else None)
    # What scrolls must be reachable with the keyboard, and what is reachable needs a name.
    label = caption if isinstance(caption, str) and not isinstance(caption, Html) else name
    return tag("div", tag("table", title, tag("thead", top), tag("tbody", body), id=name or None),
               class_="wide", tabindex="0", role="region", aria_label=label)


def section(name: str, title: str, *parts: Part) -> Html:
    """Return a section of the page with its heading, which links can lead to."""
    return tag("section", tag("h2", title, id=f"{name}-title"), parts, id=name, aria_labelledby=f"{name}-title")


def bars(label: str, shares: Sequence[tuple[str, float, str]]) -> Html:
    """Return one bar of parts, each (name, share of the width, class of its colour); `label` says it without sight."""
    return tag("div", [tag("span", style=f"width:{100 * max(0.0, share):.4g}%", class_=f"part {kind}", title=name)
                       for name, share, kind in shares if share > 0], class_="bar", role="img", aria_label=label)
