"""Chakra execution traces: their format, and what a program of ours is in it. A file has what one chip runs."""
