"""Slices of TPU pods by their public names; knows nothing of graphs."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from torussim import files, resolve
from torussim.errors import NameError_


def names() -> tuple[str, ...]:
    """Return the public names of all slices."""
    return tuple(files.read(Path(str(resources.files("torussim").joinpath("data", "slices.yaml")))).value["slices"])


def slice_of(name: str) -> tuple[tuple[int, ...], tuple[bool, ...], str]:
    """Return the shape of a slice in chips, which of its axes have a wraparound, and the preset of its chip.

    Names of v4 and v5p count cores, two a chip, those of v5e and v6e count chips; "v5litepod-16" is "v5e-16". Raise
    NameError_ for an unknown name.

    >>> slice_of("v4-128"), slice_of("v5e-16")
    (((4, 4, 4), (True, True, True), 'tpu-v4'), ((4, 4), (False, False), 'tpu-v5e'))
    """
    data = files.read(Path(str(resources.files("torussim").joinpath("data", "slices.yaml")))).value
    generation, dash, size = name.partition("-")
    generation = data["aliases"].get(generation, generation)
    public = generation + dash + size
    if public not in data["slices"]:
        raise NameError_(resolve.unknown(name, _candidates(name, generation, list(data["slices"])), "TPU slice"))
    entry = data["slices"][public]
    return tuple(entry["shape"]), tuple(entry["wrap"]), data["chips"][generation]


def _candidates(name: str, generation: str, slices: list[str]) -> list[str]:
    """Return what an unknown name can mean: the slice that differs by a hyphen, those of its generation, or all."""
    hyphen = [public for public in slices if public.replace("-", "") == name.replace("-", "").lower()]
    return hyphen or [public for public in slices if public.partition("-")[0] == generation] or slices
