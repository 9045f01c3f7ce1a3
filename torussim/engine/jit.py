"""The door to numba: functions that are written once and run compiled, or as plain Python if numba is missing or disabled.

Compiled code is cached beside the sources, or in the user's cache folder. The key of the cache is a digest of all compiled
sources: with a key of one file, a function that calls a function of another file would run with the old code of that file.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])
HERE = Path(__file__).resolve().parent
SOURCES = ("event_core.py", "heap.py", "jit.py", "max_min.py", "net.py", "run_state.py",
           "schedule_table.py", "settle.py")  # and its constants
DISABLED = False  # set it before the compiled modules are imported: they then run as plain Python


def compiled(function: Function) -> Function:
    """Return the function, compiled by numba at its first call; unchanged if numba is missing or disabled (NUMBA_DISABLE_JIT).

    The function makes no array, returns no array, and counts no references to the arrays of its arguments: with reference counts
    the solver took three to six times as long.
    """
    return _compiled(function)


def inner(function: Function) -> Function:
    """Return the same for a function that only compiled functions call: without an entry from Python it compiles much faster."""
    return _compiled(function, no_cpython_wrapper=True)


def _compiled(function: Function, **options: bool) -> Function:
    if DISABLED:
        return function
    try:
        import numba  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return function
    config, njit = vars(numba)["config"], vars(numba)["njit"]  # numba's type stubs know only parts of these
    options = {"_nrt": False, "no_cfunc_wrapper": True, **options}
    before, made = config.CACHE_DIR, None
    try:
        config.CACHE_DIR = str(_folder(before))
        made = njit(cache=True, error_model="numpy", **options)(function)
    except (RuntimeError, OSError):  # no folder for the cache can be written
        made = njit(error_model="numpy", **options)(function)
    finally:
        config.CACHE_DIR = before
    compiled_function: Function = made
    return compiled_function


def announce() -> None:
    """Say on standard error that the first run compiles, if the cache is empty."""
    numba = sys.modules.get("numba")
    if numba is None or DISABLED or numba.config.DISABLE_JIT or any(_folder(numba.config.CACHE_DIR).rglob("*.nbi")):
        return
    sys.stderr.write("torussim: compiling the simulation of shared links, once (about half a minute)\n")


def _folder(given: str) -> Path:
    """Return the folder of the cache of these sources; `given`: the folder that the user chose, or ""."""
    digest = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in SOURCES if (HERE / name).exists())).hexdigest()[:16]
    parent = Path(given) if given else HERE / "__pycache__"
    if not given and not os.access(parent if parent.exists() else HERE, os.W_OK):
        parent = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "torussim"
    return parent / f"compiled-{digest}"
