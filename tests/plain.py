"""The compiled modules of the engine as they are: fresh copies that numba has not seen, beside those of everybody else."""

import functools
import importlib
import importlib.util
import sys

from torussim import engine
from torussim.engine import jit

# In the order in which they import one another; those that an engine does not have are left out.
MODULES = ("heap", "net", "settle", "max_min", "schedule_table", "run_state", "event_core", "steady_state", "shared_run")


def plain(name, modules=MODULES):
    """Return a copy of torussim.engine.<name> in which no function is compiled; copies of the same modules belong together."""
    return copies(modules)[name]


@functools.cache
def copies(modules):
    """Return fresh copies of modules of the engine by name, not compiled; sys.modules stays as it was."""
    names = {name: full for name in modules if importlib.util.find_spec(full := f"torussim.engine.{name}")}
    before = {name: sys.modules.pop(full, None) for name, full in names.items()}
    attributes = {name: getattr(engine, name, None) for name in names}
    disabled, jit.DISABLED = jit.DISABLED, True
    try:
        return {name: importlib.import_module(full) for name, full in names.items()}
    finally:
        jit.DISABLED = disabled
        for name, full in names.items():
            sys.modules.pop(full, None)
            if before[name] is not None:
                sys.modules[full] = before[name]
            if attributes[name] is not None:
                setattr(engine, name, attributes[name])
            elif hasattr(engine, name):
                delattr(engine, name)


def plain_core(monkeypatch):
    """Let the runs of a test whose messages share links go through the plain copies; return those of the run and its core."""
    from torussim.engine import shared_run

    run, core = plain("shared_run"), plain("event_core")
    monkeypatch.setattr(shared_run, "SharedRun", run.SharedRun)
    return run, core
