"""Every command of the tutorial and of the worked models prints what its page shows (`python docs/outputs.py` renews it)."""

import json
import re
import sys
from pathlib import Path

import pytest

import torussim

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
import outputs  # noqa: E402

TUTORIAL, WORKED = ((ROOT / "docs" / f"{page}.md").read_text() for page in ("tutorial", "worked_models"))


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """Return the folder in which the tutorial was played, and its outputs, with what they are and the exit status."""
    folder = tmp_path_factory.mktemp("tutorial") / "mine"
    folder.mkdir()
    return folder, list(outputs.played(TUTORIAL, folder))


def test_every_output_of_the_tutorial_is_what_its_command_prints(played):
    for shown, output, status in played[1]:
        assert shown.renewed(output).split() == shown.text.split(), f"{shown.command}: python docs/outputs.py makes it anew"
        assert status == (2 if "--set chip=tpu-v5 " in shown.command else 0), shown.command


def test_the_numbers_that_the_tutorial_speaks_of_are_those_of_its_results(played):
    mine, slow = (json.loads((played[0] / "out" / name / "result.json").read_text())
                  for name in ("my-model", "my-model-one-slow-link"))
    assert "A decode step takes 19 ms" in TUTORIAL and round(mine["step_s"] * 1e3) == 19
    assert "(19.2 ms)" in TUTORIAL and round(mine["step_s"] * 1e3, 1) == 19.2
    assert "28 billion\nparameters" in TUTORIAL and round(mine["scenario"]["model"]["parameters"]["value"] / 1e9) == 28
    before = outputs.commanded("torussim run slow.yaml --json", played[0])[0]  # the folder has the run of the plan by now
    worst = json.loads(before)["faults"]["worst"][0]
    assert worst["from"] == [0, 0] and worst["to"] == [1, 0] and round(worst["step_s"] * 1e3, 1) == 19.2
    assert "out of use (19.9 ms)" in TUTORIAL and round(worst["as_dead"]["step_s"] * 1e3, 1) == 19.9
    assert slow["step_s"] < json.loads(before)["step_s"] == pytest.approx(2.13 * mine["step_s"], rel=0.03)


@pytest.fixture(scope="module")
def worked(tmp_path_factory):
    """Return the folder in which the page of worked models was played, and its outputs, likewise."""
    folder = tmp_path_factory.mktemp("worked")
    return folder, list(outputs.played(WORKED, folder))


def test_every_output_of_the_worked_models_is_what_its_command_prints(worked):
    for shown, output, status in worked[1]:
        assert shown.renewed(output).split() == shown.text.split(), f"{shown.command}: python docs/outputs.py makes it anew"
        assert status == 0, shown.command


def test_the_times_of_the_busiest_chip_on_the_page_of_worked_models_are_those_of_a_run(worked):
    """Microseconds of the products and of an all-to-all of a mixture layer on the chip of the busiest expert."""
    products, exchanges = {}, {}
    for zipf in (0, 0.5):
        section = torussim.run(worked[0] / "mixture.yaml", overrides=[
            f"workload.balance={{zipf: {zipf}}}", "workload.tokens=1"]).timeline.segments[-2]
        took = {o.name: round(1e6 * float(end[0] - start[0]))
                for o, start, end in zip(section.operations, section.starts, section.ends, strict=True)}
        products[zipf] = sum(us for name, us in took.items() if name.startswith("matmul_experts"))
        exchanges[zipf] = took["exchange_combine@3"]
    said = re.search(r"multiplies for (\d+) us a layer in place of (\d+) us, and each of its\s+two all-to-alls takes (\d+) us in "
                     r"place of (\d+) us", WORKED)
    assert tuple(map(int, said.groups())) == (products[0.5], products[0], exchanges[0.5], exchanges[0])


def test_an_output_that_changed_is_noticed_and_made_anew(tmp_path):
    page = ("```yaml title=\"a.yaml\"\nmodel: palm-8b\n```\n```sh\ntorussim check a.yaml\n```\n"
            "<!-- output: torussim check a.yaml -->\n")
    text = "```text\nwrong\n```\n"
    ((shown, output, status),) = outputs.played(page + text, tmp_path)
    assert shown.text == "wrong\n" != shown.renewed(output) and status == 2 and "a.yaml" in output
    assert outputs.renewed(page + text, tmp_path) == f"{page}```text\n{output}```\n"
    short = outputs.renewed(page + "```text\none\n...\n```\n", tmp_path)
    assert short == f"{page}```text\n{output.splitlines()[0]}\n...\n```\n" or len(output.splitlines()) == 1


def test_a_command_that_nothing_runs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is no torussim command"):
        list(outputs.played("```sh\nrm -r x\n```\n", tmp_path))
