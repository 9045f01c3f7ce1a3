"""The sections of a page that go into detail: operations, memory, links, faults; for one run or several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torussim.page.html import Html, Part, bars, escaped, exact, section, table, tag
from torussim.page.run import Run
from torussim.page.sections import SAME, headed, held, letter, seconds, share, size
from torussim.report import KINDS
from torussim.report.phrases import node
from torussim.units import show

ALGORITHMS = 3  # slower ones that are named
HELD = {"weights": "weights", "kv_cache": "KV cache", "activations": "activations"}


def operations(runs: Sequence[Run]) -> Html:
    """Return the operations of one block, on the chip that finishes last."""
    return section("operations", "Operations of one block", tag(
        "p", "On the chip that finishes last. Bytes: of HBM or of the collective, a chip. Least: what any algorithm needs, from "
        "the first chip's start to the last one's end.", class_="faint"), _beside(runs) if len(runs) > 1 else None,
        [tag("details", tag("summary", "All of ", letter(run), " ", run.result.name), _operations(run)) if run.label
         else _operations(run) for run in runs])


def _beside(runs: Sequence[Run]) -> Html:
    """Return how long each operation takes in each run, those unlike the first run's marked."""
    found = [{o["name"]: o for o in run.keys["operations"]} for run in runs]
    rows: list[list[Part]] = []
    for name in dict.fromkeys(name for one in found for name in one):
        o = next(one[name] for one in found if name in one)
        cells: list[Part] = [name, KINDS.get(o["kind"], o["kind"])]
        for one in found:
            took, first = (each[name]["end_s"] - each[name]["start_s"] if name in each else None for each in (one, found[0]))
            change = f" ({took / first - 1:+z.1%})" if took is not None and first and abs(took / first - 1) > SAME else ""
            unlike = change or (took is None) != (first is None)
            cells.append(tag("mark", seconds(took), change) if unlike else seconds(took))
        rows.append(cells)
    head: list[Part] = ["operation", "kind", *(tag("span", letter(run), " takes") for run in runs)]
    return table("What each operation takes; the change is to the first run", head, rows, sides="ll" + "r" * len(runs),
                 name="takes")


def _operations(run: Run) -> Html:
    longest = max((o["end_s"] - o["start_s"] for o in run.keys["operations"]), default=0.0) or 1.0
    rows = [[o["name"], KINDS.get(o["kind"], o["kind"]), _axes(o), size(o["bytes"]), seconds(o["start_s"]),
             exact(o["end_s"] - o["start_s"], show(o["end_s"] - o["start_s"], "s")),
             bars(o["name"], [(o["name"], (o["end_s"] - o["start_s"]) / longest,
                               "compute" if o["kind"] == "compute" else "collective")]),
             seconds(o["bound_s"]), share(o["of_limit"]), _how(o)] for o in run.keys["operations"]]
    head = ["operation", "kind", "axes", "bytes", "starts", "takes", "", "least", "of limit", "how"]
    several = [o["section"] for o in run.keys["operations"] if "section" in o]
    if several:
        head, rows = ["of", *head], [[name, *row] for name, row in zip(several, rows)]
    return table(f"Operations {run.label}".strip(), head, rows, sides=f"{'l' if several else ''}lllrrrlrrl",
                 name=f"ops{run.label}", hide_caption=True)


def _how(o: Mapping[str, Any]) -> str:
    others = list(o["alternatives"].items())[1:1 + ALGORITHMS]
    slower = ", ".join(f"{name} {show(value, 's')}" for name, value in others)
    return str(o["algorithm"]) + (f" (by estimate the fastest; {slower})" if slower else "")


def _axes(o: Mapping[str, Any]) -> str:
    if not o["axes"]:
        return "-" if o["chips"] == 1 else f"{o['chips']} chips"
    return ("" if all(len(a) == 1 for a in o["axes"]) else ",").join(o["axes"])


