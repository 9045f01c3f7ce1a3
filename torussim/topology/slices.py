"""Slices of TPU pods by their public names; knows nothing of graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from torussim import files, resolve
from torussim.errors import NameError_


@dataclass(frozen=True)
class Pod:
    """What slices of a chip there are.

    `named`: public name -> chips along each axis, and which axes have a wraparound. `block`: chips along each side of the blocks
    that a pod is made of, and `most`: chips of the largest slice of whole blocks; 0 where only slices with a name exist. `cut`:
    sub-slices that a block can be cut into on demand, without wraparounds. `twisted`: whether slices of blocks can be twisted.
    """

    named: Mapping[str, tuple[tuple[int, ...], tuple[bool, ...]]]
    block: int = 0
    most: int = 0
    twisted: bool = False
    cut: tuple[tuple[int, ...], ...] = ()


def names() -> tuple[str, ...]:
    """Return the public names of all slices."""
    return tuple(_data()["slices"])


def pod_of(preset: str) -> Pod | None:
    """Return what slices of a chip there are; None where no source says.

    >>> pod_of("tpu-v4").named["v4-64"], pod_of("tpu-v7x").cut[0], pod_of("ideal")
    (((2, 4, 4), (False, False, False)), (2, 2, 1), None)
    """
    data = _data()
    named = {name: (tuple(one["shape"]), tuple(one["wrap"])) for name, one in data["slices"].items()
             if data["chips"][name.partition("-")[0]] == preset}
    blocks = data["pods"].get(preset)
    if blocks is None:
        return Pod(named) if named else None
    return Pod(named, blocks["block"], blocks["most"], blocks["twisted"], tuple(map(tuple, blocks["cut"])))


def _data() -> Any:
    return files.read(Path(str(resources.files("torussim").joinpath("data", "slices.yaml")))).value


def slice_of(name: str) -> tuple[tuple[int, ...], tuple[bool, ...], str]:
    """Return the shape of a slice in chips, which of its axes have a wraparound, and the preset of its chip.

    Names of v4 and v5p count cores, two a chip, those of v5e and v6e count chips; "v5litepod-16" is "v5e-16". Raise
    NameError_ for an unknown name.

    >>> slice_of("v4-128"), slice_of("v5e-16")
    (((4, 4, 4), (True, True, True), 'tpu-v4'), ((4, 4), (False, False), 'tpu-v5e'))
    """
    data = _data()
    generation, dash, size = name.partition("-")
    generation = data["aliases"].get(generation, generation)
    public = generation + dash + size
    if public not in data["slices"]:
        raise NameError_(_unknown(name, generation, list(data["slices"])))
    entry = data["slices"][public]
    return tuple(entry["shape"]), tuple(entry["wrap"]), data["chips"][generation]


def _unknown(name: str, generation: str, slices: list[str]) -> str:
    """Return the message for an unknown name: the slice that differs by a hyphen or its case, those of its generation, or which
    generations there are. Another size, or another generation, is no misspelling.
    """
    sizes: dict[str, list[str]] = {}
    for public in slices:
        sizes.setdefault(public.partition("-")[0], []).append(public)
    hyphen = [public for public in slices if public.replace("-", "") == name.replace("-", "").lower()]
    if hyphen or generation in sizes:
        return resolve.unknown(name, hyphen or sizes[generation], "TPU slice", hint=bool(hyphen))
    return (f"{name!r} is not a TPU slice: slices of {', '.join(sizes)} have names, such as {slices[0]}: give shape and wrap "
            "for another network")
