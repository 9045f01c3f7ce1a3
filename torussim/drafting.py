"""The passes of a draft model before a pass of the large model, and all of them as one program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from torussim.pipeline import renamed, tagged
from torussim.program import Block, Collective, Compute, Program
from torussim.workload import UNIFORM, Forward

Attention = Mapping[str, Callable[[int], Compute]]  # by name, the operations that depend on the number of attended tokens
TOKEN_BYTES = 4  # of the number of a token


def first_pass(forward: Forward) -> Forward:
    """Return the first pass of the draft model before a pass of the large model. Measured shares of experts are not its own.

    >>> one = first_pass(Forward("decode", 8, 5, 104))
    >>> one.length, one.attended, first_pass(Forward("prefill", 8, 100, 100)).length
    (1, 100, 100)
    """
    one = replace(forward, draft_model=None, host=False, balance=UNIFORM if forward.balance.shares else forward.balance)
    return replace(one, length=1, attended=forward.attended - forward.length + 1) if forward.phase == "decode" else one


def handed_back(axis: str, stages: int, batch: int) -> Collective:
    """Return the permute of proposed tokens from the last stage of a pipeline to the first one, which waits for them."""
    return Collective("hand_back", "permute", (axis,), batch * TOKEN_BYTES, shift={axis: 1}, on=((axis, (stages - 1,)),))


def drafted(whole: Program, forward: Forward, draft: Program, attention: Attention,
            back: Collective | None = None) -> tuple[Program, Attention]:
    """Return a pass of the large model with all passes of the draft model before it, as one program.

    `draft` is the first pass of the draft model, and `attention` has its attention by the tokens that it attends to itself. The
    second result has that of every pass of the draft model, by the tokens that the large model attends to. `back`, in a pipeline,
    follows each decode step of the draft model, because the next one needs its token.
    """
    more: dict[str, Callable[[int], Compute]] = {}
    programs = list[Program]()
    if back and forward.phase == "decode":
        draft = replace(draft, epilogue=(*draft.epilogue, back))
    for number in range(forward.length - 1 if forward.phase == "decode" else 1):
        prefix, fewer = f"draft_{number + 1}_", forward.length - 1 - number if forward.phase == "decode" else 0
        own = {prefix + name: _behind(one, fewer, prefix) for name, one in attention.items()}
        one_pass = draft.mapped(partial(tagged, tag="", prefix=prefix))
        programs.append(one_pass.replaced({name: one(forward.attended) for name, one in own.items()}))
        more |= own
    return in_turn([*programs, whole]), more


def in_turn(programs: Sequence[Program]) -> Program:
    """Return the program that runs several programs, at least one, one after another; no two operations may have one name.

    A chip begins the next program when it has ended the one before, whatever the other chips do.

    >>> one, other = (Program((Compute(f"{name} layer"),), 3, epilogue=(Compute(f"{name} end"),)) for name in ("small", "large"))
    >>> [(block.operations[0].name, block.times) for block in in_turn([one, other]).sections() if block.operations]
    [('small layer', 3), ('small end', 1), ('large layer', 3), ('large end', 1)]
    """
    first, *others = programs
    more, last = [*first.more], first
    for one in others:
        more += [Block(operations, 1) for operations in (last.epilogue, one.prologue) if operations]
        more += one.blocks
        last = one
    return replace(first, more=tuple(more), epilogue=last.epilogue)


def _behind(attention: Callable[[int], Compute], fewer: int, prefix: str) -> Callable[[int], Compute]:
    """Return the attention of a pass of the draft model, as a function of the tokens that the large model attends to."""
    return lambda attended: renamed(attention(attended - fewer), "", prefix=prefix)
