"""The keys of result.json: the runs that have each, its unit, and its meaning. docs/result_keys.md is made from this table.

`[]` in a path is a list, `*` any name. A key without a unit is a plain number, a text, a flag or a list of them. The module knows
nothing of the computation of keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EVERY, MODEL, GENERATE, FAULTS, CORES, INTERRUPTED = "every run", "model", "generate", "faults", "cores", "interrupted"
RUNS: Final = {  # the runs that have a key, in words
    EVERY: "every run", MODEL: "runs of a model", GENERATE: "runs with `phase: generate`",
    FAULTS: "runs on a network with faults", CORES: "runs on a network whose nodes are cores",
    INTERRUPTED: "runs that Ctrl-C ended"}


@dataclass(frozen=True)
class ResultKey:
    """A key of a result: its path from the top, the runs that have it, its unit, and one sentence."""

    path: str
    runs: str
    unit: str  # "s", "B", "B/s", "FLOP" or ""
    about: str
    expected: bool = False  # whether `expect` and the limits of a plan can name it


def _keys(prefix: str, runs: str, unit: str, /, **about: str) -> tuple[ResultKey, ...]:
    return tuple(ResultKey(f"{prefix}{name.removesuffix('_')}", runs, unit, text) for name, text in about.items())


def _scalar(path: str, runs: str, unit: str, about: str) -> ResultKey:
    return ResultKey(path, runs, unit, about, expected=True)


KEYS: Final = (
    ResultKey("scenario", EVERY, "", "The record: the scenario with every default filled in, which can be run again."),
    *_keys("partial.", INTERRUPTED, "", passes="The passes that were done before Ctrl-C; the other keys are of these alone.",
           of="The passes of the whole workload."),
    ResultKey("chips", EVERY, "", "The number of chips."),
    ResultKey("cores", CORES, "", "The number of nodes, where each node is one core of a chip."),
    _scalar("step_s", MODEL, "s",
            "The time of all layers with embedding and logits: of the whole prefill, or of the mean decode step, however many "
            "tokens it yields."),
    _scalar("latency_s", MODEL, "s", "The time from the start of the first pass to the end of the last."),
    _scalar("makespan_s", EVERY, "s", "The same as `latency_s`; of a bare program, its time from start to end."),
    _scalar("prefill_s", GENERATE, "s", "The time of all prefill passes."),
    _scalar("tokens_per_s", MODEL, "",
            "Tokens a second: of a prefill batch x context, of a decode batch x tokens, of generate both, over `latency_s`. Each "
            "speculative step counts as 1 + accepted tokens."),
    _scalar("prompt_tokens_per_s", GENERATE, "", "Tokens of the prompts over `prefill_s`."),
    _scalar("generated_tokens_per_s", GENERATE, "", "Generated tokens, likewise, over the time of all decode steps."),
    _scalar("chip_s_per_token", MODEL, "s", "Chip-seconds a token: chips x `latency_s` / tokens."),
    _scalar("mfu", MODEL, "",
            "The model FLOP utilisation of the paper: 2 x nominal parameters x tokens / (chips x peak bf16 x `latency_s`); of a "
            "mixture of experts, those parameters that a token uses. The tokens are those of `tokens_per_s`: proposed tokens "
            "that are rejected are no useful work, and neither is a draft model."),
    _scalar("memory.weights", MODEL, "B", "The weights on one chip, those of a draft model too; of two layouts the larger."),
    _scalar("memory.kv_cache", MODEL, "B", "The keys and values on one chip, likewise."),
    _scalar("memory.activations", MODEL, "B", "The activations on one chip; of two layouts the larger."),
    ResultKey("memory.capacity", MODEL, "B", "The HBM of one chip."),
    ResultKey("memory.fits", MODEL, "", "Whether weights, cache and activations fit into the capacity."),
    _scalar("memory.longest_context", MODEL, "",
            "The tokens whose keys and values fit into `workload.cache_share` of HBM; 10**9: any number, because every layer "
            "has a window."),
    *_keys("breakdown_s.", MODEL, "s",
           compute="The mean compute time of a step on the chip that finishes last, with communication that is hidden behind it.",
           overhead="Likewise its fixed costs, with those of the host, and launches that no compute hides.",
           exposed_collective="The rest of the step; the parts add up to `step_s`."),
    ResultKey("breakdown_s.bubble", MODEL, "s",
              "With `layout.pipeline`: the time in which a stage waits until the stage before has a microbatch for it."),
    *_keys("estimate.paper.", EVERY, "s", step_s="The time by the model of the paper.",
           compute_s="Of it the computations.", collective_s="Of it the collectives."),
    ResultKey("estimate.paper.collective_bytes", EVERY, "B", "The bytes D of all collectives of one chip."),
    ResultKey("estimate.axes.step_s", EVERY, "s", "The time by the closed form axis by axis."),
    ResultKey("estimate.bound.step_s", EVERY, "s", "The lower bound: the least time that any algorithm could need."),
    ResultKey("estimate.bound.of_limit", EVERY, "", "The lower bound as a share of the simulated time."),
    ResultKey("estimate.unlooped.step_s", EVERY, "s", "The time without overlap, by the ratio of both closed forms."),
    *_keys("operations[].", EVERY, "", section="The block, where a program has several: `block`, `block 2` and so on.",
           name="The name of an operation of the last simulated run of a block, on the chip that finishes last.",
           kind="`compute`, or the kind of collective.", axes="The physical axes of a collective.",
           chips="The chips of its group, of the largest where they differ; 1: a computation."),
    ResultKey("operations[].bytes", EVERY, "B", "Of a collective D, of a computation its HBM bytes."),
    *_keys("operations[].", EVERY, "s", start_s="The start, from the start of that run.", end_s="The end, likewise.",
           bound_s="The lower bound of the operation alone."),
    *_keys("operations[].", EVERY, "",
           of_limit="The bound as a share of the time from the first start to the last end on any chip.",
           algorithm="The algorithm, the loop, and how rings that lack a link run."),
    ResultKey("operations[].alternatives", EVERY, "s",
              "The time of each algorithm alone by closed form, where the fastest was taken."),
    *_keys("links.busiest[].", EVERY, "", from_="The node that one of the ten busiest links leaves.",
           to="The node that it enters."),
    ResultKey("links.busiest[].bytes", EVERY, "B", "The bytes that it carries in the whole run."),
    *_keys("links.busiest[].", EVERY, "", busy="The share of `makespan_s` in which it sends.",
           users="The share of its bytes that each collective has."),
    ResultKey("links.mean_busy", EVERY, "", "The mean share of the time in which a link sends."),
    ResultKey("links.per_axis.*.bytes", EVERY, "B", "The bytes of all links along an axis."),
    *_keys("links.per_axis.*.", EVERY, "", mean_busy="The mean share of the time in which such a link sends.",
           max_busy="The largest of these shares."),
    *_keys("links.without_busiest.", EVERY, "",
           links="The directions of links that are the busiest; the mapping is null where nothing is sent, and where the network "
                 "has faults.", cables="Their cables."),
    ResultKey("links.without_busiest.step_s", EVERY, "s", "The time if these cables had infinite bandwidth."),
    ResultKey("faults.cost", FAULTS, "", "What all faults cost together, as a share of the time."),
    ResultKey("faults.step_s", FAULTS, "s", "The time without the faults."),
    *_keys("faults.", FAULTS, "", count="The number of faults.", tried="How many were repaired one at a time.",
           runs="How many runs that took."),
    *_keys("faults.worst[].", FAULTS, "", kind="The kind of one of the three faults that cost most.",
           from_="The node that its link leaves.", to="The node that it enters.", cables="The cables of the fault.",
           changes="Its changes of links, in the file."),
    *_keys("faults.worst[].", FAULTS, "B/s", bandwidth="The bandwidth of the faulty link.",
           built="Its bandwidth as it was built."),
    ResultKey("faults.worst[].late", FAULTS, "s", "By how much its latency is above that as built."),
    ResultKey("faults.worst[].cost", FAULTS, "", "What the fault costs, as a share of the time."),
    ResultKey("faults.worst[].step_s", FAULTS, "s", "The time without it."),
    ResultKey("faults.worst[].as_dead.cost", FAULTS, "",
              "What its cables would cost if they were dead, as a share of the present time; the mapping is null of dead ones, "
              "of faults that cost little, and where no run is possible then."),
    ResultKey("faults.worst[].as_dead.step_s", FAULTS, "s", "The time if they were dead."),
    ResultKey("range_s", EVERY, "s",
              "One standard deviation below and above the time, from the uncertainties of the chip; null if it has none."),
    ResultKey("validated", EVERY, "", "The measured times that the chip was compared with; null if there are none."),
    *_keys("layout.", MODEL, "", name="The name of the layout of the last pass.",
           kind="Whether it is a formula of the paper, or what its published code runs; null if neither."),
    ResultKey("layout.other.name", MODEL, "", "The name of its counterpart; null where there is none."),
    ResultKey("layout.other.step_s", MODEL, "s",
              "The time with the counterpart, by the ratio of both closed forms; null where there is none."),
    *_keys("layout.as_run.*.", MODEL, "",
           shardings="The shardings where the last pass of a phase keeps its activations and runs attention.",
           attention="What attention is sharded over, what one chip has of it, and its kernel, with the one of `layout` and "
                     "`table` that names it; null: the default.",
           heads="The query heads of the model and as run, how many chips have the same one of the same sequence, and whether "
                 "heads are split over chips.",
           split_heads="Where heads do not divide by the chips: the ways to run them, each with its estimate of a pass, s.",
           kv_heads="Likewise the KV heads, how many of them one chip reads, and whether W_k and W_v have whole heads, copied "
                    "where these do not divide, although each query head has its own.",
           batch="The sequences of the file, and those that are run, with padding.",
           loops="The collective and kind of loop of each matmul that can have one; null where no loop gains.",
           rings="How the collectives run whose rings lack a link.", mesh="The axes of each logical axis.",
           experts="Of a mixture: its experts, those of a chip and of a token, the axes that cut them, the load of the busiest "
                   "chip in means over all chips, and the share of the copies of tokens that is dropped.",
           pipeline="The axis of the pipeline, the stages with their layers, and the microbatches; only with `layout.pipeline`.",
           differs="A sentence for each of these that is not as the words of the file have it."),
    *_keys("expect[].", EVERY, "", what="The key of the result that the file expects a value of.", value="The expected value.",
           got="The value of this run.", error="got / value - 1.", within="The largest |error| that is accepted; null: any.",
           ok="Whether the error is within that; null: any is.", source="Where the value is from."),
    *_keys("engine.", EVERY, "",
           events="Events of SimPy on private links; on shared links, instants at which flows start or end, and changes of "
                  "bandwidth.", flows="The messages that went through the fluid network.",
           chips_simulated="The chips that were simulated; the others are like one of them.",
           blocks_simulated="The blocks that were simulated; the others repeat them.", blocks="The blocks of all passes.",
           period="The blocks after which the state came back; 0: it did not.", leapt="The blocks that were leapt over.",
           passes_simulated="The passes that were simulated; the others lie between them.", passes="The passes of the workload.",
           error="The largest share by which `makespan_s` can be off because of that.",
           proved="Whether that error is proved, or only tested."),
    ResultKey("engine.wall_s", EVERY, "s", "The time that the simulation took on this machine."),
)
SCALARS: Final = {key.path: key.unit for key in KEYS if (key.expected or key.path == "chips") and "." not in key.path}
