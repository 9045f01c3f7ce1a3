"""What README and the pages that it leads to show runs: examples, scenarios, commands, messages, figures of tables."""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import torussim
from torussim import report, run
from torussim.cli import cli
from torussim.errors import ScenarioError
from torussim.scenario import load
from torussim.units import show

ROOT = Path(__file__).resolve().parent.parent
README, INDEX, BAD_DAY, VALIDATION, PLAN, BLAME, PERFORMANCE = (
    (ROOT / name).read_text() for name in ("README.md", *(
        f"docs/{page}.md" for page in ("index", "bad_day", "validation", "plan", "blame", "performance"))))


def blocks(text, language):
    return [found for name, found in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S) if name == language]


def test_readme_is_short():
    assert len(README.splitlines()) <= 130


def test_the_python_example_runs_and_has_eleven_lines(monkeypatch, capsys):
    (code,) = blocks(INDEX, "python")
    monkeypatch.chdir(ROOT)
    exec(compile(code, "index.md", "exec"), {})
    assert "a decode step takes" in capsys.readouterr().out.lower()
    assert len([line for line in code.splitlines() if line.strip()]) == 11


def test_the_scenario_shown_is_the_one_that_ships():
    import ruamel.yaml

    (shown,) = blocks(INDEX, "yaml")
    read = ruamel.yaml.YAML(typ="safe", pure=True).load
    assert read(shown) == read((ROOT / "scenarios" / "palm-540b-decode-slow-link.yaml").read_text())


def test_the_first_two_shell_lines_set_up_and_run():
    first, second = "".join(blocks(README, "sh")).splitlines()[:2]
    assert "pip install" in first and re.search(r"torussim run (scenarios/\S+)", first)
    assert (ROOT / re.search(r"torussim run (scenarios/\S+)", first)[1]).exists()
    assert "pip install" in second and second.endswith("-m pytest")


def test_the_scenario_of_readme_takes_the_times_that_readme_says(tmp_path):
    (shown,) = blocks(README, "yaml")
    assert len(shown.splitlines()) <= 10
    file = tmp_path / "mine.yaml"
    file.write_text(shown)
    result, (worst,) = (found := run(file)), found.keys["faults"]["worst"]
    said = re.search(r"A step takes ([\d.]+) ms, and ([\d.]+) ms without the slow link\. With that link out of use it "
                     r"takes ([\d.]+) ms\. The plan finds a layout that takes ([\d.]+) ms", " ".join(README.split()))
    times = (result.step_s * 1e3, worst["step_s"] * 1e3, worst["as_dead"]["step_s"] * 1e3,
             torussim.plan(file).pick.keys["step_s"] * 1e3)
    for time, text in zip(times, said.groups(), strict=True):
        assert time == pytest.approx(float(text), abs=0.51 * 10.0 ** -len(text.partition(".")[2])), text


def test_every_command_is_in_the_table():
    listed = re.findall(r"^\| `torussim (\w+)", INDEX, re.M)
    assert set(cli.commands) <= set(listed)
    for command in listed:
        assert CliRunner().invoke(cli, [command, "--help"]).exit_code == 0


def test_the_mistakes_shown_are_what_is_said(tmp_path):
    (shown,) = [block for block in blocks(INDEX, "") if block.startswith("broken.yaml")]
    file = tmp_path / "broken.yaml"
    file.write_text("model: palm-54b\nchip: tpu-v4\ntopology:\n  bandwidth: fast\n  shape: [4, 4, 4]\n"
                    "workload: {phase: decode, batch: 512, context: 2048}\n")
    with pytest.raises(ScenarioError) as error:
        load(file)
    assert [str(m).replace(str(file), "broken.yaml") for m in error.value.mistakes] == shown.strip().splitlines()


def test_the_lines_of_the_plan_shown_are_what_is_said():
    said = " ".join(repr(torussim.plan(ROOT / "scenarios" / "plan-slow-link.yaml")).split())
    (shown,) = [block for block in blocks(PLAN, "") if block.startswith("Take")]
    for paragraph in shown.split("\n\n"):
        assert " ".join(paragraph.split()) in said


def test_the_line_of_the_report_shown_is_what_is_said():
    (shown,) = [block for block in blocks(BLAME, "") if block.startswith("scatter_hidden_q")]
    assert " ".join(shown.split()) in " ".join(report.text(
        run(ROOT / "scenarios" / "palm-540b-decode-64-chips.yaml"), verbose=True).split())


