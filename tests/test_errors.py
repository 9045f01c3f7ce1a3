"""What programs can rely on in a mistake: its code and its path. Its text is for people, and nothing of ours reads it."""

import ast
import inspect
import pickle
from importlib import import_module
from pathlib import Path

import networkx as nx
import pytest

import torussim
from torussim import errors, trust
from torussim.chips import chip
from torussim.errors import CODES, Found, ModelError, ProgramError, ScenarioError, ShardingError, TopologyError, TorusSimError
from torussim.layouts import Layout
from torussim.models import model
from torussim.program import Collective, Compute, Program, check_program, mistakes
from torussim.scenario import load
from torussim.scenario.values import Misread
from torussim.sharding import Sharding, divide
from torussim.topology.builders import torus
from torussim.topology.links import LinkChange, change_later, change_links
from torussim.transformer import build
from torussim.workload import Forward

PACKAGE = Path(torussim.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
BAD = [p for p in sorted((Path(__file__).parent / "bad").iterdir()) if p.is_file() and b"# expect " in p.read_bytes()]
KINDS = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, TorusSimError)]


# -- nothing reads a text -----------------------------------------------------------------------------------------------

OF_TEXT = ("startswith", "endswith", "removeprefix", "removesuffix", "find", "rfind", "index", "count", "partition", "rpartition")
OF_PATTERN = ("match", "fullmatch", "search", "findall", "finditer", "split", "sub")
TEXTS = ("args", "text", "reason", "msg", "problem", "context")  # attributes of a mistake, or of others' errors
BORROWED = {"_problem"}  # ruamel says what is wrong in words alone; files.py makes better ones of them, and no place


