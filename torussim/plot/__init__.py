"""Timelines as matplotlib figures: what each chip computes, sends and waits for.

Draws from a Timeline alone, and shows nothing; only `save` writes. Everything is laid out in pixels of a picture 1200 wide,
where text can be measured before it is placed, so that no two texts meet; then it is drawn, with the time axis behind it.
An area is a length of time: what is lower than its lane takes that share of the time. matplotlib is imported when it is
needed, and never pyplot, which takes half a second.
"""

from torussim.plot.canvas import COMPUTE, EXPOSED, FIXED, KIND_COLOURS, encode, save
from torussim.plot.timeline import timeline_figure

__all__ = ["COMPUTE", "EXPOSED", "FIXED", "KIND_COLOURS", "encode", "save", "timeline_figure"]
