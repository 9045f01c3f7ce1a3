"""A scenario from a file, a result, plain data or Python objects, which are all equivalent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torussim import edits, files
from torussim.chips import Chip
from torussim.errors import Mark, Mistake, ScenarioError
from torussim.files import Document
from torussim.layouts import Layout
from torussim.models import Model
from torussim.program import Program
from torussim.scenario import forms
from torussim.scenario.given import plain
from torussim.scenario.network import Network
from torussim.scenario.notes import Notes
from torussim.scenario.planning import Planning
from torussim.scenario.sections import read_name, read_sections
from torussim.scenario.tracing import Tracing
from torussim.scenario.workload import Expected
from torussim.topology.faults import Changes
from torussim.topology.grid import Grid
from torussim.trust import Trust
from torussim.workload import Workload

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True, init=False, eq=False, repr=False)
class Scenario:
    """One question, ready to be answered. Either model and workload are given, or a program.

    Parameters
    ----------
    model
        A preset, the path of a config.json, a mapping of fields, or a `torussim.Model`.
    chip
        A preset, a mapping of fields, or a `torussim.Chip`; by default that of the topology's slice.
    topology
        A mapping as in a file, or a networkx graph (docs/graph_files.md). A mapping can have the graph as its key `graph`, beside
        `mesh`, `routing`, `links` and `events`.
    layout
        A mapping as in a file, or the name of a layout; by default ws2d with attention over heads.
    workload
        A mapping as in a file.
    program
        A list of operations, in place of model, layout and workload.
    expect, plan, trace
        As in a file.
    name
        What results and pictures are called.
    code
        Whose code may run, as in `load`; names of code and files are looked up in the working folder.

    Raises
    ------
    ScenarioError
        With all mistakes. A scenario without a layout, or with a plan, need not fit until it is run: `plan` looks for a layout.

    Examples
    --------
    >>> import torussim as ts
    >>> network = ts.torus((4, 4, 4), bandwidth=45e9, latency=1e-6)
    >>> network.edges[(0, 0, 0), (1, 0, 0)]["bandwidth"] = 10e9
    >>> asked = ts.Scenario(model="palm-8b", chip="tpu-v4", topology=network, layout={"attention": "batch"},
    ...                     workload={"phase": "decode", "batch": 512, "context": 1024})
    >>> print(f"{ts.run(asked).step_s * 1e3:.2f} ms")
    10.60 ms
    """

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
    document: Document  # what was given
    beside: Path  # the folder of its relative names
    trust: Trust
    fitted: bool = True  # whether its layouts are made to fit its network
    notes: tuple[str, ...] = ()
    planning: Planning | None = None  # the task of `plan`; None: the defaults of `plan`
    tracing: Tracing | None = None  # the names of operations and chips in a measured trace

    def __init__(self, *, model: Any = None, chip: Any = None, topology: Any = None, layout: Any = None, workload: Any = None,
                 program: Any = None, expect: Any = None, plan: Any = None, trace: Any = None, name: str | None = None,
                 code: str | Trust = "beside") -> None:
        given = {"name": name, "model": model, "chip": chip, "topology": topology, "layout": layout, "workload": workload,
                 "program": program, "expect": expect, "plan": plan, "trace": trace}
        vars(self).update(vars(_of_sections(given, Path.cwd(), Trust.of(code))))

    @cached_property
    def topology(self) -> nx.DiGraph:
        """The network as a graph."""
        return self.network.topology()

    @property
    def changes(self) -> Changes | None:
        """The network as it was built, and the changes of the file; None for a built-in torus without changes."""
        return self.network.changes

    @property
    def slug(self) -> str:
        """The name as a folder: letters, digits and hyphens; the file's stem if the name has none of them."""
        words = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:80].strip("-")
        return words or re.sub(r"[^A-Za-z0-9_-]+", "-", Path(self.file).stem).strip("-") or "scenario"

    def replace(self, **sections: Any) -> Scenario:
        """Return the scenario with other sections, by the parameters of Scenario; None: without that section.

        >>> import torussim as ts
        >>> ring = ts.Scenario(chip="ideal", topology={"shape": [4]}, program=[
        ...     {"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "90 MB"}])
        >>> ts.run(ring).makespan_s, ts.run(ring.replace(topology={"shape": [8]})).makespan_s
        (0.00075, 0.000875)
        """
        return _of_sections({**self.document.value, **sections}, self.beside, self.trust)

    def to_yaml(self) -> str:
        """Return the scenario as a file that `load` makes the same scenario of: what was given, and nothing that follows from it.

        Names of files and of code in it stay as they were given: write it into the folder that they are looked up in, `beside`.
        """
        given = self.document.value
        return files.to_yaml(given if "name" in given else {"name": self.name, **given})

    def __repr__(self) -> str:
        what = self.model.name if self.model else "a program"
        return f"<Scenario {self.name!r}: {what} on {len(self.net.chips):,} chips ({self.chip.name})>"


