"""The layout as it runs on a network, beside the layout in the scenario: shardings, heads, batch, loops, rings, mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from torussim.chips import Chip
from torussim.choice import chosen
from torussim.collectives.lower import name_of
from torussim.keeping import latent_form, parts_of, travellers
from torussim.layouts import Layout, default_mesh
from torussim.mixture import spread
from torussim.models import Model
from torussim.outlines import Outlines, broken, outlines_of
from torussim.pipeline import of_microbatch
from torussim.program import Collective, Compute, Program
from torussim.topology.grid import Grid
from torussim.transformer import Builder
from torussim.workload import Forward, Workload, passes

ALIKE = 1.005  # loads of chips, in means, that count as equal


def as_run(model: Model, workload: Workload, layouts: Mapping[str, Layout], network: Grid | Outlines,
           chip: Chip, builders: Mapping[Forward, Builder] | None = None) -> dict[str, dict[str, Any]]:
    """Return how the last pass of each phase runs, as JSON data. `builders` are the existing ones of its passes.

    For each phase: the shardings of attention; `attention`: its sharding, a chip's part of it, and its kernel; heads and KV heads
    of the model and as run, with the number of chips that have the same head of the same sequence (`copies`); the batch; the loop
    of each matmul that may have one; the collectives whose rings lack a link; the mesh; and in `differs` a sentence for each
    difference from the words of the scenario.
    """
    outlines = outlines_of(network)
    axes, found = {axis: outlines.net.length(axis) for axis in outlines.net.axes}, dict[str, dict[str, Any]]()
    for forward in {forward.phase: forward for forward in passes(workload)}.values():
        layout = layouts[forward.phase]
        builder = (builders or {}).get(forward) or Builder(model, layout, forward, axes)
        found[forward.phase] = _phase(model, workload, layout, builder, outlines, chip)
    return found


def attention_words(found: Mapping[str, Any]) -> str:
    """Return the attention sharding in words, and the number of sequences to which the batch is padded, if it is."""
    batch, over, parts = found["batch"], str(found["attention"]["over"]), found["attention"].get("parts")
    cut = f" (cut {parts} ways)" if parts else ""
    return over + cut + (f", padded to {batch['run']}" if batch["run"] != batch["asked"] else "")


def context_words(found: Mapping[str, Any]) -> str:
    """Return the kernel of attention, and how it runs over latents, in windows and over a context that is cut, in words."""
    attention, window = found["attention"], found["attention"].get("window")
    why = {"layout": "as given", "table": "as its table says", None: "by default"}[attention["kernel"]["given"]]
    said = [f"{attention['kernel']['run']} ({why})"]
    said += [f"over {attention_words(found)}, where {_listed(attention['travel'])} travel"] if "travel" in attention else []
    if window:
        few = "all layers" if window["layers"] == window["of"] else f"{window['layers']} of {window['of']} layers"
        said.append(f"a window of {window['tokens']:,} tokens in {few}")
    return "; ".join([*said, *([f"latents {_listed(attention['latent'])}"] if "latent" in attention else [])])


def experts_words(found: Mapping[str, Any]) -> str:
    """Return how the experts of a mixture are spread, in words."""
    gathered = ", gathered before use" if found["gathered"] else ""
    over = f"over {_listed(found['axes'], 6)}" if found["axes"] else "not cut"
    said = [f"{found['model']} {over}{gathered}, {found['chip']} on a chip, {found['token']} a token"]
    if found["busiest"] > ALIKE:
        said.append(f"the busiest chip has {found['busiest']:.3g} times the mean load")
    if found["dropped"]:
        said.append(f"{found['dropped']:.1%} of the copies of tokens are dropped")
    return "; ".join(said)


def pipeline_words(found: Mapping[str, Any]) -> str:
    """Return the stages of a pipeline in words."""
    stages, layers, parts = found["stages"], found["layers"], found["microbatches"]
    if stages == 1:
        return f"one stage, as the axis {found['axis']} has one chip"
    of = f"{layers[0]}" if len(set(layers)) == 1 else f"{min(layers)} or {max(layers)}"
    cut = "1 microbatch" if parts == 1 else f"{parts} microbatches"
    return f"{stages} stages on {found['axis'].partition('*')[0]}, of {of} layer{'' if of == '1' else 's'} each; {cut}"


def _phase(model: Model, workload: Workload, layout: Layout, builder: Builder, outlines: Outlines, chip: Chip) -> dict[str, Any]:
    net, table, lengths = outlines.net, builder.table, builder.lengths
    q, kv, axes = table["q"].used, table["kv"].used, dict(builder.physical)  # of one stage
    chips = prod(axes.values())
    cut = {**{dim: prod(lengths[a] for a in q.axes(dim)) for dim in "BH"}, "L": parts_of(builder)}
    sequences, share = builder.forward.batch // cut["B"], builder.share
    kept = _whole(share.kept)
    words = {"B": "batch", "H": "heads", "L": "sequence"}
    program = builder.build()
    run = chosen(program, outlines, chip)
    found: dict[str, Any] = {
        "shardings": {"residual": str(table["residual"].stored), "q": str(q), "kv": str(kv)},
        "attention": {"over": " and ".join(words[dim] for dim in "BHL" if cut[dim] > 1) or "nothing", "sequences": sequences,
                      "heads": _whole(share.columns), "kv_heads": kept, "kernel": _kernel(layout, builder), **_context(builder)},
        "heads": {"model": model.heads, "run": builder.heads, "copies": _whole(chips / prod(cut.values())),
                  "split": share.shared > 0},
        "kv_heads": {"model": 1 if model.latent else model.kv_heads, "run": builder.kv_heads,
                     "copies": _whole(chips / (cut["B"] * cut["L"]) * kept / builder.kv_heads), "read": share.kv_heads,
                     "copied": bool(layout.heads and layout.heads.copied)},
        "batch": {"asked": workload.batch, "run": builder.forward.batch * builder.microbatches},
        "loops": _loops(program, run),
        "rings": _rings(run, net),
        "mesh": {axis: list(parts) for axis, parts in builder.mesh.items()},
    }
    if layout.heads and layout.heads.tried:
        found["split_heads"] = [{"way": "sum" if heads.split else "pad", "heads": heads.run, "seconds": seconds}
                                for heads, seconds in layout.heads.tried]
    if layout.pipeline:
        found["pipeline"] = {"axis": layout.pipeline.axis, "stages": len(builder.stages), "microbatches": builder.microbatches,
                             "layers": [len(layers) for layers in builder.stages]}
    if model.experts:
        found["experts"] = spread(builder)
    return {**found, "differs": _differs(found, layout, cut, chips, axes, _sums(program, run, chip))}


def _kernel(layout: Layout, builder: Builder) -> dict[str, str | None]:
    """Return the kernel of attention, and which of the layout and its table names it; None: neither does."""
    given = "layout" if layout.attention_kernel else "table" if builder.table.attention_kernel else None
    return {"run": builder.layout.attention_kernel, "given": given}


def _context(builder: Builder) -> dict[str, Any]:
    """Return in how many parts the context is cut, and what travels; a window that is shorter; the form of latent attention."""
    parts, latent, m = parts_of(builder), latent_form(builder), builder.model
    window = {"tokens": m.window, "layers": m.layers - len(m.full_layers), "of": m.layers}
    cut = {"parts": parts, "travel": list(travellers(builder))} if parts > 1 else {}
    shorter = m.window is not None and m.window < builder.forward.attended
    return {**cut, **({"window": window} if shorter else {}), **({"latent": list(latent)} if latent else {})}


def _whole(value: float) -> float | int:
    return round(value) if value == round(value) else value


def _loops(program: Program, run: Program) -> dict[str, Any]:
    """Return for each matmul that may be looped the collective and the kind of its loop; None if no loop gains."""
    loops = {o.name: o.loop for o in run.operations() if isinstance(o, Compute)}
    found = {}
    for o in program.operations():
        if isinstance(o, Compute) and o.loops:
            loop = loops[o.name]
            found[of_microbatch(o.name)] = {"with": of_microbatch(loop.collective), "kind": loop.kind} if loop else None
    return found


def _sums(program: Program, run: Program, chip: Chip) -> list[str]:
    """Return a sentence if the stack of the chip makes all-reduces of the sums of layers."""
    kinds = {o.name: o.kind for o in program.operations() if isinstance(o, Collective)}
    made = [name_of(o) for o in run.operations() if isinstance(o, Collective) and o.kind != kinds[o.name]]
    if not made:
        return []
    how = _listed(list(dict.fromkeys(made)))
    return [f"sums: serving stacks on {chip.name} sum the results of a layer by all-reduces ({how}) and loop none; the residual "
            "is whole on every chip."]


def _rings(run: Program, net: Grid) -> dict[str, Any]:
    """Return the collectives with rings that lack a link: the axes, and whether they run as lines or with detours."""
    return {of_microbatch(o.name): {"axes": broken(o, net), "run": "lines" if o.detour is False else "detours"}
            for o in run.operations() if isinstance(o, Collective) and broken(o, net)}


# -- differences from the words of the scenario -------------------------------------------------------------------------


def _differs(found: Mapping[str, Any], layout: Layout, cut: Mapping[str, int], chips: int, axes: Mapping[str, int],
             sums: Sequence[str]) -> list[str]:
    said = [*_cut(found, layout, cut, chips), *_heads(found), *sums]
    if not sums and layout.overlap is not False and found["loops"] and not any(found["loops"].values()):
        asked = "true" if layout.overlap is True else layout.overlap
        said.append(f"overlap: the file says {asked}; no matmul is looped, because none gains by a loop with a collective.")
    for run in ("lines", "detours"):
        names = [name for name, ring in found["rings"].items() if ring["run"] == run]
        if names:
            over = ", ".join(dict.fromkeys(axis for name in names for axis in found["rings"][name]["axes"]))
            how = "run as lines" if run == "lines" else "take detours"
            said.append(f"rings: those over {over} lack a link and {how} in {_listed(names)}.")
    if not layout.mesh and {a: list(parts) for a, parts in default_mesh(axes).items()} != found["mesh"]:
        turned = ", ".join(f"{axis}: [{', '.join(parts)}]" for axis, parts in found["mesh"].items())
        said.append(f"mesh: the default takes the longest axis of the network first: {{{turned}}}.")
    return said


def _cut(found: Mapping[str, Any], layout: Layout, cut: Mapping[str, int], chips: int) -> list[str]:
    """Return how the batch is padded, and the axes that cut attention if its name says otherwise.

    `attention: heads`, the default, has no effect on a user-defined table.
    """
    asked, run = found["batch"]["asked"], found["batch"]["run"]
    over, copies, said = found["attention"]["over"], found["heads"]["copies"], []
    if run != asked:
        said.append(f"batch: padded from {_count(asked, 'sequence')} to {run}, which divide over the chips.")
    silent = chips == 1 or (layout.attention == "heads" and not isinstance(layout.ffn, str))
    as_asked = over == layout.attention or (layout.attention == "sequence" and over.endswith("sequence") and cut["B"] == 1)
    if not silent and not (as_asked and copies == 1):
        batch, heads = (f"cut {cut[dim]} ways" if cut[dim] > 1 else "not cut" for dim in "BH")
        heads += f", and the sequence cut {cut['L']} ways" if cut["L"] > 1 else ""
        alike = f", so {copies} chips do the same work" if copies != 1 else ""
        said.append(f"attention: the file says {layout.attention}; the batch is {batch} and the heads are {heads}{alike}.")
    return said


def _heads(found: Mapping[str, Any]) -> list[str]:
    """Return how heads are split or padded, with the estimates by which this was chosen."""
    said, tried = [], found.get("split_heads", ())
    for key, name in (("heads", "head"), ("kv_heads", "KV head")):
        model, run = found[key]["model"], found[key]["run"]
        if model != run:
            said.append(f"{key}: padded from {_count(model, name)} to {run}, which divide over the chips.")
    if found["heads"]["split"]:
        count, mine = _count(found["heads"]["run"], "head"), found["attention"]["heads"]
        said.append(f"heads: the {count} are split, {mine:.4g} a chip, and chips that share one sum its scores.")
    if found["kv_heads"]["copied"]:
        said.append("W_k and W_v: whole heads, copied where these do not divide, which is faster by estimate than to cut them "
                    "like W_q and exchange K and V.")
    if tried:
        said.append(f"split_heads: a pass takes by estimate {_listed([_way(one) for one in tried], 4)}.")
    return said


def _way(tried: Mapping[str, Any]) -> str:
    way = "split heads" if tried["way"] == "sum" else _count(tried["heads"], "whole head")
    return f"{tried['seconds'] * 1e3:.3g} ms with {way}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _listed(parts: Sequence[str], most: int = 3) -> str:
    shown = [*parts[:most], *([f"{len(parts) - most} more"] if len(parts) > most else [])]
    return ", ".join(shown[:-1]) + (" and " if shown[1:] else "") + shown[-1]
