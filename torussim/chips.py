"""Chips: peak rates, memory, links, the rule for wraparounds, and the calibrated efficiencies and overheads.

A preset is data/chips/<name>.yaml, where every number has its source. A user-defined chip is a mapping of the same form; with
`base` it needs only the fields that differ. The module knows nothing of topologies, programs and models.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Final

from torussim import files, resolve, sourced
from torussim.chip_fields import FIELDS, MULTIPLIED_AS, NEEDED, PLAIN, TILE_SIDES
from torussim.errors import Found, NameError_, TorusSimError
from torussim.sourced import Keys, quote

_PLAIN: Final[Mapping[str, float]] = {"bf16": 2, "fp8": 1, "int8": 1, "int4": 0.5, "f32": 4, "mxfp4": 4.25 / 8, "nvfp4": 4.5 / 8}
GROUPED: Final = r"^int([48])/([1-9][0-9]{0,5})(z?)$"  # integers in groups


class Dtypes(Mapping[str, float]):
    """The bytes of an element by dtype. `int4/128` are integers with a scale of 16 bits for each 128 of them; `int4/128z` have a
    zero point of 4 bits too. mxfp4 has a scale of 8 bits for each 32 elements, nvfp4 for each 16. Iteration yields the names
    without groups.

    >>> DTYPE_BYTES["int4/128"] * 8, DTYPE_BYTES["mxfp4"] * 8, "int4/0" in DTYPE_BYTES
    (4.125, 4.25, False)
    """

    def __getitem__(self, dtype: str) -> float:
        """Return the bytes of an element. Raise KeyError for an unknown dtype."""
        found = re.match(GROUPED, dtype) if isinstance(dtype, str) else None
        return _PLAIN[dtype] if found is None else (int(found[1]) + (20 if found[3] else 16) / int(found[2])) / 8

    def __iter__(self) -> Iterator[str]:
        """Yield the names of dtypes without groups."""
        return iter(_PLAIN)

    def __len__(self) -> int:
        """Return the number of dtypes without groups."""
        return len(_PLAIN)


DTYPE_BYTES: Final = Dtypes()
_SHARED = ("hbm_bytes", "hbm_bandwidth", "on_chip_bytes", "link_bandwidth", "vector_rate")  # by the cores of a chip
CORE = "core"  # the axis of a network on which the cores of a chip stand


@dataclass(frozen=True)
class Chip:
    """One chip, in base units. Peaks are the vendor's numbers; efficiencies, in (0, 1], are the share of them that is reached."""

    name: str
    flops: Mapping[str, float] = field(hash=False)  # dtype of the activations -> peak FLOP/s; bf16 is always there
    hbm_bytes: float
    hbm_bandwidth: float  # bytes/s
    on_chip_bytes: float  # memory on the chip, beside HBM
    link_bandwidth: float  # bytes/s, one direction of one link
    link_latency: float  # s a hop
    links: int
    wrap: Mapping[str, int] | str = field(hash=False)  # "always", or one of WRAP_RULES and its length
    tile: tuple[int, int, int]  # rows, contraction, columns: a matmul is rounded up to whole tiles
    load_rows: float  # rows that pass through a tile of the matrix unit in the time of loading its weights
    vector_rate: float  # elementwise operations/s
    matmul_efficiency: float
    hbm_efficiency: float
    link_efficiency: float
    shared_efficiency: float  # of a link while several routed messages share it
    launch: float  # s, of a collective, on each chip, before its first send
    message: float  # s, of each message of an all-to-all and of each piece in one, on each chip, before its first send
    op_overhead: float  # s, of a kernel: a compiler splits a compute operation into kernels
    loop_step: float  # s, of each step of a looped einsum
    uncertainty: Mapping[str, float] = field(default_factory=dict, hash=False)  # of a parameter: one standard deviation
    validated: str = ""  # the measured times that validate it; empty: none
    step_overhead: float = 0.0  # s, of the host and the runtime before each pass
    bulk_launch: float = 0.0  # s, of a collective, in addition to `launch`, with the protocol for long messages
    low_latency_rate: float = 1.0  # the share of data, beside flags, in the protocol for short messages
    in_switch_rate: float = 1.0  # the share of a link's rate at which a switch sums
    algorithms: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)  # by kind: those of its library; {}: all
    cores: int = 1  # of the chip; if above 1, its slices have a node for each core
    core_bandwidth: float = 0.0  # bytes/s, one direction of the link between the cores of a chip
    part: int = 1  # the numbers are those of one of so many parts of a chip: of one core, see `core_of`
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)  # "flops.bf16" -> text

    def rate(self, dtype: str) -> float:
        """Return the peak FLOP/s for activations of a dtype: the maximum of its own rate and those of wider dtypes.

        If the chip has no rate for them, int4 runs as int8 or bf16, and int8 and fp8 run as bf16. Raise NameError_ for a dtype
        that activations cannot have.
        """
        if dtype not in MULTIPLIED_AS:
            raise NameError_(resolve.unknown(dtype, MULTIPLIED_AS, "dtype of activations"))
        return self._rates[dtype]

    @cached_property
    def _rates(self) -> dict[str, float]:
        """The rate for each dtype of activations."""
        return {dtype: max(self.flops[wider] for wider in wideners if wider in self.flops)
                for dtype, wideners in MULTIPLIED_AS.items()}

    def wraps(self, shape: tuple[int, ...]) -> tuple[bool, ...]:
        """Return for each axis of a slice of this shape, in chips, whether it has a wraparound.

        An axis of up to 2 chips never has one: it has one link in each direction.

        >>> chip("tpu-v4").wraps((4, 4, 8)), chip("tpu-v4").wraps((2, 4, 4)), chip("tpu-v5e").wraps((8, 16))
        ((True, True, True), (False, False, False), (False, True))
        """
        if isinstance(self.wrap, str):
            allowed = [True] * len(shape)
        elif "axis_length" in self.wrap:
            allowed = [length == self.wrap["axis_length"] for length in shape]
        else:
            allowed = [all(length % self.wrap["every_axis_multiple_of"] == 0 for length in shape)] * len(shape)
        return tuple(length > 2 and wraparound for length, wraparound in zip(shape, allowed, strict=True))


