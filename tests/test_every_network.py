"""Every collective by every algorithm on every network by name, and what closed forms say of single networks.

A kind of network joins by being in NETWORKS and having a size in `test_networks.SIZES`; a collective or an algorithm by being in
ALGORITHMS.
"""

import random
from inspect import signature
from itertools import pairwise
from math import prod

import networkx as nx
import numpy as np
import pytest
from test_against_simgrid import our_times, simgrid_times
from test_networks import SIZES, built, seconds

from torussim.chips import chip
from torussim.choice import alternatives
from torussim.closed_forms import axes_seconds
from torussim.collectives.lower import ALGORITHMS, fits, lower, schedules, summed
from torussim.collectives.playback import check
from torussim.collectives.steps import PAIRS
from torussim.engine.simulate import simulate
from torussim.errors import ProgramError
from torussim.lower_bound import operation_seconds
from torussim.outlines import Outlines
from torussim.program import Collective, Program
from torussim.topology.builders import torus
from torussim.topology.check import check_topology, read_links
from torussim.topology.grid import grid
from torussim.topology.named import NETWORKS
from torussim.topology.placing import arranged
from torussim.topology.routing import routes

IDEAL, D, W = chip("ideal"), 96e6, 50e9
SMALL, FEW = 32, 16  # chips of an instance at most, if there is one; of a group over all axes
FULL = {"torus": lambda: torus((3, 4), bandwidth=W), "mesh": lambda: torus((3, 4), wrap=False, bandwidth=W)}


