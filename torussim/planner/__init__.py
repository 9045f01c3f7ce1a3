"""Which layout to take: the candidates of a scenario, priced, bounded, simulated where they can win, and a verdict."""

from torussim.planner.search import plan

__all__ = ["plan"]
