"""What a measured run says: hidden links are found, by name, and nothing is named where nothing is slow."""

from math import exp

import pytest
from measured_runs import LARGE, SMALL, drawn, events, write

from torussim.measured.verdict import blame


def told(finding):
    """Return the cables, or chips, that a finding names."""
    return {frozenset(place.ends) for place in finding.places}


def right(number, scenarios, path, **how):
    """Return whether exactly the hidden link is named in a run that is drawn by a seed."""
    rng, run = drawn(number, scenarios)
    links, _, timeline = run.hidden(rng)
    verdict = blame(write(path / "trace.json", events(timeline, rng, **how)), run.scenario)
    return [told(one) for one in verdict.findings] == [{run.ends(links)}]


def silent(number, scenarios, path):
    """Return whether nothing is named in a run of a sound network, whose chip is some percent off."""
    rng, run = drawn(number, scenarios)
    kinds = {True: exp(rng.gauss(0, 0.08)), False: exp(rng.gauss(0, 0.08))}
    factor = {o.name: kinds[hasattr(o, "axes")] for o in run.program.operations()}
    verdict = blame(write(path / "trace.json", events(run.sound, rng, factor=factor)), run.scenario)
    return not verdict.findings and not verdict.slow


@pytest.mark.parametrize("number", range(7))
def test_a_hidden_slow_link_is_named_and_nothing_else(number, tmp_path):
    assert right(number, SMALL, tmp_path)


@pytest.mark.parametrize("number", range(3))
def test_a_sound_network_has_nothing_named(number, tmp_path):
    assert silent(number, SMALL, tmp_path)


@pytest.mark.slow
def test_the_hidden_link_is_named_in_95_of_100_runs(tmp_path):
    scenarios = [*LARGE, *SMALL]
    assert sum(right(number, scenarios, tmp_path) for number in range(100)) >= 95


@pytest.mark.slow
def test_nothing_is_named_in_95_of_100_runs_of_sound_networks(tmp_path):
    scenarios = [*LARGE, *SMALL]
    assert sum(silent(number, scenarios, tmp_path) for number in range(100, 200)) >= 95
