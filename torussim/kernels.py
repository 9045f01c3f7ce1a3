"""The costs of a layer on a chip besides the products with weights: attention, elementwise work, passes through HBM, kernels.

The counts follow the code that the paper's measurements ran (google-research, scaling_transformer_inference_efficiency:
attention.py, collectives.py, layers). Counts that this code does not show are ours, and are marked "ours". A compiler splits the
code into kernels; each has a fixed cost. The module knows nothing of shardings and chips: sizes are those on one chip.
"""

from __future__ import annotations

from math import ceil

from torussim.program import Compute, Loop, Matmul, changed

SUM_BYTES = 2  # partial sums travel in bf16 whatever the activations' dtype
SCORE_BYTES = 4  # f32

# Scores that do not fit on the chip (ours): written, read for the maximum, read, exponentiated and written with their sum, and
# read again. The sums divide the result of the second product.
SOFTMAX_OPERATIONS, SOFTMAX_PASSES = 10, 5
# K and V with a dimension of heads, outside a fused kernel (ours). Products for each sequence and head need the tokens of a head
# one after another. A cache has the heads of a token one after another. So K and V are copied to the other order: read, written,
# and read by the products. A row of a tile is 4 bytes deep: two rows of bf16, here heads, lie in one (OpenXLA, Tiled layout:
# bf16 has tiles of 8 x 128 of 2 x 1), so that a single head fills half of what is moved.
ORDER_PASSES, PACKED_BYTES = 3, 4
# Rotation of q and k; product, maximum, exponentials with their sum, product; normalisation. The cached part has the middle four
# kernels of its own.
ATTENTION_KERNELS, CACHE_KERNELS = 7, 4
# Of a fused kernel, the queries and keys of a block: 512 (MaxText, configs/base.yml: sa_block_q and sa_block_kv of Splash
# attention), in a layer with a window as many as the window has, but not fewer than 128 (blocks of FlashAttention on GPUs).
BLOCK, LEAST_BLOCK = 512, 128
# For each score (ours): maximum, difference, sum, rounding. The scale is a factor of q; exponentials have a unit of their own
# (EUP of a TPU, SFU of a GPU).
ONLINE_OPERATIONS = 4
SUMMED_PASSES = 2  # of scores that chips sum, between two kernels: written and read
FUSED_KERNELS = 3  # rotation of q and k, K and V to the cache, attention
MLP_OPERATIONS, MLP_KERNELS = 5, 2  # the nonlinearity, and the concatenation with the result of attention
RESIDUAL_OPERATIONS, RESIDUAL_PASSES = 10, 4  # the sum that ends a block, and the norm that begins the next
RESIDUAL_KERNELS = 3  # the sum, the mean square, the scaling
NORM_OPERATIONS, NORM_PASSES, NORM_KERNELS = 5, 3, 2  # of a latent: read for the mean square, read and written
RESCALING_OPERATIONS = 2  # the factor of a head and its product with each element
# Of a mixture of experts (ours): the softmax of a token's logits and the choice of the largest; sort, offsets, copies.
ROUTING_OPERATIONS, ROUTING_KERNELS = 10, 4
# Of a looped reduce-scatter: the link writes the received data, these and the matmul's result are read, their sum is written.
SUM_PASSES = 4
HALVES_PASSES = 2  # of a looped all-gather in both directions: the halves received from either side are copied together


def plain_attention(name: str, rows: float, length: int, attended: int, heads: float, kv_heads: float, d_head: float,
                    d_value: float, wide: float, dtype: str, *, cached: bool, copied: float = 0.0, parts: int = 1,
                    loops: tuple[Loop, ...] = ()) -> Compute:
    """Return attention of `rows` sequences with `length` queries each, which meet `attended` keys, in `parts` one after another.

    Its products, softmax and normalisation are kernels of their own, so that the scores lie between them.

    `heads` and `kv_heads` are those of the chip, KV heads at least one. `wide`: HBM bytes; `copied`: further ones, of copies of K
    and V to another order. `cached`: whether tokens before the new ones are read.
    """
    queries, scores, keys = length * heads / kv_heads, rows * length * heads * attended, attended // parts
    count = rows * kv_heads * parts
    products = (Matmul(queries, d_head, keys, count), Matmul(queries, keys, d_value, count))
    return Compute(name, products, hbm_bytes=wide, dtype=dtype, loops=loops, vector=SOFTMAX_OPERATIONS * scores,
                   vector_bytes=copied, scratch=SCORE_BYTES * scores, scratch_passes=SOFTMAX_PASSES,
                   kernels=ATTENTION_KERNELS + (CACHE_KERNELS if cached else 0))


