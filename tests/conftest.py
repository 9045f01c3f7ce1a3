"""The suite's examples are the same each time: a test fails for a change, not for the day."""

import faulthandler
from zlib import crc32

import pytest
from hypothesis import settings

HANGS = 900  # seconds

settings.register_profile("torussim", derandomize=True, deadline=None)
settings.load_profile("torussim")


def pytest_addoption(parser):
    """Add the option by which `.ci/run`, which has half an hour, takes a part of the slow tests."""
    parser.addoption("--every", type=int, default=1, help="of the selected tests, run every so-many-th, always the same ones")


def pytest_collection_modifyitems(config, items):
    """Leave out tests by `--every`; a test is taken or not by its name alone."""
    every = config.getoption("--every")
    left = [item for item in items if crc32(item.nodeid.encode()) % every]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not crc32(item.nodeid.encode()) % every]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """End the worker of a test that hangs, compiled code too, and show where it is: it counts as failed, and the others run."""
    faulthandler.dump_traceback_later(HANGS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
