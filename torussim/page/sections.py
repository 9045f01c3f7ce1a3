"""The sections of a page that say in numbers what a run gave, for one run or several side by side.

Each takes the runs and returns markup. Every number stands with its exact value, that of result.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torussim.page.html import Html, Part, bars, escaped, exact, section, table, tag
from torussim.page.run import Run
from torussim.page.verdict import place, verdict
from torussim.report import KINDS
from torussim.result import SCALARS, nodes_of
from torussim.units import show

PARTS = {"compute": "computing, and what hides behind it", "exposed_collective": "waiting for communication",
         "overhead": "fixed costs: launches, overheads"}
ALGORITHMS = 3  # slower ones that are named


def seconds(value: float | None) -> Html:
    """Return a time as it is shown, with its exact value."""
    return exact(value, "-" if value is None else show(value, "s"))


def size(value: float | None) -> Html:
    """Return bytes as they are shown, with their exact value."""
    return exact(value, "-" if value is None else show(value, "B"))


def share(value: float | None) -> Html:
    """Return a share in percent, with its exact value."""
    return exact(value, "-" if value is None else f"{value:.1%}")


def headed(runs: Sequence[Run], each: Callable[[Run], Part]) -> Html:
    """Return what is said of each run, side by side; with the run's letter where there are several."""
    if len(runs) == 1:
        return escaped(each(runs[0]))
    return tag("div", [tag("div", tag("h3", letter(one), " ", one.result.name), each(one)) for one in runs], class_="beside")


def letter(run: Run) -> Html:
    """Return the letter of a run; nothing where it is the only one."""
    return tag("span", run.label, class_="letter") if run.label else Html()


def summary(runs: Sequence[Run]) -> Html:
    """Return the verdict of each run and its main numbers."""
    return tag("div", [tag("article", tag("p", letter(run), " " if run.label else None, verdict(run.result), class_="verdict"),
                           tag("p", of_what(run), class_="faint"), _numbers(run), _notes(run)) for run in runs],
               class_="beside" if len(runs) > 1 else None)


def of_what(run: Run) -> str:
    """Return in a line what was run, on what."""
    scenario = run.keys["scenario"]
    model = f"{_value(scenario['model']['name'])}, " if "model" in scenario else ""
    network = scenario["topology"]
    shape = "x".join(map(str, network.get("shape", []))) if network["kind"] == "torus" else ""
    named = f"{run.result.name}: " if run.label else ""
    return f"{named}{model}{nodes_of(run.keys)} ({_value(scenario['chip']['name'])}), {network['kind']} {shape}".rstrip()


def _notes(run: Run) -> Part:
    k = run.keys
    said = [*run.notes, *run.result.notes]
    if k.get("range_s"):
        low, high = (show(value, "s") for value in k["range_s"])
        said.insert(0, f"{low} to {high} is one standard deviation of the chip's parameters.")
    if k["validated"] is None:
        said.append("Not validated on this chip: its parameters were not held against measured times of whole steps.")
    return tag("ul", [tag("li", one) for one in said], class_="notes") if said else None


def _numbers(run: Run) -> Html:
    k = run.keys
    found: list[tuple[Part, str, str]] = []
    if "step_s" not in k:
        found.append((seconds(k["makespan_s"]), "in all", "makespan_s"))
    else:
        phase = k["scenario"]["workload"]["phase"]
        if "prefill_s" in k:
            found.append((seconds(k["prefill_s"]), "prefill", "prefill_s"))
        found += [(seconds(k["step_s"]), "prefill" if phase == "prefill" else "a decode step", "step_s"),
                  (exact(k["tokens_per_s"], f"{k['tokens_per_s']:,.0f}"), "tokens/s", "tokens_per_s"),
                  (share(k["mfu"]), "MFU", "mfu")]
    if "memory" in k:
        held = _held(k["memory"])
        word = "of memory" if k["memory"]["fits"] else "of memory: does not fit"
        found.append((exact(held / k["memory"]["capacity"], f"{held / k['memory']['capacity']:.0%}"), word, "memory"))
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value, data_key=key),
                          class_="bad" if name.endswith("not fit") else None) for value, name, key in found], class_="numbers")


