"""Rows of a long piece of work, kept on disk as they are made, so that the same work can go on after it was killed.

A journal lies beside the output that it is for. Its first line says what the work is; then it has a line a row, in the order in
which they were made; and before the output is put in its place, a line with the SHA-256 of that. All lines are JSON. One process
at a time has it: the lock (of POSIX, where the system has it) ends with that process, however it ends.
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
    """The rows that are on disk, by their numbers; `finished`: whether the output has been written of them, and is unchanged."""

    def __init__(self, output: Path, file: IO[bytes]) -> None:
        self.output, self._file = output, file  # `file` is not buffered, and each write goes to its end
        self._places: dict[int, tuple[int, int]] = {}  # where the line of each row begins, and how long it is
        self.finished = False

    def add(self, number: int, row: Row, *, again: bool = False) -> None:
        """Put a row on disk; `again`: whoever goes on is to make it again."""
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
        """Return all rows in the order of their numbers."""
        return (self[number] for number in sorted(self._places))

    def finish(self, write: Callable[[Path], None]) -> None:
        """Write the output, whole or not at all, by a function that writes a file."""
        with whole(self.output) as path:
            write(path)
            self._append({"written": _digest(path)})  # before it is in its place: what lies there is then known in any case
        self.finished = True

    def begin(self, work: Row, force: bool) -> None:
        """Read the rows that an earlier run has left, or write the first line. Raise OutputError if they are of other work."""
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
            if line is None:  # a process that was killed leaves no whole line
                self._file.truncate(start)
                break
            last = line.get("written")  # rows that come later are not in the output
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
        """Append a line and return where it is. Raise OutputError if it cannot be written; no part of it stays."""
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
    """Give the journal of a piece of work with the rows that an earlier run has left in it, for this process alone.

    `work`: plain data that says what the work is. `force`: overwrite what is there, whatever it is, and begin anew. Raise
    OutputError where it cannot be written, another process is at it, or the output or the journal is not of this work.
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
    """Return where each line of a file begins, and the line; the last may lack its end."""
    start, held = 0, b""
    while file.seek(start + len(held)) >= 0 and (part := file.read(2**20)):
        *lines, held = (held + part).split(b"\n")
        for line in lines:
            yield start, line + b"\n"
            start += len(line) + 1
    if held:
        yield start, held


def _line(data: bytes, *keys: str) -> Row | None:
    """Return what a line says; None for no whole line, and for one that lacks one of some keys."""
    try:
        line = json.loads(data) if data.endswith(b"\n") else None
    except ValueError:
        return None
    return line if isinstance(line, dict) and all(key in line for key in keys) else None


def _differs(first: bytes, work: Row) -> str:
    """Return in words what another work's first line says otherwise."""
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
    """Give the path of a new file beside `path`, and put it in the place of that at the end; raise OutputError if that fails."""
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
