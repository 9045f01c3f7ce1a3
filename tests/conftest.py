"""The suite's examples are the same each time: a test fails for a change, not for the day."""

from hypothesis import settings

settings.register_profile("torussim", derandomize=True, deadline=None)
settings.load_profile("torussim")
