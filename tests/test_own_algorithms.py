"""A user's algorithm that passes the check runs, on every network, looped or not; what would not run is refused with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import prod
from random import Random
from typing import Any

import networkx as nx
import numpy as np
import pytest
import random_scenarios as plain
from test_fold import unlike

from torussim.chips import chip
from torussim.closed_forms import axes_seconds
from torussim.collectives import axes as over
from torussim.collectives import lines, rings
from torussim.collectives.contract import Chunk, Hop, Lane, Pattern, Phase
from torussim.collectives.lower import lower
from torussim.engine.simulate import simulate
from torussim.errors import ContractError, TorusSimError
from torussim.lower_bound import bound
from torussim.program import LOOPS, Collective, Compute, Kind, Loop, Matmul, Program
from torussim.scenario import load
from torussim.topology.builders import mesh, torus
from torussim.topology.grid import Grid, grid

IDEAL = chip("ideal")
W, A, D = 1e9, 1e-6, 8e6  # bytes/s of a link, seconds of latency, bytes of a collective
KINDS: tuple[Kind, ...] = ("all_gather", "reduce_scatter", "all_reduce", "all_to_all", "permute")


def swaps(length: int, distance: int, chunks: Callable[[int, int], list[int]], role: str, index: int, axis: str,
          block: float) -> Phase:
    """Return the phase in which each chip swaps with the one `distance` away: they stand side by side on the phase's lane."""
    order = [i for first in range(length) if not first & distance for i in (first, first + distance)]
    where = {chip_: place for place, chip_ in enumerate(order)}

    def of(place: int) -> list[Chunk]:
        me = order[place]
        return [((where[i],), half) for i in chunks(me, me ^ distance) for half in (0, 1)]

    sends = {sign: np.array([len(of(place)) * (place % 2 == (sign < 0)) for place in range(length)]) for sign in (+1, -1)}
    hops = tuple(Hop(sign, 1, None, sends[sign], of) for sign in (+1, -1))
    return Phase(index, 0, Lane((axis,), tuple((i,) for i in order)), Pattern(role, length, False, hops), block)


