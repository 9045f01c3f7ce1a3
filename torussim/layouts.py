"""The paper's layouts, and those of its authors' published code, as tables of shardings.

A table gives each tensor its path: the sharding in which it is stored or made, then every sharding on its way, up to the one in
which it is used. The collectives are not written here: they follow from the steps of the paths (sharding.steps).

Keys: residual w_in hidden w_out w_q w_k w_v q kv w_o, and where a layout needs them out (on the way back to the residual), norm
(where the norm's mean square is summed), embedding; of a mixture of experts also tokens (where they are routed), experts_in and
experts_out (with the dimension N of the experts; by default w_in and w_out with N cut over some of their axes). Lists of axes:
loop (whose collectives may be looped with a matmul), loop_out (the same for W_out and W_o, if their axes differ), one_way
(over which reduce-scatters outside loops go in one direction). Three choices: `heads: chips` pads the number of heads, if it may
be padded, to the number of chips, and `heads: model` leaves it as the model has it (both stand in place of `split_heads: auto`
for a model with `padded_heads` or with one KV head, see head_split); `longest: x` names the logical axis that is the longest one
of the network in a scenario without a mesh; `attention_kernel` names the kernel of attention of a layout that does not name one,
one of KERNELS.

The name of a layout decides no time: a table under another name is the same layout. Source: paper, 3.2 to 3.4; google-research,
scaling_transformer_inference_efficiency (`*_code`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import combinations
from math import prod
from typing import Any, NamedTuple

from torussim.chips import CORE
from torussim.errors import LayoutError
from torussim.sharding import KEPT, Sharding

REQUIRED = ("residual", "w_in", "w_out", "w_q", "w_k", "q", "kv", "w_o")
AXES = ("loop", "loop_out", "one_way")  # keys whose values are lists of logical axes
# Keys of a table that are no shardings: the padding of heads, the longest logical axis, and the kernel of attention.
HEADS, LONGEST, KERNEL = "heads", "longest", "attention_kernel"
HEADS_PADDED = ("chips", "model")  # the paddings of heads that a table can ask for: to the number of chips, or the model's alone
DIMENSIONS = {"residual": "BLE", "out": "BLE", "norm": "BLE", "hidden": "BLF", "q": "BLH", "kv": "BLK", "w_in": "EF",
              "w_out": "FE", "w_q": "EH", "w_k": "EK", "w_v": "EK", "w_o": "HE", "embedding": "VE", "tokens": "BLE",
              "experts_in": "NEF", "experts_out": "NFE"}
ATTENTION = ("heads", "batch", "sequence")
FUSED, PLAIN = KERNELS = ("fused", "plain")  # kernels of attention (kernels); fused unless a layout or its table says otherwise
SPLIT_HEADS = ("auto", "sum", "pad")  # heads that do not divide by the chips: split, or padded; auto: the faster
LATENT = ("auto", "absorbed", "expanded")  # forms of latent attention; auto: the fewer FLOP in the pass
EXPERTS = ("all", "batch", "gathered")  # the axes that cut the experts: all, those of the batch; or all, gathered before use
LOGICAL = ("x", "y", "z")
APART = {"experts": "expert_weights", "embedding": "embedding"}  # tensors that can have a dtype of their own -> key of a layout


@dataclass(frozen=True)
class Path:
    """The shardings of a tensor on its way; `algorithm` and the order of `axes` apply to the collectives between them."""

    stations: tuple[Sharding, ...]
    algorithm: str = ""
    axes: tuple[str, ...] = ()

    @staticmethod
    def of(given: object) -> Path:
        """Return the path of a sharding, a list of them, or a mapping {path, algorithm, axes}."""
        if isinstance(given, Path):
            return given
        if isinstance(given, str):
            return Path((Sharding.parse(given),))
        if isinstance(given, Mapping):
            inner = Path.of(given["path"])
            return Path(inner.stations, str(given.get("algorithm", "")), tuple(given.get("axes", ())))
        assert isinstance(given, Sequence)
        return Path(tuple(Sharding.parse(str(text)) for text in given))

    @property
    def stored(self) -> Sharding:
        """The first sharding: in which the tensor is stored, or should be once it is made."""
        return self.stations[0]

    @property
    def used(self) -> Sharding:
        """The last sharding: in which the tensor is used."""
        return self.stations[-1]

    @cached_property
    def cuts(self) -> tuple[tuple[frozenset[str], ...], ...]:
        """The axes that cut each dimension, at each station."""
        return tuple(tuple(frozenset(axes) for _, axes in station.dims) for station in self.stations)


@dataclass(frozen=True)
class Table:
    """Paths by tensor, and the number of heads if the layout has its own padding.

    `padding`: the padding of heads that the table asks for, one of HEADS_PADDED; "" if it asks for none.
    """

    paths: Mapping[str, Path]
    heads: int | None = None
    loop: tuple[str, ...] | None = None  # logical axes whose collectives may be looped; None: all
    loop_out: tuple[str, ...] | None = None  # the same for the matmuls that lead back to the residual
    one_way: tuple[str, ...] = ()  # logical axes over which reduce-scatters outside loops go in one direction
    attention_kernel: str | None = None  # one of KERNELS; None: the table does not say
    padding: str = ""

    def __getitem__(self, tensor: str) -> Path:
        return self.paths[tensor]

    def get(self, tensor: str) -> Path | None:
        """Return the path of a tensor, if the table has one."""
        return self.paths.get(tensor)

    def holding(self, shardings: Sequence[str]) -> str | None:
        """Return the first tensor with the first of these shardings, as written, else with the next; None if there is none."""
        return next((tensor for wanted in shardings for tensor, path in self.paths.items()
                     if wanted in map(str, path.stations)), None)


class Staged(NamedTuple):
    """How the layers are cut into stages: the axis of the network's grid whose positions they are, and the microbatches."""

    axis: str
    microbatches: int = 1


