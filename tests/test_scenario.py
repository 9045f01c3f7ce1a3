"""Good input: what a scenario file means, and that its record means the same."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from torussim.answer import run
from torussim.chips import chip
from torussim.engine.simulate import simulate
from torussim.errors import ScenarioError, TopologyError
from torussim.layouts import LAYOUTS, Sizes
from torussim.models import model
from torussim.program import Collective, Compute, Program
from torussim.scenario import Expected, Scenario, load
from torussim.topology.builders import torus
from torussim.topology.grid import grid
from torussim.topology.links import LinkChange, change_links
from torussim.topology.slices import names, slice_of
from torussim.transformer import build
from torussim.trust import Trust
from torussim.workload import passes

SCENARIOS = sorted((Path(__file__).resolve().parent.parent / "scenarios").glob("*.yaml"))
MODEL = {"base": "palm-8b", "layers": 3}
DECODE = {"phase": "decode", "batch": 8, "context": 64, "tokens": 2}
SMALL = {"model": MODEL, "chip": "tpu-v4", "topology": {"shape": [2, 2, 2]}, "workload": DECODE}
GATHER = {"name": "gather", "collective": "all_gather", "axes": "x", "bytes": 8e6}
NETWORK = {"chip": "ideal", "program": [GATHER]}
MINE = '''
import networkx
from torussim.collectives.axes import in_parts
from torussim.topology.builders import torus

def graph(length, *, rate=1e9):
    return torus([length, 2], bandwidth=rate, latency=1e-6)

def table(sizes, over="x"):
    rest = "".join(a for a in sizes.lengths if a != over)
    return {"residual": "B L E_xyz", "w_in": f"E_{over} F_{rest}", "w_out": f"F_{rest} E_{over}", "w_q": f"E_{over} H_{rest}",
            "w_k": f"E_{over} K", "w_o": f"H_{rest} E_{over}", "q": "B L H_xyz", "kv": "B L K"}

def route(graph, source, target):
    return networkx.shortest_path(graph, source, target)

def gather(collective, lengths, rings):
    return in_parts("all_gather", lengths, rings, collective.bytes, "one_way", [tuple(lengths)], [1.0])
'''


BROKEN = '''
from dataclasses import replace

def short(collective, lengths, rings):
    return [replace(phase, block=phase.block / 2) for phase in gather(collective, lengths, rings)]

def broken(collective, lengths, rings):
    raise KeyError("no axis")

def empty(collective, lengths, rings):
    return []
'''


def programs(scenario):
    """Return the programs of all passes."""
    axes = dict(zip(scenario.net.axes, scenario.net.shape))
    if scenario.program:
        return [scenario.program]
    return [build(scenario.model, scenario.layouts[f.phase], f, axes) for f in passes(scenario.workload)]


def same(one: Scenario, other: Scenario) -> bool:
    """Return whether two scenarios ask the same, names and notes apart."""
    return (one.chip, one.model, one.workload, one.expect, programs(one)) == (
        other.chip, other.model, other.workload, other.expect, programs(other)) and alike(one.topology, other.topology)


def alike(one, other):
    return dict(one.nodes) == dict(other.nodes) and dict(one.adj) == dict(other.adj) and one.graph == other.graph


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    return tmp_path


def loaded(folder, scenario, name="s.yaml"):
    (folder / name).write_text(json.dumps(scenario))  # JSON is YAML
    return load(folder / name)


# -- the record ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", SCENARIOS, ids=[p.stem for p in SCENARIOS])
def test_the_record_of_a_scenario_is_that_scenario(file, monkeypatch):
    first = load(file)
    again = load(json.loads(json.dumps(first.resolved, allow_nan=False)), code=Trust(folders=(file.parent,)))
    assert again.resolved == first.resolved and again.name == first.name
    if len(first.net.chips) < 1000:
        assert same(first, again)


@pytest.mark.parametrize("scenario", [
    {**SMALL, "topology": {"slice": "v4-64", "links": [{"axis": "y", "at": {"x": 1}, "scale": 0.5, "both_ways": False},
                                                       {"from": [0, 0, 0], "to": [0, 1, 0], "latency": "3 us"}]}},
    {**SMALL, "workload": {"phase": "generate", "batch": 8, "context": 64, "tokens": 3, "cached": 5, "chunk": 24},
     "layout": {"prefill": {"ffn": "wg_xyz", "overlap": False}, "decode": {"ffn": "ws1d", "mesh": {"x": "yx", "z": "z"}}}},
    {**SMALL, "workload": {"phase": "prefill", "batch": 8, "context": 64, "chunk": 64, "cache_share": 0.5}},
    {**SMALL, "expect": {"step_s": "1 ms", "mfu": {"value": "33 %", "within": "10 %", "source": "me"}, "memory.weights": 1e9}},
    {**SMALL, "chip": {"base": "tpu-v4", "link_bandwidth": {"value": "50 GB/s", "source": "a rumour"}}, "name": "a name"},
    {**SMALL, "topology": {"kind": "mine:graph", "length": 4}, "layout": {"mesh": {"x": "x", "y": "y"}}},
    {**SMALL, "layout": {"ffn": "mine:table", "over": "y"}},
    {**NETWORK, "topology": {"kind": "ring", "shape": [4]}, "program": [
        {**GATHER, "algorithm": "mine:gather"},
        {"name": "pass", "collective": "permute", "shift": {"x": -1}, "bytes": 1, "after": []},
        {"name": "multiply", "flops": 1e9, "hbm_bytes": "1 GB", "dtype": "int8", "after": ["gather"]},
        {**GATHER, "name": "split", "split": [2], "direction": "one_way"}]},
])
def test_the_record_is_complete_wherever_it_is_loaded(folder, scenario, monkeypatch):
    first = loaded(folder, scenario)
    monkeypatch.chdir("/")
    again = load(json.loads(json.dumps(first.resolved, allow_nan=False)), code=Trust(folders=(folder,)))
    assert again.resolved == first.resolved
    assert same(first, again)


# -- values -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path, text, number", [
    ("topology.bandwidth", "22.5 GB/s", 22.5e9), ("topology.latency", "2 us", 2e-6),
    ("topology.bandwidth", "[360 Gbit/s, 1 GB/s, 1 GB/s]", "[45.0e+9, 1000000000, 1e9]"),
    ("topology.links", "[{axis: x, bandwidth: 1 GiB/s}]", "[{axis: x, bandwidth: 1073741824}]"),
    ("chip", "{base: tpu-v4, hbm_bytes: 1 GiB}", "{base: tpu-v4, hbm_bytes: 1073741824}"),
    ("workload.batch", "16.0", 16), ("workload.cache_share", "25 %", 0.25),
    ("expect", "{step_s: 93.8 ms, mfu: 33 %}", "{step_s: 0.0938, mfu: 0.33}"),
    ("topology.wrap", "false", "[false, false, false]"), ("layout.mesh", "{x: x, y: yz}", "{x: [x], y: [y, z], z: []}"),
])
def test_a_text_with_a_unit_is_the_number_that_it_means(path, text, number):
    one, other = (load(SMALL, [f"{path}={value}"]) for value in (text, number))
    assert same(one, other)


def test_what_is_left_out_is_the_default():
    written = {**SMALL, "layout": {"ffn": "ws2d", "attention": "heads", "weights": "bf16", "activations": "bf16",
                                   "kv_cache": "bf16", "overlap": True, "mesh": {"x": "x", "y": "y", "z": "z"}},
               "topology": {"kind": "torus", "shape": [2, 2, 2], "routing": "dimension_order", "bandwidth": "45 GB/s",
                            "wrap": False, "latency": chip("tpu-v4").link_latency},
               "workload": {**DECODE, "cached": 0, "cache_share": 0.3}}
    assert same(load(SMALL), load(written))
    assert load({**SMALL, "workload": {**DECODE, "tokens": 1}}).workload == load(
        {**SMALL, "workload": {k: v for k, v in DECODE.items() if k != "tokens"}}).workload


def test_data_of_python_and_numpy_are_those_of_a_file(folder):
    python = {**SMALL, "topology": {"shape": (np.int64(2), 2, 2), "latency": np.float32(0.5)}}
    assert same(load(python), loaded(folder, {**SMALL, "topology": {"shape": [2, 2, 2], "latency": 0.5}}))


def test_an_expectation_has_value_source_and_allowance():
    scenario = load({**SMALL, "expect": {"step_s": {"value": "2 ms", "within": "5 %", "source": "me"}, "tokens_per_s": 700}})
    assert scenario.expect == (Expected("step_s", 2e-3, 0.05, "me"), Expected("tokens_per_s", 700.0, None, ""))


def test_a_name_is_that_of_the_file_unless_it_is_given(folder):
    assert loaded(folder, SMALL, "My file.yaml").name == "My file"
    assert loaded(folder, {**SMALL, "name": "PaLM 540B, 64 chips!"}).slug == "palm-540b-64-chips"
    assert loaded(folder, {**SMALL, "name": "π"}, "pi.yaml").slug == "pi"
    assert load(SMALL).name == "scenario"


def test_json_is_a_scenario_too(folder):
    (folder / "s.json").write_text(json.dumps(SMALL, indent=2))
    assert same(load(folder / "s.json"), load(SMALL))


def test_overrides_change_what_the_file_says(folder):
    changed = {**SMALL, "workload": {**DECODE, "tokens": 5}, "layout": {"ffn": "ws1d"}, "name": "b"}
    loaded(folder, SMALL)
    scenario = load(folder / "s.yaml", ["workload.tokens=5", "layout.ffn=ws1d", "name=a", "name=b"])
    assert same(scenario, load(changed)) and scenario.resolved == load(changed).resolved


# -- networks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chip_, topology, closed", [
    ("tpu-v4", {"shape": [4, 4, 8]}, [True, True, True]),  # all multiples of 4
    ("tpu-v4", {"shape": [4, 4, 6]}, [False, False, False]),
    ("tpu-v5p", {"shape": [2, 4, 4]}, [False, False, False]),
    ("tpu-v5e", {"shape": [8, 16]}, [False, True]),  # axes of 16
    ("tpu-v5e", {"shape": [4, 4]}, [False, False]),
    ("ideal", {"shape": [3, 2, 5]}, [True, False, True]),  # always, but two chips are one link
    ("ideal", {"kind": "mesh", "shape": [3, 5]}, [False, False]),
    ("tpu-v5e", {"kind": "ring", "shape": [6]}, [True]),
    ("tpu-v5e", {"shape": [4, 4], "wrap": [True, False]}, [True, False]),
    ("tpu-v4", {"shape": [4, 4, 4], "wrap": False}, [False, False, False]),
])
def test_wraparounds_are_those_that_the_chip_or_the_file_says(chip_, topology, closed):
    scenario = load({"chip": chip_, "topology": topology, "program": [GATHER]})
    assert list(scenario.net.ring) == closed == scenario.resolved["topology"]["wrap"]
    assert "wraparounds on " + (", ".join(a for a, ring in zip("xyz", closed) if ring) or "no axis") in scenario.notes[0]


@pytest.mark.parametrize("name", [n for n in names() if int(n.split("-")[1]) <= 1024 and not n.startswith("tpu7x")])
def test_a_slice_is_its_shape_wraparounds_and_chip(name):
    shape, wrap, preset = slice_of(name)
    one = load({"topology": {"slice": name}, "program": [GATHER]})
    other = load({"chip": preset, "topology": {"shape": list(shape), "wrap": list(wrap)}, "program": [GATHER]})
    assert same(one, other) and one.resolved == other.resolved


def test_a_slice_may_have_other_chips_than_its_own_if_no_other_generation_is_meant():
    rate = {"base": "tpu-v5e", "link_bandwidth": "1 GB/s"}
    assert load({"chip": rate, "topology": {"slice": "v5e-16"}, "program": [GATHER]}).chip.link_bandwidth == 1e9
    assert load({"chip": "ideal", "topology": {"slice": "v5e-16"}, "program": [GATHER]}).net.ring == (False, False)


def bandwidths(links, shape=(4, 2), **topology):
    """Return bandwidth by edge of a torus of 10 bytes/s after changes."""
    topology = {"shape": list(shape), "bandwidth": 10, "links": links, **topology}
    graph = load({**NETWORK, "topology": topology}).topology
    return {edge: graph.edges[edge]["bandwidth"] for edge in graph.edges}


def only(changed, value, shape=(4, 2), **topology):
    """Return bandwidth by edge of a torus of 10 bytes/s in which some have another one."""
    return {edge: value if edge in changed else 10 for edge in bandwidths([], shape, **topology)}


def both(*edges):
    return {*edges, *((v, u) for u, v in edges)}


def test_a_link_is_changed_in_both_directions_or_in_one():
    edge = ((0, 0), (1, 0))
    ends = {"from": [0, 0], "to": [1, 0], "bandwidth": 5}
    assert bandwidths([ends]) == only(both(edge), 5)
    assert bandwidths([{**ends, "both_ways": False}]) == only({edge}, 5)
    assert bandwidths([{"from": [1, 0], "to": [0, 0], "bandwidth": 5, "both_ways": False}]) == only({edge[::-1]}, 5)


def test_no_criterion_is_every_link_and_one_way_without_ends_is_the_plus_direction():
    every = set(bandwidths([]))
    plus = {edge for edge in every if edge[1] in ((edge[0][0] + 1, edge[0][1]), (edge[0][0] - 3, edge[0][1]), (edge[0][0], 1))
            and edge[0] != edge[1] and (edge[0][0] != edge[1][0] or edge[0][1] == 0)}
    assert bandwidths([{"scale": 0.5}]) == only(every, 5)
    assert len(plus) * 2 == len(every)
    assert bandwidths([{"scale": 0.5, "both_ways": False}]) == only(plus, 5)


def test_an_axis_and_a_wraparound_select_by_what_the_link_is():
    along_y = both(*(((x, 0), (x, 1)) for x in range(4)))
    around_x = both(*(((3, y), (0, y)) for y in range(2)))
    assert bandwidths([{"axis": "y", "bandwidth": 5}]) == only(along_y, 5)
    assert bandwidths([{"wraparound": True, "bandwidth": 5}]) == only(around_x, 5)
    assert bandwidths([{"axis": "x", "wraparound": False, "bandwidth": 5}]) == only(
        set(bandwidths([])) - along_y - around_x, 5)


def test_at_fixes_the_chip_that_the_link_leaves_in_plus_direction():
    assert bandwidths([{"axis": "x", "at": {"x": 1}, "bandwidth": 5}]) == only(both(((1, 0), (2, 0)), ((1, 1), (2, 1))), 5)
    assert bandwidths([{"axis": "x", "at": {"x": 3, "y": 1}, "bandwidth": 5}]) == only(both(((3, 1), (0, 1))), 5)
    assert bandwidths([{"at": {"x": 0, "y": 0}, "bandwidth": 5}]) == only(both(((0, 0), (1, 0)), ((0, 0), (0, 1))), 5)
    assert bandwidths([{"wraparound": True, "at": {"y": 1}, "scale": 0.5}]) == only(both(((3, 1), (0, 1))), 5)


def test_all_that_is_given_must_hold():
    given = {"from": [3, 0], "to": [0, 0], "axis": "x", "wraparound": True, "at": {"x": 3}, "bandwidth": 5}
    assert bandwidths([given]) == only(both(((3, 0), (0, 0))), 5)


def test_changes_are_made_in_order_and_scale_multiplies_the_bandwidth_as_it_then_is():
    edge = ((0, 0), (1, 0))
    half, fixed = {"from": [0, 0], "to": [1, 0], "scale": 0.5}, {"axis": "x", "bandwidth": 8}
    assert bandwidths([half, half])[edge] == 2.5
    assert bandwidths([half, fixed])[edge] == 8
    assert bandwidths([fixed, half])[edge] == 4
    graph = load({**NETWORK, "topology": {"shape": [4, 2], "links": [{"axis": "y", "latency": "2 us"}]}}).topology
    assert {graph.edges[e]["latency"] for e in graph.edges if e[0][0] == e[1][0]} == {2e-6}
    assert {graph.edges[e]["latency"] for e in graph.edges if e[0][0] != e[1][0]} == {0}


def test_one_value_for_all_axes_or_one_for_each():
    graph = load({**NETWORK, "topology": {"shape": [4, 3], "bandwidth": ["1 GB/s", "2 GB/s"], "latency": [0, "1 us"]}}).topology
    assert graph.edges[(0, 0), (1, 0)] == {"bandwidth": 1e9, "latency": 0}
    assert graph.edges[(0, 0), (0, 1)] == {"bandwidth": 2e9, "latency": 1e-6}
    assert alike(load({**NETWORK, "topology": {"shape": [4, 3], "latency": [1, 1]}}).topology,
                 load({**NETWORK, "topology": {"shape": [4, 3], "latency": 1}}).topology)


def test_a_function_of_the_users_makes_the_network_of_its_keyword_arguments(folder):
    topology = {"kind": "mine:graph", "length": 4, "rate": 5e9, "links": [{"axis": "x", "at": {"x": 0}, "scale": 2}]}
    scenario = loaded(folder, {**NETWORK, "topology": topology})
    wanted = torus([4, 2], bandwidth=5e9, latency=1e-6)
    for u, v in both(((0, 0), (1, 0)), ((0, 1), (1, 1))):
        wanted.edges[u, v]["bandwidth"] = 10e9
    assert alike(scenario.topology, wanted)
    assert alike(loaded(folder, {**NETWORK, "topology": {"kind": "mine.py:graph", "length": 4}}).topology,
                 torus([4, 2], bandwidth=1e9, latency=1e-6))


def test_a_changed_function_counts_at_once(folder):
    asked = {**NETWORK, "topology": {"kind": "mine:graph", "length": 3}}
    assert loaded(folder, asked).net.shape == (3, 2)
    (folder / "mine.py").write_text(MINE.replace("[length, 2]", "[length, 5]"))
    assert loaded(folder, asked).net.shape == (3, 5)


# -- models and layouts -------------------------------------------------------------------------------------------------


def test_a_config_json_beside_the_file_is_a_model(folder):
    config = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 256,
              "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 1000}
    (folder / "tiny").mkdir()
    (folder / "tiny" / "config.json").write_text(json.dumps(config))
    scenario = loaded(folder, {**SMALL, "model": "tiny/config.json"})
    assert (scenario.model.name, scenario.model.layers, scenario.model.d_ff) == ("tiny", 2, 256)
    deeper = loaded(folder, {**SMALL, "model": {"base": "tiny/config.json", "layers": 5}})
    assert deeper.model.layers == 5 and deeper.model.d_model == 64


def test_a_mapping_changes_the_fields_of_its_base():
    scenario = load({**SMALL, "chip": {"base": "tpu-v4", "link_latency": "5 us"}})
    assert scenario.model == model(MODEL) and scenario.model.d_model == model("palm-8b").d_model
    assert {data["latency"] for _, _, data in scenario.topology.edges(data=True)} == {5e-6}


def test_generate_runs_prefill_and_decode_each_by_its_own_layout():
    work = {"phase": "generate", "batch": 8, "context": 64, "tokens": 2}
    two = load({**SMALL, "workload": work, "layout": {"prefill": {"ffn": "wg_xyz"}, "decode": {"ffn": "ws1d"}}})
    one, other = (load({**SMALL, "workload": work, "layout": {"ffn": ffn}}) for ffn in ("wg_xyz", "ws1d"))
    assert [p for p, f in zip(programs(two), passes(two.workload))] == programs(one)[:1] + programs(other)[1:]
    assert programs(one) != programs(other)
    assert set(two.resolved["layout"]) == {"prefill", "decode"} and one.resolved["layout"]["ffn"] == "wg_xyz"


@pytest.mark.parametrize("ffn", ["ws1d", "ws2d", "wg_x", "wg_xyz", "ws1d_code", "ws2d_code", "wg_xyz_code"])
@pytest.mark.parametrize("attention", ["heads", "batch"])
@pytest.mark.parametrize("parallel", [True, False])
def test_a_table_of_shardings_is_the_layout_that_it_was_copied_from(ffn, attention, parallel):
    small = {**SMALL, "model": {"base": "palm-8b", "layers": 2, "parallel": parallel}}
    named = load({**small, "layout": {"ffn": ffn, "attention": attention}})
    m = named.model
    lengths = {"x": 2, "y": 2, "z": 2}
    table = LAYOUTS[ffn](Sizes(lengths, 8, m.d_model, m.padded(8), m.padded_kv(8), attention, bool(m.padded_heads),
                               parallel))
    own = load({**small, "layout": {"ffn": table, "attention": attention}})
    assert programs(own) == programs(named)
    assert load(own.resolved).resolved == own.resolved


def test_a_function_of_the_users_makes_the_table_of_the_sizes_and_its_keyword_arguments(folder):
    scenario = loaded(folder, {**SMALL, "layout": {"ffn": "mine:table", "over": "y", "weights": "int8"}})
    rows = {"residual": "B L E_xyz", "w_in": "E_y F_xz", "w_out": "F_xz E_y", "w_q": "E_y H_xz", "w_k": "E_y K",
            "w_o": "H_xz E_y", "q": "B L H_xyz", "kv": "B L K"}
    assert programs(scenario) == programs(load({**SMALL, "layout": {"ffn": rows, "weights": "int8"}}))
    assert scenario.resolved["layout"]["ffn"] == {key: [value] for key, value in rows.items()}


def test_a_mesh_says_which_physical_axes_a_logical_one_is():
    meshes = ({"x": "z", "y": "y", "z": "x"}, {"x": "x", "y": "y", "z": "z"})
    swapped, plain = (load({**SMALL, "layout": {"mesh": mesh}}) for mesh in meshes)
    swap = str.maketrans("xz", "zx")
    for one, other in zip(programs(swapped), programs(plain)):
        for a, b in zip(one.operations(), other.operations()):
            if isinstance(a, Collective):
                assert "".join(a.axes).translate(swap) == "".join(b.axes)
    together = load({**SMALL, "layout": {"ffn": "ws1d", "mesh": {"x": ["x", "y", "z"]}}})
    assert {frozenset(o.axes) for o in programs(together)[0].block if isinstance(o, Collective)} == {frozenset("xyz")}


# -- programs -----------------------------------------------------------------------------------------------------------


def test_a_program_in_a_file_is_that_of_the_python_api():
    scenario = load({"chip": "tpu-v4", "topology": {"shape": [4, 4]}, "program": [
        {"name": "gather", "collective": "all_gather", "axes": "yx", "bytes": "64 MB", "algorithm": "sequential"},
        {"name": "multiply", "flops": "1 TFLOP", "hbm_bytes": 1e6, "dtype": "int8", "after": []},
        {"name": "reduce", "collective": "all_reduce", "axes": ["x", "y"], "bytes": 5, "split": [1, 3], "direction": "one_way",
         "after": ["gather", "multiply"]},
        {"name": "pass", "collective": "permute", "shift": {"y": -1, "x": 2}, "bytes": 7}]})
    program = Program((Collective("gather", "all_gather", ("y", "x"), 64e6, "sequential"),
                       Compute("multiply", (), 1e12, 1e6, "int8", ()),
                       Collective("reduce", "all_reduce", ("x", "y"), 5.0, "", (1.0, 3.0), "one_way", {}, ("gather", "multiply")),
                       Collective("pass", "permute", ("x", "y"), 7.0, shift={"y": -1, "x": 2})))
    assert scenario.program == program
    ours = simulate(program, torus([4, 4], bandwidth=45e9, latency=chip("tpu-v4").link_latency), chip("tpu-v4"))
    assert simulate(scenario.program, scenario.topology, scenario.chip).makespan == ours.makespan


def test_records_and_reports_show_the_users_functions_as_the_file_names_them(folder):
    layout = {"ffn": "mine:table", "over": "y", "collectives": {"all_gather": "mine.py:gather"}, "overlap": False}
    scenario = loaded(folder, {**SMALL, "topology": {"kind": "mine:graph", "length": 4, "routing": "mine.py:route"},
                               "layout": {**layout, "mesh": {"x": "x", "y": "y"}}})
    assert scenario.resolved["topology"]["kind"] == "mine:graph" and scenario.resolved["topology"]["routing"] == "mine.py:route"
    assert scenario.resolved["layout"]["collectives"] == {"all_gather": "mine.py:gather"}
    result = run(scenario)
    assert {o["algorithm"] for o in result.operations if o["kind"] == "all_gather"} == {"mine.py:gather"}
    assert str(folder) not in result.json() and str(folder) not in repr(scenario.layouts)


def test_a_layouts_algorithm_of_the_users_runs_as_the_one_that_it_is(folder):
    """The folder's algorithm is an all-gather axis by axis in one direction."""
    ring = {"shape": [4, 2, 2], "wrap": [True, False, False]}
    layouts = [{"ffn": "ws2d", "overlap": False, "collectives": {"all_gather": name}} for name in ("mine:gather", "sequential")]
    mine, ours = (loaded(folder, {**SMALL, "topology": ring, "layout": layout}) for layout in layouts)
    changed = [p.replaced({o.name: replace(o, algorithm="sequential", direction="one_way") for o in p.operations()
                           if isinstance(o, Collective) and o.kind == "all_gather"}) for p in programs(mine)]
    said = [simulate(p, mine.net, mine.chip).makespan for p in programs(mine)]
    assert said == [simulate(p, mine.net, mine.chip).makespan for p in changed]
    assert said != [simulate(p, ours.net, ours.chip).makespan for p in programs(ours)]


