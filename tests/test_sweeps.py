"""A sweep has the row of every point, however it is run, and goes on with what is there after it was killed."""

import csv
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import torussim
from torussim.errors import OutputError, ScenarioError
from torussim.points import axis_of
from torussim.rows import write
from torussim.sweeps import sweep

ROOT = Path(__file__).parent.parent
RING = {"chip": "ideal", "topology": {"shape": [4], "bandwidth": "45 GB/s"},
        "program": [{"name": "gather", "collective": "all_gather", "axes": "x", "bytes": "90 MB"}]}
DECODE = {"model": {"base": "palm-8b", "layers": 2}, "chip": "tpu-v4", "topology": {"shape": [2, 2, 2]},
          "workload": {"phase": "decode", "batch": 8, "context": 16, "tokens": 2}}
VARY = {"workload.batch": [8, "x", 16], "topology.shape": [[2, 2, 2], [4, 4], [0]], "topology.latency": "1 us,2us"}


def timeless(rows):
    return [{key: value for key, value in row.items() if key != "wall_s"} for row in rows]


@pytest.fixture(scope="module")
def rows():
    return timeless(sweep(DECODE, VARY, jobs=1))


def test_there_is_a_row_for_every_point_in_the_order_of_the_grid(rows):
    assert [tuple(row[key] for key in VARY) for row in rows] == [
        (batch, shape, latency) for batch in VARY["workload.batch"] for shape in VARY["topology.shape"]
        for latency in ("1 us", "2us")]


def test_a_row_is_what_a_run_of_its_point_says(rows):
    for row in rows:
        varied = [f"{key}={json.dumps(row[key])}" for key in VARY]
        if row["error"] is not None:
            with pytest.raises(ScenarioError) as caught:
                torussim.run(DECODE, overrides=varied)
            assert all(f"[{one.code}]" in row["error"] and one.text in row["error"] for one in caught.value.mistakes)
            assert set(row) == {*VARY, "error"} and "\n" not in row["error"]
            continue
        result = torussim.run(DECODE, overrides=varied)
        for key in row.keys() - VARY.keys() - {"error"}:
            got = result.keys
            for part in key.split("."):
                got = got[part]
            assert row[key] == got, key
    assert {"chips", "step_s", "mfu", "memory.fits", "breakdown_s.compute"} <= rows[0].keys()
    assert [row["error"] is None for row in rows] == [
        row["workload.batch"] != "x" and row["topology.shape"] != [0] for row in rows]


def test_rows_are_the_same_from_one_process_and_from_several(rows):
    assert timeless(sweep(DECODE, VARY, jobs=2)) == rows


def test_zip_takes_the_values_in_step():
    found = sweep(RING, {"topology.shape": [[4], [8]], "topology.bandwidth": ["45 GB/s", "90 GB/s"]}, zip=True, jobs=1)
    assert [row["makespan_s"] for row in found] == [0.00075, 0.0004375]


def test_a_varied_key_can_be_within_another_and_within_the_name_of_a_preset():
    found = sweep(DECODE, {"model": ["palm-8b", "palm-62b"], "model.layers": [1, 2]}, jobs=1)
    alone = [torussim.run(DECODE, overrides=[f"model={name}", f"model.layers={layers}"]).step_s
             for name in ("palm-8b", "palm-62b") for layers in (1, 2)]
    assert [row["step_s"] for row in found] == alone


def test_a_scenario_that_was_loaded_is_swept_like_its_source():
    vary = {"topology.shape": [[4], [5]]}
    assert timeless(sweep(torussim.load(RING), vary, jobs=1)) == timeless(sweep(RING, vary, jobs=1))


@pytest.mark.parametrize("vary, code, text", [
    ({"workload.bach": [1, 2]}, "unknown-key", "did you mean 'batch'"), ({"workload.batch": ["a", "b"]}, "value", "'a'"),
    ({"topology.shape": [[0], [-1]]}, "value", ""), ({"model": ["palm-54b"]}, "unknown-name", "did you mean 'palm-540b'"),
    ({"name.x": [1]}, "value", ""), ({"layout.ffn": ["ws3d"], "workload.batch": [8, 16]}, "unknown-name", "ws2d")])
def test_keys_and_values_that_are_wrong_everywhere_are_told_before_anything_runs(vary, code, text, tmp_path):
    with pytest.raises(ScenarioError) as caught:
        sweep(DECODE | {"name": "n"}, vary, out=tmp_path / "rows.csv")
    assert code in {one.code for one in caught.value.mistakes} and text in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_sound_point_anywhere_in_a_small_grid_makes_a_sweep():
    vary = {"topology.shape": [[0], [4]], "topology.bandwidth": ["x", "1 GB/s"], "topology.latency": ["y", "1 us"]}
    assert [row["error"] is None for row in sweep(RING, vary, jobs=1)] == [False] * 7 + [True]


