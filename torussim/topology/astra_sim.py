"""Network files of ASTRA-sim's analytical backend as graphs: rings, fully connected groups, switches, and products of them.

The format is that of astra-sim/astra-network-analytical. `topology`, `npus_count`, `bandwidth` (GB/s) and `latency` (ns) have one
entry for each dimension. A GB is 2**30 bytes (common/NetworkFunction.cpp). A bandwidth is one direction of one link: of both
links of a chip in a Ring, of the link to each other chip in FullyConnected, of the one link to the switch in Switch. A latency is
that of one link, so a message through a switch has it twice (congestion_aware/basic-topology/). In a product, the chips that
differ in one dimension only form one ring, group or switch of this dimension.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise, product
from math import isfinite, prod
from typing import Any

from torussim import files
from torussim.errors import FileError
from torussim.resolve import unknown
from torussim.topology.check import MAX_CHIPS
from torussim.topology.raw_graph import RawGraph
from torussim.topology.shape import axis_names

BLOCKS = ("Ring", "FullyConnected", "Switch")
KEYS = ("topology", "npus_count", "bandwidth", "latency")
MAX_LINKS = 20_000_000  # 4,472 chips fully connected


def astra_sim(data: bytes) -> RawGraph:
    """Return the graph of a network file of ASTRA-sim: chips (x, y, ...), one axis for each dimension, in their order.

    Raise FileError if the file is not of this format.
    """
    try:
        value = files.parse(data.decode(), "the file").value
    except UnicodeDecodeError as error:
        raise FileError(f"cannot be read: {error}") from None
    blocks, lengths, bandwidths, latencies = _lists(value)
    axes = axis_names(len(blocks))
    raw = RawGraph(directed=False)
    raw.said = ("of ASTRA-sim: a GB is 2**30 bytes, latencies are in ns and those of one link",)
    raw.attributes["axes"] = dict(zip(axes, lengths))
    for chip in product(*map(range, lengths)):
        raw.add_node(chip, {})
    for i, (axis, block, rate, delay) in enumerate(zip(axes, blocks, bandwidths, latencies)):
        link = {"bandwidth": rate * 2**30, "latency": delay * 1e-9}
        for others in product(*(range(length) if j != i else (0,) for j, length in enumerate(lengths))):
            group = [(*others[:i], at, *others[i + 1:]) for at in range(lengths[i])]
            if block == "Switch" and len(group) > 1:
                shown = [str(at) for j, at in enumerate(others) if j != i]
                switch = f"switch {axis}" + (f" {','.join(shown)}" if shown else "")
                raw.add_node(switch, {"chip": False, "level": 0})
                raw.edges += [(chip, switch, link) for chip in group]
            else:
                raw.edges += [(a, b, link) for a, b in _pairs(block, group)]
    return raw


def _pairs(block: str, group: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Return the pairs of chips with a link between them."""
    if block == "FullyConnected":
        yield from combinations(group, 2)
    else:
        yield from pairwise(group)
        if len(group) > 2:
            yield group[-1], group[0]


def _lists(value: Any) -> tuple[list[str], list[int], list[float], list[float]]:
    """Return the four lists of a file. Raise FileError, with all mistakes."""
    if not isinstance(value, dict) or "topology" not in value:
        raise FileError(f"no network file of ASTRA-sim, which has the keys {', '.join(KEYS)}", code="value")
    wrong = [unknown(key, KEYS, "key of a network file of ASTRA-sim") for key in value if key not in KEYS]
    wrong += [f"{key} is missing" for key in KEYS if key not in value]
    given: dict[str, Any] = {key: value.get(key) for key in KEYS}
    parts: dict[str, list[Any]] = {key: list(one) if isinstance(one, list) else [one] for key, one in given.items()}
    count = len(parts["topology"])
    uneven = [key for key in KEYS if key in value and len(parts[key]) != count]
    wrong += [f"{key} has {len(parts[key])} entries, but topology has {count}: give one a dimension" for key in uneven]
    wrong += [unknown(block, BLOCKS, "topology of ASTRA-sim") if isinstance(block, str) else f"topology: {block!r} is no text"
              for block in parts["topology"] if block not in BLOCKS]
    wrong += [f"npus_count: {one!r} is not a whole number above 0" for one in parts["npus_count"]
              if "npus_count" in value and (isinstance(one, bool) or not isinstance(one, int) or one < 1)]
    for key, unit, zero in (("bandwidth", "GB/s, above 0", False), ("latency", "ns, 0 or more", True)):
        wrong += [f"{key}: {one!r} is not a number of {unit}" for one in parts[key]
                  if key in value and not (type(one) in (int, float) and isfinite(one) and (one > 0 or (zero and one == 0)))]
    if not wrong:
        chips = prod(parts["npus_count"])
        links = sum(chips * (length - 1 if block == "FullyConnected" else 2)
                    for block, length in zip(parts["topology"], parts["npus_count"]))
        if chips > MAX_CHIPS or links > MAX_LINKS:
            wrong.append(f"{chips:,} chips and {links:,} links: at most {MAX_CHIPS:,} and {MAX_LINKS:,} can be simulated")
    if wrong:
        raise FileError('; '.join(wrong), code="value")
    return parts["topology"], parts["npus_count"], parts["bandwidth"], parts["latency"]
