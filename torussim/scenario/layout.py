"""The layouts of a scenario: the paper's, by name; tables of shardings of the file; or tables of a user-defined function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from torussim import resolve
from torussim.chips import Chip
from torussim.collectives.lower import ALGORITHMS
from torussim.described import Reader
from torussim.errors import Found, Keys, TorusSimError
from torussim.head_split import sizes_of
from torussim.layouts import (
    APART,
    AXES,
    DIMENSIONS,
    HEADS,
    HEADS_PADDED,
    KERNEL,
    KERNELS,
    LAYOUTS,
    LOGICAL,
    LONGEST,
    REQUIRED,
    Heads,
    Layout,
    Path,
    Sizes,
    default_mesh,
    lengths_of,
    placed,
)
from torussim.models import Model
from torussim.padding import made_padded
from torussim.program import Collective, Program
from torussim.scenario import forms, keyed, values
from torussim.scenario.keyed import Section
from torussim.scenario.mesh import cut_alike, read_mesh
from torussim.scenario.notes import Notes
from torussim.scenario.pipeline import Stages, read_pipeline
from torussim.scenario.program import read_algorithm, unfit
from torussim.scenario.values import Misread, listed, quote, refuse
from torussim.sharding import Sharding
from torussim.topology.grid import Grid
from torussim.transformer import build
from torussim.workload import Workload, passes

PHASES = ("prefill", "decode")


@dataclass(frozen=True)
class Asked:
    """A layout as the file gives it. `ffn` and `mesh` are records; `parts` has the physical axes that are cut.

    A user-defined function is called when the sizes are known.
    """

    path: Keys
    layout: Layout
    ffn: Any
    mesh: Mapping[str, list[str]]
    parts: Mapping[str, tuple[int, ...]]
    function: Callable[..., Any] | None = None
    keywords: Mapping[str, Any] | None = None
    stages: Stages | None = None


def read_layouts(notes: Notes, given: Any, phase: str | None, phases: Sequence[str], axes: Mapping[str, int] | None,
                 fitting: bool = True, dtypes: Mapping[str, str] | None = None) -> dict[str, Asked]:
    """Return the sound layouts by phase. `phase` is the workload's, if known; `phases` are the phases that run.

    `fitting`: whether a layout without a mesh must fit the axes of the network. `dtypes`: those of the model, which are defaults.
    """
    path, dtypes = ("layout",), dtypes or {}
    if not (isinstance(given, Mapping) and given.keys() & set(PHASES)):
        asked = _read_layout(notes, given, path, axes, fitting, dtypes)
        return dict.fromkeys(phases, asked) if asked else {}
    for key in given:
        if key not in PHASES:
            beside = f"{quote(key)} cannot be given beside a layout for each phase: write it in each of them"
            text = beside if key in forms.LAYOUT else resolve.unknown(key, PHASES, "phase with a layout")
            notes.wrong((*path, key), text, at_key=True, code="unknown-key")
    both = {p: _read_layout(notes, given[p], (*path, p), axes, fitting, dtypes) for p in PHASES if p in given}
    if phase not in (None, "generate"):
        notes.wrong((*path, next(iter(both))),
                    f"{listed(list(both))}: only phase: generate has a layout for each phase, not {phase}: write the keys of one "
                    "right under layout", at_key=True, code="clash")
    elif len(both) == 1 and not keyed.meant(given, PHASES):
        lost = [p for p in PHASES if p not in both]
        notes.wrong((*path, lost[0]), f"layout lacks {listed(lost)}: give one for each phase", code="missing")
    return {p: asked for p, asked in both.items() if asked and p in phases}


def _read_layout(notes: Notes, given: Any, path: Keys, axes: Mapping[str, int] | None, fitting: bool,
                 dtypes: Mapping[str, str]) -> Asked | None:
    name = given.get("ffn") if isinstance(given, Mapping) else None
    own = isinstance(name, str) and ":" in name
    section = notes.section(forms.LAYOUT, given, path, "layout", others=own)
    before = len(notes.mistakes)
    given_mesh, mesh = section["mesh"], None
    staged = read_pipeline(notes, section["pipeline"], (*path, "pipeline"), axes)
    if axes is not None and section["pipeline"] is not None:  # with wrong stages the axes that they leave are not known
        axes = staged.left_of(axes) if staged else None
    last = staged.last if staged else None
    if given_mesh is not None:
        mesh = read_mesh(notes, given_mesh, (*path, "mesh"), axes, section["ffn"], last)
    elif fitting and section.sound("mesh") and axes is not None:
        try:
            lengths_of(default_mesh(axes), axes)
        except TorusSimError as error:
            notes.raised((*path, "mesh"), error)
    chosen = {kind: read_algorithm(notes, kind, algorithm, (*path, "collectives", kind))
              for kind, algorithm in section["collectives"].items()}
    function, ffn = _read_ffn(notes, section, (*path, "ffn"), tuple(mesh.axes) if mesh else LOGICAL)
    unopened = isinstance(ffn, str) and ":" in ffn and function is None
    if len(notes.mistakes) > before or unopened or not section.sound("ffn", "mesh", "attention", "collectives"):
        return None
    choices = {key: section[key] for key in ("attention", "split_heads", "latent", KERNEL, "activations", "overlap", "experts",
                                             "capacity_factor")}
    choices |= {key: section[key] or dtypes.get(key, "bf16") for key in ("weights", "kv_cache")}
    apart = {tensor: section[key] or dtypes.get(tensor) for tensor, key in APART.items()}
    choices["apart"] = {tensor: dtype for tensor, dtype in apart.items() if dtype}
    written = {a: list(given_mesh.get(a, ())) for a in dict.fromkeys((*given_mesh, *LOGICAL))} if mesh else {}
    parts = mesh.parts if mesh else {staged.axis: (staged.left, staged.stages)} if staged and staged.left > 1 else {}
    pipeline = staged.staged if staged else None
    return Asked(path, Layout(ffn=ffn, mesh=mesh.axes if mesh else {}, collectives=chosen, pipeline=pipeline, **choices),
                 section["ffn"], written, parts, function, section.others, staged)


def _read_ffn(notes: Notes, section: Section, path: Keys, logical: Sequence[str]) -> tuple[Callable[..., Any] | None, Any]:
    """Return the user-defined function, if there is one, and the layout's name or table."""
    ffn = section["ffn"]
    if isinstance(ffn, Mapping):
        try:
            return None, read_table(ffn, logical)
        except Misread as error:
            notes.add(list(error.found), path, "ffn: ")
    elif not isinstance(ffn, str):
        if section.sound("ffn"):
            notes.wrong(path, f"ffn: {quote(ffn)} is neither the name of a layout nor a table of shardings")
    elif ":" in ffn:
        try:
            function = notes.function(ffn, recorded=False)
        except TorusSimError as error:
            notes.raised(path, error, "ffn: ")
            return None, ffn
        if function is None:
            return None, ffn
        for key, reason in resolve.argument_mistakes(function, section.others or {}, given=1):
            notes.wrong((*path[:-1], key or "ffn"), f"{ffn}: {reason}", at_key=key is not None, code="function")
        return function, ffn
    elif ffn not in LAYOUTS:
        notes.wrong(path, "ffn: " + resolve.unknown(ffn, LAYOUTS, "layout"), code="unknown-name")
    return None, ffn


