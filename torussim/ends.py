"""The ends of a pass: the work of the host and the embedding before the layers, and the logits after them."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING

from torussim.kernels import SUM_BYTES
from torussim.program import Compute, Operation, Program, changed
from torussim.sharding import Sharding
from torussim.tensors import Tensor

if TYPE_CHECKING:
    from torussim.transformer import Builder

LOGIT_BYTES = 4  # f32
HOST = Compute("host", kernels=0, host=True)  # the chips wait for the pass that it prepares


def prepared(program: Program) -> Program:
    """Return a pass with the work of the host and the runtime before it, once for all chips."""
    first = tuple(changed(o, after=(HOST.name,)) if o.after == () else o for o in program.prologue)
    return replace(program, prologue=(HOST, *first))


def embed(b: Builder) -> tuple[Operation, ...]:
    """Return the look-up of the tokens' rows; each chip reads the rows in its part of the vocabulary."""
    b.operations = {}
    shape = b.embedding
    ids = Tensor("embedding", Sharding.of((("B", ()), ("L", ()), ("E", shape.axes("E"))), shape.axes("V")),
                 b.tokens(E=b.model.d_model), b.act)
    rows = prod(ids.sharding.local(ids.sizes, b.lengths).values())
    b.peak = max(b.peak, rows * SUM_BYTES)
    share = prod(b.lengths[a] for a in shape.axes("V"))  # a chip reads one of `share` rows, and writes all rows
    b.add(Compute("embed", (), 0.0, rows * (b.wide_of("embedding") / share + SUM_BYTES)))
    b.travel("embedding", [ids], [b.table["residual"].stored])
    return tuple(b.operations.values())


def unembed(b: Builder) -> tuple[Operation, ...]:
    """Return the logits of each sequence's last position, of a decode step of all its positions, scattered in f32."""
    b.operations = {}
    whole, b.forward = b.forward, replace(b.forward, length=b.forward.positions)
    stations = b.enter("last")
    shape = b.embedding
    residual, arrived = stations[-1][0], stations[-1][1]
    target = b.input_of(residual.sharding, shape)
    (value,), added = b.travel("last", [residual], [target])
    arrived = added[-1] if added else arrived
    gathers = [arrived] if arrived and b.last == arrived[0] else []
    sizes = {"E": b.model.d_model, "V": b.vocabulary}
    weight, b.gathered = Sharding.of(tuple(reversed(shape.dims))), False
    (made,) = b.matmul("logits", [value], [weight], [sizes], ["E"], ["V"], gathers, b.wide_of("embedding"))
    whole_row = Sharding.of(tuple((d, axes + made.partial if d == "V" else axes) for d, axes in made.dims))
    _, added = b.travel("logits", [Tensor("logits", made, b.tokens(V=b.vocabulary), LOGIT_BYTES)], [whole_row])
    b.scatter("logits", added, "E", "V")
    b.forward = whole
    return tuple(b.operations.values())