def memory(runs: Sequence[Run]) -> Html:
    """Return what each chip holds; empty for programs alone."""
    some = [run for run in runs if "memory" in run.keys]
    if not some:
        return Html()
    each = [run.keys["memory"] for run in some]
    room = max(max(held(one), one["capacity"]) for one in each)
    drawn = []
    for run, one in zip(some, each):
        parts = [(name, one[key] / room, key) for key, name in HELD.items()]
        parts.append(("free", max(0.0, one["capacity"] - held(one)) / room, "free"))
        drawn.append(tag("div", letter(run), bars(f"memory {held(one) / one['capacity']:.0%} used", parts), class_="row"))
    rows: list[list[Part]] = [
        [tag("span", tag("span", class_=f"key {key}"), name), *(cell for one in each for cell in (size(one[key]), share(
            one[key] / one["capacity"])))] for key, name in HELD.items()]
    rows += [["in all", *(cell for one in each for cell in (size(held(one)), share(held(one) / one["capacity"])))],
             ["capacity", *(cell for one in each for cell in (size(one["capacity"]), ""))],
             ["longest context", *(cell for one in each for cell in (exact(one["longest_context"], f"{one['longest_context']:,}"),
                                                                     "tokens"))]]
    head: list[Part] = ["", *(cell for run in some for cell in (tag("span", letter(run), " bytes"), "share"))]
    missing = [tag("p", letter(run), f" It does not fit: {show(held(one) - one['capacity'], 'B')} a chip are missing. The times "
                   "are those of a larger memory.", class_="bad") for run, one in zip(some, each) if not one["fits"]]
    return section("memory", "Memory of a chip", drawn, table("Memory", head, rows, sides="l" + "rr" * len(some), name="held",
                                                             hide_caption=True), missing)


def links(run: Run) -> Html:
    """Return how busy the links are by axis, and which are the busiest."""
    found = run.keys["links"]
    if not found["busiest"]:
        return tag("p", "No link sends anything.", class_="faint")
    rows = [["no axis" if axis == "none" else axis, size(use["bytes"]), share(use["mean_busy"]), share(use["max_busy"])]
            for axis, use in found["per_axis"].items()]
    busiest = [[f"{node(one['from'])}\u00a0→\u00a0{node(one['to'])}", share(one["busy"]), size(one["bytes"]),
                ", ".join(f"{name} {part:.0%}" for name, part in list(one["users"].items())[:3])] for one in found["busiest"]]
    by_axis = table("Links by axis, whole run", ["axis", "bytes", "busy in the mean", "at most"], rows, sides="lrrr",
                    name=f"axes{run.label}")
    most = table("The busiest links, whole run", ["from → to", "busy", "bytes", "used by"], busiest, sides="lrrl",
                 name=f"busiest{run.label}")
    return escaped([by_axis, tag("details", tag("summary", "The busiest links"), most) if run.label else most])


def faults(runs: Sequence[Run]) -> Html:
    """Return what faults cost; empty where no network has any."""
    some = [run for run in runs if run.keys.get("faults")]
    return section("faults", "What the faults cost", headed(some, _faults)) if some else Html()


def _faults(run: Run) -> Html:
    found, got = run.keys["faults"], run.seconds
    count = found["count"]
    said = [f"{count:,} fault{'s' * (count != 1)}; without {'it' if count == 1 else 'them'} ", seconds(found["step_s"]),
            " in place of ", seconds(got), f" ({-found['cost']:+z.1%})."]
    rows = []
    for one in found["worst"]:
        which = f"{node(one['from'])} - {node(one['to'])}" if one["cables"] == 1 else \
            f"{one['cables']:,} cables {' '.join(one['changes'])}"
        dead = one["as_dead"]
        advice = "" if dead is None else f"{dead['cost']:.1%}: {'take it out' if dead['cost'] < one['cost'] else 'leave it in'}"
        bandwidth = "-" if not one["bandwidth"] else f"{show(one['bandwidth'], 'B/s')} in place of {show(one['built'], 'B/s')}"
        rows.append([which, one["kind"], bandwidth, share(one["cost"]), seconds(one["step_s"]), advice])
    return escaped([tag("p", said), table("The worst faults, each repaired alone", ["cable", "fault", "bandwidth", "costs",
                                                                                   "time without it", "would cost if dead"],
                                          rows, sides="lllrrl", name=f"worst{run.label}")])