# -- tables of shardings ------------------------------------------------------------------------------------------------


def read_table(given: Mapping[str, Any], logical: Sequence[str]) -> dict[str, Any]:
    """Return a table of shardings with each entry read. Raise Misread with all its mistakes."""
    table: dict[str, Any] = {}
    found: list[Found] = []
    for key, value in given.items():
        if key not in forms.TENSORS:
            found.append(Found((key,), resolve.unknown(str(key), forms.TENSORS, "tensor of a layout"), True, "unknown-key"))
            continue
        if value is None:
            found.append(Found((key,), f"{key}: {values.EMPTY}", True, "empty"))
            continue
        try:
            table[key] = _entry(key, value, logical)
        except Misread as error:
            found += [one.within((key,), f"{key}: ") for one in error.found]
    lost = [key for key in REQUIRED if key not in given and key not in keyed.meant(given, forms.TENSORS)]
    if lost:
        found.append(Found((), f"the table lacks {listed(lost)}: give a sharding for each", True, "missing"))
    if found:
        raise Misread(*found)
    return table


def _entry(key: str, value: Any, logical: Sequence[str]) -> Path | str:
    """Return the value of one key of a table."""
    if key == HEADS:
        return str(values.one_of("padding of heads", *HEADS_PADDED)(value))
    if key == KERNEL:
        return str(values.one_of("kernel of attention", *KERNELS)(value))
    if key == LONGEST:
        _known_axis(values.text(value), logical)
        return str(value)
    return _axes(value, logical) if key in AXES else _path(value, DIMENSIONS[key], logical)


