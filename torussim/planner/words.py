"""A plan in words: the verdict first, then a table, then the certificate."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torussim.analysis import advances
from torussim.chips import Chip
from torussim.cost import flop_seconds
from torussim.layouts import Path
from torussim.pipeline import HAND_OVER, of_microbatch
from torussim.planner.candidates import Candidate
from torussim.planner.pricing import total_bytes
from torussim.program import Collective, Compute
from torussim.report.phrases import KINDS, experts, pipeline
from torussim.tables import table
from torussim.timeline import Timeline
from torussim.topology.shape import axis_names
from torussim.units import percent, show

if TYPE_CHECKING:
    from torussim.planner.plans import Choice, Plan, Ranked
    from torussim.planner.shapes import Reshaped

CHOICES = ("attention", "experts", "pipeline")  # columns of the table; the last two only where some layout has them
ROWS = 12  # rows of the table
WIDTH = 110
SAME = 5e-4  # times within this share of one another are reported as equal
NAMED = 3  # open candidates that the text names
SHAPES = 8  # rows of the table of shapes
_WEIGHTS = re.compile("(?:experts|q|k|v|kv)_(?:in|out|down|up)|[a-z]+")  # of the name of a matmul
_CAN = {True: "yes", False: "no", None: "unknown"}


def text(plan: Plan) -> str:
    """Return a plan as text for a terminal."""
    parts = [_title(plan), verdict(plan), _table(plan), _certificate(plan), _others(plan), _shapes(plan)]
    return "\n\n".join(part for part in parts if part)


def name_of(candidate: Candidate, *, dtypes: bool = False) -> str:
    """Return a candidate in words: "ws2d with x=[x], y=[y], z=[z], attention over batch"."""
    cut, weights = cut_of(candidate), f", {candidate.layout.weights} weights" if dtypes else ""
    return f"{candidate.name}{f' with {cut}' if cut else ''}, attention over {choices_of(candidate)}{weights}"


def cut_of(candidate: Candidate) -> str:
    """Return the mesh of a layout in words, or how a table cuts the residual and W_in: "B L E_xy, W_in E F_xy"."""
    ffn = candidate.layout.ffn
    if isinstance(ffn, str):
        return mesh_of(candidate.mesh)
    return f"{Path.of(ffn['residual']).stored}, W_in {Path.of(ffn['w_in']).used}"


def attention_of(candidate: Candidate) -> str:
    """Return the attention sharding in words; for a table, with its axes: "heads (x), batch (y)"."""
    ffn = candidate.layout.ffn
    if isinstance(ffn, str):
        return candidate.layout.attention
    q = Path.of(ffn["q"]).used
    cut = [f"{word} ({', '.join(q.axes(dim))})" for dim, word in (("H", "heads"), ("B", "batch")) if q.axes(dim)]
    return ", ".join(cut) or "nothing"


def experts_of(candidate: Candidate) -> str:
    """Return how the experts of a mixture are cut, in words; "" of a dense model."""
    return experts(candidate.layout.experts) if candidate.mixture else ""


def stages_of(candidate: Candidate) -> str:
    """Return the pipeline of a candidate in words: "4 stages over x, 8 microbatches"; "" if it has none."""
    return f"{candidate.stages.stages} {pipeline(candidate.stages.record())}" if candidate.stages else ""


def choices_of(candidate: Candidate) -> str:
    """Return what attention and experts are cut over and the pipeline in words: "batch, experts over all axes"."""
    return ", ".join(filter(None, (attention_of(candidate), experts_of(candidate), stages_of(candidate))))


def mesh_of(mesh: Mapping[str, Sequence[str]]) -> str:
    """Return a mesh in words: "x=[x], y=[y], z=[z]"."""
    return ", ".join(f"{logical}=[{', '.join(factors)}]" for logical, factors in mesh.items())


def verdict(plan: Plan) -> str:
    """Return the verdict in sentences: the recommended choice, its time, its bottleneck, and the distance to the next best."""
    if len(plan.picks) > 1:
        return _front(plan)
    pick = plan.pick
    said = [f"Take {_named(plan, pick)}: {_takes(plan, pick)}."]
    for phase, one in pick.of.items():
        said.append(f"{'It' if len(pick.of) == 1 else f'The {phase}'} is bound by {one.bound_by}.")
    said += _next(plan)
    tables = [_written(one.candidate) for one in pick.of.values() if not isinstance(one.candidate.layout.ffn, str)]
    return "\n\n".join([_fill(" ".join(said)), *tables])


def _written(candidate: Candidate) -> str:
    """Return the table of a candidate as it is written in a scenario file."""
    ffn = candidate.record()["ffn"]
    return "\n".join(f"  {tensor}: {path if isinstance(path, str) else ' -> '.join(path)}" for tensor, path in ffn.items())


def bound_by(timeline: Timeline, chip: Chip) -> str:
    """Return the largest item of a simulated step in words, with its share; collectives of one kind and axes are one item."""
    shares: dict[str, float] = {}
    for o, seconds in advances(timeline):
        what = _work(o, chip) if isinstance(o, Compute) else _moved(o)
        shares[what] = shares.get(what, 0.0) + seconds
    if chip.step_overhead:
        shares["the host"] = chip.step_overhead / timeline.program.block_runs
    most = max(shares, key=lambda what: shares[what])
    return f"{most} ({percent(shares[most] / sum(shares.values()))})"


def _moved(collective: Collective) -> str:
    """Return a collective in words; the permute at the end of a tick of a pipeline is mostly a wait."""
    over = ", ".join(collective.axes)
    if of_microbatch(collective.name) == HAND_OVER:
        return f"the transfers between stages over {over} and the waits for them"
    return f"the {KINDS[collective.kind]} over {over}"


def _work(compute: Compute, chip: Chip) -> str:
    """Return an operation of the compute unit in words; for a matmul with its bottleneck: HBM reads or FLOPs."""
    name = of_microbatch(compute.name).partition("@")[0]
    if not name.startswith("matmul_"):
        return name.replace("_", " ").replace("add ", "sum and norm of the ")
    weights = " and ".join(f"W_{name}" for name in _WEIGHTS.findall(name.removeprefix("matmul_")))
    multiply = flop_seconds(compute.matmuls, compute.flops, compute.dtype, chip)
    read = compute.hbm_bytes / (chip.hbm_bandwidth * chip.hbm_efficiency)
    return f"the {'HBM reads' if read > multiply else 'FLOPs'} of the matmul of {weights}"


def _title(plan: Plan) -> str:
    name = plan.scenario.name
    said = f"{name}: plan for {plan.planning.objective}, {len(plan.scenario.net.chips)} chips"
    return said + (" (interrupted)" if plan.partial else "")


def _named(plan: Plan, choice: Choice) -> str:
    several = len(plan.planning.choices.get("weights", ())) > 1
    names = [f"{name_of(one.candidate, dtypes=several)}{f' for the {phase}' if len(choice.of) > 1 else ''}"
             for phase, one in choice.of.items()]
    batch = f", batch {choice.batch}" if len(plan.planning.batch) > 1 else ""
    return " and ".join(names) + batch


def _takes(plan: Plan, choice: Choice) -> str:
    """Return the values of a choice that the objective compares."""
    keys, phase = choice.keys, plan.scenario.workload.phase if plan.scenario.workload else ""
    step = {"prefill": "", "decode": " a step", "generate": " a decode step"}[phase]
    if plan.planning.objective in ("throughput", "cost"):
        return (f"{keys['tokens_per_s']:,.0f} tokens/s at {keys['chip_s_per_token'] * 1e3:.3g} chip-ms a token, "
                f"{show(keys['step_s'], 's')}{step}")
    whole = f", {show(keys['latency_s'], 's')} in all" if phase == "generate" else ""
    return f"{show(keys['step_s'], 's')}{step}{whole}"


def _next(plan: Plan) -> list[str]:
    """Return in words the distance to the next best choice, of the phase and batch of the pick."""
    said = []
    for phase, pick in plan.pick.of.items():
        others = [one for one in plan.ranked if one.candidate.phase == phase and one.candidate.batch == plan.pick.batch
                  and one.state in ("simulated", "excluded", "open") and one.candidate != pick.candidate]
        assert pick.step_s is not None
        same = sum(one.candidate.alike for one in others if _same(one, pick.step_s)) + pick.candidate.alike - 1
        rest = [one for one in others if not _same(one, pick.step_s)]
        of = "" if len(plan.pick.of) == 1 else f" of the {phase}"
        if same:
            said.append(f"{same} other{'s' if same > 1 else ''}{of} take{'' if same > 1 else 's'} the same time.")
        if rest:
            best = min(rest, key=_known)
            more = _known(best) / pick.step_s - 1
            if best.step_s is not None or _same(best, _known(best)):
                said.append(f"The next best{of}, {name_of(best.candidate)}, takes {_longer(more)}.")
            elif best.state == "excluded":
                near = min(rest, key=lambda one: one.seconds or 0.0)
                said.append(f"All others{of} take at least {_longer(more)}; by the closed form the next best is "
                            f"{name_of(near.candidate)}.")
    return said


def _longer(more: float) -> str:
    return "as long" if more <= SAME else f"{percent(more)} longer"


def _same(one: Ranked, seconds: float) -> bool:
    """Return whether a candidate has this time for certain: it was simulated, or its bound and closed form are equal."""
    known = [one.step_s] if one.step_s is not None else [one.least_s, one.estimate_s]
    return all(time is not None and abs(time / seconds - 1) <= SAME for time in known)


def _known(one: Ranked) -> float:
    """Return the simulated time, or else the bound."""
    found = one.step_s if one.step_s is not None else one.least_s
    assert found is not None
    return found


def _front(plan: Plan) -> str:
    said = f"{len(plan.picks)} choices are Pareto-optimal: no other choice is at least as good in both latency and cost."
    several = len(plan.pick.of) > 1
    rows = [["batch", *(["phase"] if several else []), "layout", "mesh", "attention", "weights", "latency", "chip-ms a token",
             "bound by"]]
    for choice in plan.picks:
        whole = [show(choice.keys["latency_s"], "s"), f"{choice.keys['chip_s_per_token'] * 1e3:.4g}"]
        for number, (phase, one) in enumerate(choice.of.items()):
            layout = one.candidate.layout
            rows.append([str(choice.batch) if not number else "", *([phase] if several else []), one.candidate.name,
                         cut_of(one.candidate), choices_of(one.candidate), layout.weights,
                         *(["", ""] if number else whole), one.bound_by])
    return _fill(said) + "\n\n" + table(rows, "rlllllrrl" if several else "rllllrrl")


def _table(plan: Plan) -> str:
    """Return the table of the best candidates at the pick's batch. Candidates of one name and time share a row."""
    if len(plan.picks) > 1:
        return ""
    head = [["layout", "mesh", *CHOICES, "weights", "step", "MFU", "chip-ms/token", "memory", "bound by"]]
    rows = list[list[str]]()
    for phase in plan.pick.of:
        some = _rows(plan, phase)
        rows += some if len(plan.pick.of) == 1 else [[phase, *row] for row in some]
    sides = "lllllrrrrrl"
    if len(plan.pick.of) > 1:
        head, sides = [["phase", *("time" if cell == "step" else cell for cell in head[0])]], "l" + sides
    same = [at for at, cell in enumerate(head[0]) if (cell == "weights" and len({row[at] for row in rows}) == 1)
            or (cell in CHOICES[1:] and not any(row[at] for row in rows))]
    rows = [[cell for at, cell in enumerate(row) if at not in same] for row in head + rows]
    sides = "".join(side for at, side in enumerate(sides) if at not in same)
    note = "Times are simulated; ~ marks a closed form, of a layout that was not simulated."
    return table(rows, sides) + "\n" + (note if any("~" in cell for row in rows for cell in row) else "")


