"""A result in words and tables, for a terminal: how long, where the time goes, and what is to blame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torussim.closed_forms import Charge
from torussim.interpolation import FEW
from torussim.program import WITH_ROOT
from torussim.result import NO_ROOM, Result, nodes_of
from torussim.result_keys import SCALARS
from torussim.tables import table
from torussim.units import show

MOST = 4  # other algorithms that are named
WORTH_SAYING = 1.05  # ratio to the paper's charge from which a collective is worth a sentence
KINDS: dict[str, str] = {
    "all_gather": "all-gather", "reduce_scatter": "reduce-scatter", "all_reduce": "all-reduce", "all_to_all": "all-to-all",
    "permute": "permute", **{kind: kind for kind in WITH_ROOT}}


def text(result: Result) -> str:
    """Return the report of a run: a screen or two of text."""
    k = result.keys
    parts = [_head(result)]
    if "breakdown_s" in k:
        parts.append(_where(k))
    parts += [_passes(k["engine"]), _ran(k), _others(k)]
    if "layout" in k:
        parts += [_layout(k["layout"]), _as_run(k["layout"]["as_run"])]
    parts.append(_misleads(result))
    parts.append(_operations(k["operations"], k.get("cores", k["chips"])))
    if "memory" in k:
        parts.append(_memory(k["memory"], "core" if "cores" in k else "chip"))
    got = k.get("step_s", k["makespan_s"])
    parts.append(_links(k["links"], got))
    parts.append(_faults(k.get("faults"), got))
    return "\n\n".join(part for part in parts if part)


def subtitle(result: Result) -> str:
    """Return what a picture of a run is of, in a line."""
    k = result.keys
    if "step_s" not in k:
        return f"{nodes_of(k)}, done after {show(k['makespan_s'], 's')}"
    what = "prefill" if k["scenario"]["workload"]["phase"] == "prefill" else "decode step"
    return f"{nodes_of(k)}, {what} {show(k['step_s'], 's')}, MFU {k['mfu']:.1%}" + ("" if result.fits else f", {NO_ROOM}")


def _head(result: Result) -> str:
    k = result.keys
    title = result.name + ("" if result.fits else f": {NO_ROOM}")
    if "partial" in k:
        title += f": PARTIAL, {k['partial']['passes']:,} of {k['partial']['of']:,} passes"
    lines = [title, "=" * min(len(title), 100)]
    scenario = k["scenario"]
    network = scenario["topology"]
    sized = network["kind"] == "torus" or ":" in network["kind"]  # the shape of others is not that of their chips
    shape = "x".join(str(n) for n in network.get("shape", []) if sized) or network["kind"]
    model = f"{_value(scenario['model']['name'])}, " if "model" in scenario else ""
    notes = f": {'; '.join(result.notes)}" if result.notes else ""
    lines.append(f"{model}{nodes_of(k)} ({_value(scenario['chip']['name'])}), {shape}{notes}")
    if k["validated"] is None:
        lines.append("not validated on this chip: its parameters were not held against measured times of whole steps")
    if "step_s" not in k:
        lines.append(f"done after {show(k['makespan_s'], 's')}{_between(k)}")
    else:
        phase = scenario["workload"]["phase"]
        if "prefill_s" in k:
            lines.append(f"prefill      {show(k['prefill_s'], 's')}, {k['prompt_tokens_per_s']:,.0f} prompt tokens/s")
        lines.append(f"{'prefill     ' if phase == 'prefill' else 'decode step '} {show(k['step_s'], 's')}{_between(k)}"
                     + (f"   (all of it: {show(k['latency_s'], 's')})" if k["latency_s"] != k["step_s"] else ""))
        if "generated_tokens_per_s" in k:
            lines.append(f"decode       {k['generated_tokens_per_s']:,.0f} generated tokens/s")
        lines.append(f"throughput   {result.throughput}, {k['chip_s_per_token'] * 1e3:.3g} chip-ms a token, MFU "
                     f"{k['mfu']:.1%}")
    for e in k.get("expect", ()):
        verdict = "" if e["ok"] is None else f"   within {e['within']:.0%}" if e["ok"] else f"   MISSED: beyond {e['within']:.0%}"
        lines.append(f"expected     {e['what']} {_scalar(e['what'], e['value'])}, got {_scalar(e['what'], e['got'])}: "
                     f"{e['error']:+.1%}{verdict}" + (f"   [{e['source']}]" if e["source"] else ""))
    return "\n".join(lines)


def _between(k: Mapping[str, Any]) -> str:
    """Say how uncertain the time is, where the chip's parameters are."""
    if k["range_s"] is None:
        return ""
    low, high = (show(seconds, "s") for seconds in k["range_s"])
    return f" ({low} to {high}: one standard deviation of the chip's parameters)"