@pytest.mark.parametrize("name, message", [
    ("mine:nothing", r"all_gather: 'mine:nothing': 'nothing' is not a function of mine"),
    ("mine:short", r"all_gather: for 'gather_\w+': mine:short: all_gather \(mine:short\): the parts hold .* set Phase.block"),
    ("mine:broken", r"all_gather: for 'gather_\w+': mine:broken: .*mine.py:\d+: broken raised KeyError: 'no axis'"),
    ("mine:empty", r"all_gather: for 'gather_\w+': mine:empty: all_gather \(mine:empty\): the parts hold 0 bytes in all"),
    ("nested_", r"all_gather: 'nested_' is not an algorithm of all_gather: did you mean 'nested'\?"),
])
def test_what_is_wrong_with_a_layouts_algorithm_is_told_at_its_key(folder, name, message):
    (folder / "mine.py").write_text(MINE + BROKEN)
    with pytest.raises(ScenarioError, match=message) as caught:
        loaded(folder, {**SMALL, "layout": {"ffn": "ws2d", "collectives": {"all_gather": name}}})
    line = (folder / "s.yaml").read_text()
    (mistake,) = caught.value.mistakes
    assert mistake.mark.column == line.index(json.dumps(name)) + 1


def test_an_algorithm_of_the_users_is_found_beside_the_file(folder, monkeypatch):
    scenario = loaded(folder, {**NETWORK, "topology": {"shape": [6]}, "program": [{**GATHER, "algorithm": "mine:gather"}]})
    one_way = load({**NETWORK, "topology": {"shape": [6]}, "program": [{**GATHER, "direction": "one_way"}]})
    monkeypatch.chdir("/")
    times = [simulate(s.program, s.net, s.chip).makespan for s in (scenario, one_way)]
    assert times[0] == times[1] > 0


