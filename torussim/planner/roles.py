"""The space of tables of shardings: what each logical axis can do for each tensor of a layer (docs/shardings.md).

A role of an axis names, for each tensor, the dimension that the axis cuts at each station of the tensor's path, or nothing. A
table is one role for each axis, chosen independently. Knows nothing of sizes, links and times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from torussim.layouts import DIMENSIONS, Path
from torussim.sharding import Sharding

Letters = tuple[str, ...]  # the dimension that an axis cuts at each station of a path; "": none
Role = Mapping[str, Letters]  # tensor -> letters

SPINE = ("residual", "w_in")  # what attention and MLP of a layer share, and what is chosen first
MLP = ("hidden", "w_out")
ATTENTION = ("w_q", "w_k", "q", "kv", "w_o")
TENSORS = (*SPINE, *MLP, *ATTENTION)
_HEADS = {"F": "H", "E": "E", "": ""}  # the letters of W_in or W_out -> those of W_q or W_o


@dataclass(frozen=True)
class Kind:
    """What the space depends on besides the axes: the kind of block, and whether K and V can be cut by heads."""

    parallel: bool
    kv_heads: bool  # whether there is more than one KV head
    multihead: bool  # as many KV heads as heads: K and V can travel like Q


def spines() -> list[Role]:
    """Return the roles of an axis for the residual and W_in.

    An axis that cuts the residual's batch goes on cutting it in the matmuls, with weights stored cut by it or not, or cuts E or F.
    """
    cut = [{"residual": (residual,), "w_in": (w_in,)} for residual in ("B", "E", "") for w_in in ("E", "F", "")
           if (residual, w_in) != ("B", "")]
    return cut + [{"residual": ("B",), "w_in": w_in} for w_in in _batched("F")]


def mlps(spine: Role) -> Iterator[Role]:
    """Yield the roles of an axis for the hidden layer and W_out."""
    if batched(spine):
        yield from ({"hidden": ("B",), "w_out": w_out} for w_out in _batched("F"))
        return
    made = spine["w_in"][-1]
    for w_out in ("E", "F", ""):
        scattered = ["F"] if made == "F" or w_out == "F" else []
        reduced = [""] if made != "F" and w_out != "F" else []
        both = ["F"] if (made, w_out) == ("E", "E") else []
        yield from ({"hidden": (hidden,), "w_out": (w_out,)} for hidden in scattered + both + reduced)


def attentions(spine: Role, w_out: Letters, kind: Kind) -> Iterator[Role]:
    """Yield the roles of an axis for attention. In a parallel block W_o is cut as W_out is, so that their results can be added."""
    if batched(spine):
        stored = spine["w_in"]
        outs = [w_out] if kind.parallel else _batched("F")
        keys = [("K", ""), ("",)] if stored[0] == "F" else [stored]
        for out in outs:
            for w_k in keys:
                for q, kv in [(("B",), ("B",)), *((("B", "H"), (k,)) for k in _kept("H", kind))]:
                    yield {"w_q": _as_heads(stored), "w_k": w_k, "q": q, "kv": kv, "w_o": _as_heads(out)}
        return
    made = spine["w_in"][-1]
    outs = [w_out] if kind.parallel else [("E",), ("F",), ("",)]
    for w_q, w_k in {"E": [("E", "E")], "F": [(q, k) for q in ("H", "") for k in ("K", "")], "": [("", "")]}[made]:
        for q in [("H",), ("B",), ("",), *([("H", "B"), ("H", "")] if w_q else [])]:
            for k in _kept(q[-1], kind):
                along = kind.multihead and len(q) > 1 and w_k
                for kv in [(k,), *([("K", k)] if along else [])]:
                    for out in outs:
                        yield {"w_q": (w_q,), "w_k": (w_k,), "q": q, "kv": kv, "w_o": _as_heads(out)}


def batched(spine: Role) -> bool:
    """Return whether an axis cuts the batch in the matmuls with the weights."""
    return spine["residual"] == ("B",) and not spine["w_in"][-1]


def _batched(dim: str) -> list[Letters]:
    """Return the paths of a weight on an axis that cuts the batch: stored cut over E or the other dimension, or whole."""
    return [("E", ""), (dim, ""), ("",)]


def _as_heads(letters: Letters) -> Letters:
    return tuple(_HEADS[letter] for letter in letters)


def _kept(used: str, kind: Kind) -> tuple[str, ...]:
    """Return what an axis can cut of K and V where attention runs, if it cuts `used` of Q there."""
    return ("K", "") if used == "H" and kind.kv_heads else (used if used == "B" else "",)


def halves_of(kind: Kind) -> list[list[list[Role]]]:
    """Return the roles of an axis by spine: of a parallel block all at once, of a serial block those of attention and of the MLP.

    Each has the entries of its spine too.
    """
    if kind.parallel:
        return [[[{**spine, **mlp, **one} for mlp in mlps(spine) for one in attentions(spine, mlp["w_out"], kind)]
                 for spine in spines()]]
    return [[[{**spine, **one} for one in attentions(spine, (), kind)] for spine in spines()],
            [[{**spine, **mlp} for mlp in mlps(spine)] for spine in spines()]]


def path(tensor: str, axes: Sequence[str], letters: Sequence[Letters]) -> Path:
    """Return the path of a tensor from the letters of each axis."""
    return _path(tensor, tuple(axes), tuple(letters))


@cache
def _path(tensor: str, axes: tuple[str, ...], letters: tuple[Letters, ...]) -> Path:
    stations: list[Sharding] = []
    for station in range(max(map(len, letters), default=1)):
        cut = {axis: one[min(station, len(one) - 1)] for axis, one in zip(axes, letters)}
        found = Sharding(tuple((dim, tuple(a for a in axes if cut[a] == dim)) for dim in DIMENSIONS[tensor]))
        if not stations or found != stations[-1]:
            stations.append(found)
    return Path(tuple(stations) or (Sharding(tuple((dim, ()) for dim in DIMENSIONS[tensor])),))


def table(axes: Sequence[str], roles: Sequence[Role]) -> dict[str, Path]:
    """Return the table in which each axis has its role."""
    return {tensor: path(tensor, axes, [role[tensor] for role in roles]) for tensor in TENSORS}
