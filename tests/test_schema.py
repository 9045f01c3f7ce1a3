"""The schema of a scenario file says what its reader says of keys, types and names; and the reader takes every example."""

import copy
import json
import random
import re
from functools import cache
from pathlib import Path

import pytest
import random_files
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import torussim
from torussim import files, units
from torussim.cli import cli
from torussim.collectives.lower import ALGORITHMS
from torussim.described import plain
from torussim.errors import ScenarioError, TorusSimError
from torussim.resolve import preset_names
from torussim.scenario import load
from torussim.scenario.layout import read_table
from torussim.scenario.named import form as named_form
from torussim.scenario.parts import parts, schema
from torussim.scenario.values import Misread
from torussim.topology.named import NETWORKS

ROOT = Path(__file__).resolve().parent.parent
SCENARIOS = sorted((ROOT / "scenarios").rglob("*.yaml"))
KEYS = [(part, name, key) for part in parts() for name, key in part.form.items()]
BAD = [file for kind in ("type", "key", "bandwidth", "many") for file in sorted((ROOT / "tests" / "bad").glob(f"{kind}-*.yaml"))]


@cache
def validator():
    made = schema()
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


def valid(document):
    return validator().is_valid(document)


def of(where):
    """Return a validator of a part of the schema."""
    return Draft202012Validator({**where, "$defs": validator().schema["$defs"]})


def refs(value):
    """Return the references in a schema."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    found = set().union(*map(refs, inside))
    return found | ({value["$ref"]} if isinstance(value, dict) and "$ref" in value else set())


# -- every key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part, name, key", KEYS, ids=[f"{part.name}.{name}" for part, name, _ in KEYS])
def test_a_key_has_a_sentence_and_an_example_that_its_reader_and_the_schema_take(part, name, key):
    assert re.fullmatch(r"[A-Z\"`].*[^.]\.", key.about), "one sentence"
    assert key.read.words
    if name == "network":  # the graph itself, in the record of a run
        return
    assert key.example is not None
    if "$ref" not in key.read.schema:  # else the reader of a larger thing looks at it
        key.read(key.example)
    assert of(key.read.schema).is_valid(key.example)
    if key.default not in (None, "", (), {}, []):
        key.read(plain(key.default))
        assert of(key.read.schema).is_valid(plain(key.default))
    assert not (key.needed and (key.otherwise or key.default)) or part.name == "collective"


def test_the_examples_of_the_top_are_a_scenario():
    form = {part.name: part.form for part in parts()}
    example = {name: key.example for name, key in form["scenario"].items() if name not in ("program", "code")}
    assert load(example).workload.batch == 512 and valid(example)
    bare = {name: form["scenario"][name].example for name in ("program", "chip", "topology")}
    assert load(bare).program and valid(bare)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_examples_of_a_network_by_name_are_read(name):
    form = named_form(name)
    document = {"topology": {"kind": name, **{key: one.example for key, one in form.items() if one.needed or key == "chips"}},
                "chip": "tpu-v4", "program": [{"name": "a", "flops": 1}]}
    document["topology"] |= {"fat_tree": {"down": [16, 8], "chips": 128}, "boardfly": {"groups": 2}}.get(name, {})
    assert load(document).net.chips and valid(document)


def test_the_examples_of_a_table_are_read():
    form = {part.name: part.form for part in parts()}
    table = {name: key.example for name, key in form["table"].items()}
    found = read_table(table, ("x", "y", "z"))
    assert found.keys() == table.keys() and str(found["residual"].used) == "B L E_x"
    assert read_table({**table, "w_in": {name: key.example for name, key in form["path"].items()}}, ("x", "y", "z"))
    with pytest.raises(Misread):
        read_table({**table, "w_in": "F E"}, ("x", "y", "z"))
    assert not of(form["table"]["w_in"].read.schema).is_valid("F E")


def test_an_algorithm_is_one_of_its_kind():
    def program(**collective):
        return {"chip": "tpu-v4", "topology": {"shape": [4]}, "program": [{"name": "a", "axes": "x", "bytes": 1, **collective}]}
    for kind, names in ALGORITHMS.items():
        assert all(valid(program(collective=kind, algorithm=name)) for name in (*names, "mine:star"))
    assert not valid(program(collective="all_to_all", algorithm="multi_axis"))
    assert valid(program(collective="all_gather", algorithm="multi_axis"))


# -- files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", SCENARIOS, ids=[str(file.relative_to(ROOT)) for file in SCENARIOS])
def test_every_scenario_is_valid(file):
    assert [(error.json_path, error.message) for error in validator().iter_errors(files.read(file).value)] == []


@pytest.mark.parametrize("seed", range(20))
def test_a_random_scenario_and_its_record_are_valid(seed):
    rng = random.Random(seed)
    document = random_files.document(rng)
    assert valid(document)
    assert valid(plain(random_files.whole(seed).resolved))


@pytest.mark.parametrize("file", BAD, ids=[file.stem for file in BAD])
def test_a_file_with_an_unknown_key_or_a_wrong_type_is_not_valid(file):
    assert not valid(files.read(file, "scenario").value)


def places(value, path=()):
    """Return the paths of all mappings in plain data whose keys are those of a form."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    named = path[-1:] in [("at",), ("mesh",)] or "twist" in path
    found = [path] if isinstance(value, dict) and not named else []
    return found + [one for key, part in inside for one in places(part, (*path, key))]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_broken_at_random_is_refused_by_the_reader_and_by_the_schema(seed):
    rng = random.Random(seed)
    document = files.read(rng.choice([file for file in SCENARIOS if "pod" not in file.stem])).value
    broken = copy.deepcopy(document)
    path = rng.choice(places(broken))
    target = broken
    for key in path:
        target = target[key]
    wrong = rng.choice(["unknown", "null", "type"])
    key = rng.choice([*target]) if wrong != "unknown" else "qzx"
    if "kind" in target and wrong == "unknown" and ":" in str(target["kind"]):
        return  # it would be an argument of a function
    target[key] = None if wrong == "null" else {"qzx": [{"qzx": {}}]}
    assert not valid(broken), (path, key)
    with pytest.raises(ScenarioError):
        load(broken, code="never")


