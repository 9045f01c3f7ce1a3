"""The report to send: one HTML file with the answer, a timeline that can be zoomed, the network, tables, and the scenario.

Pure functions from runs to markup; nothing here prints or writes. `charts` is the door to Bokeh, whose script stands in the file.
"""

from torussim.page.document import labels, page
from torussim.page.run import Run, of

__all__ = ["Run", "labels", "of", "page"]