# -- shared links: routing, twists, dead links, events, parts of axes ---------------------------------------------------

ROUTES = '''
import networkx as nx

def line(graph, source, target):
    """Return the way over x, then y, never round the end."""
    path = [source]
    for axis in (0, 1):
        while path[-1][axis] != target[axis]:
            step = 1 if target[axis] > path[-1][axis] else -1
            path.append(tuple(c + step * (a == axis) for a, c in enumerate(path[-1])))
    return path

def sometimes(graph, source, target):
    """Lose the way from all chips but the first."""
    return line(graph, source, target) if source == (0, 0) else [source]

def star(chips):
    graph = nx.DiGraph()
    graph.add_node("switch", chip=False)
    for chip in range(chips):
        graph.add_edge(f"chip{chip}", "switch", bandwidth=(1 + chip) * 1e9, latency=0.0)
        graph.add_edge("switch", f"chip{chip}", bandwidth=1e9, latency=0.0)
    return graph
'''
SWAP = {"name": "swap", "collective": "all_to_all", "axes": "xy", "bytes": 8e6, "algorithm": "direct"}


def makespan(scenario):
    return simulate(scenario.program, scenario.net, scenario.chip).makespan


def square(**topology):
    return {**NETWORK, "topology": {"shape": [4, 4], "bandwidth": 1e9, "latency": 0, **topology}, "program": [SWAP]}