def copies(kv_heads: float, width: float) -> float:
    """Return how often the bytes of K and V with a dimension of heads cross HBM in plain attention, besides once.

    `kv_heads` are those of the chip, and `width` the bytes of an element.

    >>> copies(1, 2), copies(8, 2), copies(3, 4)
    (5.0, 2.0, 2.0)
    """
    packed = max(1, int(PACKED_BYTES // width))
    return ORDER_PASSES * ceil(kv_heads / packed) * packed / kv_heads - 1


def fused_attention(name: str, rows: float, length: int, attended: int, heads: float, kv_heads: float, d_head: float,
                    d_value: float, wide: float, dtype: str, *, parts: int = 1, loops: tuple[Loop, ...] = ()) -> Compute:
    """Return attention as one kernel, whose scores never leave the chip (FlashAttention, arXiv 2205.14135; Splash in JAX).

    Arguments are those of `plain_attention`; `attended` is the mean over blocks of queries, without the keys of blocks that are
    all masked (`keeping.reach`). The matrix unit multiplies BLOCK queries of all heads of a KV head with their keys; a single
    query fills the rows of a tile in part. The softmax of a block runs in the vector unit beside the products of another one:
    compilers for TPUs pipeline blocks, and so do GPU kernels since FlashAttention-3 (arXiv 2407.08608). K and V cross HBM once:
    all queries of a KV head, or all its keys, stay on the chip. Where it holds neither, each further reading of a key meets so
    many queries that their products take longer.
    """
    keys, blocks = attended // parts, max(1.0, length / BLOCK)
    queries, count = min(length, BLOCK) * heads / kv_heads, rows * kv_heads * parts * blocks
    products = (Matmul(queries, d_head, keys, count), Matmul(queries, keys, d_value, count))
    return Compute(name, products, hbm_bytes=wide, dtype=dtype, loops=loops, kernels=FUSED_KERNELS,
                   beside=ONLINE_OPERATIONS * rows * length * heads * attended)


def scores(name: str, attention: Compute) -> Compute:
    """Return the first part of attention whose scores chips sum (ours): the product of Q and K, as a kernel of its own."""
    first, second = attention.matmuls
    share = first.k / (first.k + second.n)
    return Compute(name, (first,), hbm_bytes=share * attention.hbm_bytes, dtype=attention.dtype, loops=attention.loops,
                   vector_bytes=share * attention.vector_bytes)


def after_scores(attention: Compute, scores: float) -> Compute:
    """Return the rest of attention after `scores`, the softmax and the product with V; a chip has so many scores.

    A fused kernel is then two, with the scores between them.
    """
    first, second = attention.matmuls
    share = second.n / (first.k + second.n)
    fused = {} if attention.scratch else {"scratch": SCORE_BYTES * scores, "scratch_passes": SUMMED_PASSES}
    return changed(attention, matmuls=(second,), hbm_bytes=share * attention.hbm_bytes, loops=(),
                   vector_bytes=share * attention.vector_bytes, **fused)


def norm(name: str, elements: float, dtype: str) -> Compute:
    """Return the norm of a latent, or of q and k (ours: the mean square, the scaling)."""
    return Compute(name, dtype=dtype, vector=NORM_OPERATIONS * elements, kernels=NORM_KERNELS,
                   vector_bytes=NORM_PASSES * elements * SUM_BYTES)


def rescaling(name: str, elements: float, dtype: str) -> Compute:
    """Return the scaling of attention's output over a part of the context by the maxima and sums of all parts (ours)."""
    return Compute(name, dtype=dtype, vector=RESCALING_OPERATIONS * elements, kernels=1,
                   vector_bytes=2 * elements * SUM_BYTES)


def residual(name: str, elements: float, dtype: str) -> Compute:
    """Return the sum that ends a block and the norm that begins the next."""
    return Compute(name, dtype=dtype, vector=RESIDUAL_OPERATIONS * elements, kernels=RESIDUAL_KERNELS,
                   vector_bytes=RESIDUAL_PASSES * elements * SUM_BYTES)


def nonlinearity(name: str, elements: float, gated: bool, dtype: str) -> Compute:
    """Return the nonlinearity of the hidden layer. A gated MLP reads two values for each written one."""
    return Compute(name, dtype=dtype, vector=MLP_OPERATIONS * elements, kernels=MLP_KERNELS,
                   vector_bytes=(3 if gated else 2) * elements * SUM_BYTES)


def routing(name: str, tokens: float, experts: int, copies: float, elements: float, dtype: str) -> Compute:
    """Return the choice of the experts of tokens from the router's logits, and their order by expert.

    The `elements` of the tokens are read once and written `copies` times.
    """
    return Compute(name, dtype=dtype, vector=ROUTING_OPERATIONS * tokens * experts, kernels=ROUTING_KERNELS,
                   vector_bytes=(1 + copies) * elements * SUM_BYTES)


def combining(name: str, elements: float, copies: float, dtype: str) -> Compute:
    """Return the weighted sum of `copies` results of experts for each token; `elements` are those of the sum."""
    return Compute(name, dtype=dtype, vector=2 * copies * elements, vector_bytes=(1 + copies) * elements * SUM_BYTES)


def loop_bytes(collective: str, size: float, kind: str, nested: bool) -> float:
    """Return the additional HBM traffic on one chip of a matmul looped with a collective of `size` bytes."""
    if collective == "reduce_scatter":
        return SUM_PASSES * size
    return 0.0 if nested or kind == "one_way" else HALVES_PASSES * size
