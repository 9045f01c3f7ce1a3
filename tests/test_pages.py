"""Examples and figures of the documentation pages are true: their files are sound, and their numbers those of a run."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import networkx as nx
import pytest

import torussim
from torussim import measurements, run, validate
from torussim.program import Collective, Program
from torussim.scenario import load

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def files(page):
    """Return the files that a page shows, by name."""
    return dict(re.findall(r"^```yaml title=\"([^\"]+)\"\n(.*?)^```$", (DOCS / page).read_text(), re.M | re.S))


@pytest.mark.parametrize("name", files("workloads.md"))
def test_a_scenario_of_the_page_on_workloads_is_sound_and_gives_what_the_page_says(name, tmp_path):
    (tmp_path / name).write_text(files("workloads.md")[name])
    if name == "links.yaml":
        links = load(tmp_path / name).net.links
        assert (links.bandwidth == 22.5e9).sum() == 2 and (links.latency == 5e-6).sum() == 2 and links.events
        return
    keys = run(tmp_path / name).keys
    wanted = {"prefill.yaml": {"tokens_per_s"}, "decode.yaml": {"tokens_per_s"}, "drafted.yaml": {"tokens_per_s"},
              "generate.yaml": {"prefill_s", "prompt_tokens_per_s", "generated_tokens_per_s"}}[name]
    assert {"step_s", "latency_s", "memory", *wanted} <= keys.keys() and keys["memory"]["fits"]
    longer = run(tmp_path / name, overrides=["workload.cache_share=0.6"]).keys
    assert longer["memory"]["longest_context"] == pytest.approx(2 * keys["memory"]["longest_context"], rel=1e-3)
    assert longer["step_s"] == keys["step_s"]


def test_the_ways_to_give_a_model_are_sound(tmp_path):
    """Of the page on models: presets, changed presets, values for a command; files and names of Hugging Face have other tests."""
    page = (DOCS / "models.md").read_text()
    (tmp_path / "mixture.yaml").write_text(files("models.md")["mixture.yaml"])
    ways = re.findall(r"^\| `(?:--set )?(model[:.][^`]*)` \|", page, re.M)
    assert len(ways) == 5
    for way in ways:
        if "..." in way or ".json" in way:
            continue
        model = load(tmp_path / "mixture.yaml", [way.replace("model: ", "model=")]).model
        assert model.layers == 18 or way == f"model: {model.name}", way


def test_the_load_of_experts_can_be_given_in_each_way_of_the_page(tmp_path):
    (tmp_path / "mixture.yaml").write_text(files("models.md")["mixture.yaml"])
    (tmp_path / "shares.json").write_text(json.dumps([1 / 128] * 128))
    (tmp_path / "layers.json").write_text(json.dumps([[1 / 128] * 128] * 48))
    plain, skewed, *same = (run(tmp_path / "mixture.yaml", overrides=[f"workload.balance={balance}"]).step_s for balance in (
        "uniform", "{zipf: 1.0}", "{shares: shares.json}", "{shares: layers.json}"))
    assert skewed > plain and same == pytest.approx([plain] * 2, rel=1e-9)


SCENARIOS = re.findall(r"^\| `([\w/-]+\.yaml)`.*? \| (\d+) \| ([\d.]+) ms \| ([\d.]+) of ([\d.]+) GB \|$",
                       (DOCS / "worked_models.md").read_text(), re.M)


@pytest.mark.parametrize("name, chips, step, held, capacity", SCENARIOS)
def test_the_scenarios_of_todays_models_take_what_the_page_says(name, chips, step, held, capacity):
    keys = run(ROOT / "scenarios" / name).keys
    memory = keys["memory"]
    total = sum(memory[key] for key in ("weights", "kv_cache", "activations"))
    assert (keys["chips"], f"{keys['step_s'] * 1e3:.1f}") == (int(chips), step) and memory["fits"]
    assert (total / 1e9, memory["capacity"] / 1e9) == pytest.approx((float(held), float(capacity)), abs=0.06)


def test_the_cache_of_a_long_context_does_not_fit_where_heads_are_copied():
    assert len(SCENARIOS) == 4
    keys = run(ROOT / "scenarios" / "llama-3-70b-long-context-v6e-32.yaml", overrides=["layout.attention=heads"]).keys
    assert not keys["memory"]["fits"]


def test_smaller_chunks_take_less_memory(tmp_path):
    (tmp_path / "prefill.yaml").write_text(files("workloads.md")["prefill.yaml"])
    whole, chunks = (run(tmp_path / "prefill.yaml", overrides=changes).keys["memory"]["activations"]
                     for changes in ([], ["workload.chunk=1024"]))
    assert chunks < whole / 2


def test_the_measurements_of_the_page_on_calibration_are_sound(tmp_path):
    (tmp_path / "mine.yaml").write_text(files("calibrating.md")["mine.yaml"])
    read = measurements.read(tmp_path / "mine.yaml")
    assert not read.mistakes and len(read.rows) == 5
    assert len(validate.validate([tmp_path / "mine.yaml"]).points) == 5


def test_the_example_of_the_recurrence_is_what_is_simulated():
    network = torussim.torus((4,), bandwidth=1e6 / 10e-6, latency=1e-6)  # 10 us a shard
    network.edges[(1,), (2,)]["bandwidth"] = 1e6 / 30e-6
    program = Program((Collective("gather", "all_gather", ("x",), 4e6, direction="one_way"),))
    timeline = torussim.simulate(program, network, torussim.chip("ideal"), fold=False, record=range(4))
    rows = re.findall(r"^\| (\d) \| (.+?) \|$", (DOCS / "engine_recurrence.md").read_text(), re.M)
    shown = {(int(step), chip): tuple(map(int, re.findall(r"\d+", cell)))
             for step, cells in rows for chip, cell in enumerate(cells.split(" | "))}
    assert len(shown) == 12
    found = dict[tuple[int, int], tuple[int, int]]()
    for sent in sorted(timeline.sent, key=lambda one: one.start):
        step = 1 + sum(1 for _, other in found if other == sent.chip)
        found[step, sent.chip] = round(1e6 * sent.start), round(1e6 * sent.end)
    assert {key: (begin, end) for key, (begin, end, _) in shown.items()} == found
    last = {(chip + 1) % 4: there for (step, chip), (_, _, there) in shown.items() if step == 3}
    assert timeline.finish * 1e6 == pytest.approx([last[chip] for chip in range(4)])


def test_the_example_of_shared_links_is_what_is_simulated(tmp_path):
    """Flows of 30, 30, 30 and 70 GB/s; without A: 45, 45, 55. Sizes are such that A ends after 1 s, the others after 2 s."""
    graph = nx.DiGraph()
    for one, other, bandwidth in ((0, 1, 90e9), (1, 2, 100e9)):
        graph.add_edge(one, other, bandwidth=bandwidth, latency=0.0)
        graph.add_edge(other, one, bandwidth=bandwidth, latency=0.0)
    (tmp_path / "net.json").write_text(json.dumps(nx.node_link_data(graph, edges="edges")))
    flows = {"A": (0, 1, 30e9), "B": (0, 1, 30e9 + 45e9), "C": (0, 2, 30e9 + 45e9), "D": (1, 2, 70e9 + 55e9)}
    program = [{"name": name, "collective": "send", "from": [one], "to": [other], "bytes": size, "after": []}
               for name, (one, other, size) in flows.items()]
    (tmp_path / "flows.json").write_text(json.dumps(
        {"chip": "ideal", "topology": {"kind": "file", "path": "net.json", "mesh": [3]}, "program": program}))
    (segment,) = run(tmp_path / "flows.json").timeline.segments
    assert segment.ends.max(axis=1) == pytest.approx([1.0, 2.0, 2.0, 2.0], rel=1e-9)
    page = (DOCS / "engine_fluid.md").read_text()
    assert [page.count(f"flow {name}: {rate}") for name, rate in (("A", 30), ("B", 30), ("C", 30), ("D", 70))] == [1, 1, 2, 1]
    assert "link 1 has 45 GB/s for each of B and C, and D falls to 55 GB/s" in " ".join(page.split())


def test_the_picture_of_folding_is_what_its_script_draws():
    spec = importlib.util.spec_from_file_location("folding", ROOT / "plots" / "folding.py")
    folding = importlib.util.module_from_spec(spec)
    sys.modules["folding"] = folding
    spec.loader.exec_module(folding)
    assert folding.picture() == (ROOT / "plots" / "folding.svg").read_text()
    assert len(set(folding.classes().values())) == 6
