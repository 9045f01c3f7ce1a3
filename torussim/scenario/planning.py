"""What a scenario asks of a plan: the objective, the limits that a layout must meet, and what may be varied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torussim import resolve
from torussim.collectives.lower import ALGORITHMS
from torussim.layouts import LAYOUTS
from torussim.program import ALIKE
from torussim.scenario import forms, values
from torussim.scenario.notes import Notes
from torussim.scenario.values import Misread, quote, refuse

PATH = ("plan",)
FIVE = ("ws1d", "ws2d", "wg_x", "wg_xy", "wg_xyz")  # the paper's
CHOICES = ("attention", "weights", "activations", "kv_cache", "overlap")  # keys of a layout that a plan may vary


@dataclass(frozen=True)
class Limit:
    """A bound on one key of the result, in its unit; `memory.fits` is 1 where it holds."""

    what: str
    at_most: float | None = None
    at_least: float | None = None

    def met(self, value: float) -> bool:
        """Return whether a value keeps the limit."""
        return (self.at_most is None or value <= self.at_most) and (self.at_least is None or value >= self.at_least)

    def miss(self, value: float) -> float:
        """Return by which factor a value misses the limit; at most 1 where it keeps it."""
        over = value / self.at_most if self.at_most is not None else 0.0
        under = (self.at_least / value if value else float("inf")) if self.at_least is not None else 0.0
        return max(over, under)

    @property
    def unit(self) -> str:
        """The unit of the key; "" for a plain number."""
        return forms.RESULTS.get(self.what, "")


@dataclass(frozen=True)
class Planning:
    """What a plan looks for, and among what; an empty choice is that of the file.

    `layouts`: names, or "all" for every table of shardings. `mesh`: "whole" or "parts" (physical axes are cut too), or "file".
    """

    objective: str = "latency"
    limits: tuple[Limit, ...] = (Limit("memory.fits", at_least=1.0),)
    layouts: tuple[str, ...] | str = FIVE
    mesh: str = "whole"
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: {"attention": ("heads", "batch")})
    batch: tuple[int, ...] = ()
    collectives: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_planning(notes: Notes, given: Any) -> Planning:
    """Return what a plan is asked for; what is wrong with it is noted."""
    section = notes.section(forms.PLAN, given, PATH, "plan")
    vary = notes.section(VARY, section["vary"], (*PATH, "vary"), "vary") if section.sound("vary") else None
    limits = dict.fromkeys(_limits(notes, section["limits"])) if section.sound("limits") else {}
    if not any(limit.what == "memory.fits" for limit in limits):
        limits = {Limit("memory.fits", at_least=1.0): None, **limits}
    if vary is None:
        return Planning(section["objective"], tuple(limits))
    choices = {key: vary[key] for key in CHOICES if vary[key]}
    return Planning(section["objective"], tuple(limits), vary["layouts"], vary["mesh"], choices, vary["batch"],
                    vary["collectives"])


def describe_planning(planning: Planning) -> dict[str, Any]:
    """Return the record of what a plan is asked for."""
    limits: dict[str, Any] = {}
    for limit in planning.limits:
        bounds = {key: value for key in ("at_most", "at_least") if (value := getattr(limit, key)) is not None}
        limits[limit.what] = bool(limit.at_least) if limit.what == "memory.fits" else bounds
    vary: dict[str, Any] = {"layouts": planning.layouts if isinstance(planning.layouts, str) else list(planning.layouts),
                            "mesh": {"parts": True} if planning.mesh == "parts" else planning.mesh}
    vary |= {key: list(some) for key, some in planning.choices.items()}
    vary |= {"batch": list(planning.batch)} if planning.batch else {}
    vary |= {"collectives": {key: list(some) for key, some in planning.collectives.items()}} if planning.collectives else {}
    return {"objective": planning.objective, "limits": limits, "vary": vary}


# -- limits -------------------------------------------------------------------------------------------------------------


def _limits(notes: Notes, given: Any) -> list[Limit]:
    """Return the limits that are sound."""
    path = (*PATH, "limits")
    if not isinstance(given, Mapping):
        notes.wrong(path, f"limits: {quote(given)} is not a mapping: write one such as {{step_s: {{at_most: 50 ms}}}}")
        return []
    found = []
    for what, value in given.items():
        if what not in LIMITED:
            notes.wrong((*path, what), "limits: " + resolve.unknown(what, LIMITED, "result that can be limited"), at_key=True,
                        code="unknown-key")
            continue
        try:
            found += [LIMITED[what](what, value)]
        except Misread as error:
            notes.add(list(error.found), (*path, what), f"{what}: ")
    return found


def _fits(what: str, value: Any) -> Limit:
    if not isinstance(value, bool):
        refuse(f"{quote(value)} is not true or false")
    return Limit(what, at_least=float(value))


def _bounded(unit: str, most: float = values.LARGEST) -> Callable[[str, Any], Limit]:
    """Return a reader of {at_most, at_least} of a key with this unit."""
    reader = values.quantity(unit) if unit else values.number(most=most)

    def read(what: str, value: Any) -> Limit:
        if value is None or not isinstance(value, Mapping):
            refuse(f"{quote(value)} is no limit: write one such as {{at_most: 50 ms}} or {{at_least: 0.3}}")
        section, found = forms.read({"at_most": forms.Key(reader), "at_least": forms.Key(reader)}, value, what)
        if not found and section["at_most"] is None and section["at_least"] is None:
            refuse("the limit is empty: give at_most or at_least", "missing")
        if found:
            raise Misread(*found)
        if None not in (section["at_most"], section["at_least"]) and section["at_most"] < section["at_least"]:
            refuse(f"at_most {quote(value['at_most'])} is below at_least {quote(value['at_least'])}: nothing meets both", "clash")
        useless = "at_least" if unit == "s" else "at_most"
        if section[useless] is not None and not what.startswith("memory."):
            refuse(f"{useless}: a plan looks for the fastest layout, so that such a limit excludes the best: leave it out")
        return Limit(what, section["at_most"], section["at_least"])
    return read


LIMITED: Mapping[str, Callable[[str, Any], Limit]] = {
    **{what: _bounded(unit, 1.0 if what == "mfu" else values.LARGEST) for what, unit in forms.RESULTS.items()},
    "memory.fits": _fits}


# -- what is varied -----------------------------------------------------------------------------------------------------


def _some(reader: values.Reader, example: str) -> values.Reader:
    """Return a reader of one value or a list of different ones, as a tuple."""
    every = values.each(reader, example, least=1)
    return lambda value: tuple(dict.fromkeys(every(value if isinstance(value, list) else [value])))


def _layouts(value: Any) -> tuple[str, ...] | str:
    """Read which layouts: five, all, or names."""
    if value == "five":
        return FIVE
    if isinstance(value, str):
        value = values.one_of("choice of layouts", "five", "all", *LAYOUTS)(value)
    if value == "all":
        return "all"
    names: tuple[str, ...] = _some(values.one_of("layout", *LAYOUTS), "[ws1d, ws2d], or five, or all")(value)
    return names


def _mesh(value: Any) -> str:
    """Read how physical axes may make up logical ones."""
    if isinstance(value, Mapping):
        section, found = forms.read({"parts": forms.Key(values.flag, needed=True)}, value, "mesh")
        if found:
            raise Misread(*found)
        return "parts" if section["parts"] else "whole"
    if value not in ("whole", "file"):
        refuse(f"{quote(value)} is no way to vary the mesh: one of whole, file or {{parts: true}}", "unknown-name")
    return str(value)


def _algorithms(value: Any) -> dict[str, tuple[str, ...]]:
    """Read the algorithms of each kind of collective that may be taken."""
    kinds: list[str] = list(ALIKE)
    if not isinstance(value, Mapping):
        refuse(f"{quote(value)} is not a mapping: write one such as {{all_to_all: [dimension_wise, direct]}}")
    form = {kind: forms.Key(_some(values.one_of(f"algorithm of {kind}", *ALGORITHMS[kind]), f"[{ALGORITHMS[kind][0]}]"))
            for kind in kinds}
    section, found = forms.read(form, value, "collectives")
    if found:
        raise Misread(*found)
    return {kind: section[kind] for kind in kinds if section[kind]}


def _chosen(key: str, example: str) -> values.Reader:
    return _some(forms.LAYOUT[key].read, example)


VARY: forms.Form = {
    "layouts": forms.Key(_layouts, FIVE),
    "attention": forms.Key(_chosen("attention", "[heads, batch]"), ("heads", "batch")),
    "mesh": forms.Key(_mesh, "whole"),
    "weights": forms.Key(_chosen("weights", "[bf16, int8]"), ()),
    "activations": forms.Key(_chosen("activations", "[bf16]"), ()),
    "kv_cache": forms.Key(_chosen("kv_cache", "[bf16, int8]"), ()),
    "overlap": forms.Key(_chosen("overlap", "[true, false]"), ()),
    "batch": forms.Key(_some(values.whole(1, forms.MAX_SIZE), "[64, 128, 256]"), ()),
    "collectives": forms.Key(_algorithms, {}),
}

