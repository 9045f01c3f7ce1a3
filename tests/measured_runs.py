"""Measured runs made by simulation: traces of chips, with noise, of networks with something slow that the scenario lacks."""

import gzip
import json
import random

import numpy as np

from torussim.answer import last_program
from torussim.choice import chosen
from torussim.engine.simulate import simulate
from torussim.outlines import Outlines
from torussim.scenario import load
from torussim.topology.faults import cables
from torussim.topology.grid import with_bandwidth

EXPOSED = 0.01  # of the time: a link that costs less carries no exposed traffic
TPU4, TPU5 = {"chip": "tpu-v4"}, {"chip": "tpu-v5e"}
DECODE = {"phase": "decode", "batch": 256, "context": 2048}
PALM = {"model": {"base": "palm-540b", "layers": 6}, "layout": {"ffn": "ws2d", "attention": "batch"}, "workload": DECODE, **TPU4}
LLAMA = {"model": {"base": "llama-3-70b", "layers": 6}, "layout": {"ffn": "ws2d", "attention": "batch", "weights": "int8"},
         "workload": {**DECODE, "batch": 128}, **TPU5}
PROGRAMS = [
    [{"name": "gather", "collective": "all_gather", "axes": "xy", "bytes": "64 MB"}],
    [{"name": "gather", "collective": "all_gather", "axes": "y", "bytes": "64 MB"},
     {"name": "reduce", "collective": "all_reduce", "axes": "x", "bytes": "16 MB", "after": []},
     {"name": "multiply", "flops": 1e11, "hbm_bytes": "100 MB", "after": []},
     {"name": "exchange", "collective": "all_to_all", "axes": "xy", "bytes": "8 MB", "after": ["gather", "reduce", "multiply"]}],
    [{"name": "before", "flops": 1e10}, {"name": "reduce", "collective": "all_reduce", "axes": "xy", "bytes": "64 MB"},
     {"name": "after", "flops": 1e10}, {"name": "scatter", "collective": "reduce_scatter", "axes": "x", "bytes": "32 MB"}]]
SMALL = [{**LLAMA, "topology": {"slice": "v5e-16"}}, *(
    {**chip, "topology": topology, "program": program} for program in PROGRAMS
    for chip, topology in ((TPU5, {"shape": [4, 4]}), (TPU4, {"kind": "mesh", "shape": [3, 5]})))]
LARGE = [{**PALM, "topology": {"shape": [4, 4, 4]}}, {**PALM, "topology": {"kind": "mesh", "shape": [4, 4, 4]}},
         {**LLAMA, "topology": {"slice": "v5e-32"}}, {**TPU4, "topology": {"shape": [4, 4, 4]}, "program": PROGRAMS[1]},
         {**TPU4, "topology": {"shape": [4, 4, 4]}, "program": PROGRAMS[2]}]


class Run:
    """A scenario, and the times of a run of it; the software has chosen all as for the network of the scenario."""

    def __init__(self, scenario):
        self.scenario = load(scenario)
        self.net, self.chip = self.scenario.net, self.scenario.chip
        self.program = chosen(last_program(self.scenario), Outlines(self.net), self.chip)
        self.sound = self.timeline()

    def timeline(self, slow=(), pace=None):
        """Return the timeline with links, given as (indices, scale), slowed down."""
        scale = np.ones(len(self.net.links.source))
        for links, by in slow:
            scale[links] *= by
        return simulate(self.program, with_bandwidth(self.net, scale * self.net.links.bandwidth), self.chip, pace=pace)

    def hidden(self, rng, one_way=False):
        """Return (indices, scale) of a cable that carries exposed traffic, or of one direction of it, and its timeline."""
        number = cables(self.net.links)
        used = np.unique(number[self.sound.link_bytes > 0]).tolist()
        while True:
            links, scale = np.flatnonzero(number == rng.choice(used)), rng.uniform(0.1, 0.5)
            links = links[[rng.randrange(2)]] if one_way else links
            timeline = self.timeline([(links, scale)])
            if timeline.makespan > (1 + EXPOSED) * self.sound.makespan:
                return links, scale, timeline

    def ends(self, links):
        """Return the two ends of a cable."""
        return frozenset(self.net.links.edge(links[0]))


def drawn(number, scenarios):
    """Return a generator, and one of some scenarios as a run, drawn by a seed."""
    rng = random.Random(number)
    return rng, Run(scenarios[number % len(scenarios)])


def events(timeline, rng, noise=0.05, factor=None, chips=None):
    """Return the events of a trace: a process a chip; `factor`: by names of operations, of their times."""
    found = []
    normal = np.random.default_rng(rng.randrange(2**32))
    for process, chip in enumerate(range(len(timeline.chips)) if chips is None else chips):
        name = f"chip ({','.join(map(str, timeline.chips[chip]))})"
        found.append({"ph": "M", "pid": process, "name": "process_name", "args": {"name": name}})
        for _, operation, start, end in timeline.spans(chip):
            seconds = (end - start) * np.exp(noise * normal.standard_normal()) * (factor or {}).get(operation.name, 1.0)
            found.append({"ph": "X", "pid": process, "tid": 0, "name": operation.name, "ts": start * 1e6, "dur": seconds * 1e6})
    return found


def write(path, value):
    """Write a trace, or the text of a table; return the path."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(json.dumps(value).encode(), mtime=0))
    else:
        path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def table(timeline, rng, chip=None, noise=0.05, factor=None):
    """Return a table of operation times without chips: medians over chips, or those of one chip."""
    found = {}
    normal = np.random.default_rng(rng.randrange(2**32))
    for one in range(len(timeline.chips)) if chip is None else [chip]:
        for _, operation, start, end in timeline.spans(one):
            found.setdefault(operation.name, []).append(end - start)
    rows = [f"{name},{float(np.median(times) * np.exp(noise * normal.standard_normal()) * (factor or {}).get(name, 1.0))}"
            for name, times in found.items()]
    return "\n".join(["operation,time_s", *rows]) + "\n"