def recorded(scenario):
    """Return the scenario that a record makes."""
    again = load(json.loads(json.dumps(scenario.resolved, allow_nan=False)))
    assert again.resolved == scenario.resolved and same(scenario, again)
    return again


@pytest.mark.parametrize("topology, routing", [
    ({}, "dimension_order"), ({"routing": "minimal"}, "minimal"), ({"routing": "shortest"}, "shortest"),
    ({"shape": [4, 8], "twist": {"x": {"y": 4}}}, "minimal"),
    ({"shape": [4, 8], "twist": {"x": {"y": 4}}, "routing": "shortest"}, "shortest"),
    ({"shape": [4, 8], "twist": {"x": {"y": 8}}}, "dimension_order"),  # a whole turn is no twist
])
def test_the_record_names_the_routing_and_routes_alike(topology, routing):
    scenario = load(square(**topology))
    assert scenario.net.routing == scenario.resolved["topology"]["routing"] == routing
    assert makespan(recorded(scenario)) == makespan(scenario) > 0


def test_a_routing_of_the_users_is_found_beside_the_file_and_in_the_record(folder, monkeypatch):
    (folder / "ways.py").write_text(ROUTES)
    scenario = loaded(folder, square(routing="ways:line"))
    monkeypatch.chdir("/")
    again = load(scenario.resolved, code=Trust(folders=(folder,)))
    assert again.resolved == scenario.resolved and scenario.resolved["topology"]["routing"] == "ways:line"
    open_ends = load(square(wrap=False))  # in order of the axes it goes the same ways
    assert makespan(again) == makespan(scenario) == pytest.approx(makespan(open_ends), rel=1e-12)
    assert makespan(scenario) > makespan(load(square()))


