"""The parts of a pass, and lower bounds of their times for tables of shardings.

A pass is a chain: the residual is brought to the sharding of W_in, multiplied and scattered; attention; W_out; the sum is
scattered to the residual. The time of each part depends on few entries of the table. It is computed once for each of their
values, from the operations of the Builder. Parts wait for one another, so their bounds add up. A matmul can be looped with a
gather before it or the scatter after it, whichever gains more, so the parts on its two sides each return this gain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from math import prod

from torussim import ends
from torussim.attending import attend, projections, weights
from torussim.keeping import cached
from torussim.layouts import Layout, Path, Table
from torussim.models import Model
from torussim.planner.bounds import Bounds
from torussim.planner.roles import TENSORS, Role, batched, path
from torussim.program import Compute, Loop, Operation
from torussim.sharding import Sharding, product
from torussim.tensors import Tensor
from torussim.transformer import Builder
from torussim.workload import Forward

Paths = Mapping[str, Path]


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a pass. `reduced` keeps the entries of an axis' role that the part depends on.

    `seconds` returns the bound of the part, and the gain of a loop of the matmul at its end or beginning, in seconds. The bound
    of a part that ends with a matmul leaves this matmul to the next part. `shares`: whether the part begins with the matmul that
    ends the part before it. `half` is 1 for the MLP of a serial block, which shares only the residual with its attention.
    """

    name: str
    reduced: Callable[[Role], Role]
    seconds: Callable[[Paths], tuple[float, float]]
    times: int
    shares: bool = False
    half: int = 0


