"""Slices of TPU pods by their public names and by their shapes. Knows nothing of graphs.

A name is a generation and a size, such as v4-128, or a generation and a shape, such as v5p-4x4x8. A size counts cores or chips,
as the public names of the generation do. A shape always counts chips.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any

from torussim import files, resolve
from torussim.chips import chip
from torussim.errors import NameError_
from torussim.spelling import nearest
from torussim.topology.check import MAX_CHIPS

Shape = tuple[int, ...]
SHAPE = re.compile(r"[0-9]{1,7}(?:x[0-9]{1,7})+")


@dataclass(frozen=True)
class Pod:
    """The slices of a chip that exist.

    `named`: public name -> chips along each axis, and which axes have a wraparound. `block`: chips along each side of the blocks
    that make up a pod. `most`: chips of the largest slice of whole blocks. Both are 0 if only slices with a name exist.
    `twisted`: whether slices of blocks can be twisted.
    """

    named: Mapping[str, tuple[Shape, tuple[bool, ...]]]
    block: int = 0
    most: int = 0
    twisted: bool = False


@dataclass(frozen=True)
class Generation:
    """The public slices of one generation: `shapes` by name, in chips; `counts`: cores of a chip in their sizes."""

    name: str
    preset: str
    counts: int
    shapes: Mapping[str, Shape]

    def wrap(self, shape: Shape) -> tuple[bool, ...]:
        """Return whether each axis of a slice has a wraparound, by the rule of the chip."""
        return chip(self.preset).wraps(shape)


@dataclass(frozen=True)
class _Data:
    """The content of torussim/data/slices.yaml."""

    generations: Mapping[str, Generation]
    aliases: Mapping[str, str]
    pods: Mapping[str, Mapping[str, Any]]


def names() -> tuple[str, ...]:
    """Return the public names of all slices."""
    return tuple(name for generation in _data().generations.values() for name in generation.shapes)


def sizes() -> list[str]:
    """Return a line for each generation: its names, or the first and the last of many, and the unit of their sizes."""
    lines = []
    for one in _data().generations.values():
        listed = sorted(one.shapes, key=lambda name: prod(one.shapes[name]))
        many = len(listed) > resolve.MOST_LISTED
        shown = f"{listed[0]} to {listed[-1]}, {len(listed)} names" if many else ", ".join(listed)
        lines.append(f"{shown} (sizes are {'cores' if one.counts > 1 else 'chips'})")
    return lines


def pod_of(preset: str) -> Pod | None:
    """Return the slices of a chip that exist; None if no source gives them.

    >>> pod_of("tpu-v4").named["v4-64"], pod_of("tpu-v7x").block, pod_of("ideal")
    (((2, 4, 4), (False, False, False)), 4, None)
    """
    data = _data()
    named = {name: (shape, one.wrap(shape)) for one in data.generations.values() if one.preset == preset
             for name, shape in one.shapes.items()}
    blocks = data.pods.get(preset)
    if blocks is None:
        return Pod(named) if named else None
    return Pod(named, blocks["block"], blocks["most"], blocks["twisted"])


def slice_of(name: str, preset: str | None = None) -> tuple[Shape, tuple[bool, ...], str]:
    """Return the shape of a slice in chips, which of its axes have a wraparound, and the preset of its chip.

    Sizes of v2, v3, v4, v5p and tpu7x count cores, two a chip; sizes of v5e and v6e count chips. "v5litepod-16" is "v5e-16", and
    "v7x-8" is "tpu7x-8". Shapes count chips. A shape alone, "4x4x8", is a shape of the generation of the chip `preset`. Raise
    NameError_ for an unknown name, and for an impossible shape of the generation.

    >>> slice_of("v4-128"), slice_of("v5e-16")
    (((4, 4, 4), (True, True, True), 'tpu-v4'), ((4, 4), (False, False), 'tpu-v5e'))
    >>> slice_of("v5p-4x4x8") == slice_of("v5p-256") == slice_of("4x4x8", "tpu-v5p")
    True
    """
    data = _data()
    if SHAPE.fullmatch(name):
        found = [one for one in data.generations.values() if one.preset == preset]
        if not found:
            raise NameError_(f"{name!r} is a shape without a generation: write one before it, such as v5p-{name}, or name the "
                             "chip")
        return _shaped(name, name, found[0])
    prefix, _, size = name.partition("-")
    generation = data.generations.get(data.aliases.get(prefix, prefix))
    if generation is not None and SHAPE.fullmatch(size):
        return _shaped(name, size, generation)
    if generation is None or f"{generation.name}-{size}" not in generation.shapes:
        raise NameError_(_unknown(name, generation, size, data))
    shape = generation.shapes[f"{generation.name}-{size}"]
    return shape, generation.wrap(shape), generation.preset


def _shaped(name: str, shape: str, generation: Generation) -> tuple[Shape, tuple[bool, ...], str]:
    """Return the slice of a shape. Raise NameError_ if it has other axes than the generation, or too many chips."""
    lengths = tuple(map(int, shape.split("x")))
    example, public = next(iter(generation.shapes.items()))
    if len(lengths) != len(public):
        raise NameError_(f"{name!r} has {len(lengths)} axes, but slices of {generation.name} have {len(public)}, such as "
                         f"{generation.name}-{'x'.join(map(str, public))} ({example})", code="value")
    if 0 in lengths or prod(lengths) > MAX_CHIPS:
        raise NameError_(f"{name!r} has {prod(lengths):,} chips: give 1 to {MAX_CHIPS:,}", code="limit")
    return lengths, generation.wrap(lengths), generation.preset


def _data() -> _Data:
    given = files.read(Path(str(resources.files("torussim").joinpath("data", "slices.yaml")))).value
    made = {}
    for name, one in given["generations"].items():
        shapes = [tuple(map(int, shape.split("x"))) for shape in one["shapes"]]
        made[name] = Generation(name, one["chip"], one["counts"], {f"{name}-{prod(s) * one['counts']}": s for s in shapes})
    return _Data(made, given["aliases"], given["pods"])


def _unknown(name: str, generation: Generation | None, size: str, data: _Data) -> str:
    """Return the message for an unknown name, with the most probable remedy.

    The remedy is the slice whose name differs by a hyphen, in case or by a "tpu" in front; a generation with a similar name and a
    slice of this size; the nearest sizes of the generation; or the names of all generations.
    """
    plain = re.sub(r"[-_ ]", "", name.lower())
    public = [one for generation in data.generations.values() for one in generation.shapes]
    alike = {one.replace("-", ""): one for one in public}
    alike |= {f"{alias}{one.partition('-')[2]}": one for alias, real in data.aliases.items()
              for one in data.generations[real].shapes}
    meant = alike.get(plain) or alike.get(plain.removeprefix("tpu"))
    if meant:
        return f"{name!r} is not a TPU slice: did you mean {meant!r}?"
    if generation is None:
        near = nearest(name.partition("-")[0], [*data.generations, *data.aliases]) if size else None
        real = data.generations[data.aliases.get(near, near)] if near else None
        if real is not None and (f"{real.name}-{size}" in real.shapes or SHAPE.fullmatch(size)):
            return f"{name!r} is not a TPU slice: did you mean {f'{near}-{size}'!r}?"
        return (f"{name!r} is not a TPU slice: slices of {', '.join(data.generations)} have names, such as {public[0]}, or "
                "shapes, such as v5p-4x4x8: give shape and wrap for another network")
    example = f"a shape, such as {_shape_of(generation)}"
    if not size.isdecimal() or len(generation.shapes) <= resolve.MOST_LISTED:
        return f"{resolve.unknown(name, generation.shapes, 'TPU slice', hint=False)}; or {example}"
    known = sorted((int(one.rpartition("-")[2]), one) for one in generation.shapes)
    beside = [*[one for count, one in known if count < int(size)][-1:], *[one for count, one in known if count > int(size)][:1]]
    return f"{name!r} is not a TPU slice: the sizes next to it are {' and '.join(beside)}; or give {example}"


def _shape_of(generation: Generation) -> str:
    """Return a shape of a slice of the generation, as an example."""
    shapes = list(generation.shapes.values())
    return f"{generation.name}-{'x'.join(map(str, shapes[min(4, len(shapes) - 1)]))}"
