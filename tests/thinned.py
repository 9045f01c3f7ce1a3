"""Parameters of which the quick suite runs a part; `.ci/run` runs others with the slow tests."""

import pytest


def thinned(values, every=2):
    """Return parameters for `parametrize`: every so-many-th of the values as it is, others marked slow.

    Of seeds, a range, a quarter as many again; of cases all others.
    """
    kept = [(i % every, value) for i, value in enumerate(values)
            if i % every == 0 or not isinstance(values, range) or i % (4 * every) == 1]
    return [pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow) if rest else value
            for rest, value in kept]