def breakdown(runs: Sequence[Run]) -> Html:
    """Return where the time goes, as a bar and numbers; empty for programs alone, which have no step."""
    some = [run for run in runs if "breakdown_s" in run.keys]
    if not some:
        return Html()
    longest = max(run.seconds for run in some)
    drawn = [tag("div", letter(run), bars(
        "; ".join(f"{PARTS[key]} {value / run.seconds:.1%}" for key, value in run.keys["breakdown_s"].items()),
        [(PARTS[key], value / longest, key) for key, value in run.keys["breakdown_s"].items()]), class_="row") for run in some]
    head: list[Part] = ["on the chip that finishes last"]
    for run in some:
        head += [tag("span", letter(run), " time" if run.label else "time"), "share"]
    rows: list[list[Part]] = [
        [tag("span", tag("span", class_=f"key {key}"), word),
         *(cell for run in some for cell in (seconds(run.keys["breakdown_s"][key]),
                                             share(run.keys["breakdown_s"][key] / run.seconds)))]
        for key, word in PARTS.items()]
    rows.append(["in all", *(cell for run in some for cell in (seconds(run.seconds), ""))])
    return section("breakdown", "Where the time goes", drawn,
                   table("Parts of a step", head, rows, sides="l" + "rr" * len(some), name="parts", hide_caption=True))


def estimates(runs: Sequence[Run]) -> Html:
    """Return what else says how long it takes: closed forms, the lower bound, and what was measured."""
    return section("estimates", "Simulated, estimated, measured", headed(runs, _estimates))


def _estimates(run: Run) -> Html:
    k, guess = run.keys, run.keys["estimate"]
    expected = next((e["value"] for e in k["expect"] if e["what"] in ("step_s", "makespan_s")), None)
    times = [("measured", expected, "what was expected"), ("simulated", run.seconds, "this simulation"),
             ("closed form", guess["axes"]["step_s"], "axis by axis, when nothing contends"),
             ("without overlap", guess["unlooped"]["step_s"], "no matmul runs while its collective does"),
             ("paper's model", guess["paper"]["step_s"], "every collective on all links of a chip"),
             ("lower bound", guess["bound"]["step_s"], "no algorithm can beat it on this network")]
    known = [(name, value, why) for name, value, why in times if value is not None]
    most = max(value for _, value, _ in known) or 1.0
    got = run.seconds or 1.0
    rows = [[name, seconds(value), f"{value / got:.1%}",
             bars(f"{name} {show(value, 's')}", [(name, value / most, "simulated" if name == "simulated" else "other")]), why]
            for name, value, why in known]
    parts = [table("Times beside the simulated one", ["", "time", "of it", "", "what it is"], rows, sides="lrrll",
                   name=f"times{run.label}", hide_caption=True)]
    if k["expect"]:
        parts.append(table("What was expected", ["key", "expected", "got", "error", "", "source"],
                           [_expected(e) for e in k["expect"]], sides="lrrrll", name=f"expect{run.label}",
                           marks={i: "bad" for i, e in enumerate(k["expect"]) if e["ok"] is False}))
    return escaped(parts)


def _expected(e: Mapping[str, Any]) -> list[Part]:
    unit = SCALARS.get(e["what"], "s" if e["what"].endswith("_s") else "")
    values = [exact(v, "nothing" if v is None else show(v, unit)) for v in (e["value"], e["got"])]
    verdict = "" if e["ok"] is None else f"within {e['within']:.0%}" if e["ok"] else \
        "MISSED" + ("" if e["within"] is None else f": beyond {e['within']:.0%}")
    return [e["what"], *values, "-" if e["error"] is None else f"{e['error']:+.1%}", verdict, e["source"] or ""]


def operations(runs: Sequence[Run]) -> Html:
    """Return the operations of one block, on the chip that finishes last."""
    return section("operations", "Operations of one block", tag(
        "p", "On the chip that finishes last. Bytes: of HBM or of the collective, a chip. Least: what any algorithm needs, from "
        "the first chip's start to the last one's end.", class_="faint"), headed(runs, _operations))


