"""What README shows runs: its Python example, its scenario, its commands, its messages."""

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
README = (ROOT / "README.md").read_text()


def blocks(language):
    return [text for name, text in re.findall(r"^```(\w*)\n(.*?)^```$", README, re.M | re.S) if name == language]


def test_the_python_example_runs_and_has_eleven_lines(monkeypatch, capsys):
    (code,) = blocks("python")
    monkeypatch.chdir(ROOT)
    exec(compile(code, "README.md", "exec"), {})
    assert "a decode step takes" in capsys.readouterr().out
    assert len([line for line in code.splitlines() if line.strip()]) == 11


def test_the_scenario_shown_is_the_one_that_ships():
    import ruamel.yaml

    (shown,) = blocks("yaml")
    read = ruamel.yaml.YAML(typ="safe", pure=True).load
    assert read(shown) == read((ROOT / "scenarios" / "palm-540b-decode-slow-link.yaml").read_text())


def test_the_first_two_shell_lines_set_up_and_run():
    first, second = "".join(blocks("sh")).splitlines()[:2]
    assert "pip install" in first and re.search(r"torussim run (scenarios/\S+)", first)
    assert (ROOT / re.search(r"torussim run (scenarios/\S+)", first)[1]).exists()
    assert "pip install" in second and second.endswith("-m pytest")


def test_every_command_of_the_table_is_there():
    for command in re.findall(r"^\| `torussim (\w+)", README, re.M):
        assert CliRunner().invoke(cli, [command, "--help"]).exit_code == 0


def test_the_mistakes_shown_are_what_is_said(tmp_path):
    (shown,) = [b for b in blocks("") if b.startswith("broken.yaml")]
    file = tmp_path / "broken.yaml"
    file.write_text("model: palm-54b\nchip: tpu-v4\ntopology:\n  bandwidth: fast\n  shape: [4, 4, 4]\n"
                    "workload: {phase: decode, batch: 512, context: 2048}\n")
    with pytest.raises(ScenarioError) as error:
        load(file)
    assert [str(m).replace(str(file), "broken.yaml") for m in error.value.mistakes] == shown.strip().splitlines()


def test_the_lines_of_reports_shown_are_what_is_said():
    """A line that is longer than README's goes on in the next one; those that begin with two spaces are lines of their own."""
    shown = [block for block in blocks("") if not block.startswith("broken.yaml")]
    assert len(shown) == 3
    plan = " ".join(repr(torussim.plan(ROOT / "scenarios" / "plan-slow-link.yaml")).split())
    (planned,) = [block for block in shown if block.startswith("Take")]
    for paragraph in planned.split("\n\n"):
        assert " ".join(paragraph.split()) in plan
    shown.remove(planned)
    for block, name in zip(shown, ("64-chips", "slow-link")):
        said = " ".join(report.text(run(ROOT / "scenarios" / f"palm-540b-decode-{name}.yaml"), verbose=True).split())
        for line in block.split("\n  "):
            assert " ".join(line.split()) in said


def shown_steps():
    """Return the scenarios of README's tables with the time of a step that it shows, in seconds."""
    rows = re.findall(r"^\| `(palm-540b-decode-[\w-]+)`.*?\| (?:[\d.]+ ms \| )?([\d.]+) ms \|", README, re.M)
    return [(name, float(milliseconds) / 1e3) for name, milliseconds in rows]


@pytest.mark.parametrize("name, shown", shown_steps())
def test_the_steps_in_the_tables_are_what_is_simulated(name, shown):
    found = run(ROOT / "scenarios" / f"{name}.yaml", overrides=["workload.tokens=1"]).step_s
    assert found == pytest.approx(shown, rel=0.005), f"{name} takes {found * 1e3:.3g} ms"


NETWORKS = re.findall(r"^\| `(network-[\w-]+)`.*?\| ([\d.]+ ms) \| ([\d,]+) \| (\d+) % \|", README, re.M)


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
    for line in setup["options"]["install_requires"].split():
        name = re.split(r"[><=]", line)[0]
        assert re.search(rf"^\| {re.escape(name)} ", README, re.M), f"README does not say why {name} is needed"
