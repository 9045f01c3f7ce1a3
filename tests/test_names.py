"""Names decide nothing: a layout, model or chip under another name gives the same times, memory and operations."""

import ast
import json
from itertools import product
from pathlib import Path

import pytest
from thinned import thinned

from torussim import layouts, run
from torussim.errors import ScenarioError
from torussim.layouts import LAYOUTS
from torussim.scenario import load
from torussim.scenario.layout import describe_path
from torussim.transformer import Builder
from torussim.workload import passes

MODEL = {"base": "palm-540b", "layers": 2}
MINE = """
from torussim.layouts import LAYOUTS

def made(sizes, called):
    return LAYOUTS[called](sizes)
"""


def scenario(ffn, shape, attention, **more):
    return {"name": "names", "model": MODEL, "chip": "tpu-v4", "topology": {"kind": "torus", "shape": shape},
            "layout": {"ffn": ffn, "attention": attention, **more},
            "workload": {"phase": "decode", "batch": 128, "context": 2048, "tokens": 1}}


def answer(given, folder):
    """Return the times, memory and operations of a scenario file."""
    file = folder / "scenario.yaml"
    file.write_text(json.dumps(given))
    keys = run(file).keys
    return [keys[key] for key in ("step_s", "memory", "operations", "breakdown_s", "estimate", "links", "range_s")]


def written_out(given):
    """Return the table of a named layout, as a file can have it."""
    made = load(given)
    axes = {axis: made.net.length(axis) for axis in made.net.axes}
    builder = Builder(made.model, made.layouts["decode"], passes(made.workload)[0], axes)
    sizes = builder.sizes
    return {key: describe_path(value) if not isinstance(value, str | list | dict) else value
            for key, value in LAYOUTS[given["layout"]["ffn"]](sizes).items()}


CASES = list(product(LAYOUTS, [[4, 4, 8], [2, 4, 2]], ["heads", "batch", "sequence"]))


@pytest.mark.parametrize("name, shape, attention", thinned(CASES, 5))
def test_a_layout_is_the_same_under_another_name_as_a_table_and_from_a_function(name, shape, attention, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.setitem(layouts.LAYOUTS, "renamed", LAYOUTS[name])
    named = scenario(name, shape, attention)
    same = [scenario("renamed", shape, attention), scenario(written_out(named), shape, attention),
            scenario("mine:made", shape, attention, called=name)]
    wanted = answer(named, tmp_path)
    assert all(answer(one, tmp_path) == wanted for one in same)


def test_longest_makes_a_logical_axis_of_the_longest_axis_of_the_network(tmp_path):
    named = scenario("ws1d_code", [4, 4, 8], "heads")
    table = written_out(named)
    without = {key: value for key, value in table.items() if key != "longest"}
    turned = scenario(without, [4, 4, 8], "heads", mesh={"x": ["z"], "y": ["y"], "z": ["x"]})
    assert answer(turned, tmp_path) == answer(scenario(table, [4, 4, 8], "heads"), tmp_path) == answer(named, tmp_path)
    assert answer(scenario(without, [4, 4, 8], "heads"), tmp_path) != answer(named, tmp_path)


def test_heads_of_a_table_pads_heads_to_the_number_of_chips(tmp_path):
    """On 256 chips PaLM's 48 heads are padded to 128, if the layout does not need more."""
    table = written_out(scenario("ws1d_code", [4, 8, 8], "heads"))
    padded = answer(scenario(table, [4, 8, 8], "heads"), tmp_path)
    assert table.pop("heads") == "chips"
    assert answer(scenario(table, [4, 8, 8], "heads"), tmp_path) != padded == answer(
        scenario("ws1d_code", [4, 8, 8], "heads"), tmp_path)


@pytest.mark.parametrize("key, value, said", [
    ("heads", "all", "'all' is not a padding of heads"), ("longest", "q", "'q' is not a logical axis: the mesh has x, y, z")])
def test_a_choice_that_there_is_not_is_a_mistake_at_its_place(key, value, said):
    table = {**written_out(scenario("ws1d_code", [2, 4, 2], "heads")), key: value}
    with pytest.raises(ScenarioError, match=said):
        load(scenario(table, [2, 4, 2], "heads"))


def test_names_of_models_and_chips_decide_nothing(tmp_path):
    given = scenario("ws2d_code", [2, 4, 2], "batch")
    renamed = {**given, "model": {**MODEL, "name": "other"}, "chip": {"base": "tpu-v4", "name": "other"}}
    assert answer(renamed, tmp_path) == answer(given, tmp_path)


def test_no_function_of_layouts_knows_the_name_of_a_layout():
    """The names stand in LAYOUTS and FORMULA alone, which are data, and as the default of a scenario."""
    tree = ast.parse(Path(layouts.__file__).read_text())
    inside = [node.value for function in ast.walk(tree) if isinstance(function, ast.FunctionDef)
              for node in ast.walk(function) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert len(inside) > 100 and not {*LAYOUTS} & {*inside} and not any("_code" in text for text in inside if " " not in text)
