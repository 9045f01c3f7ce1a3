"""The notebook runs, and what it shows is what its cells give today.

After a change that moves its numbers: jupyter nbconvert --to notebook --execute --inplace plots/tour.ipynb
"""

import ast
import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parent.parent / "plots" / "tour.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]


def shown(source, names):
    """Return the value of the last expression of a cell, None where it ends with a statement."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None


def test_every_cell_gives_what_the_notebook_shows(monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.chdir(NOTEBOOK.parent)
    names: dict[str, object] = {}
    seen = 0
    for cell in (cell for cell in CELLS if cell["cell_type"] == "code"):
        value = shown("".join(cell["source"]), names)
        (output,) = cell["outputs"] if value is not None else [{"data": {}}]
        text = "".join(output["data"].get("text/plain", ""))
        if isinstance(value, pandas.DataFrame):  # how it is printed is up to the version of pandas
            assert all(str(column) in text for column in value.columns) and len(value) == len(text.splitlines()) - 1
        elif "image/png" in output["data"]:
            assert value._repr_png_()[:4] == b"\x89PNG"
        elif value is not None:
            assert repr(value) == text
            html = getattr(value, "_repr_html_", lambda: "")()
            assert html == "".join(output["data"].get("text/html", ""))
        seen += value is not None
    assert seen == sum(bool(cell.get("outputs")) for cell in CELLS) >= 10


def test_the_notebook_names_nothing_of_the_machine_that_ran_it():
    outputs = [output for cell in CELLS for output in cell.get("outputs", ())]
    assert all(output["output_type"] == "execute_result" for output in outputs)
    text = NOTEBOOK.read_text()
    assert str(NOTEBOOK.resolve().parent.parent) not in text and "/home/" not in text and "/tmp/" not in text
    assert "site-packages" not in text