def instance(name, **more):
    """Return the smallest instance of a network as a graph; where it has one axis, that is cut in two if possible."""
    if name in FULL:
        return FULL[name]()
    sizes = [case for case in SIZES[name] if 4 <= case[1] <= SMALL] or SIZES[name]
    graph = built(name, **min(sizes, key=lambda case: case[1])[0], **more)
    axes = [n for n in graph.graph["axes"].values() if n > 1]
    count = prod(axes)
    last = 8 if count > SMALL else count // 2
    return arranged(graph, [count // last, last]) if len(axes) == 1 and count % 2 == 0 and count > 2 else graph


def groups(net):
    """Return the axes of the groups that are tried: all, where that are few chips, and else the first and the last."""
    live = [a for a in net.axes if net.length(a) > 1]
    return [tuple(live)] if len(net.chips) <= FEW else list(dict.fromkeys([(live[0],), (live[-1],)]))


@pytest.fixture(scope="module")
def nets():
    return {name: grid(instance(name)) for name in (*NETWORKS, *FULL)}


def collective(kind, algorithm, net, axes=None):
    axes = net.axes if axes is None else axes
    if kind == "send":
        return Collective("c", kind, (), D, algorithm, groups=((0, len(net.chips) - 1),))
    return Collective("c", kind, tuple(axes), D, algorithm, shift={axes[-1]: 1} if kind == "permute" else {})


@pytest.mark.parametrize("name", [*NETWORKS, *FULL])
def test_every_network_passes_its_checks(name):
    graph = instance(name)
    check_topology(graph)
    links = read_links(graph)
    ends = np.arange(len(links.chips))
    found = routes(links, "shortest", np.repeat(ends, len(ends)), np.tile(ends, len(ends)))
    there = np.diff(found.first) > 0
    assert (there == (np.repeat(ends, len(ends)) != np.tile(ends, len(ends)))).all()  # each chip reaches each other


@pytest.mark.parametrize("kind, algorithm", [(kind, name) for kind, names in ALGORITHMS.items() for name in names])
@pytest.mark.parametrize("name", [*NETWORKS, *FULL])
def test_every_collective_by_every_algorithm_keeps_its_contract_on_every_network(name, kind, algorithm, nets):
    """Over all axes, and over the last alone; those that there are for groups of such sizes."""
    net, played = nets[name], 0
    if algorithm == "in_network" and "sums" in signature(NETWORKS.get(name, torus)).parameters:
        net = grid(instance(name, sums=True))
    for axes in groups(net):
        one, chips = collective(kind, algorithm, net, axes), prod(map(net.length, axes))
        if algorithm in PAIRS and chips.bit_count() > 1:
            with pytest.raises(ProgramError, match="is for groups of a power of two"):
                lower(one, net)
            continue
        if algorithm == "in_network" and not summed(one, net):
            with pytest.raises(ProgramError, match="no switches that sum join all chips"):
                lower(one, net)
            continue
        for schedule in schedules(one, net) if one.groups else [lower(one, net)]:
            check(schedule)
        played += 1
    assert played or algorithm in PAIRS or (algorithm == "in_network" and not net.links.summing)


@pytest.mark.parametrize("name", [*NETWORKS, *FULL])
def test_no_algorithm_beats_the_bound_on_any_network(name, nets):
    net = nets[name]
    for kind in ("all_gather", "reduce_scatter", "all_reduce", "all_to_all"):
        axes = groups(net)[0]
        one = collective(kind, "", net, axes)
        least = operation_seconds(one, net, IDEAL)
        for algorithm in fits(one, prod(map(net.length, axes))):
            taken = simulate(Program((collective(kind, algorithm, net, axes),)), net, IDEAL).makespan
            assert taken >= least * (1 - 1e-9), (kind, algorithm)


# -- closed forms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chips", [2, 3, 5, 8])
def test_a_direct_all_to_all_of_fully_connected_chips_takes_what_one_message_takes(chips):
    network = {"kind": "fully_connected", "chips": chips, "bandwidth": W}
    (taken,) = [seconds("all_to_all", D, **network)]
    assert taken == pytest.approx(D / chips / W)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_every_collective_takes_as_long_on_a_hypercube_as_on_a_torus_of_twos(dimensions):
    cube = grid(built("hypercube", dimensions=dimensions))
    twos = grid(torus((2,) * dimensions, bandwidth=W, latency=1e-6))
    for kind, names in ALGORITHMS.items():
        for algorithm in set(names) - {"in_network"}:  # there is no switch
            taken = [simulate(Program((collective(kind, algorithm, net),)), net, IDEAL).makespan for net in (cube, twos)]
            assert taken[0] == pytest.approx(taken[1], rel=1e-12), (kind, algorithm)


@pytest.mark.parametrize("ratio", [1, 2, 4])
@pytest.mark.parametrize("kind, share", [("all_gather", 1), ("reduce_scatter", 1), ("all_reduce", 2)])
def test_a_ring_within_and_across_leaves_of_a_fat_tree_takes_what_links_and_cut_say(kind, share, ratio):
    """In a leaf the links of the chips are the limit, as on private links; across leaves it is what a leaf has upwards."""
    net = grid(arranged(built("fat_tree", down=[4, 4], oversubscription=ratio, latency=0.0), [4, 4]))
    ring = grid(torus((4,), bandwidth=W / 2))  # both neighbours are behind the one link of a chip
    alone = simulate(Program((Collective("c", kind, ("x",), D, "one_ring"),)), ring, IDEAL).makespan
    assert alone == pytest.approx(share * D * 3 / 4 / W)
    for axis, slower in (("y", 1), ("x", ratio)):
        taken = simulate(Program((Collective("c", kind, (axis,), D, "one_ring"),)), net, IDEAL).makespan
        assert taken == pytest.approx(alone * slower, rel=1e-9), axis


@pytest.mark.parametrize("nodes, gpus, nic", [(2, 4, 10e9), (3, 8, 5e9), (4, 8, 40e9)])
def test_a_hierarchical_all_reduce_on_nodes_of_gpus_takes_its_closed_form(nodes, gpus, nic):
    """Each of g GPUs moves (g-1)/g of the vector inside; its g-th part goes (n-1)/n through the NIC; and all that twice."""
    net = grid(built("gpu_nodes", nodes=nodes, gpus=gpus, bandwidth=9 * W, latency=0.0, nic_bandwidth=nic))
    taken = simulate(Program((Collective("c", "all_reduce", net.axes, D, "hierarchical"),)), net, IDEAL).makespan
    assert taken == pytest.approx(2 * D * ((gpus - 1) / gpus / (9 * W) + (nodes - 1) / nodes / gpus / nic))


# -- estimates, by which algorithms are chosen --------------------------------------------------------------------------


@pytest.mark.parametrize("name, keywords, mesh", [
    ("boardfly", {"groups": 1}, [2, 4, 4]), ("boardfly", {"groups": 2, "group_links": 4}, [4, 4, 4]),
    ("gpu_nodes", {"nodes": 4, "gpus": 4, "nic_bandwidth": 10e9}, [2, 4, 2]), ("fat_tree", {"down": [4, 4]}, [4, 4])])
@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
def test_the_estimate_of_rings_whose_messages_share_links_is_near_the_simulation(name, keywords, mesh, kind):
    """Neighbours on an axis have a link on some lines and none on others, and parts on several axes have the same links."""
    net = grid(arranged(built(name, **{**keywords, "latency": 0.0}), mesh))
    for axes in (net.axes[:1], net.axes[:2]):
        for algorithm in ("multi_axis", "sequential"):
            program = Program((collective(kind, algorithm, net, axes),))
            said, taken = axes_seconds(program, net, IDEAL), simulate(program, net, IDEAL).makespan
            assert 0.99 * taken <= said <= 1.5 * taken, (axes, algorithm)


def test_a_ring_lacks_links_only_where_some_have_failed():
    """On a boardfly most neighbours on an axis between boards have no link; on a ring of chips one that has failed is missing."""
    net = grid(arranged(built("boardfly", groups=1), [4, 8]))
    gather = collective("all_gather", "multi_axis", net, net.axes[:1])
    assert net.ring[0] and net.gaps[0] and not Outlines(net).broken(gather)
    assert len(alternatives(collective("all_gather", "", net, net.axes[:1]), Outlines(net), IDEAL)) > 5
    graph = built("fully_connected", chips=4)
    graph.remove_edges_from([((0,), (1,)), ((1,), (0,))])
    graph.graph["failed"] = (((0,), (1,)), ((1,), (0,)))
    cut = grid(graph)
    assert cut.ring == (True,) and Outlines(cut).broken(collective("all_gather", "multi_axis", cut))


# -- rates, against an independent simulator ----------------------------------------------------------------------------


def routed_system(name, seed):
    """Return bandwidths of the links of a network, and (time, links, bytes) of 12 messages on single shortest paths."""
    rng, graph = random.Random(seed), instance(name)
    place = {edge: i for i, edge in enumerate(graph.edges)}
    there = [node for node, is_chip in graph.nodes(data="chip", default=True) if is_chip]
    flows = []
    while len(flows) < 12:
        path = nx.shortest_path(graph, *rng.sample(there, 2))
        flows.append((rng.choice([0.0, rng.uniform(0, 1e-3)]), [place[edge] for edge in pairwise(path)],
                      float(rng.randrange(10**6, 10**8))))
    return [link["bandwidth"] for _, _, link in graph.edges(data=True)], sorted(flows, key=lambda flow: flow[0])


def test_messages_on_every_network_end_when_simgrid_says():
    simgrid = pytest.importorskip("simgrid")
    systems = [routed_system(name, seed) for name in NETWORKS for seed in range(4)]
    ours = [our_times(*system) for system in systems]
    assert ours == [pytest.approx(right, rel=1e-6) for right in simgrid_times(simgrid, systems)]
