"""A scenario file made into objects, and the record of what was run.

Syntax first; then keys and types of every section; then every check of meaning whose inputs are sound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torussim import chips, edits, files, models, resolve
from torussim.chips import Chip
from torussim.collectives.lower import ALGORITHMS
from torussim.errors import Found, Keys, Mark, Mistake, ScenarioError, TorusSimError
from torussim.files import Document
from torussim.layouts import Layout
from torussim.models import Model
from torussim.program import Program
from torussim.scenario import forms, values
from torussim.scenario.layout import Asked, cuts, describe_layout, fit, read_layouts, tabled
from torussim.scenario.network import Network, Slice, cut_network, own_kind, read_network, read_slice
from torussim.scenario.notes import Notes
from torussim.scenario.planning import Planning, describe_planning, read_planning
from torussim.scenario.program import describe_program, read_program
from torussim.scenario.values import quote
from torussim.scenario.workload import Expected, describe_expected, describe_workload, phases_of, read_expect, read_workload
from torussim.topology.faults import Changes
from torussim.topology.grid import Grid
from torussim.trust import Trust
from torussim.workload import Workload

if TYPE_CHECKING:
    import networkx as nx

MAX_LAYERS = 10_000  # each is a moment of every pass, also where blocks repeat
MAX_DIGITS = 1000  # of a whole number


@dataclass(frozen=True)
class Scenario:
    """One question, ready to be answered. Either model, workload and layouts are given, or program."""

    name: str
    file: str
    chip: Chip
    network: Network
    net: Grid
    model: Model | None
    layouts: Mapping[str, Layout]  # by phase: "prefill", "decode"
    workload: Workload | None
    program: Program | None
    expect: tuple[Expected, ...]
    resolved: Mapping[str, Any]  # running it again gives the same result
    notes: tuple[str, ...] = ()
    planning: Planning | None = None  # what `plan` looks for; None: its defaults

    @cached_property
    def topology(self) -> nx.DiGraph:
        """The network as a graph."""
        return self.network.topology()

    @property
    def changes(self) -> Changes | None:
        """The network as it was built, and what the file changes of it; None where it changes nothing of a torus of ours."""
        return self.network.changes

    @property
    def slug(self) -> str:
        """The name as a folder: letters, digits and hyphens; the file's stem where nothing is left of it."""
        words = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:80].strip("-")
        return words or re.sub(r"[^A-Za-z0-9_-]+", "-", Path(self.file).stem).strip("-") or "scenario"


@dataclass(frozen=True)
class Checked:
    """A scenario without a mistake; where code was not opened, `chips` is None, and what depends on it was not looked at."""

    file: str
    name: str
    chips: int | None
    unopened: tuple[str, ...]  # a sentence for each file
    notes: tuple[str, ...] = ()  # what else is worth saying


def load(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, code: str | Trust = "beside",
         fitting: bool = True) -> Scenario:
    """Return the scenario in a file, in a result.json of an earlier run, or in a mapping of the same form.

    Parameters
    ----------
    source
        The path of a file, or plain data; names in data are looked up in the working folder.
    overrides
        Assignments such as "workload.tokens=1".
    code
        Whose code may run: "beside" (that of .py files beside the scenario), "any" (that of installed packages too), "never";
        or a Trust, which has more to choose from.
    fitting
        Whether the layout must fit the model, the batch and the network. A plan, which looks for one that does, needs none.

    Raises
    ------
    ScenarioError
        With all mistakes, each with its place.
    """
    notes = _notes(source, overrides, code)
    scenario = _read(notes, fitting)
    if scenario is None:
        raise ScenarioError([Mistake(str(one), notes.document.where(()), one.code) for one in notes.unopened])
    return scenario


def check(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *, code: str | Trust = "never") -> Checked:
    """Return what can be said of a scenario without running anything of it; the same arguments as `load`, and its errors."""
    notes = _notes(source, overrides, code)
    scenario = _read(notes)
    unopened = tuple(dict.fromkeys(map(str, notes.unopened)))
    if scenario is None:
        top = notes.document.value
        return Checked(notes.document.file, _name(notes, top), None, unopened)
    return Checked(scenario.file, scenario.name, len(scenario.net.chips), unopened, tuple(notes.said))


