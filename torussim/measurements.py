"""Files of measured times: groups of rows, each with a scenario and its time. The module knows nothing of predictions.

chip: tpu-v4                        # of all groups, unless a group's scenario has its own
source: where the numbers are from
use: fitted                         # the chip's parameters were fitted to these times; predicted: they were not
fit: {launch: {value: 5 us, sigma: 0.5}}    # the parameters that `calibrate` fits, with priors; without it: its own list
groups:
  - name: decode bf16
    what: layers                    # of the times: step (the default), a whole pass; layers, without embedding and logits
    scenario: {...}                 # as in a scenario file; a lone collective is a scenario with a program
    measured:
      - {time: 36.23 ms}
      - {time: 44.49 ms, change: {workload.batch: 128}}     # dotted ways into the scenario
      - {time: 45.1 ms, change: {workload.batch: 128}, twin: true}      # the same point again: not counted again

A row can also have a name, and its own `what`, `source` and `use`. A group can have its own `source` and `use`. `calibrate`
leaves out rows that are `predicted`. Every mistake has its place in the file, also a mistake in the scenario of a row; the other
rows remain valid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torussim import chips, edits, files, resolve
from torussim.described import Form, Key
from torussim.errors import Keys, Mark, Mistake, ScenarioError, TorusSimError
from torussim.files import Document
from torussim.scenario import Scenario, read_document
from torussim.scenario.forms import BASES
from torussim.scenario.keyed import Section
from torussim.scenario.notes import Notes
from torussim.scenario.values import anything, by_name, flag, number, one_of, quantity, quote, text
from torussim.trust import Trust

WHAT = ("step", "layers")
USE = ("fitted", "predicted")
DEFAULT = "palm-540b-tpu-v4"  # the package's file that is used if none is named

_USE = Key(one_of("kind of use", *USE))
_FILE: Form = {"chip": Key(anything), "source": Key(text, ""), "use": _USE, "groups": Key(anything, needed=True),
               "fit": Key(by_name(anything, "{launch: {value: 5 us, sigma: 0.5}}"), {})}
_FIT: Form = {"value": Key(anything, needed=True), "sigma": Key(number(), needed=True)}
_GROUP: Form = {"name": Key(text, needed=True), "source": Key(text, ""), "what": Key(one_of("kind of time", *WHAT), "step"),
                "use": _USE, "scenario": Key(anything, needed=True), "measured": Key(anything, needed=True)}
_ROW: Form = {"time": Key(quantity("s"), needed=True), "name": Key(text), "change": Key(anything, {}),
              "what": Key(one_of("kind of time", *WHAT)), "source": Key(text, ""), "use": _USE, "twin": Key(flag, False)}


@dataclass(frozen=True, eq=False)
class Measurement:
    """One measured time. `what` is the timed part, one of WHAT; a `twin` repeats a point of another row.

    `use`: "fitted", the parameters of the chip were fitted to the time; "predicted", they were not; "", the file does not say.
    """

    group: str
    name: str  # within the group
    time: float  # s
    what: str
    twin: bool
    source: str
    use: str
    scenario: Scenario
    mark: Mark
    document: Document = field(repr=False)  # the source of the scenario
    beside: Path = field(repr=False)
    trust: Trust = field(repr=False)


@dataclass(frozen=True, eq=False)
class Measurements:
    """The content of a file of measurements: its sound rows in order, and all mistakes of other rows.

    `name` is that of a file of the package, such as nccl-h100; of any other file the path as given.
    """

    name: str
    file: str
    source: str
    rows: tuple[Measurement, ...]
    mistakes: tuple[Mistake, ...]
    fit: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # value, deviation of its logarithm


def package() -> tuple[str, ...]:
    """Return the names of the files of measurements of the package, in alphabetical order."""
    return resolve.preset_names("measurements")


def found(name: str | Path) -> Path:
    """Return the path of a file of measurements: a file of the package by its name, such as nccl-h100, or any file.

    Raise NameError_ for an unknown name without a suffix or folder.
    """
    is_file = Path(name).exists() or Path(name).suffix or len(Path(name).parts) > 1
    return Path(name) if is_file and name not in package() else resolve.preset_path("measurements", str(name))


def read(file: str | Path, code: str | Trust = "beside") -> Measurements:
    """Return the measurements of a file; an unreadable file has no rows and one mistake. `code`: see `load`."""
    trust, stem = Trust.of(code), Path(file).stem
    name = stem if stem in package() and Path(file) == found(stem) else str(file)
    try:
        document = files.read(file, "measurements", trust.most)
    except ScenarioError as error:
        return Measurements(name, str(file), "", (), error.mistakes)
    notes = Notes(document, Path(file).resolve().parent, list(document.mistakes), trust)
    top = notes.section(_FILE, document.value, (), "a file of measurements")
    rows: list[Measurement] = []
    for path in _items(notes, top, "groups", ("groups",), "[{name: decode, scenario: {...}, measured: [{time: 1 ms}]}]"):
        rows += _group(notes, path, top)
    twice, fit = _doubled(notes, rows), _fitted(notes, top)
    sound = tuple(row for row in rows if row not in twice)
    return Measurements(name, str(file), top["source"], sound, notes.error().mistakes, fit)


def _fitted(notes: Notes, top: Section) -> dict[str, tuple[float, float]]:
    """Return the parameters that a file lists to be fitted."""
    made = dict[str, tuple[float, float]]()
    for name in top["fit"]:
        path: Keys = ("fit", name)
        section = notes.section(_FIT, _at(notes.document, path), path, "what is plausible of a parameter")
        if not section.sound():
            continue
        try:
            value = getattr(chips.chip("ideal", **{name: section["value"]}), name)
            if not isinstance(value, float) or value <= 0:
                raise TorusSimError("it is no number above 0", code="value")
            made[name] = value, section["sigma"]
        except TorusSimError as error:
            notes.wrong((*path, "value"), f"{name}: {error}", code=error.code)
    return made


def _items(notes: Notes, section: Section, key: str, path: Keys, example: str) -> list[Keys]:
    """Return the paths of a list's elements; note a mistake if it is no list, or empty."""
    value = section[key]
    if isinstance(value, list) and value:
        return [(*path, i) for i in range(len(value))]
    if section.sound(key):
        notes.wrong(path, f"{key}: {quote(value)} is not a list with something in it: write one such as {example}")
    return []


