"""The differences between runs, as text for a terminal: a line for each key, or a line for each run.

Runs have lines if a table with a line for each key is too wide or has too many gaps.

The module knows keys, their values and the width; it knows nothing of results.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from torussim.differences import shown
from torussim.tables import shorten, table

CELL, COLUMN = 40, 22  # the most characters of a value, beside its key and below it
MOST = 2 / 3  # of the runs: a key with values in this share of the runs is a column, if each run is a line
Differences = Mapping[str, Mapping[int, Any]]  # dotted key -> rank -> value


def apart(differs: Differences, ranks: Sequence[int], width: int) -> str:
    """Return the values by key and rank.

    >>> print(apart({"topology.latency": {1: 1e-6, 2: 2e-6}}, [1, 2], 80))
                        1     2
      topology.latency  1 us  2 us
    """
    by_key = _by_key(differs, ranks)
    gaps = sum(len(ranks) - len(values) for values in differs.values())
    if max(map(len, by_key.splitlines())) <= width and 2 * gaps <= len(differs) * len(ranks):
        return by_key
    return _by_run(differs, ranks, width)


def _by_key(differs: Differences, ranks: Sequence[int]) -> str:
    rows = [[key, *_cells(key, values, ranks, CELL)] for key, values in differs.items()]
    return table([["", *map(str, ranks)], *rows], "l" * (1 + len(ranks)))


def _cells(key: str, values: Mapping[int, Any], ranks: Sequence[int], room: int) -> list[str]:
    """Return the value of each run, or a dash if it has none."""
    texts = shown(key, values)
    return shorten([texts.get(rank, "-") for rank in ranks], room)


def _by_run(differs: Differences, ranks: Sequence[int], width: int) -> str:
    """Return a table with a column for each key that most runs have, up to the width, and a list of the other keys."""
    columns, rest = [["", "", *map(str, ranks)]], list[str]()
    for key, values in differs.items():
        branch, _, leaf = key.rpartition(".")
        column = [branch, leaf, *_cells(key, values, ranks, COLUMN)]
        wide = sum(2 + max(map(len, one)) for one in [*columns, column])
        if len(values) >= MOST * len(ranks) and wide <= width:
            columns.append(column)
        else:
            rest.append(key)
    parts = [table(list(zip(*columns)), "r" + "l" * (len(columns) - 1))] if len(columns) > 1 else []
    return "\n\n".join([*parts, *_list({key: differs[key] for key in rest}, ranks, width, bool(parts))])


def _list(differs: Differences, ranks: Sequence[int], width: int, further: bool) -> list[str]:
    """Return the other values of each run, a line or more for each; runs with equal values share a line."""
    texts = {key: dict(zip(ranks, _cells(key, values, ranks, CELL))) for key, values in differs.items()}
    runs: dict[str, list[int]] = {}
    for rank in ranks:
        branches: dict[str, dict[str, str]] = {}
        for key in differs:
            if rank in differs[key]:
                branch, leaf = _split(key)
                branches.setdefault(branch, {})[leaf] = texts[key][rank]
        said = "; ".join(_branch(branch, leaves) for branch, leaves in branches.items())
        runs.setdefault(said, []).append(rank)
    lines = []
    for said, some in runs.items():
        if said:
            head = f"  {', '.join(map(str, some))}  "
            lines.append(textwrap.fill(said, width, initial_indent=head, subsequent_indent=" " * len(head)))
    return ["\n".join([*(["And by run"] if further else []), *lines])] if lines else []


def _split(key: str) -> tuple[str, str]:
    """Return a key as two parts: a section or a part of one, and the key within it.

    >>> _split("topology.links.0.at.y"), _split("layout.ffn.w_in"), _split("workload.batch")
    (('topology.links.0', 'at.y'), ('layout.ffn', 'w_in'), ('workload', 'batch'))
    """
    parts = key.split(".")
    count = min(3 if len(parts) > 2 and parts[2].isdigit() else 2, len(parts) - 1)
    return ".".join(parts[:count]), ".".join(parts[count:])


def _branch(branch: str, leaves: Mapping[str, str]) -> str:
    if len(leaves) == 1:
        ((leaf, value),) = leaves.items()
        return f"{branch}{'.' if branch and leaf else ''}{leaf} {value}"
    return f"{branch} {{{', '.join(f'{leaf}: {value}' for leaf, value in leaves.items())}}}"