def _notes(source: str | Path | Mapping[str, Any], overrides: Sequence[str], code: str | Trust) -> Notes:
    """Return the document of a scenario with its overrides, ready to be read."""
    trust = Trust.of(code)
    document = files.from_value(_plain(source)) if isinstance(source, Mapping) else _file(source, trust)
    wrong: list[Mistake] = []
    for assignment in overrides:
        try:
            document = edits.override(document, assignment, bases=forms.BASES)
        except ScenarioError as error:
            wrong += error.mistakes
    if wrong:
        raise ScenarioError([*document.mistakes, *wrong])
    beside = Path.cwd() if isinstance(source, Mapping) else Path(source).resolve().parent
    return Notes(document, beside, list(document.mistakes), trust)


def _file(path: str | Path, trust: Trust) -> Document:
    """Return the document of a scenario's file, or of the scenario that a result.json holds."""
    result = Path(path).name in ("result.json", "result.json.gz")
    document = files.read(path, "result" if result else "scenario", trust.most)
    held = document.value.get("scenario") if result and isinstance(document.value, dict) else None
    return edits.part(document, ("scenario",)) if isinstance(held, dict) else document


def document_of(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = (), *,
                code: str | Trust = "beside") -> tuple[Document, Path]:
    """Return the document that `load` makes a scenario of, and the folder that names in it are looked up in."""
    notes = _notes(source, overrides, code)
    return notes.document, notes.beside


def read_document(document: Document, beside: Path, code: str | Trust = "beside", *,
                  known: dict[str, Any] | None = None) -> Scenario:
    """Return the scenario of a document; names in it are looked up in the folder `beside`. Raise ScenarioError likewise.

    `known`, at first empty, keeps parts of the scenarios that are read with it, so that each is made once.
    """
    notes = Notes(document, beside, list(document.mistakes), Trust.of(code), known=known)
    scenario = _read(notes)
    if scenario is None:
        raise ScenarioError([Mistake(str(one), document.where(()), one.code) for one in notes.unopened])
    return scenario


def _plain(value: Any, depth: int = 0) -> Any:
    """Return plain dicts, lists and scalars, as a file gives them, from data of Python or numpy."""
    def fail(text: str) -> ScenarioError:
        return ScenarioError([Mistake(text, Mark("<dict>", 1, 1), "value")])
    if depth > files.MAX_DEPTH:
        raise fail(f"nested deeper than {files.MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise fail(f"{str(key)[:60]!r} is no key: a key must be a text")
        return {key: _plain(part, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, depth + 1) for part in value]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist(), depth)
    if not (value is None or isinstance(value, str | bool | int | float)):
        raise fail(f"{str(value)[:60]!r} is a {type(value).__name__}: give texts, numbers, true, false, lists and mappings")
    if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:
        raise fail(f"a number of more than {MAX_DIGITS} digits: too many")
    return value


