"""The sections of a page that say in numbers what a run gave, for one run or several side by side.

Each takes the runs and returns markup. Every number stands with its exact value, that of result.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torussim.page.html import Html, Part, bars, escaped, exact, section, table, tag
from torussim.page.run import Run
from torussim.report import causes, details, verdict
from torussim.report.phrases import change
from torussim.result import nodes_of
from torussim.result_keys import SCALARS
from torussim.units import show

WHAT = {"measured": "what the file expects", "simulated": "this simulation",
        "closed form": "axis by axis, when nothing contends", "without overlap": "no matmul runs while its collective does",
        "paper's model": "every collective on all links of a chip", "lower bound": "no algorithm can beat it on this network"}
SHARE = "share of the simulated time"
SAME = 5e-4  # values within this share of one another are not marked


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
    if not runs[0].label:
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
        said.insert(0, f"Probably between {low} and {high}: the chip's parameters have an uncertainty of one standard deviation.")
    said += details.spreads(k["layout"]["as_run"]) if "layout" in k else []
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
        used = held(k["memory"])
        word = "of memory" if k["memory"]["fits"] else "of memory: does not fit"
        found.append((exact(used / k["memory"]["capacity"], f"{used / k['memory']['capacity']:.0%}"), word, "memory"))
    return tag("dl", [tag("div", tag("dt", name), tag("dd", value, data_key=key),
                          class_="bad" if name.endswith("not fit") else None) for value, name, key in found], class_="numbers")


def blame(runs: Sequence[Run]) -> Html:
    """Return what is to blame for the time of each run, as the report for a terminal has it; empty if nothing is."""
    found = [run for run in runs if causes.blamed(run.result)]
    return section("blame", "What to blame", headed(found, lambda run: tag("ul", [
        tag("li", text, class_="bad" if bad else None) for text, bad in causes.blamed(run.result)]))) if found else Html()


def helps(runs: Sequence[Run]) -> Html:
    """Return what would help, with the time that each change would give, and what is better left as it is."""
    return section("helps", "What would help", headed(runs, _helps))


def _helps(run: Run) -> Part:
    known = causes.remedies(run.result)
    rows = [[one.what, seconds(one.seconds), change(one.seconds, run.seconds)] for one in known if one.seconds is not None]
    said = [*(one.what for one in known if one.seconds is None), *causes.left_as_is(run.keys)]
    if not rows and not said:
        return tag("p", causes.no_help(run.keys).replace("`", ""))
    return [table("Changes and the time with each", ["change", "time then", "difference"], rows, sides="lrr",
                  name=f"changes{run.label}", hide_caption=True) if rows else None,
            tag("ul", [tag("li", one) for one in said]) if said else None]


def breakdown(runs: Sequence[Run]) -> Html:
    """Return where the time goes, as a bar and numbers; empty for programs alone, which have no step."""
    some = [run for run in runs if "breakdown_s" in run.keys]
    if not some:
        return Html()
    longest = max(run.seconds for run in some)
    drawn = [tag("div", letter(run), bars(
        "; ".join(f"{causes.PARTS[key]} {value / run.seconds:.1%}" for key, value in run.keys["breakdown_s"].items()),
        [(causes.PARTS[key], value / longest, key) for key, value in run.keys["breakdown_s"].items()]), class_="row")
        for run in some]
    head: list[Part] = ["on the chip that finishes last"]
    for run in some:
        head += [tag("span", letter(run), " time" if run.label else "time"), "share"]
    rows: list[list[Part]] = [
        [tag("span", tag("span", class_=f"key {key}"), word),
         *(cell for run in some for cell in (seconds(run.keys["breakdown_s"].get(key, 0.0)),
                                             share(run.keys["breakdown_s"].get(key, 0.0) / run.seconds)))]
        for key, word in causes.PARTS.items() if any(key in run.keys["breakdown_s"] for run in some)]
    rows.append(["in all", *(cell for run in some for cell in (seconds(run.seconds), ""))])
    return section("breakdown", "Where the time goes", drawn,
                   table("Parts of a step", head, rows, sides="l" + "rr" * len(some), name="parts", hide_caption=True))


def estimates(runs: Sequence[Run]) -> Html:
    """Return what else says how long it takes: closed forms, the lower bound, and what was measured."""
    times = [_times(run) for run in runs]
    names = [name for name in WHAT if any(name in one for one in times)]
    most = max(value for one in times for value in one.values()) or 1.0
    head: list[Part] = ["", *(cell for run in runs for cell in (tag("span", letter(run), " time"), SHARE, "")), "what it is"]
    rows: list[list[Part]] = [[name, *(cell for run, one in zip(runs, times) for cell in _time(run, name, one.get(name), most)),
                               WHAT[name]] for name in names]
    expected = [run for run in runs if run.keys["expect"]]
    return section("estimates", "Simulated, estimated, measured", table(
        "Times beside the simulated one", head, rows, sides="l" + "rrl" * len(runs) + "l", name="times", hide_caption=True),
        headed(expected, _expectations) if expected else None)


def _times(run: Run) -> dict[str, float]:
    """Return what is known of how long a run takes, by the keys of WHAT."""
    guess = run.keys["estimate"]
    what = "step_s" if "step_s" in run.keys else "makespan_s"
    expected = next((e["value"] for e in run.keys["expect"] if e["what"] == what), None)
    found = {"simulated": run.seconds, "closed form": guess["axes"]["step_s"], "without overlap": guess["unlooped"]["step_s"],
             "paper's model": guess["paper"]["step_s"], "lower bound": guess["bound"]["step_s"]}
    return found if expected is None else {"measured": expected, **found}


def _time(run: Run, name: str, value: float | None, most: float) -> list[Part]:
    if value is None:
        return ["-", "", ""]
    drawn = bars(f"{name} {show(value, 's')}", [(name, value / most, "simulated" if name == "simulated" else "other")])
    return [seconds(value), f"{value / run.seconds:.1%}" if run.seconds else "", drawn]


def _expectations(run: Run) -> Html:
    found = run.keys["expect"]
    return table("What was expected", ["key", "expected", "got", "error", "", "source"], [_expected(e) for e in found],
                 sides="lrrrll", name=f"expect{run.label}", marks={i: "bad" for i, e in enumerate(found) if e["ok"] is False})


def _expected(e: Mapping[str, Any]) -> list[Part]:
    unit = SCALARS.get(e["what"], "s" if e["what"].endswith("_s") else "")
    values = [exact(v, "nothing" if v is None else show(v, unit)) for v in (e["value"], e["got"])]
    verdict = "" if e["ok"] is None else f"within {e['within']:.0%}" if e["ok"] else \
        "MISSED" + ("" if e["within"] is None else f": beyond {e['within']:.0%}")
    return [e["what"], *values, "-" if e["error"] is None else f"{e['error']:+z.1%}", verdict, e["source"] or ""]


def held(memory: Mapping[str, Any]) -> float:
    """Return the bytes that a chip holds."""
    return float(memory["weights"] + memory["kv_cache"] + memory["activations"])


def _value(field: Any) -> Any:
    return field["value"] if isinstance(field, Mapping) and "value" in field else field
