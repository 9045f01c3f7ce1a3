"""Which layout to take: candidates, their bounds, and the search."""