def _read(notes: Notes, fitting: bool = True) -> Scenario | None:
    """Return the scenario of a document, None if code was not opened; raise ScenarioError with all that is noted."""
    top = notes.document.value
    if not isinstance(top, dict):
        notes.wrong((), f"{quote(top)} is not a scenario: write keys such as model, chip, topology, layout, workload")
        raise notes.error()
    given = _sections(notes, top)
    bare = "program" in top
    name = _name(notes, given)
    slice_ = read_slice(notes, given.get("topology"), _preset(given.get("chip")))
    wires = [given.get("chip"), given.get("topology")]
    chip = notes.once("chip", wires, lambda: _chip(notes, given, slice_, top))
    model = notes.once("model", given.get("model"), lambda: _model(notes, given))
    network = Network()
    if "topology" in given:
        preset = _preset(given.get("chip"))
        network = notes.once("network", wires, lambda: read_network(notes, given["topology"], chip, preset, slice_))
    phase, workload = read_workload(notes, given["workload"]) if "workload" in given else (None, None)
    asked: dict[str, Asked] = {}
    if not bare and ("layout" in given or "layout" not in top):
        asked = read_layouts(notes, given.get("layout", {}), phase, phases_of(phase), network.axes, fitting)
        parts = cuts(notes, asked)
        asked = asked if parts is not None else {}
        network = cut_network(network, parts or {})
    program = read_program(notes, given["program"], network.axes, network.net, chip) if "program" in given else None
    expect = read_expect(notes, given["expect"], phase, bare) if "expect" in given else ()
    planning = read_planning(notes, given["plan"]) if "plan" in given else None
    if model and model.layers > MAX_LAYERS:
        notes.wrong(_layers(top), f"layers: '{model.layers}' are more than can be run: give at most {MAX_LAYERS:,}",
                    code="limit")
    elif model and workload and network.axes and set(asked) == set(phases_of(phase)):
        asked = (fit(notes, model, workload, asked, network.axes, (network.net, chip) if network.net and chip else None)
                 if fitting else tabled(notes, model, workload.batch, asked, network.axes))
    if "code" in given:
        _compare_code(notes, given["code"])
    if notes.mistakes:
        raise notes.error()
    if notes.unopened:
        return None
    assert chip is not None and network.net is not None
    layouts = {phase: one.layout for phase, one in asked.items()}
    record = _record(name, chip, network, model, workload, asked, program, expect)
    record |= {"plan": describe_planning(planning)} if planning else {}
    record |= {"code": dict(sorted(notes.code.items()))} if notes.code else {}
    return Scenario(name, notes.document.file, chip, network, network.net, model, layouts, workload, program, expect,
                    record, (*network.notes, *network.net.notes, *notes.said), planning)


def _compare_code(notes: Notes, given: Any) -> None:
    """Say which code is not what it was when this scenario was recorded."""
    try:
        recorded = forms.CODE(given)
    except values.Misread as error:
        notes.add(list(error.found), ("code",), "code: ")
        return
    other = [file for file, found in notes.code.items() if recorded.get(file, found) != found]
    notes.said += [f"{', '.join(other)} changed since this scenario was recorded"] if other else []


