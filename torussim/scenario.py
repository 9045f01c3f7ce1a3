"""A scenario file made into objects: all mistakes of one file at once, and the record of what was run.

Syntax first; then keys and types of every section; then every check of meaning whose inputs are sound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torussim import chips, files, models, resolve, schema, units
from torussim.chips import Chip
from torussim.errors import Mistake, ScenarioError, TorusSimError
from torussim.layouts import LAYOUTS, LOGICAL, Layout, Path as TensorPath
from torussim.models import Model
from torussim.program import Collective, Compute, Operation, Program, mistakes as program_mistakes
from torussim.sourced import quote
from torussim.topology.grid import Grid, grid
from torussim.transformer import build
from torussim.workload import Forward, Workload, passes

if TYPE_CHECKING:
    import networkx as nx

Keys = tuple[str | int, ...]


@dataclass(frozen=True)
class Expected:
    """A measurement that a result is held against: `within` is the allowed |got / value - 1|."""

    what: str
    value: float
    within: float | None
    source: str


@dataclass(frozen=True)
class Scenario:
    """One question, ready to be answered. Either model, workload and layouts are given, or program."""

    name: str
    file: str
    chip: Chip
    topology: nx.DiGraph
    net: Grid
    model: Model | None
    layouts: Mapping[str, Layout]  # by phase: "prefill", "decode"
    workload: Workload | None
    program: Program | None
    expect: tuple[Expected, ...]
    resolved: Mapping[str, Any]  # running it again gives the same result
    notes: tuple[str, ...] = ()

    @property
    def slug(self) -> str:
        """The name as a folder: letters, digits and hyphens; the file's stem where nothing is left of it."""
        words = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:80].strip("-")
        return words or re.sub(r"[^A-Za-z0-9_-]+", "-", Path(self.file).stem).strip("-") or "scenario"