def test_a_user_function_is_run_and_a_change_of_it_is_another_sweep(tmp_path):
    code = tmp_path / "mine.py"
    code.write_text("from torussim import ring\n\ndef net(count):\n    return ring(count, bandwidth=1e9)\n")
    file = tmp_path / "s.yaml"
    file.write_text(json.dumps(RING | {"topology": {"kind": "mine:net", "count": 4}}))
    vary, out = {"topology.count": [4, 5]}, tmp_path / "rows.jsonl"
    found = sweep(file, vary, out=out, jobs=1)
    assert [row["error"] for row in found] == [None, None]
    assert sweep(file, vary, out=out, jobs=1) == found, "nothing is run again"
    code.write_text(code.read_text().replace("1e9", "2e9"))
    with pytest.raises(OutputError, match="another sweep") as caught:
        sweep(file, vary, out=out, jobs=1)
    assert caught.value.code == "occupied"
    again = sweep(file, vary, out=out, jobs=1, force=True)
    assert [row["makespan_s"] * 2 for row in again] == pytest.approx([row["makespan_s"] for row in found])


def test_a_run_that_kills_its_process_is_a_row_that_the_same_sweep_makes_again(tmp_path):
    code, mark = tmp_path / "mine.py", tmp_path / "mended"
    code.write_text("import os\nfrom torussim import ring\n\ndef net(count):\n"
                    f"    if count == 6 and not os.path.exists({str(mark)!r}):\n        os.kill(os.getpid(), 9)\n"
                    "    return ring(count, bandwidth=1e9)\n")
    file, out = tmp_path / "s.yaml", tmp_path / "rows.csv"
    file.write_text(json.dumps(RING | {"topology": {"kind": "mine:net", "count": 4}}))
    found = sweep(file, {"topology.count": "3:12:1"}, out=out, jobs=2)
    assert [row["topology.count"] for row in found] == list(range(3, 13))
    assert [row["topology.count"] for row in found if row["error"]] == [6] and "[worker]" in found[3]["error"]
    mark.touch()
    again = sweep(file, {"topology.count": "3:12:1"}, out=out, jobs=2)
    assert [row for row in again if row["topology.count"] != 6] == [row for row in found if not row["error"]]
    assert again[3]["error"] is None and "[worker]" not in out.read_text()


# -- files ----------------------------------------------------------------------------------------------------------------


def test_all_kinds_of_files_have_the_same_rows(rows, tmp_path):
    import pyarrow.parquet as pq

    columns = list(dict.fromkeys(key for row in rows for key in row if key != "error"))
    files = {suffix: tmp_path / f"rows{suffix}" for suffix in (".csv", ".jsonl", ".parquet")}
    for file in files.values():
        assert timeless(sweep(DECODE, VARY, jobs=1, out=file)) == rows
    lines = [json.loads(line) for line in files[".jsonl"].read_text().splitlines()]
    assert timeless(lines) == [{key: row.get(key) for key in [*columns, "error"]} for row in rows]
    with open(files[".csv"], newline="") as file:
        cells = list(csv.DictReader(file))
    table = pq.read_table(files[".parquet"]).to_pylist()
    assert list(cells[0]) == list(table[0]) == [*columns, "wall_s", "error"]
    for row, cell, one in zip(rows, cells, table, strict=True):
        assert json.loads(cell["topology.shape"]) == json.loads(one["topology.shape"]) == row["topology.shape"]
        assert one.get("step_s") == row.get("step_s") == (float(cell["step_s"]) if cell["step_s"] else None)
        assert one["memory.fits"] == row.get("memory.fits") == json.loads(cell["memory.fits"] or "null")
        assert cell["error"] == (one["error"] or "") == (row["error"] or "")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_file_of_rows_takes_few_passes_however_many_columns_there_are(suffix, tmp_path):
    """A journal reads a row from the disk whenever it is asked for it."""
    class Rows:
        passes = 0

        def __iter__(self):
            self.passes += 1
            return iter([{f"column {i}": i for i in range(30)} | {"error": None}] * 3)

    rows = Rows()
    write(tmp_path / f"rows{suffix}", rows, suffix)
    assert rows.passes <= 3


def test_an_output_of_an_unknown_kind_is_refused(tmp_path):
    with pytest.raises(OutputError, match=r"\.parquet"):
        sweep(RING, {"topology.shape": [[4]]}, out=tmp_path / "rows.txt")


# -- the command ----------------------------------------------------------------------------------------------------------


def start(*arguments, jobs=2, **more):
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from torussim.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", code, "sweep", *map(str, arguments), "--jobs", str(jobs)], cwd=ROOT,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def command(*arguments, **more):
    run = start(*arguments, **more)
    out, err = run.communicate()
    return run.returncode, out, err


@pytest.fixture
def ring(tmp_path):
    file = tmp_path / "ring.yaml"
    file.write_text(json.dumps(RING))
    return file