def _rows(plan: Plan, phase: str) -> list[list[str]]:
    """Return the rows of one phase."""
    rows, seen = list[list[str]](), dict[tuple[object, ...], list[str]]()
    for one in plan.ranked:
        if (one.candidate.phase, one.candidate.batch) != (phase, plan.pick.batch) or one.seconds is None or \
                one.state not in ("simulated", "excluded", "open"):
            continue
        layout = one.candidate.layout
        key = one.candidate.name, choices_of(one.candidate), layout.weights, f"{one.seconds:.4g}"
        if key in seen:
            seen[key][1] = seen[key][1].removesuffix(" and others") + " and others"
        elif len(rows) < ROWS:
            seen[key] = _row(plan, one)
            rows.append(seen[key])
    return rows


def _row(plan: Plan, one: Ranked) -> list[str]:
    assert one.seconds is not None and one.memory is not None
    keys, share = plan.alone(one), total_bytes(one.memory) / one.memory.capacity
    return [one.candidate.name, cut_of(one.candidate), attention_of(one.candidate), experts_of(one.candidate),
            stages_of(one.candidate), one.candidate.layout.weights,
            ("" if one.step_s is not None else "~") + show(one.seconds, "s"), f"{keys['mfu']:.1%}",
            f"{keys['chip_s_per_token'] * 1e3:.4g}", f"{share:.0%}", one.bound_by]