def doubling(collective: Collective, lengths: Mapping[str, int], ring: Mapping[str, bool]) -> list[Phase]:
    """Recursive doubling: with the chip 1, 2, 4 ... away swap all that is there; sums are halved 4, 2, 1 away before that."""
    ((axis, length),) = lengths.items()
    size, distances = collective.bytes / length, [2**s for s in range(length.bit_length() - 1)]
    phases = []
    if collective.kind in ("reduce_scatter", "all_reduce"):
        for distance in reversed(distances):
            phases.append(swaps(length, distance, lambda me, other, d=distance: range(other // d * d, other // d * d + d),
                                "scatter", len(phases), axis, size))
    if collective.kind in ("all_gather", "all_reduce"):
        for distance in distances:
            phases.append(swaps(length, distance, lambda me, other, d=distance: range(me // d * d, me // d * d + d),
                                "gather", len(phases), axis, size))
    return phases


def program(kind: Kind, algorithm: Any, axes: Sequence[str] = ("x",), layers: int = 1, **choices: Any) -> Program:
    return Program((Collective("c", kind, tuple(axes), D, algorithm, **choices),), layers)


@pytest.mark.parametrize("kind, times", [("all_gather", 1), ("reduce_scatter", 1), ("all_reduce", 2)])
def test_recursive_doubling_runs_over_the_routes_of_its_hops(kind: Kind, times: int) -> None:
    """On a ring of 8 messages of 1, 2 and 4 MB meet 1, 2, and 4 half ones on the busiest links: 1, 4 and 8 ms, and 7 hops."""
    for graph in (torus([8], bandwidth=W, latency=A), torus([8, 3], bandwidth=W, latency=A)):
        folded, whole = (simulate(program(kind, doubling, layers=3), graph, IDEAL, fold=fold) for fold in (True, False))
        assert folded.makespan == pytest.approx(3 * times * (13e-3 + 7 * A), rel=1e-9)
        assert folded.chips_simulated == 8 and not unlike(folded, whole)
    line = simulate(program(kind, doubling), mesh([8], bandwidth=W, latency=A), IDEAL)
    assert line.makespan == pytest.approx(times * (21e-3 + 7 * A), rel=1e-9), "4 MB of four chips meet in the middle"
    assert simulate(program(kind, doubling), torus([2], bandwidth=W), IDEAL).makespan == pytest.approx(times * D / 2 / W)


def test_recursive_doubling_of_a_file_is_read_and_run(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text("import test_own_algorithms as own\n"
                                      "def doubling(*given):\n    return own.doubling(*given)\n")
    scenario = {"chip": "ideal", "topology": {"shape": [8], "bandwidth": W, "latency": A}, "program": [
        {"name": "c", "collective": "all_gather", "axes": "x", "bytes": D, "algorithm": "own:doubling"}]}
    monkeypatch.chdir(tmp_path)
    read = load(scenario)
    assert read.program is not None
    assert simulate(read.program, read.net, read.chip).makespan == pytest.approx(13e-3 + 7 * A, rel=1e-9)


# Whatever passes runs


def networks(rng: Random) -> Grid:
    """Return a torus or mesh of at most 12 chips: twisted, cut into parts, with dead links, all links alike or none."""
    shape = rng.choice([(2,), (3,), (4,), (5,), (6,), (2, 2), (2, 3), (3, 2), (3, 3), (4, 2), (2, 4), (2, 2, 2), (3, 2, 2)])
    twist = {"x": {"y": rng.randint(1, shape[1] - 1)}} if len(shape) > 1 and rng.random() < 0.2 else {}
    graph = torus(shape, wrap=[bool(rng.random() < 0.6 or (twist and a == 0)) for a in range(len(shape))], bandwidth=4e9,
                  latency=A, twist=twist)
    if rng.random() < 0.5:
        for link in graph.edges.values():
            link["bandwidth"], link["latency"] = rng.uniform(1e9, 9e9), rng.choice((0.0, rng.uniform(0, 3e-6)))
    if rng.random() < 0.4:
        fewer = graph.copy()
        u, v = rng.choice(list(graph.edges))
        fewer.remove_edges_from([(u, v), (v, u)])
        graph = fewer if nx.is_strongly_connected(fewer) else graph
    cut = shape[0] in (4, 6) and not twist and rng.random() < 0.3
    return grid(graph, parts={"x": rng.choice([(2, shape[0] // 2), (shape[0] // 2, 2)])} if cut else {})


def lanes_of(rng: Random, lengths: Mapping[str, int]) -> list[Lane]:
    """Return lanes that take all axes, one or several at a time; their chips in some order, or in that of the axis."""
    left, found = rng.sample(list(lengths), len(lengths)), []
    while left:
        axes = tuple(left.pop() for _ in range(rng.randint(1, len(left))))
        order = list(product(*(range(lengths[a]) for a in axes)))
        if rng.random() < 0.6:
            rng.shuffle(order)
        elif rng.random() < 0.5:
            order = list(over.ring_order([lengths[a] for a in axes], [True] * len(axes))[0])
        found.append(Lane(axes, None if len(axes) == 1 and rng.random() < 0.5 else tuple(order)))
    return found


def random_phases(rng: Random, kind: Kind, lengths: Mapping[str, int], size: float,
                  shift: Mapping[str, int]) -> tuple[Phase, ...]:
    """Return a sound schedule on lanes of any order; ring or line, whatever is linked."""
    whole, phases = prod(lengths.values()), []
    ring = {a: n > 2 and rng.random() < 0.5 for a, n in lengths.items()}
    if kind == "permute":
        return over.permute(lengths, ring, size, shift)
    if kind == "all_gather" and rng.random() < 0.3:
        return over.nested(lengths, ring, size)
    lanes = lanes_of(rng, lengths)

    def pattern(role: str, length: int) -> Pattern:
        ring = length > 2 and rng.random() < 0.6
        return over.pattern(role, length, ring, rng.choice(("both", *LOOPS)) if ring else "both")

    sizes, done = [], 1
    for lane in lanes:
        sizes.append(size * done / whole)
        done *= prod(lengths[a] for a in lane.axes)
    places = [prod(lengths[a] for a in lane.axes) for lane in lanes]
    if kind in ("reduce_scatter", "all_reduce"):
        for lane, block, length in reversed(list(zip(lanes, sizes, places, strict=True))):
            phases.append(Phase(len(phases), 0, lane, pattern("scatter", length), block))
    if kind in ("all_gather", "all_reduce"):
        for lane, block, length in zip(lanes, sizes, places, strict=True):
            phases.append(Phase(len(phases), 0, lane, pattern("gather", length), block))
    if kind == "all_to_all":
        phases = [Phase(i, 0, lane, pattern("exchange", length), size / length)
                  for i, (lane, length) in enumerate(zip(lanes, places, strict=True))]
    return tuple(phases)


def spoilt(rng: Random, phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
    """Return phases with one thing changed, which may or may not matter."""
    i = rng.randrange(len(phases))
    phase, others = phases[i], list(phases)
    hops = list(phase.pattern.hops)
    j = rng.randrange(len(hops))
    hop, length = hops[j], phase.pattern.length
    new: Any = rng.choice([
        lambda: replace(hop, after=rng.choice((None, hop.step - 1, hop.step, hop.step - 2, 99))),
        lambda: replace(hop, sign=rng.choice((-hop.sign, 2, 0))), lambda: replace(hop, step=rng.randint(-1, hop.step + 2)),
        lambda: replace(hop, halves=rng.choice((hop.halves[:-1], hop.halves.tolist(), hop.halves * 0, hop.halves + 1,
                                                -hop.halves))),
        lambda: replace(hop, halves=np.where(np.arange(length) == rng.randrange(length), 0, hop.halves)),
        lambda: replace(hop, chunks=lambda i: hop.chunks((i + 1) % length)), lambda: replace(hop, chunks=lambda i: []),
        lambda: None])()
    hops[j:j + 1] = [new] if new is not None else []
    rng.shuffle(hops) if rng.random() < 0.2 else None
    whole = replace(phase, pattern=replace(phase.pattern, hops=tuple(hops)))
    others[i] = rng.choice([
        lambda: whole, lambda: whole, lambda: whole,
        lambda: replace(phase, block=rng.choice((0.0, -1.0, np.nan, phase.block * 2))),
        lambda: replace(phase, index=rng.choice((0, 7, 1.5))), lambda: replace(phase, part=rng.choice((1, "a"))),
        lambda: replace(phase, pattern=replace(phase.pattern, ring=not phase.pattern.ring)),
        lambda: replace(phase, pattern=replace(phase.pattern, length=length + 1)),
        lambda: replace(phase, pattern=replace(phase.pattern, role=rng.choice(("gather", "scatter", "exchange", "x")))),
        lambda: replace(phase, lane=replace(phase.lane, axes=rng.choice((("q",), (), ("x", "x"), list(phase.lane.axes))))),
        lambda: replace(phase, lane=replace(phase.lane, order=((0,), (0,)))), lambda: (phase, 3)])()
    if rng.random() < 0.1:
        others.append(phase)
    if rng.random() < 0.3:
        rng.shuffle(others)
    return tuple(others)


def own_program(rng: Random, net: Grid, *, sound: bool) -> Program:
    """Return a program with one collective by an algorithm of its own, looped with a matmul now and then, between others."""
    kind = rng.choice(KINDS)
    axes = tuple(a for a in net.axes if net.length(a) > 1)
    axes = tuple(rng.sample(axes, rng.randint(1, len(axes))))
    lengths = {a: net.length(a) for a in axes}
    shift = {a: rng.randint(1, n - 1) for a, n in lengths.items()} if kind == "permute" else {}
    phases = random_phases(rng, kind, lengths, D, shift)
    made = phases if sound else spoilt(rng, phases)
    own = Collective("own", kind, axes, D, lambda collective, lengths, ring: made, shift=shift,
                     detour=rng.choice((None, True, False)))
    matmul = Compute("matmul", (Matmul(512, 512, 512),))
    if rng.random() < 0.5 and kind in ("all_gather", "reduce_scatter"):
        matmul = replace(matmul, loop=Loop("own", rng.choice(LOOPS), (prod(lengths.values()), 1, 1)))
    block = (matmul, own) if kind == "reduce_scatter" else (own, matmul)
    ours = Collective("ours", rng.choice(KINDS[:3]), axes, D / 3)
    return Program((ours, *block) if rng.random() < 0.5 else block, rng.choice((1, 3)))


def own_of(program: Program) -> Collective:
    return next(o for o in program.operations() if isinstance(o, Collective) and o.name == "own")


def shared(net: Grid) -> Grid:
    """Return the network with a change in mid-run, after all is over, for which every lane with that link runs flow by flow."""
    graph = net.graph.copy()
    graph.graph["events"] = ((1e6, dict.fromkeys(graph.edges, 1000000000.0)),)
    parts = {name: tuple(n for a, n in reversed(list(zip(net.axes, net.shape, strict=True))) if a.partition("/")[0] == name)
             for name in net.links.axes}
    return grid(graph, parts=parts)


@pytest.mark.parametrize("seed", range(150))
def test_a_sound_schedule_on_lanes_of_any_order_runs_the_same_folded_and_flow_by_flow(seed: int) -> None:
    rng = Random(seed)
    net = networks(rng)
    case = own_program(rng, net, sound=True)
    lower(own_of(case), net)
    said = simulate(case, net, plain.REAL)
    assert not unlike(said, simulate(case, net, plain.REAL, fold=False))
    assert not unlike(said, simulate(case, shared(net), plain.REAL, repeat=False))
    assert bound(case, net, plain.REAL) <= said.makespan * (1 + 1e-12)
    assert 0 < axes_seconds(case, net, plain.REAL) < np.inf


def spoilt_cases(seeds: Sequence[int]) -> Iterator[tuple[int, Program, Grid, str]]:
    for seed in seeds:
        rng = Random(seed)
        net = networks(rng)
        case = own_program(rng, net, sound=False)
        try:
            lower(own_of(case), net)
        except ContractError as error:
            yield seed, case, net, str(error)
        else:
            yield seed, case, net, ""


def test_what_passes_the_check_runs_and_what_does_not_is_refused_with_a_reason() -> None:
    passed = 0
    for seed, case, net, refused in spoilt_cases(range(1000, 1500)):
        if refused:
            assert len(refused) > 20
            with pytest.raises(TorusSimError):
                simulate(case, net, IDEAL)
            continue
        passed += 1
        try:
            said = simulate(case, net, plain.REAL)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error!r}") from error
        assert not unlike(said, simulate(case, shared(net), plain.REAL, repeat=False)), f"seed {seed}"
    assert 60 < passed < 300


@pytest.mark.parametrize("change, told", [
    (lambda p: (3,), r"phase number 0: 3 is no Phase"),
    (lambda p: (replace(p, block=float("nan")),), "block is nan, which is no number of bytes"),
    (lambda p: (p, p), "there is another phase with index 0 in part 0"),
    (lambda p: (replace(p, pattern=replace(p.pattern, role="scatter")),), "its role is 'scatter': .* one of gather, permute"),
    (lambda p: (replace(p, lane=Lane(("y",))),), r"its lane is along \('y',\): the axes of the group are \('x',\)"),
    (lambda p: (replace(p, lane=Lane(("x",), ((0,), (1,), (2,), (2,)))),), "has not each of the 4 coordinates along x once"),
    (lambda p: (replace(p, pattern=rings.gather(5)),), "its pattern has 5 positions, its lane 4"),
    (lambda p: (with_hop(p, sign=2),), r"2 is no sign of a hop: \+1 or -1; the order of a lane says who is beside whom"),
    (lambda p: (with_hop(p, after=7),), r"the hop in step 1 with sign \+1 is after step 7, but no earlier hop with that sign"),
    (lambda p: (with_hop(p, step=2),), r"two hops have step 2 and sign \+1"),
    (lambda p: (with_hop(p, halves=[2, 2, 2, 2]),), "halves of the hop in step 1 are no array of 4 whole numbers"),
    (lambda p: (with_hop(p, chunks=lambda i: []),), r"chip \(0,\) sends in phase 0, step 1 0 halves of blocks, not 2 as it says"),
    (lambda p: (with_hop(p, chunks=lambda i: [((9,), 0), ((9,), 1)]),), "what it does not have"),
    (lambda p: (with_hop(p, chunks=lambda i: 1 / 0),), r"test_own_algorithms.py:\d+: .* raised ZeroDivisionError"),
])
def test_what_the_engine_could_not_run_is_refused(change: Callable[[Phase], Any], told: str) -> None:
    phase = Phase(0, 0, Lane(("x",)), rings.gather(4), D / 4)
    with pytest.raises(ContractError, match=told):
        lower(program("all_gather", lambda *_: change(phase)).block[0], grid(torus([4], bandwidth=W)))  # type: ignore[arg-type]


def with_hop(phase: Phase, **what: Any) -> Phase:
    first, *others = phase.pattern.hops
    return replace(phase, pattern=replace(phase.pattern, hops=(replace(first, **what), *others)))


def test_a_message_that_has_not_come_yet_cannot_be_passed_on() -> None:
    """Position 1 gets the shard of 0 in step 1 and nothing in step 2; what it sends after step 2 would not wait for that."""
    hops = list(lines.gather(3).hops)
    late = replace(hops[0], halves=np.array([2, 0, 0]))
    none = Hop(+1, 2, None, np.array([0, 0, 0]), hops[0].chunks)
    own = Hop(+1, 3, None, np.array([0, 2, 0]), hops[0].chunks)
    far = Hop(+1, 4, 2, np.array([0, 2, 0]), hops[2].chunks)
    pattern = Pattern("gather", 3, False, (late, none, own, far, *[h for h in hops if h.sign < 0]))
    phase = Phase(0, 0, Lane(("x",)), pattern, D / 3)
    net = grid(mesh([3], bandwidth=W))
    with pytest.raises(ContractError, match=r"chip \(1,\) sends in phase 0, step 4 what it does not have"):
        lower(Collective("c", "all_gather", ("x",), D, lambda *_: (phase,)), net)
    right = replace(phase, pattern=replace(pattern, hops=(late, none, own, replace(far, after=1), *pattern.hops[4:])))
    done = Collective("c", "all_gather", ("x",), D, lambda *_: (right,))
    assert simulate(Program((done,)), net, IDEAL).makespan == pytest.approx(D / W * 2 / 3)
