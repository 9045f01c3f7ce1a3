"""A function is run once for every item, on whatever runs it, also where workers die."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from torussim import executors
from torussim.errors import WorkerError
from torussim.executors import each, workers

HERE = Path(__file__).parent


def square(number):
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number * number


def dies_at_seven(number):
    if number == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def dies_once(mark):
    """Kill this process where the file `mark` is not there yet."""
    if mark and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return mark


def took(number):
    time.sleep(number)
    return os.getpid()


def squares(numbers, **given):
    with workers(**given) as those:
        found = sorted(each(square, numbers, those), key=lambda done: done.index)
    assert [done.index for done in found] == list(range(len(numbers))), "each item once"
    return [done.value if done.error is None else str(done.error) for done in found]


@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 5, 400])
def test_every_item_is_done_once_and_an_error_is_that_of_its_item(jobs, count):
    numbers = list(range(-1, count - 1))
    assert squares(numbers, jobs=jobs) == ["-1 is negative", *(n * n for n in numbers[1:])][:count]


@pytest.mark.parametrize("jobs", [2, 3])
def test_an_item_that_kills_its_worker_is_told_and_no_other_is_lost(jobs):
    with workers(jobs) as those:
        found = {done.index: done for done in each(dies_at_seven, range(30), those)}
    assert {i for i, done in found.items() if done.error} == {7} and isinstance(found[7].error, WorkerError)
    assert all(found[i].value == i for i in range(30) if i != 7)


def test_an_item_whose_worker_was_killed_by_another_is_done_later(tmp_path):
    marks = [None] * 9 + [tmp_path / "a"] + [None] * 9 + [tmp_path / "b"]
    with workers(2) as those:
        assert sorted(done.index for done in each(dies_once, marks, those) if done.error is None) == list(range(20))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_workers_stop_in_the_midst_of_their_work_when_the_run_is_left():
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), workers(2) as those:
        for _ in each(took, [0.0, 30.0, 30.0, 30.0], those):
            raise KeyboardInterrupt
    assert time.monotonic() - began < 10


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_a_run_that_was_killed(how, tmp_path):
    script = ("import test_executors as t\n"
              "with t.workers(2) as those:\n"
              "    for done in t.each(t.took, [0.2, 0.2, 60.0, 60.0, 60.0], those):\n"
              "        print(done.value, flush=True)\n")
    run = subprocess.Popen([sys.executable, "-c", script], cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                           env=dict(os.environ, PYTHONPATH=f"{HERE.parent}"))
    pids = {int(run.stdout.readline()) for _ in range(2)}
    run.send_signal(how)
    run.wait(30)
    until = time.monotonic() + 30
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(alive, pids))
    run.stdout.close()
    run.stderr.close()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "127.0.0.1:9", "nowhere", "a://b", "tcp://none.invalid:1", "mute"])
def test_a_cluster_that_does_not_answer_is_told_within_seconds(address, monkeypatch):
    monkeypatch.setattr(executors, "ANSWER", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        if address == "mute":
            address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(WorkerError, match="no Dask scheduler answers") as caught, workers(dask=address):
            pass
    assert address in str(caught.value) and time.monotonic() - began < 20


def test_in_one_process_each_result_is_given_before_the_next_item_is_begun():
    order = []
    with workers(1) as those:
        for done in each(lambda item: order.append(item) or time.sleep(0.2), range(3), those):
            order.append(f"given {done.index}")
    assert order == [0, "given 0", 1, "given 1", 2, "given 2"]


def test_processes_and_a_cluster_are_not_both_taken():
    with pytest.raises(WorkerError, match="both given"):
        workers(2, "tcp://127.0.0.1:9")


def test_a_number_of_processes_that_cannot_be_is_told():
    with pytest.raises(WorkerError, match="-1"):
        workers(-1)
