"""Every algorithm keeps its collective's contract and takes the time of its formula; and the checker is not fooled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import combinations, pairwise, product
from math import prod
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim.chips import chip
from torussim.collectives import lines, rings
from torussim.collectives.axes import ring_order
from torussim.collectives.contract import Chunk, Hop, Lane, Pattern, Phase, Schedule
from torussim.collectives.lower import ALGORITHMS, AUTO, DIRECT, lower, weights
from torussim.collectives.playback import check
from torussim.collectives.steps import displacements
from torussim.engine.simulate import simulate
from torussim.errors import ContractError, ProgramError
from torussim.messages import targets
from torussim.program import LOOPS, SYMMETRIC, Collective, Kind, Program
from torussim.topology.builders import torus
from torussim.topology.grid import Grid, grid

IDEAL = chip("ideal")
D, W, A = 7200.0, 10.0, 3.0  # bytes of a collective, bytes/s of a link, seconds of latency
SMALL = [(n,) for n in range(1, 7)] + [(2, 2), (2, 3), (3, 3), (4, 3), (2, 2, 2), (1, 4, 2)]
LARGE = [(3, 2, 2), (5, 2), (6, 2), (4, 4), (5, 3), (3, 6), (2, 3, 4), (3, 3, 3)]


def network(shape: tuple[int, ...], wrap: Any = True, bandwidth: Any = W, latency: float = 0.0) -> Grid:
    return grid(torus(shape, wrap=wrap, bandwidth=bandwidth, latency=latency))


def near(value: float) -> Any:
    return pytest.approx(value, rel=1e-12, abs=1e-12)


NAMES = {kind: tuple(name for name in names if name not in (*DIRECT, AUTO)) for kind, names in ALGORITHMS.items()}  # with phases


def schedules(net: Grid) -> Iterator[Schedule]:
    """Yield the schedule of every kind by every algorithm, in every direction and kind of loop that it has, over all axes."""
    for kind in SYMMETRIC:
        for algorithm in NAMES[kind]:
            shifts = [dict(zip(net.axes, shift, strict=False)) for shift in ((1, 2, -1), (-1, 0, 1), (2, 1, 0), (7, -3, 2))]
            for shift in shifts if kind == "permute" else [{}]:
                one = Collective("c", kind, net.axes, D, algorithm, shift=shift)
                for way in ("both", "one_way", *LOOPS[1:])[:1 if kind == "permute" else 4 if kind in SYMMETRIC[:2] else 2]:
                    yield lower(one, net, way=way)


# The contract


@pytest.mark.parametrize("shape", [*SMALL, *(pytest.param(shape, marks=pytest.mark.slow) for shape in LARGE)], ids=str)
@pytest.mark.parametrize("wrap", [True, False])
def test_every_algorithm_delivers_every_shard_and_counts_every_contribution_once(shape: tuple[int, ...], wrap: bool) -> None:
    found = list(schedules(network(shape, wrap)))
    assert {(s.kind, s.algorithm) for s in found} == {(kind, name) for kind, names in NAMES.items() for name in names}
    for schedule in found:
        check(schedule)
        assert bool(schedule.phases) == (prod(shape) > 1 and (schedule.kind != "permute" or any(
            schedule.shift[a] % n for a, n in schedule.lengths.items())))


@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_a_direct_all_to_all_takes_one_message_from_every_chip_to_every_other_of_its_group(shape: tuple[int, ...]) -> None:
    net = network(shape)
    for size in range(1, len(shape) + 1):
        for axes in combinations(net.axes, size):
            to = targets(net, axes, displacements([net.length(a) for a in axes]))
            for sender, reached in enumerate(to.T.tolist()):
                kept = [i for i, a in enumerate(net.axes) if a not in axes]
                group = [c for c, at in enumerate(net.chips) if all(at[i] == net.chips[sender][i] for i in kept)]
                assert sorted([*reached, sender]) == group


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_collective_over_some_axes_in_any_order_and_split_keeps_its_contract(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3).filter(lambda n: prod(n) <= 16))
    wrap = data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
    net = network(tuple(shape), wrap)
    axes = tuple(data.draw(st.permutations(net.axes))[:data.draw(st.integers(1, len(shape)))])
    kind = data.draw(st.sampled_from(SYMMETRIC))
    live = sum(net.length(a) > 1 for a in axes)
    split: Any = data.draw(st.sampled_from(["equal", "auto"]) | st.tuples(*[st.integers(0, 3)] * live).filter(any))
    shift = {a: data.draw(st.integers(-9, 9)) for a in axes} if kind == "permute" else {}
    one = Collective("c", kind, axes, D, data.draw(st.sampled_from(NAMES[kind])), split if live else "equal",
                     data.draw(st.sampled_from(["both", "one_way"])), shift)
    check(lower(one, net))


def test_a_group_of_one_chip_moves_nothing() -> None:
    for kind in SYMMETRIC:
        assert lower(Collective("c", kind, ("x",), D, shift={"x": 1}), network((1, 3))).phases == ()


@pytest.mark.parametrize("kind", SYMMETRIC)
def test_an_unknown_algorithm_is_an_error_that_names_a_near_one(kind: Kind) -> None:
    name = ALGORITHMS[kind][0]
    with pytest.raises(ProgramError, match=f"'{name[:-1]}' is not an algorithm of {kind}: did you mean '{name}'"):
        lower(Collective("c", kind, ("x",), D, name[:-1]), network((4,)))


def test_a_split_needs_a_weight_for_each_axis() -> None:
    with pytest.raises(ProgramError, match="split of 'c' has 3 weights for 2 axes: give one for each axis"):
        lower(Collective("c", "all_gather", ("x", "y"), D, split=(1.0, 1.0, 1.0)), network((4, 3)))


def test_weights_need_not_add_up_to_1() -> None:
    net = network((4, 3))
    one = lower(Collective("c", "all_gather", ("x", "y"), D, split=(1.0, 3.0)), net)
    assert [phase.block for phase in one.phases] == [near(D / 12 / 4), near(D / 12 * 3 / 4), near(D / 3 / 4), near(D / 4 * 3 / 4)]


# The checker


def good() -> Iterator[Schedule]:
    for shape, wrap in (((4,), True), ((5,), True), ((3,), False), ((3, 2), True), ((2, 2), False)):
        yield from schedules(network(shape, wrap))


def hops_changed(schedule: Schedule, change: Callable[[list[Hop], int], list[Hop] | None]) -> Iterator[Schedule]:
    """Yield the schedule with one hop after the other changed; a change can pass one over with None."""
    for i, phase in enumerate(schedule.phases):
        for j in range(len(phase.pattern.hops)):
            hops = change(list(phase.pattern.hops), j)
            if hops is not None:
                broken = replace(phase, pattern=replace(phase.pattern, hops=tuple(hops)))
                yield replace(schedule, phases=(*schedule.phases[:i], broken, *schedule.phases[i + 1:]))


def refused(change: Callable[[list[Hop], int], list[Hop] | None], reason: str, only: Callable[[Schedule], bool]) -> int:
    """Hold every changed schedule to the checker; return how many there were."""
    count = 0
    for schedule in good():
        for broken in hops_changed(schedule, change) if only(schedule) else ():
            count += 1
            with pytest.raises(ContractError, match=reason):
                check(broken)
    return count


def by_permutes(schedule: Schedule) -> bool:
    return schedule.kind == "permute" or schedule.algorithm == "nested"


def dropped(hops: list[Hop], j: int) -> list[Hop]:
    return hops[:j] + hops[j + 1:]


def done_twice(hops: list[Hop], j: int) -> list[Hop]:
    return [*hops, replace(hops[j], step=max(hop.step for hop in hops) + 1)]


def sent_at_once(hops: list[Hop], j: int) -> list[Hop] | None:
    return None if hops[j].after is None else [*hops[:j], replace(hops[j], after=None), *hops[j + 1:]]


def named_thrice(hops: list[Hop], j: int) -> list[Hop]:
    """Let a hop carry each of its chunks three times over."""
    def thrice(chunks: Callable[[int], list[Chunk]], i: int) -> list[Chunk]:
        return chunks(i) * 3
    return [*hops[:j], replace(hops[j], halves=hops[j].halves * 3, chunks=partial(thrice, hops[j].chunks)), *hops[j + 1:]]


def test_a_dropped_hop_is_refused() -> None:
    reason = r"what it does not have|counted \d times instead of \d|half a block|no earlier hop with that sign has that step"
    assert refused(dropped, reason, lambda s: True) > 1000


def test_a_hop_that_is_done_twice_is_refused() -> None:
    assert refused(done_twice, r"twice|what it does not have|counted \d times", lambda s: True) > 1000


def test_a_hop_that_sends_before_what_it_passes_on_has_come_is_refused() -> None:
    assert refused(sent_at_once, "what it does not have|counted", lambda s: not by_permutes(s)) > 400


def test_a_permute_that_passes_on_before_it_has_is_refused() -> None:
    assert refused(sent_at_once, "what it does not have", by_permutes) >= 8


def test_a_contribution_that_is_added_three_times_is_refused() -> None:
    """A checker that only looks at who contributed would let a sum pass that has one of its terms three times."""
    assert refused(named_thrice, "counted 3 times instead of 1|twice", lambda s: not by_permutes(s)) > 400


def understated(hops: list[Hop], j: int) -> list[Hop] | None:
    return None if hops[j].halves.min() < 2 else [*hops[:j], replace(hops[j], halves=hops[j].halves - 1), *hops[j + 1:]]


def test_a_hop_that_carries_more_than_it_says_is_refused() -> None:
    reason = r"sends in phase \d+, step \d+ \d+ halves of blocks, not \d+ as it says"
    assert refused(understated, reason, lambda s: not by_permutes(s)) > 100


def test_a_permute_that_carries_more_than_it_says_is_refused() -> None:
    assert refused(understated, "not as much as it says", by_permutes) > 10


def test_a_hop_over_the_end_of_a_line_is_refused() -> None:
    schedule = lower(Collective("c", "all_gather", ("x",), D), network((4,)))
    phase = schedule.phases[0]
    with pytest.raises(ContractError, match=r"chip \(3,\) sends over the end of a line"):
        check(replace(schedule, phases=(replace(phase, pattern=replace(phase.pattern, ring=False)),)))


def without_one_phase() -> Iterator[tuple[Schedule, bool]]:
    """Yield schedules that lack a phase, and whether that was all of its part."""
    for schedule in good():
        for i, gone in enumerate(schedule.phases):
            left = schedule.phases[:i] + schedule.phases[i + 1:]
            yield replace(schedule, phases=left), all(phase.part != gone.part for phase in left)


def test_a_missing_phase_is_refused() -> None:
    found = [schedule for schedule, whole_part in without_one_phase() if not whole_part]
    assert len(found) > 200
    for schedule in found:
        with pytest.raises(ContractError, match=r"what it does not have|counted \d times|twice|half a block"):
            check(schedule)


def test_a_missing_part_is_refused() -> None:
    for schedule in [schedule for schedule, whole_part in without_one_phase() if whole_part]:
        with pytest.raises(ContractError, match=r"the parts hold \d+ bytes in all instead of 7200"):
            check(schedule)


def test_a_sum_that_lacks_a_term_names_chip_and_term() -> None:
    schedule = lower(Collective("c", "reduce_scatter", ("x",), D), network((3,)))
    told = (r"reduce_scatter \(multi_axis\): chip \(0,\) ends with the contribution of chip \(\d,\) to block 0 "
            r"\(half 0, part 0\) counted 0 times instead of 1")
    with pytest.raises(ContractError, match=told):
        check(next(hops_changed(schedule, dropped)))


def test_a_schedule_that_moves_too_few_bytes_is_refused() -> None:
    for schedule in good():
        for i, phase in enumerate(schedule.phases):
            smaller = (*schedule.phases[:i], replace(phase, block=phase.block / 2), *schedule.phases[i + 1:])
            with pytest.raises(ContractError, match=r"half a block is .* bytes in one message of part|the parts hold"):
                check(replace(schedule, phases=smaller))
        if schedule.phases:
            with pytest.raises(ContractError, match=r"the parts hold 720 bytes in all instead of 7200: set Phase\.block"):
                check(replace(schedule, phases=tuple(replace(p, block=p.block / 10) for p in schedule.phases)))


# Algorithms of the user's own


def with_own(shape: tuple[int, ...], algorithm: Callable[..., Any]) -> Any:
    net = network(shape)
    return simulate(Program((Collective("c", "all_gather", net.axes, D, algorithm),)), net, IDEAL)


def test_an_own_algorithm_takes_the_time_of_its_hops() -> None:
    def one_way(collective: Collective, lengths: Mapping[str, int], ring: Mapping[str, bool]) -> tuple[Phase, ...]:
        ((axis, length),) = lengths.items()
        return (Phase(0, 0, Lane((axis,)), rings.gather(length, "one_way"), collective.bytes / length),)
    assert with_own((5,), one_way).makespan == near(4 / 5 * D / W)


def test_an_own_algorithm_that_breaks_the_contract_is_refused() -> None:
    def forgetful(collective: Collective, lengths: Mapping[str, int], ring: Mapping[str, bool]) -> tuple[Phase, ...]:
        pattern = rings.gather(4)
        return (Phase(0, 0, Lane(("x",)), replace(pattern, hops=pattern.hops[:-1]), collective.bytes / 4),)
    with pytest.raises(ContractError, match=r"all_gather \(test_collectives:test_an_own_.*\.forgetful\): chip \(0,\) ends"):
        with_own((4,), forgetful)


def test_no_chip_is_done_before_all_that_is_due_to_it_has_come() -> None:
    def as_on_a_line(collective: Collective, lengths: Mapping[str, int], ring: Mapping[str, bool]) -> tuple[Phase, ...]:
        return (Phase(0, 0, Lane(("x",)), Pattern("gather", 4, True, lines.gather(4).hops), collective.bytes / 4),)
    assert with_own((4,), as_on_a_line).finish == pytest.approx([3 / 4 * D / W, 2 / 4 * D / W, 2 / 4 * D / W, 3 / 4 * D / W])


# Formulas


def seconds(kind: Kind, net: Grid, algorithm: str = "", axes: str = "", **choices: Any) -> float:
    return simulate(Program((Collective("c", kind, tuple(axes) or net.axes, D, algorithm, **choices),)), net, IDEAL).makespan


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
@pytest.mark.parametrize("K", [3, 4, 5, 6, 7, 8, 16])
def test_a_ring_uses_both_directions(kind: Kind, K: int) -> None:
    assert seconds(kind, network((K,))) == near((K - 1) / K * D / (2 * W))
    assert seconds(kind, network((K,), latency=A)) == near((K - 1) / K * D / (2 * W) + K // 2 * A)
    assert seconds(kind, network((K,), latency=A), direction="one_way") == near((K - 1) * (D / K / W + A))


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
@pytest.mark.parametrize("K", [2, 3, 4, 5, 6, 7, 8, 16])
def test_a_line_takes_the_way_from_end_to_end(kind: Kind, K: int) -> None:
    for direction in ("both", "one_way"):
        assert seconds(kind, network((K,), wrap=False, latency=A), direction=direction) == near((K - 1) * (D / K / W + A))


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (5, 5), (3, 3, 3), (4, 4, 4)], ids=str)
def test_equal_axes_have_all_links_at_work(kind: Kind, shape: tuple[int, ...]) -> None:
    K, n = prod(shape), len(shape)
    assert seconds(kind, network(shape)) == near((K - 1) / K * D / (2 * n * W))
    assert seconds(kind, network(shape, wrap=False)) == near((K - 1) / K * D / (n * W))
    assert seconds(kind, network(shape), "sequential") == near((K - 1) / K * D / (2 * W))


@pytest.mark.parametrize("shape", [(2,), (3,), (4,), (3, 3), (4, 2)], ids=str)
@pytest.mark.parametrize("wrap", [True, False])
def test_an_all_reduce_is_a_reduce_scatter_and_an_all_gather_in_turn(shape: tuple[int, ...], wrap: bool) -> None:
    net = network(shape, wrap, latency=A)
    for algorithm in ("sequential", "one_ring"):
        both = seconds("reduce_scatter", net, algorithm) + seconds("all_gather", net, algorithm)
        assert seconds("all_reduce", net, algorithm) == near(both)


@pytest.mark.parametrize("K", [4, 6, 8, 16])
def test_an_all_to_all_on_an_even_ring(K: int) -> None:
    assert seconds("all_to_all", network((K,), latency=A)) == near(D * K / (8 * W) + K // 2 * A)


@pytest.mark.parametrize("shape", [(4, 4), (8, 8), (4, 4, 4), (6, 6, 6)], ids=str)
def test_an_all_to_all_on_equal_even_axes_takes_no_longer_than_on_one(shape: tuple[int, ...]) -> None:
    assert seconds("all_to_all", network(shape)) == near(D * shape[0] / (8 * W))


@pytest.mark.parametrize("K", [3, 5, 7])
def test_an_all_to_all_on_an_odd_ring_and_on_a_line(K: int) -> None:
    assert seconds("all_to_all", network((K,))) == near(D * (K - 1 / K) / (8 * W))
    assert seconds("all_to_all", network((K,), wrap=False)) == near((K // 2) * (K - K // 2) * D / K / W)
    assert seconds("all_to_all", network((K,)), direction="one_way") == near(D * (K - 1) / 2 / W)


@pytest.mark.parametrize(("shape", "steps"), [((4,), 3), ((5,), 4), ((4, 3), 11), ((3, 3, 3), 26)], ids=str)
def test_a_nested_gather_is_one_permute_for_each_shard(shape: tuple[int, ...], steps: int) -> None:
    net = network(shape, latency=A)
    assert seconds("all_gather", net, "nested") == near(steps * (D / prod(shape) / W + A))
    carried = simulate(Program((Collective("c", "all_gather", net.axes, D, "nested"),)), net, IDEAL).link_bytes[net.slot]
    assert not carried[:, 1].any() and carried[:, 0].sum(axis=0) == pytest.approx(steps * D / prod(shape))


@pytest.mark.parametrize("shape", [(4, 3), (4, 4), (3, 3), (2, 2), (2, 3, 3)], ids=str)
@pytest.mark.parametrize("wrap", [True, False])
def test_one_ring_through_several_axes_is_a_ring_of_as_many_chips(shape: tuple[int, ...], wrap: bool) -> None:
    order, closed = ring_order(shape, [wrap and n > 2 for n in shape])
    alone = network((len(order),), wrap=closed, latency=A)
    for kind in ("all_gather", "reduce_scatter", "all_reduce", "all_to_all"):
        assert seconds(kind, network(shape, wrap, latency=A), "one_ring") == near(seconds(kind, alone))


@pytest.mark.parametrize(("K", "shift", "hops", "share"), [
    (5, 1, 1, 1.0), (5, -2, 2, 1.0), (6, 3, 3, 0.5), (4, 2, 2, 0.5), (7, 8, 1, 1.0)])
def test_a_permute_goes_the_short_way_round(K: int, shift: int, hops: int, share: float) -> None:
    assert seconds("permute", network((K,), latency=A), shift={"x": shift}) == near(hops * (share * D / W + A))


# Weights that follow the axes

UNLIKE: list[tuple[tuple[int, ...], Any, Any]] = [
    ((8, 4), True, W), ((4, 8), True, W), ((4, 2), True, W), ((4, 4, 8), True, W), ((4, 4), True, [W, 2 * W]), ((4, 3), False, W),
    ((6, 2), False, W), ((2, 3, 4), False, W), ((4, 4), [True, False], W), ((2, 3, 4), True, [W, 2 * W, 4 * W])]


def test_shares_by_auto_are_never_slower_than_equal_ones() -> None:
    for (shape, wrap, bandwidth), kind in product(UNLIKE, SYMMETRIC[:4]):
        net = network(shape, wrap, bandwidth)
        assert seconds(kind, net, split="auto") <= seconds(kind, net) * (1 + 1e-9), (shape, wrap, kind)


def test_shares_by_auto_make_the_axes_finish_together() -> None:
    """The last message of each axis is sent at the same time; a reduce-scatter, being the reverse, begins together."""
    for (shape, wrap, bandwidth), kind in product(UNLIKE, ("all_gather", "all_reduce")):
        net = network(shape, wrap, bandwidth)
        program = Program((Collective("c", kind, net.axes, D, split="auto"),))
        timeline = simulate(program, net, IDEAL, record=range(len(net.chips)))
        ends = [max(sent.end for sent in timeline.sent if sent.axis == axis) for axis in net.axes]
        assert ends == [near(timeline.makespan)] * len(ends), (shape, kind)


@pytest.mark.parametrize(("shape", "bandwidth"), [((8, 4), W), ((4, 4), [W, 2 * W]), ((4, 2), W)], ids=str)
def test_no_other_shares_are_faster_than_those_by_auto(shape: tuple[int, ...], bandwidth: Any) -> None:
    net = network(shape, True, bandwidth)
    others = [seconds("all_gather", net, split=(i / 50, 1 - i / 50)) for i in range(51)]
    assert seconds("all_gather", net, split="auto") <= min(others) * (1 + 1e-9)


@pytest.mark.parametrize("shape", [(3, 3), (4, 4, 4)], ids=str)
@pytest.mark.parametrize("wrap", [True, False])
def test_shares_by_auto_are_equal_on_equal_axes(shape: tuple[int, ...], wrap: bool) -> None:
    net = network(shape, wrap)
    for kind in ("all_gather", "reduce_scatter", "all_reduce"):
        one = Collective("c", kind, net.axes, D, split="auto")
        found = weights(one, net, dict(zip(net.axes, net.shape, strict=True)), dict(zip(net.axes, net.ring, strict=True)))
        assert found == pytest.approx([1 / len(shape)] * len(shape))


# The order of one ring


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 7), st.booleans()), min_size=1, max_size=4)
       .filter(lambda axes: prod(n for n, _ in axes) <= 400))
def test_a_ring_order_visits_all_chips_from_neighbour_to_neighbour(axes: list[tuple[int, bool]]) -> None:
    """And closes when it says so, as it does for any even number of chips on several axes, and where all axes are rings."""
    lengths, wrap = [n for n, _ in axes], [wraps and n > 2 for n, wraps in axes]
    order, closed = ring_order(lengths, wrap)
    assert sorted(order) == sorted(product(*map(range, lengths)))

    def linked(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        apart = [(i, abs(p - q)) for i, (p, q) in enumerate(zip(a, b, strict=True)) if p != q]
        return len(apart) == 1 and (apart[0][1] == 1 or (wrap[apart[0][0]] and apart[0][1] == lengths[apart[0][0]] - 1))

    assert all(linked(a, b) for a, b in pairwise(order))
    if closed and len(order) > 2:
        assert linked(order[-1], order[0])
    live = [(n, w) for n, w in zip(lengths, wrap, strict=True) if n > 1]
    if len(live) > 1 and (prod(lengths) % 2 == 0 or all(w for _, w in live)):
        assert closed
    if len(live) > 1 and prod(lengths) % 2 and not any(w for _, w in live):
        assert not closed  # an odd grid is bipartite with sides of unequal size
