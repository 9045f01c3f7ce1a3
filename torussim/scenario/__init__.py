"""Scenario files as objects: all mistakes of a file together, each with its place, and the record of a run."""

from torussim.scenario.layout import describe_ffn
from torussim.scenario.planning import Limit, Planning
from torussim.scenario.read import (
           Checked,
           Scenario,
           Source,
           changed,
           check,
           check_no_trace,
           document_of,
           load,
           read_document,
           ready,
)
from torussim.scenario.shorter import shortened
from torussim.scenario.workload import Expected

__all__ = ["Checked", "Expected", "Limit", "Planning", "Scenario", "Source", "changed", "check", "check_no_trace", "describe_ffn",
           "document_of", "load", "read_document", "ready", "shortened"]
