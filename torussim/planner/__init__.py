"""The search for a layout: the candidates of a scenario with prices and lower bounds, simulations where needed, and a verdict."""

from torussim.planner.search import plan

__all__ = ["plan"]