def made(**values: Any) -> Scenario:
    """Return the scenario with these fields."""
    scenario = object.__new__(Scenario)
    vars(scenario).update({"fitted": True, "notes": (), "planning": None, "tracing": None} | values)
    return scenario


def changed(scenario: Scenario, **values: Any) -> Scenario:
    """Return a scenario with other values of some fields. Another record (`resolved`) also replaces the given document."""
    if "resolved" in values:
        values["document"] = files.from_value(values["resolved"])
    return made(**{one.name: getattr(scenario, one.name) for one in fields(Scenario)} | values)


@dataclass(frozen=True)
class Checked:
    """A scenario without mistakes. If code was not opened, `chips` is None, and its effects were not checked."""

    file: str
    name: str
    chips: int | None
    unopened: tuple[str, ...]  # one sentence for each file
    notes: tuple[str, ...] = ()  # other remarks


Source = str | Path | Mapping[str, Any] | Scenario


def load(source: Source, overrides: Sequence[str] = (), *, code: str | Trust = "beside",
         fitting: bool = True) -> Scenario:
    """Return the scenario in a file, in a result.json of an earlier run, or in a mapping of the same form; or anew.

    Parameters
    ----------
    source
        The path of a file, a mapping, whose values can be what Scenario takes, or a Scenario, which is read anew. Names in a
        mapping are looked up in the working folder.
    overrides
        Assignments such as "workload.tokens=1".
    code
        Whose code may run: "beside" (that of .py files beside the scenario), "any" (that of installed packages too), "never";
        or a Trust, which has more to choose from. A Scenario keeps its own.
    fitting
        Whether the layout must fit the model, the batch and the network. A plan, which looks for one that does, needs none.

    Returns
    -------
    Scenario
        It is ready to be run; `resolved` is the whole of it as plain data.

    Raises
    ------
    ScenarioError
        With all mistakes, each with its place.

    Examples
    --------
    >>> found = load({"model": "palm-8b", "chip": "tpu-v4", "topology": {"shape": [4, 4]},
    ...               "workload": {"phase": "decode", "batch": 64, "context": 2048}}, ["workload.batch=128"])
    >>> found.workload.batch, found.network.axes
    (128, {'x': 4, 'y': 4})
    """
    return _must(_notes(source, overrides, code), fitting)


def ready(source: Source, overrides: Sequence[str] = (), *, code: str | Trust = "beside", fitting: bool = True) -> Scenario:
    """Return the result of `load`; a Scenario itself if nothing changes in it and it fits, where it must."""
    if isinstance(source, Scenario) and not overrides and (source.fitted or not fitting):
        return source
    return load(source, overrides, code=code, fitting=fitting)


def check(source: Source, overrides: Sequence[str] = (), *, code: str | Trust = "never") -> Checked:
    """Return the facts about a scenario that need no run; arguments and errors are those of `load`."""
    notes = _notes(source, overrides, code)
    scenario = _scenario(notes)
    unopened = tuple(dict.fromkeys(map(str, notes.unopened)))
    if scenario is None:
        top = notes.document.value
        return Checked(notes.document.file, read_name(notes, top), None, unopened)
    return Checked(scenario.file, scenario.name, len(scenario.net.chips), unopened, tuple(notes.said))


