"""The first lines of a report: the verdict, what was run, how fast it is, and whether it is what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torussim.report.phrases import LITTLE, count, faulty, host_of, link, scalar, seconds_of, value
from torussim.result import NO_ROOM, Result, nodes_of, yielded
from torussim.units import show


def verdict(result: Result) -> str:
    """Return the answer of a run in a sentence or two, without a line break.

    It says how long a step takes, and what it would take without the network's faults, or, where there are none, with infinite
    bandwidth on the busiest links. It begins with what makes the time doubtful: passes that were not simulated, or too little
    memory. It ends with expectations that were missed.
    """
    k = result.keys
    got, fits = seconds_of(k), result.fits
    takes = "takes" if fits else "would take"
    if "step_s" not in k:
        what, again = f"The program {takes} {show(got, 's')}", "it"
    elif "prefill_s" in k:
        what = f"The prefill {takes} {show(k['prefill_s'], 's')} and a decode step {show(got, 's')}{yielded(k)}"
        again = "a decode step"
    elif k["scenario"]["workload"]["phase"] == "prefill":
        what, again = f"The prefill {takes} {show(got, 's')}", "it"
    else:
        what, again = f"A decode step {takes} {show(got, 's')}{yielded(k)}", "it"
    partial = (f"PARTIAL: {k['partial']['passes']:,} of {k['partial']['of']:,} passes were simulated. " if "partial" in k else "")
    if not fits:
        lacks = f"{show(missing(k['memory']), 'B')} a {'core' if 'cores' in k else 'chip'} are missing"
        what = f"{NO_ROOM}: {lacks}. With a larger memory {what[0].lower()}{what[1:]}"
    return f"{partial}{what}{_without(k, got, again)}.{_missed(k)}"


def _without(k: Mapping[str, Any], got: float, again: str) -> str:
    """Return what the time would be without what is to blame first: faults of the network, else the busiest links."""
    faults = k.get("faults")
    if faults:
        worst, many = faults["worst"][0], faults["count"]
        if abs(faults["cost"]) < LITTLE:
            alone = f"the {faulty(worst)} {'costs' if worst['cables'] == 1 else 'cost'}"
            return f"; {f'its {many:,} faults cost' if many > 1 else alone} less than 0.1%"
        how = f"without its {many:,} faults" if many > 1 else _repaired(worst)
        return f"; {how} {again} would take {show(faults['step_s'], 's')}"
    without = k["links"].get("without_busiest")
    if not without or not got:
        return "" if "faults" in k else "; no data is sent"
    busiest = k["links"]["busiest"][0]
    where = f"the busiest link {link(busiest)}" if without["cables"] == 1 else f"its {without['cables']:,} busiest links"
    if 1 - without["step_s"] / got < LITTLE:
        return f"; infinite bandwidth on {where} would save less than 0.1%"
    return f"; with infinite bandwidth on {where} {again} would take {show(without['step_s'], 's')}"


def _repaired(fault: Mapping[str, Any]) -> str:
    """Return the condition under which a fault is gone."""
    which = faulty(fault)
    if fault["kind"] == "dead":
        return f"with the {which} repaired"
    noun = {"failing": "failure", "changing": "changes"}.get(fault["kind"])
    return f"without the {noun} of the {which.replace(fault['kind'] + ' ', '', 1)}" if noun else f"without the {which}"


def _missed(k: Mapping[str, Any]) -> str:
    late = [e for e in k.get("expect", ()) if e["ok"] is False]
    if not late:
        return ""
    first = late[0]
    said = f" MISSED: {first['what']} is {scalar(first['what'], first['got'])}, not {scalar(first['what'], first['value'])}"
    return said + (f", and {count(len(late) - 1, 'other expectation')}." if late[1:] else " as expected.")


def missing(memory: Mapping[str, Any]) -> float:
    """Return the bytes by which a run is too large for its memory; 0 where it fits."""
    return float(max(memory["weights"] + memory["kv_cache"] + memory["activations"] - memory["capacity"], 0.0))


def subtitle(result: Result) -> str:
    """Return what a picture of a run is of, in a line."""
    k = result.keys
    if "step_s" not in k:
        return f"{nodes_of(k)}, done after {show(k['makespan_s'], 's')}"
    what = "prefill" if k["scenario"]["workload"]["phase"] == "prefill" else "decode step"
    host = f" (host {show(host_of(k), 's')})" if host_of(k) else ""
    return f"{nodes_of(k)}, {what} {show(k['step_s'], 's')}{host}, MFU {k['mfu']:.1%}" + ("" if result.fits else f", {NO_ROOM}")


def network(result: Result) -> str:
    """Return model, chips and network of a run in a line, with what the reader of the file has to say of the network."""
    k = result.keys
    scenario = k["scenario"]
    topology = scenario["topology"]
    sized = topology["kind"] == "torus" or ":" in topology["kind"]  # the shape of others is not that of their chips
    shape = "x".join(str(n) for n in topology.get("shape", []) if sized) or topology["kind"]
    drafts = scenario.get("workload", {}).get("draft_model")
    beside = f" with the draft model {value(drafts['name'])}" if drafts else ""
    model = f"{value(scenario['model']['name'])}{beside}, " if "model" in scenario else ""
    notes = f": {'; '.join(result.notes)}" if result.notes else ""
    return f"{model}{nodes_of(k)} ({value(scenario['chip']['name'])}), {shape}{notes}"


def _all(k: Mapping[str, Any]) -> str:
    """Return what the whole of a run is."""
    workload = k["scenario"]["workload"]
    return f"all {workload['tokens']:,} steps" if workload["phase"] == "decode" else "prefill and all steps"


def rates(result: Result) -> list[str]:
    """Return how fast a run is, and how sure its time is: a line each."""
    k, lines = result.keys, list[str]()
    if "step_s" in k:
        both = "" if "generated_tokens_per_s" not in k else (
            f" ({k['prompt_tokens_per_s']:,.0f} prompt tokens/s, then {k['generated_tokens_per_s']:,.0f} generated tokens/s)")
        whole = f", {_all(k)} {show(k['latency_s'], 's')}" if k["latency_s"] != k["step_s"] else ""
        lines.append(f"{result.throughput}{both}, {k['chip_s_per_token'] * 1e3:.3g} chip-ms a token, MFU {k['mfu']:.1%}{whole}")
    if k["range_s"] is not None:
        low, high = (show(seconds, "s") for seconds in k["range_s"])
        lines.append(f"probably between {low} and {high} (one standard deviation of the chip's parameters)")
    if k["validated"] is None:
        lines.append("not validated on this chip: its parameters were not compared with measured times of whole steps")
    return lines


def expectations(result: Result, *, sources: bool) -> list[tuple[str, bool | None]]:
    """Return a line for each value that was expected, and whether it was met; None where no tolerance is given."""
    found = []
    for e in result.keys.get("expect", ()):
        met = "" if e["ok"] is None else f", within {e['within']:.0%}" if e["ok"] else f", MISSED: beyond {e['within']:.0%}" \
            if e["within"] is not None else ", MISSED"
        off = "" if e["error"] is None else f" ({e['error']:+z.1%}{met})"
        found.append((f"expected {e['what']} {scalar(e['what'], e['value'])}, got {scalar(e['what'], e['got'])}{off}"
                      + (f" [{e['source']}]" if e["source"] and sources else ""), e["ok"]))
    return found