def test_a_routing_that_loses_its_way_in_the_run_says_so(folder):
    (folder / "ways.py").write_text(ROUTES)
    scenario = loaded(folder, square(routing="ways:sometimes"))
    with pytest.raises(TopologyError, match=r"sometimes from \(.*\) to \(.*\) returned a path that ends at .* does not arrive"):
        makespan(scenario)


def test_the_twist_of_a_shape_is_that_of_its_shifts():
    standard, written = (load(square(shape=[4, 4, 8], twist=twist)) for twist in (True, {"x": {"z": 4}, "y": {"z": 4}}))
    assert same(standard, written) and standard.resolved == written.resolved
    assert standard.resolved["topology"]["twist"] == {"x": {"z": 4}, "y": {"z": 4}}
    assert sum("twisted" in note for note in standard.notes) == 2
    assert load(square(twist=False)).resolved == load(square()).resolved
    two = load(square(shape=[2, 4], wrap=True, twist={"x": {"y": 2}}))
    assert recorded(two).topology.has_edge((1, 0), (0, 2))


def test_a_dead_link_is_no_more_and_costs_what_its_detours_share():
    dead = load(square(links=[{"from": [0, 0], "to": [1, 0], "failed": True}]))
    assert not dead.topology.has_edge((0, 0), (1, 0)) and not dead.topology.has_edge((1, 0), (0, 0))
    assert makespan(recorded(dead)) == makespan(dead) > makespan(load(square()))


