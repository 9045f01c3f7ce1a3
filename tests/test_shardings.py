"""Laws of the stream of tables of shardings: its bounds are bounds, its order is theirs, and nothing is left out."""

from dataclasses import replace
from itertools import islice, product
from random import Random

import pytest
from thinned import thinned

from torussim.chips import chip
from torussim.closed_forms import axes_seconds
from torussim.engine.simulate import simulate
from torussim.errors import LayoutError, ShardingError
from torussim.layouts import DIMENSIONS, LAYOUTS, Heads, Layout
from torussim.memory import memory
from torussim.models import Model
from torussim.outlines import Outlines
from torussim.planner.bounds import Bounds
from torussim.planner.roles import TENSORS, Kind, halves_of, table
from torussim.planner.shardings import Shardings
from torussim.program import Collective, Compute, Loop, Matmul
from torussim.scenario.layout import describe_path, read_table
from torussim.topology.builders import torus
from torussim.topology.grid import grid
from torussim.transformer import Builder
from torussim.workload import Forward, Workload

CHIP = replace(chip("tpu-v4"), launch=1.3e-6, op_overhead=0.8e-6, loop_step=0.3e-6, message=0.05e-6, load_rows=20.0)
FIVE = tuple(name for name in LAYOUTS if not name.endswith("_code"))
DECODE, PREFILL = Forward("decode", 16, 1, 512), Forward("prefill", 8, 64, 64)


def model(*, parallel=True, heads=16, kv_heads=1, d_model=512, d_ff=2048, layers=3, gated=True):
    return Model("small", layers, d_model, d_ff, heads, kv_heads, 128, 1024, gated, parallel, 1e9, False)


def network(shape, wrap=True, seed=None, dead=False):
    """Return a torus or a mesh as a grid; with a seed no two links are alike, `dead`: and one is gone."""
    graph = torus(shape, wrap=[wrap and n > 2 for n in shape], bandwidth=45e9, latency=1e-6)
    rng = Random(seed)
    for _, _, link in graph.edges(data=True) if seed is not None else ():
        link["bandwidth"] *= rng.uniform(0.3, 1.0)
        link["latency"] *= rng.uniform(0.5, 2.0)
    if dead:
        first, second = next((u, v) for u, v in graph.edges if u[0] != v[0])
        graph.remove_edge(first, second)
        graph.remove_edge(second, first)
    return grid(graph)


def stream(given, forward, net, chip=CHIP, **choices):
    return Shardings(given, Layout(**choices), forward, Outlines(net), chip)


def program(given, forward, net, paths, **choices):
    layout = Layout(ffn=paths, heads=Heads(given.heads), **choices)  # the space has no padded heads
    return Builder(given, layout, forward, {a: net.length(a) for a in net.axes}).build()


def every_table(given, forward, net):
    """Return all tables of the space that the Builder takes, with their programs."""
    axes = [a for a in net.axes if net.length(a) > 1]
    halves = halves_of(Kind(given.parallel, given.kv_heads > 1, given.kv_heads == given.heads))
    roles = [{**one, **other} for spine in range(len(halves[0]))
             for one, other in product(halves[0][spine], halves[-1][spine] if len(halves) > 1 else [{}])]
    found = []
    for chosen in product(roles, repeat=len(axes)):
        try:
            paths = table(axes, chosen)
            found.append((paths, program(given, forward, net, paths)))
        except (LayoutError, ShardingError):
            continue
    return found


def letters(path, tensor, axis):
    """Return what an axis cuts at each station of a path, once where it is always the same."""
    cut = [next((dim for dim in DIMENSIONS[tensor] if axis in station.axes(dim)), "") for station in path.stations]
    return (cut[0],) if len(set(cut)) == 1 else tuple(cut)


CASES = [  # models of every kind, on rings and lines, with links alike and not
    (model(parallel=False, kv_heads=4), DECODE, network((4, 4), wrap=False)),
    (model(kv_heads=4), DECODE, network((2, 2, 2))),
    (model(), DECODE, network((4, 2))),
    (model(parallel=False, kv_heads=16), PREFILL, network((3, 3), seed=3)),
    (model(), DECODE, network((4, 2), seed=5, dead=True)),
    (model(), PREFILL, grid(torus((4, 4, 8), bandwidth=45e9, latency=1e-6, twist=True))),
    (model(kv_heads=16), PREFILL, network((4,), seed=1)),
    (model(), PREFILL, network((5, 2), wrap=False, seed=2)),
    (model(parallel=False), DECODE, network((4, 2), seed=6, dead=True)),
    (replace(model(parallel=False, kv_heads=4), d_value=64, window=100, full_layers=(1,)), DECODE, network((4, 2))),
]
SMALL = [
    (model(), DECODE, network((4,))),
    (model(parallel=False, kv_heads=4), DECODE, network((4,), wrap=False)),
    (model(parallel=False, kv_heads=16), PREFILL, network((4,))),
    (model(heads=6, kv_heads=2), PREFILL, network((4,), seed=1)),
    (model(kv_heads=16), replace(DECODE, batch=6), network((3,))),
]


