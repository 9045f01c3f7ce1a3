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