def _axes(value: Any, logical: Sequence[str]) -> str:
    """Return logical axes joined to one text. Raise Misread for an unknown one."""
    axes = values.axes(value)
    for axis in axes:
        _known_axis(axis, logical)
    return "".join(axes)


def _path(value: Any, dimensions: str, logical: Sequence[str]) -> Path:
    """Return the path of a tensor: a sharding, a list of them, or {path, algorithm, axes}."""
    if not isinstance(value, Mapping):
        return Path(_stations(value, dimensions, logical))
    section, found = keyed.read(forms.PATH, value, "a path")
    stations: tuple[Sharding, ...] = ()
    if section.sound("path"):
        try:
            stations = _stations(section["path"], dimensions, logical)
        except Misread as error:
            found += [one.within(("path",)) for one in error.found]
    algorithm, axes = section["algorithm"], tuple(section["axes"])
    if algorithm and algorithm not in ALGORITHMS["all_gather"]:
        found.append(Found(("algorithm",), resolve.unknown(algorithm, ALGORITHMS["all_gather"], "algorithm of all_gather"),
                           code="unknown-name"))
    used = {axis for station in stations for axis in station.used}
    if axes and stations and (set(axes) != used or len(used) < len(axes)):
        wanted = "".join(sorted(used)) or "none: leave axes out"
        found.append(Found(("axes",), f"axes: {quote(value['axes'])} is not an order of the path's axes, which are {wanted}",
                           code="clash"))
    if found:
        raise Misread(*found)
    return Path(stations, algorithm, axes)


def _stations(value: Any, dimensions: str, logical: Sequence[str]) -> tuple[Sharding, ...]:
    """Return a sharding, or a list of them, as a tuple."""
    one = Reader(lambda part: _station(part, dimensions, logical), "a sharding", {})
    every = values.each(one, '["B L E_xyz", "B L E_x"]', least=1)
    return tuple(every(value)) if isinstance(value, list) else (one(value),)


def _station(value: Any, dimensions: str, logical: Sequence[str]) -> Sharding:
    """Return a sharding. Raise Misread if it lacks the dimensions of its tensor or names axes outside the mesh."""
    if not isinstance(value, str):
        refuse(f'{quote(value)} is not a sharding: write dimensions with their axes, such as "B L E_xyz"')
    try:
        sharding = Sharding.parse(value)
    except TorusSimError as error:
        refuse(str(error), error.code)
    if "".join(sharding.names()) != dimensions:
        refuse(f"{quote(value)} must have the dimensions {' '.join(dimensions)}", "sharding")
    for axis in sharding.used:
        _known_axis(axis, logical)
    return sharding


