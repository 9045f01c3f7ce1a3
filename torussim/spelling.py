"""The nearest of some names to a misspelt one; the module knows nothing of the meaning of names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import islice

LONGEST, MOST = 100, 1000  # the most letters of a name, and the most names, that are compared, for speed


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` that `name` misspells, ignoring case; None if none is near.

    A name is near if it has at most one edit for every three letters (a letter too many, missing, wrong, or two swapped), or if
    it is the only one that contains `name` as a whole word. Names with other digits are not near: digits can be missing, added or
    swapped, but not replaced. Names of over LONGEST letters are near none, and only the first MOST of `names` are compared.

    >>> nearest("palm-54b", ["palm-540b", "palm-62b"])
    'palm-540b'
    >>> nearest("ring", ["default", "one_ring"]), nearest("tpu-v9", ["tpu-v4", "tpu-v5e"])
    ('one_ring', None)
    """
    given = name.casefold()
    folded: dict[str, str] = {}
    for candidate in islice(names, MOST):
        if max(len(candidate), len(name)) <= LONGEST:
            folded.setdefault(candidate.casefold(), candidate)
    near = [one for one in folded if _is_near(given, one)]
    if near:
        return folded[max(near, key=lambda one: (one == given, difflib.SequenceMatcher(None, given, one).ratio()))]
    holding = [one for one in folded if given in re.split(r"[^a-z0-9]+", one)] if given else []
    return folded[holding[0]] if len(holding) == 1 else None


def _is_near(one: str, other: str) -> bool:
    """Return whether few enough edits lead from one text to the other; the common section does not count as length."""
    (section, _, last), (other_section, _, other_last) = one.rpartition("."), other.rpartition(".")
    if section == other_section:
        one, other = last, other_last
    allowed = max(len(one), len(other)) // 3
    return abs(len(one) - len(other)) <= allowed and _alike_digits(one, other) and _edits(one, other) <= allowed


def _alike_digits(one: str, other: str) -> bool:
    """Return whether the digits of the texts are equal, except for swaps and for omissions in one of them."""
    few, many = sorted((re.findall(r"\d", one), re.findall(r"\d", other)), key=len)
    rest = iter(many)
    return sorted(few) == sorted(many) or all(digit in rest for digit in few)


def _edits(one: str, other: str) -> int:
    """Return the number of edits from one text to the other: insert, delete, replace, or swap neighbours.

    Optimal string alignment; len(one) x len(other) steps.
    """
    before: list[int] = []
    last = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        row = [i]
        for j, b in enumerate(other, start=1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (a != b))
            if before and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
