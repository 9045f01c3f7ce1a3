"""The suite's examples are the same each time: a test fails for a change, not for the day."""

import faulthandler

import pytest
from hypothesis import settings

HANGS = 900  # seconds

settings.register_profile("torussim", derandomize=True, deadline=None)
settings.load_profile("torussim")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    """End the worker of a test that hangs, compiled code too, and show where it is: it counts as failed, and the others run."""
    faulthandler.dump_traceback_later(HANGS, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()