@pytest.mark.parametrize("name", FIVE)
@pytest.mark.parametrize("attention", ["heads", "batch"])
@pytest.mark.parametrize("parallel", [True, False])
def test_the_layouts_of_the_paper_are_in_the_space(name, attention, parallel):
    rng = Random(name + attention)
    for _ in range(4):
        kv_heads = rng.choice((1, 2, 8, 24))
        given = model(parallel=parallel, heads=24, kv_heads=kv_heads, layers=1)
        forward = replace(DECODE, batch=rng.choice((1, 2, 4, 8, 12)))
        lengths = {a: rng.choice((2, 3, 4)) for a in "xyz"}
        builder = Builder(given, Layout(ffn=name, attention=attention), forward, lengths)
        halves = halves_of(Kind(parallel, kv_heads > 1, kv_heads == 24))
        for axis, half in product("xyz", halves):
            role = {tensor: letters(builder.table[tensor], tensor, axis) for tensor in half[0][0]}
            assert any(role in roles for roles in half), (lengths, axis, role)


def test_the_layouts_of_the_paper_take_the_same_time_as_tables_of_roles():
    given, net = model(kv_heads=2), network((4, 2, 2))
    for name, attention in product(FIVE, ("heads", "batch")):
        lengths = {a: net.length(a) for a in net.axes}
        builder = Builder(given, Layout(ffn=name, attention=attention), DECODE, lengths)
        roles = [{tensor: letters(builder.table[tensor], tensor, axis) for tensor in TENSORS} for axis in net.axes]
        mine = program(given, DECODE, net, table(net.axes, roles))
        assert axes_seconds(mine, net, CHIP) == axes_seconds(builder.build(), net, CHIP)


@pytest.mark.parametrize("case", thinned(range(len(CASES)), 4))
def test_bounds_rise_and_none_is_above_the_simulated_time(case):
    given, forward, net = CASES[case]
    found = stream(given, forward, net)
    last, rng = 0.0, Random(case)
    outlines = Outlines(net)
    rings = all(net.ring[i] or n <= 2 for i, n in enumerate(net.shape)) and not any(net.gaps)
    for number, (bound, paths) in enumerate(islice(found, 4000)):
        assert bound >= last * (1 - 1e-12)
        last = bound
        if number < 3 or rng.random() < 0.004:
            made = program(given, forward, net, paths)
            time = simulate(made, net, CHIP).makespan
            assert bound <= time * (1 + 1e-9)
            if rings:
                assert bound <= axes_seconds(made, outlines, CHIP, fastest=True) * (1 + 1e-9) <= time * (1 + 2e-9)


def test_where_all_links_are_alike_on_rings_the_bound_is_the_time():
    given, net = model(), network((4, 4))
    for bound, paths in islice(stream(given, DECODE, net), 0, 1000, 199):
        assert bound == pytest.approx(simulate(program(given, DECODE, net, paths), net, CHIP).makespan, rel=0.02)


@pytest.mark.parametrize("case", thinned(range(len(SMALL)), 4))
def test_on_one_axis_the_stream_has_every_table_and_the_best(case):
    given, forward, net = SMALL[case]
    found, every = stream(given, forward, net), every_table(given, forward, net)
    assert found.size == len(every)
    yielded = {str(paths): bound for bound, paths in found}
    assert yielded.keys() == {str(paths) for paths, _ in every}
    times = {str(paths): simulate(made, net, CHIP).makespan for paths, made in every}
    assert all(bound <= times[key] * (1 + 1e-9) for key, bound in yielded.items())
    best, at = float("inf"), ""
    for key, bound in yielded.items():  # as a search takes them
        if bound >= best:
            break
        best, at = min((best, at), (times[key], key))
    assert best == min(times.values())


def test_the_size_counts_tables_that_differ_in_the_names_of_like_axes():
    given, alike = model(kv_heads=4), network((2, 2))
    other = network((2, 2), seed=1)
    assert stream(given, DECODE, alike).size == stream(given, DECODE, other).size


