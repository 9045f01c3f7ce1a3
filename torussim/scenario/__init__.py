"""Scenario files made into objects: all mistakes of a file at once, each with its place, and the record of what was run."""

from torussim.scenario.read import Checked, Scenario, check, document_of, load, read_document
from torussim.scenario.workload import Expected

__all__ = ["Checked", "Expected", "Scenario", "check", "document_of", "load", "read_document"]