def _notes(source: Source, overrides: Sequence[str], code: str | Trust) -> Notes:
    """Return the document of a scenario with its overrides, ready to be read."""
    trust = source.trust if isinstance(source, Scenario) else Trust.of(code)
    if isinstance(source, Scenario):
        document, beside = source.document, source.beside
    elif isinstance(source, Mapping):
        document, beside = files.from_value(plain(source)), Path.cwd()
    else:
        document, beside = _file(source, trust), Path(source).resolve().parent
    wrong: list[Mistake] = []
    for assignment in overrides:
        try:
            document = edits.override(document, assignment, bases=forms.BASES)
        except ScenarioError as error:
            wrong += error.mistakes
    if wrong:
        raise ScenarioError([*document.mistakes, *wrong])
    return Notes(document, beside, list(document.mistakes), trust)


def _scenario(notes: Notes, fitting: bool = True) -> Scenario | None:
    """Return the scenario of a document, None if code was not opened. Raise ScenarioError with all noted mistakes."""
    found = read_sections(notes, fitting)
    if found is None:
        return None
    return made(**found, file=notes.document.file, document=notes.document, beside=notes.beside, trust=notes.trust,
                fitted=fitting)


def _of_sections(given: Mapping[str, Any], beside: Path, trust: Trust) -> Scenario:
    """Return the scenario of sections as Scenario takes them. Without a layout or with a plan it need not fit."""
    sections = {key: value for key, value in given.items() if value is not None}
    if isinstance(sections.get("layout"), str):
        sections["layout"] = {"ffn": sections["layout"]}
    fitting = "plan" not in sections and ("layout" in sections or "program" in sections)
    return _must(Notes(files.from_value(plain(sections)), beside, [], trust), fitting)


def _must(notes: Notes, fitting: bool = True) -> Scenario:
    """Return the scenario of a document. Raise ScenarioError, also if code was not opened."""
    scenario = _scenario(notes, fitting)
    if scenario is None:
        raise ScenarioError([Mistake(str(one), notes.document.where(()), one.code) for one in notes.unopened])
    return scenario


def _file(path: str | Path, trust: Trust) -> Document:
    """Return the document of a scenario's file, or of the scenario in a result.json or plan.json, whatever its name."""
    result = Path(path).name.endswith((".json", ".json.gz"))
    check_no_trace(path)
    document = files.read(path, "result" if result else "scenario", trust.most)
    held = document.value.get("scenario") if result and isinstance(document.value, dict) else None
    return edits.part(document, ("scenario",)) if isinstance(held, dict) else document


def check_no_trace(path: str | Path) -> None:
    """Raise ScenarioError for a trace of a run, which has too many values to be read as a scenario or a result."""
    if Path(path).name.endswith((".json", ".json.gz")) and files.begins(path, b'"traceEvents"'):
        text = ("is a trace of a run, no scenario and no result: give the scenario or the result.json of the run; "
                "`torussim blame TRACE SCENARIO` reads traces")
        raise ScenarioError([Mistake(text, Mark(str(path), 1, 1), "unreadable")])


def document_of(source: Source, overrides: Sequence[str] = (), *,
                code: str | Trust = "beside") -> tuple[Document, Path]:
    """Return the document of the scenario that `load` makes, and the folder of its relative names."""
    notes = _notes(source, overrides, code)
    return notes.document, notes.beside


def read_document(document: Document, beside: Path, code: str | Trust = "beside", *,
                  known: dict[str, Any] | None = None) -> Scenario:
    """Return the scenario of a document. Relative names are looked up in the folder `beside`. Raise ScenarioError as `load` does.

    `known`, at first empty, caches parts of the scenarios that are read with it.
    """
    return _must(Notes(document, beside, list(document.mistakes), Trust.of(code), known=known))
