"""Pages of reference are as the program makes them, name all that there is, and can be read back."""

import inspect
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

import torussim
from torussim import chip_fields, model_fields
from torussim.cli import cli
from torussim.cli.common import EXIT
from torussim.cli.schema import PAGES, command_line
from torussim.described import Key, plain
from torussim.docstrings import parameters_of, sections_of
from torussim.reference import signature
from torussim.result_keys import KEYS, RUNS
from torussim.scenario import forms, planning
from torussim.scenario.parts import parts

DOCS = Path(__file__).resolve().parent.parent / "docs"


def made(page):
    done = CliRunner().invoke(cli, ["schema", "--markdown", page])
    assert done.exit_code == 0
    return done.output


def text(page):
    return (DOCS / f"{page}.md").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_not_stale(page):
    assert text(page) == made(page), f"torussim schema --markdown {page} > docs/{page}.md"


def test_an_unknown_page_is_a_mistake_that_names_those_that_there_are(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["torussim", "schema", "--markdown", "scenario"])
    with pytest.raises(SystemExit) as ended:
        torussim.cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == "" and all(page in said.err for page in PAGES)


# -- the scenario file --------------------------------------------------------------------------------------------------


def tables():
    """Return the rows of each section of the page of the scenario file, by its title."""
    sections = re.split(r"^## (.*)$", text("scenario_file"), flags=re.M)[1:]
    found = {}
    for title, block in zip(sections[::2], sections[1::2]):
        lines = [re.split(r" (?<!\\)\| ", line[2:-2]) for line in block.splitlines() if line.startswith("|")]
        found[title] = [dict(zip(lines[0], row, strict=True)) for row in lines[2:]]
    return found


def test_every_form_is_a_part_of_the_page():
    forms_of = {name: form for module in (forms, planning) for name, form in vars(module).items()
                if isinstance(form, dict) and form and all(isinstance(key, Key) for key in form.values())}
    assert len(forms_of) > 15
    forms_there = {part.name: set(part.form) for part in parts()}
    there = [set().union(keys, *(forms_there[name] for name in part.beside)) for part, keys in zip(parts(), forms_there.values())]
    there += [keys - {"order"} for keys in there]  # graph files have none
    inside = {"EXPECT", "PHASES", "_PARTS", "_OF_KIND"}  # parts of others, or of a value
    assert not [name for name, form in forms_of.items() if set(form) not in there and name not in inside]
    fields = {path[-1] for path in (*chip_fields.FIELDS, *model_fields.FIELDS)}
    assert fields <= set().union(*there)


def test_every_example_on_the_page_is_yaml_for_the_example_of_its_key():
    rows = tables()
    for part in parts():
        assert [re.sub(r".*`(.*)`", r"\1", row["key"]) for row in rows[part.title]] == list(part.form)
        for row, key in zip(rows[part.title], part.form.values()):
            if key.example is not None:
                example = re.fullmatch(r"`(.*)`", row["example"])[1].replace("\\|", "|")
                read = plain(YAML(typ="safe", pure=True).load(f"key: {example}")["key"])
                assert read == plain(key.example), (part.name, row["key"])


def test_a_key_without_a_unit_has_an_empty_cell_and_a_quantity_has_its_base_unit():
    rows = {row["key"].split("`")[1]: row for row in tables()["topology: a torus, mesh or ring"]}
    assert (rows["bandwidth"]["unit"], rows["latency"]["unit"], rows["shape"]["unit"]) == ("bytes/s", "seconds", "")
    assert tables()["topology"][0]["default"] == "`torus`"


