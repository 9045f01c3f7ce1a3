"""The shell's side of the command line: examples of each help, exit statuses, --quiet, colours, completion."""

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from torussim.cli import cli, main
from torussim.cli.common import EXIT
from torussim.cli.completion import VARIABLE, keys, names
from torussim.scenario import load

ROOT = Path(__file__).resolve().parent.parent
SCENARIO = """\
name: small
model: {base: palm-8b, layers: 2}
chip: tpu-v4
topology: {shape: [2, 2, 2]}
workload: {phase: decode, batch: 8, context: 512}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SCENARIO)
    return path


def invoke(*words):
    return CliRunner().invoke(cli, [str(word) for word in words])


# -- help


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_the_help_of_a_command_ends_with_an_example_that_can_be_given(name):
    lines = invoke(name, "--help").output.rstrip().splitlines()
    at = lines.index("  Example:")
    assert at > 0 and lines[at + 1:]
    for line in lines[at + 1:]:
        program, command, *words = shlex.split(line.partition(" > ")[0])
        assert (program, command) == ("torussim", name)
        cli.commands[name].make_context(name, words)
        assert all((ROOT / word).is_file() for word in words if word.startswith("scenarios/"))


def test_the_help_names_every_command_in_a_whole_sentence_and_fits_80_columns():
    lines = invoke("--help").output.splitlines()
    assert max(map(len, lines)) <= 80
    for name in cli.commands:
        (line,) = [one for one in lines if one.startswith(f"  {name} ")]
        assert line.endswith(".") and not line.endswith("...")


# -- exit statuses


def ended(monkeypatch, words):
    """Return the exit status of the command line."""
    monkeypatch.setattr(sys, "argv", ["torussim", *map(str, words)])
    try:
        main()
    except SystemExit as error:
        return error.code
    return 0


def test_exit_statuses_are_those_that_the_help_lists(monkeypatch, file, tmp_path, capfd):
    listed = dict(re.findall(r"^ {4}(\d+) +(\S.*)$", invoke("--help").output, re.M))
    assert list(map(int, listed)) == [0, 1, 2, 130, 141] == list(EXIT) and all(listed.values())
    out = ["-o", tmp_path / "out", "--no-pictures"]
    assert ended(monkeypatch, ["check", file]) == 0
    assert ended(monkeypatch, ["run", file, *out, "--strict", "--set", "expect.step_s={value: 1 s, within: 0.1}"]) == 1
    assert ended(monkeypatch, ["sweep", file, "--vary", "layout.ffn=ws2d,wg_xyz", "--vary", "workload.batch=0"]) == 2
    assert ended(monkeypatch, ["run", file, "--nothing"]) == 2
    assert ended(monkeypatch, ["check", tmp_path / "not-there.yaml"]) == 2
    monkeypatch.setattr("torussim.scenario.load", lambda *given, **more: (_ for _ in ()).throw(KeyboardInterrupt))
    assert ended(monkeypatch, ["run", file, *out]) == 130
    monkeypatch.undo()
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run([sys.executable, "-m", "torussim", "list"], stdout=write, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(write)
    assert (closed.returncode, closed.stderr) == (141, b"")


# -- quiet and verbose


def test_quiet_prints_where_files_were_written_alone(file, tmp_path):
    out = tmp_path / "out"
    done = invoke("run", file, "-o", out, "--no-pictures", "--quiet")
    assert done.stdout == f"written to {out / 'small'}{os.sep}\n" and not done.stderr
    drawn = invoke("faults", file, "-o", out, "--no-pictures", "-q", "--dead", 1, "--draws", 2, "--jobs", 1)
    assert drawn.stdout == f"written to {out / 'small'}{os.sep}\n"
    planned = invoke("plan", file, "-o", out, "--no-pictures", "-q", "--simulations", 1)
    assert planned.stdout == f"written to {out / 'small'}{os.sep}\n"
    both = invoke("run", file, "-o", out, "--quiet", "--verbose")
    assert both.exit_code == 2 and "--verbose and --quiet exclude each other" in both.output


def test_quiet_and_json_is_json(file, tmp_path):
    assert json.loads(invoke("run", file, "-o", tmp_path / "out", "--json", "--quiet").stdout)["chips"] == 8


def test_a_quiet_sweep_names_its_output_and_its_failures(file, tmp_path):
    words = ["sweep", file, "--vary", "workload.batch=8,16", "-o", tmp_path / "rows.csv", "--jobs", 1, "-q"]
    assert invoke(*words).stderr == f"2 rows are in {tmp_path / 'rows.csv'}\n"


# -- colours


def on_a_terminal(words, **variables):
    """Return what a command prints on a terminal."""
    master, slave = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    with subprocess.Popen([sys.executable, "-m", "torussim", *map(str, words)], stdout=slave, stderr=subprocess.DEVNULL, cwd=ROOT,
                          env={**environment, "TERM": "xterm", "PYTHONPATH": str(ROOT), **variables}) as process:
        os.close(slave)
        said = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            said += part
        assert process.wait() == 0
    os.close(master)
    return said.decode().replace("\r\n", "\n")


def test_colours_are_for_terminals_and_not_with_no_color(file, tmp_path, monkeypatch):
    words = ["run", file, "-o", tmp_path / "out", "--no-pictures", "--set", "expect.step_s={value: 1 s, within: 0.1}"]
    shown = on_a_terminal(words)
    plain = on_a_terminal(words, NO_COLOR="1")
    assert shown.startswith("\x1b[1mA decode step takes ") and "\x1b[31m" in shown
    assert "\x1b" not in plain and click.unstyle(shown) == plain
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert "\x1b" not in invoke(*words).output
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert invoke(*words).output == shown
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in invoke(*words).output


# -- completion


def completed(shell, words, cword):
    """Return what is completed by the protocol of a shell's script, without the types."""
    done = CliRunner().invoke(cli, prog_name="torussim", complete_var=VARIABLE,
                              env={VARIABLE: f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": str(cword)})
    return done.output.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script_that_asks_torussim(shell):
    said = invoke("completion", shell).output
    assert f"{VARIABLE}={shell}_complete" in said and "torussim" in said
    assert invoke("completion", "tcsh").exit_code == 2


def test_commands_options_and_files_complete(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert {"plain,plan", "plain,plot"} <= set(completed("bash", "torussim pl", 1))
    assert "plain,--every-step" in completed("bash", "torussim run --e", 2)
    found = completed("bash", "torussim run scen", 2)
    assert "plain,scenarios/palm-540b-decode-slow-link.yaml" in found and not [one for one in found if one.endswith(".py")]
    assert completed("bash", "torussim run scenarios/network-h", 2) == ["plain,scenarios/network-half-link.yaml"]
    assert completed("bash", "torussim run nothing-like-it", 2) == ["file,nothing-like-it"]


def test_keys_and_names_of_set_complete_and_can_be_given(file, monkeypatch):
    from torussim.cli import complete

    assert completed("zsh", "torussim run s.yaml --set topology.lat", 4)[:2] == ["plain", "topology.latency="]
    monkeypatch.setenv(VARIABLE, "bash_complete")
    complete()
    assert completed("bash", "torussim run s.yaml --set topology.lat", 4) == ["plain,topology.latency="]
    assert completed("bash", "torussim run s.yaml --set chip = tpu-v4", 6) == ["plain,tpu-v4"]
    assert "plain,palm-540b" in completed("bash", "torussim run s.yaml --set model =", 5)
    assert len(keys()) == len(set(keys())) and {"chip", "layout.ffn", "workload.batch"} <= set(keys())
    for key in ("model", "chip"):
        assert names(key) and all(load(file, [f"{key}={name}"]) for name in names(key) if name in ("palm-540b", "tpu-v5p"))
    assert "ws2d" in names("layout.ffn") and not names("topology.latency")


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_with_the_script(tmp_path):
    (tmp_path / "torussim").write_text(f"#!/bin/sh\nexec {sys.executable} -m torussim \"$@\"\n")
    (tmp_path / "torussim").chmod(0o755)
    script = (f"PATH={tmp_path}:$PATH; source <(torussim completion bash); COMP_WORDS=(torussim check scenarios/network-h); "
              "COMP_CWORD=2; _torussim_completion torussim 2>/dev/null; echo ${COMPREPLY[@]}")
    program = "import sys; sys.argv[0] = 'torussim'; from torussim.cli import main; main()"
    (tmp_path / "torussim").write_text(f"#!/bin/sh\nexec {sys.executable} -c \"{program}\" \"$@\"\n")
    said = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert said.stdout.split() == ["scenarios/network-half-link.yaml"]
