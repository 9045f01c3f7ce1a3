"""Measured times of one's own run beside simulated ones, and which link, chip or operation is slower than it should be."""