def _operations(run: Run) -> Html:
    longest = max((o["end_s"] - o["start_s"] for o in run.keys["operations"]), default=0.0) or 1.0
    rows = [[o["name"], KINDS.get(o["kind"], o["kind"]), _axes(o), size(o["bytes"]), seconds(o["start_s"]),
             exact(o["end_s"] - o["start_s"], show(o["end_s"] - o["start_s"], "s")),
             bars(o["name"], [(o["name"], (o["end_s"] - o["start_s"]) / longest,
                               "compute" if o["kind"] == "compute" else "collective")]),
             seconds(o["bound_s"]), share(o["of_limit"]), _how(o)] for o in run.keys["operations"]]
    head = ["operation", "kind", "axes", "bytes", "starts", "takes", "", "least", "of limit", "how"]
    return table(f"Operations {run.label}".strip(), head, rows, sides="lllrrrlrrl", name=f"ops{run.label}", hide_caption=True)


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
    return section("memory", "Memory of a chip", headed(some, _memory)) if some else Html()


def _memory(run: Run) -> Html:
    held = run.keys["memory"]
    keys = {"weights": "weights", "kv_cache": "KV cache", "activations": "activations"}
    used, room = _held(held), max(_held(held), held["capacity"])
    rows: list[list[Part]] = [
        [tag("span", tag("span", class_=f"key {key}"), name), size(held[key]), share(held[key] / held["capacity"])]
        for key, name in keys.items()]
    rows += [["in all", size(used), share(used / held["capacity"])], ["capacity", size(held["capacity"]), ""]]
    said = f"The longest context is {held['longest_context']:,} tokens." if held["fits"] else \
        f"It does not fit: {show(used - held['capacity'], 'B')} are missing. The times are those of a larger memory."
    return escaped([bars(f"memory {used / held['capacity']:.0%} used", [(keys[key], held[key] / room, key) for key in keys]),
                    table("Memory", ["", "bytes", "share"], rows, sides="lrr", name=f"held{run.label}", hide_caption=True),
                    tag("p", said, class_="faint" if held["fits"] else "bad")])


def links(run: Run) -> Html:
    """Return how busy the links are by axis, and which are the busiest."""
    found = run.keys["links"]
    if not found["busiest"]:
        return tag("p", "No link sends anything.", class_="faint")
    rows = [["no axis" if axis == "none" else axis, size(use["bytes"]), share(use["mean_busy"]), share(use["max_busy"])]
            for axis, use in found["per_axis"].items()]
    busiest = [[f"{place(one['from'])} → {place(one['to'])}", share(one["busy"]), size(one["bytes"]),
                ", ".join(f"{name} {part:.0%}" for name, part in list(one["users"].items())[:3])] for one in found["busiest"]]
    return escaped([
        table("Links by axis, whole run", ["axis", "bytes", "busy in the mean", "at most"], rows, sides="lrrr",
              name=f"axes{run.label}"),
        table("The busiest links, whole run", ["from → to", "busy", "bytes", "used by"], busiest, sides="lrrl",
              name=f"busiest{run.label}")])


def faults(runs: Sequence[Run]) -> Html:
    """Return what faults cost; empty where no network has any."""
    some = [run for run in runs if run.keys.get("faults")]
    return section("faults", "What the faults cost", headed(some, _faults)) if some else Html()


def _faults(run: Run) -> Html:
    found, got = run.keys["faults"], run.seconds
    count = found["count"]
    said = [f"{count:,} fault{'s' * (count != 1)}; without {'it' if count == 1 else 'them'} ", seconds(found["step_s"]),
            " in place of ", seconds(got), f" ({-found['cost']:+.1%})."]
    rows = []
    for one in found["worst"]:
        which = f"{place(one['from'])} - {place(one['to'])}" if one["cables"] == 1 else \
            f"{one['cables']:,} cables {' '.join(one['changes'])}"
        dead = one["as_dead"]
        advice = "" if dead is None else f"{dead['cost']:.1%}: {'take it out' if dead['cost'] < one['cost'] else 'leave it in'}"
        bandwidth = "-" if not one["bandwidth"] else f"{show(one['bandwidth'], 'B/s')} in place of {show(one['built'], 'B/s')}"
        rows.append([which, one["kind"], bandwidth, share(one["cost"]), seconds(one["step_s"]), advice])
    return escaped([tag("p", said), table("The worst faults, each repaired alone", ["cable", "fault", "bandwidth", "costs",
                                                                                   "time without it", "would cost if dead"],
                                          rows, sides="lllrrl", name=f"worst{run.label}")])


def _held(memory: Mapping[str, Any]) -> float:
    return float(memory["weights"] + memory["kv_cache"] + memory["activations"])


def _value(field: Any) -> Any:
    return field["value"] if isinstance(field, Mapping) and "value" in field else field
