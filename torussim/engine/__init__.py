"""The engine: `simulate` a program on a network; the only place that imports simpy."""

from torussim.engine.simulate import simulate

__all__ = ["simulate"]
