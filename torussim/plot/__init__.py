"""Timelines, networks and validations as matplotlib figures: work and waits of chips, use of links, errors of times.

The package draws from a Timeline, or from columns of links, and shows nothing; only `save` writes. The layout is in pixels of a
picture 1200 wide. Text is measured before it is placed, so that no two texts overlap; then the picture is drawn, with the time
axis behind it. In a timeline an area is a length of time: a bar lower than its lane takes that share of the time. matplotlib is
imported when it is needed, and never pyplot, which takes half a second.
"""

from torussim.plot.canvas import COMPUTE, EXPOSED, FIXED, KIND_COLOURS, defaults, encode, save
from torussim.plot.faults import faults_figure
from torussim.plot.front import front_figure
from torussim.plot.links import links_figure
from torussim.plot.network import LinkPicture
from torussim.plot.timeline import timeline_figure
from torussim.plot.validation import validation_figure

__all__ = ["COMPUTE", "EXPOSED", "FIXED", "KIND_COLOURS", "LinkPicture", "defaults", "encode", "faults_figure", "front_figure",
           "links_figure", "save", "timeline_figure", "validation_figure"]
