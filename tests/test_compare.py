"""Side by side: the best is first, what differs is what differs, and nothing is written."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from torussim.answer import run
from torussim.apart import apart
from torussim.cli import cli, simulate
from torussim.compare import BY, MORE_IS_BETTER, OF_TOKENS, WIDTH, check_by, compare
from torussim.differences import alike, differences, main_ones, shown
from torussim.errors import TorusSimError
from torussim.result import Result
from torussim.scenario import load
from torussim.tables import shorten

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"
SMALL = """\
name: {name}
model: {{base: palm-8b, layers: 2}}
chip: {{base: tpu-v4}}
topology: {{shape: [2, 2, 2], links: [{{axis: x, scale: 0.5}}]}}
layout: {{ffn: ws2d, attention: batch}}
workload: {{phase: decode, batch: 8, context: 64, tokens: 2}}
"""
BARE = """\
name: {name}
chip: tpu-v4
topology: {{shape: [4, 4, 4]}}
program: [{{name: gather, collective: all_gather, axes: x, bytes: {bytes}}}]
"""
CHOICES = {  # keys that do not change one another
    "workload.batch": [8, 16, 32], "workload.context": [64, 128], "workload.tokens": [1, 2, 3],
    "workload.cache_share": [0.3, 0.25], "chip.hbm_bandwidth": [1e12, 1.2e12],
    "layout.attention": ["batch", "heads"], "layout.weights": ["bf16", "int8"], "layout.overlap": [True, False],
    "topology.latency": [1e-6, 2e-6], "topology.links.0.scale": [0.5, 0.25], "topology.links.0.axis": ["x", "y"],
    "topology.bandwidth": [45e9, 45.01e9], "model.parallel": [True, False], "chip.launch": [1e-6, 2.7e-6],
}


def write(folder, name, text=SMALL, **more):
    path = folder / f"{name}.yaml"
    path.write_text(text.format(name=name, **more))
    return str(path)


def made(name, step_s, fits=True, **more):
    """Return a result of a decode step, without a run."""
    keys = {"scenario": {"name": name, "workload": {"phase": "decode", "batch": 1}, "model": {"name": "m"}}, "chips": 4,
            "step_s": step_s, "latency_s": step_s, "makespan_s": step_s, "tokens_per_s": 1 / step_s, "mfu": 0.1 / step_s,
            "chip_s_per_token": 4 * step_s,
            "memory": {"weights": 1, "kv_cache": 1, "activations": 1, "capacity": 4, "fits": fits},
            "breakdown_s": {"exposed_collective": step_s / 4}, "estimate": {"bound": {"step_s": step_s / 2}},
            "links": {"busiest": [], "per_axis": {}}, **more}
    return Result(name, keys, timeline=None)


def invoke(*arguments):
    words = [sys.executable, "-m", "torussim", "compare", *map(str, arguments)]
    return subprocess.run(words, capture_output=True, text=True)


def shown_by(*arguments):
    result = CliRunner().invoke(cli, ["compare", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


# -- the order ------------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(1, 9), st.booleans()), min_size=1, max_size=8), st.sampled_from(sorted(BY)))
def test_the_order_is_by_the_key_and_what_does_not_fit_comes_last(steps, by):
    results = [made(str(i), float(step), fits) for i, (step, fits) in enumerate(steps)]
    found = compare(results, [r.name for r in results], by=by)
    assert sorted(int(run.file) for run in found.runs) == list(range(len(steps)))
    assert [run.rank for run in found.runs] == list(range(1, len(steps) + 1))
    places = [(not run.result.memory["fits"], (-1 if by in MORE_IS_BETTER else 1) * run.result.keys[by], int(run.file))
              for run in found.runs]
    assert places == sorted(places)
    best = found.runs[0].result.keys[by]
    assert [run.ratio for run in found.runs] == [run.result.keys[by] / best for run in found.runs]


def test_programs_are_ranked_by_makespan_and_have_no_columns_of_a_model(tmp_path):
    results = [run(write(tmp_path, f"p{n}", BARE, bytes=n)) for n in (4_000_000, 1_000_000, 2_000_000)]
    found = compare(results, ["a", "b", "c"])
    assert [r.file for r in found.runs] == ["b", "c", "a"]
    head = str(found).split("1  p")[0]
    assert "time" in head and not any(word in head for word in ("step\n", "MFU", "tokens/s", "memory", "waiting"))
    assert "the programs are not the same" in str(found)


@pytest.mark.parametrize("by", OF_TOKENS)
def test_a_program_has_no_place_by_tokens(tmp_path, by):
    bare, model = (run(write(tmp_path, "bare", BARE, bytes=64))), run(write(tmp_path, "model"))
    found = compare([bare, model], ["bare", "model"], by=by)
    assert [(r.file, r.ratio) for r in found.runs] == [("model", 1.0), ("bare", None)]
    assert "a program's time is all of it (2)" in " ".join(str(found).split())
    assert "models are not the same" not in str(found)
    with pytest.raises(TorusSimError, match="no use to compare by: programs alone have no tokens; use makespan_s"):
        compare([bare], ["bare"], by=by)


def test_a_key_that_is_misspelt_is_told():
    with pytest.raises(TorusSimError, match="'mfuu' is not a key to compare by: did you mean 'mfu'"):
        check_by("mfuu", False)


def test_the_command_line_offers_every_key():
    assert set(simulate.BY) == set(BY)


# -- what differs ---------------------------------------------------------------------------------------------------------


def assignment(key, value):
    return f"{key}={json.dumps(value)}"


@settings(max_examples=25)
@given(st.data())
def test_what_differs_is_exactly_what_was_set_apart(tmp_path_factory, data):
    file = write(tmp_path_factory.getbasetemp(), "base")
    keys = data.draw(st.lists(st.sampled_from(sorted(CHOICES)), unique=True, max_size=5))
    sets = [{key: data.draw(st.sampled_from(CHOICES[key])) for key in keys} for _ in range(data.draw(st.integers(2, 3)))]
    records = [load(file, [assignment(key, value) for key, value in one.items()]).resolved for one in sets]
    found = differences(records)
    named = {f"{key.split('.')[0]}.name" for key in found if key.startswith(("model.", "chip."))}
    found = {key: values for key, values in found.items() if key not in named}
    assert found == {key: dict(enumerate(one[key] for one in sets)) for key in found}
    assert set(found) == {key for key in keys if len({one[key] for one in sets}) > 1}


@settings(max_examples=12)
@given(st.data())
def test_with_the_values_of_another_a_scenario_is_that_other(tmp_path_factory, data):
    file = write(tmp_path_factory.getbasetemp(), "base")
    mine, theirs = ([assignment(key, data.draw(st.sampled_from(values))) for key, values in CHOICES.items()] for _ in range(2))
    records = [load(file, one).resolved for one in (mine, theirs)]
    found = differences(records)
    changed = load(file, [*mine, *(assignment(key, values[1]) for key, values in found.items())]).resolved
    assert not differences([changed, records[1]])


def test_names_expectations_and_sources_are_no_difference(tmp_path):
    one = load(write(tmp_path, "one"))
    chip = "{{base: tpu-v4, links: {{value: 6, source: a guess}}}}"
    other = load(write(tmp_path, "two", SMALL.replace("{{base: tpu-v4}}", chip) + "expect: {{step_s: 1 s}}\n"))
    assert other.chip.name == "tpu-v4, changed"
    assert one.resolved != other.resolved
    assert not differences([one.resolved, other.resolved])


def test_a_users_own_argument_named_value_is_no_source():
    records = [{"topology": {"kind": "pods:uneven", "mean": mean}} for mean in ({"value": 3}, 3)]
    assert differences(records) == {"topology.mean.value": {0: 3}, "topology.mean": {1: 3}}


def test_a_key_that_one_lacks_differs_and_is_a_dash(tmp_path):
    links, none = write(tmp_path, "links"), write(tmp_path, "none", SMALL.replace(", links: [{{axis: x, scale: 0.5}}]", ""))
    found = compare([run(links), run(none)], ["links", "none"])
    (slow,) = (r.rank for r in found.runs if r.file == "links")
    assert {key: dict(at) for key, at in found.differs.items()} == {"topology.links.0.axis": {slow: "x"},
                                                                    "topology.links.0.scale": {slow: 0.5}}
    row = next(line for line in str(found).splitlines() if "links.0.scale" in line)
    assert sorted(row.split()) == ["-", "0.5", "topology.links.0.scale"] and row.split()[slow] == "0.5"
    assert [sorted(r["differs"]) for r in found.rows() if r["rank"] != slow] == [[]]


def test_one_layout_for_both_phases_is_two_alike(tmp_path):
    text = SMALL.replace("phase: decode", "phase: generate")
    one = load(write(tmp_path, "one", text)).resolved
    both = "{{prefill: {{ffn: wg_xyz, attention: batch}}, decode: {{ffn: ws2d, attention: batch}}}}"
    two = load(write(tmp_path, "two", text.replace("{{ffn: ws2d, attention: batch}}", both))).resolved
    assert differences([one, two]) == {"layout.prefill.ffn": {0: "ws2d", 1: "wg_xyz"}}


SCALARS = st.one_of(st.integers(-10**6, 10**6), st.floats(0, 1e15), st.text(max_size=8), st.booleans(), st.none())


@given(st.lists(SCALARS | st.lists(SCALARS, max_size=3), min_size=1, max_size=4),
       st.sampled_from(["topology.bandwidth", "topology.latency", "workload.batch", "chip.flops.bf16", "topology.shape"]))
def test_different_values_never_look_alike_nor_like_none(values, key):
    if any(isinstance(v, list | int | float) and not isinstance(v, bool) and "-" in str(v) for v in values):
        values = [str(v) for v in values]
    texts = shown(key, dict(enumerate(values)))
    for i, one in enumerate(values):
        assert texts[i] not in ("", "-") and texts[i].isprintable()
        for j, other in enumerate(values[:i]):
            apart = bool(differences([{"topology": {"key": one}}, {"topology": {"key": other}}]))
            assert (texts[i] != texts[j]) == apart


def test_quantities_have_units():
    assert shown("topology.links.0.bandwidth", {0: 22.5e9}) == {0: "22.5 GB/s"}
    assert shown("chip.flops.bf16", {0: 275e12}) == {0: "275 TFLOP/s"}
    assert shown("program.0.flops", {0: 1e12, 2: 2e12}) == {0: "1 TFLOP", 2: "2 TFLOP"}
    assert shown("topology.latency", {0: [1e-6, 0.0]}) == {0: "[1 us, 0 s]"}


def test_wraparounds_are_short_where_they_are_alike():
    key, even, uneven = "topology.wrap", [False, False, False], [True, True, False]
    assert shown(key, {0: even, 1: uneven}) == {0: "all false", 1: "[true, true, false]"}
    assert shown(key, {0: even, 1: even[:2]}) == {0: "[false, false, false]", 1: "[false, false]"}


def test_what_goes_with_a_name_is_one_line_and_a_field_changed_under_one_name_is_not():
    palm, llama = (load(SCENARIOS / f"{name}.yaml").resolved for name in ("palm-540b-decode-64-chips", "llama-3-70b-v5e-16"))
    kept, left = main_ones(differences([palm, llama]), [0, 1])
    assert [key for key in kept if key.startswith("model")] == ["model.name"] and left["model"] > 5
    changed = {**palm, "model": {**palm["model"], "layers": {"value": 8, "source": "ours"}}}
    assert changed["model"]["name"] == palm["model"]["name"]
    for name in (palm["model"]["name"], "a smaller one"):  # told under one name, and under another, as it is one field alone
        changed["model"]["name"] = name
        kept, left = main_ones(found := differences([palm, changed, llama]), [0, 1, 2])
        assert "model.layers" in kept and "model" not in left
        assert all(values == found[key] for key, values in kept.items())


def test_the_operations_of_a_program_that_stands_alone_are_one_line():
    found = differences([load(SCENARIOS / f"{name}.yaml").resolved for name in ("palm-540b-decode-64-chips", "bare-program")])
    kept, left = main_ones(found, [0, 1])
    assert kept["program"] == {1: "gather, reduce, multiply, exchange"}
    assert left["program"] == len([key for key in found if key.startswith("program.")]) - 1


def test_what_is_alike_is_in_all():
    names = ("palm-540b-decode-64-chips", "palm-540b-decode-128-chips")
    records = [load(SCENARIOS / f"{name}.yaml").resolved for name in names]
    assert alike(records) == ["palm-540b", "tpu-v4", "decode", "batch 512", "context 2048", "ws2d_code", "attention over batch",
                              "bf16 weights"]
    assert "4x4x4" in alike(records[:1])


# -- what is said ---------------------------------------------------------------------------------------------------------


def test_a_file_given_twice_is_equal_in_everything(tmp_path):
    file, other = write(tmp_path, "one"), write(tmp_path, "other", SMALL.replace("batch: 8,", "batch: 16,"))
    assert "1 and 2 are equal in everything." in shown_by(file, file)
    assert "What differs" not in shown_by(file, file)
    said = shown_by(file, other, file)
    assert "1 and 2 are equal in everything." in said
    assert "workload.batch  8  8  16" in said and "steps are of different numbers of tokens" in said


def test_equal_files_whose_functions_differ_are_told():
    found = compare([made("a", 1.0), made("b", 2.0)], ["a", "b"])
    assert "1 and 2 are equal in everything, but not in time: a function of yours" in str(found)


def test_what_does_not_fit_is_last_and_marked(tmp_path):
    small = write(tmp_path, "small")
    chip = "{{base: tpu-v4, hbm_bytes: 1 MB, hbm_bandwidth: 9 TB/s}}"
    large = write(tmp_path, "large", SMALL.replace("{{base: tpu-v4}}", chip))
    rows = [line for line in shown_by(large, small).splitlines() if line.startswith(("  1 ", "  2 "))]
    assert "small" in rows[0] and "large" in rows[1]
    assert "NO: " in rows[1] and "NO: " not in rows[0]
    assert float(rows[1].split()[2]) < 1, "it is faster, yet it could not be run"
    assert invoke(small, large).returncode == 0
    assert invoke(small, large, "--strict").returncode == 1
    assert invoke(small, "--strict").returncode == 0


def test_the_limit_is_the_bound_of_the_result(tmp_path):
    file = write(tmp_path, "one")
    result = run(file)
    assert f"{result.estimate['bound']['step_s'] / result.step_s:.0%}" in str(compare([result], [file]))


def test_one_link_is_named_and_links_that_are_alike_are_not():
    names = ("palm-540b-decode-slow-link", "palm-540b-decode-64-chips")
    said = str(compare([run(SCENARIOS / f"{name}.yaml", overrides=["workload.tokens=1"]) for name in names], names)).splitlines()
    slow, even = (next(line for line in said if part in line) for part in ("slow-link", "64-chips"))
    assert "0,0,0 > 1,0,0" in slow and "many on x" in even  # the loops take one direction, every link of it alike


def test_one_run_alone_is_no_comparison(tmp_path):
    assert "nothing to compare it with" in shown_by(write(tmp_path, "one"))


def test_different_phases_are_not_the_same_thing(tmp_path):
    said = shown_by(write(tmp_path, "one"), write(tmp_path, "two", SMALL.replace("decode", "prefill").replace(", tokens: 2", "")))
    assert "a decode's step is one token a sequence (1), a prefill's step is a whole prompt (2)" in " ".join(said.split())


def test_files_of_one_name_are_told_apart_by_the_file(tmp_path):
    one, two = write(tmp_path, "one"), write(tmp_path, "two", SMALL.replace("batch: 8,", "batch: 16,").replace("{name}", "one"))
    found = compare([run(one), run(two)], ["one.yaml", "two.yaml"])
    assert "one (one.yaml)" in found.text(140) and "one (two.yaml)" in found.text(140)
    assert [line.split()[1] for line in str(found).splitlines() if line.startswith(("  1  ", "  2  "))] == ["one", "two"]


@given(st.lists(st.text(st.sampled_from("ab ,"), max_size=60), min_size=1, max_size=6), st.integers(12, 40))
def test_a_short_name_keeps_what_distinguishes_it(texts, room):
    cut = shorten(texts, room)
    assert len(cut) == len(texts) and len(set(cut)) == len(set(texts))
    assert all(len(c) <= room for c in cut) or cut == texts


def test_common_words_are_left_out_first():
    names = ["PaLM 540B decode, batch 64, int8 weights, 64 TPU v4", "PaLM 540B decode with one slow link, 64 TPU v4"]
    assert shorten(names, 32) == [".. batch 64, int8 weights, 64 ..", ".. with one slow link, 64 TPU v4"]


@cache
def gallery():
    files = [f for f in sorted(SCENARIOS.glob("*.yaml")) if not any(w in f.stem for w in ("pod", "generate", "network"))][:7]
    results = [run(f, overrides=["workload.tokens=1"] if "decode" in f.stem else []) for f in files]
    return compare(results, [str(f) for f in files])


@pytest.mark.parametrize("width", [80, WIDTH, 104, 140])
def test_seven_files_of_the_gallery_fit_the_width(width):
    lines = gallery().text(width).splitlines()
    assert len(gallery().runs) == 7 and max(len(line) for line in lines) <= width
    assert WIDTH == 100


@pytest.mark.parametrize("width", [80, WIDTH, 200])
def test_every_difference_of_seven_files_is_told_whatever_the_width(width):
    """With its value, as short as it is anywhere: in a column under its key, or in the list of its run."""
    differs, ranks = gallery().differs, list(range(1, 8))
    said = " ".join(apart(differs, ranks, width).split())
    for key, values in differs.items():
        leaf = key.rpartition(".")[2]
        assert leaf in said
        for text in shown(key, values).values():
            assert text in said or len(text) > 22


KEYS = ["workload.batch", "layout.ffn", "layout.ffn.w_in", "topology.links.0.at.y", "topology.links.0.axis", "topology.twist.x.z"]
VALUES = st.dictionaries(st.integers(1, 6), st.sampled_from([8, "xy", True, "a_longer_value"]), min_size=1)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1), st.integers(60, 120))
def test_a_run_has_a_value_exactly_where_it_differs(differs, width):
    """Each table and list is read back: key by key, run by run."""
    found = {}
    text = apart(differs, list(range(1, 7)), width)
    parts = text.split("\n\n")
    for part in parts:
        lines = [line for line in part.splitlines() if line != "And by run"]
        heads = re.findall(r"\S+", lines[0])
        if heads == list("123456"):
            for line in lines[1:]:
                key, *cells = line.split()
                found[key] = {int(rank): cell for rank, cell in zip(heads, cells, strict=True) if cell != "-"}
        elif not heads[0].rstrip(",").isdigit():
            leaves = lines[1].split()
            for line in lines[2:]:
                rank, *cells = line.split()
                for branch, leaf, cell in zip(heads, leaves, cells, strict=True):
                    found.setdefault(f"{branch}.{leaf}", {}).update({int(rank): cell} if cell != "-" else {})
        else:
            for line in re.sub(r"\n {3,}", " ", "\n".join(lines)).splitlines():
                ranks, said = re.fullmatch(r"  ((?:\d, )*\d)  (.*)", line).groups()
                for item in said.split("; "):
                    branch, _, rest = item.partition(" ")
                    pairs = re.findall(r"([^{ ]+): ([^,}]+)", rest) if rest.startswith("{") else [("", rest)]
                    for leaf, value in pairs:
                        for rank in ranks.split(", "):
                            key = f"{branch}.{leaf}" if leaf else branch
                            found.setdefault(key, {})[int(rank)] = value
    assert found == {key: shown(key, values) for key, values in differs.items()}
    assert max(map(len, text.splitlines())) <= width


# -- the command ----------------------------------------------------------------------------------------------------------


def test_json_is_a_list_best_first_with_all_that_run_gives(tmp_path):
    files = [write(tmp_path, "slow"), write(tmp_path, "fast", SMALL.replace("scale: 0.5", "scale: 2"))]
    rows = json.loads(shown_by(*files, "--json", "--set", "workload.tokens=1"))
    assert [(r["rank"], r["name"], r["file"]) for r in rows] == [(1, "fast", files[1]), (2, "slow", files[0])]
    assert rows[1]["ratio"] == rows[1]["step_s"] / rows[0]["step_s"] > 1
    assert [r["differs"] for r in rows] == [{"topology.links.0.scale": 2}, {"topology.links.0.scale": 0.5}]
    for row in rows:
        alone = json.loads(run(row["file"], overrides=["workload.tokens=1"]).json())
        del alone["engine"]["wall_s"], row["engine"]["wall_s"]
        assert {key: row[key] for key in alone} == alone
        assert set(row) == set(alone) | {"rank", "name", "file", "ratio", "differs"}


def test_all_mistakes_of_all_files_are_told_before_anything_runs(tmp_path):
    good = write(tmp_path, "good")
    one, two = (write(tmp_path, name, SMALL.replace(*change)) for name, change in
                (("one", ("palm-8b", "palm-9b")), ("two", ("phase: decode", "phase: later"))))
    done = invoke(good, one, two, one)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert "'palm-9b' is not" in done.stderr and "later" in done.stderr and f"{two}:6:" in done.stderr


def test_by_what_no_file_has_is_told_before_anything_runs(tmp_path):
    done = invoke(write(tmp_path, "bare", BARE, bytes=64), "--by", "mfu")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "'mfu' is of no use to compare by: programs alone have no tokens; use makespan_s\n"


def test_nothing_is_written(tmp_path, monkeypatch):
    file = write(tmp_path, "one")
    monkeypatch.chdir(tmp_path)
    shown_by(file, file)
    assert [p.name for p in tmp_path.iterdir()] == ["one.yaml"]
