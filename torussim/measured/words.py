"""What a measured run says, as text for a terminal and as keys for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torussim import units
from torussim.tables import table
from torussim.topology.check import Node

if TYPE_CHECKING:
    from torussim.measured.verdict import Finding, Place, Row, Verdict

NAMES = 6  # that were not understood
POOR = 0.5  # share of what deviates: findings that explain less are not to be relied on
GAIN = 0.001  # of the step: what gains less by its repair is told apart
OFF = 1.02  # a common factor that is nearer to 1 is not told
FAR = 1.15  # a common factor that is farther from 1 is a warning
UNMEASURED = 0.1  # of the operations that take time: if more were never measured, that is a warning
LOOPED = "compute, looped"
KINDS = {"compute": "computations", "collective": "collectives"}


def text(verdict: Verdict) -> str:
    """Return the report: what is slow, then each operation measured beside simulated."""
    parts = ["\n".join([_head(verdict), *(f"Warning: {one}" for one in warnings(verdict)), *_first(verdict)])]
    parts += [_finding(verdict, one) for one in verdict.findings if not one.minor]
    parts += ["\n".join(_operation(row) for row in verdict.slow)] if verdict.slow else []
    minor = [f"  {_slow(one)} Probability {_percent(one.probability)}." for one in verdict.findings if one.minor]
    parts += ["\n".join(["Also unlike the scenario, without effect on the step:", *minor])] if minor else []
    parts += ["\n".join(filter(None, [_common(verdict), *_lost(verdict)]))]
    parts.append(_table(verdict))
    return "\n\n".join(filter(None, parts))


def _head(verdict: Verdict) -> str:
    where = f"times of {verdict.chips[0]} of {verdict.chips[1]} chips" if verdict.chips else "times without chips"
    left = f" ({verdict.times - verdict.used:,} more are left out)" if verdict.used < verdict.times else ""
    return f"{verdict.name}: {verdict.used:,} {where}{left}, {verdict.file}"


def warnings(verdict: Verdict) -> list[str]:
    """Return why the verdict may be wrong as a whole, a sentence or two each."""
    found = []
    if verdict.foreign and verdict.foreign[0]:
        lost, all_of_them = verdict.foreign
        found.append(f"{lost:,} of the {all_of_them:,} chips of the file {'is' if lost == 1 else 'are'} not in the scenario.")
    timed = [row for row in verdict.rows if row.simulated_s]
    never = sum(not row.count for row in timed)
    if never > UNMEASURED * len(timed):
        found.append(f"{never} of the {len(timed)} operations of the scenario that take time {'was' if never == 1 else 'were'} "
                     "never measured. Is this the scenario that was run?")
    far = [(KINDS[kind], f"{factor:.3g} times") for kind, factor in verdict.common.items() if _far(factor)]
    if far:
        (first, much), *rest = far
        also = "".join(f", and {kind} {factor}," for kind, factor in rest)
        found.append(f"{first} take {much}{also} as long as simulated: is the chip of the scenario the right one?")
    if verdict.findings and verdict.explained is not None and verdict.explained < POOR:
        found.append(f"what was found explains only {units.percent(max(0.0, verdict.explained))} of what deviates from chip to "
                     "chip: do not rely on it.")
    return [one[0].upper() + one[1:] for one in found]


def _far(factor: float) -> bool:
    return not 1 / FAR <= factor <= FAR


def _first(verdict: Verdict) -> list[str]:
    """Return the sentence that answers."""
    step, found = units.show(verdict.step_s, "s"), units.show(verdict.found_s, "s")
    if any(not one.minor for one in verdict.findings):
        return [f"A step takes {found} with what was found below, and {step} without it (both simulated)."]
    noise = units.percent(verdict.noise)
    if verdict.findings:
        return [f"Nothing that was found slows the step (a step takes {step}, simulated)."]
    what = "link and no chip" if verdict.chips else "axis and no kind of link"
    return [f"No {what} is slower than the scenario says (a step takes {step}, simulated; single times scatter by {noise})."]


def _finding(verdict: Verdict, one: Finding) -> str:
    """Return what is slow, how sure that is, and what its repair gains."""
    sure = _percent(one.probability)
    lines = [f"Slow: {_slow(one)}", f"  Probability {sure}, given that the scenario is right but for this."]
    if one.places[0].kind == "class":
        lines.append("  Which link it is cannot be told: the times have no chips. It can be one link, or all of them.")
    elif len({frozenset(place.ends) for place in one.places}) > 1:
        lines.append("  The times do not tell which of them it is.")
    repaired, found = units.show(one.repaired_s, "s"), units.show(verdict.found_s, "s")
    gain = 1 - one.repaired_s / verdict.found_s
    if gain < GAIN:
        lines.append("  Its repair alone gains nothing: another that is slow hides it. Together they slow the step.")
    else:
        less = f"{repaired} in place of {found}" if repaired != found else f"{units.percent(gain)} less than {found}"
        lines.append(f"  With its full speed, a step would take {less} (simulated).")
    return "\n".join(lines)


def _slow(one: Finding) -> str:
    """Return what is slow, and how slow."""
    names, (low, high) = _places(one.places), one.between
    if one.places[0].kind == "chip":
        return f"{names} computes {one.slower:.3g} times as slowly as simulated ({low:.3g} to {high:.3g})."
    now, full = one.bandwidth or (0.0, 0.0)
    return (f"{names}: {units.show(now, 'B/s')} in place of {units.show(full, 'B/s')} ({units.show(full / high, 'B/s')} to "
            f"{units.show(full / low, 'B/s')}).")


def _percent(probability: float) -> str:
    return "over 99.9 %" if probability > 0.999 else f"{100 * probability:.3g} %"


def _places(places: tuple[Place, ...]) -> str:
    """Return in words what it may be; a cable and its directions are one."""
    by_cable: dict[Any, list[Place]] = {}
    for place in places:
        by_cable.setdefault((place.kind, frozenset(place.ends), place.name), []).append(place)
    return " or ".join(_thing(same) for same in by_cable.values())


def _thing(same: list[Place]) -> str:
    """Return one thing in words; of a cable both directions, one, or that it cannot be told."""
    first = same[0]
    if first.kind == "class":
        return first.name
    if first.kind == "chip":
        return f"chip {node(first.ends[0])}"
    a, b = map(node, first.ends)
    if len(same) > 1:
        return f"link {a}-{b} (in one direction or both)"
    return f"link {a} to {b}" if first.one_way else f"link {a}-{b}"


def node(one: Node) -> str:
    """Return a chip as its coordinates, a switch as its name."""
    return f"({','.join(map(str, one))})" if isinstance(one, tuple) else str(one)


def _operation(row: Row) -> str:
    low, high = row.between or (0.0, 0.0)
    what, others = ("operation", "computations") if row.kind == "compute" else (row.kind.replace("_", "-"), "collectives")
    return (f"Slow: the {what} {row.name}, on all chips: {row.slower:.3g} times as long as other {others}, compared with the "
            f"simulation ({low:.3g} to {high:.3g}).")


def _common(verdict: Verdict) -> str:
    """Return by how much all of a kind is off, where it is and there is no warning of it."""
    off = [f"{KINDS[kind]} take {factor:.3g} times as long as simulated" for kind, factor in verdict.common.items()
           if not (1 / OFF < factor < OFF or _far(factor))]
    return f"In general {' and '.join(off)}; that is no link's fault: `calibrate` fits the chip." if off else ""


def _lost(verdict: Verdict) -> list[str]:
    """Return which names were not understood."""
    lines = []
    for what, names in verdict.lost.items():
        if names:
            ordered = sorted(names.items(), key=lambda item: -item[1])
            shown = ", ".join(f"{name[:40]} ({count:,})" for name, count in ordered[:NAMES])
            more = f" and {len(ordered) - NAMES} more" if len(ordered) > NAMES else ""
            lines.append(f"Not understood, and left out: {what} {shown}{more}. The section `trace` of the scenario maps them.")
    return lines


def _table(verdict: Verdict) -> str:
    """Return each operation measured, simulated and at its bound."""
    more, worst = ["with the above"] if verdict.findings else [], ["worst", "on"] if verdict.chips else []
    head = ["operation", "kind", "measured", "simulated", "ratio", *worst, *more, "bound", "times"]
    rows = [head]
    for row in verdict.rows:
        ratio = row.measured_s / row.simulated_s if row.measured_s is not None and row.simulated_s else None
        rows.append([row.name, _kind(row), "-" if row.measured_s is None else units.show(row.measured_s, "s"),
                     units.show(row.simulated_s, "s"), "-" if ratio is None else f"{ratio:.2f}",
                     *(["-" if row.worst is None else f"{row.worst:.2f}", "-" if row.worst_chip is None else node(row.worst_chip)]
                       if worst else []),
                     *([units.show(row.explained_s, "s")] if verdict.findings else []), units.show(row.bound_s, "s"),
                     f"{row.count:,}"])
    return table(rows, "ll" + "r" * (len(head) - 2)) + "\n  Medians over chips and repetitions." + (
        f"\n  {LOOPED}: runs together with a collective, so that a slow link makes it slow too."
        if any(row.looped for row in verdict.rows) else "")


def _kind(row: Row) -> str:
    return LOOPED if row.looped else row.kind.replace("_", "-")


def record(verdict: Verdict) -> dict[str, Any]:
    """Return all of a verdict, fit for JSON; times in seconds, bandwidths in bytes/s."""
    return {"scenario": verdict.name, "trace": verdict.file, "step_s": verdict.step_s, "found_s": verdict.found_s,
            "findings": [_record(one) for one in verdict.findings],
            "explained": verdict.explained, "slow_operations": [row.name for row in verdict.slow],
            "operations": [vars(row) | {"between": row.between and list(row.between),
                                        "worst_chip": row.worst_chip and _end(row.worst_chip)} for row in verdict.rows],
            "common": dict(verdict.common), "noise": verdict.noise, "times": verdict.times,
            "used": verdict.used, "warnings": warnings(verdict),
            "chips": None if verdict.chips is None else {"measured": verdict.chips[0], "of": verdict.chips[1]},
            "chips_of_file": verdict.foreign and {"not_in_scenario": verdict.foreign[0], "of": verdict.foreign[1]},
            "not_understood": {what: dict(names) for what, names in verdict.lost.items()}}


def _record(one: Finding) -> Mapping[str, Any]:
    places = [{"kind": place.kind, **({"name": place.name} if place.name else {}),
               **({"from": _end(place.ends[0]), "to": _end(place.ends[1]), "both_ways": not place.one_way}
                  if place.kind == "link" else {"chip": _end(place.ends[0])} if place.kind == "chip" else {})}
              for place in one.places]
    rates = {"bandwidth": one.bandwidth[0], "nominal_bandwidth": one.bandwidth[1]} if one.bandwidth else {}
    return {"places": places, "probability": one.probability, "slower": one.slower, "between": list(one.between), **rates,
            "repaired_s": one.repaired_s, "minor": one.minor}


def _end(one: Node) -> Any:
    return list(one) if isinstance(one, tuple) else str(one)
