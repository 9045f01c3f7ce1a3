"""Faults by Monte Carlo: what is drawn, that a draw is the scenario with more changes of links, and what is said of many."""

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from math import comb, isnan
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from link_pictures import check_texts

import torussim
from torussim.cli import cli
from torussim.engine.simulate import simulate
from torussim.errors import FaultError, TopologyError
from torussim.fault_draws import Trial, draw_faults
from torussim.fault_sets import COMPARED, Kind, cables_of, draw, free_axes, kinds_of
from torussim.plot import faults_figure
from torussim.plot.faults import picture
from torussim.scenario import load
from torussim.topology.builders import torus
from torussim.topology.faults import scaled
from torussim.topology.grid import grid
from torussim.topology.links import change_links

PALM = Path(__file__).resolve().parent.parent / "scenarios" / "palm-540b-decode-64-chips.yaml"
GATHER = {"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "90 MB"}
RING = {"chip": "ideal", "topology": {"shape": [6], "bandwidth": "45 GB/s"}, "program": [GATHER]}
MESH = {"chip": "tpu-v4", "topology": {"kind": "mesh", "shape": [4, 3]}, "program": [GATHER | {"axes": "xy"}]}
TORUS = {"chip": "tpu-v4", "topology": {"shape": [4, 4], "wrap": True},
         "program": [GATHER | {"axes": "xy"}, {"name": "sum", "collective": "all_reduce", "axes": "y", "bytes": "8 MB"},
                     {"name": "exchange", "collective": "all_to_all", "axes": "xy", "bytes": "8 MB"}]}
MODEL = {"name": "A small model", "model": {"base": "palm-8b", "layers": 4}, "chip": "tpu-v4",
         "topology": {"shape": [4, 4], "wrap": True}, "layout": {"ffn": "ws2d", "attention": "batch"},
         "workload": {"phase": "decode", "batch": 16, "context": 256, "tokens": 3}}


def with_links(scenario, links):
    """Return a scenario with more changes of links."""
    topology = scenario["topology"]
    return scenario | {"topology": topology | {"links": [*topology.get("links", []), *links]}}


def time_of(scenario):
    return torussim.run(scenario).keys["makespan_s" if "program" in scenario else "step_s"]


# -- what is drawn ------------------------------------------------------------------------------------------------------

MANY = st.one_of(st.integers(0, 3), st.floats(0, 0.33))


@given(st.lists(st.tuples(MANY, st.sampled_from([0.0, 0.25, 0.5, 1.0])), min_size=1, max_size=3), st.integers(9, 40),
       st.integers(0, 99))
def test_a_cable_has_one_fault_at_most_and_counts_are_exact(asked, count, number):
    kinds = [Kind(many, scale) for many, scale in asked]
    drawn = draw(kinds, count, 7, number)
    cables = [cable for cable, _ in drawn]
    assert cables == sorted(set(cables)) and all(0 <= cable < count for cable in cables)
    assert drawn == draw(kinds, count, 7, number), "the same seed and number, the same faults"
    found = Counter(scale for _, scale in drawn)
    for scale in {kind.scale for kind in kinds}:
        least = sum(kind.many for kind in kinds if kind.scale == scale and isinstance(kind.many, int))
        exact = all(isinstance(kind.many, int) for kind in kinds if kind.scale == scale)
        assert found[scale] == least if exact else found[scale] >= least


def test_probabilities_are_met_and_no_cable_is_favoured():
    kinds, draws, count = [Kind(0.02, 0.0), Kind(0.1, 0.5)], 4000, 50
    found = Counter(fault for number in range(draws) for fault in draw(kinds, count, 1, number))
    for kind in kinds:
        spread = np.sqrt(draws * kind.many * (1 - kind.many))
        each = np.array([found[cable, kind.scale] for cable in range(count)])
        assert abs(each.sum() - draws * count * kind.many) < 4 * spread * np.sqrt(count)
        assert np.abs(each - draws * kind.many).max() < 4.5 * spread


def test_a_count_draws_every_set_equally_often():
    draws, sets = 3000, comb(5, 2)
    found = Counter(draw([Kind(2)], 5, 3, number) for number in range(draws))
    assert len(found) == sets
    assert sum((seen - draws / sets) ** 2 / (draws / sets) for seen in found.values()) < 27.9, "chi-squared, 9 degrees, 0.001"


def test_raising_a_probability_adds_faults_and_takes_none_away():
    for number in range(50):
        assert set(draw([Kind(0.05)], 60, 2, number)) <= set(draw([Kind(0.2)], 60, 2, number))


# -- a draw is the scenario with more changes of links ----------------------------------------------------------------


BROKEN = with_links(TORUS, [{"from": [0, 0], "to": [0, 1], "failed": True}])


@pytest.mark.parametrize("scenario", [RING, MESH, TORUS, MODEL, BROKEN], ids=["ring", "mesh", "torus", "model", "broken"])
@pytest.mark.parametrize("kinds", [{"slow": [(3, 0.4)]}, {"dead": 1}, {"dead": 1, "slow": [(0.1, 0.5), (1, 0.2)]}], ids=str)
def test_a_draw_pasted_into_the_scenario_takes_as_long(scenario, kinds):
    found = draw_faults(scenario, draws=2, seed=5, jobs=1, **kinds)
    for number in range(2):
        if isnan(found.times[number]):
            with pytest.raises(torussim.errors.ScenarioError) as caught:
                load(with_links(scenario, found.links(number)))
            assert {m.code for m in caught.value.mistakes} == {"cut-network"}
        else:
            assert found.times[number] == pytest.approx(time_of(with_links(scenario, found.links(number))), rel=1e-3)


@pytest.mark.parametrize("scenario", [RING, MESH, TORUS], ids=["ring", "mesh", "torus"])
def test_a_bare_program_takes_exactly_as_long_as_with_its_faults_pasted(scenario):
    found = draw_faults(scenario, draws=4, seed=2, slow=[(2, 0.4)], dead=1, jobs=1)
    for number in np.flatnonzero(~np.isnan(found.times)).tolist():
        assert found.times[number] == pytest.approx(time_of(with_links(scenario, found.links(number))), rel=1e-9)


def test_scaled_links_are_those_of_a_graph_that_was_changed():
    graph = torus([4, 2, 3], bandwidth=3e9, latency=1e-6)
    net = grid(graph, parts={"x": [2, 2]})
    cables = cables_of(net, [])
    faults = ((1, 0.5), (7, 0.0), (11, 0.25))
    ours = scaled(net, cables.scale(faults))
    theirs = grid(change_links(graph, cables.changes(faults)), parts={"x": [2, 2]})
    for name in ("source", "target", "axis", "sign", "wraparound", "bandwidth", "latency"):
        assert (getattr(ours.links, name) == getattr(theirs.links, name)).all(), name
    assert (ours.axes, ours.shape, ours.ring, ours.links.failed) == (theirs.axes, theirs.shape, theirs.ring, theirs.links.failed)
    assert (ours.slot == theirs.slot).all() and (ours.receiver == theirs.receiver).all()


def test_what_is_drawn_is_neither_dead_nor_changing_and_both_directions_are_one():
    topology = {"shape": [4, 4], "wrap": True, "links": [{"from": [0, 0], "to": [0, 1], "failed": True},
                                                         {"from": [2, 2], "to": [2, 3], "scale": 0.5}],
                "events": [{"time": "1 us", "from": [1, 1], "to": [1, 2], "scale": 0.5}]}
    cables = cables_of(load(TORUS | {"topology": topology}).net, [])
    ends = {frozenset(cables.net.links.edge(int(link))) for link in cables.link}
    assert len(cables) == len(ends) == 32 - 2
    assert not ends & {frozenset({(0, 0), (0, 1)}), frozenset({(1, 1), (1, 2)})}
    assert frozenset({(2, 2), (2, 3)}) in ends, "a slow link can get slower, or die"
    assert Counter(cables.of.tolist()) == {-1: 2} | dict.fromkeys(range(30), 2)


def test_switches_are_named_in_what_is_pasted(tmp_path):
    (tmp_path / "stars.py").write_text(
        "import networkx as nx\n"
        "def star(chips):\n"
        "    graph = nx.DiGraph(axes={'x': chips})\n"
        "    graph.add_nodes_from(['a', 'b'], chip=False)\n"
        "    for chip in range(chips):\n"
        "        for ends in (((chip,), 'a'), ((chip,), 'b')):\n"
        "            graph.add_edge(*ends, bandwidth=1e9, latency=1e-6)\n"
        "            graph.add_edge(*ends[::-1], bandwidth=1e9, latency=1e-6)\n"
        "    return graph\n")
    file = tmp_path / "star.yaml"
    file.write_text(json.dumps({"chip": "ideal", "topology": {"kind": "stars:star", "chips": 4}, "program": [GATHER]}))
    found = draw_faults(file, draws=4, dead=1, slow=[(1, 0.5)], jobs=1)
    ends = [link[end] for number in range(4) for link in found.links(number) for end in ("from", "to")]
    assert {end for end in ends if isinstance(end, str)} == {"a", "b"}
    for number in range(4):
        pasted = tmp_path / f"{number}.yaml"
        topology = {"kind": "stars:star", "chips": 4, "links": found.links(number)}
        pasted.write_text(json.dumps({"chip": "ideal", "topology": topology, "program": [GATHER]}))
        assert time_of_file(pasted) == pytest.approx(found.times[number], rel=1e-9)
    faults_figure(found)


def time_of_file(path):
    return torussim.run(path).makespan_s


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_the_first_layers_stand_for_all_to_a_ten_thousandth(number):
    scenario = load(PALM, ["workload.tokens=1"])
    trial = Trial.of(scenario)
    faults = draw([Kind(1 + number % 2), Kind(number // 2, 0.5)], len(trial.cables), 1, number)
    whole = simulate(trial.passes[0][0], scaled(scenario.net, trial.cables.scale(faults)), scenario.chip)
    assert trial(faults) == pytest.approx(whole.makespan, rel=1e-4)


# -- translations -------------------------------------------------------------------------------------------------------

ALGORITHMS = {"all_gather": ["multi_axis", "sequential", "nested"], "reduce_scatter": ["multi_axis", "sequential"],
              "all_reduce": ["multi_axis", "sequential"], "all_to_all": ["dimension_wise", "sequential", "direct", "shifts"]}


@settings(max_examples=12)
@given(st.sampled_from([(4, 3), (5, 4), (3, 3, 2), (4, 1, 3)]), st.data())
def test_faults_moved_along_a_free_axis_take_as_long(shape, data):
    kind = data.draw(st.sampled_from(sorted(ALGORITHMS)))
    axes = list("xyz"[:len(shape)])
    operation = GATHER | {"collective": kind, "algorithm": data.draw(st.sampled_from(ALGORITHMS[kind])),
                          "axes": data.draw(st.sampled_from([axes, axes[:2], axes[:1]]))}
    scenario = load({"chip": "tpu-v4", "topology": {"shape": list(shape), "wrap": True}, "program": [operation]})
    trial = Trial.of(scenario)
    assert trial.cables.free == tuple(axis for axis, length in enumerate(shape) if length > 2)
    faults = draw([Kind(1), Kind(2, 0.5)], len(trial.cables), data.draw(st.integers(0, 999)), 0)
    moved = trial.cables.alike(faults)
    assert sorted(scale for _, scale in moved) == sorted(scale for _, scale in faults)
    assert trial(moved) == pytest.approx(trial(faults), rel=1e-9, nan_ok=True)


@given(st.integers(0, 999), st.integers(1, COMPARED), st.tuples(st.integers(0, 3), st.integers(0, 4)))
def test_sets_that_a_translation_makes_the_same_have_one_leader(seed, many, by):
    cables = cables_of(grid(torus([4, 5], bandwidth=1e9)), [])
    faults = draw([Kind(many, 0.5)], len(cables), seed, 0)
    place = {cables.places[cable]: cable for cable in range(len(cables))}
    moved = []
    for cable, scale in faults:
        axis, sign, x, y = cables.places[cable]
        moved.append((place[axis, sign, (x + by[0]) % 4, (y + by[1]) % 5], scale))
    assert cables.alike(tuple(sorted(moved))) == cables.alike(faults)


def test_no_translation_is_taken_where_something_stands_in_a_place():
    def free(scenario):
        loaded = load(scenario)
        return free_axes(loaded.net, [loaded.program])
    ring = GATHER | {"axes": "xy", "algorithm": "one_ring"}
    twisted = {"shape": [4, 8], "wrap": True, "twist": {"x": {"y": 4}}}
    assert free(TORUS) == (0, 1)
    assert free(with_links(TORUS, [{"from": [0, 0], "to": [0, 1], "scale": 0.5}])) == ()
    assert free(with_links(TORUS, [{"axis": "y", "wraparound": True, "failed": True}])) == (0,)
    assert free(with_links(TORUS, [{"axis": "x", "at": {"y": 2}, "latency": "9 us"}])) == (0,)
    assert free(TORUS | {"program": [ring]}) == ()
    assert free(TORUS | {"topology": twisted}) == ()
    assert free(TORUS | {"topology": {"shape": [4, 2], "wrap": True}}) == (0,)
    assert free(MESH) == ()


# -- the distribution ---------------------------------------------------------------------------------------------------


@cache
def one_dead(scenario_name):
    """Return the times of all sets of one dead cable, each run on the graph that has lost it, nan where that is cut."""
    scenario = load({"mesh": MESH, "torus": TORUS}[scenario_name])
    found = []
    for u, v in {tuple(sorted(edge)) for edge in scenario.topology.edges}:
        graph = scenario.topology.copy()
        graph.remove_edges_from([(u, v), (v, u)])
        try:
            found.append(simulate(scenario.program, graph, scenario.chip).makespan)
        except TopologyError:
            found.append(float("nan"))
    return sorted(found)


@pytest.mark.parametrize("name", ["mesh", "torus"])
def test_one_dead_cable_a_draw_gives_the_times_of_all_cables_and_no_others(name):
    found = draw_faults({"mesh": MESH, "torus": TORUS}[name], draws=400, dead=1, jobs=1)
    assert len(set(found.drawn)) == len(found.cables) == len(one_dead(name)), "every cable is drawn"
    by_cable = {faults[0][0]: seconds for faults, seconds in zip(found.drawn, found.times.tolist())}
    assert sorted(by_cable.values()) == pytest.approx(one_dead(name), rel=1e-9)
    every = [one["kinds"][0]["step_s"] for one in found.ranking for _ in range(one["alike"])]
    assert sorted(every) == pytest.approx(one_dead(name), rel=1e-9), "and the ranking has them too"


def test_no_faults_take_the_time_of_a_run():
    for scenario in (RING, MESH, TORUS, MODEL):
        for nothing in ({"dead": 0}, {"dead": 0.0, "slow": [(0, 0.5)]}, {"slow": [(3, 1.0)]}):
            found = draw_faults(scenario, draws=3, jobs=1, **nothing)
            assert found.times == pytest.approx([found.base_s] * 3, rel=1e-12)
            assert found.base_s == pytest.approx(time_of(scenario), rel=1e-3 if scenario is MODEL else 1e-12)
            assert all(abs(one["loss"]) < 1e-12 for one in found.ranking)


def test_the_order_in_which_runs_end_and_who_runs_them_change_nothing():
    one, two = (draw_faults(TORUS, draws=20, dead=0.01, slow=[(0.05, 0.5)], seed=9, jobs=jobs) for jobs in (1, 2))
    assert {**one.keys, "wall_s": 0} == {**two.keys, "wall_s": 0}
    assert one.drawn != draw_faults(TORUS, draws=20, dead=0.01, slow=[(0.05, 0.5)], seed=8, jobs=1).drawn


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_draws():
    from distributed import LocalCluster

    asked = {"draws": 40, "dead": 0.01, "slow": [(0.05, 0.5)], "seed": 9}
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        found = draw_faults(TORUS, dask=cluster.scheduler_address, **asked)
    assert {**found.keys, "wall_s": 0} == {**draw_faults(TORUS, jobs=1, **asked).keys, "wall_s": 0}


def test_more_draws_begin_with_those_of_fewer():
    few, more = (draw_faults(RING, draws=draws, slow=[(0.2, 0.5)], seed=4, jobs=1) for draws in (5, 20))
    assert few.drawn == more.drawn[:5]


def test_percentiles_are_times_that_were_drawn_and_those_of_numpy():
    found = draw_faults(MESH, draws=80, dead=0.08, slow=[(0.1, 0.5)], seed=1, jobs=1)
    times = found.times[~np.isnan(found.times)]
    assert 0 < found.cut == 80 - len(times)
    for share in (0.01, 0.5, 0.9, 0.95, 0.99, 1.0):
        assert found.quantile(share) == np.quantile(times, share, method="inverted_cdf")
        low, high = found.interval(share)
        assert low <= found.quantile(share) <= (high or np.inf)
    assert found.quantile(1.0) == found.times[found.worst] == times.max()
    assert found.keys["cut"]["share"] == pytest.approx(found.cut / 80)
    assert found.keys["mean_s"] == pytest.approx(times.mean())


def test_intervals_hold_the_true_percentile_as_often_as_they_say():
    rng, held = np.random.default_rng(0), Counter()
    like = draw_faults(RING, draws=1, dead=0, jobs=1)
    for _ in range(300):
        many = replace(like, times=rng.random(200))
        for share in (0.5, 0.95):
            low, high = many.interval(share)
            held[share] += low <= share and (high is None or share <= high)
    assert all(count > 0.92 * 300 for count in held.values())


def test_a_network_that_is_always_cut_has_no_time():
    line = {"chip": "ideal", "topology": {"kind": "mesh", "shape": [4]}, "program": [GATHER]}
    found = draw_faults(line, draws=5, dead=1, jobs=1)
    assert (found.cut, found.quantile(0.5), found.interval(0.5), found.worst) == (5, None, None, None)
    assert [one["loss"] for one in found.ranking] == [None] * 3
    assert "5 draws (100 %) cut the network" in str(found) and json.loads(found.json())["median"]["time_s"] is None
    faults_figure(found)


def test_a_chip_alone_has_no_link_that_can_be_faulty():
    found = draw_faults({"chip": "ideal", "topology": {"shape": [1]}, "program": [{"name": "m", "flops": 1e9}]}, draws=3,
                        dead=0.5, jobs=1)
    assert not found.ranking and found.without_fault == 3 and found.times.tolist() == [found.base_s] * 3
    faults_figure(found)


def test_links_that_change_in_mid_run_are_followed_and_passes_begin_one_after_another():
    topology = MODEL["topology"] | {"events": [{"time": "1 ms", "axis": "x", "at": {"x": 0, "y": 0}, "scale": 0.25}]}
    scenario = MODEL | {"topology": topology}
    found = draw_faults(scenario, draws=2, slow=[(2, 0.5)], jobs=1)
    assert found.base_s == pytest.approx(time_of(scenario), rel=1e-12)
    for number in range(2):
        assert found.times[number] == pytest.approx(time_of(with_links(scenario, found.links(number))), rel=1e-12)


@pytest.mark.parametrize("workload", [{"phase": "prefill", "batch": 16, "context": 96, "chunk": 36},
                                      {"phase": "generate", "batch": 16, "context": 96, "tokens": 5}], ids=str)
def test_the_time_is_the_step_of_a_run_whatever_the_phase(workload):
    scenario = MODEL | {"workload": workload}
    off = 1e-2 if "chunk" in workload else 1e-3  # attention over few tokens takes its time in tiles
    assert draw_faults(scenario, draws=1, dead=0, jobs=1).base_s == pytest.approx(time_of(scenario), rel=off)


# -- the ranking --------------------------------------------------------------------------------------------------------


def test_a_link_that_is_not_used_costs_nothing_and_stands_last():
    scenario = TORUS | {"program": [GATHER]}
    found = draw_faults(scenario, draws=10, slow=[(0.1, 0.5)], jobs=1)
    assert [(one["axis"], one["alike"]) for one in found.ranking] == [("x", 16), ("y", 16)]
    assert found.ranking[0]["loss"] > 0.1 and abs(found.ranking[1]["loss"]) < 1e-12


def test_losses_of_kinds_are_weighed_by_how_often_they_are_drawn():
    found = draw_faults(TORUS, draws=5, dead=0.01, slow=[(0.03, 0.5)], jobs=1)
    for one in found.ranking:
        dead, slow = one["kinds"]
        assert (dead["scale"], slow["scale"]) == (0.0, 0.5)
        assert one["loss"] == pytest.approx(0.25 * dead["loss"] + 0.75 * slow["loss"])


def test_the_mean_of_draws_with_one_fault_is_the_loss_of_that_fault():
    found = draw_faults(MESH, draws=300, slow=[(1, 0.5)], jobs=1)
    for one in found.ranking:
        assert one["in_draws"]["loss"] == pytest.approx(one["loss"], rel=1e-9) and one["in_draws"]["error"] < 1e-9
    assert sum(one["in_draws"]["draws"] for one in found.ranking) == 300


def test_no_more_single_faults_are_run_than_draws_and_the_rest_is_not_ranked():
    found = draw_faults(MESH, draws=4, slow=[(3, 0.5)], jobs=1)
    assert len(found.ranking) == 4 and found.keys["not_ranked"] == len(found.cables) - 4
    drawn = {cable for faults in found.drawn for cable, _ in faults}
    assert {one["cable"] for one in found.ranking} <= drawn
    links = picture(found)
    assert np.isnan(links.busy).sum() == 2 * (len(found.cables) - 4)
    faults_figure(found)


# -- the picture --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [(TORUS, {"draws": 30, "dead": 0.01, "slow": [(0.05, 0.5)]}),
                                   (MESH, {"draws": 4, "slow": [(3, 0.5)]}),
                                   (MESH, {"draws": 40, "dead": 0.1, "slow": [(0.1, 0.5), (0.1, 0.2)]}),
                                   (RING, {"draws": 1, "dead": 0}), (RING, {"draws": 9, "slow": [(1, 0.5)]})], ids=range(5))
def test_links_have_the_colour_of_their_cable_and_texts_do_not_meet(asked):
    found = draw_faults(asked[0], jobs=1, **asked[1])
    links = picture(found)
    for cable, loss in enumerate(found.losses.tolist()):
        assert links.busy[found.cables.of == cable].tolist() == pytest.approx([loss] * 2, nan_ok=True)
    assert [int(found.cables.of[link]) for link in links.busiest] == [one["cable"] for one in found.ranking[:len(links.busiest)]]
    check_texts(faults_figure(found))


# -- what it says, and bad input ------------------------------------------------------------------------------------------

BAD = [({}, "missing"), ({"dead": 1.5}, "value"), ({"dead": -1}, "value"), ({"dead": float("nan")}, "value"),
       ({"dead": True}, "value"), ({"dead": "1"}, "value"), ({"dead": 7}, "limit"), ({"dead": 4, "slow": [(3, 0.5)]}, "limit"),
       ({"slow": [(0.1, 0.0)]}, "value"), ({"slow": [(0.1, 1.5)]}, "value"), ({"slow": [(0.1, float("nan"))]}, "value"),
       ({"dead": 0.6, "slow": [(0.5, 0.5)]}, "clash"), ({"dead": 1, "draws": 0}, "limit"),
       ({"dead": 1, "draws": 10**7}, "limit"), ({"dead": 1, "seed": -1}, "value")]


@pytest.mark.parametrize("asked, code", BAD, ids=str)
def test_numbers_that_make_no_sense_are_an_error_before_anything_runs(asked, code, monkeypatch):
    monkeypatch.setattr(Trial, "__call__", lambda *_: pytest.fail("it ran"))
    with pytest.raises(FaultError) as caught:
        draw_faults(RING, jobs=1, **asked)
    assert caught.value.code == code


def test_numbers_of_numpy_are_counts_and_probabilities_too():
    assert kinds_of(np.int64(2), [(np.float64(0.1), np.float64(0.5))], 9) == kinds_of(2, [(0.1, 0.5)], 9)


def test_the_path_of_an_error_is_its_argument():
    for asked, path in (({"dead": 2.5}, ("dead",)), ({"slow": [(0.1, 0.5), (0.1, 2.0)]}, ("slow", 1)),
                        ({"dead": 1, "slow": [(0.1, 2.0)]}, ("slow", 0))):
        with pytest.raises(FaultError) as caught:
            kinds_of(asked.get("dead"), asked.get("slow", ()), 9)
        assert caught.value.path == path


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mesh.yaml"
    path.write_text(json.dumps({"name": "A mesh", **MESH}))
    return path


def invoke(*arguments, code=0):
    result = CliRunner().invoke(cli, [str(a) for a in arguments], standalone_mode=False)
    if code == 0:
        assert result.exception is None and not result.exit_code, result.output
    return result


def test_the_command_reports_and_writes_a_result_and_a_picture(file, tmp_path):
    said = invoke("faults", file, "--draws", 30, "--dead", "0.02", "--slow", "0.05:0.5", "--slow", "1:0.2", "--seed", 1,
                  "--jobs", 1, "-o", tmp_path / "out").stdout
    folder = tmp_path / "out" / "a-mesh"
    assert sorted(p.name for p in folder.iterdir()) == ["faults.json", "faults.png"]
    kept = json.loads((folder / "faults.json").read_text())
    assert kept["kinds"] == [{"scale": 0.0, "probability": 0.02}, {"scale": 0.5, "probability": 0.05}, {"scale": 0.2, "count": 1}]
    assert len(kept["times_s"]) == kept["draws"] == 30 and kept["links"] == 17
    assert "median" in said and "The worst draw" in said and "costs most" in said
    alone = invoke("faults", file, "--draws", 30, "--dead", "1", "--json", "--jobs", 1, "-o", tmp_path / "out").stdout
    assert json.loads(alone)["kinds"] == [{"scale": 0.0, "count": 1}]
    assert [p.name for p in folder.iterdir()] == ["faults.json"], "a picture of other draws would belie the result beside it"


def test_what_is_printed_to_be_pasted_is_yaml_that_gives_the_time(file, tmp_path):
    from ruamel.yaml import YAML

    said = invoke("faults", file, "--draws", 20, "--slow", "2:0.25", "--no-pictures", "--jobs", 1, "-o", tmp_path / "out").stdout
    text = said[said.index("  links:"):said.index("written to")]
    found = json.loads((tmp_path / "out" / "a-mesh" / "faults.json").read_text())["worst"]
    links = YAML(typ="safe").load(text)["links"]
    assert links == found["links"]
    assert time_of(with_links(MESH, links)) == pytest.approx(found["time_s"], rel=1e-9)


@pytest.mark.parametrize("asked", ["", "--dead x", "--slow 0.1", "--slow 0.1:z", "--slow z:1", "--dead 99", "--dead 1 --draws 0"])
def test_bad_options_end_with_status_2_and_nothing_is_written(file, tmp_path, asked):
    result = invoke("faults", file, *asked.split(), "-o", tmp_path / "out", code=2)
    assert isinstance(result.exception, FaultError) or result.exit_code == 2
    assert not (tmp_path / "out").exists()


def test_ctrl_c_says_how_far_it_was_and_writes_nothing(file, tmp_path, monkeypatch):
    calls = []

    def interrupted(self, faults):
        calls.append(faults)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return 1.0

    monkeypatch.setattr(Trial, "__call__", interrupted)
    result = invoke("faults", file, "--draws", 30, "--dead", "2", "--jobs", 1, "-o", tmp_path / "out", code=130)
    assert result.exit_code == 130 and "of 30 draws" in result.stderr
    assert not list((tmp_path / "out" / "a-mesh").iterdir())


def test_a_user_routing_runs_in_this_process_and_sees_the_faults(tmp_path):
    (tmp_path / "ways.py").write_text("import networkx as nx\n"
                                      "def shortest(graph, source, target):\n"
                                      "    return [nx.shortest_path(graph, source, target)]\n")
    file = tmp_path / "own.yaml"
    program = [GATHER | {"collective": "all_to_all", "algorithm": "direct"}]
    file.write_text(json.dumps({"chip": "ideal", "topology": {"shape": [4], "routing": "ways:shortest"}, "program": program}))
    found = draw_faults(file, draws=3, dead=1, slow=[(1, 0.5)], jobs=2)
    for number in range(3):
        pasted = tmp_path / f"{number}.yaml"
        topology = {"shape": [4], "routing": "ways:shortest", "links": found.links(number)}
        pasted.write_text(json.dumps({"chip": "ideal", "topology": topology, "program": program}))
        assert time_of_file(pasted) == pytest.approx(found.times[number], rel=1e-9)


def test_a_graph_of_nodes_with_one_way_links_is_drawn_from_too():
    graph = nx.DiGraph(axes={"x": 3})
    graph.add_nodes_from((i,) for i in range(3))
    for i in range(3):
        graph.add_edge((i,), ((i + 1) % 3,), bandwidth=1e9, latency=0.0)
    cables = cables_of(grid(graph), [])
    assert len(cables) == 3 and sorted(cables.of.tolist()) == [0, 1, 2]