def test_the_command_says_what_failed_and_does_nothing_twice(ring, tmp_path):
    given = (ring, "--vary", "topology.shape=[[4], [0], [8]]", "-o", tmp_path / "rows.csv")
    status, out, err = command(*given)
    assert (status, out) == (1, "") and "1 of 3 runs failed" in err and "Traceback" not in err
    before = (tmp_path / "rows.csv").read_bytes()
    status, out, err = command(*given)
    assert status == 1 and "nothing is left to run" in err and (tmp_path / "rows.csv").read_bytes() == before
    status, out, err = command(ring, "--vary", "topology.shape=[[4]]", "-o", tmp_path / "rows.csv")
    assert status == 2 and "another sweep" in err and "--force" in err and (tmp_path / "rows.csv").read_bytes() == before
    status, out, err = command(ring, "--vary", "topology.shape=[[4]]", jobs=1)
    assert (status, err) == (0, "") and out.splitlines()[0].startswith("topology.shape,chips,makespan_s")


def long(ring, path, count):
    """Return the arguments of a sweep of many short runs, and the rows that it is to have."""
    vary = {"topology.latency": f"1us:{count}us:1us"}
    return (ring, "--vary", f"topology.latency=1us:{count}us:1us", "-o", path), timeless(sweep(ring, vary, jobs=1))


def lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(path, least):
    """Wait until a journal has this many lines."""
    until = time.monotonic() + 60
    while lines(path) < least and time.monotonic() < until:
        time.sleep(0.002)


def result(path):
    return timeless(json.loads(line) for line in path.read_text().splitlines())


def test_ctrl_c_ends_a_sweep_and_the_same_command_goes_on(ring, tmp_path):
    path = tmp_path / "rows.jsonl"
    journal = Path(f"{path}.journal")
    given, rows = long(ring, path, 400)
    run = start(*given)
    wait_for(journal, 10)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate()
    assert run.returncode == 130 and "continues" in err and "Traceback" not in err and not path.exists()
    kept = journal.read_bytes()
    assert kept.endswith(b"\n")
    status, _, err = command(*given)
    assert status == 0 and f"{len(kept.splitlines()) - 1} of 400 rows" in err
    assert journal.read_bytes().startswith(kept)
    assert result(path) == rows


@pytest.mark.slow
def test_a_sweep_that_is_killed_ten_times_has_the_rows_of_one_that_was_not(ring, tmp_path):
    path, randomly, ends = tmp_path / "rows.jsonl", random.Random(1), []
    given, rows = long(ring, path, 2000)
    for _ in range(10):
        run, before = start(*given), lines(Path(f"{path}.journal"))
        wait_for(Path(f"{path}.journal"), before + 1)
        time.sleep(randomly.uniform(0, 0.1))
        run.kill()
        run.communicate()
        ends.append(run.returncode)
    assert ends == [-signal.SIGKILL] * 10, "each was killed in the midst of it"
    assert command(*given)[0] == 0
    assert result(path) == rows


# -- Dask -----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None, silence_logs=50) as made:
        yield made


@pytest.mark.slow
def test_a_dask_cluster_makes_the_same_rows(cluster, rows):
    assert timeless(sweep(DECODE, VARY, dask=cluster.scheduler_address)) == rows


@pytest.mark.slow
def test_a_dask_worker_that_is_lost_loses_no_row(cluster):
    vary, killed = {"workload.batch": range(8, 1000, 8)}, []

    def kill(done, _):
        if done >= 20 and not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)
    found = timeless(sweep(DECODE, vary, dask=cluster.scheduler_address, progress=kill))
    assert killed and found == timeless(sweep(DECODE, vary, jobs=1))


# -- the documentation ------------------------------------------------------------------------------------------------------


def blocks(kind):
    """Return the blocks of code of docs/sweeps.md of a kind."""
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / "docs" / "sweeps.md").read_text(), re.S)


def test_the_commands_of_the_documentation_run(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from torussim.cli import cli

    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenarios").symlink_to(ROOT / "scenarios")
    ran = 0
    for block in blocks("sh"):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("torussim") and "--dask" not in line:
                done = CliRunner().invoke(cli, [*shlex.split(line)[1:], "--jobs", "1"], catch_exceptions=False)
                assert done.exit_code == 0 and "rows are in" in done.stderr
                ran += 1
    assert ran == 2 and len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + 8


def test_the_python_of_the_documentation_runs(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (block,) = blocks("python")
    exec(compile(block, "sweeps.md", "exec"), {})
    assert capsys.readouterr().out.startswith("256 ")


def test_the_values_of_the_documentation_are_read_as_it_says():
    rows = re.findall(r"^\| `'?([\w.]+)=(.*?)'?` \|", (ROOT / "docs" / "sweeps.md").read_text(), re.M)
    lengths = [len(axis_of(key, text).values) for key, text in rows]
    assert lengths == [3, 2, 2, 11, 8, 4, 5, 2]