def _layout(found: Mapping[str, Any]) -> str:
    """Say which of the paper's two accounts of a layout this is, and what the other would take."""
    if found["kind"] is None:
        return ""
    formula, code = "the paper's formula", "what the paper's measured code ran"
    this, that = (formula, code) if found["kind"] == "formula" else (code, formula)
    other = found["other"]
    if other is None:
        return f"The layout {found['name']} is {this}; {that} does not fit here."
    return (f"The layout {found['name']} is {this}; {other['name']}, {that}, would take about {show(other['step_s'], 's')} "
            "(by the closed forms' ratio).")


def _as_run(phases: Mapping[str, Mapping[str, Any]]) -> str:
    """Say where a layout does not run as the words of the file have it; a sentence that holds for all phases once."""
    told: dict[str, list[str]] = {}
    for phase, found in phases.items():
        for sentence in found["differs"]:
            told.setdefault(sentence, []).append(phase)
    lines = [("" if len(of) == len(phases) else f"{', '.join(of)}: ") + sentence for sentence, of in told.items()]
    return "Where the run differs from the words of the file\n" + "\n".join(f"  {line}" for line in lines) if lines else ""


def _where(k: Mapping[str, Any]) -> str:
    names = {"compute": "computing (and what hides behind it)", "exposed_collective": "waiting for communication",
             "overhead": "fixed costs (launches, overheads)"}
    rows = [(names[key], show(value, "s"), f"{value / k['step_s']:.1%}", _bar(value / k["step_s"]))
            for key, value in k["breakdown_s"].items()]
    return "Where the time goes (the chip that finishes last)\n" + table(rows, "lrrl")


def _passes(engine: Mapping[str, Any]) -> str:
    """Say how many passes were simulated, and how far off the time can be because of the others; nothing where they are few."""
    run, passes, error = engine["passes_simulated"], engine["passes"], engine["error"]
    if run >= passes or passes <= FEW:
        return ""
    proof = "at the most" if engine["proved"] else "where it was tried, which proves nothing"
    return f"{run:,} of {passes:,} passes were simulated; the others lie between them, to {max(100 * error, 1e-9):.2g} % {proof}"


def _ran(k: Mapping[str, Any]) -> str:
    """Say how many layers and chips were simulated; nothing where all were."""
    engine, layers = k["engine"], "layers" if "model" in k["scenario"] else "repetitions"
    counts = [(engine["blocks_simulated"], engine["blocks"], layers), (engine["chips_simulated"], k["chips"], "chips")]
    left_out = [f"{run:,} of {of:,} {what}" for run, of, what in counts if run < of]
    return f"Simulated: {' and '.join(left_out)}; the others are like these." if left_out else ""


def _others(k: Mapping[str, Any]) -> str:
    got = k.get("step_s", k["makespan_s"])
    guess = k["estimate"]
    apart = guess["unlooped"]["step_s"]
    rows = [("simulated", show(got, "s"), ""),
            ("closed form, axis by axis", show(guess["axes"]["step_s"], "s"), f"{_ratio(guess['axes']['step_s'], got)}"),
            ("the paper's model", show(guess["paper"]["step_s"], "s"),
             f"{_ratio(guess['paper']['step_s'], got)}   compute {show(guess['paper']['compute_s'], 's')}, collectives "
             f"{show(guess['paper']['collective_s'], 's')}"),
            ("no algorithm can beat", show(guess["bound"]["step_s"], "s"), _near(guess["bound"]["of_limit"]))]
    if apart > got:
        gain = f"overlap gains a factor of {apart / got:.2f}"
        rows.insert(2, ("without looping", show(apart, "s"), f"{_ratio(apart, got)}   {gain}"))
    return "Beside it\n" + table(rows, "lrl")


