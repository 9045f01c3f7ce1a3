"""The changes of a scenario to the links of its network: before the run (`links`), and in mid-run (`events`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from torussim import resolve
from torussim.described import Form
from torussim.errors import Keys, TopologyError, TorusSimError
from torussim.scenario import forms, keyed
from torussim.scenario.keyed import Section
from torussim.scenario.notes import Notes
from torussim.scenario.values import quote
from torussim.topology.check import read_links
from torussim.topology.links import LinkChange, change_later, change_links
from torussim.topology.shape import is_chip_of
from torussim.topology.shortest import connected

if TYPE_CHECKING:
    import networkx as nx

MAX_CHANGED = 20_000_000  # changes times chips; each change examines every link


@dataclass(frozen=True)
class Change:
    """A change of links: its place in the file, the change and its record. `time` is that of an event, seconds."""

    path: Keys
    what: LinkChange
    record: Mapping[str, Any]
    time: float = 0.0


def read_changes(notes: Notes, given: Any, path: Keys, axes: Mapping[str, int] | None) -> list[Change]:
    """Return the changes of links that are valid one by one, from `links` or `events`, as the last key of `path` says."""
    events = path[-1] == "events"
    form, what, example = (forms.EVENT, "an event", "[{time: 1 ms, axis: x, scale: 0.5}]") if events else (
        forms.LINK, "a change of links", "[{axis: x, scale: 0.5}]")
    if not isinstance(given, list):
        notes.wrong(path, f"{path[-1]}: {quote(given)} is not a list: write one such as {example}")
        return []
    if axes is not None and len(given) * prod(axes.values()) > MAX_CHANGED:
        notes.wrong(path, f"{path[-1]}: {len(given):,} changes are more than can be made: give at most "
                    f"{MAX_CHANGED // prod(axes.values()):,} on {prod(axes.values()):,} chips", code="limit")
        return []
    changes = []
    for i, item in enumerate(given):
        before = len(notes.mistakes)
        section = notes.section(form, item, (*path, i), what)
        if section.given:
            (_check_event if events else _check_change)(notes, section, item, (*path, i))
            _check_place(notes, section, (*path, i), axes)
        if len(notes.mistakes) == before:
            record = {key: section[key] for key in item}
            keys = {"from_" if key == "from" else key: value for key, value in record.items() if key != "time"}
            changes.append(Change((*path, i), LinkChange(**keys), record, section["time"] if events else 0.0))
    return changes


def _check_change(notes: Notes, section: Section, item: Any, path: Keys) -> None:
    """Note contradictions between the keys of a change before the run."""
    given = section.given | keyed.meant(section.given, forms.LINK)
    _check_values(notes, section, item, path, given, ("bandwidth", "latency", "scale"), forms.LINK)


def _check_values(notes: Notes, section: Section, item: Any, path: Keys, given: Set[str], values: Sequence[str],
                  form: Form) -> None:
    """Note a change without effect, or with two effects on a link. `values`: the keys of changes that are no failure."""
    lost = section.sound("failed") and section["failed"]
    nothing = not given & {*values, "latency"} and not lost
    if nothing and section.sound() and given <= set(form):
        notes.wrong(path, f"{quote(item)} changes nothing: give {', '.join(values)} or failed: true", code="missing")
    if {"bandwidth", "scale"} <= given:
        notes.wrong((*path, "scale"), "scale and bandwidth are both given: leave one out", at_key=True, code="clash")
    others = [key for key in values if key in given]
    if lost and others:
        notes.wrong((*path, "failed"), f"failed and {others[0]} are both given: a failed link has no bandwidth: leave one out",
                    at_key=True, code="clash")


def _check_event(notes: Notes, section: Section, item: Any, path: Keys) -> None:
    """Note contradictions between the keys of a change in mid-run."""
    given = section.given | keyed.meant(section.given, forms.EVENT)
    if "latency" in section.given:
        notes.wrong((*path, "latency"), "latency: in mid-run a link keeps its latency: leave latency out, or give it under links",
                    at_key=True, code="unknown-key")
    _check_values(notes, section, item, path, given, ("bandwidth", "scale"), forms.EVENT)


def _check_place(notes: Notes, section: Section, path: Keys, axes: Mapping[str, int] | None) -> None:
    """Note a change of a link, axis or chip that the network does not have."""
    given = section.given | keyed.meant(section.given, forms.LINK)
    if len(given & {"from", "to"}) == 1:
        one, other = ("from", "to") if "from" in given else ("to", "from")
        notes.wrong((*path, one), f"'{one}' is given without '{other}': give both, or neither", at_key=True, code="missing")
    if axes is None:
        return
    shape = tuple(axes.values())
    ranges = ", ".join(f"{name} from 0 to {length - 1}" for name, length in axes.items())
    for key in ("from", "to"):
        if isinstance(section[key], list) and not is_chip_of(section[key], shape):
            notes.wrong((*path, key), f"{key}: there is no chip {quote(section[key])}: give one coordinate for each axis, "
                        f"{ranges}", code="unknown-name")
    if section["axis"] is not None and section["axis"] not in axes:
        notes.wrong((*path, "axis"), "axis: " + resolve.unknown(section["axis"], axes, "axis of the topology"),
                    code="unknown-name")
    for axis, coordinate in (section["at"] or {}).items():
        if axis not in axes:
            notes.wrong((*path, "at", axis), "at: " + resolve.unknown(axis, axes, "axis of the topology"), at_key=True,
                        code="unknown-key")
        elif coordinate >= axes[axis]:
            notes.wrong((*path, "at", axis), f"at: '{coordinate}' is not on axis {axis}: give 0 to {axes[axis] - 1}")


def changed(notes: Notes, graph: nx.DiGraph, changes: Sequence[Change]) -> nx.DiGraph:
    """Return the graph with its links changed, in order. A change that does not fit is noted and left out."""
    return _made(notes, graph, changes, lambda left: change_links(graph, [one.what for one in left]))


def changed_later(notes: Notes, graph: nx.DiGraph, changes: Sequence[Change]) -> nx.DiGraph:
    """Return the graph with its changes in mid-run. A change that does not fit is noted and left out."""
    return _made(notes, graph, changes, lambda left: change_later(graph, [(one.time, one.what) for one in left]))


def _made(notes: Notes, graph: nx.DiGraph, changes: Sequence[Change],
          make: Callable[[Sequence[Change]], nx.DiGraph]) -> nx.DiGraph:
    left = list(changes)
    while left:
        try:
            return make(left)
        except TopologyError as error:
            wrong = left.pop(int(error.path[0]))
            notes.wrong(wrong.path, error.reason, code=error.code)
    return graph


def cutting(graph: nx.DiGraph, changes: Sequence[Change]) -> Keys | None:
    """Return the place of the first failure of `changes`, in order, that disconnects the network; None if there is none."""
    try:
        connected(read_links(graph))
    except TorusSimError:
        return None
    for count, change in enumerate(changes, start=1):
        if change.what.failed:
            try:
                connected(read_links(change_links(graph, [one.what for one in changes[:count]])))
            except TorusSimError:
                return change.path
    return None