def test_a_network_cut_in_two_cannot_be_simulated_either():
    links = [LinkChange(axis="x", at={"x": x}, failed=True) for x in (0, 2)]
    graph = change_links(torus([4, 2], bandwidth=1e9), links)
    with pytest.raises(TopologyError, match=r"cut in two: \(0, 0\) and 3 more chips cannot reach \(1, 0\) and 3 more"):
        simulate(Program((Collective("gather", "all_gather", ("y",), 1e6),)), graph, chip("ideal"))


def test_events_change_links_in_the_middle_of_a_run():
    whole = makespan(load(square()))
    late, half = ({"time": time, "scale": 0.5} for time in (whole / 2, 0))
    assert makespan(load(square(events=[half]))) == pytest.approx(2 * whole, rel=1e-9)
    slower = load(square(events=[late]))
    assert makespan(slower) == pytest.approx(1.5 * whole, rel=1e-9)
    assert makespan(recorded(slower)) == makespan(slower)
    assert whole < 0.1
    both_ = load(square(events=[{"time": "1 s", "axis": "y", "bandwidth": "1 GB/s"}, {**late, "both_ways": True}, half]))
    assert [e.time for e in both_.net.links.events] == [0, whole / 2, 1]
    assert makespan(recorded(both_)) == makespan(both_)
    assert makespan(both_) == pytest.approx(3.5 * whole, rel=1e-9)  # a quarter in the first half, then at a quarter of the rate


