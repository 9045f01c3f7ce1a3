"""The tables of a report that --verbose adds: estimates, the paper's model, operations, memory and links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torussim.as_run import context_words, experts_words, pipeline_words
from torussim.closed_forms import Charge
from torussim.interpolation import FEW
from torussim.report.headline import missing
from torussim.report.phrases import KINDS, axes, context, link, most, percent, seconds_of, value, wrapped
from torussim.result import Result
from torussim.tables import table
from torussim.units import show

MOST = 4  # other algorithms that are named
WORTH_SAYING = 1.05  # ratio to the paper's charge from which a collective is worth a sentence


def simulated(k: Mapping[str, Any]) -> list[str]:
    """Return how many layers and chips were simulated; nothing where all were."""
    engine, layers = k["engine"], "repetitions"
    if "model" in k["scenario"]:  # where layers of several kinds take turns, a block has more than one
        layers = "layers" if engine["blocks"] == value(k["scenario"]["model"]["layers"]) * engine["passes"] else "blocks"
    counts = [(engine["blocks_simulated"], engine["blocks"], layers), (engine["chips_simulated"], k["chips"], "chips")]
    left_out = [f"{run:,} of {of:,} {what}" for run, of, what in counts if run < of]
    return [f"Simulated: {' and '.join(left_out)}; the others are like these."] if left_out else []


def passes(engine: Mapping[str, Any]) -> list[str]:
    """Return how many passes were simulated, and the error of the time because of the others; nothing where they are few."""
    run, of, error = engine["passes_simulated"], engine["passes"], engine["error"]
    if run >= of or of <= FEW:
        return []
    proof = "at most" if engine["proved"] else "by samples, without proof"
    return wrapped(f"{run:,} of {of:,} passes were simulated. The others are interpolated; error {max(100 * error, 1e-9):.2g} % "
                   f"{proof}.")


def estimates(k: Mapping[str, Any]) -> list[str]:
    """Return the closed forms and the lower bound beside the simulated time."""
    got, guess = seconds_of(k), k["estimate"]
    apart = guess["unlooped"]["step_s"]
    rows = [("simulated", show(got, "s"), ""),
            ("closed form, axis by axis", show(guess["axes"]["step_s"], "s"), _ratio(guess["axes"]["step_s"], got)),
            ("the paper's model", show(guess["paper"]["step_s"], "s"),
             f"{_ratio(guess['paper']['step_s'], got)}   compute {show(guess['paper']['compute_s'], 's')}, collectives "
             f"{show(guess['paper']['collective_s'], 's')}"),
            ("lower bound of any algorithm", show(guess["bound"]["step_s"], "s"), _ratio(guess["bound"]["step_s"], got))]
    if apart > got:
        rows.insert(2, ("without overlap", show(apart, "s"),
                        f"{_ratio(apart, got)}   overlap gains a factor of {apart / got:.2f}"))
    return ["Estimates and lower bound", table(rows, "lrl")]


def beside(k: Mapping[str, Any]) -> list[str]:
    """Return the lower bound and what the paper's model says, in a line."""
    got, bound, paper = seconds_of(k), k["estimate"]["bound"], k["estimate"]["paper"]["step_s"]
    part = percent(bound["of_limit"])
    least = f"No algorithm can take less than {show(bound['step_s'], 's')} on this network ({part} of the time). "
    share = f" ({paper / got:.0%})" if got else ""
    return wrapped(f"{least if got else ''}The model of Pope et al. 2022 says {show(paper, 's')}{share}.")


def layout(found: Mapping[str, Any]) -> list[str]:
    """Return which of the paper's two accounts of a layout this is, and what the other would take."""
    if found["kind"] is None:
        return []
    formula, code = "the paper's formula", "the layout of the paper's measured code"
    this, that = (formula, code) if found["kind"] == "formula" else (code, formula)
    other = found["other"]
    if other is None:
        return wrapped(f"The layout {found['name']} is {this}. Here {that} does not fit.")
    return wrapped(f"The layout {found['name']} is {this}. By the ratio of closed forms, {other['name']}, {that}, would take "
                   f"about {show(other['step_s'], 's')}.")