def chip(given: str | Mapping[str, Any], /, **changes: Any) -> Chip:
    """Return a chip: a preset by its name, or the chip of a mapping of fields.

    A changed parameter loses the uncertainty that it had in the base, and a changed chip is not validated, unless the mapping
    says so.

    Parameters
    ----------
    given
        A preset, or a mapping of fields (docs/scenario_file.md, chip): all of them, or `base`, a preset, and those that differ
        from it. The rates in `flops` are added to those of the base. A value can have a unit, and a source: {value: 2 us,
        source: "measured"}.
    **changes
        Fields that differ from those given.

    Returns
    -------
    Chip
        Its fields in base units.

    Raises
    ------
    NameError_
        For an unknown preset.
    TorusSimError
        For wrong fields, all in one text.

    Examples
    --------
    >>> chip("tpu-v4", link_bandwidth="50 GB/s").link_bandwidth
    50000000000.0
    """
    result, mistakes = _read(changes, _preset(given)) if isinstance(given, str) else _parse(given, changes)
    if result is None:
        raise TorusSimError("chip: " + "; ".join(one.text for one in mistakes), code=mistakes[0].code, path=mistakes[0].path)
    return result


def core_of(chip: Chip) -> Chip:
    """Return one core of a chip: an equal share of its FLOP/s, its memory and the bandwidth of each of its links.

    Overheads, latencies, efficiencies and the size of the matrix unit are unchanged, because they are those of a core.

    >>> whole = chip("tpu-v7x")
    >>> core = core_of(whole)
    >>> core.name, core.part, core.link_bandwidth / whole.link_bandwidth, core.hbm_bytes / whole.hbm_bytes
    ('tpu-v7x, one core', 2, 0.5, 0.5)
    """
    share = {name: getattr(chip, name) / chip.cores for name in _SHARED}
    flops = {dtype: rate / chip.cores for dtype, rate in chip.flops.items()}
    divided = {*_SHARED, *(f"flops.{dtype}" for dtype in flops)}
    sources = {name: f"1/{chip.cores} of the chip's: {text}" if name in divided else text for name, text in chip.sources.items()}
    return replace(chip, name=f"{chip.name}, one core", flops=flops, **share, cores=1, part=chip.cores, validated="",
                   sources=sources)


def chip_mistakes(given: Any) -> list[Found]:
    """Return all mistakes of a mapping for `chip`."""
    return _parse(given, {})[1]