class Parts:
    """The parts of one pass of a model. Each method returns the bound of one part for given paths, and the gain of its loop."""

    def __init__(self, model: Model, layout: Layout, forward: Forward, physical: Mapping[str, int], bounds: Bounds) -> None:
        uncut = {tensor: path(tensor, (), ()) for tensor in TENSORS}
        self.builder = Builder(model, replace(layout, ffn=uncut), forward, physical)
        self.model, self.bounds = model, bounds
        self.mlp = 0 if model.parallel else 1  # the half that has the MLP

    def listed(self) -> list[Part]:
        """Return the parts in the order of the pass."""
        ends = Part("ends", _only("residual", "w_in"), self.ends, 1, half=self.mlp)
        if self.model.parallel:
            return [ends, *self.projecting("layer", ("hidden", "q", "k", "v")), self.attending(), self.between(),
                    *self.leaving("layer", ("hidden", "o"))]
        mlp = [*self.projecting("ffn", ("hidden",)), self.between(), *self.leaving("ffn", ("hidden",))]
        return [ends, *self.projecting("attention", ("q", "k", "v")), self.attending(), *self.leaving("attention", ("o",)),
                *(replace(part, half=self.mlp) for part in mlp)]

    def projecting(self, label: str, want: Sequence[str]) -> list[Part]:
        """Return the two parts before and after the first matmul of the residual."""
        weights = dict.fromkeys(_WEIGHTS[tensor] for tensor in want)
        made = [f"{_PATHS.get(tensor, tensor)} made" for tensor in want if tensor != "v"]
        before = _only("residual", *weights)
        after = _only("rows", *weights, *made, entered=_entered(want))
        return [Part(f"enter {label}", before, partial(self.enter, want), self.model.layers),
                Part(f"project {label}", after, partial(self.project, want), self.model.layers, True)]

    def attending(self) -> Part:
        """Return the part from new Q, K and V to the output of attention, which is cut like new Q."""
        return Part("attend", _only("q", "kv"), self.attend, self.model.layers)

    def between(self) -> Part:
        """Return the nonlinearity."""
        return Part("nonlinearity", _only("hidden"), self.nonlinearity, self.model.layers)

    def leaving(self, label: str, values: Sequence[str]) -> list[Part]:
        """Return the two parts before and after the matmul that leads back to the residual."""
        weights = [_LEAVES[value][1] for value in values]
        made = [f"{_PATHS.get(value, value)} made" for value in values]
        before = _only("rows", *made, *weights, entered=_entered(values))
        after = _only("residual", "free", *(f"{weight} used" for weight in weights), entered=_entered(values))
        return [Part(f"regather {label}", before, partial(self.regather, values), self.model.layers),
                Part(f"return {label}", after, partial(self.back, values), self.model.layers, True)]

    def held(self) -> list[Part]:
        """Return, as parts, the bytes that a chip holds: each weight of all layers, the embedding, and the cache."""
        weights = [Part(f"{w} held", _only(f"{w} made"), partial(self.weight, w), self.model.layers,
                        half=self.mlp if w in ("w_in", "w_out") else 0) for w in ("w_in", "w_out", "w_q", "w_k", "w_o")]
        return [*weights, Part("embedding held", _only("w_in made"), self.vocabulary, 1 if self.model.tied else 2, half=self.mlp),
                Part("cache held", _only("q used", "kv used"), self.cache, self.model.layers)]

    def weight(self, tensor: str, paths: Paths) -> tuple[float, float]:
        """Return the bytes of a weight on a chip, one layer, or a lower bound of them; W_k includes W_v."""
        b, m = self.builder, self.model
        stored, sizes, share = paths[tensor].stored, weights(b), 1.0
        if tensor == "w_k" and b.kv_heads != b.heads:  # a chip has those of the KV heads that its queries read: one, or a part
            least = min(1.0, b.heads / prod(b.lengths.values()))
            share = min(1.0, least * prod(b.lengths[a] for a in paths[tensor].used.axes("K")) / b.kv_heads)
        many = [{"E": m.d_model, "F": m.d_ff}] * {"w_in": 2 if m.gated else 1, "w_out": 1}.get(tensor, 0)
        many += [sizes[w] for w in (tensor, *(["w_v"] if tensor == "w_k" else [])) if w in sizes]
        return sum(stored.elements(one, b.lengths) for one in many) * b.wide * share, 0.0

    def vocabulary(self, paths: Paths) -> tuple[float, float]:
        """Return the bytes of the embedding on a chip."""
        b = self.made(paths)
        return b.embedding.elements({"E": self.model.d_model, "V": b.vocabulary}, b.lengths) * b.wide_of("embedding"), 0.0

    def cache(self, paths: Paths) -> tuple[float, float]:
        """Return the bytes of K and V on a chip, one layer, for the tokens that the pass attends to."""
        b = self.made(paths)
        return cached(b, b.forward.attended, range(self.model.layers)) / self.model.layers, 0.0

    # -- the cost of a part ---------------------------------------------------------------------------------------------

    def made(self, paths: Paths) -> Builder:
        """Return a builder with these paths and without operations."""
        found = copy(self.builder)
        more = {"w_v": paths["w_k"]} if "w_k" in paths else {}
        found.table, found.operations, found.attention = Table({**paths, **more}), {}, {}
        return found

    def ends(self, paths: Paths) -> tuple[float, float]:
        """Return the bound of the host, the embedding and the logits."""
        b = self.made(paths)
        host = (ends.HOST,) if b.forward.host else ()
        return sum(self.least(operations) for operations in (host, ends.embed(b), ends.unembed(b))), 0.0

    def enter(self, want: Sequence[str], paths: Paths) -> tuple[float, float]:
        """Return the bound from the beginning of a block to its first matmul."""
        b = self.made(paths)
        stations = b.enter("residual", _entered(want))
        needed = stations[-1][0].sharding
        for tensor in want:
            made = product(needed, paths[_WEIGHTS[tensor]].used, "E", {"hidden": "F", "q": "H"}.get(tensor, "K"))
            b.table = Table({**b.table.paths, _PATHS.get(tensor, tensor): Path((made,))})
        b.project(stations, want)
        operations = list(b.operations.values())
        first = next(i for i, o in enumerate(operations) if isinstance(o, Compute) and o.matmuls)
        return self.until(operations[:first + 1])

    def project(self, want: Sequence[str], paths: Paths) -> tuple[float, float]:
        """Return the bound from the first matmul of a block to the first stations of Q, K, V and the hidden layer."""
        rows = paths["residual"].stored
        b = self.made(paths)
        needed = b.input_of(rows, paths[_entered(want)].used)
        b.project([(Tensor("residual", needed, b.tokens(E=self.model.d_model), b.act), None)], want)
        operations = list(b.operations.values())
        first = next(i for i, o in enumerate(operations) if isinstance(o, Compute))
        return self.after(operations[first:])

    def attend(self, paths: Paths) -> tuple[float, float]:
        """Return the bound of attention with its all-to-alls; the mean over the layers if their windows differ."""
        seconds = 0.0
        for kind, layers in Counter(self.model.kinds).items():
            b = self.made(paths)
            attend(b, {name: Tensor(name, paths["q" if name == "q" else "kv"].stored, b.tokens(**{dim: size}), b.act)
                       for name, (_, dim, size) in projections(b).items()}, kind)
            seconds += layers / self.model.layers * sum(map(self.bounds.alone, b.operations.values()))
        return seconds, 0.0

    def nonlinearity(self, paths: Paths) -> tuple[float, float]:
        """Return the bound of the nonlinearity."""
        b = self.made(paths)
        b.activated(Tensor("hidden", paths["hidden"].stored, b.tokens(F=self.model.d_ff), b.act))
        return self.bounds.alone(next(iter(b.operations.values()))), 0.0

    def values(self, b: Builder, names: Sequence[str], shardings: Mapping[str, Sharding]) -> list[Tensor]:
        """Return the named ones of the hidden layer and the output of attention."""
        sizes = {"hidden": {"F": self.model.d_ff}, "o": {"H": b.heads * self.model.value}}
        return [Tensor(name, shardings[name], b.tokens(**sizes[name]), b.act) for name in names]

    def regather(self, names: Sequence[str], paths: Paths) -> tuple[float, float]:
        """Return the bound from the hidden layer and the output of attention to the matmul that leads back to the residual."""
        weight = paths["w_out" if "hidden" in names else "w_o"].used
        made = Sharding((("B", paths["residual"].stored.axes("B")), ("L", ()), ("E", weight.axes("E"))), weight.dims[0][1])
        b = self.made({**paths, "residual": Path((made,)), _entered(names): path(_entered(names), (), ())})
        b.leave(self.values(b, names, {t: paths["q" if t == "o" else t].stored for t in names}), "sum", _entered(names))
        return self.until(list(b.operations.values()))

    def back(self, names: Sequence[str], paths: Paths) -> tuple[float, float]:
        """Return the bound from the matmul that leads back to the residual to the end of its sum."""
        b = self.made({t: Path((p.used,)) for t, p in paths.items()})
        rows = b.input_of(paths["residual"].stored, paths[_entered(names)].used).dims[:2]
        given = {t: Sharding((*rows, (_LEAVES[t][0], paths[_LEAVES[t][1]].used.axes(_LEAVES[t][0])))) for t in names}
        b.leave(self.values(b, names, given), "sum", _entered(names))
        return self.after(list(b.operations.values()))

    # -- lists of operations --------------------------------------------------------------------------------------------

    def until(self, operations: Sequence[Operation]) -> tuple[float, float]:
        """Return the earliest start of the last operation of a list, a matmul, and the gain of a loop with a gather before it."""
        ends: dict[str, float] = {}
        begins: dict[str, float] = {}
        before: tuple[str, ...] = ()
        for o in operations:
            waits = o.after if o.after is not None else before
            begins[o.name] = max((ends[name] for name in waits), default=0.0)
            ends[o.name] = begins[o.name] + self.bounds.alone(o)
            before = (o.name,)
        matmul = operations[-1]
        assert isinstance(matmul, Compute)
        named, gain = {o.name: o for o in operations}, 0.0
        for loop in matmul.loops:
            if loop.collective in named:
                others = max((ends[name] for name in waits if name != loop.collective), default=0.0)
                end = max(others + self.bounds.alone(matmul), begins[loop.collective] + self.paired(matmul, loop, named))
                gain = max(gain, ends[matmul.name] - end)
        return begins[matmul.name], gain

    def after(self, operations: Sequence[Operation]) -> tuple[float, float]:
        """Return the bound of a list that begins with a matmul, and the gain of a loop of that matmul alone."""
        gains = [self.gain(o, operations) for o in operations if isinstance(o, Compute)]
        return sum(map(self.bounds.alone, operations)) - sum(gains[1:]), gains[0]

    def least(self, operations: Sequence[Operation]) -> float:
        """Return the bound of a list in which each operation waits for the operation before it."""
        gains = [self.gain(o, operations) for o in operations if isinstance(o, Compute)]
        return sum(map(self.bounds.alone, operations)) - sum(gains)

    def gain(self, matmul: Compute, operations: Sequence[Operation]) -> float:
        """Return the largest gain of a loop of a matmul with a collective of the list, against one after the other."""
        named = {o.name: o for o in operations}
        loops = [loop for loop in matmul.loops if loop.collective in named]
        alone = self.bounds.alone(matmul)
        return max([0.0, *(alone + self.bounds.alone(named[one.collective]) - self.paired(matmul, one, named) for one in loops)])

    def paired(self, matmul: Compute, loop: Loop, named: Mapping[str, Operation]) -> float:
        """Return the bound of a matmul looped with a collective of a list."""
        collective = named[loop.collective]
        assert not isinstance(collective, Compute)
        return self.bounds.pair(matmul, collective, loop)