def test_a_key_of_a_result_in_seconds_is_called_so_and_bytes_too():
    last = {key.path: re.split(r"[.\]]", key.path)[-1] for key in KEYS}
    assert {path for path in last if last[path].endswith("_s") and not path.endswith("_per_s")} \
        <= {key.path for key in KEYS if key.unit == "s"} | {"breakdown_s"}
    assert {key.unit for key in KEYS if "bytes" in last[key.path]} == {"B"}
    assert {key.unit for key in KEYS} == {"", "s", "B", "B/s"} and {key.runs for key in KEYS} == set(RUNS)
    assert all(re.fullmatch(r"[A-Z`].*[^.]\.", key.about) or key.path == "expect[].error" for key in KEYS)


# -- the command line ---------------------------------------------------------------------------------------------------


def test_the_page_of_the_command_line_has_every_command_with_every_option():
    sections = dict(zip(*[iter(re.split(r"^## torussim (\w+)$", text("command_line"), flags=re.M)[1:])] * 2))
    assert set(sections) == set(cli.commands)
    for name, command in cli.commands.items():
        options = [option for one in command.params for option in one.opts if option.startswith("-")]
        assert not [option for option in options if f"{option}`" not in sections[name] and f"{option} " not in sections[name]
                    and f"{option}," not in sections[name]]


def test_every_exit_status_of_the_commands_is_on_the_page():
    source = "".join(file.read_text() for file in Path(torussim.__file__).parent.glob("cli/*.py"))
    assert {int(status) for status in re.findall(r"sys\.exit\((\d+)\)", source)} | {0} == set(EXIT)


def test_lines_of_a_help_text_that_stay_as_they_are_and_examples_are_code():
    @click.group()
    def group(): ...

    @group.command(epilog="\b\nExample:\n  torussim one a.yaml\n  torussim one b.yaml")
    @click.option("--of", metavar="DIR", default="out", help="Where to write out/<name>/.")
    def one():
        """Do one thing, and write out/<name>/.

        \b
        a:  first
        b:  second
        """
    page = command_line(group)
    assert "[`one`](#torussim-one) | Do one thing, and write `out/<name>/`. |" in page
    assert "```text\na:  first\nb:  second\n```" in page and "| `--of DIR` | Where to write `out/<name>/`. | `out` |" in page
    assert "Example:\n\n```console\n$ torussim one a.yaml\n$ torussim one b.yaml\n```" in page


# -- Python -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", torussim.__all__)
def test_a_public_function_documents_each_of_its_parameters_and_what_it_returns(name):
    function = getattr(torussim, name)
    documented = parameters_of(function)
    assert list(documented) == list(inspect.signature(function).parameters)
    assert all(len(text.split()) > 1 and text.endswith(".") for text in documented.values())
    sections = sections_of(function)
    assert {"Parameters", "Raises", "Examples"} <= set(sections) and ("Returns" in sections or inspect.isclass(function))
    assert ">>> " in sections["Examples"] and "Error" in sections["Raises"]


def test_parameters_of_a_docstring_are_taken_apart():
    def function(a, b, c, *rest):
        """Return something.

        Parameters
        ----------
        a : int
            The first,
            on two lines.
        b, c
            Both.
        *rest
            Others.

            In two paragraphs.

        Returns
        -------
        int
            Nothing.
        """
    assert parameters_of(function) == {"a": "The first, on two lines.", "b": "Both.", "c": "Both.",
                                       "rest": "Others. In two paragraphs."}
    assert sections_of(function)["Returns"] == "int\n    Nothing."


def test_a_signature_reads_as_in_the_source():
    def short(a: "int", *, b: "str | None" = None) -> "float": ...

    def long(first: "Mapping[str, Sequence[float]]", second: "Mapping[str, Sequence[float]]", /, third: "str" = "x", *,  # noqa: F821
             fourth: "bool" = False) -> "None": ...
    assert signature("short", short) == "short(a: int, *, b: str | None = None) -> float"
    lines = signature("long", long).splitlines()
    assert lines[2:] == ["    second: Mapping[str, Sequence[float]],", "    /,", "    third: str = 'x',", "    *,",
                         "    fourth: bool = False,", ") -> None"]