def _known_axis(axis: str, logical: Sequence[str]) -> None:
    if axis not in logical:
        refuse(f"{quote(axis)} is not a logical axis: the mesh has {', '.join(logical)}", "unknown-name")


# -- against model, workload and network --------------------------------------------------------------------------------


def fit(notes: Notes, model: Model, workload: Workload, layouts: Mapping[str, Asked], axes: Mapping[str, int],
        network: tuple[Grid, Chip] | None) -> dict[str, Asked]:
    """Return the layouts with tables and padded batch. Note a mistake where one does not fit the model or the network."""
    found: dict[str, Asked] = {}
    for asked in {one.path: one for one in layouts.values()}.values():
        if asked.layout.latent != "auto" and not model.latent:
            notes.wrong((*asked.path, "latent"), f"latent: {model.name} keeps K and V: only a model with latent attention runs "
                        f"{asked.layout.latent}: leave it out", code="clash")
        phases = [phase for phase, one in layouts.items() if one.path == asked.path]
        forwards = [forward for forward in passes(workload) if forward.phase in phases]
        made: dict[tuple[int, Heads | None], Asked] = {}

        def make(batch: int, heads: Heads | None, asked: Asked = asked,
                 made: dict[tuple[int, Heads | None], Asked] = made) -> Layout:
            if (batch, heads) not in made:
                one = replace(asked, layout=replace(asked.layout, heads=heads))
                made[batch, heads] = _called(one, model, batch, axes)
            return made[batch, heads].layout
        try:
            layout = made_padded(make, model, workload, forwards, axes, network)
            found |= dict.fromkeys(phases, replace(made[layout.batch or workload.batch, layout.heads], layout=layout))
        except Misread as error:
            notes.add(list(error.found), (*asked.path, "ffn"))
            continue
        except TorusSimError as error:
            _unfitting(notes, list(made.values())[-1], error)
            continue
        own = any(map(callable, layout.collectives.values()))
        for forward in {(f.phase, f.length): f for f in forwards}.values() if own else ():
            _try_algorithms(notes, (*asked.path, "collectives"), build(model, layout, forward, axes), network and network[0])
    return found


def tabled(notes: Notes, model: Model, batch: int, layouts: Mapping[str, Asked], axes: Mapping[str, int]) -> dict[str, Asked]:
    """Return the layouts, fitting or not, with the tables of user-defined functions for a batch. Note a failing function."""
    found: dict[Keys, Asked] = {}
    for asked in {one.path: one for one in layouts.values()}.values():
        try:
            found[asked.path] = _called(asked, model, batch, axes)
        except Misread as error:
            notes.add(list(error.found), (*asked.path, "ffn"))
    return {phase: found.get(one.path, one) for phase, one in layouts.items()}


def _try_algorithms(notes: Notes, path: Keys, program: Program, net: Grid | None) -> None:
    """Note user-defined algorithms without a sound schedule for a collective of a program; the first collective of each kind."""
    if net is None:
        return
    wrong = dict[str, tuple[str, str]]()
    for operation in program.operations():
        if isinstance(operation, Collective) and operation.kind not in wrong and (found := unfit(operation, net)):
            wrong[operation.kind] = operation.name, found
    for kind, (name, found) in wrong.items():
        notes.wrong((*path, kind), f"{kind}: for {name!r}: {found}", code="function")


def _called(asked: Asked, model: Model, batch: int, axes: Mapping[str, int]) -> Asked:
    """Return the layout with the table of its function, if it has one, for a batch."""
    if asked.function is None:
        return asked
    def make(sizes: Sizes) -> dict[str, Any]:
        assert asked.function is not None
        given = resolve.call(asked.function, sizes, **deepcopy(dict(asked.keywords or {})))
        if not isinstance(given, Mapping):
            refuse(f"it returned {quote(given)}, not a mapping of tensors to shardings")
        return read_table(given, tuple(sizes.lengths))
    try:
        _, sizes = placed(make, asked.layout.mesh, sizes_of(model, asked.layout, batch, axes), axes)
        table = make(sizes)
    except TorusSimError as error:
        raise Misread(Found((), f"{asked.ffn}: {error}", code="function")) from None
    except Misread as error:
        text = "; ".join(one.text for one in error.found)
        raise Misread(Found((), f"{asked.ffn} returned an invalid table of shardings: {text}", code="function")) from None
    return replace(asked, layout=replace(asked.layout, ffn=table), ffn=describe_ffn(table))


