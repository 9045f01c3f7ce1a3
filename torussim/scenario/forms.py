"""The forms of a scenario file: the keys of each section, how each is read, and its meaning in one sentence.

docs/scenario_file.md and the schema for editors are made from these tables. `parts` says where each form is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torussim.collectives.lower import ALGORITHMS
from torussim.described import FUNCTION, TEXT, Form, Key, Reader, reads
from torussim.layouts import (
    ATTENTION,
    AXES,
    DIMENSIONS,
    EXPERTS,
    HEADS,
    HEADS_PADDED,
    KERNEL,
    KERNELS,
    LATENT,
    LAYOUTS,
    LONGEST,
    REQUIRED,
    SPLIT_HEADS,
)
from torussim.program import KINDS
from torussim.result_keys import KEYS
from torussim.scenario.values import (
    algorithms,
    axes,
    by_name,
    each,
    elsewhere,
    flag,
    named,
    number,
    one_of,
    one_or_each,
    order,
    overlap,
    quantity,
    shares,
    split,
    stored,
    text,
    topology_kind,
    twist,
    whole,
)
from torussim.sharding import pattern
from torussim.topology.graph_files import FORMATS
from torussim.topology.routing import NAMES

MAX_SIZE = 10**9  # of a batch or a context
MAX_PASSES = 100_000
MAX_AXES = 16
MAX_MICROBATCHES = 1024  # each is a tick of every pass
BASES = ("model", "chip")  # in these sections a name is short for {base: name}

_CUTS = each(text, "[y, z]")


@reads(f"one of {', '.join(EXPERTS)}, or a list of logical axes", {"anyOf": [{"enum": list(EXPERTS)}, _CUTS.schema]})
def experts(value: Any) -> Any:
    """Return the axes that cut the experts, as Layout.experts has them."""
    return tuple(_CUTS(value)) if isinstance(value, list) else one_of("cut of experts", *EXPERTS)(value)


_DTYPE = one_of("dtype", "bf16", "fp8", "int8", "int4")
_COORDINATE = each(whole(0), "[0, 0, 0]", least=1, most=MAX_AXES)
_NAMES = each(text, "[gather, multiply]")


def _part(name: str, words: str) -> Reader:
    """Return a reader of a mapping whose form is checked elsewhere: the part of this name (`parts`)."""
    return elsewhere(words, {"$ref": f"#/$defs/{name}"})


def _list_of(name: str, words: str) -> Reader:
    return elsewhere(words, {"type": "array", "items": {"$ref": f"#/$defs/{name}"}})


@reads("coordinates of a chip, or the name of a switch", {"anyOf": [TEXT, _COORDINATE.schema]})
def _node(value: Any) -> Any:
    return text(value) if isinstance(value, str) else _COORDINATE(value)


@reads("coordinates of a chip; a number where there is one axis", {"anyOf": [whole(0).schema, _COORDINATE.schema]})
def _place(value: Any) -> Any:
    return [whole(0)(value)] if not isinstance(value, list) else _COORDINATE(value)


TOP: Form = {
    "name": Key(text, otherwise="the name of the file", example="PaLM 540B decode on 64 TPU v4",
                about="The title of the scenario; the output folder is named after it."),
    "model": Key(_part("model", "a preset, the path of a Hugging Face config.json or of its folder, or a mapping of fields"),
                 example="palm-540b",
                 about="The transformer that is run; needed unless the file gives a program."),
    "chip": Key(_part("chip", "a preset, or a mapping of fields"), otherwise="the chip of the slice", example="tpu-v4",
                about="The chip of every node; needed unless `topology.slice` brings it."),
    "topology": Key(_part("network", "a mapping"), needed=True, example={"shape": [4, 4, 4]},
                    about="The network between the chips."),
    "layout": Key(_part("layouts", "a mapping, or one for each phase"), otherwise="every key at its default",
                  example={"ffn": "ws2d"},
                  about="The sharding of each tensor, the dtypes and the logical mesh; with `phase: generate` it can be "
                        "`{prefill: {...}, decode: {...}}`."),
    "workload": Key(_part("workload", "a mapping"), example={"phase": "decode", "batch": 512, "context": 2048},
                    about="The phase, batch and context that are run; needed unless the file gives a program."),
    "expect": Key(_part("expect", "a mapping of keys of the result"), example={"step_s": {"value": "93.8 ms", "within": 0.1}},
                  about="The values that the result is compared with; `run --strict` fails when one is missed."),
    "program": Key(elsewhere("a list of operations, or a mapping that names a Chakra trace", {"anyOf": [
        {"type": "array", "items": {"$ref": "#/$defs/operation"}, "minItems": 1}, {"$ref": "#/$defs/chakra"}]}),
                   example=[{"name": "gather", "collective": "all_gather", "axes": "yz", "bytes": "64 MB"}],
                   about="The operations that every chip runs, in place of model, layout and workload."),
    "plan": Key(_part("plan", "a mapping"), otherwise="every key at its default", example={"objective": "throughput"},
                about="The search of `torussim plan`; the other commands ignore it."),
    "trace": Key(_part("trace", "a mapping"), otherwise="names are as in the scenario",
                 example={"operations": {"fusion.123": "gather_q"}},
                 about="The names of operations and chips in measured traces, for `torussim blame`."),
    "code": Key(by_name(text, "{mine.py: SHA-256}"), example={"mine.py": "9f86d081884c7d65"},
                about="In the record of a run: the SHA-256 of each file of user-defined code, so that the report can say that "
                      "one has changed."),
}

TOPOLOGY: Form = {
    "kind": Key(topology_kind, "torus", example="mesh",
                about="The kind of network: a torus, a mesh (no wraparounds), a ring (one axis), a network by name, a graph "
                      "file, or a user-defined function."),
    "shape": Key(each(whole(1), "[4, 4, 4]", least=1, most=MAX_AXES), otherwise="that of the slice", example=[4, 4, 4],
                 about="The number of chips along each axis; needed unless `slice` is given."),
    "slice": Key(text, example="v5e-16",
                 about="A public slice by its name, with its true shape, wraparounds and chip; or a generation and a shape in "
                       "chips, such as v5p-4x4x8."),
    "wrap": Key(one_or_each(flag, "[true, true, false]"), otherwise="that of the slice, else by the rule of the chip",
                example=[True, True, False],
                about="Whether each axis has a wraparound; an axis of up to 2 chips has none."),
    "bandwidth": Key(one_or_each(quantity("B/s"), "[45 GB/s, 45 GB/s]"), otherwise="that of the chip", example="45 GB/s",
                     about="The bandwidth of one direction of one link: one value, or one for each axis."),
    "latency": Key(one_or_each(quantity("s", zero=True), "[1 us, 1 us]"), otherwise="that of the chip", example="1 us",
                   about="The latency of one link: one value, or one for each axis."),
    "twist": Key(twist, otherwise="that of the slice, else false", example={"x": {"z": 4}},
                 about="By how much going round an axis shifts the coordinates of other axes; true: the twist of n x n x 2n and "
                       "n x 2n x 2n."),
    "routing": Key(named("routing", *NAMES), example="shortest",
                   otherwise="dimension_order on a torus or mesh, minimal where it is twisted, else shortest",
                   about="How messages between chips that are no neighbours find their way."),
    "links": Key(_list_of("link", "a list of changes of links"), example=[{"axis": "z", "scale": 0.5}],
                 about="Changes of links before the run, applied in order; each must match a link."),
    "events": Key(_list_of("event", "a list of changes of links, each with a time"),
                  example=[{"time": "2 ms", "axis": "z", "scale": 0.5}],
                  about="Changes of links in mid-run, for good."),
    "axes": Key(each(text, "[x, y, z]", least=1, most=MAX_AXES), otherwise="x, y, z, w, a4, a5 ...", example=["row", "column"],
                about="Other names of the axes, in the order of `shape`."),
}
MESH = Key(TOPOLOGY["shape"].read, example=[4, 4, 4],
           about="The lengths of the logical mesh that gives coordinates to chips without any.",
           otherwise="the axes of the graph")
ORDER = Key(order, example=[0, 3, 2, 1], otherwise="the order of the graph",
            about="The chips in the order in which they stand on the mesh, the last axis fastest.")
OWN_TOPOLOGY: Form = {**{key: TOPOLOGY[key] for key in ("kind", "routing", "links", "events")}, "mesh": MESH, "order": ORDER}
FILE_TOPOLOGY: Form = {
    **{key: form for key, form in OWN_TOPOLOGY.items() if key != "order"},
    "path": Key(text, needed=True, example="cluster.graphml", about="The graph file, relative to the folder of the scenario."),
    "format": Key(one_of("format of a graph file", *FORMATS), otherwise="by the suffix of the file", example="graphml",
                  about="The format of the file."),
    "bandwidth": Key(quantity("B/s"), otherwise="none: each edge must have one", example="50 GB/s",
                     about="The bandwidth of edges without one, of one direction."),
    "latency": Key(quantity("s", zero=True), otherwise="none: each edge must have one", example="1 us",
                   about="The latency of edges without one."),
    "sha256": Key(text, example="9f86d081884c7d65", about="In the record of a run: the SHA-256 of the file."),
    "network": Key(elsewhere("a mapping", {"type": "object"}), about="In the record of a run: the graph itself."),
}
GRAPH_TOPOLOGY: Form = {  # as `given` writes a graph
    **{key: FILE_TOPOLOGY[key] for key in ("kind", "routing", "links", "events", "mesh")},
    "network": replace(FILE_TOPOLOGY["network"], needed=True,
                       about="The graph itself; a networkx graph that Python gives becomes this."),
}

LINK: Form = {
    "from": Key(_node, example=[0, 0, 0], about="The node that the link leaves; together with `to`, which is a neighbour."),
    "to": Key(_node, example=[1, 0, 0], about="The node that the link enters."),
    "axis": Key(text, example="z", about="Only links along this axis."),
    "wraparound": Key(flag, example=True, about="Only wraparounds, or only links that are none."),
    "at": Key(by_name(whole(0), "{y: 3}"), example={"y": 3},
              about="Only links that leave, in + direction, chips with these coordinates; a wraparound leaves the last chip."),
    "both_ways": Key(flag, True, example=False, about="Whether both directions change; false: only from -> to, or only +."),
    "bandwidth": Key(quantity("B/s"), example="22.5 GB/s", about="The new bandwidth of one direction."),
    "latency": Key(quantity("s", zero=True), example="5 us", about="The new latency; not in mid-run."),
    "scale": Key(number(), example=0.5, about="The factor by which the bandwidth changes, as it then is."),
    "failed": Key(flag, example=True, about="True: the link is removed."),
}
EVENT: Form = {"time": Key(quantity("s", zero=True), needed=True, example="2 ms",
                           about="The time of the change, from the start."),
               **LINK}

LAYOUT: Form = {
    "ffn": Key(elsewhere('the name of a layout, a table of shardings, or "module:function"',
                         {"anyOf": [{"enum": list(LAYOUTS)}, FUNCTION, {"$ref": "#/$defs/table"}]}), "ws2d", example="wg_xyz",
               about="The layout of the weights and activations; `torussim list layouts` says what each name means."),
    "attention": Key(one_of("layout of attention", *ATTENTION), "heads", example="batch",
                     about="Whether attention is sharded over heads, over the batch, or over KV heads and the tokens of the "
                           "context: `sequence`."),
    "split_heads": Key(one_of("way of heads that do not divide by the chips", *SPLIT_HEADS), "auto", example="sum",
                       about="How heads that do not divide by their chips run: `sum` splits heads over chips, which add their "
                             "scores; `pad` adds heads; auto: the faster by estimate."),
    "latent": Key(one_of("form of latent attention", *LATENT), "auto", example="absorbed",
                  about="With latent attention, whether heads attend to the latents (absorbed) or to K and V made from them "
                        "(expanded); auto: the fewer FLOP in the pass."),
    KERNEL: Key(one_of("kernel of attention", *KERNELS), otherwise="that of the table, else fused", example="plain",
                about="Whether attention is one kernel that keeps its scores on the chip and skips masked blocks (fused), or "
                      "has kernels of their own for its products and its softmax (plain)."),
    "weights": Key(stored, otherwise="that of the model, else bf16", example="int8", about="The dtype of the weights in memory."),
    "expert_weights": Key(stored, otherwise="that of the model, else that of the weights", example="mxfp4",
                          about="The dtype of the weights of routed experts."),
    "embedding": Key(stored, otherwise="that of the model, else that of the weights", example="bf16",
                     about="The dtype of the embedding, and of the matrix of the logits."),
    "activations": Key(_DTYPE, "bf16", example="int8", about="The dtype of the activations, which sets the FLOP rate."),
    "kv_cache": Key(stored, otherwise="that of the model, else bf16", example="int8",
                    about="The dtype of the cached keys and values."),
    "overlap": Key(overlap, True, example="throughput",
                   about="Whether a matmul is looped with one neighbouring collective so that they overlap; a name takes that "
                         "kind of loop, true the fastest."),
    "experts": Key(experts, "all", example=["y", "z"],
                   about="The logical axes that cut the experts of a mixture: all whose chips divide the experts, those that cut "
                         "the batch of attention, all but with the weights gathered before use, or those of a list."),
    "capacity_factor": Key(number(), otherwise="none: every token is computed", example=1.25,
                           about="The most tokens of an expert of a mixture, in means over all experts; the tokens beyond are "
                                 "dropped."),
    "mesh": Key(by_name(axes, "{x: [x], y: [y], z: [z]}"), otherwise="the axes of the same names",
                example={"x": ["x/2"], "y": ["x/2", "y"], "z": ["z"]},
                about="The physical axes of each logical axis, outermost first: `y` is a whole axis, `x/2` a part of 2 chips; "
                      "every axis is used up exactly once."),
    "pipeline": Key(elsewhere("an axis of the network, or a mapping `{axis, microbatches}`",
                              {"anyOf": [TEXT, {"$ref": "#/$defs/pipeline"}]}), otherwise="no stages",
                    example={"axis": "x", "microbatches": 8},
                    about="The axis over which the layers are cut into pipeline stages; the mesh then has the other axes."),
    "collectives": Key(algorithms, {}, example={"all_to_all": "direct"},
                       about="The algorithm of each kind of collective, where it is not the default."),
}
PIPELINE: Form = {
    "axis": Key(text, needed=True, example="x/2",
                about="The axis of the network whose positions are the stages; `x/2` is an outermost part of 2 of its chips."),
    "microbatches": Key(whole(1, MAX_MICROBATCHES), 1, example=8, about="The parts into which the batch is cut."),
}
PHASES: Form = {phase: Key(_part("layout", "a mapping"), about=f"The layout of the {phase} phase.", example={"ffn": "wg_xyz"})
                for phase in ("prefill", "decode")}


def _path(dimensions: str = "") -> Reader:
    """Return a reader of a sharding, or a list of them; for a tensor, which has these dimensions, also of {path, ...}."""
    one = {"type": "string", "pattern": pattern(dimensions)}
    several = [one, {"type": "array", "items": one, "minItems": 1}]
    if not dimensions:
        return elsewhere("a sharding, or a list of them", {"anyOf": several})
    return elsewhere(f"a sharding of {' '.join(dimensions)}, a list of them, or a mapping `{{path, algorithm, axes}}`",
                     {"anyOf": [*several, {"$ref": "#/$defs/path"}]})


_TENSORS = {  # the example and the meaning of each tensor
    "residual": (["B L E_xyz", "B L E_x"], "The residual stream, from where it is kept to where a layer uses it."),
    "out": ("B L E_xyz", "The output of the layer on its way back to the residual stream."),
    "norm": ("B L E_xyz", "Where the mean square of the norm is summed."),
    "hidden": ("B L F_xyz", "The hidden activations of the FFN."),
    "q": ("B_xyz L H", "The queries, from where they are made to where attention runs."),
    "kv": ("B_xyz L K", "The keys and values of new tokens, likewise."),
    "w_in": ("E_x F_yz", "The first matrix of the FFN, and the gate where there is one."),
    "w_out": ("F_yz E_x", "The second matrix of the FFN."),
    "w_q": ("E_x H_yz", "The projection to queries."),
    "w_k": ("E_x K", "The projection to keys."),
    "w_v": ("E_x K", "The projection to values."),
    "w_o": ("H_yz E_x", "The projection from heads to the residual stream."),
    "embedding": ("V_yz E_x", "The embedding, and the matrix of the logits."),
    "tokens": ("B_yz L E_x", "The tokens of a mixture where they are routed to their experts."),
    "experts_in": ("N_yz E_x F", "The first matrix of each expert, and the gate where there is one; N are the experts."),
    "experts_out": ("N_yz F E_x", "The second matrix of each expert."),
}
_OF_AXES = {"loop": "The logical axes whose collectives can be looped with a matmul.",
            "loop_out": "Likewise for the matmuls with W_out and W_o, where those axes are others.",
            "one_way": "The logical axes over which reduce-scatters outside loops go in one direction."}
TENSORS: Form = {
    **{name: Key(_path(dimensions), needed=name in REQUIRED, example=_TENSORS[name][0], about=_TENSORS[name][1])
       for name, dimensions in DIMENSIONS.items()},
    **{name: Key(axes, example="xy", about=_OF_AXES[name]) for name in AXES},
    HEADS: Key(one_of("padding of heads", *HEADS_PADDED), otherwise="that of the model, and `split_heads`", example="chips",
               about="`chips`: heads that can be padded are padded to the number of chips; `model`: as the model has them. Both "
                     "stand in place of `split_heads: auto` for a model with `padded_heads` or one KV head."),
    LONGEST: Key(text, example="x", about="The logical axis that gets the longest axis of the network where no mesh is given."),
    KERNEL: Key(one_of("kernel of attention", *KERNELS), otherwise="fused", example="plain",
                about="The kernel of attention of a layout that does not name one."),
}
PATH: Form = {
    "path": Key(_path(), needed=True, example=["E_xyz F", "E F"],
                about="The shardings of the tensor, from as it is stored to as it is used."),
    "algorithm": Key(text, "", example="sequential", about="The algorithm of the collectives on the path."),
    "axes": Key(axes, [], example="zyx", about="The order of the axes of these collectives."),
}

WORKLOAD: Form = {
    "phase": Key(one_of("phase", "prefill", "decode", "generate"), needed=True, example="decode",
                 about="What is run: the prompt, decode steps, or both one after the other."),
    "batch": Key(whole(1, MAX_SIZE), needed=True, example=512, about="The number of sequences."),
    "context": Key(whole(1, MAX_SIZE), needed=True, example=2048,
                   about="The tokens in the cache when decoding starts; of prefill and generate: the tokens of a prompt."),
    "tokens": Key(whole(1, MAX_PASSES), 1, example=64,
                  about="The number of decode steps; step i reads context + i tokens, with `draft` context + i (1 + accepted) "
                        "and the proposed ones."),
    "cached": Key(whole(0, MAX_SIZE), 0, example=1024,
                  about="Of prefill and generate: the tokens that are in the cache already."),
    "chunk": Key(whole(1, MAX_SIZE), otherwise="the whole prompt in one pass", example=512,
                 about="Of prefill and generate: the tokens of a pass, where the prompt is cut into several."),
    "draft": Key(whole(0, MAX_SIZE), 0, example=4,
                 about="Of decode and generate: the proposed tokens of a sequence that each decode step runs beside its next "
                       "one."),
    "accepted": Key(number(zero=True), otherwise="needed where `draft` is above 0", example=3.1,
                    about="The mean number of proposed tokens of a sequence that a step accepts; it yields one more, and the "
                          "context grows by as many."),
    "draft_model": Key(_part("model", "a preset, the path of a Hugging Face config.json, or a mapping of fields"),
                       otherwise="none: proposed tokens cost nothing", example="llama-3-8b",
                       about="The transformer that makes the proposed tokens, one after another before each decode step, on the "
                             "same chips in the same layout; it reads the prompt too."),
    "cache_share": Key(number(most=1), 0.30, example="40 %",
                       about="The share of HBM for the cache from which `memory.longest_context` is computed."),
    "balance": Key(elsewhere("`uniform`, a list of shares, or a mapping `{zipf}` or `{shares}`", {"anyOf": [
        {"const": "uniform"}, {"type": "array"}, {"$ref": "#/$defs/balance"}]}), "uniform", example={"zipf": 1.0},
                   about="The load of the experts of a mixture: the share of each in the copies of the tokens."),
}
BALANCE: Form = {
    "zipf": Key(number(zero=True), 0.0, example=1.0,
                about="Expert i, counted from 1, has a share in proportion to i to the power of minus this number."),
    "shares": Key(shares, (), example=[0.5, 0.25, 0.25],
                  about="The measured share of each expert, in the order in which chips hold the experts."),
}

PLAN: Form = {
    "objective": Key(one_of("objective", "latency", "throughput", "cost", "pareto"), "latency", example="throughput",
                     about="What is best: the least time, the most tokens/s, the fewest chip-seconds a token, or all trade-offs "
                           "of latency and cost."),
    "limits": Key(_part("limits", "a mapping of keys of the result"), {}, example={"step_s": {"at_most": "50 ms"}},
                  about="Bounds on keys of the result; `memory.fits: true` is always one unless it is given."),
    "vary": Key(_part("vary", "a mapping"), {}, example={"batch": [64, 128, 256]}, about="What the candidates differ in."),
}

TRACE: Form = {
    "operations": Key(by_name(text, "{fusion.123: gather_q, all-gather.*: gather_residual}"), {},
                      example={"fusion.123": "gather_q", "all-gather.*": "gather_residual"},
                      about="The operation of the scenario that each name in a measured trace stands for; `*` is any text."),
    "chips": Key(by_name(_place, "{/device:TPU:0: [0, 0, 0]}"), {}, example={"/device:TPU:0": [0, 0, 0]},
                 about="The coordinates of the chip that each name in a measured trace stands for."),
}

EXPECT: Form = {
    "within": Key(number(zero=True), otherwise="no check: the error is only reported", example="10 %",
                  about="The largest |got / value - 1| that is accepted."),
    "source": Key(text, "", example="the paper, Table 2", about="Where the value is from."),
}
RESULTS: Mapping[str, str] = {key.path: key.unit for key in KEYS if key.expected}  # the keys of `expect` and their units
OF_GENERATE = {  # results of phase: generate alone, and the corresponding result of another phase
    "prefill_s": "step_s", "prompt_tokens_per_s": "tokens_per_s", "generated_tokens_per_s": "tokens_per_s"}

_ALGORITHM = named("algorithm", *dict.fromkeys(name for names in ALGORITHMS.values() for name in names))
_AFTER = Key(_NAMES, otherwise="the operation before", example=["gather"],
             about="The operations that this one waits for; `[]`: none.")
CHAKRA: Form = {
    "chakra": Key(text, needed=True, example="trace.%d.et",
                  about="The Chakra execution trace beside the scenario; with `%d`, a file for each chip by its number."),
    "compute": Key(one_of("way to take computations", "recorded", "roofline"), "recorded", example="roofline",
                   about="Whether a computation takes the time in the trace, or the time of its FLOP and bytes on the chip."),
    "groups": Key(text, example="comm_groups.json",
                  about="The file with the chips of each process group, such as `{\"0\": [0, 1]}`."),
}
_ON = Key(by_name(each(whole(0, MAX_SIZE), "[0, 1]", least=1), "{x: [0, 1]}"), {}, otherwise="all chips", example={"x": [0, 1]},
          about="The positions on axes at which chips run the operation; of a permute, those that send. On other chips it takes "
                "no time.")
COMPUTE: Form = {
    "name": Key(text, needed=True, example="multiply", about="The name of the operation, which `after` refers to."),
    "flops": Key(quantity("FLOP", zero=True), 0.0, example="1 TFLOP", about="The FLOP of one chip."),
    "hbm_bytes": Key(quantity("B", zero=True), 0.0, example="100 MB", about="The bytes that one chip reads and writes in HBM."),
    "dtype": Key(_DTYPE, "bf16", example="int8", about="The dtype, which sets the FLOP rate."),
    "on": _ON,
    "after": _AFTER,
}
COLLECTIVE: Form = {
    "name": COMPUTE["name"],
    "collective": Key(one_of("collective", *KINDS), needed=True, example="all_gather", about="The kind of collective."),
    "axes": Key(axes, [], example="yz", about="The physical axes that each group spans."),
    "bytes": Key(quantity("B", zero=True), otherwise="needed; with `matrix`, the largest sum of a row or column of it",
                 example="64 MB",
                 about="The bytes D of one chip: of an all-gather the output, of a reduce-scatter the input, of the others the "
                       "vector or message."),
    "matrix": Key(each(each(quantity("B", zero=True), "[0, 1 MB]", least=1), "[[0, 1 MB], [2 MB, 0]]", least=1),
                  example=[[0, "1 MB"], ["2 MB", 0]],
                  about="Of an all-to-all with unequal bytes, in place of `bytes`: for each chip of a group its bytes for each "
                        "chip, in the order of `axes` (the last axis fastest) or of `chips`."),
    "algorithm": Key(replace(_ALGORITHM, read=text.read), "",  # each kind has its own algorithms: `read_algorithm`
                     otherwise="the first of its kind in `torussim list collectives`", example="one_ring",
                     about="The algorithm; `auto` takes the fastest by closed form."),
    "split": Key(split, "equal", example=[2, 1],
                 about="The shares of the data that start on each axis; `auto` lets the parts end together."),
    "direction": Key(one_of("direction", "both", "one_way"), "both", example="one_way",
                     about="Whether a ring runs in both directions or in one."),
    "shift": Key(by_name(whole(-MAX_SIZE, MAX_SIZE), "{x: 1}"), {}, example={"x": 1},
                 about="Of a permute: by how many chips along each axis the data moves."),
    "detour": Key(flag, otherwise="the faster one by closed form", example=True,
                  about="Whether rings that lack a link run by detours (true) or as lines (false)."),
    "root": Key(_place, otherwise="the first chip", example=[1], about="Of a broadcast, reduce, gather or scatter: its root."),
    "from": Key(_place, example=[0, 0, 0], about="Of a send: the chip that sends."),
    "to": Key(_place, example=[3, 3, 3], about="Of a send: the chip that receives."),
    "chips": Key(each(_place, "[[0, 0], [0, 1]]", least=2), example=[[0, 0, 0], [1, 1, 1]],
                 about="The chips of one group, in place of `axes`."),
    "groups": Key(each(each(_place, "[[0, 0], [0, 1]]", least=1), "[[[0, 0], [0, 1]], [[1, 0], [1, 1]]]", least=1),
                  example=[[[0, 0, 0], [1, 1, 1]], [[2, 0, 0], [0, 2, 0]]],
                  about="The chips of several groups, in place of `axes`; a chip is in one group at most."),
    "on": _ON,
    "after": _AFTER,
}