def _misleads(result: Result) -> str:
    """Say where one bandwidth for the whole chip misleads: which collective, how many links it has, by how much."""
    charged = [c for c in result.charges if c.paper_s > 0 or c.axes_s > 0]
    if not charged:
        return ""
    wrong = sorted((c for c in charged if c.axes_s > WORTH_SAYING * c.paper_s), key=lambda c: -(c.axes_s - c.paper_s) * c.times)
    title = "Where the paper's uniform bandwidth misleads"
    if not wrong:
        return f"{title}\n  nowhere: no collective takes over 5 % longer on its axes than the paper charges"
    lines = [title]
    for c in wrong[:3]:
        lines.append("  " + _sentence(c))
    if len(wrong) > 3:
        more = sum((c.axes_s - c.paper_s) * c.times for c in wrong[3:])
        takes = "takes" if len(wrong) == 4 else "take"
        lines.append(f"  {len(wrong) - 3} more {takes} {show(more, 's')} longer than charged, in all.")
    paper, axes = (sum(getattr(c, key) * c.times for c in charged) for key in ("paper_s", "axes_s"))
    lines.append(f"  All collectives, one after the other: {show(axes, 's')} on their axes, {show(paper, 's')} by the paper; "
                 f"overlap hides part of it.")
    return "\n".join(lines)


def _sentence(c: Charge) -> str:
    times = f", {c.times} times" if c.times > 1 else ""
    factor = f"{c.axes_s / c.paper_s:.1f} times as long as" if c.paper_s else "longer than"
    over = f" over {c.charged} links" if c.charged != c.of else ""
    has = f"{c.links} of the chip's {c.of} links" if c.of > 1 else "the chip's only link"
    return (f"{c.name} ({KINDS[c.kind]} of {show(c.bytes, 'B')} over {_axes(c.axes)}): has {has} at once; "
            f"{show(c.axes_s, 's')}, {factor} the {show(c.paper_s, 's')} that the paper charges{over}{times}.")


def _operations(found: Sequence[Mapping[str, Any]], chips: int) -> str:
    if not found:
        return ""
    head = ("operation", "kind", "axes", "bytes", "starts", "takes", "least", "of limit", "how")
    rows = [(o["name"], KINDS.get(o["kind"], o["kind"]),
             _axes(o["axes"]) if o["axes"] or o["chips"] == 1 else f"{o['chips']} chips",
             show(o["bytes"], "B"), show(o["start_s"], "s"), show(o["end_s"] - o["start_s"], "s"), show(o["bound_s"], "s"),
             _percent(o["of_limit"]), o["algorithm"]) for o in found]
    title = "One block, on the chip that finishes last" if chips > 1 else "One block"
    waits = ", in a loop with waits for the matmul" if any(", looped" in o["algorithm"] for o in found) else ""
    return (f"{title} (bytes: of HBM or of the collective, a chip; least: what any algorithm needs\n"
            f"from the first chip's start to the last one's end; of limit: its share of that time{waits})\n"
            + table([head, *rows], "lllrrrrrl") + _taken(found))


def _taken(found: Sequence[Mapping[str, Any]]) -> str:
    """Say what other algorithms of a collective would take, where the fastest by estimate was taken."""
    lines = []
    for o in found:
        first, *others = o["alternatives"].items() or [("", 0.0)]
        if others:
            told = ", ".join(f"{name} {show(seconds, 's')}" for name, seconds in others[:MOST])
            more = f" and {len(others) - MOST} slower ones" if len(others) > MOST else ""
            lines.append(f"\n  {o['name']}: {first[0]} is the fastest by estimate, {show(first[1], 's')} alone; {told}{more}")
    return "".join(dict.fromkeys(lines))


def _memory(m: Mapping[str, Any], node: str) -> str:
    used = m["weights"] + m["kv_cache"] + m["activations"]
    capacity = show(m["capacity"], "B")
    short = show(max(used - m["capacity"], 0.0), "B")
    fits = f"fits in {capacity}" if m["fits"] else (
        f"DOES NOT FIT in {capacity}: {short} a {node} are missing\n  the times above assume a larger memory")
    longest = f"  longest context for its share of the memory: {m['longest_context']:,} tokens"
    alone = f"  the weights alone do not fit in {capacity}, so there is no longest context"
    return (f"Memory a {node}: weights {show(m['weights'], 'B')} + KV cache {show(m['kv_cache'], 'B')} + activations "
            f"{show(m['activations'], 'B')} = {show(used, 'B')}, {fits}\n" + (longest if m["weights"] < m["capacity"] else alone))