def _certificate(plan: Plan) -> str:
    """Return the certificate in sentences: the numbers of candidates, fitted, simulated and excluded, and the open rest."""
    counts = {state: plan.count(state) for state in ("simulated", "excluded", "open", "limited", "misfit")}
    runs = sum(one.state == "simulated" and one.candidate.alike > 0 for one in plan.ranked)
    alike = f" in {runs} runs (the others are equivalent by symmetry)" if runs < counts["simulated"] else ""
    found = f"{counts['simulated']:,} simulated{alike}, {counts['excluded']:,} excluded by a lower bound."
    said = [f"Best of {plan.space:,} layouts: {found}" if plan.certified else f"Not certified: of {plan.space:,} layouts {found}"]
    if counts["limited"] or counts["misfit"]:
        limits = ", ".join(dict.fromkeys(one.why for one in plan.ranked if one.state == "limited"))
        out = [f"{counts['limited']:,} do not meet a limit ({limits})"] if counts["limited"] else []
        out += [f"{counts['misfit']:,} do not fit the model, the batch or the mesh"] if counts["misfit"] else []
        fitted = "" if plan.unseen else f"{plan.space - counts['misfit'] - counts['limited']:,} fit; "
        said.append(f"{fitted}{', '.join(out)}.")
    if plan.added:
        said.append(f"Without {' and '.join(plan.added)} no layout fits into memory: "
                    f"{'both are' if len(plan.added) > 1 else 'it is'} tried too.")
    if plan.unseen:
        said.append("The excluded layouts include tables of shardings that do not fit into memory.")
    if counts["open"]:
        open_ = sorted((one for one in plan.ranked if one.state == "open"), key=_known)
        names = "; ".join(f"{name_of(one.candidate)} (batch {one.candidate.batch})" for one in open_[:NAMED])
        said.append(f"{counts['open']:,} could not be excluded and could be better by up to {percent(plan.gap)}: {names}"
                    f"{f' and {len(open_) - NAMED:,} more' if len(open_) > NAMED else ''}. Allow more with --simulations.")
    return _fill(" ".join(said))


