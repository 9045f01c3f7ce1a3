"""The sections of a scenario as objects, and the record of a run.

Checks run in order: syntax; then keys and types of every section; then every check of meaning with valid inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torussim import chips, models, resolve
from torussim.chips import Chip
from torussim.collectives.lower import ALGORITHMS
from torussim.errors import Found, Keys, TorusSimError
from torussim.model_fields import FIELDS
from torussim.models import Model
from torussim.program import Program
from torussim.scenario import forms, keyed, values
from torussim.scenario.balance import check_balance, check_experts
from torussim.scenario.layout import Asked, cuts, describe_layout, fit, read_layouts, tabled
from torussim.scenario.network import Network, Slice, cut_network, own_kind, read_network, read_slice
from torussim.scenario.notes import Notes
from torussim.scenario.planning import describe_planning, read_planning
from torussim.scenario.program import describe_program, read_program
from torussim.scenario.tracing import describe_tracing, read_tracing
from torussim.scenario.values import quote
from torussim.scenario.workload import Expected, describe_expected, describe_workload, phases_of, read_expect, read_workload
from torussim.workload import Workload

MOST = {"layers": 10_000,  # each layer is an interval of every pass, even if blocks repeat
        "experts": 10_000}  # each expert of unequal load is a product of its own


def read_sections(notes: Notes, fitting: bool = True) -> dict[str, Any] | None:
    """Return the fields of the scenario of a document that the notes do not have; None if code was not opened.

    Raise ScenarioError with all noted mistakes.
    """
    top = notes.document.value
    if not isinstance(top, dict):
        notes.wrong((), f"{quote(top)} is not a scenario: write keys such as model, chip, topology, layout, workload")
        raise notes.error()
    given = _sections(notes, top)
    bare = "program" in top
    name = read_name(notes, given)
    slice_ = read_slice(notes, given.get("topology"), _preset(given.get("chip")))
    wires = [given.get("chip"), given.get("topology")]
    chip = notes.once("chip", wires, lambda: _chip(notes, given, slice_, top))
    model = notes.once("model", given.get("model"), lambda: _model(notes, given.get("model"), ("model",)))
    network = Network()
    if "topology" in given:
        preset = _preset(given.get("chip"))
        network = notes.once("network", wires, lambda: read_network(notes, given["topology"], chip, preset, slice_))
    phase, workload = _workload(notes, given["workload"]) if "workload" in given else (None, None)
    asked: dict[str, Asked] = {}
    axes = network.axes
    if not bare and ("layout" in given or "layout" not in top):
        asked = read_layouts(notes, given.get("layout", {}), phase, phases_of(phase), axes, fitting,
                             model.dtypes if model else {})
        parts = cuts(notes, asked)
        asked = asked if parts is not None else {}
        network = cut_network(network, parts or {})
    program = read_program(notes, given["program"], network.axes, network.net, chip) if "program" in given else None
    expect = read_expect(notes, given["expect"], phase, bare) if "expect" in given else ()
    planning = read_planning(notes, given["plan"], model, axes) if "plan" in given else None
    lengths = network.net.links.axes if network.net else {}
    tracing = read_tracing(notes, given["trace"], lengths) if "trace" in given else None
    notes.said += model.remarks if model else ()
    fits = not (model and workload) or check_balance(notes, model, workload.balance)
    if model and workload:
        if model.max_context and workload.held > model.max_context:
            notes.said.append(f"a context of {workload.held:,} tokens is beyond the {model.max_context:,} that {model.name} was "
                              "made for")
        check_experts(notes, model, asked)
    if fits and model and workload and network.axes and set(asked) == set(phases_of(phase)):
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
    workload = workload and replace(workload, host=chip.step_overhead > 0)
    record = _record(name, chip, network, model, workload, asked, program, expect)
    record |= {"plan": describe_planning(planning)} if planning else {}
    record |= {"trace": describe_tracing(tracing)} if tracing else {}
    record |= {"code": dict(sorted(notes.code.items()))} if notes.code else {}
    return {"name": name, "chip": chip, "network": network, "net": network.net, "model": model, "layouts": layouts,
            "workload": workload, "program": program, "expect": expect, "resolved": record,
            "notes": (*network.notes, *network.net.notes, *notes.said), "planning": planning, "tracing": tracing}


def _compare_code(notes: Notes, given: Any) -> None:
    """Note code that differs from the code at the time of the record."""
    try:
        recorded = forms.TOP["code"].read(given)
    except values.Misread as error:
        notes.add(list(error.found), ("code",), "code: ")
        return
    other = [file for file, found in notes.code.items() if recorded.get(file, found) != found]
    notes.said += [f"{', '.join(other)} changed since this scenario was recorded"] if other else []


def _sections(notes: Notes, top: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections with a value. Note unknown, missing and empty sections, and sections that a program does not use."""
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
    missing = [key for key in needed if key not in top and key not in keyed.meant(top, forms.TOP)]
    if missing:
        instead = ", or in place of model and workload a program" if "model" in missing or "workload" in missing else ""
        notes.wrong((), f"the scenario lacks {values.listed(missing)}: write {'them' if len(missing) > 1 else 'it'}{instead}",
                    code="missing")
    return found


