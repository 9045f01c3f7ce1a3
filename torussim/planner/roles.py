"""The space of tables of shardings: what each logical axis can do for each tensor of a layer (docs/shardings.md).

A role of an axis names, for each tensor, the dimension that the axis cuts at each station of the tensor's path, or nothing. A
table is one role for each axis, chosen independently. Knows nothing of sizes, links and times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from torussim.layouts import DIMENSIONS, Path
from torussim.sharding import Sharding

Letters = tuple[str, ...]  # the dimension that an axis cuts at each station of a path; "": none
Role = Mapping[str, Letters]  # tensor -> letters

TENSORS = ("residual", "w_in", "hidden", "w_out", "w_q", "w_k", "q", "kv", "w_o")
GATHERED: list[Letters] = [("E", ""), ("F", ""), ("",)]  # a weight on an axis that cuts the batch: gathered over it, or whole


@dataclass(frozen=True)
class Kind:
    """What the space depends on besides the axes: the kind of block, and whether K and V can be cut by heads."""

    parallel: bool
    kv_heads: bool  # whether there is more than one KV head
    multihead: bool  # as many KV heads as heads: K and V can travel like Q


def spines() -> list[Role]:
    """Return the roles of an axis for the residual and W_in.

    An axis that cuts the residual's batch goes on doing so in the matmuls, with weights stored cut by it or not, or cuts E or F.
    """
    cut: list[Role] = [{"residual": (residual,), "w_in": (w_in,)} for residual in ("B", "E", "") for w_in in ("E", "F", "")
                       if (residual, w_in) != ("B", "")]
    return cut + [{"residual": ("B",), "w_in": w_in} for w_in in GATHERED]


def mlps(spine: Role) -> Iterator[Role]:
    """Yield the roles of an axis for the hidden layer and W_out.

    Where W_in makes partial sums and W_out makes E, the sums are scattered and gathered again, or all-reduced.
    """
    if batched(spine):
        yield from ({"hidden": ("B",), "w_out": w_out} for w_out in GATHERED)
        return
    w_in = spine["w_in"][-1]
    for w_out in ("E", "F", ""):
        hidden = ("F", "") if (w_in, w_out) == ("E", "E") else ("F",) if "F" in (w_in, w_out) else ("",)
        yield from ({"hidden": (one,), "w_out": (w_out,)} for one in hidden)


def attentions(spine: Role, w_out: Letters | None, kind: Kind) -> Iterator[Role]:
    """Yield the roles of an axis for attention; `w_out`: how W_out is cut, if W_o must be cut alike for their sum.

    Q goes from where it is made to where attention runs at once, or by way of heads.
    """
    w_in, outs = spine["w_in"], [w_out] if w_out is not None else GATHERED if batched(spine) else [("E",), ("F",), ("",)]
    if batched(spine):
        projections = [(as_heads(w_in), w_k) for w_k in ([("K", ""), ("",)] if w_in[0] == "F" else [w_in])]
        ways: list[Letters] = [("B",), ("B", "H")]
    else:
        queries = {"E": ("E",), "F": ("H", ""), "": ("",)}[w_in[-1]]
        keys = {"E": ("E",), "F": ("K", ""), "": ("",)}[w_in[-1]]
        projections = [((w_q,), (w_k,)) for w_q in queries for w_k in keys]
        ways = [("H",), ("B",), ("",), ("H", "B"), ("H", "")]
    for (w_q, w_k), q, w_o in product(projections, ways, outs):
        if q[0] == "H" and len(q) > 1 and not w_q[0]:
            continue  # whole heads are made: nothing to cut by heads on the way
        for kept in ("K", "") if q[-1] == "H" and kind.kv_heads else ("B",) if q[-1] == "B" else ("",):
            along = kind.multihead and q[0] == "H" and len(q) > 1 and w_k[0]  # K and V can travel like Q
            for kv in [(kept,), ("K", kept)] if along else [(kept,)]:
                yield {"w_q": w_q, "w_k": w_k, "q": q, "kv": kv, "w_o": as_heads(w_o)}


def batched(spine: Role) -> bool:
    """Return whether an axis cuts the batch in the matmuls with the weights."""
    return spine["residual"] == ("B",) and not spine["w_in"][-1]


def as_heads(letters: Letters) -> Letters:
    """Return the letters of W_in or W_out as those of W_q or W_o."""
    return tuple("H" if letter == "F" else letter for letter in letters)


def halves_of(kind: Kind) -> list[list[list[Role]]]:
    """Return the roles of an axis by spine: of a parallel block all at once, of a serial block those of attention and of the MLP.

    Each has the entries of its spine too.
    """
    if kind.parallel:
        return [[[{**spine, **mlp, **one} for mlp in mlps(spine) for one in attentions(spine, mlp["w_out"], kind)]
                 for spine in spines()]]
    return [[[{**spine, **one} for one in attentions(spine, None, kind)] for spine in spines()],
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