def test_of_tables_that_differ_in_the_names_of_like_axes_one_is_yielded():
    found = [paths for _, paths in islice(stream(model(parallel=False, layers=1), DECODE, network((2, 2))), 3000)]
    swapped = [{tensor: str(path).translate(str.maketrans("xy", "yx")) for tensor, path in paths.items()} for paths in found]
    mine = [str({tensor: set_of(str(path)) for tensor, path in paths.items()}) for paths in found]
    theirs = [str({tensor: set_of(path) for tensor, path in paths.items()}) for paths in swapped]
    assert len(set(mine)) == len(mine)
    assert all(other == own or other not in set(mine) for own, other in zip(mine, theirs))


def set_of(text):
    """Return a path's text with the axes of each subscript in order."""
    return text.replace("_yx", "_xy")


def test_a_table_can_be_written_into_a_scenario_and_read_again():
    given, net = model(kv_heads=4), network((4, 2))
    for _, paths in islice(stream(given, DECODE, net), 0, 3000, 300):
        read = read_table({tensor: describe_path(path) for tensor, path in paths.items()}, tuple(net.axes))
        assert program(given, DECODE, net, read) == program(given, DECODE, net, paths)


@pytest.mark.parametrize("parallel", [True, False])
def test_tables_that_do_not_fit_are_left_out_and_counted(parallel):
    given, net = model(parallel=parallel, layers=40), network((2,))
    small = replace(CHIP, hbm_bytes=given.counted * 2 * 0.7)
    found = stream(given, DECODE, net, small)
    yielded = [paths for _, paths in found]
    assert found.misfits and len(yielded) + found.misfits == found.size
    kept, rng = {str(paths) for paths in yielded}, Random(1)
    workload = Workload("decode", DECODE.batch, DECODE.attended - 1, 1)
    for paths in (paths for _, paths in stream(given, DECODE, net) if rng.random() < 0.1):
        held = memory(given, Layout(ffn=paths), workload, {"x": 2}, small.hbm_bytes)
        assert (held.weights + held.kv_cache <= small.hbm_bytes) == (str(paths) in kept)


def test_no_table_of_grouped_queries_that_fits_is_left_out():
    """W_k and W_v have one of four KV heads on each of eight chips, where W_q cuts heads; here they are most of the weights."""
    given, net = model(parallel=False, heads=8, kv_heads=4, d_ff=64, layers=40), network((8,))
    workload = Workload("decode", DECODE.batch, DECODE.attended - 1, 1)
    held = {str(paths): memory(given, Layout(ffn=paths), workload, {"x": 8}, 1e9) for _, paths in stream(given, DECODE, net)}
    sums = {paths: one.weights + one.kv_cache for paths, one in held.items()}
    small = sorted(set(sums.values()))[len(set(sums.values())) // 4]
    yielded = {str(paths) for _, paths in stream(given, DECODE, net, replace(CHIP, hbm_bytes=small))}
    assert yielded < set(sums) and {paths for paths, size in sums.items() if size <= small} <= yielded


def test_on_one_chip_there_is_one_table():
    net = network((1,))
    found = stream(model(), DECODE, net)
    (bound, paths), = found
    assert found.size == 1
    assert bound == pytest.approx(simulate(program(model(), DECODE, net, paths), net, CHIP).makespan, rel=1e-9)


def test_bounds_of_operations_that_differ_in_anything_are_not_taken_for_each_other():
    """What is asked second has the bound that it has alone."""
    net = network((4, 4))
    matmul = Compute("m", (Matmul(64, 512, 512),), hbm_bytes=1e6, loop=Loop("g", "throughput", (1, 4, 1), 1e5))
    gather = Collective("g", "all_gather", ("x",), 1e6)
    others = [(matmul, gather), (matmul, replace(gather, direction="one_way")), (matmul, replace(gather, axes=("y",), bytes=2e6)),
              (replace(matmul, flops=1e9), gather), (replace(matmul, vector=1e9), gather), (replace(matmul, kernels=3), gather),
              (replace(matmul, loop=replace(matmul.loop, cut=(1, 1, 4))), gather),
              (replace(matmul, loop=replace(matmul.loop, sum_bytes=1e8)), gather)]
    known = Bounds(Outlines(net), CHIP)
    for one, other in others:
        fresh = Bounds(Outlines(net), CHIP)
        assert known.pair(one, other, one.loop) == fresh.pair(one, other, one.loop)
        assert known.alone(other) == fresh.alone(other) and known.alone(one) == fresh.alone(one)