def test_a_network_without_axes_gets_coordinates_in_the_order_of_its_chips(folder, monkeypatch):
    (folder / "ways.py").write_text(ROUTES)
    monkeypatch.chdir(folder)
    topology = {"kind": "ways:star", "chips": 12, "mesh": [3, 4]}
    scenario = loaded(folder, {**NETWORK, "topology": topology, "program": [SWAP]})
    assert scenario.net.axes == ("x", "y") and scenario.net.shape == (3, 4)
    rates = [scenario.topology.edges[chip_, "switch"]["bandwidth"] for chip_ in scenario.net.chips]
    assert rates == [(1 + i) * 1e9 for i in range(12)]  # chip10 stands after chip9
    assert makespan(load(scenario.resolved, code=Trust(folders=(folder,)))) == makespan(scenario) > 0
    assert scenario.resolved["topology"]["routing"] == "shortest"


def cut(mesh, **layout):
    """Return a decode step on 64 chips with this mesh."""
    return load({**SMALL, "topology": {"shape": [8, 4, 2]}, "layout": {"ffn": "ws2d", "mesh": mesh, **layout}})


def test_parts_of_an_axis_are_taken_from_neighbours_outwards():
    scenario = cut({"x": ["x/2"], "y": ["x/4", "y"], "z": ["z"]})
    assert dict(zip(scenario.net.axes, scenario.net.shape)) == {"x/4*2": 4, "x/2": 2, "y": 4, "z": 2}
    assert scenario.layouts["decode"].mesh == {"x": ("x/2",), "y": ("x/4*2", "y"), "z": ("z",)}
    other = cut({"y": ["x/4", "y"], "x": ["x/2"], "z": ["z"]})  # y stands first: its chips are neighbours
    assert other.layouts["decode"].mesh == {"x": ("x/2*4",), "y": ("x/4", "y"), "z": ("z",)}
    for one in (scenario, other):
        assert recorded(one).net.axes == one.net.axes
        assert one.resolved["layout"]["mesh"]["y"] == ["x/4", "y"]
    used = {axis for program in programs(scenario) for o in program.operations() if isinstance(o, Collective) for axis in o.axes}
    assert used == {"x/4*2", "x/2", "y", "z"}


