"""Model + layout + workload -> program: the matmuls of a layer, and the collectives that its shardings require.

Letters are the paper's: B sequences, L new tokens of each in this pass, E width, F hidden width, H columns of Q (heads x d_head),
K columns of K or V (kv_heads x d_head), V vocabulary. The module knows nothing of links and times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import accumulate, count
from math import prod
from typing import cast

from torussim import ends, kernels, mixture
from torussim.attending import attend, projections, wanted, with_latents
from torussim.chips import DTYPE_BYTES
from torussim.drafting import drafted, first_pass, handed_back
from torussim.errors import LayoutError, ShardingError
from torussim.head_split import Share, choices, made_kv, share, sizes_of
from torussim.keeping import new_tokens
from torussim.kernels import SUM_BYTES
from torussim.layouts import Heads, Layout, Sizes, Staged, Table, placed, settled, stored_as, table, written
from torussim.models import Kind as LayerKind
from torussim.models import Model
from torussim.periods import repeated
from torussim.pipeline import Pipeline, copies, dealt
from torussim.program import LOOPS, Block, Collective, Compute, Kind, Loop, Matmul, Operation, Program, changed
from torussim.sharding import Sharding, Step, product, steps
from torussim.tensors import Station, Tensor
from torussim.workload import Forward

NORM_BYTES = 4  # f32
WEIGHTS = ("w_in", "w_q", "w_k", "w_out", "w_o")
KEPT = ("k", "v", "latent")  # the tensors that attention keeps of a token
VERBS = {"all_gather": "gather", "reduce_scatter": "scatter", "all_reduce": "reduce", "all_to_all": "exchange"}


@dataclass
class Builder:
    """Builds the operations of one pass.

    After that, `peak` is the largest total of activations that an operation reads and writes. `attention` has, by name, the
    operations that depend on the number of attended tokens, as functions of it.
    """

    model: Model
    layout: Layout
    forward: Forward
    physical: Mapping[str, int]
    operations: dict[str, Operation] = field(default_factory=dict)  # of the present list, in order
    peak: float = 0.0  # activations alive at once, bytes a chip
    gathered: bool = False  # whether the weights of the present matmul were gathered just before
    layered: str = ""  # the end of the names of the present layer, "@3" in layer 3 of a model with several kinds of layers
    built: Program | None = None
    attention: dict[str, Callable[[int], Compute]] = field(default_factory=dict, repr=False, compare=False)
    draft: Builder | None = None  # of the first pass of the draft model; known when the program is built

    def __post_init__(self) -> None:
        if self.layout.batch:
            self.forward = replace(self.forward, batch=self.layout.batch)
        self.whole = self.forward, self.physical  # the pass and its axes, all stages and microbatches together
        self.microbatches = 1
        self.stages: tuple[range, ...] = (range(self.model.layers),)  # the layers of each stage
        if self.layout.pipeline:
            self.stage(self.layout.pipeline)

        if self.layout.heads is None:
            every = choices(lambda heads: replace(self.layout, heads=heads), self.model, self.forward.batch, self.physical)
            self.layout = replace(self.layout, heads=every[0])

        def make(sizes: Sizes) -> Mapping[str, object]:
            return written(self.layout, sizes)
        sizes = sizes_of(self.model, self.layout, self.forward.batch, self.physical)
        self.mesh, self.sizes = placed(make, self.layout.mesh, sizes, self.physical)
        self.lengths = self.sizes.lengths
        self.factors = {a: tuple(p for p in factors if self.physical[p] > 1) for a, factors in self.mesh.items()}
        self.table: Table = table(self.layout, self.sizes)
        self.layout = settled(self.layout, self.table)
        if self.model.experts:
            self.table = mixture.with_experts(self.table, self.layout, self.sizes)
        self.heads = self.table.heads or self.sizes.heads
        self.kv_heads = self.model.kv_of(self.heads)
        if self.model.latent:
            self.table = with_latents(self.table)
        self.dtype = self.layout.activations
        self.act, self.wide = DTYPE_BYTES[self.layout.activations], DTYPE_BYTES[self.layout.weights]
        if self.table["q"].cuts[-1][0] != self.table["kv"].cuts[-1][0]:
            raise LayoutError(f"q ends as {str(self.table['q'].used)!r} and kv as {str(self.table['kv'].used)!r}: attention "
                              f"needs the same sequences on a chip", path=("q",))

    def stage(self, pipeline: Staged) -> None:
        """Cut the layers into stages and the batch into microbatches; then the pass and its axes are those of one stage."""
        axis, layers = pipeline.axis, self.model.layers
        if axis not in self.physical:
            raise LayoutError(f"its stages are on axis {axis!r}, but the network has {', '.join(self.physical)}",
                              path=("pipeline",), code="unknown-name")
        stages = self.physical[axis]
        if stages > layers:
            raise LayoutError(f"{stages} stages on axis {axis!r} need as many layers at least, and the model has {layers}: give "
                              "it an axis, or a part of one, of fewer chips", path=("pipeline",))
        self.physical = {name: length for name, length in self.physical.items() if name != axis}
        if stages == 1:
            return
        if self.forward.batch % pipeline.microbatches:
            raise LayoutError(f"{self.forward.batch} sequences do not divide into {pipeline.microbatches} microbatches",
                              path=("pipeline",), code="does-not-divide")
        self.stages, self.microbatches = dealt(layers, stages), pipeline.microbatches
        self.forward = replace(self.forward, batch=self.forward.batch // self.microbatches)

    def located(self, error: ShardingError) -> ShardingError:
        """Return an error whose path begins with the tensor of the table that it is about, if this is known."""
        tensor = self.table.holding(error.shardings)
        return error.within((tensor,)) if tensor else error

    # -- sizes ----------------------------------------------------------------------------------------------------------

    def tokens(self, **dims: int) -> dict[str, int]:
        """Return the sizes of a tensor with B, L and these dimensions."""
        return {"B": self.forward.batch, "L": self.forward.length, **dims}

    @property
    def embedding(self) -> Sharding:
        """The sharding of the embedding: that of the table, otherwise the vocabulary cut like F."""
        given = self.table.get("embedding")
        stored = self.table["w_in"].stored
        return given.stored if given else Sharding.of((("V", stored.axes("F")), ("E", stored.axes("E"))))

    @property
    def run_heads(self) -> Heads:
        """The query heads that run, with the padding of the table, and whether they may be split."""
        return Heads(self.heads, self.layout.heads is not None and self.layout.heads.split)

    @property
    def share(self) -> Share:
        """What a chip has of heads and KV heads where attention runs. Raise ShardingError if heads do not fit the table."""
        return share(self.model, self.table, self.run_heads, self.kv_heads, self.lengths)

    @property
    def made_kv(self) -> float | None:
        """The KV heads of a chip's W_k and W_v where these are those that its queries read; otherwise None."""
        return made_kv(self.model, self.table, self.run_heads, self.kv_heads, self.lengths)

    @property
    def vocabulary(self) -> int:
        """The vocabulary, padded to divide by the number of chips on all axes, which may all cut it."""
        chips = prod(self.lengths.values())
        return -(-self.model.vocabulary // chips) * chips

    def wide_of(self, tensor: str) -> float:
        """Return the bytes of an element of a weight, or of the embedding."""
        apart = {"experts_in": self.layout.expert_weights, "experts_out": self.layout.expert_weights,
                 "embedding": self.layout.embedding}
        return DTYPE_BYTES[apart.get(tensor, self.layout.weights)]

    @cached_property
    def summed(self) -> bool:
        """Whether all sums of layers are over the same axes, and the residual is cut over them, in E, or not at all."""
        table = self.table
        if {"norm", "out"} & set(table.paths) or (self.model.experts or 1) > 1 or len(self.stages) > 1:
            return False
        if not {"residual", *WEIGHTS} <= set(table.paths):  # a part of a pass, of a plan
            return False
        residual = table["residual"].stored
        still = all(len(table[weight].stations) == 1 and not table[weight].used.axes("E") for weight in WEIGHTS)
        over = set(table["w_out"].used.axes("F"))
        return still and over == set(table["w_o"].used.axes("H")) and (
            not residual.used or over == set(residual.used) == set(residual.axes("E")))

    # -- operations -----------------------------------------------------------------------------------------------------

    def name(self, wish: str, axes: Sequence[str] = ()) -> str:
        """Return a name that is new in this list of operations, with the layer where the model has several kinds of them."""
        for candidate in (wish, *([f"{wish}_{''.join(axes)}"] if axes else [])):
            if candidate + self.layered not in self.operations:
                return candidate + self.layered
        return next(name for number in count(2) if (name := f"{wish}_{number}{self.layered}") not in self.operations)

    def add(self, operation: Operation) -> None:
        """Add an operation to the present list."""
        self.operations[operation.name] = operation

    @property
    def last(self) -> str:
        """The name of the last operation of the present list; "" if it is empty."""
        return next(reversed(self.operations), "")

    def travel(self, verb: str, values: Sequence[Tensor], targets: Sequence[Sharding], algorithm: str = "",
               order: Sequence[str] = (), after: tuple[str, ...] | None = None) -> tuple[list[Tensor], list[tuple[str, Step]]]:
        """Add the collectives that lead values to their targets; collectives of the same kind and axes are merged."""
        together: dict[tuple[str, frozenset[str]], tuple[Step, float, list[str]]] = {}
        for value, target in zip(values, targets):
            for step in steps(value.sharding, target, value.sizes, self.lengths):
                key = (step.kind, frozenset(step.axes))
                first, size, names = together.get(key, (step, 0.0, []))
                width = max(value.bytes, SUM_BYTES) if step.kind in ("reduce_scatter", "all_reduce") else value.bytes
                together[key] = (first, size + step.elements * value.part * width, [*names, value.name])
        added: list[tuple[str, Step]] = []
        for (kind, _), (step, size, names) in together.items():
            axes = tuple(sorted(step.axes, key=list(order or self.mesh).index))
            name = self.name(f"{VERBS[kind]}_{verb or '_'.join(dict.fromkeys(names))}", axes)
            waits, after = after, None
            chosen = (algorithm if kind == "all_gather" else "") or self.layout.collectives.get(kind, "")
            one_way = kind == "reduce_scatter" and set(axes) <= set(self.table.one_way)
            pieces = self.pieces(values[0].sharding, targets[0]) if kind == "all_to_all" else 0
            home = {"reduce_scatter": targets[0], "all_reduce": targets[0], "all_gather": values[0].sharding}.get(kind)
            summed = self.summed and home == self.table["residual"].stored
            self.add(Collective(name, cast(Kind, kind), self.axes(axes), size, chosen, after=waits, pieces=pieces,
                                direction="one_way" if one_way else "both",
                                tokens=self.forward.batch * self.forward.length if summed else 0,
                                quantised=summed and self.act < SUM_BYTES))
            added.append((name, step))
        return [v._replace(sharding=t) for v, t in zip(values, targets)], added

    def pieces(self, *shardings: Sharding) -> int:
        """Return the pieces of an all-to-all between shardings: the sequences of which a chip has a part, also those it keeps."""
        return max(self.forward.batch // prod(self.lengths[a] for a in sharding.axes("B")) for sharding in shardings)

    def axes(self, logical: Sequence[str]) -> tuple[str, ...]:
        """Return the physical axes of logical ones, without axes of one chip."""
        return tuple(p for a in logical for p in self.factors[a])

    def loops(self, step: tuple[str, Step], contracted: str, made: str) -> tuple[Loop, ...]:
        """Return the ways to loop a matmul with the neighbouring collective `step`."""
        if self.layout.overlap is False or step[1].kind not in ("all_gather", "reduce_scatter"):
            return ()
        allowed = self.table.loop_out if made == "E" else self.table.loop
        if allowed is not None and not set(step[1].axes) <= set(allowed):
            return ()
        cuts = {contracted: 1, made: 1, "": 1, "N": 1}
        for axis, dim in zip(step[1].axes, step[1].dims):
            cuts[dim if dim in cuts else ""] *= self.lengths[axis]
        more = (cuts["N"],) if cuts["N"] > 1 else ()
        return self.looped(step[0], (cuts[""], cuts[contracted], cuts[made], *more))

    def looped(self, collective: str, cut: tuple[int, ...]) -> tuple[Loop, ...]:
        """Return the loops of an operation with a collective of the present list whose shards cut it so."""
        overlap = self.layout.overlap
        kinds = LOOPS if overlap is True else (str(overlap),)
        found = self.operations[collective]
        assert isinstance(found, Collective)
        return tuple([Loop(collective, kind, cut, kernels.loop_bytes(found.kind, found.bytes, kind, bool(found.algorithm)))
                      for kind in kinds])

    def matmul(self, name: str, inputs: Sequence[Tensor], weights: Sequence[Sharding], widths: Sequence[Mapping[str, int]],
               contracted: Sequence[str], made: Sequence[str], gathers: Sequence[tuple[str, Step]],
               wide: float | None = None) -> list[Sharding]:
        """Add one matmul: one input with weights side by side, or several inputs, each with its weight, stacked.

        `gathers` are the all-gathers just before it, with which it may be looped. `wide`: the bytes of an element of the weights.
        """
        wide = wide or self.wide
        stacked = len(inputs) > 1
        pairs = zip(inputs if stacked else list(inputs) * len(weights), weights, contracted, made)
        results = [product(v.sharding, w, c, d) for v, w, c, d in pairs]
        local = inputs[0].sharding.local(inputs[0].sizes, self.lengths)
        shapes = [w.local(size, self.lengths) for w, size in zip(weights, widths)]
        rows = local["B"] * local["L"]
        deep = sum(s[c] for s, c in zip(shapes, contracted)) if stacked else shapes[0][contracted[0]]
        across = shapes[0][made[0]] if stacked else sum(s[d] for s, d in zip(shapes, made))
        alive = rows * deep * self.act + rows * across * SUM_BYTES
        held = deep * across * wide if self.gathered and not self.layout.overlap else 0.0
        self.peak = max(self.peak, alive + held)
        loops = tuple([loop for step in gathers for loop in self.loops(step, contracted[0], made[0])])
        after = tuple(g[0] for g in gathers) if len(gathers) > 1 else None
        self.add(Compute(name, (Matmul(rows, deep, across),), 0.0, deep * across * wide + alive, self.dtype,
                         after=after, loops=loops))
        return results

    def scatter(self, matmul: str, added: Sequence[tuple[str, Step]], contracted: str, made: str) -> None:
        """Allow a matmul to be looped with the first of the collectives added just after it."""
        if added and added[0][1].kind == "reduce_scatter":
            found = self.operations[matmul]
            assert isinstance(found, Compute)
            self.add(changed(found, loops=found.loops + self.loops(added[0], contracted, made)))

    # -- a layer --------------------------------------------------------------------------------------------------------

    def enter(self, label: str, weight: str = "w_in", target: Sharding | None = None, first: bool = True) -> list[Station]:
        """Bring the residual along its path and to the sharding that a weight needs, or directly to `target`.

        Return it at every station, with the collective that led there. `first`: whether a block begins here, with a norm.
        """
        path = self.table["residual"].stations[:1 if target else None]
        norm = self.table.get("norm")
        value = Tensor(label, path[0], self.tokens(E=self.model.d_model), self.act)
        if first:
            elements = value.sharding.elements(value.sizes, self.lengths)
            self.add(kernels.residual(self.name(f"add_{label}"), elements, self.dtype))
        stations: list[Station] = [(value, None)]
        needed = target or self.input_of(value.sharding, self.table[weight].used)
        for target in [*path[1:], *([needed] if needed != path[-1] else [])]:
            if norm and stations[-1][0].sharding == norm.stored:
                self.norm(label, norm.stored)
            moved, added = self.travel(label, [stations[-1][0]], [target])
            stations.append((moved[0], added[-1] if added else None))
        if norm and stations[-1][0].sharding == norm.stored:
            self.norm(label, norm.stored)
        return stations

    def norm(self, label: str, sharding: Sharding) -> None:
        """Add the sum of squares over the chips that share a token's width: four bytes a token, so only latency matters."""
        axes = self.axes(sharding.axes("E"))
        local = sharding.local(self.tokens(E=self.model.d_model), self.lengths)
        if axes:
            size = local["B"] * local["L"] * NORM_BYTES
            self.add(Collective(self.name(f"norm_{label}"), "all_reduce", axes, size,
                                self.layout.collectives.get("all_reduce", "")))

    def input_of(self, residual: Sharding, weight: Sharding) -> Sharding:
        """Return the residual as a weight E_a F_b needs it: E cut like the weight's, B over the remaining axes."""
        return Sharding.of((("B", tuple(a for a in residual.axes("B") if a not in weight.used)), ("L", residual.axes("L")),
                            ("E", weight.axes("E"))))

    def weights(self, tensors: Sequence[str], sizes: Sequence[Mapping[str, int]],
                arrived: tuple[str, Step] | None) -> tuple[list[Sharding], list[tuple[str, Step]]]:
        """Gather weights along their paths; return their final form, and the gathers with which their matmul may be looped.

        If the matmul's input has just been gathered (`arrived`), the first gather of weights starts together with it. Otherwise
        it waits for the operation before, as all operations do.
        """
        paths = [self.table[t] for t in tensors]
        values = [Tensor(t, p.stored, s, self.wide_of(t)) for t, p, s in zip(tensors, paths, sizes)]
        beside = [arrived] if arrived and self.last == arrived[0] else []
        after = self.waits_of(arrived[0]) if arrived and beside else None
        gathers: list[tuple[str, Step]] = []
        for station in range(1, max(len(p.stations) for p in paths)):
            targets = [p.stations[min(station, len(p.stations) - 1)] for p in paths]
            values, added = self.travel("", values, targets, paths[0].algorithm, paths[0].axes, None if gathers else after)
            gathers += added
        self.gathered = bool(gathers)
        return [p.used for p in paths], beside + gathers[-1:]

    def waits_of(self, name: str) -> tuple[str, ...]:
        """Return the dependencies of an operation of this list, by name."""
        after, names = self.operations[name].after, list(self.operations)
        return after if after is not None else tuple(names[:names.index(name)][-1:])

    def project(self, stations: list[Station], want: Sequence[str], width: int = 0) -> dict[str, Tensor]:
        """Multiply the residual by W_in, W_q, W_k and W_v (the requested ones); weights with equal cuts form one matmul.

        W_k and W_v that have some of the KV heads, those of a chip's queries, are cut like W_q. `width` is that of the hidden
        layer, if it is not d_ff.
        """
        m, paths, cuts = self.model, self.table, {}
        if "k" in want and (self.made_kv or self.kv_heads) < self.kv_heads:
            cuts = {w: paths["w_q"].cuts for w in ("w_k", "w_v") if paths[w].used.axes("E") == paths["w_q"].used.axes("E")}
        made = {"hidden": ("w_in", "F", (width or m.d_ff) * (2 if m.gated else 1)), **projections(self)}
        groups: dict[object, list[str]] = {}
        for tensor in want:
            path = paths[made[tensor][0]]
            alone = tensor == "latent" and paths["kv"].stored.axes("B")  # for fewer sequences than the latent of q
            groups.setdefault((path.algorithm, cuts.get(made[tensor][0], path.cuts), alone), []).append(tensor)
        results: dict[str, Tensor] = {}
        for tensors in groups.values():
            sizes = [{"E": m.d_model, made[t][1]: made[t][2]} for t in tensors]
            weights = [made[t][0] for t in tensors]
            value, arrived = self.station_for(stations, self.table[weights[0]].used, tensors)
            used, gathers = self.weights(weights, sizes, arrived)
            name = self.name("matmul_" + "_".join(w.removeprefix("w_") for w in weights))
            shardings = self.matmul(name, [value], used, sizes, ["E"] * len(tensors), [made[t][1] for t in tensors], gathers)
            made_values = [Tensor(t, s, self.tokens(**{made[t][1]: made[t][2]}), self.act) for t, s in zip(tensors, shardings)]
            targets = [self.first_target(t, v.sharding) for t, v in zip(tensors, made_values)]
            moved, added = self.travel("", made_values, targets)
            if tensors[0] not in KEPT or self.table.loop is None:  # the code loops only the large matmuls
                self.scatter(name, added, "E", made[tensors[0]][1])
            results.update(zip(tensors, moved))
        return results

    def station_for(self, stations: list[Station], weight: Sharding,
                    tensors: Sequence[str]) -> Station:
        """Return the residual with its E cut like the weight's; K and V need only the sequences that they keep."""
        wanted = set(weight.axes("E"))
        fits = [s for s in stations if set(s[0].sharding.axes("E")) == wanted
                and not set(s[0].sharding.axes("B")) & set(weight.used)]
        if not fits:
            raise LayoutError(f"no station of the residual ({', '.join(str(s[0].sharding) for s in stations)}) has E cut like "
                              f"{str(weight)!r}", path=({"hidden": "w_in"}.get(tensors[0], f"w_{tensors[0]}"),))
        value, arrived = fits[-1]
        if tensors[0] in KEPT:
            rows, keep = value.sharding.local(value.sizes, self.lengths)["B"], []
            for axis in self.table["kv"].stored.axes("B"):
                if axis not in value.sharding.used and axis not in weight.used and rows % self.lengths[axis] == 0:
                    keep.append(axis)
                    rows //= self.lengths[axis]
            dims = tuple((d, axes + tuple(keep) if d == "B" else axes) for d, axes in value.sharding.dims)
            value = Tensor(value.name, Sharding.of(dims), value.sizes, value.bytes)
            arrived = None
        return value, arrived

    def first_target(self, tensor: str, made: Sharding) -> Sharding:
        """Return the sharding to which the result of a projection is brought at once."""
        path = self.table.get("kv" if tensor in KEPT else tensor)
        if path is None:  # without an entry, partial sums are scattered over the dimension that was made
            return Sharding.of(tuple((d, axes + made.partial if d in "CF" else axes) for d, axes in made.dims))
        return new_tokens(self, path.stored) if tensor in KEPT else path.stored

    def leave(self, values: Sequence[Tensor], label: str, entered: str = "w_in") -> None:
        """Multiply by W_out and W_o (those whose inputs are given), and bring the sum back to the residual.

        The batch is cut as in the first matmul of the block.
        """
        value, name, dim = self.down(values, label, entered)
        self.home(value, label, name, dim)

    def down(self, values: Sequence[Tensor], label: str, entered: str = "w_in") -> tuple[Tensor, str, str]:
        """Multiply by W_out and W_o (those whose inputs are given); return the sum, the matmul, and its contracted dimension."""
        weights = [{"hidden": "w_out", "o": "w_o"}[v.name] for v in values]
        dims = [{"hidden": "F", "o": "H"}[v.name] for v in values]
        sizes = [{dim: v.sizes[dim], "E": self.model.d_model} for v, dim in zip(values, dims)]
        residual = self.table["residual"].stored
        rows = self.input_of(residual, self.table[entered].used).dims[:2]
        targets = [Sharding.of((*rows, (dim, self.table[w].used.axes(dim)))) for w, dim in zip(weights, dims)]
        moved, added = self.travel("", values, targets)
        used, gathers = self.weights(weights, sizes, added[-1] if added else None)
        name = self.name("matmul_" + "_".join(w.removeprefix("w_") for w in weights))
        results = self.matmul(name, moved, used, sizes, dims, ["E"] * len(values), gathers)
        if len(set(results)) > 1:
            raise LayoutError(f"W_out makes {str(results[0])!r} and W_o {str(results[1])!r}: both must be alike, to be added",
                              path=("w_out",))
        return Tensor(label, results[0], self.tokens(E=self.model.d_model), self.act), name, dims[0]

    def home(self, value: Tensor, label: str, matmul: str = "", contracted: str = "") -> None:
        """Bring a result back to the residual; the matmul that made it just before, if it is named, may be looped."""
        path = self.table.get("out") if matmul else None
        all_added: list[tuple[str, Step]] = []
        for target in [*(path.stations if path else ()), self.table["residual"].stored]:
            (value,), done = self.travel(label, [value], [target])
            all_added += done
        if matmul:
            self.scatter(matmul, all_added, contracted, "E")

    def layer(self, kind: LayerKind, shares: Sequence[float] = ()) -> None:
        """Add the operations of one layer; `shares` of its experts' load, if they are not all the same."""
        m = self.model
        width = (1 + m.shared_experts) * m.d_expert if kind.mixture else m.d_ff  # of a mixture that has one expert
        if m.parallel and (not kind.mixture or m.experts == 1):
            made = self.project(self.enter("residual"), ("hidden", *wanted(m)), width)
            out = attend(self, made, kind)
            self.leave([self.activated(made["hidden"], width), out], "residual")
            return
        self.leave([attend(self, self.project(self.enter("attention", "w_q"), wanted(m)), kind)], "attention", "w_q")
        if kind.mixture:
            mixture.feed(self, shares)
        else:
            self.leave([self.activated(self.project(self.enter("ffn"), ("hidden",))["hidden"])], "ffn")

    def activated(self, hidden: Tensor, width: int = 0) -> Tensor:
        """Return the hidden layer after its nonlinearity, which merges the two halves of a gated MLP."""
        value = hidden._replace(sizes={**hidden.sizes, "F": width or self.model.d_ff})
        elements = value.sharding.elements(value.sizes, self.lengths) * value.part
        self.add(kernels.nonlinearity(self.name("nonlinearity"), elements, self.model.gated, self.dtype))
        return value

    def layers(self) -> list[tuple[LayerKind, int]]:
        """Return of each layer what distinguishes it: its kind, and its number among the mixtures if their loads differ."""
        measured = len(self.forward.balance.shares) > 1
        order = list(accumulate((kind.mixture for kind in self.model.kinds), initial=0))  # of each layer among the mixtures
        return [(kind, order[i] if kind.mixture and measured else 0) for i, kind in enumerate(self.model.kinds)]

    def blocks(self, some: range) -> list[Block]:
        """Return some layers as blocks: lists of layers that come one after another, with their number of runs."""
        load, every = self.forward.balance, self.layers()
        layers, several, found = every[some.start:some.stop], len(set(every)) > 1, list[Block]()
        for first, length, times in repeated(layers):
            self.operations = {}
            for i, (kind, number) in enumerate(layers[first:first + length], some.start + first):
                self.layered = f"@{i}" if several else ""
                uniform = load.uniform or not kind.mixture
                self.layer(kind, () if uniform else load.of(number, self.model.experts or 1))
            found.append(Block(tuple(self.operations.values()), times))
        self.layered = ""
        return found

    def build(self) -> Program:
        """Return the program of the pass, built at the first call. Raise errors as `build` does."""
        if self.built is None:
            try:
                if len(self.stages) > 1:
                    self.built = self.staged()
                else:
                    first, *more = self.blocks(self.stages[0])
                    self.built = Program(*first, prologue=ends.embed(self), epilogue=ends.unembed(self), more=tuple(more))
            except ShardingError as error:
                raise self.located(error) from None
            if self.forward.draft_model:
                self.draft = self.drafting(self.forward.draft_model)
                axis, stages = self.layout.pipeline.axis if self.layout.pipeline else "", len(self.stages)
                back = handed_back(axis, stages, self.whole[0].batch) if stages > 1 else None
                self.built, attention = drafted(self.built, self.forward, self.draft.build(), self.draft.attention, back)
                self.attention |= attention
            if self.forward.host:
                self.built = ends.prepared(self.built)
        return self.built

    def drafting(self, model: Model) -> Builder:
        """Return the builder of the first pass of the draft model before this one. Raise errors as `build` does.

        Its dtypes are its own, where the model names some.
        """
        forward, axes = self.whole
        layout = stored_as(replace(self.layout, heads=self.layout.draft_heads, draft_heads=None), model.dtypes)
        try:
            builder = Builder(model, layout, first_pass(forward), axes)
            builder.build()
        except (LayoutError, ShardingError) as error:
            raise error.within(("draft_model",), "the draft model: ") from None
        return builder

    def staged(self) -> Program:
        """Return the program of all stages and microbatches; `attention` then has the copies of each operation."""
        axis, every = self.layout.pipeline.axis if self.layout.pipeline else "", self.layers()
        alike = {tuple(every[some.start:some.stop]): some for some in reversed(self.stages)}  # the first stage with these layers
        made_once = {some: tuple(self.blocks(some)) for some in reversed(alike.values())}
        layers = [made_once[alike[tuple(every[some.start:some.stop])]] for some in self.stages]
        residual = self.table["residual"].stored.elements(self.tokens(E=self.model.d_model), self.lengths)
        program = Pipeline(axis, self.microbatches, ends.embed(self), layers, ends.unembed(self), residual * self.act).build()
        made, copied = dict(self.attention), copies(program)
        self.attention.clear()
        for name, make in made.items():
            self.attention |= {copy.name: partial(_as_copied, make, copy) for copy in copied[name]}
        return program


def _as_copied(make: Callable[[int], Compute], copy: Operation, attended: int) -> Compute:
    """Return a copy of an operation for a number of attended tokens."""
    return changed(make(attended), name=copy.name, after=copy.after, on=copy.on)


def build(model: Model, layout: Layout, forward: Forward, axes: Mapping[str, int]) -> Program:
    """Return the program of one pass on a network with these axes.

    Parameters
    ----------
    model
        The transformer.
    layout
        The sharding of each tensor, the dtypes and the mesh.
    forward
        The pass: a phase, a batch, and the tokens that are run and cached.
    axes
        The axes of the network: name -> chips.

    Returns
    -------
    Program
        The operations of every chip.

    Raises
    ------
    LayoutError, ShardingError
        Where the layout does not fit the model, the batch or the mesh. The path is the tensor of the table, and the dimension
        where a size does not divide: ("w_in", "F").

    Examples
    --------
    >>> from torussim.chips import chip
    >>> from torussim.models import model
    >>> program = build(model("palm-8b"), Layout("ws1d"), Forward("decode", 64, 1, 2048), {"x": 4})
    >>> program.layers, program.block[0].name
    (32, 'add_residual')
    """
    return Builder(model, layout, forward, axes).build()