@settings(max_examples=60, deadline=None)
@given(st.one_of(
    st.from_regex(r"\A ?[-+]?[0-9]{0,2}\.?[0-9]{0,2}(e-?[0-9])? ?[kKMGTPEmunµ]?i?(B|bit|s|FLOP)?(/s)? ?\Z"), st.text(max_size=6)),
    st.sampled_from(["B", "s", "B/s", "FLOP/s", "FLOP"]))
def test_the_pattern_of_a_quantity_takes_what_is_read(text, unit):
    try:
        units.read(text, unit)
        sound = True
    except TorusSimError:
        sound = False
    negative_zero = bool(re.match(r"\s*-", text))
    assert bool(re.search(units.pattern(unit), text)) == (sound and not negative_zero)


# -- the schema itself --------------------------------------------------------------------------------------------------


def test_every_reference_leads_to_a_part_and_every_part_is_used():
    made = schema()
    assert refs(made) == {f"#/$defs/{name}" for name in made["$defs"]}


def test_names_of_presets_are_known_and_a_path_can_be_a_model():
    def scenario(**changes):
        return {"model": "palm-540b", "chip": "tpu-v4", "topology": {"shape": [2]}, "workload": {
            "phase": "decode", "batch": 1, "context": 1}, **changes}
    assert all(valid(scenario(model=name)) for name in preset_names("models"))
    assert all(valid(scenario(chip=name)) for name in preset_names("chips"))
    assert valid(scenario(model="models/config.json")) and valid(scenario(model={"base": "config.json", "layers": 2}))
    assert not valid(scenario(model="palm-541b")) and not valid(scenario(chip="config.json"))
    assert not valid(scenario(model={"layers": 2})) and not valid(scenario(chip={"links": 2}))


def test_a_scenario_of_objects_of_python_is_valid_as_a_file_and_as_a_record():
    made = torussim.Scenario(chip=torussim.chip("tpu-v4", links=4), topology=torussim.ring(4, bandwidth=45e9),
                             program=[{"name": "a", "collective": "all_gather", "axes": "x", "bytes": 1e6}])
    assert valid(plain(made.document.value)) and valid(plain(made.resolved))
    assert made.document.value["topology"]["kind"] == "graph"


def test_the_command_prints_the_schema():
    done = CliRunner().invoke(cli, ["schema"])
    assert done.exit_code == 0 and json.loads(done.output) == schema()
