"""Cases that can be worked out by hand, and pin the oracle to closed forms."""

import math
from dataclasses import dataclass, replace
from itertools import product

import networkx as nx
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim.program import Collective, Compute, Loop, Matmul, Program

D, W, A = 7200.0, 10.0, 3.0  # bytes of a collective, bytes/s, seconds
MODES = ("one_way", "throughput", "latency")


@dataclass(frozen=True)
class Chip:
    flops: float = 1.0
    hbm_bandwidth: float = 1.0
    on_chip_bytes: float = 0.0
    tile: tuple[int, int, int] = (1, 1, 1)
    load_rows: float = 0.0
    vector_rate: float = 1.0
    matmul_efficiency: float = 1.0
    hbm_efficiency: float = 1.0
    link_efficiency: float = 1.0
    launch: float = 0.0
    message: float = 0.0
    op_overhead: float = 0.0
    loop_step: float = 0.0

    def rate(self, dtype):
        return self.flops


IDEAL = Chip()


def torus(*lengths, wrap=True, latency=0.0, bandwidth=W):
    """Return the torus (or, without wraparounds, the mesh) on axes x, y, z."""
    graph = nx.DiGraph(axes=dict(zip("xyz", lengths, strict=False)))
    for chip in product(*(range(length) for length in lengths)):
        graph.add_node(chip)
        for axis, length in enumerate(lengths):
            if chip[axis] + 1 < length or (wrap and length > 2):
                other = (*chip[:axis], (chip[axis] + 1) % length, *chip[axis + 1:])
                graph.add_edge(chip, other, bandwidth=bandwidth, latency=latency)
                graph.add_edge(other, chip, bandwidth=bandwidth, latency=latency)
    return graph


def one(kind, axes="x", size=D, **choices):
    return Program((Collective(kind, kind, tuple(axes), size, **choices),))


def makespan(program, graph, chip=IDEAL, **choices):
    return oracle.simulate(program, graph, chip, **choices)["makespan"]


def near(value):
    return pytest.approx(value, rel=1e-12, abs=1e-12)