def _unfitting(notes: Notes, asked: Asked, error: TorusSimError) -> None:
    """Note that a layout does not fit: at the batch that does not divide, at the tensor of the table, or at the layout's name."""
    path: Keys = (*asked.path, "ffn")
    table = asked.layout.ffn if isinstance(asked.layout.ffn, Mapping) and asked.function is None else {}
    if error.path[:1] == ("draft_model",):
        path = ("workload", "draft_model")
    elif error.code == "does-not-divide" and error.path[-1:] == ("B",):
        path = ("workload", "batch")
    elif error.path[:1] == ("pipeline",) or error.path in (("experts",), ("split_heads",)):
        path = (*asked.path, *error.path)
    elif error.path and error.path[0] in table:
        path = (*path, error.path[0])
    name = f"layout {asked.layout.ffn}" if isinstance(asked.layout.ffn, str) else "layout"
    own = "pipeline: " if error.path[:1] == ("pipeline",) else "" if error.path == ("split_heads",) else None
    notes.raised(path, error, f"the {name} does not fit: " if own is None else own)


def cuts(notes: Notes, layouts: Mapping[str, Asked]) -> Mapping[str, tuple[int, ...]] | None:
    """Return the parts into which the layouts cut the physical axes. Note a mistake if two phases differ."""
    return cut_alike(notes, list({asked.path: asked.parts for asked in layouts.values()}.items()))


def describe_layout(asked: Asked) -> dict[str, Any]:
    """Return the record of a layout as JSON data."""
    return described(asked.layout, asked.ffn, asked.stages, asked.mesh)


def described(layout: Layout, ffn: Any, stages: Stages | None, mesh: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the record of a layout, with its name or table, its stages and its mesh as a file gives them."""
    shown = {"ffn": ffn, "attention": layout.attention, "weights": layout.weights, "activations": layout.activations,
             "kv_cache": layout.kv_cache, "overlap": layout.overlap}
    shown |= {key: layout.apart[tensor] for tensor, key in APART.items() if tensor in layout.apart}
    shown |= {"split_heads": layout.split_heads} if layout.split_heads != "auto" else {}
    shown |= {"latent": layout.latent} if layout.latent != "auto" else {}
    shown |= {KERNEL: layout.attention_kernel} if layout.attention_kernel else {}
    experts = layout.experts if isinstance(layout.experts, str) else list(layout.experts)
    shown |= {} if experts == "all" else {"experts": experts}
    shown |= {} if layout.capacity_factor is None else {"capacity_factor": layout.capacity_factor}
    shown |= {"collectives": {kind: str(one) for kind, one in layout.collectives.items()}} if layout.collectives else {}
    shown |= {"pipeline": stages.record()} if stages else {}
    return shown | ({"mesh": {logical: list(factors) for logical, factors in mesh.items()}} if mesh else {})


def describe_ffn(ffn: str | Mapping[str, Any]) -> Any:
    """Return the form in which a file gives this name or table of a layout."""
    return ffn if isinstance(ffn, str) else {key: describe_path(path) for key, path in ffn.items()}


def describe_path(path: Path | str) -> Any:
    """Return the form in which `read_table` reads this path."""
    if isinstance(path, str):
        return path
    stations = [str(station) for station in path.stations]
    extra = {"algorithm": path.algorithm} if path.algorithm else {}
    return {"path": stations, **extra, "axes": list(path.axes)} if path.axes or extra else stations


