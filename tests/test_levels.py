"""The rooms and the arrows between them: a module imports only from modules below it (docs/design.md, section 3)."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent / "torussim"
LEVELS = """
cli
display
page
compare plot listing export reference
sweeps
planner
apart
report differences
validate calibrate
cases
measurements
measured
answer fault_draws
fault_result
fault_sets
keys tally
scenario
result
analysis
repairs
critical_path
fronts
engine
lower_bound
cuts
sensitivity
padding as_run
closed_forms
choice
places
clock
outlines
prices
memory alike
transformer
attending
drafting
keeping
head_split
mixture ends
tensors periods
messages
collectives.lower
collectives.playback
collectives.unequal
collectives.steps
collectives.rooted
collectives.axes
collectives.lines
collectives.rings
collectives.form
cost
layouts kernels pipeline
chakra
program
collectives.contract
topology
workload
timeline models sharding
configs clashes
alternatives quantised
model_fields
chips
chip_fields
sourced
points
edits trust executors journal rows
resolve files described docstrings result_keys
units tables spelling interpolation shown
errors
"""
ORDER = [line.split() for line in LEVELS.splitlines() if line]
INSIDE = {
    "planner": ["search", "shapes", "misses", "plans", "words", "unit", "streams", "shardings", "parts", "bounds", "roles",
                "pricing", "space", "candidates", "meshes"],
    "page": ["document", "recorded", "beside", "planned", "details", "sections", "charts", "lanes", "links", "run", "html"],
    "cli": ["report", "simulate", "exports", "plan", "faults", "sweep", "measure", "blame", "schema", "look",
            "completion", "common"],
    "measured": ["verdict", "words", "search", "observed", "likelihood", "model", "times"],
    "chakra": ["program", "schema"],
    "export": ["perfetto", "chakra", "tables", "shown", "events", "counters", "spelled", "facts"],
    "report": ["causes", "details", "headline", "phrases"],
    "plot": ["validation", "front", "ranking", "faults", "chart", "cells", "links", "sheet", "timeline", "panel", "key", "tree",
             "graph", "spread", "slices", "marks", "canvas", "network", "ranks", "view", "labels"],
    "scenario": ["parts", "shorter", "read", "sections", "given", "workload", "balance", "layout", "network", "program",
                 "chakra_program", "groups", "planning", "tracing", "pipeline", "mesh", "named", "links", "graph_file", "notes",
                 "keyed", "forms", "values"],
    "engine": ["simulate", "prepared", "shared_run", "unsent", "event_core", "run_state", "steady_state", "network_model",
               "max_min", "settle", "net", "heap", "jit", "schedule_table", "max_plus", "routed", "plan", "reach", "ready",
               "symmetry"],
    "topology": ["named", "graph_files", "astra_sim", "graphml", "node_link", "raw_graph", "trees", "builders", "placing",
                 "networks", "faults", "links", "movement", "hops", "grid", "rings", "routing", "minimal", "dimension",
                 "stretched", "shortest", "flows", "slices", "cables", "check", "shape", "routes", "labels"],
}
DOORS = {"simpy": {"engine.simulate"}, "matplotlib": {"plot.canvas"}, "click": {"cli"}, "ruamel": {"files"}, "yaml": {"files"},
         "numba": {"engine.jit"}, "distributed": {"executors"}, "pyarrow": {"rows"}, "bokeh": {"page.charts"},
         "google": {"chakra.schema"}}


def modules():
    return sorted(str(p.relative_to(ROOT).with_suffix("")).replace("/", ".") for p in ROOT.rglob("*.py"))


def level(module):
    """Return the line of a module in the list; a package's modules stand where the package stands."""
    for i, names in enumerate(ORDER):
        if any(module == name or module.startswith(name + ".") for name in names):
            return i
    return None


@cache
def imports(module):
    """Return what a module imports of torussim and of others, also inside functions; not for type checkers alone."""
    tree = ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text())
    typing_only = {id(n) for branch in ast.walk(tree) if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.dump(branch.test)
                   for n in ast.walk(branch)}
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "torussim" or (ROOT / node.module.removeprefix("torussim.").replace(".", "/")).is_dir():
                found += [f"{node.module}.{a.name}" for a in node.names]
            else:
                found.append(node.module)
    return found


def test_every_module_has_a_level():
    lost = [m for m in modules() if level(m) is None and not m.endswith("__init__") and m != "__main__"]
    assert not lost


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_from_modules_below_it(module):
    mine = level(module)
    if mine is None:
        return
    for name in imports(module):
        if not name.startswith("torussim."):
            continue
        other = name.removeprefix("torussim.")
        theirs = level(other)
        assert theirs is not None, f"{module} imports {other}, which has no level"
        package = other.split(".")[0]
        if module == f"{package}.__init__":
            continue
        if package in INSIDE and module.split(".")[0] == package and "." in other:
            order = INSIDE[package]
            below = order.index(other.split(".")[1]) > order.index(module.split(".")[1])
            assert below, f"{module} imports {other}, which is above it"
        elif module != package:
            assert theirs > mine, f"{module} imports {other}, which is not below it"


@pytest.mark.parametrize("library", DOORS)
def test_a_library_has_one_door(library):
    users = {m if m in DOORS[library] else m.split(".")[0] if m.split(".")[0] in DOORS[library] else m
             for m in modules() if any(n.split(".")[0] == library for n in imports(m))}  # a door can be a package
    assert users == DOORS[library]


def test_no_module_has_the_name_of_a_public_verb():
    import torussim

    names = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert not names & set(torussim.__all__)
    assert type(torussim) is type(ast), "the module is a plain module"
