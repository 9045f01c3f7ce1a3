"""The space of tables of shardings: the roles of each logical axis for the tensors of a layer (docs/shardings.md).

For each tensor, a role of an axis names the dimension that the axis cuts at each station of the tensor's path, or nothing. A
table has one role for each axis, chosen independently. The module knows nothing of sizes, links and times.
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


@dataclass(frozen=True)
class Kind:
    """The properties that the space depends on besides the axes: the kind of block, and whether heads can cut K and V."""

    parallel: bool
    kv_heads: bool  # whether there is more than one KV head
    multihead: bool  # as many KV heads as heads: K and V can have the path of Q


def projections(residual: Letters, dim: str) -> list[Letters]:
    """Return the dimensions that an axis can cut of a weight that multiplies the residual and makes `dim`.

    Any axis can cut E or `dim`. An axis that cuts the residual's batch can also go on cutting the batch in the matmul, whether it
    cuts the stored weight or not. Any other axis can also cut nothing.
    """
    return [("E",), (dim,), *(gathered(dim) if residual == ("B",) else [("",)])]


def gathered(dim: str) -> list[Letters]:
    """Return the paths of a weight on an axis that cuts the batch: stored cut and gathered just before use, or whole."""
    return [("E", ""), (dim, ""), ("",)]


def batched(role: Role, weight: str) -> bool:
    """Return whether an axis cuts the batch in the matmul of the residual with a weight."""
    return role["residual"] == ("B",) and not role[weight][-1]


def mlps(role: Role) -> Iterator[Role]:
    """Yield the roles of an axis for the hidden layer and W_out.

    Where W_in makes partial sums and W_out makes E, the sums are scattered and gathered again, or all-reduced.
    """
    if batched(role, "w_in"):
        yield from ({**role, "hidden": ("B",), "w_out": w_out} for w_out in gathered("F"))
        return
    w_in = role["w_in"][-1]
    for w_out in ("E", "F", ""):
        hidden = ("F", "") if (w_in, w_out) == ("E", "E") else ("F",) if "F" in (w_in, w_out) else ("",)
        yield from ({**role, "hidden": (one,), "w_out": (w_out,)} for one in hidden)


def attentions(role: Role, outs: Sequence[Letters], kind: Kind) -> Iterator[Role]:
    """Return the roles of an axis for K, V, Q and W_o, where W_q is given; `outs` are those of W_o.

    Q goes directly from its first station to the one of attention, or through a station cut by heads.
    """
    w_q = role["w_q"]
    if batched(role, "w_in" if kind.parallel else "w_q"):
        keys: list[Letters] = [("K", ""), ("",)] if w_q[0] == "H" else [w_q]
        ways: list[Letters] = [("B",), ("B", "H")]
    else:
        keys = [("E",)] if w_q == ("E",) else [("",)] if role.get("w_in") == ("",) else [("K",), ("",)]
        ways = [("H",), ("B",), ("",), *([("H", "B"), ("H", "")] if w_q[0] else [])]
    for w_k, q, w_o in product(keys, ways, outs):
        for kept in ("K", "") if q[-1] == "H" and kind.kv_heads else ("B",) if q[-1] == "B" else ("",):
            along = kind.multihead and q[0] == "H" and len(q) > 1 and w_k[0]  # K and V can have the path of Q
            for kv in [(kept,), ("K", kept)] if along else [(kept,)]:
                yield {**role, "w_k": w_k, "q": q, "kv": kv, "w_o": w_o}


def as_heads(letters: Letters) -> Letters:
    """Return the letters of W_in or W_out as letters of W_q or W_o."""
    return tuple("H" if letter == "F" else letter for letter in letters)


def halves_of(kind: Kind) -> list[list[list[Role]]]:
    """Return the roles of an axis, in halves that are chosen separately, each by the spine, which is chosen first.

    In a parallel block the spine is residual and W_in, and there is one half. W_q is cut like W_in, or is whole where W_in cuts
    F. W_o is cut like W_out, because their results are added. In a serial block the spine is the residual, and attention and MLP
    are the two halves.
    """
    residuals: list[Letters] = [("B",), ("E",), ("",)]
    if not kind.parallel:
        halves: list[list[list[Role]]] = [[], []]
        for residual in residuals:
            entered: list[Role] = [{"residual": residual, "w_q": w_q} for w_q in projections(residual, "H")]
            halves[0].append([one for role in entered for one in attentions(
                role, gathered("H") if batched(role, "w_q") else [("E",), ("H",), ("",)], kind)])
            halves[1].append([one for w_in in projections(residual, "F") for one in mlps({"residual": residual, "w_in": w_in})])
        return halves
    spines: list[Role] = [{"residual": residual, "w_in": w_in} for residual in residuals for w_in in projections(residual, "F")]
    return [[[one for mlp in mlps(spine) for w_q in [as_heads(spine["w_in"]), *([("",)] if spine["w_in"] == ("F",) else [])]
              for one in attentions({**mlp, "w_q": w_q}, [as_heads(mlp["w_out"])], kind)] for spine in spines]]


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