_PATHS = {"k": "kv", "v": "kv", "o": "q"}
_LEAVES = {"hidden": ("F", "w_out"), "o": ("H", "w_o")}
_WEIGHTS = {"hidden": "w_in", "q": "w_q", "k": "w_k", "v": "w_k"}


def _entered(values: Sequence[str]) -> str:
    """Return the weight that the block starts with, or the weight whose matmul makes these values."""
    return "w_in" if "hidden" in values else "w_q"


def _only(*wanted: str, entered: str = "w_in") -> Callable[[Role], Role]:
    """Return a function that keeps the entries of these tensors in a role, or their first (made) or last (used) stations alone.

    `rows` keeps of the residual only whether the axis cuts the batch in the matmul with the weight `entered`. `free` keeps of
    that weight only whether it uses the axis.
    """
    stands = {"rows": "residual", "free": entered}

    def reduced(role: Role) -> Role:
        cut = batched(role, entered) if {"rows", "free"} & set(wanted) else False
        found = dict(role) | {"rows": ("B",) if cut else ("",), "free": ("",) if cut else ("E",)}
        for tensor in role:
            found |= {f"{tensor} made": role[tensor][:1], f"{tensor} used": role[tensor][-1:]}
        return {stands.get(one, one.partition(" ")[0]): found[one] for one in wanted}
    return reduced


def paths_of(axes: Sequence[str], roles: Sequence[Role], tensors: Iterable[str]) -> Paths:
    """Return the paths of tensors for given roles of the axes, whole or reduced."""
    return {tensor: path(tensor, axes, [role[tensor] for role in roles]) for tensor in tensors}