# Collectives on one axis


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
@pytest.mark.parametrize("K", [3, 4, 5, 6, 7])
def test_gather_and_scatter_on_a_ring_use_both_directions(kind, K):
    assert makespan(one(kind), torus(K)) == near((K - 1) / K * D / (2 * W))


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
@pytest.mark.parametrize("K", [3, 4, 5, 6, 7])
def test_latency_adds_once_a_step(kind, K):
    assert makespan(one(kind), torus(K, latency=A)) == near((K - 1) / K * D / (2 * W) + K // 2 * A)
    one_way = makespan(one(kind, direction="one_way"), torus(K, latency=A))
    assert one_way == near((K - 1) * (D / K / W + A))


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
@pytest.mark.parametrize("K", [2, 3, 4, 5])
@pytest.mark.parametrize("direction", ["both", "one_way"])
def test_gather_and_scatter_on_a_line_take_the_longest_way(kind, K, direction):
    assert makespan(one(kind, direction=direction), torus(K, wrap=False)) == near((K - 1) / K * D / W)


@pytest.mark.parametrize("K", [2, 3, 4])
def test_gather_on_a_line_pays_latency_once_a_hop(K):
    run = oracle.simulate(one("all_gather"), torus(K, wrap=False, latency=A), IDEAL)
    assert run["ops"][0][2] == {(i,): near(max(i, K - 1 - i) * (D / K / W + A)) for i in range(K)}


@pytest.mark.parametrize("K", [3, 4, 5, 6, 2])
def test_all_reduce_is_scatter_and_gather_in_turn(K):
    graph = torus(K, latency=A)
    assert makespan(one("all_reduce"), graph) == near(2 * makespan(one("all_gather"), graph))


@pytest.mark.parametrize("K", [4, 6, 8])
def test_all_to_all_on_an_even_ring(K):
    assert makespan(one("all_to_all"), torus(K)) == near(D * K / (8 * W))
    assert makespan(one("all_to_all"), torus(K, latency=A)) == near(D * K / (8 * W) + K / 2 * A)


@pytest.mark.parametrize("K", [3, 5, 7])
def test_all_to_all_on_an_odd_ring(K):
    assert makespan(one("all_to_all"), torus(K)) == near(D * (K * K - 1) / K / (8 * W))


@pytest.mark.parametrize("K", [3, 4, 5])
def test_all_to_all_one_way_goes_half_way_round_on_average(K):
    assert makespan(one("all_to_all", direction="one_way"), torus(K)) == near(D * (K - 1) / 2 / W)


@pytest.mark.parametrize("K", [2, 3, 4, 5, 6])
def test_all_to_all_on_a_line_keeps_the_middle_link_busy(K):
    assert makespan(one("all_to_all"), torus(K, wrap=False)) == near((K // 2) * ((K + 1) // 2) * D / K / W)


def test_all_to_all_on_a_line_sends_the_farthest_target_first():
    sent = oracle.simulate(one("all_to_all"), torus(4, wrap=False), IDEAL)["transfers"]
    to_the_right = sorted((t.start, t.step) for t in sent if (t.sender, t.receiver) == ((1,), (2,)))
    assert [step for _, step in to_the_right] == [(1, 0), (1, 1), (2, 0), (2, 1)]  # 1->3, 1->2, 0->3, 0->2
    assert to_the_right[-1][0] + D / 4 / W == near(D / W)


@pytest.mark.parametrize(("K", "shift", "shards", "hops"), [
    (5, 1, 1, 1), (5, -1, 1, 1), (5, 2, 1, 2), (5, 3, 1, 2), (4, 2, 0.5, 2), (6, 3, 0.5, 3), (4, 4, 0, 0),
    (7, 8, 1, 1)])
def test_permute_on_a_ring_goes_the_short_way(K, shift, shards, hops):
    run = oracle.simulate(one("permute", shift={"x": shift}), torus(K, latency=A), IDEAL)
    assert run["ops"][0][2] == {(i,): near(hops * (shards * D / W + A)) for i in range(K)}


def test_permute_on_a_line_brings_the_wraparound_message_back_hop_by_hop():
    ends = oracle.simulate(one("permute", shift={"x": 1}), torus(4, wrap=False, latency=A), IDEAL)["ops"][0][2]
    hop = D / W + A  # chips 2, 1 pass the message of 3 on, and are done when they have it
    assert ends == {(0,): near(3 * hop), (1,): near(2 * hop), (2,): near(hop), (3,): near(hop)}


def test_permute_over_two_axes_takes_them_in_turn():
    both = makespan(one("permute", "yx", shift={"y": 2, "x": 1}), torus(3, 5, latency=A))
    assert both == near(3 * (D / W + A))


# Several axes


@pytest.mark.parametrize("lengths", [(4, 4), (3, 3), (4, 4, 4), (3, 3, 3)])
def test_gather_on_a_torus_uses_every_link(lengths):
    K, n, axes = math.prod(lengths), len(lengths), "xyz"[:len(lengths)]
    graph = torus(*lengths)
    assert makespan(one("all_gather", axes), graph) == near((K - 1) / K * D / (2 * n * W))
    run = oracle.simulate(one("reduce_scatter", axes), graph, IDEAL)
    assert run["makespan"] == near((K - 1) / K * D / (2 * n * W))
    assert list(run["link_bytes"].values()) == [near((K - 1) / K * D / (2 * n))] * graph.number_of_edges()


def test_axes_of_length_1_are_dropped():
    assert makespan(one("all_gather", "yxz"), torus(1, 4, 3)) == near(makespan(one("all_gather", "xy"), torus(4, 3)))


def test_part_of_weight_0_is_nothing_and_sequential_is_one_part():
    graph = torus(4, 3, latency=A)
    for kind in ("all_gather", "reduce_scatter", "all_reduce", "all_to_all"):
        assert makespan(one(kind, "xy", split=(1.0, 0.0)), graph) == near(
            makespan(one(kind, "xy", algorithm="sequential"), graph))


def test_sequential_gather_grows_from_axis_to_axis():
    time = makespan(one("all_gather", "xy", algorithm="sequential"), torus(4, 3, latency=A))
    assert time == near(3 / 2 * D / 12 / W + 2 * A + 4 * D / 12 / W + A)


def test_parts_meet_on_the_links_in_the_order_of_phases():
    # Shards of 1 s. x: part 0 in 1/2 + 1/4 s, then part 1, there from 1/2 s on, in 1 + 1/2 s. y: part 1 in 1/2 s, then
    # part 0, there from 3/4 s on, in 4/2 s.
    ends = oracle.simulate(one("all_gather", "xy", 8 * W), torus(4, 2), IDEAL)
    assert ends["makespan"] == near(2.75)
    assert max(t.arrival for t in ends["transfers"] if t.part == 1) == near(2.25)
    weighed = oracle.simulate(one("all_gather", "xy", 8 * W, split=(0.25, 0.75)), torus(4, 2), IDEAL)
    assert max(t.arrival for t in weighed["transfers"] if t.part == 0) == near(0.75 + 1)
    assert max(t.arrival for t in weighed["transfers"] if t.part == 1) == near(0.75 + 2 * 0.75 * 1.5)


def test_one_ring_is_a_ring_of_all_chips():
    order = tuple((x, y if x % 2 == 0 else 2 - y) for x in range(4) for y in range(3))
    graph = torus(4, 3, latency=A)
    time = makespan(one("all_gather", "xy", algorithm="one_ring"), graph, ring_orders={("x", "y"): (order, True)})
    assert time == near(makespan(one("all_gather"), torus(12, latency=A)))
    time = makespan(one("all_gather", "xy", algorithm="one_ring"), graph, ring_orders={("x", "y"): (order, False)})
    assert time == near(makespan(one("all_gather"), torus(12, wrap=False, latency=A)))
    with pytest.raises(AssertionError, match="not neighbours"):
        makespan(one("all_gather", "xy", algorithm="one_ring"), torus(4, 3, wrap=False),
                 ring_orders={("x", "y"): (order, True)})


def test_nested_gather_moves_one_block_at_a_time():
    assert makespan(one("all_gather", "xy", algorithm="nested"), torus(4, 3, latency=A)) == near(11 * (D / 12 / W + A))
    assert oracle.nested_walk(("x", "z", "y"), {"x": 3, "y": 2, "z": 2}) == tuple("xxzxx" "y" "xxzxx")


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter", "all_reduce", "all_to_all"])
def test_auto_split_must_be_resolved(kind):
    with pytest.raises(ValueError, match="'auto'"):
        makespan(one(kind, "xy", split="auto"), torus(2, 2))


def test_unknown_algorithm_is_an_error():
    with pytest.raises(ValueError, match="no all_to_all by 'one_ring'"):
        makespan(one("all_to_all", algorithm="one_ring"), torus(4))


# Clocks and queues


def test_late_chip_delays_all_of_its_group_and_no_other():
    late = 1e6
    ends = oracle.simulate(one("all_gather", "x", direction="one_way"), torus(4, 3), IDEAL,
                           start={(0, 1): late})["ops"][0][2]
    u = D / 4 / W
    for (x, y), end in ends.items():
        # What the late chip must send and pass on leaves it one by one from the time that it is there.
        assert end == near(3 * u if y != 1 else late if x == 0 else late + 3 * u)


def test_late_chip_delays_only_who_hears_from_it():
    ends = oracle.simulate(one("permute", shift={"x": 1}), torus(5), IDEAL, start={(2,): 1e6})["ops"][0][2]
    assert ends == {(0,): near(D / W), (1,): near(D / W), (2,): 1e6, (3,): near(1e6 + D / W), (4,): near(D / W)}


def test_queue_waits_for_its_chip_in_program_order():
    program = Program((
        Compute("work", flops=5000.0),
        Collective("first", "permute", ("x",), D, shift={"x": 1}),
        Collective("second", "permute", ("x",), D, shift={"x": 1}, after=()),
    ))
    ops = {name: (start[0,], end[0,]) for name, start, end in oracle.simulate(program, torus(3), IDEAL)["ops"]}
    assert ops == {"work": (0, 5000), "first": (5000, near(5000 + D / W)), "second": (0, near(5000 + 2 * D / W))}


def test_opposite_directions_do_not_queue():
    program = Program((
        Collective("right", "permute", ("x",), D, shift={"x": 1}),
        Collective("left", "permute", ("x",), D, shift={"x": -1}, after=()),
    ))
    assert makespan(program, torus(3)) == near(D / W)


def test_transfer_does_not_wait_for_its_receiver():
    ends = oracle.simulate(one("permute", shift={"x": 1}), torus(3), IDEAL, start={(1,): D / W + 1})["ops"][0][2]
    assert ends[1,] == D / W + 1


def test_links_have_their_own_bandwidth():
    graph = torus(5)
    graph.edges[(1,), (2,)]["bandwidth"] = W / 4
    ends = oracle.simulate(one("permute", shift={"x": 1}), graph, IDEAL)["ops"][0][2]
    assert ends == {(i,): near(D / W * (4 if i == 2 else 1)) for i in range(5)}


def test_axis_that_is_declared_no_ring_is_lines():
    graph = torus(4, 2)
    graph.remove_edge((3, 1), (0, 1))
    for network in (graph, torus(4, 2)):
        assert makespan(one("all_gather"), network, ring=(False, False)) == near(3 / 4 * D / W)


def test_missing_wraparound_without_detour_makes_its_own_lane_a_line():
    graph = torus(4, 2)
    graph.remove_edge((3, 1), (0, 1))
    ends = oracle.simulate(one("all_gather", detour=False), graph, IDEAL)["ops"][0][2]
    assert [ends[x, 0] for x in range(4)] == [near(3 / 8 * D / W)] * 4
    assert max(ends.values()) == near(3 / 4 * D / W)


def test_launch_comes_before_the_first_send_and_efficiency_slows_links():
    time = makespan(one("all_gather"), torus(4, latency=A), Chip(launch=11.0, link_efficiency=0.5))
    assert time == near(11 + 3 / 4 * D / W + 2 * A)


def test_block_is_repeated_between_prologue_and_epilogue():
    work = Compute("work", flops=100.0)
    program = Program((work, Collective("gather", "all_gather", ("x",), D)), layers=3,
                      prologue=(Compute("before", flops=10.0),), epilogue=(Compute("after", flops=1.0, after=()),))
    run = oracle.simulate(program, torus(3), IDEAL)
    assert [name for name, _, _ in run["ops"]] == ["before", *["work", "gather"] * 3, "after"]
    assert run["makespan"] == near(11 + 3 * (100 + D / 3 / W))
    assert sum(run["link_bytes"].values()) == near(3 * 2 * D)


def test_no_operation_leaves_the_start():
    assert makespan(Program(()), torus(3), start={(1,): 7.0}) == 7.0


def test_empty_after_is_the_end_of_the_last_operation_of_the_list_before():
    program = Program((Compute("a", flops=5.0, after=()), Collective("b", "all_gather", ("x",), D, after=())), layers=2)
    starts = [start[0,] for _, start, _ in oracle.simulate(program, torus(3), IDEAL)["ops"]]
    assert starts == [0, 0, near(D / 3 / W), near(D / 3 / W)]


# Compute


def test_matmul_pays_for_whole_tiles_and_the_slower_of_flops_and_memory():
    chip = Chip(flops=1e3, hbm_bandwidth=100.0, tile=(8, 128, 128), matmul_efficiency=0.5, hbm_efficiency=0.25,
                op_overhead=2.0)
    work = Compute("work", (Matmul(3, 130, 128, count=2),), flops=50.0)
    assert makespan(Program((work,)), torus(1), chip) == near(2 + (2 * 8 * 256 * 128 * 2 + 50) / 500)
    assert makespan(Program((Compute("read", hbm_bytes=1e6),)), torus(1), chip) == near(2 + 1e6 / 25)


def test_matmul_pays_for_loading_each_tile_and_for_the_elementwise_work_after_it():
    chip = Chip(flops=1e3, hbm_bandwidth=100.0, tile=(8, 128, 128), load_rows=30.0, vector_rate=50.0)
    work = Compute("work", (Matmul(3, 130, 128),), vector=1000.0, vector_bytes=100.0)
    assert makespan(Program((work,)), torus(1), chip) == near(2 * 38 * 256 * 128 / 1e3 + 20)
    assert makespan(Program((replace(work, vector_bytes=3000.0),)), torus(1), chip) == near(2 * 38 * 256 * 128 / 1e3 + 30)


@pytest.mark.parametrize(("room", "seconds"), [(200.0, 20), (199.0, 2 + 4 * 200 / 100)])
def test_what_is_made_and_used_up_inside_crosses_memory_where_it_does_not_fit_on_the_chip(room, seconds):
    chip = Chip(flops=1e3, hbm_bandwidth=100.0, on_chip_bytes=room, vector_rate=50.0)
    work = Compute("work", vector=100.0 if room < 200 else 1000.0, vector_bytes=200.0, scratch=200.0, scratch_passes=4)
    assert makespan(Program((work,)), torus(1), chip) == near(seconds)


def test_every_kernel_of_an_operation_has_an_overhead():
    chip = Chip(op_overhead=3.0)
    assert makespan(Program((Compute("work", flops=5.0, kernels=4),)), torus(1), chip) == near(5 + 4 * 3)


def test_every_piece_of_an_exchange_is_issued_like_a_message():
    chip = Chip(launch=5.0, message=2.0)
    both = ("all_to_all", "all_gather")
    times = [makespan(Program((Collective("c", kind, ("x",), D, pieces=7),)), torus(4), chip) for kind in both]
    plain = [makespan(Program((Collective("c", kind, ("x",), D),)), torus(4), IDEAL) for kind in both]
    assert times == [near(plain[0] + 5 + 2 * (3 + 7)), near(plain[1] + 5)]


def test_compute_unit_serves_one_at_a_time_in_program_order():
    program = Program((
        Collective("gather", "all_gather", ("x",), D),
        Compute("waits", flops=10.0),
        Compute("ready", flops=5.0, after=()),
    ))
    starts = [start[0,] for _, start, _ in oracle.simulate(program, torus(3), IDEAL)["ops"]]
    assert starts == [0, near(D / 3 / W), near(D / 3 / W + 10)]


# Loops


def gather_loop(kind, K, size=D, flops=1200.0, **choices):
    return Program((Collective("gather", "all_gather", ("x",), size, **choices),
                    Compute("work", flops=flops, loop=Loop("gather", kind, (K, 1, 1)))))


def scatter_loop(kind, K, size=D, flops=1200.0, **choices):
    return Program((Compute("work", flops=flops, loop=Loop("scatter", kind, (K, 1, 1))),
                    Collective("scatter", "reduce_scatter", ("x",), size, **choices)))


SLOW = Chip(op_overhead=7.0, loop_step=2.0, launch=1.0)


@pytest.mark.parametrize("loop", [gather_loop, scatter_loop])
@pytest.mark.parametrize(("kind", "K", "steps"), [
    ("one_way", 4, 3), ("one_way", 3, 2), ("throughput", 4, 3), ("throughput", 5, 4),
    ("latency", 5, 2), ("latency", 3, 1), ("latency", 4, 2), ("latency", 6, 3)])
def test_loop_where_compute_dominates_takes_overhead_and_compute_and_steps(loop, kind, K, steps):
    assert makespan(loop(kind, K, size=1e-9), torus(K), SLOW) == pytest.approx(7 + 1200 + 2 * steps, abs=1e-6)


def test_merged_piece_waits_for_the_first_step():
    K, flops = 4, 1200.0
    run = oracle.simulate(gather_loop("latency", K, flops=flops), torus(K, latency=A), SLOW)
    hop, piece = D / K / W + A, flops / K
    first = max(1 + hop, 7) + 2 + 2 * piece
    assert run["ops"][1][2][0,] == near(max(first, 1 + 2 * hop) + 2 + 2 * piece)
    assert run["ops"][0][2][0,] == near(1 + 2 * hop)


@pytest.mark.parametrize("kind", MODES)
@pytest.mark.parametrize("K", [3, 4, 5, 6])
def test_gather_loop_where_the_network_dominates_ends_a_piece_after_the_gather(kind, K):
    graph = torus(K, latency=A)
    run = oracle.simulate(gather_loop(kind, K, flops=1.2), graph, SLOW)
    shards, steps = {"one_way": (1, K - 1), "throughput": (0.5, K - 1), "latency": (1, K // 2)}[kind]
    gathered = 1 + steps * (shards * D / K / W + A)
    last = {"one_way": 1, "throughput": 1, "latency": 2}[kind]
    assert run["ops"][0][2] == {c: near(gathered) for c in graph}
    assert run["ops"][1][2] == {c: near(gathered + 2 + last * 1.2 / K) for c in graph}
    assert run["ops"][1][1] == dict.fromkeys(graph, 0)


@pytest.mark.parametrize("K", [3, 4, 5])
def test_one_way_scatter_loop_sends_each_sum_after_its_piece(K):
    flops, hop, graph = 6000.0, D / K / W, torus(K)
    run = oracle.simulate(scatter_loop("one_way", K, flops=flops), graph, IDEAL)
    piece = flops / K
    arrivals = [0.0]  # of step s: its piece, the step before, then a hop
    for s in range(1, K):
        arrivals.append(max(s * piece, arrivals[-1]) + hop)
    assert run["ops"][1][2] == {c: near(max(arrivals[-1], flops)) for c in graph}
    assert run["ops"][0][2] == {c: near(flops) for c in graph}


def test_scatter_starts_with_its_matmul():
    program = scatter_loop("one_way", 4)
    program = Program(program.block, prologue=(Compute("before", flops=50.0),))
    ops = oracle.simulate(program, torus(4), SLOW)["ops"]
    assert ops[1][1] == ops[2][1] == {(i,): 57 for i in range(4)}


def test_loop_over_two_axes_has_a_piece_for_each_phase_and_step():
    K = 12
    program = Program((Collective("gather", "all_gather", ("x", "y"), 1e-9),
                       Compute("work", (Matmul(600, 1, 1),), loop=Loop("gather", "latency", (K, 1, 1)))))
    # Phase 0: x 4 has 2 steps, y 3 has 1; phase 1 the same with the axes exchanged; the own shard alone.
    assert makespan(program, torus(4, 3), SLOW) == pytest.approx(7 + 1200 + 4 * 2, abs=1e-6)


def test_piece_pays_for_its_own_tiles():
    program = Program((Collective("gather", "all_gather", ("x",), 1e-9),
                       Compute("work", (Matmul(12, 1, 1),), flops=4.0, loop=Loop("gather", "one_way", (4, 1, 1)))))
    assert makespan(program, torus(4), Chip(tile=(8, 1, 1))) == pytest.approx(4 * (2 * 8 + 1), abs=1e-6)


@pytest.mark.parametrize("lengths", [(3,), (4, 3), (2, 3, 2)])
def test_nested_gather_on_lines_can_be_looped(lengths):
    K, axes = math.prod(lengths), tuple("xyz"[:len(lengths)])
    program = Program((Collective("gather", "all_gather", axes, 1e-9, algorithm="nested"),
                       Compute("work", (Matmul(600, 1, 1),), loop=Loop("gather", "one_way", (K, 1, 1)))))
    ends = oracle.simulate(program, torus(*lengths, wrap=False), IDEAL)["ops"][1][2]
    assert ends == {chip: pytest.approx(1200, abs=1e-6) for chip in ends}


# What the oracle would notice


def broken(monkeypatch, change, kind="all_gather"):
    whole = oracle.gather_moves
    monkeypatch.setattr(oracle, "gather_moves", lambda K, ring, mode: change(whole(K, ring, mode)))
    makespan(one(kind), torus(5))


def test_lost_shard_is_noticed(monkeypatch):
    with pytest.raises(AssertionError, match="all_gather on"):
        broken(monkeypatch, lambda moves: moves[:-1])


def test_shard_that_comes_twice_is_noticed(monkeypatch):
    with pytest.raises(AssertionError, match=r"got .* twice"):
        broken(monkeypatch, lambda moves: [*moves, moves[-1]._replace(step=(3, 0))])


def test_shard_that_is_not_there_is_noticed(monkeypatch):
    with pytest.raises(AssertionError, match="does not have it"):
        broken(monkeypatch, lambda moves: [m for m in moves if m.at or m.sign < 0 or m.step[0] > 1])


def test_lost_contribution_is_noticed(monkeypatch):
    with pytest.raises(AssertionError, match="reduce_scatter on"):
        broken(monkeypatch, lambda moves: [m for m in moves if m.step[0] == 1], "reduce_scatter")


def test_queue_that_waits_for_itself_is_noticed(monkeypatch):
    with pytest.raises(AssertionError, match="never ends on"):
        broken(monkeypatch, lambda moves: [m._replace(step=(3 - m.step[0], 0)) for m in moves])


# On anything small


LENGTHS = st.lists(st.integers(1, 5), min_size=1, max_size=3).filter(lambda n: 1 < math.prod(n) <= 30)


@st.composite
def cases(draw):
    """Return lengths, wraparounds or none, link times and start times by a seed, and a program."""
    lengths = draw(LENGTHS)
    axes = tuple(draw(st.permutations("xyz"[:len(lengths)])))
    if math.prod(lengths["xyz".index(a)] for a in axes[:1]) > 1 and draw(st.booleans()):
        axes = axes[:1]
    kind = draw(st.sampled_from(["all_gather", "reduce_scatter", "all_reduce", "all_to_all", "permute"]))
    algorithms = {"permute": [""], "all_to_all": ["", "sequential"], "all_gather": ["", "sequential", "nested"]}
    collective = Collective(
        "collective", kind, axes, D, algorithm=draw(st.sampled_from(algorithms.get(kind, ["", "sequential"]))),
        direction=draw(st.sampled_from(["both", "one_way"])),
        shift={axis: draw(st.integers(-4, 4)) for axis in axes} if kind == "permute" else {})
    loop = Loop("collective", draw(st.sampled_from(MODES)), (1, 1, 1))
    work = Compute("work", flops=draw(st.sampled_from([1.0, 1000.0])), loop=loop)
    block = {"all_gather": (collective, work), "reduce_scatter": (work, collective)}.get(kind, (collective,))
    if draw(st.booleans()):
        block = (collective,)
    return Program(block, layers=draw(st.integers(1, 2))), lengths, draw(st.booleans()), draw(st.randoms())


@settings(max_examples=150, deadline=None)
@given(cases())
def test_contracts_hold_and_a_faster_link_never_makes_anything_later(case):
    program, lengths, wrap, random = case
    graph = torus(*lengths, wrap=wrap)
    for edge in graph.edges.values():
        edge |= {"bandwidth": random.uniform(1, 100), "latency": random.uniform(0, 50)}
    start = {chip: random.uniform(0, 500) for chip in graph}
    run = oracle.simulate(program, graph, SLOW, start=start)
    graph.edges[random.choice(list(graph.edges))]["bandwidth"] *= 2
    faster = oracle.simulate(program, graph, SLOW, start=start)
    for (_, starts, ends), (_, _, sooner) in zip(run["ops"], faster["ops"], strict=True):
        for chip in graph:
            assert start[chip] <= starts[chip] <= ends[chip] <= run["makespan"]
            assert sooner[chip] <= ends[chip] * (1 + 1e-12)
    assert run["link_bytes"] == faster["link_bytes"]