def read_name(notes: Notes, given: Mapping[str, Any]) -> str:
    """Return the name of the scenario, otherwise the name of its file."""
    if "name" not in given:
        return Path(notes.document.file).stem if notes.document.file != "<dict>" else "scenario"
    try:
        name: str = values.text(given["name"])
        return name
    except values.Misread as error:
        notes.add(list(error.found), ("name",), "name: ")
        return ""


# -- chip and model -----------------------------------------------------------------------------------------------------


def _chip(notes: Notes, given: Mapping[str, Any], slice_: Slice | None, top: Mapping[str, Any]) -> Chip | None:
    """Return the chip of the file, otherwise that of its slice; one core of it if the nodes of the slice are cores."""
    if "chip" in given:
        found: Chip | None = _described(notes, ("chip",), given["chip"], chips.chip, chips.chip_mistakes)
        if found:
            _check_library(notes, found)
        return chips.core_of(found) if found and slice_ and slice_.cores == found.cores > 1 else found
    topology = given.get("topology")
    if slice_ is not None:
        found = chips.chip(slice_.chip)
        return chips.core_of(found) if slice_.cores > 1 else found
    sliced = isinstance(topology, Mapping) and "slice" in topology and not own_kind(topology)
    if "chip" not in top and not sliced and "chip" not in keyed.meant(top, forms.TOP):
        notes.wrong((), f"the scenario lacks 'chip': name one of {', '.join(resolve.preset_names('chips'))}",
                    code="missing")
    return None


def _check_library(notes: Notes, chip: Chip) -> None:
    """Note algorithms that a chip's file lists for its library and that do not exist."""
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


def _model(notes: Notes, given: Any, path: Keys) -> Model | None:
    """Return a model of the file, if there is one at this path."""
    if given is None:
        return None
    most = notes.trust.most
    found: Model | None = _described(notes, path, given, lambda g: models.model(g, notes.beside, most=most),
                                     lambda g: models.model_mistakes(g, notes.beside, most=most))
    many = [name for name, most in MOST.items() if found and (getattr(found, name) or 0) > most]
    for name in many:
        at = next(((*path, key) for key in (name, *FIELDS[name,].also) if isinstance(given, Mapping) and key in given), path)
        notes.wrong(at, f"{name}: '{getattr(found, name)}' are more than can be run: give at most {MOST[name]:,}", code="limit")
    return None if many else found


def _workload(notes: Notes, given: Any) -> tuple[str | None, Workload | None]:
    """Return the phase and the workload, with its draft model."""
    drafted = given.get("draft_model") if isinstance(given, Mapping) else None
    path: Keys = ("workload", "draft_model")
    return read_workload(notes, given, notes.once("draft_model", drafted, lambda: _model(notes, drafted, path)))


def _preset(given: Any) -> str | None:
    """Return the preset that a chip is, or is based on."""
    name = given.get("base") if isinstance(given, Mapping) else given
    return name if isinstance(name, str) and name in resolve.preset_names("chips") else None


def _described(notes: Notes, path: Keys, given: Any, make: Callable[[Any], Any],
               judge: Callable[[Any], list[Found]]) -> Any:
    """Return the chip or model of a name, a path or a mapping, which is at `path` of the file. Note its mistakes."""
    what = path[-1]
    if isinstance(given, str):
        try:
            return make(given)
        except TorusSimError as error:
            notes.raised(path, error)
            return None
    if not isinstance(given, Mapping):
        notes.wrong(path, f"{what}: {quote(given)} is neither the name of a preset nor a mapping of fields")
        return None
    found = judge(given)
    for wrong in found:
        if wrong.path and _at(given, wrong.path) is None:
            wrong = Found(wrong.path, f"{'.'.join(map(str, wrong.path))}: {values.EMPTY}", True, "empty")
        notes.add([wrong], path, f"{what}: ")
    return None if found else make(given)


def _at(value: Any, path: Keys) -> Any:
    """Return the value at a path, or True if there is none."""
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return True
        value = value[key]
    return value


# -- the record ---------------------------------------------------------------------------------------------------------


def _record(name: str, chip: Chip, network: Network, model: Model | None, workload: Workload | None, asked: Mapping[str, Asked],
            program: Program | None, expect: Sequence[Expected]) -> dict[str, Any]:
    """Return the complete scenario as a mapping from which `load` makes the same scenario."""
    record: dict[str, Any] = {"name": name}
    if model and workload:
        shown = {phase: describe_layout(one) for phase, one in asked.items()}
        layout = shown if len({one.path for one in asked.values()}) > 1 else next(iter(shown.values()))
        record |= {"model": models.describe(model), "workload": describe_workload(workload), "layout": layout}
    if program:
        record["program"] = describe_program(program, network.net.links.axes if network.net else {})
    record |= {"chip": chips.describe(chip), "topology": network.record}
    return record | ({"expect": {one.what: describe_expected(one) for one in expect}} if expect else {})
