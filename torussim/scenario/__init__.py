"""Scenario files made into objects: all mistakes of a file at once, each with its place, and the record of what was run."""

from torussim.scenario.read import Checked, Scenario, check, load, read_document
from torussim.scenario.shorter import shortened
from torussim.scenario.workload import Expected

__all__ = ["Checked", "Expected", "Scenario", "check", "load", "read_document", "shortened"]
