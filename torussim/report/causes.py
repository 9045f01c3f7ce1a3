"""Where the time of a run goes, what is to blame for it, and what would help: from the keys of its result alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torussim.analysis import advances, of_layers
from torussim.pipeline import HAND_OVER, of_microbatch
from torussim.report.headline import missing
from torussim.report.phrases import Paint, change, count, fault, faulty, host_of, link, plain, seconds_of, value, wrapped
from torussim.result import Result
from torussim.tables import table
from torussim.units import show

PARTS = {"compute": "computing, and communication that it hides", "exposed_collective": "waiting for communication",
         "overhead": "fixed costs (launches, overheads)", "bubble": "waiting for the stage before (bubble)"}
SHOWN = 3  # operations
UNEVEN = 1.05  # the load of the busiest chip, in means over all chips, from which it is named
WORTH = 5e-3  # of the time: what saves less is not named


@dataclass(frozen=True)
class Remedy:
    """A change that a result knows the effect of. `seconds`: what its time would be then; None where that is not known."""

    what: str
    seconds: float | None = None


def where(result: Result) -> list[str]:
    """Return the shares of the time of a step as a table; nothing for a bare program."""
    k = result.keys
    if "breakdown_s" not in k:
        return []
    rows = [(PARTS[key], show(seconds, "s"), f"{seconds / k['step_s']:.1%}", "#" * round(30 * seconds / k["step_s"]))
            for key, seconds in k["breakdown_s"].items()]
    return ["Where the time goes (on the chip that finishes last)", table(rows, "lrrl")]


def blame(result: Result, paint: Paint = plain) -> list[str]:
    """Return what is to blame: faults, the host, the busiest link and who uses it, the operations that take longest."""
    lines = list[str]()
    for text, bad in blamed(result):
        lines += [paint(line, "bad") if bad else line for line in wrapped(text, "    ", "  ")]
    return ["What to blame", *lines] if lines else []


def blamed(result: Result) -> list[tuple[str, bool]]:
    """Return what is to blame as sentences, and whether each is about a fault."""
    k = result.keys
    found = [(text, True) for text in _faults(k.get("faults"))]
    got, host, busiest = seconds_of(k), host_of(k), k["links"]["busiest"]
    if host > WORTH * got:
        share = f"{show(host, 's')}, {host / got:.0%} of the time"
        found.append((f"host: {share}, before the chips begin (chip.step_overhead)", False))
    if busiest and busiest[0]["bytes"]:
        first = busiest[0]
        users = [f"; {share:.0%} of its bytes are of {name}" for name, share in first["users"].items()]  # none in the last pass
        found.append((f"busiest link {link(first, '->')}: busy {first['busy']:.1%} of the time{''.join(users[:1])}", False))
    loads = [found["experts"]["busiest"] for found in k.get("layout", {}).get("as_run", {}).values() if "experts" in found]
    if max(loads, default=1.0) > UNEVEN:
        found.append((f"load of the experts: the busiest chip has {max(loads):.3g} times the mean", False))
    longest = operations(result)
    if longest:
        said = ", ".join(f"{name} {share:.0%}" for name, share in list(longest.items())[:SHOWN])
        inside = "a layer" if "model" in k["scenario"] else "the program"
        found.append((f"longest operations of {inside}: {said}", False))
    return found


def operations(result: Result) -> dict[str, float]:
    """Return the share of the mean block run that each operation of the blocks takes, the largest first.

    An operation that a model has in layers of several kinds, as attention@0 and attention@5, has the time of all of them, and one
    of a pipeline that of all its ticks, without the waits for the stage before. Of operations that overlap, the one that ends
    later has the time after the end of the other.
    """
    model, each = "model" in result.keys["scenario"], dict[str, float]()
    found = [(o, seconds) for o, seconds in advances(result.timeline) if not (model and of_microbatch(o.name) == HAND_OVER)]
    whole = sum(seconds for _, seconds in found)
    for o, seconds in found:
        name = of_layers(o.name) if model else of_microbatch(o.name)
        each[name] = each.get(name, 0.0) + seconds
    return {name: seconds / whole for name, seconds in sorted(each.items(), key=lambda one: -one[1]) if seconds > 0}


def _faults(found: Mapping[str, Any] | None) -> list[str]:
    """Return what the faults of the network cost: all together, and the worst three."""
    if not found:
        return []
    many, lines = found["count"], list[str]()
    if many > 1:
        among = "" if found["tried"] == many else f" of the {found['tried']} that are likely to cost most"
        lines.append(f"{many:,} faults cost {found['cost']:.1%} of the time together. The worst{among}, each alone:")
    return lines + [f"{fault(one)}: {'costs' if one['cables'] == 1 else 'cost'} {one['cost']:.1%} of the time"
                    for one in found["worst"]]


def remedies(result: Result) -> list[Remedy]:
    """Return what would make a run faster, or fit, as far as its result knows: what saves most first, unknown times last."""
    k = result.keys
    got, found = seconds_of(k), [*_of_faults(k.get("faults"))]
    without = k["links"].get("without_busiest")
    if without:
        which = "busiest link" if without["cables"] == 1 else count(without["cables"], "busiest link")
        found.append(Remedy(f"infinite bandwidth on the {which}", without["step_s"]))
    host = host_of(k)
    if host:
        found.append(Remedy("prepare each pass while the pass before runs", max(host, got - host)))
    layout = k.get("layout")
    if layout and layout["other"]:
        found.append(Remedy(f"layout.ffn: {layout['other']['name']} (by the ratio of closed forms)", layout["other"]["step_s"]))
    found = sorted((one for one in found if one.seconds is not None and one.seconds < (1 - WORTH) * got),
                   key=lambda one: one.seconds or 0.0)
    if not result.fits:
        found.append(Remedy(_room(k["memory"])))
    waits = "breakdown_s" in k and k["breakdown_s"]["exposed_collective"] > WORTH * got
    if waits and _no_overlap(k["scenario"]["layout"]):
        found.append(Remedy("layout.overlap: true, so that matmuls hide communication"))
    return found


def _of_faults(found: Mapping[str, Any] | None) -> list[Remedy]:
    if not found:
        return []
    many = found["count"]
    lines = [Remedy("repair both faults" if many == 2 else f"repair all {many:,} faults", found["step_s"])] if many > 1 else []
    for one in found["worst"]:
        lines.append(Remedy(f"repair the {faulty(one)}", one["step_s"]))
        if one["as_dead"]:
            lines.append(Remedy(f"take the {faulty(one)} out of use", one["as_dead"]["step_s"]))
    return lines


def _room(memory: Mapping[str, Any]) -> str:
    """Return what makes a run fit that does not."""
    parts = {name.replace("kv_cache", "KV cache"): memory[name] for name in ("weights", "kv_cache", "activations")}
    largest = max(parts, key=lambda name: parts[name])
    return f"{show(missing(memory), 'B')} less memory a chip: most of it are {largest}".replace("are KV", "is KV")


def _no_overlap(layout: Mapping[str, Any]) -> bool:
    """Return whether the layout of a record, or that of each phase, has no overlap."""
    layouts = [layout] if "overlap" in layout else [one for one in layout.values() if isinstance(one, Mapping)]
    return bool(layouts) and all(value(one.get("overlap")) is False for one in layouts)


def helps(result: Result, paint: Paint = plain) -> list[str]:
    """Return what would help as a table, and what is better left as it is."""
    k = result.keys
    got, known = seconds_of(k), remedies(result)
    rows = [(one.what, show(one.seconds, "s"), change(one.seconds, got)) for one in known if one.seconds is not None]
    lines = [paint(line, "good") for line in table(rows, "lrr").splitlines()] if rows else []
    for one in known:
        if one.seconds is None:
            lines += wrapped(one.what, "    ", "  ")
    for text in left_as_is(k):
        lines += wrapped(text, "    ", "  ")
    return ["What would help", *(lines or [f"  {no_help(k)}"])]


def left_as_is(k: Mapping[str, Any]) -> list[str]:
    """Return which faulty links are better left in use."""
    return [f"leave the {faulty(one)} in use: out of use it would cost {one['as_dead']['cost']:.1%} of the time"
            for one in (k.get("faults") or {"worst": ()})["worst"] if one["as_dead"] and one["as_dead"]["cost"] >= one["cost"]]


def no_help(k: Mapping[str, Any]) -> str:
    """Return what is said where no change is known that would help."""
    return "nothing that this run knows of" + ("; `torussim plan` searches other layouts" if "model" in k["scenario"] else "")