def _links(links: Mapping[str, Any], got: float) -> str:
    if not links["busiest"]:
        return ""
    rows = [("no axis" if axis == "none" else f"axis {axis}", show(use["bytes"], "B"),
             f"busy {use['mean_busy']:.1%} in the mean", f"{use['max_busy']:.1%} at the most")
            for axis, use in links["per_axis"].items()]
    first = links["busiest"][0]
    lines = _bottleneck(links, got)
    return (f"Links: busy {links['mean_busy']:.1%} of the time in the mean; the busiest is {_chip(first['from'])} -> "
            f"{_chip(first['to'])}, {first['busy']:.1%}\n" + table(rows, "lrrr") + lines)


def _bottleneck(links: Mapping[str, Any], got: float) -> str:
    """Return who uses the busiest link, and what the run would take if all that are as busy had infinite bandwidth."""
    first, without = links["busiest"][0], links.get("without_busiest")
    shares = ", ".join(f"{name} {share:.0%}" for name, share in list(first["users"].items())[:3])
    more = f" and {len(first['users']) - 3} more" if len(first["users"]) > 3 else ""
    lines = f"\n  the busiest carries {shares}{more}" if shares else ""
    if without:
        those = "its cable" if without["cables"] == 1 else f"the {without['cables']:,} cables that are as busy"
        lines += (f"\n  with infinite bandwidth on {those}: {show(without['step_s'], 's')} in place of {show(got, 's')} "
                  f"({without['step_s'] / got - 1:+.1%})")
    return lines


def _faults(found: Mapping[str, Any] | None, got: float) -> str:
    """Say what the faults of the network cost: all together, and the worst three."""
    if not found:
        return ""
    count = found["count"]
    lines = [f"Faults: {count:,}; without {'it' if count == 1 else 'them'} {show(found['step_s'], 's')} in place of "
             f"{show(got, 's')} ({-found['cost']:+.1%})"]
    if count > 1:
        among = "" if found["tried"] == count else f" of the {found['tried']} that are likely to cost most"
        lines.append(f"  the worst{among}, each repaired alone, in shares of the time (they do not add up):")
    lines += [f"  {_fault(fault)}: costs {fault['cost']:.1%}{_taken_out(fault)}" for fault in found["worst"]]
    return "\n".join(lines)


def _fault(fault: Mapping[str, Any]) -> str:
    """Name a fault: its cable, or the changes of several."""
    which = f"cable {_chip(fault['from'])} - {_chip(fault['to'])}" if fault["cables"] == 1 else \
        f"{fault['cables']:,} cables {' '.join(fault['changes'])}"
    slower = f"{show(fault['bandwidth'], 'B/s')} in place of {show(fault['built'], 'B/s')}"
    how = {"dead": "", "failing": " in mid-run", "changing": f", at worst {slower}", "slow": f", {slower}",
           "late": f", by {show(fault['late'], 's')}"}
    return f"{fault['kind']} {which}{how[fault['kind']]}"


def _taken_out(fault: Mapping[str, Any]) -> str:
    """Say what a fault would cost if its cables were dead, and whether that is better."""
    if fault["as_dead"] is None:
        return ""
    dead = fault["as_dead"]["cost"]
    return f"; dead it would cost {dead:.1%}: {'take it out' if dead < fault['cost'] else 'leave it in'}"


def _bar(share: float) -> str:
    return "#" * round(30 * share)


def _ratio(value: float, got: float) -> str:
    return f"{value / got:.1%} of it" if got else ""


def _near(share: float | None) -> str:
    return f"simulated is at {_percent(share)} of the limit" if share is not None else ""


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def _axes(axes: Sequence[str]) -> str:
    return ("" if all(len(a) == 1 for a in axes) else ",").join(axes) or "-"


def _chip(node: Sequence[int] | str) -> str:
    """Return a chip's coordinates in brackets, and the name of a switch as it is."""
    return node if isinstance(node, str) else "(" + ", ".join(str(c) for c in node) + ")"


def _value(field: Any) -> Any:
    return field["value"] if isinstance(field, Mapping) and "value" in field else field


def _scalar(what: str, value: float | None) -> str:
    if value is None:
        return "nothing"
    if what == "mfu":
        return f"{value:.1%}"
    unit = SCALARS.get(what, "B" if what != "memory.longest_context" else "")
    return show(value, unit) if unit else f"{value:,.0f}"
