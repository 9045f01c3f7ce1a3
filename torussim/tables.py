"""Tables for a terminal, and shortened names. The module knows nothing of their content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial


def table(rows: Sequence[Sequence[str]], sides: str) -> str:
    """Return rows as a table; `sides` has "l" or "r" for each column.

    >>> print(table([("x", "1 us"), ("longer", "20 us")], "lr"))
      x        1 us
      longer  20 us
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(sides))]
    return "\n".join("  " + "  ".join(cell.ljust(w) if side == "l" else cell.rjust(w)
                                      for cell, w, side in zip(row, widths, sides)).rstrip() for row in rows)


def shorten(texts: Sequence[str], room: int) -> list[str]:
    """Return texts cut to `room` characters: words that most of them share go first; different texts stay different.

    If no cut keeps them different, they are returned unchanged.

    >>> shorten(["PaLM 540B decode on a torus", "PaLM 540B decode on a mesh"], 16)
    ['.. on a torus', '.. on a mesh']
    """
    if all(len(text) <= room for text in texts):
        return list(texts)
    shared = Counter(word for text in set(texts) for word in {word.rstrip(",:;") for word in text.split()})
    ways: list[Callable[[str], str]] = [lambda t: _rare(t, shared, room), *(partial(_cut, room=room, front=n)
                                                                           for n in (room // 2, room - 2, 0))]
    for way in ways:
        cut = [text if len(text) <= room else way(text) for text in texts]
        if all(len(c) <= room and c.strip(".") for c in cut) and len(set(cut)) == len(set(texts)):
            return cut
    return list(texts)


def unlike(names: Sequence[str]) -> list[str]:
    """Return names without the leading and trailing words that all share; hyphens separate words.

    >>> unlike(["network-dead-link", "network-mesh"])
    ['dead-link', 'mesh']
    """
    words = [name.split("-") for name in names]
    least = min(map(len, words), default=0)
    front = next((i for i in range(least) if len({one[i] for one in words}) > 1), least)
    back = next((i for i in range(least) if len({one[-1 - i] for one in words}) > 1), least)
    cut = ["-".join(one[front:len(one) - back]) for one in words]
    return cut if all(cut) else list(names)


def _rare(text: str, shared: Mapping[str, int], room: int) -> str:
    """Return a text without its commonest words until it fits; of equally common ones, first those that open no new gap."""
    words = text.split()
    counts = [shared[word.rstrip(",:;")] for word in words]
    left = set(range(len(words)))
    cut = text
    while left and len(cut) > room:
        most = max(counts[i] for i in left)
        left.remove(min((i for i in left if counts[i] == most), key=lambda i: ({i - 1, i + 1} <= left, i)))
        cut = " ".join(word if i in left else ".." for i, word in enumerate(words) if i in left or i == 0 or i - 1 in left)
    return cut


def _cut(text: str, room: int, front: int) -> str:
    """Return the first `front` characters of a text and as many of its last as fit."""
    return text[:front] + ".." + text[len(text) - (room - front - 2):]