def describe(chip: Chip) -> dict[str, Any]:
    """Return plain JSON data from which `chip` makes an equal chip with the same sources."""
    plain = {name for name, default in PLAIN.items() if getattr(chip, name) == default}
    apart = {"sources", "flops", "uncertainty", *plain}
    values = {entry.name: getattr(chip, entry.name) for entry in fields(chip) if entry.name not in apart}
    values["tile"] = dict(zip(TILE_SIDES, chip.tile, strict=True))
    if chip.algorithms:
        values["algorithms"] = {kind: list(names) for kind, names in chip.algorithms.items()}
    values["wrap"] = chip.wrap if isinstance(chip.wrap, str) else dict(chip.wrap)
    shown = {name: sourced.show(value, chip.sources.get(name)) for name, value in values.items()}
    for part in ("flops", "uncertainty"):
        entries = {key: sourced.show(value, chip.sources.get(f"{part}.{key}")) for key, value in getattr(chip, part).items()}
        shown |= {part: entries} if entries else {}
    return shown


def _preset(name: str) -> Chip:
    document = files.read(resolve.preset_path("chips", name))
    result, mistakes = _read({"name": name, **document.value}, None)
    assert result is not None, f"preset {name}: {mistakes}"
    return result


def _parse(given: Any, changes: Mapping[str, Any]) -> tuple[Chip | None, list[Found]]:
    """Return the chip of a mapping of fields that can have a base; or None and the mistakes."""
    if not isinstance(given, Mapping):
        return None, [Found((), f"{quote(given)} is neither the name of a chip nor a mapping of its fields")]
    own = {key: value for key, value in {**given, **changes}.items() if key != "base"}
    name = changes.get("base", given.get("base"))
    try:
        if name is not None and not isinstance(name, str):
            raise TorusSimError(f"{quote(name)} is not the name of a chip", code="value")
        base = None if name is None else _preset(name)
    except TorusSimError as error:
        return None, [Found(("base",), f"base: {error}", code=error.code), *sourced.read(_flat(own), FIELDS, "a chip").mistakes]
    return _read(own, base)


def _read(given: Mapping[str, Any], base: Chip | None) -> tuple[Chip | None, list[Found]]:
    """Return the chip of these fields, with the other fields of `base`; or None and the mistakes."""
    flat = _flat(given)
    read = sourced.read(flat, FIELDS, "a chip")
    mistakes = list(read.mistakes)
    missing = [".".join(path) for path in NEEDED if path not in flat and path[:1] not in flat]
    if missing and base is None:
        text = "missing: give all fields, or those that differ from a base, such as base: tpu-v4"
        mistakes.append(Found((), f"{', '.join(missing)} {text}", True, "missing"))
    if mistakes:
        return None, mistakes

    changed: dict[str, Any] = {path[0]: value for path, value in read.values.items() if len(path) == 1}
    flops, uncertainty = ({path[1]: value for path, value in read.values.items() if path[0] == part and len(path) == 2}
                          for part in ("flops", "uncertainty"))
    sources = {".".join(path): source for path, source in read.sources.items()}
    if base is None:
        return Chip(**{"name": "unnamed", **changed, "flops": flops, "uncertainty": uncertainty, "sources": sources}), []
    kept = {name: deviation for name, deviation in base.uncertainty.items() if (name,) not in read.values}
    lost = {("uncertainty", name) for name in base.uncertainty.keys() - kept.keys()} | read.values.keys()
    old_sources = {name: source for name, source in base.sources.items() if tuple(name.split(".")) not in lost}
    name = f"{base.name}, changed" if read.values else base.name
    same = all(path[0] in ("name", "uncertainty") for path in read.values)
    changed = {"name": name, "validated": base.validated if same else "", **changed, "flops": {**base.flops, **flops},
               "uncertainty": {**kept, **uncertainty}, "sources": {**old_sources, **sources}}
    return replace(base, **changed), []


def _flat(given: Mapping[str, Any]) -> dict[Keys, Any]:
    """Return the fields by path, with an entry for each part of `flops` and `uncertainty`."""
    flat: dict[Keys, Any] = {(str(key),): value for key, value in given.items()}
    for part in ("flops", "uncertainty"):
        entries = flat.get((part,))
        if isinstance(entries, Mapping):
            del flat[part,]
            flat |= {(part, str(key)): entry for key, entry in entries.items()}
    return flat
