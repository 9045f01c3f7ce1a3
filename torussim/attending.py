"""The attention of a layer: from new Q, K and V to its output, with the collectives that its shardings require.

Letters are those of transformer. The functions take the Builder of a pass and add operations to its present list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torussim import kernels
from torussim.chips import DTYPE_BYTES
from torussim.errors import LayoutError
from torussim.program import Compute
from torussim.sharding import divide

if TYPE_CHECKING:
    from torussim.models import Kind
    from torussim.transformer import Builder, _Value


def attend(builder: Builder, parts: dict[str, _Value], kind: Kind) -> _Value:
    """Bring q, k and v to the sharding of attention, add attention, and bring its output back to q's first station."""
    q, k, v = parts["q"], parts["k"], parts["v"]
    for target in builder.table["q"].stations[1:]:
        (q,), _ = builder.travel("", [q], [target])
    for target in builder.table["kv"].stations[1:]:
        (k, v), _ = builder.travel("", [k, v], [target, target])
    heads = divide(builder.heads, "H", q.sharding, builder.lengths, what="heads",
                   do="give the model padded_heads for so many chips, or choose attention: batch")
    if not set(k.sharding.axes("K")) <= set(q.sharding.axes("H")):
        raise LayoutError(f"kv ends as {str(k.sharding)!r} and q as {str(q.sharding)!r}: K must be cut over axes of H",
                          path=("kv",))
    divide(builder.kv_heads, "K", k.sharding, builder.lengths, what="KV heads")
    local = q.sharding.local(q.sizes, builder.lengths)
    rows, length, d_head = local["B"], local["L"], builder.model.d_head
    shared = max(1.0, heads * builder.kv_heads / builder.heads)  # KV heads that the chip's heads read
    own = 2 * rows * length * heads * d_head * builder.act
    name = builder.name("attention")

    def attention(attended: int) -> Compute:
        cache = 2 * rows * attended * shared * d_head * DTYPE_BYTES[builder.layout.kv_cache]
        return kernels.attention(name, rows, length, attended, heads, shared, d_head, cache + own, builder.dtype)

    builder.attention[name] = attention
    made = attention(builder.forward.attended)
    builder.peak = max(builder.peak, own + made.scratch)
    builder.add(made)
    out = q._replace(name="o")
    for target in reversed(builder.table["q"].stations[:-1]):
        (out,), _ = builder.travel("", [out], [target])
    return out
