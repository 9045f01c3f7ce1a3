"""A journal gives back what was put in it, however the process that wrote it ended, and nobody's file is overwritten."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torussim.errors import OutputError
from torussim.journal import journal

WORK = {"torussim": "1", "what": "a"}
ROWS = [{"a": n, "text": "x" * n + "\n", "none": None} for n in range(5)]


def write(path):
    path.write_text("the output")


def made(output, count=5, work=WORK, finish=True):
    """Write a journal of some rows, the last first."""
    with journal(output, work) as kept:
        for number in reversed(range(count)):
            kept.add(number, ROWS[number])
        if finish:
            kept.finish(write)
    return output.with_name(output.name + ".journal")


def test_rows_come_back_in_the_order_of_their_numbers(tmp_path):
    made(tmp_path / "o.csv")
    with journal(tmp_path / "o.csv", WORK) as kept:
        assert list(kept) == ROWS and kept.finished and 4 in kept and 5 not in kept


@given(st.integers(0, 400))
def test_a_journal_that_is_cut_anywhere_gives_whole_rows_and_goes_on(tmp_path_factory, left):
    output = tmp_path_factory.mktemp("cut") / "o.csv"
    path = made(output, finish=False)
    data = path.read_bytes()
    path.write_bytes(data[:left])
    with journal(output, WORK) as kept:
        lines = data[:left].count(b"\n")
        assert len(kept) == max(lines - 1, 0) and all(row in ROWS for row in kept)
        for number in range(5):
            if number not in kept:
                kept.add(number, ROWS[number])
        kept.finish(write)
    with journal(output, WORK) as kept:
        assert list(kept) == ROWS and kept.finished


def test_an_output_that_is_lost_is_not_finished(tmp_path):
    made(tmp_path / "o.csv")
    (tmp_path / "o.csv").unlink()
    with journal(tmp_path / "o.csv", WORK) as kept:
        assert len(kept) == 5 and not kept.finished


def test_a_row_that_is_to_be_made_again_is_not_there_for_who_goes_on(tmp_path):
    with journal(tmp_path / "o.csv", WORK) as kept:
        kept.add(0, ROWS[0])
        kept.add(1, ROWS[1], again=True)
        assert list(kept) == ROWS[:2]
        kept.finish(write)
    with journal(tmp_path / "o.csv", WORK) as kept:
        assert list(kept) == ROWS[:1] and kept.finished
        kept.add(1, ROWS[1])
        assert not kept.finished


def refused(output, work=WORK):
    before = {path: path.read_bytes() for path in output.parent.iterdir() if path.is_file()}
    with pytest.raises(OutputError) as caught, journal(output, work):
        pass
    assert {path: path.read_bytes() for path in output.parent.iterdir() if path.is_file()} == before, "nothing is touched"
    assert str(output) in str(caught.value)
    return caught.value.code


def test_files_of_others_are_not_overwritten_without_force(tmp_path):
    output = tmp_path / "o.csv"
    output.write_text("mine")
    assert refused(output) == "occupied"
    with journal(output, WORK, force=True) as kept:
        kept.add(0, ROWS[0])
        kept.finish(write)
    assert output.read_text() == "the output"
    assert refused(output, {**WORK, "what": "b"}) == "occupied"
    output.write_text("changed")
    assert refused(output) == "occupied"
    output.unlink()
    Path(f"{output}.journal").write_text("my diary\nof two lines\n")
    assert refused(output) == "occupied"
    (tmp_path / "folder.csv").mkdir()
    assert refused(tmp_path / "folder.csv") == "unwritable"
    with pytest.raises(OutputError, match="cannot be written"), journal(tmp_path / "o.csv.journal" / "below.csv", WORK):
        pass


def test_a_journal_without_rows_stands_in_nobodys_way(tmp_path):
    with journal(tmp_path / "o.csv", WORK):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / "o.csv.journal").write_text('{"torussim": "1", "what": "b"}\n')
    made(tmp_path / "o.csv")


def test_one_process_at_a_time_has_a_journal(tmp_path):
    code = ("import sys; from pathlib import Path; from torussim.journal import journal\n"
            f"with journal(Path(sys.argv[1]), {WORK!r}) as kept: print(len(kept))")
    other = [sys.executable, "-c", code, str(tmp_path / "o.csv")]
    with journal(tmp_path / "o.csv", WORK) as kept:
        kept.add(0, ROWS[0])
        second = subprocess.run(other, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
        assert second.returncode == 1 and "another process" in second.stderr
    assert subprocess.run(other, capture_output=True, text=True, cwd=Path(__file__).parent.parent).stdout == "1\n"


def test_a_full_disk_is_told_and_all_whole_rows_stay(tmp_path):
    code = ("import resource, sys; from pathlib import Path; from torussim.journal import journal\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
            f"with journal(Path(sys.argv[1]), {WORK!r}) as kept:\n"
            "    for n in range(50): kept.add(n, {'n': 'x' * n})")
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "o.csv")], capture_output=True, text=True,
                         cwd=Path(__file__).parent.parent)
    assert run.returncode == 1 and "OutputError" in run.stderr and "the same command continues" in run.stderr
    with journal(tmp_path / "o.csv", WORK) as kept:
        assert 3 < len(kept) < 20 and [row["n"] for row in kept] == ["x" * n for n in range(len(kept))]