def differences(phases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return sentences on where a layout does not run as the file says; a sentence that holds for all phases once."""
    told: dict[str, list[str]] = {}
    for phase, found in phases.items():
        for sentence in found["differs"]:
            told.setdefault(sentence, []).append(phase)
    return [("" if len(of) == len(phases) else f"{', '.join(of)}: ") + sentence for sentence, of in told.items()]


def spread(phases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of `spreads`."""
    return [line for words in spreads(phases) for line in wrapped(words, "  ", "")]


def spreads(phases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return how attention, experts and stages run; words that hold for all phases once."""
    attention = {phase: context_words(one) for phase, one in phases.items()}
    experts = {phase: experts_words(one["experts"]) for phase, one in phases.items() if "experts" in one}
    stages = {phase: pipeline_words(one["pipeline"]) for phase, one in phases.items() if "pipeline" in one}
    found = list[str]()
    for what, told in (("Attention", attention), ("Experts", experts), ("Pipeline", stages)):
        alike = len(set(told.values())) == 1
        said = [words if alike else f"{phase}: {words}" for phase, words in told.items()]
        found += [f"{what}: {words}" for words in dict.fromkeys(said)]
    return found


def as_run(phases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return where a layout does not run as the file says."""
    lines = [line for sentence in differences(phases) for line in wrapped(sentence, "    ", "  ")]
    return ["Where the run differs from the file", *lines] if lines else []


def charges(result: Result) -> list[str]:
    """Return where one bandwidth for the whole chip misleads: which collective, how many links it has, by how much."""
    charged = [c for c in result.charges if c.paper_s > 0 or c.axes_s > 0]
    if not charged:
        return []
    wrong = sorted((c for c in charged if c.axes_s > WORTH_SAYING * c.paper_s), key=lambda c: -(c.axes_s - c.paper_s) * c.times)
    title = "Where the paper's uniform bandwidth misleads"
    if not wrong:
        return [title, "  nowhere: no collective takes over 5 % longer on its axes than in the paper's model"]
    lines = [title]
    for c in wrong[:3]:
        lines += wrapped(_sentence(c), "    ", "  ")
    if len(wrong) > 3:
        more = sum((c.axes_s - c.paper_s) * c.times for c in wrong[3:])
        takes = "takes" if len(wrong) == 4 else "take"
        lines.append(f"  {len(wrong) - 3} more {takes} {show(more, 's')} longer than in the paper's model, in all.")
    model, own = (sum(getattr(c, key) * c.times for c in charged) for key in ("paper_s", "axes_s"))
    return lines + wrapped(f"All collectives, one after the other: {show(own, 's')} on their axes, {show(model, 's')} in the "
                           "paper's model. Overlap hides part of it.", "    ", "  ")


def _sentence(c: Charge) -> str:
    times = f" It runs {c.times} times." if c.times > 1 else ""
    factor = f"{c.axes_s / c.paper_s:.1f} times" if c.paper_s else "longer than"
    over = f" over {c.charged} links" if c.charged != c.of else ""
    has = f"{c.links} of the chip's {c.of} links" if c.of > 1 else "the chip's only link"
    return (f"{c.name} ({KINDS[c.kind]} of {show(c.bytes, 'B')} over {axes(c.axes)}) uses {has} at once. It takes "
            f"{show(c.axes_s, 's')}, {factor} the {show(c.paper_s, 's')} of the paper's model{over}.{times}")


def operations(found: Sequence[Mapping[str, Any]], chips: int) -> list[str]:
    """Return the operations of a block as a table with its legend."""
    if not found:
        return []
    head = ["operation", "kind", "axes", "bytes", "starts", "takes", "bound", "bound/time", "how"]
    rows = [[o["name"], KINDS.get(o["kind"], o["kind"]),
             axes(o["axes"]) if o["axes"] or o["chips"] == 1 else f"{o['chips']} chips",
             show(o["bytes"], "B"), show(o["start_s"], "s"), show(o["end_s"] - o["start_s"], "s"), show(o["bound_s"], "s"),
             percent(o["of_limit"]), o["algorithm"]] for o in found]
    several = [o["section"] for o in found if "section" in o]
    if several:
        head, rows = ["of", *head], [[name, *row] for name, row in zip(several, rows)]
    loops = " A looped collective waits for its matmul." if any(", looped" in o["algorithm"] for o in found) else ""
    which = "last run of each block" if several else "last block"
    return [f"Operations of the {which}" + (", on the chip that finishes last" if chips > 1 else ""),
            *wrapped("bytes: of HBM (compute) or of the collective, for one chip. bound: the time that any algorithm needs, from "
                     f"the first chip's start to the last chip's end.{loops}", "  ", "  "),
            table([head, *rows], f"{'l' if several else ''}lllrrrrrl"), *_taken(found)]


def _taken(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what other algorithms of a collective would take, where the fastest by estimate was taken."""
    lines = list[str]()
    for o in found:
        first, *others = o["alternatives"].items() or [("", 0.0)]
        if others:
            told = ", ".join(f"{name} {show(seconds, 's')}" for name, seconds in others[:MOST])
            more = f" and {len(others) - MOST} slower ones" if len(others) > MOST else ""
            lines += wrapped(f"{o['name']}: {first[0]} is the fastest by estimate, {show(first[1], 's')} alone; {told}{more}",
                             "    ", "  ")
    return list(dict.fromkeys(lines))


def memory(m: Mapping[str, Any], node: str) -> list[str]:
    """Return what a chip must hold, part by part, and the longest context."""
    used, capacity = m["weights"] + m["kv_cache"] + m["activations"], show(m["capacity"], "B")
    fits = f"fits in {capacity}" if m["fits"] else f"DOES NOT FIT in {capacity}: {show(missing(m), 'B')} are missing"
    longest = f"  longest context for its share of the memory: {context(m['longest_context'])}"
    alone = f"  the weights alone do not fit in {capacity}, so there is no longest context"
    return [*wrapped(f"Memory a {node}: weights {show(m['weights'], 'B')} + KV cache {show(m['kv_cache'], 'B')} + activations "
                     f"{show(m['activations'], 'B')} = {show(used, 'B')}, {fits}", "  ", ""),
            *([] if m["fits"] else ["  the times assume a larger memory"]),
            longest if m["weights"] < m["capacity"] else alone]


def links(found: Mapping[str, Any]) -> list[str]:
    """Return how busy the links of each axis are."""
    if not found["busiest"]:
        return []
    rows = [("no axis" if axis == "none" else f"axis {axis}", show(use["bytes"], "B"), f"{use['mean_busy']:.1%}",
             f"{use['max_busy']:.1%}") for axis, use in found["per_axis"].items()]
    first = found["busiest"][0]
    lines = [f"Links: busy {found['mean_busy']:.1%} of the time in the mean; the busiest is {link(first, '->')}, "
             f"{first['busy']:.1%}",
             table([("", "bytes", "mean busy", "most"), *rows], "lrrr")]
    return lines + ([f"  the busiest carries {most(first['users'])}"] if first["users"] else [])


def _ratio(seconds: float, got: float) -> str:
    return f"{seconds / got:.1%} of the simulated time" if got else ""

