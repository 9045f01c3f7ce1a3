"""What a chip keeps of K and V, what attention reads of it, and in which form attention runs.

The choices here depend on a model, a layout and the numbers of tokens of a pass alone, so that passes can be told apart before
their programs are built. The module knows no operations.

*Windows.* A token of a layer with a window attends to at most so many tokens, itself included, and the layer keeps no more. A
plain kernel that keeps to the band of the window computes min(attended, window) products for each query (masked ones are
computed as well, as without a window), and reads the K and V of min(attended, window + L - 1) tokens in a pass of L new ones. A
fused kernel reads as much, and skips blocks of products that are all masked (`reach`).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import prod
from typing import TYPE_CHECKING

from torussim.chips import DTYPE_BYTES
from torussim.kernels import BLOCK, LEAST_BLOCK, SUM_BYTES
from torussim.layouts import FUSED, KERNELS, PLAIN, Layout, Path
from torussim.models import Kind, Model
from torussim.sharding import Sharding, divide
from torussim.workload import Forward

if TYPE_CHECKING:
    from torussim.transformer import Builder

UNLIMITED = 10**9  # tokens: the longest context of a scenario
STATISTICS = 2  # of a query and a head where the context is cut: the maximum and the sum
STATISTIC_BYTES = 4  # f32
LANES = 128  # of a vector register of a TPU, with keys along it (docs.jax.dev, Pallas, TPU details)

# -- on a chip ----------------------------------------------------------------------------------------------------------


def kept(builder: Builder) -> float:
    """Return the elements of K and V, or of the latent, that a chip keeps of each of its tokens, one layer."""
    m = builder.model
    return kv_heads_kept(builder) * (m.latent + m.latent_rope if m.latent else m.d_head + m.value)


def kv_heads_kept(builder: Builder) -> float:
    """Return the KV heads that a chip keeps: those that its queries read (head_split). A latent is that of one KV head.

    With more chips than heads, heads are partly replicated (paper, 3.3).
    """
    return builder.share.kept


def parts_of(builder: Builder) -> int:
    """Return the number of parts into which the tokens of the context are cut."""
    return prod(builder.lengths[a] for a in builder.table["kv"].used.axes("L"))


def new_tokens(builder: Builder, sharding: Sharding) -> Sharding:
    """Return the sharding of K and V of new tokens: as cached if those of a prompt divide, otherwise every chip has all.

    It then keeps its own.
    """
    axes = sharding.axes("L")
    divides = builder.forward.length % prod(builder.lengths[a] for a in axes) == 0
    return sharding if builder.forward.phase == "prefill" and divides else sharding.without(axes)


def cached(builder: Builder, tokens: float, layers: Sequence[int]) -> float:
    """Return the bytes of K and V on a chip, some layers, for a context of so many tokens; of its longest part if it is cut."""
    parts = parts_of(builder)
    each = [min(tokens, kind.window or tokens) for kind in _kinds(builder, layers)]
    held = sum(-(-one // parts) for one in each) if parts > 1 else sum(each)
    return held * _each(builder)


def _kinds(builder: Builder, layers: Sequence[int]) -> list[Kind]:
    kinds = builder.model.kinds
    return [kinds[layer] for layer in layers]


def longest(builder: Builder, room: float, layers: Sequence[int]) -> int:
    """Return the longest context whose K and V of some layers fit into this room on a chip, bytes; at most UNLIMITED."""
    parts, each = parts_of(builder), _each(builder)
    windows = [kind.window for kind in _kinds(builder, layers)]
    short = int(room / (each * len(windows))) * parts  # if no window is full
    if all(window is None or short <= window for window in windows):
        return short
    growing = windows.count(None)
    left = room - each * sum(-(-window // parts) for window in windows if window)
    most = min(window for window in windows if window)
    return max(most, int(left / (each * growing)) * parts) if growing else UNLIMITED


def _each(builder: Builder) -> float:
    """Return the bytes of K and V of one token of all sequences of a chip, one layer."""
    rows = builder.microbatches * divide(builder.forward.batch, "B", builder.table["kv"].used, builder.lengths)
    return rows * kept(builder) * DTYPE_BYTES[builder.layout.kv_cache]


# -- the form of attention ----------------------------------------------------------------------------------------------


def reach(length: int, attended: int, window: int | None, kernel: str | None = PLAIN) -> tuple[int, int]:
    """Return the number of keys that each of `length` queries meets, and of tokens whose K and V they read together.

    A fused kernel has the mean over its blocks of queries, rounded up: a block meets all keys up to its last query, from the
    first one in the window of its first query.

    >>> reach(512, 4096, 1024), reach(4096, 4096, None), reach(4096, 4096, None, FUSED)
    ((1024, 1535), (4096, 4096), (2304, 4096))
    """
    read = attended if window is None else min(attended, window + length - 1)
    if kernel == PLAIN:
        return (attended if window is None else min(attended, window)), read
    before, block = attended - length, min(length, BLOCK if window is None else max(LEAST_BLOCK, min(BLOCK, window)))
    full, rest = divmod(length, block)
    most = attended if window is None else min(attended, window + block - 1)  # keys that a block meets
    growing = max(0, min(full, (most - before) // block))  # the blocks that meet all keys up to their last query
    met = block * (growing * before + block * growing * (growing + 1) // 2 + (full - growing) * most) + rest * most
    return -(-met // length), read


def score_columns(keys: int) -> int:
    """Return the columns of the scores that chips sum: a register has 128 lanes."""
    return -(-keys // LANES) * LANES


def absorbed(model: Model, layout: Layout, forward: Forward, window: int | None) -> bool:
    """Return whether latent attention is absorbed: as the layout says, or if that takes fewer FLOP in the pass."""
    if not model.latent or layout.latent != "auto":
        return bool(model.latent) and layout.latent == "absorbed"
    keys, read = reach(forward.length, forward.attended, window, layout.attention_kernel or FUSED)
    up = model.latent * (model.d_head - model.latent_rope + model.value)  # products of a token and a head
    return (forward.length * (up + keys * (2 * model.latent + model.latent_rope))
            < read * up + forward.length * keys * (model.d_head + model.value))


def ring(model: Model, layout: Layout, forward: Forward, window: int | None) -> bool:
    """Return whether K and V of a cut context travel: if queries, outputs and their statistics have more bytes.

    H and K are taken to be cut over the same axes. The queries of a decode step always travel.
    """
    _, read = reach(forward.length, forward.attended, window)
    act, cache = DTYPE_BYTES[layout.activations], DTYPE_BYTES[layout.kv_cache]
    each = model.d_head + model.value
    if not model.latent:
        stored = model.kv_heads * each * cache
    elif absorbed(model, layout, forward, window):
        stored = (model.latent + model.latent_rope) * cache
    else:
        stored = model.heads * each * act
    asked = model.heads * (model.d_head * act + model.value * max(act, SUM_BYTES) + 2 * STATISTICS * STATISTIC_BYTES)
    return forward.phase == "prefill" and forward.length > 1 and read * stored < forward.length * asked


def latent_form(builder: Builder) -> tuple[str, ...]:
    """Return the forms in which latent attention runs in the layers, absorbed or expanded; () without latent attention."""
    if not builder.model.latent:
        return ()
    return tuple(dict.fromkeys("absorbed" if absorbed(builder.model, builder.layout, builder.forward, kind.window) else "expanded"
                               for kind in builder.model.kinds))


def travellers(builder: Builder) -> tuple[str, ...]:
    """Return what travels in the layers if the context is cut, queries or K and V; () if it is not."""
    if parts_of(builder) == 1:
        return ()
    return tuple(dict.fromkeys("K and V" if ring(builder.model, builder.layout, builder.forward, kind.window) else "queries"
                               for kind in builder.model.kinds))


def form(model: Model, layout: Layout, forward: Forward) -> Hashable:
    """Return a value that is equal for passes whose programs differ only in the operations of `Builder.attention`.

    The passes have the same phase and number of new tokens, and all or none of them reads cached tokens. Where K and V travel,
    or scores are summed, their bytes depend on the attended tokens too.
    """
    table = {} if isinstance(layout.ffn, str) else layout.ffn
    cut = bool(Path.of(table["kv"]).used.axes("L")) if "kv" in table else layout.attention == "sequence"
    summed = (layout.heads.split if layout.heads else layout.split_heads == "sum")
    if not model.latent and not cut and not summed:
        return None
    found = []
    for window in dict.fromkeys(kind.window for kind in model.kinds):
        travels = cut and ring(model, layout, forward, window)
        sums = [score_columns(reach(forward.length, forward.attended, window, kernel)[0]) for kernel in KERNELS if summed]
        found.append((absorbed(model, layout, forward, window), forward.attended if travels else None, *sums))
    return tuple(found)
