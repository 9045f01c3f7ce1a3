"""Slices of TPU pods by their public names; knows nothing of graphs."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from torussim import files, resolve
from torussim.errors import NameError_


def slice_of(name: str) -> tuple[tuple[int, ...], tuple[bool, ...], str]:
    """Return the shape of a slice in chips, which of its axes have a wraparound, and the preset of its chip.

    Names of v4 and v5p count cores, two a chip, those of v5e and v6e count chips; "v5litepod-16" is "v5e-16". Raise
    NameError_ for an unknown name.

    >>> slice_of("v4-128"), slice_of("v5e-16")
    (((4, 4, 4), (True, True, True), 'tpu-v4'), ((4, 4), (False, False), 'tpu-v5e'))
    """
    data = files.read(Path(str(resources.files("torussim").joinpath("data", "slices.yaml")))).value
    generation, dash, size = str(name).partition("-")
    public = data["aliases"].get(generation, generation) + dash + size
    if public not in data["slices"]:
        raise NameError_(resolve.unknown(str(name), data["slices"], "TPU slice"))
    entry = data["slices"][public]
    return tuple(entry["shape"]), tuple(entry["wrap"]), data["chips"][public.partition("-")[0]]