def test_a_part_as_long_as_its_axis_is_that_axis():
    one, other = (cut({"x": factors, "y": "y", "z": "z"}) for factors in (["x/8"], ["x"]))
    assert same(one, other) and one.net.axes == ("x", "y", "z")


def test_a_part_of_neighbours_runs_on_links_of_its_own_and_the_part_across_them_shares():
    size, rate = 8e6, 1e9
    scenario = cut({"x": ["x/2"], "y": ["x/4"], "z": ["y", "z"]})
    graph = torus([8, 4, 2], wrap=False, bandwidth=rate)
    net = grid(graph, parts={"x": (2, 4)})
    assert net.axes == scenario.net.axes and net.stride == scenario.net.stride == (2, 1, 1, 1)
    near, far = (simulate(Program((Collective("gather", "all_gather", (axis,), size),)), net, chip("ideal")).makespan
                 for axis in ("x/2", "x/4*2"))
    assert near == pytest.approx(size / 2 / rate, rel=1e-9)  # one neighbour's half
    line = simulate(Program((Collective("gather", "all_gather", ("y",), size),)), net, chip("ideal")).makespan
    assert far == pytest.approx(2 * line, rel=1e-9)  # two lines of four on the links of one


def test_two_phases_may_cut_an_axis_alike():
    work = {"phase": "generate", "batch": 8, "context": 64, "tokens": 2}
    meshes = {"prefill": {"mesh": {"x": ["x/2"], "y": ["x/4", "y"], "z": "z"}},
              "decode": {"mesh": {"z": ["x/2", "z"], "y": ["x/4"], "x": "y"}}}
    scenario = load({**SMALL, "topology": {"shape": [8, 4, 2]}, "layout": meshes, "workload": work})
    assert scenario.layouts["decode"].mesh == {"x": ("y",), "y": ("x/4*2",), "z": ("x/2", "z")}
    assert recorded(scenario).net.axes == ("x/4*2", "x/2", "y", "z")


def test_a_layout_says_the_algorithms_of_its_collectives_and_a_path_its_own():
    chosen = {"all_to_all": "direct", "all_gather": "one_ring", "reduce_scatter": "sequential", "all_reduce": "one_ring"}
    scenario = load({**SMALL, "layout": {"ffn": "ws2d_code", "attention": "batch", "collectives": chosen}})
    found = [o for p in programs(scenario) for o in p.operations() if isinstance(o, Collective)]
    assert {o.kind for o in found} == set(chosen) and all(o.algorithm == chosen[o.kind] for o in found)
    assert recorded(scenario).layouts["decode"].collectives == chosen
    nested = load({**SMALL, "layout": {"ffn": "wg_xyz_code", "collectives": {"all_gather": "one_ring"}}})
    gathers = [o for p in programs(nested) for o in p.operations() if getattr(o, "kind", "") == "all_gather"]
    assert {o.algorithm for o in gathers} == {"nested", "one_ring"}


@pytest.mark.parametrize("detour", [True, False])
def test_a_program_says_whether_a_broken_ring_goes_round_its_dead_link(detour):
    dead = [{"from": [0, 0], "to": [1, 0], "failed": True}]
    scenario = load({**square(links=dead), "program": [{**GATHER, "detour": detour}]})
    assert scenario.program == Program((Collective("gather", "all_gather", ("x",), 8e6, detour=detour),))
    assert recorded(scenario).program.block[0].detour is detour