class _Reader(ast.NodeVisitor):
    """Gathers where a function searches the text of an exception, or of a mistake."""

    def __init__(self, function):
        arguments = [a.arg for a in [*function.args.args, *function.args.kwonlyargs]]
        self.raised = {a for a in arguments if a in ("error", "wrong", "mistake")}
        self.texts = {a for a in arguments if a in ("reason", "message")}
        self.lines = []
        body = list(ast.walk(function))
        self.raised |= {node.name for node in body if isinstance(node, ast.ExceptHandler) and node.name}
        for node in body:
            if isinstance(node, ast.For | ast.comprehension):
                named = [n.id for n in ast.walk(node.target) if isinstance(n, ast.Name)]
                self.texts |= {name for name in named if name in ("reason", "message") or (len(named) > 1 and name == "text")}
        for _ in range(2):
            for node in body:
                if isinstance(node, ast.Assign) and self.is_text(node.value):
                    self.texts |= {n.id for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
        self.visit(function)

    def is_text(self, node):
        """Return whether an expression has the text of something raised, and not its data alone."""
        if isinstance(node, ast.Name):
            return node.id in self.texts
        if isinstance(node, ast.Attribute):
            return node.attr in TEXTS or (self.is_text(node.value) and not isinstance(node.value, ast.Name))
        inside = list(ast.iter_child_nodes(node))
        if isinstance(node, ast.Call):
            says = isinstance(node.func, ast.Name) and node.func.id in ("str", "repr")
            if says and any(isinstance(a, ast.Name) and a.id in self.raised for a in node.args):
                return True
            inside = [*node.args, *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
        if isinstance(node, ast.FormattedValue) and isinstance(node.value, ast.Name) and node.value.id in self.raised:
            return True
        return any(self.is_text(child) for child in inside)

    def visit_Compare(self, node):
        if isinstance(node.ops[0], ast.In | ast.NotIn | ast.Eq | ast.NotEq):
            self.note(node, [node.left, *node.comparators])

    def visit_Call(self, node):
        if isinstance(node.func, ast.Attribute) and node.func.attr in OF_TEXT:
            self.note(node, [node.func.value])
        if isinstance(node.func, ast.Attribute) and node.func.attr in OF_PATTERN and node.args:
            self.note(node, [node.func.value, *node.args])
        self.generic_visit(node)

    def note(self, node, parts):
        self.lines += [node.lineno] if any(self.is_text(part) for part in parts) else []


def searches(source):
    """Return the lines on which a module searches a text of a mistake."""
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    return [line for one in functions if one.name not in BORROWED for line in _Reader(one).lines]


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_module_searches_the_text_of_a_mistake(module):
    assert searches(module.read_text()) == []


@pytest.mark.parametrize("body", [
    "number = re.match('change', str(error))",
    "found = 'is not a field' in f'{error}'",
    "text = str(error)\n        place = text.startswith('B of ')",
    "reason = error.args[0]\n        place = LETTERS.match(reason)",
    "place = [one for one in stations if one in error.reason]",
    "place = error.found[0].text.removeprefix('event 1')",
])
def test_a_search_of_a_text_is_found(body):
    assert searches(f"def f():\n    try:\n        g()\n    except TorusSimError as error:\n        {body}\n") != []
    assert searches("def place(path, reason):\n    return path if 'axis' in reason else ()\n") != []
    assert searches("def f(found):\n    for path, text in found:\n        note(path, 'is not a field' in text)\n") != []
    data = "error.path[0] in table or error.code == 'clash'"
    assert searches(f"def f():\n    try:\n        g()\n    except E as error:\n        return {data}") == []


def reword(patch):
    """Let every text of a mistake read backwards."""
    made, found = TorusSimError.__init__, Found.__init__
    patch.setattr(TorusSimError, "__init__", lambda self, text, **data: made(self, text[::-1], **data))
    patch.setattr(Found, "__init__", lambda self, path, text, *rest, **data: found(self, path, text[::-1], *rest, **data))


def told(file):
    with pytest.raises(ScenarioError) as caught:
        load(file)
    return caught.value.mistakes


@pytest.mark.parametrize("file", BAD, ids=lambda p: p.stem)
def test_a_mistake_in_other_words_has_the_same_place_code_and_path(file):
    before = told(file)
    with pytest.MonkeyPatch.context() as patch:
        reword(patch)
        after = told(file)
    assert sorted((m.mark, m.code, m.path) for m in after) == sorted((m.mark, m.code, m.path) for m in before)


def test_the_words_of_mistakes_can_be_changed_at_all(monkeypatch):
    file = Path(__file__).parent / "bad" / "divide-own-table.yaml"
    (before,) = told(file)
    reword(monkeypatch)
    (after,) = told(file)
    assert after.text != before.text


# -- codes --------------------------------------------------------------------------------------------------------------


def test_every_code_in_the_source_is_in_the_list_and_every_one_in_the_list_is_used():
    trees = [ast.parse(module.read_text()) for module in MODULES]
    named = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "code"}
    defaults = {default for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)
                for argument, default in zip(reversed(node.args.args), reversed(node.args.defaults)) if argument.arg == "code"}
    places = {"Found": 3, "Mistake": 2, "refuse": 1}
    by_place = {call.args[places[call.func.id]] for tree in trees for call in ast.walk(tree) if isinstance(call, ast.Call)
                and isinstance(call.func, ast.Name) and len(call.args) > places.get(call.func.id, 99)}
    texts = {part.value for value in named | defaults | by_place for part in ast.walk(value)
             if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value} - set(trust.CODE)
    assert len(texts) > 10
    assert texts <= set(CODES)
    words = {node.value for tree, module in zip(trees, MODULES) for node in ast.walk(tree) if isinstance(node, ast.Constant)
             and (module.name != "errors.py" or node.value in {kind.code for kind in KINDS})}
    assert set(CODES) <= words, "a code that nothing has"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_error_has_a_code_and_can_be_given_another(kind):
    assert kind.code in CODES
    if kind is not ScenarioError:
        error = kind("no", code="limit", path=("a", 1))
        assert (str(error), error.code, error.path) == ("no", "limit", ("a", 1))
        assert (kind("no").code, kind("no").path) == (kind.code, ())


def every_error():
    """Return an error of every kind that the package defines, with all that it can hold."""
    mark = errors.Mark("f.yaml", 3, 4)
    special = {ScenarioError: ScenarioError([errors.Mistake("no", mark, "limit", ("a", 1)), errors.Mistake("nor this")]),
               ShardingError: ShardingError("no", code="limit", path=("a",), shardings=("B_x L",)).within(("b",), "in b: "),
               trust.Unopened: trust.Unopened("mine:f", Path("/a/mine.py")),
               Misread: Misread(Found(("a",), "no"), Found((), "nor"))}
    for module in MODULES:
        name = ".".join(module.relative_to(PACKAGE.parent).with_suffix("").parts)
        for node in ast.parse(module.read_text()).body:
            kind = getattr(import_module(name), node.name) if isinstance(node, ast.ClassDef) else None
            if kind is not None and issubclass(kind, Exception):
                ours = issubclass(kind, TorusSimError)
                yield special.get(kind) or (kind("no", code="limit", path=("a", 1)) if ours else kind("no"))