@dataclass(frozen=True)
class Heads:
    """The number of query heads that run, padding included, and whether heads may be split over chips, which then sum scores.

    `copied`: with a KV head for each query head, whether W_k and W_v are whole heads, copied where these do not divide, as those
    of grouped queries are, and not cut by columns like W_q.
    `tried`: of each choice for these passes its estimate of the mean time of a pass, seconds; () if there was only one.
    """

    run: int
    split: bool = False
    copied: bool = False
    tried: tuple[tuple[Heads, float], ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Layout:
    """The layout of a scenario: the FFN layout by name or table, the attention, dtypes, overlap, and the mesh.

    `mesh`: logical axis -> axes of the network's grid, outermost first: physical axes, or parts of them, such as x/2. `overlap`:
    True, False or a kind of loop. `collectives`: the algorithm of each kind of collective, if it is not the default; the
    algorithm of a path takes precedence. `batch`: the number of sequences that run, padding included; None: that of the workload.
    `apart`: the dtypes of "experts" and "embedding" where they are not that of the weights.
    `latent`: the form of latent attention, one of LATENT.
    `attention_kernel`: one of KERNELS; None: that of the table, or else FUSED.
    `split_heads`: one of SPLIT_HEADS. `heads`: the choice that runs, `draft_heads`: that of a draft model; None: the first of
    head_split.choices.
    `pipeline`: the stages of layers; the mesh then has the other axes.
    `experts`: the logical axes that cut the experts of a mixture, or one of EXPERTS. `capacity_factor`: the most tokens of an
    expert, in means over all experts; None: all of its tokens.
    """

    ffn: str | Mapping[str, object] = "ws2d"
    attention: str = "heads"
    weights: str = "bf16"
    activations: str = "bf16"
    kv_cache: str = "bf16"
    overlap: bool | str = True
    mesh: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    collectives: Mapping[str, str | Callable[..., Any]] = field(default_factory=dict)
    batch: int | None = None
    apart: Mapping[str, str] = field(default_factory=dict)
    latent: str = "auto"
    attention_kernel: str | None = None
    pipeline: Staged | None = None
    experts: str | tuple[str, ...] = "all"
    capacity_factor: float | None = None
    split_heads: str = "auto"
    heads: Heads | None = None
    draft_heads: Heads | None = None

    @property
    def expert_weights(self) -> str:
        """The dtype of the experts' weights."""
        return self.apart.get("experts", self.weights)

    @property
    def embedding(self) -> str:
        """The dtype of the embedding, and of the matrix of the logits."""
        return self.apart.get("embedding", self.weights)


@dataclass(frozen=True)
class Sizes:
    """The values that a table can depend on: chips along each logical axis, and the sizes that shards must divide."""

    lengths: Mapping[str, int]
    batch: int
    width: int  # d_model
    heads: int  # after padding
    kv_heads: int  # likewise
    attention: str
    padded: bool = False  # whether the model's heads may be padded further
    parallel: bool = True  # whether attention and FFN share a block
    experts: int = 0  # routed experts of a layer; 0: the FFN is dense
    cut_experts: str | tuple[str, ...] = "all"  # as in Layout.experts
    columns: int = 1  # equal parts into which a head can be cut
    split: bool = False  # whether such parts of a head can be on different chips in attention
    copied: bool = False  # whether W_k and W_v have whole heads also where each query head has its own

    def __hash__(self) -> int:
        return hash((*self.lengths.items(), self.batch, self.width, self.heads, self.kv_heads, self.attention, self.experts))

    @property
    def head_parts(self) -> int:
        """The number of parts of all heads: so many chips at most can cut H."""
        return self.heads * (self.columns if self.split else 1)

    @property
    def kv_parts(self) -> int:
        """The number of parts of all KV heads, which are split only where each query head has its own."""
        return self.kv_columns if self.split else self.kv_heads

    @property
    def kv_columns(self) -> int:
        """The number of parts of W_k and W_v: those of W_q if each query head has its own KV head, otherwise whole heads."""
        return self.kv_heads * (self.columns if self.kv_heads == self.heads and not self.copied else 1)


def fitting(size: int, axes: Sequence[str], lengths: Mapping[str, int]) -> tuple[str, ...]:
    """Return the axes with the most chips whose number divides `size`; of equal ones, the later ones.

    >>> fitting(64, "xyz", {"x": 4, "y": 4, "z": 8})
    ('y', 'z')
    """
    best: tuple[str, ...] = ()
    for count in range(1, len(axes) + 1):
        for some in combinations(axes, count):
            chips = prod(lengths[a] for a in some)
            if size % chips == 0 and chips >= prod(lengths[a] for a in best):
                best = some
    return best


def expert_axes(s: Sizes, batched: Sequence[str]) -> tuple[str, ...]:
    """Return the logical axes that cut the experts where they are stored; `batched` are those that cut the batch of attention.

    Raise LayoutError if an axis is not there or comes twice, or if the chips of given axes do not divide the experts.
    """
    if not s.experts:
        return ()
    if isinstance(s.cut_experts, str):
        return fitting(s.experts, batched if s.cut_experts == "batch" else list(s.lengths), s.lengths)
    for axis in s.cut_experts:
        if axis not in s.lengths:
            raise LayoutError(f"experts uses the axis {axis!r}, but the mesh has {', '.join(s.lengths)}", path=("experts",))
    if len(set(s.cut_experts)) < len(s.cut_experts):
        twice = next(axis for i, axis in enumerate(s.cut_experts) if axis in s.cut_experts[:i])
        raise LayoutError(f"experts names the axis {twice!r} twice: name it once", code="duplicate", path=("experts",))
    chips = prod(s.lengths[a] for a in s.cut_experts)
    if s.experts % chips:
        text = f"experts: {s.experts} experts do not divide by {chips} (the chips of {', '.join(s.cut_experts)})"
        raise LayoutError(f"{text}: choose fewer axes, or all", code="does-not-divide", path=("experts",))
    return tuple(a for a in s.lengths if a in s.cut_experts)


def cut(dim: str, axes: Sequence[str]) -> str:
    """Return a dimension with its axes in the notation of shardings."""
    return dim + ("_" + "".join(axes) if axes else "")


def weight_stationary(s: Sizes, e: str, f: str) -> dict[str, object]:
    """Return the table for weights E_e F_f: activations are gathered and scattered, weights stay (paper, 3.2.1, 3.2.2).

    The axes of the experts of a mixture cut the batch of the residual, where they divide it: from there its tokens are sent.
    """
    everywhere = e + f
    kv = fitting(s.kv_columns, f, s.lengths)
    attended = attention(s, made=f"B L {cut('H', everywhere)}", whole=kv == tuple(f))
    experts = expert_axes(s, Path.of(attended["q"]).used.axes("B"))
    spread = fitting(s.batch, [a for a in experts if s.lengths[a] > 1], s.lengths)
    across, along = ([a for a in axes if a not in spread] for axes in (e, f))
    width = [*across, *fitting(s.width // prod(s.lengths[a] for a in across), along, s.lengths)]
    rest = [a for a in along if a not in width]  # if not all chips divide the width, the batch takes the remaining axes
    return {"residual": f"{cut('B', [*spread, *rest])} L {cut('E', width)}",
            "w_in": f"{cut('E', e)} {cut('F', f)}", "hidden": f"B L {cut('F', everywhere)}",
            "w_out": f"{cut('F', f)} {cut('E', e)}", "w_q": f"{cut('E', e)} {cut('H', f)}",
            "w_k": f"{cut('E', e)} {cut('K', kv)}", "w_o": f"{cut('H', f)} {cut('E', e)}", **attended}


def data_parallel(s: Sizes) -> dict[str, object]:
    """Return the table with whole weights, except those of experts, on every chip, each of which runs its own sequences.

    Servers of large mixtures run this (data-parallel attention with expert parallelism).
    """
    axes = "".join(s.lengths)
    return {"residual": f"{cut('B', axes)} L E", "w_in": "E F", "hidden": f"{cut('B', axes)} L F", "w_out": "F E", "w_q": "E H",
            "w_k": "E K", "q": f"{cut('B', axes)} L H", "kv": f"{cut('B', axes)} L K", "w_o": "H E", "embedding": "V E"}


def weight_gathered(s: Sizes, gathered: str) -> dict[str, object]:
    """Return the table for weights stored E_x F_yz and gathered over some axes just before use (paper, 3.2.3)."""
    rest = "".join(a for a in "xyz" if a not in gathered)
    kv = fitting(s.kv_columns, "yz", s.lengths)

    def path(a: str, a_axes: Sequence[str], b: str, b_axes: Sequence[str]) -> list[str]:
        stored = f"{cut(a, a_axes)} {cut(b, b_axes)}"
        used = f"{cut(a, [x for x in a_axes if x not in gathered])} {cut(b, [x for x in b_axes if x not in gathered])}"
        return [stored, used]

    return {"residual": f"{cut('B', gathered)} L {cut('E', rest)}",
            "w_in": path("E", "x", "F", "yz"), "hidden": f"{cut('B', gathered)} L {cut('F', rest)}",
            "w_out": path("F", "yz", "E", "x"), "w_q": path("E", "x", "H", "yz"), "w_k": path("E", "x", "K", kv),
            "w_o": path("H", "yz", "E", "x"),
            **attention(s, made=f"{cut('B', gathered)} L {cut('H', rest)}", batched=gathered)}


def attention(s: Sizes, made: str, batched: str = "", whole: bool = False) -> dict[str, object]:
    """Return the paths of q and kv: from `made` to heads or batch over as many chips as divide (paper, 3.3).

    `batched`: axes that cut the batch already; `whole`: K and V are made like Q (multihead) and have the same path.
    """
    if s.attention == "sequence":
        return _over_sequence(s, made, batched)
    more = fitting(s.batch // prod(s.lengths[a] for a in batched), [a for a in LOGICAL if a not in batched], s.lengths)
    batch = (*batched, *more) if s.attention == "batch" else ()
    heads = fitting(s.head_parts, [a for a in LOGICAL if a not in batch], s.lengths)
    if s.attention == "heads":  # axes that cut the batch already and take no heads still cut the batch
        batch = tuple(a for a in batched if a not in heads)
    kv = fitting(s.kv_parts, heads, s.lengths)
    q = [made, f"{cut('B', batch)} L {cut('H', heads)}"]
    first = [made.replace("H", "K")] if whole and s.kv_heads == s.heads and not s.copied else []
    return {"q": _unlike(q), "kv": _unlike([*first, f"{cut('B', batch)} L {cut('K', kv)}"])}


def _over_sequence(s: Sizes, made: str, batched: str) -> dict[str, object]:
    """Return the paths of q and kv with the context cut over the axes that cut neither the batch nor KV heads."""
    free = [a for a in LOGICAL if a not in batched]
    heads = fitting(s.kv_heads, free, s.lengths)
    rest = [a for a in free if a not in heads]
    q = _unlike([made, f"{cut('B', batched)} L {cut('H', heads)}"])
    return {"q": q, "kv": f"{cut('B', batched)} {cut('L', rest)} {cut('K', heads)}"}


def _unlike(stations: list[str]) -> list[str]:
    """Return the stations without repetitions of the one before."""
    return [s for i, s in enumerate(stations) if not i or Sharding.parse(s) != Sharding.parse(stations[i - 1])]


def code_attention(s: Sizes, x_apart: bool = False) -> dict[str, object]:
    """Return the paths of q and kv in the code: batch over z, yz or xyz, the most that the batch allows.

    `x_apart`: the 1D layer does the all-to-all over x first, then over yz; the 2D layer over all at once. With fewer heads than
    chips, x cuts the batch instead; if the batch is too small for that as well, heads stay replicated (paper, 3.3).
    """
    if s.attention == "sequence":
        return _over_sequence(s, "B L H_xyz", "")
    made, fit = "B L H_xyz", [axes for axes in (("", "z", "yz", "xyz") if s.attention == "batch" else ("",))
                              if s.batch % prod(s.lengths[a] for a in axes) == 0
                              and s.head_parts % prod(s.lengths[a] for a in LOGICAL if a not in axes) == 0]
    if not fit:
        fit = ["x"] if s.batch % s.lengths["x"] == 0 else [""]
        made = f"{cut('B', fit[0])} L {cut('H', fitting(s.head_parts, 'yz', s.lengths))}"
    batch = max(fit, key=lambda axes: prod(s.lengths[a] for a in axes))
    rest = fitting(s.head_parts, [a for a in LOGICAL if a not in batch], s.lengths)
    q = [made] + (["B_x L H_yz"] if batch == "xyz" and x_apart else []) + [f"{cut('B', batch)} L {cut('H', rest)}"]
    return {"q": _unlike(q), "kv": f"{cut('B', batch)} L {cut('K', fitting(s.kv_parts, rest, s.lengths))}"}


def ws2d_code(s: Sizes) -> dict[str, object]:
    """Return the code's 2D layout: residual B_z L E_xy, one axis gathered or scattered at a time, only x looped.

    The compiler's reduce-scatters go one way (docs/machine_model.md, What is modelled and not fitted). A serial block loops W_out
    and W_o with their scatters over y, gathers over x separately, and has a separate reduce-scatter over z, in both directions.
    """
    by_batch = s.batch % s.lengths["z"] == 0
    kv = fitting(s.kv_heads, "yz", s.lengths)
    home, half, norm = ("B_z L E_xy", "B_z L E_x", "B_z L E_x") if by_batch else ("B L E_xyz", "B L E_xy", "B L E_x")
    serial = {} if s.parallel else {"loop_out": "y", "one_way": "xy"}
    attention = {"heads": "model", **code_attention(s)}
    if by_batch and attention["kv"] == "B L K":  # made from the chip's part of the batch, and gathered
        attention["kv"] = ["B_z L K", "B L K"]
    return {KERNEL: PLAIN, "residual": [home, half, "B L E_x"], "norm": norm, "out": ["B L E_xy {U_z}", home], "loop": "x",
            "one_way": "xyz", "w_in": "E_x F_yz", "hidden": "B L F_xyz", "w_out": "F_yz E_x", "w_q": "E_x H_yz",
            "w_k": f"E_x {cut('K', kv)}", "w_o": "H_yz E_x", **attention, **serial}


def ws1d_code(s: Sizes) -> dict[str, object]:
    """Return the code's 1D layout: residual B L E_x, all-gather and reduce-scatter over x looped, all-reduce over yz.

    "1D needs heads == chips", and x is its longest axis.
    """
    return {KERNEL: PLAIN, "residual": ["B L E_x", "B L E"], "norm": "B L E_x", "out": ["B L E_x {U_yz}", "B L E_x"], "loop": "x",
            "one_way": "xyz", "w_in": "E F_xyz", "hidden": "B L F_xyz", "w_out": "F_xyz E", "w_q": "E H_xyz", "w_k": "E_x K",
            "w_o": "H_xyz E", "embedding": "V_yz E_x", "heads": "chips", "longest": "x", **code_attention(s, x_apart=True)}


def wg_xyz_code(s: Sizes) -> dict[str, object]:
    """Return the code's XYZ weight-gathered layout: weights by permutes one way along one axis at a time; K, V whole."""
    w_in = {"path": ["E_x F_yz", "E F"], "algorithm": "nested", "axes": "xzy"}
    w_out = {"path": ["F_yz E_x", "F E"], "algorithm": "nested", "axes": "zyx"}
    return {KERNEL: PLAIN, "residual": "B_xyz L E", "w_in": w_in, "hidden": "B_xyz L F", "w_out": w_out,
            "w_q": {**w_in, "path": ["E_x H_yz", "E H"]}, "w_k": "E K", "w_o": {**w_out, "path": ["H_yz E_x", "H E"]},
            "heads": "model", "q": ["B_xyz L H"], "kv": "B_xyz L K"}


LAYOUTS: Mapping[str, Callable[[Sizes], dict[str, object]]] = {
    "ws1d": lambda s: weight_stationary(s, "", "xyz"),
    "ws2d": lambda s: weight_stationary(s, "x", "yz"),
    "wg_x": lambda s: weight_gathered(s, "x"),
    "wg_xy": lambda s: weight_gathered(s, "xy"),
    "wg_xyz": lambda s: weight_gathered(s, "xyz"),
    "dp": data_parallel,
    "ws1d_code": ws1d_code,
    "ws2d_code": ws2d_code,
    "wg_xyz_code": wg_xyz_code,
}
FORMULA: Mapping[str, str] = {  # layout of the paper's measured code -> layout of its formula, which a report gives beside it
    "ws1d_code": "ws1d",
    "ws2d_code": "ws2d",
    "wg_xyz_code": "wg_xyz",
}


def written(layout: Layout, sizes: Sizes) -> Mapping[str, object]:
    """Return the table of a layout as keys and values of a file."""
    return LAYOUTS[layout.ffn](sizes) if isinstance(layout.ffn, str) else layout.ffn


def table(layout: Layout, sizes: Sizes) -> Table:
    """Return the table of a layout for these sizes. Raise LayoutError for an incomplete or contradictory table."""
    return _made(LAYOUTS[layout.ffn], sizes) if isinstance(layout.ffn, str) else _table(layout.ffn, sizes)


@lru_cache(KEPT)
def _made(make: Callable[[Sizes], Mapping[str, object]], sizes: Sizes) -> Table:
    """Return the table of a function for these sizes."""
    return _table(make(sizes), sizes)


def _table(table: Mapping[str, object], sizes: Sizes) -> Table:
    """Return a table of a file, read and checked."""
    given = dict(table)
    missing = [key for key in REQUIRED if key not in given]
    if missing:
        raise LayoutError(f"the table of shardings lacks {', '.join(missing)}: give one for each", code="missing")
    axes = {key: tuple(str(given.pop(key))) for key in AXES if key in given}
    padding, _, kernel = str(given.pop(HEADS, "")), given.pop(LONGEST, None), given.pop(KERNEL, None)
    if padding not in ("", *HEADS_PADDED):
        raise LayoutError(f"heads: {padding!r} is no padding of heads: give {' or '.join(HEADS_PADDED)}", path=(HEADS,))
    paths = {key: Path.of(value) for key, value in given.items()}
    for key, path in paths.items():
        for station in path.stations:
            if "".join(station.names()) != DIMENSIONS[key]:
                raise LayoutError(f"{key}: {str(station)!r} must have the dimensions {' '.join(DIMENSIONS[key])}",
                                  path=(key,))
            strange = [a for a in station.used if a not in sizes.lengths]
            if strange:
                raise LayoutError(f"{key}: {str(station)!r} uses the axis {strange[0]}, but the mesh has "
                                  f"{', '.join(sizes.lengths)}", path=(key,))
    paths.setdefault("w_v", paths["w_k"])
    heads = max(sizes.heads, prod(sizes.lengths.values())) if padding == "chips" and sizes.padded else None
    loop = axes.get("loop")
    return Table(paths, heads, loop, axes.get("loop_out", loop), axes.get("one_way", ()),
                 None if kernel is None else str(kernel), padding)


def settled(layout: Layout, table: Table) -> Layout:
    """Return the layout with its kernel of attention: its own, that of its table, or FUSED.

    Raise LayoutError if it is none of KERNELS.
    """
    kernel = layout.attention_kernel or table.attention_kernel or FUSED
    if kernel not in KERNELS:
        raise LayoutError(f"{KERNEL}: {kernel!r} is no kernel of attention: give {' or '.join(KERNELS)}", path=(KERNEL,))
    return replace(layout, attention_kernel=kernel)


def lengths_of(mesh: Mapping[str, Sequence[str]], physical: Mapping[str, int]) -> dict[str, int]:
    """Return the chips along each logical axis. Raise LayoutError unless each physical axis is used exactly once."""
    used = [a for factors in mesh.values() for a in factors]
    for axis in used:
        if axis not in physical:
            raise LayoutError(f"mesh uses the axis {axis!r}, but the network has {', '.join(physical)}")
        if used.count(axis) > 1:
            raise LayoutError(f"mesh uses the axis {axis!r} twice: every physical axis is used up exactly once")
    unused = [a for a in physical if a not in used and physical[a] > 1]
    if unused:
        raise LayoutError(f"mesh leaves the axis {unused[0]!r} unused: give it to a logical axis, such as "
                          f"z: [{', '.join([*mesh.get('z', ()), unused[0]])}]")
    return {name: prod(physical[a] for a in factors) for name, factors in mesh.items()}


def default_mesh(physical: Mapping[str, int], longest: str = "") -> dict[str, tuple[str, ...]]:
    """Return the mesh of a scenario without one: equal names, but the axis `longest`, if any, has the longest physical axis.

    It takes all parts of an axis that is cut. The cores of a chip belong to the last logical axis.

    >>> default_mesh({"x/2*2": 2, "x/2": 2, "y": 4})
    {'x': ('x/2*2', 'x/2'), 'y': ('y',), 'z': ()}
    >>> default_mesh({"x": 2, "y": 2, "z": 4, "core": 2})["z"]
    ('z', 'core')
    >>> default_mesh({"x": 4, "y": 4, "z": 8}, longest="x")
    {'x': ('z',), 'y': ('y',), 'z': ('x',)}
    """
    whole: dict[str, tuple[str, ...]] = {}
    for part in physical:
        axis = part.partition("/")[0]
        axis = LOGICAL[-1] if axis == CORE else axis  # the cores of a chip are neighbours on the last logical axis
        whole[axis] = (*whole.get(axis, ()), part)
    lengths = {axis: prod(physical[part] for part in parts) for axis, parts in whole.items()}
    mesh: dict[str, tuple[str, ...]] = {a: whole.get(a, ()) for a in LOGICAL}
    most = max(lengths, key=lambda a: lengths[a], default="")
    if longest in mesh and most in mesh and lengths[most] > lengths.get(longest, 1):
        mesh[longest], mesh[most] = mesh[most], mesh[longest]
    return mesh


def placed(make: Callable[[Sizes], Mapping[str, object]], mesh: Mapping[str, tuple[str, ...]], sizes: Sizes,
           physical: Mapping[str, int]) -> tuple[dict[str, tuple[str, ...]], Sizes]:
    """Return the mesh of a layout and the sizes with its lengths: `mesh`, or if it is empty the default of the table."""
    found = dict(mesh) or default_mesh(physical)
    sizes = replace(sizes, lengths=lengths_of(found, physical))
    longest = "" if mesh else str(make(sizes).get(LONGEST, ""))
    if longest:
        found = default_mesh(physical, longest)
        sizes = replace(sizes, lengths=lengths_of(found, physical))
    return found, sizes


def stored_as(layout: Layout, dtypes: Mapping[str, str]) -> Layout:
    """Return the layout with the dtypes of a model (`models.Model.dtypes`) in place of its own, where the model names some."""
    apart = {} if "weights" in dtypes else dict(layout.apart)
    apart |= {tensor: dtype for tensor, dtype in dtypes.items() if tensor in APART}
    return replace(layout, weights=dtypes.get("weights", layout.weights), kv_cache=dtypes.get("kv_cache", layout.kv_cache),
                   apart=apart)


def of_formula(layout: Layout) -> Layout:
    """Return the layout of the paper's formula for one of its measured code; any other layout unchanged."""
    return replace(layout, ffn=FORMULA[layout.ffn]) if isinstance(layout.ffn, str) and layout.ffn in FORMULA else layout


def counterpart(layout: Layout) -> Layout | None:
    """Return the formula's layout for one of the paper's measured code, or the reverse; None if there is no such pair."""
    pairs = {**FORMULA, **{formula: code for code, formula in FORMULA.items()}}
    return replace(layout, ffn=pairs[layout.ffn]) if isinstance(layout.ffn, str) and layout.ffn in pairs else None


def is_code(layout: Layout) -> bool:
    """Return whether a layout is one of the paper's measured code that differs from its formula."""
    return isinstance(layout.ffn, str) and layout.ffn in FORMULA