def test_the_keys_that_name_the_slow_link_have_the_values_shown():
    keys = run(ROOT / "scenarios" / "palm-540b-decode-slow-link.yaml").keys
    rows = re.findall(r"^\| `([^`]+)` \| (.+?) \|", BLAME, re.M)
    assert len(rows) == 6
    for path, shown in rows:
        found = keys
        for part in re.findall(r"\w+", path):
            found = found[int(part) if part.isdigit() else part]
        if isinstance(found, float):
            assert f"{found:.3g}" == f"{float(shown):.3g}", path
        else:
            assert shown == f"from {tuple(found['from'])} to {tuple(found['to'])}, busy {found['busy']:.3g}"


def shown_steps():
    """Return the scenarios of the table of validation with the time of a step that it shows, in seconds."""
    rows = re.findall(r"^\| `(palm-540b-decode-[\w-]+)`.*?\| (?:[\d.]+ ms \| )?([\d.]+) ms \|", VALIDATION, re.M)
    return [(name, float(milliseconds) / 1e3) for name, milliseconds in rows]


@pytest.mark.parametrize("name, shown", shown_steps())
def test_the_steps_in_the_tables_are_what_is_simulated(name, shown):
    found = run(ROOT / "scenarios" / f"{name}.yaml", overrides=["workload.tokens=1"]).step_s
    assert found == pytest.approx(shown, rel=0.005), f"{name} takes {found * 1e3:.3g} ms"


def test_the_figures_of_readme_are_those_of_the_pages():
    """A figure of the tables of accuracy and speed is one of the page that the table links to."""
    accuracy, speed = (README.split(f"## {heading}\n")[1].split("\n## ")[0] for heading in ("How accurate", "How fast"))
    for figure in ("3.2 %", "+11.2 %", "3.6 %", "-11.8 %", "52 %", "-80 %"):
        assert figure in accuracy and figure in VALIDATION
    times = re.findall(r"\| ([\d.]+ m?s) \|$", speed, re.M)
    assert len(times) == 6 and all(f"| {time} |" in PERFORMANCE for time in times)


@pytest.mark.parametrize("file, points, mean, worst", [
    ("palm-540b-tpu-v4", 31, "3.2 %", "+11.2 %"), ("llama-70b-h200", 22, "2.0 %", "-6.7 %"),
    ("llama-v6e", 3, "6.4 %", "+15.8 %"), ("nccl-h100", 80, "9.4 %", "-56.8 %"), ("tpu-v7x", 5, "0.7 %", "-1.5 %"),
    ("tpu-v5e", 2, "5.7 %", "-11.4 %")])
def test_the_accuracy_in_readme_is_what_validate_says(file, points, mean, worst):
    said = json.loads(CliRunner().invoke(cli, ["validate", file, "--json"]).output)["all"]["simulated"]
    assert (f"{said['mape']:.1%}", f"{said['worst']:+z.1%}") == (mean.replace(" %", "%"), worst.replace(" %", "%"))
    assert re.search(rf"^\| .*\b{points}\b.* \| {mean} \| {re.escape(worst)} \|$", README, re.M)


NETWORKS = re.findall(r"^\| `(network-[\w-]+)`.*?\| ([\d.]+ ms) \| ([\d,]+) \| (\d+) % \|", BAD_DAY, re.M)


@pytest.mark.parametrize("name, step, tokens, waiting", NETWORKS)
def test_the_table_of_networks_is_what_is_simulated(name, step, tokens, waiting):
    found = run(ROOT / "scenarios" / f"{name}.yaml")
    share = found.breakdown_s["exposed_collective"] / found.step_s
    assert (show(found.step_s, "s"), f"{found.tokens_per_s:,.0f}", f"{share:.0%}") == (step, tokens, f"{waiting}%")


def test_the_tables_have_every_network():
    assert {name for name, *_ in NETWORKS} == {
        file.stem for file in (ROOT / "scenarios").glob("network-*.yaml")}


def test_every_dependency_has_its_reason():
    import configparser

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    reasons = (ROOT / "docs" / "design.md").read_text().split("## 9. What it is built on")[1]
    for line in setup["options"]["install_requires"].split():
        name = re.split(r"[><=]", line)[0]
        assert re.search(rf"^\| {re.escape(name)} ", reasons, re.M), f"docs/design.md does not say why {name} is needed"
