"""Rows of a long computation, kept on disk as they are made, so that the computation can continue after it was killed.

A journal lies beside its output. Its first line identifies the work. Then it has a line for each row, in the order in which they
were made. Before the output is moved into place, a line with its SHA-256 is added. All lines are JSON. Only one process at a time
has the journal: the lock (of POSIX, if the system has it) ends with the process in any case.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryFile, mkstemp
from typing import IO, Any

from torussim.errors import OutputError

FORCE = "name another file, or pass --force to overwrite it"
Row = Mapping[str, Any]


class Journal:
    """The rows on disk, by their numbers. `finished`: whether the output was written from them, and is unchanged."""

    def __init__(self, output: Path, file: IO[bytes]) -> None:
        self.output, self._file = output, file  # `file` is unbuffered, and each write goes to its end
        self._places: dict[int, tuple[int, int]] = {}  # the start and the length of the line of each row
        self.finished = False

    def add(self, number: int, row: Row, *, again: bool = False) -> None:
        """Write a row to disk. `again`: whether a continued run must make it again."""
        self._places[number] = self._append({"number": number, "row": row, **({"again": True} if again else {})})
        self.finished = False

    def __getitem__(self, number: int) -> dict[str, Any]:
        start, size = self._places[number]
        self._file.seek(start)
        row: dict[str, Any] = json.loads(self._file.read(size))["row"]
        return row

    def __contains__(self, number: int) -> bool:
        return number in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield all rows in the order of their numbers."""
        return (self[number] for number in sorted(self._places))

    def finish(self, write: Callable[[Path], None]) -> None:
        """Write the output, whole or not at all, by a function that writes a file."""
        with whole(self.output) as path:
            write(path)
            self._append({"written": _digest(path)})  # before the move, so that the output can always be recognised
        self.finished = True

    def begin(self, work: Row, force: bool) -> None:
        """Read the rows of an earlier run, or write the first line. Raise OutputError if they are of other work."""
        head = json.dumps(work).encode() + b"\n"
        lines = _lines(self._file)
        _, first = next(lines, (0, b""))
        none = head.startswith(first) or (_line(first, *work) and next(lines, None) is None)  # killed before its first row
        if force or (none and first != head):
            if self.output.exists() and not force:
                raise OutputError(f"{self.output}: is there already, and no journal says what it is: {FORCE}", code="occupied")
            self._file.truncate(0)
            self._append(work)
            return
        if first != head:
            raise OutputError(f"{self.output}: is of another sweep{_differs(first, work)}: {FORCE}", code="occupied")
        written, last = set(), None
        for start, data in lines:
            line = _line(data)
            if line is None:  # a killed process leaves an incomplete line
                self._file.truncate(start)
                break
            last = line.get("written")  # rows after this line are not in the output
            written.add(last)
            if "row" in line and "again" not in line:
                self._places[line["number"]] = start, len(data)
        if self.output.exists():
            digest = _digest(self.output)
            if digest not in written:
                raise OutputError(f"{self.output}: was changed after it was written, or is not of this sweep: {FORCE}",
                                  code="occupied")
            self.finished = digest == last

    def _append(self, line: Row) -> tuple[int, int]:
        """Append a line and return its place. Raise OutputError if it cannot be written; no part of it stays."""
        end, data = self._file.seek(0, os.SEEK_END), json.dumps(line).encode() + b"\n"
        try:
            done = 0
            while done < len(data):
                done += self._file.write(data[done:])
        except OSError as error:
            self._file.truncate(end)
            raise OutputError(f"{self._file.name}: cannot be written: {_reason(error)}; {len(self):,} rows are kept there: "
                              "make room, and the same command continues") from None
        return end, len(data)


@contextmanager
def journal(output: Path, work: Row, *, force: bool = False) -> Iterator[Journal]:
    """Yield the journal of a computation with the rows of an earlier run, for this process alone.

    `work` is plain data that identifies the work. `force`: overwrite existing files, whatever they are, and begin anew. Raise
    OutputError if it cannot be written, another process has it, or the output or the journal is of other work.
    """
    path = output.with_name(f"{output.name}.journal")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        with TemporaryFile(dir=output.parent):
            pass
        file = _opened(path)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written: {_reason(error)}; name another file") from None
    with file:
        _lock(file, output)
        made = Journal(output, file)
        begun = False
        try:
            made.begin(work, force)
            begun = True
            yield made
        finally:
            if not len(made) and (begun or not file.seek(0, os.SEEK_END)):
                path.unlink()


def _opened(path: Path) -> IO[bytes]:
    """Return a file to read anywhere and to append to."""
    return open(path, "a+b", buffering=0)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Return the start of each line of a file, and the line; the last line may be incomplete."""
    start, held = 0, b""
    while file.seek(start + len(held)) >= 0 and (part := file.read(2**20)):
        *lines, held = (held + part).split(b"\n")
        for line in lines:
            yield start, line + b"\n"
            start += len(line) + 1
    if held:
        yield start, held


def _line(data: bytes, *keys: str) -> Row | None:
    """Return the content of a line; None for an incomplete line, and for one that lacks a required key."""
    try:
        line = json.loads(data) if data.endswith(b"\n") else None
    except ValueError:
        return None
    return line if isinstance(line, dict) and all(key in line for key in keys) else None


def _differs(first: bytes, work: Row) -> str:
    """Return in words the differences of another work's first line."""
    try:
        other = json.loads(first)
    except ValueError:
        return ""
    names = [key for key in work if isinstance(other, dict) and key in other and other[key] != work[key]]
    return f" (other {', '.join(names)})" if names else ""


def _lock(file: Any, output: Path) -> None:
    """Lock a file for this process."""
    try:
        import fcntl
    except ImportError:  # Windows has no such locks
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise OutputError(f"{output}: another process is writing it: wait for that one, or name another file",
                          code="occupied") from None


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield the path of a new file beside `path`, and move it to `path` at the end. Raise OutputError if that fails."""
    try:
        handle, name = mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        os.close(handle)
        try:
            yield Path(name)
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {_reason(error)}") from None


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        found = sha256()
        while part := file.read(2**20):
            found.update(part)
    return found.hexdigest()


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