def _sections(notes: Notes, top: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections that have a value; note unknown, missing and empty ones, and those that a program has no use for."""
    needed = ["program" if "program" in top else "model", "topology"] + ([] if "program" in top else ["workload"])
    bare = {"model", "layout", "workload", "plan"} if "program" in top else set()
    found: dict[str, Any] = {}
    for key, value in top.items():
        if key not in forms.TOP:
            notes.wrong((key,), resolve.unknown(key, forms.TOP, "key of a scenario"), at_key=True, code="unknown-key")
        elif key in bare:
            notes.wrong((key,), f"{quote(key)} and program are both given: leave one out", at_key=True, code="clash")
        elif value is None:
            notes.wrong((key,), f"{key}: {values.EMPTY}", at_key=True, code="empty")
        else:
            found[key] = value
    missing = [key for key in needed if key not in top and key not in forms.meant(top, forms.TOP)]
    if missing:
        instead = ", or in place of model and workload a program" if "model" in missing or "workload" in missing else ""
        notes.wrong((), f"the scenario lacks {values.listed(missing)}: write {'them' if len(missing) > 1 else 'it'}{instead}",
                    code="missing")
    return found


def _name(notes: Notes, given: Mapping[str, Any]) -> str:
    """Return the name of the scenario, or else that of its file."""
    if "name" not in given:
        return Path(notes.document.file).stem if notes.document.file != "<dict>" else "scenario"
    try:
        return values.text(given["name"])
    except values.Misread as error:
        notes.add(list(error.found), ("name",), "name: ")
        return ""


# -- chip and model -----------------------------------------------------------------------------------------------------


def _chip(notes: Notes, given: Mapping[str, Any], slice_: Slice | None, top: Mapping[str, Any]) -> Chip | None:
    """Return the chip that the file gives, or else that of its slice; one core of it where the slice has a node for each."""
    if "chip" in given:
        found: Chip | None = _described(notes, "chip", given["chip"], chips.chip, chips.chip_mistakes)
        if found:
            _check_library(notes, found)
        return chips.core_of(found) if found and slice_ and slice_.cores == found.cores > 1 else found
    topology = given.get("topology")
    if slice_ is not None:
        found = chips.chip(slice_.chip)
        return chips.core_of(found) if slice_.cores > 1 else found
    sliced = isinstance(topology, Mapping) and "slice" in topology and not own_kind(topology)
    if "chip" not in top and not sliced and "chip" not in forms.meant(top, forms.TOP):
        notes.wrong((), f"the scenario lacks 'chip': name one of {', '.join(resolve.preset_names('chips'))}",
                    code="missing")
    return None


def _check_library(notes: Notes, chip: Chip) -> None:
    """Note what a chip's file says that its library has, and there is not."""
    path: Keys = ("chip", "algorithms")
    for kind, names in chip.algorithms.items():
        if kind not in ALGORITHMS:
            notes.wrong((*path, kind), "algorithms: " + resolve.unknown(kind, ALGORITHMS, "collective"), code="unknown-name")
            continue
        for name in names:
            algorithm, _, way = name.partition(" ")
            if algorithm not in ALGORITHMS[kind]:
                text = resolve.unknown(algorithm, ALGORITHMS[kind], f"algorithm of {kind}")
            elif way not in ("", "both", "one_way"):
                text = resolve.unknown(way, ("both", "one_way"), "direction")
            else:
                continue
            notes.wrong((*path, kind), f"algorithms: {kind}: {text}", code="unknown-name")


def _model(notes: Notes, given: Mapping[str, Any]) -> Model | None:
    """Return the model that the file gives, if it gives one."""
    if "model" not in given:
        return None
    most = notes.trust.most
    found: Model | None = _described(notes, "model", given["model"], lambda g: models.model(g, notes.beside, most=most),
                                     lambda g: models.model_mistakes(g, notes.beside, most=most))
    return found


def _preset(given: Any) -> str | None:
    """Return the preset that a chip is, or is based on."""
    name = given.get("base") if isinstance(given, Mapping) else given
    return name if isinstance(name, str) and name in resolve.preset_names("chips") else None


def _described(notes: Notes, what: str, given: Any, make: Callable[[Any], Any],
               judge: Callable[[Any], list[Found]]) -> Any:
    """Return a chip or model from a name, a path or a mapping, or note what is wrong with it."""
    if isinstance(given, str):
        try:
            return make(given)
        except TorusSimError as error:
            notes.raised((what,), error)
            return None
    if not isinstance(given, Mapping):
        notes.wrong((what,), f"{what}: {quote(given)} is neither the name of a preset nor a mapping of fields")
        return None
    found = judge(given)
    for wrong in found:
        if wrong.path and _at(given, wrong.path) is None:
            wrong = Found(wrong.path, f"{'.'.join(map(str, wrong.path))}: {values.EMPTY}", True, "empty")
        notes.add([wrong], (what,), f"{what}: ")
    return None if found else make(given)


def _at(value: Any, path: Keys) -> Any:
    """Return the value at a path, or True if there is none."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return True
        value = value[key]
    return value


def _layers(top: Mapping[str, Any]) -> Keys:
    return ("model", "layers") if isinstance(top["model"], Mapping) and "layers" in top["model"] else ("model",)


# -- the record ---------------------------------------------------------------------------------------------------------


def _record(name: str, chip: Chip, network: Network, model: Model | None, workload: Workload | None, asked: Mapping[str, Asked],
            program: Program | None, expect: Sequence[Expected]) -> dict[str, Any]:
    """Return the scenario in full, as a mapping that `load` makes the same scenario of."""
    record: dict[str, Any] = {"name": name}
    if model and workload:
        shown = {phase: describe_layout(one) for phase, one in asked.items()}
        layout = shown if len({one.path for one in asked.values()}) > 1 else next(iter(shown.values()))
        record |= {"model": models.describe(model), "workload": describe_workload(workload), "layout": layout}
    if program:
        record["program"] = describe_program(program, network.net.links.axes if network.net else {})
    record |= {"chip": chips.describe(chip), "topology": network.record}
    return record | ({"expect": {one.what: describe_expected(one) for one in expect}} if expect else {})
