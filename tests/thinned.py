"""Parameters of which the quick suite runs a part; `.ci/run` runs the others with the slow tests."""

import pytest


def thinned(values, every=2):
    """Return parameters for `parametrize`: every so-many-th of the values as it is, the others marked slow."""
    return [value if i % every == 0 else pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
            for i, value in enumerate(values)]