def _others(plan: Plan) -> str:
    """Return the choices of the paper's model and of the file in sentences, with the cost of each."""
    said = []
    for who, choice in (("The paper's model would take", plan.paper), ("The layout of the file is", plan.file)):
        if choice is None:
            continue
        key = "chip_s_per_token" if plan.planning.objective in ("throughput", "cost") else "latency_s"
        pick = next((one for one in plan.picks if one.batch == choice.batch), plan.pick)
        more = choice.keys[key] / pick.keys[key] - 1
        what = "chip time a token" if key == "chip_s_per_token" else "time"
        cost = "the same" if abs(more) <= SAME else f"{1 + more:.3g} times the" if more >= 1 else \
            f"{percent(abs(more))} {'more' if more > 0 else 'less'}"
        than = f" than the pick at batch {pick.batch}" if len(plan.picks) > 1 and cost != "the same" else ""
        said.append(f"{who} {_named(plan, choice)}: {_takes(plan, choice)}, {cost} {what}{than}.")
    return _fill(" ".join(said))


def _shapes(plan: Plan) -> str:
    """Return the fastest shape of as many chips and the fastest available slice in sentences, and a table of shapes."""
    shapes = [one for one in plan.shapes if one.saving is not None]
    if not any(not one.present for one in shapes):
        return ""
    best = shapes[0]
    buildable = next((one for one in shapes if one.shape.buildable), None)
    said = [_brings(plan, best)]
    if plan.planning.layouts == "all":
        said.insert(0, "Shapes are compared by the paper's five layouts.")
    if buildable and buildable is not best:
        shape = buildable.shape
        same = "the present one" if buildable.present else shape.how
        which = f"The best shape that is available is {shape.name} ({same})"
        said.append(f"{which}: without its faults it {_saves(buildable)}." if buildable.present and plan.scenario.changes
                    else f"{which}: it {_saves(buildable)}.")
    several = len(plan.pick.of) > 1
    rows = [["shape", "wraparounds", "decode step" if several else "step", "saves in all" if several else "saves", "layout",
             "available"]]
    for one in shapes[:SHAPES]:
        closed = [axis for axis, wraps in zip(axis_names(len(one.shape.wrap)), one.shape.wrap) if wraps]
        rows.append([f"{one.shape.name}{' (present)' if one.present else ''}", ", ".join(closed) or "none", show(one.step_s, "s"),
                     f"{one.saving * 100:.1f} %", one.candidate, f"{_CAN[one.shape.buildable]}: {one.shape.how}"])
    return _fill(" ".join(said)) + "\n\n" + table(rows, "llrrll")


def _brings(plan: Plan, best: Reshaped) -> str:
    if best.present:
        shape = f"No other shape of {len(plan.scenario.net.chips)} chips is faster than {best.shape.name}"
        return f"{shape} without its faults, which {_saves(best)}." if best.saving and best.saving > SAME else f"{shape}."
    present = next((one.shape.name for one in plan.shapes if one.present), "the network")
    return f"{present} as {best.shape.name} {_saves(best)} ({best.shape.how})."


def _saves(one: Reshaped) -> str:
    saving = one.saving or 0.0
    verb = "save" if saving > 0 else "cost"
    return "would take the same time" if abs(saving) <= SAME else f"would {verb} {percent(abs(saving))}"


def _fill(said: str) -> str:
    return textwrap.fill(said, WIDTH, break_long_words=False, break_on_hyphens=False)