def _group(notes: Notes, path: Keys, top: Section) -> list[Measurement]:
    """Return the sound rows of one group."""
    group = notes.section(_GROUP, _at(notes.document, path), path, "a group")
    measured = _items(notes, group, "measured", (*path, "measured"), "[{time: 1 ms}]")
    rows = [(at, notes.section(_ROW, _at(notes.document, at), at, "a measurement")) for at in measured]
    scenario = group["scenario"]
    if not group.sound("scenario"):
        return []
    if not isinstance(scenario, Mapping):
        notes.wrong((*path, "scenario"), f"scenario: {quote(scenario)} is not a mapping: write keys such as model, topology, "
                    "layout, workload")
        return []
    base = edits.part(notes.document, (*path, "scenario"))
    if top.sound("chip") and top["chip"] is not None and "chip" not in scenario:
        chip = edits.part(notes.document, ("chip",))
        base = edits.replaced(base, "chip", chip, notes.document.where_key(("chip",)))
    changed = list(dict.fromkeys(way for _, row in rows if isinstance(row["change"], Mapping) for way in row["change"]))
    found = []
    for at, row in rows:
        document = _changed(notes, base, row, at)
        read = _scenario(notes, document, at) if document else None
        if document and read and row.sound() and group.sound("name", "what", "use") and not _torn(notes.document, at):
            source = row["source"] or group["source"] or top["source"]
            use = row["use"] or group["use"] or top["use"] or ""
            name = row["name"] or _name(document.value, changed) or group["name"]
            what = row["what"] or group["what"]
            found.append(Measurement(group["name"], name, row["time"], what, row["twin"], source, use, read,
                                     notes.document.where(at), document, notes.beside, notes.trust))
    return found


def _changed(notes: Notes, base: Document, row: Section, path: Keys) -> Document | None:
    """Return the scenario of a row: the group's with the row's changes; None if one of these is not possible."""
    if not row.sound("change"):
        return None
    if not isinstance(row["change"], Mapping):
        text_ = f"change: {quote(row['change'])} is not a mapping: write one such as {{workload.batch: 8}}"
        notes.wrong((*path, "change"), text_)
        return None
    before = len(notes.mistakes)
    for way in row["change"]:
        at = (*path, "change", way)
        if not edits.is_way(way):
            notes.wrong(at, f"{quote(way)} is no way to a value: write keys with dots, such as workload.batch", at_key=True)
            continue
        try:
            base = edits.replaced(base, way, edits.part(notes.document, at), notes.document.where_key(at), bases=BASES)
        except ScenarioError as error:
            notes.mistakes += error.mistakes
    return base if len(notes.mistakes) == before else None


def _scenario(notes: Notes, document: Document, path: Keys) -> Scenario | None:
    """Return the scenario of a row; None if it has mistakes, which are noted."""
    try:
        scenario = read_document(document, notes.beside, notes.trust)
    except ScenarioError as error:
        notes.mistakes += error.mistakes
        return None
    if scenario.net.links.events:
        notes.wrong(path, "the network changes in mid-run: a measured time is that of one network: leave events out")
        return None
    return scenario


def _torn(document: Document, row: Keys) -> bool:
    """Return whether a YAML mistake, such as a doubled key, is in a row, its group's scenario or the file's chip."""
    places = sorted(((mark, path) for path, mark in document.marks.items() if path), key=lambda place: place[0])
    for mistake in document.mistakes:
        assert mistake.mark is not None
        before = [path for mark, path in places if mark <= mistake.mark]
        if before and (before[-1][:4] == row or before[-1][:3] == (*row[:2], "scenario") or before[-1][:1] == ("chip",)):
            return True
    return False


def _doubled(notes: Notes, rows: list[Measurement]) -> list[Measurement]:
    """Return the rows that count a point of their group twice, with a mistake noted for each."""
    seen: dict[str, Measurement] = {}
    twice = []
    for row in rows:
        if row.twin:
            continue
        key = repr((row.what, {part: value for part, value in row.scenario.resolved.items() if part != "name"}))
        if key in seen:
            twice.append(row)
            notes.mistakes.append(Mistake(f"the same point as line {seen[key].mark.line}: write twin: true, so that it is not "
                                          "counted again", row.mark, "duplicate"))
        seen.setdefault(key, row)
    return twice


def _name(scenario: Any, ways: list[str]) -> str:
    """Return a name that distinguishes a row within its group: its values of the keys that some rows change."""
    parts = []
    for way in ways:
        value = scenario
        for key in way.strip().split("."):
            value = value[int(key)] if isinstance(value, list) else value.get(key) if isinstance(value, Mapping) else None
        shown = "x".join(map(str, value)) if isinstance(value, list) else quote(value)[1:-1] if value is not None else "default"
        parts.append(shown if way == "topology.shape" else f"{way.rpartition('.')[2]} {shown}")
    return ", ".join(parts)


def _at(document: Document, path: Keys) -> Any:
    value = document.value
    for key in path:
        value = value[key]
    return value
