"""The compiled modules of the engine as they are: fresh copies that numba has not seen, beside those of everybody else."""

import functools
import importlib
import sys

from torussim import engine
from torussim.engine import jit

MODULES = ("heap", "net", "settle", "max_min", "network_model")


@functools.cache
def plain(name):
    """Return a copy of torussim.engine.<name> in which no function is compiled; all copies belong together."""
    return _copies()[name]


@functools.cache
def _copies():
    names = {name: f"torussim.engine.{name}" for name in MODULES}
    before = {name: sys.modules.pop(full, None) for name, full in names.items()}
    attributes = {name: getattr(engine, name, None) for name in MODULES}
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