@pytest.mark.parametrize("error", list(every_error()), ids=lambda e: type(e).__name__)
def test_every_error_comes_out_of_a_pickle_as_it_went_in(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


def test_every_mistake_in_a_file_has_a_code_of_the_list():
    codes = {m.code for file in BAD for m in told(file)}
    assert codes <= set(CODES) and len(codes) >= 15


def test_who_adds_context_puts_its_path_and_its_words_before_those_of_the_error():
    error = TopologyError("no such axis", path=("axis",)).within((2,), "change 3: ").within(("links",), "the network: ")
    assert (error.path, str(error), error.reason) == (("links", 2, "axis"), "the network: change 3: no such axis", "no such axis")


# -- paths --------------------------------------------------------------------------------------------------------------


def raised(kind, function, *given, **keywords):
    with pytest.raises(kind) as caught:
        function(*given, **keywords)
    return caught.value


def test_a_size_that_does_not_divide_is_told_with_its_dimension_and_sharding():
    error = raised(ShardingError, divide, 6, "B", Sharding.parse("B_x L E"), {"x": 4})
    assert (error.code, error.path, error.shardings) == ("does-not-divide", ("B",), ("B_x L E",))


@pytest.mark.parametrize("batch, changes, path", [(6, {}, ("B",)), (64, {"d_ff": 1001}, ("w_in", "F"))])
def test_a_layout_that_does_not_fit_is_told_with_its_tensor_and_dimension(batch, changes, path):
    layout = Layout("wg_xyz" if "d_ff" not in changes else "ws2d", "batch")
    error = raised(ShardingError, build, model("palm-8b", **changes), layout, Forward("decode", batch, 1, 64),
                   {"x": 4, "y": 4, "z": 4})
    assert error.code == "does-not-divide" and error.path[-len(path):] == path and error.path[0] in ("residual", "w_in")


def test_a_change_of_links_is_told_with_its_index_in_the_order_given():
    graph, good, bad = torus([3, 3], bandwidth=1e9), LinkChange(axis="x", scale=0.5), LinkChange(axis="q", scale=0.5)
    error = raised(TopologyError, change_links, graph, [good, bad, good])
    assert error.path == (1,) and error.reason == "there is no axis 'q'; the axes are x, y"
    assert raised(TopologyError, change_later, graph, [(2.0, good), (1.0, bad), (0.0, good)]).path == (1,)
    assert raised(TopologyError, change_later, graph, [(2.0, bad), (1.0, good)]).path == (0,)


def test_a_mistake_in_a_program_is_told_with_the_operation_and_the_part():
    waits = Compute("m", after=("g", "z"))
    gather = Collective("g", "all_gather", ("q",), 1.0)
    permute = Collective("p", "permute", ("x", "q"), 1.0, shift={"x": 1, "q": 1})
    assert [one.path for one in mistakes((gather, waits, permute), ("x",))] == [(0, "axes"), (1, "after", 1), (2, "shift", "q")]
    error = raised(ProgramError, check_program, Program((), epilogue=(Compute("g"), waits)), ("x",))
    assert (error.code, error.path) == ("unknown-name", ("epilogue", 1, "after", 1))
    assert raised(ProgramError, check_program, Program((Compute("a", after=("a",)),)), ("x",)).code == "cycle"


@pytest.mark.parametrize("kind, make, given, code, path", [
    (TorusSimError, chip, {"base": "tpu-v4", "links": 0}, "value", ("links",)),
    (TorusSimError, chip, {"base": "tpu-v4", "flops": {"bf16": {"value": "fast"}}}, "quantity", ("flops", "bf16", "value")),
    (TorusSimError, chip, {"base": "tpu-v4", "lnks": 6}, "unknown-key", ("lnks",)),
    (TorusSimError, chip, {"base": "tpu-v9"}, "unknown-name", ("base",)),
    (TorusSimError, chip, {"links": 6}, "missing", ()),
    (ModelError, model, {"base": "palm-8b", "kv_heads": 5}, "clash", ("kv_heads",)),
])
def test_fields_of_a_chip_or_model_are_told_with_their_keys(kind, make, given, code, path):
    error = raised(kind, make, given)
    assert (error.code, error.path) == (code, path)


def test_every_mistake_of_a_mapping_is_told_with_its_keys_from_the_top():
    scenario = {"chip": {"base": "tpu-v4", "launch": -1}, "topology": {"shape": [2, 2], "links": [{"axis": "x", "scale": 0.5},
                {"axis": "q", "scale": 2}]}, "program": [{"name": "a", "flops": 1, "after": ["b"]}], "colour": "red"}
    found = raised(ScenarioError, load, scenario).mistakes
    assert {(m.path, m.code) for m in found} == {
        (("chip", "launch"), "quantity"), (("topology", "links", 1, "axis"), "unknown-name"),
        (("program", 0, "after", 0), "unknown-name"), (("colour",), "unknown-key")}


def test_a_network_that_is_cut_in_two_has_a_code():
    graph = nx.DiGraph(axes={"x": 3})
    graph.add_node((2,))
    for one, other in (((0,), (1,)), ((1,), (0,))):
        graph.add_edge(one, other, bandwidth=1e9, latency=0.0)
    from torussim.topology.grid import grid

    assert raised(TopologyError, grid, graph).code == "cut-network"
