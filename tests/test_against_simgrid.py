"""Finish times against SimGrid, an independent flow-level simulator, on 300 random graphs; runs where it is installed.

SimGrid's model CM02 with all corrections off and latency 0, where it shares links by max-min fairness alone. It knows no
message over several routes, so every flow has one. On Debian, whose SimGrid belongs to the system's Python:

    apt-get install python3-simgrid python3-numpy python3-pytest
    PYTHONPATH=. /usr/bin/python3 -m pytest --noconftest tests/test_against_simgrid.py

Elsewhere `pip install simgrid`, which compiles it.
"""

import random

import numpy as np
import pytest
from fluid import Fluid

from torussim.topology.routes import Routes

CONFIGURATION = ("network/model:CM02", "network/bandwidth-factor:1", "network/latency-factor:1", "network/weight-S:0",
                 "network/TCP-gamma:0", "network/crosstraffic:0", "maxmin/precision:1e-9", "surf/precision:1e-12")
GRAPHS = 300


def random_walk(rng, leaving):
    """Return the links of a way through a graph that visits no node twice; `leaving`: node -> [(link, next node)]."""
    node = rng.randrange(len(leaving))
    seen, links = {node}, []
    for _ in range(rng.randint(1, 6)):
        ways = [(link, there) for link, there in leaving[node] if there not in seen]
        if not ways:
            break
        link, node = rng.choice(ways)
        seen.add(node)
        links.append(link)
    return links


def random_system(rng):
    """Return bandwidths of the links of a random graph, and (time, links, bytes) of flows, sorted by time."""
    nodes = rng.randint(3, 8)
    leaving, bandwidth = [[] for _ in range(nodes)], []
    for i in range(nodes):
        for j in rng.sample(range(nodes), rng.randint(2, nodes)):
            if i != j:
                leaving[i].append((len(bandwidth), j))
                bandwidth.append(rng.choice([1e6, 2e6, 5e6]) if rng.random() < 0.5 else rng.uniform(1e6, 9e6))
    alike = rng.random() < 0.5
    flows = []
    while len(flows) < 12:
        links = random_walk(rng, leaving)
        if links:
            flows.append((rng.choice([0.0, 0.5]) if alike else rng.uniform(0, 1), links, 1e6 if alike else rng.uniform(1e5, 4e6)))
    return bandwidth, sorted(flows, key=lambda flow: flow[0])


def simgrid_times(simgrid, systems):
    """Return when each flow of each system ends; they are simulated side by side, on links of their own."""
    engine = simgrid.Engine(["torussim", "--log=root.threshold:warning", *(f"--cfg={option}" for option in CONFIGURATION)])
    zone = simgrid.NetZone.create_full_zone("net")
    hosts = [zone.create_host(f"host{i}", 1e9) for i in range(80)]
    for host in hosts:
        if hasattr(host, "seal"):
            host.seal()
    pairs = [(a, b) for a in hosts for b in hosts if a is not b]
    used = iter(pairs)
    work = []
    for s, (bandwidth, flows) in enumerate(systems):
        links = [zone.create_link(f"link{s}-{n}", [value]) for n, value in enumerate(bandwidth)]
        for link in links:
            link.set_latency(0)
            link.seal()
        mine = []
        for time, way, size in flows:
            source, target = next(used)
            zone.add_route(source.netpoint, target.netpoint, None, None, [simgrid.LinkInRoute(links[n]) for n in way], False)
            mine.append((time, source, target, size))
        work.append(mine)
    zone.seal()
    ends = [[] for _ in systems]

    def drive(number):
        comms = []
        for time, source, target, size in work[number]:
            simgrid.this_actor.sleep_until(time)
            comms.append(simgrid.Comm.sendto_async(source, target, int(size)))
        for comm in comms:
            comm.wait()
        ends[number].extend(comm.finish_time for comm in comms)

    for s in range(len(systems)):
        simgrid.Actor.create(f"driver{s}", hosts[0], drive, s)
    engine.run()
    return ends


def our_times(bandwidth, flows):
    """Return when each flow ends in the fluid network."""
    first = np.cumsum([0, *(len(way) for _, way, _ in flows)])
    link = np.array([n for _, way, _ in flows for n in way])
    fluid = Fluid(Routes(first, link, np.ones(len(link)), np.zeros(len(flows))), np.array(bandwidth))
    ends = {}

    def run_until(time):
        while fluid.next() < time:
            ends.update((i, fluid.now) for i in fluid.end().tolist())

    for i, (time, _, size) in enumerate(flows):
        run_until(time)
        fluid.start(np.array([i]), np.array([size]), time)
    run_until(np.inf)
    return [ends[i] for i in range(len(flows))]


def test_flows_end_when_simgrid_says():
    simgrid = pytest.importorskip("simgrid")
    systems = [random_system(random.Random(seed)) for seed in range(GRAPHS)]
    systems = [(bandwidth, [(time, way, float(int(size))) for time, way, size in flows]) for bandwidth, flows in systems]
    theirs = simgrid_times(simgrid, systems)
    ours = [our_times(*system) for system in systems]
    assert sum(map(len, theirs)) == 12 * GRAPHS
    assert ours == [pytest.approx(right, rel=1e-6) for right in theirs]