def load(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Scenario:
    """Return the scenario in a file, or in a mapping of the same form. Raise ScenarioError with all mistakes."""
    document = files.from_value(dict(source)) if isinstance(source, Mapping) else files.read(source)
    wrong: list[Mistake] = []
    for assignment in overrides:
        try:
            document = files.override(document, assignment)
        except ScenarioError as error:
            wrong += error.mistakes
    if wrong:
        raise ScenarioError(wrong)
    beside = Path.cwd() if isinstance(source, Mapping) else Path(source).resolve().parent
    return _Reader(document, beside).scenario()


@dataclass
class _Reader:
    """Reads one document, and keeps what is wrong with it."""

    document: files.Document
    beside: Path
    mistakes: list[Mistake] = field(default_factory=list)

    def wrong(self, path: Keys, text: str, at_key: bool = False) -> None:
        mark = self.document.where_key(path) if at_key else self.document.where(path)
        self.mistakes.append(Mistake(text, mark))

    def scenario(self) -> Scenario:
        top = self.document.value
        self.mistakes += self.document.mistakes
        if not isinstance(top, dict):
            self.wrong((), f"{quote(top)} is not a scenario: write keys such as model, chip, topology, layout, workload")
            raise ScenarioError(self.mistakes)
        for key in top:
            if key not in schema.TOP:
                self.wrong((key,), resolve.unknown(key, schema.TOP, "key of a scenario"), at_key=True)
        name = top.get("name", Path(self.document.file).stem if self.document.file != "<dict>" else "scenario")
        if not isinstance(name, str) or not name.strip():
            self.wrong(("name",), f"name: {quote(name)} is not a text")
            name = "scenario"
        bare = "program" in top
        if bare:
            for key in ("model", "layout", "workload"):
                if key in top:
                    self.wrong((key,), f"a scenario has either program or {key}: leave one out", at_key=True)
        else:
            self.lacking(top, ("model", "workload"))
        chip, slice_ = self.chip(top), self.slice(top)
        model = self.model(top) if "model" in top else None
        net, made, topology, notes = self.topology(top, chip, slice_)
        workload = self.workload(top) if "workload" in top else None
        phases = passes_of(workload)
        layouts, tables = self.layouts(top, phases, net) if not bare else ({}, {})
        program, operations = self.program(top, net) if bare else (None, None)
        expect = self.expect(top)
        if model and workload and layouts and net:
            self.fit(model, workload, layouts, net, tables)
        if self.mistakes:
            raise ScenarioError(self.mistakes)
        assert chip is not None and net is not None and made is not None
        resolved: dict[str, Any] = {"name": name}
        if model and workload:
            resolved |= {"model": models.describe(model), "workload": {k: v for k, v in vars(workload).items() if v is not None}}
            shown = {phase: describe_layout(layout, tables[phase]) for phase, layout in layouts.items()}
            resolved["layout"] = shown if len(shown) > 1 else next(iter(shown.values()))
        else:
            resolved["program"] = operations
        resolved |= {"chip": chips.describe(chip), "topology": topology}
        if expect:
            resolved["expect"] = {e.what: {"value": e.value, "source": e.source} | ({} if e.within is None else {"within": e.within})
                                  for e in expect}
        return Scenario(name, self.document.file, chip, made, net, model, layouts, workload, program, expect, resolved,
                        tuple(notes) + net.notes)

    def lacking(self, top: Mapping[str, Any], keys: Sequence[str]) -> None:
        for key in keys:
            if key not in top:
                self.wrong((), f"the scenario lacks '{key}'" + (" (or give a program)" if key in ("model", "workload") else ""))

    # -- model and chip -------------------------------------------------------------------------------------------------

    def chip(self, top: Mapping[str, Any]) -> Chip | None:
        given = top.get("chip")
        if given is None:
            slice_ = self.slice(top, quiet=True)
            if slice_:
                return chips.chip(slice_[2])
            if "chip" in top or not isinstance(top.get("topology"), dict) or "slice" not in top["topology"]:
                self.wrong(("chip",) if "chip" in top else (), f"the scenario lacks 'chip': name one of "
                                                               f"{', '.join(resolve.preset_names('chips'))}")
            return None
        return self.described("chip", given, chips.chip, chips.chip_mistakes)

    def model(self, top: Mapping[str, Any]) -> Model | None:
        return self.described("model", top["model"], lambda g: models.model(g, self.beside),
                              lambda g: models.model_mistakes(g, self.beside))

    def described(self, what: str, given: Any, make: Callable[[Any], Any], judge: Callable[[Any], Any]) -> Any:
        """Return a chip or model from a name, a path or a mapping, or note what is wrong with it."""
        if isinstance(given, str):
            try:
                return make(given)
            except TorusSimError as error:
                self.wrong((what,), str(error))
            return None
        if not isinstance(given, dict):
            self.wrong((what,), f"{what}: {quote(given)} is not the name of a preset, nor a mapping")
            return None
        found = judge(given)
        for path, text in found:
            self.wrong((what, *path), f"{what}: {text}", at_key=_strange_key(text))
        return None if found else make(given)

    # -- network --------------------------------------------------------------------------------------------------------

    def slice(self, top: Mapping[str, Any], quiet: bool = False) -> tuple[tuple[int, ...], tuple[bool, ...], str] | None:
        """Return shape, wraparounds and chip of the slice that is asked for, if any."""
        from torussim.topology.slices import slice_of

        topology = top.get("topology")
        name = topology.get("slice") if isinstance(topology, dict) else None
        if not isinstance(name, str) or isinstance(topology.get("kind"), str) and ":" in topology["kind"]:  # type: ignore[union-attr]
            return None
        try:
            return slice_of(name)
        except TorusSimError as error:
            if not quiet:
                self.wrong(("topology", "slice"), str(error))
            return None

    def topology(self, top: Mapping[str, Any], chip: Chip | None, slice_: Any) -> tuple[Grid | None, Any, Any, list[str]]:
        """Return the network as arrays and as a graph, its record, and notes for the report."""
        if "topology" not in top:
            self.lacking(top, ("topology",))
            return None, None, None, []
        given = top["topology"]
        kind = given.get("kind") if isinstance(given, dict) else None
        own = isinstance(kind, str) and ":" in kind
        form, found = schema.read(schema.FunctionForm if own else schema.TopologyForm, given, ("topology",), "topology")
        if isinstance(given, dict) and not own:
            found += self.shape_mistakes(given, kind)
        for path, text, at_key in found:
            self.wrong(path, text, at_key)
        if found or (isinstance(given, dict) and "slice" in given and not own and slice_ is None):
            return None, None, None, []
        made, record, notes = self.own_network(form) if own else self.network(form, chip, slice_)
        if made is None:
            return None, None, None, []
        changed = self.links(form.links, made, ("topology", "links"))
        if changed is None:
            return None, None, None, []
        if form.links:
            record["links"] = [_plain(link) for link in form.links]
        try:
            return grid(changed), changed, record, notes
        except TorusSimError as error:
            self.wrong(("topology",), f"topology: {error}")
            return None, None, None, []

    def shape_mistakes(self, given: dict[str, Any], kind: Any) -> schema.Found:
        """Return what is wrong between keys of a topology that are each well-formed."""
        from torussim.topology.check import MAX_CHIPS

        found: schema.Found = []
        shape = given.get("shape")
        if "slice" in given and "shape" in given:
            found.append((("topology", "slice"), "a topology has either shape or slice: leave one out", True))
        elif "slice" not in given and "shape" not in given:
            found.append((("topology",), "topology lacks 'shape': give the chips along each axis, such as [4, 4, 4], or a slice "
                                         "such as v5e-16", False))
        if not isinstance(shape, list) or not all(isinstance(n, int) and not isinstance(n, bool) for n in shape):
            return found
        total = 1
        for i, length in enumerate(shape):
            total *= length
            if length < 1:
                found.append((("topology", "shape", i), f"shape: {length} chips along an axis: must be 1 or more", False))
        if total > MAX_CHIPS and all(n >= 1 for n in shape):
            found.append((("topology", "shape"), f"a shape of {total:,} chips: at most {MAX_CHIPS:,} can be simulated", False))
        if kind == "ring" and len(shape) != 1:
            found.append((("topology", "shape"), f"a ring has one axis, but shape has {len(shape)}: write [{total}], or kind: torus",
                          False))
        if kind == "mesh" and (given.get("wrap") is True or isinstance(given.get("wrap"), list) and True in given["wrap"]):
            found.append((("topology", "wrap"), "a mesh has no wraparounds: leave wrap out, or write kind: torus", True))
        for key in ("wrap", "bandwidth", "latency"):
            if isinstance(given.get(key), list) and len(given[key]) != len(shape):
                found.append((("topology", key), f"{key} has {len(given[key])} values for {len(shape)} axes: give one an axis", False))
        return found

    def network(self, form: Any, chip: Chip | None, slice_: Any) -> tuple[Any, dict[str, Any], list[str]]:
        """Return the graph of one of our kinds, and the record of it."""
        from torussim.topology.builders import axis_names, torus

        if chip is None:
            return None, {}, []
        shape = slice_[0] if slice_ else tuple(form.shape)
        if form.wrap is not None:
            wrap = [form.wrap] * len(shape) if isinstance(form.wrap, bool) else form.wrap
            origin = "as the file says"
        elif slice_:
            wrap, origin = list(slice_[1]), f"as slice {form.slice} has them"
        elif form.kind == "torus":
            wrap, origin = list(chip.wraps(shape)), f"by the rule of {chip.name}"
        else:
            wrap, origin = [form.kind == "ring"] * len(shape), f"as a {form.kind} has them"
        if len(wrap) != len(shape):
            self.wrong(("topology", "wrap"), f"wrap has {len(wrap)} values for {len(shape)} axes: give one an axis")
            return None, {}, []
        bandwidth = chip.link_bandwidth if form.bandwidth is None else form.bandwidth
        latency = chip.link_latency if form.latency is None else form.latency
        for key, value in (("bandwidth", bandwidth), ("latency", latency)):
            if isinstance(value, list) and len(value) != len(shape):
                self.wrong(("topology", key), f"{key} has {len(value)} values for {len(shape)} axes: give one an axis")
                return None, {}, []
        wrap = [bool(w) and n > 2 for w, n in zip(wrap, shape)]
        closed = [a for a, w in zip(axis_names(len(shape)), wrap) if w]
        notes = [f"wraparounds on {', '.join(closed) if closed else 'no axis'} ({origin})"]
        if slice_ and slice_[2] != chip.name:
            notes.append(f"slice {form.slice} has chips {slice_[2]}, but the scenario's are {chip.name}")
        record = {"kind": "torus", "shape": list(shape), "wrap": wrap, "bandwidth": bandwidth, "latency": latency,
                  "routing": form.routing}
        try:
            return torus(shape, wrap=wrap, bandwidth=bandwidth, latency=latency), record, notes
        except TorusSimError as error:
            self.wrong(("topology",), f"topology: {error}")
            return None, {}, []

    def own_network(self, form: Any) -> tuple[Any, dict[str, Any], list[str]]:
        """Return the graph that the user's function makes, and the record of it."""
        from torussim.topology.builders import from_function

        keywords = dict(form.model_extra or {})
        try:
            function = resolve.function(form.kind, self.beside)
            reason = resolve.arguments(function, keywords)
            if reason:
                self.wrong(("topology", "kind"), f"{form.kind}: {reason}")
                return None, {}, []
            made = from_function(function, keywords)
        except TorusSimError as error:
            text = str(error)
            self.wrong(("topology", "kind"), text if form.kind in text else f"{form.kind}: {text}")
            return None, {}, []
        module, _, name = form.kind.partition(":")
        local = self.beside / (module if module.endswith(".py") else f"{module}.py")
        kind = f"{local}:{name}" if local.exists() else form.kind
        return made, {"kind": kind, "routing": form.routing, **keywords}, []

    def links(self, forms: Sequence[Any], made: Any, path: Keys) -> Any:
        """Return the graph with its links changed, or None if a change does not fit."""
        from torussim.topology.links import LinkChange, change_links

        if not forms:
            return made
        changes = [LinkChange(f.from_, f.to, f.axis, f.wraparound, f.at, f.both_ways, f.bandwidth, f.latency, f.scale)
                   for f in forms]
        before = len(self.mistakes)
        try:
            return change_links(made, changes)
        except TorusSimError:
            for i, change in enumerate(changes):  # one by one, to find every one that does not fit
                try:
                    made = change_links(made, [change])
                except TorusSimError as error:
                    self.wrong((*path, i), re.sub(r"^change 1 of links, .*?\}: ", "", str(error)))
            assert len(self.mistakes) > before
            return None

    # -- layout, workload, expectations ---------------------------------------------------------------------------------

    def workload(self, top: Mapping[str, Any]) -> Workload | None:
        form, found = schema.read(schema.WorkloadForm, top["workload"], ("workload",), "workload")
        for path, text, at_key in found:
            self.wrong(path, text, at_key)
        if form is None:
            return None
        return Workload(**form.model_dump())

    def layouts(self, top: Mapping[str, Any], phases: Sequence[str],
                net: Grid | None) -> tuple[dict[str, Layout], dict[str, Any]]:
        """Return the layout of each phase that runs, and what the file gave as its ffn."""
        given = top.get("layout", {})
        two = isinstance(given, dict) and bool(given.keys() & {"prefill", "decode"})
        if two:
            for key in given:
                if key not in ("prefill", "decode"):
                    self.wrong(("layout", key), resolve.unknown(key, ("prefill", "decode"), "phase of a layout"), at_key=True)
        found: dict[str, Layout] = {}
        shown: dict[str, Any] = {}
        for phase in phases:
            if two and phase not in given:
                self.wrong(("layout",), f"layout lacks '{phase}'")
        parts = [(p, given[p], ("layout", p)) for p in ("prefill", "decode") if p in given] if two else \
                [(p, given, ("layout",)) for p in phases or ["decode"]]
        for phase, part, path in parts:
            layout = self.layout(part, path, net)
            if layout is not None and (phase in phases):
                found[phase], shown[phase] = layout, part.get("ffn", "ws2d")
            if not two:
                for other in phases:
                    if layout is not None:
                        found[other], shown[other] = layout, part.get("ffn", "ws2d")
                break
        return found if len(found) == len(phases) else {}, shown

    def layout(self, given: Any, path: Keys, net: Grid | None) -> Layout | None:
        form, found = schema.read(schema.LayoutForm, given, path, "layout")
        for place, text, at_key in found:
            self.wrong(place, text, at_key)
        if form is None:
            return None
        before = len(self.mistakes)
        ffn: Any = form.ffn
        if isinstance(ffn, str) and ":" in ffn:
            try:
                ffn = resolve.function(ffn, self.beside)
            except TorusSimError as error:
                self.wrong((*path, "ffn"), str(error))
        elif isinstance(ffn, str) and ffn not in LAYOUTS:
            self.wrong((*path, "ffn"), resolve.unknown(ffn, LAYOUTS, "layout"))
        elif isinstance(ffn, dict):
            ffn = self.table(ffn, (*path, "ffn"))
        mesh = form.mesh
        if mesh is not None:
            self.mesh(mesh, (*path, "mesh"), net)
            mesh = {a: tuple(mesh.get(a, ())) for a in dict.fromkeys((*LOGICAL, *mesh))}
        if len(self.mistakes) > before:
            return None
        return Layout(ffn, form.attention, form.weights, form.activations, form.kv_cache, form.overlap, mesh or {})

    def table(self, given: dict[str, Any], path: Keys) -> dict[str, Any]:
        """Return the user's own table of shardings, each read."""
        table: dict[str, Any] = {}
        for key, value in given.items():
            if key not in schema.TABLE:
                self.wrong((*path, key), resolve.unknown(key, schema.TABLE, "tensor of a layout"), at_key=True)
                continue
            if isinstance(value, dict):
                form, found = schema.read(schema.PathForm, value, (*path, key), key)
                for place, text, at_key in found:
                    self.wrong(place, text, at_key)
                if form is None:
                    continue
            elif not isinstance(value, str) and not (isinstance(value, list) and value and all(isinstance(v, str) for v in value)):
                self.wrong((*path, key), f"{key}: {quote(value)} is not a sharding such as \"B L E_xyz\", nor a list of them")
                continue
            try:
                table[key] = value if key == "loop" else TensorPath.of(value)
            except TorusSimError as error:
                self.wrong((*path, key), f"{key}: {error}")
        return table

    def mesh(self, mesh: Mapping[str, Sequence[str]], path: Keys, net: Grid | None) -> None:
        """Note what is wrong with a mesh: every physical axis is used up exactly once."""
        for name, factors in mesh.items():
            if not (len(name) == 1 and name.isalpha() and name.islower()):
                self.wrong((*path, name), f"{quote(name)} is not a logical axis: use single letters, such as x, y, z", at_key=True)
            for i, factor in enumerate(factors):
                place = (*path, name, i) if (*path, name, i) in self.document.marks else (*path, name)
                if "/" in factor:
                    self.wrong(place, f"{quote(factor)}: parts of an axis are not there yet: give whole axes")
                elif net and factor not in net.axes:
                    self.wrong(place, resolve.unknown(factor, net.axes, "axis of the topology"))
                elif sum(list(f).count(factor) for f in mesh.values()) > 1:
                    self.wrong(place, f"mesh uses the axis {quote(factor)} twice: every physical axis is used up exactly once")
        unused = [a for a in net.axes if net.length(a) > 1 and not any(a in f for f in mesh.values())] if net else []
        if unused:
            self.wrong(path, f"mesh leaves the axis '{unused[0]}' unused: every physical axis is used up exactly once", at_key=True)

    def fit(self, model: Model, workload: Workload, layouts: Mapping[str, Layout], net: Grid, tables: Mapping[str, Any]) -> None:
        """Note where a layout does not fit the model, the batch or the mesh."""
        axes = {a: net.length(a) for a in net.axes}
        first: dict[str, Forward] = {}
        for forward in passes(workload)[:1] + passes(workload)[-1:]:
            first.setdefault(forward.phase, forward)
        for phase, forward in first.items():
            try:
                build(model, layouts[phase], forward, axes)
            except TorusSimError as error:
                path: Keys = ("layout", phase) if phase in (self.document.value.get("layout") or {}) else ("layout",)
                at = (*path, "mesh") if "mesh" in str(error) else (*path, "ffn")
                self.wrong(at, f"layout for {phase}: {error}")

    def expect(self, top: Mapping[str, Any]) -> tuple[Expected, ...]:
        given = top.get("expect")
        if given is None:
            return ()
        if not isinstance(given, dict):
            self.wrong(("expect",), f"expect: {quote(given)} is not a mapping such as {{step_s: {{value: 93.8 ms, within: 0.10}}}}")
            return ()
        made = []
        for what, value in given.items():
            if what not in schema.RESULT_UNITS:
                self.wrong(("expect", what), resolve.unknown(what, schema.RESULT_UNITS, "scalar key of the result"), at_key=True)
                continue
            form, found = schema.read(schema.ExpectForm, value if isinstance(value, dict) else {"value": value}, ("expect", what), what)
            for path, text, at_key in found:
                self.wrong(path, text, at_key)
            if form is None:
                continue
            try:
                number = _expected(form.value, schema.RESULT_UNITS[what])
            except TorusSimError as error:
                self.wrong(("expect", what, "value") if isinstance(value, dict) else ("expect", what), f"{what}: {error}")
                continue
            made.append(Expected(what, number, form.within, form.source))
        return tuple(made)

    # -- bare programs --------------------------------------------------------------------------------------------------

    def program(self, top: Mapping[str, Any], net: Grid | None) -> tuple[Program | None, list[dict[str, Any]] | None]:
        """Return the program that the file writes, and the record of it."""
        given = top["program"]
        if not isinstance(given, list) or not given:
            self.wrong(("program",), "program: write a list of operations, such as [{name: gather, collective: all_gather, axes: yz, "
                                     "bytes: 64 MB}]")
            return None, None
        operations: list[Operation | None] = []
        for i, item in enumerate(given):
            form_type = schema.CollectiveForm if isinstance(item, dict) and "collective" in item else schema.ComputeForm
            form, found = schema.read(form_type, item, ("program", i), "operation")
            for path, text, at_key in found:
                self.wrong(path, text, at_key)
            operations.append(self.operation(form, item, ("program", i), net) if form is not None else None)
        made = tuple(o for o in operations if o is not None)
        if len(made) < len(operations):
            return None, None
        for i, text, key in program_mistakes(made, net.axes if net else tuple(a for o in made if isinstance(o, Collective)
                                                                              for a in o.axes)):
            self.wrong(("program", i, key), text)
        return Program(made), [_record(o) for o in made]

    def operation(self, form: Any, item: Mapping[str, Any], path: Keys, net: Grid | None) -> Operation | None:
        from torussim.collectives.lower import algorithm_of

        after = None if form.after is None else tuple(form.after)
        if isinstance(form, schema.ComputeForm):
            return Compute(form.name, (), form.flops, form.hbm_bytes, form.dtype, after)
        axes = tuple(form.axes)
        before = len(self.mistakes)
        if form.collective == "permute":
            if not form.shift:
                self.wrong(path, f"the permute {quote(form.name)} lacks 'shift': say how far, such as {{x: 1}}")
            if axes and set(axes) != set(form.shift):
                self.wrong((*path, "axes"), "the axes of a permute are those of its shift: leave axes out")
            axes = tuple(a for a in net.axes if a in form.shift) + tuple(a for a in form.shift if net and a not in net.axes) \
                if net else tuple(form.shift)
        else:
            if "shift" in item:
                self.wrong((*path, "shift"), f"only a permute has a shift, not {form.collective}", at_key=True)
            if not axes:
                self.wrong(path, f"the collective {quote(form.name)} lacks 'axes': say over which, such as yz")
        made = Collective(form.name, form.collective, axes, form.bytes, form.algorithm, form.split, form.direction,
                          dict(form.shift), after)
        try:
            algorithm_of(made)
        except TorusSimError as error:
            self.wrong((*path, "algorithm"), str(error))
        used = [a for a in axes if not net or a in net.axes and net.length(a) > 1]
        if isinstance(form.split, tuple) and len(form.split) != len(used):
            self.wrong((*path, "split"), f"split has {len(form.split)} weights for {len(used)} axes: give one an axis")
        return made if len(self.mistakes) == before else None


def passes_of(workload: Workload | None) -> list[str]:
    """Return the phases that a workload runs."""
    return [] if workload is None else ["prefill", "decode"] if workload.phase == "generate" else [workload.phase]


def describe_layout(layout: Layout, ffn: Any) -> dict[str, Any]:
    """Return the record of a layout, fit for JSON."""
    shown = {"ffn": ffn, "attention": layout.attention, "weights": layout.weights, "activations": layout.activations,
             "kv_cache": layout.kv_cache, "overlap": layout.overlap}
    return shown | ({"mesh": {a: list(f) for a, f in layout.mesh.items()}} if layout.mesh else {})


def _record(operation: Operation) -> dict[str, Any]:
    after = {} if operation.after is None else {"after": list(operation.after)}
    if isinstance(operation, Compute):
        return {"name": operation.name, "flops": operation.flops, "hbm_bytes": operation.hbm_bytes, "dtype": operation.dtype} | after
    shift = {"shift": dict(operation.shift)} if operation.shift else {"axes": list(operation.axes)}
    split = list(operation.split) if isinstance(operation.split, tuple) else operation.split
    return {"name": operation.name, "collective": operation.kind, "bytes": operation.bytes, "algorithm": operation.algorithm,
            "split": split, "direction": operation.direction} | shift | after


def _plain(form: Any) -> dict[str, Any]:
    return {k: v for k, v in form.model_dump(by_alias=True).items() if v is not None and v != {}}


def _expected(value: Any, unit: str) -> float:
    if unit:
        return units.positive(value, unit)
    if isinstance(value, str) and re.fullmatch(r"\s*[\d.]+\s*%\s*", value):
        return float(value.strip(" %")) / 100
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
        raise TorusSimError(f"{quote(value)} is not a number above 0")
    return float(value)


def _strange_key(text: str) -> bool:
    return "is not a field" in text or "cannot stand beside" in text
